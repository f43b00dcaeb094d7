/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Regions: each call of the module, mappings, and whether a region is what it should be.
 */
#ifndef _SELFTESTS_COWMEM_REGIONS_H
#define _SELFTESTS_COWMEM_REGIONS_H

#include <sys/ioctl.h>
#include <sys/mman.h>
#include <linux/cowmem.h>
#include "basics.h"
#include "pages.h"

#define COWMEM_DEV "/dev/cowmem"

static inline int region(void)
{
	int fd = open(COWMEM_DEV, O_RDWR | O_CLOEXEC);

	must(fd >= 0);
	return fd;
}

static inline int do_resize(int fd, uint64_t size)
{
	struct cowmem_resize arg = { .size = size };

	return ioctl(fd, COWMEM_IOC_RESIZE, &arg);
}

static inline int do_discard(int fd, uint64_t offset, uint64_t length)
{
	struct cowmem_discard arg = { .offset = offset, .length = length };

	return ioctl(fd, COWMEM_IOC_DISCARD, &arg);
}

static inline int do_seal(int fd, uint32_t seals)
{
	struct cowmem_seal arg = { .seals = seals };

	return ioctl(fd, COWMEM_IOC_SEAL, &arg);
}

/* Return the new descriptor, or -1 with errno set. */
static inline int do_clone(int fd, uint32_t flags, uint64_t offset, uint64_t length)
{
	struct cowmem_clone arg = {
		.flags = flags, .fd = -1, .offset = offset, .length = length,
	};

	return ioctl(fd, COWMEM_IOC_CLONE, &arg) ? -1 : arg.fd;
}

static inline int cloned(int fd)
{
	int new = do_clone(fd, 0, 0, 0);

	must(new >= 0);
	return new;
}

static inline int snapshot(int fd)
{
	int new = do_clone(fd, COWMEM_CLONE_SNAPSHOT, 0, 0);

	must(new >= 0);
	return new;
}

/* A snapshot that a want of memory may take. */
static inline int expendable(int fd)
{
	int new = do_clone(fd, COWMEM_CLONE_SNAPSHOT | COWMEM_CLONE_EXPENDABLE, 0, 0);

	must(new >= 0);
	return new;
}

/* The clones that the call makes have their descriptors put into @clones. */
static inline int do_clone_many(int fd, const int *fds, int *clones, uint32_t n, uint32_t flags)
{
	struct cowmem_clone_many arg = {
		.fds = (uintptr_t)fds, .clones = (uintptr_t)clones, .count = n, .flags = flags,
	};

	return ioctl(fd, COWMEM_IOC_CLONE_MANY, &arg);
}

/* Share @n pages of @from, from page @src on, as those of @fd from @dst on. */
static inline int do_copy(int fd, int from, uint64_t dst, uint64_t src, uint64_t n)
{
	struct cowmem_copy arg = {
		.fd = from, .src_offset = src * pgsz(), .dst_offset = dst * pgsz(),
		.length = n * pgsz(),
	};

	return ioctl(fd, COWMEM_IOC_COPY, &arg);
}

/* Make a region what @from is. */
static inline int do_restore(int fd, int from, uint32_t flags)
{
	struct cowmem_restore arg = { .fd = from, .flags = flags };

	return ioctl(fd, COWMEM_IOC_RESTORE, &arg);
}

/* The same, which has to work; returns all that the call answers. */
static inline struct cowmem_restore must_restore(int fd, int from, uint32_t flags)
{
	struct cowmem_restore arg = {
		.fd = from, .flags = flags, .pages = -1ULL, .nodes = -1ULL, .kept = -1ULL,
	};

	must(!ioctl(fd, COWMEM_IOC_RESTORE, &arg));
	return arg;
}

/* @n pages of it, from page @page on; 0 is for all of them. */
static inline int do_restore_pages(int fd, int from, uint32_t flags, uint64_t page, uint64_t n)
{
	struct cowmem_restore arg = {
		.fd = from, .flags = flags, .offset = page * pgsz(), .length = n * pgsz(),
	};

	return ioctl(fd, COWMEM_IOC_RESTORE, &arg);
}

/* The first extents in which two regions differ, @most of them; returns how many, or -1. */
static inline int do_diff(int fd, int other, uint32_t flags, struct cowmem_extent *e,
			  unsigned int most)
{
	struct cowmem_diff arg = {
		.fd = other, .flags = flags, .extents = (uintptr_t)e, .count = most,
	};

	return ioctl(fd, COWMEM_IOC_DIFF, &arg) ? -1 : (int)arg.count;
}

/*
 * Merge all of some regions, from where @m says on.  Unless @m brings a table
 * along, there is one for this call, too large to forget much.
 */
static inline int do_merge(struct cowmem_merge *m, const int *fds, unsigned int count)
{
	struct cowmem_merge_range *range = calloc(count + 1, sizeof(*range));
	struct cowmem_merge_entry *table = NULL;
	unsigned int i;
	int ret;

	must(range);
	for (i = 0; i < count; i++)
		range[i].fd = fds[i];
	m->ranges = (uintptr_t)range;
	m->count = count;
	if (!m->table) {
		m->entries = 1 << 17;
		table = calloc(m->entries, sizeof(*table));
		must(table);
		m->table = (uintptr_t)table;
	}
	ret = ioctl(fds[0], COWMEM_IOC_MERGE, m);
	if (table)
		m->table = 0;
	free(table);
	free(range);
	return ret;
}

