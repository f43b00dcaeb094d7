// SPDX-License-Identifier: GPL-2.0-only
/*
 * Choosing the snapshots that have to yield
 *
 * DOC: Which ones
 *
 * The oldest ones that help, and no more than necessary.  A node is freed with the last
 * reference to it and a page with its last holder, and those may be several snapshots.  So
 * finding out what helps is a matter of counting: drop one tree after the other, but only
 * on paper.  A node that was dropped as often as there are references to it would be freed,
 * and then what hangs below it is dropped in turn.  When enough would be freed, the snapshot
 * that was dropped last has to go, given that the older ones go.  Then start over with the
 * ones that have to go, to find the last one of the older ones, until the ones that have to
 * go are enough by themselves.
 *
 * It is enough if as much would be freed as the write lacks.  It is also enough if nobody
 * else would share the page that is to be written, or the path to it: then it can be
 * written in place.  That is the case when memory was full before the snapshot was made.
 *
 * DOC: What it costs
 *
 * A node is looked into once, when its last reference is dropped, so dropping all trees
 * takes time in proportion to what these snapshots hold and nobody else does.  No more than
 * SEARCH_NODES nodes of one snapshot are looked into, and what was not found by then does
 * not count.  The search is repeated for each snapshot that has to go.  It takes no lock of
 * a region except the one that is to be written.  Meanwhile other writers without memory
 * wait, and so does anybody who closes such a snapshot.
 *
 * The counts may change during the search: somebody who clones a snapshot may keep what
 * was to be freed.  Then the write asks again.
 */
#include <linux/hash.h>
#include <linux/log2.h>
#include <linux/memcontrol.h>
#include <linux/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "area.h"
#include "expendable.h"
#include "lock.h"
#include "node.h"
#include "page.h"
#include "region.h"
#include "tree-walk.h"
#include "tree.h"
#include "victim.h"

/* No more nodes of one snapshot are looked into. */
#define SEARCH_NODES	(4 * COWMEM_TREE_BUDGET)

/* The logarithm of the number of entries in the table, at first and at most. */
#define TABLE_ORDER	9U
#define TABLE_ORDER_MAX	20U

/* The page that is to be written, the nodes on the path to it, other leaves of its area. */
#define TARGET_MAX	(BITS_PER_LONG / COWMEM_NODE_SHIFT + 2 + COWMEM_AREA_LEAVES)

/**
 * struct drops - how often a node or a page was dropped on paper
 * @entry: the node or the page; NULL if the entry is free
 * @nr: how often
 */
struct drops {
	const void *entry;
	unsigned long nr;
};

/**
 * struct search - a search for snapshots that have to yield
 * @need: what the write lacks
 * @left: the part of @need that would not be freed yet
 * @target: the page that is to be written and the path to it, as far as others share them,
 *	and how often each has to be dropped
 * @nr_target: number of entries in @target
 * @table: what was dropped, hashed by address
 * @order: logarithm of the size of @table
 * @used: number of entries in use
 * @budget: number of nodes that may still be looked into
 */
struct search {
	struct cowmem_need need;
	struct cowmem_need left;
	struct drops *target;
	unsigned int nr_target;
	struct drops *table;
	unsigned int order;
	unsigned long used;
	unsigned long budget;
};

/* The entry of @table for @entry, or the free one where it belongs. */
static struct drops *find_drops(struct drops *table, unsigned int order, const void *entry)
{
	unsigned long i = hash_ptr(entry, order);

	while (table[i].entry && table[i].entry != entry)
		i = (i + 1) & (BIT(order) - 1);
	return &table[i];
}

/* A search that finds no memory fails, rather than take it from others. */
static struct drops *table_alloc(unsigned int order)
{
	return kvcalloc(BIT(order), sizeof(struct drops),
			GFP_KERNEL | __GFP_NORETRY | __GFP_NOWARN);
}

/* Make room for one more entry.  Returns whether there is. */
static bool table_grow(struct search *s)
{
	struct drops *table;
	unsigned long i;

	if (s->used < BIT(s->order) / 2)
		return true;
	if (s->order == TABLE_ORDER_MAX)
		return false;
	table = table_alloc(s->order + 1);
	if (!table)
		return false;
	for (i = 0; i < BIT(s->order); i++)
		if (s->table[i].entry)
			*find_drops(table, s->order + 1, s->table[i].entry) = s->table[i];
	kvfree(s->table);
	s->table = table;
	s->order++;
	return true;
}

