// SPDX-License-Identifier: GPL-2.0-only
/*
 * Attributes of inodes: chmod(), chown(), truncate(), stat()
 */
#include <linux/fs.h>
#include <linux/pagemap.h>
#include <linux/posix_acl.h>

#include "file.h"
#include "inode.h"
#include "life.h"
#include "ops.h"
#include "page.h"
#include "region.h"
#include "size.h"
#include "stats.h"
#include "xattr.h"

/*
 * truncate() to the present size drops what was allocated past the end.  As on tmpfs, this
 * counts as a change unless the file holds nothing at all.
 */
static int drop_past_end(struct cowmem_region *region)
{
	/* An empty region has no nodes. */
	if ((region->seals & COWMEM_WRITE_SEALS) || !READ_ONCE(region->tree.root))
		return 0;
	return cowmem_region_discard_past_end(region, cowmem_region_size(region), 1ULL << 63);
}

/* truncate().  Under i_rwsem. */
static int set_size(struct cowmem_region *region, loff_t size)
{
	int err;

	if (size == cowmem_region_size(region))
		return drop_past_end(region);
	err = down_write_killable(&region->lock);
	if (err)
		return err;
	err = cowmem_region_resize(region, size);
	up_write(&region->lock);
	return err;
}

/**
 * cowmem_setattr - ->setattr of all inodes
 * @idmap: of the mount
 * @dentry: of the inode
 * @attr: what to set
 *
 * Context: may sleep; under i_rwsem.
 * Return: 0 or a negative errno.
 */
int cowmem_setattr(struct mnt_idmap *idmap, struct dentry *dentry,
		   struct iattr *attr)
{
	struct inode *inode = d_inode(dentry);
	struct cowmem_region *region = cowmem_region_of(inode);
	int err;

	err = setattr_prepare(idmap, dentry, attr);
	if (err)
		return err;
	if (attr->ia_valid & ATTR_SIZE) {
		if (cowmem_is_view(dentry))
			return -EACCES;
		err = set_size(region, attr->ia_size);
		if (err)
			return cowmem_user_error(err);
	}
	cowmem_region_times(region);
	setattr_copy(idmap, inode, attr);
	/* Symbolic links have no lists. */
	if ((attr->ia_valid & ATTR_MODE) && inode->i_op->set_acl)
		return cowmem_acl_chmod(idmap, dentry, inode->i_mode);
	return 0;
}

/**
 * cowmem_getattr - ->getattr of all inodes
 * @idmap: of the mount
 * @path: of the inode
 * @stat: where to store the attributes
 * @mask: which ones are asked for, STATX_*
 * @flags: AT_STATX_*
 *
 * Context: may sleep.
 * Return: 0.
 */
int cowmem_getattr(struct mnt_idmap *idmap, const struct path *path,
		   struct kstat *stat, u32 mask, unsigned int flags)
{
	struct inode *inode = d_inode(path->dentry);
	struct cowmem_region *region = cowmem_region_of(inode);

	cowmem_region_times(region);
	cowmem_fillattr(idmap, mask, inode, stat);
	/* It has no name, whatever i_nlink says: see nameless_d_iput(). */
	if (!cowmem_region_account(region))
		stat->nlink = 0;
	if ((mask & STATX_BLOCKS) && S_ISREG(inode->i_mode))
		stat->blocks = cowmem_region_blocks(region);
	stat->btime = region->born;
	stat->result_mask |= STATX_BTIME;
	return 0;
}

const struct inode_operations cowmem_inode_ops = {
	.setattr	= cowmem_setattr,
	.getattr	= cowmem_getattr,
};

const struct inode_operations cowmem_mount_inode_ops = {
	.setattr	= cowmem_setattr,
	.getattr	= cowmem_getattr,
	.listxattr	= cowmem_listxattr,
	.set_acl	= cowmem_set_acl,
};
