// SPDX-License-Identifier: GPL-2.0-only
/*
 * Putting PTEs into page tables and taking them out: nothing else does
 *
 * A mapping of a region is an ordinary one, as a file's.  What the kernel exports for
 * inserting pages wants VM_MIXEDMAP, which would make it special: two of them never
 * merge, fork() copies their page tables, mlock(), KSM and MADV_DODUMP leave them
 * out.  But it looks at no other VMA than the one that it is given, so that is a
 * stand-in, which differs from the real one in this flag and in the protection.
 *
 * What the core would do for a PTE (finish_fault() and set_pte_range() in mm/memory.c)
 * and where it is done here:
 *
 *	rmap, RSS, reference	vm_insert_pages()
 *	young, dirty		dirty if it is writable, and never otherwise: mprotect() and
 *				NUMA hinting make a dirty PTE writable without asking
 *	soft dirty		if it is writable, for who tracks writes by that
 *	mlock			rmap leaves it out for VM_MIXEDMAP, and nothing is missed:
 *				no list has the pages
 *	userfaultfd, guards	PTEs that are not empty are left as they are
 */
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/sched/signal.h>

#include <asm/pgalloc.h>

#include "map.h"
#include "pmd.h"
#include "region.h"
#include "tree-walk.h"

/* Where a mapping has @index. */
static unsigned long index_addr(const struct vm_area_struct *vma, pgoff_t index)
{
	return vma->vm_start + ((index - vma->vm_pgoff) << PAGE_SHIFT);
}

/* Where so many of the pages around a fault are mapped already, most are likely to be. */
#define ENOUGH_MAPPED	4

/* As insert(), of more than one page. */
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
		/* -EFAULT: a page table was freed under us, or could not be had. */
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
 * Insert @nr pages by a copy of their VMA, but for those where a PTE is already.  To find
 * one takes as long as to insert a page, so after a few the rest is left to other faults:
 * -EBUSY.
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
 * cowmem_use_page_table - let a fault use the page table that was allocated for it
 * @vmf: the fault
 *
 * The core does so before it asks ->fault, and frees what is not used, but
 * vm_insert_pages() knows nothing of it.
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
		/* Who finds the table finds it empty. */
		smp_wmb();
		pmd_populate(mm, vmf->pmd, vmf->prealloc_pte);
		vmf->prealloc_pte = NULL;
	}
	spin_unlock(lock);
}

/**
 * cowmem_map_readonly - map pages read-only
 * @vma: the mapping
 * @index: of the first one
 * @pages: the pages
 * @nr: how many; they are in one leaf
 *
 * Where something is mapped already, that stays, and where much is, pages after the first
 * one may be left out.
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
 * @index: of the first one
 * @pages: the pages, granted to the region
 * @nr: how many; they are in one leaf
 *
 * As cowmem_map_readonly().
 *
 * Context: may sleep; under region->lock and the leaf lock; @vma does not change.
 * Return: as cowmem_map_readonly(), which of one page is never -EBUSY.
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
 * @even_cows: private copies of the pages, too
 *
 * Where the core is splitting a PMD it has taken that away already, and is about to flush:
 * until it has done so, another CPU may go by what it remembers.  Nothing that is exported
 * waits for this.  A page that can be written like that is busy: the core lets go of it
 * after the flush.
 *
 * Context: may sleep; under region->lock for writing or the leaf lock, so that
 * the PTEs do not come back at once.
 */
void cowmem_unmap(struct cowmem_region *region, pgoff_t first, pgoff_t end,
		  bool even_cows)
{
	cowmem_pmd_barrier(region, first, end);
	unmap_mapping_pages(region->inode.i_mapping, first, end - first,
			    even_cows);
}

/**
 * cowmem_unmap_difference - remove the PTEs of what differs from another tree
 * @region: the region
 * @tree: the other one
 * @first: first index
 * @end: index after the last one, or ULONG_MAX
 * @pages: incremented by the number of pages that differ
 * @nodes: incremented by the number of nodes that were compared
 *
 * Granted pages are among them: nobody else has those.
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
