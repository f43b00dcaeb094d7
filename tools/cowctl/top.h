/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * cowctl top - what the module's tracepoints tell (top-trace.c), for the table (top.c)
 */
#ifndef COWCTL_TOP_H
#define COWCTL_TOP_H

#include <signal.h>
#include <sys/types.h>

#include "cowctl.h"

enum counter { FAULTS, SPLITS, REUSES, CLONES, RESTORES, COPIES, MERGES, ZAPS, YIELDS, COUNTERS };

/* What one process did to one region since the last table. */
struct row {
	pid_t pid;
	dev_t dev;
	uint64_t region;
	uint64_t counts[COUNTERS];
};

struct tep_handle;
struct tracefs_instance;

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

/* A signal came that ends it. */
extern volatile sig_atomic_t top_stop;

/* top_begin - have the module's events counted; top_end() in either case */
int top_begin(struct top *top);
void top_end(struct top *top);

/* top_watch - count what happens until then, or until @top_stop */
void top_watch(struct top *top, double until);

/* top_count_lost - events that found the buffer full, since the beginning */
uint64_t top_count_lost(const struct top *top);

/* top_forget - the next table begins with nothing, but with the processes of this one */
void top_forget(struct top *top);

/* top_key - what one counter is called in JSON */
const char *top_key(enum counter counter);

/* top_process_name - of a process that has a row */
const char *top_process_name(struct top *top, pid_t pid);

#endif /* COWCTL_TOP_H */
