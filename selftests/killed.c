// SPDX-License-Identifier: GPL-2.0-only
/*
 * Promise: SIGKILL ends every call, however long it would take, and leaves the
 * regions as they were before it or as they would have been after it.
 */
#include "../kselftest_harness.h"
#include "common.h"

/* ---- in the middle of it ---- */

enum { PAGES = 2048, MANY = 3 };

#define LAST_WORD (pgsz() / 8 - 1)

/* Two words of each page tell what it is; that is faster than all of them. */
static void stamp(char *mem, uint32_t tag)
{
	uint64_t i;

	for (i = 0; i < PAGES; i++) {
		uint64_t *p = (uint64_t *)(mem + i * pgsz());

		p[0] = pattern(tag, i, 0);
		p[LAST_WORD] = pattern(tag, i, LAST_WORD);
	}
}

/* From page @first on, is each page @i what stamp() made page @i - @shift? */
static bool stamped(int fd, uint64_t first, uint32_t tag, uint64_t shift)
{
	char *mem = map_ro(fd, PAGES);
	uint64_t i;

	for (i = first; i < PAGES; i++) {
		const uint64_t *p = (uint64_t *)(mem + i * pgsz());

		if (p[0] != pattern(tag, i - shift, 0) ||
		    p[LAST_WORD] != pattern(tag, i - shift, LAST_WORD))
			break;
	}
	unmap(mem, PAGES);
	return i == PAGES;
}

FIXTURE(killed) {
	int a, same, snap;	/* a region, one of equal content, one of other */
	char *mem, *same_mem;
	int *turn;
};

FIXTURE_VARIANT(killed) {
	int (*call)(const FIXTURE_DATA(killed) *self);
	/* What the call makes of the region: shift 1 leaves out page 0. */
	uint32_t tag;
	uint64_t shift;
};

typedef const FIXTURE_DATA(killed) scene;

static int call_restore(scene *s)
{
	return do_restore(s->a, s->snap, 0);
}

static int call_restore_keep(scene *s)
{
	return do_restore(s->a, s->snap, COWMEM_RESTORE_KEEP);
}

static int call_copy(scene *s)
{
	return do_copy(s->a, s->same, 1, 0, PAGES - 1);
}

static int call_copy_within(scene *s)
{
	return do_copy(s->a, s->a, 1, 0, PAGES - 1);
}

static int call_clone(scene *s)
{
	int fd = do_clone(s->a, 0, 0, 0);

	return fd < 0 ? fd : close(fd);
}

static int call_clone_range(scene *s)
{
	int fd = do_clone(s->a, 0, pgsz(), 0);

	return fd < 0 ? fd : close(fd);
}

static int call_clone_many(scene *s)
{
	int fds[MANY] = { s->same, s->a, s->same }, clones[MANY];
	int ret = do_clone_many(s->a, fds, clones, MANY, 0), i;

	for (i = 0; !ret && i < MANY; i++)
		close(clones[i]);
	return ret;
}

static int diff(int fd, int other, uint32_t flags)
{
	/* More than are ever found: only then is all looked at in one call. */
	static struct cowmem_extent e[1 << 16];

	return do_diff(fd, other, flags, e, ARRAY_SIZE(e)) < 0 ? -1 : 0;
}

static int call_diff(scene *s)
{
	return diff(s->a, s->same, COWMEM_DIFF_CONTENT);
}

static int call_merge(scene *s)
{
	struct cowmem_merge m = {};

	return do_merge(&m, (int[]){ s->a, s->same }, 2);
}

#define CALL(name, what, ...)						\
	FIXTURE_VARIANT_ADD(killed, name) { .call = what, .tag = 2, __VA_ARGS__ }

FIXTURE_VARIANT_ADD(killed, restore) { .call = call_restore, .tag = 1 };
FIXTURE_VARIANT_ADD(killed, restore_keep) { .call = call_restore_keep, .tag = 1 };
CALL(copy, call_copy, .shift = 1);
CALL(copy_within, call_copy_within, .shift = 1);
CALL(clone, call_clone);
CALL(clone_range, call_clone_range);
CALL(clone_many, call_clone_many);
CALL(diff, call_diff);
CALL(merge, call_merge);

