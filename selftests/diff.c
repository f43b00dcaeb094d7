// SPDX-License-Identifier: GPL-2.0-only
/*
 * Promise: DIFF lists where two regions differ: all of it, nothing else, in order,
 * into an array of any length, at a cost of what differs.  With snapshots that
 * makes a loop that tracks what a program writes.
 */
#include <pthread.h>

#include "../kselftest_harness.h"
#include "common.h"
#include "shadow.h"

static int resume_diff(int fd, int other, struct cowmem_diff *arg)
{
	arg->fd = other;
	return ioctl(fd, COWMEM_IOC_DIFF, arg);
}

/* What a comparison found: for each page what it says, or SAME. */
enum { SAME = -1 };

struct found {
	signed char *kind;
	uint64_t size;		/* in pages */
	uint64_t pages, extents, calls, nodes;
	bool ok;
};

/*
 * Compare to the end, @count extents at a time.  Whatever is wrong with the
 * extents is printed.
 */
static struct found compare(int fd, int other, uint32_t flags, uint32_t count)
{
	uint64_t a = info(fd).size, b = info(other).size, last = 0, i;
	struct cowmem_extent *e = calloc(count + 1, sizeof(*e));
	struct found f = { .ok = true };
	struct cowmem_diff arg = { .flags = flags };

	f.size = ((a > b ? a : b) + pgsz() - 1) / pgsz();
	f.kind = malloc(f.size + 1);
	must(e && f.kind);
	memset(f.kind, SAME, f.size + 1);
#define GOOD(cond) do {							\
	if (!(cond)) {							\
		fprintf(stderr, "# not so: %s: call %llu, extent %llu\n", \
			#cond, (unsigned long long)f.calls,		\
			(unsigned long long)i);				\
		f.ok = false;						\
	}								\
} while (0)
	do {
		uint64_t offset = arg.offset;

		arg.extents = (uintptr_t)e;
		arg.count = count;
		arg.nodes = 1ULL << 60;
		memset(e, 0xee, (count + 1) * sizeof(*e));
		must(!resume_diff(fd, other, &arg));
		f.calls++;
		f.nodes += arg.nodes;
		i = 0;
		GOOD(arg.count <= count);
		GOOD(arg.offset >= offset);
		GOOD(arg.offset % pgsz() == 0);
		GOOD(arg.offset > offset || !arg.count);
		for (; i < arg.count; i++) {
			uint64_t page = e[i].offset / pgsz();
			uint64_t n = e[i].length / pgsz();

			GOOD(e[i].offset % pgsz() == 0);
			GOOD(e[i].length && e[i].length % pgsz() == 0);
			GOOD(page + n <= f.size);
			GOOD(e[i].offset >= last);
			GOOD(e[i].offset >= offset);
			last = e[i].offset + e[i].length;
			GOOD(last <= arg.offset);
			GOOD(e[i].kind == COWMEM_EXTENT_HOLE ||
			     e[i].kind == COWMEM_EXTENT_DATA);
			GOOD(e[i].reserved == 0);
			if (!f.ok)
				goto out;
			memset(f.kind + page, e[i].kind, n);
			f.pages += n;
		}
		/* Nothing is written behind what was found. */
		GOOD(*(uint32_t *)&e[arg.count] == 0xeeeeeeee);
		f.extents += arg.count;
		GOOD(f.calls <= f.size + 1);
	} while (f.ok && arg.count == count);

	/* From there on nothing more is found. */
	arg.extents = (uintptr_t)e;
	arg.count = count;
	must(!resume_diff(fd, other, &arg));
	i = 0;
	GOOD(arg.count == 0);
out:
	free(e);
	return f;
}

static uint64_t count_diff(int fd, int other, uint32_t flags)
{
	struct found f = compare(fd, other, flags, 16);

	must(f.ok);
	free(f.kind);
	return f.pages;
}

/* ---- random regions beside a shadow ---- */

enum { REGIONS = 5, MAX_PAGES = 700, TAGS = 3 };

static void write_some(struct shadow *s, uint64_t page, uint64_t n)
{
	uint32_t tag = below(TAGS);

	/* Tag 0 makes pages of zeroes. */
	for (; n-- && page < s->pages; page++)
		shadow_write(s, page, tag, below(2));
}

static void clone_some(struct shadow *to, const struct shadow *s)
{
	uint64_t first = below(3) ? 0 : below(s->pages);

	/* Most start at a leaf, so that nodes are shared. */
	if (below(2))
		first = first / 64 * 64;
	shadow_clone(to, s, below(3) ? 0 : COWMEM_CLONE_SNAPSHOT, first);
}

