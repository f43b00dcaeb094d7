// SPDX-License-Identifier: GPL-2.0-only
/*
 * Promise: seals are like those of a memfd.  WRITE keeps the content, FUTURE_WRITE
 * keeps it but for mappings that exist, GROW and SHRINK keep the size, SEAL keeps the
 * seals; none can be taken off; a clone starts without any.
 */
#include <linux/if_xdp.h>
#include <sys/socket.h>

#include "../kselftest_harness.h"
#include "common.h"

#ifndef AF_XDP
#define AF_XDP 44
#endif

#define PAGES 4
#define LEN (PAGES * pgsz())
#define ALL (COWMEM_SEAL_SEAL | COWMEM_SEAL_SHRINK | COWMEM_SEAL_GROW | \
	     COWMEM_SEAL_WRITE)

/* Add seals; return all that are in force then, or -1. */
static int64_t seal(int fd, uint32_t seals)
{
	struct cowmem_seal arg = { .seals = seals };

	return ioctl(fd, COWMEM_IOC_SEAL, &arg) ? -1 : (int64_t)arg.seals;
}

TEST(seals_add_up)
{
	int fd = region_of(PAGES, 1);

	EXPECT_EQ(0, seal(fd, 0));
	EXPECT_EQ(COWMEM_SEAL_GROW, seal(fd, COWMEM_SEAL_GROW));
	EXPECT_EQ(COWMEM_SEAL_GROW, seal(fd, 0));
	EXPECT_EQ(COWMEM_SEAL_GROW, seal(fd, COWMEM_SEAL_GROW));
	EXPECT_EQ(COWMEM_SEAL_GROW | COWMEM_SEAL_SHRINK,
		  seal(fd, COWMEM_SEAL_SHRINK));
	EXPECT_EQ(COWMEM_SEAL_GROW | COWMEM_SEAL_SHRINK, info(fd).seals);
	EXPECT_EQ(ALL, seal(fd, COWMEM_SEAL_WRITE | COWMEM_SEAL_SEAL));
	EXPECT_EQ(ALL, info(fd).seals);
	EXPECT_EQ(ALL, seal(fd, 0));
}

TEST(unknown_seals)
{
	int fd = region_of(PAGES, 1), i;

	for (i = 5; i < 32; i++) {
		EXPECT_EQ(-1, seal(fd, COWMEM_SEAL_GROW | 1U << i));
		EXPECT_EQ(EINVAL, errno);
	}
	EXPECT_EQ(0, info(fd).seals);
}

TEST(seal_seal)
{
	int fd = region_of(PAGES, 1), i;

	ASSERT_EQ(COWMEM_SEAL_SEAL | COWMEM_SEAL_SHRINK,
		  seal(fd, COWMEM_SEAL_SEAL | COWMEM_SEAL_SHRINK));
	for (i = 0; i < 4; i++) {
		/* Also one that is set already. */
		EXPECT_EQ(-1, seal(fd, 1U << i));
		EXPECT_EQ(EPERM, errno);
	}
	EXPECT_EQ(COWMEM_SEAL_SEAL | COWMEM_SEAL_SHRINK, seal(fd, 0));
	EXPECT_EQ(COWMEM_SEAL_SEAL | COWMEM_SEAL_SHRINK, info(fd).seals);
	/* What is not sealed goes on. */
	EXPECT_EQ(0, do_resize(fd, 2 * LEN));
	fill(map_rw(fd, PAGES), PAGES, 2, 0);
	EXPECT_TRUE(fd_is(fd, 0, PAGES, 2));
}

