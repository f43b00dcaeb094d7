// SPDX-License-Identifier: GPL-2.0-only
/*
 * Copies: ranges that share the pages of other ranges
 */
#include <linux/file.h>
#include <linux/pagemap.h>
#include <linux/sched/signal.h>

#include "call.h"
#include "copy.h"
#include "cut.h"
#include "file.h"
#include "join.h"
#include "map.h"
#include "node.h"
#include "page.h"
#include "region.h"
#include "share.h"
#include "size.h"
#include "thin.h"
#include "trace.h"
#include "tree-range.h"
#include "tree-walk.h"
#include "tree.h"
#include "zero.h"

/**
 * struct copy - a range that is being copied
 * @region: the destination.
 * @from: the source; may be the same region.
 * @to: first index in @region.
 * @nr: number of pages.
 * @share: the range in @from.
 * @fresh: the tree that @share fills.
 * @end: byte after the last one in @region.
 * @grow: whether @region may grow to @end.
 * @restore: the RESTORE that this is part of, which counts what changes; or NULL.
 */
struct copy {
	struct cowmem_region *region;
	struct cowmem_region *from;
	pgoff_t to;
	pgoff_t nr;
	struct cowmem_share share;
	struct cowmem_tree fresh;
	u64 end;
	bool grow;
	struct cowmem_restore *restore;
};

/* Copy @length bytes at @src of @from to @dst of @region.  Whole pages are shared. */
static void copy_init(struct copy *c, struct cowmem_region *region, u64 dst,
		      struct cowmem_region *from, u64 src, u64 length)
{
	pgoff_t first = src >> PAGE_SHIFT, to = dst >> PAGE_SHIFT;
	pgoff_t nr = DIV_ROUND_UP_ULL(length, PAGE_SIZE);

	*c = (struct copy) {
		.region = region,
		.from = from,
		.to = to,
		.nr = nr,
		.share = {
			.region = from,
			.first = first,
			.end = first + nr,
			.tree = &c->fresh,
			.to = to,
			.need = src + length,
		},
		.end = dst + length,
	};
	cowmem_tree_init(&c->fresh, cowmem_region_account(region));
}

/* Do seals and size allow it?  The answer is final only under region->lock for writing. */
static int may_copy(const struct copy *c)
{
	const struct cowmem_region *region = c->region;
	bool grows = c->end > cowmem_region_size(region);

	if (grows && !c->grow)
		return -EINVAL;
	if (region->seals & COWMEM_WRITE_SEALS)
		return -EPERM;
	if (grows && (region->seals & COWMEM_SEAL_GROW))
		return -EPERM;
	return 0;
}

/* Replace the range of @c->region with what was shared.  Under its lock, for writing. */
static int copy_install(struct copy *c)
{
	struct cowmem_tree *tree = &c->region->tree;
	pgoff_t last = c->to + c->nr - 1;
	int err;

	/* First whatever can fail.  Nobody can see any of it. */
	err = may_copy(c);
	if (!err)
		err = cowmem_tree_own_edge(tree, c->to);
	if (!err)
		err = cowmem_tree_own_edge(tree, last);
	if (!err)
		err = cowmem_tree_raise(&c->fresh, tree);
	if (!err)
		err = cowmem_tree_raise(tree, &c->fresh);
	/* In a RESTORE pages that do not change stay mapped. */
	if (!err && c->restore)
		err = cowmem_unmap_difference(c->region, &c->fresh, c->to, last + 1,
					      &c->restore->pages, &c->restore->nodes);
	else if (!err)
		cowmem_unmap(c->region, c->to, last + 1, false);
	if (err)
		return err;

	cowmem_tree_graft(tree, c->to, last, &c->fresh);
	cowmem_area_thin(c->region, c->to);
	cowmem_area_thin(c->region, last);
	cowmem_region_grow(c->region, c->end);
	cowmem_region_changed(c->region);
	trace_cowmem_copy(c->region, c->from, c->to, c->nr);
	return 0;
}

/* Within one region: keep it locked between sharing and installing. */
static int copy_within(struct copy *c)
{
	struct cowmem_share *s = &c->share;
	int err;

	err = down_write_killable(&c->region->lock);
	if (err)
		return err;
	if (s->need > cowmem_region_size(c->region))
		err = -EINVAL;
	if (!err)
		err = cowmem_cut(c->region, s->first, s->end);
	if (!err)
		err = cowmem_share(s);
	if (!err)
		err = copy_install(c);
	up_write(&c->region->lock);
	return err;
}

static int copy_between(struct copy *c)
{
	int err = cowmem_share_now(&c->share);

	/* From here on failing leaves pages charged to the mount. */
	if (!err)
		err = may_copy(c);
	if (!err)
		err = cowmem_join(c->region, c->from, &c->fresh);
	if (err)
		return err;
	err = down_write_killable(&c->region->lock);
	if (err)
		return err;
	err = copy_install(c);
	up_write(&c->region->lock);
	return err;
}

