// SPDX-License-Identifier: GPL-2.0-only
/*
 * cowctl vm - directories with what belongs to a VM: they are on the mount that its memory is on, and nobody else may
 * change what is in them
 */
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vm-dir.h"

/* May nobody but us, or root, change what is in a directory, or what is called so in it? */
static bool is_ours(const struct stat *dir)
{
	if (dir->st_uid != geteuid() && dir->st_uid)
		return false;
	return !(dir->st_mode & 0022) || (dir->st_mode & S_ISVTX);
}

/* That holds for all directories on the way: who may change one could put another one there. */
static int check_way(const struct place *place)
{
	int dir = fcntl(place->dir, F_DUPFD_CLOEXEC, 0), up;
	struct stat here, there = { };
	bool top = false;

	while (dir >= 0 && !top && !fstat(dir, &here)) {
		if (!is_ours(&here)) {
			close(dir);
			return complain(place->path, "others may change a directory that it would be in");
		}
		up = openat(dir, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
		close(dir);
		dir = up;
		top = dir >= 0 && !fstat(dir, &there) && there.st_dev == here.st_dev && there.st_ino == here.st_ino;
	}
	if (dir >= 0)
		close(dir);
	return top ? 0 : complain(place->path, "what it would be in cannot be seen: %s", strerror(errno));
}

int vm_check_text(const char *path)
{
	json_t *string = json_string(path);

	if (!string)
		return complain(path, "not in UTF-8, which is all that QEMU understands; take another name");
	json_decref(string);
	return 0;
}

/* QEMU is told of it, in options and in JSON. */
static int check_name(const struct place *place)
{
	if (vm_check_text(place->path))
		return -1;
	if (strpbrk(place->path, ",\"\\"))
		return complain(place->path, "a comma, a quote or a backslash ends a path in QEMU's options; take a name without");
	return 0;
}

int vm_check_dir(struct place *place, const char *arg, int ram)
{
	struct stat memory, dir;

	if (place_open(place, arg, ram))
		return -1;
	if (fstat(ram, &memory) || fstat(place->dir, &dir) || memory.st_dev != dir.st_dev)
		complain(arg, "not on the mount that the VM's memory is on, and pages never leave that");
	else if (faccessat(place->dir, ".", W_OK | X_OK, AT_EACCESS))
		complain_place(place);
	else if (!check_name(place) && !check_way(place))
		return 0;
	place_close(place);
	return -1;
}

int vm_make_dir(const struct place *place)
{
	return mkdirat(place->dir, place->name, 0700) ? complain_place(place) : 0;
}

void vm_remove_dir(const char *path)
{
	char *copy = must(strdup(path)), *const paths[] = { copy, NULL };
	FTS *tree = fts_open(paths, FTS_PHYSICAL | FTS_XDEV | FTS_NOCHDIR, NULL);
	FTSENT *entry;

	while (tree && (entry = fts_read(tree))) {
		if (entry->fts_info == FTS_DP)
			rmdir(entry->fts_accpath);
		else if (entry->fts_info != FTS_D)
			unlink(entry->fts_accpath);
	}
	if (tree)
		fts_close(tree);
	free(copy);
}

int in_dir(struct place *place, const char *dir, const char *name)
{
	*place = (struct place) {
		.dir = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC),
		.name = must(strdup(name)), .path = must_printf("%s/%s", dir, name),
	};
	if (place->dir >= 0)
		return 0;
	complain(dir, "%s", strerror(errno));
	place_close(place);
	return -1;
}

int link_clone(int fd, unsigned int flags, const char *dir, const char *name)
{
	struct place place;
	int clone, err;

	if (in_dir(&place, dir, name))
		return -1;
	clone = cowmem_clone(fd, flags);
	err = clone < 0 ? complain_errno(place.path) : place_link(&place, clone);
	if (clone >= 0)
		close(clone);
	place_close(&place);
	return err;
}
