/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * What the files of libcowmem share
 */
#ifndef LIBCOWMEM_INTERNAL_H
#define LIBCOWMEM_INTERNAL_H

#include <stdbool.h>

#include "libcowmem.h"

#define DEVICE		"/dev/cowmem"

/* What statfs() says of regions that are regular files. */
#define REGION_MAGIC	0x636f776d

/* Is it a region's descriptor? Leaves errno alone. */
bool cowmem_int_is_region(int fd);

/* An ioctl of a region, with errno as libcowmem.h promises it. */
int cowmem_int_call(int fd, unsigned long cmd, void *arg);

/* Likewise, where @arg names a second descriptor, @other, which may be the one that is no region's. */
int cowmem_int_call_with(int fd, unsigned long cmd, void *arg, int other);

/* close(), for paths on which an errno is on its way to the caller. */
void cowmem_int_close(int fd);

/* COWMEM_BUF_REGION, but for tests and figures, which try others. */
extern size_t cowmem_int_buf_region;

#endif
