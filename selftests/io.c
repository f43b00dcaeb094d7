// SPDX-License-Identifier: GPL-2.0-only
/*
 * Promise: read, write, lseek and splice work on a region as they do on a
 * memfd, and agree with its mappings; what was spliced out of a region is a
 * copy, which later writes do not change.
 */
#include <linux/aio_abi.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>

#include "../kselftest_harness.h"
#include "common.h"
#include "files.h"

#ifndef RWF_NOWAIT
#define RWF_NOWAIT 8
#endif
#ifndef RWF_APPEND
#define RWF_APPEND 16
#endif

#define PAGES 4
#define LEN ((ssize_t)(PAGES * pgsz()))

TEST(write_and_read_move_the_position)
{
	char buf[3 * pgsz()], got[4 * pgsz()];
	ssize_t len = sizeof(buf);
	int fd = region();

	fill(buf, 3, 1, 0);
	EXPECT_EQ(0, read(fd, got, sizeof(got)));
	EXPECT_EQ(100, write(fd, buf, 100));
	EXPECT_EQ(len - 100, write(fd, buf + 100, len - 100));
	EXPECT_EQ(len, lseek(fd, 0, SEEK_CUR));
	EXPECT_EQ(sizeof(buf), info(fd).size);
	EXPECT_EQ(0, read(fd, got, sizeof(got)));
	EXPECT_EQ(1000, lseek(fd, 1000, SEEK_SET));
	EXPECT_EQ(len - 1000, read(fd, got, sizeof(got)));
	EXPECT_EQ(0, memcmp(got, buf + 1000, len - 1000));
	EXPECT_EQ(len, lseek(fd, 0, SEEK_CUR));
	EXPECT_EQ(len - 10, lseek(fd, -10, SEEK_END));
	EXPECT_EQ(len - 5, lseek(fd, 5, SEEK_CUR));
	EXPECT_EQ(5, read(fd, got, 100));
	EXPECT_EQ(0, memcmp(got, buf + len - 5, 5));
	EXPECT_EQ(-1, lseek(fd, -len - 1, SEEK_END));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(len, lseek(fd, 0, SEEK_CUR));
	EXPECT_TRUE(is(map_ro(fd, 3), 3, 1, 0));
}

TEST(write_grows_and_leaves_holes)
{
	int fd = region();
	char c = 'x';

	EXPECT_EQ(1, pwrite(fd, &c, 1, 100 * pgsz() + 7));
	EXPECT_EQ(100 * pgsz() + 8, info(fd).size);
	EXPECT_TRUE(holds(fd, 1, 0));
	EXPECT_EQ(0, pread(fd, &c, 1, 100 * pgsz() + 8));
	EXPECT_EQ(0, pread(fd, &c, 1, 200 * pgsz()));
	EXPECT_TRUE(is(map_ro(fd, 100), 100, 0, 0));
	EXPECT_EQ(0, pwrite(fd, &c, 0, 300 * pgsz()));
	EXPECT_EQ(100 * pgsz() + 8, info(fd).size);
}

FIXTURE(offsets) {
	char *want, *got;
	size_t offset, length;
};

/* So many pages, and bytes */
struct many {
	ssize_t pages, bytes;
};

FIXTURE_VARIANT(offsets) {
	struct many offset, length;
	bool shared;
};

#define AT(name, offset_, length_)					\
	FIXTURE_VARIANT_ADD(offsets, name) {				\
		.offset = offset_, .length = length_,			\
	};								\
	FIXTURE_VARIANT_ADD(offsets, name##_shared) {			\
		.offset = offset_, .length = length_, .shared = true,	\
	}
#define N(pages, bytes) { pages, bytes }
AT(first_byte, N(0, 0), N(0, 1));
AT(last_byte_of_a_page, N(1, -1), N(0, 1));
AT(across, N(1, -1), N(0, 2));
AT(a_page, N(1, 0), N(1, 0));
AT(a_page_moved, N(1, 1), N(1, 0));
AT(odd_over_three, N(1, -96), N(2, 808));
AT(all_but_the_ends, N(0, 1), N(PAGES, -2));
AT(over_the_end, N(PAGES - 1, 1), N(2, 0));

