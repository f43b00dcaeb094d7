/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * libcowmem - memory regions that can be cloned live
 *
 * A region is a file, known by a descriptor. All descriptors that this library returns are those of regular files
 * and close on exec; close() ends them. What is said for files holds: mmap(), read(), write(), lseek(), fstat(),
 * fallocate(), fcntl() locks, and so on.
 *
 * Functions that return int return -1 and set errno if they fail, and those that return a pointer return NULL
 * (cowmem_map(): MAP_FAILED). A call that failed changed nothing, unless it says so. Offsets, lengths and sizes are in
 * bytes. All functions may be called by many threads at once, but for those on one cowmem_merger or
 * one cowmem_buf, which are like any other variable. None is a cancellation point by promise; none is safe in a
 * signal handler.
 *
 * Errors that every function on a region may give, and that are not listed again:
 *
 *  EBADF	the descriptor is closed, or not open for what the call needs
 *  ENOTTY	the descriptor is no region's
 *  EOPNOTSUPP	the module that is loaded does not know a flag: it is older than the flag (cowmem_features())
 *  EINTR	a fatal signal arrived
 *  EIO		broken memory, or a snapshot that has yielded (COWMEM_CLONE_EXPENDABLE)
 *  ENOMEM	out of memory
 *  ENOSPC	the limit of the module or of the mount is reached
 *
 * What a call does in all detail, and the rest of its errors, is in <linux/cowmem.h> and in ioctl_cowmem(2).
 */
#ifndef LIBCOWMEM_H
#define LIBCOWMEM_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <linux/cowmem.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The version of this header; and of the library that is linked: "1.0", or "1.0.2" once that was mended twice. */
#define LIBCOWMEM_VERSION_MAJOR	1
#define LIBCOWMEM_VERSION_MINOR	0
const char *cowmem_version(void);

/* ---- is it there? ---- */

/**
 * cowmem_features - what the module that is loaded can do on this kernel
 * @features: where COWMEM_FEATURE_* go
 *
 * Errors: those of cowmem_create().
 *
 *	uint64_t features;
 *
 *	if (cowmem_features(&features))
 *		errx(1, "%s", cowmem_strerror(errno));
 *	if (!(features & COWMEM_FEATURE_KEEP))
 *		flags &= ~COWMEM_RESTORE_KEEP;
 */
int cowmem_features(uint64_t *features);

/**
 * cowmem_strerror - a sentence for an errno of this library, that says what to do
 * @error: an errno that a function of this library has set
 *
 * As strerror(), and for ENODEV, EACCES, EINVAL, ENOTTY, EOPNOTSUPP and ENOSPC what they mean here: "the module
 * cowmem is not loaded: modprobe cowmem". The string is constant; it is not freed.
 */
const char *cowmem_strerror(int error);

/**
 * cowmem_is_region - is this descriptor a region's?
 * @fd: any number
 *
 * Takes no time, whatever the region holds, and needs no right but the descriptor.
 *
 * Return: 1, or 0 if it is something else, or closed. It does not fail, and errno stays as it was.
 *
 *	if (!cowmem_is_region(fd))
 *		errx(1, "%s: %s", path, cowmem_strerror(ENOTTY));
 */
int cowmem_is_region(int fd);

/* ---- regions ---- */

/* Flags of cowmem_create(). */
#define COWMEM_CREATE_HUGE	COWMEM_FILE_HUGE	/* memory is had 2 MiB (with pages of 4 KiB) at a time */

