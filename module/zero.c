// SPDX-License-Identifier: GPL-2.0-only
/*
 * The zero page: what a hole reads as
 *
 * It belongs to the module.  One that is poisoned is replaced, but may stay mapped.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/list.h>
#include <linux/mm.h>
#include <linux/mutex.h>

#include "zero.h"

/* Use cowmem_zero_page(). */
struct page *cowmem_current_zero_page;

/* Former zero pages that were poisoned, linked by lru.  They may be mapped for ever. */
static LIST_HEAD(poisoned_zero_pages);
static DEFINE_MUTEX(zero_page_lock);

static struct page *zero_page_alloc(void)
{
	struct page *page = alloc_page(GFP_KERNEL | __GFP_ZERO);

	if (page) {
		__folio_set_swapbacked(page_folio(page));
		SetPageUptodate(page);
	}
	return page;
}

/**
 * cowmem_replace_zero_page - replace a poisoned zero page
 *
 * Where the old one is mapped, it stays mapped.
 *
 * Context: may sleep.
 * Return: the new zero page; without memory for one, still the old one.
 */
struct page *cowmem_replace_zero_page(void)
{
	struct page *old, *page;

	mutex_lock(&zero_page_lock);
	old = cowmem_current_zero_page;
	page = PageHWPoison(old) ? zero_page_alloc() : NULL;
	if (page) {
		list_add(&old->lru, &poisoned_zero_pages);
		/* Whoever sees the pointer sees the zeroes. */
		smp_store_release(&cowmem_current_zero_page, page);
		pr_warn("the zero page was poisoned and is replaced\n");
	}
	page = cowmem_current_zero_page;
	mutex_unlock(&zero_page_lock);
	return page;
}

/**
 * cowmem_zero_init - set up the zero page
 *
 * Context: may sleep.
 * Return: 0 or -ENOMEM.
 */
int cowmem_zero_init(void)
{
	cowmem_current_zero_page = zero_page_alloc();
	return cowmem_current_zero_page ? 0 : -ENOMEM;
}

/**
 * cowmem_zero_exit - undo cowmem_zero_init()
 *
 * Context: any; no region is left.
 */
void cowmem_zero_exit(void)
{
	struct page *page, *next;

	list_for_each_entry_safe(page, next, &poisoned_zero_pages, lru) {
		list_del(&page->lru);
		put_page(page);
	}
	put_page(cowmem_current_zero_page);
}
