// SPDX-License-Identifier: GPL-2.0-only
/*
 * Promise: whatever is done to regions, in whatever order, by whom and while
 * whatever else goes on, each holds what an array of bytes would hold.
 *
 * Usage: torture [SECONDS [SEED [EPISODE]]]
 *
 * Without arguments: a short run with a fixed seed and one with a fresh one.
 * With EPISODE, as a failed run prints it: that one only, each step printed.
 *
 * Workers are processes.  Each runs one episode after the other, in a child of
 * its own: some hundred random operations on a forest of regions, compared byte
 * by byte with arrays.  An episode and each of its operations have a seed of
 * their own, so any subset of its operations can be done again; that is how a
 * failing one is shrunk.  Half of the episodes run beside threads that do to the
 * same regions what must not change any content.
 *
 * Beside the workers, some processes with some threads share two regions.  There
 * each writer has a word of its own in each page, which it counts up from the
 * first page to the last: it must find what it wrote, and every clone, copy or
 * restored region must be a cut through what all of them write.
 */
#include <pthread.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/mount.h>
#include <sys/statfs.h>
#include <sys/syscall.h>

#include "../kselftest.h"
#include "common.h"
#include "areas.h"
#include "files.h"

enum {
	REGIONS = 6,
	LEAF_PAGES = 72,	/* that a region has: a leaf and a bit */
	MAPS = 12,		/* the last PRIVATE of them are private */
	PRIVATE = 4,
	PIPES = 3,
	PIPE_PAGES = 12,	/* at most in a pipe: it takes 16 */
	VERSIONS = 6,
	OPS = 250,		/* of an episode */
	DISTURBERS = 2,
	WORKERS = 2,
	SHARERS = 2,		/* processes */
	SHARER_THREADS = 2,	/* of each of them */
	NAMES = 4,		/* that files of the mount may have */
};

/* Pages that it has where some are to be huge, and what is more than these anywhere */
#define MOST_PAGES (AREA + 88)
#define ROOM (8192 + 88)

#define MAX (window * pgsz())

/*
 * A region as it should be.  All of its content lies in a window of some pages
 * from @base on, so that regions reach across all levels of the tree.
 */
struct model {
	bool used;
	int fd;			/* -1: only mappings are left */
	uint32_t flags;		/* COWMEM_CLONE_SNAPSHOT, or that and more, or 0 */
	uint32_t seals;
	bool regular;		/* @fd is a regular file, not one of the device */
	bool mounted;		/* it is a file of the mount */
	bool lost;		/* it has lost its last name, and gets no more */
	uint64_t base, size;	/* in bytes */
	char *want;		/* MAX bytes, zeroes past the end */
};

struct map {
	struct model *m;	/* NULL: none here */
	char *addr;		/* always the same; PROT_NONE if there is none */
	uint64_t off;		/* first page, from the window's start */
	uint64_t pages;
	bool private, writable, maywrite, regular;
	bool own[ROOM];		/* private pages that were written ... */
	char *mine;		/* ... and what they hold */
};

/* Pages on their way through a pipe, and what they may hold. */
struct inflight {
	struct model *m;	/* NULL: nothing in there, or nobody to tell */
	int fd[2];
	uint64_t at, n;		/* in the window, in bytes; n is 0 if empty */
	unsigned int versions;
	bool any;		/* too many versions to keep */
	char *was[VERSIONS];
};

/* Counters, and where everybody is; shared by all processes. */
struct progress {
	uint64_t ops, episodes, checks, kills, cuts, rounds, yields, huge;
	uint64_t by_op[64];
	uint64_t episode[WORKERS];
	int failures, stop;
};

static struct progress *progress;
static struct model models[REGIONS];
static struct map maps[MAPS];
static struct inflight pipes[PIPES];
static struct model *names[NAMES];	/* which file of the mount has it, or NULL */
static struct cowmem_merge_entry table[256];
static char *buf, *buf2;
static int direct = -1;
static bool disturbed, verbose, can_huge;
static uint64_t window;		/* pages of each region */
static char done[300];
static uint64_t episode_base;
static int step;

#define SAY(...) snprintf(done, sizeof(done), __VA_ARGS__)
#define ULL(x) ((unsigned long long)(x))

/* This is wrong: say so, and end the episode. */
#define WRONG(...) do {							\
	dprintf(2, "# WRONG at step %d (%s): ", step, done);		\
	dprintf(2, __VA_ARGS__);					\
	dprintf(2, " [%s:%d]\n", __func__, __LINE__);			\
	_exit(1);							\
} while (0)

#define NEED(cond) do {							\
	if (!(cond))							\
		WRONG("needed: %s: %s", #cond, strerror(errno));	\
} while (0)

static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15ULL;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
	x ^= x >> 31;
	return x + !x;
}

static void count(uint64_t *n)
{
	__atomic_add_fetch(n, 1, __ATOMIC_RELAXED);
}

/* ---- the forest ---- */

static int nr(const struct model *m)
{
	return m - models;
}

static bool writable(const struct model *m)
{
	return !m->flags && !(m->seals & COWMEM_SEAL_WRITE);
}

/* How much of the window is before the end of the region, in bytes. */
static uint64_t inside(const struct model *m)
{
	return m->size <= m->base ? 0 : m->size - m->base;
}

static uint64_t round_up(uint64_t x)
{
	return (x + pgsz() - 1) / pgsz() * pgsz();
}

static char *map_page(const struct map *p, uint64_t i)
{
	return p->own[i] ? p->mine + i * pgsz() :
			   p->m->want + (p->off + i) * pgsz();
}

/* A region's content is about to change: a pipe that has pages of it may show both. */
static void changing(struct model *m)
{
	unsigned int i;

	for (i = 0; i < PIPES; i++) {
		struct inflight *f = &pipes[i];

		if (f->m != m || !f->n || f->any)
			continue;
		if (!memcmp(f->was[f->versions - 1], m->want + f->at, f->n))
			continue;
		if (f->versions == VERSIONS)
			f->any = true;
		else
			memcpy(f->was[f->versions++], m->want + f->at, f->n);
	}
}

/* The same after the last change, for readers of the pipe. */
#define changed changing

static void map_forget(struct map *p)
{
	void *mem = mmap(p->addr, MAX, PROT_NONE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE,
			 -1, 0);

	NEED(mem == p->addr);
	p->m = NULL;
}

/* A mount of this episode's own, or NULL if there can be none. */
static const char *mount_dir(void)
{
	const char *name = "/tmp/torture_mount";
	static const char *dir;
	static bool tried;

	if (tried)
		return dir;
	tried = true;
	if ((!mkdir(name, 0700) || errno == EEXIST) && !unshare(CLONE_NEWNS) &&
	    !mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) &&
	    !mount("cowmem", name, "cowmem", 0, "size=0"))
		dir = name;
	return dir;
}

static const char *name_path(unsigned int i)
{
	static char path[NAMES][64];

	snprintf(path[i], sizeof(path[i]), "%s/%u", mount_dir(), i);
	return path[i];
}

static void unname(unsigned int i)
{
	struct model *m = names[i];
	unsigned int k;

	names[i] = NULL;
	for (k = 0; k < NAMES && names[k] != m; k++)
		;
	m->lost = k == NAMES;
}

/* Without descriptor and mapping a region is gone from here, and goes for good. */
static void maybe_gone(struct model *m)
{
	unsigned int i;

	if (m->fd >= 0)
		return;
	for (i = 0; i < MAPS; i++)
		if (maps[i].m == m)
			return;
	for (i = 0; i < PIPES; i++)
		if (pipes[i].m == m) {
			changed(m);
			pipes[i].m = NULL;
		}
	for (i = 0; i < NAMES; i++)
		if (names[i] == m) {
			NEED(!unlink(name_path(i)));
			unname(i);
		}
	m->used = false;
}

static void drop(struct model *m)
{
	unsigned int i;
	int fd = m->fd;

	for (i = 0; i < MAPS; i++)
		if (maps[i].m == m)
			map_forget(&maps[i]);
	m->fd = -1;
	if (fd >= 0)
		close(fd);
	maybe_gone(m);
}

static struct model *place(void)
{
	unsigned int i;

	for (i = 0; i < REGIONS; i++)
		if (!models[i].used)
			return &models[i];
	i = below(REGIONS);
	drop(&models[i]);
	return &models[i];
}

static void plant(struct model *m, int fd, uint32_t flags, uint64_t base,
		  uint64_t size, const char *want)
{
	m->fd = fd;
	m->flags = flags;
	m->seals = 0;
	m->regular = true;
	m->mounted = false;
	m->lost = false;
	m->base = base;
	m->size = size;
	memset(m->want, 0, MAX);
	if (want)
		memcpy(m->want, want, inside(m));
	m->used = true;
}

/* Any region that has a descriptor, or NULL. */
static struct model *any(void)
{
	unsigned int i = below(REGIONS), n;

	for (n = 0; n < REGIONS; n++, i = (i + 1) % REGIONS)
		if (models[i].used && models[i].fd >= 0)
			return &models[i];
	return NULL;
}

static struct map *any_map(void)
{
	unsigned int i = below(MAPS), n;

	for (n = 0; n < MAPS; n++, i = (i + 1) % MAPS)
		if (maps[i].m)
			return &maps[i];
	return NULL;
}

/* As any_range(), in pages, of the first @pages. */
static bool any_pages(uint64_t pages, uint64_t *first, uint64_t *n)
{
	*first = *n = 0;
	if (!pages)
		return false;
	*first = below(pages);
	*n = 1 + below(below(4) ? 4 : pages);
	if (*n > pages - *first)
		*n = pages - *first;
	return true;
}

/* Something to write: often what others write, too, so that pages are equal. */
static void any_bytes(char *mem, size_t n)
{
	size_t i;

	if (below(3)) {
		memset(mem, below(4), n);
		return;
	}
	for (i = 0; i + 8 <= n; i += 8) {
		uint64_t x = rng();

		memcpy(mem + i, &x, 8);
	}
	for (; i < n; i++)
		mem[i] = rng();
}

/* ---- is it so? ---- */

static void same(const struct model *m, uint64_t page, const char *got,
		 const char *want, size_t n, const char *how)
{
	size_t i;

	count(&progress->checks);
	if (!memcmp(got, want, n))
		return;
	for (i = 0; i < n && got[i] == want[i]; i++)
		;
	if (i == n)
		WRONG("%s of region %d: differed a moment ago", how, nr(m));
	WRONG("%s of region %d: page %llu byte %#zx is %02x, not %02x", how,
	      nr(m), ULL(page + i / pgsz()), i % pgsz(), got[i] & 255,
	      want[i] & 255);
}

static void check_map(const struct map *p)
{
	const struct model *m = p->m;
	uint64_t i;

	for (i = 0; i < p->pages; i++) {
		if ((p->off + i) * pgsz() >= round_up(inside(m)))
			break;
		same(m, p->off + i, p->addr + i * pgsz(), map_page(p, i), pgsz(),
		     p->private ? "a private mapping" : "a mapping");
	}
	if (i < p->pages) {
		uint64_t at = (p->pages - 1) * pgsz();

		if (access_byte(p->addr + at, true, false, 0) != SIGBUS)
			WRONG("region %d: no SIGBUS past the end", nr(m));
	}
	i = below(p->pages);
	if (!p->writable && poke(p->addr + i * pgsz(), 1) != SIGSEGV)
		WRONG("region %d: no SIGSEGV at a read-only page", nr(m));
}

static void check_stat(const struct model *m, uint64_t pages)
{
	struct stat st;

	NEED(!fstat(m->fd, &st));
	if (!m->regular) {
		NEED(S_ISCHR(st.st_mode));
		return;
	}
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != m->size)
		WRONG("region %d: mode %o, size %llu, not %llu", nr(m),
		      st.st_mode, ULL(st.st_size), ULL(m->size));
	if (!disturbed && st.st_blocks * 512ULL != pages * pgsz())
		WRONG("region %d: %llu blocks for %llu pages", nr(m),
		      ULL(st.st_blocks), ULL(pages));
}

/* The most pages that the window of @m may take: an area gets memory as a whole. */
static uint64_t most_pages(const struct model *m)
{
	uint64_t first = m->base / pgsz(), end = first + window;

	if (window <= LEAF_PAGES)
		return window;
	return (end + AREA - 1) / AREA * AREA - first / AREA * AREA;
}

static void check_fd(const struct model *m)
{
	struct cowmem_info i = info(m->fd);

	if (i.size != m->size)
		WRONG("region %d: size %llu, not %llu", nr(m), ULL(i.size),
		      ULL(m->size));
	if (i.pages_populated > most_pages(m) ||
	    (!disturbed && i.pages_populated != i.pages_exclusive + i.pages_shared))
		WRONG("region %d: %llu populated, %llu exclusive, %llu shared",
		      nr(m), ULL(i.pages_populated), ULL(i.pages_exclusive),
		      ULL(i.pages_shared));
	if (i.pages_huge)
		count(&progress->huge);
	if (i.seals != (m->flags ? 15 : m->seals))
		WRONG("region %d: seals %x, not %x", nr(m), i.seals, m->seals);
	check_stat(m, i.pages_populated);
	if (pread(m->fd, buf2, MAX, m->base) != (ssize_t)inside(m))
		WRONG("region %d: short read", nr(m));
	same(m, 0, buf2, m->want, inside(m), "read()");
}

