// SPDX-License-Identifier: GPL-2.0-only
/*
 * Promise: FICLONE, FICLONERANGE, FIDEDUPERANGE and copy_file_range() share pages of
 * regions that are regular files.  They follow the rules that other file systems have
 * for them, and writers of the source and users of the target see all of it or nothing.
 */
#include <pthread.h>
#include <linux/fs.h>

#include "../kselftest_harness.h"
#include "common.h"

enum { PAGES = 8, MANY = 200 };

#define LEN (PAGES * pgsz())

static int file_with(size_t pages, uint32_t tag)
{
	int dev = pages ? region_of(pages, tag) : region(), file = file_of(dev, 0);

	close(dev);
	return file;
}

/* 0 or errno */
static int reflink(int to, int from)
{
	return ioctl(to, FICLONE, from) ? errno : 0;
}

static int reflink_range(int to, uint64_t dst, int from, uint64_t src, uint64_t len)
{
	struct file_clone_range arg = {
		.src_fd = from, .src_offset = src, .src_length = len,
		.dest_offset = dst,
	};

	return ioctl(to, FICLONERANGE, &arg) ? errno : 0;
}

/* The status, or -errno of the call; @bytes is how much was shared, or NULL. */
static int dedupe(int to, uint64_t dst, int from, uint64_t src, uint64_t len,
		  uint64_t *bytes)
{
	struct {
		struct file_dedupe_range range;
		struct file_dedupe_range_info info;
	} arg = {
		.range = { .src_offset = src, .src_length = len, .dest_count = 1 },
		.info = { .dest_fd = to, .dest_offset = dst },
	};

	if (ioctl(from, FIDEDUPERANGE, &arg))
		return -errno;
	if (bytes)
		*bytes = arg.info.bytes_deduped;
	return arg.info.status;
}

/* ---- what is shared ---- */

TEST(all_of_a_file)
{
	int a = file_with(PAGES, 1), b = file_with(0, 0), far = file_with(2 * PAGES, 2);
	int small = file_with(1, 3);
	char *mem = map_rw(far, 2 * PAGES);

	ASSERT_EQ(0, do_discard(a, 2 * pgsz(), pgsz()));
	EXPECT_EQ(0, reflink(b, a));
	EXPECT_EQ(LEN, info(b).size);
	EXPECT_TRUE(holds(a, 0, PAGES - 1));
	EXPECT_TRUE(holds(b, 0, PAGES - 1));
	EXPECT_TRUE(fd_is(b, 0, 2, 1));
	EXPECT_TRUE(fd_is(b, 2, 1, 0));
	EXPECT_TRUE(fd_is(b, 3, PAGES - 3, 1));
	/* Holes go where data was; what lies behind stays, and so does the size. */
	EXPECT_EQ(0, reflink(far, a));
	EXPECT_EQ(2 * LEN, info(far).size);
	EXPECT_TRUE(is(mem, 2, 1, 0));
	EXPECT_TRUE(is(mem + 2 * pgsz(), 1, 0, 2));
	EXPECT_TRUE(is(mem + 3 * pgsz(), PAGES - 3, 1, 3));
	EXPECT_TRUE(is(mem + LEN, PAGES, 2, PAGES));
	EXPECT_TRUE(holds(far, PAGES, PAGES - 1));
	EXPECT_EQ(3 * pgsz(), lseek(far, 2 * pgsz(), SEEK_DATA));
	/* Neither sees what is written to the other afterwards. */
	pg_fill(mem, 7, 0);
	ASSERT_EQ(1, pwrite(b, "x", 1, LEN));
	mem = map_rw(a, PAGES);
	fill(mem, PAGES, 5, 0);
	unmap(mem, PAGES);
	EXPECT_TRUE(fd_is(far, 0, 1, 7));
	EXPECT_TRUE(fd_is(far, 1, 1, 1));
	EXPECT_TRUE(fd_is(b, 0, 2, 1));
	EXPECT_TRUE(fd_is(a, 0, PAGES, 5));
	/* Nor is anything left of the first when they are gone. */
	EXPECT_EQ(0, reflink(small, a));
	close(a);
	EXPECT_TRUE(fd_is(small, 0, PAGES, 5));
	EXPECT_TRUE(holds(small, PAGES, 0));
}

