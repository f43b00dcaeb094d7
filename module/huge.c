// SPDX-License-Identifier: GPL-2.0-only
/*
 * Backing an area by one folio: whether to, and doing it
 */
#include <linux/err.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/sched/signal.h>

#include "account.h"
#include "area.h"
#include "hold.h"
#include "huge.h"
#include "leaf.h"
#include "map.h"
#include "page.h"
#include "region.h"
#include "tree-range.h"
#include "tree.h"

/* The names of enum cowmem_huge for users. */
const char *const cowmem_huge_names[COWMEM_HUGE_ALWAYS + 1] = {
	[COWMEM_HUGE_NEVER] = "never",
	[COWMEM_HUGE_ADVISE] = "advise",
	[COWMEM_HUGE_ALWAYS] = "always",
};

static int huge = COWMEM_HUGE_ADVISE;

static int set_huge(const char *value, const struct kernel_param *kp)
{
	int i = sysfs_match_string(cowmem_huge_names, value);

	if (i < 0)
		return i;
	WRITE_ONCE(huge, i);
	return 0;
}

static int get_huge(char *buf, const struct kernel_param *kp)
{
	return sysfs_emit(buf, "%s\n", cowmem_huge_names[READ_ONCE(huge)]);
}

static const struct kernel_param_ops huge_ops = { .set = set_huge, .get = get_huge };
module_param_cb(huge, &huge_ops, NULL, 0644);
MODULE_PARM_DESC(huge,
		 "Memory of the size that a PMD maps (2 MiB with pages of 4 KiB) for regions that /dev/cowmem is opened for, and mounts made without huge=, from now on: never, advise (where madvise() asks for it or memory is written in order; default) or always");

/**
 * cowmem_huge_default - the setting that new regions of the device, and new mounts, start with
 *
 * Context: any.
 * Return: when their areas are to be backed by one folio.
 */
enum cowmem_huge cowmem_huge_default(void)
{
	return READ_ONCE(huge);
}

/**
 * cowmem_region_huge - the setting that goes for a region
 * @region: the region
 *
 * The setting of a mount goes for all files of it, so a remount changes it for those that
 * exist already.
 *
 * Context: any.
 * Return: when areas of the region are to be backed by one folio.
 */
enum cowmem_huge cowmem_region_huge(const struct cowmem_region *region)
{
	const struct cowmem_account *account = cowmem_region_account(region);
	enum cowmem_huge own = READ_ONCE(region->huge), mount;

	if (!account)
		return own;
	mount = READ_ONCE(account->huge);
	return mount == COWMEM_HUGE_NEVER ? mount : max(own, mount);
}

/**
 * cowmem_want_huge - ask for every area of a region to be backed by one folio
 * @region: the region
 *
 * This does nothing where an administrator said "never".
 *
 * Context: any.
 */
void cowmem_want_huge(struct cowmem_region *region)
{
	if (READ_ONCE(region->huge) != COWMEM_HUGE_NEVER)
		WRITE_ONCE(region->huge, COWMEM_HUGE_ALWAYS);
}

/**
 * cowmem_can_huge - can areas be backed by one folio at all?
 *
 * Context: any.
 * Return: whether the kernel and the machine can map them.
 */
bool cowmem_can_huge(void)
{
	return IS_ENABLED(CONFIG_TRANSPARENT_HUGEPAGE) && has_transparent_hugepage() &&
	       COWMEM_AREA_ORDER <= MAX_PAGE_ORDER;
}

/*
 * Is a stream about to write an area: does @index start it, and was all of the area before
 * it written?  RESTORE keeps no page of a folio for an area, so this does not count where it
 * was asked to keep pages.
 */
static bool is_stream(const struct cowmem_region *region, pgoff_t index)
{
	return index && !READ_ONCE(region->keeps) && !(index % COWMEM_AREA_PAGES) &&
	       cowmem_area_written(region, index - COWMEM_AREA_PAGES);
}

/* Did the writer, or whoever set up the region, ask for memory by whole areas? */
static bool asked_for(const struct cowmem_region *region, const struct vm_fault *vmf)
{
	return cowmem_region_huge(region) == COWMEM_HUGE_ALWAYS ||
	       (vmf && (vmf->vma->vm_flags & VM_HUGEPAGE));
}

