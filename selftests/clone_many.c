// SPDX-License-Identifier: GPL-2.0-only
/*
 * Promise: COWMEM_IOC_CLONE_MANY clones all of the regions at one instant, or
 * none of them, whatever order they are named in and whoever else does the same
 * at that time.
 */
#include <pthread.h>
#include <sys/resource.h>

#include "../kselftest_harness.h"
#include "common.h"

#define PAGES 4
#define MAX COWMEM_CLONE_MANY_MAX
/* More than any limit that a directory of files would meet soon. */
#define SOME 3000

static int many(const int *fds, int *clones, unsigned int count, uint32_t flags)
{
	return do_clone_many(fds[0], fds, clones, count, flags);
}

static void close_all(const int *fds, int n)
{
	while (n--)
		close(fds[n]);
}

/* As count_fds(), for any number of them. */
static int all_fds(void)
{
	int fd, n = 0;

	for (fd = 0; fd < 2 * SOME + 200; fd++)
		n += fcntl(fd, F_GETFD) != -1;
	return n;
}

static void many_files(rlim_t n)
{
	struct rlimit lim;

	must(!getrlimit(RLIMIT_NOFILE, &lim));
	lim.rlim_cur = n;
	if (lim.rlim_max < n)
		lim.rlim_max = n;
	must(!setrlimit(RLIMIT_NOFILE, &lim));
}

/* ---- what it does ---- */

TEST(clones_each_of_them)
{
	int fds[4], clones[4], i;

	for (i = 0; i < 4; i++)
		fds[i] = region_of(PAGES + i, i);
	ASSERT_EQ(0, do_resize(fds[3], (PAGES + 3) * pgsz() - 100));
	ASSERT_EQ(0, many(fds, clones, 4, 0));
	for (i = 0; i < 4; i++) {
		char *mem = map_rw(fds[i], PAGES);

		EXPECT_EQ(O_RDWR, fcntl(clones[i], F_GETFL) & O_ACCMODE);
		EXPECT_EQ(FD_CLOEXEC, fcntl(clones[i], F_GETFD));
		EXPECT_EQ(info(fds[i]).size, info(clones[i]).size);
		EXPECT_EQ(1, info(fds[i]).clones);
		EXPECT_EQ(0, info(clones[i]).clones);
		EXPECT_EQ(0, info(clones[i]).seals);
		EXPECT_TRUE(holds(fds[i], 0, i ? PAGES + i : 0));
		EXPECT_TRUE(holds(clones[i], 0, i ? PAGES + i : 0));
		EXPECT_TRUE(fd_is(clones[i], 0, PAGES, i));
		fill(mem, PAGES, 10 + i, 0);
		EXPECT_TRUE(fd_is(clones[i], 0, PAGES, i));
		ASSERT_EQ(5, pwrite(clones[i], "clone", 5, pgsz()));
		EXPECT_TRUE(is(mem, PAGES, 10 + i, 0));
	}
}

TEST(snapshots)
{
	int fds[3] = { region_of(PAGES, 1), region_of(PAGES, 2) }, clones[3], i;

	fds[2] = snapshot(fds[0]);	/* may be cloned itself */
	ASSERT_EQ(0, many(fds, clones, 3, COWMEM_CLONE_SNAPSHOT));
	for (i = 0; i < 3; i++) {
		EXPECT_EQ(O_RDONLY, fcntl(clones[i], F_GETFL) & O_ACCMODE);
		EXPECT_EQ(FD_CLOEXEC, fcntl(clones[i], F_GETFD));
		EXPECT_EQ(15, info(clones[i]).seals);
		EXPECT_TRUE(fd_is(clones[i], 0, PAGES, 1 + i % 2));
		EXPECT_EQ(-1, pwrite(clones[i], "x", 1, 0));
		EXPECT_TRUE(mmap(NULL, pgsz(), PROT_WRITE, MAP_SHARED,
				 clones[i], 0) == MAP_FAILED);
	}
	close_all(clones, 3);
	ASSERT_EQ(0, many(fds, clones, 3, 0));
	EXPECT_EQ(O_RDWR, fcntl(clones[2], F_GETFL) & O_ACCMODE);
	EXPECT_EQ(0, info(clones[2]).seals);
	EXPECT_EQ(2, pwrite(clones[2], "xy", 2, 0));
	EXPECT_TRUE(fd_is(fds[2], 0, PAGES, 1));
}

