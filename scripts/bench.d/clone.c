// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a clone takes, and the writes that come after it; beside fork(), a private
 * mapping of a memfd, and userfaultfd
 *
 * Before anything is measured, all pages have been written in full, in order, and are
 * in the page tables ("mapped") unless a case says otherwise; fork() leaves them there.
 *
 * Pages are of 4 KiB, of cowmem as of the peer.  The impl "thp" is a fork() of huge
 * pages.  In cases named "huge_..." and "cycle_..." the region has what the module
 * chooses by itself for memory that is written in order.
 */
#define _GNU_SOURCE
#include "bench.h"

#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sys/syscall.h>

#define ROUNDS	3

/*
 * What is to be cloned: a region, or (fd < 0) anonymous memory.  With userfaultfd,
 * to clone is to write-protect it all; a thread saves each page before it is written.
 */
struct source {
	int fd;
	char *mem;
	unsigned long n;
	int clone;		/* the latest, a descriptor or a process; or -1 */
	int uffd;		/* or -1 */
	char *saved;		/* its pages */
};

static void uffd_protect(const struct source *s, unsigned long page, unsigned long n,
			 bool on)
{
	struct uffdio_writeprotect wp = {
		.range = { (uintptr_t)s->mem + page * PAGE, n * PAGE },
		.mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0,
	};

	must(!ioctl(s->uffd, UFFDIO_WRITEPROTECT, &wp));
}

static void *uffd_save(void *arg)
{
	const struct source *s = arg;
	struct uffd_msg msg;

	while (read(s->uffd, &msg, sizeof(msg)) == sizeof(msg)) {
		unsigned long page = (msg.arg.pagefault.address - (uintptr_t)s->mem) / PAGE;
		const uint64_t *from = (const uint64_t *)(s->mem + page * PAGE);
		uint64_t *to = (uint64_t *)(s->saved + page * PAGE);

		/* Not memcpy(), which moves single bytes, each of which counts. */
		for (unsigned int i = 0; i < PAGE / sizeof(*to); i++)
			to[i] = from[i];
		uffd_protect(s, page, 1, false);
	}
	die("userfaultfd: %s", strerror(errno));
}

static void uffd_open(struct source *s)
{
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_PAGEFAULT_FLAG_WP };
	struct uffdio_register reg = {
		.range = { (uintptr_t)s->mem, s->n * PAGE },
		.mode = UFFDIO_REGISTER_MODE_WP,
	};
	struct source *copy = malloc(sizeof(*copy));
	pthread_t thread;

	s->uffd = syscall(SYS_userfaultfd, O_CLOEXEC);
	must(s->uffd >= 0);
	must(!ioctl(s->uffd, UFFDIO_API, &api));
	must(!ioctl(s->uffd, UFFDIO_REGISTER, &reg));
	s->saved = map_anon(s->n, false);
	must(copy);
	*copy = *s;
	must(!pthread_create(&thread, NULL, uffd_save, copy));
}

static enum size size_of(const struct bench_case *c)
{
	bool any = !strncmp(c->name, "huge_", 5) || !strncmp(c->name, "cycle_", 6);

	return any ? ANY_PAGES : SMALL_PAGES;
}

static struct source source_of(const struct bench_case *c, unsigned int mib)
{
	struct source s = { .fd = -1, .n = pages_of(mib), .clone = -1, .uffd = -1 };

	if (!strcmp(c->impl, "cowmem")) {
		s.fd = new_region(s.n);
		s.mem = map_region(s.fd, s.n, size_of(c));
	} else {
		s.mem = map_anon(s.n, !strcmp(c->impl, "thp"));
	}
	fill(s.mem, 0, s.n, 1);
	if (s.fd >= 0 && size_of(c) != SMALL_PAGES)
		tell_huge(c, s.fd);
	if (!strcmp(c->impl, "uffd"))
		uffd_open(&s);
	return s;
}

static void drop(struct source *s)
{
	if (s->clone < 0)
		return;
	if (s->fd < 0)
		end_child(s->clone);
	else
		must(!close(s->clone));
	s->clone = -1;
}

/* Clone it; the clone before lives until this one is made. */
static struct counts take_clone(struct source *s)
{
	struct source old = *s;
	struct counts took;

	if (s->uffd >= 0) {
		must(!madvise(s->saved, s->n * PAGE, MADV_DONTNEED));
		start();
		uffd_protect(s, 0, s->n, true);
		took = stop();
	} else if (s->fd < 0) {
		s->clone = fork_child(&took);
	} else {
		start();
		s->clone = clone_of(s->fd, 0);
		took = stop();
	}
	drop(&old);
	return took;
}

