// SPDX-License-Identifier: GPL-2.0-only
/*
 * Files of /dev/cowmem
 *
 * Opening the device makes a new region.  All its files have the inode of the device node,
 * but f_mapping is that of the region, and locks are taken on the inode of the region.
 */
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/splice.h>

#include "fault.h"
#include "file.h"
#include "io.h"
#include "ioctl.h"
#include "life.h"
#include "nameless.h"
#include "ops.h"
#include "region.h"
#include "stats.h"

static int device_open(struct inode *inode, struct file *file)
{
	struct vfsmount *mnt = cowmem_fs_pin();
	struct cowmem_region *region;

	if (IS_ERR(mnt))
		return PTR_ERR(mnt);
	region = cowmem_region_create(mnt->mnt_sb, &nop_mnt_idmap, 0600);
	if (IS_ERR(region)) {
		cowmem_fs_unpin();
		return PTR_ERR(region);
	}
	cowmem_file_init(file, region);
	file->f_mapping = region->inode.i_mapping;
	return 0;
}

/* Drop the locks of @owner of the kind @flags, FL_POSIX or FL_FLOCK. */
static void drop_locks(struct file *file, fl_owner_t owner, unsigned int flags)
{
	struct file_lock lock;

	locks_init_lock(&lock);
	cowmem_lock_field(&lock, flags) = flags | FL_CLOSE;
	cowmem_lock_field(&lock, type) = F_UNLCK;
	cowmem_lock_field(&lock, owner) = owner;
	cowmem_lock_field(&lock, pid) = current->tgid;
	cowmem_lock_field(&lock, file) = file;
	lock.fl_end = OFFSET_MAX;
	locks_lock_inode_wait(&cowmem_file_region(file)->inode, &lock);
}

/* A descriptor was closed.  The process that did it loses all of its POSIX locks. */
static int device_flush(struct file *file, fl_owner_t owner)
{
	drop_locks(file, owner, FL_POSIX);
	return 0;
}

static int device_release(struct inode *inode, struct file *file)
{
	/*
	 * Open file description locks and flock() locks.  The VFS would look for them at the
	 * device node.
	 */
	drop_locks(file, file, FL_POSIX);
	drop_locks(file, file, FL_FLOCK);
	iput(&cowmem_file_region(file)->inode);
	cowmem_fs_unpin();
	return 0;
}

/* Whichever file of a region takes a lock, it is one of the region. */
static int device_flock(struct file *file, int cmd, struct file_lock *lock)
{
	return locks_lock_inode_wait(&cowmem_file_region(file)->inode, lock);
}

static int device_fcntl(struct file *file, int cmd, struct file_lock *lock)
{
	struct file *regular;

	if (cmd != F_GETLK)
		return device_flock(file, cmd, lock);
	/* posix_test_lock() looks at the inode of the file that it is given. */
	regular = cowmem_another_file(file, "", COWMEM_FILE_RDONLY);
	if (IS_ERR(regular))
		return PTR_ERR(regular);
	posix_test_lock(regular, lock);
	fput(regular);
	return 0;
}

const struct file_operations cowmem_fops = {
	.owner		= THIS_MODULE,
	.open		= device_open,
	.release	= device_release,
	.flush		= device_flush,
	.llseek		= cowmem_llseek,
	.read_iter	= cowmem_read_iter,
	.write_iter	= cowmem_write_iter,
	.splice_read	= copy_splice_read,
	.splice_write	= iter_file_splice_write,
	.mmap		= cowmem_mmap,
	.get_unmapped_area = thp_get_unmapped_area,
	.fsync		= noop_fsync,
	.lock		= device_fcntl,
	.flock		= device_flock,
	.unlocked_ioctl	= cowmem_ioctl,
	.compat_ioctl	= compat_ptr_ioctl,
	.show_fdinfo	= cowmem_show_fdinfo,
};
