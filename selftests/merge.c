// SPDX-License-Identifier: GPL-2.0-only
/*
 * Promise: COWMEM_IOC_MERGE shares pages of equal content, turns pages of zeroes
 * into holes, and says exactly what it did.  Content does not tell: none changes,
 * no write is lost, and none shows up elsewhere, nor in what was taken from the
 * page before.
 */
#include <linux/futex.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "../kselftest_harness.h"
#include "common.h"

#define PAGES 48
#define LEN (PAGES * pgsz())

/* All of them, from the start and without limit. */
static struct cowmem_merge merge(const int *fds, unsigned int count)
{
	struct cowmem_merge m = { .scanned = -1ULL, .saved = -1ULL };

	must(!do_merge(&m, fds, count));
	must(m.next == count && !m.offset);
	return m;
}

#define EXPECT_MERGED(m, scan, merge, zero, save) do {			\
	struct cowmem_merge __m = (m);					\
									\
	EXPECT_EQ(scan, __m.scanned);					\
	EXPECT_EQ(merge, __m.merged);					\
	EXPECT_EQ(zero, __m.zeroed);					\
	EXPECT_EQ((save) * pgsz(), __m.saved);				\
} while (0)

/* A region whose page i is of tag @tag[i], each as if it was page 0. */
static int region_like(const uint32_t *tag, size_t n)
{
	int fd = region();
	char *mem = map_rw(fd, n);
	size_t i;

	for (i = 0; i < n; i++)
		pg_fill(mem + i * pgsz(), tag[i], 0);
	unmap(mem, n);
	return fd;
}

static bool region_is_like(int fd, const uint32_t *tag, size_t n)
{
	char *buf = anon(n), *mem = map_at(fd, n, PROT_READ, MAP_SHARED, 0);
	bool ok = pread(fd, buf, n * pgsz(), 0) == (ssize_t)(n * pgsz());
	size_t i;

	if (!ok)
		fprintf(stderr, "# pread of %zu pages: %s\n", n, strerror(errno));
	for (i = 0; ok && i < n; i++)
		ok = pg_is(buf + i * pgsz(), tag[i], 0) &&
		     pg_is(mem + i * pgsz(), tag[i], 0);
	unmap(buf, n);
	unmap(mem, n);
	return ok;
}

/* ---- what it does ---- */

TEST(within_a_region)
{
	uint32_t tag[PAGES];
	int fd, i;
	char *mem;

	for (i = 0; i < PAGES; i++)
		tag[i] = i % 8;		/* 6 of each, 0 is zeroes */
	fd = region_like(tag, PAGES);
	mem = map_rw(fd, PAGES);
	EXPECT_TRUE(is(mem + 3 * pgsz(), 1, 3, 0));
	EXPECT_MERGED(merge(&fd, 1), 48, 7 * 5, 6, 7 * 5 + 6);
	EXPECT_EQ(42, info(fd).pages_populated);
	EXPECT_TRUE(region_is_like(fd, tag, PAGES));
	for (i = 0; i < PAGES; i++)
		EXPECT_TRUE(pg_is(mem + i * pgsz(), tag[i], 0));
	/* Nothing is left to do. */
	EXPECT_MERGED(merge(&fd, 1), 42, 0, 0, 0);
	/* Each splits, one by one, and none of the others sees it. */
	for (i = 0; i < PAGES; i++) {
		int j;

		tag[i] = 100 + i;
		pg_fill(mem + i * pgsz(), tag[i], 0);
		for (j = 0; j < PAGES; j++)
			EXPECT_TRUE(pg_is(mem + j * pgsz(), tag[j], 0));
	}
	EXPECT_TRUE(region_is_like(fd, tag, PAGES));
	EXPECT_TRUE(holds(fd, PAGES, 0));
	EXPECT_MERGED(merge(&fd, 1), 48, 0, 0, 0);
	EXPECT_TRUE(holds(fd, PAGES, 0));
}

/* A page that a region holds at several offsets is no longer its own to write. */
TEST(merged_within_a_region_is_shared)
{
	uint32_t tag[] = { 1, 1, 2, 2, 3 };
	int fd = region_like(tag, 5);
	char *mem = map_rw(fd, 5);

	EXPECT_MERGED(merge(&fd, 1), 5, 2, 0, 2);
	EXPECT_TRUE(holds(fd, 1, 4));
	/* The last place that is left has it for itself. */
	pg_fill(mem, 7, 0);
	EXPECT_TRUE(holds(fd, 3, 2));
	EXPECT_TRUE(pg_is(mem + pgsz(), 1, 0));
}

TEST(across_regions)
{
	int fds[3], i, n;
	uint32_t tag[PAGES];
	char *mem[3];

	for (i = 0; i < PAGES; i++)
		tag[i] = 1 + i;
	for (i = 0; i < 3; i++) {
		fds[i] = region_like(tag, PAGES);
		mem[i] = map_rw(fds[i], PAGES);
	}
	EXPECT_MERGED(merge(fds, 3), 3 * PAGES, 2 * PAGES, 0, 2 * PAGES);
	for (i = 0; i < 3; i++) {
		EXPECT_TRUE(holds(fds[i], 0, PAGES));
		EXPECT_TRUE(region_is_like(fds[i], tag, PAGES));
		for (n = 0; n < PAGES; n++)
			EXPECT_TRUE(pg_is(mem[i] + n * pgsz(), tag[n], 0));
	}
	EXPECT_MERGED(merge(fds, 3), 3 * PAGES, 0, 0, 0);
	/* Any of them may go. */
	unmap(mem[0], PAGES);
	close(fds[0]);
	EXPECT_TRUE(holds(fds[1], 0, PAGES));
	unmap(mem[1], PAGES);
	close(fds[1]);
	EXPECT_TRUE(holds(fds[2], PAGES, 0));
	EXPECT_TRUE(region_is_like(fds[2], tag, PAGES));
}

/* Not only one after another: page i of one is page PAGES - i of the other. */
TEST(at_other_offsets_and_in_other_leaves)
{
	enum { FAR = 5000 };
	uint32_t tag[PAGES];
	char buf[pgsz()];
	int fds[2], i;

	fds[1] = region();
	for (i = 0; i < PAGES; i++) {
		tag[i] = 1 + i;
		pg_fill(buf, tag[i], 0);
		ASSERT_EQ((ssize_t)pgsz(),
			  pwrite(fds[1], buf, pgsz(),
				 (FAR + 67 * (PAGES - i)) * pgsz()));
	}
	fds[0] = region_like(tag, PAGES);
	EXPECT_MERGED(merge(fds, 2), 2 * PAGES, PAGES, 0, PAGES);
	EXPECT_TRUE(region_is_like(fds[0], tag, PAGES));
	for (i = 0; i < PAGES; i++)
		EXPECT_TRUE(fd_is_as(fds[1], FAR + 67 * (PAGES - i), tag[i], 0));
	EXPECT_TRUE(fd_is_as(fds[1], 3, 0, 0));
	EXPECT_TRUE(holds(fds[0], 0, PAGES));
	EXPECT_TRUE(holds(fds[1], 0, PAGES));
}

TEST(one_byte_is_a_difference)
{
	uint32_t tag[PAGES];
	char buf[pgsz()];
	int fd, i;

	for (i = 0; i < PAGES; i++)
		tag[i] = i % 2;
	fd = region_like(tag, PAGES);
	/* The last bit of each, in turn, and of zeroes. */
	for (i = 0; i < PAGES; i++) {
		char c = 1 + i;

		ASSERT_EQ(1, pwrite(fd, &c, 1, (i + 1) * pgsz() - 1));
	}
	EXPECT_MERGED(merge(&fd, 1), PAGES, 0, 0, 0);
	EXPECT_TRUE(holds(fd, PAGES, 0));
	for (i = 0; i < PAGES; i++) {
		ASSERT_EQ((ssize_t)pgsz(), pread(fd, buf, pgsz(), i * pgsz()));
		EXPECT_EQ(1 + i, buf[pgsz() - 1]);
	}
}

