// SPDX-License-Identifier: GPL-2.0-only
/*
 * Promise: CVE-2022-0847 ("Dirty Pipe") does not happen to regions.  There, a
 * pipe whose buffers had been full once kept a flag that let a later write be
 * merged into a page that had been spliced into the pipe.
 */
#include "../kselftest_harness.h"
#include "common.h"

enum { PAGES = 4 };

FIXTURE(dirty_pipe) {
	int fd, snap;
	int pipe[2];
	char *ro;
};

FIXTURE_VARIANT(dirty_pipe) {
	bool packets;		/* O_DIRECT pipe */
	bool vmsplice;		/* vmsplice() of a mapping, not splice() */
	unsigned int flags;
	bool of_clone;		/* not of the snapshot, but of a clone */
	size_t length;		/* 0 is for a page */
};

FIXTURE_VARIANT_ADD(dirty_pipe, splice) { .length = 1 };
FIXTURE_VARIANT_ADD(dirty_pipe, splice_page) { .length = 0 };
FIXTURE_VARIANT_ADD(dirty_pipe, splice_packets) {
	.length = 100, .packets = true,
};
FIXTURE_VARIANT_ADD(dirty_pipe, splice_move) {
	.length = 1000, .flags = SPLICE_F_MOVE,
};
FIXTURE_VARIANT_ADD(dirty_pipe, splice_of_clone) {
	.length = 1, .of_clone = true,
};
FIXTURE_VARIANT_ADD(dirty_pipe, vmsplice) { .length = 1, .vmsplice = true };
FIXTURE_VARIANT_ADD(dirty_pipe, vmsplice_gift) {
	.vmsplice = true, .flags = SPLICE_F_GIFT,
};
FIXTURE_VARIANT_ADD(dirty_pipe, vmsplice_of_clone) {
	.length = 77, .vmsplice = true, .of_clone = true,
};

FIXTURE_SETUP(dirty_pipe)
{
	char buf[pgsz()];
	int n, size;

	self->fd = region_of(PAGES, 1);
	self->snap = snapshot(self->fd);
	self->ro = map_ro(self->snap, PAGES);
	EXPECT_TRUE(is(self->ro, PAGES, 1, 0));

	/* Fill the pipe, so that each buffer may be merged into; drain it. */
	ASSERT_EQ(0, pipe2(self->pipe, variant->packets ? O_DIRECT : 0));
	size = fcntl(self->pipe[1], F_GETPIPE_SZ);
	ASSERT_LT(0, size);
	memset(buf, 'p', sizeof(buf));
	for (n = 0; n < size; n += sizeof(buf))
		ASSERT_EQ((ssize_t)sizeof(buf),
			  write(self->pipe[1], buf, sizeof(buf)));
	for (n = 0; n < size; n += sizeof(buf))
		ASSERT_EQ((ssize_t)sizeof(buf),
			  read(self->pipe[0], buf, sizeof(buf)));
}

FIXTURE_TEARDOWN(dirty_pipe)
{
}

TEST_F(dirty_pipe, write_is_not_merged)
{
	int clone = cloned(self->snap), from, i;
	char *mem = map_ro(clone, PAGES), got[2 * pgsz()], want[pgsz()];
	size_t length = variant->length ?: pgsz();
	struct iovec iov;
	loff_t off = 100;

	EXPECT_TRUE(is(mem, PAGES, 1, 0));
	from = variant->of_clone ? clone : self->snap;
	if (variant->vmsplice) {
		iov.iov_base = (variant->of_clone ? mem : self->ro) + off;
		if (variant->flags & SPLICE_F_GIFT)
			iov.iov_base = self->ro;
		iov.iov_len = length;
		ASSERT_EQ((ssize_t)length,
			  vmsplice(self->pipe[1], &iov, 1, variant->flags));
		if (variant->flags & SPLICE_F_GIFT)
			off = 0;
	} else {
		loff_t in = off;

		ASSERT_EQ((ssize_t)length,
			  splice(from, &in, self->pipe[1], NULL,
				 length, variant->flags));
	}
	/* What the pipe holds now must not be merged with this. */
	for (i = 0; i < 8; i++)
		ASSERT_EQ(4, write(self->pipe[1], "evil", 4));

	EXPECT_TRUE(is(self->ro, PAGES, 1, 0));
	EXPECT_TRUE(fd_is(self->snap, 0, PAGES, 1));
	EXPECT_TRUE(fd_is(self->fd, 0, PAGES, 1));
	EXPECT_TRUE(fd_is(clone, 0, PAGES, 1));
	EXPECT_TRUE(is(mem, PAGES, 1, 0));

	/* And the pipe gives all of it, in order. */
	for (i = 0; i < (int)length + 32;) {
		ssize_t n = read(self->pipe[0], got + i, sizeof(got) - i);

		ASSERT_LT(0, n);
		i += n;
	}
	EXPECT_EQ((int)length + 32, i);
	ASSERT_EQ((ssize_t)length, pread(self->snap, want, length, off));
	EXPECT_EQ(0, memcmp(got, want, length));
	for (i = 0; i < 32; i += 4)
		EXPECT_EQ(0, memcmp(got + length + i, "evil", 4));
}

/* A page that was given away with SPLICE_F_GIFT is not moved into a file. */
TEST(gift_is_not_stolen)
{
	int fd = region_of(PAGES, 1), snap = snapshot(fd), pipes[2];
	char *ro = map_ro(snap, PAGES);
	struct iovec iov = { ro, pgsz() };
	char path[] = "/tmp/cowmem_pipe.XXXXXX", got[pgsz()];
	int file = mkstemp(path), to = region();
	loff_t off = 0;

	ASSERT_LE(0, file);
	unlink(path);
	ASSERT_EQ(0, pipe(pipes));
	ASSERT_EQ((ssize_t)pgsz(), vmsplice(pipes[1], &iov, 1, SPLICE_F_GIFT));
	ASSERT_EQ((ssize_t)pgsz(), splice(pipes[0], NULL, file, &off, pgsz(),
					  SPLICE_F_MOVE));
	memset(got, 'x', pgsz());
	ASSERT_EQ((ssize_t)pgsz(), pwrite(file, got, pgsz(), 0));
	EXPECT_TRUE(is(ro, PAGES, 1, 0));
	EXPECT_TRUE(fd_is(fd, 0, PAGES, 1));

	/* Nor into another region. */
	off = 0;
	ASSERT_EQ((ssize_t)pgsz(), vmsplice(pipes[1], &iov, 1, SPLICE_F_GIFT));
	ASSERT_EQ((ssize_t)pgsz(), splice(pipes[0], NULL, to, &off, pgsz(),
					  SPLICE_F_MOVE));
	EXPECT_TRUE(fd_is(to, 0, 1, 1));
	fill(map_rw(to, 1), 1, 2, 0);
	EXPECT_TRUE(is(ro, PAGES, 1, 0));
	EXPECT_TRUE(fd_is(fd, 0, PAGES, 1));
}

TEST_HARNESS_MAIN
