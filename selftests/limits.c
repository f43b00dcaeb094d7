// SPDX-License-Identifier: GPL-2.0-only
/*
 * Promise: every page and index node is charged to the memory cgroup of its
 * caller; a parameter of the module caps the total; past the cap a fault gives
 * SIGBUS and a call ENOSPC, and no other region notices; the module stays as
 * long as a region or a mapping lives.
 *
 * The tests of the cap expect that nobody else has regions.
 */
#include <sys/syscall.h>

#include "../kselftest_harness.h"
#include "common.h"
#include "cgroups.h"
#include "module.h"

#define MIB (MIB_PAGES * pgsz())

enum { NEIGHBOUR = 50 };

/* ---- the cap ---- */

FIXTURE(cap) {
	char old[32];
	int neighbour;
	char *mem;
};

FIXTURE_SETUP(cap)
{
	ASSERT_LT(0, read_file(LIMIT, self->old, sizeof(self->old)));
	self->neighbour = region_of(NEIGHBOUR, 7);
	self->mem = map_rw(self->neighbour, NEIGHBOUR);
	fill(self->mem, NEIGHBOUR, 7, 0);
	ASSERT_EQ(0, set_limit(8 * MIB >> 20));
}

/* Run by the parent, which is there whatever happens to the test. */
FIXTURE_TEARDOWN_PARENT(cap)
{
	EXPECT_EQ(0, write_file(LIMIT, self->old));
}

/* Whatever happened, the neighbour can read and write what it has. */
#define EXPECT_NEIGHBOUR_IS_WELL() do {					\
	EXPECT_TRUE(is(self->mem, NEIGHBOUR, 7, 0));			\
	fill(self->mem, NEIGHBOUR, 8, 0);				\
	EXPECT_TRUE(fd_is(self->neighbour, 0, NEIGHBOUR, 8));		\
	EXPECT_TRUE(holds(self->neighbour, NEIGHBOUR, 0));		\
} while (0)

/* Fill a region by faults until it gets no more; return how many pages. */
static size_t fill_up(char *mem, size_t pages, uint32_t tag)
{
	size_t i;

	for (i = 0; i < pages; i++) {
		int sig = poke(mem + i * pgsz(), 1);

		if (sig) {
			must(sig == SIGBUS);
			break;
		}
		pg_fill(mem + i * pgsz(), tag, i);
	}
	return i;
}

/* Is @pages what 8 MiB hold, with the neighbour and some nodes among them? */
static bool near_cap(size_t pages)
{
	if (pages + NEIGHBOUR <= 8 * MIB_PAGES && pages >= 7 * MIB_PAGES)
		return true;
	fprintf(stderr, "# %zu pages at a cap of 8 MiB\n", pages);
	return false;
}

TEST_F(cap, fault_is_sigbus)
{
	size_t max = 16 * MIB_PAGES, n;
	int fd = region_of(max, 0);
	char *mem = map_rw(fd, max);

	n = fill_up(mem, max, 1);
	EXPECT_TRUE(near_cap(n));
	EXPECT_TRUE(holds(fd, n, 0));
	/* It stays so, without a trace of the write, and reading costs none. */
	EXPECT_EQ(SIGBUS, poke(mem + n * pgsz(), 1));
	EXPECT_EQ(SIGBUS, poke(mem + (max - 1) * pgsz(), 1));
	EXPECT_TRUE(is(mem, n, 1, 0));
	EXPECT_TRUE(is(mem + n * pgsz(), max - n, 0, n));
	EXPECT_TRUE(holds(fd, n, 0));
	EXPECT_EQ(max * pgsz(), info(fd).size);
	/* Whoever writes for the task is refused as well. */
	EXPECT_EQ(-1, madvise(mem + n * pgsz(), pgsz(), MADV_POPULATE_WRITE));
	EXPECT_EQ(-1, pread(fd, mem + n * pgsz(), 10, 0));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_TRUE(holds(fd, n, 0));

	/* What is given back can be had again. */
	ASSERT_EQ(0, do_discard(fd, 0, 100 * pgsz()));
	EXPECT_EQ(0, poke(mem + n * pgsz(), 1));
	EXPECT_EQ(0, poke(mem, 1));
	ASSERT_EQ(0, do_resize(fd, 0));
	ASSERT_EQ(0, do_resize(fd, max * pgsz()));
	EXPECT_TRUE(near_cap(fill_up(mem, max, 2)));
	/* And more, when the cap is raised or taken away. */
	ASSERT_EQ(0, set_limit(9 * MIB >> 20));
	EXPECT_EQ(0, poke(mem + n * pgsz(), 1));
	ASSERT_EQ(0, set_limit(0));
	EXPECT_EQ(max, fill_up(mem, max, 3));
	EXPECT_TRUE(holds(fd, max, 0));
	/* Below what there is already, all of it stays. */
	ASSERT_EQ(0, set_limit(8 * MIB >> 20));
	EXPECT_TRUE(is(mem, max, 3, 0));
	EXPECT_TRUE(holds(fd, max, 0));
	fill(mem, max, 4, 0);
	EXPECT_TRUE(is(mem, max, 4, 0));
	EXPECT_NEIGHBOUR_IS_WELL();
}