/**
 * cowmem_create - make a new region, full of zeroes
 * @name: what /proc/PID/maps shows of it, or NULL: its number. At most COWMEM_FILE_NAME_MAX bytes; need not be unique.
 * @size: its size in bytes
 * @flags: 0 or COWMEM_CREATE_HUGE
 *
 * Returns a descriptor, open for reading and writing.
 *
 * Errors:
 *  ENODEV	the module is not loaded, or there is no /dev/cowmem
 *  EACCES	the caller may not open /dev/cowmem
 *  EINVAL	@name is too long, or @flags has an unknown bit
 *  EFBIG	@size is larger than a file can be
 *  EMFILE, ENFILE	too many open files
 *
 *	int fd = cowmem_create("heap", 64 << 20, 0);
 *	char *mem = cowmem_map(fd, 0, 64 << 20, PROT_READ | PROT_WRITE);
 */
int cowmem_create(const char *name, uint64_t size, unsigned int flags);

/**
 * cowmem_reopen - another descriptor of a region
 * @fd: any descriptor of it
 * @name: as for cowmem_create()
 * @flags: 0, COWMEM_FILE_RDONLY or COWMEM_FILE_VIEW, and COWMEM_FILE_HUGE
 *
 * With COWMEM_FILE_VIEW the descriptor shows the live memory, and whoever gets it can never write there.
 *
 * Errors: EACCES, EPERM, EINVAL, EMFILE, ENFILE, see struct cowmem_file.
 */
int cowmem_reopen(int fd, const char *name, unsigned int flags);

/**
 * cowmem_clone - a new region that shares every page, without stopping who writes
 * @fd: the region, open for reading
 * @flags: 0, COWMEM_CLONE_SNAPSHOT, or that and COWMEM_CLONE_EXPENDABLE
 *
 * Returns a descriptor of the clone: for reading and writing, or for reading only if it is a snapshot.
 *
 * Errors: EINVAL, EACCES, EROFS, EOVERFLOW, EMFILE, ENFILE, see struct cowmem_clone.
 */
int cowmem_clone(int fd, unsigned int flags);

/* cowmem_snapshot - cowmem_clone() with COWMEM_CLONE_SNAPSHOT: can never be written, by anyone. */
int cowmem_snapshot(int fd);

/**
 * cowmem_clone_range - a clone of a part of a region
 * @offset: start of the part, a multiple of the page size
 * @length: its length, likewise; 0 is up to the end
 *
 * Errors: as cowmem_clone(), and EINVAL if the range is not in the region or not of whole pages.
 */
int cowmem_clone_range(int fd, uint64_t offset, uint64_t length, unsigned int flags);

/**
 * cowmem_clone_many - clone regions at one instant
 * @fds: @count descriptors
 * @clones: where @count new descriptors go; may be the same array
 * @count: 1 to COWMEM_CLONE_MANY_MAX
 * @flags: as for cowmem_clone()
 *
 * One consistent cut through all of them: all are cloned or none.
 */
int cowmem_clone_many(const int *fds, int *clones, size_t count, unsigned int flags);

/**
 * cowmem_restore - make a region equal to another one, usually a snapshot of it, in place
 * @fd: the region, open for writing
 * @from: the other region
 * @flags: 0, COWMEM_RESTORE_KEEP, COWMEM_RESTORE_SIZE, or both
 * @pages: where the number of pages goes that differed, or NULL
 *
 * Errors: EINVAL (the sizes differ), EPERM (sealed), EFBIG, EXDEV, see struct cowmem_restore.
 */
int cowmem_restore(int fd, int from, unsigned int flags, uint64_t *pages);

/*
 * cowmem_restore_range - the same for whole pages that lie in both regions; what is around them stays. Unlike elsewhere
 * a @length of 0 is an error, EINVAL.
 */
int cowmem_restore_range(int fd, int from, uint64_t offset, uint64_t length, uint64_t *pages);

/* cowmem_resize - set the size, in bytes. Errors: EPERM (sealed), EFBIG. */
int cowmem_resize(int fd, uint64_t size);

/* cowmem_discard - turn a range, which need not be aligned, into a hole. Errors: EPERM (sealed), EINVAL. */
int cowmem_discard(int fd, uint64_t offset, uint64_t length);

