// SPDX-License-Identifier: GPL-2.0-only
/*
 * Granting write access to pages
 *
 * This is the only place that grants a page of order 0 to a region; area.c does the same
 * for large folios.  cut.c takes grants back.
 *
 * DOC: The reuse rule
 *
 * A page that has been shared may not be written in place just because its other holders
 * are gone: they may have passed it to vmsplice() or to a device before they dropped it
 * (CVE-2020-29374).  Any PTE that can still map the page belongs to the region itself.  So
 * those PTEs are removed, and then the reference count tells whether anybody else uses the
 * page.  If somebody does, the region gets a copy.
 */
#include <linux/highmem.h>
#include <linux/log2.h>
#include <linux/mempolicy.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/sched/signal.h>

#include "account.h"
#include "area.h"
#include "block.h"
#include "expendable.h"
#include "grant.h"
#include "hold.h"
#include "huge.h"
#include "leaf.h"
#include "map.h"
#include "mapped.h"
#include "node.h"
#include "page.h"
#include "pmd.h"
#include "region.h"
#include "spare.h"
#include "trace.h"
#include "tree.h"
#include "yield.h"

/*
 * Pages are allocated in batches of at most 1 << SPARE_ORDER.  If the next write goes
 * elsewhere, all but one page of a batch stay unused, and each leaf lock may have a batch.
 */
#define SPARE_ORDER	3U

/**
 * struct writing - a write to a page that is about to start
 * @region: the region
 * @index: index of the page
 * @by: see cowmem_begin_write()
 * @vmf: see cowmem_begin_write()
 * @gently: fail rather than invoke the OOM killer, because snapshots may yield memory
 * @leaf: the leaf that covers @index
 * @fresh: a page to fill the hole at @index, or NULL.  It is allocated before the leaf is
 *	added, as otherwise a failed allocation would leave an empty leaf behind.
 */
struct writing {
	struct cowmem_region *region;
	pgoff_t index;
	enum cowmem_writer by;
	struct vm_fault *vmf;
	bool gently;
	struct cowmem_node *leaf;
	struct page *fresh;
};

static void grant(struct cowmem_region *region, struct cowmem_node *leaf,
		  pgoff_t index, struct folio *folio)
{
	/* The content has no original to be restored from: see keep.c. */
	folio_set_dirty(folio);
	cowmem_leaf_grant(&region->tree, leaf, index);
}

/*
 * The number of pages just before @index, in the same leaf, that were granted without a
 * gap.  A long run means that pages are being written in order, so work ahead pays off.
 */
static unsigned int run_before(const struct cowmem_node *leaf, pgoff_t index)
{
	/* The slot before that of @index in the highest bit. */
	u64 before = leaf->granted << (COWMEM_NODE_MASK - cowmem_slot(index)) << 1;

	return COWMEM_NODE_SLOTS - fls64(~before);
}

/* Work ahead of a write to @index ends before this index. */
static pgoff_t ahead_end(const struct cowmem_node *leaf, pgoff_t index)
{
	return min(index + 1 + run_before(leaf, index),
		   (index | COWMEM_NODE_MASK) + 1);
}

/* The page that @vmf found mapped read-only; it may have been unmapped since. */
static struct page *mapped_page(const struct vm_fault *vmf)
{
	return vmf ? vmf->page : NULL;
}

/*
 * Unmap @page, which is about to be replaced (NULL for a hole), together with the pages
 * after it that the next writes would find mapped read-only.
 */
static void unmap_ahead(struct cowmem_region *region,
			const struct cowmem_node *leaf, pgoff_t index,
			struct page *page, const struct vm_fault *vmf)
{
	pgoff_t end = ahead_end(leaf, index), to = index + 1;

	while (to < end && !(leaf->granted & BIT_ULL(cowmem_slot(to))))
		to++;
	/*
	 * Usually the writer is the only one who maps the page.  Walking all mappings of
	 * the region takes longer the more there are, so try this one first.
	 */
	if (page && page == mapped_page(vmf)) {
		cowmem_unmap_here(vmf->vma, index, to);
		/* No other mapping is left, and none is waiting to be flushed. */
		if (!cowmem_page_busy(page, 1))
			return;
	}
	cowmem_unmap(region, index, to, false);
	cowmem_note_unmapped(region, index, to);
}

