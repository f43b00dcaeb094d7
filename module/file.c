// SPDX-License-Identifier: GPL-2.0-only
/*
 * The files of a region
 *
 * The inode of a regular file is the region, and such a file behaves as programs expect of
 * any file.  Clones are regular files, and COWMEM_IOC_FILE makes more of them.  The inode of
 * a file of /dev/cowmem (device.c) is the device node: whatever the VFS does to an inode
 * without asking us, it does to the node.  Locks are the exception, as the VFS asks.
 */
#include <linux/fcntl.h>
#include <linux/file.h>
#include <linux/module.h>
#include <linux/mount.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "call.h"
#include "expendable.h"
#include "file.h"
#include "life.h"
#include "nameless.h"
#include "ops.h"
#include "region.h"

/* Is it a regular file, or one of the device? */
static bool is_regular(const struct file *file)
{
	return file->f_op == &cowmem_file_fops || file->f_op == &cowmem_expendable_fops;
}

/**
 * cowmem_file_init - make a new file one of a region
 * @file: the file
 * @region: the region
 *
 * Context: any; nobody else has the file.
 */
void cowmem_file_init(struct file *file, struct cowmem_region *region)
{
	file->private_data = region;
	file->f_mode |= FMODE_LSEEK | FMODE_PREAD | FMODE_PWRITE;
	/* Threads that share the file share its position. */
	file->f_mode |= FMODE_ATOMIC_POS;
	/* There is no cache to bypass. */
	file->f_mode |= FMODE_CAN_ODIRECT;
	/* The pages are on no LRU list, so unmapping need not mark them accessed. */
	file->f_mode |= FMODE_NOREUSE;
}

/*
 * The mount for another file of the region of @of.  For a region without a name, it stays
 * until unpin_mount().
 */
static struct vfsmount *pin_mount(struct file *of)
{
	struct vfsmount *mnt;

	if (cowmem_region_account(cowmem_file_region(of)))
		return of->f_path.mnt;
	mnt = cowmem_fs_pin();
	/*
	 * If only O_PATH descriptors kept the region for a while, the mount that is pinned
	 * now may be another one than that of @of.
	 */
	return is_regular(of) && !IS_ERR(mnt) ? of->f_path.mnt : mnt;
}

/* Mounts that users made are kept by the files themselves. */
static void unpin_mount(const struct cowmem_region *region)
{
	if (!cowmem_region_account(region))
		cowmem_fs_unpin();
}

/* Open a file for writing instead, and count it as a writer of the mount. */
static struct file *open_to_write(struct file *file)
{
	struct file *opened = dentry_open(&file->f_path, O_RDWR | O_LARGEFILE, current_cred());

	fput(file);
	return opened;
}

/*
 * Make a regular file of @region.  Takes over a reference to the inode and one from
 * pin_mount(), also on failure.  @mnt is a mount of the superblock of the inode.
 */
static struct file *new_file(struct cowmem_region *region, struct vfsmount *mnt,
			     const char *name, int flags)
{
	char dname[COWMEM_FILE_NAME_MAX + sizeof("cowmem:")];
	bool to_write = flags == O_RDWR && cowmem_region_account(region);
	struct file *file;

	/* On the file system without names nameless_dname() adds the prefix. */
	if (cowmem_region_account(region)) {
		snprintf(dname, sizeof(dname), "cowmem:%s", name);
		if (!*name)
			snprintf(dname, sizeof(dname), "cowmem:%llu",
				 (u64)region->inode.i_ino);
		name = dname;
	}
	/* On a mount of users writers count, which this does not see to. */
	file = alloc_file_pseudo(&region->inode, mnt, name,
				 (to_write ? O_RDONLY : flags) | O_LARGEFILE,
				 region->inode.i_fop);
	if (IS_ERR(file)) {
		unpin_mount(region);
		iput(&region->inode);
		return file;
	}
	/* As opening a file does; fput() drops it. */
	__module_get(THIS_MODULE);
	cowmem_file_notifies(file);
	cowmem_file_init(file, region);
	return to_write ? open_to_write(file) : file;
}

/*
 * Writing to a clone fills the mount that it is on, so the right to read @of is not enough:
 * @of has to be open for writing, or the caller has to be its owner or have the right to
 * open it for writing.  The owner is asked because a sealed file is never open for writing.
 */
static int may_clone_to_write(struct file *of, struct mnt_idmap *idmap)
{
	struct inode *inode = file_inode(of);

	if ((of->f_mode & FMODE_WRITE) || inode_owner_or_capable(idmap, inode))
		return 0;
	return inode_permission(idmap, inode, MAY_WRITE);
}

