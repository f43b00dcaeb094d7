// SPDX-License-Identifier: GPL-2.0-only
/*
 * Promise: files of a mount are regions that share pages, each of which counts once
 * against size=, exactly up to the limit, and nothing is left when the mount is gone.
 *
 * What a tmpfs does as well is in as_tmpfs.c.
 */
#include <dirent.h>
#include <grp.h>
#include <limits.h>
#include <pthread.h>
#include <sys/inotify.h>
#include <sys/mount.h>
#include <sys/sendfile.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <linux/falloc.h>
#include <linux/fs.h>

#include "../kselftest_harness.h"
#include "common.h"
#include "areas.h"
#include "files.h"
#include "module.h"

#ifndef SYS_fsopen
#define SYS_fsopen	430
#define SYS_fsconfig	431
#define SYS_fsmount	432
#endif
#ifndef SYS_mount_setattr
#define SYS_open_tree	428
#define SYS_move_mount	429
#define SYS_mount_setattr 442
#endif

/* <sys/mount.h> and <linux/mount.h> cannot both be had everywhere. */
enum {
	SET_FLAG, SET_STRING, SET_BINARY, SET_PATH, SET_PATH_EMPTY, SET_FD, CREATE,
	RECONFIGURE,
};

/* ---- two mounts, in a namespace of their own ---- */

FIXTURE(mount) {
	char base[32];
	char a[40], b[40], tmpfs[40];
	long held;
};

static void make_place(char *path, const char *base, const char *name)
{
	sprintf(path, "%s/%s", base, name);
	must(!mkdir(path, 0755));
}

FIXTURE_SETUP(mount)
{
	sprintf(self->base, "/tmp/mount.XXXXXX");
	must(mkdtemp(self->base));
	must(!chmod(self->base, 0755));
	make_place(self->a, self->base, "a");
	make_place(self->b, self->base, "b");
	make_place(self->tmpfs, self->base, "tmpfs");
	must(!unshare(CLONE_NEWNS));
	must(!mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
	self->held = held();
	if (mount("m", self->a, "cowmem", 0, NULL)) {
		must(errno == ENODEV);
		SKIP(return, "no cowmem file system here");
	}
	must(!umount(self->a));
}

/* What is still mapped of the files below @base */
static void unmap_all(const char *base)
{
	unsigned long from[512], to[512];
	char line[PATH_MAX];
	size_t i, n = 0;
	FILE *file = fopen("/proc/self/maps", "re");

	must(file);
	while (n < ARRAY_SIZE(from) && fgets(line, sizeof(line), file))
		if ((strstr(line, base) || strstr(line, "/cowmem:") ||
		     strstr(line, COWMEM_DEV)) &&
		    sscanf(line, "%lx-%lx", &from[n], &to[n]) == 2)
			n++;
	fclose(file);
	for (i = 0; i < n; i++)
		munmap((void *)from[i], to[i] - from[i]);
}

/* Whatever the test did, nothing is left of it. */
FIXTURE_TEARDOWN(mount)
{
	char * const places[] = { self->a, self->b, self->tmpfs };
	int i, fd;

	must(!chdir("/"));
	unmap_all(self->base);
	for (fd = 3; fd < 1024; fd++)
		close(fd);
	for (i = 0; i < 3; i++) {
		while (!umount2(places[i], MNT_DETACH))
			;
		rmdir(places[i]);
	}
	rmdir(self->base);
	EXPECT_TRUE(held_comes_down_to(self->held));
}

static void mount_at(const char *where, const char *options)
{
	must(!mount("m", where, "cowmem", 0, sized(options)));
}

/* Pages that statfs() says are in use; inodes. */
static long pages_at(const char *where)
{
	struct statfs st;

	must(!statfs(where, &st));
	return st.f_blocks - st.f_bfree;
}

static long inodes_at(const char *where)
{
	struct statfs st;

	must(!statfs(where, &st));
	return st.f_files - st.f_ffree;
}

/* Some are freed a moment later. */
static bool pages_fall_to(const char *where, long n)
{
	int i;

	for (i = 0; i < 100 && pages_at(where) > n; i++)
		usleep(50000);
	if (pages_at(where) == n)
		return true;
	fprintf(stderr, "# %ld pages are in use, not %ld\n", pages_at(where), n);
	return false;
}

static int open_at(const char *where, const char *name, int flags)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", where, name);
	return open(path, flags | O_CLOEXEC, 0644);
}

/* A file of @n pages of tag @tag, or an empty one */
static int file_at(const char *where, const char *name, size_t n, uint32_t tag)
{
	int fd = open_at(where, name, O_RDWR | O_CREAT);

	must(fd >= 0);
	if (n)
		put_pages(fd, 0, n, tag);
	return fd;
}

static int unlink_at(const char *where, const char *name)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", where, name);
	return unlink(path);
}

/* Give what a descriptor refers to a name, as one does with O_TMPFILE.  0 or errno. */
static int name_it(int fd, const char *where, const char *name)
{
	char from[40], to[PATH_MAX];

	snprintf(from, sizeof(from), "/proc/self/fd/%d", fd);
	snprintf(to, sizeof(to), "%s/%s", where, name);
	return linkat(AT_FDCWD, from, AT_FDCWD, to, AT_SYMLINK_FOLLOW) ? errno : 0;
}

/* 0 or errno */
static int ficlone(int to, int from)
{
	return ioctl(to, FICLONE, from) ? errno : 0;
}

static int ficlonerange(int to, uint64_t dst, int from, uint64_t src, uint64_t pages)
{
	struct file_clone_range arg = {
		.src_fd = from, .src_offset = src * pgsz(), .src_length = pages * pgsz(),
		.dest_offset = dst * pgsz(),
	};

	return ioctl(to, FICLONERANGE, &arg) ? errno : 0;
}

static int copy_pages(int to, uint64_t dst, int from, uint64_t src, uint64_t pages)
{
	return do_copy(to, from, dst, src, pages) ? errno : 0;
}

static int restore_from(int to, int from, uint32_t flags)
{
	return do_restore(to, from, flags) ? errno : 0;
}

static int clone_many(const int *fds, int *clones, unsigned int n, uint32_t flags)
{
	return do_clone_many(fds[0], fds, clones, n, flags) ? errno : 0;
}

/* ---- pages count once ---- */

TEST_F(mount, shared_pages_count_once)
{
	char name[16];
	int fd, clone[10], i;

	mount_at(self->a, "size=8m");
	EXPECT_EQ(0, pages_at(self->a));
	fd = file_at(self->a, "file", MIB_PAGES, 1);
	EXPECT_EQ(MIB_PAGES, pages_at(self->a));
	for (i = 0; i < 10; i++) {
		sprintf(name, "%d", i);
		clone[i] = file_at(self->a, name, 0, 0);
		EXPECT_EQ(0, ficlone(clone[i], fd));
		EXPECT_EQ(MIB_PAGES, pages_at(self->a));
		EXPECT_EQ(MIB_PAGES * pgsz() / 512, stat_of(clone[i]).st_blocks);
		EXPECT_EQ(MIB_PAGES * pgsz(), stat_of(clone[i]).st_size);
	}
	/* A page that is split counts, be it by a call or by a store. */
	put_page(clone[3], 7, 2);
	EXPECT_EQ(MIB_PAGES + 1, pages_at(self->a));
	EXPECT_EQ(0, poke(map_rw(clone[4], MIB_PAGES) + 9 * pgsz(), 1));
	EXPECT_EQ(MIB_PAGES + 2, pages_at(self->a));
	put_page(fd, 7, 3);
	EXPECT_EQ(MIB_PAGES + 3, pages_at(self->a));
	EXPECT_TRUE(fd_is(clone[5], 0, MIB_PAGES, 1));
	EXPECT_TRUE(fd_is(clone[3], 0, 7, 1));
	EXPECT_TRUE(fd_is(clone[3], 7, 1, 2));
	/* And goes with its file. */
	EXPECT_EQ(0, unlink_at(self->a, "3"));
	EXPECT_EQ(MIB_PAGES + 3, pages_at(self->a));
	close(clone[3]);
	EXPECT_TRUE(pages_fall_to(self->a, MIB_PAGES + 2));
	EXPECT_EQ(0, ftruncate(fd, 0));
	EXPECT_TRUE(pages_fall_to(self->a, MIB_PAGES + 1));
	close(fd);
	EXPECT_EQ(0, unlink_at(self->a, "file"));
	for (i = 0; i < 10; i++) {
		if (i == 3 || i == 4)
			continue;
		sprintf(name, "%d", i);
		EXPECT_EQ(0, unlink_at(self->a, name));
		close(clone[i]);
	}
	EXPECT_TRUE(pages_fall_to(self->a, MIB_PAGES + 0));
	EXPECT_EQ(0, ftruncate(clone[4], 0));
	EXPECT_TRUE(pages_fall_to(self->a, 0));
}

TEST_F(mount, ranges_count_once)
{
	int fd, i;

	mount_at(self->a, "size=8m");
	fd = file_at(self->a, "file", 64, 1);
	/* Within the file, aligned to nodes and not */
	EXPECT_EQ(0, ficlonerange(fd, 64, fd, 0, 64));
	EXPECT_EQ(0, ficlonerange(fd, 131, fd, 3, 9));
	EXPECT_EQ(0, copy_pages(fd, 1, fd, 70, 3));
	EXPECT_EQ(64, pages_at(self->a));
	for (i = 0; i < 3; i++)
		EXPECT_TRUE(fd_is_as(fd, 1 + i, 1, 6 + i));
	EXPECT_EQ(0, fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 64 * pgsz()));
	EXPECT_EQ(64, pages_at(self->a));
	EXPECT_EQ(0, fallocate(fd, FALLOC_FL_UNSHARE_RANGE, 131 * pgsz(), 9 * pgsz()));
	EXPECT_EQ(64 + 9, pages_at(self->a));
	EXPECT_EQ(0, ftruncate(fd, 0));
	EXPECT_TRUE(pages_fall_to(self->a, 0));
}

/* ---- the limit ---- */

FIXTURE(limit) {
	char base[32], place[2][40];
	int shared, full;
	char *mem;
};

FIXTURE_VARIANT(limit) {
	enum { BY_WRITE, BY_STORE, BY_ALLOCATING, BY_UNSHARING, BY_LINKING } how;
};

FIXTURE_VARIANT_ADD(limit, by_write) { .how = BY_WRITE };
FIXTURE_VARIANT_ADD(limit, by_store) { .how = BY_STORE };
FIXTURE_VARIANT_ADD(limit, by_allocating) { .how = BY_ALLOCATING };
FIXTURE_VARIANT_ADD(limit, by_unsharing) { .how = BY_UNSHARING };
FIXTURE_VARIANT_ADD(limit, by_symlink) { .how = BY_LINKING };

