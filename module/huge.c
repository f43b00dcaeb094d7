// SPDX-License-Identifier: GPL-2.0-only
/*
 * Areas that one folio backs, and a PMD may map; and smaller folios
 *
 * The tree knows no other entries than pages: the folio's are in the slots of all leaves of
 * the area, and page by page they are what any page is.  A slot may be given another page, and
 * a page of the folio may come to hang elsewhere.  But they have one reference count, one
 * ->mapping and one count of holders, which counts slots.  So
 *
 *  - pages of a folio are granted only while all slots that hold any are in the area
 *    that the folio was made for, of one region ("at home").  They are granted together (of
 *    what is called a block below, as they are written), and lose that together before
 *    anybody else gets to hold one.
 *  - a reference to the folio makes all of its pages busy.
 *  - its memory is freed, and counts, as a whole.
 *
 * All this goes for smaller folios as well, "blocks", whose area is one leaf, or two, or four.
 * No PMD maps them: they are there because the core takes PTEs of one folio together when it
 * unmaps them, and that is most of what it takes to clone much that was written
 * (COWMEM_HAVE_BLOCKS).  Nobody notices but by that, so streams get them whatever was said
 * about huge pages: who writes the first page of a leaf, after as much as the block is large was
 * granted just before it.  The pages get into the slots one by one, as they are written.
 * Until then they are the "rest" of the block, which the leaf lock has (struct cowmem_leaf_lock)
 * and which is among the holders.  As long as it is there,
 *
 *  - all pages of the block that are in slots are granted, and have names.  Who takes the
 *    grant of one away takes those of all, and drops the rest.
 *  - it is at home as the slots are: before anybody else gets to hold a page of the block, the
 *    rest is dropped.  Who gives the region another tree drops it as well.
 *
 * So what a stream leaves unused when it ends, which goes with the block, is less than what it
 * wrote.
 *
 * A folio whose pages fill their area, in order, is mapped by a PMD where a mapping covers
 * the area and has no page table there.  To get a PMD made we return the page, locked, to
 * the core kernel, which maps it when our locks are no longer held.  So whoever unmaps
 * pages of a region first waits for the page locks of folios that were given away like that
 * (cowmem_pmd_barrier).
 */
#include <linux/highmem.h>
#include <linux/huge_mm.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pagemap.h>
#include <linux/sched/signal.h>

#include "cowmem.h"
#include "trace.h"

/* What users call enum cowmem_huge. */
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
 * cowmem_huge_default - what regions of the device, and mounts, begin with
 *
 * Context: any.
 * Return: when their areas are to be backed by one folio.
 */
enum cowmem_huge cowmem_huge_default(void)
{
	return READ_ONCE(huge);
}

/**
 * cowmem_region_huge - when areas of a region are to be backed by one folio
 * @region: the region
 *
 * A mount means all that it has: a remount changes it for files that exist.
 *
 * Context: any.
 * Return: when.
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
 * cowmem_want_huge - any area of a region is to be backed by one folio
 * @region: the region
 *
 * But where an administrator said that none is to be, it stays at that.
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

static pgoff_t area_first(pgoff_t index)
{
	return round_down(index, COWMEM_AREA_PAGES);
}

/* Where the area of @folio, of which a page is at @index, begins. */
static pgoff_t folio_first(struct folio *folio, pgoff_t index)
{
	return round_down(index, folio_nr_pages(folio));
}

/* How many leaves it covers. */
static unsigned int folio_leaves(struct folio *folio)
{
	return folio_nr_pages(folio) / COWMEM_NODE_SLOTS;
}

/*
 * The @max leaves from @first on, NULL where there is none.  Returns how many there
 * are, and in @shared whether others share any of them.
 */
static unsigned int some_leaves(const struct cowmem_region *region, pgoff_t first,
				unsigned int max, struct cowmem_node **leaves, bool *shared)
{
	unsigned int i, nr = 0;

	*shared = false;
	for (i = 0; i < max; i++) {
		bool one = false;

		leaves[i] = cowmem_tree_leaf(&region->tree, first + i * COWMEM_NODE_SLOTS,
					     &one);
		nr += !!leaves[i];
		*shared |= one;
	}
	return nr;
}

