/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * cowmem - memory regions that can be cloned live
 *
 * DOC: Objects
 *
 * A region (struct cowmem_region) is an inode and lives as long as that does.  There
 * are two file systems (fs.c): one without names, for the regions of the device, and one
 * that users mount, where regions have names (dir.c) and their pages count (account.c).
 * A file of a region is either a regular file, whose inode it is, or one that
 * /dev/cowmem was opened for (file.c).  The latter share the inode of the device node,
 * but their f_mapping is the region's, and f_mapping is what mappings are found by.
 *
 * A region holds a tree of nodes (tree.c), whose leaves hold pages (page.c).
 * Nodes and pages are shared between regions by reference count and belong to
 * nobody: any region may go first.  All pages of an area, or of a leaf, may be of one folio
 * (huge.c).  An area is what a PMD maps: 2 MiB with pages of 4 KiB, 32 MiB with 16, 512 MiB
 * with 64.
 *
 * DOC: Locks
 *
 *	inode->i_rwsem		write(), and whatever sets the size, the seals or the
 *				owner, one at a time; of two inodes as the VFS does it
 *	  mm->mmap_lock		(or the lock of one VMA) in faults and mmap()
 *	    yield_lock, then list_lock of yield.c
 *	    region->lock	read: faults and I/O; write: the tree's shape, but
 *				for leaves that are new and empty, and whatever
 *				takes write access away (clone)
 *	      leaf lock		the slots of a leaf in this region, and PTEs
 *				that are about to map what the slots hold
 *	        page locks; while the core maps a folio that a fault gave to it, that
 *				holds the folio's with no lock of ours (huge.c)
 *	        i_mmap_rwsem, page table locks
 *	        zero_page_lock, the locks of limbos: page.c
 *	        inode->i_lock	growing the size; extended attributes, for whoever looks
 *				at them (xattr.c)
 *	        tree->granted_lock
 *
 * A region that others get pages from is locked only until a tree of theirs shares the
 * pages (cowmem_share_now); what they do with them then, under their own locks, keeps
 * nobody else waiting.  Who needs region->lock of two regions nonetheless (MERGE, DIFF)
 * takes that at the lower address first (cowmem_lock_two).  CLONE_MANY takes them in the
 * same order.  User memory is touched with no lock below i_rwsem held, except that
 * write() copies under region->lock with page faults disabled.
 *
 * A write that finds no memory lets go of all locks below mmap_lock, takes memory of
 * snapshots back (cowmem_yield), for which those are locked for writing one by one, and
 * starts anew.  Who waits for a lock of a region that may be such a snapshot does so by
 * cowmem_lock(), which fails once it has yielded: then there is nothing to be had under
 * the lock.
 *
 * Holding region->lock for reading keeps every node that the region reaches in
 * place.  Holding a leaf lock as well keeps the pages in the leaf's slots in
 * place.  Other regions may drop their share meanwhile, so a reference count
 * may fall at any time, but none that only this region holds can rise.
 *
 * DOC: How write access is granted and taken away
 *
 * A page may be written through a region only while its leaf has the bit in
 * "granted" set; then no other region holds the page.  grant.c is the one place that
 * sets it.  Whoever asked keeps region->lock, for reading, until the
 * write has happened (write()) or a writable PTE is in place (a fault).  Before a granted
 * page is mapped it gets its bit in "named"; of those that have none, which only calls
 * wrote, nobody can have a PTE or a reference to write by.
 *
 * Who wants to take write access away or to drop pages locks the region for
 * writing, so no grant is under way, and unmaps the pages in question.  From then
 * on a writer blocks in the fault handler.  That makes a clone a consistent cut: a
 * write that follows another one that had to wait is itself too late for the
 * clone.  To keep that wait short, a clone takes most grants away before, a few at a
 * time, and the pages, which nobody else has, may be granted again.
 *
 * Write-protecting the PTEs would take half the time of unmapping them, but what the
 * kernel exports for it (wp_shared_mapping_range) stops at the first private
 * mapping, and mprotect() makes a dirty read-only PTE writable without asking,
 * at any time before another helper has cleaned it.  A PTE that is gone has
 * neither problem, and leaves a reference count that says exactly who else has the
 * page.  Nor would it pay: the next write has to remove the PTE by itself, so with all
 * that follows a clone takes 6 to 31 % longer (tried on 6.1).
 */
