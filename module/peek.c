// SPDX-License-Identifier: GPL-2.0-only
/*
 * Finding pages, to read them or to map them read-only
 */
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/sched/signal.h>

#include "grant.h"
#include "lock.h"
#include "mapped.h"
#include "node.h"
#include "page.h"
#include "peek.h"
#include "region.h"
#include "tree-walk.h"
#include "tree.h"
#include "zero.h"

/**
 * cowmem_get_page - get a reference to the page of an index
 * @region: the region
 * @index: the index
 *
 * Context: may sleep; under region->lock.
 * Return: the page, or the zero page for a hole.
 */
struct page *cowmem_get_page(struct cowmem_region *region, pgoff_t index)
{
	struct cowmem_node *leaf = cowmem_tree_leaf(&region->tree, index, NULL);
	struct page *page = NULL;

	if (leaf) {
		mutex_lock(&cowmem_leaf_lock(region, index)->lock);
		page = leaf->slots[cowmem_slot(index)];
		if (page)
			get_page(page);
		mutex_unlock(&cowmem_leaf_lock(region, index)->lock);
	}
	if (!page) {
		page = cowmem_zero_page();
		get_page(page);
	}
	return page;
}

/* The page of @index, or the zero page.  Under region->lock and the leaf lock. */
static struct page *leaf_page(const struct cowmem_node *leaf, pgoff_t index)
{
	struct page *page = leaf ? leaf->slots[cowmem_slot(index)] : NULL;

	return page ?: cowmem_zero_page();
}

/**
 * cowmem_peek - get a page of a region for reading
 * @region: the region
 * @index: index of the page
 *
 * Context: may sleep; no lock below i_rwsem and mmap_lock is held.
 * Return: the page, or the zero page for a hole, with a reference for the caller; -ERANGE
 * past the end; -EMFILE if the page has an absurd number of references; -EHWPOISON; -EIO if
 * the region is a snapshot that has yielded; -EINTR if a fatal signal is pending.
 */
struct page *cowmem_peek(struct cowmem_region *region, pgoff_t index)
{
	struct page *page;
	int err;

	err = cowmem_lock(region, false);
	if (err)
		return ERR_PTR(err);
	if (index >= cowmem_region_end(region)) {
		up_read(&region->lock);
		return ERR_PTR(-ERANGE);
	}
	mutex_lock(&cowmem_leaf_lock(region, index)->lock);
	page = leaf_page(cowmem_tree_leaf(&region->tree, index, NULL), index);
	if (PageHWPoison(page))
		page = ERR_PTR(-EHWPOISON);
	else if (cowmem_page_mappable(page))
		get_page(page);
	else
		page = ERR_PTR(-EMFILE);
	mutex_unlock(&cowmem_leaf_lock(region, index)->lock);
	up_read(&region->lock);
	return page;
}

/**
 * cowmem_find - find the next page or hole
 * @region: the region
 * @index: where to start; set to where the search ended
 * @data: look for a page, not for a hole
 * @end: do not look further than this
 *
 * Context: may sleep; no region is locked.
 * Return: 0, and there is none before @end if *@index is not less; -EIO if the region is a
 * snapshot that has yielded; -EINTR if a fatal signal is pending.
 */
int cowmem_find(struct cowmem_region *region, pgoff_t *index, bool data, pgoff_t end)
{
	bool found;

	do {
		unsigned long budget = COWMEM_TREE_BUDGET;
		int err;

		if (fatal_signal_pending(current))
			return -EINTR;
		err = cowmem_lock(region, false);
		if (err)
			return err;
		found = cowmem_tree_next(&region->tree, index, data, &budget);
		up_read(&region->lock);
		cond_resched();
	} while (!found && *index < end);
	return 0;
}

/**
 * cowmem_pages_to_map - look up pages of one leaf that are about to be mapped read-only
 * @region: the region
 * @leaf: the leaf of @index, or NULL
 * @index: index of the first page
 * @nr: how many
 * @pages: where to store them; a hole becomes the zero page
 *
 * Context: may sleep; under region->lock and the leaf lock.
 * Return: 0; -EHWPOISON if one of them is poisoned; -EMFILE if one has an absurd number of
 * references.
 */
int cowmem_pages_to_map(struct cowmem_region *region, struct cowmem_node *leaf,
			pgoff_t index, unsigned int nr, struct page **pages)
{
	struct page *zero = cowmem_zero_page();
	unsigned int i, slot = cowmem_slot(index);
	bool hole = false, other = false;
	int err = 0;

	for (i = 0; i < nr; i++) {
		struct page *page = leaf ? leaf->slots[slot + i] : NULL;

		if (!page) {
			page = zero;
			hole = true;
		} else if (!(leaf->granted & BIT_ULL(slot + i))) {
			other = true;
		} else if (!cowmem_has_name(leaf, slot + i)) {
			cowmem_name_page(region, leaf, index + i, page);
		}
		if (unlikely(PageHWPoison(page)))
			err = -EHWPOISON;
		if (unlikely(!cowmem_page_mappable(page)))
			err = -EMFILE;
		pages[i] = page;
	}
	if (hole)
		cowmem_note_hole_mapped(region, index, index + nr);
	if (other)
		cowmem_note_fresh_mapped(region, index, index + nr);
	return err;
}
