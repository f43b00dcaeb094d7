/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * cowmem - memory regions that can be cloned live
 *
 * A region is a file without a name: open("/dev/cowmem") makes a new, empty one,
 * COWMEM_IOC_CLONE makes one that shares every page of another.  It lives as long
 * as a descriptor or a mapping of it.  Or it is a regular file on a mount of type
 * "cowmem", which lives as long as its names do, too.  mmap(), read(), write(), lseek() and the
 * ioctls below work on every descriptor of a region.  What else can be done to a file,
 * as fstat(), ftruncate(), fallocate(), FICLONE or fchmod(), can be done to one that is
 * a regular file: clones are, and COWMEM_IOC_FILE makes one for any region.
 *
 * A region that was opened by open("/dev/cowmem") starts with size 0, and grows when it
 * is mapped, by that descriptor, past its end for what is mapped to lie in it.  Other
 * descriptors are mapped as files are: access past the end is SIGBUS.
 *
 * General ioctl format
 *
 * Every ioctl takes a pointer to one struct and returns 0, or -1 with errno
 * set; results come back in the struct.  All offsets and lengths are in bytes.
 * A failed call changes nothing that a caller can see.
 *
 * The size of the struct is part of the ioctl number.  A struct grows only by
 * appending fields whose zero means "as before":
 *
 *  - a caller may pass a longer struct than the module knows, as long as the
 *    unknown tail is zero;
 *  - a caller may pass a shorter struct than the module knows, down to the
 *    first published version of it; the missing fields count as zero.
 *
 * What stays, and what may grow
 *
 * A program works with every module that is newer than the header it was built with.
 * It works with older ones, too, as long as it asks for nothing that they do not know,
 * which is an error and never ignored.
 *
 *  - Constants, ioctls, structs and fields stay: none of them changes its name, value,
 *    place or type, or goes.
 *  - What may come: ioctls; flags and seals, which change nothing for who does not set
 *    them; bits of @features and @state, and fields at the end of an ioctl's struct, which
 *    a program that does not know them ignores.
 *  - A struct that is an element of an array never grows, as nothing tells its size.  New
 *    kinds of elements are for who asks for them by a flag.
 *  - Errors keep their meaning.  What fails with EINVAL, E2BIG or EOPNOTSUPP may get a
 *    meaning of its own.
 *
 * These errors mean the same for every ioctl and are not listed again:
 *
 *  ENOTTY	the command is unknown
 *  EINVAL	the struct is shorter than its first published version, or a
 *		reserved field is not zero
 *  E2BIG	the struct has a non-zero tail that the module does not know
 *  EOPNOTSUPP	an unknown bit is set in @flags
 *  EFAULT	the struct cannot be read or written.  That is found out first; if
 *		it is unmapped while SEAL, RESTORE, DIFF or MERGE run, those may be
 *		done nonetheless
 *  EBADF	the descriptor is closed, or is not open in the mode that the
 *		ioctl needs (named per ioctl)
 *  EINTR	a fatal signal arrived
 *  EIO		a page that has to be copied, or a part of it, is in broken memory; or
 *		the region, or another one that the ioctl needs, is a snapshot that has
 *		yielded (COWMEM_CLONE_EXPENDABLE).  INFO and FILE go on to work there
 *
 * ENOSPC is, besides what is said for each, that the files of a mount may not hold more
 * (size=, nr_inodes=).  A page counts in the mount on which it was written, and one that
 * was written on a region of the device in the first mount that gets it by
 * COWMEM_IOC_RESTORE, COWMEM_IOC_COPY or COWMEM_IOC_MERGE; and it counts there until the
 * last region lets go of it.  Pages of one mount never get into another one.
 */
#ifndef _UAPI_LINUX_COWMEM_H
#define _UAPI_LINUX_COWMEM_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define COWMEM_IOC_TYPE	0xC3

/* What statfs() says of a region that is a regular file, and of a mount, in f_type: "cowm". */
#define COWMEM_SUPER_MAGIC	0x636f776d