TEST(zeroes_become_holes)
{
	int fd = region_of(PAGES, 0), clone, i;
	char *mem = map_rw(fd, PAGES), *other;

	/* Written as zeroes, and one in three is something else. */
	for (i = 0; i < PAGES; i++)
		pg_fill(mem + i * pgsz(), i % 3 ? 0 : 1 + i, i);
	EXPECT_TRUE(holds(fd, PAGES, 0));
	EXPECT_MERGED(merge(&fd, 1), 48, 0, 32, 32);
	EXPECT_TRUE(holds(fd, 16, 0));
	for (i = 0; i < PAGES; i++) {
		EXPECT_TRUE(fd_is_as(fd, i, i % 3 ? 0 : 1 + i, i));
		EXPECT_TRUE(pg_is(mem + i * pgsz(), i % 3 ? 0 : 1 + i, i));
	}
	EXPECT_EQ((off_t)pgsz(), lseek(fd, 0, SEEK_HOLE));
	EXPECT_EQ((off_t)(3 * pgsz()), lseek(fd, pgsz(), SEEK_DATA));
	EXPECT_EQ(LEN, info(fd).size);
	fill(mem, PAGES, 7, 0);
	EXPECT_TRUE(fd_is(fd, 0, PAGES, 7));

	/* What a clone has is its own affair, and nothing is saved. */
	fill(mem, PAGES, 0, 0);
	clone = cloned(fd);
	EXPECT_MERGED(merge(&fd, 1), 48, 0, 48, 0);
	EXPECT_TRUE(holds(fd, 0, 0));
	EXPECT_TRUE(holds(clone, PAGES, 0));
	other = map_rw(clone, PAGES);
	EXPECT_TRUE(is(other, PAGES, 0, 0));
	EXPECT_MERGED(merge(&clone, 1), 48, 0, 48, 48);
	EXPECT_EQ(0, info(clone).pages_populated);
	fill(other, PAGES, 3, 0);
	EXPECT_TRUE(fd_is(fd, 0, PAGES, 0));
	EXPECT_TRUE(is(mem, PAGES, 0, 0));
	fill(mem, PAGES, 4, 0);
	EXPECT_TRUE(fd_is(clone, 0, PAGES, 3));
}

TEST(what_a_clone_holds_too_is_not_saved)
{
	uint32_t tag[10] = { 5, 5, 5, 5, 5, 5, 5, 5, 5, 5 };
	int fd = region_like(tag, 10), clone = cloned(fd);
	char *mem;

	EXPECT_TRUE(holds(fd, 0, 10));
	EXPECT_MERGED(merge(&fd, 1), 10, 9, 0, 0);
	EXPECT_TRUE(region_is_like(fd, tag, 10));
	EXPECT_TRUE(region_is_like(clone, tag, 10));
	EXPECT_MERGED(merge(&clone, 1), 10, 9, 0, 9);
	EXPECT_TRUE(region_is_like(clone, tag, 10));
	/* Two clones of one page are one already or get to be. */
	merge((int[]){ fd, clone }, 2);
	EXPECT_MERGED(merge((int[]){ fd, clone }, 2), 20, 0, 0, 0);
	mem = map_rw(clone, 10);
	fill(mem, 10, 9, 0);
	EXPECT_TRUE(region_is_like(fd, tag, 10));
}

TEST(shared_pages_are_merged_already)
{
	uint32_t tag[] = { 1, 2, 3, 4 };
	int fds[2] = { region_like(tag, 4) };

	fds[1] = cloned(fds[0]);
	EXPECT_MERGED(merge(fds, 2), 8, 0, 0, 0);
	EXPECT_TRUE(holds(fds[0], 0, 4));
	EXPECT_TRUE(holds(fds[1], 0, 4));
}

TEST(same_region_named_twice)
{
	uint32_t tag[] = { 1, 2, 1, 2, 0, 3 };
	int fds[4], i;

	fds[0] = region_like(tag, 6);
	for (i = 1; i < 4; i++)
		fds[i] = i % 2 ? fds[0] : dup(fds[0]);
	EXPECT_MERGED(merge(fds, 4), 6 + 3 * 5, 2, 1, 3);
	EXPECT_TRUE(region_is_like(fds[0], tag, 6));
	EXPECT_MERGED(merge(fds, 4), 4 * 5, 0, 0, 0);
	EXPECT_TRUE(region_is_like(fds[0], tag, 6));
}

TEST(empty_regions)
{
	int fds[2] = { region(), region_of(PAGES, 0) };

	EXPECT_MERGED(merge(fds, 2), 0, 0, 0, 0);
}

/* The region that the ioctl is called on counts only if it is named. */
TEST(called_on_another_region)
{
	uint32_t tag[] = { 1, 1 };
	int a = region_like(tag, 2), b = region_like(tag, 2);
	struct cowmem_merge_range range = { .fd = b };
	static struct cowmem_merge_entry table[64];
	struct cowmem_merge m = {
		.ranges = (uintptr_t)&range, .count = 1,
		.table = (uintptr_t)table, .entries = ARRAY_SIZE(table),
	};

	ASSERT_EQ(0, ioctl(a, COWMEM_IOC_MERGE, &m));
	EXPECT_MERGED(m, 2, 1, 0, 1);
	EXPECT_TRUE(holds(a, 2, 0));
}

TEST(as_many_regions_as_there_may_be)
{
	enum { MAX = COWMEM_MERGE_MAX };
	struct cowmem_merge m = {};
	struct rlimit lim;
	int fds[MAX + 1], i;

	ASSERT_EQ(0, getrlimit(RLIMIT_NOFILE, &lim));
	lim.rlim_cur = MAX + 100;
	if (lim.rlim_max < lim.rlim_cur)
		lim.rlim_max = lim.rlim_cur;
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &lim));
	for (i = 0; i <= MAX; i++)
		fds[i] = region_of(2, 4);
	EXPECT_EQ(-1, do_merge(&m, fds, MAX + 1));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_TRUE(holds(fds[0], 2, 0));
	EXPECT_MERGED(merge(fds, MAX), 2 * MAX, 2 * (MAX - 1), 0,
		      2 * (MAX - 1));
	for (i = 0; i < MAX; i++)
		EXPECT_TRUE(fd_is(fds[i], 0, 2, 4));
	EXPECT_TRUE(holds(fds[MAX], 2, 0));
	EXPECT_TRUE(holds(fds[MAX - 1], 0, 2));
}

/* ---- little by little ---- */

TEST(budget)
{
	static const unsigned int budgets[] = { 1, 2, 7, 50, 96, 97, 1000 };
	uint32_t tag[PAGES];
	size_t i, n;

	for (i = 0; i < ARRAY_SIZE(budgets); i++) {
		uint64_t total = 0, calls = 0, zeroed = 0;
		struct cowmem_merge m = { .budget = budgets[i] };
		int fds[3];

		/* Zeroes tell that each was looked at: they need no partner. */
		for (n = 0; n < PAGES; n++)
			tag[n] = n % 2 ? 10 + n : 0;
		fds[0] = region_like(tag, PAGES);
		fds[1] = region_of(PAGES, 0);
		fds[2] = region_like(tag, PAGES);
		while (m.next < 3 && calls < 3 * PAGES) {
			uint32_t next = m.next;
			uint64_t offset = m.offset;

			ASSERT_EQ(0, do_merge(&m, fds, 3));
			EXPECT_EQ(budgets[i], m.budget);
			EXPECT_GE(budgets[i], m.scanned);
			EXPECT_EQ(0, m.offset % pgsz());
			EXPECT_TRUE(m.next > next ||
				    (m.next == next && m.offset > offset));
			total += m.scanned;
			zeroed += m.zeroed;
			calls++;
		}
		EXPECT_EQ(3, m.next);
		EXPECT_EQ(2 * PAGES, total);
		EXPECT_EQ(PAGES, zeroed);
		EXPECT_GE(2 * PAGES / budgets[i] + 1, calls);
		EXPECT_EQ(PAGES / 2, info(fds[0]).pages_populated);
		EXPECT_EQ(PAGES / 2, info(fds[2]).pages_populated);
		EXPECT_TRUE(region_is_like(fds[0], tag, PAGES));
		EXPECT_TRUE(region_is_like(fds[2], tag, PAGES));
		/* At the end there is nothing. */
		ASSERT_EQ(0, do_merge(&m, fds, 3));
		EXPECT_EQ(0, m.scanned);
		EXPECT_EQ(3, m.next);
		for (n = 0; n < 3; n++)
			close(fds[n]);
	}
}