TEST(of_nothing_and_to_itself)
{
	int a = file_with(PAGES, 1), none = file_with(0, 0);

	EXPECT_EQ(0, reflink(a, none));
	EXPECT_EQ(LEN, info(a).size);
	EXPECT_TRUE(fd_is(a, 0, PAGES, 1));
	EXPECT_EQ(EINVAL, reflink(a, a));
	EXPECT_EQ(0, reflink_range(a, 0, a, LEN, 0));
	EXPECT_TRUE(holds(a, PAGES, 0));
}

TEST(ranges)
{
	int a = file_with(MANY, 1), b = file_with(MANY, 2);
	/* Whole nodes, odd ones, one page, the last one. */
	const struct { int src, dst, n; } at[] = {
		{ 0, 64, 64 }, { 3, 70, 100 }, { 199, 0, 1 }, { 64, 3, 64 }, { 5, 195, 1 },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(at); i++) {
		int to = cloned(b);
		size_t s = at[i].src, d = at[i].dst, n = at[i].n;

		EXPECT_EQ(0, reflink_range(to, d * pgsz(), a, s * pgsz(), n * pgsz()));
		EXPECT_TRUE(fd_is(to, 0, d, 2));
		EXPECT_TRUE(fd_range_is(to, d, n, 1, s));
		EXPECT_TRUE(fd_is(to, d + n, MANY - d - n, 2));
		EXPECT_TRUE(holds(to, 0, MANY));
		close(to);
	}
	EXPECT_TRUE(holds(b, MANY, 0));
	/* Past the end: it grows, with a hole between. */
	EXPECT_EQ(0, reflink_range(b, 300 * pgsz(), a, 10 * pgsz(), 2 * pgsz()));
	EXPECT_EQ(302 * pgsz(), info(b).size);
	EXPECT_TRUE(fd_is(b, MANY, 100, 0));
	EXPECT_TRUE(fd_range_is(b, 300, 2, 1, 10));
	/* Length 0 is up to the end. */
	EXPECT_EQ(0, reflink_range(b, 0, a, 195 * pgsz(), 0));
	EXPECT_TRUE(fd_range_is(b, 0, 5, 1, 195));
	EXPECT_TRUE(fd_is(b, 5, 1, 2));
	/* Within one. */
	EXPECT_EQ(0, reflink_range(a, 0, a, 100 * pgsz(), 100 * pgsz()));
	EXPECT_TRUE(fd_range_is(a, 0, 100, 1, 100));
	EXPECT_TRUE(fd_is(a, 100, 100, 1));
	EXPECT_TRUE(holds(a, 0, MANY));
}

/* The last page of the source may end anywhere, if the target ends there, too. */
TEST(ends_that_are_not_aligned)
{
	const size_t odd = 3 * pgsz() + 100;
	int a = file_with(PAGES, 1), b = file_with(0, 0), c = file_with(PAGES, 2);
	char buf[2 * pgsz()];

	ASSERT_EQ(0, ftruncate(a, odd));
	EXPECT_EQ(0, reflink(b, a));
	EXPECT_EQ(odd, info(b).size);
	ASSERT_EQ(0, ftruncate(b, 4 * pgsz()));
	ASSERT_EQ((ssize_t)pgsz(), pread(b, buf, pgsz(), 3 * pgsz()));
	EXPECT_EQ(pattern(1, 3, 0), *(uint64_t *)buf);
	EXPECT_EQ(0, buf[100]);
	EXPECT_EQ(0, buf[pgsz() - 1]);
	/* Something comes after it. */
	EXPECT_EQ(EINVAL, reflink(c, a));
	EXPECT_EQ(EINVAL, reflink_range(c, 0, a, 0, odd));
	EXPECT_EQ(EINVAL, reflink_range(c, pgsz(), a, 3 * pgsz(), 100));
	EXPECT_EQ(EINVAL, reflink_range(c, pgsz(), a, 3 * pgsz(), 0));
	EXPECT_TRUE(fd_is(c, 0, PAGES, 2));
	EXPECT_TRUE(holds(c, PAGES, 0));
	/* It ends there or before. */
	EXPECT_EQ(0, reflink_range(c, LEN - pgsz(), a, 2 * pgsz(), pgsz() + 100));
	EXPECT_EQ(LEN + 100, info(c).size);
	ASSERT_EQ(0, ftruncate(c, 6 * pgsz() + 100));
	EXPECT_EQ(0, reflink_range(c, 6 * pgsz(), a, 3 * pgsz(), 0));
	EXPECT_EQ(6 * pgsz() + 100, info(c).size);
	ASSERT_EQ(0, ftruncate(c, 6 * pgsz() + 99));
	EXPECT_EQ(0, reflink_range(c, 6 * pgsz(), a, 3 * pgsz(), 100));
	EXPECT_EQ(6 * pgsz() + 100, info(c).size);
	/* Part of a page that is not the last one. */
	ASSERT_EQ(0, ftruncate(c, 6 * pgsz()));
	EXPECT_EQ(EINVAL, reflink_range(c, 6 * pgsz(), a, 0, 100));
	EXPECT_EQ(EINVAL, reflink_range(c, 6 * pgsz(), a, 3 * pgsz(), 99));
	EXPECT_EQ(6 * pgsz(), info(c).size);
}

