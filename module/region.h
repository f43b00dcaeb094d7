/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Regions and their locks
 *
 * DOC: Objects
 *
 * A region (struct cowmem_region) is an inode and lives as long as the inode does.  There
 * are two file systems.  One has no names and is for the regions of the device
 * (nameless.c).  The other one is mounted by users (fs.c): its regions have names (dir.c),
 * and their pages are charged to the mount (account.c).
 *
 * A file of a region is either a regular file, with the region as its inode (file.c), or an
 * open file of /dev/cowmem (device.c).  The latter share the inode of the device node, but their
 * f_mapping is that of the region, and f_mapping is what the kernel finds mappings by.
 *
 * A region has a tree of nodes (tree.c), whose leaves hold pages (page.c).  Regions share
 * nodes and pages by reference count.  No region owns them, so any region may go first.
 * All pages of an area or of a leaf may belong to one folio (area.c, block.c).  An area is
 * what a PMD maps: 2 MiB with pages of 4 KiB, 32 MiB with 16 KiB, 512 MiB with 64 KiB.
 *
 * DOC: Locks
 *
 * Outer locks come first:
 *
 *	inode->i_rwsem		serializes write() and whatever sets the size, the seals
 *				or the owner; two inodes are locked in the VFS's order
 *	  mm->mmap_lock		or the lock of one VMA: in faults and in mmap()
 *	    yield_lock		then cowmem_expendables_lock: see yield.c, expendable.c
 *	    region->lock	for reading: faults and I/O; for writing: the shape of the
 *				tree, except new empty leaves, and whatever takes write
 *				access away, such as a clone
 *	      leaf lock		the slots of a leaf in this region, and PTEs that are
 *				about to map what the slots hold
 *	        page lock	also taken around a fault that lets the core map a folio,
 *				and then held with none of our locks: see pmd.c
 *	        i_mmap_rwsem, page table locks
 *	        zero_page_lock (zero.c), the locks of limbos (limbo.c)
 *	        inode->i_lock	growing the size; readers of extended attributes (xattr.c)
 *	        tree->granted_lock
 *
 * Holding region->lock for reading keeps every node that the region reaches in place.
 * Holding a leaf lock as well keeps the pages in the slots of the leaf in place.  Other
 * regions may drop their share meanwhile: a reference count may fall at any time, but it
 * cannot rise if only this region holds the object.
 *
 * A region whose pages others want is locked only until a tree of theirs shares the pages
 * (cowmem_share_now).  What happens to the pages after that happens under their own locks
 * and keeps nobody else waiting.
 *
 * Where two regions have to be locked at once (MERGE, DIFF), the one at the lower address
 * comes first (cowmem_lock_two).  CLONE_MANY uses the same order.
 *
 * User memory is accessed with no lock below i_rwsem held.  The exception is write(), which
 * copies under region->lock with page faults disabled.
 *
 * A write that finds no memory drops all locks below mmap_lock, makes snapshots yield
 * (cowmem_yield), which locks those for writing one by one, and starts over.  Whoever may
 * wait for the lock of such a snapshot takes it with cowmem_lock(), which fails once the
 * snapshot has yielded, because then there is nothing left to find under the lock.
 */
#ifndef _COWMEM_REGION_H
#define _COWMEM_REGION_H

#include <linux/cache.h>
#include <linux/fs.h>
#include <linux/mutex.h>
#include <linux/rbtree.h>
#include <linux/rwsem.h>

/* The UAPI, from uapi/. */
#include <linux/cowmem.h>

#include "compat.h"
#include "expendable.h"
#include "node.h"
#include "page.h"

/*
 * The lock of a leaf depends on its area, because one folio may cover that.  With pages of
 * 64 KiB writers to the same 512 MiB take turns, but each turn is for 16 times as much.
 */
#define COWMEM_LEAF_LOCKS	16

/* This many faults may map areas of one leaf lock without waiting for each other. */
#define COWMEM_GIVEN		4

