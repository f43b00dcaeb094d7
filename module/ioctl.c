// SPDX-License-Identifier: GPL-2.0-only
/*
 * The table of ioctls, and every copy from and to user structs
 */
#include <linux/file.h>
#include <linux/nospec.h>
#include <linux/uaccess.h>

#include "call.h"
#include "clone.h"
#include "copy.h"
#include "diff.h"
#include "file.h"
#include "huge.h"
#include "ioctl.h"
#include "merge.h"
#include "page.h"
#include "region.h"
#include "restore.h"
#include "seal.h"
#include "size.h"
#include "stats.h"

struct cowmem_ioctl {
	unsigned int cmd;	/* with the present size of the struct */
	size_t min_size;	/* the size of its first version */
	bool answers;		/* the struct is copied back */
	int (*handler)(struct cowmem_call *call);
};

#define IOCTL_OP(_nr, _handler, _struct, _last, _answers)		\
	[_IOC_NR(_nr)] = {						\
		.cmd = (_nr) + BUILD_BUG_ON_ZERO(sizeof(_struct) >	\
						 sizeof(union cowmem_args)), \
		.min_size = offsetofend(_struct, _last),		\
		.answers = (_answers),					\
		.handler = (_handler),					\
	}

static const struct cowmem_ioctl cowmem_ioctls[] = {
	IOCTL_OP(COWMEM_IOC_INFO, cowmem_info, struct cowmem_info, clones, true),
	IOCTL_OP(COWMEM_IOC_RESIZE, cowmem_resize, struct cowmem_resize, reserved, false),
	IOCTL_OP(COWMEM_IOC_SEAL, cowmem_seal, struct cowmem_seal, flags, true),
	IOCTL_OP(COWMEM_IOC_CLONE, cowmem_clone, struct cowmem_clone, length, true),
	IOCTL_OP(COWMEM_IOC_DISCARD, cowmem_discard, struct cowmem_discard, reserved, false),
	IOCTL_OP(COWMEM_IOC_RESTORE, cowmem_restore, struct cowmem_restore, kept, true),
	IOCTL_OP(COWMEM_IOC_DIFF, cowmem_diff, struct cowmem_diff, nodes, true),
	IOCTL_OP(COWMEM_IOC_CLONE_MANY, cowmem_clone_many, struct cowmem_clone_many, flags, false),
	IOCTL_OP(COWMEM_IOC_MERGE, cowmem_merge, struct cowmem_merge, saved, true),
	IOCTL_OP(COWMEM_IOC_COPY, cowmem_copy, struct cowmem_copy, length, false),
	IOCTL_OP(COWMEM_IOC_FILE, cowmem_file, struct cowmem_file, name, true),
};

static const struct cowmem_ioctl *find_ioctl(unsigned int cmd)
{
	unsigned int nr = _IOC_NR(cmd);

	if (nr >= ARRAY_SIZE(cowmem_ioctls))
		return NULL;
	nr = array_index_nospec(nr, ARRAY_SIZE(cowmem_ioctls));
	/* Everything but the size has to match. */
	if ((cmd ^ cowmem_ioctls[nr].cmd) & ~(_IOC_SIZEMASK << _IOC_SIZESHIFT))
		return NULL;
	return &cowmem_ioctls[nr];
}

/**
 * cowmem_ioctl - the ioctls of a region
 * @file: the region's file
 * @cmd: COWMEM_IOC_*, perhaps with the struct of another version
 * @arg: user address of the struct
 *
 * Context: may sleep and fault.
 * Return: 0 or a negative errno, see the UAPI header.
 */
long cowmem_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	const struct cowmem_ioctl *op = find_ioctl(cmd);
	void __user *user = (void __user *)arg;
	struct cowmem_call call = {
		.file = file,
		.region = cowmem_file_region(file),
		.new_fd = -1,
	};
	size_t size = _IOC_SIZE(cmd), known;
	int err;

	if (!op)
		return -ENOTTY;
	if (size < op->min_size)
		return -EINVAL;
	known = _IOC_SIZE(op->cmd);
	err = copy_struct_from_user(&call.args, known, user, size);
	if (err)
		return err;

	/* If the struct cannot be written, fail before anything is done. */
	if (op->answers && copy_to_user(user, &call.args, min(size, known)))
		return -EFAULT;
	err = cowmem_user_error(op->handler(&call));
	if (op->answers && !err &&
	    copy_to_user(user, &call.args, min(size, known)))
		err = -EFAULT;

	if (call.new_file) {
		if (err) {
			fput(call.new_file);
			put_unused_fd(call.new_fd);
		} else {
			/* The caller gets the descriptor: nothing may fail any more. */
			if (call.cloned)
				atomic64_inc(&call.region->clones);
			if (call.huge)
				cowmem_want_huge(call.region);
			fd_install(call.new_fd, call.new_file);
		}
	}
	return err;
}