#ifndef _COWMEM_H
#define _COWMEM_H

#include <linux/cache.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/rbtree.h>
#include <linux/rwsem.h>
#include <linux/wait.h>

/* The UAPI, from uapi/. */
#include <linux/cowmem.h>

#include "compat.h"
#include "tree.h"

/*
 * A leaf's lock is chosen by its area, as one folio may cover that.  So with pages of 64 KiB
 * those who write to the same 512 MiB take turns; but each turn is for 16 times as much.
 */
#define COWMEM_LEAF_LOCKS	16

/* So many faults may map areas of one leaf lock at once without waiting for each other. */
#define COWMEM_GIVEN		4

/* An area of a region may be one folio, which a PMD maps. */
#define COWMEM_AREA_ORDER	((unsigned int)(PMD_SHIFT - PAGE_SHIFT))
#define COWMEM_AREA_PAGES	BIT(COWMEM_AREA_ORDER)
#define COWMEM_AREA_LEAVES	(COWMEM_AREA_PAGES / COWMEM_NODE_SLOTS)

/* A leaf, or two or four, may be one folio as well, whose pages are mapped each for itself. */
#define COWMEM_BLOCK_MIN	((unsigned int)COWMEM_NODE_SHIFT)
#define COWMEM_BLOCK_MAX	(COWMEM_BLOCK_MIN + 2)
#define COWMEM_BLOCK_LEAVES	BIT(COWMEM_BLOCK_MAX - COWMEM_BLOCK_MIN)

/* An area is larger than any block, and cowmem_node.large has a bit for it. */
static_assert(COWMEM_AREA_ORDER > COWMEM_BLOCK_MAX &&
	      COWMEM_AREA_ORDER - COWMEM_BLOCK_MIN <
	      BITS_PER_BYTE * sizeof_field(struct cowmem_node, large));

/* After these a seal more makes no difference. */
#define COWMEM_SNAPSHOT_SEALS	(COWMEM_SEAL_SEAL | COWMEM_SEAL_SHRINK | \
				 COWMEM_SEAL_GROW | COWMEM_SEAL_WRITE)
#define COWMEM_ALL_SEALS	(COWMEM_SNAPSHOT_SEALS | COWMEM_SEAL_FUTURE_WRITE)
/* With either of these nobody is given write access any more, nor is content changed by calls. */
#define COWMEM_WRITE_SEALS	(COWMEM_SEAL_WRITE | COWMEM_SEAL_FUTURE_WRITE)

/**
 * enum cowmem_huge - when an area that holds nothing gets one folio
 * @COWMEM_HUGE_NEVER: never.
 * @COWMEM_HUGE_ADVISE: when it is written by who advised so (madvise()), or by who wrote all
 *	of the area before it.
 * @COWMEM_HUGE_ALWAYS: when it is written.
 */
enum cowmem_huge {
	COWMEM_HUGE_NEVER,
	COWMEM_HUGE_ADVISE,
	COWMEM_HUGE_ALWAYS,
};

