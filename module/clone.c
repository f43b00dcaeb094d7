// SPDX-License-Identifier: GPL-2.0-only
/*
 * Clones: new regions that share all pages of another one
 */
#include <linux/fcntl.h>
#include <linux/file.h>
#include <linux/lockdep.h>
#include <linux/slab.h>
#include <linux/sort.h>
#include <linux/uaccess.h>

#include "call.h"
#include "clone.h"
#include "cut.h"
#include "expendable.h"
#include "file.h"
#include "lock.h"
#include "region.h"
#include "share.h"
#include "size.h"
#include "trace.h"

/* The flags of both ioctls. */
static int check_flags(u32 flags)
{
	if (flags & ~(COWMEM_CLONE_SNAPSHOT | COWMEM_CLONE_EXPENDABLE))
		return -EOPNOTSUPP;
	return flags == COWMEM_CLONE_EXPENDABLE ? -EINVAL : 0;
}

/* The file of a clone of @of, which is still empty. */
static struct file *clone_file(struct file *of, u32 flags)
{
	bool snapshot = flags & COWMEM_CLONE_SNAPSHOT;
	struct file *file = cowmem_clone_file(of, snapshot ? O_RDONLY : O_RDWR);
	int err;

	if (IS_ERR(file))
		return file;
	cowmem_file_region(file)->huge = READ_ONCE(cowmem_file_region(of)->huge);
	if (snapshot)
		cowmem_file_region(file)->seals = COWMEM_SNAPSHOT_SEALS;
	if (flags & COWMEM_CLONE_EXPENDABLE) {
		err = cowmem_file_expendable(file);
		if (err) {
			fput(file);
			return ERR_PTR(err);
		}
	}
	return file;
}

/* The clone has its pages, and nobody can use it yet. */
static void clone_done(struct cowmem_region *clone, const struct cowmem_share *s,
		       u64 size)
{
	cowmem_region_grow(clone, size);
	cowmem_expendable_publish(clone->expendable);
	trace_cowmem_clone(s->region, clone, s->nr_cut, s->nr_copied);
}

/* Share the range of @region that @args names with @clone. */
static int clone_range(struct cowmem_region *region, struct cowmem_region *clone,
		       const struct cowmem_clone *args)
{
	struct cowmem_share s = {
		.region = region,
		.first = args->offset >> PAGE_SHIFT,
		.end = ULONG_MAX,
		.tree = &clone->tree,
	};
	int err;

	if (check_add_overflow(args->offset, args->length, &s.need))
		return -EINVAL;
	if (args->length)
		s.end = DIV_ROUND_UP_ULL(s.need, PAGE_SIZE);
	err = cowmem_share_now(&s);
	if (!err)
		clone_done(clone, &s, args->length ?: s.size - args->offset);
	return err;
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
	struct cowmem_clone *args = &call->args.clone;
	struct file *file;
	int fd, err;

	err = check_flags(args->flags);
	if (err)
		return err;
	if (!PAGE_ALIGNED(args->offset) || !PAGE_ALIGNED(args->length))
		return -EINVAL;
	if (!(call->file->f_mode & FMODE_READ))
		return -EBADF;

	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0)
		return fd;
	file = clone_file(call->file, args->flags);
	if (IS_ERR(file)) {
		err = PTR_ERR(file);
		goto put_fd;
	}
	err = clone_range(call->region, cowmem_file_region(file), args);
	if (err)
		goto put_file;

	args->fd = fd;
	call->new_fd = fd;
	call->new_file = file;
	call->cloned = true;
	return 0;

put_file:
	fput(file);
put_fd:
	put_unused_fd(fd);
	return err;
}

/**
 * struct many - one of the regions of a CLONE_MANY
 * @file: the region's file; a region may be named more than once.
 * @clone: the clone's file.
 * @fd: the descriptor for the clone, or -1.
 * @write: how the region was locked; valid in the first entry that names the region.
 * @told: whether lockdep knows of the lock; valid in the same entry.
 */
struct many {
	struct file *file;
	struct file *clone;
	int fd;
	bool write;
	bool told;
};

/* Lockdep counts at most 2047 locks that are nested under one lock. */
#define LOCKDEP_MOST	1024

static struct cowmem_region *many_region(const struct many *m)
{
	return cowmem_file_region(m->file);
}

static int many_cmp(const void *a, const void *b)
{
	struct cowmem_region *x = many_region(a), *y = many_region(b);

	return x < y ? -1 : x > y;
}

/* Is this the first entry that names its region?  All that do are neighbours. */
static bool is_first(const struct many *many, unsigned int i)
{
	return !i || many_region(&many[i]) != many_region(&many[i - 1]);
}

/* Undo lock_nested(), and tell lockdep if it was told there. */
static void unlock_nested(const struct many *m)
{
	struct cowmem_region *region = many_region(m);

	if (m->told)
		rwsem_release(&region->lock.dep_map, _RET_IP_);
	lockdep_off();
	cowmem_unlock(region, m->write);
	lockdep_on();
}

