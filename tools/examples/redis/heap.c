// SPDX-License-Identifier: GPL-2.0-only
/*
 * libcowmem-redis.so, to be preloaded: fork() without the pause
 *
 * fork() copies the page tables of all memory, and nobody is served meanwhile. Here what the main thread allocates,
 * with jemalloc, lies in a region of cowmem that fork() passes over. A clone of the region is made instead, which takes
 * time for what was written since the last one, and the child maps it where its parent has the region.
 *
 * Memory that other threads allocate is ordinary memory, and fork() does with it what it always did.
 */
#include <aliases.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <libcowmem.h>

#include "heap.h"

#define ALIGN	(2UL << 20)

static int region = -1;
static char *heap;
static size_t heap_size;

/* ---- what jemalloc asks for: heap_size bytes, from the first on; it keeps and uses again what it got ---- */

static size_t used;
static pthread_mutex_t used_lock = PTHREAD_MUTEX_INITIALIZER;

static bool in_heap(const void *addr)
{
	return (const char *)addr >= heap && (const char *)addr < heap + heap_size;
}

static void *from_heap(size_t size, size_t align)
{
	void *addr = NULL;
	size_t start;

	pthread_mutex_lock(&used_lock);
	start = (used + align - 1) & -align;
	if (start <= heap_size && size <= heap_size - start) {
		addr = heap + start;
		used = start + size;
	}
	pthread_mutex_unlock(&used_lock);
	return addr;
}

/* Once the region is full: ordinary memory, which fork() copies as ever. */
static void *from_kernel(size_t size, size_t align)
{
	char *addr = mmap(NULL, size + align, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *start;

	if (addr == MAP_FAILED)
		return NULL;
	start = (char *)(((uintptr_t)addr + align - 1) & -align);
	if (start > addr)
		munmap(addr, start - addr);
	munmap(start + size, addr + align - start);
	return start;
}

static void *hook_alloc(extent_hooks_t *hooks, void *want, size_t size, size_t align, bool *zero, bool *commit,
			unsigned int arena)
{
	void *addr;

	(void)hooks;
	(void)arena;
	if (want)
		return NULL;
	addr = from_heap(size, align);
	if (!addr)
		addr = from_kernel(size, align);
	*zero = *commit = true;
	return addr;
}

/* Give memory back, which reads as zero then. Return: did that fail? */
static bool hook_purge(extent_hooks_t *hooks, void *addr, size_t size, size_t offset, size_t length,
		       unsigned int arena)
{
	char *start = (char *)addr + offset;

	(void)hooks, (void)size, (void)arena;
	if (!in_heap(addr))
		return madvise(start, length, MADV_DONTNEED);
	return cowmem_discard(region, start - heap, length);
}

static bool hook_split(extent_hooks_t *hooks, void *addr, size_t size, size_t size_a, size_t size_b, bool committed,
		       unsigned int arena)
{
	(void)hooks, (void)addr, (void)size, (void)size_a, (void)size_b, (void)committed, (void)arena;
	return false;
}

/* What is purged at once has to be of one kind. */
static bool hook_merge(extent_hooks_t *hooks, void *addr_a, size_t size_a, void *addr_b, size_t size_b,
		       bool committed, unsigned int arena)
{
	(void)hooks, (void)size_a, (void)size_b, (void)committed, (void)arena;
	return in_heap(addr_a) != in_heap(addr_b);
}

static extent_hooks_t hooks = {
	.alloc = hook_alloc,
	.purge_forced = hook_purge,
	.split = hook_split,
	.merge = hook_merge,
};

/* ---- ahead of time ---- */

/*
 * A clone takes time for each page that was made writable since the one before. So a thread makes clones, and closes
 * them, before these have become many: as the last holder of its pages the region writes them in place again, which is
 * a page fault for each and no copy. How many there are tell the faults.
 */
#define ENOUGH	512	/* faults */
#define PAUSE	2000	/* us */
/* So many times as long as a clone took it makes none: who writes the same all the time has the faults. */
#define REST	4

static pthread_mutex_t cloning = PTHREAD_MUTEX_INITIALIZER;	/* not while fork() does */
static pid_t has_thread;	/* the process of which it is one */

static long faults(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_minflt;
}

static long now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000L + time.tv_nsec / 1000;
}

/* Return: how long that took, in us. */
static long clone_once(void)
{
	long start = now();
	int fd;

	pthread_mutex_lock(&cloning);
	fd = cowmem_clone(region, 0);
	if (fd >= 0)
		close(fd);
	pthread_mutex_unlock(&cloning);
	return now() - start;
}

static void *clone_ahead(void *unused)
{
	long before = faults();

	(void)unused;
	for (;;) {
		usleep(PAUSE);
		if (faults() - before < ENOUGH)
			continue;
		before = faults();
		usleep(REST * clone_once());
	}
	return NULL;
}

/* Without it, nothing is wrong but the time that fork() takes. */
static void start_thread(void)
{
	sigset_t all, was;
	pthread_t thread;

	has_thread = getpid();
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &was);
	if (!pthread_create(&thread, NULL, clone_ahead, NULL))
		pthread_detach(thread);
	pthread_sigmask(SIG_SETMASK, &was, NULL);
}

/* ---- fork ---- */

/*
 * From before a fork until it is done, of the thread that forks: the clone, or why there is none. The child looks at
 * them before it has a heap, so they must not be found by way of one, as other variables of threads may be.
 */
#define OF_THREAD	static __thread __attribute__((tls_model("initial-exec")))

