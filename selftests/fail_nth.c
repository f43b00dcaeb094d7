// SPDX-License-Identifier: GPL-2.0-only
/*
 * Promise: when memory cannot be had, whatever it was for, a call fails with the
 * errno that is documented, and changes nothing that a caller can see; a fault is
 * tried again; and nothing is lost.
 *
 * Every operation is done again and again, and the first, second, third...
 * allocation in it fails (Documentation/fault-injection, fail-nth), until it has no
 * more of them.  If copies to and from user memory can be made to fail, they do,
 * too.
 */
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/mempolicy.h>
#include <dirent.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/xattr.h>

#include "../kselftest.h"
#include "common.h"
#include "areas.h"
#include "files.h"
#include "module.h"

#define FAIL_NTH "/proc/thread-self/fail-nth"
#define FAULTS "/sys/kernel/debug/"
#define KMEMLEAK FAULTS "kmemleak"
#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

/* Three leaves; the region is mapped where there are no page tables yet. */
enum { PAGES = 140, HOLE = 30, NEXT = 22, SHARED = 70, OTHER = 100, LAST = 128 };
/* Of areas that a PMD can map, three; the first has small pages. */
#define WIDE (3 * AREA)
/* Pages that are written in order: a leaf, and what comes as a block behind it */
enum { IN_ORDER = 64 + 64 };
/* Where a cowmem file system is mounted, nowhere else than for this test */
#define PLACE "/tmp/cowmem_fail_nth"
#define FAR ((void *)0x200000000000)
#define FAR_TOO ((void *)0x300000000000)

/* No operation has so many allocations. */
#define TOO_MANY 5000

enum { R, S, O, N1, N2, N3, NR };

/*
 * What an operation is tried on: region R, its snapshot S, another region O; then
 * what the operation makes.
 */
struct world {
	int fd[NR];
	int pipe[2];
	char *mem;	/* where R is mapped, or NULL */
	bool private;	/* and whether privately */
	char *new;	/* what the operation mapped, or NULL */
	struct cowmem_merge_entry table[64];
};

/* All that a caller can see. */
struct state {
	struct cowmem_info info[NR];
	uint64_t sum[NR];
	uint64_t nodes;	/* that there are to compare R with O, empty leaves too */
	int locks;	/* how many kinds of locks R has */
	long pages;	/* that count in the mount */
	long inodes;	/* likewise */
	int names;	/* in its root directory */
	int fds;
};

enum {
	BARE = 1,	/* there is no region at all */
	FAILS = 2,	/* it fails at least once */
	RETRIES = 4,	/* it never fails: what does is tried again */
	SPLITS = 8,	/* failing, it may have split pages that were shared */
	MERGES = 16,	/* failing, it may have merged pages */
	GRANTS = 128,	/* failing, it may have made pages, but no nodes without any */
	ZEROES = 256,	/* failing, it may have done all but make pages of the zeroes */
	NOLOCK = 512,	/* ENOLCK is another word for ENOMEM */
	ANSWERS = 32,	/* if only its answer cannot be written, it is done */
	AGAIN = 64,	/* EAGAIN is another word for ENOMEM */
	FULL = 1024,	/* limit_mib is reached: ENOSPC is another word for ENOMEM */
	MOUNTED = 2048,	/* R and O are files of a mount, so S is, too */
	JOINS = 8192,	/* failing, it may have pages of the device count in the mount */
	HUGE_PAGES = 4096, /* R has an area that is huge; where one fails, pages are small */
};

struct op {
	const char *name;
	unsigned int flags;
	void (*prepare)(struct world *w);
	int (*run)(struct world *w);	/* 0, an errno, or minus a signal */
};

static bool usercopy_fails;

static int region_or_file(unsigned int flags, const char *path)
{
	int fd;

	if (!(flags & MOUNTED))
		return region();
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	must(fd >= 0);
	return fd;
}

/* Pages that R wrote itself, that it shares with S, that O has as well, holes. */
static void build(struct world *w, unsigned int flags)
{
	int i;

	memset(w, 0, sizeof(*w));
	for (i = 0; i < NR; i++)
		w->fd[i] = -1;
	must(!pipe2(w->pipe, O_CLOEXEC));
	if (flags & BARE)
		return;
	if (flags & MOUNTED)
		must(!mount("m", PLACE, "cowmem", 0, sized("size=16m,nr_inodes=20")));
	w->fd[R] = region_or_file(flags, PLACE "/r");
	must(!do_resize(w->fd[R], PAGES * pgsz()));
	put_pages(w->fd[R], 0, 8, 1);
	put_pages(w->fd[R], SHARED, 4, 1);
	put_pages(w->fd[R], 128, 4, 1);
	w->fd[S] = snapshot(w->fd[R]);
	put_pages(w->fd[R], 0, 4, 2);
	put_page(w->fd[R], 20, 2);
	put_page(w->fd[R], 21, 0);
	put_page(w->fd[R], 129, 2);
	/* Gives back the pages that were set aside for the next holes. */
	must(!do_discard(w->fd[R], 50 * pgsz(), pgsz()));
	w->fd[O] = region_or_file(flags, PLACE "/o");
	must(!do_resize(w->fd[O], PAGES * pgsz()));
	put_pages(w->fd[O], 0, 4, 2);
	put_page(w->fd[O], OTHER, 3);
}

/* ---- what happens before the operation ---- */

static void mapped(struct world *w)
{
	w->mem = mmap(FAR, PAGES * pgsz(), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_FIXED_NOREPLACE, w->fd[R], 0);
	must(w->mem == FAR);
}

/* R has no leaf from page LAST on. */
static void mapped_without_leaf(struct world *w)
{
	must(!do_discard(w->fd[R], LAST * pgsz(), (PAGES - LAST) * pgsz()));
	mapped(w);
}

static void mapped_privately(struct world *w)
{
	w->mem = mmap(FAR, PAGES * pgsz(), PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_FIXED_NOREPLACE, w->fd[R], 0);
	must(w->mem == FAR);
	w->private = true;
}

static void was_read(struct world *w)
{
	int i;

	mapped(w);
	for (i = 0; i < PAGES; i++)
		must(!touch(w->mem + i * pgsz(), false));
}

static void was_written(struct world *w)
{
	int i;

	was_read(w);
	for (i = 0; i < 4; i++)
		must(!touch(w->mem + i * pgsz(), true));
}

static void was_written_by_both(struct world *w)
{
	was_written(w);
	put_pages(w->fd[O], 64, 8, 4);
}

static void is_in_a_pipe(struct world *w)
{
	struct iovec iov[2];

	was_written(w);
	iov[0] = (struct iovec){ w->mem, 1 };
	iov[1] = (struct iovec){ w->mem + 2 * pgsz(), 1 };
	must(vmsplice(w->pipe[1], iov, 2, 0) == 2);
}

static void was_kept(struct world *w)
{
	struct cowmem_restore arg = { .flags = COWMEM_RESTORE_KEEP };

	was_written(w);
	arg.fd = w->fd[S];
	must(!ioctl(w->fd[R], COWMEM_IOC_RESTORE, &arg));
	must(!touch(w->mem, true));
	put_page(w->fd[R], 1, 5);
}

static void pipe_has_data(struct world *w)
{
	mapped(w);
	must(write(w->pipe[1], w->table, 100) == 100);
}

/* N3 is a regular file of R, and N2 one of O. */
static void as_files(struct world *w)
{
	w->fd[N3] = file_of(w->fd[R], 0);
	w->fd[N2] = file_of(w->fd[O], 0);
	must(w->fd[N3] >= 0 && w->fd[N2] >= 0);
}

static void written_as_files(struct world *w)
{
	was_written(w);
	as_files(w);
}

static void mapped_as_file(struct world *w)
{
	as_files(w);
	w->mem = mmap(FAR, PAGES * pgsz(), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_FIXED_NOREPLACE, w->fd[N3], 0);
	must(w->mem == FAR);
}

