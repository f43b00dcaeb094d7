/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Folios of more than one page, and the area that one is at home in.  See area.c.
 */
#ifndef _COWMEM_AREA_H
#define _COWMEM_AREA_H

#include <linux/types.h>

struct cowmem_node;
struct cowmem_region;
struct folio;
struct page;

unsigned int cowmem_large_pages(const struct cowmem_region *region, pgoff_t index);
unsigned long cowmem_area_held(struct cowmem_region *region, pgoff_t index,
			       struct page *page);
bool cowmem_area_exclusive(struct cowmem_region *region, pgoff_t index, struct page *page);
bool cowmem_area_reuse(struct cowmem_region *region, pgoff_t index, struct page *page,
		       int mine);
unsigned long cowmem_area_revoke(struct cowmem_region *region, pgoff_t index);
struct folio *cowmem_area_folio(struct cowmem_region *region,
				const struct cowmem_node *leaf, pgoff_t index, bool granted);

#endif /* _COWMEM_AREA_H */
