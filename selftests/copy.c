// SPDX-License-Identifier: GPL-2.0-only
/*
 * Promise: COPY shares a range of a region with another region, or with another
 * place of the same one.  No page is copied; a later write on either side stays
 * there; holes come as holes; others see all of it or nothing; memmove() is the
 * model.
 */
#include <linux/fs.h>

#include "../kselftest_harness.h"
#include "common.h"
#include "live.h"
#include "shadow.h"

/* Two of three pages, in runs, all of tag @tag. */
static void shadow_fill(struct shadow *s, uint64_t from, uint64_t to,
			uint32_t tag)
{
	for (; from < to; from++)
		if (from / 5 % 3 != 2)
			shadow_write(s, from, tag, from % 2);
}

static void copied(struct __test_metadata *_metadata, struct shadow *d,
		   uint64_t dst, const struct shadow *s, uint64_t src, uint64_t n)
{
	ASSERT_EQ(0, do_copy(d->fd, s->fd, dst, src, n));
	shadow_move(d, dst, s, src, n);
	ASSERT_TRUE(shadow_check(d))
		TH_LOG("%llu pages from %llu to %llu", (unsigned long long)n,
		       (unsigned long long)src, (unsigned long long)dst);
	if (d != s)
		ASSERT_TRUE(shadow_check(s));
}

/* ---- between two regions and within one ---- */

FIXTURE(copy) {
	struct shadow a, b;
};

FIXTURE_VARIANT(copy) {
	uint64_t size, src, dst, n;
};

#define RANGE(_name, _size, _src, _dst, _n)				\
	FIXTURE_VARIANT_ADD(copy, _name) {				\
		.size = _size, .src = _src, .dst = _dst, .n = _n,	\
	}

RANGE(whole, 300, 0, 0, 300);
RANGE(one_page, 300, 7, 7, 1);
RANGE(one_page_elsewhere, 300, 7, 192, 1);
RANGE(leaf, 300, 64, 128, 64);
RANGE(leaf_in_place, 300, 64, 64, 64);
RANGE(leaves_down, 400, 192, 64, 192);
RANGE(leaves_up, 400, 64, 192, 192);
RANGE(leaf_and_ends, 400, 60, 124, 200);
RANGE(odd, 400, 3, 130, 201);
RANGE(odd_overlap, 400, 100, 101, 250);
RANGE(odd_overlap_down, 400, 101, 100, 250);
RANGE(odd_to_aligned, 400, 65, 128, 128);
RANGE(aligned_to_odd, 400, 128, 63, 130);
RANGE(overlap_of_leaves, 700, 64, 128, 512);
RANGE(overlap_of_leaves_down, 700, 128, 64, 512);
RANGE(from_the_end, 300, 200, 0, 100);
RANGE(to_the_end, 300, 0, 200, 100);
RANGE(level_1, 3 * 4096, 4096, 0, 4096);
RANGE(level_1_up, 3 * 4096, 0, 4096, 2 * 4096);
RANGE(level_1_and_ends, 3 * 4096, 4000, 4000 + 4096, 4096 + 90);
RANGE(level_1_by_leaves, 3 * 4096, 64, 4096, 4096 + 1);

FIXTURE_SETUP(copy)
{
	uint64_t i;

	shadow_init(&self->a, variant->size);
	shadow_init(&self->b, variant->size);
	if (variant->size <= 1000) {
		shadow_fill(&self->a, 0, variant->size, 1);
		shadow_fill(&self->b, 2, variant->size - 10, 2);
		return;
	}
	/* A few around the edges, and here and there. */
	for (i = 0; i < variant->size; i++) {
		uint64_t x = i + 8 - variant->src, y = i + 8 - variant->dst;

		if (i % 97 == 5 || x < 16 || x - variant->n < 16)
			shadow_write(&self->a, i, 1, i % 2);
		if (i % 89 == 5 || y < 16 || y - variant->n < 16)
			shadow_write(&self->b, i, 2, i % 2);
	}
}

FIXTURE_TEARDOWN(copy)
{
	shadow_end(&self->a);
	EXPECT_TRUE(shadow_check_fd(&self->b));
	shadow_end(&self->b);
}

TEST_F(copy, between_regions)
{
	uint64_t i;

	ASSERT_TRUE(shadow_check(&self->a));
	ASSERT_TRUE(shadow_check(&self->b));
	copied(_metadata, &self->b, variant->dst, &self->a, variant->src,
	       variant->n);
	EXPECT_TRUE(shadow_check_fd(&self->a));
	EXPECT_TRUE(shadow_check_fd(&self->b));

	/* Writes on either side, the first, the last, the neighbours. */
	for (i = 0; i < variant->n; i += variant->n > 3 ? variant->n / 3 : 1) {
		shadow_write(&self->a, variant->src + i, 3, false);
		shadow_write(&self->b, variant->dst + i, 4, true);
		if (i % 2)
			shadow_discard(&self->b, variant->dst + i, 1);
	}
	shadow_write(&self->b, variant->dst + variant->n - 1, 5, false);
	if (variant->dst)
		shadow_write(&self->b, variant->dst - 1, 6, false);
	if (variant->dst + variant->n < variant->size)
		shadow_write(&self->b, variant->dst + variant->n, 6, true);
	EXPECT_TRUE(shadow_check(&self->a));
	EXPECT_TRUE(shadow_check(&self->b));
}