TEST(seal_grow)
{
	int fd = region_of(PAGES, 1);
	char buf[2 * pgsz()], *mem;

	ASSERT_EQ(COWMEM_SEAL_GROW, seal(fd, COWMEM_SEAL_GROW));
	EXPECT_EQ(-1, do_resize(fd, LEN + 1));
	EXPECT_EQ(EPERM, errno);
	EXPECT_EQ(0, do_resize(fd, LEN));
	EXPECT_EQ(LEN, info(fd).size);

	/* A mapping past the end maps, but there is nothing there. */
	mem = map_rw(fd, 2 * PAGES);
	EXPECT_EQ(LEN, info(fd).size);
	EXPECT_EQ(0, touch(mem + LEN - 1, true));
	EXPECT_EQ(SIGBUS, touch(mem + LEN, false));
	EXPECT_EQ(SIGBUS, poke(mem + LEN, 1));

	/* A write up to the end is short; one at the end is refused. */
	fill(buf, 2, 2, PAGES - 1);
	EXPECT_EQ((ssize_t)pgsz(), pwrite(fd, buf, 2 * pgsz(), LEN - pgsz()));
	EXPECT_TRUE(fd_is(fd, PAGES - 1, 1, 2));
	EXPECT_EQ(-1, pwrite(fd, buf, 1, LEN));
	EXPECT_EQ(EPERM, errno);
	EXPECT_EQ(-1, pwrite(fd, buf, 1, 10 * LEN));
	EXPECT_EQ(EPERM, errno);
	EXPECT_EQ(LEN, info(fd).size);
	EXPECT_TRUE(fd_is(fd, 0, PAGES - 1, 1));

	/* Shrinking is not sealed, but there is no way back. */
	EXPECT_EQ(0, do_resize(fd, pgsz()));
	EXPECT_EQ(-1, do_resize(fd, LEN));
	EXPECT_EQ(EPERM, errno);
	EXPECT_TRUE(holds(fd, 1, 0));
	EXPECT_TRUE(fd_is(fd, 0, 1, 1));
}

TEST(seal_shrink)
{
	int fd = region_of(PAGES, 1);

	ASSERT_EQ(COWMEM_SEAL_SHRINK, seal(fd, COWMEM_SEAL_SHRINK));
	EXPECT_EQ(-1, do_resize(fd, LEN - 1));
	EXPECT_EQ(EPERM, errno);
	EXPECT_EQ(-1, do_resize(fd, 0));
	EXPECT_EQ(EPERM, errno);
	EXPECT_EQ(0, do_resize(fd, LEN));
	EXPECT_TRUE(fd_is(fd, 0, PAGES, 1));
	EXPECT_EQ(0, do_resize(fd, 2 * LEN));
	EXPECT_EQ(-1, do_resize(fd, LEN));
	EXPECT_EQ(EPERM, errno);
	EXPECT_EQ(2 * LEN, info(fd).size);
	/* The size is sealed, not the content. */
	EXPECT_EQ(0, do_discard(fd, 0, LEN));
	EXPECT_TRUE(fd_is(fd, 0, PAGES, 0));
}

TEST(seal_write)
{
	int fd = region_of(PAGES, 1), pipes[2];
	loff_t off = 0;
	char *mem;

	ASSERT_EQ(0, pipe(pipes));
	ASSERT_EQ(1, write(pipes[1], "x", 1));
	ASSERT_EQ(COWMEM_SEAL_WRITE, seal(fd, COWMEM_SEAL_WRITE));
	EXPECT_EQ(MAP_FAILED, mmap(NULL, LEN, PROT_READ | PROT_WRITE,
				   MAP_SHARED, fd, 0));
	EXPECT_EQ(EPERM, errno);
	mem = map_ro(fd, PAGES);
	EXPECT_TRUE(is(mem, PAGES, 1, 0));
	EXPECT_EQ(-1, mprotect(mem, LEN, PROT_READ | PROT_WRITE));
	EXPECT_EQ(EACCES, errno);
	EXPECT_EQ(SIGSEGV, poke(mem, 1));
	EXPECT_EQ(-1, write(fd, "x", 1));
	EXPECT_EQ(EPERM, errno);
	EXPECT_EQ(-1, pwrite(fd, "x", 1, 2 * LEN));
	EXPECT_EQ(EPERM, errno);
	EXPECT_EQ(-1, splice(pipes[0], NULL, fd, &off, 1, 0));
	EXPECT_EQ(EPERM, errno);
	EXPECT_EQ(-1, do_discard(fd, 0, pgsz()));
	EXPECT_EQ(EPERM, errno);
	EXPECT_EQ(-1, do_discard(fd, 1, 1));
	EXPECT_EQ(EPERM, errno);
	EXPECT_TRUE(fd_is(fd, 0, PAGES, 1));
	EXPECT_TRUE(holds(fd, PAGES, 0));

	/* A private copy is not the content. */
	mem = map_at(fd, PAGES, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0);
	fill(mem, PAGES, 2, 0);
	EXPECT_TRUE(is(mem, PAGES, 2, 0));
	EXPECT_TRUE(fd_is(fd, 0, PAGES, 1));
}

