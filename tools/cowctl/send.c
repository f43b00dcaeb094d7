// SPDX-License-Identifier: GPL-2.0-only
/*
 * cowctl send: a stream of a snapshot, whole or what differs from an earlier one
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "transfer.h"

static const char help[] =
"Usage: cowctl send [OPTION]... REGION\n"
"\n"
"Writes a stream of a region to standard output. If REGION is no snapshot, one is\n"
"made first, so whoever writes to it goes on meanwhile. \"cowctl receive\" reads it.\n"
"\n"
"  -i, --incremental SNAPSHOT\n"
"                     only what differs from SNAPSHOT, which the receiver has\n"
"  -o, --output FILE  to FILE, which must not exist, or is a pipe or a device\n"
"  -l, --level N      compress with level N of zstd, 1 to 19; 0: not at all; default 3\n"
"      --resume TOKEN go on where \"cowctl receive --token\" says that it was cut\n"
"      --id ID        the id of REGION, a snapshot that has none, or can not keep one\n"
"      --base-id ID   that of SNAPSHOT, likewise\n"
"      --json         with -o: tell in JSON what was sent\n"
"      --help         this text\n"
"\n"
"REGION and SNAPSHOT are paths, names in the store, PID or PID:FD.\n"
"\n"
"  cowctl snapshot 4711 monday && cowctl send monday | ssh backup cowctl receive monday\n"
"  cowctl snapshot 4711 tuesday &&\n"
"  cowctl send -i monday tuesday | ssh backup cowctl receive tuesday\n";

/* How much is one block: what is smaller packs worse, what is larger has to come again if it is cut. */
#define SEND_BLOCK	(256U << 10)

enum { OPT_RESUME = OPT_VERB, OPT_ID, OPT_BASE_ID };

struct send {
	const char *output, *base_arg, *token_text;
	int level;
	struct stream_id given_id, given_base;
	struct source source;
	struct source base;
	struct stream_header header;
	struct stream_writer *writer;
	int out;
	bool put_failed;
	struct place place;	/* of a file */
	struct part part;
	uint64_t tail;		/* see tail_page() */
	struct progress progress;
	void *buffer;
};

static const char *output_name(const struct send *s)
{
	return s->output ? s->output : "standard output";
}

/* ---- what is sent ---- */

static int put(void *arg, const void *data, size_t length)
{
	struct send *s = arg;

	s->put_failed = write_whole(s->out, data, length);
	return s->put_failed ? -1 : 0;
}

/* Cut a range to what the stream speaks of. Returns false if nothing is left. */
static bool clip(const struct send *s, uint64_t *offset, uint64_t *length)
{
	uint64_t end = *offset + *length;

	if (end > s->header.size)
		end = s->header.size;
	if (*offset < s->header.start)
		*offset = s->header.start;
	if (*offset >= end)
		return false;
	*length = end - *offset;
	return true;
}

static int send_data(struct send *s, uint64_t offset, uint64_t length)
{
	size_t n;
	ssize_t got;

	for (; length; offset += n, length -= n) {
		n = length < SEND_BLOCK ? length : SEND_BLOCK;
		got = pread_whole(s->source.fd, s->buffer, n, offset);
		if (got >= 0 && (size_t)got < n)
			errno = EIO;
		if (got < (ssize_t)n || stream_put_data(s->writer, offset, s->buffer, n))
			return -1;
		progress_show(&s->progress, offset);
	}
	return 0;
}

static int send_all(struct send *s)
{
	uint64_t offset = s->header.start, length;
	int ret;

	for (;;) {
		ret = next_data(s->source.fd, s->header.size, &offset, &length);
		if (ret <= 0)
			return ret;
		if (send_data(s, offset, length))
			return -1;
		offset += length;
	}
}

/*
 * The page in which the base ends, if that is not its end; else UINT64_MAX. What is behind the end there may not be
 * zero, and comes to light where the region grows: it is the same page, so no difference is seen, but the receiver does
 * not have it.
 */
static uint64_t tail_page(const struct send *s)
{
	uint64_t tail = s->base.size - s->base.size % s->header.page_size;

	return tail == s->base.size || s->header.size <= s->base.size ? UINT64_MAX : tail;
}

static int send_tail(struct send *s)
{
	uint64_t offset = s->tail, length = s->header.page_size;

	s->tail = UINT64_MAX;
	return clip(s, &offset, &length) ? send_data(s, offset, length) : 0;
}

