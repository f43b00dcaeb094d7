// SPDX-License-Identifier: GPL-2.0-only
/*
 * Regions: lifetime, files, size, seals, and holes punched on demand
 *
 * A region lives as long as its file does, which descriptors and mappings hold.
 * Its inode, by which mappings are found, comes from a file system of the
 * module's own that users cannot mount.
 */
#include <linux/file.h>
#include <linux/highmem.h>
#include <linux/module.h>
#include <linux/mount.h>
#include <linux/pagemap.h>
#include <linux/pseudo_fs.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "cowmem.h"
#include "trace.h"

#define COWMEM_FS_MAGIC	0x636f776d	/* "cowm" */

/* Mounted while there is a region; protected by the lock of simple_pin_fs(). */
static struct vfsmount *cowmem_mnt;
static int cowmem_mnt_count;
static atomic64_t last_id = ATOMIC64_INIT(0);

static int cowmem_init_fs_context(struct fs_context *fc)
{
	return init_pseudo(fc, COWMEM_FS_MAGIC) ? 0 : -ENOMEM;
}

static struct file_system_type cowmem_fs_type = {
	.owner			= THIS_MODULE,
	.name			= "cowmem",
	.init_fs_context	= cowmem_init_fs_context,
	.kill_sb		= kill_anon_super,
};

static struct cowmem_region *region_create(void)
{
	struct cowmem_region *region;
	struct inode *inode;
	unsigned int i;
	int err;

	region = kzalloc(sizeof(*region), GFP_KERNEL_ACCOUNT);
	if (!region)
		return ERR_PTR(-ENOMEM);
	/*
	 * A mount per region, in effect: the file system pins the module until
	 * the last inode is gone, which is after the last ->release.
	 */
	err = simple_pin_fs(&cowmem_fs_type, &cowmem_mnt, &cowmem_mnt_count);
	if (err)
		goto free_region;
	inode = alloc_anon_inode(cowmem_mnt->mnt_sb);
	if (IS_ERR(inode)) {
		err = PTR_ERR(inode);
		goto release_fs;
	}
	region->inode = inode;
	region->id = atomic64_inc_return(&last_id);
	init_rwsem(&region->lock);
	cowmem_tree_init(&region->tree);
	for (i = 0; i < COWMEM_LEAF_LOCKS; i++) {
		mutex_init(&region->leaf_locks[i].lock);
		region->leaf_locks[i].bare_end = ULONG_MAX;
		INIT_LIST_HEAD(&region->leaf_locks[i].spare);
	}
	return region;

release_fs:
	simple_release_fs(&cowmem_mnt, &cowmem_mnt_count);
free_region:
	kfree(region);
	return ERR_PTR(err);
}

/* Under region->lock for writing, or when nobody else is left. */
static void drop_spare_pages(struct cowmem_region *region)
{
	unsigned int i;

	for (i = 0; i < COWMEM_LEAF_LOCKS; i++)
		cowmem_pages_drop(&region->leaf_locks[i].spare);
}

/* A region has one file, and every mapping holds it: nobody else is left. */
static void region_destroy(struct cowmem_region *region)
{
	cowmem_tree_destroy(&region->tree);
	drop_spare_pages(region);
	cowmem_pages_forget(region->inode->i_mapping);
	iput(region->inode);
	simple_release_fs(&cowmem_mnt, &cowmem_mnt_count);
	kfree(region);
}

static int cowmem_open(struct inode *inode, struct file *file)
{
	struct cowmem_region *region = region_create();

	if (IS_ERR(region))
		return PTR_ERR(region);
	file->f_mapping = region->inode->i_mapping;
	file->private_data = region;
	return 0;
}

static int cowmem_release(struct inode *inode, struct file *file)
{
	region_destroy(cowmem_file_region(file));
	return 0;
}

/**
 * cowmem_region_file - a new region with a file that no descriptor refers to
 * @flags: O_RDWR or O_RDONLY
 *
 * Context: may sleep.
 * Return: the file; -ENOMEM or -ENFILE.
 */
struct file *cowmem_region_file(int flags)
{
	struct cowmem_region *region = region_create();
	struct file *file;