FIXTURE_SETUP(offsets)
{
	self->want = anon(8);
	self->got = anon(8);
	self->offset = variant->offset.pages * pgsz() + variant->offset.bytes;
	self->length = variant->length.pages * pgsz() + variant->length.bytes;
}

FIXTURE_TEARDOWN(offsets)
{
}

/* One write against a copy in user space, and against the clone. */
TEST_F(offsets, change_just_those_bytes)
{
	size_t end = self->offset + self->length, size = LEN, i;
	int fd = region_of(PAGES, 1), clone = -1;
	char src[self->length], *mem = map_rw(fd, PAGES);

	if (variant->shared)
		clone = cloned(fd);
	fill(self->want, PAGES, 1, 0);
	for (i = 0; i < self->length; i++)
		src[i] = 3 * i + 1;
	memcpy(self->want + self->offset, src, self->length);
	if (end > size)
		size = end;
	EXPECT_TRUE(is(mem, PAGES, 1, 0));
	EXPECT_EQ((ssize_t)self->length,
		  pwrite(fd, src, self->length, self->offset));
	EXPECT_EQ(size, info(fd).size);
	EXPECT_EQ((ssize_t)size, pread(fd, self->got, 8 * pgsz(), 0));
	EXPECT_EQ(0, memcmp(self->want, self->got, size));
	EXPECT_EQ(0, memcmp(self->want, mem, LEN));
	EXPECT_EQ((ssize_t)self->length,
		  pread(fd, self->got, self->length, self->offset));
	EXPECT_EQ(0, memcmp(src, self->got, self->length));
	if (variant->shared) {
		EXPECT_TRUE(fd_is(clone, 0, PAGES, 1));
		EXPECT_EQ(LEN, info(clone).size);
	}
}

TEST(vectors)
{
	char a[100], b[pgsz()], c[7];
	struct iovec iov[] = {
		{ a, sizeof(a) }, { NULL, 0 }, { b, sizeof(b) },
		{ c, sizeof(c) },
	};
	ssize_t all = sizeof(a) + sizeof(b) + sizeof(c), at = pgsz() - 96;
	int fd = region_of(PAGES, 0);
	char got[all];

	memset(a, 'a', sizeof(a));
	memset(b, 'b', sizeof(b));
	memset(c, 'c', sizeof(c));
	EXPECT_EQ(all, pwritev(fd, iov, 4, at));
	EXPECT_EQ(all, pread(fd, got, all, at));
	EXPECT_EQ(0, memcmp(got, a, sizeof(a)));
	EXPECT_EQ(0, memcmp(got + sizeof(a), b, sizeof(b)));
	EXPECT_EQ(0, memcmp(got + all - sizeof(c), c, sizeof(c)));
	memset(a, 0, sizeof(a));
	memset(b, 0, sizeof(b));
	memset(c, 0, sizeof(c));
	EXPECT_EQ(all, preadv(fd, iov, 4, at));
	EXPECT_EQ(0, memcmp(got, a, sizeof(a)));
	EXPECT_EQ(0, memcmp(got + sizeof(a), b, sizeof(b)));
	EXPECT_EQ(0, memcmp(got + all - sizeof(c), c, sizeof(c)));
	EXPECT_EQ(at, lseek(fd, at, SEEK_SET));
	EXPECT_EQ(all, readv(fd, iov, 4));
	EXPECT_EQ(all, writev(fd, iov, 4));
	EXPECT_EQ(at + 2 * all, lseek(fd, 0, SEEK_CUR));
	EXPECT_EQ((ssize_t)pgsz(), pread(fd, b, pgsz(), at + all));
	EXPECT_EQ(0, memcmp(b, got, pgsz()));
}