/**
 * struct cowmem_leaf_lock - see "Locks" above
 * @lock: the lock.
 * @bare_first: of the indices that @lock is for, no mapping maps a hole from here
 * @bare_end: to before this one. Both are protected by @lock.
 * @fresh_first: of the indices that @lock is for, no mapping maps a page that is not granted
 *	from here
 * @fresh_end: to before this one. Likewise; folios that a PMD may map do not count.
 * @spare: pages for what is likely to be written next, see page.c; the first one, or NULL.
 *	Protected by @lock.
 * @rest_of: a folio for some leaves, some of whose pages are for what is likely to be
 *	written next, or NULL
 * @rest: which of them, one bit each; nothing if there is no @rest_of
 * @nr_rest: how many
 * @rest_base: index of the first page of the folio. These are protected as @given is.
 * @given: folios of areas that @lock is for, which the core may be about to map, see
 *	cowmem_pmd_barrier(). Protected by @lock, or region->lock for writing.
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
 * @tree: the pages. Protected by @lock; slots by leaf locks.
 * @seals: COWMEM_SEAL_*. Protected by @lock, set under i_rwsem as well.
 * @xattrs: extended attributes by name. Protected by i_lock, changed under i_rwsem as
 *	well.
 * @clones: how often the region was cloned.
 * @born: when it was made. Constant.
 * @changed: when what it holds changed last, in jiffies and odd, or 0 if the inode's
 *	times tell.
 * @rounds: how often granted pages were kept since they were last looked
 *	through for cold ones. Protected by @lock, for writing.
 * @look_after: how many rounds it takes to the next look. Likewise.
 * @seen: which pages were written since then, see restore.c, or NULL.  Likewise.  A page
 *	that no limit but the memory cgroup's counts.
 * @cutting: grants are being taken back ahead of a clone: who is granted more is not to map
 *	more than it takes. A hint.
 * @nr_cut: how many pages lost their grants ahead of a clone that is to come.
 *	Protected by @lock, for writing.
 * @odd_mappings: some mapping was made that is not shared or can never be
 *	written, while the region could be. Only ever set; under @lock for writing.
 * @holes_mapped: the zero page may be mapped somewhere. Only ever set; under
 *	the leaf lock of the hole.
 * @keeps: RESTORE was asked to keep pages. Only ever set.
 * @has_rest: some leaf lock has the rest of a folio. Set under that; cleared under @lock, for
 *	writing.
 * @huge: enum cowmem_huge, what was said for this region: see cowmem_region_huge().
 * @pmds_mapped: a folio may be mapped by a PMD somewhere. Only ever set; under the leaf
 *	lock of its area.
 * @expendable: what makes it a snapshot that yields, or NULL. Set before others have it.
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

/* The argument of an ioctl in kernel memory. */
union cowmem_args {
	struct cowmem_info info;
	struct cowmem_resize resize;
	struct cowmem_seal seal;
	struct cowmem_clone clone;
	struct cowmem_discard discard;
	struct cowmem_restore restore;
	struct cowmem_diff diff;
	struct cowmem_copy copy;
	struct cowmem_clone_many clone_many;
	struct cowmem_merge merge;
	struct cowmem_file file;
};

/**
 * struct cowmem_call - one ioctl under way
 * @file: the region's file that it was called on.
 * @region: the region.
 * @args: in and out.
 * @new_fd: a descriptor that becomes the caller's if all went well, or -1.
 * @new_file: what it will refer to.
 * @cloned: whether that is a clone.
 * @huge: whether the region is to get memory by areas from then on.
 */
struct cowmem_call {
	struct file *file;
	struct cowmem_region *region;
	union cowmem_args args;
	int new_fd;
	struct file *new_file;
	bool cloned;
	bool huge;
};

/* account.c */

/**
 * struct cowmem_account - what the files of one mount hold
 * @pages: how many pages count in it, and one more as long as it is mounted.
 * @max_pages: the most that may, 0 is no limit. Set under s_umount.
 * @nodes: how many index nodes count in it, and one more as long as @pages is not 0.
 * @space: what inodes, names of inodes after the first, and extended attributes count,
 *	in bytes; the first two COWMEM_INODE_SPACE each.
 * @max_inodes: the most inodes that may be, if they had no attributes. Likewise.
 * @huge: enum cowmem_huge. Likewise.
 * @last_ino: the number that an inode got last.
 */
