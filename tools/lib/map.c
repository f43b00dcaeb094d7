// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Mappings
 */
#include <errno.h>
#include <sys/mman.h>

#include "internal.h"

/* mmap() counts in off_t, which is signed. */
static void *map(void *addr, uint64_t offset, size_t length, int prot, int flags, int fd)
{
	if (offset > INT64_MAX) {
		errno = EINVAL;
		return MAP_FAILED;
	}
	return mmap(addr, length, prot, flags, fd, offset);
}

void *cowmem_map(int fd, uint64_t offset, size_t length, int prot)
{
	return map(NULL, offset, length, prot, MAP_SHARED, fd);
}

int cowmem_remap(void *addr, size_t length, int fd, uint64_t offset, int prot)
{
	/* Root may have something at address 0, which is what who does not look at errors passes. */
	if (!addr || addr == MAP_FAILED) {
		errno = EINVAL;
		return -1;
	}
	/* The kernel takes the old one away and puts the new one there under one lock, which page faults wait for. */
	return map(addr, offset, length, prot, MAP_SHARED | MAP_FIXED, fd) == MAP_FAILED ? -1 : 0;
}
