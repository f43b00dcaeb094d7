// SPDX-License-Identifier: GPL-2.0-only
/*
 * read(), write(), splice() and lseek()
 *
 * All of them copy.  No page of a region gets into a pipe, so splice() cannot write to a
 * snapshot, and its readers do not see later writes.
 */
#include <linux/highmem.h>
#include <linux/pagemap.h>
#include <linux/sched/signal.h>
#include <linux/uio.h>

#include "file.h"
#include "grant.h"
#include "io.h"
#include "page.h"
#include "peek.h"
#include "region.h"
#include "size.h"
#include "tree-range.h"
#include "tree.h"

/**
 * cowmem_read_iter - read() and whatever is built on it
 * @iocb: where to read
 * @to: where to copy the data
 *
 * Context: may sleep and fault.
 * Return: bytes read, 0 at the end; -EIO from a snapshot that has yielded; -EFAULT,
 * -EMFILE (see cowmem_peek()), -EIO (a poisoned page) or -EINTR if there were none.
 */
ssize_t cowmem_read_iter(struct kiocb *iocb, struct iov_iter *to)
{
	struct cowmem_region *region = cowmem_file_region(iocb->ki_filp);
	ssize_t done = 0;

	while (iov_iter_count(to)) {
		size_t offset = offset_in_page(iocb->ki_pos);
		loff_t size = cowmem_region_size(region);
		struct page *page;
		size_t want, got;
		void *addr;

		if (iocb->ki_pos >= size)
			break;
		page = cowmem_peek(region, iocb->ki_pos >> PAGE_SHIFT);
		if (IS_ERR(page)) {
			/* -ERANGE: the region has shrunk meanwhile. */
			if (PTR_ERR(page) != -ERANGE && !done)
				done = cowmem_user_error(PTR_ERR(page));
			break;
		}
		want = min_t(loff_t, size - iocb->ki_pos, PAGE_SIZE - offset);
		want = min(want, iov_iter_count(to));
		/* Not copy_page_to_iter(), which would put the page itself into a pipe. */
		addr = kmap_local_page(page);
		got = copy_to_iter(addr + offset, want, to);
		kunmap_local(addr);
		put_page(page);

		iocb->ki_pos += got;
		done += got;
		/* Before a bad address arm64 stops at a multiple of 16; the rest comes next. */
		if (!got && !done)
			done = -EFAULT;
		if (!got || fatal_signal_pending(current))
			break;
		cond_resched();
	}
	cowmem_accessed(iocb->ki_filp);
	/* If a snapshot has yielded meanwhile, nobody may see half of it. */
	return cowmem_region_yielded(region) ? -EIO : done;
}

/*
 * Write @bytes at @pos, all in one page, and grow the region to hold them.  Returns how many
 * were written; fewer than @bytes if the source faulted.
 */
static ssize_t write_page(struct cowmem_region *region, loff_t pos,
			  size_t bytes, struct iov_iter *from)
{
	struct folio *folio;
	struct page *page;
	size_t copied;

	page = cowmem_begin_write(region, pos >> PAGE_SHIFT,
				  bytes == PAGE_SIZE ? COWMEM_CALL_WHOLE : COWMEM_CALL,
				  NULL, NULL);
	if (IS_ERR(page))
		return cowmem_user_error(PTR_ERR(page));
	/* Page faults are off: the source may be this very page. */
	folio = page_folio(page);
	copied = copy_folio_from_iter_atomic(folio, folio_page_idx(folio, page) * PAGE_SIZE +
					     offset_in_page(pos), bytes, from);
	if (!folio_test_uptodate(folio)) {
		if (copied < PAGE_SIZE)
			zero_user_segment(page, copied, PAGE_SIZE);
		folio_mark_uptodate(folio);
	}
	flush_dcache_page(page);
	set_page_dirty(page);
	if (copied)
		cowmem_region_grow(region, pos + copied);
	cowmem_end_write(region, pos >> PAGE_SHIFT);
	return copied;
}

/*
 * Nothing was written to the page at @index.  Drop it if it is past the end.  If a fatal
 * signal is pending it may stay, full of zeroes.
 */
static void drop_unwritten(struct cowmem_region *region, pgoff_t index)
{
	bool shared;

	/* RESIZE cannot interfere, as it takes i_rwsem. */
	if (index < cowmem_region_end(region) ||
	    down_write_killable(&region->lock))
		return;
	if (index >= cowmem_region_end(region) &&
	    cowmem_tree_leaf(&region->tree, index, &shared) && !shared)
		cowmem_tree_punch(&region->tree, index, index);
	up_write(&region->lock);
}

