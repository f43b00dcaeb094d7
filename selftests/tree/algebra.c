// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tests of what restore, diff and copy are made of: cowmem_tree_diff(),
 * cowmem_tree_raise(), cowmem_tree_graft() and cowmem_tree_swap().
 */
#include "harness.h"

#define SMALL	200UL
#define LARGE	(3 * SLOTS * SLOTS + 100)
#define HUGE	(20 * SLOTS * SLOTS)

/* Fill [0, @nr) but for about one in @holes; 0: no holes. */
static struct cowmem_tree *some_tree(unsigned long nr, unsigned int holes)
{
	struct cowmem_tree *tree = tree_new();
	unsigned long i;

	for (i = 0; i < nr; i++)
		if (!holes || rnd(holes))
			CHECK(!IS_ERR(tree_write(tree, i)));
	return tree;
}

/* ---- diff ---- */

static bool differs(const struct cowmem_tree *a, const struct cowmem_tree *b,
		    pgoff_t index)
{
	return tree_page(a, index) != tree_page(b, index);
}

/* What tree_diff() is to return, index by index. */
static pgoff_t brute_diff(const struct cowmem_tree *a,
			  const struct cowmem_tree *b, pgoff_t index,
			  bool differ)
{
	if (!differ) {
		while (differs(a, b, index))
			index++;
		return index;
	}
	for (;;) {
		index = min(tree_next(a, index, true),
			    tree_next(b, index, true));
		if (index == ULONG_MAX || differs(a, b, index))
			return index;
		index++;
	}
}

static void check_diff_at(const struct cowmem_tree *a,
			  const struct cowmem_tree *b, pgoff_t index)
{
	CHECK_EQ(tree_diff(a, b, index, true), brute_diff(a, b, index, true));
	CHECK_EQ(tree_diff(b, a, index, true), brute_diff(a, b, index, true));
	CHECK_EQ(tree_diff(a, b, index, false), brute_diff(a, b, index, false));
	CHECK_EQ(tree_diff(b, a, index, false), brute_diff(a, b, index, false));
}

static void check_diff(const struct cowmem_tree *a, const struct cowmem_tree *b,
		       pgoff_t nr)
{
	pgoff_t i;

	for (i = 0; i < nr; i++)
		check_diff_at(a, b, i);
}

/* Go through all that differs; how many pages, nodes and runs? */
struct runs {
	unsigned long pages, nodes, nr;
};

static struct runs all_runs(const struct cowmem_tree *a,
			    const struct cowmem_tree *b)
{
	struct runs runs = {};
	pgoff_t base = 0, end = 0;
	u64 slots;

	while ((slots = tree_diff_leaf(a, b, &base, &runs.nodes))) {
		for (; slots; slots &= slots - 1) {
			pgoff_t index = base + __ffs64(slots);

			CHECK(index >= end);
			runs.nr += !runs.nr || index > end;
			runs.pages++;
			end = index + 1;
		}
		base += SLOTS;
	}
	return runs;
}

static void test_diff_trivial(void)
{
	struct cowmem_tree *empty = tree_new(), *other = tree_new();
	struct cowmem_tree *tree = some_tree(SMALL, 0);
	struct cowmem_tree *clone = tree_clone_new(tree);
	unsigned long visited = 0;
	pgoff_t index = 5;

	/* Nothing has to be looked at where the roots are the same. */
	CHECK_EQ(tree_diff_leaf(empty, other, &index, &visited), 0);
	CHECK_EQ(index, ULONG_MAX);
	index = 5;
	CHECK_EQ(tree_diff_leaf(tree, tree, &index, &visited), 0);
	CHECK_EQ(index, ULONG_MAX);
	index = 5;
	CHECK_EQ(tree_diff_leaf(tree, clone, &index, &visited), 0);
	CHECK_EQ(index, ULONG_MAX);
	CHECK_EQ(visited, 0);
	CHECK_EQ(tree_diff(tree, clone, LAST, false), LAST);
	/* In the middle of a leaf, what lies before does not count. */
	index = 5;
	CHECK_EQ(tree_diff_leaf(tree, empty, &index, &visited), ~0ULL << 5);
	CHECK_EQ(index, 0);
	check_diff(tree, empty, SMALL + 300);
	check_diff_at(tree, empty, LAST);
	check_diff_at(tree, empty, 1UL << 30);

	/* A leaf without pages is no difference. */
	CHECK(!IS_ERR(cowmem_tree_own(empty, 70, false)));
	CHECK_EQ(tree_diff(empty, other, 0, true), ULONG_MAX);
	CHECK_EQ(tree_diff(other, empty, 0, true), ULONG_MAX);
	CHECK_EQ(tree_diff(empty, other, 70, false), 70);
	check_diff(tree, empty, SMALL + 300);
	/* A copied path is none either. */
	CHECK(!IS_ERR(cowmem_tree_own(clone, 70, false)));
	CHECK_EQ(tree_diff(tree, clone, 0, true), ULONG_MAX);
	check_forest(true);
}

