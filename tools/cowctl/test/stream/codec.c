// SPDX-License-Identifier: GPL-2.0-only
/*
 * Streams without regions: what is written is read again, and nothing else is read
 */
#include <xxhash.h>
#include <zstd.h>

#include "bytes.h"
#include "tap.h"
#include "stream.h"

/* The worked example of cowmem-stream(5), taken out of the page when this was built. */
static const unsigned char example[] = {
#include "example.inc"
};

#define PAGE	4096u
#define ID	{ { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16 } }
#define BASE_ID	{ { 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf, 0xb0 } }

static int put_bytes(void *arg, const void *data, size_t length)
{
	struct bytes *b = arg;

	if (b->length + length > b->room) {
		b->room = 2 * (b->length + length);
		b->at = realloc(b->at, b->room);
		CHECK(b->at);
	}
	memcpy(b->at + b->length, data, length);
	b->length += length;
	return 0;
}

static struct stream_writer *writer(struct bytes *b, const struct stream_header *header, int level)
{
	struct stream_writer *w = stream_writer_new(put_bytes, b, level);

	CHECK(w);
	EQUAL(stream_put_header(w, header), 0);
	return w;
}

static void end(struct stream_writer *w)
{
	EQUAL(stream_put_end(w), 0);
	stream_writer_free(w);
}

/* Read it all. Returns why it was refused, or STREAM_OK. */
static enum stream_error verdict(const unsigned char *at, size_t length)
{
	struct bytes b = { .at = (unsigned char *)at, .length = length };
	struct stream_reader *r = stream_reader_new(get_bytes, &b);
	struct stream_header header;
	struct stream_block block;
	enum stream_error error;
	int ret;

	CHECK(r);
	ret = stream_get_header(r, &header);
	if (!ret)
		do
			ret = stream_get_block(r, &block);
		while (ret > 0);
	error = stream_error_of(r);
	CHECK((ret < 0) == (error != STREAM_OK));
	CHECK((ret < 0) == (stream_error_text(r)[0] != 0));
	stream_reader_free(r);
	return error;
}

/* A small stream that has each kind of record, packed and plain. */
static struct bytes small(void)
{
	struct stream_header header = { .size = 5 * PAGE + 7, .page_size = PAGE, .id = ID, .base = BASE_ID };
	unsigned char data[2 * PAGE];
	struct bytes b = { 0 };
	struct stream_writer *w = writer(&b, &header, 3);

	memset(data, 'x', sizeof(data));
	EQUAL(stream_put_data(w, 0, data, sizeof(data)), 0);
	EQUAL(stream_put_hole(w, 3 * PAGE, PAGE), 0);
	EQUAL(stream_put_data(w, 5 * PAGE, "incompr", 7), 0);
	end(w);
	return b;
}

/* ---- cases ---- */

static void worked_example(void)
{
	struct stream_header header = { .size = 4107, .page_size = PAGE, .id = ID, .base = BASE_ID };
	struct bytes b = { 0 };
	struct stream_writer *w = writer(&b, &header, STREAM_LEVEL_DEFAULT);
	size_t i;

	EQUAL(stream_put_hole(w, 0, PAGE), 0);
	EQUAL(stream_put_data(w, PAGE, "hello world", 11), 0);
	end(w);
	/* As it stands in the page. */
	for (i = 0; i < b.length; i++) {
		if (i % 16 == 0)
			printf("%s%04zx: ", i ? "\n# " : "# ", i);
		printf(" %02x", b.at[i]);
	}
	putchar('\n');
	EQUAL(sizeof(example), b.length);
	CHECK(!memcmp(example, b.at, b.length));
	free(b.at);
}

