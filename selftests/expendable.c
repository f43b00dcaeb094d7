// SPDX-License-Identifier: GPL-2.0-only
/*
 * Promise: where a write would fail for want of memory, by the module's limit, by the
 * size of a mount or by the memory cgroup, snapshots that were made expendable yield
 * theirs: the oldest that help, no more than it takes, each as a whole.  Their holders
 * learn of it at once, and nothing else is lost.
 *
 * Expects that nobody else has regions.
 */
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/statfs.h>
#include <linux/falloc.h>
#include <linux/fs.h>

#include "../kselftest_harness.h"
#include "common.h"
#include "areas.h"
#include "cgroups.h"
#include "files.h"
#include "module.h"

#define SNAPSHOT COWMEM_CLONE_SNAPSHOT
#define EXPENDABLE (COWMEM_CLONE_SNAPSHOT | COWMEM_CLONE_EXPENDABLE)

/* Pages of a region, of what is written between two snapshots, and where writes go then. */
enum { PAGES = 2048, STEP = 100, FROM = 1000 };

enum limit { MIB, MOUNT, MEMCG };
enum way { FAULT, PWRITE, FALLOCATE };

/* In a child: say what is wrong and end it. */
#define CHECK(cond) do {						\
	if (!(cond)) {							\
		fprintf(stderr, "# %s:%d: not so: %s: %s\n", __FILE__,	\
			__LINE__, #cond, strerror(errno));		\
		_exit(1);						\
	}								\
} while (0)

#define FAILS(err, call) do {						\
	errno = 0;							\
	CHECK((long)(call) == -1 && errno == (err));			\
} while (0)

/* ---- limits ---- */

/**
 * struct place - where there is little memory
 * @limit: the limit that there is.
 * @old: limit_mib as it was.
 * @dir: the mount or the cgroup.
 */
struct place {
	enum limit limit;
	char old[32];
	char dir[128];
};

/* Returns why there is no such limit, or NULL. */
static const char *place_make(struct place *p, enum limit limit)
{
	p->limit = limit;
	must(read_file(LIMIT, p->old, sizeof(p->old)) > 0);
	if (limit == MEMCG)
		return cg_make(p->dir, sizeof(p->dir));
	if (limit == MOUNT) {
		snprintf(p->dir, sizeof(p->dir), "/tmp/cowmem_%d", getpid());
		must(!mkdir(p->dir, 0700));
		if (mount("cowmem", p->dir, "cowmem", 0, sized("size=1g"))) {
			rmdir(p->dir);
			return "cowmem cannot be mounted";
		}
	}
	return NULL;
}

static bool place_gone(struct place *p)
{
	if (p->limit == MOUNT && umount(p->dir))
		return false;
	if (p->limit != MIB && rmdir(p->dir))
		return false;
	return !write_file(LIMIT, p->old);
}

/* From now on there is room for no more than about @pages. */
static void place_limit(const struct place *p, long pages)
{
	char buf[64];
	struct statfs fs;

	switch (p->limit) {
	case MIB:
		must(!set_limit((held() + pages * pgsz() / 1024 + 1023) / 1024));
		break;
	case MOUNT:
		must(!statfs(p->dir, &fs));
		snprintf(buf, sizeof(buf), "size=%lu",
			 (unsigned long)((fs.f_blocks - fs.f_bfree + pages) * pgsz()));
		must(!mount(NULL, p->dir, NULL, MS_REMOUNT, buf));
		break;
	case MEMCG:
		cg_write(p->dir, "memory.swap.max", "0");
		must(!cg_limit(p->dir, cg_read(p->dir, "memory.current") + pages * pgsz()));
		break;
	}
}

static void place_unlimit(const struct place *p)
{
	if (p->limit == MIB)
		must(!set_limit(0));
	if (p->limit == MOUNT)
		must(!mount(NULL, p->dir, NULL, MS_REMOUNT, sized("size=1g")));
	if (p->limit == MEMCG)
		must(!cg_write(p->dir, "memory.max", "max"));
}

/*
 * CPUs keep some pages of a cgroup in stock, and if they are busy do not give them back
 * before somebody is killed for want of them: so all is charged by one.
 */
static void stay_here(void)
{
	cpu_set_t here;

	CPU_ZERO(&here);
	CPU_SET(sched_getcpu(), &here);
	must(!sched_setaffinity(0, sizeof(here), &here));
}

/* Whoever writes does so as a member of it. */
static void place_enter(const struct place *p)
{
	if (p->limit == MEMCG) {
		stay_here();
		must(!cg_write(p->dir, "cgroup.procs", "0"));
	}
	/* What is compared in is given back at once. */
	mallopt(M_MMAP_THRESHOLD, 8 * pgsz());
}

/*
 * As fd_is(), in little memory: in a cgroup that is full, what that compares in, 64 pages
 * at a time, had the OOM killer come.
 */
static bool looks(int fd, uint64_t page, size_t n, uint32_t tag)
{
	size_t some;

	for (; n; n -= some, page += some) {
		some = n < 8 ? n : 8;
		if (!fd_range_is(fd, page, some, tag, page))
			return false;
	}
	return true;
}

