// SPDX-License-Identifier: GPL-2.0-only
/*
 * Promise: whatever is done to regions in whatever order, each holds what an
 * array of bytes would hold, in its mapping and to read().
 *
 * COWMEM_SEED=N replays a run, COWMEM_OPS=N makes it longer.
 */
#include "../kselftest_harness.h"
#include "common.h"

/* A leaf and a bit, so that some pages are in a second one. */
enum { REGIONS = 6, MAX_PAGES = 80 };

#define MAX (MAX_PAGES * pgsz())

struct model {
	int fd;
	uint32_t flags;		/* COWMEM_CLONE_SNAPSHOT, or 0 */
	uint32_t seals;
	uint64_t size;
	char *mem;		/* a mapping, also past the end */
	char *want;		/* MAX bytes, zeroes past the end */
};

static struct model models[REGIONS];
static struct cowmem_merge_entry table[128];
static char *buf;
/* What was done, for whoever has to find out why it was wrong. */
static char done[200];
static uint64_t did_keep, did_merge, did_refuse, did_diff;

#define SAY(...) snprintf(done, sizeof(done), __VA_ARGS__)

static int nr(const struct model *m)
{
	return m - models;
}

static bool writable(const struct model *m)
{
	return !m->flags && !(m->seals & COWMEM_SEAL_WRITE);
}

/* A mapping lets a region grow; but that is not what is wanted here. */
static void model_map(struct model *m)
{
	m->mem = writable(m) ? map_rw(m->fd, MAX_PAGES) :
			       map_ro(m->fd, MAX_PAGES);
	if (!m->flags)
		must(!do_resize(m->fd, m->size));
}

static void model_set(struct model *m, int fd, uint32_t flags, uint64_t size,
		      const char *want)
{
	if (m->mem) {
		unmap(m->mem, MAX_PAGES);
		close(m->fd);
	}
	m->fd = fd;
	m->flags = flags;
	m->seals = 0;
	m->size = size;
	memset(m->want, 0, MAX);
	memcpy(m->want, want, size);
	model_map(m);
}

static struct model *any(void)
{
	return &models[below(REGIONS)];
}

/* Sizes are odd, but often enough some of them are equal. */
static uint64_t any_size(void)
{
	switch (below(4)) {
	case 0:
		return 64 * pgsz();
	case 1:
		return below(MAX_PAGES + 1) * pgsz();
	case 2:
		return any()->size;
	default:
		return below(MAX + 1);
	}
}

/* Something to write: often what others write, too, so that pages are equal. */
static void any_bytes(size_t n)
{
	size_t i;

	if (below(3)) {
		memset(buf, below(4), n);
		return;
	}
	for (i = 0; i < n; i++)
		buf[i] = rng();
}

/* Where does it differ from what it should be?  To the end of the region. */
static bool same(const struct model *m, const char *got, const char *how)
{
	size_t i;

	if (!memcmp(got, m->want, m->size))
		return true;
	for (i = 0; got[i] == m->want[i]; i++)
		;
	fprintf(stderr, "# %s of region %d: page %zu byte %#zx is %02x, not %02x\n",
		how, nr(m), i / pgsz(), i % pgsz(), got[i] & 255,
		m->want[i] & 255);
	return false;
}

/* ---- what can be done ---- */

static void op_store(void)
{
	struct model *m = any();
	uint64_t at, n;

	if (!writable(m) || !any_range(m->size, &at, &n))
		return;
	SAY("store %d: %#llx bytes at %#llx", nr(m), (unsigned long long)n,
	    (unsigned long long)at);
	any_bytes(n);
	memcpy(m->mem + at, buf, n);
	memcpy(m->want + at, buf, n);
}

static void op_write(void)
{
	struct model *m = any();
	uint64_t at, n;
	bool grow = !below(6);
	ssize_t ret;

	if (m->flags || !any_range(grow ? MAX : m->size, &at, &n))
		return;
	SAY("write %d: %#llx bytes at %#llx", nr(m), (unsigned long long)n,
	    (unsigned long long)at);
	any_bytes(n);
	ret = pwrite(m->fd, buf, n, at);
	if (!writable(m)) {
		must(ret == -1 && errno == EPERM);
		return;
	}
	must(ret == (ssize_t)n);
	memcpy(m->want + at, buf, n);
	if (at + n > m->size)
		m->size = at + n;
}

