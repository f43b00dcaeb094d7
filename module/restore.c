// SPDX-License-Identifier: GPL-2.0-only
/*
 * Making a region equal to another one, in place
 *
 * The plain way swaps the tree for the other region's and unmaps what differs:
 * the next write to each page splits it again.  The other way keeps the pages
 * that were written, with their PTEs, and copies the content back into them.  It
 * never shares a page that was not shared, so what a concurrent writer does to it
 * concerns this region alone.
 *
 * A page that is kept is copied back in every round, or given back.  Nothing proves that
 * a page was not written: a device or the kernel may write through a reference that it
 * took, and set no dirty bit.  Dirty bits only choose between the two.  What a copy
 * costs is a tenth of what it takes to write a page that was given back, so a page may
 * be kept for a few rounds in vain, but not for many; and where that happens to many, who
 * writes somewhere else each time would pay for both.
 */
#include <linux/bitmap.h>
#include <linux/file.h>
#include <linux/highmem.h>
#include <linux/pagemap.h>
#include <linux/sched/signal.h>

#include "call.h"
#include "copy.h"
#include "cut.h"
#include "file.h"
#include "hold.h"
#include "join.h"
#include "leaf.h"
#include "map.h"
#include "page.h"
#include "region.h"
#include "rest.h"
#include "restore.h"
#include "trace.h"
#include "tree-range.h"
#include "tree-walk.h"
#include "tree.h"

/* Which pages of @leaf were written through a PTE since the last time? */
static u64 take_dirty_bits(struct cowmem_region *region,
			   const struct cowmem_node *leaf)
{
	DECLARE_BITMAP(dirty, COWMEM_NODE_SLOTS) = { 0 };
	pgoff_t start = COWMEM_NODE_SLOTS, end = 0;
	u64 slots = 0;

	clean_record_shared_mapping_range(region->inode.i_mapping, leaf->base,
					  COWMEM_NODE_SLOTS, leaf->base, dirty,
					  &start, &end);
	bitmap_to_arr64(&slots, dirty, COWMEM_NODE_SLOTS);
	return slots;
}

/*
 * Which of @slots were granted, or written without a PTE, by write() or by I/O,
 * since the last time?
 */
static u64 take_dirty_flags(const struct cowmem_node *leaf, u64 slots)
{
	u64 dirty = 0;

	for (; slots; slots &= slots - 1) {
		unsigned int i = __ffs64(slots);
		struct page *page = leaf->slots[i];

		if (folio_test_clear_dirty(page_folio(page)))
			dirty |= BIT_ULL(i);
	}
	return dirty;
}

/* May I/O that is under way write to @page? */
static bool pinned(struct page *page)
{
	int refs = page_ref_count(page);

	/* A zap lowers the mapcount first: the other way round it could hide a pin. */
	smp_rmb();
	return refs != 1 + cowmem_page_mapcount(page);
}

/*
 * Where many pages were kept in vain, one is kept only if it was written before since the
 * last look for cold ones.  What was written is noted in a page, a bit for each index;
 * leaves that are SEEN_LEAVES apart (128 MiB with pages of 4 KiB) share theirs, which at
 * worst keeps a page too many.  Once begun this goes on for the life of the region.
 */
#define SEEN_LEAVES	(PAGE_SIZE / sizeof(u64))

/* The note of @leaf's slots, or NULL if there is none. */
static u64 *seen_of(const struct cowmem_region *region, const struct cowmem_node *leaf)
{
	if (!region->seen)
		return NULL;
	return &region->seen[(leaf->base >> COWMEM_NODE_SHIFT) % SEEN_LEAVES];
}

/* Forget all, but for what is kept: that goes on to be. */
static void forget_seen(struct cowmem_region *region)
{
	const struct cowmem_node *leaf;
	u64 *seen;

	if (!region->seen)
		return;
	clear_page(region->seen);
	list_for_each_entry(leaf, &region->tree.granted, granted_link) {
		seen = seen_of(region, leaf);
		*seen |= leaf->granted;
	}
}

