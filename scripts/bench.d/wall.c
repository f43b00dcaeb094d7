// SPDX-License-Identifier: GPL-2.0-only
/*
 * Cases that take two CPUs, and real time
 *
 * Whatever else the machine does shows in these figures: each is the median of
 * several runs, and cowmem and its peer do the same things in the same order.
 */
#define _GNU_SOURCE
#include "bench.h"

#include <pthread.h>
#include <sched.h>
#include <time.h>

static void pin(unsigned int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	must(!sched_setaffinity(0, sizeof(set), &set));
}

/* ---- writer_stall ---- */

#define PERIOD_NS	20000000
#define RUN_NS		200000000ULL	/* 10 copies, if they can be had */
#define STALL_RUNS	25
#define LOOK_US		20000		/* the writer goes on meanwhile */
#define WAITS		(16 * 61)

/*
 * A writer on one CPU stamps pages, all over its memory and each once in a round,
 * with 1, 2, 3 ...  What is measured is the longest time between two stamps, and how
 * long somebody waits who comes at any instant and wants one: of a thousand, all but
 * one.  That depends on how much of the time goes into long waits, not on how many
 * stamps there are besides, as a percentile of all stamps would.
 */
struct writer {
	char *mem;
	unsigned long n;	/* pages, a power of 2 */
	uint64_t stamp;		/* the last one */
	uint64_t longest_ns;
	uint64_t waits[WAITS];	/* how many waits were so long: see wait_class() */
	uint64_t sums[WAITS];	/* and how long together */
	unsigned long copies;
	bool stop;
};

/* 16 classes for each doubling. */
static unsigned int wait_class(uint64_t ns)
{
	unsigned int log;

	if (ns < 16)
		return ns;
	log = 63 - __builtin_clzll(ns);
	return 16 * (log - 3) + (ns >> (log - 4) & 15);
}

/* Where a class starts. */
static double wait_ns(unsigned int class)
{
	return class < 16 ? class : (double)((16ULL + class % 16) << (class / 16 - 1));
}

/* Who comes during a wait of w waits for longer than x in w - x of that time. */
static double p999_us(const struct writer *w)
{
	double all = 0, longer = 0, nr = 0;
	unsigned int i = WAITS;

	for (unsigned int k = 0; k < WAITS; k++)
		all += w->sums[k];
	while (i-- > 0) {
		nr += w->waits[i];
		longer += w->sums[i];
		if (longer - nr * wait_ns(i) >= all / 1000)
			break;
	}
	/* Within the class the longer ones are linear: longer - nr * x == all / 1000. */
	return nr ? (longer - all / 1000) / nr / 1000 : 0;
}

static volatile uint64_t *place_of(const struct writer *w, const char *mem,
				   uint64_t stamp)
{
	unsigned long page = stamp * 40503 & (w->n - 1);

	return (volatile uint64_t *)(mem + page * PAGE);
}

static void *write_stamps(void *arg)
{
	struct writer *w = arg;
	uint64_t last, now, longest = 0, stamp = w->stamp;
	unsigned int class;

	pin(1);
	last = now_ns();
	while (!__atomic_load_n(&w->stop, __ATOMIC_RELAXED)) {
		stamp++;
		*place_of(w, w->mem, stamp) = stamp;
		now = now_ns();
		if (now - last > longest)
			longest = now - last;
		class = wait_class(now - last);
		w->waits[class]++;
		w->sums[class] += now - last;
		last = now;
	}
	w->stamp = stamp;
	w->longest_ns = longest;
	return NULL;
}

/*
 * @mem is a copy of the writer's memory.  It must look as that did after some
 * stamp: none before it is missing, and none after it is there.
 */
static void check_stamps(const struct writer *w, const char *mem)
{
	uint64_t last = 0;

	for (unsigned long i = 0; i < w->n; i++) {
		if (*place_of(w, mem, i) > last)
			last = *place_of(w, mem, i);
	}
	/* If the writer gets at the copy, give it the time to. */
	usleep(LOOK_US);
	for (uint64_t i = 0; i < w->n; i++) {
		if (*place_of(w, mem, last - i) != last - i)
			die("the copy has stamp %llu but not %llu",
			    (unsigned long long)last, (unsigned long long)(last - i));
	}
}

