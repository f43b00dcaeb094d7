/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Letting a tree share the pages of a region, as they are at one instant.  See share.c.
 */
#ifndef _COWMEM_SHARE_H
#define _COWMEM_SHARE_H

#include <linux/types.h>

struct cowmem_region;
struct cowmem_tree;

/**
 * struct cowmem_share - pages of a region that are being shared
 * @region: in, the region that has them.
 * @first: in, first index.
 * @end: in, index after the last one, or ULONG_MAX.
 * @tree: in, the tree that gets them.
 * @to: in, the index in @tree that @first goes to.
 * @need: in, the least size that the region must have, in bytes.
 * @patient: in, fail with -EAGAIN if a folio that covers an area is in use.
 * @size: out, the size that it had.
 * @frozen: out, whether nothing in it changes any more.
 * @nr_cut: out, how many of the pages were granted.
 * @nr_copied: out, how many of those were copied instead of shared.
 */
struct cowmem_share {
	struct cowmem_region *region;
	pgoff_t first;
	pgoff_t end;
	struct cowmem_tree *tree;
	pgoff_t to;
	u64 need;
	bool patient;
	u64 size;
	bool frozen;
	unsigned long nr_cut;
	unsigned long nr_copied;
};

int cowmem_share(struct cowmem_share *s);
int cowmem_share_now(struct cowmem_share *s);

#endif /* _COWMEM_SHARE_H */
