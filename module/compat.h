/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * One source for Linux 6.1 to 7.3: this and probes.c alone know what kernels differ in
 *
 * Shims carry the newest kernel's names; each says when it can go.  Whether one is wanted tells
 * probes.h, which is made for each kernel, see probes.c; a version tells only how a kernel
 * behaves where all of them compile.
 */
#ifndef _COWMEM_COMPAT_H
#define _COWMEM_COMPAT_H

#include <linux/fs.h>
#include <linux/highmem.h>
#include <linux/mm.h>
#include <linux/mount.h>
#include <linux/pagemap.h>
#include <linux/posix_acl.h>
#include <linux/splice.h>
#include <linux/uio.h>
#include <linux/version.h>

#include <asm/pgalloc.h>

#include "probes.h"

/* Until 6.3 all of this is in <linux/fs.h>. */
#ifdef HAVE_FILELOCK_H
#include <linux/filelock.h>
#endif

/* Until 6.3 drivers change vm_flags directly. */
#ifndef HAVE_VM_FLAGS_INIT
#define vm_flags_init cowmem_vm_flags_init
static inline void vm_flags_init(struct vm_area_struct *vma, vm_flags_t flags)
{
	vma->vm_flags = flags;
}

#define vm_flags_clear cowmem_vm_flags_clear
static inline void vm_flags_clear(struct vm_area_struct *vma, vm_flags_t flags)
{
	vma->vm_flags &= ~flags;
}
#endif

/* Until 6.3 what tells how a mount maps IDs has other names. */
#ifndef HAVE_MNT_IDMAP
#define mnt_idmap user_namespace
#define nop_mnt_idmap init_user_ns
#endif

/* Until 6.3 mnt_idmap() has another name. */
static inline struct mnt_idmap *cowmem_mnt_idmap(const struct vfsmount *mnt)
{
#ifndef HAVE_MNT_IDMAP
	return mnt_user_ns(mnt);
#else
	return mnt_idmap(mnt);
#endif
}

/*
 * Only Debian exports zap_vma_range(), and until 7.1 what it was called then.
 *
 * Until 7.1 all kernels export zap_vma_ptes(), which does the same to special mappings.  So the
 * stand-in says that it is one.  PTEs that have a page are zapped as ever, as they lack the bit
 * of those that have none; and so are PMDs, as without a file they are not taken for special.
 * VM_SEQ_READ does what the file's FMODE_NOREUSE would: no page is marked accessed.
 *
 * From 7.1 on zapping would forget the page of a PMD in such a stand-in.  Then the range goes
 * from all mappings.  COWMEM_NO_ZAP does so on any kernel.
 */
#if !defined(HAVE_ZAP_VMA_RANGE) || defined(COWMEM_NO_ZAP)
#define zap_vma_range cowmem_zap_vma_range
static inline void zap_vma_range(struct vm_area_struct *vma, unsigned long addr,
				 unsigned long size)
{
#if defined(HAVE_ZAP_VMA_PTES) && !defined(COWMEM_NO_ZAP)
	struct vm_area_struct stand_in = *vma;

	vm_flags_init(&stand_in, stand_in.vm_flags | VM_PFNMAP | VM_SEQ_READ);
	stand_in.vm_file = NULL;
	zap_vma_ptes(&stand_in, addr, size);
#else
	unmap_mapping_pages(vma->vm_file->f_mapping, linear_page_index(vma, addr),
			    size >> PAGE_SHIFT, false);
#endif
}
#endif

/* Until 6.3 only a flag of the VMA keeps unmapping from marking pages accessed. */
#ifndef FMODE_NOREUSE
#define FMODE_NOREUSE	((__force fmode_t)0)
#endif

/*
 * Until 6.5 copy_splice_read() has another name.  It copies as long as ->read_iter uses
 * copy_to_iter(), never copy_page_to_iter().
 */
#ifndef HAVE_COPY_SPLICE_READ
#define copy_splice_read generic_file_splice_read
#endif

/* Until 6.6 copy_folio_from_iter_atomic() is copy_page_from_iter_atomic(). */
#ifndef HAVE_COPY_FOLIO_FROM_ITER
#define copy_folio_from_iter_atomic(folio, offset, bytes, iter) \
	copy_page_from_iter_atomic(&(folio)->page, offset, bytes, iter)
#endif

/* Until 6.8 the largest order has another name, which until 6.4 is that of the first too large. */
#ifndef MAX_PAGE_ORDER
#define MAX_PAGE_ORDER	(MAX_ORDER - (LINUX_VERSION_CODE < KERNEL_VERSION(6, 4, 0)))
#endif

/*
 * Until 6.6 generic_fillattr() takes no mask.  Until 6.7 the times of an inode are plain
 * fields.
 */
