// SPDX-License-Identifier: GPL-2.0-only
/*
 * Promise: a clone is a region that shares every page of its origin; a write on
 * either side splits just that page; the last holder of a page has it to
 * itself; clones of clones are ordinary regions, to any depth, in any shape of
 * tree, closed in any order.
 */
#include "../kselftest_harness.h"
#include "common.h"

#define PAGES 16

TEST(shares_every_page)
{
	int fd = region_of(PAGES, 1), clone;
	char *mem = map_rw(fd, PAGES);

	EXPECT_TRUE(holds(fd, PAGES, 0));
	clone = cloned(fd);
	EXPECT_TRUE(holds(fd, 0, PAGES));
	EXPECT_TRUE(holds(clone, 0, PAGES));
	EXPECT_EQ(PAGES * pgsz(), info(clone).size);
	EXPECT_EQ(1, info(fd).clones);
	EXPECT_EQ(0, info(clone).clones);
	EXPECT_EQ(0, info(clone).seals);
	EXPECT_EQ(info(fd).index_bytes, info(clone).index_bytes);
	EXPECT_TRUE(fd_is(clone, 0, PAGES, 1));
	EXPECT_TRUE(is(mem, PAGES, 1, 0));
	EXPECT_TRUE(holds(clone, 0, PAGES));	/* reading splits nothing */
}

/* Both sides, each step with exact counts. */
TEST(write_splits_one_page)
{
	int fd = region_of(PAGES, 1), clone = cloned(fd), i;
	char *mem = map_rw(fd, PAGES), *other = map_rw(clone, PAGES);

	for (i = 0; i < PAGES; i++) {
		pg_fill((i % 2 ? mem : other) + i * pgsz(), 2, i);
		EXPECT_TRUE(holds(fd, i + 1, PAGES - i - 1));
		EXPECT_TRUE(holds(clone, i + 1, PAGES - i - 1));
		EXPECT_TRUE(is((i % 2 ? other : mem) + i * pgsz(), 1, 1, i));
	}
	for (i = 0; i < PAGES; i++) {
		EXPECT_TRUE(fd_is(fd, i, 1, 1 + i % 2));
		EXPECT_TRUE(fd_is(clone, i, 1, 2 - i % 2));
	}
}

TEST(pwrite_splits_one_page)
{
	int fd = region_of(PAGES, 1), clone = cloned(fd);
	char buf[pgsz()];

	pg_fill(buf, 2, 5);
	ASSERT_EQ((ssize_t)pgsz(), pwrite(fd, buf, pgsz(), 5 * pgsz()));
	EXPECT_TRUE(holds(fd, 1, PAGES - 1));
	EXPECT_TRUE(holds(clone, 1, PAGES - 1));
	pg_fill(buf, 3, 9);
	ASSERT_EQ(7, pwrite(clone, buf, 7, 9 * pgsz()));
	EXPECT_TRUE(holds(fd, 2, PAGES - 2));
	EXPECT_TRUE(holds(clone, 2, PAGES - 2));
	EXPECT_TRUE(fd_is(fd, 5, 1, 2) && fd_is(clone, 5, 1, 1));
	EXPECT_TRUE(fd_is(fd, 9, 1, 1));
	ASSERT_EQ((ssize_t)pgsz(), pwrite(fd, buf, pgsz(), 9 * pgsz()));
	EXPECT_TRUE(fd_is(fd, 9, 1, 3));
	EXPECT_TRUE(fd_is(fd, 0, 5, 1) && fd_is(clone, 0, 5, 1));
	EXPECT_TRUE(holds(fd, 2, PAGES - 2));
}

TEST(holes_are_cloned_as_holes)
{
	int fd = region_of(PAGES, 0), clone, second;
	char *mem = map_rw(fd, PAGES), *other;

	EXPECT_TRUE(is(mem, PAGES, 0, 0));
	pg_fill(mem, 1, 0);
	clone = cloned(fd);
	other = map_rw(clone, PAGES);
	EXPECT_TRUE(holds(clone, 0, 1));
	EXPECT_TRUE(is(other + pgsz(), PAGES - 1, 0, 1));

	pg_fill(mem + pgsz(), 2, 1);
	pg_fill(other + 2 * pgsz(), 3, 2);
	EXPECT_TRUE(is(other + pgsz(), 1, 0, 1));
	EXPECT_TRUE(is(mem + 2 * pgsz(), 1, 0, 2));
	EXPECT_TRUE(holds(fd, 1, 1) && holds(clone, 1, 1));
	second = cloned(clone);
	EXPECT_TRUE(fd_is(second, 0, 1, 1) && fd_is(second, 1, 1, 0) &&
		    fd_is(second, 2, 1, 3));
}

