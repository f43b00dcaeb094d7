// SPDX-License-Identifier: GPL-2.0-only
/*
 * Promise: from Linux 6.12 on, what is written in order comes as folios of 64 to 256
 * pages, whatever was said about huge pages.  Nothing but the time of a clone and the counts of
 * memory tells: no more is populated than was written, and what a stream leaves unused is
 * less than what it wrote.
 *
 * Each test makes sure first that what it is about is of such folios.
 */
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/statfs.h>
#include <sys/utsname.h>
#include <linux/futex.h>

#include "../kselftest_harness.h"
#include "common.h"
#include "frames.h"
#include "module.h"

enum {
	LEAF = 64,		/* pages of the smallest folio */
	BLOCK = 4 * LEAF,	/* and of the largest one */
	PAGES = 4 * BLOCK,	/* of most regions here */
};

static const char *no_blocks(void)
{
	unsigned int major, minor;
	struct utsname name;

	must(!uname(&name) && sscanf(name.release, "%u.%u", &major, &minor) == 2);
	return major > 6 || (major == 6 && minor >= 12) ?
	       NULL : "before 6.12 the kernel unmaps page by page, so there are no such folios";
}

/* Is what @mem has mapped part of a folio? */
static bool is_large(const char *mem)
{
	uint64_t frame = frame_of(mem);

	must(frame);
	return frame_flags(frame) & (FRAME_HEAD | FRAME_TAIL);
}

/* How many of @n pages are not of folios. */
static size_t small(const char *mem, size_t n)
{
	size_t i, nr = 0;

	for (i = 0; i < n; i++)
		nr += !is_large(mem + i * pgsz());
	return nr;
}

/* To write; no PMD ever maps it. */
static char *map_small(int fd, size_t pages)
{
	char *mem = map_rw(fd, pages);

	/* A kernel without huge pages needs not be told. */
	must(!madvise(mem, pages * pgsz(), MADV_NOHUGEPAGE) || errno == EINVAL);
	return mem;
}

/* A region, all of tag 1, written in order and still granted. */
FIXTURE(stream) {
	int fd;
	char *mem;
	long before;
};

FIXTURE_SETUP(stream)
{
	const char *why = no_blocks();

	if (why)
		SKIP(return, "%s", why);
	held_comes_down_to(64);
	self->before = held();
	self->fd = region();
	self->mem = map_small(self->fd, PAGES);
	fill(self->mem, PAGES, 1, 0);
	ASSERT_EQ(LEAF, small(self->mem, PAGES));
}

FIXTURE_TEARDOWN(stream)
{
}

/* ---- when, and how much ---- */

TEST_F(stream, begins_after_a_leaf)
{
	EXPECT_EQ(LEAF, small(self->mem, LEAF));
	EXPECT_EQ(PAGES, info(self->fd).pages_populated);
	EXPECT_EQ(0, info(self->fd).pages_huge);
	EXPECT_TRUE(holds(self->fd, PAGES, 0));
	unmap(self->mem, PAGES);
	close(self->fd);
	EXPECT_TRUE(held_comes_down_to(self->before));
}

/* Wherever it ends, no more is populated than was written, and half of what is held was. */
TEST(no_more_than_was_written)
{
	static const size_t ends[] = { 1, 63, 65, 127, 129, 130, 255, 257, 300, 513, 700, 900 };
	const char *why = no_blocks();
	size_t i;

	if (why)
		SKIP(return, "%s", why);
	for (i = 0; i < ARRAY_SIZE(ends); i++) {
		long before = held(), most = 2 * ends[i] * pgsz() / 1024 + 32;
		int fd = region();
		char *mem = map_small(fd, PAGES);

		fill(mem, ends[i], 1, 0);
		EXPECT_EQ(ends[i], info(fd).pages_populated);
		EXPECT_EQ((off_t)(ends[i] * pgsz()), lseek(fd, 0, SEEK_HOLE));
		EXPECT_EQ(-1, lseek(fd, ends[i] * pgsz(), SEEK_DATA));
		EXPECT_GE(most, held() - before)
			TH_LOG("%zu pages", ends[i]);
		EXPECT_TRUE(is(mem, ends[i], 1, 0) && is(mem + ends[i] * pgsz(), 70, 0, 0));
		unmap(mem, PAGES);
		close(fd);
		EXPECT_TRUE(held_comes_down_to(before));
	}
}

