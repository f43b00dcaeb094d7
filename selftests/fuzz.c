// SPDX-License-Identifier: GPL-2.0-only
/*
 * Promise: whatever an unprivileged user does with the descriptors that he was
 * given, he gets documented errors; what he was not given, or only to read, stays
 * exact, and the kernel has nothing to report.
 *
 * A fuzzer that knows the structs.  Some processes, of a user without any rights,
 * have a snapshot, a clone of a region that is kept from them, two descriptors to read
 * what somebody else has, and a region; in each, two threads make calls while another
 * one changes the structs under way.
 *
 * COWMEM_SEED replays a run, as far as threads can be replayed.  COWMEM_FUZZ_OPS is
 * how many calls each thread makes.
 */
#include <linux/falloc.h>
#include <linux/fs.h>
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>

#include "../kselftest.h"
#include "common.h"
#include "module.h"

enum {
	PROCESSES = 2,
	THREADS = 2,
	OPS = 2000,
	PAGES = 160,		/* of the regions at first */
	WINDOW = 256,		/* pages of a window */
	WINDOWS = 4,		/* mappings of regions, for each thread */
	SLOTS = 12,		/* regions that a process knows */
	BASE_FDS = 64,		/* below are descriptors that stay */
	MAX_FDS = 160,
	SWEEP = 200,		/* calls until all new descriptors are closed */
	SHORT = 3 * MIB_PAGES,	/* all that there are, so that memory is short at times */
	POPULATED = 1024,	/* the most pages in a region that goes on */
};

/* ---- what the fuzzer has at hand ---- */

/* The first three are somebody else's, and not to be written. */
enum {
	SNAPSHOT = 3, VIEW, READER, CLONE, OWN, READ_ONLY, WRITE_ONLY, FOREIGN,
	NAMED = FOREIGN - SNAPSHOT, GIVEN = OWN - SNAPSHOT,
};

static int slots[SLOTS];	/* descriptors of regions, of this process */
static unsigned int nr_foreign;

static char *arena;		/* structs and arrays; the end cannot be accessed */
static char *racing;		/* the same, and another thread writes to it */
static char *read_only;
static char *windows;
static int stop;

/* What threads of the parent and of the children tell each other. */
static struct {
	int ready;
	int undocumented;
	uint64_t calls[16], good[16], gone[16];
} *shared;

static __thread uint64_t seed;
static __thread unsigned int me;
static __thread sigjmp_buf env;
static __thread volatile bool may_fault;

static uint64_t rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static uint64_t pick(uint64_t n)
{
	return (rnd() >> 11) % n;
}

static bool one_in(uint64_t n)
{
	return !pick(n);
}

static char *window(unsigned int thread, unsigned int i)
{
	return windows + ((size_t)thread * WINDOWS + i) * WINDOW * pgsz();
}

static uint64_t any_number(void)
{
	const uint64_t odd[] = {
		1, 7, pgsz() - 1, pgsz() + 1, 1ULL << 21, 1ULL << 31, 1ULL << 32, 1ULL << 40,
		1ULL << 43, 1ULL << 62, (1ULL << 63) - pgsz(), (1ULL << 63) - 1,
		1ULL << 63, -pgsz(), -1ULL,
	};

	switch (pick(8)) {
	case 0:
		return odd[pick(sizeof(odd) / sizeof(*odd))];
	case 1:
		return 0;
	case 2:
		return pick(PAGES * pgsz());
	case 3:
		return pick(4) * 64 * pgsz();
	default:
		return pick(PAGES) * pgsz();
	}
}

static uint32_t any_flags(void)
{
	switch (pick(12)) {
	case 0:
		return 1U << pick(32);
	case 1:
		return rnd();
	case 2 ... 4:
		return 1;
	default:
		return 0;
	}
}

/* Of a clone: memory is so short that snapshots yield, if there are some. */
static uint32_t clone_flags(void)
{
	return one_in(3) ? COWMEM_CLONE_SNAPSHOT | COWMEM_CLONE_EXPENDABLE : any_flags();
}

static int any_fd(void)
{
	static const int odd[] = { -1, -100, 1 << 30, 1 << 31, 255, 1000000 };

	switch (pick(16)) {
	case 0:
		return odd[pick(sizeof(odd) / sizeof(*odd))];
	case 1:
		return FOREIGN + pick(nr_foreign);
	case 2:
		return pick(MAX_FDS);
	case 3 ... 4:
		return SNAPSHOT + pick(NAMED);
	default:
		return __atomic_load_n(&slots[pick(SLOTS)], __ATOMIC_RELAXED);
	}
}