TEST(named_twice)
{
	int a = region_of(PAGES, 1), b = region_of(PAGES, 2), i, j;
	int fds[6] = { a, b, a, dup(a), b, a }, clones[6];

	ASSERT_EQ(0, many(fds, clones, 6, 0));
	EXPECT_EQ(4, info(a).clones);
	EXPECT_EQ(2, info(b).clones);
	EXPECT_TRUE(holds(a, 0, PAGES));
	for (i = 0; i < 6; i++) {
		char *mem = map_rw(clones[i], PAGES);

		for (j = 0; j < i; j++)
			EXPECT_NE(clones[i], clones[j]);
		EXPECT_TRUE(is(mem, PAGES, i == 1 || i == 4 ? 2 : 1, 0));
		fill(mem, PAGES, 10 + i, 0);
	}
	for (i = 0; i < 6; i++)
		EXPECT_TRUE(fd_is(clones[i], 0, PAGES, 10 + i));
	EXPECT_TRUE(fd_is(a, 0, PAGES, 1));
	EXPECT_TRUE(fd_is(b, 0, PAGES, 2));
	close_all(clones, 6);
	EXPECT_TRUE(holds(a, PAGES, 0));
}

TEST(same_array_for_both)
{
	int a = region_of(PAGES, 1), b = region_of(PAGES, 2);
	int fds[2] = { a, b };

	ASSERT_EQ(0, do_clone_many(a, fds, fds, 2, 0));
	EXPECT_TRUE(fds[0] != a && fds[0] != b && fds[1] != a && fds[1] != b);
	EXPECT_TRUE(fd_is(fds[0], 0, PAGES, 1));
	EXPECT_TRUE(fd_is(fds[1], 0, PAGES, 2));
}

/* The region that it is called on is just the way in, in whatever mode. */
TEST(caller_is_not_in_the_list)
{
	int ways_in[] = { region_of(PAGES, 9), open(COWMEM_DEV, O_RDONLY),
			  open(COWMEM_DEV, O_WRONLY) };
	int fds[2] = { region_of(PAGES, 1), region_of(PAGES, 2) }, clones[2], i;

	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, do_clone_many(ways_in[i], fds, clones, 2, 0));
		EXPECT_EQ(0, info(ways_in[i]).clones);
		EXPECT_TRUE(fd_is(clones[0], 0, PAGES, 1));
		EXPECT_TRUE(fd_is(clones[1], 0, PAGES, 2));
		EXPECT_EQ(1 + i, info(fds[0]).clones);
	}
	EXPECT_TRUE(holds(ways_in[0], PAGES, 0));
}

TEST(many_regions)
{
	int fds[SOME + 1], clones[SOME + 1], i, used;

	many_files(2 * SOME + 200);
	for (i = 0; i <= SOME; i++)
		fds[i] = region_of(1, 1 + i % 250);
	used = all_fds();
	memset(clones, 0x55, sizeof(clones));
	ASSERT_EQ(0, many(fds, clones, SOME, 0));
	EXPECT_EQ(0x55555555, clones[SOME]);
	EXPECT_EQ(used + SOME, all_fds());
	for (i = 0; i < SOME; i++) {
		EXPECT_EQ(1, info(fds[i]).clones);
		EXPECT_TRUE(fd_is(clones[i], 0, 1, 1 + i % 250));
	}
	EXPECT_EQ(0, info(fds[SOME]).clones);
	close_all(clones, SOME);
	EXPECT_TRUE(holds(fds[SOME / 2], 1, 0));
}