/* A region that counts there, with pages of @tag. */
static int place_region(const struct place *p, size_t pages, uint32_t tag)
{
	int fd = p->limit == MOUNT ?
		 open(p->dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600) : region();
	char *mem;

	must(fd >= 0 && !do_resize(fd, pages * pgsz()));
	mem = map_rw(fd, pages);
	if (tag)
		fill_back(mem, pages, tag, 0);
	unmap(mem, pages);
	return fd;
}

/* ---- writers ---- */

struct writer {
	enum way how;
	int fd;
	char *mem;
};

/*
 * The page tables are there from the start: where a cgroup is full, a new one would let
 * the OOM killer loose.
 */
static struct writer writer_of(int fd, enum way how)
{
	struct writer w = { .how = how, .fd = fd, .mem = map_rw(fd, PAGES) };
	volatile char c;
	size_t i;

	for (i = 0; i < PAGES; i += 8)
		c = w.mem[i * pgsz()];
	(void)c;
	/* Only regular files have fallocate(). */
	if (how == FALLOCATE)
		w.fd = file_of(fd, 0);
	return w;
}

/* Write a page; returns whether that went well. */
static bool write_page(struct writer *w, uint64_t page, uint32_t tag)
{
	char buf[pgsz()];

	pg_fill(buf, tag, page);
	if (w->how == PWRITE)
		return pwrite(w->fd, buf, pgsz(), page * pgsz()) == (ssize_t)pgsz();
	if (w->how == FALLOCATE &&
	    fallocate(w->fd, FALLOC_FL_UNSHARE_RANGE | FALLOC_FL_KEEP_SIZE,
		      page * pgsz(), pgsz()))
		return false;
	if (poke(w->mem + page * pgsz(), 1))
		return false;
	memcpy(w->mem + page * pgsz(), buf, pgsz());
	return true;
}

static bool yielded(int fd)
{
	uint64_t state = info(fd).state;

	must(state & COWMEM_STATE_EXPENDABLE);
	return state & COWMEM_STATE_YIELDED;
}

/* Is the snapshot gone, and all of it? */
static bool gone(int fd)
{
	char c;

	return yielded(fd) && pread(fd, &c, 1, 0) == -1 && errno == EIO &&
	       !info(fd).pages_populated;
}

/* Write page after page from @page on until @fd has yielded; returns how many it took. */
static uint64_t write_until(struct writer *w, uint64_t page, uint32_t tag, int fd)
{
	uint64_t n = 0;

	while (!yielded(fd)) {
		CHECK(page + n < PAGES);
		CHECK(write_page(w, page + n, tag));
		n++;
	}
	return n;
}

/* ---- each limit, each way to write ---- */

#define EACH_LIMIT_EACH_WAY(fixture)						\
	FIXTURE_VARIANT_ADD(fixture, mib_fault) { MIB, FAULT };			\
	FIXTURE_VARIANT_ADD(fixture, mib_pwrite) { MIB, PWRITE };		\
	FIXTURE_VARIANT_ADD(fixture, mib_fallocate) { MIB, FALLOCATE };		\
	FIXTURE_VARIANT_ADD(fixture, mount_fault) { MOUNT, FAULT };		\
	FIXTURE_VARIANT_ADD(fixture, mount_pwrite) { MOUNT, PWRITE };		\
	FIXTURE_VARIANT_ADD(fixture, mount_fallocate) { MOUNT, FALLOCATE };	\
	FIXTURE_VARIANT_ADD(fixture, memcg_fault) { MEMCG, FAULT };		\
	FIXTURE_VARIANT_ADD(fixture, memcg_pwrite) { MEMCG, PWRITE };		\
	FIXTURE_VARIANT_ADD(fixture, memcg_fallocate) { MEMCG, FALLOCATE }

FIXTURE(yield) {
	struct place place;
	long held;
};

FIXTURE_VARIANT(yield) {
	enum limit limit;
	enum way how;
};

EACH_LIMIT_EACH_WAY(yield);

FIXTURE_SETUP(yield)
{
	const char *why;

	self->held = held();
	why = place_make(&self->place, variant->limit);
	if (why)
		SKIP(return, "%s", why);
}

/* Nothing stays behind. */
FIXTURE_TEARDOWN_PARENT(yield)
{
	EXPECT_TRUE(place_gone(&self->place));
	EXPECT_EQ(self->held, held());
}

/* In a cgroup more counts than pages, and a CPU keeps up to 64 in stock. */
static bool about_a_step(const struct place *p, uint64_t n)
{
	long below = p->limit == MEMCG ? 64 + 16 : 20, above = p->limit == MEMCG ? 64 + 16 : 40;

	fprintf(stderr, "# %lu pages later\n", (unsigned long)n);
	return (long)n >= STEP - below && (long)n <= STEP + above;
}

