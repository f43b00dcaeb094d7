// SPDX-License-Identifier: GPL-2.0-only
/*
 * Who may write what: the one place that gives write access and takes it away
 *
 * See "How write access is granted and taken away" in grant.h.
 *
 * DOC: The reuse rule
 *
 * Once a page has been shared, having no other holder left is not enough for
 * its last holder to write it in place: the others may have handed it to
 * vmsplice() or to a device before they let go of it (CVE-2020-29374).  All PTEs
 * that could still exist are the region's own, so those are removed, after
 * which the reference count says whether anybody else has the page.  If so, the
 * region gets a copy.
 */
#include <linux/highmem.h>
#include <linux/log2.h>
#include <linux/mempolicy.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/sched/signal.h>

#include "area.h"
#include "block.h"
#include "cut.h"
#include "expendable.h"
#include "grant.h"
#include "hold.h"
#include "huge.h"
#include "leaf.h"
#include "limbo.h"
#include "map.h"
#include "page.h"
#include "pmd.h"
#include "region.h"
#include "rest.h"
#include "spare.h"
#include "trace.h"
#include "tree-range.h"
#include "tree.h"
#include "yield.h"
#include "zero.h"

/*
 * The logarithm of how many pages are allocated at once at most.  All but one of them
 * are idle if the next write goes elsewhere, for each leaf lock of the region.
 */
#define SPARE_ORDER	3U

/**
 * struct writing - a write to a page that is about to begin
 * @region: the region.
 * @index: of the page.
 * @by: see cowmem_begin_write().
 * @vmf: likewise.
 * @gently: fail where else the OOM killer would be let loose, as snapshots may yield.
 * @leaf: where the page is, or is to be.
 * @fresh: a page for it, if that is a hole, set aside before there is a leaf: a leaf
 *	without a page would stay behind if no memory was left.
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
	/* What the page holds is nobody's original, see restore.c. */
	folio_set_dirty(folio);
	cowmem_leaf_grant(&region->tree, leaf, index);
}

/*
 * The granted @page is about to be mapped.  Until then only calls write it, and nobody
 * keeps it who could write it later, so there is no more to take back than the grant.
 */
static void name_page(struct cowmem_region *region, struct cowmem_node *leaf,
		      pgoff_t index, struct page *page)
{
	struct folio *folio = page_folio(page);

	folio->mapping = region->inode.i_mapping;
	folio->index = index - folio_page_idx(folio, page);
	leaf->named |= BIT_ULL(cowmem_slot(index));
}

/*
 * How many pages were granted one after the other just before @index, in its leaf.
 * That many more are worth some work ahead: the pages are being written in order.
 */
static unsigned int run_before(const struct cowmem_node *leaf, pgoff_t index)
{
	/* The slot before that of @index in the highest bit. */
	u64 before = leaf->granted << (COWMEM_NODE_MASK - cowmem_slot(index)) << 1;

	return COWMEM_NODE_SLOTS - fls64(~before);
}

/* The end of the work ahead that begins at @index. */
static pgoff_t ahead_end(const struct cowmem_node *leaf, pgoff_t index)
{
	return min(index + 1 + run_before(leaf, index),
		   (index | COWMEM_NODE_MASK) + 1);
}

/* The page that @vmf found mapped read-only, or did a moment ago. */
static struct page *mapped_page(const struct vm_fault *vmf)
{
	return vmf ? vmf->page : NULL;
}

/*
 * Unmap @page of @index, which is about to change or NULL for a hole, and what the
 * next writes would find mapped read-only.
 */
static void unmap_ahead(struct cowmem_region *region,
			const struct cowmem_node *leaf, pgoff_t index,
			struct page *page, const struct vm_fault *vmf)
{
	struct cowmem_leaf_lock *lock = cowmem_leaf_lock(region, index);
	pgoff_t end = ahead_end(leaf, index), to = index + 1;

	while (to < end && !(leaf->granted & BIT_ULL(cowmem_slot(to))))
		to++;
	/*
	 * Mostly the one who writes is the only one who maps the page, and to look
	 * into all others who map the region costs more the more there are.
	 */
	if (page && page == mapped_page(vmf)) {
		cowmem_unmap_here(vmf->vma, index, to);
		/* Nobody else maps it, nor is about to flush what did. */
		if (!cowmem_page_busy(page, 1))
			return;
	}
	cowmem_unmap(region, index, to, false);
	if (index < lock->bare_first || to > lock->bare_end) {
		lock->bare_first = index;
		lock->bare_end = to;
	}
	if (index < lock->fresh_first || to > lock->fresh_end) {
		lock->fresh_first = index;
		lock->fresh_end = to;
	}
}

