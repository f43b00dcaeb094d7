/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The size of a region, and holes in it.  See size.c.
 */
#ifndef _COWMEM_SIZE_H
#define _COWMEM_SIZE_H

#include <linux/types.h>

struct cowmem_call;
struct cowmem_region;

void cowmem_region_grow(struct cowmem_region *region, loff_t size);
int cowmem_region_resize(struct cowmem_region *region, loff_t size);
int cowmem_region_discard(struct cowmem_region *region, u64 from, u64 to,
			  bool inside);
int cowmem_region_discard_past_end(struct cowmem_region *region, u64 from, u64 to);
int cowmem_resize(struct cowmem_call *call);
int cowmem_discard(struct cowmem_call *call);

#endif /* _COWMEM_SIZE_H */
