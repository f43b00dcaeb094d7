// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tests of the page index, one promise each.
 */
#include <pthread.h>

#include "harness.h"

/* A dense tree of two levels and of three, not whole leaves. */
#define SMALL	200UL
#define LARGE	(3 * SLOTS * SLOTS + 100)

/* Where levels begin and end. */
static const pgoff_t some_indices[] = {
	0, 1, 63, 64, 4095, 4096, (1UL << 18) - 1, 1UL << 18, (1UL << 24) + 77,
	LAST - 1, LAST,
};

/* How many levels a tree has to have for an index. */
static unsigned int levels_for(pgoff_t index)
{
	unsigned int nr = 1;

	while (index >>= COWMEM_NODE_SHIFT)
		nr++;
	return nr;
}

/* Fills the first @nr indices that are in the pattern; notes the pages. */
enum pattern { DENSE, EVERY_SEVENTH, LEAF_ENDS, NR_PATTERNS };

static struct cowmem_tree *fill(struct page **pages, unsigned long nr,
				enum pattern pattern)
{
	struct cowmem_tree *tree = tree_new();
	unsigned long i;

	for (i = 0; i < nr; i++) {
		pages[i] = NULL;
		if ((pattern == EVERY_SEVENTH && i % 7) ||
		    (pattern == LEAF_ENDS && i % SLOTS && (i + 1) % SLOTS))
			continue;
		pages[i] = tree_write(tree, i);
		CHECK(!IS_ERR(pages[i]));
	}
	return tree;
}

static void test_empty(void)
{
	struct cowmem_tree *tree = tree_new(), *other = tree_new();
	bool shared;

	CHECK(!cowmem_tree_leaf(tree, 0, &shared));
	CHECK(!cowmem_tree_leaf(tree, LAST, NULL));
	CHECK_EQ(tree_next(tree, 5, true), ULONG_MAX);
	CHECK_EQ(tree_next(tree, 5, false), 5);
	tree_punch(tree, 0, ULONG_MAX);
	tree_punch(tree, 3, LAST);
	CHECK_EQ(cowmem_tree_share(other, 0, tree, 0, ULONG_MAX), 0);
	cowmem_tree_clone(other, tree);
	CHECK(!tree->root && !other->root);
	CHECK_EQ(nr_allocs, 0);
}

static void test_lookup(void)
{
	unsigned int i, k;

	for (i = 0; i < ARRAY_SIZE(some_indices); i++) {
		struct cowmem_tree *tree = tree_new();
		pgoff_t index = some_indices[i];
		struct page *page;
		bool shared = true;

		page = tree_write(tree, index);
		CHECK_EQ(nr_allocs, levels_for(index));
		check_forest(false);
		for (k = 0; k < ARRAY_SIZE(some_indices); k++)
			CHECK(tree_page(tree, some_indices[k]) ==
			      (k == i ? page : NULL));
		CHECK(!tree_page(tree, ULONG_MAX));
		CHECK(cowmem_tree_leaf(tree, index, &shared));
		CHECK(!shared);
		CHECK_EQ(tree_count(tree), 1);

		/* Another page takes its place. */
		page = tree_write(tree, index);
		CHECK_EQ(nr_allocs, levels_for(index));
		CHECK(tree_page(tree, index) == page);
		CHECK_EQ(tree_count(tree), 1);
		check_forest(false);
		tree_end(tree);
		nr_allocs = 0;
	}
}

static void test_own(void)
{
	struct cowmem_tree *tree = tree_new();
	struct cowmem_node *leaf = cowmem_tree_own(tree, 70, false);

	/* An empty leaf, until somebody puts a page there. */
	CHECK(!IS_ERR(leaf));
	CHECK_EQ(leaf->nr, 0);
	CHECK(cowmem_tree_leaf(tree, 64, NULL) == leaf);
	CHECK(!cowmem_tree_leaf(tree, 63, NULL));
	CHECK_EQ(tree_next(tree, 0, true), ULONG_MAX);
	check_forest(true);
	CHECK(cowmem_tree_own(tree, 127, false) == leaf);
	CHECK(cowmem_tree_own(tree, 128, false) != leaf);
	CHECK_EQ(nr_allocs, 3);
	check_forest(true);
}

static void test_add_leaf(void)
{
	struct cowmem_tree *tree = tree_new(), *clone;
	struct cowmem_node *leaf;

	/* There has to be a node above it, */
	CHECK(!cowmem_tree_add_leaf(tree, 0, false));
	CHECK(!IS_ERR(cowmem_tree_own(tree, 5, false)));
	CHECK(!cowmem_tree_add_leaf(tree, 70, false));
	CHECK(!IS_ERR(cowmem_tree_own(tree, 70, false)));
	CHECK(!cowmem_tree_add_leaf(tree, 64 * 64, false));
	CHECK(!IS_ERR(cowmem_tree_own(tree, 2 * 64 * 64, false)));
	CHECK(!cowmem_tree_add_leaf(tree, 64 * 64, false));

	leaf = cowmem_tree_add_leaf(tree, 3 * 64, false);
	CHECK(leaf && !IS_ERR(leaf));
	CHECK_EQ(leaf->nr, 0);
	CHECK_EQ(leaf->level, 0);
	CHECK(cowmem_tree_leaf(tree, 4 * 64 - 1, NULL) == leaf);
	CHECK(!cowmem_tree_leaf(tree, 4 * 64, NULL));
	CHECK(cowmem_tree_add_leaf(tree, 3 * 64 + 7, false) == leaf);
	check_forest(true);

	/* that no other tree shares, */
	clone = tree_clone_new(tree);
	CHECK(!cowmem_tree_add_leaf(tree, 5 * 64, false));
	CHECK(!IS_ERR(cowmem_tree_own(tree, 0, false)));
	leaf = cowmem_tree_add_leaf(tree, 5 * 64, false);
	CHECK(leaf && !IS_ERR(leaf));
	CHECK(!cowmem_tree_leaf(clone, 5 * 64, NULL));
	check_forest(true);

	/* and memory. */
	inject(1, -ENOSPC);
	CHECK_EQ(PTR_ERR(cowmem_tree_add_leaf(tree, 6 * 64, false)), -ENOSPC);
	CHECK(injected());
	CHECK(!cowmem_tree_leaf(tree, 6 * 64, NULL));
	check_forest(true);
}

static void test_growth(void)
{
	struct page *pages[ARRAY_SIZE(some_indices)];
	struct cowmem_tree *tree = tree_new();
	unsigned int i, k;

	for (i = 0; i < ARRAY_SIZE(some_indices); i++) {
		pages[i] = tree_write(tree, some_indices[i]);
		check_forest(false);
		CHECK_EQ(tree->root->level + 1U, levels_for(some_indices[i]));
		for (k = 0; k <= i; k++)
			CHECK(tree_page(tree, some_indices[k]) == pages[k]);
		CHECK_EQ(tree_count(tree), i + 1);
	}
}