TEST_F(copy, within_a_region)
{
	struct shadow *a = &self->a;

	ASSERT_TRUE(shadow_check(a));
	copied(_metadata, a, variant->dst, a, variant->src, variant->n);
	/* Both copies are written, and it is done once more. */
	shadow_write(a, variant->src, 3, false);
	shadow_write(a, variant->dst + variant->n - 1, 4, true);
	ASSERT_TRUE(shadow_check(a));
	copied(_metadata, a, variant->dst, a, variant->src, variant->n);
	/* And back. */
	copied(_metadata, a, variant->src, a, variant->dst, variant->n);
	shadow_write(a, variant->dst, 5, false);
	shadow_write(a, variant->src + variant->n / 2, 5, false);
	EXPECT_TRUE(shadow_check_fd(a));
}

/* Snapshots share the nodes that a copy goes through, and keep what they have. */
TEST_F(copy, under_clones)
{
	struct shadow *a = &self->a, *b = &self->b, of_a, of_b;

	shadow_clone(&of_a, a, COWMEM_CLONE_SNAPSHOT, 0);
	shadow_clone(&of_b, b, COWMEM_CLONE_SNAPSHOT, 0);
	ASSERT_EQ(0, do_copy(b->fd, a->fd, variant->dst, variant->src,
			     variant->n));
	shadow_move(b, variant->dst, a, variant->src, variant->n);
	EXPECT_TRUE(shadow_check_new(&of_a));
	EXPECT_TRUE(shadow_check_new(&of_b));
	ASSERT_EQ(0, do_copy(a->fd, a->fd, variant->dst, variant->src,
			     variant->n));
	shadow_move(a, variant->dst, a, variant->src, variant->n);
	shadow_write(a, variant->dst, 3, false);
	shadow_write(b, variant->dst, 4, false);
	EXPECT_TRUE(shadow_check_fd(&of_a));
	EXPECT_TRUE(shadow_check_fd(&of_b));
	shadow_end(&of_a);
	shadow_end(&of_b);
	EXPECT_TRUE(shadow_check_fd(a));
	EXPECT_TRUE(shadow_check_fd(b));
}

/* ---- every way the pages may be in use ---- */

TEST(nothing_changes_onto_itself)
{
	struct shadow a;

	shadow_init(&a, 200);
	shadow_fill(&a, 0, 200, 1);
	copied(_metadata, &a, 0, &a, 0, 200);
	copied(_metadata, &a, 3, &a, 3, 100);
	shadow_write(&a, 5, 2, false);
	EXPECT_TRUE(shadow_check_fd(&a));
}

/* Holes, copied over data. */
TEST(holes_come_as_holes)
{
	struct shadow a, b;

	shadow_init(&a, 300);
	shadow_init(&b, 300);
	shadow_fill(&b, 0, 300, 2);
	shadow_write(&a, 299, 1, false);
	/* This reads the holes, so the zero page is mapped. */
	EXPECT_TRUE(shadow_check(&a));
	copied(_metadata, &b, 10, &a, 20, 250);
	EXPECT_EQ(10 * pgsz(), lseek(b.fd, 9 * pgsz() + 1, SEEK_HOLE));
	copied(_metadata, &a, 0, &b, 0, 299);
	copied(_metadata, &b, 0, &a, 0, 300);
	shadow_write(&b, 100, 3, false);
	EXPECT_TRUE(shadow_check_fd(&a));
	EXPECT_TRUE(shadow_check_fd(&b));
}

/* Many copies of one page: a region of a single page, in effect. */
TEST(one_page_everywhere)
{
	struct shadow a;
	uint64_t n;

	shadow_init(&a, 512);
	shadow_write(&a, 0, 1, false);
	for (n = 1; n < 512; n *= 2)
		copied(_metadata, &a, n, &a, 0, n);
	EXPECT_EQ(512, a.at[0]->holders);
	for (n = 0; n < 512; n += 3)
		shadow_write(&a, n, 2, n % 2);
	EXPECT_TRUE(shadow_check_fd(&a));
	shadow_discard(&a, 0, 510);
	/* The last holder but one, and the last. */
	shadow_write(&a, 511, 3, false);
	EXPECT_TRUE(shadow_check(&a));
	shadow_write(&a, 510, 3, false);
	EXPECT_TRUE(shadow_check_fd(&a));
}

