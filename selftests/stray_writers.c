// SPDX-License-Identifier: GPL-2.0-only
/*
 * Promise: once a clone is made, no mapping of the origin can write to it any
 * more, whatever else maps the origin, and whatever other threads do to the
 * address space meanwhile.  A region that changes its size at the same time
 * neither loses nor leaks a page.
 */
#include <pthread.h>
#include "../kselftest_harness.h"
#include "common.h"

/* How often the races are tried. */
#define ROUNDS 300

/* Write through @mem, which maps page 0 of @fd: the clone must not see it. */
static bool write_stays_out(int fd, char *mem)
{
	int clone;
	bool ok;

	pg_fill(mem, 1, 0);
	clone = cloned(fd);
	pg_fill(mem, 2, 0);
	ok = fd_is(clone, 0, 1, 1) && fd_is(fd, 0, 1, 2);
	close(clone);
	return ok;
}

/*
 * A mapping that cannot be written must not hide one that can, on either side
 * of it in the list of mappings.
 */
FIXTURE(beside) {
	int fd;
	char *before, *mem, *after;
};

FIXTURE_VARIANT(beside) {
	int prot, flags, mode;
};

FIXTURE_VARIANT_ADD(beside, private_readonly) {
	.prot = PROT_READ, .flags = MAP_PRIVATE, .mode = O_RDWR,
};

FIXTURE_VARIANT_ADD(beside, private_writable) {
	.prot = PROT_READ | PROT_WRITE, .flags = MAP_PRIVATE, .mode = O_RDWR,
};

FIXTURE_VARIANT_ADD(beside, shared_none) {
	.prot = PROT_NONE, .flags = MAP_SHARED, .mode = O_RDWR,
};

FIXTURE_SETUP(beside)
{
	self->fd = region_of(4, 1);
	self->before = map_at(self->fd, 4, variant->prot, variant->flags, 0);
	self->mem = map_rw(self->fd, 4);
	self->after = map_at(self->fd, 4, variant->prot, variant->flags, 0);
}

FIXTURE_TEARDOWN(beside)
{
}

TEST_F(beside, untouched)
{
	EXPECT_TRUE(write_stays_out(self->fd, self->mem));
}

TEST_F(beside, touched)
{
	if (variant->prot & PROT_READ) {
		EXPECT_TRUE(pg_is(self->before, 1, 0));
		EXPECT_TRUE(pg_is(self->after, 1, 0));
	}
	if (variant->prot & PROT_WRITE)
		pg_fill(self->before, 3, 0);
	EXPECT_TRUE(write_stays_out(self->fd, self->mem));
	EXPECT_TRUE(write_stays_out(self->fd, self->mem));
}

/* A write that does not go through a page that was ever read. */
TEST(two_shared_mappings)
{
	int fd = region_of(4, 1);
	char *one = map_rw(fd, 4), *two = map_rw(fd, 4);
	int clone;

	pg_fill(one, 1, 0);
	pg_fill(two, 1, 0);
	clone = cloned(fd);
	pg_fill(two, 2, 0);
	pg_fill(one, 3, 0);
	EXPECT_TRUE(fd_is(clone, 0, 1, 1));
	EXPECT_TRUE(fd_is(fd, 0, 1, 3));
}

/*
 * Threads that write and fiddle with the mapping: whatever number a clone shows
 * first, it has to show for good.
 */
struct fiddler {
	int fd, stop;
	char *mem;
};

static void *toggles_protection(void *arg)
{
	struct fiddler *f = arg;

	while (!get(&f->stop)) {
		/* Dirty and read-only, then writable again. */
		*(volatile char *)f->mem += 1;
		mprotect(f->mem, pgsz(), PROT_READ);
		mprotect(f->mem, pgsz(), PROT_READ | PROT_WRITE);
		*(volatile char *)f->mem += 1;
		mprotect(f->mem, pgsz(), PROT_NONE);
		mprotect(f->mem, pgsz(), PROT_READ | PROT_WRITE);
	}
	return NULL;
}

static void *splits_mapping(void *arg)
{
	struct fiddler *f = arg;

	while (!get(&f->stop)) {
		/* The only mapping is cut in two and grows together again. */
		*(volatile char *)f->mem += 1;
		mprotect(f->mem + 2 * pgsz(), pgsz(), PROT_READ);
		*(volatile char *)f->mem += 1;
		mprotect(f->mem + 2 * pgsz(), pgsz(), PROT_READ | PROT_WRITE);
		*(volatile char *)f->mem += 1;
		munmap(f->mem + 3 * pgsz(), pgsz());
		*(volatile char *)f->mem += 1;
		mmap(f->mem + 3 * pgsz(), pgsz(), PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_FIXED, f->fd, 3 * pgsz());
	}
	return NULL;
}

static void *forks(void *arg)
{
	struct fiddler *f = arg;

	while (!get(&f->stop)) {
		pid_t pid = fork();

		must(pid >= 0);
		if (!pid) {
			*(volatile char *)f->mem += 1;
			_exit(0);
		}
		*(volatile char *)f->mem += 1;
		reap(pid);
	}
	return NULL;
}