TEST(empty_regions)
{
	int fd = region(), clone = cloned(fd), snap = snapshot(fd);

	EXPECT_EQ(0, info(clone).size);
	EXPECT_EQ(0, info(snap).size);
	EXPECT_EQ(2, info(fd).clones);
	EXPECT_TRUE(holds(clone, 0, 0));
	/* A clone is a regular file: mapping it does not make it grow. */
	EXPECT_EQ(SIGBUS, touch(map_rw(clone, 2), true));
	EXPECT_EQ(0, info(clone).size);
	ASSERT_EQ(0, do_resize(clone, 2 * pgsz()));
	fill(map_rw(clone, 2), 2, 1, 0);
	EXPECT_EQ(0, info(fd).size);
	EXPECT_EQ(2 * pgsz(), info(clone).size);
	fill(map_rw(fd, 2), 2, 2, 0);
	EXPECT_TRUE(fd_is(clone, 0, 2, 1));
	EXPECT_TRUE(fd_is(fd, 0, 2, 2));
}

TEST(odd_sizes_are_kept)
{
	int fd = region_of(3, 1), clone, part;
	char buf[4 * pgsz()];
	uint64_t size = 2 * pgsz() + 77;

	ASSERT_EQ(0, do_resize(fd, size));
	clone = cloned(fd);
	EXPECT_EQ(size, info(clone).size);
	EXPECT_EQ((ssize_t)size, pread(clone, buf, sizeof(buf), 0));
	/* Up to the end, from a page on. */
	part = do_clone(fd, 0, pgsz(), 0);
	ASSERT_LE(0, part);
	EXPECT_EQ(pgsz() + 77, info(part).size);
	EXPECT_TRUE(fd_is_as(part, 0, 1, 1));
	/* Growing one does not bring back what the shrinking has dropped. */
	ASSERT_EQ(0, do_resize(clone, 3 * pgsz()));
	ASSERT_EQ((ssize_t)pgsz(), pread(clone, buf, pgsz(), 2 * pgsz()));
	for (size_t i = 77; i < pgsz(); i++)
		ASSERT_EQ(0, buf[i]);
	EXPECT_EQ(size, info(fd).size);
}

FIXTURE(range) {
	int fd;
	char *mem;
};

FIXTURE_VARIANT(range) {
	uint64_t first, n, of;
};

#define RANGE(name, first_, n_, of_)					\
	FIXTURE_VARIANT_ADD(range, name) {				\
		.first = first_, .n = n_, .of = of_,			\
	}
RANGE(whole, 0, 20, 20);
RANGE(first_page, 0, 1, 20);
RANGE(last_page, 19, 1, 20);
RANGE(one_leaf, 64, 64, 256);
RANGE(leaves, 64, 128, 256);
RANGE(odd, 3, 7, 20);
RANGE(odd_over_leaves, 61, 70, 256);
RANGE(off_by_one, 65, 64, 256);
RANGE(subtree, 4096, 4096, 8200);
RANGE(odd_over_subtrees, 4095, 4098, 8200);
RANGE(start_to_odd, 0, 4097, 8200);
RANGE(at_262144, 262144 - 3, 8, 262144 + 10);
RANGE(huge_hole, 5, 1ULL << 24, 1ULL << 25);

/* A page around each end, and each multiple of 64 or so, holds something. */
static bool has_data(uint64_t page)
{
	return page % 61 == 3 || page % 4096 < 4 || page % 4096 > 4093;
}