static void test_clone_is_constant(void)
{
	struct page *pages[LARGE];
	struct cowmem_tree *tree = fill(pages, LARGE, DENSE), *clone;
	unsigned long allocs = nr_allocs, nodes = nr_nodes, i;
	bool shared = false;

	clone = tree_new();
	cowmem_tree_clone(clone, tree);
	CHECK(clone->root == tree->root);
	CHECK_EQ(nr_allocs, allocs);
	CHECK_EQ(nr_nodes, nodes);
	CHECK_EQ(nr_pages, LARGE);
	for (i = 0; i < LARGE; i++)
		CHECK_EQ(pages[i]->holders, 1);
	check_pages(clone, pages, 0, LARGE);
	/* The leaf itself has one reference, but not its path. */
	CHECK(cowmem_tree_leaf(tree, 5000, &shared) && shared);
	shared = false;
	CHECK(cowmem_tree_leaf(clone, 5000, &shared) && shared);
	check_forest(false);
	tree_end(tree);
	CHECK(cowmem_tree_leaf(clone, 5000, &shared) && !shared);
	CHECK_EQ(nr_nodes, nodes);
	check_pages(clone, pages, 0, LARGE);
}

static void test_write_copies_path(void)
{
	struct page *pages[LARGE], *pages2[LARGE];
	struct cowmem_tree *tree = fill(pages, LARGE, DENSE);
	struct cowmem_tree *clone = tree_clone_new(tree);
	unsigned long allocs = nr_allocs, i;
	bool shared = true;

	memcpy(pages2, pages, sizeof(pages));
	pages2[5000] = tree_write(clone, 5000);
	CHECK_EQ(nr_allocs - allocs, 3);
	CHECK(cowmem_tree_leaf(clone, 5000, &shared) && !shared);
	/* A path is private on either side, once it was copied. */
	CHECK(cowmem_tree_leaf(tree, 5000, &shared) && !shared);
	CHECK(cowmem_tree_leaf(tree, 5064, &shared) && shared);
	check_forest(false);
	for (i = 0; i < LARGE; i++)
		CHECK_EQ(pages[i]->holders,
			 i / SLOTS == 5000 / SLOTS && i != 5000 ? 2 : 1);

	pages2[5001] = tree_write(clone, 5001);
	CHECK_EQ(nr_allocs - allocs, 3);
	pages2[5064] = tree_write(clone, 5064);
	CHECK_EQ(nr_allocs - allocs, 4);
	pages2[0] = tree_write(clone, 0);
	CHECK_EQ(nr_allocs - allocs, 6);
	check_forest(false);
	pages[5000] = tree_write(tree, 5000);
	CHECK_EQ(nr_allocs - allocs, 6);
	CHECK_EQ(nr_nodes, allocs + 6);
	check_forest(false);
	check_pages(tree, pages, 0, LARGE);
	check_pages(clone, pages2, 0, LARGE);

	/* The last one to hold it writes in place. */
	tree_end(tree);
	allocs = nr_allocs;
	for (i = 0; i < LARGE; i++)
		CHECK(cowmem_tree_own(clone, i, false));
	CHECK_EQ(nr_allocs, allocs);
	check_forest(false);
	check_pages(clone, pages2, 0, LARGE);
}

/* The tree grows above a root that another one shares, which stays as it is. */
static void test_growth_of_clone(void)
{
	struct page *pages[SMALL];
	struct cowmem_tree *tree = fill(pages, SMALL, DENSE);
	struct cowmem_tree *clone = tree_clone_new(tree);
	unsigned long allocs = nr_allocs;
	struct page *page = tree_write(clone, LAST);
	unsigned int levels = levels_for(LAST);
	bool shared;

	/* New levels, and a path of its own below the highest. */
	CHECK_EQ(nr_allocs - allocs, levels - 2 + levels - 1);
	check_forest(false);
	CHECK(tree_page(clone, LAST) == page);
	CHECK(cowmem_tree_leaf(clone, 3, &shared) && shared);
	check_pages(tree, pages, 0, SMALL);
	CHECK_EQ(tree_count(clone), SMALL + 1);
	CHECK(tree->root->level == 1);
}

static void test_chain_of_clones(void)
{
	enum { DEPTH = 1000, PAGES = 300 };
	struct page *pages[PAGES], *changed[DEPTH];
	struct cowmem_tree *chain[DEPTH];
	pgoff_t where[DEPTH];
	unsigned int i, k, nr;

	chain[0] = fill(pages, PAGES, DENSE);
	for (i = 1; i < DEPTH; i++) {
		chain[i] = tree_clone_new(chain[i - 1]);
		where[i] = rnd(PAGES);
		changed[i] = tree_write(chain[i], where[i]);
		/* No deeper path than in the first clone. */
		CHECK(nr_allocs <= 7 + 2 * i);
	}
	check_forest(false);
	CHECK_EQ(nr_pages, PAGES + DEPTH - 1);
	for (nr = DEPTH; nr; nr--) {
		i = rnd(nr);
		for (k = 0; i && k < PAGES; k++)
			CHECK(tree_page(chain[i], k));
		if (i)
			CHECK(tree_page(chain[i], where[i]) == changed[i]);
		tree_end(chain[i]);
		chain[i] = chain[nr - 1];
		where[i] = where[nr - 1];
		changed[i] = changed[nr - 1];
		/* The first tree has no page of its own to look at. */
		if (i == 0 && nr > 1)
			changed[0] = tree_page(chain[0], where[0]);
		if (nr % 16 == 1)
			check_forest(false);
	}
	CHECK_EQ(nr_nodes, 0);
	CHECK_EQ(nr_pages, 0);
}

/* Punch [first, last] and compare; the number of nodes shows what was pruned. */
static void punch_and_check(struct cowmem_tree *tree, struct page *const *pages,
			    unsigned long nr, pgoff_t first, pgoff_t last)
{
	static struct page *left[LARGE];
	unsigned long i;

	memcpy(left, pages, nr * sizeof(*pages));
	for (i = first; i < nr && i <= last; i++)
		left[i] = NULL;
	tree_punch(tree, first, last);
	check_forest(false);
	check_pages(tree, left, 0, nr);
	if (!tree_count(tree))
		CHECK(!tree->root);
}

static void test_punch_all(void)
{
	struct page *pages[SMALL];
	enum pattern pattern;
	pgoff_t first, last;

	for (pattern = 0; pattern < NR_PATTERNS; pattern++) {
		struct cowmem_tree *tree = fill(pages, SMALL, pattern);
		struct image image;

		image_take(&image);
		for (first = 0; first < SMALL + 8; first++) {
			for (last = first; last < SMALL + 8; last++) {
				unsigned long allocs = nr_allocs;
				struct cowmem_tree *clone;

				clone = tree_clone_new(tree);
				punch_and_check(clone, pages, SMALL, first,
						last);
				CHECK(nr_allocs - allocs <= 3);
				tree_end(clone);
			}
		}
		check_forest(false);
		image_check(&image);
		tree_end(tree);
	}
}

static void test_punch_private(void)
{
	struct page *pages[SMALL];
	enum pattern pattern;
	pgoff_t first, last;

	for (pattern = 0; pattern < NR_PATTERNS; pattern++) {
		for (first = 0; first < SMALL + 8; first++) {
			last = first + rnd(7);
			for (; last < SMALL + 8; last += 1 + rnd(13)) {
				struct cowmem_tree *tree;
				unsigned long allocs;

				tree = fill(pages, SMALL, pattern);
				allocs = nr_allocs;
				punch_and_check(tree, pages, SMALL, first,
						last);
				CHECK_EQ(nr_allocs, allocs);
				tree_end(tree);
			}
		}
	}
}

