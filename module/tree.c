// SPDX-License-Identifier: GPL-2.0-only
/*
 * The persistent page index
 *
 * A tree maps page indices to pages.  Trees share nodes: cloning a tree takes one more
 * reference to its root, and a node with more than one reference is frozen, together with
 * everything below it.  To change something below a frozen node, a tree first replaces the
 * nodes on the path with copies ("owns" the path).  Copying a node takes a reference to
 * each child, so the rest of what hangs below stays shared.  Two trees that reach the same
 * node are equal below it.
 *
 *	  tree A       tree B              after B owns the path to index 70
 *	       \       /
 *	        root (2)                   root (1)        root' (1)
 *	       /    \                     /    \          /    \
 *	    leaf(1)  leaf(1)          leaf(2)  leaf(1)  leaf(2) leaf'(1)
 *	     ...     68 70 ..          ...     68 70 .. (same)  68 70 ..
 *
 * References of a page count slots of leaves, not trees: above, the pages below the left
 * leaf still have one.
 *
 * The index knows nothing about regions, mappings or who may write what.  This file has
 * the paths: finding them, owning them, dropping them.  leaf.c has what is at their ends,
 * tree-walk.c looks through trees, and tree-range.c changes whole ranges of them.
 *
 * Conventions of all these files:
 *
 *  - "private" means that each node on the path has one reference, so that only this tree
 *    reaches it.  A private path stays private until the owner of the tree clones it.
 *  - Functions that change the shape of a tree need it for themselves.  Functions that
 *    only read it may run side by side, even with changes to slots of leaves, which their
 *    callers exclude per leaf, and with cowmem_tree_add_leaf().
 *  - All memory that an operation may need is allocated before the first change, so a
 *    failed operation leaves the tree as it was.
 *  - No node is empty, except a leaf that its caller is about to put a page into.  So the
 *    size of a tree bounds the time it takes to find something in it.
 *  - A few nodes that hang at many places can still make up more leaves than anyone could
 *    ever visit.  So functions that walk through a tree without changing it have a budget
 *    of nodes, see struct walk in tree-walk.c.
 */
#include <linux/err.h>
#include <linux/kernel.h>
#include <linux/sched.h>
#include <linux/string.h>

#include "hold.h"
#include "leaf.h"
#include "tree.h"

/**
 * cowmem_node_put - drop a reference to a node
 * @node: the node
 *
 * With the last reference go the node's references to what hangs below it.
 *
 * Context: may sleep; if this tree reaches granted pages below @node, nobody else may use
 * the tree.
 */
void cowmem_node_put(struct cowmem_node *node)
{
	unsigned int i;

	if (!refcount_dec_and_test(&node->refs))
		return;

	if (node->granted) {
		cowmem_leaves_unfold(node);
		list_del(&node->granted_link);
	}
	if (!node->level) {
		if (node->whole)
			cowmem_folio_drop(node->whole, COWMEM_NODE_SLOTS);
		else
			cowmem_pages_drop_slots(node->slots, node->nr, node->granted);
		node->nr = 0;
	}
	for (i = 0; node->nr; i++) {
		if (!node->slots[i])
			continue;
		cowmem_node_put(node->slots[i]);
		node->nr--;
	}
	cowmem_node_free(node);
	cond_resched();
}

static void node_init(struct cowmem_node *node, unsigned int level)
{
	struct cowmem_account *account = node->account;

	memset(node, 0, sizeof(*node));
	node->account = account;
	refcount_set(&node->refs, 1);
	INIT_LIST_HEAD(&node->granted_link);
	node->level = level;
}

/* Make @copy a second, private parent of what hangs below the frozen @node. */
static void node_copy(struct cowmem_node *copy, const struct cowmem_node *node)
{
	unsigned int i;

	node_init(copy, node->level);
	copy->nr = node->nr;
	copy->large = node->large;
	copy->whole = node->whole;
	for (i = 0; i < COWMEM_NODE_SLOTS; i++) {
		if (!node->slots[i])
			continue;
		copy->slots[i] = node->slots[i];
		if (node->level)
			refcount_inc(&((struct cowmem_node *)node->slots[i])->refs);
		else if (!node->large)
			cowmem_page_hold(node->slots[i]);
	}
	if (node->whole)
		cowmem_folio_hold(node->whole, COWMEM_NODE_SLOTS);
	else if (node->large)
		cowmem_pages_hold_slots(node->slots);
}

/* Nodes set aside for one operation, linked through slot 0. */
struct node_reserve {
	struct cowmem_node *first;
};

static void reserve_free(struct node_reserve *reserve)
{
	struct cowmem_node *node;

	while ((node = reserve->first)) {
		reserve->first = node->slots[0];
		cowmem_node_free(node);
	}
}

static int reserve_fill(struct node_reserve *reserve, unsigned int nr,
			struct cowmem_account *account, bool gently)
{
	reserve->first = NULL;
	while (nr--) {
		struct cowmem_node *node = cowmem_node_alloc(account, gently);

		if (IS_ERR(node)) {
			reserve_free(reserve);
			return PTR_ERR(node);
		}
		node->slots[0] = reserve->first;
		reserve->first = node;
	}
	return 0;
}