static void oldest_first(const struct place *p, enum way how)
{
	int fd, e[3];
	struct writer w;
	uint64_t n, at = FROM;

	place_enter(p);
	fd = place_region(p, PAGES, 1);
	w = writer_of(fd, how);
	e[0] = expendable(fd);
	fill_back(w.mem, STEP, 2, 0);
	e[1] = expendable(fd);
	fill_back(w.mem + STEP * pgsz(), STEP, 3, STEP);
	e[2] = expendable(fd);
	place_limit(p, 16);

	n = write_until(&w, at, 4, e[0]);
	at += n;
	/* No sooner than it takes.  What the first one gave back lasts for as many pages. */
	CHECK(n >= 8);
	CHECK(gone(e[0]) && !yielded(e[1]) && !yielded(e[2]));
	CHECK(looks(e[1], 0, STEP, 2) && looks(e[1], STEP, PAGES - STEP, 1));
	CHECK(looks(e[2], 0, STEP, 2) && looks(e[2], STEP, STEP, 3));
	n = write_until(&w, at, 4, e[1]);
	at += n;
	CHECK(about_a_step(p, n));
	CHECK(gone(e[0]) && gone(e[1]) && !yielded(e[2]));
	CHECK(looks(e[2], 0, STEP, 2) && looks(e[2], STEP, STEP, 3));
	CHECK(looks(e[2], 2 * STEP, PAGES - 2 * STEP, 1));
	n = write_until(&w, at, 4, e[2]);
	at += n;
	CHECK(about_a_step(p, n));
	CHECK(gone(e[0]) && gone(e[1]) && gone(e[2]));
	/* Now it can write all that it has. */
	for (; at < PAGES; at++)
		CHECK(write_page(&w, at, 4));
	CHECK(looks(fd, 0, STEP, 2) && looks(fd, STEP, STEP, 3));
	CHECK(looks(fd, 2 * STEP, FROM - 2 * STEP, 1));
	CHECK(looks(fd, FROM, PAGES - FROM, 4));
}

TEST_F(yield, oldest_first)
{
	EXPECT_EQ(0, in_child(oldest_first(&self->place, variant->how)));
}

/* Memory was full before the snapshot was made: without it, pages are written in place. */
static void in_place(const struct place *p, enum way how)
{
	int fd, older, other, e;
	struct writer w;
	uint64_t i;

	place_enter(p);
	/* What does not help is left alone, however old it is. */
	other = place_region(p, 50, 5);
	older = expendable(other);
	fd = place_region(p, PAGES, 1);
	e = expendable(fd);
	w = writer_of(fd, how);
	place_limit(p, 0);
	i = write_until(&w, 0, 2, e);
	CHECK(gone(e));
	for (; i < PAGES; i++)
		CHECK(write_page(&w, i, 2));
	place_unlimit(p);
	CHECK(!yielded(older) && fd_is(older, 0, 50, 5));
	CHECK(fd_is(fd, 0, PAGES, 2) && fd_is(other, 0, 50, 5));
}

TEST_F(yield, in_place)
{
	EXPECT_EQ(0, in_child(in_place(&self->place, variant->how)));
}

/* Only together do they hold the old pages; a snapshot of something else stays. */
static void together(const struct place *p, enum way how)
{
	int other, fd, between, newer, e[3];
	struct writer w;

	place_enter(p);
	other = place_region(p, 50, 5);
	fd = place_region(p, PAGES, 1);
	w = writer_of(fd, how);
	e[0] = expendable(fd);
	between = expendable(other);
	e[1] = expendable(fd);
	e[2] = expendable(e[0]);
	fill(w.mem, STEP, 2, 0);
	newer = expendable(fd);
	place_limit(p, 16);
	write_until(&w, FROM, 3, e[0]);
	place_unlimit(p);
	CHECK(gone(e[0]) && gone(e[1]) && gone(e[2]));
	CHECK(!yielded(between) && fd_is(between, 0, 50, 5));
	CHECK(!yielded(newer) && fd_is(newer, 0, STEP, 2));
	CHECK(fd_is(newer, STEP, PAGES - STEP, 1));
}

TEST_F(yield, together)
{
	EXPECT_EQ(0, in_child(together(&self->place, variant->how)));
}

/* What is held by others as well is not freed, so it does not help. */
static void held_by_others(const struct place *p, enum way how)
{
	int fd, clone, kept, e[3];
	struct writer w;

	place_enter(p);
	fd = place_region(p, PAGES, 1);
	w = writer_of(fd, how);
	e[0] = expendable(fd);
	kept = do_clone(e[0], SNAPSHOT, 0, 0);
	fill(w.mem, STEP, 2, 0);
	e[1] = expendable(fd);
	fill(w.mem, STEP, 3, 0);
	clone = cloned(e[1]);
	e[2] = expendable(fd);
	fill(w.mem, STEP, 4, 0);
	place_limit(p, 16);
	write_until(&w, FROM, 5, e[2]);
	place_unlimit(p);
	CHECK(gone(e[2]) && !yielded(e[0]) && !yielded(e[1]));
	CHECK(fd_is(e[0], 0, PAGES, 1) && fd_is(kept, 0, PAGES, 1));
	CHECK(fd_is(e[1], 0, STEP, 2) && fd_is(clone, 0, STEP, 2));
	CHECK(fd_is(fd, 0, STEP, 4));
}

TEST_F(yield, held_by_others)
{
	EXPECT_EQ(0, in_child(held_by_others(&self->place, variant->how)));
}

/* What there is none of, others cannot give. */
static void nothing_to_have(const struct place *p, enum way how)
{
	int fd, other, e;
	struct writer w;
	uint64_t i;

	place_enter(p);
	other = place_region(p, 50, 5);
	fd = place_region(p, PAGES, 0);
	e = expendable(other);
	w = writer_of(fd, how);
	place_limit(p, 16);
	for (i = 0; i < PAGES && write_page(&w, i, 1); i++)
		;
	CHECK(i < PAGES);
	CHECK(how == FAULT || errno == ENOSPC);
	CHECK(!yielded(e) && fd_is(e, 0, 50, 5));
	CHECK(fd_is(fd, 0, i, 1) && fd_is(fd, i, PAGES - i, 0));
}

