// SPDX-License-Identifier: GPL-2.0-only
/*
 * Promise: a region can be had as a regular file.  It is the same region, with an inode,
 * a name, a mode and an owner of its own.  Mode and owner decide who can open it again
 * through /proc; a snapshot, a sealed region and a view are never opened for writing, not
 * even by root.  It lives until the last file is gone, whoever opens it at that moment.
 */
#include <pthread.h>
#include <sys/inotify.h>
#include <sys/syscall.h>

#include "../kselftest_harness.h"
#include "common.h"
#include "areas.h"
#include "files.h"
#include "module.h"


enum { PAGES = 4 };

#define LEN (PAGES * pgsz())

/* errno of opening it again, or 0; what was opened is closed. */
static int opening(int fd, int flags)
{
	int again = open_again(fd, flags);

	if (again < 0)
		return errno;
	close(again);
	return 0;
}

/* The same as nobody, in a child. */
static int opening_as_nobody(int fd, int flags)
{
	return in_child(
		become_nobody();
		_exit(opening(fd, flags));
	);
}

static int mode_of(int fd)
{
	return fcntl(fd, F_GETFL) & O_ACCMODE;
}

/* Can the file's memory be had writable? 0 or errno */
static int mapping_writable(int fd)
{
	char *mem = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (mem == MAP_FAILED)
		return errno;
	unmap(mem, PAGES);
	return 0;
}

/* ---- the ioctl ---- */

FIXTURE(ioctl) {
	int fd;
};

FIXTURE_VARIANT(ioctl) {
	enum { DEVICE, FROM_FILE, CLONE, SNAPSHOT, RDONLY, VIEW } from;
};

FIXTURE_VARIANT_ADD(ioctl, device) { .from = DEVICE };
FIXTURE_VARIANT_ADD(ioctl, file) { .from = FROM_FILE };
FIXTURE_VARIANT_ADD(ioctl, clone) { .from = CLONE };
FIXTURE_VARIANT_ADD(ioctl, snapshot) { .from = SNAPSHOT };
FIXTURE_VARIANT_ADD(ioctl, rdonly) { .from = RDONLY };
FIXTURE_VARIANT_ADD(ioctl, view) { .from = VIEW };

FIXTURE_SETUP(ioctl)
{
	int fd = region_of(PAGES, 1);

	switch (variant->from) {
	case DEVICE:
		self->fd = fd;
		break;
	case FROM_FILE:
		self->fd = file_of(fd, 0);
		break;
	case CLONE:
		self->fd = cloned(fd);
		break;
	case SNAPSHOT:
		self->fd = snapshot(fd);
		break;
	case RDONLY:
		self->fd = file_of(fd, COWMEM_FILE_RDONLY);
		break;
	case VIEW:
		self->fd = file_of(fd, COWMEM_FILE_VIEW);
		break;
	}
	if (self->fd != fd)
		close(fd);
}

FIXTURE_TEARDOWN(ioctl)
{
	EXPECT_TRUE(fd_is(self->fd, 0, PAGES, 1));
}

TEST_F(ioctl, modes)
{
	bool writable = variant->from <= CLONE;
	int rw = do_file(self->fd, 0, NULL), err = errno, ro, view;

	if (writable) {
		ASSERT_LE(0, rw);
		EXPECT_EQ(O_RDWR, mode_of(rw));
		EXPECT_EQ(FD_CLOEXEC, fcntl(rw, F_GETFD));
		EXPECT_EQ(LEN, stat_of(rw).st_size);
		EXPECT_TRUE(fd_is(rw, 0, PAGES, 1));
		EXPECT_EQ(0, mapping_writable(rw));
	} else {
		EXPECT_EQ(-1, rw);
		EXPECT_EQ(EBADF, err);
	}
	ro = do_file(self->fd, COWMEM_FILE_RDONLY, NULL);
	if (variant->from == VIEW) {
		EXPECT_EQ(-1, ro);
		EXPECT_EQ(EACCES, errno);
	} else {
		ASSERT_LE(0, ro);
		EXPECT_EQ(O_RDONLY, mode_of(ro));
		EXPECT_TRUE(fd_is(ro, 0, PAGES, 1));
		EXPECT_EQ(EACCES, mapping_writable(ro));
	}
	view = do_file(self->fd, COWMEM_FILE_VIEW, NULL);
	ASSERT_LE(0, view);
	EXPECT_EQ(O_RDONLY, mode_of(view));
	EXPECT_EQ(FD_CLOEXEC, fcntl(view, F_GETFD));
	EXPECT_TRUE(fd_is(view, 0, PAGES, 1));
}

TEST_F(ioctl, flags_and_structs)
{
	struct cowmem_file arg, *ro = (void *)anon(1);
	int before = count_fds();
	unsigned int bit;
	struct {
		struct cowmem_file arg;
		uint64_t tail;
	} longer = { .arg = { .flags = COWMEM_FILE_VIEW } };

	for (bit = 3; bit < 32; bit++) {
		arg = (struct cowmem_file) { .flags = 1U << bit, .fd = 77 };
		EXPECT_EQ(-1, ioctl(self->fd, COWMEM_IOC_FILE, &arg));
		EXPECT_EQ(EOPNOTSUPP, errno);
		EXPECT_EQ(77, arg.fd);
	}
	EXPECT_EQ(-1, do_file(self->fd, COWMEM_FILE_RDONLY | COWMEM_FILE_VIEW, NULL));
	EXPECT_EQ(EINVAL, errno);
	/* It cannot be written to: no descriptor is left behind. */
	ro->flags = COWMEM_FILE_VIEW;
	ASSERT_EQ(0, mprotect(ro, pgsz(), PROT_READ));
	EXPECT_EQ(-1, ioctl(self->fd, COWMEM_IOC_FILE, ro));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(-1, ioctl(self->fd, COWMEM_IOC_FILE, NULL));
	EXPECT_EQ(EFAULT, errno);
	longer.tail = 1;
	EXPECT_EQ(-1, ioctl(self->fd, _IOWR(COWMEM_IOC_TYPE, 10, longer), &longer));
	EXPECT_EQ(E2BIG, errno);
	EXPECT_EQ(-1, ioctl(self->fd, _IOC(_IOC_READ | _IOC_WRITE,
					   COWMEM_IOC_TYPE, 10, 8), &arg));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(before, count_fds());
	longer.tail = 0;
	EXPECT_EQ(0, ioctl(self->fd, _IOWR(COWMEM_IOC_TYPE, 10, longer), &longer));
	close(longer.arg.fd);
	EXPECT_EQ(before, count_fds());
}

