// SPDX-License-Identifier: GPL-2.0-only
/*
 * Clones and snapshots
 *
 * A clone shares the tree, so what costs time is to take write access away from
 * those who have it: the pages granted since the last clone.
 */
#include <linux/fcntl.h>
#include <linux/file.h>
#include <linux/list_sort.h>
#include <linux/pagemap.h>
#include <linux/sched/signal.h>

#include "cowmem.h"
#include "trace.h"

/* Unmap at most this much before looking for a fatal signal. */
#define CUT_BATCH	16384

/* A gap of this many pages in what has to be unmapped is worth another walk. */
#define CUT_GAP		COWMEM_NODE_SLOTS

static int leaf_cmp(void *priv, const struct list_head *a,
		    const struct list_head *b)
{
	const struct cowmem_node *x, *y;

	x = list_entry(a, struct cowmem_node, granted_link);
	y = list_entry(b, struct cowmem_node, granted_link);
	cond_resched();
	return x->base > y->base;
}

/*
 * Stop all writers in [@first, @end).  Afterwards none of the granted pages there
 * is mapped, and writers wait for region->lock.  Returns -EINTR if a fatal signal
 * arrived, with no harm done: the pages are still granted.
 */
static int cut(struct cowmem_region *region, pgoff_t first, pgoff_t end)
{
	pgoff_t from = 0, to = 0;
	struct cowmem_node *leaf;

	lockdep_assert_held_write(&region->lock);

	cowmem_settle(region, first, end);
	/* In order, to unmap neighbouring leaves in one go. */
	list_sort(NULL, &region->tree.granted, leaf_cmp);
	list_for_each_entry(leaf, &region->tree.granted, granted_link) {
		u64 slots = cowmem_leaf_granted(leaf, first, end);
		pgoff_t start;

		if (!slots)
			continue;
		start = leaf->base + __ffs64(slots);
		if (start > to + CUT_GAP || start >= from + CUT_BATCH) {
			if (from < to)
				cowmem_unmap(region, from, to, false);
			from = start;
		}
		to = leaf->base + fls64(slots);
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
	}
	if (from < to)
		cowmem_unmap(region, from, to, false);
	return 0;
}

/*
 * Give the clone copies of pages that are in use by somebody who may be writing
 * to them, so that I/O in flight keeps landing in the page of the region that it
 * was started on.  Such pages stay granted.
 *
 * *@nr_cut and *@nr_copied count what was done.
 */
static int copy_busy(struct cowmem_region *region, pgoff_t first, pgoff_t end,
		     struct cowmem_tree *clone, unsigned long *nr_cut,
		     unsigned long *nr_copied)
{
	struct cowmem_node *leaf;

	list_for_each_entry(leaf, &region->tree.granted, granted_link) {
		u64 slots = cowmem_leaf_granted(leaf, first, end);

		for (; slots; slots &= slots - 1) {
			unsigned int i = __ffs64(slots);
			pgoff_t index = leaf->base + i - first;
			struct page *page = leaf->slots[i], *copy;
			struct cowmem_node *mine;

			++*nr_cut;
			if (!cowmem_page_busy(page, 0))
				continue;
			mine = cowmem_tree_own(clone, index);
			if (IS_ERR(mine))
				return PTR_ERR(mine);
			copy = cowmem_page_alloc(false);
			if (IS_ERR(copy))
				return PTR_ERR(copy);
			copy_highpage(copy, page);
			unlock_page(copy);
			cowmem_leaf_set(mine, index, copy);
			cowmem_page_drop(page, false);
			++*nr_copied;
		}
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
	}
	return 0;
}

static bool has_page(const struct cowmem_tree *tree, pgoff_t index,
		     const struct page *page)
{
	const struct cowmem_node *leaf = cowmem_tree_leaf(tree, index, NULL);

	return leaf && leaf->slots[cowmem_slot(index)] == page;
}

/*
 * Take back the grants in [@first, @end), but for pages of which the clone got a
 * copy, if there are any.
 */
