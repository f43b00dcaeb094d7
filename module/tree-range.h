/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Ranges of a tree: sharing them, making holes of them, replacing them.  See tree-range.c.
 */
#ifndef _COWMEM_TREE_RANGE_H
#define _COWMEM_TREE_RANGE_H

#include "node.h"

int cowmem_tree_share(struct cowmem_tree *dst, pgoff_t dst_first,
		      const struct cowmem_tree *src, pgoff_t src_first,
		      pgoff_t nr);
void cowmem_tree_punch(struct cowmem_tree *tree, pgoff_t first, pgoff_t last);
void cowmem_tree_graft(struct cowmem_tree *tree, pgoff_t first, pgoff_t last,
		       struct cowmem_tree *from);

#endif /* _COWMEM_TREE_RANGE_H */
