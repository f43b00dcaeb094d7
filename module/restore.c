// SPDX-License-Identifier: GPL-2.0-only
/*
 * Making a region equal to another one, in place
 *
 * The plain way is to swap the tree for one that shares the pages of the other region, and
 * to unmap what differs.  Then the next write to each of these pages splits it again.
 * keep.c has the other way.
 */
#include <linux/file.h>
#include <linux/sched/signal.h>

#include "call.h"
#include "copy.h"
#include "file.h"
#include "join.h"
#include "keep.h"
#include "map.h"
#include "node.h"
#include "region.h"
#include "rest.h"
#include "restore.h"
#include "share.h"
#include "size.h"
#include "trace.h"
#include "tree.h"

/* Do seals and sizes allow it?  Under i_rwsem. */
static int may_restore(const struct cowmem_region *region,
		       const struct cowmem_share *from,
		       const struct cowmem_restore *args)
{
	if (region->seals & COWMEM_WRITE_SEALS)
		return -EPERM;
	if (cowmem_region_size(region) != from->size &&
	    !(args->flags & COWMEM_RESTORE_SIZE))
		return -EINVAL;
	return 0;
}

/* Make @region equal to what was shared of the other one.  Under its lock, for writing. */
static int restore_locked(struct cowmem_region *region, struct cowmem_share *from,
			  struct cowmem_restore *args)
{
	bool may, look_for_cold;
	u64 pages = 0, nodes = 0;
	int err;

	/* mmap() may have made a region of the device grow meanwhile. */
	err = may_restore(region, from, args);
	if (err)
		return err;
	may = (args->flags & COWMEM_RESTORE_KEEP) &&
	      cowmem_may_keep(region, from, args, &look_for_cold);
	if (!may)
		err = cowmem_unmap_difference(region, from->tree, 0, ULONG_MAX,
					      &pages, &nodes);
	/* After the size was changed nothing may fail, nor give up for a signal. */
	if (!err && cowmem_region_size(region) != from->size)
		err = cowmem_region_resize(region, from->size);
	if (err)
		return err;
	cowmem_region_changed(region);
	if (may) {
		cowmem_keep(region, from, args, look_for_cold);
		return 0;
	}
	args->pages = pages;
	args->nodes = nodes;
	cowmem_rests_drop(region);
	cowmem_tree_swap(&region->tree, from->tree);
	trace_cowmem_restore(region, from->region, args->pages, args->nodes);
	return 0;
}

/* From itself: nothing changes, but the arguments have to be right. */
static int restore_self(const struct cowmem_region *region,
			const struct cowmem_restore *args)
{
	if (args->offset + args->length > cowmem_region_size(region))
		return -EINVAL;
	/* The seals do not change, as SEAL takes i_rwsem, too. */
	return region->seals & COWMEM_WRITE_SEALS ? -EPERM : 0;
}

static int restore_whole(struct cowmem_region *region, struct cowmem_region *from,
			 struct cowmem_restore *args)
{
	struct cowmem_tree fresh;
	struct cowmem_share s = { .region = from, .end = ULONG_MAX, .tree = &fresh };
	int err;

	cowmem_tree_init(&fresh, cowmem_region_account(region));
	err = cowmem_share_now(&s);
	if (err)
		return err;
	/* From here on failing leaves pages charged to the mount. */
	err = may_restore(region, &s, args);
	if (!err)
		err = cowmem_join(region, from, &fresh);
	if (!err)
		err = down_write_killable(&region->lock);
	if (!err) {
		err = restore_locked(region, &s, args);
		up_write(&region->lock);
	}
	/* What the region held before; on failure, what it was to get. */
	cowmem_tree_destroy(&fresh);
	return err;
}

static int restore_check(const struct cowmem_call *call)
{
	const struct cowmem_restore *args = &call->args.restore;
	u64 end;

	if (args->flags & ~(COWMEM_RESTORE_KEEP | COWMEM_RESTORE_SIZE))
		return -EOPNOTSUPP;
	if (!PAGE_ALIGNED(args->offset) || !PAGE_ALIGNED(args->length) ||
	    check_add_overflow(args->offset, args->length, &end) ||
	    (args->offset && !args->length) ||
	    (args->length && (args->flags & COWMEM_RESTORE_SIZE)))
		return -EINVAL;
	return call->file->f_mode & FMODE_WRITE ? 0 : -EBADF;
}

/**
 * cowmem_restore - COWMEM_IOC_RESTORE
 * @call: the ioctl
 *
 * Context: may sleep.
 * Return: 0 or a negative errno, see struct cowmem_restore.
 */
int cowmem_restore(struct cowmem_call *call)
{
	struct cowmem_restore *args = &call->args.restore;
	struct cowmem_region *region = call->region, *from;
	struct file *file;
	int err;

	err = restore_check(call);
	if (err)
		return err;
	args->pages = 0;
	args->nodes = 0;
	args->kept = 0;
	if (args->flags & COWMEM_RESTORE_KEEP)
		WRITE_ONCE(region->keeps, true);
	file = cowmem_region_fget(args->fd, FMODE_READ);
	if (IS_ERR(file))
		return PTR_ERR(file);
	from = cowmem_file_region(file);

	/* Do not cut a write() past the end in half. */
	err = down_write_killable(&region->inode.i_rwsem);
	if (err)
		goto put_file;
	err = cowmem_remove_privs(call->file);
	if (err)
		goto unlock;
	if (region == from)
		err = restore_self(region, args);
	else if (args->length)
		err = cowmem_copy_range(region, args->offset, from, args->offset,
					args->length, args);
	else
		err = restore_whole(region, from, args);
unlock:
	inode_unlock(&region->inode);
put_file:
	fput(file);
	return err;
}
