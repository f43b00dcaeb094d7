// SPDX-License-Identifier: GPL-2.0-only
/*
 * What regions do, on a real file: clone one while threads write to it, reset it,
 * tell what changed, share what is equal
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
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/cowmem.h>

#include "demo.h"

#define PAGE		4096UL
#define WRITERS		2
/* Behind the file, each writer stamps the pages of an area of its own. */
#define STAMP_PAGES	1024UL
/* How many pages the small change changes. */
#define CHANGES		10UL
/* The fuzzer: how often it runs, until when it warms up, what it writes and where. */
#define RUNS		100
#define WARM_UP		10
#define RUN_PAGES	64UL
#define RUN_AREA	(8UL << 20)
/* Entries of the table per page: the more, the fewer pages lose theirs to another. */
#define MERGE_ENTRIES	16

static int file, region_fd;
static unsigned char *region;
static size_t file_size, file_span, region_size;
static char *file_sum;
static pthread_t threads[WRITERS];
static atomic_bool stop, loose;
static atomic_ulong writes;
static unsigned long writes_before;
static atomic_ulong longest_ns;

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

/*
 * The checksum of the first @size bytes of @fd, by the system's own tool.  It gets
 * them in a memfd: to feed it through a pipe takes an emulated CPU far longer.
 */
static char *sha256(int fd, size_t size)
{
	char *sum = calloc(1, 65);
	int in = memfd_create("sha256", 0), out[2];
	off_t done = 0;
	pid_t pid;

	if (!sum || in < 0 || pipe(out))
		err(1, "sha256sum");
	while ((size_t)done < size)
		if (sendfile(in, fd, &done, size - done) <= 0)
			err(1, "sendfile");
	lseek(in, 0, SEEK_SET);
	pid = vfork();
	if (!pid) {
		dup2(in, 0);
		dup2(out[1], 1);
		execlp("sha256sum", "sha256sum", NULL);
		_exit(127);
	}
	close(out[1]);
	if (pid < 0 || read(out[0], sum, 64) != 64)
		err(1, "sha256sum");
	close(out[0]);
	close(in);
	waitpid(pid, NULL, 0);
	return sum;
}

