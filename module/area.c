// SPDX-License-Identifier: GPL-2.0-only
/*
 * Folios of more than one page, and the area that each is at home in
 *
 * A folio may back an area, which a PMD may map (pmd.c), or one, two or four leaves (block.c).
 * Here "its area" means either.
 *
 * The tree has entries for pages only.  Pages of a folio are in the slots of all leaves of
 * its area, and each is what any page is: its slot may be given another page, and it may
 * come to hang elsewhere.  But the pages of a folio have one reference count, one ->mapping
 * and one count of holders, which counts slots.  So
 *
 *  - they are granted only while the folio is at home: all slots that hold any of them are
 *    in the area that it was made for, of one region.  They are granted together, except that
 *    pages of a block are granted as they are written; and they lose their grants together
 *    before anybody else gets to hold one of them.
 *  - a reference to the folio makes all of its pages busy.
 *  - its memory is charged, and freed, as a whole.
 */
#include <linux/mm.h>

#include "area.h"
#include "leaf.h"
#include "map.h"
#include "page.h"
#include "region.h"
#include "rest.h"
#include "tree.h"

/**
 * cowmem_some_leaves - find neighbouring leaves
 * @region: the region
 * @first: first index
 * @max: how many leaves
 * @leaves: set to the leaves; NULL where there is none
 * @shared: set to whether another tree shares any of them
 *
 * Context: any; under region->lock.
 * Return: how many leaves there are.
 */
unsigned int cowmem_some_leaves(const struct cowmem_region *region, pgoff_t first,
				unsigned int max, struct cowmem_node **leaves, bool *shared)
{
	unsigned int i, nr = 0;

	*shared = false;
	for (i = 0; i < max; i++) {
		bool one = false;

		leaves[i] = cowmem_tree_leaf(&region->tree, first + i * COWMEM_NODE_SLOTS,
					     &one);
		nr += !!leaves[i];
		*shared |= one;
	}
	return nr;
}

/**
 * cowmem_home_leaves - find the leaves of the area of a folio
 * @region: the region
 * @index: index of a page of the folio
 * @folio: the folio
 * @leaves: set to the leaves; NULL where there is none
 * @shared: set to whether another tree shares any of them
 *
 * Context: any; under region->lock.
 */
void cowmem_home_leaves(const struct cowmem_region *region, pgoff_t index, struct folio *folio,
			struct cowmem_node **leaves, bool *shared)
{
	cowmem_some_leaves(region, cowmem_folio_first(folio, index), cowmem_folio_leaves(folio),
			   leaves, shared);
}

/* Is @page the page of its folio that is at home at @index? */
static bool at_home(struct page *page, pgoff_t index)
{
	struct folio *folio = page_folio(page);

	return folio_page_idx(folio, page) == index % folio_nr_pages(folio);
}

/**
 * cowmem_home_slots - find the slots of a leaf that hold the pages of a folio at home there
 * @leaf: the leaf, or NULL
 * @nr: its number in the area of the folio
 * @folio: the folio
 *
 * Context: any; the caller excludes others from the slots of @leaf.
 * Return: one bit for each slot.
 */
u64 cowmem_home_slots(const struct cowmem_node *leaf, unsigned int nr, struct folio *folio)
{
	struct page *page = folio_page(folio, nr * COWMEM_NODE_SLOTS);
	u64 slots = 0;
	unsigned int i;

	if (!leaf || !leaf->large)
		return 0;
	if (leaf->whole == folio && leaf->slots[0] == page)
		return ~0ULL;
	for (i = 0; i < COWMEM_NODE_SLOTS; i++)
		if (leaf->slots[i] == page + i)
			slots |= BIT_ULL(i);
	return slots;
}

/* How many pages of @folio do @leaves, those of its area, hold at home? */
static long nr_home(struct cowmem_node *const *leaves, struct folio *folio)
{
	unsigned int i;
	long nr = 0;

	for (i = 0; i < cowmem_folio_leaves(folio); i++)
		nr += hweight64(cowmem_home_slots(leaves[i], i, folio));
	return nr;
}

/**
 * cowmem_is_whole - does a folio fill its area, in order?
 * @leaves: the leaves of its area
 * @folio: the folio
 *
 * Context: any; the caller excludes others from the slots of the leaves.
 * Return: whether it does.
 */
bool cowmem_is_whole(struct cowmem_node *const *leaves, struct folio *folio)
{
	unsigned int i;

	for (i = 0; i < cowmem_folio_leaves(folio); i++)
		if (!leaves[i] || leaves[i]->whole != folio ||
		    leaves[i]->slots[0] != folio_page(folio, i * COWMEM_NODE_SLOTS))
			return false;
	return true;
}

