/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The files of a region.  See file.c.
 */
#ifndef _COWMEM_FILE_H
#define _COWMEM_FILE_H

#include <linux/fs.h>

struct cowmem_call;
struct cowmem_region;

void cowmem_file_init(struct file *file, struct cowmem_region *region);
struct file *cowmem_another_file(struct file *of, const char *name, u32 flags);
struct file *cowmem_clone_file(struct file *of, int flags);
int cowmem_file_expendable(struct file *file);
struct file *cowmem_region_fget(int fd, fmode_t mode);
bool cowmem_mmap_grows(const struct file *file);
void cowmem_accessed(struct file *file);
int cowmem_remove_privs(struct file *file);
int cowmem_remove_privs_now(struct file *file);
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