/*
 * Seals.  Once set, a seal stays for the life of the region; a clone starts
 * without any.  A snapshot is born with the first four, which leave nothing to the fifth.
 */
#define COWMEM_SEAL_SEAL	(1U << 0)	/* no further seal can be added */
#define COWMEM_SEAL_SHRINK	(1U << 1)	/* the size cannot decrease */
#define COWMEM_SEAL_GROW	(1U << 2)	/* the size cannot increase */
#define COWMEM_SEAL_WRITE	(1U << 3)	/* the content cannot change */
#define COWMEM_SEAL_FUTURE_WRITE (1U << 4)	/* but through mappings that exist, likewise */

/* Features, what the module can do on this kernel. */
#define COWMEM_FEATURE_KEEP	(1U << 0)	/* COWMEM_RESTORE_KEEP keeps pages */
#define COWMEM_FEATURE_EXPENDABLE (1U << 1)	/* COWMEM_CLONE_EXPENDABLE is known */
#define COWMEM_FEATURE_HUGE	(1U << 2)	/* COWMEM_FILE_HUGE changes something */

/* State. */
#define COWMEM_STATE_EXPENDABLE	(1U << 0)	/* COWMEM_CLONE_EXPENDABLE made it */
#define COWMEM_STATE_YIELDED	(1U << 1)	/* and its memory was taken back */

/**
 * struct cowmem_info - COWMEM_IOC_INFO: what a region is and holds
 * @flags: in, must be 0.
 * @seals: out, COWMEM_SEAL_* bits in force.
 * @size: out, size of the region in bytes.
 * @pages_populated: out, pages that the region holds; the rest are holes that
 *	read as zero and cost nothing.
 * @pages_exclusive: out, populated pages that are held once.
 * @pages_shared: out, populated pages that another region holds too, or that
 *	this one holds at several offsets (COWMEM_IOC_COPY, COWMEM_IOC_MERGE).
 * @index_bytes: out, memory of the index nodes that this region reaches, in
 *	bytes, those that it shares with other regions included; a node that hangs
 *	at several places (COWMEM_IOC_COPY) counts for each.
 * @clones: out, how many times this region has been cloned.
 * @features: out, COWMEM_FEATURE_* bits.
 * @state: out, COWMEM_STATE_* bits.
 * @pages_huge: out, populated pages that are parts of folios for areas (COWMEM_FILE_HUGE).
 *	Such a page counts as shared as long as another region holds any part of the folio.
 *
 * The counts are exact as long as nobody changes the region during the call.
 * The call takes time in proportion to the populated part of the region and
 * does not stop writers for longer than one index node takes.
 *
 * Needs a descriptor of either mode.
 */
struct cowmem_info {
	__u32 flags;
	__u32 seals;
	__u64 size;
	__u64 pages_populated;
	__u64 pages_exclusive;
	__u64 pages_shared;
	__u64 index_bytes;
	__u64 clones;
	__u64 features;
	__u64 state;
	__u64 pages_huge;
};

/**
 * struct cowmem_resize - COWMEM_IOC_RESIZE: set the size of a region
 * @size: in, the new size in bytes; need not be a multiple of the page size.
 * @flags: in, must be 0.
 * @reserved: in, must be 0.
 *
 * Growing adds a hole.  Shrinking drops what lies past the new size: mapped
 * pages there turn to SIGBUS, and the rest of the last page is zeroed.  What is
 * stored there afterwards, through a mapping, comes to light when the region
 * grows again.
 *
 * Errors:
 *  EBADF	the descriptor is not open for writing
 *  EPERM	the region is sealed: GROW for a larger size, SHRINK for a
 *		smaller one
 *  EFBIG	@size is larger than a file can be
 *  ENOMEM	out of memory (shrinking may have to split shared nodes)
 *  ENOSPC	the module's memory limit is reached
 */
struct cowmem_resize {
	__u64 size;
	__u32 flags;
	__u32 reserved;
};