/* Where a call may write @size bytes, or not. */
static uint64_t any_pointer(size_t size)
{
	char *p;

	switch (pick(16)) {
	case 0:
		return 0;
	case 1:
		return 0xffff888000000000ULL + pick(1 << 30);
	case 2:
		return 0x7ffffffff000ULL - pick(64);
	case 3:
		return (uintptr_t)read_only + pick(64);
	case 4:		/* across the end */
		return (uintptr_t)arena + 16 * pgsz() - pick(size + 1);
	case 5:
		return (uintptr_t)arena + 16 * pgsz() + pick(64);
	case 6 ... 8:	/* a region, perhaps the one that is called */
		p = window(pick(THREADS), pick(WINDOWS)) + pick(WINDOW) * pgsz();
		return (uintptr_t)p + (one_in(4) ? pick(pgsz()) : 0);
	case 9 ... 10:
		return (uintptr_t)racing + pick(4) * 64;
	default:
		/* Each thread has a part of the arena, for arrays. */
		return (uintptr_t)arena + me % THREADS * 8 * pgsz() +
			pick(7 * pgsz() / 8) * 8;
	}
}

/* ---- faults that are part of it ---- */

static void on_fault(int sig)
{
	if (!may_fault) {
		signal(sig, SIG_DFL);
		return;
	}
	siglongjmp(env, 1);
}

/* Copy, as far as that can be done. */
static void may_copy(void *to, const void *from, size_t size)
{
	if (!sigsetjmp(env, 1)) {
		may_fault = true;
		memcpy(to, from, size);
	}
	may_fault = false;
}

static void may_touch(volatile char *p, bool write, char c)
{
	if (!sigsetjmp(env, 1)) {
		may_fault = true;
		if (write)
			*p = c;
		else
			c = *p;
	}
	may_fault = false;
}

/* ---- the ioctls ---- */

union args {
	struct cowmem_info info;
	struct cowmem_resize resize;
	struct cowmem_seal seal;
	struct cowmem_clone clone;
	struct cowmem_discard discard;
	struct cowmem_restore restore;
	struct cowmem_diff diff;
	struct cowmem_copy copy;
	struct cowmem_clone_many many;
	struct cowmem_merge merge;
	struct cowmem_file file;
	char bytes[256];
};

#define MEMORY ENOMEM, ENOSPC

/* By number: the command, its first size, its errnos besides those of all. */
static const struct command {
	unsigned int cmd, min;
	int errnos[8];
} commands[] = {
	{ COWMEM_IOC_INFO, 56, { } },
	{ COWMEM_IOC_RESIZE, 16, { EPERM, EFBIG, MEMORY } },
	{ COWMEM_IOC_SEAL, 8, { EPERM, EBUSY } },
	{ COWMEM_IOC_CLONE, 24, { EMFILE, ENFILE, MEMORY } },
	{ COWMEM_IOC_DISCARD, 24, { EPERM, MEMORY } },
	{ COWMEM_IOC_RESTORE, 32, { EPERM, EFBIG, MEMORY } },
	{ COWMEM_IOC_DIFF, 40, { ENOMEM } },
	{ COWMEM_IOC_COPY, 32, { EPERM, MEMORY } },
	{ COWMEM_IOC_CLONE_MANY, 24, { EMFILE, ENFILE, MEMORY } },
	{ COWMEM_IOC_MERGE, 80, { EPERM, MEMORY } },
	{ COWMEM_IOC_FILE, 16, { EACCES, EPERM, EMFILE, ENFILE, ENOMEM } },
};

enum { COMMANDS = sizeof(commands) / sizeof(*commands) };

