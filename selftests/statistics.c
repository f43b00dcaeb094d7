// SPDX-License-Identifier: GPL-2.0-only
/*
 * Promise: what regions hold shows where a memfd's memory does, as shared memory of
 * the machine, of the node, of the memory cgroup and of its mappers, no more and no
 * less; held_kib tells what it is in all; and when it is freed, it is gone from there.
 */
#include "../kselftest_harness.h"
#include "common.h"
#include "cgroups.h"
#include "module.h"

#define NODES "/sys/devices/system/node"

enum { PAGES = 8192 };

/* CPUs count so many pages by themselves for a while. */
enum { SLACK = 768, MM_SLACK = 256 };

static long kib_of(size_t pages)
{
	return pages * pgsz() / 1024;
}

/* What a line of a file says about @key, in KiB. */
static long line_of(const char *path, const char *key)
{
	static char buf[1 << 16];
	char *at = buf;

	must(read_file(path, buf, sizeof(buf)) > 0);
	while ((at = strstr(at, key))) {
		if (at == buf || at[-1] == '\n' || at[-1] == ' ')
			return strtol(at + strlen(key), NULL, 10);
		at++;
	}
	fprintf(stderr, "# %s has no %s\n", path, key);
	exit(KSFT_FAIL);
}

/* The same of all nodes together. */
static long nodes(const char *key)
{
	char path[64];
	long sum = 0;
	int n;

	for (n = 0; n < 64; n++) {
		snprintf(path, sizeof(path), NODES "/node%d/meminfo", n);
		if (!access(path, R_OK))
			sum += line_of(path, key);
	}
	return sum;
}

enum { SHMEM, CACHED, NODE_SHMEM, NODE_FILE, CG_SHMEM, CG_FILE, COUNTS };

static const char * const names[COUNTS] = {
	"Shmem of meminfo", "Cached of meminfo", "Shmem of the nodes",
	"FilePages of the nodes", "shmem of memory.stat", "file of memory.stat",
};

static void count(const char *dir, long *at)
{
	char path[192];

	at[SHMEM] = line_of("/proc/meminfo", "Shmem:");
	at[CACHED] = line_of("/proc/meminfo", "Cached:");
	at[NODE_SHMEM] = nodes("Shmem:");
	at[NODE_FILE] = nodes("FilePages:");
	snprintf(path, sizeof(path), "%s/memory.stat", dir);
	at[CG_SHMEM] = line_of(path, "shmem ") / 1024;
	at[CG_FILE] = line_of(path, "file ") / 1024;
}

/* A kernel without NUMA does not tell what nodes have. */
static bool told(int i)
{
	return (i != NODE_SHMEM && i != NODE_FILE) || !access(NODES "/node0/meminfo", R_OK);
}

/* Did all counts grow by @kib?  It may take the kernel some seconds to see that. */
static bool grown(const char *dir, const long *was, long kib)
{
	long now[COUNTS], by;
	int try, i;

	for (try = 0; try < 100; try++) {
		count(dir, now);
		for (i = 0; i < COUNTS; i++) {
			by = now[i] - was[i];
			if (!told(i))
				continue;
			if (by < kib - kib_of(SLACK) || by > kib + kib_of(SLACK))
				break;
		}
		if (i == COUNTS)
			return true;
		usleep(100000);
	}
	fprintf(stderr, "# %s grew by %ld KiB, not by %ld\n", names[i], by, kib);
	return false;
}

/* Where a test is, with nothing populated yet. */
struct subject {
	char dir[128];		/* its cgroup */
	int fd;
	long was[COUNTS];
	long kib;		/* of all pages */
};

static const char *begin(struct subject *s, bool memfd)
{
	const char *why = cg_make(s->dir, sizeof(s->dir));

	if (why)
		return why;
	s->fd = memfd ? memfd_create("statistics", 0) : region();
	must(s->fd >= 0);
	if (memfd)
		must(!ftruncate(s->fd, PAGES * pgsz()));
	s->kib = kib_of(PAGES);
	count(s->dir, s->was);
	must(!cg_write(s->dir, "cgroup.procs", "0"));
	return NULL;
}