/**
 * struct cowmem_seal - COWMEM_IOC_SEAL: add seals to a region
 * @seals: in, COWMEM_SEAL_* bits to add, may be 0; out, all bits in force.
 * @flags: in, must be 0.
 *
 * Errors:
 *  EBADF	the descriptor is not open for writing
 *  EINVAL	an unknown bit is set in @seals
 *  EPERM	the region carries COWMEM_SEAL_SEAL and @seals is not 0
 *  EBUSY	COWMEM_SEAL_WRITE is asked for while a shared mapping exists that
 *		is writable or could be made so, or while I/O into the
 *		region's pages is in flight.  Many kernels before 6.7 take any
 *		shared mapping for one, of a descriptor that is open for
 *		writing, as they do with memfds
 *
 * COWMEM_SEAL_FUTURE_WRITE is what F_SEAL_FUTURE_WRITE is for a memfd: mappings that
 * exist go on to write, so that one process can write what others only see.  No
 * writable one can be made any more, and write() and the calls that change content fail
 * as for COWMEM_SEAL_WRITE.
 */
struct cowmem_seal {
	__u32 seals;
	__u32 flags;
};

/* Flags of struct cowmem_clone. */
#define COWMEM_CLONE_SNAPSHOT	(1U << 0)	/* never writable by anyone */
#define COWMEM_CLONE_EXPENDABLE	(1U << 1)	/* a snapshot that yields its memory */

/**
 * struct cowmem_clone - COWMEM_IOC_CLONE: a new region that shares the pages
 * @flags: in, 0 or COWMEM_CLONE_SNAPSHOT, or that and COWMEM_CLONE_EXPENDABLE.
 * @fd: out, the new region: O_CLOEXEC; O_RDWR, or O_RDONLY for a snapshot.
 * @offset: in, start of the range to clone, a multiple of the page size, not
 *	past the end of the region.
 * @length: in, length of the range in bytes, a multiple of the page size; 0
 *	means up to the end of the region.
 *
 * The clone is a regular file of the caller's, see struct cowmem_file.  If the region is
 * a file on a mount, so is the clone: it counts in size= and nr_inodes=, and has no
 * name, as if it was made with O_TMPFILE; linkat() of /proc/self/fd/N gives it one.  The range
 * starts at offset 0 of the clone; its length is the clone's size.
 * @offset 0 and @length 0 clone the whole region, whose size need not be a
 * multiple of the page size.
 *
 * The clone is a consistent cut while other threads and processes write: if a
 * write is in the clone, so is every write that happened before it.
 *
 * The call takes time in proportion to the pages made writable since the last
 * clone, not to the size of the region.  For a range, this needs an @offset that
 * is a multiple of 64 pages; with any other it takes time for each populated page
 * of the range.
 *
 * Pages that I/O in flight (O_DIRECT, a pipe) refers to are copied for the clone
 * at once, and the I/O keeps landing in this region.
 *
 * A snapshot that is made with COWMEM_CLONE_EXPENDABLE yields: where a write fault,
 * write() or fallocate() would fail for want of memory, by the module's limit, by the
 * size= of a mount or by the memory cgroup of who writes, whatever region that is, first
 * the memory of such snapshots is taken back, of the oldest first, of no more than it
 * takes, and the write goes on.  One is left alone if what it alone holds, or holds with
 * others that have to go, does not help: if nothing would be freed and the page could not
 * be written in place without it, or if it counts elsewhere.
 *
 * All of a snapshot goes, at one instant.  From then on read(), mmap(), lseek() for data
 * and the ioctls fail with EIO, also a read() that has not returned yet; access to a
 * mapping is SIGBUS; poll() reports POLLERR, and wakes who waits in it; INFO
 * tells by COWMEM_STATE_YIELDED.  A page that a private mapping has a copy of is the
 * process's own and stays.  What was cloned, restored or copied from the snapshot before
 * is whole.
 *
 * Errors:
 *  EACCES	without COWMEM_CLONE_SNAPSHOT, of a file on a mount: the caller may
 *		neither write to it nor owns it
 *  EBADF	the descriptor is not open for reading
 *  EINVAL	@offset or @length is misaligned, the range overflows or reaches
 *		past the end of the region; COWMEM_CLONE_EXPENDABLE without
 *		COWMEM_CLONE_SNAPSHOT
 *  EROFS	the mount is read-only
 *  EOVERFLOW	the mount maps no ID to the caller's
 *  EMFILE	the caller's descriptor table is full
 *  ENFILE	the system's file table is full
 *  ENOMEM	out of memory
 *  ENOSPC	the module's memory limit is reached
 */
