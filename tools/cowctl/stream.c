// SPDX-License-Identifier: GPL-2.0-only
/*
 * The format of send and receive, see cowmem-stream(5)
 *
 * Each record is checked in two steps: first its head, of which nothing is believed before its check is right, then
 * what follows it.  The check of a head is seeded with the one before, so that a record counts only in its place.
 */
#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <xxhash.h>
#include <zstd.h>

#include "stream.h"

#define MAJOR		1
#define MINOR		0
#define HEADER_SIZE	80
#define HEADER_MAX	4096
#define HEAD_SIZE	40
#define END_SIZE	32
#define PAGE_MIN	4096
#define PAGE_MAX	(1U << 20)
#define CHECK_SIZE	8

#define FLAG_INCREMENTAL	1
#define FLAG_ZSTD		1
#define KIND_OPTIONAL		0x8000

static const uint8_t magic[8] = { 0x89, 'C', 'O', 'W', 'M', 'E', 'M', '\n' };

/* Where the fields of the header are. */
enum {
	AT_MAJOR = 8, AT_MINOR = 10, AT_LENGTH = 12, AT_FLAGS = 16, AT_PAGE_SIZE = 20, AT_SIZE = 24, AT_START = 32,
	AT_ID = 40, AT_BASE = 56,
};

/* The head of a record, but for its check. */
struct head {
	uint16_t kind;
	uint16_t flags;
	uint32_t stored;
	uint64_t offset;
	uint64_t length;
	uint64_t sum;
};

/* What the end record counts, in the order in which it does. */
struct totals {
	uint64_t data_records;
	uint64_t hole_records;
	uint64_t data_bytes;
	uint64_t stream_bytes;
};

static void put16(uint8_t *at, uint16_t v)
{
	v = htole16(v);
	memcpy(at, &v, sizeof(v));
}

static void put32(uint8_t *at, uint32_t v)
{
	v = htole32(v);
	memcpy(at, &v, sizeof(v));
}

static void put64(uint8_t *at, uint64_t v)
{
	v = htole64(v);
	memcpy(at, &v, sizeof(v));
}

static uint16_t get16(const uint8_t *at)
{
	uint16_t v;

	memcpy(&v, at, sizeof(v));
	return le16toh(v);
}

static uint32_t get32(const uint8_t *at)
{
	uint32_t v;

	memcpy(&v, at, sizeof(v));
	return le32toh(v);
}

static uint64_t get64(const uint8_t *at)
{
	uint64_t v;

	memcpy(&v, at, sizeof(v));
	return le64toh(v);
}

bool stream_id_is_none(const struct stream_id *id)
{
	static const struct stream_id none;

	return stream_id_equal(id, &none);
}

bool stream_id_equal(const struct stream_id *a, const struct stream_id *b)
{
	return !memcmp(a, b, sizeof(*a));
}

/* ---- what holds for writer and reader ---- */

/* NULL, or what is wrong with a header. */
static const char *header_fault(const struct stream_header *h)
{
	if (h->page_size < PAGE_MIN || h->page_size > PAGE_MAX || h->page_size & (h->page_size - 1))
		return "no such page size";
	if (h->size > INT64_MAX)
		return "no region can be so large";
	if (h->start > h->size || h->start % h->page_size)
		return "it starts where it can not";
	if (stream_id_is_none(&h->id))
		return "it has no id";
	if (stream_id_equal(&h->id, &h->base))
		return "it builds on itself";
	return NULL;
}

/* NULL, or what is wrong with a block of a stream whose blocks so far end at @position. */
static const char *range_fault(const struct stream_header *h, uint64_t position, uint64_t offset, uint64_t length)
{
	if (!length)
		return "an empty block";
	if (offset < position)
		return "a block that lies before the last one";
	if (offset > h->size || length > h->size - offset)
		return "a block past the end of the region";
	if (offset % h->page_size || ((offset + length) % h->page_size && offset + length != h->size))
		return "a block that is not of whole pages";
	return NULL;
}

static void store_totals(uint8_t *at, const struct totals *t)
{
	put64(at, t->data_records);
	put64(at + 8, t->hole_records);
	put64(at + 16, t->data_bytes);
	put64(at + 24, t->stream_bytes);
}

static void count_block(struct totals *t, uint16_t kind, uint64_t length)
{
	if (kind == STREAM_DATA) {
		t->data_records++;
		t->data_bytes += length;
	} else {
		t->hole_records++;
	}
}

/* ---- writing ---- */

struct stream_writer {
	stream_put_fn put;
	void *arg;
	int level;
	ZSTD_CCtx *zstd;
	struct stream_header header;
	uint64_t check;
	uint64_t position;
	struct totals totals;
	uint8_t packed[STREAM_BLOCK_MAX];
};

