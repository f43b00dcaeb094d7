// SPDX-License-Identifier: GPL-2.0-only
/*
 * Locking regions.  For the order of locks see "Locks" in region.h.
 */
#include <linux/rwsem.h>

#include "lock.h"
#include "region.h"

/* Release the lock and return -EIO if the region is a snapshot that has yielded. */
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
 * @write: how it was locked
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
 * @write: how they were locked
 */
void cowmem_unlock_two(struct cowmem_region *a, struct cowmem_region *b, bool write)
{
	cowmem_unlock(a, write);
	if (a != b)
		cowmem_unlock(b, write);
}

/**
 * cowmem_lock_with_writers - lock a region for writing, with no write() half done
 * @region: the region
 *
 * Context: may sleep.
 * Return: 0 or -EINTR.
 */
int cowmem_lock_with_writers(struct cowmem_region *region)
{
	int err = down_write_killable(&region->inode.i_rwsem);

	if (err)
		return err;
	err = down_write_killable(&region->lock);
	if (err)
		inode_unlock(&region->inode);
	return err;
}

/**
 * cowmem_unlock_with_writers - undo cowmem_lock_with_writers()
 * @region: the region
 */
void cowmem_unlock_with_writers(struct cowmem_region *region)
{
	up_write(&region->lock);
	inode_unlock(&region->inode);
}