/* Writes here and there take no more pages than they write, and none past the end. */
TEST(scattered_pages_stay_small)
{
	enum { AREAS = 64, AREA = 512 };
	const char *why = no_blocks();
	int fd = region(), end;
	char *mem = map_small(fd, AREAS * AREA);
	long before, index;
	size_t i;

	if (why)
		SKIP(return, "%s", why);
	before = held();
	for (i = 0; i < AREAS; i++)
		pg_fill(mem + i * AREA * pgsz(), 1, i * AREA);
	for (i = 0; i < AREAS; i++)
		EXPECT_FALSE(is_large(mem + i * AREA * pgsz()));
	index = info(fd).index_bytes / 1024;
	EXPECT_GE((AREAS * (long)pgsz() / 1024 + index) * 11 / 10, held() - before);
	unmap(mem, AREAS * AREA);
	close(fd);

	end = region();
	mem = map_small(end, LEAF + LEAF - 1);
	fill(mem, LEAF + LEAF - 1, 1, 0);
	EXPECT_EQ(LEAF + LEAF - 1, small(mem, LEAF + LEAF - 1));
}

/* Others may write what the last holder could not have any more. */
TEST_F(stream, copies_are_streams_as_well)
{
	int snap = snapshot(self->fd);

	fill(self->mem, PAGES, 2, 0);
	EXPECT_EQ(LEAF, small(self->mem, PAGES));
	EXPECT_TRUE(fd_is(snap, 0, PAGES, 1));
	EXPECT_TRUE(holds(self->fd, PAGES, 0));
	EXPECT_TRUE(holds(snap, PAGES, 0));
	close(snap);
	EXPECT_TRUE(is(self->mem, PAGES, 2, 0));
}

/* ---- what others share ---- */

TEST_F(stream, splits_page_by_page)
{
	int clone = cloned(self->fd);
	char *other = map_small(clone, PAGES);

	EXPECT_TRUE(is(self->mem, PAGES, 1, 0));
	pg_fill(self->mem + 300 * pgsz(), 2, 300);
	pg_fill(other + 301 * pgsz(), 3, 301);
	EXPECT_TRUE(holds(self->fd, 1, PAGES - 1));
	EXPECT_TRUE(holds(clone, 1, PAGES - 1));
	EXPECT_TRUE(fd_is(self->fd, 0, 300, 1) && fd_is(self->fd, 300, 1, 2));
	EXPECT_TRUE(fd_is(self->fd, 301, PAGES - 301, 1));
	EXPECT_TRUE(is(other, 301, 1, 0) && is(other + 302 * pgsz(), 100, 1, 302));
	unmap(other, PAGES);
	close(clone);
	EXPECT_TRUE(is(self->mem, 300, 1, 0) && is(self->mem + 301 * pgsz(), 400, 1, 301));
}

TEST_F(stream, last_holder_writes_in_place)
{
	long kib;

	close(cloned(self->fd));
	kib = held();
	fill(self->mem, PAGES, 2, 0);
	EXPECT_EQ(LEAF, small(self->mem, PAGES));
	EXPECT_GE(kib, held());
	EXPECT_TRUE(fd_is(self->fd, 0, PAGES, 2));
	EXPECT_TRUE(holds(self->fd, PAGES, 0));
}

/*
 * Has a page of a region the name that futexes need?  None has that is shared: it would be
 * another one's.
 */
static bool has_name(int fd, uint64_t page)
{
	char *mem = map_at(fd, 1, PROT_READ, MAP_SHARED, page);
	long woken = syscall(SYS_futex, mem, FUTEX_WAKE, 1, NULL, NULL, 0);

	must(woken >= 0 || errno == EFAULT);
	unmap(mem, 1);
	return woken >= 0;
}

