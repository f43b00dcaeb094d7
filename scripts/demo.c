// SPDX-License-Identifier: GPL-2.0-only
/*
 * The main job, on a real file: clone a region while threads write to it
 *
 * Runs in a guest, see scripts/demo.  Usage: demo FILE
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/cowmem.h>

#define PAGE		4096UL
#define WRITERS		2
/* Behind the file, each writer stamps the pages of an area of its own. */
#define STAMP_PAGES	1024UL

static unsigned char *region;
static size_t file_size, file_span;
static atomic_bool stop, loose;
static atomic_ulong writes;
static atomic_ulong longest_ns;

static unsigned long now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000UL + t.tv_nsec;
}

static double ms(unsigned long ns)
{
	return ns / 1e6;
}

static double mib(unsigned long bytes)
{
	return bytes / 1048576.0;
}

static struct cowmem_info info(int fd)
{
	struct cowmem_info info = { 0 };

	if (ioctl(fd, COWMEM_IOC_INFO, &info))
		err(1, "COWMEM_IOC_INFO");
	return info;
}

/* Bytes of the pages that nobody else has. */
static unsigned long own(int fd)
{
	return info(fd).pages_exclusive * PAGE;
}

static unsigned char *stamps(unsigned long writer)
{
	return region + file_span + writer * STAMP_PAGES * PAGE;
}

/*
 * Write 1 to each page of the area in order, then 2, and so on: at any instant
 * the numbers fall at most once from one page to the next, and by one.
 */
static void *writer(void *arg)
{
	unsigned long me = (unsigned long)arg;
	size_t pages = file_size / PAGE, budget = pages / 20;
	unsigned int seed = me + 1;

	for (unsigned long round = 1; !stop; round++) {
		for (unsigned long i = 0; i < STAMP_PAGES && !stop; i++) {
			unsigned long start = now_ns(), took;

			*(volatile unsigned long *)(stamps(me) + i * PAGE) = round;
			if (loose && budget) {
				memset(region + rand_r(&seed) % pages * PAGE, 0xff, 64);
				budget--;
			}
			took = now_ns() - start;
			if (took > longest_ns)
				longest_ns = took;
			writes++;
		}
	}
	return NULL;
}

static bool stamps_are_a_cut(const unsigned char *clone)
{
	for (unsigned long w = 0; w < WRITERS; w++) {
		const unsigned char *area = clone + file_span + w * STAMP_PAGES * PAGE;
		unsigned long first = *(unsigned long *)area, last = first;

		for (unsigned long i = 1; i < STAMP_PAGES; i++) {
			unsigned long stamp = *(unsigned long *)(area + i * PAGE);

			if (stamp > last || first - stamp > 1)
				return false;
			last = stamp;
		}
	}
	return true;
}

/* The checksum of the first @size bytes of @fd, by the system's own tool. */
static char *sha256(int fd, size_t size)
{
	static char sums[8][65];
	static int next;
	char *sum = sums[next++ % 8], command[64];
	int out[2];
	pid_t pid;

	snprintf(command, sizeof(command), "head -c %zu | sha256sum", size);
	if (lseek(fd, 0, SEEK_SET) || pipe(out))
		err(1, "sha256sum");
	pid = vfork();
	if (!pid) {
		dup2(fd, 0);
		dup2(out[1], 1);
		execl("/bin/sh", "sh", "-c", command, NULL);
		_exit(127);
	}
	close(out[1]);
	if (pid < 0 || read(out[0], sum, 64) != 64)
		err(1, "sha256sum");
	close(out[0]);
	waitpid(pid, NULL, 0);
	return sum;
}

static int clone_region(int fd, unsigned long *ns)
{
	struct cowmem_clone clone = { 0 };

	*ns = now_ns();
	if (ioctl(fd, COWMEM_IOC_CLONE, &clone))
		err(1, "COWMEM_IOC_CLONE");
	*ns = now_ns() - *ns;
	return clone.fd;
}

static unsigned long time_fork(void)
{
	unsigned long ns = now_ns();
	pid_t pid = fork();

	if (!pid)
		_exit(0);
	ns = now_ns() - ns;
	if (pid < 0)
		err(1, "fork");
	waitpid(pid, NULL, 0);
	return ns;
}

static unsigned char *anonymous_memory(size_t size, int advice)
{
	unsigned char *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		err(1, "mmap");
	madvise(p, size, advice);
	memset(p, 1, size);
	return p;
}

static void check(bool ok, const char *what)
{
	printf("    %-58s %s\n", what, ok ? "yes" : "NO");
	if (!ok)
		exit(1);
}