/* Growing only adds holes, as on a memfd; shrinking and growing would not do. */
TEST(seal_write_leaves_the_size)
{
	int fd = region_of(PAGES, 1);

	ASSERT_EQ(COWMEM_SEAL_WRITE, seal(fd, COWMEM_SEAL_WRITE));
	EXPECT_EQ(0, do_resize(fd, 2 * LEN));
	EXPECT_TRUE(fd_is(fd, 0, PAGES, 1));
	EXPECT_TRUE(fd_is(fd, PAGES, PAGES, 0));
}

FIXTURE(seal_write_busy) {
	int fd;
};

FIXTURE_VARIANT(seal_write_busy) {
	int prot, flags;
	bool close_first;	/* use a second descriptor, gone by then */
	bool touched, protected, cut;
	bool busy;
};

FIXTURE_VARIANT_ADD(seal_write_busy, writable) {
	.prot = PROT_READ | PROT_WRITE, .flags = MAP_SHARED, .busy = true,
};
FIXTURE_VARIANT_ADD(seal_write_busy, writable_touched) {
	.prot = PROT_READ | PROT_WRITE, .flags = MAP_SHARED, .touched = true,
	.busy = true,
};
FIXTURE_VARIANT_ADD(seal_write_busy, made_read_only) {
	.prot = PROT_READ | PROT_WRITE, .flags = MAP_SHARED, .touched = true,
	.protected = true, .busy = true,
};
FIXTURE_VARIANT_ADD(seal_write_busy, may_become_writable) {
	.prot = PROT_READ, .flags = MAP_SHARED, .busy = true,
};
FIXTURE_VARIANT_ADD(seal_write_busy, none) {
	.prot = PROT_NONE, .flags = MAP_SHARED, .busy = true,
};
FIXTURE_VARIANT_ADD(seal_write_busy, descriptor_closed) {
	.prot = PROT_READ | PROT_WRITE, .flags = MAP_SHARED, .busy = true,
	.close_first = true,
};
FIXTURE_VARIANT_ADD(seal_write_busy, partly_unmapped) {
	.prot = PROT_READ | PROT_WRITE, .flags = MAP_SHARED, .busy = true,
	.cut = true, .touched = true,
};
FIXTURE_VARIANT_ADD(seal_write_busy, private) {
	.prot = PROT_READ | PROT_WRITE, .flags = MAP_PRIVATE, .touched = true,
};

FIXTURE_SETUP(seal_write_busy)
{
	self->fd = region_of(PAGES, 1);
}

FIXTURE_TEARDOWN(seal_write_busy)
{
}