/* Copy the writer's memory while it writes, and drop the copy, after a look at it. */
typedef void shoot_fn(const struct writer *w, int fd, bool look);

static void shoot_clone(const struct writer *w, int fd, bool look)
{
	int clone = clone_of(fd, COWMEM_CLONE_SNAPSHOT);

	if (look) {
		char *mem = map_file(clone, w->n, PROT_READ, MAP_SHARED);

		check_stamps(w, mem);
		must(!munmap(mem, w->n * PAGE));
	}
	must(!close(clone));
}

static void shoot_fork(const struct writer *w, int fd, bool look)
{
	pid_t pid = fork();
	int status;

	must(pid >= 0);
	if (!pid) {
		if (look)
			check_stamps(w, w->mem);
		_exit(0);
	}
	must(waitpid(pid, &status, 0) == pid);
	if (status)
		die("the child failed");
}

/* What the machine takes for itself: shown, so that one knows. */
static void shoot_nothing(const struct writer *w, int fd, bool look)
{
}

/* One run. Who cannot copy every 20 ms does it as often as possible. */
static double stall_us(struct writer *w, int fd, shoot_fn *shoot, bool look)
{
	uint64_t begun = now_ns(), next = begun;
	pthread_t thread;

	w->stop = false;
	must(!pthread_create(&thread, NULL, write_stamps, w));
	do {
		struct timespec t;

		next += PERIOD_NS;
		if (next < now_ns())
			next = now_ns();
		t.tv_sec = next / 1000000000;
		t.tv_nsec = next % 1000000000;
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
		shoot(w, fd, look);
		w->copies++;
	} while (!look && now_ns() - begun < RUN_NS);
	__atomic_store_n(&w->stop, true, __ATOMIC_RELAXED);
	must(!pthread_join(thread, NULL));
	return w->longest_ns / 1e3;
}

/* The writer's memory, as the case wants it. */
static int stall_memory(const struct bench_case *c, struct writer *w)
{
	bool huge = strstr(c->name, "_huge");
	int fd;

	if (strcmp(c->impl, "cowmem")) {
		w->mem = map_anon(w->n, !strcmp(c->impl, "thp"));
		return -1;
	}
	fd = new_region(w->n);
	w->mem = map_region(fd, w->n, huge ? HUGE_PAGES : SMALL_PAGES);
	return fd;
}

static void run_stall(const struct bench_case *c, unsigned int mib)
{
	struct writer w = { .n = pages_of(mib) };
	int fd = stall_memory(c, &w);
	shoot_fn *shoot = shoot_fork;
	struct counts took = {};
	double us[STALL_RUNS], p999[STALL_RUNS];
	char name[64];

	if (!strcmp(c->impl, "cowmem"))
		shoot = shoot_clone;
	else if (!strcmp(c->impl, "anon"))
		shoot = shoot_nothing;
	/* The first round, so that every page has a stamp. */
	while (w.stamp < w.n) {
		w.stamp++;
		*place_of(&w, w.mem, w.stamp) = w.stamp;
	}

	pin(0);
	for (unsigned int i = 0; i < STALL_RUNS; i++) {
		memset(w.waits, 0, sizeof(w.waits));
		memset(w.sums, 0, sizeof(w.sums));
		start();
		us[i] = stall_us(&w, fd, shoot, false);
		add_counts(&took, stop());
		p999[i] = p999_us(&w);
	}
	record(c, mib, "us", median(us, STALL_RUNS));
	snprintf(name, sizeof(name), "%s_p999", c->name);
	record_as(name, mib, c->impl, "us", median(p999, STALL_RUNS));
	/* For each copy, with the writes that come after it. */
	record(c, mib, "faults", (double)took.faults / w.copies);
	record(c, mib, "pages", (double)took.pages / w.copies);
	record(c, mib, "tlb", (double)took.tlb / w.copies);

	/* To look at a copy takes time, so this one is not measured. */
	stall_us(&w, fd, shoot, true);
	check_stamps(&w, w.mem);
}

/* ---- merge ---- */

#define MERGE_RUNS	5
#define KSM		"/sys/kernel/mm/ksm/"