struct cowmem_account {
	atomic_long_t pages;
	unsigned long max_pages;
	atomic_long_t nodes;
	atomic_long_t space;
	unsigned long max_inodes;
	u8 huge;
	atomic_long_t last_ino;
};

/* What an inode counts, on tmpfs as well. */
#define COWMEM_INODE_SPACE	1024

struct cowmem_account *cowmem_account_create(unsigned long max_pages,
					     unsigned long max_inodes);
void cowmem_account_close(struct cowmem_account *account);
bool cowmem_charge(struct cowmem_account *account, unsigned long nr);
void cowmem_uncharge(struct cowmem_account *account, unsigned long nr);
long cowmem_account_short(const struct cowmem_account *account);
bool cowmem_charge_node(struct cowmem_account *account);
void cowmem_uncharge_node(struct cowmem_account *account);
bool cowmem_charge_inode(struct cowmem_account *account);
void cowmem_uncharge_inode(struct cowmem_account *account);
bool cowmem_charge_space(struct cowmem_account *account, size_t bytes);
void cowmem_uncharge_space(struct cowmem_account *account, size_t bytes);
unsigned long cowmem_account_pages(const struct cowmem_account *account);
unsigned long cowmem_account_inodes(const struct cowmem_account *account);
int cowmem_join(struct cowmem_region *region, const struct cowmem_region *from,
		const struct cowmem_tree *tree);

/* page.c */
extern struct page *cowmem_current_zero_page;

int cowmem_pages_init(void);
void cowmem_pages_exit(void);
long cowmem_limit_short(void);
struct page *cowmem_page_alloc(struct cowmem_account *account, bool zero,
			       const struct vm_fault *vmf, bool gently);
struct folio *cowmem_huge_alloc(struct cowmem_account *account, bool zero,
				const struct vm_fault *vmf);
struct folio *cowmem_block_alloc(struct cowmem_account *account, unsigned int order);
struct page *cowmem_page_take(struct page **spare, struct cowmem_account *account,
			      bool zero);
void cowmem_page_set_aside(struct page *page, struct page **spare);
struct cowmem_account *cowmem_page_account(struct page *page);
int cowmem_page_join(struct page *page, struct cowmem_account *account);
void cowmem_pages_ahead(struct page **spare, unsigned int order);
void cowmem_pages_drop(struct page **spare);
void cowmem_page_unname(struct page *page);
void cowmem_pages_forget(struct address_space *mapping);
int cowmem_page_copy(struct page *to, struct page *from);
bool cowmem_pages_equal(struct page *x, struct page *y);
struct page *cowmem_replace_zero_page(void);

/**
 * cowmem_zero_page - what a hole reads as
 *
 * The kernel's own ZERO_PAGE cannot be inserted into a writable shared mapping.
 * Once the page has been poisoned there is another one, so only its slot tells
 * whether an index is a hole.
 *
 * Context: may sleep.
 * Return: a page of zeroes that lives as long as the module.
 */
static inline struct page *cowmem_zero_page(void)
{
	struct page *page = READ_ONCE(cowmem_current_zero_page);

	return likely(!PageHWPoison(page)) ? page : cowmem_replace_zero_page();
}

/* The count of those who hold a page, or any of its folio, see page.c. */
static inline atomic_long_t *cowmem_holders(struct page *page)
{
	BUILD_BUG_ON(sizeof(page_folio(page)->private) != sizeof(atomic_long_t));
	return (atomic_long_t *)&page_folio(page)->private;
}

/**
 * cowmem_page_holders - how many slots point to a page, or to pages of its folio
 * @page: the page
 *
 * Context: any; the caller has a slot that does.  If the answer is 1, it stays
 * so, and all that former holders did to the page is visible.
 * Return: the number, at least 1.
 */
static inline long cowmem_page_holders(struct page *page)
{
	return atomic_long_read_acquire(cowmem_holders(page));
}