/*
 * May a hole be mapped at @index?  A reference count does not tell, as all holes of
 * all regions are one page.
 */
static bool hole_mapped(struct cowmem_region *region, pgoff_t index)
{
	struct cowmem_leaf_lock *lock = cowmem_leaf_lock(region, index);

	return index < lock->bare_first || index >= lock->bare_end;
}

/* A hole from @first to before @end, which are of one leaf, is about to be mapped. */
static void note_hole_mapped(struct cowmem_region *region, pgoff_t first, pgoff_t end)
{
	struct cowmem_leaf_lock *lock = cowmem_leaf_lock(region, first);

	if (first < lock->bare_end && end > lock->bare_first)
		lock->bare_end = lock->bare_first;
	WRITE_ONCE(region->holes_mapped, true);
}

/* Likewise a page that is not granted. */
static void note_mapped(struct cowmem_region *region, pgoff_t first, pgoff_t end)
{
	struct cowmem_leaf_lock *lock = cowmem_leaf_lock(region, first);

	if (first < lock->fresh_end && end > lock->fresh_first)
		lock->fresh_end = lock->fresh_first;
}

/*
 * May @old, which was at @index until now, be mapped there?  Who refers to a folio mostly maps
 * another page of it, so then a reference count tells as little as that of a hole.
 */
static bool old_mapped(const struct writing *w, struct page *old)
{
	const struct cowmem_leaf_lock *lock = cowmem_leaf_lock(w->region, w->index);

	if (!cowmem_page_busy(old, old == mapped_page(w->vmf)))
		return false;
	return !cowmem_page_large(old) || cowmem_page_huge(old) ||
	       w->index < lock->fresh_first || w->index >= lock->fresh_end;
}

/* As reuse(), of a page that may be one of a folio, or has one holder. */
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

/* Grant the page as it is, if the reuse rule allows it. */
static bool reuse(struct cowmem_region *region, struct cowmem_node *leaf,
		  pgoff_t index, struct page *page, const struct vm_fault *vmf)
{
	if (cowmem_page_holders(page) > 1 && !cowmem_page_large(page))
		return false;
	return reuse_unshared(region, leaf, index, page, vmf);
}

/*
 * A page for the slot, of zeroes if @zero.  While pages are written in order, they come from
 * folios for some leaves, or are allocated in blocks, at most as many as there were in the run so
 * far.  Without a @leaf there was no run.
 */
static struct page *new_page(const struct writing *w, const struct cowmem_node *leaf,
			     bool zero)
{
	struct page **spare = &cowmem_leaf_lock(w->region, w->index)->spare;
	struct cowmem_account *account = cowmem_region_account(w->region);
	struct page *page;

	/* A memory policy may send each page somewhere else. */
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

/* Nobody needed @page, which came from new_page(). */
static void set_aside(struct cowmem_region *region, pgoff_t index,
		      struct page *page)
{
	if (page && cowmem_page_large(page))
		cowmem_block_page_back(region, index, page);
	else if (page)
		cowmem_page_set_aside(page, &cowmem_leaf_lock(region, index)->spare);
}

/*
 * Put another page into the slot: @w->fresh for a hole, if there is one, or a copy.
 * Returns the page, or what is in the slot stays there.
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
		/* Nobody looks at that of another page of a folio: the call has the lock. */
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
	/* Nobody is about to map all of the area as it was. */
	if (leaf->whole)
		cowmem_pmd_barrier(region, index, index + 1);
	cowmem_leaf_set(leaf, index, page);
	if (folio_test_large(folio))
		cowmem_block_page_set(region, leaf, index, page);
	/*
	 * From here on a read fault would map the new page, if it got the leaf
	 * lock; what maps the old one has to go before anyone can write.  Its
	 * mapcount does not tell: MADV_DONTNEED, which takes none of our locks,
	 * lowers that before it flushes the TLB.  It keeps a reference until then,
	 * and to unmap once more flushes what another zap has not flushed yet.
	 */
	if (old ? old_mapped(w, old) : hole_mapped(region, index))
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
 * As cowmem_grant_leaf(), of @w->leaf.  For a hole @w->fresh is used, if there is one,
 * and set to NULL then: it cannot fail.
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
		/* Other mappings may show it as it is. */
		if (mapped_page(w->vmf))
			cowmem_unmap_here(w->vmf->vma, w->index, w->index + 1);
		page = old;
	} else if (old && reuse(w->region, w->leaf, w->index, old, w->vmf)) {
		page = old;
	} else {
		page = replace(w);
	}
	/* Those of a folio have a name all together, or none has. */
	if (!IS_ERR(page) && (w->vmf || cowmem_page_large(page)))
		name_page(w->region, w->leaf, w->index, page);
	return page;
}

