// SPDX-License-Identifier: GPL-2.0-only
/*
 * Promise: COWMEM_RESTORE_KEEP restores exactly what the plain call restores,
 * however the region was written; writing the same pages again takes no page
 * faults; pages that are no longer written are given back; and where pages cannot
 * be kept, the call silently does what the plain one does.
 */
#include <pthread.h>
#include <sys/resource.h>

#include "../kselftest_harness.h"
#include "common.h"

/* Three leaves and a bit, so that offsets in a leaf matter. */
#define PAGES 200
#define LEN (PAGES * pgsz())

/* A page that was not written for this many calls is given back. */
#define COLD_ROUNDS (4 + 8)

/* So many calls, or more, are between two searches for such pages. */
#define SEARCH_ROUNDS 4

/*
 * After cold pages were given back, a page is kept only if two rounds write it.  A
 * look for cold pages in between forgets what was written, so that takes up to three.
 */
#define AGAIN 3

struct box {
	int fd, snap;
	char *mem, *mem2;	/* two mappings of the region */
	char *snap_mem;
	char *want;		/* what the snapshot holds */
	char *buf;
};

static bool is_hole(size_t page)
{
	return page % 5 == 3 || (page >= 70 && page < 75);
}

static void box_init(struct box *b)
{
	size_t i;

	b->fd = region_of(PAGES, 0);
	b->mem = map_rw(b->fd, PAGES);
	b->mem2 = map_rw(b->fd, PAGES);
	b->want = anon(PAGES);
	b->buf = anon(PAGES);
	for (i = 0; i < PAGES; i++)
		if (!is_hole(i)) {
			pg_fill(b->mem + i * pgsz(), 1, i);
			pg_fill(b->want + i * pgsz(), 1, i);
		}
	b->snap = snapshot(b->fd);
	b->snap_mem = map_ro(b->snap, PAGES);
	/* From then on the region gets no folios: their pages are never kept. */
	must_restore(b->fd, b->snap, COWMEM_RESTORE_KEEP);
}

static void box_end(struct box *b)
{
	close(b->fd);
	close(b->snap);
	unmap(b->mem, PAGES);
	unmap(b->mem2, PAGES);
	unmap(b->snap_mem, PAGES);
	unmap(b->want, PAGES);
	unmap(b->buf, PAGES);
}

/* Byte for byte, where they first differ. */
static bool same(const char *got, const char *want, const char *what)
{
	size_t i;

	if (!memcmp(got, want, LEN))
		return true;
	for (i = 0; got[i] == want[i]; i++)
		;
	fprintf(stderr, "# %s: page %zu byte %#zx is %02x, not %02x\n", what,
		i / pgsz(), i % pgsz(), got[i] & 255, want[i] & 255);
	return false;
}

/* Does the region hold @want, in every view? */
static bool region_is(struct box *b, const char *want)
{
	bool ok = pread(b->fd, b->buf, LEN, 0) == (ssize_t)LEN;

	ok = same(b->buf, want, "pread") && ok;
	ok = same(b->mem, want, "mapping") && ok;
	return same(b->mem2, want, "second mapping") && ok;
}

/* Is all as the snapshot has it, and has that not changed? */
static bool restored(struct box *b)
{
	bool is = region_is(b, b->want);

	return same(b->snap_mem, b->want, "snapshot") && is;
}

static uint64_t keep(struct box *b)
{
	return must_restore(b->fd, b->snap, COWMEM_RESTORE_KEEP).kept;
}

static bool can_keep(void)
{
	int fd = region();
	bool can = info(fd).features & COWMEM_FEATURE_KEEP;

	close(fd);
	return can;
}

#define NEED_KEEP() do {						\
	if (!can_keep())						\
		SKIP(return, "no COWMEM_FEATURE_KEEP");			\
} while (0)

/* ---- ways to write ---- */

enum how {
	BY_MMAP, BY_MMAP2, BY_PWRITE, BY_VM_WRITE, BY_SYSCALL, BY_CHILD,
	BY_MUNMAPPED, BY_MPROTECT, BY_DONTNEED, BY_MREMAP, BY_REMAPPED, WAYS
};

static void put_bytes(struct box *b, enum how by, size_t at, size_t n,
		      const char *src)
{
	size_t page = at / pgsz();
	struct iovec from = { (char *)src, n }, to = { b->mem2 + at, n };
	int pipes[2];
	char *m;

	must(at % pgsz() + n <= pgsz());
	switch (by) {
	case BY_MMAP:
		memcpy(b->mem + at, src, n);
		break;
	case BY_MMAP2:
		memcpy(b->mem2 + at, src, n);
		break;
	case BY_PWRITE:
		must(pwrite(b->fd, src, n, at) == (ssize_t)n);
		break;
	case BY_VM_WRITE:
		must(process_vm_writev(getpid(), &from, 1, &to, 1, 0) ==
		     (ssize_t)n);
		break;
	case BY_SYSCALL:
		must(!pipe(pipes));
		must(write(pipes[1], src, n) == (ssize_t)n);
		must(read(pipes[0], b->mem + at, n) == (ssize_t)n);
		close(pipes[0]);
		close(pipes[1]);
		break;
	case BY_CHILD:
		must(!in_child(memcpy(b->mem + at, src, n)));
		break;
	case BY_MUNMAPPED:
		m = map_at(b->fd, 1, PROT_READ | PROT_WRITE, MAP_SHARED, page);
		memcpy(m + at % pgsz(), src, n);
		unmap(m, 1);
		break;
	case BY_MPROTECT:
		memcpy(b->mem + at, src, n);
		must(!mprotect(b->mem, LEN, PROT_READ));
		must(!mprotect(b->mem, LEN, PROT_READ | PROT_WRITE));
		break;
	case BY_DONTNEED:
		memcpy(b->mem + at, src, n);
		must(!madvise(b->mem + page * pgsz(), pgsz(), MADV_DONTNEED));
		break;
	case BY_MREMAP:
		memcpy(b->mem + at, src, n);
		m = anon(PAGES);
		m = mremap(b->mem, LEN, LEN, MREMAP_MAYMOVE | MREMAP_FIXED, m);
		must(m != MAP_FAILED);
		b->mem = m;
		break;
	case BY_REMAPPED:
		memcpy(b->mem + at, src, n);
		unmap(b->mem, PAGES);
		b->mem = map_rw(b->fd, PAGES);
		break;
	case WAYS:
		break;
	}
}

