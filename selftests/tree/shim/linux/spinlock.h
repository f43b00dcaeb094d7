/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _SHIM_SPINLOCK_H
#define _SHIM_SPINLOCK_H

#include <assert.h>
#include <linux/types.h>

/* No two threads of the tests share a tree, so a lock is never contended. */
typedef struct {
	bool held;
} spinlock_t;

static inline void spin_lock_init(spinlock_t *lock)
{
	lock->held = false;
}

static inline void spin_lock(spinlock_t *lock)
{
	assert(!lock->held);
	lock->held = true;
}

static inline void spin_unlock(spinlock_t *lock)
{
	assert(lock->held);
	lock->held = false;
}

#endif
