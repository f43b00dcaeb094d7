// SPDX-License-Identifier: GPL-2.0-only
/*
 * The files of a region
 *
 * Regular files have the region for their inode, and are what any program expects of a
 * file: clones are such files, and COWMEM_IOC_FILE makes more of them.  A file of
 * /dev/cowmem is one of the device node: whatever the VFS does to its inode without
 * asking us is done to the node.  Locks are the exception, as the VFS asks.
 */
#include <linux/fcntl.h>
#include <linux/file.h>
#include <linux/fsnotify.h>
/* Needs the types of what is above. */
#include <linux/falloc.h>
#include <linux/module.h>
#include <linux/pagemap.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/splice.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "account.h"
#include "call.h"
#include "copy.h"
#include "expendable.h"
#include "fault.h"
#include "file.h"
#include "fs.h"
#include "grant.h"
#include "io.h"
#include "ioctl.h"
#include "page.h"
#include "region.h"
#include "stats.h"
#include "tree-walk.h"
#include "xattr.h"

/* ---- what files are ---- */

/* A regular file, or one of the device? */
static bool is_regular(const struct file *file)
{
	return file->f_op == &cowmem_file_fops || file->f_op == &cowmem_expendable_fops;
}

/*
 * What /proc shows for a regular file that is not of a mount, in the form that it has
 * for other files without a name.  It has to be at the end of @buffer.
 */
static char *cowmem_dname(struct dentry *dentry, char *buffer, int buflen)
{
	int len;

	if (dentry->d_name.len)
		len = snprintf(buffer, buflen, "/cowmem:%s (deleted)",
			       dentry->d_name.name);
	else
		len = snprintf(buffer, buflen, "/cowmem:%llu (deleted)",
			       (u64)d_inode(dentry)->i_ino);
	if (len >= buflen)
		return ERR_PTR(-ENAMETOOLONG);
	return memmove(buffer + buflen - len - 1, buffer, len + 1);
}

/*
 * A region may have several dentries, one for each name that it was given.  Who watches
 * it hears of its end with the last one, not with the first, as they would if the
 * inode had no links: so it has one, and cowmem_getattr() does not tell.
 */
static void cowmem_d_iput(struct dentry *dentry, struct inode *inode)
{
	bool last;

	spin_lock(&inode->i_lock);
	last = hlist_empty(&inode->i_dentry);
	spin_unlock(&inode->i_lock);
	if (last)
		fsnotify_inoderemove(inode);
	iput(inode);
}

const struct dentry_operations cowmem_dentry_ops = {
	.d_iput		= cowmem_d_iput,
	.d_dname	= cowmem_dname,
};

static void init_file(struct file *file, struct cowmem_region *region)
{
	file->private_data = region;
	file->f_mode |= FMODE_LSEEK | FMODE_PREAD | FMODE_PWRITE;
	/* Threads that share the file share its position, too. */
	file->f_mode |= FMODE_ATOMIC_POS;
	/* Nothing is between a region and who reads or writes it. */
	file->f_mode |= FMODE_CAN_ODIRECT;
	/* No list has the pages, so unmapping need not look for them there. */
	file->f_mode |= FMODE_NOREUSE;
}

/*
 * The mount for another file of the file system that @of belongs to, or that its region
 * does if it is one of the device.
 */
static struct vfsmount *pin_mount(struct file *of)
{
	struct vfsmount *mnt;

	if (cowmem_region_account(cowmem_file_region(of)))
		return of->f_path.mnt;
	mnt = cowmem_fs_pin();
	/*
	 * What is pinned may be another mount, if nothing but O_PATH descriptors was
	 * left of the region for a while.
	 */
	return is_regular(of) && !IS_ERR(mnt) ? of->f_path.mnt : mnt;
}

/* A mount that users made is kept by the files themselves. */
static void unpin_mount(const struct cowmem_region *region)
{
	if (!cowmem_region_account(region))
		cowmem_fs_unpin();
}

