/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Taking write access back.  See cut.c.
 */
#ifndef _COWMEM_CUT_H
#define _COWMEM_CUT_H

#include <linux/types.h>

struct cowmem_node;
struct cowmem_region;

int cowmem_lock_to_share(struct cowmem_region *region, bool whole, bool *write);
int cowmem_cut(struct cowmem_region *region, pgoff_t first, pgoff_t end);
void cowmem_widen_cut(const struct cowmem_region *region, pgoff_t *first, pgoff_t *end);
unsigned long cowmem_revoke(struct cowmem_node *leaf, u64 slots);
unsigned long cowmem_revoke_folded(struct cowmem_node *leaf);

#endif /* _COWMEM_CUT_H */
