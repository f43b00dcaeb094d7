/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * For a harness of AFL++ in persistent mode whose program has much state: the state is in a region, and goes back to
 * what it was after each input. Link with libcowmem.
 *
 *	struct cowmem_state state;
 *	char *mem = cowmem_state_new(&state, SIZE);	// put the program's state there
 *
 *	if (!mem)
 *		err(1, "no region");
 *	warm_up(mem);
 *	__AFL_INIT();
 *	if (cowmem_state_begin(&state))
 *		abort();
 *	while (__AFL_LOOP(10000)) {
 *		run(mem, __AFL_FUZZ_TESTCASE_BUF, __AFL_FUZZ_TESTCASE_LEN);
 *		if (cowmem_state_reset(&state))
 *			abort();
 *	}
 *
 * Functions that return int return -1 and set errno if they fail.
 */
#ifndef COWMEM_AFL_H
#define COWMEM_AFL_H

#include <unistd.h>
#include <sys/mman.h>

#include <libcowmem.h>

struct cowmem_state {
	void *mem;		/* of all of the state; it stays where it is */
	size_t size;
	int fd;			/* the region */
	int snapshot;		/* what it goes back to */
};

/* A region of zeroes, mapped. Returns NULL and sets errno if there is none. */
static inline void *cowmem_state_new(struct cowmem_state *state, size_t size)
{
	state->size = size;
	state->snapshot = -1;
	state->fd = cowmem_create("afl-state", size, 0);
	if (state->fd < 0)
		return NULL;
	state->mem = cowmem_map(state->fd, 0, size, PROT_READ | PROT_WRITE);
	if (state->mem != MAP_FAILED)
		return state->mem;
	close(state->fd);
	return NULL;
}

/*
 * When the fork server has forked, and before the first write. A mapping of a region is shared with the parent, whose
 * next child is to find it as it was: so this process gets a clone, at the same address.
 */
static inline int cowmem_state_begin(struct cowmem_state *state)
{
	int clone = cowmem_clone(state->fd, 0);

	if (clone < 0 || cowmem_remap(state->mem, state->size, clone, 0, PROT_READ | PROT_WRITE))
		return -1;
	close(state->fd);
	state->fd = clone;
	state->snapshot = cowmem_snapshot(clone);
	if (state->snapshot < 0)
		return -1;
	/* From now on it has no memory that is larger than a page, which cannot be kept. */
	return cowmem_restore(clone, state->snapshot, COWMEM_RESTORE_KEEP, NULL);
}

/* After each input. Nothing may be writing the state any more. */
static inline int cowmem_state_reset(struct cowmem_state *state)
{
	return cowmem_restore(state->fd, state->snapshot, COWMEM_RESTORE_KEEP, NULL);
}

#endif
