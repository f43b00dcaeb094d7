// SPDX-License-Identifier: GPL-2.0-only
/*
 * A forest of trees beside arrays that say what is in them.  Trees are used as
 * the module uses them: see cowmem_grant_leaf(), region_punch(), share(),
 * copy_locked() and restore_locked().
 */
#include "harness.h"

#define TREES	12
#define OPS	50000

/* The indices in use, all others are holes. */
static const struct window {
	pgoff_t first;
	unsigned int nr;
} windows[] = {
	{ 0, 20000 },
	{ (1UL << 18) - 100, 200 },
	{ 1UL << 30, 128 },
	{ LAST / 4 - 70, 140 },
	{ LAST - 149, 150 },
};

#define CELLS	(20000 + 200 + 128 + 140 + 150)

struct cell {
	struct page *page;
	bool granted;
};

struct model {
	struct cowmem_tree *tree;
	struct cell cells[CELLS];
};

static struct model models[TREES];

static struct {
	unsigned long failed, granted, added, reused, copied, shared, grafted, restored;
} stats;

/* The cell of an index, or the first one after it. */
static unsigned int cell_from(pgoff_t index)
{
	unsigned int i, cell = 0;

	for (i = 0; i < ARRAY_SIZE(windows); i++) {
		if (index < windows[i].first)
			break;
		if (index - windows[i].first < windows[i].nr)
			return cell + (index - windows[i].first);
		cell += windows[i].nr;
	}
	return cell;
}

static pgoff_t cell_index(unsigned int cell)
{
	unsigned int i;

	for (i = 0; cell >= windows[i].nr; i++)
		cell -= windows[i].nr;
	return windows[i].first + cell;
}

static struct cell *cell_at(struct model *m, pgoff_t index)
{
	unsigned int cell = cell_from(index);

	CHECK(cell < CELLS && cell_index(cell) == index);
	return &m->cells[cell];
}

static pgoff_t rnd_index(void)
{
	const struct window *w = &windows[0];
	pgoff_t index;

	if (!rnd(6))
		w = &windows[rnd(ARRAY_SIZE(windows))];
	index = rnd(w->nr);
	/* Edges of nodes more often. */
	if (!rnd(3)) {
		index -= index % (rnd(3) ? 64 : 4096);
		if (index && rnd(2))
			index--;
	}
	return w->first + index;
}

static void model_check(const struct model *m)
{
	unsigned long count = 0;
	unsigned int cell = 0, w, i;

	for (w = 0; w < ARRAY_SIZE(windows); w++) {
		struct cowmem_node *leaf = NULL;

		for (i = 0; i < windows[w].nr; i++, cell++) {
			pgoff_t index = windows[w].first + i;
			unsigned int slot = cowmem_slot(index);
			struct page *page = m->cells[cell].page;

			if (!i || !slot)
				leaf = cowmem_tree_leaf(m->tree, index, NULL);
			if (page != (leaf ? leaf->slots[slot] : NULL)) {
				printf("# index %#lx\n", index);
				CHECK(!"the page is another one");
			}
			CHECK_EQ(m->cells[cell].granted,
				 leaf && (leaf->granted & BIT_ULL(slot)));
			count += !!page;
		}
	}
	CHECK_EQ(tree_count(m->tree), count);
}

static void model_start(struct model *m)
{
	m->tree = tree_new();
	memset(m->cells, 0, sizeof(m->cells));
}

static void model_end(struct model *m)
{
	tree_end(m->tree);
	m->tree = NULL;
}

/* An operation may fail only if it was made to. */
static bool failed(int err)
{
	if (!err)
		return false;
	CHECK_EQ(err, -ENOMEM);
	CHECK(injected());
	stats.failed++;
	return true;
}

static void write_page(struct model *m, pgoff_t index, bool grant)
{
	struct cell *cell = cell_at(m, index);
	struct cowmem_node *leaf;
	bool shared;

	leaf = cowmem_tree_leaf(m->tree, index, &shared);
	CHECK(leaf || !cell->page);
	if (!leaf && rnd(4)) {
		leaf = cowmem_tree_add_leaf(m->tree, index, false);
		if (leaf && failed(PTR_ERR_OR_ZERO(leaf)))
			return;
		CHECK(!leaf || !leaf->nr);
		stats.added += !!leaf;
		shared = false;
	}
	if (!leaf || shared) {
		CHECK(!cell->granted);
		leaf = cowmem_tree_own(m->tree, index, false);
		if (failed(PTR_ERR_OR_ZERO(leaf)))
			return;
	}
	CHECK(leaf->slots[cowmem_slot(index)] == cell->page);
	if (cell->granted)
		return;
	if (cell->page && cell->page->holders == 1) {
		stats.reused++;
	} else {
		struct page *old = cell->page;

		cell->page = page_new();
		cowmem_leaf_set(leaf, index, cell->page);
		if (old)
			cowmem_page_drop(old, false);
	}
	if (!grant)
		return;
	tree_grant(m->tree, leaf, index);
	cell->granted = true;
	stats.granted++;
}

