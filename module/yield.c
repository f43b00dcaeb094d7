// SPDX-License-Identifier: GPL-2.0-only
/*
 * Snapshots that yield: memory that is taken back where a write would fail
 *
 * A write that finds no memory lets go of its locks and comes here, to start anew
 * afterwards.  Three limits count: limit_mib, size= of the mount, and the memory cgroup.
 * For the last one writers allocate gently, which fails where else the OOM killer would
 * be let loose, and a little before, as long as there is a snapshot that may yield.  If
 * there is none that helps, all goes on as it does without any.
 *
 * DOC: Which ones
 *
 * The oldest that help, and no more than it takes.  A node is freed with the last
 * reference to it, a page with its last holder, and those may be several snapshots, so to
 * know what helps is to count: drop the trees, one after the other, but only on paper.  A
 * node that is dropped as often as there are references to it would be freed, and what
 * hangs below it is dropped in turn.  Once it is enough, the last one that was dropped is
 * one of those that have to go, if the older ones go.  Then the same again, beginning with
 * what has to go, to see which is the last of the older ones; until those that have to
 * go are enough.
 *
 * It is enough if what the limit lacks would be freed.  Or if nobody else would be left
 * who shares the page that is to be written, or the path to it: it can be written in
 * place then.  That is how it is when memory was full before the snapshot was made.
 *
 * DOC: What it takes
 *
 * A node is looked into once, by whoever drops its last reference, so to drop all trees
 * takes time in proportion to what snapshots that yield hold, and nobody else.  Of one
 * snapshot no more than SEARCH_NODES are looked into: what is not found by then does not
 * count.  This repeats for each one that has to go.  It takes no lock of a region but of
 * the one that is to be written.  Meanwhile others who need memory wait, and so does who
 * closes such a snapshot.
 *
 * The counts may fall, and rise again, while we look: who clones a snapshot just then may
 * keep what we meant to free.  Then the write asks once more.
 */
#include <linux/hash.h>
#include <linux/memcontrol.h>
#include <linux/mm.h>
#include <linux/poll.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "account.h"
#include "area.h"
#include "expendable.h"
#include "file.h"
#include "limit.h"
#include "map.h"
#include "memcg.h"
#include "page.h"
#include "region.h"
#include "trace.h"
#include "tree-walk.h"
#include "tree.h"
#include "yield.h"

/* Memory is taken back for one write at a time: the others may find what it left. */
static DEFINE_MUTEX(yield_lock);

/*
 * Those that may yield, the oldest first.  What is on the list stays there, and so do
 * its region and the tree of that, under list_lock.  Who adds to it does not wait.
 */
static LIST_HEAD(expendables);
static DEFINE_MUTEX(list_lock);
static DEFINE_SPINLOCK(list_spinlock);

/* ---- what there is ---- */

/**
 * cowmem_expendable_create - let a new snapshot be one that yields
 * @file: its only file
 *
 * Context: may sleep; nobody else has the file.
 * Return: 0 or -ENOMEM.
 */
int cowmem_expendable_create(struct file *file)
{
	struct cowmem_region *region = cowmem_file_region(file);
	struct cowmem_expendable *e = kzalloc(sizeof(*e), GFP_KERNEL_ACCOUNT);

	if (!e)
		return -ENOMEM;
	e->region = region;
	INIT_LIST_HEAD(&e->link);
	init_waitqueue_head(&e->wait);
	region->expendable = e;
	region->inode.i_fop = &cowmem_expendable_fops;
	file->f_op = &cowmem_expendable_fops;
	return 0;
}

/**
 * cowmem_expendable_publish - a snapshot has its pages, and may yield from now on
 * @region: a new region, which may be no such snapshot
 *
 * Context: any.
 */
void cowmem_expendable_publish(struct cowmem_region *region)
{
	if (!region->expendable)
		return;
	spin_lock(&list_spinlock);
	list_add_tail(&region->expendable->link, &expendables);
	spin_unlock(&list_spinlock);
}

/* Under list_lock. */
static void unlist(struct cowmem_expendable *e)
{
	spin_lock(&list_spinlock);
	list_del_init(&e->link);
	spin_unlock(&list_spinlock);
	e->chosen = false;
}

/**
 * cowmem_expendable_destroy - a region goes
 * @region: the region, which may be no such snapshot
 *
 * Context: may sleep; nobody uses the region.
 */