/**
 * cowmem_copy - share whole pages of a region in another one, or elsewhere in the same
 * @to, @to_offset: where they go; open for writing
 * @from, @from_offset: where they are
 * @length: in bytes, a multiple of the page size, not 0
 *
 * Errors: EINVAL (range), EPERM (sealed), EXDEV (other mount).
 */
int cowmem_copy(int to, uint64_t to_offset, int from, uint64_t from_offset, uint64_t length);

/* cowmem_seal - add COWMEM_SEAL_* bits, for good. Errors: EINVAL, EPERM, EBUSY (mapped for writing). */
int cowmem_seal(int fd, unsigned int seals);

/* cowmem_get_info - what a region is and holds. Fields that the module does not know are 0. */
int cowmem_get_info(int fd, struct cowmem_info *info);

/**
 * cowmem_diff_fn - told of one range where two regions differ
 * Return: 0 to go on; anything else ends cowmem_diff(), which returns it.
 */
typedef int (*cowmem_diff_fn)(const struct cowmem_extent *extent, void *arg);

/**
 * cowmem_diff - where does @fd differ from @other?
 * @flags: 0 or COWMEM_DIFF_CONTENT
 * @fn: called for each range, in order of their offsets; neighbours of one kind come as one
 * @arg: passed to it
 *
 * Return: 0, -1 with errno, or what @fn returned.
 *
 *	static int print(const struct cowmem_extent *e, void *arg)
 *	{
 *		return printf("%llu+%llu\n", e->offset, e->length) < 0;
 *	}
 *
 *	cowmem_diff(now, before, 0, print, NULL);
 */
int cowmem_diff(int fd, int other, unsigned int flags, cowmem_diff_fn fn, void *arg);

/* ---- equal pages ---- */

struct cowmem_merger;

/* What a merger has done since it was made; all but @saved in pages. */
struct cowmem_merge_stats {
	uint64_t scanned;	/* looked at */
	uint64_t merged;	/* replaced by an equal one */
	uint64_t zeroed;	/* full of zeroes, became holes */
	uint64_t saved;		/* bytes that were freed */
	uint64_t rounds;	/* how often all ranges were looked at */
};

/**
 * cowmem_merger_new - something that finds pages of equal content and shares them
 * @pages: how many pages it should remember, 0 for as many as are in its ranges when it begins a round.
 *	Each takes 32 bytes.
 *
 * Errors: ENOMEM.
 */
struct cowmem_merger *cowmem_merger_new(size_t pages);

/**
 * cowmem_merger_add - let it look at a range of a region; a @length of 0 is up to the end
 *
 * The merger keeps a descriptor of its own. The region must be open for reading and writing. Begins a new round.
 * Errors: EINVAL (not of whole pages), ENOSPC (COWMEM_MERGE_MAX ranges already), EMFILE.
 */
int cowmem_merger_add(struct cowmem_merger *merger, int fd, uint64_t offset, uint64_t length);

/**
 * cowmem_merger_step - look at some pages
 * @budget: how many at most; 0 is all that are left of this round
 * @stats: where the sums since cowmem_merger_new() go, or NULL
 *
 * Return: 1 if this ended a round, else 0, or -1. What was merged before an error stays so.
 * Errors: EINVAL (no range was added), EPERM (a region was sealed against writing).
 *
 *	struct cowmem_merger *m = cowmem_merger_new(0);
 *
 *	cowmem_merger_add(m, fd, 0, 0);
 *	while (!cowmem_merger_step(m, 4096, NULL))
 *		usleep(10000);
 */
int cowmem_merger_step(struct cowmem_merger *merger, uint64_t budget, struct cowmem_merge_stats *stats);

/* cowmem_merger_free - NULL is allowed. Never fails, leaves errno alone. */
void cowmem_merger_free(struct cowmem_merger *merger);

/* ---- mappings ---- */