TEST(start_in_the_middle)
{
	uint32_t tag[PAGES] = {};
	struct cowmem_merge m = { .next = 1, .offset = 10 * pgsz() };
	int fds[2] = { region_like(tag, PAGES), region_like(tag, PAGES) };

	ASSERT_EQ(0, do_merge(&m, fds, 2));
	EXPECT_MERGED(m, PAGES - 10, 0, PAGES - 10, PAGES - 10);
	EXPECT_TRUE(holds(fds[0], PAGES, 0));
	EXPECT_TRUE(holds(fds[1], 10, 0));
	/* Past the end of a region, however far, is the next one. */
	m = (struct cowmem_merge){ .offset = -(uint64_t)pgsz() };
	ASSERT_EQ(0, do_merge(&m, fds, 2));
	EXPECT_MERGED(m, 10, 0, 10, 10);
	EXPECT_EQ(2, m.next);
	EXPECT_TRUE(holds(fds[0], PAGES, 0));
}

/* ---- ranges ---- */

/* Merge parts of regions, with a table for this call only. */
static int merge_ranges(struct cowmem_merge *m, int fd,
			const struct cowmem_merge_range *range,
			unsigned int count)
{
	static struct cowmem_merge_entry table[4096];

	memset(table, 0, sizeof(table));
	m->ranges = (uintptr_t)range;
	m->count = count;
	m->table = (uintptr_t)table;
	m->entries = ARRAY_SIZE(table);
	return ioctl(fd, COWMEM_IOC_MERGE, m);
}

/* A range of pages, in pages. */
static struct cowmem_merge_range range_of(int fd, uint64_t first, uint64_t n)
{
	struct cowmem_merge_range range = {
		.fd = fd, .offset = first * pgsz(), .length = n * pgsz(),
	};

	return range;
}

/* @first and @n in pages; all pages are the same, so what is in it is merged. */
static void one_range(struct __test_metadata *_metadata, uint64_t first,
		      uint64_t n, unsigned int in)
{
	int fd = region_of(PAGES, 0), i;
	struct cowmem_merge_range range = range_of(fd, first, n);
	struct cowmem_merge m = {};
	char *mem = map_rw(fd, PAGES);

	for (i = 0; i < PAGES; i++)
		pg_fill(mem + i * pgsz(), 5, 0);
	ASSERT_EQ(0, merge_ranges(&m, fd, &range, 1));
	EXPECT_MERGED(m, in, in ? in - 1 : 0, 0, in ? in - 1 : 0);
	EXPECT_EQ(1, m.next);
	EXPECT_EQ(0, m.offset);
	EXPECT_TRUE(in > 1 ? holds(fd, PAGES - in, in) : holds(fd, PAGES, 0));
	for (i = 0; i < PAGES; i++)
		EXPECT_TRUE(fd_is_as(fd, i, 5, 0));
	/* All that was outside goes on being written in place. */
	pg_fill(mem + 20 * pgsz(), 6, 0);
	for (i = 0; i < PAGES; i++)
		EXPECT_TRUE(fd_is_as(fd, i, i == 20 ? 6 : 5, 0));
	unmap(mem, PAGES);
	close(fd);
}

TEST(only_within_the_range)
{
	one_range(_metadata, 10, 5, 5);
	one_range(_metadata, 0, 1, 1);
	one_range(_metadata, PAGES - 1, 1, 1);
	one_range(_metadata, 1, PAGES - 2, PAGES - 2);
	one_range(_metadata, 0, PAGES, PAGES);
	/* Up to the end. */
	one_range(_metadata, 0, 0, PAGES);
	one_range(_metadata, 30, 0, PAGES - 30);
	one_range(_metadata, PAGES - 1, 0, 1);
	/* Past the end is a hole. */
	one_range(_metadata, PAGES, 0, 0);
	one_range(_metadata, PAGES, 7, 0);
	one_range(_metadata, 1ULL << 40, 0, 0);
	one_range(_metadata, 1ULL << 40, 1ULL << 40, 0);
	one_range(_metadata, PAGES - 2, 1ULL << 40, 2);
	one_range(_metadata, 0, 1ULL << 50, PAGES);
}

TEST(ranges_of_several_regions)
{
	uint32_t tag[PAGES] = {}, other[PAGES];
	int a, b, i;
	struct cowmem_merge_range range[5];
	struct cowmem_merge m = {};

	for (i = 0; i < PAGES; i++) {
		tag[i] = 1 + i % 24;
		other[i] = tag[i];
	}
	a = region_like(tag, PAGES);
	b = region_like(other, PAGES);
	/* Apart, touching, overlapping, in any order. */
	range[0] = range_of(a, 30, 4);		/* contents 7..10 */
	range[1] = range_of(b, 6, 4);		/* 7..10 */
	range[2] = range_of(a, 6, 2);		/* 7, 8 */
	range[3] = range_of(a, 32, 4);		/* 9..12, two of them again */
	range[4] = range_of(b, 10, 2);		/* 11, 12 */
	ASSERT_EQ(0, merge_ranges(&m, b, range, 5));
	EXPECT_MERGED(m, 16, 8, 0, 8);
	EXPECT_EQ(5, m.next);
	EXPECT_TRUE(holds(a, PAGES - 8, 8));
	EXPECT_TRUE(holds(b, PAGES - 6, 6));
	EXPECT_TRUE(region_is_like(a, tag, PAGES));
	EXPECT_TRUE(region_is_like(b, other, PAGES));
	/* Zeroes, too, only in the range. */
	memset(map_rw(b, PAGES), 0, LEN);
	m = (struct cowmem_merge){};
	ASSERT_EQ(0, merge_ranges(&m, b, range + 1, 1));
	EXPECT_MERGED(m, 4, 0, 4, 4);
	EXPECT_EQ(PAGES - 4, info(b).pages_populated);
}

TEST(budget_within_ranges)
{
	unsigned int budget;

	for (budget = 1; budget < 12; budget++) {
		int fd = region_of(PAGES, 0), calls = 0, scanned = 0;
		struct cowmem_merge_range range[3];
		struct cowmem_merge m = { .budget = budget };

		fill(map_rw(fd, PAGES), PAGES, 0, 0);
		range[0] = range_of(fd, 40, 3);
		range[1] = range_of(fd, 100, 3);
		range[2] = range_of(fd, 7, 5);
		while (m.next < 3 && calls++ < 12) {
			ASSERT_EQ(0, merge_ranges(&m, fd, range, 3));
			EXPECT_GE(budget, m.scanned);
			EXPECT_EQ(m.scanned, m.zeroed);
			scanned += m.scanned;
		}
		EXPECT_EQ(3, m.next);
		EXPECT_EQ(8, scanned);
		EXPECT_EQ(PAGES - 8, info(fd).pages_populated);
		close(fd);
	}
}

/* Before the start of the range is its start, past its end is the next one. */
TEST(offset_outside_of_the_range)
{
	int fd = region_of(PAGES, 0);
	struct cowmem_merge_range range[2] = {
		range_of(fd, 10, 5), range_of(fd, 20, 5),
	};
	struct cowmem_merge m = { .offset = 3 * pgsz() };

	fill(map_rw(fd, PAGES), PAGES, 0, 0);
	m.budget = 2;
	ASSERT_EQ(0, merge_ranges(&m, fd, range, 2));
	EXPECT_MERGED(m, 2, 0, 2, 2);
	EXPECT_EQ(0, m.next);
	EXPECT_LE(12 * pgsz(), m.offset);
	EXPECT_EQ(10 * pgsz(), lseek(fd, 0, SEEK_HOLE));
	m = (struct cowmem_merge){ .offset = 15 * pgsz() };
	ASSERT_EQ(0, merge_ranges(&m, fd, range, 2));
	EXPECT_MERGED(m, 5, 0, 5, 5);
	EXPECT_EQ(PAGES - 7, info(fd).pages_populated);
	m = (struct cowmem_merge){ .offset = 30 * pgsz(), .next = 1 };
	ASSERT_EQ(0, merge_ranges(&m, fd, range, 2));
	EXPECT_MERGED(m, 0, 0, 0, 0);
	EXPECT_EQ(2, m.next);
	EXPECT_EQ(0, m.offset);
}

/* ---- the caller's table ---- */

static struct cowmem_merge_entry *table_of(size_t entries)
{
	size_t len = entries * sizeof(struct cowmem_merge_entry);

