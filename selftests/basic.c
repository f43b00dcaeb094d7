// SPDX-License-Identifier: GPL-2.0-only
/*
 * Promise: a region is memory that behaves as a memfd does: mmap (shared and
 * private), mremap, mprotect, madvise, mlock, munmap, fork and core dumps; it
 * grows to fit a mapping, its holes read as zero and cost nothing, and access
 * past its end is SIGBUS.
 */
#include <elf.h>
#include <sys/resource.h>

#include "../kselftest_harness.h"
#include "common.h"

#define TIB (1ULL << 40)

TEST(open_gives_a_new_empty_region)
{
	int a = region(), b = region();
	struct cowmem_info i = info(a);

	EXPECT_EQ(0, i.size);
	EXPECT_EQ(0, i.seals);
	EXPECT_EQ(0, i.clones);
	EXPECT_TRUE(holds(a, 0, 0));

	fill(map_rw(a, 2), 2, 1, 0);
	EXPECT_EQ(2 * pgsz(), info(a).size);
	EXPECT_EQ(0, info(b).size);
	EXPECT_TRUE(is(map_rw(b, 2), 2, 0, 0));
	EXPECT_TRUE(fd_is(a, 0, 2, 1));
	EXPECT_TRUE(holds(a, 2, 0));
	EXPECT_TRUE(holds(b, 0, 0));
}

TEST(mmap_grows_to_fit_and_never_shrinks)
{
	int fd = region();

	map_rw(fd, 3);
	EXPECT_EQ(3 * pgsz(), info(fd).size);
	map_at(fd, 2, PROT_READ, MAP_SHARED, 5);
	EXPECT_EQ(7 * pgsz(), info(fd).size);
	map_rw(fd, 1);
	EXPECT_EQ(7 * pgsz(), info(fd).size);
	EXPECT_TRUE(holds(fd, 0, 0));
}

TEST(grows_within_the_limit_of_the_process)
{
	struct rlimit limit = { 4 * pgsz(), 4 * pgsz() };
	int fd = region_of(2, 1), status;

	status = in_child(
		signal(SIGXFSZ, SIG_IGN);
		must(!setrlimit(RLIMIT_FSIZE, &limit));
		must(mmap(NULL, 5 * pgsz(), PROT_READ, MAP_SHARED, fd, 0) ==
		     MAP_FAILED && errno == EFBIG);
		must(do_resize(fd, 5 * pgsz()) && errno == EFBIG);
		must(pwrite(fd, "x", 1, 4 * pgsz()) == -1 && errno == EFBIG);
		must(info(fd).size == 2 * pgsz());
		must(mmap(NULL, 4 * pgsz(), PROT_READ, MAP_SHARED, fd, 0) !=
		     MAP_FAILED);
	);
	EXPECT_EQ(0, status);
	EXPECT_EQ(4 * pgsz(), info(fd).size);
	EXPECT_TRUE(fd_is(fd, 0, 2, 1));
}

TEST(holes_read_zero_and_cost_nothing)
{
	int fd = region_of(1000, 0);
	char *mem = map_rw(fd, 1000);

	EXPECT_TRUE(is(mem, 1000, 0, 0));
	EXPECT_TRUE(holds(fd, 0, 0));
	/* The first write allocates that page alone. */
	pg_fill(mem + 500 * pgsz(), 1, 500);
	EXPECT_TRUE(holds(fd, 1, 0));
	EXPECT_TRUE(is(mem, 500, 0, 0));
	EXPECT_TRUE(is(mem + 501 * pgsz(), 499, 0, 0));
	EXPECT_TRUE(fd_is(fd, 500, 1, 1));
	/* A write of zeros to a hole that was read is a write, too. */
	mem[7 * pgsz()] = 0;
	EXPECT_TRUE(holds(fd, 2, 0));
}

TEST(one_tebibyte_stays_sparse)
{
	uint64_t at[] = { 0, 1, 511, 4096, TIB / 2 / pgsz(), TIB / pgsz() - 1 };
	int fd = region(), clone;
	char *mem, *other;
	size_t i;

	if (sizeof(mem) < 8)
		SKIP(return, "a 32-bit program cannot map that much");
	ASSERT_EQ(0, do_resize(fd, TIB));
	mem = map_rw(fd, TIB / pgsz());
	for (i = 0; i < ARRAY_SIZE(at); i++)
		pg_fill(mem + at[i] * pgsz(), 1, at[i]);
	EXPECT_TRUE(holds(fd, ARRAY_SIZE(at), 0));
	EXPECT_LT(0, info(fd).index_bytes);
	EXPECT_GT(1 << 20, info(fd).index_bytes);
	EXPECT_EQ(TIB, info(fd).size);

	clone = cloned(fd);
	EXPECT_TRUE(holds(clone, 0, ARRAY_SIZE(at)));
	other = map_ro(clone, TIB / pgsz());
	for (i = 0; i < ARRAY_SIZE(at); i++) {
		pg_fill(mem + at[i] * pgsz(), 2, at[i]);
		EXPECT_TRUE(is(other + at[i] * pgsz(), 1, 1, at[i]));
		EXPECT_TRUE(fd_is(fd, at[i], 1, 2));
	}
	EXPECT_TRUE(is(other + 5 * pgsz(), 100, 0, 5));
	EXPECT_TRUE(is(other + (TIB / 4), 100, 0, TIB / 4 / pgsz()));
}