/**
 * cowmem_map - map a region, shared
 * @offset: a multiple of the page size
 * @length: in bytes
 * @prot: PROT_READ, PROT_WRITE, PROT_EXEC
 *
 * Return: the address, or MAP_FAILED; munmap() ends it. Errors: those of mmap().
 */
void *cowmem_map(int fd, uint64_t offset, size_t length, int prot);

/**
 * cowmem_remap - put another region in the place of one that is mapped: an atomic switch
 * @addr: start of the mapping to replace, a multiple of the page size
 *
 * Other threads see the old region's memory or the new one's, and never an address that is not mapped.
 * Both are mapped for a moment, which counts where such things are limited: address space, locked memory.
 * Errors: those of mmap() and mremap(); then the old mapping is still there, unless that was ENOMEM, which may come
 * when it is gone.
 */
int cowmem_remap(void *addr, size_t length, int fd, uint64_t offset, int prot);

/* ---- other processes ---- */

/* A region that a process has. */
struct cowmem_found {
	pid_t pid;
	int fd;			/* its descriptor there, or -1: only mapped */
	uint64_t dev;		/* st_dev and st_ino tell regions apart, 0 if they are not known */
	uint64_t ino;
	uint64_t mapped;	/* bytes of mappings of it in that process */
	uint64_t addr;		/* where one of them starts, 0 if there is none */
	const char *name;	/* as in /proc/PID/fd or maps; valid during the call */
};

/* Return: 0 to go on; anything else ends cowmem_find(), which returns it. */
typedef int (*cowmem_found_fn)(const struct cowmem_found *found, void *arg);

/**
 * cowmem_find - all regions of a process: each descriptor of one, and each that is only mapped
 * @pid: the process, 0 for the caller
 *
 * What is mapped through a descriptor that open("/dev/cowmem") returned does not show which region it is: it is told
 * of with such a descriptor, if all that the process has are of one region; without any, as a region whose dev and
 * ino are 0; else it is not told of. What cowmem_create() and its like return has no such gap.
 *
 * A process that ends meanwhile, or closes and maps things, is no error: what was found is told.
 *
 * Errors: ESRCH (no such process), EACCES or EPERM (as ptrace).
 */
int cowmem_find(pid_t pid, cowmem_found_fn fn, void *arg);

/**
 * cowmem_take - a descriptor of a region of another process
 * @pid: the process
 * @fd: its descriptor there
 *
 * pidfd_getfd(): needs the rights of ptrace. Of a region that is only mapped see cowmem_take_mapped().
 * Errors: ESRCH, EPERM, ENOTTY (no region), EBADF (no such descriptor there).
 */
int cowmem_take(pid_t pid, int fd);

/**
 * cowmem_take_mapped - a descriptor of the region that a process has mapped at an address
 *
 * @pid: the process, 0 for the caller
 * @addr: any address in the mapping
 * @flags: 0, to read and write, or COWMEM_FILE_RDONLY
 *
 * Through /proc/PID/map_files, which needs CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN. It opens the region's file as its
 * mode, owner and seals allow. The mapping of a descriptor that open("/dev/cowmem") returned cannot be taken.
 * Errors: ESRCH, EPERM (no right to, or sealed), EACCES, ENOENT (nothing is mapped there), ENOTTY (no region),
 * ENXIO (mapped through the device), EINVAL (@flags).
 */
int cowmem_take_mapped(pid_t pid, uint64_t addr, unsigned int flags);

/* The most descriptors that go in one message. */
#define COWMEM_SEND_MAX	253

/**
 * cowmem_send - send descriptors over a connected AF_UNIX socket
 * @fds, @count: the descriptors, 1 to COWMEM_SEND_MAX
 * @data, @length: bytes that go along, or NULL and 0: one byte of zero, as a stream wants one
 *
 * An ordinary message with SCM_RIGHTS: the other end need not use this library. Once a part went, it waits for the
 * rest to go, even if the socket does not block. No signal comes of a socket that the other end has closed.
 *
 * Errors: those of sendmsg(), EINVAL (@count).
 */