void cowmem_expendable_destroy(struct cowmem_region *region)
{
	struct cowmem_expendable *e = region->expendable;

	if (!e)
		return;
	mutex_lock(&list_lock);
	unlist(e);
	mutex_unlock(&list_lock);
	region->expendable = NULL;
	kfree(e);
}

/**
 * cowmem_may_yield - is there any snapshot that may yield?
 *
 * Context: any.
 * Return: whether there was one a moment ago.
 */
bool cowmem_may_yield(void)
{
	return !list_empty(&expendables);
}

/* The one after @e, or the first.  Under list_lock. */
static struct cowmem_expendable *next_expendable(struct cowmem_expendable *e)
{
	struct list_head *next;

	spin_lock(&list_spinlock);
	next = e ? e->link.next : expendables.next;
	spin_unlock(&list_spinlock);
	return next == &expendables ? NULL :
	       list_entry(next, struct cowmem_expendable, link);
}

/**
 * cowmem_poll - ->poll of a snapshot that may yield
 * @file: its file
 * @table: who waits
 *
 * Context: may sleep.
 * Return: EPOLL*; EPOLLERR once it has yielded.
 */
__poll_t cowmem_poll(struct file *file, struct poll_table_struct *table)
{
	struct cowmem_region *region = cowmem_file_region(file);

	poll_wait(file, &region->expendable->wait, table);
	return EPOLLIN | EPOLLRDNORM | (cowmem_region_yielded(region) ? EPOLLERR : 0);
}

/* ---- what is counted on paper ---- */

/* Of one snapshot no more nodes are looked into. */
#define SEARCH_NODES	(4 * COWMEM_TREE_BUDGET)

/* How many entries the table has, at first and at most. */
#define TABLE_ORDER	9U
#define TABLE_ORDER_MAX	20U

/* The page that is to be written, the nodes on the path to it, other leaves of its area. */
#define TARGET_MAX	(BITS_PER_LONG / COWMEM_NODE_SHIFT + 2 + COWMEM_AREA_LEAVES)

/**
 * struct drops - how often a node or a page was dropped, on paper
 * @entry: the node or the page, NULL if this is free.
 * @nr: how often.
 */
struct drops {
	const void *entry;
	unsigned long nr;
};

/**
 * struct need - what a write lacks
 * @bytes: so much of what limit_mib counts.
 * @pages: so many pages of @account.
 * @account: what the region's pages count in.
 * @charged: so many pages that are charged to @memcg or below.
 * @memcg: the memory cgroup that is full, with a reference, or NULL.
 */
struct need {
	long bytes;
	long pages;
	struct cowmem_account *account;
	long charged;
	struct mem_cgroup *memcg;
};

/**
 * struct search - a search for snapshots that have to yield
 * @need: what is needed.
 * @left: what of that would not be freed yet.
 * @target: what others share of the page that is to be written and the path to it, and
 *	how often.
 * @nr_target: how many of these.
 * @table: drops, by a hash of what was dropped.
 * @order: the logarithm of how many there is room for.
 * @used: how many are used.
 * @budget: how many nodes are still to be looked into.
 */
struct search {
	struct need need;
	struct need left;
	struct drops target[TARGET_MAX];
	unsigned int nr_target;
	struct drops *table;
	unsigned int order;
	unsigned long used;
	unsigned long budget;
};

/* Where the drops of @entry are or go. */
static struct drops *find_drops(struct drops *table, unsigned int order, const void *entry)
{
	unsigned long i = hash_ptr(entry, order);

	while (table[i].entry && table[i].entry != entry)
		i = (i + 1) & (BIT(order) - 1);
	return &table[i];
}

/* What cannot be had for this fails, rather than take it from others. */
static struct drops *table_alloc(unsigned int order)
{
	return kvcalloc(BIT(order), sizeof(struct drops),
			GFP_KERNEL | __GFP_NORETRY | __GFP_NOWARN);
}

/* Make room for one more.  Returns whether there is. */
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

/* Something that was to be freed refers to @entry.  Returns whether nobody else does. */
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
/* So many pages may have been charged ahead, or have just been freed. */
#define MEMCG_SLACK	64

/*
 * The memory cgroup that keeps the caller from getting more than @pages: of those that
 * would be charged the first that has no more, with a reference, or NULL.
 */
static struct mem_cgroup *full_memcg(unsigned long pages)
{
	struct mem_cgroup *memcg;