TEST_F(ioctl, names)
{
	char name[300], text[512], path[96], want[400], *bad = guarded(1);
	const size_t lens[] = { 1, 7, 246, 247, 248 };
	size_t i;
	int fd;

	for (i = 0; i < ARRAY_SIZE(lens); i++) {
		ssize_t n;
		char *mem;

		memset(name, 'a' + i, lens[i]);
		name[lens[i]] = 0;
		fd = do_file(self->fd, COWMEM_FILE_VIEW, name);
		ASSERT_LE(0, fd);
		sprintf(want, "/cowmem:%s (deleted)", name);
		sprintf(path, "/proc/self/fd/%d", fd);
		n = readlink(path, text, sizeof(text) - 1);
		ASSERT_LT(0, n);
		text[n] = 0;
		EXPECT_STREQ(want, text);
		mem = map_ro(fd, 1);
		sprintf(path, "/proc/self/map_files/%lx-%lx", (unsigned long)mem,
			(unsigned long)mem + pgsz());
		n = readlink(path, text, sizeof(text) - 1);
		ASSERT_LT(0, n);
		text[n] = 0;
		EXPECT_STREQ(want, text);
		unmap(mem, 1);
		close(fd);
	}
	memset(name, 'x', sizeof(name));
	name[249] = 0;
	EXPECT_EQ(-1, do_file(self->fd, COWMEM_FILE_VIEW, name));
	EXPECT_EQ(EINVAL, errno);
	name[249] = 'x';
	name[sizeof(name) - 1] = 0;
	EXPECT_EQ(-1, do_file(self->fd, COWMEM_FILE_VIEW, name));
	EXPECT_EQ(EINVAL, errno);
	memset(bad, 'x', pgsz());
	EXPECT_EQ(-1, do_file(self->fd, COWMEM_FILE_VIEW, bad + pgsz() - 5));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(-1, do_file(self->fd, COWMEM_FILE_VIEW, (char *)1));
	EXPECT_EQ(EFAULT, errno);
	/* Up to the last byte that can be read. */
	bad[pgsz() - 1] = 0;
	EXPECT_LE(0, do_file(self->fd, COWMEM_FILE_VIEW, bad + pgsz() - 5));
}

TEST_F(ioctl, no_descriptor_is_left)
{
	struct rlimit limit, none;
	int before = count_fds();

	ASSERT_EQ(0, getrlimit(RLIMIT_NOFILE, &limit));
	none = limit;
	none.rlim_cur = 0;
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &none));
	EXPECT_EQ(-1, do_file(self->fd, COWMEM_FILE_VIEW, NULL));
	EXPECT_EQ(EMFILE, errno);
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &limit));
	EXPECT_EQ(before, count_fds());
}

/* It goes with each kind of file, and needs a descriptor that is open for writing. */
TEST_F(ioctl, huge)
{
	const uint32_t kinds[] = { 0, COWMEM_FILE_RDONLY, COWMEM_FILE_VIEW };
	bool writable = variant->from <= CLONE;
	int i, fd;

	for (i = 0; i < 3; i++) {
		fd = do_file(self->fd, kinds[i] | COWMEM_FILE_HUGE, "huge");
		if (!writable) {
			EXPECT_EQ(-1, fd);
			EXPECT_EQ(EBADF, errno);
			continue;
		}
		ASSERT_LE(0, fd);
		EXPECT_EQ(kinds[i] ? O_RDONLY : O_RDWR, mode_of(fd));
		EXPECT_EQ(kinds[i] ? EACCES : 0, mapping_writable(fd));
		/* A view is one. */
		EXPECT_EQ(kinds[i] == COWMEM_FILE_VIEW ? EACCES : 0, opening(fd, O_RDWR));
		EXPECT_TRUE(fd_is(fd, 0, PAGES, 1));
		close(fd);
	}
	EXPECT_EQ(-1, do_file(self->fd, COWMEM_FILE_RDONLY | COWMEM_FILE_VIEW |
			      COWMEM_FILE_HUGE, NULL));
	EXPECT_EQ(EINVAL, errno);
}

/* ---- what gets memory by areas ---- */

/* Is a store to what holds nothing given all of an area?  -1 if there is no such memory. */
static int gets_huge(int fd, uint64_t area)
{
	char *mem = mmap(NULL, AREA * pgsz(), PROT_READ | PROT_WRITE, MAP_SHARED, fd,
			 area * AREA * pgsz());
	uint64_t before = info(fd).pages_huge;

	must(mem != MAP_FAILED);
	mem[7 * pgsz()] = 1;
	unmap(mem, AREA);
	return info(fd).pages_huge == before + AREA;
}

TEST(huge_is_of_the_region_and_inherited)
{
	int fd = region(), file, clone, fds[2];
	struct cowmem_clone_many many = {
		.fds = (uintptr_t)fds, .clones = (uintptr_t)fds, .count = 2,
	};

	if (no_areas(7))
		SKIP(return, "%s", no_areas(7));
	ASSERT_EQ(0, do_resize(fd, 64 * AREA * pgsz()));
	EXPECT_EQ(0, gets_huge(fd, 0));
	clone = cloned(fd);
	EXPECT_EQ(0, gets_huge(clone, 2));
	file = do_file(fd, COWMEM_FILE_HUGE | COWMEM_FILE_VIEW, NULL);
	ASSERT_LE(0, file);
	close(file);
	EXPECT_EQ(1, gets_huge(fd, 4));
	EXPECT_EQ(1, gets_huge(file_of(fd, 0), 6));
	/* A clone from before stays as it was. */
	EXPECT_EQ(0, gets_huge(clone, 8));
	EXPECT_EQ(1, gets_huge(cloned(fd), 10));
	EXPECT_EQ(1, gets_huge(cloned(snapshot(fd)), 10));
	EXPECT_EQ(1, gets_huge(do_clone(fd, 0, 8 * AREA * pgsz(), 32 * AREA * pgsz()), 10));
	fds[0] = fd;
	fds[1] = clone;
	ASSERT_EQ(0, ioctl(fd, COWMEM_IOC_CLONE_MANY, &many));
	EXPECT_EQ(1, gets_huge(fds[0], 12));
	EXPECT_EQ(0, gets_huge(fds[1], 12));
}

/* A region that takes the content of another one keeps its own setting. */
TEST(huge_does_not_come_with_content)
{
	int a = region(), b = region();
	struct cowmem_restore restore = { .fd = a, .flags = COWMEM_RESTORE_SIZE };
	struct cowmem_copy copy = { .fd = a, .length = pgsz() };

	if (no_areas(2))
		SKIP(return, "%s", no_areas(2));
	ASSERT_EQ(0, do_resize(a, 64 * AREA * pgsz()));
	a = file_of(a, COWMEM_FILE_HUGE);
	b = file_of(b, 0);
	ASSERT_EQ(0, ioctl(b, COWMEM_IOC_RESTORE, &restore));
	EXPECT_EQ(0, gets_huge(b, 2));
	ASSERT_EQ(0, ioctl(b, COWMEM_IOC_COPY, &copy));
	EXPECT_EQ(0, gets_huge(b, 4));
	ASSERT_EQ(0, ioctl(b, _IOW(0x94, 9, int) /* FICLONE */, a));
	EXPECT_EQ(0, gets_huge(b, 6));
	EXPECT_EQ(1, gets_huge(a, 8));
}