TEST(rwf_flags)
{
	char buf[] = "0123456789", got[sizeof(buf)];
	struct iovec out = { buf, 10 }, in = { got, 10 };
	int fd = region(), flags[] = { RWF_NOWAIT, RWF_HIPRI, RWF_DSYNC };
	size_t i;

	EXPECT_EQ(10, pwritev2(fd, &out, 1, 0, 0));
	/* At the end, whatever the offset; without moving the position. */
	EXPECT_EQ(10, pwritev2(fd, &out, 1, 3, RWF_APPEND));
	EXPECT_EQ(20, info(fd).size);
	EXPECT_EQ(0, lseek(fd, 0, SEEK_CUR));
	EXPECT_EQ(10, pread(fd, got, 10, 10));
	EXPECT_EQ(0, memcmp(got, buf, 10));
	EXPECT_EQ(10, preadv2(fd, &in, 1, -1, 0));
	EXPECT_EQ(10, lseek(fd, 0, SEEK_CUR));

	/* Any other flag either works or is refused as unsupported. */
	for (i = 0; i < ARRAY_SIZE(flags); i++) {
		ssize_t n;

		memset(got, 0, sizeof(got));
		n = preadv2(fd, &in, 1, 5, flags[i]);
		if (n == 10) {
			EXPECT_EQ(0, memcmp(got, "5678901234", 10));
		} else {
			EXPECT_EQ(-1, n);
			EXPECT_EQ(EOPNOTSUPP, errno);
		}
		buf[0] = 'A' + i;
		n = pwritev2(fd, &out, 1, 10, flags[i]);
		if (n == -1)
			EXPECT_EQ(EOPNOTSUPP, errno);
		EXPECT_EQ(10, pread(fd, got, 10, 10));
		EXPECT_EQ(n == 10, got[0] == 'A' + (char)i);
		EXPECT_EQ(20, info(fd).size);
		buf[0] = '0';
		EXPECT_EQ(10, pwrite(fd, buf, 10, 10));
	}
}

TEST(o_append)
{
	int fd = open(COWMEM_DEV, O_RDWR | O_APPEND);
	char got[8];

	ASSERT_LE(0, fd);
	EXPECT_EQ(3, write(fd, "abc", 3));
	EXPECT_EQ(0, lseek(fd, 0, SEEK_SET));
	EXPECT_EQ(3, write(fd, "def", 3));
	EXPECT_EQ(6, lseek(fd, 0, SEEK_CUR));
	EXPECT_EQ(6, pread(fd, got, 8, 0));
	EXPECT_EQ(0, memcmp(got, "abcdef", 6));
}

TEST(seek_data_and_hole)
{
	const off_t ps = pgsz(), size = 2000 * ps + 5;
	int fd = region(), clone;
	char c = 'x';
	struct { off_t from, data, hole; } want[] = {
		{ 0, 2 * ps, 0 },
		{ ps + 17, 2 * ps, ps + 17 },
		{ 2 * ps, 2 * ps, 4 * ps },
		{ 2 * ps + 9, 2 * ps + 9, 4 * ps },
		{ 4 * ps - 1, 4 * ps - 1, 4 * ps },
		{ 4 * ps, 1000 * ps, 4 * ps },
		{ 999 * ps, 1000 * ps, 999 * ps },
		{ 1000 * ps, 1000 * ps, 1001 * ps },
		{ 1001 * ps, -1, 1001 * ps },
		{ size - 1, -1, size - 1 },
		{ size, -1, -1 },
		{ size + ps, -1, -1 },
	};
	size_t i;
	int pass;

	ASSERT_EQ(0, do_resize(fd, size));
	pwrite(fd, &c, 1, 2 * ps + 5);
	pwrite(fd, &c, 1, 3 * ps);
	pwrite(fd, &c, 1, 1000 * ps + 100);
	clone = cloned(fd);
	for (pass = 0; pass < 2; pass++) {
		int f = pass ? clone : fd;

		for (i = 0; i < ARRAY_SIZE(want); i++) {
			errno = 0;
			EXPECT_EQ(want[i].data,
				  lseek(f, want[i].from, SEEK_DATA));
			EXPECT_EQ(want[i].data < 0 ? ENXIO : 0, errno);
			errno = 0;
			EXPECT_EQ(want[i].hole,
				  lseek(f, want[i].from, SEEK_HOLE));
			EXPECT_EQ(want[i].hole < 0 ? ENXIO : 0, errno);
		}
	}
	/* The end counts as a hole. */
	ASSERT_EQ(0, do_resize(fd, 4 * ps - 100));
	EXPECT_EQ(4 * ps - 100, lseek(fd, 3 * ps, SEEK_HOLE));
	EXPECT_EQ(3 * ps, lseek(fd, 3 * ps, SEEK_DATA));
	/* A hole that was punched, and one that was read, is one. */
	ASSERT_EQ(0, do_discard(fd, 2 * ps, ps));
	EXPECT_EQ(0, touch(map_rw(fd, 4), false));
	EXPECT_EQ(2 * ps, lseek(fd, 2 * ps, SEEK_HOLE));
	EXPECT_EQ(3 * ps, lseek(fd, 0, SEEK_DATA));
}