static void revoke(struct cowmem_region *region, pgoff_t first, pgoff_t end,
		   const struct cowmem_tree *clone, bool copied)
{
	struct cowmem_node *leaf, *next;

	list_for_each_entry_safe(leaf, next, &region->tree.granted,
				 granted_link) {
		u64 slots = cowmem_leaf_granted(leaf, first, end), left;

		for (left = slots; left; left &= left - 1) {
			unsigned int i = __ffs64(left);
			struct page *page = leaf->slots[i];

			if (!copied || has_page(clone, leaf->base + i - first,
						page))
				page_folio(page)->mapping = NULL;
			else
				slots &= ~BIT_ULL(i);
		}
		cowmem_leaf_ungrant(leaf, slots);
		cond_resched();
	}
}

/* Let @clone share the pages of [@first, @end), as they are at one instant. */
static int share(struct cowmem_region *region, struct cowmem_region *clone,
		 pgoff_t first, pgoff_t end, bool whole)
{
	unsigned long nr_cut = 0, nr_copied = 0;
	int err;

	err = cut(region, first, end);
	if (err)
		return err;
	if (whole)
		cowmem_tree_clone(&clone->tree, &region->tree);
	else
		err = cowmem_tree_share(&clone->tree, 0, &region->tree, first,
					end - first);
	if (!err)
		err = copy_busy(region, first, end, &clone->tree, &nr_cut,
				&nr_copied);
	if (err) {
		/* Now, before anyone finds granted pages in shared nodes. */
		cowmem_tree_destroy(&clone->tree);
		return err;
	}
	revoke(region, first, end, &clone->tree, nr_copied);
	trace_cowmem_clone(region, clone, nr_cut, nr_copied);
	return 0;
}

static int clone_locked(struct cowmem_region *region,
			struct cowmem_region *clone,
			const struct cowmem_clone *args)
{
	u64 size = cowmem_region_size(region);
	u64 length = args->length;
	pgoff_t first;
	int err;

	if (args->offset > size || length > size - args->offset)
		return -EINVAL;

	if (!args->offset && !length) {
		/* A write() under way may be adding pages past the end. */
		err = share(region, clone, 0, ULONG_MAX, true);
		length = cowmem_region_size(region);
	} else {
		if (!length)
			length = size - args->offset;
		first = args->offset >> PAGE_SHIFT;
		err = share(region, clone, first,
			    first + DIV_ROUND_UP_ULL(length, PAGE_SIZE), false);
	}
	if (err)
		return err;
	cowmem_region_grow(clone, length);
	region->clones++;
	return 0;
}

/**
 * cowmem_clone - COWMEM_IOC_CLONE
 * @call: the ioctl
 *
 * Context: may sleep.
 * Return: 0 or a negative errno, see struct cowmem_clone.
 */
int cowmem_clone(struct cowmem_call *call)
{
	struct cowmem_region *region = call->region, *clone;
	struct cowmem_clone *args = &call->args.clone;
	bool snapshot = args->flags & COWMEM_CLONE_SNAPSHOT;
	struct file *file;
	int fd, err;

	if (args->flags & ~COWMEM_CLONE_SNAPSHOT)
		return -EOPNOTSUPP;
	if (!PAGE_ALIGNED(args->offset) || !PAGE_ALIGNED(args->length))
		return -EINVAL;
	if (!(call->file->f_mode & FMODE_READ))
		return -EBADF;

	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0)
		return fd;
	file = cowmem_region_file(snapshot ? O_RDONLY : O_RDWR);
	if (IS_ERR(file)) {
		err = PTR_ERR(file);
		goto put_fd;
	}
	clone = cowmem_file_region(file);
	if (snapshot)
		clone->seals = COWMEM_ALL_SEALS;

	err = down_write_killable(&region->lock);
	if (err)
		goto put_file;
	err = clone_locked(region, clone, args);
	up_write(&region->lock);
	if (err)
		goto put_file;

	args->fd = fd;
	call->new_fd = fd;
	call->new_file = file;
	return 0;

put_file:
	fput(file);
put_fd:
	put_unused_fd(fd);
	return err;
}