/* A call that fails has not done it. */
TEST(huge_needs_a_call_that_succeeds)
{
	struct cowmem_file *ro = (void *)anon(1);
	struct rlimit limit, none;
	int fd = region();

	if (no_areas(2))
		SKIP(return, "%s", no_areas(2));
	ASSERT_EQ(0, do_resize(fd, 64 * AREA * pgsz()));
	ro->flags = COWMEM_FILE_HUGE;
	ASSERT_EQ(0, mprotect(ro, pgsz(), PROT_READ));
	EXPECT_EQ(-1, ioctl(fd, COWMEM_IOC_FILE, ro));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(-1, do_file(fd, COWMEM_FILE_HUGE, (char *)1));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(-1, do_file(fd, COWMEM_FILE_HUGE | 8, NULL));
	EXPECT_EQ(EOPNOTSUPP, errno);
	ASSERT_EQ(0, getrlimit(RLIMIT_NOFILE, &limit));
	none = limit;
	none.rlim_cur = 0;
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &none));
	EXPECT_EQ(-1, do_file(fd, COWMEM_FILE_HUGE, NULL));
	EXPECT_EQ(EMFILE, errno);
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &limit));
	EXPECT_EQ(0, gets_huge(fd, 2));
	close(file_of(fd, COWMEM_FILE_HUGE));
	EXPECT_EQ(1, gets_huge(fd, 4));
}

/* The administrator's setting when the region was made holds, whoever asks. */
TEST(huge_never)
{
	int fd, always;

	ASSERT_EQ(0, write_file(HUGE, "never"));
	fd = region();
	ASSERT_EQ(0, write_file(HUGE, "always"));
	always = region();
	ASSERT_EQ(0, write_file(HUGE, "advise"));
	EXPECT_EQ(-1, write_file(HUGE, "sometimes"));
	if (no_areas(2))
		SKIP(return, "%s", no_areas(2));
	ASSERT_EQ(0, do_resize(fd, 64 * AREA * pgsz()));
	ASSERT_EQ(0, do_resize(always, 64 * AREA * pgsz()));
	EXPECT_EQ(1, gets_huge(always, 0));
	fd = file_of(fd, COWMEM_FILE_HUGE);
	EXPECT_EQ(0, gets_huge(fd, 0));
	EXPECT_EQ(0, gets_huge(cloned(fd), 2));
}

/* ---- where mappings are placed ---- */

/* Wherever a whole area of the file is in it, and whatever kind of file it is. */
TEST(large_mappings_fit_pmds)
{
	int dev = region_of(16 * AREA, 0);
	int fds[] = {
		dev, file_of(dev, 0), file_of(dev, COWMEM_FILE_VIEW), cloned(dev),
		snapshot(dev),
		do_clone(dev, COWMEM_CLONE_SNAPSHOT | COWMEM_CLONE_EXPENDABLE, 0, 0),
	};
	const uint64_t at[] = { 0, 1, 100, AREA - 1, AREA, 5 * AREA + 3 };
	size_t i, k, huge = AREA * pgsz();
	char *mem, *moved;

	if (no_areas(1))
		SKIP(return, "%s", no_areas(1));
	if (sizeof(mem) < 8)
		SKIP(return, "the kernel aligns no mapping of a 32-bit program");
	for (i = 0; i < ARRAY_SIZE(fds); i++)
		for (k = 0; k < ARRAY_SIZE(at); k++) {
			mem = map_at(fds[i], 2 * AREA + k, PROT_READ, MAP_SHARED, at[k]);
			EXPECT_EQ(at[k] * pgsz() % huge, (uintptr_t)mem % huge)
				TH_LOG("file %zu, page %llu", i, (unsigned long long)at[k]);
			/* So that nothing fits by chance. */
			map_at(fds[i], 1, PROT_READ, MAP_SHARED, 0);
			/* A mapping that has to move to grow is aligned, too. */
			moved = mremap(mem, (2 * AREA + k) * pgsz(), 5 * huge, MREMAP_MAYMOVE);
			ASSERT_NE(MAP_FAILED, moved);
			EXPECT_EQ(at[k] * pgsz() % huge, (uintptr_t)moved % huge);
			map_at(fds[i], 1, PROT_READ, MAP_PRIVATE, 0);
		}
	/* Small ones are anywhere, and MAP_FIXED is where it says. */
	mem = map_at(dev, 3 * AREA, PROT_READ, MAP_SHARED, 0);
	EXPECT_EQ(mem + pgsz(), mmap(mem + pgsz(), huge, PROT_READ, MAP_SHARED | MAP_FIXED,
				     dev, 0));
	EXPECT_EQ(mem, mmap(mem, 1, PROT_READ, MAP_SHARED | MAP_FIXED, fds[1], 5 * pgsz()));
	EXPECT_EQ(MAP_FAILED, mmap(NULL, SIZE_MAX / 16 + 1, PROT_READ, MAP_SHARED, fds[1], 0));
	EXPECT_EQ(ENOMEM, errno);
	/* Where there is no room to align it, anywhere will do. */
	EXPECT_EQ(0, in_child(
		struct rlimit as = { 0, 0 };
		_exit(setrlimit(RLIMIT_AS, &as) ||
		      mmap(NULL, huge, PROT_READ, MAP_SHARED, dev, 0) != MAP_FAILED)));
}

/* Whoever may read it only gets no more. */
TEST(needs_the_mode)
{
	int rd = open(COWMEM_DEV, O_RDONLY), wr = open(COWMEM_DEV, O_WRONLY), i;

	ASSERT_LE(0, rd);
	ASSERT_LE(0, wr);
	EXPECT_EQ(-1, do_file(rd, 0, NULL));
	EXPECT_EQ(EBADF, errno);
	EXPECT_LE(0, do_file(rd, COWMEM_FILE_RDONLY, NULL));
	EXPECT_LE(0, do_file(rd, COWMEM_FILE_VIEW, NULL));
	for (i = 0; i <= 2; i++) {
		EXPECT_EQ(-1, do_file(wr, i, NULL));
		EXPECT_EQ(EBADF, errno);
	}
	EXPECT_EQ(-1, do_file(open(COWMEM_DEV, O_PATH), 1, NULL));
	EXPECT_EQ(EBADF, errno);
	EXPECT_EQ(-1, do_file(open("/dev/zero", O_RDWR), 0, NULL));
	EXPECT_EQ(ENOTTY, errno);
}

