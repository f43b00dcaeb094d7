// SPDX-License-Identifier: GPL-2.0-only
/*
 * Promise: whatever an unprivileged user does with the descriptors that he was
 * given, he gets documented errors; what he was not given, or only to read, stays
 * exact, and the kernel has nothing to report.
 *
 * A fuzzer that knows the structs.  Some processes, of a user without any rights,
 * have a snapshot, a clone of a region that is kept from them, and a region; in
 * each, two threads make calls while another one changes the structs under way.
 *
 * COWMEM_SEED replays a run, as far as threads can be replayed.  COWMEM_FUZZ_OPS is
 * how many calls each thread makes.
 */
#include <grp.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>

#include "../kselftest.h"
#include "common.h"

enum {
	NOBODY = 65534,
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
	POPULATED = 1024,	/* the most pages in a region that goes on */
};

/* ---- what the fuzzer has at hand ---- */

enum { SNAPSHOT = 3, CLONE, OWN, READ_ONLY, WRITE_ONLY, FOREIGN };

static int slots[SLOTS];	/* descriptors of regions, of this process */
static unsigned int nr_foreign;

static char *arena;		/* structs and arrays; the end cannot be accessed */
static char *racing;		/* the same, and another thread writes to it */
static char *read_only;
static char *windows;
static int stop;