static void round_trip(void)
{
	struct stream_header header = { .size = 64 << 20, .start = 2 * PAGE, .page_size = PAGE, .id = ID }, got;
	unsigned char *data = malloc(STREAM_BLOCK_MAX);
	struct stream_block block;
	struct stream_writer *w;
	struct stream_reader *r;
	int level;
	size_t i;

	CHECK(data);
	for (level = 0; level <= STREAM_LEVEL_MAX; level += 6) {
		struct bytes b = { 0 };

		for (i = 0; i < STREAM_BLOCK_MAX; i++)
			data[i] = i < STREAM_BLOCK_MAX / 2 ? (int)(i >> 8) : rand();
		w = writer(&b, &header, level);
		EQUAL(stream_put_data(w, 2 * PAGE, data, STREAM_BLOCK_MAX), 0);
		EQUAL(stream_put_data(w, 4 << 20, data + STREAM_BLOCK_MAX / 2, PAGE), 0);
		EQUAL(stream_put_hole(w, 8 << 20, 56 << 20), 0);
		end(w);
		r = stream_reader_new(get_bytes, &b);
		EQUAL(stream_get_header(r, &got), 0);
		CHECK(!memcmp(&got, &header, sizeof(got)));
		EQUAL(stream_get_block(r, &block), 1);
		EQUAL(block.offset, 2 * PAGE);
		EQUAL(block.length, STREAM_BLOCK_MAX);
		CHECK(!memcmp(block.data, data, STREAM_BLOCK_MAX));
		EQUAL(stream_get_block(r, &block), 1);
		EQUAL(block.kind, STREAM_DATA);
		CHECK(!memcmp(block.data, data + STREAM_BLOCK_MAX / 2, PAGE));
		EQUAL(stream_get_block(r, &block), 1);
		EQUAL(block.kind, STREAM_HOLE);
		EQUAL(block.length, 56 << 20);
		EQUAL(stream_get_block(r, &block), 0);
		EQUAL(stream_get_block(r, &block), 0);
		EQUAL(stream_read_bytes(r), b.length);
		stream_reader_free(r);
		free(b.at);
	}
	free(data);
}

/* 40 bytes for a page that can not be packed, and one that can be is. */
static void overhead(void)
{
	struct stream_header header = { .size = PAGE, .page_size = PAGE, .id = ID };
	unsigned char data[PAGE];
	struct bytes b = { 0 };
	struct stream_writer *w = writer(&b, &header, 3);
	size_t i, before = b.length;

	for (i = 0; i < PAGE; i++)
		data[i] = rand();
	EQUAL(stream_put_data(w, 0, data, PAGE), 0);
	EQUAL(b.length - before, PAGE + 40);
	stream_writer_free(w);
	b.length = 0;
	memset(data, 1, PAGE);
	w = writer(&b, &header, 3);
	before = b.length;
	EQUAL(stream_put_data(w, 0, data, PAGE), 0);
	CHECK(b.length - before < 100);
	stream_writer_free(w);
	free(b.at);
}

static void any_byte_flipped(void)
{
	struct bytes b = small();
	size_t at;
	int bit;

	EQUAL(verdict(b.at, b.length), STREAM_OK);
	for (at = 0; at < b.length; at++) {
		for (bit = 0; bit < 8; bit++) {
			b.at[at] ^= 1 << bit;
			if (verdict(b.at, b.length) == STREAM_OK)
				FAIL("byte %zu of %zu, bit %d: nothing was noticed", at, b.length, bit);
			b.at[at] ^= 1 << bit;
		}
		b.at[at] ^= 0xff;
		CHECK(verdict(b.at, b.length) != STREAM_OK);
		b.at[at] ^= 0xff;
	}
	free(b.at);
}

static void cut_anywhere(void)
{
	struct bytes b = small();
	size_t at;

	for (at = 0; at < b.length; at++)
		if (verdict(b.at, at) != STREAM_CUT)
			FAIL("cut after %zu of %zu bytes: %d", at, b.length, verdict(b.at, at));
	free(b.at);
}

/* Records that are left out, twice there, or of another stream. Heads are at 80, then as long as they say. */
static void records_out_of_place(void)
{
	struct bytes b = small(), other;
	size_t first = 80, second = first + 40 + (b.at[84] | b.at[85] << 8), third = second + 40;
	unsigned char *copy = malloc(2 * b.length);

	CHECK(copy);
	memcpy(copy, b.at, second);
	memcpy(copy + second, b.at + third, b.length - third);
	EQUAL(verdict(copy, b.length - 40), STREAM_DAMAGED);
	memcpy(copy, b.at, third);
	memcpy(copy + third, b.at + second, b.length - second);
	EQUAL(verdict(copy, b.length + 40), STREAM_DAMAGED);
	other = small();
	other.at[40]++;
	XXH64_hash_t check = XXH64(other.at, 72, 0);

	memcpy(other.at + 72, &check, 8);
	EQUAL(verdict(other.at, other.length), STREAM_DAMAGED);
	free(copy);
	free(other.at);
	free(b.at);
}

