// SPDX-License-Identifier: GPL-2.0-only
/*
 * Promise: by default only root can open the device; whoever is given a
 * descriptor can use it, for no more than it was opened for.
 */
#include <sys/sysmacros.h>

#include "../kselftest_harness.h"
#include "common.h"
#include "files.h"

enum { PAGES = 4 };

TEST(device_is_roots)
{
	struct stat st;

	ASSERT_EQ(0, stat(COWMEM_DEV, &st));
	EXPECT_TRUE(S_ISCHR(st.st_mode));
	EXPECT_EQ(0600, st.st_mode & 07777);
	EXPECT_EQ(0, st.st_uid);
	EXPECT_EQ(0, st.st_gid);
}

TEST(others_cannot_open_it)
{
	EXPECT_EQ(0, in_child(
		static const int modes[] = { O_RDONLY, O_WRONLY, O_RDWR };
		size_t i;

		become_nobody();
		for (i = 0; i < 3; i++)
			if (open(COWMEM_DEV, modes[i]) != -1 ||
			    errno != EACCES)
				_exit(1);
	));
}

TEST(a_passed_descriptor_works)
{
	int sk[2], fd = region_of(PAGES, 1), clone;
	pid_t pid;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sk));
	pid = spawn();
	if (!pid) {
		char *mem;

		close(fd);
		become_nobody();
		fd = recv_fd(sk[1]);
		mem = map_rw(fd, PAGES);
		if (!is(mem, PAGES, 1, 0))
			_exit(1);
		clone = do_clone(fd, 0, 0, 0);
		if (clone < 0)
			_exit(2);
		fill(mem, 2, 2, 0);
		if (!fd_is(clone, 0, PAGES, 1))
			_exit(3);
		if (pwrite(fd, "x", 1, PAGES * pgsz()) != 1)
			_exit(4);
		if (do_discard(fd, 3 * pgsz(), pgsz()))
			_exit(5);
		fill(map_rw(clone, PAGES), PAGES, 3, 0);
		send_fd(sk[1], clone);
		_exit(0);
	}
	send_fd(sk[0], fd);
	clone = recv_fd(sk[0]);
	EXPECT_EQ(0, reap(pid));
	EXPECT_TRUE(fd_is(clone, 0, PAGES, 3));
	EXPECT_TRUE(fd_is(fd, 0, 2, 2));
	EXPECT_TRUE(fd_is(fd, 2, 1, 1));
	EXPECT_TRUE(fd_is(fd, 3, 1, 0));
	EXPECT_EQ(PAGES * pgsz() + 1, info(fd).size);
}

/* No name in /proc gives more than the descriptor does. */
TEST(a_passed_snapshot_stays_one)
{
	int fd = region_of(PAGES, 1), snap = snapshot(fd), sk[2];
	pid_t pid;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sk));
	pid = spawn();
	if (!pid) {
		char path[64];
		int got;

		close(fd);
		close(snap);
		become_nobody();
		got = recv_fd(sk[1]);
		if (!fd_is(got, 0, PAGES, 1))
			_exit(1);
		if (pwrite(got, "x", 1, 0) != -1 || errno != EBADF)
			_exit(2);
		if (mmap(NULL, pgsz(), PROT_WRITE, MAP_SHARED, got, 0) !=
		    MAP_FAILED)
			_exit(3);
		snprintf(path, sizeof(path), "/proc/self/fd/%d", got);
		if (open(path, O_RDWR) != -1)
			_exit(4);
		/* But a clone of it is free to be written. */
		fill(map_rw(cloned(got), PAGES), PAGES, 2, 0);
		_exit(0);
	}
	send_fd(sk[0], snap);
	EXPECT_EQ(0, reap(pid));
	EXPECT_TRUE(fd_is(snap, 0, PAGES, 1));
	EXPECT_TRUE(fd_is(fd, 0, PAGES, 1));
}

/* Of a region that only an O_PATH descriptor was left of, a file made later is whole. */
TEST(what_comes_back_from_a_path_stays)
{
	int fd = region_of(PAGES, 1), file = file_of(fd, 0), path, again, other;
	struct stat st;

	close(fd);
	path = open_again(file, O_PATH);
	ASSERT_LE(0, path);
	close(file);
	again = open_again(path, O_RDWR);
	ASSERT_LE(0, again);
	other = file_of(again, 0);
	close(again);
	close(path);
	EXPECT_EQ(0, fstat(other, &st));
	EXPECT_EQ(PAGES * pgsz(), st.st_size);
	EXPECT_EQ(1, pwrite(other, "x", 1, PAGES * pgsz()));
	EXPECT_TRUE(fd_is(other, 0, PAGES, 1));
	close(other);
}

TEST_HARNESS_MAIN
