// SPDX-License-Identifier: GPL-2.0-only
/*
 * What INFO and fdinfo show
 */
#include <linux/sched/signal.h>
#include <linux/seq_file.h>

#include "area.h"
#include "call.h"
#include "huge.h"
#include "node.h"
#include "page.h"
#include "region.h"
#include "stats.h"
#include "tree-walk.h"
#include "tree.h"

/**
 * struct look - the folio that was looked at last
 * @folio: the folio.
 * @once: whether nobody else holds any page of it.
 */
struct look {
	struct folio *folio;
	bool once;
};

/* How many slots of @leaf point to pages of @folio? */
static long held_here(const struct cowmem_node *leaf, struct folio *folio)
{
	unsigned int i;
	long nr = 0;

	for (i = 0; i < COWMEM_NODE_SLOTS; i++)
		nr += leaf->slots[i] && page_folio((struct page *)leaf->slots[i]) == folio;
	return nr;
}

/* Is this the only holder of the page in a slot of @leaf, whose first index is @base? */
static bool held_once(struct cowmem_region *region, const struct cowmem_node *leaf,
		      pgoff_t base, unsigned int slot, struct look *look)
{
	struct page *page = leaf->slots[slot];

	if (leaf->granted & BIT_ULL(slot))
		return true;
	if (!cowmem_page_large(page))
		return cowmem_page_holders(page) == 1;
	if (look->folio != page_folio(page)) {
		look->folio = page_folio(page);
		/* If its pages are not where they belong, count those in this leaf. */
		look->once = cowmem_area_exclusive(region, base + slot, page) ||
			     cowmem_page_holders(page) == held_here(leaf, page_folio(page));
	}
	return look->once;
}

/* Count the pages in the leaf of @index.  Under region->lock. */
static void count_leaf(struct cowmem_region *region, pgoff_t index,
		       struct cowmem_info *info)
{
	pgoff_t base = index & ~(pgoff_t)COWMEM_NODE_MASK;
	struct look look = { };
	struct cowmem_node *leaf;
	unsigned int i;
	bool shared;

	leaf = cowmem_tree_leaf(&region->tree, index, &shared);
	mutex_lock(&cowmem_leaf_lock(region, index)->lock);
	for (i = 0; i < COWMEM_NODE_SLOTS; i++) {
		if (!leaf->slots[i])
			continue;
		info->pages_populated++;
		if (cowmem_page_huge(leaf->slots[i]))
			info->pages_huge++;
		if (shared || !held_once(region, leaf, base, i, &look))
			info->pages_shared++;
		else
			info->pages_exclusive++;
	}
	mutex_unlock(&cowmem_leaf_lock(region, index)->lock);
}

/* The number of nodes on the path to the leaf of @index that are not on that of @prev. */
static unsigned int new_nodes(const struct cowmem_tree *tree, pgoff_t index,
			      pgoff_t prev, bool first)
{
	unsigned int level, nr = 0;

	for (level = 0; level <= tree->root->level; level++) {
		unsigned int shift = (level + 1) * COWMEM_NODE_SHIFT;

		if (first || (shift < BITS_PER_LONG &&
			      index >> shift != prev >> shift))
			nr++;
	}
	return nr;
}

static u64 region_state(const struct cowmem_region *region)
{
	if (!region->expendable)
		return 0;
	return COWMEM_STATE_EXPENDABLE |
	       (cowmem_region_yielded(region) ? COWMEM_STATE_YIELDED : 0);
}

/*
 * Count leaf by leaf, with region->lock released in between.  Returns -E2BIG if there are
 * more than @nodes nodes to look at.
 */