static unsigned int area_leaves(const struct cowmem_region *region, pgoff_t first,
				struct cowmem_node **leaves, bool *shared)
{
	return some_leaves(region, first, COWMEM_AREA_LEAVES, leaves, shared);
}

/* Is @page the page of its folio that belongs at @index? */
static bool at_home(struct page *page, pgoff_t index)
{
	struct folio *folio = page_folio(page);

	return folio_page_idx(folio, page) == index % folio_nr_pages(folio);
}

/* Which slots of @leaf, the @nr-th of its area, hold pages of @folio at home? */
static u64 home_slots(const struct cowmem_node *leaf, unsigned int nr, struct folio *folio)
{
	struct page *page = folio_page(folio, nr * COWMEM_NODE_SLOTS);
	u64 slots = 0;
	unsigned int i;

	if (!leaf || !leaf->large)
		return 0;
	if (leaf->whole == folio && leaf->slots[0] == page)
		return ~0ULL;
	for (i = 0; i < COWMEM_NODE_SLOTS; i++)
		if (leaf->slots[i] == page + i)
			slots |= BIT_ULL(i);
	return slots;
}

/**
 * cowmem_folio_broken - is any page of a folio poisoned?
 * @folio: the folio
 *
 * The core has a flag that tells, but sets it only for what is on an LRU list.
 *
 * Context: any.
 * Return: whether one is.
 */
bool cowmem_folio_broken(struct folio *folio)
{
	struct page *page = &folio->page, *end = page + folio_nr_pages(folio);
	bool broken = false;

	if (IS_ENABLED(CONFIG_MEMORY_FAILURE))
		for (; page < end && !broken; page += 4)
			broken = PageHWPoison(page) | PageHWPoison(page + 1) |
				 PageHWPoison(page + 2) | PageHWPoison(page + 3);
	return broken;
}

/* Do the leaves of its area hold all of @folio, in order? */
static bool is_whole(struct cowmem_node *const *leaves, struct folio *folio)
{
	unsigned int i;

	for (i = 0; i < folio_leaves(folio); i++)
		if (!leaves[i] || leaves[i]->whole != folio ||
		    leaves[i]->slots[0] != folio_page(folio, i * COWMEM_NODE_SLOTS))
			return false;
	return true;
}

/* Were all pages of an area written since the last clone? */
static bool written_whole(const struct cowmem_region *region, pgoff_t first)
{
	unsigned int i;

	for (i = 0; i < COWMEM_AREA_LEAVES; i++) {
		struct cowmem_node *leaf;

		leaf = cowmem_tree_leaf(&region->tree, first + i * COWMEM_NODE_SLOTS, NULL);
		if (!leaf || ~READ_ONCE(leaf->granted))
			return false;
	}
	return true;
}

static bool any_granted(struct cowmem_node *const *leaves, unsigned int nr)
{
	unsigned int i;

	for (i = 0; i < nr; i++)
		if (leaves[i]->granted)
			return true;
	return false;
}

/* Let the region write the pages of @folio that the leaves hold, which nobody else does. */
static void grant_area(struct cowmem_region *region, struct cowmem_node **leaves,
		       pgoff_t first, struct folio *folio)
{
	unsigned int i;

	folio_set_dirty(folio);
	folio->mapping = region->inode.i_mapping;
	folio->index = first;
	if (is_whole(leaves, folio) && !any_granted(leaves, folio_leaves(folio))) {
		cowmem_leaves_grant(&region->tree, leaves, folio_leaves(folio), first);
		return;
	}
	for (i = 0; i < folio_leaves(folio); i++) {
		u64 slots = home_slots(leaves[i], i, folio);

		if (!slots)
			continue;
		cowmem_leaf_grant_slots(&region->tree, leaves[i],
					first + i * COWMEM_NODE_SLOTS, slots);
		leaves[i]->named |= slots;
	}
}

/* Wait for who is about to map @folio, if anybody is. */
static void pmd_wait(struct folio *folio)
{
	if (folio_test_locked(folio)) {
		folio_lock(folio);
		folio_unlock(folio);
	}
	/* Who unlocked it has mapped it before. */
	smp_acquire__after_ctrl_dep();
}

