// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Regions: every call does what it says, and each errno that can be had comes
 *
 * Needs the module, and root.
 */
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "tap.h"

#define PAGE	page_size()

static char *map_all(int fd, size_t size, int prot)
{
	char *mem = cowmem_map(fd, 0, size, prot);

	CHECK(mem != MAP_FAILED);
	return mem;
}

static bool closes_on_exec(int fd)
{
	return fcntl(fd, F_GETFD) & FD_CLOEXEC;
}

static void create(void)
{
	int fd = cowmem_create("a name", 3 * PAGE + 5, 0);
	char path[64], name[256] = "";
	struct stat st;

	CHECK(fd >= 0);
	CHECK(closes_on_exec(fd));
	EQUAL(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDWR);
	EQUAL(fstat(fd, &st), 0);
	CHECK(S_ISREG(st.st_mode));
	EQUAL(st.st_size, 3 * PAGE + 5);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	CHECK(readlink(path, name, sizeof(name) - 1) > 0);
	CHECK(!strcmp(name, "/cowmem:a name (deleted)"));
	EQUAL(get(fd, 3 * PAGE), 0);
	close(fd);

	fd = cowmem_create(NULL, 0, COWMEM_CREATE_HUGE);
	CHECK(fd >= 0);
	EQUAL(lseek(fd, 0, SEEK_END), 0);
	close(fd);
}

static void create_errors(void)
{
	char name[COWMEM_FILE_NAME_MAX + 2];
	struct rlimit old, few = { 3, 3 };
	int fd;

	memset(name, 'x', sizeof(name));
	name[COWMEM_FILE_NAME_MAX + 1] = '\0';
	ERRNO(cowmem_create(name, 0, 0), EINVAL);
	name[COWMEM_FILE_NAME_MAX] = '\0';
	fd = cowmem_create(name, 0, 0);
	CHECK(fd >= 0);
	close(fd);
	ERRNO(cowmem_create(NULL, 0, COWMEM_FILE_RDONLY), EINVAL);
	ERRNO(cowmem_create(NULL, 0, 1U << 31), EINVAL);
	ERRNO(cowmem_create(NULL, UINT64_MAX, 0), EFBIG);
	ERRNO(cowmem_create(NULL, 1ULL << 63, 0), EFBIG);

	want_limits();
	EQUAL(getrlimit(RLIMIT_NOFILE, &old), 0);
	few.rlim_max = old.rlim_max;
	EQUAL(setrlimit(RLIMIT_NOFILE, &few), 0);
	ERRNO(cowmem_create(NULL, 0, 0), EMFILE);
	/* The device's descriptor is had, the file's is not: it must not stay open. */
	few.rlim_cur = 4;
	EQUAL(setrlimit(RLIMIT_NOFILE, &few), 0);
	ERRNO(cowmem_create(NULL, 0, 0), EMFILE);
	ERRNO(cowmem_create(NULL, 0, 0), EMFILE);
	EQUAL(setrlimit(RLIMIT_NOFILE, &old), 0);
}

/* Who may not open the device is told so. */
static void create_as_nobody(void)
{
	uint64_t features;

	EQUAL(setgid(65534), 0);
	EQUAL(setuid(65534), 0);
	ERRNO(cowmem_create(NULL, 0, 0), EACCES);
	ERRNO(cowmem_features(&features), EACCES);
}

static void features(void)
{
	uint64_t features = 0;

	EQUAL(cowmem_features(&features), 0);
	CHECK(features & COWMEM_FEATURE_EXPENDABLE);
}

static void reopen(void)
{
	int fd = make(PAGE), ro, view, other;

	put(fd, 0, 'a');
	other = cowmem_reopen(fd, NULL, 0);
	ro = cowmem_reopen(fd, "ro", COWMEM_FILE_RDONLY);
	view = cowmem_reopen(fd, "view", COWMEM_FILE_VIEW);
	CHECK(other >= 0 && ro >= 0 && view >= 0);
	CHECK(closes_on_exec(other) && closes_on_exec(ro) && closes_on_exec(view));
	put(other, 0, 'b');
	EQUAL(get(fd, 0), 'b');
	EQUAL(get(view, 0), 'b');
	EQUAL(get(ro, 0), 'b');
	ERRNO(pwrite(ro, "", 1, 0), EBADF);
	ERRNO(pwrite(view, "", 1, 0), EBADF);
	ERRNO(cowmem_reopen(ro, NULL, 0), EBADF);
	ERRNO(cowmem_reopen(view, NULL, COWMEM_FILE_RDONLY), EACCES);
	ERRNO(cowmem_reopen(fd, NULL, COWMEM_FILE_RDONLY | COWMEM_FILE_VIEW), EINVAL);
	ERRNO(cowmem_reopen(fd, NULL, 1U << 31), EOPNOTSUPP);
	EQUAL(cowmem_seal(fd, COWMEM_SEAL_WRITE), 0);
	ERRNO(cowmem_reopen(fd, NULL, 0), EPERM);
	close(fd);
	close(ro);
	close(view);
	close(other);
}

