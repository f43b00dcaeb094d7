/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the index of a region is made of: nodes, which trees share by reference count.
 * See tree.c for the model.
 */
#ifndef _COWMEM_NODE_H
#define _COWMEM_NODE_H

#include <linux/bits.h>
#include <linux/kernel.h>
#include <linux/list.h>
#include <linux/refcount.h>
#include <linux/spinlock.h>
#include <linux/types.h>

struct cowmem_account;
struct folio;

/*
 * Fan-out of a node.  A leaf has one bit per slot in a u64, so the shift is at most 6.
 *
 * The first write below a shared leaf copies the leaf and raises the count of each page
 * in it, so small leaves make scattered writes after a clone cheap.  Large ones have less
 * to walk, to lock and to store.  64 slots did best when measured on 6.1.
 */
#define COWMEM_NODE_SHIFT	6
#define COWMEM_NODE_SLOTS	(1U << COWMEM_NODE_SHIFT)
#define COWMEM_NODE_MASK	(COWMEM_NODE_SLOTS - 1)

/**
 * struct cowmem_node - one node of the index
 * @refs: number of pointers to this node, from tree roots and from slots of parents.
 * @account: what the node is charged to, or NULL.
 * @level: 0 for a leaf.  A node spans COWMEM_NODE_SLOTS^(level + 1) indices.
 * @nr: number of slots that are not NULL.
 * @large: leaf only: the sizes of large folios that pages in the slots may belong to, one
 *	bit each.  The lowest bit stands for folios of COWMEM_NODE_SLOTS pages.  A set bit
 *	may be stale, a clear one is not.
 * @granted: leaf only: one bit per slot, set while the one region that reaches this leaf
 *	may write the page in place.
 * @named: leaf only: the bits of @granted whose page has a name (see page.c) and may be
 *	mapped.
 * @base: leaf only: index of slot 0 while @granted is not 0.  A shared leaf may hang at
 *	several places.
 * @granted_link: leaf only: in cowmem_tree.granted while @granted is not 0.
 * @fold: leaf only: leaves of one folio that were granted together form a circle through
 *	this field, and only the first of them is in cowmem_tree.granted.  NULL otherwise.
 * @whole: leaf only: the folio whose pages fill all slots, in order; or NULL.
 * @slots: child nodes, or in a leaf pages; NULL is a hole.
 *
 * A node with more than one reference never changes, nor does anything below it.  How
 * the other nodes are protected is up to the owner of the tree: see "Locks" in region.h.
 *
 * A large folio has no entry of its own.  Its pages are in the slots of as many leaves as
 * they fill, like any other pages.
 */
struct cowmem_node {
	refcount_t refs;
	u8 level;
	u8 nr;
	u8 large;
	struct cowmem_account *account;
	u64 granted;
	u64 named;
	pgoff_t base;
	struct list_head granted_link;
	struct cowmem_node *fold;
	struct folio *whole;
	void *slots[COWMEM_NODE_SLOTS];
};

/**
 * struct cowmem_tree - the index of one region
 * @root: NULL if nothing is populated.
 * @account: what new nodes are charged to, or NULL.
 * @granted: leaves with granted pages; only this tree reaches them.
 * @granted_lock: protects @granted, and @nr of the nodes above the leaves, against other
 *	leaves being added at the same time.
 */
struct cowmem_tree {
	struct cowmem_node *root;
	struct cowmem_account *account;
	struct list_head granted;
	spinlock_t granted_lock;
};

/* The slot of an index in its leaf. */
static inline unsigned int cowmem_slot(pgoff_t index)
{
	return index & COWMEM_NODE_MASK;
}

/* How many bits of an index are left to the levels below @level. */
static inline unsigned int cowmem_level_shift(unsigned int level)
{
	return level * COWMEM_NODE_SHIFT;
}

/* The last index that a tree with a root on @level can hold. */
static inline pgoff_t cowmem_level_last(unsigned int level)
{
	unsigned int shift = cowmem_level_shift(level + 1);

	return shift >= BITS_PER_LONG ? ULONG_MAX : (1UL << shift) - 1;
}

/* The slot of @node that leads to an index. */
static inline unsigned int cowmem_node_slot(const struct cowmem_node *node, pgoff_t index)
{
	return cowmem_slot(index >> cowmem_level_shift(node->level));
}

/*
 * Does anything else point to @node?
 *
 * Another tree that copied @node raised the counts of its children before it dropped its
 * reference to @node.  The barrier pairs with the release in refcount_dec_and_test(): a
 * caller that sees the drop also sees the children's counts raised, and may write to what
 * was being copied.
 */
static inline bool cowmem_node_shared(const struct cowmem_node *node)
{
	if (refcount_read(&node->refs) > 1)
		return true;
	smp_acquire__after_ctrl_dep();
	return false;
}

int cowmem_nodes_init(void);
void cowmem_nodes_exit(void);
struct cowmem_node *cowmem_node_alloc(struct cowmem_account *account, bool gently);
void cowmem_node_free(struct cowmem_node *node);

#endif /* _COWMEM_NODE_H */
