// SPDX-License-Identifier: GPL-2.0-only
/*
 * Promise: a region is a file, and a mapping of it is an ordinary shared file mapping.
 *
 * One list of operations, at the end.  Each is done to a memfd and to a region, of the
 * same size and content, and what came of it is compared: return values, errno, data,
 * what fstat() and /proc say, signals.  Where they differ on purpose, the list says
 * why; then they have to differ, or the entry is stale.  Regions come in four kinds:
 *
 *	file		COWMEM_IOC_FILE, a regular file
 *	clone		COWMEM_IOC_CLONE, whose pages are shared with its origin
 *	device		open("/dev/cowmem")
 *	snapshot	beside a memfd with all seals that is open for reading only
 *
 *	as_memfd [WORD]...		operations whose name has one of the words
 *	as_memfd --only KIND [WORD]...	one kind of region
 *	as_memfd --self			memfds beside memfds: is the test itself steady?
 *	as_memfd --differences		print the differences on purpose
 *	as_memfd --show WORD...		print what comes of it
 */
#include <poll.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/fanotify.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ptrace.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>

#include <sys/xattr.h>
#include <linux/aio_abi.h>
#include <linux/falloc.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <linux/futex.h>
#include <linux/io_uring.h>
#include <linux/kcmp.h>
#include <linux/mempolicy.h>
#include <linux/userfaultfd.h>

#include "../kselftest.h"
#include "common.h"
#include "areas.h"
#include "cgroups.h"
#include "files.h"
#include "frames.h"
#include "outcome.h"

#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED	24
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE		25
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL	102
#define MADV_GUARD_REMOVE	103
#endif
#ifndef FAN_MARK_FILESYSTEM
#define FAN_MARK_FILESYSTEM	0x100
#endif
#ifndef SYS_cachestat
#define SYS_cachestat		451
#endif

/*
 * A subject has FULL pages of tag 1, then holes, PAGES in all.  The descriptor has a
 * number of its own, so that lists of descriptors can be compared.
 */
enum { PAGES = 8, FULL = 4, SUBJECT_FD = 40, ORIGIN_FD = 60 };

#define LEN ((long)(PAGES * pgsz()))
#define NAME "as_memfd"

struct kind {
	const char *name;
	int (*make)(void);
	const struct kind *like;	/* what it is compared with */
};

struct subject {
	const struct kind *kind;
	int fd;
	char path[32];			/* /proc/self/fd/N */
	long arg;			/* the operation's */
};

/* ---- to note what happened ---- */

/* Which page is it that @mem shows? */
static size_t describe_page(char *text, size_t size, const char *mem, size_t len)
{
	uint64_t hash = 0xcbf29ce484222325ULL;
	char want[pgsz()];
	size_t i;

	memset(want, 0, len);
	if (!memcmp(mem, want, len))
		return snprintf(text, size, " zeroes");
	for (i = 0; i < PAGES; i++) {
		pg_fill(want, 1, i);
		if (!memcmp(mem, want, len))
			return snprintf(text, size, " page%zu", i);
	}
	for (i = 0; i < len; i++)
		hash = (hash ^ (unsigned char)mem[i]) * 0x100000001b3ULL;
	return snprintf(text, size, " #%08x", (unsigned int)(hash >> 32));
}

static void note_data(const char *what, const void *mem, size_t len)
{
	char text[4096] = "";
	size_t used = 0, at, n;

	for (at = 0; at < len && used < sizeof(text) - 32; at += n) {
		n = len - at < pgsz() ? len - at : pgsz();
		used += describe_page(text + used, sizeof(text) - used,
				      (const char *)mem + at, n);
	}
	note("%s: %zu bytes:%s", what, len, text);
}

/* Note all that the file holds, as pread() sees it. */
static void note_content(int fd)
{
	char *buf = anon(64);
	ssize_t n = pread(fd, buf, 64 * pgsz(), 0);

	if (n < 0)
		note("content: %s", error());
	else
		note_data("content", buf, n);
	unmap(buf, 64);
}

/* By lseek(), as fstat() of a device tells nothing; elsewhere it must say the same. */
static void note_size(struct subject *s)
{
	off_t was = lseek(s->fd, 0, SEEK_CUR), end = lseek(s->fd, 0, SEEK_END);
	struct stat st;

	must(was >= 0 && lseek(s->fd, was, SEEK_SET) == was);
	note("size %lld", (long long)end);
	must(!fstat(s->fd, &st));
	if (S_ISREG(st.st_mode) && st.st_size != end)
		note("but fstat says %lld", (long long)st.st_size);
}

/* For operations that load from no hole: that takes a memfd a page, and a region none. */
static void note_blocks(struct subject *s)
{
	struct stat st;

	must(!fstat(s->fd, &st));
	note("%lld blocks", (long long)st.st_blocks);
}

static void note_state(struct subject *s)
{
	note_size(s);
	note_content(s->fd);
}

/* ---- subjects ---- */

static void fill_file(int fd)
{
	char *buf = anon(FULL);

	fill(buf, FULL, 1, 0);
	must(pwrite(fd, buf, FULL * pgsz(), 0) == (ssize_t)(FULL * pgsz()));
	unmap(buf, FULL);
}

static int make_memfd(void)
{
	int fd = memfd_create(NAME, MFD_CLOEXEC | MFD_ALLOW_SEALING);

	must(fd >= 0);
	must(!ftruncate(fd, LEN));
	fill_file(fd);
	return fd;
}

static int reopened(int fd, int flags)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, flags | O_CLOEXEC);
}

static int make_sealed(void)
{
	int fd = make_memfd(), ro;

	must(!fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW |
		    F_SEAL_WRITE));
	must(!fchmod(fd, 0400));
	ro = reopened(fd, O_RDONLY);
	must(ro >= 0);
	close(fd);
	return ro;
}

static int make_device(void)
{
	int fd = region();

	must(!do_resize(fd, LEN));
	fill_file(fd);
	return fd;
}

static int make_file(void)
{
	struct cowmem_file arg = { .name = (uintptr_t)NAME };
	int fd = region();

	must(!ioctl(fd, COWMEM_IOC_FILE, &arg));
	close(fd);
	must(!do_resize(arg.fd, LEN));
	fill_file(arg.fd);
	return arg.fd;
}

/* The origin stays open, so the pages stay shared. */
static int derived(uint32_t flags)
{
	int fd = make_device(), new = do_clone(fd, flags, 0, 0);

	must(new >= 0);
	must(fcntl(fd, F_DUPFD_CLOEXEC, ORIGIN_FD) >= ORIGIN_FD);
	close(fd);
	return new;
}

static int make_clone(void)
{
	return derived(0);
}

static int make_snapshot(void)
{
	return derived(COWMEM_CLONE_SNAPSHOT);
}

static const struct kind memfd = { "memfd", make_memfd, &memfd };
static const struct kind sealed = { "sealed memfd", make_sealed, &sealed };
static const struct kind kinds[] = {
	{ "file", make_file, &memfd },
	{ "clone", make_clone, &memfd },
	{ "device", make_device, &memfd },
	{ "snapshot", make_snapshot, &sealed },
};

static void make_subject(struct subject *s, const struct kind *kind)
{
	int fd = kind->make();

	s->kind = kind;
	s->fd = fcntl(fd, F_DUPFD_CLOEXEC, SUBJECT_FD);
	must(s->fd >= SUBJECT_FD);
	close(fd);
	snprintf(s->path, sizeof(s->path), "/proc/self/fd/%d", s->fd);
}

/* Another file of the same kind */
static int twin(const struct subject *s)
{
	struct subject other;

	make_subject(&other, s->kind);
	return other.fd;
}

/* ---- helpers of the operations ---- */

/* Where another size is needed but not the point: a device has an ioctl for it. */
static int set_size(struct subject *s, off_t size)
{
	struct stat st;

	must(!fstat(s->fd, &st));
	return S_ISCHR(st.st_mode) ? do_resize(s->fd, size) : ftruncate(s->fd, size);
}

static int punch(struct subject *s, off_t from, off_t len)
{
	struct stat st;

	must(!fstat(s->fd, &st));
	return S_ISCHR(st.st_mode) ? do_discard(s->fd, from, len) :
	       fallocate(s->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, from, len);
}

/* Or the operation ends here.  Nothing else is mapped near to it. */
static char *map_part(struct subject *s, int prot, int flags, size_t page, size_t pages)
{
	static char *next = (char *)(1UL << 40);
	char *mem = mmap(next, pages * pgsz(), prot, flags | MAP_FIXED_NOREPLACE, s->fd,
			 page * pgsz());

	if (mem == MAP_FAILED) {
		note("mmap: %s", error());
		end_op();
	}
	next += 1UL << 30;
	return mem;
}

static char *map(struct subject *s, int prot)
{
	return map_part(s, prot, MAP_SHARED, 0, PAGES);
}

/* For what needs to write: a snapshot fails here. */
static char *map_writable(struct subject *s)
{
	return map(s, PROT_READ | PROT_WRITE);
}

static sigjmp_buf touch_env;
static siginfo_t touch_info;

static void touch_handler(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	(void)context;
	touch_info = *info;
	siglongjmp(touch_env, 1);
}

/* Access a byte; note the signal that comes of it. */
static void access_at(const char *what, volatile char *p, bool write)
{
	struct sigaction act = { .sa_sigaction = touch_handler, .sa_flags = SA_SIGINFO };

	must(!sigaction(SIGBUS, &act, NULL));
	must(!sigaction(SIGSEGV, &act, NULL));
	if (!sigsetjmp(touch_env, 1)) {
		if (write)
			*p = 'w';
		else
			(void)*p;
		note("%s: done", what);
	} else {
		note("%s: %s, si_code %d, address %s", what,
		     touch_info.si_signo == SIGBUS ? "SIGBUS" : "SIGSEGV",
		     touch_info.si_code,
		     touch_info.si_addr == (void *)p ? "right" : "wrong");
	}
	signal(SIGBUS, SIG_DFL);
	signal(SIGSEGV, SIG_DFL);
}

static void store_all(char *mem)
{
	size_t i;

	for (i = 0; i < PAGES; i++)
		((volatile char *)mem)[i * pgsz()] = 'a' + i;
}

static void load_all(char *mem)
{
	size_t i;

	for (i = 0; i < PAGES; i++)
		(void)((volatile char *)mem)[i * pgsz()];
}

/* Run in a child, and note how it ended unless that was by exit(0). */
#define note_child(...) do {						\
	int __status = in_child(__VA_ARGS__);				\
									\
	if (__status)							\
		note("the child ended with %d", __status);		\
} while (0)

/* ---- what /proc says ---- */

/* The names differ on purpose, and are looked at by operations of their own. */
static const char *plain_name(const char *path)
{
	static const char * const names[] = {
		"/memfd:", "/cowmem:", COWMEM_DEV, NULL
	};
	size_t i;

	for (i = 0; names[i]; i++)
		if (!strncmp(path, names[i], strlen(names[i])))
			return "SUBJECT";
	return path;
}

struct vma {
	unsigned long start, end, offset;
	char perms[8], path[256];
};

/* A line of /proc/self/maps or the first of an entry in smaps */
static bool parse_vma(const char *line, struct vma *vma)
{
	vma->path[0] = 0;
	return sscanf(line, "%lx-%lx %7s %lx %*s %*s %255[^\n]", &vma->start, &vma->end,
		      vma->perms, &vma->offset, vma->path) >= 4;
}

static FILE *open_proc(const char *name)
{
	char path[64];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/%s", name);
	file = fopen(path, "re");
	must(file);
	return file;
}

/* The mappings in a range, of memory or (far-off ones) of the subject */
static int walk_maps(const char *mem, size_t len, bool say)
{
	unsigned long from = (unsigned long)mem, to = from + len;
	FILE *file = open_proc("maps");
	struct vma vma;
	char line[512];
	int n = 0;

	while (fgets(line, sizeof(line), file)) {
		if (!parse_vma(line, &vma) || vma.end <= from || vma.start >= to)
			continue;
		n++;
		if (say)
			note("maps: %lx-%lx %s %lx %s", vma.start - from, vma.end - from,
			     vma.perms, vma.offset, plain_name(vma.path));
	}
	fclose(file);
	return n;
}

static void note_maps(const char *mem, size_t len)
{
	walk_maps(mem, len, true);
}

static void note_maps_count(const char *when, const char *mem, size_t len)
{
	note("%s: %d mappings", when, walk_maps(mem, len, false));
}

/* Sum of a field of smaps, in KiB, over the mappings in a range */
static long smaps(const char *mem, size_t len, const char *field)
{
	unsigned long from = (unsigned long)mem, to = from + len;
	FILE *file = open_proc("smaps");
	size_t n = strlen(field);
	bool in = false;
	struct vma vma;
	char line[512];
	long sum = 0;

	while (fgets(line, sizeof(line), file)) {
		if (parse_vma(line, &vma))
			in = vma.end > from && vma.start < to;
		else if (in && !strncmp(line, field, n) && line[n] == ':')
			sum += atol(line + n + 1);
	}
	fclose(file);
	return sum;
}

static void note_smaps(const char *mem, const char *field)
{
	note("smaps: %s %ld kB", field, smaps(mem, LEN, field));
}

static void note_vmflags(const char *mem)
{
	unsigned long from = (unsigned long)mem, to = from + LEN;
	FILE *file = open_proc("smaps");
	bool in = false;
	struct vma vma;
	char line[512];

	while (fgets(line, sizeof(line), file)) {
		if (parse_vma(line, &vma))
			in = vma.end > from && vma.start < to;
		else if (in && !strncmp(line, "VmFlags:", 8))
			note("%.*s", (int)strcspn(line, "\n"), line);
	}
	fclose(file);
}

/* A field of /proc/self/status */
static long status(const char *field)
{
	FILE *file = open_proc("status");
	size_t n = strlen(field);
	char line[512];
	long value = -1;

	while (fgets(line, sizeof(line), file))
		if (!strncmp(line, field, n) && line[n] == ':')
			value = atol(line + n + 1);
	fclose(file);
	return value;
}

static void note_pagemap(const char *when, const char *mem)
{
	char text[PAGES * 8] = "";
	size_t i, used = 0;

	for (i = 0; i < PAGES; i++) {
		uint64_t entry = pagemap(mem + i * pgsz());

		used += snprintf(text + used, sizeof(text) - used, " %s%s%s%s",
				 entry >> 63 & 1 ? "p" : "-", entry >> 62 & 1 ? "s" : "-",
				 entry >> 61 & 1 ? "f" : "-", entry >> 55 & 1 ? "d" : "-");
	}
	note("pagemap %s (present, swapped, file, soft-dirty):%s", when, text);
}

/* The kernel's own store of the answer may take one, the first time: so that is not counted. */
static long minor_faults(void)
{
	static struct rusage usage;

	must(!getrusage(RUSAGE_SELF, &usage));
	must(!getrusage(RUSAGE_SELF, &usage));
	return usage.ru_minflt;
}

/* Do stores to all pages take faults? */
static void note_faults(const char *when, char *mem, bool write)
{
	long before = minor_faults();

	if (write)
		store_all(mem);
	else
		load_all(mem);
	note("%s: %s", when, minor_faults() - before ? "faults" : "no faults");
}

/* ---- read() and write() ---- */

static void read_in_turn(struct subject *s)
{
	char buf[100];
	int i;

	for (i = 0; i < 3; i++) {
		CALL(read(s->fd, buf, sizeof(buf)));
		note_data("read", buf, sizeof(buf));
	}
	CALL(lseek(s->fd, 0, SEEK_CUR));
}

static void write_in_turn(struct subject *s)
{
	CALL(write(s->fd, "abc", 3));
	CALL(write(s->fd, "defg", 4));
	CALL(lseek(s->fd, 0, SEEK_CUR));
	note_state(s);
}

static void pread_near_the_end(struct subject *s)
{
	char buf[100];

	memset(buf, 'x', sizeof(buf));
	CALL(pread(s->fd, buf, 100, LEN - 10));
	note_data("read", buf, sizeof(buf));
	CALL(pread(s->fd, buf, 100, LEN));
	CALL(pread(s->fd, buf, 100, LEN + 1000000));
	CALL(pread(s->fd, buf, 100, -1));
	CALL(pread(s->fd, buf, 100, INT64_MAX));
	CALL(pread(s->fd, buf, 100, INT64_MAX - 200));
	CALL(pread(s->fd, buf, 0, 0));
}

static void pread_holes(struct subject *s)
{
	char buf[3 * pgsz()];

	memset(buf, 'x', sizeof(buf));
	CALL(pread(s->fd, buf, sizeof(buf), 3 * pgsz() + 10));
	note_data("read", buf, sizeof(buf));
	note_size(s);
}

static void pwrite_past_the_end(struct subject *s)
{
	CALL(pwrite(s->fd, "abc", 3, LEN - 1));
	CALL(pwrite(s->fd, "defg", 4, LEN + 3 * pgsz() + 7));
	note_state(s);
}

static void pwrite_at_odd_offsets(struct subject *s)
{
	CALL(pwrite(s->fd, "a", 1, -1));
	CALL(pwrite(s->fd, "a", 1, INT64_MAX));
	CALL(pwrite(s->fd, "ab", 2, INT64_MAX - 1));
	CALL(pwrite(s->fd, "a", 0, LEN + 5));
	note_size(s);
	CALL(pwrite(s->fd, "a", 1, INT64_MAX - 1));
	note_size(s);
}

static void pwrite_whole_pages(struct subject *s)
{
	char buf[5 * pgsz()];

	fill(buf, 5, 1, 3);
	CALL(pwrite(s->fd, buf, sizeof(buf), pgsz()));
	note_state(s);
}

static void readv_and_writev(struct subject *s)
{
	char a[10], b[pgsz() + 904];
	struct iovec iov[4] = { { a, 10 }, { NULL, 0 }, { b, sizeof(b) }, { a, 10 } };

	CALL(readv(s->fd, iov, 4));
	note_data("first and last", a, 10);
	note_data("third", b, sizeof(b));
	CALL(writev(s->fd, iov, 4));
	CALL(readv(s->fd, iov, 0));
	CALL(syscall(SYS_readv, s->fd, iov, 1025));
	CALL(syscall(SYS_readv, s->fd, iov, -1));
	iov[1].iov_len = SIZE_MAX;
	CALL(readv(s->fd, iov, 4));
	note_state(s);
}

static void bad_buffers(struct subject *s)
{
	char *two = guarded(1);

	CALL(pread(s->fd, two + pgsz(), 10, 0));
	CALL(pwrite(s->fd, two + pgsz(), 10, 0));
	CALL(pread(s->fd, two + pgsz(), 10, LEN + 10));
	note_state(s);
}

static void bad_buffer_past_the_end(struct subject *s)
{
	char *two = guarded(1);

	CALL(pwrite(s->fd, two + pgsz(), 10, LEN + 10));
	note_state(s);
}

/* Some of the buffer can be read. */
static void half_bad_buffers(struct subject *s)
{
	char *two = guarded(1);

	memset(two, 'x', pgsz());
	CALL(pwrite(s->fd, two + pgsz() - 100, 300, pgsz() + 50));
	CALL(pread(s->fd, two + pgsz() - 100, 300, 2 * pgsz()));
	note_data("read", two + pgsz() - 100, 100);
	note_state(s);
}

/* A flag of preadv2() and pwritev2() */
static void with_rwf(struct subject *s)
{
	char buf[100];
	struct iovec iov = { buf, sizeof(buf) };

	memset(buf, 'x', sizeof(buf));
	CALL(preadv2(s->fd, &iov, 1, pgsz(), s->arg));
	note_data("read", buf, sizeof(buf));
	memset(buf, 'y', sizeof(buf));
	CALL(pwritev2(s->fd, &iov, 1, 50, s->arg));
	CALL(pwritev2(s->fd, &iov, 1, 5 * pgsz(), s->arg));
	CALL(pwritev2(s->fd, &iov, 1, LEN + 50, s->arg));
	CALL(pwritev2(s->fd, &iov, 1, -1, s->arg));
	CALL(lseek(s->fd, 0, SEEK_CUR));
	note_state(s);
}

static void append_mode(struct subject *s)
{
	note("F_GETFL: %#x", fcntl(s->fd, F_GETFL));
	CALL(fcntl(s->fd, F_SETFL, O_APPEND));
	note("F_GETFL: %#x", fcntl(s->fd, F_GETFL));
	CALL(write(s->fd, "abc", 3));
	CALL(pwrite(s->fd, "def", 3, 0));
	CALL(lseek(s->fd, 0, SEEK_CUR));
	note_state(s);
	CALL(fcntl(s->fd, F_SETFL, 0));
	CALL(pwrite(s->fd, "ghi", 3, 0));
	note_state(s);
}

static void file_size_limit(struct subject *s)
{
	struct rlimit lim = { LEN + 100, LEN + 100 };
	char buf[200] = "x";

	must(!setrlimit(RLIMIT_FSIZE, &lim));
	note_child(
		CALL(pwrite(s->fd, buf, 200, LEN + 150));
	);
	signal(SIGXFSZ, SIG_IGN);
	CALL(pwrite(s->fd, buf, 200, LEN));
	CALL(pwrite(s->fd, buf, 200, LEN + 100));
	CALL(ftruncate(s->fd, LEN + 101));
	CALL(ftruncate(s->fd, LEN + 100));
	CALL(fallocate(s->fd, 0, LEN, 200));
	CALL(fallocate(s->fd, FALLOC_FL_KEEP_SIZE, LEN, 200));
	CALL(fallocate(s->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, LEN, 200));
	note_size(s);
}

static void store_needs_no_room_below_the_limit(struct subject *s)
{
	struct rlimit lim = { 100, 100 };
	char *mem;

	must(!setrlimit(RLIMIT_FSIZE, &lim));
	mem = map_writable(s);
	access_at("a store", mem + 5 * pgsz(), true);
	note_size(s);
}

/* ---- positions ---- */

