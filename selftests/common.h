/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What every test of cowmem needs: regions, page patterns, faults that are
 * caught, children.  Include it after kselftest.h or kselftest_harness.h.
 *
 * Content is described by tags.  Tag 0 is a page of zeros; any other tag stands
 * for a page whose every word depends on the tag and on the index of the page,
 * so a page that is stale, misplaced or torn is noticed wherever it shows up.
 *
 * must() is for what a test needs to get going.  What a test is about is
 * checked with the EXPECT and ASSERT macros or ksft_test_result().
 */
#ifndef _SELFTESTS_COWMEM_COMMON_H
#define _SELFTESTS_COWMEM_COMMON_H

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <linux/cowmem.h>

#define COWMEM_DEV "/dev/cowmem"

#ifndef __maybe_unused
#define __maybe_unused __attribute__((__unused__))
#endif

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ	22
#define MADV_POPULATE_WRITE	23
#endif

/* Guests may be slow; a test that hangs is still ended. */
#ifdef TEST_TIMEOUT_DEFAULT
#undef TEST_TIMEOUT_DEFAULT
#define TEST_TIMEOUT_DEFAULT 120
#endif

#define must(cond) do {							\
	if (!(cond)) {							\
		fprintf(stderr, "# %s:%d: needed: %s: %s\n", __FILE__,	\
			__LINE__, #cond, strerror(errno));		\
		exit(KSFT_FAIL);					\
	}								\
} while (0)

static __maybe_unused size_t pgsz(void)
{
	static size_t size;

	if (!size)
		size = sysconf(_SC_PAGESIZE);
	return size;
}

/* ---- random numbers, replayable ---- */

static __maybe_unused uint64_t rng_state;

static __maybe_unused uint64_t rng(void)
{
	rng_state ^= rng_state << 13;
	rng_state ^= rng_state >> 7;
	rng_state ^= rng_state << 17;
	return rng_state;
}

static __maybe_unused uint64_t below(uint64_t n)
{
	return rng() % n;
}

/* A range in @size bytes, whole pages half of the time; false if it is empty. */
static __maybe_unused bool any_range(uint64_t size, uint64_t *at, uint64_t *n)
{
	uint64_t most = below(8) ? 3 * pgsz() : size;

	*at = *n = 0;
	if (!size)
		return false;
	*at = below(size);
	*n = 1 + below(most);
	if (below(2)) {
		*at -= *at % pgsz();
		*n = (*n + pgsz() - 1) / pgsz() * pgsz();
	}
	if (*n > size - *at)
		*n = size - *at;
	return true;
}

/* The seed comes from COWMEM_SEED or the clock and is printed. */
static __maybe_unused void rng_init(void)
{
	const char *env = getenv("COWMEM_SEED");
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	rng_state = env ? strtoull(env, NULL, 0) :
		    (uint64_t)ts.tv_sec * 1000000007 + ts.tv_nsec;
	rng_state += !rng_state;
	printf("# COWMEM_SEED=%llu\n", (unsigned long long)rng_state);
	fflush(stdout);
}

/* ---- how much, how long ---- */