static void clone_whole(void)
{
	int fd = make(2 * PAGE), copy, snapshot, ro;

	put(fd, 0, 'a');
	copy = cowmem_clone(fd, 0);
	snapshot = cowmem_snapshot(fd);
	CHECK(copy >= 0 && snapshot >= 0);
	CHECK(closes_on_exec(copy) && closes_on_exec(snapshot));
	put(fd, 0, 'b');
	put(copy, 0, 'c');
	EQUAL(get(fd, 0), 'b');
	EQUAL(get(copy, 0), 'c');
	EQUAL(get(snapshot, 0), 'a');
	ERRNO(pwrite(snapshot, "", 1, 0), EBADF);
	ro = cowmem_reopen(fd, NULL, COWMEM_FILE_RDONLY);
	CHECK(ro >= 0);
	close(copy);
	copy = cowmem_clone(ro, 0);	/* who may read may clone */
	CHECK(copy >= 0);
	ERRNO(cowmem_clone(fd, COWMEM_CLONE_EXPENDABLE), EINVAL);
	ERRNO(cowmem_clone(fd, 1U << 31), EOPNOTSUPP);
	close(ro);
	close(copy);
	close(snapshot);
	close(fd);
}

static void clone_range(void)
{
	int fd = make(4 * PAGE), part;

	put(fd, PAGE, 'a');
	put(fd, 2 * PAGE, 'b');
	part = cowmem_clone_range(fd, PAGE, PAGE, 0);
	CHECK(part >= 0);
	EQUAL(lseek(part, 0, SEEK_END), PAGE);
	EQUAL(get(part, 0), 'a');
	close(part);
	part = cowmem_clone_range(fd, 2 * PAGE, 0, COWMEM_CLONE_SNAPSHOT);
	CHECK(part >= 0);
	EQUAL(lseek(part, 0, SEEK_END), 2 * PAGE);
	EQUAL(get(part, 0), 'b');
	close(part);
	ERRNO(cowmem_clone_range(fd, 1, PAGE, 0), EINVAL);
	ERRNO(cowmem_clone_range(fd, 0, 1, 0), EINVAL);
	ERRNO(cowmem_clone_range(fd, PAGE, 4 * PAGE, 0), EINVAL);
	ERRNO(cowmem_clone_range(fd, -PAGE, 2 * PAGE, 0), EINVAL);
	close(fd);
}

static void clone_many(void)
{
	int fds[3] = { make(PAGE), make(2 * PAGE), -1 }, clones[3] = { -1, -1, -1 }, i;

	fds[2] = fds[0];
	put(fds[0], 0, 'a');
	put(fds[1], 0, 'b');
	EQUAL(cowmem_clone_many(fds, clones, 3, COWMEM_CLONE_SNAPSHOT), 0);
	EQUAL(get(clones[0], 0), 'a');
	EQUAL(get(clones[1], 0), 'b');
	EQUAL(get(clones[2], 0), 'a');
	for (i = 0; i < 3; i++) {
		CHECK(closes_on_exec(clones[i]));
		close(clones[i]);
	}
	ERRNO(cowmem_clone_many(fds, clones, 0, 0), EINVAL);
	ERRNO(cowmem_clone_many(fds, clones, COWMEM_CLONE_MANY_MAX + 1, 0), EINVAL);
	if (sizeof(size_t) > sizeof(uint32_t))
		ERRNO(cowmem_clone_many(fds, clones, (size_t)((1ULL << 32) + 1), 0), EINVAL);
	ERRNO(cowmem_clone_many(fds, NULL, 2, 0), EFAULT);
	fds[2] = open("/dev/null", O_RDWR);
	ERRNO(cowmem_clone_many(fds, clones, 3, 0), ENOTTY);
	close(fds[2]);
	ERRNO(cowmem_clone_many(fds, clones, 3, 0), EBADF);
	/* Into the same array. */
	memcpy(clones, fds, sizeof(clones));
	EQUAL(cowmem_clone_many(clones, clones, 2, 0), 0);
	CHECK(clones[0] != fds[0] && clones[1] != fds[1]);
	for (i = 0; i < 2; i++) {
		close(clones[i]);
		close(fds[i]);
	}
}

