// SPDX-License-Identifier: GPL-2.0-only
/*
 * Folios that the core maps by a PMD
 *
 * A folio that fills its area, in order, is mapped by a PMD where a mapping covers the area
 * and has no page table there.  Only the core can make a PMD, so a fault returns the page to
 * it, locked, and the core maps the folio when our locks are no longer held.  Hence whoever
 * unmaps pages of a region first waits for the page locks of folios that were given to the
 * core like that.
 */
#include <linux/mm.h>
#include <linux/pagemap.h>

#include "page.h"
#include "pmd.h"
#include "region.h"

/* If a fault is about to map @folio, wait until it has. */
static void pmd_wait(struct folio *folio)
{
	if (folio_test_locked(folio)) {
		folio_lock(folio);
		folio_unlock(folio);
	}
	/* It was mapped before it was unlocked. */
	smp_acquire__after_ctrl_dep();
}

/**
 * cowmem_pmd_give - lock a folio that a fault is about to give to the core
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
	/* A folio that is not locked was mapped already, or will not be. */
	for (i = 0; i < COWMEM_GIVEN - 1; i++)
		if (!given[i] || given[i] == folio || !folio_test_locked(given[i]))
			break;
	if (given[i])
		pmd_wait(given[i]);
	given[i] = folio;
	folio_lock(folio);
	/* The core derives from ->index where in the file the folio ends. */
	if (!folio->mapping)
		folio->index = cowmem_area_first(index);
}

/**
 * cowmem_pmd_barrier - wait for faults that are about to map areas of a range
 * @region: the region
 * @first: first index
 * @end: index after the last one
 *
 * What the region holds is unmapped before it is dropped or shared, and this comes before
 * it is unmapped.  So each folio in cowmem_leaf_lock.given still exists.
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