static void test_punch_levels(void)
{
	static const pgoff_t edges[] = {
		0, 1, 62, 63, 64, 65, 127, 128, 4032, 4095, 4096, 4097, 4159,
		4160, 8191, 8192, 8256, LARGE - 1, LARGE, 1UL << 18, LAST,
		ULONG_MAX,
	};
	struct page *pages[LARGE];
	struct cowmem_tree *tree = fill(pages, LARGE, DENSE);
	unsigned int i, k;

	for (i = 0; i < ARRAY_SIZE(edges); i++) {
		for (k = i; k < ARRAY_SIZE(edges); k++) {
			struct cowmem_tree *clone = tree_clone_new(tree);
			unsigned long allocs = nr_allocs;

			punch_and_check(clone, pages, LARGE, edges[i],
					edges[k]);
			CHECK(nr_allocs - allocs <= 5);
			tree_end(clone);
		}
	}
	check_forest(false);
	check_pages(tree, pages, 0, LARGE);
}

static void test_punch_random(void)
{
	struct page *pages[SMALL * 3], *left[SMALL * 3];
	unsigned int round, i;

	for (round = 0; round < 300; round++) {
		struct cowmem_tree *tree, *clone;

		tree = fill(pages, SMALL * 3, rnd(NR_PATTERNS));
		memcpy(left, pages, sizeof(pages));
		clone = tree_clone_new(tree);
		while (tree_count(clone)) {
			pgoff_t first = rnd(SMALL * 3), last = first + rnd(99);

			punch_and_check(clone, left, SMALL * 3, first, last);
			for (i = first; i <= last && i < SMALL * 3; i++)
				left[i] = NULL;
			if (!rnd(4)) {
				i = rnd(SMALL * 3);
				left[i] = tree_write(clone, i);
			}
		}
		tree_end(clone);
		check_pages(tree, pages, 0, SMALL * 3);
		tree_end(tree);
	}
}

static void test_punch_prunes(void)
{
	struct cowmem_tree *tree = tree_new();
	unsigned int i;

	/* Page after page. */
	for (i = 0; i < ARRAY_SIZE(some_indices); i++)
		tree_write(tree, some_indices[i]);
	for (i = 0; i < ARRAY_SIZE(some_indices); i++) {
		CHECK(tree->root);
		tree_punch(tree, some_indices[i], some_indices[i]);
		check_forest(false);
		CHECK_EQ(nr_pages, ARRAY_SIZE(some_indices) - i - 1);
	}
	CHECK(!tree->root);
	CHECK_EQ(nr_nodes, 0);

	/* All but one: only its path is left. */
	for (i = 0; i < ARRAY_SIZE(some_indices); i++)
		tree_write(tree, some_indices[i]);
	tree_punch(tree, 65, ULONG_MAX);
	tree_punch(tree, 0, 63);
	check_forest(false);
	CHECK(tree_page(tree, 64));
	CHECK_EQ(nr_pages, 1);
	CHECK_EQ(nr_nodes, tree->root->level + 1);
	tree_punch(tree, 64, 64);
	CHECK_EQ(nr_nodes, 0);

	/* Leaves that never got a page. */
	CHECK(!IS_ERR(cowmem_tree_own(tree, 5, false)));
	CHECK(!IS_ERR(cowmem_tree_own(tree, 100, false)));
	CHECK(!IS_ERR(cowmem_tree_own(tree, LAST, false)));
	tree_punch(tree, 6, 99);
	check_forest(true);
	CHECK(!cowmem_tree_leaf(tree, 6, NULL));
	CHECK(!cowmem_tree_leaf(tree, 99, NULL));
	tree_punch(tree, LAST - 1, LAST - 1);
	CHECK(!tree->root);
	CHECK_EQ(nr_nodes, 0);
}

static void test_own_edge(void)
{
	struct page *pages[LARGE];
	struct cowmem_tree *tree = fill(pages, LARGE, DENSE), *clone;
	unsigned long allocs, nodes;
	bool shared;

	/* Private already: nothing to do, nor where nothing is. */
	allocs = nr_allocs;
	CHECK_EQ(cowmem_tree_own_edge(tree, 5000), 0);
	CHECK_EQ(cowmem_tree_own_edge(tree, LARGE + 100), 0);
	CHECK_EQ(cowmem_tree_own_edge(tree, 1UL << 18), 0);
	CHECK_EQ(cowmem_tree_own_edge(tree, LAST), 0);
	CHECK_EQ(cowmem_tree_own_edge(tree, ULONG_MAX), 0);
	CHECK_EQ(nr_allocs, allocs);

	clone = tree_clone_new(tree);
	CHECK_EQ(cowmem_tree_own_edge(clone, 1UL << 18), 0);
	CHECK_EQ(cowmem_tree_own_edge(clone, ULONG_MAX), 0);
	CHECK_EQ(nr_allocs, allocs);
	CHECK_EQ(cowmem_tree_own_edge(clone, 5000), 0);
	CHECK_EQ(nr_allocs - allocs, 3);
	CHECK(cowmem_tree_leaf(clone, 5000, &shared) && !shared);
	check_forest(false);
	tree_end(clone);

	/* A hole below two nodes: they are copied, none is added. */
	clone = tree_clone_new(tree);
	nodes = nr_nodes;
	CHECK(!cowmem_tree_leaf(clone, LARGE + 100, NULL));
	CHECK_EQ(cowmem_tree_own_edge(clone, LARGE + 100), 0);
	CHECK_EQ(nr_nodes - nodes, 2);
	CHECK(!cowmem_tree_leaf(clone, LARGE + 100, NULL));
	check_forest(false);
	check_pages(clone, pages, 0, LARGE);
	check_pages(tree, pages, 0, LARGE);
}

/* Share a range with an empty tree and compare. */
static struct cowmem_tree *share_and_check(const struct cowmem_tree *src,
					   struct page *const *pages,
					   unsigned long nr_src,
					   pgoff_t src_first,
					   pgoff_t dst_first, pgoff_t nr)
{
	struct cowmem_tree *dst = tree_new();
	unsigned long i, count = 0;

	CHECK_EQ(cowmem_tree_share(dst, dst_first, src, src_first, nr), 0);
	check_forest(false);
	for (i = src_first; i < nr_src && i - src_first < nr; i++) {
		CHECK(tree_page(dst, dst_first + (i - src_first)) == pages[i]);
		count += !!pages[i];
	}
	CHECK_EQ(tree_count(dst), count);
	return dst;
}

static void test_share_all(void)
{
	static const pgoff_t to[] = { 0, 1, 63, 64, 65, 128, 4032, 4096, 4161 };
	static const pgoff_t nrs[] = { 1, 2, 63, 64, 65, 127, 128, 129, 200 };
	struct page *pages[SMALL];
	enum pattern pattern;
	unsigned int i, k;
	pgoff_t first;

	for (pattern = 0; pattern < NR_PATTERNS; pattern++) {
		struct cowmem_tree *src = fill(pages, SMALL, pattern);
		struct image image;

		image_take(&image);
		for (first = 0; first < SMALL + 2; first++)
			for (i = 0; i < ARRAY_SIZE(to); i++)
				for (k = 0; k < ARRAY_SIZE(nrs); k++)
					tree_end(share_and_check(src, pages, SMALL, first,
								 to[i], nrs[k]));
		image_check(&image);
		tree_end(src);
	}
}