/* A clone that cuts a stream: what comes after it is not in there, and neither side's content. */
TEST_F(stream, cut_by_a_clone)
{
	static const size_t cuts[] = { 64, 65, 100, 127, 200, 300, 511, 600 };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(cuts); i++) {
		int fd = region(), clone;
		char *mem = map_small(fd, PAGES), *other;

		fill(mem, cuts[i], 1, 0);
		clone = cloned(fd);
		EXPECT_TRUE(holds(fd, 0, cuts[i]));
		fill(mem + cuts[i] * pgsz(), PAGES - cuts[i], 2, cuts[i]);
		EXPECT_EQ(cuts[i], info(clone).pages_populated);
		EXPECT_FALSE(has_name(clone, cuts[i] - 1));
		other = map_small(clone, PAGES);
		EXPECT_TRUE(is(other, cuts[i], 1, 0));
		EXPECT_TRUE(is(other + cuts[i] * pgsz(), PAGES - cuts[i], 0, 0));
		fill(other, PAGES, 3, 0);
		EXPECT_TRUE(fd_is(fd, 0, cuts[i], 1));
		EXPECT_TRUE(fd_is(fd, cuts[i], PAGES - cuts[i], 2));
		unmap(mem, PAGES);
		close(fd);
		EXPECT_TRUE(is(other, PAGES, 3, 0));
		unmap(other, PAGES);
		close(clone);
	}
}

/* Ranges that begin and end inside folios, of which some pages are still to come. */
TEST_F(stream, ranges_at_odd_offsets)
{
	static const struct { size_t have, first, n; } cases[] = {
		{ 700, 70, 100 }, { 700, 65, 1 }, { 700, 0, 300 }, { 150, 140, 5 },
		{ 300, 257, 20 }, { 700, 127, 258 }, { 1024, 500, 524 },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		size_t have = cases[i].have, first = cases[i].first, n = cases[i].n;
		int fd = region(), clone, to = region();
		char *mem = map_small(fd, PAGES);

		fill(mem, have, 1, 0);
		clone = do_clone(fd, 0, first * pgsz(), n * pgsz());
		ASSERT_LE(0, clone);
		ASSERT_EQ(0, do_resize(to, PAGES * pgsz()));
		ASSERT_EQ(0, do_copy(to, fd, 3, first, n));
		/* All of it may be written, and what is there already goes on to be there. */
		fill(mem, PAGES, 2, 0);
		EXPECT_TRUE(fd_range_is(clone, 0, n, 1, first));
		EXPECT_TRUE(fd_range_is(to, 3, n, 1, first));
		EXPECT_TRUE(fd_is(fd, 0, PAGES, 2));
		EXPECT_TRUE(holds(fd, PAGES, 0));
		unmap(mem, PAGES);
		close(fd);
		close(to);
		fill(map_small(clone, n), n, 3, first);
		EXPECT_TRUE(fd_range_is(clone, 0, n, 3, first));
		close(clone);
	}
}

TEST_F(stream, private_and_forked_mappings)
{
	char *priv = map_at(self->fd, PAGES, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0);
	int clone;
	pid_t pid;

	pg_fill(priv + 100 * pgsz(), 5, 100);
	pid = spawn();
	if (!pid) {
		fill(self->mem + 70 * pgsz(), 200, 2, 70);
		_exit(!is(priv, 70, 1, 0));
	}
	EXPECT_EQ(0, reap(pid));
	clone = cloned(self->fd);
	fill(self->mem, PAGES, 3, 0);
	EXPECT_TRUE(fd_is(clone, 0, 70, 1) && fd_is(clone, 70, 200, 2));
	EXPECT_TRUE(fd_is(clone, 270, PAGES - 270, 1));
	EXPECT_TRUE(is(priv + 100 * pgsz(), 1, 5, 100) && is(priv + 101 * pgsz(), 9, 3, 101));
	close(clone);
}

TEST_F(stream, unmapped_and_moved_in_parts)
{
	char *space = anon(PAGES), *moved;
	int clone;

	unmap(self->mem + 100 * pgsz(), 50);
	moved = mremap(self->mem + 300 * pgsz(), 100 * pgsz(), 100 * pgsz(),
		       MREMAP_MAYMOVE | MREMAP_FIXED, space);
	ASSERT_EQ(space, moved);
	clone = cloned(self->fd);
	fill(moved, 100, 2, 300);
	fill(self->mem, 100, 2, 0);
	EXPECT_TRUE(fd_is(clone, 0, PAGES, 1));
	EXPECT_TRUE(fd_is(self->fd, 300, 100, 2) && fd_is(self->fd, 100, 200, 1));
	close(clone);
}

/* ---- references ---- */

