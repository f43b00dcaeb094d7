/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Spare pages: allocated ahead for what is likely to be written next.  See spare.c.
 */
#ifndef _COWMEM_SPARE_H
#define _COWMEM_SPARE_H

#include <linux/types.h>

struct cowmem_account;
struct page;

struct page *cowmem_page_take(struct page **spare, struct cowmem_account *account,
			      bool zero);
void cowmem_page_set_aside(struct page *page, struct page **spare);
void cowmem_pages_ahead(struct page **spare, unsigned int order);
void cowmem_pages_drop(struct page **spare);

#endif /* _COWMEM_SPARE_H */
