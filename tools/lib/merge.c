// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * A merger: the arrays and the state that COWMEM_IOC_MERGE leaves to its caller
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "internal.h"

/* Pages that meet at one entry of the table forget each other: twice as many entries as pages lose few. */
#define ENTRIES_PER_PAGE	2

struct cowmem_merger {
	struct cowmem_merge_range ranges[COWMEM_MERGE_MAX];
	uint32_t count;
	bool fresh;			/* the next step begins a round */
	size_t pages;			/* to remember, 0: as many as there are */
	struct cowmem_merge_entry *table;
	uint32_t entries;
	uint32_t next;			/* where the round is */
	uint64_t offset;
	struct cowmem_merge_stats stats;
};

static size_t page_size(void)
{
	return sysconf(_SC_PAGESIZE);
}

struct cowmem_merger *cowmem_merger_new(size_t pages)
{
	struct cowmem_merger *merger = calloc(1, sizeof(*merger));

	if (merger) {
		merger->pages = pages;
		merger->fresh = true;
	}
	return merger;
}

static void drop_table(struct cowmem_merger *merger)
{
	if (merger->table)
		munmap(merger->table, (size_t)merger->entries * sizeof(*merger->table));
	merger->table = NULL;
	merger->entries = 0;
}

void cowmem_merger_free(struct cowmem_merger *merger)
{
	int saved = errno;
	uint32_t i;

	if (!merger)
		return;
	for (i = 0; i < merger->count; i++)
		close(merger->ranges[i].fd);
	drop_table(merger);
	free(merger);
	errno = saved;
}

int cowmem_merger_add(struct cowmem_merger *merger, int fd, uint64_t offset, uint64_t length)
{
	int mode = fcntl(fd, F_GETFL), own;

	if (mode == -1)
		return -1;
	if (!cowmem_is_region(fd)) {
		errno = ENOTTY;
		return -1;
	}
	if ((mode & O_ACCMODE) != O_RDWR || (mode & O_PATH)) {
		errno = EBADF;
		return -1;
	}
	if (offset % page_size() || length % page_size() || offset + length < offset) {
		errno = EINVAL;
		return -1;
	}
	if (merger->count == COWMEM_MERGE_MAX) {
		errno = ENOSPC;
		return -1;
	}
	own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (own == -1)
		return -1;
	merger->ranges[merger->count++] = (struct cowmem_merge_range) {
		.fd = own,
		.offset = offset,
		.length = length,
	};
	merger->fresh = true;
	return 0;
}

/* The size of a region, or -1. What stat() says of a descriptor of the device is the device's own. */
static int region_size(int fd, uint64_t *size)
{
	struct cowmem_info info;
	struct stat st;

	if (fstat(fd, &st))
		return -1;
	if (S_ISREG(st.st_mode)) {
		*size = st.st_size;
		return 0;
	}
	if (cowmem_get_info(fd, &info))
		return -1;
	*size = info.size;
	return 0;
}

/* How many pages are in all ranges? */
static int count_pages(struct cowmem_merger *merger, uint64_t *pages)
{
	uint64_t size;
	uint32_t i;

	*pages = 0;
	for (i = 0; i < merger->count; i++) {
		struct cowmem_merge_range *range = &merger->ranges[i];

		if (region_size(range->fd, &size))
			return -1;
		size = size > range->offset ? size - range->offset : 0;
		if (range->length && range->length < size)
			size = range->length;
		*pages += (size + page_size() - 1) / page_size();
	}
	return 0;
}

/* An empty table that is large enough. */
static int prepare_table(struct cowmem_merger *merger)
{
	uint64_t pages = merger->pages, entries;
	void *table;

	if (!pages && count_pages(merger, &pages))
		return -1;
	entries = pages > UINT32_MAX / ENTRIES_PER_PAGE ? UINT32_MAX : pages * ENTRIES_PER_PAGE;
	if (!entries)
		entries = ENTRIES_PER_PAGE;
	/* Which is refused if it is locked, as by mlockall(MCL_FUTURE): then another one takes its place. */
	if (entries == merger->entries && !madvise(merger->table, entries * sizeof(*merger->table), MADV_DONTNEED))
		return 0;
	if (entries > SIZE_MAX / sizeof(*merger->table)) {
		errno = ENOMEM;
		return -1;
	}
	drop_table(merger);
	/* Entries are used as pages are found: a table for a large region without many costs little. */
	table = mmap(NULL, entries * sizeof(*merger->table), PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (table == MAP_FAILED)
		return -1;
	merger->table = table;
	merger->entries = entries;
	return 0;
}

static int begin_round(struct cowmem_merger *merger)
{
	if (!merger->count) {
		errno = EINVAL;
		return -1;
	}
	if (prepare_table(merger))
		return -1;
	merger->next = 0;
	merger->offset = 0;
	merger->fresh = false;
	return 0;
}

static void add_up(struct cowmem_merge_stats *stats, const struct cowmem_merge *args)
{
	stats->scanned += args->scanned;
	stats->merged += args->merged;
	stats->zeroed += args->zeroed;
	stats->saved += args->saved;
	stats->rounds += args->next == args->count;
}

/* As with cowmem_get_info(): programs have room for no more. */
_Static_assert(sizeof(struct cowmem_merge_stats) == 40, "cowmem_merger_step@LIBCOWMEM_1.0 writes 40 bytes");

int cowmem_merger_step(struct cowmem_merger *merger, uint64_t budget, struct cowmem_merge_stats *stats)
{
	struct cowmem_merge args;

	if (merger->fresh && begin_round(merger))
		return -1;
	args = (struct cowmem_merge) {
		.ranges = (uintptr_t)merger->ranges,
		.count = merger->count,
		.table = (uintptr_t)merger->table,
		.entries = merger->entries,
		.next = merger->next,
		.offset = merger->offset,
		.budget = budget,
	};
	if (cowmem_int_call(merger->ranges[0].fd, COWMEM_IOC_MERGE, &args))
		return -1;
	merger->next = args.next;
	merger->offset = args.offset;
	merger->fresh = args.next == args.count;
	add_up(&merger->stats, &args);
	if (stats)
		*stats = merger->stats;
	return merger->fresh;
}
