// SPDX-License-Identifier: GPL-2.0-only
/*
 * cowctl top - what happens to regions, as it happens
 */
#include <search.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "top.h"

static const char help[] =
"Usage: cowctl top [OPTION]...\n"
"\n"
"Shows what happens to regions, each second, by process and region, the busiest\n"
"first:\n"
"\n"
"  PID, COMMAND   the process that did it; ? if it has ended and nobody knows\n"
"  REGION, MOUNT  the region's number, as ID in cowctl list, and where the mount\n"
"                 is that counts it; of one that is not mounted here, as that of\n"
"                 /dev/cowmem, its device number\n"
"\n"
"and so many a second:\n"
"\n"
"  FAULTS    page faults in mappings of the region\n"
"  SPLITS    shared pages that were copied for their writer\n"
"  REUSES    pages that their last holder writes in place\n"
"  CLONES, RESTORES, COPIES, MERGES   calls\n"
"  ZAPS      ranges that became holes\n"
"  YIELDS    snapshots whose memory was taken back for a write\n"
"\n"
"  -b, --batch           no screen: one table after the other; so it is if\n"
"                        stdout is no terminal\n"
"  -n, --iterations N    end after N of them\n"
"  -d, --delay SECONDS   time between two, 0.1 to 3600; 1 if it is not given\n"
"      --json            as JSON, a line each: { \"time\": ..., \"seconds\": ...,\n"
"                        \"lost\": EVENTS, \"rows\": [...] }\n"
"      --help            this text\n"
"\n"
"It needs root, for tracefs.\n";

volatile sig_atomic_t top_stop;

static void on_signal(int signal)
{
	(void)signal;
	top_stop = 1;
}

/* ---- a table of it ---- */

static const struct column columns[] = {
	{ "pid", "PID", COLUMN_NUMBER },
	{ "command", "COMMAND", COLUMN_TEXT },
	{ "region", "REGION", COLUMN_NUMBER },
	{ "mount", "MOUNT", COLUMN_TEXT },
	{ "faults", "FAULTS", COLUMN_NUMBER },
	{ "splits", "SPLITS", COLUMN_NUMBER },
	{ "reuses", "REUSES", COLUMN_NUMBER },
	{ "clones", "CLONES", COLUMN_NUMBER },
	{ "restores", "RESTORES", COLUMN_NUMBER },
	{ "copies", "COPIES", COLUMN_NUMBER },
	{ "merges", "MERGES", COLUMN_NUMBER },
	{ "zaps", "ZAPS", COLUMN_NUMBER },
	{ "yields", "YIELDS", COLUMN_NUMBER },
	{ NULL, NULL, 0 },
};

/* Rows in an array, for twalk_r(). */
struct collected {
	const struct row **rows;
	size_t count;
};

static void collect(const void *node, VISIT which, void *arg)
{
	struct collected *all = arg;

	if (which != postorder && which != leaf)
		return;
	all->rows = must(reallocarray(all->rows, all->count + 1, sizeof(*all->rows)));
	all->rows[all->count++] = *(const struct row *const *)node;
}

static uint64_t activity(const struct row *row)
{
	uint64_t sum = 0;
	int i;

	for (i = 0; i < COUNTERS; i++)
		sum += row->counts[i];
	return sum;
}

static int busiest_first(const void *a, const void *b)
{
	uint64_t x = activity(*(const struct row *const *)a), y = activity(*(const struct row *const *)b);

	return x > y ? -1 : x < y;
}

/* Each mount counts its own regions, so it takes both to know one. */
static json_t *mount_json(const struct row *row)
{
	char *mount;
	json_t *name;

	if (!row->region)
		return json_null();
	mount = mount_of(row->dev);
	if (!mount)
		mount = must_printf("%u:%u", major(row->dev), minor(row->dev));
	name = json_name(mount);
	free(mount);
	return name;
}

