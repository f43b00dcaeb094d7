/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * How much the caller's memory cgroup still allows for.  See memcg.c.
 */
#ifndef _COWMEM_MEMCG_H
#define _COWMEM_MEMCG_H

#include <linux/types.h>

struct mem_cgroup;

#ifdef CONFIG_MEMCG
struct mem_cgroup *cowmem_full_memcg(unsigned long pages);
#else
static inline struct mem_cgroup *cowmem_full_memcg(unsigned long pages)
{
	return NULL;
}
#endif

bool cowmem_near_limit(unsigned long pages);
bool cowmem_reserve_left(void);

#endif /* _COWMEM_MEMCG_H */
