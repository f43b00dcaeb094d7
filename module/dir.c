// SPDX-License-Identifier: GPL-2.0-only
/*
 * Directories of a mount, and whatever has a name in them
 *
 * They exist in the dentry cache only, and libfs does most of the work.  Sizes, link counts
 * and times are as on tmpfs.  The VFS locks the directories.
 */
#include <linux/fs.h>
#include <linux/security.h>
#include <linux/slab.h>

#include "account.h"
#include "dir.h"
#include "file.h"
#include "inode.h"
#include "life.h"
#include "region.h"
#include "xattr.h"

/* An entry adds this to the size of its directory, as on tmpfs. */
#define DIRENT_SIZE	20
/* A symbolic link to a path of this length or more takes a page, as on tmpfs. */
#define LONG_SYMLINK	128

static const struct inode_operations dir_inode_ops;

static const struct inode_operations special_inode_ops = {
	.setattr	= cowmem_setattr,
	.getattr	= cowmem_getattr,
	.listxattr	= cowmem_listxattr,
	.set_acl	= cowmem_set_acl,
};

static const struct inode_operations symlink_inode_ops = {
	.get_link	= simple_get_link,
	.setattr	= cowmem_setattr,
	.getattr	= cowmem_getattr,
	.listxattr	= cowmem_listxattr,
};

/* Make an inode of any type for @dir.  It has no name yet. */
static struct inode *make_inode(struct mnt_idmap *idmap, struct super_block *sb,
				struct inode *dir, umode_t mode, dev_t dev)
{
	struct inode *inode = cowmem_new_inode(sb);

	if (IS_ERR(inode))
		return inode;
	inode_init_owner(idmap, inode, dir, mode);
	switch (mode & S_IFMT) {
	case S_IFREG:
		cowmem_region_init(inode);
		break;
	case S_IFDIR:
		inc_nlink(inode);
		inode->i_size = 2 * DIRENT_SIZE;
		inode->i_op = &dir_inode_ops;
		inode->i_fop = &simple_dir_operations;
		break;
	case S_IFLNK:
		inode->i_op = &symlink_inode_ops;
		break;
	default:
		inode->i_op = &special_inode_ops;
		init_special_inode(inode, mode, dev);
		break;
	}
	lockdep_annotate_inode_mutex_key(inode);
	return inode;
}

/**
 * cowmem_dir_root - make the root directory of a mount
 * @sb: the mount
 * @mode: its permissions
 *
 * Context: may sleep.
 * Return: its inode; -ENOMEM or -ENOSPC.
 */
struct inode *cowmem_dir_root(struct super_block *sb, umode_t mode)
{
	return make_inode(&nop_mnt_idmap, sb, NULL, S_IFDIR | mode, 0);
}

/* @dir has @entries more entries. */
static void dir_changed(struct inode *dir, int entries)
{
	i_size_write(dir, dir->i_size + entries * DIRENT_SIZE);
	inode_set_mtime_to_ts(dir, inode_set_ctime_current(dir));
}

/* Give the new @inode the rights and labels that @dir or the system asks for. */
static int inherit(struct inode *dir, struct inode *inode, const struct qstr *name)
{
	int err = cowmem_acl_create(dir, inode);

	if (err)
		return err;
	err = security_inode_init_security(inode, dir, name, cowmem_initxattrs, NULL);
	return err == -EOPNOTSUPP ? 0 : err;
}

/* Give the new @inode its name. */
static int add_name(struct inode *dir, struct dentry *dentry, struct inode *inode)
{
	int err = inherit(dir, inode, &dentry->d_name);

	if (err) {
		iput(inode);
		return err;
	}
	dir_changed(dir, 1);
	d_make_persistent(dentry, inode);
	return 0;
}

static int dir_mknod(struct mnt_idmap *idmap, struct inode *dir,
		     struct dentry *dentry, umode_t mode, dev_t dev)
{
	struct inode *inode = make_inode(idmap, dir->i_sb, dir, mode, dev);

	return IS_ERR(inode) ? PTR_ERR(inode) : add_name(dir, dentry, inode);
}

static int dir_create(COWMEM_CREATE_ARGS(struct mnt_idmap *idmap, struct inode *dir,
					 struct dentry *dentry, umode_t mode))
{
	return dir_mknod(idmap, dir, dentry, mode | S_IFREG, 0);
}

static COWMEM_MKDIR_RETURNS dir_mkdir(struct mnt_idmap *idmap, struct inode *dir,
				      struct dentry *dentry, umode_t mode)
{
	int err = dir_mknod(idmap, dir, dentry, mode | S_IFDIR, 0);