/* Let go of a granted page, which is not mapped: the slot becomes what the snapshot has. */
static void give_back_page(struct cowmem_region *region, struct cowmem_node *leaf,
			   pgoff_t index, struct page *original)
{
	struct page *page = leaf->slots[cowmem_slot(index)];

	if (original) {
		cowmem_page_hold(original);
		cowmem_leaf_set(leaf, index, original);
		leaf->large |= cowmem_page_kind(original);
		cowmem_leaf_ungrant(leaf, BIT_ULL(cowmem_slot(index)));
		cowmem_page_drop(page, true);
	} else {
		/* Frees the leaf if it was the last page. */
		cowmem_tree_punch(&region->tree, index, index);
	}
}

/* Likewise of all of @slots, which are mapped, perhaps. */
static void give_back(struct cowmem_region *region, struct cowmem_node *leaf,
		      u64 slots, const struct cowmem_node *theirs)
{
	pgoff_t base = leaf->base;
	u64 left;

	for (left = slots; left;) {
		u64 run = left & ~(left + BIT_ULL(__ffs64(left)));

		cowmem_unmap(region, base + __ffs64(run), base + fls64(run), false);
		left &= ~run;
	}
	for (; slots; slots &= slots - 1) {
		unsigned int i = __ffs64(slots);

		give_back_page(region, leaf, base + i, theirs ? theirs->slots[i] : NULL);
	}
}

/* Which granted pages of @leaf are to be given back, as they were not written before? */
static u64 written_once(struct cowmem_region *region, const struct cowmem_node *leaf)
{
	u64 *seen = seen_of(region, leaf), first;

	if (!seen)
		return 0;
	first = leaf->granted & ~*seen;
	*seen |= leaf->granted;
	return first;
}

/*
 * Make the granted pages of @leaf equal to those of @from, where they are.  Returns
 * how many are cold, if that is what is looked for.
 */
static unsigned int keep_leaf(struct cowmem_region *region, const struct cowmem_tree *from,
			      struct cowmem_node *leaf, bool look_for_cold,
			      struct cowmem_restore *args)
{
	const struct cowmem_node *theirs;
	u64 once = written_once(region, leaf), slots, cold = 0, go = 0;
	u64 kept = leaf->granted & ~once;

	if (look_for_cold && kept) {
		/* Flags first: KVM may set them anew once it lost its PTEs. */
		u64 dirty = take_dirty_flags(leaf, kept);

		cold = kept & ~(dirty | take_dirty_bits(region, leaf));
	}
	args->pages += hweight64(leaf->granted & ~cold);
	theirs = cowmem_tree_leaf(from, leaf->base, NULL);
	for (slots = kept & ~cold; slots; slots &= slots - 1) {
		unsigned int i = __ffs64(slots);
		struct page *page = leaf->slots[i];

		/* What I/O writes there is not to be seen any more. */
		if (pinned(page) || PageHWPoison(page)) {
			go |= BIT_ULL(i);
			continue;
		}
		/* What cannot be copied is lost, and shared as it is. */
		if (!theirs || !theirs->slots[i])
			clear_highpage(page);
		else if (cowmem_page_copy(page, theirs->slots[i]))
			go |= BIT_ULL(i);
	}
	go |= cold | once;
	args->kept += hweight64(leaf->granted & ~go);
	if (go)
		give_back(region, leaf, go, theirs);
	return hweight64(cold);
}

/*
 * A page that was written in none of so many rounds is given back.  To look for such
 * pages costs as much as to copy a few in each leaf, so where there are none that is
 * done less often.
 */
#define KEEP_ROUNDS	4
#define KEEP_ROUNDS_MAX	16

/* Is this a round to look for cold pages?  Under the lock, for writing. */
static bool time_to_look(struct cowmem_region *region)
{
	if (++region->rounds < max_t(unsigned int, region->look_after, KEEP_ROUNDS))
		return false;
	region->rounds = 0;
	return true;
}

/* So many pages were cold, and kept: that tells when to look again, and what to keep. */
static void looked(struct cowmem_region *region, unsigned long cold, unsigned long kept)
{
	/* Nobody is to be killed for a hint: without memory all is kept, until the next look. */
	if (!region->seen && cold > kept / 8)
		region->seen = (u64 *)get_zeroed_page(GFP_KERNEL_ACCOUNT | __GFP_NORETRY |
						      __GFP_NOMEMALLOC | __GFP_NOWARN);
	forget_seen(region);
	if (cold)
		region->look_after = KEEP_ROUNDS;
	else
		region->look_after = min_t(unsigned int, KEEP_ROUNDS_MAX,
					   2 * max_t(unsigned int, region->look_after,
						     KEEP_ROUNDS));
}

