// SPDX-License-Identifier: GPL-2.0-only
/*
 * Inserting PTEs into page tables and removing them; nothing else does either
 *
 * A mapping of a region is an ordinary file mapping.  The functions that the kernel exports
 * for inserting pages want VM_MIXEDMAP, which would make it special: such mappings never
 * merge, fork() copies their page tables, and mlock(), KSM and MADV_DODUMP leave them out.
 * But these functions look at no other VMA than the one that they are given.  So they get a
 * stand-in, a copy that differs in this flag and in the protection.
 *
 * What the core would do for a PTE (finish_fault() and set_pte_range() in mm/memory.c), and
 * where it is done here:
 *
 *	rmap, RSS, reference	vm_insert_pages()
 *	young, dirty		dirty if and only if it is writable: mprotect() and NUMA
 *				hinting make a dirty PTE writable without asking
 *	soft dirty		if it is writable, for those who track writes with it
 *	mlock			rmap skips it for VM_MIXEDMAP, which does no harm: the
 *				pages are on no LRU list
 *	userfaultfd, guards	PTEs that are not empty are left as they are
 */
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/sched/signal.h>

#include "map.h"
#include "node.h"
#include "pmd.h"
#include "region.h"
#include "tree-walk.h"

/* The address of @index in a mapping. */
static unsigned long index_addr(const struct vm_area_struct *vma, pgoff_t index)
{
	return vma->vm_start + ((index - vma->vm_pgoff) << PAGE_SHIFT);
}

/* If this many pages around a fault are mapped already, most of them probably are. */
#define ENOUGH_MAPPED	4

/* As insert(), for more than one page. */
static noinline int insert_some(struct vm_area_struct *stand_in, unsigned long addr,
				struct page **pages, unsigned long nr)
{
	unsigned int mapped = 0;
	unsigned long left, i;
	int err;

	for (i = 0; i < nr; i += nr - i - left) {
		left = nr - i;
		err = vm_insert_pages(stand_in, addr + i * PAGE_SIZE, pages + i,
				      &left);
		/* -EFAULT: a page table was freed meanwhile, or could not be allocated. */
		if (!err || err == -EFAULT)
			break;
		if (err != -EBUSY)
			return err;
		if (++mapped == ENOUGH_MAPPED)
			return err;
		left--;
	}
	return 0;
}

/*
 * Insert @nr pages through a copy of their VMA, except where there is a PTE already.  Finding
 * one takes as long as inserting a page, so after a few of them the rest is left to other
 * faults: -EBUSY.
 */
static int insert(struct vm_area_struct *stand_in, pgoff_t index,
		  struct page **pages, unsigned long nr)
{
	unsigned long addr = index_addr(stand_in, index);
	int err;

	vm_flags_init(stand_in, stand_in->vm_flags | VM_MIXEDMAP);
	if (nr > 1)
		return insert_some(stand_in, addr, pages, nr);
	err = vm_insert_page(stand_in, addr, *pages);
	return err == -EBUSY ? 0 : err;
}

/**
 * cowmem_use_page_table - use the page table that the core allocated for a fault
 * @vmf: the fault
 *
 * The core allocates it before it calls ->fault and frees it if it is not used.
 * vm_insert_pages() does not know about it.
 *
 * Context: may sleep; no page table lock is held.
 */
void cowmem_use_page_table(struct vm_fault *vmf)
{
	struct mm_struct *mm = vmf->vma->vm_mm;
	spinlock_t *lock;

	if (!vmf->prealloc_pte || !pmd_none(READ_ONCE(*vmf->pmd)))
		return;
	lock = pmd_lock(mm, vmf->pmd);
	if (pmd_none(*vmf->pmd)) {
		mm_inc_nr_ptes(mm);
		/* The table has to be empty for everybody who finds it. */
		smp_wmb();
		pmd_populate(mm, vmf->pmd, vmf->prealloc_pte);
		vmf->prealloc_pte = NULL;
	}
	spin_unlock(lock);
}

/**
 * cowmem_map_readonly - map pages read-only
 * @vma: the mapping
 * @index: index of the first page
 * @pages: the pages
 * @nr: how many; they are in one leaf
 *
 * What is mapped already stays.  If that is much, pages after the first one may be left out.
 *
 * Context: may sleep; under region->lock and the leaf lock; @vma does not change.
 * Return: 0; -EBUSY if pages were left out; -ENOMEM.
 */
