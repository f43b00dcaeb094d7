// SPDX-License-Identifier: GPL-2.0-only
/*
 * Cases about a mount of cowmem, beside a tmpfs: small files, one large file, many
 * files, and a copy of a file
 *
 * All of them count instructions.  A case mounts what it is named after, for itself
 * alone: the mount goes with the process.  Paths are short, as to walk a long one takes
 * the same on both.
 */
#define _GNU_SOURCE
#include "bench.h"

#include <linux/fs.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>

/* How much one call reads or writes, unless the case says otherwise. */
#define CHUNK	(64UL << 10)

static void mount_here(const struct bench_case *c)
{
	must(!unshare(CLONE_NEWNS));
	must(!mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
	must(!mount("bench", "/mnt", c->impl, 0, "size=100%"));
	must(!chdir("/mnt"));
}

static int open_new(const char *name)
{
	int fd = open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	must(fd >= 0);
	return fd;
}

/* Write @n pages at @mem to the file from its start on, or read them: @chunk at a time. */
static void write_file(int fd, const char *mem, unsigned long n, size_t chunk)
{
	for (size_t at = 0; at < n * PAGE; at += chunk)
		must(pwrite(fd, mem + at, chunk, at) == (ssize_t)chunk);
}

static void read_file(int fd, char *mem, unsigned long n, size_t chunk)
{
	for (size_t at = 0; at < n * PAGE; at += chunk)
		must(pread(fd, mem + at, chunk, at) == (ssize_t)chunk);
}

static void check_file(int fd, unsigned long n, unsigned int tag)
{
	char *mem = map_file(fd, n, PROT_READ, MAP_SHARED);

	check(mem, 0, n, tag, tag);
	must(!munmap(mem, n * PAGE));
}

/* ---- fs_create ---- */

static const char *name_of(unsigned long i)
{
	static char name[32];

	snprintf(name, sizeof(name), "%lu", i);
	return name;
}

/* For each file: create it, write a page to it, and take its name away. */
static void run_create(const struct bench_case *c, unsigned int mib)
{
	unsigned long n = pages_of(mib), i;
	struct counts made, gone;
	char *mem = map_anon(n, false), *got = map_anon(1, false);
	int fd;

	mount_here(c);
	fill(mem, 0, n, 1);
	start();
	for (i = 0; i < n; i++) {
		fd = open_new(name_of(i));
		must(write(fd, mem + i * PAGE, PAGE) == PAGE);
		must(!close(fd));
	}
	made = stop();
	for (i = 0; i < n; i++) {
		fd = open(name_of(i), O_RDONLY | O_CLOEXEC);
		must(fd >= 0 && read(fd, got, PAGE) == PAGE && read(fd, got, PAGE) == 0);
		check(got, i, 1, 1, 1);
		must(!close(fd));
	}
	start();
	for (i = 0; i < n; i++)
		must(!unlink(name_of(i)));
	gone = stop();
	add_counts(&made, gone);
	record_counts(c, mib, made, n);
}

/* ---- fs_write, fs_rewrite, fs_read ---- */

static size_t chunk_of(const struct bench_case *c)
{
	return strstr(c->name, "_4k") ? PAGE : CHUNK;
}

/* Write a file that is empty or, if it is to be written again, has all its pages. */
static void run_write(const struct bench_case *c, unsigned int mib)
{
	unsigned long n = pages_of(mib);
	char *mem = map_anon(n, false);
	struct counts took;
	int fd;

	mount_here(c);
	fd = open_new("file");
	if (strstr(c->name, "rewrite")) {
		fill(mem, 0, n, 1);
		write_file(fd, mem, n, CHUNK);
	}
	fill(mem, 0, n, 2);
	start();
	write_file(fd, mem, n, chunk_of(c));
	took = stop();
	check_file(fd, n, 2);
	record_counts(c, mib, took, n);
}

static void run_read(const struct bench_case *c, unsigned int mib)
{
	unsigned long n = pages_of(mib);
	char *mem = map_anon(n, false);
	struct counts took;
	int fd;

	mount_here(c);
	fd = open_new("file");
	fill(mem, 0, n, 1);
	write_file(fd, mem, n, CHUNK);
	memset(mem, 0, n * PAGE);
	start();
	read_file(fd, mem, n, chunk_of(c));
	took = stop();
	check(mem, 0, n, 1, 1);
	record_counts(c, mib, took, n);
}

/* ---- fs_stat ---- */

#define DIRS	100UL
#define FILES	100000UL

static const char *path_of(unsigned long i)
{
	static char path[32];

	snprintf(path, sizeof(path), "%lu/%lu", i % DIRS, i);
	return path;
}

/* Make many files, spread over directories, and ask what each is. */
static void run_stat(const struct bench_case *c, unsigned int mib)
{
	struct counts took;
	struct stat st;
	unsigned long i;

	mount_here(c);
	for (i = 0; i < DIRS; i++)
		must(!mkdir(name_of(i), 0700));
	start();
	for (i = 0; i < FILES; i++)
		must(!close(open_new(path_of(i))));
	took = stop();
	record_counts_as("fs_stat_create", mib, c->impl, took, FILES);

	start();
	for (i = 0; i < FILES; i++)
		must(!stat(path_of(i), &st));
	took = stop();
	must(S_ISREG(st.st_mode) && st.st_nlink == 1 && st.st_size == 0);
	record_counts(c, mib, took, FILES);
}

/* ---- fs_reflink ---- */

/* What cp does: by FICLONE where it can be had, else by copy_file_range(). */
static void copy_file(const struct bench_case *c, int to, int from, unsigned long n)
{
	size_t left = n * PAGE;

	if (!strcmp(c->impl, "cowmem")) {
		must(!ioctl(to, FICLONE, from));
		return;
	}
	while (left) {
		ssize_t copied = copy_file_range(from, NULL, to, NULL, left, 0);

		must(copied > 0);
		left -= copied;
	}
}

static void run_reflink(const struct bench_case *c, unsigned int mib)
{
	unsigned long n = pages_of(mib), step = CHUNK / PAGE, page;
	char *mem = map_anon(step, false);
	struct counts took;
	int from, to;

	mount_here(c);
	from = open_new("from");
	to = open_new("to");
	for (page = 0; page < n; page += step) {
		fill(mem, page, step, 1);
		must(write(from, mem, CHUNK) == (ssize_t)CHUNK);
	}
	must(!lseek(from, 0, SEEK_SET));
	start();
	copy_file(c, to, from, n);
	took = stop();
	check_file(to, n, 1);
	record_counts(c, mib, took, 1);
}

const struct bench_case fs_cases[] = {
	{ "fs_create", "cowmem", { 16 }, run_create },
	{ "fs_create", "tmpfs", { 16 }, run_create },
	{ "fs_write", "cowmem", { 64 }, run_write },
	{ "fs_write", "tmpfs", { 64 }, run_write },
	{ "fs_write_4k", "cowmem", { 64 }, run_write },
	{ "fs_write_4k", "tmpfs", { 64 }, run_write },
	{ "fs_rewrite", "cowmem", { 64 }, run_write },
	{ "fs_rewrite", "tmpfs", { 64 }, run_write },
	{ "fs_read", "cowmem", { 64 }, run_read },
	{ "fs_read", "tmpfs", { 64 }, run_read },
	{ "fs_read_4k", "cowmem", { 64 }, run_read },
	{ "fs_read_4k", "tmpfs", { 64 }, run_read },
	{ "fs_stat", "cowmem", { 1 }, run_stat },
	{ "fs_stat", "tmpfs", { 1 }, run_stat },
	{ "fs_reflink", "cowmem", { 1024 }, run_reflink },
	{ "fs_reflink", "tmpfs", { 1024 }, run_reflink },
	{}
};