/* Is it one of a folio that covers an area, or some leaves? */
static inline bool cowmem_page_large(struct page *page)
{
	return folio_test_large(page_folio(page));
}

/* Is it one of a folio that covers an area? */
static inline bool cowmem_page_huge(struct page *page)
{
	return folio_order(page_folio(page)) == COWMEM_AREA_ORDER;
}

/* What cowmem_node.large has to tell of a leaf that gets @page. */
static inline u8 cowmem_page_kind(struct page *page)
{
	unsigned int order = folio_order(page_folio(page));

	return order ? BIT(order - COWMEM_BLOCK_MIN) : 0;
}

/* A page that cannot be read is an I/O error to who made the call. */
static inline int cowmem_user_error(int err)
{
	return err == -EHWPOISON ? -EIO : err;
}

/**
 * cowmem_page_busy - does something but its slot and the caller refer to a page?
 * @page: the page
 * @mine: how many references the caller has
 *
 * That is get_user_pages() in all its forms: I/O in flight, a futex operation
 * under way, a pipe; or somebody who is just about to let go of it.
 *
 * Context: any; @page has one holder and was unmapped under region->lock for
 * writing or the leaf lock, so that only who has a reference can take more.
 * Return: whether there is any other reference.
 */
static inline bool cowmem_page_busy(struct page *page, int mine)
{
	/*
	 * GUP-fast takes a reference and then looks whether the PTE is still
	 * there; we removed the PTE and now look for references.
	 */
	smp_mb();
	return folio_ref_count(page_folio(page)) != 1 + mine;
}

/**
 * cowmem_page_mappable - may a page be mapped once more?
 * @page: the page
 *
 * PTEs cost eight bytes each, so with enough memory a hostile user could make
 * the reference count of a page wrap around.
 *
 * Context: any.
 * Return: false if the page has an absurd number of references already.
 */
static inline bool cowmem_page_mappable(struct page *page)
{
	int refs = folio_ref_count(page_folio(page));

	return refs > 0 && refs < INT_MAX / 2;
}

/* region.c */
int cowmem_regions_init(void);
void cowmem_regions_exit(void);
struct inode *cowmem_alloc_inode(struct super_block *sb);
void cowmem_free_inode(struct inode *inode);
void cowmem_evict_inode(struct inode *inode);
struct inode *cowmem_new_inode(struct super_block *sb);
void cowmem_region_init(struct inode *inode);
struct cowmem_region *cowmem_region_create(struct super_block *sb,
					   struct mnt_idmap *idmap, umode_t mode);
int cowmem_lock(struct cowmem_region *region, bool write);
void cowmem_unlock(struct cowmem_region *region, bool write);
int cowmem_lock_two(struct cowmem_region *a, struct cowmem_region *b, bool write);
void cowmem_unlock_two(struct cowmem_region *a, struct cowmem_region *b, bool write);
void cowmem_region_grow(struct cowmem_region *region, loff_t size);
int cowmem_region_resize(struct cowmem_region *region, loff_t size);
int cowmem_region_discard(struct cowmem_region *region, u64 from, u64 to,
			  bool inside);
void cowmem_region_idle(struct cowmem_region *region);
void cowmem_region_times(struct cowmem_region *region);
int cowmem_resize(struct cowmem_call *call);
int cowmem_seal(struct cowmem_call *call);
int cowmem_discard(struct cowmem_call *call);

static inline struct cowmem_region *cowmem_region_of(struct inode *inode)
{
	return container_of(inode, struct cowmem_region, inode);
}

/* What its pages count in; NULL if it is not of a mount. */
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
 * Context: any; unless @region->lock is held for writing, write() may be growing
 * the region, so ask once and stay with the answer.
 * Return: the size.
 */
static inline loff_t cowmem_region_size(const struct cowmem_region *region)
{
	return i_size_read(&region->inode);
}

