// SPDX-License-Identifier: GPL-2.0-only
/*
 * RESTORE that keeps pages
 *
 * The pages that were written stay where they are, with their PTEs, and the content is
 * copied back into them.  A page that was not shared never becomes shared this way, so a
 * concurrent writer affects nothing but its own region.
 *
 * In every round a kept page is either copied back or given back.  Nothing proves that it
 * was not written: a device or the kernel may write through a reference without setting a
 * dirty bit.  So dirty bits only serve to choose between the two.  Copying a page back costs
 * a tenth of writing to one that was given back.  It pays to keep a page for a few rounds in
 * vain, but not for many.  And if many pages are kept in vain, because writes go somewhere
 * else in each round, the writer would pay for both.
 */
#include <linux/bitmap.h>
#include <linux/highmem.h>
#include <linux/pagemap.h>

#include "hold.h"
#include "keep.h"
#include "leaf.h"
#include "map.h"
#include "node.h"
#include "page.h"
#include "region.h"
#include "share.h"
#include "trace.h"
#include "tree-range.h"
#include "tree-walk.h"
#include "tree.h"

/* Which pages of @leaf were written through a PTE since this was asked last? */
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
 * Which of @slots were granted, or written without a PTE, by write() or by I/O, since this
 * was asked last?
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

/* Could I/O in progress write to @page? */
static bool pinned(struct page *page)
{
	int refs = page_ref_count(page);

	/* A zap lowers the mapcount first.  In the other order it could hide a pin. */
	smp_rmb();
	return refs != 1 + cowmem_page_mapcount(page);
}

/*
 * Once many pages were kept in vain, a page is kept only if it was written more than once
 * since the last search for cold pages.  region->seen notes what was written: one page with a
 * bit for each index.  Leaves that are SEEN_LEAVES apart (128 MiB with pages of 4 KiB) share
 * their bits, so at worst a page too many is kept.  This stays in use until the region goes.
 */
#define SEEN_LEAVES	(PAGE_SIZE / sizeof(u64))

/* The notes on the slots of @leaf, or NULL if there are none. */
static u64 *seen_of(const struct cowmem_region *region, const struct cowmem_node *leaf)
{
	if (!region->seen)
		return NULL;
	return &region->seen[(leaf->base >> COWMEM_NODE_SHIFT) % SEEN_LEAVES];
}

/* Forget what was written, except for pages that are kept: they stay. */
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

/* Drop a granted page, which is not mapped.  The slot gets what the snapshot has. */
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
		/* Frees the leaf if this was its last page. */
		cowmem_tree_punch(&region->tree, index, index);
	}
}

/* Unmap all of @slots, and give their pages back. */
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

/* Which granted pages of @leaf were not written before, and are to be given back? */
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
 * Make the granted pages of @leaf equal to those of @from, where they are.  Returns how many
 * were cold, if @look_for_cold.
 */
static unsigned int keep_leaf(struct cowmem_region *region, const struct cowmem_tree *from,
			      struct cowmem_node *leaf, bool look_for_cold,
			      struct cowmem_restore *args)
{
	const struct cowmem_node *theirs;
	u64 once = written_once(region, leaf), slots, cold = 0, go = 0;
	u64 kept = leaf->granted & ~once;

	if (look_for_cold && kept) {
		/* Flags first: KVM may set them again when it loses its PTEs. */
		u64 dirty = take_dirty_flags(leaf, kept);

		cold = kept & ~(dirty | take_dirty_bits(region, leaf));
	}
	args->pages += hweight64(leaf->granted & ~cold);
	theirs = cowmem_tree_leaf(from, leaf->base, NULL);
	for (slots = kept & ~cold; slots; slots &= slots - 1) {
		unsigned int i = __ffs64(slots);
		struct page *page = leaf->slots[i];

		/* What I/O still writes there must not be seen. */
		if (pinned(page) || PageHWPoison(page)) {
			go |= BIT_ULL(i);
			continue;
		}
		/* If the original cannot be copied it is shared as it is. */
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
 * A page that was not written for this many rounds is cold and is given back.  Searching for
 * cold pages costs as much as copying a few pages of each leaf, so it is done less often as
 * long as none are found.
 */
#define KEEP_ROUNDS	4
#define KEEP_ROUNDS_MAX	16

/* Search for cold pages in this round?  Under region->lock for writing. */
static bool time_to_look(struct cowmem_region *region)
{
	if (++region->rounds < max_t(unsigned int, region->look_after, KEEP_ROUNDS))
		return false;
	region->rounds = 0;
	return true;
}

/* @cold of the pages were cold, @kept were not: decide when to search again, and what to keep. */
static void looked(struct cowmem_region *region, unsigned long cold, unsigned long kept)
{
	/*
	 * These notes are not worth killing anybody for.  Without memory everything is kept
	 * until the next search.
	 */
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

/* Does a granted page of @leaf belong to a large folio? */
static bool holds_large(const struct cowmem_node *leaf)
{
	u64 slots = leaf->large ? leaf->granted : 0;

	for (; slots; slots &= slots - 1)
		if (cowmem_page_large(leaf->slots[__ffs64(slots)]))
			return true;
	return false;
}

/* The number of granted pages of a region; more than COWMEM_KEEP_MAX if it may keep none. */
static unsigned long count_granted(const struct cowmem_region *region,
				   unsigned long *leaves)
{
	const struct cowmem_node *leaf;
	unsigned long pages = 0;

	list_for_each_entry(leaf, &region->tree.granted, granted_link) {
		/* In a folio a page that was written cannot be told from the others. */
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
 * How many nodes of its own a region may keep for each leaf with granted pages.  Comparing a
 * node in each round costs a tenth of copying it again for the next write below it.
 */
#define KEEP_NODES_EACH	8

/**
 * cowmem_may_keep - can a region be restored by copying content back?
 * @region: the region
 * @from: what it is to be equal to
 * @args: the ioctl's argument; @args->nodes is set
 * @look_for_cold: set to whether to search for cold pages in this round
 *
 * Context: may sleep; under region->lock for writing.
 * Return: whether cowmem_keep() may be called.
 */
bool cowmem_may_keep(struct cowmem_region *region, const struct cowmem_share *from,
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
	/* Time to share the nodes of pages that were given back again. */
	if (*look_for_cold &&
	    args->nodes > KEEP_NODES_EACH * (region->tree.root->level + leaves)) {
		forget_seen(region);
		return false;
	}
	return true;
}

/**
 * cowmem_keep - restore a region by copying content back into the pages that were written
 * @region: the region, which has the right size
 * @from: what it is to be equal to
 * @args: the ioctl's argument; @args->pages and @args->kept are set
 * @look_for_cold: what cowmem_may_keep() said
 *
 * Context: may sleep; cowmem_may_keep(), and region->lock has been held since.
 */
void cowmem_keep(struct cowmem_region *region, const struct cowmem_share *from,
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
