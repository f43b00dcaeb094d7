// SPDX-License-Identifier: GPL-2.0-only
/*
 * Taking write access back
 *
 * Cutting a range unmaps its granted pages under region->lock for writing, so that all
 * writers wait in their faults.  Then the grants can be taken back.  share.c does so for a
 * clone, at one instant; most of the work is done here before, bit by bit.
 */
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/sched/signal.h>

#include "area.h"
#include "cut.h"
#include "leaf.h"
#include "lock.h"
#include "map.h"
#include "node.h"
#include "page.h"
#include "region.h"

/* Unmapping this many pages in vain is cheaper than another walk of the page tables. */
#define CUT_GAP		4

/* Take grants back in portions of about this many pages, and let others in between. */
#define CUT_PAGES	(8 * COWMEM_NODE_SLOTS)
/* Writers are granted more pages meanwhile.  Repeat at most so often, while fewer are left. */
#define CUT_ROUNDS	8

/*
 * Is the gap from @to to @start, which ends in @leaf, large enough to be left out when the
 * pages around it are unmapped?  Passing over what is not mapped is cheap.
 */
static bool leave_out(const struct cowmem_region *region,
		      const struct cowmem_node *leaf, pgoff_t to, pgoff_t start)
{
	unsigned int mapped = 0;

	/* The list was changed since it was sorted. */
	if (start < to)
		return true;
	if (to < leaf->base)
		return start > to + CUT_GAP;
	for (; to < start; to++) {
		struct page *page = leaf->slots[cowmem_slot(to)];

		mapped += page ? !!cowmem_page_mapcount(page) : region->holes_mapped;
	}
	return mapped > CUT_GAP;
}

/*
 * Stop all writers in [@first, @end), in the first @leaves leaves that have granted pages.
 * Then none of those pages is mapped, and writers wait for region->lock.  Returns 0, or
 * -EINTR if a fatal signal is pending; then the pages are still granted.
 */
static int cut_leaves(struct cowmem_region *region, pgoff_t first, pgoff_t end,
		      unsigned long leaves)
{
	pgoff_t from = 0, to = 0;
	struct cowmem_node *leaf;

	lockdep_assert_held_write(&region->lock);

	list_for_each_entry(leaf, &region->tree.granted, granted_link) {
		u64 slots = cowmem_leaf_granted(leaf, first, end) & leaf->named;

		if (!leaves--)
			break;
		while (slots) {
			unsigned int i = __ffs64(slots);
			u64 run = slots & ~(slots + BIT_ULL(i));
			pgoff_t start = leaf->base + i;

			if (leave_out(region, leaf, to, start) ||
			    start >= from + COWMEM_UNMAP_BATCH) {
				if (from < to)
					cowmem_unmap(region, from, to, false);
				from = start;
			}
			to = leaf->base + fls64(run);
			slots &= ~run;
		}
		if (leaf->fold)
			to = leaf->base + folio_nr_pages(leaf->whole);
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
	}
	if (from < to)
		cowmem_unmap(region, from, to, false);
	return 0;
}

/* Can any page be mapped writable? */
static bool any_named(const struct cowmem_region *region)
{
	const struct cowmem_node *leaf;

	list_for_each_entry(leaf, &region->tree.granted, granted_link)
		if (leaf->named)
			return true;
	return false;
}

/**
 * cowmem_widen_cut - extend a range to whole folios
 * @region: the region
 * @first: first index
 * @end: index after the last one, or ULONG_MAX
 *
 * All pages of a folio have to lose their grants before others get to hold any of them.
 *
 * Context: any; under region->lock.
 */
void cowmem_widen_cut(const struct cowmem_region *region, pgoff_t *first, pgoff_t *end)
{
	if (*first % COWMEM_AREA_PAGES)
		*first = round_down(*first, cowmem_large_pages(region, *first));
	if (*end != ULONG_MAX && *end % COWMEM_AREA_PAGES)
		*end = round_up(*end, cowmem_large_pages(region, *end));
}