/* Another descriptor of a region, a regular file; or -1. */
static inline int do_file(int fd, uint32_t flags, const char *name)
{
	struct cowmem_file arg = {
		.flags = flags, .fd = -1, .name = (uintptr_t)name,
	};

	return ioctl(fd, COWMEM_IOC_FILE, &arg) ? -1 : arg.fd;
}

static inline int file_of(int fd, uint32_t flags)
{
	int file = do_file(fd, flags, NULL);

	must(file >= 0);
	return file;
}

/* Open what a descriptor refers to once more, by its name in /proc. */
static inline int open_again(int fd, int flags)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, flags | O_CLOEXEC);
}

static inline struct cowmem_info info(int fd)
{
	struct cowmem_info arg = { .flags = 0 };

	must(!ioctl(fd, COWMEM_IOC_INFO, &arg));
	return arg;
}

/* Does the region hold @exclusive + @shared pages?  Says so if it does not. */
static inline bool holds(int fd, uint64_t exclusive, uint64_t shared)
{
	struct cowmem_info i = info(fd);

	if (i.pages_exclusive == exclusive && i.pages_shared == shared &&
	    i.pages_populated == exclusive + shared)
		return true;
	fprintf(stderr,
		"# populated %llu exclusive %llu shared %llu, not %llu + %llu\n",
		(unsigned long long)i.pages_populated,
		(unsigned long long)i.pages_exclusive,
		(unsigned long long)i.pages_shared,
		(unsigned long long)exclusive, (unsigned long long)shared);
	return false;
}

static inline char *map_at(int fd, size_t pages, int prot, int flags, uint64_t page)
{
	void *mem = mmap(NULL, pages * pgsz(), prot, flags, fd, page * pgsz());

	must(mem != MAP_FAILED);
	return mem;
}

static inline char *map_rw(int fd, size_t pages)
{
	return map_at(fd, pages, PROT_READ | PROT_WRITE, MAP_SHARED, 0);
}

static inline char *map_ro(int fd, size_t pages)
{
	return map_at(fd, pages, PROT_READ, MAP_SHARED, 0);
}

static inline void unmap(void *mem, size_t pages)
{
	must(!munmap(mem, pages * pgsz()));
}

/*
 * Until 6.7, or a stable release that has its change, a shared mapping counts as one that can
 * become writable, if the descriptor is open for writing.  So who only reads a memfd, or a
 * region, keeps others from sealing it against writing.
 */
static inline bool readers_count(void)
{
	int fd = memfd_create("readers", MFD_ALLOW_SEALING), err;
	char *mem;

	must(fd >= 0 && !ftruncate(fd, pgsz()) && !fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE));
	mem = map_ro(fd, 1);
	err = fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE);
	must(!err || errno == EBUSY);
	unmap(mem, 1);
	close(fd);
	return err;
}

/* A new region of @pages pages, all of tag @tag; 0 leaves a hole. */
static inline int region_of(size_t pages, uint32_t tag)
{
	int fd = region();
	char *mem = map_rw(fd, pages);

	if (tag)
		fill(mem, pages, tag, 0);
	unmap(mem, pages);
	return fd;
}

/* Write a page by write(). */
static inline void put_page(int fd, uint64_t page, uint32_t tag)
{
	char buf[pgsz()];

	pg_fill(buf, tag, page);
	must(pwrite(fd, buf, pgsz(), page * pgsz()) == (ssize_t)pgsz());
}

static inline void put_pages(int fd, uint64_t first, size_t n, uint32_t tag)
{
	for (; n--; first++)
		put_page(fd, first, tag);
}

/*
 * A new region of @pages pages of which the first word is that of the tag, written 1 MiB at
 * a time: that is faster than by faults.
 */
static inline int big_region(size_t pages, uint32_t tag)
{
	size_t step = (1 << 20) / pgsz(), i, k, n;
	char *buf = anon(step);
	int fd = region();

	for (i = 0; i < pages; i += n) {
		n = pages - i < step ? pages - i : step;
		for (k = 0; k < n; k++)
			*(uint64_t *)(buf + k * pgsz()) = pattern(tag, i + k, 0);
		must(pwrite(fd, buf, n * pgsz(), i * pgsz()) == (ssize_t)(n * pgsz()));
	}
	munmap(buf, step * pgsz());
	return fd;
}

/*
 * Are @n pages of the region of tag @tag, if they were filled as page @as and on?
 * Asks read() and a mapping of its own, so no old page table entry answers.
 */
static inline bool fd_range_is(int fd, uint64_t page, size_t n, uint32_t tag, uint64_t as)
{
	char *buf = malloc(n * pgsz());
	char *mem;
	bool ok;

	must(buf);
	ok = pread(fd, buf, n * pgsz(), page * pgsz()) == (ssize_t)(n * pgsz());
	if (!ok)
		fprintf(stderr, "# pread of %zu pages from %#llx: %s\n", n,
			(unsigned long long)page, strerror(errno));
	ok = ok && is(buf, n, tag, as);
	free(buf);
	mem = map_at(fd, n, PROT_READ, MAP_SHARED, page);
	ok = is(mem, n, tag, as) && ok;
	unmap(mem, n);
	return ok;
}

static inline bool fd_is_as(int fd, uint64_t page, uint32_t tag, uint64_t as)
{
	return fd_range_is(fd, page, 1, tag, as);
}

/* Some pages at a time, as there may be many. */
static inline bool fd_is(int fd, uint64_t page, size_t n, uint32_t tag)
{
	size_t some;

	for (; n; n -= some, page += some) {
		some = n < 64 ? n : 64;
		if (!fd_range_is(fd, page, some, tag, page))
			return false;
	}
	return true;
}

#endif /* _SELFTESTS_COWMEM_REGIONS_H */
