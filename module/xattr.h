/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Extended attributes of a mount's inodes, access control lists among them.  See xattr.c.
 */
#ifndef _COWMEM_XATTR_H
#define _COWMEM_XATTR_H

#include <linux/fs.h>

#include "compat.h"

struct xattr;

void cowmem_xattr_init(struct super_block *sb);
void cowmem_xattrs_free(struct inode *inode);
int cowmem_initxattrs(struct inode *inode, const struct xattr *attrs, void *unused);
ssize_t cowmem_listxattr(struct dentry *dentry, char *buffer, size_t size);
#ifdef CONFIG_FS_POSIX_ACL
int cowmem_set_acl(struct mnt_idmap *idmap, cowmem_acl_target_t *of,
		   struct posix_acl *acl, int type);
int cowmem_acl_create(struct inode *dir, struct inode *inode);
void cowmem_acls_free(struct inode *inode);
#else
#define cowmem_set_acl NULL
static inline int cowmem_acl_create(struct inode *dir, struct inode *inode)
{
	return 0;
}

static inline void cowmem_acls_free(struct inode *inode)
{
}
#endif

#endif /* _COWMEM_XATTR_H */