#ifndef HAVE_FILLATTR_MASK
#define cowmem_fillattr(idmap, mask, inode, stat) \
	((void)(mask), generic_fillattr(idmap, inode, stat))
#else
#define cowmem_fillattr(idmap, mask, inode, stat) \
	generic_fillattr(idmap, mask, inode, stat)
#endif

#ifndef HAVE_INODE_SET_CTIME
#define inode_set_ctime_current cowmem_inode_set_ctime_current
static inline struct timespec64 inode_set_ctime_current(struct inode *inode)
{
	inode->i_ctime = current_time(inode);
	return inode->i_ctime;
}

#define inode_set_ctime_to_ts cowmem_inode_set_ctime_to_ts
static inline struct timespec64 inode_set_ctime_to_ts(struct inode *inode,
						      struct timespec64 ts)
{
	inode->i_ctime = ts;
	return ts;
}
#endif

#ifndef HAVE_INODE_SET_MTIME
#define simple_inode_init_ts cowmem_simple_inode_init_ts
static inline struct timespec64 simple_inode_init_ts(struct inode *inode)
{
	inode->i_mtime = inode_set_ctime_current(inode);
	inode->i_atime = inode->i_mtime;
	return inode->i_mtime;
}

#define inode_set_mtime_to_ts cowmem_inode_set_mtime_to_ts
static inline struct timespec64 inode_set_mtime_to_ts(struct inode *inode,
						      struct timespec64 ts)
{
	inode->i_mtime = ts;
	return ts;
}
#endif

/*
 * Until 6.2 ->set_acl and its callers take the inode, not the dentry, and the VFS wants
 * handlers for access control lists, as for attributes.
 */
#ifndef HAVE_SET_ACL_OF_DENTRY
#define cowmem_acl_target_t			struct inode
#define cowmem_acl_inode(of)			(of)
#define cowmem_acl_chmod(idmap, dentry, mode)	posix_acl_chmod(idmap, d_inode(dentry), mode)
#else
#define cowmem_acl_target_t			struct dentry
#define cowmem_acl_inode(of)			d_inode(of)
#define cowmem_acl_chmod(idmap, dentry, mode)	posix_acl_chmod(idmap, dentry, mode)
#endif
#if !defined(HAVE_SET_ACL_OF_DENTRY) && defined(CONFIG_FS_POSIX_ACL)
#define COWMEM_ACL_HANDLERS \
	&posix_acl_access_xattr_handler, &posix_acl_default_xattr_handler,
#else
#define COWMEM_ACL_HANDLERS
#endif

/* Until 6.7 the array of attribute handlers is not const. */
#ifndef HAVE_CONST_XATTR_HANDLERS
#define COWMEM_CONST_HANDLERS
#else
#define COWMEM_CONST_HANDLERS const
#endif

/* Until 6.15 ->mkdir returns an int.  Until 7.3 ->create takes a flag for O_EXCL. */
#ifndef HAVE_MKDIR_OF_DENTRY
#define COWMEM_MKDIR_RETURNS		int
#define COWMEM_MKDIR_RETURN(err)	(err)
#else
#define COWMEM_MKDIR_RETURNS		struct dentry *
#define COWMEM_MKDIR_RETURN(err)	ERR_PTR(err)
#endif
#ifndef HAVE_CREATE_WITHOUT_EXCL
#define COWMEM_CREATE_ARGS(...)		__VA_ARGS__, bool excl
#else
#define COWMEM_CREATE_ARGS(...)		__VA_ARGS__
#endif

/*
 * Until 6.19 a file system that exists in the dentry cache only keeps a reference to each
 * dentry, and a function of its own drops these.
 */
#ifndef HAVE_D_MAKE_PERSISTENT
#define d_make_persistent cowmem_d_make_persistent
static inline void d_make_persistent(struct dentry *dentry, struct inode *inode)
{
	d_instantiate(dentry, inode);
	dget(dentry);
}

#define cowmem_kill_ramfs_super(sb)	kill_litter_super(sb)
#else
#define cowmem_kill_ramfs_super(sb)	kill_anon_super(sb)
#endif

/* A new inode has no name yet, but linkat() may give it one. */
static inline void cowmem_make_linkable(struct inode *inode)
{
	clear_nlink(inode);
	spin_lock(&inode->i_lock);
#ifndef HAVE_INODE_STATE_SET
	inode->i_state |= I_LINKABLE;
#else
	inode_state_set(inode, I_LINKABLE);
#endif
	spin_unlock(&inode->i_lock);
}

/* Until 6.9 all fields of a file lock are in one struct, with other names. */
#ifndef HAVE_FILE_LOCK_CORE
#define cowmem_lock_field(lock, field)	((lock)->fl_##field)
#else
#define cowmem_lock_field(lock, field)	((lock)->c.flc_##field)
#endif

