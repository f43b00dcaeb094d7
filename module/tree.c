// SPDX-License-Identifier: GPL-2.0-only
/*
 * The persistent page index
 *
 * A tree maps page indices to pages.  Trees share nodes: cloning a tree takes
 * one more reference to its root, and a node with more than one reference is
 * frozen, together with everything below it.  Whoever wants to change something
 * below a frozen node first puts copies of the nodes on the path in their
 * place ("owns" the path).  Copying a node takes a reference to each child, so
 * the rest of what hangs below stays shared.  Two trees that reach the same
 * node are equal below it.
 *
 *	  tree A       tree B              after B owns the path to index 70
 *	       \       /
 *	        root (2)                   root (1)        root' (1)
 *	       /    \                     /    \          /    \
 *	    leaf(1)  leaf(1)          leaf(2)  leaf(1)  leaf(2) leaf'(1)
 *	     ...     68 70 ..          ...     68 70 .. (same)  68 70 ..
 *
 * References of a page count leaf slots, not trees: above, the pages below the
 * left leaf still have one.
 *
 * This file knows nothing about regions, mappings or who may write what.
 *
 * Conventions in this file:
 *
 *  - "private" means that each node on the path has one reference, so that
 *    only this tree reaches it.  A private path stays private until the tree's
 *    owner clones it.
 *  - Functions that change the shape of a tree need it for themselves.
 *    Functions that only read it may run side by side, also with changes to
 *    leaf slots, which their callers exclude per leaf, and with
 *    cowmem_tree_add_leaf().
 *  - All memory that an operation may need is allocated before the first
 *    change, so a failed operation leaves the tree as it was.
 *  - No node is empty, but for a leaf that its caller is about to put a page into.
 *    So what a tree holds bounds what it takes to find something in it.
 *  - A few nodes that hang at many places can still make for more leaves than
 *    anyone lives to see.  So functions that walk through a tree and change nothing
 *    have a budget of nodes to look at, see struct walk.
 */
#include <linux/bitops.h>
#include <linux/err.h>
#include <linux/kernel.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/string.h>

#include "hold.h"
#include "leaf.h"
#include "tree-range.h"
#include "tree-walk.h"
#include "tree.h"

/* Stands for a node that there is none of. */
static const struct cowmem_node empty_node;

static unsigned int level_shift(unsigned int level)
{
	return level * COWMEM_NODE_SHIFT;
}

static unsigned int node_slot(const struct cowmem_node *node, pgoff_t index)
{
	return cowmem_slot(index >> level_shift(node->level));
}

/* The last index that a tree with a root on @level can hold. */
static pgoff_t level_last(unsigned int level)
{
	unsigned int shift = level_shift(level + 1);

	return shift >= BITS_PER_LONG ? ULONG_MAX : (1UL << shift) - 1;
}

/*
 * Does something else point here, too?
 *
 * Another tree that copied @node raised its children's counts before it dropped
 * its reference to @node.  The barrier pairs with the release in
 * refcount_dec_and_test(): who sees the drop also sees the children raised, and
 * may write to what was being copied.
 */
static bool node_shared(const struct cowmem_node *node)
{
	if (refcount_read(&node->refs) > 1)
		return true;
	smp_acquire__after_ctrl_dep();
	return false;
}

static void node_put(struct cowmem_node *node)
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
		node_put(node->slots[i]);
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
 * How many new nodes it takes at most to own the path from the root, which is
 * to be on @top at least, to the node of @index on @level.
 *
 * Counts of shared nodes may fall at any time, but below a node that is private
 * they cannot rise, so the answer stays an upper bound.
 */
static unsigned int path_need(const struct cowmem_tree *tree, pgoff_t index,
			      unsigned int top, unsigned int level, bool create)
{
	const struct cowmem_node *node = tree->root;

	if (!node)
		return create ? top - level + 1 : 0;
	/* New levels above the root, and a path of its own for @index. */
	if (node->level < top)
		return create ? (top - node->level) + (top - level) : 0;

	while (!node_shared(node)) {
		if (node->level == level)
			return 0;
		if (!node->slots[node_slot(node, index)])
			return create ? node->level - level : 0;
		node = node->slots[node_slot(node, index)];
	}
	return node->level - level + 1;
}