	if (IS_ERR(region))
		return ERR_CAST(region);
	/* What fops_get() does for a device; fput() gives it back. */
	__module_get(THIS_MODULE);
	file = alloc_file_pseudo(region->inode, cowmem_mnt, "cowmem",
				 flags | O_LARGEFILE, &cowmem_fops);
	if (IS_ERR(file)) {
		region_destroy(region);
		module_put(THIS_MODULE);
		return file;
	}
	/* The file has one reference to the inode, the region another one. */
	ihold(region->inode);
	file->f_mode |= FMODE_LSEEK | FMODE_PREAD | FMODE_PWRITE;
	file->private_data = region;
	return file;
}

/**
 * cowmem_region_fget - get the file of a region by its descriptor
 * @fd: the descriptor
 * @mode: FMODE_READ, FMODE_WRITE or both
 *
 * Return: the file with a reference; -EBADF if @fd is closed, is not a region's or
 * not open in this mode.
 */
struct file *cowmem_region_fget(int fd, fmode_t mode)
{
	struct file *file = fget(fd);

	if (!file)
		return ERR_PTR(-EBADF);
	if (file->f_op != &cowmem_fops || (file->f_mode & mode) != mode) {
		fput(file);
		return ERR_PTR(-EBADF);
	}
	return file;
}

static int lock_one(struct cowmem_region *region, bool write, int nesting)
{
	return write ? down_write_killable_nested(&region->lock, nesting)
		     : down_read_killable_nested(&region->lock, nesting);
}

static void unlock_one(struct cowmem_region *region, bool write)
{
	if (write)
		up_write(&region->lock);
	else
		up_read(&region->lock);
}

/**
 * cowmem_lock_two - lock two regions
 * @a: a region
 * @write_a: whether to lock it for writing
 * @b: another one, or the same, which is locked as @a
 * @write_b: whether to lock it for writing
 *
 * Context: may sleep.
 * Return: 0 or -EINTR.
 */
int cowmem_lock_two(struct cowmem_region *a, bool write_a,
		    struct cowmem_region *b, bool write_b)
{
	int err;

	if (a == b)
		return lock_one(a, write_a, 0);
	if (a > b) {
		swap(a, b);
		swap(write_a, write_b);
	}
	err = lock_one(a, write_a, 0);
	if (err)
		return err;
	err = lock_one(b, write_b, SINGLE_DEPTH_NESTING);
	if (err)
		unlock_one(a, write_a);
	return err;
}

/**
 * cowmem_unlock_two - undo cowmem_lock_two()
 * @a: a region
 * @write_a: as it was locked
 * @b: another one, or the same
 * @write_b: as it was locked
 */
void cowmem_unlock_two(struct cowmem_region *a, bool write_a,
		       struct cowmem_region *b, bool write_b)
{
	unlock_one(a, write_a);
	if (a != b)
		unlock_one(b, write_b);
}

/**
 * cowmem_lock_source - lock a region for writing and one that it gets pages from
 * @region: the region
 * @from: the other one, or the same
 * @write_from: set to how @from was locked, for cowmem_unlock_two()
 *
 * A snapshot is locked for reading, since many regions may get pages from it.
 *
 * Context: may sleep.
 * Return: 0 or -EINTR.
 */
int cowmem_lock_source(struct cowmem_region *region, struct cowmem_region *from,
		       bool *write_from)
{
	int err;

	*write_from = !(READ_ONCE(from->seals) & COWMEM_SEAL_WRITE);
	err = cowmem_lock_two(region, true, from, *write_from);
	if (err || *write_from || cowmem_region_frozen(from))
		return err;
	/* It has pages that were granted before it was sealed. */
	cowmem_unlock_two(region, true, from, false);
	*write_from = true;
	return cowmem_lock_two(region, true, from, true);
}

/**
 * cowmem_region_grow - make a region at least as large as @size
 * @region: the region
 * @size: in bytes
 *
 * Context: any; under region->lock, so that a clone gets both the size and what
 * was written below it, or neither.
 */
void cowmem_region_grow(struct cowmem_region *region, loff_t size)
{
	struct inode *inode = region->inode;

	/* write() and mmap() may grow at once, and neither may undo the other. */
	spin_lock(&inode->i_lock);
	if (size > i_size_read(inode))
		i_size_write(inode, size);
	spin_unlock(&inode->i_lock);
}