/* Two regions by turns, so that each is found again and again among the others. */
TEST(named_many_times)
{
	int fds[SOME], clones[SOME], i;

	many_files(2 * SOME + 200);
	fds[0] = region_of(PAGES, 1);
	fds[1] = region_of(PAGES, 2);
	for (i = 2; i < SOME; i++)
		fds[i] = fds[i % 2];
	ASSERT_EQ(0, many(fds, clones, SOME, 0));
	for (i = 0; i < SOME; i++)
		EXPECT_TRUE(fd_is(clones[i], 0, PAGES, 1 + i % 2));
	EXPECT_EQ(SOME / 2, info(fds[0]).clones);
	EXPECT_EQ(SOME / 2, info(fds[1]).clones);
}

/* ---- none of them ---- */

FIXTURE(none) {
	int fds[5], clones[5], used;
	char *mem[5];
};

FIXTURE_SETUP(none)
{
	int i;

	many_files(2 * SOME + 200);
	for (i = 0; i < 5; i++) {
		self->fds[i] = region_of(PAGES, 1 + i);
		self->mem[i] = map_rw(self->fds[i], PAGES);
		self->clones[i] = -77;
	}
	self->used = all_fds();
}

/* No call has cloned anything, and no descriptor is left behind. */
FIXTURE_TEARDOWN(none)
{
	int i, round;

	EXPECT_EQ(self->used, all_fds());
	for (i = 0; i < 5; i++) {
		EXPECT_EQ(-77, self->clones[i]);
		EXPECT_EQ(0, info(self->fds[i]).clones);
		EXPECT_TRUE(holds(self->fds[i], PAGES, 0));
		EXPECT_TRUE(is(self->mem[i], PAGES, 1 + i, 0));
		fill(self->mem[i], PAGES, 20, 0);
		EXPECT_TRUE(fd_is(self->fds[i], 0, PAGES, 20));
	}
	/* All of it works, afterwards. */
	for (round = 0; round < 2; round++) {
		EXPECT_EQ(0, many(self->fds, self->clones, 5, 0));
		close_all(self->clones, 5);
	}
	EXPECT_EQ(2, info(self->fds[4]).clones);
}

#define EXPECT_NONE(err, call) do {					\
	errno = 0;							\
	EXPECT_EQ(-1, call);						\
	EXPECT_EQ(err, errno);						\
	EXPECT_EQ(self->used, all_fds());				\
	EXPECT_EQ(0, info(self->fds[0]).clones);			\
	EXPECT_EQ(0, info(self->fds[4]).clones);			\
} while (0)

TEST_F(none, bad_descriptor)
{
	int bad[] = { -1, open(COWMEM_DEV, O_WRONLY), dup(self->fds[0]),
		      open("/proc/self/exe", O_RDONLY),
		      open(COWMEM_DEV, O_PATH), 1 << 20 };
	int i, at, fds[5];

	close(bad[2]);
	self->used = all_fds();
	for (i = 0; i < ARRAY_SIZE(bad); i++)
		for (at = 0; at < 5; at++) {
			memcpy(fds, self->fds, sizeof(fds));
			fds[at] = bad[i];
			EXPECT_NONE(EBADF,
				    do_clone_many(self->fds[0], fds, self->clones, 5, 0));
			/* The same array for both is not written, either. */
			EXPECT_NONE(EBADF, do_clone_many(self->fds[0], fds, fds, 5, 0));
			EXPECT_EQ(bad[i], fds[at]);
			EXPECT_EQ(self->fds[(at + 1) % 5], fds[(at + 1) % 5]);
		}
}

TEST_F(none, count)
{
	EXPECT_NONE(EINVAL, many(self->fds, self->clones, 0, 0));
	EXPECT_NONE(EINVAL, many(self->fds, self->clones, MAX + 1, 0));
	/* There are not so many in the array. */
	EXPECT_NONE(EFAULT, do_clone_many(self->fds[0], (void *)8, self->clones, MAX, 0));
	EXPECT_NONE(EINVAL, many(self->fds, self->clones, -1U, 0));
	EXPECT_NONE(EINVAL, many(self->fds, self->clones, 1U << 31, 0));
	EXPECT_NONE(EINVAL, many(self->fds, self->clones, 1U << 30, 0));
}