/* Every range that was written, or punched, in a clone. */
static void test_diff_ranges(void)
{
	struct cowmem_tree *tree = some_tree(SMALL, 5);
	pgoff_t first, last, i;

	for (first = 0; first < SMALL + 70; first += 1 + rnd(3)) {
		for (last = first; last < SMALL + 70; last += 1 + rnd(23)) {
			struct cowmem_tree *clone = tree_clone_new(tree);

			if (rnd(2))
				tree_punch(clone, first, last);
			else
				for (i = first; i <= last; i++)
					tree_write(clone, i);
			for (i = 0; i < 12; i++)
				check_diff_at(tree, clone, rnd(SMALL + 140));
			check_diff_at(tree, clone, first);
			check_diff_at(tree, clone, last);
			check_diff_at(tree, clone, last + 1);
			tree_end(clone);
		}
	}
}

static void test_diff_random(void)
{
	unsigned int round, n;

	for (round = 0; round < 60; round++) {
		struct cowmem_tree *a = some_tree(5 * SMALL, rnd(3) * 2);
		struct cowmem_tree *b = rnd(4) ? tree_clone_new(a) :
						 some_tree(4 * SMALL, rnd(5));

		for (n = rnd(30); n; n--) {
			struct cowmem_tree *tree = rnd(2) ? a : b;
			pgoff_t first = rnd(5 * SMALL), last = first + rnd(150);

			if (rnd(2))
				tree_punch(tree, first, last);
			else
				for (; first <= last; first += 1 + rnd(9))
					tree_write(tree, first);
		}
		check_diff(a, b, 6 * SMALL);
		tree_end(a);
		tree_end(b);
	}
}

/* Trees of all heights against each other. */
static void test_diff_heights(void)
{
	static const pgoff_t tops[] = {
		0, 63, 64, 4095, 4096, 1UL << 18, 1UL << 24, 1UL << 30,
		LAST - 1, LAST,
	};
	unsigned int i, k, n;

	for (i = 0; i < ARRAY_SIZE(tops); i++) {
		for (k = 0; k < ARRAY_SIZE(tops); k++) {
			struct cowmem_tree *a = some_tree(rnd(SMALL), 3), *b;

			b = rnd(2) ? tree_clone_new(a) : some_tree(SMALL, 3);
			tree_write(a, tops[i]);
			tree_write(b, tops[k]);
			if (rnd(2))
				tree_punch(b, 0, min(tops[k], SMALL) / 2);
			check_diff(a, b, SMALL + 80);
			for (n = 0; n < ARRAY_SIZE(tops); n++) {
				check_diff_at(a, b, tops[n]);
				check_diff_at(a, b, tops[n] + 1);
				if (tops[n])
					check_diff_at(a, b, tops[n] - 1);
			}
			check_forest(false);
			tree_end(a);
			tree_end(b);
		}
	}
}

/* What is shared costs nothing, so the size of the tree does not matter. */
static void test_diff_cost(void)
{
	struct cowmem_tree *large = some_tree(LARGE, 0);
	struct cowmem_tree *huge = some_tree(HUGE, 0);
	struct cowmem_tree *a = tree_clone_new(large);
	struct cowmem_tree *b = tree_clone_new(huge);
	struct runs x, y;
	unsigned int i;

	for (i = 0; i < 100; i++) {
		tree_write(a, i * 121);
		tree_write(b, i * 121);
	}
	x = all_runs(large, a);
	y = all_runs(huge, b);
	CHECK_EQ(x.pages, 100);
	CHECK_EQ(y.pages, 100);
	CHECK_EQ(x.nr, 100);
	CHECK_EQ(x.nodes, y.nodes);
	/* One walk for each leaf, and one to the end, of a path each. */
	CHECK(x.nodes <= (100 + 1) * 4);
	CHECK_EQ(all_runs(a, large).nodes, x.nodes);

	/* One run: a path for each leaf. */
	x = all_runs(huge, large);
	CHECK_EQ(x.nr, 1);
	CHECK_EQ(x.pages, HUGE);
	CHECK(x.nodes <= (HUGE / 64 + 1) * 3);
	/* All below one node that only one of them has. */
	tree_end(b);
	b = tree_clone_new(huge);
	tree_punch(b, 4096, 8191);
	x = all_runs(huge, b);
	CHECK_EQ(x.nr, 1);
	CHECK_EQ(x.pages, 4096);
	CHECK(x.nodes <= (64 + 1) * 3);
}

