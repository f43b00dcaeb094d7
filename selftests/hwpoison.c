// SPDX-License-Identifier: GPL-2.0-only
/*
 * Promise: a page whose memory broke is SIGBUS with BUS_MCEERR_AR, or EIO, to anyone
 * who maps or reads it from then on, through whatever region holds it; nobody reads or
 * copies it, nobody else notices; and what replaces it makes the region whole again.
 * The same goes for the page that all holes read as.
 *
 * Needs CONFIG_MEMORY_FAILURE, to say that a page broke.
 */
#include "../kselftest_harness.h"
#include "common.h"
#include "areas.h"
#include "frames.h"
#include "poison.h"

#ifndef MADV_SOFT_OFFLINE
#define MADV_SOFT_OFFLINE	101
#endif

/* The page that breaks, one of another leaf's, and how many there are. */
enum { BAD = 3, FAR = 70, PAGES = 80 };

/* Before any test, so that it is skipped once. */
static void __attribute__((constructor)) need_memory_failure(void)
{
	if (can_poison())
		return;
	ksft_print_header();
	ksft_exit_skip("%s\n", NO_POISON);
}

#define HARD_OFFLINE "/sys/devices/system/memory/hard_offline_page"

/* The same by its address, as the machine reports it: it takes no reference to the page. */
static void poison_address(char *mem)
{
	uint64_t frame = frame_of(mem);
	char address[32];

	must(frame);
	snprintf(address, sizeof(address), "%#llx", (unsigned long long)(frame * pgsz()));
	must(!write_file(HARD_OFFLINE, address) || errno == EBUSY || errno == EHWPOISON);
}

static sigjmp_buf bus_env;
static siginfo_t bus_info;

static void bus_handler(int sig, siginfo_t *info, void *context)
{
	bus_info = *info;
	siglongjmp(bus_env, 1);
}

/* Access a byte; return the si_code of the SIGBUS that came, which names it, or 0. */
static int bus_code(volatile char *p, bool write)
{
	struct sigaction act = { .sa_sigaction = bus_handler, .sa_flags = SA_SIGINFO }, old;
	int code = 0;

	must(!sigaction(SIGBUS, &act, &old));
	if (sigsetjmp(bus_env, 1)) {
		code = bus_info.si_code;
		if (bus_info.si_addr != p)
			code = -1;
	} else if (write) {
		*p = 1;
	} else {
		(void)*p;
	}
	must(!sigaction(SIGBUS, &old, NULL));
	return code;
}

/* Is page BAD broken for whoever looks for it now, and all else as it was? */
static bool only_bad_is_bad(int fd, uint32_t tag)
{
	char *mem = map_ro(fd, PAGES), buf[pgsz()];
	bool ok;

	/* Its neighbour first, which maps what is around. */
	ok = is(mem + (BAD + 1) * pgsz(), 1, tag, BAD + 1);
	ok = bus_code(mem + BAD * pgsz() + 5, false) == BUS_MCEERR_AR && ok;
	ok = is(mem, BAD, tag, 0) && ok;
	ok = is(mem + (BAD + 1) * pgsz(), PAGES - BAD - 1, tag, BAD + 1) && ok;
	unmap(mem, PAGES);
	ok = pread(fd, buf, 1, BAD * pgsz() + 7) == -1 && errno == EIO && ok;
	/* What comes before it is read. */
	ok = pread(fd, buf, pgsz(), BAD * pgsz() - 100) == 100 && ok;
	if (!ok)
		fprintf(stderr, "# not just page %d of tag %u is broken\n", BAD, tag);
	return ok;
}

FIXTURE(page) {
	int fd;
	char *mem;
};

FIXTURE_VARIANT(page) {
	void (*poison)(char *mem);
};

FIXTURE_VARIANT_ADD(page, advised) { .poison = poison };
FIXTURE_VARIANT_ADD(page, reported) { .poison = poison_address };

FIXTURE_SETUP(page)
{
	if (variant->poison == poison_address && access(HARD_OFFLINE, F_OK))
		SKIP(return, "no " HARD_OFFLINE);
	self->fd = region_of(PAGES, 1);
	self->mem = map_rw(self->fd, PAGES);
	must(is(self->mem, PAGES, 1, 0));
}

