/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The page index of a region: paths from the root to the leaves.  See tree.c.
 */
#ifndef _COWMEM_TREE_H
#define _COWMEM_TREE_H

#include "node.h"

struct page;

void cowmem_tree_init(struct cowmem_tree *tree, struct cowmem_account *account);
void cowmem_tree_destroy(struct cowmem_tree *tree);
void cowmem_tree_clone(struct cowmem_tree *clone, const struct cowmem_tree *tree);
void cowmem_tree_swap(struct cowmem_tree *a, struct cowmem_tree *b);
struct cowmem_node *cowmem_tree_leaf(const struct cowmem_tree *tree,
				     pgoff_t index, bool *shared);
struct page *cowmem_tree_page(const struct cowmem_tree *tree, pgoff_t index);
struct cowmem_node *cowmem_tree_own(struct cowmem_tree *tree, pgoff_t index,
				    bool gently);
struct cowmem_node *cowmem_tree_add_leaf(struct cowmem_tree *tree, pgoff_t index,
					 bool gently);
int cowmem_tree_own_edge(struct cowmem_tree *tree, pgoff_t index);
int cowmem_tree_raise(struct cowmem_tree *tree, const struct cowmem_tree *as);

/* For the other files of the index. */
struct cowmem_node *cowmem_tree_own_node(struct cowmem_tree *tree, pgoff_t index,
					 unsigned int level, bool create, bool gently);
void cowmem_node_put(struct cowmem_node *node);

#endif /* _COWMEM_TREE_H */
