/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Choosing the snapshots that have to yield.  See victim.c.
 */
#ifndef _COWMEM_VICTIM_H
#define _COWMEM_VICTIM_H

#include <linux/types.h>

struct cowmem_account;
struct cowmem_region;
struct mem_cgroup;

/**
 * struct cowmem_need - what a write lacks
 * @bytes: bytes that limit_mib does not allow.
 * @pages: pages that @account does not have left.
 * @account: the account that the region's pages are charged to.
 * @charged: pages that have to be uncharged from @memcg or below.
 * @memcg: the memory cgroup that is full, with a reference, or NULL.
 */
struct cowmem_need {
	long bytes;
	long pages;
	struct cowmem_account *account;
	long charged;
	struct mem_cgroup *memcg;
};

bool cowmem_victims_choose(const struct cowmem_need *need, struct cowmem_region *region,
			   pgoff_t index);
void cowmem_victims_forget(void);

/* Is there nothing that is lacking? */
static inline bool cowmem_need_met(const struct cowmem_need *need)
{
	return need->bytes <= 0 && need->pages <= 0 && need->charged <= 0;
}

#endif /* _COWMEM_VICTIM_H */
