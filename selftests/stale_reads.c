// SPDX-License-Identifier: GPL-2.0-only
/*
 * Promise: once a write is done, no CPU reads what was there before, whatever
 * else unmaps the page meanwhile.
 *
 * MADV_DONTNEED takes none of the module's locks.  It removes PTEs first and
 * flushes TLBs when it is through with the whole range, so a page that nothing
 * maps any more may still be read on another CPU.
 */
#include <pthread.h>
#include "../kselftest_harness.h"
#include "common.h"

/* Each writes another number into a byte. */
#define ROUNDS 100
/* No longer than this, in seconds. */
#define SECONDS 10
/*
 * Zapping takes its time between the first page, which it is about, and the flush,
 * and gives way to others after each 2 MiB.
 */
#define PAGES (64UL << 20 >> 12)

struct race {
	char *mem;
	int stop;
	/* The number in the page is at least this. */
	int known;
	/* What was read last; how often there was something older than known. */
	int seen, stale;
	/* How often the reader read and the zapper zapped. */
	int turns, zaps;
	/* The zapper's CPU, the reader's, the writer's. */
	int cpu[3];
};

static void run_on(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	must(!sched_setaffinity(0, sizeof(set), &set));
}

static void *zaps(void *arg)
{
	struct race *race = arg;

	run_on(race->cpu[0]);
	while (!get(&race->stop)) {
		must(!madvise(race->mem, PAGES * pgsz(), MADV_DONTNEED));
		race->zaps++;
	}
	return NULL;
}

static void *reads(void *arg)
{
	struct race *race = arg;

	run_on(race->cpu[1]);
	while (!get(&race->stop)) {
		int known = get(&race->known);
		int seen = *(volatile unsigned char *)race->mem;

		race->stale += seen < known;
		put(&race->seen, seen);
		put(&race->turns, (race->turns + 1) & INT32_MAX);
	}
	return NULL;
}

/* Wait until what the reader began before this is over. */
static void let_reader_see(struct race *race)
{
	int first = get(&race->turns), last = first;

	while (last == first || last == ((first + 1) & INT32_MAX)) {
		sched_yield();
		last = get(&race->turns);
	}
}

/* Choose CPUs: the reader has one of its own. False if there are not enough. */
static bool choose_cpus(struct race *race)
{
	cpu_set_t set;
	int cpu, n = 0;

	must(!sched_getaffinity(0, sizeof(set), &set));
	for (cpu = 0; cpu < CPU_SETSIZE && n < 3; cpu++)
		if (CPU_ISSET(cpu, &set))
			race->cpu[n++] = cpu;
	if (n == 2)
		race->cpu[2] = race->cpu[0];
	return n >= 2;
}

FIXTURE(race) {
	int fd;
	char *alias;
	struct race race;
	bool ready;
};

FIXTURE_VARIANT(race) {
	bool hole, mapped;
};

/* By write() or by a thread in another mapping; to a shared page or to a hole. */
FIXTURE_VARIANT_ADD(race, split_by_write) { };
FIXTURE_VARIANT_ADD(race, split_by_store) { .mapped = true };
FIXTURE_VARIANT_ADD(race, hole_by_write) { .hole = true };
FIXTURE_VARIANT_ADD(race, hole_by_store) { .hole = true, .mapped = true };

FIXTURE_SETUP(race)
{
	size_t i;

	memset(&self->race, 0, sizeof(self->race));
	self->ready = choose_cpus(&self->race);
	self->fd = region();
	self->race.mem = map_rw(self->fd, PAGES);
	self->alias = map_rw(self->fd, 1);
	/* Page tables, for zapping to walk. */
	for (i = 0; i < PAGES; i += 512)
		must(!touch(self->race.mem + i * pgsz(), false));
}

FIXTURE_TEARDOWN(race)
{
}

TEST_F(race, no_stale_read)
{
	struct race *race = &self->race;
	double end = now() + SECONDS;
	pthread_t zapper, reader;
	int i, clone = -1;

	if (!self->ready)
		SKIP(return, "needs two CPUs");
	must(!pthread_create(&zapper, NULL, zaps, race));
	must(!pthread_create(&reader, NULL, reads, race));
	run_on(race->cpu[2]);
	for (i = 1; i <= ROUNDS && now() < end; i++) {
		unsigned char val = i;

		if (variant->hole) {
			put(&race->known, 0);
			let_reader_see(race);
			ASSERT_EQ(0, do_discard(self->fd, 0, pgsz()));
		} else {
			clone = cloned(self->fd);
		}
		/* Let the reader map it, and the zapper be anywhere. */
		let_reader_see(race);
		usleep(200 + i * 7 % 400);
		if (variant->mapped)
			*(volatile unsigned char *)self->alias = val;
		else
			ASSERT_EQ(1, pwrite(self->fd, &val, 1, 0));
		put(&race->known, val);
		let_reader_see(race);
		if (!variant->hole)
			close(clone);
	}
	put(&race->stop, 1);
	pthread_join(zapper, NULL);
	pthread_join(reader, NULL);
	TH_LOG("%d rounds, %d zaps, %d stale reads", i - 1, race->zaps,
	       race->stale);
	EXPECT_EQ(0, race->stale);
	/* It did run into each other. */
	EXPECT_LT(10, i);
	EXPECT_LT(10, race->zaps);
	EXPECT_LT(0, race->seen);
}

TEST_HARNESS_MAIN
