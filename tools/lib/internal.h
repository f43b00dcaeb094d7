/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * What the files of libcowmem share
 */
#ifndef LIBCOWMEM_INTERNAL_H
#define LIBCOWMEM_INTERNAL_H

#include <stdbool.h>

#include "libcowmem.h"

#define DEVICE		"/dev/cowmem"

/* An ioctl of a region, with errno as libcowmem.h promises it. */
int cowmem_int_call(int fd, unsigned long cmd, void *arg);

/* Likewise, where @arg names a second descriptor, @other, which may be the one that is no region's. */
int cowmem_int_call_with(int fd, unsigned long cmd, void *arg, int other);

/*
 * What another process had becomes the caller's: of what open("/dev/cowmem") returned there, a regular file takes its
 * place. If @fd is -1, or no region's, or that fails, nothing is open any more, and it returns -1.
 */
int cowmem_int_file(int fd);

/* close(), for paths on which an errno is on its way to the caller. */
void cowmem_int_close(int fd);

/* COWMEM_BUF_REGION, but for tests and figures, which try others. */
extern size_t cowmem_int_buf_region;

#endif
