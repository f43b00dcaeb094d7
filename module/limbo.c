// SPDX-License-Identifier: GPL-2.0-only
/*
 * Limbo: where dropped pages wait that somebody still refers to
 *
 * DOC: Limbo
 *
 * get_futex_key() takes a reference to a page and then reads ->mapping.  If that is NULL,
 * the futex call fails with EFAULT, which most programs take for a lost wakeup.  So a
 * granted page that somebody refers to when it is dropped keeps ->mapping, and our
 * reference, for a moment.
 *
 * get_futex_key() does not sleep in between.  So after a grace period of RCU tasks, which
 * waits until each task has slept or was in user mode, whoever is left does not read
 * ->mapping any more and may keep the page for long: I/O in flight, a registered buffer.
 * Then ->mapping is cleared under the page lock, which is what keeps it alive for
 * set_page_dirty_lock() at the end of somebody's I/O.
 *
 * Pages in limbo count as held.  So what is dropped within a grace period while it is in
 * use, and no more than that, is freed late.
 */
#include <linux/hash.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/rcupdate.h>
#include <linux/spinlock.h>
#include <linux/workqueue.h>

#include "limbo.h"
#include "page.h"

/* Many lists, so that one region does not make the list of another one long. */
#define LIMBO_BITS	8

/**
 * struct limbo - dropped pages that keep their ->mapping for now
 * @lock: protects @pages, and ->mapping of what is on that list.
 * @pages: linked by lru, in order of arrival.  ->private is the round they arrived in.
 */
static struct limbo {
	spinlock_t lock;
	struct list_head pages;
} limbos[1 << LIMBO_BITS];

/* Pages that arrived in an earlier round can go after the next grace period. */
static atomic_long_t limbo_round = ATOMIC_LONG_INIT(0);

static void limbo_work(struct work_struct *work);
static DECLARE_DELAYED_WORK(limbo_dwork, limbo_work);

/* The work starts after a while, so that it serves many pages at once. */
#define LIMBO_DELAY	(HZ / 10)

static struct limbo *limbo_of(const struct address_space *mapping)
{
	return &limbos[hash_ptr(mapping, LIMBO_BITS)];
}

/* Take out the first page if nobody refers to it any more, or return NULL. */
static struct page *limbo_take_idle(struct limbo *limbo)
{
	struct page *page = list_first_entry_or_null(&limbo->pages, struct page, lru);

	lockdep_assert_held(&limbo->lock);

	if (!page || cowmem_page_busy(page, 0))
		return NULL;
	list_del(&page->lru);
	page_folio(page)->mapping = NULL;
	return page;
}

/**
 * cowmem_limbo_add - put a dropped page into limbo
 * @page: the first page of its folio; it was unmapped and has no holder left, but somebody
 *	refers to it
 *
 * Context: any.
 */
void cowmem_limbo_add(struct page *page)
{
	struct folio *folio = page_folio(page);
	struct limbo *limbo = limbo_of(folio->mapping);
	struct page *idle;

	spin_lock(&limbo->lock);
	/* Most pages are in use for a microsecond: do not let the list grow by those. */
	idle = limbo_take_idle(limbo);
	folio->private = (void *)atomic_long_read(&limbo_round);
	list_add_tail(&page->lru, &limbo->pages);
	spin_unlock(&limbo->lock);
	if (idle)
		cowmem_pages_free(idle, cowmem_pages_of(idle));
	schedule_delayed_work(&limbo_dwork, LIMBO_DELAY);
}

/* Take out the first page if it arrived in @round or before, or return NULL. */
static struct page *limbo_take_old(struct limbo *limbo, long round)
{
	struct page *page;
	struct folio *folio;

	spin_lock(&limbo->lock);
	page = list_first_entry_or_null(&limbo->pages, struct page, lru);
	if (page) {
		folio = page_folio(page);
		if ((long)folio->private <= round && folio_trylock(folio)) {
			list_del(&page->lru);
			folio->mapping = NULL;
			folio_unlock(folio);
		} else {
			page = NULL;
		}
	}
	spin_unlock(&limbo->lock);
	return page;
}

static void limbo_work(struct work_struct *work)
{
	/*
	 * A full barrier: pages that arrived in the round that ends here were unmapped before
	 * the grace period begins.
	 */
	long round = atomic_long_fetch_inc(&limbo_round);
	bool more = false;
	unsigned int i;

	synchronize_rcu_tasks();
	for (i = 0; i < ARRAY_SIZE(limbos); i++) {
		struct page *page;

		while ((page = limbo_take_old(&limbos[i], round))) {
			cowmem_pages_free(page, cowmem_pages_of(page));
			cond_resched();
		}
		more = more || !list_empty_careful(&limbos[i].pages);
	}
	if (more)
		schedule_delayed_work(&limbo_dwork, LIMBO_DELAY);
}

/**
 * cowmem_page_unname - take ->mapping from a page that others may refer to
 * @page: the page
 *
 * A futex call that has just found the page may fail with EFAULT.
 *
 * Context: may sleep.
 */
void cowmem_page_unname(struct page *page)
{
	struct folio *folio = page_folio(page);

	folio_lock(folio);
	folio->mapping = NULL;
	folio_unlock(folio);
}

/**
 * cowmem_pages_forget - clear what refers to an address space that is about to go
 * @mapping: the address space; nothing maps it, and no page is granted to its region
 *
 * Dropped pages that others refer to may have it as their ->mapping.
 *
 * Context: may sleep.
 */
void cowmem_pages_forget(struct address_space *mapping)
{
	struct limbo *limbo = limbo_of(mapping);
	struct page *page, *next;
	LIST_HEAD(mine);

	spin_lock(&limbo->lock);
	list_for_each_entry_safe(page, next, &limbo->pages, lru)
		if (page_folio(page)->mapping == mapping)
			list_move_tail(&page->lru, &mine);
	spin_unlock(&limbo->lock);
	list_for_each_entry_safe(page, next, &mine, lru) {
		list_del(&page->lru);
		cowmem_page_unname(page);
		cowmem_pages_free(page, cowmem_pages_of(page));
		cond_resched();
	}
}

/**
 * cowmem_limbo_init - set up limbo
 */
void cowmem_limbo_init(void)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(limbos); i++) {
		spin_lock_init(&limbos[i].lock);
		INIT_LIST_HEAD(&limbos[i].pages);
	}
}

/**
 * cowmem_limbo_exit - undo cowmem_limbo_init()
 *
 * Context: may sleep; no region is left, and all pages left limbo with theirs.
 */
void cowmem_limbo_exit(void)
{
	cancel_delayed_work_sync(&limbo_dwork);
}
