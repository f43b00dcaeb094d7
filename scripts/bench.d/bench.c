// SPDX-License-Identifier: GPL-2.0-only
/*
 * Measure cowmem and its peers; see scripts/bench and bench.h
 *
 * Usage: bench icount|smp|wall|here [CASE...]
 *	  bench names icount|smp|wall|here
 *
 * Prints one JSON object per figure to stdout, what it is at to stderr; or only
 * which cases there are.
 */
#define _GNU_SOURCE
#include "bench.h"

#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/utsname.h>

#define HUGE	(2UL << 20)

enum mode mode;
static const char *const mode_names[] = {
	[ICOUNT] = "icount", [SMP] = "smp", [WALL] = "wall", [HERE] = "here",
};

void bench_die(const char *file, int line, const char *fmt, ...)
{
	va_list args;

	fprintf(stderr, "bench: %s:%d: ", file, line);
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fputc('\n', stderr);
	exit(1);
}

/* ---- figures ---- */

void record_as(const char *name, unsigned int mib, const char *impl,
	       const char *metric, double value)
{
	struct utsname uts;

	must(!uname(&uts));
	printf("{\"kernel\":\"%s\",\"mode\":\"%s\",\"case\":\"%s\",\"size_mib\":%u,\"impl\":\"%s\",\"metric\":\"%s\",\"value\":%.3f}\n",
	       uts.release, mode_names[mode], name, mib, impl, metric, value);
	must(!fflush(stdout));
}

void record(const struct bench_case *c, unsigned int mib, const char *metric,
	    double value)
{
	record_as(c->name, mib, c->impl, metric, value);
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double median(double *values, unsigned int n)
{
	qsort(values, n, sizeof(*values), compare);
	return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

/* ---- memory and content ---- */

void fill(char *mem, unsigned long first, unsigned long n, unsigned int tag)
{
	unsigned long page, i;
	uint64_t *p = (uint64_t *)mem;

	for (page = first; page < first + n; page++) {
		uint64_t word = word_of(tag, page);

		for (i = 0; i < PAGE / sizeof(*p); i++)
			*p++ = word;
	}
}

void check(const char *mem, unsigned long first, unsigned long n,
	   unsigned int head, unsigned int rest)
{
	const uint64_t *p = (const uint64_t *)mem;
	unsigned long page, i;

	for (page = first; page < first + n; page++, p += PAGE / sizeof(*p)) {
		uint64_t word = word_of(rest, page), wrong = 0;

		if (p[0] != word_of(head, page))
			die("page %lu: first word is %016llx, not %016llx of tag %u", page,
			    (unsigned long long)p[0],
			    (unsigned long long)word_of(head, page), head);
		for (i = 1; i < PAGE / sizeof(*p); i++)
			wrong |= p[i] ^ word;
		if (wrong)
			die("page %lu: not all words are %016llx of tag %u", page,
			    (unsigned long long)word, rest);
	}
}

void read_all(const char *mem, unsigned long n)
{
	unsigned long page;

	for (page = 0; page < n; page++)
		peek(mem, page);
}

uint64_t rng(void)
{
	static uint64_t state = 88172645463325252ULL;

	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

unsigned long draw(unsigned long *list, unsigned long n, unsigned long i)
{
	unsigned long other = i + rng() % (n - i), page = list[other];

	list[other] = list[i];
	list[i] = page;
	return page;
}

/* @flags has MAP_FIXED added, on address space that is aligned to a huge page. */
static char *map_aligned(int fd, unsigned long n, int prot, int flags)
{
	char *space = mmap(NULL, n * PAGE + HUGE, PROT_NONE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	char *mem = (char *)(((uintptr_t)space + HUGE - 1) & ~(HUGE - 1));

	must(space != MAP_FAILED);
	must(!munmap(space, n * PAGE + HUGE));
	must(mmap(mem, n * PAGE, prot, flags | MAP_FIXED_NOREPLACE, fd, 0) == mem);
	watch(mem, n);
	return mem;
}

/* A kernel without huge pages needs not be told. */
static void advise(char *mem, unsigned long n, bool huge)
{
	must(!madvise(mem, n * PAGE, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE) ||
	     (errno == EINVAL && !huge));
}

char *map_anon(unsigned long n, bool thp)
{
	char *mem = map_aligned(-1, n, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS);

	advise(mem, n, thp);
	return mem;
}

char *map_file(int fd, unsigned long n, int prot, int flags)
{
	return map_aligned(fd, n, prot, flags);
}

int new_memfd(unsigned long n)
{
	int fd = memfd_create("bench", MFD_CLOEXEC);

	must(fd >= 0);
	must(!ftruncate(fd, n * PAGE));
	return fd;
}

/* ---- cowmem ---- */

int new_region(unsigned long n)
{
	struct cowmem_resize resize = { .size = n * PAGE };
	int fd = open("/dev/cowmem", O_RDWR | O_CLOEXEC);

	must(fd >= 0);
	must(!ioctl(fd, COWMEM_IOC_RESIZE, &resize));
	return fd;
}

int clone_of(int fd, unsigned int flags)
{
	struct cowmem_clone clone = { .flags = flags };

	must(!ioctl(fd, COWMEM_IOC_CLONE, &clone));
	return clone.fd;
}

char *map_region(int fd, unsigned long n, enum size size)
{
	char *mem = map_file(fd, n, PROT_READ | PROT_WRITE, MAP_SHARED);
	static bool said;

	if (size != ANY_PAGES)
		advise(mem, n, size == HUGE_PAGES);
	if (size != SMALL_PAGES && !said && !(info_of(fd).features & COWMEM_FEATURE_HUGE)) {
		fprintf(stderr, "bench: the module has no huge pages: 4 KiB ones are measured\n");
		said = true;
	}
	return mem;
}

struct cowmem_info info_of(int fd)
{
	struct cowmem_info info = { 0 };

	must(!ioctl(fd, COWMEM_IOC_INFO, &info));
	return info;
}

void tell_huge(const struct bench_case *c, int fd)
{
	struct cowmem_info info = info_of(fd);

	if ((info.features & COWMEM_FEATURE_HUGE) &&
	    info.pages_huge < info.pages_populated - info.pages_populated / 10)
		fprintf(stderr, "bench: %s: of %llu pages only %llu are huge\n", c->name,
			info.pages_populated, info.pages_huge);
}

/* ---- children ---- */

/*
 * On the same CPU the child might run before fork() returns in the parent, which is
 * not the parent's time.  A FIFO parent goes first.
 */
static void go_first(bool on)
{
	struct sched_param param = { .sched_priority = on };

	must(!sched_setscheduler(0, on ? SCHED_FIFO | SCHED_RESET_ON_FORK : SCHED_OTHER,
				 &param));
}

/* The child sleeps by the time this returns. */
pid_t fork_child(struct counts *took)
{
	struct counts c;
	int ready[2];
	char byte;
	pid_t pid;

	must(!pipe2(ready, O_CLOEXEC));
	go_first(true);
	start();
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(ready[0]);
		close(ready[1]);
		for (;;)
			pause();
	}
	c = stop();
	go_first(false);
	must(pid > 0);
	close(ready[1]);
	must(read(ready[0], &byte, 1) == 0);
	close(ready[0]);
	if (took) {
		add_counts(&c, tables_of(pid));
		*took = c;
	}
	return pid;
}

void end_child(pid_t pid)
{
	must(!kill(pid, SIGKILL));
	must(waitpid(pid, NULL, 0) == pid);
}

/* ---- running ---- */

static uint64_t available_mib(void)
{
	unsigned long kib;
	char line[128];
	FILE *f = fopen("/proc/meminfo", "r");

	must(f);
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "MemAvailable: %lu kB", &kib) == 1) {
			fclose(f);
			return kib >> 10;
		}
	}
	die("no MemAvailable in /proc/meminfo");
}