TEST_F(seal_write_busy, until_unmapped)
{
	int fd = variant->close_first ? dup(self->fd) : self->fd;
	char *mem = map_at(fd, PAGES, variant->prot, variant->flags, 0);
	size_t left = PAGES;

	if (variant->close_first)
		close(fd);
	if (variant->touched)
		EXPECT_EQ(0, touch(mem + pgsz(), true));
	if (variant->protected)
		ASSERT_EQ(0, mprotect(mem, LEN, PROT_READ));
	if (variant->cut)
		unmap(mem + --left * pgsz(), 1);

	if (variant->busy) {
		EXPECT_EQ(-1, seal(self->fd, COWMEM_SEAL_WRITE |
				   COWMEM_SEAL_GROW));
		EXPECT_EQ(EBUSY, errno);
		EXPECT_EQ(0, info(self->fd).seals);
		/* The other seals do not mind; and one mapping of two counts. */
		EXPECT_EQ(COWMEM_SEAL_SHRINK,
			  seal(self->fd, COWMEM_SEAL_SHRINK));
		map_at(self->fd, 1, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0);
		EXPECT_EQ(-1, seal(self->fd, COWMEM_SEAL_WRITE));
		EXPECT_EQ(EBUSY, errno);
		unmap(mem, left);
	}
	EXPECT_NE(-1, seal(self->fd, COWMEM_SEAL_WRITE));
	EXPECT_TRUE(fd_is(self->fd, 0, PAGES, 1));
}

/* A child that inherits a mapping keeps it busy, too. */
TEST(seal_write_busy_in_another_process)
{
	int *turn = shared_mem(sizeof(*turn));
	int fd = region_of(PAGES, 1);
	char *mem = map_rw(fd, PAGES);
	pid_t pid = spawn();

	ASSERT_LE(0, pid);
	if (!pid) {
		await(turn, 1);
		_exit(0);
	}
	unmap(mem, PAGES);
	EXPECT_EQ(-1, seal(fd, COWMEM_SEAL_WRITE));
	EXPECT_EQ(EBUSY, errno);
	put(turn, 1);
	EXPECT_EQ(0, reap(pid));
	EXPECT_EQ(COWMEM_SEAL_WRITE, seal(fd, COWMEM_SEAL_WRITE));
}

/*
 * Memory that is pinned for I/O may still be written when its mapping is gone.
 * AF_XDP pins its buffer for writing for as long as the socket lives, where the
 * kernel lets it pin a region at all (not from 6.5 on).
 */
/* The core puts off a part of what it does when locked memory is unmapped. */
TEST(seal_write_after_mlock)
{
	int fd = region_of(7, 1);
	char *mem = map_rw(fd, 7);

	ASSERT_EQ(0, mlock(mem, 7 * pgsz()));
	fill(mem, 7, 2, 0);
	unmap(mem, 7);
	EXPECT_LE(0, seal(fd, COWMEM_SEAL_WRITE));
}

TEST(seal_write_busy_while_pinned)
{
	int fd = region_of(PAGES, 1), sk = socket(AF_XDP, SOCK_RAW, 0), clone;
	char *mem = map_rw(fd, PAGES);
	struct xdp_umem_reg reg = {
		.addr = (uintptr_t)mem, .len = LEN, .chunk_size = pgsz(),
	};

	if (sk < 0)
		SKIP(return, "no AF_XDP: %s", strerror(errno));
	if (setsockopt(sk, SOL_XDP, XDP_UMEM_REG, &reg, sizeof(reg))) {
		EXPECT_TRUE(fd_is(fd, 0, PAGES, 1));
		SKIP(return, "AF_XDP cannot pin a region here: %s",
		     strerror(errno));
	}
	/* A clone gets copies at once: what is pinned stays the owner's. */
	clone = cloned(fd);
	EXPECT_TRUE(fd_is(clone, 0, PAGES, 1));
	EXPECT_TRUE(holds(fd, PAGES, 0));
	EXPECT_TRUE(holds(clone, PAGES, 0));
	fill(mem, PAGES, 2, 0);
	EXPECT_TRUE(fd_is(clone, 0, PAGES, 1));
	unmap(mem, PAGES);
	EXPECT_EQ(-1, seal(fd, COWMEM_SEAL_WRITE));
	EXPECT_EQ(EBUSY, errno);
	EXPECT_EQ(0, info(fd).seals);
	EXPECT_TRUE(fd_is(fd, 0, PAGES, 2));
}

