// SPDX-License-Identifier: GPL-2.0-only
/*
 * Pages, nodes, the checker and the runner, see harness.h.
 */
#include <pthread.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "harness.h"

#define MAX_TREES	1100
/* Seconds for a test; the slowest takes some five, of a CPU that nobody else wants. */
#define TEST_LIMIT	300

/* A node, and what the checker knows about it. */
struct checked_node {
	struct list_head link;
	unsigned int seen;
	const struct cowmem_tree *granted_by;
	struct cowmem_node node;
};

atomic_ulong nr_allocs, nr_nodes, nr_pages;
unsigned long nr_signal_checks;

static LIST_HEAD(all_nodes);
static LIST_HEAD(live_pages);
static LIST_HEAD(freed_pages);
/* The lists above. */
static pthread_mutex_t lists_lock = PTHREAD_MUTEX_INITIALIZER;

static struct cowmem_tree *trees[MAX_TREES];
static unsigned int nr_trees;

static unsigned int fail_nth, signal_nth;
static int fail_err;
static bool fail_done;

static u64 seed, rnd_state;

/* What leaks is counted here; a leak checker could not see more. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "detect_leaks=0";
}

void check_failed(const char *file, int line, const char *what)
{
	const char *base = strrchr(file, '/');

	printf("# %s:%d: not true: %s\n", base ? base + 1 : file, line, what);
	fflush(stdout);
	_exit(1);
}

u64 rnd_next(u64 *state)
{
	u64 z = *state += 0x9e3779b97f4a7c15ULL;

	/* splitmix64 */
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
	return z ^ z >> 31;
}

unsigned long rnd(unsigned long below)
{
	return rnd_next(&rnd_state) % below;
}

void inject(unsigned int nth, int err)
{
	fail_nth = nth;
	fail_err = err;
	fail_done = false;
}

bool injected(void)
{
	return fail_done;
}

void inject_signal(unsigned int nth)
{
	signal_nth = nth;
	nr_signal_checks = 0;
}

bool fatal_signal_pending(struct task_struct *task)
{
	(void)task;
	nr_signal_checks++;
	return signal_nth && nr_signal_checks >= signal_nth;
}

/* What the index wants of node.c and hold.c. */

struct cowmem_node *cowmem_node_alloc(struct cowmem_account *account, bool gently)
{
	struct checked_node *c;

	atomic_fetch_add(&nr_allocs, 1);
	if (fail_nth && !--fail_nth) {
		fail_done = true;
		return ERR_PTR(fail_err);
	}
	c = malloc(sizeof(*c));
	if (!c)
		abort();
	memset(&c->node, 0xa5, sizeof(c->node));
	c->node.account = account;
	c->seen = 0;
	c->granted_by = NULL;
	atomic_fetch_add(&nr_nodes, 1);
	pthread_mutex_lock(&lists_lock);
	list_add_tail(&c->link, &all_nodes);
	pthread_mutex_unlock(&lists_lock);
	return &c->node;
}

void cowmem_node_free(struct cowmem_node *node)
{
	struct checked_node *c = container_of(node, struct checked_node, node);

	pthread_mutex_lock(&lists_lock);
	list_del(&c->link);
	pthread_mutex_unlock(&lists_lock);
	atomic_fetch_sub(&nr_nodes, 1);
	free(c);
}

void cowmem_page_hold(struct page *page)
{
	CHECK(atomic_fetch_add(&page->holders, 1) > 0);
}

/* No leaf in these tests is of a folio. */
void cowmem_folio_hold(struct folio *folio, long nr)
{
	CHECK(!folio);
}

void cowmem_folio_drop(struct folio *folio, long nr)
{
	CHECK(!folio);
}

void cowmem_pages_drop_slots(void *const *slots, unsigned int nr, u64 granted)
{
	unsigned int i;

	for (i = 0; nr; i++) {
		if (!slots[i])
			continue;
		cowmem_page_drop(slots[i], granted & BIT_ULL(i));
		nr--;
	}
}

