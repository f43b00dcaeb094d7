// SPDX-License-Identifier: GPL-2.0-only
/*
 * REGION arguments: paths, names in the store, and regions of processes
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cowctl.h"

bool is_process_arg(const char *arg)
{
	size_t n = strspn(arg, "0123456789");

	if (!n)
		return false;
	if (!arg[n])
		return true;
	if (arg[n] != ':' || !arg[n + 1])
		return false;
	arg += n + 1;
	if (!strncmp(arg, "0x", 2) && arg[2])
		return !arg[2 + strspn(arg + 2, "0123456789abcdefABCDEF")];
	return !arg[strspn(arg, "0123456789")];
}

int complain_region(const struct region *region)
{
	if (errno == EIO)
		return complain(region->arg, "its memory was taken back, as of a snapshot made with --expendable, or is broken");
	if (errno == EPERM)
		return complain(region->arg, "it is sealed against that, as a snapshot is: see cowctl info; a clone of it has no seals");
	if (errno == EXDEV)
		return complain(region->arg, "the pages of a mount never leave it: use regions of one mount");
	return complain_errno(region->arg);
}

/* ---- by path ---- */

int complain_no_region(const char *arg)
{
	return complain_foreign(arg, "not a region: those are files on a mount of type cowmem; see cowctl list");
}

