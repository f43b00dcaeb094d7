// SPDX-License-Identifier: GPL-2.0-only
/*
 * Promise: RESTORE makes a region, or a range of it, equal to another one, in place
 * and at one instant.  Mappings stay and show the other's content, in every process;
 * afterwards neither sees what is written to the other.  The cost is that of what
 * differs.  The size comes along if that is asked for.
 */
#include <linux/futex.h>

#include "../kselftest_harness.h"
#include "common.h"
#include "live.h"

/* Several leaves: pages with tag 1, then a hole. */
enum { DATA = 150, PAGES = 200 };

/* Returns how many pages differed. */
static uint64_t restored(int fd, int from)
{
	return must_restore(fd, from, 0).pages;
}

static int sparse_region(size_t pages, size_t data, uint32_t tag)
{
	int fd = region();
	char *mem = map_rw(fd, pages);

	fill(mem, data, tag, 0);
	unmap(mem, pages);
	return fd;
}

/* ---- what is undone, and where it shows ---- */

enum how {
	BY_MMAP = 1, BY_PWRITE = 2, BY_DISCARD = 4, INTO_HOLES = 8, BY_RESIZE = 16,
};

FIXTURE(undo) {
	int fd, snap;
	char *mem;	/* two mappings */
	char *second;
	char *priv;	/* and a private one, with one page of its own */
};

FIXTURE_VARIANT(undo) {
	int how;
	bool live;	/* from an ordinary clone, not a snapshot */
};

FIXTURE_VARIANT_ADD(undo, nothing) { .how = 0 };
FIXTURE_VARIANT_ADD(undo, mmap) { .how = BY_MMAP };
FIXTURE_VARIANT_ADD(undo, pwrite) { .how = BY_PWRITE };
FIXTURE_VARIANT_ADD(undo, discard) { .how = BY_DISCARD };
FIXTURE_VARIANT_ADD(undo, into_holes) { .how = INTO_HOLES };
FIXTURE_VARIANT_ADD(undo, resize) { .how = BY_RESIZE };
FIXTURE_VARIANT_ADD(undo, all) { .how = 31 };
FIXTURE_VARIANT_ADD(undo, all_of_a_clone) { .how = 31, .live = true };

FIXTURE_SETUP(undo)
{
	self->fd = sparse_region(PAGES, DATA, 1);
	self->mem = map_rw(self->fd, PAGES);
	self->second = map_rw(self->fd, PAGES);
	self->priv = map_at(self->fd, PAGES, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE, 0);
	self->snap = variant->live ? cloned(self->fd) : snapshot(self->fd);
}

FIXTURE_TEARDOWN(undo)
{
}

static bool is_original(const char *mem)
{
	return is(mem, DATA, 1, 0) &&
	       is(mem + DATA * pgsz(), PAGES - DATA, 0, DATA);
}

static void read_in(char *mem)
{
	size_t i;

	for (i = 0; i < PAGES; i++)
		touch(mem + i * pgsz(), false);
}

/* Returns how many pages are no longer what the snapshot has. */
static uint64_t mess_up(int fd, char *mem, char *second, int how)
{
	bool changed[PAGES] = {};
	uint64_t nr = 0;
	size_t i;

	if (how & BY_RESIZE) {
		must(!do_resize(fd, 120 * pgsz() + 5));
		must(!do_resize(fd, PAGES * pgsz()));
		for (i = 120; i < DATA; i++)
			changed[i] = true;
	}
	if (how & BY_MMAP)
		for (i = 3; i < 100; i += 7) {
			pg_fill((i % 2 ? mem : second) + i * pgsz(), 2, i);
			changed[i] = true;
		}
	if (how & BY_PWRITE)
		for (i = 5; i < 100; i += 9) {
			put_page(fd, i, 3);
			changed[i] = true;
		}
	if (how & BY_DISCARD) {
		must(!do_discard(fd, 20 * pgsz(), 3 * pgsz() + 9));
		must(!do_discard(fd, 60 * pgsz(), 10 * pgsz()));
		for (i = 20; i < 24; i++)
			changed[i] = true;
		for (i = 60; i < 70; i++)
			changed[i] = true;
	}
	if (how & INTO_HOLES)
		for (i = DATA; i < PAGES; i += 5) {
			if (i % 2)
				pg_fill(mem + i * pgsz(), 4, i);
			else
				put_page(fd, i, 4);
			changed[i] = true;
		}
	for (i = 0; i < PAGES; i++)
		nr += changed[i];
	return nr;
}

TEST_F(undo, shows_everywhere_at_once)
{
	int *turn = shared_mem(sizeof(*turn));
	struct cowmem_restore arg;
	uint64_t changed;
	pid_t pid;

	pid = spawn();
	if (!pid) {
		char *own = map_rw(self->fd, PAGES);

		/* All is mapped here, a page of it writable. */
		read_in(own);
		touch(own, true);
		put(turn, 1);
		await(turn, 2);
		read_in(own);
		read_in(self->second);
		put(turn, 3);
		await(turn, 4);
		if (!is_original(own) || !is_original(self->mem) ||
		    !is_original(self->second))
			_exit(1);
		_exit(0);
	}
	await(turn, 1);
	EXPECT_TRUE(is_original(self->mem));
	pg_fill(self->priv + 2 * pgsz(), 9, 2);
	EXPECT_TRUE(is(self->priv + 3 * pgsz(), DATA - 3, 1, 3));

	/* The child wrote a page back as it was. */
	changed = 1 + mess_up(self->fd, self->mem, self->second, variant->how);
	put(turn, 2);
	await(turn, 3);
	/* What the private mapping shows is mapped from the changed region. */
	read_in(self->priv);

	arg = must_restore(self->fd, self->snap, 0);
	EXPECT_TRUE(is_original(self->mem));
	EXPECT_TRUE(is_original(self->second));
	EXPECT_TRUE(is(self->priv, 2, 1, 0));
	EXPECT_TRUE(is(self->priv + 2 * pgsz(), 1, 9, 2));
	EXPECT_TRUE(is(self->priv + 3 * pgsz(), DATA - 3, 1, 3));
	EXPECT_TRUE(is(self->priv + DATA * pgsz(), PAGES - DATA, 0, DATA));
	put(turn, 4);
	EXPECT_EQ(0, reap(pid));
	EXPECT_EQ(changed, arg.pages);
	EXPECT_GE(10 * changed + 10, arg.nodes);
	EXPECT_TRUE(holds(self->fd, 0, DATA));
	EXPECT_TRUE(holds(self->snap, 0, DATA));
	EXPECT_TRUE(fd_is(self->fd, 0, DATA, 1));
	EXPECT_TRUE(fd_is(self->fd, DATA, PAGES - DATA, 0));
	EXPECT_TRUE(fd_is(self->snap, 0, DATA, 1));

	/* Once more: there is nothing to do. */
	arg = must_restore(self->fd, self->snap, 0);
	EXPECT_EQ(0, arg.pages);
	EXPECT_EQ(0, arg.nodes);
	EXPECT_TRUE(is_original(self->mem));
}

