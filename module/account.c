// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the files of one mount hold together, and may hold
 *
 * Pages, inodes and extended attributes count, and so do index nodes, but by themselves:
 * size= is what can be written.
 *
 * A page counts in the mount in which it was written.  One that was written on a region of
 * the device counts nowhere, until a region of a mount gets to hold it as well.  So it
 * counts once, however many regions share it, and until the last of them lets go of it.
 *
 * Hence pages of one mount never get into another one, as nobody could say whose they
 * are; RESTORE and COPY fail, and MERGE leaves them alone.
 */
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "account.h"
#include "join.h"
#include "page.h"
#include "region.h"
#include "tree-walk.h"
#include "tree.h"

/**
 * cowmem_account_create - an account for a new mount
 * @max_pages: how many pages it may have, 0 is no limit
 * @max_inodes: how many inodes, likewise
 *
 * Context: may sleep.
 * Return: the account, or NULL.
 */
struct cowmem_account *cowmem_account_create(unsigned long max_pages,
					     unsigned long max_inodes)
{
	struct cowmem_account *account = kzalloc(sizeof(*account), GFP_KERNEL);

	if (!account)
		return NULL;
	atomic_long_set(&account->pages, 1);
	atomic_long_set(&account->nodes, 1);
	account->max_pages = max_pages;
	account->max_inodes = max_inodes;
	return account;
}

/**
 * cowmem_account_close - the mount of an account is gone
 * @account: the account, or NULL
 *
 * Regions of the device may go on to hold pages that count in it.
 *
 * Context: any.
 */
void cowmem_account_close(struct cowmem_account *account)
{
	cowmem_uncharge(account, 1);
}

/**
 * cowmem_account_pages - how many pages count in an account
 * @account: the account
 *
 * Context: any; the mount is there.
 * Return: the number.
 */
unsigned long cowmem_account_pages(const struct cowmem_account *account)
{
	return atomic_long_read(&account->pages) - 1;
}

/**
 * cowmem_account_inodes - how many inodes count in an account, as far as limits go
 * @account: the account
 *
 * Context: any.
 * Return: the number; extended attributes make it more.
 */
unsigned long cowmem_account_inodes(const struct cowmem_account *account)
{
	return DIV_ROUND_UP(atomic_long_read(&account->space), COWMEM_INODE_SPACE);
}

/* Add @nr to @count, unless that makes it more than @max, which is none if it is 0. */
static bool count_up(atomic_long_t *count, unsigned long nr, unsigned long max)
{
	long now = atomic_long_read(count);

	do {
		if (max && now + nr > max)
			return false;
	} while (!atomic_long_try_cmpxchg(count, &now, now + nr));
	return true;
}

/**
 * cowmem_charge - pages are to count in an account
 * @account: the account, or NULL
 * @nr: how many
 *
 * Context: any; the mount is there.
 * Return: whether they fit.
 */
bool cowmem_charge(struct cowmem_account *account, unsigned long nr)
{
	unsigned long max;

	if (!account)
		return true;
	max = READ_ONCE(account->max_pages);
	return count_up(&account->pages, nr, max ? max + 1 : 0);
}

/**
 * cowmem_uncharge - undo cowmem_charge()
 * @account: the account, or NULL
 * @nr: how many
 *
 * Context: any.
 */
void cowmem_uncharge(struct cowmem_account *account, unsigned long nr)
{
	if (account && atomic_long_sub_and_test(nr, &account->pages))
		cowmem_uncharge_node(account);
}

/*
 * A page that is written needs nine nodes at most, so it is never for want of nodes that
 * it cannot be.  But ranges can be shared again and again at other offsets, and that takes
 * nodes alone.
 */
#define NODES_PER_PAGE	16
/* The smallest mount may have some files as well. */
#define NODES_AT_LEAST	1024

/**
 * cowmem_charge_node - one more index node is to count in an account
 * @account: the account, or NULL
 *
 * Nodes have a limit that users do not set: who fills a mount with them is stopped, and
 * nobody else meets it.
 *
 * Context: any; the mount is there.
 * Return: whether it fits.
 */
bool cowmem_charge_node(struct cowmem_account *account)
{
	unsigned long max;

	if (!account)
		return true;
	max = READ_ONCE(account->max_pages);
	return count_up(&account->nodes, 1,
			max ? NODES_PER_PAGE * max + NODES_AT_LEAST + 1 : 0);
}

/**
 * cowmem_uncharge_node - undo cowmem_charge_node()
 * @account: the account, or NULL
 *
 * Context: any.
 */
void cowmem_uncharge_node(struct cowmem_account *account)
{
	if (account && atomic_long_dec_and_test(&account->nodes))
		kfree(account);
}

/**
 * cowmem_account_short - how many pages have to go before one more fits
 * @account: the account, or NULL
 *
 * Context: any; the mount is there.
 * Return: how many, 0 if it fits.
 */
long cowmem_account_short(const struct cowmem_account *account)
{
	unsigned long max = account ? READ_ONCE(account->max_pages) : 0;

	/* The mount itself counts for one. */
	return max ? max_t(long, atomic_long_read(&account->pages) - max, 0) : 0;
}

/**
 * cowmem_charge_inode - one more inode, or name of one, is to count in an account
 * @account: the account
 *
 * Context: any.
 * Return: whether it fits.
 */
bool cowmem_charge_inode(struct cowmem_account *account)
{
	return cowmem_charge_space(account, COWMEM_INODE_SPACE);
}

/**
 * cowmem_uncharge_inode - undo cowmem_charge_inode()
 * @account: the account
 *
 * Context: any.
 */
void cowmem_uncharge_inode(struct cowmem_account *account)
{
	cowmem_uncharge_space(account, COWMEM_INODE_SPACE);
}

/**
 * cowmem_charge_space - bytes are to count where inodes do
 * @account: the account
 * @bytes: how many
 *
 * Context: any.
 * Return: whether they fit.
 */
bool cowmem_charge_space(struct cowmem_account *account, size_t bytes)
{
	return count_up(&account->space, bytes,
			READ_ONCE(account->max_inodes) * COWMEM_INODE_SPACE);
}

/**
 * cowmem_uncharge_space - undo cowmem_charge_space()
 * @account: the account
 * @bytes: how many
 *
 * Context: any.
 */
void cowmem_uncharge_space(struct cowmem_account *account, size_t bytes)
{
	atomic_long_sub(bytes, &account->space);
}

/**
 * struct join - pages that are about to be held by a region of a mount
 * @region: the region.
 * @tree: what has the pages.
 * @count: only count those that do not count anywhere yet.
 * @pages: how many; or how many of them were charged and are not joined yet.
 * @last: the folio that was counted last: all of it counts, however much is held.
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
		/* Small pages may lie between those of a folio. */
		if (nr > 1)
			j->last = folio;
		return 0;
	}
	/* It was charged.  If the region changed meanwhile, there may be more. */
	nr = min(nr, j->pages);
	cowmem_uncharge(account, nr);
	j->pages -= nr;
	return cowmem_page_join(page, account);
}

/* Pages that the region has already count as they should. */
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
 * cowmem_join - a region is about to hold pages of another one
 * @region: the region
 * @from: the other one
 * @tree: the pages, which nobody changes
 *
 * On failure nothing has changed, but if it raced with another one like it.
 *
 * Context: may sleep; no region is locked.
 * Return: 0; -EXDEV if pages count in another mount; -ENOSPC, -EINTR.
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