static const struct page *page_of(const struct shadow *s, uint64_t i)
{
	return i < s->pages ? s->at[i] : NULL;
}

/* A page of tag 0 holds what a hole does. */
static bool same_content(const struct page *x, const struct page *y)
{
	uint32_t a = x ? x->tag : 0, b = y ? y->tag : 0;

	return a == b && (!a || x->as == y->as);
}

/* Is what was found what the shadows say? */
static bool check_found(const struct shadow *a, const struct shadow *b,
			const struct found *f, bool content)
{
	uint64_t i;

	if (!f->ok)
		return false;
	for (i = 0; i < f->size; i++) {
		const struct page *x = page_of(a, i), *y = page_of(b, i);
		int want = x ? COWMEM_EXTENT_DATA : COWMEM_EXTENT_HOLE;

		if (x == y || (content && same_content(x, y)))
			want = SAME;
		if (f->kind[i] == want)
			continue;
		fprintf(stderr, "# page %llu of fd %d and %d: %d, not %d\n",
			(unsigned long long)i, a->fd, b->fd, f->kind[i], want);
		return false;
	}
	return true;
}

TEST(random_forest)
{
	static const uint32_t counts[] = { 1, 2, 7, 63, 64, 65, 1000 };
	struct shadow shadows[REGIONS];
	int ops = random_ops(5000);
	uint64_t total = 0, compared = 0;
	int n, i;

	rng_init();
	for (i = 0; i < REGIONS; i++)
		shadow_init(&shadows[i], 1 + below(MAX_PAGES));
	for (n = 0; n < ops; n++) {
		struct shadow *s = &shadows[below(REGIONS)];
		struct shadow *t = &shadows[below(REGIONS)];
		uint64_t page = below(s->pages), len = 1 + below(below(4) ? 4 : 150);
		unsigned int what = below(100);

		if (s->snapshot && what < 65)
			what = 90;
		if (what < 50) {
			write_some(s, page, len);
		} else if (what < 65) {
			shadow_discard(s, page, len < s->pages - page ? len : s->pages - page);
		} else if (what < 72 && s != t) {
			shadow_end(t);
			clone_some(t, s);
		} else if (what < 73) {
			shadow_end(s);
			shadow_init(s, 1 + below(MAX_PAGES));
		} else {
			uint32_t flags = below(2) ? COWMEM_DIFF_CONTENT : 0;
			uint32_t count = counts[below(7)];
			struct found f = compare(s->fd, t->fd, flags, count);

			ASSERT_TRUE(check_found(s, t, &f, flags))
				TH_LOG("operation %d, %u at a time", n, count);
			total += f.pages;
			compared++;
			free(f.kind);
		}
	}
	TH_LOG("%llu comparisons found %llu pages",
	       (unsigned long long)compared, (unsigned long long)total);
	EXPECT_LT(2 * ops, total);
}

/* ---- what an answer looks like ---- */

FIXTURE(diff) {
	int a, b;
	char *mem;
};

FIXTURE_SETUP(diff)
{
	/* b is the snapshot; a has a run, a hole in it, and single pages. */
	self->a = region();
	self->mem = map_rw(self->a, 400);
	fill(self->mem, 300, 1, 0);
	self->b = snapshot(self->a);
	fill(self->mem + 60 * pgsz(), 10, 2, 60);
	must(!do_discard(self->a, 63 * pgsz(), 3 * pgsz()));
	pg_fill(self->mem + 200 * pgsz(), 1, 200);
	pg_fill(self->mem + 350 * pgsz(), 3, 350);
	pg_fill(self->mem + 399 * pgsz(), 0, 399);
}

FIXTURE_TEARDOWN(diff)
{
}

#define EXPECT_EXTENT(e, first, nr, what) do {				\
	EXPECT_EQ((first) * pgsz(), (e).offset);			\
	EXPECT_EQ((nr) * pgsz(), (e).length);				\
	EXPECT_EQ(COWMEM_EXTENT_##what, (e).kind);			\
	EXPECT_EQ(0, (e).reserved);					\
} while (0)

