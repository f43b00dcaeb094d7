// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the files of one mount hold together, and may hold
 *
 * Pages, inodes and extended attributes are charged to the mount.  Index nodes are charged
 * too, but counted apart from pages, because size= says how much can be written.
 *
 * A page is charged to the mount that it was written in.  A page of a region of the device is
 * charged to no mount until a region of one gets to hold it as well (join.c).  So a page is
 * charged once, however many regions share it, until the last of them drops it.
 *
 * Hence pages of one mount never get into another one, as nobody could say whose they are.
 * RESTORE and COPY fail there, and MERGE leaves such pages alone.
 */
#include <linux/slab.h>

#include "account.h"

/**
 * cowmem_account_create - make an account for a new mount
 * @max_pages: the most pages that it may have; 0 is no limit
 * @max_inodes: the most inodes that it may have; 0 is no limit
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
 * cowmem_account_close - let go of the account of a mount that is gone
 * @account: the account, or NULL
 *
 * Regions of the device may still hold pages that are charged to it.
 *
 * Context: any.
 */
void cowmem_account_close(struct cowmem_account *account)
{
	cowmem_uncharge(account, 1);
}

/**
 * cowmem_account_pages - how many pages are charged to an account
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
 * cowmem_account_inodes - how many inodes are charged to an account
 * @account: the account
 *
 * Context: any.
 * Return: the number as limits count it: names and extended attributes add to it.
 */
unsigned long cowmem_account_inodes(const struct cowmem_account *account)
{
	return DIV_ROUND_UP(atomic_long_read(&account->space), COWMEM_INODE_SPACE);
}

/* Add @nr to @count, unless that makes it more than @max; 0 is no limit. */
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
 * cowmem_charge - charge pages to an account
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
 * A page that is written needs nine nodes at most, so a write never fails for want of nodes.
 * But ranges can be shared again and again at other offsets, which takes nodes alone.
 */
#define NODES_PER_PAGE	16
/* Even the smallest mount may have some files. */
#define NODES_AT_LEAST	1024

/**
 * cowmem_charge_node - charge an index node to an account
 * @account: the account, or NULL
 *
 * Users do not set the limit of nodes.  It stops whoever fills a mount with nodes, and
 * nobody else ever meets it.
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
 * cowmem_account_short - how many pages have to be freed before one more fits
 * @account: the account, or NULL
 *
 * Context: any; the mount is there.
 * Return: how many; 0 if it fits already.
 */
long cowmem_account_short(const struct cowmem_account *account)
{
	unsigned long max = account ? READ_ONCE(account->max_pages) : 0;

	/* The mount itself counts as one. */
	return max ? max_t(long, atomic_long_read(&account->pages) - max, 0) : 0;
}

/**
 * cowmem_charge_inode - charge an inode, or one more name of an inode, to an account
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
 * cowmem_charge_space - charge bytes to an account, as inodes are
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
