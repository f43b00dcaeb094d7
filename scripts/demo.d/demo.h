/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the two parts of the demo say in the same way
 */
#ifndef _DEMO_H
#define _DEMO_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static unsigned long now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000UL + t.tv_nsec;
}

static double ms(unsigned long ns)
{
	return ns / 1e6;
}

static double mib(unsigned long bytes)
{
	return bytes / 1048576.0;
}

static void check(bool ok, const char *what)
{
	printf("    %-58s %s\n", what, ok ? "yes" : "NO");
	if (!ok)
		exit(1);
}

#endif /* _DEMO_H */
