/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The format of send and receive, see cowmem-stream(5)
 *
 * Writes and reads streams, and knows no region and no file: bytes come from a function and go to a function, so that
 * tests can run it on anything.
 */
#ifndef COWCTL_STREAM_H
#define COWCTL_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The most bytes that a data record stands for, and that follow the head of any record. */
#define STREAM_BLOCK_MAX	(1U << 20)
#define STREAM_ID_SIZE		16
#define STREAM_LEVEL_MAX	19
/* A level at which nothing is compressed. */
#define STREAM_LEVEL_NONE	0
#define STREAM_LEVEL_DEFAULT	3

struct stream_id {
	uint8_t bytes[STREAM_ID_SIZE];
};

/* What the header says.  @base is all zeroes in a full stream. */
struct stream_header {
	uint64_t size;
	uint64_t start;
	uint32_t page_size;
	struct stream_id id;
	struct stream_id base;
};

enum stream_kind {
	STREAM_DATA = 1,
	STREAM_HOLE = 2,
	STREAM_END = 3,
};

/* A record that was read.  @data is valid until the next one is. */
struct stream_block {
	enum stream_kind kind;
	uint64_t offset;
	uint64_t length;
	const void *data;
};

/* Is it all zeroes, which stands for none? */
bool stream_id_is_none(const struct stream_id *id);
bool stream_id_equal(const struct stream_id *a, const struct stream_id *b);

/* ---- writing ---- */

/* Takes all of @length bytes.  Returns 0, or -1 with errno. */
typedef int (*stream_put_fn)(void *arg, const void *data, size_t length);

struct stream_writer;

/* @level is 0 (nothing is compressed) to STREAM_LEVEL_MAX.  Returns NULL if memory lacks. */
struct stream_writer *stream_writer_new(stream_put_fn put, void *arg, int level);
void stream_writer_free(struct stream_writer *w);

/*
 * Header first, then blocks by rising offset, then the end.  Each returns 0, or -1 with errno: that of the put
 * function, or EINVAL for what a stream can not say.
 */
int stream_put_header(struct stream_writer *w, const struct stream_header *header);
int stream_put_data(struct stream_writer *w, uint64_t offset, const void *data, size_t length);
int stream_put_hole(struct stream_writer *w, uint64_t offset, uint64_t length);
int stream_put_end(struct stream_writer *w);

/* How many bytes were put so far. */
uint64_t stream_written(const struct stream_writer *w);

/* ---- reading ---- */

/* Returns how many bytes it got: fewer than @length only at the end; or -1 with errno. */
typedef ssize_t (*stream_get_fn)(void *arg, void *buffer, size_t length);

struct stream_reader;

/* Why a stream was refused. */
enum stream_error {
	STREAM_OK,
	STREAM_FAILED,		/* the get function or memory: see errno */
	STREAM_FOREIGN,		/* it is none */
	STREAM_NEWER,		/* of a newer version */
	STREAM_CUT,		/* it ends before its end */
	STREAM_DAMAGED,		/* a checksum is wrong */
	STREAM_INVALID,		/* the checksums are right, but it makes no sense */
};

/* Returns NULL if memory lacks. */
struct stream_reader *stream_reader_new(stream_get_fn get, void *arg);
void stream_reader_free(struct stream_reader *r);

/* Returns 0, or -1: see stream_error_of(). */
int stream_get_header(struct stream_reader *r, struct stream_header *header);

/* Returns 1 for a block of data or a hole, 0 after the end of the stream, or -1: see stream_error_of(). */
int stream_get_block(struct stream_reader *r, struct stream_block *block);

enum stream_error stream_error_of(const struct stream_reader *r);

/* A sentence for it. */
const char *stream_error_text(const struct stream_reader *r);

/* How many bytes were got so far. */
uint64_t stream_read_bytes(const struct stream_reader *r);

#endif