	return (void *)anon((len + pgsz() - 1) / pgsz());
}

/* A daemon's loop: the sums of all calls. */
static struct cowmem_merge daemon_loop(struct __test_metadata *_metadata,
				       const int *fds, unsigned int count,
				       uint64_t budget)
{
	enum { ENTRIES = 1 << 16 };
	struct cowmem_merge m = {
		.table = (uintptr_t)table_of(ENTRIES), .entries = ENTRIES,
		.budget = budget,
	}, sum = {};
	int calls = 0;

	do {
		EXPECT_EQ(0, do_merge(&m, fds, count));
		sum.scanned += m.scanned;
		sum.merged += m.merged;
		sum.zeroed += m.zeroed;
		sum.saved += m.saved;
		calls++;
	} while (m.next < count && calls < 1000);
	EXPECT_EQ(count, m.next);
	if (budget)
		EXPECT_GE(sum.scanned / budget + 1, calls);
	munmap((void *)(uintptr_t)m.table,
	       ENTRIES * sizeof(struct cowmem_merge_entry));
	return sum;
}

/* What was seen in one call is found again in another. */
TEST(table_remembers)
{
	static const unsigned int budgets[] = { 0, 1, 7, 48, 1000 };
	uint32_t tag[3][PAGES];
	size_t i, n;

	/*
	 * Of 144 pages 16 are zeroes; the others have 48 contents, each once in
	 * the first region and in each other one far from where it was.
	 */
	for (i = 0; i < PAGES; i++) {
		tag[0][i] = 1 + i;
		tag[1][i] = i % 3 ? PAGES - i : 0;
		tag[2][i] = 1 + (i * 5 + 11) % PAGES;
	}
	for (i = 0; i < ARRAY_SIZE(budgets); i++) {
		struct cowmem_merge sum;
		int fds[3];

		for (n = 0; n < 3; n++)
			fds[n] = region_like(tag[n], PAGES);
		sum = daemon_loop(_metadata, fds, 3, budgets[i]);
		EXPECT_MERGED(sum, 3 * PAGES, 80, 16, 96);
		for (n = 0; n < 3; n++) {
			EXPECT_TRUE(region_is_like(fds[n], tag[n], PAGES));
			close(fds[n]);
		}
	}
}

/* What the table knows may have changed between two calls. */
TEST(table_is_out_of_date)
{
	enum { ENTRIES = 1 << 16 };
	uint32_t tag[PAGES];
	struct cowmem_merge m = {
		.table = (uintptr_t)table_of(ENTRIES), .entries = ENTRIES,
		.budget = PAGES,
	};
	int fds[2], i;
	char *mem;

	for (i = 0; i < PAGES; i++)
		tag[i] = 1 + i;
	fds[0] = region_like(tag, PAGES);
	fds[1] = region_like(tag, PAGES);
	mem = map_rw(fds[0], PAGES);
	ASSERT_EQ(0, do_merge(&m, fds, 2));
	EXPECT_EQ(PAGES, m.scanned);
	/* What was seen is overwritten, punched, cut off or still there. */
	for (i = 0; i < 10; i++)
		pg_fill(mem + i * pgsz(), tag[i] = 100 + i, 0);
	ASSERT_EQ(0, do_discard(fds[0], 10 * pgsz(), 10 * pgsz()));
	ASSERT_EQ(0, do_resize(fds[0], (PAGES - 8) * pgsz()));
	m.budget = 0;
	ASSERT_EQ(0, do_merge(&m, fds, 2));
	EXPECT_EQ(2, m.next);
	EXPECT_EQ(PAGES - 20 - 8, m.merged);
	for (i = 10; i < 20; i++)
		tag[i] = 0;
	EXPECT_TRUE(region_is_like(fds[0], tag, PAGES - 8));
	for (i = 0; i < 20; i++)
		tag[i] = 1 + i;
	EXPECT_TRUE(region_is_like(fds[1], tag, PAGES));
}

/* One entry is enough for neighbours, and never wrong. */
TEST(table_of_one_entry)
{
	struct cowmem_merge_entry one[3];
	uint32_t tag[PAGES];
	int fd, other, i;
	struct cowmem_merge m = { .table = (uintptr_t)&one[1], .entries = 1 };

	for (i = 0; i < PAGES; i++)
		tag[i] = 5;
	fd = region_like(tag, PAGES);
	memset(one, 0, sizeof(one));
	one[0].range = 0x5555;
	one[2].range = 0x5555;
	ASSERT_EQ(0, do_merge(&m, &fd, 1));
	EXPECT_MERGED(m, PAGES, PAGES - 1, 0, PAGES - 1);
	EXPECT_TRUE(region_is_like(fd, tag, PAGES));

	for (i = 0; i < PAGES; i++)
		tag[i] = i % 4;
	other = region_like(tag, PAGES);
	memset(&one[1], 0, sizeof(one[1]));
	m.next = 0;
	ASSERT_EQ(0, do_merge(&m, &other, 1));
	EXPECT_EQ(PAGES, m.scanned);
	EXPECT_EQ(PAGES / 4, m.zeroed);
	EXPECT_TRUE(region_is_like(other, tag, PAGES));
	/* Nothing beside the table was written. */
	EXPECT_TRUE(one[0].range == 0x5555 && one[2].range == 0x5555);
	EXPECT_TRUE(!one[0].hash && !one[2].hash && !one[0].offset &&
		    !one[2].offset);
}

/* ---- tables that lie ---- */

enum { LIES = 8, TABLE = 256 };

/* Change a true entry, of a page of range 0, into a false one. */
static void lie(struct cowmem_merge_entry *e, int how)
{
	switch (how) {
	case 0:		/* the page itself, at first */
		break;
	case 1:		/* another page */
		e->offset = (e->offset + 5 * pgsz()) % LEN;
		break;
	case 2:		/* another region, or none */
		e->range = 2 + below(4);
		break;
	case 3:		/* ranges that are not there, or that are negative */
		e->range = below(2) ? 4 + below(1000) : -1U - below(3);
		break;
	case 4:		/* not at a page */
		e->offset += 1 + below(pgsz() - 1);
		break;
	case 5:		/* a hole, far past the end */
		e->offset = below(2) ? -1ULL << below(64) : LEN << below(40);
		break;
	case 6:		/* some bits */
		e->offset ^= 1ULL << below(64);
		e->range ^= 1U << below(32);
		break;
	case 7:		/* all bits */
		e->hash = rng();
		e->range = rng();
		e->offset = rng();
		break;
	}
}

TEST(table_of_lies)
{
	struct cowmem_merge_entry truth[TABLE] = {}, table[TABLE];
	struct cowmem_merge m = {
		.table = (uintptr_t)truth, .entries = TABLE,
	};
	uint32_t tag[PAGES], other[PAGES];
	int model, how, i, round, known = 0;

	rng_init();
	for (i = 0; i < PAGES; i++) {
		tag[i] = i % 12 ? 1 + i : 0;
		other[i] = i % 2 ? tag[(i + 7) % PAGES] : 200 + i;
	}
	/* Hashes that are right make the module look where the lie leads to. */
	model = region_like(tag, PAGES);
	ASSERT_EQ(0, do_merge(&m, &model, 1));
	for (i = 0; i < TABLE; i++)
		known += truth[i].range == 1;
	EXPECT_LT(PAGES / 2, known);
	for (how = 0; how < LIES; how++)
		for (round = 0; round < 6; round++) {
			int fds[3] = {
				region_like(tag, PAGES),
				region_like(other, PAGES),
				region_like(tag, PAGES),
			};
			/* Somebody has what is in it to lose. */
			int snap = snapshot(fds[round % 3]);

			if (round % 2)
				must(!do_discard(fds[2], 10 * pgsz(), LEN -
						 20 * pgsz()));
			memcpy(table, truth, sizeof(table));
			for (i = 0; i < TABLE; i++)
				if (how == 7 || (table[i].range && below(4)))
					lie(&table[i], how);
			m = (struct cowmem_merge){
				.table = (uintptr_t)table, .entries = TABLE,
				.budget = round == 4 ? 20 : 0,
			};
			ASSERT_EQ(0, do_merge(&m, fds, round == 5 ? 1 : 3))
				TH_LOG("lie %d: %s", how, strerror(errno));
			ASSERT_EQ(0, do_merge(&m, fds, round == 5 ? 1 : 3));
			EXPECT_TRUE(region_is_like(fds[0], tag, PAGES));
			EXPECT_TRUE(region_is_like(fds[1], other, PAGES));
			if (round % 2) {
				EXPECT_TRUE(region_is_like(fds[2], tag, 10));
				EXPECT_TRUE(fd_is(fds[2], 10, PAGES - 20, 0));
			} else {
				EXPECT_TRUE(region_is_like(fds[2], tag, PAGES));
			}
			EXPECT_TRUE(region_is_like(snap, round % 3 == 1 ?
						   other : tag, PAGES));
			for (i = 0; i < 3; i++) {
				struct cowmem_info in = info(fds[i]);

				EXPECT_EQ(in.pages_populated,
					  in.pages_exclusive + in.pages_shared);
				close(fds[i]);
			}
			close(snap);
		}
}