TEST_F(yield, nothing_to_have)
{
	if (variant->limit == MEMCG)
		SKIP(return, "the OOM killer is what there is without");
	EXPECT_EQ(0, in_child(nothing_to_have(&self->place, variant->how)));
}

/* A snapshot that counts elsewhere, or that another cgroup pays for, is of no help. */
static void counts_elsewhere(const struct place *p, enum way how, int theirs)
{
	struct writer w;
	int fd, e;

	place_enter(p);
	fd = place_region(p, PAGES, 1);
	w = writer_of(fd, how);
	e = expendable(fd);
	fill(w.mem, STEP, 2, 0);
	place_limit(p, 16);
	write_until(&w, FROM, 3, e);
	place_unlimit(p);
	CHECK(gone(e) && !yielded(theirs));
	CHECK(fd_is(theirs, 0, 2 * STEP, 7));
}

TEST_F(yield, counts_elsewhere)
{
	int other = region_of(2 * STEP, 7), theirs = expendable(other);
	char *mem = map_rw(other, 2 * STEP);

	if (variant->limit == MIB)
		SKIP(return, "all count in the module's limit");
	fill(mem, 2 * STEP, 8, 0);
	EXPECT_EQ(0, in_child(counts_elsewhere(&self->place, variant->how, theirs)));
	EXPECT_TRUE(fd_is(theirs, 0, 2 * STEP, 7));
	EXPECT_TRUE(fd_is(other, 0, 2 * STEP, 8));
}

/*
 * What a fault takes besides, page tables, asks nobody to yield but the OOM killer: so
 * writes leave some memory to it.
 */
static void page_tables(const struct place *p, enum way how)
{
	enum { SNAPSHOTS = 20, FAR_PAGES = 300, APART = 512 };
	int fd, far, e[SNAPSHOTS], i;
	struct writer w;
	char *mem;

	place_enter(p);
	fd = place_region(p, PAGES, 1);
	far = region();
	must(!do_resize(far, FAR_PAGES * APART * pgsz()));
	mem = map_rw(far, FAR_PAGES * APART);
	w = writer_of(fd, how);
	for (i = 0; i < SNAPSHOTS; i++) {
		e[i] = expendable(fd);
		fill(w.mem + i * STEP * pgsz(), STEP, 2, i * STEP);
	}
	place_limit(p, 24);
	for (i = 0; i < FAR_PAGES; i++)
		CHECK(!poke(mem + i * APART * pgsz(), i));
	place_unlimit(p);
	CHECK(gone(e[0]) && !yielded(e[SNAPSHOTS - 1]));
	for (i = 0; i < FAR_PAGES; i++)
		CHECK(mem[i * APART * pgsz()] == (char)i);
	CHECK(fd_is(fd, 0, SNAPSHOTS * STEP, 2));
}

TEST_F(yield, page_tables)
{
	if (variant->limit != MEMCG || variant->how != FAULT)
		SKIP(return, "only cgroups count them, and only faults need them");
	EXPECT_EQ(0, in_child(page_tables(&self->place, variant->how)));
}

/* ---- what a holder sees ---- */

/**
 * struct holder - what a process has of a snapshot
 * @place: where memory is little.
 * @w: the region.
 * @e: its snapshot.
 * @mem: a mapping that shows it.
 * @own: a private one, with a copy of page 1.
 */
struct holder {
	struct place place;
	struct writer w;
	int e;
	char *mem;
	char *own;
};

static void hold(struct holder *h)
{
	h->w = writer_of(place_region(&h->place, PAGES, 1), FAULT);
	h->e = expendable(h->w.fd);
	h->mem = map_ro(h->e, PAGES);
	h->own = map_at(h->e, PAGES, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0);
	must(is(h->mem, PAGES, 1, 0) && is(h->own, PAGES, 1, 0));
	pg_fill(h->own + pgsz(), 6, 1);
}

/* Let it yield. */
static void squeeze(struct holder *h)
{
	fill(h->w.mem, STEP, 2, 0);
	place_limit(&h->place, 0);
	write_until(&h->w, FROM, 3, h->e);
	place_unlimit(&h->place);
}

FIXTURE(holder) {
	struct holder h;
	long held;
};

FIXTURE_SETUP(holder)
{
	self->held = held();
	must(!place_make(&self->h.place, MIB));
	hold(&self->h);
}

FIXTURE_TEARDOWN_PARENT(holder)
{
	EXPECT_TRUE(place_gone(&self->h.place));
	EXPECT_EQ(self->held, held());
}

#define EXPECT_EIO(call) do {						\
	errno = 0;							\
	EXPECT_EQ(-1, (long)(call));					\
	EXPECT_EQ(EIO, errno);						\
} while (0)