TEST(sealed_regions)
{
	const uint32_t seals[] = { COWMEM_SEAL_WRITE, COWMEM_SEAL_FUTURE_WRITE };
	int i;

	for (i = 0; i < 2; i++) {
		int fd = region_of(PAGES, 1), old = file_of(fd, 0), ro;

		ASSERT_EQ(0, do_seal(fd, COWMEM_SEAL_GROW | COWMEM_SEAL_SHRINK));
		EXPECT_EQ(0, opening(old, O_RDWR));
		close(file_of(fd, 0));
		ASSERT_EQ(0, do_seal(fd, seals[i]));
		EXPECT_EQ(-1, do_file(fd, 0, NULL));
		EXPECT_EQ(EPERM, errno);
		ro = do_file(fd, COWMEM_FILE_RDONLY, NULL);
		ASSERT_LE(0, ro);
		EXPECT_LE(0, do_file(fd, COWMEM_FILE_VIEW, NULL));
		EXPECT_EQ(EPERM, opening(old, O_RDWR));
		EXPECT_EQ(EPERM, opening(old, O_WRONLY));
		EXPECT_EQ(0, opening(old, O_RDONLY));
		EXPECT_EQ(EPERM, opening(ro, O_RDWR));
		ASSERT_EQ(0, fchmod(ro, 0666));
		EXPECT_EQ(EPERM, opening(ro, O_RDWR));
		EXPECT_EQ(EPERM, opening_as_nobody(ro, O_RDWR));
		EXPECT_EQ(0, opening_as_nobody(ro, O_RDONLY));
		/* What is open stays so, and cannot write either. */
		EXPECT_EQ(-1, pwrite(old, "x", 1, 0));
		EXPECT_EQ(EPERM, errno);
		EXPECT_TRUE(fd_is(old, 0, PAGES, 1));
		/* A clone is not sealed. */
		EXPECT_EQ(0, opening(cloned(ro), O_RDWR));
	}
}

/* ---- one region, many files ---- */

TEST(all_are_the_same_region)
{
	int dev = region_of(PAGES, 1), a = file_of(dev, 0), b = file_of(a, 0);
	int again = open_again(a, O_RDWR), ro = file_of(a, COWMEM_FILE_RDONLY);
	char *m[4] = {
		map_rw(dev, PAGES), map_rw(a, PAGES), map_rw(again, PAGES),
		map_ro(ro, PAGES),
	};
	const int fds[] = { dev, a, b, again, ro };
	struct cowmem_info want;
	size_t i;

	for (i = 0; i < 3; i++) {
		size_t k;

		pg_fill(m[i] + i * pgsz(), 2 + i, i);
		for (k = 0; k < 4; k++)
			EXPECT_TRUE(is(m[k] + i * pgsz(), 1, 2 + i, i));
	}
	ASSERT_EQ(0, do_resize(b, 2 * LEN + 5));
	close(cloned(again));
	ASSERT_EQ(0, do_seal(dev, COWMEM_SEAL_GROW));
	want = info(dev);
	EXPECT_EQ(1, want.clones);
	EXPECT_EQ(COWMEM_SEAL_GROW, want.seals);
	EXPECT_EQ(2 * LEN + 5, want.size);
	for (i = 0; i < ARRAY_SIZE(fds); i++) {
		struct cowmem_info got = info(fds[i]);

		EXPECT_EQ(0, memcmp(&want, &got, sizeof(got)));
		EXPECT_EQ(2 * LEN + 5, lseek(fds[i], 0, SEEK_END));
	}
	EXPECT_EQ(stat_of(a).st_ino, stat_of(b).st_ino);
	EXPECT_EQ(stat_of(a).st_ino, stat_of(ro).st_ino);
	EXPECT_EQ(stat_of(a).st_ino, stat_of(again).st_ino);
	EXPECT_EQ(stat_of(a).st_dev, stat_of(ro).st_dev);
	/* Each has a position of its own. */
	EXPECT_EQ(3, lseek(a, 3, SEEK_SET));
	EXPECT_EQ(2 * LEN + 5, lseek(again, 0, SEEK_CUR));
	/* Any may be the last one. */
	close(dev);
	close(a);
	for (i = 0; i < 4; i++)
		if (i != 2)
			unmap(m[i], PAGES);
	close(again);
	close(b);
	EXPECT_TRUE(fd_is(ro, 2, 1, 4));
	pg_fill(m[2], 9, 0);
	EXPECT_TRUE(fd_is(ro, 0, 1, 9));
	close(ro);
	EXPECT_TRUE(is(m[2], 1, 9, 0));
}

/* RESTORE, COPY, DIFF, MERGE, CLONE_MANY take files wherever they take regions. */
TEST(ioctls_take_files)
{
	int a = file_of(region_of(PAGES, 1), 0), snap = snapshot(a);
	int ro = file_of(snap, COWMEM_FILE_RDONLY), fds[2] = { a, ro };
	struct cowmem_restore restore = { .fd = ro };
	struct cowmem_copy copy = { .fd = ro, .length = pgsz(), .dst_offset = pgsz() };
	struct cowmem_extent e[8];
	struct cowmem_diff diff = { .fd = ro, .extents = (uintptr_t)e, .count = 8 };
	struct cowmem_clone_many many = {
		.fds = (uintptr_t)fds, .clones = (uintptr_t)fds, .count = 2,
	};
	struct cowmem_merge merge = {};
	char *mem = map_rw(a, PAGES);

	fill(mem, PAGES, 2, 0);
	ASSERT_EQ(0, ioctl(a, COWMEM_IOC_DIFF, &diff));
	EXPECT_EQ(LEN, e[0].length);
	ASSERT_EQ(0, ioctl(a, COWMEM_IOC_RESTORE, &restore));
	EXPECT_EQ(PAGES, restore.pages);
	EXPECT_TRUE(is(mem, PAGES, 1, 0));
	ASSERT_EQ(0, ioctl(a, COWMEM_IOC_COPY, &copy));
	EXPECT_TRUE(is(mem + pgsz(), 1, 1, 0));
	pg_fill(mem, 7, 0);
	pg_fill(mem + pgsz(), 7, 0);
	ASSERT_EQ(0, do_merge(&merge, (int[]){ a }, 1));
	EXPECT_EQ(1, merge.merged);
	ASSERT_EQ(0, ioctl(a, COWMEM_IOC_CLONE_MANY, &many));
	EXPECT_TRUE(fd_is(fds[0], 0, 1, 7));
	EXPECT_TRUE(fd_is(fds[1], 0, PAGES, 1));
	EXPECT_TRUE(S_ISREG(stat_of(fds[0]).st_mode));
	EXPECT_EQ(O_RDWR, mode_of(fds[1]));
}

