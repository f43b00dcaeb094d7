// SPDX-License-Identifier: GPL-2.0-only
/*
 * Walks through trees that change nothing: finding, counting and comparing pages
 *
 * See tree.c for the model and the conventions.
 */
#include <linux/bitops.h>
#include <linux/kernel.h>
#include <linux/sched.h>

#include "tree-walk.h"

/* Stands in for a node that does not exist. */
static const struct cowmem_node empty_node;

/**
 * struct walk - a walk through one tree, or through two at a time
 * @index: where to start; later how far the walk has come: what lies before was visited.
 * @budget: how many more nodes may be visited; a pair counts once.
 * @found: what was found.
 *
 * A walk starts at the root and calls walk_stop() for each node that it visits.  It ends
 * where it found something, or where the budget is used up.  Going on from there later costs
 * the path to @index once more.
 */
struct walk {
	pgoff_t index;
	unsigned long budget;
	u64 found;
};

/* The walk is about to visit what lies at @from and after it.  Returns whether to stop. */
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
	return walk->index > base ? (walk->index - base) >> cowmem_level_shift(level) : 0;
}

/*
 * Below @node, whose first index is @base, find the first index from walk->index on that
 * has a page, or without @data one that has none.  Returns whether to stop.
 */
static bool node_next(const struct cowmem_node *node, pgoff_t base, bool data,
		      struct walk *walk)
{
	pgoff_t span = 1UL << cowmem_level_shift(node->level);
	unsigned int i = walk_slot(walk, base, node->level);

	if (walk_stop(walk, base))
		return true;
	/* Others may be adding pages: a page is found now or by the next walk. */
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
 * @index: in, where to start; out, the first such index, or where to continue, or
 *	ULONG_MAX if there is no more data
 * @data: whether to look for a page or for a hole
 * @budget: in, the most nodes to visit; out, how many are left
 *
 * The call makes progress unless the path to @index alone uses up the budget.
 *
 * Context: any; takes time in proportion to the budget used.
 * Return: whether such an index was found.  If not, and @index is not ULONG_MAX, the budget
 * is used up.
 */
bool cowmem_tree_next(const struct cowmem_tree *tree, pgoff_t *index, bool data,
		      unsigned long *budget)
{
	struct walk walk = { .index = *index, .budget = *budget };
	const struct cowmem_node *root = tree->root;
	pgoff_t last = root ? cowmem_level_last(root->level) : 0;

	if (root && walk.index <= last && node_next(root, 0, data, &walk)) {
		*index = walk.index;
		*budget = walk.budget;
		return walk.found;
	}
	/* This is the end of the tree. */
	*budget = walk.budget;
	if (data)
		*index = ULONG_MAX;
	else if (root && *index <= last)
		*index = last + 1;
	return !data;
}

/*
 * Below @node, whose first index is @base, count the pages from walk->index to @last.
 * Returns whether to stop.
 */
static bool node_count(const struct cowmem_node *node, pgoff_t base, pgoff_t last,
		       struct walk *walk)
{
	pgoff_t span = 1UL << cowmem_level_shift(node->level);
	unsigned int i = walk_slot(walk, base, node->level);

	if (walk_stop(walk, base))
		return true;
	if (!node->level && !i && last - base >= COWMEM_NODE_MASK) {
		/* Others may be adding pages: a page counts now or in the next walk. */
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
 * @index: in, the first index; out, where to continue, or ULONG_MAX if all were counted
 * @last: the last index
 * @budget: in, the most nodes to visit; out, how many are left
 *
 * A leaf that lies in the range as a whole takes one look at its count.  The call makes
 * progress unless the path to @index alone uses up the budget.
 *
 * Context: any; pages that others add meanwhile may or may not count.
 * Return: how many pages there are from the start to where to continue, or to @last.
 */
u64 cowmem_tree_count(const struct cowmem_tree *tree, pgoff_t *index, pgoff_t last,
		      unsigned long *budget)
{
	struct walk walk = { .index = *index, .budget = *budget };
	const struct cowmem_node *root = tree->root;
	bool stopped = false;

	if (root && *index <= last && *index <= cowmem_level_last(root->level))
		stopped = node_count(root, 0, last, &walk);
	*index = stopped ? walk.index : ULONG_MAX;
	*budget = walk.budget;
	return walk.found;
}

/*
 * The slots of @node on @level.  A root that is not as high as @level counts as slot 0 of a
 * node that does not exist.
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
	/* A slot may be filled right now: it differs now or in the next walk. */
	return data_race(xs[0] == ys[0] && xs[1] == ys[1] &&
			 xs[2] == ys[2] && xs[3] == ys[3]);
}

/* The first slot from @i on that differs.  Most nodes have few of them, so be quick. */
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
 * Find the first leaf from walk->index on that differs between @x and @y, whose first index
 * is @base, seen from @level.  Returns whether to stop.
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
		/* Another task may be adding a leaf right now. */
		else if (node_diff(i < nr_x ? READ_ONCE(xs[i]) : NULL,
				   i < nr_y ? READ_ONCE(ys[i]) : NULL, level - 1,
				   base + ((pgoff_t)i << cowmem_level_shift(level)), walk))
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
 * @index: in, where to start; out, the first index of the leaf that was found, or where to
 *	continue, or ULONG_MAX if there are no more differences
 * @budget: in, the most nodes to visit, where a pair counts once; out, how many are left
 *
 * What the trees share is equal and is not visited, so the time this takes is proportional
 * to what they do not share.  The call makes progress unless the path to @index alone uses
 * up the budget.
 *
 * Context: any; takes time in proportion to the budget used.
 * Return: the slots that differ in the first leaf with differences, one bit each; in the
 * leaf of the start only those from there on.  0 if no leaf was found; then, if @index is
 * not ULONG_MAX, the budget is used up.
 */
u64 cowmem_tree_diff(const struct cowmem_tree *a, const struct cowmem_tree *b,
		     pgoff_t *index, unsigned long *budget)
{
	struct walk walk = { .index = *index, .budget = *budget };
	const struct cowmem_node *x = a->root, *y = b->root;
	unsigned int level = max(x ? x->level : 0, y ? y->level : 0);
	bool stopped = false;

	if (x != y && *index <= cowmem_level_last(level))
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
 * @budget: in, the most nodes to visit, where a pair counts once; out, how many are left
 *
 * The time this takes is proportional to what the trees do not share.
 *
 * Context: may sleep; nobody else may use @a.
 * Return: whether the trees differ exactly where @a has granted pages; false if the budget
 * was used up before that was known.
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
