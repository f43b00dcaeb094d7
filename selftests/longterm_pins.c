// SPDX-License-Identifier: GPL-2.0-only
/*
 * Promise: pages that the kernel pinned for long, as for RDMA, by the fast and by the
 * slow way, belong to one region: what it writes later is no other's to see, whoever
 * lets go first.
 *
 * Needs CONFIG_GUP_TEST, whose interface is mm/gup_test.h.
 */
#include "../kselftest_harness.h"
#include "common.h"

#define GUP_TEST "/sys/kernel/debug/gup_test"

struct pin_longterm_test {
	__u64 addr;
	__u64 size;
	__u32 flags;
};

#define PIN_LONGTERM_TEST_FLAG_USE_WRITE	1
#define PIN_LONGTERM_TEST_FLAG_USE_FAST		2
#define PIN_LONGTERM_TEST_START	_IOW('g', 7, struct pin_longterm_test)
#define PIN_LONGTERM_TEST_STOP	_IO('g', 8)
#define PIN_LONGTERM_TEST_READ	_IOW('g', 9, __u64)

enum { PAGES = 70 };

FIXTURE(pins) {
	int gup;
	int fd;
	char *mem;		/* maps it */
	char *seen;		/* what is read through the pin */
};

/* Before any test, so that it is skipped once. */
static void __attribute__((constructor)) need_gup_test(void)
{
	if (!access(GUP_TEST, F_OK))
		return;
	ksft_print_header();
	ksft_exit_skip("no " GUP_TEST ": this kernel has no CONFIG_GUP_TEST\n");
}

FIXTURE_VARIANT(pins) {
	unsigned int flags;
};

FIXTURE_VARIANT_ADD(pins, slow) { .flags = 0 };
FIXTURE_VARIANT_ADD(pins, fast) { .flags = PIN_LONGTERM_TEST_FLAG_USE_FAST };

FIXTURE_SETUP(pins)
{
	self->gup = open(GUP_TEST, O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, self->gup);
	self->fd = region_of(PAGES, 1);
	self->mem = map_rw(self->fd, PAGES);
	self->seen = anon(PAGES);
}

FIXTURE_TEARDOWN(pins)
{
	EXPECT_EQ(0, ioctl(self->gup, PIN_LONGTERM_TEST_STOP));
	EXPECT_TRUE(fd_is(self->fd, 0, PAGES, 2));
	unmap(self->mem, PAGES);
	close(self->fd);
	close(self->gup);
}

static int pin(int gup, void *mem, unsigned int flags)
{
	struct pin_longterm_test arg = {
		.addr = (uintptr_t)mem, .size = PAGES * pgsz(), .flags = flags,
	};

	return ioctl(gup, PIN_LONGTERM_TEST_START, &arg) ? errno : 0;
}

/* Does the pin show pages of @tag? */
static bool pin_shows(int gup, char *seen, uint32_t tag)
{
	__u64 addr = (uintptr_t)seen;

	memset(seen, 0, PAGES * pgsz());
	must(!ioctl(gup, PIN_LONGTERM_TEST_READ, &addr));
	return is(seen, PAGES, tag, 0);
}

/* The region that was pinned is gone; the other one, now their only holder, writes. */
TEST_F(pins, last_holder_does_not_write_in_place)
{
	int clone = cloned(self->fd);
	char *mem = map_rw(clone, PAGES);

	ASSERT_EQ(0, pin(self->gup, mem, variant->flags));
	unmap(mem, PAGES);
	close(clone);
	fill(self->mem, PAGES, 2, 0);
	EXPECT_TRUE(pin_shows(self->gup, self->seen, 1));
}

/* The pinned pages stay with the region that was pinned, and the clone gets copies. */
TEST_F(pins, clone_of_pinned_pages)
{
	int clone;

	fill(self->mem, PAGES, 1, 0);
	ASSERT_EQ(0, pin(self->gup, self->mem, variant->flags));
	clone = cloned(self->fd);
	fill(self->mem, PAGES, 2, 0);
	EXPECT_TRUE(pin_shows(self->gup, self->seen, 2));
	EXPECT_TRUE(fd_is(clone, 0, PAGES, 1));
	close(clone);
}

/* What the region gave up is kept for the pin alone. */
TEST_F(pins, discarded_while_pinned)
{
	fill(self->mem, PAGES, 1, 0);
	ASSERT_EQ(0, pin(self->gup, self->mem, variant->flags));
	ASSERT_EQ(0, do_discard(self->fd, 0, PAGES * pgsz()));
	fill(self->mem, PAGES, 2, 0);
	EXPECT_TRUE(pin_shows(self->gup, self->seen, 1));
}

/* Since 6.5 the kernel refuses: a long-term pin would write past page_mkwrite. */
TEST_F(pins, not_for_writing)
{
	fill(self->mem, PAGES, 2, 0);
	EXPECT_NE(0, pin(self->gup, self->mem,
			 variant->flags | PIN_LONGTERM_TEST_FLAG_USE_WRITE));
}

TEST_HARNESS_MAIN
