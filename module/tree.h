/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The persistent page index: a radix tree whose nodes are shared by reference
 * count.  See tree.c for the model.
 */
#ifndef _COWMEM_TREE_H
#define _COWMEM_TREE_H

#include <linux/bits.h>
#include <linux/list.h>
#include <linux/refcount.h>
#include <linux/spinlock.h>
#include <linux/types.h>

struct cowmem_account;
struct folio;
struct page;

/*
 * Fan-out of a node; a leaf keeps one bit per slot in a u64, so at most 6.
 *
 * A first write below a shared leaf copies the leaf and raises the count of
 * each page in it, so a small leaf makes scattered writes after a clone cheap;
 * a large one has less to walk, to lock and to store.  Measured on 6.1, see
 * README.md: 64 slots.
 */
#define COWMEM_NODE_SHIFT	6
#define COWMEM_NODE_SLOTS	(1U << COWMEM_NODE_SHIFT)
#define COWMEM_NODE_MASK	(COWMEM_NODE_SLOTS - 1)

/**
 * struct cowmem_node - one node of the index
 * @refs: pointers to this node, from tree roots and from slots of parents.
 * @account: what it counts in, or NULL.
 * @level: 0 for a leaf; a node spans COWMEM_NODE_SLOTS^(level + 1) indices.
 * @nr: slots that are not NULL.
 * @large: leaf only, of which sizes there may be folios that some of its pages are of, one
 *	bit each, that of COWMEM_NODE_SLOTS pages the lowest.
 * @granted: leaf only, one bit per slot: the page may be written in place by
 *	the one region that reaches this leaf.
 * @named: leaf only, those of @granted whose page has a name, see page.c: it may be
 *	mapped.
 * @base: leaf only, index of slot 0 while @granted is not 0; a shared leaf may
 *	hang at several places.
 * @granted_link: leaf only, in cowmem_tree.granted while @granted is not 0.
 * @fold: leaf only, of those of an area that are granted together, the next one, in a
 *	circle; only the first of them is in cowmem_tree.granted then. Or NULL.
 * @whole: leaf only, all slots are pages of this folio, in order; or NULL.
 * @slots: child nodes, or pages in a leaf; NULL is a hole.
 *
 * A node with more than one reference never changes, nor does anything below
 * it.  What protects the others is the business of the tree's owner, see "Locks"
 * in cowmem.h.
 *
 * The pages of a folio that covers an area are in the slots of all its leaves (eight with
 * pages of 4 KiB), like any others, those of a smaller one in the slots of four, two or one.
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
 * @root: NULL when nothing is populated.
 * @account: what nodes that it makes count in, or NULL.
 * @granted: leaves with granted pages, all of them reached by this tree alone.
 * @granted_lock: protects @granted against other leaves being added, and @nr of the
 *	nodes above the leaves likewise.
 */
struct cowmem_tree {
	struct cowmem_node *root;
	struct cowmem_account *account;
	struct list_head granted;
	spinlock_t granted_lock;
};

/* Provided by the owner of the pages and of the memory, see page.c. */
struct cowmem_node *cowmem_node_alloc(struct cowmem_account *account, bool gently);
void cowmem_node_free(struct cowmem_node *node);
void cowmem_page_hold(struct page *page);
void cowmem_folio_hold(struct folio *folio, long nr);
void cowmem_pages_hold_slots(void *const *slots);
void cowmem_page_drop(struct page *page, bool granted);
void cowmem_folio_drop(struct folio *folio, long nr);
void cowmem_pages_drop_slots(void *const *slots, unsigned int nr, u64 granted);

static inline unsigned int cowmem_slot(pgoff_t index)
{
	return index & COWMEM_NODE_MASK;
}

void cowmem_tree_init(struct cowmem_tree *tree, struct cowmem_account *account);
void cowmem_tree_destroy(struct cowmem_tree *tree);
void cowmem_tree_clone(struct cowmem_tree *clone, const struct cowmem_tree *tree);
int cowmem_tree_share(struct cowmem_tree *dst, pgoff_t dst_first,
		      const struct cowmem_tree *src, pgoff_t src_first,
		      pgoff_t nr);

struct cowmem_node *cowmem_tree_leaf(const struct cowmem_tree *tree,
				     pgoff_t index, bool *shared);
struct page *cowmem_tree_page(const struct cowmem_tree *tree, pgoff_t index);
struct cowmem_node *cowmem_tree_own(struct cowmem_tree *tree, pgoff_t index,
				    bool gently);
struct cowmem_node *cowmem_tree_add_leaf(struct cowmem_tree *tree, pgoff_t index,
					 bool gently);
int cowmem_tree_own_edge(struct cowmem_tree *tree, pgoff_t index);
void cowmem_tree_punch(struct cowmem_tree *tree, pgoff_t first, pgoff_t last);

/*
 * A budget for the functions below that is a matter of a millisecond.  To be had under
 * a lock; where it is used up, let go of the lock, look for a fatal signal, and go on.
 */
#define COWMEM_TREE_BUDGET	4096UL

bool cowmem_tree_next(const struct cowmem_tree *tree, pgoff_t *index, bool data,
		      unsigned long *budget);
u64 cowmem_tree_count(const struct cowmem_tree *tree, pgoff_t *index, pgoff_t last,
		      unsigned long *budget);
u64 cowmem_tree_diff(const struct cowmem_tree *a, const struct cowmem_tree *b,
		     pgoff_t *index, unsigned long *budget);
int cowmem_tree_raise(struct cowmem_tree *tree, const struct cowmem_tree *as);
void cowmem_tree_swap(struct cowmem_tree *a, struct cowmem_tree *b);
bool cowmem_tree_only_granted(const struct cowmem_tree *a,
			      const struct cowmem_tree *b,
			      unsigned long *budget);
void cowmem_tree_graft(struct cowmem_tree *tree, pgoff_t first, pgoff_t last,
		       struct cowmem_tree *from);

void cowmem_leaf_set(struct cowmem_node *leaf, pgoff_t index,
		     struct page *page);
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
void cowmem_tree_sort_granted(struct cowmem_tree *tree);
u64 cowmem_leaf_granted(const struct cowmem_node *leaf, pgoff_t first,
			pgoff_t end);

#endif /* _COWMEM_TREE_H */