/* Seconds, of a clock that only goes forward */
static __maybe_unused double now(void)
{
	struct timespec ts;

	must(!clock_gettime(CLOCK_MONOTONIC, &ts));
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

/*
 * What is the more telling the longer it goes on, may be cut short: COWMEM_EFFORT
 * is the percentage of @n to do, by default all.  At least 1.
 */
static __maybe_unused int effort(int n)
{
	const char *env = getenv("COWMEM_EFFORT");

	if (env)
		n = (long)n * atoi(env) / 100;
	return n > 1 ? n : 1;
}

/* Of @n random operations; COWMEM_OPS asks for a number of them. */
static __maybe_unused int random_ops(int n)
{
	const char *env = getenv("COWMEM_OPS");

	return env ? atoi(env) : effort(n);
}

/* ---- page content ---- */

/* What differs between pages, and between the words of a page. */
static __maybe_unused uint64_t page_part(uint32_t tag, uint64_t page)
{
	return (tag * 0x9e3779b97f4a7c15ULL) ^ (page * 0xc2b2ae3d27d4eb4fULL) ^
	       0x5555000000000000ULL;
}

static __maybe_unused uint64_t word_part(size_t word)
{
	return word * 0x165667b19e3779f9ULL;
}

static __maybe_unused uint64_t pattern(uint32_t tag, uint64_t page, size_t word)
{
	return tag ? page_part(tag, page) ^ word_part(word) : 0;
}

/* Tests spend most of their time on content, so it is looked at by two words. */
typedef uint64_t two_words __attribute__((vector_size(16), aligned(8), may_alias));

/* word_part() of a page, or zeroes for tag 0. */
static __maybe_unused const two_words *word_parts(uint32_t tag)
{
	static two_words parts[2][(1 << 16) / sizeof(two_words)];
	size_t i = ARRAY_SIZE(parts[1]);

	/* The first that is not zero comes last, and says that the others are there. */
	while (!parts[1][0][1] && i--)
		parts[1][i] = (two_words){ word_part(2 * i), word_part(2 * i + 1) };
	return parts[!!tag];
}

static __maybe_unused void pg_fill(void *mem, uint32_t tag, uint64_t page)
{
	const two_words *parts = word_parts(tag);
	uint64_t same = pattern(tag, page, 0);
	size_t i, n = pgsz() / sizeof(two_words);
	two_words *p = mem;

	for (i = 0; i < n; i++)
		p[i] = parts[i] ^ same;
	asm volatile("" : : : "memory");
}

static __maybe_unused bool pg_is(const void *mem, uint32_t tag, uint64_t page)
{
	const two_words *parts = word_parts(tag), *p = mem;
	uint64_t same = pattern(tag, page, 0);
	size_t i, n = pgsz() / sizeof(two_words);
	two_words differ = {};
	const uint64_t *words = mem;

	asm volatile("" : : : "memory");
	for (i = 0; i < n; i++)
		differ |= p[i] ^ parts[i] ^ same;
	if (!(differ[0] | differ[1]))
		return true;
	for (i = 0; i < pgsz() / sizeof(*words); i++) {
		uint64_t seen = words[i];

		if (seen == pattern(tag, page, i))
			continue;
		fprintf(stderr,
			"# page %#llx: word %zu is %016llx, not %016llx of tag %u\n",
			(unsigned long long)page, i, (unsigned long long)seen,
			(unsigned long long)pattern(tag, page, i), tag);
		return false;
	}
	fprintf(stderr, "# page %#llx changed while it was looked at\n",
		(unsigned long long)page);
	return false;
}

/* Fill or check @n pages of memory that shows a region from page @first. */
static __maybe_unused void fill(void *mem, size_t n, uint32_t tag, uint64_t first)
{
	size_t i;

	for (i = 0; i < n; i++)
		pg_fill((char *)mem + i * pgsz(), tag, first + i);
}

static __maybe_unused bool is(const void *mem, size_t n, uint32_t tag,
			      uint64_t first)
{
	size_t i;

	for (i = 0; i < n; i++)
		if (!pg_is((const char *)mem + i * pgsz(), tag, first + i))
			return false;
	return true;
}

/* ---- regions ---- */

static __maybe_unused int region(void)
{
	int fd = open(COWMEM_DEV, O_RDWR | O_CLOEXEC);

	must(fd >= 0);
	return fd;
}

static __maybe_unused int do_resize(int fd, uint64_t size)
{
	struct cowmem_resize arg = { .size = size };

	return ioctl(fd, COWMEM_IOC_RESIZE, &arg);
}

static __maybe_unused int do_discard(int fd, uint64_t offset, uint64_t length)
{
	struct cowmem_discard arg = { .offset = offset, .length = length };

	return ioctl(fd, COWMEM_IOC_DISCARD, &arg);
}

static __maybe_unused int do_seal(int fd, uint32_t seals)
{
	struct cowmem_seal arg = { .seals = seals };

	return ioctl(fd, COWMEM_IOC_SEAL, &arg);
}

/* Return the new descriptor, or -1 with errno set. */
static __maybe_unused int do_clone(int fd, uint32_t flags, uint64_t offset,
				   uint64_t length)
{
	struct cowmem_clone arg = {
		.flags = flags, .fd = -1, .offset = offset, .length = length,
	};

	return ioctl(fd, COWMEM_IOC_CLONE, &arg) ? -1 : arg.fd;
}

static __maybe_unused int cloned(int fd)
{
	int new = do_clone(fd, 0, 0, 0);

	must(new >= 0);
	return new;
}

static __maybe_unused int snapshot(int fd)
{
	int new = do_clone(fd, COWMEM_CLONE_SNAPSHOT, 0, 0);

	must(new >= 0);
	return new;
}

/*
 * Merge all of some regions, from where @m says on.  Unless @m brings a table
 * along, there is one for this call, too large to forget much.
 */
static __maybe_unused int do_merge(struct cowmem_merge *m, const int *fds,
				   unsigned int count)
{
	struct cowmem_merge_range *range = calloc(count + 1, sizeof(*range));
	struct cowmem_merge_entry *table = NULL;
	unsigned int i;
	int ret;

	must(range);
	for (i = 0; i < count; i++)
		range[i].fd = fds[i];
	m->ranges = (uintptr_t)range;
	m->count = count;
	if (!m->table) {
		m->entries = 1 << 17;
		table = calloc(m->entries, sizeof(*table));
		must(table);
		m->table = (uintptr_t)table;
	}
	ret = ioctl(fds[0], COWMEM_IOC_MERGE, m);
	if (table)
		m->table = 0;
	free(table);
	free(range);
	return ret;
}

/* Another descriptor of a region, a regular file; or -1. */
static __maybe_unused int do_file(int fd, uint32_t flags, const char *name)
{
	struct cowmem_file arg = {
		.flags = flags, .fd = -1, .name = (uintptr_t)name,
	};

	return ioctl(fd, COWMEM_IOC_FILE, &arg) ? -1 : arg.fd;
}

static __maybe_unused int file_of(int fd, uint32_t flags)
{
	int file = do_file(fd, flags, NULL);

	must(file >= 0);
	return file;
}

/* Open what a descriptor refers to once more, by its name in /proc. */
static __maybe_unused int open_again(int fd, int flags)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, flags | O_CLOEXEC);
}