/* Can a PTE still map @old, which was at @index until now? */
static bool old_mapped(const struct writing *w, struct page *old)
{
	if (!cowmem_page_busy(old, old == mapped_page(w->vmf)))
		return false;
	return !cowmem_page_large(old) || cowmem_page_huge(old) ||
	       cowmem_fresh_mapped(w->region, w->index);
}

/*
 * As reuse(), for a page of a folio or one with a single holder.  Not inline, because most
 * writes after a clone find a shared page and need none of this.
 */
static noinline bool reuse_unshared(struct cowmem_region *region, struct cowmem_node *leaf,
				    pgoff_t index, struct page *page,
				    const struct vm_fault *vmf)
{
	if (cowmem_page_large(page))
		return cowmem_area_reuse(region, index, page, page == mapped_page(vmf));
	if (cowmem_page_mapcount(page))
		unmap_ahead(region, leaf, index, page, vmf);
	if (cowmem_page_busy(page, page == mapped_page(vmf)))
		return false;
	grant(region, leaf, index, page_folio(page));
	trace_cowmem_reuse(region, index);
	return true;
}

/* Grant the page as it is, if the reuse rule allows it.  Returns whether it was granted. */
static bool reuse(struct cowmem_region *region, struct cowmem_node *leaf,
		  pgoff_t index, struct page *page, const struct vm_fault *vmf)
{
	if (cowmem_page_holders(page) > 1 && !cowmem_page_large(page))
		return false;
	return reuse_unshared(region, leaf, index, page, vmf);
}

/*
 * Allocate a page for the slot, filled with zeroes if @zero.  While pages are written in
 * order they come from a block, or from a batch of spare pages that is no larger than the
 * run so far.  Without a @leaf there is no run.
 */
static struct page *new_page(const struct writing *w, const struct cowmem_node *leaf,
			     bool zero)
{
	struct page **spare = &cowmem_leaf_lock(w->region, w->index)->spare;
	struct cowmem_account *account = cowmem_region_account(w->region);
	struct page *page;

	/* A memory policy may choose another node for each page. */
	if (w->vmf && vma_policy(w->vmf->vma))
		return cowmem_page_alloc(account, zero, w->vmf, w->gently);
	page = COWMEM_HAVE_BLOCKS ? cowmem_block_page(w->region, w->index, zero) : NULL;
	if (page)
		return page;
	if (!*spare && leaf) {
		unsigned int order = ilog2(ahead_end(leaf, w->index) - w->index);

		if (order)
			cowmem_pages_ahead(spare, min(order, SPARE_ORDER));
	}
	if (!*spare)
		return cowmem_page_alloc(account, zero, w->vmf, w->gently);
	return cowmem_page_take(spare, account, zero);
}

/* @page, which came from new_page(), was not needed.  It may be NULL. */
static void set_aside(struct cowmem_region *region, pgoff_t index,
		      struct page *page)
{
	if (page && cowmem_page_large(page))
		cowmem_block_page_back(region, index, page);
	else if (page)
		cowmem_page_set_aside(page, &cowmem_leaf_lock(region, index)->spare);
}

/*
 * Put a new page into the slot: @w->fresh or a page of zeroes in place of a hole, a copy in
 * place of a page.  On failure the slot stays as it was.
 */
static struct page *replace(struct writing *w)
{
	struct cowmem_region *region = w->region;
	struct cowmem_node *leaf = w->leaf;
	pgoff_t index = w->index;
	struct page *old = leaf->slots[cowmem_slot(index)];
	bool whole = w->by == COWMEM_CALL_WHOLE;
	struct folio *folio;
	struct page *page;
	int err = 0;