TEST_F(diff, extents)
{
	struct cowmem_extent e[10] = {};
	struct cowmem_diff arg = { .extents = (uintptr_t)e, .count = 10 };

	ASSERT_EQ(0, resume_diff(self->a, self->b, &arg));
	EXPECT_EQ(6, arg.count);
	EXPECT_EXTENT(e[0], 60, 3, DATA);
	EXPECT_EXTENT(e[1], 63, 3, HOLE);
	EXPECT_EXTENT(e[2], 66, 4, DATA);
	EXPECT_EXTENT(e[3], 200, 1, DATA);
	EXPECT_EXTENT(e[4], 350, 1, DATA);
	EXPECT_EXTENT(e[5], 399, 1, DATA);
	EXPECT_EQ(400 * pgsz(), arg.offset);
	EXPECT_LT(0, arg.nodes);
	EXPECT_GE(60, arg.nodes);

	/* Seen from the other side. */
	arg = (struct cowmem_diff) { .extents = (uintptr_t)e, .count = 10 };
	ASSERT_EQ(0, resume_diff(self->b, self->a, &arg));
	EXPECT_EQ(4, arg.count);
	EXPECT_EXTENT(e[0], 60, 10, DATA);
	EXPECT_EXTENT(e[1], 200, 1, DATA);
	EXPECT_EXTENT(e[2], 350, 1, HOLE);
	EXPECT_EXTENT(e[3], 399, 1, HOLE);
}

/* Page 200 was written as it was, and page 399 is a page of zeroes. */
TEST_F(diff, by_content)
{
	struct cowmem_extent e[10] = {};
	struct cowmem_diff arg = {
		.flags = COWMEM_DIFF_CONTENT, .extents = (uintptr_t)e,
		.count = 10,
	};

	ASSERT_EQ(0, resume_diff(self->a, self->b, &arg));
	EXPECT_EQ(4, arg.count);
	EXPECT_EXTENT(e[0], 60, 3, DATA);
	EXPECT_EXTENT(e[1], 63, 3, HOLE);
	EXPECT_EXTENT(e[2], 66, 4, DATA);
	EXPECT_EXTENT(e[3], 350, 1, DATA);

	/* One byte, the last, makes the difference. */
	self->mem[201 * pgsz() - 1] ^= 1;
	self->mem[400 * pgsz() - 1] = 1;
	EXPECT_EQ(13, count_diff(self->a, self->b, COWMEM_DIFF_CONTENT));
	self->mem[201 * pgsz() - 1] ^= 1;
	self->mem[400 * pgsz() - 1] = 0;
	EXPECT_EQ(11, count_diff(self->a, self->b, COWMEM_DIFF_CONTENT));
	EXPECT_EQ(13, count_diff(self->a, self->b, 0));

	/* Zeroes everywhere: nothing but holes on the other side. */
	memset(self->mem, 0, 400 * pgsz());
	EXPECT_EQ(0, count_diff(self->a, region(), COWMEM_DIFF_CONTENT));
	EXPECT_EQ(400, count_diff(self->a, region(), 0));
}

/* From any start and with any room the same pages are found. */
TEST_F(diff, resumes_anywhere)
{
	uint32_t counts[] = { 1, 2, 3, 7, 1000 };
	struct found all = compare(self->a, self->b, 0, 1000);
	uint64_t from;
	int i;

	ASSERT_TRUE(all.ok);
	EXPECT_EQ(13, all.pages);
	for (i = 0; i < 5; i++) {
		struct found f = compare(self->a, self->b, 0, counts[i]);

		ASSERT_TRUE(f.ok);
		EXPECT_EQ(0, memcmp(all.kind, f.kind, 400));
		EXPECT_GE(6 / counts[i] + 1, f.calls);
		free(f.kind);
	}
	for (from = 0; from <= 400; from++) {
		struct cowmem_extent e;
		struct cowmem_diff arg = {
			.extents = (uintptr_t)&e, .count = 1,
			.offset = from * pgsz(),
		};
		uint64_t next = from;

		while (next < 400 && all.kind[next] == SAME)
			next++;
		ASSERT_EQ(0, resume_diff(self->a, self->b, &arg));
		ASSERT_EQ(next < 400, arg.count);
		/* It never goes back. */
		EXPECT_LE(from * pgsz(), arg.offset);
		if (!arg.count)
			continue;
		ASSERT_EQ(next * pgsz(), e.offset);
		ASSERT_EQ(all.kind[next], e.kind);
		ASSERT_EQ(e.offset + e.length, arg.offset);
	}
}