/**
 * cowmem_leaf_written - were all pages of a leaf written since the last clone?
 * @region: the region
 * @index: an index of the leaf
 *
 * Context: any; under region->lock.
 * Return: whether all of them are granted.
 */
bool cowmem_leaf_written(const struct cowmem_region *region, pgoff_t index)
{
	const struct cowmem_node *leaf = cowmem_tree_leaf(&region->tree, index, NULL);

	return leaf && !~READ_ONCE(leaf->granted);
}

/**
 * cowmem_area_written - were all pages of an area written since the last clone?
 * @region: the region
 * @first: first index of the area
 *
 * Context: any; under region->lock.
 * Return: whether all of them are granted.
 */
bool cowmem_area_written(const struct cowmem_region *region, pgoff_t first)
{
	unsigned int i;

	for (i = 0; i < COWMEM_AREA_LEAVES; i++)
		if (!cowmem_leaf_written(region, first + i * COWMEM_NODE_SLOTS))
			return false;
	return true;
}

static bool any_granted(struct cowmem_node *const *leaves, unsigned int nr)
{
	unsigned int i;

	for (i = 0; i < nr; i++)
		if (leaves[i]->granted)
			return true;
	return false;
}

/**
 * cowmem_area_grant - let a region write the pages of a folio
 * @region: the region
 * @leaves: the leaves of the area of the folio, which only this region reaches
 * @first: first index of the area
 * @folio: the folio, which nobody else holds
 *
 * All of its pages in the area get a name, even if only calls write them.
 *
 * Context: any; under region->lock and the leaf lock.
 */
void cowmem_area_grant(struct cowmem_region *region, struct cowmem_node **leaves,
		       pgoff_t first, struct folio *folio)
{
	unsigned int i;

	folio_set_dirty(folio);
	folio->mapping = region->inode.i_mapping;
	folio->index = first;
	if (cowmem_is_whole(leaves, folio) && !any_granted(leaves, cowmem_folio_leaves(folio))) {
		cowmem_leaves_grant(&region->tree, leaves, cowmem_folio_leaves(folio), first);
		return;
	}
	for (i = 0; i < cowmem_folio_leaves(folio); i++) {
		u64 slots = cowmem_home_slots(leaves[i], i, folio);

		if (!slots)
			continue;
		cowmem_leaf_grant_slots(&region->tree, leaves[i],
					first + i * COWMEM_NODE_SLOTS, slots);
		leaves[i]->named |= slots;
	}
}

/* Unmap the area of @folio.  Returns whether it has references beyond @mine, the caller's. */
static bool unmap_area(struct cowmem_region *region, pgoff_t first, struct folio *folio,
		       int mine)
{
	cowmem_unmap(region, first, first + folio_nr_pages(folio), false);
	return cowmem_page_busy(&folio->page, mine);
}

/**
 * cowmem_area_held - how many pages of a folio does its area hold at home?
 * @region: the region
 * @index: index of one of them
 * @page: that page
 *
 * Context: any; under region->lock and the leaf lock.
 * Return: how many.
 */
unsigned long cowmem_area_held(struct cowmem_region *region, pgoff_t index,
			       struct page *page)
{
	struct cowmem_node *leaves[COWMEM_AREA_LEAVES];
	bool shared;

	cowmem_home_leaves(region, index, page_folio(page), leaves, &shared);
	return nr_home(leaves, page_folio(page));
}

/**
 * cowmem_area_exclusive - is a folio at home in this area, and held by nobody else?
 * @region: the region
 * @index: index of one of its pages
 * @page: that page
 *
 * Context: any; under region->lock and the leaf lock.
 * Return: whether all holders of the folio are slots of this area, at home, and the leaves
 * are not shared.
 */
bool cowmem_area_exclusive(struct cowmem_region *region, pgoff_t index, struct page *page)
{
	struct cowmem_node *leaves[COWMEM_AREA_LEAVES];
	struct folio *folio = page_folio(page);
	bool shared;

	/* This rules out most folios that are shared. */
	if (cowmem_page_holders(page) > folio_nr_pages(folio) || !at_home(page, index))
		return false;
	cowmem_home_leaves(region, index, folio, leaves, &shared);
	return !shared && nr_home(leaves, folio) == cowmem_page_holders(page);
}

