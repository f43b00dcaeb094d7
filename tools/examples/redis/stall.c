// SPDX-License-Identifier: GPL-2.0-only
/*
 * stall SOCKET MIB: how long is nobody served when a server of that much data saves?
 *
 * A client sets a random key every millisecond and measures how long each takes, from before a BGSAVE until it is done.
 * The server has to be empty. Prints, for the first save and for one after a tenth of the values was written, and one
 * after all were: what, us that fork() took, us that the longest request took, us that the median one took.
 */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client.h"

#define VALUE	4000	/* bytes, with what Redis adds about a page */
#define BATCH	64
#define MOST	200000	/* requests of one save that are kept for the median */

static struct client *client, *other;
static unsigned int keys, seed;
static double took[MOST];
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

static void fill(void)
{
	unsigned int key = 0, i;

	while (key < keys) {
		for (i = 0; i < BATCH; i++)
			set(key++);
		client_skip(client, BATCH);
	}
}

static void write_some(unsigned int count)
{
	unsigned int i;

	while (count >= BATCH) {
		for (i = 0; i < BATCH; i++)
			set(mix(++seed) % keys);
		client_skip(client, BATCH);
		count -= BATCH;
	}
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
 * There is one CPU where instructions are counted. The child that saves gets it when the server and the client wait,
 * as if it had another one.
 */
static void before_others(bool yes)
{
	struct sched_param param = { .sched_priority = yes };
	int policy = yes ? SCHED_FIFO | SCHED_RESET_ON_FORK : SCHED_OTHER;

	if (sched_setscheduler(0, policy, &param) || sched_setscheduler(server, policy, &param))
		die("sched_setscheduler failed");
}

static void save(const char *what)
{
	long count = 0;
	double longest = 0, fork_us;

	before_others(true);
	client_addf(other, "BGSAVE");
	client_flush(other);
	for (;;) {
		double us = request();

		longest = us > longest ? us : longest;
		if (count < MOST)
			took[count++] = us;
		if (count == 1)
			client_skip(other, 1);
		if (count % 256 == 0 && !client_info(other, "rdb_bgsave_in_progress"))
			break;
		usleep(1000);
	}
	before_others(false);
	client_wait_saved(other);
	fork_us = client_info(other, "latest_fork_usec");
	qsort(took, count, sizeof(*took), compare);
	printf("%s %.0f %.0f %.0f\n", what, fork_us, longest, took[count / 2]);
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
	fill();
	save("first");
	write_some(keys / 10);
	save("tenth");
	fill();
	save("all");
	return 0;
}