TEST_F(cap, write_is_short_then_enospc)
{
	size_t max = 16 * MIB;
	char *buf = anon(max / pgsz());
	int fd = region();
	ssize_t n;

	fill(buf, max / pgsz(), 1, 0);
	n = pwrite(fd, buf, max, 0);
	EXPECT_LT(0, n);
	EXPECT_EQ(0, n % pgsz());
	EXPECT_TRUE(near_cap(n / pgsz()));
	EXPECT_EQ((uint64_t)n, info(fd).size);
	EXPECT_EQ(-1, pwrite(fd, buf, 1, n));
	EXPECT_EQ(ENOSPC, errno);
	EXPECT_EQ(-1, pwrite(fd, buf, max, n + 10 * MIB));
	EXPECT_EQ(ENOSPC, errno);
	EXPECT_EQ((uint64_t)n, info(fd).size);
	EXPECT_TRUE(holds(fd, n / pgsz(), 0));
	/* Over what it has, it can write. */
	EXPECT_EQ(n, pwrite(fd, buf, n, 0));
	EXPECT_TRUE(is(map_ro(fd, n / pgsz()), n / pgsz(), 1, 0));
	EXPECT_NEIGHBOUR_IS_WELL();
}

TEST_F(cap, clone_needs_no_memory_but_a_split_does)
{
	size_t max = 16 * MIB_PAGES, n;
	int fd = region_of(max, 0), clone;
	struct cowmem_info was, now;
	char *mem = map_rw(fd, max), *other, buf[16];

	n = fill_up(mem, max, 1);
	EXPECT_TRUE(near_cap(n));
	clone = do_clone(fd, 0, 0, 0);
	ASSERT_LE(0, clone) TH_LOG("clone at the cap: %s", strerror(errno));
	was = info(fd);
	other = map_rw(clone, max);
	EXPECT_EQ(SIGBUS, poke(mem + 9 * pgsz(), 1));
	EXPECT_EQ(SIGBUS, poke(other + 9 * pgsz(), 1));
	EXPECT_EQ(-1, pwrite(clone, "x", 1, 0));
	EXPECT_EQ(ENOSPC, errno);
	/* A part of a shared page is zeroed in a copy: there is none to have. */
	EXPECT_EQ(-1, do_discard(fd, 10, 20));
	EXPECT_EQ(ENOSPC, errno);
	EXPECT_EQ(-1, do_resize(fd, 3 * pgsz() + 5));
	EXPECT_EQ(ENOSPC, errno);
	now = info(fd);
	EXPECT_EQ(0, memcmp(&was, &now, sizeof(was)));
	EXPECT_TRUE(is(mem, n, 1, 0));
	EXPECT_TRUE(is(other, n, 1, 0));
	EXPECT_TRUE(holds(fd, 0, n) && holds(clone, 0, n));

	/* Alone again, the pages are written in place. */
	unmap(other, max);
	close(clone);
	fill(mem, n, 2, 0);
	EXPECT_TRUE(is(mem, n, 2, 0));
	EXPECT_TRUE(holds(fd, n, 0));
	EXPECT_EQ((ssize_t)sizeof(buf), pread(fd, buf, sizeof(buf), 0));
	EXPECT_EQ(0, memcmp(buf, mem, sizeof(buf)));
	EXPECT_NEIGHBOUR_IS_WELL();
}

/* Pages as far apart as can be: index nodes are a good part of the memory. */
TEST_F(cap, index_counts)
{
	uint64_t n = 0, used;
	int fd = region();

	while (pwrite(fd, "x", 1, n * 8192 * pgsz()) == 1)
		n++;
	EXPECT_EQ(ENOSPC, errno);
	EXPECT_EQ((n - 1) * 8192 * pgsz() + 1, info(fd).size);
	EXPECT_TRUE(holds(fd, n, 0));
	used = (n + NEIGHBOUR) * pgsz() + info(fd).index_bytes;
	EXPECT_GE(8 * MIB, used);
	EXPECT_LE(7 * MIB, used);
	/* Two nodes each */
	EXPECT_LT(n * 1000, info(fd).index_bytes);
	EXPECT_NEIGHBOUR_IS_WELL();
}

