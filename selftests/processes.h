/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Children, what they share with their parent, and waiting for each other.
 */
#ifndef _SELFTESTS_COWMEM_PROCESSES_H
#define _SELFTESTS_COWMEM_PROCESSES_H

#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include "basics.h"

/* Wait for a child: its exit status, or 128 + the signal that ended it. */
static inline int reap(pid_t pid)
{
	int status;

	must(waitpid(pid, &status, 0) == pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* fork(), but no child outlives its parent, and no output is doubled. */
static inline pid_t spawn(void)
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	must(pid >= 0);
	if (!pid)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	return pid;
}

/*
 * Run the statements in a child and yield its exit status: 0 unless one of
 * them calls _exit(), 128 + signal if it dies of one.
 */
#define in_child(...) ({						\
	pid_t __pid = spawn();						\
									\
	if (!__pid) {							\
		__VA_ARGS__;						\
		_exit(0);						\
	}								\
	reap(__pid);							\
})

/* A user and group without any rights */
enum { NOBODY = 65534 };

static inline void become_nobody(void)
{
	must(!setgroups(0, NULL));
	must(!setresgid(NOBODY, NOBODY, NOBODY));
	must(!setresuid(NOBODY, NOBODY, NOBODY));
	/* Or /proc/self would be root's. */
	must(!prctl(PR_SET_DUMPABLE, 1));
}

/* Memory that children share, for flags and counters; zeroed. */
static inline void *shared_mem(size_t size)
{
	void *mem = mmap(NULL, size, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	must(mem != MAP_FAILED);
	return mem;
}

static inline void put(int *flag, int val)
{
	__atomic_store_n(flag, val, __ATOMIC_RELEASE);
}

static inline int get(int *flag)
{
	return __atomic_load_n(flag, __ATOMIC_ACQUIRE);
}

/* The harness ends a test that waits for ever. */
static inline void await(int *flag, int val)
{
	while (get(flag) < val)
		sched_yield();
}

/* The same for long counts. */
static inline void await_count(const uint64_t *count, uint64_t n)
{
	while (__atomic_load_n(count, __ATOMIC_ACQUIRE) < n)
		usleep(1000);
}

/* For threads that keep the CPUs busy: the test itself is to get one soon. */
static inline void yield_to_main(void)
{
	must(!setpriority(PRIO_PROCESS, 0, 10));
}

static inline int count_fds(void)
{
	int fd, n = 0;

	for (fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) != -1;
	return n;
}

/* Read all of @want bytes from a pipe. */
static inline bool drain(int fd, char *buf, size_t want)
{
	size_t have = 0;
	ssize_t n;

	while (have < want && (n = read(fd, buf + have, want - have)) > 0)
		have += n;
	return have == want;
}

#endif /* _SELFTESTS_COWMEM_PROCESSES_H */