/* Print the checksum of @fd and tell whether it is that of the file. */
static bool is_the_file(int fd, const char *name)
{
	const char *sum = sha256(fd, file_size);

	printf("    sha256 of the %-8s%s\n", name, sum);
	return !strcmp(sum, file_sum);
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

static int snapshot_region(int fd)
{
	struct cowmem_clone clone = { .flags = COWMEM_CLONE_SNAPSHOT };

	if (ioctl(fd, COWMEM_IOC_CLONE, &clone))
		err(1, "COWMEM_IOC_CLONE");
	return clone.fd;
}

static struct cowmem_restore restore(int fd, int from, unsigned int flags)
{
	struct cowmem_restore restore = { .fd = from, .flags = flags };

	if (ioctl(fd, COWMEM_IOC_RESTORE, &restore))
		err(1, "COWMEM_IOC_RESTORE");
	return restore;
}

static unsigned long page_faults(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_minflt;
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
	unsigned char *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		err(1, "mmap");
	madvise(p, size, advice);
	memset(p, 1, size);
	return p;
}

static unsigned char *map(int fd, size_t size, int prot)
{
	unsigned char *p = mmap(NULL, size, prot, MAP_SHARED, fd, 0);

	if (p == MAP_FAILED)
		err(1, "mmap");
	return p;
}

/* A new region of @size bytes that starts with the file; *@mapping is where. */
static int load_file(unsigned char **mapping, size_t size)
{
	int fd = open("/dev/cowmem", O_RDWR);

	if (fd < 0)
		err(1, "/dev/cowmem");
	*mapping = map(fd, size, PROT_READ | PROT_WRITE);
	for (size_t done = 0; done < file_size;) {
		ssize_t got = pread(file, *mapping + done, file_size - done, done);

		if (got <= 0)
			err(1, "read");
		done += got;
	}
	return fd;
}

static void show_region(const char *name)
{
	printf("1. A region is memory behind a file descriptor. Load %s into one.\n", name);
	region_fd = load_file(&region, region_size);
	printf("    %.1f MiB loaded: %.1f MiB of pages and %.2f MiB of index\n", mib(file_size),
	       mib(own(region_fd)), mib(info(region_fd).index_bytes));
	file_sum = sha256(file, file_size);
	printf("    sha256 of the file    %s\n", file_sum);
}

/* Returns the clone. */
static int show_clone(void)
{
	unsigned long before, live_ns, next_ns;
	int clone;

	printf("2. %d threads write to the region without a pause; clone it under their hands.\n",
	       WRITERS);
	for (unsigned long w = 0; w < WRITERS; w++)
		if (pthread_create(&threads[w], NULL, writer, (void *)w))
			err(1, "pthread_create");
	while (writes < 4 * STAMP_PAGES)
		usleep(1000);
	before = own(region_fd);
	clone = clone_region(region_fd, &live_ns);
	writes_before = writes;
	printf("    cloned in %.2f ms; before, the region had %.1f MiB of pages; now both\n"
	       "    together have %.1f MiB, of which the writers split off %.2f MiB already\n",
	       ms(live_ns),
	       mib(before), mib(info(region_fd).pages_shared * PAGE + own(region_fd) + own(clone)),
	       mib(own(region_fd)));
	usleep(20 * 1000);
	close(clone_region(region_fd, &next_ns));
	printf("    cloned again 20 ms later in %.2f ms: it costs what was written meanwhile\n",
	       ms(next_ns));
	return clone;
}

static void show_clone_is_a_cut(int clone)
{
	bool clone_is_file, region_is_file;
	unsigned char *copy;

	printf("3. Now the threads overwrite the file's pages, too. What does the clone hold?\n");
	loose = true;
	usleep(500 * 1000);
	clone_is_file = is_the_file(clone, "clone");
	stop = true;
	for (unsigned long w = 0; w < WRITERS; w++)
		pthread_join(threads[w], NULL);
	region_is_file = is_the_file(region_fd, "region");
	copy = map(clone, region_size, PROT_READ);
	check(clone_is_file, "the clone still is the file");
	check(!region_is_file, "the region has moved on");
	check(stamps_are_a_cut(copy), "each write in the clone comes with all before it");
	check(writes > writes_before, "the threads kept writing");
	munmap(copy, region_size);
	printf("    %lu writes; the longest took %.1f ms, waiting included\n",
	       (unsigned long)writes,
	       ms(longest_ns));
	printf("    the region holds %.1f MiB, %.1f MiB of it shared with the clone;\n"
	       "    %.1f MiB were copied because they were written\n",
	       mib(info(region_fd).pages_populated * PAGE),
	       mib(info(region_fd).pages_shared * PAGE),
	       mib(own(region_fd)));
}

static void show_restore(int clone)
{
	struct cowmem_info before = info(region_fd);
	unsigned char *copy = map(clone, region_size, PROT_READ);
	struct cowmem_restore r;

	printf("4. Reset the region to the clone, in place.\n");
	r = restore(region_fd, clone, 0);
	printf("    %llu of %llu pages differed and were taken back\n", r.pages,
	       before.pages_populated);
	check(is_the_file(region_fd, "region"), "the region is the file again");
	check(!memcmp(region, copy, region_size),
	      "its mapping, which stayed, shows what the clone holds");
	check(r.pages == before.pages_exclusive, "only what had been written was touched");
	check(!own(region_fd), "all pages are shared with the clone again");
	munmap(copy, region_size);
	close(clone);
}

/* Nodes of an index over @pages pages from offset 0 on; a node has 64 slots. */
static unsigned long index_nodes(unsigned long pages)
{
	unsigned long nodes = 0;

	do {
		pages = (pages + 63) / 64;
		nodes += pages;
	} while (pages > 1);
	return nodes;
}

/* Returns a snapshot that still is the file. */
static int show_diff(void)
{
	struct cowmem_extent extents[CHANGES + 1];
	struct cowmem_diff diff = { .extents = (unsigned long)extents, .count = CHANGES + 1 };
	size_t stride = file_size / PAGE / CHANGES * PAGE;
	bool exact;

	printf("5. Take a snapshot and write to %lu pages here and there. What has changed?\n",
	       CHANGES);
	diff.fd = snapshot_region(region_fd);
	for (unsigned long i = 0; i < CHANGES; i++)
		region[i * stride]++;
	if (ioctl(region_fd, COWMEM_IOC_DIFF, &diff))
		err(1, "COWMEM_IOC_DIFF");

	exact = diff.count == CHANGES;
	for (unsigned int i = 0; i < diff.count && exact; i++)
		exact = extents[i].offset == i * stride && extents[i].length == PAGE &&
			extents[i].kind == COWMEM_EXTENT_DATA;
	printf("    %u extents (offset+length in KiB):", diff.count);
	for (unsigned int i = 0; i < diff.count && i < 3; i++)
		printf(" %llu+%llu,", extents[i].offset / 1024, extents[i].length / 1024);
	printf(" ...\n    found in %llu looks at nodes of the index, which has %lu of them\n",
	       diff.nodes,
	       index_nodes(region_size / PAGE));
	check(exact, "these are exactly the pages that were written");
	return diff.fd;
}

static unsigned char *run_page(unsigned char *base, unsigned long i)
{
	size_t area = file_size < RUN_AREA ? file_size : RUN_AREA;

	return base + area / PAGE / RUN_PAGES * PAGE * i;
}

/* What runs after the warm-up took. */
struct runs {
	unsigned long faults, ns;
	struct cowmem_restore last;
	bool same;
};

/*
 * Do as a fuzzer: run the target, which writes to memory, and reset it.  The check
 * has a mapping of its own, so that no page is mapped before the target writes it.
 */
static struct runs fuzz(int snapshot, unsigned int flags)
{
	unsigned char *original = map(snapshot, region_size, PROT_READ);
	unsigned char *view = map(region_fd, region_size, PROT_READ);
	struct runs runs = { .same = true };

	for (int run = 0; run < RUNS; run++) {
		unsigned long faults = page_faults(), ns = now_ns();

		for (unsigned long i = 0; i < RUN_PAGES; i++)
			*(volatile unsigned long *)run_page(region, i) = run;
		runs.last = restore(region_fd, snapshot, flags);
		if (run >= WARM_UP) {
			runs.ns += now_ns() - ns;
			runs.faults += page_faults() - faults;
		}
		for (unsigned long i = 0; i < RUN_PAGES; i++)
			runs.same &= !memcmp(run_page(view, i), run_page(original, i), PAGE);
	}
	munmap(view, region_size);
	munmap(original, region_size);
	return runs;
}

static void print_runs(const char *how, const struct runs *runs)
{
	printf("    %-32s %5.1f page faults, %5.0f us, %llu pages reset, %llu kept\n", how,
	       (double)runs->faults / (RUNS - WARM_UP), runs->ns / 1e3 / (RUNS - WARM_UP),
	       runs->last.pages, runs->last.kept);
}

static void show_fuzzing(int snapshot)
{
	struct cowmem_restore r;
	struct runs plain, keep;

	printf("6. Reset to the snapshot like a fuzzer, after each of %d runs writing %lu pages.\n",
	       RUNS, RUN_PAGES);
	r = restore(region_fd, snapshot, 0);
	printf("    first, the small change: %llu pages reset;\n"
	       "    then, per run, not counting the first %d:\n",
	       r.pages, WARM_UP);
	plain = fuzz(snapshot, 0);
	print_runs("RESTORE", &plain);
	keep = fuzz(snapshot, COWMEM_RESTORE_KEEP);
	print_runs("RESTORE with COWMEM_RESTORE_KEEP", &keep);
	check(r.pages == CHANGES, "the small change was taken back, no more");
	check(plain.same && keep.same, "after each run the pages were as before");
	if (info(region_fd).features & COWMEM_FEATURE_KEEP)
		check(!keep.faults, "with pages kept, not one page fault");
	else
		printf("    (This kernel cannot tell which pages were written: none are kept.)\n");
	check(is_the_file(region_fd, "region"), "the region still is the file");
	close(snapshot);
}

static void show_merge(void)
{
	struct cowmem_merge_range ranges[2] = { { .length = file_span } };
	struct cowmem_merge merge = { .ranges = (unsigned long)ranges, .count = 2 };
	struct cowmem_merge_entry *table;
	unsigned long first, second;
	unsigned char *mapping;
	bool same;
	int fd;

	printf("7. Load the file once more, into a second region, and merge what is equal.\n");
	fd = load_file(&mapping, file_span);
	ranges[0].fd = region_fd;
	ranges[1].fd = fd;
	merge.entries = MERGE_ENTRIES * (file_span / PAGE);
	table = calloc(merge.entries, sizeof(*table));
	if (!table)
		err(1, "calloc");
	merge.table = (unsigned long)table;
	first = own(region_fd);
	second = own(fd);
	if (ioctl(region_fd, COWMEM_IOC_MERGE, &merge))
		err(1, "COWMEM_IOC_MERGE");
	free(table);

	printf("    %llu pages looked at, %llu merged, %llu full of zeroes: %.1f MiB given back\n",
	       merge.scanned, merge.merged, merge.zeroed, mib(merge.saved));
	printf("    pages of its own: the first region %.1f MiB before, %.1f MiB now;\n"
	       "    the second one %.1f MiB before, %.1f MiB now\n",
	       mib(first), mib(own(region_fd)),
	       mib(second), mib(own(fd)));
	same = is_the_file(region_fd, "first");
	same &= is_the_file(fd, "second");
	check(same, "both still are the file");
	check(merge.saved == (merge.merged + merge.zeroed) * PAGE,
	      "each page merged is a page saved");
	check(merge.saved > file_span / 5 * 4, "most of the second copy was given back");
	mapping[0]++;
	check(mapping[0] != region[0], "a write to one still does not show in the other");
	munmap(mapping, file_span);
	close(fd);
}

static void show_comparison(void)
{
	unsigned long all_ns, idle_ns, memcpy_ns, fork_ns, thp_ns;
	unsigned char *copy;

	printf("8. What else gives a copy of these %.1f MiB to a process that goes on writing?\n",
	       mib(region_size));
	for (size_t at = 0; at < region_size; at += PAGE)
		region[at]++;
	close(clone_region(region_fd, &all_ns));
	close(clone_region(region_fd, &idle_ns));
	copy = anonymous_memory(region_size, MADV_NOHUGEPAGE);
	memcpy_ns = now_ns();
	memcpy(copy, region, region_size);
	memcpy_ns = now_ns() - memcpy_ns;
	/* fork() copies the page tables of what is mapped: the copy, not both. */
	munmap(region, region_size);
	close(region_fd);
	time_fork();
	fork_ns = time_fork();
	munmap(copy, region_size);
	copy = anonymous_memory(region_size, MADV_HUGEPAGE);
	time_fork();
	thp_ns = time_fork();

	printf("    clone, nothing written since the last clone      %9.2f ms\n", ms(idle_ns));
	printf("    clone, every page written since the last clone   %9.2f ms\n", ms(all_ns));
	printf("    fork() of this process with as much memory       %9.2f ms\n", ms(fork_ns));
	printf("    the same with huge pages (each is copied whole)  %9.2f ms\n", ms(thp_ns));
	printf("    memcpy() into memory that is there already       %9.2f ms\n", ms(memcpy_ns));
	printf("    (An emulated CPU: compare the figures, do not quote them.)\n");
}

int main(int argc, char **argv)
{
	int clone, snapshot;
	struct stat st;

	setvbuf(stdout, NULL, _IOLBF, 0);
	file = argc == 2 ? open(argv[1], O_RDONLY) : -1;
	if (file < 0 || fstat(file, &st))
		err(1, "usage: demo FILE");
	file_size = st.st_size;
	if (file_size < 2 * RUN_PAGES * PAGE)
		errx(1, "%s: needs %lu KiB at least", argv[1], 2 * RUN_PAGES * PAGE / 1024);
	file_span = (file_size + PAGE - 1) & ~(PAGE - 1);
	region_size = file_span + WRITERS * STAMP_PAGES * PAGE;

	show_region(argv[1]);
	clone = show_clone();
	show_clone_is_a_cut(clone);
	show_restore(clone);
	snapshot = show_diff();
	show_fuzzing(snapshot);
	show_merge();
	show_comparison();
	return 0;
}