TEST(access_past_the_end_is_sigbus)
{
	int fd = region_of(8, 1);
	char *mem = map_rw(fd, 8);

	EXPECT_EQ(0, touch(mem + 7 * pgsz(), true));
	ASSERT_EQ(0, do_resize(fd, 4 * pgsz()));
	EXPECT_EQ(0, touch(mem + 3 * pgsz(), true));
	/* Page 7 was mapped writable a moment ago, page 5 was not. */
	EXPECT_EQ(SIGBUS, touch(mem + 7 * pgsz(), false));
	EXPECT_EQ(SIGBUS, poke(mem + 7 * pgsz(), 1));
	EXPECT_EQ(SIGBUS, touch(mem + 5 * pgsz(), false));
	EXPECT_EQ(SIGBUS, poke(mem + 4 * pgsz(), 1));
	EXPECT_TRUE(holds(fd, 4, 0));
	ASSERT_EQ(0, do_resize(fd, 8 * pgsz()));
	EXPECT_TRUE(is(mem, 4, 1, 0));
	EXPECT_TRUE(is(mem + 4 * pgsz(), 4, 0, 4));
	EXPECT_EQ(0, poke(mem + 7 * pgsz(), 1));
}

TEST(private_mapping_past_the_end_is_sigbus)
{
	int fd = region_of(2, 1);
	char *mem = map_at(fd, 2, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0);

	EXPECT_EQ(0, touch(mem, false));
	mem[pgsz()] = 7;
	ASSERT_EQ(0, do_resize(fd, 0));
	EXPECT_EQ(SIGBUS, touch(mem, false));
	EXPECT_EQ(SIGBUS, poke(mem, 1));
	/* As on a memfd, a private copy goes with the page it was made of. */
	EXPECT_EQ(SIGBUS, touch(mem + pgsz(), false));
}

TEST(resize_keeps_what_fits)
{
	int fd = region_of(10, 1);

	ASSERT_EQ(0, do_resize(fd, 10 * pgsz()));
	EXPECT_TRUE(holds(fd, 10, 0));
	ASSERT_EQ(0, do_resize(fd, 20 * pgsz()));
	EXPECT_EQ(20 * pgsz(), info(fd).size);
	EXPECT_TRUE(holds(fd, 10, 0));
	EXPECT_TRUE(fd_is(fd, 0, 10, 1));
	EXPECT_TRUE(fd_is(fd, 10, 10, 0));
	ASSERT_EQ(0, do_resize(fd, 3 * pgsz()));
	EXPECT_TRUE(holds(fd, 3, 0));
	EXPECT_TRUE(fd_is(fd, 0, 3, 1));
	ASSERT_EQ(0, do_resize(fd, 0));
	EXPECT_TRUE(holds(fd, 0, 0));
	EXPECT_EQ(0, info(fd).index_bytes);
	ASSERT_EQ(0, do_resize(fd, 10 * pgsz()));
	EXPECT_TRUE(fd_is(fd, 0, 10, 0));
}

FIXTURE(tail) {
	int fd;
	int clone;
	char *mem;
};

FIXTURE_VARIANT(tail) {
	long keep;	/* bytes of page 1 that stay, or minus those that go */
	bool shared;
	bool mapped;
};

FIXTURE_VARIANT_ADD(tail, one_byte) { .keep = 1 };
FIXTURE_VARIANT_ADD(tail, odd) { .keep = 1234, .mapped = true };
FIXTURE_VARIANT_ADD(tail, all_but_one) { .keep = -1, .mapped = true };
FIXTURE_VARIANT_ADD(tail, shared) { .keep = 999, .shared = true };
FIXTURE_VARIANT_ADD(tail, shared_mapped) {
	.keep = 2048, .shared = true, .mapped = true,
};

FIXTURE_SETUP(tail)
{
	self->fd = region_of(3, 1);
	self->mem = map_rw(self->fd, 3);
	if (variant->mapped)
		EXPECT_EQ(0, touch(self->mem + pgsz(), true));
	self->clone = variant->shared ? cloned(self->fd) : -1;
	if (variant->mapped)
		EXPECT_EQ(0, touch(self->mem + pgsz(), false));
}

FIXTURE_TEARDOWN(tail)
{
}

/* Shrinking to the middle of a page zeroes the rest of it. */
TEST_F(tail, is_zeroed)
{
	char want[2 * pgsz()], got[2 * pgsz()];
	uint64_t size = (variant->keep < 0 ? 2 : 1) * pgsz() + variant->keep;

	fill(want, 2, 1, 0);
	memset(want + size, 0, sizeof(want) - size);

	ASSERT_EQ(0, do_resize(self->fd, size));
	EXPECT_EQ(size, info(self->fd).size);
	EXPECT_EQ((ssize_t)size, pread(self->fd, got, sizeof(got), 0));
	EXPECT_EQ(0, memcmp(want, got, size));
	EXPECT_EQ(0, memcmp(want, self->mem, sizeof(want)));
	EXPECT_EQ(SIGBUS, touch(self->mem + 2 * pgsz(), false));

	ASSERT_EQ(0, do_resize(self->fd, 3 * pgsz()));
	EXPECT_EQ((ssize_t)sizeof(got), pread(self->fd, got, sizeof(got), 0));
	EXPECT_EQ(0, memcmp(want, got, sizeof(want)));
	EXPECT_EQ(0, memcmp(want, self->mem, sizeof(want)));
	EXPECT_TRUE(fd_is(self->fd, 2, 1, 0));
	if (variant->shared)
		EXPECT_TRUE(fd_is(self->clone, 0, 3, 1));
}