/**
 * cowmem_grant_leaf - let a region write a page that it has
 * @region: the region
 * @leaf: a leaf that only this region reaches
 * @index: index of the page, covered by @leaf
 *
 * Context: may sleep; under region->lock and the leaf lock.
 * Return: the page, which stays what it is until the locks are released; -ENOMEM,
 * -ENOSPC or -EHWPOISON.
 */
struct page *cowmem_grant_leaf(struct cowmem_region *region,
			       struct cowmem_node *leaf, pgoff_t index)
{
	struct writing w = { .region = region, .index = index, .leaf = leaf };

	return grant_leaf(&w);
}

/**
 * cowmem_may_grant - can a page perhaps be granted as it is, and nothing maps it?
 * @leaf: a leaf that only one region reaches
 * @index: index of the page; it is looked for in @leaf, whether that covers it or not
 *
 * One that is granted already would count as written, see restore.c.
 *
 * Context: under region->lock and the leaf lock.
 * Return: false if it can not.
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
 * cowmem_grant_ahead - let a region write pages that it is likely to write next
 * @region: the region
 * @leaf: a leaf that only this region reaches
 * @index: index of the page that was just granted
 * @end: do not go further
 * @pages: where they go, the one of @index + 1 first
 *
 * As far as cowmem_may_grant() says.
 *
 * Context: may sleep; under region->lock and the leaf lock.
 * Return: how many.
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
		name_page(region, leaf, index, page);
		pages[nr++] = page;
	}
	return nr;
}

/*
 * May who has a writable mapping write to @index?  No such mapping can be made of a
 * region that is sealed, nor can it be sealed as long as there is one, but from 6.7 to
 * 6.11 mmap() counts a mapping as writable only after it asked us: SEAL may come
 * between.
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

/* Returns 0, or why there is no page to set aside.  Under the leaf lock, or alone. */
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
 * There is no leaf: put one there, if a private node can have it.  Faults elsewhere
 * need not wait for that.  Returns 0, and the leaf lock is held if there is a leaf now.
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
 * The tree has to change.  region->lock is held for reading before and, but for
 * -EINTR, after.
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

/* Find or make the leaf, with region->lock held, and get the leaf lock. */
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
 * As cowmem_begin_write(), once.  Or, with no lock held, why not; what was found or set
 * aside for @w is forgotten then.
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
	/* Somebody else may have been faster. */
	set_aside(w->region, w->index, w->fresh);
	if (IS_ERR(page))
		cowmem_end_write(w->region, w->index);
	return page;

drop_fresh:
	/* Else nobody holds a lock any more. */
	if (err != -EINTR)
		up_read(&w->region->lock);
	if (w->fresh)
		cowmem_page_drop(w->fresh, false);
	return ERR_PTR(err);
}

/* How often a write asks for memory of snapshots. */
#define YIELD_TRIES	32

/* Should a write be tried once more?  @w says how then. */
static bool try_again(struct writing *w, const struct page *page, unsigned int *tries)
{
	int err = PTR_ERR_OR_ZERO(page);

	if (!w->gently || (err != -ENOSPC && err != -ENOMEM))
		return false;
	/* Others may take what was freed.  In the end it is tried as if nothing could be. */
	if ((*tries)++ == YIELD_TRIES || !cowmem_yield(w->region, w->index, err))
		w->gently = false;
	return !fatal_signal_pending(current);
}

/**
 * cowmem_begin_write - let a region write a page
 * @region: the region
 * @index: index of the page
 * @by: what is going to write it
 * @vmf: the fault that wants it, or NULL; where vmf->page was, which the fault found
 *	there and has a reference to, nothing is mapped afterwards
 * @leafp: where the leaf goes, or NULL
 *
 * Where memory is short, snapshots that were made for it yield theirs, see yield.c.
 *
 * Context: may sleep; no lock below i_rwsem and mmap_lock is held.
 * Return: the page, and region->lock is held for reading, and the leaf lock, until
 * cowmem_end_write(): a read fault in between would map the page read-only, and that
 * could happen to a write fault again and again.  Or, with no lock held, -ENOMEM,
 * -ENOSPC or -EHWPOISON, -ERANGE if the page lies past the end and must not or the
 * region is sealed, -EINTR if a fatal signal arrived.
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

/* Under region->lock and the leaf lock of @index. */
static struct page *leaf_page(const struct cowmem_node *leaf, pgoff_t index)
{
	struct page *page = leaf ? leaf->slots[cowmem_slot(index)] : NULL;