TEST_F(none, flags)
{
	uint32_t bit;

	/* Only a snapshot can be expendable. */
	EXPECT_NONE(EINVAL, many(self->fds, self->clones, 5, COWMEM_CLONE_EXPENDABLE));
	for (bit = 4; bit; bit <<= 1) {
		EXPECT_NONE(EOPNOTSUPP, many(self->fds, self->clones, 5, bit));
		EXPECT_NONE(EOPNOTSUPP, many(self->fds, self->clones, 5,
					     bit | COWMEM_CLONE_SNAPSHOT));
	}
}

TEST_F(none, array_that_cannot_be_read)
{
	int fd = self->fds[0];
	char *page = guarded(1);
	int *edge = (int *)(page + pgsz()) - 3;

	memcpy(edge, self->fds, 12);
	EXPECT_NONE(EFAULT, do_clone_many(fd, NULL, self->clones, 5, 0));
	EXPECT_NONE(EFAULT, do_clone_many(fd, (int *)-16L, self->clones, 5, 0));
	EXPECT_NONE(EFAULT, do_clone_many(fd, edge, self->clones, 5, 0));
	EXPECT_NONE(EFAULT, do_clone_many(fd, edge + 3, self->clones, 1, 0));
}

TEST_F(none, array_that_cannot_be_written)
{
	char *page = guarded(1), *ro = anon(1);
	int *edge = (int *)(page + pgsz()) - 3, i;

	memcpy(ro, self->fds, sizeof(self->fds));
	ASSERT_EQ(0, mprotect(ro, pgsz(), PROT_READ));
	EXPECT_NONE(EFAULT, many(self->fds, NULL, 5, 0));
	EXPECT_NONE(EFAULT, many(self->fds, (int *)-16L, 5, 0));
	EXPECT_NONE(EFAULT, many(self->fds, edge, 5, 0));
	EXPECT_NONE(EFAULT, many(self->fds, edge + 3, 1,
				 COWMEM_CLONE_SNAPSHOT));
	EXPECT_NONE(EFAULT, many((int *)ro, (int *)ro, 5, 0));
	for (i = 0; i < 300; i++)
		ASSERT_EQ(-1, many(self->fds, (int *)ro, 5, i % 2));
	EXPECT_EQ(EFAULT, errno);
}

TEST_F(none, descriptor_table_full)
{
	struct rlimit old, lim;
	int room, i, top = 0;

	for (i = 0; i < 5; i++)
		if (self->fds[i] > top)
			top = self->fds[i];
	/* Fill what is below, so that just @room are left. */
	while ((i = dup(self->fds[0])) >= 0 && i < top)
		;
	close(i);
	ASSERT_EQ(0, getrlimit(RLIMIT_NOFILE, &old));
	lim = old;
	self->used = all_fds();
	for (room = 0; room < 5; room++) {
		lim.rlim_cur = top + 1 + room;
		ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &lim));
		EXPECT_NONE(EMFILE, many(self->fds, self->clones, 5, 0));
		EXPECT_NONE(EMFILE, many(self->fds, self->clones, 5,
					 COWMEM_CLONE_SNAPSHOT));
	}
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &old));
}

/* ---- one instant ---- */

enum { REGIONS = 4, WRITERS = 4, STAMPED = 3 };

struct stamper {
	int *stop;
	int fds[REGIONS];
	char *mem[REGIONS];
	int nr;
	bool by_pwrite;
	uint64_t stamps, published;
};

/* Word @nr of each of some pages, the pages that are written take turns. */
static size_t stamp_at(int nr, uint64_t s)
{
	return s % STAMPED * pgsz() + (nr + 1) * 136;
}

