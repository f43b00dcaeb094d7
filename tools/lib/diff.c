// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Where two regions differ
 */
#include <errno.h>

#include "internal.h"

/* How many extents one ioctl may return. */
#define BATCH	256

/* An extent that waits for its next neighbour, and whom to tell of it. */
struct walk {
	struct cowmem_extent last;	/* none if its length is 0 */
	cowmem_diff_fn fn;
	void *arg;
};

static int tell(struct walk *walk)
{
	return walk->last.length ? walk->fn(&walk->last, walk->arg) : 0;
}

/* The module reports neighbours apart where it let go of its locks in between. */
static int add(struct walk *walk, const struct cowmem_extent *extent)
{
	struct cowmem_extent *last = &walk->last;
	int ret;

	if (last->length && last->kind == extent->kind && last->offset + last->length == extent->offset) {
		last->length += extent->length;
		return 0;
	}
	ret = tell(walk);
	*last = *extent;
	return ret;
}

int cowmem_diff(int fd, int other, unsigned int flags, cowmem_diff_fn fn, void *arg)
{
	/* Zeroed for valgrind, which does not know that the module writes there. */
	struct cowmem_extent extents[BATCH] = { 0 };
	struct cowmem_diff diff = { .fd = other, .flags = flags, .extents = (uintptr_t)extents };
	struct walk walk = { .fn = fn, .arg = arg };
	uint32_t i;
	int ret;

	do {
		diff.count = BATCH;
		if (cowmem_int_call_with(fd, COWMEM_IOC_DIFF, &diff, other))
			return -1;
		for (i = 0; i < diff.count; i++) {
			ret = add(&walk, &extents[i]);
			if (ret)
				return ret;
		}
	} while (diff.count == BATCH);
	return tell(&walk);
}
