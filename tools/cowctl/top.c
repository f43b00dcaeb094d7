// SPDX-License-Identifier: GPL-2.0-only
/*
 * cowctl top - what happens to regions, as it happens
 *
 * The module's tracepoints tell, by an instance of tracefs of our own: other tracers are not disturbed, and it is gone
 * when we are. Events are read in the kernel's binary form, which holds no names that others chose.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <search.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include <tracefs.h>

#include "cowctl.h"
#include "process.h"
#include "version.h"

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

enum counter { FAULTS, SPLITS, REUSES, CLONES, RESTORES, COPIES, MERGES, ZAPS, YIELDS, COUNTERS };

/**
 * struct source - an event of the module
 * @name: its name
 * @key: of what it counts, in JSON
 * @id: its number
 * @region, @dev: its fields that are a region's number and its mount's; a merge has none
 */
static struct source {
	const char *name, *key;
	int id;
	struct tep_format_field *region, *dev;
} sources[COUNTERS] = {
	[FAULTS] = { "cowmem_fault", "faults", 0, NULL, NULL },
	[SPLITS] = { "cowmem_split", "splits", 0, NULL, NULL },
	[REUSES] = { "cowmem_reuse", "reuses", 0, NULL, NULL },
	[CLONES] = { "cowmem_clone", "clones", 0, NULL, NULL },
	[RESTORES] = { "cowmem_restore", "restores", 0, NULL, NULL },
	[COPIES] = { "cowmem_copy", "copies", 0, NULL, NULL },
	[MERGES] = { "cowmem_merge", "merges", 0, NULL, NULL },
	[ZAPS] = { "cowmem_zap", "zaps", 0, NULL, NULL },
	[YIELDS] = { "cowmem_yield", "yields", 0, NULL, NULL },
};

/* What one process did to one region since the last table. */
struct row {
	pid_t pid;
	dev_t dev;
	uint64_t region;
	uint64_t counts[COUNTERS];
};

/* A process, since it was seen first. */
struct process {
	pid_t pid;
	char *name;
	bool seen;		/* it has a row in this one */
};

struct thread {
	pid_t thread, pid;
};

/**
 * struct top - all that is known
 * @rows: struct row, by process and region; of this table
 * @threads: struct thread, likewise: numbers are given again
 * @processes: struct process, as long as each table has them: then they end, and their numbers are given again
 * @lost: events that found no room
 * @deadline: when reading ends, though there is more: it may come faster than it can be read
 */
struct top {
	struct tep_handle *events;
	struct tracefs_instance *instance;
	void *rows, *threads, *processes;
	uint64_t lost;
	double deadline;
};

static volatile sig_atomic_t stop;

static void on_signal(int signal)
{
	(void)signal;
	stop = 1;
}

/* ---- what was seen ---- */

static int compare_rows(const void *a, const void *b)
{
	const struct row *x = a, *y = b;

	if (x->pid != y->pid)
		return x->pid < y->pid ? -1 : 1;
	if (x->region != y->region)
		return x->region < y->region ? -1 : 1;
	return x->dev < y->dev ? -1 : x->dev > y->dev;
}

/* Of struct process and struct thread: both begin with their number. */
static int compare_numbers(const void *a, const void *b)
{
	const pid_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

/* What is in a tree, or a copy of @like that is put there; *@fresh tells. */
static void *find_or_add(void **tree, const void *like, size_t size, int (*compare)(const void *, const void *),
			 bool *fresh)
{
	void *copy, **found = tfind(like, tree, compare);

	*fresh = !found;
	if (found)
		return *found;
	copy = must(malloc(size));
	memcpy(copy, like, size);
	must(tsearch(copy, tree, compare));
	return copy;
}

static pid_t process_of(struct top *top, pid_t number)
{
	struct thread like = { .thread = number }, *thread;
	bool fresh;

	thread = find_or_add(&top->threads, &like, sizeof(like), compare_numbers, &fresh);
	if (fresh)
		thread->pid = process_of_thread(number);
	return thread->pid;
}

/* What the kernel noted for tracers of one that has ended meanwhile. */
static char *saved_name(pid_t pid)
{
	char *text = tracefs_instance_file_read(NULL, "saved_cmdlines", NULL), *line, *end, *name = NULL;

	for (line = text; line && !name; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strtol(line, &end, 10) == pid && *end == ' ')
			name = must(strndup(end + 1, strcspn(end + 1, "\n")));
	}
	free(text);
	return name ? name : must(strdup("?"));
}

