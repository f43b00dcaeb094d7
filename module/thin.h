/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Folios of which little is left.  See thin.c.
 */
#ifndef _COWMEM_THIN_H
#define _COWMEM_THIN_H

#include <linux/types.h>

struct cowmem_region;

void cowmem_area_thin(struct cowmem_region *region, pgoff_t index);

#endif /* _COWMEM_THIN_H */