static void restore(void)
{
	int fd = make(3 * PAGE), snapshot, larger = make(4 * PAGE);
	uint64_t pages = 77;

	put(fd, 0, 'a');
	snapshot = cowmem_snapshot(fd);
	put(fd, 0, 'b');
	put(fd, 2 * PAGE, 'c');
	EQUAL(cowmem_restore(fd, snapshot, 0, &pages), 0);
	EQUAL(pages, 2);
	EQUAL(get(fd, 0), 'a');
	EQUAL(get(fd, 2 * PAGE), 0);
	EQUAL(cowmem_restore(fd, snapshot, COWMEM_RESTORE_KEEP, NULL), 0);
	ERRNO(cowmem_restore(fd, larger, 0, &pages), EINVAL);
	EQUAL(cowmem_restore(fd, larger, COWMEM_RESTORE_SIZE, NULL), 0);
	EQUAL(lseek(fd, 0, SEEK_END), 4 * PAGE);
	ERRNO(cowmem_restore(fd, snapshot, 1U << 31, NULL), EOPNOTSUPP);
	EQUAL(cowmem_seal(fd, COWMEM_SEAL_GROW | COWMEM_SEAL_SHRINK), 0);
	ERRNO(cowmem_restore(fd, snapshot, COWMEM_RESTORE_SIZE, NULL), EPERM);
	close(snapshot);
	close(larger);
	close(fd);
}

static void restore_range(void)
{
	int fd = make(3 * PAGE), snapshot;
	uint64_t pages;

	snapshot = cowmem_snapshot(fd);
	put(fd, 0, 'a');
	put(fd, PAGE, 'b');
	put(fd, 2 * PAGE, 'c');
	EQUAL(cowmem_restore_range(fd, snapshot, PAGE, PAGE, &pages), 0);
	EQUAL(pages, 1);
	EQUAL(get(fd, 0), 'a');
	EQUAL(get(fd, PAGE), 0);
	EQUAL(get(fd, 2 * PAGE), 'c');
	/* Nothing is not everything. */
	ERRNO(cowmem_restore_range(fd, snapshot, 0, 0, NULL), EINVAL);
	EQUAL(get(fd, 0), 'a');
	ERRNO(cowmem_restore_range(fd, snapshot, 1, PAGE, NULL), EINVAL);
	ERRNO(cowmem_restore_range(fd, snapshot, PAGE, 3 * PAGE, NULL), EINVAL);
	close(snapshot);
	close(fd);
}

static void resize(void)
{
	int fd = make(PAGE);

	EQUAL(cowmem_resize(fd, 3 * PAGE + 1), 0);
	EQUAL(lseek(fd, 0, SEEK_END), 3 * PAGE + 1);
	EQUAL(cowmem_resize(fd, 0), 0);
	EQUAL(lseek(fd, 0, SEEK_END), 0);
	ERRNO(cowmem_resize(fd, UINT64_MAX), EFBIG);
	EQUAL(cowmem_seal(fd, COWMEM_SEAL_GROW), 0);
	ERRNO(cowmem_resize(fd, 1), EPERM);
	close(fd);
}

static void discard(void)
{
	int fd = make(2 * PAGE);
	struct cowmem_info info;

	put(fd, 0, 'a');
	put(fd, 10, 'b');
	put(fd, PAGE, 'c');
	EQUAL(cowmem_discard(fd, 5, 10), 0);
	EQUAL(get(fd, 0), 'a');
	EQUAL(get(fd, 10), 0);
	EQUAL(cowmem_discard(fd, PAGE, PAGE), 0);
	EQUAL(get(fd, PAGE), 0);
	EQUAL(cowmem_get_info(fd, &info), 0);
	EQUAL(info.pages_populated, 1);
	ERRNO(cowmem_discard(fd, 0, 0), EINVAL);
	ERRNO(cowmem_discard(fd, PAGE, 2 * PAGE), EINVAL);
	EQUAL(cowmem_seal(fd, COWMEM_SEAL_WRITE), 0);
	ERRNO(cowmem_discard(fd, 0, 1), EPERM);
	close(fd);
}