void cowmem_pages_hold_slots(void *const *slots)
{
	unsigned int i;

	for (i = 0; i < COWMEM_NODE_SLOTS; i++)
		if (slots[i])
			cowmem_page_hold(slots[i]);
}

void cowmem_page_drop(struct page *page, bool granted)
{
	long holders;

	if (granted) {
		CHECK(page->granted_to);
		page->granted_to = NULL;
		page->granted_dropped++;
	}
	holders = atomic_fetch_sub(&page->holders, 1);
	CHECK(holders > 0);
	if (holders > 1)
		return;
	/* The tree's owner may be gone by the time that others look at it. */
	CHECK(!page->granted_to);
	page->freed++;
	atomic_fetch_sub(&nr_pages, 1);
	pthread_mutex_lock(&lists_lock);
	list_del(&page->link);
	list_add_tail(&page->link, &freed_pages);
	pthread_mutex_unlock(&lists_lock);
}

/* Shorthands. */

struct page *page_new(void)
{
	static atomic_uint last_id;
	struct page *page = calloc(1, sizeof(*page));

	if (!page)
		abort();
	page->id = atomic_fetch_add(&last_id, 1) + 1;
	page->holders = 1;
	atomic_fetch_add(&nr_pages, 1);
	pthread_mutex_lock(&lists_lock);
	list_add_tail(&page->link, &live_pages);
	pthread_mutex_unlock(&lists_lock);
	return page;
}

struct cowmem_tree *tree_new(void)
{
	struct cowmem_tree *tree = malloc(sizeof(*tree));

	if (!tree || nr_trees == MAX_TREES)
		abort();
	cowmem_tree_init(tree, NULL);
	trees[nr_trees++] = tree;
	return tree;
}

struct cowmem_tree *tree_clone_new(const struct cowmem_tree *tree)
{
	struct cowmem_tree *clone = tree_new();

	cowmem_tree_clone(clone, tree);
	return clone;
}

void tree_end(struct cowmem_tree *tree)
{
	unsigned int i;

	cowmem_tree_destroy(tree);
	CHECK(!tree->root);
	CHECK(list_empty(&tree->granted));
	for (i = 0; trees[i] != tree; i++)
		;
	trees[i] = trees[--nr_trees];
	free(tree);
}

struct page *tree_page(const struct cowmem_tree *tree, pgoff_t index)
{
	struct cowmem_node *leaf = cowmem_tree_leaf(tree, index, NULL);

	return leaf ? leaf->slots[cowmem_slot(index)] : NULL;
}

/* Without a limit, and with the budget divided at random: that makes no difference. */
pgoff_t tree_next(const struct cowmem_tree *tree, pgoff_t index, bool data)
{
	unsigned long budget = ULONG_MAX, some;
	pgoff_t next = index, step = index;
	bool found = cowmem_tree_next(tree, &next, data, &budget);

	CHECK(found ? next >= index : next == ULONG_MAX);
	do {
		pgoff_t was = step;

		some = MAX_LEVELS + rnd(20);
		if (cowmem_tree_next(tree, &step, data, &some))
			break;
		CHECK(step > was);
		CHECK(step == ULONG_MAX || !some);
	} while (step != ULONG_MAX);
	CHECK_EQ(step, next);
	return next;
}

u64 tree_diff_leaf(const struct cowmem_tree *a, const struct cowmem_tree *b,
		   pgoff_t *index, unsigned long *visited)
{
	unsigned long budget = ULONG_MAX, some;
	pgoff_t step = *index;
	u64 slots = cowmem_tree_diff(a, b, index, &budget), left;

	*visited += ULONG_MAX - budget;
	do {
		pgoff_t was = step;

		some = MAX_LEVELS + rnd(20);
		left = cowmem_tree_diff(a, b, &step, &some);
		if (left)
			break;
		CHECK(step > was);
		CHECK(step == ULONG_MAX || !some);
	} while (step != ULONG_MAX);
	CHECK_EQ(left, slots);
	CHECK_EQ(step, *index);
	return slots;
}