static struct cowmem_node *reserve_take(struct node_reserve *reserve)
{
	struct cowmem_node *node = reserve->first;

	reserve->first = node->slots[0];
	return node;
}

/*
 * The most new nodes that it can take to own the path to the node of @index on @level,
 * from a root that has to be on @top at least.
 *
 * Counts of shared nodes may fall at any time, but below a private node they cannot rise,
 * so the answer stays an upper bound.
 */
static unsigned int path_need(const struct cowmem_tree *tree, pgoff_t index,
			      unsigned int top, unsigned int level, bool create)
{
	const struct cowmem_node *node = tree->root;

	if (!node)
		return create ? top - level + 1 : 0;
	/* New levels above the root, and a new path down to @index. */
	if (node->level < top)
		return create ? (top - node->level) + (top - level) : 0;

	while (!cowmem_node_shared(node)) {
		if (node->level == level)
			return 0;
		if (!node->slots[cowmem_node_slot(node, index)])
			return create ? node->level - level : 0;
		node = node->slots[cowmem_node_slot(node, index)];
	}
	return node->level - level + 1;
}

/* Put new levels above the root until it is on @top. */
static void tree_raise(struct cowmem_tree *tree, unsigned int top,
		       struct node_reserve *reserve)
{
	while (tree->root->level < top) {
		struct cowmem_node *node = reserve_take(reserve);

		node_init(node, tree->root->level + 1);
		node->slots[0] = tree->root;
		node->nr = 1;
		tree->root = node;
	}
}

/**
 * cowmem_tree_own_node - make the path to a node private
 * @tree: the tree
 * @index: an index below the node
 * @level: the level of the node
 * @create: also create the nodes that are missing, rather than stop at a hole
 * @gently: see cowmem_node_alloc()
 *
 * Context: may sleep; nobody else may use @tree.
 * Return: the node; NULL if there is none and it was not to be created; -ENOMEM or
 * -ENOSPC.
 */
struct cowmem_node *cowmem_tree_own_node(struct cowmem_tree *tree, pgoff_t index,
					 unsigned int level, bool create, bool gently)
{
	struct cowmem_node *node, *parent = NULL;
	struct node_reserve reserve;
	unsigned int top = level;
	void **slot;
	int err;

	while (index > cowmem_level_last(top))
		top++;
	err = reserve_fill(&reserve, path_need(tree, index, top, level, create),
			   tree->account, gently);
	if (err)
		return ERR_PTR(err);

	if (tree->root) {
		if (create)
			tree_raise(tree, top, &reserve);
		top = max_t(unsigned int, tree->root->level, level);
		if (index > cowmem_level_last(tree->root->level))
			return NULL;
	}

	slot = (void **)&tree->root;
	for (;; top--) {
		node = *slot;
		if (!node) {
			if (!create)
				break;
			node = reserve_take(&reserve);
			node_init(node, top);
			*slot = node;
			if (parent)
				parent->nr++;
		} else if (cowmem_node_shared(node)) {
			struct cowmem_node *copy = reserve_take(&reserve);

			node_copy(copy, node);
			*slot = copy;
			cowmem_node_put(node);
			node = copy;
		}
		if (node->level == level)
			break;
		parent = node;
		slot = &node->slots[cowmem_node_slot(node, index)];
	}
	reserve_free(&reserve);
	return node;
}

/**
 * cowmem_tree_init - start with an empty tree
 * @tree: the tree
 * @account: what its nodes are to be charged to, or NULL
 */
void cowmem_tree_init(struct cowmem_tree *tree, struct cowmem_account *account)
{
	tree->root = NULL;
	tree->account = account;
	INIT_LIST_HEAD(&tree->granted);
	spin_lock_init(&tree->granted_lock);
}

/**
 * cowmem_tree_destroy - drop everything that a tree holds
 * @tree: the tree; empty afterwards
 *
 * The time this takes is proportional to what no other tree shares.
 *
 * Context: may sleep; nobody else may use @tree.
 */
void cowmem_tree_destroy(struct cowmem_tree *tree)
{
	if (tree->root)
		cowmem_node_put(tree->root);
	tree->root = NULL;
}

/**
 * cowmem_tree_clone - make an empty tree equal to another one
 * @clone: the empty tree
 * @tree: the tree to share; if it has granted pages, the caller revokes the grants before
 *	anybody may use either tree
 *
 * Context: any; nobody else may use either tree.  Cannot fail, and takes constant time.
 */
void cowmem_tree_clone(struct cowmem_tree *clone, const struct cowmem_tree *tree)
{
	clone->root = tree->root;
	if (clone->root)
		refcount_inc(&clone->root->refs);
}

/**
 * cowmem_tree_swap - exchange what two trees hold
 * @a: a tree
 * @b: another one, without granted pages
 *
 * The list of granted pages goes with the pages.  So destroying @b afterwards does not
 * touch the list of @a, which others may be using already.
 *
 * Context: any; nobody else may use either tree.  Cannot fail.
 */