static void test_share_random(void)
{
	struct page *pages[LARGE];
	struct cowmem_tree *src;
	unsigned int i;

	src = fill(pages, LARGE, DENSE);
	for (i = 0; i < 80; i++) {
		static const pgoff_t units[] = { 1, 64, 4096 };
		pgoff_t unit = units[rnd(3)];
		pgoff_t from = rnd(LARGE), delta = rnd(3 * LARGE / unit) * unit;

		tree_end(share_and_check(src, pages, LARGE, from,
					 i % 2 ? delta + from : delta, rnd(LARGE + 500)));
	}
}

static void test_share_whole_subtrees(void)
{
	struct page *pages[LARGE];
	struct cowmem_tree *src = fill(pages, LARGE, DENSE), *dst;
	unsigned long nodes = nr_nodes;

	/* Just a new root, above two nodes of level 1. */
	inject_signal(0);
	dst = share_and_check(src, pages, LARGE, 4096, 0, 8192);
	CHECK_EQ(nr_nodes - nodes, 1);
	CHECK_EQ(nr_signal_checks, 2);
	tree_end(dst);
	dst = share_and_check(src, pages, LARGE, 0, 8192, 8192);
	CHECK_EQ(nr_nodes - nodes, 1);
	tree_end(dst);
	/* The root, too, hangs below a node. */
	dst = share_and_check(src, pages, LARGE, 0, 0, ULONG_MAX);
	CHECK_EQ(nr_nodes - nodes, 1);
	CHECK(dst->root->slots[0] == src->root);
	tree_end(dst);
	/* Leaves are whole: 128 of them below two nodes of level 1. */
	dst = share_and_check(src, pages, LARGE, 64, 0, 8192);
	CHECK_EQ(nr_nodes - nodes, 3);
	tree_end(dst);
	/* The ends are not. */
	dst = share_and_check(src, pages, LARGE, 4095, 4095, 4098);
	CHECK_EQ(nr_nodes - nodes, 5);
	tree_end(dst);
	/* Nothing is. */
	dst = share_and_check(src, pages, LARGE, 1, 0, 8192);
	CHECK_EQ(nr_nodes - nodes, 128 + 3);
	tree_end(dst);
	/* A path of its own, far away. */
	dst = share_and_check(src, pages, LARGE, 4096, 1UL << 30, 8192);
	CHECK_EQ(nr_nodes - nodes, levels_for(1UL << 30) - 2);
	tree_end(dst);
}

/* What follows a hole is shared as nodes no less than what does not. */
static void test_share_after_hole(void)
{
	struct page *pages[LARGE];
	struct cowmem_tree *src = fill(pages, LARGE, DENSE), *dst;
	unsigned long nodes;

	tree_punch(src, 0, 4096 + 70);
	memset(pages, 0, (4096 + 71) * sizeof(*pages));
	nodes = nr_nodes;
	inject_signal(0);
	dst = share_and_check(src, pages, LARGE, 0, 1UL << 24, 12288);
	CHECK_EQ(nr_nodes - nodes, levels_for(1UL << 24) - 2);
	CHECK(nr_signal_checks <= 4);
	tree_end(dst);
	dst = share_and_check(src, pages, LARGE, 64, 0, 12288 - 64);
	CHECK_EQ(nr_nodes - nodes, 3);
	tree_end(dst);
}

static void test_share_sparse(void)
{
	static const pgoff_t deltas[] = { 0, 1, 64, 4096, 1UL << 18 };
	struct cowmem_tree *src = tree_new();
	unsigned int nr = ARRAY_SIZE(some_indices), i, k;

	for (i = 0; i < nr; i++)
		tree_write(src, some_indices[i]);
	for (i = 0; i < ARRAY_SIZE(deltas); i++) {
		struct cowmem_tree *dst = tree_new();

		/* Up, and back down. */
		inject_signal(0);
		CHECK_EQ(cowmem_tree_share(dst, deltas[i], src, 0, LAST + 1), 0);
		CHECK_EQ(tree_count(dst), nr);
		for (k = 0; k < nr; k++)
			CHECK(tree_page(dst, some_indices[k] + deltas[i]) ==
			      tree_page(src, some_indices[k]));
		check_forest(false);
		tree_end(dst);

		dst = tree_new();
		CHECK_EQ(cowmem_tree_share(dst, 0, src, deltas[i],
					   ULONG_MAX - deltas[i]), 0);
		for (k = 0; k < nr; k++)
			if (some_indices[k] >= deltas[i])
				CHECK(tree_page(dst, some_indices[k] -
						deltas[i]) ==
				      tree_page(src, some_indices[k]));
		check_forest(false);
		tree_end(dst);
		/* A hole takes a few steps, one for each level at most. */
		CHECK(nr_signal_checks <= 2 * nr * (levels_for(LAST) + 1));
	}
}

/* The rest of a tree, shared too, may lie before the range. */
static void test_share_append(void)
{
	struct page *pages[LARGE];
	struct cowmem_tree *src = fill(pages, LARGE, DENSE);
	static const pgoff_t cuts[] = { 1, 64, 100, 4096, 4160, 5000, 8192 };
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(cuts); i++) {
		struct cowmem_tree *dst = tree_clone_new(src);
		pgoff_t cut = cuts[i], k;

		tree_punch(dst, cut, ULONG_MAX);
		CHECK_EQ(cowmem_tree_share(dst, cut, src, 0, LARGE), 0);
		check_forest(false);
		CHECK_EQ(tree_count(dst), cut + LARGE);
		for (k = 0; k < LARGE; k++)
			CHECK(tree_page(dst, cut + k) == pages[k]);
		for (k = 0; k < cut; k++)
			CHECK(tree_page(dst, k) == pages[k]);
		tree_end(dst);
	}
	check_pages(src, pages, 0, LARGE);
}

/* What a share that did not get to its end leaves behind: the beginning. */
static void check_prefix(const struct cowmem_tree *dst, pgoff_t dst_first,
			 struct page *const *pages, pgoff_t nr)
{
	unsigned long count = tree_count(dst);
	pgoff_t i;

	for (i = 0; i < nr && count; i++) {
		if (!pages[i])
			continue;
		CHECK(tree_page(dst, dst_first + i) == pages[i]);
		count--;
	}
	CHECK_EQ(count, 0);
}

static void test_share_interrupted(void)
{
	static const pgoff_t deltas[] = { 0, 1, 64, 4096 };
	struct page *pages[LARGE];
	struct cowmem_tree *src = fill(pages, LARGE, EVERY_SEVENTH);
	struct image image;
	unsigned int i;

	image_take(&image);
	for (i = 0; i < ARRAY_SIZE(deltas); i++) {
		unsigned int n;
		int err;

		for (n = 1; ; n += n < 20 ? 1 : 1 + rnd(50)) {
			struct cowmem_tree *dst = tree_new();

			inject_signal(n);
			err = cowmem_tree_share(dst, deltas[i] + 64, src, 64,
						LARGE - 100);
			CHECK(err == 0 || err == -EINTR);
			CHECK(nr_signal_checks <= (err ? n + 1 : n - 1));
			check_forest(false);
			check_prefix(dst, deltas[i] + 64, pages + 64,
				     LARGE - 100);
			tree_end(dst);
			if (!err)
				break;
		}
		CHECK(n > 2);
	}
	image_check(&image);
}