FIXTURE_SETUP(killed)
{
	self->a = region_of(PAGES, 0);
	self->same = region_of(PAGES, 0);
	self->mem = map_rw(self->a, PAGES);
	self->same_mem = map_rw(self->same, PAGES);
	stamp(self->mem, 1);
	self->snap = snapshot(self->a);
	self->turn = shared_mem(sizeof(*self->turn));
	rng_init();
}

FIXTURE_TEARDOWN(killed)
{
}

static void rewrite(scene *s)
{
	stamp(s->mem, 2);
	stamp(s->same_mem, 2);
}

/* Make the call in a child and kill it after @seconds. */
static void kill_after(scene *s, int (*call)(scene *), double seconds)
{
	double end;
	pid_t pid;

	put(s->turn, 0);
	pid = spawn();
	if (!pid) {
		put(s->turn, 1);
		if (call(s))
			put(s->turn, -1);	/* it may not just fail */
		else
			put(s->turn, 2);
		for (;;)
			pause();
	}
	while (!get(s->turn))
		sched_yield();
	end = now() + seconds;
	while (now() < end)
		if (end > now() + 0.02)
			usleep(10000);
	kill(pid, SIGKILL);
	must(reap(pid) == 128 + SIGKILL);
}

static bool consistent(int fd)
{
	struct cowmem_info i = info(fd);

	if (i.pages_populated == PAGES && i.size == PAGES * pgsz() &&
	    i.pages_exclusive + i.pages_shared == PAGES)
		return true;
	fprintf(stderr, "# populated %llu, exclusive %llu, shared %llu\n",
		(unsigned long long)i.pages_populated,
		(unsigned long long)i.pages_exclusive,
		(unsigned long long)i.pages_shared);
	return false;
}

TEST_F(killed, before_or_after)
{
	int round, rounds = effort(8), inside = 0, undone = 0;
	double took;

	rewrite(self);
	took = now();
	ASSERT_EQ(0, variant->call(self));
	took = now() - took;
	/* At least once it is to be in the middle of it. */
	for (round = 0; round < rounds || (!inside && round < 16); round++) {
		struct cowmem_info was[2], got[2];
		bool before, after;

		rewrite(self);
		was[0] = info(self->a);
		was[1] = info(self->same);
		kill_after(self, variant->call, below(1 + 2e6 * took) / 1e6);
		EXPECT_NE(-1, get(self->turn));
		inside += get(self->turn) == 1;
		got[0] = info(self->a);
		got[1] = info(self->same);

		before = stamped(self->a, 0, 2, 0);
		after = stamped(self->a, variant->shift, variant->tag,
				variant->shift);
		if (variant->shift)
			EXPECT_EQ(pattern(2, 0, 0), *(uint64_t *)self->mem);
		EXPECT_TRUE(get(self->turn) == 2 ? after : before || after)
			TH_LOG("round %d", round);
		undone += !after;
		EXPECT_TRUE(stamped(self->same, 0, 2, 0));
		EXPECT_TRUE(stamped(self->snap, 0, 1, 0));
		EXPECT_TRUE(consistent(self->a));
		EXPECT_TRUE(consistent(self->same));
		EXPECT_TRUE(consistent(self->snap));
		EXPECT_GE(1, got[0].clones - was[0].clones);
		/* All or none. */
		if (variant->call == call_clone_many)
			EXPECT_EQ(2 * (got[0].clones - was[0].clones),
				  got[1].clones - was[1].clones);
		/* And it can be done; COPY within the region is not the same twice. */
		rewrite(self);
		ASSERT_EQ(0, variant->call(self));
		EXPECT_TRUE(stamped(self->a, variant->shift, variant->tag,
				    variant->shift));
	}
	TH_LOG("takes %.0f us; of %d killed %d were in it, %d undone",
	       took * 1e6, round, inside, undone);
}

/* ---- calls that would never end ---- */