/* N3 is a file on a mount that nobody else sees, with an attribute. */
static void has_an_attribute(struct world *w)
{
	char dir[] = "/tmp/fail_nth.XXXXXX", path[64];

	must(mkdtemp(dir));
	must(!unshare(CLONE_NEWNS));
	must(!mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
	must(!mount("fail_nth", dir, "cowmem", 0, NULL));
	snprintf(path, sizeof(path), "%s/f", dir);
	w->fd[N3] = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	must(w->fd[N3] >= 0);
	must(!fsetxattr(w->fd[N3], "user.old", "old", 3, 0));
	must(!umount2(dir, MNT_DETACH) && !rmdir(dir));
}

/* Where memory comes from for what is mapped. */
static void mapped_with_policy(struct world *w)
{
	unsigned long nodes = 1;

	mapped(w);
	if (syscall(SYS_mbind, w->mem, PAGES * pgsz(), MPOL_BIND, &nodes, 8, 0))
		must(errno == ENOSYS);
}

/* O becomes larger than R, or ends within a page that R shares with S. */
static void other_is_larger(struct world *w)
{
	was_written_by_both(w);
	must(!do_resize(w->fd[O], (PAGES + 5) * pgsz() + 100));
	put_pages(w->fd[O], PAGES + 1, 2, 4);
}

static void other_is_smaller(struct world *w)
{
	was_written(w);
	must(!do_resize(w->fd[O], SHARED * pgsz() + 100));
}

/* R is larger, and another mapping of it asks for huge pages. */
static void with_areas(struct world *w)
{
	must(!do_resize(w->fd[R], WIDE * pgsz()));
	w->new = mmap(FAR_TOO, WIDE * pgsz(), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_FIXED_NOREPLACE, w->fd[R], 0);
	must(w->new == FAR_TOO);
	must(!madvise(w->new, WIDE * pgsz(), MADV_HUGEPAGE));
}

/* R gets areas wherever it is written to. */
static void asks_for_areas(struct world *w)
{
	must(!do_resize(w->fd[R], WIDE * pgsz()));
	close(file_of(w->fd[R], COWMEM_FILE_HUGE));
}

/* The last area was written. */
static void area_is_written(struct world *w)
{
	with_areas(w);
	must(!poke(w->new + 2 * AREA * pgsz(), 1));
}

/* And is shared with N2 */
static void area_is_shared(struct world *w)
{
	area_is_written(w);
	w->fd[N2] = cloned(w->fd[R]);
}

/* The area before it was written since, as by a program that goes on to the next. */
static void area_is_next(struct world *w)
{
	area_is_shared(w);
	must(!poke(w->new + AREA * pgsz(), 1));
}

/* N2 holds what the last area was; R has written it since. */
static void area_is_behind(struct world *w)
{
	area_is_shared(w);
	must(!poke(w->new + (2 * AREA + 7) * pgsz(), 2));
}

/* The same, but N2 is a snapshot. */
static void area_has_a_snapshot(struct world *w)
{
	area_is_written(w);
	w->fd[N2] = snapshot(w->fd[R]);
	must(!poke(w->new + (2 * AREA + 7) * pgsz(), 2));
}

static void area_as_file(struct world *w)
{
	area_is_shared(w);
	w->fd[N3] = file_of(w->fd[R], 0);
}

/* Pages that were written in order, a leaf of small ones and a block (from Linux 6.12 on) */
static void written_in_order(struct world *w)
{
	size_t i;

	must(!do_resize(w->fd[R], WIDE * pgsz()));
	w->new = mmap(FAR_TOO, WIDE * pgsz(), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_FIXED_NOREPLACE, w->fd[R], 0);
	must(w->new == FAR_TOO);
	must(!madvise(w->new, WIDE * pgsz(), MADV_NOHUGEPAGE) || errno == EINVAL);
	for (i = 0; i < IN_ORDER; i++)
		must(!poke(w->new + (AREA + i) * pgsz(), 1));
}

static void block_is_shared(struct world *w)
{
	written_in_order(w);
	w->fd[N2] = cloned(w->fd[R]);
}

/* On a mount: N2 is a region of the device. */
static void beside_the_device(struct world *w)
{
	was_written(w);
	w->fd[N2] = region_of(PAGES, 6);
}

static void has_a_symlink(struct world *w)
{
	must(!symlink("r", PLACE "/new"));
}

static void has_a_directory(struct world *w)
{
	must(!mkdir(PLACE "/new", 0700));
}

/* The mount is full: what R shares with N1 alone has to be yielded to be written. */
static void with_expendable_on_a_full_mount(struct world *w)
{
	struct statfs st;
	char text[32];

	mapped(w);
	w->fd[N1] = expendable(w->fd[R]);
	must(!statfs(PLACE, &st));
	snprintf(text, sizeof(text), "size=%llu",
		 (unsigned long long)(st.f_blocks - st.f_bfree) * pgsz());
	must(!mount("m", PLACE, NULL, MS_REMOUNT, text));
}

/* N1 may yield, but no limit is reached: whatever fails, it does not. */
static void with_expendable(struct world *w)
{
	mapped(w);
	w->fd[N1] = expendable(w->fd[R]);
}

static void no_leaf_with_expendable(struct world *w)
{
	mapped_without_leaf(w);
	w->fd[N1] = expendable(w->fd[R]);
}

/* N3 fills what there is.  R shares its pages with N1, which has to yield, and others. */
static void with_expendable_at_limit(struct world *w)
{
	uint64_t i;

	mapped(w);
	w->fd[N3] = region();
	must(!set_limit((held() + 1023) / 1024));
	for (i = 0; pwrite(w->fd[N3], "x", 1, i * pgsz()) == 1; i++)
		;
	must(errno == ENOSPC);
	w->fd[N1] = expendable(w->fd[R]);
}

/* ---- the operations ---- */

static int result(long ret)
{
	return ret < 0 ? errno : 0;
}

static int run_open(struct world *w)
{
	w->fd[N1] = open(COWMEM_DEV, O_RDWR | O_CLOEXEC);
	return result(w->fd[N1]);
}

static int run_info(struct world *w)
{
	struct cowmem_info arg = { };

	return result(ioctl(w->fd[R], COWMEM_IOC_INFO, &arg));
}

static int run_shrink(struct world *w)
{
	return result(do_resize(w->fd[R], SHARED * pgsz() + 100));
}

static int run_grow(struct world *w)
{
	return result(do_resize(w->fd[R], PAGES * pgsz() + 1));
}

static int run_seal(struct world *w)
{
	return result(do_seal(w->fd[R], COWMEM_SEAL_WRITE | COWMEM_SEAL_GROW));
}

static int run_clone(struct world *w)
{
	w->fd[N1] = do_clone(w->fd[R], 0, 0, 0);
	return result(w->fd[N1]);
}

static int run_clone_of_area(struct world *w)
{
	w->fd[N1] = do_clone(w->fd[R], 0, (2 * AREA - 3) * pgsz(), 200 * pgsz());
	return result(w->fd[N1]);
}

static int run_snapshot(struct world *w)
{
	w->fd[N1] = do_clone(w->fd[R], COWMEM_CLONE_SNAPSHOT, 0, 0);
	return result(w->fd[N1]);
}

static int run_expendable(struct world *w)
{
	w->fd[N1] = do_clone(w->fd[R], COWMEM_CLONE_SNAPSHOT | COWMEM_CLONE_EXPENDABLE,
			     0, 0);
	return result(w->fd[N1]);
}

/* Page 0 is R's, but for what N1 shares of it. */
static int run_write_yielding(struct world *w)
{
	return result(pwrite(w->fd[R], "yield", 5, 7));
}

static int run_fault_yielding(struct world *w)
{
	/* A fault that finds no memory at a limit is SIGBUS. */
	if (!madvise(w->mem, pgsz(), MADV_POPULATE_WRITE))
		return 0;
	return errno == EFAULT ? ENOSPC : errno;
}

static int run_clone_range(struct world *w)
{
	w->fd[N1] = do_clone(w->fd[R], 0, 64 * pgsz(), 70 * pgsz());
	return result(w->fd[N1]);
}

static int run_clone_odd_range(struct world *w)
{
	w->fd[N1] = do_clone(w->fd[R], 0, 3 * pgsz(), 128 * pgsz());
	return result(w->fd[N1]);
}

static int run_clone_many(struct world *w)
{
	int fds[3] = { w->fd[O], w->fd[R], w->fd[S] };

	return result(do_clone_many(w->fd[R], fds, &w->fd[N1], 3, 0));
}

static int restore(struct world *w, int from, uint32_t flags)
{
	return result(do_restore(w->fd[R], w->fd[from], flags));
}

static int run_restore(struct world *w)
{
	return restore(w, S, 0);
}

static int run_restore_live(struct world *w)
{
	return restore(w, O, 0);
}

static int run_restore_other(struct world *w)
{
	return restore(w, N2, 0);
}

static int run_keep_other(struct world *w)
{
	return restore(w, N2, COWMEM_RESTORE_KEEP);
}

static int run_keep(struct world *w)
{
	return restore(w, S, COWMEM_RESTORE_KEEP);
}

static int diff(struct world *w, uint32_t flags)
{
	struct cowmem_extent e[PAGES];
	struct cowmem_diff arg = {
		.fd = w->fd[S], .flags = flags, .extents = (uintptr_t)e,
		.count = PAGES,
	};
	int ret = result(ioctl(w->fd[R], COWMEM_IOC_DIFF, &arg));

	/* 0-3, 20 (and 21, all zeroes), 129 */
	if (!ret && arg.count < 3)
		return -1;
	return ret;
}

/* Only one page differs. */
static int run_diff_area(struct world *w)
{
	struct cowmem_extent e[4];
	int n = do_diff(w->fd[R], w->fd[N2], COWMEM_DIFF_CONTENT, e, 4);

	return n < 0 ? errno : n == 1 ? 0 : -1;
}

static int run_diff(struct world *w)
{
	return diff(w, 0);
}

static int run_diff_content(struct world *w)
{
	return diff(w, COWMEM_DIFF_CONTENT);
}

static int copy(struct world *w, int from, uint64_t src, uint64_t dst, uint64_t n)
{
	return result(do_copy(w->fd[R], w->fd[from], dst, src, n));
}

static int run_copy(struct world *w)
{
	return copy(w, O, 0, 64, 64);
}

static int run_copy_area(struct world *w)
{
	return copy(w, R, 2 * AREA, AREA, AREA);
}

static int run_copy_area_odd(struct world *w)
{
	return copy(w, R, 2 * AREA + 3, AREA + 5, 300);
}

static int run_copy_other(struct world *w)
{
	return copy(w, N2, 2, 71, 60);
}

static int run_copy_odd(struct world *w)
{
	return copy(w, O, 2, 71, 60);
}

static int run_copy_within(struct world *w)
{
	return copy(w, R, 0, 3, 100);
}

static int run_discard_bytes(struct world *w)
{
	/* Parts of a page that is shared and of one that is not, pages between. */
	return result(do_discard(w->fd[R], 2 * pgsz() + 7, 4 * pgsz()));
}

static int run_discard_pages(struct world *w)
{
	return result(do_discard(w->fd[R], SHARED * pgsz(), 59 * pgsz()));
}

static int run_merge(struct world *w)
{
	struct cowmem_merge_range ranges[2] = {
		{ .fd = w->fd[R] }, { .fd = w->fd[O] },
	};
	struct cowmem_merge arg = {
		.ranges = (uintptr_t)ranges, .count = 2,
		.table = (uintptr_t)w->table, .entries = 64,
	};

	return result(ioctl(w->fd[R], COWMEM_IOC_MERGE, &arg));
}

static int populate(struct world *w, size_t page, int advice)
{
	return result(madvise(w->mem + page * pgsz(), pgsz(), advice));
}

static int run_populate_read_hole(struct world *w)
{
	return populate(w, HOLE, MADV_POPULATE_READ);
}

static int run_populate_read(struct world *w)
{
	return populate(w, SHARED, MADV_POPULATE_READ);
}

static int run_populate_write_hole(struct world *w)
{
	return populate(w, HOLE, MADV_POPULATE_WRITE);
}

static int run_populate_write_new_leaf(struct world *w)
{
	return populate(w, LAST + 2, MADV_POPULATE_WRITE);
}

static int run_populate_write(struct world *w)
{
	return populate(w, SHARED, MADV_POPULATE_WRITE);
}

/* A signal ends the child.  To catch it takes copies from user memory, which may fail. */
static int cpu_read(struct world *w, size_t page)
{
	(void)*(volatile char *)(w->mem + page * pgsz());
	return 0;
}

static int cpu_write(struct world *w, size_t page)
{
	*(volatile char *)(w->mem + page * pgsz()) = 'x';
	return 0;
}

static int run_read_hole(struct world *w)
{
	return cpu_read(w, HOLE);
}

static int run_read_page(struct world *w)
{
	return cpu_read(w, SHARED);
}

static int run_write_hole(struct world *w)
{
	return cpu_write(w, HOLE);
}

static int run_write_new_leaf(struct world *w)
{
	return cpu_write(w, LAST + 2);
}

static int run_write_page(struct world *w)
{
	return cpu_write(w, SHARED);
}

static int run_write_area(struct world *w)
{
	*(volatile char *)(w->new + (AREA + 9) * pgsz()) = 'x';
	return 0;
}

static int run_write_last_area(struct world *w)
{
	*(volatile char *)(w->new + 2 * AREA * pgsz()) = 'x';
	return 0;
}

/* Behind what was written in order */
static int run_write_on(struct world *w)
{
	*(volatile char *)(w->new + (AREA + IN_ORDER) * pgsz()) = 'x';
	return 0;
}

static int run_write_block(struct world *w)
{
	*(volatile char *)(w->new + (AREA + 80) * pgsz()) = 'x';
	return 0;
}

static int run_discard_some_of_block(struct world *w)
{
	return result(do_discard(w->fd[R], (AREA + 70) * pgsz() + 7, 20 * pgsz()));
}

static int run_populate_area(struct world *w)
{
	return result(madvise(w->new + AREA * pgsz(), AREA * pgsz(), MADV_POPULATE_WRITE));
}

static int run_shrink_within_area(struct world *w)
{
	return result(do_resize(w->fd[R], (2 * AREA + 40) * pgsz() + 100));
}

/* What is left moves to small pages. */
static int run_discard_most_of_area(struct world *w)
{
	return result(do_discard(w->fd[R], (2 * AREA + 5) * pgsz(), 500 * pgsz()));
}

static int run_discard_some_of_area(struct world *w)
{
	return result(do_discard(w->fd[R], (2 * AREA + 5) * pgsz() + 7, 100 * pgsz()));
}

static int map_far(struct world *w, size_t pages, int flags)
{
	void *mem = mmap(FAR_TOO, pages * pgsz(), PROT_READ | PROT_WRITE,
			 flags | MAP_FIXED_NOREPLACE, w->fd[R], 0);

	if (mem == MAP_FAILED)
		return errno;
	w->new = mem;
	return 0;
}

static int run_mmap(struct world *w)
{
	return map_far(w, PAGES, MAP_SHARED);
}

static int run_mmap_growing(struct world *w)
{
	return map_far(w, 2 * PAGES, MAP_SHARED);
}

static int run_mmap_privately(struct world *w)
{
	return map_far(w, PAGES, MAP_PRIVATE);
}

/* What does not map may not be populated either, and this is no error. */
static int run_mmap_populate(struct world *w)
{
	return map_far(w, PAGES, MAP_SHARED | MAP_POPULATE);
}

static int run_mremap(struct world *w)
{
	void *mem = mremap(w->mem, PAGES * pgsz(), PAGES * pgsz(),
			   MREMAP_MAYMOVE | MREMAP_FIXED, FAR_TOO);

	if (mem == MAP_FAILED)
		return errno;
	w->mem = mem;
	return 0;
}

static int run_read(struct world *w)
{
	char buf[100];
	ssize_t n = pread(w->fd[R], buf, sizeof(buf), SHARED * pgsz() - 50);

	/* The part in the hole, if the other part could not be written. */
	if (n != sizeof(buf) && !(usercopy_fails && n > 0))
		return n < 0 ? errno : -1;
	return 0;
}

static int write_at(struct world *w, off_t offset)
{
	ssize_t n = pwrite(w->fd[R], "0123456789", 10, offset);

	if (n >= 0 && n != 10)
		return -1;
	return result(n);
}

static int run_write_call_hole(struct world *w)
{
	return write_at(w, HOLE * pgsz() + 50);
}

/* Pages that were written in order come before, so it takes more than this one. */
static int run_write_call_next_hole(struct world *w)
{
	return write_at(w, NEXT * pgsz() + 50);
}

static int run_write_call(struct world *w)
{
	return write_at(w, SHARED * pgsz() + 50);
}

static int run_write_call_area(struct world *w)
{
	return write_at(w, (AREA + 9) * pgsz());
}

static int run_append(struct world *w)
{
	return write_at(w, 64 * 64 * pgsz() + 50);
}

static int run_splice_out(struct world *w)
{
	off_t from = SHARED * pgsz();

	return result(splice(w->fd[R], &from, w->pipe[1], NULL, pgsz(), 0));
}

static int run_splice_in(struct world *w)
{
	off_t to = SHARED * pgsz() + 50;

	return result(splice(w->pipe[0], NULL, w->fd[R], &to, 100, 0));
}

static int run_file(struct world *w)
{
	w->fd[N1] = do_file(w->fd[R], 0, "fail");
	return result(w->fd[N1]);
}

static int run_file_huge(struct world *w)
{
	w->fd[N1] = do_file(w->fd[R], COWMEM_FILE_HUGE, "fail");
	return result(w->fd[N1]);
}

static int run_view(struct world *w)
{
	w->fd[N1] = do_file(w->fd[R], COWMEM_FILE_VIEW, "fail");
	return result(w->fd[N1]);
}

static int run_read_only(struct world *w)
{
	w->fd[N1] = do_file(w->fd[R], COWMEM_FILE_RDONLY, NULL);
	return result(w->fd[N1]);
}

static int run_reopen(struct world *w)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", w->fd[N3]);
	w->fd[N1] = open(path, O_RDWR | O_CLOEXEC);
	return result(w->fd[N1]);
}

