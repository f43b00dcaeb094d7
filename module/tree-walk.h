/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Walks through trees that change nothing: find, count, compare.  See tree-walk.c.
 */
#ifndef _COWMEM_TREE_WALK_H
#define _COWMEM_TREE_WALK_H

#include "node.h"

/*
 * A budget for the functions below that is worth about a millisecond, which is fine under
 * a lock.  When it is used up, drop the lock, look for a fatal signal, and go on.
 */
#define COWMEM_TREE_BUDGET	4096UL

bool cowmem_tree_next(const struct cowmem_tree *tree, pgoff_t *index, bool data,
		      unsigned long *budget);
u64 cowmem_tree_count(const struct cowmem_tree *tree, pgoff_t *index, pgoff_t last,
		      unsigned long *budget);
u64 cowmem_tree_diff(const struct cowmem_tree *a, const struct cowmem_tree *b,
		     pgoff_t *index, unsigned long *budget);
bool cowmem_tree_only_granted(const struct cowmem_tree *a,
			      const struct cowmem_tree *b,
			      unsigned long *budget);

#endif /* _COWMEM_TREE_WALK_H */