static void op_discard(void)
{
	struct model *m = any();
	uint64_t at, n;

	if (m->flags || !any_range(m->size, &at, &n))
		return;
	SAY("discard %d: %#llx bytes at %#llx", nr(m), (unsigned long long)n,
	    (unsigned long long)at);
	if (do_discard(m->fd, at, n)) {
		must(errno == EPERM && !writable(m));
		return;
	}
	must(writable(m));
	memset(m->want + at, 0, n);
}

/* A seal on writing leaves the size alone. */
static void resize_to(struct model *m, uint64_t size)
{
	must(!do_resize(m->fd, size));
	if (size < m->size)
		memset(m->want + size, 0, m->size - size);
	m->size = size;
}

static void op_resize(void)
{
	struct model *m = any();
	uint64_t size = any_size();

	if (m->flags)
		return;
	SAY("resize %d: %#llx", nr(m), (unsigned long long)size);
	resize_to(m, size);
}

static void op_clone(void)
{
	struct model *m = any(), *to = any();
	uint32_t flags = below(3) ? 0 : COWMEM_CLONE_SNAPSHOT;
	uint64_t first = 0, n = 0, end, size = m->size;
	char *want;
	int fd;

	if (!below(3) && m->size >= pgsz()) {
		end = m->size / pgsz();
		first = below(end) * pgsz();
		n = (1 + below(end - first / pgsz())) * pgsz();
		size = n;
	}
	SAY("%s %d as %d: %#llx bytes from %#llx", flags ? "snapshot" : "clone",
	    nr(m), nr(to), (unsigned long long)n, (unsigned long long)first);
	fd = do_clone(m->fd, flags, first, n);
	must(fd >= 0);
	want = malloc(size + 1);
	memcpy(want, m->want + first, size);
	model_set(to, fd, flags, size, want);
	free(want);
}

static void op_clone_many(void)
{
	uint32_t flags = below(3) ? 0 : COWMEM_CLONE_SNAPSHOT;
	unsigned int n = 1 + below(3), first = below(REGIONS), i;
	int fds[3], clones[3] = { -1, -1, -1 };
	struct cowmem_clone_many arg = {
		.fds = (uintptr_t)fds, .clones = (uintptr_t)clones,
		.count = n, .flags = flags,
	};
	struct model *from[3];
	uint64_t size[3];
	char *want[3];

	for (i = 0; i < n; i++) {
		from[i] = any();	/* maybe twice */
		fds[i] = from[i]->fd;
	}
	SAY("clone_many %d %d %d (%u of them) as %u and on", nr(from[0]),
	    n > 1 ? nr(from[1]) : -1, n > 2 ? nr(from[2]) : -1, n, first);
	must(!ioctl(any()->fd, COWMEM_IOC_CLONE_MANY, &arg));
	for (i = 0; i < n; i++) {
		size[i] = from[i]->size;
		want[i] = malloc(size[i] + 1);
		memcpy(want[i], from[i]->want, size[i]);
	}
	for (i = 0; i < n; i++) {
		model_set(&models[(first + i) % REGIONS], clones[i], flags,
			  size[i], want[i]);
		free(want[i]);
	}
}

static void restore(struct model *m, struct model *from, uint32_t flags)
{
	struct cowmem_restore arg = { .fd = from->fd, .flags = flags };
	int ret = ioctl(m->fd, COWMEM_IOC_RESTORE, &arg), err;

	err = m->flags ? EBADF : !writable(m) ? EPERM :
	      m->size != from->size ? EINVAL : 0;
	if (ret ? errno != err : err) {
		fprintf(stderr, "# RESTORE: %s, not %s\n",
			strerror(ret ? errno : 0), strerror(err));
		exit(KSFT_FAIL);
	}
	if (ret) {
		did_refuse++;
		return;
	}
	memcpy(m->want, from->want, MAX);
	did_keep += arg.kept;
}

static void op_restore(void)
{
	struct model *m = any(), *from = any();
	uint32_t flags = below(2) ? COWMEM_RESTORE_KEEP : 0;

	if (!m->flags && below(8))
		resize_to(m, from->size);
	SAY("restore %d from %d, flags %u", nr(m), nr(from), flags);
	restore(m, from, flags);
}

