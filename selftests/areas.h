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

/* Why a test is not for here that has @n areas in memory at once, or NULL */
static inline const char *no_areas(int n)
{
	static char why[128];
	int fd = region();
	bool can = info(fd).features & COWMEM_FEATURE_HUGE;

	close(fd);
	if (!can)
		return "the module has no COWMEM_FEATURE_HUGE here";
	/*
	 * Others have some of the memory, and pieces of the rest: where an area is 512 MiB, of
	 * every third.
	 */
	if (sysconf(_SC_PHYS_PAGES) > (n + n / 2 + 4) * AREA)
		return NULL;
	snprintf(why, sizeof(why), "%d areas of %ld MiB are more than there is memory", n,
		 AREA_MIB);
	return why;
}

/* The same for as many as any test has, or for one that looks at all of its memory often. */
static inline const char *no_huge_pages(void)
{
	return no_areas(16);
}

#endif /* _SELFTESTS_COWMEM_AREAS_H */