/* A mapping in another process, and a private one, show it at once. */
TEST(mappings_show_it)
{
	int *turn = shared_mem(sizeof(*turn));
	struct shadow a, b;
	char *priv;
	pid_t pid;
	int i;

	shadow_init(&a, 100);
	shadow_init(&b, 100);
	shadow_fill(&a, 0, 100, 1);
	shadow_fill(&b, 0, 100, 2);
	priv = map_at(b.fd, 100, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0);
	pg_fill(priv + 20 * pgsz(), 9, 20);
	for (i = 0; i < 100; i++)
		touch(priv + i * pgsz(), false);
	pid = spawn();
	if (!pid) {
		b.mem = map_rw(b.fd, 100);
		if (!shadow_check(&b))
			_exit(1);
		put(turn, 1);
		await(turn, 2);
		shadow_move(&b, 10, &a, 0, 60);
		_exit(shadow_check(&b) ? 0 : 2);
	}
	await(turn, 1);
	copied(_metadata, &b, 10, &a, 0, 60);
	put(turn, 2);
	EXPECT_EQ(0, reap(pid));
	EXPECT_TRUE(pg_is(priv + 20 * pgsz(), 9, 20));
	EXPECT_TRUE(pg_is(priv + 21 * pgsz(), 0, 0));
	EXPECT_TRUE(pg_is(priv + 25 * pgsz(), 1, 15));
}

FIXTURE(pinned) {
	struct shadow a, b;
	int pipes[2];
};

FIXTURE_VARIANT(pinned) {
	bool target;	/* the pages that are overwritten */
	bool granted;	/* written since they were shared */
};

FIXTURE_VARIANT_ADD(pinned, source) { .granted = false };
FIXTURE_VARIANT_ADD(pinned, source_granted) { .granted = true };
FIXTURE_VARIANT_ADD(pinned, target) { .target = true };
FIXTURE_VARIANT_ADD(pinned, target_granted) { .target = true, .granted = true };

FIXTURE_SETUP(pinned)
{
	int i;

	shadow_init(&self->a, 8);
	shadow_init(&self->b, 8);
	for (i = 0; i < 8; i++) {
		shadow_write(&self->a, i, 1, false);
		shadow_write(&self->b, i, 2, false);
	}
	ASSERT_EQ(0, pipe(self->pipes));
}

FIXTURE_TEARDOWN(pinned)
{
}

TEST_F(pinned, pipe_keeps_the_old_data)
{
	struct shadow *a = &self->a, *b = &self->b;
	struct shadow *p = variant->target ? b : a;
	char got[4 * pgsz()];
	struct iovec iov = { p->mem, sizeof(got) };
	uint32_t tag = variant->target ? 2 : 1;
	int i;

	if (!variant->granted) {
		close(snapshot(p->fd));
		EXPECT_TRUE(shadow_check(p));
	}
	ASSERT_EQ((ssize_t)sizeof(got),
		  vmsplice(self->pipes[1], &iov, 1, 0));
	ASSERT_EQ(0, do_copy(b->fd, a->fd, 0, 0, 8));
	for (i = 0; i < 8; i++) {
		EXPECT_TRUE(pg_is(b->mem + i * pgsz(), 1, i));
		EXPECT_TRUE(pg_is(a->mem + i * pgsz(), 1, i));
	}
	/* A page that somebody may be writing to is copied after all. */
	EXPECT_TRUE(holds(b->fd, !variant->target && variant->granted ? 4 : 0,
			  !variant->target && variant->granted ? 4 : 8));

	/* The target's writes reach neither the pipe nor the source. */
	fill(b->mem, 8, 3, 0);
	EXPECT_TRUE(is(a->mem, 8, 1, 0));
	if (variant->target)
		fill(a->mem, 8, 4, 0);
	close(a->fd);
	fill(b->mem, 8, 5, 0);
	ASSERT_TRUE(drain(self->pipes[0], got, sizeof(got)));
	EXPECT_TRUE(is(got, 4, tag, 0));
	EXPECT_TRUE(fd_is(b->fd, 0, 8, 5));
	EXPECT_TRUE(holds(b->fd, 8, 0));
}

/* Whoever is left alone with a page that a pipe has does not write to it. */
TEST_F(pinned, last_holder_does_not_write_in_place)
{
	struct shadow *a = &self->a, *b = &self->b;
	struct shadow *p = variant->target ? b : a;
	char got[4 * pgsz()];
	struct iovec iov = { p->mem, sizeof(got) };

	if (!variant->granted)
		close(snapshot(p->fd));
	EXPECT_TRUE(is(p->mem, 4, variant->target ? 2 : 1, 0));
	ASSERT_EQ((ssize_t)sizeof(got),
		  vmsplice(self->pipes[1], &iov, 1, 0));
	ASSERT_EQ(0, do_copy(b->fd, a->fd, 0, 0, 8));
	unmap(a->mem, 8);
	close(a->fd);
	EXPECT_TRUE(holds(b->fd, 8, 0));
	fill(b->mem, 8, 3, 0);
	ASSERT_TRUE(drain(self->pipes[0], got, sizeof(got)));
	EXPECT_TRUE(is(got, 4, variant->target ? 2 : 1, 0));
	EXPECT_TRUE(fd_is(b->fd, 0, 8, 3));
}

