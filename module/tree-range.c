// SPDX-License-Identifier: GPL-2.0-only
/*
 * Ranges of a tree: sharing them with another tree, making holes of them, replacing them
 *
 * See tree.c for the model and the conventions.
 */
#include <linux/err.h>
#include <linux/kernel.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>

#include "hold.h"
#include "leaf.h"
#include "tree.h"
#include "tree-range.h"
#include "tree-walk.h"

/* The node of @index on @level, or NULL; @level is not above the root. */
static struct cowmem_node *node_at(const struct cowmem_tree *tree,
				   pgoff_t index, unsigned int level)
{
	struct cowmem_node *node = tree->root;

	while (node && node->level > level)
		node = node->slots[cowmem_node_slot(node, index)];
	return node;
}

/*
 * The largest subtree that starts at @src, ends before @src + @nr and can hang at @dst: its
 * level plus one, or 0 for a single page.
 */
static unsigned int share_level(pgoff_t dst, pgoff_t src, pgoff_t nr,
				unsigned int max)
{
	unsigned int level = 0;

	while (level < max && nr > cowmem_level_last(level) &&
	       !((src | dst) & cowmem_level_last(level)))
		level++;
	return level;
}

/*
 * How far to go from the hole at @index towards the next page: to the start of the largest
 * subtree that has the page but not @index, so that it can be shared as a whole.
 */
static pgoff_t hole_step(const struct cowmem_tree *tree, pgoff_t index)
{
	unsigned int level = tree->root->level + 1;
	unsigned long budget = COWMEM_TREE_BUDGET;
	pgoff_t next = index;

	while (!cowmem_tree_next(tree, &next, true, &budget)) {
		if (next == ULONG_MAX || fatal_signal_pending(current))
			return ULONG_MAX;
		cond_resched();
		budget = COWMEM_TREE_BUDGET;
	}
	while (level && (next & ~cowmem_level_last(level - 1)) <= index)
		level--;
	return (level ? next & ~cowmem_level_last(level - 1) : next) - index;
}

/**
 * cowmem_tree_share - let a range of one tree appear in another one
 * @dst: the tree that gets the pages; it has no nodes where they go
 * @dst_first: where they go
 * @src: the tree that has them
 * @src_first: where they are
 * @nr: how many indices
 *
 * Subtrees are shared as a whole where the two offsets allow it, other pages one by one.
 *
 * Context: may sleep; nobody else may use either tree.
 * Return: 0; -ENOMEM, -ENOSPC or -EINTR, and @dst holds a part of the range.
 */
int cowmem_tree_share(struct cowmem_tree *dst, pgoff_t dst_first,
		      const struct cowmem_tree *src, pgoff_t src_first,
		      pgoff_t nr)
{
	while (nr && src->root && src_first <= cowmem_level_last(src->root->level)) {
		/* A subtree below the root: the root itself has no slot. */
		unsigned int level = share_level(dst_first, src_first, nr,
						 src->root->level + 1);
		pgoff_t span = level ? cowmem_level_last(level - 1) + 1 : 1;
		struct cowmem_node *node = node_at(src, src_first,
						   level ? level - 1 : 0);
		void *entry = node;

		if (!level && node)
			entry = node->slots[cowmem_slot(src_first)];
		if (!entry) {
			span = min(nr, hole_step(src, src_first));
		} else {
			struct cowmem_node *parent;

			parent = cowmem_tree_own_node(dst, dst_first, level, true, false);
			if (IS_ERR(parent))
				return PTR_ERR(parent);
			if (level) {
				refcount_inc(&node->refs);
			} else {
				cowmem_page_hold(entry);
				parent->large |= node->large;
			}
			parent->slots[cowmem_node_slot(parent, dst_first)] = entry;
			parent->nr++;
		}
		dst_first += span;
		src_first += span;
		nr -= span;
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
	}
	return 0;
}

/*
 * Make a hole of [@first, @last] below @node, whose first index is @base.  Returns whether
 * nothing is left there.
 */
