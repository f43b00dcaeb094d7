// SPDX-License-Identifier: GPL-2.0-only
/*
 * Print how fast this machine's TSC counts, in kHz.  QEMU hands it to its guests, unless it counts
 * instructions.
 */
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

struct instant {
	uint64_t tsc;
	double ns;
};

/* Others may run between two instructions: of some tries the quickest. */
static struct instant now(void)
{
	struct instant instant = {};
	uint64_t best = UINT64_MAX;
	int tries;

	for (tries = 0; tries < 50; tries++) {
		/* Not by <x86intrin.h>, which takes a compiler half a second. */
		uint64_t begin = __builtin_ia32_rdtsc(), took;
		struct timespec ts;

		clock_gettime(CLOCK_MONOTONIC, &ts);
		took = __builtin_ia32_rdtsc() - begin;
		if (took >= best)
			continue;
		best = took;
		instant.tsc = begin + took / 2;
		instant.ns = ts.tv_sec * 1e9 + ts.tv_nsec;
	}
	return instant;
}

int main(void)
{
	struct instant begin = now(), end;

	usleep(100000);
	end = now();
	return printf("%.0f\n", (end.tsc - begin.tsc) * 1e6 / (end.ns - begin.ns)) < 0;
}
