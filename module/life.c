// SPDX-License-Identifier: GPL-2.0-only
/*
 * The life of a region
 *
 * A region lives as long as its inode, which belongs to one of the file systems in
 * nameless.c and fs.c.  The inode is kept by names, if it has any, and by files: regular
 * ones by their dentry, and those of /dev/cowmem, whose dentry is the device's, by a
 * reference of their own.  Descriptors and mappings keep files.
 */
#include <linux/cred.h>
#include <linux/module.h>
#include <linux/pagemap.h>
#include <linux/slab.h>

#include "account.h"
#include "expendable.h"
#include "huge.h"
#include "life.h"
#include "limbo.h"
#include "ops.h"
#include "region.h"
#include "rest.h"
#include "spare.h"
#include "tree.h"

static struct kmem_cache *cowmem_region_cache;

/**
 * cowmem_alloc_inode - ->alloc_inode of both file systems
 * @sb: the file system
 *
 * Context: may sleep.
 * Return: an inode with an empty region, or NULL.
 */
struct inode *cowmem_alloc_inode(struct super_block *sb)
{
	struct cowmem_region *region;

	region = alloc_inode_sb(sb, cowmem_region_cache, GFP_KERNEL);
	if (!region)
		return NULL;
	region->seals = 0;
	region->xattrs = RB_ROOT;
	atomic64_set(&region->clones, 0);
	region->changed = 0;
	region->rounds = 0;
	region->look_after = 0;
	region->seen = NULL;
	region->nr_cut = 0;
	region->cutting = false;
	region->odd_mappings = false;
	region->holes_mapped = false;
	region->pmds_mapped = false;
	region->keeps = false;
	region->has_rest = false;
	/* On a mount the option huge= decides, until somebody asks for more. */
	region->huge = sb->s_fs_info ? COWMEM_HUGE_ADVISE : cowmem_huge_default();
	region->expendable = NULL;
	cowmem_tree_init(&region->tree, sb->s_fs_info);
	return &region->inode;
}

/**
 * cowmem_free_inode - ->free_inode of both file systems
 * @inode: the inode
 *
 * Context: any; nobody uses it any more, not even under RCU.
 */
void cowmem_free_inode(struct inode *inode)
{
	if (S_ISLNK(inode->i_mode))
		kfree(inode->i_link);
	free_page((unsigned long)cowmem_region_of(inode)->seen);
	kmem_cache_free(cowmem_region_cache, cowmem_region_of(inode));
}

/* Set up what freed regions leave as it was, for the next ones. */
static void region_init_once(void *object)
{
	struct cowmem_region *region = object;
	unsigned int i;

	inode_init_once(&region->inode);
	init_rwsem(&region->lock);
	for (i = 0; i < COWMEM_LEAF_LOCKS; i++) {
		mutex_init(&region->leaf_locks[i].lock);
		region->leaf_locks[i].bare_first = 0;
		region->leaf_locks[i].bare_end = ULONG_MAX;
		region->leaf_locks[i].spare = NULL;
		region->leaf_locks[i].fresh_first = 0;
		region->leaf_locks[i].fresh_end = 0;
		region->leaf_locks[i].rest_of = NULL;
		region->leaf_locks[i].nr_rest = 0;
		region->leaf_locks[i].rest_base = 0;
		memset(region->leaf_locks[i].rest, 0, sizeof(region->leaf_locks[i].rest));
		memset(region->leaf_locks[i].given, 0, sizeof(region->leaf_locks[i].given));
	}
}

/**
 * cowmem_region_drop_spares - free pages that were allocated for writes to come
 * @region: the region
 *
 * Context: any; under region->lock for writing, or nobody else uses the region.
 */
void cowmem_region_drop_spares(struct cowmem_region *region)
{
	unsigned int i;

	for (i = 0; i < COWMEM_LEAF_LOCKS; i++)
		cowmem_pages_drop(&region->leaf_locks[i].spare);
	cowmem_rests_drop(region);
}

/**
 * cowmem_region_idle - a writer of a region has gone
 * @region: the region
 *
 * Frees the pages that were allocated for its next writes.
 *
 * Context: may sleep; no region is locked, nor is mmap_lock held.
 */
void cowmem_region_idle(struct cowmem_region *region)
{
	unsigned int i;

	for (i = 0; i < COWMEM_LEAF_LOCKS; i++) {
		struct cowmem_leaf_lock *lock = &region->leaf_locks[i];

		if (!READ_ONCE(lock->spare) && !READ_ONCE(lock->rest_of))
			continue;
		/* region->lock, too: whoever holds that for writing takes no leaf lock. */
		down_read(&region->lock);
		mutex_lock(&lock->lock);
		cowmem_pages_drop(&lock->spare);
		cowmem_rest_drop(lock);
		mutex_unlock(&lock->lock);
		up_read(&region->lock);
	}
}