static int run_fstat(struct world *w)
{
	struct stat st;

	return result(fstat(w->fd[N3], &st));
}

static int run_truncate_shrink(struct world *w)
{
	return result(ftruncate(w->fd[N3], SHARED * pgsz() + 100));
}

static int run_truncate_grow(struct world *w)
{
	return result(ftruncate(w->fd[N3], PAGES * pgsz() + 1));
}

static int alloc(struct world *w, int mode, off_t offset, off_t length)
{
	return result(fallocate(w->fd[N3], mode, offset, length));
}

static int run_allocate(struct world *w)
{
	return alloc(w, 0, 100 * pgsz(), 45 * pgsz());
}

static int run_allocate_past_end(struct world *w)
{
	return alloc(w, FALLOC_FL_KEEP_SIZE, (PAGES + 60) * pgsz() + 7, 2 * pgsz());
}

static int run_punch(struct world *w)
{
	return alloc(w, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		     2 * pgsz() + 7, SHARED * pgsz());
}

static int run_zero_range(struct world *w)
{
	return alloc(w, FALLOC_FL_ZERO_RANGE, (SHARED - 1) * pgsz() + 7, 3 * pgsz());
}

static int run_unshare(struct world *w)
{
	return alloc(w, FALLOC_FL_UNSHARE_RANGE | FALLOC_FL_KEEP_SIZE,
		     (SHARED - 2) * pgsz(), 5 * pgsz());
}