static void check(struct model *m)
{
	unsigned int i;

	if (!m->used)
		return;
	if (m->fd >= 0)
		check_fd(m);
	for (i = 0; i < MAPS; i++)
		if (maps[i].m == m)
			check_map(&maps[i]);
}

static void check_all(void)
{
	unsigned int i;

	for (i = 0; i < REGIONS; i++)
		check(&models[i]);
}

/* ---- what can be done ---- */

/* Is what a call said what it should say?  Returns whether it was done. */
static bool as_expected(const char *what, int ret, int err)
{
	if (ret ? errno != err : err)
		WRONG("%s: %s, not %s", what, strerror(ret ? errno : 0),
		      strerror(err));
	return !ret;
}

/* A new descriptor of a region, with a name or without; -1 with errno. */
static int new_file(int fd, uint32_t flags)
{
	return do_file(fd, flags, below(2) ? "torture" : NULL);
}

static int reopen(int fd, int flags)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, flags | O_CLOEXEC);
}

/* A descriptor that is a regular file for sure, as @m's own is open; or -1. */
static int regular(const struct model *m)
{
	int fd;

	if (m->regular)
		fd = fcntl(m->fd, F_DUPFD_CLOEXEC, 0);
	else
		fd = new_file(m->fd, writable(m) ? 0 : COWMEM_FILE_RDONLY);
	NEED(fd >= 0);
	return fd;
}

/* From now on @m is used by another descriptor. */
static void use_fd(struct model *m, int fd)
{
	int old = m->fd;

	m->fd = fd;
	m->regular = true;
	close(old);
}

static void op_open(void)
{
	struct model *m = place();

	SAY("open %d", nr(m));
	plant(m, region(), 0, episode_base, 0, NULL);
	m->regular = false;
}

