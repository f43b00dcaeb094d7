/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Pages of blocks, for streams of writes.  See block.c.
 */
#ifndef _COWMEM_BLOCK_H
#define _COWMEM_BLOCK_H

#include <linux/types.h>

struct cowmem_node;
struct cowmem_region;
struct page;

struct page *cowmem_block_page(struct cowmem_region *region, pgoff_t index, bool zero);
void cowmem_block_page_back(struct cowmem_region *region, pgoff_t index, struct page *page);
void cowmem_block_page_set(struct cowmem_region *region, struct cowmem_node *leaf,
			   pgoff_t index, struct page *page);

#endif /* _COWMEM_BLOCK_H */
