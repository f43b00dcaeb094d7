// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Regions of other processes
 *
 * What tells that a descriptor is a region's is a line of /proc/PID/fdinfo/FD. A mapping has none: it is known by the
 * number of its file system, which is that of a mount of ours, or of the one that regions without a path live on.
 * And what is mapped through a descriptor of the device shows the device's number and inode, whichever region it is.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "internal.h"

/* A file that is mapped, and how much of it. */
struct mapping {
	uint64_t dev, ino;
	uint64_t addr;		/* of the first mapping */
	uint64_t bytes;
	char *name;
	bool told;		/* it has a descriptor, and was reported with that */
};

/* A descriptor that is a region's. */
struct descriptor {
	int fd;
	uint64_t dev, ino;
	bool device;		/* of the device: no regular file */
	char *name;
};

struct search {
	int proc;		/* /proc/PID: of this process, whoever gets its number later */
	pid_t pid;
	struct mapping *maps;
	size_t nr_maps;
	struct descriptor *fds;
	size_t nr_fds;
	bool one_device;	/* see one_of_device() */
	uint64_t *devs;		/* file systems of ours */
	size_t nr_devs;
	uint64_t nameless;	/* that of regions without a path, 0 if it is not known */
};

/* Room for one more in an array of @nr; or NULL, and @array is as it was. */
static void *grow(void *array, size_t nr, size_t size)
{
	/* Doubled at each power of two. */
	if (nr & (nr - 1))
		return array;
	return reallocarray(array, nr ? 2 * nr : 1, size);
}

static bool gone(int error)
{
	return error == ENOENT || error == ESRCH;
}

/* A file of /proc/PID to read from. */
static FILE *open_file(const struct search *s, const char *name)
{
	int fd = openat(s->proc, name, O_RDONLY | O_CLOEXEC);
	FILE *file;

	if (fd == -1)
		return NULL;
	file = fdopen(fd, "r");
	if (!file)
		cowmem_int_close(fd);
	return file;
}

/*
 * The end of reading it by getline() to @line, with @ret of what was done with the lines. That it cannot be read any
 * further is an error, unless the process has ended: then it has no more.
 */
static int close_file(FILE *file, char *line, int ret)
{
	int error = errno;

	if (!ret && !feof(file) && !gone(error))
		ret = -1;
	free(line);
	fclose(file);
	errno = error;
	return ret;
}

/* ---- file systems of ours ---- */

static int add_dev(struct search *s, uint64_t dev)
{
	uint64_t *devs;
	size_t i;

	for (i = 0; i < s->nr_devs; i++)
		if (s->devs[i] == dev)
			return 0;
	devs = grow(s->devs, s->nr_devs, sizeof(*devs));
	if (!devs)
		return -1;
	s->devs = devs;
	s->devs[s->nr_devs++] = dev;
	return 0;
}

static bool is_ours(const struct search *s, uint64_t dev)
{
	size_t i;

	for (i = 0; i < s->nr_devs; i++)
		if (s->devs[i] == dev)
			return true;
	return false;
}

/* The file system of regions without a path. 0 if we may not know, because we may not open the device. */
static uint64_t nameless_dev(void)
{
	int fd = cowmem_create(NULL, 0, 0);
	struct stat st = { 0 };

	if (fd == -1)
		return 0;
	fstat(fd, &st);
	close(fd);
	return st.st_dev;
}

/* The mounts of type cowmem that the process sees. A line: ID PARENT MAJOR:MINOR ROOT DIR OPTIONS... - TYPE ... */
static int find_mounts(struct search *s)
{
	FILE *file = open_file(s, "mountinfo");
	unsigned int major, minor;
	char *line = NULL;
	size_t size = 0;
	int ret = 0;

	if (!file)
		return gone(errno) || errno == EACCES || errno == EINVAL ? 0 : -1;
	while (!ret && getline(&line, &size, file) > 0)
		if (strstr(line, " - cowmem ") && sscanf(line, "%*d %*d %u:%u", &major, &minor) == 2)
			ret = add_dev(s, makedev(major, minor));
	return close_file(file, line, ret);
}

/* ---- mappings ---- */

