// SPDX-License-Identifier: GPL-2.0-only
/*
 * Promise: a call that looks at very many index nodes ends early or can be killed,
 * whatever the index looks like, and holds no lock meanwhile that others wait for.
 * A write that fails leaves no empty node behind.
 *
 * The tests of the cap expect that nobody else has regions.
 */
#include "../kselftest_harness.h"
#include "common.h"
#include "cgroups.h"
#include "module.h"

/* The pages that one leaf has room for. */
enum { LEAF = 64 };

/* What others may have to wait for a lock, and a signal until it is heard: seconds. */
#define PROMPT	1.0

/* ---- regions that are larger than anyone can count ---- */

#define ENDLESS (1ULL << 42)

/* What the first @n pages hold is to hang everywhere. */
static void hang_everywhere(int fd, uint64_t n)
{
	must(!do_resize(fd, 2 * ENDLESS * pgsz()));
	for (; n < ENDLESS; n *= 2)
		must(!do_copy(fd, fd, n, 0, n));
}

/* How many index nodes does DIFF look at to find out that a region is not empty? */
static uint64_t count_nodes(int fd)
{
	static struct cowmem_extent e[1 << 14];
	struct cowmem_diff arg = {
		.fd = region(), .extents = (uintptr_t)e, .count = ARRAY_SIZE(e),
	};

	must(!ioctl(fd, COWMEM_IOC_DIFF, &arg) && arg.count < ARRAY_SIZE(e));
	close(arg.fd);
	return arg.nodes;
}

FIXTURE(endless) {
	int a, b;	/* not one leaf is the same, but all pages are */
	int *turn;
};

typedef const FIXTURE_DATA(endless) scene;

FIXTURE_VARIANT(endless) {
	int (*call)(scene *s);
};

static int call_info(scene *s)
{
	struct cowmem_info arg = { .flags = 0 };

	return ioctl(s->a, COWMEM_IOC_INFO, &arg);
}

static int call_seek_hole(scene *s)
{
	return lseek(s->a, 0, SEEK_HOLE) < 0;
}

static int call_diff(scene *s)
{
	struct cowmem_extent e;

	return do_diff(s->a, s->b, 0, &e, 1) < 0;
}

static int call_diff_content(scene *s)
{
	struct cowmem_extent e;

	return do_diff(s->a, s->b, COWMEM_DIFF_CONTENT, &e, 1) < 0;
}

FIXTURE_VARIANT_ADD(endless, info) { .call = call_info };
FIXTURE_VARIANT_ADD(endless, seek_hole) { .call = call_seek_hole };
FIXTURE_VARIANT_ADD(endless, diff) { .call = call_diff };
FIXTURE_VARIANT_ADD(endless, diff_content) { .call = call_diff_content };

FIXTURE_SETUP(endless)
{
	uint64_t n;

	self->a = region_of(LEAF, 0);
	ASSERT_EQ(5, pwrite(self->a, "hello", 5, 0));
	for (n = 1; n < LEAF; n *= 2)
		must(!do_copy(self->a, self->a, n, 0, n));
	/* The same pages in another leaf. */
	self->b = cloned(self->a);
	ASSERT_EQ(0, do_discard(self->b, 0, pgsz()));
	must(!do_copy(self->b, self->b, 0, 1, 1));
	hang_everywhere(self->a, LEAF);
	hang_everywhere(self->b, LEAF);
	self->turn = shared_mem(sizeof(*self->turn));
}

FIXTURE_TEARDOWN(endless)
{
	close(self->a);
	close(self->b);
}

static double longest(double a, double b)
{
	return a > b ? a : b;
}

/*
 * Map a region, read and write it, in places where the tree has to change.  Returns
 * how long the longest step took.
 */
static double use(int fd, uint64_t page)
{
	double t[6], most = 0;
	char c, *mem;
	int i;

	t[0] = now();
	mem = map_at(fd, 4, PROT_READ | PROT_WRITE, MAP_SHARED, page);
	t[1] = now();
	must(!touch(mem, false) && *mem == 'h');
	t[2] = now();
	must(!poke(mem + pgsz(), 'x'));
	t[3] = now();
	must(pwrite(fd, "y", 1, (page + 2) * pgsz()) == 1);
	t[4] = now();
	must(pread(fd, &c, 1, (page + 3) * pgsz()) == 1 && c == 'h');
	t[5] = now();
	must(mem[pgsz()] == 'x' && mem[2 * pgsz()] == 'y');
	unmap(mem, 4);
	for (i = 0; i < 5; i++)
		most = longest(most, t[i + 1] - t[i]);
	return most;
}

/* Start @call and wait until it is well under way. */
static pid_t start(scene *s, int (*call)(scene *s))
{
	pid_t pid = spawn();

	if (!pid) {
		put(s->turn, 1);
		call(s);
		_exit(1);
	}
	await(s->turn, 1);
	usleep(200000);
	return pid;
}