/* Populate all pages in the way of the variant. */
static void populate(int fd, bool write, bool backwards, char tag)
{
	char *mem = map_rw(fd, PAGES), buf[pgsz()];
	size_t i, page;

	memset(buf, tag, sizeof(buf));
	for (i = 0; i < PAGES; i++) {
		page = backwards ? PAGES - 1 - i : i;
		if (write)
			must(pwrite(fd, buf, pgsz(), page * pgsz()) == (ssize_t)pgsz());
		else
			mem[page * pgsz()] = tag;
	}
	unmap(mem, PAGES);
}

/* The test is right if a memfd passes. */
FIXTURE(counts) {
	struct subject s;
};

FIXTURE_VARIANT(counts) {
	bool memfd, write, backwards;
};

FIXTURE_VARIANT_ADD(counts, memfd) { .memfd = true };
FIXTURE_VARIANT_ADD(counts, stored_in_order) { };
FIXTURE_VARIANT_ADD(counts, stored_backwards) { .backwards = true };
FIXTURE_VARIANT_ADD(counts, written) { .write = true };

FIXTURE_SETUP(counts)
{
	const char *why = begin(&self->s, variant->memfd);

	if (why)
		SKIP(return, "%s", why);
}

FIXTURE_TEARDOWN_PARENT(counts)
{
	EXPECT_EQ(0, rmdir(self->s.dir));
}

TEST_F(counts, come_and_go)
{
	populate(self->s.fd, variant->write, variant->backwards, 1);
	EXPECT_TRUE(grown(self->s.dir, self->s.was, self->s.kib));
	close(self->s.fd);
	EXPECT_TRUE(grown(self->s.dir, self->s.was, 0));
}

TEST_F(counts, mapped_pages_are_rss_shmem)
{
	long was = line_of("/proc/self/status", "RssShmem:"), shmem;
	long file = line_of("/proc/self/status", "RssFile:");
	char *mem = map_rw(self->s.fd, PAGES);
	size_t i;

	for (i = 0; i < PAGES; i++)
		mem[i * pgsz()] = 1;
	shmem = line_of("/proc/self/status", "RssShmem:");
	EXPECT_LE(was + self->s.kib - kib_of(MM_SLACK), shmem);
	EXPECT_GE(was + self->s.kib + kib_of(MM_SLACK), shmem);
	EXPECT_GE(file + kib_of(MM_SLACK), line_of("/proc/self/status", "RssFile:"));
	unmap(mem, PAGES);
	EXPECT_GE(was + kib_of(MM_SLACK), line_of("/proc/self/status", "RssShmem:"));
}

FIXTURE(pages) {
	struct subject s;
};

FIXTURE_VARIANT(pages) {
	bool write, backwards;
};

FIXTURE_VARIANT_ADD(pages, stored_in_order) { };
FIXTURE_VARIANT_ADD(pages, stored_backwards) { .backwards = true };
FIXTURE_VARIANT_ADD(pages, written) { .write = true };

FIXTURE_SETUP(pages)
{
	const char *why = begin(&self->s, false);

	if (why)
		SKIP(return, "%s", why);
}

FIXTURE_TEARDOWN_PARENT(pages)
{
	EXPECT_EQ(0, rmdir(self->s.dir));
}

TEST_F(pages, what_is_shared_counts_once)
{
	int clone;

	populate(self->s.fd, variant->write, variant->backwards, 1);
	clone = cloned(self->s.fd);
	EXPECT_TRUE(grown(self->s.dir, self->s.was, self->s.kib));
	populate(self->s.fd, variant->write, variant->backwards, 2);
	EXPECT_TRUE(grown(self->s.dir, self->s.was, 2 * self->s.kib));
	close(self->s.fd);
	EXPECT_TRUE(grown(self->s.dir, self->s.was, self->s.kib));
	close(clone);
	EXPECT_TRUE(grown(self->s.dir, self->s.was, 0));
}