/* Copy what @tree holds up to @size to where it ends. */
static void double_up(struct cowmem_tree *tree, pgoff_t size)
{
	struct cowmem_tree *part = tree_new();

	CHECK(!cowmem_tree_share(part, size, tree, 0, size));
	CHECK(!cowmem_tree_own_edge(tree, size));
	CHECK(!cowmem_tree_own_edge(tree, 2 * size - 1));
	CHECK(!cowmem_tree_raise(part, tree));
	CHECK(!cowmem_tree_raise(tree, part));
	cowmem_tree_graft(tree, size, 2 * size - 1, part);
	tree_end(part);
}

/* What [0, @size) holds hangs everywhere: a few nodes, and no end of leaves. */
#define ENDLESS	(1UL << 48)

static void hang_everywhere(struct cowmem_tree *tree, pgoff_t size)
{
	for (; size < ENDLESS; size *= 2)
		double_up(tree, size);
	CHECK(nr_nodes < 200);
}

/* A budget and how much of it was used, for what would take longer than a life. */
enum { SOME = 1000 };

static void test_next_budget(void)
{
	struct cowmem_tree *empty = tree_new(), *full = tree_new();
	unsigned int i, data;
	pgoff_t index;

	/* No pages, and no holes.  Regions have no such leaf as the first one. */
	CHECK(!IS_ERR(cowmem_tree_own(empty, 0, false)));
	hang_everywhere(empty, SLOTS);
	for (i = 0; i < SLOTS; i++)
		tree_write(full, i);
	hang_everywhere(full, SLOTS);

	for (data = 0; data < 2; data++) {
		const struct cowmem_tree *tree = data ? empty : full;

		for (index = 0, i = 0; i < 20; i++) {
			unsigned long budget = SOME;
			pgoff_t was = index;

			CHECK(!cowmem_tree_next(tree, &index, data, &budget));
			CHECK_EQ(budget, 0);
			/* Most of it are leaves. */
			CHECK(index >= was + SOME * 9 / 10 * SLOTS);
			CHECK(index <= was + SOME * SLOTS);
		}
		/* Less than the path takes gets nowhere, and says so. */
		for (i = 0; i < tree->root->level; i++) {
			unsigned long budget = i;
			pgoff_t was = index;

			CHECK(!cowmem_tree_next(tree, &index, data, &budget));
			CHECK_EQ(budget, 0);
			CHECK_EQ(index, was);
		}
		/* The end is within reach. */
		index = ENDLESS - 5 * SLOTS;
		CHECK_EQ(tree_next(tree, index, data), data ? ULONG_MAX : ENDLESS);
	}
	check_forest(true);
	tree_end(empty);
}

/*
 * Two nodes that are not the same, but hold the same leaves, very often: few nodes make
 * a long way, on which nothing is found.
 */
static void test_diff_budget(void)
{
	struct cowmem_tree *a = tree_new(), *b;
	pgoff_t index = 0, was;
	unsigned long budget;
	unsigned int i;

	tree_write(a, 0);
	tree_write(a, 4095);
	b = tree_clone_new(a);
	/* Own the node without a change to it. */
	CHECK(!cowmem_tree_own_edge(b, 64 * 5));
	hang_everywhere(a, 4096);
	hang_everywhere(b, 4096);
	for (i = 0; i < 20; i++) {
		was = index;
		budget = SOME;
		CHECK_EQ(cowmem_tree_diff(a, b, &index, &budget), 0);
		CHECK_EQ(budget, 0);
		CHECK(index >= was + SOME * 9 / 10 * 4096UL);
		CHECK(index <= was + SOME * 4096UL);
	}
	/* The end is within reach; with no budget nothing is. */
	index = ENDLESS - 1;
	budget = SOME;
	CHECK_EQ(cowmem_tree_diff(a, b, &index, &budget), 0);
	CHECK_EQ(index, ULONG_MAX);
	CHECK(budget > SOME - 20);
	index = 0;
	budget = 0;
	CHECK_EQ(cowmem_tree_diff(a, b, &index, &budget), 0);
	CHECK_EQ(index, 0);

	budget = SOME;
	CHECK(!cowmem_tree_only_granted(a, b, &budget));
	CHECK_EQ(budget, 0);
	tree_write(b, ENDLESS - 1);
	index = 0;
	budget = SOME;
	CHECK_EQ(cowmem_tree_diff(a, b, &index, &budget), 0);
	index = ENDLESS - 4096;
	CHECK_EQ(cowmem_tree_diff(a, b, &index, &(unsigned long){ SOME }), BIT_ULL(63));
	CHECK_EQ(index, ENDLESS - SLOTS);
	check_forest(false);
}

/* What is granted, and no more, within the budget or not. */
static void test_only_granted(void)
{
	struct page *pages[LARGE];
	struct cowmem_tree *tree = fill(pages, LARGE, DENSE);
	struct cowmem_tree *clone = tree_clone_new(tree);
	unsigned long budget = 0, used;

	CHECK(cowmem_tree_only_granted(clone, tree, &budget));
	tree_write(clone, 70);
	tree_write(clone, 5000);
	tree_grant(clone, cowmem_tree_own(clone, 70, false), 70);
	budget = SOME;
	CHECK(!cowmem_tree_only_granted(clone, tree, &budget));
	tree_grant(clone, cowmem_tree_own(clone, 5000, false), 5000);
	budget = SOME;
	CHECK(cowmem_tree_only_granted(clone, tree, &budget));
	used = SOME - budget;
	CHECK_EQ(used, 5);
	for (; used; used--) {
		budget = used - 1;
		CHECK(!cowmem_tree_only_granted(clone, tree, &budget));
		CHECK_EQ(budget, 0);
	}
	tree_punch(clone, 80, 80);
	budget = SOME;
	CHECK(!cowmem_tree_only_granted(clone, tree, &budget));
	CHECK(budget);
}

static void test_count(void)
{
	static const pgoff_t edges[] = {
		0, 1, 63, 64, 100, 4095, 4096, 4160, 5000, LARGE - 1, LARGE, LAST,
	};
	struct page *pages[LARGE];
	unsigned int i, k;
	enum pattern pattern;

	CHECK_EQ(tree_count_range(tree_new(), 0, LAST), 0);
	for (pattern = 0; pattern < NR_PATTERNS; pattern++) {
		struct cowmem_tree *tree = fill(pages, LARGE, pattern);
		unsigned long budget = ULONG_MAX, nodes = nr_nodes;

		tree_write(tree, LAST);
		for (i = 0; i < ARRAY_SIZE(edges); i++)
			for (k = i; k < ARRAY_SIZE(edges); k++) {
				u64 nr = edges[k] == LAST;
				pgoff_t at;

				for (at = edges[i]; at < LARGE && at <= edges[k]; at++)
					nr += !!pages[at];
				CHECK_EQ(tree_count_range(tree, edges[i], edges[k]), nr);
			}
		CHECK_EQ(tree_count_range(tree, 5, 4), 0);
		/* One look at a node is all. */
		tree_punch(tree, LAST, LAST);
		cowmem_tree_count(tree, &(pgoff_t){ 0 }, LAST, &budget);
		CHECK_EQ(ULONG_MAX - budget, nodes);
		tree_end(tree);
	}
}