/* One line of /proc/PID/maps, START-END PERMS OFFSET MAJOR:MINOR INODE NAME, whose newline is gone. */
static bool parse_map(char *line, struct mapping *map)
{
	unsigned int major, minor;
	uint64_t end;
	int at = 0;

	if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %*s %*x %x:%x %" SCNu64 " %n", &map->addr, &end, &major, &minor,
		   &map->ino, &at) != 5 || !at)
		return false;
	map->dev = makedev(major, minor);
	map->bytes = end - map->addr;
	map->name = line + at;
	return map->ino;
}

static int add_map(struct search *s, const struct mapping *map)
{
	struct mapping *maps;
	size_t i;

	for (i = 0; i < s->nr_maps; i++)
		if (s->maps[i].dev == map->dev && s->maps[i].ino == map->ino) {
			s->maps[i].bytes += map->bytes;
			return 0;
		}
	maps = grow(s->maps, s->nr_maps, sizeof(*maps));
	if (!maps)
		return -1;
	s->maps = maps;
	maps[s->nr_maps] = *map;
	maps[s->nr_maps].told = false;
	maps[s->nr_maps].name = strdup(map->name);
	return maps[s->nr_maps].name ? (s->nr_maps++, 0) : -1;
}

static int read_maps(struct search *s)
{
	FILE *file = open_file(s, "maps");
	struct mapping map;
	char *line = NULL;
	size_t size = 0;
	ssize_t length;
	int ret = 0;

	/* It has ended since then, or is another program, of somebody else: what was found was its own. */
	if (!file)
		return s->nr_fds && (gone(errno) || errno == EACCES || errno == EPERM) ? 0 : -1;
	while (!ret && (length = getline(&line, &size, file)) > 0) {
		line[length - 1] = '\0';
		if (parse_map(line, &map))
			ret = add_map(s, &map);
	}
	return close_file(file, line, ret);
}

/* ---- descriptors ---- */

/* The number of the region that a descriptor is of, 0 if it is none's or has been closed. */
static uint64_t region_number(const struct search *s, const char *fd)
{
	char name[sizeof("fdinfo/") + NAME_MAX];
	uint64_t number = 0;
	char line[256];
	FILE *file;

	snprintf(name, sizeof(name), "fdinfo/%s", fd);
	file = open_file(s, name);
	if (!file)
		return 0;
	while (!number && fgets(line, sizeof(line), file))
		if (sscanf(line, "cowmem-region:%" SCNu64, &number) != 1)
			number = 0;
	fclose(file);
	return number;
}

/*
 * What a descriptor or a mapping is of. No server is asked, be it on a network or in user space: one that is dead would
 * never answer.
 */
static int stat_link(int dir, const char *name, struct stat *st)
{
	struct statx stx;

	if (statx(dir, name, AT_STATX_DONT_SYNC, STATX_TYPE, &stx))
		return -1;
	st->st_mode = stx.stx_mode;
	st->st_dev = makedev(stx.stx_dev_major, stx.stx_dev_minor);
	return 0;
}

/* Note it, if it is a region's. */
static int look_at(struct search *s, int dir, const char *name)
{
	struct descriptor *fds, found = { .fd = atoi(name) };
	char target[PATH_MAX];
	ssize_t length;
	struct stat st;

	/* Most descriptors are no files', and to read fdinfo of some takes time. */
	if (stat_link(dir, name, &st) || !(S_ISREG(st.st_mode) || S_ISCHR(st.st_mode)))
		return 0;
	found.ino = region_number(s, name);
	if (!found.ino)
		return 0;
	found.device = S_ISCHR(st.st_mode);
	found.dev = found.device ? s->nameless : st.st_dev;
	if (!found.device && add_dev(s, found.dev))
		return -1;
	length = readlinkat(dir, name, target, sizeof(target));
	if (length == -1)
		return 0;
	fds = grow(s->fds, s->nr_fds, sizeof(*fds));
	if (!fds)
		return -1;
	s->fds = fds;
	found.name = strndup(target, length);
	if (!found.name)
		return -1;
	fds[s->nr_fds++] = found;
	return 0;
}