/*
 * By COPY from itself to itself, a region gets more pages than anyone can count,
 * although it is but one page and a few nodes.
 */
enum { DOUBLINGS = 36 };

#define ENDLESS (1ULL << DOUBLINGS)

static int endless(void)
{
	int fd = region_of(1, 1), i;

	must(!do_resize(fd, 2 * ENDLESS * pgsz()));
	for (i = 0; i < DOUBLINGS; i++)
		must(!do_copy(fd, fd, 1ULL << i, 0, 1ULL << i));
	return fd;
}

static int go_info(scene *s)
{
	info(s->a);
	return 0;
}

static int go_seek(scene *s)
{
	return lseek(s->a, 0, SEEK_HOLE) < 0;
}

static int go_diff(scene *s)
{
	return diff(s->a, s->snap, 0);
}

static int go_copy(scene *s)
{
	return do_copy(s->same, s->a, 0, 1, ENDLESS);
}

/* What it shares is odd, too: each node has to be looked through. */
static int go_copy_within(scene *s)
{
	return do_copy(s->a, s->a, 1, 0, ENDLESS);
}

FIXTURE(endless) {
	FIXTURE_DATA(killed) scene;
};

FIXTURE_VARIANT(endless) {
	int (*call)(scene *s);
};

FIXTURE_VARIANT_ADD(endless, info) { .call = go_info };
FIXTURE_VARIANT_ADD(endless, seek_hole) { .call = go_seek };
FIXTURE_VARIANT_ADD(endless, diff) { .call = go_diff };
FIXTURE_VARIANT_ADD(endless, diff_content) { .call = call_diff };
FIXTURE_VARIANT_ADD(endless, restore) { .call = call_restore };
FIXTURE_VARIANT_ADD(endless, restore_keep) { .call = call_restore_keep };
FIXTURE_VARIANT_ADD(endless, copy) { .call = go_copy };
FIXTURE_VARIANT_ADD(endless, copy_within) { .call = go_copy_within };
FIXTURE_VARIANT_ADD(endless, clone_range) { .call = call_clone_range };
FIXTURE_VARIANT_ADD(endless, merge) { .call = call_merge };

FIXTURE_SETUP(endless)
{
	FIXTURE_DATA(killed) *s = &self->scene;
	int empty = region();

	s->a = endless();
	s->same = endless();
	ASSERT_EQ(0, do_resize(empty, 2 * ENDLESS * pgsz()));
	/* Something for KEEP to look at. */
	s->mem = map_rw(s->a, 200);
	ASSERT_EQ(5, pwrite(s->a, "hello", 5, 0));
	s->snap = snapshot(empty);
	s->turn = shared_mem(sizeof(*s->turn));
	close(empty);
}

FIXTURE_TEARDOWN(endless)
{
	close(self->scene.a);
	close(self->scene.same);
}

TEST_F(endless, ends_by_a_signal)
{
	FIXTURE_DATA(killed) *s = &self->scene;
	double start;
	char buf[8];

	start = now();
	kill_after(s, variant->call, 0.3);
	EXPECT_EQ(1, get(s->turn))
		TH_LOG("it was over before");
	EXPECT_GT(10, now() - start);
	/* Nothing has changed, and all of it works. */
	EXPECT_EQ(5, pread(s->a, buf, 5, 0));
	EXPECT_EQ(0, memcmp(buf, "hello", 5));
	EXPECT_TRUE(fd_is_as(s->a, 1, 1, 0));
	EXPECT_TRUE(fd_is_as(s->a, ENDLESS / 3, 1, 0));
	EXPECT_TRUE(fd_is_as(s->a, ENDLESS - 1, 1, 0));
	EXPECT_TRUE(fd_is_as(s->a, ENDLESS, 0, 0));
	EXPECT_TRUE(fd_is_as(s->same, 0, 1, 0));
	EXPECT_TRUE(fd_is_as(s->same, ENDLESS / 3, 1, 0));
	EXPECT_EQ(1, pwrite(s->a, "x", 1, ENDLESS / 5 * pgsz()));
	pg_fill(s->mem + 150 * pgsz(), 7, 150);
	EXPECT_TRUE(fd_is(s->a, 150, 1, 7));
	EXPECT_TRUE(fd_is_as(s->a, ENDLESS / 5 + 1, 1, 0));
	EXPECT_TRUE(fd_is_as(s->same, ENDLESS / 5, 1, 0));
	close(cloned(s->a));
	EXPECT_EQ(0, do_discard(s->a, 0, ENDLESS * pgsz()));
	EXPECT_EQ(0, info(s->a).pages_populated);
}

