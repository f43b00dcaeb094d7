// SPDX-License-Identifier: GPL-2.0-only
/*
 * Clone and copy: ways to share pages
 *
 * Sharing takes references to nodes, so what costs time is to take write access
 * away from those who have it: the pages granted since the last clone.
 */
#include <linux/fcntl.h>
#include <linux/file.h>
#include <linux/lockdep.h>
#include <linux/pagemap.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/sort.h>
#include <linux/uaccess.h>

#include "cowmem.h"
#include "trace.h"

/* Rather than walk the page tables twice, unmap so many pages that need not be. */
#define CUT_GAP		4

/* Take back the grants of so many leaves before others get at the region. */
#define CUT_LEAVES	8
/* Who writes meanwhile is granted more: how often to go after that. */
#define CUT_ROUNDS	3

/*
 * Is the gap from @to to @start, whose end is in @leaf, worth to be left out when
 * what lies around it is unmapped?  To pass over what is not mapped is cheap.
 */
static bool leave_out(const struct cowmem_region *region,
		      const struct cowmem_node *leaf, pgoff_t to, pgoff_t start)
{
	unsigned int mapped = 0;

	/* Out of order, if others were at the list since it was sorted. */
	if (start < to)
		return true;
	if (to < leaf->base)
		return start > to + CUT_GAP;
	for (; to < start; to++) {
		struct page *page = leaf->slots[cowmem_slot(to)];

		mapped += page ? !!cowmem_page_mapcount(page) : region->holes_mapped;
	}
	return mapped > CUT_GAP;
}

/*
 * Stop all writers in [@first, @end), in the first @leaves that have granted pages.
 * Afterwards none of those pages is mapped, and writers wait for region->lock.
 * Returns -EINTR if a fatal signal arrived, with no harm done: the pages are still
 * granted.
 */
static int cut(struct cowmem_region *region, pgoff_t first, pgoff_t end,
	       unsigned long leaves)
{
	pgoff_t from = 0, to = 0;
	struct cowmem_node *leaf;

	lockdep_assert_held_write(&region->lock);

	list_for_each_entry(leaf, &region->tree.granted, granted_link) {
		u64 slots = cowmem_leaf_granted(leaf, first, end);

		if (!leaves--)
			break;
		while (slots) {
			unsigned int i = __ffs64(slots);
			u64 run = slots & ~(slots + BIT_ULL(i));
			pgoff_t start = leaf->base + i;

			if (leave_out(region, leaf, to, start) ||
			    start >= from + COWMEM_UNMAP_BATCH) {
				if (from < to)
					cowmem_unmap(region, from, to, false);
				from = start;
			}
			to = leaf->base + fls64(run);
			slots &= ~run;
		}
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
	}
	if (from < to)
		cowmem_unmap(region, from, to, false);
	return 0;
}

/*
 * Give the tree copies of pages that are in use by somebody who may be writing to
 * them, so that I/O in flight keeps landing in the page of the region that it was
 * started on.  Such pages stay granted.
 */
static int copy_busy(struct cowmem_share *s)
{
	struct cowmem_node *leaf;

	list_for_each_entry(leaf, &s->region->tree.granted, granted_link) {
		u64 slots = cowmem_leaf_granted(leaf, s->first, s->end);

		for (; slots; slots &= slots - 1) {
			unsigned int i = __ffs64(slots);
			pgoff_t index = leaf->base + i - s->first + s->to;
			struct page *page = leaf->slots[i], *copy;
			struct cowmem_node *mine;
			int err;

			s->nr_cut++;
			if (!cowmem_page_busy(page, 0))
				continue;
			/* Nobody gets to see what is written there: share it. */
			if (PageHWPoison(page)) {
				cowmem_page_unname(page);
				continue;
			}
			mine = cowmem_tree_own(s->tree, index);
			if (IS_ERR(mine))
				return PTR_ERR(mine);
			copy = cowmem_page_alloc(false);
			if (IS_ERR(copy))
				return PTR_ERR(copy);
			err = cowmem_page_copy(copy, page);
			if (err) {
				cowmem_page_drop(copy, false);
				return err;
			}
			cowmem_leaf_set(mine, index, copy);
			cowmem_page_drop(page, false);
			s->nr_copied++;
		}
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
	}
	return 0;
}

