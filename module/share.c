// SPDX-License-Identifier: GPL-2.0-only
/*
 * Letting a tree share the pages of a region, as they are at one instant
 *
 * The region's writers are stopped (cut.c), the tree shares its nodes, and then the grants
 * are taken back.  A page that somebody is using at that moment, perhaps for I/O that is
 * still writing, stays granted to the region, and the tree gets a copy.
 */
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/sched/signal.h>

#include "cut.h"
#include "grant.h"
#include "hold.h"
#include "leaf.h"
#include "limbo.h"
#include "lock.h"
#include "node.h"
#include "page.h"
#include "region.h"
#include "rest.h"
#include "share.h"
#include "tree-range.h"
#include "tree.h"

/**
 * struct look - the folio that was looked at last
 * @folio: the folio
 * @busy: whether it is in use
 */
struct look {
	struct folio *folio;
	bool busy;
};

/*
 * Is @page of @leaf, which was unmapped, in use?  The answer is the same for all pages of a
 * folio, even if a reference is dropped meanwhile: their leaves are in order, so the last
 * answer is remembered.
 */
static bool looks_busy(struct look *look, const struct cowmem_node *leaf, struct page *page)
{
	struct folio *folio = page_folio(page);

	if (!leaf->large || !cowmem_page_large(page))
		return cowmem_page_busy(page, 0);
	if (look->folio != folio) {
		look->folio = folio;
		look->busy = cowmem_page_busy(page, 0);
	}
	return look->busy;
}

/* Give the tree a copy of @page, which is at @index of it. */
static int give_copy(struct cowmem_share *s, pgoff_t index, struct page *page)
{
	struct cowmem_node *leaf = cowmem_tree_own(s->tree, index, false);
	struct page *copy;

	if (IS_ERR(leaf))
		return PTR_ERR(leaf);
	copy = cowmem_page_duplicate(page, cowmem_region_account(s->region), false);
	if (IS_ERR(copy))
		return PTR_ERR(copy);
	cowmem_leaf_set(leaf, index, copy);
	cowmem_page_drop(page, false);
	s->nr_copied++;
	return 0;
}

/* As copy_busy(), of @slots of one leaf. */
static int copy_busy_slots(struct cowmem_share *s, struct look *look,
			   const struct cowmem_node *leaf, u64 slots)
{
	for (; slots; slots &= slots - 1) {
		unsigned int i = __ffs64(slots);
		struct page *page = leaf->slots[i];
		int err;

		if (!looks_busy(look, leaf, page)) {
			if (leaf->whole)
				break;
			continue;
		}
		/* A fault that is about to map the whole folio takes a moment. */
		if (s->patient && cowmem_page_huge(page))
			return -EAGAIN;
		/* What is written to it is never read: share it. */
		if (PageHWPoison(page) && !cowmem_page_large(page)) {
			cowmem_page_unname(page);
			continue;
		}
		err = give_copy(s, leaf->base + i - s->first + s->to, page);
		if (err)
			return err;
	}
	return 0;
}

/*
 * Give the tree copies of pages that are in use, as whoever uses them may be writing: I/O
 * in flight has to land in the page of the region that it was started on.  These pages
 * stay granted.
 */
static int copy_busy(struct cowmem_share *s)
{
	struct look look = { };
	struct cowmem_node *leaf;
	int err;

	list_for_each_entry(leaf, &s->region->tree.granted, granted_link) {
		u64 slots = cowmem_leaf_granted(leaf, s->first, s->end);

		if (leaf->fold && !looks_busy(&look, leaf, leaf->slots[0])) {
			s->nr_cut += folio_nr_pages(leaf->whole);
			continue;
		}
		cowmem_leaves_unfold(leaf);
		s->nr_cut += hweight64(slots);
		err = copy_busy_slots(s, &look, leaf, slots & leaf->named);
		if (err)
			return err;
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
	}
	return 0;
}

/*
 * Take back the grants of pages whose folios lost their names because some of their pages
 * are shared.  Such pages may be just outside of the shared range.  Or they were copied
 * because the folio was in use, but it was no longer when other pages of it were looked at.
 */
static void revoke_nameless(const struct cowmem_share *s)
{
	pgoff_t first = s->first, end = s->end;
	struct cowmem_node *leaf, *next;

	cowmem_widen_cut(s->region, &first, &end);
	if (!s->nr_copied && first == s->first && end == s->end)
		return;
	list_for_each_entry_safe(leaf, next, &s->region->tree.granted,
				 granted_link) {
		u64 slots = cowmem_leaf_granted(leaf, first, end), left, lost = 0;

		for (left = leaf->large ? slots : 0; left; left &= left - 1) {
			unsigned int i = __ffs64(left);

			if (cowmem_page_large(leaf->slots[i]) && !cowmem_has_name(leaf, i))
				lost |= BIT_ULL(i);
		}
		cowmem_leaf_ungrant(leaf, lost);
	}
}

