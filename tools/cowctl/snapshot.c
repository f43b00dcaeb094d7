// SPDX-License-Identifier: GPL-2.0-only
/*
 * cowctl snapshot - a region, or all files of a directory, as they are now
 */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clone.h"
#include "tree.h"

static const char help[] =
"Usage: cowctl snapshot [--expendable] REGION NEW\n"
"       cowctl snapshot [--expendable] DIRECTORY NEW\n"
"\n"
"Makes a snapshot, which nobody can ever write, of a region at one instant,\n"
"whoever writes to it meanwhile. Of a directory on a mount, all regular files\n"
"below it at one and the same instant, into a new directory. NEW appears when it\n"
"is whole. It is a path on a mount of type cowmem, or a NAME: beside what it is\n"
"made of, if that is a path on a mount, else, as for a PID, in the store at\n"
STORE_DEFAULT " ($COWMEM_STORE), which is made if it is not there yet.\n"
"\n"
"  -e, --expendable      it gives way, as a whole, where a write would find no\n"
"                        memory otherwise\n"
"      --json            as JSON: { \"region\" or \"directory\": ..., \"path\": ... }\n"
"      --help            this text\n";

/* 1 and a descriptor if the argument means a directory, here or in the store; 0 if not; -1 after it was said why. */
static int open_as_directory(const char *arg, int *fd)
{
	int dir;

	if (!*arg || is_process_arg(arg))
		return 0;
	dir = find_name(arg);
	if (dir == -1)
		return -1;
	*fd = openat(dir, arg, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir >= 0)
		close(dir);
	return *fd >= 0;
}

/* The root of a mount: nothing is beside it. */
static bool is_root(int dir)
{
	struct stat here, above;

	return !fstat(dir, &here) && !fstatat(dir, "..", &above, 0) &&
	       (here.st_dev != above.st_dev || here.st_ino == above.st_ino);
}

static const struct column fields[] = {
	{ "path", "path", COLUMN_TEXT },
	{ NULL, NULL, 0 },
};

static int snapshot_directory(int dir, const char *arg, const char *new, unsigned int flags)
{
	struct place place;
	size_t files;
	int err;

	if (!is_mount(dir))
		return complain_foreign(arg, "not on a mount of type cowmem, so its files are no regions");
	if (!strchr(new, '/') && is_root(dir))
		return complain(new, "there is nothing beside %s, which is all of a mount; name a path on it, in a "
				"directory of its own", arg);
	if (place_open(&place, new, dir))
		return -1;
	err = clone_tree(dir, arg, &place, flags, &files);
	if (!err && output.json)
		err = show_object(json_pack("{s:o, s:o, s:I}", "directory", json_name(arg), "path",
					    json_name(place.path), "files", (json_int_t)files), fields);
	place_close(&place);
	return err;
}

static int snapshot_run(int argc, char **argv)
{
	static const struct option options[] = {
		{ "expendable", no_argument, NULL, 'e' },
		COMMON_OPTIONS
	};
	unsigned int flags = COWMEM_CLONE_SNAPSHOT;
	int dir, err;

	while (next_option(argc, argv, "e", options) >= 0)
		flags |= COWMEM_CLONE_EXPENDABLE;
	argv = want_args(argc, argv, 2, 2);
	err = open_as_directory(argv[0], &dir);
	if (err < 0)
		return -1;
	if (!err)
		return clone_region(argv[0], argv[1], flags, 0, 0);
	err = snapshot_directory(dir, argv[0], argv[1], flags);
	close(dir);
	return err;
}

const struct verb verb_snapshot = { "snapshot", "keep a region, or the files of a directory, as they are now", help,
	snapshot_run };