FIXTURE_SETUP(range)
{
	uint64_t i, to = variant->of < 10000 ? variant->of : 0;

	if (sizeof(self->mem) < 8 && variant->of > 1 << 20)
		SKIP(return, "a 32-bit program cannot map that much");
	self->fd = region();
	ASSERT_EQ(0, do_resize(self->fd, variant->of * pgsz()));
	self->mem = map_rw(self->fd, variant->of);
	for (i = 0; i < to; i++)
		if (has_data(i))
			pg_fill(self->mem + i * pgsz(), 1, i);
	if (!to)
		for (i = 0; i < 4; i++) {
			uint64_t at[] = { variant->first, variant->first + 1,
					  variant->first + variant->n - 1,
					  variant->first + variant->n };

			pg_fill(self->mem + at[i] * pgsz(), 1, at[i]);
		}
}

FIXTURE_TEARDOWN(range)
{
}

TEST_F(range, is_shared_and_split)
{
	uint64_t i, data = 0, all = info(self->fd).pages_populated;
	uint64_t first = variant->first, n = variant->n;
	bool dense = variant->of < 10000;
	int clone, second;
	char *mem, *other;

	clone = do_clone(self->fd, 0, first * pgsz(), n * pgsz());
	ASSERT_LE(0, clone);
	EXPECT_EQ(n * pgsz(), info(clone).size);
	other = map_rw(clone, n);
	mem = self->mem + first * pgsz();
	if (dense) {
		for (i = 0; i < n; i++) {
			uint32_t tag = has_data(first + i) ? 1 : 0;

			data += tag;
			ASSERT_TRUE(is(other + i * pgsz(), 1, tag, first + i));
		}
	} else {
		data = 3;
		EXPECT_TRUE(fd_is_as(clone, 0, 1, first));
		EXPECT_TRUE(fd_is_as(clone, 1, 1, first + 1));
		EXPECT_TRUE(fd_is_as(clone, n - 1, 1, first + n - 1));
		EXPECT_TRUE(fd_is_as(clone, n / 2, 0, 0));
	}
	EXPECT_TRUE(holds(clone, 0, data));
	EXPECT_TRUE(holds(self->fd, all - data, data));

	/* Split the first page here and the last page there. */
	i = n - 1;
	pg_fill(mem, 2, first);
	pg_fill(other + i * pgsz(), 3, first + i);
	EXPECT_TRUE(fd_is(self->fd, first, 1, 2));
	EXPECT_TRUE(fd_is_as(clone, i, 3, first + i));
	if (n > 1) {
		EXPECT_TRUE(is(other, 1, dense && !has_data(first) ? 0 : 1,
			       first));
		EXPECT_TRUE(is(mem + i * pgsz(), 1,
			       dense && !has_data(first + i) ? 0 : 1,
			       first + i));
	}

	/* What was shared at another offset is cut, zapped and split there. */
	second = cloned(clone);
	pg_fill(other + i * pgsz(), 4, first + i);
	EXPECT_TRUE(fd_is_as(second, i, 3, first + i));
	EXPECT_TRUE(fd_is_as(clone, i, 4, first + i));
	ASSERT_EQ(0, do_discard(clone, i * pgsz(), pgsz()));
	EXPECT_TRUE(is(other + i * pgsz(), 1, 0, 0));
	EXPECT_TRUE(fd_is_as(second, i, 3, first + i));
	close(second);
	close(clone);
	unmap(other, n);
	i = info(self->fd).pages_populated;
	EXPECT_TRUE(holds(self->fd, i, 0));
}

/* A range may be cloned again from another offset. */
TEST(range_of_a_range)
{
	int fd = region_of(300, 1), a, b, c;

	a = do_clone(fd, 0, 10 * pgsz(), 200 * pgsz());
	b = do_clone(a, 0, 55 * pgsz(), 100 * pgsz());
	c = do_clone(b, COWMEM_CLONE_SNAPSHOT, 99 * pgsz(), 0);
	ASSERT_TRUE(a >= 0 && b >= 0 && c >= 0);
	EXPECT_EQ(pgsz(), info(c).size);
	EXPECT_TRUE(fd_is_as(c, 0, 1, 164));
	EXPECT_TRUE(fd_is_as(b, 0, 1, 65));
	unmap(memset(map_rw(fd, 300), 0, 300 * pgsz()), 300);
	EXPECT_TRUE(fd_is_as(c, 0, 1, 164));
	close(b);
	close(a);
	EXPECT_TRUE(holds(c, 1, 0));
	/* At the very end there is an empty range. */
	a = do_clone(fd, 0, 300 * pgsz(), 0);
	ASSERT_LE(0, a);
	EXPECT_EQ(0, info(a).size);
}

