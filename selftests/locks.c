// SPDX-License-Identifier: GPL-2.0-only
/*
 * Promise: flock(), POSIX and OFD locks are of the region, whichever of its descriptors
 * they are taken by, those of the device included.  They conflict with each other as a
 * file's do, and with no other region's; they go when their owner closes or ends.
 */
#include <pthread.h>
#include <sys/file.h>

#include "../kselftest_harness.h"
#include "common.h"

#ifndef F_OFD_GETLK
#define F_OFD_GETLK	36
#define F_OFD_SETLK	37
#define F_OFD_SETLKW	38
#endif

enum { PAGES = 2 };

static int lock_call(int fd, int cmd, int type, off_t start, off_t len)
{
	struct flock fl = {
		.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len,
	};

	return fcntl(fd, cmd, &fl) ? errno : 0;
}

/* 0 or errno, without waiting */
static int posix(int fd, int type, off_t start, off_t len)
{
	return lock_call(fd, F_SETLK, type, start, len);
}

static int ofd(int fd, int type, off_t start, off_t len)
{
	return lock_call(fd, F_OFD_SETLK, type, start, len);
}

static int fl(int fd, int how)
{
	return flock(fd, how | LOCK_NB) ? errno : 0;
}

/* What another process gets of a POSIX lock */
static int posix_of_another(int fd, int type, off_t start, off_t len)
{
	return in_child(
		_exit(posix(fd, type, start, len));
	);
}

static struct flock asked(int fd, int cmd, int type, off_t start, off_t len)
{
	struct flock fl = {
		.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len,
	};

	must(!fcntl(fd, cmd, &fl));
	return fl;
}

/* A second descriptor of what is open as @fd, another open file of it, or a new region's */
FIXTURE(locks) {
	int a, b;	/* two open files of one region */
	int other;	/* of a clone of it, of the same kind as b */
};

FIXTURE_VARIANT(locks) {
	bool a_device, b_device;
	bool reopened;	/* else by COWMEM_IOC_FILE */
};

FIXTURE_VARIANT_ADD(locks, device_and_file) { .a_device = true };
FIXTURE_VARIANT_ADD(locks, file_and_device) { .b_device = true };
FIXTURE_VARIANT_ADD(locks, two_files) { .reopened = false };
FIXTURE_VARIANT_ADD(locks, file_and_reopened) { .reopened = true };

FIXTURE_SETUP(locks)
{
	int dev = region_of(PAGES, 1);

	self->a = variant->a_device ? dev : file_of(dev, 0);
	if (variant->b_device)
		self->b = dev;
	else if (variant->reopened)
		self->b = open_again(self->a, O_RDWR);
	else
		self->b = file_of(self->a, 0);
	ASSERT_LE(0, self->b);
	self->other = variant->b_device ? region_of(PAGES, 1) : cloned(self->a);
	/* None that is not looked at is to hold anything. */
	if (dev != self->a && dev != self->b)
		close(dev);
}

FIXTURE_TEARDOWN(locks)
{
}

TEST_F(locks, flock)
{
	int copy;

	EXPECT_EQ(0, fl(self->a, LOCK_EX));
	EXPECT_EQ(EWOULDBLOCK, fl(self->b, LOCK_EX));
	EXPECT_EQ(EWOULDBLOCK, fl(self->b, LOCK_SH));
	EXPECT_EQ(0, fl(self->other, LOCK_EX));
	EXPECT_EQ(0, fl(self->a, LOCK_SH));
	EXPECT_EQ(0, fl(self->b, LOCK_SH));
	EXPECT_EQ(EWOULDBLOCK, fl(self->a, LOCK_EX));
	/* What could not be had was given up on the way there, as flock(2) warns. */
	EXPECT_EQ(0, fl(self->b, LOCK_EX));
	EXPECT_EQ(0, fl(self->b, LOCK_UN));
	EXPECT_EQ(0, fl(self->a, LOCK_EX));
	/* It goes with the last descriptor of the open file. */
	copy = dup(self->a);
	close(self->a);
	EXPECT_EQ(EWOULDBLOCK, fl(self->b, LOCK_EX));
	close(copy);
	EXPECT_EQ(0, fl(self->b, LOCK_EX));
	/* No other kind of lock minds. */
	EXPECT_EQ(0, ofd(self->b, F_WRLCK, 0, 0));
	EXPECT_EQ(0, posix(self->other, F_WRLCK, 0, 0));
}