static void seek_everywhere(struct subject *s)
{
	static const struct { off_t off; int whence; } calls[] = {
		{ 10, SEEK_SET }, { 10, SEEK_CUR }, { -5, SEEK_CUR }, { -100, SEEK_CUR },
		{ 0, SEEK_END }, { 7, SEEK_END }, { -7, SEEK_END }, { INT64_MIN, SEEK_END },
		{ -1, SEEK_SET }, { INT64_MAX, SEEK_SET }, { 1, SEEK_CUR },
		{ INT64_MAX, SEEK_END }, { 0, 5 }, { 0, 99 }, { 0, -1 }, { 0, SEEK_CUR },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(calls); i++)
		CALL_AS(lseek(s->fd, calls[i].off, calls[i].whence), "lseek(%lld, %d)",
			(long long)calls[i].off, calls[i].whence);
}

static void note_holes(int fd)
{
	const off_t ps = pgsz(), at[] = {
		0, 1, ps - 1, ps, 2 * ps, 3 * ps + 5, 4 * ps - 1, 4 * ps, 5 * ps + 1,
		6 * ps, LEN - 1, LEN, LEN + 1, LEN + 5 * ps, -1, INT64_MAX, INT64_MIN,
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(at); i++) {
		CALL_AS(lseek(fd, at[i], SEEK_DATA), "data from %lld", (long long)at[i]);
		CALL_AS(lseek(fd, at[i], SEEK_HOLE), "hole from %lld", (long long)at[i]);
	}
	CALL(lseek(fd, 0, SEEK_CUR));
}

static void seek_data_and_holes(struct subject *s)
{
	note_holes(s->fd);
}

static void seek_after_changes(struct subject *s)
{
	CALL(punch(s, pgsz(), pgsz()));
	CALL(pwrite(s->fd, "a", 1, 6 * pgsz() + 1));
	CALL(set_size(s, LEN + pgsz() + 10));
	note_holes(s->fd);
}

static void seek_in_an_empty_file(struct subject *s)
{
	CALL(set_size(s, 0));
	CALL(lseek(s->fd, 0, SEEK_DATA));
	CALL(lseek(s->fd, 0, SEEK_HOLE));
	CALL(lseek(s->fd, 0, SEEK_END));
}

static void shared_position(struct subject *s)
{
	int copy = dup(s->fd), other = reopened(s->fd, O_RDONLY);
	char buf[100];

	DO(other);
	CALL(read(copy, buf, 30));
	CALL(lseek(s->fd, 0, SEEK_CUR));
	note_child(
		CALL(read(s->fd, buf, 50));
	);
	CALL(lseek(copy, 0, SEEK_CUR));
	CALL(lseek(other, 0, SEEK_CUR));
}

/* ---- size and space ---- */

static void truncate_up_and_down(struct subject *s)
{
	const long ps = pgsz(), sizes[] = {
		LEN + 3 * ps, LEN + 100, 2 * ps, 2 * ps + 500, 5 * ps, 0, ps, 10,
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		CALL_AS(ftruncate(s->fd, sizes[i]), "ftruncate(%ld)", sizes[i]);
		note_state(s);
	}
}

static void truncate_badly(struct subject *s)
{
	CALL(ftruncate(s->fd, -1));
	CALL(ftruncate(s->fd, INT64_MIN));
	CALL(ftruncate(s->fd, LEN));
	note_size(s);
	CALL(ftruncate(s->fd, INT64_MAX));
	note_size(s);
	CALL(ftruncate(s->fd, 1L << 50));
	note_size(s);
	CALL(truncate(s->path, 3 * pgsz()));
	note_size(s);
}

/* What is cut off within a page does not come back. */
static void truncate_clears_the_tail(struct subject *s)
{
	char *mem = map_writable(s);

	memset(mem, 'x', 2 * pgsz());
	CALL(set_size(s, pgsz() + 100));
	note_data("mapped", mem, 2 * pgsz());
	mem[pgsz() + 200] = 'y';
	CALL(set_size(s, LEN));
	note_data("mapped", mem, 2 * pgsz());
	note_state(s);
}

/* An fallocate() mode, over ranges of all sorts */
static void allocate(struct subject *s)
{
	const long ps = pgsz(), ranges[][2] = {
		{ 5 * ps, ps }, { ps, 2 * ps }, { 100, 200 }, { 2 * ps + 100, 5 * ps },
		{ LEN - ps, 3 * ps }, { LEN + 5 * ps, 10 }, { 0, 20 * ps },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(ranges); i++) {
		CALL_AS(fallocate(s->fd, s->arg, ranges[i][0], ranges[i][1]),
			"fallocate(%ld, %ld)", ranges[i][0], ranges[i][1]);
		note_state(s);
		note_blocks(s);
	}
	note_data("mapped", map(s, PROT_READ), LEN);
}

static void allocate_badly(struct subject *s)
{
	static const int modes[] = {
		0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(modes); i++) {
		CALL(fallocate(s->fd, modes[i], -1, 10));
		CALL(fallocate(s->fd, modes[i], 0, 0));
		CALL(fallocate(s->fd, modes[i], 0, -1));
		CALL(fallocate(s->fd, modes[i], INT64_MAX - 10, 20));
	}
	CALL(fallocate(s->fd, 0x1000, 0, 10));
	CALL(fallocate(s->fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_COLLAPSE_RANGE, 0, pgsz()));
	CALL(fallocate(s->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE |
		       FALLOC_FL_KEEP_SIZE, 0, pgsz()));
	CALL(posix_fallocate(s->fd, 0, 10 * pgsz()));
	note_state(s);
}

static void blocks_count_pages(struct subject *s)
{
	char *mem = map(s, PROT_READ);

	note_blocks(s);
	(void)((volatile char *)mem)[pgsz()];
	note_blocks(s);
	CALL(pwrite(s->fd, "a", 1, 5 * pgsz()));
	note_blocks(s);
	CALL(set_size(s, LEN + pgsz()));
	note_blocks(s);
	mem = map_writable(s);
	mem[0] = 'a';
	mem[7 * pgsz()] = 'a';
	note_blocks(s);
	CALL(set_size(s, 5 * pgsz() + 1));
	note_blocks(s);
	CALL(set_size(s, 0));
	note_blocks(s);
}

/* ---- advice, writing back ---- */

static void advise(struct subject *s)
{
	int advice;

	for (advice = -1; advice < 9; advice++)
		CALL_AS(posix_fadvise(s->fd, 0, LEN, advice), "advice %d", advice);
	CALL(posix_fadvise(s->fd, 0, 0, POSIX_FADV_WILLNEED));
	CALL(posix_fadvise(s->fd, 100, -5, POSIX_FADV_WILLNEED));
	CALL(posix_fadvise(s->fd, -5, 5, POSIX_FADV_DONTNEED));
	note_state(s);
}

static void read_ahead(struct subject *s)
{
	CALL(readahead(s->fd, 0, LEN));
	CALL(readahead(s->fd, LEN, 100));
	CALL(readahead(s->fd, -1, 100));
	CALL(readahead(s->fd, 0, -1));
	note_state(s);
}

static void sync_the_file(struct subject *s)
{
	CALL(fsync(s->fd));
	CALL(fdatasync(s->fd));
	CALL(syncfs(s->fd));
}

static void sync_a_range(struct subject *s)
{
	unsigned int flags;

	for (flags = 0; flags < 10; flags++)
		CALL_AS(sync_file_range(s->fd, 0, LEN, flags), "flags %u", flags);
	CALL(sync_file_range(s->fd, -1, 10, SYNC_FILE_RANGE_WRITE));
	CALL(sync_file_range(s->fd, 0, -1, SYNC_FILE_RANGE_WRITE));
	CALL(sync_file_range(s->fd, LEN * 2, 0, SYNC_FILE_RANGE_WRITE));
}

/* ---- copying between files ---- */

static long copied(int from, loff_t in, int to, loff_t off, size_t len, unsigned int flags)
{
	return copy_file_range(from, &in, to, &off, len, flags);
}

static void copy_within_the_file(struct subject *s)
{
	const long ps = pgsz();

	CALL(copied(s->fd, 0, s->fd, 5 * ps, ps, 0));
	CALL(copied(s->fd, 100, s->fd, 6 * ps + 50, ps, 0));
	CALL(copied(s->fd, 0, s->fd, ps, 2 * ps, 0));
	CALL(copied(s->fd, 0, s->fd, 0, ps, 0));
	CALL(copied(s->fd, 0, s->fd, LEN + 10, 20, 0));
	note_state(s);
	CALL(copied(s->fd, LEN + 100, s->fd, 0, 20, 0));
	CALL(copied(s->fd, LEN, s->fd, 0, 100, 0));
	CALL(copied(s->fd, -1, s->fd, 0, 100, 0));
	CALL(copied(s->fd, 0, s->fd, -1, 100, 0));
	CALL(copied(s->fd, 0, s->fd, LEN, 0, 0));
	CALL(copied(s->fd, 0, s->fd, LEN, 100, 1));
	note_state(s);
}

static void copy_to_its_like(struct subject *s)
{
	int to = twin(s);
	char buf[10];

	must(lseek(s->fd, 100, SEEK_SET) == 100);
	CALL(copy_file_range(s->fd, NULL, to, NULL, 3 * pgsz(), 0));
	CALL(lseek(s->fd, 0, SEEK_CUR));
	CALL(lseek(to, 0, SEEK_CUR));
	CALL(copied(s->fd, pgsz(), to, LEN + pgsz(), LEN * 4, 0));
	note_content(to);
	CALL(pwrite(to, "abc", 3, LEN + pgsz()));
	CALL(pread(s->fd, buf, 10, pgsz()));
	note_data("read", buf, 10);
	CALL(fcntl(to, F_SETFL, O_APPEND));
	CALL(copied(s->fd, 0, to, 0, 100, 0));
	CALL(copied(s->fd, 0, reopened(to, O_RDONLY), 0, 100, 0));
	CALL(copied(reopened(s->fd, O_WRONLY), 0, to, 0, 100, 0));
	note_state(s);
}

/* Many programs try this first and do with read() and write() what it refuses. */
static void copy_to_other_file_systems(struct subject *s)
{
	static const char * const dirs[] = { "/tmp", "/dev/shm", "/proc" };
	int pipes[2];
	size_t i;

	must(!pipe(pipes));
	for (i = 0; i < ARRAY_SIZE(dirs); i++) {
		int file = open(dirs[i], O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

		if (file < 0)
			continue;
		CALL(copied(s->fd, 0, file, 0, 100, 0));
		CALL(copied(file, 0, s->fd, 0, 100, 0));
		close(file);
	}
	CALL(copied(s->fd, 0, pipes[1], 0, 100, 0));
	CALL(copied(pipes[0], 0, s->fd, 0, 100, 0));
	note_state(s);
}

static void send_the_file(struct subject *s)
{
	int to = memfd_create("to", MFD_CLOEXEC), sk[2];
	char buf[LEN];
	off_t off = 10;

	must(!socketpair(AF_UNIX, SOCK_STREAM, 0, sk));
	CALL(sendfile(to, s->fd, NULL, LEN));
	CALL(lseek(s->fd, 0, SEEK_CUR));
	note_content(to);
	CALL(sendfile(sk[0], s->fd, &off, 5 * pgsz()));
	note("offset: %lld", (long long)off);
	CALL(recv(sk[1], buf, LEN, MSG_WAITALL | MSG_DONTWAIT));
	note_data("received", buf, 5 * pgsz());
	off = LEN;
	CALL(sendfile(to, s->fd, &off, 10));
	off = -1;
	CALL(sendfile(to, s->fd, &off, 10));
	/* And into it */
	must(!lseek(to, 0, SEEK_SET));
	off = pgsz();
	CALL(sendfile(s->fd, to, &off, 2 * pgsz()));
	note_state(s);
}

static void splice_out_and_in(struct subject *s)
{
	loff_t off = 10;
	char buf[LEN];
	int pipes[2];

	must(!pipe(pipes));
	CALL(splice(s->fd, &off, pipes[1], NULL, 3 * pgsz(), 0));
	note("offset: %lld", (long long)off);
	CALL(read(pipes[0], buf, LEN));
	note_data("read", buf, 3 * pgsz());
	CALL(splice(s->fd, NULL, pipes[1], NULL, pgsz(), SPLICE_F_NONBLOCK));
	CALL(lseek(s->fd, 0, SEEK_CUR));
	off = 6 * pgsz() + 1;
	CALL(splice(pipes[0], NULL, s->fd, &off, pgsz(), SPLICE_F_MOVE));
	note("offset: %lld", (long long)off);
	off = LEN;
	CALL(splice(s->fd, &off, pipes[1], NULL, 10, 0));
	off = -1;
	CALL(splice(s->fd, &off, pipes[1], NULL, 10, 0));
	CALL(splice(s->fd, NULL, s->fd, NULL, 10, 0));
	must(write(pipes[1], "abc", 3) == 3);
	must(!fcntl(s->fd, F_SETFL, O_APPEND));
	CALL(splice(pipes[0], NULL, s->fd, NULL, 3, 0));
	note_state(s);
}

static void tee_what_was_spliced(struct subject *s)
{
	int one[2], two[2];
	char buf[100];

	must(!pipe(one));
	must(!pipe(two));
	CALL(splice(s->fd, NULL, one[1], NULL, 100, 0));
	CALL(tee(one[0], two[1], 100, 0));
	CALL(read(two[0], buf, 100));
	note_data("read", buf, 100);
	CALL(tee(s->fd, two[1], 100, 0));
}

static void vmsplice_from_a_mapping(struct subject *s)
{
	char *mem = map(s, PROT_READ), buf[2 * pgsz()];
	struct iovec iov = { mem + 10, 2 * pgsz() };
	int pipes[2];

	must(!pipe(pipes));
	CALL(vmsplice(pipes[1], &iov, 1, 0));
	CALL(read(pipes[0], buf, sizeof(buf)));
	note_data("read", buf, sizeof(buf));
	CALL(vmsplice(s->fd, &iov, 1, 0));
}

static void vmsplice_into_a_mapping(struct subject *s)
{
	char *mem = map_writable(s), buf[2 * pgsz()];
	struct iovec iov = { mem + pgsz(), 2 * pgsz() };
	int pipes[2];

	must(!pipe(pipes));
	memset(buf, 'x', sizeof(buf));
	must(write(pipes[1], buf, sizeof(buf)) == (ssize_t)sizeof(buf));
	CALL(vmsplice(pipes[0], &iov, 1, 0));
	note_state(s);
}

/* What is in a pipe is the page itself, or a copy of it? */
static void pipe_shows_later_writes(struct subject *s)
{
	int pipes[2];
	char buf[10];

	must(!pipe(pipes));
	CALL(splice(s->fd, NULL, pipes[1], NULL, 10, 0));
	CALL(pwrite(s->fd, "0123456789", 10, 0));
	CALL(read(pipes[0], buf, 10));
	note_data("read", buf, 10);
}

static void clone_the_file(struct subject *s)
{
	struct file_clone_range range = { .src_fd = s->fd, .src_length = pgsz() };
	int to = twin(s);

	range.dest_offset = 2 * pgsz();
	CALL(ioctl(to, FICLONERANGE, &range));
	CALL(ioctl(to, FICLONE, s->fd));
	range.src_fd = to;
	CALL(ioctl(s->fd, FICLONERANGE, &range));
	note_content(to);
	note_state(s);
}

static void clone_across_file_systems(struct subject *s)
{
	int file = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600), pipes[2];

	must(!pipe(pipes));
	CALL(ioctl(file, FICLONE, s->fd));
	CALL(ioctl(s->fd, FICLONE, file));
	CALL(ioctl(s->fd, FICLONE, pipes[0]));
	CALL(ioctl(s->fd, FICLONE, -1));
}

static void dedupe_the_file(struct subject *s)
{
	struct file_dedupe_range *arg = calloc(1, sizeof(*arg) + sizeof(arg->info[0]));

	must(arg);
	arg->src_length = pgsz();
	arg->dest_count = 1;
	arg->info[0].dest_fd = twin(s);
	CALL(ioctl(s->fd, FIDEDUPERANGE, arg));
	note("status %d, deduped %lld", arg->info[0].status,
	     (long long)arg->info[0].bytes_deduped);
}

/* ---- ioctls that every file has, or has not ---- */

static void ioctl_fionread(struct subject *s)
{
	int n = -1;

	CALL(ioctl(s->fd, FIONREAD, &n));
	note("%d bytes", n);
	CALL(lseek(s->fd, 10, SEEK_SET));
	CALL(ioctl(s->fd, FIONREAD, &n));
	note("%d bytes", n);
}

#ifndef FIOQSIZE
#define FIOQSIZE 0x5460
#endif

static void ioctl_size_and_block(struct subject *s)
{
	long long size = -1;
	int block = -1;

	CALL(ioctl(s->fd, FIOQSIZE, &size));
	CALL(ioctl(s->fd, FIGETBSZ, &block));
	note("size %lld, block %d", size, block);
}

static void ioctl_descriptor_flags(struct subject *s)
{
	int on = 1;

	CALL(ioctl(s->fd, FIONBIO, &on));
	note("F_GETFL: %#x", fcntl(s->fd, F_GETFL));
	CALL(ioctl(s->fd, FIONCLEX));
	CALL(fcntl(s->fd, F_GETFD));
	CALL(ioctl(s->fd, FIOCLEX));
	CALL(fcntl(s->fd, F_GETFD));
	CALL(ioctl(s->fd, FIOASYNC, &on));
	note("F_GETFL: %#x", fcntl(s->fd, F_GETFL));
}

static void ioctl_inode_flags(struct subject *s)
{
	struct fsxattr x = {};
	int flags = -1;

	CALL(ioctl(s->fd, FS_IOC_GETFLAGS, &flags));
	CALL(ioctl(s->fd, FS_IOC_FSGETXATTR, &x));
	flags = FS_APPEND_FL;
	CALL(ioctl(s->fd, FS_IOC_SETFLAGS, &flags));
	CALL(pwrite(s->fd, "a", 1, 0));
}

static void ioctl_unknown(struct subject *s)
{
	struct fiemap map = { .fm_length = LEN };
	char buf[256] = "";

	CALL(ioctl(s->fd, FS_IOC_FIEMAP, &map));
	CALL(ioctl(s->fd, FIBMAP, buf));
	CALL(ioctl(s->fd, 0x5401 /* TCGETS */, buf));
	CALL(ioctl(s->fd, FS_IOC_GETVERSION, buf));
	CALL(ioctl(s->fd, FITRIM, buf));
	CALL(ioctl(s->fd, BLKGETSIZE64, buf));
	CALL(ioctl(s->fd, _IO(0x77, 77), 0));
	CALL(ioctl(s->fd, 0, 0));
	CALL(ioctl(s->fd, FIDEDUPERANGE, NULL));
	CALL(ioctl(s->fd, FICLONERANGE, NULL));
	CALL(isatty(s->fd));
}

/* ---- the inode ---- */

static void fstat_of_a_new_file(struct subject *s)
{
	struct stat st;

	must(!fstat(s->fd, &st));
	note("type %#o, %lld links, owner %d:%d", st.st_mode & S_IFMT,
	     (long long)st.st_nlink, (int)st.st_uid, (int)st.st_gid);
	note("size %lld, %lld blocks, I/O by %lld", (long long)st.st_size,
	     (long long)st.st_blocks, (long long)st.st_blksize);
	note("rdev %d:%d, times %s", (int)major(st.st_rdev), (int)minor(st.st_rdev),
	     time(NULL) - st.st_mtime < 100 && time(NULL) - st.st_atime < 100 &&
	     time(NULL) - st.st_ctime < 100 ? "of now" : "odd");
}

static void mode_of_a_new_file(struct subject *s)
{
	struct stat st;

	must(!fstat(s->fd, &st));
	note("mode %#o", st.st_mode & 07777);
}

/* Two files are two inodes of one file system. */
static void inodes_are_unique(struct subject *s)
{
	struct stat a, b, c;
	int other = reopened(s->fd, O_RDONLY);

	must(!fstat(s->fd, &a));
	must(!fstat(twin(s), &b));
	note("inodes %s, devices %s", a.st_ino == b.st_ino ? "same" : "differ",
	     a.st_dev == b.st_dev ? "same" : "differ");
	DO(other);
	if (fstat(other, &c))
		return;
	note("reopened: inodes %s", a.st_ino == c.st_ino ? "same" : "differ");
}

static void statx_of_a_new_file(struct subject *s)
{
	struct statx stx = {};

	CALL(statx(s->fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &stx));
	note("mask %#x", stx.stx_mask & STATX_BASIC_STATS);
	note("size %llu, blocks %llu, blksize %u", (unsigned long long)stx.stx_size,
	     (unsigned long long)stx.stx_blocks, stx.stx_blksize);
	CALL(statx(s->fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_SIZE, &stx));
	CALL(statx(s->fd, "x", 0, STATX_SIZE, &stx));
}

static void statx_birth(struct subject *s)
{
	struct statx stx = {};

	must(!statx(s->fd, "", AT_EMPTY_PATH, STATX_BTIME, &stx));
	note("born: %s", !(stx.stx_mask & STATX_BTIME) ? "unknown" :
	     time(NULL) - stx.stx_btime.tv_sec < 100 ? "now" : "another time");
}

static void statx_attributes(struct subject *s)
{
	struct statx stx = {};

	must(!statx(s->fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &stx));
	note("attributes %#llx of %#llx", (unsigned long long)stx.stx_attributes,
	     (unsigned long long)stx.stx_attributes_mask);
}

static void file_system_type(struct subject *s)
{
	struct statfs fs;

	must(!fstatfs(s->fd, &fs));
	note("type %#lx", (long)fs.f_type);
}

static void file_system_numbers(struct subject *s)
{
	struct statfs fs;

	CALL(fstatfs(s->fd, &fs));
	note("bsize %ld, frsize %ld, namelen %ld", (long)fs.f_bsize, (long)fs.f_frsize,
	     (long)fs.f_namelen);
	note("blocks %s, files %s", fs.f_blocks ? "some" : "0", fs.f_files ? "some" : "0");
	CALL(statfs(s->path, &fs));
}

static void mount_flags(struct subject *s)
{
	struct statfs fs;

	must(!fstatfs(s->fd, &fs));
	note("flags %#lx", (long)fs.f_flags);
}

