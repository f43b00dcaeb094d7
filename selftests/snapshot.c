// SPDX-License-Identifier: GPL-2.0-only
/*
 * Promise: a snapshot can never be written again, by anyone, in any way, and
 * shows what its origin held when it was taken.
 */
#include <sys/ptrace.h>
#include <sys/sendfile.h>

#include "../kselftest_harness.h"
#include "common.h"

#define PAGES 8
#define LEN (PAGES * pgsz())

FIXTURE(snapshot) {
	int fd;		/* the origin */
	int snap;
	char *mem;	/* the origin's memory */
	char *ro;	/* a shared mapping of the snapshot */
};

FIXTURE_VARIANT(snapshot) {
	bool alone;	/* the origin is gone: the snapshot is the last holder */
	bool holes;
};

FIXTURE_VARIANT_ADD(snapshot, shared) { .alone = false };
FIXTURE_VARIANT_ADD(snapshot, last_holder) { .alone = true };
FIXTURE_VARIANT_ADD(snapshot, of_holes) { .holes = true };

#define TAG (variant->holes ? 0 : 1)

FIXTURE_SETUP(snapshot)
{
	self->fd = region_of(PAGES, TAG);
	self->mem = map_rw(self->fd, PAGES);
	EXPECT_TRUE(is(self->mem, PAGES, TAG, 0));
	self->snap = snapshot(self->fd);
	self->ro = map_ro(self->snap, PAGES);
	if (variant->alone) {
		unmap(self->mem, PAGES);
		close(self->fd);
		self->fd = -1;
	}
	EXPECT_EQ(0, touch(self->ro, false));
}

/* Whatever a test did, the snapshot is what it was. */
FIXTURE_TEARDOWN(snapshot)
{
	EXPECT_TRUE(is(self->ro, PAGES, TAG, 0));
	EXPECT_TRUE(fd_is(self->snap, 0, PAGES, TAG));
	EXPECT_EQ(LEN, info(self->snap).size);
	EXPECT_EQ(variant->holes ? 0 : PAGES, info(self->snap).pages_populated);
}

TEST_F(snapshot, has_every_seal)
{
	EXPECT_EQ(COWMEM_SEAL_SEAL | COWMEM_SEAL_SHRINK | COWMEM_SEAL_GROW |
		  COWMEM_SEAL_WRITE, info(self->snap).seals);
	EXPECT_EQ(O_RDONLY, fcntl(self->snap, F_GETFL) & O_ACCMODE);
	if (self->fd >= 0) {
		EXPECT_EQ(0, info(self->fd).seals);
		EXPECT_EQ(1, info(self->fd).clones);
	}
}

TEST_F(snapshot, has_no_writable_mapping)
{
	EXPECT_EQ(MAP_FAILED, mmap(NULL, LEN, PROT_READ | PROT_WRITE,
				   MAP_SHARED, self->snap, 0));
	EXPECT_EQ(EACCES, errno);
	EXPECT_EQ(MAP_FAILED, mmap(NULL, LEN, PROT_WRITE, MAP_SHARED,
				   self->snap, 0));
	EXPECT_EQ(EACCES, errno);
	EXPECT_EQ(-1, mprotect(self->ro, LEN, PROT_READ | PROT_WRITE));
	EXPECT_EQ(EACCES, errno);
	EXPECT_EQ(-1, mprotect(self->ro, LEN, PROT_WRITE));
	EXPECT_EQ(EACCES, errno);
	EXPECT_EQ(SIGSEGV, poke(self->ro, 1));
	EXPECT_EQ(-1, madvise(self->ro, LEN, MADV_POPULATE_WRITE));
	EXPECT_NE(0, madvise(self->ro, LEN, MADV_REMOVE));
	/* Nor does a child's. */
	EXPECT_EQ(0, in_child(_exit(poke(self->ro, 1) == SIGSEGV ? 0 : 1)));
}

TEST_F(snapshot, is_not_written_through_its_descriptor)
{
	struct iovec iov = { "x", 1 };
	int file = open("/proc/self/exe", O_RDONLY), pipes[2];
	int other = region_of(1, 2);
	loff_t off = 0;

	ASSERT_EQ(0, pipe(pipes));
	ASSERT_EQ(1, write(pipes[1], "x", 1));
	EXPECT_EQ(-1, write(self->snap, "x", 1));
	EXPECT_EQ(EBADF, errno);
	EXPECT_EQ(-1, pwrite(self->snap, "x", 1, 0));
	EXPECT_EQ(EBADF, errno);
	EXPECT_EQ(-1, pwritev(self->snap, &iov, 1, 0));
	EXPECT_EQ(EBADF, errno);
	EXPECT_EQ(-1, splice(pipes[0], NULL, self->snap, &off, 1, 0));
	EXPECT_EQ(EBADF, errno);
	EXPECT_EQ(-1, sendfile(self->snap, file, NULL, 1));
	EXPECT_EQ(EBADF, errno);
	off = 0;
	EXPECT_EQ(-1, copy_file_range(other, &off, self->snap, NULL, 1, 0));
	EXPECT_NE(-1, fcntl(self->snap, F_SETFL, O_APPEND));
	EXPECT_EQ(-1, write(self->snap, "x", 1));
	EXPECT_EQ(EBADF, errno);
	EXPECT_EQ(-1, ftruncate(self->snap, 0));
	EXPECT_EQ(-1, fallocate(self->snap, 0, 0, 2 * LEN));
}

