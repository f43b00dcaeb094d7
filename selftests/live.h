/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Users of a region that go on while a test works on it: writers of a ring, which tell
 * whether a copy is of one instant; readers, which tell whether a change is seen at once;
 * and writers that have a fault under way all the time.
 */
#ifndef _SELFTESTS_COWMEM_LIVE_H
#define _SELFTESTS_COWMEM_LIVE_H

#include <pthread.h>
#include "pages.h"
#include "processes.h"
#include "random.h"
#include "regions.h"

enum { RING = 37, USERS = 3 };

/* In memory that all users share. */
struct live {
	int stop, ready, trouble, phase;
	uint64_t looked;
	uint64_t done[USERS];		/* the last write that each has done */
};

/**
 * struct user - one of them, a thread or a process
 * @pages: how many pages there are to look at.
 * @ring: where the ring that it writes begins, a page.
 * @call: each that many accesses are by a system call, or none are.
 * @to_zero: what is looked at turns into zeroes; else zeroes turn into something else.
 */
struct user {
	struct live *live;
	int fd, nr;
	char *mem;
	size_t pages, ring;
	unsigned int call;
	bool to_zero;
	uint64_t rng;
};

static inline uint64_t load(const char *mem, size_t page)
{
	return __atomic_load_n((const uint64_t *)(mem + page * pgsz()), __ATOMIC_ACQUIRE);
}

static inline void store(char *mem, size_t page, uint64_t val)
{
	__atomic_store_n((uint64_t *)(mem + page * pgsz()), val, __ATOMIC_RELEASE);
}

static inline void user_is_ready(const struct user *u)
{
	yield_to_main();
	__atomic_add_fetch(&u->live->ready, 1, __ATOMIC_ACQ_REL);
}

/* ---- writers ---- */

/* Write 1, 2, 3... round a ring of pages. */
static inline void *write_ring(void *arg)
{
	struct user *u = arg;
	uint64_t s;

	user_is_ready(u);
	for (s = 1; !get(&u->live->stop); s++) {
		size_t page = u->ring + s % RING;

		if (u->call && s % u->call == 0)
			must(pwrite(u->fd, &s, sizeof(s), page * pgsz()) == sizeof(s));
		else
			store(u->mem, page, s);
		__atomic_store_n(&u->live->done[u->nr], s, __ATOMIC_RELEASE);
	}
	return NULL;
}

static inline uint64_t last_done(const struct live *live, int nr)
{
	return __atomic_load_n(&live->done[nr], __ATOMIC_ACQUIRE);
}

/* The newest write that a copy of a ring shows. */
static inline uint64_t ring_top(const char *mem, size_t ring)
{
	uint64_t top = 0, s;

	for (s = 0; s < RING; s++)
		if (load(mem, ring + s) > top)
			top = load(mem, ring + s);
	return top;
}

/* Does it show the last RING writes up to @top, all of them? */
static inline bool ring_is(const char *mem, size_t ring, uint64_t top)
{
	uint64_t s;

	for (s = top; s && s + RING > top; s--) {
		uint64_t seen = load(mem, ring + s % RING);

		if (seen == s)
			continue;
		fprintf(stderr, "# write %llu of %llu is %llu\n", (unsigned long long)s,
			(unsigned long long)top, (unsigned long long)seen);
		return false;
	}
	return true;
}

/* ---- readers ---- */

static inline uint64_t look_at_some_page(struct user *u)
{
	uint64_t val;
	size_t page;

	u->rng = u->rng * 6364136223846793005ULL + 1442695040888963407ULL;
	page = (u->rng >> 33) % u->pages;
	if (!u->call)
		return load(u->mem, page);
	must(pread(u->fd, &val, sizeof(val), page * pgsz()) == sizeof(val));
	return val;
}

static inline bool has_turned(const struct user *u, uint64_t val)
{
	return !val == u->to_zero;
}

/*
 * All pages turn at once, somewhere in an even phase: after one page that has turned,
 * a reader sees no other that has not.  What turns into zero is half the phase before.
 */
