// SPDX-License-Identifier: GPL-2.0-only
/*
 * Pages and the memory that the module accounts for
 *
 * DOC: The life of a page
 *
 * A page is an ordinary struct page, on no LRU list, charged to the memcg of
 * the task that allocated it.
 *
 * hole		A slot that is NULL reads as cowmem_zero_page, which is mapped
 *		read-only and belongs to the module.
 * spare	Allocated together with the page of a hole, when holes are written
 *		in order, for those that come next.  No slot points to it yet.
 * born		The first write takes a page of zeroes, or copies a shared one.
 *		The new page is granted to the region.
 * granted	One region may write it.  folio->mapping and ->index name the
 *		region, which futexes in shared memory depend on.
 * shared	A clone holds it too, through the same leaf or, after the leaf
 *		was copied, through another one.  Nobody may write it,
 *		->mapping is NULL, every PTE that maps it is read-only and was
 *		never writable.
 * split	The next write gives the writing region a copy of its own.
 * reused	The last holder may be granted the page again, unless something
 *		else still refers to it ("The reuse rule" in fault.c).
 * dropped	With the last slot that points to it.  It is freed when PTEs and
 *		users of get_user_pages() have let go as well.
 *
 * folio->private counts the leaf slots that hold the page (a spare one is held by
 * the list that it is on); together they have one reference to it.  So the
 * reference count is 1, plus one for each PTE, plus what others took.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/highmem.h>
#include <linux/mempolicy.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/slab.h>

#include "cowmem.h"

static unsigned long limit_mib;
module_param(limit_mib, ulong, 0644);
MODULE_PARM_DESC(limit_mib,
		 "Most memory that all regions may hold together, pages and index nodes, in MiB; 0 is no limit (default)");

/*
 * What a hole reads as.  The kernel's own ZERO_PAGE cannot be inserted into a
 * writable shared mapping.
 */
struct page *cowmem_zero_page;

static struct kmem_cache *cowmem_node_cache;
static atomic_long_t nr_bytes = ATOMIC_LONG_INIT(0);
static atomic_long_t nr_pages = ATOMIC_LONG_INIT(0);
static atomic_long_t nr_nodes = ATOMIC_LONG_INIT(0);

static bool account(long bytes)
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

static atomic_long_t *holders(struct page *page)
{
	BUILD_BUG_ON(sizeof(page_folio(page)->private) != sizeof(atomic_long_t));
	return (atomic_long_t *)&page_folio(page)->private;
}

static void page_init(struct page *page)
{
	atomic_long_set(holders(page), 1);
	folio_mark_uptodate(page_folio(page));
}

/**
 * cowmem_page_alloc - allocate a page with one holder
 * @zero: whether to clear it
 * @vmf: the fault that wants it, whose mapping may have a memory policy, or NULL
 *
 * Context: may sleep.
 * Return: the page; -ENOMEM or -ENOSPC.
 */
struct page *cowmem_page_alloc(bool zero, const struct vm_fault *vmf)
{
	gfp_t gfp = GFP_HIGHUSER | __GFP_ACCOUNT | (zero ? __GFP_ZERO : 0);
	struct page *page;

	if (!account(PAGE_SIZE))
		return ERR_PTR(-ENOSPC);
	if (vmf && vma_policy(vmf->vma))
		page = cowmem_vma_alloc_page(gfp, vmf->vma, vmf->address);
	else
		page = alloc_page(gfp);
	if (!page) {
		atomic_long_sub(PAGE_SIZE, &nr_bytes);
		return ERR_PTR(-ENOMEM);
	}
	atomic_long_inc(&nr_pages);
	page_init(page);
	return page;
}

/**
 * cowmem_page_hold - one more slot points to a page
 * @page: the page
 *
 * Context: any; the caller has a slot that does.
 */
void cowmem_page_hold(struct page *page)
{
	atomic_long_inc(holders(page));
}

/**
 * cowmem_page_drop - a slot that pointed to a page no longer does
 * @page: the page
 * @granted: whether it was granted to the region
 *
 * Context: may sleep.  The region does not map the page any more.
 */