TEST_F(locks, flock_after_fork)
{
	EXPECT_EQ(0, fl(self->a, LOCK_EX));
	/* The child has the same one, may drop it, and takes none along. */
	EXPECT_EQ(0, in_child(
		if (fl(self->a, LOCK_EX) || fl(self->b, LOCK_SH) != EWOULDBLOCK)
			_exit(1);
		close(self->a);
	));
	EXPECT_EQ(EWOULDBLOCK, fl(self->b, LOCK_EX));
	EXPECT_EQ(0, in_child(_exit(fl(self->a, LOCK_UN))));
	EXPECT_EQ(0, fl(self->b, LOCK_EX));
	EXPECT_EQ(0, fl(self->b, LOCK_UN));
	/* And one that a child took stays as long as the parent has the file. */
	EXPECT_EQ(0, in_child(_exit(fl(self->a, LOCK_EX))));
	EXPECT_EQ(EWOULDBLOCK, fl(self->b, LOCK_EX));
}

TEST_F(locks, posix)
{
	struct flock got;
	int copy;

	EXPECT_EQ(0, posix(self->a, F_WRLCK, 10, 10));
	/* Within a process they are one. */
	EXPECT_EQ(0, posix(self->b, F_WRLCK, 10, 10));
	EXPECT_EQ(EAGAIN, posix_of_another(self->a, F_WRLCK, 0, 0));
	EXPECT_EQ(EAGAIN, posix_of_another(self->b, F_RDLCK, 19, 1));
	EXPECT_EQ(0, posix_of_another(self->b, F_WRLCK, 20, 1));
	EXPECT_EQ(0, posix_of_another(self->b, F_WRLCK, 0, 10));
	EXPECT_EQ(0, posix_of_another(self->other, F_WRLCK, 0, 0));
	/* Half of it is dropped, by the other descriptor. */
	EXPECT_EQ(0, posix(self->b, F_UNLCK, 10, 5));
	EXPECT_EQ(0, posix_of_another(self->a, F_WRLCK, 10, 5));
	EXPECT_EQ(EAGAIN, posix_of_another(self->a, F_RDLCK, 15, 1));
	EXPECT_EQ(0, posix(self->a, F_RDLCK, 0, 0));
	EXPECT_EQ(0, posix_of_another(self->b, F_RDLCK, 0, 0));
	EXPECT_EQ(EAGAIN, posix_of_another(self->b, F_WRLCK, 1000, 1));

	EXPECT_EQ(0, in_child(
		got = asked(self->b, F_GETLK, F_WRLCK, 3, 1);
		if (got.l_type != F_RDLCK || got.l_pid != getppid() ||
		    got.l_start != 0 || got.l_len != 0)
			_exit(1);
		got = asked(self->a, F_GETLK, F_RDLCK, 3, 1);
		if (got.l_type != F_UNLCK)
			_exit(2);
		got = asked(self->other, F_GETLK, F_WRLCK, 0, 0);
		if (got.l_type != F_UNLCK)
			_exit(3);
	));
	/* Nobody's own lock is in his way. */
	EXPECT_EQ(F_UNLCK, asked(self->a, F_GETLK, F_WRLCK, 0, 0).l_type);
	EXPECT_EQ(F_UNLCK, asked(self->b, F_GETLK, F_WRLCK, 0, 0).l_type);

	/* Any descriptor of the region that the process closes takes them along. */
	copy = dup(self->b);
	EXPECT_EQ(EAGAIN, posix_of_another(self->b, F_WRLCK, 0, 0));
	close(copy);
	EXPECT_EQ(0, posix_of_another(self->b, F_WRLCK, 0, 0));
	EXPECT_EQ(0, posix(self->b, F_WRLCK, 0, 0));
	close(self->a);
	EXPECT_EQ(0, posix_of_another(self->b, F_WRLCK, 0, 0));
	/* But not one of another region. */
	EXPECT_EQ(0, posix(self->b, F_WRLCK, 0, 0));
	close(self->other);
	EXPECT_EQ(EAGAIN, posix_of_another(self->b, F_WRLCK, 0, 0));
}