/* Is a granted page of @leaf one of a large folio? */
static bool holds_large(const struct cowmem_node *leaf)
{
	u64 slots = leaf->large ? leaf->granted : 0;

	for (; slots; slots &= slots - 1)
		if (cowmem_page_large(leaf->slots[__ffs64(slots)]))
			return true;
	return false;
}

/* How many granted pages a region has, or more than may be kept. */
static unsigned long count_granted(const struct cowmem_region *region,
				   unsigned long *leaves)
{
	const struct cowmem_node *leaf;
	unsigned long pages = 0;

	list_for_each_entry(leaf, &region->tree.granted, granted_link) {
		/* One that was not written cannot be told from others of its folio. */
		if (holds_large(leaf))
			return ULONG_MAX;
		pages += hweight64(leaf->granted);
		++*leaves;
		if (pages > COWMEM_KEEP_MAX >> PAGE_SHIFT)
			break;
	}
	return pages;
}

/* How many nodes may differ: a few for each page that may be kept. */
#define KEEP_NODES	(4 * (COWMEM_KEEP_MAX >> PAGE_SHIFT))

/*
 * How many nodes to have for each leaf with granted pages.  To look at one in each round
 * takes a tenth of what it takes to copy it for the next write below it.
 */
#define KEEP_NODES_EACH	8

/*
 * Can @region be restored by copying content back into the pages that were written?
 * Tells as well whether to look for cold ones this time.
 */
static bool may_keep(struct cowmem_region *region, const struct cowmem_share *from,
		     struct cowmem_restore *args, bool *look_for_cold)
{
	unsigned long budget = KEEP_NODES, leaves = 0;

	if (!COWMEM_HAVE_DIRTY_BITS || region->odd_mappings || !from->frozen ||
	    list_empty(&region->tree.granted))
		return false;
	if (count_granted(region, &leaves) > COWMEM_KEEP_MAX >> PAGE_SHIFT)
		return false;
	if (!cowmem_tree_only_granted(&region->tree, from->tree, &budget))
		return false;
	args->nodes = KEEP_NODES - budget;

	*look_for_cold = time_to_look(region);
	/* Time to share again the nodes of pages that were given back. */
	if (*look_for_cold &&
	    args->nodes > KEEP_NODES_EACH * (region->tree.root->level + leaves)) {
		forget_seen(region);
		return false;
	}
	return true;
}

/* Restore @region like that, whose size is right by now. */
static void keep(struct cowmem_region *region, const struct cowmem_share *from,
		 struct cowmem_restore *args, bool look_for_cold)
{
	struct cowmem_node *leaf, *next;
	unsigned long cold = 0;

	list_for_each_entry_safe(leaf, next, &region->tree.granted,
				 granted_link) {
		cold += keep_leaf(region, from->tree, leaf, look_for_cold, args);
		cond_resched();
	}
	if (look_for_cold)
		looked(region, cold, args->kept);
	trace_cowmem_restore(region, from->region, args->pages, args->nodes);
}

/* Is that allowed?  Under i_rwsem. */
static int may_restore(const struct cowmem_region *region,
		       const struct cowmem_share *from,
		       const struct cowmem_restore *args)
{
	if (region->seals & COWMEM_WRITE_SEALS)
		return -EPERM;
	if (cowmem_region_size(region) != from->size &&
	    !(args->flags & COWMEM_RESTORE_SIZE))
		return -EINVAL;
	return 0;
}

/* Make @region equal to what was shared of the other one.  Under its lock, for writing. */
static int restore_locked(struct cowmem_region *region, struct cowmem_share *from,
			  struct cowmem_restore *args)
{
	bool may, look_for_cold;
	u64 pages = 0, nodes = 0;
	int err;

