// SPDX-License-Identifier: GPL-2.0-only
/*
 * The limit for all regions together: limit_mib
 *
 * Pages and index nodes count.  What counts is charged before it is allocated.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/atomic.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/sizes.h>
#include <linux/sysfs.h>

#include "limit.h"

static unsigned long limit_mib;
module_param(limit_mib, ulong, 0644);
MODULE_PARM_DESC(limit_mib,
		 "Most memory that all regions may hold together, pages and index nodes, in MiB; 0 is no limit (default)");

/* What all regions hold together, in bytes. */
static atomic_long_t nr_bytes = ATOMIC_LONG_INIT(0);

static int get_held_kib(char *buf, const struct kernel_param *kp)
{
	return sysfs_emit(buf, "%ld\n", atomic_long_read(&nr_bytes) / SZ_1K);
}

static const struct kernel_param_ops held_kib_ops = { .get = get_held_kib };
module_param_cb(held_kib, &held_kib_ops, NULL, 0444);
MODULE_PARM_DESC(held_kib, "What all regions hold together now, as limit_mib counts it, in KiB; read-only");

/* Is @total bytes more than @limit MiB?  0 is no limit. */
static bool above(unsigned long limit, unsigned long total)
{
	return limit && DIV_ROUND_UP(total, SZ_1M) > limit;
}

/**
 * cowmem_limit_charge - charge memory that is about to be allocated
 * @bytes: how much
 *
 * Context: any.
 * Return: whether the limit allows for it; if not, nothing is charged.
 */
bool cowmem_limit_charge(long bytes)
{
	unsigned long limit = READ_ONCE(limit_mib);
	long total = atomic_long_read(&nr_bytes);

	/* A charge that does not fit must not make others fail, even for a moment. */
	do {
		if (above(limit, total + bytes))
			return false;
	} while (!atomic_long_try_cmpxchg(&nr_bytes, &total, total + bytes));
	return true;
}

/**
 * cowmem_limit_uncharge - undo cowmem_limit_charge()
 * @bytes: how much
 *
 * Context: any.
 */
void cowmem_limit_uncharge(long bytes)
{
	atomic_long_sub(bytes, &nr_bytes);
}

/**
 * cowmem_limit_allows - would the limit allow for more?
 * @bytes: how much more
 *
 * Context: any.
 * Return: whether it would have a moment ago.
 */
bool cowmem_limit_allows(long bytes)
{
	return !above(READ_ONCE(limit_mib), atomic_long_read(&nr_bytes) + bytes);
}

/**
 * cowmem_limit_short - how much has to be freed before the limit allows for another page
 *
 * Context: any.
 * Return: how many bytes; 0 if it does already.
 */
long cowmem_limit_short(void)
{
	unsigned long limit = READ_ONCE(limit_mib);
	unsigned long total = atomic_long_read(&nr_bytes) + PAGE_SIZE;

	return above(limit, total) ? total - limit * SZ_1M : 0;
}

/**
 * cowmem_limit_exit - complain about what was not uncharged
 *
 * Context: any; no region is left.
 */
void cowmem_limit_exit(void)
{
	long bytes = atomic_long_read(&nr_bytes);

	if (bytes)
		pr_err("leaked %ld bytes\n", bytes);
}