FIXTURE_TEARDOWN(page)
{
}

TEST_F(page, can_be_neither_read_nor_written)
{
	char *mem;

	variant->poison(self->mem + BAD * pgsz());
	EXPECT_TRUE(only_bad_is_bad(self->fd, 1));
	mem = map_rw(self->fd, PAGES);
	EXPECT_EQ(BUS_MCEERR_AR, bus_code(mem + BAD * pgsz(), true));
	EXPECT_EQ(-1, pwrite(self->fd, "x", 1, BAD * pgsz()));
	EXPECT_EQ(EIO, errno);
	/* Nor through an old mapping, once the page is gone from it. */
	ASSERT_EQ(0, madvise(self->mem, PAGES * pgsz(), MADV_DONTNEED));
	EXPECT_EQ(BUS_MCEERR_AR, bus_code(self->mem + BAD * pgsz(), false));
	EXPECT_EQ(BUS_MCEERR_AR, bus_code(self->mem + BAD * pgsz(), true));
	EXPECT_TRUE(only_bad_is_bad(self->fd, 1));
}

TEST_F(page, is_not_copied_into_private_mappings)
{
	char *mem = map_at(self->fd, PAGES, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0);

	variant->poison(self->mem + BAD * pgsz());
	EXPECT_EQ(BUS_MCEERR_AR, bus_code(mem + BAD * pgsz(), true));
	EXPECT_EQ(0, bus_code(mem + (BAD + 1) * pgsz(), true));
}

/* One that only the region has: the clone gets it as it is. */
TEST_F(page, does_not_stop_clones)
{
	int clone;

	variant->poison(self->mem + BAD * pgsz());
	clone = do_clone(self->fd, 0, 0, 0);
	ASSERT_LE(0, clone);
	EXPECT_TRUE(only_bad_is_bad(clone, 1));
	EXPECT_TRUE(only_bad_is_bad(self->fd, 1));
	/* Both sides can be written. */
	self->mem[FAR * pgsz()] = 1;
	EXPECT_EQ(1, pwrite(clone, "x", 1, FAR * pgsz()));
	clone = do_clone(self->fd, COWMEM_CLONE_SNAPSHOT, 0, 0);
	ASSERT_LE(0, clone);
	EXPECT_EQ(BUS_MCEERR_AR, bus_code(map_ro(clone, PAGES) + BAD * pgsz(), false));
}

TEST_F(page, is_bad_for_all_that_share_it)
{
	int clone = cloned(self->fd), snap = snapshot(self->fd);
	char *mem = map_rw(clone, PAGES);

	must(is(self->mem, PAGES, 1, 0));
	variant->poison(self->mem + BAD * pgsz());
	EXPECT_TRUE(only_bad_is_bad(clone, 1));
	EXPECT_TRUE(only_bad_is_bad(snap, 1));
	EXPECT_EQ(BUS_MCEERR_AR, bus_code(mem + BAD * pgsz(), true));
	/* It is mapped read-only there. */
	EXPECT_EQ(BUS_MCEERR_AR, bus_code(self->mem + BAD * pgsz(), true));
	EXPECT_EQ(0, bus_code(self->mem + FAR * pgsz(), true));
	EXPECT_TRUE(only_bad_is_bad(clone, 1));
	EXPECT_TRUE(only_bad_is_bad(snap, 1));
}

TEST_F(page, is_no_trouble_to_holders_of_copies)
{
	int clone = cloned(self->fd);

	pg_fill(self->mem + BAD * pgsz(), 2, BAD);
	variant->poison(self->mem + BAD * pgsz());
	EXPECT_TRUE(fd_is(clone, 0, PAGES, 1));
	close(clone);
}

