// SPDX-License-Identifier: GPL-2.0-only
/*
 * stall SOCKET MIB: how long is nobody served when a server of that much data saves?
 *
 * A client sets a random key every millisecond and measures how long each takes, from before a BGSAVE until it is done
 * or REQUESTS were done; then the child that saves is sent home, to save time. The server has to be empty. Prints, for
 * the first save, for one after a tenth of the values was written anywhere, and for one after all were in their order:
 * what, us that fork() took, us that the longest request took, us that the median one took, ns that each write before
 * it took.
 */
#include <dirent.h>
#include <math.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client.h"

#define VALUE	4000	/* bytes, with what Redis adds about a page */
#define BATCH	64
#define REQUESTS	300

static struct client *client, *other;
static unsigned int keys, seed;
static double took[REQUESTS];
static pid_t server;

static void set(unsigned int key)
{
	static char value[VALUE];
	char name[32];
	const char *argv[] = { "SET", name, value };
	size_t lengths[] = { 3, snprintf(name, sizeof(name), "key:%u", key), VALUE };

	memset(value, 'a' + ++seed % 26, VALUE);
	client_add(client, 3, argv, lengths);
}

/* What the server has had of page faults, and what its threads but the main one have run, in ns. */
struct effort {
	double faults, others;
};

/* NAN if the kernel does not tell. */
static double number_in(const char *path, const char *format)
{
	FILE *file = fopen(path, "r");
	double number;

	if (!file)
		return NAN;
	if (fscanf(file, format, &number) != 1)
		number = NAN;
	fclose(file);
	return number;
}

static struct effort effort(void)
{
	struct effort effort = { 0 };
	struct dirent *entry;
	char path[64];
	DIR *tasks;

	snprintf(path, sizeof(path), "/proc/%d/stat", server);
	effort.faults = number_in(path, "%*d %*s %*c %*d %*d %*d %*d %*d %*d %lf");
	snprintf(path, sizeof(path), "/proc/%d/task", server);
	tasks = opendir(path);
	while (tasks && (entry = readdir(tasks)))
		if (atoi(entry->d_name) && atoi(entry->d_name) != server) {
			snprintf(path, sizeof(path), "/proc/%d/task/%d/schedstat", server, atoi(entry->d_name));
			effort.others += number_in(path, "%lf");
		}
	closedir(tasks);
	return effort;
}

/* Change a byte of so many values, one after the other or anywhere. */
static double write_some(unsigned int count, bool anywhere)
{
	struct effort before = effort(), after;
	unsigned int done, i;
	double start = now();

	for (done = 0; done < count; done += i) {
		for (i = 0; i < BATCH && done + i < count; i++)
			client_addf(client, "SETRANGE key:%u %u x", anywhere ? mix(++seed) % keys : done + i, i);
		client_skip(client, i);
	}
	start = (now() - start) * 1000 / count;
	after = effort();
	printf("# %s: of each write's %.0f ns other threads have %.0f; %.2f page faults\n", anywhere ? "anywhere" : "in order",
	       start, (after.others - before.others) / count, (after.faults - before.faults) / count);
	return start;
}

static double request(void)
{
	double start = now();

	set(mix(++seed) % keys);
	client_skip(client, 1);
	return now() - start;
}

static int compare(const void *a, const void *b)
{
	return (*(double *)a > *(double *)b) - (*(double *)a < *(double *)b);
}

/*
 * There is one CPU where instructions are counted. The child that saves gets it when the server, with all its threads,
 * and the client wait, as if it had another one.
 */
static void before_others(bool yes)
{
	struct sched_param param = { .sched_priority = yes };
	int policy = yes ? SCHED_FIFO | SCHED_RESET_ON_FORK : SCHED_OTHER;
	struct dirent *entry;
	char path[64];
	DIR *tasks;

	snprintf(path, sizeof(path), "/proc/%d/task", server);
	tasks = opendir(path);
	if (!tasks || sched_setscheduler(0, policy, &param))
		die("no priority");
	while ((entry = readdir(tasks)))
		if (atoi(entry->d_name) && sched_setscheduler(atoi(entry->d_name), policy, &param))
			die("no priority for %s", entry->d_name);
	closedir(tasks);
}

static pid_t parent_of(pid_t pid)
{
	char path[64];
	int parent = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	file = fopen(path, "r");
	if (!file)
		return 0;
	if (fscanf(file, "%*d %*s %*c %d", &parent) != 1)
		parent = 0;
	fclose(file);
	return parent;
}

/* Redis takes this signal for no failure. Not each kernel has /proc/PID/task/TID/children. */
static void end_child(void)
{
	DIR *processes = opendir("/proc");
	struct dirent *entry;
	pid_t pid;

	if (!processes)
		die("no /proc");
	while ((entry = readdir(processes))) {
		pid = atoi(entry->d_name);
		if (pid > 0 && parent_of(pid) == server)
			kill(pid, SIGUSR1);
	}
	closedir(processes);
}

static void save(const char *what, double write_ns)
{
	int count = 0;
	double fork_us;

	before_others(true);
	client_addf(other, "BGSAVE");
	client_flush(other);
	took[count++] = request();
	client_skip(other, 1);
	while (count < REQUESTS && (count % 64 || client_info(other, "rdb_bgsave_in_progress"))) {
		usleep(1000);
		took[count++] = request();
	}
	before_others(false);
	end_child();
	client_wait_saved(other);
	fork_us = client_info(other, "latest_fork_usec");
	qsort(took, count, sizeof(*took), compare);
	printf("%s %.0f %.0f %.0f %.0f\n", what, fork_us, took[count - 1], took[count / 2], write_ns);
}

int main(int argc, char **argv)
{
	int mib = argc == 3 ? atoi(argv[2]) : 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (mib < 1)
		die("usage: stall SOCKET MIB");
	client = client_open(argv[1]);
	other = client_open(argv[1]);
	server = client_info(other, "process_id");
	keys = mib * 256;
	client_addf(client, "DEBUG POPULATE %u key %d", keys, VALUE);
	client_skip(client, 1);
	save("first", 0);
	save("tenth", write_some(keys / 10, true));
	save("all", write_some(keys, false));
	return 0;
}
