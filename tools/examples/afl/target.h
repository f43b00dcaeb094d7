/* SPDX-License-Identifier: GPL-2.0-only */
/* What is fuzzed: a store of records that has been warmed up. See target.c. */
#ifndef TARGET_H
#define TARGET_H

#include <stddef.h>
#include <stdint.h>

#define PAGE		4096UL
#define RECORDS		8192UL
#define STATE_SIZE	(RECORDS * PAGE)	/* 32 MiB */
#define WRITES		64			/* so many records an input writes, the first one among them */

struct record {
	uint64_t key;
	uint64_t writes;
	char text[PAGE - 2 * sizeof(uint64_t)];
};

struct store {
	struct record records[RECORDS];		/* the first one counts the inputs */
};

void target_warm_up(struct store *store);

/* PATTERN is "steady", "scattered" or "mix". Ends the program if there is no such pattern. */
void target_pattern(const char *pattern);

/* Execute an input. Aborts on the planted bug, and if an earlier input has left something behind. */
void target_run(struct store *store, const unsigned char *input, size_t length);

#endif