static umode_t clone_mode(int flags)
{
	return flags == O_RDWR ? 0600 : 0400;
}

/*
 * Make a new file without a name on the mount of @of, as O_TMPFILE does: if it can be
 * written it counts as a writer of the mount, and on a read-only mount there is none.
 */
static struct file *clone_on_mount(struct file *of, int flags)
{
	struct vfsmount *mnt = of->f_path.mnt;
	struct mnt_idmap *idmap = cowmem_mnt_idmap(mnt);
	struct cowmem_region *region;
	struct file *file;
	int err;

	if (!fsuidgid_has_mapping(mnt->mnt_sb, idmap))
		return ERR_PTR(-EOVERFLOW);
	err = flags == O_RDWR ? may_clone_to_write(of, idmap) : 0;
	if (err)
		return ERR_PTR(err);
	err = mnt_want_write(mnt);
	if (err)
		return ERR_PTR(err);
	region = cowmem_region_create(mnt->mnt_sb, idmap, clone_mode(flags));
	if (IS_ERR(region)) {
		file = ERR_CAST(region);
		goto drop_write;
	}
	cowmem_make_linkable(&region->inode);
	file = new_file(region, mnt, "", flags);
drop_write:
	mnt_drop_write(mnt);
	return file;
}

/**
 * cowmem_clone_file - make a new region with a regular file
 * @of: a file of the region that is to be cloned
 * @flags: O_RDWR or O_RDONLY
 *
 * It belongs to the same file system as the region of @of.  If users mounted that, the new
 * region counts there, and linkat() can give it a name.
 *
 * Context: may sleep.
 * Return: the file; -ENOMEM, -ENOSPC or -ENFILE; -EROFS, -EOVERFLOW or -EACCES if the mount
 * or the rights of the caller do not allow it.
 */
struct file *cowmem_clone_file(struct file *of, int flags)
{
	struct cowmem_region *region;
	struct vfsmount *mnt;

	if (cowmem_region_account(cowmem_file_region(of)))
		return clone_on_mount(of, flags);
	mnt = pin_mount(of);
	if (IS_ERR(mnt))
		return ERR_CAST(mnt);
	region = cowmem_region_create(mnt->mnt_sb, &nop_mnt_idmap, clone_mode(flags));
	if (IS_ERR(region)) {
		cowmem_fs_unpin();
		return ERR_CAST(region);
	}
	return new_file(region, mnt, "", flags);
}

/**
 * cowmem_file_expendable - make a new snapshot one that may yield
 * @file: its only file
 *
 * Context: may sleep; nobody else has the file.
 * Return: 0 or -ENOMEM.
 */
int cowmem_file_expendable(struct file *file)
{
	struct cowmem_region *region = cowmem_file_region(file);

	region->expendable = cowmem_expendable_create(region);
	if (!region->expendable)
		return -ENOMEM;
	region->inode.i_fop = &cowmem_expendable_fops;
	file->f_op = &cowmem_expendable_fops;
	return 0;
}

/**
 * cowmem_region_fget - get a region's file by its descriptor
 * @fd: the descriptor
 * @mode: FMODE_READ, FMODE_WRITE or both
 *
 * Return: the file, with a reference; -EBADF if @fd is closed, does not belong to a region
 * or is not open in this mode.
 */
struct file *cowmem_region_fget(int fd, fmode_t mode)
{
	struct file *file = fget(fd);

	if (!file)
		return ERR_PTR(-EBADF);
	if ((!is_regular(file) && file->f_op != &cowmem_fops) ||
	    (file->f_mode & mode) != mode) {
		fput(file);
		return ERR_PTR(-EBADF);
	}
	return file;
}

/**
 * cowmem_mmap_grows - does a region grow when it is mapped through this file?
 * @file: the file
 *
 * A file of the device has only an ioctl to set the size.  A regular file does not grow by
 * mmap().
 *
 * Context: any.
 * Return: whether it does.
 */
bool cowmem_mmap_grows(const struct file *file)
{
	return !is_regular(file) && (file->f_mode & FMODE_WRITE);
}

/**
 * cowmem_accessed - update st_atime, because a file was read or mapped
 * @file: the file
 *
 * Context: may sleep.
 */
void cowmem_accessed(struct file *file)
{
	/* The times of the device node are not ours. */
	if (is_regular(file))
		file_accessed(file);
}

/**
 * cowmem_remove_privs - drop set-user-ID bits and capabilities of a file, before a write
 * @file: the file
 *
 * Context: may sleep; under i_rwsem of the region.
 * Return: 0 or a negative errno.
 */
int cowmem_remove_privs(struct file *file)
{
	/* The device node is no program. */
	return is_regular(file) ? file_remove_privs(file) : 0;
}