/* Further seals make no difference to a region that has all of these. */
#define COWMEM_SNAPSHOT_SEALS	(COWMEM_SEAL_SEAL | COWMEM_SEAL_SHRINK | \
				 COWMEM_SEAL_GROW | COWMEM_SEAL_WRITE)
#define COWMEM_ALL_SEALS	(COWMEM_SNAPSHOT_SEALS | COWMEM_SEAL_FUTURE_WRITE)
/* With either of these there is no new write access, and calls do not change content. */
#define COWMEM_WRITE_SEALS	(COWMEM_SEAL_WRITE | COWMEM_SEAL_FUTURE_WRITE)

/**
 * enum cowmem_writer - what is going to write a page
 * @COWMEM_FAULT: a task that has the page mapped by then.  It has to lie inside the region.
 * @COWMEM_CALL: a system call, which has checked the seals.  The page may lie past the end.
 * @COWMEM_CALL_WHOLE: likewise, and the call overwrites all of the page.  The content of a
 *	former hole is undefined, and the page is not PageUptodate, until the call sets that.
 */
enum cowmem_writer {
	COWMEM_FAULT,
	COWMEM_CALL,
	COWMEM_CALL_WHOLE,
};

/**
 * struct cowmem_leaf_lock - see "Locks" above
 * @lock: protects all that follows, but for what is said below.  The indices of a leaf
 *	lock are those of all leaves that it is for.
 * @bare_first: no mapping maps a hole from here
 * @bare_end: to before here, see mapped.h.
 * @fresh_first: no mapping maps a page that is not granted from here
 * @fresh_end: to before here, see mapped.h.
 * @spare: pages for what is likely to be written next (spare.c): the first one, or NULL.
 * @rest_of: a block, some of whose pages are for what is likely to be written next
 *	(block.c), or NULL.
 * @rest: these pages, one bit each; no bit is set if there is no @rest_of.
 * @nr_rest: how many bits of @rest are set.
 * @rest_base: index of the first page of @rest_of.
 * @given: folios of areas that the core may be about to map, see cowmem_pmd_barrier().
 *
 * @rest_of, @rest, @nr_rest, @rest_base and @given are protected by @lock together with
 * region->lock for reading, or by region->lock for writing alone.
 */
struct cowmem_leaf_lock {
	struct mutex lock;
	pgoff_t bare_first;
	pgoff_t bare_end;
	pgoff_t fresh_first;
	pgoff_t fresh_end;
	struct page *spare;
	struct folio *rest_of;
	unsigned int nr_rest;
	pgoff_t rest_base;
	u64 rest[COWMEM_BLOCK_LEAVES];
	struct folio *given[COWMEM_GIVEN];
} ____cacheline_aligned_in_smp;

/**
 * struct cowmem_region - a region
 * @inode: its i_size is the size in bytes.
 * @lock: see "Locks" above.
 * @tree: the pages.  Protected by @lock, the slots of leaves by leaf locks.
 * @seals: COWMEM_SEAL_*.  Protected by @lock; set under i_rwsem as well.
 * @xattrs: extended attributes by name.  Protected by i_lock; changed under i_rwsem as
 *	well.
 * @clones: how often the region was cloned.
 * @born: when it was made.  Constant.
 * @changed: when the content changed last, in jiffies and made odd; 0 if the times of the
 *	inode tell that already.
 * @rounds: how often granted pages were kept since they were last searched for cold ones.
 *	Protected by @lock for writing.
 * @look_after: number of @rounds until the next search.  Protected by @lock for writing.
 * @seen: which pages were written since the last search, see keep.c; or NULL.  This is
 *	one page, which only the limit of the memory cgroup counts.  Protected by @lock for
 *	writing.
 * @nr_cut: number of pages that lost their grants ahead of a coming clone.  Protected by
 *	@lock for writing.
 * @cutting: grants are being taken back ahead of a clone, so a writer should map no more
 *	than it needs.  A hint.
 * @odd_mappings: there was a mapping that is not shared, or that can never be written
 *	although the region could be, or that is executed where that takes more than to write
 *	the code.  Never cleared; set under @lock for writing.
 * @holes_mapped: the zero page may be mapped somewhere.  Never cleared; set under the leaf
 *	lock of the hole.
 * @pmds_mapped: a PMD may map a folio somewhere.  Never cleared; set under the leaf lock
 *	of the area.
 * @keeps: RESTORE was asked to keep pages.  Never cleared.
 * @has_rest: some leaf lock has a @rest_of.  Set under that leaf lock; cleared under @lock
 *	for writing.
 * @huge: enum cowmem_huge, what was asked for this region; see cowmem_region_huge().
 * @expendable: set if this is a snapshot that may yield, otherwise NULL.  Constant once
 *	the region is visible to others.
 * @leaf_locks: see "Locks" above.
 */
