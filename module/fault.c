// SPDX-License-Identifier: GPL-2.0-only
/*
 * Mappings and faults
 *
 * A read fault maps pages read-only, many at a time, with the zero page for holes.  A write
 * fault has its page granted (grant.c) and maps it writable.  The core calls ->fault if there
 * is no PTE, and ->page_mkwrite if there is a read-only one.
 *
 * All of them insert the PTEs themselves, under the locks that keep the page where it is.
 * If the page was returned to the core, a split or a clone could happen between the lookup
 * and the PTE, which would be stale then.
 */
#include <linux/cacheflush.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/userfaultfd_k.h>

#include "area.h"
#include "fault.h"
#include "file.h"
#include "grant.h"
#include "lock.h"
#include "map.h"
#include "node.h"
#include "page.h"
#include "peek.h"
#include "pmd.h"
#include "region.h"
#include "size.h"
#include "trace.h"
#include "tree.h"

/* A fault fills at most this many PTEs: those of its leaf. */
#define FAULT_AROUND	COWMEM_NODE_SLOTS

static struct cowmem_region *fault_region(const struct vm_fault *vmf)
{
	return cowmem_file_region(vmf->vma->vm_file);
}

/* After -EINTR the task dies and does not care; -EIO is a snapshot that has yielded. */
static vm_fault_t fault_error(int err)
{
	if (err == -EHWPOISON)
		return VM_FAULT_HWPOISON;
	return err == -ENOMEM ? VM_FAULT_OOM : VM_FAULT_SIGBUS;
}

/* A fault may map pages before this index. */
static pgoff_t fault_end(const struct cowmem_region *region, const struct vm_fault *vmf)
{
	return min(cowmem_region_end(region),
		   vmf->vma->vm_pgoff + vma_pages(vmf->vma));
}

/* Map pages writable that are likely to be written next.  Under the leaf lock. */
static noinline_for_stack void map_ahead(struct cowmem_region *region,
					 struct vm_fault *vmf,
					 struct cowmem_node *leaf)
{
	struct page *pages[FAULT_AROUND];
	unsigned int nr;

	nr = cowmem_grant_ahead(region, leaf, vmf->pgoff, fault_end(region, vmf), pages);
	/* If this fails, the next writes will fault. */
	if (nr)
		cowmem_map_writable(vmf->vma, vmf->pgoff + 1, pages, nr);
}

/* Can a PMD map the area that @vmf lies in? */
static bool pmd_fits(const struct vm_fault *vmf)
{
	const struct vm_area_struct *vma = vmf->vma;
	unsigned long addr = vmf->address & PMD_MASK;

	/* Locked pages go on lists, which makes them look busy. */
	return pmd_none(*vmf->pmd) && !(vma->vm_flags & (VM_NOHUGEPAGE | VM_LOCKED)) &&
	       addr >= vma->vm_start && addr + PMD_SIZE <= vma->vm_end &&
	       IS_ALIGNED((vma->vm_start >> PAGE_SHIFT) - vma->vm_pgoff, COWMEM_AREA_PAGES);
}

/*
 * Let the core map a folio by a PMD, if it backs the area as a whole; nobody else can.  Under
 * region->lock and the leaf lock: see cowmem_pmd_barrier().
 */
static bool give_area(struct cowmem_region *region, struct vm_fault *vmf,
		      const struct cowmem_node *leaf, bool write)
{
	struct folio *folio;

	if (!leaf || !leaf->whole || !pmd_fits(vmf))
		return false;
	folio = cowmem_area_folio(region, leaf, vmf->pgoff, write);
	if (!folio || cowmem_folio_broken(folio))
		return false;
	folio_get(folio);
	cowmem_pmd_give(region, vmf->pgoff, folio);
	vmf->page = leaf->slots[cowmem_slot(vmf->pgoff)];
	return true;
}

