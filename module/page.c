// SPDX-License-Identifier: GPL-2.0-only
/*
 * Pages
 *
 * DOC: The life of a page
 *
 * A page is an ordinary struct page.  It is on no LRU list, and is charged to the memory
 * cgroup of the task that allocated it.  From its allocation until its last holder drops
 * it, statistics count it as shared memory, as they do the pages of a memfd.
 *
 * hole		A slot that is NULL reads as cowmem_zero_page(), which is mapped read-only
 *		and belongs to the module (zero.c).
 * spare	Allocated together with another page, while holes or shared pages are written
 *		in order, for the writes to come.  No slot points to it yet (spare.c).
 * born		The first write to a hole takes a page of zeroes, and the first write to a
 *		shared page takes a copy of it.  The new page is granted to the region.
 * granted	One region may write it.  Once it is about to be mapped, it has a name:
 *		folio->mapping and ->index point to the region, which futexes in shared memory
 *		depend on.
 * shared	A clone holds it too, through the same leaf or, after the leaf was copied,
 *		through another one.  Nobody may write it, it has no name (->mapping is NULL),
 *		and every PTE that maps it is read-only and was never writable.
 * split	The next write gives the writing region a copy of its own.
 * reused	The last holder may be granted the page again, unless something else still
 *		refers to it ("The reuse rule" in grant.c).
 * dropped	The last slot that pointed to it is gone (hold.c).  It is freed when PTEs and
 *		users of get_user_pages() have let go of it as well.  Snapshots that may yield
 *		drop pages where a write finds no memory (yield.c).
 * limbo	Dropped while it was granted and somebody referred to it: it keeps its name for
 *		a moment (limbo.c).
 *
 * At any time it may be poisoned (PG_hwpoison), which means that its memory is broken.  As it
 * is on no LRU list, the core leaves such a page to us, together with its PTEs.  Nobody
 * reads it, copies it or maps it anew.  It goes when it is dropped, like any other page.
 *
 * folio->private counts the slots of leaves that hold the page.  Together they have one
 * reference to it.  So the reference count is 1, plus one for each PTE, plus what others
 * took.
 *
 * A page of a large folio (area.c, block.c) lives like any other one, but ->private and the
 * reference count are those of the folio: its pages are freed together, and enter limbo
 * together, when the last of them is dropped.  It is never a spare page.  Pages of a block
 * that are not born yet are the "rest" of the block (rest.c), which holds them as slots do.
 *
 * From its birth until it is dropped, a page of a mount is charged to the account of the
 * mount (account.c), and only once, however many regions hold it.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/highmem.h>
#include <linux/memcontrol.h>
#include <linux/mempolicy.h>
#include <linux/mm.h>
#include <linux/vmstat.h>

#include "account.h"
#include "expendable.h"
#include "limit.h"
#include "memcg.h"
#include "page.h"

static atomic_long_t nr_pages = ATOMIC_LONG_INIT(0);

/*
 * Count @nr pages as shared memory in the statistics of the machine, the node and the
 * memory cgroup; no longer, if @nr is negative.  The pages were charged together, and @page
 * is one of them.
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
	/* RssShmem counts it where it is mapped. */
	__folio_set_swapbacked(folio);
	folio_mark_uptodate(folio);
}

/**
 * cowmem_pages_free - give up pages that were charged together
 * @page: one of the pages, the only one that still has our reference; or any of a folio
 * @nr: how many there are
 *
 * Context: any; nothing of ours points to them any more.
 */
void cowmem_pages_free(struct page *page, int nr)
{
	struct folio *folio = page_folio(page);

	folio->private = NULL;
	count_pages(page, -nr);
	atomic_long_sub(nr, &nr_pages);
	cowmem_limit_uncharge(nr * PAGE_SIZE);
	/*
	 * The allocator does not give out a poisoned page that was freed, but it would give
	 * out one within a folio: keep that.
	 */
	if (!folio_test_large(folio) || !cowmem_folio_broken(folio))
		folio_put(folio);
}