TEST_F(locks, posix_is_not_inherited_and_ends_with_the_process)
{
	int *turn = shared_mem(sizeof(*turn));
	pid_t pid;

	pid = spawn();
	if (!pid) {
		if (posix(self->a, F_WRLCK, 0, 0))
			_exit(1);
		/* Its child has none, and closes nothing of it. */
		if (in_child(_exit(posix(self->a, F_WRLCK, 0, 1))) != EAGAIN)
			_exit(2);
		put(turn, 1);
		await(turn, 2);
		_exit(0);
	}
	await(turn, 1);
	EXPECT_EQ(EAGAIN, posix(self->a, F_RDLCK, 0, 1));
	EXPECT_EQ(EAGAIN, posix(self->b, F_RDLCK, 0, 1));
	EXPECT_EQ(pid, asked(self->b, F_GETLK, F_RDLCK, 0, 1).l_pid);
	EXPECT_EQ(pid, asked(self->a, F_GETLK, F_RDLCK, 0, 1).l_pid);
	put(turn, 2);
	EXPECT_EQ(0, reap(pid));
	EXPECT_EQ(0, posix(self->b, F_WRLCK, 0, 0));
	/* Killed, it is the same. */
	EXPECT_EQ(0, posix(self->b, F_UNLCK, 0, 0));
	EXPECT_EQ(128 + SIGKILL, in_child(
		must(!posix(self->a, F_WRLCK, 0, 0));
		must(!posix(self->b, F_WRLCK, 100, 0));
		raise(SIGKILL);
	));
	EXPECT_EQ(0, posix(self->a, F_WRLCK, 0, 0));
}

TEST_F(locks, ofd)
{
	struct flock got;
	int copy;

	EXPECT_EQ(0, ofd(self->a, F_WRLCK, 10, 10));
	EXPECT_EQ(0, ofd(self->a, F_WRLCK, 10, 10));
	EXPECT_EQ(EAGAIN, ofd(self->b, F_WRLCK, 0, 0));
	EXPECT_EQ(EAGAIN, ofd(self->b, F_RDLCK, 19, 1));
	EXPECT_EQ(0, ofd(self->b, F_WRLCK, 20, 10));
	EXPECT_EQ(EAGAIN, ofd(self->a, F_RDLCK, 25, 1));
	EXPECT_EQ(0, ofd(self->other, F_WRLCK, 0, 0));
	/* With POSIX locks they conflict, even of the same process. */
	EXPECT_EQ(EAGAIN, posix(self->a, F_WRLCK, 12, 1));
	EXPECT_EQ(EAGAIN, posix(self->b, F_RDLCK, 12, 1));
	EXPECT_EQ(0, posix(self->b, F_WRLCK, 100, 1));
	EXPECT_EQ(EAGAIN, ofd(self->b, F_WRLCK, 100, 1));
	EXPECT_EQ(EAGAIN, ofd(self->a, F_WRLCK, 100, 1));

	got = asked(self->b, F_OFD_GETLK, F_WRLCK, 0, 20);
	EXPECT_EQ(F_WRLCK, got.l_type);
	EXPECT_EQ(10, got.l_start);
	EXPECT_EQ(10, got.l_len);
	EXPECT_EQ(-1, got.l_pid);
	got = asked(self->a, F_OFD_GETLK, F_WRLCK, 20, 0);
	EXPECT_EQ(F_WRLCK, got.l_type);
	EXPECT_EQ(20, got.l_start);
	got = asked(self->a, F_OFD_GETLK, F_WRLCK, 0, 20);
	EXPECT_EQ(F_UNLCK, got.l_type);
	got = asked(self->a, F_GETLK, F_WRLCK, 0, 20);
	EXPECT_EQ(F_WRLCK, got.l_type);
	EXPECT_EQ(-1, got.l_pid);

	/* Inherited, and gone with the last descriptor of the open file. */
	EXPECT_EQ(0, in_child(
		if (ofd(self->a, F_WRLCK, 10, 10))
			_exit(1);
		if (ofd(self->b, F_WRLCK, 10, 10) != EAGAIN)
			_exit(2);
		close(self->a);
	));
	EXPECT_EQ(EAGAIN, ofd(self->b, F_WRLCK, 10, 10));
	copy = dup(self->a);
	close(self->a);
	EXPECT_EQ(EAGAIN, ofd(self->b, F_WRLCK, 10, 10));
	close(copy);
	EXPECT_EQ(0, ofd(self->b, F_WRLCK, 10, 10));
}

