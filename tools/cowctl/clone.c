// SPDX-License-Identifier: GPL-2.0-only
/*
 * cowctl clone - a region that shares another one's pages, with a name
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clone.h"

static bool same_mount(int fd, int dir)
{
	struct stat a, b;

	return !fstat(fd, &a) && !fstat(dir, &b) && a.st_dev == b.st_dev;
}

/* Why, in words for a range if there is one. */
static int complain_clone(const struct region *region, uint64_t offset, uint64_t length)
{
	if (errno == EINVAL && (offset || length))
		return complain(region->arg, "the range is not in it, or not of whole pages");
	return complain_region(region);
}

/* A clone of a region of the device, for ourselves: it is cut here, and nobody writes to it. */
static int take_cut(const struct region *region, uint64_t offset, uint64_t length, uint64_t *size)
{
	struct stat st;
	int cut = cowmem_clone_range(region->fd, offset, length, 0);

	if (cut < 0 || fstat(cut, &st)) {
		complain_clone(region, offset, length);
		goto fail;
	}
	*size = (uint64_t)st.st_size;
	return cut;
fail:
	if (cut >= 0)
		close(cut);
	return -1;
}

/* All pages of @cut, shared in @file. Pages are shared whole, so both end with one meanwhile. */
static int share_pages(int file, int cut, uint64_t size)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), whole = (size + page - 1) / page * page;

	if (whole && (cowmem_resize(cut, whole) || cowmem_resize(file, whole) || cowmem_copy(file, 0, cut, 0, whole)))
		return -1;
	return cowmem_resize(file, size);
}

/* The region as a file of the place's mount, which takes no page; -1 after it was said why. */
static int bring(const struct region *region, const struct place *place, uint64_t offset, uint64_t length)
{
	uint64_t size;
	int cut = take_cut(region, offset, length, &size), file;

	if (cut < 0)
		return -1;
	file = place_file(place);
	if (file >= 0 && share_pages(file, cut, size)) {
		if (errno == EXDEV)
			complain_other_mount(place, region->arg, region->fd);
		else
			complain_errno(place->path);
		close(file);
		file = -1;
	}
	close(cut);
	return file;
}

/* A descriptor of a clone, which is a file of the place's mount and has no name yet; or -1 after it was said why. */
static int clone_to(const struct region *region, const struct place *place, unsigned int flags,
		    uint64_t offset, uint64_t length)
{
	int clone, file;

	if (same_mount(region->fd, place->dir)) {
		clone = cowmem_clone_range(region->fd, offset, length, flags);
		return clone < 0 ? complain_clone(region, offset, length) : clone;
	}
	file = bring(region, place, offset, length);
	if (file < 0 || !flags)
		return file;
	/* A snapshot is born as one: there is no instant at which anybody could write to it. */
	clone = cowmem_clone(file, flags);
	if (clone < 0)
		complain_errno(place->path);
	close(file);
	return clone;
}

static const struct column fields[] = {
	{ "path", "path", COLUMN_TEXT },
	{ NULL, NULL, 0 },
};

int clone_region(const char *arg, const char *new, unsigned int flags, uint64_t offset, uint64_t length)
{
	struct region region;
	struct place place;
	int clone, err = -1, beside;

	if (region_open(&region, arg, O_RDONLY))
		return -1;
	/* A process does not choose where, and a NAME is looked for in the store: nobody knows what it has open. */
	beside = is_process_arg(arg) ? -1 : region.fd;
	if (!place_open(&place, new, beside)) {
		clone = clone_to(&region, &place, flags, offset, length);
		if (clone >= 0) {
			err = place_link(&place, clone);
			close(clone);
		}
		if (!err && output.json)
			err = show_object(json_pack("{s:o, s:o}", "region", json_name(arg), "path",
						    json_name(place.path)), fields);
		place_close(&place);
	}
	region_close(&region);
	return err;
}

static const char help[] =
"Usage: cowctl clone [--offset OFFSET] [--length LENGTH] REGION NEW\n"
"\n"
"Makes a region that has all that REGION has at one instant, whoever writes to\n"
"it meanwhile, and goes its own way from then on. Pages are shared until one of\n"
"them is written. NEW is a path on a mount of type cowmem, or a NAME: beside\n"
"REGION if that is the path of a file on a mount, else in the store.\n"
"\n"
"      --offset OFFSET   begin there, at a multiple of the page size\n"
"      --length LENGTH   so much of it, a multiple of the page size; if it is\n"
"                        not given, up to the end\n"
"      --json            as JSON: { \"region\": ..., \"path\": ... }\n"
"      --help            this text\n";

enum { OPT_OFFSET = OPT_VERB, OPT_LENGTH };

static int clone_run(int argc, char **argv)
{
	static const struct option options[] = {
		{ "offset", required_argument, NULL, OPT_OFFSET },
		{ "length", required_argument, NULL, OPT_LENGTH },
		COMMON_OPTIONS
	};
	uint64_t offset = 0, length = 0;
	int c;

	while ((c = next_option(argc, argv, "", options)) >= 0) {
		if (c == OPT_OFFSET)
			offset = parse_size("--offset", optarg);
		else
			length = parse_length(optarg);
	}
	argv = want_args(argc, argv, 2, 2);
	return clone_region(argv[0], argv[1], 0, offset, length);
}

const struct verb verb_clone = { "clone", "make a region that shares the pages of another one", help, clone_run };
