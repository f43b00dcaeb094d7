// SPDX-License-Identifier: GPL-2.0-only
/*
 * How much the caller's memory cgroup still allows for
 */
#include <linux/gfp.h>
#include <linux/memcontrol.h>
#include <linux/mm.h>

#include "memcg.h"

#ifdef CONFIG_MEMCG
/**
 * cowmem_full_memcg - the memory cgroup that keeps the caller from getting more pages
 * @pages: how many pages
 *
 * Context: any.
 * Return: the first cgroup, of those that would be charged, that does not have so many
 * left, with a reference; or NULL.
 */
struct mem_cgroup *cowmem_full_memcg(unsigned long pages)
{
	struct mem_cgroup *memcg;

	if (mem_cgroup_disabled())
		return NULL;
	rcu_read_lock();
	for (memcg = mem_cgroup_from_task(current); memcg; memcg = parent_mem_cgroup(memcg))
		if (page_counter_read(&memcg->memory) + pages >=
		    READ_ONCE(memcg->memory.max))
			break;
	if (memcg && !css_tryget(&memcg->css))
		memcg = NULL;
	rcu_read_unlock();
	return memcg;
}
#endif

/* A fault needs a page table or two, and the writer does other things as well. */
#define RESERVE		16

/**
 * cowmem_near_limit - is the caller's memory cgroup nearly full?
 * @pages: how many more pages the caller wants
 *
 * Context: any.
 * Return: whether fewer pages than the kernel's reserve would be left after that.
 */
bool cowmem_near_limit(unsigned long pages)
{
	struct mem_cgroup *memcg = cowmem_full_memcg(RESERVE + pages);

	mem_cgroup_put(memcg);
	return memcg;
}

/**
 * cowmem_reserve_left - does the caller's memory cgroup have a few pages left?
 *
 * If the kernel itself needs memory for a process, page tables for a start, it does not ask
 * snapshots to yield but invokes the OOM killer.  So the last few pages are left to it.
 *
 * Context: may sleep.
 * Return: whether there are, perhaps after other memory was reclaimed.
 */
bool cowmem_reserve_left(void)
{
	struct page *pages[RESERVE];
	unsigned int nr = 0, i;

	if (!cowmem_near_limit(0))
		return true;
	while (nr < RESERVE) {
		pages[nr] = alloc_page(GFP_KERNEL_ACCOUNT | __GFP_RETRY_MAYFAIL |
				       __GFP_NOWARN);
		if (!pages[nr])
			break;
		nr++;
	}
	for (i = 0; i < nr; i++)
		put_page(pages[i]);
	return nr == RESERVE;
}
