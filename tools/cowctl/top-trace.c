// SPDX-License-Identifier: GPL-2.0-only
/*
 * cowctl top - the module's tracepoints tell, by an instance of tracefs of our own: other tracers are not disturbed,
 * and it is gone when we are. Events are read in the kernel's binary form, which holds no names that others chose.
 */
#include <dirent.h>
#include <errno.h>
#include <search.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include <tracefs.h>

#include "process.h"
#include "top.h"
#include "version.h"

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

/* A process, since it was seen first. */
struct process {
	pid_t pid;
	char *name;
	bool seen;		/* it has a row in this one */
};

struct thread {
	pid_t thread, pid;
};

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

const char *top_process_name(struct top *top, pid_t pid)
{
	return find_process(top, pid)->name;
}

const char *top_key(enum counter counter)
{
	return sources[counter].key;
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

void top_forget(struct top *top)
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

uint64_t top_count_lost(const struct top *top)
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

int top_begin(struct top *top)
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

void top_end(struct top *top)
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
void top_watch(struct top *top, double until)
{
	top->deadline = until + 1;
	while (!top_stop) {
		double left = until - now_seconds();
		struct timespec some = { .tv_nsec = left < 0.1 ? (long)(left * 1e9) : 100000000L };

		if (left <= 0)
			break;
		nanosleep(&some, NULL);
		tracefs_iterate_raw_events(top->events, top->instance, NULL, 0, on_event, top);
	}
}