/* ---- what is refused ---- */

FIXTURE(refused) {
	int a, b;
	struct cowmem_info info;
};

FIXTURE_SETUP(refused)
{
	self->a = file_with(PAGES, 1);
	self->b = file_with(PAGES, 2);
	self->info = info(self->b);
}

/* Nothing happened. */
FIXTURE_TEARDOWN(refused)
{
	struct cowmem_info got = info(self->b);

	got.seals = 0;
	EXPECT_EQ(0, memcmp(&self->info, &got, sizeof(got)));
	EXPECT_TRUE(fd_is(self->b, 0, PAGES, 2));
	EXPECT_TRUE(holds(self->a, PAGES, 0));
}

TEST_F(refused, ranges)
{
	const struct { uint64_t src, dst, len; } bad[] = {
		{ 1, 0, pgsz() }, { 0, 1, pgsz() }, { 512, 512, pgsz() },
		{ 0, 0, 100 }, { 0, 0, pgsz() + 1 }, { 0, 0, LEN + pgsz() },
		{ 0, 0, LEN + 1 }, { LEN, 0, pgsz() }, { LEN + pgsz(), 0, 0 },
		{ 7 * pgsz(), 0, 2 * pgsz() },
		{ 0, -pgsz(), 2 * pgsz() }, { -pgsz(), 0, 2 * pgsz() },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(bad); i++)
		EXPECT_EQ(EINVAL, reflink_range(self->b, bad[i].dst, self->a,
						bad[i].src, bad[i].len))
			TH_LOG("range %zu", i);
	/* Further than a file goes. */
	EXPECT_NE(0, reflink_range(self->b, (1ULL << 63) - pgsz(), self->a, 0, pgsz()));
	EXPECT_EQ(EFAULT, ioctl(self->b, FICLONERANGE, NULL) ? errno : 0);
}

TEST_F(refused, overlap)
{
	EXPECT_EQ(EINVAL, reflink_range(self->b, pgsz(), self->b, 0, 2 * pgsz()));
	EXPECT_EQ(EINVAL, reflink_range(self->b, 0, self->b, pgsz(), 2 * pgsz()));
	EXPECT_EQ(EINVAL, reflink_range(self->b, 0, self->b, 0, pgsz()));
	/* By another file of it, too. */
	EXPECT_EQ(EINVAL, reflink_range(self->b, pgsz(), file_of(self->b, 0), 0,
					2 * pgsz()));
	EXPECT_EQ(EINVAL, dedupe(self->b, pgsz(), self->b, 0, 2 * pgsz(), NULL) +
		  2 * EINVAL);
}

TEST_F(refused, modes)
{
	int ro = file_of(self->b, COWMEM_FILE_RDONLY), wr = open_again(self->a, O_WRONLY);
	int view = file_of(self->b, COWMEM_FILE_VIEW);
	int append = open_again(self->b, O_RDWR | O_APPEND);
	int dev = region_of(1, 1), memfd = memfd_create("other", 0), err;

	EXPECT_EQ(EBADF, reflink(ro, self->a));
	EXPECT_EQ(EBADF, reflink(view, self->a));
	EXPECT_EQ(EBADF, reflink(snapshot(dev), self->a));
	EXPECT_EQ(EBADF, reflink(append, self->a));
	EXPECT_EQ(EBADF, reflink(self->b, wr));
	EXPECT_EQ(EBADF, reflink(self->b, -1));
	EXPECT_EQ(EXDEV, reflink(self->b, memfd));
	err = reflink(self->b, dev);
	EXPECT_TRUE(err == EXDEV || err == EINVAL)
		TH_LOG("from a device: %s", strerror(err));
	err = reflink(dev, self->b);
	EXPECT_TRUE(err == EXDEV || err == EINVAL || err == EOPNOTSUPP)
		TH_LOG("to a device: %s", strerror(err));
	EXPECT_EQ(-1, copy_file_range(self->a, NULL, ro, NULL, pgsz(), 0));
	EXPECT_EQ(EBADF, errno);
	EXPECT_EQ(-1, copy_file_range(self->a, NULL, append, NULL, pgsz(), 0));
	EXPECT_EQ(EBADF, errno);
}

