/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Finding pages, to read them or to map them read-only.  See peek.c.
 */
#ifndef _COWMEM_PEEK_H
#define _COWMEM_PEEK_H

#include <linux/types.h>

struct cowmem_node;
struct cowmem_region;
struct page;

struct page *cowmem_get_page(struct cowmem_region *region, pgoff_t index);
struct page *cowmem_peek(struct cowmem_region *region, pgoff_t index);
int cowmem_find(struct cowmem_region *region, pgoff_t *index, bool data, pgoff_t end);
int cowmem_pages_to_map(struct cowmem_region *region, struct cowmem_node *leaf,
			pgoff_t index, unsigned int nr, struct page **pages);

#endif /* _COWMEM_PEEK_H */
