// SPDX-License-Identifier: GPL-2.0-only
/*
 * A process that has regions, and does what it is told, line by line on its stdin. It answers each line with one.
 *
 *	region NAME SIZE	a new region; says its descriptor. NAME is %NN for any byte
 *	device SIZE		likewise, mapped through the device itself
 *	open PATH		a file on a mount, to read and write
 *	lock PATH		of a directory, a shared lock
 *	snapshot FD		of a region; says its descriptor
 *	view FD			of a region, which shows it and never writes it; says its descriptor
 *	dup FD			says the new one
 *	map FD			map all of it; says the address
 *	fill FD OFFSET LENGTH BYTE	by write()
 *	store FD OFFSET BYTE	through the mapping
 *	byte FD OFFSET		says the byte, as a number
 *	close FD
 *	name NAME		of this process
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libcowmem.h"

static char *mapped[1024];

/* A space or a newline cannot be written in a line, so %20 is one. */
static void decode(char *s)
{
	char *to = s;

	for (; *s; s++) {
		unsigned int byte = (unsigned char)*s;

		if (*s == '%' && sscanf(s + 1, "%2x", &byte) == 1)
			s += 2;
		*to++ = (char)byte;
	}
	*to = 0;
}

static long long map(int fd, size_t size)
{
	int mode = fcntl(fd, F_GETFL) & O_ACCMODE;

	if (!size) {
		struct stat st;

		if (fstat(fd, &st))
			return -1;
		size = (size_t)st.st_size;
	}
	mapped[fd] = mmap(NULL, size, mode == O_RDONLY ? PROT_READ : PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	return mapped[fd] == MAP_FAILED ? -1 : (long long)(long)mapped[fd];
}

static long long open_device(size_t size)
{
	int fd = open("/dev/cowmem", O_RDWR | O_CLOEXEC);

	return fd < 0 || map(fd, size) < 0 ? -1 : fd;
}

static long long fill(int fd, unsigned long long offset, size_t length, int byte)
{
	char *data = malloc(length);
	ssize_t n;

	if (!data)
		return -1;
	memset(data, byte, length);
	n = pwrite(fd, data, length, (off_t)offset);
	free(data);
	return n == (ssize_t)length ? 0 : -1;
}

static long long byte_at(int fd, unsigned long long offset)
{
	unsigned char byte;

	return pread(fd, &byte, 1, (off_t)offset) == 1 ? byte : -1;
}

static long long store(int fd, unsigned long long offset, int byte)
{
	if (!mapped[fd])
		return -1;
	mapped[fd][offset] = (char)byte;
	return 0;
}

static long long obey(char *line)
{
	unsigned long long a = 0, b = 0;
	char word[16] = "", text[600] = "";
	int fd = 0, byte = 0;

	if (sscanf(line, "%15s %599s", word, text) < 1)
		return -1;
	/* As many numbers as there are. */
	if (sscanf(line, "%*s %d %llu %llu %d", &fd, &a, &b, &byte) < 0)
		fd = 0;
	decode(text);
	if (!strcmp(word, "region"))
		return sscanf(line, "%*s %*s %llu", &a) == 1 ? cowmem_create(text, a, 0) : -1;
	if (!strcmp(word, "device"))
		return open_device(strtoull(text, NULL, 10));
	if (fd < 0 || fd >= 1024)
		return -1;
	if (!strcmp(word, "open"))
		return open(text, O_RDWR | O_CLOEXEC);
	if (!strcmp(word, "lock"))
		return flock(open(text, O_RDONLY | O_CLOEXEC), LOCK_SH);
	if (!strcmp(word, "snapshot"))
		return cowmem_snapshot(fd);
	if (!strcmp(word, "view"))
		return cowmem_reopen(fd, NULL, COWMEM_FILE_VIEW);
	if (!strcmp(word, "dup"))
		return dup(fd);
	if (!strcmp(word, "map"))
		return map(fd, 0);
	if (!strcmp(word, "fill"))
		return fill(fd, a, b, byte);
	if (!strcmp(word, "store"))
		return store(fd, a, (int)b);
	if (!strcmp(word, "byte"))
		return byte_at(fd, a);
	if (!strcmp(word, "close"))
		return close(fd);
	if (!strcmp(word, "name"))
		return prctl(PR_SET_NAME, text);
	errno = ENOSYS;
	return -1;
}

int main(void)
{
	char line[700];

	setvbuf(stdout, NULL, _IOLBF, 0);
	while (fgets(line, sizeof(line), stdin)) {
		long long answer = obey(line);

		if (answer == -1)
			printf("failed %s\n", strerror(errno));
		else
			printf("%lld\n", answer);
	}
	return 0;
}