TEST_F(undo, stays_apart_afterwards)
{
	char *snap = map_ro(self->snap, PAGES), *there;
	int i;

	mess_up(self->fd, self->mem, self->second, variant->how);
	restored(self->fd, self->snap);
	/* Through PTEs of old and new mappings, and by pwrite(). */
	EXPECT_TRUE(is_original(snap));
	mess_up(self->fd, self->second, map_rw(self->fd, PAGES), 31);
	fill(self->mem, 3, 5, 0);
	EXPECT_TRUE(is_original(snap));
	EXPECT_TRUE(is(self->second, 3, 5, 0));
	EXPECT_TRUE(fd_is(self->snap, 0, DATA, 1));
	restored(self->fd, self->snap);
	EXPECT_TRUE(is_original(self->second));
	if (!variant->live)
		return;
	/*
	 * What was writable in the source is so no longer.  One page is written
	 * in each leaf on the one side, then all of them on the other.
	 */
	there = map_rw(self->snap, PAGES);
	for (i = 0; i < 4; i++) {
		char *first = i % 2 ? there : self->mem;
		char *then = i % 2 ? self->mem : there;
		size_t k;

		fill(there, PAGES, 6, 0);
		EXPECT_EQ(PAGES, restored(self->fd, self->snap));
		EXPECT_TRUE(is(self->mem, PAGES, 6, 0));
		for (k = 5; k < PAGES; k += 60)
			pg_fill(first + k * pgsz(), 7, k);
		EXPECT_TRUE(is(then, PAGES, 6, 0));
		if (i / 2)
			fill(then, PAGES, 8, 0);
		else
			for (k = 0; k < PAGES; k++)
				put_page(then == there ? self->snap :
					    self->fd, k, 8);
		for (k = 0; k < PAGES; k++)
			EXPECT_TRUE(pg_is(first + k * pgsz(),
					  k % 60 == 5 ? 7 : 6, k));
		EXPECT_TRUE(is(self->second, 5, then == there ? 6 : 8, 0));
		EXPECT_TRUE(holds(self->fd, PAGES, 0));
		EXPECT_TRUE(holds(self->snap, PAGES, 0));
	}
}

/* ---- other sources ---- */

TEST(unrelated_region)
{
	int fd = sparse_region(PAGES, DATA, 1), other = region(), i;
	char *mem = map_rw(fd, PAGES), *there = map_rw(other, PAGES);
	struct cowmem_restore arg;

	/* Pages 100 to 179, one of zeroes. */
	fill(there + 100 * pgsz(), 80, 2, 100);
	fill(there + 110 * pgsz(), 1, 0, 110);
	EXPECT_TRUE(is_original(mem));
	arg = must_restore(fd, other, 0);
	EXPECT_EQ(180, arg.pages);
	for (i = 0; i < 2; i++) {
		char *m = i ? there : mem;

		EXPECT_TRUE(is(m, 100, 0, 0));
		EXPECT_TRUE(is(m + 100 * pgsz(), 10, 2, 100));
		EXPECT_TRUE(is(m + 110 * pgsz(), 1, 0, 110));
		EXPECT_TRUE(is(m + 111 * pgsz(), 69, 2, 111));
		EXPECT_TRUE(is(m + 180 * pgsz(), 20, 0, 180));
	}
	EXPECT_TRUE(holds(fd, 0, 80));
	EXPECT_TRUE(holds(other, 0, 80));
	close(other);
	unmap(there, PAGES);
	EXPECT_TRUE(holds(fd, 80, 0));
	fill(mem, PAGES, 3, 0);
	EXPECT_TRUE(fd_is(fd, 0, PAGES, 3));
}

/* To and from nothing at all; a size that is no multiple of a page. */
TEST(empty_regions)
{
	int a = region(), b = region(), c = region_of(3, 1);
	char *mem = map_rw(c, 3);

	EXPECT_EQ(0, restored(a, b));
	ASSERT_EQ(0, do_resize(a, 2 * pgsz() + 5));
	ASSERT_EQ(0, do_resize(c, 2 * pgsz() + 5));
	EXPECT_EQ(3, restored(c, a));
	EXPECT_TRUE(is(mem, 3, 0, 0));
	EXPECT_TRUE(holds(c, 0, 0));
	EXPECT_EQ(2 * pgsz() + 5, info(c).size);
	EXPECT_EQ(0, restored(c, a));
	fill(mem, 3, 2, 0);
	EXPECT_EQ(3, restored(a, c));
	EXPECT_TRUE(fd_is(a, 0, 2, 2));
	EXPECT_TRUE(holds(a, 0, 3));
}

/* Far away, where trees have other heights. */
TEST(huge_and_sparse)
{
	uint64_t far = 1ULL << 40;
	int a = region(), b = region(), snap;
	struct cowmem_restore arg;
	char buf[pgsz()];

	pg_fill(buf, 1, 1);
	ASSERT_EQ((ssize_t)pgsz(), pwrite(a, buf, pgsz(), far));
	ASSERT_EQ((ssize_t)pgsz(), pwrite(a, buf, pgsz(), 0));
	snap = snapshot(a);
	ASSERT_EQ(0, do_resize(b, far + pgsz()));
	pg_fill(buf, 2, 1);
	ASSERT_EQ((ssize_t)pgsz(), pwrite(b, buf, pgsz(), pgsz()));
	EXPECT_EQ(3, restored(b, a));
	EXPECT_TRUE(fd_is_as(b, far / pgsz(), 1, 1));
	EXPECT_TRUE(fd_is_as(b, 0, 1, 1));
	EXPECT_TRUE(fd_is_as(b, 1, 0, 1));
	EXPECT_TRUE(holds(b, 0, 2));
	ASSERT_EQ((ssize_t)pgsz(), pwrite(b, buf, pgsz(), far / 2));
	arg = must_restore(b, snap, 0);
	EXPECT_EQ(1, arg.pages);
	EXPECT_GE(40, arg.nodes);
}

TEST(to_itself)
{
	int fd = sparse_region(PAGES, DATA, 1), copy = dup(fd);
	char *mem = map_rw(fd, PAGES);
	struct cowmem_info before, after;

	pg_fill(mem, 2, 0);
	before = info(fd);
	EXPECT_EQ(0, restored(fd, fd));
	EXPECT_EQ(0, restored(fd, copy));
	after = info(fd);
	EXPECT_EQ(0, memcmp(&before, &after, sizeof(before)));
	EXPECT_TRUE(is(mem, 1, 2, 0));
	EXPECT_TRUE(is(mem + pgsz(), DATA - 1, 1, 1));
}