static void fill_args(unsigned int nr, union args *a)
{
	unsigned int i, n;
	void *array;

	memset(a, 0, sizeof(*a));
	switch (nr) {
	case 0:
		a->info.flags = one_in(8) ? any_flags() : 0;
		break;
	case 1:
		a->resize.size = any_number();
		a->resize.flags = one_in(8) ? any_flags() : 0;
		a->resize.reserved = one_in(16);
		break;
	case 2:
		a->seal.seals = one_in(4) ? rnd() : 1U << pick(5);
		a->seal.flags = one_in(8) ? any_flags() : 0;
		break;
	case 3:
		a->clone.flags = clone_flags();
		a->clone.fd = any_fd();
		if (one_in(2)) {
			a->clone.offset = any_number();
			a->clone.length = any_number();
		}
		break;
	case 4:
		a->discard.offset = any_number();
		a->discard.length = any_number();
		a->discard.flags = one_in(8) ? any_flags() : 0;
		a->discard.reserved = one_in(16);
		break;
	case 5:
		a->restore.fd = any_fd();
		a->restore.flags = one_in(3) ? pick(4) : any_flags();
		a->restore.pages = rnd();
		if (one_in(3)) {
			a->restore.offset = any_number();
			a->restore.length = any_number();
		}
		break;
	case 6:
		a->diff.fd = any_fd();
		a->diff.flags = any_flags();
		a->diff.offset = one_in(2) ? any_number() : 0;
		a->diff.extents = any_pointer(24 * 4);
		a->diff.count = one_in(8) ? rnd() : pick(200);
		a->diff.reserved = one_in(16);
		break;
	case 7:
		a->copy.fd = any_fd();
		a->copy.flags = one_in(8) ? any_flags() : 0;
		a->copy.src_offset = any_number();
		a->copy.dst_offset = any_number();
		a->copy.length = any_number();
		break;
	case 8:
		a->many.fds = any_pointer(4 * 8);
		a->many.clones = one_in(2) ? a->many.fds : any_pointer(4 * 8);
		n = one_in(8) ? rnd() : one_in(8) ? pick(260) : pick(9);
		a->many.count = n;
		a->many.flags = clone_flags();
		array = (void *)(uintptr_t)a->many.fds;
		for (i = 0; i < n && i < 300; i++) {
			int fd = one_in(20) ? any_fd() :
				__atomic_load_n(&slots[pick(SLOTS)], __ATOMIC_RELAXED);

			may_copy((char *)array + i * sizeof(fd), &fd, sizeof(fd));
		}
		break;
	case 9:
		n = one_in(8) ? rnd() : one_in(8) ? pick(260) : pick(5);
		a->merge.ranges = any_pointer(24 * 4);
		a->merge.count = n;
		a->merge.flags = one_in(8) ? any_flags() : 0;
		a->merge.table = any_pointer(256 * 16);
		a->merge.entries = pick(one_in(8) ? 1 << 17 : 256);
		a->merge.next = one_in(4) ? pick(5) : 0;
		a->merge.offset = one_in(4) ? any_number() : 0;
		a->merge.budget = one_in(4) ? rnd() : pick(100);
		array = (void *)(uintptr_t)a->merge.ranges;
		for (i = 0; i < n && i < 300; i++) {
			struct cowmem_merge_range r = {
				.fd = one_in(8) ? any_fd() :
					__atomic_load_n(&slots[pick(SLOTS)],
							__ATOMIC_RELAXED),
				.reserved = one_in(64),
				.offset = one_in(4) ? any_number() : 0,
				.length = one_in(4) ? any_number() : 0,
			};

			may_copy((char *)array + i * sizeof(r), &r, sizeof(r));
		}
		break;
	case 10:
		a->file.flags = one_in(3) ? 1 + pick(7) : any_flags();
		a->file.fd = any_fd();
		if (one_in(2))
			break;
		a->file.name = any_pointer(256);
		n = one_in(4) ? pick(300) : pick(20);
		for (i = 0; i < n; i++)
			may_touch((char *)(uintptr_t)a->file.name + i, true, 1 + pick(255));
		may_touch((char *)(uintptr_t)a->file.name + n, true, 0);
		break;
	}
	/* Something may be anything. */
	if (one_in(16))
		((uint32_t *)a)[pick(20)] = rnd();
	else if (one_in(16))
		((uint64_t *)a)[pick(10)] = any_number();
}

static bool among(int err, const int *errnos, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++)
		if (err == errnos[i])
			return true;
	return false;
}

static void complain(const char *what, unsigned int cmd, int fd, int err)
{
	__atomic_add_fetch(&shared->undocumented, 1, __ATOMIC_RELAXED);
	fprintf(stderr, "# thread %u, call %llu: %s %#x of descriptor %d: %s\n", me,
		(unsigned long long)shared->calls[me], what, cmd, fd,
		err ? strerror(err) : "succeeds");
}

/* A region became known, which takes the place of another one. */
static void learn(int fd)
{
	int old;

	if (fd < BASE_FDS || fd >= MAX_FDS)
		return;
	old = __atomic_exchange_n(&slots[pick(SLOTS)], fd, __ATOMIC_RELAXED);
	if (old >= BASE_FDS && one_in(4))
		close(old);
}

/* A region that is copied into itself grows and grows. */
static void keep_small(int fd)
{
	struct cowmem_info i = { };

	if (ioctl(fd, COWMEM_IOC_INFO, &i) || i.pages_populated <= POPULATED)
		return;
	do_resize(fd, PAGES * pgsz());
}

/* Is this one of those that are not to be written? */
static bool not_ours(int fd)
{
	return fd >= SNAPSHOT && fd <= READER;
}

