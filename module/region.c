// SPDX-License-Identifier: GPL-2.0-only
/*
 * Regions: lifetime, locks, size, seals, and holes punched on demand
 *
 * A region lives as long as its inode does, which is one of either file system in fs.c.
 * Names hold the inode, if it has any, and files by their dentry, and those of
 * /dev/cowmem, whose dentry is the device's, by a reference.  Descriptors and mappings
 * hold files.
 */
#include <linux/cpu.h>
#include <linux/cred.h>
#include <linux/highmem.h>
#include <linux/module.h>
#include <linux/pagemap.h>
#include <linux/slab.h>
#include <linux/workqueue.h>

#include "account.h"
#include "call.h"
#include "expendable.h"
#include "file.h"
#include "grant.h"
#include "huge.h"
#include "limbo.h"
#include "map.h"
#include "page.h"
#include "region.h"
#include "rest.h"
#include "spare.h"
#include "thin.h"
#include "trace.h"
#include "tree-range.h"
#include "tree.h"
#include "xattr.h"

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
	/* On a mount it is as that says, until somebody wants more. */
	region->huge = sb->s_fs_info ? COWMEM_HUGE_ADVISE : cowmem_huge_default();
	region->expendable = NULL;
	cowmem_tree_init(&region->tree, sb->s_fs_info);
	return &region->inode;
}

/**
 * cowmem_free_inode - ->free_inode of both file systems
 * @inode: the inode
 *
 * Context: any; nobody looks at it any more, not even under RCU.
 */
void cowmem_free_inode(struct inode *inode)
{
	if (S_ISLNK(inode->i_mode))
		kfree(inode->i_link);
	free_page((unsigned long)cowmem_region_of(inode)->seen);
	kmem_cache_free(cowmem_region_cache, cowmem_region_of(inode));
}

/* What allocated regions and freed ones have in common. */
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

/* Under region->lock for writing, or when nobody else is left. */
static void drop_spare_pages(struct cowmem_region *region)
{
	unsigned int i;

	for (i = 0; i < COWMEM_LEAF_LOCKS; i++)
		cowmem_pages_drop(&region->leaf_locks[i].spare);
	cowmem_rests_drop(region);
}

/**
 * cowmem_region_idle - who wrote to a region perhaps does not go on
 * @region: the region
 *
 * Context: may sleep; no region is locked, nor mmap_lock held.
 */
void cowmem_region_idle(struct cowmem_region *region)
{
	unsigned int i;

	for (i = 0; i < COWMEM_LEAF_LOCKS; i++) {
		struct cowmem_leaf_lock *lock = &region->leaf_locks[i];

		if (!READ_ONCE(lock->spare) && !READ_ONCE(lock->rest_of))
			continue;
		/* Others who use it have the whole region for themselves, and no leaf lock. */
		down_read(&region->lock);
		mutex_lock(&lock->lock);
		cowmem_pages_drop(&lock->spare);
		cowmem_rest_drop(lock);
		mutex_unlock(&lock->lock);
		up_read(&region->lock);
	}
}

static void empty_region(struct cowmem_region *region)
{
	unsigned int i;

	cowmem_expendable_destroy(region);
	cowmem_tree_destroy(&region->tree);
	drop_spare_pages(region);
	cowmem_pages_forget(region->inode.i_mapping);
	for (i = 0; i < COWMEM_LEAF_LOCKS; i++) {
		region->leaf_locks[i].bare_first = 0;
		region->leaf_locks[i].bare_end = ULONG_MAX;
		memset(region->leaf_locks[i].given, 0, sizeof(region->leaf_locks[i].given));
	}
}

/**
 * cowmem_evict_inode - ->evict_inode of both file systems
 * @inode: the inode; no file is left, and so no mapping
 *
 * Context: may sleep.
 */
void cowmem_evict_inode(struct inode *inode)
{
	struct cowmem_region *region = cowmem_region_of(inode);

	truncate_inode_pages_final(&inode->i_data);
	clear_inode(inode);
	if (S_ISREG(inode->i_mode))
		empty_region(region);
	else if (inode->i_blocks)
		cowmem_uncharge(cowmem_region_account(region), 1);
	if (!cowmem_region_account(region))
		return;
	cowmem_xattrs_free(inode);
	cowmem_acls_free(inode);
	cowmem_uncharge_inode(cowmem_region_account(region));
}

