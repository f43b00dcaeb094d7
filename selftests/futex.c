// SPDX-License-Identifier: GPL-2.0-only
/*
 * Promise: a futex call never fails because of what is done to the region meanwhile.
 * A failed FUTEX_WAKE is a lost wakeup, and a failed FUTEX_WAIT a program that ends.
 */
#include <linux/futex.h>
#include <pthread.h>
#include <sys/syscall.h>

#include "../kselftest_harness.h"
#include "common.h"

/* Seconds for each operation. */
#define SECONDS 6
#define MOST_THREADS 4

struct hammer {
	cpu_set_t cpus;
	uint32_t *word;
	int stop;
	uint64_t calls;
	/* Calls that ended in no way that they should, and how the last one did. */
	uint64_t failed;
	int op, err;
};

/*
 * FUTEX_WAKE with nobody asleep, FUTEX_WAIT for a value that the word never has.
 */
static void *hammers(void *arg)
{
	struct hammer *h = arg;

	must(!sched_setaffinity(0, sizeof(h->cpus), &h->cpus));
	while (!get(&h->stop)) {
		int op = h->calls++ % 2 ? FUTEX_WAIT : FUTEX_WAKE;

		if (syscall(SYS_futex, h->word, op, 12345, NULL, NULL, 0) >= 0 ||
		    (op == FUTEX_WAIT && errno == EAGAIN))
			continue;
		h->op = op;
		h->err = errno;
		h->failed++;
	}
	return NULL;
}

/* One CPU for the thread that changes the region, the others for the futex calls. */
static unsigned int share_out_cpus(cpu_set_t *one, cpu_set_t *others)
{
	cpu_set_t set;
	int cpu;

	must(!sched_getaffinity(0, sizeof(set), &set));
	CPU_ZERO(one);
	for (cpu = 0; !CPU_COUNT(one); cpu++)
		if (CPU_ISSET(cpu, &set))
			CPU_SET(cpu, one);
	CPU_XOR(others, one, &set);
	if (!CPU_COUNT(others))
		*others = *one;
	return CPU_COUNT(others);
}

/* What is done to the region over and over. */
enum what { RESTORE, KEEP, COPY, DISCARD, CLONE, MERGE };

struct subject {
	int fd, snap;
	char *mem;
};

static void do_once(const struct subject *s, enum what what)
{
	struct cowmem_merge merge = { .flags = 0 };

	switch (what) {
	case RESTORE:
		must_restore(s->fd, s->snap, 0);
		break;
	case KEEP:
		must_restore(s->fd, s->snap, COWMEM_RESTORE_KEEP);
		break;
	case COPY:
		must(!do_copy(s->fd, s->snap, 0, 0, 2));
		break;
	case DISCARD:
		must(!do_discard(s->fd, 0, 2 * pgsz()));
		break;
	case CLONE:
		close(cloned(s->fd));
		break;
	case MERGE:
		/* Two pages that are equal. */
		memcpy(s->mem + pgsz(), s->mem, pgsz());
		must(!do_merge(&merge, &s->fd, 1));
		break;
	}
}

FIXTURE(futex) {
	struct subject s;
};

FIXTURE_VARIANT(futex) {
	enum what what;
};

FIXTURE_VARIANT_ADD(futex, restore) { .what = RESTORE };
FIXTURE_VARIANT_ADD(futex, restore_keep) { .what = KEEP };
FIXTURE_VARIANT_ADD(futex, copy) { .what = COPY };
FIXTURE_VARIANT_ADD(futex, discard) { .what = DISCARD };
FIXTURE_VARIANT_ADD(futex, clone) { .what = CLONE };
FIXTURE_VARIANT_ADD(futex, merge) { .what = MERGE };

FIXTURE_SETUP(futex)
{
	self->s.fd = region_of(2, 1);
	self->s.mem = map_rw(self->s.fd, 2);
	self->s.snap = snapshot(self->s.fd);
}

FIXTURE_TEARDOWN(futex)
{
}

TEST_F(futex, calls_do_not_fail)
{
	double end = now() + effort(SECONDS);
	pthread_t thread[MOST_THREADS];
	struct hammer h[MOST_THREADS] = { 0 };
	cpu_set_t mine, others;
	unsigned int nr, i;
	long rounds = 0;

	nr = share_out_cpus(&mine, &others);
	nr = nr < MOST_THREADS ? nr : MOST_THREADS;
	ASSERT_EQ(0, sched_setaffinity(0, sizeof(mine), &mine));
	for (i = 0; i < nr; i++) {
		h[i].cpus = others;
		h[i].word = (uint32_t *)self->s.mem;
		ASSERT_EQ(0, pthread_create(&thread[i], NULL, hammers, &h[i]));
	}
	for (; now() < end; rounds++) {
		self->s.mem[256]++;
		do_once(&self->s, variant->what);
	}
	for (i = 0; i < nr; i++) {
		put(&h[i].stop, 1);
		ASSERT_EQ(0, pthread_join(thread[i], NULL));
		TH_LOG("%ld rounds, %llu calls", rounds,
		       (unsigned long long)h[i].calls);
		EXPECT_EQ(0, h[i].failed)
			TH_LOG("the last one: %s: %s", h[i].op == FUTEX_WAIT ?
			       "FUTEX_WAIT" : "FUTEX_WAKE", strerror(h[i].err));
	}
}

TEST_HARNESS_MAIN