static void copy(void)
{
	int from = make(2 * PAGE), to = make(2 * PAGE), null;
	struct cowmem_info info;

	put(from, PAGE, 'a');
	EQUAL(cowmem_copy(to, 0, from, PAGE, PAGE), 0);
	EQUAL(get(to, 0), 'a');
	EQUAL(cowmem_get_info(to, &info), 0);
	EQUAL(info.pages_shared, 1);
	EQUAL(cowmem_copy(to, PAGE, to, 0, PAGE), 0);
	EQUAL(get(to, PAGE), 'a');
	ERRNO(cowmem_copy(to, 0, from, 0, 0), EINVAL);
	ERRNO(cowmem_copy(to, 1, from, 0, PAGE), EINVAL);
	ERRNO(cowmem_copy(to, 0, from, PAGE, 2 * PAGE), EINVAL);
	null = open("/dev/null", O_RDWR);
	ERRNO(cowmem_copy(to, 0, null, 0, PAGE), ENOTTY);
	ERRNO(cowmem_copy(null, 0, from, 0, PAGE), ENOTTY);
	close(null);
	ERRNO(cowmem_copy(to, 0, null, 0, PAGE), EBADF);
	EQUAL(cowmem_seal(to, COWMEM_SEAL_WRITE), 0);
	ERRNO(cowmem_copy(to, 0, from, 0, PAGE), EPERM);
	close(from);
	close(to);
}

static void seal(void)
{
	int fd = make(PAGE);
	struct cowmem_info info;
	char *mem = map_all(fd, PAGE, PROT_READ | PROT_WRITE);

	ERRNO(cowmem_seal(fd, COWMEM_SEAL_WRITE), EBUSY);
	munmap(mem, PAGE);
	EQUAL(cowmem_seal(fd, COWMEM_SEAL_WRITE | COWMEM_SEAL_SEAL), 0);
	EQUAL(cowmem_get_info(fd, &info), 0);
	EQUAL(info.seals, COWMEM_SEAL_WRITE | COWMEM_SEAL_SEAL);
	ERRNO(cowmem_seal(fd, COWMEM_SEAL_GROW), EPERM);
	ERRNO(cowmem_seal(fd, 1U << 31), EINVAL);
	close(fd);
}

static void info(void)
{
	int fd = make(10 * PAGE), clone;
	struct cowmem_info info;

	put(fd, 0, 'a');
	put(fd, PAGE, 'b');
	clone = cowmem_clone(fd, 0);
	put(fd, 0, 'c');
	memset(&info, 0xff, sizeof(info));
	EQUAL(cowmem_get_info(fd, &info), 0);
	EQUAL(info.flags, 0);
	EQUAL(info.size, 10 * PAGE);
	EQUAL(info.pages_populated, 2);
	EQUAL(info.pages_exclusive, 1);
	EQUAL(info.pages_shared, 1);
	EQUAL(info.clones, 1);
	close(clone);
	close(fd);
}

/* Whatever the descriptor may be used for, and whatever the region is. */
static void is_region(void)
{
	int fd = make(PAGE), device = open("/dev/cowmem", O_RDONLY), i;
	int fds[] = {
		fd, device, cowmem_reopen(fd, NULL, COWMEM_FILE_RDONLY), cowmem_reopen(fd, NULL, COWMEM_FILE_VIEW),
		cowmem_snapshot(fd), cowmem_create(NULL, 0, 0),
	};

	errno = ERANGE;
	for (i = 0; i < 6; i++) {
		CHECK(fds[i] >= 0);
		EQUAL(cowmem_is_region(fds[i]), 1);
		close(fds[i]);
		EQUAL(cowmem_is_region(fds[i]), 0);
	}
	EQUAL(cowmem_is_region(-1), 0);
	EQUAL(errno, ERANGE);
}

