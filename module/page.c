// SPDX-License-Identifier: GPL-2.0-only
/*
 * Pages and the memory that the module accounts for
 *
 * DOC: The life of a page
 *
 * A page is an ordinary struct page, on no LRU list, charged to the memcg of
 * the task that allocated it.  In statistics it counts as shared memory, as a
 * memfd's pages do, from when it is allocated until its last holder drops it.
 *
 * hole		A slot that is NULL reads as cowmem_zero_page(), which is mapped
 *		read-only and belongs to the module.
 * spare	Allocated together with a new page, when holes or shared pages are
 *		written in order, for those that come next.  No slot points to it
 *		yet, and ->private points to the next one.
 * born		The first write takes a page of zeroes, or copies a shared one.
 *		The new page is granted to the region.
 * granted	One region may write it.  From when it is about to be mapped,
 *		folio->mapping and ->index name the region, which futexes in
 *		shared memory depend on.
 * shared	A clone holds it too, through the same leaf or, after the leaf
 *		was copied, through another one.  Nobody may write it,
 *		->mapping is NULL, every PTE that maps it is read-only and was
 *		never writable.
 * split	The next write gives the writing region a copy of its own.
 * reused	The last holder may be granted the page again, unless something
 *		else still refers to it ("The reuse rule" in grant.c).
 * dropped	With the last slot that points to it.  It is freed when PTEs and
 *		users of get_user_pages() have let go as well.  Slots of snapshots that
 *		yield go where a page is to be born or split and there is no memory
 *		(yield.c).
 * limbo	Dropped while it was granted and somebody referred to it: it keeps
 *		its name for a moment, see below.
 *
 * Any of them may be poisoned (PG_hwpoison): its memory is broken.  The core leaves
 * such a page to us, with its PTEs, as it is on no LRU list.  Nobody reads it, copies
 * it or maps it anew; it goes when it is dropped, like any other one.
 *
 * folio->private counts the leaf slots that hold the page; together they have one
 * reference to it.  So the reference count is 1, plus one for each PTE, plus what others
 * took.
 *
 * A page of a large folio (huge.c) is never a spare one, and lives as any other, but
 * that ->private and the reference count are the folio's: they are dropped and freed together.
 * Limbo takes the folio when its last page is dropped.  Of folios smaller than an area those
 * pages that are still to be born are with the leaf lock ("rest"), which holds them as slots do.
 *
 * From when it is born until it is dropped a page of a mounted file system counts in
 * that one's account (account.c), once, however many hold it.
 *
 * DOC: Limbo
 *
 * get_futex_key() takes a reference to a page and then reads ->mapping.  If that is
 * NULL the futex call fails with EFAULT, which to most programs is a lost wakeup.  So
 * a granted page which somebody refers to keeps ->mapping and our reference when it
 * is dropped.  In between get_futex_key() does not sleep, hence after a grace period
 * of RCU tasks, which waits until each task slept or was in user mode, whoever is
 * left does not read ->mapping any more, and may keep the page for long: I/O in
 * flight, a registered buffer.  Then ->mapping is cleared under the page lock, which
 * is what keeps it alive for set_page_dirty_lock() at the end of somebody's I/O.
 *
 * Pages in limbo count as held, so what is dropped within a grace period while it is
 * in use, and no more, is freed late.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/hash.h>
#include <linux/highmem.h>
#include <linux/memcontrol.h>
#include <linux/mempolicy.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>
#include <linux/vmstat.h>
#include <linux/workqueue.h>

#include "cowmem.h"

static unsigned long limit_mib;
module_param(limit_mib, ulong, 0644);
MODULE_PARM_DESC(limit_mib,
		 "Most memory that all regions may hold together, pages and index nodes, in MiB; 0 is no limit (default)");

/* Use cowmem_zero_page(). */
struct page *cowmem_current_zero_page;

/* Those that were poisoned, by lru; they may be mapped for ever. */
static LIST_HEAD(poisoned_zero_pages);
static DEFINE_MUTEX(zero_page_lock);

static struct kmem_cache *cowmem_node_cache;
static atomic_long_t nr_bytes = ATOMIC_LONG_INIT(0);
static atomic_long_t nr_pages = ATOMIC_LONG_INIT(0);
static atomic_long_t nr_nodes = ATOMIC_LONG_INIT(0);