TEST(depth_200)
{
	enum { DEPTH = 200 };
	int fd[DEPTH + 1], i;
	char *mem;

	fd[0] = region_of(4, 1);
	for (i = 1; i <= DEPTH; i++) {
		fd[i] = cloned(fd[i - 1]);
		mem = map_rw(fd[i], 4);
		pg_fill(mem + i % 2 * pgsz(), 1 + i, i % 2);
		unmap(mem, 4);
	}
	for (i = 0; i <= DEPTH; i++) {
		EXPECT_TRUE(fd_is(fd[i], i % 2, 1, 1 + i));
		if (i)
			EXPECT_TRUE(fd_is(fd[i], !(i % 2), 1, i));
		EXPECT_TRUE(fd_is(fd[i], 2, 1, 1));
	}
	/* The deepest is no different from the first. */
	EXPECT_EQ(info(fd[0]).index_bytes, info(fd[DEPTH]).index_bytes);
	for (i = 0; i < DEPTH; i++)
		close(fd[i]);
	EXPECT_TRUE(holds(fd[DEPTH], 4, 0));
	EXPECT_TRUE(fd_is(fd[DEPTH], 3, 1, 1));
}

TEST(wide_tree_closed_in_any_order)
{
	enum { WIDE = 64 };
	int fd[WIDE + 1], i, j, left = WIDE + 1;
	char *mem;

	rng_init();
	fd[0] = region_of(WIDE + 1, 1);
	for (i = 1; i <= WIDE; i++) {
		/* Whatever region it is of. */
		fd[i] = cloned(fd[below(i)]);
		mem = map_rw(fd[i], WIDE + 1);
		pg_fill(mem + i * pgsz(), 1 + i, i);
		unmap(mem, WIDE + 1);
	}
	while (left) {
		i = below(WIDE + 1);
		if (fd[i] < 0)
			continue;
		EXPECT_TRUE(fd_is(fd[i], i, 1, 1 + i));
		EXPECT_TRUE(fd_is(fd[i], 0, 1, 1));
		if (left == 1)
			EXPECT_TRUE(holds(fd[i], WIDE + 1, 0));
		for (j = WIDE; left > 1 && j > i; j--)
			if (fd[j] >= 0)
				break;
		if (left > 1 && j > i)
			EXPECT_TRUE(fd_is(fd[j], j, 1, 1 + j));
		close(fd[i]);
		fd[i] = -1;
		left--;
	}
}

/* It stays one page, and no trace of the other holder is left on it. */
TEST(last_holder)
{
	int fd = region_of(4, 1), clone = cloned(fd), second = cloned(clone);
	char *mem = map_rw(fd, 4);

	EXPECT_TRUE(holds(fd, 0, 4));
	close(clone);
	EXPECT_TRUE(holds(fd, 0, 4));
	close(second);
	EXPECT_TRUE(holds(fd, 4, 0));
	fill(mem, 4, 2, 0);
	EXPECT_TRUE(is(mem, 4, 2, 0));
	EXPECT_TRUE(holds(fd, 4, 0));

	/* The clone may be the last holder, too. */
	clone = cloned(fd);
	unmap(mem, 4);
	close(fd);
	EXPECT_TRUE(holds(clone, 4, 0));
	mem = map_rw(clone, 4);
	EXPECT_TRUE(is(mem, 4, 2, 0));
	fill(mem, 4, 3, 0);
	EXPECT_TRUE(fd_is(clone, 0, 4, 3));

	/* A region lives as long as a mapping of it. */
	second = cloned(clone);
	close(clone);
	EXPECT_TRUE(holds(second, 0, 4));
	unmap(mem, 4);
	EXPECT_TRUE(holds(second, 4, 0));
}