static __maybe_unused struct cowmem_info info(int fd)
{
	struct cowmem_info arg = { .flags = 0 };

	must(!ioctl(fd, COWMEM_IOC_INFO, &arg));
	return arg;
}

/* Does the region hold @exclusive + @shared pages?  Says so if it does not. */
static __maybe_unused bool holds(int fd, uint64_t exclusive, uint64_t shared)
{
	struct cowmem_info i = info(fd);

	if (i.pages_exclusive == exclusive && i.pages_shared == shared &&
	    i.pages_populated == exclusive + shared)
		return true;
	fprintf(stderr,
		"# populated %llu exclusive %llu shared %llu, not %llu + %llu\n",
		(unsigned long long)i.pages_populated,
		(unsigned long long)i.pages_exclusive,
		(unsigned long long)i.pages_shared,
		(unsigned long long)exclusive, (unsigned long long)shared);
	return false;
}

static __maybe_unused char *map_at(int fd, size_t pages, int prot, int flags,
				   uint64_t page)
{
	void *mem = mmap(NULL, pages * pgsz(), prot, flags, fd, page * pgsz());

	must(mem != MAP_FAILED);
	return mem;
}

static __maybe_unused char *map_rw(int fd, size_t pages)
{
	return map_at(fd, pages, PROT_READ | PROT_WRITE, MAP_SHARED, 0);
}

static __maybe_unused char *map_ro(int fd, size_t pages)
{
	return map_at(fd, pages, PROT_READ, MAP_SHARED, 0);
}

static __maybe_unused void unmap(void *mem, size_t pages)
{
	must(!munmap(mem, pages * pgsz()));
}

/* As fill(), in an order that makes for no folios: a page that goes takes no other along. */
static __maybe_unused void fill_back(char *mem, size_t n, uint32_t tag, uint64_t first)
{
	while (n--)
		pg_fill(mem + n * pgsz(), tag, first + n);
}

/* A new region of @pages pages, all of tag @tag; 0 leaves a hole. */
static __maybe_unused int region_of(size_t pages, uint32_t tag)
{
	int fd = region();
	char *mem = map_rw(fd, pages);

	if (tag)
		fill(mem, pages, tag, 0);
	unmap(mem, pages);
	return fd;
}

/*
 * Are @n pages of the region of tag @tag, if they were filled as page @as and on?
 * Asks read() and a mapping of its own, so no old page table entry answers.
 */
static __maybe_unused bool fd_range_is(int fd, uint64_t page, size_t n,
				       uint32_t tag, uint64_t as)
{
	char *buf = malloc(n * pgsz());
	char *mem;
	bool ok;

	must(buf);
	ok = pread(fd, buf, n * pgsz(), page * pgsz()) == (ssize_t)(n * pgsz());
	if (!ok)
		fprintf(stderr, "# pread of %zu pages from %#llx: %s\n", n,
			(unsigned long long)page, strerror(errno));
	ok = ok && is(buf, n, tag, as);
	free(buf);
	mem = map_at(fd, n, PROT_READ, MAP_SHARED, page);
	ok = is(mem, n, tag, as) && ok;
	unmap(mem, n);
	return ok;
}