FIXTURE(race) {
	char old[32];
};

FIXTURE_VARIANT(race) {
	bool one_region, by_pwrite;
};

FIXTURE_VARIANT_ADD(race, own_regions) { .one_region = false };
FIXTURE_VARIANT_ADD(race, own_regions_pwrite) { .by_pwrite = true };
FIXTURE_VARIANT_ADD(race, one_region) { .one_region = true };

FIXTURE_SETUP(race)
{
	ASSERT_LT(0, read_file(LIMIT, self->old, sizeof(self->old)));
	ASSERT_EQ(0, set_limit(8 * MIB >> 20));
}

FIXTURE_TEARDOWN_PARENT(race)
{
	EXPECT_EQ(0, write_file(LIMIT, self->old));
}

TEST_F(race, never_exceeds_the_cap)
{
	enum { N = 10 };
	struct { int full, done; uint64_t pages[N]; } *c;
	size_t max = 12 * MIB_PAGES, sum = 0, i;
	int fd = region_of(max, 0), own;
	pid_t pid[N];

	c = shared_mem(sizeof(*c));
	for (i = 0; i < N; i++) {
		pid[i] = spawn();
		if (pid[i])
			continue;
		own = variant->one_region ? fd : region_of(max, 0);
		if (variant->by_pwrite) {
			char buf[pgsz()];
			size_t p = 0;

			pg_fill(buf, i + 1, 0);
			while (pwrite(own, buf, pgsz(), p * pgsz()) ==
			       (ssize_t)pgsz())
				p++;
			if (errno != ENOSPC)
				_exit(1);
			if (p && !fd_is_as(own, p - 1, i + 1, 0))
				_exit(2);
		} else {
			fill_up(map_rw(own, max), max, i + 1);
		}
		c->pages[i] = info(own).pages_populated;
		__atomic_add_fetch(&c->full, 1, __ATOMIC_ACQ_REL);
		/* Keep it until all are full. */
		await(&c->done, 1);
		if (info(own).pages_populated < c->pages[i])
			_exit(3);
		_exit(0);
	}
	while (get(&c->full) < N && !waitpid(-1, NULL, WNOHANG))
		sched_yield();
	ASSERT_EQ(N, get(&c->full));
	for (i = 0; i < N; i++)
		sum += c->pages[i];
	if (variant->one_region)
		sum = info(fd).pages_populated;
	/* Index nodes of ten regions count, too. */
	EXPECT_LE(sum, 8 * MIB_PAGES);
	EXPECT_GE(sum, 6 * MIB_PAGES);
	put(&c->done, 1);
	for (i = 0; i < N; i++)
		EXPECT_EQ(0, reap(pid[i]));
	close(fd);

	/* All of it has come back. */
	fd = region_of(max, 0);
	EXPECT_LE(7 * MIB_PAGES, fill_up(map_rw(fd, max), max, 1));
}

/* ---- memory cgroups ---- */

FIXTURE(memcg) {
	char dir[128];
};

FIXTURE_SETUP(memcg)
{
	const char *why = cg_make(self->dir, sizeof(self->dir));

	if (why)
		SKIP(return, "%s", why);
}

FIXTURE_TEARDOWN_PARENT(memcg)
{
	EXPECT_EQ(0, rmdir(self->dir));
}

/* Run the statements in a child that is in the cgroup. */
#define in_cgroup(dir, ...)						\
	in_child(must(!cg_write(dir, "cgroup.procs", "0")); __VA_ARGS__)