/* This comes early, at its first event: it may be gone soon. */
static struct process *find_process(struct top *top, pid_t pid)
{
	struct process like = { .pid = pid }, *process;
	bool fresh;

	process = find_or_add(&top->processes, &like, sizeof(like), compare_numbers, &fresh);
	if (!fresh)
		return process;
	process->name = process_name(pid);
	if (!strcmp(process->name, "?")) {
		free(process->name);
		process->name = saved_name(pid);
	}
	return process;
}

static int on_event(struct tep_event *event, struct tep_record *record, int cpu, void *arg)
{
	struct row like = { }, *row;
	struct top *top = arg;
	unsigned long long region = 0, dev = 0;
	bool fresh;
	int i;

	(void)cpu;
	for (i = 0; i < COUNTERS && sources[i].id != event->id; i++)
		;
	if (i == COUNTERS)
		return 0;
	if (sources[i].region && tep_read_number_field(sources[i].region, record->data, &region))
		return 0;
	if (sources[i].dev && tep_read_number_field(sources[i].dev, record->data, &dev))
		return 0;
	like.region = region;
	/* As the kernel has it. */
	like.dev = makedev(dev >> 20, dev & 0xfffff);
	like.pid = process_of(top, tep_data_pid(top->events, record));
	row = find_or_add(&top->rows, &like, sizeof(like), compare_rows, &fresh);
	if (fresh)
		find_process(top, row->pid)->seen = true;
	row->counts[i]++;
	return !(row->counts[i] & 1023) && now_seconds() > top->deadline;
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
	struct process *process = find_process(top, row->pid);
	json_t *region = row->region ? json_integer((json_int_t)row->region) : json_null();
	json_t *object = json_pack("{s:i, s:o, s:o, s:o}", "pid", (int)row->pid, "command", json_name(process->name),
				   "region", region, "mount", mount_json(row));
	int i;

	for (i = 0; i < COUNTERS; i++)
		json_object_set_new(object, sources[i].key, json_real((double)row->counts[i] / seconds));
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

static void free_process(void *process)
{
	free(((struct process *)process)->name);
	free(process);
}

/* Those without a row, in a list, as nothing may go from a tree that is being walked. */
struct idle {
	struct process **list;
	size_t count;
};

static void mark(const void *node, VISIT which, void *arg)
{
	struct process *process = *(struct process *const *)node;
	struct idle *idle = arg;

	if (which != postorder && which != leaf)
		return;
	if (process->seen) {
		process->seen = false;
		return;
	}
	idle->list = must(reallocarray(idle->list, idle->count + 1, sizeof(*idle->list)));
	idle->list[idle->count++] = process;
}

/* The next table begins with nothing, but with the processes of this one. */
static void forget(struct top *top)
{
	struct idle idle = { };

	twalk_r(top->processes, mark, &idle);
	while (idle.count) {
		struct process *process = idle.list[--idle.count];

		tdelete(process, &top->processes, compare_numbers);
		free_process(process);
	}
	free(idle.list);
	tdestroy(top->rows, free);
	tdestroy(top->threads, free);
	top->rows = NULL;
	top->threads = NULL;
}

/* ---- the trace ---- */

/* Events that found the buffer full, since the beginning; of all CPUs. */
static uint64_t count_lost(const struct top *top)
{
	long cpu, cpus = sysconf(_SC_NPROCESSORS_CONF);
	uint64_t lost = 0;

	for (cpu = 0; cpu < cpus; cpu++) {
		char *name = must_printf("per_cpu/cpu%ld/stats", cpu), *text, *line;

		text = tracefs_instance_file_read(top->instance, name, NULL);
		free(name);
		for (line = text; line; line = strchr(line, '\n')) {
			line += *line == '\n';
			if (!strncmp(line, "overrun: ", 9) || !strncmp(line, "dropped events: ", 16))
				lost += strtoull(strchr(line, ':') + 1, NULL, 10);
		}
		free(text);
	}
	return lost;
}

/* Instances of those that were killed with no time to clean up. */
static void remove_stale(void)
{
	char *path = must_printf("%s/instances", tracefs_tracing_dir());
	struct dirent *entry;
	DIR *dir = opendir(path);

	free(path);
	while (dir && (entry = readdir(dir))) {
		int pid, end = 0;

		if (sscanf(entry->d_name, "cowctl-%d%n", &pid, &end) == 1 && !entry->d_name[end] && kill(pid, 0) &&
		    errno == ESRCH)
			unlinkat(dirfd(dir), entry->d_name, AT_REMOVEDIR);
	}
	if (dir)
		closedir(dir);
}

/*
 * What the kernel says of the layout of its buffers and of our events. tracefs_local_events_system() would do it, but
 * reads the kernel's symbols as well, which takes seconds and tens of MiB.
 */
static int read_formats(struct top *top)
{
	char *text;
	int i, size = 0, err;

	top->events = must(tep_alloc());
	text = tracefs_instance_file_read(NULL, "events/header_page", &size);
	err = !text || tep_parse_header_page(top->events, text, (unsigned long)size, sizeof(long));
	free(text);
	for (i = 0; !err && i < COUNTERS; i++) {
		text = tracefs_event_file_read(NULL, "cowmem", sources[i].name, "format", &size);
		err = !text || tep_parse_event(top->events, text, (unsigned long)size, "cowmem");
		free(text);
	}
	if (err)
		return complain("top", "the events of the module are not as they are in %s; see cowctl doctor",
				COWMEM_VERSION);
	return 0;
}

static int find_events(struct top *top)
{
	struct tep_event *event;
	int i;

	if (read_formats(top))
		return -1;
	for (i = 0; i < COUNTERS; i++) {
		event = tep_find_event_by_name(top->events, "cowmem", sources[i].name);
		if (!event)
			return complain("top", "the module has no event %s: it is of another version; see cowctl doctor",
					sources[i].name);
		sources[i].id = event->id;
		sources[i].region = tep_find_field(event, "region");
		sources[i].dev = tep_find_field(event, "dev");
	}
	return 0;
}

/* Room for what comes until it is read again, in KiB for each CPU. */
#define BUFFER	"4096"

static int begin(struct top *top)
{
	char *name;
	int i;

	if (want_module("top"))
		return -1;
	if (!tracefs_tracing_dir())
		return complain("top", "there is no tracefs; as root: mount -t tracefs none /sys/kernel/tracing");
	if (access(tracefs_tracing_dir(), R_OK | W_OK | X_OK))
		return complain("top", "tracefs may not be used (%s); be root", strerror(errno));
	if (find_events(top))
		return -1;
	remove_stale();
	name = must_printf("cowctl-%d", (int)getpid());
	top->instance = tracefs_instance_create(name);
	free(name);
	if (!top->instance)
		return complain("top", "tracefs gives no instance: %s", strerror(errno));
	tracefs_instance_file_write(top->instance, "buffer_size_kb", BUFFER);
	for (i = 0; i < COUNTERS; i++)
		if (tracefs_event_enable(top->instance, "cowmem", sources[i].name) < 0)
			return complain("top", "event %s cannot be switched on: %s", sources[i].name, strerror(errno));
	return 0;
}

static void end(struct top *top)
{
	if (top->instance) {
		tracefs_event_disable(top->instance, "cowmem", NULL);
		tracefs_instance_destroy(top->instance);
		tracefs_instance_free(top->instance);
	}
	if (top->events)
		tep_free(top->events);
	tdestroy(top->rows, free);
	tdestroy(top->threads, free);
	tdestroy(top->processes, free_process);
}

/* Read often, so that the buffer does for what comes, and threads are still there when their process is asked for. */
static void watch(struct top *top, double until)
{
	top->deadline = until + 1;
	while (!stop) {
		double left = until - now_seconds();
		struct timespec some = { .tv_nsec = left < 0.1 ? (long)(left * 1e9) : 100000000L };

		if (left <= 0)
			break;
		nanosleep(&some, NULL);
		tracefs_iterate_raw_events(top->events, top->instance, NULL, 0, on_event, top);
	}
}

/* ---- */

struct options {
	bool batch;
	uint64_t iterations;	/* 0: no end */
	double delay;
};

static int show(struct top *top, const struct options *options, double seconds, bool first)
{
	uint64_t lost = count_lost(top), news = lost - top->lost;
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
		watch(top, began + options->delay);
		if (stop)
			break;
		now = now_seconds();
		if (show(top, options, now - began, !i))
			return -1;
		forget(top);
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
	err = begin(&top);
	if (!err)
		err = loop(&top, &how);
	end(&top);
	return err;
}

const struct verb verb_top = { "top", "what happens to regions, as it happens", help, top_run };
