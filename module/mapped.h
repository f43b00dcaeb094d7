/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Where nothing is mapped
 *
 * A writer unmaps what it replaces, unless it knows that nothing maps it.  A reference count
 * does not tell that of a hole, because one zero page stands for all holes of all regions,
 * and it tells little of one page of a folio, because most references to the folio are for
 * its other pages.  So each leaf lock remembers two ranges of its indices: in the one no
 * mapping maps a hole ("bare"), in the other none maps a page that is not granted ("fresh").
 * Folios that a PMD may map do not count for the latter.
 *
 * Unmapping begins a new range, unless it was inside of the old one.  To map anything inside
 * of a range ends that.  All of this is under the leaf lock.
 */
#ifndef _COWMEM_MAPPED_H
#define _COWMEM_MAPPED_H

#include "region.h"

/* Can a PTE map a hole at @index? */
static inline bool cowmem_hole_mapped(struct cowmem_region *region, pgoff_t index)
{
	const struct cowmem_leaf_lock *lock = cowmem_leaf_lock(region, index);

	return index < lock->bare_first || index >= lock->bare_end;
}

/* Can a PTE map a page of a folio at @index that is not granted? */
static inline bool cowmem_fresh_mapped(struct cowmem_region *region, pgoff_t index)
{
	const struct cowmem_leaf_lock *lock = cowmem_leaf_lock(region, index);

	return index < lock->fresh_first || index >= lock->fresh_end;
}

/* All from @first to before @end, which are of one leaf, was unmapped. */
static inline void cowmem_note_unmapped(struct cowmem_region *region, pgoff_t first,
					pgoff_t end)
{
	struct cowmem_leaf_lock *lock = cowmem_leaf_lock(region, first);

	if (first < lock->bare_first || end > lock->bare_end) {
		lock->bare_first = first;
		lock->bare_end = end;
	}
	if (first < lock->fresh_first || end > lock->fresh_end) {
		lock->fresh_first = first;
		lock->fresh_end = end;
	}
}

/* A hole from @first to before @end, which are of one leaf, is about to be mapped. */
static inline void cowmem_note_hole_mapped(struct cowmem_region *region, pgoff_t first,
					   pgoff_t end)
{
	struct cowmem_leaf_lock *lock = cowmem_leaf_lock(region, first);

	if (first < lock->bare_end && end > lock->bare_first)
		lock->bare_end = lock->bare_first;
	WRITE_ONCE(region->holes_mapped, true);
}

/* Likewise, a page that is not granted. */
static inline void cowmem_note_fresh_mapped(struct cowmem_region *region, pgoff_t first,
					    pgoff_t end)
{
	struct cowmem_leaf_lock *lock = cowmem_leaf_lock(region, first);

	if (first < lock->fresh_end && end > lock->fresh_first)
		lock->fresh_end = lock->fresh_first;
}

#endif /* _COWMEM_MAPPED_H */
