/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The module as a whole: its parameters, what all regions hold together, its uses.
 */
#ifndef _SELFTESTS_COWMEM_MODULE_H
#define _SELFTESTS_COWMEM_MODULE_H

#include "basics.h"

#define PARAMETERS "/sys/module/cowmem/parameters/"
#define LIMIT PARAMETERS "limit_mib"
#define HUGE PARAMETERS "huge"
#define HELD PARAMETERS "held_kib"

static pid_t small_pages_main;

static void any_pages_again(void)
{
	if (getpid() == small_pages_main)
		write_file(HUGE, "advise");
}

/* For a program that counts pages of 4 KiB: there are no others until it ends. */
static inline void only_small_pages(void)
{
	small_pages_main = getpid();
	must(!write_file(HUGE, "never"));
	atexit(any_pages_again);
}

/* Let all regions hold so many MiB together; 0 is no limit. */
static inline int set_limit(long mib)
{
	char text[32];

	snprintf(text, sizeof(text), "%ld", mib);
	return write_file(LIMIT, text);
}

/* What all regions hold together, in KiB. */
static inline long held(void)
{
	char buf[32];

	must(read_file(HELD, buf, sizeof(buf)) > 0);
	return atol(buf);
}

/* Memory comes back with a delay: does it all, but for @kib? */
static inline bool held_comes_down_to(long kib)
{
	int i;

	for (i = 0; i < 300 && held() > kib; i++)
		usleep(100000);
	if (held() <= kib)
		return true;
	fprintf(stderr, "# held_kib is %ld, not %ld\n", held(), kib);
	return false;
}

/* How often the module is used, or -1. */
static inline int module_uses(void)
{
	static char buf[1 << 16];
	char *line;
	int uses;

	if (read_file("/proc/modules", buf, sizeof(buf)) < 0)
		return -1;
	line = strstr(buf, "cowmem ");
	if (!line || sscanf(line, "cowmem %*u %d", &uses) != 1)
		return -1;
	return uses;
}

/* Files are released a little after the call that closed them. */
static inline bool uses_fall_to(int uses)
{
	int i;

	for (i = 0; i < 100; i++) {
		if (module_uses() == uses)
			return true;
		usleep(50000);
	}
	fprintf(stderr, "# the module is used %d times, not %d\n", module_uses(), uses);
	return false;
}

/* 0 or errno */
static inline int unloading(void)
{
	return syscall(SYS_delete_module, "cowmem", O_NONBLOCK) ? errno : 0;
}

#endif /* _SELFTESTS_COWMEM_MODULE_H */