TEST_F(page, can_be_discarded)
{
	int clone;

	variant->poison(self->mem + BAD * pgsz());
	clone = cloned(self->fd);
	/* A part of it cannot be kept. */
	EXPECT_EQ(-1, do_discard(self->fd, BAD * pgsz(), 100));
	EXPECT_EQ(EIO, errno);
	ASSERT_EQ(0, do_discard(self->fd, BAD * pgsz(), pgsz()));
	EXPECT_TRUE(fd_is_as(self->fd, BAD, 0, 0));
	pg_fill(self->mem + BAD * pgsz(), 1, BAD);
	EXPECT_TRUE(fd_is(self->fd, 0, PAGES, 1));
	EXPECT_TRUE(only_bad_is_bad(clone, 1));
}

FIXTURE(restore) {
	int fd, snap;
	char *mem;
};

FIXTURE_VARIANT(restore) {
	uint32_t flags;
	void (*poison)(char *mem);
};

FIXTURE_VARIANT_ADD(restore, plain) { .poison = poison };
FIXTURE_VARIANT_ADD(restore, keep) {
	.flags = COWMEM_RESTORE_KEEP, .poison = poison,
};
FIXTURE_VARIANT_ADD(restore, keep_reported) {
	.flags = COWMEM_RESTORE_KEEP, .poison = poison_address,
};

FIXTURE_SETUP(restore)
{
	if (variant->poison == poison_address && access(HARD_OFFLINE, F_OK))
		SKIP(return, "no " HARD_OFFLINE);
	self->fd = region_of(PAGES, 1);
	self->mem = map_rw(self->fd, PAGES);
	self->snap = snapshot(self->fd);
	/* The second round finds pages to keep. */
	fill(self->mem, PAGES, 2, 0);
	ASSERT_EQ(0, do_restore(self->fd, self->snap, variant->flags));
	fill(self->mem, PAGES, 3, 0);
}

FIXTURE_TEARDOWN(restore)
{
}

TEST_F(restore, makes_the_region_whole)
{
	variant->poison(self->mem + BAD * pgsz());
	ASSERT_EQ(0, do_restore(self->fd, self->snap, variant->flags));
	EXPECT_TRUE(fd_is(self->fd, 0, PAGES, 1));
	fill(self->mem, PAGES, 4, 0);
	EXPECT_TRUE(fd_is(self->fd, 0, PAGES, 4));
	EXPECT_TRUE(fd_is(self->snap, 0, PAGES, 1));
}

TEST_F(restore, brings_along_what_is_broken_in_the_source)
{
	char *snap = map_ro(self->snap, PAGES);

	must(is(snap, PAGES, 1, 0));
	variant->poison(snap + BAD * pgsz());
	ASSERT_EQ(0, do_restore(self->fd, self->snap, variant->flags));
	EXPECT_TRUE(only_bad_is_bad(self->fd, 1));
	EXPECT_TRUE(only_bad_is_bad(self->snap, 1));
	ASSERT_EQ(0, do_discard(self->fd, BAD * pgsz(), pgsz()));
	EXPECT_TRUE(fd_is_as(self->fd, BAD, 0, 0));
}

TEST_F(page, is_not_merged)
{
	int fds[2] = { self->fd, region_of(PAGES, 1) };
	struct cowmem_merge m = { .flags = 0 };

	variant->poison(self->mem + BAD * pgsz());
	ASSERT_EQ(0, do_merge(&m, fds, 2));
	EXPECT_EQ(PAGES - 1, m.merged);
	EXPECT_TRUE(fd_is(fds[1], 0, PAGES, 1));
	EXPECT_TRUE(only_bad_is_bad(self->fd, 1));
}

TEST_F(page, of_zeroes_is_not_merged)
{
	struct cowmem_merge m = { .flags = 0 };

	memset(self->mem, 0, PAGES * pgsz());
	variant->poison(self->mem + BAD * pgsz());
	ASSERT_EQ(0, do_merge(&m, &self->fd, 1));
	EXPECT_EQ(PAGES - 1, m.zeroed);
	EXPECT_TRUE(only_bad_is_bad(self->fd, 0));
}

TEST_F(page, differs_from_an_equal_one)
{
	struct cowmem_extent e[4];
	struct cowmem_diff d = {
		.fd = region_of(PAGES, 1), .flags = COWMEM_DIFF_CONTENT,
		.extents = (uintptr_t)e, .count = 4,
	};

	variant->poison(self->mem + BAD * pgsz());
	ASSERT_EQ(0, ioctl(self->fd, COWMEM_IOC_DIFF, &d));
	ASSERT_EQ(1, d.count);
	EXPECT_EQ(BAD * pgsz(), e[0].offset);
	EXPECT_EQ(pgsz(), e[0].length);
}