/* Modes count: a read lock needs reading, a write lock writing. */
TEST(modes)
{
	int dev = region_of(PAGES, 1), ro = file_of(dev, COWMEM_FILE_RDONLY);
	int view = file_of(dev, COWMEM_FILE_VIEW), wr = open(COWMEM_DEV, O_WRONLY);

	EXPECT_EQ(EBADF, posix(ro, F_WRLCK, 0, 0));
	EXPECT_EQ(EBADF, ofd(view, F_WRLCK, 0, 0));
	EXPECT_EQ(EBADF, posix(wr, F_RDLCK, 0, 0));
	EXPECT_EQ(0, ofd(ro, F_RDLCK, 0, 0));
	EXPECT_EQ(0, ofd(view, F_RDLCK, 0, 0));
	EXPECT_EQ(EAGAIN, ofd(dev, F_WRLCK, 0, 0));
	/* flock() asks for none. */
	EXPECT_EQ(0, fl(view, LOCK_EX));
	EXPECT_EQ(EWOULDBLOCK, fl(dev, LOCK_SH));
	EXPECT_EQ(0, fl(wr, LOCK_SH));
	close(view);
	EXPECT_EQ(0, fl(dev, LOCK_SH));
	/* Those of the device are the region's, and no two regions'. */
	EXPECT_EQ(0, fl(wr, LOCK_EX));
	EXPECT_EQ(0, fl(region(), LOCK_EX));
	EXPECT_EQ(EINVAL, posix(dev, 77, 0, 0));
	EXPECT_EQ(EINVAL, posix(dev, F_WRLCK, -1, 0));
}

/* ---- waiting ---- */

enum kind { POSIX, OFD, FLOCK };

static int take(enum kind kind, int fd, bool wait)
{
	if (kind == FLOCK)
		return flock(fd, LOCK_EX | (wait ? 0 : LOCK_NB)) ? errno : 0;
	if (kind == OFD)
		return lock_call(fd, wait ? F_OFD_SETLKW : F_OFD_SETLK, F_WRLCK, 0, 9);
	return lock_call(fd, wait ? F_SETLKW : F_SETLK, F_WRLCK, 0, 9);
}

static void let_go(enum kind kind, int fd)
{
	if (kind == FLOCK)
		must(!flock(fd, LOCK_UN));
	else
		must(!lock_call(fd, kind == OFD ? F_OFD_SETLK : F_SETLK, F_UNLCK, 0, 9));
}

FIXTURE(waits) {
	int a, b, *turn;
};

FIXTURE_VARIANT(waits) {
	enum kind kind;
	bool device;
};

FIXTURE_VARIANT_ADD(waits, posix_file) { .kind = POSIX };
FIXTURE_VARIANT_ADD(waits, ofd_file) { .kind = OFD };
FIXTURE_VARIANT_ADD(waits, flock_file) { .kind = FLOCK };
FIXTURE_VARIANT_ADD(waits, posix_device) { .kind = POSIX, .device = true };
FIXTURE_VARIANT_ADD(waits, ofd_device) { .kind = OFD, .device = true };
FIXTURE_VARIANT_ADD(waits, flock_device) { .kind = FLOCK, .device = true };

FIXTURE_SETUP(waits)
{
	self->a = file_of(region_of(PAGES, 1), 0);
	self->b = file_of(self->a, 0);
	if (variant->device) {
		close(self->b);
		self->b = region_of(PAGES, 1);
		close(self->a);
		self->a = file_of(self->b, 0);
	}
	self->turn = shared_mem(sizeof(*self->turn));
}

FIXTURE_TEARDOWN(waits)
{
}

/* A child that takes the lock by the other descriptor and says so. */
static pid_t waiter(FIXTURE_DATA(waits) *self, enum kind kind)
{
	pid_t pid = spawn();
	int err;

	if (pid)
		return pid;
	signal(SIGUSR1, fault_handler);
	put(self->turn, 1);
	err = take(kind, self->b, true);
	put(self->turn, err ? -err : 2);
	_exit(err);
}