static void test_count_budget(void)
{
	struct cowmem_tree *tree = tree_new();
	pgoff_t index = 0;
	unsigned int i;

	for (i = 0; i < SLOTS; i++)
		tree_write(tree, i);
	hang_everywhere(tree, SLOTS);
	for (i = 0; i < 20; i++) {
		unsigned long budget = SOME;
		pgoff_t was = index;

		CHECK_EQ(cowmem_tree_count(tree, &index, LAST, &budget), index - was);
		CHECK_EQ(budget, 0);
		CHECK(index >= was + SOME * 9 / 10 * SLOTS);
		/* From the middle of a leaf. */
		index += rnd(SLOTS);
	}
	CHECK_EQ(tree_count_range(tree, ENDLESS - 1000, LAST), 1000);
}

/* A hole that takes long to get over does not keep a share from being killed. */
static void test_share_hole_interrupted(void)
{
	struct cowmem_tree *src = tree_new(), *dst = tree_new();

	CHECK(!IS_ERR(cowmem_tree_own(src, 0, false)));
	hang_everywhere(src, SLOTS);
	inject_signal(5);
	CHECK_EQ(cowmem_tree_share(dst, 0, src, 1, ENDLESS - 1), -EINTR);
	CHECK(nr_signal_checks <= 6);
	inject_signal(0);
	tree_end(src);
	tree_end(dst);
}

static void test_next(void)
{
	enum pattern pattern;

	for (pattern = 0; pattern <= NR_PATTERNS; pattern++) {
		struct page *pages[LARGE];
		struct cowmem_tree *tree = fill(pages, LARGE, pattern);
		pgoff_t i, data = ULONG_MAX, hole = LARGE;

		if (pattern == NR_PATTERNS) {
			/* Whole subtrees that are missing. */
			tree_punch(tree, 100, 4100);
			tree_punch(tree, 4200, 12000);
			for (i = 100; i < LARGE; i++)
				if (i <= 4100 || (i >= 4200 && i <= 12000))
					pages[i] = NULL;
		}
		for (i = LARGE; i--;) {
			if (pages[i])
				data = i;
			else
				hole = i;
			CHECK_EQ(tree_next(tree, i, true), data);
			CHECK_EQ(tree_next(tree, i, false), hole);
		}
		for (i = LARGE; i < LARGE + 5000; i++) {
			CHECK_EQ(tree_next(tree, i, true), ULONG_MAX);
			CHECK_EQ(tree_next(tree, i, false), i);
		}
		tree_end(tree);
	}
}

static void test_next_far(void)
{
	struct cowmem_tree *tree = tree_new();
	unsigned int nr = ARRAY_SIZE(some_indices), i;

	for (i = 0; i < nr; i++)
		tree_write(tree, some_indices[i]);
	for (i = 0; i < nr; i++) {
		pgoff_t index = some_indices[i];

		CHECK_EQ(tree_next(tree, index, true), index);
		CHECK_EQ(tree_next(tree, index + 1, true),
			 i + 1 < nr ? some_indices[i + 1] : ULONG_MAX);
		CHECK_EQ(tree_next(tree, index, false),
			 i + 1 < nr && some_indices[i + 1] == index + 1 ?
			 index + 2 : index + 1);
	}
	/* A root that is full to the end of what it can hold. */
	for (i = 0; i < SLOTS; i++)
		tree_write(tree, i);
	tree_punch(tree, SLOTS, ULONG_MAX);
	CHECK_EQ(tree_next(tree, 3, false), SLOTS);
	tree_end(tree);
	tree = tree_new();
	for (i = 0; i < SLOTS; i++)
		tree_write(tree, i);
	CHECK_EQ(tree->root->level, 0);
	CHECK_EQ(tree_next(tree, 3, false), SLOTS);
	CHECK_EQ(tree_next(tree, SLOTS, true), ULONG_MAX);
}

static void test_grant(void)
{
	struct page *pages[SMALL];
	struct cowmem_tree *tree = fill(pages, SMALL, DENSE);
	struct cowmem_node *a = cowmem_tree_own(tree, 0, false);
	struct cowmem_node *b = cowmem_tree_own(tree, 64, false);

	tree_grant(tree, b, 65);
	tree_grant(tree, a, 63);
	tree_grant(tree, b, 127);
	tree_grant(tree, b, 127);
	CHECK_EQ(a->granted, BIT_ULL(63));
	CHECK_EQ(b->granted, BIT_ULL(1) | BIT_ULL(63));
	check_forest(false);
	CHECK(tree->granted.next == &b->granted_link);
	CHECK(b->granted_link.next == &a->granted_link);

	tree_ungrant(b, BIT_ULL(1) | BIT_ULL(2));
	CHECK_EQ(b->granted, BIT_ULL(63));
	check_forest(false);
	tree_ungrant(b, BIT_ULL(5));
	check_forest(false);
	tree_ungrant(b, ~0ULL);
	tree_ungrant(b, ~0ULL);
	CHECK(!b->granted);
	check_forest(false);
	tree_grant(tree, b, 64);
	check_forest(false);

	/* Owning what is private already, or growing, changes nothing. */
	CHECK(cowmem_tree_own(tree, 64, false) == b);
	CHECK_EQ(cowmem_tree_own_edge(tree, 64), 0);
	tree_write(tree, LAST);
	CHECK_EQ(b->granted, BIT_ULL(0));
	check_forest(false);
}

/* Leaves all over the tree, in any order, none to many. */
static void test_grant_sorted(void)
{
	static const pgoff_t spans[] = { 1, SLOTS, 5000, 1UL << 20, LAST };
	unsigned int i, n, nr;

	for (i = 0; i < ARRAY_SIZE(spans); i++) {
		for (nr = 0; nr < 300; nr += 1 + nr / 3) {
			struct cowmem_tree *tree = tree_new();
			struct cowmem_node *leaf;
			unsigned long seen = 0, leaves = 0;
			pgoff_t end = 0;

			for (n = 0; n < nr; n++) {
				pgoff_t index = rnd(spans[i]);

				leaf = cowmem_tree_own(tree, index, false);
				if (leaf->granted & BIT_ULL(cowmem_slot(index)))
					continue;
				tree_write(tree, index);
				leaves += !leaf->granted;
				tree_grant(tree, leaf, index);
			}
			cowmem_tree_sort_granted(tree);
			check_forest(false);
			list_for_each_entry(leaf, &tree->granted, granted_link) {
				CHECK(leaf->base >= end);
				end = leaf->base + SLOTS;
				seen++;
			}
			CHECK_EQ(seen, leaves);
			tree_end(tree);
		}
	}
}