TEST_F(diff, itself)
{
	int copy = dup(self->a), clone = cloned(self->a);

	EXPECT_EQ(0, count_diff(self->a, self->a, 0));
	EXPECT_EQ(0, count_diff(self->a, copy, COWMEM_DIFF_CONTENT));
	EXPECT_EQ(0, count_diff(self->a, clone, 0));
	EXPECT_EQ(0, count_diff(clone, self->a, 0));
	EXPECT_EQ(0, count_diff(self->b, self->b, 0));
	EXPECT_EQ(0, count_diff(region(), region(), 0));
}

/* What lies past the end of the smaller one is a hole there. */
TEST(different_sizes)
{
	int a = region_of(100, 1), b = do_clone(a, 0, 0, 40 * pgsz());
	struct cowmem_extent e[4];
	struct cowmem_diff arg = { .extents = (uintptr_t)e, .count = 4 };

	ASSERT_LE(0, b);
	ASSERT_EQ(0, resume_diff(a, b, &arg));
	EXPECT_EQ(1, arg.count);
	EXPECT_EXTENT(e[0], 40, 60, DATA);
	EXPECT_EQ(100 * pgsz(), arg.offset);
	arg = (struct cowmem_diff) { .extents = (uintptr_t)e, .count = 4 };
	ASSERT_EQ(0, resume_diff(b, a, &arg));
	EXPECT_EQ(1, arg.count);
	EXPECT_EXTENT(e[0], 40, 60, HOLE);
	EXPECT_EQ(100 * pgsz(), arg.offset);

	/* Holes at the end are no difference, whatever the size. */
	ASSERT_EQ(0, do_resize(a, 40 * pgsz()));
	ASSERT_EQ(0, do_resize(b, 1ULL << 50));
	EXPECT_EQ(0, count_diff(a, cloned(a), 0));
	arg = (struct cowmem_diff) { .extents = (uintptr_t)e, .count = 4 };
	ASSERT_EQ(0, resume_diff(a, b, &arg));
	EXPECT_EQ(0, arg.count);
	EXPECT_EQ(1ULL << 50, arg.offset);

	/* A part of a page, far away. */
	ASSERT_EQ(1, pwrite(b, "x", 1, 1ULL << 50));
	arg = (struct cowmem_diff) { .extents = (uintptr_t)e, .count = 4 };
	ASSERT_EQ(0, resume_diff(a, b, &arg));
	EXPECT_EQ(1, arg.count);
	EXPECT_EXTENT(e[0], (1ULL << 50) / pgsz(), 1, HOLE);
	EXPECT_EQ((1ULL << 50) + pgsz(), arg.offset);
	EXPECT_GE(40, arg.nodes);
}

/* ---- cost ---- */

static uint64_t cost_100(size_t pages, size_t step, uint32_t count)
{
	int fd = big_region(pages, 1), snap = snapshot(fd);
	struct found f;
	size_t i;

	for (i = 0; i < 100; i++)
		must(pwrite(fd, "x", 1, (7 + i * step) * pgsz()) == 1);
	f = compare(fd, snap, 0, count);
	must(f.ok && f.pages == 100 && f.extents == 100);
	free(f.kind);
	close(fd);
	close(snap);
	return f.nodes;
}

TEST(cost_does_not_grow_with_the_region)
{
	uint64_t small = cost_100(4 * MIB_PAGES, 10, 1000);
	uint64_t medium = cost_100(20 * MIB_PAGES, 10, 1000);
	uint64_t large = cost_100(64 * MIB_PAGES, 10, 1000);
	uint64_t spread = cost_100(64 * MIB_PAGES, 163, 1000);
	uint64_t single = cost_100(20 * MIB_PAGES, 10, 1);

	TH_LOG("%llu, %llu, %llu nodes, spread %llu, one by one %llu",
	       (unsigned long long)small, (unsigned long long)medium,
	       (unsigned long long)large, (unsigned long long)spread,
	       (unsigned long long)single);
	EXPECT_EQ(medium, large);
	EXPECT_GE(201 * 3, small);
	EXPECT_GE(201 * 4, large);
	EXPECT_GE(201 * 2, spread);
	EXPECT_GE(402 * 4, single);
}

/* A run is not looked through again for each piece of it. */
TEST(cost_of_a_long_run)
{
	enum { RUN = 20480, HEIGHT = 3 };
	static const uint32_t counts[] = { 1, 64, 1000 };
	int fd = big_region(RUN, 1), empty = region(), i;

	must(!do_resize(empty, RUN * pgsz()));
	for (i = 0; i < 3; i++) {
		struct found f = compare(fd, empty, 0, counts[i]);

		ASSERT_TRUE(f.ok);
		EXPECT_EQ(RUN, f.pages);
		TH_LOG("%llu nodes, %llu extents", (unsigned long long)f.nodes,
		       (unsigned long long)f.extents);
		EXPECT_GE(4 * RUN / 64 + 2 * HEIGHT * (f.extents + 1), f.nodes);
		free(f.kind);
	}
}