static int get_held_kib(char *buf, const struct kernel_param *kp)
{
	return sysfs_emit(buf, "%ld\n", atomic_long_read(&nr_bytes) / SZ_1K);
}

static const struct kernel_param_ops held_kib_ops = { .get = get_held_kib };
module_param_cb(held_kib, &held_kib_ops, NULL, 0444);
MODULE_PARM_DESC(held_kib, "What all regions hold together now, as limit_mib counts it, in KiB; read-only");

static bool account_bytes(long bytes)
{
	unsigned long limit = READ_ONCE(limit_mib);
	long total = atomic_long_read(&nr_bytes);

	/* Nobody else is to fail because of what does not fit. */
	do {
		if (limit && DIV_ROUND_UP((unsigned long)(total + bytes), SZ_1M) > limit)
			return false;
	} while (!atomic_long_try_cmpxchg(&nr_bytes, &total, total + bytes));
	return true;
}

/**
 * cowmem_limit_short - how much has to be freed before limit_mib allows for another page
 *
 * Context: any.
 * Return: how many bytes, 0 if it does.
 */
long cowmem_limit_short(void)
{
	unsigned long limit = READ_ONCE(limit_mib);
	unsigned long total = atomic_long_read(&nr_bytes) + PAGE_SIZE;

	if (!limit || DIV_ROUND_UP(total, SZ_1M) <= limit)
		return 0;
	return total - limit * SZ_1M;
}

/*
 * @nr pages, of which @page is one and which were charged together, become shared
 * memory in the statistics of the machine, the node and the memcg, or, if @nr is
 * negative, are no longer.
 */
static void count_pages(struct page *page, int nr)
{
	mod_lruvec_page_state(page, NR_FILE_PAGES, nr);
	mod_lruvec_page_state(page, NR_SHMEM, nr);
	if (cowmem_page_huge(page))
		mod_lruvec_page_state(page, NR_SHMEM_THPS, nr);
}

static void page_init(struct page *page)
{
	struct folio *folio = page_folio(page);

	atomic_long_set(cowmem_holders(page), 1);
	/* Where it is mapped, it is RssShmem. */
	__folio_set_swapbacked(folio);
	folio_mark_uptodate(folio);
}

/*
 * The account that a page counts in, while a slot holds it.  On no list it has no other
 * use for its lru.
 */
static struct cowmem_account **account_of(struct page *page)
{
	return (struct cowmem_account **)&page_folio(page)->lru.prev;
}

/* How many pages come and go together with @page. */
static long pages_of(struct page *page)
{
	return folio_nr_pages(page_folio(page));
}

/*
 * Nothing of ours refers to @page any more, the last one of @nr that were charged
 * together.
 */
static void pages_free(struct page *page, int nr)
{
	struct folio *folio = page_folio(page);

	folio->private = NULL;
	count_pages(page, -nr);
	atomic_long_sub(nr, &nr_pages);
	atomic_long_sub(nr * PAGE_SIZE, &nr_bytes);
	/* The allocator would give broken memory to others, unless it comes as a page. */
	if (!folio_test_large(folio) || !cowmem_folio_broken(folio))
		folio_put(folio);
}

/* So that nobody's region makes the list of somebody else's long. */
#define LIMBO_BITS	8

/**
 * struct limbo - dropped pages that keep their ->mapping for now
 * @lock: protects @pages, and ->mapping of what is on it.
 * @pages: by lru, in the order in which they came. ->private is the round.
 */
static struct limbo {
	spinlock_t lock;
	struct list_head pages;
} limbos[1 << LIMBO_BITS];

/* Pages that came in an earlier round can go after the next grace period. */
static atomic_long_t limbo_round = ATOMIC_LONG_INIT(0);

static void limbo_work(struct work_struct *work);
static DECLARE_DELAYED_WORK(limbo_dwork, limbo_work);

/* Others may come along until the work begins. */
#define LIMBO_DELAY	(HZ / 10)

static struct limbo *limbo_of(const struct address_space *mapping)
{
	return &limbos[hash_ptr(mapping, LIMBO_BITS)];
}

/* Take out the first page, if nobody refers to it any more, or return NULL. */
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