/* A few rounds of the same, as KEEP is made for. */
static void op_keep(void)
{
	struct model *m = any(), *from = any();
	int round, rounds = 1 + below(below(4) ? 4 : 40), i;

	if (!writable(m) || m == from || writable(from))
		return;
	SAY("keep %d from %d, %d rounds", nr(m), nr(from), rounds);
	resize_to(m, from->size);
	for (round = 0; round < rounds; round++) {
		for (i = below(6); i && m->size; i--)
			m->mem[below(m->size)] = rng();
		restore(m, from, COWMEM_RESTORE_KEEP);
		/* The next round would hide it. */
		must(same(m, m->mem, "the mapping"));
	}
}

static void op_copy(void)
{
	struct model *m = any(), *from = any();
	uint64_t src = below(MAX_PAGES), dst = below(MAX_PAGES);
	uint64_t n = 1 + below(below(4) ? 5 : MAX_PAGES);
	struct cowmem_copy arg = { .fd = from->fd };
	int ret, err;

	if (below(2)) {
		/* As most calls do, it fits. */
		src = below(from->size / pgsz() + 1);
		dst = below(3) ? src : below(m->size / pgsz() + 1);
		if (n > from->size / pgsz() - src)
			n = from->size / pgsz() - src;
		if (n > m->size / pgsz() - dst)
			n = m->size / pgsz() - dst;
	}
	SAY("copy %d from %d: %llu pages from %llu to %llu", nr(m), nr(from),
	    (unsigned long long)n, (unsigned long long)src,
	    (unsigned long long)dst);
	arg.src_offset = src * pgsz();
	arg.dst_offset = dst * pgsz();
	arg.length = n * pgsz();
	ret = ioctl(m->fd, COWMEM_IOC_COPY, &arg);
	err = m->flags ? EBADF : !n || n > MAX_PAGES ||
	      arg.src_offset + arg.length > from->size ||
	      arg.dst_offset + arg.length > m->size ? EINVAL :
	      !writable(m) ? EPERM : 0;
	/* Which of several errors it is, is not said. */
	if (!ret != !err || (ret && errno != err && !m->flags)) {
		fprintf(stderr, "# COPY: %s, not %s\n",
			strerror(ret ? errno : 0), strerror(err));
		exit(KSFT_FAIL);
	}
	if (ret) {
		did_refuse++;
		return;
	}
	memmove(m->want + arg.dst_offset, from->want + arg.src_offset,
		arg.length);
}

static void op_merge(void)
{
	struct cowmem_merge_range range[4];
	struct cowmem_merge arg = {
		.ranges = (uintptr_t)range, .count = 1 + below(4),
		.table = (uintptr_t)table, .entries = ARRAY_SIZE(table),
		.budget = below(3) ? 0 : 1 + below(50),
	};
	bool sealed = false, snap = false;
	unsigned int i;
	int ret;

	memset(range, 0, sizeof(range));
	for (i = 0; i < arg.count; i++) {
		struct model *m = any();

		range[i].fd = m->fd;
		sealed = sealed || m->seals & COWMEM_SEAL_WRITE;
		snap = snap || m->flags;
		if (below(2))
			continue;
		range[i].offset = below(MAX_PAGES) * pgsz();
		range[i].length = below(MAX_PAGES) * pgsz();
	}
	/* The table goes from call to call, or is new. */
	if (!below(3))
		memset(table, 0, sizeof(table));
	SAY("merge %u ranges", arg.count);
	ret = ioctl(any()->fd, COWMEM_IOC_MERGE, &arg);
	if (sealed || snap) {
		must(ret && ((snap && errno == EBADF) ||
			     (sealed && errno == EPERM)));
		did_refuse++;
		return;
	}
	must(!ret);
	did_merge += arg.merged + arg.zeroed;
}

