// SPDX-License-Identifier: GPL-2.0-only
/*
 * Mappings and faults: who may read and who may write a page
 *
 * A read fault maps what is there, zero page included, read-only and many pages
 * at a time.  A write fault grants the page, see "How write access is granted" in
 * cowmem.h, and maps it writable.  The core kernel calls ->fault when there is no
 * PTE and ->page_mkwrite when there is a read-only one.
 *
 * All of them insert the PTEs themselves, under the locks that keep the page where
 * it is: returning it to the core kernel would let a split or a clone slip in
 * between the lookup and the PTE, which would then stay stale.
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
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/userfaultfd_k.h>

#include "cowmem.h"
#include "trace.h"

/* How many PTEs a read fault fills at most: those of its leaf. */
#define FAULT_AROUND	COWMEM_NODE_SLOTS

/*
 * The logarithm of how many pages are allocated at once at most.  All but one of them
 * are idle if the next write goes elsewhere, for each leaf lock of the region.
 */
#define SPARE_ORDER	3U

/**
 * cowmem_unmap - remove the PTEs of a range from all mappings of a region
 * @region: the region
 * @first: first index
 * @end: index after the last one, or ULONG_MAX
 * @even_cows: private copies of the pages, too
 *
 * Context: may sleep; under region->lock for writing or the leaf lock, so that
 * the PTEs do not come back at once.
 */
void cowmem_unmap(struct cowmem_region *region, pgoff_t first, pgoff_t end,
		  bool even_cows)
{
	unmap_mapping_pages(region->inode->i_mapping, first, end - first,
			    even_cows);
}

