/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Backing an area by one folio: whether to, and doing it.  See huge.c.
 */
#ifndef _COWMEM_HUGE_H
#define _COWMEM_HUGE_H

#include <linux/types.h>

#include "region.h"

/**
 * enum cowmem_huge - when an empty area is backed by one folio
 * @COWMEM_HUGE_NEVER: never.
 * @COWMEM_HUGE_ADVISE: when it is written through a mapping with MADV_HUGEPAGE, or by a
 *	writer who wrote all of the area before it.
 * @COWMEM_HUGE_ALWAYS: when it is written.
 */
enum cowmem_huge {
	COWMEM_HUGE_NEVER,
	COWMEM_HUGE_ADVISE,
	COWMEM_HUGE_ALWAYS,
};

extern const char *const cowmem_huge_names[COWMEM_HUGE_ALWAYS + 1];

enum cowmem_huge cowmem_huge_default(void);
enum cowmem_huge cowmem_region_huge(const struct cowmem_region *region);
void cowmem_want_huge(struct cowmem_region *region);
bool cowmem_can_huge(void);
bool cowmem_huge_wanted(struct cowmem_region *region, pgoff_t index,
			enum cowmem_writer by, const struct vm_fault *vmf);
int cowmem_make_huge(struct cowmem_region *region, pgoff_t index,
		     enum cowmem_writer by, const struct vm_fault *vmf);

#endif /* _COWMEM_HUGE_H */