/**
 * cowmem_region_changed - note that what a region holds changed
 * @region: the region
 *
 * Faults come by often, and from many CPUs, so what they do is little: see
 * cowmem_region_times().
 *
 * Context: any.
 */
static inline void cowmem_region_changed(struct cowmem_region *region)
{
	unsigned long now = jiffies | 1;

	if (READ_ONCE(region->changed) != now)
		WRITE_ONCE(region->changed, now);
}

/* The first index past the end. */
static inline pgoff_t cowmem_region_end(const struct cowmem_region *region)
{
	return DIV_ROUND_UP_ULL(cowmem_region_size(region), PAGE_SIZE);
}

/* Does nothing change as long as region->lock is held, be it for reading? */
static inline bool cowmem_region_frozen(const struct cowmem_region *region)
{
	return (region->seals & COWMEM_SEAL_WRITE) &&
	       list_empty(&region->tree.granted);
}

static inline struct cowmem_leaf_lock *
cowmem_leaf_lock(struct cowmem_region *region, pgoff_t index)
{
	unsigned int i = (index >> COWMEM_AREA_ORDER) % COWMEM_LEAF_LOCKS;

	return &region->leaf_locks[i];
}

/* map.c */

/* Unmap at most this much before looking for a fatal signal. */
#define COWMEM_UNMAP_BATCH	16384

void cowmem_use_page_table(struct vm_fault *vmf);
int cowmem_map_readonly(struct vm_area_struct *vma, pgoff_t index,
			struct page **pages, unsigned long nr);
int cowmem_map_writable(struct vm_area_struct *vma, pgoff_t index,
			struct page **pages, unsigned long nr);
void cowmem_unmap(struct cowmem_region *region, pgoff_t first, pgoff_t end,
		  bool even_cows);
void cowmem_unmap_here(struct vm_area_struct *vma, pgoff_t first, pgoff_t end);
int cowmem_unmap_difference(struct cowmem_region *region,
			    const struct cowmem_tree *tree, pgoff_t first,
			    pgoff_t end, u64 *pages, u64 *nodes);

/* yield.c */

/**
 * struct cowmem_expendable - what makes a region a snapshot that yields
 * @region: the region.
 * @link: in the list of all that may yield, the oldest first; empty before and after.
 *	Protected by list_lock and list_spinlock.
 * @chosen: it is to yield. Protected by list_lock, set under yield_lock as well.
 * @yielded: it has. Set under region->lock, for writing.
 * @wait: who waits for that in poll().
 */
struct cowmem_expendable {
	struct cowmem_region *region;
	struct list_head link;
	bool chosen;
	bool yielded;
	wait_queue_head_t wait;
};

int cowmem_expendable_create(struct file *file);
void cowmem_expendable_publish(struct cowmem_region *region);
void cowmem_expendable_destroy(struct cowmem_region *region);
bool cowmem_may_yield(void);
bool cowmem_near_limit(unsigned long pages);
bool cowmem_reserve_left(void);
bool cowmem_yield(struct cowmem_region *region, pgoff_t index, int err);
__poll_t cowmem_poll(struct file *file, struct poll_table_struct *table);

/* Is it a snapshot whose memory was taken back?  Under region->lock it stays so. */
static inline bool cowmem_region_yielded(const struct cowmem_region *region)
{
	return region->expendable && READ_ONCE(region->expendable->yielded);
}

/* grant.c */

/**
 * struct cowmem_share - pages of a region that are being shared
 * @region: in, the region that has them.
 * @first: in, first index.
 * @end: in, index after the last one, or ULONG_MAX.
 * @tree: in, the tree that gets them.
 * @to: in, where @first goes there.
 * @need: in, how large the region has to be, in bytes.
 * @patient: in, fail with -EAGAIN if a folio that covers an area is in use.
 * @size: out, how large it was.
 * @frozen: out, whether nothing changes in it any more.
 * @nr_cut: out, how many of the pages were granted.
 * @nr_copied: out, how many of those were copied instead.
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

/**
 * enum cowmem_writer - what a page is going to be written by
 * @COWMEM_FAULT: who has it mapped then.  It has to lie inside the region.
 * @COWMEM_CALL: a call, which has looked at the seals.  It may lie past the end.
 * @COWMEM_CALL_WHOLE: likewise, and the call writes all of the page.  If it was a hole it
 *	holds anything, and is not PageUptodate, until the call sets that.
 */
