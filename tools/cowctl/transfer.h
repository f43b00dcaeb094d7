/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What send, receive, export and import share: bytes between files, and files that get their name last
 */
#ifndef COWCTL_TRANSFER_H
#define COWCTL_TRANSFER_H

#include "cowctl.h"
#include "identity.h"

/* ---- bytes ---- */

/* How much is read and written at once. */
#define CHUNK	STREAM_BLOCK_MAX

/* Returns @length, or less at the end of the file, or -1 with errno. */
ssize_t read_whole(int fd, void *buffer, size_t length);
ssize_t pread_whole(int fd, void *buffer, size_t length, uint64_t offset);

/* Return 0, or -1 with errno. */
int write_whole(int fd, const void *data, size_t length);
int pwrite_whole(int fd, const void *data, size_t length, uint64_t offset);

/* make_hole - let a range read as zero, without memory if the file system can do that. Returns 0, or -1 with errno. */
int make_hole(int fd, uint64_t offset, uint64_t length, struct progress *p);

/**
 * next_data - the next range of a file that is no hole
 * @offset: where to look from; moved to its start
 * @length: set to its length
 * Return: 1, 0 if there is none below @size, or -1 with errno.
 */
int next_data(int fd, uint64_t size, uint64_t *offset, uint64_t *length);

/* copy_sparse - make @to, which is empty, equal to the first @size bytes of @from, holes included. */
int copy_sparse(int from, int to, uint64_t size, struct progress *p);

/* copy_all - the same for a target that has no holes, like a pipe: zeroes are written. */
int copy_all(int from, int to, uint64_t size, struct progress *p);

/* ---- a region that is read ---- */

/**
 * struct source - something that does not change while it is read
 * @region: what the user named
 * @fd: that if it is frozen, or a snapshot of it that was made just now
 * @made: which of the two
 */
struct source {
	struct region region;
	int fd;
	bool made;
	uint64_t size;
};

/* Return 0, or -1 after it was said why. */
int source_open(struct source *source, const char *arg);
void source_close(struct source *source);

/* source_has_yielded - was it a snapshot that has given its memory back? Leaves errno alone. */
bool source_has_yielded(const struct source *source);

/* complain_source - what errno means for somebody who reads it */
int complain_source(const struct source *source);

/* ---- where bytes go to, or come from ---- */

/* expect_errors - who reads a pipe may go: that is to be said, and kills nobody */
void expect_errors(void);

/* is_file_path - is it the name of a file, which is a struct part until it is whole, and of no pipe or device? */
bool is_file_path(const char *path);

/*
 * open_output - a pipe or device, or standard output if @path is NULL; no terminal. Returns its descriptor, or -1 after
 * it was said why.
 */
int open_output(const char *path);

/* open_input - @path or standard input, if that is no terminal. Returns likewise. */
int open_input(const char *path);

/*
 * new_place - place_open() that takes paths outside of mounts, too; with @may_be_path a name without a slash is one of
 * the current directory. Returns 0, or -1 after it was said why.
 */
int new_place(struct place *place, const char *arg, bool may_be_path);

/* any_place - the same, whether or not something is there. */
int any_place(struct place *place, const char *arg, bool may_be_path);

/* ---- part.c: a file that gets its name last ---- */

/**
 * struct part - a file that is being made at a place, under the name .NAME.part until it is whole
 * @place: where
 * @name: that name
 * @fd: open for reading and, if it is not frozen, writing; holds its lock
 * @resumable: does the file system keep where it stands?
 * @whole: was all of it there before, and lacks its name only?
 * @state: where it stands
 */
struct part {
	const struct place *place;
	char *name;
	int fd;
	bool resumable;
	bool whole;
	struct token state;
};

/* What becomes of one whose part_is_kept(). */
#define PART_KEPT	"what has come is kept; feed it all again, or send the rest: see cowctl receive --token; " \
			"or give it up: cowctl receive --abort"

/*
 * part_is_kept - has it come so far that another try can go on with it? If a signal ends us, that is said, or else the
 * part is removed.
 */
bool part_is_kept(const struct part *part);

/* part_find - open one that can go on. Returns 1, 0 if there is none, or -1 after it was said why. */
int part_find(struct part *part, const struct place *place);

/* part_clear - remove one, whatever it holds. Returns 1, 0 if there was none, or -1 after it was said why. */
int part_clear(const struct place *place);

/*
 * part_make - begin a new one; one of cowctl's that was there and can not go on is removed. Returns 0, or -1 as above.
 */
int part_make(struct part *part, const struct place *place);

/* part_keep - keep part->state. Returns 0, or -1 with errno. */
int part_keep(struct part *part);

/*
 * part_seal - nobody can change it any more, if it is a region; else it is on the disk
 * part_freeze - likewise, and nobody has the right to write to it
 * Each may be done again. Returns 0, or -1 with errno.
 */
int part_seal(struct part *part);
int part_freeze(struct part *part);

/*
 * part_publish - give it its name, if nothing has that yet, and let it say no longer where it stands. Returns 0, or -1
 * after it was said why.
 */
int part_publish(struct part *part);

/* part_is_current - is it still what has its name, and not something that somebody has put there? */
bool part_is_current(const struct part *part);

/* part_remove - remove the file, if it is current; part_close() lets it be. Returns 0, or -1 with errno. */
int part_remove(struct part *part);
void part_close(struct part *part);

#endif