/*
 * A regular file of @region that no descriptor refers to.  It takes over a reference to
 * the inode and one from pin_mount().  @mnt is a mount of the inode's superblock.
 */
static struct file *new_file(struct cowmem_region *region, struct vfsmount *mnt,
			     const char *name, int flags)
{
	char dname[COWMEM_FILE_NAME_MAX + sizeof("cowmem:")];
	struct file *file;

	/* Else cowmem_dname() does it. */
	if (cowmem_region_account(region)) {
		snprintf(dname, sizeof(dname), "cowmem:%s", name);
		if (!*name)
			snprintf(dname, sizeof(dname), "cowmem:%llu",
				 (u64)region->inode.i_ino);
		name = dname;
	}
	file = alloc_file_pseudo(&region->inode, mnt, name, flags | O_LARGEFILE,
				 region->inode.i_fop);
	if (IS_ERR(file)) {
		unpin_mount(region);
		iput(&region->inode);
		return file;
	}
	/* What opening a file does; fput() gives it back. */
	__module_get(THIS_MODULE);
	cowmem_file_notifies(file);
	init_file(file, region);
	return file;
}

/*
 * Who writes to a clone fills the mount that it is on, so that takes more than to be let
 * read: a file that is open for writing, or could be, or is the caller's own, as what is
 * sealed is never open for writing.
 */
static int may_clone_to_write(struct file *of, struct mnt_idmap *idmap)
{
	struct inode *inode = file_inode(of);

	if ((of->f_mode & FMODE_WRITE) || inode_owner_or_capable(idmap, inode))
		return 0;
	return inode_permission(idmap, inode, MAY_WRITE);
}

static umode_t clone_mode(int flags)
{
	return flags == O_RDWR ? 0600 : 0400;
}

/*
 * A new file without a name on the mount of @of.  As O_TMPFILE does it: who writes to it
 * counts as a writer of the mount, and none is made where nothing may be.
 */
static struct file *clone_on_mount(struct file *of, int flags)
{
	struct vfsmount *mnt = of->f_path.mnt;
	struct mnt_idmap *idmap = cowmem_mnt_idmap(mnt);
	struct cowmem_region *region;
	struct file *file, *opened;
	int err;

	if (!fsuidgid_has_mapping(mnt->mnt_sb, idmap))
		return ERR_PTR(-EOVERFLOW);
	err = flags == O_RDWR ? may_clone_to_write(of, idmap) : 0;
	if (err)
		return ERR_PTR(err);
	err = mnt_want_write(mnt);
	if (err)
		return ERR_PTR(err);
	region = cowmem_region_create(mnt->mnt_sb, idmap, clone_mode(flags));
	if (IS_ERR(region)) {
		file = ERR_CAST(region);
		goto drop_write;
	}
	cowmem_make_linkable(&region->inode);
	file = new_file(region, mnt, "", O_RDONLY);
	if (!IS_ERR(file) && flags == O_RDWR) {
		/* What makes files of an inode counts no writers. */
		opened = dentry_open(&file->f_path, flags | O_LARGEFILE, current_cred());
		fput(file);
		file = opened;
	}
drop_write:
	mnt_drop_write(mnt);
	return file;
}

/**
 * cowmem_clone_file - a new region with a regular file that no descriptor refers to
 * @of: a file of the region that is to be cloned
 * @flags: O_RDWR or O_RDONLY
 *
 * It belongs to the same file system.  If that is one that users mounted, it counts
 * there, and linkat() can give it a name.
 *
 * Context: may sleep.
 * Return: the file; -ENOMEM, -ENOSPC or -ENFILE; -EROFS, -EOVERFLOW or -EACCES if no such
 * file can be made on the mount, or by the caller.
 */
struct file *cowmem_clone_file(struct file *of, int flags)
{
	struct cowmem_region *region;
	struct vfsmount *mnt;

