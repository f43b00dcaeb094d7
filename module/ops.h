/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The operations of files and inodes
 *
 * A table names functions of many files, of higher layers than those that put the table in
 * its place.  So everybody may know the tables, but not what is in them.
 */
#ifndef _COWMEM_OPS_H
#define _COWMEM_OPS_H

#include <linux/fs.h>

/* In fops.c: regular files, and those of snapshots that may yield. */
extern const struct file_operations cowmem_file_fops;
extern const struct file_operations cowmem_expendable_fops;
/* In device.c. */
extern const struct file_operations cowmem_fops;
/* In inode.c: regular files without a name, and those of a mount. */
extern const struct inode_operations cowmem_inode_ops;
extern const struct inode_operations cowmem_mount_inode_ops;

#endif /* _COWMEM_OPS_H */
