/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the cases of scripts/bench share
 *
 * The program runs in a guest, in one of two modes.  In "icount" mode the guest
 * has one CPU and a clock that counts instructions, one a nanosecond, so what
 * a case takes is the same each time, to 0.1 %.  In "wall" mode it has two CPUs
 * and a real clock; take medians of several rounds.
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
 */
struct bench_case {
	const char *name;
	const char *impl;
	unsigned int mib[4];
	void (*run)(const struct bench_case *c, unsigned int mib);
};

/* Each ends with an entry without a name. */
extern const struct bench_case clone_cases[], fault_cases[], state_cases[];
extern const struct bench_case map_cases[], fs_cases[], wall_cases[];

/* In wall mode? */
extern bool wall;

#define die(...) bench_die(__FILE__, __LINE__, __VA_ARGS__)
void bench_die(const char *file, int line, const char *fmt, ...)
	__attribute__((noreturn, format(printf, 3, 4)));

/* For calls that must not fail; prints what and errno. */
#define must(cond) do {							\
	if (!(cond))							\
		die("%s: %s", #cond, strerror(errno));			\
} while (0)

/* ---- measuring ---- */

/* Time (in icount mode: instructions) and faults of this process, all threads. */
struct counts {
	uint64_t ns;
	uint64_t faults;
};

uint64_t now_ns(void);
void start(void);
struct counts stop(void);

/*
 * Report a figure.  Metrics: "insns", "faults", "bytes", "us", "ops_s".  One
 * record for each case, size, implementation and metric; record_as() names the
 * first and the third itself.
 */
void record(const struct bench_case *c, unsigned int mib, const char *metric,
	    double value);
void record_as(const char *name, unsigned int mib, const char *impl,
	       const char *metric, double value);

/* Report what one of @n pages (or calls) took: insns or us, and faults. */
void record_counts(const struct bench_case *c, unsigned int mib,
		   struct counts counts, unsigned long n);

double median(double *values, unsigned int n);
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

static inline char *map_rw(int fd, unsigned long n)
{
	return map_file(fd, n, PROT_READ | PROT_WRITE, MAP_SHARED);
}

/* ---- children ---- */

/* A child that holds all memory until end_child(); forked within start()/stop(). */
pid_t fork_child(struct counts *took);
void end_child(pid_t pid);

#endif /* BENCH_H */