static void change_mode_and_owner(struct subject *s)
{
	static const int modes[] = { 0600, 0, 04755, 01777, 02666, 0177777 };
	struct stat st;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(modes); i++) {
		CALL_AS(fchmod(s->fd, modes[i]), "fchmod(%#o)", modes[i]);
		must(!fstat(s->fd, &st));
		note("mode %#o", st.st_mode & 07777);
	}
	CALL(chmod(s->path, 0640));
	CALL(fchmod(s->fd, 06777));
	CALL(fchown(s->fd, NOBODY, 7));
	must(!fstat(s->fd, &st));
	note("mode %#o, owner %d:%d", st.st_mode & 07777, st.st_uid, st.st_gid);
	CALL(fchown(s->fd, -1, -1));
	CALL(chown(s->path, 0, 0));
	become_nobody();
	CALL(fchmod(s->fd, 0777));
	CALL(fchown(s->fd, NOBODY, NOBODY));
	must(!fstat(s->fd, &st));
	note("mode %#o, owner %d:%d", st.st_mode & 07777, st.st_uid, st.st_gid);
}

/* A write by anyone but root takes the set-user-ID bit away. */
static void write_drops_setuid(struct subject *s)
{
	struct stat st;

	CALL(fchmod(s->fd, 06777));
	note_child(
		become_nobody();
		CALL(pwrite(s->fd, "a", 1, 0));
	);
	must(!fstat(s->fd, &st));
	note("mode %#o", st.st_mode & 07777);
	CALL(fchmod(s->fd, 06777));
	note_child(
		become_nobody();
		CALL(ftruncate(s->fd, 0));
	);
	must(!fstat(s->fd, &st));
	note("mode %#o", st.st_mode & 07777);
}