/* ---- far away, and where regions end ---- */

TEST(huge_offsets)
{
	static const uint64_t at[] = {
		0, 4096, 1ULL << 18, (1ULL << 18) + 233, 1ULL << 30,
		(1ULL << 40) + 64,
	};
	int fd = region_of(200, 1), to = region(), i, k;
	uint64_t max = (1ULL << 41) * pgsz();

	ASSERT_EQ(0, do_resize(fd, max));
	ASSERT_EQ(0, do_resize(to, max));
	/* From the start to everywhere, all in one empty region. */
	for (i = 0; i < 6; i++) {
		ASSERT_EQ(0, do_copy(to, fd, at[i], 0, 200));
		EXPECT_TRUE(holds(to, 0, 200 * (i + 1)));
		for (k = 0; k <= i; k++) {
			EXPECT_TRUE(fd_is_as(to, at[k], 1, 0));
			EXPECT_TRUE(fd_is_as(to, at[k] + 199, 1, 199));
			EXPECT_TRUE(fd_is_as(to, at[k] + 200, 0, 0));
		}
	}
	/* All of that to a third one, and a far away part back to the start. */
	close(fd);
	fd = region();
	ASSERT_EQ(0, do_resize(fd, max));
	ASSERT_EQ(0, do_copy(fd, to, 0, 0, 1ULL << 41));
	EXPECT_TRUE(holds(fd, 0, 1200));
	ASSERT_EQ(0, do_copy(fd, to, 0, at[5] - 10, 1000));
	EXPECT_TRUE(fd_is_as(fd, 9, 0, 0));
	EXPECT_TRUE(fd_is_as(fd, 10, 1, 0));
	EXPECT_TRUE(fd_is_as(fd, 209, 1, 199));
	EXPECT_TRUE(fd_is_as(fd, 210, 0, 0));
	EXPECT_TRUE(fd_is_as(fd, 4096, 1, 0));
	EXPECT_TRUE(fd_is_as(fd, at[5] + 100, 1, 100));
	/* A hole as large as that, but for one page at either end. */
	ASSERT_EQ(0, do_copy(fd, region_of(1, 2), 0, 0, 1));
	ASSERT_EQ(0, do_copy(fd, fd, (1ULL << 41) - 1, 0, 1));
	close(to);
	to = region();
	ASSERT_EQ(0, do_resize(to, max));
	ASSERT_EQ(0, do_copy(fd, to, 1, 1, (1ULL << 41) - 2));
	EXPECT_TRUE(holds(fd, 0, 2));
	EXPECT_TRUE(fd_is_as(fd, (1ULL << 41) - 1, 2, 0));
}

/*
 * A region that ends in the middle of a page: a range with all of that page reaches
 * past the end, and is refused.  Otherwise bytes of the source would lie past the
 * target's end, and show up when it grows, which is to add a hole.
 */
TEST(last_page_in_part)
{
	int fd = region_of(4, 1), to = region_of(4, 2), ret;
	char buf[pgsz()];
	size_t i;

	ASSERT_EQ(0, do_resize(to, 3 * pgsz() + 5));
	ret = do_copy(to, fd, 3, 2, 1);
	EXPECT_EQ(-1, ret);
	if (ret)
		EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, do_copy(fd, to, 0, 3, 1));
	EXPECT_EQ(0, do_copy(to, fd, 0, 0, 3));
	EXPECT_EQ(0, do_copy(fd, to, 1, 0, 3));
	EXPECT_EQ(3 * pgsz() + 5, info(to).size);
	EXPECT_EQ(5, pread(to, buf, pgsz(), 3 * pgsz()));
	ASSERT_EQ(0, do_resize(to, 4 * pgsz()));
	ASSERT_EQ((ssize_t)pgsz(), pread(to, buf, pgsz(), 3 * pgsz()));
	for (i = 5; i < pgsz(); i++)
		if (buf[i])
			break;
	EXPECT_EQ(pgsz(), i)
		TH_LOG("what was copied past the end shows at byte %zu", i);
}

/*
 * Any ends, any range: a range is allowed if both regions have all of its bytes, and
 * growing later adds nothing but zeroes.
 */
