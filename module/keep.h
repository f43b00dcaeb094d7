/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * RESTORE that keeps pages.  See keep.c.
 */
#ifndef _COWMEM_KEEP_H
#define _COWMEM_KEEP_H

#include <linux/types.h>

struct cowmem_region;
struct cowmem_restore;
struct cowmem_share;

bool cowmem_may_keep(struct cowmem_region *region, const struct cowmem_share *from,
		     struct cowmem_restore *args, bool *look_for_cold);
void cowmem_keep(struct cowmem_region *region, const struct cowmem_share *from,
		 struct cowmem_restore *args, bool look_for_cold);

#endif /* _COWMEM_KEEP_H */
