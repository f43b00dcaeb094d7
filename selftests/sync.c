// SPDX-License-Identifier: GPL-2.0-only
/*
 * Promise: process-shared mutexes, condition variables and futexes work inside
 * a region: between threads, between mappings at different addresses, between
 * processes; and those of a clone are the clone's own, although they start as a
 * copy on the very same page.
 */
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sys/syscall.h>

#include "../kselftest_harness.h"
#include "common.h"

/* What lies on one page of a region. */
struct shared {
	pthread_mutex_t lock;
	pthread_mutex_t robust;
	pthread_cond_t cond;
	uint64_t a, b;		/* equal whenever the lock is not held */
	int turn;
	uint32_t word;		/* a futex */
};

static void init_shared(struct shared *s)
{
	pthread_mutexattr_t ma;
	pthread_condattr_t ca;

	must(!pthread_mutexattr_init(&ma));
	must(!pthread_mutexattr_setpshared(&ma, PTHREAD_PROCESS_SHARED));
	must(!pthread_mutex_init(&s->lock, &ma));
	must(!pthread_mutexattr_setrobust(&ma, PTHREAD_MUTEX_ROBUST));
	must(!pthread_mutex_init(&s->robust, &ma));
	must(!pthread_condattr_init(&ca));
	must(!pthread_condattr_setpshared(&ca, PTHREAD_PROCESS_SHARED));
	must(!pthread_cond_init(&s->cond, &ca));
}

static struct shared *map_shared(int fd)
{
	return (struct shared *)map_rw(fd, 1);
}

static int futex_wait(uint32_t *word, uint32_t val, long ms)
{
	struct timespec ts = { ms / 1000, ms % 1000 * 1000000 };

	return syscall(SYS_futex, word, FUTEX_WAIT, val, ms ? &ts : NULL, NULL,
		       0);
}

static int futex_wake(uint32_t *word, int n)
{
	return syscall(SYS_futex, word, FUTEX_WAKE, n, NULL, NULL, 0);
}

/* Wake one waiter that is on its way to sleep; it may take some tries. */
static bool wake_one(uint32_t *word)
{
	int i;

	for (i = 0; i < 20000; i++) {
		int n = futex_wake(word, 1);

		if (n == 1)
			return true;
		must(!n);
		usleep(1000);
	}
	return false;
}

FIXTURE(sync) {
	int fd;			/* the region in use */
	int other;		/* a relative of it, or -1 */
	struct shared *s;	/* of the region in use */
	struct shared *far;	/* the same at another address */
};

FIXTURE_VARIANT(sync) {
	bool cloned, in_clone, snapshot, drop_other;
};

FIXTURE_VARIANT_ADD(sync, region) { .cloned = false };
FIXTURE_VARIANT_ADD(sync, origin) { .cloned = true };
FIXTURE_VARIANT_ADD(sync, clone) { .cloned = true, .in_clone = true };
FIXTURE_VARIANT_ADD(sync, clone_alone) {
	.cloned = true, .in_clone = true, .drop_other = true,
};
FIXTURE_VARIANT_ADD(sync, clone_of_snapshot) {
	.cloned = true, .in_clone = true, .snapshot = true,
};

FIXTURE_SETUP(sync)
{
	int fd = region_of(1, 0), clone = -1, snap;
	struct shared *s = map_shared(fd);

	init_shared(s);
	if (variant->snapshot) {
		snap = snapshot(fd);
		clone = cloned(snap);
	} else if (variant->cloned) {
		clone = cloned(fd);
	}
	self->fd = variant->in_clone ? clone : fd;
	self->other = variant->in_clone ? fd : clone;
	self->s = variant->in_clone ? map_shared(clone) : s;
	self->far = map_shared(self->fd);
	if (variant->drop_other) {
		unmap(s, 1);
		close(self->other);
		self->other = -1;
	}
	ASSERT_NE(self->s, self->far);
}

FIXTURE_TEARDOWN(sync)
{
}

enum { TURNS = 300 };

/* Two players take turns; each sees what the other has written. */
static void *play(struct shared *s, int me)
{
	int i;

	for (i = 0; i < TURNS; i++) {
		must(!pthread_mutex_lock(&s->lock));
		while (s->turn != me)
			must(!pthread_cond_wait(&s->cond, &s->lock));
		must(s->a == s->b);
		s->a++;
		sched_yield();
		s->b++;
		s->turn = !me;
		must(!pthread_cond_broadcast(&s->cond));
		must(!pthread_mutex_unlock(&s->lock));
	}
	return NULL;
}

static void *play_second(void *arg)
{
	return play(arg, 1);
}

#define TURNS_PLAYED(s) ((s)->a == 2 * TURNS && (s)->b == 2 * TURNS)

TEST_F(sync, two_threads)
{
	pthread_t thread;

	ASSERT_EQ(0, pthread_create(&thread, NULL, play_second, self->s));
	play(self->s, 0);
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_TRUE(TURNS_PLAYED(self->far));
}