/* The kind changes from page to page, and all of them differ. */
TEST(cost_of_many_runs_side_by_side)
{
	enum { RUNS = 16384, HEIGHT = 3 };
	int a = region_of(1, 0), b, i;
	struct found f;

	must(!do_resize(a, RUNS * pgsz()));
	b = cloned(a);
	for (i = 0; i < RUNS; i++)
		must(pwrite(i % 2 ? a : b, "x", 1, i * pgsz()) == 1);
	f = compare(a, b, 0, 1000);
	ASSERT_TRUE(f.ok);
	EXPECT_EQ(RUNS, f.pages);
	EXPECT_EQ(RUNS, f.extents);
	for (i = 0; i < RUNS; i++)
		EXPECT_EQ(i % 2, f.kind[i]);
	TH_LOG("%llu nodes for %d runs", (unsigned long long)f.nodes, RUNS);
	EXPECT_GE((uint64_t)RUNS * 4 * HEIGHT, f.nodes);
}

/*
 * All differs: the work for a page is the same however many there are.  Both
 * trees are of one height.
 */
static void all_differs(struct __test_metadata *_metadata, uint32_t flags,
			bool holes)
{
	uint64_t nodes[2];
	int i;

	for (i = 0; i < 2; i++) {
		size_t pages = i ? 20480 : 5120;
		int fd = big_region(pages, 1), empty = region();
		struct found f;

		must(!do_resize(empty, pages * pgsz()));
		f = holes ? compare(empty, fd, flags, 1000) :
			    compare(fd, empty, flags, 1000);
		ASSERT_TRUE(f.ok);
		EXPECT_EQ(pages, f.pages);
		nodes[i] = f.nodes;
		free(f.kind);
		close(fd);
		close(empty);
	}
	TH_LOG("%llu nodes for 5120 pages, %llu for 20480",
	       (unsigned long long)nodes[0], (unsigned long long)nodes[1]);
	EXPECT_GE(4 * nodes[0] + 100, nodes[1]);
}

TEST(cost_grows_with_what_differs)
{
	all_differs(_metadata, 0, false);
}

TEST(cost_of_holes_grows_with_what_differs)
{
	all_differs(_metadata, 0, true);
}

TEST(cost_of_content_grows_with_what_differs)
{
	all_differs(_metadata, COWMEM_DIFF_CONTENT, false);
}

/* ---- errors ---- */

#define EXPECT_REFUSED(_err, _a, _b, ...) do {				\
	struct cowmem_extent __e[2];					\
	struct cowmem_diff __arg = {					\
		.fd = (_b), .extents = (uintptr_t)__e, .count = 2,	\
	}, __was;							\
									\
	do { __VA_ARGS__; } while (0);					\
	__was = __arg;							\
	EXPECT_EQ(-1, ioctl((_a), COWMEM_IOC_DIFF, &__arg));		\
	EXPECT_EQ((_err), errno);					\
	EXPECT_EQ(0, memcmp(&__was, &__arg, sizeof(__arg)));		\
} while (0)