TEST_F(holder, calls_fail)
{
	struct holder *h = &self->h;
	int both[2] = { h->w.fd, h->e }, clones[2], file, again, fds;
	struct cowmem_extent extent;
	char buf[4096];
	struct stat st;

	fds = count_fds();
	squeeze(h);
	EXPECT_EIO(pread(h->e, buf, 10, 0));
	EXPECT_EIO(read(h->e, buf, sizeof(buf)));
	EXPECT_EIO(pread(h->e, buf, 10, PAGES * pgsz()));
	EXPECT_EIO(lseek(h->e, 0, SEEK_DATA));
	EXPECT_EIO(lseek(h->e, 0, SEEK_HOLE));
	EXPECT_EIO(mmap(NULL, pgsz(), PROT_READ, MAP_SHARED, h->e, 0));
	EXPECT_EIO(mmap(NULL, pgsz(), PROT_READ, MAP_PRIVATE, h->e, 0));
	EXPECT_EIO(do_clone(h->e, 0, 0, 0));
	EXPECT_EIO(do_clone(h->e, EXPENDABLE, 0, 0));
	EXPECT_EIO(do_clone(h->e, 0, 10 * pgsz(), pgsz()));
	EXPECT_EIO(do_clone_many(both[0], both, clones, 2, 0));
	EXPECT_EIO(do_diff(h->e, h->w.fd, 0, &extent, 1));
	EXPECT_EIO(do_diff(h->w.fd, h->e, 0, &extent, 1));
	EXPECT_EIO(do_restore(h->w.fd, h->e, 0));
	EXPECT_EIO(do_copy(h->w.fd, h->e, 0, 0, 10));
	file = file_of(h->w.fd, 0);
	EXPECT_EIO(ioctl(file, FICLONE, h->e));
	EXPECT_EIO(copy_file_range(h->e, &(off_t){ 0 }, file, &(off_t){ 0 }, 100, 0));
	/* What tells of it goes on to work. */
	again = file_of(h->e, COWMEM_FILE_RDONLY);
	EXPECT_EIO(read(again, buf, 1));
	close(again);
	again = open_again(h->e, O_RDONLY);
	ASSERT_LE(0, again);
	EXPECT_EIO(read(again, buf, 1));
	EXPECT_EQ(COWMEM_STATE_EXPENDABLE | COWMEM_STATE_YIELDED, info(again).state);
	close(again);
	EXPECT_EQ(0, fstat(h->e, &st));
	EXPECT_EQ(PAGES * pgsz(), st.st_size);
	EXPECT_EQ(0, st.st_blocks);
	EXPECT_EQ(PAGES * pgsz(), info(h->e).size);
	EXPECT_EQ(0, info(h->e).pages_populated);
	snprintf(buf, sizeof(buf), "/proc/self/fdinfo/%d", h->e);
	EXPECT_LT(0, read_file(buf, buf, sizeof(buf)));
	EXPECT_NE(NULL, strstr(buf, "cowmem-state:\t0x3\n"));
	close(file);
	EXPECT_EQ(fds, count_fds());
	EXPECT_TRUE(fd_is(h->w.fd, 0, STEP, 2));
	EXPECT_TRUE(fd_is(h->w.fd, STEP, FROM - STEP, 1));
}

TEST_F(holder, mappings_fault)
{
	struct holder *h = &self->h;
	char *old = h->mem;
	size_t i;

	squeeze(h);
	for (i = 0; i < PAGES; i += 37) {
		EXPECT_EQ(SIGBUS, touch(h->mem + i * pgsz(), false));
		EXPECT_EQ(SIGBUS, touch(h->own + i * pgsz(), false));
		EXPECT_EQ(SIGBUS, poke(h->own + i * pgsz(), 1));
	}
	/* What it had copied is its own. */
	EXPECT_TRUE(pg_is(h->own + pgsz(), 6, 1));
	EXPECT_EQ(0, poke(h->own + pgsz(), 1));
	/* Others read it by system calls. */
	EXPECT_EQ(-1, pwrite(h->w.fd, old, 10, 0));
	EXPECT_EQ(EFAULT, errno);
}

/* What was made of it before is whole. */
TEST_F(holder, heirs_are_whole)
{
	struct holder *h = &self->h;
	int clone = cloned(h->e), kept = snapshot(h->e);
	int copy = region_of(PAGES, 9), back = region_of(PAGES, 9);
	int private = expendable(h->w.fd);

	EXPECT_EQ(0, do_copy(copy, h->e, 0, 0, 10));
	EXPECT_EQ(0, do_restore(back, h->e, 0));
	fill(h->w.mem, STEP, 2, 0);
	place_limit(&h->place, 0);
	/* With so many others it does not help. */
	EXPECT_FALSE(write_page(&h->w, FROM, 3) && write_page(&h->w, FROM + 1, 3) &&
		     ({ uint64_t i = FROM + 2;
			while (i < PAGES && write_page(&h->w, i, 3))
				i++;
			i == PAGES; }));
	EXPECT_FALSE(yielded(h->e));
	EXPECT_FALSE(yielded(private));
	close(kept);
	unmap(map_rw(clone, PAGES), PAGES);
	close(back);
	close(copy);
	/* One clone is left: its pages stay, the snapshots' do not help. */
	EXPECT_TRUE(fd_is(clone, 0, PAGES, 1));
	place_unlimit(&h->place);
	fill(map_rw(clone, PAGES), PAGES, 5, 0);
	squeeze(h);
	EXPECT_TRUE(gone(h->e));
	EXPECT_TRUE(fd_is(clone, 0, PAGES, 5));
}