/* Growing from the middle of a page shows zeros after the old end. */
TEST(growing_from_an_odd_size_adds_zeros)
{
	char buf[100], zero[pgsz() - sizeof(buf)], got[pgsz()];
	int fd = region();

	memset(buf, 'x', sizeof(buf));
	memset(zero, 0, sizeof(zero));
	ASSERT_EQ((ssize_t)sizeof(buf), pwrite(fd, buf, sizeof(buf), 0));
	EXPECT_EQ(sizeof(buf), info(fd).size);
	ASSERT_EQ(0, do_resize(fd, 2 * pgsz()));
	EXPECT_EQ((ssize_t)pgsz(), pread(fd, got, pgsz(), 0));
	EXPECT_EQ(0, memcmp(got, buf, sizeof(buf)));
	EXPECT_EQ(0, memcmp(got + sizeof(buf), zero, sizeof(zero)));
	EXPECT_TRUE(fd_is(fd, 1, 1, 0));
	EXPECT_TRUE(holds(fd, 1, 0));
}

TEST(shared_mappings_are_coherent)
{
	int fd = region_of(16, 0), dup_fd = dup(fd);
	char *a = map_rw(fd, 16), *b = map_rw(dup_fd, 16);
	char *c = map_at(fd, 4, PROT_READ | PROT_WRITE, MAP_SHARED, 8);
	int i;

	ASSERT_NE(a, b);
	/* Every mapping has seen the hole before the first write. */
	EXPECT_TRUE(is(a, 16, 0, 0) && is(b, 16, 0, 0) && is(c, 4, 0, 8));
	for (i = 1; i <= 3; i++) {
		fill(a, 16, i, 0);
		EXPECT_TRUE(is(b, 16, i, 0));
		EXPECT_TRUE(is(c, 4, i, 8));
		fill(c, 4, 10 + i, 8);
		EXPECT_TRUE(is(a + 8 * pgsz(), 4, 10 + i, 8));
		EXPECT_TRUE(is(b + 8 * pgsz(), 4, 10 + i, 8));
		EXPECT_TRUE(fd_is(fd, 8, 4, 10 + i));
		/* Stale entries of the state before a clone would show. */
		close(cloned(fd));
	}
	close(fd);
	fill(b, 16, 99, 0);
	EXPECT_TRUE(is(a, 16, 99, 0));
	EXPECT_TRUE(fd_is(dup_fd, 0, 16, 99));
}

TEST(processes_share_a_region)
{
	int *turn = shared_mem(sizeof(*turn));
	int fd = region_of(8, 1), clone;
	char *mem = map_rw(fd, 8);
	pid_t pid;

	EXPECT_TRUE(is(mem, 8, 1, 0));
	pid = spawn();
	if (!pid) {
		/* One mapping is inherited, one is the child's own. */
		char *own = map_rw(fd, 8);

		if (!is(own, 8, 1, 0) || !is(mem, 8, 1, 0))
			_exit(1);
		fill(mem, 4, 2, 0);
		put(turn, 1);
		await(turn, 2);
		if (!is(own, 4, 2, 0) || !is(mem, 4, 2, 0))
			_exit(2);
		if (!is(own + 4 * pgsz(), 4, 3, 4) ||
		    !is(mem + 4 * pgsz(), 4, 3, 4))
			_exit(3);
		fill(own, 8, 4, 0);
		_exit(0);
	}
	await(turn, 1);
	EXPECT_TRUE(is(mem, 4, 2, 0));
	EXPECT_TRUE(is(mem + 4 * pgsz(), 4, 1, 4));
	clone = cloned(fd);
	fill(mem + 4 * pgsz(), 4, 3, 4);
	put(turn, 2);
	EXPECT_EQ(0, reap(pid));
	EXPECT_TRUE(is(mem, 8, 4, 0));
	EXPECT_TRUE(fd_is(clone, 0, 4, 2));
	EXPECT_TRUE(fd_is(clone, 4, 4, 1));
}