TEST(fstat_tells_of_the_region)
{
	int dev = region_of(PAGES, 1), file = file_of(dev, 0), clone = cloned(dev);
	int snap = snapshot(dev), view = file_of(dev, COWMEM_FILE_VIEW);
	const int fds[] = { file, clone, snap, view };
	char want[64], text[128], path[64];
	size_t i;
	int fd;

	for (i = 0; i < ARRAY_SIZE(fds); i++) {
		struct stat st = stat_of(fds[i]);

		EXPECT_TRUE(S_ISREG(st.st_mode));
		EXPECT_EQ(fds[i] == snap ? 0400 : 0600, st.st_mode & 07777);
		EXPECT_EQ(LEN, st.st_size);
		EXPECT_EQ(LEN / 512, st.st_blocks);
		EXPECT_EQ(0, st.st_uid);
		EXPECT_EQ(0, st.st_gid);
		EXPECT_EQ(0, st.st_nlink);
		EXPECT_EQ(pgsz(), st.st_blksize);
		sprintf(path, "/proc/self/fd/%d", fds[i]);
		text[readlink(path, text, sizeof(text) - 1)] = 0;
		sprintf(want, "/cowmem:%llu (deleted)", (unsigned long long)st.st_ino);
		EXPECT_EQ(0, strncmp(want, text, strlen(want)))
			TH_LOG("%s, not %s", text, want);
	}
	EXPECT_TRUE(S_ISCHR(stat_of(dev).st_mode));
	EXPECT_NE(stat_of(file).st_ino, stat_of(clone).st_ino);
	EXPECT_NE(stat_of(snap).st_ino, stat_of(clone).st_ino);
	/* Holes take no blocks; an odd size is told as it is. */
	ASSERT_EQ(0, do_discard(dev, pgsz(), pgsz()));
	ASSERT_EQ(0, do_resize(dev, LEN - 7));
	EXPECT_EQ((PAGES - 1) * pgsz() / 512, stat_of(file).st_blocks);
	EXPECT_EQ(LEN - 7, stat_of(view).st_size);
	EXPECT_EQ(LEN, stat_of(snap).st_size);
	/* What is made of one region is not made of the other. */
	ASSERT_EQ(0, fchmod(file, 0640));
	ASSERT_EQ(0, fchown(file, 7, 8));
	EXPECT_EQ(0640, stat_of(view).st_mode & 07777);
	EXPECT_EQ(7, stat_of(view).st_uid);
	EXPECT_EQ(8, stat_of(view).st_gid);
	EXPECT_EQ(0600, stat_of(clone).st_mode & 07777);
	EXPECT_EQ(0, stat_of(clone).st_uid);
	EXPECT_EQ(0600, stat_of(dev).st_mode & 07777);
	/* A clone belongs to its maker, with the mode of a new region. */
	EXPECT_EQ(0600, stat_of(cloned(file)).st_mode & 07777);
	EXPECT_EQ(0, in_child(
		prctl(PR_SET_DUMPABLE, 1);
		become_nobody();
		fd = do_clone(dev, 0, 0, 0);
		if (stat_of(fd).st_uid != NOBODY || stat_of(fd).st_gid != NOBODY)
			_exit(1);
		_exit(opening(fd, O_RDWR));
	));
}

/* ---- opening it again ---- */

TEST(by_mode_and_owner)
{
	int dev = region_of(PAGES, 1), file = file_of(dev, 0), fd;
	int ro = file_of(dev, COWMEM_FILE_RDONLY);

	/* Root may, and so it is no more than a convenience that it was read-only. */
	fd = open_again(ro, O_RDWR);
	ASSERT_LE(0, fd);
	EXPECT_EQ(1, pwrite(fd, "x", 1, LEN));
	EXPECT_EQ(LEN + 1, info(dev).size);
	EXPECT_EQ(0, mapping_writable(fd));
	ASSERT_EQ(0, ftruncate(fd, LEN));
	EXPECT_EQ(-1, pwrite(ro, "x", 1, 0));
	EXPECT_EQ(EBADF, errno);
	EXPECT_EQ(O_WRONLY, mode_of(open_again(file, O_WRONLY)));

	EXPECT_EQ(EACCES, opening_as_nobody(file, O_RDONLY));
	EXPECT_EQ(EACCES, opening_as_nobody(file, O_RDWR));
	EXPECT_EQ(EACCES, opening_as_nobody(ro, O_RDWR));
	ASSERT_EQ(0, fchmod(file, 0644));
	EXPECT_EQ(0, opening_as_nobody(ro, O_RDONLY));
	EXPECT_EQ(EACCES, opening_as_nobody(ro, O_RDWR));
	EXPECT_EQ(EACCES, opening_as_nobody(file, O_RDONLY | O_TRUNC));
	EXPECT_EQ(LEN, info(dev).size);
	ASSERT_EQ(0, fchmod(file, 0666));
	EXPECT_EQ(0, opening_as_nobody(ro, O_RDWR));
	ASSERT_EQ(0, fchmod(file, 0600));
	ASSERT_EQ(0, fchown(file, NOBODY, -1));
	EXPECT_EQ(0, opening_as_nobody(ro, O_RDWR));
	/* Only its owner can change that. */
	ASSERT_EQ(0, fchown(file, 0, -1));
	EXPECT_EQ(EPERM, in_child(
		become_nobody();
		_exit(fchmod(file, 0666) ? errno : 0);
	));
	EXPECT_EQ(EPERM, in_child(
		become_nobody();
		_exit(fchown(file, NOBODY, -1) ? errno : 0);
	));
	/* Truncation at opening is of the region. */
	EXPECT_EQ(0, opening(file, O_RDWR | O_TRUNC));
	EXPECT_EQ(0, info(dev).size);
}

TEST(device_makes_another_one)
{
	int dev = region_of(PAGES, 1), fd = open_again(dev, O_RDWR);

	ASSERT_LE(0, fd);
	EXPECT_EQ(0, info(fd).size);
	EXPECT_EQ(LEN, info(dev).size);
}