	return page ?: cowmem_zero_page();
}

/* Has a granted page a name?  Of a folio it may have been lost with another one's grant. */
static bool has_name(const struct cowmem_node *leaf, unsigned int slot)
{
	return (leaf->named & BIT_ULL(slot)) &&
	       (!leaf->large || page_folio((struct page *)leaf->slots[slot])->mapping);
}

/**
 * cowmem_pages_to_map - the pages of a part of a leaf, about to be mapped read-only
 * @region: the region
 * @leaf: the leaf of @index, or NULL
 * @index: index of the first one
 * @nr: how many
 * @pages: where they go; the zero page for a hole
 *
 * Context: may sleep; under region->lock and the leaf lock.
 * Return: 0; -EHWPOISON if one of them is poisoned, -EMFILE if one has an absurd number
 * of references.
 */
int cowmem_pages_to_map(struct cowmem_region *region, struct cowmem_node *leaf,
			pgoff_t index, unsigned int nr, struct page **pages)
{
	struct page *zero = cowmem_zero_page();
	unsigned int i, slot = cowmem_slot(index);
	bool hole = false, other = false;
	int err = 0;

	for (i = 0; i < nr; i++) {
		struct page *page = leaf ? leaf->slots[slot + i] : NULL;

		if (!page) {
			page = zero;
			hole = true;
		} else if (!(leaf->granted & BIT_ULL(slot + i))) {
			other = true;
		} else if (!has_name(leaf, slot + i)) {
			name_page(region, leaf, index + i, page);
		}
		if (unlikely(PageHWPoison(page)))
			err = -EHWPOISON;
		if (unlikely(!cowmem_page_mappable(page)))
			err = -EMFILE;
		pages[i] = page;
	}
	if (hole)
		note_hole_mapped(region, index, index + nr);
	if (other)
		note_mapped(region, index, index + nr);
	return err;
}

/**
 * cowmem_peek - get the page of an index for reading
 * @region: the region
 * @index: the index
 *
 * Context: may sleep; no lock below i_rwsem and mmap_lock is held.
 * Return: the page with a reference for the caller, the zero page for a hole;
 * -ERANGE past the end; -EMFILE if the page has an absurd number of references;
 * -EHWPOISON; -EIO if the region is a snapshot that has yielded; -EINTR if a fatal signal
 * arrived.
 */
struct page *cowmem_peek(struct cowmem_region *region, pgoff_t index)
{
	struct page *page;
	int err;

	err = cowmem_lock(region, false);
	if (err)
		return ERR_PTR(err);
	if (index >= cowmem_region_end(region)) {
		up_read(&region->lock);
		return ERR_PTR(-ERANGE);
	}
	mutex_lock(&cowmem_leaf_lock(region, index)->lock);
	page = leaf_page(cowmem_tree_leaf(&region->tree, index, NULL), index);
	if (PageHWPoison(page))
		page = ERR_PTR(-EHWPOISON);
	else if (cowmem_page_mappable(page))
		get_page(page);
	else
		page = ERR_PTR(-EMFILE);
	mutex_unlock(&cowmem_leaf_lock(region, index)->lock);
	up_read(&region->lock);
	return page;
}

/* Rather than walk the page tables twice, unmap so many pages that need not be. */
#define CUT_GAP		4

/* Take back the grants of about so many pages before others get at the region. */
#define CUT_PAGES	(8 * COWMEM_NODE_SLOTS)
/* Who writes meanwhile is granted more: how often to go after that, if it gets less. */
#define CUT_ROUNDS	8

/*
 * Is the gap from @to to @start, whose end is in @leaf, worth to be left out when
 * what lies around it is unmapped?  To pass over what is not mapped is cheap.
 */
static bool leave_out(const struct cowmem_region *region,
		      const struct cowmem_node *leaf, pgoff_t to, pgoff_t start)
{
	unsigned int mapped = 0;

	/* Out of order, if others were at the list since it was sorted. */
	if (start < to)
		return true;
	if (to < leaf->base)
		return start > to + CUT_GAP;
	for (; to < start; to++) {
		struct page *page = leaf->slots[cowmem_slot(to)];

		mapped += page ? !!cowmem_page_mapcount(page) : region->holes_mapped;
	}
	return mapped > CUT_GAP;
}