/* Map all of a leaf writable that one folio fills, unless a page of it is poisoned. */
static void map_leaf_writable(struct cowmem_region *region, struct vm_fault *vmf,
			      struct cowmem_node *leaf)
{
	pgoff_t start = round_down(vmf->pgoff, COWMEM_NODE_SLOTS);
	pgoff_t first = max(start, vmf->vma->vm_pgoff);
	pgoff_t end = min(start + COWMEM_NODE_SLOTS, fault_end(region, vmf));
	pgoff_t index;

	for (index = first; index < end; index++)
		if (PageHWPoison((struct page *)leaf->slots[cowmem_slot(index)]))
			return;
	if (first < end)
		cowmem_map_writable(vmf->vma, first,
				    (struct page **)&leaf->slots[cowmem_slot(first)],
				    end - first);
}

/*
 * Is a task that wrote one page of a leaf likely to write the others?  If only a block covers
 * the leaf, they may have been granted just because they belong to the folio.  Then neither
 * scattered writers should pay for mapping them, nor the next clone for unmapping them.
 */
static bool may_map_leaf(const struct vm_fault *vmf, const struct cowmem_node *leaf)
{
	if (!leaf->whole || ~leaf->granted)
		return false;
	return cowmem_page_huge(leaf->slots[0]) || !cowmem_slot(vmf->pgoff);
}

/*
 * Does a PMD map the address by now, writable if @write?  Another fault may have been given
 * the area and mapped it a moment later.  A read-only PMD in the way of a write is removed,
 * or a writer could run into those of readers for ever.  Under the leaf lock.
 */
static bool pmd_came(const struct vm_fault *vmf, bool write)
{
	pmd_t pmd = READ_ONCE(*vmf->pmd);

	if (!pmd_trans_huge(pmd))
		return false;
	if (!write || pmd_write(pmd))
		return true;
	cowmem_unmap_here(vmf->vma, vmf->pgoff, vmf->pgoff + 1);
	return false;
}

/* As pmd_came(), when nobody is about to map the area any more. */
static bool pmd_came_by_now(struct cowmem_region *region, const struct vm_fault *vmf,
			    bool write)
{
	/* In most regions no PMD is ever used. */
	if (!READ_ONCE(region->pmds_mapped))
		return false;
	cowmem_pmd_barrier(region, vmf->pgoff, vmf->pgoff + 1);
	return pmd_came(vmf, write);
}

/* Map the page writable, and maybe some more. */
static vm_fault_t fault_write(struct vm_fault *vmf)
{
	struct cowmem_region *region = fault_region(vmf);
	struct cowmem_node *leaf;
	struct page *page;
	int err = -EMFILE;

	page = cowmem_begin_write(region, vmf->pgoff, COWMEM_FAULT, vmf, &leaf);
	if (IS_ERR(page))
		return fault_error(PTR_ERR(page));
	if (pmd_came_by_now(region, vmf, true)) {
		cowmem_end_write(region, vmf->pgoff);
		return VM_FAULT_NOPAGE;
	}
	/* The core calls ->page_mkwrite next. */
	if (!vmf->page && leaf->whole && give_area(region, vmf, leaf, true)) {
		cowmem_end_write(region, vmf->pgoff);
		return VM_FAULT_LOCKED;
	}
	if (vmf->prealloc_pte)
		cowmem_use_page_table(vmf);
	if (cowmem_page_mappable(page))
		err = cowmem_map_writable(vmf->vma, vmf->pgoff, &page, 1);
	if (!err && may_map_leaf(vmf, leaf) && !READ_ONCE(region->cutting))
		map_leaf_writable(region, vmf, leaf);
	else if (!err && cowmem_may_grant(leaf, vmf->pgoff + 1))
		map_ahead(region, vmf, leaf);
	cowmem_end_write(region, vmf->pgoff);
	if (err)
		return fault_error(err);
	if (vmf->flags & FAULT_FLAG_WRITE)
		cowmem_region_changed(region);
	return VM_FAULT_NOPAGE;
}