/* ---- raise, graft: copy_locked() of snapshot.c without the locks ---- */

/* Returns an error with the pages of either tree as they were. */
static int tree_copy(struct cowmem_tree *dst, pgoff_t to,
		     const struct cowmem_tree *src, pgoff_t from, pgoff_t nr)
{
	struct cowmem_tree *fresh = tree_new();
	unsigned long allocs;
	int err;

	err = cowmem_tree_share(fresh, to, src, from, nr);
	if (!err)
		err = cowmem_tree_own_edge(dst, to);
	if (!err)
		err = cowmem_tree_own_edge(dst, to + nr - 1);
	if (!err)
		err = cowmem_tree_raise(dst, fresh);
	if (!err)
		err = cowmem_tree_raise(fresh, dst);
	check_forest(false);
	if (err) {
		tree_end(fresh);
		return err;
	}
	allocs = nr_allocs;
	cowmem_tree_graft(dst, to, to + nr - 1, fresh);
	check_height(dst);
	CHECK_EQ(nr_allocs, allocs);
	CHECK(!fresh->root);
	tree_end(fresh);
	return 0;
}

/* Copy, and compare with an array that a memmove() was done to. */
static void copy_and_check(struct cowmem_tree *dst, struct page **dst_pages,
			   pgoff_t to, const struct cowmem_tree *src,
			   struct page **src_pages, pgoff_t from, pgoff_t nr,
			   unsigned long size)
{
	unsigned long pages = nr_pages;

	CHECK_EQ(tree_copy(dst, to, src, from, nr), 0);
	memmove(dst_pages + to, src_pages + from, nr * sizeof(*dst_pages));
	check_forest(false);
	check_pages(dst, dst_pages, 0, size);
	if (dst != src)
		check_pages(src, src_pages, 0, size);
	/* Some may have gone, none have come. */
	CHECK(nr_pages <= pages);
}

static void note_pages(const struct cowmem_tree *tree, struct page **pages,
		       unsigned long nr)
{
	unsigned long i;

	for (i = 0; i < nr; i++)
		pages[i] = tree_page(tree, i);
}

/* Whether nodes are shared beforehand, and with whom. */
enum shared { PRIVATE, DST_CLONED, SRC_CLONED, EACH_OTHER, NR_SHARED };

static void test_copy_all(void)
{
	static const pgoff_t at[] = { 0, 1, 62, 63, 64, 65, 127, 128, 150 };
	static const pgoff_t nrs[] = { 1, 2, 63, 64, 65, 70, 128, 129, 192 };
	enum { SIZE = 400 };
	struct page *s[SIZE], *d[SIZE], *c[SIZE];
	unsigned int i, j, k, how;

	for (how = 0; how < NR_SHARED; how++)
	for (i = 0; i < ARRAY_SIZE(at); i++)
	for (j = 0; j < ARRAY_SIZE(at); j++)
	for (k = 0; k < ARRAY_SIZE(nrs); k++) {
		struct cowmem_tree *src = some_tree(SMALL, 4), *dst, *clone;

		dst = how == EACH_OTHER ? tree_clone_new(src) :
					  some_tree(SMALL + 50, 3);
		if (how == EACH_OTHER)
			tree_write(dst, rnd(SMALL));
		clone = how == DST_CLONED ? tree_clone_new(dst) :
			how == SRC_CLONED ? tree_clone_new(src) : NULL;
		if (clone)
			note_pages(clone, c, SIZE);
		note_pages(src, s, SIZE);
		note_pages(dst, d, SIZE);
		copy_and_check(dst, d, at[j], src, s, at[i], nrs[k], SIZE);
		/* Within one tree, forth and back. */
		copy_and_check(dst, d, at[i], dst, d, at[j], nrs[k], SIZE);
		/* Writes do not go where the pages came from. */
		d[at[i]] = tree_write(dst, at[i]);
		check_pages(dst, d, 0, SIZE);
		check_pages(src, s, 0, SIZE);
		tree_end(src);
		check_pages(dst, d, 0, SIZE);
		check_forest(false);
		tree_end(dst);
		if (clone) {
			check_pages(clone, c, 0, SIZE);
			tree_end(clone);
		}
		CHECK_EQ(nr_nodes, 0);
	}
}