/*
 * Stop all writers in [@first, @end), in the first @leaves that have granted pages.
 * Afterwards none of those pages is mapped, and writers wait for region->lock.
 * Returns -EINTR if a fatal signal arrived, with no harm done: the pages are still
 * granted.
 */
static int cut_leaves(struct cowmem_region *region, pgoff_t first, pgoff_t end,
		      unsigned long leaves)
{
	pgoff_t from = 0, to = 0;
	struct cowmem_node *leaf;

	lockdep_assert_held_write(&region->lock);

	list_for_each_entry(leaf, &region->tree.granted, granted_link) {
		u64 slots = cowmem_leaf_granted(leaf, first, end) & leaf->named;

		if (!leaves--)
			break;
		while (slots) {
			unsigned int i = __ffs64(slots);
			u64 run = slots & ~(slots + BIT_ULL(i));
			pgoff_t start = leaf->base + i;

			if (leave_out(region, leaf, to, start) ||
			    start >= from + COWMEM_UNMAP_BATCH) {
				if (from < to)
					cowmem_unmap(region, from, to, false);
				from = start;
			}
			to = leaf->base + fls64(run);
			slots &= ~run;
		}
		if (leaf->fold)
			to = leaf->base + folio_nr_pages(leaf->whole);
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
	}
	if (from < to)
		cowmem_unmap(region, from, to, false);
	return 0;
}

/* Is there a page that may be mapped writable? */
static bool any_named(const struct cowmem_region *region)
{
	const struct cowmem_node *leaf;

	list_for_each_entry(leaf, &region->tree.granted, granted_link)
		if (leaf->named)
			return true;
	return false;
}

/*
 * The range in which to stop writers, for others to get pages of [@first, @end): all
 * pages of a folio are granted, or others may hold some of them.
 */
static void widen(const struct cowmem_region *region, pgoff_t *first, pgoff_t *end)
{
	if (*first % COWMEM_AREA_PAGES)
		*first = round_down(*first, cowmem_large_pages(region, *first));
	if (*end != ULONG_MAX && *end % COWMEM_AREA_PAGES)
		*end = round_up(*end, cowmem_large_pages(region, *end));
}

/**
 * cowmem_cut - stop all writers
 * @region: the region
 * @first: first index
 * @end: index after the last one, or ULONG_MAX
 *
 * Context: may sleep; under region->lock for writing, or for reading if the region
 * is frozen.
 * Return: 0 or -EINTR, with no harm done: the pages are still granted.
 */
int cowmem_cut(struct cowmem_region *region, pgoff_t first, pgoff_t end)
{
	struct cowmem_node *leaf;

	if (!any_named(region))
		return 0;
	if (first || end != ULONG_MAX)
		list_for_each_entry(leaf, &region->tree.granted, granted_link)
			cowmem_leaves_unfold(leaf);
	/* In order, to unmap neighbouring leaves in one go. */
	cowmem_tree_sort_granted(&region->tree);
	widen(region, &first, &end);
	return cut_leaves(region, first, end, ULONG_MAX);
}

/**
 * struct look - what was found out about the folio that was looked at last
 * @folio: the folio.
 * @busy: whether somebody refers to it.
 */
struct look {
	struct folio *folio;
	bool busy;
};

/*
 * Is @page of @leaf, which was unmapped, in use?  Whoever lets go of a folio meanwhile
 * makes no difference between its pages: their leaves are in order.
 */
static bool looks_busy(struct look *look, const struct cowmem_node *leaf, struct page *page)
{
	struct folio *folio = page_folio(page);

	if (!leaf->large || !cowmem_page_large(page))
		return cowmem_page_busy(page, 0);
	if (look->folio != folio) {
		look->folio = folio;
		look->busy = cowmem_page_busy(page, 0);
	}
	return look->busy;
}

/*
 * Give the tree copies of pages that are in use by somebody who may be writing to
 * them, so that I/O in flight keeps landing in the page of the region that it was
 * started on.  Such pages stay granted.
 */