/* Does the clone show what @mem shows now?  A child's memory is not looked at. */
static void check_clone(struct source *s)
{
	char *mem;

	if (s->fd < 0)
		return;
	mem = map_file(s->clone, s->n, PROT_READ, MAP_SHARED);
	if (memcmp(mem, s->mem, s->n * PAGE))
		die("the clone differs");
	must(!munmap(mem, s->n * PAGE));
}

/* Where to write in each round: @count pages of @list. */
enum pattern { NONE, RUN, RANDOM, ALL };

static void clone_written(const struct bench_case *c, unsigned int mib,
			  enum pattern pattern)
{
	struct source s = source_of(c, mib);
	unsigned long *list = malloc(s.n * sizeof(*list));
	unsigned char *tags = malloc(s.n);
	struct counts took[ROUNDS];
	unsigned long count = 0, i;
	unsigned int round;

	must(list && tags);
	for (i = 0; i < s.n; i++)
		list[i] = i;
	memset(tags, 1, s.n);
	if (pattern == RUN || pattern == RANDOM)
		count = s.n / 100;
	else if (pattern == ALL)
		count = s.n;

	take_clone(&s);
	read_all(s.mem, s.n);
	for (round = 0; round < ROUNDS; round++) {
		for (i = 0; i < count; i++) {
			unsigned long page = i;

			if (pattern == RUN)
				page = round * (s.n / ROUNDS) + i;
			else if (pattern == RANDOM)
				page = draw(list, s.n, i);
			poke(s.mem, page, round + 2);
			tags[page] = round + 2;
		}
		took[round] = take_clone(&s);
	}
	check_clone(&s);
	for (i = 0; i < s.n; i++)
		check(s.mem + i * PAGE, i, 1, tags[i], 1);
	drop(&s);
	record_counts(c, mib, median_counts(took, ROUNDS), 1);
}

static void clone_clean(const struct bench_case *c, unsigned int mib)
{
	clone_written(c, mib, NONE);
}

static void clone_1pct_run(const struct bench_case *c, unsigned int mib)
{
	clone_written(c, mib, RUN);
}

static void clone_1pct_random(const struct bench_case *c, unsigned int mib)
{
	clone_written(c, mib, RANDOM);
}

static void clone_full(const struct bench_case *c, unsigned int mib)
{
	clone_written(c, mib, ALL);
}

/*
 * All is written, in order, while nobody has a part in it, so what was huge stays so.
 * (After a fork(), writes split huge pages, and the next fork() is one of small ones.)
 */
static void clone_huge(const struct bench_case *c, unsigned int mib)
{
	struct source s = source_of(c, mib);
	struct counts took[ROUNDS];

	for (unsigned int round = 0; round < ROUNDS; round++) {
		drop(&s);
		for (unsigned long page = 0; page < s.n; page++)
			poke(s.mem, page, round + 2);
		took[round] = take_clone(&s);
	}
	check_clone(&s);
	check(s.mem, 0, s.n, 1 + ROUNDS, 1);
	drop(&s);
	record_counts(c, mib, median_counts(took, ROUNDS), 1);
}

/* ---- cycles ---- */

/* What the case's name says: "cycle_10_random" is 10 and true. */
static unsigned int percent_of(const struct bench_case *c, bool *random)
{
	unsigned int percent;

	must(sscanf(c->name, "cycle_%u", &percent) == 1);
	*random = strstr(c->name, "_random");
	return percent;
}

/*
 * To drop a clone is to close it, or for the child to exit: it then takes down the
 * page tables that it was given, which nobody is there any more to look at.
 */
static struct counts drop_clone(struct source *s)
{
	struct counts took, gone = {};

	if (s->fd < 0)
		gone = tables_of(s->clone);
	start();
	drop(s);
	took = stop();
	add_counts(&took, gone);
	return took;
}

/* Clone, write the pages of @list with @tag, drop the clone. */
static struct counts cycle(struct source *s, const unsigned long *list,
			   unsigned long count, unsigned int tag)
{
	struct counts took = take_clone(s);

	start();
	for (unsigned long i = 0; i < count; i++)
		poke(s->mem, list[i], tag);
	add_counts(&took, stop());
	add_counts(&took, drop_clone(s));
	return took;
}