TEST_F(endless, is_killed_and_holds_nobody_up)
{
	pid_t pid = start(self, variant->call);
	double most = 0, took;
	int i;

	for (i = 0; i < 10; i++) {
		most = longest(most, use(self->a, ENDLESS / 3 + 9999 * i));
		most = longest(most, use(self->b, ENDLESS / 5 + 9999 * i));
	}
	EXPECT_EQ(0, waitpid(pid, NULL, WNOHANG))
		TH_LOG("it was over before");
	took = now();
	kill(pid, SIGKILL);
	EXPECT_EQ(128 + SIGKILL, reap(pid));
	took = now() - took;
	TH_LOG("others waited %.0f ms, the kill took %.0f ms", most * 1e3, took * 1e3);
	EXPECT_GT(PROMPT, most);
	EXPECT_GT(PROMPT, took);
}

/* ---- fdinfo, which anybody may come across ---- */

/* Read it, and return how long that took. */
static double read_fdinfo(int fd, char *text, size_t size)
{
	double t = now();
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	must(read_file(path, text, size) > 0);
	return now() - t;
}

/* The tests themselves are slow. */
#define FDINFO_SECONDS	5

TEST(fdinfo_ends_early)
{
	char text[1024];
	int fd = region_of(LEAF, 1);
	double took;

	hang_everywhere(fd, LEAF);
	took = read_fdinfo(fd, text, sizeof(text));
	TH_LOG("%.0f ms", took * 1e3);
	EXPECT_GT(FDINFO_SECONDS, took);
	/* It says what it knows and does not guess. */
	EXPECT_NE(NULL, strstr(text, "cowmem-size:"));
	EXPECT_EQ(NULL, strstr(text, "cowmem-pages-populated:"));
	close(fd);
}

/* ---- failed writes ---- */

FIXTURE(cap) {
	char old[32];
};

FIXTURE_VARIANT(cap) {
	uint64_t page;	/* where the write fails */
	bool shared;	/* below nodes that a snapshot has, too */
	bool fault;
};

/* The tree has a page in leaf 0 and in leaf 32, below one node. */
FIXTURE_VARIANT_ADD(cap, leaf_fault) { .page = 7 * LEAF, .fault = true };
FIXTURE_VARIANT_ADD(cap, leaf_write) { .page = 7 * LEAF };
FIXTURE_VARIANT_ADD(cap, shared_fault) { .page = 7 * LEAF, .fault = true, .shared = true };
FIXTURE_VARIANT_ADD(cap, shared_write) { .page = 7 * LEAF, .shared = true };
FIXTURE_VARIANT_ADD(cap, level_fault) { .page = 5 * LEAF * LEAF, .fault = true };
FIXTURE_VARIANT_ADD(cap, level_write) { .page = 5 * LEAF * LEAF };

FIXTURE_SETUP(cap)
{
	ASSERT_LT(0, read_file(LIMIT, self->old, sizeof(self->old)));
	ASSERT_EQ(0, write_file(LIMIT, "8"));
}

/* Run by the parent, which is there whatever happens to the test. */
FIXTURE_TEARDOWN_PARENT(cap)
{
	EXPECT_EQ(0, write_file(LIMIT, self->old));
}

/* A region that takes what room there is for pages, but maybe not that for a node. */
static int take_all(void)
{
	uint64_t i = 0;
	int fd = region();

	while (pwrite(fd, "f", 1, i * pgsz()) == 1)
		i++;
	must(errno == ENOSPC);
	return fd;
}

/*
 * A node is not as large as a page: in some of so many rounds there is room for a node
 * and for no page, in some there is none for either.
 */
enum { ROUNDS = 8 };

/* Write to a page for which there is no room; returns whether it failed as it should. */
static bool write_in_vain(int fd, char *mem, uint64_t page, bool fault, int ballast)
{
	int full, i = info(ballast).pages_populated;
	bool failed;

	must(pwrite(ballast, "x", 1, (uint64_t)i * LEAF * pgsz()) == 1);
	full = take_all();
	if (fault)
		failed = poke(mem + page * pgsz(), 'x') == SIGBUS;
	else
		failed = pwrite(fd, "x", 1, page * pgsz()) < 0 && errno == ENOSPC;
	close(full);
	return failed;
}

