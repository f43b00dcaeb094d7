// SPDX-License-Identifier: GPL-2.0-only
/*
 * Is a copy of the memory of peers.d/stamper.S one of a single instant?
 *
 * It writes N = 1, 2, 3... each to the first word of page N * STEP modulo PAGES. So if N
 * is the last number there, each page holds the last that was due there, and none lacks.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "stamper.h"

#define PAGE	4096

static uint32_t stamps[PAGES];

static bool read_stamps(const char *path)
{
	int fd = open(path, O_RDONLY);
	bool good = fd >= 0;

	for (off_t i = 0; good && i < PAGES; i++)
		good = pread(fd, &stamps[i], sizeof(*stamps), BASE + i * PAGE) == sizeof(*stamps);
	if (!good)
		fprintf(stderr, "stamps: %s: %s\n", path, strerror(errno));
	if (fd >= 0)
		close(fd);
	return good;
}

/* Does PATH hold the writes up to some number? It must not be less than *LAST, and becomes that. */
static bool is_cut(const char *path, uint32_t *last)
{
	uint32_t have = 0, n = 0;

	if (!read_stamps(path))
		return false;
	for (uint32_t i = 0; i < PAGES; i++) {
		n = stamps[i] > n ? stamps[i] : n;
		have += stamps[i] > 0;
	}
	for (uint32_t i = 0; i < PAGES; i++) {
		if (stamps[i] && (stamps[i] * STEP % PAGES != i || stamps[i] + PAGES <= n)) {
			fprintf(stderr, "stamps: %s has write %u, but %u on page %u\n",
				path, n, stamps[i], i);
			return false;
		}
	}
	if (n < *last || have != (n < PAGES ? n : PAGES)) {
		fprintf(stderr, "stamps: %s has write %u, but %u pages with any; before: %u\n",
			path, n, have, *last);
		return false;
	}
	*last = n;
	return true;
}

/* The files in the order in which they were made. */
int main(int argc, char **argv)
{
	uint32_t first = 0, last = 0;

	for (int i = 1; i < argc; i++) {
		if (!is_cut(argv[i], &last))
			return 1;
		if (i == 1)
			first = last;
	}
	printf("%d copies, from write %u to write %u\n", argc - 1, first, last);
	return last <= first;
}