TEST_F(diff, refuses)
{
	int wr = open(COWMEM_DEV, O_WRONLY), rd = open(COWMEM_DEV, O_RDONLY);
	int null = open("/dev/zero", O_RDWR), gone = dup(self->a), bit;
	struct cowmem_diff *ro = (void *)anon(1);
	char *edge = guarded(1) + pgsz();
	int pipes[2];

	ASSERT_EQ(0, pipe(pipes));
	close(gone);
	EXPECT_REFUSED(EINVAL, self->a, self->b, __arg.count = 0);
	EXPECT_REFUSED(EINVAL, self->a, self->b, __arg.offset = 1);
	EXPECT_REFUSED(EINVAL, self->a, self->b, __arg.offset = pgsz() - 1);
	EXPECT_REFUSED(EINVAL, self->a, self->b, __arg.offset = -1ULL);
	EXPECT_REFUSED(EINVAL, self->a, self->b, __arg.reserved = 1);
	for (bit = 1; bit < 32; bit++)
		EXPECT_REFUSED(EOPNOTSUPP, self->a, self->b,
			       __arg.flags = 1U << bit);
	EXPECT_REFUSED(EBADF, self->a, wr);
	EXPECT_REFUSED(EBADF, wr, self->a);
	EXPECT_REFUSED(EBADF, wr, wr);
	EXPECT_REFUSED(EBADF, self->a, null);
	EXPECT_REFUSED(EBADF, self->a, pipes[0]);
	EXPECT_REFUSED(EBADF, self->a, gone);
	EXPECT_REFUSED(EBADF, self->a, -1);
	EXPECT_REFUSED(ENOTTY, null, self->a);
	EXPECT_EQ(0, count_diff(rd, rd, 0));

	/* The array is not where the call says. */
	EXPECT_REFUSED(EFAULT, self->a, self->b, __arg.extents = 0);
	EXPECT_REFUSED(EFAULT, self->a, self->b, __arg.extents = -4096ULL);
	EXPECT_REFUSED(EFAULT, self->a, self->b, __arg.extents = 1ULL << 63);
	EXPECT_REFUSED(EFAULT, self->a, self->b,
		       __arg.extents = (uintptr_t)edge - 24, __arg.count = 2);
	EXPECT_REFUSED(EFAULT, self->a, self->b, __arg.count = UINT32_MAX,
		       __arg.extents = (uintptr_t)edge - 24);
	/* What is not used of the array need not be there. */
	{
		struct cowmem_diff arg = {
			.extents = (uintptr_t)edge - 6 * 24,
			.count = UINT32_MAX,
		};

		EXPECT_EQ(0, resume_diff(self->a, self->b, &arg));
		EXPECT_EQ(6, arg.count);
	}
	ro->fd = self->b;
	ro->count = 2;
	ro->extents = (uintptr_t)(ro + 1);
	ASSERT_EQ(0, mprotect(ro, pgsz(), PROT_READ));
	EXPECT_EQ(-1, ioctl(self->a, COWMEM_IOC_DIFF, ro));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(-1, ioctl(self->a, COWMEM_IOC_DIFF, NULL));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(13, count_diff(self->a, self->b, 0));
}

/* The far end of what an offset may be. */
TEST_F(diff, far_offsets)
{
	uint64_t end = (1ULL << 63) / pgsz();
	uint64_t far[] = { 400, 401, 1ULL << 38, end - 1, end, 2 * end - 1 };
	int i, k;

	for (i = 0; i < 6; i++)
		for (k = 0; k < 2; k++) {
			struct cowmem_extent e;
			struct cowmem_diff arg = {
				.offset = far[i] * pgsz(), .count = 1,
				.extents = (uintptr_t)&e,
				.flags = k ? COWMEM_DIFF_CONTENT : 0,
			};

			EXPECT_EQ(0, resume_diff(self->a, self->b, &arg));
			EXPECT_EQ(0, arg.count);
			EXPECT_LE(far[i] * pgsz(), arg.offset)
				TH_LOG("it went back from page %llx",
				       (unsigned long long)far[i]);
		}
}

/* ---- past the end ---- */

/* Both end before the start: over at once, and it does not go back. */
TEST(starts_past_both_ends)
{
	int a = region_of(40, 1), b = region_of(100, 2), i, k;
	static const uint64_t at[] = { 39, 40, 70, 99, 100, 101, 5000, 1ULL << 40 };

	ASSERT_EQ(0, do_resize(b, 99 * pgsz() + 1));
	for (i = 0; i < 8; i++)
		for (k = 0; k < 4; k++) {
			struct cowmem_extent e[2];
			struct cowmem_diff arg = {
				.offset = at[i] * pgsz(), .count = 2,
				.extents = (uintptr_t)e,
				.flags = k / 2 ? COWMEM_DIFF_CONTENT : 0,
			};
			uint64_t end = at[i] > 100 ? at[i] : 100;

			ASSERT_EQ(0, k % 2 ? resume_diff(a, b, &arg) :
					     resume_diff(b, a, &arg));
			EXPECT_EQ(end * pgsz(), arg.offset);
			if (at[i] >= 100) {
				EXPECT_EQ(0, arg.count);
				continue;
			}
			EXPECT_EQ(at[i] == 39 && k % 2 ? 2 : 1, arg.count);
			EXPECT_EQ(at[i] * pgsz(), e[0].offset);
			EXPECT_EQ(100 * pgsz(), e[arg.count - 1].offset +
				  e[arg.count - 1].length);
		}
}

struct blinker {
	char *mem;
	int stop;
};

