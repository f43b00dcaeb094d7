/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Areas, which a PMD maps as a whole: how large one is, and why there may be none.
 */
#ifndef _SELFTESTS_COWMEM_AREAS_H
#define _SELFTESTS_COWMEM_AREAS_H

#include "regions.h"

/* Pages of an area, which a PMD maps: as many as there are entries in a page. */
#define AREA ((int)(pgsz() / 8))
#define AREA_MIB ((long)(AREA * pgsz() >> 20))

/* The tests have so many in memory at once. */
#define AREAS_AT_ONCE 16

/* Why there is nothing to be told about areas here, or NULL */
static inline const char *no_huge_pages(void)
{
	static char why[128];
	int fd = region();
	bool can = info(fd).features & COWMEM_FEATURE_HUGE;

	close(fd);
	if (!can)
		return "the module has no COWMEM_FEATURE_HUGE here";
	if (sysconf(_SC_PHYS_PAGES) > AREAS_AT_ONCE * AREA)
		return NULL;
	snprintf(why, sizeof(why), "%d areas of %ld MiB are more than there is memory",
		 AREAS_AT_ONCE, AREA_MIB);
	return why;
}

#endif /* _SELFTESTS_COWMEM_AREAS_H */
