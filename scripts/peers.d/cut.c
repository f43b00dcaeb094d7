// SPDX-License-Identifier: GPL-2.0-only
/*
 * Clone files of a cowmem mount at one instant, and give the clones names there.
 *
 * For files that come and go, as the journal of a database: they must have had their
 * names at that instant.  One that is not there yet is waited for, and what was cloned
 * when one was gone already is thrown away.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <linux/cowmem.h>

#define MAX	16
/* Seconds. */
#define PATIENCE	30

static int files[MAX], clones[MAX];

static void __attribute__((noreturn, format(printf, 1, 2))) end(const char *format, ...)
{
	int error = errno;
	va_list args;

	va_start(args, format);
	fputs("cut: ", stderr);
	vfprintf(stderr, format, args);
	fprintf(stderr, ": %s\n", strerror(error));
	va_end(args);
	exit(1);
}

static void close_all(int *fds, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++)
		close(fds[i]);
}

/* Open all that are to be cloned; false if one is not there. */
static bool open_all(char **names, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++) {
		files[i] = open(names[2 * i], O_RDONLY | O_CLOEXEC);
		if (files[i] >= 0)
			continue;
		if (errno != ENOENT)
			end("%s", names[2 * i]);
		close_all(files, i);
		return false;
	}
	return true;
}

/* A name that is gone does not come back: what has one now had one all the while. */
static bool all_have_names(unsigned int count)
{
	struct stat st;

	for (unsigned int i = 0; i < count; i++) {
		if (fstat(files[i], &st))
			end("fstat");
		if (!st.st_nlink)
			return false;
	}
	return true;
}

static void clone_all(unsigned int count)
{
	struct cowmem_clone_many many = {
		.fds = (uintptr_t)files,
		.clones = (uintptr_t)clones,
		.count = count,
	};

	if (ioctl(files[0], COWMEM_IOC_CLONE_MANY, &many))
		end("COWMEM_IOC_CLONE_MANY");
}

static bool cut(char **names, unsigned int count)
{
	bool good;

	if (!open_all(names, count))
		return false;
	clone_all(count);
	good = all_have_names(count);
	close_all(files, count);
	if (!good)
		close_all(clones, count);
	return good;
}

static void name_clones(char **names, unsigned int count)
{
	char path[64];

	for (unsigned int i = 0; i < count; i++) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", clones[i]);
		if (linkat(AT_FDCWD, path, AT_FDCWD, names[2 * i + 1], AT_SYMLINK_FOLLOW))
			end("%s", names[2 * i + 1]);
	}
}

int main(int argc, char **argv)
{
	unsigned int count = argc / 2;
	time_t start = time(NULL);

	if (argc % 2 == 0 || !count || count > MAX) {
		fputs("Usage: cut FILE CLONE [FILE CLONE]...\n", stderr);
		return 1;
	}
	while (!cut(argv + 1, count)) {
		if (time(NULL) - start > PATIENCE) {
			errno = ENOENT;
			end("not all of them there in %d s", PATIENCE);
		}
		usleep(100);
	}
	name_clones(argv + 1, count);
	return 0;
}
