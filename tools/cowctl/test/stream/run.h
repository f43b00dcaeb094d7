/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What tests share that run send, receive, export and import: cowctl as a user runs it, and files
 *
 * Needs root, the module, and cowctl: $COWCTL, or beside the test, or in the PATH. Each case has two mounts, a tmpfs
 * and a directory of a disk of its own, which go with it. COWMEM_EFFORT (100: all) says how much, COWMEM_SEED repeats a
 * run.
 */
#ifndef STREAM_TEST_RUN_H
#define STREAM_TEST_RUN_H

#include <inttypes.h>

#include "tap.h"

#define DIR	"/tmp/cowctl-stream"
#define A	DIR "/a/"			/* where regions are */
#define B	DIR "/b/"			/* where they are received */
#define T	DIR "/t/"			/* plain files */
#define DISK	"/var/tmp/cowctl-stream/"	/* of a file system that has attributes */
#define ERR	T "stderr"
#define PAGE	page_size()
/* What one PMD maps: that much memory is one folio where a mount has such. */
#define AREA	(PAGE / 8 * PAGE)

extern unsigned int percent;
/* Who cowctl is run as. */
extern uid_t user;
/* Bit N: descriptor N is closed, of stdin, stdout and stderr. */
extern int closed;

uint64_t below(uint64_t n);
void noise(void *at, size_t length);

/* ---- running cowctl ---- */

/* Start it with these for stdin and stdout, which it takes over; stderr is a file. */
pid_t start(int in, int out, const char *format, ...) __attribute__((format(printf, 3, 4)));
int end_of(pid_t pid);
int in_file(const char *path);
int out_file(const char *path);

/*
 * At its N-th call of a function, what is started from now on does something: "CALL:N:before" and ":after" is kill -9,
 * ":stop" is SIGSTOP before and ":stopped" after it, and a number is that errno. NULL: no more. See trap.c.
 */
void trap(const char *what);

/* Run it to its end, from one file to another, either may be NULL. */
#define RUN(in, out, ...) (unlink(ERR), end_of(start(in_file(in), out_file(out), __VA_ARGS__)))

const char *said(void);

#define WELL(in, out, ...) do {							\
	int ret_ = RUN(in, out, __VA_ARGS__);					\
	if (ret_ || *said())							\
		FAIL("exit status %d: %s", ret_, said());			\
} while (0)

/* It fails, with this status, and says this on one line. */
#define REFUSED(status, what, in, out, ...) do {				\
	int ret_ = RUN(in, out, __VA_ARGS__);					\
	const char *end_ = strchr(said(), '\n');				\
	if (ret_ != (status) || !strstr(said(), what) || !end_ || end_[1])	\
		FAIL("exit status %d, not %d with \"%s\": %s", ret_, status, what, said());	\
} while (0)

#define KILLED(signal, in, out, ...) EQUAL(RUN(in, out, __VA_ARGS__), 128 + (signal))

/* Send @from to @to through a pipe. */
void transfer(const char *options, const char *from, const char *to);

/* ---- bytes ---- */

void write_all(int fd, const void *data, size_t length);

/* Pass @budget bytes on. Returns false if the stream ended before. */
bool pass(int from, int to, uint64_t budget);

/* ---- files ---- */

bool exists(const char *path);
uint64_t size_of(const char *path);
unsigned char *read_file(const char *path, size_t *length);
void write_file(const char *path, const void *data, size_t length);
/* Somebody writes a byte of a file that is there. */
void write_byte(const char *path);
bool same(const char *one, const char *other);

#define SAME(one, other) do {							\
	if (!same(one, other))							\
		FAIL("%s and %s differ", one, other);				\
} while (0)

/*
 * A file with noise in some ranges of pages, and a tail that is no whole page. How long a stream of it is, and how many
 * blocks it has, does not depend on the size of a page.
 */
void make_file(const char *path, uint64_t pages, unsigned int tail);

/* A snapshot of a file, with a name. */
void snapshot(const char *path, const char *name);
void is_frozen_now(const char *path);

/* A stream of a small region in T "stream", and a region that it was made of in A "s1". */
void small_stream(void);

/* A file system at DIR "/small" that has room for so many pages. */
void mount_small(const char *type, unsigned int pages, unsigned long flags);

/* Can files there say where they stand, and which snapshot they are? */
bool has_attributes(const char *dir);

/* ---- cases ---- */

/* Each case has mounts of its own, however the one before ended. */
void fresh(void);

#define CASE(f) static void in_##f(void) { fresh(); f(); }

int run_cases(const struct test *tests, int argc, char **argv);

#endif