/* A file of the mount, with a name or without. */
static void op_create(void)
{
	unsigned int i = below(NAMES);
	bool name = below(3);
	struct model *m;
	int fd;

	if (!mount_dir() || (name && names[i]))
		return;
	m = place();
	SAY("create %d%s", nr(m), name ? " by name" : "");
	if (name)
		fd = open(name_path(i), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	else
		fd = open(mount_dir(), O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
	NEED(fd >= 0);
	plant(m, fd, 0, episode_base, 0, NULL);
	m->mounted = true;
	if (name)
		names[i] = m;
}

static void name_again(struct model *m, unsigned int i)
{
	char path[64];
	int ret;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", m->fd);
	SAY("link %d to %u", nr(m), i);
	ret = linkat(AT_FDCWD, path, AT_FDCWD, name_path(i), AT_SYMLINK_FOLLOW);
	if (as_expected("link", ret, names[i] ? EEXIST : m->lost ? ENOENT : 0))
		names[i] = m;
}

/* Two names of one file stay as they are. */
static void rename_one(unsigned int i, unsigned int to, bool exchange)
{
	struct model *m = names[i], *other = names[to];
	int ret;

	SAY("%s %u to %u", exchange ? "exchange" : "rename", i, to);
	ret = syscall(SYS_renameat2, AT_FDCWD, name_path(i), AT_FDCWD, name_path(to),
		      exchange ? 2 : 0);
	if (!as_expected("rename", ret, !m || (exchange && !other) ? ENOENT : 0) || m == other)
		return;
	names[to] = m;
	names[i] = exchange ? other : NULL;
	if (other && !exchange) {
		/* It has lost this name, if it has others. */
		names[i] = other;
		unname(i);
	}
}

static void open_by_name(struct model *m, unsigned int i)
{
	int fd;

	SAY("open %d by its name %u", nr(m), i);
	fd = open(name_path(i), O_CLOEXEC | (m->flags ? O_RDONLY : O_RDWR));
	if (!as_expected("open by name", fd < 0 ? -1 : 0, m->flags || writable(m) ? 0 : EPERM))
		return;
	if (m->fd >= 0)
		close(m->fd);
	m->fd = fd;
	m->regular = true;
	check(m);
}

/* The limits change, and all that is there stays. */
static void remount(void)
{
	struct statfs fs;

	SAY("remount");
	NEED(!mount(NULL, mount_dir(), NULL, MS_REMOUNT, sized("size=1g,nr_inodes=1000")));
	NEED(!statfs(mount_dir(), &fs));
	if (fs.f_blocks != 1024 * MIB_PAGES || fs.f_files != 1000)
		WRONG("the mount has %llu blocks", ULL(fs.f_blocks));
	NEED(!mount(NULL, mount_dir(), NULL, MS_REMOUNT, "size=0,nr_inodes=0"));
	check_all();
}

/* Something is done to the names on the mount, as content does not care. */
static void op_names(void)
{
	unsigned int i = below(NAMES), to = (i + below(NAMES)) % NAMES, what = below(8);
	struct model *m = any();

	if (!mount_dir())
		return;
	switch (what) {
	case 0:
	case 1:
		if (m && m->mounted)
			name_again(m, i);
		break;
	case 2:
	case 3:
		rename_one(i, to, what == 2);
		break;
	case 4:
		if (!names[i])
			break;
		SAY("unlink %u", i);
		NEED(!unlink(name_path(i)));
		unname(i);
		break;
	case 5:
		remount();
		break;
	default:
		if (names[i])
			open_by_name(names[i], i);
	}
	if (m && m->used)
		check(m);
}

static void op_close(void)
{
	struct model *m = any();
	int fd;

	if (!m)
		return;
	if (!below(2)) {
		SAY("drop %d", nr(m));
		drop(m);
		return;
	}
	SAY("close %d", nr(m));
	fd = m->fd;
	m->fd = -1;
	close(fd);
	maybe_gone(m);
}

static void op_dup(void)
{
	struct model *m = any();
	int fd;

	if (!m)
		return;
	SAY("dup %d", nr(m));
	fd = m->fd;
	m->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	NEED(m->fd >= 0);
	close(fd);
}

#define EXPENDABLE (COWMEM_CLONE_SNAPSHOT | COWMEM_CLONE_EXPENDABLE)

static uint32_t clone_flags(void)
{
	return below(3) ? 0 : below(2) ? COWMEM_CLONE_SNAPSHOT : EXPENDABLE;
}

static void op_clone(void)
{
	struct model *m = any(), *to;
	uint32_t flags = clone_flags();
	bool mounted = m && m->mounted;
	uint64_t first = 0, n = 0, base, size;
	char *want;
	int fd;

	if (!m)
		return;
	want = calloc(1, MAX);
	base = m->base;
	size = m->size;
	memcpy(want, m->want, inside(m));
	switch (below(4)) {
	case 0:		/* a part of the window */
		if (!any_pages(inside(m) / pgsz(), &first, &n))
			break;
		memmove(want, want + first * pgsz(), n * pgsz());
		first = first * pgsz() + m->base;
		n *= pgsz();
		base = 0;
		size = n;
		break;
	case 1:		/* from before the window to its end */
		if (!base || !inside(m))
			break;
		first = below(base / pgsz()) * pgsz();
		if (below(2))
			first -= first % (64 * pgsz());
		base -= first;
		size -= first;
		break;
	}
	SAY("%s %d: %llu bytes from %#llx", flags ? "snapshot" : "clone", nr(m),
	    ULL(n), ULL(first));
	if (!n && first && m->size % pgsz()) {
		/* Up to an end that is not a page's. */
		base += first;
		size += first;
		first = 0;
	}
	fd = do_clone(m->fd, flags, first, n);
	NEED(fd >= 0);
	to = place();
	plant(to, fd, flags, base, size, want);
	to->mounted = mounted;
	free(want);
	check_fd(to);
}

static void op_clone_many(void)
{
	uint32_t flags = clone_flags();
	unsigned int n = 1 + below(3), i;
	int fds[3], clones[3] = { -1, -1, -1 };
	struct model from[3];

	for (i = 0; i < n; i++) {
		struct model *m = any();

		if (!m)
			return;
		fds[i] = m->fd;
		from[i] = *m;
		from[i].want = malloc(MAX);
		memcpy(from[i].want, m->want, MAX);
	}
	SAY("clone_many of %u", n);
	NEED(!do_clone_many(fds[0], fds, clones, n, flags));
	for (i = 0; i < n; i++) {
		struct model *to = place();

		plant(to, clones[i], flags, from[i].base, from[i].size, from[i].want);
		to->mounted = from[i].mounted;
		free(from[i].want);
	}
}

/* What resizing makes of the model. */
static void resized(struct model *m, uint64_t size)
{
	uint64_t was = inside(m), is;
	unsigned int i;

	changing(m);
	m->size = size;
	is = inside(m);
	if (is < was) {
		memset(m->want + is, 0, was - is);
		/* Private copies past the end are gone as well. */
		for (i = 0; i < MAPS; i++) {
			struct map *p = &maps[i];
			uint64_t k;

			for (k = 0; p->m == m && k < p->pages; k++)
				if ((p->off + k) * pgsz() >= round_up(is))
					p->own[k] = false;
		}
	}
	changed(m);
}

/* Should the size be changed? Returns whether it was. */
static bool resize_to(struct model *m, uint64_t size)
{
	int err = m->flags ? EBADF :
		  size > m->size && (m->seals & COWMEM_SEAL_GROW) ? EPERM :
		  size < m->size && (m->seals & COWMEM_SEAL_SHRINK) ? EPERM : 0;
	bool truncate = m->regular && below(2);
	int ret = truncate ? ftruncate(m->fd, size) : do_resize(m->fd, size);

	/* Of a descriptor that is open for reading. */
	if (truncate && m->flags)
		err = EINVAL;
	if (!as_expected(truncate ? "ftruncate" : "RESIZE", ret, err))
		return false;
	resized(m, size);
	return true;
}

static void op_resize(void)
{
	struct model *m = any(), *other = any();
	uint64_t size;

	if (!m)
		return;
	switch (below(5)) {
	case 0:
		size = below(2) ? 0 : below(m->base + 1);
		break;
	case 1:
		size = m->base + below(window + 1) * pgsz();
		break;
	case 2:
		size = m->base + inside(other);
		break;
	case 3:
		size = m->base + 64 * pgsz();
		break;
	default:
		size = m->base + below(MAX + 1);
	}
	SAY("resize %d from %#llx to %#llx", nr(m), ULL(m->size), ULL(size));
	resize_to(m, size);
	check(m);
}

/* What RESTORE must say, for a region and where from. */
static int restore_err(const struct model *m, const struct model *from,
		       uint32_t flags)
{
	if (m->flags)
		return EBADF;
	if (!writable(m))
		return EPERM;
	if (m->size != from->size && !(flags & COWMEM_RESTORE_SIZE))
		return EINVAL;
	if ((m->size < from->size && (m->seals & COWMEM_SEAL_GROW)) ||
	    (m->size > from->size && (m->seals & COWMEM_SEAL_SHRINK)))
		return EPERM;
	return 0;
}

static void restore(struct model *m, struct model *from, uint32_t flags)
{
	struct cowmem_restore arg = { .fd = from->fd, .flags = flags };
	int ret = ioctl(m->fd, COWMEM_IOC_RESTORE, &arg);

	if (!as_expected("RESTORE", ret, restore_err(m, from, flags)))
		return;
	if (flags & COWMEM_RESTORE_SIZE)
		resized(m, from->size);
	changing(m);
	memcpy(m->want, from->want, MAX);
	changed(m);
}

static void restore_range(struct model *m, struct model *from, uint32_t flags)
{
	struct cowmem_restore arg = { .fd = from->fd, .flags = flags };
	uint64_t first, n;
	int ret, err;

	if (!any_pages(window, &first, &n))
		return;
	/* As most calls do, it fits. */
	if (below(8) && !any_pages((inside(m) < inside(from) ? inside(m) :
				    inside(from)) / pgsz(), &first, &n))
		return;
	SAY("restore %llu pages of %d from %llu on from %d", ULL(n), nr(m),
	    ULL(first), nr(from));
	arg.offset = m->base + first * pgsz();
	arg.length = n * pgsz();
	if (!below(8)) {
		arg.length += arg.offset;
		arg.offset = 0;
	}
	ret = ioctl(m->fd, COWMEM_IOC_RESTORE, &arg);
	if (m->flags)
		err = EBADF;
	else if ((first + n) * pgsz() > inside(m) ||
		 (first + n) * pgsz() > inside(from))
		err = EINVAL;
	else
		err = writable(m) ? 0 : EPERM;
	/* If there are two reasons, which of them it is, is not said. */
	if (ret && errno == EPERM && !writable(m))
		err = EPERM;
	/* To itself it changes nothing, wherever the range is. */
	if (!ret && m == from)
		return;
	if (!as_expected("RESTORE of a range", ret, err))
		return;
	if (!arg.offset) {
		n += first;
		first = 0;
	}
	changing(m);
	memcpy(m->want + first * pgsz(), from->want + first * pgsz(), n * pgsz());
	changed(m);
}

static void op_restore(void)
{
	struct model *m = any(), *from = any();
	uint32_t flags = below(2) ? COWMEM_RESTORE_KEEP : 0;

	if (!m || m->base != from->base)
		return;
	if (!below(3)) {
		restore_range(m, from, flags);
		check(m);
		return;
	}
	if (below(2))
		flags |= COWMEM_RESTORE_SIZE;
	SAY("restore %d from %d, flags %u", nr(m), nr(from), flags);
	if (!(flags & COWMEM_RESTORE_SIZE) && !m->flags && below(8))
		resize_to(m, from->size);
	restore(m, from, flags);
	check(m);
}

static struct map *map_of(struct model *m)
{
	unsigned int i;

	for (i = 0; i < MAPS - PRIVATE; i++)
		if (maps[i].m == m)
			return &maps[i];
	return NULL;
}

/* A few rounds of the same, as KEEP is made for. */
static void op_keep(void)
{
	struct model *m = any(), *from = NULL;
	int round, rounds = 1 + below(below(4) ? 4 : 40), i;
	uint64_t hot = rng();
	struct map *p;

	for (i = 0; i < REGIONS; i++)
		if (models[i].used && models[i].fd >= 0 && models[i].flags)
			from = &models[i];
	if (!m || !from || !writable(m) || m->base != from->base)
		return;
	p = map_of(m);
	if (!p || !p->writable)
		return;
	SAY("keep %d from %d, %d rounds", nr(m), nr(from), rounds);
	if (!resize_to(m, from->size))
		return;
	for (round = 0; round < rounds; round++) {
		for (i = below(6); i; i--) {
			uint64_t page = (hot + below(6)) % p->pages;

			if ((p->off + page + 1) * pgsz() <= inside(m))
				p->addr[page * pgsz() + below(pgsz())] = rng();
		}
		restore(m, from, COWMEM_RESTORE_KEEP);
		/* The next round would hide it. */
		check_map(p);
	}
	/* A reader of a pipe may have seen any of it. */
	for (i = 0; i < PIPES; i++)
		if (pipes[i].m == m)
			pipes[i].any = true;
}

static void op_copy(void)
{
	struct model *m = any(), *from = any();
	uint64_t src = below(window), dst = below(window);
	uint64_t n = 1 + below(below(4) ? 5 : window);
	struct cowmem_copy arg = { 0 };
	int ret, err;

	if (!m)
		return;
	if (below(8)) {
		/* As most calls do, it fits. */
		src = below(inside(from) / pgsz() + 1);
		dst = below(3) ? src : below(inside(m) / pgsz() + 1);
		if (n > inside(from) / pgsz() - src)
			n = inside(from) / pgsz() - src;
		if (dst > inside(m) / pgsz())
			dst = 0;
		if (n > inside(m) / pgsz() - dst)
			n = inside(m) / pgsz() - dst;
	}
	SAY("copy %d from %d: %llu pages from %llu to %llu", nr(m), nr(from),
	    ULL(n), ULL(src), ULL(dst));
	arg.fd = from->fd;
	arg.src_offset = from->base + src * pgsz();
	arg.dst_offset = m->base + dst * pgsz();
	arg.length = n * pgsz();
	ret = ioctl(m->fd, COWMEM_IOC_COPY, &arg);
	err = m->flags ? EBADF : !n || arg.src_offset + arg.length > from->size ||
	      arg.dst_offset + arg.length > m->size ? EINVAL :
	      !writable(m) ? EPERM : 0;
	/* Which of several errors it is, is not said. */
	if (!ret != !err || (ret && errno != err && !m->flags))
		WRONG("COPY: %s, not %s", strerror(ret ? errno : 0),
		      strerror(err));
	if (!ret) {
		changing(m);
		memmove(m->want + dst * pgsz(), from->want + src * pgsz(),
			n * pgsz());
		changed(m);
	}
	check(m);
}

/* ---- as a file ---- */

/* What nobody can do through a descriptor that is only to be read. */
static void check_reader(const struct model *m, int fd, bool view)
{
	int other, err = view ? EACCES : writable(m) ? 0 : EPERM;
	char *mem;

	NEED(write(fd, buf, 1) == -1 && errno == EBADF);
	NEED(ftruncate(fd, 0) == -1 && errno == EINVAL);
	NEED(pread(fd, buf2, MAX, m->base) == (ssize_t)inside(m));
	same(m, 0, buf2, m->want, inside(m), "a reader's read()");
	other = reopen(fd, O_RDWR);
	as_expected("reopening for writing", other < 0 ? -1 : 0, err);
	if (other >= 0)
		close(other);
	/* KEEP does nothing any more once there was such a mapping. */
	if (below(4))
		return;
	NEED(mmap(NULL, MAX, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
		  m->base) == MAP_FAILED && errno == EACCES);
	mem = mmap(NULL, MAX, PROT_READ, MAP_SHARED, fd, m->base);
	NEED(mem != MAP_FAILED);
	NEED(mprotect(mem, MAX, PROT_READ | PROT_WRITE) == -1 &&
	     errno == EACCES);
	same(m, 0, mem, m->want, round_up(inside(m)), "a reader's mapping");
	munmap(mem, MAX);
}

/* Another descriptor, by COWMEM_IOC_FILE or through /proc. */
static void op_file(void)
{
	struct model *m = any();
	unsigned int what = below(6);
	int fd;

	if (!m)
		return;
	SAY("file %d: %u", nr(m), what);
	switch (what) {
	case 0:
	case 1:
		fd = new_file(m->fd, window > AREA && below(2) ? COWMEM_FILE_HUGE : 0);
		if (as_expected("FILE", fd < 0 ? -1 : 0, m->flags ? EBADF :
				writable(m) ? 0 : EPERM))
			use_fd(m, fd);
		break;
	case 2:
	case 3:
		fd = new_file(m->fd, what == 2 ? COWMEM_FILE_RDONLY :
						COWMEM_FILE_VIEW);
		NEED(fd >= 0);
		check_reader(m, fd, what == 3);
		/* No worse than a snapshot's own. */
		if (m->flags && what == 2)
			use_fd(m, fd);
		else
			close(fd);
		break;
	default:
		if (!m->regular)
			break;
		fd = reopen(m->fd, m->flags && below(2) ? O_RDONLY : O_RDWR);
		if (fd < 0)
			NEED(errno == EPERM && !writable(m));
		else
			use_fd(m, fd);
	}
	check(m);
}

/* What fallocate() must say. */
static int fallocate_err(const struct model *m, int mode, uint64_t end)
{
	if (m->flags)
		return EBADF;
	if (!writable(m))
		return EPERM;
	/* As a memfd does, even if the size is to stay. */
	if (!(mode & FALLOC_FL_PUNCH_HOLE) && end > m->size &&
	    (m->seals & COWMEM_SEAL_GROW))
		return EPERM;
	return 0;
}

static void op_fallocate(void)
{
	static const int modes[] = {
		0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE,
		FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
		FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		FALLOC_FL_UNSHARE_RANGE, FALLOC_FL_UNSHARE_RANGE | FALLOC_FL_KEEP_SIZE,
	};
	struct model *m = any();
	int mode = modes[below(ARRAY_SIZE(modes))], fd, ret, err;
	uint64_t at, n;

	if (!m || !any_range(below(4) ? inside(m) : MAX, &at, &n))
		return;
	SAY("fallocate %d: mode %#x, %#llx bytes at %#llx", nr(m), mode, ULL(n),
	    ULL(at));
	if (!m->regular && (m->flags || !writable(m)))
		return;
	fd = regular(m);
	ret = fallocate(fd, mode, m->base + at, n);
	err = fallocate_err(m, mode, m->base + at + n);
	if (ret && errno == EOPNOTSUPP && mode == FALLOC_FL_UNSHARE_RANGE)
		err = EOPNOTSUPP;
	close(fd);
	if (!as_expected("fallocate", ret, err))
		return;
	changing(m);
	if (mode & (FALLOC_FL_ZERO_RANGE | FALLOC_FL_PUNCH_HOLE))
		memset(m->want + at, 0, n);
	changed(m);
	if (!(mode & FALLOC_FL_KEEP_SIZE) && m->base + at + n > m->size)
		resized(m, m->base + at + n);
	check(m);
}

/* A range of bytes appears elsewhere, where the region may grow for it. */
static void moved(struct model *m, uint64_t dst, const struct model *from,
		  uint64_t src, uint64_t n)
{
	if (m->base + dst + n > m->size)
		resized(m, m->base + dst + n);
	changing(m);
	memmove(m->want + dst, from->want + src, n);
	changed(m);
}

/* Pages, or bytes up to the source's end, that mostly fit. */
static bool any_reflink(const struct model *m, const struct model *from,
			uint64_t *src, uint64_t *dst, uint64_t *n)
{
	uint64_t pages;

	if (m->mounted != from->mounted ||
	    !any_pages(round_up(inside(from)) / pgsz(), src, &pages))
		return false;
	*dst = below(2) ? *src : below(window);
	if (pages > window - *dst)
		pages = window - *dst;
	*src *= pgsz();
	*dst *= pgsz();
	*n = pages * pgsz();
	/* Not only what can be done. */
	if (*n > inside(from) - *src && below(8))
		*n = inside(from) - *src;
	return true;
}

static int reflink_err(const struct model *m, uint64_t dst,
		       const struct model *from, uint64_t src, uint64_t n)
{
	uint64_t s = from->base + src, d = m->base + dst;

	if (m->flags)
		return EBADF;
	if (s + n > from->size)
		return EINVAL;
	if (n % pgsz() && !(s + n == from->size && d + n >= m->size))
		return EINVAL;
	if (m == from && s < d + n && d < s + n)
		return EINVAL;
	if (!writable(m) || (d + n > m->size && (m->seals & COWMEM_SEAL_GROW)))
		return EPERM;
	return 0;
}

static void op_reflink(void)
{
	struct model *m = any(), *from = any();
	bool whole = !below(4);
	uint64_t src, dst, n;
	int to, fd, ret;

	if (!m || (!m->regular && !writable(m)))
		return;
	if (whole && (m->base != from->base || !inside(from)))
		return;
	if (!any_reflink(m, from, &src, &dst, &n))
		return;
	if (whole) {
		src = dst = 0;
		n = inside(from);
	}
	SAY("reflink %d from %d: %#llx bytes from %#llx to %#llx%s", nr(m),
	    nr(from), ULL(n), ULL(src), ULL(dst), whole ? ", whole" : "");
	to = regular(m);
	fd = regular(from);
	if (whole) {
		ret = ioctl(to, FICLONE, fd);
	} else {
		struct file_clone_range arg = {
			.src_fd = fd, .src_offset = from->base + src,
			.src_length = n, .dest_offset = m->base + dst,
		};

		ret = ioctl(to, FICLONERANGE, &arg);
	}
	close(fd);
	close(to);
	if (as_expected("FICLONE", ret, reflink_err(m, dst, from, src, n)))
		moved(m, dst, from, src, n);
	check(m);
}

static void op_dedupe(void)
{
	struct {
		struct file_dedupe_range range;
		struct file_dedupe_range_info info;
	} arg = { .range.dest_count = 1 };
	struct model *m = any(), *from = any();
	uint64_t src, dst, n;
	bool may_be_busy = disturbed, equal;
	unsigned int i;
	int fd, status;

	if (!m || !any_reflink(m, from, &src, &dst, &n) || !n ||
	    n > inside(from) - src)
		return;
	SAY("dedupe %d and %d: %#llx bytes at %#llx and %#llx", nr(m), nr(from),
	    ULL(n), ULL(dst), ULL(src));
	arg.range.src_offset = from->base + src;
	arg.range.src_length = n;
	arg.info.dest_fd = regular(m);
	arg.info.dest_offset = m->base + dst;
	fd = regular(from);
	NEED(!ioctl(fd, FIDEDUPERANGE, &arg));
	close(fd);
	close(arg.info.dest_fd);
	for (i = 0; i < PIPES; i++)
		may_be_busy = may_be_busy || pipes[i].n;
	status = arg.info.status;
	equal = !memcmp(m->want + dst, from->want + src, n);
	if (dst + n > inside(m))
		NEED(status == -EINVAL);
	else if (n % pgsz() && m->base + dst + n < m->size)
		/* It is cut short, to pages that are whole. */
		NEED(status == FILE_DEDUPE_RANGE_SAME || status == -EINVAL ||
		     status == -EPERM || (may_be_busy && status == -EBUSY) ||
		     (!equal && status == FILE_DEDUPE_RANGE_DIFFERS));
	else if (m == from && from->base + src < m->base + dst + n &&
		 m->base + dst < from->base + src + n)
		NEED(status == -EINVAL);
	else if (may_be_busy && status == -EBUSY)
		;
	else if (!equal)
		NEED(status == FILE_DEDUPE_RANGE_DIFFERS);
	else
		NEED(status == (writable(m) ? FILE_DEDUPE_RANGE_SAME : -EPERM));
	check(m);
	check(from);
}

static void op_copy_file_range(void)
{
	struct model *m = any(), *from = any();
	loff_t src, dst;
	uint64_t at, n, to, room, want;
	ssize_t ret;
	int in, out, err = 0;

	if (!m || !any_range(inside(from), &at, &n) ||
	    !any_range(MAX, &to, &room) || (!m->regular && !writable(m)) ||
	    m->mounted != from->mounted)
		return;
	if (n > MAX - to)
		n = MAX - to;
	SAY("copy_file_range %d to %d: %#llx bytes from %#llx to %#llx",
	    nr(from), nr(m), ULL(n), ULL(at), ULL(to));
	src = from->base + at;
	dst = m->base + to;
	in = regular(from);
	out = regular(m);
	want = n;
	if (m->flags)
		err = EBADF;
	else if (m == from && src < dst + (loff_t)n && dst < src + (loff_t)n)
		err = EINVAL;
	else if (!writable(m))
		err = EPERM;
	else if ((m->seals & COWMEM_SEAL_GROW) && dst + n > m->size) {
		if ((uint64_t)dst >= m->size)
			err = EPERM;
		else
			want = m->size - dst;
	}
	ret = copy_file_range(in, &src, out, &dst, n, 0);
	close(in);
	close(out);
	if (!as_expected("copy_file_range", ret < 0 ? -1 : 0, err)) {
		check(m);
		return;
	}
	/* It may be cut short. */
	if (!ret || (uint64_t)ret > want)
		WRONG("copy_file_range: %zd, not %llu", ret, ULL(want));
	moved(m, to, from, at, ret);
	check(m);
}

static void op_discard(void)
{
	struct model *m = any();
	uint64_t at, n, before = 0;
	int ret;

	if (!m || !any_range(inside(m), &at, &n))
		return;
	if (!below(8))
		before = below(m->base + 1);
	SAY("discard %d: %#llx bytes at %#llx", nr(m), ULL(n), ULL(at));
	if (before) {
		n += at;
		at = 0;
	}
	ret = do_discard(m->fd, m->base + at - before, n + before);
	if (ret ? errno != (m->flags ? EBADF : EPERM) || writable(m) :
		  !writable(m))
		WRONG("DISCARD: %s", strerror(ret ? errno : 0));
	if (ret)
		return;
	changing(m);
	memset(m->want + at, 0, n);
	changed(m);
	check(m);
}

static int merge_some(bool *sealed, bool *snap)
{
	struct cowmem_merge_range range[4];
	struct cowmem_merge arg = {
		.ranges = (uintptr_t)range, .count = 1 + below(4),
		.table = (uintptr_t)table, .entries = ARRAY_SIZE(table),
		.budget = below(3) ? 0 : 1 + below(50),
	};
	unsigned int i;

	memset(range, 0, sizeof(range));
	for (i = 0; i < arg.count; i++) {
		struct model *m = any();

		range[i].fd = m->fd;
		*sealed = *sealed || m->seals & COWMEM_SEAL_WRITE;
		*snap = *snap || m->flags;
		if (below(2))
			continue;
		range[i].offset = m->base + below(window) * pgsz();
		range[i].length = below(window) * pgsz();
	}
	if (!below(3))
		memset(table, 0, sizeof(table));
	return ioctl(any()->fd, COWMEM_IOC_MERGE, &arg);
}

static void op_merge(void)
{
	bool sealed = false, snap = false;
	int ret;

	if (!any())
		return;
	SAY("merge");
	ret = merge_some(&sealed, &snap);
	if (sealed || snap)
		NEED(ret && ((snap && errno == EBADF) ||
			     (sealed && errno == EPERM)));
	else
		NEED(!ret);
	check_all();
}

static void op_diff(void)
{
	struct model *a = any(), *b = any();
	uint32_t flags = below(2) ? COWMEM_DIFF_CONTENT : 0;
	unsigned int n = 1 + below(20), i;
	struct cowmem_extent e[20];
	struct cowmem_diff arg = { .flags = flags, .extents = (uintptr_t)e };
	bool differs[ROOM] = {};
	uint64_t page;

	if (!a || a->base != b->base)
		return;
	SAY("diff %d and %d, flags %u, %u at a time", nr(a), nr(b), flags, n);
	arg.fd = b->fd;
	do {
		arg.count = n;
		NEED(!ioctl(a->fd, COWMEM_IOC_DIFF, &arg));
		for (i = 0; i < arg.count; i++) {
			uint64_t end = e[i].offset + e[i].length;

			NEED(e[i].offset >= a->base && end - a->base <= MAX);
			end = (end - a->base) / pgsz();
			page = (e[i].offset - a->base) / pgsz();
			for (; page < end; page++) {
				NEED(!differs[page]);
				differs[page] = true;
				if (e[i].kind == COWMEM_EXTENT_HOLE)
					NEED(!a->want[page * pgsz()] &&
					     !memcmp(a->want + page * pgsz(),
						     a->want + page * pgsz() + 1,
						     pgsz() - 1));
			}
		}
	} while (arg.count == n);
	for (page = 0; page < window; page++) {
		bool equal = !memcmp(a->want + page * pgsz(),
				     b->want + page * pgsz(), pgsz());

		/* Without the flag, equal pages may differ. */
		if (flags ? differs[page] == equal : !differs[page] && !equal)
			WRONG("DIFF says that page %llu %s", ULL(page),
			      differs[page] ? "differs" : "does not differ");
	}
}

static void op_seal(void)
{
	struct model *m = any();
	uint32_t seals = below(4) ? 1U << below(4) : below(16);
	bool busy = false, maybe = disturbed;
	unsigned int i;
	int ret, err;

	if (!m || !below(2))
		return;
	SAY("seal %d: %x", nr(m), seals);
	for (i = 0; i < MAPS; i++)
		busy = busy || (maps[i].m == m && !maps[i].private &&
				maps[i].maywrite);
	for (i = 0; i < PIPES; i++)
		maybe = maybe || pipes[i].n;
	busy = busy && (seals & ~m->seals & COWMEM_SEAL_WRITE);
	ret = do_seal(m->fd, seals);
	err = m->flags ? EBADF : seals && m->seals & COWMEM_SEAL_SEAL ? EPERM :
	      busy ? EBUSY : 0;
	if (ret && !err && errno == EBUSY && maybe &&
	    (seals & COWMEM_SEAL_WRITE))
		return;
	if (ret ? errno != err : err)
		WRONG("SEAL: %s, not %s", strerror(ret ? errno : 0),
		      strerror(err));
	if (!ret)
		m->seals |= seals;
}

static void op_info(void)
{
	struct model *m = any();
	char text[4096], path[64];

	if (!m)
		return;
	SAY("info %d", nr(m));
	check_fd(m);
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", m->fd);
	NEED(read_file(path, text, sizeof(text)) > 0);
}

/* ---- mappings ---- */

static void op_mmap(void)
{
	struct model *m = any();
	bool private = !below(4), want_write = below(4);
	int prot = PROT_READ | (want_write ? PROT_WRITE : 0), err = 0;
	uint64_t off, n, end;
	struct map *p;
	void *mem;

	if (!m)
		return;
	p = private ? &maps[MAPS - PRIVATE + below(PRIVATE)] :
		      &maps[below(MAPS - PRIVATE)];
	if (p->m) {
		struct model *old = p->m;

		map_forget(p);
		maybe_gone(old);
	}
	if (below(2)) {
		off = 0;
		n = window;
	} else {
		any_pages(window, &off, &n);
	}
	SAY("mmap %d%s, prot %d: %llu pages at %llu", nr(m),
	    private ? " privately" : "", prot, ULL(n), ULL(off));
	if (!private && want_write)
		err = m->flags ? EACCES : !writable(m) ? EPERM : 0;
	/* MAP_FIXED would unmap what is there, which others would then use. */
	mem = mmap(NULL, n * pgsz(), prot, private ? MAP_PRIVATE : MAP_SHARED,
		   m->fd, m->base + off * pgsz());
	if (mem == MAP_FAILED ? errno != err : err)
		WRONG("mmap: %s, not %s",
		      strerror(mem == MAP_FAILED ? errno : 0), strerror(err));
	if (err)
		return;
	NEED(mremap(mem, n * pgsz(), n * pgsz(), MREMAP_MAYMOVE | MREMAP_FIXED,
		    p->addr) == p->addr);
	if (window > AREA && below(4))
		NEED(!madvise(p->addr, n * pgsz(), below(3) ? MADV_HUGEPAGE : MADV_NOHUGEPAGE) ||
		     errno == EINVAL); /* a kernel without huge pages */
	end = m->base + (off + n) * pgsz();
	/* A file is not made larger by mapping it. */
	if (!m->regular && !m->flags && !(m->seals & COWMEM_SEAL_GROW) &&
	    end > m->size)
		resized(m, end);
	p->m = m;
	p->off = off;
	p->pages = n;
	p->private = private;
	p->writable = want_write;
	p->maywrite = private || writable(m);
	p->regular = m->regular;
	memset(p->own, 0, sizeof(p->own));
	check_map(p);
}

static void op_munmap(void)
{
	struct map *p = any_map();
	struct model *m;
	uint64_t keep;

	if (!p)
		return;
	m = p->m;
	if (p->pages > 1 && below(2)) {
		keep = 1 + below(p->pages - 1);
		SAY("munmap all but %llu pages of %d", ULL(keep), nr(m));
		NEED(mmap(p->addr + keep * pgsz(), (p->pages - keep) * pgsz(),
			  PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED |
			  MAP_NORESERVE, -1, 0) != MAP_FAILED);
		p->pages = keep;
		check_map(p);
		return;
	}
	SAY("munmap of %d", nr(m));
	map_forget(p);
	maybe_gone(m);
}

static void op_mremap(void)
{
	struct map *p = any_map(), *to;
	struct model *old;
	bool keep = !below(3);

	if (!p)
		return;
	to = p->private ? &maps[MAPS - PRIVATE + below(PRIVATE)] :
			  &maps[below(MAPS - PRIVATE)];
	if (to == p)
		return;
	/* The old range of a private mapping would be read afresh. */
	keep = keep && !p->private;
	SAY("mremap of %d%s", nr(p->m), keep ? ", DONTUNMAP" : "");
	old = to->m;
	if (old) {
		map_forget(to);
		if (old != p->m)
			maybe_gone(old);
	}
	NEED(mremap(p->addr, p->pages * pgsz(), p->pages * pgsz(),
		    MREMAP_MAYMOVE | MREMAP_FIXED | (keep ? MREMAP_DONTUNMAP : 0),
		    to->addr) == to->addr);
	to->m = p->m;
	to->off = p->off;
	to->pages = p->pages;
	to->private = p->private;
	to->writable = p->writable;
	to->maywrite = p->maywrite;
	to->regular = p->regular;
	memcpy(to->own, p->own, sizeof(p->own));
	memcpy(to->mine, p->mine, MAX);
	if (!keep)
		map_forget(p);
	check(to->m);
}

/* Part of a mapping; afterwards mremap() must be able to take it as one again. */
static void mprotect_and_back(struct map *p)
{
	uint64_t first, n;
	char *at;

	if (!any_pages(p->pages, &first, &n))
		return;
	SAY("mprotect of %d: %llu pages from %llu and back", nr(p->m), ULL(n),
	    ULL(first));
	at = p->addr + first * pgsz();
	NEED(!mprotect(at, n * pgsz(), PROT_READ));
	NEED(poke(at, 1) == SIGSEGV);
	NEED(!mprotect(at, n * pgsz(), PROT_READ | PROT_WRITE));
	check_map(p);
}

static void op_mprotect(void)
{
	struct map *p = any_map();
	int ret;

	if (!p)
		return;
	if (p->writable && below(2)) {
		mprotect_and_back(p);
		return;
	}
	SAY("mprotect of %d: %s", nr(p->m), p->writable ? "ro" : "rw");
	ret = mprotect(p->addr, p->pages * pgsz(),
		       p->writable ? PROT_READ : PROT_READ | PROT_WRITE);
	if (!p->writable && !p->maywrite) {
		NEED(ret == -1 && errno == EACCES);
		return;
	}
	NEED(!ret);
	p->writable = !p->writable;
	check_map(p);
}

/* A hole was punched by way of a mapping. */
static void removed(struct map *p, uint64_t at, uint64_t n)
{
	changing(p->m);
	memset(p->m->want + p->off * pgsz() + at, 0, n);
	changed(p->m);
}

static void op_madvise(void)
{
	static const struct { int advice; const char *name; } all[] = {
		{ MADV_DONTNEED, "DONTNEED" }, { MADV_DONTNEED, "DONTNEED" },
		{ MADV_POPULATE_READ, "POPULATE_READ" },
		{ MADV_POPULATE_WRITE, "POPULATE_WRITE" },
		{ MADV_WILLNEED, "WILLNEED" }, { 20, "COLD" },
		{ 21, "PAGEOUT" }, { MADV_RANDOM, "RANDOM" },
		{ MADV_NORMAL, "NORMAL" }, { MADV_HUGEPAGE, "HUGEPAGE" },
		{ MADV_NOHUGEPAGE, "NOHUGEPAGE" }, { 25, "COLLAPSE" }, { 24, "DONTNEED_LOCKED" },
		{ MADV_MERGEABLE, "MERGEABLE" }, { MADV_REMOVE, "REMOVE" },
		{ MADV_FREE, "FREE" },
	};
	struct map *p = any_map();
	unsigned int i = below(ARRAY_SIZE(all));
	uint64_t first, n, k;
	int ret, err;

	if (!p || !any_pages(p->pages, &first, &n))
		return;
	SAY("madvise of %d: %s, %llu pages from %llu", nr(p->m), all[i].name,
	    ULL(n), ULL(first));
	switch (all[i].advice) {
	case MADV_RANDOM:
	case MADV_NORMAL:
	case MADV_HUGEPAGE:
	case MADV_NOHUGEPAGE:
	case MADV_MERGEABLE:
		/* mremap() takes no more than one VMA, so leave it whole. */
		first = 0;
		n = p->pages;
	}
	ret = madvise(p->addr + first * pgsz(), n * pgsz(), all[i].advice);
	err = errno;
	if (all[i].advice == MADV_DONTNEED || all[i].advice == 24) {
		if (all[i].advice == MADV_DONTNEED)
			NEED(!ret);
		for (k = first; !ret && k < first + n; k++)
			p->own[k] = false;
	}
	if (all[i].advice == MADV_REMOVE) {
		bool must = p->regular && !p->private && p->writable;

		/* From 6.7 on it is enough that it could be made writable. */
		NEED(!must || !ret);
		NEED(ret || (p->regular && !p->private && p->maywrite));
		if (!ret)
			removed(p, first * pgsz(), n * pgsz());
	}
	if (all[i].advice == MADV_POPULATE_READ ||
	    all[i].advice == MADV_POPULATE_WRITE) {
		bool past = (p->off + first + n) * pgsz() >
			    round_up(inside(p->m));
		bool may = all[i].advice == MADV_POPULATE_READ || p->writable;

		errno = err;
		NEED(!ret == (!past && may));
		/* Now there are private copies, of what is there now. */
		for (k = first; p->private && k < first + n &&
		     all[i].advice == MADV_POPULATE_WRITE && may &&
		     (p->off + k) * pgsz() < round_up(inside(p->m)); k++) {
			if (p->own[k])
				continue;
			memcpy(p->mine + k * pgsz(), map_page(p, k), pgsz());
			p->own[k] = true;
		}
	}
	check_map(p);
}

static void op_mlock(void)
{
	struct map *p = any_map();
	uint64_t first, n;
	char *at;

	if (!p)
		return;
	if (!any_pages(p->pages, &first, &n))
		return;
	if (below(2)) {
		first = 0;
		n = p->pages;
	}
	SAY("mlock and msync of %d: %llu pages from %llu", nr(p->m), ULL(n),
	    ULL(first));
	at = p->addr + first * pgsz();
	/* Not private ones: mlock() of a writable one makes copies. */
	if (!p->private) {
		int ret = mlock(at, n * pgsz());

		if ((p->off + first + n) * pgsz() > round_up(inside(p->m)))
			NEED(ret == -1 && errno == ENOMEM);
		else
			NEED(!ret);
	}
	NEED(!msync(p->addr, p->pages * pgsz(), MS_SYNC));
	check_map(p);
	NEED(!munlock(at, n * pgsz()));
	check_map(p);
}

/* A range of a mapping, in bytes from the mapping's start, before the end. */
static bool range_of_map(const struct map *p, uint64_t *at, uint64_t *n)
{
	uint64_t end = inside(p->m), start = p->off * pgsz();

	if (end <= start)
		return false;
	end -= start;
	if (end > p->pages * pgsz())
		end = p->pages * pgsz();
	return any_range(end, at, n);
}

/* What a write through a mapping makes of the model. */
static void written(struct map *p, uint64_t at, uint64_t n, const char *what)
{
	uint64_t i;

	if (!p->private) {
		changing(p->m);
		memcpy(p->m->want + p->off * pgsz() + at, what, n);
		changed(p->m);
		return;
	}
	for (i = at / pgsz(); i * pgsz() < at + n; i++) {
		if (p->own[i])
			continue;
		memcpy(p->mine + i * pgsz(), map_page(p, i), pgsz());
		p->own[i] = true;
	}
	memcpy(p->mine + at, what, n);
}

static void seen_by(const struct map *p, char *to)
{
	uint64_t i;

	for (i = 0; i < p->pages; i++)
		memcpy(to + i * pgsz(), map_page(p, i), pgsz());
}

static void op_store(void)
{
	struct map *p = any_map();
	uint64_t at, n;

	if (!p || !p->writable || !range_of_map(p, &at, &n))
		return;
	SAY("store %d%s: %#llx bytes at %#llx of %#llx", nr(p->m),
	    p->private ? " privately" : "", ULL(n), ULL(at),
	    ULL(p->off * pgsz()));
	any_bytes(buf, n);
	memcpy(p->addr + at, buf, n);
	written(p, at, n, buf);
	check(p->m);
}

static void op_load(void)
{
	struct map *p = any_map();
	uint64_t at, n;

	if (!p || !range_of_map(p, &at, &n))
		return;
	SAY("load %d: %#llx bytes at %#llx", nr(p->m), ULL(n), ULL(at));
	seen_by(p, buf);
	same(p->m, p->off, p->addr + at, buf + at, n, "a mapping");
}

/* write() and its kin, from the heap or from a mapping of any region. */
static void op_write(void)
{
	struct model *m = any();
	struct map *src = below(4) ? NULL : any_map();
	uint64_t at, n, from = 0, want;
	bool grow = !below(6);
	const char *what = buf;
	struct iovec iov[2];
	ssize_t ret = -1;
	int err = 0;

	if (!m || !any_range(grow ? MAX : inside(m), &at, &n))
		return;
	any_bytes(buf, n);
	if (src && src->m != m && range_of_map(src, &from, &want)) {
		if (n > want)
			n = want;
		seen_by(src, buf);
		memmove(buf, buf + from, n);
		what = src->addr + from;
	} else {
		src = NULL;
	}
	SAY("write %d: %#llx bytes at %#llx%s", nr(m), ULL(n), ULL(at),
	    src ? " from a mapping" : "");
	want = n;
	if (m->flags) {
		err = EBADF;
	} else if (!writable(m)) {
		err = EPERM;
	} else if ((m->seals & COWMEM_SEAL_GROW) && m->base + at + n > m->size) {
		if (m->base + at >= m->size)
			err = EPERM;
		else
			want = m->size - m->base - at;
	}
	iov[0].iov_base = (char *)what;
	iov[0].iov_len = n / 3;
	iov[1].iov_base = (char *)what + n / 3;
	iov[1].iov_len = n - n / 3;
	switch (below(3)) {
	case 0:
		ret = pwrite(m->fd, what, n, m->base + at);
		break;
	case 1:
		ret = pwritev(m->fd, iov, 2, m->base + at);
		break;
	case 2:
		NEED(lseek(m->fd, m->base + at, SEEK_SET) ==
		     (off_t)(m->base + at));
		ret = write(m->fd, what, n);
		break;
	}
	if (err) {
		NEED(ret == -1 && errno == err);
		return;
	}
	if (ret != (ssize_t)want)
		WRONG("write: %zd, not %llu: %s", ret, ULL(want),
		      strerror(errno));
	if (m->base + at + want > m->size)
		resized(m, m->base + at + want);
	changing(m);
	memcpy(m->want + at, buf, want);
	changed(m);
	check(m);
}

/* read(), to the heap or into a mapping of any region. */
static void op_read(void)
{
	struct model *m = any();
	struct map *to = below(3) ? NULL : any_map();
	uint64_t at, n, dst, want;

	if (!m || !any_range(inside(m), &at, &n))
		return;
	if (to && to->m != m && to->writable && range_of_map(to, &dst, &want)) {
		if (n > want)
			n = want;
		SAY("read %d: %#llx bytes at %#llx into %d", nr(m), ULL(n),
		    ULL(at), nr(to->m));
		NEED(pread(m->fd, to->addr + dst, n, m->base + at) ==
		     (ssize_t)n);
		written(to, dst, n, m->want + at);
		check(to->m);
		return;
	}
	SAY("read %d: %#llx bytes at %#llx", nr(m), ULL(n), ULL(at));
	NEED(lseek(m->fd, m->base + at, SEEK_SET) == (off_t)(m->base + at));
	NEED(read(m->fd, buf, n) == (ssize_t)n);
	same(m, 0, buf, m->want + at, n, "read()");
}

/* What was passed over as a hole: from @at up to @end, both in the region. */
static void all_zero(const struct model *m, uint64_t at, uint64_t end)
{
	if (at < m->base)
		at = m->base;
	for (; at < end; at++)
		NEED(!m->want[at - m->base]);
}

static void op_seek(void)
{
	struct model *m = any();
	uint64_t at = 0;
	off_t data;

	if (!m)
		return;
	SAY("seek %d", nr(m));
	for (;;) {
		data = lseek(m->fd, at, SEEK_DATA);
		if (data < 0)
			NEED(errno == ENXIO);
		all_zero(m, at, data < 0 ? m->size : (uint64_t)data);
		if (data < 0)
			return;
		at = lseek(m->fd, data, SEEK_HOLE);
		if (disturbed && at == (uint64_t)data) {
			/* A MERGE came between: the page was one of zeroes. */
			at = data + pgsz();
			if (at > m->size)
				at = m->size;
			all_zero(m, data, at);
		}
		NEED(at > (uint64_t)data && at <= m->size);
	}
}

/* ---- pins ---- */

static void pipe_drain(struct inflight *f)
{
	uint64_t i;
	unsigned int v;

	if (!f->n)
		return;
	if (f->m)
		changed(f->m);
	NEED(drain(f->fd[0], buf, f->n));
	for (i = 0; !f->any && i < f->n; i++) {
		for (v = 0; v < f->versions; v++)
			if (buf[i] == f->was[v][i])
				break;
		if (v == f->versions)
			WRONG("a pipe: byte %#llx of %#llx is %02x, not %02x",
			      ULL(i), ULL(f->n), buf[i] & 255,
			      f->was[f->versions - 1][i] & 255);
	}
	f->n = 0;
	f->m = NULL;
}

/* Pages in a pipe: vmsplice() of a mapping, or splice() of the file. */
static void op_pipe(void)
{
	struct inflight *f = &pipes[below(PIPES)];
	struct map *p = any_map();
	struct model *m = any();
	bool by_file = !below(3);
	uint64_t at, n;
	ssize_t ret;

	if (f->n) {
		SAY("read a pipe");
		pipe_drain(f);
		return;
	}
	if (by_file) {
		loff_t off;

		if (!m || !any_range(inside(m), &at, &n))
			return;
		if (n > PIPE_PAGES * pgsz())
			n = PIPE_PAGES * pgsz();
		SAY("splice %d: %#llx bytes at %#llx", nr(m), ULL(n), ULL(at));
		off = m->base + at;
		ret = splice(m->fd, &off, f->fd[1], NULL, n, 0);
		NEED(ret > 0 && (uint64_t)ret <= n);
	} else {
		struct iovec iov;

		if (!p || p->private || !range_of_map(p, &at, &n))
			return;
		if (n > PIPE_PAGES * pgsz())
			n = PIPE_PAGES * pgsz();
		m = p->m;
		SAY("vmsplice %d: %#llx bytes at %#llx", nr(m), ULL(n),
		    ULL(at));
		iov.iov_base = p->addr + at;
		iov.iov_len = n;
		ret = vmsplice(f->fd[1], &iov, 1, 0);
		NEED(ret > 0 && (uint64_t)ret <= n);
		at += p->off * pgsz();
	}
	f->m = m;
	f->at = at;
	f->n = ret;
	f->any = false;
	f->versions = 1;
	memcpy(f->was[0], m->want + at, ret);
}

/* From one region through a pipe into another one. */
static void op_splice_into(void)
{
	struct model *m = any(), *to = any();
	struct inflight *f = &pipes[below(PIPES)];
	uint64_t at, n, dst, room;
	loff_t off;
	ssize_t ret, in;

	if (!m || m == to || f->n || !writable(to) ||
	    !any_range(inside(m), &at, &n) ||
	    !any_range(inside(to), &dst, &room))
		return;
	if (n > PIPE_PAGES * pgsz())
		n = PIPE_PAGES * pgsz();
	if (n > room)
		n = room;
	SAY("splice %d to %d: %#llx bytes from %#llx to %#llx", nr(m), nr(to),
	    ULL(n), ULL(at), ULL(dst));
	off = m->base + at;
	in = splice(m->fd, &off, f->fd[1], NULL, n, 0);
	NEED(in > 0);
	changing(to);
	for (n = 0; n < (uint64_t)in; n += ret) {
		off = to->base + dst + n;
		ret = splice(f->fd[0], NULL, to->fd, &off, in - n, 0);
		NEED(ret > 0);
	}
	memcpy(to->want + dst, m->want + at, in);
	changed(to);
	check(to);
}

static void op_vm_rw(void)
{
	struct map *p = any_map();
	struct iovec local = { .iov_base = buf }, remote;
	bool write = below(2);
	uint64_t at, n;
	ssize_t ret;

	if (!p || !range_of_map(p, &at, &n))
		return;
	SAY("process_vm_%sv %d: %#llx bytes at %#llx", write ? "write" : "read",
	    nr(p->m), ULL(n), ULL(at));
	remote.iov_base = p->addr + at;
	remote.iov_len = local.iov_len = n;
	if (!write) {
		seen_by(p, buf2);
		NEED(process_vm_readv(getpid(), &local, 1, &remote, 1, 0) ==
		     (ssize_t)n);
		same(p->m, p->off, buf, buf2 + at, n, "process_vm_readv()");
		return;
	}
	any_bytes(buf, n);
	ret = process_vm_writev(getpid(), &local, 1, &remote, 1, 0);
	NEED(ret == (p->writable ? (ssize_t)n : -1));
	if (p->writable)
		written(p, at, n, buf);
	check(p->m);
}

/* /proc/self/mem may write to a private mapping that is read-only. */
static void op_proc_mem(void)
{
	struct map *p = any_map();
	int fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	uint64_t at, n;
	ssize_t ret;

	if (fd >= 0 && p && range_of_map(p, &at, &n)) {
		SAY("/proc/self/mem of %d%s: %#llx bytes at %#llx", nr(p->m),
		    p->private ? " privately" : "", ULL(n), ULL(at));
		any_bytes(buf, n);
		ret = pwrite(fd, buf, n, (uintptr_t)p->addr + at);
		if (p->writable)
			NEED(ret == (ssize_t)n);
		else if (!p->private)
			NEED(ret < 0);
		if (ret > 0)
			written(p, at, ret, buf);
		check(p->m);
	}
	if (fd >= 0)
		close(fd);
}

static void op_direct(void)
{
	struct map *p = any_map();
	uint64_t first, n, pages;
	bool in = below(2);

	if (direct < 0 || !p || inside(p->m) / pgsz() <= p->off)
		return;
	pages = inside(p->m) / pgsz() - p->off;
	if (!any_pages(pages < p->pages ? pages : p->pages, &first, &n))
		return;
	if (in && !p->writable)
		return;
	SAY("O_DIRECT %s %d: %llu pages at %llu", in ? "into" : "from",
	    nr(p->m), ULL(n), ULL(p->off + first));
	n *= pgsz();
	first *= pgsz();
	if (in) {
		any_bytes(buf, n);
		NEED(pwrite(direct, buf, n, 0) == (ssize_t)n);
		NEED(pread(direct, p->addr + first, n, 0) == (ssize_t)n);
		written(p, first, n, buf);
		check(p->m);
		return;
	}
	seen_by(p, buf2);
	NEED(pwrite(direct, p->addr + first, n, 0) == (ssize_t)n);
	NEED(pread(direct, buf, n, 0) == (ssize_t)n);
	same(p->m, p->off, buf, buf2 + first, n, "O_DIRECT");
}

/* ---- processes ---- */

/* Ends in the child with what the parent is to wait for. */
static void reap_ok(pid_t pid, const char *who)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		NEED(errno == EINTR);
	if (status)
		WRONG("%s ended with status %#x", who, status);
}

/* A child sees all that its parent sees, and what it writes is seen. */
static void op_fork(void)
{
	struct map *p = any_map();
	uint64_t at = 0, n = 0;
	bool write;
	pid_t pid;

	write = p && p->writable && range_of_map(p, &at, &n);
	SAY("fork");
	any_bytes(buf, n);
	pid = fork();
	NEED(pid >= 0);
	if (!pid) {
		alarm(60);
		check_all();
		if (write) {
			memcpy(p->addr + at, buf, n);
			written(p, at, n, buf);
			check(p->m);
		}
		_exit(0);
	}
	/* Both at once may look, but the parent does not know when it changes. */
	reap_ok(pid, "the child");
	if (write && !p->private)
		written(p, at, n, buf);
	check_all();
}

static uint64_t hash(const char *mem, size_t n)
{
	uint64_t h = 0xcbf29ce484222325ULL;

	while (n--)
		h = (h ^ (unsigned char)*mem++) * 0x100000001b3ULL;
	return h;
}

/* What op_exec() has run: is a region what its parent says? */
static int exec_check(char **arg)
{
	int fd = atoi(arg[0]);
	uint64_t base = strtoull(arg[1], NULL, 0), want;
	size_t n = strtoull(arg[2], NULL, 0);
	char *mem = malloc(n + 1), *view;

	want = strtoull(arg[3], NULL, 0);
	if (pread(fd, mem, n, base) != (ssize_t)n || hash(mem, n) != want)
		return 2;
	if (!n)
		return 0;
	view = mmap(NULL, n, PROT_READ, MAP_PRIVATE, fd, base);
	if (view == MAP_FAILED)
		return 3;
	return hash(view, n) == want ? 0 : 4;
}

static void op_exec(void)
{
	struct model *m = any();
	char arg[4][32];
	pid_t pid;

	if (!m)
		return;
	SAY("exec with %d", nr(m));
	/* A private mapping would grow it. */
	snprintf(arg[0], 32, "%d", m->fd);
	snprintf(arg[1], 32, "%llu", ULL(m->base));
	snprintf(arg[2], 32, "%llu", ULL(inside(m) / pgsz() * pgsz()));
	snprintf(arg[3], 32, "%llu",
		 ULL(hash(m->want, inside(m) / pgsz() * pgsz())));
	pid = fork();
	NEED(pid >= 0);
	if (!pid) {
		fcntl(m->fd, F_SETFD, 0);
		execl("/proc/self/exe", "torture", "--exec", arg[0], arg[1],
		      arg[2], arg[3], NULL);
		_exit(127);
	}
	reap_ok(pid, "the program");
	check(m);
}

/* ---- snapshots that yield ---- */

/* As many pages as there are now, or any number. */
static void limit_mount(const char *dir, bool limit)
{
	char text[64] = "size=0";
	struct statfs fs;

	if (limit) {
		NEED(!statfs(dir, &fs));
		if (fs.f_blocks)
			WRONG("the mount has a limit");
		NEED(!mount(NULL, dir, NULL, MS_REMOUNT, sized("size=1g")));
		NEED(!statfs(dir, &fs));
		snprintf(text, sizeof(text), "size=%llu",
			 ULL((fs.f_blocks - fs.f_bfree) * pgsz()));
	}
	NEED(!mount(NULL, dir, NULL, MS_REMOUNT, text));
}

/* Is there all of what the snapshot was, or nothing at all? */
static bool has_yielded(int fd, uint64_t base, const char *was, uint64_t n)
{
	bool gone = info(fd).state & COWMEM_STATE_YIELDED;
	ssize_t got = pread(fd, buf2, MAX, base);

	if (gone ? got != -1 || errno != EIO : got != (ssize_t)n)
		WRONG("of a snapshot that has%s yielded %zd bytes: %s", gone ? "" : " not",
		      got, strerror(errno));
	if (!gone && memcmp(buf2, was, n))
		WRONG("a snapshot that has not yielded is not what it was");
	return gone;
}

/* Those of the forest that had to yield as well are gone from it. */
static void drop_yielded(void)
{
	unsigned int i, k;
	size_t page;

	for (i = 0; i < REGIONS; i++) {
		struct model *m = &models[i];

		if (!m->used || m->flags != EXPENDABLE ||
		    !has_yielded(m->fd, m->base, m->want, inside(m)))
			continue;
		for (k = 0; k < MAPS; k++) {
			struct map *p = &maps[k];

			for (page = 0; p->m == m && page < p->pages; page++)
				if (!p->own[page] &&
				    access_byte(p->addr + page * pgsz(), true, false, 0) != SIGBUS)
					WRONG("region %d: mapped page %zu is still there",
					      i, page);
		}
		drop(m);
	}
}

/* Write any page of the window; returns whether there was memory. */
static bool write_somewhere(int fd, uint64_t base, uint64_t n, char *want)
{
	size_t page = below(n / pgsz());
	ssize_t ret;

	any_bytes(buf, pgsz());
	ret = pwrite(fd, buf, pgsz(), base + page * pgsz());
	if (ret == (ssize_t)pgsz())
		memcpy(want + page * pgsz(), buf, pgsz());
	else if (ret != -1 || errno != ENOSPC)
		WRONG("a write to a full mount: %zd: %s", ret, strerror(errno));
	return ret > 0;
}

/*
 * A copy of a region, on a mount that is full, is written, and what is expendable
 * yields.  What holds those pages elsewhere, by chance, may keep that from being of use.
 */
static void op_yield(void)
{
	struct model *m = any(), from;
	struct cowmem_restore arg = { .flags = COWMEM_RESTORE_SIZE };
	char *want, *was[2];
	int fd, e[2], kept, i, n;

	/* Others would find no memory, either. */
	if (disturbed || !m || inside(m) < 4 * pgsz() || !mount_dir())
		return;
	for (i = 0; i < REGIONS; i++)
		if (models[i].used && models[i].flags == EXPENDABLE && models[i].fd < 0)
			drop(&models[i]);
	from = *m;
	fd = open(mount_dir(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	NEED(fd >= 0);
	SAY("yield, of a copy of %d", nr(m));
	arg.fd = m->fd;
	NEED(!ioctl(fd, COWMEM_IOC_RESTORE, &arg));
	want = malloc(MAX);
	memcpy(want, m->want, MAX);
	for (i = 0; i < 2; i++) {
		for (n = below(4); n; n--)
			NEED(write_somewhere(fd, from.base, inside(&from), want));
		e[i] = do_clone(fd, EXPENDABLE, 0, 0);
		NEED(e[i] >= 0);
		was[i] = malloc(MAX);
		memcpy(was[i], want, MAX);
	}
	kept = below(2) ? do_clone(e[below(2)], 0, 0, 0) : -1;
	for (n = 1 + below(4); n; n--)
		NEED(write_somewhere(fd, from.base, inside(&from), want));
	limit_mount(mount_dir(), true);
	for (n = below(40); n && write_somewhere(fd, from.base, inside(&from), want); n--)
		;
	limit_mount(mount_dir(), false);
	for (i = 0; i < 2; i++) {
		if (has_yielded(e[i], from.base, was[i], inside(&from)))
			count(&progress->yields);
		close(e[i]);
		free(was[i]);
	}
	drop_yielded();
	if (kept >= 0)
		close(kept);
	/* It cannot stay: from a mount to the device there is no reflink. */
	NEED(pread(fd, buf2, MAX, from.base) == (ssize_t)inside(&from));
	if (memcmp(buf2, want, inside(&from)))
		WRONG("what was written while others yielded is not there");
	free(want);
	close(fd);
}

/*
 * A helper does something over and over and is killed at any point: what is left
 * is what was there before or what it does, wholly so where a call promises it.
 */
static void op_kill(void)
{
	struct model *m = any(), *from = any();
	unsigned int what = below(11), nap = below(4000);
	bool whole = true, sizes = false;
	uint64_t at, n, was, now, other;
	struct cowmem_copy copy = { 0 };
	struct file_clone_range reflink = { 0 };
	int fd = -1;
	struct map *p = NULL;
	pid_t pid;
	size_t i;

	if (!m || m == from || !writable(m) || !any_range(inside(m), &at, &n))
		return;
	was = m->size;
	other = m->base + at;
	memcpy(buf, m->want, MAX);	/* what it may become */
	switch (what) {
	case 0:
	case 1:
		if (m->base != from->base || m->size != from->size)
			return;
		memcpy(buf, from->want, MAX);
		break;
	case 2:
		at -= at % pgsz();
		n = round_up(n);
		if (at + n > inside(m) || at + n > inside(from))
			return;
		copy.fd = from->fd;
		copy.src_offset = from->base + at;
		copy.dst_offset = m->base + at;
		copy.length = n;
		memcpy(buf + at, from->want + at, n);
		break;
	case 3:
		memset(buf + at, 0, n);
		break;
	case 4:
	case 5:
		whole = false;
		p = map_of(m);
		if (what == 5 && (!p || !p->writable || !range_of_map(p, &at, &n)))
			return;
		if (what == 5)
			at += p->off * pgsz();
		any_bytes(buf + at, n);
		break;
	case 6:
		if (m->seals)
			return;
		sizes = true;
		memset(buf + at, 0, MAX - at);
		break;
	case 9:
		if (m->base != from->base || m->seals)
			return;
		sizes = true;
		other = from->size;
		memcpy(buf, from->want, MAX);
		break;
	case 10:
		at -= at % pgsz();
		n = round_up(n);
		if (at + n > inside(m) || at + n > inside(from) ||
		    m->mounted != from->mounted)
			return;
		memcpy(buf + at, from->want + at, n);
		fd = regular(m);
		reflink.src_fd = regular(from);
		reflink.src_offset = from->base + at;
		reflink.src_length = n;
		reflink.dest_offset = m->base + at;
		break;
	}
	SAY("kill -9 of a process that does %u to %d (%d), %#llx bytes at %#llx", what,
	    nr(m), nr(from), ULL(n), ULL(at));
	pid = fork();
	NEED(pid >= 0);
	if (!pid) {
		struct cowmem_restore restore = {
			.fd = from->fd,
			.flags = what == 1 ? COWMEM_RESTORE_KEEP :
				 what == 9 ? COWMEM_RESTORE_SIZE : 0,
		};
		bool no1, no2;

		alarm(60);
		for (;;) {
			switch (what) {
			case 0:
			case 1:
			case 9:
				ioctl(m->fd, COWMEM_IOC_RESTORE, &restore);
				break;
			case 10:
				ioctl(fd, FICLONERANGE, &reflink);
				break;
			case 2:
				ioctl(m->fd, COWMEM_IOC_COPY, &copy);
				break;
			case 3:
				do_discard(m->fd, m->base + at, n);
				break;
			case 4:
				if (pwrite(m->fd, buf + at, n, m->base + at) < 0)
					_exit(1);
				break;
			case 5:
				memcpy(p->addr + at - p->off * pgsz(), buf + at, n);
				break;
			case 6:
				do_resize(m->fd, m->base + at);
				do_resize(m->fd, was);
				break;
			case 7:
				merge_some(&no1, &no2);
				break;
			case 8:
				close(do_clone(m->fd, below(2), 0, 0));
				break;
			}
		}
	}
	usleep(nap);
	kill(pid, SIGKILL);
	NEED(waitpid(pid, NULL, 0) == pid);
	count(&progress->kills);
	if (fd >= 0) {
		close(fd);
		close(reflink.src_fd);
	}

	now = info(m->fd).size;
	if (sizes ? now != was && now != other : now != was)
		WRONG("size %llu after the kill", ULL(now));
	if (what == 9 && now != was && now == other) {
		/* If the size is there, so is the content. */
		resized(m, now);
		memcpy(m->want, buf, MAX);
	} else if (sizes && now != was) {
		resized(m, now);
	}
	memset(buf2, 0, MAX);
	NEED(pread(m->fd, buf2, MAX, m->base) == (ssize_t)inside(m));
	for (i = 0; i < inside(m); i++)
		if (buf2[i] != m->want[i] && buf2[i] != buf[i])
			WRONG("after the kill, byte %#zx is %02x, was %02x, or %02x",
			      i, buf2[i] & 255, m->want[i] & 255, buf[i] & 255);
	if (whole && memcmp(buf2, m->want, inside(m)) &&
	    memcmp(buf2, buf, inside(m)))
		WRONG("what was killed is neither done nor undone");
	/* It may have shrunk and grown again: private copies are gone, or not. */
	for (i = MAPS - PRIVATE; sizes && i < MAPS; i++)
		if (maps[i].m == m)
			map_forget(&maps[i]);
	changing(m);
	memcpy(m->want, buf2, MAX);
	changed(m);
	for (i = 0; i < PIPES; i++)
		if (pipes[i].m == m)
			pipes[i].any = true;
	check(m);
	check(from);
}

/* How often each is done. */
static const struct {
	const char *name;
	void (*op)(void);
	unsigned int weight;
} ops[] = {
	{ "open", op_open, 3 }, { "close", op_close, 3 }, { "dup", op_dup, 1 },
	{ "clone", op_clone, 9 }, { "clone_many", op_clone_many, 3 },
	{ "file", op_file, 6 }, { "fallocate", op_fallocate, 5 },
	{ "reflink", op_reflink, 6 }, { "dedupe", op_dedupe, 4 },
	{ "copy_file_range", op_copy_file_range, 4 },
	{ "restore", op_restore, 10 }, { "keep", op_keep, 6 },
	{ "copy", op_copy, 9 }, { "discard", op_discard, 5 },
	{ "merge", op_merge, 6 }, { "diff", op_diff, 5 },
	{ "resize", op_resize, 4 }, { "seal", op_seal, 2 },
	{ "info", op_info, 1 }, { "mmap", op_mmap, 9 },
	{ "munmap", op_munmap, 3 }, { "mremap", op_mremap, 3 },
	{ "mprotect", op_mprotect, 3 }, { "madvise", op_madvise, 6 },
	{ "mlock", op_mlock, 2 }, { "store", op_store, 18 },
	{ "load", op_load, 3 }, { "write", op_write, 10 },
	{ "read", op_read, 5 }, { "seek", op_seek, 1 }, { "pipe", op_pipe, 7 },
	{ "splice_into", op_splice_into, 2 }, { "process_vm", op_vm_rw, 4 },
	{ "proc_mem", op_proc_mem, 2 }, { "direct", op_direct, 3 },
	{ "fork", op_fork, 2 }, { "exec", op_exec, 1 }, { "kill", op_kill, 3 },
	{ "yield", op_yield, 4 }, { "create", op_create, 4 }, { "names", op_names, 6 },
};

/* ---- what goes on beside it ---- */

struct disturber {
	pthread_t thread;
	uint64_t rng;
	char *area, *heap;
};

static int disturbing;

static uint64_t next(uint64_t *state, uint64_t n)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state % n;
}

/*
 * Changes no content, whatever it meets: descriptors and mappings may be others
 * than it thinks.  Memory of the mappings is not touched, lest a signal comes.
 */
static void *disturb(void *arg)
{
	struct disturber *d = arg;
	struct cowmem_merge_entry *mine = (void *)d->heap;
	char *text = d->heap + 64 * pgsz();

	while (get(&disturbing)) {
		struct model *m = &models[next(&d->rng, REGIONS)];
		struct model *o = &models[next(&d->rng, REGIONS)];
		struct map *p = &maps[next(&d->rng, MAPS)];
		int fd = *(volatile int *)&m->fd;
		struct iovec local = { text, 8 * pgsz() };
		struct iovec remote = { p->addr, 8 * pgsz() };
		int new;

		remote.iov_base = p->addr + next(&d->rng, window - 8) * pgsz();
		switch (next(&d->rng, 8)) {
		case 0:
		case 1: {
			struct cowmem_clone c = {
				.fd = -1, .flags = next(&d->rng, 2),
			};

			if (ioctl(fd, COWMEM_IOC_CLONE, &c))
				break;
			new = c.fd;
			mmap(d->area, MAX, PROT_READ, MAP_SHARED | MAP_FIXED,
			     new, episode_base);
			local.iov_len = 64;
			remote.iov_base = d->area;
			remote.iov_len = 64;
			process_vm_readv(getpid(), &local, 1, &remote, 1, 0);
			close(new);
			mmap(d->area, MAX, PROT_NONE, MAP_PRIVATE |
			     MAP_ANONYMOUS | MAP_FIXED, -1, 0);
			break;
		}
		case 2: {
			struct cowmem_merge_range range[2] = {
				{ .fd = fd },
				{ .fd = *(volatile int *)&o->fd },
			};
			struct cowmem_merge c = {
				.ranges = (uintptr_t)range, .count = 2,
				.table = (uintptr_t)mine, .entries = 128,
			};

			ioctl(fd, COWMEM_IOC_MERGE, &c);
			break;
		}
		case 3: {
			struct cowmem_info c = { .flags = 0 };

			ioctl(fd, COWMEM_IOC_INFO, &c);
			break;
		}
		case 4:
			if (p - maps < MAPS - PRIVATE)
				madvise(p->addr, MAX, MADV_DONTNEED);
			break;
		case 5:
			madvise(remote.iov_base, 8 * pgsz(), MADV_POPULATE_READ);
			break;
		case 6:
			/* POPULATE_WRITE of a private one makes copies. */
			if (p - maps < MAPS - PRIVATE)
				madvise(remote.iov_base, 8 * pgsz(),
					MADV_POPULATE_WRITE);
			break;
		case 7:
			process_vm_readv(getpid(), &local, 1, &remote, 1, 0);
			break;
		}
		if (!next(&d->rng, 4))
			usleep(next(&d->rng, 500));
	}
	return NULL;
}

/* ---- episodes ---- */

static char *reserve(size_t n)
{
	char *mem = mmap(NULL, n, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS |
			 MAP_NORESERVE, -1, 0);

	must(mem != MAP_FAILED);
	return mem;
}

/*
 * Where a mapping is: so that PMDs can map what it shows of the window from the start on,
 * or a few pages off.
 */
static char *place_for_map(bool well)
{
	uint64_t area = AREA * pgsz();
	char *mem = reserve(MAX + 3 * area);

	mem += area - (uintptr_t)mem % area + episode_base % area;
	return well ? mem : mem + (1 + below(AREA - 1)) * pgsz();
}

/* Some episodes are about areas that may be huge; they take longer. */
static bool huge_in(uint64_t seed)
{
	return can_huge && mix(seed + 78) % 4 == 0;
}

/* In a child: the operations of an episode, but those that are to be left out. */
static void episode(uint64_t seed, const bool *skip, bool with_others)
{
	static const unsigned int bases[] = {
		0, 0, 0, 4096 - 40, 262144 - 40, 16777216 - 36, 64 - 8,
	};
	int steps = huge_in(seed) ? OPS / 4 : OPS;
	struct disturber d[DISTURBERS];
	unsigned int total = 0, i, v;

	alarm(120);
	window = huge_in(seed) ? MOST_PAGES : LEAF_PAGES;
	rng_state = mix(seed);
	/* From the last of them on there is no area as a whole in a window. */
	episode_base = bases[below(ARRAY_SIZE(bases) - huge_in(seed))] * pgsz();
	buf = anon(window);
	buf2 = anon(window);
	direct = direct_file();
	for (i = 0; i < REGIONS; i++) {
		models[i].want = anon(window);
		models[i].fd = -1;
	}
	for (i = 0; i < MAPS; i++) {
		maps[i].addr = place_for_map(i % 2);
		maps[i].mine = anon(window);
	}
	for (i = 0; i < PIPES; i++) {
		must(!pipe2(pipes[i].fd, O_CLOEXEC));
		for (v = 0; v < VERSIONS; v++)
			pipes[i].was[v] = anon(PIPE_PAGES);
	}
	for (i = 0; i < ARRAY_SIZE(ops); i++)
		total += ops[i].weight;
	disturbed = with_others;
	put(&disturbing, 1);
	for (i = 0; disturbed && i < DISTURBERS; i++) {
		d[i].rng = mix(seed + i + 1000000);
		d[i].area = reserve(MAX);
		d[i].heap = anon(96);
		must(!pthread_create(&d[i].thread, NULL, disturb, &d[i]));
	}

	for (step = 0; step < steps; step++) {
		unsigned int at;

		if (skip[step])
			continue;
		rng_state = mix(seed + step);
		at = below(total);
		for (i = 0; at >= ops[i].weight; i++)
			at -= ops[i].weight;
		done[0] = 0;
		ops[i].op();
		if (!done[0])
			continue;
		if (verbose)
			dprintf(2, "#   %3d %s\n", step, done);
		count(&progress->ops);
		count(&progress->by_op[i]);
		if (!below(16))
			check_all();
	}
	SAY("the end");
	for (i = 0; i < PIPES; i++)
		pipe_drain(&pipes[i]);
	check_all();
	put(&disturbing, 0);
	for (i = 0; disturbed && i < DISTURBERS; i++)
		must(!pthread_join(d[i].thread, NULL));
	check_all();
	for (i = 0; i < REGIONS; i++)
		drop(&models[i]);
	_exit(0);
}

/* Run it; 0 if all was well. */
static int try(uint64_t seed, const bool *skip, bool with_others, bool quiet)
{
	int status;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	must(pid >= 0);
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (quiet)
			dup2(open("/dev/null", O_WRONLY), 2);
		episode(seed, skip, with_others);
	}
	must(waitpid(pid, &status, 0) == pid);
	if (status && !quiet)
		dprintf(2, "# episode %#llx ended with status %#x\n", ULL(seed),
			status);
	return status;
}

/* Does it fail, in one of @times runs? */
static bool fails(uint64_t seed, const bool *skip, bool others, int times)
{
	while (times--)
		if (try(seed, skip, others, true))
			return true;
	return false;
}

/* Leave out as many operations as can be, and show what is left. */
static void shrink(uint64_t seed, bool others)
{
	bool skip[OPS] = {}, less[OPS];
	double end = now() + 90;
	int size, at, i, left = OPS, times = 1;

	if (others && fails(seed, skip, false, 2))
		others = false;
	if (others)
		times = 8;
	if (!fails(seed, skip, others, 3 * times)) {
		dprintf(2, "# episode %#llx: not seen again in %d runs\n",
			ULL(seed), 3 * times);
		return;
	}
	for (size = OPS / 2; size; size /= 2) {
		for (at = 0; at < OPS && now() < end; at += size) {
			int n = 0;

			memcpy(less, skip, sizeof(less));
			for (i = at; i < at + size && i < OPS; i++) {
				n += !less[i];
				less[i] = true;
			}
			if (!n || !fails(seed, less, others, times))
				continue;
			memcpy(skip, less, sizeof(less));
			left -= n;
		}
	}
	dprintf(2, "# episode %#llx fails with %d of %d steps%s:\n", ULL(seed),
		left, OPS, others ? ", beside others" : "");
	verbose = true;
	for (i = 0; i < times && !try(seed, skip, others, false); i++)
		;
	verbose = false;
}

static uint64_t episode_seed(uint64_t seed, unsigned int worker, uint64_t i)
{
	return mix(mix(seed + worker) + i);
}

static bool others_in(uint64_t seed)
{
	return mix(seed + 77) % 2;
}

static void work(uint64_t seed, unsigned int worker, double end)
{
	static const bool all[OPS];
	uint64_t i;

	for (i = 0; now() < end && !get(&progress->stop); i++) {
		uint64_t s = episode_seed(seed, worker, i);

		progress->episode[worker] = s;
		if (try(s, all, others_in(s), false)) {
			__atomic_add_fetch(&progress->failures, 1,
					   __ATOMIC_ACQ_REL);
			shrink(s, others_in(s));
			if (get(&progress->failures) >= 5)
				put(&progress->stop, 1);
		}
		count(&progress->episodes);
	}
	_exit(0);
}

/* ---- the shared regions ---- */

enum { SHARED_PAGES = 70, WRITERS = SHARERS * SHARER_THREADS };

static int shared_fd[2];
static double shared_end;

struct sharer {
	pthread_t thread;
	unsigned int nr;
	uint64_t rng;
	char *mem[2];
};

#define SHARED_WRONG(...) do {						\
	dprintf(2, "# WRONG in the shared regions: " __VA_ARGS__);	\
	__atomic_add_fetch(&progress->failures, 1, __ATOMIC_ACQ_REL);	\
	put(&progress->stop, 1);					\
	_exit(1);							\
} while (0)