static int run_allocate_area(struct world *w)
{
	return alloc(w, 0, AREA * pgsz(), AREA * pgsz());
}

static int run_unshare_area(struct world *w)
{
	return alloc(w, FALLOC_FL_UNSHARE_RANGE | FALLOC_FL_KEEP_SIZE,
		     (2 * AREA + 20) * pgsz(), 30 * pgsz());
}

static int run_ficlone(struct world *w)
{
	return result(ioctl(w->fd[N3], FICLONE, w->fd[N2]));
}

static int run_ficlone_growing(struct world *w)
{
	struct file_clone_range arg = {
		.src_fd = w->fd[N2], .src_offset = pgsz(),
		.src_length = 120 * pgsz(), .dest_offset = 70 * pgsz(),
	};

	return result(ioctl(w->fd[N3], FICLONERANGE, &arg));
}

static int dedupe(struct world *w, uint64_t page, uint64_t n, int status)
{
	struct {
		struct file_dedupe_range range;
		struct file_dedupe_range_info info;
	} arg = {
		.range = { .src_offset = page * pgsz(), .src_length = n * pgsz(),
			   .dest_count = 1, },
		.info = { .dest_fd = w->fd[N3], .dest_offset = page * pgsz(), },
	};

	if (ioctl(w->fd[N2], FIDEDUPERANGE, &arg))
		return errno;
	if (arg.info.status < 0)
		return -arg.info.status;
	return arg.info.status == status ? 0 : -1;
}

static int run_dedupe(struct world *w)
{
	return dedupe(w, 0, 4, FILE_DEDUPE_RANGE_SAME);
}

static int run_dedupe_differs(struct world *w)
{
	return dedupe(w, 0, 5, FILE_DEDUPE_RANGE_DIFFERS);
}

/* If pages cannot be shared, the kernel copies them. */
static int run_copy_file_range(struct world *w)
{
	loff_t from = OTHER * pgsz(), to = SHARED * pgsz();
	ssize_t n = copy_file_range(w->fd[N2], &from, w->fd[N3], &to, pgsz(), 0);

	if (n >= 0 && n != (ssize_t)pgsz())
		return -1;
	return result(n);
}

static int run_restore_size(struct world *w)
{
	return restore(w, O, COWMEM_RESTORE_SIZE);
}

static int run_restore_size_keep(struct world *w)
{
	return restore(w, O, COWMEM_RESTORE_SIZE | COWMEM_RESTORE_KEEP);
}

static int run_restore_range(struct world *w)
{
	struct cowmem_restore arg = {
		.fd = w->fd[O], .offset = 2 * pgsz(), .length = 128 * pgsz(),
	};

	return result(ioctl(w->fd[R], COWMEM_IOC_RESTORE, &arg));
}

static int run_seal_future(struct world *w)
{
	return result(do_seal(w->fd[R], COWMEM_SEAL_FUTURE_WRITE));
}

static int run_setlk(struct world *w)
{
	struct flock lock = { .l_type = F_WRLCK, .l_start = 5, .l_len = 10 };

	return result(fcntl(w->fd[R], F_SETLK, &lock));
}

static int run_ofd_setlk(struct world *w)
{
	struct flock lock = { .l_type = F_WRLCK, .l_start = 5, .l_len = 10 };

	return result(fcntl(w->fd[R], F_OFD_SETLK, &lock));
}

static int run_getlk(struct world *w)
{
	struct flock lock = { .l_type = F_WRLCK };

	return result(fcntl(w->fd[R], F_GETLK, &lock));
}

static int run_flock(struct world *w)
{
	return result(flock(w->fd[R], LOCK_EX | LOCK_NB));
}

static int run_madv_remove(struct world *w)
{
	return result(madvise(w->mem + 2 * pgsz(), SHARED * pgsz(), MADV_REMOVE));
}

static int run_mlock(struct world *w)
{
	return result(mlock(w->mem + (SHARED - 1) * pgsz(), 3 * pgsz()));
}

/* What cannot be had for it is no error. */
static int run_mmap_locked(struct world *w)
{
	return map_far(w, PAGES, MAP_SHARED | MAP_POPULATE | MAP_LOCKED);
}

static uint64_t sum_of(const char *mem, size_t size)
{
	const uint64_t *p = (const uint64_t *)mem;
	uint64_t sum = size;
	size_t i;

	for (i = 0; i < size / sizeof(*p); i++)
		sum = (sum ^ p[i]) * 0x100000001b3ULL;
	return sum;
}

/* What is there stays if it fails. */
static int set_attribute(struct world *w, const char *name, long size)
{
	static char value[9000];
	int err = result(fsetxattr(w->fd[N3], name, value, sizeof(value), 0));

	if (err && fgetxattr(w->fd[N3], name, value, sizeof(value)) != size)
		return -1;
	return err;
}

static int run_setxattr(struct world *w)
{
	return set_attribute(w, "user.new", -1);
}

static int run_setxattr_again(struct world *w)
{
	return set_attribute(w, "user.old", 3);
}

static int run_removexattr(struct world *w)
{
	return result(fremovexattr(w->fd[N3], "user.old"));
}

/* Not fork(), which does things of its own.  The child looks at the mapping. */
static int run_fork(struct world *w)
{
	uint64_t sum = sum_of(w->mem, PAGES * pgsz());
	pid_t pid = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);

	if (pid < 0)
		return errno;
	if (!pid)
		_exit(sum_of(w->mem, PAGES * pgsz()) != sum);
	return reap(pid) ? -1 : 0;
}

static int run_mount(struct world *w)
{
	return result(mount("m", PLACE, "cowmem", 0,
			    "size=1m,nr_inodes=30,mode=700,uid=1,gid=1,huge=always"));
}

static int run_remount(struct world *w)
{
	return result(mount("m", PLACE, NULL, MS_REMOUNT,
			    "size=17m,nr_inodes=30,mode=700,huge=advise"));
}