TEST_F(waits, until_it_is_free)
{
	pid_t pid;

	ASSERT_EQ(0, take(variant->kind, self->a, false));
	pid = waiter(self, variant->kind);
	await(self->turn, 1);
	usleep(100000);
	EXPECT_EQ(1, get(self->turn));
	let_go(variant->kind, self->a);
	EXPECT_EQ(0, reap(pid));
	EXPECT_EQ(2, get(self->turn));
}

TEST_F(waits, until_it_is_closed)
{
	pid_t pid;

	ASSERT_EQ(0, take(variant->kind, self->a, false));
	pid = waiter(self, variant->kind);
	/* The child has it, too. */
	await(self->turn, 1);
	usleep(100000);
	EXPECT_EQ(1, get(self->turn));
	close(self->a);
	if (variant->kind == POSIX) {
		EXPECT_EQ(0, reap(pid));
	} else {
		usleep(100000);
		EXPECT_EQ(1, get(self->turn));
		kill(pid, SIGKILL);
		EXPECT_EQ(128 + SIGKILL, reap(pid));
		EXPECT_EQ(0, take(variant->kind, self->b, false));
	}
}

static void nothing(int sig)
{
}

TEST_F(waits, until_a_signal)
{
	struct sigaction act = { .sa_handler = nothing };
	pid_t pid;
	int i;

	ASSERT_EQ(0, take(variant->kind, self->a, false));
	pid = spawn();
	if (!pid) {
		must(!sigaction(SIGUSR1, &act, NULL));
		put(self->turn, 1);
		_exit(take(variant->kind, self->b, true));
	}
	await(self->turn, 1);
	usleep(100000);
	kill(pid, SIGUSR1);
	EXPECT_EQ(EINTR, reap(pid));
	for (i = 0; i < 3; i++) {
		put(self->turn, 0);
		pid = waiter(self, variant->kind);
		await(self->turn, 1);
		usleep(30000);
		kill(pid, SIGKILL);
		EXPECT_EQ(128 + SIGKILL, reap(pid));
	}
	/* Nobody is in the queue any more. */
	let_go(variant->kind, self->a);
	EXPECT_EQ(0, take(variant->kind, self->b, false));
}

TEST_F(waits, not_for_ever)
{
	pid_t pid;

	if (variant->kind != POSIX)
		return;
	ASSERT_EQ(0, posix(self->a, F_WRLCK, 0, 1));
	pid = spawn();
	if (!pid) {
		if (posix(self->b, F_WRLCK, 1, 1))
			_exit(1);
		put(self->turn, 1);
		_exit(lock_call(self->b, F_SETLKW, F_WRLCK, 0, 1));
	}
	await(self->turn, 1);
	usleep(100000);
	EXPECT_EQ(EDEADLK, lock_call(self->a, F_SETLKW, F_WRLCK, 1, 1));
	EXPECT_EQ(EDEADLK, lock_call(self->b, F_SETLKW, F_WRLCK, 1, 1));
	EXPECT_EQ(0, posix(self->a, F_UNLCK, 0, 1));
	EXPECT_EQ(0, reap(pid));
}

/* Many take turns, by all kinds of descriptors: one at a time. */
TEST_F(waits, exclusively)
{
	enum { TAKERS = 4 };
	volatile int *count = shared_mem(sizeof(*count));
	int i, k, n = effort(200);
	pid_t pid[TAKERS];

	for (i = 0; i < TAKERS; i++) {
		pid[i] = spawn();
		if (!pid[i]) {
			int fd = i % 2 ? file_of(self->b, 0) : self->b;

			if (i >= 2 || variant->kind != POSIX)
				fd = open_again(file_of(self->b, 0), O_RDWR);
			must(fd >= 0);
			for (k = 0; k < n; k++) {
				int was;

				must(!take(variant->kind, fd, true));
				was = *count;
				if (k % 16 == 0)
					sched_yield();
				*count = was + 1;
				let_go(variant->kind, fd);
			}
			_exit(0);
		}
	}
	for (i = 0; i < TAKERS; i++)
		EXPECT_EQ(0, reap(pid[i]));
	EXPECT_EQ(TAKERS * n, *count);
}

TEST_HARNESS_MAIN