static int copy_do(struct copy *c)
{
	int err = c->region == c->from ? copy_within(c) : copy_between(c);

	if (err)
		cowmem_tree_destroy(&c->fresh);
	return err;
}

/**
 * cowmem_copy_range - share a range of a region with another one, or elsewhere in it
 * @region: the destination
 * @dst: offset in @region in bytes, a multiple of the page size
 * @from: the source
 * @src: offset in @from, likewise
 * @length: in bytes, likewise
 * @restore: the RESTORE that this is part of, or NULL.  With it the copy takes time in
 *	proportion to what changes, and counts that.
 *
 * Context: may sleep; no region is locked.
 * Return: 0; -EINVAL if a range reaches past the end of its region, -EPERM if
 * @region is sealed against writing, -EXDEV if the two are of different mounts,
 * -ENOMEM, -ENOSPC, -EINTR.
 */
int cowmem_copy_range(struct cowmem_region *region, u64 dst,
		      struct cowmem_region *from, u64 src, u64 length,
		      struct cowmem_restore *restore)
{
	struct copy c;

	copy_init(&c, region, dst, from, src, length);
	c.restore = restore;
	return copy_do(&c);
}

/**
 * cowmem_copy - COWMEM_IOC_COPY
 * @call: the ioctl
 *
 * Context: may sleep.
 * Return: 0 or a negative errno, see struct cowmem_copy.
 */
int cowmem_copy(struct cowmem_call *call)
{
	struct cowmem_copy *args = &call->args.copy;
	struct file *file;
	u64 end;
	int err;

	if (args->flags)
		return -EOPNOTSUPP;
	if (!args->length || !PAGE_ALIGNED(args->src_offset) ||
	    !PAGE_ALIGNED(args->dst_offset) || !PAGE_ALIGNED(args->length) ||
	    check_add_overflow(args->src_offset, args->length, &end) ||
	    check_add_overflow(args->dst_offset, args->length, &end))
		return -EINVAL;
	if (!(call->file->f_mode & FMODE_WRITE))
		return -EBADF;
	file = cowmem_region_fget(args->fd, FMODE_READ);
	if (IS_ERR(file))
		return PTR_ERR(file);
	err = cowmem_remove_privs_now(call->file);
	if (!err)
		err = cowmem_copy_range(call->region, args->dst_offset,
					cowmem_file_region(file), args->src_offset,
					args->length, NULL);
	fput(file);
	return err;
}

/*
 * How many bytes of a range to remap.  0 as @len means up to the end of the source.  The
 * last page of the source may be a part of one, if nothing of the target comes after it.
 */
static loff_t remap_length(loff_t src_size, loff_t src, loff_t dst_size, loff_t dst,
			   loff_t len, unsigned int flags)
{
	loff_t end;

	if (!PAGE_ALIGNED(src) || !PAGE_ALIGNED(dst))
		return -EINVAL;
	if (!len)
		len = max(src_size - src, 0);
	/* The VFS has checked for overflows, but only of the length that it was given. */
	if (check_add_overflow(dst, len, &end))
		return -EINVAL;
	if (src + len > src_size) {
		if (!(flags & REMAP_FILE_DEDUP) || src >= src_size)
			return -EINVAL;
		len = src_size - src;
	}
	if ((flags & REMAP_FILE_DEDUP) && dst + len > dst_size)
		return -EINVAL;
	if (PAGE_ALIGNED(len) || (src + len == src_size && dst + len >= dst_size))
		return len;
	/* The rest of the page must not change. */
	if (!(flags & (REMAP_FILE_CAN_SHORTEN | REMAP_FILE_DEDUP)))
		return -EINVAL;
	return round_down(len, PAGE_SIZE);
}

/*
 * Do two trees hold the same in the range of @c?  They hold nothing outside of it.  Returns
 * 0, -EBADE or -EINTR.
 */
static int trees_equal(const struct copy *c, const struct cowmem_tree *a,
		       const struct cowmem_tree *b)
{
	pgoff_t base = c->to;
	u64 slots;

	for (;;) {
		unsigned long budget = COWMEM_TREE_BUDGET;

		slots = cowmem_tree_diff(a, b, &base, &budget);
		if (base == ULONG_MAX)
			return 0;
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
		if (!slots)
			continue;
		for (; slots; slots &= slots - 1) {
			pgoff_t index = base + __ffs64(slots);
			struct page *x = cowmem_tree_page(a, index);
			struct page *y = cowmem_tree_page(b, index);

			if (!cowmem_pages_equal(x ?: cowmem_zero_page(),
						y ?: cowmem_zero_page()))
				return -EBADE;
		}
		base += COWMEM_NODE_SLOTS;
	}
}