/* Each page of the region is said to be where it is: nothing to do. */
TEST(entry_of_the_page_itself)
{
	struct cowmem_merge_entry table[TABLE] = {};
	struct cowmem_merge m = {
		.table = (uintptr_t)table, .entries = TABLE,
	};
	uint32_t tag[PAGES];
	int fds[2], i;

	for (i = 0; i < PAGES; i++)
		tag[i] = 1 + i;
	for (i = 0; i < 2; i++)
		fds[i] = region_like(tag, PAGES);
	ASSERT_EQ(0, do_merge(&m, &fds[0], 1));
	m.next = 0;
	ASSERT_EQ(0, do_merge(&m, &fds[1], 1));
	EXPECT_MERGED(m, PAGES, 0, 0, 0);
	EXPECT_TRUE(holds(fds[1], PAGES, 0));
	EXPECT_TRUE(region_is_like(fds[1], tag, PAGES));
	/* By another name it still is the same page. */
	m.next = 0;
	ASSERT_EQ(0, do_merge(&m, (int[]){ fds[1], fds[1] }, 2));
	EXPECT_MERGED(m, 2 * PAGES, 0, 0, 0);
	EXPECT_TRUE(holds(fds[1], PAGES, 0));
}

struct liar {
	struct cowmem_merge_entry *table;
	int stop;
};

static void *lie_on(void *arg)
{
	struct liar *l = arg;
	uint64_t n = 1;

	while (!get(&l->stop)) {
		n = n * 6364136223846793005ULL + 1442695040888963407ULL;
		l->table[n >> 56].offset = l->table[n >> 48 & 255].offset;
		l->table[n >> 40 & 255].range = 1 + (n >> 33) % 4;
	}
	return NULL;
}

/* The table changes while it is in use. */
TEST(table_that_is_written_meanwhile)
{
	struct liar liar = { .table = table_of(TABLE) };
	uint32_t tag[PAGES];
	pthread_t thread;
	int i, round;

	for (i = 0; i < PAGES; i++)
		tag[i] = i % 30;
	ASSERT_EQ(0, pthread_create(&thread, NULL, lie_on, &liar));
	for (round = 0; round < 12; round++) {
		int fds[3];
		struct cowmem_merge m = {
			.table = (uintptr_t)liar.table, .entries = TABLE,
		};

		for (i = 0; i < 3; i++)
			fds[i] = region_like(tag, PAGES);
		ASSERT_EQ(0, do_merge(&m, fds, 3));
		for (i = 0; i < 3; i++) {
			ASSERT_TRUE(region_is_like(fds[i], tag, PAGES));
			close(fds[i]);
		}
	}
	put(&liar.stop, 1);
	ASSERT_EQ(0, pthread_join(thread, NULL));
}

/* The table is in a region that is merged; what it holds is none of its pages. */
FIXTURE(inside) {
	int fds[2];
	char *mem;
};

/* Of the table: the page where it begins, so many bytes before it, and 256ths of a page. */
FIXTURE_VARIANT(inside) {
	size_t page, before, entries;
};

FIXTURE_VARIANT_ADD(inside, first_page) { .page = 0, .entries = 64 };
FIXTURE_VARIANT_ADD(inside, last_pages) { .page = PAGES - 2, .entries = 500 };
FIXTURE_VARIANT_ADD(inside, across_pages) { .page = 20, .before = 8, .entries = 600 };

FIXTURE_SETUP(inside)
{
}

FIXTURE_TEARDOWN(inside)
{
}

TEST_F(inside, the_region)
{
	size_t at = variant->page * pgsz() - variant->before, first = at / pgsz(), i;
	size_t entries = variant->entries * (pgsz() / 4096);
	size_t end = (at + entries * 16 + pgsz() - 1) / pgsz();
	uint32_t tag[PAGES];
	struct cowmem_merge m = { .entries = entries };
	struct cowmem_merge_range *range;

	for (i = 0; i < PAGES; i++)
		tag[i] = i >= first && i < end ? 0 : 1 + i % 20;
	self->fds[0] = region_like(tag, PAGES);
	self->fds[1] = cloned(self->fds[0]);
	self->mem = map_rw(self->fds[0], PAGES);
	must(end <= PAGES);
	m.table = (uintptr_t)self->mem + at;
	ASSERT_EQ(0, do_merge(&m, self->fds, 2));
	EXPECT_EQ(2, m.next);
	/* So is the array of ranges. */
	range = (void *)(self->mem + at + entries * 16 - 64);
	range[0] = range_of(self->fds[0], 0, 0);
	range[1] = range_of(self->fds[1], 0, 0);
	m.next = 0;
	m.ranges = (uintptr_t)range;
	ASSERT_EQ(0, ioctl(self->fds[0], COWMEM_IOC_MERGE, &m));
	EXPECT_EQ(2, m.next);
	for (i = 0; i < PAGES; i++) {
		if (i < first || i >= end)
			EXPECT_TRUE(fd_is_as(self->fds[0], i, tag[i], 0));
		EXPECT_TRUE(fd_is_as(self->fds[1], i, tag[i], 0));
	}
	EXPECT_LT(0, m.scanned);
}

/* ---- errors ---- */