static void clone_cycle(const struct bench_case *c, unsigned int mib)
{
	struct source s = source_of(c, mib);
	unsigned long *list = malloc(s.n * sizeof(*list));
	unsigned char *tags = malloc(s.n);
	struct counts took[1 + ROUNDS];
	unsigned long count;
	bool random;

	must(list && tags);
	count = s.n * percent_of(c, &random) / 100;
	for (unsigned long i = 0; i < s.n; i++)
		list[i] = i;
	memset(tags, 1, s.n);
	/* The first one is to get warm. */
	for (unsigned int round = 0; round < 1 + ROUNDS; round++) {
		for (unsigned long i = 0; i < count; i++) {
			if (random)
				draw(list, s.n, i);
			else
				list[i] = (round * count + i) % s.n;
		}
		took[round] = cycle(&s, list, count, round + 2);
		for (unsigned long i = 0; i < count; i++)
			tags[list[i]] = round + 2;
	}
	for (unsigned long i = 0; i < s.n; i++)
		check(s.mem + i * PAGE, i, 1, tags[i], 1);
	record_counts(c, mib, median_counts(took + 1, ROUNDS), 1);
}

/* ---- writes ---- */

/* Write every @step-th page of @mem, and see that it, and nothing else, changed. */
static void write_pages(const struct bench_case *c, unsigned int mib, char *mem,
			unsigned int step)
{
	unsigned long n = pages_of(mib), page;
	struct counts took;

	start();
	for (page = 0; page < n; page += step)
		poke(mem, page, 2);
	took = stop();
	for (page = 0; page < n; page++)
		check(mem + page * PAGE, page, 1, page % step ? 1 : 2, 1);
	record_counts(c, mib, took, n / step);
}

/* The other side, @fd, must have kept what it had. */
static void check_kept(int fd, unsigned long n)
{
	char *mem = map_file(fd, n, PROT_READ, MAP_SHARED);

	check(mem, 0, n, 1, 1);
	must(!munmap(mem, n * PAGE));
}

static void write_source(const struct bench_case *c, unsigned int mib, bool mapped,
			 unsigned int step)
{
	struct source s = source_of(c, mib);

	take_clone(&s);
	if (mapped)
		read_all(s.mem, s.n);
	write_pages(c, mib, s.mem, step);
	if (s.fd >= 0)
		check_kept(s.clone, s.n);
	if (s.uffd >= 0)
		check(s.saved, 0, s.n, 1, 1);
	drop(&s);
}

static void write_after_clone(const struct bench_case *c, unsigned int mib)
{
	write_source(c, mib, true, 1);
}

static void write_after_clone_8th(const struct bench_case *c, unsigned int mib)
{
	write_source(c, mib, true, 8);
}

/* One page in each 2 MiB. */
static void write_sparse(const struct bench_case *c, unsigned int mib)
{
	write_source(c, mib, true, 512);
}

static void write_sparse_unmapped(const struct bench_case *c, unsigned int mib)
{
	write_source(c, mib, false, 512);
}

/* Nobody has looked at the pages since the clone. */
static void write_after_clone_unmapped(const struct bench_case *c, unsigned int mib)
{
	write_source(c, mib, false, 1);
}