struct cowmem_clone {
	__u32 flags;
	__s32 fd;
	__u64 offset;
	__u64 length;
};

/**
 * struct cowmem_discard - COWMEM_IOC_DISCARD: turn a range back into a hole
 * @offset: in, start of the range in bytes, need not be aligned.
 * @length: in, length of the range in bytes, need not be aligned, not 0.
 * @flags: in, must be 0.
 * @reserved: in, must be 0.
 *
 * Afterwards the range reads as zero, in every mapping.  Whole pages are given
 * back; parts of pages at either end are zeroed.  The size does not change.
 *
 * Errors:
 *  EBADF	the descriptor is not open for writing
 *  EINVAL	@length is 0, the range overflows or reaches past the end of the
 *		region
 *  EPERM	the region carries COWMEM_SEAL_WRITE or COWMEM_SEAL_FUTURE_WRITE
 *  ENOMEM	out of memory (a shared page or node had to be split)
 *  ENOSPC	the module's memory limit is reached
 */
struct cowmem_discard {
	__u64 offset;
	__u64 length;
	__u32 flags;
	__u32 reserved;
};

/* Flags of struct cowmem_restore. */
#define COWMEM_RESTORE_KEEP	(1U << 0)	/* keep written pages mapped */
#define COWMEM_RESTORE_SIZE	(1U << 1)	/* take the size along */

/* The most memory that COWMEM_RESTORE_KEEP keeps for one region, in bytes. */
#define COWMEM_KEEP_MAX		(256ULL << 20)

/**
 * struct cowmem_restore - COWMEM_IOC_RESTORE: make a region equal to another one
 * @fd: in, the other region, usually a snapshot of this one.
 * @flags: in, 0, COWMEM_RESTORE_KEEP, COWMEM_RESTORE_SIZE or both.
 * @pages: out, how many pages differed, or were written back if they were kept.
 * @nodes: out, how many index nodes were compared to find them.
 * @kept: out, how many of the pages were kept.
 * @offset: in, start of the range to restore, a multiple of the page size.
 * @length: in, its length in bytes, likewise; 0 with @offset 0 is all.
 *
 * In place: mappings stay, in every process, and show the other region's content
 * from now on.  For all of them it is one instant: who has seen the restored
 * content of one page sees it of all.  The other region may be written meanwhile;
 * its part in this is that of a clone, which is made first: nobody who uses it waits
 * for longer.
 *
 * The call takes time in proportion to the pages that differ, and to those that
 * were made writable since the last clone, in both regions.
 *
 * With COWMEM_RESTORE_SIZE the region gets the other one's size as well, as by RESIZE.
 * A range has to lie in both regions; what lies around it stays.
 *
 * I/O in flight into pages that differ is lost to the region.  A region may be
 * restored to itself, which changes nothing.
 *
 * With COWMEM_RESTORE_KEEP, pages that were written get the snapshot's content copied
 * back and stay mapped and writable, so that a program which does the same over and over
 * takes no page fault at all; but on a processor that does not note by itself which
 * pages are written (arm64 before v8.1), each takes one now and then.  Each page that is
 * kept is copied back in each round, as nothing tells for sure that it was not written.
 * A page that was not written for some rounds is given back, and so is one that I/O in
 * flight refers to; once that happened to many, a page is kept from the second time on
 * that it is written within some rounds.  No more than COWMEM_KEEP_MAX bytes are ever
 * kept.  This is for a caller who knows that nobody else writes meanwhile: a page that
 * is being written during the call is not restored at one instant.
 *
 * Nothing is kept, and the call does the plain thing, if @fd is not sealed against
 * writing or was written before that and not cloned since, if the region differs
 * from it in more than pages that were written or in too many, if the region was
 * ever mapped privately or through a read-only descriptor, if only a range is restored,
 * or if the kernel cannot tell which pages were written (COWMEM_FEATURE_KEEP).
 *
 * Errors:
 *  EBADF	the descriptor is not open for writing; @fd is not a region's or
 *		not open for reading
 *  EINVAL	the regions differ in size, and neither COWMEM_RESTORE_SIZE nor a
 *		range was asked for; @offset or @length is misaligned, overflows or
 *		reaches past the end of a region; a range together with
 *		COWMEM_RESTORE_SIZE
 *  EPERM	the region carries COWMEM_SEAL_WRITE or COWMEM_SEAL_FUTURE_WRITE, or
 *		COWMEM_SEAL_GROW or COWMEM_SEAL_SHRINK where its size is to change
 *  EFBIG	the new size is larger than the process may make a file
 *  EXDEV	the regions are on different mounts, or @fd has pages of another mount
 *  ENOMEM	out of memory
 *  ENOSPC	the module's memory limit is reached
 */