TEST(private_mapping_keeps_its_writes)
{
	int fd = region_of(4, 1), clone;
	char *shared = map_rw(fd, 4);
	char *mem = map_at(fd, 4, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0);

	EXPECT_TRUE(is(mem, 4, 1, 0));
	pg_fill(mem, 2, 0);
	pg_fill(mem + pgsz(), 2, 1);
	EXPECT_TRUE(is(shared, 4, 1, 0));
	EXPECT_TRUE(fd_is(fd, 0, 4, 1));
	EXPECT_TRUE(holds(fd, 4, 0));

	/* Written private pages stay, the others follow the region. */
	fill(shared, 4, 3, 0);
	EXPECT_TRUE(is(mem, 2, 2, 0));
	EXPECT_TRUE(is(mem + 2 * pgsz(), 2, 3, 2));

	/* Also after the region's page was replaced under the mapping. */
	clone = cloned(fd);
	fill(shared, 4, 4, 0);
	EXPECT_TRUE(is(mem, 2, 2, 0));
	EXPECT_TRUE(is(mem + 2 * pgsz(), 2, 4, 2));
	EXPECT_TRUE(fd_is(clone, 0, 4, 3));

	ASSERT_EQ(0, madvise(mem, pgsz(), MADV_DONTNEED));
	EXPECT_TRUE(is(mem, 1, 4, 0));
	ASSERT_EQ(0, do_discard(fd, 0, 4 * pgsz()));
	EXPECT_TRUE(is(mem, 1, 0, 0));
	EXPECT_TRUE(is(mem + pgsz(), 1, 2, 1));
	EXPECT_TRUE(is(mem + 2 * pgsz(), 2, 0, 2));
}

TEST(private_mapping_of_holes)
{
	int fd = region_of(4, 0);
	char *mem = map_at(fd, 4, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0);

	pg_fill(mem, 1, 0);			/* never read before */
	EXPECT_TRUE(is(mem + pgsz(), 3, 0, 1));
	pg_fill(mem + pgsz(), 1, 1);		/* read before */
	EXPECT_TRUE(is(mem, 2, 1, 0));
	EXPECT_TRUE(is(mem + 2 * pgsz(), 2, 0, 2));
	EXPECT_TRUE(fd_is(fd, 0, 4, 0));
	EXPECT_TRUE(holds(fd, 0, 0));
}