/*
 * The kernel can take a lock killably or nested, but not both.  We need both, as the lock
 * may be held for long, so we tell lockdep ourselves.  Lockdep treats all locks nested under
 * @nest as one lock that is held several times in the mode of the first one.  So it is
 * always told that the lock is held for writing.
 */
static int lock_nested(struct many *m, bool write, struct mutex *nest)
{
	struct rw_semaphore *sem = &many_region(m)->lock;
	int err;

	if (m->told)
		rwsem_acquire_nest(&sem->dep_map, 0, 0, &nest->dep_map, _RET_IP_);
	lockdep_off();
	err = write ? down_write_killable(sem) : down_read_killable(sem);
	lockdep_on();
	if (err && m->told)
		rwsem_release(&sem->dep_map, _RET_IP_);
	m->write = write;
	if (!err && cowmem_region_yielded(many_region(m))) {
		unlock_nested(m);
		err = -EIO;
	}
	return err;
}

/* As cowmem_lock_to_share(), while other regions are locked already. */
static int lock_source(struct many *m, struct mutex *nest)
{
	struct cowmem_region *region = many_region(m);
	int err;

	if (READ_ONCE(region->seals) & COWMEM_SEAL_WRITE) {
		err = lock_nested(m, false, nest);
		if (err || cowmem_region_frozen(region))
			return err;
		unlock_nested(m);
	}
	return lock_nested(m, true, nest);
}

/* Share the pages of a region, whose writers are stopped, with its clone. */
static int clone_source(const struct many *m)
{
	struct cowmem_region *region = many_region(m);
	struct cowmem_region *clone = cowmem_file_region(m->clone);
	struct cowmem_share s = {
		.region = region,
		.end = ULONG_MAX,
		.tree = &clone->tree,
	};
	int err = cowmem_share(&s);

	if (!err)
		clone_done(clone, &s, cowmem_region_size(region));
	return err;
}

/* Do most of the work region by region, before writers have to wait for all of them. */
static int cut_sources(struct many *many, unsigned int count)
{
	unsigned int i;
	bool write;
	int err;

	for (i = 0; i < count; i++) {
		if (!is_first(many, i))
			continue;
		err = cowmem_lock_to_share(many_region(&many[i]), true, &write);
		if (err)
			return err;
		cowmem_unlock(many_region(&many[i]), write);
	}
	return 0;
}

/*
 * All regions are locked from before the first one is cut until after the last one is.  So
 * together they are cut as consistently as a single region: a write that follows one that
 * had to wait is too late as well.  After that, each region is locked only for its own part.
 */
static int clone_locked(struct many *many, unsigned int count, struct mutex *nest)
{
	unsigned int locked, first = 0, told = 0, i;
	int err = 0;

	for (locked = 0; locked < count && !err; locked++)
		if (is_first(many, locked)) {
			many[locked].told = told++ < LOCKDEP_MOST;
			err = lock_source(&many[locked], nest);
		}
	/* The last one was not locked. */
	if (err)
		locked--;
	for (i = 0; i < locked && !err; i++)
		if (is_first(many, i))
			err = cowmem_cut(many_region(&many[i]), 0, ULONG_MAX);
	for (i = 0; i < locked; i++) {
		if (is_first(many, i))
			first = i;
		if (!err)
			err = clone_source(&many[i]);
		if (i + 1 == locked || is_first(many, i + 1))
			unlock_nested(&many[first]);
	}
	return err;
}

static int clone_all(struct many *many, unsigned int count)
{
	struct mutex nest;
	int err;

	sort(many, count, sizeof(*many), many_cmp, NULL);
	err = cut_sources(many, count);
	if (err)
		return err;
	/* Tells lockdep that the order of these locks is right: that of their addresses. */
	mutex_init(&nest);
	mutex_lock(&nest);
	err = clone_locked(many, count, &nest);
	mutex_unlock(&nest);
	mutex_destroy(&nest);
	return err;
}

/* Allocate all that is needed, so that from then on only cloning itself can fail. */
static int many_prepare(struct many *many, const s32 *fds, unsigned int count,
			u32 flags)
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
		file = clone_file(file, flags);
		if (IS_ERR(file))
			return PTR_ERR(file);
		many[i].clone = file;
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
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
	unsigned int count = args->count, i;
	struct many *many;
	s32 *fds;
	int err;

	err = check_flags(args->flags);
	if (err)
		return err;
	if (!count || count > COWMEM_CLONE_MANY_MAX)
		return -EINVAL;
	fds = vmemdup_user(u64_to_user_ptr(args->fds), count * sizeof(*fds));
	if (IS_ERR(fds))
		return PTR_ERR(fds);
	many = kvcalloc(count, sizeof(*many), GFP_KERNEL_ACCOUNT);
	err = -ENOMEM;
	if (!many)
		goto free;
	for (i = 0; i < count; i++)
		many[i].fd = -1;

	err = many_prepare(many, fds, count, args->flags);
	for (i = 0; i < count; i++)
		fds[i] = many[i].fd;
	if (!err)
		err = clone_all(many, count);
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
	kvfree(many);
	kvfree(fds);
	return err;
}