/* What a pipe refers to goes on to be the region's, and all around it is copied. */
TEST_F(stream, pinned)
{
	struct iovec iov = { self->mem + 500 * pgsz(), pgsz() };
	char buf[pgsz()];
	int pipes[2], clone;

	ASSERT_EQ(0, pipe(pipes));
	ASSERT_EQ((ssize_t)pgsz(), vmsplice(pipes[1], &iov, 1, 0));
	clone = cloned(self->fd);
	/* None but those of the folio. */
	EXPECT_LE(PAGES - BLOCK, info(clone).pages_shared);
	fill(self->mem, PAGES, 2, 0);
	EXPECT_TRUE(fd_is(clone, 0, PAGES, 1));
	EXPECT_TRUE(drain(pipes[0], buf, pgsz()) && pg_is(buf, 2, 500));
	EXPECT_TRUE(fd_is(self->fd, 0, PAGES, 2));
	close(clone);

	/* Once shared, the last holder does not write it in place. */
	close(cloned(self->fd));
	ASSERT_TRUE(is(self->mem, PAGES, 2, 0));
	ASSERT_EQ((ssize_t)pgsz(), vmsplice(pipes[1], &iov, 1, 0));
	close(cloned(self->fd));
	close(snapshot(self->fd));
	fill(self->mem, PAGES, 3, 0);
	EXPECT_TRUE(drain(pipes[0], buf, pgsz()) && pg_is(buf, 2, 500));
	EXPECT_TRUE(fd_is(self->fd, 0, PAGES, 3));

	/* What was dropped meanwhile stays as it was. */
	iov.iov_base = self->mem + 200 * pgsz();
	ASSERT_EQ((ssize_t)pgsz(), vmsplice(pipes[1], &iov, 1, 0));
	ASSERT_EQ(0, do_discard(self->fd, 0, PAGES * pgsz()));
	fill(self->mem, PAGES, 4, 0);
	EXPECT_TRUE(drain(pipes[0], buf, pgsz()) && pg_is(buf, 3, 200));
	close(pipes[0]);
	close(pipes[1]);
	unmap(self->mem, PAGES);
	close(self->fd);
	EXPECT_TRUE(held_comes_down_to(self->before));
}

static uint32_t *futex_of(char *mem)
{
	return (uint32_t *)(mem + 333 * pgsz());
}

TEST_F(stream, futex_wakes_other_processes)
{
	uint32_t *word = futex_of(self->mem);
	int *ready = shared_mem(sizeof(*ready)), round, woken, i, clone;

	for (round = 0; round < 3; round++) {
		pid_t pid;

		__atomic_store_n(word, round, __ATOMIC_RELEASE);
		put(ready, 0);
		pid = spawn();
		if (!pid) {
			struct timespec most = { .tv_sec = 60 };

			word = futex_of(map_small(self->fd, PAGES));
			put(ready, 1);
			_exit(!!syscall(SYS_futex, word, FUTEX_WAIT, round, &most, NULL, 0));
		}
		await(ready, 1);
		clone = round ? cloned(self->fd) : -1;
		for (i = 0, woken = 0; i < 2000 && !woken; i++) {
			woken = syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
			ASSERT_LE(0, woken);
			usleep(woken ? 0 : 5000);
		}
		EXPECT_EQ(1, woken);
		EXPECT_EQ(0, reap(pid));
		if (round)
			close(clone);
	}
}

/* ---- calls ---- */

TEST_F(stream, restore)
{
	int snap = snapshot(self->fd), empty = snapshot(region_of(PAGES, 0)), round;

	for (round = 0; round < 3; round++) {
		uint32_t flags = round ? COWMEM_RESTORE_KEEP : 0;

		fill(self->mem, 130 + round * 200, 2, 0);
		ASSERT_EQ(0, do_restore(self->fd, snap, flags));
		EXPECT_TRUE(is(self->mem, PAGES, 1, 0));
		/* In the middle of a stream. */
		ASSERT_EQ(0, do_restore(self->fd, empty, flags));
		fill(self->mem, 100 + round * 200, 3, 0);
		ASSERT_EQ(0, do_restore(self->fd, empty, flags));
		EXPECT_TRUE(is(self->mem, PAGES, 0, 0));
		fill(self->mem + (100 + round * 200) * pgsz(), 300, 4, 100 + round * 200);
		EXPECT_TRUE(is(self->mem, 100 + round * 200, 0, 0));
		ASSERT_EQ(0, do_restore(self->fd, snap, flags));
		EXPECT_TRUE(fd_is(self->fd, 0, PAGES, 1));
	}
}

