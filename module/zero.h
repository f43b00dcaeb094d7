/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The zero page: what a hole reads as.
 */
#ifndef _COWMEM_ZERO_H
#define _COWMEM_ZERO_H

#include <linux/mm.h>

/* Use cowmem_zero_page(). */
extern struct page *cowmem_current_zero_page;

int cowmem_zero_init(void);
void cowmem_zero_exit(void);
struct page *cowmem_replace_zero_page(void);

/**
 * cowmem_zero_page - the page that a hole reads as
 *
 * The kernel's own ZERO_PAGE cannot be inserted into a writable shared mapping.  A zero
 * page that gets poisoned is replaced, so pages do not tell whether an index is a hole:
 * only its slot does.
 *
 * Context: may sleep.
 * Return: a page of zeroes that lives as long as the module.
 */
static inline struct page *cowmem_zero_page(void)
{
	struct page *page = READ_ONCE(cowmem_current_zero_page);

	return likely(!PageHWPoison(page)) ? page : cowmem_replace_zero_page();
}

#endif /* _COWMEM_ZERO_H */
