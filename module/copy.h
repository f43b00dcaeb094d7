/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * COWMEM_IOC_COPY, and what reflinks share with it.
 */
#ifndef _COWMEM_COPY_H
#define _COWMEM_COPY_H

#include <linux/types.h>

struct cowmem_call;
struct cowmem_region;
struct cowmem_restore;
struct file;

int cowmem_copy_range(struct cowmem_region *region, u64 dst,
		      struct cowmem_region *from, u64 src, u64 length,
		      struct cowmem_restore *restore);
int cowmem_copy(struct cowmem_call *call);
loff_t cowmem_remap_file_range(struct file *file_in, loff_t pos_in,
			       struct file *file_out, loff_t pos_out, loff_t len,
			       unsigned int remap_flags);

#endif /* _COWMEM_COPY_H */