TEST_F(refused, by_seals)
{
	int grow = cloned(self->b), write = cloned(self->b), future = cloned(self->b);
	int shrink = cloned(self->b), i;

	ASSERT_EQ(0, do_seal(grow, COWMEM_SEAL_GROW));
	ASSERT_EQ(0, do_seal(shrink, COWMEM_SEAL_SHRINK | COWMEM_SEAL_SEAL));
	ASSERT_EQ(0, do_seal(write, COWMEM_SEAL_WRITE));
	ASSERT_EQ(0, do_seal(future, COWMEM_SEAL_FUTURE_WRITE));
	for (i = 0; i < 2; i++) {
		int fd = i ? future : write;

		EXPECT_EQ(EPERM, reflink(fd, self->a));
		EXPECT_EQ(EPERM, reflink_range(fd, 0, self->a, 0, pgsz()));
		EXPECT_EQ(-1, copy_file_range(self->a, &(loff_t){ 0 }, fd,
					      &(loff_t){ 0 }, pgsz(), 0));
		EXPECT_EQ(EPERM, errno);
		EXPECT_TRUE(fd_is(fd, 0, PAGES, 2));
	}
	EXPECT_EQ(EPERM, reflink_range(grow, LEN, self->a, 0, pgsz()));
	EXPECT_EQ(EPERM, reflink_range(grow, LEN - pgsz(), self->a, 0, 2 * pgsz()));
	EXPECT_EQ(LEN, info(grow).size);
	EXPECT_TRUE(fd_is(grow, 0, PAGES, 2));
	EXPECT_EQ(0, reflink_range(grow, 0, self->b, 0, pgsz()));
	EXPECT_EQ(0, reflink_range(shrink, LEN, self->b, 0, pgsz()));
	/* A source may have any. */
	EXPECT_EQ(0, reflink(grow, write));
	EXPECT_EQ(0, reflink(grow, future));
	close(grow);
	close(shrink);
	close(write);
	close(future);
	self->info.clones = 4;
}

TEST_F(refused, by_the_limit_of_file_sizes)
{
	struct rlimit limit = { LEN, LEN };

	EXPECT_EQ(0, in_child(
		signal(SIGXFSZ, SIG_IGN);
		must(!setrlimit(RLIMIT_FSIZE, &limit));
		if (reflink_range(self->b, LEN, self->a, 0, pgsz()) != EFBIG)
			_exit(1);
		if (reflink_range(self->b, LEN - pgsz(), self->a, 0, 2 * pgsz()) != EFBIG)
			_exit(2);
	));
	/* It comes with a signal. */
	EXPECT_EQ(128 + SIGXFSZ, in_child(
		must(!setrlimit(RLIMIT_FSIZE, &limit));
		prctl(PR_SET_DUMPABLE, 0);
		reflink_range(self->b, LEN, self->a, 0, pgsz());
	));
	EXPECT_EQ(LEN, info(self->b).size);
}

/* ---- sources and targets of all kinds ---- */

TEST(snapshot_as_source)
{
	int a = file_with(PAGES, 1), snap = snapshot(a), b = file_with(PAGES, 2);

	fill(map_rw(a, PAGES), PAGES, 3, 0);
	EXPECT_EQ(0, reflink(b, snap));
	EXPECT_TRUE(fd_is(b, 0, PAGES, 1));
	EXPECT_EQ(0, reflink(a, file_of(snap, COWMEM_FILE_VIEW)));
	EXPECT_TRUE(fd_is(a, 0, PAGES, 1));
	fill(map_rw(b, PAGES), PAGES, 4, 0);
	EXPECT_TRUE(fd_is(snap, 0, PAGES, 1));
	EXPECT_EQ(LEN, info(snap).size);
}

