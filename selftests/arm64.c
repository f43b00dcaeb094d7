// SPDX-License-Identifier: GPL-2.0-only
/*
 * Promise: what only arm64 has, regions have as far as a memfd has it, or refuse it: addresses
 * with tags, addresses of more than 48 bits, memory that is tagged.
 */
#include <sys/auxv.h>
#include <sys/prctl.h>

#include "../kselftest_harness.h"
#include "common.h"

enum { PAGES = 8 };

#ifdef __aarch64__

#ifndef HWCAP2_MTE
#define HWCAP2_MTE (1 << 18)
#endif
#ifndef PROT_MTE
#define PROT_MTE 0x20
#endif
#ifndef PR_SET_TAGGED_ADDR_CTRL
#define PR_SET_TAGGED_ADDR_CTRL 55
#define PR_TAGGED_ADDR_ENABLE 1
#endif

#define TAGGED(address) ((uintptr_t)(address) | 0x2aULL << 56)

/* Arguments are in memory whose address has a tag, as are addresses in them. */
TEST(addresses_with_tags)
{
	int fd = region_of(PAGES, 1), snap = snapshot(fd), fds[1] = { fd }, clones[1] = { -1 };
	struct cowmem_extent e[2];
	struct cowmem_diff diff = { .fd = snap, .extents = TAGGED(e), .count = 2 };
	struct cowmem_clone_many many = {
		.fds = TAGGED(fds), .clones = TAGGED(clones), .count = 1,
	};
	struct cowmem_file file = { .name = TAGGED("tagged") };
	char *mem = map_rw(fd, PAGES), byte = 0;

	pg_fill(mem, 2, 0);
	EXPECT_EQ(-1, ioctl(fd, COWMEM_IOC_DIFF, TAGGED(&diff)));
	EXPECT_EQ(EFAULT, errno);
	if (prctl(PR_SET_TAGGED_ADDR_CTRL, PR_TAGGED_ADDR_ENABLE, 0, 0, 0))
		SKIP(return, "this kernel takes no addresses with tags");
	ASSERT_EQ(0, ioctl(fd, COWMEM_IOC_DIFF, TAGGED(&diff)));
	EXPECT_EQ(1, diff.count);
	EXPECT_EQ(pgsz(), e[0].length);
	ASSERT_EQ(0, ioctl(fd, COWMEM_IOC_CLONE_MANY, TAGGED(&many)));
	EXPECT_TRUE(fd_is(clones[0], 1, PAGES - 1, 1));
	ASSERT_EQ(0, ioctl(fd, COWMEM_IOC_FILE, TAGGED(&file)));
	EXPECT_EQ(1, pread(fd, (char *)TAGGED(&byte), 1, pgsz()));
	/* A store to a page that is shared, and one that is read from there by the kernel */
	*(volatile char *)TAGGED(mem + 3 * pgsz()) = 'x';
	EXPECT_EQ('x', mem[3 * pgsz()]);
	EXPECT_EQ(1, pwrite(fd, (char *)TAGGED(mem + 3 * pgsz()), 1, 5 * pgsz()));
	EXPECT_EQ('x', mem[5 * pgsz()]);
	EXPECT_TRUE(fd_is(snap, 0, PAGES, 1));
}

/* Where addresses have 52 bits who names one gets it. */
TEST(addresses_of_52_bits)
{
	int fd = region_of(PAGES, 1), snap;
	void *there = (void *)(1UL << 50);
	char *mem = mmap(there, PAGES * pgsz(), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	ASSERT_NE(MAP_FAILED, mem);
	if ((uintptr_t)mem < 1UL << 48)
		SKIP(return, "addresses have 48 bits here");
	EXPECT_TRUE(is(mem, PAGES, 1, 0));
	snap = snapshot(fd);
	fill(mem, PAGES, 2, 0);
	EXPECT_TRUE(fd_is(snap, 0, PAGES, 1));
	EXPECT_TRUE(fd_is(fd, 0, PAGES, 2));
}

/* Memory of a region has no tags: a copy or a zeroed page would have to bring its own. */
TEST(memory_with_tags)
{
	int fd = region_of(PAGES, 1);
	char *mem = map_rw(fd, PAGES);

	if (!(getauxval(AT_HWCAP2) & HWCAP2_MTE))
		SKIP(return, "this processor does not tag memory: scripts/vm --qemu '-machine mte=on'");
	EXPECT_EQ(MAP_FAILED, mmap(NULL, pgsz(), PROT_READ | PROT_WRITE | PROT_MTE,
				   MAP_SHARED, fd, 0));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(MAP_FAILED, mmap(NULL, pgsz(), PROT_READ | PROT_WRITE | PROT_MTE,
				   MAP_PRIVATE, fd, 0));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, mprotect(mem, pgsz(), PROT_READ | PROT_WRITE | PROT_MTE));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_TRUE(is(mem, PAGES, 1, 0));
}

#else

TEST(none)
{
	SKIP(return, "this machine is no arm64");
}

#endif

TEST_HARNESS_MAIN
