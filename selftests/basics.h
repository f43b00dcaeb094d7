/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * must(), the size of a page, the clock, how much of a test to do, small files of the kernel.
 */
#ifndef _SELFTESTS_COWMEM_BASICS_H
#define _SELFTESTS_COWMEM_BASICS_H

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>

/* Guests may be slow; a test that hangs is still ended. */
#ifdef TEST_TIMEOUT_DEFAULT
#undef TEST_TIMEOUT_DEFAULT
#define TEST_TIMEOUT_DEFAULT 300
#endif

/*
 * For what a test needs to get going.  What the test is about is checked with the
 * EXPECT and ASSERT macros or with ksft_test_result().
 */
#define must(cond) do {							\
	if (!(cond)) {							\
		fprintf(stderr, "# %s:%d: needed: %s: %s\n", __FILE__,	\
			__LINE__, #cond, strerror(errno));		\
		exit(KSFT_FAIL);					\
	}								\
} while (0)

static inline size_t pgsz(void)
{
	static size_t size;

	if (!size)
		size = sysconf(_SC_PAGESIZE);
	return size;
}

/* Seconds, of a clock that only goes forward */
static inline double now(void)
{
	struct timespec ts;

	must(!clock_gettime(CLOCK_MONOTONIC, &ts));
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

/*
 * What is the more telling the longer it goes on, may be cut short: COWMEM_EFFORT
 * is the percentage of @n to do, by default all.  At least 1.
 */
static inline int effort(int n)
{
	const char *env = getenv("COWMEM_EFFORT");

	if (env)
		n = (long)n * atoi(env) / 100;
	return n > 1 ? n : 1;
}

/* Of @n random operations; COWMEM_OPS asks for a number of them. */
static inline int random_ops(int n)
{
	const char *env = getenv("COWMEM_OPS");

	return env ? atoi(env) : effort(n);
}

/* Read a file as a string; -1 with errno set if that fails. */
static inline int read_file(const char *path, char *buf, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t have = 0;
	ssize_t n = -1;

	if (fd < 0)
		return -1;
	while (have < size - 1 &&
	       (n = read(fd, buf + have, size - 1 - have)) > 0)
		have += n;
	close(fd);
	buf[have] = 0;
	return n < 0 ? -1 : (int)have;
}

/* Write a string to a file; -1 with errno set if that fails. */
static inline int write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t n = -1;

	if (fd >= 0) {
		n = write(fd, text, strlen(text));
		close(fd);
	}
	return n == (ssize_t)strlen(text) ? 0 : -1;
}

#endif /* _SELFTESTS_COWMEM_BASICS_H */