	if (cowmem_region_account(cowmem_file_region(of)))
		return clone_on_mount(of, flags);
	mnt = pin_mount(of);
	if (IS_ERR(mnt))
		return ERR_CAST(mnt);
	region = cowmem_region_create(mnt->mnt_sb, &nop_mnt_idmap, clone_mode(flags));
	if (IS_ERR(region)) {
		cowmem_fs_unpin();
		return ERR_CAST(region);
	}
	return new_file(region, mnt, "", flags);
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
	if ((!is_regular(file) && file->f_op != &cowmem_fops) ||
	    (file->f_mode & mode) != mode) {
		fput(file);
		return ERR_PTR(-EBADF);
	}
	return file;
}

/**
 * cowmem_mmap_grows - does a region grow when it is mapped by this file?
 * @file: the file
 *
 * Who opened the device has no other way than an ioctl to set the size; a file is
 * not made larger by mmap().
 *
 * Context: any.
 * Return: whether it does.
 */
bool cowmem_mmap_grows(const struct file *file)
{
	return !is_regular(file) && (file->f_mode & FMODE_WRITE);
}

/**
 * cowmem_accessed - note that a file was read or mapped, for st_atime
 * @file: the file
 *
 * Context: may sleep.
 */
void cowmem_accessed(struct file *file)
{
	/* The device node's times are not ours. */
	if (is_regular(file))
		file_accessed(file);
}

/**
 * cowmem_remove_privs - a file is about to be written, and what it lets programs do
 *	when they are run is not to be trusted any more
 * @file: the file
 *
 * Context: may sleep; under i_rwsem of the region.
 * Return: 0 or a negative errno.
 */
int cowmem_remove_privs(struct file *file)
{
	/* The device node is no program. */
	return is_regular(file) ? file_remove_privs(file) : 0;
}

/**
 * cowmem_remove_privs_now - as cowmem_remove_privs(), for who does not hold i_rwsem
 * @file: the file
 *
 * Context: may sleep; no region is locked.
 * Return: 0 or a negative errno.
 */
int cowmem_remove_privs_now(struct file *file)
{
	struct inode *inode = file_inode(file);
	int err;

	/* Rarely is it a program of that kind, and others need not wait for the lock. */
	if (!is_regular(file) || !is_sxid(READ_ONCE(inode->i_mode)))
		return 0;
	err = down_write_killable(&inode->i_rwsem);
	if (err)
		return err;
	err = file_remove_privs(file);
	inode_unlock(inode);
	return err;
}

/* ---- regular files ---- */

/* COWMEM_IOC_FILE asks for this. */
static int check_file(const struct cowmem_call *call)
{
	u32 flags = call->args.file.flags & ~COWMEM_FILE_HUGE;
	bool huge = call->args.file.flags & COWMEM_FILE_HUGE;
	/* What takes more memory is not for those who may only read. */
	fmode_t need = FMODE_READ | (!flags || huge ? FMODE_WRITE : 0);

	if (flags & ~(COWMEM_FILE_RDONLY | COWMEM_FILE_VIEW))
		return -EOPNOTSUPP;
	if (flags == (COWMEM_FILE_RDONLY | COWMEM_FILE_VIEW))
		return -EINVAL;
	if ((call->file->f_mode & need) != need)
		return -EBADF;
	if (is_regular(call->file) && cowmem_is_view(call->file->f_path.dentry) &&
	    flags != COWMEM_FILE_VIEW)
		return -EACCES;
	if (!flags && (READ_ONCE(call->region->seals) & COWMEM_WRITE_SEALS))
		return -EPERM;
	return 0;
}

static char *get_name(u64 user)
{
	if (!user)
		return kstrdup("", GFP_KERNEL_ACCOUNT);
	return strndup_user(u64_to_user_ptr(user), COWMEM_FILE_NAME_MAX + 1);
}