/* The region is the parent's; the pages are charged to the child that writes them. */
TEST_F(memcg, pages_are_charged_to_the_caller)
{
	int fd = region_of(4096, 0), half = 1024;
	long *grown = shared_mem(3 * sizeof(*grown));
	long want = half * pgsz(), slack = 2 * MIB;

	EXPECT_EQ(0, in_cgroup(self->dir, {
		char *mem = map_rw(fd, 4096);
		char buf[pgsz()];
		long was;
		int i;

		pg_fill(buf, 1, 0);
		was = cg_read(self->dir, "memory.current");
		for (i = 0; i < half; i++)
			must(pwrite(fd, buf, pgsz(), i * pgsz()) ==
			     (ssize_t)pgsz());
		grown[0] = cg_read(self->dir, "memory.current") - was;
		was += grown[0];
		for (; i < 2 * half; i++)
			pg_fill(mem + i * pgsz(), 1, i);
		grown[1] = cg_read(self->dir, "memory.current") - was;
		was += grown[1];
		/* Reading holes costs nothing but page tables. */
		must(is(mem + 2 * want, 2 * half, 0, 2 * half));
		grown[2] = cg_read(self->dir, "memory.current") - was;
	}));
	EXPECT_LE(want - (long)MIB / 2, grown[0]);
	EXPECT_GE(want + slack, grown[0]);
	EXPECT_LE(want - (long)MIB / 2, grown[1]);
	EXPECT_GE(want + slack, grown[1]);
	EXPECT_GE((long)MIB, grown[2]);
	/* They stay charged as long as they are there. */
	EXPECT_LE(2 * want, cg_read(self->dir, "memory.current"));
	close(fd);
	EXPECT_TRUE(cg_falls_below(self->dir, slack));
}

/* One page in each leaf: the index takes more than the slack. */
TEST_F(memcg, nodes_are_charged_to_the_caller)
{
	long *grown = shared_mem(sizeof(*grown)), index, want;
	int fd = region(), i, n = 1500 * (pgsz() / 4096);

	EXPECT_EQ(0, in_cgroup(self->dir, {
		long was = cg_read(self->dir, "memory.current");

		for (i = 0; i < n; i++)
			must(pwrite(fd, "x", 1, i * 8192 * pgsz()) == 1);
		*grown = cg_read(self->dir, "memory.current") - was;
	}));
	index = info(fd).index_bytes;
	want = n * pgsz() + index;
	TH_LOG("%ld bytes of pages, %ld of index, charged %ld",
	       (long)(n * pgsz()), index, *grown);
	EXPECT_LE(want - index / 3, *grown);
	EXPECT_GE(want + index + (long)MIB, *grown);
	close(fd);
	EXPECT_TRUE(cg_falls_below(self->dir, 256 * pgsz()));
}

/* A copy is charged to the writer that splits the page, not to its first writer. */
TEST_F(memcg, splits_are_charged_to_the_caller)
{
	long *grown = shared_mem(2 * sizeof(*grown));
	int fd = region_of(1024, 1), clone;
	char *mem = map_rw(fd, 1024);

	clone = cloned(fd);
	EXPECT_EQ(0, in_cgroup(self->dir, {
		long was = cg_read(self->dir, "memory.current");

		close(cloned(fd));
		must(is(mem, 1024, 1, 0));
		grown[0] = cg_read(self->dir, "memory.current") - was;
		fill(mem, 1024, 2, 0);
		grown[1] = cg_read(self->dir, "memory.current") - was;
	}));
	EXPECT_GE((long)MIB, grown[0]);
	EXPECT_LE((long)(1024 * pgsz() - MIB / 2), grown[1]);
	EXPECT_TRUE(fd_is(clone, 0, 20, 1));
	unmap(mem, 1024);
	close(fd);
	EXPECT_TRUE(cg_falls_below(self->dir, 256 * pgsz()));
	EXPECT_TRUE(fd_is(clone, 1000, 24, 1));
}

FIXTURE(oom) {
	char dir[128];
	int neighbour;
	char *mem;
};

FIXTURE_VARIANT(oom) {
	bool by_pwrite, own;
};

FIXTURE_VARIANT_ADD(oom, fault) { .by_pwrite = false };
FIXTURE_VARIANT_ADD(oom, pwrite) { .by_pwrite = true };
FIXTURE_VARIANT_ADD(oom, own_region) { .own = true };

FIXTURE_SETUP(oom)
{
	const char *why = cg_make(self->dir, sizeof(self->dir));

	if (why)
		SKIP(return, "%s", why);
	self->neighbour = region_of(NEIGHBOUR, 7);
	self->mem = map_rw(self->neighbour, NEIGHBOUR);
}

FIXTURE_TEARDOWN_PARENT(oom)
{
	EXPECT_EQ(0, rmdir(self->dir));
}