struct cowmem_restore {
	__s32 fd;
	__u32 flags;
	__u64 pages;
	__u64 nodes;
	__u64 kept;
	__u64 offset;
	__u64 length;
};

/* Kinds of extents. */
#define COWMEM_EXTENT_HOLE	0	/* this region has a hole there */
#define COWMEM_EXTENT_DATA	1	/* this region has pages there */

/**
 * struct cowmem_extent - a range where two regions differ
 * @offset: start in bytes, a multiple of the page size.
 * @length: length in bytes, a multiple of the page size.
 * @kind: COWMEM_EXTENT_*.
 * @reserved: 0.
 */
struct cowmem_extent {
	__u64 offset;
	__u64 length;
	__u32 kind;
	__u32 reserved;
};

/* Flags of struct cowmem_diff. */
#define COWMEM_DIFF_CONTENT	(1U << 0)	/* leave out separate but equal pages */

/**
 * struct cowmem_diff - COWMEM_IOC_DIFF: where does a region differ from another?
 * @fd: in, the other region.
 * @flags: in, 0 or COWMEM_DIFF_CONTENT.
 * @offset: in, where to start, a multiple of the page size; out, where to go on.
 * @extents: in, address of an array of struct cowmem_extent.
 * @count: in, how many extents fit there, not 0; out, how many were found.
 * @reserved: in, must be 0.
 * @nodes: out, how many index nodes were compared.
 *
 * Two pages differ unless the regions share them; with COWMEM_DIFF_CONTENT they
 * differ if their bytes do, and a page of zeroes equals a hole.  Extents come in
 * order and do not overlap; neighbours may be reported apart.  What lies past the
 * end of the smaller region counts as a hole of it.
 *
 * The comparison is complete when @count comes back smaller than it was.  It is
 * exact for regions that nobody writes meanwhile, that is snapshots; of others,
 * a page that is being written may be in the answer or not.
 *
 * The call takes time in proportion to the pages that differ.
 *
 * Errors:
 *  EBADF	a descriptor is not open for reading; @fd is not a region's
 *  EINVAL	@offset is misaligned or @count is 0
 *  EFAULT	@extents cannot be written
 *  ENOMEM	out of memory
 */
struct cowmem_diff {
	__s32 fd;
	__u32 flags;
	__u64 offset;
	__u64 extents;
	__u32 count;
	__u32 reserved;
	__u64 nodes;
};