/* @page was unmapped and has no holder left, but somebody refers to it. */
static void limbo_add(struct page *page)
{
	struct folio *folio = page_folio(page);
	struct limbo *limbo = limbo_of(folio->mapping);
	struct page *idle;

	spin_lock(&limbo->lock);
	/* Most are in use for a microsecond: a list does not grow of those. */
	idle = limbo_take_idle(limbo);
	folio->private = (void *)atomic_long_read(&limbo_round);
	list_add_tail(&page->lru, &limbo->pages);
	spin_unlock(&limbo->lock);
	if (idle)
		pages_free(idle, pages_of(idle));
	schedule_delayed_work(&limbo_dwork, LIMBO_DELAY);
}

/* Take out the first page, if it came in @round or before, or return NULL. */
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
	 * A full barrier: the PTEs of whoever saw the round before were gone
	 * before the grace period began.
	 */
	long round = atomic_long_fetch_inc(&limbo_round);
	bool more = false;
	unsigned int i;

	synchronize_rcu_tasks();
	for (i = 0; i < ARRAY_SIZE(limbos); i++) {
		struct page *page;

		while ((page = limbo_take_old(&limbos[i], round))) {
			pages_free(page, pages_of(page));
			cond_resched();
		}
		more = more || !list_empty_careful(&limbos[i].pages);
	}
	if (more)
		schedule_delayed_work(&limbo_dwork, LIMBO_DELAY);
}

/**
 * cowmem_pages_forget - an address space is about to go
 * @mapping: it; no page is granted to its region any more and nothing maps it
 *
 * Dropped pages that others refer to may have it for their ->mapping.
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
		pages_free(page, pages_of(page));
		cond_resched();
	}
}

/* What turns an allocation into one that fails rather than have somebody killed. */
static gfp_t gentle(bool gently)
{
	return gently ? __GFP_RETRY_MAYFAIL | __GFP_NOWARN : 0;
}

static struct page *alloc_one(bool zero, const struct vm_fault *vmf, bool gently)
{
	gfp_t gfp = GFP_HIGHUSER | __GFP_ACCOUNT | (zero ? __GFP_ZERO : 0) |
		    gentle(gently);
	struct page *page;

	if (!account_bytes(PAGE_SIZE))
		return ERR_PTR(-ENOSPC);
	if (vmf && vma_policy(vmf->vma))
		page = cowmem_vma_alloc_page(gfp, vmf->vma, vmf->address);
	else
		page = alloc_page(gfp);
	if (page && gently && !cowmem_reserve_left()) {
		put_page(page);
		page = NULL;
	}
	if (!page) {
		atomic_long_sub(PAGE_SIZE, &nr_bytes);
		return ERR_PTR(-ENOMEM);
	}
	atomic_long_inc(&nr_pages);
	page_init(page);
	count_pages(page, 1);
	return page;
}

/**
 * cowmem_page_alloc - allocate a page with one holder
 * @account: what it is to count in, or NULL
 * @zero: whether to clear it
 * @vmf: the fault that wants it, whose mapping may have a memory policy, or NULL
 * @gently: fail where else the OOM killer would be let loose
 *
 * Context: may sleep.
 * Return: the page; -ENOMEM or -ENOSPC.
 */
struct page *cowmem_page_alloc(struct cowmem_account *account, bool zero,
			       const struct vm_fault *vmf, bool gently)
{
	struct page *page;

	if (!cowmem_charge(account, 1))
		return ERR_PTR(-ENOSPC);
	page = alloc_one(zero, vmf, gently);
	if (IS_ERR(page))
		cowmem_uncharge(account, 1);
	else
		*account_of(page) = account;
	return page;
}

/* As cowmem_huge_alloc(), a folio of any order. */
static struct folio *folio_of(struct cowmem_account *account, unsigned int order, bool zero,
			      const struct vm_fault *vmf)
{
	gfp_t gfp = (GFP_HIGHUSER & ~__GFP_DIRECT_RECLAIM) | __GFP_ACCOUNT | __GFP_NORETRY |
		    __GFP_NOMEMALLOC | __GFP_NOWARN | (zero ? __GFP_ZERO : 0);
	long nr = 1L << order;
	struct folio *folio;

	if (!cowmem_charge(account, nr))
		return NULL;
	if (!account_bytes(nr * PAGE_SIZE))
		goto uncharge;
	if (vmf && vma_policy(vmf->vma))
		folio = cowmem_vma_alloc_folio(gfp, order, vmf->vma,
					       round_down(vmf->address, nr * PAGE_SIZE));
	else
		folio = folio_alloc(gfp, order);
	if (!folio)
		goto unaccount;
	atomic_long_add(nr, &nr_pages);
	page_init(&folio->page);
	*account_of(&folio->page) = account;
	count_pages(&folio->page, nr);
	return folio;

unaccount:
	atomic_long_sub(nr * PAGE_SIZE, &nr_bytes);
uncharge:
	cowmem_uncharge(account, nr);
	return NULL;
}