static void op_write(struct model *m)
{
	unsigned int cell, nr = rnd(4) ? 1 : 1 + rnd(150);
	unsigned int step = rnd(3) ? 1 : 1 + rnd(70);
	bool grant = rnd(4);

	for (cell = cell_from(rnd_index()); nr-- && cell < CELLS; cell += step)
		write_page(m, cell_index(cell), grant);
}

static bool punch(struct model *m, pgoff_t first, pgoff_t last)
{
	unsigned int cell;

	if (failed(cowmem_tree_own_edge(m->tree, first)) ||
	    failed(cowmem_tree_own_edge(m->tree, last)))
		return false;
	cowmem_tree_punch(m->tree, first, last);
	check_height(m->tree);
	for (cell = cell_from(first);
	     cell < CELLS && cell_index(cell) <= last; cell++) {
		m->cells[cell].page = NULL;
		m->cells[cell].granted = false;
	}
	return true;
}

static void op_punch(struct model *m)
{
	pgoff_t first = rnd_index(), last = rnd_index(), swap;

	if (rnd(4))
		last = first + rnd(rnd(4) ? 80 : 3000);
	else if (!rnd(8))
		last = ULONG_MAX;
	if (!rnd(40))
		first = 0;
	if (first > last) {
		swap = first;
		first = last;
		last = swap;
	}
	punch(m, first, last);
}

static u64 granted_slots(const struct cowmem_node *leaf, pgoff_t first,
			 pgoff_t last)
{
	u64 slots = 0;
	unsigned int i;

	for (i = 0; i < SLOTS; i++)
		if (leaf->base + i >= first && leaf->base + i <= last)
			slots |= leaf->granted & BIT_ULL(i);
	return slots;
}

/* Copy some of the granted pages to the clone; the others are to be shared. */
static int copy_some(struct model *dst, pgoff_t dst_first, struct model *src,
		     pgoff_t src_first, pgoff_t src_last, bool some)
{
	struct cowmem_node *leaf, *next;

	list_for_each_entry(leaf, &src->tree->granted, granted_link) {
		u64 slots = granted_slots(leaf, src_first, src_last);

		for (; slots; slots &= slots - 1) {
			pgoff_t index = leaf->base + __ffs64(slots);
			pgoff_t to = index - src_first + dst_first;
			struct cell *from = cell_at(src, index);
			struct cowmem_node *mine;

			CHECK(from->granted);
			CHECK(from->page == leaf->slots[cowmem_slot(index)]);
			if (!some || rnd(8))
				continue;
			mine = cowmem_tree_own(dst->tree, to, false);
			if (failed(PTR_ERR_OR_ZERO(mine)))
				return -ENOMEM;
			cell_at(dst, to)->page = page_new();
			cowmem_leaf_set(mine, to, cell_at(dst, to)->page);
			cowmem_page_drop(from->page, false);
			stats.copied++;
		}
	}
	list_for_each_entry_safe(leaf, next, &src->tree->granted,
				 granted_link) {
		u64 slots = granted_slots(leaf, src_first, src_last);
		u64 left;

		for (left = slots; left; left &= left - 1) {
			unsigned int i = __ffs64(left);
			struct cell *from = cell_at(src, leaf->base + i);
			pgoff_t to = leaf->base + i - src_first + dst_first;

			if (cell_at(dst, to)->page == from->page)
				from->granted = false;
			else
				slots &= ~BIT_ULL(i);
		}
		tree_ungrant(leaf, slots);
	}
	return 0;
}

static void op_clone(struct model *dst, struct model *src)
{
	unsigned int cell;

	model_start(dst);
	cowmem_tree_clone(dst->tree, src->tree);
	memcpy(dst->cells, src->cells, sizeof(dst->cells));
	for (cell = 0; cell < CELLS; cell++)
		dst->cells[cell].granted = false;
	if (copy_some(dst, 0, src, 0, ULONG_MAX, rnd(2)))
		model_end(dst);
}