/*
 * An mlock()ed page looks to the core like one that it could take out of the page
 * cache when its memory fails.  It is in none.
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
 * cowmem_new_inode - a new inode
 * @sb: of which file system
 *
 * Context: may sleep.
 * Return: the inode, which has a number and times; -ENOMEM; -ENOSPC if the mount may not
 * have more.
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
 * cowmem_region_init - a new inode becomes a regular file
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
 * cowmem_region_create - a new, empty region without a name
 * @sb: the file system
 * @idmap: of the mount by which it is made
 * @mode: permissions of its files, as far as they are regular
 *
 * It belongs to the caller.
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

/* Let go of the lock, and return -EIO, if it is a snapshot that has yielded. */
static int still_there(struct cowmem_region *region, bool write)
{
	if (!cowmem_region_yielded(region))
		return 0;
	cowmem_unlock(region, write);
	return -EIO;
}

/**
 * cowmem_lock - lock a region
 * @region: the region
 * @write: whether for writing
 *
 * Context: may sleep.
 * Return: 0; -EIO if it is a snapshot that has yielded; -EINTR.
 */
int cowmem_lock(struct cowmem_region *region, bool write)
{
	int err = write ? down_write_killable(&region->lock)
			: down_read_killable(&region->lock);

	return err ?: still_there(region, write);
}

/**
 * cowmem_unlock - undo cowmem_lock()
 * @region: the region
 * @write: as it was locked
 */
void cowmem_unlock(struct cowmem_region *region, bool write)
{
	if (write)
		up_write(&region->lock);
	else
		up_read(&region->lock);
}

/**
 * cowmem_lock_two - lock two regions
 * @a: a region
 * @b: another one, or the same
 * @write: whether for writing
 *
 * Context: may sleep.
 * Return: 0; -EIO if one of them is a snapshot that has yielded; -EINTR.
 */
int cowmem_lock_two(struct cowmem_region *a, struct cowmem_region *b, bool write)
{
	int err;

	if (a > b)
		swap(a, b);
	err = cowmem_lock(a, write);
	if (err || a == b)
		return err;
	if (write)
		err = down_write_killable_nested(&b->lock, SINGLE_DEPTH_NESTING);
	else
		err = down_read_killable_nested(&b->lock, SINGLE_DEPTH_NESTING);
	if (!err)
		err = still_there(b, write);
	if (err)
		cowmem_unlock(a, write);
	return err;
}

/**
 * cowmem_unlock_two - undo cowmem_lock_two()
 * @a: a region
 * @b: another one, or the same
 * @write: as they were locked
 */
void cowmem_unlock_two(struct cowmem_region *a, struct cowmem_region *b, bool write)
{
	cowmem_unlock(a, write);
	if (a != b)
		cowmem_unlock(b, write);
}

/**
 * cowmem_region_grow - make a region at least as large as @size
 * @region: the region
 * @size: in bytes
 *
 * Context: any; under region->lock, so that a clone gets both the size and what
 * was written below it, or neither.
 */
void cowmem_region_grow(struct cowmem_region *region, loff_t size)
{
	struct inode *inode = &region->inode;

	/* write() and mmap() may grow at once, and neither may undo the other. */
	spin_lock(&inode->i_lock);
	if (size > i_size_read(inode))
		i_size_write(inode, size);
	spin_unlock(&inode->i_lock);
}

/*
 * Own the page at @index, a part of which is to be zeroed.  Returns NULL if it is
 * a hole, which needs no zeroing.
 */
static struct page *own_partial_page(struct cowmem_region *region, pgoff_t index)
{
	struct cowmem_node *leaf = cowmem_tree_leaf(&region->tree, index, NULL);
	struct page *page;

	if (!leaf || !leaf->slots[cowmem_slot(index)])
		return NULL;
	leaf = cowmem_tree_own(&region->tree, index, false);
	if (IS_ERR(leaf))
		return ERR_CAST(leaf);
	mutex_lock(&cowmem_leaf_lock(region, index)->lock);
	page = cowmem_grant_leaf(region, leaf, index);
	mutex_unlock(&cowmem_leaf_lock(region, index)->lock);
	return page;
}

static void zero_partial_page(struct page *page, size_t from, size_t to)
{
	zero_user_segment(page, from, to);
	set_page_dirty(page);
}