/* Take back the grants, but for pages that were copied, if there are any. */
static void revoke(struct cowmem_share *s)
{
	struct cowmem_node *leaf, *next;

	list_for_each_entry_safe(leaf, next, &s->region->tree.granted,
				 granted_link) {
		u64 slots = cowmem_leaf_granted(leaf, s->first, s->end), left;

		for (left = slots; left; left &= left - 1) {
			unsigned int i = __ffs64(left);
			pgoff_t index = leaf->base + i - s->first + s->to;
			struct page *page = leaf->slots[i];

			if (!s->nr_copied ||
			    cowmem_tree_page(s->tree, index) == page)
				page_folio(page)->mapping = NULL;
			else
				slots &= ~BIT_ULL(i);
		}
		cowmem_leaf_ungrant(leaf, slots);
		cond_resched();
	}
}

/**
 * cowmem_share - let a tree share pages of a region, as they are at one instant
 * @s: which pages; the tree is empty
 *
 * Context: may sleep; under region->lock for writing, or for reading if the region
 * is frozen.
 * Return: 0; -ENOMEM, -ENOSPC, -EHWPOISON or -EINTR, and the tree is empty.
 */
int cowmem_share(struct cowmem_share *s)
{
	int err = 0;

	if (!list_empty(&s->region->tree.granted)) {
		/* In order, to unmap neighbouring leaves in one go. */
		cowmem_tree_sort_granted(&s->region->tree);
		err = cut(s->region, s->first, s->end, ULONG_MAX);
	}
	if (err)
		return err;
	if (!s->first && !s->to && s->end == ULONG_MAX)
		cowmem_tree_clone(s->tree, &s->region->tree);
	else
		err = cowmem_tree_share(s->tree, s->to, &s->region->tree,
					s->first, s->end - s->first);
	if (!err)
		err = copy_busy(s);
	if (err) {
		/* Now, before anyone finds granted pages in shared nodes. */
		cowmem_tree_destroy(s->tree);
		return err;
	}
	revoke(s);
	return 0;
}

/*
 * Take back the grants of the first @leaves, which were cut, but for pages that are
 * in use.
 */
static void revoke_idle(struct cowmem_region *region, unsigned long leaves)
{
	struct cowmem_tree *tree = &region->tree;
	struct cowmem_node *leaf, *next;

	list_for_each_entry_safe(leaf, next, &tree->granted, granted_link) {
		u64 slots = leaf->granted, left;

		if (!leaves--)
			break;
		for (left = slots; left; left &= left - 1) {
			unsigned int i = __ffs64(left);
			struct page *page = leaf->slots[i];

			if (cowmem_page_busy(page, 0))
				slots &= ~BIT_ULL(i);
			else
				page_folio(page)->mapping = NULL;
		}
		cowmem_leaf_ungrant(leaf, slots);
		if (leaf->granted)
			list_move_tail(&leaf->granted_link, &tree->granted);
		region->nr_cut += hweight64(slots);
	}
}

/*
 * Lock a region that is to be cloned, with few grants left.  While it is cloned all
 * writers wait, and what takes time then is to unmap what was granted.  So this is
 * done before, little by little, and who waits for the lock meanwhile gets a chance.
 * Such a writer is granted one more page, which is fewer than were taken back.
 * Returns -EINTR, without the lock, if a fatal signal arrived.
 */
static int lock_and_cut(struct cowmem_region *region)
{
	struct cowmem_node *leaf;
	unsigned int round;
	int err;

	err = down_write_killable(&region->lock);
	if (err)
		return err;
	for (round = 0; round < CUT_ROUNDS; round++) {
		unsigned long left = 0;

		list_for_each_entry(leaf, &region->tree.granted, granted_link)
			left++;
		if (left <= CUT_LEAVES)
			break;
		cowmem_tree_sort_granted(&region->tree);
		for (; left > CUT_LEAVES; left -= CUT_LEAVES) {
			err = cut(region, 0, ULONG_MAX, CUT_LEAVES);
			if (err) {
				up_write(&region->lock);
				return err;
			}
			revoke_idle(region, CUT_LEAVES);
			if (!rwsem_is_contended(&region->lock))
				continue;
			up_write(&region->lock);
			err = down_write_killable(&region->lock);
			if (err)
				return err;
		}
	}
	return 0;
}