TEST_F(pages, discarded_pages_go)
{
	populate(self->s.fd, variant->write, variant->backwards, 1);
	EXPECT_EQ(0, do_discard(self->s.fd, 0, PAGES / 2 * pgsz()));
	EXPECT_TRUE(grown(self->s.dir, self->s.was, self->s.kib / 2));
	EXPECT_EQ(0, do_discard(self->s.fd, 0, PAGES * pgsz()));
	EXPECT_TRUE(grown(self->s.dir, self->s.was, 0));
}

/* In a pipe a page lives on, but it is the region's no longer. */
TEST_F(pages, dropped_pages_in_use_go)
{
	enum { PIPE = 256 };
	struct iovec iov = { .iov_len = PIPE * pgsz() };
	int fds[2];

	populate(self->s.fd, variant->write, variant->backwards, 1);
	iov.iov_base = map_rw(self->s.fd, PAGES);
	ASSERT_EQ(0, pipe2(fds, O_NONBLOCK));
	ASSERT_LE(0, fcntl(fds[1], F_SETPIPE_SZ, PIPE * pgsz()));
	ASSERT_EQ((ssize_t)iov.iov_len, vmsplice(fds[1], &iov, 1, 0));
	EXPECT_EQ(0, do_discard(self->s.fd, 0, PAGES * pgsz()));
	EXPECT_TRUE(grown(self->s.dir, self->s.was, 0));
}

TEST(nodes_tell)
{
	if (!told(NODE_SHMEM))
		SKIP(return, "no " NODES "/node0/meminfo: the rest is compared");
	EXPECT_LT(0, nodes("FilePages:"));
}

/* ---- held_kib; nobody else has regions ---- */

/* What is dropped in use may be held for some seconds. */
static bool falls_to(long kib)
{
	int i;

	for (i = 0; i < 300 && held() > kib; i++)
		usleep(100000);
	if (held() == kib)
		return true;
	fprintf(stderr, "# held_kib is %ld, not %ld\n", held(), kib);
	return false;
}

TEST(held_kib_tells_what_all_regions_hold)
{
	long was = held(), kib = kib_of(PAGES), one;
	int fd, clone, other;

	fd = region_of(PAGES, 1);
	one = held();
	/* Pages, and a few more ahead; an index of some bytes for each page. */
	EXPECT_LE(was + kib, one);
	EXPECT_GE(was + kib + kib / 128 + kib_of(MIB_PAGES), one);
	clone = cloned(fd);
	EXPECT_EQ(one, held());
	other = region_of(PAGES, 2);
	EXPECT_LE(one + kib, held());
	close(fd);
	EXPECT_LE(was + 2 * kib, held());
	close(clone);
	EXPECT_GE(was + kib + kib / 128 + kib_of(MIB_PAGES), held());
	close(other);
	EXPECT_TRUE(falls_to(was));
}

TEST(held_kib_is_for_all_to_read_and_for_none_to_write)
{
	struct stat st;

	ASSERT_EQ(0, stat(HELD, &st));
	EXPECT_EQ(0444, st.st_mode & 07777);
}

TEST(what_was_dropped_in_use_is_held_no_longer_after_a_while)
{
	long was = held(), before;
	struct iovec iov = { .iov_len = pgsz() };
	int fd = region_of(1, 1), fds[2];
	char *mem = map_rw(fd, 1), buf[pgsz()];

	mem[0] = 1;
	iov.iov_base = mem;
	ASSERT_EQ(0, pipe(fds));
	ASSERT_EQ((ssize_t)pgsz(), vmsplice(fds[1], &iov, 1, 0));
	before = held();
	EXPECT_EQ(0, do_discard(fd, 0, pgsz()));
	EXPECT_TRUE(falls_to(before - kib_of(1)));
	EXPECT_EQ((ssize_t)pgsz(), read(fds[0], buf, pgsz()));
	EXPECT_EQ(1, buf[0]);
	unmap(mem, 1);
	close(fd);
	EXPECT_TRUE(falls_to(was));
}

TEST_HARNESS_MAIN