static void set_times(struct subject *s)
{
	struct timespec ts[2] = { { 1000, 5 }, { 2000, 7 } };
	struct stat st;

	CALL(futimens(s->fd, ts));
	must(!fstat(s->fd, &st));
	note("atime %ld.%ld, mtime %ld.%ld", (long)st.st_atim.tv_sec, st.st_atim.tv_nsec,
	     (long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
	ts[0].tv_nsec = UTIME_OMIT;
	ts[1].tv_nsec = UTIME_NOW;
	CALL(utimensat(AT_FDCWD, s->path, ts, 0));
	must(!fstat(s->fd, &st));
	note("atime %ld, mtime %s", (long)st.st_atim.tv_sec,
	     time(NULL) - st.st_mtime < 100 ? "now" : "another time");
	ts[0].tv_nsec = -1;
	CALL(futimens(s->fd, ts));
	CALL(fchmod(s->fd, 0600));
	become_nobody();
	CALL(futimens(s->fd, NULL));
}

static bool same_time(struct timespec a, struct timespec b)
{
	return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

/* Which times has it changed since the last call? */
static void note_times(struct subject *s, const char *what)
{
	static struct stat old;
	struct stat st;

	must(!fstat(s->fd, &st));
	if (what)
		note("%s: changed%s%s%s", what,
		     same_time(st.st_atim, old.st_atim) ? "" : " atime",
		     same_time(st.st_mtim, old.st_mtim) ? "" : " mtime",
		     same_time(st.st_ctim, old.st_ctim) ? "" : " ctime");
	old = st;
	nap();
}

static void times_changed_by_calls(struct subject *s)
{
	char c;

	nap();
	note_times(s, NULL);
	(void)!pwrite(s->fd, "a", 1, 0);
	note_times(s, "pwrite");
	(void)!pwrite(s->fd, "a", 0, 0);
	note_times(s, "pwrite of nothing");
	(void)!ftruncate(s->fd, LEN);
	note_times(s, "ftruncate to the same");
	(void)!ftruncate(s->fd, LEN - 1);
	note_times(s, "ftruncate");
	(void)!fallocate(s->fd, 0, 0, pgsz());
	note_times(s, "fallocate of what is there");
	(void)!fallocate(s->fd, 0, LEN, pgsz());
	note_times(s, "fallocate");
	(void)!fallocate(s->fd, FALLOC_FL_KEEP_SIZE, LEN + pgsz(), pgsz());
	note_times(s, "fallocate, size kept");
	(void)!fallocate(s->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, pgsz());
	note_times(s, "punch");
	(void)!fchmod(s->fd, 0400);
	note_times(s, "fchmod");
	(void)!pread(s->fd, &c, 1, 0);
	note_times(s, "pread");
}

static void times_changed_by_copies(struct subject *s)
{
	int to = memfd_create("to", MFD_CLOEXEC), pipes[2];

	must(!pipe(pipes));
	nap();
	note_times(s, NULL);
	must(write(pipes[1], "a", 1) == 1);
	(void)!splice(pipes[0], NULL, s->fd, NULL, 1, 0);
	note_times(s, "splice into it");
	(void)!copied(s->fd, 0, s->fd, LEN, 10, 0);
	note_times(s, "copy_file_range");
	(void)!splice(s->fd, NULL, pipes[1], NULL, 1, 0);
	note_times(s, "splice out of it");
	(void)!sendfile(to, s->fd, NULL, 1);
	note_times(s, "sendfile");
}

static void times_changed_by_mappings(struct subject *s)
{
	char *mem;

	nap();
	note_times(s, NULL);
	mem = map(s, PROT_READ);
	note_times(s, "mmap");
	load_all(mem);
	note_times(s, "loads");
	munmap(mem, LEN);
	mem = map_writable(s);
	note_times(s, "writable mmap");
	mem[0] = 'a';
	note_times(s, "a store");
	mem[6 * pgsz()] = 'a';
	note_times(s, "a store into a hole");
	msync(mem, LEN, MS_SYNC);
	note_times(s, "msync");
	madvise(mem, pgsz(), MADV_REMOVE);
	note_times(s, "MADV_REMOVE");
}

static void extended_attributes(struct subject *s)
{
	char buf[256];

	CALL(fsetxattr(s->fd, "user.a", "b", 1, 0));
	CALL(fgetxattr(s->fd, "user.a", buf, sizeof(buf)));
	CALL(fsetxattr(s->fd, "trusted.a", "b", 1, 0));
	CALL(fgetxattr(s->fd, "trusted.a", buf, sizeof(buf)));
	CALL(flistxattr(s->fd, buf, sizeof(buf)));
	CALL(fremovexattr(s->fd, "trusted.a"));
}

static void attributes_it_has_not(struct subject *s)
{
	char buf[256];

	CALL(fgetxattr(s->fd, "nonsense.a", buf, sizeof(buf)));
	CALL(fsetxattr(s->fd, "nonsense.a", "b", 1, 0));
	CALL(fgetxattr(s->fd, "", buf, sizeof(buf)));
	CALL(flistxattr(s->fd, NULL, 0));
}

/* ---- locks ---- */

static void flock_of_two_opens(struct subject *s)
{
	int copy = dup(s->fd), other = reopened(s->fd, O_RDONLY);

	DO(other);
	CALL(flock(s->fd, LOCK_EX));
	CALL(flock(copy, LOCK_EX | LOCK_NB));
	CALL(flock(other, LOCK_EX | LOCK_NB));
	CALL(flock(other, LOCK_SH | LOCK_NB));
	CALL(flock(copy, LOCK_SH));
	CALL(flock(other, LOCK_SH | LOCK_NB));
	CALL(flock(s->fd, LOCK_EX | LOCK_NB));
	close(other);
	CALL(flock(s->fd, LOCK_EX | LOCK_NB));
	CALL(flock(s->fd, LOCK_UN));
	CALL(flock(s->fd, 77));
}

/* Two files never get in each other's way. */
static void locks_are_of_one_file(struct subject *s)
{
	struct flock fl = { .l_type = F_RDLCK, .l_whence = SEEK_SET };
	int other = twin(s);

	CALL(flock(s->fd, LOCK_EX | LOCK_NB));
	CALL(flock(other, LOCK_EX | LOCK_NB));
	CALL(fcntl(s->fd, F_OFD_SETLK, &fl));
	CALL(fcntl(other, F_OFD_SETLK, &fl));
	fl.l_type = F_WRLCK;
	CALL(fcntl(s->fd, F_OFD_SETLK, &fl));
	CALL(fcntl(other, F_OFD_SETLK, &fl));
}

static long lock(int fd, int cmd, int type, off_t from, off_t len)
{
	struct flock fl = {
		.l_type = type, .l_whence = SEEK_SET, .l_start = from, .l_len = len,
	};
	long ret = fcntl(fd, cmd, &fl);

	if ((cmd == F_GETLK || cmd == F_OFD_GETLK) && !ret)
		note("lock: type %d, from %lld, length %lld, of %s", fl.l_type,
		     (long long)fl.l_start, (long long)fl.l_len,
		     fl.l_pid == getppid() ? "the parent" : fl.l_pid == -1 ? "an open file" :
		     "nobody");
	return ret;
}

static void posix_locks_of_processes(struct subject *s)
{
	CALL(lock(s->fd, F_SETLK, F_WRLCK, 0, 100));
	CALL(lock(s->fd, F_SETLK, F_RDLCK, 100, 0));
	CALL(lock(s->fd, F_SETLK, F_UNLCK, 50, 10));
	note_child(
		CALL(lock(s->fd, F_GETLK, F_RDLCK, 0, 100));
		CALL(lock(s->fd, F_SETLK, F_RDLCK, 50, 10));
		CALL(lock(s->fd, F_SETLK, F_WRLCK, 0, 10));
		CALL(lock(s->fd, F_SETLK, F_RDLCK, 200, 10));
		CALL(lock(s->fd, F_GETLK, F_WRLCK, 5000, 10));
	);
	CALL(lock(s->fd, F_SETLK, 77, 0, 10));
	CALL(lock(s->fd, F_SETLK, F_RDLCK, -1, 10));
}

/* A process loses its locks with any descriptor of the file. */
static void posix_locks_go_by_close(struct subject *s)
{
	int fd = reopened(s->fd, O_RDONLY);

	DO(fd);
	CALL(lock(s->fd, F_SETLK, F_RDLCK, 0, 100));
	close(fd);
	note_child(
		CALL(lock(s->fd, F_GETLK, F_WRLCK, 0, 100));
	);
}

static void open_file_locks(struct subject *s)
{
	int fd = reopened(s->fd, O_RDWR);

	DO(fd);
	CALL(lock(s->fd, F_OFD_SETLK, F_WRLCK, 0, 100));
	CALL(lock(fd, F_OFD_SETLK, F_RDLCK, 50, 100));
	CALL(lock(fd, F_OFD_GETLK, F_RDLCK, 50, 100));
	CALL(lock(fd, F_SETLK, F_RDLCK, 50, 100));
	CALL(lock(dup(s->fd), F_OFD_SETLK, F_UNLCK, 0, 0));
	CALL(lock(fd, F_OFD_SETLK, F_RDLCK, 50, 100));
	CALL(lock(reopened(s->fd, O_RDONLY), F_OFD_SETLK, F_WRLCK, 0, 1));
}

/* Two that wait for each other */
static void deadlock_is_found(struct subject *s)
{
	int *locked = shared_mem(sizeof(*locked));
	pid_t pid;

	CALL(lock(s->fd, F_SETLK, F_WRLCK, 0, 1));
	pid = spawn();
	if (!pid) {
		long ret = lock(s->fd, F_SETLK, F_WRLCK, 1, 1);

		put(locked, 1);
		ret = ret ?: lock(s->fd, F_SETLKW, F_WRLCK, 0, 1);
		_exit(ret ? 1 : 0);
	}
	await(locked, 1);
	nap();
	nap();
	CALL(lock(s->fd, F_SETLKW, F_WRLCK, 1, 1));
	CALL(lock(s->fd, F_SETLK, F_UNLCK, 0, 1));
	note("the child: %d", reap(pid));
}

static void ignore_signal(int sig)
{
	(void)sig;
}

static void waiting_for_a_lock_is_interrupted(struct subject *s)
{
	CALL(lock(s->fd, F_SETLK, F_RDLCK, 0, 1));
	CALL(flock(s->fd, LOCK_EX));
	note_child(
		struct sigaction act = { .sa_handler = ignore_signal };
		struct itimerval timer = { { 0, 50000 }, { 0, 50000 } };
		int fd = reopened(s->fd, O_RDWR);

		sigaction(SIGVTALRM, &act, NULL);
		sigaction(SIGALRM, &act, NULL);
		setitimer(ITIMER_REAL, &timer, NULL);
		CALL(lock(fd, F_SETLKW, F_WRLCK, 0, 1));
		CALL(flock(fd, LOCK_EX));
	);
}

static void leases(struct subject *s)
{
	CALL(fcntl(s->fd, F_GETLEASE));
	CALL(fcntl(s->fd, F_SETLEASE, F_WRLCK));
	CALL(fcntl(s->fd, F_SETLEASE, F_RDLCK));
	CALL(fcntl(s->fd, F_SETLEASE, F_UNLCK));
	close(fcntl(s->fd, F_DUPFD, 0));
	CALL(fcntl(reopened(s->fd, O_RDONLY), F_SETLEASE, F_RDLCK));
}

static void proc_locks(struct subject *s)
{
	char path[64], text[4096], *line;

	CALL(flock(s->fd, LOCK_SH));
	CALL(lock(s->fd, F_SETLK, F_RDLCK, 10, 10));
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", s->fd);
	must(read_file(path, text, sizeof(text)) > 0);
	for (line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
		if (!strncmp(line, "lock:", 5))
			note("%.30s", line);
}

/* ---- fcntl() ---- */

static void seals_asked_for(struct subject *s)
{
	CALL(fcntl(s->fd, F_GET_SEALS));
}

static void seals_added(struct subject *s)
{
	CALL(fcntl(s->fd, F_ADD_SEALS, F_SEAL_GROW));
	CALL(ftruncate(s->fd, LEN + 10));
}

/* The bits are the same, the call is not. */
static int seal(struct subject *s, unsigned int seals)
{
	bool region = fcntl(s->fd, F_GET_SEALS) < 0;

	return region ? do_seal(s->fd, seals) : fcntl(s->fd, F_ADD_SEALS, seals);
}

static void note_mapping_of_sealed(struct subject *s)
{
	int prot = PROT_READ | PROT_WRITE;
	char *mem;

	CALL(mmap(NULL, LEN, prot, MAP_SHARED, s->fd, 0) == MAP_FAILED ? -1 : 0);
	CALL(mmap(NULL, LEN, prot, MAP_PRIVATE, s->fd, 0) == MAP_FAILED ? -1 : 0);
	mem = map(s, PROT_READ);
	CALL(mprotect(mem, LEN, prot));
	CALL(madvise(mem, pgsz(), MADV_REMOVE));
	note_vmflags(mem);
}

/* s->arg: seals */
static void seal_and_try(struct subject *s)
{
	CALL(seal(s, s->arg));
	CALL(pwrite(s->fd, "abc", 3, 0));
	CALL(pwrite(s->fd, "abc", 3, LEN));
	CALL(pwrite(s->fd, "abc", 3, LEN + 1));
	CALL(set_size(s, LEN / 2));
	CALL(set_size(s, LEN));
	CALL(set_size(s, LEN));
	CALL(punch(s, 0, pgsz()));
	note_mapping_of_sealed(s);
	CALL(seal(s, F_SEAL_GROW));
	CALL(set_size(s, LEN * 2));
	CALL(seal(s, 0x80));
	note_state(s);
}

static void write_across_a_sealed_end(struct subject *s)
{
	CALL(seal(s, F_SEAL_GROW));
	CALL(pwrite(s->fd, "abc", 3, LEN - 1));
	note_state(s);
}

static void allocate_in_a_sealed_file(struct subject *s)
{
	CALL(seal(s, s->arg));
	CALL(fallocate(s->fd, 0, 0, LEN));
	CALL(fallocate(s->fd, 0, LEN, pgsz()));
	CALL(fallocate(s->fd, FALLOC_FL_KEEP_SIZE, LEN, pgsz()));
	CALL(fallocate(s->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, pgsz()));
	CALL(copied(s->fd, 0, s->fd, 4 * pgsz(), pgsz(), 0));
	CALL(lseek(s->fd, 0, SEEK_CUR));
	note_state(s);
}

/* s->arg: a seal that a writable mapping is in the way of, or not */
static void seal_what_is_mapped(struct subject *s)
{
	char *mem = map_writable(s);

	CALL(seal(s, s->arg));
	access_at("store", mem, true);
	access_at("store into a hole", mem + 6 * pgsz(), true);
	CALL(pwrite(s->fd, "abc", 3, 0));
	CALL(mprotect(mem, LEN, PROT_READ));
	CALL(mprotect(mem, LEN, PROT_READ | PROT_WRITE));
	munmap(mem, LEN);
	map(s, PROT_READ);
	CALL(seal(s, s->arg));
	note_state(s);
}

static void reopen_what_is_sealed(struct subject *s)
{
	CALL(seal(s, s->arg));
	DO(reopened(s->fd, O_RDONLY));
	DO(reopened(s->fd, O_RDWR));
	DO(reopened(s->fd, O_WRONLY));
}

static void owner_and_signal(struct subject *s)
{
	CALL(fcntl(s->fd, F_SETOWN, getpid()));
	note("F_GETOWN: %s", fcntl(s->fd, F_GETOWN) == getpid() ? "me" : "not me");
	CALL(fcntl(s->fd, F_SETOWN, 0));
	CALL(fcntl(s->fd, F_SETSIG, SIGUSR1));
	CALL(fcntl(s->fd, F_GETSIG));
	CALL(fcntl(s->fd, F_SETSIG, 777));
}

static void other_fcntls(struct subject *s)
{
	uint64_t hint = 3;

	CALL(fcntl(s->fd, F_GETPIPE_SZ));
	CALL(fcntl(s->fd, F_NOTIFY, 1));
	CALL(fcntl(s->fd, 1036 /* F_SET_RW_HINT */, &hint));
	hint = 0;
	CALL(fcntl(s->fd, 1035 /* F_GET_RW_HINT */, &hint));
	note("hint %llu", (unsigned long long)hint);
	CALL(fcntl(s->fd, 7777, 0));
	CALL(fcntl(s->fd, F_DUPFD, 70));
	CALL(fcntl(70, F_GETFD));
	CALL(fcntl(s->fd, F_GETFD));
}

static void status_flags(struct subject *s)
{
	static const int flags[] = { O_NONBLOCK, O_ASYNC, O_NOATIME, O_SYNC, O_TRUNC };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(flags); i++) {
		CALL_AS(fcntl(s->fd, F_SETFL, flags[i]), "F_SETFL %#o", flags[i]);
		note("F_GETFL: %#o", fcntl(s->fd, F_GETFL));
	}
	CALL(pwrite(s->fd, "abc", 3, 0));
	note_state(s);
}

/* ---- events ---- */

static void note_inotify(int in, const char *when)
{
	char buf[4096], text[256] = "";
	ssize_t n = read(in, buf, sizeof(buf)), at;
	size_t used = 0;

	for (at = 0; at < n;) {
		struct inotify_event *ev = (void *)(buf + at);

		used += snprintf(text + used, sizeof(text) - used, " %#x", ev->mask);
		at += sizeof(*ev) + ev->len;
	}
	note("%s: events%s", when, text);
}

static void inotify_events(struct subject *s)
{
	int in = inotify_init1(IN_NONBLOCK | IN_CLOEXEC), fd;
	char c;

	if (in < 0)
		skip_op("inotify_init1: %s", error());
	DO(inotify_add_watch(in, s->path, IN_ALL_EVENTS));
	(void)!pread(s->fd, &c, 1, 0);
	note_inotify(in, "pread");
	(void)!pwrite(s->fd, "a", 1, 0);
	note_inotify(in, "pwrite");
	(void)!ftruncate(s->fd, 10);
	note_inotify(in, "ftruncate");
	(void)!fallocate(s->fd, 0, 0, pgsz());
	note_inotify(in, "fallocate");
	(void)!fchmod(s->fd, 0600);
	note_inotify(in, "fchmod");
	fd = reopened(s->fd, O_RDWR);
	note_inotify(in, "open");
	close(fd);
	note_inotify(in, "close");
	close(s->fd);
	note_inotify(in, "the last close");
}

static void note_fanotify(int fan, const char *when)
{
	struct fanotify_event_metadata ev[16];
	ssize_t n = read(fan, ev, sizeof(ev));
	char text[256] = "";
	size_t i, used = 0;

	for (i = 0; n > 0 && i < n / sizeof(ev[0]); i++) {
		used += snprintf(text + used, sizeof(text) - used, " %#llx",
				 (unsigned long long)ev[i].mask);
		if (ev[i].fd >= 0)
			close(ev[i].fd);
	}
	note("%s: events%s", when, text);
}

static void fanotify_events(struct subject *s)
{
	int fan = fanotify_init(FAN_CLASS_NOTIF | FAN_NONBLOCK | FAN_CLOEXEC, O_RDONLY);
	char c;

	if (fan < 0)
		skip_op("fanotify_init: %s", error());
	CALL(fanotify_mark(fan, FAN_MARK_ADD, FAN_OPEN | FAN_ACCESS | FAN_MODIFY | FAN_CLOSE,
			   AT_FDCWD, s->path));
	(void)!pread(s->fd, &c, 1, 0);
	note_fanotify(fan, "pread");
	(void)!pwrite(s->fd, "a", 1, 0);
	note_fanotify(fan, "pwrite");
	(void)!fallocate(s->fd, 0, 0, pgsz());
	note_fanotify(fan, "fallocate");
	close(reopened(s->fd, O_RDWR));
	note_fanotify(fan, "open and close");
}

static void fanotify_marks(struct subject *s)
{
	int fan = fanotify_init(FAN_CLASS_CONTENT | FAN_CLOEXEC, O_RDONLY);

	if (fan < 0)
		skip_op("fanotify_init: %s", error());
	CALL(fanotify_mark(fan, FAN_MARK_ADD, FAN_OPEN_PERM, AT_FDCWD, s->path));
	CALL(fanotify_mark(fan, FAN_MARK_FLUSH, 0, AT_FDCWD, s->path));
	CALL(fanotify_mark(fan, FAN_MARK_ADD | FAN_MARK_ONLYDIR, FAN_OPEN, AT_FDCWD, s->path));
}

static void poll_and_select(struct subject *s)
{
	struct pollfd p = { .fd = s->fd, .events = POLLIN | POLLOUT | POLLPRI | POLLRDHUP };
	struct timeval tv = {};
	fd_set r, w, x;

	CALL(poll(&p, 1, 0));
	note("revents %#x", p.revents);
	FD_ZERO(&r);
	FD_SET(s->fd, &r);
	w = r;
	x = r;
	CALL(select(s->fd + 1, &r, &w, &x, &tv));
}

static void epoll(struct subject *s)
{
	struct epoll_event ev = { .events = EPOLLIN };
	int fd = epoll_create1(EPOLL_CLOEXEC);

	CALL(epoll_ctl(fd, EPOLL_CTL_ADD, s->fd, &ev));
}

/* ---- opening it again, and what is said of its name ---- */

static void reopen_in_each_mode(struct subject *s)
{
	static const int flags[] = {
		O_RDONLY, O_WRONLY, O_RDWR, O_ACCMODE, O_PATH, O_APPEND | O_RDWR,
		O_CREAT | O_RDWR, O_CREAT | O_EXCL | O_RDWR, O_NOFOLLOW, O_DIRECTORY,
		O_NONBLOCK, O_SYNC | O_WRONLY, O_NOATIME, O_NOCTTY | O_LARGEFILE,
	};
	char buf[10];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(flags); i++) {
		int fd = open(s->path, flags[i] | O_CLOEXEC, 0600);

		CALL_AS(fd < 0 ? -1 : 0, "open %#o", flags[i]);
		if (fd < 0)
			continue;
		note("F_GETFL %#o", fcntl(fd, F_GETFL));
		CALL(read(fd, buf, 10));
		CALL(write(fd, "abc", 3));
		CALL(lseek(fd, 0, SEEK_CUR));
		close(fd);
	}
	note_state(s);
}

static void reopen_for_direct_io(struct subject *s)
{
	int fd = reopened(s->fd, O_RDWR | O_DIRECT);
	char *buf = anon(1);

	DO(fd);
	CALL(pread(fd, buf, pgsz(), 0));
	CALL(pwrite(fd, buf, pgsz(), pgsz()));
	CALL(fcntl(s->fd, F_SETFL, O_DIRECT));
	note_state(s);
}

static void reopen_and_truncate(struct subject *s)
{
	int fd;

	fd = reopened(s->fd, O_WRONLY | O_TRUNC);
	DO(fd);
	note_state(s);
	CALL(write(fd, "abc", 3));
	note_state(s);
	/* For reading, it truncates just the same. */
	fd = reopened(s->fd, O_RDONLY | O_TRUNC);
	DO(fd);
	note_state(s);
}

/* A user with the right to it reopens for writing what was open for reading only. */
static void reopen_for_more(struct subject *s)
{
	int ro = reopened(s->fd, O_RDONLY), rw;

	DO(ro);
	CALL(pwrite(ro, "a", 1, 0));
	CALL(ftruncate(ro, 0));
	CALL(fallocate(ro, 0, 0, 10));
	rw = reopened(ro, O_RDWR);
	DO(rw);
	CALL(pwrite(rw, "a", 1, 0));
	CALL(mmap(NULL, pgsz(), PROT_WRITE, MAP_SHARED, ro, 0) == MAP_FAILED ? -1 : 0);
	note_state(s);
}

static void reopen_by_others(struct subject *s)
{
	static const int modes[] = { 0600, 0606, 0604, 0602, 0 };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(modes); i++) {
		CALL_AS(fchmod(s->fd, modes[i]), "fchmod(%#o)", modes[i]);
		note_child(
			become_nobody();
			DO(reopened(s->fd, O_RDONLY));
			DO(reopened(s->fd, O_WRONLY));
			DO(reopened(s->fd, O_RDWR));
			DO(reopened(s->fd, O_RDONLY | O_TRUNC));
			DO(reopened(s->fd, O_PATH));
			CALL(access(s->path, R_OK));
			CALL(access(s->path, W_OK));
			CALL(access(s->path, X_OK));
		);
	}
}

static void reopen_by_its_owner(struct subject *s)
{
	CALL(fchown(s->fd, NOBODY, NOBODY));
	CALL(fchmod(s->fd, 0400));
	become_nobody();
	DO(reopened(s->fd, O_RDONLY));
	DO(reopened(s->fd, O_RDWR));
	CALL(fchmod(s->fd, 0600));
	DO(reopened(s->fd, O_RDWR));
}

static void access_by_path(struct subject *s)
{
	CALL(access(s->path, F_OK));
	CALL(access(s->path, R_OK | W_OK));
	CALL(fchmod(s->fd, 0600));
	CALL(access(s->path, X_OK));
	CALL(fchmod(s->fd, 0700));
	CALL(access(s->path, X_OK));
}

/* The inode is the same by whatever descriptor it is reached. */
static void reopened_is_the_same_file(struct subject *s)
{
	int fd = reopened(s->fd, O_RDWR);
	char *mem, *other, buf[4];

	DO(fd);
	mem = map_writable(s);
	other = mmap(NULL, LEN, PROT_READ, MAP_SHARED, fd, 0);
	DO(other);
	mem[5 * pgsz()] = 'a';
	note_data("through the other", other, LEN);
	CALL(pread(fd, buf, 4, 5 * pgsz()));
	note_data("read", buf, 4);
	close(s->fd);
	munmap(mem, LEN);
	CALL(ftruncate(fd, LEN + 10));
	note_content(fd);
}

static void note_link(const char *path)
{
	char text[256];
	ssize_t n = readlink(path, text, sizeof(text) - 1);

	text[n < 0 ? 0 : n] = 0;
	note("link: %s", n < 0 ? error() : strrchr(text, ' ') ?: text);
}

static void link_in_proc(struct subject *s)
{
	struct stat st;

	note_link(s->path);
	must(!lstat(s->path, &st));
	note("mode of the link %#o", st.st_mode);
	CALL(open(s->path, O_NOFOLLOW | O_CLOEXEC));
}

/* What programs look for: "memfd:NAME", "cowmem:NAME" */
static void name_in_proc(struct subject *s)
{
	char text[256] = "", *mem = map(s, PROT_READ);
	FILE *file = open_proc("maps");
	struct vma vma;
	char line[512];

	(void)!readlink(s->path, text, sizeof(text) - 1);
	note("link: %s", text);
	while (fgets(line, sizeof(line), file))
		if (parse_vma(line, &vma) && vma.start == (unsigned long)mem)
			note("maps: %s", vma.path);
	fclose(file);
}

static void fdinfo_lines(struct subject *s)
{
	char path[64], text[4096], *line;

	must(lseek(s->fd, 77, SEEK_SET) == 77);
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", s->fd);
	must(read_file(path, text, sizeof(text)) > 0);
	for (line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
		if (!strncmp(line, "pos:", 4) || !strncmp(line, "flags:", 6))
			note("%s", line);
}

static void more_lines_in_fdinfo(struct subject *s)
{
	char path[64], text[4096], *line;
	int n = 0;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", s->fd);
	must(read_file(path, text, sizeof(text)) > 0);
	for (line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
		n++;
	note("%d lines", n);
}

static void links_cannot_be_made(struct subject *s)
{
	CALL(linkat(s->fd, "", AT_FDCWD, "/tmp/as_memfd_link", AT_EMPTY_PATH));
	CALL(linkat(AT_FDCWD, s->path, AT_FDCWD, "/tmp/as_memfd_link", AT_SYMLINK_FOLLOW));
	unlink("/tmp/as_memfd_link");
}

static void not_a_directory(struct subject *s)
{
	char buf[256];

	CALL(syscall(SYS_getdents64, s->fd, buf, sizeof(buf)));
	CALL(openat(s->fd, "x", O_RDONLY));
	CALL(openat(s->fd, "x", O_CREAT | O_RDWR, 0600));
	CALL(fchdir(s->fd));
	CALL(mkdirat(s->fd, "x", 0700));
	CALL(unlinkat(s->fd, "x", 0));
	CALL(faccessat(s->fd, "x", R_OK, 0));
	CALL(readlinkat(s->fd, "", buf, sizeof(buf)));
	CALL(chroot(s->path));
}

static void mount_on_or_of_it(struct subject *s)
{
	int file = open("/tmp/as_memfd_mount", O_CREAT | O_RDWR | O_CLOEXEC, 0600);

	must(file >= 0);
	/* A device can be mounted, and on. */
	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		skip_op("a mount namespace: %s", error());
	CALL(mount(s->path, "/tmp/as_memfd_mount", NULL, MS_BIND, NULL));
	CALL(mount("/tmp/as_memfd_mount", s->path, NULL, MS_BIND, NULL));
	CALL(umount(s->path));
	umount("/tmp/as_memfd_mount");
	unlink("/tmp/as_memfd_mount");
}

static void file_handle(struct subject *s)
{
	union {
		struct file_handle fh;
		char room[sizeof(struct file_handle) + MAX_HANDLE_SZ];
	} h = { .fh.handle_bytes = MAX_HANDLE_SZ };
	int mount;

	DO(name_to_handle_at(s->fd, "", &h.fh, &mount, AT_EMPTY_PATH));
}

static void used_as_other_things(struct subject *s)
{
	struct sockaddr_un { sa_family_t f; char p[108]; } sa = { AF_UNIX, "" };

	CALL(send(s->fd, "a", 1, 0));
	CALL(bind(s->fd, (void *)&sa, sizeof(sa)));
	CALL(syscall(SYS_swapon, s->path, 0));
	CALL(syscall(SYS_inotify_rm_watch, s->fd, 1));
	CALL(syscall(SYS_timerfd_settime, s->fd, 0, NULL, NULL));
	CALL(syscall(SYS_setns, s->fd, 0));
	CALL(syscall(SYS_pidfd_send_signal, s->fd, 0, NULL, 0));
}

/* ---- programs in it ---- */

/* A static program that exits with 42 */
static void put_program(int fd)
{
	static const unsigned char code[] = {
		0xbf, 42, 0, 0, 0,		/* mov $42, %edi */
		0xb8, 60, 0, 0, 0,		/* mov $60, %eax */
		0x0f, 0x05,			/* syscall */
	};
	struct {
		unsigned char ident[16];
		uint16_t type, machine;
		uint32_t version;
		uint64_t entry, phoff, shoff;
		uint32_t flags;
		uint16_t ehsize, phentsize, phnum, shentsize, shnum, shstrndx;
		uint32_t ptype, pflags;
		uint64_t offset, vaddr, paddr, filesz, memsz, align;
		unsigned char code[sizeof(code)];
	} elf = {
		.ident = { 0x7f, 'E', 'L', 'F', 2, 1, 1 },
		.type = 2, .machine = 62, .version = 1, .entry = 0x400078,
		.phoff = 64, .ehsize = 64, .phentsize = 56, .phnum = 1,
		.ptype = 1, .pflags = 5, .vaddr = 0x400000, .paddr = 0x400000,
		.filesz = sizeof(elf), .memsz = sizeof(elf), .align = 0x1000,
	};

	memcpy(elf.code, code, sizeof(code));
	CALL(pwrite(fd, &elf, offsetof(typeof(elf), code) + sizeof(code), 0) > 0);
}

static int executed(int fd)
{
	char * const args[] = { "x", NULL };

	return in_child(
		/* A file that is open for writing cannot be run. */
		syscall(SYS_execveat, fd, "", args, args, AT_EMPTY_PATH);
		_exit(errno);
	);
}

/* What is open for writing cannot be executed, and the other way round. */
static void execute_while_open_for_writing(struct subject *s)
{
	put_program(s->fd);
	CALL(fchmod(s->fd, 0700));
	errno = executed(s->fd);
	note("executed: %s", errno == 42 ? "yes" : error());
}

static void execute(struct subject *s)
{
	int ro;

	put_program(s->fd);
	CALL(fchmod(s->fd, 0500));
	ro = reopened(s->fd, O_RDONLY);
	DO(ro);
	close(s->fd);
	errno = executed(ro);
	note("executed: %s", errno == 42 ? "yes" : error());
	CALL(fchmod(ro, 0400));
	errno = executed(ro);
	note("without the mode's x: %s", errno == 42 ? "yes" : error());
}

static void execute_a_script(struct subject *s)
{
	CALL(pwrite(s->fd, "#!/bin/no such\n", 15, 0));
	CALL(fchmod(s->fd, 0700));
	CALL(executed(reopened(s->fd, O_PATH)));
}

/* Machine code by way of a mapping, as a compiler at run time does it */
static void run_code_of_a_mapping(struct subject *s)
{
	static const unsigned char code[] = { 0xb8, 42, 0, 0, 0, 0xc3 };
	char *mem = map_writable(s);
	typeof(getpid) *run = (void *)map(s, PROT_READ | PROT_EXEC);

	memcpy(mem, code, sizeof(code));
	CALL(run());
	mem[1] = 43;
	CALL(run());
}

/* ---- descriptors ---- */

static void descriptor_copies(struct subject *s)
{
	char c;

	CALL(dup2(s->fd, 90));
	CALL(pread(90, &c, 1, 0));
	CALL(dup3(s->fd, 91, O_CLOEXEC));
	CALL(syscall(SYS_close_range, 91, 91, 0));
	CALL(pread(91, &c, 1, 0));
	CALL(syscall(SYS_close_range, 90, 90, 4 /* CLOSE_RANGE_CLOEXEC */));
	CALL(fcntl(90, F_GETFD));
	CALL(close(s->fd));
	CALL(pwrite(90, "a", 1, 0));
}

static void compare_descriptors(struct subject *s)
{
	pid_t me = getpid();

	CALL(syscall(SYS_kcmp, me, me, KCMP_FILE, s->fd, dup(s->fd)));
	note("reopened: %s", syscall(SYS_kcmp, me, me, KCMP_FILE, s->fd,
				     reopened(s->fd, O_RDONLY)) ? "another" : "same");
}

static void pass_over_a_socket(struct subject *s)
{
	union {
		struct cmsghdr hdr;
		char buf[CMSG_SPACE(sizeof(int))];
	} ctl = {};
	char c = 'f';
	struct iovec iov = { &c, 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = ctl.buf, .msg_controllen = sizeof(ctl.buf),
	};
	int sk[2], fd;

	must(!socketpair(AF_UNIX, SOCK_STREAM, 0, sk));
	ctl.hdr = (struct cmsghdr){
		.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS,
		.cmsg_len = CMSG_LEN(sizeof(int)),
	};
	memcpy(CMSG_DATA(&ctl.hdr), &s->fd, sizeof(int));
	CALL(sendmsg(sk[0], &msg, 0));
	close(s->fd);
	CALL(recvmsg(sk[1], &msg, MSG_CMSG_CLOEXEC));
	memcpy(&fd, CMSG_DATA(&ctl.hdr), sizeof(int));
	CALL(pwrite(fd, "abc", 3, 10));
	note_content(fd);
}

static void fetch_by_pidfd(struct subject *s)
{
	pid_t me = getpid();
	int fd = syscall(SYS_pidfd_getfd, syscall(SYS_pidfd_open, me, 0), s->fd, 0);

	DO(fd);
	CALL(syscall(SYS_kcmp, me, me, KCMP_FILE, s->fd, fd));
	note_content(fd);
}

/* ---- asynchronous I/O ---- */

static void libaio(struct subject *s)
{
	static const int ops[] = { IOCB_CMD_PREAD, IOCB_CMD_PWRITE, IOCB_CMD_FSYNC,
				   IOCB_CMD_FDSYNC, IOCB_CMD_POLL };
	struct timespec second = { 1, 0 };
	aio_context_t ctx = 0;
	char buf[100];
	size_t i;

	if (syscall(SYS_io_setup, 4, &ctx))
		skip_op("io_setup: %s", error());
	for (i = 0; i < ARRAY_SIZE(ops); i++) {
		struct iocb cb = {
			.aio_fildes = s->fd, .aio_lio_opcode = ops[i],
			.aio_buf = ops[i] == IOCB_CMD_POLL ? POLLIN :
				   i < 2 ? (uintptr_t)buf : 0,
			.aio_nbytes = i < 2 ? sizeof(buf) : 0,
			.aio_offset = i < 2 ? 3 * pgsz() + 10 : 0,
		}, *cbs = &cb;
		struct io_event ev = {};

		CALL_AS(syscall(SYS_io_submit, ctx, 1, &cbs), "io_submit %d", ops[i]);
		if (syscall(SYS_io_getevents, ctx, 1, 1, &ev, &second) == 1)
			note("result %lld", (long long)ev.res);
	}
	note_state(s);
}

struct ring {
	int fd;
	unsigned int *sq_tail, *sq_array, *cq_head, *cq_tail;
	struct io_uring_sqe *sqes;
	struct io_uring_cqe *cqes;
};

static void ring_init(struct ring *r)
{
	struct io_uring_params p = {};
	char *sq, *cq;

	r->fd = syscall(SYS_io_uring_setup, 4, &p);
	if (r->fd < 0)
		skip_op("io_uring_setup: %s", error());
	sq = mmap(NULL, 1 << 16, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, IORING_OFF_SQ_RING);
	cq = mmap(NULL, 1 << 16, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, IORING_OFF_CQ_RING);
	if (sq == MAP_FAILED) {
		sq = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd,
			  IORING_OFF_SQ_RING);
		cq = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd,
			  IORING_OFF_CQ_RING);
	}
	r->sqes = mmap(NULL, 4 * sizeof(*r->sqes), PROT_READ | PROT_WRITE, MAP_SHARED, r->fd,
		       IORING_OFF_SQES);
	must(sq != MAP_FAILED && cq != MAP_FAILED && r->sqes != MAP_FAILED);
	r->sq_tail = (void *)(sq + p.sq_off.tail);
	r->sq_array = (void *)(sq + p.sq_off.array);
	r->cq_head = (void *)(cq + p.cq_off.head);
	r->cq_tail = (void *)(cq + p.cq_off.tail);
	r->cqes = (void *)(cq + p.cq_off.cqes);
}

/* Submit one entry, wait for it, note its result. */
static void ring_do(struct ring *r, const char *what, struct io_uring_sqe sqe)
{
	unsigned int tail = *r->sq_tail, head = *r->cq_head;

	r->sqes[tail & 3] = sqe;
	r->sq_array[tail & 3] = tail & 3;
	__atomic_store_n(r->sq_tail, tail + 1, __ATOMIC_RELEASE);
	must(syscall(SYS_io_uring_enter, r->fd, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) == 1);
	must(__atomic_load_n(r->cq_tail, __ATOMIC_ACQUIRE) != head);
	errno = -r->cqes[head & 7].res;
	if (r->cqes[head & 7].res < 0)
		note("%s: %s", what, error());
	else
		note("%s: %d", what, r->cqes[head & 7].res);
	__atomic_store_n(r->cq_head, head + 1, __ATOMIC_RELEASE);
}

/* s->arg: flags of each entry */
static void io_uring(struct subject *s)
{
	char buf[100] = "x";
	struct iovec iov = { buf, sizeof(buf) };
	struct io_uring_sqe sqe = {
		.opcode = IORING_OP_READ, .flags = s->arg, .fd = s->fd,
		.addr = (uintptr_t)buf, .len = 100, .off = pgsz(),
	};
	struct ring r;

	ring_init(&r);
	ring_do(&r, "read", sqe);
	note_data("read", buf, 100);
	sqe.off = -1;
	ring_do(&r, "read at the position", sqe);
	sqe.opcode = IORING_OP_WRITE;
	sqe.off = LEN + 10;
	ring_do(&r, "write", sqe);
	sqe.addr = (uintptr_t)&iov;
	sqe.len = 1;
	sqe.opcode = IORING_OP_WRITEV;
	sqe.off = 5 * pgsz();
	ring_do(&r, "writev", sqe);
	sqe.opcode = IORING_OP_READV;
	sqe.off = LEN * 2;
	ring_do(&r, "readv at the end", sqe);
	CALL(lseek(s->fd, 0, SEEK_CUR));
	note_state(s);
}

static void io_uring_other_calls(struct subject *s)
{
	struct io_uring_sqe sqe = { .opcode = IORING_OP_FSYNC, .fd = s->fd };
	struct ring r;

	ring_init(&r);
	ring_do(&r, "fsync", sqe);
	sqe.opcode = IORING_OP_FADVISE;
	sqe.len = LEN;
	sqe.fadvise_advice = POSIX_FADV_WILLNEED;
	ring_do(&r, "fadvise", sqe);
	sqe.fadvise_advice = 0;
	sqe.opcode = IORING_OP_SYNC_FILE_RANGE;
	ring_do(&r, "sync_file_range", sqe);
	sqe.opcode = IORING_OP_FALLOCATE;
	sqe.len = 0;
	sqe.addr = 2 * LEN;
	ring_do(&r, "fallocate", sqe);
	sqe.len = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
	sqe.addr = pgsz();
	ring_do(&r, "punch", sqe);
	sqe.opcode = IORING_OP_POLL_ADD;
	sqe.len = 0;
	sqe.addr = 0;
	sqe.poll32_events = POLLIN;
	ring_do(&r, "poll", sqe);
	note_state(s);
}

static void io_uring_fixed_file(struct subject *s)
{
	struct io_uring_sqe sqe = {
		.opcode = IORING_OP_READ, .flags = IOSQE_FIXED_FILE, .len = 100,
	};
	char buf[100];
	struct ring r;

	ring_init(&r);
	sqe.addr = (uintptr_t)buf;
	CALL(syscall(SYS_io_uring_register, r.fd, IORING_REGISTER_FILES, &s->fd, 1));
	close(s->fd);
	ring_do(&r, "read", sqe);
	note_data("read", buf, 100);
}

/* Pins that last: as RDMA and VFIO take them */
static void io_uring_registered_buffers(struct subject *s)
{
	char *mem = map_writable(s);
	struct iovec iov = { mem, LEN };
	struct ring r;

	ring_init(&r);
	CALL(syscall(SYS_io_uring_register, r.fd, IORING_REGISTER_BUFFERS, &iov, 1));
}

/* A disk made of the file: what losetup does */
static void loop_device(struct subject *s)
{
	char path[32], buf[512];
	int ctl, loop, nr;

	(void)!system("modprobe -q loop 2>/dev/null");
	ctl = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	if (ctl < 0)
		skip_op("/dev/loop-control: %s", error());
	nr = ioctl(ctl, 0x4c82 /* LOOP_CTL_GET_FREE */);
	must(nr >= 0);
	snprintf(path, sizeof(path), "/dev/loop%d", nr);
	loop = open(path, O_RDWR | O_CLOEXEC);
	if (loop < 0)
		skip_op("%s: %s", path, error());
	CALL(ioctl(loop, 0x4c00 /* LOOP_SET_FD */, s->fd));
	CALL(pread(loop, buf, 512, pgsz()));
	note_data("read", buf, 512);
	memset(buf, 'x', 512);
	CALL(pwrite(loop, buf, 512, 2 * pgsz()));
	CALL(fsync(loop));
	CALL(ioctl(loop, 0x4c01 /* LOOP_CLR_FD */, 0));
	close(loop);
	note_content(s->fd);
}

/* ---- mmap() ---- */

static void note_mmap(int fd, int prot, int flags)
{
	char *mem = mmap(NULL, LEN, prot, flags, fd, 0);

	CALL_AS(mem == MAP_FAILED ? -1 : 0, "mmap prot %#x flags %#x", prot, flags);
	if (mem == MAP_FAILED)
		return;
	note_maps(mem, LEN);
	note_vmflags(mem);
	munmap(mem, LEN);
}

/* Flags, with each protection */
static void map_with_flags(struct subject *s)
{
	int prot;

	for (prot = 0; prot < 8; prot++)
		note_mmap(s->fd, prot, s->arg);
}

static void map_badly(struct subject *s)
{
	static const int flags[] = {
		0, MAP_SHARED | MAP_PRIVATE | 0x10, MAP_SHARED_VALIDATE | 0x80000 /* MAP_SYNC */,
		MAP_SHARED_VALIDATE | 0x40000000, MAP_SHARED | 0x40000000,
		MAP_SHARED | MAP_HUGETLB, MAP_SHARED | MAP_GROWSDOWN, MAP_PRIVATE | MAP_GROWSDOWN,
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(flags); i++)
		note_mmap(s->fd, PROT_READ, flags[i]);
}

static void map_odd_ranges(struct subject *s)
{
	const long ps = pgsz(), ranges[][2] = {
		{ 0, 0 }, { 1, ps }, { ps / 2, ps }, { -ps, ps }, { LEN * 4, ps },
		{ 0, 1 }, { 0, 1L << 60 }, { INT64_MAX - ps + 1, ps },
		{ INT64_MAX - ps + 1, 2 * ps }, { 0, LEN * 100 }, { -ps, 2 * ps },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(ranges); i++)
		CALL_AS(mmap(NULL, ranges[i][1], PROT_READ, MAP_SHARED, s->fd,
			     ranges[i][0]) == MAP_FAILED ? -1 : 0, "mmap(%ld, %ld)",
			ranges[i][0], ranges[i][1]);
	note_size(s);
}

/* A mapping changes nothing of the file, wherever it lies. */
static void map_past_the_end(struct subject *s)
{
	char *mem;

	CALL(set_size(s, pgsz() + 10));
	mem = map_part(s, PROT_READ | PROT_WRITE, MAP_SHARED, 0, 4);
	note_state(s);
	access_at("in the last page", mem + 2 * pgsz() - 1, true);
	access_at("load past the end", mem + 2 * pgsz(), false);
	access_at("store past the end", mem + 3 * pgsz(), true);
	note_state(s);
	CALL(set_size(s, 3 * pgsz()));
	access_at("load where it grew", mem + 2 * pgsz(), false);
	access_at("load past the end", mem + 3 * pgsz(), false);
	note_state(s);
}

static void map_an_empty_file(struct subject *s)
{
	char *mem;

	CALL(set_size(s, 0));
	mem = map_part(s, PROT_READ | PROT_WRITE, MAP_SHARED, 0, 1);
	access_at("load", mem, false);
	note_state(s);
	CALL(pwrite(s->fd, "abc", 3, 0));
	access_at("load", mem, false);
	note_data("mapped", mem, pgsz());
}

static void map_at_a_place(struct subject *s)
{
	char *mem = anon(4), *got;

	munmap(mem + pgsz(), pgsz());
	got = mmap(mem, pgsz(), PROT_READ, MAP_SHARED | MAP_FIXED_NOREPLACE, s->fd, 0);
	CALL(got == MAP_FAILED ? -1 : got - mem);
	got = mmap(mem + pgsz(), pgsz(), PROT_READ, MAP_SHARED | MAP_FIXED_NOREPLACE, s->fd, 0);
	CALL(got == MAP_FAILED ? -1 : got - mem);
	got = mmap(mem + 2 * pgsz(), pgsz(), PROT_READ, MAP_SHARED | MAP_FIXED, s->fd, pgsz());
	CALL(got == MAP_FAILED ? -1 : got - mem);
#ifdef MAP_32BIT /* x86 */
	got = mmap(NULL, pgsz(), PROT_READ, MAP_SHARED | MAP_32BIT, s->fd, pgsz());
	CALL(got == MAP_FAILED ? -1 : (unsigned long)got >> 32);
#endif
	note_maps(mem + pgsz(), pgsz());
	note_data("mapped", mem + pgsz(), 2 * pgsz());
}

/* An area, at an address that is no multiple, with so much room behind it: 2048 is another. */
static void map_at_a_hint(struct subject *s)
{
	const size_t len = AREA * pgsz(), room = s->arg * len / 2048;
	char *all = mmap(NULL, 4 * len + room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *hint = all + len - (uintptr_t)all % len + pgsz(), *mem;

	must(all != MAP_FAILED);
	must(!munmap(hint, len + room));
	mem = mmap(hint, len, PROT_READ, MAP_SHARED, s->fd, 0);
	note("%s", mem == MAP_FAILED ? error() : mem == hint ? "there" : "elsewhere");
	if (mem != MAP_FAILED)
		note_data("mapped", mem, LEN);
}

static void map_what_is_open_for_less(struct subject *s)
{
	int ro = reopened(s->fd, O_RDONLY), wo = reopened(s->fd, O_WRONLY);
	char *mem;

	DO(ro);
	DO(wo);
	note_mmap(ro, PROT_READ, MAP_SHARED);
	note_mmap(ro, PROT_WRITE, MAP_SHARED);
	note_mmap(ro, PROT_READ | PROT_WRITE, MAP_SHARED_VALIDATE);
	note_mmap(ro, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	note_mmap(wo, PROT_READ, MAP_SHARED);
	note_mmap(wo, PROT_WRITE, MAP_SHARED);
	note_mmap(wo, PROT_WRITE, MAP_PRIVATE);
	note_mmap(reopened(s->fd, O_PATH), PROT_READ, MAP_SHARED);
	mem = mmap(NULL, LEN, PROT_READ, MAP_SHARED, ro, 0);
	if (mem == MAP_FAILED)
		return;
	CALL(mprotect(mem, pgsz(), PROT_READ | PROT_WRITE));
	CALL(mprotect(mem, pgsz(), PROT_READ | PROT_EXEC));
	note_maps(mem, LEN);
}

/* ---- mprotect(), and mappings that become one again ---- */

static void protect_and_access(struct subject *s)
{
	static const char * const names[] = { "none", "r", "w", "rw", "x", "rx", "wx", "rwx" };
	char *mem = map_writable(s);
	int prot;

	store_all(mem);
	for (prot = 0; prot < 8; prot++) {
		CALL_AS(mprotect(mem, LEN, prot), "mprotect %s", names[prot]);
		access_at("load", mem + pgsz(), false);
		access_at("store", mem + pgsz(), true);
		access_at("store into a page not touched", mem + 6 * pgsz(), true);
	}
	CALL(mprotect(mem + 1, pgsz(), PROT_READ));
	CALL(mprotect(mem, LEN, 0x10000000));
	CALL(mprotect(mem, 0, PROT_READ));
	note_state(s);
}

static void protect_page_by_page(struct subject *s)
{
	char *mem = map_writable(s);
	int i;

	store_all(mem);
	for (i = 0; i < PAGES; i += 2)
		must(!mprotect(mem + i * pgsz(), pgsz(), PROT_READ));
	note_maps_count("split", mem, LEN);
	for (i = 0; i < PAGES; i += 2)
		must(!mprotect(mem + i * pgsz(), pgsz(), PROT_READ | PROT_WRITE));
	note_maps_count("back", mem, LEN);
	note_maps(mem, LEN);
	note_vmflags(mem);
}

/* The untouched mapping is split and merged by other rules. */
static void protect_before_the_first_touch(struct subject *s)
{
	char *mem = map(s, PROT_READ);
	int i;

	for (i = 0; i < PAGES; i++)
		CALL(mprotect(mem + i * pgsz(), pgsz(), PROT_NONE));
	note_maps(mem, LEN);
	for (i = 0; i < PAGES; i++)
		CALL(mprotect(mem + i * pgsz(), pgsz(), PROT_READ));
	note_maps(mem, LEN);
}

/* Neighbours of one file that fit become one mapping. */
static void map_neighbours(struct subject *s)
{
	const int prot = PROT_READ, flags = MAP_SHARED | MAP_FIXED;
	char *mem = mmap(NULL, LEN, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int i, other = reopened(s->fd, O_RDONLY);

	for (i = 0; i < 4; i++)
		CALL(mmap(mem + i * pgsz(), pgsz(), prot, flags, s->fd, i * pgsz()) ==
		     MAP_FAILED ? -1 : 0);
	note_maps(mem, LEN);
	/* From behind, and in between; and what does not fit */
	CALL(mmap(mem + 5 * pgsz(), pgsz(), prot, flags, s->fd, 5 * pgsz()) ==
	     MAP_FAILED ? -1 : 0);
	CALL(mmap(mem + 4 * pgsz(), pgsz(), prot, flags, s->fd, 4 * pgsz()) ==
	     MAP_FAILED ? -1 : 0);
	note_maps(mem, LEN);
	CALL(mmap(mem + 6 * pgsz(), pgsz(), prot, flags, s->fd, 0) == MAP_FAILED ? -1 : 0);
	note_maps(mem, LEN);
	CALL(mmap(mem + 6 * pgsz(), pgsz(), prot, flags, other, 6 * pgsz()) ==
	     MAP_FAILED ? -1 : 0);
	note_maps(mem, LEN);
	note_data("mapped", mem, 6 * pgsz());
}

/* As a Wasm engine grows its memory */
static void grow_by_mprotect(struct subject *s)
{
	char *mem = map(s, PROT_NONE);
	int i;

	for (i = 0; i < PAGES; i++) {
		CALL(mprotect(mem + i * pgsz(), pgsz(), PROT_READ | PROT_WRITE));
		access_at("store", mem + i * pgsz(), true);
		note_maps_count("grown", mem, LEN);
	}
}

static void advice_that_splits(struct subject *s)
{
	char *mem = map(s, PROT_READ);

	load_all(mem);
	CALL(madvise(mem + 2 * pgsz(), pgsz(), MADV_RANDOM));
	note_maps_count("random", mem, LEN);
	CALL(madvise(mem + 2 * pgsz(), pgsz(), MADV_NORMAL));
	note_maps_count("normal", mem, LEN);
	CALL(madvise(mem + 4 * pgsz(), pgsz(), MADV_DONTDUMP));
	note_maps_count("not dumped", mem, LEN);
	CALL(madvise(mem + 4 * pgsz(), pgsz(), MADV_DODUMP));
	note_maps_count("dumped", mem, LEN);
	CALL(madvise(mem + 4 * pgsz(), pgsz(), MADV_DONTFORK));
	note_maps_count("not forked", mem, LEN);
	CALL(madvise(mem + 4 * pgsz(), pgsz(), MADV_DOFORK));
	note_maps_count("forked", mem, LEN);
	CALL(mlock(mem + 4 * pgsz(), pgsz()));
	note_maps_count("locked", mem, LEN);
	CALL(munlock(mem + 4 * pgsz(), pgsz()));
	note_maps_count("unlocked", mem, LEN);
}

/* A program that protects page by page must not run out of mappings. */
static void many_protections(struct subject *s)
{
	char *mem;
	int i, round;

	CALL(set_size(s, 1024 * pgsz()));
	mem = map_part(s, PROT_READ | PROT_WRITE, MAP_SHARED, 0, 1024);
	for (round = 0; round < 2; round++)
		for (i = 0; i < 1024; i++) {
			must(!mprotect(mem + i * pgsz(), pgsz(), PROT_READ));
			must(!mprotect(mem + i * pgsz(), pgsz(), PROT_READ | PROT_WRITE));
			mem[i * pgsz()] = 'x';
		}
	note_maps_count("at the end", mem, 1024 * pgsz());
}

/* ---- mremap(), munmap() ---- */

static void note_mremap(const char *what, char *old, char *new)
{
	if (new == MAP_FAILED)
		note("%s: %s", what, error());
	else
		note("%s: %s", what, new == old ? "in place" : "moved");
}

static void remap_grow_and_shrink(struct subject *s)
{
	char *room = mmap(NULL, 3 * LEN, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *mem = mmap(room, 4 * pgsz(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
			 s->fd, 0), *new;

	DO(mem);
	if (mem == MAP_FAILED)
		return;
	mem[0] = 'a';
	munmap(room + 4 * pgsz(), 3 * LEN - 4 * pgsz());
	new = mremap(mem, 4 * pgsz(), LEN, 0);
	note_mremap("grow", mem, new);
	note_maps(mem, LEN);
	if (new != MAP_FAILED)
		note_data("mapped", mem, LEN);
	note_mremap("grow past the end", mem, mremap(mem, LEN, LEN + pgsz(), 0));
	access_at("past the end", mem + LEN, false);
	note_mremap("shrink", mem, mremap(mem, LEN + pgsz(), 2 * pgsz(), 0));
	note_maps(mem, LEN);
	access_at("what is gone", mem + 2 * pgsz(), false);
	note_state(s);
}

static void remap_move(struct subject *s)
{
	char *mem = map_writable(s), *room, *new;

	store_all(mem);
	room = mmap(NULL, 2 * LEN, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	new = mremap(mem, LEN, 2 * LEN, MREMAP_MAYMOVE | MREMAP_FIXED, room);
	note_mremap("move and grow", mem, new);
	if (new == MAP_FAILED)
		return;
	note_data("mapped", new, LEN);
	note_faults("stores", new, true);
	note_maps(new, 2 * LEN);
	access_at("the old place", mem, false);
	/* A part of it */
	new = mremap(room + pgsz(), pgsz(), pgsz(), MREMAP_MAYMOVE | MREMAP_FIXED, mem);
	note_mremap("move a part", mem, new);
	note_maps(room, 2 * LEN);
	note_maps(mem, pgsz());
}

static void remap_and_leave_it(struct subject *s)
{
	char *mem = map_writable(s), *new;

	store_all(mem);
	new = mremap(mem, LEN, LEN, MREMAP_MAYMOVE | MREMAP_DONTUNMAP);
	note_mremap("mremap", mem, new);
	if (new == MAP_FAILED)
		return;
	note_maps(mem, LEN);
	note_maps(new, LEN);
	note_data("old", mem, LEN);
	note_data("new", new, LEN);
	new[0] = 'Z';
	note("old shows the store: %d", mem[0] == 'Z');
}

/* Old size 0: a second mapping of the same pages */
static void remap_a_duplicate(struct subject *s)
{
	char *mem = map_writable(s), *new = mremap(mem, 0, LEN, MREMAP_MAYMOVE);

	note_mremap("mremap", mem, new);
	if (new == MAP_FAILED)
		return;
	mem[5 * pgsz()] = 'a';
	note_data("new", new, LEN);
	note_maps(new, LEN);
	new = mmap(NULL, LEN, PROT_READ, MAP_PRIVATE, s->fd, 0);
	note_mremap("of a private one", new, mremap(new, 0, LEN, MREMAP_MAYMOVE));
}

/* Some kernels move several mappings in one call, of files that they know to be good. */
static void remap_several(struct subject *s)
{
	char *mem = map(s, PROT_READ), *room, *new;

	CALL(mprotect(mem + pgsz(), pgsz(), PROT_NONE));
	room = mmap(NULL, LEN, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	new = mremap(mem, LEN, LEN, MREMAP_MAYMOVE | MREMAP_FIXED, room);
	note_mremap("three mappings", mem, new);
	note_maps(room, LEN);
}

static void remap_badly(struct subject *s)
{
	char *mem = map(s, PROT_READ);

	note_mremap("misaligned", mem, mremap(mem + 1, LEN, LEN, 0));
	note_mremap("to nothing", mem, mremap(mem, LEN, 0, 0));
	note_mremap("bad flags", mem, mremap(mem, LEN, LEN, 0x80));
	note_mremap("fixed, not movable", mem, mremap(mem, LEN, LEN, MREMAP_FIXED, mem + LEN));
	note_mremap("onto itself", mem, mremap(mem, LEN, LEN, MREMAP_MAYMOVE | MREMAP_FIXED,
					       mem + pgsz()));
	note_mremap("too much", mem, mremap(mem, LEN, 1L << 60, MREMAP_MAYMOVE));
}

static void unmap_a_part(struct subject *s)
{
	char *mem = map_writable(s);

	store_all(mem);
	CALL(munmap(mem + 2 * pgsz(), pgsz()));
	CALL(munmap(mem + 5 * pgsz(), pgsz()));
	note_maps(mem, LEN);
	access_at("the hole", mem + 2 * pgsz(), false);
	/* And fill the hole again. */
	CALL(mmap(mem + 2 * pgsz(), pgsz(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
		  s->fd, 2 * pgsz()) == MAP_FAILED ? -1 : 0);
	note_maps(mem, LEN);
	note_data("mapped", mem, 5 * pgsz());
	CALL(munmap(mem + 1, pgsz()));
	CALL(munmap(mem, 0));
}

static void remap_file(struct subject *s)
{
	char *mem = map_writable(s);

	CALL(syscall(SYS_remap_file_pages, mem, pgsz(), 0, 3, 0));
	note_data("mapped", mem, LEN);
	note_maps(mem, LEN);
	CALL(syscall(SYS_remap_file_pages, mem, pgsz(), PROT_READ, 3, 0));
}

static void sync_mappings(struct subject *s)
{
	char *mem = map(s, PROT_READ);
	int flags;

	for (flags = 0; flags < 9; flags++)
		CALL_AS(msync(mem, LEN, flags), "msync flags %d", flags);
	CALL(msync(mem + 1, pgsz(), MS_SYNC));
	CALL(mlock(mem, pgsz()));
	CALL(msync(mem, LEN, MS_INVALIDATE));
	munmap(mem + pgsz(), pgsz());
	CALL(msync(mem, LEN, MS_SYNC));
}

/* ---- madvise() ---- */

/* s->arg: the advice */
static void advice_on_a_mapping(struct subject *s)
{
	char *mem = map(s, PROT_READ | PROT_WRITE);

	store_all(mem);
	CALL(madvise(mem + pgsz(), 2 * pgsz(), s->arg));
	CALL(madvise(mem, LEN, s->arg));
	note_vmflags(mem);
	note_maps_count("after it", mem, LEN);
	note_size(s);
	access_at("load", mem + pgsz(), false);
	access_at("store", mem + 2 * pgsz(), true);
	note_content(s->fd);
	CALL(madvise(mem, 0, s->arg));
	CALL(madvise(mem + 1, pgsz(), s->arg));
	CALL(madvise(mem, 2 * LEN, s->arg));
}

static void advice_on_a_readable_mapping(struct subject *s)
{
	char *mem = map(s, PROT_READ);

	load_all(mem);
	CALL(madvise(mem, LEN, s->arg));
	note_vmflags(mem);
	note_size(s);
	access_at("load", mem + pgsz(), false);
	note_content(s->fd);
}

static void advice_on_a_private_mapping(struct subject *s)
{
	char *mem = map_part(s, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0, PAGES);

	mem[0] = 'a';
	mem[6 * pgsz()] = 'b';
	(void)((volatile char *)mem)[pgsz()];
	CALL(madvise(mem, LEN, s->arg));
	note_vmflags(mem);
	note_data("mapped", mem, LEN);
	note_state(s);
}

static void remove_pages(struct subject *s)
{
	char *mem = map_writable(s);

	store_all(mem);
	CALL(madvise(mem + pgsz(), 2 * pgsz(), MADV_REMOVE));
	note_data("mapped", mem, LEN);
	note_state(s);
	CALL(madvise(map_part(s, PROT_READ | PROT_WRITE, MAP_SHARED, 6, 1), pgsz(),
		     MADV_REMOVE));
	note_state(s);
	CALL(madvise(map_part(s, PROT_READ, MAP_SHARED, 0, 1), pgsz(), MADV_REMOVE));
	CALL(mlock(mem, pgsz()));
	CALL(madvise(mem, pgsz(), MADV_REMOVE));
	CALL(madvise(mem, pgsz(), MADV_DONTNEED));
	CALL(madvise(mem, pgsz(), MADV_DONTNEED_LOCKED));
	note_state(s);
}

/* MADV_DONTNEED of a shared mapping drops no data. */
static void residence_after_advice(struct subject *s)
{
	char *mem = map_writable(s);

	store_all(mem);
	note_smaps(mem, "Rss");
	CALL(madvise(mem, LEN, MADV_DONTNEED));
	note_smaps(mem, "Rss");
	note_faults("loads", mem, false);
	CALL(madvise(mem, LEN, MADV_DONTNEED));
	CALL(madvise(mem, LEN, MADV_POPULATE_WRITE));
	note_smaps(mem, "Rss");
	note_faults("stores", mem, true);
}

static void populate_for_reading(struct subject *s)
{
	char *mem = map(s, PROT_READ);

	CALL(madvise(mem, LEN, MADV_POPULATE_READ));
	note_faults("loads", mem, false);
	CALL(madvise(mem, LEN, MADV_POPULATE_WRITE));
	CALL(mmap(mem + LEN - pgsz(), pgsz(), PROT_READ, MAP_SHARED | MAP_FIXED, s->fd,
		  LEN * 2) == MAP_FAILED ? -1 : 0);
	CALL(madvise(mem, LEN, MADV_POPULATE_READ));
}

static void pages_out(struct subject *s)
{
	char *mem = map_writable(s);

	store_all(mem);
	CALL(madvise(mem, LEN, MADV_COLD));
	CALL(madvise(mem, LEN, MADV_PAGEOUT));
	note_data("mapped", mem, LEN);
}

static void process_advice(struct subject *s)
{
	static const int advices[] = { MADV_COLD, MADV_PAGEOUT, MADV_WILLNEED };
	char *mem = map(s, PROT_READ);
	struct iovec iov = { mem, LEN };
	int pidfd = syscall(SYS_pidfd_open, getpid(), 0);
	size_t i;

	load_all(mem);
	for (i = 0; i < ARRAY_SIZE(advices); i++) {
		CALL_AS(syscall(SYS_process_madvise, pidfd, &iov, 1, advices[i], 0),
			"advice %d", advices[i]);
		note_data("mapped", mem, LEN);
	}
}

/* ---- mlock(), populating ---- */

static void lock_a_mapping(struct subject *s)
{
	char *mem = map_writable(s);

	CALL(mlock(mem, LEN));
	note("VmLck %ld kB", status("VmLck"));
	note_smaps(mem, "Locked");
	note_smaps(mem, "Rss");
	note_vmflags(mem);
	note_faults("loads", mem, false);
	note_faults("stores", mem, true);
	CALL(munlock(mem, LEN / 2));
	note("VmLck %ld kB", status("VmLck"));
	note_maps_count("half locked", mem, LEN);
	CALL(munlockall());
	note("VmLck %ld kB", status("VmLck"));
	note_maps_count("unlocked", mem, LEN);
}

/* After a clone or before, a store must not fault if it was locked since. */
static void lock_a_readable_mapping(struct subject *s)
{
	char *mem = map(s, PROT_READ);

	CALL(mlock(mem, LEN));
	note("VmLck %ld kB", status("VmLck"));
	note_smaps(mem, "Locked");
	note_faults("loads", mem, false);
	note_size(s);
	CALL(mlock(mem, 2 * LEN));
	CALL(munmap(mem, LEN));
	note("VmLck %ld kB", status("VmLck"));
}

static void lock_on_fault(struct subject *s)
{
	char *mem = map_writable(s);

	CALL(mlock2(mem, LEN, MLOCK_ONFAULT));
	note_smaps(mem, "Rss");
	note("VmLck %ld kB", status("VmLck"));
	note_vmflags(mem);
	mem[0] = 'a';
	note_smaps(mem, "Locked");
	CALL(mlock2(mem, LEN, 77));
	CALL(mlockall(MCL_CURRENT | MCL_ONFAULT));
	CALL(munlockall());
}

/* s->arg: flags of mmap() that populate */
static void map_populated(struct subject *s)
{
	char *mem = map_part(s, PROT_READ | PROT_WRITE, MAP_SHARED | s->arg, 0, PAGES);

	note_smaps(mem, "Rss");
	note("VmLck %ld kB", status("VmLck"));
	note_faults("loads", mem, false);
	note_faults("stores", mem, true);
	note_size(s);
	mem = map_part(s, PROT_READ, MAP_SHARED | s->arg, 0, PAGES);
	note_faults("loads", mem, false);
	mem = map_part(s, PROT_READ | PROT_WRITE, MAP_PRIVATE | s->arg, 0, PAGES);
	note_faults("private loads", mem, false);
	note_faults("private stores", mem, true);
	mem = map_part(s, PROT_NONE, MAP_SHARED | s->arg, 0, PAGES);
	CALL(mprotect(mem, LEN, PROT_READ));
	note_faults("loads after PROT_NONE", mem, false);
}

/* What was mapped readable, with mlock, is made writable. */
static void locked_and_made_writable(struct subject *s)
{
	char *mem = map(s, PROT_READ);

	CALL(mlock(mem, LEN));
	CALL(mprotect(mem, LEN, PROT_READ | PROT_WRITE));
	note_faults("stores", mem, true);
	note_state(s);
}

static void lock_limit(struct subject *s)
{
	struct rlimit lim = { 3 * pgsz(), 3 * pgsz() };
	char *mem = map(s, PROT_READ);

	must(!setrlimit(RLIMIT_MEMLOCK, &lim));
	become_nobody();
	CALL(mlock(mem, 2 * pgsz()));
	CALL(mlock(mem, LEN));
	CALL(mlock(mem + 4 * pgsz(), pgsz()));
	CALL(mlock(mem + 5 * pgsz(), pgsz()));
	note("VmLck %ld kB", status("VmLck"));
	CALL(mmap(NULL, LEN, PROT_READ, MAP_SHARED | MAP_LOCKED, s->fd, 0) ==
	     MAP_FAILED ? -1 : 0);
	CALL(mremap(mem, pgsz(), LEN, MREMAP_MAYMOVE) == MAP_FAILED ? -1 : 0);
	CALL(mlockall(MCL_CURRENT));
	CALL(munlockall());
	lim.rlim_cur = 0;
	lim.rlim_max = 0;
	must(!setrlimit(RLIMIT_MEMLOCK, &lim));
	CALL(mlock(mem, pgsz()));
}

static void lock_what_is_not_there(struct subject *s)
{
	char *mem = map(s, PROT_NONE);

	CALL(mlock(mem, LEN));
	note("VmLck %ld kB", status("VmLck"));
	CALL(munlock(mem, LEN));
	mem = map_part(s, PROT_READ, MAP_SHARED, PAGES * 2, 1);
	CALL(mlock(mem, pgsz()));
	note("VmLck %ld kB", status("VmLck"));
}

/* ---- what is resident ---- */

static void note_mincore(const char *when, char *mem)
{
	unsigned char vec[PAGES];
	char text[PAGES + 1] = "";
	int i, ret = mincore(mem, LEN, vec);

	for (i = 0; !ret && i < PAGES; i++)
		text[i] = vec[i] & 1 ? '1' : '0';
	note("mincore %s: %s", when, ret ? error() : text);
}

static void mincore_after_touching(struct subject *s)
{
	char *mem = map_writable(s);

	store_all(mem);
	note_mincore("after stores", mem);
	CALL(mincore(mem + 1, pgsz(), NULL));
	CALL(mincore(mem, LEN, NULL));
	CALL(mincore(mem, 2 * LEN, (void *)mem));
}

static void mincore_before_touching(struct subject *s)
{
	note_mincore("before a touch", map(s, PROT_READ));
}

static void cache_statistics(struct subject *s)
{
	uint64_t range[2] = { 0, LEN }, stat[5] = {};

	if (syscall(SYS_cachestat, s->fd, range, stat, 0))
		skip_op("cachestat: %s", error());
	note("%llu pages", (unsigned long long)stat[0]);
}

/* What /proc/self/smaps counts, once all pages were stored to */
static void smaps_after_stores(struct subject *s)
{
	static const char * const fields[] = {
		"Size", "KernelPageSize", "MMUPageSize", "Rss", "Pss", "Anonymous",
		"AnonHugePages", "Swap", "Locked", "THPeligible", "KSM",
	};
	char *mem = map_writable(s);
	size_t i;

	store_all(mem);
	for (i = 0; i < ARRAY_SIZE(fields); i++)
		note_smaps(mem, fields[i]);
	note("dirty %ld kB, clean %ld kB",
	     smaps(mem, LEN, "Shared_Dirty") + smaps(mem, LEN, "Private_Dirty"),
	     smaps(mem, LEN, "Shared_Clean") + smaps(mem, LEN, "Private_Clean"));
	note("shared %ld kB, private %ld kB",
	     smaps(mem, LEN, "Shared_Dirty") + smaps(mem, LEN, "Shared_Clean"),
	     smaps(mem, LEN, "Private_Dirty") + smaps(mem, LEN, "Private_Clean"));
	note_smaps(mem, "Referenced");
	note_smaps(mem, "ShmemPmdMapped");
	note_vmflags(mem);
}

static void smaps_of_two_mappings(struct subject *s)
{
	char *mem = map_writable(s), *other = map(s, PROT_READ);

	store_all(mem);
	load_all(other);
	note_smaps(mem, "Rss");
	note_smaps(mem, "Pss");
	note_smaps(other, "Rss");
	note_smaps(other, "Pss");
	note("shared %ld kB, private %ld kB",
	     smaps(mem, LEN, "Shared_Dirty") + smaps(mem, LEN, "Shared_Clean"),
	     smaps(mem, LEN, "Private_Dirty") + smaps(mem, LEN, "Private_Clean"));
}

static void loads_of_full_pages(struct subject *s)
{
	char *mem = map_part(s, PROT_READ, MAP_SHARED, 0, FULL);
	int i;

	for (i = 0; i < FULL; i++)
		(void)((volatile char *)mem)[i * pgsz()];
	note("Rss %ld kB", smaps(mem, FULL * pgsz(), "Rss"));
	note("dirty %ld kB, clean %ld kB",
	     smaps(mem, FULL * pgsz(), "Shared_Dirty") +
	     smaps(mem, FULL * pgsz(), "Private_Dirty"),
	     smaps(mem, FULL * pgsz(), "Shared_Clean") +
	     smaps(mem, FULL * pgsz(), "Private_Clean"));
}

static void loads_of_holes(struct subject *s)
{
	char *mem = map_part(s, PROT_READ, MAP_SHARED, FULL, PAGES - FULL);
	int i;

	for (i = 0; i < PAGES - FULL; i++)
		(void)((volatile char *)mem)[i * pgsz()];
	note("Rss %ld kB", smaps(mem, (PAGES - FULL) * pgsz(), "Rss"));
	note_data("mapped", mem, (PAGES - FULL) * pgsz());
}

/* A load from a hole costs a memfd a page. */
static void blocks_after_loads_of_holes(struct subject *s)
{
	char *mem = map(s, PROT_READ);

	load_all(mem);
	note_blocks(s);
	CALL(lseek(s->fd, 5 * pgsz(), SEEK_DATA));
}

static void smaps_of_a_private_mapping(struct subject *s)
{
	char *mem = map_part(s, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0, FULL);
	int i;

	for (i = 0; i < FULL; i++)
		(void)((volatile char *)mem)[i * pgsz()];
	mem[0] = 'a';
	mem[pgsz()] = 'a';
	note("Rss %ld kB, Anonymous %ld kB", smaps(mem, FULL * pgsz(), "Rss"),
	     smaps(mem, FULL * pgsz(), "Anonymous"));
	note_vmflags(mem);
}

/* CPUs count some pages by themselves, so this is of as many as are a MiB of 4 KiB each. */
static long about_mib(long kib)
{
	return (kib * 1024 / (long)pgsz() + MIB_PAGES / 2) >> 8;
}

/* In which of the counters do the pages show?  They are of a thousand pages or so. */
static void status_counters(struct subject *s)
{
	long shmem = status("RssShmem"), file = status("RssFile"), anon_kb = status("RssAnon");
	char *mem;

	CALL(set_size(s, 1024 * pgsz()));
	mem = map_part(s, PROT_READ | PROT_WRITE, MAP_SHARED, 0, 1024);
	memset(mem, 'x', 1024 * pgsz());
	note("RssShmem %ld MiB, RssFile %ld MiB, RssAnon %ld MiB more",
	     about_mib(status("RssShmem") - shmem), about_mib(status("RssFile") - file),
	     about_mib(status("RssAnon") - anon_kb));
}

static void pagemap_after_touching(struct subject *s)
{
	char *mem = map_writable(s);

	note_pagemap("before a touch", mem);
	store_all(mem);
	note_pagemap("after stores", mem);
	munmap(mem, LEN);
	mem = map_part(s, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0, PAGES);
	mem[0] = 'a';
	note_pagemap("of a private one, a store", mem);
}

static void pagemap_after_loads(struct subject *s)
{
	char *mem = map(s, PROT_READ);

	load_all(mem);
	note_pagemap("after loads", mem);
}

/* What CRIU and others use to find what was written */
static void soft_dirty(struct subject *s)
{
	char *mem = map_writable(s);
	int i;

	store_all(mem);
	note_pagemap("after stores", mem);
	CALL(write_file("/proc/self/clear_refs", "4"));
	note_pagemap("cleared", mem);
	load_all(mem);
	note_pagemap("loaded", mem);
	for (i = 0; i < PAGES; i += 2)
		mem[i * pgsz()] = 'x';
	note_pagemap("some stored to", mem);
	note_vmflags(mem);
	madvise(mem, LEN, MADV_DONTNEED);
	load_all(mem);
	note_pagemap("mapped again, loaded", mem);
	store_all(mem);
	note_pagemap("stored to", mem);
}

static void soft_dirty_of_new_pages(struct subject *s)
{
	char *mem = map_writable(s), text[PAGES + 1] = "";
	int i;

	CALL(write_file("/proc/self/clear_refs", "4"));
	(void)((volatile char *)mem)[0];
	mem[pgsz()] = 'a';
	mem[6 * pgsz()] = 'a';
	for (i = 0; i < PAGES; i++)
		text[i] = '0' + !!(pagemap(mem + i * pgsz()) & PAGEMAP_DIRTY);
	note("soft-dirty, with stores to pages 1 and 6: %s", text);
}

static void referenced_pages(struct subject *s)
{
	char *mem = map_writable(s);

	store_all(mem);
	note_smaps(mem, "Referenced");
	CALL(write_file("/proc/self/clear_refs", "1"));
	note_smaps(mem, "Referenced");
	CALL(madvise(mem, LEN, MADV_DONTNEED));
	mem[0] = 'a';
	note("Referenced: %s", smaps(mem, pgsz(), "Referenced") ? "some" : "0");
	CALL(write_file("/proc/self/clear_refs", "3"));
	CALL(write_file("/proc/self/clear_refs", "2"));
	CALL(write_file("/proc/self/clear_refs", "5"));
}

static void page_flags(struct subject *s)
{
	char *mem = map_writable(s);

	store_all(mem);
	if (access("/proc/kpageflags", R_OK))
		skip_op("/proc/kpageflags: %s", error());
	/* Uptodate, dirty, mmap, swap-backed */
	note("flags %#llx", (unsigned long long)frame_flags(frame_of(mem)) &
	     (1 << 3 | 1 << 4 | 1 << 11 | 1 << 14));
}

static void map_files(struct subject *s)
{
	char *mem = map(s, PROT_READ), path[128], text[256] = "";
	int fd;

	snprintf(path, sizeof(path), "/proc/self/map_files/%lx-%lx", (unsigned long)mem,
		 (unsigned long)mem + LEN);
	CALL(readlink(path, text, sizeof(text) - 1) > 0);
	note("link: %s", plain_name(text));
	fd = open(path, O_RDWR | O_CLOEXEC);
	DO(fd);
	CALL(pwrite(fd, "abc", 3, 0));
	note_content(fd);
}

static void note_words(char *line)
{
	char *word, *save;

	strtok_r(line, " ", &save);
	while ((word = strtok_r(NULL, " ", &save)))
		/* Pages of a region are on no list that has an active part. */
		if (strncmp(word, "file=", 5) && strncmp(word, "active=", 7))
			note("numa_maps: %s", word);
}

static void numa_maps(struct subject *s)
{
	char *mem = map_writable(s), line[1024], want[32];
	FILE *file = fopen("/proc/self/numa_maps", "re");

	if (!file)
		skip_op("/proc/self/numa_maps: %s", error());
	store_all(mem);
	snprintf(want, sizeof(want), "%lx ", (unsigned long)mem);
	while (fgets(line, sizeof(line), file))
		if (!strncmp(line, want, strlen(want)))
			note_words(line);
	fclose(file);
}

/* ---- faults ---- */

static void faults_of_all_sorts(struct subject *s)
{
	char *mem = map(s, PROT_READ);

	access_at("load", mem, false);
	access_at("load from a hole", mem + 6 * pgsz(), false);
	access_at("store, mapped readable", mem, true);
	access_at("store into a hole, mapped readable", mem + 7 * pgsz(), true);
	mem = map_part(s, PROT_NONE, MAP_SHARED, 0, PAGES);
	access_at("load, mapped PROT_NONE", mem, false);
	mem = map_part(s, PROT_READ, MAP_SHARED, PAGES - 1, 3);
	access_at("load of the last page", mem + pgsz() - 1, false);
	access_at("load past the end", mem + pgsz(), false);
	mem = map_part(s, PROT_READ | PROT_WRITE, MAP_PRIVATE, PAGES - 1, 3);
	access_at("private store past the end", mem + pgsz(), true);
	access_at("private store", mem, true);
	note_state(s);
}

static void store_in_a_hole(struct subject *s)
{
	char *mem = map_writable(s), *other = map(s, PROT_READ), buf[4];

	note_data("other", other, LEN);
	mem[5 * pgsz() + 5] = 'a';
	note_data("other", other, LEN);
	CALL(pread(s->fd, buf, 4, 5 * pgsz() + 4));
	note_data("read", buf, 4);
	note_state(s);
}

static void mapping_shows_writes(struct subject *s)
{
	char *mem = map(s, PROT_READ);

	load_all(mem);
	CALL(pwrite(s->fd, "abc", 3, pgsz() + 10));
	CALL(pwrite(s->fd, "abc", 3, 6 * pgsz()));
	note_data("mapped", mem, LEN);
	CALL(punch(s, 0, 2 * pgsz()));
	note_data("mapped", mem, LEN);
}

/* A system call that meets the end of the file in its buffer */
static void calls_past_the_end(struct subject *s)
{
	char *mem = map_part(s, PROT_READ | PROT_WRITE, MAP_SHARED, PAGES - 1, 2);
	int pipes[2];

	must(!pipe(pipes));
	CALL(write(pipes[1], mem + pgsz(), 10));
	CALL(write(pipes[1], mem + pgsz() - 5, 10));
	must(write(pipes[1], "12345", 5) == 5);
	CALL(read(pipes[0], mem + pgsz(), 5));
	CALL(pwrite(s->fd, mem + pgsz(), 10, 0));
}

static void truncate_under_a_mapping(struct subject *s)
{
	char *mem = map_writable(s);

	store_all(mem);
	CALL(set_size(s, 2 * pgsz() + 10));
	access_at("the last page", mem + 2 * pgsz(), true);
	access_at("past the end", mem + 3 * pgsz(), false);
	note_smaps(mem, "Rss");
	CALL(set_size(s, LEN));
	access_at("grown again", mem + 3 * pgsz(), true);
	note_data("mapped", mem, LEN);
}

static void mapping_outlives_the_descriptor(struct subject *s)
{
	char *mem = map(s, PROT_READ);

	CALL(close(s->fd));
	note_data("mapped", mem, LEN);
	note_maps(mem, LEN);
}

static void private_mapping(struct subject *s)
{
	char *mem = map_part(s, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0, PAGES);

	mem[0] = 'a';
	mem[5 * pgsz()] = 'b';
	note_state(s);
	CALL(pwrite(s->fd, "xyz", 3, 0));
	CALL(pwrite(s->fd, "xyz", 3, pgsz()));
	note_data("mapped", mem, LEN);
	CALL(set_size(s, pgsz()));
	access_at("what was copied", mem, false);
	access_at("a copy past the end", mem + 5 * pgsz(), false);
	access_at("a page past the end", mem + 2 * pgsz(), false);
	CALL(set_size(s, LEN));
	note_data("mapped", mem, LEN);
}

static void private_copy_and_punch(struct subject *s)
{
	char *mem = map_part(s, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0, PAGES);

	mem[0] = 'a';
	(void)((volatile char *)mem)[pgsz()];
	CALL(punch(s, 0, 2 * pgsz()));
	note_data("mapped", mem, LEN);
	CALL(madvise(mem, LEN, MADV_DONTNEED));
	note_data("mapped", mem, LEN);
}

/* ---- fork() ---- */

static void fork_shares(struct subject *s)
{
	char *mem = map_writable(s);

	note_child(
		mem[0] = 'a';
		mem[5 * pgsz()] = 'b';
		(void)!pwrite(s->fd, "xyz", 3, pgsz());
	);
	note_data("mapped", mem, LEN);
	note_state(s);
}

static void fork_of_a_private_mapping(struct subject *s)
{
	char *mem = map_part(s, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0, PAGES);

	mem[0] = 'a';
	note_child(
		mem[1] = 'b';
		mem[pgsz()] = 'b';
		note_data("in the child", mem, LEN);
	);
	note_data("mapped", mem, LEN);
}

/* Page tables of a shared mapping need not be copied. */
static void fork_copies_no_page_tables(struct subject *s)
{
	const size_t pages = 8192;
	long before;
	char *mem;

	CALL(set_size(s, pages * pgsz()));
	mem = map_part(s, PROT_READ | PROT_WRITE, MAP_SHARED, 0, pages);
	CALL(madvise(mem, pages * pgsz(), MADV_NOHUGEPAGE));
	before = status("VmPTE");
	memset(mem, 'x', pages * pgsz());
	note("page tables: %s", status("VmPTE") - before >= 60 ? "grew" : "did not grow");
	note_child(
		note("in the child: %s", status("VmPTE") - before >= 60 ? "all of them" :
		     "few");
		note("Rss there: %s", smaps(mem, pages * pgsz(), "Rss") ? "some" : "0 kB");
		note_faults("loads", mem, false);
	);
}

/* s->arg: advice about fork() */
static void fork_after_advice(struct subject *s)
{
	char *mem = map_writable(s);

	store_all(mem);
	CALL(madvise(mem, LEN, s->arg));
	note_child(
		access_at("in the child", mem, true);
		note_maps(mem, LEN);
	);
	note_data("mapped", mem, LEN);
}

/* ---- NUMA ---- */

static void memory_policy(struct subject *s)
{
	unsigned long mask = 1, got[16] = {};
	char *mem = map(s, PROT_READ), *other;
	int mode = -1;

	if (syscall(SYS_get_mempolicy, &mode, NULL, 0, NULL, 0))
		skip_op("get_mempolicy: %s", error());
	CALL(syscall(SYS_mbind, mem, LEN, MPOL_BIND, &mask, 64, 0));
	CALL(syscall(SYS_get_mempolicy, &mode, got, 1024, mem, MPOL_F_ADDR));
	note("mode %d, nodes %#lx", mode, got[0]);
	/* A policy of a shared mapping is the file's. */
	other = map(s, PROT_READ);
	CALL(syscall(SYS_get_mempolicy, &mode, got, 1024, other, MPOL_F_ADDR));
	note("of another mapping: mode %d, nodes %#lx", mode, got[0]);
	CALL(syscall(SYS_mbind, mem, LEN, MPOL_DEFAULT, NULL, 0, 0));
	CALL(syscall(SYS_get_mempolicy, &mode, got, 1024, other, MPOL_F_ADDR));
	note("default again: mode %d", mode);
	CALL(syscall(SYS_mbind, mem, LEN, 77, &mask, 64, 0));
}

static void policy_splits_and_merges(struct subject *s)
{
	unsigned long mask = 1;
	char *mem = map(s, PROT_READ);

	CALL(syscall(SYS_mbind, mem + pgsz(), pgsz(), MPOL_BIND, &mask, 64, 0));
	note_maps_count("bound", mem, LEN);
	CALL(syscall(SYS_mbind, mem + pgsz(), pgsz(), MPOL_DEFAULT, NULL, 0, 0));
	note_maps_count("default", mem, LEN);
}

static void move_pages_strictly(struct subject *s)
{
	unsigned long mask = 1;
	char *mem = map_writable(s);

	store_all(mem);
	CALL(syscall(SYS_mbind, mem, LEN, MPOL_BIND, &mask, 64, MPOL_MF_STRICT));
	CALL(syscall(SYS_mbind, mem, LEN, MPOL_BIND, &mask, 64, MPOL_MF_MOVE));
	CALL(syscall(SYS_migrate_pages, 0, 64, &mask, &mask));
	note_data("mapped", mem, LEN);
}

static void where_pages_are(struct subject *s)
{
	char *mem = map_writable(s);
	void *pages[2] = { mem, mem + 6 * pgsz() };
	int status[2] = { -77, -77 }, node = -1;

	mem[0] = 'a';
	CALL(syscall(SYS_move_pages, 0, 2, pages, NULL, status, 0));
	note("status %d %d", status[0], status[1]);
	CALL(syscall(SYS_get_mempolicy, &node, NULL, 0, mem, MPOL_F_ADDR | MPOL_F_NODE));
	note("node %d", node);
}

/* ---- other processes' hands ---- */

static void process_memory(struct subject *s)
{
	char *mem = map(s, PROT_READ), *ro = mem, buf[2 * pgsz()], *rw;
	struct iovec local = { buf, sizeof(buf) }, remote = { mem + 10, sizeof(buf) };

	CALL(syscall(SYS_process_vm_readv, getpid(), &local, 1, &remote, 1, 0));
	note_data("read", buf, sizeof(buf));
	memset(buf, 'x', sizeof(buf));
	CALL(syscall(SYS_process_vm_writev, getpid(), &local, 1, &remote, 1, 0));
	note_data("mapped", ro, LEN);
	rw = map_writable(s);
	remote.iov_base = rw + 3 * pgsz() + 10;
	CALL(syscall(SYS_process_vm_writev, getpid(), &local, 1, &remote, 1, 0));
	remote.iov_base = rw + LEN - 10;
	CALL(syscall(SYS_process_vm_readv, getpid(), &local, 1, &remote, 1, 0));
	note_state(s);
}

/* s->arg: MAP_SHARED or MAP_PRIVATE, mapped readable: a debugger writes */
static void debugger_writes(struct subject *s)
{
	char *mem = map_part(s, PROT_READ, s->arg, 0, PAGES);
	int fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	char buf[4];

	must(fd >= 0);
	load_all(mem);
	CALL(pread(fd, buf, 4, (off_t)(uintptr_t)mem));
	CALL(pwrite(fd, "abcd", 4, (off_t)(uintptr_t)mem + 10));
	CALL(pwrite(fd, "abcd", 4, (off_t)(uintptr_t)mem + 6 * pgsz()));
	note_data("mapped", mem, LEN);
	note_state(s);
}

static void debugger_of_another_process(struct subject *s)
{
	char *mem = map_part(s, PROT_READ, s->arg, 0, PAGES);
	pid_t pid = spawn();

	if (!pid) {
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGSTOP);
		note_data("in the child", mem, LEN);
		_exit(0);
	}
	must(waitpid(pid, NULL, 0) == pid);
	CALL(ptrace(PTRACE_PEEKDATA, pid, mem + 8, 0) != 0);
	CALL(ptrace(PTRACE_POKEDATA, pid, mem + 8, 0x1234567812345678));
	CALL(ptrace(PTRACE_POKEDATA, pid, mem + 5 * pgsz(), 0x1234567812345678));
	CALL(ptrace(PTRACE_PEEKDATA, pid, mem + LEN, 0));
	must(!ptrace(PTRACE_DETACH, pid, 0, 0));
	note("the child: %d", reap(pid));
	note_state(s);
}

static int userfaultfd(int mode)
{
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	struct uffdio_api api = { .api = UFFD_API };

	if (fd < 0)
		skip_op("userfaultfd: %s", error());
	must(!ioctl(fd, UFFDIO_API, &api));
	/* arm64 does from 6.10 on. */
	if (mode == UFFDIO_REGISTER_MODE_WP && !(api.features & UFFD_FEATURE_WP_HUGETLBFS_SHMEM))
		skip_op("userfaultfd: this kernel does not protect a memfd");
	return fd;
}

/* s->arg: mode */
static void register_userfaultfd(struct subject *s)
{
	char *mem = map(s, PROT_READ);
	struct uffdio_register reg = {
		.range = { (uintptr_t)mem, LEN }, .mode = s->arg,
	};

	CALL(ioctl(userfaultfd(s->arg), UFFDIO_REGISTER, &reg));
}

/* From 6.7 on: the kernel itself notes which pages were written. */
static void track_writes(struct subject *s)
{
	struct uffdio_api api = { .api = UFFD_API, .features = 1 << 15 /* WP_ASYNC */ };
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	char *mem = map_writable(s);
	struct uffdio_register reg = {
		.range = { (uintptr_t)mem, LEN }, .mode = UFFDIO_REGISTER_MODE_WP,
	};
	struct uffdio_writeprotect wp = {
		.range = { (uintptr_t)mem, LEN }, .mode = UFFDIO_WRITEPROTECT_MODE_WP,
	};

	if (fd < 0 || ioctl(fd, UFFDIO_API, &api))
		skip_op("userfaultfd: %s", error());
	store_all(mem);
	CALL(ioctl(fd, UFFDIO_REGISTER, &reg));
	CALL(ioctl(fd, UFFDIO_WRITEPROTECT, &wp));
	access_at("load", mem, false);
	access_at("store", mem + pgsz(), true);
	note_state(s);
}

static long futex(void *mem, int op, int val, long timeout)
{
	return syscall(SYS_futex, mem, op, val, timeout, NULL, 0);
}

/* A child waits at one address, in a mapping of its own; its parent wakes it. */
static void note_futex(struct subject *s, size_t page)
{
	int *word = (int *)(map_writable(s) + page * pgsz()) + 3;
	int *other = (int *)(map_writable(s) + page * pgsz()) + 3, i;
	struct timespec long_time = { 10, 0 };
	long woken = 0;
	pid_t pid;

	*word = 7;
	pid = spawn();
	if (!pid) {
		long ret = futex(other, FUTEX_WAIT, 7, (long)&long_time);

		_exit(ret ? errno : 0);
	}
	for (i = 0; i < 1000 && !woken; i++) {
		woken = futex(word, FUTEX_WAKE, 1, 0);
		usleep(1000);
	}
	note("woken: %ld", woken);
	note("the child: %d", reap(pid));
}

static void futex_across_mappings(struct subject *s)
{
	note_futex(s, 0);
	note_futex(s, 6);
}

static void futex_errors(struct subject *s)
{
	struct timespec no_time = {};
	char *mem = map_writable(s);

	CALL(futex(mem, FUTEX_WAIT, 77777, 0));
	CALL(futex(mem + 7 * pgsz(), FUTEX_WAIT, 0, (long)&no_time));
	CALL(futex(mem + 7 * pgsz(), FUTEX_WAKE, 1, 0));
	CALL(futex(mem + 1, FUTEX_WAKE, 1, 0));
	CALL(set_size(s, pgsz()));
	CALL(futex(mem + 7 * pgsz(), FUTEX_WAKE, 1, 0));
	CALL(futex(mem + 7 * pgsz(), FUTEX_WAIT, 0, (long)&no_time));
}

static void futex_of_a_readable_mapping(struct subject *s)
{
	struct timespec no_time = {};
	char *mem = map(s, PROT_READ);

	CALL(futex(mem, FUTEX_WAIT, *(int *)mem, (long)&no_time));
	CALL(futex(mem, FUTEX_WAKE, 1, 0));
	CALL(futex(mem + 5 * pgsz(), FUTEX_WAIT, 0, (long)&no_time));
}

static void robust_mutex(struct subject *s)
{
	pthread_mutex_t *mutex = (void *)map_writable(s);
	pthread_mutexattr_t attr;

	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	must(!pthread_mutex_init(mutex, &attr));
	note_child(
		pthread_mutex_lock(mutex);
	);
	errno = pthread_mutex_lock(mutex);
	note("lock: %s", error());
}

/* ---- I/O from and to a mapping ---- */

static void direct_io_and_a_mapping(struct subject *s)
{
	int file = direct_file();
	char *mem, buf[2 * pgsz()];

	if (file < 0)
		skip_op(NO_DIRECT_FILE);
	mem = map_writable(s);
	CALL(pwrite(file, mem, LEN, 0));
	CALL(pread(file, mem + 5 * pgsz(), 2 * pgsz(), pgsz()));
	note_data("mapped", mem, LEN);
	CALL(pread(file, mem + pgsz() + 512, 512, 0));
	CALL(pread(file, buf, sizeof(buf), 0) > 0);
	note_state(s);
}

static void direct_io_and_a_readable_mapping(struct subject *s)
{
	int file = direct_file();
	char *mem = map(s, PROT_READ);

	if (file < 0)
		skip_op(NO_DIRECT_FILE);
	CALL(pwrite(file, mem, LEN, 0));
	CALL(pread(file, mem, pgsz(), pgsz()));
	note_state(s);
}

static void write_from_its_own_mapping(struct subject *s)
{
	char *mem = map(s, PROT_READ);

	CALL(pwrite(s->fd, mem + pgsz(), 2 * pgsz(), 5 * pgsz() + 10));
	CALL(pwrite(s->fd, mem, pgsz(), 0));
	CALL(pwrite(s->fd, mem + 6 * pgsz(), 100, 50));
	note_state(s);
}

static void read_into_its_own_mapping(struct subject *s)
{
	char *mem = map_writable(s);

	CALL(pread(s->fd, mem + 5 * pgsz() + 10, 2 * pgsz(), pgsz()));
	CALL(pread(s->fd, mem, pgsz(), 0));
	note_state(s);
}

/* A number in a file whose lines start with a name */
static long field_of(const char *path, const char *name)
{
	FILE *file = fopen(path, "re");
	char line[256], found[64];
	long n, value = -1;

	if (!file)
		skip_op("%s: %s", path, error());
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "%63s %ld", found, &n) == 2 && !strcmp(found, name))
			value = n;
	fclose(file);
	return value;
}

enum { MANY = 4096 };	/* pages, that make themselves felt in the system's counters */

static char *map_many(struct subject *s)
{
	must(!set_size(s, MANY * pgsz()));
	return map_part(s, PROT_READ | PROT_WRITE, MAP_SHARED, 0, MANY);
}

/* Others come and go meanwhile, so most of it will do. */
static const char *most_of_many(long kb)
{
	return kb > (long)(MANY * pgsz() >> 10) * 3 / 4 ? "most" : "little";
}

/* Of the system's counters, the one that others hardly move; see the cgroup for more. */
static void memory_in_meminfo(struct subject *s)
{
	long before = field_of("/proc/meminfo", "Shmem:");

	if (s->kind->like == &sealed)
		end_op();
	memset(map_many(s), 'x', MANY * pgsz());
	note("Shmem: %s", most_of_many(field_of("/proc/meminfo", "Shmem:") - before));
}

static void memory_in_a_cgroup(struct subject *s)
{
	static const char * const fields[] = { "shmem", "file", "file_mapped", "anon" };
	char dir[128], path[160];
	const char *why;

	if (s->kind->like == &sealed)
		end_op();
	why = cg_make(dir, sizeof(dir));
	if (why)
		skip_op("%s", why);
	note_child({
		size_t i;

		must(!cg_write(dir, "cgroup.procs", "0"));
		memset(map_many(s), 'x', MANY * pgsz());
		snprintf(path, sizeof(path), "%s/memory.stat", dir);
		for (i = 0; i < ARRAY_SIZE(fields); i++)
			note("%s: %s", fields[i], most_of_many(field_of(path, fields[i]) >> 10));
		note("current: %s", most_of_many(cg_read(dir, "memory.current") >> 10));
	});
	close(s->fd);
	rmdir(dir);
}

/* s->arg: advice first.  Does the core dump of the process have what it had mapped? */
static void core_dump(struct subject *s)
{
	static const char file[] = "/tmp/as_memfd_core", knob[] = "/proc/sys/kernel/core_pattern";
	char was[256], *core, *mem = map(s, PROT_READ);
	uint64_t want = pattern(1, FULL - 1, 9);
	struct stat st;
	int fd;

	must(read_file(knob, was, sizeof(was)) > 0);
	must(!write_file(knob, file));
	CALL(madvise(mem, LEN, s->arg));
	in_child(
		struct rlimit lim = { RLIM_INFINITY, RLIM_INFINITY };

		load_all(mem);
		setrlimit(RLIMIT_CORE, &lim);
		prctl(PR_SET_DUMPABLE, 1);
		abort();
	);
	must(!write_file(knob, was));
	fd = open(file, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st))
		skip_op("%s: %s", file, error());
	unlink(file);
	core = mmap(NULL, st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	must(core != MAP_FAILED);
	note("in the core: %d", !!memmem(core, st.st_size, &want, sizeof(want)));
}

/* Private copies of one content become one page. */
static void merging_of_private_copies(struct subject *s)
{
	char *mem = map_part(s, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0, PAGES), text[32] = "0";
	int i;

	for (i = 0; i < PAGES; i++)
		pg_fill(mem + i * pgsz(), 7, 7);
	CALL(madvise(mem, LEN, MADV_MERGEABLE));
	if (write_file("/sys/kernel/mm/ksm/pages_to_scan", "1000") ||
	    write_file("/sys/kernel/mm/ksm/sleep_millisecs", "20") ||
	    write_file("/sys/kernel/mm/ksm/run", "1"))
		skip_op("/sys/kernel/mm/ksm: %s", error());
	for (i = 0; i < 500 && !atoi(text); i++) {
		usleep(10000);
		if (read_file("/proc/self/ksm_merging_pages", text, sizeof(text)) < 0)
			skip_op("/proc/self/ksm_merging_pages: %s", error());
	}
	note("merged: %s", atoi(text) ? "yes" : "no");
	write_file("/sys/kernel/mm/ksm/run", "0");
	note_state(s);
}

static void merge_of_private_copies(struct subject *s)
{
	char *mem = map_part(s, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0, PAGES);

	CALL(madvise(mem, LEN, MADV_MERGEABLE));
	note_vmflags(mem);
	CALL(madvise(mem, LEN, MADV_UNMERGEABLE));
	note_vmflags(mem);
}

static void protection_keys(struct subject *s)
{
	char *mem = map(s, PROT_READ);
	int key = pkey_alloc(0, PKEY_DISABLE_ACCESS);

	if (key < 0)
		skip_op("pkey_alloc: %s", error());
	CALL(pkey_mprotect(mem, LEN, PROT_READ, key));
	access_at("load", mem, false);
}

static bool readers_do_not_count(void)
{
	return !readers_count();
}

/* ---- the list ---- */

struct op {
	const char *name;
	void (*run)(struct subject *s);
	long arg;
	/* Why does it differ on purpose?  Of all kinds; of one kind, if set */
	const char *differs, *clone, *device, *snapshot;
	bool varies;		/* on some kernels it does not */
	/* The kernels where it differs, a snapshot that has a reason of its own aside; or all */
	bool (*where)(void);
};

/* That kind of region does not differ, though files do. */
#define SAME ""

/* What makes a device differ from a file.  COWMEM_IOC_FILE makes a file of it. */
#define DEV_INODE	"its inode is the device node's"
#define DEV_REGULAR	"the kernel does it with regular files only"
#define DEV_REOPEN	"to open the device again is to make a new region"
#define DEV_SIZE	"ftruncate() acts on regular files: COWMEM_IOC_RESIZE"
#define DEV_SPACE	"fallocate() and MADV_REMOVE act on regular files: COWMEM_IOC_DISCARD"
#define DEV_GROWS	"a longer mapping makes the region longer"

#define ZEROES		"a memfd cannot be zeroed so, a region can"
#define UNSHARE		"a memfd shares no pages"
#define REFLINK		"a memfd cannot share pages with another"
#define HOLES		"holes take no page: all of them are one page of zeroes"
#define INODE_FLAGS	"a region has no attributes of chattr(1)"
#define NO_SEALS	"seals are the kernel's own for memfds: COWMEM_IOC_SEAL, COWMEM_IOC_INFO"
#define ONCE_WRITTEN	"a page that was mapped for reading may be shared with a clone: its first store faults"
#define NO_UFFD		"userfaultfd knows the kernel's own files only"
#define SEAL_ERRNO	"COWMEM_IOC_SEAL says EBADF of what is not open for writing, not EPERM"
#define SEAL_RDONLY	"what is sealed against writing is opened for writing by nobody"
#define SEAL_SHARED	"some kernels let nobody share a mapping of a memfd that is sealed against writing"
#define SNAP_RDONLY	"a snapshot is opened for writing by nobody; a sealed memfd is, to no avail"

#define OP(fn, ...) { .name = #fn, .run = fn, ##__VA_ARGS__ }
#define OP_ARG(fn, value, ...)						\
	{ .name = #fn ", " #value, .run = fn, .arg = value, ##__VA_ARGS__ }

static const struct op ops[] = {
	OP(read_in_turn),
	OP(write_in_turn),
	OP(pread_near_the_end),
	OP(pread_holes),
	OP(pwrite_past_the_end),
	OP(pwrite_at_odd_offsets),
	OP(pwrite_whole_pages),
	OP(readv_and_writev),
	OP(bad_buffers),
	OP(bad_buffer_past_the_end, .varies = true, .snapshot = SAME,
	   .differs = "a failed write leaves the size as it is; on some kernels not a memfd's"),
	OP(half_bad_buffers),
	OP_ARG(with_rwf, 0),
	OP_ARG(with_rwf, RWF_HIPRI),
	OP_ARG(with_rwf, RWF_DSYNC),
	OP_ARG(with_rwf, RWF_SYNC),
	OP_ARG(with_rwf, RWF_NOWAIT),
	OP_ARG(with_rwf, RWF_APPEND),
	OP_ARG(with_rwf, 0x20 /* RWF_NOAPPEND */),
	OP_ARG(with_rwf, 0x40 /* RWF_ATOMIC */),
	OP_ARG(with_rwf, 0x80 /* RWF_DONTCACHE */),
	OP_ARG(with_rwf, 0x10000),
	OP(append_mode),
	OP(file_size_limit, .device = DEV_SIZE),
	OP(store_needs_no_room_below_the_limit),
	OP(seek_everywhere),
	OP(seek_data_and_holes),
	OP(seek_after_changes),
	OP(seek_in_an_empty_file),
	OP(shared_position),

	OP(truncate_up_and_down, .device = DEV_SIZE),
	OP(truncate_badly, .device = DEV_SIZE),
	OP(truncate_clears_the_tail),
	OP_ARG(allocate, 0, .device = DEV_SPACE),
	OP_ARG(allocate, FALLOC_FL_KEEP_SIZE, .device = DEV_SPACE),
	OP_ARG(allocate, FALLOC_FL_PUNCH_HOLE, .device = DEV_INODE),
	OP_ARG(allocate, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, .device = DEV_SPACE),
	OP_ARG(allocate, FALLOC_FL_ZERO_RANGE,
	       .differs = ZEROES,
	       .device = DEV_SPACE,
	       .snapshot = SAME),
	OP_ARG(allocate, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
	       .differs = ZEROES,
	       .device = DEV_SPACE,
	       .snapshot = SAME),
	OP_ARG(allocate, FALLOC_FL_COLLAPSE_RANGE, .device = DEV_SPACE),
	OP_ARG(allocate, FALLOC_FL_INSERT_RANGE, .device = DEV_SPACE),
	OP_ARG(allocate, FALLOC_FL_UNSHARE_RANGE,
	       .differs = UNSHARE,
	       .device = DEV_SPACE,
	       .snapshot = SAME),
	OP_ARG(allocate, FALLOC_FL_UNSHARE_RANGE | FALLOC_FL_KEEP_SIZE,
	       .differs = UNSHARE,
	       .device = DEV_SPACE,
	       .snapshot = SAME),
	OP(allocate_badly, .device = DEV_SPACE),
	OP(blocks_count_pages, .device = DEV_INODE),
	OP(advise),
	OP(read_ahead, .device = DEV_REGULAR),
	OP(sync_the_file),
	OP(sync_a_range, .device = DEV_REGULAR),

	OP(copy_within_the_file, .device = DEV_REGULAR),
	OP(copy_to_its_like, .device = DEV_REGULAR),
	OP(copy_to_other_file_systems, .device = DEV_REGULAR),
	OP(send_the_file),
	OP(splice_out_and_in),
	OP(tee_what_was_spliced),
	OP(vmsplice_from_a_mapping),
	OP(vmsplice_into_a_mapping),
	OP(pipe_shows_later_writes,
	   .differs = "splice() copies: a pipe never holds a page of a region",
	   .snapshot = SAME),
	OP(clone_the_file, .differs = REFLINK, .device = DEV_REGULAR, .snapshot = SAME),
	OP(clone_across_file_systems),
	OP(dedupe_the_file, .differs = REFLINK, .device = DEV_REGULAR),

	OP(ioctl_fionread, .device = DEV_REGULAR),
	OP(ioctl_size_and_block, .device = DEV_REGULAR,
	   .differs = "FIOQSIZE knows no pages that are shared: st_blocks does"),
	OP(ioctl_descriptor_flags),
	/* Without CONFIG_TMPFS_XATTR, a memfd has none either. */
	OP(ioctl_inode_flags, .differs = INODE_FLAGS, .varies = true),
	OP(ioctl_unknown, .device = DEV_REGULAR),

	OP(fstat_of_a_new_file, .device = DEV_INODE),
	OP(mode_of_a_new_file,
	   .differs = "a region is its maker's: 0600, not 0777",
	   .snapshot = SAME),
	OP(inodes_are_unique, .device = DEV_INODE),
	OP(statx_of_a_new_file, .device = DEV_INODE),
	OP(statx_birth, .device = DEV_INODE, .varies = true),
	OP(statx_attributes, .differs = INODE_FLAGS, .device = SAME),
	OP(file_system_type,
	   .differs = "statfs() tells a region by its own magic number",
	   .device = SAME),
	OP(file_system_numbers, .device = DEV_INODE),
	OP(mount_flags, .device = DEV_INODE),
	OP(change_mode_and_owner),
	OP(write_drops_setuid, .device = DEV_INODE),
	OP(set_times),
	OP(times_changed_by_calls, .device = DEV_INODE),
	OP(times_changed_by_copies, .device = DEV_INODE),
	OP(times_changed_by_mappings, .device = DEV_INODE),
	OP(extended_attributes,
	   .differs = "a region has no extended attributes",
	   .device = DEV_INODE, .varies = true),
	OP(attributes_it_has_not),

	OP(flock_of_two_opens, .device = DEV_REOPEN),
	OP(locks_are_of_one_file),
	OP(posix_locks_of_processes),
	OP(posix_locks_go_by_close, .device = DEV_REOPEN),
	OP(open_file_locks, .device = DEV_REOPEN, .snapshot = SNAP_RDONLY),
	OP(deadlock_is_found),
	OP(waiting_for_a_lock_is_interrupted, .device = DEV_REOPEN, .snapshot = SNAP_RDONLY),
	OP(leases, .device = DEV_REGULAR),
	OP(proc_locks, .device = "/proc shows locks of the region only for files"),
	OP(seals_asked_for, .differs = NO_SEALS),
	OP(seals_added, .differs = NO_SEALS, .snapshot = SAME),
	OP_ARG(seal_and_try, 0, .device = DEV_SPACE, .snapshot = SEAL_ERRNO),
	OP_ARG(seal_and_try, F_SEAL_SEAL, .device = DEV_SPACE, .snapshot = SEAL_ERRNO),
	OP_ARG(seal_and_try, F_SEAL_SHRINK, .device = DEV_SPACE, .snapshot = SEAL_ERRNO),
	OP_ARG(seal_and_try, F_SEAL_GROW, .device = DEV_SPACE, .snapshot = SEAL_ERRNO),
	OP_ARG(seal_and_try, F_SEAL_WRITE, .where = readers_count, .differs = SEAL_SHARED,
	       .snapshot = SEAL_ERRNO),
	OP_ARG(seal_and_try, F_SEAL_FUTURE_WRITE, .snapshot = SEAL_ERRNO),
	OP(write_across_a_sealed_end, .varies = true, .snapshot = SEAL_ERRNO,
	   .differs = "what fits before the end is written; some kernels refuse all of it"),
	OP_ARG(allocate_in_a_sealed_file, F_SEAL_GROW, .device = DEV_SPACE,
	       .snapshot = SEAL_ERRNO),
	OP_ARG(allocate_in_a_sealed_file, F_SEAL_WRITE, .device = DEV_SPACE,
	       .snapshot = SEAL_ERRNO,
	       .differs = "what nobody can write any more gets no memory for it"),
	OP_ARG(allocate_in_a_sealed_file, F_SEAL_FUTURE_WRITE, .device = DEV_SPACE,
	       .snapshot = SEAL_ERRNO),
	OP_ARG(seal_what_is_mapped, F_SEAL_WRITE),
	OP_ARG(seal_what_is_mapped, F_SEAL_FUTURE_WRITE),
	OP_ARG(reopen_what_is_sealed, F_SEAL_WRITE, .differs = SEAL_RDONLY, .device = SAME),
	OP_ARG(reopen_what_is_sealed, F_SEAL_FUTURE_WRITE, .differs = SEAL_RDONLY,
	       .device = SAME),
	OP(owner_and_signal),
	OP(other_fcntls),
	OP(status_flags),

	OP(inotify_events, .device = DEV_SPACE, .snapshot = SNAP_RDONLY),
	OP(fanotify_events, .device = DEV_REGULAR, .snapshot = SNAP_RDONLY),
	OP(fanotify_marks),
	OP(poll_and_select),
	OP(epoll),

	OP(reopen_in_each_mode, .device = DEV_REOPEN, .snapshot = SNAP_RDONLY),
	OP(reopen_for_direct_io, .snapshot = SNAP_RDONLY, .varies = true,
	   .differs = "a region can be opened with O_DIRECT; up to 6.5 a memfd cannot"),
	OP(reopen_and_truncate, .device = DEV_REOPEN),
	OP(reopen_for_more, .device = DEV_REOPEN, .snapshot = SNAP_RDONLY),
	OP(reopen_by_others, .snapshot = SNAP_RDONLY),
	OP(reopen_by_its_owner, .snapshot = SNAP_RDONLY),
	OP(access_by_path),
	OP(reopened_is_the_same_file, .device = DEV_REOPEN, .snapshot = SNAP_RDONLY),
	OP(link_in_proc, .device = DEV_INODE),
	OP(name_in_proc, .differs = "the name says what it is: cowmem:NAME, not memfd:NAME"),
	OP(fdinfo_lines),
	OP(more_lines_in_fdinfo, .differs = "fdinfo shows what COWMEM_IOC_INFO shows"),
	OP(links_cannot_be_made),
	OP(not_a_directory),
	OP(mount_on_or_of_it, .device = DEV_INODE, .varies = true),
	OP(file_handle,
	   .differs = "a region is reached by its descriptors and by nothing else",
	   .device = SAME),
	OP(used_as_other_things, .snapshot = SNAP_RDONLY),
	OP(execute_while_open_for_writing, .device = DEV_REGULAR),
	OP(execute, .device = DEV_REGULAR),
	OP(execute_a_script, .device = DEV_REGULAR),
	OP(run_code_of_a_mapping),
	OP(descriptor_copies),
	OP(compare_descriptors),
	OP(pass_over_a_socket),
	OP(fetch_by_pidfd),
	OP(libaio),
	OP_ARG(io_uring, 0),
	OP_ARG(io_uring, IOSQE_ASYNC),
	OP(io_uring_other_calls, .device = DEV_SPACE),
	OP(io_uring_fixed_file),
	OP(io_uring_registered_buffers, .varies = true,
	   .differs = "the kernel pins no file for long that is told of writes; from 6.5 on"),
	OP(loop_device, .device = DEV_INODE, .varies = true),

	OP_ARG(map_with_flags, MAP_SHARED),
	OP_ARG(map_with_flags, MAP_PRIVATE),
	OP_ARG(map_with_flags, MAP_SHARED_VALIDATE),
	OP_ARG(map_with_flags, MAP_SHARED | MAP_NORESERVE),
	OP_ARG(map_with_flags, MAP_PRIVATE | MAP_NORESERVE),
	OP_ARG(map_with_flags, MAP_PRIVATE | MAP_DENYWRITE),
	OP_ARG(map_with_flags, MAP_SHARED | MAP_STACK),
	OP_ARG(map_with_flags, MAP_SHARED | MAP_NONBLOCK | MAP_POPULATE),
	OP(map_badly),
	OP(map_odd_ranges, .device = DEV_GROWS),
	OP(map_past_the_end, .device = DEV_GROWS),
	OP(map_an_empty_file, .device = DEV_GROWS),
	OP(map_at_a_place),
	OP_ARG(map_at_a_hint, 4096),
	OP_ARG(map_at_a_hint, 0, .varies = true,
	       .differs = "where a hint leaves no room to align it is not taken"),
	OP(map_what_is_open_for_less, .snapshot = SNAP_RDONLY),
	OP(protect_and_access),
	OP(protect_page_by_page),
	OP(protect_before_the_first_touch),
	OP(map_neighbours),
	OP(grow_by_mprotect),
	OP(advice_that_splits),
	OP(many_protections),
	OP(remap_grow_and_shrink),
	OP(remap_move),
	OP(remap_and_leave_it),
	OP(remap_a_duplicate),
	OP(remap_several),
	OP(remap_badly),
	OP(unmap_a_part),
	OP(remap_file),
	OP(sync_mappings),

	OP_ARG(advice_on_a_mapping, MADV_NORMAL),
	OP_ARG(advice_on_a_mapping, MADV_RANDOM),
	OP_ARG(advice_on_a_mapping, MADV_SEQUENTIAL),
	OP_ARG(advice_on_a_mapping, MADV_WILLNEED),
	OP_ARG(advice_on_a_mapping, MADV_DONTNEED),
	OP_ARG(advice_on_a_mapping, MADV_FREE),
	OP_ARG(advice_on_a_mapping, MADV_REMOVE, .device = DEV_SPACE),
	OP_ARG(advice_on_a_mapping, MADV_DONTFORK),
	OP_ARG(advice_on_a_mapping, MADV_DOFORK),
	OP_ARG(advice_on_a_mapping, MADV_MERGEABLE),
	OP_ARG(advice_on_a_mapping, MADV_UNMERGEABLE),
	OP_ARG(advice_on_a_mapping, MADV_HUGEPAGE),
	OP_ARG(advice_on_a_mapping, MADV_NOHUGEPAGE),
	OP_ARG(advice_on_a_mapping, MADV_DONTDUMP),
	OP_ARG(advice_on_a_mapping, MADV_DODUMP),
	OP_ARG(advice_on_a_mapping, MADV_WIPEONFORK),
	OP_ARG(advice_on_a_mapping, MADV_KEEPONFORK),
	OP_ARG(advice_on_a_mapping, MADV_COLD),
	OP_ARG(advice_on_a_mapping, MADV_PAGEOUT),
	OP_ARG(advice_on_a_mapping, MADV_POPULATE_READ),
	OP_ARG(advice_on_a_mapping, MADV_POPULATE_WRITE),
	OP_ARG(advice_on_a_mapping, MADV_DONTNEED_LOCKED),
	OP_ARG(advice_on_a_mapping, MADV_COLLAPSE),
	OP_ARG(advice_on_a_mapping, MADV_GUARD_INSTALL),
	OP_ARG(advice_on_a_mapping, MADV_GUARD_REMOVE),
	OP_ARG(advice_on_a_mapping, 77),
	OP_ARG(advice_on_a_readable_mapping, MADV_WILLNEED),
	OP_ARG(advice_on_a_readable_mapping, MADV_DONTNEED),
	OP_ARG(advice_on_a_readable_mapping, MADV_REMOVE, .where = readers_do_not_count,
	       .device = DEV_SPACE),
	OP_ARG(advice_on_a_readable_mapping, MADV_COLD),
	OP_ARG(advice_on_a_readable_mapping, MADV_PAGEOUT),
	OP_ARG(advice_on_a_readable_mapping, MADV_POPULATE_WRITE),
	OP_ARG(advice_on_a_readable_mapping, MADV_DODUMP),
	OP_ARG(advice_on_a_private_mapping, MADV_DONTNEED),
	OP_ARG(advice_on_a_private_mapping, MADV_FREE),
	OP_ARG(advice_on_a_private_mapping, MADV_REMOVE),
	OP_ARG(advice_on_a_private_mapping, MADV_WIPEONFORK),
	OP_ARG(advice_on_a_private_mapping, MADV_PAGEOUT),
	OP_ARG(advice_on_a_private_mapping, MADV_POPULATE_WRITE),
	OP(remove_pages, .device = DEV_SPACE),
	OP(residence_after_advice),
	OP(populate_for_reading, .device = DEV_GROWS),
	OP(pages_out),
	OP(process_advice),
	OP(merge_of_private_copies),
	OP(merging_of_private_copies),
	OP_ARG(core_dump, MADV_NORMAL),
	OP_ARG(core_dump, MADV_DONTDUMP),
	OP_ARG(core_dump, MADV_DODUMP),
	OP(memory_in_meminfo),
	OP(memory_in_a_cgroup),

	OP(lock_a_mapping),
	OP(lock_a_readable_mapping, .differs = HOLES),
	OP(lock_on_fault),
	OP_ARG(map_populated, MAP_POPULATE, .clone = ONCE_WRITTEN),
	OP_ARG(map_populated, MAP_LOCKED),
	OP_ARG(map_populated, MAP_POPULATE | MAP_LOCKED),
	OP(locked_and_made_writable, .differs = ONCE_WRITTEN, .snapshot = SAME),
	OP(lock_limit),
	OP(lock_what_is_not_there, .device = DEV_GROWS),

	OP(mincore_after_touching),
	OP(mincore_before_touching,
	   .differs = "mincore() asks the page cache, which cannot hold shared pages"),
	OP(cache_statistics, .differs = "pages of a region are not in the page cache"),
	OP(smaps_after_stores),
	OP(smaps_of_two_mappings),
	OP(loads_of_full_pages),
	OP(loads_of_holes),
	OP(blocks_after_loads_of_holes, .differs = HOLES, .device = DEV_INODE),
	OP(smaps_of_a_private_mapping),
	OP(status_counters),
	OP(pagemap_after_touching),
	OP(pagemap_after_loads),
	OP(soft_dirty),
	OP(soft_dirty_of_new_pages),
	OP(referenced_pages),
	OP(page_flags),
	OP(map_files, .device = DEV_REOPEN, .snapshot = SNAP_RDONLY),
	OP(numa_maps),

	OP(faults_of_all_sorts, .device = DEV_GROWS),
	OP(store_in_a_hole),
	OP(mapping_shows_writes),
	OP(calls_past_the_end, .device = DEV_GROWS),
	OP(truncate_under_a_mapping),
	OP(mapping_outlives_the_descriptor),
	OP(private_mapping),
	OP(private_copy_and_punch),
	OP(protection_keys),

	OP(fork_shares),
	OP(fork_of_a_private_mapping),
	OP(fork_copies_no_page_tables),
	OP_ARG(fork_after_advice, MADV_DONTFORK),
	OP_ARG(fork_after_advice, MADV_WIPEONFORK),

	OP(memory_policy,
	   .differs = "a policy is the mapping's own: no module can keep one for a file"),
	OP(policy_splits_and_merges),
	OP(move_pages_strictly),
	OP(where_pages_are),
	OP(process_memory),
	OP_ARG(debugger_writes, MAP_SHARED),
	OP_ARG(debugger_writes, MAP_PRIVATE),
	OP_ARG(debugger_of_another_process, MAP_SHARED),
	OP_ARG(debugger_of_another_process, MAP_PRIVATE),
	OP_ARG(register_userfaultfd, UFFDIO_REGISTER_MODE_MISSING, .differs = NO_UFFD),
	OP_ARG(register_userfaultfd, UFFDIO_REGISTER_MODE_WP, .differs = NO_UFFD),
	OP_ARG(register_userfaultfd, UFFDIO_REGISTER_MODE_MINOR, .differs = NO_UFFD),
	OP(track_writes, .snapshot = SAME,
	   .differs = "a store to what userfaultfd protects is SIGBUS"),
	OP(futex_across_mappings),
	OP(futex_errors),
	OP(futex_of_a_readable_mapping,
	   .differs = "a futex needs a page of the region's own, no hole and no clone's"),
	OP(robust_mutex),
	OP(direct_io_and_a_mapping),
	OP(direct_io_and_a_readable_mapping),
	OP(write_from_its_own_mapping),
	OP(read_into_its_own_mapping),
};

static const char *reason(const struct op *op, const struct kind *kind)
{
	const char *why = op->differs;

	if (kind->make == make_memfd || kind->make == make_sealed)
		return NULL;
	if (op->clone && kind->make == make_clone)
		why = op->clone;
	if (op->device && kind->make == make_device)
		why = op->device;
	if (op->snapshot && kind->make == make_snapshot)
		why = op->snapshot;
	return why && *why ? why : NULL;
}

/* Does @why, the reason of @op, hold on some kernels only? */
static bool on_some_kernels(const struct op *op, const char *why)
{
	return op->where && why != op->snapshot;
}

/* ---- to run it ---- */

static bool show;

/* What is done to a device's inode outlives it. */
static void restore_node(const struct stat *node)
{
	must(!chown(COWMEM_DEV, node->st_uid, node->st_gid));
	must(!chmod(COWMEM_DEV, node->st_mode & 07777));
}

/* In a child, so that nothing is left of it. */
static void run_on(const struct op *op, const struct kind *kind, struct outcome *o)
{
	struct stat node;
	int status;

	must(kind->make != make_device || !stat(COWMEM_DEV, &node));
	o->used = 0;
	o->skipped = false;
	o->late = false;
	o->text[0] = 0;
	out = o;
	status = in_child({
		struct subject s = { .arg = op->arg };

		alarm(60);
		umask(022);
		make_subject(&s, kind);
		op->run(&s);
	});
	if (kind->make == make_device)
		restore_node(&node);
	o->late = status == 128 + SIGALRM;
	if (status)
		note(o->late ? "took too long" : "ended with %d", status);
	if (!show)
		return;
	ksft_print_msg("%s, %s:\n", op->name, kind->name);
	printf("%s\n", o->text);
}

/* Does what came of it agree with the list? */
static bool as_listed(const struct op *op, const struct kind *kind, struct outcome *o,
		      struct outcome *like)
{
	const char *why = reason(op, kind);
	bool differ = strcmp(o->text, like->text);

	if (why && on_some_kernels(op, why) && !op->where())
		why = NULL;
	if (!differ && why && !op->varies) {
		ksft_print_msg("%s: no longer differs (%s)\n", kind->name, why);
		return false;
	}
	if (differ && !why) {
		ksft_print_msg("%s, %s: differs\n", op->name, kind->name);
		print_differing(kind->name, o->text, kind->like->name, like->text);
		return false;
	}
	return true;
}

static void run_op(const struct op *op, const struct kind *list, size_t n)
{
	static struct outcome *plain, *frozen, *o;
	size_t i;
	bool ok;

	if (!o) {
		plain = shared_mem(sizeof(*o));
		frozen = shared_mem(sizeof(*o));
		o = shared_mem(sizeof(*o));
	}
	run_on(op, &memfd, plain);
	if (plain->skipped) {
		ksft_test_result_skip("%s: %s\n", op->name, plain->text);
		return;
	}
	run_on(op, &sealed, frozen);
	ok = !plain->late && !frozen->late;
	for (i = 0; i < n; i++) {
		struct outcome like = *(list[i].like == &sealed ? frozen : plain);

		run_on(op, &list[i], o);
		ok &= as_listed(op, &list[i], o, &like) && !o->late;
	}
	ksft_test_result(ok, "%s\n", op->name);
}

/* The reason that an operation is listed with for that kind, and a clone is a file */
static const char *listed(const struct op *op, const struct kind *kind)
{
	return kind->make == make_clone && !op->clone ? NULL : reason(op, kind);
}

/* All operations that differ for the reason that @first differs for */
static void print_reason(const struct op *first, const struct kind *kind)
{
	const char *why = listed(first, kind);
	const struct op *op;

	for (op = ops; op < first; op++)
		if (listed(op, kind) && !strcmp(listed(op, kind), why))
			return;
	printf("\n%s: %s\n", kind->name, why);
	for (; op < ops + ARRAY_SIZE(ops); op++)
		if (listed(op, kind) && !strcmp(listed(op, kind), why))
			printf("\t%s%s\n", op->name,
			       op->varies || on_some_kernels(op, why) ? " (on some kernels)" : "");
}

static void print_differences(void)
{
	size_t i, k;

	for (k = 0; k < ARRAY_SIZE(kinds); k++)
		for (i = 0; i < ARRAY_SIZE(ops); i++)
			if (listed(&ops[i], &kinds[k]))
				print_reason(&ops[i], &kinds[k]);
}

int main(int argc, char **argv)
{
	static const struct kind self[] = {
		{ "another memfd", make_memfd, &memfd },
		{ "another sealed memfd", make_sealed, &sealed },
	};
	const struct kind *list = kinds;
	size_t i, nr = ARRAY_SIZE(kinds), n = 0;

	for (argv++; *argv && !strncmp(*argv, "--", 2); argv++) {
		if (!strcmp(*argv, "--differences")) {
			print_differences();
			return 0;
		}
		show |= !strcmp(*argv, "--show");
		if (!strcmp(*argv, "--self")) {
			list = self;
			nr = ARRAY_SIZE(self);
		} else if (!strcmp(*argv, "--only") && argv[1]) {
			argv++;
			for (i = 0; i < ARRAY_SIZE(kinds); i++)
				if (!strcmp(kinds[i].name, *argv))
					list = &kinds[i];
			nr = 1;
		}
	}
	(void)argc;
	ksft_print_header();
	for (i = 0; i < ARRAY_SIZE(ops); i++)
		n += wanted(ops[i].name, argv);
	ksft_set_plan(n);
	for (i = 0; i < ARRAY_SIZE(ops); i++)
		if (wanted(ops[i].name, argv))
			run_op(&ops[i], list, nr);
	ksft_finished();
}
