/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the kernel tells about mapped pages, in /proc/self/pagemap and /proc/kpageflags.
 */
#ifndef _SELFTESTS_COWMEM_FRAMES_H
#define _SELFTESTS_COWMEM_FRAMES_H

#include <fcntl.h>
#include <unistd.h>
#include "basics.h"

#define PAGEMAP_DIRTY	(1ULL << 55)		/* stored to since clear_refs */
#define PAGEMAP_PRESENT	(1ULL << 63)
#define PAGEMAP_FRAME	((1ULL << 55) - 1)	/* the physical page of one that is present */

#define FRAME_HEAD	(1ULL << 15)		/* the first page of a folio of several */
#define FRAME_TAIL	(1ULL << 16)		/* another one */
#define FRAME_BROKEN	(1ULL << 19)
#define FRAME_ARCH	(1ULL << 38)		/* the architecture's own */

/* Number @nr of a file that has 64 bits for each page. */
static inline uint64_t entry_of(const char *path, uint64_t nr)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	uint64_t entry = 0;

	must(fd >= 0);
	must(pread(fd, &entry, sizeof(entry), nr * sizeof(entry)) == sizeof(entry));
	close(fd);
	return entry;
}

static inline uint64_t pagemap(const char *mem)
{
	return entry_of("/proc/self/pagemap", (uintptr_t)mem / pgsz());
}

/* The physical page behind @mem, or 0 */
static inline uint64_t frame_of(const char *mem)
{
	uint64_t entry = pagemap(mem);

	return entry & PAGEMAP_PRESENT ? entry & PAGEMAP_FRAME : 0;
}

/* What the kernel says about a physical page: FRAME_* */
static inline uint64_t frame_flags(uint64_t frame)
{
	return entry_of("/proc/kpageflags", frame);
}

#endif /* _SELFTESTS_COWMEM_FRAMES_H */