enum cowmem_writer {
	COWMEM_FAULT,
	COWMEM_CALL,
	COWMEM_CALL_WHOLE,
};

struct page *cowmem_begin_write(struct cowmem_region *region, pgoff_t index,
				enum cowmem_writer by, struct vm_fault *vmf,
				struct cowmem_node **leafp);
void cowmem_end_write(struct cowmem_region *region, pgoff_t index);
struct page *cowmem_grant_leaf(struct cowmem_region *region,
			       struct cowmem_node *leaf, pgoff_t index);
bool cowmem_may_grant(const struct cowmem_node *leaf, pgoff_t index);
unsigned int cowmem_grant_ahead(struct cowmem_region *region,
				struct cowmem_node *leaf, pgoff_t index,
				pgoff_t end, struct page **pages);
int cowmem_pages_to_map(struct cowmem_region *region, struct cowmem_node *leaf,
			pgoff_t index, unsigned int nr, struct page **pages);
struct page *cowmem_peek(struct cowmem_region *region, pgoff_t index);
int cowmem_lock_to_share(struct cowmem_region *region, bool whole, bool *write);
int cowmem_cut(struct cowmem_region *region, pgoff_t first, pgoff_t end);
int cowmem_share(struct cowmem_share *s);
int cowmem_share_now(struct cowmem_share *s);

/* huge.c */
extern const char *const cowmem_huge_names[COWMEM_HUGE_ALWAYS + 1];

enum cowmem_huge cowmem_huge_default(void);
enum cowmem_huge cowmem_region_huge(const struct cowmem_region *region);
void cowmem_want_huge(struct cowmem_region *region);
bool cowmem_can_huge(void);
bool cowmem_huge_wanted(struct cowmem_region *region, pgoff_t index,
			enum cowmem_writer by, const struct vm_fault *vmf);
int cowmem_make_huge(struct cowmem_region *region, pgoff_t index,
		     enum cowmem_writer by, const struct vm_fault *vmf);
bool cowmem_area_reuse(struct cowmem_region *region, pgoff_t index, struct page *page,
		       int mine);
unsigned long cowmem_area_revoke(struct cowmem_region *region, pgoff_t index);
bool cowmem_area_exclusive(struct cowmem_region *region, pgoff_t index, struct page *page);
unsigned int cowmem_large_pages(const struct cowmem_region *region, pgoff_t index);
void cowmem_area_thin(struct cowmem_region *region, pgoff_t index);
struct folio *cowmem_area_folio(struct cowmem_region *region,
				const struct cowmem_node *leaf, pgoff_t index, bool granted);
unsigned long cowmem_area_held(struct cowmem_region *region, pgoff_t index,
			       struct page *page);
bool cowmem_folio_broken(struct folio *folio);
struct page *cowmem_block_page(struct cowmem_region *region, pgoff_t index, bool zero);
void cowmem_block_page_back(struct cowmem_region *region, pgoff_t index, struct page *page);
void cowmem_block_page_set(struct cowmem_region *region, struct cowmem_node *leaf,
			   pgoff_t index, struct page *page);
void cowmem_rest_drop(struct cowmem_leaf_lock *lock);
void cowmem_rests_drop(struct cowmem_region *region);
void cowmem_pmd_give(struct cowmem_region *region, pgoff_t index, struct folio *folio);
void cowmem_pmd_barrier(struct cowmem_region *region, pgoff_t first, pgoff_t end);