static void foreign(void)
{
	static const char text[4096] = "hello";

	EQUAL(verdict((const unsigned char *)text, sizeof(text)), STREAM_FOREIGN);
	EQUAL(verdict((const unsigned char *)text, 1), STREAM_FOREIGN);
	EQUAL(verdict((const unsigned char *)text, 0), STREAM_CUT);
}

/* ---- streams that cowctl of today does not write ---- */

struct raw {
	struct bytes b;
	uint64_t check;
};

/* A byte of the header that is another one than usual. */
struct change {
	int at;
	int value;
};

/* At most three, and NULL for none. */
static void raw_header(struct raw *raw, const struct change *changes)
{
	unsigned char header[5000] = { 0x89, 'C', 'O', 'W', 'M', 'E', 'M', '\n', 1, 0, 0, 0, 80 };
	size_t length;
	int i;

	header[21] = 0x10;	/* page size 4096 */
	header[26] = 0x10;	/* size 1 MiB */
	header[40] = 1;		/* id */
	for (i = 0; changes && i < 3; i++)
		if (changes[i].at)
			header[changes[i].at] = changes[i].value;
	length = header[12] | header[13] << 8;
	raw->check = XXH64(header, length - 8, 0);
	memcpy(header + length - 8, &raw->check, 8);
	memset(&raw->b, 0, sizeof(raw->b));
	put_bytes(&raw->b, header, length);
}

static void raw_record(struct raw *raw, unsigned int kind, unsigned int flags, uint64_t offset, uint64_t length,
		       const void *data, uint32_t stored)
{
	uint16_t half[2] = { kind, flags };
	uint64_t sum = XXH64(data, data ? stored : 0, 0);
	unsigned char head[40];

	memcpy(head, half, 4);
	memcpy(head + 4, &stored, 4);
	memcpy(head + 8, &offset, 8);
	memcpy(head + 16, &length, 8);
	memcpy(head + 24, &sum, 8);
	raw->check = XXH64(head, 32, raw->check);
	memcpy(head + 32, &raw->check, 8);
	put_bytes(&raw->b, head, 40);
	if (data)
		put_bytes(&raw->b, data, stored);
}

static void raw_end(struct raw *raw, uint64_t data, uint64_t holes, uint64_t bytes)
{
	uint64_t totals[4] = { data, holes, bytes, raw->b.length };

	raw_record(raw, 3, 0, raw->b.at[26] << 16, 0, totals, sizeof(totals));
}

static enum stream_error raw_verdict(struct raw *raw)
{
	enum stream_error error = verdict(raw->b.at, raw->b.length);

	free(raw->b.at);
	return error;
}

static void growth(void)
{
	/* 4096 bytes long, and of another minor version. */
	static const struct change longer[3] = { { 13, 0x10 }, { 12, 0 }, { 10, 9 } };
	static const struct change major[3] = { { 8, 2 } }, flag[3] = { { 16, 2 } };
	struct raw raw;

	raw_header(&raw, longer);
	raw_record(&raw, 0x8123, 99, 77, 5, "whatever", 8);
	raw_record(&raw, 2, 0, 0, PAGE, NULL, 0);
	raw_record(&raw, 0xffff, 0, ~0ull, ~0ull, NULL, 0);
	raw_end(&raw, 0, 1, 0);
	EQUAL(raw_verdict(&raw), STREAM_OK);
	raw_header(&raw, major);
	EQUAL(raw_verdict(&raw), STREAM_NEWER);
	raw_header(&raw, flag);
	EQUAL(raw_verdict(&raw), STREAM_NEWER);
	raw_header(&raw, NULL);
	raw_record(&raw, 4, 0, 0, PAGE, NULL, 0);
	EQUAL(raw_verdict(&raw), STREAM_NEWER);
	raw_header(&raw, NULL);
	raw_record(&raw, 1, 2, 0, 4, "data", 4);
	EQUAL(raw_verdict(&raw), STREAM_NEWER);
	raw_header(&raw, NULL);
	raw_record(&raw, 2, 1, 0, PAGE, NULL, 0);
	EQUAL(raw_verdict(&raw), STREAM_NEWER);
}