/* The source may be the very page that is written, mapped or not yet. */
TEST(write_from_the_region_itself)
{
	int fd = region_of(PAGES, 1), clone, i;
	char want[LEN], *mem = map_rw(fd, PAGES), *fresh;

	for (i = 0; i < 2; i++) {
		clone = cloned(fd);
		fill(want, PAGES, 1, 0);
		/* Same page, no overlap; another page; the same place. */
		memcpy(want + 100, want + 2000, 500);
		memcpy(want + 2 * pgsz() + 1, want + 3 * pgsz(), 1000);
		fresh = map_rw(fd, PAGES);
		EXPECT_EQ(500, pwrite(fd, fresh + 2000, 500, 100));
		EXPECT_EQ(1000, pwrite(fd, fresh + 3 * pgsz(), 1000,
				       2 * pgsz() + 1));
		EXPECT_EQ((ssize_t)pgsz(), pwrite(fd, fresh + pgsz(), pgsz(),
						  pgsz()));
		EXPECT_EQ(0, memcmp(mem, want, LEN));
		EXPECT_EQ(0, memcmp(fresh, want, LEN));
		EXPECT_TRUE(fd_is(clone, 0, PAGES, 1));
		unmap(fresh, PAGES);
		fill(mem, PAGES, 1, 0);
		close(clone);
	}
	/* And it may be the target of a read. */
	EXPECT_EQ((ssize_t)pgsz(), pread(fd, mem + 3 * pgsz(), pgsz(), 0));
	EXPECT_TRUE(pg_is(mem + 3 * pgsz(), 1, 0));
	EXPECT_TRUE(is(mem, 3, 1, 0));
	EXPECT_EQ(1000, pread(fd, mem + 2000, 1000, 100));
	fill(want, 1, 1, 0);
	memcpy(want + 2000, want + 100, 1000);
	EXPECT_EQ(0, memcmp(mem, want, pgsz()));
}

/* From a clone or its origin, page for page: source and target share pages. */
TEST(write_from_a_clone)
{
	int fd = region_of(PAGES, 1), clone = cloned(fd);
	char *mem = map_rw(fd, PAGES), *other = map_rw(clone, PAGES);

	EXPECT_EQ(LEN, pwrite(fd, other, LEN, 0));
	EXPECT_TRUE(is(mem, PAGES, 1, 0));
	fill(mem, PAGES, 2, 0);
	EXPECT_TRUE(is(other, PAGES, 1, 0));
	EXPECT_EQ(LEN, pread(fd, other, LEN, 0));
	EXPECT_TRUE(is(other, PAGES, 2, 0));
	fill(other, PAGES, 3, 0);
	EXPECT_TRUE(fd_is(fd, 0, PAGES, 2));
}