TEST(errors)
{
	int fd = region_of(4, 1), other = region_of(4, 1), snap = snapshot(fd);
	int sealed = region_of(4, 1), wo = open(COWMEM_DEV, O_WRONLY), closed;
	int file = open("/proc/self/exe", O_RDONLY), used;
	static struct cowmem_merge_entry table[64];
	uint64_t ps = pgsz();
	struct cowmem_merge m;
	unsigned int i, at;

	ASSERT_EQ(0, do_seal(sealed, COWMEM_SEAL_WRITE));
	closed = dup(fd);
	close(closed);
	used = count_fds();
	/* @range is what takes the place of each of three good ones. */
#define ERR(err, called, n, range, ...) do {				\
	const struct cowmem_merge_range __bad = range;			\
									\
	for (at = 0; at < 3; at++) {					\
		struct cowmem_merge_range __r[3] = {			\
			{ .fd = other }, { .fd = fd }, { .fd = other },	\
		};							\
									\
		__r[at] = __bad;					\
		m = (struct cowmem_merge){				\
			.ranges = (uintptr_t)__r, .count = n,		\
			.table = (uintptr_t)table,			\
			.entries = ARRAY_SIZE(table),			\
		};							\
		do { __VA_ARGS__; } while (0);				\
		errno = 0;						\
		EXPECT_EQ(-1, ioctl(called, COWMEM_IOC_MERGE, &m));	\
		EXPECT_EQ(err, errno);					\
		EXPECT_EQ(used, count_fds());				\
		EXPECT_TRUE(holds(other, 4, 0));			\
		EXPECT_TRUE(holds(fd, 0, 4));				\
	}								\
} while (0)
#define R(_fd, ...) ((struct cowmem_merge_range){ .fd = _fd, __VA_ARGS__ })
	ERR(EBADF, fd, 3, R(snap));
	ERR(EBADF, fd, 3, R(closed));
	ERR(EBADF, fd, 3, R(file));
	ERR(EBADF, fd, 3, R(wo));
	ERR(EBADF, fd, 3, R(-1));
	ERR(EBADF, closed, 3, R(fd));
	ERR(EPERM, fd, 3, R(sealed));
	ERR(EINVAL, fd, 3, R(fd, .reserved = 1));
	ERR(EINVAL, fd, 3, R(fd, .reserved = 1U << 31));
	ERR(EINVAL, fd, 3, R(fd, .offset = 1));
	ERR(EINVAL, fd, 3, R(fd, .offset = ps - 1));
	ERR(EINVAL, fd, 3, R(fd, .length = 1));
	ERR(EINVAL, fd, 3, R(fd, .offset = ps, .length = ps + 512));
	ERR(EINVAL, fd, 3, R(fd, .offset = -1ULL));
	ERR(EINVAL, fd, 3, R(fd, .length = -1ULL));
	ERR(EINVAL, fd, 3, R(fd, .offset = 2 * ps, .length = -ps));
	ERR(EINVAL, fd, 3, R(fd, .offset = -ps, .length = 2 * ps));
	ERR(EINVAL, fd, 3, R(fd, .offset = 1ULL << 63,
			     .length = (1ULL << 63) + ps));
	ERR(EINVAL, fd, 0, R(fd));
	ERR(EINVAL, fd, COWMEM_MERGE_MAX + 1, R(fd));
	ERR(EINVAL, fd, -1U, R(fd));
	ERR(EINVAL, fd, 3, R(fd), m.next = 4);
	ERR(EINVAL, fd, 3, R(fd), m.next = -1U);
	ERR(EINVAL, fd, 3, R(fd), m.offset = 1);
	ERR(EINVAL, fd, 3, R(fd), m.offset = ps - 1);
	ERR(EINVAL, fd, 3, R(fd), m.entries = 0);
	ERR(EINVAL, fd, 3, R(fd), m.entries = 0, m.table = 0);
	for (i = 1; i; i <<= 1)
		ERR(EOPNOTSUPP, fd, 3, R(fd), m.flags = i);
	for (i = 0; i < 4; i++) {
		const uint64_t bad[] = {
			0, -8ULL, -4096ULL,
			(uintptr_t)(guarded(1) + pgsz() - 8),
		};

		ERR(EFAULT, fd, 3, R(fd), m.ranges = bad[i]);
		ERR(EFAULT, fd, 3, R(fd), m.table = bad[i]);
	}
	EXPECT_TRUE(fd_is(sealed, 0, 4, 1));
	EXPECT_TRUE(fd_is(snap, 0, 4, 1));
	EXPECT_TRUE(fd_is(other, 0, 4, 1));
	/* No call got as far as the table. */
	for (i = 0; i < ARRAY_SIZE(table); i++)
		EXPECT_EQ(0, table[i].range);
}

/* A table that can be read only up to some entry, or not be written. */
TEST(table_that_ends_early)
{
	uint32_t tag[PAGES];
	int fd, i, part;

	for (i = 0; i < PAGES; i++)
		tag[i] = 1 + i % 30;
	for (part = 0; part < 4; part++) {
		struct cowmem_merge_entry *table = (void *)guarded(1);
		struct cowmem_merge m = {
			.table = (uintptr_t)table,
			.entries = part % 2 ? 1 << 20 : pgsz() / sizeof(*table),
		};
		int ret;

		/* All of it is there or not; it may be written or not. */
		if (part / 2)
			ASSERT_EQ(0, mprotect(table, pgsz(), PROT_READ));
		fd = region_like(tag, PAGES);
		ret = do_merge(&m, &fd, 1);
		EXPECT_EQ(part ? EFAULT : 0, ret ? errno : 0);
		EXPECT_TRUE(region_is_like(fd, tag, PAGES));
		fill(map_rw(fd, PAGES), PAGES, 3, 0);
		EXPECT_TRUE(fd_is(fd, 0, PAGES, 3));
		close(fd);
	}
}

/* ---- writes afterwards, and pins from before ---- */

FIXTURE(pin) {
	int fds[2];
	char *mem[2];
};

FIXTURE_VARIANT(pin) {
	int pinned;		/* bits: which of the regions */
	bool granted;		/* is the page its region's to write? */
	bool later;		/* the pin comes after the merge */
};

FIXTURE_VARIANT_ADD(pin, none) { .granted = true };
FIXTURE_VARIANT_ADD(pin, first) { .pinned = 1, .granted = true };
FIXTURE_VARIANT_ADD(pin, second) { .pinned = 2, .granted = true };
FIXTURE_VARIANT_ADD(pin, both) { .pinned = 3, .granted = true };
FIXTURE_VARIANT_ADD(pin, none_not_granted) { .pinned = 0 };
FIXTURE_VARIANT_ADD(pin, first_not_granted) { .pinned = 1 };
FIXTURE_VARIANT_ADD(pin, second_not_granted) { .pinned = 2 };
FIXTURE_VARIANT_ADD(pin, both_not_granted) { .pinned = 3 };
FIXTURE_VARIANT_ADD(pin, first_later) {
	.pinned = 1, .granted = true, .later = true,
};
FIXTURE_VARIANT_ADD(pin, second_later) {
	.pinned = 2, .granted = true, .later = true,
};
FIXTURE_VARIANT_ADD(pin, both_later) { .pinned = 3, .later = true };

FIXTURE_SETUP(pin)
{
}

FIXTURE_TEARDOWN(pin)
{
}

enum { NPIN = 4 };

static void pin_it(int pinned, char **mem, int pipes[2][2])
{
	int i;

	for (i = 0; i < 2; i++) {
		struct iovec iov = { mem[i], NPIN * pgsz() };

		if (!(pinned & 1 << i))
			continue;
		must(!pipe(pipes[i]));
		must(vmsplice(pipes[i][1], &iov, 1, 0) ==
		     (ssize_t)(NPIN * pgsz()));
	}
}

TEST_F(pin, later_writes_do_not_leak)
{
	static const uint32_t tag[NPIN] = { 1, 2, 3, 4 };
	char *got = anon(NPIN), *secret[2] = { anon(NPIN), anon(NPIN) };
	int pipes[2][2], how, i, n, alone;
	const size_t len = NPIN * pgsz();

	for (n = 0; n < 2; n++)
		for (i = 0; i < NPIN; i++)
			pg_fill(secret[n] + i * pgsz(), 0x5ec2e7 + n, i);
	/*
	 * Bits of how: who writes first, by pwrite, whether the first one is
	 * let go of before that.
	 */
	for (how = 0; how < 16; how++) {
		struct cowmem_merge m;
		bool still = false;

		alone = how & 4 ? (how & 1) ^ 1 : -1;
		for (i = 0; i < 2; i++) {
			self->fds[i] = region_like(tag, NPIN);
			self->mem[i] = map_rw(self->fds[i], NPIN);
			for (n = 0; n < NPIN; n++)
				EXPECT_TRUE(pg_is(self->mem[i] + n * pgsz(),
						  tag[n], 0));
			if (!variant->granted)
				close(cloned(self->fds[i]));
		}
		if (!variant->later)
			pin_it(variant->pinned, self->mem, pipes);
		m = merge(self->fds, 2);
		EXPECT_EQ(2 * NPIN, m.scanned);
		/* A page that could be written through the pin is left alone. */
		if (variant->granted && variant->pinned && !variant->later) {
			EXPECT_EQ(0, m.merged);
			EXPECT_TRUE(holds(self->fds[0], NPIN, 0));
			still = true;
		}
		if (!variant->pinned || variant->later) {
			EXPECT_EQ(NPIN, m.merged);
			EXPECT_EQ(NPIN * pgsz(), m.saved);
			EXPECT_TRUE(holds(self->fds[0], 0, NPIN));
		}
		if (variant->later)
			pin_it(variant->pinned, self->mem, pipes);
		for (i = 0; i < 2; i++)
			for (n = 0; n < NPIN; n++)
				EXPECT_TRUE(pg_is(self->mem[i] + n * pgsz(),
						  tag[n], 0));
		if (alone >= 0) {
			unmap(self->mem[alone], NPIN);
			close(self->fds[alone]);
		}
		for (i = 0; i < 2; i++) {
			n = i ^ (how & 1);
			if (n == alone)
				continue;
			/* Through a pin one does see one's own writes. */
			if (still && variant->pinned & 1 << n)
				continue;
			if (how & 2)
				must(pwrite(self->fds[n], secret[n], len, 0) ==
				     (ssize_t)len);
			else
				memcpy(self->mem[n], secret[n], len);
			EXPECT_EQ(0, memcmp(self->mem[n], secret[n], len));
			if (!i && alone < 0)
				EXPECT_TRUE(region_is_like(self->fds[n ^ 1],
							   tag, NPIN));
			/* Once more, when the page is the writer's own. */
			if (how & 8) {
				close(cloned(self->fds[n]));
				memcpy(self->mem[n], secret[n], len);
			}
		}
		for (i = 0; i < 2; i++) {
			if (!(variant->pinned & 1 << i))
				continue;
			ASSERT_TRUE(drain(pipes[i][0], got, len));
			for (n = 0; n < NPIN; n++)
				EXPECT_TRUE(pg_is(got + n * pgsz(), tag[n], 0))
					TH_LOG("how %d, pipe %d", how, i);
			close(pipes[i][0]);
			close(pipes[i][1]);
		}
		for (i = 0; i < 2; i++) {
			if (i == alone)
				continue;
			if (!(still && variant->pinned & 1 << i)) {
				EXPECT_EQ(0, memcmp(self->mem[i], secret[i], len));
				EXPECT_TRUE(holds(self->fds[i], NPIN, 0));
			}
			unmap(self->mem[i], NPIN);
			close(self->fds[i]);
		}
	}
}

