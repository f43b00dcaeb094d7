/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the tests of the page index stand on: pages and nodes that know who
 * should point to them, and a checker that compares that with who does.
 */
#ifndef _HARNESS_H
#define _HARNESS_H

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include <linux/bitops.h>
#include <linux/err.h>
#include <linux/kernel.h>
#include <linux/list.h>
#include <linux/sched/signal.h>
#include <linux/string.h>

#include "hold.h"
#include "leaf.h"
#include "tree.h"
#include "tree-range.h"
#include "tree-walk.h"

#define SLOTS	((pgoff_t)COWMEM_NODE_SLOTS)
/* No path is longer. */
#define MAX_LEVELS	((BITS_PER_LONG + COWMEM_NODE_SHIFT - 1) / COWMEM_NODE_SHIFT)
/* The last page of the largest region. */
#define LAST	((1UL << (BITS_PER_LONG == 64 ? 51 : 31)) - 2)

/**
 * struct page - stands in for a page
 * @holders: leaf slots that should point here.
 * @id: which it is, for messages.
 * @freed: how often the last holder went.
 * @granted_dropped: how often a slot was dropped that had been granted.
 * @granted_to: the tree that may write it, as folio->mapping in the module.
 * @value: content, for the test with threads.
 * @seen: the checker's count of slots.
 * @link: in the list of live or of freed pages.
 */
struct page {
	atomic_long holders;
	unsigned int id;
	unsigned int freed;
	unsigned int granted_dropped;
	struct cowmem_tree *granted_to;
	unsigned int value;
	long seen;
	struct list_head link;
};

/* A failed check ends the test, which runs in a process of its own. */
#define CHECK(cond) do {						\
	if (!(cond))							\
		check_failed(__FILE__, __LINE__, #cond);		\
} while (0)

#define CHECK_EQ(a, b) do {						\
	unsigned long long _x = (a), _y = (b);				\
									\
	if (_x != _y) {							\
		printf("# %#llx != %#llx\n", _x, _y);			\
		check_failed(__FILE__, __LINE__, #a " == " #b);		\
	}								\
} while (0)

void check_failed(const char *file, int line, const char *what)
	__attribute__((noreturn));

struct test {
	const char *name;
	void (*run)(void);
};

int run_tests(const struct test *tests, unsigned int nr, const char *only);

/* Random numbers; each test starts over from the seed. */
u64 rnd_next(u64 *state);
unsigned long rnd(unsigned long below);

/* How many nodes were ever allocated, how many there are. */
extern atomic_ulong nr_allocs, nr_nodes;
/* How many pages there are. */
extern atomic_ulong nr_pages;

/* Let the @nth allocation from now on fail, once; 0: none. */
void inject(unsigned int nth, int err);
/* Did it? */
bool injected(void);

/* Let fatal_signal_pending() say yes from the @nth time on; 0: never. */
void inject_signal(unsigned int nth);
/* How often it was asked: steps of cowmem_tree_share(). */
extern unsigned long nr_signal_checks;

struct page *page_new(void);
struct cowmem_tree *tree_new(void);
struct cowmem_tree *tree_clone_new(const struct cowmem_tree *tree);
void tree_end(struct cowmem_tree *tree);

struct page *tree_page(const struct cowmem_tree *tree, pgoff_t index);
/* Budgets aside: the next index, the next leaf that differs, how many pages there are. */
pgoff_t tree_next(const struct cowmem_tree *tree, pgoff_t index, bool data);
u64 tree_diff_leaf(const struct cowmem_tree *a, const struct cowmem_tree *b,
		   pgoff_t *index, unsigned long *visited);
u64 tree_count_range(const struct cowmem_tree *tree, pgoff_t first, pgoff_t last);
/* The first index from @index on where two trees differ (@differ) or do not. */
pgoff_t tree_diff(const struct cowmem_tree *a, const struct cowmem_tree *b,
		  pgoff_t index, bool differ);
unsigned long tree_count(const struct cowmem_tree *tree);
struct page *tree_write(struct cowmem_tree *tree, pgoff_t index);
void tree_punch(struct cowmem_tree *tree, pgoff_t first, pgoff_t last);
void tree_grant(struct cowmem_tree *tree, struct cowmem_node *leaf,
		pgoff_t index);
void tree_ungrant(struct cowmem_node *leaf, u64 slots);

/* Check every rule of the data structure for all trees, nodes and pages. */
void check_forest(bool empty_leaves);
/* Check that no lower tree would do. */
void check_height(const struct cowmem_tree *tree);
/* Check that a tree has exactly the @nr pages, NULL for a hole, from @first. */
void check_pages(const struct cowmem_tree *tree, struct page *const *pages,
		 pgoff_t first, unsigned long nr);

/* All trees, nodes and counts, byte for byte. */
struct image {
	char *bytes;
	size_t size, room;
};

void image_take(struct image *image);
void image_check(struct image *image);

/*
 * Do @op with its first, second, ... allocation failing until none does.  Each
 * time it has to report that error and @undo has to leave all as it was.
 * Returns how often it failed.
 */
#define FAIL_EACH_UNDO(op, undo) ({					\
	struct image _image;						\
	unsigned int _n;						\
									\
	for (_n = 1; ; _n++) {						\
		int _want = _n % 2 ? -ENOMEM : -ENOSPC, _err;		\
									\
		image_take(&_image);					\
		inject(_n, _want);					\
		_err = (op);						\
		if (!injected()) {					\
			inject(0, 0);					\
			CHECK_EQ(_err, 0);				\
			break;						\
		}							\
		CHECK_EQ(_err, _want);					\
		check_forest(true);					\
		undo;							\
		image_check(&_image);					\
	}								\
	free(_image.bytes);						\
	_n - 1; })

#define FAIL_EACH(op) FAIL_EACH_UNDO(op, (void)0)

void model_test(void);

/* algebra.c */
extern const struct test algebra_tests[];
extern const unsigned int nr_algebra_tests;

#endif /* _HARNESS_H */
