// SPDX-License-Identifier: GPL-2.0-only
/*
 * Promise: there are tracepoints for fault, clone, split, reuse, zap and yield, and each
 * of them fires when that happens, and not when it does not.
 */
#include <sys/mount.h>
#include <sys/sysmacros.h>

#include "../kselftest_harness.h"
#include "common.h"
#include "areas.h"
#include "module.h"

enum { PAGES = 8 };

static const char *tracefs(void)
{
	static const char * const dirs[] = {
		"/sys/kernel/tracing", "/sys/kernel/debug/tracing",
	};
	char path[128];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(dirs); i++) {
		snprintf(path, sizeof(path), "%s/trace", dirs[i]);
		if (!access(path, R_OK | W_OK))
			return dirs[i];
	}
	if (!mount("tracefs", dirs[0], "tracefs", 0, NULL))
		return dirs[0];
	return NULL;
}

FIXTURE(trace) {
	char dir[160];		/* an instance of our own */
	int fd;
	char *mem;
};

FIXTURE_SETUP(trace)
{
	const char *base = tracefs();
	char path[256];
	int err;

	if (!base)
		SKIP(return, "no tracefs here");
	snprintf(self->dir, sizeof(self->dir), "%s/instances/cowmem_%d", base,
		 getpid());
	/*
	 * The instance takes over the options.  Names of tasks are of no use, and
	 * would have the scheduler traced.
	 */
	snprintf(path, sizeof(path), "%s/options/record-cmd", base);
	write_file(path, "0");
	err = mkdir(self->dir, 0700) ? errno : 0;
	write_file(path, "1");
	if (err)
		SKIP(return, "no trace instances here: %s", strerror(err));
	self->fd = region_of(PAGES, 1);
	self->mem = map_rw(self->fd, PAGES);
	snprintf(path, sizeof(path), "%s/events/cowmem/enable", self->dir);
	ASSERT_EQ(0, write_file(path, "1"))
		TH_LOG("%s: %s", path, strerror(errno));
}

FIXTURE_TEARDOWN_PARENT(trace)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/events/cowmem/enable", self->dir);
	write_file(path, "0");
	EXPECT_EQ(0, rmdir(self->dir));
}

/* How often has an event come since the last call? */
struct events {
	int fault, clone, split, reuse, zap, yield;
	char last_fault[128];	/* what it says of itself */
};

static struct events events(const char *dir)
{
	static char buf[1 << 18];
	struct events e = {};
	char path[256], *line, *fault;

	snprintf(path, sizeof(path), "%s/trace", dir);
	must(read_file(path, buf, sizeof(buf)) >= 0);
	for (line = strtok(buf, "\n"); line; line = strtok(NULL, "\n")) {
		fault = strstr(line, " cowmem_fault: region=");
		if (fault) {
			e.fault++;
			fault = strchr(fault, '=');
			snprintf(e.last_fault, sizeof(e.last_fault), "%s", fault);
		}
		e.clone += !!strstr(line, " cowmem_clone: ");
		e.split += !!strstr(line, " cowmem_split: ");
		e.reuse += !!strstr(line, " cowmem_reuse: ");
		e.zap += !!strstr(line, " cowmem_zap: ");
		e.yield += !!strstr(line, " cowmem_yield: ");
	}
	/* This is what clears it. */
	close(open(path, O_WRONLY | O_TRUNC));
	return e;
}

TEST_F(trace, exists)
{
	static const char * const names[] = { "fault", "clone", "split", "reuse", "zap", "yield" };
	char path[256], buf[4096];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(names); i++) {
		snprintf(path, sizeof(path), "%s/events/cowmem/cowmem_%s/format",
			 self->dir, names[i]);
		EXPECT_LT(0, read_file(path, buf, sizeof(buf)))
			TH_LOG("%s: %s", path, strerror(errno));
	}
}

/* One fault, one event, which says of what region and page, and how it ended. */
#define EXPECT_FAULT(trace, fd, index, write, did) do {					\
	struct events e_ = events((trace)->dir);					\
	char want_[128];								\
	int file_ = file_of(fd, 0);							\
	struct stat st_;								\
											\
	/* The device itself has another inode than the region. */			\
	must(!fstat(file_, &st_));							\
	close(file_);									\
	snprintf(want_, sizeof(want_), "=%llu index=%d write=%d did=%s dev=%u:%u",	\
		 (unsigned long long)st_.st_ino, index, write, did,			\
		 major(st_.st_dev), minor(st_.st_dev));					\
	EXPECT_EQ(1, e_.fault);								\
	EXPECT_STREQ(want_, e_.last_fault);						\
} while (0)

