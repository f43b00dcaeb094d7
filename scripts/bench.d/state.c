// SPDX-License-Identifier: GPL-2.0-only
/*
 * Cases about the state of a region: going back to it, finding what changed, and
 * what it takes to have many of them
 *
 * All of them count instructions.
 */
#include <sys/resource.h>

#include "bench.h"

/* How many pages a small change is, and an array that is larger than that. */
#define CHANGES		100
#define EXTENTS		128

static void check_page(const char *mem, unsigned long page, unsigned int head)
{
	check(mem + page * PAGE, page, 1, head, 1);
}

/* ---- reset_cycle, reset_mixed, reset_random, restore_plain ---- */

/* How many pages each round reads, evenly spaced, and how many it then writes. */
#define READS		512
#define WRITES		64

/* KEEP looks for cold pages every 16 rounds: both are multiples of that. */
#define WARM_ROUNDS	64
#define ROUNDS		64

/*
 * Which pages are written: the first @nr_fixed are the same in every round, and
 * among those that are read, the others are drawn anew.  Reads are dear for a
 * private mapping, which loses all its PTEs: without them the case is only about
 * the writes.
 */
static struct {
	unsigned long pages[WRITES];
	unsigned int nr_fixed;
	bool unread;
} writes;

static void choose_writes(const struct bench_case *c, unsigned long n)
{
	writes.nr_fixed = WRITES;
	if (strstr(c->name, "mixed"))
		writes.nr_fixed = 56;
	else if (strstr(c->name, "random"))
		writes.nr_fixed = 0;
	writes.unread = strstr(c->name, "unread");
	for (unsigned int i = 0; i < WRITES; i++)
		writes.pages[i] = n / WRITES * i;
}

/* A random page may be drawn twice, or be a fixed one. */
static unsigned int nr_written(void)
{
	unsigned int n = 0;

	for (unsigned int i = 0, k; i < WRITES; i++) {
		for (k = 0; k < i && writes.pages[k] != writes.pages[i];)
			k++;
		n += k == i;
	}
	return n;
}

/* It reads every page that was written the last time: were they all reset? */
static bool work_reads(const char *mem, unsigned long n)
{
	uint64_t wrong = 0;

	for (unsigned long page = 0; page < n; page += n / READS)
		wrong |= peek(mem, page) ^ word_of(1, page);
	for (unsigned int i = writes.nr_fixed; i < WRITES; i++)
		wrong |= peek(mem, writes.pages[i]) ^ word_of(1, writes.pages[i]);
	return !wrong;
}

/* What the program does between two resets.  @n is a power of 2. */
static bool work(char *mem, unsigned long n, unsigned int tag)
{
	bool right = writes.unread || work_reads(mem, n);

	for (unsigned int i = writes.nr_fixed; i < WRITES; i++)
		writes.pages[i] = rng() & (n - 1);
	for (unsigned int i = 0; i < WRITES; i++)
		poke(mem, writes.pages[i], tag);
	return right;
}

/* What is measured must not take a fault of its own, and takes none once warm. */
static void reset_rounds(const struct bench_case *c, unsigned int mib, char *mem,
			 bool (*reset)(char *mem, unsigned long n))
{
	unsigned long n = pages_of(mib);
	struct counts counts;
	bool right = true;

	choose_writes(c, n);
	/* Have what measures mapped and writable, too. */
	start();
	stop();
	for (unsigned int i = 0; i < WARM_ROUNDS; i++)
		right = work(mem, n, 2 + i) && reset(mem, n) && right;
	start();
	for (unsigned int i = 0; i < ROUNDS; i++)
		right = work(mem, n, 2 + i) && reset(mem, n) && right;
	counts = stop();
	if (!right)
		die("%s: a page was not reset", c->name);
	check(mem, 0, n, 1, 1);
	record_counts(c, mib, counts, ROUNDS);
}

static int reset_fd;
static struct cowmem_restore reset_args;

static bool reset_region(char *mem, unsigned long n)
{
	return !ioctl(reset_fd, COWMEM_IOC_RESTORE, &reset_args);
}