int cowmem_map_readonly(struct vm_area_struct *vma, pgoff_t index,
			struct page **pages, unsigned long nr)
{
	struct vm_area_struct stand_in = *vma;

	/* ->page_mkwrite keeps write access out of the protection. */
	return insert(&stand_in, index, pages, nr);
}

/**
 * cowmem_map_writable - map pages for writing
 * @vma: the mapping, which is shared and writable
 * @index: index of the first page
 * @pages: the pages, granted to the region
 * @nr: how many; they are in one leaf
 *
 * As cowmem_map_readonly().
 *
 * Context: may sleep; under region->lock and the leaf lock; @vma does not change.
 * Return: as cowmem_map_readonly(); never -EBUSY for a single page.
 */
int cowmem_map_writable(struct vm_area_struct *vma, pgoff_t index,
			struct page **pages, unsigned long nr)
{
	struct vm_area_struct stand_in = *vma;
	pte_t pte = __pte(pgprot_val(vm_get_page_prot(vma->vm_flags)));

	stand_in.vm_page_prot = pte_pgprot(pte_mkdirty(pte_mkyoung(pte)));
	return insert(&stand_in, index, pages, nr);
}

/**
 * cowmem_unmap - remove the PTEs of a range from all mappings of a region
 * @region: the region
 * @first: first index
 * @end: index after the last one, or ULONG_MAX
 * @even_cows: remove private copies of the pages, too
 *
 * If the core is splitting a PMD, it has already removed it and is about to flush the TLB.
 * Until then another CPU may still use its TLB entry, and no exported function waits for
 * that.  A page that can be written in this way is busy: the core drops its reference after
 * the flush.
 *
 * Context: may sleep; under region->lock for writing or the leaf lock, so that the PTEs do
 * not come back at once.
 */
void cowmem_unmap(struct cowmem_region *region, pgoff_t first, pgoff_t end,
		  bool even_cows)
{
	cowmem_pmd_barrier(region, first, end);
	unmap_mapping_pages(region->inode.i_mapping, first, end - first,
			    even_cows);
}

/**
 * cowmem_unmap_difference - remove the PTEs of pages that differ from another tree
 * @region: the region
 * @tree: the other tree
 * @first: first index
 * @end: index after the last one, or ULONG_MAX
 * @pages: incremented by the number of pages that differ
 * @nodes: incremented by the number of nodes that were compared
 *
 * Granted pages are among these, as nobody else has them.
 *
 * Context: may sleep; under region->lock for writing.
 * Return: 0 or -EINTR.
 */
int cowmem_unmap_difference(struct cowmem_region *region,
			    const struct cowmem_tree *tree, pgoff_t first,
			    pgoff_t end, u64 *pages, u64 *nodes)
{
	pgoff_t base = first, from = 0, to = 0;
	u64 slots;

	for (;;) {
		unsigned long budget = COWMEM_TREE_BUDGET;

		slots = cowmem_tree_diff(&region->tree, tree, &base, &budget);
		*nodes += COWMEM_TREE_BUDGET - budget;
		if (base >= end)
			break;
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
		if (!slots)
			continue;
		if (end - base < COWMEM_NODE_SLOTS)
			slots &= ~(~0ULL << (end - base));
		*pages += hweight64(slots);
		while (slots) {
			unsigned int i = __ffs64(slots);
			u64 run = slots & ~(slots + BIT_ULL(i));

			if (base + i != to || to - from >= COWMEM_UNMAP_BATCH) {
				if (from < to)
					cowmem_unmap(region, from, to, false);
				from = base + i;
			}
			to = base + fls64(run);
			slots &= ~run;
		}
		base += COWMEM_NODE_SLOTS;
	}
	if (from < to)
		cowmem_unmap(region, from, to, false);
	return 0;
}

/**
 * cowmem_unmap_here - remove the PTEs of a range from one mapping
 * @vma: the mapping
 * @first: first index, which it covers
 * @end: index after the last one, may lie past the mapping
 *
 * Context: as cowmem_unmap(); @vma does not change.
 */
void cowmem_unmap_here(struct vm_area_struct *vma, pgoff_t first, pgoff_t end)
{
	end = min(end, vma->vm_pgoff + vma_pages(vma));
	zap_vma_range(vma, index_addr(vma, first), (end - first) << PAGE_SHIFT);
}
