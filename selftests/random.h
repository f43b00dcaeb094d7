/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Random numbers that can be replayed: the seed is printed, and COWMEM_SEED sets it.
 */
#ifndef _SELFTESTS_COWMEM_RANDOM_H
#define _SELFTESTS_COWMEM_RANDOM_H

#include "basics.h"

/* xorshift64 */
static uint64_t rng_state;

static inline uint64_t rng(void)
{
	rng_state ^= rng_state << 13;
	rng_state ^= rng_state >> 7;
	rng_state ^= rng_state << 17;
	return rng_state;
}

static inline uint64_t below(uint64_t n)
{
	return rng() % n;
}

/* The seed comes from COWMEM_SEED or the clock and is printed. */
static inline void rng_init(void)
{
	const char *env = getenv("COWMEM_SEED");
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	rng_state = env ? strtoull(env, NULL, 0) :
		    (uint64_t)ts.tv_sec * 1000000007 + ts.tv_nsec;
	rng_state += !rng_state;
	printf("# COWMEM_SEED=%llu\n", (unsigned long long)rng_state);
	fflush(stdout);
}

/* A range in @size bytes, whole pages half of the time; false if it is empty. */
static inline bool any_range(uint64_t size, uint64_t *at, uint64_t *n)
{
	uint64_t most = below(8) ? 3 * pgsz() : size;

	*at = *n = 0;
	if (!size)
		return false;
	*at = below(size);
	*n = 1 + below(most);
	if (below(2)) {
		*at -= *at % pgsz();
		*n = (*n + pgsz() - 1) / pgsz() * pgsz();
	}
	if (*n > size - *at)
		*n = size - *at;
	return true;
}

#endif /* _SELFTESTS_COWMEM_RANDOM_H */
