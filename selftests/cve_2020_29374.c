// SPDX-License-Identifier: GPL-2.0-only
/*
 * Promise: CVE-2020-29374 does not happen to regions.  There, a child pinned a
 * shared page with vmsplice() and dropped its mapping; the parent, alone in the
 * page table now, wrote in place; and the pipe showed it to the child.
 *
 * Here a clone plays the child, or its origin does.
 */
#include "../kselftest_harness.h"
#include "common.h"

enum { PAGES = 4 };

FIXTURE(cve) {
	int victim;		/* writes a secret */
	char *mem;
	int attacker;		/* shares the pages, then goes away */
};

FIXTURE_VARIANT(cve) {
	bool mirrored;		/* the origin pins, the clone writes */
	bool snapshot;
	bool by_splice;		/* splice() from the descriptor, no mapping */
	bool dirty;		/* the victim had the pages mapped writable */
	bool by_pwrite;		/* the victim writes by pwrite() */
	bool by_discard;
	bool two_steps;		/* the pin moves on to a second pipe */
};

FIXTURE_VARIANT_ADD(cve, clone_pins) { .dirty = false };
FIXTURE_VARIANT_ADD(cve, clone_pins_dirty) { .dirty = true };
FIXTURE_VARIANT_ADD(cve, clone_pins_pwrite) { .by_pwrite = true };
FIXTURE_VARIANT_ADD(cve, clone_pins_discard) { .by_discard = true };
FIXTURE_VARIANT_ADD(cve, origin_pins) { .mirrored = true };
FIXTURE_VARIANT_ADD(cve, origin_pins_dirty) {
	.mirrored = true, .dirty = true,
};
FIXTURE_VARIANT_ADD(cve, origin_pins_pwrite) {
	.mirrored = true, .by_pwrite = true,
};
FIXTURE_VARIANT_ADD(cve, snapshot_pins) { .snapshot = true, .dirty = true };
FIXTURE_VARIANT_ADD(cve, splice) { .by_splice = true, .dirty = true };
FIXTURE_VARIANT_ADD(cve, splice_pwrite) {
	.by_splice = true, .by_pwrite = true,
};
FIXTURE_VARIANT_ADD(cve, splice_of_snapshot) {
	.by_splice = true, .snapshot = true, .dirty = true,
};
FIXTURE_VARIANT_ADD(cve, tee) { .two_steps = true, .dirty = true };

FIXTURE_SETUP(cve)
{
	int fd = region_of(PAGES, 1), clone;
	char *mem = map_rw(fd, PAGES);

	if (variant->dirty)
		fill(mem, PAGES, 1, 0);
	clone = do_clone(fd, variant->snapshot ? COWMEM_CLONE_SNAPSHOT : 0, 0,
			 0);
	ASSERT_LE(0, clone);
	self->victim = variant->mirrored ? clone : fd;
	self->attacker = variant->mirrored ? fd : clone;
	if (variant->mirrored) {
		unmap(mem, PAGES);
		mem = map_rw(clone, PAGES);
		if (variant->dirty)	/* read in, at least */
			EXPECT_TRUE(is(mem, PAGES, 1, 0));
	}
	self->mem = mem;
}

FIXTURE_TEARDOWN(cve)
{
}

TEST_F(cve, pipe_has_the_old_data)
{
	char *mem = map_ro(self->attacker, PAGES), got[PAGES * pgsz()];
	struct iovec iov = { mem, sizeof(got) };
	char secret[PAGES * pgsz()];
	int pipes[2], more[2];
	loff_t off = 0;

	EXPECT_TRUE(is(mem, PAGES, 1, 0));
	ASSERT_EQ(0, pipe(pipes));
	ASSERT_EQ(0, pipe(more));
	ASSERT_EQ((ssize_t)sizeof(got), variant->by_splice ?
		  splice(self->attacker, &off, pipes[1], NULL, sizeof(got), 0) :
		  vmsplice(pipes[1], &iov, 1, 0));
	if (variant->two_steps) {
		ASSERT_EQ((ssize_t)sizeof(got), tee(pipes[0], more[1],
						    sizeof(got), 0));
		ASSERT_TRUE(drain(pipes[0], got, sizeof(got)));
		EXPECT_TRUE(is(got, PAGES, 1, 0));
		pipes[0] = more[0];
	}
	unmap(mem, PAGES);
	close(self->attacker);
	EXPECT_TRUE(holds(self->victim, PAGES, 0));

	fill(secret, PAGES, 0x5ec2e7, 0);
	if (variant->by_discard)
		ASSERT_EQ(0, do_discard(self->victim, 0, sizeof(got)));
	if (variant->by_pwrite) {
		ASSERT_EQ((ssize_t)sizeof(got), pwrite(self->victim, secret,
						       sizeof(got), 0));
	} else {
		fill(self->mem, PAGES, 0x5ec2e7, 0);
	}
	/* A second write, and one after another clone. */
	self->mem[0] = 'x';
	close(cloned(self->victim));
	self->mem[1] = 'y';
	fill(self->mem, PAGES, 0x5ec2e7, 0);

	ASSERT_TRUE(drain(pipes[0], got, sizeof(got)));
	EXPECT_TRUE(is(got, PAGES, 1, 0));
	EXPECT_TRUE(fd_is(self->victim, 0, PAGES, 0x5ec2e7));
	EXPECT_TRUE(holds(self->victim, PAGES, 0));
}

