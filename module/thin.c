// SPDX-License-Identifier: GPL-2.0-only
/*
 * Folios of which little is left
 *
 * The memory of a folio is freed as a whole.  Where a region dropped most pages of one, the
 * others move to pages of their own, so that few pages do not keep much memory.
 */
#include <linux/err.h>
#include <linux/mm.h>
#include <linux/sched.h>

#include "area.h"
#include "hold.h"
#include "leaf.h"
#include "map.h"
#include "page.h"
#include "region.h"
#include "thin.h"
#include "tree.h"

/* The first slot of @leaf with a page of a folio of @kind; -1 if there is none. */
static int first_large(const struct cowmem_node *leaf, u8 kind)
{
	unsigned int i;

	for (i = 0; leaf && (leaf->large & kind) && i < COWMEM_NODE_SLOTS; i++)
		if (leaf->slots[i] && cowmem_page_kind(leaf->slots[i]) == kind)
			return i;
	return -1;
}

/* Does the first folio of @kind in @leaves have more holders than its @nr pages here? */
static bool others_hold(struct cowmem_node *const *leaves, unsigned int nr_leaves, u8 kind,
			unsigned int nr)
{
	unsigned int i;

	for (i = 0; i < nr_leaves; i++) {
		int slot = first_large(leaves[i], kind);

		if (slot >= 0)
			return cowmem_page_holders(leaves[i]->slots[slot]) > nr;
	}
	return false;
}

/* Replace the page at @index by a copy that is a page of its own.  Returns whether it was. */
static bool make_small(struct cowmem_region *region, pgoff_t index)
{
	struct cowmem_node *leaf;
	struct page *page, *old;

	leaf = cowmem_tree_own(&region->tree, index, true);
	if (IS_ERR(leaf))
		return false;
	old = leaf->slots[cowmem_slot(index)];
	if ((leaf->granted & BIT_ULL(cowmem_slot(index))) && !cowmem_area_revoke(region, index))
		return false;
	page = cowmem_page_duplicate(old, cowmem_region_account(region), true);
	if (IS_ERR(page))
		return false;
	cowmem_leaf_set(leaf, index, page);
	cowmem_page_drop(old, false);
	return true;
}

/* How many pages of folios of @kind does @leaf hold? */
static unsigned int count_large(const struct cowmem_node *leaf, u8 kind)
{
	unsigned int i, nr = 0;

	if (leaf && leaf->whole)
		return cowmem_page_kind(leaf->slots[0]) == kind ? COWMEM_NODE_SLOTS : 0;
	for (i = 0; leaf && (leaf->large & kind) && i < COWMEM_NODE_SLOTS; i++)
		nr += leaf->slots[i] && cowmem_page_kind(leaf->slots[i]) == kind;
	return nr;
}

/* As cowmem_area_thin(), for folios of one size. */
static void thin(struct cowmem_region *region, pgoff_t index, unsigned int order)
{
	unsigned int i, nr = 0, pages = 1U << order, nr_leaves = pages / COWMEM_NODE_SLOTS;
	struct cowmem_node *leaves[COWMEM_AREA_LEAVES];
	pgoff_t first = round_down(index, pages);
	u8 kind = BIT(order - COWMEM_BLOCK_MIN);
	bool shared;

	cowmem_some_leaves(region, first, nr_leaves, leaves, &shared);
	for (i = 0; i < nr_leaves && nr < pages / 2; i++)
		nr += count_large(leaves[i], kind);
	if (!nr || nr >= pages / 2)
		return;
	/*
	 * Copying the few pages of a block gives little memory back, and takes more while
	 * others have them.
	 */
	if (order != COWMEM_AREA_ORDER && others_hold(leaves, nr_leaves, kind, nr))
		return;
	cowmem_unmap(region, first, first + pages, false);
	for (i = 0; i < nr_leaves; i++) {
		pgoff_t base = first + i * COWMEM_NODE_SLOTS;
		int slot;

		while ((slot = first_large(cowmem_tree_leaf(&region->tree, base, NULL),
					   kind)) >= 0) {
			if (!make_small(region, base + slot))
				return;
			cond_resched();
		}
	}
}

/**
 * cowmem_area_thin - free folios of which little is left
 * @region: the region, which has dropped pages
 * @index: index of one of them, or next to them
 *
 * Pages that are left of a folio move to pages of their own if those can be had and nobody
 * refers to the folio.
 *
 * Context: may sleep; under region->lock for writing.
 */
void cowmem_area_thin(struct cowmem_region *region, pgoff_t index)
{
	unsigned int order;

	for (order = COWMEM_BLOCK_MIN; order <= COWMEM_BLOCK_MAX; order++)
		thin(region, index, order);
	thin(region, index, COWMEM_AREA_ORDER);
}