/**
 * cowmem_pmd_give - lock a folio that the core is to map
 * @region: the region
 * @index: index in the area that it backs
 * @folio: the folio; the caller has a reference for the core
 *
 * Context: may sleep; under region->lock and the leaf lock.
 */
void cowmem_pmd_give(struct cowmem_region *region, pgoff_t index, struct folio *folio)
{
	struct folio **given = cowmem_leaf_lock(region, index)->given;
	unsigned int i;

	WRITE_ONCE(region->pmds_mapped, true);
	/* Those that are not locked were mapped, or will not be. */
	for (i = 0; i < COWMEM_GIVEN - 1; i++)
		if (!given[i] || given[i] == folio || !folio_test_locked(given[i]))
			break;
	if (given[i])
		pmd_wait(given[i]);
	given[i] = folio;
	folio_lock(folio);
	/* The core asks it how far the file goes. */
	if (!folio->mapping)
		folio->index = area_first(index);
}

/**
 * cowmem_pmd_barrier - wait for faults that are about to map areas of a range
 * @region: the region
 * @first: first index
 * @end: index after the last one
 *
 * Nothing that the region holds is dropped, or shared, before it was unmapped, and nothing
 * is unmapped before this: so each folio in cowmem_leaf_lock.given is still there.
 *
 * Context: may sleep; under region->lock for writing, or for reading with the leaf lock of
 * the range.
 */
void cowmem_pmd_barrier(struct cowmem_region *region, pgoff_t first, pgoff_t end)
{
	unsigned int i, locks = COWMEM_LEAF_LOCKS;

	if (!READ_ONCE(region->pmds_mapped) || first >= end)
		return;
	if (end - first < COWMEM_LEAF_LOCKS * COWMEM_AREA_PAGES)
		locks = min_t(pgoff_t, locks, (end - 1) / COWMEM_AREA_PAGES -
					      first / COWMEM_AREA_PAGES + 1);
	for (; locks--; first += COWMEM_AREA_PAGES) {
		struct folio **given = cowmem_leaf_lock(region, first)->given;

		for (i = 0; i < COWMEM_GIVEN; i++)
			if (given[i]) {
				pmd_wait(given[i]);
				given[i] = NULL;
			}
	}
}

/* Unmap its area.  Returns whether anybody but the caller, @mine times, refers to @folio. */
static bool unmap_area(struct cowmem_region *region, pgoff_t first, struct folio *folio,
		       int mine)
{
	cowmem_unmap(region, first, first + folio_nr_pages(folio), false);
	return cowmem_page_busy(&folio->page, mine);
}

/* How many pages of @folio are in @leaves, at home? */
static long nr_home(struct cowmem_node *const *leaves, struct folio *folio)
{
	unsigned int i;
	long nr = 0;

	for (i = 0; i < folio_leaves(folio); i++)
		nr += hweight64(home_slots(leaves[i], i, folio));
	return nr;
}

/* The leaves of the area of @folio, of which a page is at @index. */
static void home_leaves(const struct cowmem_region *region, pgoff_t index, struct folio *folio,
			struct cowmem_node **leaves, bool *shared)
{
	some_leaves(region, folio_first(folio, index), folio_leaves(folio), leaves, shared);
}

/**
 * cowmem_area_held - how many pages of a folio are in its area, where they belong
 * @region: the region
 * @index: index of one
 * @page: that one
 *
 * Context: any; under region->lock and the leaf lock.
 * Return: how many.
 */
unsigned long cowmem_area_held(struct cowmem_region *region, pgoff_t index,
			       struct page *page)
{
	struct cowmem_node *leaves[COWMEM_AREA_LEAVES];
	bool shared;

	home_leaves(region, index, page_folio(page), leaves, &shared);
	return nr_home(leaves, page_folio(page));
}

/**
 * cowmem_area_exclusive - does nobody else hold a page of a folio, or another one of it?
 * @region: the region
 * @index: index of the page
 * @page: the page
 *
 * Context: any; under region->lock and the leaf lock.
 * Return: whether all that is held of the folio is in this area.
 */
bool cowmem_area_exclusive(struct cowmem_region *region, pgoff_t index, struct page *page)
{
	struct cowmem_node *leaves[COWMEM_AREA_LEAVES];
	struct folio *folio = page_folio(page);
	bool shared;

	/* Most of those that are shared are soon told. */
	if (cowmem_page_holders(page) > folio_nr_pages(folio) || !at_home(page, index))
		return false;
	home_leaves(region, index, folio, leaves, &shared);
	return !shared && nr_home(leaves, folio) == cowmem_page_holders(page);
}