static int clone_locked(struct cowmem_region *region,
			struct cowmem_region *clone,
			const struct cowmem_clone *args)
{
	struct cowmem_share s = { .region = region, .tree = &clone->tree };
	u64 size = cowmem_region_size(region);
	u64 length = args->length;
	int err;

	if (args->offset > size || length > size - args->offset)
		return -EINVAL;

	if (!args->offset && !length) {
		/* A write() under way may be adding pages past the end. */
		s.end = ULONG_MAX;
		err = cowmem_share(&s);
		length = cowmem_region_size(region);
	} else {
		if (!length)
			length = size - args->offset;
		s.first = args->offset >> PAGE_SHIFT;
		s.end = s.first + DIV_ROUND_UP_ULL(length, PAGE_SIZE);
		err = cowmem_share(&s);
	}
	if (err)
		return err;
	cowmem_region_grow(clone, length);
	trace_cowmem_clone(region, clone, region->nr_cut + s.nr_cut, s.nr_copied);
	region->nr_cut = 0;
	return 0;
}

/* The file of a clone that is empty yet. */
static struct file *cowmem_clone_file(bool snapshot)
{
	struct file *file = cowmem_region_file(snapshot ? O_RDONLY : O_RDWR);

	if (!IS_ERR(file) && snapshot)
		cowmem_file_region(file)->seals = COWMEM_ALL_SEALS;
	return file;
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
	file = cowmem_clone_file(args->flags & COWMEM_CLONE_SNAPSHOT);
	if (IS_ERR(file)) {
		err = PTR_ERR(file);
		goto put_fd;
	}
	clone = cowmem_file_region(file);

	if (!args->offset && !args->length)
		err = lock_and_cut(region);
	else
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

static int copy_locked(struct cowmem_region *region, struct cowmem_region *from,
		       const struct cowmem_copy *args)
{
	pgoff_t first = args->dst_offset >> PAGE_SHIFT;
	pgoff_t nr = args->length >> PAGE_SHIFT;
	struct cowmem_tree fresh;
	struct cowmem_share s = {
		.region = from,
		.first = args->src_offset >> PAGE_SHIFT,
		.tree = &fresh,
		.to = first,
	};
	int err;

	s.end = s.first + nr;
	if (args->src_offset + args->length > cowmem_region_size(from) ||
	    args->dst_offset + args->length > cowmem_region_size(region))
		return -EINVAL;
	if (region->seals & COWMEM_SEAL_WRITE)
		return -EPERM;

	/* First whatever can fail, and none of it can be seen. */
	cowmem_tree_init(&fresh);
	err = cowmem_share(&s);
	if (err)
		return err;
	err = cowmem_tree_own_edge(&region->tree, first);
	if (!err)
		err = cowmem_tree_own_edge(&region->tree, first + nr - 1);
	if (!err)
		err = cowmem_tree_raise(&fresh, &region->tree);
	if (!err)
		err = cowmem_tree_raise(&region->tree, &fresh);
	if (err) {
		cowmem_tree_destroy(&fresh);
		return err;
	}

	cowmem_unmap(region, first, first + nr, false);
	cowmem_tree_punch(&region->tree, first, first + nr - 1);
	cowmem_tree_graft(&region->tree, &fresh);
	trace_cowmem_copy(region, from, first, nr);
	return 0;
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
	struct cowmem_region *from;
	struct file *file;
	bool write_from;
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
	from = cowmem_file_region(file);

	err = cowmem_lock_source(call->region, from, &write_from);
	if (!err) {
		err = copy_locked(call->region, from, args);
		cowmem_unlock_two(call->region, true, from, write_from);
	}
	fput(file);
	return err;
}

/**
 * struct many - one of the regions of a CLONE_MANY
 * @file: the region's file.
 * @clone: the clone's file.
 * @fd: the descriptor that is to be the clone's, or -1.
 */
struct many {
	struct file *file;
	struct file *clone;
	int fd;
};

static int region_cmp(const void *a, const void *b)
{
	const struct cowmem_region *const *x = a, *const *y = b;

	return *x < *y ? -1 : *x > *y;
}

/*
 * The kernel has this with _killable or with _nest_lock.  Who holds the lock may need
 * long for what it does, so have both: lockdep hears of it from us.
 */
static int down_write_killable_nest_lock(struct rw_semaphore *sem,
					 struct mutex *nest)
{
	int err;