static int copy_busy(struct cowmem_share *s)
{
	struct look look = { };
	struct cowmem_node *leaf;

	list_for_each_entry(leaf, &s->region->tree.granted, granted_link) {
		u64 slots = cowmem_leaf_granted(leaf, s->first, s->end);

		if (leaf->fold && !looks_busy(&look, leaf, leaf->slots[0])) {
			s->nr_cut += folio_nr_pages(leaf->whole);
			continue;
		}
		cowmem_leaves_unfold(leaf);
		s->nr_cut += hweight64(slots);
		for (slots &= leaf->named; slots; slots &= slots - 1) {
			unsigned int i = __ffs64(slots);
			pgoff_t index = leaf->base + i - s->first + s->to;
			struct page *page = leaf->slots[i], *copy;
			struct cowmem_node *mine;
			int err;

			if (!looks_busy(&look, leaf, page)) {
				if (leaf->whole)
					break;
				continue;
			}
			/* A fault that is about to map all of the folio is over soon. */
			if (s->patient && cowmem_page_huge(page))
				return -EAGAIN;
			/* Nobody gets to see what is written there: share it. */
			if (PageHWPoison(page) && !cowmem_page_large(page)) {
				cowmem_page_unname(page);
				continue;
			}
			mine = cowmem_tree_own(s->tree, index, false);
			if (IS_ERR(mine))
				return PTR_ERR(mine);
			copy = cowmem_page_alloc(cowmem_region_account(s->region),
						 false, NULL, false);
			if (IS_ERR(copy))
				return PTR_ERR(copy);
			err = cowmem_page_copy(copy, page);
			if (err) {
				cowmem_page_drop(copy, false);
				return err;
			}
			cowmem_leaf_set(mine, index, copy);
			cowmem_page_drop(page, false);
			s->nr_copied++;
		}
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
	}
	return 0;
}

/*
 * Take back the grants of pages of folios that are shared in part: those have lost their
 * names.  They may lie around what is shared, and who referred to a folio may have let go
 * of it after some of its pages were copied.
 */
static void revoke_nameless(const struct cowmem_share *s)
{
	pgoff_t first = s->first, end = s->end;
	struct cowmem_node *leaf, *next;

	widen(s->region, &first, &end);
	if (!s->nr_copied && first == s->first && end == s->end)
		return;
	list_for_each_entry_safe(leaf, next, &s->region->tree.granted,
				 granted_link) {
		u64 slots = cowmem_leaf_granted(leaf, first, end), left, lost = 0;

		for (left = leaf->large ? slots : 0; left; left &= left - 1) {
			unsigned int i = __ffs64(left);

			if (cowmem_page_large(leaf->slots[i]) && !has_name(leaf, i))
				lost |= BIT_ULL(i);
		}
		cowmem_leaf_ungrant(leaf, lost);
	}
}

/* Take back the grants, but for pages that were copied, if there are any. */
static void revoke(struct cowmem_share *s)
{
	struct cowmem_node *leaf, *next;

	if (!cowmem_region_frozen(s->region))
		cowmem_rests_drop(s->region);
	list_for_each_entry_safe(leaf, next, &s->region->tree.granted,
				 granted_link) {
		u64 slots = cowmem_leaf_granted(leaf, s->first, s->end), left;

		/* It is not in use: else each leaf was granted for itself by now. */
		if (leaf->fold) {
			leaf->whole->mapping = NULL;
			cowmem_leaves_ungrant(leaf);
			continue;
		}
		for (left = slots & leaf->named; left; left &= left - 1) {
			unsigned int i = __ffs64(left);
			pgoff_t index = leaf->base + i - s->first + s->to;
			struct page *page = leaf->slots[i];

			if (!s->nr_copied ||
			    cowmem_tree_page(s->tree, index) == page)
				page_folio(page)->mapping = NULL;
			else
				slots &= ~BIT_ULL(i);
			/* The same goes for the others. */
			if (leaf->whole && (slots & BIT_ULL(i)))
				break;
		}
		cowmem_leaf_ungrant(leaf, slots);
		cond_resched();
	}
	revoke_nameless(s);
}

/**
 * cowmem_share - let a tree share pages of a region, as they are at one instant
 * @s: which pages; the tree is empty, and cowmem_cut() was called
 *
 * Context: may sleep; under region->lock for writing, or for reading if the region
 * is frozen.
 * Return: 0; -ENOMEM, -ENOSPC, -EHWPOISON or -EINTR, and the tree is empty.
 */
int cowmem_share(struct cowmem_share *s)
{
	int err = 0;

	if (!s->first && !s->to && s->end == ULONG_MAX)
		cowmem_tree_clone(s->tree, &s->region->tree);
	else
		err = cowmem_tree_share(s->tree, s->to, &s->region->tree,
					s->first, s->end - s->first);
	if (!err)
		err = copy_busy(s);
	if (err) {
		/* Now, before anyone finds granted pages in shared nodes. */
		cowmem_tree_destroy(s->tree);
		return err;
	}
	revoke(s);
	return 0;
}