/*
 * The file that COWMEM_IOC_FILE makes: one more of the region of @of.  On a mount it is
 * known by its path, unless it is to have a name of its own.
 */
static struct file *another_file(struct file *of, const char *name, u32 flags)
{
	struct cowmem_region *region = cowmem_file_region(of);
	int open_flags = flags ? O_RDONLY : O_RDWR;
	struct vfsmount *mnt;
	struct file *file;

	if (cowmem_region_account(region) && !*name && flags != COWMEM_FILE_VIEW)
		return dentry_open(&of->f_path, open_flags | O_LARGEFILE, current_cred());
	mnt = pin_mount(of);
	if (IS_ERR(mnt))
		return ERR_CAST(mnt);
	ihold(&region->inode);
	file = new_file(region, mnt, name, open_flags);
	if (!IS_ERR(file) && flags == COWMEM_FILE_VIEW)
		file->f_path.dentry->d_fsdata = region;
	return file;
}

/**
 * cowmem_file - COWMEM_IOC_FILE
 * @call: the ioctl
 *
 * Context: may sleep and fault.
 * Return: 0 or a negative errno, see struct cowmem_file.
 */
int cowmem_file(struct cowmem_call *call)
{
	struct cowmem_file *args = &call->args.file;
	struct file *file;
	char *name;
	int fd;

	fd = check_file(call);
	if (fd)
		return fd;
	name = get_name(args->name);
	if (IS_ERR_OR_NULL(name))
		return name ? PTR_ERR(name) : -ENOMEM;
	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0)
		goto free_name;
	file = another_file(call->file, name, args->flags & ~COWMEM_FILE_HUGE);
	if (IS_ERR(file)) {
		put_unused_fd(fd);
		fd = PTR_ERR(file);
		goto free_name;
	}
	args->fd = fd;
	call->new_fd = fd;
	call->new_file = file;
	call->huge = args->flags & COWMEM_FILE_HUGE;
free_name:
	kfree(name);
	return min(fd, 0);
}

/* A regular file is opened again, through /proc.  The VFS looked at mode and owner. */
static int file_open(struct inode *inode, struct file *file)
{
	struct cowmem_region *region = cowmem_region_of(inode);

	if (file->f_mode & FMODE_WRITE) {
		/* What overlayfs opens has that one's path, until 6.5. */
		if (cowmem_is_view(file_dentry(file)))
			return -EACCES;
		if (READ_ONCE(region->seals) & COWMEM_WRITE_SEALS)
			return -EPERM;
	}
	if (!cowmem_region_account(region)) {
		struct vfsmount *mnt = cowmem_fs_pin();

		if (IS_ERR(mnt))
			return PTR_ERR(mnt);
	}
	init_file(file, region);
	return 0;
}

static int file_release(struct inode *inode, struct file *file)
{
	struct cowmem_region *region = cowmem_region_of(inode);

	/* The file may stay when all who could be made to pay for it are gone. */
	if (file->f_mode & FMODE_WRITE)
		cowmem_region_idle(region);
	unpin_mount(region);
	return 0;
}

/* Find the next hole from @index on.  Returns 0 or -EINTR. */
static int next_hole(struct cowmem_region *region, pgoff_t *index)
{
	bool found;

	do {
		unsigned long budget = COWMEM_TREE_BUDGET;
		int err = down_read_killable(&region->lock);

		if (err)
			return err;
		found = cowmem_tree_next(&region->tree, index, false, &budget);
		up_read(&region->lock);
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
	} while (!found && *index != ULONG_MAX);
	return 0;
}

/*
 * truncate() to the size that a file has drops what was allocated past the end.  That is
 * a change, unless the file holds nothing at all: as on tmpfs.
 */
