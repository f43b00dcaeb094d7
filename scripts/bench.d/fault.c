// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the first access to a page takes, beside anonymous memory and a memfd
 *
 * Per page, for one access to each page in order, through a fresh mapping.  Pages are
 * of 4 KiB, unless a case is named "huge_...".
 */
#include "bench.h"

static enum size size_of(const struct bench_case *c)
{
	return strncmp(c->name, "huge_", 5) ? SMALL_PAGES : HUGE_PAGES;
}

static char *map_new(const struct bench_case *c, unsigned long n)
{
	if (!strcmp(c->impl, "cowmem"))
		return map_region(new_region(n), n, size_of(c));
	if (!strcmp(c->impl, "memfd"))
		return map_file(new_memfd(n), n, PROT_READ | PROT_WRITE, MAP_SHARED);
	return map_anon(n, !strcmp(c->impl, "thp"));
}

static struct counts read_pages(const char *mem, unsigned long n)
{
	unsigned long page;

	start();
	for (page = 0; page < n; page++)
		peek(mem, page);
	return stop();
}

static struct counts write_pages(char *mem, unsigned long n)
{
	struct counts took;
	unsigned long page;

	start();
	for (page = 0; page < n; page++)
		poke(mem, page, 1);
	took = stop();
	check(mem, 0, n, 1, 0);
	return took;
}

static void populate(const struct bench_case *c, unsigned int mib)
{
	unsigned long n = pages_of(mib);

	record_counts(c, mib, write_pages(map_new(c, n), n), n);
}

/* In random order, so nothing that is done for a block of pages at once helps. */
static void populate_random(const struct bench_case *c, unsigned int mib)
{
	unsigned long n = pages_of(mib), i;
	unsigned long *list = malloc(n * sizeof(*list));
	char *mem = map_new(c, n);
	struct counts took;

	must(list);
	for (i = 0; i < n; i++)
		list[i] = i;
	for (i = 0; i < n; i++)
		draw(list, n, i);
	start();
	for (i = 0; i < n; i++)
		poke(mem, list[i], 1);
	took = stop();
	check(mem, 0, n, 1, 0);
	record_counts(c, mib, took, n);
}

static void hole_read(const struct bench_case *c, unsigned int mib)
{
	unsigned long n = pages_of(mib);
	char *mem = map_new(c, n);
	struct counts took = read_pages(mem, n);

	check(mem, 0, n, 0, 0);
	record_counts(c, mib, took, n);
}

/* The hole has been read before. */
static void hole_write(const struct bench_case *c, unsigned int mib)
{
	unsigned long n = pages_of(mib);
	char *mem = map_new(c, n);

	read_pages(mem, n);
	record_counts(c, mib, write_pages(mem, n), n);
}

/* A fresh mapping of a fresh clone, or of the page cache. */
static void clone_read(const struct bench_case *c, unsigned int mib)
{
	unsigned long n = pages_of(mib);
	bool cowmem = !strcmp(c->impl, "cowmem");
	int fd = cowmem ? new_region(n) : new_memfd(n);
	char *mem = cowmem ? map_region(fd, n, size_of(c)) : map_rw(fd, n);
	struct counts took;

	fill(mem, 0, n, 1);
	if (cowmem && size_of(c) != SMALL_PAGES)
		tell_huge(c, fd);
	if (cowmem)
		mem = map_region(clone_of(fd, 0), n, size_of(c));
	else
		mem = map_file(fd, n, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	took = read_pages(mem, n);
	check(mem, 0, n, 1, 1);
	record_counts(c, mib, took, n);
}

const struct bench_case fault_cases[] = {
	{ "populate", "cowmem", { 256 }, populate },
	{ "populate", "anon", { 256 }, populate },
	{ "populate", "thp", { 256 }, populate },
	{ "populate", "memfd", { 256 }, populate },
	{ "populate_random", "cowmem", { 256 }, populate_random },
	{ "populate_random", "memfd", { 256 }, populate_random },
	{ "hole_read", "cowmem", { 256 }, hole_read },
	{ "hole_read", "anon", { 256 }, hole_read },
	{ "hole_write", "cowmem", { 256 }, hole_write },
	{ "hole_write", "anon", { 256 }, hole_write },
	{ "clone_read", "cowmem", { 256 }, clone_read },
	{ "clone_read", "memfd", { 256 }, clone_read },
	{ "huge_populate", "cowmem", { 256 }, populate },
	{ "huge_populate", "thp", { 256 }, populate },
	{ "huge_clone_read", "cowmem", { 256 }, clone_read },
	{ "huge_clone_read", "memfd", { 256 }, clone_read },
	{ 0 }
};
