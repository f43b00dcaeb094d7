// SPDX-License-Identifier: GPL-2.0-only
/*
 * The store, a mount where regions get names, and places on it or another mount for new ones
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "cowctl.h"

const char *store_path(void)
{
	const char *path = getenv("COWMEM_STORE");

	if (!path || !*path)
		return STORE_DEFAULT;
	/* Else each directory that somebody is in would get a store of its own. */
	if (*path != '/')
		usage("COWMEM_STORE has to be an absolute path, not '%s'", path);
	return path;
}

bool is_mount(int fd)
{
	struct statfs fs;

	return !fstatfs(fd, &fs) && fs.f_type == COWMEM_SUPER_MAGIC;
}

static int open_directory(const char *path)
{
	return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* Nobody is to be told to mount over something that is there. */
static int complain_store(int error)
{
	const char *path = store_path();

	if (error == ENOTEMPTY || error == ENOTDIR)
		return complain_foreign(path, "the store cannot be made: %s; set COWMEM_STORE to an empty directory%s",
				error == ENOTDIR ? strerror(error) : "there is a directory with something in it",
				getenv("COWMEM_STORE") ? ", or unset it" : "");
	return complain_foreign(path, "the store cannot be made: %s; as root: mkdir -p %s && mount -t cowmem none %s",
			strerror(error), path, path);
}

/* Mountinfo has a backslash and three octal digits for what would end a word in it. */
static void unescape(char *s)
{
	unsigned int byte;
	char *to = s;

	while (*s) {
		if (*s == '\\' && sscanf(s + 1, "%3o", &byte) == 1) {
			*to++ = (char)byte;
			s += 4;
		} else {
			*to++ = *s++;
		}
	}
	*to = 0;
}

/* Where a line of mountinfo has all of a file system mounted, or NULL if it is another one. */
static char *mount_in_line(const char *line, dev_t dev)
{
	unsigned int a = 0, b = 0;
	int path = 0, end = 0;
	char *copy;

	if (sscanf(line, "%*s %*s %u:%u / %n%*s%n", &a, &b, &path, &end) < 2 || makedev(a, b) != dev || !path ||
	    line[path - 1] != ' ' || !end)
		return NULL;
	copy = must(strndup(line + path, (size_t)(end - path)));
	unescape(copy);
	return copy;
}

char *mount_of(dev_t dev)
{
	FILE *file = fopen("/proc/self/mountinfo", "re");
	char *line = NULL, *path = NULL;
	size_t size = 0;

	while (file && !path && getline(&line, &size, file) > 0)
		path = mount_in_line(line, dev);
	free(line);
	if (file)
		fclose(file);
	return path;
}

int complain_other_mount(const struct place *place, const char *arg, int fd)
{
	struct stat st;
	char *mount = fstat(fd, &st) ? NULL : mount_of(st.st_dev);

	/* What is on none is of the device: its pages may be of any. */
	if (mount)
		complain(place->path, "%s has pages of the mount %s, which never leave it; name a path there", arg,
			 mount);
	else
		complain(place->path, "%s has pages of another mount, which never leave it; name a path on that one: "
			 "findmnt -t cowmem lists all", arg);
	free(mount);
	return -1;
}

bool is_empty(int fd)
{
	int again = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = again < 0 ? NULL : fdopendir(again);
	struct dirent *entry;
	int entries = 0;

	while (dir && (entry = readdir(dir)))
		entries++;
	if (dir)
		closedir(dir);
	else if (again >= 0)
		close(again);
	/* "." and ".." */
	return entries == 2;
}

/* On what was opened and seen to be empty: the path may lead elsewhere by now. */
static int mount_store(int dir)
{
	char *path = must_printf("/proc/self/fd/%d", dir);
	int err = mount("cowmem", path, "cowmem", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0755");

	free(path);
	if (!err)
		return 0;
	if (errno == ENODEV)
		return complain_errno(store_path());
	return complain_store(errno);
}

/* Whoever can open a directory can lock it for as long as he likes, so there is an end to waiting. */
static int lock_store(int dir)
{
	int tries;

	for (tries = 0; tries < 100; tries++) {
		if (!flock(dir, LOCK_EX | LOCK_NB))
			return 0;
		if (errno != EWOULDBLOCK)
			return complain_store(errno);
		usleep(50000);
	}
	return complain(store_path(), "the store cannot be made: somebody has locked it, see lslocks; try again");
}

/*
 * Under a lock of the directory, which goes when it is closed: of two that come at once, one mounts, and the other one
 * sees that.
 */
static int make_store(void)
{
	const char *path = store_path();
	bool made = !mkdir(path, 0755);
	int dir, again, err = 0;

	if (!made && errno != EEXIST)
		return complain_store(errno);
	dir = open_directory(path);
	if (dir < 0)
		return complain_store(errno);
	if (is_mount(dir))
		goto out;
	err = lock_store(dir);
	if (err)
		goto out;
	again = open_directory(path);
	/* Nobody's files are to be hidden by a mount. */
	if (again >= 0 && !is_mount(again))
		err = is_empty(again) ? mount_store(again) : complain_store(ENOTEMPTY);
	if (again >= 0)
		close(again);
	if (err && made)
		rmdir(path);
out:
	close(dir);
	return err;
}

int store_open(bool make)
{
	int dir = open_directory(store_path());

	if (dir >= 0 && is_mount(dir))
		return dir;
	if (dir >= 0)
		close(dir);
	else if (errno != ENOENT && !make)
		return -1;
	if (!make) {
		errno = ENOENT;
		return -1;
	}
	if (make_store())
		return -1;
	dir = open_directory(store_path());
	if (dir < 0)
		return complain(store_path(), "%s", strerror(errno));
	return dir;
}

int find_name(const char *arg)
{
	int dir;

	if (strchr(arg, '/') || !faccessat(AT_FDCWD, arg, F_OK, AT_SYMLINK_NOFOLLOW))
		return AT_FDCWD;
	dir = store_open(false);
	if (dir < 0 && errno != ENOENT)
		return complain(store_path(), "%s", strerror(errno));
	if (dir < 0)
		return complain_foreign(arg, "no such file here, and there is no store at %s yet, which cowctl snapshot makes",
					store_path());
	if (!faccessat(dir, arg, F_OK, AT_SYMLINK_NOFOLLOW) || errno != ENOENT)
		return dir;
	close(dir);
	return complain(arg, "no such file here, nor in the store at %s; see cowctl list", store_path());
}

/* ---- places ---- */

/* The path of an open file, or NULL; the caller frees it. It may have none any more, or one that only others see. */
static char *path_of_fd(int fd)
{
	char *link = must_printf("/proc/self/fd/%d", fd), path[PATH_MAX];
	ssize_t length = readlink(link, path, sizeof(path));

	free(link);
	return length < 0 || length == sizeof(path) ? NULL : must(strndup(path, length));
}

/* The directory that a file on a mount is in, or -1. */
static int directory_of(int fd)
{
	char *path = path_of_fd(fd);
	struct stat here, there;
	int dir;

	if (!path)
		return -1;
	dir = open_directory(dirname(path));
	free(path);
	if (dir >= 0 && is_mount(dir) && !fstat(fd, &here) && !fstat(dir, &there) && here.st_dev == there.st_dev)
		return dir;
	if (dir >= 0)
		close(dir);
	return -1;
}

/* Where a bare NAME goes: beside what it is made of, or into the store. */
static int directory_for(int source)
{
	int dir = source >= 0 ? directory_of(source) : -1;

	return dir >= 0 ? dir : store_open(true);
}

static int split_path(struct place *place, const char *new)
{
	char *copy = must(strdup(new)), *slash = strrchr(copy, '/');

	place->name = must(strdup(slash + 1));
	slash[slash == copy] = 0;
	place->dir = open_directory(copy);
	if (place->dir < 0)
		complain(copy, "%s", strerror(errno));
	free(copy);
	return place->dir < 0 ? -1 : 0;
}

/* What the user can say to get it again. */
static char *path_of(const struct place *place)
{
	char *dir = path_of_fd(place->dir), *path;

	if (!dir)
		return must(strdup(place->name));
	path = must_printf("%s/%s", strcmp(dir, "/") ? dir : "", place->name);
	free(dir);
	return path;
}

int complain_no_mount(const char *new)
{
	return complain_foreign(new, "not on a mount of type cowmem; a NAME without a slash goes into the store at %s",
				store_path());
}

/* Is what has the name a directory, be it by a link? *@mount tells whether it is on a mount: "/mnt/live" may be one. */
static bool is_directory(const struct place *place, bool *mount)
{
	int fd = openat(place->dir, *place->name ? place->name : ".", O_PATH | O_DIRECTORY | O_CLOEXEC);

	*mount = fd >= 0 && is_mount(fd);
	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

int place_check_name(const struct place *place, const char *new)
{
	bool mount;

	if (!*new)
		return complain(new, "not a name for something new");
	if (is_directory(place, &mount) && (mount || !place->on_mount))
		return complain(new, "it exists, and is a directory; name something new in it");
	if (!*place->name || !strcmp(place->name, ".") || !strcmp(place->name, ".."))
		return complain(new, "not a name for something new");
	if (strlen(place->name) > 255)
		return complain(new, "the name is longer than 255 bytes");
	if (place->on_mount && !is_mount(place->dir))
		return complain_no_mount(new);
	return 0;
}

static int complain_exists(const struct place *place)
{
	return complain(place->path, "it exists; remove it, or choose another name");
}

int place_is_free(const struct place *place)
{
	struct stat st;

	return fstatat(place->dir, place->name, &st, AT_SYMLINK_NOFOLLOW) ? 0 : complain_exists(place);
}

int place_keep_free(struct place *place)
{
	if (!place_is_free(place))
		return 0;
	place_close(place);
	return -1;
}

int place_find(struct place *place, const char *new, int source)
{
	*place = (struct place) { .dir = -1, .on_mount = true };
	if (strchr(new, '/')) {
		if (split_path(place, new))
			goto fail;
	} else if (is_process_arg(new)) {
		complain(new, "that would be the name of a process; take another one, or a path");
		goto fail;
	} else {
		place->name = must(strdup(new));
		place->dir = directory_for(source);
		if (place->dir < 0)
			goto fail;
	}
	place->path = path_of(place);
	if (!place_check_name(place, new))
		return 0;
fail:
	place_close(place);
	return -1;
}

int place_open(struct place *place, const char *new, int source)
{
	return place_find(place, new, source) || place_keep_free(place) ? -1 : 0;
}

void place_close(struct place *place)
{
	if (place->dir >= 0)
		close(place->dir);
	free(place->name);
	free(place->path);
	*place = (struct place) { .dir = -1 };
}

int complain_place(const struct place *place)
{
	if (errno == EEXIST)
		return complain_exists(place);
	if (errno == EACCES || errno == EPERM)
		return complain(place->path, "no right to make files there; name another place, or set COWMEM_STORE");
	return complain_errno(place->path);
}

int place_file(const struct place *place)
{
	int fd = openat(place->dir, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd < 0)
		complain_place(place);
	return fd;
}

int link_file(int fd, int dir, const char *name)
{
	char *link = must_printf("/proc/self/fd/%d", fd);
	int err = linkat(AT_FDCWD, link, dir, name, AT_SYMLINK_FOLLOW);

	free(link);
	return err;
}

int place_link(const struct place *place, int fd)
{
	return link_file(fd, place->dir, place->name) ? complain_place(place) : 0;
}