/* Any of them may go first. */
TEST(closing_in_any_order)
{
	static const int order[6][3] = {
		{ 0, 1, 2 }, { 0, 2, 1 }, { 1, 0, 2 }, { 1, 2, 0 }, { 2, 0, 1 },
		{ 2, 1, 0 },
	};
	int i, k, fd[3];

	for (i = 0; i < 6; i++) {
		char *mem;

		fd[0] = sparse_region(PAGES, DATA, 1);
		mem = map_rw(fd[0], PAGES);
		fd[1] = snapshot(fd[0]);
		fill(mem, PAGES, 2, 0);
		EXPECT_EQ(PAGES, restored(fd[0], fd[1]));
		fill(mem, 5, 3, 0);
		fd[2] = cloned(fd[0]);
		fill(mem + 70 * pgsz(), 5, 4, 70);
		EXPECT_EQ(5, restored(fd[2], fd[1]));
		fill(mem + 80 * pgsz(), 5, 4, 80);
		unmap(mem, PAGES);
		for (k = 0; k < 3; k++) {
			int j;

			close(fd[order[i][k]]);
			for (j = k + 1; j < 3; j++) {
				int f = fd[order[i][j]];

				if (f == fd[0]) {
					EXPECT_TRUE(fd_is(f, 0, 5, 3));
					EXPECT_TRUE(fd_is(f, 70, 5, 4));
					EXPECT_TRUE(fd_is(f, 75, 5, 1));
					EXPECT_TRUE(fd_is(f, 80, 5, 4));
					EXPECT_TRUE(fd_is(f, 85, DATA - 85, 1));
				} else {
					EXPECT_TRUE(fd_is(f, 0, DATA, 1));
				}
			}
		}
	}
}

/* ---- cost ---- */

static struct cowmem_restore cost(size_t pages, size_t from, size_t step)
{
	int fd = big_region(pages, 1), snap = snapshot(fd);
	struct cowmem_restore arg;
	size_t i;

	for (i = 0; i < 100; i++)
		put_page(fd, from + i * step, 2);
	arg = must_restore(fd, snap, 0);
	must(holds(fd, 0, pages));
	close(snap);
	close(fd);
	return arg;
}

TEST(cost_does_not_grow_with_the_region)
{
	struct cowmem_restore small, medium, large, spread;

	small = cost(4 * MIB_PAGES, 3, 10);
	medium = cost(20 * MIB_PAGES, 3, 10);
	large = cost(64 * MIB_PAGES, 3, 10);
	spread = cost(64 * MIB_PAGES, 3, 163);
	TH_LOG("%llu, %llu, %llu nodes, spread %llu",
	       (unsigned long long)small.nodes,
	       (unsigned long long)medium.nodes,
	       (unsigned long long)large.nodes,
	       (unsigned long long)spread.nodes);
	EXPECT_EQ(100, small.pages);
	EXPECT_EQ(100, medium.pages);
	EXPECT_EQ(100, large.pages);
	EXPECT_EQ(100, spread.pages);
	/* A path for the start and for the end of each run, and one more. */
	EXPECT_GE(201 * 3, small.nodes);
	/* Two regions whose trees are of one height. */
	EXPECT_EQ(medium.nodes, large.nodes);
	EXPECT_GE(201 * 4, large.nodes);
	EXPECT_GE(201 * 2, spread.nodes);
}

/* All differs: that is one look at each node, however many there are. */
TEST(cost_grows_with_what_differs)
{
	uint64_t nodes[2];
	int i;

	for (i = 0; i < 2; i++) {
		size_t pages = (i ? 80 : 20) * MIB_PAGES;
		int fd = big_region(pages, 1), empty = region();
		struct cowmem_restore arg;

		ASSERT_EQ(0, do_resize(empty, pages * pgsz()));
		arg = must_restore(fd, empty, 0);
		EXPECT_EQ(pages, arg.pages);
		nodes[i] = arg.nodes;
		EXPECT_TRUE(holds(fd, 0, 0));
		close(fd);
		close(empty);
	}
	TH_LOG("%llu nodes for 20 MiB, %llu for 80 MiB",
	       (unsigned long long)nodes[0], (unsigned long long)nodes[1]);
	EXPECT_GE(4 * nodes[0] + 100, nodes[1]);
}

/* Write and restore, again and again: nothing grows. */
TEST(two_hundred_rounds)
{
	int fd = big_region(1000, 1), snap, i, k;
	char *mem = map_rw(fd, 1000);
	uint64_t nodes = 0, index_bytes;
	struct cowmem_restore arg;

	snap = snapshot(fd);
	index_bytes = info(snap).index_bytes;
	for (i = 0; i < 200; i++) {
		for (k = 0; k < 30; k++) {
			size_t page = (k * 33 + i) % 1000;

			*(uint64_t *)(mem + page * pgsz()) = i + 1;
		}
		arg = must_restore(fd, snap, 0);
		ASSERT_EQ(30, arg.pages);
		ASSERT_TRUE(holds(fd, 0, 1000));
		ASSERT_EQ(index_bytes, info(fd).index_bytes);
		for (k = 0; k < 1000; k++)
			ASSERT_EQ(pattern(1, k, 0),
				  *(uint64_t *)(mem + k * pgsz()));
		if (arg.nodes > nodes)
			nodes = arg.nodes;
	}
	EXPECT_GE(200, nodes);
	EXPECT_EQ(0, info(snap).clones);
	EXPECT_EQ(1, info(fd).clones);
	EXPECT_TRUE(holds(snap, 0, 1000));
}

/* ---- errors ---- */

FIXTURE(refused) {
	int fd, snap;
	char *mem;
	struct cowmem_info info, snap_info;
};

FIXTURE_SETUP(refused)
{
	self->fd = sparse_region(PAGES, DATA, 1);
	self->mem = map_rw(self->fd, PAGES);
	self->snap = snapshot(self->fd);
	/* The snapshot has 1, the region 2. */
	fill(self->mem, DATA, 2, 0);
	self->info = info(self->fd);
	self->snap_info = info(self->snap);
}

/* Nothing happened. */
FIXTURE_TEARDOWN(refused)
{
	struct cowmem_info now = info(self->fd), snap = info(self->snap);

	EXPECT_EQ(0, memcmp(&now, &self->info, sizeof(now)));
	EXPECT_EQ(0, memcmp(&snap, &self->snap_info, sizeof(snap)));
	EXPECT_TRUE(is(self->mem, DATA, 2, 0));
	EXPECT_TRUE(is(self->mem + DATA * pgsz(), PAGES - DATA, 0, DATA));
	EXPECT_TRUE(fd_is(self->fd, 0, DATA, 2));
	EXPECT_TRUE(fd_is(self->snap, 0, DATA, 1));
}

#define EXPECT_REFUSED(_err, _to, _from) do {				\
	struct cowmem_restore __arg = { .fd = (_from), .pages = 77 };	\
									\
	EXPECT_EQ(-1, ioctl((_to), COWMEM_IOC_RESTORE, &__arg));	\
	EXPECT_EQ((_err), errno);					\
	EXPECT_EQ(77, __arg.pages);					\
} while (0)

TEST_F(refused, another_size)
{
	int other = do_clone(self->fd, 0, 0, (PAGES - 1) * pgsz());

	ASSERT_LE(0, other);
	EXPECT_REFUSED(EINVAL, self->fd, other);
	EXPECT_REFUSED(EINVAL, other, self->fd);
	EXPECT_REFUSED(EINVAL, self->fd, region());
	ASSERT_EQ(0, do_resize(other, PAGES * pgsz() - 1));
	EXPECT_REFUSED(EINVAL, self->fd, other);
	ASSERT_EQ(0, do_resize(other, PAGES * pgsz() + 1));
	EXPECT_REFUSED(EINVAL, self->fd, other);
	close(other);
	EXPECT_EQ(2, info(self->fd).clones);
	self->info.clones = 2;
}

