// SPDX-License-Identifier: GPL-2.0-only
/*
 * Promise: CVE-2016-5195 ("Dirty COW") does not happen to regions.  There, a
 * forced write to a read-only private mapping lost its private copy to a
 * concurrent MADV_DONTNEED and was retried on the page of the file.
 *
 * Here the file is a snapshot, or a region that shares its pages with one.
 */
#include <pthread.h>

#include "../kselftest_harness.h"
#include "common.h"

enum { PAGES = 2, DROPS = 200 };

FIXTURE(dirty_cow) {
	int fd, snap;
	char *mem;	/* what is attacked, read-only */
	char *watch;	/* a mapping that shows the page itself */
	int stop;
};

FIXTURE_VARIANT(dirty_cow) {
	int flags;
	bool snapshot;	/* attack the snapshot, or the region it was taken of */
	bool shared;	/* somebody else holds the pages, too */
};

FIXTURE_VARIANT_ADD(dirty_cow, private_of_snapshot) {
	.flags = MAP_PRIVATE, .snapshot = true, .shared = true,
};
FIXTURE_VARIANT_ADD(dirty_cow, private_of_lone_snapshot) {
	.flags = MAP_PRIVATE, .snapshot = true,
};
FIXTURE_VARIANT_ADD(dirty_cow, shared_of_snapshot) {
	.flags = MAP_SHARED, .snapshot = true, .shared = true,
};
FIXTURE_VARIANT_ADD(dirty_cow, private_of_region) {
	.flags = MAP_PRIVATE, .shared = true,
};

FIXTURE_SETUP(dirty_cow)
{
	self->fd = region_of(PAGES, 1);
	self->snap = snapshot(self->fd);
	self->mem = map_at(variant->snapshot ? self->snap : self->fd, PAGES,
			   PROT_READ, variant->flags, 0);
	self->watch = map_ro(variant->snapshot ? self->snap : self->fd, PAGES);
	if (!variant->shared)
		close(self->fd);
}

FIXTURE_TEARDOWN(dirty_cow)
{
}

struct racer {
	char *mem;
	int *stop;
	int n;
};

static void *dontneed(void *arg)
{
	struct racer *r = arg;

	while (!get(r->stop)) {
		must(!madvise(r->mem, PAGES * pgsz(), MADV_DONTNEED));
		put(&r->n, r->n + 1);
	}
	return NULL;
}

/* Kernels may be set to refuse these writes to anyone but a debugger. */
static bool forced_writes_work(int fd)
{
	char *mem = anon(1);

	must(!mprotect(mem, pgsz(), PROT_READ));
	return pwrite(fd, "x", 1, (uintptr_t)mem) == 1;
}

TEST_F(dirty_cow, does_not_reach_the_page)
{
	struct racer r = { .mem = self->mem, .stop = &self->stop };
	int fd = open("/proc/self/mem", O_RDWR), i, written = 0;
	int rounds = effort(4000), drops = effort(DROPS);
	pthread_t thread;
	char buf[256];

	ASSERT_LE(0, fd);
	if (!forced_writes_work(fd))
		SKIP(return, "needs proc_mem.force_override=always");
	memset(buf, 'x', sizeof(buf));
	ASSERT_EQ(0, pthread_create(&thread, NULL, dontneed, &r));
	for (i = 0; i < rounds || (i < 10 * rounds && get(&r.n) < drops); i++) {
		/* Also over the border of two pages. */
		off_t at = (uintptr_t)self->mem + (i % 2 ? pgsz() - 100 : 0);

		if (pwrite(fd, buf, sizeof(buf), at) > 0)
			written++;
		if (i % 64 == 0)
			sched_yield();
		if (i % 512 == 0)
			ASSERT_TRUE(is(self->watch, PAGES, 1, 0));
	}
	put(&self->stop, 1);
	ASSERT_EQ(0, pthread_join(thread, NULL));
	TH_LOG("%d forced writes went to private copies, %d times dropped",
	       written, r.n);
	/* A shared mapping has no private copy to write to. */
	EXPECT_EQ(variant->flags == MAP_PRIVATE, written > 0);
	EXPECT_LT(0, r.n);

	EXPECT_TRUE(is(self->watch, PAGES, 1, 0));
	EXPECT_TRUE(fd_is(self->snap, 0, PAGES, 1));
	if (variant->shared)
		EXPECT_TRUE(fd_is(self->fd, 0, PAGES, 1));
	ASSERT_EQ(0, madvise(self->mem, PAGES * pgsz(), MADV_DONTNEED));
	EXPECT_TRUE(is(self->mem, PAGES, 1, 0));
}

TEST_HARNESS_MAIN
