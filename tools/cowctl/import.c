// SPDX-License-Identifier: GPL-2.0-only
/*
 * cowctl import: a region out of the bytes of a plain file
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "transfer.h"

static const char help[] =
"Usage: cowctl import [OPTION]... FILE|- NAME|PATH\n"
"\n"
"Makes a region of the bytes of FILE, or of standard input: NAME in the store, or a file on\n"
"a mount of type cowmem. What is a hole in FILE, or a page of zeroes on standard input, is\n"
"a hole in the region.\n"
"\n"
"      --snapshot     nobody can change it any more\n"
"      --json         tell in JSON how much it was\n"
"      --help         this text\n"
"\n"
"  cowctl import /var/tmp/4711.raw restored\n"
"  zcat image.gz | cowctl import - image\n";

enum { OPT_SNAPSHOT = OPT_VERB };

static bool is_zero(const char *data, size_t length)
{
	return !length || (!data[0] && !memcmp(data, data + 1, length - 1));
}

/* Write all pages of a chunk that are not zeroes; what is not written is a hole. */
static int put_chunk(int to, const char *data, size_t length, uint64_t offset)
{
	const size_t page = sysconf(_SC_PAGESIZE);
	size_t at, n;

	for (at = 0; at < length; at += n) {
		n = length - at < page ? length - at : page;
		if (!is_zero(data + at, n) && pwrite_whole(to, data + at, n, offset + at))
			return -1;
	}
	return 0;
}

/* Of what can not be asked for its holes, or for its size: files of /proc say 0. */
static int import_in_order(int from, int to)
{
	char *buffer = must(malloc(CHUNK));
	struct progress p;
	uint64_t size = 0;
	ssize_t n;
	int ret;

	progress_begin(&p, "import", 0, true);
	do {
		n = read_whole(from, buffer, CHUNK);
		ret = n < 0 || put_chunk(to, buffer, n, size) ? -1 : 0;
		if (!ret)
			size += n;
		progress_show(&p, size);
	} while (!ret && n);
	progress_end(&p);
	free(buffer);
	return ret ? -1 : ftruncate(to, size);
}

static int import_file(int from, int to, uint64_t size)
{
	struct progress p;
	int ret;

	progress_begin(&p, "import", size, true);
	ret = copy_sparse(from, to, size, &p);
	progress_end(&p);
	return ret;
}

static int fill(struct part *part, int from)
{
	struct stat st;

	if (fstat(from, &st) ||
	    (S_ISREG(st.st_mode) && st.st_size && lseek(from, 0, SEEK_CUR) == 0 ?
	     import_file(from, part->fd, st.st_size) : import_in_order(from, part->fd)))
		return complain_errno(part->place->path);
	return 0;
}

static int import_to(const struct place *place, int from, bool snapshot)
{
	struct part part;
	int ret;

	/* Nothing is made, or removed, where there can be no region. */
	if (!is_mount(place->dir))
		return complain_no_mount(place->path);
	if (part_make(&part, place))
		return -1;
	ret = fill(&part, from);
	if (!ret && snapshot && part_freeze(&part))
		ret = complain_errno(place->path);
	if (!ret)
		ret = part_publish(&part);
	if (ret)
		part_remove(&part);
	else if (output.json)
		ret = show_json(json_pack("{s:o, s:I}", "path", json_name(place->path), "size",
					  (json_int_t)lseek(part.fd, 0, SEEK_END)), true);
	part_close(&part);
	return ret;
}

static int run(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "snapshot", no_argument, NULL, OPT_SNAPSHOT },
		COMMON_OPTIONS
	};
	bool snapshot = false;
	struct place place;
	int from, ret;

	while (next_option(argc, argv, "", longs) >= 0)
		snapshot = true;
	argv = want_args(argc, argv, 2, 2);
	expect_errors();
	from = open_input(strcmp(argv[0], "-") ? argv[0] : NULL);
	if (from < 0)
		return -1;
	ret = new_place(&place, argv[1], false);
	if (!ret) {
		ret = import_to(&place, from, snapshot);
		place_close(&place);
	}
	close(from);
	return ret;
}

const struct verb verb_import = {
	.name = "import",
	.summary = "make a region of the bytes of a file or pipe",
	.help = help,
	.run = run,
};