static void run_reset_cowmem(const struct bench_case *c, unsigned int mib)
{
	bool keep = strcmp(c->name, "restore_plain");
	unsigned long n = pages_of(mib);
	char *mem;

	reset_fd = new_region(n);
	mem = map_rw(reset_fd, n);
	fill(mem, 0, n, 1);
	reset_args.fd = clone_of(reset_fd, COWMEM_CLONE_SNAPSHOT);
	reset_args.flags = keep ? COWMEM_RESTORE_KEEP : 0;
	reset_rounds(c, mib, mem, reset_region);

	/* It would be no reset if it did not find the pages. */
	if (reset_args.pages < nr_written())
		die("%s: %llu pages reset", c->name, reset_args.pages);
	/* What is written once is better given back, so that is up to the module. */
	if (writes.nr_fixed == WRITES && keep != !!reset_args.kept)
		die("%s: %llu pages kept", c->name, reset_args.kept);
}

static bool reset_private(char *mem, unsigned long n)
{
	return !madvise(mem, n * PAGE, MADV_DONTNEED);
}

static void run_reset_memfd(const struct bench_case *c, unsigned int mib)
{
	unsigned long n = pages_of(mib);
	int fd = new_memfd(n);
	char *mem = map_rw(fd, n);

	fill(mem, 0, n, 1);
	must(!munmap(mem, n * PAGE));
	mem = map_file(fd, n, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	reset_rounds(c, mib, mem, reset_private);
}

/* ---- diff ---- */

/* The changed pages, far from each other all over @n pages. */
static unsigned long changed_page(unsigned long n, unsigned int i)
{
	return n / CHANGES * i + i % 7;
}

static void change(char *mem, unsigned long n, unsigned int tag)
{
	for (unsigned int i = 0; i < CHANGES; i++)
		poke(mem, changed_page(n, i), tag);
}

/* Take the difference of @fd and @other; it must be the changed pages of @n. */
static struct counts take_diff(int fd, int other, unsigned long n)
{
	static struct cowmem_extent extents[EXTENTS];
	struct cowmem_diff diff = {
		.fd = other,
		.extents = (uintptr_t)extents,
		.count = EXTENTS,
	};
	struct counts counts;

	memset(extents, 0xff, sizeof(extents));	/* have them mapped */
	start();
	must(!ioctl(fd, COWMEM_IOC_DIFF, &diff));
	counts = stop();
	if (diff.count != CHANGES)
		die("DIFF found %u extents", diff.count);
	for (unsigned int i = 0; i < CHANGES; i++) {
		if (extents[i].offset != changed_page(n, i) * PAGE ||
		    extents[i].length != PAGE || extents[i].kind != COWMEM_EXTENT_DATA)
			die("DIFF: extent %u is wrong", i);
	}
	return counts;
}

static void run_diff_cowmem(const struct bench_case *c, unsigned int mib)
{
	unsigned long n = pages_of(mib);
	int fd = new_region(n);
	char *mem = map_rw(fd, n);
	int before, after;

	fill(mem, 0, n, 1);
	before = clone_of(fd, COWMEM_CLONE_SNAPSHOT);
	change(mem, n, 2);
	after = clone_of(fd, COWMEM_CLONE_SNAPSHOT);
	take_diff(after, before, n);			/* warm */
	record_counts(c, mib, take_diff(after, before, n), 1);
}

/* Blocks in which memcmp() looks for a difference, before it looks at pages. */
#define BLOCK	16UL

static void run_diff_memcmp(const struct bench_case *c, unsigned int mib)
{
	unsigned long n = pages_of(mib);
	/* Fully mapped: how, makes no difference to memcmp(). */
	char *before = map_anon(n, true), *after = map_anon(n, true);
	unsigned int found = 0;

	fill(before, 0, n, 1);
	fill(after, 0, n, 1);
	change(after, n, 2);
	start();
	for (unsigned long block = 0; block < n; block += BLOCK) {
		unsigned long at = block * PAGE;

		if (!memcmp(before + at, after + at, BLOCK * PAGE))
			continue;
		for (; at < (block + BLOCK) * PAGE; at += PAGE) {
			if (memcmp(before + at, after + at, PAGE))
				found++;
		}
	}
	record_counts(c, mib, stop(), 1);
	if (found != CHANGES)
		die("memcmp() found %u pages", found);
}

/* ---- growth ---- */

/* The change is the same for all sizes, in the first of them. */
#define GROWTH_PAGES	pages_of(64)
#define GROWTH_ROUNDS	8

static void run_growth(const struct bench_case *c, unsigned int mib)
{
	struct counts clone = {}, diff = {}, restore = {};
	unsigned long n = pages_of(mib);
	int fd = new_region(n);
	char *mem = map_rw(fd, n);
	int snapshot, copy = -1;

	fill(mem, 0, n, 1);
	snapshot = clone_of(fd, COWMEM_CLONE_SNAPSHOT);
	for (unsigned int i = 0; i < 1 + GROWTH_ROUNDS; i++) {
		struct cowmem_restore args = { .fd = snapshot };

		/* The first round is to get warm. */
		if (i == 1)
			clone = diff = restore = (struct counts){};
		if (copy >= 0)
			must(!close(copy));
		change(mem, GROWTH_PAGES, 2 + i);
		start();
		copy = clone_of(fd, COWMEM_CLONE_SNAPSHOT);
		add_counts(&clone, stop());
		add_counts(&diff, take_diff(copy, snapshot, GROWTH_PAGES));
		start();
		must(!ioctl(fd, COWMEM_IOC_RESTORE, &args));
		add_counts(&restore, stop());
		if (args.pages != CHANGES)
			die("RESTORE found %llu pages", args.pages);
	}
	record_counts_as("growth_clone", mib, "cowmem", clone, GROWTH_ROUNDS);
	record_counts_as("growth_diff", mib, "cowmem", diff, GROWTH_ROUNDS);
	record_counts_as("growth_restore", mib, "cowmem", restore, GROWTH_ROUNDS);
	check(mem, 0, n, 1, 1);
	mem = map_file(copy, n, PROT_READ, MAP_SHARED);
	for (unsigned int i = 0; i < CHANGES; i++)
		check_page(mem, changed_page(GROWTH_PAGES, i), 2 + GROWTH_ROUNDS);
}

/* ---- depth ---- */

/* Which page generation @i wrote, a different one each. @n is a power of 2. */
static unsigned long page_of_generation(unsigned long n, unsigned int i)
{
	return i * 40503UL & (n - 1);
}

/* Write all pages of a fresh clone of @fd, which @generations wrote before. */
static struct counts write_clone(int fd, unsigned long n, unsigned int generations)
{
	int clone = clone_of(fd, 0);
	char *mem = map_rw(clone, n);
	struct counts counts;

	start();
	for (unsigned long page = 0; page < n; page++)
		poke(mem, page, 2);
	counts = stop();
	check(mem, 0, n, 2, 1);
	must(!munmap(mem, n * PAGE) && !close(clone));

	mem = map_file(fd, n, PROT_READ, MAP_SHARED);
	for (unsigned int i = 1; i <= generations; i++)
		check_page(mem, page_of_generation(n, i), 3);
	must(!munmap(mem, n * PAGE));
	return counts;
}

static void run_depth(const struct bench_case *c, unsigned int mib)
{
	static const struct {
		unsigned int ancestors;
		const char *name;
	} depths[] = {
		{ 1, "depth_1" }, { 100, "depth_100" }, { 10000, "depth_10000" },
	};
	struct rlimit files = { 10100, 10100 };
	unsigned int generation = 0;
	unsigned long n = pages_of(mib);
	int fd = new_region(n);
	char *mem = map_rw(fd, n);

	must(!setrlimit(RLIMIT_NOFILE, &files));
	fill(mem, 0, n, 1);
	must(!munmap(mem, n * PAGE));
	write_clone(fd, n, 0);				/* warm */
	for (unsigned int i = 0; i < sizeof(depths) / sizeof(*depths); i++) {
		struct counts counts;

		/* Each is a clone of the one before, differs from it, and stays. */
		while (generation + 1 < depths[i].ancestors) {
			unsigned long page = page_of_generation(n, ++generation);
			uint64_t word = word_of(3, page);

			fd = clone_of(fd, 0);
			must(pwrite(fd, &word, sizeof(word), page * PAGE) == sizeof(word));
		}
		counts = write_clone(fd, n, generation);
		record_counts_as(depths[i].name, mib, "cowmem", counts, n);
	}
}

/* ---- bytes ---- */

#define CLONES	4000

static uint64_t free_bytes(void)
{
	unsigned long kib;
	char line[128];
	FILE *f = fopen("/proc/meminfo", "r");

	must(f);
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "MemFree: %lu kB", &kib) == 1) {
			fclose(f);
			return kib << 10;
		}
	}
	die("no MemFree in /proc/meminfo");
}