/* Few pages do not keep the memory of a folio. */
TEST_F(stream, discard_of_a_part)
{
	size_t left = 5 * LEAF;
	size_t i;

	/* Of the last two blocks a quarter is left, of which each has a part. */
	for (i = 2 * BLOCK; i < PAGES; i += 4)
		ASSERT_EQ(0, do_discard(self->fd, i * pgsz(), 3 * pgsz()));
	for (i = 2 * BLOCK; i < PAGES; i += 4) {
		EXPECT_TRUE(is(self->mem + i * pgsz(), 3, 0, 0));
		EXPECT_TRUE(pg_is(self->mem + (i + 3) * pgsz(), 1, i + 3));
	}
	EXPECT_EQ(2 * BLOCK + 2 * BLOCK / 4, info(self->fd).pages_populated);
	EXPECT_TRUE(held_comes_down_to(self->before +
				  (2 * BLOCK + 2 * BLOCK / 4) * pgsz() / 1024 + 64));
	ASSERT_EQ(0, do_discard(self->fd, left * pgsz(), (PAGES - left) * pgsz()));
	EXPECT_TRUE(held_comes_down_to(self->before + left * pgsz() / 1024 + 64));
	EXPECT_TRUE(fd_is(self->fd, 0, left, 1));
	fill(self->mem, PAGES, 2, 0);
	EXPECT_TRUE(fd_is(self->fd, 0, PAGES, 2));
}

TEST_F(stream, resize_and_merge)
{
	int other = region(), fds[2] = { self->fd, other };
	char *mem = map_small(other, PAGES);
	struct cowmem_merge m = { };

	fill(mem, 700, 1, 0);
	/* A region that shrinks and grows within a folio reads as holes there. */
	ASSERT_EQ(0, do_resize(other, 650 * pgsz()));
	ASSERT_EQ(0, do_resize(other, PAGES * pgsz()));
	EXPECT_TRUE(is(mem, 650, 1, 0) && is(mem + 650 * pgsz(), 300, 0, 0));
	ASSERT_EQ(0, do_merge(&m, fds, 2));
	EXPECT_EQ(650, m.merged);
	EXPECT_TRUE(fd_is(self->fd, 0, PAGES, 1) && fd_is(other, 0, 650, 1));
	fill(self->mem, 600, 2, 0);
	fill(mem + 100 * pgsz(), 700, 3, 100);
	EXPECT_TRUE(fd_is(self->fd, 0, 600, 2) && fd_is(self->fd, 600, PAGES - 600, 1));
	EXPECT_TRUE(fd_is(other, 0, 100, 1) && fd_is(other, 100, 700, 3));
	EXPECT_TRUE(fd_is(other, 800, PAGES - 800, 0));
	unmap(mem, PAGES);
	close(other);
	EXPECT_TRUE(is(self->mem, 600, 2, 0));
}

/* ---- limits ---- */