/* A buffer of somebody's I/O broke: the clone shares it, as nobody can copy it. */
TEST_F(page, in_use_does_not_stop_clones)
{
	struct iovec iov = { self->mem + BAD * pgsz(), pgsz() };
	int fds[2], clone;

	ASSERT_EQ(0, pipe(fds));
	ASSERT_EQ((ssize_t)pgsz(), vmsplice(fds[1], &iov, 1, 0));
	variant->poison(self->mem + BAD * pgsz());
	clone = do_clone(self->fd, 0, 0, 0);
	ASSERT_LE(0, clone);
	EXPECT_TRUE(only_bad_is_bad(clone, 1));
	EXPECT_TRUE(only_bad_is_bad(self->fd, 1));
}

/* Do holes read as zeroes, in all ways and in all regions? */
static bool holes_are_well(void)
{
	int fd = region();
	char *mem, *priv;
	bool ok;

	must(!do_resize(fd, PAGES * pgsz()));
	mem = map_rw(fd, PAGES);
	priv = map_at(fd, PAGES, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0);
	ok = fd_is(fd, 0, PAGES, 0);
	ok = !bus_code(mem, true) && !bus_code(priv + pgsz(), true) && ok;
	ok = pwrite(fd, "x", 1, FAR * pgsz()) == 1 && ok;
	unmap(mem, PAGES);
	unmap(priv, PAGES);
	close(fd);
	return ok;
}

TEST(nobody_else_notices_that_a_hole_broke)
{
	int fd = region(), old, i;
	char *mem, *seen;

	ASSERT_EQ(0, do_resize(fd, PAGES * pgsz()));
	old = cloned(fd);
	for (i = 0; i < 3; i++) {
		mem = map_rw(fd, PAGES);
		seen = map_rw(old, PAGES);
		/* Readers of all holes have the same page. */
		must(!mem[BAD * pgsz()] && !seen[FAR * pgsz()]);
		poison(mem + BAD * pgsz());
		EXPECT_TRUE(holes_are_well());
		EXPECT_TRUE(fd_is(old, 0, PAGES, 0));
		EXPECT_EQ(0, bus_code(seen + FAR * pgsz(), true));
		EXPECT_EQ(0, do_discard(old, 0, PAGES * pgsz()));
		/* The region itself goes on as soon as its PTE is gone. */
		EXPECT_EQ(0, madvise(mem, PAGES * pgsz(), MADV_DONTNEED));
		EXPECT_TRUE(is(mem, PAGES, 0, 0));
		EXPECT_EQ(0, bus_code(mem + BAD * pgsz(), true));
		EXPECT_EQ(0, do_discard(fd, 0, PAGES * pgsz()));
		unmap(mem, PAGES);
		unmap(seen, PAGES);
	}
	EXPECT_EQ(PAGES * pgsz(), info(fd).size);
}

/* Pages cannot be moved: they stay where they are. */
TEST(soft_offline_changes_nothing)
{
	int fd = region_of(PAGES, 1), clone = cloned(fd);
	char *mem = map_rw(fd, PAGES + 1);

	must(is(mem, PAGES, 1, 0) && !mem[PAGES * pgsz()]);
	mem[BAD * pgsz()]++;
	mem[BAD * pgsz()]--;
	/* A page of its own, a shared one, a hole. */
	EXPECT_EQ(-1, madvise(mem + BAD * pgsz(), pgsz(), MADV_SOFT_OFFLINE));
	EXPECT_EQ(-1, madvise(mem + FAR * pgsz(), pgsz(), MADV_SOFT_OFFLINE));
	EXPECT_EQ(-1, madvise(mem + PAGES * pgsz(), pgsz(), MADV_SOFT_OFFLINE));
	EXPECT_TRUE(fd_is(fd, 0, PAGES, 1));
	EXPECT_TRUE(fd_is(clone, 0, PAGES, 1));
	EXPECT_TRUE(holes_are_well());
	fill(mem, PAGES, 2, 0);
	EXPECT_TRUE(fd_is(fd, 0, PAGES, 2));
}

