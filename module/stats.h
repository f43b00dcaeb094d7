/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What is told about a region.  See stats.c.
 */
#ifndef _COWMEM_STATS_H
#define _COWMEM_STATS_H

#include <linux/types.h>

struct cowmem_call;
struct cowmem_region;
struct file;
struct seq_file;

int cowmem_info(struct cowmem_call *call);
void cowmem_show_fdinfo(struct seq_file *m, struct file *file);
u64 cowmem_region_blocks(struct cowmem_region *region);

#endif /* _COWMEM_STATS_H */