TEST(mremap_moves_grows_and_shrinks)
{
	int fd = region_of(16, 1), clone;
	char *mem = map_rw(fd, 4), *room, *moved;

	EXPECT_TRUE(is(mem, 4, 1, 0));
	fill(mem, 4, 2, 0);
	/* Somewhere else, larger: the new part shows the region, too. */
	room = mmap(NULL, 32 * pgsz(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS,
		    -1, 0);
	ASSERT_NE(MAP_FAILED, room);
	moved = mremap(mem, 4 * pgsz(), 20 * pgsz(),
		       MREMAP_MAYMOVE | MREMAP_FIXED, room);
	ASSERT_EQ(room, moved);
	EXPECT_TRUE(is(moved, 4, 2, 0));
	EXPECT_TRUE(is(moved + 4 * pgsz(), 12, 1, 4));
	/* As on a memfd, mremap() does not grow the object. */
	EXPECT_EQ(16 * pgsz(), info(fd).size);
	EXPECT_EQ(SIGBUS, touch(moved + 16 * pgsz(), false));

	/* Entries that moved while writable must still be found by a clone. */
	clone = cloned(fd);
	fill(moved, 16, 3, 0);
	EXPECT_TRUE(fd_is(clone, 0, 4, 2));
	EXPECT_TRUE(fd_is(clone, 4, 12, 1));

	ASSERT_EQ(moved, mremap(moved, 20 * pgsz(), 8 * pgsz(), 0));
	EXPECT_EQ(SIGSEGV, touch(moved + 8 * pgsz(), false));
	EXPECT_TRUE(is(moved, 8, 3, 0));
	EXPECT_TRUE(fd_is(fd, 0, 16, 3));

	/* Old size 0 makes a second mapping of the same pages. */
	mem = mremap(moved, 0, 8 * pgsz(), MREMAP_MAYMOVE);
	ASSERT_NE(MAP_FAILED, mem);
	fill(mem, 8, 4, 0);
	EXPECT_TRUE(is(moved, 8, 4, 0));
}

/*
 * Trap: when mprotect() gives back PROT_WRITE, the core may make a dirty
 * read-only entry writable at once, without asking the driver.  If the region
 * was cloned in between, that write would land in the shared page.
 */
FIXTURE(mprotect) {
	int fd;
	char *mem;
};

FIXTURE_VARIANT(mprotect) {
	int prot;		/* what the mapping has when the clone is taken */
	bool before;		/* clone before that */
	bool read_between;	/* bring the entries back by reading */
	int flags;
};

FIXTURE_VARIANT_ADD(mprotect, read) { .prot = PROT_READ };
FIXTURE_VARIANT_ADD(mprotect, read_touched) {
	.prot = PROT_READ, .read_between = true,
};
FIXTURE_VARIANT_ADD(mprotect, none) { .prot = PROT_NONE };
FIXTURE_VARIANT_ADD(mprotect, read_cloned_first) {
	.prot = PROT_READ, .before = true,
};
FIXTURE_VARIANT_ADD(mprotect, read_cloned_first_touched) {
	.prot = PROT_READ, .before = true, .read_between = true,
};
FIXTURE_VARIANT_ADD(mprotect, none_cloned_first) {
	.prot = PROT_NONE, .before = true,
};
FIXTURE_VARIANT_ADD(mprotect, snapshot) {
	.prot = PROT_READ, .flags = COWMEM_CLONE_SNAPSHOT,
};

FIXTURE_SETUP(mprotect)
{
	self->fd = region_of(8, 1);
	self->mem = map_rw(self->fd, 8);
	fill(self->mem, 8, 2, 0);	/* dirty, writable entries */
}

FIXTURE_TEARDOWN(mprotect)
{
}

TEST_F(mprotect, never_writes_into_a_clone)
{
	size_t len = 8 * pgsz();
	int clone = -1, i;

	for (i = 2; i < 5; i++) {
		if (variant->before)
			clone = do_clone(self->fd, variant->flags, 0, 0);
		ASSERT_EQ(0, mprotect(self->mem, len, variant->prot));
		if (!variant->before)
			clone = do_clone(self->fd, variant->flags, 0, 0);
		ASSERT_LE(0, clone);
		if (variant->read_between)
			EXPECT_TRUE(is(self->mem, 8, i, 0));
		EXPECT_EQ(SIGSEGV, poke(self->mem, 1));
		ASSERT_EQ(0, mprotect(self->mem, len, PROT_READ | PROT_WRITE));
		fill(self->mem, 8, i + 1, 0);
		EXPECT_TRUE(fd_is(clone, 0, 8, i));
		EXPECT_TRUE(holds(clone, 8, 0));
		EXPECT_TRUE(fd_is(self->fd, 0, 8, i + 1));
		EXPECT_TRUE(holds(self->fd, 8, 0));
		close(clone);
	}
}

/* The same with the clone's own mapping, born read-only from shared pages. */
TEST(mprotect_of_a_clone_never_writes_into_its_origin)
{
	int fd = region_of(8, 1), clone = cloned(fd);
	size_t len = 8 * pgsz();
	char *mem = map_ro(clone, 8);

	EXPECT_TRUE(is(mem, 8, 1, 0));
	ASSERT_EQ(0, mprotect(mem, len, PROT_READ | PROT_WRITE));
	fill(mem, 4, 2, 0);
	EXPECT_TRUE(fd_is(fd, 0, 8, 1));
	ASSERT_EQ(0, mprotect(mem, len, PROT_READ));
	EXPECT_EQ(SIGSEGV, poke(mem, 1));
	EXPECT_TRUE(is(mem, 4, 2, 0));
	EXPECT_TRUE(is(mem + 4 * pgsz(), 4, 1, 4));
	ASSERT_EQ(0, mprotect(mem, len, PROT_READ | PROT_WRITE));
	fill(mem, 8, 3, 0);
	EXPECT_TRUE(fd_is(clone, 0, 8, 3));
	EXPECT_TRUE(fd_is(fd, 0, 8, 1));
}

/* Holes that were read and then made writable must not be written in place. */
TEST(mprotect_of_holes)
{
	int fd = region_of(8, 0), other = region_of(8, 0);
	char *mem = map_ro(fd, 8), *neighbour = map_ro(other, 8);

	EXPECT_TRUE(is(mem, 8, 0, 0) && is(neighbour, 8, 0, 0));
	ASSERT_EQ(0, mprotect(mem, 8 * pgsz(), PROT_READ | PROT_WRITE));
	fill(mem, 2, 1, 0);
	EXPECT_TRUE(is(mem + 2 * pgsz(), 6, 0, 2));
	EXPECT_TRUE(is(neighbour, 8, 0, 0));
	EXPECT_TRUE(holds(fd, 2, 0));
}

TEST(madvise_dontneed_keeps_shared_content)
{
	int fd = region_of(8, 1), clone;
	char *mem = map_rw(fd, 8);

	fill(mem, 8, 2, 0);
	ASSERT_EQ(0, madvise(mem, 8 * pgsz(), MADV_DONTNEED));
	EXPECT_TRUE(is(mem, 8, 2, 0));
	ASSERT_EQ(0, madvise(mem, 8 * pgsz(), MADV_DONTNEED));
	clone = cloned(fd);
	fill(mem, 8, 3, 0);
	EXPECT_TRUE(is(mem, 8, 3, 0));
	EXPECT_TRUE(fd_is(clone, 0, 8, 2));
}

TEST(madvise_populate)
{
	int fd = region_of(8, 0), clone;
	char *mem = map_rw(fd, 8);

	/* What can be written gets pages, as in any shared file; the rest does not. */
	ASSERT_EQ(0, madvise(map_ro(fd, 8), 8 * pgsz(), MADV_POPULATE_READ));
	EXPECT_TRUE(holds(fd, 0, 0));
	ASSERT_EQ(0, madvise(mem, 4 * pgsz(), MADV_POPULATE_READ));
	EXPECT_TRUE(holds(fd, 4, 0));
	EXPECT_TRUE(is(mem, 8, 0, 0));
	ASSERT_EQ(0, madvise(mem, 8 * pgsz(), MADV_POPULATE_WRITE));
	EXPECT_TRUE(holds(fd, 8, 0));
	EXPECT_TRUE(is(mem, 8, 0, 0));
	fill(mem, 8, 1, 0);

	clone = cloned(fd);
	ASSERT_EQ(0, madvise(mem, 8 * pgsz(), MADV_POPULATE_READ));
	EXPECT_TRUE(holds(fd, 0, 8));
	ASSERT_EQ(0, madvise(mem, 4 * pgsz(), MADV_POPULATE_WRITE));
	EXPECT_TRUE(holds(fd, 4, 4));
	EXPECT_TRUE(is(mem, 8, 1, 0));
	fill(mem, 8, 2, 0);
	EXPECT_TRUE(fd_is(clone, 0, 8, 1));

	ASSERT_EQ(0, do_resize(fd, 4 * pgsz()));
	EXPECT_EQ(-1, madvise(mem, 8 * pgsz(), MADV_POPULATE_WRITE));
	EXPECT_TRUE(is(mem, 4, 2, 0));
}

/*
 * MADV_REMOVE punches a hole through fallocate(), which a character device
 * cannot have; a regular file can.  Whatever it answers must be true.
 */
TEST(madvise_remove_works_or_changes_nothing)
{
	int fd = region_of(4, 1), clone = cloned(fd);
	char *mem = map_rw(fd, 4);
	int ret;

	ret = madvise(mem + pgsz(), 2 * pgsz(), MADV_REMOVE);
	TH_LOG("MADV_REMOVE: %s", ret ? strerror(errno) : "done");
	EXPECT_TRUE(is(mem, 1, 1, 0));
	EXPECT_TRUE(is(mem + pgsz(), 2, ret ? 1 : 0, 1));
	EXPECT_TRUE(is(mem + 3 * pgsz(), 1, 1, 3));
	EXPECT_TRUE(fd_is(clone, 0, 4, 1));
}

TEST(mlock_and_munlock)
{
	int fd = region_of(8, 1), clone;
	char *mem = map_rw(fd, 8), *more;

	EXPECT_EQ(0, mlock(mem, 8 * pgsz()));
	EXPECT_TRUE(is(mem, 8, 1, 0));
	fill(mem, 4, 2, 0);
	clone = cloned(fd);
	fill(mem, 8, 3, 0);
	EXPECT_TRUE(fd_is(clone, 0, 4, 2));
	EXPECT_TRUE(fd_is(clone, 4, 4, 1));
	EXPECT_EQ(0, munlock(mem, 8 * pgsz()));
	EXPECT_TRUE(is(mem, 8, 3, 0));

	EXPECT_EQ(0, mlockall(MCL_CURRENT | MCL_FUTURE));
	more = map_rw(fd, 16);
	EXPECT_TRUE(is(more, 8, 3, 0));
	EXPECT_TRUE(is(more + 8 * pgsz(), 8, 0, 8));
	EXPECT_TRUE(holds(fd, 16, 0));	/* there is memory for later stores */
	fill(more + 8 * pgsz(), 8, 4, 8);
	EXPECT_EQ(0, munlockall());
	EXPECT_TRUE(fd_is(fd, 8, 8, 4));
	EXPECT_TRUE(holds(fd, 16, 0));
}

TEST(munmap_in_the_middle)
{
	int fd = region_of(12, 1), clone;
	char *mem = map_rw(fd, 12);

	fill(mem, 12, 2, 0);
	unmap(mem + 4 * pgsz(), 4);
	EXPECT_EQ(0, touch(mem + 3 * pgsz(), false));
	EXPECT_EQ(SIGSEGV, touch(mem + 4 * pgsz(), false));
	EXPECT_EQ(SIGSEGV, touch(mem + 7 * pgsz(), false));
	EXPECT_EQ(0, touch(mem + 8 * pgsz(), false));
	clone = cloned(fd);
	fill(mem, 4, 3, 0);
	fill(mem + 8 * pgsz(), 4, 3, 8);
	EXPECT_TRUE(fd_is(clone, 0, 12, 2));
	EXPECT_TRUE(fd_is(fd, 4, 4, 2));
	EXPECT_TRUE(holds(fd, 8, 4));
	/* A hole in the mapping may be filled again, in another order. */
	ASSERT_EQ(mem + 4 * pgsz(),
		  mmap(mem + 4 * pgsz(), 4 * pgsz(), PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_FIXED, fd, 8 * pgsz()));
	EXPECT_TRUE(is(mem + 4 * pgsz(), 4, 3, 8));
	fill(mem + 4 * pgsz(), 4, 4, 8);
	EXPECT_TRUE(is(mem + 8 * pgsz(), 4, 4, 8));
}

TEST(mapping_outlives_the_descriptor)
{
	int fd = region_of(4, 1), clone = cloned(fd);
	char *mem = map_rw(fd, 4);

	close(fd);
	EXPECT_TRUE(is(mem, 4, 1, 0));
	fill(mem, 4, 2, 0);
	EXPECT_TRUE(is(mem, 4, 2, 0));
	EXPECT_TRUE(fd_is(clone, 0, 4, 1));
	unmap(mem, 4);
	EXPECT_TRUE(holds(clone, 4, 0));
}

TEST(descriptor_modes)
{
	int ro = open(COWMEM_DEV, O_RDONLY), wo = open(COWMEM_DEV, O_WRONLY);
	char c = 'x';

	ASSERT_LE(0, ro);
	ASSERT_LE(0, wo);
	EXPECT_EQ(MAP_FAILED, mmap(NULL, pgsz(), PROT_READ | PROT_WRITE,
				   MAP_SHARED, ro, 0));
	EXPECT_EQ(EACCES, errno);
	EXPECT_EQ(MAP_FAILED, mmap(NULL, pgsz(), PROT_READ, MAP_SHARED, wo, 0));
	EXPECT_EQ(EACCES, errno);
	EXPECT_EQ(-1, pwrite(ro, &c, 1, 0));
	EXPECT_EQ(EBADF, errno);
	EXPECT_EQ(1, pwrite(wo, &c, 1, 0));
	EXPECT_EQ(-1, pread(wo, &c, 1, 0));
	EXPECT_EQ(EBADF, errno);
	EXPECT_EQ(1, info(wo).size);
	EXPECT_EQ(0, info(ro).size);
}

TEST(many_mappings)
{
	enum { MAPS = 200, PAGES = 8 };
	int fd = region_of(PAGES, 1), clone, i;
	char *mem[MAPS];

	for (i = 0; i < MAPS; i++) {
		mem[i] = map_rw(fd, PAGES);
		EXPECT_EQ(0, touch(mem[i] + i % PAGES * pgsz(), i % 2));
	}
	clone = cloned(fd);
	fill(mem[MAPS - 1], PAGES, 2, 0);
	for (i = 0; i < MAPS; i++)
		EXPECT_TRUE(is(mem[i], PAGES, 2, 0));
	EXPECT_TRUE(fd_is(clone, 0, PAGES, 1));
	for (i = 0; i < MAPS; i += 2)
		unmap(mem[i], PAGES);
	ASSERT_EQ(0, do_discard(fd, 0, 4 * pgsz()));
	for (i = 1; i < MAPS; i += 2) {
		EXPECT_TRUE(is(mem[i], 4, 0, 0));
		EXPECT_TRUE(is(mem[i] + 4 * pgsz(), 4, 2, 4));
	}
	EXPECT_TRUE(holds(fd, 4, 0));
}

TEST(fork_inherits)
{
	int fd = region_of(6, 1), clone;
	char *shared = map_rw(fd, 6);
	char *priv = map_at(fd, 6, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0);

	fill(shared, 2, 2, 0);
	pg_fill(priv + 5 * pgsz(), 3, 5);
	EXPECT_EQ(0, in_child(
		if (!is(shared, 2, 2, 0) || !is(shared + 2 * pgsz(), 4, 1, 2))
			_exit(1);
		if (!is(priv + 5 * pgsz(), 1, 3, 5))
			_exit(2);
		fill(shared, 4, 4, 0);
		pg_fill(priv + 5 * pgsz(), 5, 5);
		pg_fill(priv + 4 * pgsz(), 5, 4);
		if (pwrite(fd, "z", 1, 6 * pgsz()) != 1)
			_exit(3);
	));
	EXPECT_TRUE(is(shared, 4, 4, 0));
	EXPECT_TRUE(is(shared + 4 * pgsz(), 2, 1, 4));
	EXPECT_TRUE(is(priv, 4, 4, 0));
	EXPECT_TRUE(is(priv + 4 * pgsz(), 1, 1, 4));
	EXPECT_TRUE(is(priv + 5 * pgsz(), 1, 3, 5));
	EXPECT_EQ(6 * pgsz() + 1, info(fd).size);

	/* A clone taken by a child is cut from what the parent shows, too. */
	clone = -1;
	EXPECT_EQ(0, in_child(
		clone = cloned(fd);
		fill(shared, 4, 6, 0);
		if (!fd_is(clone, 0, 4, 4))
			_exit(1);
	));
	EXPECT_TRUE(is(shared, 4, 6, 0));
}

#ifdef __LP64__
typedef Elf64_Ehdr ehdr_t;
typedef Elf64_Phdr phdr_t;
#else
typedef Elf32_Ehdr ehdr_t;
typedef Elf32_Phdr phdr_t;
#endif

/* Does the core file hold @n pages of tag @tag that were at @addr? */
static bool core_has(const char *path, const void *addr, size_t n, uint32_t tag,
		     uint64_t first)
{
	uintptr_t at = (uintptr_t)addr;
	struct stat st;
	bool ok = false;
	phdr_t *ph;
	char *core;
	int fd, i;

	fd = open(path, O_RDONLY);
	must(fd >= 0 && !fstat(fd, &st) && st.st_size);
	core = mmap(NULL, st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	must(core != MAP_FAILED);
	close(fd);
	ph = (phdr_t *)(core + ((ehdr_t *)core)->e_phoff);
	for (i = 0; i < ((ehdr_t *)core)->e_phnum; i++, ph++)
		if (ph->p_type == PT_LOAD && ph->p_vaddr <= at &&
		    ph->p_vaddr + ph->p_filesz >= at + n * pgsz())
			ok = is(core + ph->p_offset + (at - ph->p_vaddr), n,
				tag, first);
	munmap(core, st.st_size);
	return ok;
}

TEST(core_dump_has_the_content)
{
	const char *knob = "/proc/sys/kernel/core_pattern";
	struct rlimit lim = { RLIM_INFINITY, RLIM_INFINITY };
	int fd = region_of(8, 1), clone = cloned(fd), status;
	char *mem = map_rw(fd, 8), *other = map_ro(clone, 8);
	char *priv = map_at(fd, 8, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0);
	char old[256], path[64];
	pid_t pid;

	snprintf(path, sizeof(path), "/tmp/cowmem_core.%d", getpid());
	mkdir("/tmp", 01777);
	if (read_file(knob, old, sizeof(old)) < 0)
		SKIP(return, "no %s", knob);
	ASSERT_EQ(0, write_file(knob, path));
	write_file("/proc/sys/kernel/core_uses_pid", "0");

	fill(mem, 3, 2, 0);
	pg_fill(priv + 7 * pgsz(), 3, 7);
	pid = spawn();
	if (!pid) {
		setrlimit(RLIMIT_CORE, &lim);
		write_file("/proc/self/coredump_filter", "0x7f");
		signal(SIGABRT, SIG_DFL);
		abort();
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_EQ(0, write_file(knob, old));
	EXPECT_EQ(SIGABRT, WTERMSIG(status));
	if (!WCOREDUMP(status)) {
		unlink(path);
		SKIP(return, "this kernel writes no core files");
	}
	EXPECT_TRUE(core_has(path, mem, 3, 2, 0));
	EXPECT_TRUE(core_has(path, mem + 3 * pgsz(), 5, 1, 3));
	EXPECT_TRUE(core_has(path, other, 8, 1, 0));
	EXPECT_TRUE(core_has(path, priv, 3, 2, 0));
	EXPECT_TRUE(core_has(path, priv + 7 * pgsz(), 1, 3, 7));
	unlink(path);
	/* Reading for the dump has split nothing. */
	EXPECT_TRUE(holds(fd, 3, 5));
}

/* The value of the line "cowmem-KEY:" of fdinfo; ~0 if there is none. */
static uint64_t fdinfo(int fd, const char *key)
{
	char path[64], buf[4096], line[64], *at;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	must(read_file(path, buf, sizeof(buf)) > 0);
	snprintf(line, sizeof(line), "\ncowmem-%s:", key);
	at = strstr(buf, line);
	return at ? strtoull(at + strlen(line), NULL, 0) : ~0ULL;
}

TEST(fdinfo_shows_what_info_shows)
{
	int fd = region_of(8, 1), clone = cloned(fd), i;
	int fds[] = { fd, clone, snapshot(clone) };
	struct cowmem_info in;

	unmap(memset(map_rw(fd, 3), 7, 3 * pgsz()), 3);
	ASSERT_EQ(0, do_resize(clone, 9 * pgsz() + 5));
	ASSERT_EQ(0, do_seal(clone, COWMEM_SEAL_GROW));
	for (i = 0; i < 3; i++) {
		in = info(fds[i]);
		EXPECT_EQ(in.size, fdinfo(fds[i], "size"));
		EXPECT_EQ(in.seals, fdinfo(fds[i], "seals"));
		EXPECT_EQ(in.pages_populated,
			  fdinfo(fds[i], "pages-populated"));
		EXPECT_EQ(in.pages_exclusive,
			  fdinfo(fds[i], "pages-exclusive"));
		EXPECT_EQ(in.pages_shared, fdinfo(fds[i], "pages-shared"));
		EXPECT_EQ(in.index_bytes, fdinfo(fds[i], "index-bytes"));
		EXPECT_EQ(in.clones, fdinfo(fds[i], "clones"));
		EXPECT_EQ(in.pages_huge, fdinfo(fds[i], "pages-huge"));
	}
	EXPECT_EQ(1, info(fd).clones);
	EXPECT_EQ(1, info(clone).clones);
}

TEST(discard_leaves_a_hole)
{
	char want[4 * pgsz()], got[4 * pgsz()];
	int fd = region_of(4, 1), clone = cloned(fd);
	char *mem = map_rw(fd, 4);

	/* From the middle of page 0 to the middle of page 3. */
	fill(want, 4, 1, 0);
	memset(want + 100, 0, 3 * pgsz());
	EXPECT_TRUE(is(mem, 4, 1, 0));
	ASSERT_EQ(0, do_discard(fd, 100, 3 * pgsz()));
	EXPECT_EQ(0, memcmp(mem, want, sizeof(want)));
	EXPECT_EQ((ssize_t)sizeof(got), pread(fd, got, sizeof(got), 0));
	EXPECT_EQ(0, memcmp(got, want, sizeof(want)));
	EXPECT_TRUE(holds(fd, 2, 0));
	EXPECT_TRUE(fd_is(clone, 0, 4, 1));
	EXPECT_EQ(4 * pgsz(), info(fd).size);

	/* Within one page; then all of it; then what is a hole already. */
	memset(want + 50, 0, 7);
	ASSERT_EQ(0, do_discard(fd, 50, 7));
	EXPECT_EQ(0, memcmp(mem, want, sizeof(want)));
	ASSERT_EQ(0, do_discard(fd, 0, 4 * pgsz()));
	EXPECT_TRUE(is(mem, 4, 0, 0));
	EXPECT_TRUE(holds(fd, 0, 0));
	ASSERT_EQ(0, do_discard(fd, 10, 20));
	EXPECT_TRUE(holds(fd, 0, 0));
	fill(mem, 4, 2, 0);
	EXPECT_TRUE(fd_is(fd, 0, 4, 2));
	EXPECT_TRUE(fd_is(clone, 0, 4, 1));
}

TEST_HARNESS_MAIN
