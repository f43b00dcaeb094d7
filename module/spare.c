// SPDX-License-Identifier: GPL-2.0-only
/*
 * Spare pages
 *
 * While holes or shared pages are written in order, pages for the next writes are allocated
 * together with the current one.  They are on a list of the leaf lock, linked by ->private.
 * limit_mib counts them, but a mount does so only when they are taken.
 */
#include <linux/err.h>
#include <linux/highmem.h>
#include <linux/mm.h>

#include "account.h"
#include "hold.h"
#include "page.h"
#include "spare.h"

/* Put @page, which nobody else has, in front of the list. */
static void spare_push(struct page **spare, struct page *page)
{
	set_page_private(page, (unsigned long)*spare);
	WRITE_ONCE(*spare, page);
}

/* Take the first page off the list.  It has one holder. */
static struct page *spare_pop(struct page **spare)
{
	struct page *page = *spare;

	WRITE_ONCE(*spare, (struct page *)page_private(page));
	set_page_private(page, 1);
	return page;
}

/**
 * cowmem_page_take - take a spare page
 * @spare: the list, which is not empty
 * @account: what the page is to be charged to, or NULL
 * @zero: whether to clear it
 *
 * Context: any; the caller excludes others from the list.
 * Return: the page; -ENOSPC.
 */
struct page *cowmem_page_take(struct page **spare, struct cowmem_account *account,
			      bool zero)
{
	struct page *page;

	if (!cowmem_charge(account, 1))
		return ERR_PTR(-ENOSPC);
	page = spare_pop(spare);
	*cowmem_page_account_slot(page) = account;
	/* Many kernels clear all memory that they allocate. */
	if (zero && !want_init_on_alloc(0))
		clear_highpage(page);
	return page;
}

/**
 * cowmem_page_set_aside - make a page that is not needed now a spare one
 * @page: the page, which nobody has written since it was allocated
 * @spare: the list
 *
 * Context: any; the caller excludes others from the list.
 */
void cowmem_page_set_aside(struct page *page, struct page **spare)
{
	cowmem_uncharge(*cowmem_page_account_slot(page), 1);
	spare_push(spare, page);
}

/**
 * cowmem_pages_ahead - allocate pages that will be needed soon
 * @spare: the list, which is empty
 * @order: the logarithm of how many
 *
 * If memory is not at hand, the list stays empty.
 *
 * Context: may sleep; the caller excludes others from the list.
 */
void cowmem_pages_ahead(struct page **spare, unsigned int order)
{
	struct page *page = cowmem_pages_alloc(order);
	long nr = 1L << order;

	while (page && nr--)
		spare_push(spare, page + nr);
}

/**
 * cowmem_pages_drop - free spare pages
 * @spare: the list; empty afterwards
 *
 * Context: any; the caller excludes others from the list.
 */
void cowmem_pages_drop(struct page **spare)
{
	while (*spare) {
		struct page *page = spare_pop(spare);

		*cowmem_page_account_slot(page) = NULL;
		cowmem_page_drop(page, false);
	}
}
