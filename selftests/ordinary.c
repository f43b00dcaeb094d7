// SPDX-License-Identifier: GPL-2.0-only
/*
 * Promise: a mapping of a region is an ordinary one.  It stays one mapping however its
 * protection was changed, costs fork() nothing, can be locked in memory, and tells of
 * stores as others do; and to map a region very often makes nobody else wait.
 */
#include <sys/syscall.h>
#include <linux/mempolicy.h>

#include "../kselftest_harness.h"
#include "common.h"
#include "frames.h"
#include "module.h"

enum { PAGES = 256 };

#define LEN (PAGES * pgsz())

/* A number after @key in /proc/self/FILE, or -1. */
static long proc_self(const char *file, const char *key)
{
	static char buf[1 << 16];
	char path[64], *at;

	snprintf(path, sizeof(path), "/proc/self/%s", file);
	must(read_file(path, buf, sizeof(buf)) > 0);
	at = strstr(buf, key);
	return at ? atol(at + strlen(key)) : -1;
}

/* How many mappings begin in a range? */
static int mappings(const char *mem, size_t len)
{
	unsigned long start, from = (unsigned long)mem;
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[512];
	int n = 0;

	must(maps);
	while (fgets(line, sizeof(line), maps))
		if (sscanf(line, "%lx-", &start) == 1 && start >= from &&
		    start < from + len)
			n++;
	fclose(maps);
	return n;
}

/* Store to all pages and return how many faults that took. */
static long faults_of_stores(char *mem, size_t pages)
{
	long before;
	size_t i;

	faults_taken();
	before = faults_taken();
	for (i = 0; i < pages; i++)
		((volatile char *)mem)[i * pgsz()] = 7;
	return faults_taken() - before;
}

/* ---- protection, fork() ---- */

/* More than a process may have mappings. */
enum { MANY = 70000 };

TEST(protections_leave_one_mapping)
{
	int fd = region(), i, round;
	char *mem;

	ASSERT_EQ(0, do_resize(fd, (uint64_t)MANY * pgsz()));
	mem = map_rw(fd, MANY);
	for (i = 0; i < MANY; i += 500)
		pg_fill(mem + i * pgsz(), 1, i);
	for (round = 0; round < 2; round++) {
		/* Braces, or the harness goes on to the end of the loop. */
		for (i = 0; i < MANY; i++) {
			ASSERT_EQ(0, mprotect(mem + i * pgsz(), pgsz(), PROT_READ))
				TH_LOG("page %d: %s", i, strerror(errno));
		}
		EXPECT_EQ(1, mappings(mem, MANY * pgsz()));
		EXPECT_EQ(SIGSEGV, poke(mem, 1));
		/* Back from the other end in the second round. */
		for (i = 0; i < MANY; i++) {
			ASSERT_EQ(0, mprotect(mem + (round ? MANY - 1 - i : i) * pgsz(),
					      pgsz(), PROT_READ | PROT_WRITE));
		}
		EXPECT_EQ(1, mappings(mem, MANY * pgsz()));
	}
	for (i = 0; i < MANY; i += 500)
		ASSERT_TRUE(is(mem + i * pgsz(), 1, 1, i));
	pg_fill(mem + 77 * pgsz(), 2, 77);
	EXPECT_TRUE(fd_is(fd, 77, 1, 2));
}