static uint64_t *word(char *const mem[2], unsigned int page, unsigned int who)
{
	return (uint64_t *)(mem[page / SHARED_PAGES] +
			    page % SHARED_PAGES * pgsz()) + who * 61;
}

/* Each writer is at one place only: behind it is a round less. */
static void check_cut(char *const mem[2], unsigned int pages, const char *what,
		      uint64_t sum[2])
{
	unsigned int who, page;

	count(&progress->cuts);
	for (who = 0; who < WRITERS; who++) {
		uint64_t first = *(volatile uint64_t *)word(mem, 0, who);
		uint64_t last = first;

		for (page = 1; page < pages; page++) {
			uint64_t x = *(volatile uint64_t *)word(mem, page, who);

			if (x > last || x + 1 < first)
				SHARED_WRONG("%s: writer %u is at %llu, then at page %u of %u at %llu after %llu\n",
					     what, who, ULL(first), page, pages,
					     ULL(x), ULL(last));
			last = x;
			if (sum)
				sum[0] = mix(sum[0] ^ x);
		}
	}
}

static void look_at(int fd, const char *what)
{
	char *mem[2] = { map_ro(fd, SHARED_PAGES), NULL };
	uint64_t a[2] = {}, b[2] = {};

	check_cut(mem, SHARED_PAGES, what, a);
	sched_yield();
	check_cut(mem, SHARED_PAGES, what, b);
	if (a[0] != b[0])
		SHARED_WRONG("%s changes\n", what);
	unmap(mem[0], SHARED_PAGES);
}