static struct page *alloc_one(bool zero, const struct vm_fault *vmf, bool gently)
{
	gfp_t gfp = GFP_HIGHUSER | __GFP_ACCOUNT | (zero ? __GFP_ZERO : 0) |
		    cowmem_gentle(gently);
	struct page *page;

	if (!cowmem_limit_charge(PAGE_SIZE))
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
		cowmem_limit_uncharge(PAGE_SIZE);
		return ERR_PTR(-ENOMEM);
	}
	atomic_long_inc(&nr_pages);
	page_init(page);
	count_pages(page, 1);
	return page;
}

/**
 * cowmem_page_alloc - allocate a page with one holder
 * @account: what it is to be charged to, or NULL
 * @zero: whether to clear it
 * @vmf: the fault that needs it, whose mapping may have a memory policy; or NULL
 * @gently: fail rather than start the OOM killer
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
		*cowmem_page_account_slot(page) = account;
	return page;
}

/* As cowmem_huge_alloc(), but a folio of any order. */
static struct folio *folio_of(struct cowmem_account *account, unsigned int order, bool zero,
			      const struct vm_fault *vmf)
{
	gfp_t gfp = (GFP_HIGHUSER & ~__GFP_DIRECT_RECLAIM) | __GFP_ACCOUNT | __GFP_NORETRY |
		    __GFP_NOMEMALLOC | __GFP_NOWARN | (zero ? __GFP_ZERO : 0);
	long nr = 1L << order;
	struct folio *folio;

	if (!cowmem_charge(account, nr))
		return NULL;
	if (!cowmem_limit_charge(nr * PAGE_SIZE))
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
	*cowmem_page_account_slot(&folio->page) = account;
	count_pages(&folio->page, nr);
	return folio;

unaccount:
	cowmem_limit_uncharge(nr * PAGE_SIZE);
uncharge:
	cowmem_uncharge(account, nr);
	return NULL;
}

/**
 * cowmem_huge_alloc - allocate a folio for an area, with one holder
 * @account: what it is to be charged to, or NULL
 * @zero: whether to clear it
 * @vmf: the fault that needs it, whose mapping may have a memory policy; or NULL
 *
 * This fails rather than reclaim memory or come near a limit: single pages do as well.
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

/* With less than this left of a limit there are no pages that may never be needed. */
#define BLOCK_SLACK	(4L << COWMEM_BLOCK_MAX)

static bool enough_left(const struct cowmem_account *account)
{
	unsigned long max = account ? READ_ONCE(account->max_pages) : 0;

	if (!cowmem_limit_allows(BLOCK_SLACK * PAGE_SIZE))
		return false;
	if (max && cowmem_account_pages(account) + BLOCK_SLACK > max)
		return false;
	return !cowmem_near_limit(BLOCK_SLACK);
}

/**
 * cowmem_block_alloc - allocate a block, with one holder for each of its pages
 * @account: what it is to be charged to, or NULL
 * @order: the order of the folio
 *
 * It is not cleared, unless the kernel clears all memory that it allocates.
 *
 * Context: may sleep.
 * Return: the folio; NULL if that would take reclaim, or if a limit is near.
 */
struct folio *cowmem_block_alloc(struct cowmem_account *account, unsigned int order)
{
	struct folio *folio;

	if (!enough_left(account))
		return NULL;
	folio = folio_of(account, order, false, NULL);
	if (folio)
		atomic_long_set(cowmem_holders(&folio->page), folio_nr_pages(folio));
	return folio;
}

/**
 * cowmem_pages_alloc - allocate single pages, many at once
 * @order: the logarithm of how many
 *
 * That takes less time than one by one.  They are not cleared, and are charged to no
 * account yet.
 *
 * Context: may sleep.
 * Return: the first page; NULL if that would take reclaim, or if a limit is near.
 */
struct page *cowmem_pages_alloc(unsigned int order)
{
	long nr = 1L << order;
	struct page *page;

