/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Accesses to memory whose signals are caught.
 */
#ifndef _SELFTESTS_COWMEM_FAULTS_H
#define _SELFTESTS_COWMEM_FAULTS_H

#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include "basics.h"

static sigjmp_buf fault_env;

static inline void fault_handler(int sig)
{
	siglongjmp(fault_env, sig);
}

/* Read a byte, write it or @c, or both; return the signal that came, or 0. */
static inline int access_byte(volatile char *p, bool read, bool write, char c)
{
	struct sigaction act = { .sa_handler = fault_handler }, bus, segv;
	int sig;

	must(!sigaction(SIGBUS, &act, &bus));
	must(!sigaction(SIGSEGV, &act, &segv));
	sig = sigsetjmp(fault_env, 1);
	if (!sig) {
		if (read)
			c = *p;
		if (write)
			*p = c;
	}
	must(!sigaction(SIGBUS, &bus, NULL));
	must(!sigaction(SIGSEGV, &segv, NULL));
	return sig;
}

/* Read (and write back) a byte; return the signal that came, or 0. */
static inline int touch(volatile char *p, bool write)
{
	return access_byte(p, true, write, 0);
}

/* Write a byte without reading it first; return the signal that came, or 0. */
static inline int poke(volatile char *p, char c)
{
	return access_byte(p, false, true, c);
}

/*
 * How many faults this process has taken.  The first store of the answer may take one
 * itself, so that is not counted.
 */
static inline long faults_taken(void)
{
	static struct rusage usage;

	must(!getrusage(RUSAGE_SELF, &usage));
	must(!getrusage(RUSAGE_SELF, &usage));
	return usage.ru_minflt + usage.ru_majflt;
}

/*
 * Does the processor note by itself which pages are written?  Older ones of arm64 do not: there
 * the first store to a page that is clean takes a fault, which the kernel's core answers alone.
 */
static inline bool dirty_by_hardware(void)
{
	int fd = memfd_create("dirty", 0);
	volatile char *mem;
	long before;

	must(fd >= 0 && !ftruncate(fd, pgsz()));
	mem = mmap(NULL, pgsz(), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	must(mem != MAP_FAILED && !*mem);
	before = faults_taken();
	*mem = 1;
	before = faults_taken() - before;
	munmap((char *)mem, pgsz());
	close(fd);
	return !before;
}

#endif /* _SELFTESTS_COWMEM_FAULTS_H */