static const char *way_name(enum how how)
{
	static const char *const names[] = {
		"mmap", "second mmap", "pwrite", "process_vm_writev", "read()",
		"child", "munmap", "mprotect", "MADV_DONTNEED", "mremap",
		"new mapping",
	};

	return names[how];
}

/* ---- tests ---- */

TEST(feature)
{
	int fd = region_of(1, 1), snap = snapshot(fd);

	EXPECT_EQ(COWMEM_FEATURE_EXPENDABLE,
		  info(fd).features & ~(COWMEM_FEATURE_KEEP | COWMEM_FEATURE_HUGE));
	EXPECT_EQ(info(fd).features, info(snap).features);
	/* scripts/check says which kernels cannot do it. */
	EXPECT_EQ(getenv("COWMEM_FALLBACK") ? 0 : COWMEM_FEATURE_KEEP,
		  info(fd).features & COWMEM_FEATURE_KEEP);
}

struct orders {
	int turn, n;
	struct { size_t at; char c[8]; } order[16];
};

/* Another process writes what it is told to, through a mapping of its own. */
static void clerk(struct orders *o, int fd)
{
	char *mem = map_rw(fd, PAGES);
	int i, turn;

	for (turn = 1;; turn += 2) {
		await(&o->turn, turn);
		if (o->n < 0)
			_exit(0);
		for (i = 0; i < o->n; i++)
			memcpy(mem + o->order[i].at, o->order[i].c, 8);
		put(&o->turn, turn + 1);
	}
}

TEST(random_writes)
{
	struct orders *o = shared_mem(sizeof(*o));
	int round, i, turn = 1;
	uint64_t kept = 0;
	struct box b;
	pid_t pid;

	rng_init();
	box_init(&b);
	pid = spawn();
	if (!pid)
		clerk(o, b.fd);
	for (round = 0; round < 200; round++) {
		/* Sometimes the same few pages, sometimes any. */
		size_t range = round % 40 < 20 ? PAGES : 30;

		for (i = below(20); i; i--) {
			size_t at = below(range) * pgsz() + below(pgsz() - 64);
			char bytes[64];

			memset(bytes, 1 + below(255), sizeof(bytes));
			put_bytes(&b, below(20) ? below(BY_CHILD) :
				  BY_CHILD + below(WAYS - BY_CHILD), at,
				  1 + below(64), bytes);
		}
		o->n = below(16);
		for (i = 0; i < o->n; i++) {
			o->order[i].at = below(range) * pgsz() + below(pgsz() - 8);
			memset(o->order[i].c, round | 1, 8);
		}
		put(&o->turn, turn);
		await(&o->turn, turn + 1);
		turn += 2;

		kept += keep(&b);
		ASSERT_TRUE(restored(&b))
			TH_LOG("round %d", round);
	}
	o->n = -1;
	put(&o->turn, turn);
	EXPECT_EQ(0, reap(pid));
	if (can_keep())
		EXPECT_LT(0, kept);
}

/* The write set of a round: @n pages, in all leaves, holes among them. */
static void write_set(char *mem, size_t n, char c)
{
	volatile char *p = mem;
	size_t i;

	for (i = 0; i < n; i++)
		p[i * (PAGES / n) * pgsz() + i * 8] = c;
}

/*
 * How many faults a page may take that is written and kept in so many rounds: none, but where
 * the processor has no dirty bits one for each search for cold pages.
 */
static long faults_of_searches(long rounds)
{
	return dirty_by_hardware() ? 0 : rounds / SEARCH_ROUNDS + 1;
}

TEST(no_faults_in_the_steady_state)
{
	static const size_t sizes[] = { 1, 4, 5, 50, PAGES };
	size_t i, round;
	struct box b;

	NEED_KEEP();
	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		long before, taken;

		box_init(&b);
		for (round = 0; round < 3; round++) {
			before = faults_taken();
			write_set(b.mem, sizes[i], 'x');
			EXPECT_EQ(sizes[i], keep(&b));
			EXPECT_LE(before, faults_taken());
		}
		before = faults_taken();
		for (round = 0; round < 60; round++) {
			struct cowmem_restore r;

			write_set(b.mem, sizes[i], 'a' + round % 26);
			r = must_restore(b.fd, b.snap, COWMEM_RESTORE_KEEP);
			if (r.kept != sizes[i] || r.pages != sizes[i])
				break;
		}
		taken = faults_taken() - before;
		EXPECT_GE(sizes[i] * faults_of_searches(60), taken)
			TH_LOG("%zu pages", sizes[i]);
		EXPECT_EQ(60, round);
		EXPECT_EQ(sizes[i], info(b.fd).pages_exclusive);
		EXPECT_TRUE(restored(&b));
		/* The plain way would have taken faults. */
		must_restore(b.fd, b.snap, 0);
		before = faults_taken();
		write_set(b.mem, sizes[i], 'x');
		EXPECT_LE(sizes[i], faults_taken() - before);
		must_restore(b.fd, b.snap, 0);
		EXPECT_EQ(0, info(b.fd).pages_exclusive);
		EXPECT_TRUE(restored(&b));
		box_end(&b);
	}
}

/*
 * Each round grows the region and writes to what was added: that goes, and what is before
 * it stays mapped.  The end lies in a leaf of which more is kept, in one of which nothing
 * is, and between two.
 */
