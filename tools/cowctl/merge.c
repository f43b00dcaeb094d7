// SPDX-License-Identifier: GPL-2.0-only
/*
 * cowctl merge - find equal pages and share them
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cowctl.h"

static const char help[] =
"Usage: cowctl merge [OPTION]... REGION...\n"
"\n"
"Finds pages of equal content in regions and shares them; pages of zeroes become\n"
"holes. No content changes. A write that takes longer tells that somebody else\n"
"has the same page: do not merge regions of users who must not know of each\n"
"other.\n"
"\n"
"  -d, --daemon          go on until SIGTERM or SIGINT, in the foreground\n"
"  -r, --rate PAGES      look at so many pages a second; 25000 with --daemon, fewer\n"
"                        where pages are of more than 4 KiB; else as many as can be\n"
"      --rounds N        end when all was looked at N times; once if it is no\n"
"                        daemon\n"
"      --json            as JSON: { \"scanned\": ..., \"merged\": ..., \"zeroed\":\n"
"                        ..., \"saved\": BYTES, \"rounds\": ... }\n"
"  -h, --human-readable  sizes as 1.5G\n"
"      --help            this text\n"
"\n"
"What was done is told at the end.\n";

enum { OPT_ROUNDS = OPT_VERB };

/* In bytes a second. */
#define DAEMON_RATE	(25000ULL * 4096)
/* As many bytes at once where nothing limits them, so that a signal is heard and progress seen. */
#define STEP		(64ULL << 20)
/* Parts of a second in which a rate is kept. */
#define SLICES		10

/* 0 is no limit, of both. */
struct limits {
	uint64_t rate, rounds;
};

static volatile sig_atomic_t stop;

static void on_signal(int signal)
{
	(void)signal;
	stop = 1;
}

/* Ended in the middle, it tells what was done as well. */
static void catch_signals(void)
{
	struct sigaction action = { .sa_handler = on_signal };

	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
}

static uint64_t page_size(void)
{
	return (uint64_t)sysconf(_SC_PAGESIZE);
}

/* How much of all there is to look at; for the bar only. */
static uint64_t pages_of(int fd)
{
	struct cowmem_info info;

	return cowmem_get_info(fd, &info) ? 0 : info.pages_populated;
}

/*
 * Slices end at times that are set beforehand: what one takes too long the next one has less to wait. But if it is more
 * than a second, because we were stopped or the machine slept, that is not caught up with: it would be without limit.
 */
static void wait_for_slice(struct timespec *next)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	if (now.tv_sec > next->tv_sec + 1 || (now.tv_sec == next->tv_sec + 1 && now.tv_nsec > next->tv_nsec))
		*next = now;
	next->tv_nsec += 1000000000L / SLICES;
	if (next->tv_nsec >= 1000000000L) {
		next->tv_sec++;
		next->tv_nsec -= 1000000000L;
	}
	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, next, NULL);
}

static uint64_t budget_of_slice(const struct limits *limits, unsigned int slice)
{
	/* So that a rate of 5 is 5 as well. */
	return limits->rate / SLICES + (slice % SLICES < limits->rate % SLICES);
}

static int merge(struct cowmem_merger *merger, const struct limits *limits, struct progress *progress,
		 struct cowmem_merge_stats *stats)
{
	struct timespec next;
	unsigned int slice = 0;
	uint64_t budget = STEP / page_size();

	clock_gettime(CLOCK_MONOTONIC, &next);
	while (!stop && (!limits->rounds || stats->rounds < limits->rounds)) {
		if (limits->rate)
			budget = budget_of_slice(limits, slice++);
		/* No budget is no limit for the library, and nothing for us. */
		if (budget && cowmem_merger_step(merger, budget, stats) < 0)
			return -1;
		progress_show(progress, stats->scanned);
		if (limits->rate)
			wait_for_slice(&next);
	}
	return 0;
}

static const struct column fields[] = {
	{ "scanned", "scanned", COLUMN_NUMBER },
	{ "merged", "merged", COLUMN_NUMBER },
	{ "zeroed", "zeroed", COLUMN_NUMBER },
	{ "saved", "saved", COLUMN_BYTES },
	{ "rounds", "rounds", COLUMN_NUMBER },
	{ NULL, NULL, 0 },
};

static int show_stats(const struct cowmem_merge_stats *stats)
{
	return show_object(json_pack("{s:I, s:I, s:I, s:I, s:I}", "scanned", (json_int_t)stats->scanned, "merged",
				     (json_int_t)stats->merged, "zeroed", (json_int_t)stats->zeroed, "saved",
				     (json_int_t)stats->saved, "rounds", (json_int_t)stats->rounds), fields);
}

/* The merger keeps a descriptor of its own. */
static int add_to_merger(struct cowmem_merger *merger, const char *arg, uint64_t *pages)
{
	struct region region;
	int err = 0;

	if (region_open(&region, arg, O_RDWR))
		return -1;
	*pages += pages_of(region.fd);
	if (cowmem_merger_add(merger, region.fd, 0, 0))
		err = errno == ENOSPC ? complain(arg, "one merge takes %d regions", COWMEM_MERGE_MAX) :
		      complain_region(&region);
	region_close(&region);
	return err;
}

static int merge_regions(char **args, const struct limits *limits)
{
	struct cowmem_merger *merger = must(cowmem_merger_new(0));
	struct cowmem_merge_stats stats = { };
	struct progress progress;
	uint64_t pages = 0;
	int err = 0;

	for (; !err && *args; args++)
		err = add_to_merger(merger, *args, &pages);
	if (!err) {
		catch_signals();
		progress_begin(&progress, "merge", pages * limits->rounds, false);
		if (merge(merger, limits, &progress, &stats))
			err = errno;
		progress_end(&progress);
		if (err) {
			errno = err;
			err = complain_errno("merge");
		}
		/* What was done before an error stays done. */
		err |= show_stats(&stats);
	}
	cowmem_merger_free(merger);
	return err;
}

static int merge_run(int argc, char **argv)
{
	static const struct option options[] = {
		{ "daemon", no_argument, NULL, 'd' },
		{ "rate", required_argument, NULL, 'r' },
		{ "rounds", required_argument, NULL, OPT_ROUNDS },
		HUMAN_OPTION,
		COMMON_OPTIONS
	};
	struct limits limits = { };
	bool daemon = false;
	int c;

	while ((c = next_option(argc, argv, "dr:h", options)) >= 0) {
		if (c == 'd')
			daemon = true;
		else if (c == 'r')
			limits.rate = parse_number("--rate", optarg, 1, 1000000000);
		else
			limits.rounds = parse_number("--rounds", optarg, 1, INT32_MAX);
	}
	if (daemon && !limits.rate)
		limits.rate = DAEMON_RATE / page_size();
	if (!daemon && !limits.rounds)
		limits.rounds = 1;
	return merge_regions(want_args(argc, argv, 1, argc), &limits);
}

const struct verb verb_merge = { "merge", "find equal pages and share them", help, merge_run };