TEST(bad_buffers)
{
	char *two = guarded(1), want[pgsz()];
	struct iovec iov[2] = { { two, 10 }, { two + pgsz(), 10 } };
	int fd = region_of(PAGES, 1);
	ssize_t n;

	memset(two, 'x', pgsz());
	EXPECT_EQ(-1, pwrite(fd, two + pgsz(), 10, 0));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(-1, pread(fd, two + pgsz(), 10, 0));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_TRUE(fd_is(fd, 0, PAGES, 1));
	EXPECT_EQ(-1, pwrite(fd, two + pgsz(), 10, LEN));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(LEN, info(fd).size);
	EXPECT_TRUE(holds(fd, PAGES, 0));

	/* What could be copied is counted, and nothing else has changed. */
	n = pwrite(fd, two + pgsz() - 100, 300, 50);
	EXPECT_LT(0, n);
	EXPECT_GE(100, n);
	fill(want, 1, 1, 0);
	memset(want + 50, 'x', n);
	EXPECT_EQ(0, memcmp(want, map_ro(fd, 1), pgsz()));

	n = pwritev(fd, iov, 2, pgsz());
	EXPECT_LT(0, n);
	EXPECT_GE(10, n);
	fill(want, 1, 1, 1);
	memset(want, 'x', n);
	EXPECT_EQ(0, memcmp(want, map_at(fd, 1, PROT_READ, MAP_SHARED, 1),
			    pgsz()));

	n = pread(fd, two + pgsz() - 100, 300, 3 * pgsz());
	EXPECT_LT(0, n);
	EXPECT_GE(100, n);
	fill(want, 1, 1, 3);
	EXPECT_EQ(0, memcmp(two + pgsz() - 100, want, n));

	n = pwrite(fd, two + pgsz() - 100, 300, LEN);
	EXPECT_LT(0, n);
	EXPECT_EQ((uint64_t)LEN + n, info(fd).size);
}

/* A hole that a write is going to fill need not be cleared first: the rest of it must be. */
TEST(write_of_a_page_that_ends_early)
{
	char *source = guarded(1) + pgsz() - 100, want[pgsz()];
	int fd = region_of(PAGES, 0);
	ssize_t n;

	memset(source, 'x', 100);
	for (unsigned int i = 0; i < 2 * PAGES; i++) {
		/* Leave memory behind that is not clear. */
		close(region_of(256, 1));
		n = pwrite(fd, source, pgsz(), i * pgsz());
		ASSERT_LT(0, n);
		ASSERT_GE(100, n);
		memset(want, 0, pgsz());
		memset(want, 'x', n);
		ASSERT_EQ(0, do_resize(fd, (i + 1) * pgsz()));
		EXPECT_EQ(0, memcmp(want, map_at(fd, 1, PROT_READ, MAP_SHARED, i),
				    pgsz()));
	}

	/* What is there already stays. */
	fd = region_of(PAGES, 1);
	n = pwrite(fd, source, pgsz(), pgsz());
	ASSERT_LT(0, n);
	fill(want, 1, 1, 1);
	memset(want, 'x', n);
	EXPECT_EQ(0, memcmp(want, map_at(fd, 1, PROT_READ, MAP_SHARED, 1), pgsz()));
}

TEST(splice_region_to_region)
{
	int from = region_of(PAGES, 1), to = region_of(PAGES, 2), pipes[2];
	int clone = cloned(to);
	loff_t in = 0, out = 0;
	ssize_t n;

	ASSERT_EQ(0, pipe(pipes));
	while (in < LEN) {
		loff_t end;

		n = splice(from, &in, pipes[1], NULL, LEN - in, 0);
		ASSERT_LT(0, n);
		for (end = out + n; out < end;)
			ASSERT_LT(0, splice(pipes[0], NULL, to, &out, end - out,
					    0));
	}
	EXPECT_EQ(LEN, out);
	EXPECT_TRUE(fd_is(to, 0, PAGES, 1));
	EXPECT_TRUE(fd_is(clone, 0, PAGES, 2));
	EXPECT_EQ(0, splice(from, &in, pipes[1], NULL, 1, 0));
	/* At an odd place, past the end. */
	in = 10;
	out = LEN + 3;
	ASSERT_EQ(500, splice(from, &in, pipes[1], NULL, 500, 0));
	ASSERT_EQ(500, splice(pipes[0], NULL, to, &out, 500, 0));
	EXPECT_EQ((uint64_t)LEN + 503, info(to).size);
	/* Neither shares a page with the other. */
	fill(map_rw(from, PAGES), PAGES, 3, 0);
	EXPECT_TRUE(fd_is(to, 0, PAGES, 1));
	fill(map_rw(to, PAGES), PAGES, 4, 0);
	EXPECT_TRUE(fd_is(from, 0, PAGES, 3));
}