static int drop_past_end(struct cowmem_region *region)
{
	/* A tree has no node that holds nothing. */
	if ((region->seals & COWMEM_WRITE_SEALS) || !READ_ONCE(region->tree.root))
		return 0;
	return cowmem_region_discard(region, cowmem_region_size(region), 1ULL << 63,
				     false);
}

/* For truncate().  Under i_rwsem. */
static int set_size(struct cowmem_region *region, loff_t size)
{
	int err;

	if (size == cowmem_region_size(region))
		return drop_past_end(region);
	err = down_write_killable(&region->lock);
	if (err)
		return err;
	err = cowmem_region_resize(region, size);
	up_write(&region->lock);
	return err;
}

/**
 * cowmem_setattr - ->setattr of all inodes
 * @idmap: of the mount
 * @dentry: of the inode
 * @attr: what to set
 *
 * Context: may sleep; under i_rwsem.
 * Return: 0 or a negative errno.
 */
int cowmem_setattr(struct mnt_idmap *idmap, struct dentry *dentry,
		   struct iattr *attr)
{
	struct inode *inode = d_inode(dentry);
	struct cowmem_region *region = cowmem_region_of(inode);
	int err;

	err = setattr_prepare(idmap, dentry, attr);
	if (err)
		return err;
	if (attr->ia_valid & ATTR_SIZE) {
		if (cowmem_is_view(dentry))
			return -EACCES;
		err = set_size(region, attr->ia_size);
		if (err)
			return cowmem_user_error(err);
	}
	cowmem_region_times(region);
	setattr_copy(idmap, inode, attr);
	/* Symbolic links have no lists. */
	if ((attr->ia_valid & ATTR_MODE) && inode->i_op->set_acl)
		return cowmem_acl_chmod(idmap, dentry, inode->i_mode);
	return 0;
}

/**
 * cowmem_getattr - ->getattr of all inodes
 * @idmap: of the mount
 * @path: of the inode
 * @stat: where to put what is found
 * @mask: STATX_*, what is asked for
 * @flags: AT_STATX_*
 *
 * Context: may sleep.
 * Return: 0.
 */
int cowmem_getattr(struct mnt_idmap *idmap, const struct path *path,
		   struct kstat *stat, u32 mask, unsigned int flags)
{
	struct inode *inode = d_inode(path->dentry);
	struct cowmem_region *region = cowmem_region_of(inode);

	cowmem_region_times(region);
	cowmem_fillattr(idmap, mask, inode, stat);
	/* It has no name, see cowmem_d_iput(). */
	if (!cowmem_region_account(region))
		stat->nlink = 0;
	if ((mask & STATX_BLOCKS) && S_ISREG(inode->i_mode))
		stat->blocks = cowmem_region_blocks(region);
	stat->btime = region->born;
	stat->result_mask |= STATX_BTIME;
	return 0;
}

const struct inode_operations cowmem_inode_ops = {
	.setattr	= cowmem_setattr,
	.getattr	= cowmem_getattr,
};

const struct inode_operations cowmem_mount_inode_ops = {
	.setattr	= cowmem_setattr,
	.getattr	= cowmem_getattr,
	.listxattr	= cowmem_listxattr,
	.set_acl	= cowmem_set_acl,
};

/*
 * Have pages in a range, in place of holes, and with @unshare ones that nobody else has.
 * What was done stays done if it fails half way.
 */
static int allocate(struct cowmem_region *region, pgoff_t first, pgoff_t end,
		    bool unshare)
{
	pgoff_t index;
	int err;

	for (index = first; index < end; index++) {
		struct page *page;

		if (!unshare) {
			err = next_hole(region, &index);
			if (err || index >= end)
				return err;
		}
		page = cowmem_begin_write(region, index, COWMEM_CALL, NULL, NULL);
		if (IS_ERR(page))
			return PTR_ERR(page);
		cowmem_end_write(region, index);
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
	}
	return 0;
}