struct stream_writer *stream_writer_new(stream_put_fn put, void *arg, int level)
{
	struct stream_writer *w = calloc(1, sizeof(*w));

	if (!w)
		return NULL;
	w->put = put;
	w->arg = arg;
	w->level = level;
	w->zstd = ZSTD_createCCtx();
	if (!w->zstd) {
		free(w);
		errno = ENOMEM;
		return NULL;
	}
	return w;
}

void stream_writer_free(struct stream_writer *w)
{
	if (!w)
		return;
	ZSTD_freeCCtx(w->zstd);
	free(w);
}

uint64_t stream_written(const struct stream_writer *w)
{
	return w->totals.stream_bytes;
}

static int put_bytes(struct stream_writer *w, const void *data, size_t length)
{
	if (w->put(w->arg, data, length))
		return -1;
	w->totals.stream_bytes += length;
	return 0;
}

int stream_put_header(struct stream_writer *w, const struct stream_header *header)
{
	bool full = stream_id_is_none(&header->base);
	uint8_t raw[HEADER_SIZE];

	if (header_fault(header)) {
		errno = EINVAL;
		return -1;
	}
	w->header = *header;
	w->position = header->start;
	memcpy(raw, magic, sizeof(magic));
	put16(raw + AT_MAJOR, MAJOR);
	put16(raw + AT_MINOR, MINOR);
	put32(raw + AT_LENGTH, HEADER_SIZE);
	put32(raw + AT_FLAGS, full ? 0 : FLAG_INCREMENTAL);
	put32(raw + AT_PAGE_SIZE, header->page_size);
	put64(raw + AT_SIZE, header->size);
	put64(raw + AT_START, header->start);
	memcpy(raw + AT_ID, &header->id, STREAM_ID_SIZE);
	memcpy(raw + AT_BASE, &header->base, STREAM_ID_SIZE);
	w->check = XXH64(raw, HEADER_SIZE - CHECK_SIZE, 0);
	put64(raw + HEADER_SIZE - CHECK_SIZE, w->check);
	return put_bytes(w, raw, sizeof(raw));
}

static int put_record(struct stream_writer *w, const struct head *head, const void *data)
{
	uint8_t raw[HEAD_SIZE];

	put16(raw, head->kind);
	put16(raw + 2, head->flags);
	put32(raw + 4, head->stored);
	put64(raw + 8, head->offset);
	put64(raw + 16, head->length);
	put64(raw + 24, XXH64(data, head->stored, 0));
	w->check = XXH64(raw, HEAD_SIZE - CHECK_SIZE, w->check);
	put64(raw + HEAD_SIZE - CHECK_SIZE, w->check);
	if (put_bytes(w, raw, sizeof(raw)))
		return -1;
	return head->stored ? put_bytes(w, data, head->stored) : 0;
}

static int put_block(struct stream_writer *w, const struct head *head, const void *data)
{
	if (range_fault(&w->header, w->position, head->offset, head->length)) {
		errno = EINVAL;
		return -1;
	}
	if (put_record(w, head, data))
		return -1;
	w->position = head->offset + head->length;
	count_block(&w->totals, head->kind, head->length);
	return 0;
}

/* Returns how long @data is when packed, or 0 if that does not make it shorter. */
static size_t pack(struct stream_writer *w, const void *data, size_t length)
{
	size_t packed;

	if (w->level == STREAM_LEVEL_NONE)
		return 0;
	/* With less room than it needs it gives up, and so it does early where nothing is won. */
	packed = ZSTD_compressCCtx(w->zstd, w->packed, length - 1, data, length, w->level);
	return ZSTD_isError(packed) ? 0 : packed;
}

int stream_put_data(struct stream_writer *w, uint64_t offset, const void *data, size_t length)
{
	struct head head = { .kind = STREAM_DATA, .offset = offset, .length = length };
	size_t packed;

	if (!length || length > STREAM_BLOCK_MAX) {
		errno = EINVAL;
		return -1;
	}
	packed = pack(w, data, length);
	head.flags = packed ? FLAG_ZSTD : 0;
	head.stored = packed ? packed : length;
	return put_block(w, &head, packed ? w->packed : data);
}

int stream_put_hole(struct stream_writer *w, uint64_t offset, uint64_t length)
{
	struct head head = { .kind = STREAM_HOLE, .offset = offset, .length = length };

	return put_block(w, &head, NULL);
}

int stream_put_end(struct stream_writer *w)
{
	struct head head = { .kind = STREAM_END, .offset = w->header.size, .stored = END_SIZE };
	uint8_t raw[END_SIZE];

	store_totals(raw, &w->totals);
	return put_record(w, &head, raw);
}

