/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Attributes of inodes.  See inode.c.
 */
#ifndef _COWMEM_INODE_H
#define _COWMEM_INODE_H

#include <linux/fs.h>

#include "compat.h"

int cowmem_setattr(struct mnt_idmap *idmap, struct dentry *dentry,
		   struct iattr *attr);
int cowmem_getattr(struct mnt_idmap *idmap, const struct path *path,
		   struct kstat *stat, u32 mask, unsigned int flags);

#endif /* _COWMEM_INODE_H */
