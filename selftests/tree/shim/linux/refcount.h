/* SPDX-License-Identifier: GPL-2.0-only */
/* A strict counter: where the kernel warns and saturates, this one aborts. */
#ifndef _SHIM_REFCOUNT_H
#define _SHIM_REFCOUNT_H

#include <assert.h>
#include <stdatomic.h>
#include <linux/types.h>

typedef struct {
	atomic_int refs;
} refcount_t;

#define smp_acquire__after_ctrl_dep() \
	atomic_thread_fence(memory_order_acquire)

static inline void refcount_set(refcount_t *r, int n)
{
	atomic_store_explicit(&r->refs, n, memory_order_relaxed);
}

static inline unsigned int refcount_read(const refcount_t *r)
{
	return atomic_load_explicit(&((refcount_t *)r)->refs,
				    memory_order_relaxed);
}

static inline void refcount_inc(refcount_t *r)
{
	int old = atomic_fetch_add_explicit(&r->refs, 1, memory_order_relaxed);

	assert(old > 0);
}

static inline bool refcount_dec_and_test(refcount_t *r)
{
	int old = atomic_fetch_sub_explicit(&r->refs, 1, memory_order_release);

	assert(old > 0);
	if (old != 1)
		return false;
	smp_acquire__after_ctrl_dep();
	return true;
}

#endif
