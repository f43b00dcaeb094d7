/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Pages of memory whose content can be told apart.
 *
 * Content is described by tags.  Tag 0 is a page of zeros; any other tag stands
 * for a page whose every word depends on the tag and on the index of the page,
 * so a page that is stale, misplaced or torn is noticed wherever it shows up.
 */
#ifndef _SELFTESTS_COWMEM_PAGES_H
#define _SELFTESTS_COWMEM_PAGES_H

#include <sys/mman.h>
#include "basics.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ	22
#define MADV_POPULATE_WRITE	23
#endif

/* A MiB where pages are of 4 KiB; elsewhere, as many pages. */
enum { MIB_PAGES = 256 };

/* What differs between pages, and between the words of a page. */
static inline uint64_t page_part(uint32_t tag, uint64_t page)
{
	return (tag * 0x9e3779b97f4a7c15ULL) ^ (page * 0xc2b2ae3d27d4eb4fULL) ^
	       0x5555000000000000ULL;
}

static inline uint64_t word_part(size_t word)
{
	return word * 0x165667b19e3779f9ULL;
}

static inline uint64_t pattern(uint32_t tag, uint64_t page, size_t word)
{
	return tag ? page_part(tag, page) ^ word_part(word) : 0;
}

/* Tests spend most of their time on content, so it is looked at by two words. */
typedef uint64_t two_words __attribute__((vector_size(16), aligned(8), may_alias));

/* word_part() of a page, or zeroes for tag 0. */
static inline const two_words *word_parts(uint32_t tag)
{
	static two_words parts[2][(1 << 16) / sizeof(two_words)];
	size_t i = ARRAY_SIZE(parts[1]);

	/* The first that is not zero comes last, and says that the others are there. */
	while (!parts[1][0][1] && i--)
		parts[1][i] = (two_words){ word_part(2 * i), word_part(2 * i + 1) };
	return parts[!!tag];
}

static inline void pg_fill(void *mem, uint32_t tag, uint64_t page)
{
	const two_words *parts = word_parts(tag);
	uint64_t same = pattern(tag, page, 0);
	size_t i, n = pgsz() / sizeof(two_words);
	two_words *p = mem;

	for (i = 0; i < n; i++)
		p[i] = parts[i] ^ same;
	asm volatile("" : : : "memory");
}

static inline bool pg_is(const void *mem, uint32_t tag, uint64_t page)
{
	const two_words *parts = word_parts(tag), *p = mem;
	uint64_t same = pattern(tag, page, 0);
	size_t i, n = pgsz() / sizeof(two_words);
	two_words differ = {};
	const uint64_t *words = mem;

	asm volatile("" : : : "memory");
	for (i = 0; i < n; i++)
		differ |= p[i] ^ parts[i] ^ same;
	if (!(differ[0] | differ[1]))
		return true;
	for (i = 0; i < pgsz() / sizeof(*words); i++) {
		uint64_t seen = words[i];

		if (seen == pattern(tag, page, i))
			continue;
		fprintf(stderr,
			"# page %#llx: word %zu is %016llx, not %016llx of tag %u\n",
			(unsigned long long)page, i, (unsigned long long)seen,
			(unsigned long long)pattern(tag, page, i), tag);
		return false;
	}
	fprintf(stderr, "# page %#llx changed while it was looked at\n",
		(unsigned long long)page);
	return false;
}

/* Fill or check @n pages of memory that shows a region from page @first. */
static inline void fill(void *mem, size_t n, uint32_t tag, uint64_t first)
{
	size_t i;

	for (i = 0; i < n; i++)
		pg_fill((char *)mem + i * pgsz(), tag, first + i);
}

/* As fill(), in an order that makes for no folios: a page that goes takes no other along. */
static inline void fill_back(char *mem, size_t n, uint32_t tag, uint64_t first)
{
	while (n--)
		pg_fill(mem + n * pgsz(), tag, first + n);
}

static inline bool is(const void *mem, size_t n, uint32_t tag, uint64_t first)
{
	size_t i;

	for (i = 0; i < n; i++)
		if (!pg_is((const char *)mem + i * pgsz(), tag, first + i))
			return false;
	return true;
}

/* @n pages of ordinary memory */
static inline char *anon(size_t n)
{
	void *mem = mmap(NULL, n * pgsz(), PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	must(mem != MAP_FAILED);
	return mem;
}

/* The same, with a page behind it that cannot be accessed. */
static inline char *guarded(size_t n)
{
	char *mem = anon(n + 1);

	must(!mprotect(mem + n * pgsz(), pgsz(), PROT_NONE));
	return mem;
}

#endif /* _SELFTESTS_COWMEM_PAGES_H */
