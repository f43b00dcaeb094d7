/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Directories of a mount.  See dir.c.
 */
#ifndef _COWMEM_DIR_H
#define _COWMEM_DIR_H

#include <linux/types.h>

struct inode;
struct super_block;

struct inode *cowmem_dir_root(struct super_block *sb, umode_t mode);

#endif /* _COWMEM_DIR_H */
