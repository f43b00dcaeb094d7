/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * cowmem - memory regions that can be cloned live
 *
 * A region is an open file description: open("/dev/cowmem") makes a new, empty
 * one, COWMEM_IOC_CLONE makes one that shares every page of another.  The file
 * descriptor is the only handle.  mmap(), read(), write(), lseek() and the
 * ioctls below work on every region.
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
 * These errors mean the same for every ioctl and are not listed again:
 *
 *  ENOTTY	the command is unknown
 *  EINVAL	the struct is shorter than its first published version, or a
 *		reserved field is not zero
 *  E2BIG	the struct has a non-zero tail that the module does not know
 *  EOPNOTSUPP	an unknown bit is set in @flags
 *  EFAULT	the struct cannot be read or written
 *  EBADF	the descriptor is closed, or is not open in the mode that the
 *		ioctl needs (named per ioctl)
 *  EINTR	a fatal signal arrived
 */
#ifndef _UAPI_LINUX_COWMEM_H
#define _UAPI_LINUX_COWMEM_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define COWMEM_IOC_TYPE	0xC3

/*
 * Seals.  Once set, a seal stays for the life of the region; a clone starts
 * without any.  A snapshot is born with all of them.
 */
#define COWMEM_SEAL_SEAL	(1U << 0)	/* no further seal can be added */
#define COWMEM_SEAL_SHRINK	(1U << 1)	/* the size cannot decrease */
#define COWMEM_SEAL_GROW	(1U << 2)	/* the size cannot increase */
#define COWMEM_SEAL_WRITE	(1U << 3)	/* the content cannot change */

/**
 * struct cowmem_info - COWMEM_IOC_INFO: what a region is and holds
 * @flags: in, must be 0.
 * @seals: out, COWMEM_SEAL_* bits in force.
 * @size: out, size of the region in bytes.
 * @pages_populated: out, pages that the region holds; the rest are holes that
 *	read as zero and cost nothing.
 * @pages_exclusive: out, populated pages that no other region holds.
 * @pages_shared: out, populated pages that another region holds too.
 * @index_bytes: out, memory of the index nodes that this region reaches, in
 *	bytes, those that it shares with other regions included.
 * @clones: out, how many times this region has been cloned.
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
};

/**
 * struct cowmem_resize - COWMEM_IOC_RESIZE: set the size of a region
 * @size: in, the new size in bytes; need not be a multiple of the page size.
 * @flags: in, must be 0.
 * @reserved: in, must be 0.
 *
 * Growing adds a hole.  Shrinking drops what lies past the new size: mapped
 * pages there turn to SIGBUS, and the rest of the last page is zeroed.
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
 *		region's pages is in flight
 */
struct cowmem_seal {
	__u32 seals;
	__u32 flags;
};

/* Flags of struct cowmem_clone. */
#define COWMEM_CLONE_SNAPSHOT	(1U << 0)	/* never writable by anyone */

/**
 * struct cowmem_clone - COWMEM_IOC_CLONE: a new region that shares the pages
 * @flags: in, 0 or COWMEM_CLONE_SNAPSHOT.
 * @fd: out, the new region: O_CLOEXEC; O_RDWR, or O_RDONLY for a snapshot.
 * @offset: in, start of the range to clone, a multiple of the page size, not
 *	past the end of the region.
 * @length: in, length of the range in bytes, a multiple of the page size; 0
 *	means up to the end of the region.
 *
 * The range starts at offset 0 of the clone; its length is the clone's size.
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
 * Errors:
 *  EBADF	the descriptor is not open for reading
 *  EINVAL	@offset or @length is misaligned, the range overflows or reaches
 *		past the end of the region
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
 *  EPERM	the region carries COWMEM_SEAL_WRITE
 *  ENOMEM	out of memory (a shared page or node had to be split)
 *  ENOSPC	the module's memory limit is reached
 */
struct cowmem_discard {
	__u64 offset;
	__u64 length;
	__u32 flags;
	__u32 reserved;
};

#define COWMEM_IOC_INFO		_IOWR(COWMEM_IOC_TYPE, 0, struct cowmem_info)
#define COWMEM_IOC_RESIZE	_IOWR(COWMEM_IOC_TYPE, 1, struct cowmem_resize)
#define COWMEM_IOC_SEAL		_IOWR(COWMEM_IOC_TYPE, 2, struct cowmem_seal)
#define COWMEM_IOC_CLONE	_IOWR(COWMEM_IOC_TYPE, 3, struct cowmem_clone)
#define COWMEM_IOC_DISCARD	_IOWR(COWMEM_IOC_TYPE, 4, struct cowmem_discard)

#endif /* _UAPI_LINUX_COWMEM_H */
