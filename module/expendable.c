// SPDX-License-Identifier: GPL-2.0-only
/*
 * The list of snapshots that may yield
 */
#include <linux/list.h>
#include <linux/slab.h>

#include "expendable.h"

/*
 * All snapshots that may yield, oldest first.  cowmem_expendables_lock keeps the entries,
 * their regions and those regions' trees in place.  An entry is added under the spinlock
 * alone, so nobody who makes a snapshot waits for a search.
 */
static LIST_HEAD(expendables);
DEFINE_MUTEX(cowmem_expendables_lock);
static DEFINE_SPINLOCK(list_spinlock);

/**
 * cowmem_expendable_create - make what a region needs to be a snapshot that may yield
 * @region: the region, which is new
 *
 * Context: may sleep.
 * Return: it, or NULL.
 */
struct cowmem_expendable *cowmem_expendable_create(struct cowmem_region *region)
{
	struct cowmem_expendable *e = kzalloc(sizeof(*e), GFP_KERNEL_ACCOUNT);

	if (!e)
		return NULL;
	e->region = region;
	INIT_LIST_HEAD(&e->link);
	init_waitqueue_head(&e->wait);
	return e;
}

/**
 * cowmem_expendable_publish - a snapshot has its pages and may yield from now on
 * @e: what it has for that; NULL if it may not
 *
 * Context: any.
 */
void cowmem_expendable_publish(struct cowmem_expendable *e)
{
	if (!e)
		return;
	spin_lock(&list_spinlock);
	list_add_tail(&e->link, &expendables);
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
 * cowmem_expendable_destroy - a snapshot is going away
 * @e: what cowmem_expendable_create() made for it, or NULL
 *
 * Context: may sleep; nobody uses the region.
 */
void cowmem_expendable_destroy(struct cowmem_expendable *e)
{
	if (!e)
		return;
	mutex_lock(&cowmem_expendables_lock);
	cowmem_expendable_unlist(e);
	mutex_unlock(&cowmem_expendables_lock);
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
