// SPDX-License-Identifier: GPL-2.0-only
/*
 * For afl-fuzz: fuzz WAY PATTERN [CHECK]
 *
 * Built three times: plain, a process that warms up for each input; with DEFERRED, one that the fork server forks when
 * it is warm; with PERSISTENT, one that takes input after input and resets its state in between. After each CHECK
 * inputs the whole state has to be what it was at first.
 */
#include <err.h>
#include <stdlib.h>
#include <unistd.h>

#include "ways.h"

#ifdef PERSISTENT
__AFL_FUZZ_INIT();

static void run_all(const struct way *way, struct store *store)
{
	unsigned char *input = __AFL_FUZZ_TESTCASE_BUF;

	while (__AFL_LOOP(10000)) {
		target_run(store, input, __AFL_FUZZ_TESTCASE_LEN);
		way->reset();
		check(store);
	}
}
#else
static void run_all(const struct way *way, struct store *store)
{
	static unsigned char input[PAGE];
	ssize_t length = read(STDIN_FILENO, input, sizeof(input));

	(void)way;
	if (length < 0)
		err(1, "read");
	target_run(store, input, length);
}
#endif

int main(int argc, char **argv)
{
	const struct way *way;
	struct store *store;

	if (argc < 3)
		errx(2, "usage: fuzz WAY PATTERN [CHECK]");
	way = way_of(argv[1]);
	target_pattern(argv[2]);
	store = way->make();
	target_warm_up(store);
#if defined(PERSISTENT) || defined(DEFERRED)
	__AFL_INIT();
#endif
	way->begin();
	check_begin(store, argc > 3 ? strtoul(argv[3], NULL, 0) : 0);
	run_all(way, store);
	return 0;
}