/* Through a fresh mapping of what others have, too: a clone, or a private one. */
static void write_shared(const struct bench_case *c, unsigned int mib, bool mapped)
{
	unsigned long n = pages_of(mib);
	bool cowmem = !strcmp(c->impl, "cowmem");
	int fd = cowmem ? new_region(n) : new_memfd(n);
	char *source = map_rw(fd, n), *mem;

	fill(source, 0, n, 1);
	if (cowmem)
		mem = map_rw(clone_of(fd, 0), n);
	else
		mem = map_file(fd, n, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	if (mapped)
		read_all(mem, n);
	write_pages(c, mib, mem, 1);
	check_kept(fd, n);
}

static void write_in_clone(const struct bench_case *c, unsigned int mib)
{
	write_shared(c, mib, true);
}

static void write_in_clone_unmapped(const struct bench_case *c, unsigned int mib)
{
	write_shared(c, mib, false);
}

static void write_owned(const struct bench_case *c, unsigned int mib, bool mapped)
{
	struct source s = source_of(c, mib);

	take_clone(&s);
	if (mapped)
		read_all(s.mem, s.n);
	drop(&s);
	write_pages(c, mib, s.mem, 1);
}

static void write_last_holder(const struct bench_case *c, unsigned int mib)
{
	write_owned(c, mib, false);
}

/* Read after the clone was made, and then written. */
static void write_last_holder_mapped(const struct bench_case *c, unsigned int mib)
{
	write_owned(c, mib, true);
}

const struct bench_case clone_cases[] = {
	{ "clone_clean", "cowmem", { 16, 256, 1024 }, clone_clean },
	{ "clone_clean", "fork", { 16, 256, 1024 }, clone_clean },
	{ "clone_clean", "uffd", { 256 }, clone_clean },
	{ "clone_clean", "thp", { 256 }, clone_clean },
	{ "clone_1pct_run", "cowmem", { 256 }, clone_1pct_run },
	{ "clone_1pct_run", "fork", { 256 }, clone_1pct_run },
	{ "clone_1pct_random", "cowmem", { 256 }, clone_1pct_random },
	{ "clone_1pct_random", "fork", { 256 }, clone_1pct_random },
	{ "clone_1pct_random", "thp", { 256 }, clone_1pct_random },
	{ "clone_full", "cowmem", { 256 }, clone_full },
	{ "clone_full", "fork", { 256 }, clone_full },
	{ "clone_full", "uffd", { 256 }, clone_full },
	{ "write_after_clone", "cowmem", { 256 }, write_after_clone },
	{ "write_after_clone", "fork", { 256 }, write_after_clone },
	{ "write_after_clone", "uffd", { 256 }, write_after_clone },
	{ "write_after_clone_8th", "cowmem", { 256 }, write_after_clone_8th },
	{ "write_after_clone_8th", "fork", { 256 }, write_after_clone_8th },
	{ "write_after_clone_unmapped", "cowmem", { 256 }, write_after_clone_unmapped },
	{ "write_in_clone", "cowmem", { 256 }, write_in_clone },
	{ "write_in_clone", "memfd", { 256 }, write_in_clone },
	{ "write_in_clone_unmapped", "cowmem", { 256 }, write_in_clone_unmapped },
	{ "write_in_clone_unmapped", "memfd", { 256 }, write_in_clone_unmapped },
	{ "write_last_holder", "cowmem", { 256 }, write_last_holder },
	{ "write_last_holder", "fork", { 256 }, write_last_holder },
	{ "write_last_holder_mapped", "cowmem", { 256 }, write_last_holder_mapped },
	{ "huge_clone_full", "cowmem", { 256 }, clone_huge },
	{ "huge_clone_full", "fork", { 256 }, clone_huge },
	{ "huge_clone_full", "thp", { 256 }, clone_huge },
	{ "huge_write_sparse", "cowmem", { 256 }, write_sparse },
	{ "huge_write_sparse", "thp", { 256 }, write_sparse },
	{ "huge_write_sparse_unmapped", "cowmem", { 256 }, write_sparse_unmapped },
	{ "cycle_1", "cowmem", { 256 }, clone_cycle },
	{ "cycle_1", "fork", { 256 }, clone_cycle },
	{ "cycle_1", "thp", { 256 }, clone_cycle },
	{ "cycle_1_random", "cowmem", { 256 }, clone_cycle },
	{ "cycle_1_random", "fork", { 256 }, clone_cycle },
	{ "cycle_1_random", "thp", { 256 }, clone_cycle },
	{ "cycle_10", "cowmem", { 256 }, clone_cycle },
	{ "cycle_10", "fork", { 256 }, clone_cycle },
	{ "cycle_10", "thp", { 256 }, clone_cycle },
	{ "cycle_10_random", "cowmem", { 256 }, clone_cycle },
	{ "cycle_10_random", "fork", { 256 }, clone_cycle },
	{ "cycle_10_random", "thp", { 256 }, clone_cycle },
	{ "cycle_50", "cowmem", { 256 }, clone_cycle },
	{ "cycle_50", "fork", { 256 }, clone_cycle },
	{ "cycle_50", "thp", { 256 }, clone_cycle },
	{ "cycle_50_random", "cowmem", { 256 }, clone_cycle },
	{ "cycle_50_random", "fork", { 256 }, clone_cycle },
	{ "cycle_50_random", "thp", { 256 }, clone_cycle },
	{ "cycle_100", "cowmem", { 256 }, clone_cycle },
	{ "cycle_100", "fork", { 256 }, clone_cycle },
	{ "cycle_100", "thp", { 256 }, clone_cycle },
	{ "cycle_100_random", "cowmem", { 256 }, clone_cycle },
	{ "cycle_100_random", "fork", { 256 }, clone_cycle },
	{ "cycle_100_random", "thp", { 256 }, clone_cycle },
	{ 0 }
};
