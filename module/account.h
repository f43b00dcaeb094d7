/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the files of one mount hold, and may hold.  See account.c.
 */
#ifndef _COWMEM_ACCOUNT_H
#define _COWMEM_ACCOUNT_H

#include <linux/atomic.h>
#include <linux/types.h>

/**
 * struct cowmem_account - what the files of one mount hold
 * @pages: number of pages charged to the account, plus one while it is mounted.
 * @max_pages: upper limit for @pages; 0 means no limit.  Set under s_umount.
 * @nodes: number of index nodes charged to the account, plus one while @pages is not 0.
 * @space: bytes charged for inodes, for names of inodes beyond the first one, and for
 *	extended attributes.  An inode or a name is charged COWMEM_INODE_SPACE.
 * @max_inodes: how many inodes without attributes would fit; 0 means no limit.  Set under
 *	s_umount.
 * @huge: enum cowmem_huge.  Set under s_umount.
 * @last_ino: the inode number that was handed out last.
 */
struct cowmem_account {
	atomic_long_t pages;
	unsigned long max_pages;
	atomic_long_t nodes;
	atomic_long_t space;
	unsigned long max_inodes;
	u8 huge;
	atomic_long_t last_ino;
};

/* The charge for an inode, the same as on tmpfs. */
#define COWMEM_INODE_SPACE	1024

struct cowmem_account *cowmem_account_create(unsigned long max_pages,
					     unsigned long max_inodes);
void cowmem_account_close(struct cowmem_account *account);
bool cowmem_charge(struct cowmem_account *account, unsigned long nr);
void cowmem_uncharge(struct cowmem_account *account, unsigned long nr);
long cowmem_account_short(const struct cowmem_account *account);
bool cowmem_charge_node(struct cowmem_account *account);
void cowmem_uncharge_node(struct cowmem_account *account);
bool cowmem_charge_inode(struct cowmem_account *account);
void cowmem_uncharge_inode(struct cowmem_account *account);
bool cowmem_charge_space(struct cowmem_account *account, size_t bytes);
void cowmem_uncharge_space(struct cowmem_account *account, size_t bytes);
unsigned long cowmem_account_pages(const struct cowmem_account *account);
unsigned long cowmem_account_inodes(const struct cowmem_account *account);

#endif /* _COWMEM_ACCOUNT_H */