/* Put new levels above the root, until that is on @top. */
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

/*
 * Make the path to the node of @index on @level private; with @create also
 * complete.  Without, stop at the first hole and return NULL.
 */
static struct cowmem_node *tree_own(struct cowmem_tree *tree, pgoff_t index,
				    unsigned int level, bool create, bool gently)
{
	struct cowmem_node *node, *parent = NULL;
	struct node_reserve reserve;
	unsigned int top = level;
	void **slot;
	int err;

	while (index > level_last(top))
		top++;
	err = reserve_fill(&reserve, path_need(tree, index, top, level, create),
			   tree->account, gently);
	if (err)
		return ERR_PTR(err);

	if (tree->root) {
		if (create)
			tree_raise(tree, top, &reserve);
		top = max_t(unsigned int, tree->root->level, level);
		if (index > level_last(tree->root->level))
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
		} else if (node_shared(node)) {
			struct cowmem_node *copy = reserve_take(&reserve);

			node_copy(copy, node);
			*slot = copy;
			node_put(node);
			node = copy;
		}
		if (node->level == level)
			break;
		parent = node;
		slot = &node->slots[node_slot(node, index)];
	}
	reserve_free(&reserve);
	return node;
}

/**
 * cowmem_tree_init - start with an empty tree
 * @tree: the tree
 * @account: what nodes that it makes are to count in, or NULL
 */
void cowmem_tree_init(struct cowmem_tree *tree, struct cowmem_account *account)
{
	tree->root = NULL;
	tree->account = account;
	INIT_LIST_HEAD(&tree->granted);
	spin_lock_init(&tree->granted_lock);
}

/**
 * cowmem_tree_destroy - drop everything that @tree holds
 * @tree: the tree; it is empty afterwards
 *
 * Takes time in proportion to what no other tree shares.
 *
 * Context: may sleep; nobody else may use @tree.
 */
void cowmem_tree_destroy(struct cowmem_tree *tree)
{
	if (tree->root)
		node_put(tree->root);
	tree->root = NULL;
}

/**
 * cowmem_tree_clone - make an empty tree equal to another one
 * @clone: the empty tree
 * @tree: the one to share; has no granted page any more, or the caller revokes
 *	them before anyone may use either tree
 *
 * Context: any; nobody else may use either tree.  Cannot fail, takes constant
 * time.
 */
void cowmem_tree_clone(struct cowmem_tree *clone, const struct cowmem_tree *tree)
{
	clone->root = tree->root;
	if (clone->root)
		refcount_inc(&clone->root->refs);
}

/* The node of @index on @level or NULL; @level is not above the root. */
static struct cowmem_node *node_at(const struct cowmem_tree *tree,
				   pgoff_t index, unsigned int level)
{
	struct cowmem_node *node = tree->root;

	while (node && node->level > level)
		node = node->slots[node_slot(node, index)];
	return node;
}

/*
 * The largest subtree that starts at @src, ends before @src + @nr and may hang
 * at @dst: its level plus one, or 0 for a single page.
 */
static unsigned int share_level(pgoff_t dst, pgoff_t src, pgoff_t nr,
				unsigned int max)
{
	unsigned int level = 0;

	while (level < max && nr > level_last(level) &&
	       !((src | dst) & level_last(level)))
		level++;
	return level;
}

/*
 * How far to go from @index, a hole, towards the next page: to the start of the
 * largest subtree that has it but not @index, so that it can be shared whole.
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
	while (level && (next & ~level_last(level - 1)) <= index)
		level--;
	return (level ? next & ~level_last(level - 1) : next) - index;
}

/**
 * cowmem_tree_share - let a range of one tree appear in another
 * @dst: the tree that gets the pages; has no nodes where they go
 * @dst_first: where they go
 * @src: the tree that has them
 * @src_first: where they are
 * @nr: how many indices
 *
 * Whole subtrees are shared as nodes where the two offsets allow it, other
 * pages one by one.
 *
 * Context: may sleep; nobody else may use either tree.
 * Return: 0, -ENOMEM, -ENOSPC or -EINTR; then @dst holds a part of the range.
 */
