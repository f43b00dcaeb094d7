// SPDX-License-Identifier: GPL-2.0-only
/*
 * What an input and the reset after it take, without afl-fuzz: cost WAY PATTERN ROUNDS
 *
 * WAY is one of ways.c, and "spawn": a process that warms up for each input. Each input is another one. Prints the
 * microseconds of a round, of these the reset's, and the page faults of a round.
 */
#include <err.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "ways.h"

/* KEEP looks for pages to give back after some rounds, up to 16. */
#define WARM_ROUNDS	32

static double now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1e6 + ts.tv_nsec / 1e3;
}

static long faults(int who)
{
	struct rusage usage;

	getrusage(who, &usage);
	return usage.ru_minflt;
}

/* The input number @i; none is the planted bug. */
static void run(struct store *store, unsigned long i)
{
	unsigned char input[16] = "round";

	memcpy(input + 8, &i, sizeof(i));
	target_run(store, input, sizeof(input));
}

/* In a child, as a fork server does it. */
static void run_child(const struct way *way, struct store *store, unsigned long i)
{
	pid_t pid = fork();
	int status;

	if (pid < 0)
		err(1, "fork");
	if (!pid) {
		if (!store) {
			store = way->make();
			target_warm_up(store);
		}
		run(store, i);
		_exit(0);
	}
	if (waitpid(pid, &status, 0) < 0 || status)
		errx(1, "the child ended with status %#x", status);
}

/* Rounds in children. */
static void measure_children(const struct way *way, struct store *store, unsigned long rounds)
{
	double start = now_us();
	long before = faults(RUSAGE_CHILDREN);

	for (unsigned long i = 0; i < rounds; i++)
		run_child(way, store, i);
	printf("%.1f 0 %.1f\n", (now_us() - start) / rounds, (double)(faults(RUSAGE_CHILDREN) - before) / rounds);
}

/* Rounds in this process. */
static void measure(const struct way *way, struct store *store, unsigned long rounds)
{
	uint64_t first = checksum(store);
	double start = 0, reset = 0, end;
	long before = 0;

	for (unsigned long i = 0; i < WARM_ROUNDS + rounds; i++) {
		double at;

		if (i == WARM_ROUNDS) {
			before = faults(RUSAGE_SELF);
			reset = 0;
			start = now_us();
		}
		run(store, i);
		at = now_us();
		way->reset();
		reset += now_us() - at;
	}
	end = now_us();
	before = faults(RUSAGE_SELF) - before;
	if (checksum(store) != first)
		errx(1, "%s: the state is not what it was", way->name);
	printf("%.1f %.1f %.1f\n", (end - start) / rounds, reset / rounds, (double)before / rounds);
}

int main(int argc, char **argv)
{
	struct store *store = NULL;
	const struct way *way;
	unsigned long rounds;
	bool spawn;

	if (argc != 4)
		errx(2, "usage: cost WAY PATTERN ROUNDS");
	spawn = !strcmp(argv[1], "spawn");
	way = way_of(spawn ? "fork" : argv[1]);
	target_pattern(argv[2]);
	rounds = strtoul(argv[3], NULL, 0);
	if (!rounds)
		errx(2, "1 round or more");
	if (!spawn) {
		store = way->make();
		target_warm_up(store);
		way->begin();
	}
	if (!strcmp(way->name, "fork"))
		measure_children(way, store, rounds);
	else
		measure(way, store, rounds);
	return 0;
}