TEST(snapshot_is_never_opened_for_writing)
{
	int snap = snapshot(region_of(PAGES, 1)), ro = file_of(snap, COWMEM_FILE_RDONLY);
	const int fds[] = { snap, ro }, modes[] = { O_RDWR, O_WRONLY };
	size_t i, k;
	char path[64];

	for (i = 0; i < 4; i++) {
		if (i == 1)
			ASSERT_EQ(0, fchmod(snap, 0666));
		if (i == 2)
			ASSERT_EQ(0, fchown(snap, NOBODY, NOBODY));
		for (k = 0; k < 4; k++) {
			int fd = fds[k / 2];

			EXPECT_EQ(EPERM, opening(fd, modes[k % 2]));
			EXPECT_EQ(i ? EPERM : EACCES,
				  opening_as_nobody(fd, modes[k % 2]));
		}
		EXPECT_EQ(EPERM, opening(snap, O_RDWR | O_TRUNC));
		EXPECT_EQ(EPERM, opening(snap, O_RDONLY | O_TRUNC));
		sprintf(path, "/proc/self/fd/%d", snap);
		EXPECT_EQ(-1, truncate(path, 1));
		EXPECT_EQ(EPERM, errno);
		EXPECT_EQ(0, opening(ro, O_RDONLY));
		EXPECT_EQ(i ? 0 : EACCES, opening_as_nobody(ro, O_RDONLY));
	}
	EXPECT_TRUE(fd_is(open_again(snap, O_RDONLY), 0, PAGES, 1));
	EXPECT_EQ(LEN, info(snap).size);
}

/* ---- views ---- */

FIXTURE(view) {
	int fd, view;
	char *mem, *seen;
};

FIXTURE_VARIANT(view) {
	bool of_view, device;
};

FIXTURE_VARIANT_ADD(view, of_a_device) { .device = true };
FIXTURE_VARIANT_ADD(view, of_a_file) { .device = false };
FIXTURE_VARIANT_ADD(view, of_a_view) { .of_view = true };

FIXTURE_SETUP(view)
{
	self->fd = region_of(PAGES, 1);
	if (!variant->device)
		self->fd = file_of(self->fd, 0);
	self->view = file_of(self->fd, COWMEM_FILE_VIEW);
	if (variant->of_view)
		self->view = file_of(self->view, COWMEM_FILE_VIEW);
	self->mem = map_rw(self->fd, PAGES);
	self->seen = map_ro(self->view, PAGES);
}

FIXTURE_TEARDOWN(view)
{
}

TEST_F(view, shows_live_memory)
{
	char buf[pgsz()];
	int i;

	EXPECT_TRUE(is(self->seen, PAGES, 1, 0));
	for (i = 2; i < 20; i++) {
		pg_fill(self->mem + i % PAGES * pgsz(), i, i % PAGES);
		EXPECT_TRUE(is(self->seen + i % PAGES * pgsz(), 1, i, i % PAGES));
		ASSERT_EQ((ssize_t)pgsz(), pread(self->view, buf, pgsz(),
						 i % PAGES * pgsz()));
		EXPECT_TRUE(is(buf, 1, i, i % PAGES));
		if (i == 10)
			close(cloned(self->view));
	}
	ASSERT_EQ(0, do_resize(self->fd, pgsz()));
	EXPECT_EQ(SIGBUS, touch(self->seen + pgsz(), false));
	EXPECT_EQ(pgsz(), stat_of(self->view).st_size);
}

/* Whoever tries: the owner, root, before and after all that mode and owner can do. */
TEST_F(view, writes_nothing)
{
	int i, rw = open_again(self->view, O_RDONLY);
	struct iovec iov = { "x", 1 };
	char path[3][96];

	ASSERT_LE(0, rw);
	for (i = 0; i < 3; i++) {
		int fd = i == 1 ? rw : self->view;
		char *mem = map_ro(fd, PAGES);

		EXPECT_EQ(EACCES, mapping_writable(fd));
		EXPECT_EQ(-1, mprotect(mem, LEN, PROT_READ | PROT_WRITE));
		EXPECT_EQ(EACCES, errno);
		EXPECT_EQ(SIGSEGV, poke(mem, 1));
		EXPECT_NE(0, madvise(mem, LEN, MADV_REMOVE));
		EXPECT_NE(0, madvise(mem, LEN, MADV_POPULATE_WRITE));
		EXPECT_EQ(-1, pwrite(fd, "x", 1, 0));
		EXPECT_EQ(EBADF, errno);
		EXPECT_EQ(-1, pwritev(fd, &iov, 1, 0));
		EXPECT_EQ(EBADF, errno);
		EXPECT_EQ(-1, ftruncate(fd, 0));
		EXPECT_EQ(EINVAL, errno);
		EXPECT_EQ(-1, fallocate(fd, 0, 0, LEN));
		EXPECT_EQ(EBADF, errno);
		EXPECT_EQ(EACCES, opening(fd, O_RDWR));
		EXPECT_EQ(EACCES, opening(fd, O_WRONLY));
		EXPECT_EQ(EACCES, opening(fd, O_RDONLY | O_TRUNC));
		EXPECT_EQ(EACCES, opening_as_nobody(fd, O_RDWR));
		sprintf(path[0], "/proc/self/fd/%d", fd);
		sprintf(path[1], "/proc/%d/fd/%d", getpid(), fd);
		sprintf(path[2], "/proc/self/map_files/%lx-%lx", (unsigned long)mem,
			(unsigned long)mem + LEN);
		EXPECT_EQ(-1, truncate(path[0], 0));
		EXPECT_EQ(EACCES, errno);
		EXPECT_EQ(-1, open(path[1], O_RDWR));
		EXPECT_EQ(EACCES, errno);
		EXPECT_EQ(-1, open(path[2], O_RDWR));
		EXPECT_EQ(EACCES, errno);
		unmap(mem, PAGES);
		/* Nothing that is made of it can do more. */
		if (i == 0)
			ASSERT_EQ(0, fchmod(self->view, 0666));
		if (i == 1)
			ASSERT_EQ(0, fchown(self->view, NOBODY, NOBODY));
	}
	EXPECT_EQ(LEN, info(self->fd).size);
	EXPECT_TRUE(fd_is(self->fd, 0, PAGES, 1));
	/* Mode and owner are the region's: its other files can now be opened so, too. */
	if (!variant->device)
		EXPECT_EQ(0, opening_as_nobody(self->fd, O_RDWR));
}

TEST_F(view, is_not_written_by_debuggers)
{
	struct iovec local = { "xxxxxxxx", 8 }, remote = { self->seen, 8 };
	int mem = open("/proc/self/mem", O_RDWR), pipes[2];

	ASSERT_EQ(0, pipe(pipes));
	ASSERT_EQ(1, write(pipes[1], "x", 1));
	EXPECT_EQ(-1, pwrite(mem, "x", 1, (uintptr_t)self->seen));
	EXPECT_EQ(-1, process_vm_writev(getpid(), &local, 1, &remote, 1, 0));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(-1, read(pipes[0], self->seen, 1));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_TRUE(fd_is(self->fd, 0, PAGES, 1));
}