/* Each call of a descriptor that is closed, or not a region's, or not open for it. */
static void no_region(void)
{
	static const char *const paths[] = { "/dev/null", "/proc/self/maps", "/", "/tmp" };
	struct cowmem_info info;
	int fd = make(PAGE), other, pair[2];
	size_t i;

	for (i = 0; i < sizeof(paths) / sizeof(paths[0]) + 1; i++) {
		if (i < sizeof(paths) / sizeof(paths[0])) {
			other = open(paths[i], O_RDONLY);
		} else {
			EQUAL(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
			close(pair[0]);
			other = pair[1];
		}
		CHECK(other >= 0);
		EQUAL(cowmem_is_region(other), 0);
		ERRNO(cowmem_get_info(other, &info), ENOTTY);
		ERRNO(cowmem_reopen(other, NULL, COWMEM_FILE_RDONLY), ENOTTY);
		ERRNO(cowmem_clone(other, 0), ENOTTY);
		ERRNO(cowmem_clone_many(&other, &other, 1, 0), ENOTTY);
		ERRNO(cowmem_resize(other, 0), ENOTTY);
		ERRNO(cowmem_discard(other, 0, 1), ENOTTY);
		ERRNO(cowmem_seal(other, 0), ENOTTY);
		ERRNO(cowmem_restore(other, fd, 0, NULL), ENOTTY);
		ERRNO(cowmem_restore(fd, other, 0, NULL), ENOTTY);
		ERRNO(cowmem_diff(other, fd, 0, NULL, NULL), ENOTTY);
		ERRNO(cowmem_diff(fd, other, 0, NULL, NULL), ENOTTY);
		close(other);
		EQUAL(cowmem_is_region(other), 0);
		ERRNO(cowmem_get_info(other, &info), EBADF);
		ERRNO(cowmem_clone(other, 0), EBADF);
		ERRNO(cowmem_restore(fd, other, 0, NULL), EBADF);
		ERRNO(cowmem_diff(fd, other, 0, NULL, NULL), EBADF);
	}
	/* A path alone may not be used for anything. */
	other = open("/dev/cowmem", O_PATH);
	ERRNO(cowmem_get_info(other, &info), EBADF);
	close(other);
	other = cowmem_reopen(fd, NULL, COWMEM_FILE_RDONLY);
	ERRNO(cowmem_resize(other, 0), EBADF);
	ERRNO(cowmem_discard(other, 0, 1), EBADF);
	ERRNO(cowmem_restore(other, fd, 0, NULL), EBADF);
	close(other);
	close(fd);
}

/* ---- differences ---- */

struct extents {
	unsigned int nr;
	struct cowmem_extent first, last;
	unsigned int end_at;		/* return -7 there, 0: never */
	int close_fd;
};

static int note(const struct cowmem_extent *extent, void *arg)
{
	struct extents *e = arg;

	if (!e->nr++)
		e->first = *extent;
	e->last = *extent;
	if (e->close_fd > 0)
		close(e->close_fd);
	return e->nr == e->end_at ? -7 : 0;
}

static void diff(void)
{
	int fd = make(1ULL << 30), before;
	struct extents e = { 0 };

	put(fd, 5 * PAGE, 'x');
	before = cowmem_snapshot(fd);
	EQUAL(cowmem_diff(fd, before, 0, note, &e), 0);
	EQUAL(e.nr, 0);
	put(fd, 0, 'a');
	put(fd, PAGE, 'b');
	EQUAL(cowmem_discard(fd, 5 * PAGE, PAGE), 0);
	EQUAL(cowmem_diff(fd, before, 0, note, &e), 0);
	EQUAL(e.nr, 2);
	EQUAL(e.first.offset, 0);
	EQUAL(e.first.length, 2 * PAGE);
	EQUAL(e.first.kind, COWMEM_EXTENT_DATA);
	EQUAL(e.last.offset, 5 * PAGE);
	EQUAL(e.last.length, PAGE);
	EQUAL(e.last.kind, COWMEM_EXTENT_HOLE);
	ERRNO(cowmem_diff(fd, before, 1U << 31, note, &e), EOPNOTSUPP);
	/* Equal copies. */
	put(fd, 5 * PAGE, 'x');
	EQUAL(cowmem_discard(fd, 0, 2 * PAGE), 0);
	memset(&e, 0, sizeof(e));
	EQUAL(cowmem_diff(fd, before, 0, note, &e), 0);
	EQUAL(e.nr, 1);
	memset(&e, 0, sizeof(e));
	EQUAL(cowmem_diff(fd, before, COWMEM_DIFF_CONTENT, note, &e), 0);
	EQUAL(e.nr, 0);
	close(before);
	close(fd);
}

/* More extents than one ioctl returns; and one that is longer than what the module looks at in one go. */
static void diff_joins(void)
{
	unsigned int nr = 1000, i;
	int fd = make(1ULL << 30), before = make(1ULL << 30);
	struct extents e = { 0 };

	for (i = 0; i < nr; i++)
		put(fd, 2 * i * PAGE, 'a');
	EQUAL(cowmem_diff(fd, before, 0, note, &e), 0);
	EQUAL(e.nr, nr);
	EQUAL(e.last.offset, 2 * (nr - 1) * PAGE);

	EQUAL(cowmem_discard(fd, 0, 1ULL << 30), 0);
	EQUAL(posix_fallocate(fd, 0, 128 << 20), 0);
	memset(&e, 0, sizeof(e));
	EQUAL(cowmem_diff(fd, before, 0, note, &e), 0);
	EQUAL(e.nr, 1);
	EQUAL(e.first.length, 128 << 20);
	close(before);
	close(fd);
}

static int clone_and_diff(const struct cowmem_extent *extent, void *arg)
{
	int *fd = arg, copy = cowmem_clone(*fd, 0);
	struct extents e = { 0 };

	CHECK(copy >= 0);
	EQUAL(cowmem_diff(copy, *fd, 0, note, &e), 0);
	EQUAL(e.nr, 0);
	put(*fd, extent->offset, 'z');
	close(copy);
	return 0;
}

static void diff_callback(void)
{
	int fd = make(4096 * PAGE), before = make(4096 * PAGE), copy;
	struct extents e = { .end_at = 300 };
	unsigned int i;

	for (i = 0; i < 1000; i++)
		put(fd, 2 * i * PAGE, 'a');
	EQUAL(cowmem_diff(fd, before, 0, note, &e), -7);
	EQUAL(e.nr, 300);
	EQUAL(cowmem_diff(fd, before, 0, clone_and_diff, &fd), 0);
	/* The last one is told of after the last ioctl. */
	e = (struct extents) { .end_at = 1000 };
	EQUAL(cowmem_diff(fd, before, 0, note, &e), -7);
	copy = cowmem_clone(fd, 0);
	e = (struct extents) { .close_fd = copy };
	ERRNO(cowmem_diff(copy, before, 0, note, &e), EBADF);
	close(before);
	close(fd);
}

/* ---- equal pages ---- */

static void fill(int fd, unsigned int pages, const char *seed)
{
	char page[PAGE];
	unsigned int i;

	for (i = 0; i < pages; i++) {
		memset(page, 0, sizeof(page));
		snprintf(page, sizeof(page), "%s %u", seed, i);
		EQUAL(pwrite(fd, page, sizeof(page), i * PAGE), sizeof(page));
	}
}

static void merge(void)
{
	struct cowmem_merger *m = cowmem_merger_new(0);
	int a = make(300 * PAGE), b = make(300 * PAGE);
	struct cowmem_merge_stats stats;
	unsigned int steps = 1;
	char zeroes[PAGE];

	CHECK(m);
	memset(zeroes, 0, PAGE);
	fill(a, 300, "same");
	fill(b, 300, "same");
	EQUAL(pwrite(b, zeroes, PAGE, 299 * PAGE), PAGE);
	EQUAL(cowmem_merger_add(m, a, 0, 0), 0);
	EQUAL(cowmem_merger_add(m, b, 0, 0), 0);
	while (!cowmem_merger_step(m, 64, &stats))
		steps++;
	EQUAL(errno, 0);
	CHECK(steps >= 600 / 64);
	EQUAL(stats.rounds, 1);
	EQUAL(stats.scanned, 600);
	EQUAL(stats.zeroed, 1);
	CHECK(stats.merged > 250 && stats.merged <= 299);
	/* Pages of larger folios, as what is written in order has on some kernels, are freed with the last of them. */
	CHECK(stats.saved > 0 && stats.saved <= (stats.merged + 1) * PAGE);
	EQUAL(get(b, 5 * PAGE), 's');
	/* Another round begins by itself, finds what was written since, and adds up. */
	EQUAL(pwrite(b, zeroes, PAGE, 0), PAGE);
	EQUAL(cowmem_merger_step(m, 0, &stats), 1);
	EQUAL(stats.rounds, 2);
	EQUAL(stats.zeroed, 2);
	close(a);
	close(b);
	cowmem_merger_free(m);
}

/* Memory that is locked cannot be emptied in place. */
static void merge_locked(void)
{
	struct cowmem_merger *m = cowmem_merger_new(0);
	struct cowmem_merge_stats stats;
	int fd = make(2 * PAGE), i;

	EQUAL(mlockall(MCL_FUTURE), 0);
	EQUAL(cowmem_merger_add(m, fd, 0, 0), 0);
	for (i = 1; i <= 3; i++) {
		fill(fd, 1, "same");
		EQUAL(cowmem_copy(fd, PAGE, fd, 0, PAGE), 0);
		EQUAL(cowmem_merger_step(m, 0, &stats), 1);
		EQUAL(stats.rounds, i);
	}
	cowmem_merger_free(m);
	EQUAL(munlockall(), 0);
	close(fd);
}

static void merge_errors(void)
{
	struct cowmem_merger *m = cowmem_merger_new(100);
	int fd = make(PAGE), ro = cowmem_reopen(fd, NULL, COWMEM_FILE_RDONLY), null = open("/dev/null", O_RDWR);
	int i;

	ERRNO(cowmem_merger_step(m, 0, NULL), EINVAL);
	ERRNO(cowmem_merger_add(m, ro, 0, 0), EBADF);
	ERRNO(cowmem_merger_add(m, null, 0, 0), ENOTTY);
	ERRNO(cowmem_merger_add(m, fd, 1, 0), EINVAL);
	ERRNO(cowmem_merger_add(m, fd, 0, 1), EINVAL);
	ERRNO(cowmem_merger_add(m, fd, -PAGE, 2 * PAGE), EINVAL);
	for (i = 0; i < COWMEM_MERGE_MAX; i++)
		EQUAL(cowmem_merger_add(m, fd, 0, PAGE), 0);
	ERRNO(cowmem_merger_add(m, fd, 0, 0), ENOSPC);
	EQUAL(cowmem_merger_step(m, 0, NULL), 1);
	EQUAL(cowmem_seal(fd, COWMEM_SEAL_WRITE), 0);
	ERRNO(cowmem_merger_step(m, 0, NULL), EPERM);
	close(null);
	close(ro);
	close(fd);
	errno = 123;
	cowmem_merger_free(m);
	cowmem_merger_free(NULL);
	EQUAL(errno, 123);
}

/* ---- mappings ---- */

static void map(void)
{
	int fd = make(2 * PAGE);
	char *mem = map_all(fd, 2 * PAGE, PROT_READ | PROT_WRITE);
	char *second = cowmem_map(fd, PAGE, PAGE, PROT_READ);

	mem[PAGE] = 'x';
	EQUAL(second[0], 'x');
	CHECK(cowmem_map(fd, 1, PAGE, PROT_READ) == MAP_FAILED && errno == EINVAL);
	CHECK(cowmem_map(fd, 0, 0, PROT_READ) == MAP_FAILED && errno == EINVAL);
	CHECK(cowmem_map(fd, UINT64_MAX - PAGE + 1, PAGE, PROT_READ) == MAP_FAILED && errno == EINVAL);
	CHECK(cowmem_map(-1, 0, PAGE, PROT_READ) == MAP_FAILED && errno == EBADF);
	munmap(mem, 2 * PAGE);
	munmap(second, PAGE);
	close(fd);
}

static volatile bool stop;

/* Reads what is remapped all the time: a or b, and never a fault. */
static void *reader(void *arg)
{
	const volatile char *mem = arg;

	while (!stop) {
		char seen = mem[0];

		if (seen != 'a' && seen != 'b')
			FAIL("saw %d", seen);
	}
	return NULL;
}

static void remap(void)
{
	int a = make(PAGE), b = make(PAGE), ro = cowmem_reopen(a, NULL, COWMEM_FILE_RDONLY), i;
	char *mem = map_all(a, PAGE, PROT_READ);
	pthread_t thread;

	put(a, 0, 'a');
	put(b, 0, 'b');
	EQUAL(pthread_create(&thread, NULL, reader, mem), 0);
	for (i = 0; i < (int)effort(2000); i++) {
		EQUAL(cowmem_remap(mem, PAGE, i & 1 ? a : b, 0, PROT_READ), 0);
		EQUAL(mem[0], i & 1 ? 'a' : 'b');
	}
	/* What fails leaves it there. */
	ERRNO(cowmem_remap(mem, PAGE, b, 1, PROT_READ), EINVAL);
	ERRNO(cowmem_remap(mem, PAGE, ro, 0, PROT_READ | PROT_WRITE), EACCES);
	ERRNO(cowmem_remap(mem, PAGE, -1, 0, PROT_READ), EBADF);
	ERRNO(cowmem_remap(mem + 1, PAGE, b, 0, PROT_READ), EINVAL);
	ERRNO(cowmem_remap(NULL, PAGE, b, 0, PROT_READ), EINVAL);
	EQUAL(mem[0], 'a');
	stop = true;
	EQUAL(pthread_join(thread, NULL), 0);
	munmap(mem, PAGE);
	close(ro);
	close(a);
	close(b);
}

/* What only the region itself refuses, when the arguments were found good, leaves the old mapping there as well. */
static void remap_refused(void)
{
	int a = make(PAGE), sealed = make(PAGE), i;
	char *mem = map_all(a, PAGE, PROT_READ | PROT_WRITE);
	pthread_t thread;

	put(a, 0, 'a');
	EQUAL(cowmem_seal(sealed, COWMEM_SEAL_WRITE), 0);
	EQUAL(pthread_create(&thread, NULL, reader, mem), 0);
	for (i = 0; i < 100; i++) {
		ERRNO(cowmem_remap(mem, PAGE, sealed, 0, PROT_READ | PROT_WRITE), EPERM);
		EQUAL(mem[0], 'a');
	}
	stop = true;
	EQUAL(pthread_join(thread, NULL), 0);
	munmap(mem, PAGE);
	close(sealed);
	close(a);
}

/* A mount at /tmp/m that has room for so many pages. */
static void mount_with(unsigned int pages)
{
	char size[32];

	mkdir("/tmp/m", 0755);
	snprintf(size, sizeof(size), "size=%llu", (unsigned long long)(pages * PAGE));
	EQUAL(mount("cowmem", "/tmp/m", "cowmem", 0, size), 0);
}

/* Nor can a snapshot that has yielded be mapped. */
static void remap_yielded(void)
{
	int fd, snapshot, page;
	char *mem;

	mount_with(32);
	fd = open("/tmp/m/file", O_RDWR | O_CREAT, 0600);
	EQUAL(cowmem_is_region(fd), 1);
	for (page = 0; page < 20; page++)
		put(fd, page * PAGE, 'a');
	mem = map_all(fd, PAGE, PROT_READ);
	snapshot = cowmem_clone(fd, COWMEM_CLONE_SNAPSHOT | COWMEM_CLONE_EXPENDABLE);
	CHECK(snapshot >= 0);
	for (page = 0; page < 20; page++)
		put(fd, page * PAGE, 'b');
	ERRNO(cowmem_remap(mem, PAGE, snapshot, 0, PROT_READ), EIO);
	EQUAL(mem[0], 'b');
	munmap(mem, PAGE);
	close(snapshot);
	close(fd);
	EQUAL(umount("/tmp/m"), 0);
}

/* Where only a part of the range is mapped, the rest of it is the place that the kernel takes next. */
static void remap_over_holes(void)
{
	int fd = make(5 * PAGE), i;
	char *room = map_all(fd, 5 * PAGE, PROT_READ);

	for (i = 0; i < 5; i++)
		put(fd, i * PAGE, 'a' + i);
	for (i = 0; i < 3; i++) {
		munmap(room, 5 * PAGE);
		if (i)
			CHECK(mmap(room + (i + 1) * PAGE, PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0) ==
			      room + (i + 1) * PAGE);
		EQUAL(cowmem_remap(room, 5 * PAGE, fd, 0, PROT_READ), 0);
		EQUAL(room[0], 'a');
		EQUAL(room[4 * PAGE], 'e');
	}
	munmap(room, 5 * PAGE);
	close(fd);
}

/* ---- mounts ---- */

static void mounts(void)
{
	int fd, snapshot, other, outside = make(PAGE);
	char path[64];
	struct stat st;

	mount_with(16);
	fd = open("/tmp/m/file", O_RDWR | O_CREAT, 0600);
	EQUAL(cowmem_is_region(fd), 1);
	put(fd, 0, 'a');
	snapshot = cowmem_snapshot(fd);
	CHECK(snapshot >= 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", snapshot);
	EQUAL(linkat(AT_FDCWD, path, AT_FDCWD, "/tmp/m/before", AT_SYMLINK_FOLLOW), 0);
	EQUAL(stat("/tmp/m/before", &st), 0);
	EQUAL(st.st_size, 1);
	EQUAL(posix_fallocate(fd, 0, 256 * PAGE), ENOSPC);
	mkdir("/tmp/n", 0755);
	EQUAL(mount("cowmem", "/tmp/n", "cowmem", 0, NULL), 0);
	other = open("/tmp/n/file", O_RDWR | O_CREAT, 0600);
	EQUAL(cowmem_resize(other, PAGE), 0);
	EQUAL(cowmem_resize(fd, PAGE), 0);
	ERRNO(cowmem_copy(other, 0, fd, 0, PAGE), EXDEV);
	ERRNO(cowmem_restore(other, fd, 0, NULL), EXDEV);
	EQUAL(cowmem_copy(outside, 0, fd, 0, PAGE), 0);
	close(outside);
	close(other);
	close(snapshot);
	close(fd);
	EQUAL(umount("/tmp/m"), 0);
	EQUAL(umount("/tmp/n"), 0);
}

static const struct test tests[] = {
	{ "create", create },
	{ "create_errors", create_errors },
	{ "create_as_nobody", create_as_nobody },
	{ "features", features },
	{ "reopen", reopen },
	{ "clone", clone_whole },
	{ "clone_range", clone_range },
	{ "clone_many", clone_many },
	{ "restore", restore },
	{ "restore_range", restore_range },
	{ "resize", resize },
	{ "discard", discard },
	{ "copy", copy },
	{ "seal", seal },
	{ "info", info },
	{ "is_region", is_region },
	{ "no_region", no_region },
	{ "diff", diff },
	{ "diff_joins", diff_joins },
	{ "diff_callback", diff_callback },
	{ "merge", merge },
	{ "merge_errors", merge_errors },
	{ "merge_locked", merge_locked },
	{ "map", map },
	{ "remap", remap },
	{ "remap_refused", remap_refused },
	{ "remap_yielded", remap_yielded },
	{ "remap_over_holes", remap_over_holes },
	{ "mounts", mounts },
	{ NULL, NULL }
};

int main(int argc, char **argv)
{
	return run_tests(tests, argc, argv);
}