/* The grants go with the pages, and whoever drops a page hears of it. */
static void test_grant_dropped(void)
{
	struct page *pages[SMALL];
	struct cowmem_tree *tree = fill(pages, SMALL, DENSE), *keep;
	pgoff_t i;

	for (i = 0; i < SMALL; i += 3)
		tree_grant(tree, cowmem_tree_own(tree, i, false), i);
	/* Somebody else to hold the pages, so that they can be looked at. */
	for (i = 0; i < SMALL; i++)
		cowmem_page_hold(pages[i]);
	tree_punch(tree, 0, 0);
	CHECK(list_empty(&tree->granted) == 0);
	tree_punch(tree, 1, 62);
	CHECK_EQ(cowmem_tree_own(tree, 63, false)->granted, BIT_ULL(63));
	tree_punch(tree, 63, 65);
	tree_punch(tree, 65, SMALL - 5);
	for (i = 0; i < SMALL; i++) {
		bool gone = i <= SMALL - 5;

		CHECK_EQ(pages[i]->holders, gone ? 1 : 2);
		CHECK_EQ(pages[i]->granted_dropped, gone && i % 3 == 0);
	}
	cowmem_tree_destroy(tree);
	CHECK(list_empty(&tree->granted));
	for (i = 0; i < SMALL; i++) {
		CHECK_EQ(pages[i]->holders, 1);
		CHECK_EQ(pages[i]->granted_dropped, i % 3 == 0);
	}
	/* Back to the rules: a slot for each page. */
	keep = tree_new();
	for (i = 0; i < SMALL; i++)
		cowmem_leaf_set(cowmem_tree_own(keep, i, false), i, pages[i]);
	check_forest(false);
	check_pages(keep, pages, 0, SMALL);
}

/* A page in use stays granted while the clone gets a copy: snapshot.c. */
static void test_grant_kept_over_clone(void)
{
	struct page *pages[SMALL], *copy;
	struct cowmem_tree *tree = fill(pages, SMALL, DENSE), *clone;
	struct cowmem_node *leaf = cowmem_tree_own(tree, 70, false), *mine;

	tree_grant(tree, leaf, 70);
	tree_grant(tree, leaf, 71);
	clone = tree_clone_new(tree);
	mine = cowmem_tree_own(clone, 70, false);
	CHECK(mine != leaf && !mine->granted);
	CHECK(list_empty(&clone->granted));
	CHECK_EQ(leaf->granted, BIT_ULL(6) | BIT_ULL(7));
	copy = page_new();
	cowmem_leaf_set(mine, 70, copy);
	cowmem_page_drop(pages[70], false);
	tree_ungrant(leaf, BIT_ULL(7));
	check_forest(false);
	CHECK(pages[70]->granted_to == tree);
	CHECK(tree_page(tree, 70) == pages[70]);
	CHECK(tree_page(clone, 70) == copy);
	tree_end(clone);
	check_forest(false);
	CHECK(pages[70]->granted_to == tree);
	tree_end(tree);
	CHECK_EQ(nr_pages, 0);
}

/* A leaf may come from another place, and become private here. */
static void test_grant_after_share(void)
{
	struct page *pages[SMALL];
	struct cowmem_tree *src = fill(pages, SMALL, DENSE);
	struct cowmem_tree *dst = tree_new();
	bool shared;

	CHECK_EQ(cowmem_tree_share(dst, 0, src, 64, 128), 0);
	/* By a copy, and there is none of the page either. */
	tree_write(dst, 3);
	tree_grant(dst, cowmem_tree_leaf(dst, 3, &shared), 3);
	CHECK(!shared);
	check_forest(false);
	/* Or because the other one goes. */
	tree_end(src);
	tree_grant(dst, cowmem_tree_leaf(dst, 70, &shared), 70);
	CHECK(!shared);
	check_forest(false);
}

static int own_err(struct cowmem_tree *tree, pgoff_t index)
{
	return PTR_ERR_OR_ZERO(cowmem_tree_own(tree, index, false));
}

static void test_own_fails(void)
{
	struct page *pages[LARGE];
	struct cowmem_tree *tree = fill(pages, LARGE, DENSE), *clone;
	struct cowmem_tree *empty;
	unsigned int i, levels = levels_for(LAST);

	/* An empty tree. */
	for (i = 0; i < ARRAY_SIZE(some_indices); i++) {
		pgoff_t index = some_indices[i];

		empty = tree_new();
		CHECK_EQ(FAIL_EACH(own_err(empty, index)), levels_for(index));
		tree_end(empty);
	}
	/* A hole, growth, a clone, and growth of a clone. */
	CHECK_EQ(FAIL_EACH(own_err(tree, LARGE + 64)), 1);
	CHECK_EQ(FAIL_EACH(own_err(tree, 1UL << 18)), 1 + 3);
	clone = tree_clone_new(tree);
	CHECK_EQ(FAIL_EACH(own_err(clone, 70)), 4);
	CHECK_EQ(FAIL_EACH(own_err(clone, 70)), 0);
	CHECK_EQ(FAIL_EACH(own_err(clone, 130)), 1);
	CHECK_EQ(FAIL_EACH(own_err(tree, 130)), 0);
	CHECK_EQ(FAIL_EACH(own_err(clone, 4096)), 2);
	tree_end(clone);
	clone = tree_clone_new(tree);
	CHECK_EQ(FAIL_EACH(own_err(clone, LAST)), levels - 4 + levels - 1);
	check_forest(true);
	check_pages(tree, pages, 0, LARGE);
}

static void test_own_edge_fails(void)
{
	struct page *pages[LARGE];
	struct cowmem_tree *tree = fill(pages, LARGE, DENSE), *clone;

	clone = tree_clone_new(tree);
	CHECK_EQ(FAIL_EACH(cowmem_tree_own_edge(clone, 1UL << 18)), 0);
	CHECK_EQ(FAIL_EACH(cowmem_tree_own_edge(clone, 5000)), 3);
	CHECK_EQ(FAIL_EACH(cowmem_tree_own_edge(clone, 5064)), 1);
	CHECK_EQ(FAIL_EACH(cowmem_tree_own_edge(clone, 5064)), 0);
	tree_end(clone);
	/* A hole, below shared nodes and below private ones. */
	tree_punch(tree, 4160, 4160 + 63);
	clone = tree_clone_new(tree);
	CHECK(FAIL_EACH(cowmem_tree_own_edge(clone, 4160)) >= 2);
	CHECK_EQ(FAIL_EACH(cowmem_tree_own_edge(clone, 4160)), 0);
	CHECK(!cowmem_tree_leaf(clone, 4160, NULL));
	check_forest(false);
}

static void test_share_fails(void)
{
	static const pgoff_t deltas[] = { 0, 1, 64, 4096, 1UL << 18 };
	struct page *pages[LARGE];
	struct cowmem_tree *src = fill(pages, LARGE, EVERY_SEVENTH);
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(deltas); i++) {
		struct cowmem_tree *dst = tree_new();
		pgoff_t to = 70 + deltas[i];
		unsigned int nr;

		nr = FAIL_EACH_UNDO(
			cowmem_tree_share(dst, to, src, 70, 4500),
			(check_prefix(dst, to, pages + 70, 4500),
			 cowmem_tree_destroy(dst)));
		CHECK(nr >= 4);
		tree_end(dst);
	}
	check_pages(src, pages, 0, LARGE);
}