TEST_F(view, ioctls)
{
	struct cowmem_restore restore = { .fd = self->fd };
	struct cowmem_copy copy = { .fd = self->fd, .length = pgsz() };
	struct cowmem_merge merge = {};
	int clone, i;

	for (i = 0; i < 2; i++) {
		EXPECT_EQ(-1, do_file(self->view, i ? COWMEM_FILE_RDONLY : 0, NULL));
		EXPECT_EQ(i ? EACCES : EBADF, errno);
	}
	EXPECT_EQ(-1, do_resize(self->view, 0));
	EXPECT_EQ(EBADF, errno);
	EXPECT_EQ(-1, do_discard(self->view, 0, pgsz()));
	EXPECT_EQ(EBADF, errno);
	EXPECT_EQ(-1, do_seal(self->view, COWMEM_SEAL_SEAL));
	EXPECT_EQ(EBADF, errno);
	EXPECT_EQ(-1, ioctl(self->view, COWMEM_IOC_RESTORE, &restore));
	EXPECT_EQ(EBADF, errno);
	EXPECT_EQ(-1, ioctl(self->view, COWMEM_IOC_COPY, &copy));
	EXPECT_EQ(EBADF, errno);
	EXPECT_EQ(-1, do_merge(&merge, &self->view, 1));
	EXPECT_EQ(EBADF, errno);
	/* It is no seal. */
	EXPECT_EQ(0, info(self->view).seals);
	clone = cloned(self->view);
	fill(map_rw(clone, PAGES), PAGES, 2, 0);
	EXPECT_EQ(0, opening(clone, O_RDWR));
	EXPECT_TRUE(fd_is(snapshot(self->view), 0, PAGES, 1));
	restore.fd = self->view;
	EXPECT_EQ(0, ioctl(clone, COWMEM_IOC_RESTORE, &restore));
	EXPECT_TRUE(fd_is(clone, 0, PAGES, 1));
	copy.fd = self->view;
	EXPECT_EQ(0, ioctl(clone, COWMEM_IOC_COPY, &copy));
	EXPECT_TRUE(fd_is(self->fd, 0, PAGES, 1));
}

/* ---- passing it on ---- */

FIXTURE(passed) {
	int fd;
};

FIXTURE_VARIANT(passed) {
	uint32_t flags;
	bool as_owner;	/* the receiver owns the region */
	int err;	/* of opening it for writing */
};

FIXTURE_VARIANT_ADD(passed, rdonly) { .flags = COWMEM_FILE_RDONLY, .err = EACCES };
FIXTURE_VARIANT_ADD(passed, view) { .flags = COWMEM_FILE_VIEW, .err = EACCES };
FIXTURE_VARIANT_ADD(passed, rdonly_to_the_owner) {
	.flags = COWMEM_FILE_RDONLY, .as_owner = true, .err = 0,
};
FIXTURE_VARIANT_ADD(passed, view_to_the_owner) {
	.flags = COWMEM_FILE_VIEW, .as_owner = true, .err = EACCES,
};

FIXTURE_SETUP(passed)
{
	self->fd = region_of(PAGES, 1);
	if (variant->as_owner) {
		int file = file_of(self->fd, 0);

		ASSERT_EQ(0, fchown(file, NOBODY, NOBODY));
		close(file);
	}
}

FIXTURE_TEARDOWN(passed)
{
	EXPECT_TRUE(fd_is(self->fd, 0, PAGES, 1));
}

TEST_F(passed, read_only_stays_so)
{
	int sk[2], fd = file_of(self->fd, variant->flags);
	pid_t pid;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sk));
	pid = spawn();
	if (!pid) {
		int got, writable;

		close(fd);
		close(self->fd);
		become_nobody();
		got = recv_fd(sk[1]);
		if (!fd_is(got, 0, PAGES, 1))
			_exit(1);
		if (pwrite(got, "x", 1, 0) != -1 || errno != EBADF)
			_exit(2);
		if (mapping_writable(got) != EACCES)
			_exit(3);
		if (do_file(got, 0, NULL) != -1 || errno != EBADF)
			_exit(4);
		if (opening(got, O_RDWR) != variant->err)
			_exit(5);
		if (!variant->as_owner && (!fchmod(got, 0666) || errno != EPERM))
			_exit(6);
		if (variant->as_owner && fchmod(got, 0666))
			_exit(7);
		if (opening(got, O_RDWR) != variant->err)
			_exit(8);
		/* What was made read-only of it is no better. */
		writable = do_file(got, variant->flags, "second");
		if (writable < 0 || opening(writable, O_RDWR) != variant->err)
			_exit(9);
		if (opening(cloned(got), O_RDWR))
			_exit(10);
		_exit(0);
	}
	send_fd(sk[0], fd);
	EXPECT_EQ(0, reap(pid));
}

/* Over a socket alone, with nobody else holding it. */
TEST(on_the_way)
{
	int sk[2], fd = file_of(region_of(PAGES, 1), 0);

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sk));
	send_fd(sk[0], fd);
	close(fd);
	fd = recv_fd(sk[1]);
	EXPECT_TRUE(fd_is(fd, 0, PAGES, 1));
	EXPECT_EQ(0, opening(fd, O_RDWR));
}

TEST(fork_and_exec)
{
	int dev = region_of(PAGES, 1), fd = file_of(dev, 0), keep = dup(fd);
	char script[256];

	EXPECT_EQ(0, in_child(
		pg_fill(map_rw(fd, PAGES), 2, 0);
		_exit(pwrite(fd, "y", 1, LEN) == 1 ? 0 : 1);
	));
	EXPECT_TRUE(fd_is(dev, 0, 1, 2));
	EXPECT_EQ(LEN + 1, stat_of(fd).st_size);
	/* dup() is not O_CLOEXEC; what the ioctl gave is. */
	sprintf(script,
		"cd /proc/self/fd && [ ! -e %d ] && [ -f %d ] && echo -n hello >%d && echo -n world >>%d",
		fd, keep, keep, keep);
	EXPECT_EQ(0, in_child(
		execl("/bin/sh", "sh", "-c", script, NULL);
		_exit(127);
	));
	EXPECT_EQ(10, stat_of(fd).st_size);
	ASSERT_EQ(10, pread(dev, script, 16, 0));
	EXPECT_EQ(0, memcmp("helloworld", script, 10));
}

/* ---- lifetime ---- */

