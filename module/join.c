// SPDX-License-Identifier: GPL-2.0-only
/*
 * Charging pages to a mount whose region is about to hold them
 *
 * This takes two walks through what the region does not hold yet.  The first one counts the
 * pages that are charged to nobody, and the second one charges them.
 */
#include <linux/mm.h>
#include <linux/sched/signal.h>

#include "account.h"
#include "join.h"
#include "page.h"
#include "region.h"
#include "tree-walk.h"
#include "tree.h"

/**
 * struct join - pages that a region of a mount is about to hold
 * @region: the region.
 * @tree: the tree that has the pages.
 * @count: this is the first walk.
 * @pages: how many pages the first walk found; then how many of them are charged to the
 *	account but not to any page yet.
 * @last: the folio that was counted last.  All of it counts, however much of it is held.
 */
struct join {
	struct cowmem_region *region;
	const struct cowmem_tree *tree;
	bool count;
	unsigned long pages;
	struct folio *last;
};

static int join_page(struct join *j, struct page *page)
{
	struct cowmem_account *account = cowmem_region_account(j->region);
	struct cowmem_account *has = cowmem_page_account(page);
	struct folio *folio = page_folio(page);
	unsigned long nr = folio_nr_pages(folio);

	if (has == account)
		return 0;
	if (has)
		return -EXDEV;
	if (j->count) {
		if (folio != j->last)
			j->pages += nr;
		/* Single pages may lie between those of a folio. */
		if (nr > 1)
			j->last = folio;
		return 0;
	}
	/*
	 * The account was charged for these pages.  Give that back, and charge the page
	 * itself.  There may be more pages than were counted, if the region changed meanwhile.
	 */
	nr = min(nr, j->pages);
	cowmem_uncharge(account, nr);
	j->pages -= nr;
	return cowmem_page_join(page, account);
}

/* Walk through what @j->tree has and the region does not: the rest is charged already. */
static int join_pages(struct join *j)
{
	pgoff_t base = 0;

	for (;;) {
		unsigned long budget = COWMEM_TREE_BUDGET;
		u64 slots;
		int err;

		err = down_read_killable(&j->region->lock);
		if (err)
			return err;
		slots = cowmem_tree_diff(j->tree, &j->region->tree, &base, &budget);
		up_read(&j->region->lock);
		if (base == ULONG_MAX)
			return 0;
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
		if (!slots)
			continue;
		for (; slots; slots &= slots - 1) {
			pgoff_t index = base + __ffs64(slots);
			struct page *page = cowmem_tree_page(j->tree, index);

			err = page ? join_page(j, page) : 0;
			if (err)
				return err;
		}
		base += COWMEM_NODE_SLOTS;
	}
}

/**
 * cowmem_join - charge pages of another region to the mount of a region that will hold them
 * @region: the region
 * @from: the other region
 * @tree: the pages; nobody else uses the tree
 *
 * On failure nothing has changed, unless this raced with another call like it.
 *
 * Context: may sleep; no region is locked.
 * Return: 0; -EXDEV if pages are charged to another mount; -ENOSPC, -EINTR.
 */
int cowmem_join(struct cowmem_region *region, const struct cowmem_region *from,
		const struct cowmem_tree *tree)
{
	struct cowmem_account *account = cowmem_region_account(region);
	struct join j = { .region = region, .tree = tree, .count = true };
	int err;

	if (!account || cowmem_region_account(from) == account)
		return 0;
	if (cowmem_region_account(from))
		return -EXDEV;
	err = join_pages(&j);
	if (err)
		return err;
	if (!cowmem_charge(account, j.pages))
		return -ENOSPC;
	j.count = false;
	err = join_pages(&j);
	cowmem_uncharge(account, j.pages);
	return err;
}
