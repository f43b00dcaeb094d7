/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A shadow: a region beside an array that says which page is where.  Pages that are shared
 * are one struct page, so the array tells of each how many hold it, and of two regions
 * where they differ.
 */
#ifndef _SELFTESTS_COWMEM_SHADOW_H
#define _SELFTESTS_COWMEM_SHADOW_H

#include "pages.h"
#include "regions.h"

/* Its content is that of tag @tag and page @as. */
struct page {
	uint32_t tag, as;
	unsigned int holders;
};

struct shadow {
	int fd;
	bool snapshot;
	char *mem;
	uint64_t pages;
	struct page **at;	/* NULL for a hole */
};

static inline void shadow_drop(struct page **slot)
{
	if (*slot && !--(*slot)->holders)
		free(*slot);
	*slot = NULL;
}

static inline void shadow_set(struct shadow *s, uint64_t i, struct page *page)
{
	if (page)
		page->holders++;
	shadow_drop(&s->at[i]);
	s->at[i] = page;
}

/* A new region of holes. */
static inline void shadow_init(struct shadow *s, uint64_t pages)
{
	s->pages = pages;
	s->snapshot = false;
	s->at = calloc(pages, sizeof(*s->at));
	must(s->at);
	s->fd = region();
	s->mem = map_rw(s->fd, pages);
}

static inline void shadow_end(struct shadow *s)
{
	uint64_t i;

	for (i = 0; i < s->pages; i++)
		shadow_drop(&s->at[i]);
	free(s->at);
	unmap(s->mem, s->pages);
	close(s->fd);
}

static inline void shadow_write(struct shadow *s, uint64_t i, uint32_t tag, bool by_fd)
{
	struct page *page = calloc(1, sizeof(*page));

	must(page);
	page->tag = tag;
	page->as = i;
	if (by_fd)
		put_page(s->fd, i, tag);
	else
		pg_fill(s->mem + i * pgsz(), tag, i);
	shadow_set(s, i, page);
}

static inline void shadow_discard(struct shadow *s, uint64_t i, uint64_t n)
{
	must(!do_discard(s->fd, i * pgsz(), n * pgsz()));
	for (; n--; i++)
		shadow_set(s, i, NULL);
}

/* The array alone: @n pages of @d from @dst on are those of @s from @src on. */
static inline void shadow_move(struct shadow *d, uint64_t dst, const struct shadow *s,
			       uint64_t src, uint64_t n)
{
	struct page **copy = malloc(n * sizeof(*copy));
	uint64_t i;

	must(copy);
	memcpy(copy, s->at + src, n * sizeof(*copy));
	/* Hold them all before any is dropped. */
	for (i = 0; i < n; i++)
		if (copy[i])
			copy[i]->holders++;
	for (i = 0; i < n; i++) {
		shadow_set(d, dst + i, copy[i]);
		shadow_drop(&copy[i]);
	}
	free(copy);
}

/* A clone of @s from page @first on. */
static inline void shadow_clone(struct shadow *clone, const struct shadow *s, uint32_t flags,
				uint64_t first)
{
	clone->pages = s->pages - first;
	clone->snapshot = flags & COWMEM_CLONE_SNAPSHOT;
	clone->at = calloc(clone->pages, sizeof(*clone->at));
	must(clone->at);
	clone->fd = do_clone(s->fd, flags, first * pgsz(), 0);
	must(clone->fd >= 0);
	clone->mem = clone->snapshot ? map_ro(clone->fd, clone->pages) :
				       map_rw(clone->fd, clone->pages);
	shadow_move(clone, 0, s, first, clone->pages);
}

/* Of a large region, most of which is holes: pages, what is beside them, and some more. */
static inline bool shadow_worth_a_look(const struct shadow *s, uint64_t i)
{
	return s->pages <= 1000 || i % 16 == 0 || s->at[i] || s->at[i - 1] ||
	       (i + 1 < s->pages && s->at[i + 1]);
}

/* Is page @i at @mem as the shadow says? */
static inline bool shadow_is(const struct shadow *s, uint64_t i, const void *mem)
{
	const struct page *page = s->at[i];

	if (pg_is(mem, page ? page->tag : 0, page ? page->as : 0))
		return true;
	fprintf(stderr, "# at page %llu of fd %d\n", (unsigned long long)i, s->fd);
	return false;
}

/* Is the region what the shadow says, in a mapping of it and to INFO? */
static inline bool shadow_check_at(const struct shadow *s, const char *mem)
{
	uint64_t i, exclusive = 0, shared = 0;

	for (i = 0; i < s->pages; i++) {
		if (shadow_worth_a_look(s, i) && !shadow_is(s, i, mem + i * pgsz()))
			return false;
		if (s->at[i])
			*(s->at[i]->holders > 1 ? &shared : &exclusive) += 1;
	}
	return holds(s->fd, exclusive, shared);
}

static inline bool shadow_check(const struct shadow *s)
{
	return shadow_check_at(s, s->mem);
}

/* The same in a new mapping: page table entries of the old one may be older. */
static inline bool shadow_check_new(const struct shadow *s)
{
	char *mem = map_ro(s->fd, s->pages);
	bool ok = shadow_check_at(s, mem);

	unmap(mem, s->pages);
	return ok;
}

/* The same in every way there is to look. */
static inline bool shadow_check_fd(const struct shadow *s)
{
	bool ok = shadow_check(s) && shadow_check_new(s);
	char *buf = malloc(pgsz());
	uint64_t i;

	for (i = 0; ok && i < s->pages; i++)
		if (shadow_worth_a_look(s, i))
			ok = pread(s->fd, buf, pgsz(), i * pgsz()) == (ssize_t)pgsz() &&
			     shadow_is(s, i, buf);
	free(buf);
	return ok;
}

#endif /* _SELFTESTS_COWMEM_SHADOW_H */
