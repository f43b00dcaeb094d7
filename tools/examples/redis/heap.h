/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What of jemalloc 5 is used: its header need not be installed
 */
#ifndef HEAP_H
#define HEAP_H

#include <stdbool.h>
#include <stddef.h>

typedef struct extent_hooks_s extent_hooks_t;

/* Those that return bool return whether they failed; one that is NULL always does. */
struct extent_hooks_s {
	void *(*alloc)(extent_hooks_t *hooks, void *want, size_t size, size_t align, bool *zero, bool *commit,
		       unsigned int arena);
	void (*unused[5])(void);	/* dalloc, destroy, commit, decommit, purge_lazy */
	bool (*purge_forced)(extent_hooks_t *hooks, void *addr, size_t size, size_t offset, size_t length,
			     unsigned int arena);
	bool (*split)(extent_hooks_t *hooks, void *addr, size_t size, size_t size_a, size_t size_b, bool committed,
		      unsigned int arena);
	bool (*merge)(extent_hooks_t *hooks, void *addr_a, size_t size_a, void *addr_b, size_t size_b,
		      bool committed, unsigned int arena);
};

/* Missing where the program has no jemalloc. */
extern __attribute__((weak)) int mallctl(const char *name, void *old, size_t *old_size, void *new, size_t new_size);

#endif
