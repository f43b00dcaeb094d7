// SPDX-License-Identifier: GPL-2.0-only
/*
 * cowctl restore - make a region what another one is
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cowctl.h"

static const char help[] =
"Usage: cowctl restore [OPTION]... REGION FROM\n"
"\n"
"Makes REGION equal to FROM, usually a snapshot of it, in place: whoever has it\n"
"mapped sees the other content from one instant on. A program that goes on to\n"
"run has to expect that. What is in REGION now is lost; take a snapshot first.\n"
"\n"
"  -s, --size            the size as well; without, the sizes have to be equal\n"
"  -k, --keep            pages that were written get their content copied back\n"
"                        and stay mapped: for who does it again and again, while\n"
"                        nobody writes\n"
"      --offset OFFSET   only from there on, a multiple of the page size\n"
"      --length LENGTH   only so much, a multiple of the page size; if it is not\n"
"                        given, up to the end of the smaller one\n"
"      --json            as JSON: { \"region\": ..., \"from\": ..., \"pages\": how\n"
"                        many differed }\n"
"      --help            this text\n";

enum { OPT_OFFSET = OPT_VERB, OPT_LENGTH };

/**
 * struct job - what to do
 * @flags: COWMEM_RESTORE_*
 * @range: whether @offset or @length were given
 */
struct job {
	const char *to, *from;
	unsigned int flags;
	bool range;
	uint64_t offset, length;
};

static const struct column fields[] = {
	{ "pages", "pages", COLUMN_NUMBER },
	{ NULL, NULL, 0 },
};

/* Why, in words for two regions. */
static int complain_restore(const struct job *job, const struct region *region)
{
	if (errno == EINVAL && job->range)
		return complain(job->to, "the range is not in both regions, or not of whole pages");
	if (errno == EINVAL)
		return complain(job->to, "%s is of another size; --size restores that, too", job->from);
	if (errno == EXDEV)
		return complain(job->to, "%s is on another mount, and pages never leave the one they are on",
				job->from);
	if (errno == EIO)
		return complain(job->from,
				"its memory was taken back, as of a snapshot made with --expendable, or is broken");
	return complain_region(region);
}

/* Without a length: all that both have. A range is of whole pages, so if there is more than that, say so. */
static int find_length(struct job *job, int to, int from)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), end;
	struct stat a, b;

	if (fstat(to, &a) || fstat(from, &b))
		return complain_errno(job->to);
	end = (uint64_t)(a.st_size < b.st_size ? a.st_size : b.st_size);
	if (job->offset < end && end % page)
		return complain(job->to,
				"the end is not that of a page, so a range cannot reach it; --length %llu is what can be",
				(unsigned long long)(end / page * page - job->offset / page * page));
	if (job->offset >= end)
		return complain(job->to, "there is nothing behind offset %llu in both regions",
				(unsigned long long)job->offset);
	job->length = end - job->offset;
	return 0;
}

static int restore(struct job *job, const struct region *region, int from)
{
	uint64_t pages = 0;
	int err;

	if (job->range && !job->length && find_length(job, region->fd, from))
		return -1;
	if (job->range)
		err = cowmem_restore_range(region->fd, from, job->offset, job->length, &pages);
	else
		err = cowmem_restore(region->fd, from, job->flags, &pages);
	if (err)
		return complain_restore(job, region);
	if (!output.json)
		return 0;
	return show_object(json_pack("{s:o, s:o, s:I}", "region", json_name(job->to), "from", json_name(job->from),
				     "pages", (json_int_t)pages), fields);
}

static int restore_regions(struct job *job)
{
	struct region to, from;
	int err = -1;

	if (region_open(&from, job->from, O_RDONLY))
		return -1;
	if (!region_open(&to, job->to, O_RDWR)) {
		err = restore(job, &to, from.fd);
		region_close(&to);
	}
	region_close(&from);
	return err;
}

static int restore_run(int argc, char **argv)
{
	static const struct option options[] = {
		{ "size", no_argument, NULL, 's' },
		{ "keep", no_argument, NULL, 'k' },
		{ "offset", required_argument, NULL, OPT_OFFSET },
		{ "length", required_argument, NULL, OPT_LENGTH },
		COMMON_OPTIONS
	};
	struct job job = { };
	int c;

	while ((c = next_option(argc, argv, "sk", options)) >= 0) {
		if (c == 's')
			job.flags |= COWMEM_RESTORE_SIZE;
		else if (c == 'k')
			job.flags |= COWMEM_RESTORE_KEEP;
		else if (c == OPT_OFFSET)
			job.offset = parse_size("--offset", optarg);
		else
			job.length = parse_length(optarg);
		job.range |= c == OPT_OFFSET || c == OPT_LENGTH;
	}
	argv = want_args(argc, argv, 2, 2);
	if (job.range && job.flags)
		usage("a range goes with neither --size nor --keep");
	job.to = argv[0];
	job.from = argv[1];
	return restore_regions(&job);
}

const struct verb verb_restore = { "restore", "make a region what another one is, in place", help, restore_run };
