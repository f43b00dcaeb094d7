/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Folios of more than one page, and the area that each is at home in.  See area.c.
 */
#ifndef _COWMEM_AREA_H
#define _COWMEM_AREA_H

#include <linux/mm.h>

#include "node.h"

struct cowmem_region;

/* The first index of the area of @folio, of which a page is at @index. */
static inline pgoff_t cowmem_folio_first(struct folio *folio, pgoff_t index)
{
	return round_down(index, folio_nr_pages(folio));
}

/* How many leaves the area of @folio has. */
static inline unsigned int cowmem_folio_leaves(struct folio *folio)
{
	return folio_nr_pages(folio) / COWMEM_NODE_SLOTS;
}

unsigned int cowmem_some_leaves(const struct cowmem_region *region, pgoff_t first,
				unsigned int max, struct cowmem_node **leaves, bool *shared);
void cowmem_home_leaves(const struct cowmem_region *region, pgoff_t index, struct folio *folio,
			struct cowmem_node **leaves, bool *shared);
u64 cowmem_home_slots(const struct cowmem_node *leaf, unsigned int nr, struct folio *folio);
bool cowmem_is_whole(struct cowmem_node *const *leaves, struct folio *folio);
bool cowmem_leaf_written(const struct cowmem_region *region, pgoff_t index);
bool cowmem_area_written(const struct cowmem_region *region, pgoff_t first);
void cowmem_area_grant(struct cowmem_region *region, struct cowmem_node **leaves,
		       pgoff_t first, struct folio *folio);
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
