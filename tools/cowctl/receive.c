// SPDX-License-Identifier: GPL-2.0-only
/*
 * cowctl receive: a snapshot out of a stream
 *
 * What comes is checked block by block, and only then written, into a file that has another name until all is there.
 * That file says how far it is, so that a receiver that was ended, however, goes on there.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <linux/fs.h>

#include "transfer.h"

static const char help[] =
"Usage: cowctl receive [OPTION]... NAME|PATH\n"
"       cowctl receive --token NAME|PATH\n"
"       cowctl receive --abort NAME|PATH\n"
"\n"
"Makes a snapshot of the stream that \"cowctl send\" wrote, from standard input: NAME\n"
"in the store, or a file anywhere, sparse. It has that name once all of it has come\n"
"and was checked. If the stream is cut, feed all of it again, or only the rest.\n"
"\n"
"  -i, --input FILE   read FILE; what -i is for cowctl send, the stream tells itself\n"
"  -b, --base REGION  what an incremental stream builds on; else it is looked for, by\n"
"                     its id, beside NAME\n"
"      --token        print what \"cowctl send --resume\" needs to send the rest\n"
"      --abort        give up what has come so far\n"
"      --json         tell in JSON what was received\n"
"      --help         this text\n"
"\n"
"  cowctl receive monday < monday.cowmem\n"
"  cowctl send --resume $(ssh backup cowctl receive --token monday) monday |\n"
"  ssh backup cowctl receive monday\n";

enum { OPT_TOKEN = OPT_VERB, OPT_ABORT };

/*
 * How much may have to come again after a kill. The more often that is kept the less, but a file has to be written to a
 * disk for it: that may take one part in KEEP_SHARE of the time.
 */
#define KEEP_LEAST	(256ULL << 10)
#define KEEP_MOST	(64ULL << 20)
#define KEEP_SHARE	10

struct receive {
	const char *input, *base_arg;
	int in;
	struct place place;
	struct stream_reader *reader;
	struct stream_header header;
	struct part part;
	bool region;		/* is it on a mount of cowmem? */
	uint64_t kept;		/* bytes of the stream when the state was kept */
	double kept_at;		/* when that was */
	double keep_took;	/* seconds that it took */
	bool lost;		/* something that was written has not got to the disk */
	struct progress progress;
};

static const char *input_name(const struct receive *r)
{
	return r->input ? r->input : "standard input";
}

static ssize_t get(void *arg, void *buffer, size_t length)
{
	const struct receive *r = arg;

	return read_whole(r->in, buffer, length);
}

/* ---- the base ---- */

/* A file. And who can write it could give it any content and any id: its owner alone, or nobody. */
static bool is_trusted(int fd)
{
	struct stat st;

	return !fstat(fd, &st) && S_ISREG(st.st_mode) && (st.st_uid == geteuid() || !st.st_uid) && !(st.st_mode & 022);
}

/* Is it what the stream builds on, and unchanged? */
static bool is_base(const struct receive *r, int fd)
{
	struct stream_id id;

	return !id_get(fd, &id) && stream_id_equal(&id, &r->header.base);
}

/* Open a file in the directory. What else is there is not touched: opening a pipe or device does something to it. */
static int open_file(const struct receive *r, const char *name)
{
	int at = openat(r->place.dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC), fd = -1;

	if (at < 0)
		return -1;
	if (is_trusted(at))
		fd = open_again(at, O_RDONLY | O_NONBLOCK);
	close(at);
	return fd;
}

/* Is a file in the directory the base? Returns its descriptor, or -1. */
static int try_base(const struct receive *r, const char *name)
{
	int fd = open_file(r, name);

	if (fd < 0 || is_base(r, fd))
		return fd;
	close(fd);
	return -1;
}

