/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Putting PTEs into page tables and taking them out.  See map.c.
 */
#ifndef _COWMEM_MAP_H
#define _COWMEM_MAP_H

#include <linux/types.h>

struct cowmem_region;
struct cowmem_tree;
struct page;
struct vm_area_struct;
struct vm_fault;

/* Unmap at most this much before looking for a fatal signal. */
#define COWMEM_UNMAP_BATCH	16384

void cowmem_use_page_table(struct vm_fault *vmf);
int cowmem_map_readonly(struct vm_area_struct *vma, pgoff_t index,
			struct page **pages, unsigned long nr);
int cowmem_map_writable(struct vm_area_struct *vma, pgoff_t index,
			struct page **pages, unsigned long nr);
void cowmem_unmap(struct cowmem_region *region, pgoff_t first, pgoff_t end,
		  bool even_cows);
void cowmem_unmap_here(struct vm_area_struct *vma, pgoff_t first, pgoff_t end);
int cowmem_unmap_difference(struct cowmem_region *region,
			    const struct cowmem_tree *tree, pgoff_t first,
			    pgoff_t end, u64 *pages, u64 *nodes);

#endif /* _COWMEM_MAP_H */
