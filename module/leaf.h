/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The slots of a leaf, and which of them are granted.  See leaf.c.
 */
#ifndef _COWMEM_LEAF_H
#define _COWMEM_LEAF_H

#include "node.h"

struct page;

void cowmem_leaf_set(struct cowmem_node *leaf, pgoff_t index, struct page *page);
void cowmem_leaf_fill(struct cowmem_node *leaf, struct folio *folio, u8 large,
		      struct page *const *pages);
void cowmem_leaf_grant(struct cowmem_tree *tree, struct cowmem_node *leaf,
		       pgoff_t index);
void cowmem_leaf_grant_slots(struct cowmem_tree *tree, struct cowmem_node *leaf,
			     pgoff_t base, u64 slots);
void cowmem_leaves_grant(struct cowmem_tree *tree, struct cowmem_node **leaves,
			 unsigned int nr, pgoff_t base);
void cowmem_leaves_fold(struct cowmem_tree *tree, struct cowmem_node **leaves,
			unsigned int nr);
void cowmem_leaves_ungrant(struct cowmem_node *leaf);
void cowmem_leaves_unfold(struct cowmem_node *leaf);
void cowmem_leaf_ungrant(struct cowmem_node *leaf, u64 slots);
u64 cowmem_leaf_granted(const struct cowmem_node *leaf, pgoff_t first, pgoff_t end);
void cowmem_tree_sort_granted(struct cowmem_tree *tree);

#endif /* _COWMEM_LEAF_H */