/**
 * cowmem_huge_alloc - allocate a folio for an area, with one holder
 * @account: what it is to count in, or NULL
 * @zero: whether to clear it
 * @vmf: the fault that wants it, whose mapping may have a memory policy, or NULL
 *
 * There is none if that takes reclaim, or is more than some limit allows: single pages do
 * as well.
 *
 * Context: may sleep.
 * Return: the folio or NULL.
 */
struct folio *cowmem_huge_alloc(struct cowmem_account *account, bool zero,
				const struct vm_fault *vmf)
{
	if (cowmem_may_yield() && cowmem_near_limit(COWMEM_AREA_PAGES))
		return NULL;
	return folio_of(account, COWMEM_AREA_ORDER, zero, vmf);
}

/* Where less is left of a limit nobody gets pages that may never be needed. */
#define BLOCK_SLACK	(4L << COWMEM_BLOCK_MAX)

static bool enough_left(const struct cowmem_account *account)
{
	unsigned long limit = READ_ONCE(limit_mib);

	unsigned long max = account ? READ_ONCE(account->max_pages) : 0;

	if (limit && DIV_ROUND_UP(atomic_long_read(&nr_bytes) + BLOCK_SLACK * PAGE_SIZE,
				  SZ_1M) > limit)
		return false;
	if (max && cowmem_account_pages(account) + BLOCK_SLACK > max)
		return false;
	return !cowmem_near_limit(BLOCK_SLACK);
}

/**
 * cowmem_block_alloc - allocate a folio for all slots of some leaves, with a holder for each
 * @account: what it is to count in, or NULL
 * @order: the logarithm of how many pages it has
 *
 * It is not cleared, unless the kernel clears all that is allocated.
 *
 * Context: may sleep.
 * Return: the folio; NULL if that takes reclaim, or some limit is near.
 */
struct folio *cowmem_block_alloc(struct cowmem_account *account, unsigned int order)
{
	struct folio *folio;

	if (!enough_left(account))
		return NULL;
	folio = folio_of(account, order, false, NULL);
	if (folio)
		cowmem_folio_hold(folio, folio_nr_pages(folio) - 1);
	return folio;
}

/* @page, which nobody else has, becomes the first spare one. */
static void spare_push(struct page **spare, struct page *page)
{
	set_page_private(page, (unsigned long)*spare);
	WRITE_ONCE(*spare, page);
}

/* Take the first spare page out; it has one holder. */
static struct page *spare_pop(struct page **spare)
{
	struct page *page = *spare;

	WRITE_ONCE(*spare, (struct page *)page_private(page));
	set_page_private(page, 1);
	return page;
}

/**
 * cowmem_page_take - take a page that was allocated ahead
 * @spare: the first one
 * @account: what it is to count in, or NULL
 * @zero: whether to clear it
 *
 * Context: any.
 * Return: the page; -ENOSPC.
 */
struct page *cowmem_page_take(struct page **spare, struct cowmem_account *account,
			      bool zero)
{
	struct page *page;

	if (!cowmem_charge(account, 1))
		return ERR_PTR(-ENOSPC);
	page = spare_pop(spare);
	*account_of(page) = account;
	/* Many kernels clear all that is allocated. */
	if (zero && !want_init_on_alloc(0))
		clear_highpage(page);
	return page;
}

/**
 * cowmem_page_set_aside - a page for a slot is not needed now
 * @page: the page, which nobody wrote since it was allocated
 * @spare: becomes the first of these
 *
 * Context: any; as for @spare.
 */
void cowmem_page_set_aside(struct page *page, struct page **spare)
{
	cowmem_uncharge(*account_of(page), 1);
	spare_push(spare, page);
}

/**
 * cowmem_page_account - what does a page count in?
 * @page: the page
 *
 * Context: any; the caller has a slot that holds the page.
 * Return: the account; NULL if it counts in none yet.
 */
struct cowmem_account *cowmem_page_account(struct page *page)
{
	return READ_ONCE(*account_of(page));
}