TEST_F(refused, sealed_target)
{
	unsigned int seals[] = {
		COWMEM_SEAL_WRITE, COWMEM_SEAL_WRITE | COWMEM_SEAL_SEAL, 15,
	};
	int i;

	for (i = 0; i < 3; i++) {
		int other = cloned(self->snap);

		put_page(other, 1, 7);
		ASSERT_EQ(0, do_seal(other, seals[i]));
		EXPECT_REFUSED(EPERM, other, self->snap);
		EXPECT_REFUSED(EPERM, other, other);
		EXPECT_TRUE(fd_is(other, 1, 1, 7));
		EXPECT_TRUE(fd_is(other, 2, DATA - 2, 1));
		/* It may be a source like any other. */
		EXPECT_EQ(1, restored(cloned(self->snap), other));
		close(other);
	}
	self->snap_info = info(self->snap);
}

/* Other seals are about the size, which stays. */
TEST_F(refused, not_by_other_seals)
{
	int other = cloned(self->snap);

	put_page(other, 1, 7);
	ASSERT_EQ(0, do_seal(other, COWMEM_SEAL_GROW | COWMEM_SEAL_SHRINK |
			     COWMEM_SEAL_SEAL));
	EXPECT_EQ(1, restored(other, self->snap));
	EXPECT_TRUE(fd_is(other, 0, DATA, 1));
	EXPECT_EQ(7, info(other).seals);
	close(other);
	self->snap_info = info(self->snap);
}

TEST_F(refused, snapshot_as_target)
{
	EXPECT_REFUSED(EBADF, self->snap, self->fd);
	EXPECT_REFUSED(EBADF, self->snap, self->snap);
}

TEST_F(refused, modes)
{
	int rd = open(COWMEM_DEV, O_RDONLY), wr = open(COWMEM_DEV, O_WRONLY);
	struct cowmem_restore arg;

	ASSERT_LE(0, rd);
	ASSERT_LE(0, wr);
	ASSERT_EQ(0, do_resize(wr, PAGES * pgsz()));
	EXPECT_REFUSED(EBADF, rd, self->fd);
	EXPECT_REFUSED(EBADF, rd, rd);
	EXPECT_REFUSED(EBADF, self->fd, wr);
	EXPECT_REFUSED(EBADF, wr, wr);
	/* What may be written takes in what may be read. */
	arg = must_restore(wr, self->snap, 0);
	EXPECT_EQ(DATA, arg.pages);
	EXPECT_EQ(-1, pread(wr, &arg, 1, 0));
	EXPECT_EQ(0, restored(region(), rd));
	close(wr);
}

TEST_F(refused, not_a_region)
{
	int pipes[2], null = open("/dev/zero", O_RDWR), gone = dup(self->fd);
	int path = open(COWMEM_DEV, O_PATH);
	struct cowmem_restore arg = { .fd = self->snap };

	ASSERT_EQ(0, pipe(pipes));
	close(gone);
	EXPECT_REFUSED(EBADF, self->fd, pipes[0]);
	EXPECT_REFUSED(EBADF, self->fd, pipes[1]);
	EXPECT_REFUSED(EBADF, self->fd, null);
	EXPECT_REFUSED(EBADF, self->fd, gone);
	EXPECT_REFUSED(EBADF, self->fd, path);
	EXPECT_REFUSED(EBADF, self->fd, -1);
	EXPECT_REFUSED(EBADF, self->fd, -100);
	EXPECT_REFUSED(EBADF, self->fd, INT32_MAX);
	EXPECT_EQ(-1, ioctl(null, COWMEM_IOC_RESTORE, &arg));
	EXPECT_EQ(ENOTTY, errno);
}

TEST_F(refused, flags_and_structs)
{
	struct cowmem_restore arg, *ro = (void *)anon(1);
	unsigned int bit;
	struct {
		struct cowmem_restore arg;
		uint64_t tail;
	} longer = {};

	for (bit = 2; bit < 32; bit++) {
		arg = (struct cowmem_restore) {
			.fd = self->snap, .flags = 1U << bit,
		};
		EXPECT_EQ(-1, ioctl(self->fd, COWMEM_IOC_RESTORE, &arg));
		EXPECT_EQ(EOPNOTSUPP, errno);
	}
	ro->fd = self->snap;
	ASSERT_EQ(0, mprotect(ro, pgsz(), PROT_READ));
	EXPECT_EQ(-1, ioctl(self->fd, COWMEM_IOC_RESTORE, ro));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(-1, ioctl(self->fd, COWMEM_IOC_RESTORE, NULL));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(-1, ioctl(self->fd, COWMEM_IOC_RESTORE, guarded(1) + pgsz() - 8));
	EXPECT_EQ(EFAULT, errno);
	longer.arg.fd = self->snap;
	longer.tail = 1;
	EXPECT_EQ(-1, ioctl(self->fd, _IOWR(COWMEM_IOC_TYPE, 5, longer), &longer));
	EXPECT_EQ(E2BIG, errno);
	EXPECT_EQ(-1, ioctl(self->fd, _IOC(_IOC_READ | _IOC_WRITE,
					   COWMEM_IOC_TYPE, 5, 16), &arg));
	EXPECT_EQ(EINVAL, errno);
}

/* The struct itself lies in what is restored; the answer is written last. */
TEST(argument_in_the_region)
{
	int fd = sparse_region(PAGES, DATA, 1), snap = snapshot(fd);
	char *mem = map_rw(fd, PAGES);
	struct cowmem_restore *arg = (void *)(mem + 3 * pgsz());

	*arg = (struct cowmem_restore) { .fd = snap };
	ASSERT_EQ(0, ioctl(fd, COWMEM_IOC_RESTORE, arg));
	EXPECT_EQ(1, arg->pages);
	EXPECT_TRUE(is(mem, 3, 1, 0));
	EXPECT_TRUE(is(mem + 4 * pgsz(), DATA - 4, 1, 4));
	EXPECT_EQ(1, restored(fd, snap));
	EXPECT_TRUE(is_original(mem));
}

/* ---- futexes and pins ---- */

static int futex(uint32_t *word, int op, uint32_t val, const struct timespec *ts)
{
	return syscall(SYS_futex, word, op, val, ts, NULL, 0);
}

static void futex_test(struct __test_metadata *_metadata, bool process)
{
	int fd = region_of(4, 1), snap, *turn = shared_mem(sizeof(*turn)), i, n = 0;
	struct timespec ts = { .tv_sec = 60 };
	uint32_t *word = (uint32_t *)map_rw(fd, 4);
	pid_t pid;

	*word = 5;
	snap = snapshot(fd);
	*word = 7;
	pid = spawn();
	if (!pid) {
		uint32_t *own = process ? (uint32_t *)map_rw(fd, 4) : word;

		put(turn, 1);
		_exit(futex(own, FUTEX_WAIT, 7, &ts) ? 2 : *own == 8 ? 0 : 3);
	}
	await(turn, 1);
	/* It sleeps, as far as we can tell. */
	usleep(300000);
	EXPECT_EQ(1, restored(fd, snap));
	EXPECT_EQ(5, *word);
	*word = 8;
	for (i = 0; i < 2000 && !n; i++) {
		n = futex(word, FUTEX_WAKE, 1, NULL);
		if (!n)
			usleep(1000);
	}
	EXPECT_EQ(1, n);
	EXPECT_EQ(0, reap(pid));
	/* And now the value is the other one: a waiter for 7 does not sleep. */
	EXPECT_EQ(-1, futex(word, FUTEX_WAIT, 7, &ts));
	EXPECT_EQ(EAGAIN, errno);
	EXPECT_EQ(1, restored(fd, snap));
	EXPECT_EQ(5, *word);
}

