// SPDX-License-Identifier: GPL-2.0-only
/*
 * Leaves: what is in their slots, and which of their pages are granted
 *
 * The tree only notes what is granted, for grant.c to decide.  Leaves with granted pages
 * are on a list of their tree.  Leaves whose pages are all of one folio may be folded: they
 * were granted together, are one entry of the list, and lose their grants together.
 */
#include <linux/bitops.h>
#include <linux/kernel.h>
#include <linux/sched.h>

#include "leaf.h"

/**
 * cowmem_leaf_set - put a page into a private leaf, in place of the current one
 * @leaf: the leaf
 * @index: an index that it covers
 * @page: the page, whose reference the leaf takes over
 *
 * The caller takes over the reference to the page that was there before, if any.
 *
 * Context: any; the caller excludes others from the slots of @leaf.
 */
void cowmem_leaf_set(struct cowmem_node *leaf, pgoff_t index, struct page *page)
{
	void **slot = &leaf->slots[cowmem_slot(index)];

	if (!*slot)
		leaf->nr++;
	leaf->whole = NULL;
	WRITE_ONCE(*slot, page);
}

/**
 * cowmem_leaf_fill - fill a private leaf with pages of one folio
 * @leaf: the leaf, which is empty
 * @folio: the folio; the leaf takes over one hold per slot
 * @large: its size, as in struct cowmem_node
 * @pages: the pages, in order
 *
 * Context: any; nobody else has @leaf yet.
 */
void cowmem_leaf_fill(struct cowmem_node *leaf, struct folio *folio, u8 large,
		      struct page *const *pages)
{
	unsigned int i;

	for (i = 0; i < COWMEM_NODE_SLOTS; i++)
		leaf->slots[i] = pages[i];
	leaf->nr = COWMEM_NODE_SLOTS;
	leaf->large = large;
	leaf->whole = folio;
}

/* No page of @leaf was granted before. */
static noinline void first_grant(struct cowmem_tree *tree, struct cowmem_node *leaf, pgoff_t base)
{
	leaf->base = base;
	spin_lock(&tree->granted_lock);
	list_add_tail(&leaf->granted_link, &tree->granted);
	spin_unlock(&tree->granted_lock);
}

/**
 * cowmem_leaf_grant - note that a page may be written in place
 * @tree: the tree
 * @leaf: a leaf that only @tree reaches
 * @index: an index that it covers
 *
 * Context: any; the caller excludes others from the slots of @leaf, but not from other
 * leaves.
 */
void cowmem_leaf_grant(struct cowmem_tree *tree, struct cowmem_node *leaf,
		       pgoff_t index)
{
	cowmem_leaf_grant_slots(tree, leaf, index & ~(pgoff_t)COWMEM_NODE_MASK,
				BIT_ULL(cowmem_slot(index)));
}

/**
 * cowmem_leaf_grant_slots - note that pages may be written in place
 * @tree: the tree
 * @leaf: a leaf that only @tree reaches
 * @base: index of its slot 0
 * @slots: one bit for each slot
 *
 * Context: as cowmem_leaf_grant().
 */
void cowmem_leaf_grant_slots(struct cowmem_tree *tree, struct cowmem_node *leaf,
			     pgoff_t base, u64 slots)
{
	if (!leaf->granted)
		first_grant(tree, leaf, base);
	leaf->granted |= slots;
}

/**
 * cowmem_leaves_grant - note that all pages of some leaves may be written in place
 * @tree: the tree
 * @leaves: neighbouring leaves that only @tree reaches, in order, without granted pages
 * @nr: how many
 * @base: index of slot 0 of the first one
 *
 * The leaves are folded: taking the grants back takes little time, as they are one entry of
 * the list.
 *
 * Context: as cowmem_leaf_grant().
 */
void cowmem_leaves_grant(struct cowmem_tree *tree, struct cowmem_node **leaves,
			 unsigned int nr, pgoff_t base)
{
	unsigned int i;

	for (i = 0; i < nr; i++) {
		leaves[i]->base = base + i * COWMEM_NODE_SLOTS;
		leaves[i]->granted = ~0ULL;
		leaves[i]->named = ~0ULL;
		leaves[i]->fold = leaves[(i + 1) % nr];
	}
	first_grant(tree, leaves[0], base);
}

/**
 * cowmem_leaves_fold - fold leaves whose pages are all granted
 * @tree: the tree
 * @leaves: neighbouring leaves, in order, none of them folded
 * @nr: how many
 *
 * Afterwards they are as cowmem_leaves_grant() leaves them.
 *
 * Context: as cowmem_leaf_grant().
 */