/**
 * struct cowmem_copy - COWMEM_IOC_COPY: share a range of a region in another one
 * @fd: in, the region to copy from; may be this one.
 * @flags: in, must be 0.
 * @src_offset: in, start of the range there, a multiple of the page size.
 * @dst_offset: in, where it goes in this region, a multiple of the page size.
 * @length: in, length in bytes, a multiple of the page size, not 0.
 *
 * FICLONERANGE does the same, for descriptors that are regular files, and lets the
 * target grow.  No page is copied, and a later write on either side splits it.
 * Holes are copied as holes.  Writers and readers of either region see all of it or
 * nothing.  Ranges of one region may overlap: the target gets what the source held
 * before.
 *
 * Index nodes are shared whole where the difference of the offsets is a multiple
 * of 64 pages; otherwise the call takes time for each populated page.
 *
 * Errors:
 *  EBADF	the descriptor is not open for writing; @fd is not a region's or
 *		not open for reading
 *  EINVAL	@length is 0, an offset or @length is misaligned, a range
 *		overflows or reaches past the end of its region
 *  EPERM	the region carries COWMEM_SEAL_WRITE or COWMEM_SEAL_FUTURE_WRITE
 *  EXDEV	the regions are on different mounts, or @fd has pages of another mount
 *  ENOMEM	out of memory
 *  ENOSPC	the module's memory limit is reached
 */
struct cowmem_copy {
	__s32 fd;
	__u32 flags;
	__u64 src_offset;
	__u64 dst_offset;
	__u64 length;
};

/* The most regions that one COWMEM_IOC_CLONE_MANY takes. */
#define COWMEM_CLONE_MANY_MAX	65536

/**
 * struct cowmem_clone_many - COWMEM_IOC_CLONE_MANY: clone regions at one instant
 * @fds: in, address of an array of __s32: the regions, in any order; one may be
 *	named twice.  The region that the ioctl is called on counts only if it is
 *	among them.
 * @clones: in, address of an array of __s32 that receives a new descriptor for
 *	each, as struct cowmem_clone describes; may be the same array.
 * @count: in, length of the arrays, 1 to COWMEM_CLONE_MANY_MAX.
 * @flags: in, 0 or COWMEM_CLONE_SNAPSHOT, or that and COWMEM_CLONE_EXPENDABLE.
 *
 * One consistent cut through all of them: if a write to one region is in its
 * clone, so is every write that happened before it, to any of the regions.
 * Either all are cloned or none.
 *
 * Errors:
 *  EACCES, EROFS, EOVERFLOW	see struct cowmem_clone
 *  EBADF	one of the descriptors is not a region's or not open for reading
 *  EINVAL	@count is 0 or too large; COWMEM_CLONE_EXPENDABLE without
 *		COWMEM_CLONE_SNAPSHOT
 *  EFAULT	an array cannot be read or written
 *  EMFILE	the caller's descriptor table is full
 *  ENFILE	the system's file table is full
 *  ENOMEM	out of memory
 *  ENOSPC	the module's memory limit is reached
 */
struct cowmem_clone_many {
	__u64 fds;
	__u64 clones;
	__u32 count;
	__u32 flags;
};

/* The most ranges that one COWMEM_IOC_MERGE takes. */
#define COWMEM_MERGE_MAX	256

/**
 * struct cowmem_merge_range - a part of a region in which to look for equal pages
 * @fd: the region.
 * @reserved: must be 0.
 * @offset: start of the range, a multiple of the page size.
 * @length: length in bytes, a multiple of the page size; 0 means up to the end
 *	of the region.  What lies past the end counts as a hole.
 */
struct cowmem_merge_range {
	__s32 fd;
	__u32 reserved;
	__u64 offset;
	__u64 length;
};

/**
 * struct cowmem_merge_entry - where a page of some content was seen
 * @hash: of the content.
 * @range: number of the range in the array, plus 1; 0 is a free entry.
 * @offset: of the page in its region.
 *
 * For the module alone.  What is in an entry need not be true: it leads to a page
 * that is then compared, or is ignored.
 */
struct cowmem_merge_entry {
	__u32 hash;
	__u32 range;
	__u64 offset;
};