/* Can a mount ever hold what is to be allocated?  Else it is not filled up for nothing. */
static bool may_fit(const struct cowmem_region *region, pgoff_t first, pgoff_t end)
{
	const struct cowmem_account *account = cowmem_region_account(region);
	unsigned long max = account ? READ_ONCE(account->max_pages) : 0;

	return !max || end - first <= max;
}

/* What was allocated past the end is of no use: it was to be the size as well. */
static void undo_past_end(struct cowmem_region *region, loff_t offset, loff_t end)
{
	loff_t size = round_up(cowmem_region_size(region), PAGE_SIZE);

	offset = max_t(loff_t, round_down(offset, PAGE_SIZE), size);
	if (offset < end)
		cowmem_region_discard(region, offset, round_up((u64)end, PAGE_SIZE),
				      false);
}

/* fallocate() that may make the region larger.  Under i_rwsem. */
static int allocate_range(struct cowmem_region *region, int mode, loff_t offset,
			  loff_t end)
{
	pgoff_t first = offset >> PAGE_SHIFT, last = DIV_ROUND_UP_ULL(end, PAGE_SIZE);
	loff_t size = max(cowmem_region_size(region), end);
	int err;

	err = inode_newsize_ok(&region->inode, size);
	if (err)
		return err;
	if (!may_fit(region, first, last))
		return -ENOSPC;
	/*
	 * SEAL takes the inode's lock, too.  Pages for who goes on to write a mapping
	 * change nothing that can be seen.
	 */
	if (region->seals & COWMEM_SEAL_WRITE)
		return -EPERM;
	if (end > cowmem_region_size(region) && (region->seals & COWMEM_SEAL_GROW))
		return -EPERM;
	if (mode & FALLOC_FL_ZERO_RANGE) {
		err = cowmem_region_discard(region, offset, end, false);
		if (err)
			return err;
	}
	err = allocate(region, first, last, mode & FALLOC_FL_UNSHARE_RANGE);
	if (err)
		undo_past_end(region, offset, end);
	if (err || (mode & FALLOC_FL_KEEP_SIZE))
		return err;
	err = down_write_killable(&region->lock);
	if (err)
		return err;
	cowmem_region_grow(region, end);
	up_write(&region->lock);
	return 0;
}

static long cowmem_fallocate(struct file *file, int mode, loff_t offset, loff_t len)
{
	const int known = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE |
			  FALLOC_FL_ZERO_RANGE | FALLOC_FL_UNSHARE_RANGE;
	struct cowmem_region *region = cowmem_file_region(file);
	int err;

	if (mode & ~known)
		return -EOPNOTSUPP;
	err = down_write_killable(&region->inode.i_rwsem);
	if (err)
		return err;
	err = file_remove_privs(file);
	if (err)
		goto unlock;
	/* The VFS has looked at overflows, and at what goes together. */
	if (mode & FALLOC_FL_PUNCH_HOLE)
		err = cowmem_region_discard(region, offset, offset + len, false);
	else
		err = allocate_range(region, mode, offset, offset + len);
	if (!err)
		cowmem_region_changed(region);
unlock:
	inode_unlock(&region->inode);
	return cowmem_user_error(err);
}

/*
 * Where PMDs can map what is in them, mappings are placed by the core's own function, not by
 * one that calls it: mremap() moves several mappings at once only if it knows that.
 */
#define FILE_FOPS						\
	.owner		= THIS_MODULE,				\
	.open		= file_open,				\
	.release	= file_release,				\
	.llseek		= cowmem_llseek,			\
	.read_iter	= cowmem_read_iter,			\
	.write_iter	= cowmem_write_iter,			\
	.splice_read	= copy_splice_read,			\
	.splice_write	= iter_file_splice_write,		\
	.mmap		= cowmem_mmap,				\
	.get_unmapped_area = thp_get_unmapped_area,		\
	.fsync		= noop_fsync,				\
	.fallocate	= cowmem_fallocate,			\
	.setlease	= generic_setlease,			\
	.remap_file_range = cowmem_remap_file_range,		\
	.unlocked_ioctl	= cowmem_ioctl,				\
	.compat_ioctl	= compat_ptr_ioctl,			\
	.show_fdinfo	= cowmem_show_fdinfo