/**
 * cowmem_area_reuse - grant the pages of a folio as they are, if that is right
 * @region: the region
 * @index: index of a page
 * @page: the page
 * @mine: how many references the caller has
 *
 * See "The reuse rule" in grant.c.  Where splits left less than half of them, it is not:
 * then those that are written go, and do not keep the memory of the folio.
 *
 * Context: may sleep; under region->lock and the leaf lock.
 * Return: whether all that are held are granted now.
 */
bool cowmem_area_reuse(struct cowmem_region *region, pgoff_t index, struct page *page,
		       int mine)
{
	struct cowmem_node *leaves[COWMEM_AREA_LEAVES];
	struct folio *folio = page_folio(page);
	pgoff_t first = folio_first(folio, index);
	bool shared;

	if (!cowmem_area_exclusive(region, index, page) ||
	    cowmem_page_holders(page) < folio_nr_pages(folio) / 2 ||
	    unmap_area(region, first, folio, mine))
		return false;
	home_leaves(region, index, folio, leaves, &shared);
	grant_area(region, leaves, first, folio);
	return true;
}

/**
 * cowmem_large_pages - how many pages may come and go with those around an index?
 * @region: the region
 * @index: the index
 *
 * Context: any; under region->lock.
 * Return: how many pages the largest folio has that may have pages in the area of @index; 1 if
 * there is none.
 */
unsigned int cowmem_large_pages(const struct cowmem_region *region, pgoff_t index)
{
	struct cowmem_node *leaves[COWMEM_AREA_LEAVES];
	unsigned int i;
	bool shared;
	u8 large = 0;

	area_leaves(region, area_first(index), leaves, &shared);
	for (i = 0; i < COWMEM_AREA_LEAVES; i++)
		large |= leaves[i] ? leaves[i]->large : 0;
	return large ? COWMEM_NODE_SLOTS << (fls(large) - 1) : 1;
}

/**
 * cowmem_area_revoke - nobody is to write the pages of a folio in place any more
 * @region: the region
 * @index: index of one of them, which is granted
 *
 * Nothing maps the area then.
 *
 * Context: may sleep; under region->lock for writing.
 * Return: how many were; 0 if somebody refers to the folio, and its pages still are.
 */
unsigned long cowmem_area_revoke(struct cowmem_region *region, pgoff_t index)
{
	struct cowmem_node *leaves[COWMEM_AREA_LEAVES];
	struct folio *folio = page_folio(cowmem_tree_page(&region->tree, index));
	unsigned long nr = 0;
	unsigned int i;
	bool shared;

	if (unmap_area(region, folio_first(folio, index), folio, 0))
		return 0;
	if (cowmem_leaf_lock(region, index)->rest_of == folio)
		cowmem_rest_drop(cowmem_leaf_lock(region, index));
	home_leaves(region, index, folio, leaves, &shared);
	folio->mapping = NULL;
	for (i = 0; i < folio_leaves(folio); i++) {
		u64 slots = home_slots(leaves[i], i, folio);

		if (!slots)
			continue;
		nr += hweight64(slots & leaves[i]->granted);
		cowmem_leaf_ungrant(leaves[i], slots);
	}
	return nr;
}

/* A page of a folio of @kind, in @leaf, in place of which a small one would do. */
static int first_large(const struct cowmem_node *leaf, u8 kind)
{
	unsigned int i;

	for (i = 0; leaf && (leaf->large & kind) && i < COWMEM_NODE_SLOTS; i++)
		if (leaf->slots[i] && cowmem_page_kind(leaf->slots[i]) == kind)
			return i;
	return -1;
}

/* Do others hold pages of the first folio of @kind in @leaves as well, which has @nr here? */
static bool others_hold(struct cowmem_node *const *leaves, unsigned int nr_leaves, u8 kind,
			unsigned int nr)
{
	unsigned int i;

	for (i = 0; i < nr_leaves; i++) {
		int slot = first_large(leaves[i], kind);

		if (slot >= 0)
			return cowmem_page_holders(leaves[i]->slots[slot]) > nr;
	}
	return false;
}