TEST(no_faults_where_it_had_grown)
{
	static const size_t ends[] = { PAGES, 130, 128 };
	const uint32_t flags = COWMEM_RESTORE_KEEP | COWMEM_RESTORE_SIZE;
	size_t i, round, end;

	NEED_KEEP();
	for (i = 0; i < ARRAY_SIZE(ends); i++) {
		struct box b;
		long taken = 0, before;
		char *more;

		box_init(&b);
		end = ends[i];
		ASSERT_EQ(0, do_resize(b.fd, end * pgsz()));
		close(b.snap);
		b.snap = snapshot(b.fd);
		more = map_rw(b.fd, 2 * PAGES);
		for (round = 0; round < 40; round++) {
			ASSERT_EQ(0, do_resize(b.fd, (end + 100) * pgsz()));
			EXPECT_TRUE(is(more + end * pgsz(), 100, 0, end));
			pg_fill(more + end * pgsz(), 2, end);
			pg_fill(more + (end + 99) * pgsz(), 2, end + 99);
			before = faults_taken();
			memset(more + 10 * pgsz(), 'a' + round % 26, 5 * pgsz());
			memset(more + 126 * pgsz(), 'a' + round % 26, 2 * pgsz());
			taken += round < 3 ? 0 : faults_taken() - before;
			EXPECT_EQ(7, must_restore(b.fd, b.snap, flags).kept)
				TH_LOG("end %zu, round %zu", end, round);
			EXPECT_EQ(end * pgsz(), info(b.fd).size);
			EXPECT_EQ(7, info(b.fd).pages_exclusive);
			EXPECT_EQ(SIGBUS, touch(more + end * pgsz(), round % 2));
			EXPECT_EQ(0, memcmp(more, b.want, end * pgsz()));
		}
		EXPECT_GE(7 * faults_of_searches(40), taken) TH_LOG("end %zu", end);
		close(b.fd);
		close(b.snap);
		unmap(more, 2 * PAGES);
	}
}

/* Likewise where it ends within a page, which is copied back after its end was cut off. */
TEST(no_faults_where_it_had_grown_from_within_a_page)
{
	const uint32_t flags = COWMEM_RESTORE_KEEP | COWMEM_RESTORE_SIZE;
	size_t end = 130 * pgsz() + 100, round;
	long taken = 0, before;
	struct box b;

	NEED_KEEP();
	box_init(&b);
	ASSERT_EQ(0, do_resize(b.fd, end));
	b.snap = snapshot(b.fd);
	for (round = 0; round < 20; round++) {
		ASSERT_EQ(0, do_resize(b.fd, LEN));
		before = faults_taken();
		memset(b.mem + 128 * pgsz(), 'x', 3 * pgsz());
		taken += round < 3 ? 0 : faults_taken() - before;
		memset(b.mem + 131 * pgsz(), 'x', 3 * pgsz());
		EXPECT_EQ(3, must_restore(b.fd, b.snap, flags).kept);
		EXPECT_EQ(end, info(b.fd).size);
		ASSERT_EQ(0, do_resize(b.fd, LEN));
		EXPECT_EQ(0, memcmp(b.mem, b.want, end));
		EXPECT_TRUE(is(b.mem + 131 * pgsz(), 60, 0, 131));
		EXPECT_EQ(0, b.mem[end]);
		EXPECT_EQ(0, b.mem[131 * pgsz() - 1]);
		ASSERT_EQ(0, do_resize(b.fd, end));
	}
	EXPECT_GE(3 * faults_of_searches(20), taken);
}

static void cold_pages(struct __test_metadata *_metadata, size_t hot)
{
	uint64_t kept = 0, last;
	struct box b;
	size_t i, round;

	box_init(&b);
	write_set(b.mem, PAGES, 'c');
	EXPECT_EQ(PAGES, keep(&b));
	EXPECT_EQ(PAGES, info(b.fd).pages_exclusive);
	last = PAGES;
	for (round = 1; round < COLD_ROUNDS; round++) {
		write_set(b.mem, hot, 'h');
		kept = keep(&b);
		EXPECT_LE(kept, last);
		EXPECT_EQ(kept, info(b.fd).pages_exclusive);
		last = kept;
	}
	EXPECT_EQ(hot, kept);
	EXPECT_TRUE(holds(b.fd, hot, PAGES - PAGES / 5 - 5 + 1 -
			  (hot ? 1 : 0)));
	EXPECT_TRUE(restored(&b));
	/* Pages that were given back are written again, in another way each time. */
	for (round = 0; round < AGAIN; round++) {
		for (i = 0; i < PAGES; i++)
			put_bytes(&b, i % BY_CHILD, i * pgsz() + i, 8, "come bac");
		for (i = 0; i < PAGES; i++)
			EXPECT_EQ(0, memcmp(b.mem + i * pgsz() + i, "come bac", 8));
		kept = keep(&b);
		EXPECT_TRUE(restored(&b));
	}
	EXPECT_EQ(PAGES, kept);
	for (round = 0; round <= 2 * COLD_ROUNDS; round++)
		kept = keep(&b);
	EXPECT_EQ(0, kept);
	EXPECT_EQ(0, info(b.fd).pages_exclusive);
	EXPECT_TRUE(restored(&b));
}

TEST(cold_pages_are_given_back)
{
	NEED_KEEP();
	cold_pages(_metadata, 0);
}

TEST(cold_pages_are_given_back_beside_hot_ones)
{
	NEED_KEEP();
	cold_pages(_metadata, 1);
}

/*
 * Some pages are written in each round, others, with holes among them, only now and then.
 * Once it is clear that keeping the others is in vain they are not kept, until they are
 * written in each round, too.
 */