/* Turn bytes @from to @to (exclusive) into a hole. */
static int region_punch(struct cowmem_region *region, u64 from, u64 to,
			bool even_cows)
{
	/* The whole pages are [first, end). */
	pgoff_t first = DIV_ROUND_UP_ULL(from, PAGE_SIZE);
	pgoff_t end = to >> PAGE_SHIFT;
	size_t head_to = min_t(u64, to - round_down(from, PAGE_SIZE), PAGE_SIZE);
	struct page *head = NULL, *tail = NULL;
	int err;

	lockdep_assert_held_write(&region->lock);

	/* First whatever can fail, and none of it can be seen. */
	if (!PAGE_ALIGNED(from)) {
		head = own_partial_page(region, from >> PAGE_SHIFT);
		if (IS_ERR(head))
			return PTR_ERR(head);
	}
	if (!PAGE_ALIGNED(to) && first <= end) {
		tail = own_partial_page(region, end);
		if (IS_ERR(tail))
			return PTR_ERR(tail);
	}
	if (first < end) {
		err = cowmem_tree_own_edge(&region->tree, first);
		if (!err)
			err = cowmem_tree_own_edge(&region->tree, end - 1);
		if (err)
			return err;

		cowmem_unmap(region, first, end, even_cows);
		cowmem_tree_punch(&region->tree, first, end - 1);
		/* Who gives memory back does not want us to keep some. */
		drop_spare_pages(region);
		trace_cowmem_zap(region, first, end - first);
	}
	if (head)
		zero_partial_page(head, offset_in_page(from), head_to);
	if (tail)
		zero_partial_page(tail, 0, offset_in_page(to));
	if (first < end) {
		/* Only now, as head and tail may be among those that move. */
		cowmem_area_thin(region, first);
		cowmem_area_thin(region, end);
	}
	return 0;
}

/* Lock a region, with no write() half done.  Returns 0 or -EINTR. */
static int lock_with_writers(struct cowmem_region *region)
{
	int err = down_write_killable(&region->inode.i_rwsem);

	if (err)
		return err;
	err = down_write_killable(&region->lock);
	if (err)
		inode_unlock(&region->inode);
	return err;
}

static void unlock_with_writers(struct cowmem_region *region)
{
	up_write(&region->lock);
	inode_unlock(&region->inode);
}

/**
 * cowmem_region_resize - set the size of a region
 * @region: the region
 * @size: in bytes
 *
 * Context: may sleep; under i_rwsem and region->lock for writing.
 * Return: 0; -EPERM if it is sealed, -EFBIG, -ENOMEM or -ENOSPC.
 */
int cowmem_region_resize(struct cowmem_region *region, loff_t size)
{
	loff_t old = cowmem_region_size(region);
	int err;

	if (size > old && (region->seals & COWMEM_SEAL_GROW))
		return -EPERM;
	if (size < old && (region->seals & COWMEM_SEAL_SHRINK))
		return -EPERM;
	err = inode_newsize_ok(&region->inode, size);
	if (err)
		return err;
	if (size < old) {
		/*
		 * Nothing past the end is kept, not even what failed writes
		 * left there.  Private copies of the pages go as well, as they
		 * do when a file is truncated.
		 */
		err = region_punch(region, size, 1ULL << 63, true);
		if (err)
			return err;
	}
	i_size_write(&region->inode, size);
	if (size != old)
		cowmem_region_changed(region);
	return 0;
}

/**
 * cowmem_resize - COWMEM_IOC_RESIZE
 * @call: the ioctl
 *
 * Context: may sleep.
 * Return: 0 or a negative errno, see struct cowmem_resize.
 */
int cowmem_resize(struct cowmem_call *call)
{
	struct cowmem_resize *args = &call->args.resize;
	struct cowmem_region *region = call->region;
	int err;

	if (args->flags)
		return -EOPNOTSUPP;
	if (args->reserved)
		return -EINVAL;
	if (!(call->file->f_mode & FMODE_WRITE))
		return -EBADF;
	if (args->size > MAX_LFS_FILESIZE)
		return -EFBIG;

	err = cowmem_remove_privs_now(call->file);
	if (err)
		return err;
	err = lock_with_writers(region);
	if (err)
		return err;
	err = cowmem_region_resize(region, args->size);
	unlock_with_writers(region);
	return err;
}

/*
 * Is there a mapping that is or could be made writable, or I/O under way into a
 * page that was mapped so?
 */
static bool region_written(struct cowmem_region *region)
{
	struct cowmem_node *leaf;
	unsigned int i;

	/* Counts VM_SHARED mappings, those with VM_MAYWRITE that is. */
	if (mapping_writably_mapped(region->inode.i_mapping))
		return true;
	/* What is left are private mappings, which do no harm. */
	cowmem_unmap(region, 0, ULONG_MAX, false);
	list_for_each_entry(leaf, &region->tree.granted, granted_link)
		for (i = 0; i < COWMEM_NODE_SLOTS; i++)
			if ((leaf->granted & BIT_ULL(i)) &&
			    cowmem_page_busy(leaf->slots[i], 0))
				return true;
	return false;
}