static int region_info(struct cowmem_region *region, struct cowmem_info *info,
		       unsigned long nodes)
{
	pgoff_t index = 0, prev = 0;

	memset(info, 0, sizeof(*info));
	while (index != ULONG_MAX) {
		unsigned long some = min(nodes, COWMEM_TREE_BUDGET), budget = some;

		if (!nodes)
			return -E2BIG;
		if (fatal_signal_pending(current) ||
		    down_read_killable(&region->lock))
			return -EINTR;
		info->seals = region->seals;
		info->size = cowmem_region_size(region);
		info->clones = atomic64_read(&region->clones);
		info->features = COWMEM_FEATURE_EXPENDABLE |
				 (cowmem_can_huge() ? COWMEM_FEATURE_HUGE : 0) |
				 (COWMEM_HAVE_DIRTY_BITS ? COWMEM_FEATURE_KEEP : 0);
		info->state = region_state(region);
		if (cowmem_tree_next(&region->tree, &index, true, &budget)) {
			count_leaf(region, index, info);
			info->index_bytes += sizeof(struct cowmem_node) *
				new_nodes(&region->tree, index, prev,
					  !info->index_bytes);
			prev = index;
			index = (index | COWMEM_NODE_MASK) + 1;
		}
		up_read(&region->lock);
		nodes -= some - budget;
		cond_resched();
	}
	return 0;
}

/**
 * cowmem_info - COWMEM_IOC_INFO
 * @call: the ioctl
 *
 * Context: may sleep.
 * Return: 0 or a negative errno, see struct cowmem_info.
 */
int cowmem_info(struct cowmem_call *call)
{
	if (call->args.info.flags)
		return -EOPNOTSUPP;
	return region_info(call->region, &call->args.info, ULONG_MAX);
}

/*
 * fdinfo looks at no more nodes than these, which is enough for 16 GiB without holes: its
 * reader may be somebody who has nothing to do with the region.
 */
#define FDINFO_NODES	BIT(18)

/* stat() reads one word of a leaf, so this is enough for 1 TiB. */
#define BLOCKS_NODES	BIT(23)

/**
 * cowmem_show_fdinfo - show in /proc/PID/fdinfo/FD what INFO tells
 * @m: where to print
 * @file: the region's file
 *
 * Context: may sleep.
 */
void cowmem_show_fdinfo(struct seq_file *m, struct file *file)
{
	struct cowmem_region *region = cowmem_file_region(file);
	struct cowmem_info info;
	int err = region_info(region, &info, FDINFO_NODES);

	if (err && err != -E2BIG)
		return;
	seq_printf(m, "cowmem-region:\t%llu\n", (u64)region->inode.i_ino);
	seq_printf(m, "cowmem-size:\t%llu\n", info.size);
	seq_printf(m, "cowmem-seals:\t%#x\n", info.seals);
	seq_printf(m, "cowmem-clones:\t%llu\n", info.clones);
	seq_printf(m, "cowmem-state:\t%#llx\n", info.state);
	if (err)
		return;
	seq_printf(m, "cowmem-pages-populated:\t%llu\n", info.pages_populated);
	seq_printf(m, "cowmem-pages-exclusive:\t%llu\n", info.pages_exclusive);
	seq_printf(m, "cowmem-pages-shared:\t%llu\n", info.pages_shared);
	seq_printf(m, "cowmem-pages-huge:\t%llu\n", info.pages_huge);
	seq_printf(m, "cowmem-index-bytes:\t%llu\n", info.index_bytes);
}

/**
 * cowmem_region_blocks - how much a region holds, for stat()
 * @region: the region
 *
 * Of a very large tree only a part is counted, so that stat() does not take too long.
 *
 * Context: may sleep.
 * Return: the number of blocks of 512 bytes.
 */
u64 cowmem_region_blocks(struct cowmem_region *region)
{
	unsigned long left = BLOCKS_NODES;
	pgoff_t index = 0;
	u64 pages = 0;

	while (index != ULONG_MAX && left) {
		unsigned long some = min(left, COWMEM_TREE_BUDGET), budget = some;

		if (down_read_killable(&region->lock))
			break;
		pages += cowmem_tree_count(&region->tree, &index, ULONG_MAX, &budget);
		up_read(&region->lock);
		left -= some - budget;
		if (fatal_signal_pending(current))
			break;
		cond_resched();
	}
	return pages * (PAGE_SIZE / 512);
}
