/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Limbo: where dropped pages wait that somebody still refers to.  See limbo.c.
 */
#ifndef _COWMEM_LIMBO_H
#define _COWMEM_LIMBO_H

struct address_space;
struct page;

void cowmem_limbo_init(void);
void cowmem_limbo_exit(void);
void cowmem_limbo_add(struct page *page);
void cowmem_page_unname(struct page *page);
void cowmem_pages_forget(struct address_space *mapping);

#endif /* _COWMEM_LIMBO_H */