/* Ranges of one length, each in one window. */
static bool rnd_ranges(pgoff_t *dst, pgoff_t *src, pgoff_t *nr)
{
	const struct window *from = &windows[0], *to = &windows[0];
	pgoff_t src_first, dst_first;

	if (!rnd(3)) {
		from = &windows[rnd(ARRAY_SIZE(windows))];
		to = &windows[rnd(ARRAY_SIZE(windows))];
	}
	src_first = from->first + rnd(from->nr);
	dst_first = to->first + rnd(to->nr);
	if (rnd(3)) {
		pgoff_t mask = rnd(2) ? 63 : 4095;

		src_first = max(src_first & ~mask, from->first);
		dst_first = max((dst_first & ~mask) | (src_first & mask),
				to->first);
	}
	if (dst_first >= to->first + to->nr)
		return false;
	*nr = rnd(min(from->first + from->nr - src_first,
		      to->first + to->nr - dst_first)) + 1;
	*src = src_first;
	*dst = dst_first;
	return true;
}

/* Note in the cells of @dst what it shares with @src. */
static void share_cells(struct model *dst, pgoff_t dst_first,
			const struct model *src, pgoff_t src_first, pgoff_t nr)
{
	pgoff_t i;

	for (i = src_first; i - src_first < nr; i++) {
		unsigned int cell = cell_from(i);

		if (cell == CELLS)
			break;
		i = cell_index(cell);
		if (i - src_first >= nr)
			break;
		cell_at(dst, i - src_first + dst_first)->page =
			src->cells[cell].page;
		stats.shared += !!src->cells[cell].page;
	}
}

/* As copy_locked() does it, also within one tree. */
static void op_copy(struct model *dst, struct model *src)
{
	static struct model fresh;
	pgoff_t src_first, dst_first, nr;
	unsigned int cell;

	if (!rnd_ranges(&dst_first, &src_first, &nr))
		return;
	model_start(&fresh);
	if (failed(cowmem_tree_share(fresh.tree, dst_first, src->tree,
				     src_first, nr))) {
		model_end(&fresh);
		return;
	}
	share_cells(&fresh, dst_first, src, src_first, nr);
	if (copy_some(&fresh, dst_first, src, src_first, src_first + nr - 1,
		      rnd(2)) ||
	    failed(cowmem_tree_own_edge(dst->tree, dst_first)) ||
	    failed(cowmem_tree_own_edge(dst->tree, dst_first + nr - 1)) ||
	    failed(cowmem_tree_raise(dst->tree, fresh.tree)) ||
	    failed(cowmem_tree_raise(fresh.tree, dst->tree))) {
		model_end(&fresh);
		return;
	}
	cowmem_tree_graft(dst->tree, dst_first, dst_first + nr - 1, fresh.tree);
	check_height(dst->tree);
	for (cell = cell_from(dst_first); cell < CELLS &&
	     cell_index(cell) < dst_first + nr; cell++)
		dst->cells[cell] = fresh.cells[cell];
	model_end(&fresh);
	stats.grafted++;
}

/* As restore_locked() does it. */
static void op_restore(struct model *dst, struct model *src)
{
	static struct model fresh;
	pgoff_t first, end = 0;
	unsigned int cell;

	model_start(&fresh);
	cowmem_tree_clone(fresh.tree, src->tree);
	memcpy(fresh.cells, src->cells, sizeof(fresh.cells));
	for (cell = 0; cell < CELLS; cell++)
		fresh.cells[cell].granted = false;
	if (copy_some(&fresh, 0, src, 0, ULONG_MAX, rnd(2))) {
		model_end(&fresh);
		return;
	}
	/* What differs is what the cells say, and granted pages are in it. */
	for (cell = 0;;) {
		first = tree_diff(dst->tree, fresh.tree, end, true);
		for (; cell < CELLS && cell_index(cell) < first; cell++) {
			CHECK(dst->cells[cell].page == fresh.cells[cell].page);
			CHECK(!dst->cells[cell].granted);
		}
		if (first == ULONG_MAX)
			break;
		end = tree_diff(dst->tree, fresh.tree, first, false);
		CHECK(end > first);
		for (; cell < CELLS && cell_index(cell) < end; cell++)
			CHECK(dst->cells[cell].page != fresh.cells[cell].page);
	}
	cowmem_tree_swap(dst->tree, fresh.tree);
	memcpy(dst->cells, fresh.cells, sizeof(dst->cells));
	model_end(&fresh);
	stats.restored++;
}