static int send_extent(const struct cowmem_extent *e, void *arg)
{
	struct send *s = arg;
	uint64_t offset = e->offset, length = e->length;

	if (s->tail < e->offset && send_tail(s))
		return -1;
	if (s->tail < e->offset + e->length)
		s->tail = UINT64_MAX;
	if (!clip(s, &offset, &length))
		return 0;
	if (e->kind == COWMEM_EXTENT_DATA)
		return send_data(s, offset, length);
	return stream_put_hole(s->writer, offset, length);
}

static int send_difference(struct send *s)
{
	s->tail = tail_page(s);
	if (cowmem_diff(s->source.fd, s->base.fd, 0, send_extent, s))
		return -1;
	return s->tail == UINT64_MAX ? 0 : send_tail(s);
}

static int send_stream(struct send *s)
{
	int ret;

	progress_begin(&s->progress, "send", s->header.size, true);
	ret = stream_put_header(s->writer, &s->header);
	if (!ret)
		ret = s->base_arg ? send_difference(s) : send_all(s);
	if (!ret)
		ret = stream_put_end(s->writer);
	progress_end(&s->progress);
	if (!ret)
		return 0;
	if (!s->put_failed)
		return complain_source(&s->source);
	if (errno == EPIPE || errno == ECONNRESET)
		return complain(output_name(s), "whoever read the stream has gone; see why, and begin again or go on "
				"with --resume");
	return complain(output_name(s), "%s", strerror(errno));
}

/* ---- which snapshot that is ---- */

/*
 * The id of a snapshot, be it kept in it or given by the user, who may not say another one than it has. Returns 0, -1
 * if there is none, or -2 after it was said why.
 */
static int known_id(const struct source *source, const struct stream_id *given, const char *option,
		    struct stream_id *id)
{
	char text[ID_TEXT];
	int ret = id_get(source->fd, id);

	if (stream_id_is_none(given))
		return ret;
	if (!ret && !stream_id_equal(id, given)) {
		id_format(id, text);
		complain(source->region.arg, "its id is %s; leave out %s", text, option);
		return -2;
	}
	*id = *given;
	/* If it can keep it, it need not be given again. */
	if (ret)
		id_keep(source->fd, id);
	return 0;
}

/* Give it a new one. If it can not keep that, the stream is as good as any, but the last one of a chain. */
static int new_id(const struct source *source, struct stream_id *id)
{
	if (!id_ensure(source->fd, id))
		return 0;
	warn_user(source->region.arg, "it can not keep an id (%s), so no incremental stream will build on this one; "
		  "give it one by --id", strerror(errno));
	return id_random(id) ? complain_errno(source->region.arg) : 0;
}

static int find_base(struct send *s)
{
	struct source *base = &s->base;

	if (!s->base_arg)
		return 0;
	if (source_open(base, s->base_arg))
		return -1;
	if (base->made)
		return complain(s->base_arg, "it is no snapshot, so it may not be what the receiver has");
	switch (known_id(base, &s->given_base, "--base-id", &s->header.base)) {
	case 0:
		return 0;
	case -1:
		return complain(s->base_arg, "it has no id, so it was never sent, or was touched after that; send it "
				"first, without -i");
	default:
		return -1;
	}
}

/* What is sent gets an id after its base was looked at, or it would have one that nobody knows. */
static int find_id(struct send *s)
{
	const struct source *source = &s->source;

	if (source->made && !stream_id_is_none(&s->given_id))
		return complain(source->region.arg, "it is no snapshot, so --id can not tell what will be sent");
	if (source->made)
		return id_random(&s->header.id) ? complain_errno(source->region.arg) : 0;
	switch (known_id(source, &s->given_id, "--id", &s->header.id)) {
	case -1:
		return new_id(source, &s->header.id);
	case -2:
		return -1;
	}
	if (!stream_id_equal(&s->header.base, &s->header.id))
		return 0;
	return complain(s->base_arg, "it is what shall be sent: nothing differs");
}

static int find_start(struct send *s)
{
	char text[ID_TEXT];
	struct token token;

	if (!s->token_text)
		return 0;
	if (token_parse(s->token_text, &token))
		usage("--resume: this is not what \"cowctl receive --token\" printed");
	if (!stream_id_equal(&token.id, &s->header.id)) {
		id_format(&token.id, text);
		return complain(s->source.region.arg, "the receiver waits for the rest of %s, and this is another one",
				text);
	}
	if (!stream_id_equal(&token.base, &s->header.base)) {
		id_format(&token.base, text);
		return stream_id_is_none(&token.base) ?
			complain(s->source.region.arg,
				 "the receiver waits for the rest of a full stream; leave out -i") :
			complain(s->source.region.arg, "the receiver waits for the rest of a stream that builds on %s; "
				 "name that by -i", text);
	}
	if (token.position > s->header.size)
		return complain(s->source.region.arg, "the receiver has more of it than there is");
	s->header.start = token.position - token.position % s->header.page_size;
	return 0;
}