/* The attacker pins, merges, leaves; the victim's page was the duplicate. */
TEST(cve_2020_29374_by_merging)
{
	static const uint32_t tag[NPIN] = { 1, 2, 3, 4 };
	const size_t len = NPIN * pgsz();
	char *got = anon(NPIN);
	int order, by_pwrite;

	for (order = 0; order < 2; order++)
		for (by_pwrite = 0; by_pwrite < 2; by_pwrite++) {
			int victim = region_like(tag, NPIN);
			int attacker = region_like(tag, NPIN), pipes[2], i;
			char *mem = map_rw(victim, NPIN), *own;
			struct iovec iov;

			EXPECT_EQ(NPIN, merge(order ?
					      (int[]){ victim, attacker } :
					      (int[]){ attacker, victim },
					      2).merged);
			own = map_ro(attacker, NPIN);
			iov.iov_base = own;
			iov.iov_len = len;
			ASSERT_EQ(0, pipe(pipes));
			ASSERT_EQ((ssize_t)len,
				  vmsplice(pipes[1], &iov, 1, 0));
			unmap(own, NPIN);
			close(attacker);
			EXPECT_TRUE(holds(victim, NPIN, 0));
			memset(got, 0x5e, len);
			if (by_pwrite)
				must(pwrite(victim, got, len, 0) == (ssize_t)len);
			else
				memset(mem, 0x5e, len);
			ASSERT_TRUE(drain(pipes[0], got, len));
			for (i = 0; i < NPIN; i++)
				EXPECT_TRUE(pg_is(got + i * pgsz(), tag[i], 0));
			EXPECT_EQ(0x5e, mem[0]);
			close(pipes[0]);
			close(pipes[1]);
			close(victim);
			unmap(mem, NPIN);
		}
}

TEST(fork_and_second_mappings_follow)
{
	uint32_t tag[] = { 1, 1, 2, 2, 0, 0 };
	int fds[2] = { region_like(tag, 6), region_like(tag, 6) };
	char *mem = map_rw(fds[0], 6), *mem2 = map_rw(fds[0], 6);
	int *turn = shared_mem(sizeof(*turn)), i;
	pid_t pid;

	for (i = 0; i < 6; i++) {
		EXPECT_EQ(0, touch(mem + i * pgsz(), true));
		EXPECT_EQ(0, touch(mem2 + i * pgsz(), true));
	}
	pid = spawn();
	if (!pid) {
		put(turn, 1);
		await(turn, 2);
		for (i = 0; i < 6; i++)
			must(pg_is(mem + i * pgsz(), tag[i], 0));
		mem2[0] = 'c';
		mem[5 * pgsz()] = 'c';
		_exit(0);
	}
	await(turn, 1);
	EXPECT_MERGED(merge(fds, 2), 12, 6, 4, 10);
	put(turn, 2);
	EXPECT_EQ(0, reap(pid));
	EXPECT_EQ('c', mem[0]);
	EXPECT_EQ('c', mem2[0]);
	EXPECT_EQ('c', mem[5 * pgsz()]);
	EXPECT_TRUE(pg_is(mem + pgsz(), 1, 0));
	EXPECT_TRUE(pg_is(mem2 + 4 * pgsz(), 0, 0));
	EXPECT_TRUE(region_is_like(fds[1], tag, 6));
}

/* ---- others write meanwhile ---- */

enum { THREADS = 4, COUNTED = 32 };

struct counter {
	char *mem[2];
	int nr, *stop;
	uint64_t passes;
};

/* Counts its own word on each page; half of the time all pages are equal. */
static void *count_on(void *arg)
{
	struct counter *c = arg;
	int page;

	while (!get(c->stop)) {
		for (page = 0; page < COUNTED; page++) {
			volatile uint64_t *p;

			p = (void *)(c->mem[page % 2] + page * pgsz());
			p[c->nr * 77]++;
		}
		c->passes++;
		if (!(c->passes % 16))
			usleep(200);
	}
	return NULL;
}

static void counters(struct __test_metadata *_metadata, bool process)
{
	struct counter *c = shared_mem(THREADS * sizeof(*c));
	int fds[2] = { region_of(COUNTED, 0), 0 }, i, page, calls = 0;
	int *stop = shared_mem(sizeof(*stop));
	struct cowmem_merge sum = {}, m;
	pthread_t thread[THREADS];
	pid_t pid[THREADS];
	double end;

	fds[1] = cloned(fds[0]);
	for (i = 0; i < THREADS; i++) {
		c[i].mem[0] = map_rw(fds[i / 2 % 2], COUNTED);
		c[i].mem[1] = map_rw(fds[i / 2 % 2], COUNTED);
		c[i].nr = 1 + i % 2;
		c[i].stop = stop;
	}
	for (i = 0; i < THREADS; i++) {
		if (!process || i % 2) {
			ASSERT_EQ(0, pthread_create(&thread[i], NULL, count_on,
						    &c[i]));
			continue;
		}
		pid[i] = spawn();
		if (!pid[i]) {
			count_on(&c[i]);
			_exit(0);
		}
	}
	end = now() + effort(5000) / 1000.0;
	do {
		m = merge(fds, 2);
		sum.merged += m.merged;
		sum.zeroed += m.zeroed;
		calls++;
		if (calls % 4 == 3)
			usleep(500);
	} while (now() < end || calls < 8);
	put(stop, 1);
	for (i = 0; i < THREADS; i++)
		if (!process || i % 2)
			must(!pthread_join(thread[i], NULL));
		else
			must(!reap(pid[i]));
	TH_LOG("%d calls merged %llu and zeroed %llu beside %llu passes", calls,
	       (unsigned long long)sum.merged, (unsigned long long)sum.zeroed,
	       (unsigned long long)(c[0].passes + c[3].passes));
	EXPECT_LT(0, sum.merged);
	for (i = 0; i < THREADS; i++) {
		EXPECT_LT(0, c[i].passes);
		for (page = 0; page < COUNTED; page++) {
			uint64_t seen;

			must(pread(fds[i / 2 % 2], &seen, 8, page * pgsz() +
				   c[i].nr * 77 * 8) == 8);
			EXPECT_EQ(c[i].passes, seen);
			EXPECT_EQ(c[i].passes,
				  *(uint64_t *)(c[i].mem[1] + page * pgsz() +
						c[i].nr * 77 * 8));
		}
	}
}

TEST(no_write_of_a_thread_is_lost)
{
	counters(_metadata, false);
}

TEST(no_write_of_a_process_is_lost)
{
	counters(_metadata, true);
}

/* Several merge the same regions at once, in any order. */
struct merger {
	int fds[3], *stop;
	uint64_t calls;
};

static void *merge_on(void *arg)
{
	struct merger *m = arg;

	while (!get(m->stop)) {
		merge(m->fds, 3);
		m->calls++;
	}
	return NULL;
}