/*
 * One reference to @entry would be dropped.  Returns whether it would be the last one of
 * @refs.
 */
static bool drop(struct search *s, const void *entry, unsigned long refs)
{
	struct drops *drops;

	if (refs == 1)
		return true;
	/* What is not counted is not freed, either. */
	if (!table_grow(s)) {
		s->budget = 0;
		return false;
	}
	drops = find_drops(s->table, s->order, entry);
	s->used += !drops->entry;
	drops->entry = entry;
	return ++drops->nr >= refs;
}

#ifdef CONFIG_MEMCG
/* Would @memcg have one more page if the last slot dropped @page? */
static bool page_helps(struct page *page, struct mem_cgroup *memcg)
{
	struct mem_cgroup *charged;
	bool helps;

	/* Any other user of the page may keep it for long. */
	if (!memcg || cowmem_page_busy(page, cowmem_page_mapcount(page)))
		return false;
	rcu_read_lock();
	charged = folio_memcg(page_folio(page));
	helps = charged && mem_cgroup_is_descendant(charged, memcg);
	rcu_read_unlock();
	return helps;
}
#else
static bool page_helps(struct page *page, struct mem_cgroup *memcg)
{
	return false;
}
#endif

static void drop_page(struct search *s, struct page *page)
{
	struct folio *folio = page_folio(page);
	long nr = folio_nr_pages(folio);

	if (!drop(s, folio, cowmem_page_holders(page)))
		return;
	s->left.bytes -= nr * PAGE_SIZE;
	if (s->need.account && cowmem_page_account(page) == s->need.account)
		s->left.pages -= nr;
	if (page_helps(page, s->need.memcg))
		s->left.charged -= nr;
}

/*
 * A node is looked into only if its last reference would be dropped.  No other tree reaches
 * it then, and it does not change.
 */
static void drop_node(struct search *s, const struct cowmem_node *node)
{
	unsigned int i;

	if (!drop(s, node, refcount_read(&node->refs)))
		return;
	s->left.bytes -= sizeof(*node);
	if (!s->budget)
		return;
	s->budget--;
	cond_resched();
	if (fatal_signal_pending(current))
		s->budget = 0;
	for (i = 0; i < COWMEM_NODE_SLOTS && s->budget && !cowmem_need_met(&s->left); i++) {
		void *entry = node->slots[i];

		if (entry && node->level)
			drop_node(s, entry);
		else if (entry)
			drop_page(s, entry);
	}
}

/* Could the page be written in place if all that was dropped were gone? */
static bool target_alone(const struct search *s)
{
	unsigned int i;

	for (i = 0; i < s->nr_target; i++) {
		const struct drops *others = &s->target[i];

		if (find_drops(s->table, s->order, others->entry)->nr < others->nr)
			return false;
	}
	return s->nr_target;
}

/*
 * Drop the tree of @e as well, on paper.  Returns whether that is enough.  Under
 * cowmem_expendables_lock.
 */
static bool drop_tree(struct search *s, struct cowmem_expendable *e)
{
	const struct cowmem_node *root = e->region->tree.root;

	s->budget = SEARCH_NODES;
	if (root)
		drop_node(s, root);
	return cowmem_need_met(&s->left) || target_alone(s);
}

static void start_over(struct search *s)
{
	memset(s->table, 0, BIT(s->order) * sizeof(*s->table));
	s->used = 0;
	s->left = s->need;
}

/*
 * Which snapshot makes the chosen ones enough, if it and all the older ones go as well?  Only
 * snapshots before @before are tried.  Returns NULL if the chosen ones are enough by
 * themselves, -ENOENT if nothing is.
 */
static struct cowmem_expendable *find_last(struct search *s,
					   struct cowmem_expendable *before)
{
	struct cowmem_expendable *e;

	start_over(s);
	for (e = before; e; e = cowmem_expendable_next(e))
		if (e->chosen && drop_tree(s, e))
			return NULL;
	for (e = cowmem_expendable_next(NULL); e != before; e = cowmem_expendable_next(e)) {
		if (drop_tree(s, e))
			return e;
		if (fatal_signal_pending(current))
			break;
	}
	return ERR_PTR(-ENOENT);
}