/* Map the pages from @first to before @end, where nothing is mapped yet. */
static noinline_for_stack int map_pages(struct cowmem_region *region, struct vm_fault *vmf,
					struct cowmem_node *leaf, pgoff_t first, pgoff_t end)
{
	struct page *pages[FAULT_AROUND];
	int err = cowmem_pages_to_map(region, leaf, first, end - first, pages);

	return err ?: cowmem_map_readonly(vmf->vma, first, pages, end - first);
}

/* As map_pages(), the page of @vmf first.  If much is mapped already, stop there. */
static int map_leaf(struct cowmem_region *region, struct vm_fault *vmf,
		    struct cowmem_node *leaf, pgoff_t first, pgoff_t end)
{
	int err = map_pages(region, vmf, leaf, vmf->pgoff, end);

	if (!err && first < vmf->pgoff)
		err = map_pages(region, vmf, leaf, first, vmf->pgoff);
	return err == -EBUSY ? 0 : err;
}

/* Map the leaf, within the mapping and the region.  Under the leaf lock. */
static int map_around(struct cowmem_region *region, struct vm_fault *vmf,
		      struct cowmem_node *leaf)
{
	pgoff_t start = round_down(vmf->pgoff, FAULT_AROUND);
	pgoff_t first = max(start, vmf->vma->vm_pgoff);
	pgoff_t end = min(start + FAULT_AROUND, fault_end(region, vmf));
	int err;

	cowmem_use_page_table(vmf);
	err = map_leaf(region, vmf, leaf, first, end);
	/* The page that cannot be mapped may be another one than that of @vmf. */
	if (err == -EMFILE || err == -EHWPOISON)
		err = map_leaf(region, vmf, leaf, vmf->pgoff, vmf->pgoff + 1);
	return err;
}

/* A fault with any of these flags is not get_user_pages() populating a mapping. */
#define NOT_POPULATING (FAULT_FLAG_USER | FAULT_FLAG_REMOTE | FAULT_FLAG_INTERRUPTIBLE)

/*
 * Should a read fault map the page writable, as the core does for any shared file?  In locked
 * memory later stores must not fault.  When a mapping is populated (MAP_POPULATE) they should
 * not, either, but no page is copied for that: whoever reads it through a pin would go on to
 * see the old one.  Under the leaf lock.
 */
static bool read_to_write(const struct vm_fault *vmf, const struct cowmem_node *leaf)
{
	vm_flags_t flags = vmf->vma->vm_flags;
	unsigned int slot = cowmem_slot(vmf->pgoff);

	if ((flags & (VM_SHARED | VM_WRITE)) != (VM_SHARED | VM_WRITE))
		return false;
	if (flags & VM_LOCKED)
		return true;
	if (vmf->flags & NOT_POPULATING)
		return false;
	return !leaf || !leaf->slots[slot] || (leaf->granted & BIT_ULL(slot));
}

/* Not inline, or write faults would have to save registers for it. */
static noinline vm_fault_t fault_read(struct vm_fault *vmf)
{
	struct cowmem_region *region = fault_region(vmf);
	struct cowmem_node *leaf;
	bool write = false, came, given = false;
	int err;

	err = cowmem_lock(region, false);
	if (err)
		return fault_error(err);
	err = -ERANGE;
	if (vmf->pgoff < cowmem_region_end(region)) {
		mutex_lock(&cowmem_leaf_lock(region, vmf->pgoff)->lock);
		/* Under the lock, as somebody may just be adding the leaf. */
		leaf = cowmem_tree_leaf(&region->tree, vmf->pgoff, NULL);
		write = read_to_write(vmf, leaf);
		came = !write && pmd_came_by_now(region, vmf, false);
		given = !write && !came && give_area(region, vmf, leaf, false);
		err = write || came || given ? 0 : map_around(region, vmf, leaf);
		mutex_unlock(&cowmem_leaf_lock(region, vmf->pgoff)->lock);
	}
	up_read(&region->lock);
	if (write)
		return fault_write(vmf);
	if (given)
		return VM_FAULT_LOCKED;
	return err ? fault_error(err) : VM_FAULT_NOPAGE;
}