	if (!old && w->fresh)
		page = w->fresh;
	else
		page = new_page(w, leaf, !old && !whole);
	if (IS_ERR(page))
		return page;
	folio = page_folio(page);
	if (!old) {
		w->fresh = NULL;
		/*
		 * The flag is the folio's, but nobody looks at its other pages while the
		 * call holds the lock.
		 */
		if (whole)
			folio_clear_uptodate(folio);
	} else {
		err = cowmem_page_copy(page, old);
	}
	if (err) {
		cowmem_page_drop(page, false);
		return ERR_PTR(err);
	}
	grant(region, leaf, index, folio);
	/* Wait until nobody is about to map the area as it was. */
	if (leaf->whole)
		cowmem_pmd_barrier(region, index, index + 1);
	cowmem_leaf_set(leaf, index, page);
	if (folio_test_large(folio))
		cowmem_block_page_set(region, leaf, index, page);
	/*
	 * From here on read faults map the new page once they get the leaf lock.  PTEs of
	 * the old page have to go before anybody can write.  The mapcount does not tell
	 * whether there are any: MADV_DONTNEED, which takes none of our locks, lowers it
	 * before it flushes the TLB.  It does hold a reference until then, and unmapping
	 * once more flushes what another zap has not flushed yet.
	 */
	if (old ? old_mapped(w, old) : cowmem_hole_mapped(region, index))
		unmap_ahead(region, leaf, index, old, w->vmf);
	if (old) {
		trace_cowmem_split(region, index);
		cowmem_page_drop(old, false);
	}
	return page;
}

static struct mutex *writing_lock(const struct writing *w)
{
	return &cowmem_leaf_lock(w->region, w->index)->lock;
}

/*
 * Let the region write the page at @w->index in @w->leaf.  A hole is filled with @w->fresh
 * if that is set, which cannot fail; then @w->fresh becomes NULL.
 */
static struct page *grant_leaf(struct writing *w)
{
	unsigned int slot = cowmem_slot(w->index);
	struct page *old = w->leaf->slots[slot], *page;

	lockdep_assert_held(&w->region->lock);
	lockdep_assert_held(writing_lock(w));

	if (old && PageHWPoison(old))
		return ERR_PTR(-EHWPOISON);
	if (w->leaf->granted & BIT_ULL(slot)) {
		/* Other mappings may go on to show the page, which stays what it is. */
		if (mapped_page(w->vmf))
			cowmem_unmap_here(w->vmf->vma, w->index, w->index + 1);
		page = old;
	} else if (old && reuse(w->region, w->leaf, w->index, old, w->vmf)) {
		page = old;
	} else {
		page = replace(w);
	}
	/* The pages of a folio get their names together. */
	if (!IS_ERR(page) && (w->vmf || cowmem_page_large(page)))
		cowmem_name_page(w->region, w->leaf, w->index, page);
	return page;
}

/**
 * cowmem_grant_page - let a region write a page that it has
 * @region: the region
 * @index: index of the page
 *
 * Context: may sleep; under region->lock for writing.
 * Return: the page, which stays in place until the lock is released; NULL for a hole;
 * -ENOMEM, -ENOSPC or -EHWPOISON.
 */
struct page *cowmem_grant_page(struct cowmem_region *region, pgoff_t index)
{
	struct writing w = { .region = region, .index = index };
	struct page *page;

	if (!cowmem_tree_page(&region->tree, index))
		return NULL;
	w.leaf = cowmem_tree_own(&region->tree, index, false);
	if (IS_ERR(w.leaf))
		return ERR_CAST(w.leaf);
	mutex_lock(writing_lock(&w));
	page = grant_leaf(&w);
	mutex_unlock(writing_lock(&w));
	return page;
}

/**
 * cowmem_may_grant - may a page be granted as it is, with nothing to unmap?
 * @leaf: a leaf that only one region reaches
 * @index: index of the page; its slot is looked up in @leaf even if @leaf does not cover it
 *
 * A page that is granted already does not qualify: mapping it would make it look written,
 * see keep.c.
 *
 * Context: under region->lock and the leaf lock.
 * Return: false if it cannot be; true if it is worth trying.
 */