/* Whoever writes all of its pages leaves the old ones to the other side. */
TEST(discard_and_shrink_give_pages_back)
{
	int fd = region_of(8, 1), clone = cloned(fd);

	ASSERT_EQ(0, do_discard(fd, 0, 2 * pgsz()));
	EXPECT_TRUE(holds(fd, 0, 6) && holds(clone, 2, 6));
	ASSERT_EQ(0, do_resize(clone, 4 * pgsz()));
	EXPECT_TRUE(holds(fd, 4, 2) && holds(clone, 2, 2));
	EXPECT_TRUE(fd_is(fd, 0, 2, 0) && fd_is(fd, 2, 6, 1));
	EXPECT_TRUE(fd_is(clone, 0, 4, 1));
}

/* So many that write access is not taken back from all pages in one go. */
TEST(page_in_use_among_many)
{
	enum { MANY = 20 * 64, IN_USE = 2 * 64 + 5 };
	int fd = region_of(1, 1), clone, pipes[2];
	char *mem = map_rw(fd, MANY);
	struct iovec iov = { mem + IN_USE * pgsz(), pgsz() };

	fill_back(mem, MANY, 1, 0);
	ASSERT_EQ(0, pipe(pipes));
	ASSERT_EQ((ssize_t)pgsz(), vmsplice(pipes[1], &iov, 1, 0));
	clone = cloned(fd);
	/* That one was copied: whoever uses it may be writing to it. */
	EXPECT_TRUE(holds(fd, 1, MANY - 1));
	EXPECT_TRUE(holds(clone, 1, MANY - 1));
	pg_fill(mem + IN_USE * pgsz(), 2, IN_USE);
	EXPECT_TRUE(holds(fd, 1, MANY - 1));
	EXPECT_TRUE(fd_is(clone, 0, MANY, 1));
	EXPECT_TRUE(fd_is_as(fd, IN_USE, 2, IN_USE));
	close(pipes[0]);
	close(pipes[1]);
	close(clone);
	unmap(mem, MANY);
	close(fd);
}

TEST(descriptor_is_close_on_exec)
{
	int fd = region_of(1, 1), clone = cloned(fd), snap = snapshot(fd);

	EXPECT_EQ(FD_CLOEXEC, fcntl(clone, F_GETFD));
	EXPECT_EQ(FD_CLOEXEC, fcntl(snap, F_GETFD));
	EXPECT_EQ(O_RDWR, fcntl(clone, F_GETFL) & O_ACCMODE);
	EXPECT_EQ(O_RDONLY, fcntl(snap, F_GETFL) & O_ACCMODE);
}

/* Any region may be cloned from a descriptor that can read it. */
TEST(clone_of_a_read_only_region)
{
	int fd = region_of(4, 1), snap = snapshot(fd), clone = cloned(snap);
	int empty = open(COWMEM_DEV, O_RDONLY), of_empty;
	char *mem = map_rw(clone, 4);

	fill(mem, 4, 2, 0);
	EXPECT_TRUE(fd_is(fd, 0, 4, 1));
	EXPECT_TRUE(fd_is(snap, 0, 4, 1));
	EXPECT_TRUE(fd_is(clone, 0, 4, 2));
	ASSERT_LE(0, empty);
	of_empty = cloned(empty);
	ASSERT_EQ(0, do_resize(of_empty, pgsz()));
	fill(map_rw(of_empty, 1), 1, 3, 0);
	EXPECT_TRUE(fd_is(of_empty, 0, 1, 3));
}

/*
 * Entries of every mapping, made in every way, must go when a clone is taken:
 * whatever is left writable writes into the clone.
 */
FIXTURE(mapped) {
	int fd;
	char *mem, *alias;
};

FIXTURE_VARIANT(mapped) {
	bool read, write, alias, late;
};

FIXTURE_VARIANT_ADD(mapped, not_touched) { .late = false };
FIXTURE_VARIANT_ADD(mapped, read) { .read = true };
FIXTURE_VARIANT_ADD(mapped, written) { .write = true };
FIXTURE_VARIANT_ADD(mapped, read_then_written) { .read = true, .write = true };
FIXTURE_VARIANT_ADD(mapped, written_by_alias) { .read = true, .alias = true };
FIXTURE_VARIANT_ADD(mapped, after_the_clone) { .late = true };