enum { ROOM = 64, HALF = ROOM / 2 };

/* 32 pages, and the same in another file: room for 32 more */
FIXTURE_SETUP(limit)
{
	int i;

	sprintf(self->base, "/tmp/limit.XXXXXX");
	must(mkdtemp(self->base));
	must(!unshare(CLONE_NEWNS));
	must(!mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
	for (i = 0; i < 2; i++) {
		make_place(self->place[i], self->base, i ? "b" : "a");
		if (mount("m", self->place[i], "cowmem", 0, sized("size=256k,nr_inodes=100"))) {
			must(errno == ENODEV);
			SKIP(return, "no cowmem file system here");
		}
	}
	self->shared = file_at(self->place[0], "shared", HALF, 1);
	self->full = file_at(self->place[0], "full", 0, 0);
	must(!ficlone(self->full, self->shared));
	must(!ftruncate(self->full, 200 * pgsz()));
	self->mem = map_rw(self->full, 200);
	must(pages_at(self->place[0]) == HALF);
}

FIXTURE_TEARDOWN(limit)
{
	int i;

	for (i = 0; i < 2; i++) {
		umount2(self->place[i], MNT_DETACH);
		rmdir(self->place[i]);
	}
	rmdir(self->base);
}

/* Take a page more, page @i of the file: 0, an errno or a signal */
static int take(const char *where, int how, int fd, char *mem, size_t i)
{
	char path[64], text[200];

	switch (how) {
	case BY_WRITE:
		return pwrite(fd, "x", 1, i * pgsz()) == 1 ? 0 : errno;
	case BY_STORE:
		return poke(mem + i * pgsz(), 'x');
	case BY_ALLOCATING:
		return fallocate(fd, 0, (HALF + i) * pgsz(), pgsz()) ? errno : 0;
	case BY_UNSHARING:
		return fallocate(fd, FALLOC_FL_UNSHARE_RANGE, i * pgsz(), pgsz()) ? errno : 0;
	default:
		memset(text, 'x', sizeof(text));
		text[sizeof(text) - 1] = 0;
		sprintf(path, "%s/%zu", where, i);
		return symlink(text, path) ? errno : 0;
	}
}

TEST_F(limit, is_exact)
{
	const char *where = self->place[0];
	int i, how, more, other;
	char path[64], *mem;

	for (i = 0; i < HALF; i++) {
		ASSERT_EQ(0, take(where, variant->how, self->full, self->mem, i))
			TH_LOG("page %d", i);
		ASSERT_EQ(HALF + 1 + i, pages_at(where));
	}
	/* No more of any kind, but what is there can be shared. */
	more = file_at(where, "more", 0, 0);
	EXPECT_EQ(0, ficlone(more, self->shared));
	mem = map_rw(more, HALF);
	for (how = BY_WRITE; how <= BY_LINKING; how++)
		EXPECT_EQ(how == BY_STORE ? SIGBUS : ENOSPC,
			  take(where, how, more, mem, how + (how == BY_LINKING) * 50))
			TH_LOG("by %d", how);
	EXPECT_EQ(ROOM, pages_at(where));
	EXPECT_EQ(HALF * pgsz(), stat_of(more).st_size);
	EXPECT_TRUE(is(mem, HALF, 1, 0));
	EXPECT_TRUE(fd_is(self->shared, 0, HALF, 1));
	/* What is a file's own can be written. */
	if (variant->how != BY_LINKING) {
		i = variant->how == BY_ALLOCATING ? HALF + 5 : 5;
		EXPECT_EQ(1, pwrite(self->full, "y", 1, i * pgsz()));
		EXPECT_EQ(0, poke(self->mem + i * pgsz(), 'z'));
	}
	/* Nobody else notices. */
	other = file_at(self->place[1], "other", ROOM, 4);
	EXPECT_EQ(ROOM, pages_at(self->place[1]));
	EXPECT_EQ(-1, pwrite(other, "x", 1, ROOM * pgsz()));
	EXPECT_EQ(ENOSPC, errno);
	EXPECT_TRUE(fd_is(other, 0, ROOM, 4));
	EXPECT_EQ(0, take(where, BY_WRITE, region_of(4, 1), NULL, 7));
	/* Once something goes, it works again. */
	for (i = 0; i < HALF && variant->how == BY_LINKING; i++) {
		sprintf(path, "%s/%d", where, i);
		EXPECT_EQ(0, unlink(path));
	}
	EXPECT_EQ(0, ftruncate(self->full, 0));
	EXPECT_TRUE(pages_fall_to(where, HALF));
	for (i = 0; i < HALF; i++)
		EXPECT_EQ(0, take(where, BY_WRITE, more, NULL, i));
	EXPECT_EQ(ROOM, pages_at(where));
}

/* Threads take pages at once: neither more nor fewer than there are. */
static void *takes_pages(void *arg)
{
	int fd = *(int *)arg;
	long i, n = 0;

	for (i = 0; i < 2 * ROOM; i++)
		n += pwrite(fd, "x", 1, i * pgsz()) == 1;
	return (void *)n;
}

TEST_F(limit, is_exact_with_threads)
{
	const char *where = self->place[0];
	int fd[4], i, round;
	pthread_t thread[4];
	long sum;
	void *n;

	close(self->full);
	for (round = 0; round < effort(20); round++) {
		sum = 0;
		for (i = 0; i < 4; i++) {
			char name[8];

			sprintf(name, "t%d", i);
			fd[i] = file_at(where, name, 0, 0);
			must(!pthread_create(&thread[i], NULL, takes_pages, &fd[i]));
		}
		for (i = 0; i < 4; i++) {
			pthread_join(thread[i], &n);
			sum += (long)n;
		}
		ASSERT_EQ(HALF, sum);
		ASSERT_EQ(ROOM, pages_at(where));
		for (i = 0; i < 4; i++) {
			must(!ftruncate(fd[i], 0));
			close(fd[i]);
		}
		ASSERT_TRUE(pages_fall_to(where, HALF));
	}
}

/* ---- reflinks ---- */

/* A mapping of the target shows the new content, in each process. */
/* One page, again and again where nothing is near: that takes index nodes alone. */
TEST_F(mount, nodes_have_a_limit)
{
	int fd, other, i, err = 0;
	long before;

	mount_at(self->a, "size=256k");
	mount_at(self->b, "size=256k");
	fd = file_at(self->a, "file", 1, 1);
	before = held();
	for (i = 1; !err && i < 10000; i++)
		err = ficlonerange(fd, i * 16 * pgsz(), fd, 0, 1);
	EXPECT_EQ(ENOSPC, err);
	EXPECT_EQ(1, pages_at(self->a));
	/* 16 nodes a page and 1,024; they have a little more than 512 bytes. */
	EXPECT_GT(64 * 16 + 1024, held() - before);
	other = file_at(self->b, "file", 64, 2);
	EXPECT_TRUE(fd_is(other, 0, 64, 2));
	EXPECT_EQ(0, ftruncate(fd, pgsz()));
	EXPECT_TRUE(fd_is(fd, 0, 1, 1));
	EXPECT_EQ(0, ficlonerange(fd, 16 * pgsz(), fd, 0, 1));
	/* Whoever fills the mount with pages gets all of it, however they are spread. */
	EXPECT_EQ(0, ftruncate(fd, 0));
	EXPECT_TRUE(pages_fall_to(self->a, 0));
	for (i = 0; i < 64; i++)
		EXPECT_EQ(1, pwrite(fd, "x", 1, (off_t)i << 40));
	EXPECT_EQ(64, pages_at(self->a));
}

TEST_F(mount, ficlone_over_a_mapped_file)
{
	int from, to, private;
	char *mem, *ro, *own;

	mount_at(self->a, "size=8m");
	from = file_at(self->a, "from", 8, 1);
	to = file_at(self->a, "to", 8, 2);
	private = file_at(self->a, "to", 0, 0);
	mem = map_rw(to, 8);
	ro = map_ro(private, 8);
	own = mmap(NULL, 8 * pgsz(), PROT_READ | PROT_WRITE, MAP_PRIVATE, to, 0);
	ASSERT_NE(MAP_FAILED, own);
	ASSERT_EQ(0, poke(own + 3 * pgsz(), 'p'));
	EXPECT_TRUE(is(mem, 8, 2, 0));
	EXPECT_TRUE(is(ro, 8, 2, 0));
	EXPECT_EQ(16, pages_at(self->a));
	EXPECT_EQ(0, ficlone(to, from));
	EXPECT_TRUE(is(mem, 8, 1, 0));
	EXPECT_TRUE(is(ro, 8, 1, 0));
	EXPECT_TRUE(is(own, 3, 1, 0));
	EXPECT_EQ('p', own[3 * pgsz()]);
	EXPECT_TRUE(pages_fall_to(self->a, 8));
	/* A store splits, and is seen by all who map the target and by nobody else. */
	pg_fill(mem + pgsz(), 3, 1);
	EXPECT_TRUE(is(ro + pgsz(), 1, 3, 1));
	EXPECT_TRUE(fd_is(from, 0, 8, 1));
	EXPECT_EQ(9, pages_at(self->a));
	EXPECT_EQ(0, in_child(_exit(!is(mem + pgsz(), 1, 3, 1))));
	/* A range, that makes it larger */
	EXPECT_EQ(0, ficlonerange(to, 6, from, 0, 8));
	EXPECT_EQ(14 * pgsz(), stat_of(to).st_size);
	EXPECT_TRUE(fd_is_as(to, 6, 1, 0));
	EXPECT_TRUE(is(mem + 6 * pgsz(), 1, 1, 0));
	EXPECT_EQ(9, pages_at(self->a));
	/* The larger target keeps its size, and its tail. */
	EXPECT_EQ(0, ficlone(to, from));
	EXPECT_EQ(14 * pgsz(), stat_of(to).st_size);
	EXPECT_TRUE(fd_is(to, 0, 8, 1));
	EXPECT_TRUE(fd_is_as(to, 13, 1, 7));
}

TEST_F(mount, nothing_is_shared_across_mounts)
{
	int a, b, t, dev, file;
	struct cowmem_restore part = { .length = pgsz() };

	mount_at(self->a, "size=8m");
	mount_at(self->b, "size=8m");
	must(!mount("t", self->tmpfs, "tmpfs", 0, NULL));
	a = file_at(self->a, "file", 4, 1);
	b = file_at(self->b, "file", 4, 2);
	t = file_at(self->tmpfs, "file", 4, 3);
	dev = region_of(4, 4);
	file = file_of(dev, 0);
	EXPECT_EQ(EXDEV, ficlone(a, b));
	EXPECT_EQ(EXDEV, ficlone(a, t));
	EXPECT_EQ(EXDEV, ficlone(t, a));
	EXPECT_EQ(EXDEV, ficlone(a, file));
	EXPECT_EQ(EXDEV, ficlone(file, a));
	EXPECT_EQ(EXDEV, ficlonerange(b, 0, a, 0, 1));
	EXPECT_EQ(EXDEV, copy_pages(a, 0, b, 0, 1));
	EXPECT_EQ(EXDEV, copy_pages(b, 1, a, 1, 3));
	EXPECT_EQ(EXDEV, restore_from(a, b, 0));
	EXPECT_EQ(EXDEV, restore_from(a, b, COWMEM_RESTORE_SIZE));
	EXPECT_EQ(EXDEV, restore_from(a, snapshot(b), COWMEM_RESTORE_KEEP));
	part.fd = b;
	EXPECT_EQ(-1, ioctl(a, COWMEM_IOC_RESTORE, &part));
	EXPECT_EQ(EXDEV, errno);
	EXPECT_EQ(EBADF, copy_pages(a, 0, t, 0, 1));
	EXPECT_TRUE(fd_is(a, 0, 4, 1));
	EXPECT_TRUE(fd_is(b, 0, 4, 2));
	EXPECT_EQ(4, pages_at(self->a));
	EXPECT_EQ(4, pages_at(self->b));
	/* copy_file_range() copies. */
	EXPECT_EQ(-1, copy_file_range(a, NULL, t, NULL, pgsz(), 0));
	EXPECT_EQ(EXDEV, errno);
}

/* ---- clones get names ---- */

TEST_F(mount, clones_get_names)
{
	int fd, clone, again, i;

	mount_at(self->a, "size=8m,nr_inodes=10");
	fd = file_at(self->a, "file", 4, 1);
	EXPECT_EQ(2, inodes_at(self->a));
	clone = cloned(fd);
	EXPECT_EQ(3, inodes_at(self->a));
	EXPECT_EQ(4, pages_at(self->a));
	EXPECT_EQ(0, stat_of(clone).st_nlink);
	EXPECT_EQ(stat_of(fd).st_dev, stat_of(clone).st_dev);
	put_page(fd, 0, 2);
	EXPECT_EQ(5, pages_at(self->a));
	ASSERT_EQ(0, name_it(clone, self->a, "clone"));
	EXPECT_EQ(1, stat_of(clone).st_nlink);
	EXPECT_EQ(3, inodes_at(self->a));
	EXPECT_EQ(EEXIST, name_it(clone, self->a, "clone"));
	EXPECT_EQ(0, name_it(clone, self->a, "second"));
	EXPECT_EQ(2, stat_of(clone).st_nlink);
	EXPECT_EQ(4, inodes_at(self->a));
	again = open_at(self->a, "second", O_RDWR);
	ASSERT_LE(0, again);
	EXPECT_EQ(stat_of(clone).st_ino, stat_of(again).st_ino);
	EXPECT_TRUE(fd_is(again, 0, 4, 1));
	put_page(again, 3, 3);
	EXPECT_TRUE(fd_is(clone, 3, 1, 3));
	EXPECT_TRUE(fd_is(fd, 1, 3, 1));
	close(clone);
	close(again);
	EXPECT_EQ(0, unlink_at(self->a, "clone"));
	EXPECT_EQ(0, unlink_at(self->a, "second"));
	EXPECT_TRUE(pages_fall_to(self->a, 4));
	EXPECT_EQ(2, inodes_at(self->a));
	/* Not in another mount. */
	mount_at(self->b, NULL);
	clone = cloned(fd);
	EXPECT_EQ(EXDEV, name_it(clone, self->b, "clone"));
	EXPECT_EQ(EXDEV, name_it(clone, "/tmp", "clone"));
	/* A clone without a name can be mapped, resized, cloned... */
	for (i = 0; i < 3; i++) {
		again = cloned(clone);
		close(clone);
		clone = again;
	}
	EXPECT_TRUE(fd_is(clone, 1, 3, 1));
	/* ...but what a device's region is cloned to has no place here. */
	EXPECT_EQ(EXDEV, name_it(cloned(region_of(4, 1)), self->a, "dev"));
}

/* As nobody: what is @flags of a clone by a descriptor that only reads? 0 or errno */
static int cloning_as_nobody(const char *where, uint32_t flags)
{
	return in_child(
		int fd;

		become_nobody();
		fd = open_at(where, "file", O_RDONLY);
		must(fd >= 0);
		fd = do_clone(fd, flags, 0, 0);
		if (fd < 0)
			_exit(errno);
		must(stat_of(fd).st_uid == NOBODY && stat_of(fd).st_gid == NOBODY);
		must((stat_of(fd).st_mode & 07777) == (flags ? 0400 : 0600));
		must(!name_it(fd, where, flags ? "snap" : "clone"));
		must(open_at(where, flags ? "snap" : "clone", O_RDONLY) >= 0);
		_exit(!fd_is(fd, 0, 4, 1));
	);
}

/* A reader cannot fill the mount by writing to a clone. */
TEST_F(mount, clones_of_others)
{
	int fd;

	mount_at(self->a, "size=8m,mode=777");
	fd = file_at(self->a, "file", 4, 1);
	EXPECT_EQ(EACCES, cloning_as_nobody(self->a, 0));
	EXPECT_EQ(2, inodes_at(self->a));
	EXPECT_EQ(0, cloning_as_nobody(self->a, COWMEM_CLONE_SNAPSHOT));
	must(!fchmod(fd, 0666));
	EXPECT_EQ(0, cloning_as_nobody(self->a, 0));
	must(!fchmod(fd, 0444) && !fchown(fd, NOBODY, 0) && !unlink_at(self->a, "clone"));
	EXPECT_EQ(0, cloning_as_nobody(self->a, 0));
	EXPECT_EQ(4, pages_at(self->a));
}

/* Content of one's own under the rights of somebody else */
TEST_F(mount, calls_take_setuid_away)
{
	enum { RESTORE, COPY, DISCARD, RESIZE, CALLS };
	int call, fd;

	mount_at(self->a, "size=1m,mode=777");
	for (call = 0; call < CALLS; call++) {
		fd = file_at(self->a, "program", 4, 1);
		ASSERT_EQ(0, fchmod(fd, 06777));
		EXPECT_EQ(0, in_child(
			struct cowmem_restore restore = {};
			int mine;

			become_nobody();
			fd = open_at(self->a, "program", O_RDWR);
			must(fd >= 0);
			mine = file_at(self->a, "mine", 4, 2);
			restore.fd = mine;
			if (call == RESTORE && ioctl(fd, COWMEM_IOC_RESTORE, &restore))
				_exit(1);
			if (call == COPY && copy_pages(fd, 0, mine, 0, 4))
				_exit(2);
			if (call == DISCARD && do_discard(fd, 0, pgsz()))
				_exit(3);
			if (call == RESIZE && do_resize(fd, pgsz()))
				_exit(4);
		));
		EXPECT_EQ(0777, stat_of(fd).st_mode & 07777)
			TH_LOG("call %d", call);
		unlink_at(self->a, "program");
		unlink_at(self->a, "mine");
	}
}

TEST_F(mount, a_view_is_not_linked)
{
	struct cowmem_file view = { .flags = COWMEM_FILE_VIEW };
	int fd;

	mount_at(self->a, "size=1m");
	fd = file_at(self->a, "file", 4, 1);
	ASSERT_EQ(0, ioctl(fd, COWMEM_IOC_FILE, &view));
	EXPECT_NE(0, name_it(view.fd, self->a, "name"));
	EXPECT_EQ(-1, open_at(self->a, "name", O_RDWR));
	EXPECT_TRUE(fd_is(view.fd, 0, 4, 1));
}

/* Whoever tries: its owner, root; before it has a name, and with it. */
TEST_F(mount, named_snapshots_are_never_written)
{
	char path[64], proc[40];
	int fd, snap, i;

	mount_at(self->a, "size=8m,mode=777");
	fd = file_at(self->a, "file", 4, 1);
	snap = snapshot(fd);
	ASSERT_EQ(0, name_it(snap, self->a, "snap"));
	snprintf(path, sizeof(path), "%s/snap", self->a);
	put_pages(fd, 0, 4, 2);
	for (i = 0; i < 3; i++) {
		struct statfs st;

		EXPECT_EQ(-1, open(path, O_RDWR));
		EXPECT_EQ(EPERM, errno);
		EXPECT_EQ(-1, open(path, O_WRONLY | O_APPEND));
		EXPECT_EQ(EPERM, errno);
		EXPECT_EQ(-1, open(path, O_RDONLY | O_TRUNC));
		EXPECT_EQ(EPERM, errno);
		EXPECT_EQ(-1, truncate(path, 0));
		EXPECT_EQ(EPERM, errno);
		EXPECT_EQ(-1, truncate(path, 10 * pgsz()));
		EXPECT_EQ(EPERM, errno);
		snprintf(proc, sizeof(proc), "/proc/self/fd/%d", snap);
		EXPECT_EQ(-1, open(proc, O_RDWR));
		EXPECT_EQ(EPERM, errno);
		must(!statfs(path, &st));
		EXPECT_EQ(EPERM, in_child(
			must(!chmod(path, 0666));
			become_nobody();
			_exit(open(path, O_RDWR) < 0 ? errno : 0);
		));
		if (i == 0) {
			close(snap);
			snap = open(path, O_RDONLY);
			ASSERT_LE(0, snap);
		}
		if (i == 1) {
			/* Renamed and linked it is what it was. */
			char other[64];

			snprintf(other, sizeof(other), "%s/other", self->a);
			must(!link(path, other));
			must(!rename(path, other) || true);
			must(!unlink(path));
			snprintf(path, sizeof(path), "%s", other);
		}
		EXPECT_TRUE(fd_is(snap, 0, 4, 1));
		EXPECT_EQ(EBADF, ficlone(snap, fd));
	}
	/* It can be reflinked, and that can be written. */
	i = file_at(self->a, "copy", 0, 0);
	EXPECT_EQ(0, ficlone(i, snap));
	put_page(i, 0, 7);
	EXPECT_EQ(0, restore_from(fd, snap, 0));
	EXPECT_TRUE(fd_is(fd, 0, 4, 1));
	EXPECT_EQ(0, unlink(path));
}

TEST_F(mount, inodes_are_the_limit_of_clones)
{
	int fd, fds[4], clones[4], i, before;

	mount_at(self->a, "size=8m,nr_inodes=6");
	mount_at(self->b, "size=8m,nr_inodes=6");
	fd = file_at(self->a, "file", 4, 1);
	clones[0] = cloned(fd);
	clones[1] = snapshot(fd);
	EXPECT_EQ(4, inodes_at(self->a));
	for (i = 0; i < 4; i++)
		fds[i] = fd;
	before = count_fds();
	EXPECT_EQ(ENOSPC, clone_many(fds, fds, 4, 0));
	EXPECT_EQ(ENOSPC, clone_many(fds, fds, 3, COWMEM_CLONE_SNAPSHOT));
	EXPECT_EQ(before, count_fds());
	EXPECT_EQ(4, inodes_at(self->a));
	EXPECT_EQ(0, clone_many(fds, clones + 2, 2, 0));
	EXPECT_EQ(6, inodes_at(self->a));
	EXPECT_EQ(-1, do_clone(fd, 0, 0, 0));
	EXPECT_EQ(ENOSPC, errno);
	EXPECT_EQ(-1, do_clone(fd, COWMEM_CLONE_SNAPSHOT, 0, pgsz()));
	EXPECT_EQ(ENOSPC, errno);
	EXPECT_EQ(-1, open_at(self->a, "new", O_CREAT | O_RDWR));
	EXPECT_EQ(ENOSPC, errno);
	/* Another file of the same region is no inode more. */
	close(file_of(fd, 0));
	close(file_of(fd, COWMEM_FILE_VIEW));
	/* The other mount has its own, regions of the device have none. */
	close(cloned(file_at(self->b, "file", 1, 1)));
	close(cloned(region_of(1, 1)));
	close(clones[3]);
	EXPECT_EQ(5, inodes_at(self->a));
	clones[3] = cloned(fd);
	EXPECT_TRUE(fd_is(clones[3], 0, 4, 1));
	for (i = 0; i < 4; i++)
		close(clones[i]);
	EXPECT_EQ(2, inodes_at(self->a));
}

/* ---- between the device and a mount ---- */

TEST_F(mount, pages_of_a_device_region_come_to_count)
{
	int dev, fd, other, snap;

	mount_at(self->a, "size=64k");
	mount_at(self->b, "size=64k");
	dev = region_of(8, 1);
	fd = file_at(self->a, "file", 0, 0);
	ASSERT_EQ(0, ftruncate(fd, 8 * pgsz()));
	EXPECT_EQ(0, copy_pages(fd, 0, dev, 0, 4));
	EXPECT_EQ(4, pages_at(self->a));
	EXPECT_EQ(0, copy_pages(fd, 4, dev, 0, 4));
	EXPECT_EQ(4, pages_at(self->a));
	EXPECT_EQ(0, restore_from(fd, dev, 0));
	EXPECT_EQ(8, pages_at(self->a));
	EXPECT_TRUE(fd_is(fd, 0, 8, 1));
	/* They are of one mount now. */
	other = file_at(self->b, "file", 0, 0);
	ASSERT_EQ(0, ftruncate(other, 8 * pgsz()));
	EXPECT_EQ(EXDEV, restore_from(other, dev, 0));
	EXPECT_EQ(EXDEV, copy_pages(other, 0, dev, 3, 1));
	EXPECT_EQ(0, pages_at(self->b));
	/* What is written anew is not. */
	put_pages(dev, 0, 4, 2);
	EXPECT_EQ(8, pages_at(self->a));
	EXPECT_EQ(0, copy_pages(other, 0, dev, 0, 4));
	EXPECT_EQ(4, pages_at(self->b));
	EXPECT_EQ(EXDEV, copy_pages(other, 0, dev, 0, 5));
	/* As long as anybody has a page, it counts. */
	EXPECT_EQ(0, ftruncate(fd, 0));
	EXPECT_TRUE(pages_fall_to(self->a, 4));
	snap = snapshot(dev);
	close(dev);
	EXPECT_EQ(4, pages_at(self->a));
	close(snap);
	EXPECT_TRUE(pages_fall_to(self->a, 0));
	EXPECT_EQ(4, pages_at(self->b));
	EXPECT_TRUE(fd_is(other, 0, 4, 2));
}

TEST_F(mount, a_device_region_gets_pages_of_a_mount)
{
	int dev, fd;

	mount_at(self->a, "size=64k");
	fd = file_at(self->a, "file", 8, 1);
	dev = region();
	ASSERT_EQ(0, do_resize(dev, 8 * pgsz()));
	EXPECT_EQ(0, restore_from(dev, fd, 0));
	EXPECT_TRUE(fd_is(dev, 0, 8, 1));
	EXPECT_EQ(8, pages_at(self->a));
	/* A page written on either side is the writer's. */
	put_pages(dev, 0, 2, 2);
	EXPECT_EQ(8, pages_at(self->a));
	put_pages(fd, 4, 2, 3);
	EXPECT_EQ(10, pages_at(self->a));
	close(fd);
	EXPECT_EQ(0, unlink_at(self->a, "file"));
	EXPECT_TRUE(pages_fall_to(self->a, 6));
	/* Written in place by their last holder. */
	put_pages(dev, 2, 6, 4);
	EXPECT_EQ(6, pages_at(self->a));
	/* The mount may go before the region does. */
	must(!umount(self->a));
	EXPECT_TRUE(fd_is(dev, 0, 2, 2));
	EXPECT_TRUE(fd_is(dev, 2, 6, 4));
	put_pages(dev, 0, 8, 5);
	close(cloned(dev));
	mount_at(self->a, "size=64k");
	EXPECT_EQ(0, pages_at(self->a));
	EXPECT_TRUE(fd_is(dev, 0, 8, 5));
}

TEST_F(mount, what_does_not_fit_changes_nothing)
{
	int dev, fd, more;

	mount_at(self->a, "size=64k");	/* 16 pages */
	dev = region_of(12, 1);
	fd = file_at(self->a, "file", 12, 2);
	more = file_at(self->a, "more", 0, 0);
	ASSERT_EQ(0, ftruncate(more, 12 * pgsz()));
	EXPECT_EQ(ENOSPC, restore_from(more, dev, 0));
	EXPECT_EQ(ENOSPC, copy_pages(more, 0, dev, 3, 5));
	EXPECT_EQ(ENOSPC, copy_pages(more, 1, dev, 3, 5));
	EXPECT_EQ(12, pages_at(self->a));
	EXPECT_TRUE(fd_is(more, 0, 12, 0));
	EXPECT_TRUE(fd_is(fd, 0, 12, 2));
	EXPECT_EQ(0, copy_pages(more, 0, dev, 0, 4));
	EXPECT_EQ(16, pages_at(self->a));
	EXPECT_EQ(0, copy_pages(more, 8, dev, 0, 4));
	EXPECT_EQ(ENOSPC, copy_pages(more, 7, dev, 0, 5));
	EXPECT_TRUE(fd_is(more, 0, 4, 1));
	EXPECT_TRUE(fd_is_as(more, 8, 1, 0));
	/* In place of others, as soon as those are gone. */
	EXPECT_EQ(0, ftruncate(fd, 0));
	EXPECT_TRUE(pages_fall_to(self->a, 4));
	EXPECT_EQ(0, restore_from(more, dev, 0));
	EXPECT_EQ(12, pages_at(self->a));
	EXPECT_TRUE(fd_is(more, 0, 12, 1));
}

/* A page of another mount is left alone. */
TEST_F(mount, merging)
{
	struct cowmem_merge merge = {}, again = {};
	int fds[3];

	mount_at(self->a, "size=1m");
	mount_at(self->b, "size=1m");
	fds[0] = file_at(self->a, "1", 0, 0);
	fds[1] = file_at(self->a, "2", 0, 0);
	fds[2] = file_at(self->b, "1", 0, 0);
	put_pages(fds[0], 0, 8, 1);
	put_pages(fds[1], 0, 8, 1);
	put_pages(fds[2], 0, 8, 1);
	EXPECT_EQ(0, do_merge(&merge, fds, 3));
	EXPECT_EQ(8, merge.merged);
	EXPECT_TRUE(pages_fall_to(self->a, 8));
	EXPECT_EQ(8, pages_at(self->b));
	put_pages(fds[1], 0, 8, 0);
	EXPECT_EQ(0, do_merge(&again, fds, 3));
	EXPECT_EQ(8, again.zeroed);
	EXPECT_TRUE(pages_fall_to(self->a, 8));
	EXPECT_TRUE(fd_is(fds[0], 0, 8, 1));
	EXPECT_TRUE(fd_is(fds[1], 0, 8, 0));
	EXPECT_TRUE(fd_is(fds[2], 0, 8, 1));
}

/* ---- how a mount ends ---- */

static int unmounting(const char *where)
{
	return umount(where) ? errno : 0;
}

TEST_F(mount, is_busy_while_it_is_used)
{
	int fd, uses = module_uses(), path, clone, dir;
	char *mem;

	mount_at(self->a, "size=8m");
	fd = file_at(self->a, "file", 4, 1);
	clone = cloned(fd);
	EXPECT_EQ(EBUSY, unmounting(self->a));
	mem = map_rw(fd, 4);
	close(fd);
	EXPECT_EQ(EBUSY, unmounting(self->a));
	close(clone);
	EXPECT_EQ(EBUSY, unmounting(self->a));
	unmap(mem, 4);
	path = open_at(self->a, "file", O_PATH);
	EXPECT_EQ(EBUSY, unmounting(self->a));
	close(path);
	dir = open_at(self->a, ".", O_RDONLY | O_DIRECTORY);
	EXPECT_EQ(EBUSY, unmounting(self->a));
	close(dir);
	must(!chdir(self->a));
	EXPECT_EQ(EBUSY, unmounting(self->a));
	must(!chdir("/"));
	if (uses >= 0)
		EXPECT_EQ(EAGAIN, unloading());
	EXPECT_EQ(0, unmounting(self->a));
	if (uses >= 0)
		EXPECT_TRUE(uses_fall_to(uses));
}

TEST_F(mount, lazily_unmounted)
{
	int fd, uses = module_uses(), clone, snap, tmp, cwd, dir;
	char *mem, path[64];
	long before;

	mount_at(self->a, "size=8m");
	mount_at(self->b, "size=8m");
	must(!chdir(self->a));
	before = held();
	fd = file_at(self->a, "file", MIB_PAGES, 1);
	must(!mkdir("dir", 0755));
	close(file_at(self->a, "dir/left", MIB_PAGES, 5));
	must(!symlink("dir", "link"));
	clone = cloned(fd);
	tmp = open(".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	must(tmp >= 0);
	mem = map_rw(clone, MIB_PAGES);
	ASSERT_EQ(0, umount2(self->a, MNT_DETACH));
	EXPECT_EQ(-1, open_at(self->a, "file", O_RDWR));
	/* For those who have it open all goes on. */
	fill(mem, 10, 2, 0);
	put_pages(fd, 20, 10, 3);
	put_pages(tmp, 0, 10, 4);
	snap = snapshot(fd);
	EXPECT_TRUE(is(mem, 10, 2, 0));
	EXPECT_TRUE(fd_is(snap, 20, 10, 3));
	EXPECT_EQ(0, ficlone(tmp, clone));
	EXPECT_TRUE(fd_is(tmp, 10, 1, 1));
	EXPECT_EQ(0, linkat(AT_FDCWD, "file", AT_FDCWD, "again", 0));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", snap);
	dir = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	EXPECT_EQ(0, linkat(AT_FDCWD, path, dir, "snap", AT_SYMLINK_FOLLOW));
	EXPECT_EQ(0, fstatat(dir, "snap", &(struct stat){}, 0));
	close(dir);
	if (uses >= 0)
		EXPECT_EQ(EAGAIN, unloading());
	/* Then one after the other goes. */
	cwd = chdir("/");
	EXPECT_EQ(0, cwd);
	close(tmp);
	close(fd);
	close(snap);
	EXPECT_EQ(0, poke(mem + 100 * pgsz(), 1));
	close(clone);
	EXPECT_EQ(0, poke(mem + 101 * pgsz(), 1));
	EXPECT_LT(before, held());
	unmap(mem, MIB_PAGES);
	EXPECT_TRUE(held_comes_down_to(before));
	EXPECT_EQ(0, unmounting(self->b));
	if (uses >= 0)
		EXPECT_TRUE(uses_fall_to(uses));
}

TEST_F(mount, lazily_unmounted_again_and_again)
{
	int i, fd, n = effort(200);
	long before = held();
	char *mem;

	for (i = 0; i < n; i++) {
		mount_at(self->a, "size=1m");
		fd = file_at(self->a, "file", 4, 1);
		mem = map_rw(fd, 4);
		if (i % 2)
			close(fd);
		ASSERT_EQ(0, umount2(self->a, MNT_DETACH));
		if (i % 3)
			EXPECT_EQ(0, poke(mem, 1));
		unmap(mem, 4);
		if (!(i % 2))
			close(fd);
	}
	EXPECT_TRUE(held_comes_down_to(before));
}

/* The last close and the end of the mount race. */
static void *closes(void *arg)
{
	close(*(int *)arg);
	return NULL;
}

TEST_F(mount, unmounting_races_with_the_last_close)
{
	int i, fd, n = effort(300);
	long before = held();
	pthread_t thread;

	for (i = 0; i < n; i++) {
		mount_at(self->a, "size=1m");
		fd = file_at(self->a, "file", 4, 1);
		must(!pthread_create(&thread, NULL, closes, &fd));
		if (umount(self->a))
			must(errno == EBUSY && !umount2(self->a, MNT_DETACH));
		pthread_join(thread, NULL);
	}
	EXPECT_TRUE(held_comes_down_to(before));
}

/* ---- options ---- */

struct option_case {
	const char *options;
	long blocks, files;	/* blocks of 4 KiB; -1: do not look */
	int mode;
};

static const struct option_case option_cases[] = {
	{ "size=1m", 256, -1, 01777 },
	{ "size=1M", 256, -1, 01777 },
	{ "size=1024k", 256, -1, 01777 },
	{ "size=4096", 1, -1, 01777 },
	{ "size=4097", 2, -1, 01777 },
	{ "size=1", 1, -1, 01777 },
	{ "size=0", 0, -1, 01777 },
	{ "size=1g", 1 << 18, -1, 01777 },
	{ "size=2t", 1 << 29, -1, 01777 },
	{ "size=100%", -1, -1, 01777 },
	{ "size=1m,size=2m", 512, -1, 01777 },
	{ "nr_inodes=10", -1, 10, 01777 },
	{ "nr_inodes=10k", -1, 10240, 01777 },
	{ "nr_inodes=0", -1, 0, 01777 },
	{ "nr_inodes=1", -1, 1, 01777 },
	{ "mode=700", -1, -1, 0700 },
	{ "mode=0", -1, -1, 0 },
	{ "mode=02755", -1, -1, 02755 },
	{ "mode=7777,uid=7,gid=8,size=1m,nr_inodes=5", 256, 5, 07777 },
	{ "ro,size=1m", 256, -1, 01777 },
	{ "huge=never,size=1m", 256, -1, 01777 },
	{ "=1m", -1, -1, 01777 },
};

static const char * const bad_options[] = {
	"size=", "size", "size=x", "size=-1", "size=1q", "size=1mm", "size=1 m", "size=k",
	"size=%", "size=1%k", "size=0x10", "size=+5", "size=1.5m", "size=16e",
	"size=18446744073709551615", "size=18446744073709551616",
	"size=99999999999999999999999", "size=184467440737095517%", "nr_inodes=",
	"nr_inodes=x", "nr_inodes=-1", "nr_inodes=10%", "nr_inodes=18446744073709551615",
	"nr_inodes=18446744073709551617", "mode=", "mode=8", "mode=x", "mode=10000", "mode=-1",
	"mode=77777777777777", "uid=", "uid=x", "uid=-1", "uid=4294967295", "uid=4294967296",
	"gid=root", "gid=4294967295", "huge", "huge=", "huge=within_size", "huge=1", "huge=Always",
	"huge=never ", "huge=never\n", "mpol=default", "nonsense", "SIZE=1m", "size=1m;",
};

TEST_F(mount, options)
{
	const struct option_case *c;
	struct statfs fs;
	struct stat st;
	size_t i;

	for (c = option_cases; c < option_cases + ARRAY_SIZE(option_cases); c++) {
		ASSERT_EQ(0, mount("m", self->a, "cowmem", 0, c->options))
			TH_LOG("%s: %s", c->options, strerror(errno));
		must(!statfs(self->a, &fs) && !stat(self->a, &st));
		if (c->blocks >= 0)
			EXPECT_EQ((c->blocks * 4096 + pgsz() - 1) / pgsz(), fs.f_blocks)
				TH_LOG("%s", c->options);
		if (c->files >= 0)
			EXPECT_EQ(c->files, fs.f_files)
				TH_LOG("%s", c->options);
		EXPECT_EQ(c->mode, st.st_mode & 07777)
			TH_LOG("%s", c->options);
		EXPECT_EQ(0x636f776d, fs.f_type);
		EXPECT_EQ(pgsz(), fs.f_bsize);
		must(!umount(self->a));
	}
	for (i = 0; i < ARRAY_SIZE(bad_options); i++) {
		EXPECT_EQ(-1, mount("m", self->a, "cowmem", 0, bad_options[i]))
			TH_LOG("%s", bad_options[i]);
		EXPECT_EQ(EINVAL, errno)
			TH_LOG("%s", bad_options[i]);
	}
}

/* No limit is none: more than half of memory could be had; 0 says so to df. */
TEST_F(mount, no_limit)
{
	struct statfs fs;
	int fd;

	mount_at(self->a, "size=0,nr_inodes=0");
	fd = file_at(self->a, "file", 100, 1);
	must(!statfs(self->a, &fs));
	EXPECT_EQ(0, fs.f_blocks);
	EXPECT_EQ(0, fs.f_bfree);
	EXPECT_EQ(0, fs.f_files);
	close(cloned(fd));
	close(fd);
}

/* What /proc/mounts says of @where, or "" */
static const char *mounted_with(const char *where)
{
	static char text[1 << 14];
	char line[64], *at;

	must(read_file("/proc/self/mounts", text, sizeof(text)) > 0);
	snprintf(line, sizeof(line), "\nm %s cowmem ", where);
	at = strstr(text, line);
	if (!at)
		return "";
	at += strlen(line);
	at[strcspn(at, "\n ")] = 0;
	return at;
}

/* What /proc/mounts says of a mount of this context, which is at @where.  Both are gone then. */
static const char *shown_by(int fs, const char *where)
{
	const char *shown;
	int mnt;

	must(!syscall(SYS_fsconfig, fs, SET_STRING, "source", "m", 0));
	must(!syscall(SYS_fsconfig, fs, CREATE, NULL, NULL, 0));
	mnt = syscall(SYS_fsmount, fs, 0, 0);
	must(mnt >= 0);
	must(!syscall(SYS_move_mount, mnt, "", AT_FDCWD, where, 4 /* MOVE_MOUNT_F_EMPTY_PATH */));
	shown = mounted_with(where);
	must(*shown);
	close(mnt);
	must(!umount(where));
	close(fs);
	return shown;
}

/* What is wrong is told in the context's log. */
TEST_F(mount, why_it_was_refused)
{
	static const char * const bad[][2] = {
		{ "size", "x" }, { "size", "99999999999999999999" }, { "nr_inodes", "x" },
		{ "mode", "9" }, { "mode", "77777" }, { "nonsense", "1" }, { "huge", "x" },
		{ "huge", "always\n" }, { "uid", "-1" }, { "gid", "4294967295" },
	};
	char log[500], want[200];
	size_t i;

	snprintf(want, sizeof(want), "%s", shown_by(syscall(SYS_fsopen, "cowmem", 0), self->a));
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		int fs = syscall(SYS_fsopen, "cowmem", 0);
		ssize_t n;

		ASSERT_LE(0, fs);
		EXPECT_EQ(-1, syscall(SYS_fsconfig, fs, SET_STRING, bad[i][0], bad[i][1], 0));
		EXPECT_EQ(EINVAL, errno);
		n = read(fs, log, sizeof(log) - 1);
		ASSERT_LT(2, n);
		log[n] = 0;
		EXPECT_EQ(0, strncmp(log, "e cowmem", 8))
			TH_LOG("%s", log);
		EXPECT_NE(NULL, strstr(log, bad[i][0]))
			TH_LOG("%s", log);
		/* And it is forgotten. */
		EXPECT_STREQ(want, shown_by(fs, self->a));
	}
}

/* 0 or errno */
static int remounting(const char *where, unsigned long flags, const char *options)
{
	return mount("m", where, NULL, MS_REMOUNT | flags, sized(options)) ? errno : 0;
}

TEST_F(mount, remount)
{
	struct stat st;
	int fd;

	mount_at(self->a, "size=64k,nr_inodes=10,mode=755");
	fd = file_at(self->a, "file", 8, 1);
	close(file_at(self->a, "2", 0, 0));
	/* Not below what is in use */
	EXPECT_EQ(EINVAL, remounting(self->a, 0, "size=28k"));
	EXPECT_EQ(EINVAL, remounting(self->a, 0, "nr_inodes=2"));
	EXPECT_EQ(EINVAL, remounting(self->a, 0, "size=1m,nr_inodes=2"));
	EXPECT_EQ(EINVAL, remounting(self->a, 0, "size=1m,mode=700,nonsense"));
	EXPECT_EQ(EINVAL, remounting(self->a, 0, "size=x"));
	/* A refusal changes nothing. */
	EXPECT_EQ(8, pages_at(self->a));
	EXPECT_EQ(-1, pwrite(fd, "x", 1, 16 * pgsz()) +
		  pwrite(fd, "x", 1, 9 * pgsz()) + pwrite(fd, "x", 1, 10 * pgsz()) - 4);
	must(!ftruncate(fd, 8 * pgsz()));
	must(!stat(self->a, &st));
	EXPECT_EQ(0755, st.st_mode & 07777);
	EXPECT_EQ(0, remounting(self->a, 0, "size=32k"));
	EXPECT_EQ(-1, pwrite(fd, "x", 1, 8 * pgsz()));
	EXPECT_EQ(ENOSPC, errno);
	EXPECT_EQ(0, remounting(self->a, 0, "nr_inodes=3"));
	EXPECT_EQ(-1, do_clone(fd, 0, 0, 0));
	EXPECT_EQ(ENOSPC, errno);
	/* What is not given stays. */
	EXPECT_EQ(0, remounting(self->a, 0, "size=36k"));
	EXPECT_EQ(1, pwrite(fd, "x", 1, 8 * pgsz()));
	EXPECT_EQ(-1, pwrite(fd, "x", 1, 9 * pgsz()));
	EXPECT_EQ(-1, do_clone(fd, 0, 0, 0));
	EXPECT_EQ(0, remounting(self->a, 0, "nr_inodes=4"));
	close(cloned(fd));
	EXPECT_EQ(0, remounting(self->a, 0, "size=0"));
	EXPECT_EQ(1, pwrite(fd, "x", 1, 9 * pgsz()));
	EXPECT_EQ(0, remounting(self->a, 0, "size=1m"));
	EXPECT_EQ(10, pages_at(self->a));
	EXPECT_EQ(0, remounting(self->a, 0, "mode=700,uid=5,gid=6"));
	must(!stat(self->a, &st));
	EXPECT_EQ(0700, st.st_mode & 07777);
	EXPECT_EQ(5, st.st_uid);
	EXPECT_EQ(6, st.st_gid);
	EXPECT_EQ(0, remounting(self->a, 0, NULL));
	must(!stat(self->a, &st));
	EXPECT_EQ(0700, st.st_mode & 07777);
	EXPECT_EQ(5, st.st_uid);
	EXPECT_TRUE(fd_is(fd, 0, 8, 1));
}

/* ---- huge= ---- */

/* Does the first write to an area get all of that? */
static bool gets_huge(int fd, uint64_t area)
{
	uint64_t before = info(fd).pages_huge;

	must(pwrite(fd, "x", 1, (area * AREA + 7) * pgsz()) == 1);
	return info(fd).pages_huge == before + AREA;
}

static int large_file_at(const char *where, const char *name)
{
	int fd = file_at(where, name, 0, 0);

	must(!ftruncate(fd, 64 * AREA * pgsz()));
	return fd;
}

TEST_F(mount, huge_in_proc)
{
	if (no_areas(1))
		SKIP(return, "%s", no_areas(1));
	mount_at(self->a, "size=1m");
	EXPECT_EQ(NULL, strstr(mounted_with(self->a), "huge"));
	EXPECT_EQ(0, remounting(self->a, 0, "huge=always"));
	EXPECT_NE(NULL, strstr(mounted_with(self->a), ",huge=always"));
	EXPECT_EQ(0, remounting(self->a, 0, "size=2m"));
	EXPECT_NE(NULL, strstr(mounted_with(self->a), ",huge=always"));
	EXPECT_EQ(0, remounting(self->a, 0, "huge=never"));
	EXPECT_NE(NULL, strstr(mounted_with(self->a), ",huge=never"));
	EXPECT_EQ(EINVAL, remounting(self->a, 0, "huge=within_size"));
	EXPECT_EQ(EINVAL, remounting(self->a, 0, "huge=advise,size=x"));
	EXPECT_NE(NULL, strstr(mounted_with(self->a), ",huge=never"));
	EXPECT_EQ(0, remounting(self->a, 0, "huge=advise"));
	EXPECT_EQ(NULL, strstr(mounted_with(self->a), "huge"));
	must(!umount(self->a));
	mount_at(self->a, "huge=never,huge=always");
	EXPECT_NE(NULL, strstr(mounted_with(self->a), ",huge=always"));
}

/* A remount is about files that exist as well, and their clones. */
TEST_F(mount, huge_is_what_the_mount_says)
{
	int fd, clone, i;

	if (no_areas(10))
		SKIP(return, "%s", no_areas(10));
	mount_at(self->a, NULL);
	fd = large_file_at(self->a, "file");
	clone = cloned(fd);
	for (i = 0; i < 12; i += 4) {
		EXPECT_FALSE(gets_huge(fd, i));
		EXPECT_FALSE(gets_huge(clone, i));
		ASSERT_EQ(0, remounting(self->a, 0, "huge=always"));
		EXPECT_TRUE(gets_huge(fd, i + 2));
		EXPECT_TRUE(gets_huge(clone, i + 2));
		EXPECT_TRUE(gets_huge(cloned(fd), 40 + i));
		ASSERT_EQ(0, remounting(self->a, 0, i ? "huge=never" : "huge=advise"));
	}
	/* What there is stays. */
	EXPECT_EQ(3 * AREA, info(fd).pages_huge);
}

/* One file gets more than the others, but where the mount says never. */
TEST_F(mount, huge_of_one_file)
{
	int fd, other, clone;

	if (no_areas(4))
		SKIP(return, "%s", no_areas(4));
	mount_at(self->a, "huge=never");
	fd = large_file_at(self->a, "file");
	other = large_file_at(self->a, "other");
	close(file_of(fd, COWMEM_FILE_HUGE));
	clone = cloned(fd);
	EXPECT_FALSE(gets_huge(fd, 0));
	EXPECT_FALSE(gets_huge(clone, 0));
	ASSERT_EQ(0, remounting(self->a, 0, "huge=advise"));
	EXPECT_TRUE(gets_huge(fd, 2));
	EXPECT_TRUE(gets_huge(clone, 2));
	EXPECT_FALSE(gets_huge(other, 2));
	EXPECT_FALSE(gets_huge(cloned(other), 4));
	EXPECT_EQ(0, ficlone(other, fd));
	EXPECT_FALSE(gets_huge(other, 4));
	/* Whoever may only read does not decide that. */
	EXPECT_EQ(-1, do_file(open_at(self->a, "other", O_RDONLY),
			      COWMEM_FILE_HUGE | COWMEM_FILE_RDONLY, NULL));
	EXPECT_EQ(EBADF, errno);
	EXPECT_FALSE(gets_huge(other, 6));
}

/* A mount that does not say it is as the module's parameter says. */
TEST_F(mount, huge_by_default)
{
	if (no_areas(2))
		SKIP(return, "%s", no_areas(2));
	must(!write_file(HUGE, "always"));
	mount_at(self->a, NULL);
	mount_at(self->b, "huge=advise");
	must(!write_file(HUGE, "advise"));
	EXPECT_NE(NULL, strstr(mounted_with(self->a), ",huge=always"));
	EXPECT_TRUE(gets_huge(large_file_at(self->a, "file"), 0));
	EXPECT_FALSE(gets_huge(large_file_at(self->b, "file"), 0));
	EXPECT_EQ(AREA, pages_at(self->a));
	EXPECT_EQ(1, pages_at(self->b));
}

/* All of an area counts, as long as any of it is held; where it does not fit, a page does. */
TEST_F(mount, huge_counts_as_a_whole)
{
	int fd, clone, i, room = 2 * AREA + AREA / 2;
	char options[64];

	if (no_areas(4))
		SKIP(return, "%s", no_areas(4));
	snprintf(options, sizeof(options), "huge=always,size=%zu", room * pgsz());
	must(!mount("m", self->a, "cowmem", 0, options));
	fd = large_file_at(self->a, "file");
	EXPECT_TRUE(gets_huge(fd, 0));
	EXPECT_TRUE(gets_huge(fd, 2));
	EXPECT_EQ(2 * AREA, pages_at(self->a));
	EXPECT_FALSE(gets_huge(fd, 4));
	EXPECT_EQ(2 * AREA + 1, pages_at(self->a));
	clone = cloned(fd);
	EXPECT_EQ(2 * AREA + 1, pages_at(self->a));
	must(!ftruncate(fd, 0));
	EXPECT_EQ(2 * AREA + 1, pages_at(self->a));
	must(!ftruncate(clone, 0));
	EXPECT_TRUE(pages_fall_to(self->a, 0));
	/* And it can be written up to the last page. */
	must(!ftruncate(fd, 64 * AREA * pgsz()));
	for (i = 0; i < room; i++)
		must(pwrite(fd, "x", 1, i * pgsz()) == 1);
	EXPECT_EQ(room, pages_at(self->a));
	EXPECT_EQ(-1, pwrite(fd, "x", 1, i * pgsz()));
	EXPECT_EQ(ENOSPC, errno);
}

/* Nothing is made or written on what is read-only, not even by cloning. */
TEST_F(mount, read_only)
{
	int fd, ro, clone;
	long inodes;

	mount_at(self->a, "size=1m");
	fd = file_at(self->a, "file", 4, 1);
	EXPECT_EQ(EBUSY, remounting(self->a, MS_RDONLY, NULL));
	clone = cloned(fd);
	close(fd);
	EXPECT_EQ(EBUSY, remounting(self->a, MS_RDONLY, NULL));
	EXPECT_EQ(0, name_it(clone, self->a, "clone"));
	EXPECT_EQ(EBUSY, remounting(self->a, MS_RDONLY, NULL));
	close(clone);
	EXPECT_EQ(0, remounting(self->a, MS_RDONLY, NULL));
	ro = open_at(self->a, "file", O_RDONLY);
	ASSERT_LE(0, ro);
	inodes = inodes_at(self->a);
	EXPECT_EQ(-1, open_at(self->a, ".", O_TMPFILE | O_RDWR));
	EXPECT_EQ(EROFS, errno);
	EXPECT_EQ(-1, do_clone(ro, 0, 0, 0));
	EXPECT_EQ(EROFS, errno);
	EXPECT_EQ(EROFS, clone_many(&ro, &clone, 1, 0));
	EXPECT_EQ(inodes, inodes_at(self->a));
	EXPECT_EQ(-1, do_file(ro, 0, "rw"));
	close(file_of(ro, COWMEM_FILE_VIEW));
	close(file_of(ro, COWMEM_FILE_RDONLY));
	EXPECT_TRUE(fd_is(ro, 0, 4, 1));
	/* A region of the device can be made equal to it. */
	fd = region_of(4, 2);
	EXPECT_EQ(0, restore_from(fd, ro, 0));
	EXPECT_TRUE(fd_is(fd, 0, 4, 1));
}

/* Each descriptor that can be written keeps the mount from getting read-only. */
TEST_F(mount, named_files_write_to_it)
{
	static const char * const names[] = { NULL, "", "name" };
	char link[64], path[64];
	size_t i;

	mount_at(self->a, "size=1m");
	for (i = 0; i < ARRAY_SIZE(names); i++) {
		int fd = file_at(self->a, "file", 4, 1), file = do_file(fd, 0, names[i]);

		ASSERT_LE(0, file);
		close(fd);
		EXPECT_EQ(EBUSY, remounting(self->a, MS_RDONLY, NULL))
			TH_LOG("named '%s'", names[i]);
		EXPECT_EQ(1, pwrite(file, "x", 1, 0));
		sprintf(path, "/proc/self/fd/%d", file);
		ASSERT_LT(0, readlink(path, link, sizeof(link)));
		if (names[i] && *names[i])
			EXPECT_EQ(0, strncmp(link, "/cowmem:name", 12));
		/* Once all that can is gone, there is none by another's descriptor. */
		fd = do_file(file, COWMEM_FILE_RDONLY, names[i]);
		ASSERT_LE(0, fd);
		close(file);
		EXPECT_EQ(0, remounting(self->a, MS_RDONLY, NULL));
		EXPECT_EQ(-1, do_file(fd, 0, names[i]));
		EXPECT_EQ(EBADF, errno);
		close(fd);
		EXPECT_EQ(0, remounting(self->a, 0, NULL));
	}
}

/* ---- options that nobody thought of ---- */

static const char * const option_words[] = {
	"size", "nr_inodes", "mode", "uid", "gid", "huge", "ro", "source", "", "sizes",
};

static void random_text(char *text, size_t n)
{
	static const char some[] = "0123456789kKmMgGtTpPeE%=,-+x. \t\n\"\\\377";
	size_t i;

	for (i = 0; i < n; i++)
		text[i] = some[below(sizeof(some) - 1)];
	text[n] = 0;
}

static void random_option(char *text)
{
	static const char * const values[] = {
		"0", "1", "4096", "1m", "50%", "18446744073709551615", "9223372036854775807",
		"4611686018427387904", "7e", "8e", "1777", "0777", "65534", "-1", "",
		"never", "advise", "always",
	};
	char value[300];

	if (below(3))
		sprintf(value, "%s", values[below(ARRAY_SIZE(values))]);
	else
		random_text(value, below(10) ? below(12) : below(290));
	sprintf(text, "%s%s%s", option_words[below(ARRAY_SIZE(option_words))],
		below(8) ? "=" : "", value);
}

/* Does what is mounted there make sense? */
static bool plausible(const char *where)
{
	struct statfs fs;
	struct stat st;
	int fd;

	if (statfs(where, &fs) || stat(where, &st))
		return false;
	if (fs.f_type != 0x636f776d || fs.f_bsize != pgsz() || fs.f_bfree > fs.f_blocks ||
	    fs.f_ffree > fs.f_files || !S_ISDIR(st.st_mode) || st.st_nlink != 2)
		return false;
	fd = open_at(where, "file", O_RDWR | O_CREAT);
	if (fd < 0)
		return errno == ENOSPC || errno == EROFS;
	if (pwrite(fd, "x", 1, 0) != 1 && errno != ENOSPC)
		return false;
	close(fd);
	return true;
}

static bool is_refusal(int err)
{
	return err == EINVAL || err == ENOMEM || err == ENOSPC;
}

TEST_F(mount, random_options)
{
	int i, k, n = random_ops(3000), worked = 0;
	char text[4000];

	rng_init();
	for (i = 0; i < n; i++) {
		text[0] = 0;
		for (k = below(2); k >= 0; k--) {
			random_option(text + strlen(text));
			if (k)
				strcat(text, ",");
		}
		if (mount("m", self->a, "cowmem", 0, text)) {
			ASSERT_TRUE(is_refusal(errno))
				TH_LOG("%s: %s", text, strerror(errno));
			continue;
		}
		worked++;
		ASSERT_TRUE(plausible(self->a))
			TH_LOG("%s", text);
		random_option(text);
		if (mount("m", self->a, NULL, MS_REMOUNT, text))
			ASSERT_TRUE(is_refusal(errno))
				TH_LOG("remount %s: %s", text, strerror(errno));
		ASSERT_TRUE(plausible(self->a))
			TH_LOG("remounted %s", text);
		ASSERT_EQ(0, umount(self->a));
	}
	TH_LOG("%d of %d were mounted", worked, n);
	EXPECT_LT(0, worked);
}

/* One random step of a file system context */
static void configure(int fs)
{
	unsigned int cmd = below(10);
	const char *key = option_words[below(ARRAY_SIZE(option_words))];
	char value[4000], junk[64] = "";

	random_option(value);
	if (below(2))
		memmove(value, value + strcspn(value, "="), sizeof(value) - 400);
	switch (cmd) {
	case SET_FLAG:
		syscall(SYS_fsconfig, fs, cmd, key, NULL, 0);
		break;
	case SET_BINARY:
		syscall(SYS_fsconfig, fs, cmd, key, junk, below(sizeof(junk)));
		break;
	case SET_PATH:
		syscall(SYS_fsconfig, fs, cmd, key, "/", AT_FDCWD);
		break;
	case SET_PATH_EMPTY:
		syscall(SYS_fsconfig, fs, cmd, key, "", AT_FDCWD);
		break;
	case SET_FD:
		syscall(SYS_fsconfig, fs, cmd, key, NULL, 0);
		break;
	case CREATE:
	case RECONFIGURE:
		syscall(SYS_fsconfig, fs, cmd, NULL, NULL, 0);
		break;
	default:
		syscall(SYS_fsconfig, fs, SET_STRING, key, value, 0);
	}
}

static void random_number(char *text)
{
	sprintf(text, "%llu%.*s", (unsigned long long)(rng() >> below(64)), (int)below(2),
		&"kmgtpe"[below(6)]);
}

TEST_F(mount, random_contexts)
{
	int i, k, n = random_ops(2000), worked = 0;
	char path[64], number[40];

	rng_init();
	for (i = 0; i < n; i++) {
		int fs = syscall(SYS_fsopen, "cowmem", below(2)), mnt;

		ASSERT_LE(0, fs);
		for (k = below(8); k; k--)
			configure(fs);
		random_number(number);
		syscall(SYS_fsconfig, fs, SET_STRING, "size", number, 0);
		syscall(SYS_fsconfig, fs, CREATE, NULL, NULL, 0);
		mnt = syscall(SYS_fsmount, fs, below(2), 0);
		if (mnt >= 0) {
			worked++;
			snprintf(path, sizeof(path), "/proc/self/fd/%d", mnt);
			ASSERT_TRUE(plausible(path));
			for (k = below(4); k; k--)
				configure(fs);
			syscall(SYS_fsconfig, fs, RECONFIGURE, NULL, NULL, 0);
			close(mnt);
		}
		close(fs);
	}
	TH_LOG("%d of %d were mounted", worked, n);
	EXPECT_LT(0, worked);
}

/* ---- who may mount ---- */

static int mounting_as_nobody(const char *where, bool namespace)
{
	return in_child(
		must(!chmod(where, 0777));
		become_nobody();
		if (namespace && unshare(CLONE_NEWUSER | CLONE_NEWNS))
			_exit(200);
		_exit(mount("m", where, "cowmem", 0, NULL) ? errno : 0);
	);
}

TEST_F(mount, needs_the_right)
{
	int err = mounting_as_nobody(self->a, true);

	EXPECT_EQ(EPERM, mounting_as_nobody(self->a, false));
	EXPECT_EQ(EPERM, in_child(
		become_nobody();
		_exit(syscall(SYS_fsopen, "cowmem", 0) < 0 ? errno : 0);
	));
	if (err == 200)
		SKIP(return, "no user namespaces for users here");
	EXPECT_EQ(EPERM, err);
	EXPECT_EQ(EPERM, in_child(
		become_nobody();
		must(!unshare(CLONE_NEWUSER | CLONE_NEWNS));
		if (syscall(SYS_fsopen, "cowmem", 0) < 0)
			_exit(errno);
		/* Then the mount itself is what fails. */
		err = syscall(SYS_fsopen, "cowmem", 0);
		_exit(syscall(SYS_fsconfig, err, CREATE, NULL, NULL, 0) ? errno : 0);
	));
	/* Nor may root be asked to change the options. */
	mount_at(self->a, "size=1m,mode=777");
	EXPECT_EQ(EPERM, in_child(
		become_nobody();
		_exit(mount("m", self->a, NULL, MS_REMOUNT, "size=2m") ? errno : 0);
	));
}

/* ---- programs ---- */

static const char * const list_tests[] = { "program", "-l", NULL };

static int run_program(const char *path)
{
	return in_child(
		int null = open("/dev/null", O_RDWR);

		dup2(null, 1);
		dup2(null, 2);
		execv(path, (char **)list_tests);
		_exit(errno);
	);
}

/* A program that runs is not written; its reflinks are programs of their own. */
TEST_F(mount, programs_and_reflinks)
{
	char path[64], other[64], fd_path[40];
	int to, from, works;

	mount_at(self->a, "size=64m");
	snprintf(path, sizeof(path), "%s/program", self->a);
	snprintf(other, sizeof(other), "%s/other", self->a);
	copy_program(path);
	works = run_program("/proc/self/exe");
	EXPECT_EQ(works, run_program(path));
	to = file_at(self->a, "other", 0, 0);
	from = open(path, O_RDONLY | O_CLOEXEC);
	must(from >= 0);
	EXPECT_EQ(0, ficlone(to, from));
	must(!fchmod(to, 0755));
	EXPECT_EQ(ETXTBSY, run_program(other));
	close(to);
	EXPECT_EQ(works, run_program(other));
	/* Nothing but a descriptor */
	to = snapshot(from);
	snprintf(fd_path, sizeof(fd_path), "/proc/self/fd/%d", to);
	EXPECT_EQ(EACCES, run_program(fd_path));
	must(!fchmod(to, 0755));
	EXPECT_EQ(works, run_program(fd_path));
	must(!truncate(other, 100));
	EXPECT_EQ(works, run_program(path));
	EXPECT_EQ(ENOEXEC, run_program(other) == 139 ? ENOEXEC : run_program(other));
}

/* ---- /proc, and watching files ---- */

static bool maps_show(const void *mem, const char *want)
{
	FILE *file = fopen("/proc/self/maps", "re");
	char line[PATH_MAX], start[40];
	bool found = false;

	must(file);
	snprintf(start, sizeof(start), "%lx-", (unsigned long)mem);
	while (fgets(line, sizeof(line), file))
		found |= !strncmp(line, start, strlen(start)) && strstr(line, want);
	fclose(file);
	return found;
}

TEST_F(mount, names_in_proc)
{
	int fd, clone;
	char want[80], *mem, *of_clone;

	mount_at(self->a, NULL);
	fd = file_at(self->a, "file", 1, 1);
	mem = map_rw(fd, 1);
	snprintf(want, sizeof(want), "%s/file\n", self->a);
	EXPECT_TRUE(maps_show(mem, want));
	clone = cloned(fd);
	of_clone = map_rw(clone, 1);
	EXPECT_TRUE(maps_show(of_clone, "(deleted)"));
	EXPECT_EQ(0, name_it(clone, self->a, "clone"));
	/* To open it by its name shows that. */
	close(clone);
	unmap(of_clone, 1);
	clone = open_at(self->a, "clone", O_RDWR);
	of_clone = map_rw(clone, 1);
	snprintf(want, sizeof(want), "%s/clone\n", self->a);
	EXPECT_TRUE(maps_show(of_clone, want));
	EXPECT_EQ(0, unlink_at(self->a, "file"));
	snprintf(want, sizeof(want), "%s/file (deleted)\n", self->a);
	EXPECT_TRUE(maps_show(mem, want));
}

TEST_F(mount, events_of_clones)
{
	int in = inotify_init1(IN_NONBLOCK | IN_CLOEXEC), fd, clone;

	if (in < 0)
		SKIP(return, "no inotify here");
	mount_at(self->a, NULL);
	fd = file_at(self->a, "file", 1, 1);
	ASSERT_LE(0, inotify_add_watch(in, self->a, IN_ALL_EVENTS & ~IN_ACCESS));
	clone = cloned(fd);
	EXPECT_EQ(0, events(in) & (IN_CREATE | IN_MODIFY));
	EXPECT_EQ(0, name_it(clone, self->a, "clone"));
	EXPECT_EQ(IN_CREATE, events(in));
	close(clone);
	clone = open_at(self->a, "clone", O_RDWR);
	events(in);
	EXPECT_EQ(0, ficlone(clone, fd));
	EXPECT_EQ(IN_MODIFY, events(in));
	close(clone);
	events(in);
	EXPECT_EQ(0, unlink_at(self->a, "clone"));
	EXPECT_EQ(IN_DELETE, events(in));
}

/* ---- a directory as it was at one instant ---- */

enum { CUT_FILES = 300, RINGS = 2, RING = CUT_FILES / RINGS };

/*
 * Each writer goes round and round the files of its ring, and writes a number that is
 * one more than the last: what the ring holds at any instant tells the last number, and
 * from it all others.
 */
struct ring {
	int *fds;
	uint64_t **mem;		/* where they are mapped, or NULL: by write() */
	uint64_t written;
	int stop;
};

static void *goes_round(void *arg)
{
	struct ring *r = arg;
	uint64_t n;

	yield_to_main();
	for (n = 1; !get(&r->stop); n++) {
		int i = n % RING;

		if (r->mem)
			*(volatile uint64_t *)r->mem[i] = n;
		else
			must(pwrite(r->fds[i], &n, sizeof(n), 0) == sizeof(n));
		__atomic_store_n(&r->written, n, __ATOMIC_RELEASE);
	}
	return NULL;
}

/* Returns the last number, or 0 if the ring was never like this. */
static uint64_t last_of_ring(const uint64_t *seen)
{
	uint64_t last = 0, want;
	int i;

	for (i = 0; i < RING; i++)
		if (seen[i] > last)
			last = seen[i];
	for (i = 0; i < RING; i++) {
		/* The last number that was written to file i */
		want = last - (last % RING + RING - i) % RING;
		if (last < (last % RING + RING - i) % RING)
			want = 0;
		if (seen[i] != want) {
			fprintf(stderr, "# file %d has %llu, not %llu: the last one is %llu\n",
				i, (unsigned long long)seen[i], (unsigned long long)want,
				(unsigned long long)last);
			return 0;
		}
	}
	return last;
}

static void cut_name(char *name, const char *dir, int i)
{
	sprintf(name, "%s/file %d", dir, i);
}

static void make_cut_files(const char *where, int *fds, uint64_t **mem)
{
	char name[64];
	int i;

	for (i = 0; i < CUT_FILES; i++) {
		cut_name(name, "live", i);
		fds[i] = file_at(where, name, 0, 0);
		must(!ftruncate(fds[i], pgsz()));
		mem[i] = (uint64_t *)map_rw(fds[i], 1);
	}
}

/* Read the files of a directory again, by their names. */
static bool cut_is_one(const char *where, uint64_t *last)
{
	uint64_t seen[CUT_FILES];
	char name[64];
	int i, fd;

	for (i = 0; i < CUT_FILES; i++) {
		cut_name(name, "snap", i);
		fd = open_at(where, name, O_RDONLY);
		must(fd >= 0 && pread(fd, &seen[i], 8, 0) == 8);
		close(fd);
		must(open_at(where, name, O_RDWR) < 0 && errno == EPERM);
	}
	for (i = 0; i < RINGS; i++)
		last[i] = last_of_ring(seen + i * RING);
	return last[0] && last[1];
}

static void name_all(const char *where, const int *clones)
{
	char name[64];
	int i;

	for (i = 0; i < CUT_FILES; i++) {
		cut_name(name, "snap", i);
		unlink_at(where, name);
		must(!name_it(clones[i], where, name));
		close(clones[i]);
	}
}

TEST_F_TIMEOUT(mount, a_directory_is_cloned_as_one_cut, 300)
{
	static int fds[CUT_FILES], clones[CUT_FILES];
	static uint64_t *mem[CUT_FILES];
	struct ring rings[RINGS] = {};
	uint64_t last[RINGS], before[RINGS];
	pthread_t thread[RINGS];
	char path[64];
	int i, round;

	must(!setrlimit(RLIMIT_NOFILE, &(struct rlimit){ 4096, 4096 }));
	mount_at(self->a, "size=64m");
	snprintf(path, sizeof(path), "%s/live", self->a);
	must(!mkdir(path, 0755));
	snprintf(path, sizeof(path), "%s/snap", self->a);
	must(!mkdir(path, 0755));
	make_cut_files(self->a, fds, mem);
	for (i = 0; i < RINGS; i++) {
		rings[i].fds = fds + i * RING;
		rings[i].mem = i ? mem + RING : NULL;
		must(!pthread_create(&thread[i], NULL, goes_round, &rings[i]));
	}
	for (i = 0; i < RINGS; i++)
		await_count(&rings[i].written, 3);
	for (round = 0; round < effort(40); round++) {
		for (i = 0; i < RINGS; i++)
			before[i] = __atomic_load_n(&rings[i].written, __ATOMIC_ACQUIRE);
		ASSERT_EQ(0, clone_many(fds, clones, CUT_FILES, COWMEM_CLONE_SNAPSHOT));
		name_all(self->a, clones);
		ASSERT_TRUE(cut_is_one(self->a, last));
		/* What was written before is in it. */
		for (i = 0; i < RINGS; i++)
			EXPECT_LE(before[i], last[i]);
	}
	for (i = 0; i < RINGS; i++) {
		put(&rings[i].stop, 1);
		pthread_join(thread[i], NULL);
		EXPECT_LT(before[i], rings[i].written);
	}
	TH_LOG("%llu and %llu numbers written", (unsigned long long)rings[0].written,
	       (unsigned long long)rings[1].written);
	/* The last one holds all the pages that are no longer in the files. */
	for (i = 0; i < CUT_FILES; i++) {
		cut_name(path, "snap", i);
		EXPECT_EQ(0, unlink_at(self->a, path));
	}
	EXPECT_TRUE(pages_fall_to(self->a, CUT_FILES));
	EXPECT_EQ(3 + CUT_FILES, inodes_at(self->a));
}

/* ---- mounts that map ids ---- */

struct idmap_attr {
	uint64_t set, clear, propagation, userns_fd;
};

/* A user namespace in which 0 is outside's 1000 */
static int user_namespace(void)
{
	char path[64];
	int ready[2], fd = -1;
	pid_t pid;
	char c;

	must(!pipe(ready));
	pid = spawn();
	if (!pid) {
		if (unshare(CLONE_NEWUSER))
			_exit(1);
		must(write(ready[1], "x", 1) == 1);
		pause();
		_exit(0);
	}
	close(ready[1]);
	if (read(ready[0], &c, 1) == 1) {
		snprintf(path, sizeof(path), "/proc/%d/uid_map", pid);
		must(!write_file(path, "0 1000 10"));
		snprintf(path, sizeof(path), "/proc/%d/gid_map", pid);
		must(!write_file(path, "0 1000 10"));
		snprintf(path, sizeof(path), "/proc/%d/ns/user", pid);
		fd = open(path, O_RDONLY | O_CLOEXEC);
	}
	kill(pid, SIGKILL);
	reap(pid);
	close(ready[0]);
	return fd;
}

/* What is made through such a mount belongs to whom it belongs to with O_TMPFILE. */
TEST_F(mount, mapped_ids)
{
	struct idmap_attr attr = { .set = 0x00100000 };
	int tree, fd, clone, tmp, ns = user_namespace();
	char path[64];

	if (ns < 0)
		SKIP(return, "no user namespaces here");
	mount_at(self->a, "size=1m,mode=777");
	close(file_at(self->a, "file", 4, 1));
	snprintf(path, sizeof(path), "%s/file", self->a);
	must(!chown(path, 3, 3));
	tree = syscall(SYS_open_tree, AT_FDCWD, self->a, 1 | O_CLOEXEC);
	must(tree >= 0);
	attr.userns_fd = ns;
	ASSERT_EQ(0, syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &attr, sizeof(attr)));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", tree);
	EXPECT_EQ(0, in_child(
		must(!setgroups(0, NULL) && !setresgid(1003, 1003, 1003));
		must(!setresuid(1003, 1003, 1003) && !prctl(PR_SET_DUMPABLE, 1));
		fd = openat(tree, "file", O_RDWR);
		tmp = openat(tree, ".", O_TMPFILE | O_RDWR, 0600);
		if (fd < 0 || tmp < 0)
			_exit(1);
		clone = cloned(fd);
		if (stat_of(tmp).st_uid != 1003 || stat_of(clone).st_uid != 1003)
			_exit(2);
		if (stat_of(tmp).st_gid != stat_of(clone).st_gid)
			_exit(3);
		if (fchmod(clone, 0640))
			_exit(4);
		if (name_it(clone, path, "clone"))
			_exit(5);
	));
	/* Without the map */
	fd = open_at(self->a, "clone", O_RDWR);
	ASSERT_LE(0, fd);
	EXPECT_EQ(3, stat_of(fd).st_uid);
	EXPECT_EQ(3, stat_of(fd).st_gid);
}

TEST_HARNESS_MAIN