bool cowmem_may_grant(const struct cowmem_node *leaf, pgoff_t index)
{
	struct page *page = leaf->slots[cowmem_slot(index)];

	return page && !(leaf->granted & BIT_ULL(cowmem_slot(index))) &&
	       cowmem_page_holders(page) == 1 && !PageHWPoison(page) &&
	       !cowmem_page_large(page) && !cowmem_page_mapcount(page) &&
	       cowmem_page_mappable(page);
}

/**
 * cowmem_grant_ahead - grant the pages that are likely to be written next
 * @region: the region
 * @leaf: a leaf that only this region reaches
 * @index: index of the page that was just granted
 * @end: stop before this index
 * @pages: where to store the pages, beginning with the one at @index + 1
 *
 * Stops at the first page that cowmem_may_grant() rejects.
 *
 * Context: may sleep; under region->lock and the leaf lock.
 * Return: how many pages were granted.
 */
unsigned int cowmem_grant_ahead(struct cowmem_region *region,
				struct cowmem_node *leaf, pgoff_t index,
				pgoff_t end, struct page **pages)
{
	unsigned int nr = 0;

	end = min(end, ahead_end(leaf, index));
	while (++index < end) {
		struct page *page = leaf->slots[cowmem_slot(index)];

		if (!cowmem_may_grant(leaf, index) ||
		    !reuse(region, leaf, index, page, NULL))
			break;
		cowmem_name_page(region, leaf, index, page);
		pages[nr++] = page;
	}
	return nr;
}

/*
 * May the owner of a writable mapping write to @index?  A sealed region gets no such
 * mapping, and a region that has one cannot be sealed.  But from 6.7 to 6.11 mmap() counts
 * a mapping as writable only after it called us, so SEAL may slip in between.
 */
static bool may_be_written(const struct cowmem_region *region, pgoff_t index)
{
	return index < cowmem_region_end(region) &&
	       !(region->seals & COWMEM_SEAL_WRITE);
}

static bool writing_inside(const struct writing *w)
{
	return w->by != COWMEM_FAULT || may_be_written(w->region, w->index);
}

/* Allocate @w->fresh, if it is not set.  Under the leaf lock, or region->lock for writing. */
static int get_fresh(struct writing *w)
{
	struct page *page;

	if (w->fresh)
		return 0;
	page = new_page(w, NULL, w->by != COWMEM_CALL_WHOLE);
	if (IS_ERR(page))
		return PTR_ERR(page);
	w->fresh = page;
	return 0;
}

/*
 * No leaf covers the index: add one, if there is a private node to put it into, without
 * making faults elsewhere wait.  Returns 0 or an error.  If 0 and @w->leaf is set, the leaf
 * lock is held.
 */
static int add_leaf(struct writing *w)
{
	struct cowmem_node *leaf;
	int err;

	mutex_lock(writing_lock(w));
	err = get_fresh(w);
	if (err)
		goto unlock;
	leaf = cowmem_tree_add_leaf(&w->region->tree, w->index, w->gently);
	if (!IS_ERR_OR_NULL(leaf)) {
		w->leaf = leaf;
		return 0;
	}
	err = PTR_ERR_OR_ZERO(leaf);
unlock:
	mutex_unlock(writing_lock(w));
	return err;
}

/*
 * The shape of the tree has to change.  region->lock is held for reading on entry and on
 * return, except that -EINTR means it is not held any more.
 */
static int own_leaf(struct writing *w)
{
	struct cowmem_region *region = w->region;
	struct cowmem_node *leaf;
	int err;

	up_read(&region->lock);
	err = down_write_killable(&region->lock);
	if (err)
		return err;
	if (!writing_inside(w)) {
		err = -ERANGE;
		goto downgrade;
	}
	if (!cowmem_tree_leaf(&region->tree, w->index, NULL)) {
		err = get_fresh(w);
		if (err)
			goto downgrade;
	}
	leaf = cowmem_tree_own(&region->tree, w->index, w->gently);
	if (IS_ERR(leaf))
		err = PTR_ERR(leaf);
	else
		w->leaf = leaf;
downgrade:
	downgrade_write(&region->lock);
	return err;
}

