// SPDX-License-Identifier: GPL-2.0-only
/*
 * Cases about what a mapping costs that is merely there: at a fork(), after it was
 * split and put back, and to others, who write
 *
 * All of them count instructions.
 */
#include <sys/ioctl.h>

#include "bench.h"

#define ROUNDS	3

/* ---- fork_mapped ---- */

/* From fork() to wait(), of a child that does nothing. */
static struct counts fork_and_wait(void)
{
	struct counts took;
	int status;
	pid_t pid;

	start();
	pid = fork();
	if (!pid)
		_exit(0);
	must(pid > 0 && waitpid(pid, &status, 0) == pid);
	took = stop();
	must(!status);
	return took;
}

static unsigned long page_table_bytes(void)
{
	unsigned long kib;
	char line[128];
	FILE *f = fopen("/proc/self/status", "r");

	must(f);
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "VmPTE: %lu kB", &kib) == 1) {
			fclose(f);
			return kib << 10;
		}
	}
	die("no VmPTE in /proc/self/status");
}

/* Of a child, which shows too that it has the mapping: it writes page 0. */
static unsigned long child_table_bytes(char *mem, unsigned int tag)
{
	unsigned long bytes;
	int out[2], status;
	pid_t pid;

	must(!pipe(out));
	pid = fork();
	if (!pid) {
		bytes = page_table_bytes();
		must(write(out[1], &bytes, sizeof(bytes)) == sizeof(bytes));
		poke(mem, 0, tag);
		_exit(0);
	}
	must(pid > 0 && waitpid(pid, &status, 0) == pid && !status);
	must(read(out[0], &bytes, sizeof(bytes)) == sizeof(bytes));
	must(!close(out[0]) && !close(out[1]));
	return bytes;
}

static void fork_mapped(const struct bench_case *c, unsigned int mib)
{
	unsigned long n = pages_of(mib);
	int fd = strcmp(c->impl, "cowmem") ? new_memfd(n) : new_region(n);
	char *mem = map_rw(fd, n);
	struct counts took[ROUNDS];

	fill(mem, 0, n, 1);
	fork_and_wait();				/* warm */
	for (unsigned int i = 0; i < ROUNDS; i++)
		took[i] = fork_and_wait();
	record_counts(c, mib, median_counts(took, ROUNDS), 1);
	record_as("fork_mapped_tables", mib, c->impl, "bytes", child_table_bytes(mem, 2));
	check(mem, 0, 1, 2, 1);
	check(mem + PAGE, 1, n - 1, 1, 1);
}

/* ---- split_mapping ---- */

/* A write barrier: each page is protected, and released at the first write. */
static void split(char *mem, unsigned long n)
{
	for (unsigned long page = 0; page < n; page++) {
		char *at = mem + page * PAGE;

		must(!mprotect(at, PAGE, PROT_READ));
		must(!mprotect(at, PAGE, PROT_READ | PROT_WRITE));
	}
}

/* Write all of @mem, clone it, read it all: in each round. */
static void clone_and_read(unsigned int mib, int fd, char *mem,
			   const char *clone_name, const char *read_name)
{
	struct counts cloned[ROUNDS], read[ROUNDS];
	unsigned long n = pages_of(mib);
	int clone = -1;

	for (unsigned int i = 0; i < ROUNDS; i++) {
		must(clone < 0 || !close(clone));
		for (unsigned long page = 0; page < n; page++)
			poke(mem, page, 2 + i);
		start();
		clone = clone_of(fd, 0);
		cloned[i] = stop();
		start();
		read_all(mem, n);
		read[i] = stop();
	}
	/* What is written now must not be in the clone. */
	for (unsigned long page = 0; page < n; page++)
		poke(mem, page, 2 + ROUNDS);
	check(mem, 0, n, 2 + ROUNDS, 1);
	check(map_file(clone, n, PROT_READ, MAP_SHARED), 0, n, 1 + ROUNDS, 1);
	record_counts_as(clone_name, mib, "cowmem", median_counts(cloned, ROUNDS), 1);
	record_counts_as(read_name, mib, "cowmem", median_counts(read, ROUNDS), n);
}

static void split_mapping(const struct bench_case *c, unsigned int mib)
{
	unsigned long n = pages_of(mib);
	int fd = new_region(n);
	char *mem = map_rw(fd, n);

	fill(mem, 0, n, 1);
	clone_and_read(mib, fd, mem, "whole_clone", "whole_read");

	fd = new_region(n);
	mem = map_rw(fd, n);
	fill(mem, 0, n, 1);
	split(mem, n);
	clone_and_read(mib, fd, mem, "split_clone", "split_read");
}

/* ---- idle_mappers ---- */

#define MAPPERS	256

/* Where the @i-th write goes: all pages of @n, a power of 2, far from each other. */
static unsigned long scattered(unsigned long n, unsigned long i)
{
	return i * 1021 & (n - 1);
}

/* Clone, write all pages, go back; what each takes. */
static void idle_round(int fd, char *mem, unsigned long n, struct counts *cloned,
		       struct counts *written, struct counts *restored)
{
	struct cowmem_restore args = {};

	for (unsigned long page = 0; page < n; page++)
		poke(mem, page, 1);
	start();
	args.fd = clone_of(fd, COWMEM_CLONE_SNAPSHOT);
	*cloned = stop();
	read_all(mem, n);
	start();
	for (unsigned long i = 0; i < n; i++)
		poke(mem, scattered(n, i), 2);
	*written = stop();
	check(mem, 0, n, 2, 1);
	start();
	must(!ioctl(fd, COWMEM_IOC_RESTORE, &args));
	*restored = stop();
	must(args.pages == n);
	check(mem, 0, n, 1, 1);
	must(!close(args.fd));
}

static void idle_rounds(unsigned int mib, int fd, char *mem, const char *const names[3])
{
	struct counts cloned[ROUNDS], written[ROUNDS], restored[ROUNDS];
	unsigned long n = pages_of(mib);

	for (unsigned int i = 0; i < ROUNDS; i++)
		idle_round(fd, mem, n, &cloned[i], &written[i], &restored[i]);
	record_counts_as(names[0], mib, "cowmem", median_counts(cloned, ROUNDS), 1);
	record_counts_as(names[1], mib, "cowmem", median_counts(written, ROUNDS), n);
	record_counts_as(names[2], mib, "cowmem", median_counts(restored, ROUNDS), 1);
}

static void idle_mappers(const struct bench_case *c, unsigned int mib)
{
	static const char *const many[] = {
		"idle_256_clone", "idle_256_write", "idle_256_restore",
	};
	static const char *const none[] = {
		"idle_0_clone", "idle_0_write", "idle_0_restore",
	};
	unsigned long n = pages_of(mib);
	int fd = new_region(n);
	char *mem = map_rw(fd, n);
	pid_t pids[MAPPERS];

	/* Before there is a page that fork() could map for them. */
	for (unsigned int i = 0; i < MAPPERS; i++)
		pids[i] = fork_child(NULL);
	fill(mem, 0, n, 1);
	idle_rounds(mib, fd, mem, many);
	for (unsigned int i = 0; i < MAPPERS; i++)
		end_child(pids[i]);
	idle_rounds(mib, fd, mem, none);
}

const struct bench_case map_cases[] = {
	{ "fork_mapped", "cowmem", { 512 }, fork_mapped },
	{ "fork_mapped", "memfd", { 512 }, fork_mapped },
	{ "split_mapping", "cowmem", { 64 }, split_mapping },
	{ "idle_mappers", "cowmem", { 16 }, idle_mappers },
	{}
};