/* Is the range of @c still what @then shared?  Under region->lock. */
static bool unchanged(const struct copy *c, const struct cowmem_tree *then)
{
	pgoff_t base = c->to, end = c->to + c->nr;
	unsigned long budget = COWMEM_TREE_BUDGET;
	u64 slots = cowmem_tree_diff(&c->region->tree, then, &base, &budget);

	/* If the budget ran out, assume that it is not. */
	return base >= end || (slots && base + __ffs64(slots) >= end);
}

/*
 * Share the range if source and target are equal.  They are compared as they were at one
 * instant each, with no lock held.
 */
static int dedupe(struct copy *c)
{
	struct cowmem_tree then;
	struct cowmem_share mine = {
		.region = c->region,
		.first = c->to,
		.end = c->to + c->nr,
		.tree = &then,
		.to = c->to,
	};
	int err;

	cowmem_tree_init(&then, cowmem_region_account(c->region));
	err = cowmem_share_now(&c->share);
	if (err)
		return err;
	err = cowmem_share_now(&mine);
	if (!err)
		err = trees_equal(c, &c->fresh, &then);
	if (!err)
		err = down_write_killable(&c->region->lock);
	if (!err) {
		err = unchanged(c, &then) ? copy_install(c) : -EBUSY;
		up_write(&c->region->lock);
	}
	cowmem_tree_destroy(&then);
	if (err)
		cowmem_tree_destroy(&c->fresh);
	return err;
}

/* Remap a range whose length was checked, between remap_lock() and remap_unlock(). */
static int remap(struct cowmem_region *from, loff_t src, struct file *file,
		 loff_t dst, loff_t len, unsigned int flags)
{
	struct cowmem_region *region = cowmem_file_region(file);
	struct copy c;
	int err;

	if (from == region && src < dst + len && dst < src + len)
		return -EINVAL;
	copy_init(&c, region, dst, from, src, len);
	if (flags & REMAP_FILE_DEDUP)
		return dedupe(&c);

	c.grow = true;
	err = inode_newsize_ok(&region->inode,
			       max(dst + len, cowmem_region_size(region)));
	if (!err)
		err = file_remove_privs(file);
	return err ?: copy_do(&c);
}

/*
 * A clone gets the size of the source, so it must not get half of what a write() adds to it.
 * dedupe() leaves the size alone.  It may take long to compare, and a caller who may only
 * read the source must not keep its writers waiting, so the source is not locked then.
 */
static void remap_lock(struct cowmem_region *from, struct cowmem_region *region,
		       unsigned int flags)
{
	lock_two_nondirectories(flags & REMAP_FILE_DEDUP ? NULL : &from->inode,
				&region->inode);
}

static void remap_unlock(struct cowmem_region *from, struct cowmem_region *region,
			 unsigned int flags)
{
	unlock_two_nondirectories(flags & REMAP_FILE_DEDUP ? NULL : &from->inode,
				  &region->inode);
}

/**
 * cowmem_remap_file_range - FICLONE, FICLONERANGE, FIDEDUPERANGE
 * @file_in: the file that has the pages
 * @pos_in: offset in @file_in in bytes
 * @file_out: the file that gets them
 * @pos_out: offset in @file_out in bytes
 * @len: number of bytes; 0 means up to the end
 * @remap_flags: REMAP_FILE_*
 *
 * Readers and writers of @file_out, through mappings as well, see all of it or nothing.
 *
 * Context: may sleep.
 * Return: number of bytes; -EINVAL if the range is misaligned, overlaps or reaches past the
 * end, -EBADE if the ranges differ, -EBUSY if @file_out is being written or is in use,
 * -EPERM, -EFBIG, -ENOMEM, -ENOSPC or -EINTR.
 */
loff_t cowmem_remap_file_range(struct file *file_in, loff_t pos_in,
			       struct file *file_out, loff_t pos_out, loff_t len,
			       unsigned int remap_flags)
{
	struct cowmem_region *from = cowmem_file_region(file_in);
	struct cowmem_region *region = cowmem_file_region(file_out);
	int err = 0;

	if (remap_flags & ~(REMAP_FILE_DEDUP | REMAP_FILE_ADVISORY))
		return -EINVAL;
	remap_lock(from, region, remap_flags);
	len = remap_length(cowmem_region_size(from), pos_in,
			   cowmem_region_size(region), pos_out, len, remap_flags);
	if (len > 0)
		err = remap(from, pos_in, file_out, pos_out, len, remap_flags);
	remap_unlock(from, region, remap_flags);
	return err ? cowmem_user_error(err) : len;
}