struct cowmem_region {
	struct inode inode;
	struct rw_semaphore lock;
	struct cowmem_tree tree;
	unsigned int seals;
	struct rb_root xattrs;
	atomic64_t clones;
	struct timespec64 born;
	unsigned long changed;
	unsigned int rounds;
	unsigned int look_after;
	u64 *seen;
	unsigned long nr_cut;
	bool cutting;
	bool odd_mappings;
	bool holes_mapped;
	bool pmds_mapped;
	bool keeps;
	bool has_rest;
	u8 huge;
	struct cowmem_expendable *expendable;
	struct cowmem_leaf_lock leaf_locks[COWMEM_LEAF_LOCKS];
};

static inline struct cowmem_region *cowmem_region_of(struct inode *inode)
{
	return container_of(inode, struct cowmem_region, inode);
}

/* The account that its pages are charged to; NULL if the region is not of a mount. */
static inline struct cowmem_account *
cowmem_region_account(const struct cowmem_region *region)
{
	return region->inode.i_sb->s_fs_info;
}

static inline struct cowmem_region *cowmem_file_region(const struct file *file)
{
	return file->private_data;
}

/**
 * cowmem_region_size - the size of a region in bytes
 * @region: the region
 *
 * Context: any; unless @region->lock is held for writing, write() may be growing the
 * region, so ask once and use that answer throughout.
 * Return: the size.
 */
static inline loff_t cowmem_region_size(const struct cowmem_region *region)
{
	return i_size_read(&region->inode);
}

/* The first index past the end. */
static inline pgoff_t cowmem_region_end(const struct cowmem_region *region)
{
	return DIV_ROUND_UP_ULL(cowmem_region_size(region), PAGE_SIZE);
}

/**
 * cowmem_region_changed - note that the content of a region changed
 * @region: the region
 *
 * Faults do this often and on many CPUs, so it does little.  cowmem_region_times() does
 * the rest.
 *
 * Context: any.
 */
static inline void cowmem_region_changed(struct cowmem_region *region)
{
	unsigned long now = jiffies | 1;

	if (READ_ONCE(region->changed) != now)
		WRITE_ONCE(region->changed, now);
}

/* Will nothing change as long as region->lock is held, even if only for reading? */
static inline bool cowmem_region_frozen(const struct cowmem_region *region)
{
	return (region->seals & COWMEM_SEAL_WRITE) &&
	       list_empty(&region->tree.granted);
}

/* Is this a snapshot that has yielded?  The answer does not change under region->lock. */
static inline bool cowmem_region_yielded(const struct cowmem_region *region)
{
	return region->expendable && READ_ONCE(region->expendable->yielded);
}

static inline struct cowmem_leaf_lock *
cowmem_leaf_lock(struct cowmem_region *region, pgoff_t index)
{
	unsigned int i = (index >> COWMEM_AREA_ORDER) % COWMEM_LEAF_LOCKS;

	return &region->leaf_locks[i];
}

#endif /* _COWMEM_REGION_H */
