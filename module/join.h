/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Charging pages to a mount whose region is about to hold them.  See join.c.
 */
#ifndef _COWMEM_JOIN_H
#define _COWMEM_JOIN_H

struct cowmem_region;
struct cowmem_tree;

int cowmem_join(struct cowmem_region *region, const struct cowmem_region *from,
		const struct cowmem_tree *tree);

#endif /* _COWMEM_JOIN_H */