/* ---- a page of a folio ---- */

/* A folio has so many; the one that breaks is none that begins anything. */
enum { BROKEN = 200 };

/* Whoever maps a page of a folio may be told by a signal as well. */
static void poison_of_folio(char *mem, void (*poison)(char *mem))
{
	struct sigaction act = { .sa_sigaction = bus_handler, .sa_flags = SA_SIGINFO }, old;

	must(!sigaction(SIGBUS, &act, &old));
	if (!sigsetjmp(bus_env, 1))
		poison(mem);
	must(!sigaction(SIGBUS, &old, NULL));
}

/* A region of @areas folios, of tag 1. */
static int folios(int areas)
{
	int fd = region();
	char *mem = map_rw(fd, areas * AREA);

	must(!madvise(mem, areas * AREA * pgsz(), MADV_HUGEPAGE));
	fill(mem, areas * AREA, 1, 0);
	unmap(mem, areas * AREA);
	must(info(fd).pages_huge == areas * AREA);
	return fd;
}

/* Is page BROKEN the only broken one, to readers and, if @write, to writers? */
static bool only_one_is_broken(int fd, uint32_t tag, bool write)
{
	char *mem = map_at(fd, AREA, PROT_READ | (write ? PROT_WRITE : 0), MAP_SHARED, 0);
	char buf[pgsz()], *bad = mem + BROKEN * pgsz();
	bool ok;

	/* Elsewhere first: what is mapped then is not to show it. */
	ok = !bus_code(mem + 10 * pgsz(), write);
	if (write)
		pg_fill(mem + 10 * pgsz(), tag, 10);
	ok = bus_code(bad + 5, false) == BUS_MCEERR_AR && ok;
	ok = (!write || bus_code(bad, true) == BUS_MCEERR_AR) && ok;
	if (!ok)
		fprintf(stderr, "# page %d can be %s\n", BROKEN, write ? "written" : "read");
	ok = is(mem, BROKEN, tag, 0) && ok;
	ok = is(mem + (BROKEN + 1) * pgsz(), AREA - BROKEN - 1, tag, BROKEN + 1) && ok;
	unmap(mem, AREA);
	ok = pread(fd, buf, 1, BROKEN * pgsz() + 7) == -1 && errno == EIO && ok;
	ok = pread(fd, buf, pgsz(), BROKEN * pgsz() - 100) == 100 && ok;
	if (!ok)
		fprintf(stderr, "# not just page %d of tag %u is broken\n", BROKEN, tag);
	return ok;
}

FIXTURE(folio) {
	int fd, snap;
	char *mem;
	uint64_t frame;
};

FIXTURE_VARIANT(folio) {
	void (*poison)(char *mem);
	bool shared;		/* with a snapshot, and so it is mapped read-only */
};

FIXTURE_VARIANT_ADD(folio, advised) { .poison = poison };
FIXTURE_VARIANT_ADD(folio, advised_shared) { .poison = poison, .shared = true };
FIXTURE_VARIANT_ADD(folio, reported) { .poison = poison_address };
FIXTURE_VARIANT_ADD(folio, reported_shared) { .poison = poison_address, .shared = true };

FIXTURE_SETUP(folio)
{
	const char *why = no_huge_pages();

	if (why)
		SKIP(return, "%s", why);
	if (variant->poison == poison_address && access(HARD_OFFLINE, F_OK))
		SKIP(return, "no " HARD_OFFLINE);
	self->fd = folios(1);
	self->snap = variant->shared ? snapshot(self->fd) : -1;
	self->mem = map_rw(self->fd, AREA);
	must(is(self->mem, AREA, 1, 0));
	self->frame = frame_of(self->mem + BROKEN * pgsz());
	/* Else it would not be one of a folio. */
	ASSERT_EQ(self->frame, frame_of(self->mem) + BROKEN);
	poison_of_folio(self->mem + BROKEN * pgsz(), variant->poison);
	ASSERT_TRUE(frame_flags(self->frame) & FRAME_BROKEN);
}