static void fuzz_ioctl(void)
{
	static const int common[] = {
		ENOTTY, EINVAL, E2BIG, EOPNOTSUPP, EFAULT, EBADF, EIO,
	};
	unsigned int nr = pick(COMMANDS), cmd = commands[nr].cmd;
	unsigned int size = _IOC_SIZE(cmd), i;
	bool known = true;
	union args a;
	uint64_t to;
	int fd, err;

	/* FILE may give more than was given. */
	fd = one_in(nr == 10 ? 3 : 16) ? SNAPSHOT + (int)pick(NAMED) : one_in(16) ? any_fd() :
		__atomic_load_n(&slots[pick(SLOTS)], __ATOMIC_RELAXED);
	fill_args(nr, &a);
	if (one_in(8)) {
		/* Shorter, or longer with a tail of zeroes or not. */
		size = one_in(4) ? pick(1 << 14) : pick(sizeof(a) + 1);
		cmd = _IOC(_IOC_READ | _IOC_WRITE, COWMEM_IOC_TYPE, nr, size);
		if (one_in(2))
			a.bytes[pick(sizeof(a))] = rnd();
	} else if (one_in(32)) {
		cmd ^= 1U << pick(32);
		if (one_in(2))
			cmd = rnd();
		size = _IOC_SIZE(cmd);
		known = _IOC_TYPE(cmd) == COWMEM_IOC_TYPE &&
			_IOC_DIR(cmd) == (_IOC_READ | _IOC_WRITE) &&
			_IOC_NR(cmd) < COMMANDS;
		nr = _IOC_NR(cmd);
	}

	to = any_pointer(size);
	if (one_in(3))
		to = (uintptr_t)&a;
	else
		may_copy((void *)(uintptr_t)to, &a,
			 size < sizeof(a) && one_in(2) ? size : sizeof(a));
	/* Never more than there is behind the stack's copy. */
	if (to == (uintptr_t)&a && size > sizeof(a))
		return;

	err = ioctl(fd, cmd, to) ? errno : 0;
	shared->calls[me]++;
	shared->good[me] += !err;
	shared->gone[me] += err == EIO;

	/* What other kinds of files say to that is not ours. */
	if (fd >= FOREIGN && fd < BASE_FDS)
		return;
	if (!known) {
		if (err != ENOTTY && err != EBADF)
			complain("unknown command", cmd, fd, err);
		return;
	}
	if (size < commands[nr].min) {
		if (err != EINVAL && err != EBADF)
			complain("short struct", cmd, fd, err);
		return;
	}
	if (err && !among(err, common, sizeof(common) / sizeof(*common)) &&
	    (!among(err, commands[nr].errnos, 8)))
		complain("command", cmd, fd, err);
	if (err)
		return;
	switch (nr) {
	case 3:
		a.clone.fd = -1;
		may_copy(&a, (void *)(uintptr_t)to, sizeof(a.clone));
		learn(a.clone.fd);
		break;
	case 8:
		for (i = 0; i < a.many.count && i < 4; i++) {
			int new = -1;

			may_copy(&new, (char *)(uintptr_t)a.many.clones +
				 i * sizeof(new), sizeof(new));
			learn(new);
		}
		break;
	case 10:
		if (to == (uintptr_t)&a && not_ours(fd) &&
		    (!a.file.flags || (a.file.flags & COWMEM_FILE_HUGE)))
			complain("a file for writing, by", cmd, fd, 0);
		a.file.fd = -1;
		may_copy(&a, (void *)(uintptr_t)to, sizeof(a.file));
		learn(a.file.fd);
		break;
	case 5:
	case 7:
		keep_small(fd);
		break;
	}
}

/* ---- the calls on files ---- */

static int any_region(void)
{
	if (one_in(4))
		return SNAPSHOT + (int)pick(NAMED);
	return __atomic_load_n(&slots[pick(SLOTS)], __ATOMIC_RELAXED);
}

/* Any of these may be wrong with a file, or with the memory. */
#define OF_FILES EBADF, EINVAL, EPERM, EFBIG, EIO, MEMORY

/* One call on @fd: may it say what it says? */
static void judge(const char *what, int fd, bool done, const int *errnos, size_t n)
{
	int err = done ? 0 : errno;

	shared->calls[me]++;
	shared->good[me] += done;
	if (err && !among(err, errnos, n))
		complain(what, 0, fd, err);
	errno = err;
}

#define JUDGE(what, fd, done, ...) do {					\
	static const int errnos[] = { __VA_ARGS__ };			\
									\
	judge(what, fd, done, errnos, sizeof(errnos) / sizeof(*errnos)); \
} while (0)

static void fuzz_size(void)
{
	int fd = any_region(), mode = 0;
	uint64_t offset = any_number(), n = pick(PAGES * pgsz());

	if (one_in(3)) {
		JUDGE("ftruncate", fd, !ftruncate(fd, any_number()), OF_FILES);
		return;
	}
	if (!one_in(4))
		mode = one_in(16) ? (int)rnd() : (int)pick(0x80);
	if (one_in(2))
		mode &= FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE |
			FALLOC_FL_ZERO_RANGE | FALLOC_FL_UNSHARE_RANGE;
	/* A hole costs nothing. */
	if (mode & FALLOC_FL_PUNCH_HOLE && one_in(2))
		n = any_number();
	JUDGE("fallocate", fd, !fallocate(fd, mode, offset, n), OF_FILES,
	      EOPNOTSUPP, ENODEV);
	keep_small(fd);
}

static void fuzz_reflink(void)
{
	struct file_clone_range arg = {
		.src_fd = one_in(8) ? any_fd() : any_region(),
		.src_offset = any_number(),
		.src_length = one_in(4) ? 0 : any_number(),
		.dest_offset = any_number(),
	};
	int fd = any_region();
	bool done;

	if (one_in(4))
		done = !ioctl(fd, FICLONE, arg.src_fd);
	else if (one_in(8))
		done = !ioctl(fd, FICLONERANGE, any_pointer(sizeof(arg)));
	else
		done = !ioctl(fd, FICLONERANGE, &arg);
	JUDGE("FICLONE", fd, done, OF_FILES, EXDEV, EOPNOTSUPP, EISDIR, EFAULT);
	keep_small(fd);
}