/* What is in the pipe is what was in the region when it was spliced. */
FIXTURE(spliced) {
	int fd, from;
	int pipes[2];
	char *mem;
};

FIXTURE_VARIANT(spliced) {
	bool shared, snapshot, hole;
};

FIXTURE_VARIANT_ADD(spliced, exclusive) { .shared = false };
FIXTURE_VARIANT_ADD(spliced, shared) { .shared = true };
FIXTURE_VARIANT_ADD(spliced, snapshot) { .snapshot = true };
FIXTURE_VARIANT_ADD(spliced, hole) { .hole = true };

FIXTURE_SETUP(spliced)
{
	self->fd = region_of(PAGES, variant->hole ? 0 : 1);
	self->mem = map_rw(self->fd, PAGES);
	EXPECT_EQ(0, touch(self->mem, !variant->hole));
	self->from = variant->snapshot ? snapshot(self->fd) :
		     variant->shared ? cloned(self->fd) : self->fd;
	ASSERT_EQ(0, pipe(self->pipes));
}

FIXTURE_TEARDOWN(spliced)
{
}

TEST_F(spliced, data_does_not_change)
{
	uint32_t tag = variant->hole ? 0 : 1;
	char buf[2 * pgsz()], got[2 * pgsz()];
	loff_t off = 0;

	ASSERT_EQ((ssize_t)sizeof(got), splice(self->from, &off, self->pipes[1],
					       NULL, sizeof(got), 0));
	fill(self->mem, 1, 2, 0);
	fill(buf, 1, 3, 1);
	ASSERT_EQ((ssize_t)pgsz(), pwrite(self->fd, buf, pgsz(), pgsz()));
	if (variant->shared) {
		/* The writer may be the very region it was spliced from. */
		ASSERT_EQ(0, do_discard(self->from, pgsz(), pgsz()));
		fill(map_rw(self->from, 1), 1, 5, 0);
	}
	if (self->from != self->fd)
		close(self->from);
	fill(self->mem, 2, 4, 0);
	ASSERT_TRUE(drain(self->pipes[0], got, sizeof(got)));
	EXPECT_TRUE(is(got, 2, tag, 0));
}

TEST(sendfile_both_ways)
{
	int fd = region_of(PAGES, 1), clone = cloned(fd), to = region(), file;
	char path[] = "/tmp/cowmem_io.XXXXXX", got[LEN];
	off_t off = 0;

	file = mkstemp(path);
	ASSERT_LE(0, file);
	unlink(path);
	EXPECT_EQ(LEN, sendfile(file, fd, &off, LEN));
	EXPECT_EQ(LEN, pread(file, got, LEN, 0));
	EXPECT_TRUE(is(got, PAGES, 1, 0));
	off = pgsz();
	EXPECT_EQ(LEN - (ssize_t)pgsz(), sendfile(to, file, &off, LEN));
	EXPECT_TRUE(fd_is_as(to, 0, 1, 1));
	EXPECT_TRUE(fd_is_as(to, PAGES - 2, 1, PAGES - 1));
	/* From one region into another, which is a clone of a clone of it. */
	fill(map_rw(fd, PAGES), PAGES, 2, 0);
	off = 0;
	EXPECT_EQ(LEN, sendfile(clone, fd, &off, LEN));
	EXPECT_TRUE(fd_is(clone, 0, PAGES, 2));
	fill(map_rw(clone, PAGES), PAGES, 3, 0);
	EXPECT_TRUE(fd_is(fd, 0, PAGES, 2));
	/* The page cache of the file is not the region's. */
	EXPECT_EQ(LEN, pread(file, got, LEN, 0));
	EXPECT_TRUE(is(got, PAGES, 1, 0));
}

/*
 * copy_file_range() takes regular files only, which a region is not.  Whatever
 * it answers must be true.
 */