static void test_punch_after_failure(void)
{
	struct page *pages[LARGE];
	struct cowmem_tree *tree = fill(pages, LARGE, DENSE);
	struct cowmem_tree *clone = tree_clone_new(tree);
	unsigned long allocs;

	/* The first edge is private, the second cannot be: nothing is gone. */
	CHECK_EQ(cowmem_tree_own_edge(clone, 100), 0);
	inject(1, -ENOSPC);
	CHECK_EQ(cowmem_tree_own_edge(clone, 9000), -ENOSPC);
	CHECK(injected());
	check_forest(false);
	check_pages(clone, pages, 0, LARGE);
	check_pages(tree, pages, 0, LARGE);

	/* Once more; to punch takes no memory. */
	CHECK_EQ(cowmem_tree_own_edge(clone, 9000), 0);
	allocs = nr_allocs;
	cowmem_tree_punch(clone, 100, 9000);
	CHECK_EQ(nr_allocs, allocs);
	check_forest(false);
	CHECK_EQ(tree_count(clone), LARGE - 8901);
	check_pages(tree, pages, 0, LARGE);
}

/*
 * Threads, each with trees of its own that share with those of the others; no
 * lock is common to them, as to regions.  The content of a page is what was last
 * written, in place if nobody else holds the page.
 */
#define THREADS		4
#define THREAD_PAGES	600

struct thread {
	pthread_t id;
	u64 state;
	struct cowmem_tree tree;
	unsigned int values[THREAD_PAGES];
};

static void thread_write(struct cowmem_tree *tree, pgoff_t index,
			 unsigned int value)
{
	struct cowmem_node *leaf;
	struct page *page;
	bool shared;

	leaf = cowmem_tree_leaf(tree, index, &shared);
	if (!leaf || shared)
		leaf = cowmem_tree_own(tree, index, false);
	CHECK(!IS_ERR(leaf));
	page = leaf->slots[cowmem_slot(index)];
	if (!page || page->holders > 1) {
		struct page *new = page_new();

		cowmem_leaf_set(leaf, index, new);
		if (page)
			cowmem_page_drop(page, false);
		page = new;
	}
	page->value = value;
}

static void thread_check(const struct cowmem_tree *tree,
			 const unsigned int *values)
{
	pgoff_t i;

	for (i = 0; i < THREAD_PAGES; i++) {
		const struct page *page = tree_page(tree, i);

		CHECK_EQ(page ? page->value : 0, values[i]);
	}
}

static void *thread_run(void *arg)
{
	struct thread *self = arg;
	unsigned int round, i;

	for (round = 0; round < 300; round++) {
		struct cowmem_tree clone;
		unsigned int values[THREAD_PAGES];

		for (i = 0; i < 20; i++) {
			u64 x = rnd_next(&self->state);
			pgoff_t at = x % THREAD_PAGES;

			self->values[at] = (x >> 32) | 1;
			thread_write(&self->tree, at, self->values[at]);
		}
		cowmem_tree_init(&clone, NULL);
		cowmem_tree_clone(&clone, &self->tree);
		memcpy(values, self->values, sizeof(values));
		for (i = 0; i < 20; i++) {
			u64 x = rnd_next(&self->state);
			pgoff_t at = x % THREAD_PAGES;
			bool mine = x >> 63;

			(mine ? self->values : values)[at] = (x >> 32) | 1;
			thread_write(mine ? &self->tree : &clone, at,
				     (x >> 32) | 1);
		}
		thread_check(&clone, values);
		thread_check(&self->tree, self->values);
		/* Go on with the one or the other. */
		if (rnd_next(&self->state) & 1) {
			cowmem_tree_destroy(&self->tree);
			self->tree.root = clone.root;
			memcpy(self->values, values, sizeof(values));
		} else {
			cowmem_tree_destroy(&clone);
		}
	}
	return NULL;
}

static void test_threads(void)
{
	static struct thread threads[THREADS];
	unsigned int values[THREAD_PAGES], round, i;

	for (round = 0; round < 10; round++) {
		struct cowmem_tree *tree = tree_new();

		for (i = 0; i < THREAD_PAGES; i++) {
			values[i] = i + 1;
			thread_write(tree, i, values[i]);
		}
		for (i = 0; i < THREADS; i++) {
			struct thread *thread = &threads[i];

			thread->state = rnd(ULONG_MAX);
			cowmem_tree_init(&thread->tree, NULL);
			cowmem_tree_clone(&thread->tree, tree);
			memcpy(thread->values, values, sizeof(values));
		}
		for (i = 0; i < THREADS; i++)
			if (pthread_create(&threads[i].id, NULL, thread_run,
					   &threads[i]))
				abort();
		/* The original goes at some time. */
		if (round % 2) {
			thread_check(tree, values);
			tree_end(tree);
		}
		for (i = 0; i < THREADS; i++)
			pthread_join(threads[i].id, NULL);
		if (!(round % 2)) {
			thread_check(tree, values);
			tree_end(tree);
		}
		for (i = 0; i < THREADS; i++) {
			thread_check(&threads[i].tree, threads[i].values);
			cowmem_tree_destroy(&threads[i].tree);
		}
		CHECK_EQ(nr_nodes, 0);
		CHECK_EQ(nr_pages, 0);
		check_forest(false);
	}
}

static const struct test tests[] = {
	{ "empty tree", test_empty },
	{ "lookup of small and huge indices", test_lookup },
	{ "own makes a leaf", test_own },
	{ "add_leaf makes a leaf, where only that is missing", test_add_leaf },
	{ "growth keeps what is there", test_growth },
	{ "clone takes constant time", test_clone_is_constant },
	{ "write after clone copies the path", test_write_copies_path },
	{ "growth of a clone", test_growth_of_clone },
	{ "chain of 1000 clones", test_chain_of_clones },
	{ "punch: every range", test_punch_all },
	{ "punch: private trees", test_punch_private },
	{ "punch: three levels", test_punch_levels },
	{ "punch: random", test_punch_random },
	{ "punch prunes", test_punch_prunes },
	{ "own_edge copies what exists", test_own_edge },
	{ "share: every alignment", test_share_all },
	{ "share: random", test_share_random },
	{ "share: whole subtrees", test_share_whole_subtrees },
	{ "share: whole subtrees after a hole", test_share_after_hole },
	{ "share: huge and sparse", test_share_sparse },
	{ "share: behind shared pages", test_share_append },
	{ "share: interrupted", test_share_interrupted },
	{ "share: interrupted in a hole", test_share_hole_interrupted },
	{ "diff: a budget", test_diff_budget },
	{ "only granted pages differ", test_only_granted },
	{ "count", test_count },
	{ "count: a budget", test_count_budget },
	{ "next: a budget", test_next_budget },
	{ "next data and hole", test_next },
	{ "next data and hole, far away", test_next_far },
	{ "grants are listed", test_grant },
	{ "grants are sorted", test_grant_sorted },
	{ "grants go with their pages", test_grant_dropped },
	{ "grants stay over a clone", test_grant_kept_over_clone },
	{ "grants in a leaf from elsewhere", test_grant_after_share },
	{ "own: each allocation fails", test_own_fails },
	{ "own_edge: each allocation fails", test_own_edge_fails },
	{ "share: each allocation fails", test_share_fails },
	{ "punch after a failure", test_punch_after_failure },
	{ "threads", test_threads },
	{ "random model", model_test },
};

int main(int argc, char **argv)
{
	unsigned int nr = ARRAY_SIZE(tests);
	struct test all[nr + nr_algebra_tests];

	memcpy(all, tests, sizeof(tests));
	memcpy(all + nr, algebra_tests, nr_algebra_tests * sizeof(*all));
	return run_tests(all, nr + nr_algebra_tests,
			 argc > 1 ? argv[1] : NULL);
}