int cowmem_send(int sock, const int *fds, size_t count, const void *data, size_t length);

/**
 * cowmem_receive - receive what cowmem_send() sent
 * @fds: where at most *@count descriptors go; *@count is set to how many came
 * @data: where at most *@length bytes go; *@length is set to how many came; both may be NULL, then a byte is dropped
 *
 * The descriptors close on exec, and each is a region's. If more came than fit, or one is no region's, all are closed
 * and the call fails. Bytes that do not fit stay in a stream for the next call; of another socket that is an error.
 * Errors: those of recvmsg(), EMSGSIZE (more came than fit), ENOTTY (one is no region's), EMFILE (not all could be
 * received), ECONNRESET (the other end is closed).
 */
int cowmem_receive(int sock, int *fds, size_t *count, void *data, size_t *length);

/* ---- an implicit-sharing value ---- */

/*
 * From so many bytes on the content of a cowmem_buf is in a region. Below, to copy all of it takes less than to clone a
 * region, map it and write one page of it; cowmem_buf(3) has the figures.
 */
#define COWMEM_BUF_REGION	(1 << 20)

/*
 * A buffer that is passed by value: a copy takes a constant time, and a write after it copies the pages that are
 * written, not the buffer. As with the values of Qt: each thread has its own variables, and any number of variables, in
 * any threads, may share their content.
 *
 * From COWMEM_BUF_REGION bytes on the content is in a region, and each content takes a descriptor and a mapping; a
 * smaller one is in ordinary memory and is copied whole by the first write.
 *
 * After fork() both processes have all values, as if each had been copied; a child that was made by vfork(), _Fork() or
 * clone() must not use them.
 */
typedef struct cowmem_buf cowmem_buf;

/* cowmem_buf_new - @size bytes of zeroes. Errors: as cowmem_create(). */
cowmem_buf *cowmem_buf_new(size_t size);

/* cowmem_buf_from - a new value with a copy of @size bytes at @data. */
cowmem_buf *cowmem_buf_from(const void *data, size_t size);

/* cowmem_buf_dup - a copy, in constant time. Errors: ENOMEM. */
cowmem_buf *cowmem_buf_dup(const cowmem_buf *buf);

/* cowmem_buf_size - in bytes. */
size_t cowmem_buf_size(const cowmem_buf *buf);

/*
 * cowmem_buf_read - its content, to be read only. Valid until the next cowmem_buf_write(), cowmem_buf_resize() or
 * cowmem_buf_free() of this value. Never fails.
 */
const void *cowmem_buf_read(const cowmem_buf *buf);

/*
 * cowmem_buf_write - its content, to be written, which no other value sees. Valid as that of cowmem_buf_read(), and no
 * longer than until this value is copied and until fork(), also by another thread: call it again after those. NULL and
 * errno if it was shared, and there is no memory or descriptor for a content of its own: as cowmem_clone() and mmap().
 */
void *cowmem_buf_write(cowmem_buf *buf);

/*
 * cowmem_buf_resize - what is added is zero. A child that another thread forks during the call must not use this value:
 * it may have the old size with a content of the new one. Errors: as cowmem_create() and cowmem_clone().
 */
int cowmem_buf_resize(cowmem_buf *buf, size_t size);

/*
 * cowmem_buf_compare - as memcmp() of both, and a shorter one that the other begins with is less. Pages that are shared
 * are not looked at. Never fails.
 */
int cowmem_buf_compare(const cowmem_buf *a, const cowmem_buf *b);

/* cowmem_buf_shared - does another value share the content as a whole, here or in a process that was forked? */
int cowmem_buf_shared(const cowmem_buf *buf);

/* cowmem_buf_free - NULL is allowed. Leaves errno alone. */
void cowmem_buf_free(cowmem_buf *buf);

#ifdef __cplusplus
}
#endif

#endif /* LIBCOWMEM_H */
