// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Mappings
 */
#include <errno.h>
#include <sys/mman.h>

#include "internal.h"

void *cowmem_map(int fd, uint64_t offset, size_t length, int prot)
{
	/* mmap() counts in off_t, which is signed. */
	if (offset > INT64_MAX) {
		errno = EINVAL;
		return MAP_FAILED;
	}
	return mmap(NULL, length, prot, MAP_SHARED, fd, offset);
}

/* Undo a mapping of ours, for paths on which an errno is on its way to the caller. */
static void unmap(void *addr, size_t length)
{
	int saved = errno;

	munmap(addr, length);
	errno = saved;
}

/*
 * A mapping that is not in the @length bytes at @keep_off. It would be if some of them were not mapped, and that place
 * was the next to be taken: then it is held until there is another one. Two such places at most can there be.
 */
static void *map_elsewhere(const void *keep_off, uint64_t offset, size_t length, int prot, int fd)
{
	char *at = cowmem_map(fd, offset, length, prot), *other;

	if (at == MAP_FAILED ||
	    ((uintptr_t)at - (uintptr_t)keep_off >= length && (uintptr_t)keep_off - (uintptr_t)at >= length))
		return at;
	other = map_elsewhere(keep_off, offset, length, prot, fd);
	unmap(at, length);
	return other;
}

/*
 * With MAP_FIXED the kernel would take the old one away before it asks the file, which may say no. So what can be
 * refused is mapped in another place first, and then moved: the kernel takes the old one away and puts this one there
 * under one lock, which page faults wait for. All that the move can lack by then is memory.
 */
int cowmem_remap(void *addr, size_t length, int fd, uint64_t offset, int prot)
{
	void *fresh;

	/* Root may have something at address 0, which is what who does not look at errors passes. */
	if (!addr || addr == MAP_FAILED) {
		errno = EINVAL;
		return -1;
	}
	fresh = map_elsewhere(addr, offset, length, prot, fd);
	if (fresh == MAP_FAILED)
		return -1;
	if (mremap(fresh, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, addr) != MAP_FAILED)
		return 0;
	unmap(fresh, length);
	return -1;
}
