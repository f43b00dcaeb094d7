/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * One source for Linux 6.1 to 7.3: the only file that knows kernel versions
 *
 * Shims carry the newest kernel's names; each says when it can go.
 */
#ifndef _COWMEM_COMPAT_H
#define _COWMEM_COMPAT_H

#include <linux/fs.h>
#include <linux/highmem.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/splice.h>
#include <linux/uio.h>
#include <linux/version.h>

#ifndef CONFIG_64BIT
#error "cowmem needs a 64-bit kernel: a page index has to hold any file offset"
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 1, 0)
#error "cowmem needs Linux 6.1 or later"
#elif LINUX_VERSION_CODE >= KERNEL_VERSION(7, 4, 0) && !defined(COWMEM_UNTRIED_KERNEL)
#error "cowmem was not tried on kernels after 7.3; define COWMEM_UNTRIED_KERNEL to build anyway"
#endif

/* Until 6.3 a driver changes vm_flags by hand. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
#define vm_flags_set cowmem_vm_flags_set
static inline void vm_flags_set(struct vm_area_struct *vma, vm_flags_t flags)
{
	vma->vm_flags |= flags;
}

#define vm_flags_clear cowmem_vm_flags_clear
static inline void vm_flags_clear(struct vm_area_struct *vma, vm_flags_t flags)
{
	vma->vm_flags &= ~flags;
}
#endif

/*
 * Until 6.5 the splice that copies through ->read_iter has another name.  It
 * copies as long as ->read_iter uses copy_to_iter(), never copy_page_to_iter().
 */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 5, 0)
#define copy_splice_read generic_file_splice_read
#endif

/* Until 6.10 copy_folio_from_iter_atomic() is copy_page_from_iter_atomic(). */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 10, 0)
#define copy_folio_from_iter_atomic(folio, offset, bytes, iter) \
	copy_page_from_iter_atomic(&(folio)->page, offset, bytes, iter)
#endif

/*
 * Until 6.15 a page can only be inserted with the protection of its VMA, which
 * leaves out write access where ->page_mkwrite wants to know: a stand-in for the
 * VMA has it.  Unlike the real one this never changes a PTE that is there.
 */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 15, 0)
#define vmf_insert_page_mkwrite cowmem_insert_page_mkwrite
static inline vm_fault_t vmf_insert_page_mkwrite(struct vm_fault *vmf,
						 struct page *page, bool write)
{
	struct vm_area_struct vma = *vmf->vma;
	int err;

	if (write)
		vma.vm_page_prot = vm_get_page_prot(vma.vm_flags);
	err = vm_insert_page(&vma, vmf->address, page);
	if (err == -ENOMEM)
		return VM_FAULT_OOM;
	return err && err != -EBUSY ? VM_FAULT_SIGBUS : VM_FAULT_NOPAGE;
}
#endif

/*
 * Without MAPPING_DIRTY_HELPERS (distribution kernels have them) nothing exported
 * tells which pages were written.  COWMEM_NO_DIRTY_BITS does without on any kernel.
 */
#if defined(CONFIG_MAPPING_DIRTY_HELPERS) && !defined(COWMEM_NO_DIRTY_BITS)
#define COWMEM_HAVE_DIRTY_BITS true
#else
#define COWMEM_HAVE_DIRTY_BITS false
#define clean_record_shared_mapping_range(mapping, first, nr, base, bits, start, end) \
	((void)(bits), (void)(start), (void)(end))
#endif

/* How often an order-0 page is mapped; page_mapcount() is gone since 6.16. */
static inline int cowmem_page_mapcount(struct page *page)
{
	return atomic_read(&page->_mapcount) + 1;
}

/*
 * Until 6.4 only copy_mc_user_highpage() is there, and who calls it reports the page.
 * Without ARCH_HAS_COPY_MC both copy as if nothing could go wrong.
 */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 4, 0)
#define copy_mc_highpage cowmem_copy_mc_highpage
static inline int copy_mc_highpage(struct page *to, struct page *from)
{
#ifdef copy_mc_to_kernel
	void *vfrom = kmap_local_page(from);
	void *vto = kmap_local_page(to);
	unsigned long left = copy_mc_to_kernel(vto, vfrom, PAGE_SIZE);

	if (!left)
		kmsan_copy_page_meta(to, from);
	kunmap_local(vto);
	kunmap_local(vfrom);
	if (left)
		memory_failure_queue(page_to_pfn(from), 0);
	return left;
#else
	copy_highpage(to, from);
	return 0;
#endif
}
#endif

/*
 * Were two pages of order 0 charged to the same memcg, on the same node?  False if it
 * takes more to tell.
 */
static inline bool cowmem_charged_together(struct page *x, struct page *y)
{
#ifdef CONFIG_MEMCG
	if (page_folio(x)->memcg_data != page_folio(y)->memcg_data)
		return false;
#endif
	return page_to_nid(x) == page_to_nid(y);
}

/*
 * Does the machine live on after the kernel read broken memory?  An AMD processor
 * without SUCCOR does not, whatever the code that read it was prepared for (see
 * mce_severity_amd()), so it may as well copy in the quickest way.
 */
static inline bool cowmem_copy_recovers(void)
{
#ifdef CONFIG_X86
	if (boot_cpu_data.x86_vendor == X86_VENDOR_AMD ||
	    boot_cpu_data.x86_vendor == X86_VENDOR_HYGON)
		return boot_cpu_has(X86_FEATURE_SUCCOR);
#endif
	return true;
}

#endif /* _COWMEM_COMPAT_H */