/* The core copies the page into a private mapping by itself. */
static vm_fault_t fault_cow(struct vm_fault *vmf)
{
	struct page *page = cowmem_peek(fault_region(vmf), vmf->pgoff);

	if (IS_ERR(page))
		return fault_error(PTR_ERR(page));
	vmf->page = page;
	return 0;
}

/*
 * Is userfaultfd active on this mapping?  It does not support ours, but from 6.7 on some
 * kernels let it write-protect any mapping.  Then it leaves markers where nothing is mapped.
 * A page cannot be inserted over a marker, so the fault would come back for ever.
 */
static inline bool has_userfaultfd(const struct vm_fault *vmf)
{
	return userfaultfd_armed(vmf->vma) ||
	       ((vmf->flags & FAULT_FLAG_ORIG_PTE_VALID) &&
		!pte_none(vmf->orig_pte) && !pte_present(vmf->orig_pte));
}

static vm_fault_t serve_fault(struct vm_fault *vmf)
{
	if (has_userfaultfd(vmf))
		return VM_FAULT_SIGBUS;
	if (!(vmf->flags & FAULT_FLAG_WRITE))
		return fault_read(vmf);
	if (vmf->vma->vm_flags & VM_SHARED)
		return fault_write(vmf);
	return fault_cow(vmf);
}

static vm_fault_t cowmem_fault(struct vm_fault *vmf)
{
	vm_fault_t ret = serve_fault(vmf);

	/* For a write that was given an area, ->page_mkwrite is called next and traces it. */
	if (ret != VM_FAULT_LOCKED || !(vmf->flags & FAULT_FLAG_WRITE))
		trace_cowmem_fault(vmf, ret);
	return ret;
}

/*
 * A write fault was given an area.  May the core still map it for writing?  If not, or if
 * another fault has done so already, the fault starts over.  Not inline, as fault_read().
 */
static noinline vm_fault_t still_given(struct vm_fault *vmf)
{
	struct cowmem_region *region = fault_region(vmf);
	struct page *page = vmf->page;
	const struct cowmem_node *leaf;
	vm_fault_t ret = VM_FAULT_NOPAGE;

	if (cowmem_lock(region, false))
		return ret;
	mutex_lock(&cowmem_leaf_lock(region, vmf->pgoff)->lock);
	leaf = cowmem_tree_leaf(&region->tree, vmf->pgoff, NULL);
	if (cowmem_tree_page(&region->tree, vmf->pgoff) == page &&
	    cowmem_area_folio(region, leaf, vmf->pgoff, true)) {
		/* From here on nobody else can map it. */
		cowmem_pmd_give(region, vmf->pgoff, page_folio(page));
		if (pmd_came(vmf, true)) {
			folio_unlock(page_folio(page));
		} else {
			cowmem_region_changed(region);
			ret = VM_FAULT_LOCKED;
		}
	}
	mutex_unlock(&cowmem_leaf_lock(region, vmf->pgoff)->lock);
	up_read(&region->lock);
	return ret;
}

/* A write to a shared mapping where vmf->page is mapped read-only, or was a moment ago. */
static vm_fault_t cowmem_page_mkwrite(struct vm_fault *vmf)
{
	bool area = cowmem_page_huge(vmf->page) &&
		    (pmd_fits(vmf) || pmd_trans_huge(READ_ONCE(*vmf->pmd)));
	vm_fault_t ret = has_userfaultfd(vmf) ? VM_FAULT_SIGBUS :
			 area ? still_given(vmf) : fault_write(vmf);

	/* A fault that starts over is traced when it comes back. */
	if (!area || ret != VM_FAULT_NOPAGE)
		trace_cowmem_fault(vmf, ret);
	return ret;
}

/*
 * Does nothing, as ->fault maps the pages around the fault.  But without this function the
 * core drops the lock of the VMA, takes mmap_lock and starts each fault over.
 */