static void *blink_on(void *arg)
{
	struct blinker *b = arg;

	while (!get(&b->stop)) {
		volatile int spin = 5000;

		must(!mprotect(b->mem, pgsz(), PROT_NONE));
		/* Long enough for write() to give up. */
		while (spin)
			spin--;
		must(!mprotect(b->mem, pgsz(), PROT_READ | PROT_WRITE));
	}
	return NULL;
}

/*
 * Let write() past the end fail when it has its page already: what it reads from
 * goes away at that moment.  What lies past the end is a hole all the same.
 */
TEST(failed_writes_past_the_end)
{
	int a = region_of(40, 1), snap = snapshot(a), larger = cloned(snap), k;
	struct blinker b = { .mem = anon(1) };
	uint64_t failed = 0;
	pthread_t thread;
	struct found f;
	double end;

	/* The other one has a hole at page 50, and something at page 60. */
	ASSERT_EQ(1, pwrite(larger, "x", 1, 60 * pgsz()));
	ASSERT_EQ(0, do_resize(larger, 100 * pgsz()));
	must(!pthread_create(&thread, NULL, blink_on, &b));
	end = now() + effort(8);
	do {
		uint64_t page = failed % 2 ? 50 : 60;

		if (pwrite(a, b.mem, 100, page * pgsz()) > 0) {
			must(!do_resize(a, 40 * pgsz()));
		} else {
			failed++;
			if (info(a).pages_populated != 40)
				break;
		}
	} while (!failed || now() < end);
	put(&b.stop, 1);
	pthread_join(thread, NULL);
	EXPECT_LT(0, failed);
	EXPECT_EQ(40, info(a).pages_populated)
		TH_LOG("after %llu failures", (unsigned long long)failed);
	for (k = 0; k < 4; k++) {
		EXPECT_EQ(0, k % 2 ? count_diff(a, snap, k / 2) :
				     count_diff(snap, a, k / 2));
		f = k % 2 ? compare(a, larger, k / 2, 10) :
			    compare(larger, a, k / 2, 10);
		ASSERT_TRUE(f.ok);
		EXPECT_EQ(1, f.pages);
		EXPECT_EQ(SAME, f.kind[50]);
		EXPECT_EQ(k % 2 ? COWMEM_EXTENT_HOLE : COWMEM_EXTENT_DATA,
			  f.kind[60]);
		free(f.kind);
	}
}

/* The array lies in a region that is compared, also as a hole. */
TEST_F(diff, answers_into_the_region)
{
	struct cowmem_extent *e = (void *)(self->mem + 320 * pgsz());
	struct cowmem_diff arg = { .extents = (uintptr_t)e, .count = 10 };

	ASSERT_EQ(0, resume_diff(self->a, self->b, &arg));
	EXPECT_EQ(6, arg.count);
	EXPECT_EXTENT(e[0], 60, 3, DATA);
	EXPECT_EXTENT(e[5], 399, 1, DATA);
	arg = (struct cowmem_diff) { .extents = (uintptr_t)e, .count = 10 };
	ASSERT_EQ(0, resume_diff(self->a, self->b, &arg));
	EXPECT_EQ(7, arg.count);
	EXPECT_EXTENT(e[4], 320, 1, DATA);
}

/* ---- while both are written ---- */

struct busy {
	int stop, fd;
	char *mem;
	uint64_t rng, writes;
};

enum { LIVE_PAGES = 1000 };

/* Every fifth page is written, filled and emptied; the others stay. */
static void *keep_busy(void *arg)
{
	struct busy *b = arg;
	char buf[64] = "busy";

	while (!get(&b->stop)) {
		size_t page;

		b->rng = b->rng * 6364136223846793005ULL + 1442695040888963407ULL;
		page = (b->rng >> 33) % (LIVE_PAGES / 5) * 5;
		switch ((b->rng >> 60) % 4) {
		case 0:
			must(!do_discard(b->fd, page * pgsz(), pgsz()));
			break;
		case 1:
			must(pwrite(b->fd, buf, 64, page * pgsz()) == 64);
			break;
		default:
			*(volatile uint64_t *)(b->mem + page * pgsz()) = b->rng;
		}
		b->writes++;
		/* Now and then all is shared, and nodes are copied again. */
		if (!(b->writes % 64))
			close(cloned(b->fd));
	}
	return NULL;
}