void cowmem_leaves_fold(struct cowmem_tree *tree, struct cowmem_node **leaves,
			unsigned int nr)
{
	unsigned int i;

	spin_lock(&tree->granted_lock);
	for (i = 1; i < nr; i++)
		list_del_init(&leaves[i]->granted_link);
	spin_unlock(&tree->granted_lock);
	for (i = 0; i < nr; i++)
		leaves[i]->fold = leaves[(i + 1) % nr];
}

/**
 * cowmem_leaves_ungrant - undo cowmem_leaves_grant()
 * @leaf: the first of the leaves
 *
 * Context: any; nobody else may use the tree.
 */
void cowmem_leaves_ungrant(struct cowmem_node *leaf)
{
	struct cowmem_node *next;

	list_del_init(&leaf->granted_link);
	for (; leaf->fold; leaf = next) {
		next = leaf->fold;
		leaf->fold = NULL;
		leaf->granted = 0;
		leaf->named = 0;
	}
}

/**
 * cowmem_leaves_unfold - undo cowmem_leaves_fold()
 * @leaf: any of the leaves; one that is not folded stays as it is
 *
 * Context: any; nobody else may use the tree.
 */
void cowmem_leaves_unfold(struct cowmem_node *leaf)
{
	struct cowmem_node *first = leaf, *next;

	if (!leaf->fold)
		return;
	while (list_empty(&first->granted_link))
		first = first->fold;
	for (leaf = first; leaf->fold; leaf = next) {
		next = leaf->fold;
		leaf->fold = NULL;
		if (next != first)
			list_add(&next->granted_link, &leaf->granted_link);
	}
}

/**
 * cowmem_leaf_ungrant - note that pages may no longer be written in place
 * @leaf: their leaf
 * @slots: one bit for each slot
 *
 * Context: any; nobody else may use the tree.
 */
void cowmem_leaf_ungrant(struct cowmem_node *leaf, u64 slots)
{
	if (slots)
		cowmem_leaves_unfold(leaf);
	if (leaf->granted && !(leaf->granted & ~slots))
		list_del_init(&leaf->granted_link);
	leaf->granted &= ~slots;
	leaf->named &= ~slots;
}

/**
 * cowmem_leaf_granted - the granted pages of a leaf that lie in a range
 * @leaf: the leaf
 * @first: first index of the range
 * @end: index after the last one, or ULONG_MAX
 *
 * Context: any; the caller excludes others from the slots of @leaf.
 * Return: one bit for each slot.
 */
u64 cowmem_leaf_granted(const struct cowmem_node *leaf, pgoff_t first,
			pgoff_t end)
{
	u64 slots = leaf->granted;

	if (!slots || end <= leaf->base || first > leaf->base + COWMEM_NODE_MASK)
		return 0;
	if (first > leaf->base)
		slots &= ~0ULL << (first - leaf->base);
	if (end < leaf->base + COWMEM_NODE_SLOTS)
		slots &= ~(~0ULL << (end - leaf->base));
	return slots;
}

/* Are the leaves with granted pages in order?  They are if they were written in order. */
static bool granted_in_order(const struct cowmem_tree *tree)
{
	const struct cowmem_node *leaf;
	pgoff_t base = 0;

	list_for_each_entry(leaf, &tree->granted, granted_link) {
		if (leaf->base < base)
			return false;
		base = leaf->base;
	}
	return true;
}

/**
 * cowmem_tree_sort_granted - put the leaves with granted pages in order
 * @tree: the tree
 *
 * This is a radix sort by the slots on the path to the leaf, from the lowest level up.
 *
 * Context: may sleep; nobody else may use @tree.
 */
void cowmem_tree_sort_granted(struct cowmem_tree *tree)
{
	struct list_head heads[COWMEM_NODE_SLOTS];
	struct cowmem_node *leaf, *next;
	unsigned int level;

	if (granted_in_order(tree))
		return;
	for (level = 1; tree->root && level <= tree->root->level; level++) {
		u64 used = 0;

		list_for_each_entry_safe(leaf, next, &tree->granted, granted_link) {
			unsigned int i = cowmem_slot(leaf->base >> cowmem_level_shift(level));

			if (!(used & BIT_ULL(i)))
				INIT_LIST_HEAD(&heads[i]);
			used |= BIT_ULL(i);
			list_add_tail(&leaf->granted_link, &heads[i]);
			cond_resched();
		}
		INIT_LIST_HEAD(&tree->granted);
		for (; used; used &= used - 1)
			list_splice_tail(&heads[__ffs64(used)], &tree->granted);
	}
}