TEST(odd_sizes)
{
	static const size_t ends[] = { 0, 1, 511, 4095 };
	enum { P = 4 };
	char *want[2] = { anon(P + 2), anon(P + 2) }, *got = anon(P + 2);
	uint64_t size[2], dst, src, n;
	int i, k, r, refused = 0;

	for (i = 0; i < 4; i++)
		for (k = 0; k < 4; k++) {
			int fd[2] = { region_of(P + 1, 1), region_of(P + 1, 2) };

			for (r = 0; r < 2; r++) {
				size[r] = P * pgsz() + ends[r ? k : i];
				fill(want[r], P + 2, 1 + r, 0);
				memset(want[r] + size[r], 0,
				       (P + 2) * pgsz() - size[r]);
				ASSERT_EQ(0, do_resize(fd[r], size[r]));
			}
			for (r = 0; r < 4; r++)
				for (n = 1; n <= P + 1; n++)
					for (src = 0; src <= P; src++) {
						int to = r / 2, from = r % 2, ret;
						bool ok;

						dst = (src * 3 + n * 2) % (P + 1);
						ok = (src + n) * pgsz() <= size[from] &&
						     (dst + n) * pgsz() <= size[to];
						errno = 0;
						ret = do_copy(fd[to], fd[from],
							      dst, src, n);
						ASSERT_EQ(ok ? 0 : -1, ret)
							TH_LOG("%d pages from %d to %d",
							       (int)n, (int)src,
							       (int)dst);
						ASSERT_EQ(ok ? 0 : EINVAL, errno);
						refused += !ok;
						if (ok)
							memmove(want[to] + dst * pgsz(),
								want[from] + src * pgsz(),
								n * pgsz());
					}
			for (r = 0; r < 2; r++) {
				EXPECT_EQ(size[r], info(fd[r]).size);
				ASSERT_EQ(0, do_resize(fd[r], (P + 2) * pgsz()));
				ASSERT_EQ((ssize_t)((P + 2) * pgsz()),
					  pread(fd[r], got, (P + 2) * pgsz(), 0));
				EXPECT_EQ(0, memcmp(got, want[r], (P + 2) * pgsz()))
					TH_LOG("ends %d and %d", i, k);
				close(fd[r]);
			}
		}
	EXPECT_LT(100, refused);
}

/* ---- errors ---- */

FIXTURE(refused) {
	struct shadow a, b;
	struct cowmem_info info[2];
};

FIXTURE_SETUP(refused)
{
	shadow_init(&self->a, 100);
	shadow_init(&self->b, 90);
	shadow_fill(&self->a, 0, 100, 1);
	shadow_fill(&self->b, 0, 90, 2);
	self->info[0] = info(self->a.fd);
	self->info[1] = info(self->b.fd);
}

/* Nothing happened. */
FIXTURE_TEARDOWN(refused)
{
	struct cowmem_info a = info(self->a.fd), b = info(self->b.fd);

	EXPECT_TRUE(shadow_check_fd(&self->a));
	EXPECT_TRUE(shadow_check_fd(&self->b));
	EXPECT_EQ(0, memcmp(&a, &self->info[0], sizeof(a)));
	EXPECT_EQ(0, memcmp(&b, &self->info[1], sizeof(b)));
}

#define EXPECT_REFUSED(_err, _to, _from, _dst, _src, _len) do {		\
	struct cowmem_copy __arg = {					\
		.fd = (_from), .src_offset = (_src),			\
		.dst_offset = (_dst), .length = (_len),			\
	};								\
									\
	EXPECT_EQ(-1, ioctl((_to), COWMEM_IOC_COPY, &__arg));		\
	EXPECT_EQ((_err), errno);					\
} while (0)

TEST_F(refused, ranges)
{
	int a = self->a.fd, b = self->b.fd;
	uint64_t p = pgsz(), big[] = { 1ULL << 63, -p, -2 * p, 1ULL << 62 };
	int i;

	EXPECT_REFUSED(EINVAL, b, a, 0, 0, 0);
	EXPECT_REFUSED(EINVAL, b, a, 0, 0, 1);
	EXPECT_REFUSED(EINVAL, b, a, 0, 0, p - 1);
	EXPECT_REFUSED(EINVAL, b, a, 1, 0, p);
	EXPECT_REFUSED(EINVAL, b, a, 0, 1, p);
	EXPECT_REFUSED(EINVAL, b, a, p / 2, p / 2, p);
	/* Past the end of the target, of the source. */
	EXPECT_REFUSED(EINVAL, b, a, 0, 0, 91 * p);
	EXPECT_REFUSED(EINVAL, b, a, 90 * p, 0, p);
	EXPECT_REFUSED(EINVAL, b, a, 89 * p, 0, 2 * p);
	EXPECT_REFUSED(EINVAL, a, b, 0, 0, 91 * p);
	EXPECT_REFUSED(EINVAL, a, b, 0, 90 * p, p);
	EXPECT_REFUSED(EINVAL, a, b, 0, 89 * p, 2 * p);
	EXPECT_REFUSED(EINVAL, a, a, 50 * p, 51 * p, 50 * p);
	EXPECT_REFUSED(EINVAL, a, a, 51 * p, 50 * p, 50 * p);
	for (i = 0; i < 4; i++) {
		EXPECT_REFUSED(EINVAL, b, a, big[i], 0, p);
		EXPECT_REFUSED(EINVAL, b, a, 0, big[i], p);
		EXPECT_REFUSED(EINVAL, b, a, 0, 0, big[i]);
		EXPECT_REFUSED(EINVAL, b, a, p, 2 * p, big[i]);
		EXPECT_REFUSED(EINVAL, b, a, big[i], big[i], big[i]);
		EXPECT_REFUSED(EINVAL, b, a, 2 * p, 2 * p, -p);
	}
	EXPECT_REFUSED(EINVAL, region(), a, 0, 0, p);
	EXPECT_REFUSED(EINVAL, b, region(), 0, 0, p);
}

