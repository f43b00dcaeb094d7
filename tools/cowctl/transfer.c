// SPDX-License-Identifier: GPL-2.0-only
/*
 * Bytes between files
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "transfer.h"

static const char zeroes[65536];

/*
 * May a call be made again that ended with this errno? Others may have made our pipe or socket one that does not wait,
 * so we do.
 */
static bool again(int fd, short events)
{
	struct pollfd p = { .fd = fd, .events = events };

	if (errno != EAGAIN)
		return errno == EINTR;
	return poll(&p, 1, -1) >= 0 || errno == EINTR;
}

/* As read_whole() and pread_whole(), at *@offset or, if that is NULL, where the file stands. */
static ssize_t read_all(int fd, void *buffer, size_t length, const uint64_t *offset)
{
	size_t done = 0;
	ssize_t n;

	while (done < length) {
		char *at = (char *)buffer + done;

		n = offset ? pread(fd, at, length - done, *offset + done) : read(fd, at, length - done);
		if (n < 0 && again(fd, POLLIN))
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
		if (n < 0 && again(fd, POLLOUT))
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

static int pwrite_zeroes(int fd, uint64_t offset, uint64_t length, struct progress *p)
{
	size_t n;

	for (; length; length -= n, offset += n) {
		n = length < sizeof(zeroes) ? length : sizeof(zeroes);
		if (pwrite_whole(fd, zeroes, n, offset))
			return -1;
		progress_show(p, offset);
	}
	return 0;
}

int make_hole(int fd, uint64_t offset, uint64_t length, struct progress *p)
{
	uint64_t end = offset + length;
	int ret;

	if (!fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length))
		return 0;
	if (errno != EOPNOTSUPP)
		return -1;
	/* What is a hole is zero, if the file system can tell; a terabyte of zeroes is not written for nothing. */
	for (;;) {
		ret = next_data(fd, end, &offset, &length);
		if (ret <= 0)
			return ret;
		if (pwrite_zeroes(fd, offset, length, p))
			return -1;
		offset += length;
	}
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

void expect_errors(void)
{
	signal(SIGPIPE, SIG_IGN);
}

bool is_file_path(const char *path)
{
	struct stat st;

	return stat(path, &st) || S_ISREG(st.st_mode) || S_ISDIR(st.st_mode);
}

/* Takes @fd over, if it is one. */
static int no_terminal(int fd, const char *what, const char *why)
{
	if (fd < 0)
		return complain(what, "%s", strerror(errno));
	if (!isatty(fd))
		return fd;
	close(fd);
	return complain(what, "%s; name a file, or use a pipe", why);
}

int open_output(const char *path)
{
	int fd = path ? open(path, O_WRONLY | O_NOCTTY | O_CLOEXEC) : fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 0);
	struct stat st;

	/* It was none when is_file_path() looked. */
	if (path && fd >= 0 && (fstat(fd, &st) || S_ISREG(st.st_mode))) {
		close(fd);
		return complain(path, "it was replaced by a file just now; that is left as it is");
	}
	return no_terminal(fd, path ? path : "standard output", "bytes of a region are nothing for a terminal");
}

int open_input(const char *path)
{
	int fd = path ? open(path, O_RDONLY | O_NOCTTY | O_CLOEXEC) : fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0);

	const char *name = path ? path : "standard input";
	struct stat st;

	/* Else that is found out by reading, when something new has begun. */
	if (fd >= 0 && !fstat(fd, &st) && S_ISDIR(st.st_mode)) {
		close(fd);
		return complain(name, "it is a directory; name a file in it");
	}
	return no_terminal(fd, name, "it is a terminal");
}

static int place_of_path(struct place *place, const char *path)
{
	const char *slash = strrchr(path, '/');
	char *dir = slash ? must_printf("%.*s", slash == path ? 1 : (int)(slash - path), path) : must(strdup("."));

	place->name = must(strdup(slash ? slash + 1 : path));
	place->path = must(strdup(path));
	place->dir = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (place->dir < 0)
		complain(dir, "%s", strerror(errno));
	free(dir);
	if (place->dir < 0)
		return -1;
	return place_check_name(place, path);
}

int any_place(struct place *place, const char *arg, bool may_be_path)
{
	if (!strchr(arg, '/') && !may_be_path)
		return place_find(place, arg, -1);
	*place = (struct place) { .dir = -1 };
	if (!place_of_path(place, arg))
		return 0;
	place_close(place);
	return -1;
}

int new_place(struct place *place, const char *arg, bool may_be_path)
{
	return any_place(place, arg, may_be_path) || place_keep_free(place) ? -1 : 0;
}
