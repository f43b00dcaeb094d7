/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The rest of a block: pages that no slot holds yet.  See rest.c.
 */
#ifndef _COWMEM_REST_H
#define _COWMEM_REST_H

#include <linux/types.h>

struct cowmem_leaf_lock;
struct cowmem_region;
struct folio;
struct page;

void cowmem_rest_start(struct cowmem_leaf_lock *lock, struct folio *folio, pgoff_t base);
struct page *cowmem_rest_take(struct cowmem_leaf_lock *lock, pgoff_t index);
bool cowmem_rest_back(struct cowmem_leaf_lock *lock, pgoff_t index, struct page *page);
bool cowmem_rest_left(struct cowmem_leaf_lock *lock, struct folio *folio, pgoff_t index);
void cowmem_rest_drop(struct cowmem_leaf_lock *lock);
void cowmem_rests_drop(struct cowmem_region *region);

#endif /* _COWMEM_REST_H */