TEST_F(trace, fault)
{
	volatile char *mem, *private;
	int fd = region_of(PAGES, 1);

	mem = map_rw(fd, PAGES);
	private = mmap(NULL, PAGES * pgsz(), PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	ASSERT_NE(MAP_FAILED, private);
	close(cloned(fd));
	events(self->dir);
	(void)mem[2 * pgsz()];
	EXPECT_FAULT(self, fd, 2, 0, "pages");
	/* The others were mapped along with it. */
	(void)mem[3 * pgsz()];
	EXPECT_EQ(0, events(self->dir).fault);
	mem[2 * pgsz()] = 2;
	EXPECT_FAULT(self, fd, 2, 1, "pages");
	mem[2 * pgsz()] = 3;
	EXPECT_EQ(0, events(self->dir).fault);
	private[5 * pgsz()] = 2;
	EXPECT_FAULT(self, fd, 5, 1, "copy");
	/* No fault of a mapping. */
	ASSERT_EQ(1, pwrite(fd, "x", 1, 7 * pgsz()));
	EXPECT_EQ(0, events(self->dir).fault);
	/* A page that is not there: SIGBUS, which the kernel has for an EFAULT. */
	ASSERT_EQ(0, do_resize(fd, 4 * pgsz()));
	events(self->dir);
	EXPECT_EQ(-1, write(self->fd, (char *)mem + 6 * pgsz(), 1));
	EXPECT_FAULT(self, fd, 6, 0, "error");
}

/* Nor are there two where the core asks twice, to map an area at once. */
TEST_F(trace, fault_of_an_area)
{
	const char *why = no_areas(2);
	const size_t area = AREA * pgsz();
	int fd = region();
	volatile char *mem;
	char *all;

	if (why)
		SKIP(return, "%s", why);
	all = mmap(NULL, 2 * area, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	ASSERT_NE(MAP_FAILED, all);
	mem = mmap((void *)(((uintptr_t)all + area - 1) / area * area), area,
		   PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
	ASSERT_NE(MAP_FAILED, mem);
	ASSERT_EQ(0, madvise((void *)mem, area, MADV_HUGEPAGE));
	events(self->dir);
	mem[0] = 1;
	EXPECT_FAULT(self, fd, 0, 1, "area");
	close(snapshot(fd));
	events(self->dir);
	(void)mem[area / 2];
	EXPECT_FAULT(self, fd, (int)(area / 2 / pgsz()), 0, "area");
}

TEST_F(trace, clone)
{
	struct events e;

	events(self->dir);
	close(cloned(self->fd));
	close(snapshot(self->fd));
	e = events(self->dir);
	EXPECT_EQ(2, e.clone);
	EXPECT_EQ(0, e.split);
	/* One that fails is none. */
	EXPECT_EQ(-1, do_clone(self->fd, 0, 1, 0));
	e = events(self->dir);
	EXPECT_EQ(0, e.clone);
}

TEST_F(trace, split)
{
	int clone = cloned(self->fd);
	struct events e;
	char buf[8] = "x";

	events(self->dir);
	EXPECT_TRUE(is(self->mem, PAGES, 1, 0));
	EXPECT_EQ(0, events(self->dir).split);
	fill(self->mem, 3, 2, 0);
	e = events(self->dir);
	EXPECT_EQ(3, e.split);
	EXPECT_EQ(0, e.clone);
	/* It was split already. */
	fill(self->mem, 3, 3, 0);
	EXPECT_EQ(0, events(self->dir).split);
	ASSERT_EQ(1, pwrite(self->fd, buf, 1, 5 * pgsz()));
	EXPECT_EQ(1, events(self->dir).split);
	EXPECT_TRUE(fd_is(clone, 0, PAGES, 1));
}

TEST_F(trace, reuse)
{
	struct events e;

	close(cloned(self->fd));
	events(self->dir);
	fill(self->mem, 1, 2, 0);
	e = events(self->dir);
	EXPECT_EQ(1, e.reuse);
	EXPECT_EQ(0, e.split);
	/* Writing in order gets up to as many more pages ahead as were written before. */
	fill(self->mem, 4, 2, 0);
	e = events(self->dir);
	EXPECT_LE(3, e.reuse);
	EXPECT_GE(7, e.reuse);
	EXPECT_EQ(0, e.split);
	EXPECT_TRUE(fd_is(self->fd, 0, 4, 2));
}

TEST_F(trace, zap)
{
	struct events e;

	events(self->dir);
	ASSERT_EQ(0, do_discard(self->fd, 0, 2 * pgsz()));
	e = events(self->dir);
	EXPECT_LT(0, e.zap);
	ASSERT_EQ(0, do_resize(self->fd, 4 * pgsz()));
	e = events(self->dir);
	EXPECT_LT(0, e.zap);
	/* Growing takes nothing away, and reading does not. */
	ASSERT_EQ(0, do_resize(self->fd, 9 * pgsz()));
	EXPECT_TRUE(fd_is(self->fd, 2, 2, 1));
	EXPECT_EQ(0, events(self->dir).zap);
}

TEST_F(trace, yield)
{
	int filler = region();
	struct events seen;
	off_t page = 0;

	/* No page is left that was set aside for the next write. */
	ASSERT_EQ(0, do_discard(self->fd, (PAGES - 1) * pgsz(), pgsz()));
	ASSERT_LE(0, do_clone(self->fd, COWMEM_CLONE_SNAPSHOT | COWMEM_CLONE_EXPENDABLE,
			      0, 0));
	ASSERT_EQ(0, write_file(LIMIT, "1"));
	/* It is of no use for a hole. */
	while (pwrite(filler, "x", 1, page * pgsz()) == 1)
		page++;
	EXPECT_EQ(ENOSPC, errno);
	EXPECT_EQ(0, events(self->dir).yield);
	EXPECT_EQ(0, poke(self->mem, 1));
	EXPECT_EQ(0, poke(self->mem + pgsz(), 1));
	EXPECT_EQ(0, write_file(LIMIT, "0"));
	seen = events(self->dir);
	EXPECT_EQ(1, seen.yield);
	EXPECT_EQ(0, seen.split);
}

TEST_HARNESS_MAIN