static int seal_locked(struct cowmem_region *region, unsigned int seals)
{
	if (seals && (region->seals & COWMEM_SEAL_SEAL))
		return -EPERM;
	/*
	 * mmap() counts the mapping as writable before it looks at the seals,
	 * so either it sees the seal or we see it.  Where that is not so, faults
	 * see the seal: may_be_written().
	 */
	if ((seals & COWMEM_SEAL_WRITE) &&
	    !(region->seals & COWMEM_SEAL_WRITE) && region_written(region))
		return -EBUSY;
	region->seals |= seals;
	return 0;
}

static int seal_region(struct cowmem_region *region, struct cowmem_seal *args)
{
	int err = lock_with_writers(region);

	if (err)
		return err;
	err = seal_locked(region, args->seals);
	if (!err)
		args->seals = region->seals;
	unlock_with_writers(region);
	return err;
}

static long drain_cpu(void *unused)
{
	cowmem_munlock_drain();
	return 0;
}

/* Pages that were unmapped from locked memory look as if they were in use. */
static void drain_cpus(void)
{
	int cpu;

	cpus_read_lock();
	for_each_online_cpu(cpu)
		work_on_cpu(cpu, drain_cpu, NULL);
	cpus_read_unlock();
}

/**
 * cowmem_seal - COWMEM_IOC_SEAL
 * @call: the ioctl
 *
 * Context: may sleep.
 * Return: 0 or a negative errno, see struct cowmem_seal.
 */
int cowmem_seal(struct cowmem_call *call)
{
	struct cowmem_seal *args = &call->args.seal;
	struct cowmem_region *region = call->region;
	int err;

	if (args->flags)
		return -EOPNOTSUPP;
	if (args->seals & ~COWMEM_ALL_SEALS)
		return -EINVAL;
	if (!(call->file->f_mode & FMODE_WRITE))
		return -EBADF;

	err = seal_region(region, args);
	if (err == -EBUSY && !mapping_writably_mapped(region->inode.i_mapping)) {
		drain_cpus();
		err = seal_region(region, args);
	}
	return err;
}

/**
 * cowmem_region_discard - turn a range into a hole
 * @region: the region
 * @from: first byte
 * @to: byte after the last one
 * @inside: whether the region has to reach there
 *
 * Context: may sleep; no region is locked.
 * Return: 0; -EINVAL if the region does not reach as far as it has to, -EPERM if it
 * is sealed against writing, -ENOMEM, -ENOSPC, -EINTR.
 */
int cowmem_region_discard(struct cowmem_region *region, u64 from, u64 to,
			  bool inside)
{
	int err = down_write_killable(&region->lock);

	if (err)
		return err;
	if (inside && to > cowmem_region_size(region))
		err = -EINVAL;
	else if (region->seals & COWMEM_WRITE_SEALS)
		err = -EPERM;
	else
		err = region_punch(region, from, to, false);
	if (!err)
		cowmem_region_changed(region);
	up_write(&region->lock);
	return err;
}

/**
 * cowmem_discard - COWMEM_IOC_DISCARD
 * @call: the ioctl
 *
 * Context: may sleep.
 * Return: 0 or a negative errno, see struct cowmem_discard.
 */
int cowmem_discard(struct cowmem_call *call)
{
	const struct cowmem_discard *args = &call->args.discard;
	u64 end;
	int err;

	if (args->flags)
		return -EOPNOTSUPP;
	if (args->reserved || !args->length)
		return -EINVAL;
	if (check_add_overflow(args->offset, args->length, &end))
		return -EINVAL;
	if (!(call->file->f_mode & FMODE_WRITE))
		return -EBADF;
	err = cowmem_remove_privs_now(call->file);
	return err ?: cowmem_region_discard(call->region, args->offset, end, true);
}

/**
 * cowmem_region_times - let st_mtime and st_ctime tell when a region changed last
 * @region: the region
 *
 * Context: any; before anybody asks for the times, or sets them.
 */
void cowmem_region_times(struct cowmem_region *region)
{
	unsigned long changed = xchg(&region->changed, 0);
	struct inode *inode = &region->inode;
	struct timespec64 ago, time;

	if (!changed)
		return;
	/* Odd, so as not to be 0. */
	jiffies_to_timespec64((jiffies | 1) - changed, &ago);
	time = timespec64_sub(current_time(inode), ago);
	inode_set_mtime_to_ts(inode, inode_set_ctime_to_ts(inode, time));
}

/**
 * cowmem_regions_init - set up what regions come from
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
 * Context: may sleep; the file system is not mounted any more.
 */
void cowmem_regions_exit(void)
{
	/* Inodes are freed by RCU. */
	rcu_barrier();
	kmem_cache_destroy(cowmem_region_cache);
}