/* Which of @slots of @leaf were copied, so that they stay granted? */
static u64 copied_slots(const struct cowmem_share *s, const struct cowmem_node *leaf, u64 slots)
{
	u64 copied = 0;

	for (; slots && s->nr_copied; slots &= slots - 1) {
		unsigned int i = __ffs64(slots);
		pgoff_t index = leaf->base + i - s->first + s->to;

		if (cowmem_tree_page(s->tree, index) != leaf->slots[i])
			copied |= BIT_ULL(i);
		else if (leaf->whole)
			break;
	}
	return copied;
}

/* Take back the grants of all that is shared now. */
static void revoke(struct cowmem_share *s)
{
	struct cowmem_node *leaf, *next;

	if (!cowmem_region_frozen(s->region))
		cowmem_rests_drop(s->region);
	list_for_each_entry_safe(leaf, next, &s->region->tree.granted,
				 granted_link) {
		u64 slots = cowmem_leaf_granted(leaf, s->first, s->end);

		/* Not in use, or copy_busy() would have unfolded it. */
		if (leaf->fold) {
			cowmem_revoke_folded(leaf);
			continue;
		}
		cowmem_revoke(leaf, slots & ~copied_slots(s, leaf, slots & leaf->named));
		cond_resched();
	}
	revoke_nameless(s);
}

/**
 * cowmem_share - let a tree share pages of a region, as they are at one instant
 * @s: which pages; the tree is empty, and cowmem_cut() was called
 *
 * Context: may sleep; under region->lock for writing, or for reading if the region
 * is frozen.
 * Return: 0; -EAGAIN if a folio is in use and @s->patient; -ENOMEM, -ENOSPC, -EHWPOISON or
 * -EINTR.  On failure the tree is empty.
 */
int cowmem_share(struct cowmem_share *s)
{
	int err = 0;

	if (!s->first && !s->to && s->end == ULONG_MAX)
		cowmem_tree_clone(s->tree, &s->region->tree);
	else
		err = cowmem_tree_share(s->tree, s->to, &s->region->tree,
					s->first, s->end - s->first);
	if (!err)
		err = copy_busy(s);
	if (err) {
		/* Before anyone finds granted pages in shared nodes. */
		cowmem_tree_destroy(s->tree);
		return err;
	}
	revoke(s);
	return 0;
}

/* One attempt of cowmem_share_now(), with the region locked for it. */
static int try_to_share(struct cowmem_share *s)
{
	struct cowmem_region *region = s->region;
	bool write;
	int err;

	err = cowmem_lock_to_share(region, !s->first && s->end == ULONG_MAX, &write);
	if (err)
		return err;
	s->size = cowmem_region_size(region);
	/* A write() in progress may have added pages past the end. */
	if (s->first)
		s->end = min(s->end, cowmem_region_end(region));
	if (s->need > s->size)
		err = -EINVAL;
	if (!err)
		err = cowmem_cut(region, s->first, s->end);
	if (!err)
		err = cowmem_share(s);
	if (!err && write) {
		s->nr_cut += region->nr_cut;
		region->nr_cut = 0;
	}
	s->frozen = cowmem_region_frozen(region);
	cowmem_unlock(region, write);
	return err;
}

/* How often to wait for a folio that is in use before its pages are copied. */
#define SHARE_TRIES	3

/* As cowmem_share_now(), with the region locked until all is shared. */
static int share_now(struct cowmem_share *s)
{
	unsigned int tries = SHARE_TRIES;
	int err;

	do {
		s->nr_cut = 0;
		s->nr_copied = 0;
		s->patient = tries--;
		err = try_to_share(s);
	} while (err == -EAGAIN);
	return err;
}

/*
 * Pages that go to other slots are shared one by one, and there may be many of them.  The
 * caller may only have the right to read the region, so it must not stop its writers for
 * so long.  Share the pages where they are first, which takes few nodes, and go on from
 * there with the region unlocked.
 */
static int share_shifted(struct cowmem_share *s)
{
	struct cowmem_share same = *s;
	struct cowmem_tree there;
	int err;

	cowmem_tree_init(&there, cowmem_region_account(s->region));
	same.tree = &there;
	same.to = s->first;
	err = share_now(&same);
	same.tree = s->tree;
	same.to = s->to;
	*s = same;
	if (err)
		return err;
	err = cowmem_tree_share(s->tree, s->to, &there, s->first, s->end - s->first);
	if (err)
		cowmem_tree_destroy(s->tree);
	cowmem_tree_destroy(&there);
	return err;
}

/**
 * cowmem_share_now - let a tree share pages of a region
 * @s: which pages; the tree is empty
 *
 * The region is locked no longer than it takes to stop its writers.
 *
 * Context: may sleep; no region is locked.
 * Return: 0; -EINVAL if the region ends before @s->need; -EIO if it is a snapshot that has
 * yielded; -ENOMEM, -ENOSPC, -EHWPOISON or -EINTR.  On failure the tree is empty.
 */
int cowmem_share_now(struct cowmem_share *s)
{
	return (s->first ^ s->to) & COWMEM_NODE_MASK ? share_shifted(s) : share_now(s);
}