/*
 * Own the page at @index, a part of which is to be zeroed.  Returns NULL if it is
 * a hole, which needs no zeroing.
 */
static struct page *own_partial_page(struct cowmem_region *region, pgoff_t index)
{
	struct cowmem_node *leaf = cowmem_tree_leaf(&region->tree, index, NULL);
	struct page *page;

	if (!leaf || !leaf->slots[cowmem_slot(index)])
		return NULL;
	leaf = cowmem_tree_own(&region->tree, index);
	if (IS_ERR(leaf))
		return ERR_CAST(leaf);
	mutex_lock(&cowmem_leaf_lock(region, index)->lock);
	page = cowmem_grant_leaf(region, leaf, index, NULL);
	mutex_unlock(&cowmem_leaf_lock(region, index)->lock);
	return page;
}

static void zero_partial_page(struct page *page, size_t from, size_t to)
{
	zero_user_segment(page, from, to);
	set_page_dirty(page);
}

/* Turn bytes @from to @to (exclusive) into a hole. */
static int region_punch(struct cowmem_region *region, u64 from, u64 to,
			bool even_cows)
{
	/* The whole pages are [first, end). */
	pgoff_t first = DIV_ROUND_UP_ULL(from, PAGE_SIZE);
	pgoff_t end = to >> PAGE_SHIFT;
	size_t head_to = min_t(u64, to - round_down(from, PAGE_SIZE), PAGE_SIZE);
	struct page *head = NULL, *tail = NULL;
	int err;

	lockdep_assert_held_write(&region->lock);

	/* First whatever can fail, and none of it can be seen. */
	if (!PAGE_ALIGNED(from)) {
		head = own_partial_page(region, from >> PAGE_SHIFT);
		if (IS_ERR(head))
			return PTR_ERR(head);
	}
	if (!PAGE_ALIGNED(to) && first <= end) {
		tail = own_partial_page(region, end);
		if (IS_ERR(tail))
			return PTR_ERR(tail);
	}
	if (first < end) {
		err = cowmem_tree_own_edge(&region->tree, first);
		if (!err)
			err = cowmem_tree_own_edge(&region->tree, end - 1);
		if (err)
			return err;

		cowmem_unmap(region, first, end, even_cows);
		cowmem_tree_punch(&region->tree, first, end - 1);
		/* Who gives memory back does not want us to keep some. */
		drop_spare_pages(region);
		trace_cowmem_zap(region, first, end - first);
	}
	if (head)
		zero_partial_page(head, offset_in_page(from), head_to);
	if (tail)
		zero_partial_page(tail, 0, offset_in_page(to));
	return 0;
}

/* Lock a region, with no write() half done.  Returns 0 or -EINTR. */
static int lock_with_writers(struct cowmem_region *region)
{
	int err = down_write_killable(&region->inode->i_rwsem);

	if (err)
		return err;
	err = down_write_killable(&region->lock);
	if (err)
		inode_unlock(region->inode);
	return err;
}

static void unlock_with_writers(struct cowmem_region *region)
{
	up_write(&region->lock);
	inode_unlock(region->inode);
}

static int resize_locked(struct cowmem_region *region, loff_t size)
{
	loff_t old = cowmem_region_size(region);
	int err;

	if (size > old && (region->seals & COWMEM_SEAL_GROW))
		return -EPERM;
	if (size < old && (region->seals & COWMEM_SEAL_SHRINK))
		return -EPERM;
	err = inode_newsize_ok(region->inode, size);
	if (err)
		return err;
	if (size < old) {
		/*
		 * Nothing past the end is kept, not even what failed writes
		 * left there.  Private copies of the pages go as well, as they
		 * do when a file is truncated.
		 */
		err = region_punch(region, size, 1ULL << 63, true);
		if (err)
			return err;
		/* Not even a seal on writing promises the same content now. */
		region->id = atomic64_inc_return(&last_id);
	}
	i_size_write(region->inode, size);
	return 0;
}

/**
 * cowmem_resize - COWMEM_IOC_RESIZE
 * @call: the ioctl
 *
 * Context: may sleep.
 * Return: 0 or a negative errno, see struct cowmem_resize.
 */