TEST(copy_file_range_copies_or_refuses)
{
	int from = region_of(PAGES, 1), to = region_of(PAGES, 2);
	ssize_t n = copy_file_range(from, NULL, to, NULL, pgsz(), 0);

	TH_LOG("copy_file_range: %s", n < 0 ? strerror(errno) : "done");
	EXPECT_TRUE(n == -1 || n == (ssize_t)pgsz());
	EXPECT_TRUE(fd_is(to, 0, 1, n == -1 ? 2 : 1));
	EXPECT_TRUE(fd_is(to, 1, PAGES - 1, 2));
	fill(map_rw(from, PAGES), PAGES, 3, 0);
	EXPECT_TRUE(fd_is(to, 0, 1, n == -1 ? 2 : 1));
}

TEST(vmsplice_shows_the_content)
{
	int fd = region_of(PAGES, 1), clone = cloned(fd), pipes[2];
	struct iovec iov = { map_rw(fd, PAGES), LEN };
	char got[LEN];

	ASSERT_EQ(0, pipe(pipes));
	ASSERT_EQ(LEN, vmsplice(pipes[1], &iov, 1, 0));
	ASSERT_TRUE(drain(pipes[0], got, LEN));
	EXPECT_TRUE(is(got, PAGES, 1, 0));
	EXPECT_TRUE(holds(fd, 0, PAGES));
	/* From the pipe into the region's memory. */
	ASSERT_EQ((ssize_t)pgsz(), write(pipes[1], got, pgsz()));
	iov.iov_base = (char *)iov.iov_base + pgsz();
	iov.iov_len = pgsz();
	ASSERT_EQ((ssize_t)pgsz(), vmsplice(pipes[0], &iov, 1, 0));
	EXPECT_TRUE(fd_is_as(fd, 1, 1, 0));
	EXPECT_TRUE(fd_is(clone, 0, PAGES, 1));
}

/* Readers and writers of one page at once see old or new, page by page. */
TEST(writes_are_seen_by_readers)
{
	int *round = shared_mem(2 * sizeof(*round)), i;
	int fd = region_of(1, 0);
	pid_t pid;

	pid = spawn();
	if (!pid) {
		char *mem = map_ro(fd, 1), buf[64];

		for (i = 1; i <= 500; i++) {
			await(&round[0], i);
			if (pread(fd, buf, sizeof(buf), 64) != sizeof(buf) ||
			    buf[63] != (char)i || mem[64] != (char)i)
				_exit(1);
			put(&round[1], i);
		}
		_exit(0);
	}
	for (i = 1; i <= 500; i++) {
		char buf[64];

		memset(buf, i, sizeof(buf));
		ASSERT_EQ((ssize_t)sizeof(buf), pwrite(fd, buf, sizeof(buf), 64));
		put(&round[0], i);
		while (get(&round[1]) < i) {
			if (waitpid(pid, NULL, WNOHANG) == pid) {
				ASSERT_EQ(i, get(&round[1]))
					TH_LOG("the reader saw old data");
				return;
			}
			sched_yield();
		}
		if (i % 10 == 0)
			close(cloned(fd));
	}
	EXPECT_EQ(0, reap(pid));
}

/* What refers to a page when its region is cloned keeps the owner's page. */
TEST(page_in_a_pipe_stays_the_owners)
{
	int fd = region_of(PAGES, 0), clone, pipes[2];
	char *mem = map_rw(fd, PAGES), got[pgsz()];
	struct iovec iov = { mem + pgsz(), pgsz() };

	fill(mem, PAGES, 1, 0);
	ASSERT_EQ(0, pipe(pipes));
	ASSERT_EQ((ssize_t)pgsz(), vmsplice(pipes[1], &iov, 1, 0));
	clone = cloned(fd);
	EXPECT_TRUE(holds(fd, 1, PAGES - 1));
	EXPECT_TRUE(holds(clone, 1, PAGES - 1));
	EXPECT_TRUE(fd_is(clone, 0, PAGES, 1));
	fill(map_rw(clone, PAGES), PAGES, 2, 0);
	ASSERT_TRUE(drain(pipes[0], got, pgsz()));
	EXPECT_TRUE(is(got, 1, 1, 1));
	EXPECT_TRUE(is(mem, PAGES, 1, 0));
	fill(mem, PAGES, 3, 0);
	EXPECT_TRUE(fd_is(clone, 0, PAGES, 2));
}

