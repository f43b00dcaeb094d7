// SPDX-License-Identifier: GPL-2.0-only
/*
 * Promise: what is executed is what the region holds, on processors whose caches for
 * instructions do not follow writes as well.  QEMU's do, so part of this looks at what the
 * kernel notes: in which folios instructions are as they are in memory.
 */
#include "../kselftest_harness.h"
#include "common.h"
#include "frames.h"

enum { PAGES = 256, LEAF = 64 };

typedef int function(void);

/* Write a function that returns @n, as a program does: what it stored it cleans itself. */
static void write_function(char *mem, int n)
{
#if defined(__x86_64__)
	unsigned char code[] = { 0xb8, n, n >> 8, 0, 0, 0xc3 };		/* mov $n, %eax; ret */
#elif defined(__aarch64__)
	uint32_t code[] = { 0x52800000 | n << 5, 0xd65f03c0 };		/* mov w0, #n; ret */
#else
#error "how does a function return a number here?"
#endif
	memcpy(mem, code, sizeof(code));
	__builtin___clear_cache(mem, mem + sizeof(code));
}

static int call(const char *mem)
{
	function *f;

	memcpy(&f, &mem, sizeof(f));
	return f();
}

static char *map_to_execute(int fd)
{
	char *mem = mmap(NULL, PAGES * pgsz(), PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);

	must(mem != MAP_FAILED);
	return mem;
}

/* What the kernel notes of the folio that @mem, which can be read, is the first page of. */
static uint64_t flags_of(const char *mem)
{
	uint64_t frame;

	(void)*(volatile const char *)mem;
	frame = frame_of(mem);
	must(frame);
	return frame_flags(frame);
}

/* Does the kernel take the folio for one that can be executed? */
static bool noted(const char *mem)
{
	return flags_of(mem) & FRAME_ARCH;
}

FIXTURE(execute) {
	int fd, snap;
	char *mem, *code;
};

/* Each page has a function that returns its number; a snapshot shares all of them. */
FIXTURE_SETUP(execute)
{
	size_t i;

	self->fd = region();
	self->mem = map_rw(self->fd, PAGES);
	for (i = 0; i < PAGES; i++)
		write_function(self->mem + i * pgsz(), i);
	self->snap = snapshot(self->fd);
	self->code = map_to_execute(self->fd);
}

FIXTURE_TEARDOWN(execute)
{
}

TEST_F(execute, clones_have_code_of_their_own)
{
	int clone = cloned(self->fd), i;
	char *mem = map_rw(clone, PAGES), *code = map_to_execute(clone);

	for (i = 0; i < PAGES; i++)
		EXPECT_EQ(i, call(self->code + i * pgsz()));
	for (i = 0; i < PAGES; i += 3)
		write_function(mem + i * pgsz(), 1000 + i);
	for (i = 0; i < PAGES; i++) {
		EXPECT_EQ(i % 3 ? i : 1000 + i, call(code + i * pgsz()));
		EXPECT_EQ(i, call(self->code + i * pgsz()));
	}
}

FIXTURE(restored) {
	int fd, snap;
	char *mem, *code;
};

FIXTURE_VARIANT(restored) {
	bool by_mprotect;
};

FIXTURE_VARIANT_ADD(restored, mmap) { .by_mprotect = false };
FIXTURE_VARIANT_ADD(restored, mprotect) { .by_mprotect = true };

FIXTURE_SETUP(restored)
{
	self->fd = region();
	self->mem = map_rw(self->fd, PAGES);
	write_function(self->mem, 1);
	self->snap = snapshot(self->fd);
	if (variant->by_mprotect) {
		self->code = map_ro(self->fd, PAGES);
		must(!mprotect(self->code, PAGES * pgsz(), PROT_READ | PROT_EXEC));
	} else {
		self->code = map_to_execute(self->fd);
	}
}

FIXTURE_TEARDOWN(restored)
{
}

/* RESTORE writes nothing into a page under the eyes of who executes it. */
TEST_F(restored, code_is_what_it_was)
{
	struct cowmem_restore arg = { .fd = self->snap, .flags = COWMEM_RESTORE_KEEP };
	int round;

	if (!(info(self->fd).features & COWMEM_FEATURE_KEEP))
		SKIP(return, "no COWMEM_FEATURE_KEEP");
	for (round = 0; round < 3; round++) {
		write_function(self->mem, 2 + round);
		EXPECT_EQ(2 + round, call(self->code));
		ASSERT_EQ(0, ioctl(self->fd, COWMEM_IOC_RESTORE, &arg));
		/* Where caches for instructions follow writes, it may. */
#ifdef __aarch64__
		EXPECT_EQ(0, arg.kept);
#else
		EXPECT_EQ(1, arg.kept);
#endif
		EXPECT_EQ(1, call(self->code));
	}
}

/* What is not executed is kept, wherever. */
TEST(data_is_kept)
{
	int fd = region_of(PAGES, 1), snap = snapshot(fd);
	struct cowmem_restore arg = { .fd = snap, .flags = COWMEM_RESTORE_KEEP };
	char *mem = map_rw(fd, PAGES), *other = map_ro(fd, PAGES);

	if (!(info(fd).features & COWMEM_FEATURE_KEEP))
		SKIP(return, "no COWMEM_FEATURE_KEEP");
	must(!mprotect(other, PAGES * pgsz(), PROT_READ | PROT_WRITE));
	pg_fill(mem, 2, 0);
	ASSERT_EQ(0, ioctl(fd, COWMEM_IOC_RESTORE, &arg));
	EXPECT_EQ(1, arg.kept);
	EXPECT_TRUE(is(other, PAGES, 1, 0));
}

/*
 * Who writes in order gets folios of some leaves, a page at a time.  Each page is a copy, and not
 * yet to be executed when the one before was already.
 */
TEST_F(execute, copies_into_a_folio)
{
	char *first = self->mem + LEAF * pgsz();
	int i;

	if (noted(self->mem))
		SKIP(return, "the kernel notes something else in this flag");
	for (i = 0; i <= LEAF; i++)
		write_function(self->mem + i * pgsz(), 1000 + i);
	EXPECT_EQ(1000 + LEAF, call(self->code + LEAF * pgsz()));
#ifndef __aarch64__
	SKIP(return, "caches for instructions follow writes here");
#endif
	if (!(flags_of(first) & FRAME_HEAD))
		SKIP(return, "no folios of some leaves on this kernel");
	EXPECT_TRUE(noted(first));
	/* One store: all else of the page the kernel copies. */
	self->mem[(LEAF + 1) * pgsz() + 100] = 1;
	EXPECT_FALSE(noted(first));
	EXPECT_EQ(LEAF + 1, call(self->code + (LEAF + 1) * pgsz()));
	EXPECT_TRUE(noted(first));
}

TEST_HARNESS_MAIN