FIXTURE_TEARDOWN(folio)
{
}

TEST_F(folio, only_one_page_of_it_is_broken)
{
	EXPECT_TRUE(only_one_is_broken(self->fd, 1, false));
	EXPECT_TRUE(only_one_is_broken(self->fd, 1, true));
	/* Through an old mapping, once the page is gone from it */
	ASSERT_EQ(0, madvise(self->mem, AREA * pgsz(), MADV_DONTNEED));
	EXPECT_EQ(0, bus_code(self->mem + (BROKEN - 1) * pgsz(), false));
	EXPECT_EQ(BUS_MCEERR_AR, bus_code(self->mem + BROKEN * pgsz(), false));
	EXPECT_EQ(BUS_MCEERR_AR, bus_code(self->mem + BROKEN * pgsz(), true));
	EXPECT_TRUE(only_one_is_broken(self->fd, 1, true));
}

TEST_F(folio, clones_have_it_as_it_is)
{
	int clone = do_clone(self->fd, 0, 0, 0), snap;
	char buf[pgsz()];

	ASSERT_LE(0, clone);
	EXPECT_TRUE(only_one_is_broken(clone, 1, false));
	EXPECT_TRUE(only_one_is_broken(clone, 1, true));
	EXPECT_TRUE(only_one_is_broken(self->fd, 1, true));
	snap = do_clone(clone, COWMEM_CLONE_SNAPSHOT, 0, 0);
	ASSERT_LE(0, snap);
	close(clone);
	EXPECT_TRUE(only_one_is_broken(snap, 1, false));
	/* What replaces it makes the region whole. */
	ASSERT_EQ(0, do_discard(self->fd, BROKEN * pgsz(), pgsz()));
	EXPECT_TRUE(fd_is_as(self->fd, BROKEN, 0, 0));
	pg_fill(buf, 1, BROKEN);
	ASSERT_EQ((ssize_t)pgsz(), pwrite(self->fd, buf, pgsz(), BROKEN * pgsz()));
	EXPECT_TRUE(fd_is(self->fd, 0, AREA, 1));
	EXPECT_TRUE(only_one_is_broken(snap, 1, false));
}

/* A stream would copy all of the area before: it stops where the page is. */
TEST_F(folio, is_copied_but_for_the_page)
{
	int clone = do_clone(self->fd, 0, 0, 0), i;
	char *mem;

	ASSERT_LE(0, clone);
	mem = map_rw(clone, AREA);
	must(!madvise(mem, AREA * pgsz(), MADV_HUGEPAGE));
	for (i = 0; i < AREA; i++)
		if (i != BROKEN)
			pg_fill(mem + i * pgsz(), 2, i);
	EXPECT_TRUE(only_one_is_broken(clone, 2, true));
	EXPECT_TRUE(only_one_is_broken(self->fd, 1, true));
}

/* Does the frame turn up again if one asks for much memory, an area at a time or less? */
static bool somebody_gets(uint64_t frame)
{
	enum { TRIES = 16 };
	int fd = region(), i;
	char *mem = map_rw(fd, TRIES * AREA);
	bool got = false;

	must(!madvise(mem, TRIES * AREA * pgsz(), MADV_HUGEPAGE));
	for (i = 0; i < TRIES && !got; i++) {
		char *area = mem + i * AREA * pgsz();

		must(!touch(area, true));
		got = frame_of(area) == frame - BROKEN;
	}
	unmap(mem, TRIES * AREA);
	close(fd);
	return got;
}

TEST_F(folio, memory_that_broke_is_not_used_again)
{
	close(do_clone(self->fd, 0, 0, 0));
	close(self->snap);
	unmap(self->mem, AREA);
	close(self->fd);
	usleep(300000);
	/*
	 * It can only be kept as a whole: what is freed as a whole is given to others,
	 * unless a kernel looks at each page again.
	 */
	EXPECT_TRUE(frame_flags(self->frame) & FRAME_TAIL);
	EXPECT_FALSE(somebody_gets(self->frame));
	EXPECT_TRUE(frame_flags(self->frame) & FRAME_BROKEN);
}

TEST_HARNESS_MAIN