/* As revoke_idle(), of an area that was granted as a whole. */
static void revoke_idle_area(struct cowmem_region *region, struct cowmem_node *leaf)
{
	if (cowmem_page_busy(&leaf->whole->page, 0)) {
		list_move_tail(&leaf->granted_link, &region->tree.granted);
		return;
	}
	leaf->whole->mapping = NULL;
	region->nr_cut += folio_nr_pages(leaf->whole);
	cowmem_leaves_ungrant(leaf);
}

/* As revoke_idle_leaf(), if all of the leaf is a folio of its own.  Returns whether it is. */
static bool revoke_idle_whole(struct cowmem_region *region, struct cowmem_node *leaf)
{
	struct folio *folio = leaf->whole;

	if (!folio || folio_nr_pages(folio) != COWMEM_NODE_SLOTS)
		return false;
	if (cowmem_page_busy(&folio->page, 0)) {
		list_move_tail(&leaf->granted_link, &region->tree.granted);
		return true;
	}
	folio->mapping = NULL;
	region->nr_cut += hweight64(leaf->granted);
	cowmem_leaf_ungrant(leaf, leaf->granted);
	return true;
}

/*
 * As revoke_idle(), of one leaf.  A folio's pages, in the other leaves of its area as well,
 * lose theirs together.
 */
static void revoke_idle_leaf(struct cowmem_region *region, struct cowmem_node *leaf)
{
	u64 slots = leaf->granted, left = slots & leaf->named;
	struct folio *busy = NULL;

	if (revoke_idle_whole(region, leaf))
		return;
	for (; left; left = left & (left - 1) & leaf->granted) {
		unsigned int i = __ffs64(left);
		struct page *page = leaf->slots[i];
		unsigned long nr = 0;

		if (cowmem_page_large(page)) {
			if (page_folio(page) != busy)
				nr = cowmem_area_revoke(region, leaf->base + i);
			if (!nr)
				busy = page_folio(page);
			region->nr_cut += nr;
		} else if (!cowmem_page_busy(page, 0)) {
			page_folio(page)->mapping = NULL;
			nr = 1;
		}
		if (!nr)
			slots &= ~BIT_ULL(i);
	}
	slots &= leaf->granted;
	region->nr_cut += hweight64(slots);
	cowmem_leaf_ungrant(leaf, slots);
	if (leaf->granted)
		list_move_tail(&leaf->granted_link, &region->tree.granted);
}

/*
 * Take back the grants of the first @leaves, which were cut, but for pages that are
 * in use.
 */
static void revoke_idle(struct cowmem_region *region, unsigned long leaves)
{
	struct list_head *granted = &region->tree.granted;

	for (; leaves && !list_empty(granted); leaves--) {
		struct cowmem_node *leaf;

		leaf = list_first_entry(granted, struct cowmem_node, granted_link);
		if (leaf->fold)
			revoke_idle_area(region, leaf);
		else
			revoke_idle_leaf(region, leaf);
	}
}

/*
 * How many of the first leaves hold CUT_PAGES.  An area counts less than a leaf where PMDs
 * map it, each of which has one reference, and more where PTEs do.  All leaves of an area are
 * taken together, or a folio would be unmapped more than once.
 */
static unsigned long few_leaves(const struct cowmem_region *region)
{
	unsigned long nr = 0, pages = 0;
	const struct cowmem_node *leaf;
	pgoff_t area = 0;

	list_for_each_entry(leaf, &region->tree.granted, granted_link) {
		if (pages >= CUT_PAGES && leaf->base / COWMEM_AREA_PAGES != area)
			break;
		area = leaf->base / COWMEM_AREA_PAGES;
		pages += leaf->fold ? 16 + folio_ref_count(leaf->whole) : COWMEM_NODE_SLOTS;
		nr++;
	}
	return nr;
}

/*
 * Take back the grants of the first @left leaves, but for the last ones.  Returns as
 * cut_ahead().
 */
static int cut_round(struct cowmem_region *region, unsigned long left)
{
	unsigned long nr;
	int err;

	cowmem_tree_sort_granted(&region->tree);
	for (; (nr = few_leaves(region)) && nr < left; left -= nr) {
		err = cut_leaves(region, 0, ULONG_MAX, nr);
		if (err) {
			up_write(&region->lock);
			return err;
		}
		revoke_idle(region, nr);
		if (!rwsem_is_contended(&region->lock))
			continue;
		up_write(&region->lock);
		err = down_write_killable(&region->lock);
		if (err)
			return err;
	}
	return 0;
}