static void shared_op(struct sharer *s)
{
	unsigned int i = next(&s->rng, 2);
	int fd, own;

	switch (next(&s->rng, 10)) {
	case 0:
	case 1:
		fd = do_clone(shared_fd[i], next(&s->rng, 2), 0, 0);
		must(fd >= 0);
		look_at(fd, "a clone");
		close(fd);
		break;
	case 2:
	case 3: {
		int clones[2];
		struct cowmem_clone_many arg = {
			.fds = (uintptr_t)shared_fd, .count = 2,
			.clones = (uintptr_t)clones,
			.flags = next(&s->rng, 2),
		};
		char *mem[2];

		must(!ioctl(shared_fd[i], COWMEM_IOC_CLONE_MANY, &arg));
		mem[0] = map_ro(clones[0], SHARED_PAGES);
		mem[1] = map_ro(clones[1], SHARED_PAGES);
		check_cut(mem, 2 * SHARED_PAGES, "clone_many", NULL);
		unmap(mem[0], SHARED_PAGES);
		unmap(mem[1], SHARED_PAGES);
		close(clones[0]);
		close(clones[1]);
		break;
	}
	case 4: {
		struct cowmem_restore arg = { .fd = shared_fd[i] };

		own = region_of(SHARED_PAGES, next(&s->rng, 2));
		must(!ioctl(own, COWMEM_IOC_RESTORE, &arg));
		look_at(own, "a restored region");
		close(own);
		break;
	}
	case 5: {
		struct cowmem_copy arg = {
			.fd = shared_fd[i], .length = SHARED_PAGES * pgsz(),
		};

		own = region_of(SHARED_PAGES, next(&s->rng, 2));
		must(!ioctl(own, COWMEM_IOC_COPY, &arg));
		look_at(own, "a copy");
		close(own);
		break;
	}
	case 6: {
		struct cowmem_merge_range range[2] = {
			{ .fd = shared_fd[0] }, { .fd = shared_fd[1] },
		};
		struct cowmem_merge_entry t[64] = {};
		struct cowmem_merge arg = {
			.ranges = (uintptr_t)range, .count = 2,
			.table = (uintptr_t)t, .entries = 64,
		};

		must(!ioctl(shared_fd[0], COWMEM_IOC_MERGE, &arg));
		break;
	}
	case 7:
		must(!madvise(s->mem[i], SHARED_PAGES * pgsz(), MADV_DONTNEED));
		break;
	case 8:
		must(!madvise(s->mem[i], SHARED_PAGES * pgsz(),
			      next(&s->rng, 2) ? MADV_POPULATE_WRITE :
						 MADV_POPULATE_READ));
		break;
	case 9: {
		pid_t pid = fork();

		must(pid >= 0);
		if (!pid) {
			/* Killed in the middle of whatever it does. */
			for (;;) {
				close(do_clone(shared_fd[i], 0, 0, 0));
				access_byte(s->mem[i], true, false, 0);
			}
		}
		usleep(next(&s->rng, 3000));
		kill(pid, SIGKILL);
		must(waitpid(pid, NULL, 0) == pid);
		count(&progress->kills);
		break;
	}
	}
	count(&progress->ops);
}