int cowmem_resize(struct cowmem_call *call)
{
	struct cowmem_resize *args = &call->args.resize;
	struct cowmem_region *region = call->region;
	int err;

	if (args->flags)
		return -EOPNOTSUPP;
	if (args->reserved)
		return -EINVAL;
	if (!(call->file->f_mode & FMODE_WRITE))
		return -EBADF;
	if (args->size > MAX_LFS_FILESIZE)
		return -EFBIG;

	err = lock_with_writers(region);
	if (err)
		return err;
	err = resize_locked(region, args->size);
	unlock_with_writers(region);
	return err;
}

/*
 * Is there a mapping that is or could be made writable, or I/O under way into a
 * page that was mapped so?
 */
static bool region_written(struct cowmem_region *region)
{
	struct cowmem_node *leaf;
	unsigned int i;

	/* Counts VM_SHARED mappings, those with VM_MAYWRITE that is. */
	if (mapping_writably_mapped(region->inode->i_mapping))
		return true;
	/* What is left are private mappings, which do no harm. */
	cowmem_unmap(region, 0, ULONG_MAX, false);
	list_for_each_entry(leaf, &region->tree.granted, granted_link)
		for (i = 0; i < COWMEM_NODE_SLOTS; i++)
			if ((leaf->granted & BIT_ULL(i)) &&
			    cowmem_page_busy(leaf->slots[i], 0))
				return true;
	return false;
}

static int seal_locked(struct cowmem_region *region, unsigned int seals)
{
	if (seals && (region->seals & COWMEM_SEAL_SEAL))
		return -EPERM;
	/*
	 * mmap() counts the mapping as writable before it looks at the seals,
	 * so either it sees the seal or we see it.  Where that is not so, faults
	 * see the seal: may_be_written().
	 */
	if ((seals & COWMEM_SEAL_WRITE) &&
	    !(region->seals & COWMEM_SEAL_WRITE) && region_written(region))
		return -EBUSY;
	region->seals |= seals;
	return 0;
}

/**
 * cowmem_seal - COWMEM_IOC_SEAL
 * @call: the ioctl
 *
 * Context: may sleep.
 * Return: 0 or a negative errno, see struct cowmem_seal.
 */
int cowmem_seal(struct cowmem_call *call)
{
	struct cowmem_seal *args = &call->args.seal;
	struct cowmem_region *region = call->region;
	int err;

	if (args->flags)
		return -EOPNOTSUPP;
	if (args->seals & ~COWMEM_ALL_SEALS)
		return -EINVAL;
	if (!(call->file->f_mode & FMODE_WRITE))
		return -EBADF;

	err = lock_with_writers(region);
	if (err)
		return err;
	err = seal_locked(region, args->seals);
	args->seals = region->seals;
	unlock_with_writers(region);
	return err;
}

/**
 * cowmem_discard - COWMEM_IOC_DISCARD
 * @call: the ioctl
 *
 * Context: may sleep.
 * Return: 0 or a negative errno, see struct cowmem_discard.
 */
int cowmem_discard(struct cowmem_call *call)
{
	struct cowmem_discard *args = &call->args.discard;
	struct cowmem_region *region = call->region;
	u64 end;
	int err;

	if (args->flags)
		return -EOPNOTSUPP;
	if (args->reserved || !args->length)
		return -EINVAL;
	if (check_add_overflow(args->offset, args->length, &end))
		return -EINVAL;
	if (!(call->file->f_mode & FMODE_WRITE))
		return -EBADF;

	err = down_write_killable(&region->lock);
	if (err)
		return err;
	if (end > cowmem_region_size(region))
		err = -EINVAL;
	else if (region->seals & COWMEM_SEAL_WRITE)
		err = -EPERM;
	else
		err = region_punch(region, args->offset, end, false);
	up_write(&region->lock);
	return err;
}

const struct file_operations cowmem_fops = {
	.owner		= THIS_MODULE,
	.open		= cowmem_open,
	.release	= cowmem_release,
	.llseek		= cowmem_llseek,
	.read_iter	= cowmem_read_iter,
	.write_iter	= cowmem_write_iter,
	.splice_read	= copy_splice_read,
	.splice_write	= iter_file_splice_write,
	.mmap		= cowmem_mmap,
	.fsync		= noop_fsync,
	.unlocked_ioctl	= cowmem_ioctl,
	.compat_ioctl	= compat_ptr_ioctl,
	.show_fdinfo	= cowmem_show_fdinfo,
};
