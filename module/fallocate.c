// SPDX-License-Identifier: GPL-2.0-only
/*
 * fallocate()
 */
#include <linux/fs.h>
/* Needs the types of fs.h. */
#include <linux/falloc.h>
#include <linux/sched/signal.h>

#include "account.h"
#include "fallocate.h"
#include "grant.h"
#include "page.h"
#include "peek.h"
#include "region.h"
#include "size.h"

/*
 * Fill the holes of a range, and with @unshare make all of its pages the region's own.  If
 * this fails half way, what was done stays done.
 */
static int allocate(struct cowmem_region *region, pgoff_t first, pgoff_t end,
		    bool unshare)
{
	pgoff_t index;
	int err;

	for (index = first; index < end; index++) {
		struct page *page;

		if (!unshare) {
			err = cowmem_find(region, &index, false, end);
			if (err || index >= end)
				return err;
		}
		page = cowmem_begin_write(region, index, COWMEM_CALL, NULL, NULL);
		if (IS_ERR(page))
			return PTR_ERR(page);
		cowmem_end_write(region, index);
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
	}
	return 0;
}

/* Can the mount hold the range at all?  If not, do not fill it up in vain. */
static bool may_fit(const struct cowmem_region *region, pgoff_t first, pgoff_t end)
{
	const struct cowmem_account *account = cowmem_region_account(region);
	unsigned long max = account ? READ_ONCE(account->max_pages) : 0;

	return !max || end - first <= max;
}

/* Drop what was allocated past the end, as the size is not going to change. */
static void undo_past_end(struct cowmem_region *region, loff_t offset, loff_t end)
{
	cowmem_region_discard_past_end(region, round_down(offset, PAGE_SIZE),
				       round_up((u64)end, PAGE_SIZE));
}

/* fallocate() that may make the region larger.  Under i_rwsem. */
static int allocate_range(struct cowmem_region *region, int mode, loff_t offset,
			  loff_t end)
{
	pgoff_t first = offset >> PAGE_SHIFT, last = DIV_ROUND_UP_ULL(end, PAGE_SIZE);
	loff_t size = max(cowmem_region_size(region), end);
	int err;

	err = inode_newsize_ok(&region->inode, size);
	if (err)
		return err;
	if (!may_fit(region, first, last))
		return -ENOSPC;
	/*
	 * The seals do not change, as SEAL takes i_rwsem, too.  COWMEM_SEAL_FUTURE_WRITE
	 * does not forbid this: new pages for an existing writer change nothing that can
	 * be seen.
	 */
	if (region->seals & COWMEM_SEAL_WRITE)
		return -EPERM;
	if (end > cowmem_region_size(region) && (region->seals & COWMEM_SEAL_GROW))
		return -EPERM;
	if (mode & FALLOC_FL_ZERO_RANGE) {
		err = cowmem_region_discard(region, offset, end, false);
		if (err)
			return err;
	}
	err = allocate(region, first, last, mode & FALLOC_FL_UNSHARE_RANGE);
	if (err)
		undo_past_end(region, offset, end);
	if (err || (mode & FALLOC_FL_KEEP_SIZE))
		return err;
	err = down_write_killable(&region->lock);
	if (err)
		return err;
	cowmem_region_grow(region, end);
	up_write(&region->lock);
	return 0;
}

/**
 * cowmem_fallocate - ->fallocate of regular files
 * @file: the file
 * @mode: FALLOC_FL_*
 * @offset: first byte
 * @len: number of bytes
 *
 * Context: may sleep.
 * Return: 0 or a negative errno.
 */
long cowmem_fallocate(struct file *file, int mode, loff_t offset, loff_t len)
{
	const int known = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE |
			  FALLOC_FL_ZERO_RANGE | FALLOC_FL_UNSHARE_RANGE;
	struct cowmem_region *region = cowmem_file_region(file);
	int err;

	if (mode & ~known)
		return -EOPNOTSUPP;
	err = down_write_killable(&region->inode.i_rwsem);
	if (err)
		return err;
	err = file_remove_privs(file);
	if (err)
		goto unlock;
	/* The VFS has checked for overflows, and which flags go together. */
	if (mode & FALLOC_FL_PUNCH_HOLE)
		err = cowmem_region_discard(region, offset, offset + len, false);
	else
		err = allocate_range(region, mode, offset, offset + len);
	if (!err)
		cowmem_region_changed(region);
unlock:
	inode_unlock(&region->inode);
	return cowmem_user_error(err);
}