/* Put a copy in place of the page at @index.  Returns whether that was done. */
static bool make_small(struct cowmem_region *region, pgoff_t index)
{
	struct cowmem_node *leaf;
	struct page *page, *old;

	leaf = cowmem_tree_own(&region->tree, index, true);
	if (IS_ERR(leaf))
		return false;
	old = leaf->slots[cowmem_slot(index)];
	if ((leaf->granted & BIT_ULL(cowmem_slot(index))) && !cowmem_area_revoke(region, index))
		return false;
	page = cowmem_page_alloc(cowmem_region_account(region), false, NULL, true);
	if (IS_ERR(page))
		return false;
	if (cowmem_page_copy(page, old)) {
		cowmem_page_drop(page, false);
		return false;
	}
	cowmem_leaf_set(leaf, index, page);
	cowmem_page_drop(old, false);
	return true;
}

/* How many pages of folios of @kind does @leaf have? */
static unsigned int count_large(const struct cowmem_node *leaf, u8 kind)
{
	unsigned int i, nr = 0;

	if (leaf && leaf->whole)
		return cowmem_page_kind(leaf->slots[0]) == kind ? COWMEM_NODE_SLOTS : 0;
	for (i = 0; leaf && (leaf->large & kind) && i < COWMEM_NODE_SLOTS; i++)
		nr += leaf->slots[i] && cowmem_page_kind(leaf->slots[i]) == kind;
	return nr;
}

/* As cowmem_area_thin(), of folios of one size. */
static void thin(struct cowmem_region *region, pgoff_t index, unsigned int order)
{
	unsigned int i, nr = 0, pages = 1U << order, nr_leaves = pages / COWMEM_NODE_SLOTS;
	struct cowmem_node *leaves[COWMEM_AREA_LEAVES];
	pgoff_t first = round_down(index, pages);
	u8 kind = BIT(order - COWMEM_BLOCK_MIN);
	bool shared;

	some_leaves(region, first, nr_leaves, leaves, &shared);
	for (i = 0; i < nr_leaves && nr < pages / 2; i++)
		nr += count_large(leaves[i], kind);
	if (!nr || nr >= pages / 2)
		return;
	/* To copy few pages gives little back, and takes more while others have them. */
	if (order != COWMEM_AREA_ORDER && others_hold(leaves, nr_leaves, kind, nr))
		return;
	cowmem_unmap(region, first, first + pages, false);
	for (i = 0; i < nr_leaves; i++) {
		pgoff_t base = first + i * COWMEM_NODE_SLOTS;
		int slot;

		while ((slot = first_large(cowmem_tree_leaf(&region->tree, base, NULL),
					   kind)) >= 0) {
			if (!make_small(region, base + slot))
				return;
			cond_resched();
		}
	}
}

/**
 * cowmem_area_thin - a part of an area was dropped
 * @region: the region
 * @index: index in the area
 *
 * Few pages are not to keep the memory of a folio: they are moved to others, if there
 * are any to be had and nobody refers to the folio.
 *
 * Context: may sleep; under region->lock for writing.
 */
void cowmem_area_thin(struct cowmem_region *region, pgoff_t index)
{
	unsigned int order;

	for (order = COWMEM_BLOCK_MIN; order <= COWMEM_BLOCK_MAX; order++)
		thin(region, index, order);
	thin(region, index, COWMEM_AREA_ORDER);
}

/**
 * cowmem_area_folio - the folio that backs an area as a whole
 * @region: the region
 * @leaf: the leaf of @index, or NULL
 * @index: index in the area
 * @granted: only if the region may write all of it
 *
 * Context: any; under region->lock and the leaf lock.
 * Return: the folio, or NULL if the area has other pages, or reaches past the end of the
 * region.
 */
struct folio *cowmem_area_folio(struct cowmem_region *region,
				const struct cowmem_node *leaf, pgoff_t index, bool granted)
{
	struct cowmem_node *leaves[COWMEM_AREA_LEAVES];
	pgoff_t first = area_first(index);
	struct folio *folio;
	bool shared;

	if (!leaf || !leaf->whole || folio_leaves(leaf->whole) != COWMEM_AREA_LEAVES ||
	    first + COWMEM_AREA_PAGES > cowmem_region_end(region))
		return NULL;
	folio = leaf->whole;
	area_leaves(region, first, leaves, &shared);
	if (!is_whole(leaves, folio) || !cowmem_page_mappable(&folio->page))
		return NULL;
	if (granted && !written_whole(region, first))
		return NULL;
	/* What was granted to calls only has a name as well, see grant_area(). */
	return folio;
}