TEST(what_is_written_once_is_not_kept)
{
	enum { MANY = 4096, HOT = 8, OTHERS = 24, WARM = 2 * COLD_ROUNDS, ROUNDS = 40, AGES = 20 };
	int fd = region_of(MANY, 1), snap, round;
	char *mem = map_rw(fd, MANY);
	struct cowmem_restore r;
	long before = 0, taken;
	size_t i, at = 0;

	NEED_KEEP();
	must(!do_discard(fd, MANY / 2 * pgsz(), MANY / 2 * pgsz()));
	snap = snapshot(fd);
	must_restore(fd, snap, COWMEM_RESTORE_KEEP);
	for (round = 0; round < WARM + ROUNDS + AGAIN + ROUNDS; round++) {
		bool others_stay = round >= WARM + ROUNDS;

		if (round == WARM || round == WARM + ROUNDS + AGAIN)
			before = faults_taken();
		for (i = 0; i < HOT; i++)
			mem[i * MANY / HOT * pgsz() + round] = 'h';
		/* Never next to each other, in either half, and again when that was forgotten. */
		at = others_stay ? at : 3 + round % AGES * 50;
		for (i = 0; i < OTHERS; i++)
			mem[(at + 2 * i + i % 2 * MANY / 2) % MANY * pgsz() + round] = 'o';
		r = must_restore(fd, snap, COWMEM_RESTORE_KEEP);
		if (round < WARM)
			continue;
		EXPECT_EQ(HOT + OTHERS, r.pages);
		if (!others_stay || round >= WARM + ROUNDS + AGAIN) {
			ASSERT_EQ(HOT + (others_stay ? OTHERS : 0), r.kept)
				TH_LOG("round %d", round);
			EXPECT_EQ(r.kept, info(fd).pages_exclusive);
		}
		/* Each of the others, and no more. */
		if (round == WARM + ROUNDS - 1) {
			taken = faults_taken() - before - ROUNDS * OTHERS;
			EXPECT_LE(0, taken);
			EXPECT_GE(HOT * faults_of_searches(ROUNDS), taken);
		}
	}
	taken = faults_taken() - before;
	EXPECT_GE((HOT + OTHERS) * faults_of_searches(ROUNDS), taken);
	EXPECT_TRUE(fd_is(fd, 0, MANY / 2, 1));
	EXPECT_TRUE(holds(fd, HOT + OTHERS, MANY / 2 - (HOT + OTHERS) / 2));
	must_restore(fd, snap, 0);
	EXPECT_TRUE(holds(fd, 0, MANY / 2));
	EXPECT_TRUE(fd_is(fd, 0, MANY / 2, 1));
}

/*
 * One page is written among many that are kept, but clean, in each way there is to
 * write: nothing proves that a page is clean, so what is kept is copied back.
 */
TEST(one_dirty_page_among_clean_ones)
{
	int how, round;

	NEED_KEEP();
	rng_init();
	for (how = 0; how < WAYS; how++) {
		struct box b;

		box_init(&b);
		write_set(b.mem, PAGES, 'c');
		for (round = 0; round < COLD_ROUNDS - 1; round++) {
			size_t at = below(PAGES) * pgsz() + below(pgsz() - 8);
			struct cowmem_restore r;

			put_bytes(&b, how, at, 7, "written");
			EXPECT_EQ(0, memcmp(b.mem + at, "written", 7));
			r = must_restore(b.fd, b.snap, COWMEM_RESTORE_KEEP);
			EXPECT_EQ(PAGES, r.kept);
			EXPECT_EQ(PAGES, r.pages);
			EXPECT_TRUE(restored(&b))
				TH_LOG("round %d, %s", round, way_name(how));
		}
		box_end(&b);
	}
}

/* As above, but the write comes before a round that gives back. */
TEST(written_when_about_to_be_given_back)
{
	int how, round;

	NEED_KEEP();
	for (how = 0; how < WAYS; how++) {
		struct box b;

		box_init(&b);
		write_set(b.mem, PAGES, 'c');
		for (round = 0; round < COLD_ROUNDS - 1; round++)
			keep(&b);
		put_bytes(&b, how, 20 * pgsz() + 1, 7, "written");
		put_bytes(&b, how, 73 * pgsz() + 1, 7, "written");
		EXPECT_EQ(2, keep(&b))
			TH_LOG("%s", way_name(how));
		EXPECT_TRUE(restored(&b))
			TH_LOG("%s", way_name(how));
		EXPECT_EQ(2, info(b.fd).pages_exclusive);
		EXPECT_EQ(0, touch(b.mem + 20 * pgsz(), true));
		keep(&b);
		EXPECT_TRUE(restored(&b));
		box_end(&b);
	}
}

/* ---- the plain thing ---- */

FIXTURE(plain) {
	struct box b;
};

FIXTURE_SETUP(plain)
{
	box_init(&self->b);
	write_set(self->b.mem, 40, 'x');
	/* It does keep, so far. */
	EXPECT_EQ(can_keep() ? 40 : 0, keep(&self->b));
	EXPECT_TRUE(restored(&self->b));
	write_set(self->b.mem, 40, 'y');
}

FIXTURE_TEARDOWN(plain)
{
	EXPECT_TRUE(restored(&self->b));
	EXPECT_EQ(0, must_restore(self->b.fd, self->b.snap, 0).kept);
	EXPECT_EQ(0, info(self->b.fd).pages_exclusive);
	EXPECT_TRUE(restored(&self->b));
}

TEST_F(plain, source_is_not_a_snapshot)
{
	int other = cloned(self->b.snap);
	char *mem;

	EXPECT_EQ(0, must_restore(self->b.fd, other, COWMEM_RESTORE_KEEP).kept);
	EXPECT_TRUE(restored(&self->b));
	EXPECT_EQ(0, info(self->b.fd).pages_exclusive);

	/* One that was written, and goes on being written. */
	mem = map_rw(other, PAGES);
	pg_fill(mem + 7 * pgsz(), 9, 7);
	write_set(self->b.mem, 40, 'z');
	EXPECT_EQ(0, must_restore(self->b.fd, other, COWMEM_RESTORE_KEEP).kept);
	pg_fill(mem + 7 * pgsz(), 8, 7);
	EXPECT_TRUE(pg_is(self->b.mem + 7 * pgsz(), 9, 7));
	EXPECT_TRUE(same(mem, self->b.mem, "other") == false);
	keep(&self->b);
}