TEST(merging_at_once)
{
	enum { MERGERS = 3 };
	static const int order[MERGERS][3] = {
		{ 0, 1, 2 }, { 2, 1, 0 }, { 1, 2, 0 },
	};
	struct merger merger[MERGERS];
	int fds[3], stop = 0, i, round;
	uint32_t tag[PAGES];
	pthread_t thread[MERGERS];
	char *mem[3];

	for (i = 0; i < PAGES; i++)
		tag[i] = i % 5;
	for (i = 0; i < 3; i++) {
		fds[i] = region_like(tag, PAGES);
		mem[i] = map_rw(fds[i], PAGES);
	}
	for (i = 0; i < MERGERS; i++) {
		merger[i] = (struct merger){ .stop = &stop };
		for (round = 0; round < 3; round++)
			merger[i].fds[round] = fds[order[i][round]];
		ASSERT_EQ(0, pthread_create(&thread[i], NULL, merge_on,
					    &merger[i]));
	}
	for (round = 0; round < 60; round++) {
		int clone = round % 4 ? -1 : cloned(fds[round % 3]);

		for (i = 0; i < PAGES; i++)
			pg_fill(mem[round % 3] + i * pgsz(), tag[i], 0);
		for (i = 0; i < PAGES; i++)
			ASSERT_TRUE(pg_is(mem[round % 3] + i * pgsz(), tag[i],
					  0));
		if (clone >= 0) {
			EXPECT_TRUE(region_is_like(clone, tag, PAGES));
			close(clone);
		}
	}
	put(&stop, 1);
	for (i = 0; i < MERGERS; i++) {
		ASSERT_EQ(0, pthread_join(thread[i], NULL));
		EXPECT_LT(0, merger[i].calls);
	}
	for (i = 0; i < 3; i++)
		EXPECT_TRUE(region_is_like(fds[i], tag, PAGES));
}

/* ---- futexes ---- */

struct sleeper {
	uint32_t *word;
	int *ready;
	long ret;
};

static long futex(uint32_t *word, int op, uint32_t val)
{
	struct timespec ts = { .tv_sec = 20 };

	return syscall(SYS_futex, word, op, val,
		       op == FUTEX_WAIT ? &ts : NULL, NULL, 0);
}

static void *sleep_on(void *arg)
{
	struct sleeper *s = arg;

	__atomic_add_fetch(s->ready, 1, __ATOMIC_ACQ_REL);
	s->ret = futex(s->word, FUTEX_WAIT, 0);
	if (s->ret)
		s->ret = -errno;
	return NULL;
}

TEST(futex_waiters_are_found)
{
	enum { SLEEPERS = 4 };
	uint32_t tag[] = { 0, 1, 1 };
	int fds[2] = { region_like(tag, 3), region_like(tag, 3) }, i, ready = 0;
	char *mem[2] = { map_rw(fds[0], 3), map_rw(fds[1], 3) };
	struct sleeper sleeper[SLEEPERS];
	pthread_t thread[SLEEPERS];
	uint32_t *word[SLEEPERS];
	int woken;

	/* In either region, on a page of zeroes and on one that is not. */
	for (i = 0; i < SLEEPERS; i++) {
		word[i] = (uint32_t *)(mem[i / 2] + (1 + i % 2) * pgsz() + 64);
		*word[i] = 0;
		sleeper[i] = (struct sleeper){ .word = word[i], .ready = &ready };
	}
	memset(mem[0] + 2 * pgsz(), 0, pgsz());
	for (i = 0; i < SLEEPERS; i++)
		ASSERT_EQ(0, pthread_create(&thread[i], NULL, sleep_on,
					    &sleeper[i]));
	await(&ready, SLEEPERS);
	usleep(300000);
	EXPECT_MERGED(merge(fds, 2), 6, 2, 3, 5);
	EXPECT_EQ(0, *word[0]);
	/* Through other mappings, or by a writer. */
	for (i = 0; i < SLEEPERS; i++) {
		char *other = map_rw(fds[i / 2], 3);
		uint32_t *p = (uint32_t *)(other + (1 + i % 2) * pgsz() + 64);

		if (i % 2)
			*p = 1;
		woken = futex(p, FUTEX_WAKE, 100);
		EXPECT_EQ(1, woken);
	}
	for (i = 0; i < SLEEPERS; i++) {
		ASSERT_EQ(0, pthread_join(thread[i], NULL));
		EXPECT_EQ(0, sleeper[i].ret);
	}
}

/* ---- a model ---- */

TEST(random_model)
{
	enum { REGIONS = 4 };
	char *want[REGIONS], *snap_want = anon(PAGES), *mem[REGIONS];
	char *buf = anon(PAGES);
	static struct cowmem_merge_entry table[64];
	uint64_t merged = 0, zeroed = 0, saved = 0;
	int fds[REGIONS], steps = random_ops(1500), step, i, snap;

	rng_init();
	for (i = 0; i < REGIONS; i++) {
		fds[i] = region_of(PAGES, 0);
		mem[i] = map_rw(fds[i], PAGES);
		want[i] = anon(PAGES);
	}
	snap = snapshot(fds[0]);
	for (step = 0; step < steps || ((!merged || !zeroed) && step < 10 * steps);
	     step++) {
		int r = below(REGIONS), s = below(REGIONS);
		size_t page = below(PAGES), at = page * pgsz() + below(pgsz());
		struct cowmem_restore restore = { .flags = below(2) };
		struct cowmem_merge m = {};
		int set[REGIONS];
		char c;

		switch (below(16)) {
		case 0 ... 3:	/* one of few contents */
			c = below(3);
			memset(mem[r] + page * pgsz(), c, pgsz());
			memset(want[r] + page * pgsz(), c, pgsz());
			break;
		case 4 ... 5:
			want[r][at] = below(3);
			mem[r][at] = want[r][at];
			break;
		case 6 ... 7:
			c = below(3);
			memset(buf, c, pgsz());
			must(pwrite(fds[r], buf, pgsz(), page * pgsz()) ==
			     (ssize_t)pgsz());
			memset(want[r] + page * pgsz(), c, pgsz());
			break;
		case 8:
			must(!do_discard(fds[r], page * pgsz(), pgsz() + 1 -
					 (page == PAGES - 1)));
			memset(want[r] + page * pgsz(), 0, pgsz() + 1 -
			       (page == PAGES - 1));
			break;
		case 9:		/* replace one by a clone of another */
			if (r == s || below(2))
				break;
			unmap(mem[r], PAGES);
			close(fds[r]);
			fds[r] = cloned(fds[s]);
			mem[r] = map_rw(fds[r], PAGES);
			memcpy(want[r], want[s], LEN);
			break;
		case 10:
			if (below(4))
				break;
			close(snap);
			snap = snapshot(fds[r]);
			memcpy(snap_want, want[r], LEN);
			break;
		case 11:
			if (below(2))
				break;
			restore.fd = snap;
			must(!ioctl(fds[r], COWMEM_IOC_RESTORE, &restore));
			memcpy(want[r], snap_want, LEN);
			break;
		default:
			for (i = 0; i < REGIONS; i++)
				set[i] = fds[(i + r) % REGIONS];
			/* An old table knows what is long gone. */
			if (below(4)) {
				m.table = (uintptr_t)table;
				m.entries = 1 + below(ARRAY_SIZE(table));
			}
			m.budget = below(2) ? below(100) : 0;
			m.next = below(1 + s);
			m.offset = below(2) ? 0 : page * pgsz();
			must(!do_merge(&m, set, 1 + s));
			merged += m.merged;
			zeroed += m.zeroed;
			saved += m.saved;
			EXPECT_TRUE(m.merged + m.zeroed <= m.scanned &&
				    m.saved <= (m.merged + m.zeroed) * pgsz());
		}
		for (i = 0; i < REGIONS; i++) {
			ASSERT_EQ(0, memcmp(mem[i], want[i], LEN))
				TH_LOG("step %d, region %d", step, i);
			if (step % 8)
				continue;
			must(pread(fds[i], buf, LEN, 0) == (ssize_t)LEN);
			ASSERT_EQ(0, memcmp(buf, want[i], LEN))
				TH_LOG("step %d, region %d", step, i);
		}
		if (step % 8 == 0) {
			must(pread(snap, buf, LEN, 0) == (ssize_t)LEN);
			ASSERT_EQ(0, memcmp(buf, snap_want, LEN))
				TH_LOG("step %d, snapshot", step);
		}
	}
	TH_LOG("merged %llu zeroed %llu saved %llu", (unsigned long long)merged,
	       (unsigned long long)zeroed, (unsigned long long)saved);
	EXPECT_LT(0, merged);
	EXPECT_LT(0, zeroed);
}

TEST_HARNESS_MAIN