TEST(futex_waiter_sleeps_across)
{
	futex_test(_metadata, false);
}

TEST(futex_waiter_with_a_mapping_of_its_own)
{
	futex_test(_metadata, true);
}

FIXTURE(pinned) {
	int fd, snap, pipes[2];
	char *mem;
};

FIXTURE_VARIANT(pinned) {
	bool written;	/* the pinned page differs from the snapshot's */
	bool source;	/* it is the other region's */
};

FIXTURE_VARIANT_ADD(pinned, equal) { .written = false };
FIXTURE_VARIANT_ADD(pinned, written) { .written = true };
FIXTURE_VARIANT_ADD(pinned, source) { .source = true };
FIXTURE_VARIANT_ADD(pinned, source_written) { .source = true, .written = true };

FIXTURE_SETUP(pinned)
{
	self->fd = region_of(4, 1);
	self->mem = map_rw(self->fd, 4);
	self->snap = cloned(self->fd);
	ASSERT_EQ(0, pipe(self->pipes));
}

FIXTURE_TEARDOWN(pinned)
{
}

TEST_F(pinned, pipe_keeps_the_old_data)
{
	char *there = map_rw(self->snap, 4), got[4 * pgsz()];
	char *from = variant->source ? there : self->mem;
	struct iovec iov = { from, sizeof(got) };
	uint32_t old = variant->written ? 2 : 1;
	uint32_t now = variant->source ? old : 1;

	if (variant->written)
		fill(from, 4, 2, 0);
	EXPECT_TRUE(is(from, 4, old, 0));
	ASSERT_EQ((ssize_t)sizeof(got), vmsplice(self->pipes[1], &iov, 1, 0));
	EXPECT_EQ(variant->written ? 4 : 0, restored(self->fd, self->snap));
	EXPECT_TRUE(is(self->mem, 4, now, 0));
	EXPECT_TRUE(is(there, 4, now, 0));
	EXPECT_TRUE(fd_is(self->fd, 0, 4, now));

	/* No later write to the restored region gets into the pipe. */
	fill(self->mem, 4, 3, 0);
	EXPECT_TRUE(is(there, 4, now, 0));
	if (!variant->source) {
		/* The last holder does not write in place either. */
		unmap(there, 4);
		close(self->snap);
		fill(self->mem, 4, 4, 0);
	}
	ASSERT_TRUE(drain(self->pipes[0], got, sizeof(got)));
	EXPECT_TRUE(is(got, 4, old, 0));
	EXPECT_TRUE(is(self->mem, 4, variant->source ? 3 : 4, 0));
	EXPECT_TRUE(holds(self->fd, 4, 0));
}

/* ... nor when the region holds the pinned page alone. */
TEST_F(pinned, last_holder_does_not_write_in_place)
{
	char *there = map_rw(self->snap, 4), got[4 * pgsz()];
	char *from = variant->source ? there : self->mem;
	struct iovec iov = { from, sizeof(got) };

	if (variant->written)
		fill(from, 4, 2, 0);
	EXPECT_TRUE(is(from, 4, variant->written ? 2 : 1, 0));
	ASSERT_EQ((ssize_t)sizeof(got), vmsplice(self->pipes[1], &iov, 1, 0));
	restored(self->fd, self->snap);
	unmap(there, 4);
	close(self->snap);
	EXPECT_TRUE(holds(self->fd, 4, 0));
	fill(self->mem, 4, 3, 0);
	ASSERT_TRUE(drain(self->pipes[0], got, sizeof(got)));
	EXPECT_TRUE(is(got, 4, variant->written ? 2 : 1, 0));
	EXPECT_TRUE(is(self->mem, 4, 3, 0));
}

/* ---- while others write ---- */

/*
 * Restored from the live region again and again: each time the ring shows the
 * last RING writes up to some instant within the call.
 */
TEST(from_a_live_region)
{
	int src = region_of(3 * RING, 0), fd = region_of(3 * RING, 1), i, n, k;
	struct live *live = shared_mem(sizeof(*live));
	char *mem = map_rw(fd, 3 * RING), *there = map_rw(src, 3 * RING);
	struct users writers = { .live = live };
	uint64_t last[3] = {};

	for (i = 0; i < 3; i++)
		writers.user[i] = (struct user) {
			.fd = src, .nr = i, .ring = i * RING, .call = i == 1, .mem = there,
		};
	users_start(&writers, write_ring);
	for (n = 0; n < effort(150); n++) {
		uint64_t before[3], after[3];

		usleep(1000);
		for (i = 0; i < 3; i++)
			before[i] = last_done(live, i);
		restored(fd, src);
		for (i = 0; i < 3; i++)
			after[i] = last_done(live, i) + 1;
		for (k = 0; k < 2; k++)
			for (i = 0; i < 3; i++) {
				uint64_t top = ring_top(mem, i * RING);

				ASSERT_LE(before[i], top);
				ASSERT_GE(after[i], top);
				ASSERT_LE(last[i], top);
				ASSERT_TRUE(ring_is(mem, i * RING, top))
					TH_LOG("writer %d, round %d", i, n);
				/* It stays as it is. */
				if (k)
					ASSERT_EQ(last[i], top);
				last[i] = top;
			}
	}
	for (i = 0; i < 3; i++)
		await_count(&live->done[i], 101);
	EXPECT_EQ(0, users_stop(&writers));
	restored(fd, src);
	for (i = 0; i < 3; i++)
		EXPECT_TRUE(ring_is(mem, i * RING, live->done[i]));
}

/*
 * The region that is restored is written meanwhile.  Of all that a writer wrote,
 * what came before one instant is gone and what came later is there.
 */
TEST(while_the_region_is_written)
{
	struct live *live = shared_mem(sizeof(*live));
	int fd = region_of(3 * RING, 0), snap, i, n, cut_inside = 0;
	char *mem = map_rw(fd, 3 * RING), *second = map_rw(fd, 3 * RING);

	/* Zeroes, half of them holes, half of them pages. */
	for (i = 0; i < 3 * RING; i += 2)
		store(mem, i, 0);
	snap = snapshot(fd);
	for (n = 0; n < effort(60); n++) {
		struct users writers = { .live = live };
		uint64_t before[3];

		restored(fd, snap);
		memset(live, 0, sizeof(*live));
		for (i = 0; i < 3; i++)
			writers.user[i] = (struct user) {
				.fd = fd, .nr = i, .ring = i * RING, .call = i == 1,
				.mem = i ? second : mem,
			};
		users_start(&writers, write_ring);
		usleep(500 + n * 3000 / effort(60));
		for (i = 0; i < 3; i++)
			before[i] = last_done(live, i);
		restored(fd, snap);
		ASSERT_EQ(0, users_stop(&writers));

		for (i = 0; i < 3; i++) {
			uint64_t end = live->done[i], s;
			bool cut = false;

			/* From the last write back. */
			for (s = end; s && s + RING > end; s--) {
				uint64_t seen = load(mem, i * RING + s % RING);

				if (!seen)
					cut = true;
				ASSERT_EQ(cut ? 0 : s, seen)
					TH_LOG("writer %d of %d: write %llu of %llu",
					       i, n, (unsigned long long)s,
					       (unsigned long long)end);
				if (!cut)
					ASSERT_LT(before[i], s);
				ASSERT_EQ(seen, load(second, i * RING +
						     s % RING));
			}
			cut_inside += cut && load(mem, i * RING + end % RING);
		}
	}
	TH_LOG("%d of %d writers went on in the middle of their ring",
	       cut_inside, 3 * n);
	EXPECT_EQ(0, load(map_ro(snap, 3 * RING), 0));
	restored(fd, snap);
	for (i = 0; i < 3 * RING; i++)
		EXPECT_EQ(0, load(mem, i));
}

