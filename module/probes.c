// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the kernel has that compat.h wants to know
 *
 * A version does not tell: distributions take later changes over.  Each function here that
 * compiles becomes a macro of the same name: probe.sh asks the compiler.  LINKS() names what it
 * calls that has to be exported, too.  The release is the first of kernel.org's that has it, or
 * the first and the last.  All else that does not compile here stops the build: first of all, a
 * kernel that the module is not made for.
 */
#include <linux/fs.h>
#include <linux/highmem.h>
#include <linux/mm.h>
#include <linux/mount.h>
#include <linux/posix_acl.h>
#include <linux/uio.h>
#include <linux/version.h>
#if __has_include(<linux/filelock.h>)
#include <linux/filelock.h>
#endif

#ifndef CONFIG_64BIT
#error "cowmem needs a 64-bit kernel: a page index has to hold any file offset"
#elif !defined(CONFIG_X86_64) && !defined(CONFIG_ARM64)
#error "cowmem is for x86-64 and arm64: not every other kernel has a true pte_pgprot()"
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 1, 0)
#error "cowmem needs Linux 6.1 or later"
#elif LINUX_VERSION_CODE >= KERNEL_VERSION(7, 4, 0) && !defined(COWMEM_UNTRIED_KERNEL)
#error "cowmem was not tried on kernels after 7.3; define COWMEM_UNTRIED_KERNEL to build anyway"
#endif

#define LINKS(symbol)

/* 6.1 to 7.0 */
void HAVE_ZAP_VMA_PTES(struct vm_area_struct *vma)
{
	LINKS(zap_vma_ptes);
	zap_vma_ptes(vma, 0, 0);
}

/* 6.2 */
void HAVE_SET_ACL_OF_DENTRY(const struct inode_operations *ops, struct dentry *dentry)
{
	ops->set_acl(NULL, dentry, NULL, 0);
}

/* 6.3 */
void HAVE_FILELOCK_H(void)
{
#if !__has_include(<linux/filelock.h>)
#error "there is no such header"
#endif
}

/* 6.3 */
int HAVE_MNT_IDMAP(const struct inode_operations *ops, const struct vfsmount *mnt)
{
	/* 6.2 has mnt_idmap(), but nothing that takes what it returns. */
	return ops->setattr(mnt_idmap(mnt), NULL, NULL);
}

/* 6.3 */
void HAVE_VM_FLAGS_INIT(struct vm_area_struct *vma)
{
	vm_flags_init(vma, 0);
	vm_flags_clear(vma, 0);
}

/* 6.4 */
int HAVE_COPY_MC_HIGHPAGE(struct page *to, struct page *from)
{
	return copy_mc_highpage(to, from);
}

/* 6.5 */
bool HAVE_COPY_SPLICE_READ(const struct file_operations *ops)
{
	LINKS(copy_splice_read);
	return ops->splice_read == copy_splice_read;
}

/* 6.6 */
void HAVE_COPY_FOLIO_FROM_ITER(struct folio *folio, struct iov_iter *iter)
{
	copy_folio_from_iter_atomic(folio, 0, 0, iter);
}

/* 6.6 */
void HAVE_FILLATTR_MASK(struct inode *inode, struct kstat *stat)
{
	generic_fillattr(NULL, 0, inode, stat);
}

/* 6.6 */
void HAVE_INODE_SET_CTIME(struct inode *inode)
{
	LINKS(inode_set_ctime_current);
	inode_set_ctime_to_ts(inode, inode_set_ctime_current(inode));
}

/* 6.7 */
void HAVE_INODE_SET_MTIME(struct inode *inode)
{
	inode_set_mtime_to_ts(inode, simple_inode_init_ts(inode));
}

/* 6.7 */
void HAVE_CONST_XATTR_HANDLERS(struct super_block *sb)
{
	static_assert(__same_type(sb->s_xattr, const struct xattr_handler * const *));
}

/* 6.8 */
bool HAVE_ERROR_REMOVE_FOLIO(const struct address_space_operations *ops)
{
	return ops->error_remove_folio;
}

/* 6.9 */
void HAVE_FILE_LOCK_CORE(struct file_lock *lock)
{
	lock->c.flc_type = 0;
}

/* 6.13 */
void HAVE_VMA_ALLOC_FOLIO_OF_FOUR(struct vm_area_struct *vma)
{
	vma_alloc_folio(0, 0, vma, 0);
}

/* 6.14 */
void HAVE_FILE_FSNOTIFY_MODE(struct file *file)
{
	file_set_fsnotify_mode(file, FMODE_NONOTIFY_PERM);
}

/* 6.15 */
void HAVE_MKDIR_OF_DENTRY(const struct inode_operations *ops)
{
	struct dentry *dentry = ops->mkdir(NULL, NULL, NULL, 0);

	(void)dentry;
}

/* 6.19 */
void HAVE_D_MAKE_PERSISTENT(struct dentry *dentry, struct inode *inode)
{
	LINKS(d_make_persistent);
	d_make_persistent(dentry, inode);
}

/* 6.19 */
void HAVE_INODE_STATE_SET(struct inode *inode)
{
	inode_state_set(inode, I_LINKABLE);
}

/* 7.1 */
void HAVE_ZAP_VMA_RANGE(struct vm_area_struct *vma)
{
	LINKS(zap_vma_range);
	zap_vma_range(vma, 0, 0);
}

/* 7.3 */
void HAVE_CREATE_WITHOUT_EXCL(const struct inode_operations *ops)
{
	ops->create(NULL, NULL, NULL, 0);
}