TEST(clone_starts_without_seals)
{
	int fd = region_of(PAGES, 1), clone;
	char *mem;

	ASSERT_EQ(ALL, seal(fd, ALL));
	clone = cloned(fd);
	EXPECT_EQ(0, info(clone).seals);
	ASSERT_EQ(0, do_resize(clone, 2 * PAGES * pgsz()));
	mem = map_rw(clone, 2 * PAGES);
	fill(mem, 2 * PAGES, 2, 0);
	EXPECT_EQ(0, do_resize(clone, pgsz()));
	EXPECT_TRUE(fd_is(fd, 0, PAGES, 1));
	EXPECT_EQ(ALL, info(fd).seals);
	EXPECT_EQ(1, info(fd).clones);
}

/* Sealing races with mapping: either the seal or the mapping loses. */
TEST(seal_write_against_mmap)
{
	int *turn = shared_mem(2 * sizeof(*turn)), i;

	for (i = 0; i < 200; i++) {
		int fd = region_of(1, 1), sealed, mapped;
		pid_t pid;

		put(&turn[0], 0);
		pid = spawn();
		if (!pid) {
			char *mem;

			put(&turn[0], 1);
			mem = mmap(NULL, pgsz(), PROT_READ | PROT_WRITE,
				   MAP_SHARED, fd, 0);
			if (mem != MAP_FAILED)
				pg_fill(mem, 2, 0);
			_exit(mem != MAP_FAILED);
		}
		await(&turn[0], 1);
		sealed = seal(fd, COWMEM_SEAL_WRITE) >= 0;
		if (sealed) {
			char before[pgsz()], after[pgsz()];

			ASSERT_EQ((ssize_t)pgsz(), pread(fd, before, pgsz(), 0));
			mapped = reap(pid);
			ASSERT_EQ((ssize_t)pgsz(), pread(fd, after, pgsz(), 0));
			ASSERT_EQ(0, memcmp(before, after, pgsz()));
			/* A mapping that was made had gone before the seal. */
			ASSERT_TRUE(pg_is(after, mapped ? 2 : 1, 0));
		} else {
			ASSERT_EQ(EBUSY, errno);
			ASSERT_EQ(1, reap(pid));
			ASSERT_TRUE(fd_is(fd, 0, 1, 2));
		}
		close(fd);
	}
}

/* ---- FUTURE_WRITE: mappings that exist may go on writing ---- */

FIXTURE(future) {
	int fd, other;
	char *mem, *late;	/* mappings made before and after the seal */
};

FIXTURE_VARIANT(future) {
	bool file;
};

FIXTURE_VARIANT_ADD(future, device) { .file = false };
FIXTURE_VARIANT_ADD(future, file) { .file = true };

FIXTURE_SETUP(future)
{
	self->fd = region_of(PAGES, 1);
	if (variant->file)
		self->fd = file_of(self->fd, 0);
	self->other = region_of(PAGES, 2);
	self->mem = map_rw(self->fd, PAGES);
	ASSERT_EQ(0, touch(self->mem, false));
	/* A writable mapping does not keep it busy. */
	ASSERT_EQ(COWMEM_SEAL_FUTURE_WRITE, seal(self->fd, COWMEM_SEAL_FUTURE_WRITE));
	self->late = map_ro(self->fd, PAGES);
}

/* The first page may have been written, by its old mapping. */
FIXTURE_TEARDOWN(future)
{
	EXPECT_TRUE(is(self->mem + pgsz(), PAGES - 1, 1, 1));
	EXPECT_TRUE(fd_is(self->fd, 1, PAGES - 1, 1));
	EXPECT_EQ(LEN, info(self->fd).size);
	EXPECT_EQ(COWMEM_SEAL_FUTURE_WRITE, info(self->fd).seals);
}