static void *zaps(void *arg)
{
	struct fiddler *f = arg;

	while (!get(&f->stop)) {
		*(volatile char *)f->mem += 1;
		madvise(f->mem, 4 * pgsz(), MADV_DONTNEED);
	}
	return NULL;
}

FIXTURE(race) {
	struct fiddler f;
};

FIXTURE_VARIANT(race) {
	void *(*thread)(void *arg);
};

FIXTURE_VARIANT_ADD(race, mprotect) { .thread = toggles_protection };
FIXTURE_VARIANT_ADD(race, split_vma) { .thread = splits_mapping };
FIXTURE_VARIANT_ADD(race, fork) { .thread = forks };
FIXTURE_VARIANT_ADD(race, dontneed) { .thread = zaps };

FIXTURE_SETUP(race)
{
	self->f.fd = region_of(4, 1);
	self->f.mem = map_rw(self->f.fd, 4);
	self->f.stop = 0;
}

FIXTURE_TEARDOWN(race)
{
}

TEST_F(race, clone_stays)
{
	char first[16], later[16];
	pthread_t thread;
	int i, changed = 0, distinct = 0;
	double end = now() + 60;
	char last = 0;

	must(!pthread_create(&thread, NULL, variant->thread, &self->f));
	/* A real-time kernel may let the writer wait for long. */
	for (i = 0; i < ROUNDS || (distinct <= 10 && now() < end); i++) {
		int clone = cloned(self->f.fd);

		ASSERT_EQ(16, pread(clone, first, 16, 0));
		usleep(200);
		ASSERT_EQ(16, pread(clone, later, 16, 0));
		changed += memcmp(first, later, 16) != 0;
		distinct += first[0] != last;
		last = first[0];
		close(clone);
	}
	put(&self->f.stop, 1);
	pthread_join(thread, NULL);
	EXPECT_EQ(0, changed);
	/* The writer did write between the clones. */
	EXPECT_LT(10, distinct);
}

/* Faults past the end while somebody moves the end back and forth. */
static void *populates(void *arg)
{
	struct fiddler *f = arg;

	while (!get(&f->stop)) {
		poke(f->mem + 5 * pgsz(), 1);
		poke(f->mem + 900 * pgsz(), 1);
	}
	return NULL;
}

TEST(size_changes_under_faults)
{
	struct fiddler f = { .fd = region() };
	int clone, i;
	pthread_t thread;
	char c = 1;

	f.mem = map_rw(f.fd, 1024);
	must(!do_resize(f.fd, 1));
	must(pwrite(f.fd, &c, 1, 0) == 1);
	must(!pthread_create(&thread, NULL, populates, &f));
	for (i = 0; i < ROUNDS; i++) {
		/* Page 5 is in the leaf that the clone shares, 900 is not. */
		clone = cloned(f.fd);
		ASSERT_EQ(1, pwrite(f.fd, &c, 1, 950 * pgsz()));
		usleep(100);
		ASSERT_EQ(0, do_resize(f.fd, 1));
		ASSERT_EQ(1, info(clone).pages_populated);
		ASSERT_EQ(1, info(f.fd).pages_populated);
		close(clone);
	}
	put(&f.stop, 1);
	pthread_join(thread, NULL);
}

/* Past what a file without O_LARGEFILE may have, on a descriptor of each kind. */
TEST(far_offsets)
{
	uint64_t at = 5ULL << 30;
	int fd = region_of(1, 1), clone = cloned(fd);
	char c = 7, d = 0;

	EXPECT_EQ(1, pwrite(fd, &c, 1, at));
	EXPECT_EQ(1, pwrite(clone, &c, 1, at));
	EXPECT_EQ(1, pread(clone, &d, 1, at));
	EXPECT_EQ(7, d);
	EXPECT_EQ(at + 1, info(clone).size);
}

/* A range clone starts elsewhere in its leaves than the origin does. */
TEST(clone_of_a_range_clone)
{
	int fd = region_of(256, 1), range, snap;
	char *mem;

	range = do_clone(fd, 0, 64 * pgsz(), 0);
	ASSERT_LE(0, range);
	close(fd);
	mem = map_rw(range, 192);
	pg_fill(mem + 70 * pgsz(), 2, 70);
	snap = snapshot(range);
	pg_fill(mem + 70 * pgsz(), 3, 70);
	EXPECT_TRUE(fd_is(snap, 70, 1, 2));
	EXPECT_TRUE(fd_is(range, 70, 1, 3));
	EXPECT_TRUE(holds(range, 1, 191));
}

/* The argument itself lies in what is discarded. */
TEST(argument_in_the_hole)
{
	int fd = region_of(2, 1);
	struct cowmem_discard *arg = (void *)map_rw(fd, 2);

	memset(arg, 0, sizeof(*arg));
	arg->length = 2 * pgsz();
	ASSERT_EQ(0, ioctl(fd, COWMEM_IOC_DISCARD, arg));
	EXPECT_TRUE(fd_is(fd, 0, 2, 0));
	EXPECT_TRUE(holds(fd, 0, 0));
}

TEST_HARNESS_MAIN