	rwsem_acquire_nest(&sem->dep_map, 0, 0, &nest->dep_map, _RET_IP_);
	lockdep_off();
	err = down_write_killable(sem);
	lockdep_on();
	if (err)
		rwsem_release(&sem->dep_map, _RET_IP_);
	return err;
}

/*
 * All regions are locked before the first one is cut, and until the last one is,
 * so what holds for one region holds for all: a write that follows another one
 * that had to wait is itself too late.
 */
static int clone_all(struct many *many, struct cowmem_region **sorted,
		     unsigned int count)
{
	const struct cowmem_clone whole = { };
	unsigned int i, nr = 0, locked = 0;
	struct mutex nest;
	int err = 0;

	for (i = 0; i < count; i++)
		sorted[i] = cowmem_file_region(many[i].file);
	sort(sorted, count, sizeof(*sorted), region_cmp, NULL);
	for (i = 0; i < count; i++)
		if (!i || sorted[i] != sorted[i - 1])
			sorted[nr++] = sorted[i];

	for (i = 0; i < nr; i++) {
		err = lock_and_cut(sorted[i]);
		if (err)
			return err;
		up_write(&sorted[i]->lock);
	}
	/* Tells lockdep that nobody else locks these in another order. */
	mutex_init(&nest);
	mutex_lock(&nest);
	for (; locked < nr; locked++) {
		err = down_write_killable_nest_lock(&sorted[locked]->lock, &nest);
		if (err)
			goto unlock;
	}
	for (i = 0; i < count && !err; i++)
		err = clone_locked(cowmem_file_region(many[i].file),
				   cowmem_file_region(many[i].clone), &whole);
unlock:
	while (locked--)
		up_write(&sorted[locked]->lock);
	mutex_unlock(&nest);
	mutex_destroy(&nest);
	return err;
}

/* Get hold of all that is needed, so that only cloning itself can fail. */
static int many_prepare(struct many *many, const s32 *fds, unsigned int count,
			bool snapshot)
{
	unsigned int i;

	for (i = 0; i < count; i++) {
		struct file *file = cowmem_region_fget(fds[i], FMODE_READ);

		if (IS_ERR(file))
			return PTR_ERR(file);
		many[i].file = file;
		many[i].fd = get_unused_fd_flags(O_CLOEXEC);
		if (many[i].fd < 0)
			return many[i].fd;
		file = cowmem_clone_file(snapshot);
		if (IS_ERR(file))
			return PTR_ERR(file);
		many[i].clone = file;
	}
	return 0;
}

/**
 * cowmem_clone_many - COWMEM_IOC_CLONE_MANY
 * @call: the ioctl
 *
 * Context: may sleep and fault.
 * Return: 0 or a negative errno, see struct cowmem_clone_many.
 */
int cowmem_clone_many(struct cowmem_call *call)
{
	struct cowmem_clone_many *args = &call->args.clone_many;
	struct cowmem_region **sorted = NULL;
	unsigned int count = args->count, i;
	struct many *many;
	s32 *fds;
	int err;

	if (args->flags & ~COWMEM_CLONE_SNAPSHOT)
		return -EOPNOTSUPP;
	if (!count || count > COWMEM_CLONE_MANY_MAX)
		return -EINVAL;
	fds = memdup_user(u64_to_user_ptr(args->fds), count * sizeof(*fds));
	if (IS_ERR(fds))
		return PTR_ERR(fds);
	many = kcalloc(count, sizeof(*many), GFP_KERNEL_ACCOUNT);
	sorted = kcalloc(count, sizeof(*sorted), GFP_KERNEL_ACCOUNT);
	err = -ENOMEM;
	if (!many || !sorted)
		goto free;
	for (i = 0; i < count; i++)
		many[i].fd = -1;

	err = many_prepare(many, fds, count,
			   args->flags & COWMEM_CLONE_SNAPSHOT);
	if (!err)
		err = clone_all(many, sorted, count);
	for (i = 0; i < count; i++)
		fds[i] = many[i].fd;
	if (!err && copy_to_user(u64_to_user_ptr(args->clones), fds,
				 count * sizeof(*fds)))
		err = -EFAULT;

	for (i = 0; i < count; i++) {
		if (!err) {
			atomic64_inc(&cowmem_file_region(many[i].file)->clones);
			fput(many[i].file);
			fd_install(many[i].fd, many[i].clone);
			continue;
		}
		if (many[i].file)
			fput(many[i].file);
		if (many[i].clone)
			fput(many[i].clone);
		if (many[i].fd >= 0)
			put_unused_fd(many[i].fd);
	}
free:
	kfree(sorted);
	kfree(many);
	kfree(fds);
	return err;
}