TEST_F(refused, seals)
{
	int to = region_of(10, 3), grown = region_of(10, 4);
	int snap = snapshot(to);

	ASSERT_EQ(0, do_seal(to, COWMEM_SEAL_WRITE));
	EXPECT_REFUSED(EPERM, to, self->a.fd, 0, 0, pgsz());
	EXPECT_REFUSED(EPERM, to, to, 0, pgsz(), pgsz());
	/* What is wrong with the range comes first. */
	EXPECT_REFUSED(EINVAL, to, self->a.fd, 0, 0, 11 * pgsz());
	EXPECT_TRUE(fd_is(to, 0, 10, 3));
	/* Seals on the size do not matter, and a source may be sealed. */
	ASSERT_EQ(0, do_seal(grown, COWMEM_SEAL_GROW | COWMEM_SEAL_SHRINK |
			     COWMEM_SEAL_SEAL));
	EXPECT_EQ(0, do_copy(grown, to, 0, 5, 5));
	EXPECT_EQ(0, do_copy(grown, snap, 5, 0, 5));
	EXPECT_TRUE(fd_is_as(grown, 0, 3, 5));
	EXPECT_TRUE(fd_is_as(grown, 9, 3, 4));
	/* A snapshot is not written. */
	EXPECT_REFUSED(EBADF, snap, self->a.fd, 0, 0, pgsz());
	EXPECT_REFUSED(EBADF, snap, snap, 0, pgsz(), pgsz());
	EXPECT_TRUE(fd_is(snap, 0, 10, 3));
}

TEST_F(refused, descriptors)
{
	int rd = open(COWMEM_DEV, O_RDONLY), wr = open(COWMEM_DEV, O_WRONLY);
	int null = open("/dev/zero", O_RDWR), gone = dup(self->a.fd), pipes[2];
	int a = self->a.fd;
	uint64_t p = pgsz();

	ASSERT_EQ(0, pipe(pipes));
	close(gone);
	ASSERT_EQ(0, do_resize(wr, 10 * p));
	EXPECT_REFUSED(EBADF, rd, a, 0, 0, p);
	EXPECT_REFUSED(EBADF, a, wr, 0, 0, p);
	EXPECT_REFUSED(EBADF, wr, wr, 0, p, p);
	EXPECT_REFUSED(EBADF, a, null, 0, 0, p);
	EXPECT_REFUSED(EBADF, a, pipes[0], 0, 0, p);
	EXPECT_REFUSED(EBADF, a, gone, 0, 0, p);
	EXPECT_REFUSED(EBADF, a, -1, 0, 0, p);
	EXPECT_REFUSED(EBADF, a, INT32_MAX, 0, 0, p);
	EXPECT_REFUSED(ENOTTY, null, a, 0, 0, p);
	/* The target need not be readable: somebody else may read it. */
	EXPECT_EQ(0, do_copy(wr, self->b.fd, 0, 10, 10));
	close(wr);
	self->info[1] = info(self->b.fd);
}

TEST_F(refused, flags_and_structs)
{
	struct cowmem_copy arg;
	unsigned int bit;
	struct {
		struct cowmem_copy arg;
		uint64_t tail;
	} longer = {};

	for (bit = 0; bit < 32; bit++) {
		arg = (struct cowmem_copy) {
			.fd = self->a.fd, .flags = 1U << bit, .length = pgsz(),
		};
		EXPECT_EQ(-1, ioctl(self->b.fd, COWMEM_IOC_COPY, &arg));
		EXPECT_EQ(EOPNOTSUPP, errno);
	}
	EXPECT_EQ(-1, ioctl(self->b.fd, COWMEM_IOC_COPY, NULL));
	EXPECT_EQ(EFAULT, errno);
	longer.arg.fd = self->a.fd;
	longer.arg.length = pgsz();
	longer.tail = 1;
	EXPECT_EQ(-1, ioctl(self->b.fd, _IOWR(COWMEM_IOC_TYPE, 7, longer),
			    &longer));
	EXPECT_EQ(E2BIG, errno);
	EXPECT_EQ(-1, ioctl(self->b.fd, _IOC(_IOC_READ | _IOC_WRITE,
					     COWMEM_IOC_TYPE, 7, 24), &arg));
	EXPECT_EQ(EINVAL, errno);
}

