// SPDX-License-Identifier: GPL-2.0-only
/*
 * Snapshots that may yield: the list of them, and who waits for it to happen
 */
#include <linux/poll.h>
#include <linux/slab.h>

#include "expendable.h"
#include "ops.h"
#include "region.h"

/*
 * All snapshots that may yield, oldest first.  cowmem_expendables_lock keeps the entries,
 * their regions and those regions' trees in place.  An entry is added under the spinlock
 * alone, so nobody who makes a snapshot waits for a search.
 */
static LIST_HEAD(expendables);
DEFINE_MUTEX(cowmem_expendables_lock);
static DEFINE_SPINLOCK(list_spinlock);

/**
 * cowmem_expendable_create - make a new snapshot one that may yield
 * @file: its only file
 *
 * Context: may sleep; nobody else has the file.
 * Return: 0 or -ENOMEM.
 */
int cowmem_expendable_create(struct file *file)
{
	struct cowmem_region *region = cowmem_file_region(file);
	struct cowmem_expendable *e = kzalloc(sizeof(*e), GFP_KERNEL_ACCOUNT);

	if (!e)
		return -ENOMEM;
	e->region = region;
	INIT_LIST_HEAD(&e->link);
	init_waitqueue_head(&e->wait);
	region->expendable = e;
	region->inode.i_fop = &cowmem_expendable_fops;
	file->f_op = &cowmem_expendable_fops;
	return 0;
}

/**
 * cowmem_expendable_publish - a snapshot has its pages and may yield from now on
 * @region: a new region; nothing happens if it is not such a snapshot
 *
 * Context: any.
 */
void cowmem_expendable_publish(struct cowmem_region *region)
{
	if (!region->expendable)
		return;
	spin_lock(&list_spinlock);
	list_add_tail(&region->expendable->link, &expendables);
	spin_unlock(&list_spinlock);
}

/**
 * cowmem_expendable_unlist - a snapshot is not to yield any more
 * @e: its entry, which may not be on the list
 *
 * Context: under cowmem_expendables_lock.
 */
void cowmem_expendable_unlist(struct cowmem_expendable *e)
{
	spin_lock(&list_spinlock);
	list_del_init(&e->link);
	spin_unlock(&list_spinlock);
	e->chosen = false;
}

/**
 * cowmem_expendable_destroy - a region is going away
 * @region: the region; nothing happens if it is not such a snapshot
 *
 * Context: may sleep; nobody uses the region.
 */
void cowmem_expendable_destroy(struct cowmem_region *region)
{
	struct cowmem_expendable *e = region->expendable;

	if (!e)
		return;
	mutex_lock(&cowmem_expendables_lock);
	cowmem_expendable_unlist(e);
	mutex_unlock(&cowmem_expendables_lock);
	region->expendable = NULL;
	kfree(e);
}

/**
 * cowmem_may_yield - is there any snapshot that may yield?
 *
 * Context: any.
 * Return: whether there was one a moment ago.
 */
bool cowmem_may_yield(void)
{
	return !list_empty(&expendables);
}

/**
 * cowmem_expendable_next - go through the list
 * @e: an entry, or NULL to start
 *
 * Context: under cowmem_expendables_lock.
 * Return: the entry after @e, or NULL if it was the last one.
 */
struct cowmem_expendable *cowmem_expendable_next(struct cowmem_expendable *e)
{
	struct list_head *next;

	spin_lock(&list_spinlock);
	next = e ? e->link.next : expendables.next;
	spin_unlock(&list_spinlock);
	return next == &expendables ? NULL :
	       list_entry(next, struct cowmem_expendable, link);
}

/**
 * cowmem_poll - ->poll of a snapshot that may yield
 * @file: its file
 * @table: where to add the waiter
 *
 * Context: may sleep.
 * Return: EPOLL*; EPOLLERR once it has yielded.
 */
__poll_t cowmem_poll(struct file *file, struct poll_table_struct *table)
{
	struct cowmem_region *region = cowmem_file_region(file);

	poll_wait(file, &region->expendable->wait, table);
	return EPOLLIN | EPOLLRDNORM | (cowmem_region_yielded(region) ? EPOLLERR : 0);
}
