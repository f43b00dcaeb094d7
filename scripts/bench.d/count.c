// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a stretch of a case takes and changes: time, and what the kernel tells
 *
 * A program cannot watch the kernel copy pages or change page tables without
 * changing what that takes.  So nothing is traced: all is looked at before the clock
 * starts and after it has stopped, and what is reported is the difference.
 *
 * - faults: getrusage(), of all threads of this process.
 * - pages: pgalloc_* in /proc/vmstat, in units of 4 KiB: what was taken from the page
 *   allocator.  It is the most that can have been cleared or copied to new pages, as
 *   page tables and slabs count too.  What is copied back in place (RESTORE KEEP) is
 *   not in it.
 * - ptes: places in the case's memory that another page, or none, is mapped at
 *   afterwards (/proc/self/pagemap); also where an anonymous page has become shared,
 *   as fork() has to write-protect it then.  What comes and goes meanwhile is not
 *   seen, nor is a write permission alone that comes or goes.
 * - pmds: 2 MiB mappings that have come or gone (/proc/self/smaps), or whose
 *   page is another one.
 * - tlb: /proc/interrupts, shootdowns that CPUs got from others.  There are none where
 *   there is one CPU.
 *
 * What a fork() gives the child counts like a change: fork_child() looks there.
 */
#define _GNU_SOURCE
#include "bench.h"

#include <linux/perf_event.h>
#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>

#define AREA		512UL		/* pages that a PMD maps */
#define RANGES		32
#define TEXT_BYTES	(1UL << 20)

#define PM_SOFT_DIRTY	(1ULL << 55)
#define PM_EXCLUSIVE	(1ULL << 56)
#define PM_FILE		(1ULL << 61)
#define PM_PRESENT	(1ULL << 63)

/* The memory that the case has mapped. */
static struct range {
	char *mem;
	unsigned long n;
} ranges[RANGES];
static unsigned int nr_ranges;

/*
 * What pagemap said before is kept in a file: one more mapping makes each fault dearer
 * by 39 instructions on 6.1, and more memory each fork().
 */
static char text[TEXT_BYTES];
static uint64_t entries[AREA], entries_before[AREA];
static int before_fd;

static int vmstat_fd, interrupts_fd, pagemap_fd, smaps_fd, perf_fd = -1;
static struct counts begin;
static unsigned long pmds_before;

uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

/* ---- files of the kernel ---- */

static int open_file(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		die("%s: %s", path, strerror(errno));
	return fd;
}

static const char *text_of(int fd)
{
	size_t at = 0;
	ssize_t got;

	do {
		got = pread(fd, text + at, TEXT_BYTES - 1 - at, at);
		must(got >= 0);
		at += got;
	} while (got);
	text[at] = 0;
	return text;
}

/* The sum of the numbers behind each line that starts with @name. */
static uint64_t sum_of(const char *lines, const char *name)
{
	uint64_t sum = 0;
	const char *line;

	for (line = lines; line; line = strchr(line, '\n')) {
		line += strspn(line, "\n ");
		if (strncmp(line, name, strlen(name)))
			continue;
		line += strcspn(line, "\n ");
		while (*line == ' ') {
			char *end;

			sum += strtoull(line, &end, 10);
			if (end == line)
				break;
			line = end;
		}
	}
	return sum;
}

static uint64_t taken_pages(void)
{
	return sum_of(text_of(vmstat_fd), "pgalloc_");
}

static uint64_t shootdowns(void)
{
	return mode == ICOUNT ? 0 : sum_of(text_of(interrupts_fd), "TLB:");
}

/* ---- page tables ---- */

static bool overlap(const struct range *range, const char *mem, unsigned long n)
{
	return mem < range->mem + range->n * PAGE && range->mem < mem + n * PAGE;
}

static void forget(unsigned int i)
{
	ranges[i] = ranges[--nr_ranges];
}

void watch(char *mem, unsigned long n)
{
	/* Where there was something before, that is gone. */
	for (unsigned int i = nr_ranges; i-- > 0;) {
		if (overlap(&ranges[i], mem, n))
			forget(i);
	}
	if (nr_ranges == RANGES)
		forget(0);
	ranges[nr_ranges++] = (struct range){ mem, n };
}

static bool watched(const char *mem, unsigned long n)
{
	for (unsigned int i = 0; i < nr_ranges; i++) {
		if (overlap(&ranges[i], mem, n))
			return true;
	}
	return false;
}

/* How many areas a process has mapped by a PMD.  Most of the time there are none at all. */
static unsigned long pmds_of(int smaps)
{
	const char *line = text_of(vmstat_fd);
	unsigned long from, to, kib = 0;
	bool ours = false;

	if (!sum_of(line, "nr_anon_transparent_hugepages") &&
	    !sum_of(line, "nr_shmem_pmdmapped") && !sum_of(line, "nr_file_pmdmapped"))
		return 0;
	/* Of the case's memory only: a stack, say, may have a huge page, too. */
	for (line = text_of(smaps); *line; line += strcspn(line, "\n"), line += *line == '\n') {
		unsigned long value;

		if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
			ours = watched((char *)from, (to - from) / PAGE);
		else if (ours && (sscanf(line, "AnonHugePages: %lu", &value) == 1 ||
				  sscanf(line, "ShmemPmdMapped: %lu", &value) == 1 ||
				  sscanf(line, "FilePmdMapped: %lu", &value) == 1))
			kib += value;
	}
	return kib / 2048;
}