/* Find or add the leaf and take the leaf lock.  region->lock is held as in own_leaf(). */
static int find_leaf(struct writing *w)
{
	bool shared;
	int err;

	if (!writing_inside(w))
		return -ERANGE;
	w->leaf = cowmem_tree_leaf(&w->region->tree, w->index, &shared);
	if (!w->leaf) {
		err = add_leaf(w);
		if (err || w->leaf)
			return err;
	}
	if (!w->leaf || shared) {
		err = own_leaf(w);
		if (err)
			return err;
	}
	mutex_lock(writing_lock(w));
	return 0;
}

/*
 * One attempt of cowmem_begin_write().  On failure no lock is held, and @w->leaf and
 * @w->fresh mean nothing.
 */
static struct page *begin_write(struct writing *w)
{
	struct page *page;
	int err;

	w->leaf = NULL;
	w->fresh = NULL;
	err = down_read_killable(&w->region->lock);
	if (!err && cowmem_huge_wanted(w->region, w->index, w->by, w->vmf)) {
		err = cowmem_make_huge(w->region, w->index, w->by, w->vmf);
		err = err ?: down_read_killable(&w->region->lock);
	}
	if (err)
		return ERR_PTR(err);
	err = find_leaf(w);
	if (err)
		goto drop_fresh;
	page = grant_leaf(w);
	/* Somebody else may have filled the hole first. */
	set_aside(w->region, w->index, w->fresh);
	if (IS_ERR(page))
		cowmem_end_write(w->region, w->index);
	return page;

drop_fresh:
	/* On -EINTR own_leaf() has released it. */
	if (err != -EINTR)
		up_read(&w->region->lock);
	if (w->fresh)
		cowmem_page_drop(w->fresh, false);
	return ERR_PTR(err);
}

/* How often one write asks snapshots for memory. */
#define YIELD_TRIES	32

/* Is another attempt worth making?  Sets how it is to allocate memory in @w. */
static bool try_again(struct writing *w, const struct page *page, unsigned int *tries)
{
	int err = PTR_ERR_OR_ZERO(page);

	if (!w->gently || (err != -ENOSPC && err != -ENOMEM))
		return false;
	/*
	 * Others may take what was freed.  The last attempt is made as if no snapshot
	 * could yield.
	 */
	if ((*tries)++ == YIELD_TRIES || !cowmem_yield(w->region, w->index, err))
		w->gently = false;
	return !fatal_signal_pending(current);
}

/**
 * cowmem_begin_write - let a region write a page
 * @region: the region
 * @index: index of the page
 * @by: what is going to write it
 * @vmf: the write fault, or NULL.  If it found a page mapped (vmf->page, to which it has a
 *	reference), the address is unmapped on return.
 * @leafp: where to store the leaf, or NULL
 *
 * If memory is short, snapshots that were made for this yield theirs: see yield.c.
 *
 * Context: may sleep; no lock below i_rwsem and mmap_lock is held.
 * Return: the page.  Then region->lock (for reading) and the leaf lock are held until
 * cowmem_end_write(); otherwise a read fault could map the page read-only again and again,
 * and the write fault would never finish.  On failure no lock is held: -ENOMEM, -ENOSPC or
 * -EHWPOISON; -ERANGE if the page is past the end and must not be, or the region is sealed;
 * -EINTR if a fatal signal is pending.
 */
struct page *cowmem_begin_write(struct cowmem_region *region, pgoff_t index,
				enum cowmem_writer by, struct vm_fault *vmf,
				struct cowmem_node **leafp)
{
	struct writing w = {
		.region = region,
		.index = index,
		.by = by,
		.vmf = vmf,
		.gently = cowmem_may_yield(),
	};
	unsigned int tries = 0;
	struct page *page;

	do {
		page = begin_write(&w);
	} while (try_again(&w, page, &tries));
	if (!IS_ERR(page) && leafp)
		*leafp = w.leaf;
	return page;
}

/**
 * cowmem_end_write - the page has been written or mapped
 * @region: the region
 * @index: index of the page
 */
void cowmem_end_write(struct cowmem_region *region, pgoff_t index)
{
	mutex_unlock(&cowmem_leaf_lock(region, index)->lock);
	up_read(&region->lock);
}
