/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _SHIM_KERNEL_H
#define _SHIM_KERNEL_H

#include <limits.h>
#include <linux/types.h>

#define noinline		__attribute__((__noinline__))
#define READ_ONCE(x)		(*(const volatile __typeof__(x) *)&(x))
/* A race that does no harm. */
#define data_race(expr)		(expr)
#define WRITE_ONCE(x, val)	(*(volatile __typeof__(x) *)&(x) = (val))

/* Pairs with READ_ONCE(), as in the kernel. */
#define smp_store_release(p, v)	__atomic_store_n(p, v, __ATOMIC_RELEASE)

#define ARRAY_SIZE(a)		(sizeof(a) / sizeof((a)[0]))

#define container_of(ptr, type, member) \
	((type *)((char *)(ptr) - offsetof(type, member)))

/* As in the kernel, both sides of min() and max() are of one type. */
#define shim_cmp(a, op, b) ({			\
	__typeof__(a) _a = (a);			\
	__typeof__(b) _b = (b);			\
	(void)(&_a == &_b);			\
	_a op _b ? _a : _b; })

#define min(a, b)		shim_cmp(a, <, b)
#define max(a, b)		shim_cmp(a, >, b)
#define swap(a, b)		\
	do { __typeof__(a) _t = (a); (a) = (b); (b) = _t; } while (0)
#define min_t(type, a, b)	min((type)(a), (type)(b))
#define max_t(type, a, b)	max((type)(a), (type)(b))

#endif
