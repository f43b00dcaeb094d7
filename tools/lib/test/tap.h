/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * What the tests of libcowmem share: each case is a function that returns if it is well, and ends the process if not.
 *
 * Each case runs in a process of its own, so that a crash is one failed case, and what it leaves open is not the next
 * one's. It fails too if it ends with more descriptors than it began with. With TAP_NO_FORK in the environment they run
 * in this process, for ThreadSanitizer, which hangs in threads of a child, and debuggers.
 */
#ifndef TAP_H
#define TAP_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libcowmem.h"

#define EXIT_SKIP	77

static inline void say(const char *file, int line, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
static inline void say(const char *file, int line, const char *fmt, ...)
{
	va_list args;

	printf("# %s:%d: ", file, line);
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	putchar('\n');
	fflush(stdout);
}

#define FAIL(...) do { say(__FILE__, __LINE__, __VA_ARGS__); _exit(1); } while (0)
#define SKIP(...) do { say(__FILE__, __LINE__, __VA_ARGS__); _exit(EXIT_SKIP); } while (0)

/* It is true. */
#define CHECK(cond) do {								\
	if (!(cond))									\
		FAIL("%s (errno: %s)", #cond, strerror(errno));				\
} while (0)

/* Two integers are equal. */
#define EQUAL(a, b) do {								\
	long long a_ = (a), b_ = (b);							\
	if (a_ != b_)									\
		FAIL("%s is %lld, not %lld (errno: %s)", #a, a_, b_, strerror(errno));	\
} while (0)

/* The call returns -1 and sets errno to this. */
#define ERRNO(call, error) do {								\
	long ret_ = (errno = 0, (long)(call));						\
	if (ret_ != -1)									\
		FAIL("%s returned %ld", #call, ret_);					\
	if (errno != (error))								\
		FAIL("%s: %s, not %s", #call, strerror(errno), strerror(error));	\
} while (0)

/* Valgrind has descriptors of its own, and limits. */
static inline void want_limits(void)
{
	if (getenv("TAP_VALGRIND"))
		SKIP("limits of descriptors: not under valgrind");
}

struct test {
	const char *name;
	void (*run)(void);
};

static inline uint64_t page_size(void)
{
	return sysconf(_SC_PAGESIZE);
}

/* How often something random is done: all the time that there is, or as many per cent as COWMEM_EFFORT says. */
static inline unsigned int effort(unsigned int most)
{
	const char *per_cent = getenv("COWMEM_EFFORT");

	return per_cent ? most * atoi(per_cent) / 100 : most;
}

static inline int count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int nr = 0;

	CHECK(dir);
	while (readdir(dir))
		nr++;
	closedir(dir);
	return nr;
}

/* A child that does not outlive a case that fails: it would keep the output open. */
static inline pid_t child(void)
{
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (!pid)
		CHECK(!prctl(PR_SET_PDEATHSIG, SIGKILL));
	return pid;
}

/* A new region that has to be there. */
static inline int make(uint64_t size)
{
	int fd = cowmem_create("test", size, 0);

	CHECK(fd >= 0);
	return fd;
}

static inline void put(int fd, uint64_t offset, char byte)
{
	EQUAL(pwrite(fd, &byte, 1, offset), 1);
}

static inline int get(int fd, uint64_t offset)
{
	char byte;

	EQUAL(pread(fd, &byte, 1, offset), 1);
	return byte;
}

static inline void run_here(const struct test *test)
{
	int fds = count_fds();

	test->run();
	if (count_fds() != fds)
		FAIL("%d descriptors more than before", count_fds() - fds);
}

static inline int run_one(const struct test *test)
{
	int status;
	pid_t pid;

	fflush(stdout);
	if (getenv("TAP_NO_FORK")) {
		run_here(test);
		return 0;
	}
	pid = fork();
	if (!pid) {
		run_here(test);
		exit(0);
	}
	if (pid == -1 || waitpid(pid, &status, 0) == -1)
		return -1;
	if (WIFSIGNALED(status))
		say(__FILE__, __LINE__, "killed by signal %d", WTERMSIG(status));
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/*
 * Can threads wait for each other? Those of a 32-bit program cannot on a kernel without CONFIG_COMPAT_32BIT_TIME, where
 * the C library gives up.
 */
static inline bool has_futex(void)
{
#ifdef SYS_futex
	int word = 0;

	return syscall(SYS_futex, &word, 1 /* FUTEX_WAKE */, 1, NULL, NULL, 0) >= 0 || errno != ENOSYS;
#else
	return true;
#endif
}

/* All of them, or those that the arguments name. */
static inline int run_tests(const struct test *tests, int argc, char **argv)
{
	unsigned int nr = 0;
	int failed = 0, i;

	if (!has_futex()) {
		printf("ok 1 all # SKIP no futex() for programs of this kind\n1..1\n");
		return 0;
	}
	for (; tests->name; tests++) {
		for (i = 1; i < argc && strcmp(argv[i], tests->name); i++)
			;
		if (argc > 1 && i == argc)
			continue;
		switch (run_one(tests)) {
		case 0:
			printf("ok %u %s\n", ++nr, tests->name);
			break;
		case EXIT_SKIP:
			printf("ok %u %s # SKIP see above\n", ++nr, tests->name);
			break;
		default:
			printf("not ok %u %s\n", ++nr, tests->name);
			failed = 1;
		}
	}
	printf("1..%u\n", nr);
	return failed;
}

#endif