/* ---- calls that wait for one of those ---- */

static int wait_fdinfo(scene *s)
{
	char path[64], text[512];

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", s->a);
	return read_file(path, text, sizeof(text)) <= 0;
}

static int wait_read(scene *s)
{
	char c;

	return pread(s->a, &c, 1, 0) != 1;
}

static int wait_write(scene *s)
{
	return pwrite(s->a, "x", 1, ENDLESS / 7 * pgsz()) != 1;
}

static int wait_read_fault(scene *s)
{
	return touch(s->mem + 170 * pgsz(), false);
}

static int wait_write_fault(scene *s)
{
	return poke(s->mem + 171 * pgsz(), 'x');
}

static int wait_private_fault(scene *s)
{
	return poke(s->same_mem, 'x');
}

static int wait_mmap(scene *s)
{
	return mmap(NULL, pgsz(), PROT_READ, MAP_SHARED, s->a, 0) == MAP_FAILED;
}

static int wait_resize(scene *s)
{
	return do_resize(s->a, pgsz());
}

/* Adds none, so it does no harm if it need not wait. */
static int wait_seal(scene *s)
{
	return do_seal(s->a, 0) < 0;
}

static int wait_discard(scene *s)
{
	return do_discard(s->a, 0, ENDLESS * pgsz());
}

static int wait_copy_from(scene *s)
{
	return do_copy(s->same, s->a, 0, 0, 1);
}

static int wait_copy_to(scene *s)
{
	return do_copy(s->a, s->same, 0, 0, 1);
}

/* What each waits for: that nothing changes the region, that no RESIZE is under way. */
enum { CHANGES = 1, RESIZES = 2 };

static const struct {
	const char *name;
	int (*call)(scene *s);
	int waits_for;
} waiting[] = {
	{ "INFO", go_info, CHANGES },
	{ "fdinfo", wait_fdinfo, CHANGES },
	{ "read", wait_read, CHANGES },
	{ "lseek", go_seek, CHANGES },
	{ "DIFF", call_diff, CHANGES },
	{ "a read fault", wait_read_fault, CHANGES },
	{ "a private fault", wait_private_fault, CHANGES },
	{ "a write fault", wait_write_fault, CHANGES },
	{ "write", wait_write, CHANGES | RESIZES },
	{ "mmap", wait_mmap, CHANGES },
	{ "RESIZE", wait_resize, CHANGES | RESIZES },
	{ "SEAL", wait_seal, CHANGES | RESIZES },
	{ "CLONE", call_clone, CHANGES },
	{ "CLONE of a range", call_clone_range, CHANGES },
	{ "CLONE_MANY", call_clone_many, CHANGES },
	{ "RESTORE", call_restore, CHANGES | RESIZES },
	{ "COPY to it", wait_copy_to, CHANGES },
	{ "COPY from it", wait_copy_from, CHANGES },
	{ "DISCARD", wait_discard, CHANGES },
	{ "MERGE", call_merge, CHANGES },
};

/* Start @call, which takes minutes. */
static pid_t under_way(scene *s, int (*call)(scene *s))
{
	pid_t pid;

	put(s->turn, 0);
	pid = spawn();
	if (!pid) {
		put(s->turn, 1);
		call(s);
		_exit(1);
	}
	await(s->turn, 1);
	usleep(100000);
	return pid;
}