TEST_F(sync, two_addresses)
{
	pthread_t thread;

	ASSERT_EQ(0, pthread_create(&thread, NULL, play_second, self->far));
	play(self->s, 0);
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_TRUE(TURNS_PLAYED(self->far));
	EXPECT_TRUE(TURNS_PLAYED(self->s));
}

TEST_F(sync, two_processes)
{
	pid_t pid;

	pid = spawn();
	if (!pid) {
		play(map_shared(self->fd), 1);
		_exit(0);
	}
	play(self->s, 0);
	EXPECT_EQ(0, reap(pid));
	EXPECT_TRUE(TURNS_PLAYED(self->s));
}

/* The turns go on while clones are taken, which split the page each time. */
TEST_F(sync, while_clones_are_taken)
{
	int *done = shared_mem(sizeof(*done)), n = 0;
	pthread_t thread;
	pid_t pid;

	pid = spawn();
	if (!pid) {
		struct shared *s;

		for (; !get(done); n++) {
			int clone = cloned(self->fd);

			/* In a clone it can be anybody's turn, but one's. */
			s = map_shared(clone);
			must(s->a - s->b <= 1);
			unmap(s, 1);
			close(clone);
			usleep(1000);
		}
		_exit(n ? 0 : 1);
	}
	ASSERT_EQ(0, pthread_create(&thread, NULL, play_second, self->far));
	play(self->s, 0);
	ASSERT_EQ(0, pthread_join(thread, NULL));
	put(done, 1);
	EXPECT_EQ(0, reap(pid));
	EXPECT_TRUE(TURNS_PLAYED(self->far));
}

TEST_F(sync, robust_mutex_survives_its_owner)
{
	EXPECT_EQ(0, in_child(
		if (pthread_mutex_lock(&self->s->robust))
			_exit(1);
		self->s->a = 77;
	));
	EXPECT_EQ(EOWNERDEAD, pthread_mutex_lock(&self->far->robust));
	EXPECT_EQ(77, self->far->a);
	EXPECT_EQ(0, pthread_mutex_consistent(&self->far->robust));
	EXPECT_EQ(0, pthread_mutex_unlock(&self->far->robust));
	EXPECT_EQ(0, pthread_mutex_lock(&self->s->robust));
	EXPECT_EQ(0, pthread_mutex_unlock(&self->s->robust));
}

/* ---- a region and its clone have nothing to do with each other ---- */

TEST(lock_held_at_the_clone_is_independent)
{
	int fd = region_of(1, 0), clone;
	struct shared *s = map_shared(fd), *c;

	init_shared(s);
	ASSERT_EQ(0, pthread_mutex_lock(&s->lock));
	clone = cloned(fd);
	c = map_shared(clone);
	EXPECT_EQ(EBUSY, pthread_mutex_trylock(&c->lock));
	ASSERT_EQ(0, pthread_mutex_unlock(&s->lock));
	/* The one in the clone is held as before; and its holder can let go. */
	EXPECT_EQ(EBUSY, pthread_mutex_trylock(&c->lock));
	EXPECT_EQ(0, pthread_mutex_trylock(&s->lock));
	EXPECT_EQ(0, pthread_mutex_unlock(&c->lock));
	EXPECT_EQ(0, pthread_mutex_trylock(&c->lock));
	EXPECT_EQ(EBUSY, pthread_mutex_trylock(&s->lock));
}

struct sleeper {
	uint32_t *word;
	long ms;
	int ret, err;
	int asleep;
};

static void *sleep_on(void *arg)
{
	struct sleeper *sl = arg;

	put(&sl->asleep, 1);
	sl->ret = futex_wait(sl->word, 0, sl->ms);
	sl->err = errno;
	return NULL;
}

/* Wake on one side as often as a waiter on the other side is asleep. */
static void check_no_cross_wake(struct __test_metadata *_metadata,
				uint32_t *waits, uint32_t *wakes)
{
	struct sleeper sl = { .word = waits, .ms = 300 };
	pthread_t thread;
	int i;

	ASSERT_EQ(0, pthread_create(&thread, NULL, sleep_on, &sl));
	await(&sl.asleep, 1);
	for (i = 0; i < 40; i++) {
		/* Nobody sleeps there. */
		EXPECT_EQ(0, futex_wake(wakes, INT_MAX));
		usleep(10000);
	}
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EQ(-1, sl.ret);
	EXPECT_EQ(ETIMEDOUT, sl.err);
}

FIXTURE(cross) {
	uint32_t *origin, *clone;
};

FIXTURE_VARIANT(cross) {
	bool split;		/* the page was written after the clone */
};

FIXTURE_VARIANT_ADD(cross, shared_page) { .split = false };
FIXTURE_VARIANT_ADD(cross, split_page) { .split = true };