FIXTURE_SETUP(mapped)
{
	self->fd = region_of(PAGES, 1);
	self->alias = map_rw(self->fd, PAGES);
	if (!variant->late)
		self->mem = map_rw(self->fd, PAGES);
	if (variant->read)
		EXPECT_TRUE(is(self->mem, PAGES, 1, 0));
	if (variant->write)
		fill(self->mem, PAGES, 1, 0);
	if (variant->alias)
		fill(self->alias, PAGES, 1, 0);
}

FIXTURE_TEARDOWN(mapped)
{
}

TEST_F(mapped, clone_is_isolated)
{
	int clone, i;

	for (i = 1; i < 4; i++) {
		clone = cloned(self->fd);
		if (!self->mem)
			self->mem = map_rw(self->fd, PAGES);
		EXPECT_TRUE(is(self->alias, PAGES, i, 0));
		fill(self->mem, PAGES, i + 1, 0);
		EXPECT_TRUE(is(self->alias, PAGES, i + 1, 0));
		EXPECT_TRUE(fd_is(clone, 0, PAGES, i));
		EXPECT_TRUE(holds(clone, PAGES, 0));
		EXPECT_TRUE(fd_is(self->fd, 0, PAGES, i + 1));
		/* And the other way around. */
		unmap(memset(map_rw(clone, PAGES), i, PAGES * pgsz()), PAGES);
		EXPECT_TRUE(is(self->mem, PAGES, i + 1, 0));
		close(clone);
	}
}

/*
 * Threads that clone, write, shrink, discard and close at once: nothing can be
 * said about the order, but what comes out is old or new, never something else.
 */
TEST(hammered_from_all_sides)
{
	enum { N = 4, ROUNDS = 60 };
	int fd = region_of(PAGES, 1), keep = snapshot(fd), i;
	int *stop = shared_mem(sizeof(*stop));
	pid_t pid[N];

	for (i = 0; i < N; i++) {
		pid[i] = spawn();
		if (!pid[i]) {
			char *mem = map_rw(fd, PAGES);
			int n = 0, clone;

			while (!get(stop)) {
				rng_state = n + 77 * i + 1;
				pg_fill(mem + below(PAGES) * pgsz(), 2, 0);
				if (n % 7 == i)
					do_discard(fd, below(PAGES) * pgsz(),
						   pgsz());
				if (n % 5 == i) {
					char *own;

					clone = cloned(fd);
					own = map_rw(clone, 1);
					pg_fill(own, 3, 0);
					unmap(own, 1);
					close(clone);
				}
				n++;
			}
			_exit(0);
		}
	}
	for (i = 0; i < ROUNDS; i++) {
		int clone = cloned(fd), n;
		char *mem = map_ro(clone, PAGES), *copy = malloc(PAGES * pgsz());

		memcpy(copy, mem, PAGES * pgsz());
		for (n = 0; n < 20; n++)
			sched_yield();
		/* The clone itself is nobody's to change. */
		EXPECT_EQ(0, memcmp(copy, mem, PAGES * pgsz()));
		EXPECT_EQ((ssize_t)(PAGES * pgsz()),
			  pread(clone, copy, PAGES * pgsz(), 0));
		EXPECT_EQ(0, memcmp(copy, mem, PAGES * pgsz()));
		EXPECT_TRUE(fd_is(keep, 0, PAGES, 1));
		unmap(mem, PAGES);
		free(copy);
		close(clone);
	}
	put(stop, 1);
	for (i = 0; i < N; i++)
		EXPECT_EQ(0, reap(pid[i]));
	close(fd);
	EXPECT_TRUE(holds(keep, PAGES, 0));
}

/* ---- random operations against a model in user space ---- */

#define REGIONS 16
#define MAX_PAGES 4200		/* more than one subtree for any fan-out <= 4096 */

/* A page as the contract has it: held by one region or by several. */
struct page {
	int holders;
	char data[];
};

struct model {
	int fd;
	bool snapshot;
	uint64_t size;
	char *mem;		/* a mapping that lives on, or NULL */
	uint64_t mapped;	/* its length in pages */
	struct page *pages[MAX_PAGES];
};

static struct model *models;

static struct page *page_new(const void *data)
{
	struct page *p = calloc(1, sizeof(*p) + pgsz());