static void *share(void *arg)
{
	struct sharer *s = arg;
	unsigned int page, at;
	uint64_t round;

	for (round = 1; now() < shared_end && !get(&progress->stop); round++) {
		at = next(&s->rng, 4 * SHARED_PAGES);
		for (page = 0; page < 2 * SHARED_PAGES; page++) {
			uint64_t *p = word(s->mem, page, s->nr);
			uint64_t x = __atomic_load_n(p, __ATOMIC_RELAXED);

			if (x != round - 1)
				SHARED_WRONG("writer %u finds %llu in page %u, not %llu\n",
					     s->nr, ULL(x), page, ULL(round - 1));
			__atomic_store_n(p, round, __ATOMIC_RELEASE);
			if (page == at)
				shared_op(s);
		}
		count(&progress->rounds);
	}
	return NULL;
}

static void share_all(uint64_t seed, unsigned int nr)
{
	struct sharer s[SHARER_THREADS];
	unsigned int i;

	for (i = 0; i < SHARER_THREADS; i++) {
		s[i].nr = nr * SHARER_THREADS + i;
		s[i].rng = mix(seed + 5000 + s[i].nr);
		s[i].mem[0] = map_rw(shared_fd[0], SHARED_PAGES);
		s[i].mem[1] = map_rw(shared_fd[1], SHARED_PAGES);
		must(!pthread_create(&s[i].thread, NULL, share, &s[i]));
	}
	for (i = 0; i < SHARER_THREADS; i++)
		must(!pthread_join(s[i].thread, NULL));
	_exit(0);
}