static ssize_t write_pages(struct cowmem_region *region, loff_t pos,
			   struct iov_iter *from)
{
	ssize_t done = 0, ret = 0;

	while (iov_iter_count(from)) {
		size_t bytes = min_t(size_t, iov_iter_count(from),
				     PAGE_SIZE - offset_in_page(pos));

		do {
			/* What is faulted in may be gone again before it is copied. */
			if (fault_in_iov_iter_readable(from, bytes) == bytes) {
				ret = -EFAULT;
				goto out;
			}
			if (fatal_signal_pending(current)) {
				ret = -EINTR;
				goto out;
			}
			ret = write_page(region, pos, bytes, from);
			if (ret < 0)
				goto out;
			if (!ret)
				drop_unwritten(region, pos >> PAGE_SHIFT);
			cond_resched();
			/* Ask for less, to get as far as a bad segment. */
			bytes = min(bytes, iov_iter_single_seg_count(from));
		} while (!ret);
		pos += ret;
		done += ret;
	}
out:
	return done ?: ret;
}

/**
 * cowmem_write_iter - write() and whatever is built on it
 * @iocb: where to write
 * @from: what to write
 *
 * Makes the region grow.  If it is sealed against that, as much as fits is written.
 *
 * Context: may sleep and fault.
 * Return: bytes written; if there were none, -EPERM for a sealed region, -EFBIG
 * past the largest size, -EFAULT, -ENOMEM, -ENOSPC, -EIO or -EINTR.
 */
ssize_t cowmem_write_iter(struct kiocb *iocb, struct iov_iter *from)
{
	struct cowmem_region *region = cowmem_file_region(iocb->ki_filp);
	struct inode *inode = &region->inode;
	ssize_t ret;

	ret = down_write_killable(&inode->i_rwsem);
	if (ret)
		return ret;
	ret = generic_write_checks(iocb, from);
	if (ret <= 0)
		goto unlock;

	/* SEAL and RESIZE take i_rwsem, too. */
	if (region->seals & COWMEM_WRITE_SEALS) {
		ret = -EPERM;
		goto unlock;
	}
	if (region->seals & COWMEM_SEAL_GROW) {
		loff_t size = cowmem_region_size(region);

		if (iocb->ki_pos >= size) {
			ret = -EPERM;
			goto unlock;
		}
		iov_iter_truncate(from, size - iocb->ki_pos);
	}
	ret = cowmem_remove_privs(iocb->ki_filp);
	if (ret)
		goto unlock;
	ret = write_pages(region, iocb->ki_pos, from);
	if (ret > 0) {
		iocb->ki_pos += ret;
		cowmem_region_changed(region);
	}
unlock:
	inode_unlock(inode);
	return ret;
}

static loff_t seek_data(struct cowmem_region *region, loff_t offset, bool data)
{
	loff_t size = cowmem_region_size(region);
	pgoff_t end = DIV_ROUND_UP_ULL(size, PAGE_SIZE), index = offset >> PAGE_SHIFT;
	int err = cowmem_find(region, &index, data, end);

	if (err)
		return err;
	if (offset < 0 || offset >= size)
		return -ENXIO;
	/* The end counts as a hole. */
	if (index >= end)
		return data ? -ENXIO : size;
	return max_t(loff_t, offset, (loff_t)index << PAGE_SHIFT);
}

/**
 * cowmem_llseek - lseek()
 * @file: the region's file
 * @offset: in bytes
 * @whence: SEEK_*
 *
 * Context: may sleep.
 * Return: the new position; -EINVAL; -ENXIO if there is no such data or hole; -EIO if
 * the region is a snapshot that has yielded; -EINTR if a fatal signal is pending.
 */
loff_t cowmem_llseek(struct file *file, loff_t offset, int whence)
{
	struct cowmem_region *region = cowmem_file_region(file);

	if (whence == SEEK_DATA || whence == SEEK_HOLE) {
		offset = seek_data(region, offset, whence == SEEK_DATA);
		if (offset < 0)
			return offset;
		return vfs_setpos(file, offset, MAX_LFS_FILESIZE);
	}
	return generic_file_llseek_size(file, offset, whence, MAX_LFS_FILESIZE,
					cowmem_region_size(region));
}