static uint64_t slab_bytes(void)
{
	FILE *f = fopen("/proc/slabinfo", "r");
	uint64_t pages = 0;
	char line[512];

	must(f);
	while (fgets(line, sizeof(line), f)) {
		unsigned long per_slab, slabs;

		if (sscanf(line, "%*s %*u %*u %*u %*u %lu : tunables %*u %*u %*u : slabdata %*u %lu",
			   &per_slab, &slabs) == 2)
			pages += per_slab * slabs;
	}
	fclose(f);
	must(pages);
	return pages * PAGE;
}

static void run_bytes(const struct bench_case *c, unsigned int mib)
{
	struct rlimit files = { CLONES + 100, CLONES + 100 };
	unsigned long n = pages_of(mib);
	int fd = new_region(n);
	char *mem = map_rw(fd, n);
	int64_t free, slab;
	struct cowmem_info info;
	int clone = -1;

	fill(mem, 0, n, 1);
	info = info_of(fd);
	if (info.pages_populated != n)
		die("INFO: %llu pages populated", info.pages_populated);
	record_as("bytes_index", mib, "cowmem", "bytes", (double)info.index_bytes / n);

	/* So that the table of descriptors does not grow meanwhile. */
	must(!setrlimit(RLIMIT_NOFILE, &files));
	must(dup2(fd, CLONES + 50) >= 0 && !close(CLONES + 50));
	must(!close(clone_of(fd, 0)));
	free_bytes();
	slab_bytes();
	slab = slab_bytes();
	free = free_bytes();
	for (unsigned int i = 0; i < CLONES; i++)
		clone = clone_of(fd, 0);
	free -= free_bytes();
	slab = slab_bytes() - slab;
	/* Neither is exact, as other things go on in the kernel: take the larger one. */
	record_as("bytes_clone", mib, "cowmem", "bytes",
		  (double)(free > slab ? free : slab) / CLONES);

	info = info_of(clone);
	if (info.pages_shared != n)
		die("INFO: %llu pages shared", info.pages_shared);
	mem = map_file(clone, n, PROT_READ, MAP_SHARED);
	check(mem, 0, n, 1, 1);
}