/*
 * Is @index the start of an area that a writer comes to who wrote all of the one before?
 * RESTORE keeps no page of such a folio, so where that was asked for it does not count.
 */
static bool is_stream(const struct cowmem_region *region, pgoff_t index)
{
	return index && !READ_ONCE(region->keeps) && !(index % COWMEM_AREA_PAGES) &&
	       written_whole(region, index - COWMEM_AREA_PAGES);
}

/* Does whoever writes @index ask for memory by areas? */
static bool asked_for(const struct cowmem_region *region, const struct vm_fault *vmf)
{
	return cowmem_region_huge(region) == COWMEM_HUGE_ALWAYS ||
	       (vmf && (vmf->vma->vm_flags & VM_HUGEPAGE));
}

/* May the area of @index be backed by one folio? */
static bool may_be_huge(struct cowmem_region *region, pgoff_t index,
			enum cowmem_writer by, const struct vm_fault *vmf)
{
	pgoff_t first = area_first(index), end = first + COWMEM_AREA_PAGES;

	if (vmf && ((vmf->vma->vm_flags & VM_NOHUGEPAGE) || first < vmf->vma->vm_pgoff ||
		    end > vmf->vma->vm_pgoff + vma_pages(vmf->vma)))
		return false;
	/* Calls may be about to write past the end, and as on tmpfs that is no reason. */
	return end <= cowmem_region_end(region) ||
	       (by != COWMEM_FAULT && cowmem_region_huge(region) == COWMEM_HUGE_ALWAYS);
}

/* As get_folio_to_copy(), under the leaf lock or region->lock for writing. */
static struct folio *folio_to_copy(struct cowmem_region *region, pgoff_t index)
{
	struct cowmem_node *leaf = cowmem_tree_leaf(&region->tree, index, NULL);
	struct folio *folio = cowmem_area_folio(region, leaf, index, false);

	if (!folio || leaf->granted || cowmem_area_exclusive(region, index, &folio->page))
		return NULL;
	return folio;
}

/*
 * The folio that a stream is about to copy: it backs the area of @index as a whole, and
 * cannot be written in place.  With a reference, or NULL.
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

/* Does the area of @index hold nothing? */
static bool is_bare(const struct cowmem_region *region, pgoff_t index)
{
	struct cowmem_node *leaves[COWMEM_AREA_LEAVES];
	bool shared;

	return !cowmem_tree_leaf(&region->tree, index, NULL) &&
	       !area_leaves(region, area_first(index), leaves, &shared);
}

/* As cowmem_huge_wanted(), of the few writes where it takes more to tell. */
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
 * cowmem_huge_wanted - is the page that is about to be written to be one of a folio?
 * @region: the region
 * @index: its index
 * @by: what is going to write it
 * @vmf: the fault that wants it, or NULL
 *
 * Context: any; under region->lock.
 * Return: whether cowmem_make_huge() is to be tried, which may find that it cannot be.
 */
bool cowmem_huge_wanted(struct cowmem_region *region, pgoff_t index,
			enum cowmem_writer by, const struct vm_fault *vmf)
{
	/* Most writes are neither the first of an area nor by who asked for it. */
	if (index % COWMEM_AREA_PAGES && !asked_for(region, vmf))
		return false;
	return huge_wanted(region, index, by, vmf);
}

/* Copy a folio, which nobody writes. */
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

/* Put all of @folio, which the tree takes over, into an empty tree. */
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

/* Put what @fresh holds, all of @folio, into the area at @first.  Under the lock. */
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
	area_leaves(region, first, leaves, &shared);
	grant_area(region, leaves, first, folio);
	return 0;
}

static int install_locked(struct cowmem_region *region, pgoff_t index,
			  enum cowmem_writer by, const struct vm_fault *vmf,
			  struct cowmem_tree *fresh, struct folio *folio, struct folio *old)
{
	int err = down_write_killable(&region->lock);