static int read_fds(struct search *s)
{
	int fd = openat(s->proc, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC), ret = 0;
	struct dirent *entry;
	DIR *dir;

	if (fd == -1)
		return -1;
	dir = fdopendir(fd);
	if (!dir) {
		cowmem_int_close(fd);
		return -1;
	}
	while (!ret && (errno = 0, entry = readdir(dir)))
		if (isdigit((unsigned char)entry->d_name[0]))
			ret = look_at(s, fd, entry->d_name);
	if (!ret && errno)
		ret = -1;
	fd = errno;
	closedir(dir);
	errno = fd;
	return ret;
}

/* ---- both together ---- */

/* Do all descriptors of the device belong to one region? Then what is mapped through such a descriptor is that, too. */
static bool one_of_device(const struct search *s)
{
	const struct descriptor *first = NULL;
	size_t i;

	for (i = 0; i < s->nr_fds; i++) {
		if (!s->fds[i].device)
			continue;
		if (first && first->ino != s->fds[i].ino)
			return false;
		first = &s->fds[i];
	}
	return first;
}

static bool is_device(const struct mapping *map)
{
	return !strcmp(map->name, DEVICE);
}

/* What may not be known by the number of its file system has a name that no other file has. */
static bool is_named_so(const struct mapping *map)
{
	static const char start[] = "/cowmem:", end[] = " (deleted)";
	size_t length = strlen(map->name);

	return !major(map->dev) && length > strlen(end) && !strncmp(map->name, start, strlen(start)) &&
	       !strcmp(map->name + length - strlen(end), end);
}

/* Is it of the region of a descriptor? Files of other file systems may have the same number. */
static bool is_of(const struct mapping *map, const struct descriptor *fd)
{
	return map->ino == fd->ino && (fd->dev ? map->dev == fd->dev : is_named_so(map));
}

/* What is mapped of the region of a descriptor. @addr is of one of the mappings. */
static uint64_t mapped(struct search *s, const struct descriptor *fd, uint64_t *addr)
{
	bool device = fd->device && s->one_device;
	uint64_t bytes = 0;
	size_t i;

	*addr = 0;
	for (i = 0; i < s->nr_maps; i++) {
		struct mapping *map = &s->maps[i];

		if (is_device(map) ? !device : !is_of(map, fd))
			continue;
		map->told = true;
		bytes += map->bytes;
		*addr = map->addr;
	}
	return bytes;
}

static int tell_of_fds(struct search *s, cowmem_found_fn fn, void *arg)
{
	size_t i;
	int ret;

	s->one_device = one_of_device(s);
	for (i = 0; i < s->nr_fds; i++) {
		struct descriptor *fd = &s->fds[i];
		struct cowmem_found found = {
			.pid = s->pid,
			.fd = fd->fd,
			.dev = fd->dev,
			.ino = fd->ino,
			.name = fd->name,
		};

		found.mapped = mapped(s, fd, &found.addr);
		ret = fn(&found, arg);
		if (ret)
			return ret;
	}
	return 0;
}

/* Those that do not show their number belong to one of the descriptors, if there is any of the device. */
static bool belongs_to_fd(const struct search *s, const struct mapping *map)
{
	size_t i;

	for (i = 0; is_device(map) && i < s->nr_fds; i++)
		if (s->fds[i].device)
			return true;
	return map->told;
}

static bool is_region(const struct search *s, const struct mapping *map)
{
	return is_device(map) || is_ours(s, map->dev) || is_named_so(map);
}

static int tell_of_maps(struct search *s, cowmem_found_fn fn, void *arg)
{
	size_t i;
	int ret;

	for (i = 0; i < s->nr_maps; i++) {
		struct mapping *map = &s->maps[i];
		struct cowmem_found found = {
			.pid = s->pid,
			.fd = -1,
			.dev = is_device(map) ? 0 : map->dev,
			.ino = is_device(map) ? 0 : map->ino,
			.mapped = map->bytes,
			.addr = map->addr,
			.name = map->name,
		};

		if (belongs_to_fd(s, map) || !is_region(s, map))
			continue;
		ret = fn(&found, arg);
		if (ret)
			return ret;
	}
	return 0;
}