/* A process that wants 80 MiB gets 64: killed or refused, and nobody else notices. */
TEST_F(oom, filling_up_hits_nobody_else)
{
	size_t max = 80 * MIB_PAGES, n;
	int fd = region_of(max, 0), ret;
	char *mem;

	ASSERT_EQ(0, cg_limit(self->dir, 64 * MIB));
	cg_write(self->dir, "memory.swap.max", "0");
	ret = in_cgroup(self->dir, {
		int own = variant->own ? region_of(max, 0) : fd;
		char buf[pgsz()];
		size_t i;

		if (!variant->by_pwrite)
			_exit(fill_up(map_rw(own, max), max, 1) == max);
		for (i = 0; i < max; i++) {
			pg_fill(buf, 1, i);
			if (pwrite(own, buf, pgsz(), i * pgsz()) !=
			    (ssize_t)pgsz())
				_exit(errno != ENOMEM && errno != ENOSPC);
		}
		_exit(1);
	});
	TH_LOG("the child ended with %d", ret);
	EXPECT_TRUE(ret == 0 || ret == 128 + SIGKILL);

	/* What it has written is there, as far as it got. */
	mem = map_ro(fd, max);
	n = info(fd).pages_populated;
	EXPECT_GE(64 * MIB_PAGES, n);
	if (!variant->own) {
		EXPECT_LE(56 * MIB_PAGES, n);
		/* It may have been ended in the middle of the last page. */
		EXPECT_TRUE(is(mem, n - 1, 1, 0));
		EXPECT_TRUE(is(mem + n * pgsz(), max - n, 0, n));
		/* Whoever is not in that cgroup can go on. */
		fill(map_rw(fd, n + 10), n + 10, 2, 0);
		EXPECT_TRUE(fd_is(fd, n, 10, 2));
	}
	unmap(mem, max);
	/* The region is mapped no more, but by the mapping of above. */
	ASSERT_EQ(0, do_resize(fd, 0));
	EXPECT_TRUE(cg_falls_below(self->dir, 256 * pgsz()));
	EXPECT_TRUE(is(self->mem, NEIGHBOUR, 7, 0));
	fill(self->mem, NEIGHBOUR, 8, 0);
	EXPECT_TRUE(fd_is(self->neighbour, 0, NEIGHBOUR, 8));
}

/* ---- the module stays ---- */

static int unload(void)
{
	return syscall(SYS_delete_module, "cowmem", O_NONBLOCK);
}

FIXTURE(module) {
	int fd;
};

FIXTURE_SETUP(module)
{
	if (access("/sys/module/cowmem/initstate", F_OK))
		SKIP(return, "cowmem is not a module here");
	self->fd = region_of(2, 1);
}

FIXTURE_TEARDOWN(module)
{
}

#define EXPECT_STAYS() do {						\
	EXPECT_EQ(-1, unload());					\
	EXPECT_TRUE(errno == EWOULDBLOCK || errno == EBUSY)		\
		TH_LOG("delete_module: %s", strerror(errno));		\
} while (0)

TEST_F(module, stays_while_a_region_is_open)
{
	EXPECT_STAYS();
	EXPECT_TRUE(fd_is(self->fd, 0, 2, 1));
}

TEST_F(module, stays_while_a_clone_is_open)
{
	int clone = cloned(self->fd);

	close(self->fd);
	EXPECT_STAYS();
	EXPECT_TRUE(fd_is(clone, 0, 2, 1));
	self->fd = snapshot(clone);
	close(clone);
	EXPECT_STAYS();
	EXPECT_TRUE(fd_is(self->fd, 0, 2, 1));
}

TEST_F(module, stays_while_a_mapping_lives)
{
	char *mem = map_rw(self->fd, 2);

	close(self->fd);
	EXPECT_STAYS();
	EXPECT_TRUE(is(mem, 2, 1, 0));
	fill(mem, 2, 2, 0);
	EXPECT_TRUE(is(mem, 2, 2, 0));
}

TEST_F(module, stays_while_a_clones_private_mapping_lives)
{
	int clone = cloned(self->fd);
	char *mem = map_at(clone, 2, PROT_READ, MAP_PRIVATE, 0);

	close(clone);
	close(self->fd);
	EXPECT_STAYS();
	EXPECT_TRUE(is(mem, 2, 1, 0));
}

TEST_F(module, stays_while_a_child_has_it)
{
	int *turn = shared_mem(sizeof(*turn));
	pid_t pid;

	pid = spawn();
	if (!pid) {
		await(turn, 1);
		_exit(fd_is(self->fd, 0, 2, 1) ? 0 : 1);
	}
	close(self->fd);
	EXPECT_STAYS();
	put(turn, 1);
	EXPECT_EQ(0, reap(pid));
}

TEST_HARNESS_MAIN