TEST(mappings_of_the_target)
{
	int a = file_with(PAGES, 1), b = file_with(PAGES, 2), *turn;
	char *shared = map_rw(b, PAGES), *ro = map_ro(b, PAGES);
	char *priv = map_at(b, PAGES, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0);
	pid_t pid;

	turn = shared_mem(sizeof(*turn));
	pg_fill(priv + pgsz(), 9, 1);
	EXPECT_TRUE(is(priv + 2 * pgsz(), PAGES - 2, 2, 2));
	EXPECT_TRUE(is(ro, PAGES, 2, 0));
	pid = spawn();
	if (!pid) {
		if (!is(shared, PAGES, 2, 0))
			_exit(1);
		put(turn, 1);
		await(turn, 2);
		_exit(is(shared, PAGES, 1, 0) && is(ro, PAGES, 1, 0) ? 0 : 2);
	}
	await(turn, 1);
	pg_fill(shared + 3 * pgsz(), 5, 3);
	EXPECT_EQ(0, reflink(b, a));
	put(turn, 2);
	EXPECT_EQ(0, reap(pid));
	EXPECT_TRUE(is(shared, PAGES, 1, 0));
	EXPECT_TRUE(is(ro, PAGES, 1, 0));
	/* What a private mapping has for itself it keeps. */
	EXPECT_TRUE(is(priv, 1, 1, 0));
	EXPECT_TRUE(is(priv + pgsz(), 1, 9, 1));
	EXPECT_TRUE(is(priv + 2 * pgsz(), PAGES - 2, 1, 2));
	fill(shared, PAGES, 6, 0);
	EXPECT_TRUE(fd_is(a, 0, PAGES, 1));
}

/* See ordinary.c: the clock may still be in 1970. */
TEST(times)
{
	int a = file_with(PAGES, 1), b = file_with(PAGES, 2);
	const struct timespec old[2] = { { .tv_sec = 1 }, { .tv_sec = 1 } };
	struct stat st;

	ASSERT_EQ(0, futimens(a, old));
	ASSERT_EQ(0, futimens(b, old));
	EXPECT_EQ(0, reflink(b, a));
	ASSERT_EQ(0, fstat(b, &st));
	EXPECT_LT(1, st.st_mtime);
	ASSERT_EQ(0, fstat(a, &st));
	EXPECT_EQ(1, st.st_mtime);
}

/* ---- copy_file_range() ---- */

TEST(copies_share_what_they_can)
{
	int a = file_with(MANY, 1), b = file_with(0, 0);
	loff_t src = 0, dst = 0;
	char buf[3000];

	ASSERT_EQ(MANY * pgsz(), copy_file_range(a, &src, b, &dst, MANY * pgsz(), 0));
	EXPECT_EQ(MANY * pgsz(), src);
	EXPECT_EQ(MANY * pgsz(), dst);
	EXPECT_TRUE(holds(b, 0, MANY));
	EXPECT_TRUE(fd_is(b, 0, MANY, 1));
	/* More than there is. */
	src = (MANY - 2) * pgsz();
	dst = 0;
	ASSERT_EQ(2 * pgsz(), copy_file_range(a, &src, b, &dst, 10 * pgsz(), 0));
	EXPECT_TRUE(fd_range_is(b, 0, 2, 1, MANY - 2));
	EXPECT_TRUE(holds(b, 0, MANY));
	ASSERT_EQ(0, copy_file_range(a, &src, b, &dst, 10 * pgsz(), 0));
	/* What is not aligned is copied. */
	src = 100;
	dst = 5 * pgsz() + 7;
	ASSERT_EQ(sizeof(buf), copy_file_range(a, &src, b, &dst, sizeof(buf), 0));
	ASSERT_EQ(sizeof(buf), pread(b, buf, sizeof(buf), 5 * pgsz() + 7));
	EXPECT_EQ(0, memcmp(map_ro(a, 1) + 100, buf, sizeof(buf)));
	EXPECT_TRUE(holds(b, 1, MANY - 1));
	/* By the positions of the files. */
	ASSERT_EQ(pgsz(), lseek(a, pgsz(), SEEK_SET));
	ASSERT_EQ(0, lseek(b, 0, SEEK_SET));
	ASSERT_EQ(2 * pgsz(), copy_file_range(a, NULL, b, NULL, 2 * pgsz(), 0));
	EXPECT_EQ(3 * pgsz(), lseek(a, 0, SEEK_CUR));
	EXPECT_EQ(2 * pgsz(), lseek(b, 0, SEEK_CUR));
	EXPECT_TRUE(fd_range_is(b, 0, 2, 1, 1));
	/* Not over each other. */
	src = 0;
	dst = pgsz();
	EXPECT_EQ(-1, copy_file_range(a, &src, a, &dst, 2 * pgsz(), 0));
	EXPECT_EQ(EINVAL, errno);
	/* A part of the last page but one: its rest stays. */
	src = 0;
	dst = 10 * pgsz();
	ASSERT_LT(0, copy_file_range(snapshot(a), &src, b, &dst, pgsz() + 10, 0));
	EXPECT_TRUE(fd_range_is(b, 10, 1, 1, 0));
	ASSERT_EQ(1, pread(b, buf, 1, 11 * pgsz() + 10));
	EXPECT_EQ(map_ro(a, 12)[11 * pgsz() + 10], buf[0]);
}

