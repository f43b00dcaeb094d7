// SPDX-License-Identifier: GPL-2.0-only
/*
 * The size of a region, and holes punched into it
 */
#include <linux/highmem.h>
#include <linux/pagemap.h>

#include "call.h"
#include "file.h"
#include "grant.h"
#include "life.h"
#include "lock.h"
#include "map.h"
#include "region.h"
#include "size.h"
#include "thin.h"
#include "trace.h"
#include "tree-range.h"
#include "tree.h"

/**
 * cowmem_region_grow - make a region at least as large as @size
 * @region: the region
 * @size: in bytes
 *
 * Context: any; under region->lock, so that a clone gets both the size and what was
 * written below it, or neither.
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

static void zero_partial_page(struct page *page, size_t from, size_t to)
{
	zero_user_segment(page, from, to);
	set_page_dirty(page);
}

/* Turn the bytes from @from to before @to into a hole.  With @even_cows private copies go, too. */
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

	/* First whatever can fail.  Nobody can see any of it. */
	if (!PAGE_ALIGNED(from)) {
		head = cowmem_grant_page(region, from >> PAGE_SHIFT);
		if (IS_ERR(head))
			return PTR_ERR(head);
	}
	if (!PAGE_ALIGNED(to) && first <= end) {
		tail = cowmem_grant_page(region, end);
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
		/* The caller gives memory back, so do not hoard any. */
		cowmem_region_drop_spares(region);
		trace_cowmem_zap(region, first, end - first);
	}
	if (head)
		zero_partial_page(head, offset_in_page(from), head_to);
	if (tail)
		zero_partial_page(tail, 0, offset_in_page(to));
	if (first < end) {
		/* Only now, because this may replace the pages at head and tail. */
		cowmem_area_thin(region, first);
		cowmem_area_thin(region, end);
	}
	return 0;
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
		 * Nothing past the end stays, not even what failed writes left
		 * there.  Private copies go as well, as in any file that is
		 * truncated.
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
	err = cowmem_lock_with_writers(region);
	if (err)
		return err;
	err = cowmem_region_resize(region, args->size);
	cowmem_unlock_with_writers(region);
	return err;
}

/* Turn a range into a hole.  Under region->lock for writing. */
static int discard(struct cowmem_region *region, u64 from, u64 to)
{
	int err = -EPERM;

	if (!(region->seals & COWMEM_WRITE_SEALS))
		err = region_punch(region, from, to, false);
	if (!err)
		cowmem_region_changed(region);
	return err;
}

/**
 * cowmem_region_discard - turn a range into a hole
 * @region: the region
 * @from: first byte
 * @to: byte after the last one
 * @inside: fail if the range reaches past the end of the region
 *
 * Context: may sleep; no region is locked.
 * Return: 0; -EINVAL if it does, -EPERM if the region is sealed against writing, -ENOMEM,
 * -ENOSPC, -EINTR.
 */
int cowmem_region_discard(struct cowmem_region *region, u64 from, u64 to,
			  bool inside)
{
	int err = down_write_killable(&region->lock);

	if (err)
		return err;
	if (inside && to > cowmem_region_size(region))
		err = -EINVAL;
	else
		err = discard(region, from, to);
	up_write(&region->lock);
	return err;
}

/**
 * cowmem_region_discard_past_end - turn what was allocated past the end into a hole
 * @region: the region
 * @from: first byte; it may be inside by now, as mmap() of the device may have made the region
 *        larger, and what is inside stays
 * @to: byte after the last one
 *
 * Context: may sleep; no region is locked.
 * Return: as cowmem_region_discard().
 */
int cowmem_region_discard_past_end(struct cowmem_region *region, u64 from, u64 to)
{
	int err = down_write_killable(&region->lock);
	u64 size;

	if (err)
		return err;
	size = cowmem_region_size(region);
	if (from < size)
		from = round_up(size, PAGE_SIZE);
	if (from < to)
		err = discard(region, from, to);
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
