/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Taking memory back from snapshots where a write would fail without it.  See yield.c.
 */
#ifndef _COWMEM_YIELD_H
#define _COWMEM_YIELD_H

#include <linux/types.h>

struct cowmem_region;

bool cowmem_yield(struct cowmem_region *region, pgoff_t index, int err);

#endif /* _COWMEM_YIELD_H */