TEST_F(holder, clone_outlives_it)
{
	struct holder *h = &self->h;
	int clone = cloned(h->e), back = region_of(PAGES, 9);

	EXPECT_EQ(0, do_restore(back, h->e, 0));
	/* Pages of its own, of which the clone and what was restored have others. */
	fill(map_rw(clone, STEP), STEP, 4, 0);
	fill(map_rw(back, STEP), STEP, 4, 0);
	squeeze(h);
	EXPECT_TRUE(gone(h->e));
	EXPECT_TRUE(fd_is(clone, 0, STEP, 4));
	EXPECT_TRUE(fd_is(clone, STEP, PAGES - STEP, 1));
	EXPECT_TRUE(fd_is(back, STEP, PAGES - STEP, 1));
}

static void *wait_for_it(void *arg)
{
	struct pollfd p = { .fd = *(int *)arg };

	return (void *)(long)(poll(&p, 1, 20000) == 1 ? p.revents : -1);
}

TEST_F(holder, poll_tells)
{
	struct holder *h = &self->h;
	struct epoll_event event = { .events = 0 };
	struct pollfd p = { .fd = h->e, .events = POLLIN | POLLOUT };
	int ep = epoll_create1(0);
	pthread_t thread;
	void *said;

	EXPECT_EQ(1, poll(&p, 1, 0));
	EXPECT_EQ(POLLIN, p.revents);
	EXPECT_EQ(0, epoll_ctl(ep, EPOLL_CTL_ADD, h->e, &event));
	EXPECT_EQ(0, epoll_wait(ep, &event, 1, 0));
	ASSERT_EQ(0, pthread_create(&thread, NULL, wait_for_it, &h->e));
	usleep(200000);
	squeeze(h);
	ASSERT_EQ(0, pthread_join(thread, &said));
	EXPECT_EQ(POLLERR, (long)said);
	EXPECT_EQ(1, epoll_wait(ep, &event, 1, 0));
	EXPECT_EQ(EPOLLERR, event.events);
	EXPECT_EQ(1, poll(&p, 1, 0));
	EXPECT_EQ(POLLIN | POLLERR, p.revents);
	/* Other files of regions are as those of any file system. */
	EXPECT_EQ(-1, epoll_ctl(ep, EPOLL_CTL_ADD, snapshot(h->w.fd), &event));
	EXPECT_EQ(EPERM, errno);
	EXPECT_EQ(-1, epoll_ctl(ep, EPOLL_CTL_ADD, h->w.fd, &event));
	EXPECT_EQ(EPERM, errno);
}

TEST_F(holder, flags)
{
	struct holder *h = &self->h;
	int fds[3] = { h->w.fd, h->e, h->w.fd }, clones[3], i;

	EXPECT_EQ(-1, do_clone(h->w.fd, COWMEM_CLONE_EXPENDABLE, 0, 0));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, do_clone(h->w.fd, EXPENDABLE | 4, 0, 0));
	EXPECT_EQ(EOPNOTSUPP, errno);
	EXPECT_EQ(-1, do_clone_many(fds[0], fds, clones, 3, COWMEM_CLONE_EXPENDABLE));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, do_clone_many(fds[0], fds, clones, 3, 4));
	EXPECT_EQ(EOPNOTSUPP, errno);
	EXPECT_EQ(COWMEM_FEATURE_EXPENDABLE,
		  info(h->w.fd).features & COWMEM_FEATURE_EXPENDABLE);
	EXPECT_EQ(0, info(h->w.fd).state);
	i = snapshot(h->w.fd);
	EXPECT_EQ(0, info(i).state);
	close(i);
	i = cloned(h->e);
	EXPECT_EQ(0, info(i).state);
	close(i);
	EXPECT_EQ(COWMEM_STATE_EXPENDABLE, info(h->e).state);
	/* A part of a region, and many at once. */
	i = do_clone(h->w.fd, EXPENDABLE, 10 * pgsz(), 20 * pgsz());
	ASSERT_LE(0, i);
	EXPECT_TRUE(fd_is_as(i, 3, 1, 13));
	ASSERT_EQ(0, do_clone_many(fds[0], fds, clones, 3, EXPENDABLE));
	for (i = 0; i < 3; i++)
		EXPECT_EQ(COWMEM_STATE_EXPENDABLE, info(clones[i]).state);
	/* Two of them hold the same pages, and so does the one from before. */
	squeeze(h);
	EXPECT_TRUE(gone(h->e));
	for (i = 0; i < 3; i++)
		EXPECT_TRUE(gone(clones[i]));
}

/* A snapshot with a name is gone by the name as well. */
TEST(by_name)
{
	struct holder h;
	char path[160], proc[64], c;
	const char *why = place_make(&h.place, MOUNT);
	int fd;

	if (why)
		SKIP(return, "%s", why);
	hold(&h);
	snprintf(path, sizeof(path), "%s/snapshot", h.place.dir);
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", h.e);
	EXPECT_EQ(0, linkat(AT_FDCWD, proc, AT_FDCWD, path, AT_SYMLINK_FOLLOW));
	unmap(h.mem, PAGES);
	unmap(h.own, PAGES);
	close(h.e);
	h.e = open(path, O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, h.e);
	EXPECT_TRUE(fd_is(h.e, 0, 10, 1));
	squeeze(&h);
	EXPECT_TRUE(gone(h.e));
	close(h.e);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, fd);
	EXPECT_EIO(read(fd, &c, 1));
	EXPECT_EQ(0, unlink(path));
	EXPECT_EIO(read(fd, &c, 1));
	close(fd);
	unmap(h.w.mem, PAGES);
	close(h.w.fd);
	EXPECT_TRUE(place_gone(&h.place));
}

