// SPDX-License-Identifier: GPL-2.0-only
/*
 * Taking memory back from snapshots where a write would fail without it
 *
 * A write that finds no memory releases its locks, comes here, and starts anew afterwards.
 * There are three limits: limit_mib, size= of the mount, and the memory cgroup.  As long as
 * any snapshot may yield, writers allocate gently, so that an allocation fails where it
 * would invoke the OOM killer otherwise, and a little before.  If no snapshot helps, all
 * goes on as if there were none.  victim.c chooses the snapshots.
 */
#include <linux/memcontrol.h>
#include <linux/mm.h>
#include <linux/poll.h>

#include "account.h"
#include "expendable.h"
#include "limit.h"
#include "map.h"
#include "memcg.h"
#include "node.h"
#include "region.h"
#include "trace.h"
#include "tree.h"
#include "victim.h"
#include "yield.h"

/* Memory is taken back for one write at a time: the next one may find enough left over. */
static DEFINE_MUTEX(yield_lock);

/*
 * Move the tree of @e to @tree.  From now on anybody who locks the region gets EIO.  Under
 * yield_lock and cowmem_expendables_lock.  Returns 0 or -EINTR.
 */
static int steal(struct cowmem_expendable *e, struct cowmem_tree *tree)
{
	struct cowmem_region *region = e->region;
	int err = down_write_killable(&region->lock);

	if (err)
		return err;
	WRITE_ONCE(e->yielded, true);
	/*
	 * Copies in private mappings stay: they are the memory of a process, not of the
	 * snapshot.
	 */
	cowmem_unmap(region, 0, ULONG_MAX, false);
	cowmem_tree_swap(&region->tree, tree);
	up_write(&region->lock);
	cowmem_expendable_unlist(e);
	wake_up_poll(&e->wait, EPOLLERR);
	return 0;
}

static struct cowmem_expendable *first_chosen(void)
{
	struct cowmem_expendable *e = cowmem_expendable_next(NULL);

	while (e && !e->chosen)
		e = cowmem_expendable_next(e);
	return e;
}

/*
 * Take back the memory of the chosen snapshots, for a write to @region.  One that is closed
 * meanwhile has given it back by itself.  Under yield_lock.  Returns 0 or -EINTR.
 */
static int take_back(const struct cowmem_region *region, pgoff_t index)
{
	struct cowmem_expendable *e;
	struct cowmem_tree tree;
	int err;

	do {
		err = 0;
		cowmem_tree_init(&tree, NULL);
		mutex_lock(&cowmem_expendables_lock);
		e = first_chosen();
		if (e)
			err = steal(e, &tree);
		if (e && !err)
			trace_cowmem_yield(e->region, region, index);
		if (err)
			cowmem_victims_forget();
		mutex_unlock(&cowmem_expendables_lock);
		cowmem_tree_destroy(&tree);
	} while (e && !err);
	return err;
}

/* This many pages may have been charged ahead or have just been freed. */
#define MEMCG_SLACK	64

/* What did a write to @region lack that failed with @err? */
static void look_at_limits(struct cowmem_need *need, const struct cowmem_region *region, int err)
{
	if (err == -ENOSPC) {
		need->account = cowmem_region_account(region);
		need->pages = cowmem_account_short(need->account);
		need->bytes = cowmem_limit_short();
	} else {
		need->memcg = cowmem_full_memcg(MEMCG_SLACK);
		need->charged = !!need->memcg;
	}
}

/**
 * cowmem_yield - take memory of snapshots back for a write that failed for lack of it
 * @region: the region that is to be written
 * @index: index of the page
 * @err: -ENOSPC or -ENOMEM
 *
 * Context: may sleep; no lock below i_rwsem and mmap_lock is held.
 * Return: whether to try again in the same way, because something was freed, by this call
 * or by somebody else.  If not, no snapshot can help, or a fatal signal is pending.
 */
bool cowmem_yield(struct cowmem_region *region, pgoff_t index, int err)
{
	struct cowmem_need need = {};
	bool again, waited = !mutex_trylock(&yield_lock);

	if (waited && mutex_lock_killable(&yield_lock))
		return false;
	look_at_limits(&need, region, err);
	/* If no limit is near, it failed for another reason. */
	if (cowmem_need_met(&need))
		again = err == -ENOSPC || waited;
	else
		again = cowmem_victims_choose(&need, region, index) &&
			!take_back(region, index);
	mem_cgroup_put(need.memcg);
	mutex_unlock(&yield_lock);
	return again;
}
