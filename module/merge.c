// SPDX-License-Identifier: GPL-2.0-only
/*
 * Same-page merging
 *
 * Pages are hashed while they may be written, which costs their owners nothing and proves
 * nothing.  Only if two hashes are equal are writers stopped, both pages compared in full,
 * and one of them shared in place of the other.
 *
 * The table is memory of the caller, so it persists from call to call, and the caller
 * chooses its size.  It remembers where a hash was seen, not the page.  So it does not
 * matter what happened to the page or to the table meanwhile: the place is looked at again.
 * If another hash took the entry of a place, the worst that happens is a missed merge.
 */
#include <linux/file.h>
#include <linux/highmem.h>
#include <linux/kernel.h>
#include <linux/nospec.h>
#include <linux/pagemap.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/xxhash.h>

#include "area.h"
#include "call.h"
#include "cut.h"
#include "file.h"
#include "hold.h"
#include "leaf.h"
#include "lock.h"
#include "map.h"
#include "merge.h"
#include "node.h"
#include "page.h"
#include "peek.h"
#include "region.h"
#include "thin.h"
#include "trace.h"
#include "tree-range.h"
#include "tree-walk.h"
#include "tree.h"

/**
 * struct area - where to look for pages
 * @file: the region's file.
 * @first: first index.
 * @end: index after the last one.
 */
struct area {
	struct file *file;
	pgoff_t first;
	pgoff_t end;
};

/* Where a page may be. */
struct place {
	struct cowmem_region *region;
	pgoff_t index;
};

/**
 * struct merge - a call in progress
 * @areas: where to look.
 * @table: where hashes were seen.
 * @args: what is asked and answered.
 */
struct merge {
	struct area *areas;
	struct cowmem_merge_entry __user *table;
	struct cowmem_merge *args;
};

/*
 * Get the first page from @place on and before @end, with a reference; NULL if there is none;
 * -EAGAIN if the search has to go on from the new @place.
 */
static struct page *next_page(struct place *place, pgoff_t end)
{
	struct cowmem_region *region = place->region;
	unsigned long budget = COWMEM_TREE_BUDGET;
	struct page *page;
	bool found;

	if (down_read_killable(&region->lock))
		return ERR_PTR(-EINTR);
	found = cowmem_tree_next(&region->tree, &place->index, true, &budget);
	if (place->index >= min(end, cowmem_region_end(region)))
		page = NULL;
	else if (found)
		page = cowmem_get_page(region, place->index);
	else
		page = ERR_PTR(-EAGAIN);
	up_read(&region->lock);
	return page;
}

/*
 * Make sure that nobody can write the page of @place until region->lock, which is held for
 * writing, is released.  Returns the page; NULL if there is none or somebody else is using it.
 */
static struct page *still_page(const struct place *place)
{
	struct cowmem_node *leaf;
	struct page *page;

	leaf = cowmem_tree_leaf(&place->region->tree, place->index, NULL);
	page = leaf ? leaf->slots[cowmem_slot(place->index)] : NULL;
	if (!page || !(leaf->granted & BIT_ULL(cowmem_slot(place->index))))
		return page;
	if (cowmem_page_large(page))
		return cowmem_area_revoke(place->region, place->index) ? page : NULL;
	cowmem_unmap(place->region, place->index, place->index + 1, false);
	return cowmem_page_busy(page, 0) ? NULL : page;
}

static bool page_zero(struct page *page)
{
	void *p;
	bool zero;

	if (PageHWPoison(page))
		return false;
	p = kmap_local_page(page);
	zero = !memchr_inv(p, 0, PAGE_SIZE);
	kunmap_local(p);
	return zero;
}

/* A slot is about to drop @page. */
static void count_saved(struct merge *m, struct page *page)
{
	if (cowmem_page_holders(page) == 1)
		m->args->saved += folio_size(page_folio(page));
}

/* Turn the page of @place into a hole, if it is still full of zeroes. */
static int merge_zero(struct merge *m, const struct place *place)
{
	struct cowmem_region *region = place->region;
	struct page *page;
	int err;

	err = down_write_killable(&region->lock);
	if (err)
		return err;
	page = still_page(place);
	if (!page || !page_zero(page))
		goto unlock;
	err = cowmem_tree_own_edge(&region->tree, place->index);
	if (err)
		goto unlock;
	cowmem_unmap(region, place->index, place->index + 1, false);
	count_saved(m, page);
	cowmem_tree_punch(&region->tree, place->index, place->index);
	cowmem_area_thin(region, place->index);
	m->args->zeroed++;
unlock:
	up_write(&region->lock);
	return err;
}