/*
 * A reader that has seen one restored page sees them all.  In an even phase the
 * region holds the number of the round everywhere, until it is restored to 0.
 */
enum { SEEN_PAGES = 300 };

TEST(readers_see_one_instant)
{
	struct live *live = shared_mem(sizeof(*live));
	int fd = region_of(SEEN_PAGES, 0), snap = snapshot(fd), round, i;
	char *mem = map_rw(fd, SEEN_PAGES);
	struct users readers = { .live = live, .user = {
		{ .mem = mem, .rng = 1 }, { .mem = mem, .rng = 2, .call = 1 }, { .rng = 3 },
	} };
	double end = now() + effort(10), in_calls = 0;

	for (i = 0; i < USERS; i++) {
		readers.user[i].fd = fd;
		readers.user[i].pages = SEEN_PAGES;
		readers.user[i].to_zero = true;
	}
	live->phase = 1;
	users_start(&readers, see_pages_turn);
	for (round = 1; round <= 120 && (round < 10 || now() < end); round++) {
		for (i = 0; i < SEEN_PAGES; i++)
			store(mem, i, round);
		put(&live->phase, 2 * round);
		usleep(500);
		in_calls -= now();
		ASSERT_EQ(SEEN_PAGES, restored(fd, snap));
		in_calls += now();
		usleep(500);
		put(&live->phase, 2 * round + 1);
	}
	EXPECT_EQ(0, users_stop(&readers));
	EXPECT_EQ(0, live->trouble);
	TH_LOG("%d rounds, %.1f ms for each restore, %llu pages looked at",
	       round - 1, 1000 * in_calls / (round - 1), (unsigned long long)live->looked);
	EXPECT_LT(100, live->looked);
}

static int restore_all(int fd, int from)
{
	return do_restore(fd, from, 0);
}

TEST(no_stale_mapping)
{
	int fd = region_of(64, 1);

	EXPECT_TRUE(no_mapping_goes_stale(fd, snapshot(fd), restore_all));
}

/* Two regions restored to each other, from both sides at once: no deadlock. */
struct swapper {
	int a, b, *stop;
	int n;
};

static void *restores(void *arg)
{
	struct swapper *s = arg;

	while (!get(s->stop)) {
		restored(s->a, s->b);
		s->n++;
	}
	return NULL;
}

TEST(each_other)
{
	int a = region_of(PAGES, 1), b = region_of(PAGES, 2), stop = 0, i;
	struct swapper s[2] = { { a, b, &stop, 0 }, { b, a, &stop, 0 } };
	char *mem = map_rw(a, PAGES), *there = map_rw(b, PAGES);
	pthread_t thread[2];

	for (i = 0; i < 2; i++)
		must(!pthread_create(&thread[i], NULL, restores, &s[i]));
	for (i = 0; i < effort(300); i++) {
		pg_fill(i % 2 ? mem : there, i, 0);
		put_page(i % 2 ? b : a, 1, i);
		close(cloned(a));
	}
	for (i = 0; i < 2; i++)
		await(&s[i].n, 11);
	put(&stop, 1);
	for (i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
	restored(a, b);
	EXPECT_EQ(0, memcmp(mem, there, PAGES * pgsz()));
	EXPECT_TRUE(holds(a, 0, PAGES));
}

/* ---- the size comes along ---- */

FIXTURE(size) {
	int fd, snap;
	char *mem;
};

FIXTURE_VARIANT(size) {
	uint32_t flags;
};

FIXTURE_VARIANT_ADD(size, plain) { .flags = COWMEM_RESTORE_SIZE };
FIXTURE_VARIANT_ADD(size, keep) { .flags = COWMEM_RESTORE_SIZE | COWMEM_RESTORE_KEEP };

FIXTURE_SETUP(size)
{
	self->fd = sparse_region(PAGES, DATA, 1);
	self->mem = map_rw(self->fd, PAGES);
	self->snap = snapshot(self->fd);
}

/* It is what the snapshot is, whatever happened. */
FIXTURE_TEARDOWN(size)
{
	EXPECT_EQ(PAGES * pgsz(), info(self->fd).size);
	EXPECT_TRUE(is_original(self->mem));
	EXPECT_TRUE(fd_is(self->fd, 0, DATA, 1));
	EXPECT_TRUE(fd_is(self->fd, DATA, PAGES - DATA, 0));
	EXPECT_TRUE(fd_is(self->snap, 0, DATA, 1));
	EXPECT_EQ(DATA, info(self->fd).pages_populated);
	pg_fill(self->mem, 3, 0);
	EXPECT_TRUE(fd_is(self->fd, 0, 1, 3));
	EXPECT_TRUE(fd_is(self->snap, 0, 1, 1));
}

TEST_F(size, comes_back_after_growing)
{
	const uint64_t sizes[] = { PAGES + 1, 2 * PAGES, 100 * PAGES };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		char *more, *priv;

		ASSERT_EQ(0, do_resize(self->fd, sizes[i] * pgsz() - 5));
		more = map_rw(self->fd, sizes[i]);
		priv = map_at(self->fd, sizes[i], PROT_READ | PROT_WRITE, MAP_PRIVATE, 0);
		pg_fill(more + PAGES * pgsz(), 2, PAGES);
		pg_fill(more + pgsz(), 2, 1);
		pg_fill(priv + PAGES * pgsz(), 4, PAGES);
		pg_fill(priv + 2 * pgsz(), 4, 2);
		EXPECT_EQ(-1, do_restore(self->fd, self->snap, 0));
		EXPECT_EQ(EINVAL, errno);
		EXPECT_TRUE(is(more + PAGES * pgsz(), 1, 2, PAGES));
		ASSERT_EQ(0, do_restore(self->fd, self->snap, variant->flags));
		EXPECT_EQ(PAGES * pgsz(), info(self->fd).size);
		EXPECT_TRUE(is_original(more));
		/* Private copies inside stay; beyond they go, as when a file is truncated. */
		EXPECT_TRUE(is(priv + 2 * pgsz(), 1, 4, 2));
		EXPECT_EQ(SIGBUS, touch(more + PAGES * pgsz(), false));
		EXPECT_EQ(SIGBUS, touch(more + PAGES * pgsz(), true));
		EXPECT_EQ(SIGBUS, touch(priv + PAGES * pgsz(), false));
		/* Nothing of it shows up again. */
		ASSERT_EQ(0, do_resize(self->fd, sizes[i] * pgsz()));
		EXPECT_TRUE(is(more + PAGES * pgsz(), 1, 0, PAGES));
		EXPECT_TRUE(is(priv + PAGES * pgsz(), 1, 0, PAGES));
		ASSERT_EQ(0, do_restore(self->fd, self->snap, variant->flags));
		unmap(more, sizes[i]);
		unmap(priv, sizes[i]);
	}
}