/**
 * cowmem_victims_forget - the chosen snapshots do not have to yield after all
 *
 * Context: under cowmem_expendables_lock.
 */
void cowmem_victims_forget(void)
{
	struct cowmem_expendable *e;

	for (e = cowmem_expendable_next(NULL); e; e = cowmem_expendable_next(e))
		e->chosen = false;
}

/* Choose the snapshots that have to go.  Returns whether that helps. */
static bool choose(struct search *s)
{
	struct cowmem_expendable *last = NULL;

	do {
		last = find_last(s, last);
		if (!IS_ERR_OR_NULL(last))
			last->chosen = true;
	} while (!IS_ERR_OR_NULL(last));
	if (!last)
		return true;
	cowmem_victims_forget();
	return false;
}

/* @entry would be the writer's alone if all @refs but one were dropped. */
static void add_target(struct search *s, const void *entry, unsigned long refs)
{
	if (refs > 1)
		s->target[s->nr_target++] = (struct drops){ entry, refs - 1 };
}

/* Add the nodes from the root to the leaf of @index, as far as others share them. */
static void add_path(struct search *s, const struct cowmem_region *region, pgoff_t index)
{
	const struct cowmem_node *node = region->tree.root;

	while (node->level) {
		add_target(s, node, refcount_read(&node->refs));
		node = node->slots[cowmem_slot(index >> node->level * COWMEM_NODE_SHIFT)];
	}
	add_target(s, node, refcount_read(&node->refs));
}

/*
 * A folio can be written in place if nobody else holds any of its pages, in this area or
 * elsewhere.  The other leaves of the area hang below the same nodes as the leaf of @index.
 */
static void add_folio(struct search *s, struct cowmem_region *region, pgoff_t index,
		      struct page *page)
{
	unsigned long nr = folio_nr_pages(page_folio(page));
	pgoff_t first = round_down(index, nr), leaf;

	add_target(s, page_folio(page), cowmem_page_holders(page) -
					cowmem_area_held(region, index, page) + 1);
	for (leaf = first; leaf < first + nr; leaf += COWMEM_NODE_SLOTS) {
		const struct cowmem_node *node = cowmem_tree_leaf(&region->tree, leaf, NULL);

		if (node && leaf != round_down(index, COWMEM_NODE_SLOTS))
			add_target(s, node, refcount_read(&node->refs));
	}
}

/* Find out what others share of the page and the path to it.  A hole needs memory anyway. */
static int look_at_target(struct search *s, struct cowmem_region *region, pgoff_t index)
{
	struct mutex *leaf_lock = &cowmem_leaf_lock(region, index)->lock;
	struct page *page;
	int err = cowmem_lock(region, false);

	if (err)
		return err;
	mutex_lock(leaf_lock);
	page = cowmem_tree_page(&region->tree, index);
	if (page) {
		add_path(s, region, index);
		if (cowmem_page_large(page))
			add_folio(s, region, index, page);
		else
			add_target(s, page, cowmem_page_holders(page));
	}
	mutex_unlock(leaf_lock);
	cowmem_unlock(region, false);
	return 0;
}

/**
 * cowmem_victims_choose - choose the snapshots that have to yield for a write
 * @need: what the write lacks
 * @region: the region that is to be written
 * @index: index of the page
 *
 * Context: may sleep; under the yield lock, with no region locked.
 * Return: whether any were chosen; then they are enough.
 */
bool cowmem_victims_choose(const struct cowmem_need *need, struct cowmem_region *region,
			   pgoff_t index)
{
	struct search s = { .need = *need, .order = TABLE_ORDER };
	bool found = false;

	/* Where pages are of 64 KiB it is too many for the stack. */
	s.target = table_alloc(order_base_2(TARGET_MAX));
	s.table = table_alloc(s.order);
	if (s.target && s.table && !look_at_target(&s, region, index) &&
	    !mutex_lock_killable(&cowmem_expendables_lock)) {
		found = choose(&s);
		mutex_unlock(&cowmem_expendables_lock);
	}
	kvfree(s.table);
	kvfree(s.target);
	return found;
}