TEST_F(future, mappings_that_exist_write_on)
{
	int clone, i;

	for (i = 2; i < 10; i++) {
		pg_fill(self->mem, i, 0);
		EXPECT_TRUE(is(self->late, 1, i, 0));
		EXPECT_TRUE(fd_is(self->fd, 0, 1, i));
		clone = i % 2 ? cloned(self->fd) : snapshot(self->fd);
		pg_fill(self->mem, i + 20, 0);
		EXPECT_TRUE(fd_is(clone, 0, 1, i));
		EXPECT_TRUE(is(self->late, 1, i + 20, 0));
		close(clone);
	}
	/* A child has them, too; and they may be made read-only and writable again. */
	ASSERT_EQ(0, mprotect(self->mem, pgsz(), PROT_READ));
	EXPECT_EQ(SIGSEGV, poke(self->mem, 1));
	ASSERT_EQ(0, mprotect(self->mem, pgsz(), PROT_READ | PROT_WRITE));
	EXPECT_EQ(0, in_child(pg_fill(self->mem, 3, 0)));
	EXPECT_TRUE(is(self->late, 1, 3, 0));
	self->mem = mremap(self->mem, LEN, LEN, MREMAP_MAYMOVE | MREMAP_FIXED, anon(PAGES));
	ASSERT_NE(MAP_FAILED, self->mem);
	pg_fill(self->mem, 4, 0);
	EXPECT_TRUE(fd_is(self->fd, 0, 1, 4));
}

TEST_F(future, no_new_ones_do)
{
	struct iovec local = { "xxxxxxxx", 8 }, remote = { self->late, 8 };
	char *priv;

	EXPECT_EQ(MAP_FAILED, mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED,
				   self->fd, 0));
	EXPECT_EQ(EPERM, errno);
	EXPECT_EQ(MAP_FAILED, mmap(NULL, LEN, PROT_WRITE, MAP_SHARED, self->fd, 0));
	EXPECT_EQ(EPERM, errno);
	EXPECT_EQ(-1, mprotect(self->late, LEN, PROT_READ | PROT_WRITE));
	EXPECT_EQ(EACCES, errno);
	EXPECT_EQ(SIGSEGV, poke(self->late, 1));
	EXPECT_NE(0, madvise(self->late, LEN, MADV_POPULATE_WRITE));
	EXPECT_EQ(-1, process_vm_writev(getpid(), &local, 1, &remote, 1, 0));
	EXPECT_TRUE(is(self->late, PAGES, 1, 0));
	priv = map_at(self->fd, PAGES, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0);
	fill(priv, PAGES, 5, 0);
	EXPECT_TRUE(fd_is(self->fd, 0, PAGES, 1));
}

TEST_F(future, no_call_does)
{
	int pipes[2];
	loff_t off = 0;

	ASSERT_EQ(0, pipe(pipes));
	ASSERT_EQ(1, write(pipes[1], "x", 1));
	EXPECT_EQ(-1, write(self->fd, "x", 1));
	EXPECT_EQ(EPERM, errno);
	EXPECT_EQ(-1, pwrite(self->fd, "x", 1, LEN));
	EXPECT_EQ(EPERM, errno);
	EXPECT_EQ(-1, splice(pipes[0], NULL, self->fd, &off, 1, 0));
	EXPECT_EQ(EPERM, errno);
	EXPECT_EQ(-1, do_discard(self->fd, 0, pgsz()));
	EXPECT_EQ(EPERM, errno);
	EXPECT_EQ(-1, do_copy(self->fd, self->other, 0, 0, 1));
	EXPECT_EQ(EPERM, errno);
	EXPECT_EQ(-1, do_restore(self->fd, self->other, 0));
	EXPECT_EQ(EPERM, errno);
	EXPECT_EQ(-1, do_restore(self->fd, self->other, COWMEM_RESTORE_KEEP));
	EXPECT_EQ(EPERM, errno);
	EXPECT_EQ(-1, do_restore(self->fd, self->other, COWMEM_RESTORE_SIZE));
	EXPECT_EQ(EPERM, errno);
	EXPECT_EQ(-1, do_restore_pages(self->fd, self->other, 0, 0, 1));
	EXPECT_EQ(EPERM, errno);
	if (variant->file) {
		/* Memory for old mappings to write to is no change, as with a memfd. */
		EXPECT_EQ(0, fallocate(self->fd, 0, 0, LEN));
		EXPECT_EQ(-1, fallocate(self->fd, 3, 0, pgsz()));
		EXPECT_EQ(EPERM, errno);
		EXPECT_EQ(-1, open_again(self->fd, O_RDWR));
		EXPECT_EQ(EPERM, errno);
		/* By the old mapping, but that is a call, too. */
		EXPECT_EQ(-1, madvise(self->mem, pgsz(), MADV_REMOVE));
		EXPECT_EQ(EPERM, errno);
	}
	EXPECT_TRUE(is(self->mem, PAGES, 1, 0));
}

