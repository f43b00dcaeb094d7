// SPDX-License-Identifier: GPL-2.0-only
/*
 * The file system without names, for regions of the device
 *
 * It keeps nothing but inodes, each with a region.  No dentry has a parent.
 */
#include <linux/fs.h>
#include <linux/fsnotify.h>
#include <linux/module.h>
#include <linux/mount.h>
#include <linux/pseudo_fs.h>
#include <linux/string.h>

#include "life.h"
#include "nameless.h"
#include "region.h"

/*
 * What /proc shows for a regular file, in the form that other files without a name have.  It
 * has to be at the end of @buffer.
 */
static char *nameless_dname(struct dentry *dentry, char *buffer, int buflen)
{
	int len;

	if (dentry->d_name.len)
		len = snprintf(buffer, buflen, "/cowmem:%s (deleted)",
			       dentry->d_name.name);
	else
		len = snprintf(buffer, buflen, "/cowmem:%llu (deleted)",
			       (u64)d_inode(dentry)->i_ino);
	if (len >= buflen)
		return ERR_PTR(-ENAMETOOLONG);
	return memmove(buffer + buflen - len - 1, buffer, len + 1);
}

/*
 * A region may have several dentries, one for each name that it was given.  Whoever watches
 * it with inotify is told of its end when the last one goes.  If i_nlink were 0, they would
 * be told when the first one goes; so it is 1, and cowmem_getattr() hides that.
 */
static void nameless_d_iput(struct dentry *dentry, struct inode *inode)
{
	bool last;

	spin_lock(&inode->i_lock);
	last = hlist_empty(&inode->i_dentry);
	spin_unlock(&inode->i_lock);
	if (last)
		fsnotify_inoderemove(inode);
	iput(inode);
}

static const struct dentry_operations nameless_dentry_ops = {
	.d_iput		= nameless_d_iput,
	.d_dname	= nameless_dname,
};

/* Mounted while a file of a region is open.  Protected by the lock of simple_pin_fs(). */
static struct vfsmount *cowmem_mnt;
static int cowmem_mnt_count;

static const struct super_operations nameless_super_ops = {
	.alloc_inode	= cowmem_alloc_inode,
	.free_inode	= cowmem_free_inode,
	.evict_inode	= cowmem_evict_inode,
	.statfs		= simple_statfs,
};

static int nameless_init_fs_context(struct fs_context *fc)
{
	struct pseudo_fs_context *pseudo = init_pseudo(fc, COWMEM_SUPER_MAGIC);

	if (!pseudo)
		return -ENOMEM;
	pseudo->ops = &nameless_super_ops;
	pseudo->dops = &nameless_dentry_ops;
	/* Programs may be run from a region, as from a memfd. */
	fc->s_iflags &= ~SB_I_NOEXEC;
	return 0;
}

/* It is not registered, so nobody finds it by this name. */
static struct file_system_type nameless_fs_type = {
	.owner			= THIS_MODULE,
	.name			= "cowmem",
	.init_fs_context	= nameless_init_fs_context,
	.kill_sb		= kill_anon_super,
};

/**
 * cowmem_fs_pin - keep the file system without names mounted, and the module loaded
 *
 * Every open file of one of its regions does this until it is released.  A regular file
 * still has its own reference to the mount then, and a file of the device drops its inode
 * before.  So the mount goes after the inode, and the module goes after the mount.  Files
 * that are opened with O_PATH keep their mount without this; files that are opened meanwhile
 * may pin another one.
 *
 * Context: may sleep.
 * Return: the mount, which stays until cowmem_fs_unpin(); -ENOMEM.
 */
struct vfsmount *cowmem_fs_pin(void)
{
	int err = simple_pin_fs(&nameless_fs_type, &cowmem_mnt, &cowmem_mnt_count);

	return err ? ERR_PTR(err) : cowmem_mnt;
}

/**
 * cowmem_fs_unpin - undo cowmem_fs_pin()
 *
 * Context: may sleep.
 */
void cowmem_fs_unpin(void)
{
	simple_release_fs(&cowmem_mnt, &cowmem_mnt_count);
}