static int run_statfs(struct world *w)
{
	struct statfs st;

	return result(statfs(PLACE, &st));
}

/* What /proc shows of its options */
static int run_show_options(struct world *w)
{
	static char text[1 << 14];

	if (read_file("/proc/self/mounts", text, sizeof(text)) < 0)
		return errno;
	return strstr(text, PLACE) ? 0 : -1;
}

static int run_readdir(struct world *w)
{
	int fd = open(PLACE, O_RDONLY | O_DIRECTORY | O_CLOEXEC), err;
	char names[4096];

	if (fd < 0)
		return errno;
	err = result(syscall(SYS_getdents64, fd, names, sizeof(names)));
	close(fd);
	return err;
}

static int run_readlink(struct world *w)
{
	char text[16];

	return result(readlink(PLACE "/new", text, sizeof(text)));
}

static int run_chmod(struct world *w)
{
	return result(chmod(PLACE "/o", 0640));
}

static int run_chown(struct world *w)
{
	return result(chown(PLACE "/o", NOBODY, NOBODY));
}

static int run_utimens(struct world *w)
{
	const struct timespec times[2] = { { 1, 2 }, { 3, 4 } };

	return result(utimensat(AT_FDCWD, PLACE "/o", times, 0));
}

static int run_rmdir(struct world *w)
{
	return result(rmdir(PLACE "/new"));
}

static int run_truncating_open(struct world *w)
{
	w->fd[N1] = open(PLACE "/r", O_RDWR | O_TRUNC | O_CLOEXEC);
	return result(w->fd[N1]);
}