/* To a new tree, or behind what is left of another one. */
static void op_share(struct model *dst, struct model *src)
{
	pgoff_t src_first, dst_first, nr;
	int err;

	if (!rnd_ranges(&dst_first, &src_first, &nr))
		return;
	if (!dst->tree)
		model_start(dst);
	else if (!punch(dst, dst_first, ULONG_MAX))
		return;

	/* All at once, with the huge holes between the windows. */
	if (!rnd(8)) {
		dst_first = min(src_first, dst_first);
		if (!punch(dst, dst_first, ULONG_MAX))
			return;
		src_first = dst_first;
		nr = LAST + 1 - src_first;
	}
	err = cowmem_tree_share(dst->tree, dst_first, src->tree, src_first, nr);
	if (failed(err)) {
		model_end(dst);
		return;
	}
	share_cells(dst, dst_first, src, src_first, nr);
	if (copy_some(dst, dst_first, src, src_first, src_first + nr - 1,
		      rnd(2)))
		model_end(dst);
}

static void op_ungrant(struct model *m)
{
	struct cowmem_node *leaf, *next;

	list_for_each_entry_safe(leaf, next, &m->tree->granted, granted_link) {
		u64 slots = rnd(ULONG_MAX) & rnd(ULONG_MAX), left;

		if (rnd(4))
			continue;
		if (!rnd(3))
			slots = ~0ULL;
		for (left = slots & leaf->granted; left; left &= left - 1)
			cell_at(m, leaf->base + __ffs64(left))->granted = false;
		tree_ungrant(leaf, slots);
	}
}

static void op_next(struct model *m)
{
	pgoff_t index = rnd_index() + (rnd(4) ? 0 : rnd(500));
	unsigned int cell = cell_from(index);
	pgoff_t hole = index;

	while (cell < CELLS && !m->cells[cell].page)
		cell++;
	CHECK_EQ(tree_next(m->tree, index, true),
		 cell < CELLS ? cell_index(cell) : ULONG_MAX);

	for (cell = cell_from(index); cell < CELLS && m->cells[cell].page &&
	     cell_index(cell) == hole; cell++)
		hole++;
	CHECK_EQ(tree_next(m->tree, index, false), hole);
}

static void op_count(struct model *m)
{
	pgoff_t first = rnd_index(), last = first + (rnd(4) ? rnd(5000) : LAST);
	unsigned int cell;
	u64 nr = 0;

	for (cell = cell_from(first); cell < CELLS && cell_index(cell) <= last; cell++)
		nr += !!m->cells[cell].page;
	CHECK_EQ(tree_count_range(m->tree, first, last), nr);
}

static struct model *some_model(bool used)
{
	unsigned int i = rnd(TREES), k;

	for (k = 0; k < TREES; k++, i = (i + 1) % TREES)
		if (!models[i].tree == !used)
			return &models[i];
	return NULL;
}

void model_test(void)
{
	unsigned long most_nodes = 0;
	unsigned int i, k;

	for (i = 0; i < OPS; i++) {
		struct model *m = some_model(true), *n = NULL;
		unsigned int what = rnd(1000);

		if (!m) {
			m = some_model(false);
			model_start(m);
		}
		inject(rnd(12) ? 0 : 1 + rnd(4), -ENOMEM);
		if (what < 520) {
			op_write(m);
		} else if (what < 680) {
			op_punch(m);
		} else if (what < 740) {
			n = some_model(false);
			if (n)
				op_clone(n, m);
		} else if (what < 820) {
			n = some_model(what < 790);
			if (n && n != m)
				op_share(n, m);
		} else if (what < 840) {
			op_ungrant(m);
		} else if (what < 890) {
			n = some_model(true);
			op_copy(n, m);
		} else if (what < 915) {
			n = some_model(true);
			if (n != m)
				op_restore(n, m);
		} else if (what < 945) {
			model_end(m);
		} else if (what < 985) {
			op_next(m);
		} else {
			op_count(m);
		}
		inject(0, 0);

		if (i % 4 == 0 && m->tree)
			model_check(m);
		if (i % 4 == 0 && n && n->tree)
			model_check(n);
		if (i % 50 == 0) {
			check_forest(false);
			for (k = 0; k < TREES; k++)
				if (models[k].tree)
					model_check(&models[k]);
		}
		most_nodes = max(most_nodes, (unsigned long)nr_nodes);
	}
	check_forest(false);
	printf("# %u operations (%lu failed), %lu pages granted, %lu again, %lu copied,\n",
	       OPS, stats.failed, stats.granted, stats.reused, stats.copied);
	printf("# %lu leaves added, %lu shared, %lu grafts, %lu restores; up to %lu nodes\n",
	       stats.added, stats.shared, stats.grafted, stats.restored, most_nodes);
}
