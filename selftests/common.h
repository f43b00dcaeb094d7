/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What every test of cowmem needs.  Include it after kselftest.h or kselftest_harness.h.
 * What only some tests need they include themselves:
 *
 *	areas.h		what a PMD maps as a whole
 *	cgroups.h	memory cgroups
 *	files.h		files and descriptors, users, what inotify saw, sizes of mounts
 *	frames.h	what the kernel tells about mapped pages
 *	live.h		programs that read and write a region while a test works on it
 *	module.h	the module's parameters and counters
 *	outcome.h	what came of an operation, as text to compare
 *	poison.h	memory that breaks
 *	shadow.h	a region beside an array that says what is in it
 */
#ifndef _SELFTESTS_COWMEM_COMMON_H
#define _SELFTESTS_COWMEM_COMMON_H

#include "basics.h"	/* must(), the clock, how much to do */
#include "random.h"	/* random numbers that can be replayed */
#include "pages.h"	/* content that is told apart */
#include "regions.h"	/* the module's calls, mappings, what a region holds */
#include "faults.h"	/* accesses whose signals are caught */
#include "processes.h"	/* children, and waiting for each other */

#endif /* _SELFTESTS_COWMEM_COMMON_H */