/* Undo all that was done to the region, so that the next one finds it initialized. */
static void empty_region(struct cowmem_region *region)
{
	unsigned int i;

	cowmem_expendable_destroy(region->expendable);
	region->expendable = NULL;
	cowmem_tree_destroy(&region->tree);
	cowmem_region_drop_spares(region);
	cowmem_pages_forget(region->inode.i_mapping);
	for (i = 0; i < COWMEM_LEAF_LOCKS; i++) {
		region->leaf_locks[i].bare_first = 0;
		region->leaf_locks[i].bare_end = ULONG_MAX;
		memset(region->leaf_locks[i].given, 0, sizeof(region->leaf_locks[i].given));
	}
}

/**
 * cowmem_evict_inode - ->evict_inode of the file system without names
 * @inode: the inode; no file is left, and so no mapping
 *
 * Context: may sleep.
 */
void cowmem_evict_inode(struct inode *inode)
{
	truncate_inode_pages_final(&inode->i_data);
	clear_inode(inode);
	if (S_ISREG(inode->i_mode))
		empty_region(cowmem_region_of(inode));
}

/*
 * An mlock()ed page looks to the core like one that it can remove from the page cache when
 * its memory fails.  Our pages are not in the page cache.
 */
static int keep_broken(struct address_space *mapping, struct cowmem_broken *broken)
{
	return -EIO;
}

static const struct address_space_operations cowmem_aops = {
	.dirty_folio	= noop_dirty_folio,
	.error_remove_folio = keep_broken,
};

/**
 * cowmem_new_inode - make a new inode
 * @sb: the file system
 *
 * Context: may sleep.
 * Return: the inode, with a number and times; -ENOMEM; -ENOSPC if the mount may not have
 * any more.
 */
struct inode *cowmem_new_inode(struct super_block *sb)
{
	struct cowmem_account *account = sb->s_fs_info;
	struct inode *inode;

	if (account && !cowmem_charge_inode(account))
		return ERR_PTR(-ENOSPC);
	inode = new_inode(sb);
	if (!inode) {
		if (account)
			cowmem_uncharge_inode(account);
		return ERR_PTR(-ENOMEM);
	}
	inode->i_ino = account ? atomic_long_inc_return(&account->last_ino) :
				 get_next_ino();
	cowmem_region_of(inode)->born = simple_inode_init_ts(inode);
	cache_no_acl(inode);
	return inode;
}

/**
 * cowmem_region_init - make a new inode a regular file
 * @inode: the inode
 */
void cowmem_region_init(struct inode *inode)
{
	inode->i_op = cowmem_region_account(cowmem_region_of(inode)) ?
		      &cowmem_mount_inode_ops : &cowmem_inode_ops;
	inode->i_fop = &cowmem_file_fops;
	inode->i_mapping->a_ops = &cowmem_aops;
}

/**
 * cowmem_region_create - make a new, empty region without a name
 * @sb: the file system
 * @idmap: of the mount through which it is made
 * @mode: permissions of its regular files
 *
 * The caller becomes its owner.
 *
 * Context: may sleep.
 * Return: the region, whose inode has one reference; -ENOMEM or -ENOSPC.
 */
struct cowmem_region *cowmem_region_create(struct super_block *sb,
					   struct mnt_idmap *idmap, umode_t mode)
{
	struct inode *inode = cowmem_new_inode(sb);

	if (IS_ERR(inode))
		return ERR_CAST(inode);
	inode_init_owner(idmap, inode, NULL, S_IFREG | mode);
	cowmem_region_init(inode);
	return cowmem_region_of(inode);
}

/**
 * cowmem_region_times - update st_mtime and st_ctime
 * @region: the region
 *
 * Call this before the times are read or set.  See cowmem_region_changed().
 *
 * Context: any.
 */
void cowmem_region_times(struct cowmem_region *region)
{
	unsigned long changed = xchg(&region->changed, 0);
	struct inode *inode = &region->inode;
	struct timespec64 ago, time;

	if (!changed)
		return;
	/* ->changed is odd, so that it is never 0. */
	jiffies_to_timespec64((jiffies | 1) - changed, &ago);
	time = timespec64_sub(current_time(inode), ago);
	inode_set_mtime_to_ts(inode, inode_set_ctime_to_ts(inode, time));
}

/**
 * cowmem_regions_init - set up the cache that regions are allocated from
 *
 * Return: 0 or -ENOMEM.
 */
int cowmem_regions_init(void)
{
	cowmem_region_cache = kmem_cache_create("cowmem_region",
						sizeof(struct cowmem_region), 0,
						SLAB_RECLAIM_ACCOUNT | SLAB_ACCOUNT |
						SLAB_HWCACHE_ALIGN, region_init_once);
	return cowmem_region_cache ? 0 : -ENOMEM;
}

/**
 * cowmem_regions_exit - undo cowmem_regions_init()
 *
 * Context: may sleep; no file system of ours is mounted any more.
 */
void cowmem_regions_exit(void)
{
	/* Inodes are freed by RCU. */
	rcu_barrier();
	kmem_cache_destroy(cowmem_region_cache);
}