/*
 * From 6.14 on files from alloc_file_pseudo() do not notify fsnotify of anything.  Ours do so
 * like a file that was opened, except that they ask nobody for permission.
 */
static inline void cowmem_file_notifies(struct file *file)
{
#ifdef HAVE_FILE_FSNOTIFY_MODE
	file_set_fsnotify_mode(file, FMODE_NONOTIFY_PERM);
#endif
}

/* Until 6.13 vma_alloc_folio() has another argument, which tells about huge pages. */
static inline struct folio *cowmem_vma_alloc_folio(gfp_t gfp, unsigned int order,
						   struct vm_area_struct *vma,
						   unsigned long addr)
{
#ifndef HAVE_VMA_ALLOC_FOLIO_OF_FOUR
	return vma_alloc_folio(gfp, order, vma, addr, order);
#else
	return vma_alloc_folio(gfp, order, vma, addr);
#endif
}

#define cowmem_vma_alloc_page(gfp, vma, addr) \
	(&cowmem_vma_alloc_folio(gfp, 0, vma, addr)->page)

/* Until 6.8 the core asks to remove a page that failed, not a folio. */
#ifndef HAVE_ERROR_REMOVE_FOLIO
#define error_remove_folio	error_remove_page
#define cowmem_broken		page
#else
#define cowmem_broken		folio
#endif

/*
 * Without MAPPING_DIRTY_HELPERS (most distribution kernels have it) no exported function tells
 * which pages were written.  COWMEM_NO_DIRTY_BITS does without them on any kernel.
 */
#if defined(CONFIG_MAPPING_DIRTY_HELPERS) && !defined(COWMEM_NO_DIRTY_BITS)
#define COWMEM_HAVE_DIRTY_BITS true
#else
#define COWMEM_HAVE_DIRTY_BITS false
#define clean_record_shared_mapping_range(mapping, first, nr, base, bits, start, end) \
	((void)(bits), (void)(start), (void)(end))
#endif

/*
 * How often a page of order 0 is mapped: page_mapcount() is gone since 6.16.  For a page of a
 * large folio this is an upper bound, the number of references to the folio.
 */
static inline int cowmem_page_mapcount(struct page *page)
{
	struct folio *folio = page_folio(page);

	if (folio_test_large(folio))
		return folio_ref_count(folio) - 1;
	return atomic_read(&page->_mapcount) + 1;
}

/*
 * Are PTEs that map pages of one folio in order removed faster than others?  Since 6.9 the
 * core batches them, with one look at the folio and one change of its counts.  This was only
 * tried from 6.12 on, so nothing changes for the kernels in between.  On earlier ones a large
 * folio only makes it slower.
 */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0)
#define COWMEM_HAVE_BLOCKS true
#else
#define COWMEM_HAVE_BLOCKS false
#endif

/*
 * Until 6.4 there is only copy_mc_user_highpage(), and its callers report the page.  Without
 * ARCH_HAS_COPY_MC both copy as if nothing could go wrong.
 */
#ifndef HAVE_COPY_MC_HIGHPAGE
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
 * munlock(), and unmapping locked memory, leave references to pages on lists of this CPU.
 * Drop them.  Up to 6.12, unmapping does that by itself.
 */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 13, 0)
/* Defines struct folio_batch; its own header has different names. */
#include <linux/folio_queue.h>

static inline void cowmem_munlock_drain(void)
{
	struct folio_batch none;

	folio_batch_init(&none);
	__folio_batch_release(&none);
}
#else
static inline void cowmem_munlock_drain(void)
{
}
#endif

/*
 * Were two pages of order 0 charged to the same memcg, on the same node?  May be false even
 * if they were.
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
 * arm64's pmd_populate() asks with CONFIG_DEBUG_VM whether @mm is init_mm, which no module can
 * link with.  It is a task's here.  All else is as there; older kernels know no PMD_TABLE_AF.
 */
#if defined(CONFIG_ARM64) && defined(CONFIG_DEBUG_VM)
#ifndef PMD_TABLE_AF
#define PMD_TABLE_AF	0
#endif

#define pmd_populate cowmem_pmd_populate
static inline void pmd_populate(struct mm_struct *mm, pmd_t *pmd, pgtable_t table)
{
	__pmd_populate(pmd, page_to_phys(table),
		       PMD_TYPE_TABLE | PMD_TABLE_AF | PMD_TABLE_PXN);
}
#endif

/*
 * Does the machine survive if the kernel reads broken memory?  An AMD processor without
 * SUCCOR does not, even if the code that reads is prepared for it (see mce_severity_amd()),
 * so it may as well copy in the fastest way.
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
