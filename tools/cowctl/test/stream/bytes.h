/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What tests of streams share: a stream in memory, and random numbers that a seed repeats
 */
#ifndef STREAM_TEST_BYTES_H
#define STREAM_TEST_BYTES_H

#include <stdint.h>
#include <string.h>
#include <sys/types.h>

struct bytes {
	unsigned char *at;
	size_t length, room, read;
};

/* A stream_get_fn. */
static inline ssize_t get_bytes(void *arg, void *buffer, size_t length)
{
	struct bytes *b = arg;

	if (length > b->length - b->read)
		length = b->length - b->read;
	memcpy(buffer, b->at + b->read, length);
	b->read += length;
	return length;
}

/* Not 0. */
static uint64_t state __attribute__((__unused__));

static inline uint64_t rng(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

#endif