/* May the area of @index be backed by one folio? */
static bool may_be_huge(struct cowmem_region *region, pgoff_t index,
			enum cowmem_writer by, const struct vm_fault *vmf)
{
	pgoff_t first = cowmem_area_first(index), end = first + COWMEM_AREA_PAGES;

	if (vmf && ((vmf->vma->vm_flags & VM_NOHUGEPAGE) || first < vmf->vma->vm_pgoff ||
		    end > vmf->vma->vm_pgoff + vma_pages(vmf->vma)))
		return false;
	/*
	 * Calls may be about to write past the end.  As on tmpfs, that is only a reason for a
	 * folio if one was asked for.
	 */
	return end <= cowmem_region_end(region) ||
	       (by != COWMEM_FAULT && cowmem_region_huge(region) == COWMEM_HUGE_ALWAYS);
}

/* Is the area of @index empty? */
static bool is_bare(const struct cowmem_region *region, pgoff_t index)
{
	struct cowmem_node *leaves[COWMEM_AREA_LEAVES];
	bool shared;

	return !cowmem_tree_leaf(&region->tree, index, NULL) &&
	       !cowmem_some_leaves(region, cowmem_area_first(index), COWMEM_AREA_LEAVES,
				   leaves, &shared);
}

/* As get_folio_to_copy(), but without a reference, and under a lock: leaf lock or write. */
static struct folio *folio_to_copy(struct cowmem_region *region, pgoff_t index)
{
	struct cowmem_node *leaf = cowmem_tree_leaf(&region->tree, index, NULL);
	struct folio *folio = cowmem_area_folio(region, leaf, index, false);

	if (!folio || leaf->granted || cowmem_area_exclusive(region, index, &folio->page))
		return NULL;
	return folio;
}

/*
 * The folio that a stream is about to copy: it backs all of the area of @index, and cannot be
 * written in place.  Returns NULL if there is none, or takes a reference.
 */
static struct folio *get_folio_to_copy(struct cowmem_region *region, pgoff_t index)
{
	struct mutex *lock = &cowmem_leaf_lock(region, index)->lock;
	struct folio *folio;

	mutex_lock(lock);
	folio = folio_to_copy(region, index);
	if (folio)
		folio_get(folio);
	mutex_unlock(lock);
	return folio;
}

/* As cowmem_huge_wanted(), for the few writes that need a closer look. */
static noinline bool huge_wanted(struct cowmem_region *region, pgoff_t index,
				 enum cowmem_writer by, const struct vm_fault *vmf)
{
	bool stream;

	if (cowmem_region_huge(region) == COWMEM_HUGE_NEVER || !cowmem_can_huge() ||
	    !may_be_huge(region, index, by, vmf))
		return false;
	stream = is_stream(region, index);
	if (!stream && !asked_for(region, vmf))
		return false;
	return stream || is_bare(region, index);
}

/**
 * cowmem_huge_wanted - should a write make its area one folio first?
 * @region: the region
 * @index: index of the page that is about to be written
 * @by: what is going to write it
 * @vmf: the write fault, or NULL
 *
 * Context: any; under region->lock.
 * Return: whether to try cowmem_make_huge(), which may find that it cannot be done.
 */
bool cowmem_huge_wanted(struct cowmem_region *region, pgoff_t index,
			enum cowmem_writer by, const struct vm_fault *vmf)
{
	/* Most writes are not the first one of an area, and did not ask for folios. */
	if (index % COWMEM_AREA_PAGES && !asked_for(region, vmf))
		return false;
	return huge_wanted(region, index, by, vmf);
}

/* Copy a folio, which nobody writes meanwhile. */
static int copy_folio(struct folio *to, struct folio *from)
{
	unsigned int i;
	int err;

	for (i = 0; i < COWMEM_AREA_PAGES; i++) {
		err = cowmem_page_copy(folio_page(to, i), folio_page(from, i));
		if (err)
			return err;
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
	}
	return 0;
}

