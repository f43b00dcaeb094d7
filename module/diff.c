// SPDX-License-Identifier: GPL-2.0-only
/*
 * Where two regions differ
 */
#include <linux/file.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "call.h"
#include "diff.h"
#include "file.h"
#include "lock.h"
#include "node.h"
#include "page.h"
#include "peek.h"
#include "region.h"
#include "tree-walk.h"
#include "tree.h"

/* How many extents are collected before they are handed to the caller. */
#define DIFF_BATCH	64

/* How many leaves that differ are looked at before the locks are released. */
#define DIFF_LEAVES		256
#define DIFF_LEAVES_CONTENT	4

/**
 * struct diff - a comparison in progress
 * @a: the region whose extents are reported.
 * @b: the other one.
 * @content: compare bytes.
 * @index: where to go on; ULONG_MAX when the comparison is complete.
 * @extents: the extents found in this round.
 * @nr: number of @extents.
 * @room: the most that there may be.
 * @nodes: number of nodes that were compared.
 */
struct diff {
	struct cowmem_region *a, *b;
	bool content;
	pgoff_t index;
	struct cowmem_extent extents[DIFF_BATCH];
	unsigned int nr, room;
	unsigned long nodes;
};

/* Under both locks. */
static bool same_content(struct diff *d, pgoff_t index)
{
	struct page *x = cowmem_get_page(d->a, index);
	struct page *y = cowmem_get_page(d->b, index);
	bool same = x == y || cowmem_pages_equal(x, y);

	put_page(y);
	put_page(x);
	return same;
}

/* Append a page that differs; returns false if there is no room. */
static bool add_page(struct diff *d, pgoff_t index, u32 kind)
{
	struct cowmem_extent *last = d->nr ? &d->extents[d->nr - 1] : NULL;
	u64 offset = (u64)index << PAGE_SHIFT;

	if (last && last->kind == kind && last->offset + last->length == offset) {
		last->length += PAGE_SIZE;
		return true;
	}
	if (d->nr == d->room)
		return false;
	d->extents[d->nr++] = (struct cowmem_extent) {
		.offset = offset,
		.length = PAGE_SIZE,
		.kind = kind,
	};
	return true;
}

/*
 * Find the first leaf from *@from on that differs, and let *@from be the index after it.
 * Returns false if there is no room, the budget is used up or the comparison is complete.
 */
static bool diff_leaf(struct diff *d, pgoff_t *from, pgoff_t size,
		      unsigned long *budget)
{
	pgoff_t base = *from;
	u64 slots = cowmem_tree_diff(&d->a->tree, &d->b->tree, &base, budget);
	struct cowmem_node *leaf;

	if (base >= size || !slots) {
		d->index = base >= size ? ULONG_MAX : base;
		return false;
	}
	leaf = cowmem_tree_leaf(&d->a->tree, base, NULL);
	for (; slots && base + __ffs64(slots) < size; slots &= slots - 1) {
		unsigned int i = __ffs64(slots);
		/* A slot may be filled while we look. */
		bool data = leaf && READ_ONCE(leaf->slots[i]);

		if ((!d->content || !same_content(d, base + i)) &&
		    !add_page(d, base + i,
			      data ? COWMEM_EXTENT_DATA : COWMEM_EXTENT_HOLE))
			return false;
		d->index = base + i + 1;
	}
	*from = base + COWMEM_NODE_SLOTS;
	return true;
}

/*
 * Go on until there is no room, the comparison is complete or it is time to release the
 * locks.  Under both locks for reading.
 */
static void diff_locked(struct diff *d)
{
	unsigned int leaves = d->content ? DIFF_LEAVES_CONTENT : DIFF_LEAVES;
	pgoff_t size = max(cowmem_region_end(d->a), cowmem_region_end(d->b));
	unsigned long budget = COWMEM_TREE_BUDGET;
	pgoff_t from = d->index;

	while (leaves && diff_leaf(d, &from, size, &budget))
		leaves--;
	d->nodes += COWMEM_TREE_BUDGET - budget;
}

static int diff_some(struct diff *d)
{
	int err = cowmem_lock_two(d->a, d->b, false);

	if (err)
		return err;
	diff_locked(d);
	cowmem_unlock_two(d->a, d->b, false);
	cond_resched();
	return fatal_signal_pending(current) ? -EINTR : 0;
}

static int diff(struct diff *d, struct cowmem_diff *args)
{
	struct cowmem_extent __user *to = u64_to_user_ptr(args->extents);
	u32 room = args->count;
	int err;

	args->count = 0;
	while (d->index != ULONG_MAX && args->count < room) {
		d->room = min_t(u32, DIFF_BATCH, room - args->count);
		d->nr = 0;
		err = diff_some(d);
		if (err)
			return err;
		if (copy_to_user(to + args->count, d->extents,
				 d->nr * sizeof(*d->extents)))
			return -EFAULT;
		args->count += d->nr;
	}
	if (d->index == ULONG_MAX)
		d->index = max3((pgoff_t)(args->offset >> PAGE_SHIFT),
				cowmem_region_end(d->a), cowmem_region_end(d->b));
	args->offset = (u64)d->index << PAGE_SHIFT;
	args->nodes = d->nodes;
	return 0;
}

/**
 * cowmem_diff - COWMEM_IOC_DIFF
 * @call: the ioctl
 *
 * Context: may sleep and fault.
 * Return: 0 or a negative errno, see struct cowmem_diff.
 */
int cowmem_diff(struct cowmem_call *call)
{
	struct cowmem_diff *args = &call->args.diff;
	struct file *file;
	struct diff *d;
	int err;

	if (args->flags & ~COWMEM_DIFF_CONTENT)
		return -EOPNOTSUPP;
	if (args->reserved || !args->count || !PAGE_ALIGNED(args->offset))
		return -EINVAL;
	if (!(call->file->f_mode & FMODE_READ))
		return -EBADF;
	file = cowmem_region_fget(args->fd, FMODE_READ);
	if (IS_ERR(file))
		return PTR_ERR(file);
	d = kzalloc(sizeof(*d), GFP_KERNEL_ACCOUNT);
	if (!d) {
		err = -ENOMEM;
		goto put_file;
	}
	d->a = call->region;
	d->b = cowmem_file_region(file);
	d->content = args->flags & COWMEM_DIFF_CONTENT;
	d->index = args->offset >> PAGE_SHIFT;
	err = diff(d, args);
	kfree(d);
put_file:
	fput(file);
	return err;
}