/*
 * O_DIRECT reads into a region that are in flight when it is cloned or sealed:
 * all of the data arrives in the region, and what the clone or the sealed region
 * shows from then on does not change.
 */
FIXTURE(flight) {
	int file;
	aio_context_t ctx;
};

FIXTURE_VARIANT(flight) {
	bool seal, granted;
	uint32_t flags;
};

FIXTURE_VARIANT_ADD(flight, clone) { .granted = true };
FIXTURE_VARIANT_ADD(flight, clone_of_holes) { .granted = false };
FIXTURE_VARIANT_ADD(flight, snapshot) {
	.granted = true, .flags = COWMEM_CLONE_SNAPSHOT,
};
FIXTURE_VARIANT_ADD(flight, seal) { .granted = true, .seal = true };

enum { FLIGHT_PAGES = 64 };

FIXTURE_SETUP(flight)
{
	size_t len = FLIGHT_PAGES * pgsz();
	char *buf = anon(FLIGHT_PAGES);

	self->file = direct_file();
	if (self->file < 0)
		SKIP(return, "%s", NO_DIRECT_FILE);
	if (syscall(SYS_io_setup, 4, &self->ctx))
		SKIP(return, "no AIO here: %s", strerror(errno));
	fill(buf, FLIGHT_PAGES, 2, 0);
	ASSERT_EQ((ssize_t)len, pwrite(self->file, buf, len, 0));
	fsync(self->file);
}

FIXTURE_TEARDOWN(flight)
{
}

TEST_F(flight, data_lands_in_the_region_alone)
{
	size_t len = FLIGHT_PAGES * pgsz();
	char *copy = anon(FLIGHT_PAGES), *now = anon(FLIGHT_PAGES);
	int i, rounds = effort(30), old = 0, busy = 0;

	for (i = 0; i < rounds || (!old && !busy && i < 30); i++) {
		int fd = region_of(FLIGHT_PAGES, variant->granted), other = fd;
		char *mem = map_rw(fd, FLIGHT_PAGES);
		struct iocb cb = {
			.aio_fildes = self->file,
			.aio_lio_opcode = IOCB_CMD_PREAD,
			.aio_buf = (uintptr_t)mem, .aio_nbytes = len,
		}, *cbs = &cb;
		struct io_event ev;
		bool sealed = false;

		if (variant->granted)
			fill(mem, FLIGHT_PAGES, 1, 0);
		ASSERT_EQ(1, syscall(SYS_io_submit, self->ctx, 1, &cbs));
		if (variant->seal) {
			unmap(mem, FLIGHT_PAGES);
			sealed = !do_seal(fd, COWMEM_SEAL_WRITE);
			if (!sealed)
				ASSERT_EQ(EBUSY, errno);
			busy += !sealed;
		} else {
			other = do_clone(fd, variant->flags, 0, 0);
			ASSERT_LE(0, other);
		}
		ASSERT_EQ((ssize_t)len, pread(other, copy, len, 0));
		ASSERT_EQ(1, syscall(SYS_io_getevents, self->ctx, 1, 1, &ev,
				     NULL));
		ASSERT_EQ((long)len, ev.res);
		if (!variant->seal || sealed) {
			ASSERT_EQ((ssize_t)len, pread(other, now, len, 0));
			ASSERT_EQ(0, memcmp(copy, now, len));
		}
		old += *(uint64_t *)copy != pattern(2, 0, 0);
		ASSERT_EQ((ssize_t)len, pread(fd, now, len, 0));
		ASSERT_TRUE(is(now, FLIGHT_PAGES, 2, 0));
		if (!variant->seal)
			unmap(mem, FLIGHT_PAGES);
		close(fd);
		if (other != fd)
			close(other);
	}
	TH_LOG("of %d rounds, %d were cut before the data, %d seals were busy",
	       i, old, busy);
}

TEST_HARNESS_MAIN