static void grant(struct cowmem_region *region, struct cowmem_node *leaf,
		  pgoff_t index, struct page *page)
{
	struct folio *folio = page_folio(page);

	folio->mapping = region->inode->i_mapping;
	folio->index = index;
	/* What the page holds is nobody's original, see restore.c. */
	folio_set_dirty(folio);
	cowmem_leaf_grant(&region->tree, leaf, index);
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

/*
 * Unmap the page of @index, which is about to change, and what the next writes would
 * find mapped read-only.
 */
static void unmap_ahead(struct cowmem_region *region,
			const struct cowmem_node *leaf, pgoff_t index)
{
	struct cowmem_leaf_lock *lock = cowmem_leaf_lock(region, index);
	pgoff_t end = ahead_end(leaf, index), to = index + 1;

	while (to < end && !(leaf->granted & BIT_ULL(cowmem_slot(to))))
		to++;
	cowmem_unmap(region, index, to, false);
	if (index < lock->bare_first || to > lock->bare_end) {
		lock->bare_first = index;
		lock->bare_end = to;
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

static void note_hole_mapped(struct cowmem_region *region, pgoff_t index)
{
	struct cowmem_leaf_lock *lock = cowmem_leaf_lock(region, index);

	if (!hole_mapped(region, index))
		lock->bare_end = lock->bare_first;
	WRITE_ONCE(region->holes_mapped, true);
}

/* Grant the page as it is, if the reuse rule allows it. */
static bool reuse(struct cowmem_region *region, struct cowmem_node *leaf,
		  pgoff_t index, struct page *page, struct page *mapped)
{
	if (cowmem_page_holders(page) > 1)
		return false;
	if (cowmem_page_mapcount(page))
		unmap_ahead(region, leaf, index);
	if (cowmem_page_busy(page, page == mapped))
		return false;
	grant(region, leaf, index, page);
	trace_cowmem_reuse(region, index);
	return true;
}

/*
 * A page for @index, which is a hole.  While holes are written in order, pages are
 * allocated in blocks, at most as many as there were in the run so far.
 */
static struct page *page_for_hole(struct cowmem_region *region,
				  const struct cowmem_node *leaf, pgoff_t index)
{
	struct list_head *spare = &cowmem_leaf_lock(region, index)->spare;
	struct page *page;

	if (list_empty(spare)) {
		unsigned int order = ilog2(ahead_end(leaf, index) - index);

		if (order)
			cowmem_pages_ahead(spare, min(order, SPARE_ORDER));
		if (list_empty(spare))
			return cowmem_page_alloc(true);
	}
	page = list_first_entry(spare, struct page, lru);
	list_del(&page->lru);
	return page;
}

/**
 * cowmem_grant_leaf - let a region write a page
 * @region: the region
 * @leaf: a leaf that only this region reaches
 * @index: index of the page, covered by @leaf
 * @mapped: the page that the caller found mapped there and has a reference to,
 *	or NULL
 *
 * Where @mapped was, nothing is mapped afterwards.
 *
 * Context: may sleep; under region->lock and the leaf lock.
 * Return: the page, which stays what it is until the locks are released; -ENOMEM,
 * -ENOSPC or -EHWPOISON.
 */
struct page *cowmem_grant_leaf(struct cowmem_region *region,
			       struct cowmem_node *leaf, pgoff_t index,
			       struct page *mapped)
{
	struct page *old = leaf->slots[cowmem_slot(index)];
	struct page *page;

	lockdep_assert_held(&region->lock);
	lockdep_assert_held(&cowmem_leaf_lock(region, index)->lock);

	if (old && PageHWPoison(old))
		return ERR_PTR(-EHWPOISON);
	if (leaf->granted & BIT_ULL(cowmem_slot(index))) {
		if (mapped)
			cowmem_unmap(region, index, index + 1, false);
		return old;
	}

	if (old && reuse(region, leaf, index, old, mapped))
		return old;

	page = old ? cowmem_page_alloc(false) : page_for_hole(region, leaf, index);
	if (IS_ERR(page))
		return page;
	if (old) {
		int err = cowmem_page_copy(page, old);

		if (err) {
			cowmem_page_drop(page, false);
			return ERR_PTR(err);
		}
	}
	grant(region, leaf, index, page);
	cowmem_leaf_set(leaf, index, page);
	/*
	 * From here on a read fault would map the new page, if it got the leaf
	 * lock; what maps the old one has to go before anyone can write.  Its
	 * mapcount does not tell: MADV_DONTNEED, which takes none of our locks,
	 * lowers that before it flushes the TLB.  It keeps a reference until then,
	 * and to unmap once more flushes what another zap has not flushed yet.
	 */
	if (old ? cowmem_page_busy(old, old == mapped) :
		  hole_mapped(region, index))
		unmap_ahead(region, leaf, index);
	if (old) {
		trace_cowmem_split(region, index);
		cowmem_page_drop(old, false);
	}
	return page;
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

/**
 * cowmem_begin_write - let a region write a page
 * @region: the region
 * @index: index of the page
 * @past_end: whether it may lie past the end; who says so has looked at the seals
 * @mapped: see cowmem_grant_leaf()
 * @leafp: where the leaf goes, or NULL
 *
 * Context: may sleep; no lock below i_rwsem and mmap_lock is held.
 * Return: the page, and region->lock is held for reading, and the leaf lock, until
 * cowmem_end_write(): a read fault in between would map the page read-only, and that
 * could happen to a write fault again and again.  Or, with no lock held, -ENOMEM,
 * -ENOSPC or -EHWPOISON, -ERANGE if the page lies past the end and must not or the
 * region is sealed, -EINTR if a fatal signal arrived.
 */
struct page *cowmem_begin_write(struct cowmem_region *region, pgoff_t index,
				bool past_end, struct page *mapped,
				struct cowmem_node **leafp)
{
	struct cowmem_node *leaf;
	struct page *page;
	bool shared, inside;
	int err;

	err = down_read_killable(&region->lock);
	if (err)
		return ERR_PTR(err);
	inside = past_end || may_be_written(region, index);
	leaf = cowmem_tree_leaf(&region->tree, index, &shared);
	if (inside && !leaf) {
		/* Faults elsewhere need not wait for that. */
		mutex_lock(&cowmem_leaf_lock(region, index)->lock);
		leaf = cowmem_tree_add_leaf(&region->tree, index);
		mutex_unlock(&cowmem_leaf_lock(region, index)->lock);
		shared = false;
	}
	if (inside && (!leaf || shared)) {
		/* The tree has to change. */
		up_read(&region->lock);
		err = down_write_killable(&region->lock);
		if (err)
			return ERR_PTR(err);
		inside = past_end || may_be_written(region, index);
		if (inside)
			leaf = cowmem_tree_own(&region->tree, index);
		downgrade_write(&region->lock);
	}
	if (!inside) {
		page = ERR_PTR(-ERANGE);
	} else if (IS_ERR(leaf)) {
		page = ERR_CAST(leaf);
	} else {
		mutex_lock(&cowmem_leaf_lock(region, index)->lock);
		page = cowmem_grant_leaf(region, leaf, index, mapped);
		if (!IS_ERR(page)) {
			if (leafp)
				*leafp = leaf;
			return page;
		}
		mutex_unlock(&cowmem_leaf_lock(region, index)->lock);
	}
	up_read(&region->lock);
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

/**
 * cowmem_peek - get the page of an index for reading
 * @region: the region
 * @index: the index
 *
 * Context: may sleep; no lock below i_rwsem and mmap_lock is held.
 * Return: the page with a reference for the caller, the zero page for a hole;
 * -ERANGE past the end; -EMFILE if the page has an absurd number of references;
 * -EHWPOISON; -EINTR if a fatal signal arrived.
 */
struct page *cowmem_peek(struct cowmem_region *region, pgoff_t index)
{
	struct page *page;

	if (down_read_killable(&region->lock))
		return ERR_PTR(-EINTR);
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

/* -EINTR is a task that is being killed and does not care. */
static vm_fault_t fault_error(int err)
{
	if (err == -EHWPOISON)
		return VM_FAULT_HWPOISON;
	return err == -ENOMEM ? VM_FAULT_OOM : VM_FAULT_SIGBUS;
}

/* Where a mapping has @index. */
static unsigned long index_addr(const struct vm_area_struct *vma, pgoff_t index)
{
	return vma->vm_start + ((index - vma->vm_pgoff) << PAGE_SHIFT);
}

/* Map the pages of @nr indices from @index on, as far as nothing is mapped. */
static vm_fault_t map_leaf(struct cowmem_region *region,
			   struct vm_fault *vmf, pgoff_t index, unsigned long nr)
{
	struct cowmem_node *leaf = cowmem_tree_leaf(&region->tree, index, NULL);
	struct page *pages[FAULT_AROUND], *zero = cowmem_zero_page();
	struct vm_area_struct *vma = vmf->vma;
	unsigned long addr, left;
	unsigned int i;
	int err;

	lockdep_assert_held(&cowmem_leaf_lock(region, index)->lock);

	addr = index_addr(vma, index);
	for (i = 0; i < nr; i++) {
		pages[i] = leaf ? leaf->slots[cowmem_slot(index + i)] : NULL;
		if (!pages[i]) {
			pages[i] = zero;
			note_hole_mapped(region, index + i);
		}
		if (PageHWPoison(pages[i]))
			return VM_FAULT_HWPOISON;
		if (!cowmem_page_mappable(pages[i]))
			return VM_FAULT_SIGBUS;
	}

	for (i = 0; i < nr; i += nr - i - left) {
		left = nr - i;
		err = vm_insert_pages(vma, addr + i * PAGE_SIZE, pages + i,
				      &left);
		if (!err)
			break;
		/* A page table was freed under us, or could not be had. */
		if (err == -EFAULT)
			break;
		if (err != -EBUSY)
			return fault_error(err);
		/* One is mapped already: skip it. */
		left--;
	}
	return VM_FAULT_NOPAGE;
}

static vm_fault_t fault_read(struct vm_fault *vmf)
{
	struct vm_area_struct *vma = vmf->vma;
	struct cowmem_region *region = cowmem_file_region(vma->vm_file);
	pgoff_t index = vmf->pgoff, first, end;
	vm_fault_t ret = VM_FAULT_SIGBUS;

	if (down_read_killable(&region->lock))
		return fault_error(-EINTR);
	end = cowmem_region_end(region);
	if (index < end) {
		/* The leaf, as far as the mapping and the region reach. */
		first = round_down(index, FAULT_AROUND);
		end = min3(first + FAULT_AROUND, end,
			   vma->vm_pgoff + vma_pages(vma));
		first = max(first, vma->vm_pgoff);

		mutex_lock(&cowmem_leaf_lock(region, index)->lock);
		ret = map_leaf(region, vmf, first, end - first);
		/* One that cannot be mapped may have been another one. */
		if (ret & (VM_FAULT_SIGBUS | VM_FAULT_HWPOISON))
			ret = map_leaf(region, vmf, index, 1);
		mutex_unlock(&cowmem_leaf_lock(region, index)->lock);
	}
	up_read(&region->lock);
	return ret;
}

/* The core copies the page into a private mapping by itself. */
static vm_fault_t fault_cow(struct vm_fault *vmf)
{
	struct page *page = cowmem_peek(cowmem_file_region(vmf->vma->vm_file),
					vmf->pgoff);

	if (IS_ERR(page))
		return fault_error(PTR_ERR(page));
	vmf->page = page;
	return 0;
}

/*
 * May the page of @index be mapped writable without a copy?  One that is granted already
 * would count as written, see restore.c.
 */
static bool may_map_ahead(const struct cowmem_node *leaf, pgoff_t index)
{
	struct page *page = leaf->slots[cowmem_slot(index)];

	return page && !(leaf->granted & BIT_ULL(cowmem_slot(index))) &&
	       cowmem_page_holders(page) == 1 && !cowmem_page_mapcount(page) &&
	       cowmem_page_mappable(page) && !PageHWPoison(page);
}

/*
 * After a write to @index, map pages writable that are likely to be written next, as
 * far as that takes no copy.  Under region->lock and the leaf lock.
 */
static void map_ahead(struct cowmem_region *region, struct cowmem_node *leaf,
		      struct vm_area_struct *vma, pgoff_t index)
{
	pgoff_t end = min3(ahead_end(leaf, index), cowmem_region_end(region),
			   vma->vm_pgoff + vma_pages(vma));

	while (++index < end && may_map_ahead(leaf, index)) {
		struct vm_fault vmf = {
			.vma = vma,
			.address = index_addr(vma, index),
		};
		struct page *page = leaf->slots[cowmem_slot(index)];

		if (!reuse(region, leaf, index, page, NULL) ||
		    vmf_insert_page_mkwrite(&vmf, page, true) != VM_FAULT_NOPAGE)
			break;
	}
}

/* Map the page writable, after @mapped, which is mapped there now, or nothing. */
static vm_fault_t fault_write(struct vm_fault *vmf, struct page *mapped)
{
	struct cowmem_region *region = cowmem_file_region(vmf->vma->vm_file);
	struct cowmem_node *leaf;
	struct page *page;
	vm_fault_t ret;

	page = cowmem_begin_write(region, vmf->pgoff, false, mapped, &leaf);
	if (IS_ERR(page))
		return fault_error(PTR_ERR(page));
	ret = VM_FAULT_SIGBUS;
	if (cowmem_page_mappable(page))
		ret = vmf_insert_page_mkwrite(vmf, page, true);
	if (ret == VM_FAULT_NOPAGE && may_map_ahead(leaf, vmf->pgoff + 1))
		map_ahead(region, leaf, vmf->vma, vmf->pgoff);
	cowmem_end_write(region, vmf->pgoff);
	return ret;
}

/*
 * Does userfaultfd meddle with this mapping?  It does not support ours, but from 6.7 on
 * some kernels let it write-protect any.  Then it leaves markers where nothing is
 * mapped, and a page cannot be inserted over one: the fault would come back for ever.
 */
static bool has_userfaultfd(const struct vm_fault *vmf)
{
	return userfaultfd_armed(vmf->vma) ||
	       ((vmf->flags & FAULT_FLAG_ORIG_PTE_VALID) &&
		!pte_none(vmf->orig_pte) && !pte_present(vmf->orig_pte));
}

static vm_fault_t cowmem_fault(struct vm_fault *vmf)
{
	if (has_userfaultfd(vmf))
		return VM_FAULT_SIGBUS;
	if (!(vmf->flags & FAULT_FLAG_WRITE))
		return fault_read(vmf);
	if (vmf->vma->vm_flags & VM_SHARED)
		return fault_write(vmf, NULL);
	return fault_cow(vmf);
}

/* A write to a shared mapping that maps vmf->page read-only, or did a moment ago. */
static vm_fault_t cowmem_page_mkwrite(struct vm_fault *vmf)
{
	if (has_userfaultfd(vmf))
		return VM_FAULT_SIGBUS;
	return fault_write(vmf, vmf->page);
}

static const struct vm_operations_struct cowmem_vm_ops = {
	.fault		= cowmem_fault,
	.page_mkwrite	= cowmem_page_mkwrite,
};

/**
 * cowmem_mmap - map a region, which grows to fit
 * @file: the region's file
 * @vma: the new mapping
 *
 * A region that is not open for writing or is sealed against growing stays as
 * it is; access past the end is SIGBUS.
 *
 * Context: mmap_lock is held for writing.
 * Return: 0; -EPERM for a writable shared mapping of a region that is sealed
 * against writing; -EOVERFLOW or -EFBIG if the region cannot grow that large;
 * -EINTR.
 */
int cowmem_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct cowmem_region *region = cowmem_file_region(file);
	pgoff_t end;
	int err;

	if (check_add_overflow(vma->vm_pgoff, vma_pages(vma), &end) ||
	    end > MAX_LFS_FILESIZE >> PAGE_SHIFT)
		return -EOVERFLOW;

	err = down_write_killable(&region->lock);
	if (err)
		return err;
	if ((vma->vm_flags & VM_SHARED) && (region->seals & COWMEM_SEAL_WRITE)) {
		if (vma->vm_flags & VM_WRITE) {
			err = -EPERM;
			goto unlock;
		}
		vm_flags_clear(vma, VM_MAYWRITE);
	}
	if ((file->f_mode & FMODE_WRITE) && !(region->seals & COWMEM_SEAL_GROW)) {
		loff_t size = (loff_t)end << PAGE_SHIFT;

		if (size > cowmem_region_size(region)) {
			err = inode_newsize_ok(region->inode, size);
			if (err)
				goto unlock;
			cowmem_region_grow(region, size);
		}
	}
	if (!(vma->vm_flags & VM_SHARED) || !(vma->vm_flags & VM_MAYWRITE))
		region->odd_mappings = true;
	/*
	 * Ordinary pages, but inserted by us and many at a time.  They are on no LRU
	 * list, so unmap need not look for them there.
	 */
	vm_flags_set(vma, VM_MIXEDMAP | VM_SEQ_READ);
	vma->vm_ops = &cowmem_vm_ops;
unlock:
	up_write(&region->lock);
	return err;
}