/* Sealed by hand it is as good as a snapshot, if nobody has written it. */
TEST_F(plain, sealed_source)
{
	int other = cloned(self->b.snap);

	ASSERT_EQ(0, do_seal(other, COWMEM_SEAL_WRITE));
	EXPECT_EQ(can_keep() ? 40 : 0,
		  must_restore(self->b.fd, other, COWMEM_RESTORE_KEEP).kept);
}

TEST_F(plain, sealed_source_that_was_written)
{
	int other = cloned(self->b.snap);

	ASSERT_EQ(8, pwrite(other, "modified", 8, 0));
	ASSERT_EQ(0, do_seal(other, COWMEM_SEAL_WRITE));
	must_restore(self->b.fd, other, COWMEM_RESTORE_KEEP);
	EXPECT_EQ(0, memcmp(self->b.mem, "modified", 8));
	EXPECT_EQ(0, memcmp(self->b.mem + 8, self->b.want + 8, LEN - 8));
	must_restore(self->b.fd, other, COWMEM_RESTORE_KEEP);
	EXPECT_EQ(0, memcmp(self->b.mem, "modified", 8));
	EXPECT_EQ(0, memcmp(self->b.mem + 8, self->b.want + 8, LEN - 8));
	keep(&self->b);
}

TEST_F(plain, ever_mapped_privately)
{
	char *mem = map_at(self->b.fd, PAGES, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE, 0);
	int round;

	EXPECT_TRUE(same(mem, self->b.mem, "private"));
	mem[5] = 'p';
	for (round = 0; round < 3; round++) {
		write_set(self->b.mem, 40, 'z');
		EXPECT_EQ(0, keep(&self->b));
		EXPECT_TRUE(restored(&self->b));
		EXPECT_EQ(0, info(self->b.fd).pages_exclusive);
		/* What was read through it follows, what was written stays. */
		EXPECT_EQ('p', mem[5]);
		EXPECT_EQ(0, memcmp(mem + pgsz(), self->b.want + pgsz(),
				    LEN - pgsz()));
		if (round == 1) {
			unmap(mem, PAGES);
			mem = map_at(self->b.fd, PAGES, PROT_READ | PROT_WRITE,
				     MAP_PRIVATE, 0);
			mem[5] = 'p';
		}
	}
	unmap(mem, PAGES);
	write_set(self->b.mem, 40, 'z');
	EXPECT_EQ(0, keep(&self->b));
}

/* Once, and the next round keeps again. */
#define EXPECT_PLAIN_ONCE() do {					\
	EXPECT_EQ(0, keep(&self->b));					\
	EXPECT_TRUE(restored(&self->b));				\
	EXPECT_EQ(0, info(self->b.fd).pages_exclusive);			\
	write_set(self->b.mem, 40, 'w');				\
	EXPECT_EQ(can_keep() ? 40 : 0, keep(&self->b));			\
	EXPECT_TRUE(restored(&self->b));				\
} while (0)

TEST_F(plain, after_discard)
{
	/* A page that was written, one that was not, and a part of one. */
	ASSERT_EQ(0, do_discard(self->b.fd, 0, pgsz()));
	EXPECT_PLAIN_ONCE();
	ASSERT_EQ(0, do_discard(self->b.fd, pgsz(), pgsz()));
	EXPECT_PLAIN_ONCE();
	ASSERT_EQ(0, do_discard(self->b.fd, 0, LEN));
	EXPECT_PLAIN_ONCE();
	ASSERT_EQ(0, do_discard(self->b.fd, 100, 1000));
	ASSERT_EQ(0, do_discard(self->b.fd, pgsz() + 100, 1000));
	EXPECT_EQ(can_keep() ? 41 : 0, keep(&self->b));
}

TEST_F(plain, after_copy)
{
	int other = region_of(PAGES, 3);

	ASSERT_EQ(0, do_copy(self->b.fd, self->b.fd, 64, 0, 64));
	EXPECT_EQ(0, memcmp(self->b.mem, self->b.mem + 64 * pgsz(), 64 * pgsz()));
	EXPECT_PLAIN_ONCE();
	ASSERT_EQ(0, do_copy(self->b.fd, other, 64, 1, 64));
	EXPECT_TRUE(is(self->b.mem + 64 * pgsz(), 64, 3, 1));
	EXPECT_PLAIN_ONCE();
	EXPECT_TRUE(fd_is(other, 0, PAGES, 3));
	/* From the snapshot to where it was: then nothing differs there. */
	ASSERT_EQ(0, do_copy(self->b.fd, self->b.snap, 64, 64, 64));
	keep(&self->b);
}

TEST_F(plain, after_resize_and_back)
{
	struct cowmem_restore r = {
		.fd = self->b.snap, .flags = COWMEM_RESTORE_KEEP,
	};

	ASSERT_EQ(0, do_resize(self->b.fd, LEN - 50 * pgsz() - 1));
	EXPECT_EQ(-1, ioctl(self->b.fd, COWMEM_IOC_RESTORE, &r));
	EXPECT_EQ(EINVAL, errno);
	ASSERT_EQ(0, do_resize(self->b.fd, LEN));
	EXPECT_PLAIN_ONCE();
	/* To grow and come back drops nothing. */
	ASSERT_EQ(0, do_resize(self->b.fd, 2 * LEN));
	ASSERT_EQ(8, pwrite(self->b.fd, "tail end", 8, LEN + 5));
	ASSERT_EQ(0, do_resize(self->b.fd, LEN));
	keep(&self->b);
}

TEST_F(plain, after_a_clone)
{
	char *was = anon(PAGES), *mem;
	int clone, round;

	for (round = 0; round < 40; round++) {
		write_set(self->b.mem, 40, 'A' + round % 26);
		memcpy(was, self->b.mem, LEN);
		if (round % 3)
			clone = cloned(self->b.fd);
		else
			clone = snapshot(self->b.fd);
		/* Some of them are written after it, too. */
		write_set(self->b.mem, round % 2 ? 1 : 40, 'n');
		keep(&self->b);
		EXPECT_TRUE(restored(&self->b));
		mem = map_ro(clone, PAGES);
		EXPECT_TRUE(same(mem, was, "clone"));
		keep(&self->b);
		write_set(self->b.mem, 40, 'm');
		keep(&self->b);
		EXPECT_TRUE(same(mem, was, "clone later"));
		EXPECT_TRUE(restored(&self->b));
		unmap(mem, PAGES);
		close(clone);
	}
	write_set(self->b.mem, 40, 'w');
	EXPECT_EQ(can_keep() ? 40 : 0, keep(&self->b));
}