static unsigned int run_case(const struct bench_case *c)
{
	const unsigned int *mib;
	unsigned int ran = 0;
	int status;
	pid_t pid;

	for (mib = c->mib; *mib; mib++) {
		uint64_t ns = now_ns();

		/* The memory, a clone of it that was written, and another one. */
		if (mode == HERE && available_mib() < *mib * 3) {
			fprintf(stderr, "bench: %s of %s, %u MiB: left out, as memory is short\n",
				c->name, c->impl, *mib);
			continue;
		}
		pid = fork();
		must(pid >= 0);
		if (!pid) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			count_init();
			if (!c->cpus && mode != ICOUNT)
				use_two_cpus();
			c->run(c, *mib);
			exit(0);
		}
		must(waitpid(pid, &status, 0) == pid);
		if (status)
			die("%s of %s, %u MiB: status %#x", c->name, c->impl, *mib, status);
		fprintf(stderr, "bench: %s %s %u MiB: %.1f s\n", c->name, c->impl, *mib,
			(now_ns() - ns) / 1e9);
		ran++;
	}
	return ran;
}

static bool wanted(const char *name, char **names)
{
	char **wanted;

	for (wanted = names; *wanted; wanted++)
		if (!strcmp(name, *wanted))
			return true;
	return !*names;
}

static enum mode mode_of(const char *name)
{
	for (unsigned int i = 0; i < sizeof(mode_names) / sizeof(*mode_names); i++)
		if (!strcmp(mode_names[i], name))
			return i;
	die("usage: bench icount|smp|wall|here [CASE...] | bench names icount|smp|wall|here");
}

int main(int argc, char **argv)
{
	const struct bench_case *const tables[] = {
		clone_cases, fault_cases, state_cases, map_cases, fs_cases, wall_cases,
	};
	bool names = argc == 3 && !strcmp(argv[1], "names");
	unsigned int ran = 0, cpus;

	mode = mode_of(argc > 1 ? argv[1 + names] : "");
	cpus = mode == WALL ? 2 : 0;
	for (unsigned int i = 0; i < sizeof(tables) / sizeof(*tables); i++) {
		for (const struct bench_case *c = tables[i]; c->name; c++) {
			if (mode != HERE && c->cpus != cpus)
				continue;
			if (names)
				puts(c->name);
			else if (wanted(c->name, argv + 2))
				ran += run_case(c);
		}
	}
	if (!names && !ran)
		die("no such case");
	return 0;
}