static void read_entries(int fd, const char *mem, unsigned long n)
{
	size_t at = 0, bytes = n * sizeof(*entries);
	off_t from = (uintptr_t)mem / PAGE * sizeof(*entries);

	while (at < bytes) {
		ssize_t got = pread(fd, (char *)entries + at, bytes - at, from + at);

		must(got > 0);
		at += got;
	}
}

static unsigned long area_pages(const struct range *range, unsigned long first)
{
	return range->n - first < AREA ? range->n - first : AREA;
}

static void save_entries(void)
{
	unsigned char there;

	for (unsigned int i = nr_ranges; i-- > 0;) {
		if (mincore(ranges[i].mem, PAGE, &there))
			forget(i);
	}
	must(lseek(before_fd, 0, SEEK_SET) == 0);
	for (unsigned int i = 0; i < nr_ranges; i++) {
		for (unsigned long first = 0; first < ranges[i].n; first += AREA) {
			unsigned long n = area_pages(&ranges[i], first);
			ssize_t bytes = n * sizeof(*entries);

			read_entries(pagemap_fd, ranges[i].mem + first * PAGE, n);
			must(write(before_fd, entries, bytes) == bytes);
		}
	}
}

static bool changed(uint64_t was, uint64_t is)
{
	if ((was ^ is) & ~(PM_SOFT_DIRTY | PM_EXCLUSIVE))
		return true;
	return !(is & PM_FILE) && (was & ~is & PM_EXCLUSIVE);
}

/*
 * Look at all that is mapped now, in the process of @fd: at what is not as it was saved
 * @before, or at what is there.  Returns how many pages that are, and in @areas how many
 * areas are so as a whole.
 */
static unsigned long nr_changed(int fd, bool before, unsigned long *areas)
{
	unsigned long sum = 0;

	*areas = 0;
	must(lseek(before_fd, 0, SEEK_SET) == 0);
	for (unsigned int i = 0; i < nr_ranges; i++) {
		for (unsigned long first = 0; first < ranges[i].n; first += AREA) {
			unsigned long n = area_pages(&ranges[i], first), nr = 0;
			ssize_t bytes = n * sizeof(*entries);

			read_entries(fd, ranges[i].mem + first * PAGE, n);
			if (before)
				must(read(before_fd, entries_before, bytes) == bytes);
			for (unsigned long k = 0; k < n; k++)
				nr += before ? changed(entries_before[k], entries[k]) :
					       !!(entries[k] & PM_PRESENT);
			sum += nr;
			*areas += nr == AREA;
		}
	}
	return sum;
}

static void count_tables(struct counts *c)
{
	unsigned long after = pmds_of(smaps_fd), areas, pages, most, whole;

	pages = nr_changed(pagemap_fd, true, &areas);
	most = after > pmds_before ? after : pmds_before;
	/* Whole areas that changed, as many of them as can have been mapped by a PMD. */
	whole = areas < most ? areas : most;
	c->ptes = pages - whole * AREA;
	/* Some were replaced by a page table. */
	c->pmds = most - (after < pmds_before ? after : pmds_before);
	if (c->pmds < whole)
		c->pmds = whole;
}

struct counts tables_of(pid_t pid)
{
	unsigned long areas, pmds;
	struct counts c = {};
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/smaps", pid);
	fd = open_file(path);
	pmds = pmds_of(fd);
	must(!close(fd));
	snprintf(path, sizeof(path), "/proc/%d/pagemap", pid);
	fd = open_file(path);
	c.ptes = nr_changed(fd, false, &areas);
	must(!close(fd));
	c.pmds = areas < pmds ? areas : pmds;
	c.ptes -= c.pmds * AREA;
	return c;
}

/* ---- hardware counters ---- */

static int open_counter(uint32_t type, uint64_t config, int group)
{
	struct perf_event_attr attr = {
		.type = type,
		.size = sizeof(attr),
		.config = config,
		.read_format = PERF_FORMAT_GROUP,
		.exclude_hv = 1,
	};

	return syscall(SYS_perf_event_open, &attr, 0, -1, group, PERF_FLAG_FD_CLOEXEC);
}