static void senseless_headers(void)
{
	static const struct change changes[][3] = {
		{ { 20, 0x88 }, { 21, 0x13 } },	/* pages of 5000 bytes */
		{ { 21, 0 } },			/* or of none */
		{ { 40, 0 } },			/* no id */
		{ { 31, 0x80 } },		/* larger than any file */
		{ { 32, 1 } },			/* starts inside a page */
		{ { 39, 1 } },			/* or past the end */
		{ { 56, 2 } },			/* a base, but full */
		{ { 16, 1 } },			/* incremental, but no base */
		{ { 16, 1 }, { 56, 1 } },	/* its own base */
	};
	struct raw raw;
	size_t i;

	for (i = 0; i < sizeof(changes) / sizeof(*changes); i++) {
		raw_header(&raw, changes[i]);
		raw_end(&raw, 0, 0, 0);
		if (raw_verdict(&raw) != STREAM_INVALID)
			FAIL("change %zu was accepted", i);
	}
	raw_header(&raw, NULL);
	raw_end(&raw, 0, 0, 0);
	EQUAL(raw_verdict(&raw), STREAM_OK);
}

static void senseless_records(void)
{
	static const struct {
		unsigned int kind, flags;
		uint64_t offset, length;
		const char *data;
		uint32_t stored;
	} cases[] = {
		{ 2, 0, 0, 0, NULL, 0 },				/* empty */
		{ 2, 0, 100, PAGE, NULL, 0 },				/* not of whole pages */
		{ 2, 0, 0, 100, NULL, 0 },
		{ 2, 0, 1 << 20, PAGE, NULL, 0 },			/* past the end */
		{ 2, 0, 0, (1 << 20) + PAGE, NULL, 0 },
		{ 2, 0, PAGE, ~0ull - PAGE + 1, NULL, 0 },		/* overflow */
		{ 2, 0, ~0ull - PAGE + 1, PAGE, NULL, 0 },
		{ 2, 0, 0, PAGE, "full", 4 },				/* a hole with something in it */
		{ 1, 0, 0, PAGE, "short", 5 },				/* another length */
		{ 1, 0, 0, 0, NULL, 0 },
		{ 1, 1, 0, PAGE, "no zstd", 7 },			/* can not be unpacked */
		{ 1, 1, 0, PAGE, NULL, 0 },
		{ 1, 0, 0, PAGE, NULL, 0xffffffff },			/* would need memory */
		{ 0x8000, 0, 0, 0, NULL, (1 << 20) + 1 },
		{ 3, 0, 5, 0, "12345678123456781234567812345678", 32 },	/* no end */
		{ 3, 0, 1 << 20, 1, "12345678123456781234567812345678", 32 },
		{ 3, 0, 1 << 20, 0, "12345678123456781234567812345678", 32 },
		{ 3, 0, 1 << 20, 0, NULL, 0 },
	};
	struct raw raw;
	size_t i;

	for (i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		raw_header(&raw, NULL);
		raw_record(&raw, cases[i].kind, cases[i].flags, cases[i].offset, cases[i].length, cases[i].data,
			   cases[i].stored);
		/* With sums that match, so that it is not refused for those. */
		raw_end(&raw, cases[i].kind == 1, cases[i].kind == 2, cases[i].kind == 1 ? cases[i].length : 0);
		if (raw_verdict(&raw) != STREAM_INVALID)
			FAIL("case %zu was accepted", i);
	}
	raw_header(&raw, NULL);
	raw_record(&raw, 2, 0, PAGE, PAGE, NULL, 0);
	raw_record(&raw, 2, 0, 0, PAGE, NULL, 0);	/* backwards */
	raw_end(&raw, 0, 2, 0);
	EQUAL(raw_verdict(&raw), STREAM_INVALID);
}