OF_THREAD int clone_fd = -1;
OF_THREAD int clone_error;
OF_THREAD sigset_t signals;

/*
 * Runs last, when jemalloc has taken its locks: nobody is in the middle of changing what it knows of the heap. There
 * are no signals meanwhile, as a handler could need the heap when the child has none yet.
 */
static void before_fork(void)
{
	sigset_t all;

	clone_error = 0;
	if (region < 0)
		return;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &signals);
	pthread_mutex_lock(&cloning);
	pthread_mutex_lock(&used_lock);
	clone_fd = cowmem_clone(region, 0);
	if (clone_fd < 0)
		clone_error = errno;
}

static void forked(void)
{
	clone_fd = -1;
	pthread_mutex_unlock(&used_lock);
	pthread_mutex_unlock(&cloning);
	pthread_sigmask(SIG_SETMASK, &signals, NULL);
}

static void after_fork(void)
{
	if (region < 0)
		return;
	if (clone_fd >= 0)
		close(clone_fd);
	forked();
}

static void die(const char *why)
{
	static const char name[] = "libcowmem-redis: the child has no memory: ";

	if (write(2, name, sizeof(name) - 1) < 0 || write(2, why, strlen(why)) < 0 || write(2, "\n", 1) < 0)
		_exit(98);
	_exit(99);
}

/*
 * Put a region where the heap is, not to be seen by what fork() makes. With huge pages the first clone is cheaper,
 * but one page that is written in 2 MiB costs the next clone more than one of 4 KiB does: with random writes to a heap
 * of 1 GiB a fork() took 5.4 ms instead of 1.8.
 */
static int place(int fd)
{
	if (mmap(heap, heap_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED)
		return -1;
	madvise(heap, heap_size, MADV_NOHUGEPAGE);	/* fails where there are none */
	return madvise(heap, heap_size, MADV_DONTFORK);
}

/* Runs first, before jemalloc looks at the heap, which is not there yet: so nothing here may allocate. */
static void in_child(void)
{
	if (region < 0)
		return;
	if (clone_fd < 0)
		die(cowmem_strerror(clone_error));
	if (place(clone_fd))
		die(cowmem_strerror(errno));
	close(region);
	region = clone_fd;
	forked();
}

/*
 * Whoever registers first is last before a fork and first after it. jemalloc registers before any constructor runs, so
 * its call is met here.
 */
int __register_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void), void *dso)
{
	static int (*real)(void (*)(void), void (*)(void), void (*)(void), void *);

	if (!real) {
		real = dlsym(RTLD_NEXT, "__register_atfork");
		if (real(before_fork, after_fork, in_child, NULL))
			return ENOMEM;
	}
	return real(prepare, parent, child, dso);
}

/*
 * Without a clone the child has ended at once: it is as if there was none. A process that was made by fork() itself has
 * no thread yet, and most of them end without a fork().
 */
pid_t fork(void)
{
	static pid_t (*real)(void);
	pid_t pid;
	int error;

	if (!real)
		real = dlsym(RTLD_NEXT, "fork");
	pid = real();
	if (pid > 0 && region >= 0 && has_thread != getpid())
		start_thread();
	if (pid <= 0 || !clone_error)
		return pid;
	error = clone_error;
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	errno = error;
	return -1;
}

/* ---- start ---- */

static void complain(const char *what, const char *why)
{
	fprintf(stderr, "libcowmem-redis: %s: %s; fork() is as ever\n", what, why);
}

/* Not one of those that a daemon puts something else at. */
static int create(void)
{
	int low = cowmem_create("heap", heap_size, 0), fd = low;

	if (low >= 0 && low <= 2) {
		fd = fcntl(low, F_DUPFD_CLOEXEC, 3);
		close(low);
	}
	return fd;
}

/* Addresses for the heap, of nobody else's. */
static int reserve(void)
{
	char *addr;

	addr = mmap(NULL, heap_size + ALIGN, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (addr == MAP_FAILED)
		return -1;
	heap = (char *)(((uintptr_t)addr + ALIGN - 1) & -ALIGN);
	return 0;
}

/* From now on this thread allocates from the heap. Return: an errno. */
static int use_heap(void)
{
	extent_hooks_t *ours = &hooks;
	unsigned int arena;
	size_t size = sizeof(arena);
	int error;

	error = mallctl("arenas.create", &arena, &size, &ours, sizeof(ours));
	if (!error)
		error = mallctl("thread.arena", NULL, NULL, &arena, sizeof(arena));
	if (!error)
		mallctl("thread.tcache.flush", NULL, NULL, NULL, 0);
	return error;
}

/*
 * What libc allocates for a whole process and, in a child, writes to before it calls in_child(): that must not be in
 * the heap. It is the state of what finds hosts, users and the like by name; aliases of mail need nobody to be asked.
 */
static void allocate_early(void)
{
	setaliasent();
	endaliasent();
}

static __attribute__((constructor)) void start(void)
{
	size_t memory = (size_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
	int fd, error;

	/* Also preloaded are the shell that starts the server and the like. */
	if (!mallctl)
		return;
	/* All memory there is, some times over: addresses are never given back. */
	heap_size = (4 * memory + ALIGN - 1) & -ALIGN;
	allocate_early();
	fd = create();
	if (fd < 0)
		return complain("no region", cowmem_strerror(errno));
	if (reserve() || place(fd)) {
		complain("the region cannot be mapped", strerror(errno));
		close(fd);
		return;
	}
	region = fd;
	error = use_heap();
	if (error)
		complain("jemalloc does not use the region", strerror(error));
	else
		start_thread();
}
