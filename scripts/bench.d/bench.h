/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the cases of scripts/bench share
 *
 * The program runs in one of four modes:
 * - "icount": a guest with one CPU and a clock that counts instructions, one a
 *   nanosecond, so what a case takes is the same each time, to 0.1 %.
 * - "smp": the same cases in a guest of two CPUs; a second thread keeps the other
 *   one busy, so that TLB shootdowns happen.  They are all that is reported.
 * - "wall": other cases, in a guest with two CPUs and a real clock; take medians of
 *   several rounds.
 * - "here": all cases, by the clock and the counters of the machine that it is on,
 *   with the second thread as in "smp".
 *
 * A case has an entry for each implementation (cowmem and its peers).  Each entry
 * runs in a process of its own, which starts small and ends by returning; what
 * it leaves behind (memory, descriptors) goes with it, children do not.
 *
 * Whatever is wrong, a failed call as well as a wrong byte, ends the run: die().
 *
 * Content is described by tags.  Tag 0 is zeroes; any other tag stands for a word
 * that depends on the tag and on the index of the page.  fill() writes it to the
 * whole page, poke() to the page's first word only, which is what is measured.
 */
#ifndef BENCH_H
#define BENCH_H

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>
#include <linux/cowmem.h>

#define PAGE	4096UL

/**
 * struct bench_case - a case with one implementation
 * @name: of the case; one name may have several entries.
 * @impl: "cowmem", or the peer: "fork" (anonymous memory around a fork), "anon",
 *	"thp", "memfd", "tmpfs", "uffd", "ksm", "memcpy", "memcmp".
 * @mib: sizes to run it with, in MiB, ended by 0.
 * @run: runs it and reports by record().
 * @cpus: 2 if it uses two CPUs itself; it is about time then.
 */
struct bench_case {
	const char *name;
	const char *impl;
	unsigned int mib[4];
	void (*run)(const struct bench_case *c, unsigned int mib);
	unsigned int cpus;
};

/* Each ends with an entry without a name. */
extern const struct bench_case clone_cases[], fault_cases[], state_cases[];
extern const struct bench_case map_cases[], fs_cases[], wall_cases[];

enum mode { ICOUNT, SMP, WALL, HERE };
extern enum mode mode;

#define die(...) bench_die(__FILE__, __LINE__, __VA_ARGS__)
void bench_die(const char *file, int line, const char *fmt, ...)
	__attribute__((noreturn, format(printf, 3, 4)));

/* For calls that must not fail; prints what and errno. */
#define must(cond) do {							\
	if (!(cond))							\
		die("%s: %s", #cond, strerror(errno));			\
} while (0)

/* ---- measuring ---- */

/* What count.c counts from start() to stop(), and how; in icount mode @ns are instructions. */
struct counts {
	uint64_t ns;
	uint64_t faults;
	uint64_t pages;
	uint64_t ptes;
	uint64_t pmds;
	uint64_t tlb;
	unsigned int nr_hw;	/* how many hardware counters there are */
	uint64_t hw[3];		/* instructions, cycles, dTLB misses */
};

uint64_t now_ns(void);
/* Once in each case's process. */
void count_init(void);
void start(void);
struct counts stop(void);
void add_counts(struct counts *sum, struct counts c);
/* Page table entries of another process, where this one has its memory. */
struct counts tables_of(pid_t pid);
/* Have @mem looked at, instead of what was there before. */
void watch(char *mem, unsigned long n);
/* Stay on one CPU, while another thread keeps another one busy. */
void use_two_cpus(void);

/*
 * Report a figure.  Metrics: "insns", "bytes", "us", "ops_s", and what is counted.
 * One record for each case, size, implementation and metric; record_as() names the
 * first and the third itself.
 */
void record(const struct bench_case *c, unsigned int mib, const char *metric,
	    double value);
void record_as(const char *name, unsigned int mib, const char *impl,
	       const char *metric, double value);

/* Report what one of @n pages (or calls) took. */
void record_counts_as(const char *name, unsigned int mib, const char *impl,
		      struct counts counts, unsigned long n);
void record_counts(const struct bench_case *c, unsigned int mib,
		   struct counts counts, unsigned long n);

double median(double *values, unsigned int n);
/* The one whose time is in the middle; of two, the longer. */
struct counts median_counts(struct counts *counts, unsigned int n);

/* ---- memory and content; sizes and places in pages ---- */

static inline unsigned long pages_of(unsigned int mib)
{
	return ((unsigned long)mib << 20) / PAGE;
}

static inline uint64_t word_of(unsigned int tag, unsigned long page)
{
	return tag ? (tag * 0x9e3779b97f4a7c15ULL) ^ (page * 0xc2b2ae3d27d4eb4fULL) : 0;
}

static inline void poke(char *mem, unsigned long page, unsigned int tag)
{
	*(volatile uint64_t *)(mem + page * PAGE) = word_of(tag, page);
}

static inline uint64_t peek(const char *mem, unsigned long page)
{
	return *(const volatile uint64_t *)(mem + page * PAGE);
}

void read_all(const char *mem, unsigned long n);

/* The same numbers in each entry of a case, so that all do the same. */
uint64_t rng(void);
/* Swap a random one of @list[@i...@n-1] to @list[@i], and return it. */
unsigned long draw(unsigned long *list, unsigned long n, unsigned long i);

/* @mem shows page @first; whole pages. */
void fill(char *mem, unsigned long first, unsigned long n, unsigned int tag);
/* The first word must be of @head, all others of @rest. */
void check(const char *mem, unsigned long first, unsigned long n,
	   unsigned int head, unsigned int rest);

/* Anonymous memory on 2 MiB; without huge pages, or with (@thp). */
char *map_anon(unsigned long n, bool thp);
/* A mapping on 2 MiB of all of a file: @flags MAP_SHARED or MAP_PRIVATE. */
char *map_file(int fd, unsigned long n, int prot, int flags);
int new_memfd(unsigned long n);

/* ---- cowmem ---- */

int new_region(unsigned long n);
int clone_of(int fd, unsigned int flags);
struct cowmem_info info_of(int fd);

/*
 * A writable mapping of a region: with pages of 4 KiB, as the peers have them; with
 * what the module chooses by itself; or asking for huge pages.
 */
enum size { SMALL_PAGES, ANY_PAGES, HUGE_PAGES };
char *map_region(int fd, unsigned long n, enum size size);

/* Tell if a region that was written in full could have huge pages, and mostly has none. */
void tell_huge(const struct bench_case *c, int fd);

static inline char *map_rw(int fd, unsigned long n)
{
	return map_region(fd, n, SMALL_PAGES);
}

/* ---- children ---- */

/* A child that holds all memory until end_child(); forked within start()/stop(). */
pid_t fork_child(struct counts *took);
void end_child(pid_t pid);

#endif /* BENCH_H */
