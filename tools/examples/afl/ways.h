/* SPDX-License-Identifier: GPL-2.0-only */
/* How the state of a process goes back to what it was after an input. See ways.c. */
#ifndef WAYS_H
#define WAYS_H

#include "target.h"

struct way {
	const char *name;
	struct store *(*make)(void);	/* memory for the state */
	void (*begin)(void);		/* it is warmed up, in a parent perhaps */
	void (*reset)(void);		/* after each input */
};

/* Ends the program if there is no such way. */
const struct way *way_of(const char *name);

/* Of all of the state. */
uint64_t checksum(const struct store *store);

/*
 * After each input: aborts if the state, once in @every inputs, is not what it was at check_begin().
 * With 0 that is never looked at.
 */
void check_begin(const struct store *store, unsigned long every);
void check(const struct store *store);

#endif