TEST(both_are_written)
{
	static const uint32_t counts[] = { 1, 5, 64, 1000 };
	int a = region_of(LIVE_PAGES, 1), b = cloned(a), n, i;
	char *x = map_rw(a, LIVE_PAGES), *y = map_rw(b, LIVE_PAGES);
	struct busy busy[2] = {
		{ .fd = a, .mem = x, .rng = 1 }, { .fd = b, .mem = y, .rng = 2 },
	};
	signed char want[LIVE_PAGES];
	double end = now() + effort(15);
	pthread_t thread[2];

	memset(want, SAME, sizeof(want));
	for (i = 1; i < LIVE_PAGES; i += 3) {
		if (i % 5 == 0)
			continue;
		if (i % 2) {
			pg_fill(x + i * pgsz(), 2, i);
			want[i] = COWMEM_EXTENT_DATA;
		} else if (i % 4) {
			must(!do_discard(a, i * pgsz(), pgsz()));
			want[i] = COWMEM_EXTENT_HOLE;
		} else {
			must(!do_discard(b, i * pgsz(), pgsz()));
			want[i] = COWMEM_EXTENT_DATA;
		}
	}
	for (i = 0; i < 2; i++)
		must(!pthread_create(&thread[i], NULL, keep_busy, &busy[i]));
	/* As many rounds as there is time for. */
	for (n = 0; n < 200 && (n < 12 || now() < end); n++) {
		struct found f = compare(a, b, n % 3 ? 0 : COWMEM_DIFF_CONTENT,
					 counts[n % 4]);

		ASSERT_TRUE(f.ok);
		for (i = 0; i < LIVE_PAGES; i++)
			if (i % 5)
				ASSERT_EQ(want[i], f.kind[i])
					TH_LOG("page %d, round %d", i, n);
		free(f.kind);
		/* The other way round at times, for the order of locks. */
		f = compare(b, a, 0, 1000);
		ASSERT_TRUE(f.ok);
		free(f.kind);
	}
	for (i = 0; i < 2; i++) {
		await_count(&busy[i].writes, 101);
		put(&busy[i].stop, 1);
		pthread_join(thread[i], NULL);
	}
}

/*
 * Snapshot, diff against the previous one, ship, drop: what was shipped makes a
 * replica, while the program goes on writing.
 */
TEST(tracking_loop)
{
	char *replica = anon(LIVE_PAGES), *mem, buf[100] = "some bytes";
	struct cowmem_extent e[7];
	int fd = region(), rounds = effort(50), prev, round, i;
	struct busy busy = { .fd = fd, .rng = 3 };
	uint64_t shipped = 0;
	pthread_t thread;

	rng_init();
	mem = map_rw(fd, LIVE_PAGES);
	busy.mem = mem;
	prev = snapshot(fd);
	must(!pthread_create(&thread, NULL, keep_busy, &busy));
	for (round = 0; round < rounds; round++) {
		struct cowmem_diff arg = {};
		char *view;
		int snap;

		for (i = 0; i < 30; i++) {
			size_t page = below(LIVE_PAGES);

			if (!below(4))
				must(!do_discard(fd, page * pgsz(), 1 + below(
					(LIVE_PAGES - page) * pgsz() / 9)));
			else if (below(2))
				pg_fill(mem + page * pgsz(), rng() % 100, page);
			else
				must(pwrite(fd, buf, 100, page * pgsz() +
					    below(3000)) == 100);
		}
		snap = snapshot(fd);
		do {
			arg.extents = (uintptr_t)e;
			arg.count = 7;
			arg.flags = round % 2 ? COWMEM_DIFF_CONTENT : 0;
			must(!resume_diff(snap, prev, &arg));
			for (i = 0; i < (int)arg.count; i++) {
				char *to = replica + e[i].offset;

				if (e[i].kind == COWMEM_EXTENT_HOLE)
					memset(to, 0, e[i].length);
				else
					ASSERT_EQ((ssize_t)e[i].length,
						  pread(snap, to, e[i].length,
							e[i].offset));
				shipped += e[i].length / pgsz();
			}
		} while (arg.count == 7);
		close(prev);
		prev = snap;
		view = map_ro(snap, LIVE_PAGES);
		ASSERT_EQ(0, memcmp(view, replica, LIVE_PAGES * pgsz()))
			TH_LOG("round %d", round);
		unmap(view, LIVE_PAGES);
	}
	put(&busy.stop, 1);
	pthread_join(thread, NULL);
	TH_LOG("%llu pages shipped", (unsigned long long)shipped);
	EXPECT_LT(rounds * 20, shipped);
}

TEST_HARNESS_MAIN
