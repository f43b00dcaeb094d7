/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The files of a region.  See file.c.
 */
#ifndef _COWMEM_FILE_H
#define _COWMEM_FILE_H

#include <linux/fs.h>

#include "compat.h"

struct cowmem_call;
struct cowmem_region;

extern const struct file_operations cowmem_fops;
extern const struct file_operations cowmem_file_fops;
extern const struct file_operations cowmem_expendable_fops;
extern const struct inode_operations cowmem_inode_ops;
extern const struct inode_operations cowmem_mount_inode_ops;
extern const struct dentry_operations cowmem_dentry_ops;

struct file *cowmem_clone_file(struct file *of, int flags);
struct file *cowmem_region_fget(int fd, fmode_t mode);
bool cowmem_mmap_grows(const struct file *file);
void cowmem_accessed(struct file *file);
int cowmem_remove_privs(struct file *file);
int cowmem_remove_privs_now(struct file *file);
int cowmem_setattr(struct mnt_idmap *idmap, struct dentry *dentry,
		   struct iattr *attr);
int cowmem_getattr(struct mnt_idmap *idmap, const struct path *path,
		   struct kstat *stat, u32 mask, unsigned int flags);
int cowmem_file(struct cowmem_call *call);

/*
 * Is this a dentry that nobody may open for writing (COWMEM_FILE_VIEW)?  That is set before
 * anybody else has the dentry.
 */
static inline bool cowmem_is_view(const struct dentry *dentry)
{
	return dentry->d_fsdata;
}

#endif /* _COWMEM_FILE_H */
