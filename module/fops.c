// SPDX-License-Identifier: GPL-2.0-only
/*
 * What regular files can do
 */
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/poll.h>
#include <linux/splice.h>

#include "copy.h"
#include "fallocate.h"
#include "fault.h"
#include "file.h"
#include "io.h"
#include "ioctl.h"
#include "life.h"
#include "nameless.h"
#include "ops.h"
#include "region.h"
#include "stats.h"

/* A regular file is opened again, through /proc.  The VFS has checked mode and owner. */
static int file_open(struct inode *inode, struct file *file)
{
	struct cowmem_region *region = cowmem_region_of(inode);

	if (file->f_mode & FMODE_WRITE) {
		/* Until 6.5 f_path of a file that overlayfs opened is a path of overlayfs. */
		if (cowmem_is_view(file_dentry(file)))
			return -EACCES;
		if (READ_ONCE(region->seals) & COWMEM_WRITE_SEALS)
			return -EPERM;
	}
	if (!cowmem_region_account(region)) {
		struct vfsmount *mnt = cowmem_fs_pin();

		if (IS_ERR(mnt))
			return PTR_ERR(mnt);
	}
	cowmem_file_init(file, region);
	return 0;
}

static int file_release(struct inode *inode, struct file *file)
{
	struct cowmem_region *region = cowmem_region_of(inode);

	/* The region may outlive all processes that its spare pages could be blamed on. */
	if (file->f_mode & FMODE_WRITE)
		cowmem_region_idle(region);
	if (!cowmem_region_account(region))
		cowmem_fs_unpin();
	return 0;
}

/*
 * ->get_unmapped_area places mappings so that PMDs can map them.  It is the core's own
 * function, as mremap() moves several mappings at once only if it is.
 */
#define FILE_FOPS						\
	.owner		= THIS_MODULE,				\
	.open		= file_open,				\
	.release	= file_release,				\
	.llseek		= cowmem_llseek,			\
	.read_iter	= cowmem_read_iter,			\
	.write_iter	= cowmem_write_iter,			\
	.splice_read	= copy_splice_read,			\
	.splice_write	= iter_file_splice_write,		\
	.mmap		= cowmem_mmap,				\
	.get_unmapped_area = thp_get_unmapped_area,		\
	.fsync		= noop_fsync,				\
	.fallocate	= cowmem_fallocate,			\
	.setlease	= generic_setlease,			\
	.remap_file_range = cowmem_remap_file_range,		\
	.unlocked_ioctl	= cowmem_ioctl,				\
	.compat_ioctl	= compat_ptr_ioctl,			\
	.show_fdinfo	= cowmem_show_fdinfo

const struct file_operations cowmem_file_fops = {
	FILE_FOPS,
};

static __poll_t expendable_poll(struct file *file, struct poll_table_struct *table)
{
	struct cowmem_region *region = cowmem_file_region(file);

	poll_wait(file, &region->expendable->wait, table);
	return EPOLLIN | EPOLLRDNORM | (cowmem_region_yielded(region) ? EPOLLERR : 0);
}

/*
 * Snapshots that may yield can be polled for that.  The other files have nothing to tell,
 * like any regular file, and so have no ->poll.
 */
const struct file_operations cowmem_expendable_fops = {
	FILE_FOPS,
	.poll		= expendable_poll,
};