/* ---- reading ---- */

struct stream_reader {
	stream_get_fn get;
	void *arg;
	ZSTD_DCtx *zstd;
	struct stream_header header;
	uint64_t check;
	uint64_t position;
	struct totals totals;
	enum stream_error error;
	bool ended;
	char text[256];
	uint8_t packed[STREAM_BLOCK_MAX];
	uint8_t plain[STREAM_BLOCK_MAX];
};

struct stream_reader *stream_reader_new(stream_get_fn get, void *arg)
{
	struct stream_reader *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	r->get = get;
	r->arg = arg;
	r->zstd = ZSTD_createDCtx();
	if (!r->zstd) {
		free(r);
		errno = ENOMEM;
		return NULL;
	}
	return r;
}

void stream_reader_free(struct stream_reader *r)
{
	if (!r)
		return;
	ZSTD_freeDCtx(r->zstd);
	free(r);
}

uint64_t stream_read_bytes(const struct stream_reader *r)
{
	return r->totals.stream_bytes;
}

enum stream_error stream_error_of(const struct stream_reader *r)
{
	return r->error;
}

const char *stream_error_text(const struct stream_reader *r)
{
	return r->text;
}

/* The first reason stays; no more can be read after it. */
static int __attribute__((format(printf, 3, 4)))
refuse(struct stream_reader *r, enum stream_error error, const char *format, ...)
{
	va_list args;

	r->error = error;
	va_start(args, format);
	vsnprintf(r->text, sizeof(r->text), format, args);
	va_end(args);
	return -1;
}

static int damaged(struct stream_reader *r, const char *what, uint64_t at)
{
	return refuse(r, STREAM_DAMAGED, "the stream is damaged: the checksum of %s at byte %" PRIu64 " is wrong", what,
		      at);
}

static int newer(struct stream_reader *r, const char *what, unsigned int which)
{
	return refuse(r, STREAM_NEWER, "the stream comes from a newer version of cowctl (%s %u)", what, which);
}

static int invalid(struct stream_reader *r, const char *why)
{
	return refuse(r, STREAM_INVALID, "the stream is not valid, though its checksums are right: %s", why);
}

static int get_bytes(struct stream_reader *r, void *buffer, size_t length)
{
	ssize_t got = r->get(r->arg, buffer, length);

	if (got < 0)
		return refuse(r, STREAM_FAILED, "the stream can not be read: %s", strerror(errno));
	r->totals.stream_bytes += got;
	if ((size_t)got < length)
		return refuse(r, STREAM_CUT, "the stream is cut: it ends after %" PRIu64 " bytes",
			      stream_read_bytes(r));
	return 0;
}

/* Read the rest of the header, of which @raw has the first bytes, and look at its check. */
static int get_whole_header(struct stream_reader *r, uint8_t *raw)
{
	uint32_t length = get32(raw + AT_LENGTH);

	if (length < HEADER_SIZE || length > HEADER_MAX || length % 8)
		return refuse(r, STREAM_DAMAGED, "the stream is damaged: its header can not be %" PRIu32 " bytes long",
			      length);
	if (get_bytes(r, raw + AT_FLAGS, length - AT_FLAGS))
		return -1;
	r->check = XXH64(raw, length - CHECK_SIZE, 0);
	if (r->check != get64(raw + length - CHECK_SIZE))
		return damaged(r, "the header", 0);
	return 0;
}

/* Read the header, up to its check. */
static int get_raw_header(struct stream_reader *r, uint8_t *raw)
{
	bool ours;

	if (get_bytes(r, raw, AT_FLAGS)) {
		/* What is too short to tell is cut if it begins like one. */
		ours = r->error != STREAM_CUT || (r->totals.stream_bytes &&
			!memcmp(raw, magic, r->totals.stream_bytes < 8 ? r->totals.stream_bytes : 8));
		if (!ours && r->totals.stream_bytes)
			return refuse(r, STREAM_FOREIGN, "this is no stream of cowctl send");
		if (!ours)
			return refuse(r, STREAM_CUT, "the stream is cut: it is empty");
		return -1;
	}
	if (memcmp(raw, magic, sizeof(magic)))
		return refuse(r, STREAM_FOREIGN, "this is no stream of cowctl send");
	return get_whole_header(r, raw);
}