static bool node_punch(struct cowmem_node *node, pgoff_t base, pgoff_t first,
		       pgoff_t last)
{
	pgoff_t span = 1UL << cowmem_level_shift(node->level);
	unsigned int i = first > base ? (first - base) >> cowmem_level_shift(node->level) : 0;

	for (; i < COWMEM_NODE_SLOTS; i++) {
		pgoff_t from = base + i * span;
		pgoff_t to = from + (span - 1);
		void *entry = node->slots[i];

		if (from > last)
			break;
		if (!entry)
			continue;
		if (!node->level) {
			u64 bit = BIT_ULL(i);

			cowmem_page_drop(entry, node->granted & bit);
			cowmem_leaf_ungrant(node, bit);
			node->whole = NULL;
		} else if ((from >= first && to <= last) ||
			   node_punch(entry, from, first, last)) {
			cowmem_node_put(entry);
		} else {
			continue;
		}
		node->slots[i] = NULL;
		node->nr--;
	}
	return !node->nr;
}

/* As cowmem_tree_punch(), but leaves the tree as high as it is. */
static void tree_punch(struct cowmem_tree *tree, pgoff_t first, pgoff_t last)
{
	struct cowmem_node *root = tree->root;

	if (!root || first > cowmem_level_last(root->level))
		return;
	if ((!first && last >= cowmem_level_last(root->level)) ||
	    node_punch(root, 0, first, last)) {
		cowmem_node_put(root);
		tree->root = NULL;
	}
}

/* Remove levels from the top, as long as nothing but slot 0 of the root is in use. */
static void tree_lower(struct cowmem_tree *tree)
{
	struct cowmem_node *root;

	while ((root = tree->root) && root->level && root->nr == 1 && root->slots[0]) {
		tree->root = root->slots[0];
		refcount_inc(&tree->root->refs);
		cowmem_node_put(root);
	}
}

/**
 * cowmem_tree_punch - turn a range into a hole
 * @tree: the tree
 * @first: first index of the hole
 * @last: last index of the hole
 *
 * Drops whole subtrees where it can, in time proportional to what no other tree shares.
 * The caller has prepared the paths to @first and @last with cowmem_tree_own_edge().
 *
 * Context: may sleep; nobody else may use @tree.  Cannot fail.
 */
void cowmem_tree_punch(struct cowmem_tree *tree, pgoff_t first, pgoff_t last)
{
	tree_punch(tree, first, last);
	tree_lower(tree);
}

/* Move what @from holds to @node, which is on the same level at the same place. */
static void node_graft(struct cowmem_node *node, struct cowmem_node *from)
{
	unsigned int i;

	if (!node->level) {
		node->large |= from->large;
		from->whole = NULL;
	}
	for (i = 0; i < COWMEM_NODE_SLOTS; i++) {
		void *entry = from->slots[i];

		if (!entry)
			continue;
		if (node->slots[i]) {
			node_graft(node->slots[i], entry);
			continue;
		}
		node->slots[i] = entry;
		node->nr++;
		from->slots[i] = NULL;
		from->nr--;
	}
}

/**
 * cowmem_tree_graft - replace a range of one tree with the content of another one
 * @tree: the tree to change; cowmem_tree_own_edge() was called for both ends of the range
 * @first: first index of the range
 * @last: last index of the range
 * @from: the new content; empty afterwards.  It holds nothing outside the range, is as high
 *	as @tree unless one of them is empty, and has private nodes where the range does not
 *	cover a node as a whole.
 *
 * Context: may sleep; nobody else may use either tree.  Cannot fail.
 */
void cowmem_tree_graft(struct cowmem_tree *tree, pgoff_t first, pgoff_t last,
		       struct cowmem_tree *from)
{
	tree_punch(tree, first, last);
	if (!tree->root)
		swap(tree->root, from->root);
	else if (from->root)
		node_graft(tree->root, from->root);
	cowmem_tree_destroy(from);
	/* Not before: a tree cannot take the nodes of a higher one. */
	tree_lower(tree);
}