TEST_F(plain, itself)
{
	char *was = anon(PAGES);

	memcpy(was, self->b.mem, LEN);
	must_restore(self->b.fd, self->b.fd, COWMEM_RESTORE_KEEP);
	EXPECT_TRUE(region_is(&self->b, was));
	keep(&self->b);
}

/*
 * A seal on writing alone does not keep a source from being cut off and grown
 * again, so what was equal to it once need not be so any more.
 */
static void source_cut(struct __test_metadata *_metadata, uint64_t size)
{
	char *want = anon(PAGES);
	int other, round;
	struct box b;

	box_init(&b);
	other = cloned(b.snap);
	ASSERT_EQ(0, do_seal(other, COWMEM_SEAL_WRITE));
	memcpy(want, b.want, LEN);
	for (round = 0; round < 3; round++) {
		/* All pages are kept, so all that differs is what is kept. */
		write_set(b.mem, PAGES, 'k');
		EXPECT_EQ(can_keep() ? PAGES : 0,
			  must_restore(b.fd, other, COWMEM_RESTORE_KEEP).kept);
		ASSERT_TRUE(region_is(&b, want));
		ASSERT_EQ(0, do_resize(other, size));
		ASSERT_EQ(0, do_resize(other, LEN));
		if (size < LEN)
			memset(want + size, 0, LEN - size);
		/* A few are written, or none. */
		if (round)
			write_set(b.mem, 10, 'k');
		must_restore(b.fd, other, COWMEM_RESTORE_KEEP);
		ASSERT_TRUE(region_is(&b, want))
			TH_LOG("round %d, cut at %#llx", round,
			       (unsigned long long)size);
		must_restore(b.fd, other, COWMEM_RESTORE_KEEP);
		ASSERT_TRUE(region_is(&b, want));
	}
	/* The snapshot that all of it came from has not changed either. */
	EXPECT_TRUE(same(b.snap_mem, b.want, "snapshot"));
	keep(&b);
	EXPECT_TRUE(restored(&b));
	unmap(want, PAGES);
	close(other);
	close(b.fd);
	close(b.snap);
}

TEST(sealed_source_is_cut_off_and_grown)
{
	source_cut(_metadata, 0);
	source_cut(_metadata, 77 * pgsz());
	source_cut(_metadata, 101 * pgsz() + 1234);
	source_cut(_metadata, LEN - 1);
	source_cut(_metadata, 3 * LEN);
}

/* ---- as much as there may be ---- */

/* One more than that takes the plain way, for all of them. */
TEST(more_than_is_ever_kept)
{
	size_t max = COWMEM_KEEP_MAX / pgsz(), pages = 75 * max / 64, i;
	int fd = region_of(pages, 0), snap, round;
	char *mem = map_rw(fd, pages);
	struct cowmem_restore r;

	NEED_KEEP();
	/* Pages of 2 MiB folios are never kept.  A kernel without huge pages need not be told, */
	must(!madvise(mem, pages * pgsz(), MADV_NOHUGEPAGE) || errno == EINVAL);
	/* Something to go back to that is not a hole. */
	pg_fill(mem + 5 * pgsz(), 1, 5);
	pg_fill(mem + max * pgsz(), 1, max);
	snap = snapshot(fd);
	/* nor are those of smaller folios, of which there are none after this call. */
	must_restore(fd, snap, COWMEM_RESTORE_KEEP);
	for (i = 0; i < max; i++)
		mem[i * pgsz() + i % pgsz()] = 'x';
	for (round = 0; round < 2; round++) {
		r = must_restore(fd, snap, COWMEM_RESTORE_KEEP);
		EXPECT_EQ(max, r.kept);
		EXPECT_EQ(max, info(fd).pages_exclusive);
		EXPECT_TRUE(pg_is(mem + 5 * pgsz(), 1, 5));
		for (i = 0; i < max; i++)
			if (i != 5 && mem[i * pgsz() + i % pgsz()])
				break;
		EXPECT_EQ(max, i);
	}
	mem[7 * pgsz()] = 'y';
	mem[max * pgsz()] = 'y';
	r = must_restore(fd, snap, COWMEM_RESTORE_KEEP);
	EXPECT_EQ(0, r.kept);
	EXPECT_TRUE(holds(fd, 0, 2));
	EXPECT_TRUE(pg_is(mem + 5 * pgsz(), 1, 5));
	EXPECT_TRUE(pg_is(mem + max * pgsz(), 1, max));
	for (i = 0; i < max; i += 101)
		if (i != 5 && mem[i * pgsz() + i % pgsz()])
			break;
	EXPECT_LE(max, i);
	EXPECT_EQ(0, mem[7 * pgsz()]);
	/* After that it keeps again. */
	mem[7 * pgsz()] = 'z';
	mem[max * pgsz()] = 'z';
	EXPECT_EQ(2, must_restore(fd, snap, COWMEM_RESTORE_KEEP).kept);
	EXPECT_EQ(0, mem[7 * pgsz()]);
	EXPECT_TRUE(pg_is(mem + max * pgsz(), 1, max));
}

/* ---- two snapshots in turn ---- */