/**
 * struct cowmem_merge - COWMEM_IOC_MERGE: share pages of equal content
 * @ranges: in, address of an array of struct cowmem_merge_range.
 * @count: in, its length, 1 to COWMEM_MERGE_MAX.
 * @flags: in, must be 0.
 * @table: in, address of an array of struct cowmem_merge_entry, the caller's
 *	memory of what was seen.  Zero it before the first call.
 * @entries: in, its length, not 0.  A page that is to be found again needs an
 *	entry, and twice as many lose few to collisions.
 * @next: in, the range to start with, 0 at first; out, the one to go on with;
 *	equal to @count when all have been looked at.
 * @offset: in, where to start in range @next, a multiple of the page size, 0 at
 *	first; out, where to go on.  Before the range's own start means there.
 * @budget: in, how many pages to look at, at most; 0 is no limit.
 * @scanned: out, pages looked at.
 * @merged: out, pages that were replaced by an equal one.
 * @zeroed: out, pages full of zeroes that became holes.
 * @saved: out, bytes of pages that were freed by it.
 *
 * Finds pages of equal content among those looked at since @table was zeroed.
 * They are compared in full, with writers stopped, before they are shared; a page
 * that is being written, or that I/O in flight refers to, is left alone, and so are
 * pages of different mounts.  No content changes.
 *
 * A daemon repeats the call with a small @budget, the same arrays and what came
 * out in @next and @offset, until @next is @count; then it zeroes the table and
 * @next and @offset to begin again.
 *
 * What is shared tells by the time that a write takes that somebody else has the
 * same content.  So the caller must be able to read and write all regions.
 *
 * A fatal signal, and any error after the first page was looked at, ends the call;
 * what was merged until then stays so.
 *
 * Errors:
 *  EBADF	one of the descriptors is not a region's or not open for reading
 *		and writing
 *  EINVAL	@count is 0 or too large, @next is larger than @count, @entries
 *		is 0, an @offset or @length is misaligned or overflows
 *  EFAULT	@ranges cannot be read, @table cannot be read or written
 *  EPERM	one of the regions carries COWMEM_SEAL_WRITE
 *  ENOMEM	out of memory
 *  ENOSPC	the module's memory limit is reached
 */
struct cowmem_merge {
	__u64 ranges;
	__u32 count;
	__u32 flags;
	__u64 table;
	__u32 entries;
	__u32 next;
	__u64 offset;
	__u64 budget;
	__u64 scanned;
	__u64 merged;
	__u64 zeroed;
	__u64 saved;
};

/* Flags of struct cowmem_file. */
#define COWMEM_FILE_RDONLY	(1U << 0)	/* the descriptor is open for reading only */
#define COWMEM_FILE_VIEW	(1U << 1)	/* likewise, and nobody can reopen it for writing */
#define COWMEM_FILE_HUGE	(1U << 2)	/* have memory by areas from now on */

/* The longest name, in bytes, without the NUL. */
#define COWMEM_FILE_NAME_MAX	248