u64 tree_count_range(const struct cowmem_tree *tree, pgoff_t first, pgoff_t last)
{
	unsigned long budget = ULONG_MAX, some;
	pgoff_t index = first, step = first;
	u64 nr = cowmem_tree_count(tree, &index, last, &budget), sum = 0;

	CHECK_EQ(index, ULONG_MAX);
	do {
		pgoff_t was = step;

		some = MAX_LEVELS + rnd(20);
		sum += cowmem_tree_count(tree, &step, last, &some);
		CHECK(step > was);
		CHECK(step == ULONG_MAX || (step <= last && !some));
	} while (step != ULONG_MAX);
	CHECK_EQ(sum, nr);
	return nr;
}

pgoff_t tree_diff(const struct cowmem_tree *a, const struct cowmem_tree *b,
		  pgoff_t index, bool differ)
{
	unsigned long visited = 0;

	for (;;) {
		pgoff_t base = index;
		u64 slots = tree_diff_leaf(a, b, &base, &visited);

		CHECK(slots ? !(base % SLOTS) : base == ULONG_MAX);
		CHECK(base > index || !(slots & ~(~0ULL << (index - base))));
		if (differ)
			return slots ? base + __ffs64(slots) : ULONG_MAX;
		if (base > index)
			return index;
		for (; index < base + SLOTS; index++)
			if (!(slots & BIT_ULL(index - base)))
				return index;
	}
}

static unsigned long node_count(const struct cowmem_node *node)
{
	unsigned long nr = 0;
	unsigned int i;

	for (i = 0; i < SLOTS; i++)
		if (node->slots[i])
			nr += node->level ? node_count(node->slots[i]) : 1;
	return nr;
}

/* How many pages there are in a tree. */
unsigned long tree_count(const struct cowmem_tree *tree)
{
	return tree->root ? node_count(tree->root) : 0;
}

/* Put a new page into a tree; returns it or an error. */
struct page *tree_write(struct cowmem_tree *tree, pgoff_t index)
{
	struct cowmem_node *leaf = cowmem_tree_own(tree, index, false);
	struct page *page, *old;

	if (IS_ERR(leaf))
		return ERR_CAST(leaf);
	page = page_new();
	old = leaf->slots[cowmem_slot(index)];
	cowmem_leaf_set(leaf, index, page);
	if (old)
		cowmem_page_drop(old, false);
	return page;
}

void tree_punch(struct cowmem_tree *tree, pgoff_t first, pgoff_t last)
{
	CHECK_EQ(cowmem_tree_own_edge(tree, first), 0);
	CHECK_EQ(cowmem_tree_own_edge(tree, last), 0);
	cowmem_tree_punch(tree, first, last);
	check_height(tree);
}

void check_height(const struct cowmem_tree *tree)
{
	const struct cowmem_node *root = tree->root;

	CHECK(!root || !root->level || root->nr > 1 || !root->slots[0]);
}

void tree_grant(struct cowmem_tree *tree, struct cowmem_node *leaf,
		pgoff_t index)
{
	struct page *page = leaf->slots[cowmem_slot(index)];

	CHECK_EQ(page->holders, 1);
	page->granted_to = tree;
	cowmem_leaf_grant(tree, leaf, index);
}

void tree_ungrant(struct cowmem_node *leaf, u64 slots)
{
	u64 left = slots & leaf->granted;

	for (; left; left &= left - 1)
		((struct page *)leaf->slots[__ffs64(left)])->granted_to = NULL;
	cowmem_leaf_ungrant(leaf, slots);
}

/* The checker. */