/* ---- the verb ---- */

static int show_sent(const struct send *s)
{
	char id[ID_TEXT], base[ID_TEXT];

	id_format(&s->header.id, id);
	id_format(&s->header.base, base);
	return show_json(json_pack("{s:s, s:s?, s:I, s:I, s:I}", "id", id, "base", s->base_arg ? base : NULL,
				   "size", (json_int_t)s->header.size, "start", (json_int_t)s->header.start,
				   "stream_bytes", (json_int_t)stream_written(s->writer)), true);
}

/* To a pipe, a device or a socket. */
static int send_through(struct send *s)
{
	int ret;

	s->out = open_output(s->output);
	if (s->out < 0)
		return -1;
	ret = send_stream(s);
	if (close(s->out) && !ret)
		ret = complain(output_name(s), "%s", strerror(errno));
	return ret;
}

static int fill_part(struct send *s)
{
	s->out = s->part.fd;
	if (send_stream(s))
		return -1;
	if (fsync(s->out))
		return complain(s->output, "%s", strerror(errno));
	return part_publish(&s->part);
}

/* To a file, which has its name if all is in it. */
static int send_to_file(struct send *s)
{
	int ret;

	if (new_place(&s->place, s->output, true))
		return -1;
	ret = part_make(&s->part, &s->place);
	if (!ret) {
		ret = fill_part(s);
		if (ret)
			part_remove(&s->part);
		part_close(&s->part);
	}
	place_close(&s->place);
	return ret;
}

static int send_opened(struct send *s)
{
	int ret;

	s->header.size = s->source.size;
	s->header.page_size = sysconf(_SC_PAGESIZE);
	if (find_base(s) || find_id(s) || find_start(s))
		return -1;
	s->buffer = must(malloc(SEND_BLOCK));
	s->writer = must(stream_writer_new(put, s, s->level));
	ret = s->output && is_file_path(s->output) ? send_to_file(s) : send_through(s);
	if (!ret && output.json && s->output)
		ret = show_sent(s);
	stream_writer_free(s->writer);
	free(s->buffer);
	return ret;
}

static void parse_id(const char *option, struct stream_id *id)
{
	if (id_parse(optarg, id))
		usage("%s: \"%s\" is no id: 32 hexadecimal digits, not all 0", option, optarg);
}

static void parse(struct send *s, int argc, char **argv)
{
	static const struct option longs[] = {
		{ "incremental", required_argument, NULL, 'i' },
		{ "output", required_argument, NULL, 'o' },
		{ "level", required_argument, NULL, 'l' },
		{ "resume", required_argument, NULL, OPT_RESUME },
		{ "id", required_argument, NULL, OPT_ID },
		{ "base-id", required_argument, NULL, OPT_BASE_ID },
		COMMON_OPTIONS
	};
	int c;

	while ((c = next_option(argc, argv, "i:o:l:", longs)) >= 0) {
		switch (c) {
		case 'i':
			s->base_arg = optarg;
			break;
		case 'o':
			s->output = optarg;
			break;
		case 'l':
			s->level = parse_number("--level", optarg, 0, STREAM_LEVEL_MAX);
			break;
		case OPT_RESUME:
			s->token_text = optarg;
			break;
		case OPT_ID:
			parse_id("--id", &s->given_id);
			break;
		case OPT_BASE_ID:
			parse_id("--base-id", &s->given_base);
			break;
		}
	}
	if (!s->base_arg && !stream_id_is_none(&s->given_base))
		usage("--base-id needs --incremental");
}

static int run(int argc, char **argv)
{
	struct send s = { .level = STREAM_LEVEL_DEFAULT, .base.fd = -1 };
	int ret;

	parse(&s, argc, argv);
	argv = want_args(argc, argv, 1, 1);
	expect_errors();
	if (source_open(&s.source, argv[0]))
		return -1;
	ret = send_opened(&s);
	if (s.base.fd >= 0)
		source_close(&s.base);
	source_close(&s.source);
	return ret;
}

const struct verb verb_send = {
	.name = "send",
	.summary = "write a stream of a region or of what differs from a snapshot",
	.help = help,
	.run = run,
};
