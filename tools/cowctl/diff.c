// SPDX-License-Identifier: GPL-2.0-only
/*
 * cowctl diff - where two regions differ
 */
#include <errno.h>
#include <fcntl.h>

#include "cowctl.h"

static const char help[] =
"Usage: cowctl diff [OPTION]... OLD NEW\n"
"\n"
"Lists the ranges where NEW differs from OLD, of whole pages: where they begin,\n"
"how long they are, and whether NEW has data or a hole there. Pages count as\n"
"different unless the regions share them. It is exact for snapshots; of a region\n"
"that is being written, a page that is just written may be in the list or not.\n"
"\n"
"  -c, --content         compare bytes, too: leave out pages that are equal but\n"
"                        not shared\n"
"  -s, --stat            only how much differs\n"
"      --json            as JSON: { \"extents\": [...] }, or { \"extents\": COUNT,\n"
"                        \"data\": BYTES, \"hole\": BYTES }\n"
"  -h, --human-readable  sizes as 1.5G\n"
"      --help            this text\n"
"\n"
"The exit status tells whether it could be done, not whether they differ.\n";

/* What was found so far. */
struct found {
	bool stat;
	uint64_t extents, data, hole;
};

static const struct column fields[] = {
	{ "extents", "extents", COLUMN_NUMBER },
	{ "data", "data", COLUMN_BYTES },
	{ "hole", "hole", COLUMN_BYTES },
	{ NULL, NULL, 0 },
};

/*
 * One line. There may be millions of them, so they are not kept for a table, nor for one large piece of JSON; there are
 * only numbers in them.
 */
static void show_extent(const struct cowmem_extent *extent, bool first)
{
	const char *kind = extent->kind == COWMEM_EXTENT_DATA ? "data" : "hole";
	char offset[32], length[32];

	if (output.json) {
		printf("%s\n    {\"offset\": %llu, \"length\": %llu, \"kind\": \"%s\"}", first ? "" : ",",
		       (unsigned long long)extent->offset, (unsigned long long)extent->length, kind);
		return;
	}
	if (first)
		printf("%16s %16s  %s\n", "OFFSET", "LENGTH", "KIND");
	printf("%16s %16s  %s\n", format_size(offset, extent->offset), format_size(length, extent->length), kind);
}

static int add_extent(const struct cowmem_extent *extent, void *arg)
{
	struct found *found = arg;

	if (!found->stat)
		show_extent(extent, !found->extents);
	found->extents++;
	if (extent->kind == COWMEM_EXTENT_DATA)
		found->data += extent->length;
	else
		found->hole += extent->length;
	/* Nobody wants the rest if it cannot be written. */
	return ferror(stdout) != 0;
}

static int show_stat(const struct found *found)
{
	return show_object(json_pack("{s:I, s:I, s:I}", "extents", (json_int_t)found->extents, "data",
				     (json_int_t)found->data, "hole", (json_int_t)found->hole), fields);
}

static int diff(const struct region *new, const struct region *old, unsigned int flags, bool stat)
{
	struct found found = { .stat = stat };
	int ret;

	if (output.json && !stat)
		fputs("{\n  \"extents\": [", stdout);
	ret = cowmem_diff(new->fd, old->fd, flags, add_extent, &found);
	if (ret < 0)
		return complain_region(new);
	if (ret > 0)
		return complain("standard output", "cannot be written");
	if (stat)
		return show_stat(&found);
	if (output.json)
		fputs("\n  ]\n}\n", stdout);
	return 0;
}

static int diff_run(int argc, char **argv)
{
	static const struct option options[] = {
		{ "content", no_argument, NULL, 'c' },
		{ "stat", no_argument, NULL, 's' },
		HUMAN_OPTION,
		COMMON_OPTIONS
	};
	struct region old, new;
	unsigned int flags = 0;
	bool stat = false;
	int c, err = -1;

	while ((c = next_option(argc, argv, "csh", options)) >= 0) {
		if (c == 'c')
			flags |= COWMEM_DIFF_CONTENT;
		else
			stat = true;
	}
	argv = want_args(argc, argv, 2, 2);
	if (region_open(&old, argv[0], O_RDONLY))
		return -1;
	if (!region_open(&new, argv[1], O_RDONLY)) {
		err = diff(&new, &old, flags, stat);
		region_close(&new);
	}
	region_close(&old);
	return err;
}

const struct verb verb_diff = { "diff", "where two regions differ", help, diff_run };
