// SPDX-License-Identifier: GPL-2.0-only
/*
 * Making a region equal to another one, in place
 *
 * The plain way swaps the tree for the other region's and unmaps what differs:
 * the next write to each page splits it again.  The other way keeps the pages
 * that were written, with their PTEs, and copies the content back into those that
 * are dirty again: PTE dirty bits tell which.  It never shares a page that was
 * not shared, so what a concurrent writer does to it concerns this region alone.
 */
#include <linux/bitmap.h>
#include <linux/file.h>
#include <linux/highmem.h>
#include <linux/pagemap.h>
#include <linux/sched/signal.h>

#include "cowmem.h"
#include "trace.h"

/* Unmap whatever differs from @tree, and count it. */
static int unmap_difference(struct cowmem_region *region,
			    const struct cowmem_tree *tree,
			    struct cowmem_restore *args)
{
	pgoff_t base = 0, from = 0, to = 0;
	unsigned long nodes = 0;
	u64 slots;

	/* Granted pages are among them: nobody else has those. */
	while ((slots = cowmem_tree_diff(&region->tree, tree, &base, &nodes))) {
		args->pages += hweight64(slots);
		while (slots) {
			unsigned int i = __ffs64(slots);
			u64 run = slots & ~(slots + BIT_ULL(i));

			if (base + i != to || to - from >= COWMEM_UNMAP_BATCH) {
				if (from < to)
					cowmem_unmap(region, from, to, false);
				from = base + i;
			}
			to = base + fls64(run);
			slots &= ~run;
		}
		base += COWMEM_NODE_SLOTS;
	}
	/* Then it did not look to the end. */
	if (fatal_signal_pending(current))
		return -EINTR;
	if (from < to)
		cowmem_unmap(region, from, to, false);
	args->nodes = nodes;
	return 0;
}