TEST_F(future, reading_and_sharing_go_on)
{
	struct cowmem_merge merge = {};
	int clone = cloned(self->fd), dup = region_of(PAGES, 1);
	char *mem = map_rw(clone, PAGES);

	EXPECT_EQ(0, info(clone).seals);
	fill(mem, PAGES, 3, 0);
	ASSERT_EQ(1, pwrite(clone, "x", 1, LEN));
	ASSERT_EQ(0, do_resize(clone, LEN));
	EXPECT_TRUE(fd_is(self->fd, 0, PAGES, 1));
	/* It is a source as good as any; MERGE changes no content. */
	EXPECT_EQ(0, do_restore(clone, self->fd, 0));
	EXPECT_TRUE(is(mem, PAGES, 1, 0));
	EXPECT_EQ(0, do_copy(self->other, self->fd, 0, 0, 1));
	EXPECT_TRUE(fd_is(self->other, 0, 1, 1));
	unmap(mem, PAGES);
	close(clone);
	EXPECT_EQ(0, do_copy(self->other, dup, 0, 0, 1));
	EXPECT_EQ(0, do_merge(&merge, (int[]){ dup, self->fd }, 2));
	EXPECT_LT(0, merge.merged);
	EXPECT_TRUE(is(self->mem, PAGES, 1, 0));
	pg_fill(self->mem, 7, 0);
	EXPECT_TRUE(fd_is(dup, 0, PAGES, 1));
	/* To restore it to itself changes nothing, but is a RESTORE of what is sealed. */
	EXPECT_EQ(-1, do_restore(self->fd, self->fd, 0));
	EXPECT_EQ(EPERM, errno);
}

/* The size is another matter, as on a memfd; and WRITE may follow when no mapping is left. */
TEST(future_and_other_seals)
{
	int fd = region_of(PAGES, 1), view;
	char *mem = map_rw(fd, PAGES);

	ASSERT_EQ(COWMEM_SEAL_FUTURE_WRITE, seal(fd, COWMEM_SEAL_FUTURE_WRITE));
	EXPECT_EQ(0, do_resize(fd, 2 * LEN));
	EXPECT_EQ(0, do_resize(fd, LEN));
	EXPECT_EQ(-1, seal(fd, COWMEM_SEAL_WRITE));
	EXPECT_EQ(EBUSY, errno);
	view = file_of(fd, COWMEM_FILE_VIEW);
	unmap(mem, PAGES);
	/* One that cannot become writable is not in the way. */
	mem = map_ro(fd, PAGES);
	map_ro(view, PAGES);
	if (readers_count()) {
		EXPECT_EQ(-1, seal(fd, COWMEM_SEAL_WRITE));
		EXPECT_EQ(EBUSY, errno);
		unmap(mem, PAGES);
	}
	EXPECT_EQ(COWMEM_SEAL_FUTURE_WRITE | COWMEM_SEAL_WRITE | COWMEM_SEAL_SEAL,
		  seal(fd, COWMEM_SEAL_WRITE | COWMEM_SEAL_SEAL));
	EXPECT_EQ(-1, seal(fd, COWMEM_SEAL_FUTURE_WRITE));
	EXPECT_EQ(EPERM, errno);
	EXPECT_TRUE(fd_is(fd, 0, PAGES, 1));
}

TEST_HARNESS_MAIN