/* fault.c */
int cowmem_mmap(struct file *file, struct vm_area_struct *vma);

/* fs.c */
int cowmem_fs_init(void);
void cowmem_fs_exit(void);
struct vfsmount *cowmem_fs_pin(void);
void cowmem_fs_unpin(void);

/* dir.c */
struct inode *cowmem_dir_root(struct super_block *sb, umode_t mode);

/* xattr.c */
struct xattr;

void cowmem_xattr_init(struct super_block *sb);
void cowmem_xattrs_free(struct inode *inode);
int cowmem_initxattrs(struct inode *inode, const struct xattr *attrs, void *unused);
ssize_t cowmem_listxattr(struct dentry *dentry, char *buffer, size_t size);
#ifdef CONFIG_FS_POSIX_ACL
int cowmem_set_acl(struct mnt_idmap *idmap, cowmem_acl_target_t *of,
		   struct posix_acl *acl, int type);
int cowmem_acl_create(struct inode *dir, struct inode *inode);
void cowmem_acls_free(struct inode *inode);
#else
#define cowmem_set_acl NULL
static inline int cowmem_acl_create(struct inode *dir, struct inode *inode)
{
	return 0;
}

static inline void cowmem_acls_free(struct inode *inode)
{
}
#endif

/* file.c */
extern const struct file_operations cowmem_fops;
extern const struct file_operations cowmem_file_fops;
extern const struct file_operations cowmem_expendable_fops;
extern const struct inode_operations cowmem_inode_ops;
extern const struct inode_operations cowmem_mount_inode_ops;
extern const struct dentry_operations cowmem_dentry_ops;

struct file *cowmem_clone_file(struct file *of, int flags);
struct file *cowmem_region_fget(int fd, fmode_t mode);
bool cowmem_mmap_grows(const struct file *file);
void cowmem_accessed(struct file *file);
int cowmem_remove_privs(struct file *file);
int cowmem_remove_privs_now(struct file *file);
int cowmem_setattr(struct mnt_idmap *idmap, struct dentry *dentry,
		   struct iattr *attr);
int cowmem_getattr(struct mnt_idmap *idmap, const struct path *path,
		   struct kstat *stat, u32 mask, unsigned int flags);
int cowmem_file(struct cowmem_call *call);

/* Nobody opens this dentry for writing (COWMEM_FILE_VIEW).  Set before anyone has it. */
static inline bool cowmem_is_view(const struct dentry *dentry)
{
	return dentry->d_fsdata;
}

/* clone.c */
int cowmem_clone(struct cowmem_call *call);
int cowmem_clone_many(struct cowmem_call *call);

/* copy.c */
int cowmem_copy_range(struct cowmem_region *region, u64 dst,
		      struct cowmem_region *from, u64 src, u64 length,
		      struct cowmem_restore *restore);
int cowmem_copy(struct cowmem_call *call);
loff_t cowmem_remap_file_range(struct file *file_in, loff_t pos_in,
			       struct file *file_out, loff_t pos_out, loff_t len,
			       unsigned int remap_flags);

/* restore.c */
int cowmem_restore(struct cowmem_call *call);

/* merge.c */
int cowmem_merge(struct cowmem_call *call);

/* diff.c */
int cowmem_diff(struct cowmem_call *call);

/* io.c */
loff_t cowmem_llseek(struct file *file, loff_t offset, int whence);
ssize_t cowmem_read_iter(struct kiocb *iocb, struct iov_iter *to);
ssize_t cowmem_write_iter(struct kiocb *iocb, struct iov_iter *from);

/* ioctl.c */
long cowmem_ioctl(struct file *file, unsigned int cmd, unsigned long arg);

/* stats.c */
int cowmem_info(struct cowmem_call *call);
void cowmem_show_fdinfo(struct seq_file *m, struct file *file);
u64 cowmem_region_blocks(struct cowmem_region *region);

#endif /* _COWMEM_H */