/* ---- all at once ---- */

/* Read it in all ways until it is gone: what is seen is true. */
static void *read_it(void *arg)
{
	int fd = *(int *)arg;
	char *buf = anon(64);
	uint64_t page = 0;

	for (;; page = (page + 61) % (PAGES - 64)) {
		ssize_t n = pread(fd, buf, 64 * pgsz(), page * pgsz());

		if (n < 0)
			return errno == EIO && yielded(fd) ? NULL : "errno";
		if (n != (ssize_t)(64 * pgsz()))
			return "a short read";
		if (!is(buf, 64, 1, page))
			return "wrong content";
	}
}

/* The same of a process that maps it. */
static void look_at_it(int fd)
{
	char *mem = mmap(NULL, PAGES * pgsz(), PROT_READ, MAP_SHARED, fd, 0);
	char *own = anon(1);
	struct iovec to = { own, pgsz() }, from = { mem, pgsz() };
	uint64_t page = 0;

	if (mem == MAP_FAILED)
		_exit(errno == EIO && yielded(fd) ? 0 : 3);

	/* No fault but by system calls, so as not to die of it. */
	for (;; page = (page + 61) % PAGES) {
		from.iov_base = mem + page * pgsz();
		if (process_vm_readv(getpid(), &to, 1, &from, 1, 0) != (ssize_t)pgsz())
			_exit(errno == EFAULT && yielded(fd) ? 0 : 1);
		if (!pg_is(own, 1, page))
			_exit(2);
	}
}

/* And of the region that gets its pages. */
static void *clone_it(void *arg)
{
	int fd = *(int *)arg, clone;

	while ((clone = do_clone(fd, 0, 0, 0)) >= 0) {
		bool ok = fd_is(clone, 10, 5, 1) && fd_is(clone, PAGES - 5, 5, 1);

		close(clone);
		if (!ok)
			return "wrong content of a clone";
	}
	return errno == EIO && yielded(fd) ? NULL : "errno of a clone";
}

/**
 * struct turns - of the writer and of the readers
 * @filled: how often the region was filled with tag 1.
 * @begun: how often the writer may begin to write something else.
 * @stop: how often the snapshot has yielded, so that it may stop.
 */
struct turns {
	int filled, begun, stop;
};

static void write_in_turns(const struct place *p, enum way how, int fd, struct turns *t,
			   int rounds)
{
	struct writer w;
	int round;

	place_enter(p);
	w = writer_of(fd, how);
	for (round = 1; round <= rounds; round++) {
		uint64_t i;

		fill(w.mem, PAGES, 1, 0);
		put(&t->filled, round);
		await(&t->begun, round);
		/* While there is a clone of the snapshot, there is nothing to be had. */
		for (i = 0; get(&t->stop) < round; i++)
			write_page(&w, i % PAGES, 2);
	}
	_exit(0);
}

/* The readers are not in the cgroup that has little memory. */
TEST_F_TIMEOUT(yield, under_readers, 300)
{
	const struct place *p = &self->place;
	int fd = place_region(p, PAGES, 0), rounds = effort(20), round;
	/* While there is a clone nothing helps, and a cgroup has the OOM killer then. */
	int readers = p->limit == MEMCG ? 2 : 3;
	struct turns *t = shared_mem(sizeof(*t));
	pid_t writer = spawn();

	if (!writer)
		write_in_turns(p, variant->how, fd, t, rounds);
	for (round = 1; round <= rounds; round++) {
		pthread_t threads[3];
		struct pollfd wait = {};
		void *said[3];
		pid_t looks;
		int i;

		await(&t->filled, round);
		wait.fd = expendable(fd);
		looks = spawn();
		if (!looks)
			look_at_it(wait.fd);
		for (i = 0; i < readers; i++)
			must(!pthread_create(&threads[i], NULL,
					     i < 2 ? read_it : clone_it, &wait.fd));
		usleep(1000 * (round % 10));
		place_limit(p, p->limit == MEMCG ? 200 : 30);
		put(&t->begun, round);
		ASSERT_EQ(1, poll(&wait, 1, 60000));
		EXPECT_EQ(POLLERR, wait.revents);
		for (i = 0; i < readers; i++) {
			must(!pthread_join(threads[i], &said[i]));
			EXPECT_EQ(NULL, said[i]) TH_LOG("%s", (char *)said[i]);
		}
		EXPECT_EQ(0, reap(looks));
		place_unlimit(p);
		put(&t->stop, round);
		close(wait.fd);
	}
	EXPECT_EQ(0, reap(writer));
}