/* Which pages of @leaf were written through a PTE since the last time? */
static u64 take_dirty_bits(struct cowmem_region *region,
			   const struct cowmem_node *leaf)
{
	DECLARE_BITMAP(dirty, COWMEM_NODE_SLOTS) = { 0 };
	pgoff_t start = COWMEM_NODE_SLOTS, end = 0;
	u64 slots = 0;

	clean_record_shared_mapping_range(region->inode->i_mapping, leaf->base,
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
	return page_ref_count(page) != 1 + cowmem_page_mapcount(page);
}

/* Let go of a kept page: the slot becomes what the snapshot has. */
static void give_back(struct cowmem_region *region, struct cowmem_node *leaf,
		      pgoff_t index, struct page *original)
{
	struct page *page = leaf->slots[cowmem_slot(index)];

	cowmem_unmap(region, index, index + 1, false);
	if (original) {
		cowmem_page_hold(original);
		cowmem_leaf_set(leaf, index, original);
		cowmem_leaf_ungrant(leaf, BIT_ULL(cowmem_slot(index)));
		cowmem_page_drop(page, true);
	} else {
		/* Frees the leaf if it was the last page. */
		cowmem_tree_punch(&region->tree, index, index);
	}
}

/* How many clean pages of a leaf are copied rather than found to be clean. */
#define COPY_ANYWAY	4

/* Make the granted pages of @leaf equal to those of @from, where they are. */
static void keep_leaf(struct cowmem_region *region, struct cowmem_region *from,
		      struct cowmem_node *leaf, bool all, bool look_for_cold,
		      struct cowmem_restore *args)
{
	u64 slots = leaf->granted, idle = slots & ~leaf->warm, dirty = 0, go = 0;
	const struct cowmem_node *theirs;
	pgoff_t base = leaf->base;

	/*
	 * Walking the PTEs of a leaf costs as much as copying a few pages.  Where
	 * all but a few pages are written in every round, just copy them.
	 */
	if (look_for_cold || hweight64(idle) > COPY_ANYWAY) {
		/* Flags first: KVM may set them anew once it lost its PTEs. */
		dirty = take_dirty_flags(leaf, slots);
		dirty |= take_dirty_bits(region, leaf);
	} else {
		all = true;
	}
	theirs = cowmem_tree_leaf(&from->tree, base, NULL);
	for (; slots; slots &= slots - 1) {
		unsigned int i = __ffs64(slots);
		struct page *page = leaf->slots[i];

		if (pinned(page) || PageHWPoison(page)) {
			/* What I/O writes there is not to be seen any more. */
			go |= BIT_ULL(i);
			continue;
		}
		if (folio_test_dirty(page_folio(page)))
			dirty |= BIT_ULL(i);
		if (!all && !(dirty & BIT_ULL(i)))
			continue;
		/* What cannot be copied is lost, and shared as it is. */
		if (!theirs || !theirs->slots[i])
			clear_highpage(page);
		else if (cowmem_page_copy(page, theirs->slots[i]))
			go |= BIT_ULL(i);
		args->pages++;
	}
	leaf->warm |= dirty;
	if (look_for_cold) {
		go |= leaf->granted & ~leaf->warm;
		/* Until they are found again, all pages count as idle. */
		leaf->warm = 0;
	}
	args->kept += hweight64(leaf->granted & ~go);
	for (; go; go &= go - 1) {
		unsigned int i = __ffs64(go);

		give_back(region, leaf, base + i, theirs ? theirs->slots[i] : NULL);
	}
}

/* How many rounds a kept page may go without a write. */
#define KEEP_ROUNDS	16

/*
 * Restore @region by copying content back into the pages that were written.
 * Returns false if that cannot be done, and nothing was.
 */
static bool keep(struct cowmem_region *region, struct cowmem_region *from,
		 struct cowmem_restore *args)
{
	unsigned long nodes = 0, pages = 0, leaves = 0;
	bool all = region->base != from->id;
	struct cowmem_node *leaf, *next;
	bool look_for_cold;

	if (!COWMEM_HAVE_DIRTY_BITS || region->odd_mappings ||
	    !cowmem_region_frozen(from) || list_empty(&region->tree.granted))
		return false;
	list_for_each_entry(leaf, &region->tree.granted, granted_link) {
		pages += hweight64(leaf->granted);
		leaves++;
	}
	if (pages > COWMEM_KEEP_MAX >> PAGE_SHIFT)
		return false;
	if (!cowmem_tree_only_granted(&region->tree, &from->tree, &nodes))
		return false;
	args->nodes = nodes;

	look_for_cold = ++region->rounds >= KEEP_ROUNDS;
	if (look_for_cold)
		region->rounds = 0;
	/* Time to share again the nodes of pages that were given back. */
	if (look_for_cold && nodes > (region->tree.root->level + 1) * leaves)
		return false;
	list_for_each_entry_safe(leaf, next, &region->tree.granted,
				 granted_link) {
		keep_leaf(region, from, leaf, all, look_for_cold, args);
		cond_resched();
	}
	region->base = from->id;
	trace_cowmem_restore(region, from, args->pages, args->nodes);
	return true;
}

static int restore_locked(struct cowmem_region *region,
			  struct cowmem_region *from,
			  struct cowmem_restore *args)
{
	struct cowmem_tree fresh;
	struct cowmem_share s = { .region = from, .end = ULONG_MAX, .tree = &fresh };
	int err;

	if (cowmem_region_size(region) != cowmem_region_size(from))
		return -EINVAL;
	if (region->seals & COWMEM_SEAL_WRITE)
		return -EPERM;
	if (region == from)
		return 0;
	if ((args->flags & COWMEM_RESTORE_KEEP) && keep(region, from, args))
		return 0;
	args->nodes = 0;

	cowmem_tree_init(&fresh);
	err = cowmem_share(&s);
	if (err)
		return err;
	/* A write() to @from that we waited for may have made it grow. */
	if (cowmem_region_size(region) != cowmem_region_size(from))
		err = -EINVAL;
	if (!err)
		err = unmap_difference(region, &fresh, args);
	if (!err)
		cowmem_tree_swap(&region->tree, &fresh);
	/* What the region held, or on failure what it was to get. */
	cowmem_tree_destroy(&fresh);
	if (!err)
		trace_cowmem_restore(region, from, args->pages, args->nodes);
	return err;
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
	struct cowmem_region *from;
	struct file *file;
	bool write_from;
	int err;

	if (args->flags & ~COWMEM_RESTORE_KEEP)
		return -EOPNOTSUPP;
	if (!(call->file->f_mode & FMODE_WRITE))
		return -EBADF;
	args->pages = 0;
	args->nodes = 0;
	args->kept = 0;
	file = cowmem_region_fget(args->fd, FMODE_READ);
	if (IS_ERR(file))
		return PTR_ERR(file);
	from = cowmem_file_region(file);

	/* write() past the end is not to be cut in half. */
	err = down_write_killable(&call->region->inode->i_rwsem);
	if (err)
		goto put_file;
	err = cowmem_lock_source(call->region, from, &write_from);
	if (!err) {
		err = restore_locked(call->region, from, args);
		cowmem_unlock_two(call->region, true, from, write_from);
	}
	inode_unlock(call->region->inode);
put_file:
	fput(file);
	return err;
}