/**
 * cowmem_page_join - a region is about to hold a page of another one
 * @page: the page
 * @account: what the region's pages count in, or NULL
 *
 * A page counts in one account at most, from then on until its last holder drops it,
 * whichever region that is.
 *
 * Context: any; the caller has a slot that holds the page.
 * Return: 0; -ENOSPC; -EXDEV if it counts in another account.
 */
int cowmem_page_join(struct page *page, struct cowmem_account *account)
{
	struct cowmem_account *has = cowmem_page_account(page);

	if (!account || has == account)
		return 0;
	if (has)
		return -EXDEV;
	if (!cowmem_charge(account, pages_of(page)))
		return -ENOSPC;
	has = cmpxchg(account_of(page), NULL, account);
	if (!has)
		return 0;
	cowmem_uncharge(account, pages_of(page));
	return has == account ? 0 : -EXDEV;
}

/**
 * cowmem_page_hold - one more slot points to a page
 * @page: the page
 *
 * Context: any; the caller has a slot that does.
 */
void cowmem_page_hold(struct page *page)
{
	atomic_long_inc(cowmem_holders(page));
}

/**
 * cowmem_folio_hold - more slots point to pages of a folio
 * @folio: the folio
 * @nr: how many
 *
 * Context: any; the caller has a slot that does.
 */
void cowmem_folio_hold(struct folio *folio, long nr)
{
	atomic_long_add(nr, cowmem_holders(&folio->page));
}

/**
 * cowmem_pages_hold_slots - a second leaf points to the pages of another one
 * @slots: the slots of either
 *
 * As cowmem_page_hold() of each page, but takes less time for those of one folio.
 *
 * Context: any.
 */
void cowmem_pages_hold_slots(void *const *slots)
{
	struct folio *folio = NULL;
	unsigned int i;
	long nr = 0;

	for (i = 0; i < COWMEM_NODE_SLOTS; i++) {
		struct folio *next;

		if (!slots[i])
			continue;
		next = page_folio((struct page *)slots[i]);
		if (next != folio && nr) {
			cowmem_folio_hold(folio, nr);
			nr = 0;
		}
		folio = next;
		nr++;
	}
	if (nr)
		cowmem_folio_hold(folio, nr);
}

/*
 * Take its name from a page, unless somebody refers to it, for whom it keeps that.  Returns
 * whether it does.
 */
static bool keeps_name(struct page *page)
{
	struct folio *folio = page_folio(page);

	if (folio->mapping && cowmem_page_busy(page, 0))
		return true;
	folio->mapping = NULL;
	return false;
}

/* As page_let_go(), when there are no more holders: @busy if it was granted and is in use. */
static noinline bool last_let_go(struct page *page, bool busy)
{
	cowmem_uncharge(*account_of(page), pages_of(page));
	/* Others of its pages may have been granted up to now. */
	if (cowmem_page_large(page))
		busy = keeps_name(page);
	if (busy)
		limbo_add(&page_folio(page)->page);
	return !busy;
}

/*
 * @nr slots that pointed to @page, or to pages of its folio, unmapped, no longer do.
 * Returns whether nothing of ours refers to it any more.
 */
static bool page_let_go(struct page *page, long nr, bool granted)
{
	bool busy = false;

	/* Granted to one region: nobody else has a slot for it.  A broken one has no name. */
	if (granted && !cowmem_page_large(page))
		busy = keeps_name(page);
	/*
	 * A full barrier: who sees the count fall also sees our PTEs gone and
	 * what they left behind in the reference count.
	 */
	if (!atomic_long_sub_and_test(nr, cowmem_holders(page)))
		return false;
	return last_let_go(page, busy);
}

/**
 * cowmem_page_drop - a slot that pointed to a page no longer does
 * @page: the page
 * @granted: whether it was granted to the region
 *
 * Context: any.  The region does not map the page any more.
 */
void cowmem_page_drop(struct page *page, bool granted)
{
	if (page_let_go(page, 1, granted))
		pages_free(page, pages_of(page));
}

/**
 * cowmem_folio_drop - some slots that pointed to pages of a large folio no longer do
 * @folio: the folio
 * @nr: how many
 *
 * Context: any.  The region does not map those pages any more.
 */
void cowmem_folio_drop(struct folio *folio, long nr)
{
	if (page_let_go(&folio->page, nr, false))
		pages_free(&folio->page, folio_nr_pages(folio));
}