/**
 * cowmem_area_reuse - grant the pages of a folio as they are, if the reuse rule allows it
 * @region: the region
 * @index: index of one of its pages
 * @page: that page
 * @mine: how many references the caller has
 *
 * See "The reuse rule" in grant.c.  A folio of which splits have left less than half is not
 * reused: its pages are replaced as they are written, and do not keep all of its memory.
 *
 * Context: may sleep; under region->lock and the leaf lock.
 * Return: whether all of its pages that are held are granted now.
 */
bool cowmem_area_reuse(struct cowmem_region *region, pgoff_t index, struct page *page,
		       int mine)
{
	struct cowmem_node *leaves[COWMEM_AREA_LEAVES];
	struct folio *folio = page_folio(page);
	pgoff_t first = cowmem_folio_first(folio, index);
	bool shared;

	if (!cowmem_area_exclusive(region, index, page) ||
	    cowmem_page_holders(page) < folio_nr_pages(folio) / 2 ||
	    unmap_area(region, first, folio, mine))
		return false;
	cowmem_home_leaves(region, index, folio, leaves, &shared);
	cowmem_area_grant(region, leaves, first, folio);
	return true;
}

/**
 * cowmem_area_revoke - take the grants of the pages of a folio away
 * @region: the region
 * @index: index of one of them, which is granted
 *
 * Afterwards nothing maps the area.
 *
 * Context: may sleep; under region->lock for writing.
 * Return: how many were granted; 0 if somebody refers to the folio, and they still are.
 */
unsigned long cowmem_area_revoke(struct cowmem_region *region, pgoff_t index)
{
	struct cowmem_node *leaves[COWMEM_AREA_LEAVES];
	struct folio *folio = page_folio(cowmem_tree_page(&region->tree, index));
	unsigned long nr = 0;
	unsigned int i;
	bool shared;

	if (unmap_area(region, cowmem_folio_first(folio, index), folio, 0))
		return 0;
	if (cowmem_leaf_lock(region, index)->rest_of == folio)
		cowmem_rest_drop(cowmem_leaf_lock(region, index));
	cowmem_home_leaves(region, index, folio, leaves, &shared);
	folio->mapping = NULL;
	for (i = 0; i < cowmem_folio_leaves(folio); i++) {
		u64 slots = cowmem_home_slots(leaves[i], i, folio);

		if (!slots)
			continue;
		nr += hweight64(slots & leaves[i]->granted);
		cowmem_leaf_ungrant(leaves[i], slots);
	}
	return nr;
}

/**
 * cowmem_large_pages - how large may folios around an index be?
 * @region: the region
 * @index: the index
 *
 * Context: any; under region->lock.
 * Return: the number of pages of the largest folio that may have pages in the area of
 * @index, where "area" is what a PMD maps; 1 if there is none.
 */
unsigned int cowmem_large_pages(const struct cowmem_region *region, pgoff_t index)
{
	struct cowmem_node *leaves[COWMEM_AREA_LEAVES];
	unsigned int i;
	bool shared;
	u8 large = 0;

	cowmem_some_leaves(region, cowmem_area_first(index), COWMEM_AREA_LEAVES, leaves, &shared);
	for (i = 0; i < COWMEM_AREA_LEAVES; i++)
		large |= leaves[i] ? leaves[i]->large : 0;
	return large ? COWMEM_NODE_SLOTS << (fls(large) - 1) : 1;
}

/**
 * cowmem_area_folio - find the folio that a PMD could map
 * @region: the region
 * @leaf: the leaf of @index, or NULL
 * @index: index in the area
 * @granted: only if the region may write all of it
 *
 * Context: any; under region->lock and the leaf lock.
 * Return: the folio; NULL if it does not back all of the area, or if the area reaches past
 * the end of the region.
 */
struct folio *cowmem_area_folio(struct cowmem_region *region,
				const struct cowmem_node *leaf, pgoff_t index, bool granted)
{
	struct cowmem_node *leaves[COWMEM_AREA_LEAVES];
	pgoff_t first = cowmem_area_first(index);
	struct folio *folio;
	bool shared;

	if (!leaf || !leaf->whole || cowmem_folio_leaves(leaf->whole) != COWMEM_AREA_LEAVES ||
	    first + COWMEM_AREA_PAGES > cowmem_region_end(region))
		return NULL;
	folio = leaf->whole;
	cowmem_some_leaves(region, first, COWMEM_AREA_LEAVES, leaves, &shared);
	if (!cowmem_is_whole(leaves, folio) || !cowmem_page_mappable(&folio->page))
		return NULL;
	if (granted && !cowmem_area_written(region, first))
		return NULL;
	/* Its pages have names: see cowmem_area_grant(). */
	return folio;
}