void cowmem_tree_swap(struct cowmem_tree *a, struct cowmem_tree *b)
{
	swap(a->root, b->root);
	list_splice_tail(&a->granted, &b->granted);
	INIT_LIST_HEAD(&a->granted);
}

/**
 * cowmem_tree_leaf - find the leaf of an index
 * @tree: the tree
 * @index: the index
 * @shared: set to whether the path to it is shared with another tree; may be NULL
 *
 * Context: any.
 * Return: the leaf, or NULL if there is none.
 */
struct cowmem_node *cowmem_tree_leaf(const struct cowmem_tree *tree,
				     pgoff_t index, bool *shared)
{
	struct cowmem_node *node = tree->root;
	bool on_shared_path = false;

	if (!node || index >> cowmem_level_shift(node->level) > COWMEM_NODE_MASK)
		return NULL;
	for (;;) {
		on_shared_path = on_shared_path || cowmem_node_shared(node);
		if (!node->level)
			break;
		/* Another task may be adding it right now. */
		node = READ_ONCE(node->slots[cowmem_node_slot(node, index)]);
		if (!node)
			return NULL;
	}
	if (shared)
		*shared = on_shared_path;
	return node;
}

/**
 * cowmem_tree_page - find the page of an index
 * @tree: the tree
 * @index: the index
 *
 * Context: any.
 * Return: the page, NULL for a hole.
 */
struct page *cowmem_tree_page(const struct cowmem_tree *tree, pgoff_t index)
{
	const struct cowmem_node *leaf = cowmem_tree_leaf(tree, index, NULL);

	return leaf ? READ_ONCE(leaf->slots[cowmem_slot(index)]) : NULL;
}

/**
 * cowmem_tree_own - make the path to an index complete and private
 * @tree: the tree
 * @index: the index
 * @gently: see cowmem_node_alloc()
 *
 * Context: may sleep; nobody else may use @tree.
 * Return: the leaf, -ENOMEM or -ENOSPC.
 */
struct cowmem_node *cowmem_tree_own(struct cowmem_tree *tree, pgoff_t index,
				    bool gently)
{
	return cowmem_tree_own_node(tree, index, 0, true, gently);
}

/**
 * cowmem_tree_add_leaf - put an empty leaf where there is none
 * @tree: the tree
 * @index: an index that no leaf covers
 * @gently: see cowmem_node_alloc()
 *
 * Context: may sleep; the shape of @tree does not change, except for leaves that others
 * add elsewhere in the same way.
 * Return: the leaf; NULL if there is no private node to put it into, so that it takes
 * cowmem_tree_own(); -ENOMEM or -ENOSPC.
 */
struct cowmem_node *cowmem_tree_add_leaf(struct cowmem_tree *tree, pgoff_t index,
					 bool gently)
{
	struct cowmem_node *node = tree->root, *leaf;
	void **slot;

	if (!node || index > cowmem_level_last(node->level))
		return NULL;
	while (node && node->level > 1 && !cowmem_node_shared(node))
		node = node->slots[cowmem_node_slot(node, index)];
	if (!node || node->level != 1 || cowmem_node_shared(node))
		return NULL;
	slot = &node->slots[cowmem_node_slot(node, index)];
	/* Another task may have been faster. */
	if (*slot)
		return *slot;
	leaf = cowmem_node_alloc(tree->account, gently);
	if (IS_ERR(leaf))
		return leaf;
	node_init(leaf, 0);
	spin_lock(&tree->granted_lock);
	node->nr++;
	spin_unlock(&tree->granted_lock);
	/* A reader of the slot without the leaf lock finds the leaf initialized. */
	smp_store_release(slot, leaf);
	return leaf;
}

/**
 * cowmem_tree_own_edge - prepare to punch a hole that starts or ends at an index
 * @tree: the tree
 * @index: the first or last index of the hole
 *
 * Makes the path private as far as it exists.
 *
 * Context: may sleep; nobody else may use @tree.
 * Return: 0, -ENOMEM or -ENOSPC.
 */
int cowmem_tree_own_edge(struct cowmem_tree *tree, pgoff_t index)
{
	return PTR_ERR_OR_ZERO(cowmem_tree_own_node(tree, index, 0, false, false));
}

/**
 * cowmem_tree_raise - make a tree as high as another one
 * @tree: the tree; an empty one stays empty
 * @as: the other one
 *
 * Context: may sleep; nobody else may use @tree.
 * Return: 0, -ENOMEM or -ENOSPC.
 */
int cowmem_tree_raise(struct cowmem_tree *tree, const struct cowmem_tree *as)
{
	struct node_reserve reserve;
	int err;

	if (!tree->root || !as->root || tree->root->level >= as->root->level)
		return 0;
	err = reserve_fill(&reserve, as->root->level - tree->root->level,
			   tree->account, false);
	if (!err)
		tree_raise(tree, as->root->level, &reserve);
	return err;
}