/* And wait until @probe has to wait for it. */
static pid_t in_the_way(scene *s, int (*call)(scene *s), int (*probe)(scene *s))
{
	pid_t pid = under_way(s, call);

	do
		kill_after(s, probe, 0.1);
	while (get(s->turn) != 1);
	return pid;
}

/* Returns whether it was in the way until now. */
static bool out_of_the_way(pid_t pid)
{
	kill(pid, SIGKILL);
	return reap(pid) == 128 + SIGKILL;
}

FIXTURE(waiting) {
	FIXTURE_DATA(killed) scene;
};

FIXTURE_SETUP(waiting)
{
	FIXTURE_DATA(killed) *s = &self->scene;
	int empty = region();

	s->a = endless();
	s->same = region_of(2, 3);
	ASSERT_EQ(0, do_resize(empty, 2 * ENDLESS * pgsz()));
	s->mem = map_rw(s->a, 200);
	s->same_mem = mmap(NULL, pgsz(), PROT_READ | PROT_WRITE, MAP_PRIVATE,
			   s->a, 160 * pgsz());
	ASSERT_NE(MAP_FAILED, s->same_mem);
	s->snap = snapshot(empty);
	s->turn = shared_mem(sizeof(*s->turn));
	close(empty);
}

FIXTURE_TEARDOWN(waiting)
{
	close(self->scene.a);
	close(self->scene.same);
}

TEST_F(waiting, ends_by_a_signal)
{
	FIXTURE_DATA(killed) *s = &self->scene;
	struct cowmem_info was = info(s->same), got;
	pid_t first, second = 0;
	int stage;
	size_t i;

	for (stage = CHANGES; stage <= RESIZES; stage *= 2) {
		first = in_the_way(s, go_copy_within, wait_read);
		if (stage == RESIZES)
			/* It waits, too, with the lock of the inode. */
			second = under_way(s, wait_resize);
		for (i = 0; i < ARRAY_SIZE(waiting); i++) {
			if (!(waiting[i].waits_for & stage))
				continue;
			kill_after(s, waiting[i].call, 0.03);
			EXPECT_EQ(1, get(s->turn))
				TH_LOG("%s does not wait", waiting[i].name);
			/* Nor does anybody have to wait for a process that is gone. */
			EXPECT_TRUE(fd_is(s->same, 0, 2, 3));
		}
		if (second)
			EXPECT_TRUE(out_of_the_way(second));
		EXPECT_TRUE(out_of_the_way(first));
	}
	/* Nothing was done. */
	got = info(s->same);
	EXPECT_EQ(0, memcmp(&was, &got, sizeof(got)));
	EXPECT_TRUE(fd_is_as(s->a, 0, 1, 0));
	EXPECT_TRUE(fd_is_as(s->a, 171, 1, 0));
	EXPECT_TRUE(fd_is_as(s->a, ENDLESS / 7, 1, 0));
	EXPECT_TRUE(fd_is_as(s->a, ENDLESS - 1, 1, 0));
	EXPECT_TRUE(fd_is_as(s->a, ENDLESS, 0, 0));
	EXPECT_EQ(0, do_discard(s->a, 0, ENDLESS * pgsz()));
	EXPECT_EQ(0, info(s->a).clones + info(s->a).seals + info(s->a).pages_populated);
}

/* Its source is the page that it splits, and that it then has to fault in again. */
TEST_F(waiting, write_does_not_wait_for_a_seek)
{
	FIXTURE_DATA(killed) *s = &self->scene;
	pid_t first;
	int clone;

	clone = cloned(s->a);
	/* The leaf is the region's, and the page is not. */
	pg_fill(s->mem, 5, 0);
	first = under_way(s, go_seek);
	EXPECT_EQ(8, pwrite(s->a, s->mem + 3 * pgsz() + 16, 8, 3 * pgsz() + 8));
	EXPECT_EQ(pattern(1, 0, 2), *(uint64_t *)(s->mem + 3 * pgsz() + 8));
	EXPECT_TRUE(out_of_the_way(first));
	EXPECT_TRUE(fd_is_as(clone, 3, 1, 0));
	close(clone);
}

TEST_HARNESS_MAIN