int stream_get_header(struct stream_reader *r, struct stream_header *header)
{
	struct stream_header *h = &r->header;
	uint8_t raw[HEADER_MAX];
	uint32_t flags;
	const char *fault;

	if (r->error || get_raw_header(r, raw))
		return -1;
	if (get16(raw + AT_MAJOR) != MAJOR)
		return newer(r, "format", get16(raw + AT_MAJOR));
	flags = get32(raw + AT_FLAGS);
	if (flags & ~FLAG_INCREMENTAL)
		return newer(r, "header flags", flags);
	h->page_size = get32(raw + AT_PAGE_SIZE);
	h->size = get64(raw + AT_SIZE);
	h->start = get64(raw + AT_START);
	memcpy(&h->id, raw + AT_ID, STREAM_ID_SIZE);
	memcpy(&h->base, raw + AT_BASE, STREAM_ID_SIZE);
	fault = header_fault(h);
	if (!fault && stream_id_is_none(&h->base) != !flags)
		fault = "it does not say on what it builds";
	if (fault)
		return invalid(r, fault);
	r->position = h->start;
	*header = *h;
	return 0;
}

/* Read a record whole, and look at its checksums. */
static int get_record(struct stream_reader *r, struct head *head)
{
	uint64_t at = r->totals.stream_bytes;
	uint8_t raw[HEAD_SIZE];

	if (get_bytes(r, raw, sizeof(raw)))
		return -1;
	r->check = XXH64(raw, HEAD_SIZE - CHECK_SIZE, r->check);
	if (r->check != get64(raw + HEAD_SIZE - CHECK_SIZE))
		return damaged(r, "the record", at);
	head->kind = get16(raw);
	head->flags = get16(raw + 2);
	head->stored = get32(raw + 4);
	head->offset = get64(raw + 8);
	head->length = get64(raw + 16);
	head->sum = get64(raw + 24);
	if (head->stored > STREAM_BLOCK_MAX)
		return invalid(r, "a record that is too long");
	if (get_bytes(r, r->packed, head->stored))
		return -1;
	if (XXH64(r->packed, head->stored, 0) != head->sum)
		return damaged(r, "the block", at);
	return 0;
}

static int read_data(struct stream_reader *r, const struct head *head, struct stream_block *block)
{
	bool packed = head->flags & FLAG_ZSTD;

	if (head->length > STREAM_BLOCK_MAX)
		return invalid(r, "a block that is too long");
	if (packed ? head->stored >= head->length : head->stored != head->length)
		return invalid(r, "a block of another length than it says");
	block->data = r->packed;
	if (!packed)
		return 0;
	if (ZSTD_decompressDCtx(r->zstd, r->plain, head->length, r->packed, head->stored) != head->length)
		return invalid(r, "a block that can not be unpacked");
	block->data = r->plain;
	return 0;
}

static int read_hole(struct stream_reader *r, const struct head *head, struct stream_block *block)
{
	block->data = NULL;
	return head->stored ? invalid(r, "a hole with something in it") : 0;
}

static int read_end(struct stream_reader *r, const struct head *head)
{
	uint8_t expected[END_SIZE];

	if (head->flags)
		return newer(r, "flags of a record", head->flags);
	if (head->stored != END_SIZE || head->length || head->offset != r->header.size)
		return invalid(r, "an end that is none");
	r->totals.stream_bytes -= HEAD_SIZE + END_SIZE;
	store_totals(expected, &r->totals);
	r->totals.stream_bytes += HEAD_SIZE + END_SIZE;
	if (memcmp(expected, r->packed, END_SIZE))
		return invalid(r, "its sums do not match what was in it");
	r->ended = true;
	return 0;
}

/* Returns as stream_get_block(), or 2 for a record that is to be skipped. */
static int read_record(struct stream_reader *r, const struct head *head, struct stream_block *block)
{
	const char *fault;

	if (head->kind == STREAM_END)
		return read_end(r, head);
	if (head->kind != STREAM_DATA && head->kind != STREAM_HOLE)
		return head->kind & KIND_OPTIONAL ? 2 : newer(r, "kind of record", head->kind);
	if (head->flags & ~(head->kind == STREAM_DATA ? FLAG_ZSTD : 0))
		return newer(r, "flags of a record", head->flags);
	fault = range_fault(&r->header, r->position, head->offset, head->length);
	if (fault)
		return invalid(r, fault);
	if (head->kind == STREAM_DATA ? read_data(r, head, block) : read_hole(r, head, block))
		return -1;
	block->kind = head->kind;
	block->offset = head->offset;
	block->length = head->length;
	r->position = head->offset + head->length;
	count_block(&r->totals, head->kind, head->length);
	return 1;
}

int stream_get_block(struct stream_reader *r, struct stream_block *block)
{
	struct head head = { 0 };
	int ret;

	if (r->error)
		return -1;
	if (r->ended)
		return 0;
	do {
		if (get_record(r, &head))
			return -1;
		ret = read_record(r, &head, block);
	} while (ret == 2);
	return ret;
}