/* Neighbours become one, pieces find together. */
TEST(neighbours_are_one_mapping)
{
	int fd = region_of(64, 1), i;
	char *mem = map_at(fd, 64, PROT_NONE, MAP_SHARED, 0);

	for (i = 0; i < 64; i++)
		ASSERT_EQ(mem + i * pgsz(),
			  mmap(mem + i * pgsz(), pgsz(), PROT_READ | PROT_WRITE,
			       MAP_SHARED | MAP_FIXED, fd, i * pgsz()));
	EXPECT_EQ(1, mappings(mem, 64 * pgsz()));
	EXPECT_TRUE(is(mem, 64, 1, 0));
	for (i = 1; i < 64; i += 2)
		ASSERT_EQ(0, mprotect(mem + i * pgsz(), pgsz(), PROT_READ));
	EXPECT_EQ(64, mappings(mem, 64 * pgsz()));
	ASSERT_EQ(0, mprotect(mem, 64 * pgsz(), PROT_READ | PROT_WRITE));
	EXPECT_EQ(1, mappings(mem, 64 * pgsz()));
	/* A file of the same region is another file. */
	ASSERT_EQ(mem, mmap(mem, pgsz(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
			    file_of(fd, 0), 0));
	EXPECT_EQ(2, mappings(mem, 64 * pgsz()));
	EXPECT_TRUE(is(mem, 64, 1, 0));
}

TEST(fork_copies_no_page_tables)
{
	/* A table maps as many pages as it has entries.  Of large pages some will do. */
	size_t pages = 32 * pgsz() / 8, step = pgsz() / 4096 * (pgsz() / 4096), i;
	long table = pgsz() / 1024, without, with;
	int fd = region(), status;
	char *mem;

	status = in_child(_exit(proc_self("status", "VmPTE:") / table));
	without = status * table;
	mem = map_rw(fd, pages);
	/* A kernel without huge pages needs not be told. */
	must(!madvise(mem, pages * pgsz(), MADV_NOHUGEPAGE) || errno == EINVAL);
	for (i = 0; i < pages; i += step)
		*(uint64_t *)(mem + i * pgsz()) = i + 1;
	EXPECT_LE(without + 32 * table, proc_self("status", "VmPTE:"));
	status = in_child(_exit(proc_self("status", "VmPTE:") / table));
	with = status * table;
	TH_LOG("VmPTE of a child: %ld kB without, %ld kB with", without, with);
	EXPECT_LE(with, without + 3 * table);
	/* It finds all of it all the same, and writes it. */
	EXPECT_EQ(0, in_child(
		for (i = 0; i < pages; i += 97 * step)
			if (*(uint64_t *)(mem + i * pgsz()) != i + 1)
				_exit(1);
		*(uint64_t *)mem = 99;
	));
	EXPECT_EQ(99, *(uint64_t *)mem);
}

/* ---- memory that is locked ---- */

FIXTURE(locked) {
	int fd;
	uint32_t tag;	/* what it holds */
	char *mem;
};

FIXTURE_VARIANT(locked) {
	enum { FRESH, WRITTEN, CLONE, ORIGIN } what;
	int flags;	/* of mmap() */
};

FIXTURE_VARIANT_ADD(locked, fresh) { .what = FRESH };
FIXTURE_VARIANT_ADD(locked, fresh_populated) { .what = FRESH, .flags = MAP_POPULATE };
FIXTURE_VARIANT_ADD(locked, fresh_at_once) {
	.what = FRESH, .flags = MAP_LOCKED | MAP_POPULATE,
};
FIXTURE_VARIANT_ADD(locked, written) { .what = WRITTEN };
FIXTURE_VARIANT_ADD(locked, clone) { .what = CLONE };
FIXTURE_VARIANT_ADD(locked, clone_at_once) {
	.what = CLONE, .flags = MAP_LOCKED | MAP_POPULATE,
};
FIXTURE_VARIANT_ADD(locked, origin) { .what = ORIGIN };

FIXTURE_SETUP(locked)
{
	const struct rlimit unlimited = { RLIM_INFINITY, RLIM_INFINITY };
	int other;

	ASSERT_EQ(0, setrlimit(RLIMIT_MEMLOCK, &unlimited));
	self->tag = variant->what == FRESH ? 0 : 1;
	self->fd = region_of(PAGES, self->tag);
	if (variant->what >= CLONE) {
		other = cloned(self->fd);
		if (variant->what == CLONE)
			self->fd = other;
	}
	self->mem = map_at(self->fd, PAGES, PROT_READ | PROT_WRITE,
			   MAP_SHARED | variant->flags, 0);
	if (!(variant->flags & MAP_LOCKED))
		ASSERT_EQ(0, mlock(self->mem, LEN));
}

FIXTURE_TEARDOWN(locked)
{
}

TEST_F(locked, stores_take_no_fault)
{
	EXPECT_LE(LEN / 1024, proc_self("status", "VmLck:"));
	EXPECT_EQ(0, faults_of_stores(self->mem, PAGES));
	EXPECT_EQ(PAGES, info(self->fd).pages_exclusive);
	memset(self->mem, 0, LEN);
	fill(self->mem, PAGES, 2, 0);
	EXPECT_TRUE(fd_is(self->fd, 0, PAGES, 2));
	ASSERT_EQ(0, munlock(self->mem, LEN));
	EXPECT_EQ(0, proc_self("status", "VmLck:"));
}

/* To clone takes write access away, from locked memory, too. */
TEST_F(locked, clone_shows_one_instant)
{
	int clone, round;
	char *there;

	EXPECT_TRUE(is(self->mem, PAGES, self->tag, 0));
	for (round = 2; round < 5; round++) {
		fill(self->mem, PAGES, round, 0);
		clone = cloned(self->fd);
		fill(self->mem, PAGES, round + 10, 0);
		EXPECT_TRUE(fd_is(clone, 0, PAGES, round));
		there = map_rw(clone, PAGES);
		fill(there, PAGES, round + 20, 0);
		EXPECT_TRUE(is(self->mem, PAGES, round + 10, 0));
		/* From then on it is as before. */
		EXPECT_EQ(0, faults_of_stores(self->mem, PAGES));
		unmap(there, PAGES);
		close(clone);
	}
}

/* More than the module may hold: locking fails, and storing would. */
TEST(locking_more_than_there_is)
{
	const struct rlimit unlimited = { RLIM_INFINITY, RLIM_INFINITY };
	size_t pages = (16 << 20) / pgsz();
	int fd = region(), populated;
	char old[32], *mem;

	ASSERT_EQ(0, setrlimit(RLIMIT_MEMLOCK, &unlimited));
	if (read_file(LIMIT, old, sizeof(old)) < 0)
		SKIP(return, "no %s", LIMIT);
	mem = map_rw(fd, pages);
	ASSERT_EQ(0, write_file(LIMIT, "8"));
	EXPECT_EQ(-1, mlock(mem, pages * pgsz()));
	EXPECT_EQ(ENOMEM, errno);
	/* It is the limit, not some page before it, that stopped it. */
	populated = info(fd).pages_populated;
	EXPECT_LT(pages / 4, populated);
	EXPECT_GT(pages, populated);
	EXPECT_EQ(SIGBUS, poke(mem + (pages - 1) * pgsz(), 1));
	ASSERT_EQ(0, write_file(LIMIT, old));
	EXPECT_EQ(0, mlock(mem, pages * pgsz()));
	EXPECT_EQ(0, faults_of_stores(mem, pages));
}

/* ---- finding out what was written ---- */

/* 1, 0, or -1 if there is no such thing here */
static int soft_dirty(const char *mem)
{
	return !!(pagemap(mem) & PAGEMAP_DIRTY);
}

static void clear_soft_dirty(void)
{
	must(!write_file("/proc/self/clear_refs", "4"));
}

FIXTURE(dirty) {
	int fd;
	char *mem, *ordinary;
};

FIXTURE_VARIANT(dirty) {
	bool shared;	/* its pages are a clone's, too */
	bool mapped;	/* they are mapped, writable as far as they can be */
	bool data;	/* they are no holes */
};

FIXTURE_VARIANT_ADD(dirty, holes) { .data = false };
FIXTURE_VARIANT_ADD(dirty, unmapped) { .data = true };
FIXTURE_VARIANT_ADD(dirty, mapped) { .data = true, .mapped = true };
FIXTURE_VARIANT_ADD(dirty, shared) { .data = true, .shared = true };
FIXTURE_VARIANT_ADD(dirty, shared_and_mapped) {
	.data = true, .shared = true, .mapped = true,
};

FIXTURE_SETUP(dirty)
{
	size_t i;

	self->fd = region_of(PAGES, variant->data);
	self->mem = map_rw(self->fd, PAGES);
	self->ordinary = anon(1);
	*self->ordinary = 1;
	for (i = 0; variant->mapped && i < PAGES; i++)
		touch(self->mem + i * pgsz(), true);
	if (variant->shared)
		cloned(self->fd);
	for (i = 0; variant->mapped && i < PAGES; i++)
		touch(self->mem + i * pgsz(), false);
	clear_soft_dirty();
	EXPECT_EQ(0, soft_dirty(self->ordinary));
	*self->ordinary = 2;
	if (!soft_dirty(self->ordinary))
		SKIP(return, "no soft-dirty bits here");
	clear_soft_dirty();
}

FIXTURE_TEARDOWN(dirty)
{
}

TEST_F(dirty, stores_show)
{
	int round;
	size_t i;

	for (round = 0; round < 3; round++) {
		for (i = 0; i < PAGES; i += 7)
			touch(self->mem + i * pgsz(), false);
		for (i = 3; i < PAGES; i += 10)
			*(self->mem + i * pgsz() + 5) = 9;
		for (i = 3; i < PAGES; i += 10) {
			ASSERT_EQ(1, soft_dirty(self->mem + i * pgsz()))
				TH_LOG("page %zu, round %d", i, round);
		}
		/* What was only read is not said to be written. */
		for (i = 0; i < PAGES; i += 7) {
			ASSERT_EQ(i % 10 == 3, soft_dirty(self->mem + i * pgsz()))
				TH_LOG("page %zu, round %d", i, round);
		}
		clear_soft_dirty();
		EXPECT_EQ(0, soft_dirty(self->mem + 3 * pgsz()));
	}
}

/* A second after 1970 began: a machine without a clock may be there for minutes. */
TEST(stores_change_st_mtime)
{
	const struct timespec old[2] = { { .tv_sec = 1 }, { .tv_sec = 1 } };
	int dev = region_of(PAGES, 1), fd = file_of(dev, 0), clone;
	char *mem = map_rw(fd, PAGES);
	struct stat st;

	ASSERT_EQ(0, futimens(fd, old));
	touch(mem, false);
	ASSERT_EQ(0, fstat(fd, &st));
	EXPECT_EQ(1, st.st_mtime);
	clone = cloned(fd);
	ASSERT_EQ(0, futimens(fd, old));
	ASSERT_EQ(0, poke(mem, 5));
	ASSERT_EQ(0, fstat(fd, &st));
	EXPECT_LT(1, st.st_mtime);
	/* The clone was not written. */
	ASSERT_EQ(0, futimens(clone, old));
	ASSERT_EQ(0, poke(mem + pgsz(), 5));
	ASSERT_EQ(0, fstat(clone, &st));
	EXPECT_EQ(1, st.st_mtime);
}

/* ---- what else looks at mappings ---- */

static long ksm(const char *file)
{
	char path[64], buf[32];

	snprintf(path, sizeof(path), "/sys/kernel/mm/ksm/%s", file);
	return read_file(path, buf, sizeof(buf)) < 0 ? -1 : atol(buf);
}

static int set_ksm(const char *file, const char *text)
{
	char path[64];

	snprintf(path, sizeof(path), "/sys/kernel/mm/ksm/%s", file);
	return write_file(path, text);
}

TEST(ksm_merges_private_copies)
{
	int fd = region_of(PAGES, 1), i;
	char *mem = map_at(fd, PAGES, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0);

	if (ksm("run") < 0)
		SKIP(return, "no KSM here");
	memset(mem, 7, LEN / 2);
	EXPECT_TRUE(is(mem + LEN / 2, PAGES / 2, 1, PAGES / 2));
	ASSERT_EQ(0, set_ksm("sleep_millisecs", "10"));
	ASSERT_EQ(0, set_ksm("pages_to_scan", "2000"));
	ASSERT_EQ(0, madvise(mem, LEN, MADV_MERGEABLE));
	ASSERT_EQ(0, set_ksm("run", "1"));
	for (i = 0; i < 300 && ksm("pages_sharing") < PAGES / 4; i++)
		usleep(100000);
	EXPECT_LE(PAGES / 4, ksm("pages_sharing"));
	/* Only what was copied; the region's pages are nobody's to merge. */
	EXPECT_GE(PAGES / 2, ksm("pages_sharing"));
	for (i = 0; i < PAGES / 2; i++)
		EXPECT_EQ(7, mem[i * pgsz() + i]);
	fill(mem, 3, 5, 0);
	EXPECT_TRUE(is(mem, 3, 5, 0));
	EXPECT_EQ(7, mem[3 * pgsz()]);
	EXPECT_TRUE(fd_is(fd, 0, PAGES, 1));
	ASSERT_EQ(0, set_ksm("run", "2"));
	EXPECT_EQ(7, mem[3 * pgsz()]);
	EXPECT_TRUE(is(mem + LEN / 2, PAGES / 2, 1, PAGES / 2));
	ASSERT_EQ(0, set_ksm("run", "0"));
}

TEST(memory_policy)
{
	int fd = region(), clone, node, i;
	unsigned long nodes = 1;
	char *mem;

	ASSERT_EQ(0, do_resize(fd, LEN));
	mem = map_rw(fd, PAGES);
	if (syscall(SYS_mbind, mem, LEN, MPOL_BIND, &nodes, 8 * sizeof(nodes), 0) &&
	    errno == ENOSYS)
		SKIP(return, "no NUMA here");
	ASSERT_EQ(0, syscall(SYS_mbind, mem, LEN, MPOL_BIND, &nodes, 8 * sizeof(nodes), 0));
	fill(mem, PAGES, 1, 0);
	clone = cloned(fd);
	fill(mem, PAGES, 2, 0);
	for (i = 0; i < PAGES; i += 50) {
		ASSERT_EQ(0, syscall(SYS_get_mempolicy, &node, NULL, 0, mem + i * pgsz(),
				     MPOL_F_NODE | MPOL_F_ADDR));
		EXPECT_EQ(0, node);
	}
	EXPECT_TRUE(fd_is(fd, 0, PAGES, 2));
	EXPECT_TRUE(fd_is(clone, 0, PAGES, 1));
	/* Moving pages that are there already is refused or done, and nothing is lost. */
	syscall(SYS_mbind, mem, LEN, MPOL_BIND, &nodes, 8 * sizeof(nodes), MPOL_MF_MOVE);
	EXPECT_TRUE(is(mem, PAGES, 2, 0));
	nodes = 0;
	EXPECT_EQ(-1, syscall(SYS_mbind, mem, LEN, MPOL_BIND, &nodes, 8 * sizeof(nodes), 0));
	EXPECT_EQ(EINVAL, errno);
}

/* ---- a region that is mapped very often makes nobody wait ---- */

/* Mappings of the attacker's own region, and leaves that each call unmaps from them. */
enum { MAPPERS = 2, MAPPINGS = 20000, LEAVES = 24, LEAF = 64 };

#define ATTACKED (LEAVES * LEAF)

FIXTURE(stall) {
	int live, snap, mine;
	pid_t mapper[MAPPERS];
	int *turn;
};

FIXTURE_VARIANT(stall) {
	enum { RESTORE, COPY, CLONE_MANY } call;
};

FIXTURE_VARIANT_ADD(stall, restore) { .call = RESTORE };
FIXTURE_VARIANT_ADD(stall, copy) { .call = COPY };
FIXTURE_VARIANT_ADD(stall, clone_many) { .call = CLONE_MANY };

FIXTURE_SETUP(stall)
{
	int i, k;

	self->live = region();
	self->mine = region();
	ASSERT_EQ(0, do_resize(self->live, ATTACKED * pgsz()));
	ASSERT_EQ(0, do_resize(self->mine, ATTACKED * pgsz()));
	ASSERT_EQ(1, pwrite(self->live, "x", 1, 0));
	self->snap = snapshot(self->live);
	self->turn = shared_mem(4 * sizeof(*self->turn));
	for (k = 0; k < MAPPERS; k++) {
		self->mapper[k] = spawn();
		if (self->mapper[k])
			continue;
		for (i = 0; i < MAPPINGS; i++)
			must(mmap(NULL, ATTACKED * pgsz(), PROT_READ | PROT_WRITE,
				  MAP_SHARED | MAP_NORESERVE, self->mine, 0) != MAP_FAILED);
		__atomic_add_fetch(&self->turn[0], 1, __ATOMIC_ACQ_REL);
		for (;;)
			pause();
	}
	await(&self->turn[0], MAPPERS);
}

FIXTURE_TEARDOWN(stall)
{
	int k;

	for (k = 0; k < MAPPERS; k++) {
		kill(self->mapper[k], SIGKILL);
		reap(self->mapper[k]);
	}
}

static int attack(const FIXTURE_DATA(stall) *s, int call, int snap)
{
	int fds[2] = { snap, s->mine }, clones[2], ret;

	if (call == COPY)
		return do_copy(s->mine, snap, 0, 0, ATTACKED);
	if (call == RESTORE)
		return do_restore(s->mine, snap, 0);
	ret = do_clone_many(s->mine, fds, clones, 2, 0);
	if (!ret) {
		close(clones[0]);
		close(clones[1]);
	}
	return ret;
}

static void attack_again_and_again(const FIXTURE_DATA(stall) *s, int call, int snap)
{
	double start;
	int i;

	for (;;) {
		for (i = 0; i < LEAVES; i++)
			must(pwrite(s->mine, "y", 1, i * LEAF * pgsz()) == 1);
		put(&s->turn[1], 1);
		start = now();
		must(!attack(s, call, snap));
		put(&s->turn[1], 0);
		put(&s->turn[3], 1e6 * (now() - start));
		__atomic_add_fetch(&s->turn[2], 1, __ATOMIC_ACQ_REL);
	}
}

/* What the other one does with the snapshot, in seconds. */
static double victim(int snap)
{
	double start = now();
	char *mem = map_ro(snap, 1);
	int clone;

	must(*(volatile char *)mem == 'x');
	clone = cloned(snap);
	start = now() - start;
	unmap(mem, 1);
	close(clone);
	return start;
}

struct waits {
	double mean, worst;
	int in_call;
};

/* How long the victim waits while somebody attacks by way of @snap, which may be another. */
static struct waits under_attack(const FIXTURE_DATA(stall) *s, int call, int snap)
{
	double end = now() + effort(6), took;
	struct waits w = {};
	int n;
	pid_t pid;

	put(&s->turn[2], 0);
	pid = spawn();
	if (!pid)
		attack_again_and_again(s, call, snap);
	for (n = 0; now() < end || (!get(&s->turn[2]) && now() < end + 60); n++) {
		int calls = get(&s->turn[2]), inside = get(&s->turn[1]);

		took = victim(s->snap);
		w.mean += took;
		w.worst = took > w.worst ? took : w.worst;
		w.in_call += inside && get(&s->turn[1]) && calls == get(&s->turn[2]);
		usleep(2000);
	}
	kill(pid, SIGKILL);
	reap(pid);
	w.mean /= n;
	printf("# %d tries, %d of them in one of %d calls of %.1f ms: %.2f ms, at most %.2f\n",
	       n, w.in_call, get(&s->turn[2]), get(&s->turn[3]) / 1e3,
	       1e3 * w.mean, 1e3 * w.worst);
	return w;
}

TEST_F(stall, of_a_snapshot)
{
	int elsewhere = snapshot(self->live), round;
	struct waits other, same;

	/* The machine has others to serve: a wait for a lock shows each time. */
	for (round = 0; round < 3; round++) {
		/* With the same load on the machine, but nothing in common. */
		other = under_attack(self, variant->call, elsewhere);
		same = under_attack(self, variant->call, self->snap);
		if (same.in_call && same.worst < 0.05 + 3 * other.worst &&
		    same.mean < 0.002 + 4 * other.mean)
			break;
	}
	EXPECT_LT(0, same.in_call);
	EXPECT_GT(0.05 + 3 * other.worst, same.worst);
	EXPECT_GT(0.002 + 4 * other.mean, same.mean);
}

TEST_HARNESS_MAIN