static void test_copy_random(void)
{
	static struct page *pages[3][2 * LARGE];
	struct cowmem_tree *trees[3];
	unsigned int i, n;

	for (i = 0; i < 3; i++) {
		trees[i] = some_tree(LARGE >> i, i * 2);
		note_pages(trees[i], pages[i], 2 * LARGE);
	}
	for (n = 0; n < 250; n++) {
		static const pgoff_t units[] = { 1, 64, 4096 };
		unsigned int a = rnd(3), b = rnd(3);
		pgoff_t unit = units[rnd(3)];
		pgoff_t from = rnd(LARGE), to, nr;

		to = (from + rnd(2 * LARGE) / unit * unit) % (2 * LARGE);
		nr = 1 + rnd(2 * LARGE - max(to, from));
		if (rnd(2))
			nr = min(nr, 1 + rnd(200));
		copy_and_check(trees[b], pages[b], to, trees[a], pages[a], from,
			       nr, 2 * LARGE);
		if (!rnd(4)) {
			i = rnd(LARGE);
			pages[a][i] = tree_write(trees[a], i);
		}
		if (!rnd(20)) {
			tree_end(trees[a]);
			trees[a] = tree_clone_new(trees[(a + 1) % 3]);
			memcpy(pages[a], pages[(a + 1) % 3], sizeof(pages[a]));
		}
	}
}

/* Heights: the one, the other or none has to be raised, or is empty. */
static void test_copy_heights(void)
{
	static const pgoff_t at[] = {
		0, 70, 4096, 1UL << 18, (1UL << 18) + 4000, 1UL << 24,
		(1UL << 30) + 5, LAST - 90,
	};
	unsigned int i, j, k;

	for (i = 0; i < ARRAY_SIZE(at); i++)
	for (j = 0; j < ARRAY_SIZE(at); j++)
	for (k = 0; k < 4; k++) {
		struct cowmem_tree *src = tree_new(), *dst = tree_new();
		struct cowmem_tree *before;
		struct page *low = NULL, *next = NULL;
		pgoff_t n;

		if (k & 1) {
			low = tree_write(dst, 7);
			next = tree_write(dst, at[j] + 71);
			if (at[j] <= 7 && at[j] + 70 > 7)
				low = NULL;
		}
		if (k & 2)
			for (n = 0; n < 70; n += 3)
				tree_write(src, at[i] + n);
		before = tree_clone_new(dst);
		CHECK_EQ(tree_copy(dst, at[j], src, at[i], 70), 0);
		check_forest(false);
		for (n = 0; n < 70; n++)
			CHECK(tree_page(dst, at[j] + n) ==
			      tree_page(src, at[i] + n));
		CHECK(tree_page(dst, at[j] + 71) == next);
		if (low)
			CHECK(tree_page(dst, 7) == low);
		CHECK_EQ(tree_count(before), k & 1 ? 2 : 0);
		CHECK_EQ(tree_count(dst), !!low + !!next + (k & 2 ? 24 : 0));
		if (!tree_count(dst))
			CHECK(!dst->root);
		tree_end(before);
		tree_end(src);
		tree_end(dst);
	}
}

/* No work for what is shared as a whole. */
static void test_copy_cost(void)
{
	struct cowmem_tree *src = some_tree(HUGE, 0);
	struct cowmem_tree *dst = tree_clone_new(src);
	unsigned long allocs = nr_allocs;

	/* A root for fresh, and copies of the root, and a path at either end. */
	CHECK_EQ(tree_copy(dst, 4096, src, 8192, 10 * 4096), 0);
	CHECK(nr_allocs - allocs <= 1 + 3 + 2);
	allocs = nr_allocs;
	/* The path is private now, and stays so. */
	CHECK_EQ(tree_copy(dst, 4096, src, 3 * 4096, 10 * 4096), 0);
	CHECK(nr_allocs - allocs <= 1 + 4);
	allocs = nr_allocs;
	CHECK_EQ(tree_copy(dst, 64, src, 640, 64 * 20), 0);
	CHECK(nr_allocs - allocs <= 3 + 3 + 2);
	check_forest(false);
	CHECK_EQ(nr_pages, HUGE);
}

