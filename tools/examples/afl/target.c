// SPDX-License-Identifier: GPL-2.0-only
/*
 * What is fuzzed: a store of 8,192 records of a page each, which takes long to warm up and which each input changes.
 *
 * Where it writes is a matter of the pattern: records that all inputs write ("steady"), ones that the input chooses by
 * its hash ("scattered"), or 56 and 8 of them ("mix"). One input in many makes it crash, and so does whatever an
 * earlier input has left behind.
 */
#include <err.h>
#include <stdlib.h>
#include <string.h>

#include "target.h"

static unsigned int nr_steady;

void target_pattern(const char *pattern)
{
	if (!strcmp(pattern, "steady"))
		nr_steady = WRITES;
	else if (!strcmp(pattern, "mix"))
		nr_steady = WRITES - 8;
	else if (!strcmp(pattern, "scattered"))
		nr_steady = 1;
	else
		errx(2, "no pattern '%s'", pattern);
}

static uint64_t mix(uint64_t hash, uint64_t word)
{
	hash = (hash ^ word) * 0x9e3779b97f4a7c15;
	return hash ^ hash >> 29;
}

void target_warm_up(struct store *store)
{
	for (size_t i = 0; i < RECORDS; i++) {
		struct record *record = &store->records[i];

		record->key = mix(1, i);
		memset(record->text, 'a' + i % 26, sizeof(record->text));
	}
}

/* Which record the write number @i is to. */
static size_t choose(uint64_t hash, unsigned int i)
{
	if (i < nr_steady)
		return i * (RECORDS / WRITES);
	return mix(hash, i) % RECORDS;
}

static void put(struct record *record, const unsigned char *input, size_t length)
{
	record->writes++;
	memcpy(record->text, input, length < sizeof(record->text) ? length : sizeof(record->text));
}

/* The planted bug. */
static void parse(const unsigned char *input, size_t length)
{
	if (length >= 3 && input[0] == 'c')
		if (input[1] == 'o')
			if (input[2] == 'w')
				abort();
}

void target_run(struct store *store, const unsigned char *input, size_t length)
{
	uint64_t hash = mix(2, length);

	for (size_t i = 0; i < length; i++)
		hash = mix(hash, input[i]);
	if (store->records[0].writes)
		abort();
	for (unsigned int i = 0; i < WRITES; i++) {
		struct record *record = &store->records[choose(hash, i)];

		if (record->writes >= WRITES)
			abort();
		put(record, input, length);
	}
	parse(input, length);
}