/* ---- FIDEDUPERANGE ---- */

TEST(dedupe_shares_what_is_equal)
{
	int a = file_with(MANY, 1), b = file_with(MANY, 1), c = cloned(b);
	char *mem = map_rw(b, MANY);
	uint64_t bytes;

	EXPECT_EQ(FILE_DEDUPE_RANGE_SAME,
		  dedupe(b, 0, a, 0, MANY * pgsz(), &bytes));
	EXPECT_EQ(MANY * pgsz(), bytes);
	EXPECT_TRUE(is(mem, MANY, 1, 0));
	EXPECT_TRUE(holds(a, 0, MANY));
	EXPECT_TRUE(holds(b, 0, MANY));
	EXPECT_TRUE(holds(c, MANY, 0));
	/* Once more, nothing differs. */
	EXPECT_EQ(FILE_DEDUPE_RANGE_SAME, dedupe(b, 0, a, 0, MANY * pgsz(), NULL));
	pg_fill(mem, 2, 0);
	EXPECT_TRUE(fd_is(a, 0, 1, 1));
	EXPECT_EQ(FILE_DEDUPE_RANGE_DIFFERS, dedupe(b, 0, a, 0, 2 * pgsz(), &bytes));
	EXPECT_EQ(0, bytes);
	EXPECT_TRUE(fd_is(b, 0, 1, 2));
	EXPECT_TRUE(fd_is(b, 1, 1, 1));
	/* One byte, the last one of the range. */
	mem[20 * pgsz() - 1]++;
	EXPECT_EQ(FILE_DEDUPE_RANGE_DIFFERS,
		  dedupe(b, 10 * pgsz(), a, 10 * pgsz(), 10 * pgsz(), NULL));
	EXPECT_EQ(FILE_DEDUPE_RANGE_SAME,
		  dedupe(b, 10 * pgsz(), a, 10 * pgsz(), 9 * pgsz(), NULL));
	mem[20 * pgsz() - 1]--;
	EXPECT_EQ(FILE_DEDUPE_RANGE_SAME,
		  dedupe(b, 10 * pgsz(), a, 10 * pgsz(), 10 * pgsz(), NULL));
	EXPECT_TRUE(is(mem + pgsz(), MANY - 1, 1, 1));
}

/* A page of zeroes is equal to a hole. */
TEST(dedupe_of_holes)
{
	int a = file_with(PAGES, 0), b = file_with(PAGES, 1), c = file_with(PAGES, 0);
	char *mem = map_rw(b, PAGES);

	memset(mem, 0, LEN);
	EXPECT_TRUE(holds(b, PAGES, 0));
	EXPECT_EQ(FILE_DEDUPE_RANGE_SAME, dedupe(b, 0, a, 0, LEN, NULL));
	EXPECT_TRUE(holds(b, 0, 0));
	EXPECT_TRUE(is(mem, PAGES, 0, 0));
	EXPECT_EQ(FILE_DEDUPE_RANGE_SAME, dedupe(c, 0, a, 0, LEN, NULL));
	pg_fill(mem, 3, 0);
	EXPECT_EQ(FILE_DEDUPE_RANGE_DIFFERS, dedupe(b, 0, a, 0, LEN, NULL));
	EXPECT_TRUE(fd_is(b, 0, 1, 3));
}

TEST(dedupe_of_ends)
{
	int a = file_with(PAGES, 1), b = file_with(PAGES, 1), c;
	const size_t odd = 3 * pgsz() + 100;
	uint64_t bytes;

	EXPECT_EQ(-EINVAL, dedupe(b, 1, a, 0, pgsz(), NULL));
	EXPECT_EQ(-EINVAL, dedupe(b, 0, a, 1, pgsz(), NULL));
	EXPECT_EQ(-EINVAL, dedupe(b, 0, a, 0, LEN + pgsz(), NULL));
	EXPECT_EQ(-EINVAL, dedupe(b, pgsz(), a, 0, LEN, NULL));
	EXPECT_EQ(-EINVAL, dedupe(b, LEN, a, 0, pgsz(), NULL));
	/* Rounded down, as the rest of the page is not known to be equal. */
	EXPECT_EQ(0, dedupe(b, 0, a, 0, pgsz() + 5, &bytes));
	EXPECT_TRUE(holds(b, PAGES - 1, 1));
	ASSERT_EQ(0, ftruncate(a, odd));
	EXPECT_EQ(0, dedupe(b, 0, a, 0, odd, &bytes));
	EXPECT_TRUE(holds(b, PAGES - 3, 3));
	EXPECT_TRUE(fd_is(b, 0, PAGES, 1));
	/* Both end there. */
	c = file_with(PAGES, 1);
	ASSERT_EQ(0, ftruncate(c, odd));
	EXPECT_EQ(0, dedupe(c, 0, a, 0, odd, &bytes));
	EXPECT_EQ(odd, bytes);
	EXPECT_TRUE(holds(c, 0, 4));
}