/**
 * struct cowmem_file - COWMEM_IOC_FILE: another descriptor of the region, a regular file
 * @flags: in, 0 (open for reading and writing), COWMEM_FILE_RDONLY or COWMEM_FILE_VIEW;
 *	and COWMEM_FILE_HUGE.
 * @fd: out, the descriptor, O_CLOEXEC.
 * @name: in, address of a string that ends with a NUL, or 0: the region's number.
 *
 * Of a file on a mount it is as if that was opened again by its path, without asking for
 * permission; unless it gets a name or is a COWMEM_FILE_VIEW.
 *
 * What open("/dev/cowmem") returns is a descriptor of a character device, and
 * whatever acts on the inode of a descriptor, fstat(), ftruncate(), fchmod() and
 * the like, meets the device's.  This one is a regular file's, whose inode is the
 * region.  "/cowmem:NAME (deleted)" stands for it in /proc/PID/fd and in
 * /proc/PID/maps, where the name need not be the only one of its kind.  Clones
 * and snapshots are such files from the start, with their number for a name.
 *
 * The file belongs to whoever made the region, with mode 0600, or 0400 if it is a
 * snapshot.  Who may read or write it by mode and owner may open /proc/PID/fd/N
 * again for that, whatever the descriptor was open for.  With two exceptions: a
 * region that carries COWMEM_SEAL_WRITE or COWMEM_SEAL_FUTURE_WRITE is not opened
 * for writing (EPERM), nor is a file made with COWMEM_FILE_VIEW (EACCES), be it by
 * root: it shows the live memory and never writes it.
 *
 * An area is what the processor may map as one, at a multiple of its size: 2 MiB where
 * pages are of 4 KiB, 32 MiB where they are of 16 KiB, 512 MiB where they are of 64 KiB.
 * With COWMEM_FILE_HUGE the first write to each area allocates all of it, if so much
 * memory can be had at once, as on a mount with huge=always.  A store does where all of
 * it is inside the region; write() and fallocate(), which may make that larger, do at its
 * end as well.  Without, that is done where a mapping asks for it by
 * madvise(MADV_HUGEPAGE), and for who writes pages in order: at the start of each area if
 * all of that before it was written since the last clone; but not once COWMEM_RESTORE_KEEP
 * was used.  Pages that share such memory are copied one by one like any others, or all
 * together for who writes in order.  It is given back when nobody holds any part of it.
 * Clones do as their source does.  Neither is done where MADV_NOHUGEPAGE says so, nor on a
 * mount with huge=never, nor in a region of the device that was made while the module's
 * parameter "huge" said so.  Content never depends on it.
 * Without COWMEM_FEATURE_HUGE it changes nothing.
 *
 * Errors:
 *  EBADF	the descriptor is not open for reading; or not for writing, unless @flags
 *		has COWMEM_FILE_RDONLY or COWMEM_FILE_VIEW and not COWMEM_FILE_HUGE
 *  EACCES	@flags has no COWMEM_FILE_VIEW, and the descriptor is of that kind
 *  EPERM	the file is to be open for writing and the region carries COWMEM_SEAL_WRITE or
 *		COWMEM_SEAL_FUTURE_WRITE
 *  EROFS	the file is to be open for writing and the mount is read-only
 *  ETXTBSY	the file is to be open for writing, and is a program of a mount that runs
 *  EINVAL	@flags has both COWMEM_FILE_RDONLY and COWMEM_FILE_VIEW, or the name is
 *		longer than COWMEM_FILE_NAME_MAX
 *  EFAULT	@name cannot be read
 *  EMFILE	the caller's descriptor table is full
 *  ENFILE	the system's file table is full
 *  ENOMEM	out of memory
 */
struct cowmem_file {
	__u32 flags;
	__s32 fd;
	__u64 name;
};

#define COWMEM_IOC_INFO		_IOWR(COWMEM_IOC_TYPE, 0, struct cowmem_info)
#define COWMEM_IOC_RESIZE	_IOWR(COWMEM_IOC_TYPE, 1, struct cowmem_resize)
#define COWMEM_IOC_SEAL		_IOWR(COWMEM_IOC_TYPE, 2, struct cowmem_seal)
#define COWMEM_IOC_CLONE	_IOWR(COWMEM_IOC_TYPE, 3, struct cowmem_clone)
#define COWMEM_IOC_DISCARD	_IOWR(COWMEM_IOC_TYPE, 4, struct cowmem_discard)
#define COWMEM_IOC_RESTORE	_IOWR(COWMEM_IOC_TYPE, 5, struct cowmem_restore)
#define COWMEM_IOC_DIFF		_IOWR(COWMEM_IOC_TYPE, 6, struct cowmem_diff)
#define COWMEM_IOC_COPY		_IOWR(COWMEM_IOC_TYPE, 7, struct cowmem_copy)
#define COWMEM_IOC_CLONE_MANY	_IOWR(COWMEM_IOC_TYPE, 8, struct cowmem_clone_many)
#define COWMEM_IOC_MERGE	_IOWR(COWMEM_IOC_TYPE, 9, struct cowmem_merge)
#define COWMEM_IOC_FILE		_IOWR(COWMEM_IOC_TYPE, 10, struct cowmem_file)

#endif /* _UAPI_LINUX_COWMEM_H */