	if (!err)
		inc_nlink(dir);
	return COWMEM_MKDIR_RETURN(err);
}

static int dir_symlink(struct mnt_idmap *idmap, struct inode *dir,
		       struct dentry *dentry, const char *target)
{
	size_t len = strlen(target);
	struct inode *inode;
	char *link;

	if (len >= PAGE_SIZE)
		return -ENAMETOOLONG;
	inode = make_inode(idmap, dir->i_sb, dir, S_IFLNK | 0777, 0);
	if (IS_ERR(inode))
		return PTR_ERR(inode);
	/* Otherwise size= would not limit the memory of symbolic links. */
	if (len >= LONG_SYMLINK) {
		if (!cowmem_charge(dir->i_sb->s_fs_info, 1)) {
			iput(inode);
			return -ENOSPC;
		}
		inode->i_blocks = PAGE_SIZE / 512;
	}
	link = kmemdup(target, len + 1, GFP_KERNEL_ACCOUNT);
	if (!link) {
		iput(inode);
		return -ENOMEM;
	}
	/* Freed with the inode. */
	inode->i_link = link;
	inode->i_size = len;
	return add_name(dir, dentry, inode);
}

static int dir_tmpfile(struct mnt_idmap *idmap, struct inode *dir, struct file *file,
		       umode_t mode)
{
	struct inode *inode = make_inode(idmap, dir->i_sb, dir, mode, 0);
	int err;

	if (IS_ERR(inode))
		return finish_open_simple(file, PTR_ERR(inode));
	err = inherit(dir, inode, NULL);
	if (err) {
		iput(inode);
		return finish_open_simple(file, err);
	}
	d_tmpfile(file, inode);
	return finish_open_simple(file, 0);
}

/*
 * Names count, because they take memory.  The first name of a file is included in the charge
 * for its inode, even if linkat() adds it later to a file that was made without a name.
 */
static bool name_counts(const struct inode *inode)
{
	return inode->i_nlink && !S_ISDIR(inode->i_mode);
}

static int dir_link(struct dentry *old, struct inode *dir, struct dentry *dentry)
{
	struct inode *inode = d_inode(old);

	/* What is opened by the new name would not be a view. */
	if (cowmem_is_view(old))
		return -EACCES;
	if (name_counts(inode) && !cowmem_charge_inode(dir->i_sb->s_fs_info))
		return -ENOSPC;
	i_size_write(dir, dir->i_size + DIRENT_SIZE);
	return simple_link(old, dir, dentry);
}

static int dir_unlink(struct inode *dir, struct dentry *dentry)
{
	struct inode *inode = d_inode(dentry);

	i_size_write(dir, dir->i_size - DIRENT_SIZE);
	simple_unlink(dir, dentry);
	if (name_counts(inode))
		cowmem_uncharge_inode(dir->i_sb->s_fs_info);
	return 0;
}

static int dir_rmdir(struct inode *dir, struct dentry *dentry)
{
	int err = simple_rmdir(dir, dentry);

	if (!err)
		i_size_write(dir, dir->i_size - DIRENT_SIZE);
	return err;
}

static int dir_rename(struct mnt_idmap *idmap, struct inode *old_dir,
		      struct dentry *old, struct inode *new_dir, struct dentry *new,
		      unsigned int flags)
{
	struct inode *replaced = d_inode(new);
	int err = simple_rename(idmap, old_dir, old, new_dir, new, flags);

	if (err || (flags & RENAME_EXCHANGE))
		return err;
	i_size_write(old_dir, old_dir->i_size - DIRENT_SIZE);
	if (!replaced)
		i_size_write(new_dir, new_dir->i_size + DIRENT_SIZE);
	else if (name_counts(replaced))
		cowmem_uncharge_inode(new_dir->i_sb->s_fs_info);
	return 0;
}

static const struct inode_operations dir_inode_ops = {
	.lookup		= simple_lookup,
	.create		= dir_create,
	.tmpfile	= dir_tmpfile,
	.mknod		= dir_mknod,
	.mkdir		= dir_mkdir,
	.symlink	= dir_symlink,
	.link		= dir_link,
	.unlink		= dir_unlink,
	.rmdir		= dir_rmdir,
	.rename		= dir_rename,
	.setattr	= cowmem_setattr,
	.getattr	= cowmem_getattr,
	.listxattr	= cowmem_listxattr,
	.set_acl	= cowmem_set_acl,
};