TEST_F(size, comes_back_after_shrinking)
{
	const uint64_t sizes[] = { PAGES * pgsz() - 1, 120 * pgsz() + 5, 64 * pgsz(), 0 };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct cowmem_restore arg;

		ASSERT_EQ(0, do_resize(self->fd, sizes[i]));
		if (sizes[i])
			pg_fill(self->mem, 5, 0);
		arg = must_restore(self->fd, self->snap, variant->flags);
		EXPECT_EQ(PAGES * pgsz(), info(self->fd).size);
		EXPECT_TRUE(is_original(self->mem));
		EXPECT_LE(arg.pages, DATA);
	}
}

/* A source whose size is no multiple of a page. */
TEST_F(size, unaligned)
{
	int fd = cloned(self->fd), snap;
	char *mem = map_rw(fd, PAGES);

	ASSERT_EQ(0, do_resize(fd, 100 * pgsz() + 100));
	snap = snapshot(fd);
	ASSERT_EQ(0, do_resize(fd, PAGES * pgsz()));
	fill(mem + 99 * pgsz(), 3, 2, 99);
	ASSERT_EQ(0, do_restore(fd, snap, variant->flags));
	EXPECT_EQ(100 * pgsz() + 100, info(fd).size);
	EXPECT_TRUE(is(mem, 100, 1, 0));
	EXPECT_EQ(pattern(1, 100, 0), *(uint64_t *)(mem + 100 * pgsz()));
	EXPECT_EQ(0, mem[100 * pgsz() + 100]);
	EXPECT_EQ(SIGBUS, touch(mem + 101 * pgsz(), false));
	ASSERT_EQ(0, do_resize(fd, 101 * pgsz()));
	EXPECT_EQ(0, mem[101 * pgsz() - 1]);
	/* And from a live region, to a larger one and back. */
	ASSERT_EQ(0, do_restore(fd, self->fd, variant->flags));
	EXPECT_TRUE(is_original(mem));
	ASSERT_EQ(0, do_restore(fd, region(), variant->flags));
	EXPECT_EQ(0, info(fd).size);
	EXPECT_EQ(0, info(fd).pages_populated);
	EXPECT_EQ(SIGBUS, touch(mem, false));
}

TEST_F(size, seals)
{
	const struct { uint32_t seal; uint64_t size; bool ok; } at[] = {
		{ COWMEM_SEAL_GROW, 100, false }, { COWMEM_SEAL_SHRINK, 100, true },
		{ COWMEM_SEAL_GROW, 300, true }, { COWMEM_SEAL_SHRINK, 300, false },
		{ COWMEM_SEAL_GROW | COWMEM_SEAL_SHRINK, PAGES, true },
		{ COWMEM_SEAL_WRITE, PAGES, false }, { COWMEM_SEAL_WRITE, 300, false },
		{ COWMEM_SEAL_FUTURE_WRITE, 100, false },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(at); i++) {
		int fd = cloned(self->fd);

		ASSERT_EQ(0, do_resize(fd, at[i].size * pgsz()));
		put_page(fd, 1, 6);
		ASSERT_EQ(0, do_seal(fd, at[i].seal));
		EXPECT_EQ(at[i].ok ? 0 : -1, do_restore(fd, self->snap, variant->flags))
			TH_LOG("case %zu", i);
		if (!at[i].ok)
			EXPECT_EQ(EPERM, errno);
		EXPECT_EQ((at[i].ok ? PAGES : at[i].size) * pgsz(), info(fd).size);
		EXPECT_TRUE(fd_is(fd, 1, 1, at[i].ok ? 1 : 6));
		EXPECT_TRUE(fd_is(fd, 2, 50, 1));
		close(fd);
	}
}

/* Same size: the flag changes nothing. */
TEST_F(size, stays)
{
	struct cowmem_restore arg;

	fill(self->mem, 5, 2, 0);
	arg = must_restore(self->fd, self->snap, variant->flags);
	EXPECT_EQ(5, arg.pages);
	EXPECT_EQ(0, do_restore(self->fd, self->fd, variant->flags));
}

/* ---- a range ---- */

FIXTURE(range) {
	int fd, snap;
	char *mem, *priv;
};

FIXTURE_SETUP(range)
{
	self->fd = sparse_region(PAGES, DATA, 1);
	self->mem = map_rw(self->fd, PAGES);
	self->priv = map_at(self->fd, PAGES, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0);
	self->snap = snapshot(self->fd);
	fill(self->mem, PAGES, 2, 0);
}

FIXTURE_TEARDOWN(range)
{
	EXPECT_EQ(PAGES * pgsz(), info(self->fd).size);
	EXPECT_TRUE(fd_is(self->snap, 0, DATA, 1));
	EXPECT_TRUE(holds(self->snap, DATA - info(self->snap).pages_shared,
			  info(self->snap).pages_shared));
}

static int restore_range(int fd, int from, uint64_t offset, uint64_t length,
			 struct cowmem_restore *arg)
{
	*arg = (struct cowmem_restore) {
		.fd = from, .flags = arg->flags, .offset = offset, .length = length,
	};
	return ioctl(fd, COWMEM_IOC_RESTORE, arg);
}

TEST_F(range, changes_alone)
{
	/* Whole leaves, parts of them, holes, single pages, all. */
	const struct { int at, n; } r[] = {
		{ 64, 64 }, { 10, 5 }, { 60, 10 }, { 3, 130 }, { 140, 30 }, { 160, 40 },
		{ 0, 1 }, { 199, 1 }, { 0, PAGES },
	};
	struct cowmem_restore arg = {};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(r); i++) {
		int fd = cloned(self->fd);
		char *mem = map_rw(fd, PAGES), *ro = map_ro(fd, PAGES);
		size_t at = r[i].at, end = at + r[i].n, data;

		fill(mem, PAGES, 3, 0);
		read_in(ro);
		arg.flags = i % 2 ? COWMEM_RESTORE_KEEP : 0;
		ASSERT_EQ(0, restore_range(fd, self->snap, at * pgsz(),
					   r[i].n * pgsz(), &arg));
		EXPECT_EQ(r[i].n, arg.pages) TH_LOG("range %zu", i);
		EXPECT_LT(0, arg.nodes);
		EXPECT_GE(20 * r[i].n, arg.nodes);
		data = end < DATA ? end : DATA;
		if (data < at)
			data = at;
		EXPECT_TRUE(is(mem, at, 3, 0));
		EXPECT_TRUE(is(mem + at * pgsz(), data - at, 1, at));
		EXPECT_TRUE(is(mem + data * pgsz(), end - data, 0, data));
		EXPECT_TRUE(is(mem + end * pgsz(), PAGES - end, 3, end));
		EXPECT_EQ(0, memcmp(mem, ro, PAGES * pgsz()));
		/* Once more: nothing differs. */
		ASSERT_EQ(0, restore_range(fd, self->snap, at * pgsz(),
					   r[i].n * pgsz(), &arg));
		EXPECT_EQ(0, arg.pages);
		/* They go separate ways afterwards. */
		fill(mem, PAGES, 4, 0);
		EXPECT_TRUE(fd_is(self->snap, 0, DATA, 1));
		EXPECT_TRUE(fd_is(fd, 0, PAGES, 4));
		unmap(mem, PAGES);
		unmap(ro, PAGES);
		close(fd);
	}
	EXPECT_TRUE(fd_is(self->fd, 0, PAGES, 2));
}