static json_t *row_json(struct top *top, const struct row *row, double seconds)
{
	const char *command = top_process_name(top, row->pid);
	json_t *region = row->region ? json_integer((json_int_t)row->region) : json_null();
	json_t *object = json_pack("{s:i, s:o, s:o, s:o}", "pid", (int)row->pid, "command", json_name(command),
				   "region", region, "mount", mount_json(row));
	int i;

	for (i = 0; i < COUNTERS; i++)
		json_object_set_new(object, top_key(i), json_real((double)row->counts[i] / seconds));
	return object;
}

/* A screen has so many lines for rows; 0 is no limit. */
static size_t lines_of_screen(void)
{
	struct winsize size;

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) || size.ws_row < 4)
		return 20;
	return size.ws_row - 3U;
}

static json_t *rows_json(struct top *top, double seconds, size_t limit)
{
	struct collected all = { };
	json_t *rows = json_array();
	size_t i;

	twalk_r(top->rows, collect, &all);
	if (all.count)
		qsort(all.rows, all.count, sizeof(*all.rows), busiest_first);
	for (i = 0; i < all.count && (!limit || i < limit); i++)
		json_array_append_new(rows, row_json(top, all.rows[i], seconds));
	free(all.rows);
	return rows;
}

/* ---- the verb ---- */

struct options {
	bool batch;
	uint64_t iterations;	/* 0: no end */
	double delay;
};

static int show(struct top *top, const struct options *options, double seconds, bool first)
{
	uint64_t lost = top_count_lost(top), news = lost - top->lost;
	json_t *rows = rows_json(top, seconds, options->batch ? 0 : lines_of_screen());

	top->lost = lost;
	if (output.json)
		return show_json(json_pack("{s:I, s:f, s:I, s:o}", "time", (json_int_t)time(NULL), "seconds", seconds,
					   "lost", (json_int_t)news, "rows", rows), true);
	if (!options->batch)
		fputs("\033[H\033[2J", stdout);
	else if (!first)
		putchar('\n');
	if (news)
		printf("%llu events were lost: there were more than could be read\n", (unsigned long long)news);
	if (!json_array_size(rows))
		puts("nothing happened");
	return show_rows("rows", rows, columns);
}

static int loop(struct top *top, const struct options *options)
{
	double began = now_seconds(), now;
	uint64_t i;

	for (i = 0; !options->iterations || i < options->iterations; i++) {
		top_watch(top, began + options->delay);
		if (top_stop)
			break;
		now = now_seconds();
		if (show(top, options, now - began, !i))
			return -1;
		top_forget(top);
		began = now;
	}
	return 0;
}

/* Whatever ends it, the instance is taken away. */
static void catch_signals(void)
{
	struct sigaction action = { .sa_handler = on_signal }, ignore = { .sa_handler = SIG_IGN };

	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
	sigaction(SIGPIPE, &ignore, NULL);
}

static double parse_delay(const char *text)
{
	char *end;
	double delay = strtod(text, &end);

	if (end == text || *end || !(delay >= 0.1 && delay <= 3600))
		usage("--delay wants seconds from 0.1 to 3600, not '%s'", text);
	return delay;
}

static int top_run(int argc, char **argv)
{
	static const struct option options[] = {
		{ "batch", no_argument, NULL, 'b' },
		{ "iterations", required_argument, NULL, 'n' },
		{ "delay", required_argument, NULL, 'd' },
		COMMON_OPTIONS
	};
	struct options how = { .delay = 1 };
	struct top top = { };
	int c, err;

	while ((c = next_option(argc, argv, "bn:d:", options)) >= 0) {
		if (c == 'b')
			how.batch = true;
		else if (c == 'n')
			how.iterations = parse_number("--iterations", optarg, 1, INT32_MAX);
		else
			how.delay = parse_delay(optarg);
	}
	want_args(argc, argv, 0, 0);
	if (output.json || !isatty(STDOUT_FILENO))
		how.batch = true;
	catch_signals();
	err = top_begin(&top);
	if (!err)
		err = loop(&top, &how);
	top_end(&top);
	return err;
}

const struct verb verb_top = { "top", "what happens to regions, as it happens", help, top_run };