/* Nobody may write the page of @place any more.  Nobody is using it. */
static void ungrant(const struct place *place)
{
	struct cowmem_node *leaf = cowmem_tree_leaf(&place->region->tree, place->index, NULL);

	cowmem_revoke(leaf, leaf->granted & BIT_ULL(cowmem_slot(place->index)));
}

/*
 * Let @place share the page of @other, if the two are equal.  Both regions are locked for
 * writing.  Returns whether they share it now, or an errno.
 */
static int merge_locked(struct merge *m, const struct place *place,
			const struct place *other)
{
	struct page *page, *keep;
	struct cowmem_node *leaf;

	page = still_page(place);
	keep = still_page(other);
	if (!page || !keep)
		return false;
	if (page == keep)
		return true;
	if (!cowmem_pages_equal(page, keep))
		return false;
	if (cowmem_page_join(keep, cowmem_region_account(place->region)))
		return false;
	leaf = cowmem_tree_own(&place->region->tree, place->index, false);
	if (IS_ERR(leaf))
		return PTR_ERR(leaf);
	cowmem_unmap(place->region, place->index, place->index + 1, false);
	ungrant(other);
	ungrant(place);
	cowmem_page_hold(keep);
	cowmem_leaf_set(leaf, place->index, keep);
	leaf->large |= cowmem_page_kind(keep);
	count_saved(m, page);
	cowmem_page_drop(page, false);
	cowmem_area_thin(place->region, place->index);
	m->args->merged++;
	return true;
}

static int merge_pages(struct merge *m, const struct place *place,
		       const struct place *other)
{
	int ret = cowmem_lock_two(place->region, other->region, true);

	if (ret)
		return ret;
	ret = merge_locked(m, place, other);
	cowmem_unlock_two(place->region, other->region, true);
	return ret;
}

/* Where was a page with this hash seen?  The entry is user memory and may say anything. */
static bool find_place(const struct merge *m, u32 hash,
		       const struct cowmem_merge_entry *entry,
		       struct place *place)
{
	u32 nr = entry->range - 1;
	const struct area *area;

	if (entry->hash != hash || nr >= m->args->count ||
	    !PAGE_ALIGNED(entry->offset))
		return false;
	area = &m->areas[array_index_nospec(nr, m->args->count)];
	place->region = cowmem_file_region(area->file);
	place->index = entry->offset >> PAGE_SHIFT;
	return place->index >= area->first && place->index < area->end;
}

/* Does @place hold @page?  Returns -EINTR if a fatal signal is pending. */
static int holds(const struct place *place, const struct page *page)
{
	struct page *found = cowmem_peek(place->region, place->index);

	if (IS_ERR(found))
		return PTR_ERR(found) == -EINTR ? -EINTR : false;
	put_page(found);
	return found == page;
}

/* A hash may be in any of this many entries, which fill a cache line. */
#define MERGE_WAYS	4

/*
 * Look for a place with this hash that shares its page with @place already, or let @place
 * share its page.  Returns whether there is one, or an errno.  If not, *@way is the entry of
 * @set to use for @place.
 */
static int merge_known(struct merge *m, const struct cowmem_merge_entry *set,
		       u32 ways, u32 hash, const struct place *place,
		       const struct page *page, u32 *way)
{
	struct place other;
	int ret = false;
	u32 i;

	for (i = 0; i < ways && !ret; i++) {
		if (find_place(m, hash, &set[i], &other)) {
			ret = holds(&other, page);
			if (!ret)
				ret = merge_pages(m, place, &other);
			*way = i;
		} else if (!set[i].range) {
			*way = i;
		}
	}
	return ret;
}

/* Look at @page, which is at @place in area @nr, and drop the reference to it. */
static int merge_one(struct merge *m, u32 nr, const struct place *place,
		     struct page *page)
{
	struct cowmem_merge_entry set[MERGE_WAYS], __user *user;
	u32 ways = min_t(u32, m->args->entries, MERGE_WAYS), way;
	bool zero;
	void *addr;
	u64 hash;
	int ret;

	if (PageHWPoison(page)) {
		put_page(page);
		return 0;
	}
	zero = page_zero(page);
	addr = kmap_local_page(page);
	hash = xxh64(addr, PAGE_SIZE, 0);
	kunmap_local(addr);
	/* A reference would make the page look busy. */
	put_page(page);