/*
 * Take most grants back, with others let in between, so as to keep them waiting for
 * less once all of them are.  region->lock is held for writing, but not on failure.
 */
static int cut_ahead(struct cowmem_region *region)
{
	unsigned long before = ULONG_MAX;
	struct cowmem_node *leaf;
	unsigned int round;
	int err = 0;

	for (round = 0; !err && round < CUT_ROUNDS; round++) {
		unsigned long left = 0;

		list_for_each_entry(leaf, &region->tree.granted, granted_link)
			left++;
		if (left * COWMEM_NODE_SLOTS <= CUT_PAGES || left >= before)
			break;
		before = left;
		WRITE_ONCE(region->cutting, true);
		err = cut_round(region, left);
	}
	WRITE_ONCE(region->cutting, false);
	return err;
}

/**
 * cowmem_lock_to_share - lock a region that others are to get pages of
 * @region: the region
 * @whole: all of them
 * @write: set to how it was locked, for cowmem_unlock()
 *
 * Many may get pages of a snapshot at once, so that is locked for reading.
 *
 * While a region is cloned all writers wait, and what takes time then is to unmap what
 * was granted.  So for a @whole one this is done before, little by little, and who
 * waits for the lock meanwhile gets a chance.  Such a writer is granted one more page, or
 * area, and maps no more than a PTE or a PMD of it, which is less than was taken back.
 *
 * Context: may sleep.
 * Return: 0; -EIO if it is a snapshot that has yielded; -EINTR.
 */
int cowmem_lock_to_share(struct cowmem_region *region, bool whole, bool *write)
{
	int err;

	*write = !(READ_ONCE(region->seals) & COWMEM_SEAL_WRITE);
	if (!*write) {
		err = cowmem_lock(region, false);
		if (err || cowmem_region_frozen(region))
			return err;
		/* It has pages that were granted before it was sealed. */
		up_read(&region->lock);
		*write = true;
	}
	err = down_write_killable(&region->lock);
	return err || !whole ? err : cut_ahead(region);
}

static int try_to_share(struct cowmem_share *s)
{
	struct cowmem_region *region = s->region;
	bool write;
	int err;

	err = cowmem_lock_to_share(region, !s->first && s->end == ULONG_MAX, &write);
	if (err)
		return err;
	s->size = cowmem_region_size(region);
	/* A write() under way may be adding pages past the end. */
	if (s->first)
		s->end = min(s->end, cowmem_region_end(region));
	if (s->need > s->size)
		err = -EINVAL;
	if (!err)
		err = cowmem_cut(region, s->first, s->end);
	if (!err)
		err = cowmem_share(s);
	if (!err && write) {
		s->nr_cut += region->nr_cut;
		region->nr_cut = 0;
	}
	s->frozen = cowmem_region_frozen(region);
	cowmem_unlock(region, write);
	return err;
}

/* How often to come back for a folio that is in use before it is copied. */
#define SHARE_TRIES	3

static int share_now(struct cowmem_share *s)
{
	unsigned int tries = SHARE_TRIES;
	int err;

	do {
		s->nr_cut = 0;
		s->nr_copied = 0;
		s->patient = tries--;
		err = try_to_share(s);
	} while (err == -EAGAIN);
	return err;
}

/*
 * Pages that go to other slots are shared one by one, which may be many.  Who may only
 * read the region is not to stop it for so long: share them where they are, in few
 * nodes, and go on from there.
 */
static int share_shifted(struct cowmem_share *s)
{
	struct cowmem_share same = *s;
	struct cowmem_tree there;
	int err;

	cowmem_tree_init(&there, cowmem_region_account(s->region));
	same.tree = &there;
	same.to = s->first;
	err = share_now(&same);
	same.tree = s->tree;
	same.to = s->to;
	*s = same;
	if (err)
		return err;
	err = cowmem_tree_share(s->tree, s->to, &there, s->first, s->end - s->first);
	if (err)
		cowmem_tree_destroy(s->tree);
	cowmem_tree_destroy(&there);
	return err;
}

/**
 * cowmem_share_now - let a tree share pages of a region
 * @s: which pages; the tree is empty
 *
 * The region is locked no longer than it takes to stop its writers, whatever is done
 * with the pages then.
 *
 * Context: may sleep; no region is locked.
 * Return: 0; -EINVAL if the region ends before @s->need; -ENOMEM, -ENOSPC or -EINTR,
 * and the tree is empty.
 */
int cowmem_share_now(struct cowmem_share *s)
{
	return (s->first ^ s->to) & COWMEM_NODE_MASK ? share_shifted(s) : share_now(s);
}