/**
 * cowmem_cut - stop all writers
 * @region: the region
 * @first: first index
 * @end: index after the last one, or ULONG_MAX
 *
 * Context: may sleep; under region->lock for writing, or for reading if the region
 * is frozen.
 * Return: 0; -EINTR if a fatal signal is pending.  In either case the pages are still
 * granted.
 */
int cowmem_cut(struct cowmem_region *region, pgoff_t first, pgoff_t end)
{
	struct cowmem_node *leaf;

	if (!any_named(region))
		return 0;
	if (first || end != ULONG_MAX)
		list_for_each_entry(leaf, &region->tree.granted, granted_link)
			cowmem_leaves_unfold(leaf);
	/* In order, so that neighbouring leaves are unmapped at once. */
	cowmem_tree_sort_granted(&region->tree);
	cowmem_widen_cut(region, &first, &end);
	return cut_leaves(region, first, end, ULONG_MAX);
}

/**
 * cowmem_revoke - take back grants of pages
 * @leaf: their leaf
 * @slots: one bit for each of them; nothing maps them and nobody is using them
 *
 * Pages of a folio lose its name, so others that stay granted have none, either.
 *
 * Context: any; under region->lock for writing.
 * Return: how many.
 */
unsigned long cowmem_revoke(struct cowmem_node *leaf, u64 slots)
{
	u64 left;

	for (left = slots & leaf->named; left; left &= left - 1) {
		page_folio((struct page *)leaf->slots[__ffs64(left)])->mapping = NULL;
		/* The others belong to the same folio. */
		if (leaf->whole)
			break;
	}
	cowmem_leaf_ungrant(leaf, slots);
	return hweight64(slots);
}

/**
 * cowmem_revoke_folded - take back the grants of leaves that are granted together
 * @leaf: the first of them; nothing maps their folio and nobody is using it
 *
 * Context: any; under region->lock for writing.
 * Return: how many pages were granted.
 */
unsigned long cowmem_revoke_folded(struct cowmem_node *leaf)
{
	leaf->whole->mapping = NULL;
	cowmem_leaves_ungrant(leaf);
	return folio_nr_pages(leaf->whole);
}

/* As revoke_idle(), if a folio of its own fills @leaf or its fold.  Returns whether it does. */
static bool revoke_idle_folio(struct cowmem_region *region, struct cowmem_node *leaf)
{
	struct folio *folio = leaf->whole;

	if (!folio || (!leaf->fold && folio_nr_pages(folio) != COWMEM_NODE_SLOTS))
		return false;
	if (cowmem_page_busy(&folio->page, 0))
		list_move_tail(&leaf->granted_link, &region->tree.granted);
	else if (leaf->fold)
		region->nr_cut += cowmem_revoke_folded(leaf);
	else
		region->nr_cut += cowmem_revoke(leaf, leaf->granted);
	return true;
}

/*
 * Which granted slots of @leaf hold pages that are in use?  A large folio that is not in
 * use loses its grants here, in the other leaves of its area as well.
 */
static u64 busy_slots(struct cowmem_region *region, struct cowmem_node *leaf)
{
	u64 left = leaf->granted & leaf->named, busy = 0;
	struct folio *in_use = NULL;

	for (; left; left = left & (left - 1) & leaf->granted) {
		unsigned int i = __ffs64(left);
		struct page *page = leaf->slots[i];
		unsigned long nr = 0;

		if (!cowmem_page_large(page)) {
			if (cowmem_page_busy(page, 0))
				busy |= BIT_ULL(i);
			continue;
		}
		if (page_folio(page) != in_use)
			nr = cowmem_area_revoke(region, leaf->base + i);
		region->nr_cut += nr;
		if (!nr) {
			in_use = page_folio(page);
			busy |= BIT_ULL(i);
		}
	}
	return busy;
}

/*
 * Take back the grants of pages in the first @leaves leaves, which were cut, except for
 * pages that are in use.
 */