/* A writer that is killed takes nothing along but itself. */
static void write_for_ever(const struct place *p, enum way how, int fd)
{
	struct writer w;
	uint64_t i;

	place_enter(p);
	w = writer_of(fd, how);
	for (i = 0; ; i++) {
		int e = do_clone(fd, EXPENDABLE, 0, 0);

		if (i >= 4)
			close(20 + i % 4);
		must(e < 0 || dup2(e, 20 + i % 4) >= 0);
		if (e >= 0)
			close(e);
		write_page(&w, i * 7 % PAGES, 3);
		write_page(&w, i * 13 % PAGES, 3);
	}
}

TEST_F_TIMEOUT(yield, killed, 300)
{
	int fd, round, ret;
	pid_t pid;

	if (variant->limit == MEMCG)
		SKIP(return, "the OOM killer is what there is without");
	fd = place_region(&self->place, PAGES, 1);
	place_limit(&self->place, 20);
	for (round = 0; round < effort(20); round++) {
		pid = spawn();
		if (!pid)
			write_for_ever(&self->place, variant->how, fd);
		usleep(1000 * (10 + round * 17 % 60));
		must(!kill(pid, SIGKILL));
		ret = reap(pid);
		EXPECT_EQ(128 + SIGKILL, ret);
	}
	place_unlimit(&self->place);
	EXPECT_TRUE(write_page(&(struct writer){ FAULT, fd, map_rw(fd, PAGES) }, 5, 4));
	EXPECT_TRUE(fd_is(fd, 5, 1, 4));
	EXPECT_EQ(PAGES, info(fd).pages_populated);
}

/* ---- pages of folios ---- */

FIXTURE(folios) {
	struct place place;
	long held;
};

FIXTURE_VARIANT(folios) {
	enum limit limit;
	enum way how;
};

EACH_LIMIT_EACH_WAY(folios);

FIXTURE_SETUP(folios)
{
	const char *why = no_huge_pages();

	/* First: what is made here stays if the test is skipped. */
	if (why)
		SKIP(return, "%s", why);
	must(!write_file(HUGE, "advise"));
	self->held = held();
	why = place_make(&self->place, variant->limit);
	if (why)
		SKIP(return, "%s", why);
}

FIXTURE_TEARDOWN_PARENT(folios)
{
	EXPECT_TRUE(place_gone(&self->place));
	EXPECT_EQ(self->held, held());
	EXPECT_EQ(0, write_file(HUGE, "never"));
}

/* A region that counts there, all of folios, with pages of @tag. */
static int place_folios(const struct place *p, size_t pages, uint32_t tag)
{
	int fd = place_region(p, pages, 0);
	char *mem = map_rw(fd, pages);

	CHECK(!madvise(mem, pages * pgsz(), MADV_HUGEPAGE));
	fill(mem, pages, tag, 0);
	unmap(mem, pages);
	CHECK(info(fd).pages_huge == pages);
	return fd;
}

/* Without the snapshot the pages of a folio are written in place, as others are. */
static void share_folios(const struct place *p, enum way how)
{
	enum { AT = 5 };
	int fd, older, other, e;
	struct writer w;
	uint64_t n, i;

	place_enter(p);
	other = place_region(p, 50, 5);
	older = expendable(other);
	fd = place_folios(p, PAGES, 1);
	e = expendable(fd);
	w = writer_of(fd, how);
	place_limit(p, 0);
	n = write_until(&w, AT, 2, e);
	CHECK(gone(e));
	for (i = AT + n; i < PAGES; i++)
		CHECK(write_page(&w, i, 2));
	place_unlimit(p);
	CHECK(!yielded(older) && fd_is(older, 0, 50, 5));
	CHECK(fd_is(fd, 0, AT, 1) && fd_is(fd, AT, PAGES - AT, 2));
	/* The first ones have been copied, as long as there was room. */
	CHECK(info(fd).pages_huge > PAGES - n && info(fd).pages_exclusive == PAGES);
}

TEST_F(folios, in_place)
{
	EXPECT_EQ(0, in_child(share_folios(&self->place, variant->how)));
}

/* What only snapshots hold comes back by areas, of no more of them than it takes. */
static void hold_folios_alone(const struct place *p, enum way how)
{
	int fd, e[2], other;
	struct writer w;
	uint64_t n;

	place_enter(p);
	fd = place_folios(p, PAGES, 1);
	other = place_region(p, PAGES, 0);
	w = writer_of(other, how);
	e[0] = expendable(fd);
	CHECK(!do_discard(fd, 0, 2 * AREA * pgsz()));
	e[1] = expendable(fd);
	CHECK(!do_discard(fd, 0, PAGES * pgsz()));
	place_limit(p, 16);
	n = write_until(&w, 0, 3, e[0]);
	CHECK(gone(e[0]) && !yielded(e[1]));
	CHECK(looks(e[1], 0, 2 * AREA, 0));
	CHECK(looks(e[1], 2 * AREA, PAGES - 2 * AREA, 1));
	n = write_until(&w, n, 3, e[1]);
	CHECK(gone(e[1]));
	CHECK(n > 2 * AREA - 100 && n < 2 * AREA + 100);
	place_unlimit(p);
}

TEST_F(folios, alone)
{
	EXPECT_EQ(0, in_child(hold_folios_alone(&self->place, variant->how)));
}

static void __attribute__((constructor)) count_pages(void)
{
	only_small_pages();
}

TEST_HARNESS_MAIN