static void fuzz_dedupe(void)
{
	struct {
		struct file_dedupe_range range;
		struct file_dedupe_range_info info[4];
	} arg = { .range.dest_count = one_in(16) ? rnd() : pick(5) };
	int fd = any_region();
	unsigned int i;
	uint64_t to = (uintptr_t)&arg;

	arg.range.src_offset = any_number();
	arg.range.src_length = one_in(4) ? any_number() : pick(8) * pgsz();
	arg.range.reserved1 = one_in(32);
	for (i = 0; i < 4; i++) {
		arg.info[i].dest_fd = one_in(8) ? any_fd() : any_region();
		arg.info[i].dest_offset = one_in(2) ? arg.range.src_offset :
						      any_number();
		arg.info[i].reserved = one_in(32);
	}
	if (arg.range.dest_count > 4 || one_in(2)) {
		to = any_pointer(sizeof(arg));
		may_copy((void *)(uintptr_t)to, &arg, sizeof(arg));
	}
	JUDGE("FIDEDUPERANGE", fd, !ioctl(fd, FIDEDUPERANGE, to), EBADF, EINVAL,
	      EOPNOTSUPP, EFAULT, ENOMEM, EISDIR, EIO);
	if (to != (uintptr_t)&arg || errno)
		return;
	for (i = 0; i < arg.range.dest_count; i++) {
		errno = -arg.info[i].status;
		JUDGE("deduping", arg.info[i].dest_fd, arg.info[i].status >= 0,
		      EBADF, EINVAL, EPERM, EBUSY, EXDEV, EISDIR, EOPNOTSUPP, EIO, MEMORY);
	}
}

static void fuzz_copy_file_range(void)
{
	loff_t src = any_number(), dst = any_number();
	int in = one_in(8) ? any_fd() : any_region(), out = any_region();
	ssize_t n;

	n = copy_file_range(in, one_in(4) ? NULL : &src, out,
			    one_in(4) ? NULL : &dst, pick(PAGES * pgsz()),
			    one_in(16) ? rnd() : 0);
	JUDGE("copy_file_range", out, n >= 0, OF_FILES, EXDEV, EISDIR, EOVERFLOW,
	      EOPNOTSUPP, EFAULT);
	keep_small(out);
}