/* s = 1, 2, ...: to the first region, and only then to the next, and so on. */
static void *stamp_on(void *arg)
{
	struct stamper *st = arg;
	uint64_t s;
	int r;

	yield_to_main();
	for (s = 1; !get(st->stop); s++) {
		for (r = 0; r < REGIONS; r++) {
			size_t at = stamp_at(st->nr, s);

			if (st->by_pwrite && (s + r) % 2)
				must(pwrite(st->fds[r], &s, 8, at) == 8);
			else
				__atomic_store_n((uint64_t *)(st->mem[r] + at),
						 s, __ATOMIC_RELEASE);
		}
		__atomic_store_n(&st->published, s, __ATOMIC_RELEASE);
	}
	st->stamps = s - 1;
	return NULL;
}

static uint64_t last_stamp(int fd, int nr)
{
	uint64_t last = 0, s;
	int i;

	for (i = 0; i < STAMPED; i++) {
		must(pread(fd, &s, 8, stamp_at(nr, i)) == 8);
		if (s > last)
			last = s;
	}
	return last;
}

FIXTURE(instant) {
	int *stop;
	int fds[REGIONS];
	char *mem[REGIONS];
	struct stamper *st;
};

FIXTURE_VARIANT(instant) {
	int order;		/* of naming: forward, backward, mixed */
	bool two;		/* two threads clone at once, in opposite order */
	bool snapshot;
};

FIXTURE_VARIANT_ADD(instant, forward) { .order = 0 };
FIXTURE_VARIANT_ADD(instant, backward) { .order = 1, .snapshot = true };
FIXTURE_VARIANT_ADD(instant, mixed) { .order = 2 };
FIXTURE_VARIANT_ADD(instant, both_at_once) { .two = true };

FIXTURE_SETUP(instant)
{
	int i;

	self->stop = shared_mem(sizeof(*self->stop));
	self->st = shared_mem(WRITERS * sizeof(*self->st));
	for (i = 0; i < REGIONS; i++) {
		self->fds[i] = region_of(STAMPED, 0);
		self->mem[i] = map_rw(self->fds[i], STAMPED);
	}
}

FIXTURE_TEARDOWN(instant)
{
}

struct cloner {
	FIXTURE_DATA(instant) *self;
	int order, *go, calls, torn;
	bool snapshot;
};

static const int orders[3][REGIONS] = {
	{ 0, 1, 2, 3 }, { 3, 2, 1, 0 }, { 2, 0, 3, 1 },
};

static void *clone_on(void *arg)
{
	struct cloner *c = arg;
	const int *order = orders[c->order];
	struct stamper *st = c->self->st;
	int i, w;

	while (get(c->go)) {
		uint64_t before[WRITERS], last[REGIONS];
		int fds[REGIONS], clones[REGIONS];

		for (i = 0; i < REGIONS; i++)
			fds[i] = c->self->fds[order[i]];
		for (w = 0; w < WRITERS; w++)
			before[w] = __atomic_load_n(&st[w].published,
						    __ATOMIC_ACQUIRE);
		must(!many(fds, clones, REGIONS, c->snapshot ?
			   COWMEM_CLONE_SNAPSHOT : 0));
		for (w = 0; w < WRITERS; w++) {
			bool torn = false;

			for (i = 0; i < REGIONS; i++)
				last[order[i]] = last_stamp(clones[i], w);
			for (i = 1; i < REGIONS; i++)
				torn = torn || last[i] > last[i - 1];
			torn = torn || last[0] > last[REGIONS - 1] + 1 ||
			       last[REGIONS - 1] < before[w];
			if (torn && !c->torn++)
				fprintf(stderr,
					"# call %d writer %d: %llu %llu %llu %llu, %llu before\n",
					c->calls, w,
					(unsigned long long)last[0],
					(unsigned long long)last[1],
					(unsigned long long)last[2],
					(unsigned long long)last[3],
					(unsigned long long)before[w]);
		}
		close_all(clones, REGIONS);
		c->calls++;
		if (c->calls % 3)
			usleep(200 + c->calls % 7 * 150);
	}
	return NULL;
}