/* There is nothing to answer, so the struct may be read-only. */
TEST(argument_is_only_read)
{
	struct cowmem_copy *arg = (void *)anon(1);
	int a = region_of(10, 1), b = region_of(10, 2);

	*arg = (struct cowmem_copy) { .fd = a, .length = pgsz() };
	ASSERT_EQ(0, mprotect(arg, pgsz(), PROT_READ));
	EXPECT_EQ(0, ioctl(b, COWMEM_IOC_COPY, arg));
	EXPECT_TRUE(fd_is(b, 0, 1, 1));
	EXPECT_TRUE(fd_is(b, 1, 9, 2));
}

/* ---- while others look and write ---- */

enum { LIVE_PAGES = 200 };

FIXTURE(live) {
	struct live *live;
};

FIXTURE_VARIANT(live) {
	size_t shift;	/* where the pages are in the source */
	bool within;	/* one region */
};

FIXTURE_VARIANT_ADD(live, nodes) { .shift = 0 };
FIXTURE_VARIANT_ADD(live, pages) { .shift = 3 };
FIXTURE_VARIANT_ADD(live, within_nodes) { .shift = 256, .within = true };
FIXTURE_VARIANT_ADD(live, within_pages) { .shift = 201, .within = true };

FIXTURE_SETUP(live)
{
	self->live = shared_mem(sizeof(*self->live));
}

FIXTURE_TEARDOWN(live)
{
}

TEST_F(live, readers_see_all_or_nothing)
{
	int fd = region_of(600, 0), ones = variant->within ? fd : region(), i;
	char *mem = map_rw(fd, 600);
	char *one = variant->within ? mem : map_rw(ones, 600);
	int zeroes = region_of(LIVE_PAGES, 0), round;
	struct live *live = self->live;
	struct users readers = { .live = live, .user = {
		{ .fd = fd, .pages = LIVE_PAGES, .mem = mem, .rng = 1 },
		{ .fd = fd, .pages = LIVE_PAGES, .mem = mem, .rng = 2, .call = 1 },
		{ .fd = fd, .pages = LIVE_PAGES, .rng = 3 },
	} };
	double end = now() + effort(8);

	/* Holes and pages of zeroes. */
	fill(map_rw(zeroes, LIVE_PAGES), 70, 0, 0);
	for (i = 0; i < LIVE_PAGES; i++)
		one[(i + variant->shift) * pgsz()] = 1;
	live->phase = 1;
	users_start(&readers, see_pages_turn);
	for (round = 1; round <= 100 && (round < 10 || now() < end); round++) {
		ASSERT_EQ(0, do_copy(fd, zeroes, 0, 0, LIVE_PAGES));
		put(&live->phase, 2 * round);
		usleep(500);
		ASSERT_EQ(0, do_copy(fd, ones, 0, variant->shift, LIVE_PAGES));
		usleep(500);
		put(&live->phase, 2 * round + 1);
	}
	EXPECT_EQ(0, users_stop(&readers));
	EXPECT_EQ(0, live->trouble);
	EXPECT_LT(100, live->looked);
}

/* A source that is written meanwhile: the copy is a consistent cut of it. */
TEST_F(live, source_is_cut_at_once)
{
	int fd = region_of(600, 0), src = variant->within ? fd : region_of(600, 0);
	struct live *live = self->live;
	char *mem = map_rw(fd, 600), *there = map_rw(src, 600);
	struct user w = {
		.live = live, .fd = src, .mem = there, .call = 3, .ring = variant->shift,
	};
	pthread_t thread;
	uint64_t last = 0;
	int n, k;

	must(!pthread_create(&thread, NULL, write_ring, &w));
	await(&live->ready, 1);
	for (n = 0; n < effort(150); n++) {
		uint64_t before, after, top;

		usleep(1000);
		before = last_done(live, 0);
		ASSERT_EQ(0, do_copy(fd, src, 0, variant->shift, RING));
		after = last_done(live, 0) + 1;
		for (k = 0; k < 2; k++) {
			top = ring_top(mem, 0);
			ASSERT_LE(before, top);
			ASSERT_GE(after, top);
			ASSERT_LE(last, top);
			if (k)
				ASSERT_EQ(last, top);
			last = top;
			ASSERT_TRUE(ring_is(mem, 0, top))
				TH_LOG("round %d", n);
		}
	}
	await_count(&live->done[0], 101);
	put(&live->stop, 1);
	pthread_join(thread, NULL);
	for (n = 0; n < RING; n++)
		EXPECT_LT(0, load(there, variant->shift + n));
}

static int copy_all(int fd, int from)
{
	return do_copy(fd, from, 0, 0, 64);
}

TEST(no_stale_mapping)
{
	EXPECT_TRUE(no_mapping_goes_stale(region_of(64, 1), region_of(64, 2), copy_all));
}