/* How many slots from @i on, of which @nr are not empty, point to pages of one folio? */
static unsigned int run_of_folio(void *const *slots, unsigned int i, unsigned int nr)
{
	struct folio *folio = page_folio((struct page *)slots[i]);
	unsigned int run = 1;

	while (run < nr && i + run < COWMEM_NODE_SLOTS && slots[i + run] &&
	       page_folio((struct page *)slots[i + run]) == folio)
		run++;
	return run;
}

/**
 * cowmem_pages_drop_slots - all slots of a leaf no longer point to their pages
 * @slots: the slots
 * @nr: how many of them point to a page
 * @granted: one bit for each slot: whether the page was granted to the region
 *
 * As cowmem_page_drop() of each page, but takes less time: those that were charged
 * together are counted together.
 *
 * Context: any.  The region does not map the pages any more.
 */
void cowmem_pages_drop_slots(void *const *slots, unsigned int nr, u64 granted)
{
	struct page *first = NULL;
	unsigned int i, run, together = 0;

	for (i = 0; nr; i += run) {
		struct page *page = slots[i];

		run = 1;
		if (!page)
			continue;
		if (cowmem_page_large(page))
			run = run_of_folio(slots, i, nr);
		nr -= run;
		if (!page_let_go(page, run, granted & BIT_ULL(i)))
			continue;
		if (cowmem_page_large(page)) {
			pages_free(page, pages_of(page));
			continue;
		}
		if (first && cowmem_charged_together(first, page)) {
			page_folio(page)->private = NULL;
			put_page(page);
			together++;
			continue;
		}
		if (first)
			pages_free(first, together);
		first = page;
		together = 1;
	}
	if (first)
		pages_free(first, together);
}

/**
 * cowmem_page_unname - a page that others may refer to loses its ->mapping
 * @page: the page
 *
 * A futex call that just found the page may fail with EFAULT.
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
 * cowmem_pages_ahead - allocate pages that will be needed soon
 * @spare: where the first one goes; there is none
 * @order: the logarithm of how many
 *
 * One block of pages takes less than single ones.  If there is none at hand, there stays
 * none.
 *
 * Context: may sleep.
 */
void cowmem_pages_ahead(struct page **spare, unsigned int order)
{
	long nr = 1L << order;
	struct page *page;

	/* See cowmem_reserve_left(). */
	if (cowmem_may_yield() && cowmem_near_limit(nr))
		return;
	if (!account_bytes(nr * PAGE_SIZE))
		return;
	/* Who does not reclaim may use reserves, unless told not to. */
	page = alloc_pages((GFP_HIGHUSER & ~__GFP_DIRECT_RECLAIM) | __GFP_ACCOUNT |
			   __GFP_NORETRY | __GFP_NOMEMALLOC | __GFP_NOWARN, order);
	if (!page) {
		atomic_long_sub(nr * PAGE_SIZE, &nr_bytes);
		return;
	}
	split_page(page, order);
	atomic_long_add(nr, &nr_pages);
	count_pages(page, nr);
	while (nr--) {
		page_init(page + nr);
		spare_push(spare, page + nr);
	}
}

/**
 * cowmem_pages_drop - free the pages that cowmem_pages_ahead() left
 * @spare: the first one, or NULL; NULL afterwards
 *
 * Context: any.
 */
void cowmem_pages_drop(struct page **spare)
{
	while (*spare) {
		struct page *page = spare_pop(spare);

		*account_of(page) = NULL;
		cowmem_page_drop(page, false);
	}
}

/**
 * cowmem_pages_equal - do two pages hold the same?
 * @x: a page
 * @y: another one
 *
 * Context: any.
 * Return: whether all bytes are equal; false if one of the pages is poisoned.
 */
bool cowmem_pages_equal(struct page *x, struct page *y)
{
	void *p, *q;
	bool equal;

	if (PageHWPoison(x) || PageHWPoison(y))
		return false;
	p = kmap_local_page(x);
	q = kmap_local_page(y);
	equal = !memcmp(p, q, PAGE_SIZE);
	kunmap_local(q);
	kunmap_local(p);
	return equal;
}

/**
 * cowmem_page_copy - copy a page
 * @to: where to
 * @from: the page
 *
 * Context: any.
 * Return: 0; -EHWPOISON if @from is poisoned, maybe since we tried to read it.
 */