	/* See cowmem_reserve_left(). */
	if (cowmem_may_yield() && cowmem_near_limit(nr))
		return NULL;
	if (!cowmem_limit_charge(nr * PAGE_SIZE))
		return NULL;
	/* An allocation without reclaim may use reserves, unless told not to. */
	page = alloc_pages((GFP_HIGHUSER & ~__GFP_DIRECT_RECLAIM) | __GFP_ACCOUNT |
			   __GFP_NORETRY | __GFP_NOMEMALLOC | __GFP_NOWARN, order);
	if (!page) {
		cowmem_limit_uncharge(nr * PAGE_SIZE);
		return NULL;
	}
	split_page(page, order);
	atomic_long_add(nr, &nr_pages);
	count_pages(page, nr);
	while (nr--)
		page_init(page + nr);
	return page;
}

/**
 * cowmem_page_account - the account that a page is charged to
 * @page: the page
 *
 * Context: any; the caller has a slot that holds the page.
 * Return: the account; NULL if there is none yet.
 */
struct cowmem_account *cowmem_page_account(struct page *page)
{
	return READ_ONCE(*cowmem_page_account_slot(page));
}

/**
 * cowmem_page_join - charge a page of another region to the account of its next holder
 * @page: the page
 * @account: the account, or NULL
 *
 * A page is charged to one account at most, until its last holder drops it, whichever
 * region that is.
 *
 * Context: any; the caller has a slot that holds the page.
 * Return: 0; -ENOSPC; -EXDEV if the page is charged to another account.
 */
int cowmem_page_join(struct page *page, struct cowmem_account *account)
{
	struct cowmem_account *has = cowmem_page_account(page);

	if (!account || has == account)
		return 0;
	if (has)
		return -EXDEV;
	if (!cowmem_charge(account, cowmem_pages_of(page)))
		return -ENOSPC;
	has = cmpxchg(cowmem_page_account_slot(page), NULL, account);
	if (!has)
		return 0;
	cowmem_uncharge(account, cowmem_pages_of(page));
	return has == account ? 0 : -EXDEV;
}

/**
 * cowmem_folio_broken - is any page of a folio poisoned?
 * @folio: the folio
 *
 * The core has a flag for this, but sets it only for folios on an LRU list.
 *
 * Context: any.
 * Return: whether one is.
 */
bool cowmem_folio_broken(struct folio *folio)
{
	struct page *page = &folio->page, *end = page + folio_nr_pages(folio);
	bool broken = false;

	if (IS_ENABLED(CONFIG_MEMORY_FAILURE))
		for (; page < end && !broken; page += 4)
			broken = PageHWPoison(page) | PageHWPoison(page + 1) |
				 PageHWPoison(page + 2) | PageHWPoison(page + 3);
	return broken;
}

/**
 * cowmem_page_copy - copy a page
 * @to: where to
 * @from: the page
 *
 * Context: any.
 * Return: 0; -EHWPOISON if @from is poisoned, perhaps only since we tried to read it.
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

/**
 * cowmem_page_duplicate - allocate a copy of a page
 * @page: the page
 * @account: what the copy is to be charged to, or NULL
 * @gently: fail rather than start the OOM killer
 *
 * Context: may sleep.
 * Return: the copy, with one holder; -ENOMEM, -ENOSPC; -EHWPOISON if @page is poisoned.
 */
struct page *cowmem_page_duplicate(struct page *page, struct cowmem_account *account,
				   bool gently)
{
	struct page *copy = cowmem_page_alloc(account, false, NULL, gently);
	int err;

	if (IS_ERR(copy))
		return copy;
	err = cowmem_page_copy(copy, page);
	if (!err)
		return copy;
	cowmem_uncharge(account, 1);
	cowmem_pages_free(copy, 1);
	return ERR_PTR(err);
}

/**
 * cowmem_pages_equal - do two pages have the same content?
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
 * cowmem_pages_exit - complain about what was not given back
 *
 * Context: any; no region is left.
 */
void cowmem_pages_exit(void)
{
	long pages = atomic_long_read(&nr_pages);

	if (pages)
		pr_err("leaked %ld pages\n", pages);
}