static void test_copy_fails(void)
{
	static const struct {
		pgoff_t to, from, nr;
	} ranges[] = {
		{ 0, 70, 100 }, { 100, 64, 4200 }, { 4096, 0, 4096 },
		{ 1UL << 24, 3, 70 }, { 5, 4096, 1 }, { 4000, 3900, 500 },
	};
	static struct page *s[LARGE], *d[LARGE], *left[LARGE];
	unsigned int i, n, how, failed = 0;

	for (how = 0; how < 4; how++)
	for (i = 0; i < ARRAY_SIZE(ranges); i++) {
		struct cowmem_tree *src = some_tree(LARGE, 7), *dst, *clone;

		/* Low, empty, another tree, the same one. */
		dst = how == 0 ? some_tree(60, 2) : how == 1 ? tree_new() :
		      how == 2 ? tree_clone_new(src) : src;
		clone = tree_clone_new(dst);
		note_pages(src, s, LARGE);
		note_pages(dst, d, LARGE);
		for (n = 1; ; n++) {
			int want = n % 2 ? -ENOMEM : -ENOSPC, err;
			unsigned long nodes = nr_nodes;

			inject(n, want);
			err = tree_copy(dst, ranges[i].to, src, ranges[i].from,
					ranges[i].nr);
			if (!injected()) {
				inject(0, 0);
				CHECK_EQ(err, 0);
				break;
			}
			CHECK_EQ(err, want);
			check_forest(false);
			check_pages(src, s, 0, LARGE);
			check_pages(dst, d, 0, LARGE);
			check_pages(clone, d, 0, LARGE);
			/* Edges that are private and the height may stay. */
			CHECK(nr_nodes <= nodes + 20);
			failed++;
		}
		check_pages(clone, d, 0, LARGE);
		memcpy(left, s, sizeof(s));
		if (dst == src && ranges[i].to + ranges[i].nr <= LARGE) {
			memmove(left + ranges[i].to, s + ranges[i].from,
				ranges[i].nr * sizeof(*s));
			check_pages(src, left, 0, LARGE);
		}
		tree_end(clone);
		if (dst != src)
			tree_end(dst);
		tree_end(src);
		CHECK_EQ(nr_nodes, 0);
	}
	CHECK(failed > 50);
}

static void test_raise(void)
{
	struct cowmem_tree *low = some_tree(60, 2), *high = tree_new();
	struct cowmem_tree *empty = tree_new(), *clone = tree_clone_new(low);
	struct page *pages[60], *far = tree_write(high, LAST);
	struct cowmem_node *root = low->root;
	unsigned long allocs;

	note_pages(low, pages, 60);
	allocs = nr_allocs;
	CHECK_EQ(cowmem_tree_raise(low, low), 0);
	CHECK_EQ(cowmem_tree_raise(high, low), 0);
	CHECK_EQ(cowmem_tree_raise(low, empty), 0);
	CHECK_EQ(cowmem_tree_raise(empty, high), 0);
	CHECK(!empty->root && low->root == root);
	CHECK_EQ(nr_allocs, allocs);

	/* All the way or not at all: one node for each level. */
	CHECK_EQ(FAIL_EACH(cowmem_tree_raise(low, high)),
		 high->root->level - root->level);
	check_forest(false);
	check_pages(low, pages, 0, 60);
	check_pages(clone, pages, 0, 60);
	CHECK_EQ(low->root->level, high->root->level);
	CHECK(clone->root == root);
	/* A tree higher than it has to be is as good as any other. */
	CHECK_EQ(tree_next(low, 60, true), ULONG_MAX);
	check_diff(low, high, 200);
	check_diff(low, clone, 200);
	CHECK_EQ(all_runs(low, clone).pages, 0);
	tree_write(low, 4096);
	tree_punch(low, 4096, 4096);
	CHECK_EQ(low->root->level, root->level);
	check_forest(false);
	tree_punch(low, 0, LAST);
	CHECK(!low->root);
	CHECK(tree_page(high, LAST) == far);
}

