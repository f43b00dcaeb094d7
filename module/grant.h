/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Write access
 *
 * DOC: How write access is granted and taken away
 *
 * A page may be written through a region only while its bit in "granted" of its leaf is
 * set; then no other region holds the page.  Only grant.c sets it, by area.c for pages of
 * folios.  A writer keeps region->lock for reading from the grant until write() has written
 * the page, or until a fault has put a writable PTE in place.
 *
 * A granted page gets its bit in "named" before it is mapped.  Pages without it were only
 * written by system calls, so nobody has a PTE or a reference to write them through.
 *
 * To take write access away, or to drop pages, lock the region for writing, so that no
 * grant is in progress, and unmap the pages.  From then on a writer blocks in the fault
 * handler.  That makes a clone a consistent cut: a write that follows one that had to wait
 * is too late for the clone as well.  To keep the wait short, a clone first takes most
 * grants back a few at a time, with writers let in between.  They may be granted those
 * pages again, as nobody else has them.
 *
 * Write-protecting the PTEs would take half the time of unmapping them.  But the function
 * that the kernel exports for it (wp_shared_mapping_range) stops at the first private
 * mapping, and mprotect() makes a dirty read-only PTE writable without asking, at any time
 * before another helper has cleaned it.  A PTE that is gone has neither problem, and leaves
 * a reference count that says exactly who else has the page.  Nor would it pay: the next
 * write has to remove the PTE anyway, so a clone with all that follows takes 6 to 31 %
 * longer (measured on 6.1).
 */
#ifndef _COWMEM_GRANT_H
#define _COWMEM_GRANT_H

#include <linux/types.h>

#include "region.h"

struct page *cowmem_begin_write(struct cowmem_region *region, pgoff_t index,
				enum cowmem_writer by, struct vm_fault *vmf,
				struct cowmem_node **leafp);
void cowmem_end_write(struct cowmem_region *region, pgoff_t index);
struct page *cowmem_grant_page(struct cowmem_region *region, pgoff_t index);
bool cowmem_may_grant(const struct cowmem_node *leaf, pgoff_t index);
unsigned int cowmem_grant_ahead(struct cowmem_region *region,
				struct cowmem_node *leaf, pgoff_t index,
				pgoff_t end, struct page **pages);

/*
 * The granted @page is about to be mapped.  Until now only calls wrote it, and none of them
 * keeps a reference to write it later, so nothing but the grant has to be taken back.
 */
static inline void cowmem_name_page(struct cowmem_region *region, struct cowmem_node *leaf,
				    pgoff_t index, struct page *page)
{
	struct folio *folio = page_folio(page);

	folio->mapping = region->inode.i_mapping;
	folio->index = index - folio_page_idx(folio, page);
	leaf->named |= BIT_ULL(cowmem_slot(index));
}

/*
 * Does a granted page have its name?  A page of a folio may have lost it together with
 * another one.
 */
static inline bool cowmem_has_name(const struct cowmem_node *leaf, unsigned int slot)
{
	return (leaf->named & BIT_ULL(slot)) &&
	       (!leaf->large || page_folio((struct page *)leaf->slots[slot])->mapping);
}

#endif /* _COWMEM_GRANT_H */
