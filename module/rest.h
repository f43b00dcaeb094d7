/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The rest of a block: pages that no slot holds yet.  See rest.c.
 */
#ifndef _COWMEM_REST_H
#define _COWMEM_REST_H

struct cowmem_leaf_lock;
struct cowmem_region;

void cowmem_rest_drop(struct cowmem_leaf_lock *lock);
void cowmem_rests_drop(struct cowmem_region *region);

#endif /* _COWMEM_REST_H */
