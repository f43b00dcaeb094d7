// SPDX-License-Identifier: GPL-2.0-only
/*
 * Mutated streams: the reader may refuse them or not, but does nothing that a sanitizer sees and
 * says nothing senseless
 *
 * Checksums would refuse nearly all of them at once, so most mutants get right ones.
 * Usage: stream-fuzz [SECONDS [SEED]]
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

#include "bytes.h"
#include "stream.h"

#define PAGE	4096u
#define ROOM	(256u << 10)

static int put_bytes(void *arg, const void *data, size_t length)
{
	struct bytes *b = arg;

	if (length > b->room - b->length)
		abort();
	memcpy(b->at + b->length, data, length);
	b->length += length;
	return 0;
}

static void fill(unsigned char *data, size_t length)
{
	size_t i, noise = rng() % 3;

	for (i = 0; i < length; i++)
		data[i] = noise == 0 ? rng() : noise == 1 ? i / 100 : 0;
}

/* A stream of a few random blocks. */
static void make(struct bytes *b)
{
	struct stream_header header = { .size = 64 * PAGE + rng() % PAGE, .page_size = PAGE, .id.bytes = { 1 } };
	static unsigned char data[4 * PAGE];
	struct stream_writer *w;
	uint64_t at = 0, n;

	b->length = 0;
	w = stream_writer_new(put_bytes, b, rng() % 5);
	if (rng() % 2)
		header.base.bytes[3] = 1;
	if (!w || stream_put_header(w, &header))
		abort();
	for (;;) {
		at += PAGE * (rng() % 8);
		n = PAGE * (1 + rng() % 4);
		if (at + n > header.size)
			break;
		fill(data, n);
		if (rng() % 3 ? stream_put_data(w, at, data, n) : stream_put_hole(w, at, n))
			abort();
		at += n;
	}
	if (stream_put_end(w))
		abort();
	stream_writer_free(w);
}

static uint32_t stored_of(const unsigned char *head)
{
	uint32_t stored;

	memcpy(&stored, head + 4, 4);
	return stored;
}

/* Make the checksums fit again, as far as there are whole records. */
static void mend(struct bytes *b)
{
	size_t at, left;
	uint64_t check, sum;

	if (b->length < 80)
		return;
	check = XXH64(b->at, 72, 0);
	memcpy(b->at + 72, &check, 8);
	for (at = 80; b->length - at >= 40; at += 40 + stored_of(b->at + at)) {
		left = b->length - at - 40;
		if (stored_of(b->at + at) <= left) {
			sum = XXH64(b->at + at + 40, stored_of(b->at + at), 0);
			memcpy(b->at + at + 24, &sum, 8);
		}
		check = XXH64(b->at + at, 32, check);
		memcpy(b->at + at + 32, &check, 8);
		if (stored_of(b->at + at) > left)
			break;
	}
}

static void mutate_once(struct bytes *b)
{
	static const unsigned char likely[] = { 0, 1, 2, 3, 0x7f, 0x80, 0xff };
	size_t at = rng() % b->length, n;

	switch (rng() % 5) {
	case 0:
		b->at[at] ^= 1 << rng() % 8;
		break;
	case 1:
		b->at[at] = likely[rng() % sizeof(likely)];
		break;
	case 2:
		b->length = at + 1;
		break;
	case 3:
		n = rng() % 64;
		if (n > b->length - at)
			n = b->length - at;
		fill(b->at + at, n);
		break;
	case 4:
		/* In a head, where it matters most. */
		if (b->length > 120)
			b->at[80 + rng() % 40] = rng();
		break;
	}
}

/* Every block lies in the region and behind the one before, and can be read. */
static int check_block(const struct stream_header *h, const struct stream_block *block, uint64_t *position)
{
	const unsigned char *data = block->data;
	unsigned int sum = 0;
	uint64_t i;

	if (!block->length || block->offset < *position || block->offset > h->size ||
	    block->length > h->size - block->offset)
		return -1;
	*position = block->offset + block->length;
	if (block->kind == STREAM_HOLE)
		return data ? -1 : 0;
	if (block->kind != STREAM_DATA || block->length > STREAM_BLOCK_MAX)
		return -1;
	for (i = 0; i < block->length; i++)
		sum += data[i];
	return sum == 1;	/* so that all of it is read */
}

/* Returns 1 if it was accepted, 0 if not, -1 if that makes no sense. */
static int read_all(struct bytes *b)
{
	struct stream_reader *r = stream_reader_new(get_bytes, b);
	struct stream_header header;
	struct stream_block block;
	uint64_t position;
	int ret, bad = 0;

	b->read = 0;
	ret = stream_get_header(r, &header);
	position = ret ? 0 : header.start;
	while (!ret && (ret = stream_get_block(r, &block)) > 0) {
		bad |= check_block(&header, &block, &position) < 0;
		ret = 0;
		if (bad)
			break;
	}
	if (ret < 0 && (stream_error_of(r) == STREAM_OK || !*stream_error_text(r)))
		bad = 1;
	ret = stream_error_of(r) == STREAM_OK;
	stream_reader_free(r);
	return bad ? -1 : ret;
}

int main(int argc, char **argv)
{
	static unsigned char rooms[2][ROOM];
	struct bytes origin = { .at = rooms[0], .room = ROOM }, mutant = { .at = rooms[1], .room = ROOM };
	time_t end = time(NULL) + (argc > 1 ? atoi(argv[1]) : 5);
	uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 0) : (uint64_t)time(NULL) << 16 | getpid();
	unsigned long tried = 0, accepted = 0;
	bool bad = false;
	int i, ret;

	state = seed;
	while (!bad && time(NULL) < end) {
		make(&origin);
		bad = read_all(&origin) != 1;
		for (i = 0; i < 200 && !bad; i++) {
			memcpy(mutant.at, origin.at, origin.length);
			mutant.length = origin.length;
			do
				mutate_once(&mutant);
			while (rng() % 3 == 0);
			if (rng() % 8)
				mend(&mutant);
			ret = read_all(&mutant);
			bad = ret < 0;
			accepted += ret > 0;
			tried++;
		}
	}
	printf("# seed %#" PRIx64 ": %lu mutants, %lu accepted\n", seed, tried, accepted);
	printf("%sok 1 no mutant of a stream makes the reader do or say anything wrong\n1..1\n", bad ? "not " : "");
	return bad;
}
