// SPDX-License-Identifier: GPL-2.0-only
/*
 * Blocks: folios for one, two or four leaves, for streams of writes
 *
 * When the core unmaps PTEs of one folio it takes them together, and unmapping is most of
 * what it takes to clone much that was written (COWMEM_HAVE_BLOCKS).  That is all that a
 * block is good for: no PMD maps it, and nobody notices it otherwise.  So streams get blocks,
 * whatever was said about huge pages: a writer does who writes the first page of a leaf after
 * as many pages as the block has were granted just before it.
 *
 * Pages of a block get into slots one by one, as they are written; the others are its rest
 * (rest.c).  What a stream leaves unused when it ends goes with the block, and is less than
 * what it wrote.
 */
#include <linux/highmem.h>
#include <linux/mm.h>

#include "area.h"
#include "block.h"
#include "hold.h"
#include "leaf.h"
#include "page.h"
#include "region.h"
#include "rest.h"

/*
 * The order of the block for a writer of @index: as much was written just before it.  0 if it
 * is too little for a block.
 *
 * RESTORE keeps no pages of blocks, so a region that it was asked to keep pages of gets none.
 * Nor does what makes a region grow: calls write that, of which nothing needs to be unmapped,
 * and it may end anywhere.
 */
static unsigned int block_order(const struct cowmem_region *region, pgoff_t index)
{
	pgoff_t end = cowmem_region_end(region), before = 0;
	unsigned int order = 0, next;

	if (cowmem_slot(index) || READ_ONCE(region->keeps))
		return 0;
	for (next = COWMEM_BLOCK_MIN; next <= COWMEM_BLOCK_MAX; next++) {
		pgoff_t pages = 1UL << next;

		if (index % pages || index < pages || index + pages > end)
			break;
		while (before < pages && cowmem_leaf_written(region, index - before - 1))
			before += COWMEM_NODE_SLOTS;
		if (before < pages)
			break;
		order = next;
	}
	return order;
}

/* Allocate a block for what is written from @index on.  Returns whether there is one. */
static bool new_block(struct cowmem_region *region, pgoff_t index)
{
	struct cowmem_leaf_lock *lock = cowmem_leaf_lock(region, index);
	unsigned int order = block_order(region, index);
	struct folio *folio;

	if (!order)
		return false;
	folio = cowmem_block_alloc(cowmem_region_account(region), order);
	if (!folio)
		return false;
	/* The stream before this one has ended, or there are two of them. */
	cowmem_rest_drop(lock);
	cowmem_rest_start(lock, folio, index);
	WRITE_ONCE(region->has_rest, true);
	return true;
}

/**
 * cowmem_block_page - take a page of a block
 * @region: the region
 * @index: the index that the page is for
 * @zero: whether to clear it
 *
 * There is one while pages are written in order, if memory is at hand.
 *
 * Context: may sleep; as for cowmem_leaf_lock.rest_of; COWMEM_HAVE_BLOCKS, and no mapping with
 * a memory policy needs the page.
 * Return: the page, with a holder; or NULL.  The caller hands it to cowmem_block_page_set(),
 * or to cowmem_block_page_back(), or drops it.
 */
struct page *cowmem_block_page(struct cowmem_region *region, pgoff_t index, bool zero)
{
	struct cowmem_leaf_lock *lock = cowmem_leaf_lock(region, index);
	struct page *page = cowmem_rest_take(lock, index);

	if (!page && new_block(region, index))
		page = cowmem_rest_take(lock, index);
	/* Many kernels clear all memory that they allocate. */
	if (page && zero && !want_init_on_alloc(0))
		clear_highpage(page);
	return page;
}

/**
 * cowmem_block_page_back - give back a page of a block that is not needed now
 * @region: the region
 * @index: the index that the page was for
 * @page: the page from cowmem_block_page(), which nobody has written
 *
 * Context: any; as for cowmem_leaf_lock.rest_of.
 */
void cowmem_block_page_back(struct cowmem_region *region, pgoff_t index, struct page *page)
{
	if (!cowmem_rest_back(cowmem_leaf_lock(region, index), index, page))
		cowmem_page_drop(page, false);
}

/* Are all slots of the leaves granted, and none of the leaves folded? */
static bool all_granted(struct cowmem_node *const *leaves, unsigned int nr)
{
	unsigned int i;

	for (i = 0; i < nr; i++)
		if (~leaves[i]->granted || leaves[i]->fold)
			return false;
	return true;
}

/**
 * cowmem_block_page_set - note that a page of a block was put into its slot
 * @region: the region
 * @leaf: the leaf
 * @index: the index
 * @page: the page from cowmem_block_page(), which is granted
 *
 * Context: any; under region->lock and the leaf lock.
 */
void cowmem_block_page_set(struct cowmem_region *region, struct cowmem_node *leaf,
			   pgoff_t index, struct page *page)
{
	struct cowmem_leaf_lock *lock = cowmem_leaf_lock(region, index);
	struct cowmem_node *leaves[COWMEM_AREA_LEAVES];
	struct folio *folio = page_folio(page);
	bool shared;

	leaf->large |= BIT(folio_order(folio) - COWMEM_BLOCK_MIN);
	if (cowmem_rest_left(lock, folio, index))
		return;
	/* That was the last page for this leaf.  Does the block fill it? */
	if (~cowmem_home_slots(leaf, folio_page_idx(folio, page) / COWMEM_NODE_SLOTS, folio))
		return;
	leaf->whole = folio;
	cowmem_home_leaves(region, index, folio, leaves, &shared);
	if (cowmem_is_whole(leaves, folio) && all_granted(leaves, cowmem_folio_leaves(folio)))
		cowmem_leaves_fold(&region->tree, leaves, cowmem_folio_leaves(folio));
}
