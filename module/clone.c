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

#include "cowmem.h"
#include "trace.h"

/* COWMEM_CLONE_*, of both ioctls. */
static int check_flags(u32 flags)
{
	if (flags & ~(COWMEM_CLONE_SNAPSHOT | COWMEM_CLONE_EXPENDABLE))
		return -EOPNOTSUPP;
	return flags == COWMEM_CLONE_EXPENDABLE ? -EINVAL : 0;
}

/* The file of a clone that is empty yet. */
static struct file *clone_file(u32 flags)
{
	bool snapshot = flags & COWMEM_CLONE_SNAPSHOT;
	struct file *file = cowmem_region_file(snapshot ? O_RDONLY : O_RDWR);
	int err;

	if (IS_ERR(file))
		return file;
	if (snapshot)
		cowmem_file_region(file)->seals = COWMEM_SNAPSHOT_SEALS;
	if (flags & COWMEM_CLONE_EXPENDABLE) {
		err = cowmem_expendable_create(file);
		if (err) {
			fput(file);
			return ERR_PTR(err);
		}
	}
	return file;
}

/* The clone, which nobody has yet, got its pages. */
static void clone_done(struct cowmem_region *clone, const struct cowmem_share *s,
		       u64 size)
{
	cowmem_region_grow(clone, size);
	cowmem_expendable_publish(clone);
	trace_cowmem_clone(s->region, clone, s->nr_cut, s->nr_copied);
}

/* Let @clone have what @args names of @region. */
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
	file = clone_file(args->flags);
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
 * @file: the region's file.
 * @clone: the clone's file.
 * @fd: the descriptor that is to be the clone's, or -1.
 */
struct many {
	struct file *file;
	struct file *clone;
	int fd;
};

/**
 * struct source - a region that a CLONE_MANY names, once or more often
 * @region: the region.
 * @write: how it was locked.
 */
struct source {
	struct cowmem_region *region;
	bool write;
};

static int source_cmp(const void *a, const void *b)
{
	const struct source *x = a, *y = b;

	return x->region < y->region ? -1 : x->region > y->region;
}

/*
 * The kernel has this with _killable or with _nest_lock.  Who holds the lock may need
 * long for what it does, so have both: lockdep hears of it from us.  It takes all locks
 * under @nest for one that is held several times, in the mode of the first, so it is
 * told of no other mode than writing.
 */
static int lock_nested(struct source *source, bool write, struct mutex *nest)
{
	struct rw_semaphore *sem = &source->region->lock;
	int err;

	rwsem_acquire_nest(&sem->dep_map, 0, 0, &nest->dep_map, _RET_IP_);
	lockdep_off();
	err = write ? down_write_killable(sem) : down_read_killable(sem);
	lockdep_on();
	if (err)
		rwsem_release(&sem->dep_map, _RET_IP_);
	source->write = write;
	if (!err && cowmem_region_yielded(source->region)) {
		cowmem_unlock(source->region, write);
		err = -EIO;
	}
	return err;
}

/* As cowmem_lock_to_share(), with others locked already. */
static int lock_source(struct source *source, struct mutex *nest)
{
	struct cowmem_region *region = source->region;
	int err;

	if (READ_ONCE(region->seals) & COWMEM_SEAL_WRITE) {
		err = lock_nested(source, false, nest);
		if (err || cowmem_region_frozen(region))
			return err;
		up_read(&region->lock);
	}
	return lock_nested(source, true, nest);
}

/* Share the pages of a region, which was cut, with each of its clones. */
static int clone_source(const struct source *source, struct many *many,
			unsigned int count)
{
	struct cowmem_region *region = source->region, *clone;
	unsigned int i;
	int err;

	for (i = 0; i < count; i++) {
		struct cowmem_share s = { .region = region, .end = ULONG_MAX };

		if (cowmem_file_region(many[i].file) != region)
			continue;
		clone = cowmem_file_region(many[i].clone);
		s.tree = &clone->tree;
		err = cowmem_share(&s);
		if (err)
			return err;
		clone_done(clone, &s, cowmem_region_size(region));
	}
	return 0;
}

/* Sort the regions as they are locked.  Returns how many there are. */
static unsigned int sort_sources(struct source *sources, const struct many *many,
				 unsigned int count)
{
	unsigned int i, nr = 0;

	for (i = 0; i < count; i++)
		sources[i].region = cowmem_file_region(many[i].file);
	sort(sources, count, sizeof(*sources), source_cmp, NULL);
	for (i = 0; i < count; i++)
		if (!i || sources[i].region != sources[i - 1].region)
			sources[nr++].region = sources[i].region;
	return nr;
}

/* Most of what keeps writers waiting is done before they have to wait for all. */
static int cut_sources(struct source *sources, unsigned int nr)
{
	unsigned int i;
	bool write;
	int err;

	for (i = 0; i < nr; i++) {
		err = cowmem_lock_to_share(sources[i].region, true, &write);
		if (err)
			return err;
		cowmem_unlock(sources[i].region, write);
	}
	return 0;
}

/*
 * All regions are locked before the first one is cut, and until the last one is,
 * so what holds for one region holds for all: a write that follows another one
 * that had to wait is itself too late.  From then on each waits only for its own part.
 */
static int clone_all(struct many *many, struct source *sources, unsigned int count)
{
	unsigned int nr = sort_sources(sources, many, count), locked = 0, i;
	struct mutex nest;
	int err;

	err = cut_sources(sources, nr);
	if (err)
		return err;
	/* Tells lockdep that nobody else locks these in another order. */
	mutex_init(&nest);
	mutex_lock(&nest);
	for (; locked < nr && !err; locked += !err)
		err = lock_source(&sources[locked], &nest);
	for (i = 0; i < nr && !err; i++)
		err = cowmem_cut(sources[i].region, 0, ULONG_MAX);
	for (i = 0; i < locked; i++) {
		if (!err)
			err = clone_source(&sources[i], many, count);
		cowmem_unlock(sources[i].region, sources[i].write);
	}
	mutex_unlock(&nest);
	mutex_destroy(&nest);
	return err;
}

/* Get hold of all that is needed, so that only cloning itself can fail. */
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
		file = clone_file(flags);
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
	struct source *sources = NULL;
	unsigned int count = args->count, i;
	struct many *many;
	s32 *fds;
	int err;

	err = check_flags(args->flags);
	if (err)
		return err;
	if (!count || count > COWMEM_CLONE_MANY_MAX)
		return -EINVAL;
	fds = memdup_user(u64_to_user_ptr(args->fds), count * sizeof(*fds));
	if (IS_ERR(fds))
		return PTR_ERR(fds);
	many = kcalloc(count, sizeof(*many), GFP_KERNEL_ACCOUNT);
	sources = kcalloc(count, sizeof(*sources), GFP_KERNEL_ACCOUNT);
	err = -ENOMEM;
	if (!many || !sources)
		goto free;
	for (i = 0; i < count; i++)
		many[i].fd = -1;

	err = many_prepare(many, fds, count, args->flags);
	if (!err)
		err = clone_all(many, sources, count);
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
	kfree(sources);
	kfree(many);
	kfree(fds);
	return err;
}