static int run_create(struct world *w)
{
	w->fd[N1] = open(PLACE "/new", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	return result(w->fd[N1]);
}

static int run_mknod(struct world *w)
{
	return result(mknod(PLACE "/new", S_IFIFO | 0600, 0));
}

static int run_mkdir(struct world *w)
{
	return result(mkdir(PLACE "/new", 0700));
}

static int run_symlink(struct world *w)
{
	return result(symlink("r", PLACE "/new"));
}

/* It takes a page. */
static int run_long_symlink(struct world *w)
{
	char text[1000];

	memset(text, 't', sizeof(text));
	text[sizeof(text) - 1] = 0;
	return result(symlink(text, PLACE "/new"));
}

static int run_link(struct world *w)
{
	return result(link(PLACE "/o", PLACE "/new"));
}

static int run_rename(struct world *w)
{
	return result(rename(PLACE "/o", PLACE "/new"));
}

static int run_rename_over(struct world *w)
{
	return result(rename(PLACE "/o", PLACE "/r"));
}

static int run_exchange(struct world *w)
{
	return result(syscall(SYS_renameat2, AT_FDCWD, PLACE "/o", AT_FDCWD, PLACE "/r", 2));
}

static int run_tmpfile(struct world *w)
{
	w->fd[N1] = open(PLACE, O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
	return result(w->fd[N1]);
}

/* A clone gets a name. */
static int run_name(struct world *w)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", w->fd[S]);
	return result(linkat(AT_FDCWD, path, AT_FDCWD, PLACE "/new", AT_SYMLINK_FOLLOW));
}

static int run_unlink(struct world *w)
{
	return result(unlink(PLACE "/o"));
}

static int run_open_by_name(struct world *w)
{
	w->fd[N1] = open(PLACE "/o", O_RDWR | O_CLOEXEC);
	return result(w->fd[N1]);
}

static const struct op ops[] = {
	/* First, while nothing is mounted and no other region is there. */
	{ "open the first region", BARE | FAILS, NULL, run_open },
	{ "open", FAILS, NULL, run_open },
	{ "FILE", FAILS, NULL, run_file },
	{ "FILE, huge", FAILS, was_written, run_file_huge },
	{ "FILE, to read", FAILS, was_written, run_read_only },
	{ "FILE, a view", FAILS, was_written, run_view },
	{ "reopen", FAILS, as_files, run_reopen },
	{ "fstat", 0, as_files, run_fstat },
	{ "INFO", 0, mapped, run_info },
	{ "RESIZE, shrinking", FAILS | SPLITS, was_written, run_shrink },
	{ "RESIZE, growing", 0, mapped, run_grow },
	{ "SEAL", ANSWERS, NULL, run_seal },
	{ "SEAL against future writes", ANSWERS, mapped, run_seal_future },
	{ "CLONE", FAILS, was_written, run_clone },
	{ "CLONE, a snapshot", FAILS, was_written, run_snapshot },
	{ "CLONE, one that yields", FAILS, was_written, run_expendable },
	{ "CLONE, a range", FAILS, was_written, run_clone_range },
	{ "CLONE, a range at an odd offset", FAILS, was_written, run_clone_odd_range },
	{ "CLONE with pages in a pipe", FAILS, is_in_a_pipe, run_clone },
	{ "CLONE a range with pages in a pipe", FAILS, is_in_a_pipe, run_clone_odd_range },
	{ "CLONE_MANY", FAILS, was_written, run_clone_many },
	{ "CLONE_MANY with pages in a pipe", FAILS, is_in_a_pipe, run_clone_many },
	{ "RESTORE", ANSWERS, was_written, run_restore },
	{ "RESTORE from a live region", ANSWERS, was_written_by_both, run_restore_live },
	{ "RESTORE of a range", FAILS | ANSWERS, was_written_by_both, run_restore_range },
	{ "RESTORE with SIZE, growing", ANSWERS, other_is_larger, run_restore_size },
	{ "RESTORE with SIZE, shrinking", FAILS | ANSWERS | SPLITS, other_is_smaller,
	  run_restore_size },
	{ "RESTORE with SIZE and KEEP", FAILS | ANSWERS | SPLITS, other_is_smaller,
	  run_restore_size_keep },
	{ "RESTORE with KEEP", ANSWERS, was_written, run_keep },
	{ "RESTORE with KEEP, again", ANSWERS, was_kept, run_keep },
	{ "DIFF", FAILS, was_written, run_diff },
	{ "DIFF with CONTENT", FAILS, was_written, run_diff_content },
	{ "COPY", FAILS, was_written, run_copy },
	{ "COPY to an odd offset", FAILS, was_written_by_both, run_copy_odd },
	{ "COPY within a region", FAILS, was_written, run_copy_within },
	{ "DISCARD bytes", FAILS | SPLITS, was_written, run_discard_bytes },
	{ "DISCARD pages", FAILS | SPLITS, was_written, run_discard_pages },
	{ "ftruncate, shrinking", FAILS | SPLITS, written_as_files, run_truncate_shrink },
	{ "ftruncate, growing", 0, written_as_files, run_truncate_grow },
	{ "fallocate", FAILS | GRANTS, written_as_files, run_allocate },
	{ "fallocate past the end", FAILS | GRANTS, written_as_files,
	  run_allocate_past_end },
	{ "fallocate, punching a hole", FAILS | SPLITS, written_as_files, run_punch },
	{ "fallocate, zeroing", FAILS | GRANTS | ZEROES, written_as_files, run_zero_range },
	{ "fallocate, unsharing", FAILS | GRANTS, written_as_files, run_unshare },
	{ "FICLONE", FAILS, written_as_files, run_ficlone },
	{ "FICLONERANGE, growing", FAILS, written_as_files, run_ficlone_growing },
	{ "FIDEDUPERANGE", FAILS | ANSWERS, written_as_files, run_dedupe },
	{ "FIDEDUPERANGE, differing", FAILS, written_as_files, run_dedupe_differs },
	{ "copy_file_range", FAILS | MERGES | ANSWERS, written_as_files,
	  run_copy_file_range },
	{ "setxattr", FAILS, has_an_attribute, run_setxattr },
	{ "setxattr, replacing", FAILS, has_an_attribute, run_setxattr_again },
	{ "removexattr", 0, has_an_attribute, run_removexattr },
	{ "F_SETLK", FAILS | NOLOCK, NULL, run_setlk },
	{ "F_OFD_SETLK", FAILS | NOLOCK, NULL, run_ofd_setlk },
	{ "F_GETLK", FAILS | NOLOCK, NULL, run_getlk },
	{ "flock", FAILS, NULL, run_flock },
	{ "MADV_REMOVE", FAILS | SPLITS, mapped_as_file, run_madv_remove },
	{ "mlock", FAILS | GRANTS | AGAIN, mapped, run_mlock },
	{ "MERGE", FAILS | MERGES, was_written, run_merge },
	/* What may be written is mapped to be written, if nobody is robbed of it. */
	{ "populate: read a hole", FAILS | GRANTS, mapped, run_populate_read_hole },
	{ "populate: read a page", FAILS, mapped, run_populate_read },
	{ "populate: write a hole", FAILS | GRANTS, mapped, run_populate_write_hole },
	{ "populate: write where there is no leaf", FAILS | GRANTS, mapped_without_leaf,
	  run_populate_write_new_leaf },
	{ "populate: write a shared page", FAILS | GRANTS, mapped, run_populate_write },
	{ "populate: write a hole, with a policy", FAILS | GRANTS, mapped_with_policy,
	  run_populate_write_hole },
	{ "populate: write a shared page, with a policy", FAILS | GRANTS,
	  mapped_with_policy, run_populate_write },
	{ "populate: write a hole that was read", FAILS | GRANTS, was_read,
	  run_populate_write_hole },
	{ "populate: write a shared page that was read", FAILS | GRANTS, was_read,
	  run_populate_write },
	{ "populate: read a private mapping", FAILS, mapped_privately, run_populate_read },
	{ "populate: write a private mapping", FAILS, mapped_privately, run_populate_write },
	{ "fault: read a hole", RETRIES, mapped, run_read_hole },
	{ "fault: read a page", RETRIES, mapped, run_read_page },
	{ "fault: write a hole", RETRIES, mapped, run_write_hole },
	{ "fault: write a hole, with a policy", RETRIES, mapped_with_policy,
	  run_write_hole },
	{ "fault: write where there is no leaf", RETRIES, mapped_without_leaf,
	  run_write_new_leaf },
	{ "fault: write a shared page", RETRIES, mapped, run_write_page },
	{ "fault: write a hole that was read", RETRIES, was_read, run_write_hole },
	{ "fault: write a shared page that was read", RETRIES, was_read, run_write_page },
	{ "fault: read a private mapping", RETRIES, mapped_privately, run_read_page },
	{ "fault: write a private mapping", RETRIES, mapped_privately, run_write_page },
	{ "mmap", FAILS, NULL, run_mmap },
	{ "mmap, growing", FAILS, NULL, run_mmap_growing },
	{ "mmap, privately", FAILS, mapped, run_mmap_privately },
	{ "mmap, populating", FAILS | MERGES, mapped, run_mmap_populate },
	{ "mmap, locking", FAILS | MERGES, mapped, run_mmap_locked },
	{ "mremap", FAILS, was_written, run_mremap },
	{ "read", 0, mapped, run_read },
	{ "write to a hole", FAILS, mapped, run_write_call_hole },
	/* One page is enough, if there are no more. */
	{ "write to the next hole", 0, mapped, run_write_call_next_hole },
	{ "write to a shared page", FAILS, mapped, run_write_call },
	{ "write far past the end", FAILS | GRANTS, mapped, run_append },
	{ "splice from a region", FAILS, mapped, run_splice_out },
	{ "splice to a region", FAILS | ANSWERS, pipe_has_data, run_splice_in },
	{ "fork", FAILS | AGAIN, was_written, run_fork },
	{ "mount", BARE | FAILS, NULL, run_mount },
	{ "mount: remount", FAILS | MOUNTED, NULL, run_remount },
	{ "mount: create", FAILS | MOUNTED, NULL, run_create },
	{ "mount: statfs", FAILS | MOUNTED, NULL, run_statfs },
	{ "mount: options in /proc", FAILS | MOUNTED, NULL, run_show_options },
	{ "mount: getdents", FAILS | MOUNTED, NULL, run_readdir },
	{ "mount: chmod", FAILS | MOUNTED, NULL, run_chmod },
	{ "mount: chown", FAILS | MOUNTED, NULL, run_chown },
	{ "mount: utimensat", FAILS | MOUNTED, NULL, run_utimens },
	{ "mount: rmdir", FAILS | MOUNTED, has_a_directory, run_rmdir },
	{ "mount: readlink", FAILS | MOUNTED, has_a_symlink, run_readlink },
	{ "mount: mknod", FAILS | MOUNTED, NULL, run_mknod },
	{ "mount: mkdir", FAILS | MOUNTED, NULL, run_mkdir },
	{ "mount: symlink", FAILS | MOUNTED, NULL, run_symlink },
	{ "mount: long symlink", FAILS | MOUNTED, NULL, run_long_symlink },
	{ "mount: link", FAILS | MOUNTED, NULL, run_link },
	{ "mount: rename", FAILS | MOUNTED, NULL, run_rename },
	{ "mount: rename over a file", FAILS | MOUNTED, NULL, run_rename_over },
	{ "mount: exchange", FAILS | MOUNTED, NULL, run_exchange },
	{ "mount: O_TMPFILE", FAILS | MOUNTED, NULL, run_tmpfile },
	{ "mount: open", FAILS | MOUNTED, NULL, run_open_by_name },
	{ "mount: open, truncating", FAILS | MOUNTED, NULL, run_truncating_open },
	{ "mount: reopen", FAILS | MOUNTED, as_files, run_reopen },
	{ "mount: FILE, a view", FAILS | MOUNTED, was_written, run_view },
	{ "mount: CLONE, a snapshot", FAILS | MOUNTED, was_written, run_snapshot },
	{ "mount: CLONE, one that yields", FAILS | MOUNTED, was_written, run_expendable },
	{ "mount: RESTORE", ANSWERS | MOUNTED, was_written, run_restore },
	{ "mount: RESTORE from the device", ANSWERS | MOUNTED, beside_the_device,
	  run_restore_other },
	{ "mount: COPY from the device", FAILS | JOINS | MOUNTED, beside_the_device,
	  run_copy_other },
	{ "mount: MERGE", FAILS | MERGES | MOUNTED, was_written, run_merge },
	{ "mount: DISCARD bytes", FAILS | SPLITS | MOUNTED, was_written, run_discard_bytes },
	{ "mount: CLONE", FAILS | MOUNTED, was_written, run_clone },
	{ "mount: CLONE_MANY", FAILS | MOUNTED, was_written, run_clone_many },
	{ "mount: name a clone", FAILS | MOUNTED, NULL, run_name },
	{ "mount: FICLONE", FAILS | MOUNTED, written_as_files, run_ficlone },
	{ "mount: FIDEDUPERANGE", FAILS | ANSWERS | MOUNTED, written_as_files, run_dedupe },
	{ "mount: copy_file_range", FAILS | MERGES | ANSWERS | MOUNTED, written_as_files,
	  run_copy_file_range },
	{ "mount: fallocate", FAILS | GRANTS | MOUNTED, written_as_files, run_allocate },
	{ "mount: fallocate, punching a hole", FAILS | SPLITS | MOUNTED, written_as_files,
	  run_punch },
	{ "mount: fallocate, unsharing", FAILS | GRANTS | MOUNTED, written_as_files,
	  run_unshare },
	{ "mount: fault: write a hole", RETRIES | MOUNTED, mapped, run_write_hole },
	{ "mount: fault: write a shared page", RETRIES | MOUNTED, mapped, run_write_page },
	{ "mount: write to a hole", FAILS | MOUNTED, mapped, run_write_call_hole },
	{ "mount: write to a shared page", FAILS | MOUNTED, mapped, run_write_call },
	{ "mount: unlink", FAILS | MOUNTED, NULL, run_unlink },
	/* Where no limit is reached nobody yields. */
	{ "fault: write a shared page, one may yield", RETRIES, with_expendable,
	  run_write_page },
	{ "fault: write a hole, one may yield", RETRIES, with_expendable, run_write_hole },
	{ "fault: write where there is no leaf, one may yield", RETRIES,
	  no_leaf_with_expendable, run_write_new_leaf },
	{ "write to a shared page, one may yield", 0, with_expendable, run_write_call },
	{ "write to a hole, one may yield", 0, with_expendable, run_write_call_hole },
	{ "fault: write an area", RETRIES | MERGES | HUGE_PAGES, with_areas, run_write_area },
	{ "fault: write the next area", RETRIES | MERGES | HUGE_PAGES, area_is_next,
	  run_write_last_area },
	{ "fault: write a page of a shared area", RETRIES | HUGE_PAGES, area_is_shared,
	  run_write_last_area },
	{ "CLONE of an area", FAILS | HUGE_PAGES, area_is_written, run_clone },
	{ "CLONE a range of an area", FAILS | HUGE_PAGES, area_is_written, run_clone_of_area },
	{ "DISCARD most of an area", FAILS | MERGES | HUGE_PAGES, area_is_next,
	  run_discard_most_of_area },
	{ "DISCARD some of an area", FAILS | SPLITS | HUGE_PAGES, area_is_shared,
	  run_discard_some_of_area },
	{ "populate: write an area", FAILS | GRANTS | MERGES | HUGE_PAGES, with_areas,
	  run_populate_area },
	{ "write to an area", MERGES | HUGE_PAGES, asks_for_areas, run_write_call_area },
	{ "fallocate, an area", FAILS | GRANTS | MERGES | HUGE_PAGES, area_as_file,
	  run_allocate_area },
	{ "fallocate, unsharing a part of an area", FAILS | GRANTS | HUGE_PAGES, area_as_file,
	  run_unshare_area },
	{ "RESIZE, shrinking within an area", FAILS | SPLITS | MERGES | HUGE_PAGES,
	  area_is_next, run_shrink_within_area },
	{ "RESTORE of an area", ANSWERS | HUGE_PAGES, area_is_behind, run_restore_other },
	{ "RESTORE of an area with KEEP", ANSWERS | HUGE_PAGES, area_has_a_snapshot,
	  run_keep_other },
	{ "DIFF of areas with CONTENT", FAILS | HUGE_PAGES, area_is_behind, run_diff_area },
	{ "COPY of an area", FAILS | HUGE_PAGES, area_is_written, run_copy_area },
	{ "COPY of a part of an area", FAILS | HUGE_PAGES, area_is_next, run_copy_area_odd },
	{ "CLONE_MANY of an area", FAILS | HUGE_PAGES, area_is_written, run_clone_many },
	{ "fault: write on in order", RETRIES | MERGES, written_in_order, run_write_on },
	{ "fault: write a page of a shared block", RETRIES, block_is_shared, run_write_block },
	{ "CLONE of a block", FAILS, written_in_order, run_clone },
	{ "DISCARD some of a block", FAILS | SPLITS, block_is_shared,
	  run_discard_some_of_block },
	{ "mount: write, one yields", FULL | MOUNTED, with_expendable_on_a_full_mount,
	  run_write_yielding },
	{ "write, one yields", FULL, with_expendable_at_limit, run_write_yielding },
	{ "populate: write, one yields", FULL, with_expendable_at_limit,
	  run_fault_yielding },
};

/* ---- what is there afterwards ---- */

/* INFO counts no leaf without pages, but DIFF has to look at it. */
static uint64_t count_nodes(const struct world *w)
{
	struct cowmem_extent e[PAGES];
	struct cowmem_diff arg = {
		.fd = w->fd[O], .extents = (uintptr_t)e, .count = PAGES,
	};

	if (w->fd[O] < 0)
		return 0;
	must(!ioctl(w->fd[R], COWMEM_IOC_DIFF, &arg));
	return arg.nodes;
}

/* Asks by another file: how many kinds of locks are there? */
static int count_locks(int fd)
{
	/* To read, as the operation may have sealed it. */
	int other = file_of(fd, COWMEM_FILE_RDONLY), n = 0;
	struct flock lock = { .l_type = F_WRLCK };

	must(!fcntl(other, F_OFD_GETLK, &lock));
	n += lock.l_type != F_UNLCK;
	if (flock(other, LOCK_EX | LOCK_NB)) {
		must(errno == EWOULDBLOCK);
		n++;
	}
	close(other);
	return n;
}

static int count_names(void)
{
	DIR *dir = opendir(PLACE);
	int n = 0;

	must(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static void look_at_mount(struct state *s)
{
	struct statfs st;

	must(!statfs(PLACE, &st));
	if (st.f_type != 0x636f776d)
		return;
	s->pages = st.f_blocks - st.f_bfree;
	s->inodes = st.f_files - st.f_ffree;
	s->names = count_names();
}

/* Not by umount(), as what was closed may take a moment. */
static void unmount(void)
{
	const char * const names[] = { "/r", "/o", "/new" };
	char path[64];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(names); i++) {
		snprintf(path, sizeof(path), PLACE "%s", names[i]);
		remove(path);
	}
	umount2(PLACE, MNT_DETACH);
}

/* Returns false if a mapping does not show what the region holds. */
static bool look(struct world *w, struct state *s)
{
	static char *buf;
	bool ok = true;
	int i;

	if (!buf)
		buf = malloc(65 * 64 * pgsz());
	must(buf);
	memset(s, 0, sizeof(*s));
	s->fds = count_fds();
	s->nodes = count_nodes(w);
	s->locks = w->fd[R] >= 0 ? count_locks(w->fd[R]) : 0;
	look_at_mount(s);
	for (i = 0; i < NR; i++) {
		size_t size;

		if (w->fd[i] < 0)
			continue;
		s->info[i] = info(w->fd[i]);
		size = s->info[i].size;
		must(size <= 65 * 64 * pgsz());
		if (s->info[i].state & COWMEM_STATE_YIELDED) {
			must(pread(w->fd[i], buf, 1, 0) == -1 && errno == EIO);
			continue;
		}
		must(pread(w->fd[i], buf, size, 0) == (ssize_t)size);
		s->sum[i] = sum_of(buf, size);
		if (size > PAGES * pgsz())
			size = PAGES * pgsz();
		if (i == R && w->mem && !w->private &&
		    memcmp(w->mem, buf, size)) {
			ksft_print_msg("the mapping shows something else than read()\n");
			ok = false;
		}
	}
	return ok;
}

static void show(const char *when, const struct cowmem_info *i)
{
	ksft_print_msg("  %s: size %#llx seals %x pages %llu + %llu index %llu clones %llu\n",
		       when, (unsigned long long)i->size, i->seals,
		       (unsigned long long)i->pages_exclusive,
		       (unsigned long long)i->pages_shared,
		       (unsigned long long)i->index_bytes,
		       (unsigned long long)i->clones);
}

static bool same(const char *what, const struct state *now,
		 const struct state *then, unsigned int flags)
{
	bool ok = true;
	int i;

	if (now->nodes != then->nodes && !(flags & MERGES) &&
	    !((flags & GRANTS) &&
	      now->info[R].pages_populated > then->info[R].pages_populated)) {
		ksft_print_msg("%s: %llu nodes to compare, not %llu\n", what,
			       (unsigned long long)now->nodes,
			       (unsigned long long)then->nodes);
		ok = false;
	}
	if (now->inodes != then->inodes || now->names != then->names ||
	    (now->pages != then->pages && !(flags & (SPLITS | MERGES | GRANTS | JOINS)))) {
		ksft_print_msg("%s: %ld pages, %ld inodes, %d names, not %ld, %ld, %d\n", what,
			       now->pages, now->inodes, now->names, then->pages,
			       then->inodes, then->names);
		ok = false;
	}
	if (now->locks != then->locks) {
		ksft_print_msg("%s: %d locks, not %d\n", what, now->locks,
			       then->locks);
		ok = false;
	}
	if (now->fds != then->fds) {
		ksft_print_msg("%s: %d descriptors, not %d\n", what, now->fds,
			       then->fds);
		ok = false;
	}
	for (i = 0; i < NR; i++) {
		struct cowmem_info a = now->info[i], b = then->info[i];

		if (now->sum[i] != then->sum[i]) {
			ksft_print_msg("%s: region %d has other content\n",
				       what, i);
			ok = false;
		}
		if (flags & (SPLITS | MERGES | GRANTS)) {
			a.pages_exclusive = b.pages_exclusive;
			a.pages_shared = b.pages_shared;
		}
		if (flags & (SPLITS | MERGES))
			a.pages_huge = b.pages_huge;
		/* Without a page more there is no leaf more. */
		if ((flags & MERGES) ||
		    ((flags & GRANTS) && a.pages_populated > b.pages_populated)) {
			a.pages_populated = b.pages_populated;
			a.index_bytes = b.index_bytes;
		}
		if (!memcmp(&a, &b, sizeof(a)))
			continue;
		ksft_print_msg("%s: region %d has another INFO\n", what, i);
		show("now", &now->info[i]);
		show("then", &then->info[i]);
		ok = false;
	}
	return ok;
}

/*
 * Let go of all but one region, which then must be the only holder of all its
 * pages, as long as none was merged with another of its own: a reference that was
 * lost would show.
 */
static bool demolish(struct world *w, int survivor, bool exclusive)
{
	bool ok = true;
	int i;

	if (w->mem)
		unmap(w->mem, PAGES);
	if (w->new)
		must(!munmap(w->new, WIDE * pgsz()));
	close(w->pipe[0]);
	close(w->pipe[1]);
	unmount();
	for (i = 0; i < NR; i++)
		if (i != survivor && w->fd[i] >= 0)
			close(w->fd[i]);
	if (w->fd[survivor] >= 0) {
		if (exclusive)
			ok = holds(w->fd[survivor],
				   info(w->fd[survivor]).pages_populated, 0);
		close(w->fd[survivor]);
	}
	return ok;
}

static void set_nth(int fd, unsigned int nth)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%u", nth);
	int ret = write(fd, text, len);

	/* This copies from user memory, which may be the one that fails. */
	if (ret < 0 && errno == EFAULT)
		ret = write(fd, text, len);
	must(ret == len);
}

/* Did something fail since set_nth()?  Nothing does any more. */
static bool failed(int fd)
{
	char text[16] = "";
	int ret = pread(fd, text, sizeof(text) - 1, 0);

	/* If this is the one that failed, none did before. */
	must(ret > 0 || errno == EFAULT);
	set_nth(fd, 0);
	return ret > 0 && !strtoul(text, NULL, 10);
}

static bool documented(const struct op *op, int err)
{
	return !(op->flags & RETRIES) &&
	       (err == ENOMEM || (err == EAGAIN && (op->flags & AGAIN)) ||
		(err == ENOSPC && (op->flags & FULL)) ||
		(err == ENOLCK && (op->flags & NOLOCK)) ||
		(err == EFAULT && usercopy_fails));
}

static void lift(const struct op *op)
{
	if (op->flags & FULL)
		must(!set_limit(0));
}

/* What failed has changed nothing; but a snapshot that had yielded by then is gone. */
static bool unchanged(const struct op *op, const struct state *now,
		      const struct state *before)
{
	struct state then = *before;

	if (!(op->flags & FULL) || !(now->info[N1].state & COWMEM_STATE_YIELDED))
		return same("failed", now, before, op->flags);
	then.info[N1] = now->info[N1];
	then.sum[N1] = now->sum[N1];
	return same("failed", now, &then, op->flags | SPLITS);
}

/* One try of @op.  Returns whether all is well; sets *@more if something failed. */
static bool try(const struct op *op, unsigned int nth, int fail_nth,
		struct state *before, struct state *after, bool *more,
		unsigned int *failures)
{
	struct state now;
	struct world w;
	bool ok = true;
	int err;

	build(&w, op->flags);
	if (op->prepare)
		op->prepare(&w);
	if (!nth) {
		ok = look(&w, before);
		/* That has mapped pages. */
		demolish(&w, R, false);
		lift(op);
		build(&w, op->flags);
		if (op->prepare)
			op->prepare(&w);
	}

	if (nth)
		set_nth(fail_nth, nth);
	err = op->run(&w);
	*more = nth && failed(fail_nth);
	lift(op);

	ok = look(&w, &now) && ok;
	if (!nth) {
		if (err) {
			ksft_print_msg("fails by itself: %s\n",
				       err < 0 ? "signal or bad answer" : strerror(err));
			ok = false;
		}
		*after = now;
		if ((op->flags & HUGE_PAGES) && !now.info[R].pages_huge) {
			ksft_print_msg("nothing is huge\n");
			ok = false;
		}
	} else if (!err) {
		ok = same("done", &now, after, op->flags & MERGES) && ok;
	} else {
		(*failures)++;
		if (!*more || !documented(op, err)) {
			ksft_print_msg("%s%s %d\n", *more ? "" : "nothing was to fail, ",
				       err < 0 ? "signal or bad answer" : strerror(err), err);
			ok = false;
		}
		if ((op->flags & ANSWERS) && err == EFAULT &&
		    !memcmp(&now, after, sizeof(now)))
			;
		else if ((op->flags & ZEROES) && now.sum[R] != before->sum[R])
			ok = same("failed", &now, after, MERGES) && ok;
		else
			ok = unchanged(op, &now, before) && ok;
	}
	ok = demolish(&w, nth % 3, err && !(op->flags & MERGES)) && ok;
	if (!ok)
		ksft_print_msg("%s: failure %u\n", op->name, nth);
	return ok;
}

/* In a child: what goes badly wrong does not end the test. */
static int sweep(const struct op *op)
{
	static struct state before, after;
	int fail_nth = open(FAIL_NTH, O_RDWR | O_CLOEXEC);
	unsigned int nth, bad = 0, failures = 0;
	bool more;

	must(fail_nth >= 0);
	bad = !try(op, 0, fail_nth, &before, &after, &more, &failures);
	for (nth = 1; nth < TOO_MANY; nth++) {
		bad += !try(op, nth, fail_nth, &before, &after, &more, &failures);
		if (!more)
			break;
		if (bad >= 5)
			break;
	}
	ksft_print_msg("%s: %u made to fail, %u times it failed\n", op->name,
		       nth - 1, failures);
	fflush(stdout);
	if (nth == TOO_MANY || bad)
		return 1;
	/* Else nothing was tested. */
	return (op->flags & FAILS) && !failures ? 2 : 0;
}

/* Let every allocation of an order from 0 fail, not only those that do not sleep. */
static bool inject(void)
{
	usercopy_fails = !access(FAULTS "fail_usercopy", F_OK);
	if (usercopy_fails)
		write_file(FAULTS "fail_usercopy/verbose", "0");
	return !write_file(FAULTS "failslab/ignore-gfp-wait", "N") &&
	       !write_file(FAULTS "failslab/verbose", "0") &&
	       !write_file(FAULTS "fail_page_alloc/ignore-gfp-wait", "N") &&
	       !write_file(FAULTS "fail_page_alloc/ignore-gfp-highmem", "N") &&
	       !write_file(FAULTS "fail_page_alloc/min-order", "0") &&
	       !write_file(FAULTS "fail_page_alloc/verbose", "0");
}

/* An object counts as leaked at its second scan, once it is five seconds old. */
static void look_for_leaks(void)
{
	static char leaks[4096];

	if (write_file(KMEMLEAK, "scan")) {
		ksft_test_result_skip("kmemleak finds nothing: not in this kernel\n");
		return;
	}
	sleep(6);
	must(!write_file(KMEMLEAK, "scan"));
	must(read_file(KMEMLEAK, leaks, sizeof(leaks)) >= 0);
	if (*leaks)
		ksft_print_msg("%s\n", leaks);
	ksft_test_result(!*leaks, "kmemleak finds nothing\n");
}

int main(int argc, char **argv)
{
	const size_t nr = sizeof(ops) / sizeof(*ops);
	int status;
	size_t i;

	/*
	 * Where a task was preempted, the kernel copies its restartable sequence from user
	 * memory, and kills it if that fails: do without.
	 */
	if (!getenv("GLIBC_TUNABLES")) {
		must(!setenv("GLIBC_TUNABLES", "glibc.pthread.rseq=0", 1));
		execv("/proc/self/exe", argv);
	}
	ksft_print_header();
	if (access(FAIL_NTH, W_OK))
		ksft_exit_skip("no " FAIL_NTH ": this kernel has no fault injection\n");
	if (!inject())
		ksft_exit_skip("no failslab or fail_page_alloc in " FAULTS "\n");
	must(!unshare(CLONE_NEWNS));
	must(!mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
	must(!mkdir(PLACE, 0700) || errno == EEXIST);
	ksft_set_plan(nr + 1);
	write_file(KMEMLEAK, "clear");
	for (i = 0; i < nr; i++) {
		/* fail_nth NAME: only what has this in its name */
		if (argc > 1 && !strstr(ops[i].name, argv[1])) {
			ksft_test_result_skip("%s: not asked for\n", ops[i].name);
			continue;
		}
		if ((ops[i].flags & HUGE_PAGES) && no_huge_pages()) {
			ksft_test_result_skip("%s: %s\n", ops[i].name, no_huge_pages());
			continue;
		}
		status = in_child(_exit(sweep(&ops[i])));
		if (status > 2)
			ksft_print_msg("the child ended with status %d\n", status);
		ksft_test_result(!status, "%s\n", ops[i].name);
	}
	look_for_leaks();
	rmdir(PLACE);
	ksft_finished();
}
