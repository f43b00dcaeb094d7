// SPDX-License-Identifier: GPL-2.0-only
/*
 * Bytes between files
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "transfer.h"

static const char zeroes[65536];

/* As read_whole() and pread_whole(), at *@offset or, if that is NULL, where the file stands. */
static ssize_t read_all(int fd, void *buffer, size_t length, const uint64_t *offset)
{
	size_t done = 0;
	ssize_t n;

	while (done < length) {
		char *at = (char *)buffer + done;

		n = offset ? pread(fd, at, length - done, *offset + done) : read(fd, at, length - done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		if (!n)
			break;
		done += n;
	}
	return done;
}

ssize_t read_whole(int fd, void *buffer, size_t length)
{
	return read_all(fd, buffer, length, NULL);
}

ssize_t pread_whole(int fd, void *buffer, size_t length, uint64_t offset)
{
	return read_all(fd, buffer, length, &offset);
}

static int write_all(int fd, const void *data, size_t length, const uint64_t *offset)
{
	size_t done = 0;
	ssize_t n;

	while (done < length) {
		const char *at = (const char *)data + done;

		n = offset ? pwrite(fd, at, length - done, *offset + done) : write(fd, at, length - done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		done += n;
	}
	return 0;
}

int write_whole(int fd, const void *data, size_t length)
{
	return write_all(fd, data, length, NULL);
}

int pwrite_whole(int fd, const void *data, size_t length, uint64_t offset)
{
	return write_all(fd, data, length, &offset);
}

static int write_zeroes(int fd, uint64_t length)
{
	size_t n;

	for (; length; length -= n) {
		n = length < sizeof(zeroes) ? length : sizeof(zeroes);
		if (write_whole(fd, zeroes, n))
			return -1;
	}
	return 0;
}

int make_hole(int fd, uint64_t offset, uint64_t length)
{
	size_t n;

	if (!fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length))
		return 0;
	if (errno != EOPNOTSUPP)
		return -1;
	for (; length; length -= n, offset += n) {
		n = length < sizeof(zeroes) ? length : sizeof(zeroes);
		if (pwrite_whole(fd, zeroes, n, offset))
			return -1;
	}
	return 0;
}

int next_data(int fd, uint64_t size, uint64_t *offset, uint64_t *length)
{
	off_t data, hole;

	if (*offset >= size)
		return 0;
	data = lseek(fd, *offset, SEEK_DATA);
	if (data < 0 && errno == ENXIO)
		return 0;
	if (data < 0)
		return -1;
	if ((uint64_t)data >= size)
		return 0;
	hole = lseek(fd, data, SEEK_HOLE);
	if (hole < 0)
		return -1;
	*offset = data;
	*length = ((uint64_t)hole < size ? (uint64_t)hole : size) - data;
	return 1;
}

/* Calls @put for each chunk of a range of @from. */
static int copy_range(int from, uint64_t offset, uint64_t length, struct progress *p,
		      int (*put)(int to, const void *data, size_t length, uint64_t offset), int to, void *buffer)
{
	ssize_t n;

	while (length) {
		n = pread_whole(from, buffer, length < CHUNK ? length : CHUNK, offset);
		if (n < 0)
			return -1;
		if (!n) {
			/* It was cut off meanwhile. */
			errno = ENODATA;
			return -1;
		}
		if (put(to, buffer, n, offset))
			return -1;
		offset += n;
		length -= n;
		progress_show(p, offset);
	}
	return 0;
}

int copy_sparse(int from, int to, uint64_t size, struct progress *p)
{
	void *buffer = must(malloc(CHUNK));
	uint64_t offset = 0, length;
	int ret;

	if (ftruncate(to, size)) {
		free(buffer);
		return -1;
	}
	for (;;) {
		ret = next_data(from, size, &offset, &length);
		if (ret <= 0 || copy_range(from, offset, length, p, pwrite_whole, to, buffer))
			break;
		offset += length;
	}
	free(buffer);
	return ret ? -1 : 0;
}

static int put_in_order(int to, const void *data, size_t length, uint64_t offset)
{
	(void)offset;
	return write_whole(to, data, length);
}

int copy_all(int from, int to, uint64_t size, struct progress *p)
{
	void *buffer = must(malloc(CHUNK));
	uint64_t at = 0, offset = 0, length;
	int ret;

	for (;;) {
		ret = next_data(from, size, &offset, &length);
		if (ret <= 0)
			break;
		if (write_zeroes(to, offset - at) ||
		    copy_range(from, offset, length, p, put_in_order, to, buffer))
			break;
		at = offset += length;
	}
	free(buffer);
	if (ret)
		return -1;
	return write_zeroes(to, size - at);
}

/* ---- a region that is read ---- */

bool source_has_yielded(const struct source *source)
{
	int error = errno;
	struct cowmem_info info;
	bool yielded = !cowmem_get_info(source->fd, &info) && info.state & COWMEM_STATE_YIELDED;

	errno = error;
	return yielded;
}

int complain_source(const struct source *source)
{
	if (errno == EIO && source_has_yielded(source))
		return complain(source->region.arg, "the snapshot has yielded its memory; choose another one, or take one "
				"that does not");
	if (errno == EIO)
		return complain(source->region.arg, "a part of it is in broken memory, and can not be read");
	return complain_region(&source->region);
}

static int source_freeze(struct source *source)
{
	struct stat st;

	source->made = !is_frozen(source->region.fd);
	source->fd = source->made ? cowmem_snapshot(source->region.fd) : dup(source->region.fd);
	if (source->fd < 0)
		return -1;
	if (!fstat(source->fd, &st)) {
		source->size = st.st_size;
		return 0;
	}
	close(source->fd);
	return -1;
}

int source_open(struct source *source, const char *arg)
{
	if (region_open(&source->region, arg, O_RDONLY))
		return -1;
	if (!source_freeze(source))
		return 0;
	complain_source(source);
	region_close(&source->region);
	return -1;
}

void source_close(struct source *source)
{
	close(source->fd);
	region_close(&source->region);
}

/* ---- where bytes go to, or come from ---- */

int open_output(const char *path)
{
	struct stat st;
	int fd;

	if (!path) {
		if (!isatty(STDOUT_FILENO))
			return dup(STDOUT_FILENO);
		return complain("standard output", "bytes of a region are nothing for a terminal; "
				"name a file, or use a pipe");
	}
	/* A pipe or a device is opened as it is. */
	if (!stat(path, &st) && !S_ISREG(st.st_mode))
		fd = open(path, O_WRONLY | O_CLOEXEC);
	else
		fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 && errno == EEXIST)
		return complain(path, "it exists; remove it, or choose another name");
	return fd < 0 ? complain(path, "%s", strerror(errno)) : fd;
}

