// SPDX-License-Identifier: GPL-2.0-only
/*
 * How the state of a process goes back to what it was after an input: with cowmem, and in the ways in use today.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/mman.h>

#include "cowmem-afl.h"
#include "ways.h"

static struct store *mem, *image;
static int image_fd;

static void *map(void *at, int flags, int fd)
{
	void *p = mmap(at, STATE_SIZE, PROT_READ | PROT_WRITE, flags, fd, 0);

	if (p == MAP_FAILED)
		err(1, "mmap");
	return p;
}

static void nothing(void)
{
}

static struct store *make_anonymous(void)
{
	mem = map(NULL, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	return mem;
}

/* ---- all of it is copied ---- */

static void begin_copy(void)
{
	image = map(NULL, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	memcpy(image, mem, STATE_SIZE);
}

static void reset_copy(void)
{
	memcpy(mem, image, STATE_SIZE);
}

/* ---- what the kernel says was written is copied: soft-dirty bits ---- */

#define SOFT_DIRTY	(1ULL << 55)

static int pagemap, clear_refs;

static void clear_soft_dirty(void)
{
	if (pwrite(clear_refs, "4", 1, 0) != 1)
		err(1, "clear_refs");
}

static void begin_soft_dirty(void)
{
	begin_copy();
	pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	clear_refs = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
	if (pagemap < 0 || clear_refs < 0)
		err(1, "/proc/self");
	clear_soft_dirty();
}

static void reset_soft_dirty(void)
{
	static uint64_t entries[RECORDS];

	if (pread(pagemap, entries, sizeof(entries), (uintptr_t)mem / PAGE * sizeof(*entries)) != sizeof(entries))
		err(1, "pagemap");
	for (size_t i = 0; i < RECORDS; i++)
		if (entries[i] & SOFT_DIRTY)
			mem->records[i] = image->records[i];
	clear_soft_dirty();
}

/* ---- a private mapping of a file ---- */

static struct store *make_private(void)
{
	image_fd = memfd_create("image", MFD_CLOEXEC);
	if (image_fd < 0 || ftruncate(image_fd, STATE_SIZE))
		err(1, "memfd");
	mem = map(NULL, MAP_SHARED, image_fd);
	return mem;
}

static void begin_private(void)
{
	map(mem, MAP_PRIVATE | MAP_FIXED, image_fd);
}

static void reset_private(void)
{
	if (madvise(mem, STATE_SIZE, MADV_DONTNEED))
		err(1, "madvise");
}

/* ---- cowmem ---- */

static struct cowmem_state state;

static struct store *make_region(void)
{
	mem = cowmem_state_new(&state, STATE_SIZE);
	if (!mem)
		errx(1, "cowmem: %s", cowmem_strerror(errno));
	return mem;
}

static void begin_region(void)
{
	if (cowmem_state_begin(&state))
		errx(1, "cowmem: %s", cowmem_strerror(errno));
}

static void reset_keep(void)
{
	if (cowmem_state_reset(&state))
		errx(1, "restore: %s", cowmem_strerror(errno));
}

static void reset_plain(void)
{
	if (cowmem_restore(state.fd, state.snapshot, 0, NULL))
		errx(1, "restore: %s", cowmem_strerror(errno));
}

/* ---- is it what it was? ---- */

/* Here, as afl-fuzz would take the path through it for one of the program's. */
uint64_t checksum(const struct store *store)
{
	const uint64_t *words = (const uint64_t *)store;
	uint64_t sum = 3;

	for (size_t i = 0; i < STATE_SIZE / sizeof(*words); i++)
		sum = (sum ^ words[i]) * 0x9e3779b97f4a7c15;
	return sum;
}

static uint64_t first_sum;
static unsigned long check_every, nr_inputs;

void check_begin(const struct store *store, unsigned long every)
{
	check_every = every;
	if (every)
		first_sum = checksum(store);
}

void check(const struct store *store)
{
	if (check_every && ++nr_inputs % check_every == 0 && checksum(store) != first_sum)
		abort();
}

/* "fork" is for a process that ends with its input; in one that goes on it leaves all behind. */
static const struct way ways[] = {
	{ "fork", make_anonymous, nothing, nothing },
	{ "memcpy", make_anonymous, begin_copy, reset_copy },
	{ "soft-dirty", make_anonymous, begin_soft_dirty, reset_soft_dirty },
	{ "private", make_private, begin_private, reset_private },
	{ "restore", make_region, begin_region, reset_plain },
	{ "keep", make_region, begin_region, reset_keep },
};

const struct way *way_of(const char *name)
{
	for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++)
		if (!strcmp(ways[i].name, name))
			return &ways[i];
	errx(2, "no way '%s'", name);
}