static __maybe_unused bool fd_is_as(int fd, uint64_t page, uint32_t tag,
				    uint64_t as)
{
	return fd_range_is(fd, page, 1, tag, as);
}

/* Some pages at a time, as there may be many. */
static __maybe_unused bool fd_is(int fd, uint64_t page, size_t n, uint32_t tag)
{
	size_t some;

	for (; n; n -= some, page += some) {
		some = n < 64 ? n : 64;
		if (!fd_range_is(fd, page, some, tag, page))
			return false;
	}
	return true;
}

/* @n pages of ordinary memory */
static __maybe_unused char *anon(size_t n)
{
	void *mem = mmap(NULL, n * pgsz(), PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	must(mem != MAP_FAILED);
	return mem;
}

/* The same, with a page behind it that cannot be accessed. */
static __maybe_unused char *guarded(size_t n)
{
	char *mem = anon(n + 1);

	must(!mprotect(mem + n * pgsz(), pgsz(), PROT_NONE));
	return mem;
}

/* ---- faults ---- */

static sigjmp_buf fault_env;

static __maybe_unused void fault_handler(int sig)
{
	siglongjmp(fault_env, sig);
}

/* Read a byte, write it or @c, or both; return the signal that came, or 0. */
static __maybe_unused int access_byte(volatile char *p, bool read, bool write,
				      char c)
{
	struct sigaction act = { .sa_handler = fault_handler }, bus, segv;
	int sig;

	must(!sigaction(SIGBUS, &act, &bus));
	must(!sigaction(SIGSEGV, &act, &segv));
	sig = sigsetjmp(fault_env, 1);
	if (!sig) {
		if (read)
			c = *p;
		if (write)
			*p = c;
	}
	must(!sigaction(SIGBUS, &bus, NULL));
	must(!sigaction(SIGSEGV, &segv, NULL));
	return sig;
}

/* Read (and write back) a byte; return the signal that came, or 0. */
static __maybe_unused int touch(volatile char *p, bool write)
{
	return access_byte(p, true, write, 0);
}

/* Write a byte without reading it first; return the signal that came, or 0. */
static __maybe_unused int poke(volatile char *p, char c)
{
	return access_byte(p, false, true, c);
}

/* ---- processes ---- */

/* Wait for a child: its exit status, or 128 + the signal that ended it. */
static __maybe_unused int reap(pid_t pid)
{
	int status;

	must(waitpid(pid, &status, 0) == pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* fork(), but no child outlives its parent, and no output is doubled. */
static __maybe_unused pid_t spawn(void)
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	must(pid >= 0);
	if (!pid)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	return pid;
}

/*
 * Run the statements in a child and yield its exit status: 0 unless one of
 * them calls _exit(), 128 + signal if it dies of one.
 */
#define in_child(...) ({						\
	pid_t __pid = spawn();						\
									\
	if (!__pid) {							\
		__VA_ARGS__;						\
		_exit(0);						\
	}								\
	reap(__pid);							\
})