	if (err)
		return err;
	/* Only if all is still as it was found to be. */
	if (cowmem_huge_wanted(region, index, by, vmf) &&
	    (old ? folio_to_copy(region, index) == old : is_bare(region, index)) &&
	    !(region->seals & COWMEM_SEAL_WRITE))
		err = install(region, area_first(index), fresh, folio, old);
	up_write(&region->lock);
	return err;
}

/**
 * cowmem_make_huge - back an area by one folio
 * @region: the region
 * @index: index in the area, of a page that is about to be written
 * @by: what is going to write it
 * @vmf: the fault that wants it, or NULL
 *
 * Nobody waits while the memory is cleared or copied.  Where it cannot be had, or is not
 * wanted any more, nothing has changed.
 *
 * Context: may sleep; cowmem_huge_wanted(), and region->lock is held for reading, but not
 * afterwards.
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
		err = fill_tree(&fresh, area_first(index), folio);
	if (!err)
		err = install_locked(region, index, by, vmf, &fresh, folio, old);
	cowmem_tree_destroy(&fresh);
put_old:
	if (old)
		folio_put(old);
	return err == -EINTR ? err : 0;
}

/**
 * cowmem_rest_drop - nobody is to get the rest of a block
 * @lock: the leaf lock that may have one
 *
 * Context: any; as for cowmem_leaf_lock.rest_of.
 */
void cowmem_rest_drop(struct cowmem_leaf_lock *lock)
{
	struct folio *folio = lock->rest_of;

	if (!folio)
		return;
	WRITE_ONCE(lock->rest_of, NULL);
	memset(lock->rest, 0, sizeof(lock->rest));
	cowmem_folio_drop(folio, lock->nr_rest);
}

/**
 * cowmem_rests_drop - others may get to hold what a region holds
 * @region: the region
 *
 * Context: any; under region->lock for writing, or nobody else is left.
 */
void cowmem_rests_drop(struct cowmem_region *region)
{
	unsigned int i;

	if (!region->has_rest)
		return;
	for (i = 0; i < COWMEM_LEAF_LOCKS; i++)
		cowmem_rest_drop(&region->leaf_locks[i]);
	region->has_rest = false;
}

/*
 * What @lock has left for the leaf of @index, or NULL if that is certainly nothing.  Where no
 * block is, or none that reaches so far, no bits are set.
 */
static u64 *rest_word(struct cowmem_leaf_lock *lock, pgoff_t index)
{
	unsigned long i = (index - lock->rest_base) / COWMEM_NODE_SLOTS;

	return i < COWMEM_BLOCK_LEAVES ? &lock->rest[i] : NULL;
}

/* Take the page of @index out of the rest, or return NULL. */
static struct page *take_rest(struct cowmem_leaf_lock *lock, pgoff_t index)
{
	u64 bit = BIT_ULL(cowmem_slot(index)), *word = rest_word(lock, index);
	struct page *page;

	if (!word || !(*word & bit))
		return NULL;
	*word &= ~bit;
	page = folio_page(lock->rest_of, index - lock->rest_base);
	if (!--lock->nr_rest)
		WRITE_ONCE(lock->rest_of, NULL);
	return page;
}

static bool leaf_granted(const struct cowmem_region *region, pgoff_t index)
{
	const struct cowmem_node *leaf = cowmem_tree_leaf(&region->tree, index, NULL);

	return leaf && !~READ_ONCE(leaf->granted);
}

/*
 * The order of the block that who writes @index is worth: he has written as much just before.
 * 0 if he is worth none.  As in is_stream(), RESTORE has a say.  What makes the region grow is
 * written by calls, of which nothing is to be unmapped, and may end anywhere.
 */
static unsigned int block_order(const struct cowmem_region *region, pgoff_t index)
{
	pgoff_t end = cowmem_region_end(region), before = 0;
	unsigned int order = 0, next;

	if (cowmem_slot(index) || READ_ONCE(region->keeps))
		return 0;
	for (next = COWMEM_BLOCK_MIN; next <= COWMEM_BLOCK_MAX; next++) {
		pgoff_t pages = 1UL << next;

		if (index % pages || index < pages || index + pages > end)
			break;
		while (before < pages && leaf_granted(region, index - before - 1))
			before += COWMEM_NODE_SLOTS;
		if (before < pages)
			break;
		order = next;
	}
	return order;
}