TEST_F(cap, failed_write_leaves_no_empty_node)
{
	int fd = region_of(8 * LEAF * LEAF, 0), ballast = region(), snap = -1, i;
	char *mem = map_rw(fd, 8 * LEAF * LEAF);
	uint64_t nodes;

	ASSERT_EQ(1, pwrite(fd, "x", 1, 0));
	ASSERT_EQ(1, pwrite(fd, "x", 1, 32 * LEAF * pgsz()));
	if (variant->shared)
		snap = snapshot(fd);
	nodes = count_nodes(fd);
	for (i = 0; i < ROUNDS; i++) {
		EXPECT_TRUE(write_in_vain(fd, mem, variant->page, variant->fault,
					  ballast));
		EXPECT_EQ(nodes, count_nodes(fd))
			TH_LOG("round %d", i);
	}
	/* And with room it works. */
	EXPECT_EQ(0, poke(mem + variant->page * pgsz(), 'x'));
	EXPECT_LT(nodes, count_nodes(fd));
	EXPECT_EQ(0, do_discard(fd, variant->page * pgsz(), pgsz()));
	EXPECT_EQ(nodes, count_nodes(fd));
	close(snap);
}

FIXTURE(empty) {
	char old[32];
};

FIXTURE_SETUP(empty)
{
	ASSERT_LT(0, read_file(LIMIT, self->old, sizeof(self->old)));
	ASSERT_EQ(0, write_file(LIMIT, "8"));
}

FIXTURE_TEARDOWN_PARENT(empty)
{
	EXPECT_EQ(0, write_file(LIMIT, self->old));
}

/* If there were an empty leaf for all that, to hang it everywhere would hold nobody up. */
TEST_F(empty, no_search_holds_others_up)
{
	uint64_t last = 2 * ENDLESS - 1;
	int fd = region_of(33 * LEAF, 0), ballast = region(), i, ended;
	char text[1024];
	double took;
	pid_t pid;

	must(pwrite(fd, "h", 1, 32 * LEAF * pgsz()) == 1);
	must(pwrite(fd, "h", 1, 0) == 1);
	for (i = 0; i < ROUNDS; i++)
		EXPECT_TRUE(write_in_vain(fd, NULL, (1 + i) * LEAF, false, ballast));
	EXPECT_EQ(0, write_file(LIMIT, self->old));
	must(!do_discard(fd, 32 * LEAF * pgsz(), LEAF * pgsz()));
	must(!do_copy(fd, fd, 0, LEAF, LEAF));
	hang_everywhere(fd, 32 * LEAF);
	must(pwrite(fd, "h", 1, last * pgsz()) == 1);

	pid = spawn();
	if (!pid)
		_exit(lseek(fd, 0, SEEK_DATA) < 0);
	usleep(200000);
	took = now();
	must(pwrite(fd, "h", 1, (last - LEAF) * pgsz()) == 1);
	must(mmap(NULL, pgsz(), PROT_READ, MAP_SHARED, fd, 0) != MAP_FAILED);
	took = now() - took;
	EXPECT_GT(PROMPT, took);
	EXPECT_GT(FDINFO_SECONDS, read_fdinfo(fd, text, sizeof(text)));
	took = now();
	kill(pid, SIGKILL);
	ended = reap(pid);
	EXPECT_TRUE(ended == 0 || ended == 128 + SIGKILL);
	EXPECT_GT(PROMPT, now() - took);
}

FIXTURE(memcg) {
	char dir[128];
};

FIXTURE_SETUP(memcg)
{
	const char *why = cg_make(self->dir, sizeof(self->dir));

	if (why)
		SKIP(return, "%s", why);
	ASSERT_EQ(0, cg_limit(self->dir, 16 * MIB_PAGES * pgsz()));
}

FIXTURE_TEARDOWN_PARENT(memcg)
{
	EXPECT_EQ(0, rmdir(self->dir));
}

enum { SPARSE = 8192 };

/* The first @n pages that have a leaf each. */
static void write_sparsely(char *mem, uint64_t n)
{
	uint64_t i;

	for (i = 0; i < n; i++)
		mem[i * LEAF * pgsz()] = 1;
}

/* It dies at one of the allocations: of a page or of a node. */
TEST_F(memcg, killed_write_leaves_no_empty_node)
{
	int round, rounds = effort(6);

	for (round = 0; round < rounds; round++) {
		int fd = region_of(SPARSE * LEAF, 0), twin = region_of(SPARSE * LEAF, 0);
		uint64_t n;

		EXPECT_EQ(128 + SIGKILL, in_child({
			must(!cg_write(self->dir, "cgroup.procs", "0"));
			write_sparsely(map_rw(fd, SPARSE * LEAF), SPARSE);
		}));
		n = info(fd).pages_populated;
		EXPECT_LT(100, n);
		/* The same without a failure. */
		write_sparsely(map_rw(twin, SPARSE * LEAF), n);
		EXPECT_EQ(count_nodes(twin), count_nodes(fd))
			TH_LOG("round %d, %llu pages", round, (unsigned long long)n);
		close(twin);
		close(fd);
	}
}

TEST_HARNESS_MAIN