	must(p);
	p->holders = 1;
	if (data)
		memcpy(p->data, data, pgsz());
	return p;
}

static void page_drop(struct page **slot)
{
	if (*slot && !--(*slot)->holders)
		free(*slot);
	*slot = NULL;
}

/* The page at @i for writing: alone in this region. */
static char *page_own(struct model *m, uint64_t i)
{
	struct page *old = m->pages[i];

	if (!old || old->holders > 1) {
		m->pages[i] = page_new(old ? old->data : NULL);
		if (old)
			old->holders--;
	}
	return m->pages[i]->data;
}

static void model_write(struct model *m, uint64_t off, const char *buf,
			uint64_t len)
{
	while (len) {
		uint64_t in = off % pgsz();
		uint64_t n = len < pgsz() - in ? len : pgsz() - in;

		memcpy(page_own(m, off / pgsz()) + in, buf, n);
		off += n;
		buf += n;
		len -= n;
	}
}

/* Zero a range: whole pages become holes, parts of pages are zeroed. */
static void model_zero(struct model *m, uint64_t off, uint64_t len)
{
	while (len) {
		uint64_t i = off / pgsz(), in = off % pgsz();
		uint64_t n = len < pgsz() - in ? len : pgsz() - in;

		if (n == pgsz())
			page_drop(&m->pages[i]);
		else if (m->pages[i])
			memset(page_own(m, i) + in, 0, n);
		off += n;
		len -= n;
	}
}

static void model_resize(struct model *m, uint64_t size)
{
	uint64_t i, end = (size + pgsz() - 1) / pgsz();

	if (size < m->size) {
		if (size % pgsz())
			model_zero(m, size, end * pgsz() - size);
		for (i = end; i < MAX_PAGES; i++)
			page_drop(&m->pages[i]);
	}
	m->size = size;
}

static void model_close(struct model *m)
{
	uint64_t i;

	for (i = 0; i < MAX_PAGES; i++)
		page_drop(&m->pages[i]);
	if (m->mem)
		unmap(m->mem, m->mapped);
	close(m->fd);
	memset(m, 0, sizeof(*m));
	m->fd = -1;
}

/* Compare every byte that was ever written, and a few holes. */
static bool model_verify(struct model *m)
{
	char *zero = calloc(1, pgsz()), *got = malloc(pgsz());
	uint64_t i, exclusive = 0, shared = 0, next_hole = 0;
	struct cowmem_info in = info(m->fd);
	bool ok = in.size == m->size;

	must(zero && got);
	if (!ok)
		fprintf(stderr, "# size is %llu, not %llu\n",
			(unsigned long long)in.size,
			(unsigned long long)m->size);
	for (i = 0; i * pgsz() < m->size; i++) {
		struct page *p = m->pages[i];
		const char *want = p ? p->data : zero;
		ssize_t len = m->size - i * pgsz();

		if (len > (ssize_t)pgsz())
			len = pgsz();
		if (p) {
			exclusive += p->holders == 1;
			shared += p->holders > 1;
			next_hole = i + 1;
		} else if (i > next_hole && below(64)) {
			continue;
		}
		if (pread(m->fd, got, pgsz(), i * pgsz()) != len ||
		    memcmp(got, want, len) ||
		    (m->mem && i < m->mapped &&
		     memcmp(m->mem + i * pgsz(), want, len))) {
			fprintf(stderr, "# page %llu of fd %d is wrong\n",
				(unsigned long long)i, m->fd);
			ok = false;
			break;
		}
	}
	free(zero);
	free(got);
	return ok && holds(m->fd, exclusive, shared);
}

/* Offsets crowd around a few places so that regions collide. */
static uint64_t some_offset(uint64_t size)
{
	static const uint64_t base[] = { 0, 0, 60, 125, 508, 1020, 4090 };
	uint64_t off = (base[below(ARRAY_SIZE(base))] + below(10)) * pgsz();

	if (below(2))
		off += below(pgsz());
	return size ? off % size : 0;
}

static uint64_t some_length(uint64_t off, uint64_t size)
{
	uint64_t len = below(3) ? 1 + below(3 * pgsz()) : pgsz();

	return len < size - off ? len : size - off;
}