/* The descriptor is read-only, and that is checked before the seals are. */
TEST_F(snapshot, is_not_changed_by_ioctls)
{
	EXPECT_EQ(-1, do_resize(self->snap, 0));
	EXPECT_EQ(EBADF, errno);
	EXPECT_EQ(-1, do_resize(self->snap, 2 * LEN));
	EXPECT_EQ(EBADF, errno);
	EXPECT_EQ(-1, do_discard(self->snap, 0, pgsz()));
	EXPECT_EQ(EBADF, errno);
	EXPECT_EQ(-1, do_seal(self->snap, 0));
	EXPECT_EQ(EBADF, errno);
	EXPECT_EQ(-1, do_seal(self->snap, COWMEM_SEAL_WRITE));
	EXPECT_EQ(EBADF, errno);
}

TEST_F(snapshot, does_not_grow_to_fit_a_mapping)
{
	char *mem = mmap(NULL, 2 * LEN, PROT_READ, MAP_SHARED, self->snap, 0);

	ASSERT_NE(MAP_FAILED, mem);
	EXPECT_EQ(LEN, info(self->snap).size);
	EXPECT_TRUE(is(mem, PAGES, TAG, 0));
	EXPECT_EQ(SIGBUS, touch(mem + LEN, false));
}

/* FOLL_FORCE must find nothing to force in a shared mapping. */
TEST_F(snapshot, is_not_written_by_debuggers)
{
	struct iovec local = { "xxxxxxxx", 8 }, remote = { self->ro, 8 };
	int mem = open("/proc/self/mem", O_RDWR);
	int status;
	pid_t pid;

	ASSERT_LE(0, mem);
	EXPECT_EQ(-1, pwrite(mem, "x", 1, (uintptr_t)self->ro));
	EXPECT_EQ(-1, process_vm_writev(getpid(), &local, 1, &remote, 1, 0));
	EXPECT_EQ(EFAULT, errno);

	pid = spawn();
	if (!pid) {
		if (ptrace(PTRACE_TRACEME, 0, 0, 0))
			_exit(1);
		raise(SIGSTOP);
		_exit(is(self->ro, PAGES, TAG, 0) ? 0 : 2);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_TRUE(WIFSTOPPED(status));
	EXPECT_EQ(-1, ptrace(PTRACE_POKEDATA, pid, self->ro, 0x7878));
	EXPECT_EQ(-1, process_vm_writev(pid, &local, 1, &remote, 1, 0));
	/* Looking is allowed. */
	errno = 0;
	EXPECT_EQ(*(long *)self->ro, ptrace(PTRACE_PEEKDATA, pid, self->ro, 0));
	EXPECT_EQ(0, errno);
	ASSERT_EQ(0, ptrace(PTRACE_CONT, pid, 0, 0));
	EXPECT_EQ(0, reap(pid));
}

/* A read() whose buffer is the snapshot has nowhere to put the data. */
TEST_F(snapshot, is_not_a_buffer)
{
	int pipes[2], src = region_of(1, 2), file;

	ASSERT_EQ(0, pipe(pipes));
	ASSERT_EQ(1, write(pipes[1], "x", 1));
	EXPECT_EQ(-1, read(pipes[0], self->ro, 1));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(-1, pread(src, self->ro, 16, 0));
	EXPECT_EQ(EFAULT, errno);
	file = open("/proc/self/exe", O_RDONLY | O_DIRECT);
	if (file < 0)
		file = open("/proc/self/exe", O_RDONLY);
	ASSERT_LE(0, file);
	EXPECT_EQ(-1, pread(file, self->ro, pgsz(), 0));
	EXPECT_EQ(EFAULT, errno);
}

/* Another open of the same name is another region, if it is one at all. */
TEST_F(snapshot, is_not_reopened_for_writing)
{
	char path[4][96];
	int i, fd;

	snprintf(path[0], sizeof(path[0]), "/proc/self/fd/%d", self->snap);
	snprintf(path[1], sizeof(path[1]), "/proc/%d/fd/%d", getpid(),
		 self->snap);
	snprintf(path[2], sizeof(path[2]), "/proc/self/map_files/%lx-%lx",
		 (unsigned long)self->ro, (unsigned long)self->ro + LEN);
	snprintf(path[3], sizeof(path[3]), "/dev/fd/%d", self->snap);
	for (i = 0; i < 4; i++) {
		char *mem;

		fd = open(path[i], O_RDWR);
		if (fd < 0)
			continue;
		if (pwrite(fd, "x", 1, 0) == 1)
			EXPECT_TRUE(is(self->ro, PAGES, TAG, 0));
		mem = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (mem != MAP_FAILED) {
			fill(mem, PAGES, 9, 0);
			EXPECT_TRUE(is(self->ro, PAGES, TAG, 0));
			unmap(mem, PAGES);
		}
		do_resize(fd, 0);
		EXPECT_EQ(LEN, info(self->snap).size);
		close(fd);
		fd = open(path[i], O_RDWR | O_TRUNC);
		if (fd >= 0)
			close(fd);
		EXPECT_TRUE(is(self->ro, PAGES, TAG, 0));
	}
}

TEST_F(snapshot, private_mapping_does_not_leak)
{
	char *mem = map_at(self->snap, PAGES, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE, 0);
	char *forced = map_at(self->snap, PAGES, PROT_READ, MAP_PRIVATE, 0);
	int self_mem = open("/proc/self/mem", O_RDWR);
	char buf[pgsz()];

	EXPECT_TRUE(is(mem, PAGES, TAG, 0));
	fill(mem, PAGES / 2, 2, 0);
	EXPECT_TRUE(is(self->ro, PAGES, TAG, 0));
	EXPECT_TRUE(is(mem, PAGES / 2, 2, 0));
	EXPECT_TRUE(is(mem + LEN / 2, PAGES / 2, TAG, PAGES / 2));
	if (self->fd >= 0)
		EXPECT_TRUE(is(self->mem, PAGES, TAG, 0));

	/* A debugger may write a read-only private mapping: its own copy. */
	ASSERT_LE(0, self_mem);
	pg_fill(buf, 3, 0);
	if (pwrite(self_mem, buf, pgsz(), (uintptr_t)forced) == (ssize_t)pgsz())
		EXPECT_TRUE(is(forced, 1, 3, 0));
	EXPECT_TRUE(is(self->ro, PAGES, TAG, 0));
	EXPECT_TRUE(is(forced + pgsz(), PAGES - 1, TAG, 1));
	ASSERT_EQ(0, mprotect(forced, LEN, PROT_READ | PROT_WRITE));
	fill(forced, PAGES, 4, 0);
	EXPECT_TRUE(is(forced, PAGES, 4, 0));
}

TEST_F(snapshot, stays_while_the_origin_changes)
{
	char buf[pgsz()];
	int clone;

	if (self->fd < 0) {
		/* No origin: a clone of the snapshot plays its part. */
		self->fd = cloned(self->snap);
		self->mem = map_rw(self->fd, PAGES);
	}
	pg_fill(self->mem, 2, 0);
	EXPECT_TRUE(is(self->ro, PAGES, TAG, 0));
	pg_fill(buf, 3, 1);
	EXPECT_EQ((ssize_t)pgsz(), pwrite(self->fd, buf, pgsz(), pgsz()));
	EXPECT_TRUE(is(self->ro, PAGES, TAG, 0));
	EXPECT_EQ(0, do_discard(self->fd, 2 * pgsz(), pgsz() + 5));
	EXPECT_TRUE(is(self->ro, PAGES, TAG, 0));
	clone = cloned(self->fd);
	fill(self->mem, PAGES, 5, 0);
	EXPECT_TRUE(is(self->ro, PAGES, TAG, 0));
	EXPECT_EQ(0, do_resize(self->fd, 0));
	EXPECT_TRUE(is(self->ro, PAGES, TAG, 0));
	EXPECT_TRUE(fd_is(clone, 0, 1, 2) && fd_is(clone, 1, 1, 3));
	EXPECT_TRUE(fd_is(clone, 4, PAGES - 4, TAG));
}

TEST_F(snapshot, clone_of_it_is_writable)
{
	int clone = cloned(self->snap), second = snapshot(self->snap);
	char *mem = map_rw(clone, PAGES);

	EXPECT_EQ(0, info(clone).seals);
	EXPECT_EQ(O_RDWR, fcntl(clone, F_GETFL) & O_ACCMODE);
	EXPECT_TRUE(is(mem, PAGES, TAG, 0));
	fill(mem, PAGES, 2, 0);
	EXPECT_TRUE(fd_is(clone, 0, PAGES, 2));
	EXPECT_TRUE(is(self->ro, PAGES, TAG, 0));
	EXPECT_EQ(0, do_resize(clone, 2 * LEN));
	EXPECT_TRUE(fd_is(second, 0, PAGES, TAG));
	EXPECT_EQ(-1, pwrite(second, "x", 1, 0));
	EXPECT_EQ(EBADF, errno);
}

/* A passed, duplicated or inherited descriptor is no more than this one. */
TEST_F(snapshot, descriptor_gives_nobody_more)
{
	int copy = dup(self->snap);

	EXPECT_EQ(0, in_child(
		if (pwrite(copy, "x", 1, 0) != -1 || errno != EBADF)
			_exit(1);
		if (mmap(NULL, LEN, PROT_WRITE, MAP_SHARED, copy, 0) !=
		    MAP_FAILED)
			_exit(2);
		if (do_seal(copy, 0) != -1 || do_resize(copy, 0) != -1)
			_exit(3);
		if (!fd_is(copy, 0, PAGES, TAG))
			_exit(4);
	));
}

TEST_HARNESS_MAIN