const struct bench_case state_cases[] = {
	{ "reset_cycle", "cowmem", { 8 }, run_reset_cowmem },
	{ "reset_cycle", "memfd", { 8 }, run_reset_memfd },
	{ "reset_mixed", "cowmem", { 8 }, run_reset_cowmem },
	{ "reset_mixed", "memfd", { 8 }, run_reset_memfd },
	{ "reset_random", "cowmem", { 32 }, run_reset_cowmem },
	{ "reset_random", "memfd", { 32 }, run_reset_memfd },
	{ "reset_mixed_unread", "cowmem", { 8 }, run_reset_cowmem },
	{ "reset_mixed_unread", "memfd", { 8 }, run_reset_memfd },
	{ "reset_random_unread", "cowmem", { 32 }, run_reset_cowmem },
	{ "reset_random_unread", "memfd", { 32 }, run_reset_memfd },
	{ "restore_plain", "cowmem", { 8 }, run_reset_cowmem },
	{ "restore_plain", "memfd", { 8 }, run_reset_memfd },
	{ "diff", "cowmem", { 1024 }, run_diff_cowmem },
	{ "diff", "memcmp", { 1024 }, run_diff_memcmp },
	{ "growth", "cowmem", { 64, 256, 1024 }, run_growth },
	{ "depth", "cowmem", { 256 }, run_depth },
	{ "bytes", "cowmem", { 256 }, run_bytes },
	{}
};
