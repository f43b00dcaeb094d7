/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Folios that the core maps by a PMD.  See pmd.c.
 */
#ifndef _COWMEM_PMD_H
#define _COWMEM_PMD_H

#include <linux/types.h>

struct cowmem_region;
struct folio;

void cowmem_pmd_give(struct cowmem_region *region, pgoff_t index, struct folio *folio);
void cowmem_pmd_barrier(struct cowmem_region *region, pgoff_t first, pgoff_t end);

#endif /* _COWMEM_PMD_H */
