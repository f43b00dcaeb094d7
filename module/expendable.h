/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Snapshots that may yield their memory.  See expendable.c, and yield.c for how they do.
 */
#ifndef _COWMEM_EXPENDABLE_H
#define _COWMEM_EXPENDABLE_H

#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/types.h>
#include <linux/wait.h>

struct cowmem_region;

/**
 * struct cowmem_expendable - what a region has if it is a snapshot that may yield
 * @region: the region.
 * @link: in the list of all snapshots that may yield, oldest first; empty before the
 *	snapshot is published and after it has yielded.  Protected by
 *	cowmem_expendables_lock and list_spinlock.
 * @chosen: the snapshot is about to yield.  Protected by cowmem_expendables_lock; set
 *	under yield_lock as well.
 * @yielded: it has yielded.  Set under region->lock for writing.
 * @wait: tasks in poll() that wait for @yielded.
 */
struct cowmem_expendable {
	struct cowmem_region *region;
	struct list_head link;
	bool chosen;
	bool yielded;
	wait_queue_head_t wait;
};

extern struct mutex cowmem_expendables_lock;

struct cowmem_expendable *cowmem_expendable_create(struct cowmem_region *region);
void cowmem_expendable_publish(struct cowmem_expendable *e);
void cowmem_expendable_destroy(struct cowmem_expendable *e);
void cowmem_expendable_unlist(struct cowmem_expendable *e);
struct cowmem_expendable *cowmem_expendable_next(struct cowmem_expendable *e);
bool cowmem_may_yield(void);

#endif /* _COWMEM_EXPENDABLE_H */