int open_input(const char *path)
{
	int fd;

	if (!path) {
		if (!isatty(STDIN_FILENO))
			return dup(STDIN_FILENO);
		return complain("standard input", "it is a terminal; name a file, or use a pipe");
	}
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? complain(path, "%s", strerror(errno)) : fd;
}

static int place_of_path(struct place *place, const char *path)
{
	const char *slash = strrchr(path, '/');
	char *dir = slash ? must_printf("%.*s", slash == path ? 1 : (int)(slash - path), path) : must(strdup("."));
	struct stat st;

	place->name = must(strdup(slash ? slash + 1 : path));
	place->path = must(strdup(path));
	place->dir = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (place->dir < 0)
		complain(dir, "%s", strerror(errno));
	free(dir);
	if (place->dir < 0)
		return -1;
	if (!*place->name || !strcmp(place->name, ".") || !strcmp(place->name, ".."))
		return complain(path, "not a name for something new");
	if (!fstatat(place->dir, place->name, &st, AT_SYMLINK_NOFOLLOW))
		return complain(path, "it exists; remove it, or choose another name");
	return 0;
}

int new_place(struct place *place, const char *arg, bool may_be_path)
{
	if (!strchr(arg, '/') && !may_be_path)
		return place_open(place, arg, -1);
	*place = (struct place) { .dir = -1 };
	if (!place_of_path(place, arg))
		return 0;
	place_close(place);
	return -1;
}
