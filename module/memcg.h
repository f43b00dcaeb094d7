/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * How much the caller's memory cgroup still allows for.
 */
#ifndef _COWMEM_MEMCG_H
#define _COWMEM_MEMCG_H

#include <linux/types.h>

bool cowmem_near_limit(unsigned long pages);
bool cowmem_reserve_left(void);

#endif /* _COWMEM_MEMCG_H */