FIXTURE_SETUP(cross)
{
	int fd = region_of(1, 0), clone;
	struct shared *s = map_shared(fd), *c;

	s->a = 1;
	clone = cloned(fd);
	c = map_shared(clone);
	EXPECT_EQ(1, c->a);
	if (variant->split) {
		s->a = 2;
		c->a = 3;
	}
	self->origin = &s->word;
	self->clone = &c->word;
}

FIXTURE_TEARDOWN(cross)
{
}

TEST_F(cross, clone_is_not_woken_by_origin)
{
	check_no_cross_wake(_metadata, self->clone, self->origin);
}

TEST_F(cross, origin_is_not_woken_by_clone)
{
	check_no_cross_wake(_metadata, self->origin, self->clone);
}

/* With read-only mappings nothing is split: both see the very same page. */
TEST(read_only_waiter_is_not_woken_by_a_relative)
{
	int fd = region_of(1, 0), clone;
	struct shared *s = map_shared(fd);
	struct sleeper sl = { .ms = 300 };
	pthread_t thread;
	int i;

	s->a = 1;
	clone = cloned(fd);
	sl.word = &((struct shared *)map_ro(clone, 1))->word;
	EXPECT_EQ(0, *sl.word);
	ASSERT_EQ(0, pthread_create(&thread, NULL, sleep_on, &sl));
	await(&sl.asleep, 1);
	for (i = 0; i < 40; i++) {
		EXPECT_EQ(0, futex_wake(&s->word, INT_MAX));
		usleep(10000);
	}
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EQ(-1, sl.ret);
	/* A futex may be refused on a page that nobody owns, not mixed up. */
	EXPECT_TRUE(sl.err == ETIMEDOUT || sl.err == EFAULT)
		TH_LOG("futex: %s", strerror(sl.err));
}

/* The waiter sleeps, the region is cloned, the page split: still the same. */
FIXTURE(asleep) {
	int fd;
	uint32_t *word, *far;
};

FIXTURE_VARIANT(asleep) {
	bool write_clone, write_origin, discard, remap;
};

FIXTURE_VARIANT_ADD(asleep, cloned) { .remap = false };
FIXTURE_VARIANT_ADD(asleep, cloned_and_split) { .write_origin = true };
FIXTURE_VARIANT_ADD(asleep, cloned_and_split_there) { .write_clone = true };
FIXTURE_VARIANT_ADD(asleep, cloned_and_split_on_both_sides) {
	.write_origin = true, .write_clone = true,
};
FIXTURE_VARIANT_ADD(asleep, discarded) { .discard = true };
FIXTURE_VARIANT_ADD(asleep, woken_by_a_new_mapping) {
	.write_origin = true, .remap = true,
};

FIXTURE_SETUP(asleep)
{
	self->fd = region_of(2, 0);
	self->word = (uint32_t *)(map_rw(self->fd, 2) + pgsz() + 64);
	self->far = (uint32_t *)(map_rw(self->fd, 2) + pgsz() + 64);
}

FIXTURE_TEARDOWN(asleep)
{
}

TEST_F(asleep, waiter_is_woken)
{
	struct sleeper sl = { .word = self->word, .ms = 0 };
	pthread_t thread;
	int clone;

	ASSERT_EQ(0, pthread_create(&thread, NULL, sleep_on, &sl));
	await(&sl.asleep, 1);
	usleep(50000);		/* most likely asleep; wake_one() does not care */
	clone = cloned(self->fd);
	if (variant->write_origin)
		self->word[1] = 1;
	if (variant->write_clone)
		memset(map_rw(clone, 2), 0, 2 * pgsz());
	if (variant->discard)
		ASSERT_EQ(0, do_discard(self->fd, pgsz(), pgsz()));
	if (variant->remap) {
		close(clone);
		self->far = (uint32_t *)(map_rw(self->fd, 2) + pgsz() + 64);
	}
	EXPECT_TRUE(wake_one(self->far));
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EQ(0, sl.ret);
}

/* Many waiters in two processes, all woken at once. */
TEST(wake_all)
{
	enum { N = 6 };
	int *asleep = shared_mem(sizeof(*asleep)), i, woken = 0;
	int fd = region_of(1, 0);
	struct shared *s = map_shared(fd);
	pid_t pid[N];

	s->a = 1;
	for (i = 0; i < N; i++) {
		pid[i] = spawn();
		if (!pid[i]) {
			struct shared *own = i % 2 ? map_shared(fd) : s;

			__atomic_add_fetch(asleep, 1, __ATOMIC_ACQ_REL);
			_exit(futex_wait(&own->word, 0, 0) ? errno : 0);
		}
	}
	await(asleep, N);
	for (i = 0; i < 20000 && woken < N; i++) {
		int n = futex_wake(&s->word, INT_MAX);

		ASSERT_LE(0, n);
		woken += n;
		if (i == 10)
			close(cloned(fd));
		usleep(1000);
	}
	EXPECT_EQ(N, woken);
	for (i = 0; i < N; i++)
		EXPECT_EQ(0, reap(pid[i]));
}

TEST_HARNESS_MAIN