/* Memory that children share, for flags and counters; zeroed. */
static __maybe_unused void *shared_mem(size_t size)
{
	void *mem = mmap(NULL, size, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	must(mem != MAP_FAILED);
	return mem;
}

static __maybe_unused void put(int *flag, int val)
{
	__atomic_store_n(flag, val, __ATOMIC_RELEASE);
}

static __maybe_unused int get(int *flag)
{
	return __atomic_load_n(flag, __ATOMIC_ACQUIRE);
}

/* The harness ends a test that waits for ever. */
static __maybe_unused void await(int *flag, int val)
{
	while (get(flag) < val)
		sched_yield();
}

/* The same for long counts. */
static __maybe_unused void await_count(const uint64_t *count, uint64_t n)
{
	while (__atomic_load_n(count, __ATOMIC_ACQUIRE) < n)
		usleep(1000);
}

/* For threads that keep the CPUs busy: who tests is to get one soon. */
static __maybe_unused void yield_to_main(void)
{
	must(!setpriority(PRIO_PROCESS, 0, 10));
}

static __maybe_unused int count_fds(void)
{
	int fd, n = 0;

	for (fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) != -1;
	return n;
}

/* Read all of @want bytes from a pipe. */
static __maybe_unused bool drain(int fd, char *buf, size_t want)
{
	size_t have = 0;
	ssize_t n;

	while (have < want && (n = read(fd, buf + have, want - have)) > 0)
		have += n;
	return have == want;
}

#define NO_DIRECT_FILE "no file system for O_DIRECT here, and no /dev/ram0"

/* A file for O_DIRECT, or -1.  tmpfs does it from 6.6 on. */
static __maybe_unused int direct_file(void)
{
	const char * const dirs[] = { getenv("COWMEM_DIRECT_DIR"), "/var/tmp", ".",
			       "/tmp", NULL };
	char path[256], *buf = anon(1);
	size_t i;
	int fd;

	for (i = 0; i < sizeof(dirs) / sizeof(*dirs); i++) {
		fd = -1;
		if (dirs[i]) {
			snprintf(path, sizeof(path), "%s/cowmem_direct.%d",
				 dirs[i], getpid());
			fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_DIRECT |
				  O_CLOEXEC, 0600);
			unlink(path);
		} else if (i) {
			fd = open("/dev/ram0", O_RDWR | O_DIRECT | O_CLOEXEC);
		}
		if (fd >= 0 && pwrite(fd, buf, pgsz(), 0) == (ssize_t)pgsz())
			return fd;
		if (fd >= 0)
			close(fd);
	}
	return -1;
}

/* Write a string to a file; -1 with errno set if that fails. */
static __maybe_unused int write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t n = -1;

	if (fd >= 0) {
		n = write(fd, text, strlen(text));
		close(fd);
	}
	return n == (ssize_t)strlen(text) ? 0 : -1;
}

#define HUGE "/sys/module/cowmem/parameters/huge"

static pid_t small_pages_main;

static void any_pages_again(void)
{
	if (getpid() == small_pages_main)
		write_file(HUGE, "advise");
}

/* For a program that counts pages of 4 KiB: there are no others until it ends. */
static __maybe_unused void only_small_pages(void)
{
	small_pages_main = getpid();
	must(!write_file(HUGE, "never"));
	atexit(any_pages_again);
}

/* Read a file as a string; -1 with errno set if that fails. */
static __maybe_unused int read_file(const char *path, char *buf, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t have = 0;
	ssize_t n = -1;

	if (fd < 0)
		return -1;
	while (have < size - 1 &&
	       (n = read(fd, buf + have, size - 1 - have)) > 0)
		have += n;
	close(fd);
	buf[have] = 0;
	return n < 0 ? -1 : (int)have;
}

#define HELD "/sys/module/cowmem/parameters/held_kib"

/* What all regions hold together, in KiB. */
static __maybe_unused long held(void)
{
	char buf[32];

	must(read_file(HELD, buf, sizeof(buf)) > 0);
	return atol(buf);
}

/* Memory comes back with a delay: does it all, but for @kib? */
static __maybe_unused bool held_comes_down_to(long kib)
{
	int i;

	for (i = 0; i < 300 && held() > kib; i++)
		usleep(100000);
	if (held() <= kib)
		return true;
	fprintf(stderr, "# held_kib is %ld, not %ld\n", held(), kib);
	return false;
}

/* Share @n pages of @from, from page @src on, as those of @fd from @dst on. */
static __maybe_unused int do_copy(int fd, int from, uint64_t dst, uint64_t src, uint64_t n)
{
	struct cowmem_copy arg = {
		.fd = from, .src_offset = src * pgsz(), .dst_offset = dst * pgsz(),
		.length = n * pgsz(),
	};

	return ioctl(fd, COWMEM_IOC_COPY, &arg);
}

/* Pass a descriptor over a socket. */
static __maybe_unused void send_fd(int sk, int fd)
{
	union {
		struct cmsghdr hdr;
		char buf[CMSG_SPACE(sizeof(int))];
	} ctl = {};
	struct iovec iov = { "f", 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = ctl.buf, .msg_controllen = sizeof(ctl.buf),
	};

	ctl.hdr.cmsg_level = SOL_SOCKET;
	ctl.hdr.cmsg_type = SCM_RIGHTS;
	ctl.hdr.cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(&ctl.hdr), &fd, sizeof(fd));
	must(sendmsg(sk, &msg, 0) == 1);
}