	if (zero)
		return merge_zero(m, place);

	user = m->table + reciprocal_scale(hash, m->args->entries / ways) * ways;
	if (copy_from_user(set, user, ways * sizeof(*set)))
		return -EFAULT;
	way = (hash >> 32) % ways;
	ret = merge_known(m, set, ways, hash >> 32, place, page, &way);
	if (ret)
		return min(ret, 0);

	/* The hash is new, or the page that had it is not equal. */
	set[way] = (struct cowmem_merge_entry) {
		.hash = hash >> 32,
		.range = nr + 1,
		.offset = (u64)place->index << PAGE_SHIFT,
	};
	return copy_to_user(user + way, &set[way], sizeof(*set)) ? -EFAULT : 0;
}

static int merge_all(struct merge *m)
{
	struct cowmem_merge *args = m->args;
	u64 budget = args->budget ?: U64_MAX, searches = 0;
	int err = 0;

	/* Passing over thousands of nodes without a page costs as much as a page. */
	while (args->next < args->count && args->scanned + searches < budget && !err) {
		const struct area *area = &m->areas[args->next];
		struct place place = {
			.region = cowmem_file_region(area->file),
			.index = max_t(pgoff_t, area->first,
				       args->offset >> PAGE_SHIFT),
		};
		struct page *page = next_page(&place, area->end);

		if (page == ERR_PTR(-EAGAIN)) {
			args->offset = (u64)place.index << PAGE_SHIFT;
			searches++;
		} else if (IS_ERR(page)) {
			err = PTR_ERR(page);
		} else if (!page) {
			args->next++;
			args->offset = 0;
		} else {
			args->scanned++;
			err = merge_one(m, args->next, &place, page);
			args->offset = (u64)(place.index + 1) << PAGE_SHIFT;
		}
		cond_resched();
		if (fatal_signal_pending(current))
			err = -EINTR;
	}
	return err;
}

static int get_area(struct area *area, const struct cowmem_merge_range *user)
{
	u64 end = U64_MAX;

	if (user->reserved || !PAGE_ALIGNED(user->offset) ||
	    !PAGE_ALIGNED(user->length) ||
	    (user->length && check_add_overflow(user->offset, user->length, &end)))
		return -EINVAL;
	area->first = user->offset >> PAGE_SHIFT;
	area->end = end >> PAGE_SHIFT;
	area->file = cowmem_region_fget(user->fd, FMODE_READ | FMODE_WRITE);
	if (IS_ERR(area->file)) {
		int err = PTR_ERR(area->file);

		area->file = NULL;
		return err;
	}
	if (READ_ONCE(cowmem_file_region(area->file)->seals) & COWMEM_SEAL_WRITE)
		return -EPERM;
	return 0;
}

/**
 * cowmem_merge - COWMEM_IOC_MERGE
 * @call: the ioctl
 *
 * Context: may sleep and fault.
 * Return: 0 or a negative errno, see struct cowmem_merge.
 */
int cowmem_merge(struct cowmem_call *call)
{
	struct cowmem_merge *args = &call->args.merge;
	struct merge m = {
		.table = u64_to_user_ptr(args->table),
		.args = args,
	};
	struct cowmem_merge_range *ranges;
	int err = 0;
	u32 i;

	if (args->flags)
		return -EOPNOTSUPP;
	if (!args->count || args->count > COWMEM_MERGE_MAX ||
	    args->next > args->count || !args->entries ||
	    !PAGE_ALIGNED(args->offset))
		return -EINVAL;
	args->scanned = 0;
	args->merged = 0;
	args->zeroed = 0;
	args->saved = 0;
	ranges = memdup_user(u64_to_user_ptr(args->ranges),
			     args->count * sizeof(*ranges));
	if (IS_ERR(ranges))
		return PTR_ERR(ranges);
	m.areas = kcalloc(args->count, sizeof(*m.areas), GFP_KERNEL_ACCOUNT);
	if (!m.areas) {
		err = -ENOMEM;
		goto free_ranges;
	}
	for (i = 0; i < args->count && !err; i++)
		err = get_area(&m.areas[i], &ranges[i]);
	if (!err)
		err = merge_all(&m);
	trace_cowmem_merge(args->scanned, args->merged, args->zeroed);
	for (i = 0; i < args->count; i++)
		if (m.areas[i].file)
			fput(m.areas[i].file);
	kfree(m.areas);
free_ranges:
	kfree(ranges);
	return err;
}