/* Content does not change, so an owner may do it without write access; but no seal yields. */
TEST(dedupe_of_others)
{
	int a = file_with(PAGES, 1), b = file_with(PAGES, 1), sealed = file_with(PAGES, 1);
	int ro = file_of(b, COWMEM_FILE_RDONLY), snap = snapshot(b);

	EXPECT_EQ(-EPERM, dedupe(snap, 0, a, 0, LEN, NULL));
	ASSERT_EQ(0, do_seal(sealed, COWMEM_SEAL_WRITE));
	EXPECT_EQ(-EPERM, dedupe(sealed, 0, a, 0, LEN, NULL));
	EXPECT_TRUE(holds(sealed, PAGES, 0));
	EXPECT_EQ(0, in_child(
		become_nobody();
		if (dedupe(ro, 0, a, 0, LEN, NULL) != -EPERM)
			_exit(1);
	));
	EXPECT_EQ(0, dedupe(b, 0, sealed, 0, LEN, NULL));
	EXPECT_TRUE(holds(sealed, 0, PAGES));
	EXPECT_TRUE(fd_is(snap, 0, PAGES, 1));
}

/* ---- while others write and read ---- */

struct scene {
	char *src, *dst;
	int src_fd, dst_fd, stop, trouble;
	uint64_t rounds;
};

static uint64_t *stamp_at(char *mem, size_t page)
{
	return (void *)(mem + page * pgsz() + 8);
}

static uint64_t load(char *mem, size_t page)
{
	return __atomic_load_n(stamp_at(mem, page), __ATOMIC_ACQUIRE);
}

/* Goes through all pages of the source, round by round: no page is ahead of one before it. */
static void *stamps_source(void *arg)
{
	struct scene *s = arg;
	uint64_t n;
	size_t i;

	yield_to_main();
	for (n = 1; !get(&s->stop); n++) {
		for (i = 0; i < MANY / 2; i++)
			__atomic_store_n(stamp_at(s->src, i), n, __ATOMIC_RELEASE);
		for (; i < MANY; i++)
			must(pwrite(s->src_fd, &n, 8, i * pgsz() + 8) == 8);
		__atomic_store_n(&s->rounds, n, __ATOMIC_RELEASE);
	}
	return NULL;
}

TEST(writers_of_the_source)
{
	int a = file_with(MANY, 1), b = file_with(MANY, 2), i, torn = 0, n = 0;
	struct scene s = { .src = map_rw(a, MANY), .src_fd = a };
	char *seen = map_ro(b, MANY);
	double end = now() + effort(6);
	uint64_t last = 0;
	pthread_t thread;

	for (i = 0; i < MANY; i++)
		*stamp_at(s.src, i) = 0;
	must(!pthread_create(&thread, NULL, stamps_source, &s));
	await_count(&s.rounds, 2);
	while (now() < end && n < 1000) {
		ASSERT_EQ(0, n % 2 ? reflink(b, a) :
			  reflink_range(b, 0, a, 0, MANY * pgsz()));
		n++;
		EXPECT_LE(last, load(seen, 0));
		last = load(seen, 0);
		torn += load(seen, 0) != load(seen, MANY - 1);
		for (i = 1; i < MANY; i++) {
			uint64_t before = load(seen, i - 1), here = load(seen, i);

			ASSERT_TRUE(here == before || here + 1 == before)
				TH_LOG("page %d has %llu after %llu", i,
				       (unsigned long long)here,
				       (unsigned long long)before);
		}
		ASSERT_LE(load(seen, 0), load(seen, MANY - 1) + 1);
	}
	put(&s.stop, 1);
	pthread_join(thread, NULL);
	TH_LOG("%d calls under %llu rounds, %d in the middle of one", n,
	       (unsigned long long)s.rounds, torn);
	EXPECT_LT(0, torn);
}

