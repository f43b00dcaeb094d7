// SPDX-License-Identifier: GPL-2.0-only
/*
 * cowctl export: the bytes of a region, in a plain file
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "transfer.h"

static const char help[] =
"Usage: cowctl export [OPTION]... REGION FILE|-\n"
"\n"
"Writes the bytes of a region to FILE, which must not exist, or is a pipe or a device,\n"
"or to standard output. If REGION is no snapshot, one is made first, so whoever writes to\n"
"it goes on meanwhile. FILE is sparse: what is a hole in the region is one there. A pipe\n"
"or a device gets zeroes.\n"
"\n"
"      --json         tell in JSON how much it was; not with \"-\"\n"
"      --help         this text\n"
"\n"
"  cowctl export 4711 /var/tmp/4711.raw\n"
"  cowctl export before-upgrade - | sha256sum\n";

static int complain_copy(const struct source *source, const char *path)
{
	return source_has_yielded(source) ? complain_source(source) : complain(path, "%s", strerror(errno));
}

static int export_whole(const struct source *source, const char *path, int fd)
{
	struct progress p;
	int ret;

	progress_begin(&p, "export", source->size, true);
	ret = copy_all(source->fd, fd, source->size, &p);
	progress_end(&p);
	if (close(fd) && !ret)
		ret = -1;
	return ret ? complain_copy(source, path) : 0;
}

static int fill_part(const struct source *source, struct part *part)
{
	struct progress p;
	int ret;

	progress_begin(&p, "export", source->size, true);
	ret = copy_sparse(source->fd, part->fd, source->size, &p);
	progress_end(&p);
	return ret || fsync(part->fd) ? complain_copy(source, part->place->path) : 0;
}

static int export_sparse(const struct source *source, const char *path)
{
	struct place place;
	struct part part;
	int ret;

	if (new_place(&place, path, true))
		return -1;
	ret = part_make(&part, &place);
	if (!ret) {
		ret = fill_part(source, &part) || part_publish(&part) ? -1 : 0;
		if (ret)
			part_remove(&part);
		part_close(&part);
	}
	place_close(&place);
	return ret;
}

static int export_to(const struct source *source, const char *path)
{
	int fd;

	if (strcmp(path, "-") && is_file_path(path))
		return export_sparse(source, path);
	fd = open_output(strcmp(path, "-") ? path : NULL);
	return fd < 0 ? -1 : export_whole(source, strcmp(path, "-") ? path : "standard output", fd);
}

static int run(int argc, char **argv)
{
	static const struct option longs[] = { COMMON_OPTIONS };
	struct source source;
	int ret;

	while (next_option(argc, argv, "", longs) >= 0)
		;
	argv = want_args(argc, argv, 2, 2);
	if (output.json && !strcmp(argv[1], "-"))
		usage("--json and \"-\" would both write to standard output");
	expect_errors();
	if (source_open(&source, argv[0]))
		return -1;
	ret = export_to(&source, argv[1]);
	if (!ret && output.json)
		ret = show_json(json_pack("{s:o, s:I}", "path", json_name(argv[1]), "size",
					  (json_int_t)source.size), true);
	source_close(&source);
	return ret;
}

const struct verb verb_export = {
	.name = "export",
	.summary = "write the bytes of a region to a file or pipe",
	.help = help,
	.run = run,
};
