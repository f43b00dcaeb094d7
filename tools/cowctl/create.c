// SPDX-License-Identifier: GPL-2.0-only
/*
 * cowctl create - a new region with a name
 */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "cowctl.h"

static const char help[] =
"Usage: cowctl create [--size SIZE] [--huge] NEW\n"
"\n"
"Makes a region full of zeroes: a file on a mount of type cowmem. A NEW without\n"
"a slash goes into the store, which is made if it is not there yet; ./NEW is one\n"
"in the current directory.\n"
"\n"
"  -s, --size SIZE       its size, as 4096, 64K, 1.5M or 2GiB; 0 if it is not given\n"
"      --huge            it gets memory 2 MiB at a time, where that can be\n"
"      --json            as JSON: { \"path\": ..., \"size\": ... }\n"
"      --help            this text\n";

enum { OPT_HUGE = OPT_VERB };

static const struct column fields[] = {
	{ "path", "path", COLUMN_TEXT },
	{ NULL, NULL, 0 },
};

/* A file without a name yet, that is all as it shall be. */
static int make(const struct place *place, uint64_t size, bool huge)
{
	int fd = place_file(place), other;

	if (fd < 0)
		return -1;
	if (cowmem_resize(fd, size)) {
		complain_errno(place->path);
		close(fd);
		return -1;
	}
	if (!huge)
		return fd;
	other = cowmem_reopen(fd, NULL, COWMEM_FILE_HUGE);
	if (other >= 0) {
		close(other);
		return fd;
	}
	complain_errno(place->path);
	close(fd);
	return -1;
}

static int create(const char *new, uint64_t size, bool huge)
{
	struct place place;
	int fd, err = -1;

	if (place_open(&place, new, -1))
		return -1;
	fd = make(&place, size, huge);
	if (fd >= 0)
		err = place_link(&place, fd);
	if (fd >= 0)
		close(fd);
	if (!err && output.json)
		err = show_object(json_pack("{s:o, s:I}", "path", json_name(place.path), "size", (json_int_t)size),
				  fields);
	place_close(&place);
	return err;
}

static int create_run(int argc, char **argv)
{
	static const struct option options[] = {
		{ "size", required_argument, NULL, 's' },
		{ "huge", no_argument, NULL, OPT_HUGE },
		COMMON_OPTIONS
	};
	uint64_t size = 0;
	bool huge = false;
	int c;

	while ((c = next_option(argc, argv, "s:", options)) >= 0) {
		if (c == 's')
			size = parse_size("--size", optarg);
		else
			huge = true;
	}
	return create(want_args(argc, argv, 1, 1)[0], size, huge);
}

const struct verb verb_create = { "create", "make a new region with a name", help, create_run };