static uint64_t look(struct scene *s, size_t page, bool mapped)
{
	uint64_t val;

	if (mapped)
		return load(s->dst, page);
	must(pread(s->dst_fd, &val, 8, page * pgsz() + 8) == 8);
	return val;
}

/* Reads the target: what is looked at later is never older, and never empty. */
static void *reads_target(void *arg)
{
	struct scene *s = arg;
	uint64_t state = (uintptr_t)arg ^ 88172645463325252ULL, v, w;

	yield_to_main();
	while (!get(&s->stop)) {
		size_t x, y;

		state ^= state << 13;
		state ^= state >> 7;
		state ^= state << 17;
		x = state % MANY;
		y = state / MANY % MANY;
		v = look(s, x, state & 1 << 20);
		w = look(s, y, state & 1 << 21);
		if (!v || w < v)
			put(&s->trouble, 1);
		__atomic_add_fetch(&s->rounds, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

TEST(readers_of_the_target)
{
	int a = file_with(MANY, 1), b = file_with(0, 0), n, i;
	struct scene s = { .src = map_rw(a, MANY), .dst_fd = b };
	double end = now() + effort(6);
	pthread_t thread[2];

	for (n = 1; n < 3000 && now() < end && !get(&s.trouble); n++) {
		for (i = 0; i < MANY; i++)
			*stamp_at(s.src, i) = n;
		if (n % 3 == 0) {
			loff_t src = 0, dst = 0;

			ASSERT_EQ(MANY * pgsz(), copy_file_range(a, &src, b, &dst,
								 MANY * pgsz(), 0));
		} else {
			ASSERT_EQ(0, reflink(b, a));
		}
		if (n > 1)
			continue;
		s.dst = map_rw(b, MANY);
		for (i = 0; i < 2; i++)
			must(!pthread_create(&thread[i], NULL, reads_target, &s));
		await_count(&s.rounds, 10);
	}
	put(&s.stop, 1);
	for (i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
	EXPECT_EQ(0, s.trouble);
	TH_LOG("%d calls, %llu looks", n, (unsigned long long)s.rounds);
	EXPECT_LT(100, s.rounds);
}

/* Writes what the source has, and then something else: each write stays until the next. */
static void *writes_target(void *arg)
{
	struct scene *s = arg;
	uint64_t n;

	for (n = 1; !get(&s->stop); n++) {
		size_t i = n % 4;
		uint64_t v = n / 4 % 2 ? n : 1;
		volatile int spin;

		__atomic_store_n(stamp_at(s->dst, i), v, __ATOMIC_RELEASE);
		for (spin = n % 700; spin; spin--)
			;
		if (load(s->dst, i) != v)
			put(&s->trouble, 1);
		__atomic_add_fetch(&s->rounds, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

TEST(dedupe_loses_no_write)
{
	int a = file_with(4, 0), b = file_with(4, 0), n, i, same = 0, other = 0, busy = 0;
	struct scene s = { .src = map_rw(a, 4), .dst = map_rw(b, 4) };
	double end = now() + effort(10);
	pthread_t thread;

	for (i = 0; i < 4; i++)
		*stamp_at(s.src, i) = *stamp_at(s.dst, i) = 1;
	must(!pthread_create(&thread, NULL, writes_target, &s));
	/* On a busy host it may take longer to come between two writes. */
	for (n = 0; n < 20000 && now() < end + (same ? 0 : 60) && !get(&s.trouble); n++) {
		int status = dedupe(b, n % 4 * pgsz(), a, n % 4 * pgsz(), pgsz(), NULL);

		same += status == FILE_DEDUPE_RANGE_SAME;
		other += status == FILE_DEDUPE_RANGE_DIFFERS;
		busy += status == -EBUSY;
		ASSERT_TRUE(status >= 0 || status == -EBUSY)
			TH_LOG("%s", strerror(-status));
	}
	put(&s.stop, 1);
	pthread_join(thread, NULL);
	EXPECT_EQ(0, s.trouble);
	TH_LOG("%d calls: %d equal, %d not, %d busy; %llu writes", n, same, other, busy,
	       (unsigned long long)s.rounds);
	EXPECT_LT(0, same);
	EXPECT_LT(0, other);
	for (i = 0; i < 4; i++)
		EXPECT_EQ(1, load(s.src, i));
}

TEST_HARNESS_MAIN