TEST_F(instant, for_all_regions)
{
	pthread_t thread[WRITERS], cloning[2];
	struct cloner cloner[2];
	int i, go = 1, w;
	pid_t pid = -1;

	for (w = 0; w < WRITERS; w++) {
		struct stamper *st = &self->st[w];

		st->stop = self->stop;
		memcpy(st->fds, self->fds, sizeof(st->fds));
		memcpy(st->mem, self->mem, sizeof(st->mem));
		st->nr = w;
		st->by_pwrite = w == 2;
		if (w) {
			ASSERT_EQ(0, pthread_create(&thread[w], NULL, stamp_on,
						    st));
			continue;
		}
		pid = spawn();
		if (!pid) {
			for (i = 0; i < REGIONS; i++)
				st->mem[i] = map_rw(st->fds[i], STAMPED);
			stamp_on(st);
			_exit(0);
		}
	}
	for (i = 0; i < 1 + variant->two; i++) {
		cloner[i] = (struct cloner){
			.self = self, .go = &go, .snapshot = variant->snapshot,
			.order = variant->two ? i : variant->order,
		};
		ASSERT_EQ(0, pthread_create(&cloning[i], NULL, clone_on,
					    &cloner[i]));
	}
	usleep(effort(4000) * 1000);
	for (i = 0; i < 1 + variant->two; i++)
		await(&cloner[i].calls, 21);
	put(&go, 0);
	for (i = 0; i < 1 + variant->two; i++) {
		ASSERT_EQ(0, pthread_join(cloning[i], NULL));
		TH_LOG("%d calls", cloner[i].calls);
		EXPECT_EQ(0, cloner[i].torn);
	}
	put(self->stop, 1);
	for (w = 1; w < WRITERS; w++)
		ASSERT_EQ(0, pthread_join(thread[w], NULL));
	EXPECT_EQ(0, reap(pid));
	for (w = 0; w < WRITERS; w++) {
		EXPECT_LT(10, self->st[w].stamps);
		for (i = 0; i < REGIONS; i++)
			EXPECT_EQ(self->st[w].stamps,
				  last_stamp(self->fds[i], w));
	}
}

/* Others that take two locks, or the same ones in another way, get along. */
struct other {
	int *go, what;
	const int *fds;
	uint64_t calls;
};

static void *do_other(void *arg)
{
	struct other *o = arg;
	uint64_t n;

	for (n = 0; get(o->go); n++) {
		int a = o->fds[n % REGIONS], b = o->fds[(n * 3 + 1) % REGIONS];
		int pair[2] = { a, b }, clones[2];
		struct cowmem_merge merge = {};

		switch (o->what) {
		case 0:
		case 1:
			must(!many(pair, clones, 2, 0));
			close_all(clones, 2);
			break;
		case 2:
			must(!do_restore(a, b, 0));
			must(!do_copy(a, b, 0, 0, 1));
			break;
		case 3:
			must(!do_merge(&merge, pair, 2));
			must(pwrite(a, &n, 8, n % PAGES * pgsz()) == 8);
			break;
		}
		o->calls++;
	}
	return NULL;
}

TEST(no_deadlock)
{
	int fds[REGIONS], back[REGIONS], i, go = 1;
	struct other other[5];
	pthread_t thread[5];

	for (i = 0; i < REGIONS; i++) {
		fds[i] = region_of(PAGES, 1 + i % 2);
		back[REGIONS - 1 - i] = fds[i];
	}
	for (i = 0; i < 5; i++) {
		other[i] = (struct other){
			.go = &go, .what = i % 4, .fds = i % 2 ? back : fds,
		};
		ASSERT_EQ(0, pthread_create(&thread[i], NULL, do_other,
					    &other[i]));
	}
	usleep(effort(5000) * 1000);
	put(&go, 0);
	/* The harness ends a test that hangs. */
	for (i = 0; i < 5; i++) {
		ASSERT_EQ(0, pthread_join(thread[i], NULL));
		EXPECT_LT(0, other[i].calls);
	}
	for (i = 0; i < REGIONS; i++)
		EXPECT_EQ(PAGES * pgsz(), info(fds[i]).size);
}

TEST_HARNESS_MAIN
