// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Regions: the device, and one call for each ioctl
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "internal.h"
#include "../../module/version.h"

const char *cowmem_version(void)
{
	return COWMEM_VERSION;
}

const char *cowmem_strerror(int error)
{
	const char *text;

	switch (error) {
	case ENODEV:
		return "the module cowmem is not loaded: modprobe cowmem";
	case EACCES:
		return "permission denied: the mode and owner of " DEVICE " or of the region do not allow it; "
		       "be root, or join the group cowmem: see cowctl doctor";
	case EINVAL:
		return "a size, range or flag does not fit: ranges are of whole pages and in the region, and a restore wants "
		       "equal sizes";
	case ENOTTY:
		return "this is not a region of cowmem";
	case EOPNOTSUPP:
		return "the module cowmem that is loaded is too old for this: install one as new as libcowmem";
	case ENOSPC:
		return "regions may hold no more memory: free some, or raise limit_mib or the size= of the mount";
	}
	text = strerrordesc_np(error);
	return text ? text : "unknown error";
}

/* ---- calls ---- */

int cowmem_is_region(int fd)
{
	/* No module knows all of these bits, so it is refused before anything is looked at. */
	struct cowmem_info info = { .flags = ~0U };
	int saved = errno;
	struct statfs fs;
	struct stat st;
	bool is;

	if (fstat(fd, &st))
		is = false;
	else if (S_ISREG(st.st_mode))
		is = !fstatfs(fd, &fs) && fs.f_type == COWMEM_SUPER_MAGIC;
	else	/* what a directory or socket says is chosen by somebody else */
		is = S_ISCHR(st.st_mode) && ioctl(fd, COWMEM_IOC_INFO, &info) && errno == EOPNOTSUPP;
	errno = saved;
	return is;
}

int cowmem_int_call(int fd, unsigned long cmd, void *arg)
{
	if (!ioctl(fd, cmd, arg))
		return 0;
	if (errno == EBADF)
		return -1;
	if (!cowmem_is_region(fd))
		errno = ENOTTY;
	else if (errno == ENOTTY || errno == E2BIG)
		errno = EOPNOTSUPP;	/* the module knows no such call, or no such field of its struct */
	return -1;
}

int cowmem_int_call_with(int fd, unsigned long cmd, void *arg, int other)
{
	if (!cowmem_int_call(fd, cmd, arg))
		return 0;
	if (errno == EBADF && fcntl(fd, F_GETFD) != -1 && fcntl(other, F_GETFD) != -1 &&
	    !cowmem_is_region(other))
		errno = ENOTTY;
	return -1;
}

void cowmem_int_close(int fd)
{
	int saved = errno;

	close(fd);
	errno = saved;
}

/* ---- the device ---- */

/* A new region, by a descriptor of the device; or -1 with ENODEV or EACCES where those are meant. */
static int open_device(void)
{
	int fd = open(DEVICE, O_RDWR | O_CLOEXEC | O_NOCTTY);

	if (fd == -1) {
		if (errno == ENOENT || errno == ENOTDIR || errno == ENXIO)
			errno = ENODEV;
		if (errno == EPERM)	/* the devices of a cgroup */
			errno = EACCES;
		return -1;
	}
	if (!cowmem_is_region(fd)) {
		close(fd);
		errno = ENODEV;
		return -1;
	}
	return fd;
}

int cowmem_features(uint64_t *features)
{
	struct cowmem_info info;
	int fd = open_device();
	int ret;

	if (fd == -1)
		return -1;
	ret = cowmem_get_info(fd, &info);
	cowmem_int_close(fd);
	if (!ret)
		*features = info.features;
	return ret;
}

int cowmem_create(const char *name, uint64_t size, unsigned int flags)
{
	int device, fd = -1;

	if ((flags & ~COWMEM_CREATE_HUGE) || (name && strlen(name) > COWMEM_FILE_NAME_MAX)) {
		errno = EINVAL;
		return -1;
	}
	device = open_device();
	if (device == -1)
		return -1;
	if (!cowmem_resize(device, size))
		fd = cowmem_reopen(device, name, flags);
	cowmem_int_close(device);
	return fd;
}

/* ---- regions ---- */

int cowmem_reopen(int fd, const char *name, unsigned int flags)
{
	struct cowmem_file file = { .flags = flags, .name = (uintptr_t)name };

	return cowmem_int_call(fd, COWMEM_IOC_FILE, &file) ? -1 : file.fd;
}

static bool is_file(int fd)
{
	struct stat st;

	return !fstat(fd, &st) && S_ISREG(st.st_mode) && cowmem_is_region(fd);
}