TEST(module_stays_while_a_file_does)
{
	int uses = module_uses(), dev, file, again;
	char *mem;

	if (uses < 0)
		SKIP(return, "cowmem is no module here");
	dev = region_of(PAGES, 1);
	EXPECT_LT(uses, module_uses());
	file = file_of(dev, 0);
	close(dev);
	EXPECT_EQ(EAGAIN, unloading());
	again = open_again(file, O_RDWR);
	ASSERT_LE(0, again);
	close(file);
	EXPECT_EQ(EAGAIN, unloading());
	mem = map_rw(again, PAGES);
	close(again);
	EXPECT_EQ(EAGAIN, unloading());
	EXPECT_LT(uses, module_uses());
	EXPECT_TRUE(is(mem, PAGES, 1, 0));
	unmap(mem, PAGES);
	EXPECT_TRUE(uses_fall_to(uses));
	/* O_PATH is a reference to the inode, not an open file. */
	dev = region_of(PAGES, 1);
	file = file_of(dev, 0);
	again = open_again(file, O_PATH);
	ASSERT_LE(0, again);
	close(dev);
	close(file);
	EXPECT_EQ(EAGAIN, unloading());
	file = open_again(again, O_RDWR);
	ASSERT_LE(0, file);
	EXPECT_TRUE(fd_is(file, 0, PAGES, 1));
	close(file);
	close(again);
	/* A call that fails leaves nothing. */
	dev = region_of(PAGES, 1);
	EXPECT_EQ(-1, do_file(dev, 3, NULL));
	EXPECT_EQ(-1, do_file(dev, 0, (char *)1));
	file = snapshot(dev);
	EXPECT_EQ(EPERM, opening(file, O_RDWR));
	close(file);
	close(dev);
	EXPECT_TRUE(uses_fall_to(uses));
}

enum { SLOT = 200, OPENERS = 2 };

struct race {
	int stop, trouble, ready;
	uint64_t opened, missed;
};

/* Open what is in SLOT while it is being closed: it is there whole, or it is not. */
static void *opens(void *arg)
{
	struct race *r = arg;
	uint64_t first, last;

	__atomic_add_fetch(&r->ready, 1, __ATOMIC_ACQ_REL);
	while (!get(&r->stop)) {
		int fd = open_again(SLOT, O_RDWR);

		if (fd < 0) {
			if (errno != ENOENT)
				put(&r->trouble, errno);
			__atomic_add_fetch(&r->missed, 1, __ATOMIC_RELAXED);
			continue;
		}
		if (pread(fd, &first, 8, 0) != 8 ||
		    pread(fd, &last, 8, LEN - 8) != 8 || !first || first != last)
			put(&r->trouble, -1);
		__atomic_add_fetch(&r->opened, 1, __ATOMIC_RELAXED);
		close(fd);
	}
	return NULL;
}

TEST(reopening_races_with_the_last_close)
{
	int uses = module_uses(), i, n = effort(2000);
	double end = now() + effort(10);
	pthread_t thread[OPENERS];
	struct race r = {};
	uint64_t stamp;

	for (i = 0; i < OPENERS; i++)
		must(!pthread_create(&thread[i], NULL, opens, &r));
	await(&r.ready, OPENERS);
	for (stamp = 1; stamp <= n && now() < end; stamp++) {
		int dev = region(), fd;

		must(pwrite(dev, &stamp, 8, LEN - 8) == 8);
		must(pwrite(dev, &stamp, 8, 0) == 8);
		fd = stamp % 2 ? file_of(dev, 0) : cloned(dev);
		close(dev);
		must(dup2(fd, SLOT) == SLOT);
		close(fd);
		if (stamp % 3)
			sched_yield();
		close(SLOT);
	}
	put(&r.stop, 1);
	for (i = 0; i < OPENERS; i++)
		pthread_join(thread[i], NULL);
	EXPECT_EQ(0, r.trouble);
	TH_LOG("%llu regions, opened %llu times, %llu times too late",
	       (unsigned long long)stamp - 1, (unsigned long long)r.opened,
	       (unsigned long long)r.missed);
	EXPECT_LT(0, r.opened);
	if (uses >= 0)
		EXPECT_TRUE(uses_fall_to(uses));
}

/* ---- watching it ---- */

static int watch(int fd)
{
	int in = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	char path[64];

	if (in < 0)
		return -1;
	sprintf(path, "/proc/self/fd/%d", fd);
	must(inotify_add_watch(in, path, IN_ALL_EVENTS) >= 0);
	return in;
}

FIXTURE(watched) {
	int fd, in;
};

FIXTURE_VARIANT(watched) {
	bool clone;
};

FIXTURE_VARIANT_ADD(watched, file) { .clone = false };
FIXTURE_VARIANT_ADD(watched, clone) { .clone = true };

FIXTURE_SETUP(watched)
{
	int dev = region_of(PAGES, 1);

	self->fd = variant->clone ? cloned(dev) : file_of(dev, 0);
	self->in = watch(self->fd);
	if (self->in < 0)
		SKIP(return, "no inotify here");
}

FIXTURE_TEARDOWN(watched)
{
}

TEST_F(watched, sees_what_is_done_to_it)
{
	int other = cloned(self->fd), again;
	char c;

	EXPECT_EQ(0, events(self->in));
	ASSERT_EQ(1, pwrite(self->fd, "x", 1, 0));
	EXPECT_EQ(IN_MODIFY, events(self->in));
	ASSERT_EQ(1, pread(self->fd, &c, 1, 0));
	EXPECT_EQ(IN_ACCESS, events(self->in));
	again = open_again(self->fd, O_RDWR);
	EXPECT_EQ(IN_OPEN, events(self->in));
	ASSERT_EQ(1, pwrite(again, "x", 1, 0));
	EXPECT_EQ(IN_MODIFY, events(self->in));
	close(again);
	EXPECT_EQ(IN_CLOSE_WRITE, events(self->in));
	close(open_again(self->fd, O_RDONLY));
	EXPECT_EQ(IN_OPEN | IN_CLOSE_NOWRITE, events(self->in));
	again = file_of(self->fd, 0);
	EXPECT_EQ(0, events(self->in) & ~IN_OPEN);
	ASSERT_EQ(1, pwrite(again, "x", 1, 0));
	EXPECT_EQ(IN_MODIFY, events(self->in));
	close(again);
	EXPECT_EQ(IN_CLOSE_WRITE, events(self->in));
	ASSERT_EQ(0, ftruncate(self->fd, LEN / 2));
	EXPECT_EQ(IN_MODIFY, events(self->in) & ~IN_ATTRIB);
	ASSERT_EQ(0, fchmod(self->fd, 0644));
	EXPECT_EQ(IN_ATTRIB, events(self->in));
	/* Of another region it sees nothing. */
	ASSERT_EQ(1, pwrite(other, "x", 1, 0));
	close(open_again(other, O_RDWR));
	EXPECT_EQ(0, events(self->in));
}

TEST_HARNESS_MAIN