static void two_snapshots(struct __test_metadata *_metadata, bool same_pages)
{
	char *want[2] = { anon(PAGES), anon(PAGES) };
	char *snap_mem[2];
	int snap[2], round, which;
	uint64_t kept = 0;
	struct box b;

	rng_init();
	box_init(&b);
	snap[0] = b.snap;
	memcpy(want[0], b.want, LEN);
	write_set(b.mem, 50, 'B');
	memcpy(want[1], b.mem, LEN);
	snap[1] = snapshot(b.fd);
	for (which = 0; which < 2; which++)
		snap_mem[which] = map_ro(snap[which], PAGES);
	for (round = 0; round < 120; round++) {
		which = round < 80 ? round % 2 : below(2);
		if (same_pages || round % 3)
			write_set(b.mem, same_pages ? 50 : 1 + below(60), 'r');
		kept += must_restore(b.fd, snap[which], COWMEM_RESTORE_KEEP).kept;
		ASSERT_TRUE(region_is(&b, want[which]))
			TH_LOG("round %d, to %c", round, 'A' + which);
		EXPECT_TRUE(same(snap_mem[0], want[0], "snapshot A"));
		EXPECT_TRUE(same(snap_mem[1], want[1], "snapshot B"));
	}
	if (can_keep())
		EXPECT_LT(0, kept);
	if (can_keep() && same_pages)
		EXPECT_EQ(120 * 50, kept);
}

TEST(two_snapshots_that_differ_where_it_is_written)
{
	two_snapshots(_metadata, true);
}

TEST(two_snapshots_that_differ_elsewhere)
{
	two_snapshots(_metadata, false);
}

/*
 * What is hot moves on; what was is given back, although clean pages are never
 * known to be right, as the snapshots differ in one that is always hot.
 */
TEST(two_snapshots_and_a_hot_set_that_moves)
{
	enum { HOT = 10, STEP = 2, ROUNDS = 95 };
	char *want[2] = { anon(PAGES), anon(PAGES) };
	uint64_t kept = 0, most = 0, sum = 0;
	int snap[2], round, which;
	struct box b;
	size_t i;

	NEED_KEEP();
	box_init(&b);
	snap[0] = b.snap;
	memcpy(want[0], b.want, LEN);
	b.mem[100] ^= 1;
	memcpy(want[1], b.mem, LEN);
	snap[1] = snapshot(b.fd);
	for (round = 0; round < ROUNDS; round++) {
		which = round % 2;
		b.mem[0] = 'h';
		for (i = 0; i < HOT; i++)
			b.mem[(1 + round * STEP + i) * pgsz() + i] = 'h';
		kept = must_restore(b.fd, snap[which], COWMEM_RESTORE_KEEP).kept;
		ASSERT_TRUE(region_is(&b, want[which]))
			TH_LOG("round %d", round);
		sum += kept;
		if (kept > most)
			most = kept;
	}
	/* In a few rounds it may have done the plain thing. */
	EXPECT_LE(ROUNDS * 3 / 4 * HOT, sum);
	/* What was written in the last COLD_ROUNDS, and the first page. */
	EXPECT_GE(1 + HOT + COLD_ROUNDS * STEP, most);
	EXPECT_EQ(kept, info(b.fd).pages_exclusive);
	/* Nor is a round that does so the last one that keeps. */
	for (round = 0; round <= COLD_ROUNDS || (!kept && round <= COLD_ROUNDS + 1);
	     round++) {
		which = round % 2;
		b.mem[0] = 'h';
		kept = must_restore(b.fd, snap[which], COWMEM_RESTORE_KEEP).kept;
		ASSERT_TRUE(region_is(&b, want[which]));
	}
	EXPECT_EQ(1, kept);
	EXPECT_EQ(1, info(b.fd).pages_exclusive);
}

/* The clean pages of A must be known to be wrong for B, without any write. */
TEST(other_snapshot_without_a_write)
{
	char *want = anon(PAGES);
	int other, round;
	struct box b;

	box_init(&b);
	write_set(b.mem, 50, 'B');
	memcpy(want, b.mem, LEN);
	other = snapshot(b.fd);
	write_set(b.mem, 50, 'r');
	keep(&b);
	for (round = 0; round < 50; round++) {
		must_restore(b.fd, other, COWMEM_RESTORE_KEEP);
		ASSERT_TRUE(region_is(&b, want));
		keep(&b);
		ASSERT_TRUE(restored(&b));
	}
}

/* ---- pinned pages ---- */

TEST(page_in_a_pipe)
{
	char got[pgsz()];
	struct box b;
	int round;

	box_init(&b);
	for (round = 0; round < 3 * COLD_ROUNDS; round++) {
		size_t page = 20 + round % 30;
		struct iovec iov = { b.mem + page * pgsz(), pgsz() };
		struct iovec snap_iov = { b.snap_mem + page * pgsz(), pgsz() };
		int pipes[2], snap_pipes[2];

		ASSERT_EQ(0, pipe(pipes));
		ASSERT_EQ(0, pipe(snap_pipes));
		if (round % 3)
			write_set(b.mem, 40, 'p');
		else	/* what is mapped may be the snapshot's own page */
			EXPECT_LT(-1, b.mem[page * pgsz()] & 255);
		ASSERT_EQ((ssize_t)pgsz(), vmsplice(pipes[1], &iov, 1, 0));
		ASSERT_EQ((ssize_t)pgsz(),
			  vmsplice(snap_pipes[1], &snap_iov, 1, 0));
		keep(&b);
		ASSERT_TRUE(restored(&b))
			TH_LOG("round %d", round);
		pg_fill(b.mem + page * pgsz(), 5, page);
		ASSERT_TRUE(drain(snap_pipes[0], got, pgsz()));
		EXPECT_EQ(0, memcmp(got, b.want + page * pgsz(), pgsz()));
		keep(&b);
		ASSERT_TRUE(restored(&b));
		ASSERT_TRUE(drain(pipes[0], got, pgsz()));
		close(pipes[0]);
		close(pipes[1]);
		close(snap_pipes[0]);
		close(snap_pipes[1]);
		keep(&b);
		ASSERT_TRUE(restored(&b));
	}
}

/* ---- many regions, one snapshot ---- */

enum { RESETTERS = 4, RESETS = 60 };

struct resetter {
	int snap;
	const char *want;
	uint64_t rng, kept;
	int bad;
};