/*
 * Capabilities are an attribute, which only files of users' mounts have.  IS_NOSEC() is true
 * once somebody looked and found none.
 */
static bool may_have_privs(struct inode *inode)
{
	return is_sxid(READ_ONCE(inode->i_mode)) ||
	       (cowmem_region_account(cowmem_region_of(inode)) && !IS_NOSEC(inode));
}

/**
 * cowmem_remove_privs_now - as cowmem_remove_privs(), for callers without i_rwsem
 * @file: the file
 *
 * Context: may sleep; no region is locked.
 * Return: 0 or a negative errno.
 */
int cowmem_remove_privs_now(struct file *file)
{
	struct inode *inode = file_inode(file);
	int err;

	/* Few files have anything to drop.  Do not wait for the lock if this one has not. */
	if (!is_regular(file) || !may_have_privs(inode))
		return 0;
	err = down_write_killable(&inode->i_rwsem);
	if (err)
		return err;
	err = file_remove_privs(file);
	inode_unlock(inode);
	return err;
}

/* Is what COWMEM_IOC_FILE asks for possible? */
static int check_file(const struct cowmem_call *call)
{
	u32 flags = call->args.file.flags & ~COWMEM_FILE_HUGE;
	bool huge = call->args.file.flags & COWMEM_FILE_HUGE;
	/* Huge pages take more memory, so they are not for readers to ask for. */
	fmode_t need = FMODE_READ | (!flags || huge ? FMODE_WRITE : 0);

	if (flags & ~(COWMEM_FILE_RDONLY | COWMEM_FILE_VIEW))
		return -EOPNOTSUPP;
	if (flags == (COWMEM_FILE_RDONLY | COWMEM_FILE_VIEW))
		return -EINVAL;
	if ((call->file->f_mode & need) != need)
		return -EBADF;
	if (is_regular(call->file) && cowmem_is_view(call->file->f_path.dentry) &&
	    flags != COWMEM_FILE_VIEW)
		return -EACCES;
	if (!flags && (READ_ONCE(call->region->seals) & COWMEM_WRITE_SEALS))
		return -EPERM;
	return 0;
}

static char *get_name(u64 user)
{
	if (!user)
		return kstrdup("", GFP_KERNEL_ACCOUNT);
	return strndup_user(u64_to_user_ptr(user), COWMEM_FILE_NAME_MAX + 1);
}

/**
 * cowmem_another_file - make another regular file of a region
 * @of: a file of the region
 * @name: its name in /proc; if empty, the number of the inode or, on a mount, the path
 * @flags: COWMEM_FILE_RDONLY, COWMEM_FILE_VIEW or 0
 *
 * Context: may sleep.
 * Return: the file or a negative errno.
 */
struct file *cowmem_another_file(struct file *of, const char *name, u32 flags)
{
	struct cowmem_region *region = cowmem_file_region(of);
	int open_flags = flags ? O_RDONLY : O_RDWR;
	struct vfsmount *mnt;
	struct file *file;

	if (cowmem_region_account(region) && !*name && flags != COWMEM_FILE_VIEW)
		return dentry_open(&of->f_path, open_flags | O_LARGEFILE, current_cred());
	mnt = pin_mount(of);
	if (IS_ERR(mnt))
		return ERR_CAST(mnt);
	ihold(&region->inode);
	file = new_file(region, mnt, name, open_flags);
	if (!IS_ERR(file) && flags == COWMEM_FILE_VIEW)
		file->f_path.dentry->d_fsdata = region;
	return file;
}

/**
 * cowmem_file - COWMEM_IOC_FILE
 * @call: the ioctl
 *
 * Context: may sleep and fault.
 * Return: 0 or a negative errno, see struct cowmem_file.
 */
int cowmem_file(struct cowmem_call *call)
{
	struct cowmem_file *args = &call->args.file;
	struct file *file;
	char *name;
	int fd;

	fd = check_file(call);
	if (fd)
		return fd;
	name = get_name(args->name);
	if (IS_ERR_OR_NULL(name))
		return name ? PTR_ERR(name) : -ENOMEM;
	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0)
		goto free_name;
	file = cowmem_another_file(call->file, name, args->flags & ~COWMEM_FILE_HUGE);
	if (IS_ERR(file)) {
		put_unused_fd(fd);
		fd = PTR_ERR(file);
		goto free_name;
	}
	args->fd = fd;
	call->new_fd = fd;
	call->new_file = file;
	call->huge = args->flags & COWMEM_FILE_HUGE;
free_name:
	kfree(name);
	return min(fd, 0);
}