/* ---- */

static void report(double start)
{
	unsigned int i;

	printf("# %llu s: %llu operations in %llu episodes, %llu rounds and %llu cuts in shared regions, %llu checks, %llu kills, %llu snapshots that yielded, %llu looks at huge pages, %d failures; now",
	       ULL(now() - start), ULL(progress->ops),
	       ULL(progress->episodes), ULL(progress->rounds),
	       ULL(progress->cuts), ULL(progress->checks),
	       ULL(progress->kills), ULL(progress->yields),
	       ULL(progress->huge), get(&progress->failures));
	for (i = 0; i < WORKERS; i++)
		printf(" %#llx", ULL(progress->episode[i]));
	printf("\n");
	fflush(stdout);
}

static bool torture(uint64_t seconds, uint64_t seed)
{
	double start = now(), end = start + seconds, said = start;
	pid_t pid[WORKERS + SHARERS];
	unsigned int i, left = WORKERS + SHARERS;

	memset(progress, 0, sizeof(*progress));
	printf("# seed %llu\n", ULL(seed));
	fflush(stdout);
	shared_end = end;
	shared_fd[0] = region_of(SHARED_PAGES, 0);
	shared_fd[1] = region_of(SHARED_PAGES, 0);
	for (i = 0; i < WORKERS + SHARERS; i++) {
		pid[i] = spawn();
		if (pid[i])
			continue;
		if (i < WORKERS)
			work(seed, i, end);
		share_all(seed, i - WORKERS);
	}
	while (left) {
		int status;
		pid_t one = waitpid(-1, &status, WNOHANG);

		if (one > 0) {
			left--;
			if (status) {
				printf("# a process ended with status %#x\n",
				       status);
				__atomic_add_fetch(&progress->failures, 1,
						   __ATOMIC_ACQ_REL);
			}
			continue;
		}
		usleep(50000);
		if (now() - said > 30) {
			said = now();
			report(start);
		}
	}
	report(start);
	for (i = 0; i < ARRAY_SIZE(ops); i++)
		printf("%s %s %llu", i ? "," : "#", ops[i].name,
		       ULL(progress->by_op[i]));
	printf("\n");
	close(shared_fd[0]);
	close(shared_fd[1]);
	return !progress->failures && progress->episodes && progress->cuts;
}