/* Two areas of @n pages: all differ, but each has its like in the other area. */
static void fill_twins(char *twins[2], unsigned long n)
{
	fill(twins[0], 0, n, 1);
	fill(twins[1], 0, n, 1);
}

static void check_twins(char *twins[2], unsigned long n)
{
	check(twins[0], 0, n, 1, 1);
	check(twins[1], 0, n, 1, 1);
	/* Shared they may be, but not the same. */
	poke(twins[0], n / 2, 2);
	check(twins[1], 0, n, 1, 1);
}

static void run_merge(const struct bench_case *c, unsigned int mib)
{
	unsigned long n = pages_of(mib);
	/*
	 * 8 for each page, so that collisions lose next to none: 128 bytes, where KSM
	 * takes 64 for each page and 64 more for each that it shares.
	 */
	unsigned long entries = 16 * n, bytes = entries * sizeof(struct cowmem_merge_entry);
	double us[MERGE_RUNS];

	for (unsigned int i = 0; i < MERGE_RUNS; i++) {
		struct cowmem_merge_range ranges[2] = {};
		struct cowmem_merge merge = {
			.ranges = (uintptr_t)ranges,
			.count = 2,
			.entries = entries,
		};
		unsigned int passes = 0;
		uint64_t saved = 0, begun;
		char *twins[2], *table;

		for (unsigned int j = 0; j < 2; j++) {
			ranges[j].fd = new_region(n);
			twins[j] = map_rw(ranges[j].fd, n);
		}
		fill_twins(twins, n);

		/* KSM makes its tables while it runs, so this is a part of it. */
		begun = now_ns();
		table = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		must(table != MAP_FAILED);
		merge.table = (uintptr_t)table;
		while (saved < n * PAGE) {
			must(!ioctl(ranges[0].fd, COWMEM_IOC_MERGE, &merge));
			saved += merge.saved;
			if (merge.next < merge.count)
				continue;
			/* What collides in one table does not in one of another size. */
			if (++passes == 4)
				die("MERGE saved %llu bytes", (unsigned long long)saved);
			must(!madvise(table, bytes, MADV_DONTNEED));
			merge.entries -= entries / 7;
			merge.next = 0;
			merge.offset = 0;
		}
		us[i] = (now_ns() - begun) / 1e3;
		must(saved == n * PAGE);
		check_twins(twins, n);
		must(!munmap(table, bytes));
		for (unsigned int j = 0; j < 2; j++)
			must(!munmap(twins[j], n * PAGE) && !close(ranges[j].fd));
	}
	record(c, mib, "us", median(us, MERGE_RUNS));
}

static void set_ksm(const char *name, unsigned long value)
{
	char path[64];
	FILE *f;

	snprintf(path, sizeof(path), KSM "%s", name);
	f = fopen(path, "w");
	must(f);
	must(fprintf(f, "%lu\n", value) > 0);
	must(!fclose(f));
}

static unsigned long get_ksm(const char *name)
{
	unsigned long value;
	char path[64];
	FILE *f;

	snprintf(path, sizeof(path), KSM "%s", name);
	f = fopen(path, "r");
	must(f);
	must(fscanf(f, "%lu", &value) == 1);
	must(!fclose(f));
	return value;
}

static void run_ksm(const struct bench_case *c, unsigned int mib)
{
	unsigned long n = pages_of(mib);
	unsigned long pause, scan;
	double us[MERGE_RUNS];

	if (get_ksm("run")) {
		fprintf(stderr, "bench: %s of KSM: left out, as that is in use\n", c->name);
		return;
	}
	pause = get_ksm("sleep_millisecs");
	scan = get_ksm("pages_to_scan");
	/* As fast as it can: no pause, and all pages in one go. */
	set_ksm("sleep_millisecs", 0);
	set_ksm("pages_to_scan", 8 * n);
	for (unsigned int i = 0; i < MERGE_RUNS; i++) {
		char *twins[2] = { map_anon(n, false), map_anon(n, false) };
		uint64_t begun;

		fill_twins(twins, n);
		for (unsigned int j = 0; j < 2; j++)
			must(!madvise(twins[j], n * PAGE, MADV_MERGEABLE));
		begun = now_ns();
		set_ksm("run", 1);
		while (get_ksm("pages_sharing") < n) {
			usleep(1000);
			if (now_ns() - begun > 60000000000ULL)
				die("KSM shares %lu pages", get_ksm("pages_sharing"));
		}
		us[i] = (now_ns() - begun) / 1e3;
		set_ksm("run", 0);
		check_twins(twins, n);
		set_ksm("run", 2);	/* split all, forget all */
		for (unsigned int j = 0; j < 2; j++)
			must(!munmap(twins[j], n * PAGE));
	}
	set_ksm("run", 0);
	set_ksm("sleep_millisecs", pause);
	set_ksm("pages_to_scan", scan);
	record(c, mib, "us", median(us, MERGE_RUNS));
}