	/* A device's region may grow by mmap() meanwhile. */
	err = may_restore(region, from, args);
	if (err)
		return err;
	may = (args->flags & COWMEM_RESTORE_KEEP) &&
	      may_keep(region, from, args, &look_for_cold);
	if (!may)
		err = cowmem_unmap_difference(region, from->tree, 0, ULONG_MAX,
					      &pages, &nodes);
	/* With the size changed nothing may fail any more, nor be killed. */
	if (!err && cowmem_region_size(region) != from->size)
		err = cowmem_region_resize(region, from->size);
	if (err)
		return err;
	cowmem_region_changed(region);
	if (may) {
		keep(region, from, args, look_for_cold);
		return 0;
	}
	args->pages = pages;
	args->nodes = nodes;
	cowmem_rests_drop(region);
	cowmem_tree_swap(&region->tree, from->tree);
	trace_cowmem_restore(region, from->region, args->pages, args->nodes);
	return 0;
}

/* To itself: nothing changes, but what is asked for has to be right. */
static int restore_self(const struct cowmem_region *region,
			const struct cowmem_restore *args)
{
	if (args->offset + args->length > cowmem_region_size(region))
		return -EINVAL;
	/* SEAL takes the inode's lock, too. */
	return region->seals & COWMEM_WRITE_SEALS ?
	       -EPERM : 0;
}

static int restore_whole(struct cowmem_region *region, struct cowmem_region *from,
			 struct cowmem_restore *args)
{
	struct cowmem_tree fresh;
	struct cowmem_share s = { .region = from, .end = ULONG_MAX, .tree = &fresh };
	int err;

	cowmem_tree_init(&fresh, cowmem_region_account(region));
	err = cowmem_share_now(&s);
	if (err)
		return err;
	/* Pages that came to count in a mount go on to do so. */
	err = may_restore(region, &s, args);
	if (!err)
		err = cowmem_join(region, from, &fresh);
	if (!err)
		err = down_write_killable(&region->lock);
	if (!err) {
		err = restore_locked(region, &s, args);
		up_write(&region->lock);
	}
	/* What the region held, or on failure what it was to get. */
	cowmem_tree_destroy(&fresh);
	return err;
}

static int restore_check(const struct cowmem_call *call)
{
	const struct cowmem_restore *args = &call->args.restore;
	u64 end;

	if (args->flags & ~(COWMEM_RESTORE_KEEP | COWMEM_RESTORE_SIZE))
		return -EOPNOTSUPP;
	if (!PAGE_ALIGNED(args->offset) || !PAGE_ALIGNED(args->length) ||
	    check_add_overflow(args->offset, args->length, &end) ||
	    (args->offset && !args->length) ||
	    (args->length && (args->flags & COWMEM_RESTORE_SIZE)))
		return -EINVAL;
	return call->file->f_mode & FMODE_WRITE ? 0 : -EBADF;
}

/**
 * cowmem_restore - COWMEM_IOC_RESTORE
 * @call: the ioctl
 *
 * Context: may sleep.
 * Return: 0 or a negative errno, see struct cowmem_restore.
 */
int cowmem_restore(struct cowmem_call *call)
{
	struct cowmem_restore *args = &call->args.restore;
	struct cowmem_region *region = call->region, *from;
	struct file *file;
	int err;

	err = restore_check(call);
	if (err)
		return err;
	args->pages = 0;
	args->nodes = 0;
	args->kept = 0;
	if (args->flags & COWMEM_RESTORE_KEEP)
		WRITE_ONCE(region->keeps, true);
	file = cowmem_region_fget(args->fd, FMODE_READ);
	if (IS_ERR(file))
		return PTR_ERR(file);
	from = cowmem_file_region(file);

	/* write() past the end is not to be cut in half. */
	err = down_write_killable(&region->inode.i_rwsem);
	if (err)
		goto put_file;
	err = cowmem_remove_privs(call->file);
	if (err)
		goto unlock;
	if (region == from)
		err = restore_self(region, args);
	else if (args->length)
		err = cowmem_copy_range(region, args->offset, from, args->offset,
					args->length, args);
	else
		err = restore_whole(region, from, args);
unlock:
	inode_unlock(&region->inode);
put_file:
	fput(file);
	return err;
}