	if (mem_cgroup_disabled())
		return NULL;
	rcu_read_lock();
	for (memcg = mem_cgroup_from_task(current); memcg; memcg = parent_mem_cgroup(memcg))
		if (page_counter_read(&memcg->memory) + pages >=
		    READ_ONCE(memcg->memory.max))
			break;
	if (memcg && !css_tryget(&memcg->css))
		memcg = NULL;
	rcu_read_unlock();
	return memcg;
}

static void put_memcg(struct mem_cgroup *memcg)
{
	if (memcg)
		css_put(&memcg->css);
}

/* Would @memcg have a page more if @page was dropped for the last time? */
static bool page_helps(struct page *page, struct mem_cgroup *memcg)
{
	struct mem_cgroup *charged;
	bool helps;

	/* Who refers to it otherwise may do so for long. */
	if (!memcg || cowmem_page_busy(page, cowmem_page_mapcount(page)))
		return false;
	rcu_read_lock();
	charged = folio_memcg(page_folio(page));
	helps = charged && mem_cgroup_is_descendant(charged, memcg);
	rcu_read_unlock();
	return helps;
}
#else
#define MEMCG_SLACK	0

static struct mem_cgroup *full_memcg(unsigned long pages)
{
	return NULL;
}

static void put_memcg(struct mem_cgroup *memcg)
{
}

static bool page_helps(struct page *page, struct mem_cgroup *memcg)
{
	return false;
}
#endif

/* A fault takes a page table or two; and who writes does other things as well. */
#define RESERVE		16

/**
 * cowmem_near_limit - is the caller's memory cgroup nearly full?
 * @pages: how many pages more it would have
 *
 * Context: any.
 * Return: whether less than what is left to the kernel would remain.
 */
bool cowmem_near_limit(unsigned long pages)
{
	struct mem_cgroup *memcg = full_memcg(RESERVE + pages);

	put_memcg(memcg);
	return memcg;
}

/**
 * cowmem_reserve_left - may the caller's memory cgroup have a few pages more?
 *
 * What the kernel itself needs for a process, page tables to begin with, does not ask
 * snapshots to yield, but the OOM killer.  So the last few pages are left to it.
 *
 * Context: may sleep.
 * Return: whether it may, perhaps after something else was reclaimed.
 */
bool cowmem_reserve_left(void)
{
	struct page *pages[RESERVE];
	unsigned int nr = 0, i;

	if (!cowmem_near_limit(0))
		return true;
	while (nr < RESERVE) {
		pages[nr] = alloc_page(GFP_KERNEL_ACCOUNT | __GFP_RETRY_MAYFAIL |
				       __GFP_NOWARN);
		if (!pages[nr])
			break;
		nr++;
	}
	for (i = 0; i < nr; i++)
		put_page(pages[i]);
	return nr == RESERVE;
}

static bool nothing_lacks(const struct need *need)
{
	return need->bytes <= 0 && need->pages <= 0 && need->charged <= 0;
}

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

/* Nodes that only this drops to nothing do not change, as no tree has them but ours. */
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
	for (i = 0; i < COWMEM_NODE_SLOTS && s->budget && !nothing_lacks(&s->left); i++) {
		void *entry = node->slots[i];

		if (entry && node->level)
			drop_node(s, entry);
		else if (entry)
			drop_page(s, entry);
	}
}

/* Could the page be written in place, if all that was dropped was gone? */
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

/* Drop the tree of @e as well, on paper.  Returns whether that is enough.  Under list_lock. */
static bool drop_tree(struct search *s, struct cowmem_expendable *e)
{
	const struct cowmem_node *root = e->region->tree.root;

	s->budget = SEARCH_NODES;
	if (root)
		drop_node(s, root);
	return nothing_lacks(&s->left) || target_alone(s);
}

static void start_over(struct search *s)
{
	memset(s->table, 0, BIT(s->order) * sizeof(*s->table));
	s->used = 0;
	s->left = s->need;
}

/*
 * Which one makes the drops of the chosen ones enough, if all that are older than
 * @before go as well?  NULL if the chosen ones are enough themselves; -ENOENT if nothing is.
 */
static struct cowmem_expendable *find_last(struct search *s,
					   struct cowmem_expendable *before)
{
	struct cowmem_expendable *e;

	start_over(s);
	for (e = before; e; e = next_expendable(e))
		if (e->chosen && drop_tree(s, e))
			return NULL;
	for (e = next_expendable(NULL); e != before; e = next_expendable(e)) {
		if (drop_tree(s, e))
			return e;
		if (fatal_signal_pending(current))
			break;
	}
	return ERR_PTR(-ENOENT);
}

