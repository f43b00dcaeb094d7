// SPDX-License-Identifier: GPL-2.0-only
/*
 * Holding pages and letting them go
 *
 * A slot that points to a page holds it.  The holders of a page, or of all pages of a
 * folio, are counted in folio->private and have one reference together.  With the last
 * holder that reference goes, and what counted for the page no longer does.
 */
#include <linux/mm.h>

#include "account.h"
#include "hold.h"
#include "limbo.h"
#include "page.h"

/**
 * cowmem_page_hold - count one more slot that points to a page
 * @page: the page
 *
 * Context: any; the caller has a slot that does.
 */
void cowmem_page_hold(struct page *page)
{
	atomic_long_inc(cowmem_holders(page));
}

/**
 * cowmem_folio_hold - count more slots that point to pages of a folio
 * @folio: the folio
 * @nr: how many
 *
 * Context: any; the caller has a slot that does.
 */
void cowmem_folio_hold(struct folio *folio, long nr)
{
	atomic_long_add(nr, cowmem_holders(&folio->page));
}

/**
 * cowmem_pages_hold_slots - count the slots of a leaf that is a copy of another one
 * @slots: the slots of either leaf
 *
 * As cowmem_page_hold() for each page, but quicker for pages of one folio.
 *
 * Context: any.
 */
void cowmem_pages_hold_slots(void *const *slots)
{
	struct folio *folio = NULL;
	unsigned int i;
	long nr = 0;

	for (i = 0; i < COWMEM_NODE_SLOTS; i++) {
		struct folio *next;

		if (!slots[i])
			continue;
		next = page_folio((struct page *)slots[i]);
		if (next != folio && nr) {
			cowmem_folio_hold(folio, nr);
			nr = 0;
		}
		folio = next;
		nr++;
	}
	if (nr)
		cowmem_folio_hold(folio, nr);
}

/*
 * Take the name from a page, unless somebody refers to the page and may need it.  Returns
 * whether the page keeps its name.
 */
static bool keeps_name(struct page *page)
{
	struct folio *folio = page_folio(page);

	if (folio->mapping && cowmem_page_busy(page, 0))
		return true;
	folio->mapping = NULL;
	return false;
}

/* As page_let_go(), for the last holder.  @busy: the page was granted and is in use. */
static noinline bool last_let_go(struct page *page, bool busy)
{
	cowmem_uncharge(*cowmem_page_account_slot(page), cowmem_pages_of(page));
	/* Other pages of the folio may have been granted up to now. */
	if (cowmem_page_large(page))
		busy = keeps_name(page);
	if (busy)
		cowmem_limbo_add(&page_folio(page)->page);
	return !busy;
}

/*
 * @nr slots no longer point to @page, or to pages of its folio, which were unmapped.
 * Returns whether nothing of ours refers to the page or folio any more.
 */
static bool page_let_go(struct page *page, long nr, bool granted)
{
	bool busy = false;

	/* It is granted to one region, so nobody else has a slot for it.  No name if poisoned. */
	if (granted && !cowmem_page_large(page))
		busy = keeps_name(page);
	/*
	 * A full barrier: whoever sees the count fall also sees that our PTEs are gone, and
	 * what they left behind in the reference count.
	 */
	if (!atomic_long_sub_and_test(nr, cowmem_holders(page)))
		return false;
	return last_let_go(page, busy);
}

/**
 * cowmem_page_drop - note that a slot no longer points to a page
 * @page: the page
 * @granted: whether the page was granted to the region
 *
 * Context: any; the region does not map the page any more.
 */
void cowmem_page_drop(struct page *page, bool granted)
{
	if (page_let_go(page, 1, granted))
		cowmem_pages_free(page, cowmem_pages_of(page));
}

/**
 * cowmem_folio_drop - note that some slots no longer point to pages of a large folio
 * @folio: the folio
 * @nr: how many
 *
 * Context: any; the region does not map those pages any more.
 */
void cowmem_folio_drop(struct folio *folio, long nr)
{
	if (page_let_go(&folio->page, nr, false))
		cowmem_pages_free(&folio->page, folio_nr_pages(folio));
}

/* How many slots from @i on, of which @nr are not empty, point to pages of the same folio? */
static unsigned int run_of_folio(void *const *slots, unsigned int i, unsigned int nr)
{
	struct folio *folio = page_folio((struct page *)slots[i]);
	unsigned int run = 1;

	while (run < nr && i + run < COWMEM_NODE_SLOTS && slots[i + run] &&
	       page_folio((struct page *)slots[i + run]) == folio)
		run++;
	return run;
}

/**
 * cowmem_pages_drop_slots - drop the pages in all slots of a leaf
 * @slots: the slots
 * @nr: how many of them point to a page
 * @granted: one bit for each slot, set if the page was granted to the region
 *
 * As cowmem_page_drop() for each page, but quicker: pages that were charged together are
 * counted together.
 *
 * Context: any; the region does not map the pages any more.
 */
void cowmem_pages_drop_slots(void *const *slots, unsigned int nr, u64 granted)
{
	struct page *first = NULL;
	unsigned int i, run, together = 0;

	for (i = 0; nr; i += run) {
		struct page *page = slots[i];

		run = 1;
		if (!page)
			continue;
		if (cowmem_page_large(page))
			run = run_of_folio(slots, i, nr);
		nr -= run;
		if (!page_let_go(page, run, granted & BIT_ULL(i)))
			continue;
		if (cowmem_page_large(page)) {
			cowmem_pages_free(page, cowmem_pages_of(page));
			continue;
		}
		if (first && cowmem_charged_together(first, page)) {
			page_folio(page)->private = NULL;
			put_page(page);
			together++;
			continue;
		}
		if (first)
			cowmem_pages_free(first, together);
		first = page;
		together = 1;
	}
	if (first)
		cowmem_pages_free(first, together);
}