void cowmem_page_drop(struct page *page, bool granted)
{
	struct folio *folio = page_folio(page);

	/*
	 * The mapping names the region whose slot this was.  The page lock keeps
	 * it alive for set_page_dirty_lock() at the end of somebody's I/O.
	 */
	if (granted && page_ref_count(page) > 1) {
		folio_lock(folio);
		folio->mapping = NULL;
		folio_unlock(folio);
	} else if (granted) {
		folio->mapping = NULL;
	}
	/*
	 * A full barrier: who sees the count fall also sees our PTEs gone and
	 * what they left behind in the reference count.
	 */
	if (!atomic_long_dec_and_test(holders(page)))
		return;
	folio->private = NULL;
	atomic_long_dec(&nr_pages);
	atomic_long_sub(PAGE_SIZE, &nr_bytes);
	put_page(page);
}

/**
 * cowmem_pages_ahead - allocate zeroed pages that will be needed soon
 * @pages: the empty list that they are put on, by lru; each has one holder
 * @order: the logarithm of how many
 *
 * One block of pages takes less than single ones.  If there is none at hand, the
 * list stays empty.
 *
 * Context: may sleep.
 */
void cowmem_pages_ahead(struct list_head *pages, unsigned int order)
{
	long nr = 1L << order;
	struct page *page;

	if (!account(nr * PAGE_SIZE))
		return;
	/* Who does not reclaim may use reserves, unless told not to. */
	page = alloc_pages((GFP_HIGHUSER & ~__GFP_DIRECT_RECLAIM) | __GFP_ACCOUNT |
			   __GFP_ZERO | __GFP_NORETRY | __GFP_NOMEMALLOC |
			   __GFP_NOWARN, order);
	if (!page) {
		atomic_long_sub(nr * PAGE_SIZE, &nr_bytes);
		return;
	}
	split_page(page, order);
	atomic_long_add(nr, &nr_pages);
	for (; nr--; page++) {
		page_init(page);
		list_add_tail(&page->lru, pages);
	}
}

/**
 * cowmem_pages_drop - free the pages that cowmem_pages_ahead() left on a list
 * @pages: the list
 *
 * Context: any.
 */
void cowmem_pages_drop(struct list_head *pages)
{
	struct page *page, *next;

	list_for_each_entry_safe(page, next, pages, lru) {
		list_del(&page->lru);
		cowmem_page_drop(page, false);
	}
}

/**
 * cowmem_page_holders - how many slots point to a page
 * @page: the page
 *
 * Context: any; the caller has a slot that does.  If the answer is 1, it stays
 * so, and all that former holders did to the page is visible.
 * Return: the number, at least 1.
 */
long cowmem_page_holders(struct page *page)
{
	return atomic_long_read_acquire(holders(page));
}

/**
 * cowmem_pages_equal - do two pages hold the same?
 * @x: a page
 * @y: another one
 *
 * Context: any.
 * Return: whether all bytes are equal.
 */
bool cowmem_pages_equal(struct page *x, struct page *y)
{
	void *p = kmap_local_page(x);
	void *q = kmap_local_page(y);
	bool equal = !memcmp(p, q, PAGE_SIZE);

	kunmap_local(q);
	kunmap_local(p);
	return equal;
}

/**
 * cowmem_node_alloc - allocate an index node
 *
 * Context: may sleep.
 * Return: the node, not initialized; -ENOMEM or -ENOSPC.
 */
struct cowmem_node *cowmem_node_alloc(void)
{
	struct cowmem_node *node;

	if (!account(sizeof(*node)))
		return ERR_PTR(-ENOSPC);
	node = kmem_cache_alloc(cowmem_node_cache, GFP_KERNEL_ACCOUNT);
	if (!node) {
		atomic_long_sub(sizeof(*node), &nr_bytes);
		return ERR_PTR(-ENOMEM);
	}
	atomic_long_inc(&nr_nodes);
	return node;
}

/**
 * cowmem_node_free - free an index node
 * @node: the node
 *
 * Context: any.
 */
void cowmem_node_free(struct cowmem_node *node)
{
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
	cowmem_node_cache = KMEM_CACHE(cowmem_node, SLAB_ACCOUNT);
	if (!cowmem_node_cache)
		return -ENOMEM;
	cowmem_zero_page = alloc_page(GFP_KERNEL | __GFP_ZERO);
	if (!cowmem_zero_page) {
		kmem_cache_destroy(cowmem_node_cache);
		return -ENOMEM;
	}
	SetPageUptodate(cowmem_zero_page);
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

	if (pages || nodes || atomic_long_read(&nr_bytes))
		pr_err("leaked %ld pages, %ld nodes\n", pages, nodes);
	put_page(cowmem_zero_page);
	kmem_cache_destroy(cowmem_node_cache);
}