struct walk {
	struct cowmem_tree *tree;
	bool empty_leaves;
	unsigned long leaves_granted, pages_granted;
};

static void check_leaf(struct walk *walk, struct cowmem_node *leaf,
		       pgoff_t base, bool private)
{
	struct checked_node *c = container_of(leaf, struct checked_node, node);
	unsigned int i;

	for (i = 0; i < SLOTS; i++) {
		struct page *page = leaf->slots[i];

		if (!page) {
			CHECK(!(leaf->granted & BIT_ULL(i)));
			continue;
		}
		CHECK(!page->freed);
		page->seen++;
		if (leaf->granted & BIT_ULL(i)) {
			CHECK(page->granted_to == walk->tree);
			CHECK_EQ(page->holders, 1);
			walk->pages_granted++;
		}
	}
	CHECK(leaf->nr || walk->empty_leaves);
	CHECK_EQ(leaf->base % SLOTS, 0);
	if (!leaf->granted) {
		CHECK(list_empty(&leaf->granted_link));
		return;
	}
	CHECK(private);
	/* Where else this leaf may have been shared does not count any more. */
	CHECK_EQ(leaf->base, base);
	c->granted_by = walk->tree;
	walk->leaves_granted++;
}

static void check_node(struct walk *walk, struct cowmem_node *node,
		       pgoff_t base, bool private)
{
	struct checked_node *c = container_of(node, struct checked_node, node);
	unsigned int shift = node->level * COWMEM_NODE_SHIFT;
	unsigned int i, nr = 0;

	if (c->seen++)
		return;
	private = private && refcount_read(&node->refs) == 1;
	CHECK(shift < BITS_PER_LONG);
	for (i = 0; i < SLOTS; i++)
		nr += !!node->slots[i];
	CHECK_EQ(node->nr, nr);
	if (!node->level) {
		check_leaf(walk, node, base, private);
		return;
	}
	CHECK(nr);
	CHECK(!node->granted);
	for (i = 0; i < SLOTS; i++) {
		struct cowmem_node *child = node->slots[i];

		if (!child)
			continue;
		CHECK(i <= (ULONG_MAX - base) >> shift);
		CHECK_EQ(child->level, node->level - 1);
		check_node(walk, child, base + ((pgoff_t)i << shift), private);
	}
}

static void check_granted_list(const struct walk *walk)
{
	struct cowmem_node *leaf;
	unsigned long nr = 0;

	list_for_each_entry(leaf, &walk->tree->granted, granted_link) {
		struct checked_node *c;

		c = container_of(leaf, struct checked_node, node);
		CHECK(c->granted_by == walk->tree);
		CHECK(leaf->granted_link.next->prev == &leaf->granted_link);
		nr++;
	}
	CHECK_EQ(nr, walk->leaves_granted);
}

static void forget_freed_pages(void)
{
	struct page *page, *next;

	list_for_each_entry_safe(page, next, &freed_pages, link) {
		CHECK_EQ(page->freed, 1);
		CHECK_EQ(page->holders, 0);
		list_del(&page->link);
		free(page);
	}
}

void check_forest(bool empty_leaves)
{
	struct walk walk = { .empty_leaves = empty_leaves };
	unsigned long pages_granted = 0;
	struct checked_node *c;
	struct page *page;
	unsigned int i;

	list_for_each_entry(c, &all_nodes, link) {
		c->seen = 0;
		c->granted_by = NULL;
	}
	list_for_each_entry(page, &live_pages, link)
		page->seen = 0;

	for (i = 0; i < nr_trees; i++) {
		walk.tree = trees[i];
		walk.leaves_granted = 0;
		CHECK(!walk.tree->granted_lock.held);
		if (walk.tree->root)
			check_node(&walk, walk.tree->root, 0, true);
		check_granted_list(&walk);
	}

	/* One that nobody points to has leaked. */
	list_for_each_entry(c, &all_nodes, link)
		CHECK_EQ(refcount_read(&c->node.refs), c->seen ?: ~0U);
	list_for_each_entry(page, &live_pages, link) {
		CHECK_EQ(page->holders, page->seen ?: -1);
		pages_granted += !!page->granted_to;
	}
	CHECK_EQ(walk.pages_granted, pages_granted);
	forget_freed_pages();
}