/* /proc/PID, which stays that of this process. 0 is our own, whose number may be another one in there. */
static int open_proc(pid_t pid)
{
	char path[sizeof("/proc/") + 3 * sizeof(pid_t)] = "/proc/self";
	int fd;

	if (pid)
		snprintf(path, sizeof(path), "/proc/%d", (int)pid);
	fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd == -1 && gone(errno))
		errno = ESRCH;
	return fd;
}

static void free_search(struct search *s)
{
	int saved = errno;
	size_t i;

	for (i = 0; i < s->nr_maps; i++)
		free(s->maps[i].name);
	free(s->maps);
	for (i = 0; i < s->nr_fds; i++)
		free(s->fds[i].name);
	free(s->fds);
	free(s->devs);
	close(s->proc);
	errno = saved;
}

int cowmem_find(pid_t pid, cowmem_found_fn fn, void *arg)
{
	struct search s = { .pid = pid ? pid : getpid() };
	int ret;

	s.proc = open_proc(pid);
	if (s.proc == -1)
		return -1;
	s.nameless = nameless_dev();
	ret = (s.nameless && add_dev(&s, s.nameless)) || read_fds(&s) || read_maps(&s) || find_mounts(&s) ? -1 : 0;
	if (ret && gone(errno))
		errno = ESRCH;
	if (!ret)
		ret = tell_of_fds(&s, fn, arg);
	if (!ret)
		ret = tell_of_maps(&s, fn, arg);
	free_search(&s);
	return ret;
}

/* ---- taking them ---- */

int cowmem_take(pid_t pid, int fd)
{
	int pidfd = syscall(SYS_pidfd_open, pid ? pid : getpid(), 0), taken;

	if (pidfd == -1) {
		/* That of a thread which is not the first of its process is EINVAL. */
		if (errno == EINVAL || errno == ENOENT)
			errno = ESRCH;
		return -1;
	}
	taken = syscall(SYS_pidfd_getfd, pidfd, fd, 0);
	cowmem_int_close(pidfd);
	return cowmem_int_file(taken);
}

/* The name in map_files of the mapping of an address. */
static int find_map(const struct search *s, uint64_t addr, char *name, size_t size)
{
	FILE *file = open_file(s, "maps");
	uint64_t start, end;
	char *line = NULL;
	size_t room = 0;
	int found = 0;

	if (!file) {
		if (gone(errno))
			errno = ESRCH;
		return -1;
	}
	while (!found && getline(&line, &room, file) > 0)
		found = sscanf(line, "%" SCNx64 "-%" SCNx64, &start, &end) == 2 && start <= addr && addr < end;
	found = close_file(file, line, found);
	if (!found)
		errno = ENOENT;
	if (found <= 0)
		return -1;
	snprintf(name, size, "map_files/%" PRIx64 "-%" PRIx64, start, end);
	return 0;
}

/* Open what is mapped. */
static int open_map(const struct search *s, const char *name, int flags)
{
	struct stat st;
	int fd;

	if (stat_link(s->proc, name, &st))
		return -1;
	/* Whoever opens the device gets another region. */
	if (S_ISCHR(st.st_mode)) {
		errno = ENXIO;
		return -1;
	}
	if (!S_ISREG(st.st_mode)) {
		errno = ENOTTY;
		return -1;
	}
	fd = openat(s->proc, name, flags | O_CLOEXEC | O_NONBLOCK);
	/* The device may have been mapped there meanwhile. */
	if (fd != -1 && !fstat(fd, &st) && S_ISCHR(st.st_mode)) {
		close(fd);
		errno = ENXIO;
		return -1;
	}
	return cowmem_int_file(fd);
}

int cowmem_take_mapped(pid_t pid, uint64_t addr, unsigned int flags)
{
	char name[sizeof("map_files/") + 2 * 17];
	struct search s = { .pid = pid ? pid : getpid() };
	int fd;

	if (flags & ~COWMEM_FILE_RDONLY) {
		errno = EINVAL;
		return -1;
	}
	s.proc = open_proc(pid);
	if (s.proc == -1)
		return -1;
	fd = find_map(&s, addr, name, sizeof(name));
	if (!fd)
		fd = open_map(&s, name, flags ? O_RDONLY : O_RDWR);
	cowmem_int_close(s.proc);
	return fd;
}