static void revoke_idle(struct cowmem_region *region, unsigned long leaves)
{
	struct list_head *granted = &region->tree.granted;

	for (; leaves && !list_empty(granted); leaves--) {
		struct cowmem_node *leaf;
		u64 busy;

		leaf = list_first_entry(granted, struct cowmem_node, granted_link);
		if (revoke_idle_folio(region, leaf))
			continue;
		busy = busy_slots(region, leaf);
		region->nr_cut += cowmem_revoke(leaf, leaf->granted & ~busy);
		if (leaf->granted)
			list_move_tail(&leaf->granted_link, granted);
	}
}

/*
 * How many leaves at the start of the list hold about CUT_PAGES?  An area that PMDs map
 * counts less than a leaf, as each PMD has one reference; if PTEs map it, it counts more.
 * All leaves of an area are taken together, or its folio would be unmapped more than once.
 */
static unsigned long few_leaves(const struct cowmem_region *region)
{
	unsigned long nr = 0, pages = 0;
	const struct cowmem_node *leaf;
	pgoff_t area = 0;

	list_for_each_entry(leaf, &region->tree.granted, granted_link) {
		if (pages >= CUT_PAGES && leaf->base / COWMEM_AREA_PAGES != area)
			break;
		area = leaf->base / COWMEM_AREA_PAGES;
		pages += leaf->fold ? 16 + folio_ref_count(leaf->whole) : COWMEM_NODE_SLOTS;
		nr++;
	}
	return nr;
}

/*
 * Take back the grants of the first @left leaves, except for the last portion.  Returns as
 * cut_ahead() does.
 */
static int cut_round(struct cowmem_region *region, unsigned long left)
{
	unsigned long nr;
	int err;

	cowmem_tree_sort_granted(&region->tree);
	for (; (nr = few_leaves(region)) && nr < left; left -= nr) {
		err = cut_leaves(region, 0, ULONG_MAX, nr);
		if (err) {
			up_write(&region->lock);
			return err;
		}
		revoke_idle(region, nr);
		if (!rwsem_is_contended(&region->lock))
			continue;
		up_write(&region->lock);
		err = down_write_killable(&region->lock);
		if (err)
			return err;
	}
	return 0;
}

/*
 * Take most grants back and let others in between, so that they wait for less when the rest
 * is taken back.  region->lock is held for writing.  Returns 0; -EINTR, and the lock is
 * released.
 */
static int cut_ahead(struct cowmem_region *region)
{
	unsigned long before = ULONG_MAX;
	struct cowmem_node *leaf;
	unsigned int round;
	int err = 0;

	for (round = 0; !err && round < CUT_ROUNDS; round++) {
		unsigned long left = 0;

		list_for_each_entry(leaf, &region->tree.granted, granted_link)
			left++;
		if (left * COWMEM_NODE_SLOTS <= CUT_PAGES || left >= before)
			break;
		before = left;
		WRITE_ONCE(region->cutting, true);
		err = cut_round(region, left);
	}
	WRITE_ONCE(region->cutting, false);
	return err;
}

/**
 * cowmem_lock_to_share - lock a region whose pages others are about to share
 * @region: the region
 * @whole: all of its pages are shared
 * @write: set to how it was locked, for cowmem_unlock()
 *
 * A snapshot is locked for reading only, so many can share its pages at once.
 *
 * All writers wait while a region is cloned, and what takes time then is to unmap the
 * granted pages.  So for a @whole region most of them are unmapped before, bit by bit, and
 * those who wait for the lock get it in between.  A writer is granted one page or area then,
 * and maps no more than one PTE or PMD of it, which is less than was taken back.
 *
 * Context: may sleep.
 * Return: 0; -EIO if it is a snapshot that has yielded; -EINTR.
 */
int cowmem_lock_to_share(struct cowmem_region *region, bool whole, bool *write)
{
	int err;

	*write = !(READ_ONCE(region->seals) & COWMEM_SEAL_WRITE);
	if (!*write) {
		err = cowmem_lock(region, false);
		if (err || cowmem_region_frozen(region))
			return err;
		/* It still has pages that were granted before it was sealed. */
		up_read(&region->lock);
		*write = true;
	}
	err = down_write_killable(&region->lock);
	return err || !whole ? err : cut_ahead(region);
}