static bool same_file(int one, int other)
{
	struct stat a, b;

	return !fstat(one, &a) && !fstat(other, &b) && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/* Whoever owns a file can give it any id, so of two that have the right one neither is taken for the base. */
static int complain_two(const struct receive *r, const char *one, const char *other)
{
	return complain(r->place.path, "two files beside it are what this stream builds on: %s, %s; name the right one "
			"by --base", one, other);
}

/* Look at all files beside the new one. Returns a descriptor, -2 if none is it, or -1 after it was said why. */
static int search_base(const struct receive *r, DIR *dir)
{
	struct dirent *entry;
	int found = -2, fd;
	char *name = NULL;

	while (found != -1 && (entry = readdir(dir))) {
		fd = try_base(r, entry->d_name);
		if (fd < 0)
			continue;
		if (found < 0) {
			found = fd;
			name = must(strdup(entry->d_name));
			continue;
		}
		if (!same_file(found, fd)) {
			close(found);
			found = complain_two(r, name, entry->d_name);
		}
		close(fd);
	}
	free(name);
	return found;
}

static int look_for_base(const struct receive *r)
{
	int copy = openat(r->place.dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), fd = -2;
	DIR *dir = copy < 0 ? NULL : fdopendir(copy);
	char id[ID_TEXT];

	if (dir) {
		fd = search_base(r, dir);
		closedir(dir);
	}
	if (fd != -2)
		return fd;
	id_format(&r->header.base, id);
	if (!keeps_ids(r->place.dir))
		return complain(r->place.path, "this stream builds on %s, and this file system keeps no ids: receive all "
				"onto another one", id);
	return complain(r->place.path, "this stream builds on %s, and no file beside it is that; receive that one first, "
			"or name it by --base", id);
}

static int named_base(const struct receive *r)
{
	char want[ID_TEXT], have[ID_TEXT];
	struct stream_id id;
	int fd = open(r->base_arg, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	struct region region;

	if (fd < 0) {
		if (region_open(&region, r->base_arg, O_RDONLY))
			return -1;
		fd = region.fd;
	}
	id_format(&r->header.base, want);
	if (is_base(r, fd))
		return fd;
	if (!id_get(fd, &id)) {
		id_format(&id, have);
		complain(r->base_arg, "this stream builds on %s, and this is %s; name the right one", want, have);
	} else if (!keeps_ids(fd)) {
		complain(r->base_arg, "this stream builds on %s, and this file system keeps no ids: receive all onto "
			 "another one", want);
	} else if (errno == ESTALE) {
		complain(r->base_arg, "this stream builds on %s, and this may have changed since it was received",
			 want);
	} else {
		complain(r->base_arg, "this stream builds on %s, and this has no id: it was neither sent nor received",
			 want);
	}
	close(fd);
	return -1;
}

/* Let the part begin with what is in the base. Pages are shared where the file system can do that. */
static int copy_base(struct receive *r, int base)
{
	struct stat st;

	if (!ioctl(r->part.fd, FICLONE, base))
		return 0;
	if (fstat(base, &st))
		return -1;
	return copy_sparse(base, r->part.fd, st.st_size, &r->progress);
}

/* ---- the part ---- */

/* Returns a descriptor, -2 for a full stream, or -1 after it was said why. */
static int find_base(struct receive *r)
{
	if (!stream_id_is_none(&r->header.base))
		return r->base_arg ? named_base(r) : look_for_base(r);
	if (!r->base_arg)
		return -2;
	return complain(r->base_arg, "this stream is full and builds on nothing; leave out --base");
}

/* What errno means for the file, which need not be a region. */
static int complain_write(const struct receive *r)
{
	bool kept = part_is_kept(&r->part) && !r->lost;

	return complain(r->place.path, "%s%s%s", r->region ? cowmem_strerror(errno) : strerror(errno), kept ? "; " : "",
			kept ? PART_KEPT : "");
}

/*
 * Behind the end of the base the part is a hole. What a region has in its last page there was stored through a mapping,
 * and has come to light just now. Who sends replaces that page, but its pages may be smaller than ours.
 */
static int clear_growth(struct receive *r, int base)
{
	struct stat st;

	if (fstat(base, &st))
		return -1;
	if (!r->region || (uint64_t)st.st_size >= r->header.size)
		return 0;
	return make_hole(r->part.fd, st.st_size, r->header.size - st.st_size, &r->progress);
}

/* What a part is before anything has come. */
static int fill_part(struct receive *r, int base)
{
	if (base >= 0 && copy_base(r, base))
		return complain_write(r);
	/* A plain file can be written at any time. */
	if (base >= 0 && !is_base(r, base))
		return complain(r->place.path, "what it builds on was changed while it was copied; receive that one again");
	if (ftruncate(r->part.fd, r->header.size) || (base >= 0 && clear_growth(r, base)))
		return complain_write(r);
	/* What is noted to have come has to be there after a crash, too. */
	if (base >= 0 && !r->region && fdatasync(r->part.fd))
		return complain_write(r);
	return 0;
}

static int begin_part(struct receive *r, int base)
{
	if (part_make(&r->part, &r->place))
		return -1;
	r->region = cowmem_is_region(r->part.fd);
	r->part.state = (struct token) { .id = r->header.id, .base = r->header.base };
	if (!fill_part(r, base)) {
		r->part.resumable = !part_keep(&r->part);
		return 0;
	}
	part_remove(&r->part);
	part_close(&r->part);
	return -1;
}

/* A new part; what the stream has to fit to is looked at before. */
static int make_part(struct receive *r)
{
	int base, ret;

	if (r->header.start)
		return complain(r->place.path, "the stream is the rest of one of which nothing has come; send all of it, "
				"without --resume");
	base = find_base(r);
	if (base == -1)
		return -1;
	ret = begin_part(r, base);
	if (base >= 0)
		close(base);
	return ret;
}

/* It got its size when it was made, and is not written any more once it has an id: is it so? */
static int check_unchanged(const struct receive *r)
{
	struct stream_id id;
	struct stat st;

	if (fstat(r->part.fd, &st))
		return complain_write(r);
	if ((uint64_t)st.st_size == r->header.size && (!id_get(r->part.fd, &id) || errno != ESTALE))
		return 0;
	return complain(r->place.path, "somebody has changed what has come, %s; give it up: cowctl receive --abort",
			r->part.name);
}

/* Does the stream go on where the part ends? What is whole needs nothing, whatever the stream builds on. */
static int check_part(const struct receive *r)
{
	const struct token *state = &r->part.state;
	char id[ID_TEXT];

	if (!stream_id_equal(&state->id, &r->header.id) ||
	    (!r->part.whole && !stream_id_equal(&state->base, &r->header.base))) {
		id_format(&state->id, id);
		return complain(r->place.path, "a part of another snapshot, %s, has come; go on with that, or give it up: "
				"cowctl receive --abort", id);
	}
	if (r->header.start > state->position)
		return complain(r->place.path, "the stream goes on at byte %" PRIu64 ", but what has come ends at %"
				PRIu64 "; ask cowctl receive --token", r->header.start, state->position);
	return check_unchanged(r);
}

static int open_part(struct receive *r)
{
	int found = part_find(&r->part, &r->place);

	if (found < 0)
		return -1;
	if (!found)
		return make_part(r);
	if (!check_part(r))
		return 0;
	part_close(&r->part);
	return -1;
}

/* ---- blocks ---- */

/* Keep where it stands. What is on a disk has to be there before that says so. */
static int keep(struct receive *r)
{
	double began = now_seconds();

	r->kept = stream_read_bytes(r->reader);
	if (!r->part.resumable)
		return 0;
	if (!r->region && fdatasync(r->part.fd)) {
		/* This is said once; the next time all would seem well. */
		r->lost = true;
		return -1;
	}
	if (part_keep(&r->part))
		return -1;
	r->kept_at = now_seconds();
	r->keep_took = r->kept_at - began;
	return 0;
}

static bool is_time_to_keep(const struct receive *r)
{
	uint64_t come = stream_read_bytes(r->reader) - r->kept;

	return come >= KEEP_MOST ||
	       (come >= KEEP_LEAST && now_seconds() - r->kept_at >= KEEP_SHARE * r->keep_took);
}

/* A full stream makes a new file, which is zero where nothing was written. */
static int apply_hole(struct receive *r, const struct stream_block *block)
{
	return stream_id_is_none(&r->header.base) ? 0 :
						    make_hole(r->part.fd, block->offset, block->length, &r->progress);
}

static int apply(struct receive *r, const struct stream_block *block)
{
	uint64_t end = block->offset + block->length;

	if (end <= r->part.state.position)
		return 0;
	if (block->kind == STREAM_DATA ? pwrite_whole(r->part.fd, block->data, block->length, block->offset) :
					 apply_hole(r, block))
		return -1;
	r->part.state.position = end;
	return is_time_to_keep(r) ? keep(r) : 0;
}

/* What the user can do about it. */
static const char *advice(const struct receive *r)
{
	switch (stream_error_of(r->reader)) {
	case STREAM_NEWER:
		return "install that version here";
	case STREAM_FOREIGN:
		return "give it what cowctl send wrote";
	case STREAM_CUT:
	case STREAM_FAILED:
		return part_is_kept(&r->part) ? PART_KEPT : "send it again";
	default:
		return "send it again";
	}
}

static int complain_stream(const struct receive *r)
{
	return complain(input_name(r), "%s; %s", stream_error_text(r->reader), advice(r));
}

/* What has come stays for the next try, if there is anything of it and a next try can find it. */
static void leave_part(struct receive *r)
{
	if (!part_is_current(&r->part))
		return;
	if (!part_is_kept(&r->part))
		part_remove(&r->part);
	else if (!r->lost)
		keep(r);
}

static int take_blocks(struct receive *r)
{
	struct stream_block block;
	int ret;

	progress_begin(&r->progress, "receive", r->header.size, true);
	while ((ret = stream_get_block(r->reader, &block)) > 0) {
		if (apply(r, &block)) {
			progress_end(&r->progress);
			return complain_write(r);
		}
		progress_show(&r->progress, block.offset);
	}
	progress_end(&r->progress);
	return ret ? complain_stream(r) : 0;
}

/* ---- the end ---- */

/* All of it has come and was checked. From its id on it is whole, and needs no stream to get its name. */
static int complete(struct receive *r)
{
	r->part.state.position = r->header.size;
	if (keep(r) || part_seal(&r->part))
		return complain_write(r);
	if (check_unchanged(r))
		return -1;
	if (id_keep(r->part.fd, &r->header.id))
		warn_user(r->place.path, "it can not keep its id (%s), so no incremental stream can build on it",
			  strerror(errno));
	return 0;
}

static int publish(struct receive *r)
{
	if (part_freeze(&r->part))
		return complain_write(r);
	return part_publish(&r->part);
}

/* It was whole before this stream came. That is read all the same, or its sender would take this for a failure. */
static void read_rest(struct receive *r)
{
	struct stream_block block;

	while (stream_get_block(r->reader, &block) > 0)
		;
}

static int show_received(const struct receive *r)
{
	char id[ID_TEXT], base[ID_TEXT];

	id_format(&r->header.id, id);
	id_format(&r->header.base, base);
	return show_json(json_pack("{s:o, s:s, s:s?, s:I, s:I}", "path", json_name(r->place.path), "id", id, "base",
				   stream_id_is_none(&r->header.base) ? NULL : base,
				   "size", (json_int_t)r->header.size,
				   "stream_bytes", (json_int_t)stream_read_bytes(r->reader)), true);
}

static int receive_stream(struct receive *r)
{
	int ret;

	if (stream_get_header(r->reader, &r->header))
		return complain_stream(r);
	if (open_part(r))
		return -1;
	r->region = cowmem_is_region(r->part.fd);
	ret = r->part.whole ? 0 : take_blocks(r);
	if (!ret && !r->part.whole)
		ret = complete(r);
	if (!ret)
		ret = publish(r);
	if (ret)
		leave_part(r);
	else if (r->part.whole)
		read_rest(r);
	part_close(&r->part);
	if (!ret && output.json)
		ret = show_received(r);
	return ret;
}

static int receive(struct receive *r)
{
	int ret;

	r->in = open_input(r->input);
	if (r->in < 0)
		return -1;
	r->reader = must(stream_reader_new(get, r));
	ret = receive_stream(r);
	stream_reader_free(r->reader);
	close(r->in);
	return ret;
}

/* ---- parts that are there ---- */

static int show_token(struct receive *r)
{
	char text[TOKEN_TEXT];
	bool exists = !faccessat(r->place.dir, r->place.name, F_OK, AT_SYMLINK_NOFOLLOW);
	int found = part_find(&r->part, &r->place);

	if (!found && exists)
		return complain(r->place.path, "it exists, and there is no part of it: nothing is left to send");
	if (!found)
		return complain(r->place.path, "nothing has come of it yet; send it from the start");
	if (found < 0)
		return -1;
	/* It could not get its name. */
	if (exists && place_is_free(&r->place)) {
		part_close(&r->part);
		return -1;
	}
	token_format(&r->part.state, text);
	part_close(&r->part);
	return puts(text) < 0 || fflush(stdout) ? complain("standard output", "%s", strerror(errno)) : 0;
}

static int abort_part(struct receive *r)
{
	int found = part_clear(&r->place);

	if (!found)
		return complain(r->place.path, "there is no part to give up");
	return found > 0 ? 0 : -1;
}

/* ---- the verb ---- */

static int parse(struct receive *r, int argc, char **argv)
{
	static const struct option longs[] = {
		{ "input", required_argument, NULL, 'i' },
		{ "base", required_argument, NULL, 'b' },
		{ "token", no_argument, NULL, OPT_TOKEN },
		{ "abort", no_argument, NULL, OPT_ABORT },
		COMMON_OPTIONS
	};
	int c, what = 0;

	while ((c = next_option(argc, argv, "i:b:", longs)) >= 0) {
		if (c == 'i')
			r->input = optarg;
		else if (c == 'b')
			r->base_arg = optarg;
		else if (what && what != c)
			usage("--token and --abort do not go together");
		else
			what = c;
	}
	if (what && (r->input || r->base_arg))
		usage("--token and --abort read no stream");
	return what;
}

static int run(int argc, char **argv)
{
	struct receive r = { .in = -1 };
	int what = parse(&r, argc, argv), ret;

	argv = want_args(argc, argv, 1, 1);
	expect_errors();
	/* What there is of a part is told also if something has got the name. */
	if (what ? any_place(&r.place, argv[0], false) : new_place(&r.place, argv[0], false))
		return -1;
	if (what == OPT_TOKEN)
		ret = show_token(&r);
	else if (what == OPT_ABORT)
		ret = abort_part(&r);
	else
		ret = receive(&r);
	place_close(&r.place);
	return ret;
}

const struct verb verb_receive = {
	.name = "receive",
	.summary = "make a snapshot of what \"cowctl send\" wrote",
	.help = help,
	.run = run,
};