static void test_graft(void)
{
	struct cowmem_tree *a = tree_new(), *b = tree_new();
	struct cowmem_node *leaf;
	struct page *x, *y, *z;

	/* Two empty ones, either way round. */
	cowmem_tree_graft(a, 0, LAST, b);
	CHECK(!a->root && !b->root);
	x = tree_write(b, 70);
	cowmem_tree_graft(a, 64, 127, b);
	CHECK(!b->root && tree_page(a, 70) == x);
	cowmem_tree_graft(a, 71, 127, b);
	CHECK(!b->root && tree_page(a, 70) == x);
	check_forest(false);

	/* What is as high as it has to be, and what the other one was raised to. */
	tree_write(a, LAST);
	y = tree_write(b, 71);
	CHECK_EQ(cowmem_tree_raise(b, a), 0);
	cowmem_tree_graft(a, 71, LAST, b);
	check_height(a);
	CHECK_EQ(a->root->level, 1);
	CHECK(tree_page(a, 70) == x && tree_page(a, 71) == y);
	tree_punch(a, 71, 71);
	check_forest(false);

	/* Two halves of a leaf; what is granted stays so. */
	leaf = cowmem_tree_own(a, 70, false);
	tree_grant(a, leaf, 70);
	y = tree_write(b, 71);
	z = tree_write(b, 4000);
	cowmem_tree_graft(a, 71, 4000, b);
	check_forest(false);
	CHECK(!b->root);
	CHECK(tree_page(a, 70) == x && tree_page(a, 71) == y &&
	      tree_page(a, 4000) == z);
	CHECK_EQ(tree_count(a), 3);
	CHECK_EQ(leaf->nr, 2);
	CHECK_EQ(leaf->granted, BIT_ULL(6));
	tree_punch(a, 70, 70);
	check_forest(false);
	tree_punch(a, 71, 71);
	CHECK(!cowmem_tree_leaf(a, 70, NULL));
	check_forest(false);
}

/* ---- swap: restore_locked() without the locks ---- */

static void test_swap(void)
{
	struct page *s[SMALL], *d[SMALL];
	unsigned int round, i;

	for (round = 0; round < 30; round++) {
		struct cowmem_tree *src = some_tree(SMALL, rnd(4)), *dst;
		struct cowmem_tree *keep, *fresh = tree_new();
		unsigned long nodes;

		dst = round % 2 ? tree_clone_new(src) : some_tree(SMALL, 3);
		keep = tree_clone_new(dst);
		note_pages(dst, d, SMALL);
		for (i = rnd(5); i < SMALL; i += 1 + rnd(30)) {
			tree_write(dst, i);
			tree_grant(dst, cowmem_tree_own(dst, i, false), i);
		}
		CHECK(!list_empty(&dst->granted));
		note_pages(src, s, SMALL);
		cowmem_tree_clone(fresh, src);
		cowmem_tree_swap(dst, fresh);
		CHECK(dst->root == src->root);
		nodes = nr_nodes;
		tree_end(fresh);
		CHECK(nr_nodes < nodes);
		CHECK(list_empty(&dst->granted));
		check_forest(false);
		check_pages(dst, s, 0, SMALL);
		check_pages(src, s, 0, SMALL);
		check_pages(keep, d, 0, SMALL);
		CHECK_EQ(all_runs(dst, src).nodes, 0);
		/* And the next round of writes. */
		tree_write(dst, 3);
		tree_grant(dst, cowmem_tree_own(dst, 3, false), 3);
		check_forest(false);
		check_pages(src, s, 0, SMALL);
		tree_end(src);
		tree_end(dst);
		tree_end(keep);
		CHECK_EQ(nr_nodes, 0);
	}
}

/* With an empty tree, either way. */
static void test_swap_empty(void)
{
	struct cowmem_tree *a = some_tree(SMALL, 2), *b = tree_new();

	tree_write(a, 9);
	tree_grant(a, cowmem_tree_own(a, 9, false), 9);
	cowmem_tree_swap(a, b);
	CHECK(!a->root && tree_count(b));
	tree_end(b);
	CHECK(list_empty(&a->granted));
	CHECK_EQ(nr_pages, 0);
	b = some_tree(SMALL, 2);
	cowmem_tree_swap(a, b);
	CHECK(!b->root && tree_count(a));
	check_forest(false);
}

const struct test algebra_tests[] = {
	{ "diff: nothing to see", test_diff_trivial },
	{ "diff: every range", test_diff_ranges },
	{ "diff: random", test_diff_random },
	{ "diff: different heights", test_diff_heights },
	{ "diff: what is shared costs nothing", test_diff_cost },
	{ "copy: every alignment", test_copy_all },
	{ "copy: random", test_copy_random },
	{ "copy: heights", test_copy_heights },
	{ "copy: whole subtrees", test_copy_cost },
	{ "copy: each allocation fails", test_copy_fails },
	{ "raise", test_raise },
	{ "graft", test_graft },
	{ "swap", test_swap },
	{ "swap with an empty tree", test_swap_empty },
};

const unsigned int nr_algebra_tests = ARRAY_SIZE(algebra_tests);