void check_pages(const struct cowmem_tree *tree, struct page *const *pages,
		 pgoff_t first, unsigned long nr)
{
	unsigned long count = 0, i;

	for (i = 0; i < nr; i++) {
		struct page *page = tree_page(tree, first + i);

		if (page != pages[i]) {
			printf("# index %#lx: page %u, not %u\n", first + i,
			       page ? page->id : 0,
			       pages[i] ? pages[i]->id : 0);
			CHECK(page == pages[i]);
		}
		count += !!pages[i];
	}
	CHECK_EQ(tree_count(tree), count);
}

static void image_add(struct image *image, const void *from, size_t size)
{
	if (image->size + size > image->room) {
		image->room = 2 * (image->size + size);
		image->bytes = realloc(image->bytes, image->room);
		if (!image->bytes)
			abort();
	}
	memcpy(image->bytes + image->size, from, size);
	image->size += size;
}

void image_take(struct image *image)
{
	struct checked_node *c;
	struct page *page;
	unsigned int i;

	memset(image, 0, sizeof(*image));
	for (i = 0; i < nr_trees; i++) {
		image_add(image, &trees[i], sizeof(trees[i]));
		image_add(image, trees[i], sizeof(*trees[i]));
	}
	list_for_each_entry(c, &all_nodes, link) {
		image_add(image, &c, sizeof(c));
		image_add(image, &c->node, sizeof(c->node));
	}
	list_for_each_entry(page, &live_pages, link) {
		long holders = page->holders;

		image_add(image, &page, sizeof(page));
		image_add(image, &holders, sizeof(holders));
	}
}

/* Check that nothing is different, and forget the image. */
void image_check(struct image *image)
{
	struct image now;

	image_take(&now);
	CHECK_EQ(now.size, image->size);
	CHECK(!memcmp(now.bytes, image->bytes, now.size));
	free(now.bytes);
	free(image->bytes);
}

/* The runner. */

static bool run_test(const struct test *test)
{
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid < 0)
		return false;
	if (!pid) {
		alarm(TEST_LIMIT);
		test->run();
		while (nr_trees)
			tree_end(trees[nr_trees - 1]);
		check_forest(false);
		CHECK_EQ(nr_nodes, 0);
		CHECK_EQ(nr_pages, 0);
		fflush(stdout);
		_exit(0);
	}
	if (waitpid(pid, &status, 0) != pid)
		return false;
	if (WIFSIGNALED(status))
		printf("# signal %d\n", WTERMSIG(status));
	return !status;
}

int run_tests(const struct test *tests, unsigned int nr, const char *only)
{
	const char *env = getenv("SEED");
	unsigned int i, nr_run = 0, nr_failed = 0;

	seed = env ? strtoull(env, NULL, 0) : (u64)time(NULL) << 16 ^ getpid();
	for (i = 0; i < nr; i++)
		nr_run += !only || !strcmp(only, tests[i].name);
	if (!nr_run) {
		fprintf(stderr, "no such test: %s\n", only);
		return 2;
	}
	printf("TAP version 13\n1..%u\n# SEED=%#llx\n", nr_run, seed);
	for (nr_run = 0, i = 0; i < nr; i++) {
		bool ok;

		if (only && strcmp(only, tests[i].name))
			continue;
		rnd_state = seed;
		ok = run_test(&tests[i]);
		nr_failed += !ok;
		printf("%sok %u - %s\n", ok ? "" : "not ", ++nr_run,
		       tests[i].name);
	}
	return !!nr_failed;
}
