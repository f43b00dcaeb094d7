/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Locking regions.  For the order of locks see "Locks" in region.h.
 */
#ifndef _COWMEM_LOCK_H
#define _COWMEM_LOCK_H

#include <linux/types.h>

struct cowmem_region;

int cowmem_lock(struct cowmem_region *region, bool write);
void cowmem_unlock(struct cowmem_region *region, bool write);
int cowmem_lock_two(struct cowmem_region *a, struct cowmem_region *b, bool write);
void cowmem_unlock_two(struct cowmem_region *a, struct cowmem_region *b, bool write);
int cowmem_lock_with_writers(struct cowmem_region *region);
void cowmem_unlock_with_writers(struct cowmem_region *region);

#endif /* _COWMEM_LOCK_H */