/* What is there is none. Of a directory, as a snapshot of one is, its files may be. */
static int complain_path(const char *arg, int dir, const char *path)
{
	int fd = openat(dir, path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	bool is = fd >= 0 && is_mount(fd);

	if (fd >= 0)
		close(fd);
	if (is)
		return complain(arg, "not a region, but a directory: name one of the files in it");
	return complain_no_region(arg);
}

static int open_path(struct region *region, int dir, const char *path, int mode)
{
	/* Whatever it is, do not wait for it: a FIFO would. */
	region->fd = openat(dir, path, mode | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (region->fd >= 0 && cowmem_is_region(region->fd))
		return 0;
	if (region->fd >= 0 || errno == EISDIR || errno == ENXIO) {
		region_close(region);
		return complain_path(region->arg, dir, path);
	}
	if (errno == EPERM)
		return complain_region(region);
	return complain(region->arg, "%s", strerror(errno));
}

static int open_name(struct region *region, int mode)
{
	int dir = find_name(region->arg), err;

	if (dir == -1)
		return -1;
	err = open_path(region, dir, region->arg, mode);
	if (dir >= 0)
		close(dir);
	return err;
}

/* ---- of a process ---- */

/* The regions that a process has, each once. */
struct candidates {
	size_t count;
	struct candidate {
		int *fds;
		size_t nr_fds;	/* 0: only mapped, at @addr */
		uint64_t addr;
		uint64_t dev;
		uint64_t ino;
		char *name;
	} *list;
};

static struct candidate *candidate_of(struct candidates *all, const struct cowmem_found *found)
{
	size_t i;

	for (i = 0; i < all->count; i++)
		if (all->list[i].dev == found->dev && all->list[i].ino == found->ino)
			return &all->list[i];
	all->list = must(reallocarray(all->list, all->count + 1, sizeof(*all->list)));
	all->list[all->count] = (struct candidate) {
		.addr = found->addr, .dev = found->dev, .ino = found->ino, .name = must(strdup(found->name)),
	};
	return &all->list[all->count++];
}

static int add_candidate(const struct cowmem_found *found, void *arg)
{
	struct candidate *c = candidate_of(arg, found);

	if (found->fd >= 0) {
		c->fds = must(reallocarray(c->fds, c->nr_fds + 1, sizeof(*c->fds)));
		c->fds[c->nr_fds++] = found->fd;
	}
	return 0;
}

static void free_candidates(struct candidates *all)
{
	while (all->count) {
		free(all->list[--all->count].name);
		free(all->list[all->count].fds);
	}
	free(all->list);
}

int complain_process(const char *arg, pid_t pid)
{
	switch (errno) {
	case ESRCH:
		return complain(arg, "no process %d", (int)pid);
	case EPERM:
	case EACCES:
		return complain(arg, "process %d may not be looked into: be root, or its user", (int)pid);
	case EBADF:
		return complain(arg, "process %d has no such descriptor; see cowctl list %d", (int)pid, (int)pid);
	case ENOENT:
		return complain(arg, "process %d has nothing mapped there; see cowctl list %d", (int)pid, (int)pid);
	case ENXIO:
		return complain(arg, "mapped through the device, and the descriptor is closed: nobody can take that");
	case ENOTTY:
		return complain_foreign(arg, "not a region; see cowctl list %d", (int)pid);
	}
	return complain_errno(arg);
}

int complain_none(const char *arg, pid_t pid)
{
	return complain_foreign(arg, "process %d has no region; see cowctl list", (int)pid);
}

/* Of several nobody can know which is meant. */
static int complain_choice(const char *arg, pid_t pid, const struct candidates *all)
{
	char *list = must(strdup("")), *longer;
	size_t i;

	for (i = 0; i < all->count; i++) {
		if (all->list[i].nr_fds)
			longer = must_printf("%s%s%d:%d (%s)", list, i ? ", " : "", (int)pid, all->list[i].fds[0],
					     all->list[i].name);
		else
			longer = must_printf("%s%s%d:0x%llx (%s)", list, i ? ", " : "", (int)pid,
					     (unsigned long long)all->list[i].addr, all->list[i].name);
		free(list);
		list = longer;
	}
	complain(arg, "process %d has %zu regions; name one: %s", (int)pid, all->count, list);
	free(list);
	return -1;
}

static int take_mapped(struct region *region, pid_t pid, uint64_t at, int mode)
{
	region->fd = cowmem_take_mapped(pid, at, mode == O_RDONLY ? COWMEM_FILE_RDONLY : 0);
	return region->fd < 0 ? complain_process(region->arg, pid) : 0;
}

int open_again(int fd, int flags)
{
	char *link = must_printf("/proc/self/fd/%d", fd);

	fd = open(link, flags | O_CLOEXEC);
	free(link);
	return fd;
}

/* What the process has open for less than we need is opened once more, if mode and owner of the region allow it. */
static int want_mode(struct region *region, int mode)
{
	int have = fcntl(region->fd, F_GETFL) & O_ACCMODE, fd;

	if (have == O_RDWR || have == mode)
		return 0;
	fd = open_again(region->fd, mode);
	if (fd < 0)
		return -1;
	region_close(region);
	region->fd = fd;
	return 0;
}

/* A descriptor of a process, open for what we need. */
static int take_fd(struct region *region, pid_t pid, int fd, int mode)
{
	region->fd = cowmem_take(pid, fd);
	return region->fd < 0 ? -1 : want_mode(region, mode);
}

/* That is not to be had. */
static int complain_fd(struct region *region, pid_t pid)
{
	int have, error = errno;

	if (region->fd < 0)
		return complain_process(region->arg, pid);
	have = fcntl(region->fd, F_GETFL) & O_ACCMODE;
	region_close(region);
	errno = error;
	if (error == EPERM)
		return complain_region(region);
	return complain(region->arg,
			"the process has it open for %s only, and it is not for us to open it otherwise: %s",
			have == O_RDONLY ? "reading" : "writing", strerror(error));
}

/* Of several descriptors of a region some may do for less than we need: views, which never write, for one. */
static int take_any_fd(struct region *region, pid_t pid, const struct candidate *c, int mode)
{
	size_t i;

	for (i = 0; i < c->nr_fds; i++) {
		region_close(region);
		if (!take_fd(region, pid, c->fds[i], mode))
			return 0;
	}
	return complain_fd(region, pid);
}

/* The one region that a process has. */
static int take_only(struct region *region, pid_t pid, int mode)
{
	struct candidates all = { };
	int err;

	if (cowmem_find(pid, add_candidate, &all)) {
		err = complain_process(region->arg, pid);
	} else if (!all.count) {
		err = complain_none(region->arg, pid);
	} else if (all.count > 1) {
		err = complain_choice(region->arg, pid, &all);
	} else if (!all.list[0].nr_fds) {
		err = take_mapped(region, pid, all.list[0].addr, mode);
	} else {
		err = take_any_fd(region, pid, &all.list[0], mode);
	}
	free_candidates(&all);
	return err;
}

static int open_process(struct region *region, int mode)
{
	const char *colon = strchr(region->arg, ':');
	unsigned long pid, fd;

	errno = 0;
	pid = strtoul(region->arg, NULL, 10);
	if (errno || !pid || pid > INT32_MAX)
		return complain(region->arg, "no process has such a number");
	if (!colon)
		return take_only(region, (pid_t)pid, mode);
	if (!strncmp(colon, ":0x", 3))
		return take_mapped(region, (pid_t)pid, strtoull(colon + 1, NULL, 16), mode);
	fd = strtoul(colon + 1, NULL, 10);
	if (errno || fd > INT32_MAX)
		return complain(region->arg, "no descriptor has such a number");
	return take_fd(region, (pid_t)pid, (int)fd, mode) ? complain_fd(region, (pid_t)pid) : 0;
}

/* ---- */

int region_open(struct region *region, const char *arg, int mode)
{
	*region = (struct region) { .fd = -1, .arg = arg };
	if (!*arg)
		return complain(arg, "not the name of a region");
	return is_process_arg(arg) ? open_process(region, mode) : open_name(region, mode);
}

void region_close(struct region *region)
{
	if (region->fd >= 0)
		close(region->fd);
	region->fd = -1;
}