/* Get a block for what is written from @index on.  Returns whether there is one. */
static bool new_block(struct cowmem_region *region, pgoff_t index)
{
	struct cowmem_leaf_lock *lock = cowmem_leaf_lock(region, index);
	unsigned int order = block_order(region, index);
	struct folio *folio;

	if (!order)
		return false;
	folio = cowmem_block_alloc(cowmem_region_account(region), order);
	if (!folio)
		return false;
	/* Another stream has ended, or there are two of them. */
	cowmem_rest_drop(lock);
	lock->rest_base = index;
	lock->nr_rest = folio_nr_pages(folio);
	memset(lock->rest, 0xff, lock->nr_rest / BITS_PER_BYTE);
	WRITE_ONCE(lock->rest_of, folio);
	WRITE_ONCE(region->has_rest, true);
	return true;
}

/**
 * cowmem_block_page - a page for a slot, of a block for its leaf and perhaps some more
 * @region: the region
 * @index: the index
 * @zero: whether to clear it
 *
 * There is one while pages are written in order, if memory is at hand.
 *
 * Context: may sleep; as for cowmem_leaf_lock.rest_of; no mapping with a memory policy wants
 * it, and COWMEM_HAVE_BLOCKS.
 * Return: the page, with a holder; or NULL.  It goes to cowmem_block_page_set(), is dropped, or
 * goes back.
 */
struct page *cowmem_block_page(struct cowmem_region *region, pgoff_t index, bool zero)
{
	struct cowmem_leaf_lock *lock = cowmem_leaf_lock(region, index);
	struct page *page = take_rest(lock, index);

	if (!page && new_block(region, index))
		page = take_rest(lock, index);
	/* Many kernels clear all that is allocated. */
	if (page && zero && !want_init_on_alloc(0))
		clear_highpage(page);
	return page;
}

/**
 * cowmem_block_page_back - a page from cowmem_block_page() is not needed now
 * @region: the region
 * @index: where it was to go
 * @page: the page, which nobody wrote
 *
 * Context: any; as for cowmem_leaf_lock.rest_of.
 */
void cowmem_block_page_back(struct cowmem_region *region, pgoff_t index, struct page *page)
{
	struct cowmem_leaf_lock *lock = cowmem_leaf_lock(region, index);

	if (lock->rest_of == page_folio(page)) {
		*rest_word(lock, index) |= BIT_ULL(cowmem_slot(index));
		lock->nr_rest++;
	} else {
		cowmem_page_drop(page, false);
	}
}

/* Are all slots of leaves granted, of each leaf for itself? */
static bool all_granted(struct cowmem_node *const *leaves, unsigned int nr)
{
	unsigned int i;

	for (i = 0; i < nr; i++)
		if (~leaves[i]->granted || leaves[i]->fold)
			return false;
	return true;
}

/**
 * cowmem_block_page_set - note that a page from cowmem_block_page() was put into its slot
 * @region: the region
 * @leaf: the leaf
 * @index: the index
 * @page: the page, which is granted
 *
 * Context: any; under region->lock and the leaf lock.
 */
void cowmem_block_page_set(struct cowmem_region *region, struct cowmem_node *leaf,
			   pgoff_t index, struct page *page)
{
	struct cowmem_leaf_lock *lock = cowmem_leaf_lock(region, index);
	struct cowmem_node *leaves[COWMEM_AREA_LEAVES];
	struct folio *folio = page_folio(page);
	bool shared;

	leaf->large |= BIT(folio_order(folio) - COWMEM_BLOCK_MIN);
	if (lock->rest_of == folio && *rest_word(lock, index))
		return;
	/* There are no more for this leaf: was that all? */
	if (~home_slots(leaf, folio_page_idx(folio, page) / COWMEM_NODE_SLOTS, folio))
		return;
	leaf->whole = folio;
	home_leaves(region, index, folio, leaves, &shared);
	if (is_whole(leaves, folio) && all_granted(leaves, folio_leaves(folio)))
		cowmem_leaves_fold(&region->tree, leaves, folio_leaves(folio));
}