TEST_F(range, counts_what_differs)
{
	struct cowmem_restore arg = {};

	ASSERT_EQ(0, restore_range(self->fd, self->snap, 0, PAGES * pgsz(), &arg));
	EXPECT_EQ(PAGES, arg.pages);
	/* Before, in, and behind it. */
	pg_fill(self->mem + 9 * pgsz(), 5, 9);
	pg_fill(self->mem + 10 * pgsz(), 5, 10);
	pg_fill(self->mem + 79 * pgsz(), 5, 79);
	pg_fill(self->mem + 80 * pgsz(), 5, 80);
	ASSERT_EQ(0, restore_range(self->fd, self->snap, 10 * pgsz(), 70 * pgsz(), &arg));
	EXPECT_EQ(2, arg.pages);
	EXPECT_TRUE(is(self->mem + 9 * pgsz(), 1, 5, 9));
	EXPECT_TRUE(is(self->mem + 10 * pgsz(), 70, 1, 10));
	EXPECT_TRUE(is(self->mem + 80 * pgsz(), 1, 5, 80));
	EXPECT_EQ(0, arg.kept);
	/* What a private mapping has for itself stays. */
	pg_fill(self->priv + 20 * pgsz(), 9, 20);
	pg_fill(self->mem + 20 * pgsz(), 5, 20);
	pg_fill(self->mem + 21 * pgsz(), 5, 21);
	EXPECT_TRUE(is(self->priv + 21 * pgsz(), 1, 5, 21));
	ASSERT_EQ(0, restore_range(self->fd, self->snap, 20 * pgsz(), 2 * pgsz(), &arg));
	EXPECT_TRUE(is(self->priv + 20 * pgsz(), 1, 9, 20));
	EXPECT_TRUE(is(self->priv + 21 * pgsz(), 1, 1, 21));
}

/* The regions may differ in size, as long as both have the range. */
TEST_F(range, of_another_size)
{
	int small = do_clone(self->snap, 0, 0, 100 * pgsz());
	struct cowmem_restore arg = {};

	ASSERT_LE(0, small);
	ASSERT_EQ(0, restore_range(self->fd, small, 90 * pgsz(), 10 * pgsz(), &arg));
	EXPECT_EQ(10, arg.pages);
	EXPECT_TRUE(is(self->mem, 90, 2, 0));
	EXPECT_TRUE(is(self->mem + 90 * pgsz(), 10, 1, 90));
	EXPECT_TRUE(is(self->mem + 100 * pgsz(), 100, 2, 100));
	ASSERT_EQ(0, restore_range(small, self->fd, 0, 10 * pgsz(), &arg));
	EXPECT_TRUE(fd_is(small, 0, 10, 2));
	EXPECT_EQ(100 * pgsz(), info(small).size);
}

TEST_F(range, errors)
{
	const struct { uint64_t offset, length; uint32_t flags; } bad[] = {
		{ 1, pgsz(), 0 }, { 0, 1, 0 }, { pgsz() - 1, pgsz(), 0 },
		{ 0, pgsz() + 1, 0 }, { pgsz(), 0, 0 }, { PAGES * pgsz(), 0, 0 },
		{ 0, pgsz(), COWMEM_RESTORE_SIZE },
		{ 0, PAGES * pgsz(), COWMEM_RESTORE_SIZE },
		{ pgsz(), 0, COWMEM_RESTORE_SIZE },
		{ 0, (PAGES + 1) * pgsz(), 0 }, { PAGES * pgsz(), pgsz(), 0 },
		{ -pgsz(), pgsz(), 0 }, { -pgsz(), 2 * pgsz(), 0 },
		{ pgsz(), -pgsz(), 0 }, { 1ULL << 62, 1ULL << 62, 0 },
	};
	int small = do_clone(self->snap, 0, 0, 100 * pgsz());
	struct cowmem_restore arg;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		arg = (struct cowmem_restore) { .flags = bad[i].flags };
		EXPECT_EQ(-1, restore_range(self->fd, self->snap, bad[i].offset,
					    bad[i].length, &arg))
			TH_LOG("case %zu", i);
		EXPECT_EQ(EINVAL, errno) TH_LOG("case %zu", i);
	}
	arg.flags = 0;
	/* Past the end of either. */
	EXPECT_EQ(-1, restore_range(self->fd, small, 99 * pgsz(), 2 * pgsz(), &arg));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, restore_range(small, self->fd, 99 * pgsz(), 2 * pgsz(), &arg));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_TRUE(fd_is(small, 0, 100, 1));
	ASSERT_EQ(0, do_seal(small, COWMEM_SEAL_WRITE));
	EXPECT_EQ(-1, restore_range(small, self->fd, 0, pgsz(), &arg));
	EXPECT_EQ(EPERM, errno);
	EXPECT_EQ(-1, restore_range(small, small, 0, pgsz(), &arg));
	EXPECT_EQ(EPERM, errno);
	EXPECT_EQ(-1, restore_range(self->snap, self->fd, 0, pgsz(), &arg));
	EXPECT_EQ(EBADF, errno);
	EXPECT_TRUE(is(self->mem, PAGES, 2, 0));
	EXPECT_EQ(0, restore_range(self->fd, self->fd, 0, pgsz(), &arg));
	EXPECT_TRUE(is(self->mem, PAGES, 2, 0));
}

/* Programs that were built before there were ranges. */
TEST(struct_of_32_bytes)
{
	int fd = sparse_region(PAGES, DATA, 1), snap = snapshot(fd);
	struct {
		struct {
			int32_t fd;
			uint32_t flags;
			uint64_t pages, nodes, kept;
		} arg;
		/* Not a part of it. */
		uint64_t offset, length;
	} old = { .arg = { .fd = snap }, .offset = 1, .length = 1 };
	char *mem = map_rw(fd, PAGES);

	fill(mem, PAGES, 2, 0);
	ASSERT_EQ(32, sizeof(old.arg));
	ASSERT_EQ(0, ioctl(fd, _IOWR(COWMEM_IOC_TYPE, 5, old.arg), &old));
	EXPECT_EQ(PAGES, old.arg.pages);
	EXPECT_LT(0, old.arg.nodes);
	EXPECT_EQ(1, old.offset);
	EXPECT_EQ(1, old.length);
	EXPECT_TRUE(is_original(mem));
}

TEST_HARNESS_MAIN
