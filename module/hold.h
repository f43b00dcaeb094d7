/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Holding pages and letting them go.  A slot that points to a page holds it.  The tests of
 * the index on the host bring their own hold.c, so nothing here needs a struct page.
 */
#ifndef _COWMEM_HOLD_H
#define _COWMEM_HOLD_H

#include <linux/types.h>

struct folio;
struct page;

void cowmem_page_hold(struct page *page);
void cowmem_folio_hold(struct folio *folio, long nr);
void cowmem_pages_hold_slots(void *const *slots);
void cowmem_page_drop(struct page *page, bool granted);
void cowmem_folio_drop(struct folio *folio, long nr);
void cowmem_pages_drop_slots(void *const *slots, unsigned int nr, u64 granted);

#endif /* _COWMEM_HOLD_H */
