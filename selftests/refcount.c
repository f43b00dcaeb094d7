// SPDX-License-Identifier: GPL-2.0-only
/*
 * Promise: nobody drives the reference count of a page towards its overflow: a page with
 * 2^30 references is not mapped once more, be it one of a region or the one that
 * all holes of all regions read as.  What needs no further reference goes on,
 * and when the references are gone all is as before.
 *
 * Page tables are a dear way to get there: 8 GiB.  A cheap one is a pin, which
 * counts as 1024 references: process_vm_readv() pins up to 1024 pages and then
 * copies from them, here to memory whose fault a userfaultfd leaves open.  If
 * they are one page seen at 1024 addresses, 1024 threads will do.
 */
#include <pthread.h>
#include <sys/syscall.h>
#include <linux/userfaultfd.h>

#include "../kselftest_harness.h"
#include "common.h"

#define AT_ONCE	1024	/* pages pinned by a thread */
#define BIAS	1024	/* references that a pin counts as */
#define LIMIT	(1 << 30)
#define THREADS	(LIMIT / BIAS / AT_ONCE)

FIXTURE(many)
{
	int uffd;
	char *stuck;	/* one page: a write to it waits for us */
	int nr;
	char *seen;	/* one page, at AT_ONCE addresses */
	pthread_t threads[THREADS];
	int fd;
	char *mem;	/* the region, mapped */
};

FIXTURE_SETUP(many)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };

	memset(self, 0, sizeof(*self));
	self->uffd = syscall(SYS_userfaultfd, O_CLOEXEC);
	if (self->uffd < 0)
		SKIP(return, "the kernel has no userfaultfd");
	must(!ioctl(self->uffd, UFFDIO_API, &api));
	self->stuck = anon(1);
	reg.range.start = (uintptr_t)self->stuck;
	reg.range.len = pgsz();
	must(!ioctl(self->uffd, UFFDIO_REGISTER, &reg));
	self->fd = region();
	self->mem = map_rw(self->fd, 4 * AT_ONCE);
}

static void *pin(void *arg)
{
	struct _test_data_many *self = arg;
	struct iovec to = { self->stuck, 1 };
	struct iovec from = { self->seen, AT_ONCE * pgsz() };

	return (void *)process_vm_readv(getpid(), &to, 1, &from, 1, 0);
}

/* Have @n threads in all hold pins, and wait until they do. */
static void pin_by(struct _test_data_many *self, int n)
{
	struct uffd_msg msg;
	pthread_attr_t attr;

	pthread_attr_init(&attr);
	must(!pthread_attr_setstacksize(&attr, 1 << 17)); /* what arm64 wants at least */
	for (; self->nr < n; self->nr++) {
		must(!pthread_create(&self->threads[self->nr], &attr, pin, self));
		must(read(self->uffd, &msg, sizeof(msg)) == sizeof(msg));
		must(msg.event == UFFD_EVENT_PAGEFAULT);
	}
}

static bool let_go(struct _test_data_many *self)
{
	struct uffdio_zeropage zero = {};
	bool good = true;
	void *ret;

	zero.range.start = (uintptr_t)self->stuck;
	zero.range.len = pgsz();
	must(!ioctl(self->uffd, UFFDIO_ZEROPAGE, &zero));
	while (self->nr) {
		must(!pthread_join(self->threads[--self->nr], &ret));
		good &= (intptr_t)ret == 1;
	}
	return good;
}

FIXTURE_TEARDOWN(many)
{
	if (self->nr)
		let_go(self);
	close(self->uffd);
	close(self->fd);
}

/* What pread() returns for a page, if that is an error or the right content. */
static int reads(int fd, size_t page, uint32_t tag)
{
	char buf[1 << 16];
	ssize_t n = pread(fd, buf, pgsz(), page * pgsz());

	if (n < 0)
		return -errno;
	return n == (ssize_t)pgsz() && pg_is(buf, tag, page) ? 0 : -1;
}

TEST_F(many, references_to_the_zero_page)
{
	char *mem = map_ro(self->fd, AT_ONCE), *hole = self->mem + AT_ONCE * pgsz();
	int other = region_of(1, 3);
	char *beside = map_ro(other, 2);

	self->seen = mem;
	must(!madvise(mem, AT_ONCE * pgsz(), MADV_POPULATE_READ));
	pin_by(self, THREADS - 1);
	EXPECT_EQ(0, touch(hole, false));
	hole += 64 * pgsz();
	pin_by(self, THREADS);
	EXPECT_EQ(SIGBUS, touch(hole, false));
	EXPECT_EQ(-EMFILE, reads(self->fd, 2 * AT_ONCE, 0));
	/* Where it is mapped already, it stays; a write gets another page. */
	EXPECT_TRUE(is(mem, AT_ONCE, 0, 0));
	EXPECT_EQ(0, poke(hole, 'x'));
	EXPECT_EQ('x', *hole);
	/* A page with a hole beside it has nothing to do with it. */
	EXPECT_EQ(0, touch(beside, false));
	EXPECT_EQ(0, reads(other, 0, 3));

	EXPECT_TRUE(let_go(self));
	hole += 64 * pgsz();
	EXPECT_EQ(0, touch(hole, false));
	EXPECT_EQ(0, *hole);
	close(other);
}

/* The region's page 0, at many addresses. */
static void see_page_0(struct _test_data_many *self)
{
	size_t i;

	fill(self->mem, 1, 7, 0);
	self->seen = anon(AT_ONCE);
	for (i = 0; i < AT_ONCE; i++)
		must(mmap(self->seen + i * pgsz(), pgsz(), PROT_READ,
			  MAP_SHARED | MAP_FIXED | MAP_POPULATE, self->fd, 0) !=
		     MAP_FAILED);
}

TEST_F(many, references_to_a_page)
{
	char *ro, *rw, *cloned_mem;
	int clone;

	see_page_0(self);
	ro = map_ro(self->fd, 1);
	rw = map_rw(self->fd, 1);
	pin_by(self, THREADS - 1);
	EXPECT_EQ(0, touch(ro, false));
	EXPECT_EQ(0, poke(rw, *self->mem));
	must(!madvise(ro, pgsz(), MADV_DONTNEED));
	must(!madvise(rw, pgsz(), MADV_DONTNEED));
	pin_by(self, THREADS);
	EXPECT_EQ(SIGBUS, touch(ro, false));
	EXPECT_EQ(SIGBUS, touch(rw, false));
	EXPECT_EQ(SIGBUS, poke(rw, *self->mem));
	EXPECT_EQ(-EMFILE, reads(self->fd, 0, 7));
	/* It is mapped here already. */
	EXPECT_TRUE(is(self->mem, 1, 7, 0));

	/* Pinned, it stays the owner's: the clone gets a copy. */
	clone = cloned(self->fd);
	cloned_mem = map_rw(clone, 1);
	EXPECT_EQ(0, reads(clone, 0, 7));
	EXPECT_EQ(SIGBUS, poke(self->mem, 'x'));

	EXPECT_TRUE(let_go(self));
	EXPECT_EQ(0, poke(self->mem, 'x'));
	EXPECT_EQ(0, reads(clone, 0, 7));
	EXPECT_EQ(0, touch(ro, false));
	EXPECT_EQ('x', *ro);
	EXPECT_EQ(0, poke(rw, 'y'));
	EXPECT_EQ('y', *self->mem);
	EXPECT_TRUE(is(cloned_mem, 1, 7, 0));
	close(clone);
}

TEST_HARNESS_MAIN