int cowmem_int_file(int fd)
{
	bool read_only;
	struct stat st;
	int file = -1;

	if (fd == -1)
		return -1;
	if (!cowmem_is_region(fd)) {
		errno = ENOTTY;
	} else if (!fstat(fd, &st)) {
		if (S_ISREG(st.st_mode))
			return fd;
		read_only = (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDONLY;
		errno = ENOTTY;
		file = cowmem_reopen(fd, NULL, read_only ? COWMEM_FILE_RDONLY : 0);
		/* The device of a program may name any descriptor: it is not ours to close. */
		if (file != -1 && !is_file(file)) {
			file = -1;
			errno = ENOTTY;
		}
	}
	cowmem_int_close(fd);
	return file;
}

int cowmem_clone_range(int fd, uint64_t offset, uint64_t length, unsigned int flags)
{
	struct cowmem_clone clone = { .flags = flags, .offset = offset, .length = length };

	return cowmem_int_call(fd, COWMEM_IOC_CLONE, &clone) ? -1 : clone.fd;
}

int cowmem_clone(int fd, unsigned int flags)
{
	return cowmem_clone_range(fd, 0, 0, flags);
}

int cowmem_snapshot(int fd)
{
	return cowmem_clone(fd, COWMEM_CLONE_SNAPSHOT);
}

int cowmem_clone_many(const int *fds, int *clones, size_t count, unsigned int flags)
{
	struct cowmem_clone_many many = {
		.fds = (uintptr_t)fds,
		.clones = (uintptr_t)clones,
		.count = count,
		.flags = flags,
	};
	size_t i;

	if (!count || count > COWMEM_CLONE_MANY_MAX) {
		errno = EINVAL;
		return -1;
	}
	if (!cowmem_int_call(fds[0], COWMEM_IOC_CLONE_MANY, &many))
		return 0;
	for (i = 1; errno == EBADF && i < count; i++)
		if (fcntl(fds[i], F_GETFD) == -1)
			break;
		else if (!cowmem_is_region(fds[i]))
			errno = ENOTTY;
	return -1;
}

static int restore(int fd, struct cowmem_restore *args, uint64_t *pages)
{
	if (cowmem_int_call_with(fd, COWMEM_IOC_RESTORE, args, args->fd))
		return -1;
	if (pages)
		*pages = args->pages;
	return 0;
}

int cowmem_restore(int fd, int from, unsigned int flags, uint64_t *pages)
{
	struct cowmem_restore args = { .fd = from, .flags = flags };

	return restore(fd, &args, pages);
}

int cowmem_restore_range(int fd, int from, uint64_t offset, uint64_t length, uint64_t *pages)
{
	struct cowmem_restore args = { .fd = from, .offset = offset, .length = length };

	/* To the module, no length at offset 0 is everything: nobody who asked for nothing means that. */
	if (!length) {
		errno = EINVAL;
		return -1;
	}
	return restore(fd, &args, pages);
}

int cowmem_resize(int fd, uint64_t size)
{
	struct cowmem_resize args = { .size = size };

	return cowmem_int_call(fd, COWMEM_IOC_RESIZE, &args);
}

int cowmem_discard(int fd, uint64_t offset, uint64_t length)
{
	struct cowmem_discard args = { .offset = offset, .length = length };

	return cowmem_int_call(fd, COWMEM_IOC_DISCARD, &args);
}

int cowmem_copy(int to, uint64_t to_offset, int from, uint64_t from_offset, uint64_t length)
{
	struct cowmem_copy args = {
		.fd = from,
		.src_offset = from_offset,
		.dst_offset = to_offset,
		.length = length,
	};

	return cowmem_int_call_with(to, COWMEM_IOC_COPY, &args, from);
}

int cowmem_seal(int fd, unsigned int seals)
{
	struct cowmem_seal args = { .seals = seals };

	return cowmem_int_call(fd, COWMEM_IOC_SEAL, &args);
}

/*
 * Programs have room for the struct that they were compiled with. If it grows, this symbol goes on to write what it
 * wrote in its version, LIBCOWMEM_1.0, and a new version of it writes all: see ".symver" of the assembler.
 */
_Static_assert(sizeof(struct cowmem_info) == 80, "cowmem_get_info@LIBCOWMEM_1.0 writes 80 bytes");

int cowmem_get_info(int fd, struct cowmem_info *info)
{
	/* What the module does not know it does not touch. */
	struct cowmem_info args = { 0 };

	if (cowmem_int_call(fd, COWMEM_IOC_INFO, &args))
		return -1;
	*info = args;
	return 0;
}
