/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Pages.  page.c tells the life of one.
 */
#ifndef _COWMEM_PAGE_H
#define _COWMEM_PAGE_H

#include <linux/mm.h>

#include "compat.h"
#include "node.h"

struct cowmem_account;

/* An area is what a PMD maps: 2 MiB with pages of 4 KiB.  One folio may back all of it. */
#define COWMEM_AREA_ORDER	((unsigned int)(PMD_SHIFT - PAGE_SHIFT))
#define COWMEM_AREA_PAGES	BIT(COWMEM_AREA_ORDER)
#define COWMEM_AREA_LEAVES	(COWMEM_AREA_PAGES / COWMEM_NODE_SLOTS)

/* A block is a folio for one, two or four leaves, whose pages are mapped one by one. */
#define COWMEM_BLOCK_MIN	((unsigned int)COWMEM_NODE_SHIFT)
#define COWMEM_BLOCK_MAX	(COWMEM_BLOCK_MIN + 2)
#define COWMEM_BLOCK_LEAVES	BIT(COWMEM_BLOCK_MAX - COWMEM_BLOCK_MIN)

/* An area is larger than any block, and cowmem_node.large has a bit for it. */
static_assert(COWMEM_AREA_LEAVES > COWMEM_BLOCK_LEAVES);
static_assert(sizeof_field(struct cowmem_node, large) * BITS_PER_BYTE >
	      COWMEM_AREA_ORDER - COWMEM_BLOCK_MIN);

void cowmem_pages_exit(void);
struct page *cowmem_page_alloc(struct cowmem_account *account, bool zero,
			       const struct vm_fault *vmf, bool gently);
struct folio *cowmem_huge_alloc(struct cowmem_account *account, bool zero,
				const struct vm_fault *vmf);
struct folio *cowmem_block_alloc(struct cowmem_account *account, unsigned int order);
struct page *cowmem_pages_alloc(unsigned int order);
void cowmem_pages_free(struct page *page, int nr);
struct cowmem_account *cowmem_page_account(struct page *page);
int cowmem_page_join(struct page *page, struct cowmem_account *account);
int cowmem_page_copy(struct page *to, struct page *from);
struct page *cowmem_page_duplicate(struct page *page, struct cowmem_account *account,
				   bool gently);
bool cowmem_pages_equal(struct page *x, struct page *y);
bool cowmem_folio_broken(struct folio *folio);

/* The first index of an area. */
static inline pgoff_t cowmem_area_first(pgoff_t index)
{
	return round_down(index, COWMEM_AREA_PAGES);
}

/* The number of slots that hold a page, or any page of its folio: see page.c. */
static inline atomic_long_t *cowmem_holders(struct page *page)
{
	BUILD_BUG_ON(sizeof(page_folio(page)->private) != sizeof(atomic_long_t));
	return (atomic_long_t *)&page_folio(page)->private;
}

/**
 * cowmem_page_holders - how many slots point to a page, or to pages of its folio
 * @page: the page
 *
 * Context: any; a slot of the caller points to @page.  An answer of 1 stays true, and all
 * that former holders did to the page is visible.
 * Return: the number, at least 1.
 */
static inline long cowmem_page_holders(struct page *page)
{
	return atomic_long_read_acquire(cowmem_holders(page));
}

/* How many pages come and go together with @page. */
static inline long cowmem_pages_of(struct page *page)
{
	return folio_nr_pages(page_folio(page));
}

/*
 * Where a page has the account that it is charged to.  The page is on no list, so its lru has
 * no other use while a slot holds it.
 */
static inline struct cowmem_account **cowmem_page_account_slot(struct page *page)
{
	return (struct cowmem_account **)&page_folio(page)->lru.prev;
}

/* Does the page belong to a large folio, be it an area or a block? */
static inline bool cowmem_page_large(struct page *page)
{
	return folio_test_large(page_folio(page));
}

/* Does the page belong to a folio that covers an area? */
static inline bool cowmem_page_huge(struct page *page)
{
	return folio_order(page_folio(page)) == COWMEM_AREA_ORDER;
}

/* The bit of cowmem_node.large that a leaf needs before it gets @page; 0 if none. */
static inline u8 cowmem_page_kind(struct page *page)
{
	unsigned int order = folio_order(page_folio(page));

	return order ? BIT(order - COWMEM_BLOCK_MIN) : 0;
}

/* To the caller of a system call a poisoned page is an I/O error. */
static inline int cowmem_user_error(int err)
{
	return err == -EHWPOISON ? -EIO : err;
}

/**
 * cowmem_page_busy - does anything but its slot and the caller refer to a page?
 * @page: the page
 * @mine: how many references the caller has
 *
 * That is get_user_pages() in all its forms: I/O in flight, a futex operation in
 * progress, a pipe; or somebody who is just about to drop a reference.
 *
 * Context: any; @page has one holder and was unmapped under region->lock for writing or
 * the leaf lock, so only somebody with a reference can take more of them.
 * Return: whether there is any other reference.
 */
static inline bool cowmem_page_busy(struct page *page, int mine)
{
	/*
	 * GUP-fast takes a reference and then checks that the PTE is still there; we
	 * removed the PTE and now check for references.
	 */
	smp_mb();
	return folio_ref_count(page_folio(page)) != 1 + mine;
}

/**
 * cowmem_page_mappable - may a page be mapped once more?
 * @page: the page
 *
 * A PTE costs eight bytes, so with enough memory a hostile user could make the reference
 * count of a page wrap around.
 *
 * Context: any.
 * Return: false if the page has an absurd number of references already.
 */
static inline bool cowmem_page_mappable(struct page *page)
{
	int refs = folio_ref_count(page_folio(page));

	return refs > 0 && refs < INT_MAX / 2;
}

#endif /* _COWMEM_PAGE_H */