/* What DIFF says about each page is what the models say. */
static void op_diff(void)
{
	struct model *a = any(), *b = any();
	uint32_t flags = below(2) ? COWMEM_DIFF_CONTENT : 0;
	unsigned int count = 1 + below(20), i;
	struct cowmem_extent e[20];
	struct cowmem_diff arg = {
		.fd = b->fd, .flags = flags, .extents = (uintptr_t)e,
	};
	bool differs[MAX_PAGES] = {};
	uint64_t page;

	SAY("diff %d and %d, flags %u, %u at a time", nr(a), nr(b), flags,
	    count);
	do {
		arg.count = count;
		must(!ioctl(a->fd, COWMEM_IOC_DIFF, &arg));
		for (i = 0; i < arg.count; i++) {
			uint64_t end = (e[i].offset + e[i].length) / pgsz();

			for (page = e[i].offset / pgsz(); page < end; page++) {
				must(page < MAX_PAGES && !differs[page]);
				differs[page] = true;
			}
		}
	} while (arg.count == count);
	for (page = 0; page < MAX_PAGES; page++) {
		bool same = !memcmp(a->want + page * pgsz(),
				    b->want + page * pgsz(), pgsz());

		/* Without the flag, equal pages may differ. */
		if (flags ? differs[page] == same : !differs[page] && !same) {
			fprintf(stderr, "# DIFF says that page %llu %s\n",
				(unsigned long long)page,
				differs[page] ? "differs" : "does not differ");
			exit(KSFT_FAIL);
		}
		did_diff += differs[page];
	}
}

static void op_seal(void)
{
	struct model *m = any();

	if (!writable(m))
		return;
	SAY("seal %d", nr(m));
	unmap(m->mem, MAX_PAGES);
	must(!do_seal(m->fd, COWMEM_SEAL_WRITE));
	m->seals = COWMEM_SEAL_WRITE;
	model_map(m);
}

static void op_remap(void)
{
	struct model *m = any();

	SAY("remap %d", nr(m));
	unmap(m->mem, MAX_PAGES);
	model_map(m);
}

/* How often each is done, in a hundred. */
static const struct {
	void (*op)(void);
	unsigned int weight;
} ops[] = {
	{ op_store, 20 }, { op_write, 14 }, { op_discard, 6 }, { op_resize, 6 },
	{ op_clone, 7 }, { op_clone_many, 4 }, { op_restore, 10 },
	{ op_keep, 6 }, { op_copy, 10 }, { op_merge, 8 }, { op_diff, 6 },
	{ op_seal, 1 }, { op_remap, 2 },
};

/* ---- is it so? ---- */

static bool check(const struct model *m)
{
	struct cowmem_info i = info(m->fd);
	size_t tail = m->size % pgsz();

	if (i.size != m->size ||
	    i.pages_populated != i.pages_exclusive + i.pages_shared ||
	    i.pages_populated * pgsz() >= m->size + pgsz()) {
		fprintf(stderr, "# region %d: size %llu, not %llu; %llu + %llu of %llu pages\n",
			nr(m), (unsigned long long)i.size,
			(unsigned long long)m->size,
			(unsigned long long)i.pages_exclusive,
			(unsigned long long)i.pages_shared,
			(unsigned long long)i.pages_populated);
		return false;
	}
	if (pread(m->fd, buf, MAX, 0) != (ssize_t)m->size) {
		fprintf(stderr, "# region %d: short read\n", nr(m));
		return false;
	}
	/* The rest of the last page can be seen, and is zero. */
	if (tail && memcmp(m->mem + m->size, m->want + m->size, pgsz() - tail)) {
		fprintf(stderr, "# region %d: not zero past the end\n", nr(m));
		return false;
	}
	return same(m, buf, "read()") && same(m, m->mem, "the mapping");
}

/* Has each thing that it is about been done? */
static bool all_done(void)
{
	bool keeps = info(models[0].fd).features & COWMEM_FEATURE_KEEP;

	return did_merge && did_diff && did_refuse && (did_keep || !keeps);
}

TEST(random_forest)
{
	int steps = random_ops(1500);
	int step, i, r;

	rng_init();
	buf = anon(MAX_PAGES);
	for (r = 0; r < REGIONS; r++) {
		models[r].want = anon(MAX_PAGES);
		model_set(&models[r], region(), 0, 0, "");
	}
	for (step = 0; step < steps || (!all_done() && step < 10 * steps); step++) {
		unsigned int at = below(100);

		for (i = 0; at >= ops[i].weight; i++)
			at -= ops[i].weight;
		done[0] = 0;
		ops[i].op();
		for (r = 0; r < REGIONS; r++)
			ASSERT_TRUE(check(&models[r]))
				TH_LOG("step %d: %s", step, done);
	}
	TH_LOG("%llu pages kept, %llu merged, %llu differed, %llu calls refused",
	       (unsigned long long)did_keep, (unsigned long long)did_merge,
	       (unsigned long long)did_diff, (unsigned long long)did_refuse);
	EXPECT_TRUE(all_done());
}

TEST_HARNESS_MAIN