int cowmem_tree_share(struct cowmem_tree *dst, pgoff_t dst_first,
		      const struct cowmem_tree *src, pgoff_t src_first,
		      pgoff_t nr)
{
	while (nr && src->root && src_first <= level_last(src->root->level)) {
		/* A subtree below the root: the root itself has no slot. */
		unsigned int level = share_level(dst_first, src_first, nr,
						 src->root->level + 1);
		pgoff_t span = level ? level_last(level - 1) + 1 : 1;
		struct cowmem_node *node = node_at(src, src_first,
						   level ? level - 1 : 0);
		void *entry = node;

		if (!level && node)
			entry = node->slots[cowmem_slot(src_first)];
		if (!entry) {
			span = min(nr, hole_step(src, src_first));
		} else {
			struct cowmem_node *parent;

			parent = tree_own(dst, dst_first, level, true, false);
			if (IS_ERR(parent))
				return PTR_ERR(parent);
			if (level) {
				refcount_inc(&node->refs);
			} else {
				cowmem_page_hold(entry);
				parent->large |= node->large;
			}
			parent->slots[node_slot(parent, dst_first)] = entry;
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

/**
 * cowmem_tree_leaf - find the leaf of an index
 * @tree: the tree
 * @index: the index
 * @shared: whether the path to it is shared with another tree, may be NULL
 *
 * Context: any.
 * Return: the leaf, or NULL if there is none.
 */
struct cowmem_node *cowmem_tree_leaf(const struct cowmem_tree *tree,
				     pgoff_t index, bool *shared)
{
	struct cowmem_node *node = tree->root;
	bool on_shared_path = false;

	if (!node || index >> level_shift(node->level) > COWMEM_NODE_MASK)
		return NULL;
	for (;;) {
		on_shared_path = on_shared_path || node_shared(node);
		if (!node->level)
			break;
		/* Somebody may just be adding it. */
		node = READ_ONCE(node->slots[node_slot(node, index)]);
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
	return tree_own(tree, index, 0, true, gently);
}

/**
 * cowmem_tree_add_leaf - put an empty leaf where there is none
 * @tree: the tree
 * @index: an index that no leaf covers
 * @gently: see cowmem_node_alloc()
 *
 * Context: may sleep; the shape of @tree stays as it is, but for leaves that others
 * add elsewhere in this way.
 * Return: the leaf; NULL if there is no private node to put it into, and
 * cowmem_tree_own() has to be called; -ENOMEM or -ENOSPC.
 */
struct cowmem_node *cowmem_tree_add_leaf(struct cowmem_tree *tree, pgoff_t index,
					 bool gently)
{
	struct cowmem_node *node = tree->root, *leaf;
	void **slot;

	if (!node || index > level_last(node->level))
		return NULL;
	while (node && node->level > 1 && !node_shared(node))
		node = node->slots[node_slot(node, index)];
	if (!node || node->level != 1 || node_shared(node))
		return NULL;
	slot = &node->slots[node_slot(node, index)];
	/* Somebody else may have been faster. */
	if (*slot)
		return *slot;
	leaf = cowmem_node_alloc(tree->account, gently);
	if (IS_ERR(leaf))
		return leaf;
	node_init(leaf, 0);
	spin_lock(&tree->granted_lock);
	node->nr++;
	spin_unlock(&tree->granted_lock);
	/* Who reads the slot without the leaf lock finds it initialized. */
	smp_store_release(slot, leaf);
	return leaf;
}

/**
 * cowmem_tree_own_edge - prepare to punch a hole that starts or ends at an index
 * @tree: the tree
 * @index: the first or last index to go
 *
 * Makes private what exists of the path.
 *
 * Context: may sleep; nobody else may use @tree.
 * Return: 0, -ENOMEM or -ENOSPC.
 */
int cowmem_tree_own_edge(struct cowmem_tree *tree, pgoff_t index)
{
	return PTR_ERR_OR_ZERO(tree_own(tree, index, 0, false, false));
}

/* Returns whether nothing is left below @node, whose first index is @base. */
static bool node_punch(struct cowmem_node *node, pgoff_t base, pgoff_t first,
		       pgoff_t last)
{
	pgoff_t span = 1UL << level_shift(node->level);
	unsigned int i = first > base ? (first - base) >> level_shift(node->level) : 0;

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
			node_put(entry);
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

	if (!root || first > level_last(root->level))
		return;
	if ((!first && last >= level_last(root->level)) ||
	    node_punch(root, 0, first, last)) {
		node_put(root);
		tree->root = NULL;
	}
}

/* Take away levels above the root of what is left, as far as nothing else is there. */
static void tree_lower(struct cowmem_tree *tree)
{
	struct cowmem_node *root;

	while ((root = tree->root) && root->level && root->nr == 1 && root->slots[0]) {
		tree->root = root->slots[0];
		refcount_inc(&tree->root->refs);
		node_put(root);
	}
}

/**
 * cowmem_tree_punch - turn a range into a hole
 * @tree: the tree
 * @first: first index to go
 * @last: last index to go
 *
 * Drops whole subtrees where it can, in time proportional to what no other
 * tree shares.  The paths to @first and @last must have been prepared with
 * cowmem_tree_own_edge().
 *
 * Context: may sleep; nobody else may use @tree.  Cannot fail.
 */
void cowmem_tree_punch(struct cowmem_tree *tree, pgoff_t first, pgoff_t last)
{
	tree_punch(tree, first, last);
	tree_lower(tree);
}

/**
 * struct walk - a way through one tree, or through two at a time
 * @index: where to start; then how far it has got: what lies before was looked at.
 * @budget: how many nodes more may be looked at, pairs count once.
 * @found: what was found.
 *
 * Who walks calls this for each node, from the root on, and stops where it returns
 * true: something was found, or the budget is used up.  To go on later costs the
 * path to @index once more.
 */
struct walk {
	pgoff_t index;
	unsigned long budget;
	u64 found;
};

/* About to look at what lies at @from and after it: returns whether to stop. */
static bool walk_stop(struct walk *walk, pgoff_t from)
{
	if (walk->index < from)
		walk->index = from;
	if (!walk->budget)
		return true;
	walk->budget--;
	return false;
}

/* Where to start in a node on @level, whose first index is @base. */
static unsigned int walk_slot(const struct walk *walk, pgoff_t base,
			      unsigned int level)
{
	return walk->index > base ? (walk->index - base) >> level_shift(level) : 0;
}

/*
 * Find the first index from walk->index on, below @node whose first index is @base,
 * that has a page (@data) or has none.  Returns whether to stop.
 */
static bool node_next(const struct cowmem_node *node, pgoff_t base, bool data,
		      struct walk *walk)
{
	pgoff_t span = 1UL << level_shift(node->level);
	unsigned int i = walk_slot(walk, base, node->level);

	if (walk_stop(walk, base))
		return true;
	/* Others may be adding pages: they are there now or the next time. */
	if (!node->level && !data && data_race(node->nr) == COWMEM_NODE_SLOTS)
		return false;
	for (; i < COWMEM_NODE_SLOTS; i++) {
		pgoff_t from = base + i * span;
		const void *entry = READ_ONCE(node->slots[i]);

		if (node->level && entry) {
			if (node_next(entry, from, data, walk))
				return true;
		} else if (!!entry == data) {
			walk->index = max(walk->index, from);
			walk->found = true;
			return true;
		}
	}
	return false;
}

/**
 * cowmem_tree_next - find data or a hole
 * @tree: the tree
 * @index: in, where to start; out, the first such index; or where to go on; or
 *	ULONG_MAX if there is no more data
 * @data: whether to look for a page or for a hole
 * @budget: in, how many nodes to look at, at most; out, how many are left
 *
 * The call gets ahead unless the path to @index alone uses up the budget.
 *
 * Context: any; takes time in proportion to the budget used.
 * Return: whether there is such an index; if not, and @index is not ULONG_MAX, the
 * budget is used up.
 */
bool cowmem_tree_next(const struct cowmem_tree *tree, pgoff_t *index, bool data,
		      unsigned long *budget)
{
	struct walk walk = { .index = *index, .budget = *budget };
	const struct cowmem_node *root = tree->root;
	pgoff_t last = root ? level_last(root->level) : 0;

	if (root && walk.index <= last && node_next(root, 0, data, &walk)) {
		*index = walk.index;
		*budget = walk.budget;
		return walk.found;
	}
	/* The tree is over. */
	*budget = walk.budget;
	if (data)
		*index = ULONG_MAX;
	else if (root && *index <= last)
		*index = last + 1;
	return !data;
}

/*
 * Add up the pages from walk->index to @last, below @node whose first index is @base.
 * Returns whether to stop.
 */
static bool node_count(const struct cowmem_node *node, pgoff_t base, pgoff_t last,
		       struct walk *walk)
{
	pgoff_t span = 1UL << level_shift(node->level);
	unsigned int i = walk_slot(walk, base, node->level);

	if (walk_stop(walk, base))
		return true;
	if (!node->level && !i && last - base >= COWMEM_NODE_MASK) {
		/* Others may be adding pages: they count now or the next time. */
		walk->found += data_race(node->nr);
		return false;
	}
	for (; i < COWMEM_NODE_SLOTS && base + i * span <= last; i++) {
		const void *entry = READ_ONCE(node->slots[i]);

		if (!entry)
			continue;
		if (!node->level)
			walk->found++;
		else if (node_count(entry, base + i * span, last, walk))
			return true;
	}
	return false;
}

/**
 * cowmem_tree_count - count the pages in a range
 * @tree: the tree
 * @index: in, the first index; out, where to go on, or ULONG_MAX if all were counted
 * @last: the last index
 * @budget: in, how many nodes to look at, at most; out, how many are left
 *
 * Looks at one word of a leaf that lies in the range as a whole.  The call gets ahead
 * unless the path to @index alone uses up the budget.
 *
 * Context: any; others may add pages meanwhile, which count or do not.
 * Return: how many pages there are from the start to where to go on, or to @last.
 */
u64 cowmem_tree_count(const struct cowmem_tree *tree, pgoff_t *index, pgoff_t last,
		      unsigned long *budget)
{
	struct walk walk = { .index = *index, .budget = *budget };
	const struct cowmem_node *root = tree->root;
	bool stopped = false;

	if (root && *index <= last && *index <= level_last(root->level))
		stopped = node_count(root, 0, last, &walk);
	*index = stopped ? walk.index : ULONG_MAX;
	*budget = walk.budget;
	return walk.found;
}

/*
 * The slots of @node, seen from @level, on which it may be only the first of the
 * slots of a node that there is none of.
 */
static void *const *level_slots(const struct cowmem_node *const *node,
				unsigned int level, unsigned int *nr)
{
	*nr = COWMEM_NODE_SLOTS;
	if (!*node)
		return empty_node.slots;
	if ((*node)->level == level)
		return (*node)->slots;
	*nr = 1;
	return (void *const *)node;
}

/* Are four slots the same? */
static bool four_same(void *const *xs, void *const *ys)
{
	/* One may be filled while we look: it differs now or the next time. */
	return data_race(xs[0] == ys[0] && xs[1] == ys[1] &&
			 xs[2] == ys[2] && xs[3] == ys[3]);
}

/* The first slot from @i on that differs; of most nodes that is few, so be quick. */
static unsigned int first_differ(void *const *xs, unsigned int nr_x,
				 void *const *ys, unsigned int nr_y, unsigned int i)
{
	if (nr_x != nr_y) {
		while (i < COWMEM_NODE_SLOTS &&
		       (i < nr_x ? READ_ONCE(xs[i]) : NULL) ==
		       (i < nr_y ? READ_ONCE(ys[i]) : NULL))
			i++;
		return i;
	}
	for (; i < COWMEM_NODE_SLOTS; i++) {
		while (!(i % 4) && i < COWMEM_NODE_SLOTS && four_same(xs + i, ys + i))
			i += 4;
		if (i < COWMEM_NODE_SLOTS && READ_ONCE(xs[i]) != READ_ONCE(ys[i]))
			break;
	}
	return i;
}

/*
 * Find the first leaf from walk->index on that differs, in what @x and @y hold on
 * @level from @base on.  Returns whether to stop.
 */
static bool node_diff(const struct cowmem_node *x, const struct cowmem_node *y,
		      unsigned int level, pgoff_t base, struct walk *walk)
{
	unsigned int i = walk_slot(walk, base, level);
	unsigned int nr_x, nr_y;
	void *const *xs = level_slots(&x, level, &nr_x);
	void *const *ys = level_slots(&y, level, &nr_y);

	if (walk_stop(walk, base))
		return true;
	for (; (i = first_differ(xs, nr_x, ys, nr_y, i)) < COWMEM_NODE_SLOTS; i++) {
		if (!level)
			walk->found |= BIT_ULL(i);
		/* Somebody may just be adding a leaf. */
		else if (node_diff(i < nr_x ? READ_ONCE(xs[i]) : NULL,
				   i < nr_y ? READ_ONCE(ys[i]) : NULL, level - 1,
				   base + ((pgoff_t)i << level_shift(level)), walk))
			return true;
	}
	if (!walk->found)
		return false;
	walk->index = base;
	return true;
}

/**
 * cowmem_tree_diff - find where two trees differ
 * @a: a tree
 * @b: another tree
 * @index: in, where to start; out, the first index of the leaf that was found; or
 *	where to go on; or ULONG_MAX if they do not differ any more
 * @budget: in, how many nodes to look at, at most, pairs count once; out, how many
 *	are left
 *
 * What the trees share is equal and not looked into, so this takes time in
 * proportion to what they do not share.  The call gets ahead unless the path to
 * @index alone uses up the budget.
 *
 * Context: any; takes time in proportion to the budget used.
 * Return: the slots from the start on that differ in the first leaf that has any,
 * one bit each; 0 if none was found: if @index is not ULONG_MAX, the budget is used
 * up.
 */
u64 cowmem_tree_diff(const struct cowmem_tree *a, const struct cowmem_tree *b,
		     pgoff_t *index, unsigned long *budget)
{
	struct walk walk = { .index = *index, .budget = *budget };
	const struct cowmem_node *x = a->root, *y = b->root;
	unsigned int level = max(x ? x->level : 0, y ? y->level : 0);
	bool stopped = false;

	if (x != y && *index <= level_last(level))
		stopped = node_diff(x, y, level, 0, &walk);
	*index = stopped ? walk.index : ULONG_MAX;
	*budget = walk.budget;
	return walk.found;
}

/* As cowmem_tree_only_granted(), for nodes on the same level. */
static bool node_only_granted(const struct cowmem_node *x,
			      const struct cowmem_node *y, unsigned int level,
			      unsigned long *budget)
{
	unsigned int i = 0, nr_x, nr_y;
	void *const *xs = level_slots(&x, level, &nr_x);
	void *const *ys = level_slots(&y, level, &nr_y);
	u64 differ = 0;

	if (!*budget)
		return false;
	--*budget;
	if (level)
		cond_resched();
	for (; (i = first_differ(xs, nr_x, ys, nr_y, i)) < COWMEM_NODE_SLOTS; i++) {
		const void *a = i < nr_x ? xs[i] : NULL;
		const void *b = i < nr_y ? ys[i] : NULL;

		if (!level)
			differ |= BIT_ULL(i);
		else if (!a || !node_only_granted(a, b, level - 1, budget))
			return false;
	}
	return level || differ == x->granted;
}

/**
 * cowmem_tree_only_granted - do two trees differ in granted pages only?
 * @a: a tree, which may have granted pages
 * @b: another one, which has none
 * @budget: in, how many nodes to look at, at most, pairs count once; out, how many
 *	are left
 *
 * Takes time in proportion to what the trees do not share.
 *
 * Context: may sleep; nobody else may use @a.
 * Return: whether the indices where they differ are those of @a's granted pages;
 * false if the budget was used up before that was known.
 */
bool cowmem_tree_only_granted(const struct cowmem_tree *a,
			      const struct cowmem_tree *b,
			      unsigned long *budget)
{
	const struct cowmem_node *x = a->root, *y = b->root;

	if (x == y)
		return true;
	return x && node_only_granted(x, y, max_t(unsigned int, x->level, y ? y->level : 0),
				      budget);
}

/* Move what @from holds to @node, which is on the same level and place. */
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

/**
 * cowmem_tree_graft - replace a range of one tree by all that another one holds
 * @tree: where it goes; cowmem_tree_own_edge() was called for the ends of the range
 * @first: first index of the range
 * @last: last index of the range
 * @from: what goes there, and holds nothing elsewhere; as high as @tree, unless one of
 *	them is empty; empty afterwards.  What the range does not cover as a whole is
 *	private in it.
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
	/* Only now: a tree that is lower than the other one cannot take it. */
	tree_lower(tree);
}

/**
 * cowmem_tree_swap - exchange what two trees hold
 * @a: a tree
 * @b: another one, without granted pages
 *
 * The list of granted pages goes with what has them: whoever destroys @b then does not
 * touch that of @a, which others may be using already.
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
 * cowmem_leaf_set - put a page into a private leaf, in place of what is there
 * @leaf: the leaf
 * @index: an index that it covers
 * @page: the page, whose reference the leaf takes over
 *
 * The caller takes over the reference to the page that was there before.
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
 * cowmem_leaf_fill - put pages of a folio into all slots of a private leaf
 * @leaf: the leaf, which is empty
 * @folio: the folio, which the leaf gets to hold
 * @large: its size, as in struct cowmem_node
 * @pages: its pages, in order
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

/**
 * cowmem_leaf_grant - note that a page may be written in place
 * @tree: the tree
 * @leaf: a leaf that only @tree reaches
 * @index: an index that it covers
 *
 * Context: any; the caller excludes others from the slots of @leaf, but not
 * from other leaves.
 */
void cowmem_leaf_grant(struct cowmem_tree *tree, struct cowmem_node *leaf,
		       pgoff_t index)
{
	cowmem_leaf_grant_slots(tree, leaf, index & ~(pgoff_t)COWMEM_NODE_MASK,
				BIT_ULL(cowmem_slot(index)));
}

/* Nothing of @leaf was granted before. */
static noinline void first_grant(struct cowmem_tree *tree, struct cowmem_node *leaf, pgoff_t base)
{
	leaf->base = base;
	spin_lock(&tree->granted_lock);
	list_add_tail(&leaf->granted_link, &tree->granted);
	spin_unlock(&tree->granted_lock);
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
 * cowmem_leaves_grant - note that pages of some leaves may be written in place
 * @tree: the tree
 * @leaves: the leaves, which only @tree reaches; one after the other, none has a page that
 *	is granted already
 * @nr: how many
 * @base: index of slot 0 of the first one
 *
 * To take that back takes little time, as they are one entry of the list.
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
 * cowmem_leaves_fold - leaves that are granted as a whole are to be granted together
 * @tree: the tree
 * @leaves: the leaves, one after the other, each granted for itself
 * @nr: how many
 *
 * Then they are as cowmem_leaves_grant() leaves them.
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
 * @leaf: the first one
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
 * cowmem_leaves_unfold - leaves that are granted together are to be so each for itself
 * @leaf: one of them; or one that is not
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
 * cowmem_leaf_ungrant - note that pages may be written in place no longer
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

/* Are the leaves with granted pages in order?  Who writes in order leaves them like that. */
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
 * Sorts by one digit of the index after the other, from the lowest on: a slot on the
 * path to the leaf is a digit.
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
			unsigned int i = cowmem_slot(leaf->base >> level_shift(level));

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