/* What threads of the parent and of the children tell each other. */
static struct {
	int finished;
	int undocumented;
	uint64_t calls[16], good[16];
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
	static const uint64_t odd[] = {
		1, 7, 4095, 4097, 1ULL << 21, 1ULL << 31, 1ULL << 32, 1ULL << 40,
		1ULL << 43, 1ULL << 62, (1ULL << 63) - 4096, (1ULL << 63) - 1,
		1ULL << 63, -4096ULL, -1ULL,
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
		return SNAPSHOT + pick(5);
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
	{ COWMEM_IOC_RESTORE, 32, { EPERM, MEMORY } },
	{ COWMEM_IOC_DIFF, 40, { ENOMEM } },
	{ COWMEM_IOC_COPY, 32, { EPERM, MEMORY } },
	{ COWMEM_IOC_CLONE_MANY, 24, { EMFILE, ENFILE, MEMORY } },
	{ COWMEM_IOC_MERGE, 80, { EPERM, MEMORY } },
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
		a->clone.flags = any_flags();
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
		a->restore.flags = any_flags();
		a->restore.pages = rnd();
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
		a->many.flags = any_flags();
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

static void fuzz_ioctl(void)
{
	static const int common[] = {
		ENOTTY, EINVAL, E2BIG, EOPNOTSUPP, EFAULT, EBADF,
	};
	unsigned int nr = pick(COMMANDS), cmd = commands[nr].cmd;
	unsigned int size = _IOC_SIZE(cmd), i;
	bool known = true;
	union args a;
	uint64_t to;
	int fd, err;

	fd = one_in(16) ? SNAPSHOT + (int)pick(5) : one_in(16) ? any_fd() :
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
	case 7:
		keep_small(fd);
		break;
	}
}

/* ---- other calls, which are there to disturb ---- */

static void fuzz_io(void)
{
	static const int reads[] = { EFAULT, EBADF, EINVAL, EMFILE };
	static const int writes[] = {
		EFAULT, EBADF, EINVAL, EPERM, EFBIG, MEMORY,
	};
	uint64_t offset = any_number(), mem = any_pointer(64);
	size_t size = one_in(8) ? any_number() : pick(3 * pgsz());
	int fd = one_in(8) ? SNAPSHOT + (int)pick(5) :
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
	int fd = one_in(8) ? SNAPSHOT + (int)pick(5) :
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
	unsigned int i;
	int fd;

	for (i = 0; i < SLOTS; i++)
		__atomic_store_n(&slots[i], CLONE + i % 2, __ATOMIC_RELAXED);
	for (fd = BASE_FDS; fd < MAX_FDS; fd++)
		close(fd);
	keep_small(CLONE);
	keep_small(OWN);
	for (i = 0; i < SLOTS; i++)
		learn(do_clone(CLONE + i % 2, 0, 0, 0));
	if (one_in(2))
		learn(do_clone(SNAPSHOT, 0, 0, 0));
}

static void *fuzzer(void *arg)
{
	uint64_t ops = *(uint64_t *)arg, i;

	for (i = 0; i < ops; i++) {
		if (!(me % THREADS) && !(i % SWEEP))
			sweep_fds();
		switch (pick(8)) {
		case 0:
			fuzz_io();
			break;
		case 1 ... 2:
			fuzz_mapping();
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
			 int snap, int clone)
{
	struct rlimit limit = { MAX_FDS, MAX_FDS };
	struct sigaction act = { .sa_handler = on_fault };
	struct start start[THREADS + 1];
	pthread_t threads[THREADS + 1];
	unsigned int i;
	int own, ro, wo;

	own = region_of(PAGES, 9);
	ro = open(COWMEM_DEV, O_RDONLY);
	wo = open(COWMEM_DEV, O_WRONLY);
	snap = dup(snap);
	clone = dup(clone);
	must(snap >= 0 && clone >= 0);
	/* Out of the way of the places that they are to have. */
	own = fcntl(own, F_DUPFD, 100);
	ro = fcntl(ro, F_DUPFD, 100);
	wo = fcntl(wo, F_DUPFD, 100);
	snap = fcntl(snap, F_DUPFD, 100);
	clone = fcntl(clone, F_DUPFD, 100);
	must(own >= 0 && ro >= 0 && wo >= 0 && snap >= 0 && clone >= 0);
	for (i = 3; i < 100; i++)
		close(i);
	place(snap, SNAPSHOT);
	place(clone, CLONE);
	place(own, OWN);
	place(ro, READ_ONLY);
	place(wo, WRITE_ONLY);

	must(!setgroups(0, NULL));
	must(!setresgid(NOBODY, NOBODY, NOBODY));
	must(!setresuid(NOBODY, NOBODY, NOBODY));
	must(open(COWMEM_DEV, O_RDWR) == -1);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* Readable again after the change of user. */
	prctl(PR_SET_DUMPABLE, 1);
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
	int neighbour, snap, clone, i, ended = 0, bad = 0;
	unsigned long taint = taints();
	uint64_t calls = 0, good = 0;
	bool exact = true;

	ksft_print_header();
	ksft_set_plan(4);
	rng_init();
	shared = shared_mem(sizeof(*shared));
	neighbour = region_of(PAGES, 7);
	snap = snapshot(neighbour);
	clone = cloned(neighbour);

	for (i = 0; i < PROCESSES; i++)
		if (!spawn())
			fuzz_process(i, rng_state, ops, snap, clone);
	while (ended < PROCESSES) {
		int status;

		/* Nothing stays mapped: a PTE would keep the page from being reused. */
		exact = exact && fd_is(neighbour, below(PAGES), 1, 7) &&
			fd_is(snap, below(PAGES), 1, 7);
		while (waitpid(-1, &status, WNOHANG) > 0) {
			ended++;
			if (!status)
				continue;
			bad++;
			ksft_print_msg("a process ended with status %#x\n", status);
		}
		usleep(100000);
	}
	for (i = 0; i < PROCESSES * THREADS; i++) {
		calls += shared->calls[i];
		good += shared->good[i];
	}
	ksft_print_msg("%llu calls, of which %llu did something\n",
		       (unsigned long long)calls, (unsigned long long)good);
	ksft_test_result(!bad && calls && good > calls / 10,
			 "all processes came to their end\n");
	ksft_test_result(!shared->undocumented, "all errors are documented\n");

	exact = exact && fd_is(neighbour, 0, PAGES, 7) && fd_is(snap, 0, PAGES, 7);
	close(snap);
	close(clone);
	/* And nobody has lost a reference to its pages. */
	exact = exact && holds(neighbour, PAGES, 0);
	ksft_test_result(exact, "the neighbour and the snapshot stay exact\n");
	ksft_test_result(taints() == taint, "the kernel has nothing to report\n");
	ksft_finished();
}