static void choose_none(void)
{
	struct cowmem_expendable *e;

	for (e = next_expendable(NULL); e; e = next_expendable(e))
		e->chosen = false;
}

/* Choose those that have to go.  Returns whether that helps.  Under both locks. */
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
	choose_none();
	return false;
}

/* ---- taking it back ---- */

/*
 * Move the tree of @e to @tree, and whoever looks for it meets EIO from now on.  Under
 * both locks.  Returns 0 or -EINTR.
 */
static int steal(struct cowmem_expendable *e, struct cowmem_tree *tree)
{
	struct cowmem_region *region = e->region;
	int err = down_write_killable(&region->lock);

	if (err)
		return err;
	WRITE_ONCE(e->yielded, true);
	/*
	 * Copies in private mappings stay: they are memory of the process, which the
	 * snapshot does not pay for.
	 */
	cowmem_unmap(region, 0, ULONG_MAX, false);
	cowmem_tree_swap(&region->tree, tree);
	up_write(&region->lock);
	unlist(e);
	wake_up_poll(&e->wait, EPOLLERR);
	return 0;
}

static struct cowmem_expendable *first_chosen(void)
{
	struct cowmem_expendable *e = next_expendable(NULL);

	while (e && !e->chosen)
		e = next_expendable(e);
	return e;
}

/*
 * Take the memory of the chosen ones back, for a write to @region.  Who is closed
 * meanwhile has given it back.  Under yield_lock.  Returns 0 or -EINTR.
 */
static int take_back(const struct cowmem_region *region, pgoff_t index)
{
	struct cowmem_expendable *e;
	struct cowmem_tree tree;
	int err;

	do {
		err = 0;
		cowmem_tree_init(&tree, NULL);
		mutex_lock(&list_lock);
		e = first_chosen();
		if (e)
			err = steal(e, &tree);
		if (e && !err)
			trace_cowmem_yield(e->region, region, index);
		if (err)
			choose_none();
		mutex_unlock(&list_lock);
		cowmem_tree_destroy(&tree);
	} while (e && !err);
	return err;
}

/* ---- for one write ---- */

static void add_target(struct search *s, const void *entry, unsigned long refs)
{
	if (refs > 1)
		s->target[s->nr_target++] = (struct drops){ entry, refs - 1 };
}

/* What do others share of the nodes from the root to the leaf of @index? */
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
 * A folio can be written in place if nobody else holds any of its pages, here or elsewhere.
 * The other leaves of its area hang below the same nodes.
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

/* What do others share of the page and the path to it?  A hole takes memory anyway. */
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

/* What lacks, that a write to @region failed with @err? */
static void look_at_limits(struct need *need, const struct cowmem_region *region, int err)
{
	if (err == -ENOSPC) {
		need->account = cowmem_region_account(region);
		need->pages = cowmem_account_short(need->account);
		need->bytes = cowmem_limit_short();
	} else {
		need->memcg = full_memcg(MEMCG_SLACK);
		need->charged = !!need->memcg;
	}
}

/* Under yield_lock.  Returns whether something was freed. */
static bool find_and_take(struct search *s, struct cowmem_region *region, pgoff_t index)
{
	bool found = false;

	if (look_at_target(s, region, index))
		return false;
	s->order = TABLE_ORDER;
	s->table = table_alloc(s->order);
	if (!s->table)
		return false;
	if (!mutex_lock_killable(&list_lock)) {
		found = choose(s);
		mutex_unlock(&list_lock);
	}
	kvfree(s->table);
	return found && !take_back(region, index);
}

/**
 * cowmem_yield - take memory of snapshots back for a write that failed for want of it
 * @region: the region that is to be written
 * @index: index of the page
 * @err: -ENOSPC or -ENOMEM
 *
 * Context: may sleep; no lock below i_rwsem and mmap_lock is held.
 * Return: whether to try again as before: something was freed, by us or by others.  If
 * not, nothing is to be had of snapshots, or a fatal signal arrived.
 */
bool cowmem_yield(struct cowmem_region *region, pgoff_t index, int err)
{
	struct search s = {};
	bool again, waited = !mutex_trylock(&yield_lock);

	if (waited && mutex_lock_killable(&yield_lock))
		return false;
	look_at_limits(&s.need, region, err);
	/* An allocation that failed with all limits far away failed for another reason. */
	if (nothing_lacks(&s.need))
		again = err == -ENOSPC || waited;
	else
		again = find_and_take(&s, region, index);
	put_memcg(s.need.memcg);
	mutex_unlock(&yield_lock);
	return again;
}
