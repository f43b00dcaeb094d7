/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * An ioctl in progress: what ioctl.c gives to the function that serves it.
 */
#ifndef _COWMEM_CALL_H
#define _COWMEM_CALL_H

#include <linux/types.h>

/* The UAPI, from uapi/. */
#include <linux/cowmem.h>

struct cowmem_region;
struct file;

/* The argument of an ioctl in kernel memory. */
union cowmem_args {
	struct cowmem_info info;
	struct cowmem_resize resize;
	struct cowmem_seal seal;
	struct cowmem_clone clone;
	struct cowmem_discard discard;
	struct cowmem_restore restore;
	struct cowmem_diff diff;
	struct cowmem_copy copy;
	struct cowmem_clone_many clone_many;
	struct cowmem_merge merge;
	struct cowmem_file file;
};

/**
 * struct cowmem_call - an ioctl in progress
 * @file: the file of the region that it was called on.
 * @region: the region.
 * @args: in and out.
 * @new_fd: a descriptor that the caller gets if all goes well, or -1.
 * @new_file: the file for @new_fd.
 * @cloned: @new_file is a clone.
 * @huge: the region is to get memory by whole areas from then on.
 */
struct cowmem_call {
	struct file *file;
	struct cowmem_region *region;
	union cowmem_args args;
	int new_fd;
	struct file *new_file;
	bool cloned;
	bool huge;
};

#endif /* _COWMEM_CALL_H */
