// SPDX-License-Identifier: GPL-2.0-only
/*
 * The rest of a block: pages of it that are not born yet
 *
 * The pages of a block (block.c) get into slots one by one, as they are written.  Until then
 * the leaf lock holds them, and counts as a holder for each.  While a block has a rest,
 *
 *  - all of its pages that are in slots are granted and have names.  Whoever takes the grant
 *    of one of them away takes all of them away, and drops the rest.
 *  - the block is at home (area.c) as its slots are: before anybody else gets to hold one of
 *    its pages, and before the region gets another tree, the rest is dropped.
 */
#include <linux/mm.h>

#include "hold.h"
#include "region.h"
#include "rest.h"

/*
 * The bits of @lock->rest for the leaf of @index; NULL if there certainly are none.  No bit
 * is set where there is no block, or where it does not reach that far.
 */
static u64 *rest_word(struct cowmem_leaf_lock *lock, pgoff_t index)
{
	unsigned long i = (index - lock->rest_base) / COWMEM_NODE_SLOTS;

	return i < COWMEM_BLOCK_LEAVES ? &lock->rest[i] : NULL;
}

/**
 * cowmem_rest_start - a block is going to be written
 * @lock: the leaf lock, which has no rest
 * @folio: the block; the leaf lock takes over its holds
 * @base: index of its first page
 *
 * Context: any; as for cowmem_leaf_lock.rest_of.
 */
void cowmem_rest_start(struct cowmem_leaf_lock *lock, struct folio *folio, pgoff_t base)
{
	lock->rest_base = base;
	lock->nr_rest = folio_nr_pages(folio);
	memset(lock->rest, 0xff, lock->nr_rest / BITS_PER_BYTE);
	WRITE_ONCE(lock->rest_of, folio);
}

/**
 * cowmem_rest_take - take a page out of the rest
 * @lock: the leaf lock
 * @index: the index that the page is for
 *
 * Context: any; as for cowmem_leaf_lock.rest_of.
 * Return: the page, with a holder; NULL if the rest has none for @index.
 */
struct page *cowmem_rest_take(struct cowmem_leaf_lock *lock, pgoff_t index)
{
	u64 bit = BIT_ULL(cowmem_slot(index)), *word = rest_word(lock, index);
	struct page *page;

	if (!word || !(*word & bit))
		return NULL;
	*word &= ~bit;
	page = folio_page(lock->rest_of, index - lock->rest_base);
	if (!--lock->nr_rest)
		WRITE_ONCE(lock->rest_of, NULL);
	return page;
}

/**
 * cowmem_rest_back - put a page back into the rest
 * @lock: the leaf lock
 * @index: the index that the page was taken for
 * @page: the page
 *
 * Context: any; as for cowmem_leaf_lock.rest_of.
 * Return: whether the rest of that block is still there.
 */
bool cowmem_rest_back(struct cowmem_leaf_lock *lock, pgoff_t index, struct page *page)
{
	if (lock->rest_of != page_folio(page))
		return false;
	*rest_word(lock, index) |= BIT_ULL(cowmem_slot(index));
	lock->nr_rest++;
	return true;
}

/**
 * cowmem_rest_left - does the rest have more pages for a leaf?
 * @lock: the leaf lock
 * @folio: the block
 * @index: an index of the leaf, which the block covers
 *
 * Context: any; as for cowmem_leaf_lock.rest_of.
 * Return: whether there are any.
 */
bool cowmem_rest_left(struct cowmem_leaf_lock *lock, struct folio *folio, pgoff_t index)
{
	return lock->rest_of == folio && *rest_word(lock, index);
}

/**
 * cowmem_rest_drop - drop the rest of a block
 * @lock: the leaf lock, which may have one
 *
 * Context: any; as for cowmem_leaf_lock.rest_of.
 */
void cowmem_rest_drop(struct cowmem_leaf_lock *lock)
{
	struct folio *folio = lock->rest_of;

	if (!folio)
		return;
	WRITE_ONCE(lock->rest_of, NULL);
	memset(lock->rest, 0, sizeof(lock->rest));
	cowmem_folio_drop(folio, lock->nr_rest);
}

/**
 * cowmem_rests_drop - drop all rests of a region, before others get to hold what it holds
 * @region: the region
 *
 * Context: any; under region->lock for writing, or nobody else uses the region.
 */
void cowmem_rests_drop(struct cowmem_region *region)
{
	unsigned int i;

	if (!region->has_rest)
		return;
	for (i = 0; i < COWMEM_LEAF_LOCKS; i++)
		cowmem_rest_drop(&region->leaf_locks[i]);
	region->has_rest = false;
}