const struct file_operations cowmem_file_fops = {
	FILE_FOPS,
};

/*
 * Of snapshots that may yield.  Only these can be polled: of others there is nothing to
 * say, as of any regular file.
 */
const struct file_operations cowmem_expendable_fops = {
	FILE_FOPS,
	.poll		= cowmem_poll,
};

/* ---- files of the device ---- */

static int device_open(struct inode *inode, struct file *file)
{
	struct vfsmount *mnt = cowmem_fs_pin();
	struct cowmem_region *region;

	if (IS_ERR(mnt))
		return PTR_ERR(mnt);
	region = cowmem_region_create(mnt->mnt_sb, &nop_mnt_idmap, 0600);
	if (IS_ERR(region)) {
		cowmem_fs_unpin();
		return PTR_ERR(region);
	}
	init_file(file, region);
	file->f_mapping = region->inode.i_mapping;
	return 0;
}

/* Drop locks of @owner, of the kind that @flags says. */
static void drop_locks(struct file *file, fl_owner_t owner, unsigned int flags)
{
	struct file_lock lock;

	locks_init_lock(&lock);
	cowmem_lock_field(&lock, flags) = flags | FL_CLOSE;
	cowmem_lock_field(&lock, type) = F_UNLCK;
	cowmem_lock_field(&lock, owner) = owner;
	cowmem_lock_field(&lock, pid) = current->tgid;
	cowmem_lock_field(&lock, file) = file;
	lock.fl_end = OFFSET_MAX;
	locks_lock_inode_wait(&cowmem_file_region(file)->inode, &lock);
}

/* One of the descriptors is closed: who does it loses all POSIX locks. */
static int device_flush(struct file *file, fl_owner_t owner)
{
	drop_locks(file, owner, FL_POSIX);
	return 0;
}

static int device_release(struct inode *inode, struct file *file)
{
	/* Those of open file descriptions; the VFS looks for them at the device node. */
	drop_locks(file, file, FL_POSIX);
	drop_locks(file, file, FL_FLOCK);
	iput(&cowmem_file_region(file)->inode);
	cowmem_fs_unpin();
	return 0;
}

/* Locks are those of the region, whichever of its files they are taken by. */
static int device_flock(struct file *file, int cmd, struct file_lock *lock)
{
	return locks_lock_inode_wait(&cowmem_file_region(file)->inode, lock);
}

static int device_fcntl(struct file *file, int cmd, struct file_lock *lock)
{
	struct file *regular;

	if (cmd != F_GETLK)
		return device_flock(file, cmd, lock);
	/* The only one who can ask does so for the inode of a file. */
	regular = another_file(file, "", COWMEM_FILE_RDONLY);
	if (IS_ERR(regular))
		return PTR_ERR(regular);
	posix_test_lock(regular, lock);
	fput(regular);
	return 0;
}

const struct file_operations cowmem_fops = {
	.owner		= THIS_MODULE,
	.open		= device_open,
	.release	= device_release,
	.flush		= device_flush,
	.llseek		= cowmem_llseek,
	.read_iter	= cowmem_read_iter,
	.write_iter	= cowmem_write_iter,
	.splice_read	= copy_splice_read,
	.splice_write	= iter_file_splice_write,
	.mmap		= cowmem_mmap,
	.get_unmapped_area = thp_get_unmapped_area,
	.fsync		= noop_fsync,
	.lock		= device_fcntl,
	.flock		= device_flock,
	.unlocked_ioctl	= cowmem_ioctl,
	.compat_ioctl	= compat_ptr_ioctl,
	.show_fdinfo	= cowmem_show_fdinfo,
};