/* As it was: two processes, the child gets the clone and lets go of it. */
TEST(the_original_with_a_child)
{
	int *turn = shared_mem(sizeof(*turn)), fd = region_of(PAGES, 1);
	char *mem = map_rw(fd, PAGES);
	pid_t pid;

	fill(mem, PAGES, 1, 0);
	pid = spawn();
	if (!pid) {
		int clone = cloned(fd), pipes[2];
		char *own = map_ro(clone, PAGES), got[PAGES * pgsz()];
		struct iovec iov = { own, sizeof(got) };

		must(!pipe(pipes));
		must(vmsplice(pipes[1], &iov, 1, 0) == (ssize_t)sizeof(got));
		unmap(own, PAGES);
		unmap(mem, PAGES);
		close(clone);
		close(fd);
		put(turn, 1);
		await(turn, 2);
		must(drain(pipes[0], got, sizeof(got)));
		_exit(is(got, PAGES, 1, 0) ? 0 : 3);
	}
	while (get(turn) < 1 && !waitpid(pid, NULL, WNOHANG))
		sched_yield();
	ASSERT_EQ(1, get(turn));
	fill(mem, PAGES, 0x5ec2e7, 0);
	put(turn, 2);
	EXPECT_EQ(0, reap(pid));
	EXPECT_TRUE(fd_is(fd, 0, PAGES, 0x5ec2e7));
}

/* The pin is older than the clone: then it is the owner's page. */
TEST(pin_of_the_owner_is_not_written_by_the_clone)
{
	int fd = region_of(PAGES, 1), clone, pipes[2];
	char *mem = map_rw(fd, PAGES), got[PAGES * pgsz()];
	struct iovec iov = { mem, sizeof(got) };

	ASSERT_EQ(0, pipe(pipes));
	ASSERT_EQ((ssize_t)sizeof(got), vmsplice(pipes[1], &iov, 1, 0));
	clone = cloned(fd);
	unmap(mem, PAGES);
	close(fd);
	mem = map_rw(clone, PAGES);
	EXPECT_TRUE(is(mem, PAGES, 1, 0));
	fill(mem, PAGES, 0x5ec2e7, 0);
	ASSERT_TRUE(drain(pipes[0], got, sizeof(got)));
	EXPECT_TRUE(is(got, PAGES, 1, 0));
	EXPECT_TRUE(fd_is(clone, 0, PAGES, 0x5ec2e7));
}

/* A private mapping of the clone that pins, too, holds the shared page. */
TEST(pin_through_a_private_mapping)
{
	int fd = region_of(PAGES, 1), clone = cloned(fd), pipes[2];
	char *mem = map_rw(fd, PAGES), got[PAGES * pgsz()];
	char *priv = map_at(clone, PAGES, PROT_READ, MAP_PRIVATE, 0);
	struct iovec iov = { priv, sizeof(got) };

	ASSERT_EQ(0, pipe(pipes));
	ASSERT_EQ((ssize_t)sizeof(got), vmsplice(pipes[1], &iov, 1, 0));
	unmap(priv, PAGES);
	close(clone);
	EXPECT_TRUE(is(mem, PAGES, 1, 0));
	fill(mem, PAGES, 0x5ec2e7, 0);
	ASSERT_TRUE(drain(pipes[0], got, sizeof(got)));
	EXPECT_TRUE(is(got, PAGES, 1, 0));
	EXPECT_TRUE(is(mem, PAGES, 0x5ec2e7, 0));
}

TEST_HARNESS_MAIN