static vm_fault_t cowmem_map_pages(struct vm_fault *vmf, pgoff_t first, pgoff_t last)
{
	return 0;
}

/*
 * Does it take more than to write code until it is executed, in a mapping with these @flags?
 * Where caches for instructions do not follow writes, the core sees to them when it inserts a
 * PTE.  Of pages that RESTORE keeps, the PTEs stay: see keep.c.
 */
static bool executes_late(unsigned long flags)
{
	return ARCH_IMPLEMENTS_FLUSH_DCACHE_PAGE && (flags & VM_EXEC);
}

/* A mapping is about to get other flags. */
static int cowmem_mprotect(struct vm_area_struct *vma, unsigned long start, unsigned long end,
			   unsigned long flags)
{
	struct cowmem_region *region = cowmem_file_region(vma->vm_file);
	int err;

	if (!executes_late(flags) || READ_ONCE(region->odd_mappings) ||
	    (READ_ONCE(region->seals) & COWMEM_SEAL_WRITE))
		return 0;
	err = cowmem_lock(region, true);
	if (err)
		return err;
	WRITE_ONCE(region->odd_mappings, true);
	cowmem_unlock(region, true);
	return 0;
}

static const struct vm_operations_struct cowmem_vm_ops = {
	.mprotect	= cowmem_mprotect,
	.fault		= cowmem_fault,
	.map_pages	= cowmem_map_pages,
	.page_mkwrite	= cowmem_page_mkwrite,
};

/* Check that @file may be mapped as @vma, which ends at @end, and make the region grow. */
static int mmap_locked(struct file *file, struct vm_area_struct *vma, pgoff_t end)
{
	struct cowmem_region *region = cowmem_file_region(file);
	loff_t size = (loff_t)end << PAGE_SHIFT;
	int err;

	if ((vma->vm_flags & VM_SHARED) &&
	    (region->seals & COWMEM_WRITE_SEALS)) {
		if (vma->vm_flags & VM_WRITE)
			return -EPERM;
		vm_flags_clear(vma, VM_MAYWRITE);
	}
	if (cowmem_mmap_grows(file) && !(region->seals & COWMEM_SEAL_GROW) &&
	    size > cowmem_region_size(region)) {
		err = inode_newsize_ok(&region->inode, size);
		if (err)
			return err;
		cowmem_region_grow(region, size);
	}
	return 0;
}

/**
 * cowmem_mmap - map a region
 * @file: the region's file
 * @vma: the new mapping
 *
 * A file of the device that is open for writing makes its region grow to fit, unless that is
 * sealed against growing.  Otherwise access past the end is SIGBUS.
 *
 * Context: mmap_lock is held for writing.
 * Return: 0; -EPERM for a writable shared mapping of a region that is sealed
 * against writing; -EOVERFLOW or -EFBIG if the region cannot grow that large;
 * -EIO if it is a snapshot that has yielded; -EINTR.
 */
int cowmem_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct cowmem_region *region = cowmem_file_region(file);
	bool write = !(READ_ONCE(region->seals) & COWMEM_SEAL_WRITE);
	pgoff_t end;
	int err;

	if (check_add_overflow(vma->vm_pgoff, vma_pages(vma), &end) ||
	    end > MAX_LFS_FILESIZE >> PAGE_SHIFT)
		return -EOVERFLOW;

	/* For reading, so that many can map a snapshot while others share its pages. */
	err = cowmem_lock(region, write);
	if (err)
		return err;
	err = mmap_locked(file, vma, end);
	if (!err && write &&
	    ((vma->vm_flags & (VM_SHARED | VM_MAYWRITE)) != (VM_SHARED | VM_MAYWRITE) ||
	     executes_late(vma->vm_flags)))
		WRITE_ONCE(region->odd_mappings, true);
	cowmem_unlock(region, write);
	if (err)
		return err;
	cowmem_accessed(file);
	vma->vm_ops = &cowmem_vm_ops;
	return 0;
}