/* ---- faults_1cpu, faults_2cpu ---- */

#define FAULT_RUNS	7
#define AREA		(2UL << 20)

struct toucher {
	char *mem;
	unsigned long n;
	unsigned int cpu, cpus;
	pthread_barrier_t *barrier;
	uint64_t begun, done;
};

/* Write each page of every area of 2 MiB that is this CPU's. */
static void *touch(void *arg)
{
	struct toucher *t = arg;
	unsigned long pages = AREA / PAGE;

	pin(t->cpu);
	pthread_barrier_wait(t->barrier);
	t->begun = now_ns();
	for (unsigned long first = t->cpu * pages; first < t->n; first += t->cpus * pages) {
		for (unsigned long page = first; page < first + pages; page++)
			poke(t->mem, page, 1);
	}
	t->done = now_ns();
	return NULL;
}

/* How many pages a second @cpus CPUs write for the first time. */
static double touch_all(char *mem, unsigned long n, unsigned int cpus)
{
	uint64_t begun = UINT64_MAX, done = 0;
	pthread_barrier_t barrier;
	struct toucher t[2];
	pthread_t thread[2];

	pthread_barrier_init(&barrier, NULL, cpus);
	for (unsigned int i = 0; i < cpus; i++) {
		t[i] = (struct toucher){
			.mem = mem, .n = n, .cpu = i, .cpus = cpus, .barrier = &barrier,
		};
		must(!pthread_create(&thread[i], NULL, touch, &t[i]));
	}
	for (unsigned int i = 0; i < cpus; i++) {
		must(!pthread_join(thread[i], NULL));
		begun = t[i].begun < begun ? t[i].begun : begun;
		done = t[i].done > done ? t[i].done : done;
	}
	pthread_barrier_destroy(&barrier);
	check(mem, 0, n, 1, 0);
	return n / ((done - begun) / 1e9);
}

static void run_faults(const struct bench_case *c, unsigned int mib)
{
	bool cowmem = !strcmp(c->impl, "cowmem");
	unsigned long n = pages_of(mib);
	double rate[2][FAULT_RUNS];

	/* By turns, so that what else goes on is the same for both. */
	for (unsigned int i = 0; i < 2 * FAULT_RUNS; i++) {
		int fd = cowmem ? new_region(n) : -1;
		char *mem = cowmem ? map_rw(fd, n) : map_anon(n, false);

		rate[i % 2][i / 2] = touch_all(mem, n, 1 + i % 2);
		must(!munmap(mem, n * PAGE));
		if (cowmem)
			must(!close(fd));
	}
	record_as("faults_1cpu", mib, c->impl, "ops_s", median(rate[0], FAULT_RUNS));
	record_as("faults_2cpu", mib, c->impl, "ops_s", median(rate[1], FAULT_RUNS));
}

const struct bench_case wall_cases[] = {
	{ "writer_stall", "cowmem", { 256 }, run_stall, 2 },
	{ "writer_stall", "fork", { 256 }, run_stall, 2 },
	{ "writer_stall", "anon", { 256 }, run_stall, 2 },
	{ "writer_stall_huge", "cowmem", { 256 }, run_stall, 2 },
	{ "writer_stall_huge", "fork", { 256 }, run_stall, 2 },
	{ "writer_stall_huge", "thp", { 256 }, run_stall, 2 },
	{ "merge", "cowmem", { 64 }, run_merge, 2 },
	{ "merge", "ksm", { 64 }, run_ksm, 2 },
	{ "faults_2cpu", "cowmem", { 256 }, run_faults, 2 },
	{ "faults_2cpu", "anon", { 256 }, run_faults, 2 },
	{}
};