static __maybe_unused int recv_fd(int sk)
{
	union {
		struct cmsghdr hdr;
		char buf[CMSG_SPACE(sizeof(int))];
	} ctl = {};
	char c;
	struct iovec iov = { &c, 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = ctl.buf, .msg_controllen = sizeof(ctl.buf),
	};
	int fd;

	must(recvmsg(sk, &msg, 0) == 1);
	must(ctl.hdr.cmsg_type == SCM_RIGHTS);
	memcpy(&fd, CMSG_DATA(&ctl.hdr), sizeof(fd));
	return fd;
}

/* ---- memory cgroups ---- */

static __maybe_unused long cg_read(const char *dir, const char *file)
{
	char path[192], buf[64];

	snprintf(path, sizeof(path), "%s/%s", dir, file);
	must(read_file(path, buf, sizeof(buf)) > 0);
	return atol(buf);
}

static __maybe_unused int cg_write(const char *dir, const char *file,
				   const char *text)
{
	char path[192];

	snprintf(path, sizeof(path), "%s/%s", dir, file);
	return write_file(path, text);
}

/* Memory comes back with a delay: RCU, and what CPUs keep in stock. */
static __maybe_unused bool cg_falls_below(const char *dir, long bytes)
{
	int i;

	for (i = 0; i < 200; i++) {
		if (cg_read(dir, "memory.current") < bytes)
			return true;
		usleep(50000);
	}
	fprintf(stderr, "# memory.current is still %ld\n",
		cg_read(dir, "memory.current"));
	return false;
}

/* Make a cgroup; return why there is none, or NULL. */
static __maybe_unused const char *cg_make(char *dir, size_t size)
{
	const char *root = "/sys/fs/cgroup";
	char buf[256], path[64];

	snprintf(path, sizeof(path), "%s/cgroup.controllers", root);
	if (access(path, R_OK) && mount("cgroup", root, "cgroup2", 0, NULL))
		return "no cgroup2 here";
	if (read_file(path, buf, sizeof(buf)) < 0 || !strstr(buf, "memory"))
		return "no memory controller in cgroup2";
	cg_write(root, "cgroup.subtree_control", "+memory");
	snprintf(dir, size, "%s/cowmem_%d", root, getpid());
	must(!mkdir(dir, 0700));
	must(cg_read(dir, "memory.current") >= 0);
	return NULL;
}

/* ---- memory that breaks ---- */

#ifndef MADV_HWPOISON
#define MADV_HWPOISON	100
#endif

#define NO_POISON "no MADV_HWPOISON: this kernel has no CONFIG_MEMORY_FAILURE"

/* Nothing is broken, but is it known what that would be? */
static __maybe_unused bool can_poison(void)
{
	return !madvise(anon(1), 0, MADV_HWPOISON);
}

/*
 * Break what is mapped at @mem.  The kernel may say EBUSY or EHWPOISON: it could not take
 * the page away from who has it.
 */
static __maybe_unused void poison(char *mem)
{
	must(!madvise(mem, pgsz(), MADV_HWPOISON) || errno == EBUSY || errno == EHWPOISON);
}

/* How often the module is used, or -1. */
static __maybe_unused int module_uses(void)
{
	static char buf[1 << 16];
	char *line;
	int uses;

	if (read_file("/proc/modules", buf, sizeof(buf)) < 0)
		return -1;
	line = strstr(buf, "cowmem ");
	if (!line || sscanf(line, "cowmem %*u %d", &uses) != 1)
		return -1;
	return uses;
}

/* Files are released a little after the call that closed them. */
static __maybe_unused bool uses_fall_to(int uses)
{
	int i;

	for (i = 0; i < 100; i++) {
		if (module_uses() == uses)
			return true;
		usleep(50000);
	}
	fprintf(stderr, "# the module is used %d times, not %d\n", module_uses(), uses);
	return false;
}

/* 0 or errno */
static __maybe_unused int unloading(void)
{
	return syscall(SYS_delete_module, "cowmem", O_NONBLOCK) ? errno : 0;
}

/* This very program, at @path */
static __maybe_unused void copy_program(const char *path)
{
	int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	int to = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0755);
	ssize_t n;

	must(from >= 0 && to >= 0);
	while ((n = sendfile(to, from, NULL, 1 << 20)) > 0)
		;
	must(!n);
	close(from);
	close(to);
}

#endif /* _SELFTESTS_COWMEM_COMMON_H */