/* A frame that unpacks to more than the record says must not be written behind the buffer. */
static void bomb(void)
{
	static const struct change larger[3] = { { 26, 0x40 } };
	size_t length = 64 << 20, stored;
	char *zeroes = calloc(1, length), packed[65536];
	struct raw raw;

	CHECK(zeroes);
	stored = ZSTD_compress(packed, sizeof(packed), zeroes, length, 3);
	CHECK(!ZSTD_isError(stored));
	raw_header(&raw, NULL);
	raw_record(&raw, 1, 1, 0, 1 << 20, packed, stored);
	raw_end(&raw, 1, 0, 1 << 20);
	EQUAL(raw_verdict(&raw), STREAM_INVALID);
	/* And one that unpacks to less. */
	stored = ZSTD_compress(packed, sizeof(packed), zeroes, PAGE, 3);
	raw_header(&raw, NULL);
	raw_record(&raw, 1, 1, 0, 2 * PAGE, packed, stored);
	raw_end(&raw, 1, 0, 2 * PAGE);
	EQUAL(raw_verdict(&raw), STREAM_INVALID);
	/* Or says itself that it is longer than any may be. */
	stored = ZSTD_compress(packed, sizeof(packed), zeroes, 2 << 20, 3);
	raw_header(&raw, larger);
	raw_record(&raw, 1, 1, 0, 2 << 20, packed, stored);
	raw_end(&raw, 1, 0, 2 << 20);
	EQUAL(raw_verdict(&raw), STREAM_INVALID);
	free(zeroes);
}

static void writer_refuses_nonsense(void)
{
	struct stream_header header = { .size = 10 * PAGE, .page_size = PAGE, .id = ID }, bad = header;
	static char data[STREAM_BLOCK_MAX + 1];
	struct bytes b = { 0 };
	struct stream_writer *w = writer(&b, &header, 3);
	size_t before = b.length;

	ERRNO(stream_put_data(w, 1, data, PAGE), EINVAL);
	ERRNO(stream_put_data(w, 0, data, 0), EINVAL);
	ERRNO(stream_put_data(w, 0, data, sizeof(data)), EINVAL);
	ERRNO(stream_put_data(w, 10 * PAGE, data, PAGE), EINVAL);
	ERRNO(stream_put_hole(w, 0, 5), EINVAL);
	EQUAL(b.length, before);
	EQUAL(stream_put_hole(w, PAGE, PAGE), 0);
	ERRNO(stream_put_hole(w, 0, PAGE), EINVAL);
	stream_writer_free(w);
	w = stream_writer_new(put_bytes, &b, 3);
	bad.start = 5;
	ERRNO(stream_put_header(w, &bad), EINVAL);
	stream_writer_free(w);
	free(b.at);
}

static const struct test tests[] = {
	{ "the worked example of cowmem-stream(5) is what is written", worked_example },
	{ "what was written is read, at all levels", round_trip },
	{ "a page costs 40 bytes more if it can not be packed", overhead },
	{ "a stream with any bit flipped is refused", any_byte_flipped },
	{ "a stream that is cut anywhere is refused as cut", cut_anywhere },
	{ "a record that is missing, twice there or of another stream is noticed", records_out_of_place },
	{ "what is no stream is refused as such", foreign },
	{ "what is newer is skipped if that is harmless, else refused as such", growth },
	{ "headers that make no sense are refused", senseless_headers },
	{ "records that make no sense are refused", senseless_records },
	{ "a block that unpacks to another length is refused", bomb },
	{ "nothing is written that could not be read", writer_refuses_nonsense },
	{ NULL, NULL }
};

/* A full stream of 12 bytes in a file, for tests that can not make one as they have no module. */
static int write_stream(const char *path)
{
	struct stream_header header = { .size = PAGE + 12, .page_size = PAGE, .id = ID };
	struct bytes b = { 0 };
	struct stream_writer *w = writer(&b, &header, STREAM_LEVEL_DEFAULT);
	FILE *file = fopen(path, "w");

	CHECK(file);
	EQUAL(stream_put_data(w, PAGE, "hello world\n", 12), 0);
	end(w);
	EQUAL(fwrite(b.at, 1, b.length, file), b.length);
	free(b.at);
	return fclose(file) ? 1 : 0;
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "--write"))
		return write_stream(argv[2]);
	return run_tests(tests, argc, argv);
}