int cowmem_page_copy(struct page *to, struct page *from)
{
	if (PageHWPoison(from))
		return -EHWPOISON;
	if (!cowmem_copy_recovers()) {
		copy_highpage(to, from);
		return 0;
	}
	return copy_mc_highpage(to, from) ? -EHWPOISON : 0;
}

static struct page *zero_page_alloc(void)
{
	struct page *page = alloc_page(GFP_KERNEL | __GFP_ZERO);

	if (page) {
		__folio_set_swapbacked(page_folio(page));
		SetPageUptodate(page);
	}
	return page;
}

/**
 * cowmem_replace_zero_page - find a zero page for one that is poisoned
 *
 * Whoever maps the old one goes on to do so.
 *
 * Context: may sleep.
 * Return: the new one; or still the old one, if there is no memory.
 */
struct page *cowmem_replace_zero_page(void)
{
	struct page *old, *page;

	mutex_lock(&zero_page_lock);
	old = cowmem_current_zero_page;
	page = PageHWPoison(old) ? zero_page_alloc() : NULL;
	if (page) {
		list_add(&old->lru, &poisoned_zero_pages);
		/* Who sees the pointer sees the page. */
		smp_store_release(&cowmem_current_zero_page, page);
		pr_warn("the zero page was poisoned and is replaced\n");
	}
	page = cowmem_current_zero_page;
	mutex_unlock(&zero_page_lock);
	return page;
}

/**
 * cowmem_node_alloc - allocate an index node
 * @account: what it is to count in, or NULL
 * @gently: fail where else the OOM killer would be let loose
 *
 * Context: may sleep.
 * Return: the node, not initialized; -ENOMEM or -ENOSPC.
 */
struct cowmem_node *cowmem_node_alloc(struct cowmem_account *account, bool gently)
{
	struct cowmem_node *node;
	int err = -ENOSPC;

	if (!cowmem_charge_node(account))
		return ERR_PTR(err);
	if (!account_bytes(sizeof(*node)))
		goto uncharge;
	err = -ENOMEM;
	node = kmem_cache_alloc(cowmem_node_cache, GFP_KERNEL_ACCOUNT | gentle(gently));
	if (!node)
		goto unaccount;
	node->account = account;
	atomic_long_inc(&nr_nodes);
	return node;

unaccount:
	atomic_long_sub(sizeof(*node), &nr_bytes);
uncharge:
	cowmem_uncharge_node(account);
	return ERR_PTR(err);
}

/**
 * cowmem_node_free - free an index node
 * @node: the node
 *
 * Context: any.
 */
void cowmem_node_free(struct cowmem_node *node)
{
	cowmem_uncharge_node(node->account);
	kmem_cache_free(cowmem_node_cache, node);
	atomic_long_dec(&nr_nodes);
	atomic_long_sub(sizeof(*node), &nr_bytes);
}

/**
 * cowmem_pages_init - set up what pages and nodes come from
 *
 * Return: 0 or -ENOMEM.
 */
int cowmem_pages_init(void)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(limbos); i++) {
		spin_lock_init(&limbos[i].lock);
		INIT_LIST_HEAD(&limbos[i].pages);
	}
	cowmem_node_cache = KMEM_CACHE(cowmem_node, SLAB_ACCOUNT);
	if (!cowmem_node_cache)
		return -ENOMEM;
	cowmem_current_zero_page = zero_page_alloc();
	if (!cowmem_current_zero_page) {
		kmem_cache_destroy(cowmem_node_cache);
		return -ENOMEM;
	}
	return 0;
}

/**
 * cowmem_pages_exit - undo cowmem_pages_init()
 *
 * Context: no region is left.
 */
void cowmem_pages_exit(void)
{
	long pages = atomic_long_read(&nr_pages);
	long nodes = atomic_long_read(&nr_nodes);
	struct page *page, *next;

	/* With the regions all pages have left limbo. */
	cancel_delayed_work_sync(&limbo_dwork);
	if (pages || nodes || atomic_long_read(&nr_bytes))
		pr_err("leaked %ld pages, %ld nodes\n", pages, nodes);
	list_for_each_entry_safe(page, next, &poisoned_zero_pages, lru) {
		list_del(&page->lru);
		put_page(page);
	}
	put_page(cowmem_current_zero_page);
	kmem_cache_destroy(cowmem_node_cache);
}