static void fuzz_reopen(void)
{
	static const int modes[] = { O_RDONLY, O_RDWR, O_RDWR, O_WRONLY, O_PATH };
	static const int more[] = { O_TRUNC, O_APPEND, O_DIRECT, O_CREAT, O_NOATIME };
	int fd = any_region(), mode = modes[pick(5)], flags, new;
	char path[64];

	flags = mode | O_NONBLOCK | (one_in(3) ? more[pick(5)] : 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	new = open(path, flags, 0600);
	/* O_DIRECT is for file systems that have it; O_TRUNC may take memory. */
	JUDGE("reopening", fd, new >= 0, EACCES, EPERM, ENOENT, EMFILE, ENFILE,
	      MEMORY, EINVAL, ETXTBSY, EEXIST);
	if (new >= 0 && not_ours(fd) && mode != O_RDONLY && mode != O_PATH)
		complain("reopening for writing", flags, fd, 0);
	if (new >= 0 && mode == O_PATH)
		close(new);
	else
		learn(new);
}

static void fuzz_inode(void)
{
	int fd = any_region();
	char path[64], name[64];
	struct stat st;

	struct pollfd p = { .fd = fd, .events = rnd() };

	switch (pick(7)) {
	case 6:
		JUDGE("poll", fd, poll(&p, 1, pick(2)) >= 0, ENOMEM);
		break;
	case 0:
		JUDGE("fchmod", fd, !fchmod(fd, one_in(4) ? rnd() & 07777 : 0600),
		      EBADF, EPERM);
		if (!errno && fd <= CLONE)
			complain("fchmod", 0, fd, 0);
		break;
	case 1:
		JUDGE("fchown", fd, !fchown(fd, NOBODY, one_in(2) ? NOBODY : rnd()),
		      EBADF, EPERM, EINVAL);
		if (!errno && fd <= CLONE)
			complain("fchown", 0, fd, 0);
		break;
	case 2:
		JUDGE("futimens", fd, !futimens(fd, NULL), EBADF, EPERM, EACCES);
		break;
	case 3:
		JUDGE("fstat", fd, !fstat(fd, &st), EBADF);
		break;
	case 4:
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		JUDGE("readlink", fd, readlink(path, name, sizeof(name)) >= 0,
		      ENOENT, ENAMETOOLONG, ENOMEM);
		break;
	case 5:
		JUDGE("sync_file_range", fd,
		      !sync_file_range(fd, any_number(), any_number(), pick(8)),
		      EBADF, EINVAL, ESPIPE);
		break;
	}
}

static void fuzz_locks(void)
{
	static const int cmds[] = { F_SETLK, F_GETLK, F_OFD_SETLK, F_OFD_GETLK };
	struct flock lock = {
		.l_type = pick(4),
		.l_start = any_number(),
		.l_len = any_number(),
		.l_pid = one_in(16),
	};
	int fd = any_region();

	if (one_in(3)) {
		JUDGE("flock", fd, !flock(fd, (1 << pick(4)) | LOCK_NB), EBADF,
		      EINVAL, EAGAIN, ENOMEM, ENOLCK);
		return;
	}
	JUDGE("a lock", fd, !fcntl(fd, cmds[pick(4)], &lock), EBADF, EINVAL,
	      EAGAIN, EACCES, EOVERFLOW, ENOMEM, ENFILE, ENOLCK);
}

static void fuzz_file(void)
{
	static void (*const all[])(void) = {
		fuzz_size, fuzz_size, fuzz_reflink, fuzz_reflink, fuzz_dedupe,
		fuzz_copy_file_range, fuzz_reopen, fuzz_inode, fuzz_locks,
	};

	all[pick(sizeof(all) / sizeof(*all))]();
}

/* ---- other calls, which are there to disturb ---- */

static void fuzz_io(void)
{
	static const int reads[] = { EFAULT, EBADF, EINVAL, EMFILE, EIO };
	static const int writes[] = {
		EFAULT, EBADF, EINVAL, EPERM, EFBIG, MEMORY,
	};
	uint64_t offset = any_number(), mem = any_pointer(64);
	size_t size = one_in(8) ? any_number() : pick(3 * pgsz());
	int fd = one_in(8) ? SNAPSHOT + (int)pick(NAMED) :
		__atomic_load_n(&slots[pick(SLOTS)], __ATOMIC_RELAXED);
	bool write = one_in(2);
	ssize_t n;

	/* To read is to write memory: stay where that does no harm. */
	if (size > 3 * pgsz())
		size = 3 * pgsz();
	if (write)
		n = pwrite(fd, (void *)(uintptr_t)mem, size, offset);
	else
		n = pread(fd, (void *)(uintptr_t)mem, size, offset);
	shared->calls[me]++;
	shared->good[me] += n >= 0;
	if (n < 0 && !(write ? among(errno, writes, sizeof(writes) / sizeof(int)) :
		       among(errno, reads, sizeof(reads) / sizeof(int))))
		complain(write ? "pwrite" : "pread", 0, fd, errno);
}

static void fuzz_mapping(void)
{
	static const int prots[] = {
		PROT_READ, PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE,
		PROT_READ | PROT_WRITE, PROT_WRITE, PROT_NONE,
	};
	static const int advices[] = {
		MADV_DONTNEED, MADV_DONTNEED, MADV_REMOVE, MADV_POPULATE_READ,
		MADV_POPULATE_WRITE, MADV_WILLNEED, MADV_DONTFORK, MADV_DOFORK,
		MADV_MERGEABLE, MADV_HUGEPAGE, MADV_FREE, 20 /* COLD */,
		21 /* PAGEOUT */, 25 /* COLLAPSE */,
	};
	char *win = window(me % THREADS, pick(WINDOWS));
	int fd = one_in(8) ? SNAPSHOT + (int)pick(NAMED) :
		__atomic_load_n(&slots[pick(SLOTS)], __ATOMIC_RELAXED);
	size_t first = pick(WINDOW), n = 1 + pick(WINDOW - first), i;
	pid_t pid;

	shared->calls[me]++;
	switch (pick(12)) {
	case 0 ... 1:
		mmap(win, WINDOW * pgsz(), prots[pick(6)],
		     MAP_FIXED | (one_in(4) ? MAP_PRIVATE : MAP_SHARED), fd,
		     one_in(4) ? any_number() & ~(pgsz() - 1) : 0);
		keep_small(fd);
		break;
	case 2:
		mprotect(win + first * pgsz(), n * pgsz(), prots[pick(6)]);
		break;
	case 3:
		madvise(win + first * pgsz(), n * pgsz(), advices[pick(14)]);
		break;
	case 4:
		pid = one_in(8) ? fork() : -1;
		if (!pid) {
			for (i = 0; i < 8; i++)
				may_touch(win + pick(WINDOW) * pgsz(), true, i);
			_exit(0);
		}
		if (pid > 0)
			reap(pid);
		break;
	case 5:
		msync(win, WINDOW * pgsz(), MS_SYNC);
		lseek(fd, any_number(), pick(6));
		break;
	case 6:
		fsync(fd);
		i = ftruncate(fd, any_number());
		fallocate(fd, pick(8), 0, pgsz());
		break;
	default:
		for (i = 0; i < 16; i++) {
			char *p = win + pick(WINDOW) * pgsz() + pick(pgsz());

			may_touch(p, one_in(2), one_in(4) ? 0 : i);
		}
	}
}

/* ---- threads ---- */

/* All regions that were made since the last time go. */
static void sweep_fds(void)
{
	/* If others have the same pages, nothing is to be had. */
	uint32_t flags = one_in(2) ? COWMEM_CLONE_SNAPSHOT | COWMEM_CLONE_EXPENDABLE : 0;
	unsigned int i;
	int fd;

	for (i = 0; i < SLOTS; i++)
		__atomic_store_n(&slots[i], CLONE + i % 2, __ATOMIC_RELAXED);
	for (fd = BASE_FDS; fd < MAX_FDS; fd++)
		close(fd);
	keep_small(CLONE);
	keep_small(OWN);
	for (i = 0; i < SLOTS; i++)
		learn(do_clone(CLONE + i % 2, flags, 0, 0));
	if (one_in(2))
		learn(do_clone(SNAPSHOT, 0, 0, 0));
}

static void *fuzzer(void *arg)
{
	uint64_t ops = *(uint64_t *)arg, i;

	for (i = 0; i < ops; i++) {
		if (!(me % THREADS) && !(i % SWEEP))
			sweep_fds();
		switch (pick(10)) {
		case 0:
			fuzz_io();
			break;
		case 1 ... 2:
			fuzz_mapping();
			break;
		case 3 ... 4:
			fuzz_file();
			break;
		default:
			fuzz_ioctl();
		}
	}
	return NULL;
}

struct start {
	unsigned int me;
	uint64_t seed, ops;
};

static void *fuzzer_thread(void *arg)
{
	struct start *s = arg;

	me = s->me;
	seed = s->seed;
	return fuzzer(&s->ops);
}

/* Changes structs under way, to something that makes sense. */
static void *flipper_thread(void *arg)
{
	struct start *s = arg;

	me = s->me;
	seed = s->seed;
	while (!get(&stop)) {
		uint64_t word = one_in(2) ? any_number() :
			one_in(2) ? any_pointer(64) :
			(uint32_t)any_fd() | (uint64_t)any_flags() << 32;

		__atomic_store_n((uint64_t *)racing + pick(64), word,
				 __ATOMIC_RELAXED);
		if (one_in(16))
			sched_yield();
	}
	return NULL;
}

/* ---- processes ---- */

static void place(int fd, int at)
{
	must(fd >= 0);
	must(dup2(fd, at) == at);
	if (fd != at)
		close(fd);
}

/* Descriptors of all other kinds, at fixed places from FOREIGN on. */
static void open_foreign(void)
{
	int at = FOREIGN, pair[2], fd;
	sigset_t none;

	sigemptyset(&none);
	must(!pipe(pair));
	place(pair[0], at++);
	place(pair[1], at++);
	must(!socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	place(pair[0], at++);
	place(pair[1], at++);
	place(memfd_create("fuzz", MFD_ALLOW_SEALING), at++);
	place(eventfd(0, EFD_NONBLOCK), at++);
	place(epoll_create1(0), at++);
	place(signalfd(-1, &none, SFD_NONBLOCK), at++);
	place(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK), at++);
	place(open("/proc/self/maps", O_RDONLY), at++);
	place(open("/proc/self/mem", O_RDONLY), at++);
	place(open("/", O_RDONLY | O_DIRECTORY), at++);
	place(open("/dev/null", O_RDWR), at++);
	place(open(COWMEM_DEV, O_PATH), at++);
	/* Not in every kernel. */
	fd = syscall(SYS_userfaultfd, O_NONBLOCK | 1);
	if (fd >= 0)
		place(fd, at++);
	nr_foreign = at - FOREIGN;
	for (; at < BASE_FDS; at++)
		must(dup2(FOREIGN + nr_foreign - 1, at) == at);
}

/* Memory with so much on either side that cannot be accessed that a table fits. */
static char *island(size_t pages, int prot)
{
	size_t around = (1 << 21) / pgsz();
	char *mem = mmap(NULL, (pages + 2 * around) * pgsz(), PROT_NONE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	must(mem != MAP_FAILED);
	mem += around * pgsz();
	must(!mprotect(mem, pages * pgsz(), prot));
	return mem;
}

static void fuzz_process(unsigned int nr, uint64_t first_seed, uint64_t ops,
			 const int *given)
{
	struct rlimit limit = { MAX_FDS, MAX_FDS };
	struct sigaction act = { .sa_handler = on_fault };
	struct start start[THREADS + 1];
	pthread_t threads[THREADS + 1];
	unsigned int i;
	int fds[NAMED];

	for (i = 0; i < GIVEN; i++)
		fds[i] = given[i];
	fds[OWN - SNAPSHOT] = region_of(PAGES, 9);
	fds[READ_ONLY - SNAPSHOT] = open(COWMEM_DEV, O_RDONLY);
	fds[WRITE_ONLY - SNAPSHOT] = open(COWMEM_DEV, O_WRONLY);
	__atomic_add_fetch(&shared->ready, 1, __ATOMIC_ACQ_REL);
	/* Out of the way of the places that they are to have. */
	for (i = 0; i < NAMED; i++)
		fds[i] = fcntl(fds[i], F_DUPFD, 100);
	for (i = 3; i < 100; i++)
		close(i);
	for (i = 0; i < NAMED; i++)
		place(fds[i], SNAPSHOT + i);

	become_nobody();
	must(open(COWMEM_DEV, O_RDWR) == -1);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	open_foreign();
	must(!setrlimit(RLIMIT_NOFILE, &limit));

	arena = island(16, PROT_READ | PROT_WRITE);
	racing = island(1, PROT_READ | PROT_WRITE);
	read_only = island(1, PROT_READ);
	windows = island((size_t)THREADS * WINDOWS * WINDOW,
			 PROT_READ | PROT_WRITE);
	signal(SIGXFSZ, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	must(!sigaction(SIGBUS, &act, NULL));
	must(!sigaction(SIGSEGV, &act, NULL));
	for (i = 0; i < SLOTS; i++)
		slots[i] = CLONE + i % 2;

	for (i = 0; i <= THREADS; i++) {
		start[i] = (struct start){
			.me = nr * THREADS + i,
			.seed = (first_seed + nr * (THREADS + 1) + i + 1) *
				0x9e3779b97f4a7c15ULL | 1,
			.ops = ops,
		};
		must(!pthread_create(&threads[i], NULL, i < THREADS ?
				     fuzzer_thread : flipper_thread, &start[i]));
	}
	for (i = 0; i < THREADS; i++)
		must(!pthread_join(threads[i], NULL));
	put(&stop, 1);
	must(!pthread_join(threads[i], NULL));
	_exit(0);
}

/* The kernel's word on whether there was a warning, but for modules built elsewhere. */
static unsigned long taints(void)
{
	char text[32];

	must(read_file("/proc/sys/kernel/tainted", text, sizeof(text)) > 0);
	return strtoul(text, NULL, 10);
}

int main(void)
{
	const char *env_ops = getenv("COWMEM_FUZZ_OPS");
	uint64_t ops = env_ops ? strtoull(env_ops, NULL, 0) : effort(OPS);
	int neighbour, watched, given[GIVEN], i, ended = 0, bad = 0;
	unsigned long taint = taints();
	uint64_t calls = 0, good = 0, gone = 0;
	bool exact = true;

	ksft_print_header();
	ksft_set_plan(4);
	rng_init();
	shared = shared_mem(sizeof(*shared));
	neighbour = region_of(PAGES, 7);
	watched = region_of(PAGES, 8);
	given[SNAPSHOT - SNAPSHOT] = snapshot(neighbour);
	given[VIEW - SNAPSHOT] = file_of(watched, COWMEM_FILE_VIEW);
	given[READER - SNAPSHOT] = file_of(watched, COWMEM_FILE_RDONLY);
	given[CLONE - SNAPSHOT] = cloned(neighbour);

	for (i = 0; i < PROCESSES; i++)
		if (!spawn())
			fuzz_process(i, rng_state, ops, given);
	await(&shared->ready, PROCESSES);
	must(!set_limit(SHORT * pgsz() >> 20));
	while (ended < PROCESSES) {
		int status;

		/* Nothing stays mapped: a PTE would keep the page from being reused. */
		exact = exact && fd_is(neighbour, below(PAGES), 1, 7) &&
			fd_is(given[SNAPSHOT - SNAPSHOT], below(PAGES), 1, 7) &&
			fd_is(watched, below(PAGES), 1, 8);
		while (waitpid(-1, &status, WNOHANG) > 0) {
			ended++;
			if (!status)
				continue;
			bad++;
			ksft_print_msg("a process ended with status %#x\n", status);
		}
		usleep(100000);
	}
	must(!set_limit(0));
	for (i = 0; i < PROCESSES * THREADS; i++) {
		gone += shared->gone[i];
		calls += shared->calls[i];
		good += shared->good[i];
	}
	ksft_print_msg("%llu calls, of which %llu did something, %llu met a snapshot that had yielded\n",
		       (unsigned long long)calls, (unsigned long long)good,
		       (unsigned long long)gone);
	ksft_test_result(!bad && calls && good > calls / 10,
			 "all processes came to their end\n");
	ksft_test_result(!shared->undocumented, "all errors are documented\n");

	exact = exact && fd_is(neighbour, 0, PAGES, 7) &&
		fd_is(given[SNAPSHOT - SNAPSHOT], 0, PAGES, 7) &&
		fd_is(watched, 0, PAGES, 8) &&
		info(watched).size == PAGES * pgsz() && !info(watched).seals;
	for (i = 0; i < GIVEN; i++)
		close(given[i]);
	/* And nobody has lost a reference to its pages. */
	exact = exact && holds(neighbour, PAGES, 0) && holds(watched, PAGES, 0);
	ksft_test_result(exact, "the neighbour, the snapshot and what is only read stay exact\n");
	ksft_test_result(taints() == taint, "the kernel has nothing to report\n");
	ksft_finished();
}