static struct model *some_free(void)
{
	int i;

	for (i = 0; i < REGIONS; i++)
		if (models[i].fd < 0)
			return &models[i];
	return NULL;
}

static void model_remap(struct model *m)
{
	if (m->mem)
		unmap(m->mem, m->mapped);
	m->mem = NULL;
	/* A mapping of a size that is no multiple of a page would grow it. */
	if (!m->size || m->size % pgsz())
		return;
	m->mapped = m->size / pgsz();
	m->mem = m->snapshot ? map_ro(m->fd, m->mapped) :
			       map_rw(m->fd, m->mapped);
}

static void model_clone(struct model *m, bool range)
{
	struct model *to = some_free();
	uint64_t off = 0, len = 0, i;

	if (!to) {
		model_close(&models[below(REGIONS)]);
		return;
	}
	if (range && m->size >= pgsz()) {
		off = some_offset(m->size) / pgsz() * pgsz();
		if (below(4))
			len = below((m->size - off) / pgsz() + 1) * pgsz();
	}
	to->snapshot = !below(6);
	to->fd = do_clone(m->fd, to->snapshot ? COWMEM_CLONE_SNAPSHOT : 0, off,
			  len);
	must(to->fd >= 0);
	to->size = len ? len : m->size - off;
	for (i = 0; i * pgsz() < to->size; i++) {
		to->pages[i] = m->pages[off / pgsz() + i];
		if (to->pages[i])
			to->pages[i]->holders++;
	}
}

TEST(random_forest)
{
	static char buf[4 * 65536];
	int ops = random_ops(8000);
	int i, n;

	rng_init();
	models = calloc(REGIONS, sizeof(*models));
	ASSERT_NE(NULL, models);
	for (i = 0; i < REGIONS; i++)
		models[i].fd = -1;

	for (n = 0; n < ops; n++) {
		struct model *m = &models[below(REGIONS)];
		unsigned int op = below(100);
		uint64_t off, len;

		if (m->fd < 0) {
			if (!below(4)) {
				m->fd = region();
				m->size = (1 + below(MAX_PAGES)) * pgsz();
				ASSERT_EQ(0, do_resize(m->fd, m->size));
			}
			continue;
		}
		off = some_offset(m->size);
		len = m->size ? some_length(off, m->size) : 0;
		for (i = 0; i < 64; i++)
			buf[below(len + 1)] = rng();
		if (op < 55 && m->snapshot)
			op = 90;
		if (op < 25 && len) {
			ASSERT_EQ((ssize_t)len, pwrite(m->fd, buf, len, off));
			model_write(m, off, buf, len);
		} else if (op < 45 && m->mem && len &&
			   off + len <= m->mapped * pgsz()) {
			memcpy(m->mem + off, buf, len);
			model_write(m, off, buf, len);
		} else if (op < 50 && len) {
			if (below(2))
				len = m->size - off;
			ASSERT_EQ(0, do_discard(m->fd, off, len));
			model_zero(m, off, len);
		} else if (op < 55) {
			len = below(3) ? (1 + below(MAX_PAGES)) * pgsz() :
					 below(MAX_PAGES * pgsz());
			ASSERT_EQ(0, do_resize(m->fd, len));
			model_resize(m, len);
		} else if (op < 63) {
			model_clone(m, false);
		} else if (op < 68) {
			model_clone(m, true);
		} else if (op < 71) {
			model_close(m);
		} else if (op < 78) {
			model_remap(m);
		} else if (op < 80 && m->mem) {
			EXPECT_EQ(0, madvise(m->mem, m->mapped * pgsz(),
					     MADV_DONTNEED));
		} else if (op < 92) {
			ASSERT_TRUE(model_verify(m))
				TH_LOG("operation %d", n);
		}
	}
	for (i = 0; i < REGIONS; i++)
		if (models[i].fd >= 0)
			ASSERT_TRUE(model_verify(&models[i]));
	for (i = 0; i < REGIONS; i++)
		if (models[i].fd >= 0) {
			ASSERT_TRUE(model_verify(&models[i]));
			model_close(&models[i]);
		}
}

TEST_HARNESS_MAIN