/* Some seconds, or more on a machine that is too slow to get anywhere in them. */
static bool torture_briefly(uint64_t seed)
{
	uint64_t seconds = effort(16);

	while (!torture(seconds, seed) || progress->cuts < 10) {
		if (progress->failures || seconds > 30)
			return false;
		seconds *= 4;
	}
	return true;
}

int main(int argc, char **argv)
{
	static const bool all[OPS];
	uint64_t seed;

	if (argc == 6 && !strcmp(argv[1], "--exec"))
		return exec_check(argv + 2);
	progress = shared_mem(sizeof(*progress));
	can_huge = !no_huge_pages();
	if (argc > 3) {
		seed = strtoull(argv[3], NULL, 0);
		verbose = true;
		return !!try(seed, all, others_in(seed), false);
	}
	rng_init();
	seed = argc > 2 ? strtoull(argv[2], NULL, 0) : rng_state;
	ksft_print_header();
	ksft_set_plan(argc > 1 ? 1 : 2);
	if (argc > 1) {
		ksft_test_result(torture(strtoull(argv[1], NULL, 0), seed),
				 "torture, seed %llu\n", ULL(seed));
	} else {
		ksft_test_result(torture_briefly(1), "a fixed seed\n");
		ksft_test_result(torture_briefly(seed), "a fresh seed\n");
	}
	ksft_finished();
}