/* A mount that is full holds as many pages as it may, in whatever order they came. */
TEST(mount_is_filled_to_the_last_page)
{
	size_t room = 2048 * pgsz();
	char dir[] = "/tmp/blocks.XXXXXX", text[64], *buf = malloc(room);
	const char *why = no_blocks();
	struct statfs s;
	ssize_t done = 0;
	int fd[2], i;
	char *mem;

	if (why)
		SKIP(return, "%s", why);
	must(mkdtemp(dir));
	must(!unshare(CLONE_NEWNS));
	must(!mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
	snprintf(text, sizeof(text), "size=%zu", room);
	ASSERT_EQ(0, mount("m", dir, "cowmem", 0, text));
	for (i = 0; i < 2; i++) {
		snprintf(text, sizeof(text), "%s/%d", dir, i);
		fd[i] = open(text, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		must(fd[i] >= 0 && !ftruncate(fd[i], room));
	}
	mem = map_small(fd[0], 800);
	fill(mem, 800, 1, 0);
	EXPECT_GT(800, small(mem, 800));
	ASSERT_EQ(0, statfs(dir, &s));
	memset(buf, 7, room);
	done = pwrite(fd[1], buf, room, 0);
	EXPECT_EQ((ssize_t)(s.f_bfree * s.f_bsize), done);
	EXPECT_EQ(-1, pwrite(fd[1], buf, pgsz(), done));
	EXPECT_EQ(ENOSPC, errno);
	EXPECT_TRUE(is(mem, 800, 1, 0));
	umount2(dir, MNT_DETACH);
	rmdir(dir);
}

/* ---- anything ---- */

enum { SUBJECTS = 3, SIZE = 3 * BLOCK + 21 };

static struct subject {
	int fd;
	char *mem;
	uint32_t tag[SIZE];
	uint64_t as[SIZE];
} subjects[SUBJECTS];

static bool right(const struct subject *s, size_t first, size_t n)
{
	size_t i;

	for (i = first; i < first + n; i++)
		if (!pg_is(s->mem + i * pgsz(), s->tag[i], s->as[i])) {
			fprintf(stderr, "# subject %zd, page %zu, seed %s\n", s - subjects, i,
				getenv("COWMEM_SEED") ?: "as printed");
			return false;
		}
	return true;
}

static void put_subject(struct subject *s, int fd)
{
	if (s->mem) {
		unmap(s->mem, SIZE);
		close(s->fd);
	}
	s->fd = fd;
	s->mem = map_small(fd, SIZE);
}

static void write_run(struct subject *s, size_t first, size_t n, uint32_t tag)
{
	size_t i;

	for (i = first; i < first + n; i++) {
		s->tag[i] = tag;
		s->as[i] = i;
	}
	fill(s->mem + first * pgsz(), n, tag, first);
}

/* What streams, clones and the rest do to each other, against a list of what was written. */
TEST(model)
{
	int ops = random_ops(effort(400)), i;
	const char *why = no_blocks();

	if (why)
		SKIP(return, "%s", why);
	rng_init();
	for (i = 0; i < SUBJECTS; i++)
		put_subject(&subjects[i], region());
	for (i = 0; i < ops; i++) {
		struct subject *s = &subjects[below(SUBJECTS)], *o = &subjects[below(SUBJECTS)];
		size_t first = below(3) ? below(SIZE / LEAF) * LEAF : below(SIZE);
		size_t n = 1 + below(below(3) ? SIZE - first : 1 + (SIZE - first) / 99);
		size_t to = below(2) ? first : below(SIZE - n + 1);

		switch (below(9)) {
		case 0 ... 3:
			write_run(s, first, n, 1 + i);
			break;
		case 4:
			if (s == o)
				break;
			put_subject(o, cloned(s->fd));
			memcpy(o->tag, s->tag, sizeof(o->tag));
			memcpy(o->as, s->as, sizeof(o->as));
			break;
		case 5:
			if (s == o)
				break;
			ASSERT_EQ(0, do_copy(o->fd, s->fd, to, first, n));
			memcpy(o->tag + to, s->tag + first, n * sizeof(*o->tag));
			memcpy(o->as + to, s->as + first, n * sizeof(*o->as));
			break;
		case 6:
			ASSERT_EQ(0, do_discard(s->fd, first * pgsz(), n * pgsz()));
			memset(s->tag + first, 0, n * sizeof(*s->tag));
			break;
		case 7:
			ASSERT_EQ(0, s == o ? 0 : do_restore(o->fd, s->fd,
							     below(2) * COWMEM_RESTORE_KEEP));
			memcpy(o->tag, s->tag, sizeof(o->tag));
			memcpy(o->as, s->as, sizeof(o->as));
			break;
		default:
			/* The clone goes again, so the pages have one holder. */
			close(do_clone(s->fd, 0, to * pgsz(), pgsz()));
			ASSERT_TRUE(right(s, first, n));
		}
		if (!below(10))
			ASSERT_TRUE(right(s, 0, SIZE) && right(o, 0, SIZE));
		/* RESTORE with KEEP ends streams for good. */
		if (!below(20)) {
			put_subject(s, region());
			memset(s->tag, 0, sizeof(s->tag));
		}
	}
	for (i = 0; i < SUBJECTS; i++) {
		EXPECT_TRUE(right(&subjects[i], 0, SIZE));
		unmap(subjects[i].mem, SIZE);
		close(subjects[i].fd);
		subjects[i].mem = NULL;
	}
}

TEST_HARNESS_MAIN