/* Two regions copied to each other, from both sides at once: no deadlock. */
struct swapper {
	int a, b, *stop, n;
};

static void *copies(void *arg)
{
	struct swapper *s = arg;

	while (!get(s->stop)) {
		must(!do_copy(s->a, s->b, s->n % 7, s->n % 5, 150));
		s->n++;
	}
	return NULL;
}

TEST(each_other)
{
	int a = region_of(200, 1), b = region_of(200, 2), stop = 0, i;
	struct swapper s[3] = {
		{ a, b, &stop, 0 }, { b, a, &stop, 0 }, { a, a, &stop, 0 },
	};
	char *mem = map_rw(a, 200), *there = map_rw(b, 200);
	pthread_t thread[3];

	for (i = 0; i < 3; i++)
		must(!pthread_create(&thread[i], NULL, copies, &s[i]));
	for (i = 0; i < effort(300); i++) {
		pg_fill((i % 2 ? mem : there) + i % 200 * pgsz(), i, 0);
		close(cloned(i % 2 ? a : b));
	}
	for (i = 0; i < 3; i++)
		await(&s[i].n, 11);
	put(&stop, 1);
	for (i = 0; i < 3; i++)
		pthread_join(thread[i], NULL);
	EXPECT_EQ(200, info(a).pages_populated);
	EXPECT_EQ(200, info(b).pages_populated);
}

/* ---- everything at random ---- */

enum { REGIONS = 3, SIZE = 900 };

TEST(random_model)
{
	static const uint64_t units[] = { 1, 64, 64, 64 };
	int ops = random_ops(4000);
	struct shadow s[REGIONS];
	uint64_t copies = 0;
	int n, i;

	rng_init();
	for (i = 0; i < REGIONS; i++)
		shadow_init(&s[i], SIZE);
	for (n = 0; n < ops; n++) {
		struct shadow *a = &s[below(REGIONS)], *b = &s[below(REGIONS)];
		uint64_t at = below(SIZE), len = 1 + below(below(4) ? 6 : 200), k;
		unsigned int what = below(100);

		if (len > SIZE - at)
			len = SIZE - at;
		if (what < 30) {
			for (k = 0; k < len && k < 20; k++)
				shadow_write(a, at + k, 1 + below(1000), false);
		} else if (what < 45) {
			for (k = 0; k < len && k < 20; k++)
				shadow_write(a, at + k, 1 + below(1000), true);
		} else if (what < 70) {
			uint64_t unit = units[below(4)], dst;

			dst = (at + below(SIZE) / unit * unit) % SIZE;
			if (!below(4)) {
				/* Just beside itself. */
				b = a;
				dst = at + below(5);
			}
			if (!below(3))
				len = SIZE;
			if (len > SIZE - at)
				len = SIZE - at;
			if (dst >= SIZE)
				continue;
			if (len > SIZE - dst)
				len = SIZE - dst;
			ASSERT_EQ(0, do_copy(b->fd, a->fd, dst, at, len));
			shadow_move(b, dst, a, at, len);
			copies++;
		} else if (what < 76) {
			shadow_discard(a, at, len);
		} else if (what < 80 && a != b) {
			struct cowmem_restore arg = { .fd = a->fd };
			uint64_t want = 0;

			for (k = 0; k < SIZE; k++)
				want += a->at[k] != b->at[k];
			ASSERT_EQ(0, ioctl(b->fd, COWMEM_IOC_RESTORE, &arg));
			ASSERT_EQ(want, arg.pages)
				TH_LOG("operation %d", n);
			shadow_move(b, 0, a, 0, SIZE);
		} else if (what < 84 && a != b) {
			shadow_end(b);
			shadow_clone(b, a, 0, 0);
		} else if (what < 87) {
			close(snapshot(a->fd));
		} else {
			ASSERT_TRUE(shadow_check(a))
				TH_LOG("operation %d", n);
		}
	}
	for (i = 0; i < REGIONS; i++)
		ASSERT_TRUE(shadow_check_fd(&s[i]));
	for (i = 0; i < REGIONS; i++)
		shadow_end(&s[i]);
	TH_LOG("%llu copies", (unsigned long long)copies);
}

/* "All up to the end" may be more than fits. */
TEST(nothing_goes_past_the_largest_offset)
{
	int fd = region_of(4, 1), dev = region_of(1, 2);
	struct cowmem_file from = {}, to = {};
	struct file_clone_range arg = {};

	ASSERT_EQ(0, ioctl(fd, COWMEM_IOC_FILE, &from));
	ASSERT_EQ(0, ioctl(dev, COWMEM_IOC_FILE, &to));
	arg.src_fd = from.fd;
	arg.dest_offset = INT64_MAX & ~(pgsz() - 1);
	EXPECT_EQ(-1, ioctl(to.fd, FICLONERANGE, &arg));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(1, info(dev).pages_populated);
}

TEST_HARNESS_MAIN