int main(int argc, char **argv)
{
	unsigned long live_ns, next_ns, all_ns, idle_ns, memcpy_ns, fork_ns, thp_ns;
	unsigned long writes_before, before;
	int file, fd, clone, again;
	char *file_sum, *clone_sum, *region_sum;
	pthread_t threads[WRITERS];
	unsigned char *copy;
	struct stat st;
	size_t size;

	setvbuf(stdout, NULL, _IOLBF, 0);
	file = argc == 2 ? open(argv[1], O_RDONLY) : -1;
	if (file < 0 || fstat(file, &st))
		err(1, "usage: demo FILE");
	file_size = st.st_size;
	file_span = (file_size + PAGE - 1) & ~(PAGE - 1);
	size = file_span + WRITERS * STAMP_PAGES * PAGE;

	printf("1. A region is memory behind a file descriptor. Load %s into one.\n", argv[1]);
	fd = open("/dev/cowmem", O_RDWR);
	if (fd < 0)
		err(1, "/dev/cowmem");
	region = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (region == MAP_FAILED)
		err(1, "mmap");
	for (size_t done = 0; done < file_size;) {
		ssize_t got = read(file, region + done, file_size - done);

		if (got <= 0)
			err(1, "read");
		done += got;
	}
	printf("    %.1f MiB loaded: %.1f MiB of pages and %.2f MiB of index\n", mib(file_size),
	       mib(own(fd)), mib(info(fd).index_bytes));
	file_sum = sha256(file, file_size);
	printf("    sha256 of the file    %s\n", file_sum);

	printf("2. %d threads write to the region without a pause; clone it under their hands.\n", WRITERS);
	for (unsigned long w = 0; w < WRITERS; w++)
		if (pthread_create(&threads[w], NULL, writer, (void *)w))
			err(1, "pthread_create");
	while (writes < 4 * STAMP_PAGES)
		usleep(1000);
	before = own(fd);
	clone = clone_region(fd, &live_ns);
	writes_before = writes;
	printf("    cloned in %.2f ms; before, the region had %.1f MiB of pages; now both\n"
	       "    together have %.1f MiB, of which the writers split off %.2f MiB already\n", ms(live_ns),
	       mib(before), mib(info(fd).pages_shared * PAGE + own(fd) + own(clone)), mib(own(fd)));
	usleep(20 * 1000);
	again = clone_region(fd, &next_ns);
	printf("    cloned again 20 ms later in %.2f ms: it costs what was written meanwhile\n", ms(next_ns));
	close(again);

	printf("3. Now the threads overwrite the file's pages, too. What does the clone hold?\n");
	loose = true;
	usleep(500 * 1000);
	clone_sum = sha256(clone, file_size);
	region_sum = sha256(fd, file_size);
	copy = mmap(NULL, size, PROT_READ, MAP_SHARED, clone, 0);
	if (copy == MAP_FAILED)
		err(1, "mmap");
	printf("    sha256 of the clone   %s\n", clone_sum);
	printf("    sha256 of the region  %s\n", region_sum);
	check(!strcmp(file_sum, clone_sum), "the clone still is the file");
	check(strcmp(file_sum, region_sum), "the region has moved on");
	check(stamps_are_a_cut(copy), "each write in the clone comes with all before it");
	check(writes > writes_before, "the threads kept writing");
	printf("    %lu writes so far; the longest took %.1f ms, waiting included\n", (unsigned long)writes,
	       ms(longest_ns));
	printf("    the region holds %.1f MiB, %.1f MiB of it shared with the clone;\n"
	       "    %.1f MiB were copied because they were written\n",
	       mib(info(fd).pages_populated * PAGE), mib(info(fd).pages_shared * PAGE),
	       mib(info(fd).pages_exclusive * PAGE));

	printf("4. What else gives a copy of these %.1f MiB to a process that goes on writing?\n", mib(size));
	stop = true;
	for (unsigned long w = 0; w < WRITERS; w++)
		pthread_join(threads[w], NULL);
	munmap(copy, size);
	close(clone);
	for (size_t at = 0; at < size; at += PAGE)
		region[at]++;
	close(clone_region(fd, &all_ns));
	close(clone_region(fd, &idle_ns));
	copy = anonymous_memory(size, MADV_NOHUGEPAGE);
	memcpy_ns = now_ns();
	memcpy(copy, region, size);
	memcpy_ns = now_ns() - memcpy_ns;
	/* fork() copies the page tables of what is mapped: the copy, not both. */
	munmap(region, size);
	close(fd);
	time_fork();
	fork_ns = time_fork();
	munmap(copy, size);
	copy = anonymous_memory(size, MADV_HUGEPAGE);
	time_fork();
	thp_ns = time_fork();

	printf("    clone, nothing written since the last clone      %9.2f ms\n", ms(idle_ns));
	printf("    clone, every page written since the last clone   %9.2f ms\n", ms(all_ns));
	printf("    fork() of this process with as much memory       %9.2f ms\n", ms(fork_ns));
	printf("    the same with huge pages (each is copied whole)  %9.2f ms\n", ms(thp_ns));
	printf("    memcpy() into memory that is there already       %9.2f ms\n", ms(memcpy_ns));
	printf("    (An emulated CPU: compare the figures, do not quote them.)\n");
	return 0;
}
