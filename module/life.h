/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The life of a region, from its inode's first to its last moment.  See life.c.
 */
#ifndef _COWMEM_LIFE_H
#define _COWMEM_LIFE_H

#include <linux/fs.h>

#include "compat.h"

struct cowmem_region;

int cowmem_regions_init(void);
void cowmem_regions_exit(void);
struct inode *cowmem_alloc_inode(struct super_block *sb);
void cowmem_free_inode(struct inode *inode);
void cowmem_evict_inode(struct inode *inode);
struct inode *cowmem_new_inode(struct super_block *sb);
void cowmem_region_init(struct inode *inode);
struct cowmem_region *cowmem_region_create(struct super_block *sb,
					   struct mnt_idmap *idmap, umode_t mode);
void cowmem_region_drop_spares(struct cowmem_region *region);
void cowmem_region_idle(struct cowmem_region *region);
void cowmem_region_times(struct cowmem_region *region);

#endif /* _COWMEM_LIFE_H */