/* Put all of @folio into an empty tree, which takes over its one holder. */
static int fill_tree(struct cowmem_tree *tree, pgoff_t first, struct folio *folio)
{
	struct page *pages[COWMEM_NODE_SLOTS];
	unsigned int i, j;

	for (i = 0; i < COWMEM_AREA_LEAVES; i++) {
		struct cowmem_node *leaf;

		for (j = 0; j < COWMEM_NODE_SLOTS; j++)
			pages[j] = folio_page(folio, i * COWMEM_NODE_SLOTS + j);
		leaf = cowmem_tree_own(tree, first + i * COWMEM_NODE_SLOTS, true);
		if (IS_ERR(leaf)) {
			if (!i)
				cowmem_page_drop(&folio->page, false);
			return PTR_ERR(leaf);
		}
		if (i)
			cowmem_folio_hold(folio, COWMEM_NODE_SLOTS);
		else
			cowmem_folio_hold(folio, COWMEM_NODE_SLOTS - 1);
		cowmem_leaf_fill(leaf, folio, cowmem_page_kind(&folio->page), pages);
	}
	return 0;
}

/* Move @folio from @fresh to the area at @first.  Under region->lock for writing. */
static int install(struct cowmem_region *region, pgoff_t first, struct cowmem_tree *fresh,
		   struct folio *folio, struct folio *old)
{
	struct cowmem_node *leaves[COWMEM_AREA_LEAVES];
	pgoff_t last = first + COWMEM_AREA_PAGES - 1;
	bool shared;
	int err;

	err = cowmem_tree_own_edge(&region->tree, first);
	if (!err)
		err = cowmem_tree_own_edge(&region->tree, last);
	if (!err)
		err = cowmem_tree_raise(fresh, &region->tree);
	if (!err)
		err = cowmem_tree_raise(&region->tree, fresh);
	if (err)
		return err;
	if (old || region->holes_mapped)
		cowmem_unmap(region, first, last + 1, false);
	cowmem_tree_graft(&region->tree, first, last, fresh);
	cowmem_some_leaves(region, first, COWMEM_AREA_LEAVES, leaves, &shared);
	cowmem_area_grant(region, leaves, first, folio);
	return 0;
}

static int install_locked(struct cowmem_region *region, pgoff_t index,
			  enum cowmem_writer by, const struct vm_fault *vmf,
			  struct cowmem_tree *fresh, struct folio *folio, struct folio *old)
{
	int err = down_write_killable(&region->lock);

	if (err)
		return err;
	/* Only if nothing has changed since it was wanted. */
	if (cowmem_huge_wanted(region, index, by, vmf) &&
	    (old ? folio_to_copy(region, index) == old : is_bare(region, index)) &&
	    !(region->seals & COWMEM_SEAL_WRITE))
		err = install(region, cowmem_area_first(index), fresh, folio, old);
	up_write(&region->lock);
	return err;
}

/**
 * cowmem_make_huge - back an area by one folio
 * @region: the region
 * @index: index in the area, of a page that is about to be written
 * @by: what is going to write it
 * @vmf: the write fault, or NULL
 *
 * Nobody has to wait while the memory is cleared or copied.  If there is no memory, or the
 * folio is not wanted any more, nothing changes.
 *
 * Context: may sleep; after cowmem_huge_wanted(), with region->lock held for reading, which
 * this drops.
 * Return: 0 or -EINTR.
 */
int cowmem_make_huge(struct cowmem_region *region, pgoff_t index,
		     enum cowmem_writer by, const struct vm_fault *vmf)
{
	struct cowmem_account *account = cowmem_region_account(region);
	bool bare = is_bare(region, index);
	struct folio *old = bare ? NULL : get_folio_to_copy(region, index);
	struct cowmem_tree fresh;
	struct folio *folio;
	int err = 0;

	up_read(&region->lock);
	if (!bare && !old)
		return 0;

	cowmem_tree_init(&fresh, account);
	folio = cowmem_huge_alloc(account, !old, vmf);
	if (!folio)
		goto put_old;
	if (old)
		err = copy_folio(folio, old);
	if (err)
		cowmem_page_drop(&folio->page, false);
	else
		err = fill_tree(&fresh, cowmem_area_first(index), folio);
	if (!err)
		err = install_locked(region, index, by, vmf, &fresh, folio, old);
	cowmem_tree_destroy(&fresh);
put_old:
	if (old)
		folio_put(old);
	return err == -EINTR ? err : 0;
}