/* Of the thread that runs the case.  Without them there are only times. */
static void open_counters(void)
{
	static const uint64_t dtlb = PERF_COUNT_HW_CACHE_DTLB |
		PERF_COUNT_HW_CACHE_OP_READ << 8 | PERF_COUNT_HW_CACHE_RESULT_MISS << 16;

	perf_fd = open_counter(PERF_TYPE_HARDWARE, PERF_COUNT_HW_INSTRUCTIONS, -1);
	if (perf_fd < 0 ||
	    open_counter(PERF_TYPE_HARDWARE, PERF_COUNT_HW_CPU_CYCLES, perf_fd) < 0) {
		fprintf(stderr, "bench: no hardware counters: %s\n", strerror(errno));
		perf_fd = -1;
		return;
	}
	if (open_counter(PERF_TYPE_HW_CACHE, dtlb, perf_fd) < 0)
		fprintf(stderr, "bench: no counter of dTLB misses: %s\n", strerror(errno));
}

static void read_counters(struct counts *c)
{
	uint64_t values[1 + 3] = {};

	if (perf_fd < 0)
		return;
	must(read(perf_fd, values, sizeof(values)) > 0);
	c->nr_hw = values[0];
	memcpy(c->hw, values + 1, sizeof(c->hw));
}

/* ---- start and stop ---- */

void count_init(void)
{
	before_fd = memfd_create("before", MFD_CLOEXEC);
	must(before_fd >= 0);
	vmstat_fd = open_file("/proc/vmstat");
	interrupts_fd = open_file("/proc/interrupts");
	pagemap_fd = open_file("/proc/self/pagemap");
	smaps_fd = open_file("/proc/self/smaps");
	if (mode == HERE)
		open_counters();
}

static uint64_t faults(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_minflt + usage.ru_majflt;
}

void start(void)
{
	save_entries();
	pmds_before = pmds_of(smaps_fd);
	begin.tlb = shootdowns();
	begin.pages = taken_pages();
	begin.faults = faults();
	read_counters(&begin);
	begin.ns = now_ns();
}

struct counts stop(void)
{
	struct counts c = { .ns = now_ns() - begin.ns };

	read_counters(&c);
	for (unsigned int i = 0; i < c.nr_hw; i++)
		c.hw[i] -= begin.hw[i];
	c.faults = faults() - begin.faults;
	c.pages = taken_pages() - begin.pages;
	c.tlb = shootdowns() - begin.tlb;
	count_tables(&c);
	return c;
}

void add_counts(struct counts *sum, struct counts c)
{
	sum->ns += c.ns;
	sum->faults += c.faults;
	sum->pages += c.pages;
	sum->ptes += c.ptes;
	sum->pmds += c.pmds;
	sum->tlb += c.tlb;
	sum->nr_hw = c.nr_hw;
	for (unsigned int i = 0; i < c.nr_hw; i++)
		sum->hw[i] += c.hw[i];
}

static int compare_counts(const void *a, const void *b)
{
	const struct counts *x = a, *y = b;

	return (x->ns > y->ns) - (x->ns < y->ns);
}

struct counts median_counts(struct counts *counts, unsigned int n)
{
	qsort(counts, n, sizeof(*counts), compare_counts);
	return counts[n / 2];
}

void record_counts_as(const char *name, unsigned int mib, const char *impl,
		      struct counts c, unsigned long n)
{
	static const char *const hw[] = { "hw_insns", "cycles", "dtlb" };

	if (mode != ICOUNT)
		record_as(name, mib, impl, "tlb", (double)c.tlb / n);
	/* With two CPUs under an emulator there is nothing else to learn. */
	if (mode == SMP)
		return;
	if (mode == ICOUNT)
		record_as(name, mib, impl, "insns", (double)c.ns / n);
	else
		record_as(name, mib, impl, "us", (double)c.ns / 1000 / n);
	record_as(name, mib, impl, "faults", (double)c.faults / n);
	record_as(name, mib, impl, "pages", (double)c.pages / n);
	record_as(name, mib, impl, "ptes", (double)c.ptes / n);
	record_as(name, mib, impl, "pmds", (double)c.pmds / n);
	for (unsigned int i = 0; i < c.nr_hw; i++)
		record_as(name, mib, impl, hw[i], (double)c.hw[i] / n);
}

void record_counts(const struct bench_case *c, unsigned int mib,
		   struct counts counts, unsigned long n)
{
	record_counts_as(c->name, mib, c->impl, counts, n);
}

/* ---- another CPU that has the process's memory in use ---- */

static void pin_to(unsigned int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	must(!sched_setaffinity(0, sizeof(set), &set));
}

static __attribute__((noreturn)) void *spin(void *arg)
{
	pin_to((uintptr_t)arg);
	for (;;)
		__asm__ volatile("" ::: "memory");
}

void use_two_cpus(void)
{
	unsigned int first = 0, last = CPU_SETSIZE - 1;
	pthread_t thread;
	cpu_set_t set;

	must(!sched_getaffinity(0, sizeof(set), &set));
	while (!CPU_ISSET(first, &set))
		first++;
	while (!CPU_ISSET(last, &set))
		last--;
	if (first != last)
		must(!pthread_create(&thread, NULL, spin, (void *)(uintptr_t)last));
	pin_to(first);
}