/* Write some pages, reset, look. */
static void *reset_on(void *arg)
{
	struct resetter *r = arg;
	int fd = cloned(r->snap), round, i;
	char *mem = map_rw(fd, PAGES), *buf = malloc(LEN);

	for (round = 0; round < RESETS && !r->bad; round++) {
		for (i = 0; i < 12; i++) {
			size_t at;

			r->rng = r->rng * 6364136223846793005ULL +
				 1442695040888963407ULL;
			at = (r->rng >> 33) % (round % 8 ? LEN / 8 : LEN);
			if (i % 4)
				mem[at] ^= 0x55;
			else
				must(pwrite(fd, "reset", 1, at) == 1);
		}
		r->kept += must_restore(fd, r->snap, round % 16 ?
				   COWMEM_RESTORE_KEEP : 0).kept;
		must(pread(fd, buf, LEN, 0) == (ssize_t)LEN);
		if (memcmp(mem, r->want, LEN) || memcmp(buf, r->want, LEN))
			r->bad = 1 + round;
	}
	unmap(mem, PAGES);
	free(buf);
	close(fd);
	return NULL;
}

TEST(many_regions_from_one_snapshot)
{
	struct resetter r[RESETTERS];
	pthread_t thread[RESETTERS];
	struct box b;
	int i, n;

	rng_init();
	box_init(&b);
	for (i = 0; i < RESETTERS; i++) {
		r[i] = (struct resetter){
			.snap = b.snap, .want = b.want, .rng = rng(),
		};
		ASSERT_EQ(0, pthread_create(&thread[i], NULL, reset_on, &r[i]));
	}
	/* Others use the snapshot, too; it lets go of nothing. */
	for (n = 0; n < 40; n++) {
		int clone = cloned(b.snap), again = snapshot(clone);

		ASSERT_EQ(0, do_copy(clone, b.snap, n % 7, n % 100, 90));
		must_restore(clone, again, 0);
		ASSERT_TRUE(same(b.snap_mem, b.want, "snapshot"));
		close(clone);
		close(again);
	}
	for (i = 0; i < RESETTERS; i++) {
		ASSERT_EQ(0, pthread_join(thread[i], NULL));
		EXPECT_EQ(0, r[i].bad);
		if (can_keep())
			EXPECT_LT(0, r[i].kept);
	}
	EXPECT_TRUE(same(b.snap_mem, b.want, "snapshot"));
	keep(&b);
	EXPECT_TRUE(restored(&b));
}

/* ---- a model ---- */

struct kept_clone {
	int fd;
	char *want;
};

TEST(random_model)
{
	enum { CLONES = 3 };
	struct kept_clone clones[CLONES] = { { .fd = -1 }, { .fd = -1 },
					     { .fd = -1 } };
	char *cur = anon(PAGES), *want[2] = { anon(PAGES), anon(PAGES) };
	uint64_t kept = 0, calls = 0;
	int snap[2], steps = random_ops(700), step, i;
	char bytes[64];
	struct box b;

	rng_init();
	box_init(&b);
	snap[0] = b.snap;
	memcpy(want[0], b.want, LEN);
	write_set(b.mem, 50, 'B');
	memcpy(want[1], b.mem, LEN);
	memcpy(cur, b.mem, LEN);
	snap[1] = snapshot(b.fd);

	for (step = 0; step < steps || (can_keep() && !kept && step < 10 * steps);
	     step++) {
		size_t first = below(PAGES), n = 1 + below(PAGES - first), to;
		size_t at, len, which = below(2);
		bool other;
		struct kept_clone *k = &clones[below(CLONES)];
		int op = below(100);

		switch (op) {
		case 0:
			at = below(LEN - 1);
			len = 1 + below(below(4) ? 3 * pgsz() : LEN - at);
			if (len > LEN - at)
				len = LEN - at;
			must(!do_discard(b.fd, at, len));
			memset(cur + at, 0, len);
			break;
		case 1:
			to = below(PAGES - n + 1);
			other = k->fd >= 0 && below(2);
			must(!do_copy(b.fd, other ? k->fd : b.fd, to, first, n));
			memmove(cur + to * pgsz(), (other ? k->want : cur) + first * pgsz(),
				n * pgsz());
			break;
		case 2:
			if (k->fd >= 0) {
				must(pread(k->fd, b.buf, LEN, 0) ==
				     (ssize_t)LEN);
				ASSERT_TRUE(same(b.buf, k->want, "clone"));
				close(k->fd);
				k->fd = -1;
				break;
			}
			if (!k->want)
				k->want = anon(PAGES);
			memcpy(k->want, cur, LEN);
			k->fd = below(2) ? cloned(b.fd) : snapshot(b.fd);
			break;
		case 3:
			must_restore(b.fd, snap[which], 0);
			memcpy(cur, want[which], LEN);
			break;
		case 4 ... 40:
			which = below(8) ? step / 64 % 2 : which;
			kept += must_restore(b.fd, snap[which],
					COWMEM_RESTORE_KEEP).kept;
			memcpy(cur, want[which], LEN);
			calls++;
			break;
		default:
			at = below(PAGES) * pgsz() + below(pgsz() - 64);
			len = 1 + below(64);
			memset(bytes, below(256), sizeof(bytes));
			put_bytes(&b, below(8) ? below(BY_CHILD) : below(WAYS),
				  at, len, bytes);
			memcpy(cur + at, bytes, len);
		}
		ASSERT_TRUE(op % 4 ? same(b.mem, cur, "mapping") :
			    region_is(&b, cur))
			TH_LOG("step %d op %d", step, op);
	}
	for (i = 0; i < 2; i++) {
		must(pread(snap[i], b.buf, LEN, 0) == (ssize_t)LEN);
		EXPECT_TRUE(same(b.buf, want[i], "snapshot"));
	}
	TH_LOG("kept %llu pages in %llu calls", (unsigned long long)kept,
	       (unsigned long long)calls);
	if (can_keep())
		EXPECT_LT(0, kept);
}

TEST_HARNESS_MAIN