static inline void *see_pages_turn(void *arg)
{
	struct user *u = arg;
	struct live *live = u->live;
	uint64_t val;
	int i;

	user_is_ready(u);
	while (!get(&live->stop)) {
		int phase = get(&live->phase);

		if (phase % 2) {
			usleep(200);
			continue;
		}
		val = look_at_some_page(u);
		if (!has_turned(u, val)) {
			if (val && val != (uint64_t)phase / 2 && phase == get(&live->phase))
				put(&live->trouble, 2);
			continue;
		}
		for (i = 0; i < 10; i++) {
			val = look_at_some_page(u);
			if (phase != get(&live->phase))
				break;
			if (!has_turned(u, val))
				put(&live->trouble, 1);
			__atomic_add_fetch(&live->looked, 1, __ATOMIC_RELAXED);
		}
	}
	return NULL;
}

/* ---- some users at once ---- */

/* Two threads and a process. */
struct users {
	struct live *live;
	struct user user[USERS];
	pthread_t thread[USERS - 1];
	pid_t pid;
};

/* The process has a mapping of its own if it is given none. */
static inline void users_start(struct users *us, void *(*doing)(void *))
{
	struct user *last = &us->user[USERS - 1];
	int i;

	for (i = 0; i < USERS; i++)
		us->user[i].live = us->live;
	us->pid = spawn();
	if (!us->pid) {
		if (!last->mem)
			last->mem = map_ro(last->fd, last->pages);
		doing(last);
		_exit(0);
	}
	for (i = 0; i < USERS - 1; i++)
		must(!pthread_create(&us->thread[i], NULL, doing, &us->user[i]));
	await(&us->live->ready, USERS);
}

/* Returns what the process ended with, 0 if all is well. */
static inline int users_stop(struct users *us)
{
	int i;

	put(&us->live->stop, 1);
	for (i = 0; i < USERS - 1; i++)
		must(!pthread_join(us->thread[i], NULL));
	return reap(us->pid);
}

/* ---- faults under way ---- */

/* Each write is through a mapping without page tables, so that it is under way for long. */
static inline void fault_on(struct live *live, int fd, size_t page)
{
	size_t table = pgsz() / 4 * pgsz();	/* what two of them map */
	char *mem = mmap(NULL, 2 * table, PROT_NONE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	uint64_t n, seen;

	must(mem != MAP_FAILED);
	mem += table - (uintptr_t)mem % table;
	yield_to_main();
	__atomic_add_fetch(&live->ready, 1, __ATOMIC_ACQ_REL);
	for (n = 1; !get(&live->stop); n++) {
		volatile uint64_t *word = (void *)mem;

		must(mmap(mem, pgsz(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd,
			  page * pgsz()) == mem);
		*word = n;
		/* Where the region has it no more, the mapping must not show it either. */
		must(pread(fd, &seen, sizeof(seen), page * pgsz()) == sizeof(seen));
		if (seen != n && *word == n)
			put(&live->trouble, 1);
		must(!munmap(mem, pgsz()));
	}
}

/*
 * Exchange pages of @fd for those of @from, by @call, while faults are under way: is no
 * writer left with a page table entry of a page that the region no longer has?
 */
static inline bool no_mapping_goes_stale(int fd, int from, int (*call)(int fd, int from))
{
	enum { WRITERS = 2, CALLS = 3000 };
	struct live *live = shared_mem(sizeof(*live));
	double end = now() + effort(12);
	pid_t pid[WRITERS];
	bool ok = true;
	int i;

	rng_init();
	for (i = 0; i < WRITERS; i++) {
		pid[i] = spawn();
		if (!pid[i]) {
			fault_on(live, fd, 7 * i);
			_exit(0);
		}
	}
	await(&live->ready, WRITERS);
	for (i = 0; i < CALLS && now() < end && !get(&live->trouble); i++) {
		volatile int spin = below(3000);

		while (spin)
			spin--;
		must(!call(fd, from));
		if (!below(20))
			usleep(1);
	}
	if (get(&live->trouble)) {
		fprintf(stderr, "# a mapping was stale after %d calls\n", i);
		ok = false;
	}
	put(&live->stop, 1);
	for (i = 0; i < WRITERS; i++)
		ok = !reap(pid[i]) && ok;
	return ok;
}

#endif /* _SELFTESTS_COWMEM_LIVE_H */
