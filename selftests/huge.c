// SPDX-License-Identifier: GPL-2.0-only
/*
 * Promise: memory of a region may come as folios for areas, which are mapped as a whole
 * where a mapping has room for one, and nothing but time and the counts of memory tells
 * the difference: every call does to such areas what it does to other pages.
 *
 * Each test makes sure first that what it is about is huge, and mapped as a whole.
 */
#include <pthread.h>
#include <linux/aio_abi.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/futex.h>
#include <sys/statfs.h>

#include "../kselftest_harness.h"
#include "common.h"
#include "areas.h"
#include "cgroups.h"
#include "files.h"
#include "module.h"

enum { AREAS = 3 };		/* of most regions here */

#define PAGES (AREAS * AREA)

/* ---- what is huge ---- */

/* Does the region hold so many pages, so many of them in folios?  Says so if not. */
static bool has_huge(int fd, uint64_t populated, uint64_t huge)
{
	struct cowmem_info i = info(fd);

	if (i.pages_populated == populated && i.pages_huge == huge)
		return true;
	fprintf(stderr, "# %llu pages, %llu of them huge, not %llu and %llu\n",
		(unsigned long long)i.pages_populated, (unsigned long long)i.pages_huge,
		(unsigned long long)populated, (unsigned long long)huge);
	return false;
}

/* The sum of what smaps says about @key for all mappings between @from and @to, in KiB. */
static long smaps(const char *key, const char *from, const char *to)
{
	FILE *file = fopen("/proc/self/smaps", "re");
	unsigned long start, end;
	bool inside = false;
	char line[1024];
	long sum = 0;

	must(file);
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			inside = start < (unsigned long)to && end > (unsigned long)from;
		else if (inside && !strncmp(line, key, strlen(key)))
			sum += strtol(line + strlen(key), NULL, 10);
	fclose(file);
	return sum;
}

/* How many pages of a mapping are mapped by PMDs */
static size_t by_pmd(const char *mem, size_t pages)
{
	const char *end = mem + pages * pgsz();

	return (smaps("ShmemPmdMapped:", mem, end) +
		smaps("FilePmdMapped:", mem, end)) * 1024 / pgsz();
}

/*
 * Map @pages pages of a region from @page on at an address that is @odd pages off of
 * where a PMD could map them.
 */
static char *map_off(int fd, size_t pages, int prot, int flags, uint64_t page, size_t odd)
{
	size_t room = (pages + 2 * AREA) * pgsz(), area = AREA * pgsz();
	char *all, *mem, *end;

	all = mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	must(all != MAP_FAILED);
	mem = (char *)(((uintptr_t)all + area - 1) / area * area);
	mem += (page + odd) % AREA * pgsz();
	end = mem + pages * pgsz();
	must(mmap(mem, pages * pgsz(), prot, flags | MAP_FIXED, fd, page * pgsz()) == mem);
	must(mem == all || !munmap(all, mem - all));
	must(end == all + room || !munmap(end, all + room - end));
	return mem;
}

/* A shared mapping of all of a region, where PMDs can map it. */
static char *map_well(int fd, size_t pages, int prot)
{
	return map_off(fd, pages, prot, MAP_SHARED, 0, 0);
}

/* The same to write, for whoever asks for huge pages. */
static char *map_huge(int fd, size_t pages)
{
	char *mem = map_well(fd, pages, PROT_READ | PROT_WRITE);

	must(!madvise(mem, pages * pgsz(), MADV_HUGEPAGE));
	return mem;
}

/* Areas of folios, all of tag @tag. */
static int huge_region(size_t areas, uint32_t tag)
{
	int fd = region();
	char *mem = map_huge(fd, areas * AREA);

	fill(mem, areas * AREA, tag, 0);
	unmap(mem, areas * AREA);
	return fd;
}

/* Memory comes back with a delay; wait until none does any more. */
static long settled(void)
{
	long kib = held();
	int i, same = 0;

	for (i = 0; i < 200 && same < 6; i++) {
		long now;

		usleep(50000);
		now = held();
		same = now == kib ? same + 1 : 0;
		kib = now;
	}
	return kib;
}

static long meminfo(const char *key)
{
	static char buf[1 << 14];
	char *at;

	must(read_file("/proc/meminfo", buf, sizeof(buf)) > 0);
	at = strstr(buf, key);
	must(at);
	return strtol(at + strlen(key), NULL, 10);
}

/* ---- what becomes huge ---- */

enum how { MADVISE, FLAG, FLAG_WRITE, STREAM, STREAM_WRITE, NOTHING, NOHUGE, TOO_SHORT };

FIXTURE(populate) {
	int fd;
	char *mem;
};

FIXTURE_VARIANT(populate) {
	enum how how;
	bool huge;
};

FIXTURE_VARIANT_ADD(populate, by_madvise) { .how = MADVISE, .huge = true };
FIXTURE_VARIANT_ADD(populate, by_flag) { .how = FLAG, .huge = true };
FIXTURE_VARIANT_ADD(populate, by_flag_and_write) { .how = FLAG_WRITE, .huge = true };
FIXTURE_VARIANT_ADD(populate, by_stream) { .how = STREAM, .huge = true };
FIXTURE_VARIANT_ADD(populate, by_stream_of_writes) { .how = STREAM_WRITE, .huge = true };
FIXTURE_VARIANT_ADD(populate, not_without_reason) { .how = NOTHING };
FIXTURE_VARIANT_ADD(populate, not_with_nohugepage) { .how = NOHUGE };
FIXTURE_VARIANT_ADD(populate, not_past_the_end) { .how = TOO_SHORT };

FIXTURE_SETUP(populate)
{
	const char *why = no_areas(4);
	int file;

	if (why)
		SKIP(return, "%s", why);
	self->fd = region();
	self->mem = map_well(self->fd, PAGES, PROT_READ | PROT_WRITE);
	if (variant->how == FLAG || variant->how == FLAG_WRITE || variant->how == NOHUGE) {
		file = do_file(self->fd, COWMEM_FILE_HUGE, NULL);
		ASSERT_LE(0, file);
		close(file);
	}
	if (variant->how == MADVISE || variant->how == TOO_SHORT)
		ASSERT_EQ(0, madvise(self->mem, PAGES * pgsz(), MADV_HUGEPAGE));
	if (variant->how == NOHUGE)
		ASSERT_EQ(0, madvise(self->mem, PAGES * pgsz(), MADV_NOHUGEPAGE));
	if (variant->how == TOO_SHORT)
		ASSERT_EQ(0, do_resize(self->fd, (AREA - 1) * pgsz()));
}

FIXTURE_TEARDOWN(populate)
{
}

static void populate(int fd, char *mem, enum how how, size_t page)
{
	if (how == FLAG_WRITE || how == STREAM_WRITE)
		put_page(fd, page, 1);
	else
		pg_fill(mem + page * pgsz(), 1, page);
}

/* One page of each area, in the middle; of a stream, all of the first area before that. */
TEST_F(populate, a_page_of_each_area)
{
	bool stream = variant->how == STREAM || variant->how == STREAM_WRITE;
	size_t areas = variant->how == TOO_SHORT ? 1 : AREAS, i, page;
	size_t small = 0, huge = 0;

	for (i = 0; stream && i < AREA; i++)
		populate(self->fd, self->mem, variant->how, i);
	small = stream ? AREA : 0;
	for (i = stream; i < areas; i++) {
		page = i * AREA + (stream ? 0 : 100 + 7 * i);
		populate(self->fd, self->mem, variant->how, page);
		/* It counts as written as a whole. */
		huge += variant->huge ? AREA : 0;
		small += !variant->huge;
		ASSERT_TRUE(has_huge(self->fd, small + huge, huge));
	}
	for (i = stream; i < areas; i++) {
		page = i * AREA + (stream ? 0 : 100 + 7 * i);
		EXPECT_TRUE(is(self->mem + page * pgsz(), 1, 1, page));
		EXPECT_TRUE(is(self->mem + (page + 1) * pgsz(), 300, 0, page + 1));
	}
	/* Only faults map; what calls wrote is mapped at the next one. */
	for (i = 0; i < areas; i++)
		touch(self->mem + i * AREA * pgsz(), true);
	EXPECT_EQ(huge, by_pmd(self->mem, PAGES));
}

/* By faults and by calls, and whatever the policy is. */
TEST(pages_of_an_area_that_has_some_stay_small)
{
	const char *why = no_areas(2);
	size_t len = PAGES * pgsz(), i;
	int fd;

	if (why)
		SKIP(return, "%s", why);
	for (i = 0; i < 2; i++) {
		char *mem;

		fd = region();
		mem = map_well(fd, PAGES, PROT_READ | PROT_WRITE);
		ASSERT_EQ(0, madvise(mem, len, MADV_NOHUGEPAGE));
		pg_fill(mem + 5 * pgsz(), 1, 5);
		ASSERT_TRUE(has_huge(fd, 1, 0));
		ASSERT_EQ(0, madvise(mem, len, MADV_HUGEPAGE));
		close(file_of(fd, COWMEM_FILE_HUGE));
		populate(fd, mem, i ? FLAG_WRITE : MADVISE, 7);
		EXPECT_TRUE(has_huge(fd, 2, 0));
		EXPECT_TRUE(fd_is(fd, 5, 1, 1));
		EXPECT_TRUE(fd_is(fd, 6, 1, 0));
		EXPECT_TRUE(fd_is(fd, 7, 1, 1));
		/* The next area is another matter. */
		populate(fd, mem, i ? FLAG_WRITE : MADVISE, AREA + 7);
		EXPECT_TRUE(has_huge(fd, AREA + 2, AREA));
		unmap(mem, PAGES);
		close(fd);
	}
}

TEST_F(populate, clones_do_as_their_source)
{
	bool policy = variant->how == FLAG || variant->how == FLAG_WRITE ||
		      variant->how == NOHUGE;
	int clone = cloned(self->fd);

	/* Advice is the mapping's. */
	put_page(clone, 3, 1);
	EXPECT_TRUE(has_huge(clone, policy ? AREA : 1, policy ? AREA : 0));
	EXPECT_TRUE(has_huge(self->fd, 0, 0));
}

TEST(only_a_writer_sets_the_policy)
{
	const char *why = no_areas(1);
	int fd = region_of(1, 1), snap = snapshot(fd), reader = file_of(fd, COWMEM_FILE_RDONLY);

	if (why)
		SKIP(return, "%s", why);
	EXPECT_EQ(-1, do_file(reader, COWMEM_FILE_HUGE, NULL));
	EXPECT_EQ(EBADF, errno);
	EXPECT_EQ(-1, do_file(snap, COWMEM_FILE_HUGE, NULL));
	EXPECT_EQ(EBADF, errno);
	EXPECT_EQ(-1, do_file(reader, COWMEM_FILE_HUGE | COWMEM_FILE_RDONLY, NULL));
	EXPECT_EQ(EBADF, errno);
}

/* ---- mounts ---- */

FIXTURE(mount) {
	char dir[32];
};

FIXTURE_VARIANT(mount) {
	const char *opts, *again;
	bool by_write, huge;
	bool small;		/* @opts end where half of the size of an area goes */
};

FIXTURE_VARIANT_ADD(mount, always) { .opts = "huge=always", .huge = true };
FIXTURE_VARIANT_ADD(mount, always_by_write) {
	.opts = "huge=always", .by_write = true, .huge = true,
};
FIXTURE_VARIANT_ADD(mount, advise) { .opts = "huge=advise", .huge = true };
FIXTURE_VARIANT_ADD(mount, advise_by_write) { .opts = "huge=advise", .by_write = true };
FIXTURE_VARIANT_ADD(mount, default) { .opts = NULL, .huge = true };
FIXTURE_VARIANT_ADD(mount, never) { .opts = "huge=never" };
FIXTURE_VARIANT_ADD(mount, remount_to_always) {
	.opts = "huge=never", .again = "huge=always", .by_write = true, .huge = true,
};
FIXTURE_VARIANT_ADD(mount, remount_to_never) {
	.opts = "huge=always", .again = "huge=never",
};
FIXTURE_VARIANT_ADD(mount, too_small) { .opts = "huge=always,size=", .small = true };

FIXTURE_SETUP(mount)
{
	const char *why = no_areas(2);
	char opts[64];

	if (why)
		SKIP(return, "%s", why);
	snprintf(self->dir, sizeof(self->dir), "/tmp/huge.XXXXXX");
	must(mkdtemp(self->dir));
	must(!unshare(CLONE_NEWNS));
	must(!mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
	snprintf(opts, sizeof(opts), "%s", variant->opts ?: "");
	if (variant->small)
		snprintf(opts, sizeof(opts), "%s%zu", variant->opts, AREA / 2 * pgsz());
	ASSERT_EQ(0, mount("m", self->dir, "cowmem", 0, opts));
	if (variant->again)
		ASSERT_EQ(0, mount("m", self->dir, "cowmem", MS_REMOUNT, variant->again));
}

FIXTURE_TEARDOWN(mount)
{
	umount2(self->dir, MNT_DETACH);
	rmdir(self->dir);
}

static int file_in(const char *dir)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "%s/file", dir);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	must(fd >= 0);
	return fd;
}

TEST_F(mount, files_have_its_policy)
{
	int fd = file_in(self->dir);
	struct statfs before, after;
	size_t n = variant->huge ? AREA : 1;
	char *mem;

	ASSERT_EQ(0, statfs(self->dir, &before));
	ASSERT_EQ(0, ftruncate(fd, PAGES * pgsz()));
	mem = map_huge(fd, PAGES);
	if (variant->by_write)
		put_page(fd, AREA + 9, 1);
	else
		pg_fill(mem + (AREA + 9) * pgsz(), 1, AREA + 9);
	EXPECT_TRUE(has_huge(fd, n, variant->huge ? AREA : 0));
	EXPECT_EQ(variant->huge && !variant->by_write ? AREA : 0, by_pmd(mem, PAGES));
	ASSERT_EQ(0, statfs(self->dir, &after));
	EXPECT_EQ(n, before.f_bfree - after.f_bfree);
	EXPECT_TRUE(fd_is(fd, AREA + 9, 1, 1));
	EXPECT_TRUE(fd_is(fd, AREA + 10, 300, 0));
	ASSERT_EQ(0, ftruncate(fd, 0));
	ASSERT_EQ(0, statfs(self->dir, &after));
	EXPECT_EQ(before.f_bfree, after.f_bfree);
}

TEST_F(mount, clones_share_and_count_once)
{
	size_t n = variant->huge ? AREA : 100;
	int fd = file_in(self->dir), clone;
	struct statfs before, after;
	char *mem;

	ASSERT_EQ(0, ftruncate(fd, AREA * pgsz()));
	mem = map_huge(fd, AREA);
	fill(mem, n, 1, 0);
	if (variant->huge)
		ASSERT_TRUE(has_huge(fd, AREA, AREA));
	ASSERT_EQ(0, statfs(self->dir, &before));
	clone = cloned(fd);
	ASSERT_EQ(0, statfs(self->dir, &after));
	EXPECT_EQ(before.f_bfree, after.f_bfree);
	pg_fill(mem + 9 * pgsz(), 2, 9);
	ASSERT_EQ(0, statfs(self->dir, &after));
	EXPECT_EQ(before.f_bfree - 1, after.f_bfree);
	EXPECT_TRUE(fd_is(clone, 0, n, 1));
	close(clone);
	EXPECT_TRUE(is(mem + 10 * pgsz(), n - 10, 1, 10));
	EXPECT_TRUE(is(mem + 9 * pgsz(), 1, 2, 9));
}

TEST(mount_options_that_are_not_known)
{
	const char *why = no_areas(1);
	char dir[32] = "/tmp/huge.XXXXXX";

	if (why)
		SKIP(return, "%s", why);
	must(mkdtemp(dir));
	must(!unshare(CLONE_NEWNS));
	must(!mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
	EXPECT_EQ(-1, mount("m", dir, "cowmem", 0, "huge=sometimes"));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, mount("m", dir, "cowmem", 0, "huge"));
	EXPECT_EQ(EINVAL, errno);
	rmdir(dir);
}

/* ---- where mappings are ---- */

TEST(mappings_are_aligned_as_the_file)
{
	const size_t at[] = { 0, 1, 100, AREA - 1, AREA, 5 * AREA + 3 };
	const char *why = no_areas(1);
	size_t area = AREA * pgsz(), i;
	int fd = region_of(8 * AREA, 0);
	char *mem;

	if (why)
		SKIP(return, "%s", why);
	/* As long as a PMD has something to map. */
	for (i = 0; i < ARRAY_SIZE(at); i++) {
		mem = map_at(fd, 2 * AREA, PROT_READ, MAP_SHARED, at[i]);
		EXPECT_EQ(at[i] * pgsz() % area, (uintptr_t)mem % area);
		mem = map_at(fd, 2 * AREA, PROT_READ | PROT_WRITE, MAP_PRIVATE, at[i]);
		EXPECT_EQ(at[i] * pgsz() % area, (uintptr_t)mem % area);
		/* So that the next one is not where this would lead to. */
		map_at(fd, 1, PROT_READ, MAP_SHARED, 0);
	}
	/* A hint is taken, if it can be. */
	mem = map_off(fd, AREA, PROT_READ, MAP_SHARED, 0, 3);
	unmap(mem, AREA);
	EXPECT_EQ(mem, mmap(mem, area, PROT_READ, MAP_SHARED, fd, 0));
	unmap(mem, AREA);
	EXPECT_EQ(mem, mmap(mem, area, PROT_READ, MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0));
}

/* ---- areas that are huge ---- */

FIXTURE(huge) {
	int fd;
	char *mem;
	long held;	/* before there was anything */
};

FIXTURE_SETUP(huge)
{
	const char *why = no_huge_pages();

	if (why)
		SKIP(return, "%s", why);
	self->held = settled();
	self->fd = region();
	self->mem = map_huge(self->fd, PAGES);
	fill(self->mem, PAGES, 1, 0);
	ASSERT_TRUE(has_huge(self->fd, PAGES, PAGES));
	ASSERT_EQ(PAGES, by_pmd(self->mem, PAGES));
	ASSERT_TRUE(holds(self->fd, PAGES, 0));
}

FIXTURE_TEARDOWN(huge)
{
}

TEST_F(huge, counts_come_and_go)
{
	long kib = PAGES * pgsz() / 1024, huge, one;
	int clone;

	one = held();
	EXPECT_LE(self->held + kib, one);
	EXPECT_GE(self->held + kib + kib / 64 + 1024, one);
	huge = meminfo("ShmemHugePages:");
	EXPECT_LE(kib, huge);
	EXPECT_EQ(kib, smaps("Rss:", self->mem, self->mem + PAGES * pgsz()));
	/* What is shared counts once. */
	clone = cloned(self->fd);
	EXPECT_EQ(huge, meminfo("ShmemHugePages:"));
	EXPECT_EQ(one, held());
	unmap(self->mem, PAGES);
	close(self->fd);
	EXPECT_EQ(huge, meminfo("ShmemHugePages:"));
	EXPECT_TRUE(has_huge(clone, PAGES, PAGES));
	close(clone);
	EXPECT_TRUE(held_comes_down_to(self->held));
	EXPECT_EQ(huge - kib, meminfo("ShmemHugePages:"));
}

TEST_F(huge, other_mappings_get_ptes)
{
	char *odd = map_off(self->fd, PAGES, PROT_READ | PROT_WRITE, MAP_SHARED, 0, 5);
	char *part = map_off(self->fd, PAGES - 2, PROT_READ | PROT_WRITE, MAP_SHARED, 1, 0);
	char *not = map_well(self->fd, PAGES, PROT_READ | PROT_WRITE);
	char *well = map_well(self->fd, PAGES, PROT_READ);

	ASSERT_EQ(0, madvise(not, PAGES * pgsz(), MADV_NOHUGEPAGE));
	EXPECT_TRUE(is(odd, PAGES, 1, 0));
	EXPECT_TRUE(is(part, PAGES - 2, 1, 1));
	EXPECT_TRUE(is(not, PAGES, 1, 0));
	EXPECT_TRUE(is(well, PAGES, 1, 0));
	EXPECT_EQ(0, by_pmd(odd, PAGES));
	/* The area in the middle is covered. */
	EXPECT_EQ((AREAS - 2) * AREA, by_pmd(part, PAGES - 2));
	EXPECT_EQ(0, by_pmd(not, PAGES));
	EXPECT_EQ(PAGES, by_pmd(well, PAGES));
	fill(odd, 10, 2, 0);
	fill(part + 20 * pgsz(), 600, 3, 21);
	fill(not + (PAGES - 40) * pgsz(), 40, 4, PAGES - 40);
	EXPECT_TRUE(is(well, 10, 2, 0));
	EXPECT_TRUE(is(well + 10 * pgsz(), 11, 1, 10));
	EXPECT_TRUE(is(self->mem + 21 * pgsz(), 600, 3, 21));
	EXPECT_TRUE(is(well + (PAGES - 40) * pgsz(), 40, 4, PAGES - 40));
	/* All of that was in place. */
	EXPECT_TRUE(has_huge(self->fd, PAGES, PAGES));
	EXPECT_TRUE(holds(self->fd, PAGES, 0));
}

TEST_F(huge, clone_reads_and_writes)
{
	int clone = cloned(self->fd);
	char *there = map_huge(clone, PAGES);

	EXPECT_TRUE(holds(self->fd, 0, PAGES));
	EXPECT_TRUE(has_huge(clone, PAGES, PAGES));
	EXPECT_TRUE(is(there, PAGES, 1, 0));
	EXPECT_EQ(PAGES, by_pmd(there, PAGES));
	EXPECT_TRUE(is(self->mem, PAGES, 1, 0));
	fill(there + 100 * pgsz(), AREA, 2, 100);
	EXPECT_TRUE(is(self->mem, PAGES, 1, 0));
	fill(self->mem + AREA * pgsz(), AREA, 3, AREA);
	EXPECT_TRUE(is(there, 100, 1, 0));
	EXPECT_TRUE(is(there + 100 * pgsz(), AREA, 2, 100));
	EXPECT_TRUE(is(there + (100 + AREA) * pgsz(), PAGES - AREA - 100, 1, 100 + AREA));
	EXPECT_TRUE(fd_is(self->fd, 0, AREA, 1));
	EXPECT_TRUE(fd_is(self->fd, AREA, AREA, 3));
	EXPECT_TRUE(fd_is(self->fd, 2 * AREA, PAGES - 2 * AREA, 1));
}

TEST_F(huge, snapshots_stay)
{
	int snap[3], i;

	for (i = 0; i < 3; i++) {
		snap[i] = snapshot(self->fd);
		fill(self->mem + i * 300 * pgsz(), 300, 10 + i, i * 300);
	}
	for (i = 0; i < 3; i++) {
		char *there = map_well(snap[i], PAGES, PROT_READ);
		int k;

		for (k = 0; k < i; k++)
			EXPECT_TRUE(is(there + k * 300 * pgsz(), 300, 10 + k, k * 300));
		EXPECT_TRUE(is(there + i * 300 * pgsz(), PAGES - i * 300, 1, i * 300));
		EXPECT_EQ(-1, mprotect(there, PAGES * pgsz(), PROT_READ | PROT_WRITE));
		unmap(there, PAGES);
	}
	/* In any order they may go. */
	close(snap[1]);
	fill(self->mem, PAGES, 2, 0);
	EXPECT_TRUE(fd_is(snap[0], 0, PAGES, 1));
	close(snap[0]);
	EXPECT_TRUE(fd_is(snap[2], 600, PAGES - 600, 1));
	close(snap[2]);
	EXPECT_TRUE(is(self->mem, PAGES, 2, 0));
}

TEST_F(huge, a_write_splits_one_page)
{
	int clone = cloned(self->fd);
	long before = held(), kib = pgsz() / 1024;

	pg_fill(self->mem + 700 * pgsz(), 2, 700);
	/* The folio stays where it is, for the clone; a page and some nodes are new. */
	EXPECT_TRUE(has_huge(self->fd, PAGES, PAGES - 1));
	EXPECT_TRUE(has_huge(clone, PAGES, PAGES));
	EXPECT_TRUE(holds(self->fd, 1, PAGES - 1));
	EXPECT_GE(before + 60 + kib, held());
	put_page(clone, 3, 3);
	EXPECT_TRUE(has_huge(self->fd, PAGES, PAGES - 1));
	EXPECT_TRUE(has_huge(clone, PAGES, PAGES - 1));
	EXPECT_GE(before + 2 * (60 + kib), held());
	EXPECT_TRUE(fd_is(self->fd, 0, 700, 1));
	EXPECT_TRUE(fd_is(self->fd, 700, 1, 2));
	EXPECT_TRUE(fd_is(self->fd, 701, PAGES - 701, 1));
	EXPECT_TRUE(fd_is(clone, 0, 3, 1));
	EXPECT_TRUE(fd_is(clone, 3, 1, 3));
	EXPECT_TRUE(fd_is(clone, 4, PAGES - 4, 1));
	/* The areas beside those are as they were. */
	EXPECT_TRUE(is(self->mem, 700, 1, 0));
	EXPECT_TRUE(is(self->mem + 701 * pgsz(), PAGES - 701, 1, 701));
	EXPECT_EQ(PAGES - AREA, by_pmd(self->mem, PAGES));
}

TEST_F(huge, last_holder_writes_in_place)
{
	int clone = cloned(self->fd);
	char *there = map_well(clone, PAGES, PROT_READ);
	long before;

	EXPECT_TRUE(is(there, PAGES, 1, 0));
	EXPECT_TRUE(is(self->mem, PAGES, 1, 0));
	unmap(there, PAGES);
	close(clone);
	before = settled();
	fill(self->mem, PAGES, 2, 0);
	EXPECT_EQ(before, held());
	EXPECT_TRUE(has_huge(self->fd, PAGES, PAGES));
	EXPECT_EQ(PAGES, by_pmd(self->mem, PAGES));
	EXPECT_TRUE(fd_is(self->fd, 0, PAGES, 2));
	/* The clone, if it is the one that stays */
	clone = cloned(self->fd);
	unmap(self->mem, PAGES);
	close(self->fd);
	before = settled();
	there = map_huge(clone, PAGES);
	fill(there, PAGES, 3, 0);
	EXPECT_EQ(before, settled());
	EXPECT_EQ(PAGES, by_pmd(there, PAGES));
	EXPECT_TRUE(fd_is(clone, 0, PAGES, 3));
	EXPECT_TRUE(holds(clone, PAGES, 0));
}

/* Areas that were cloned and are written one after the other get folios again. */
TEST_F(huge, a_stream_copies_as_a_whole)
{
	int clone = cloned(self->fd);

	fill(self->mem, PAGES, 2, 0);
	EXPECT_TRUE(has_huge(self->fd, PAGES, PAGES - AREA));
	EXPECT_TRUE(has_huge(clone, PAGES, PAGES));
	EXPECT_TRUE(fd_is(clone, 0, PAGES, 1));
	EXPECT_TRUE(fd_is(self->fd, 0, PAGES, 2));
	EXPECT_TRUE(holds(self->fd, PAGES, 0));
}

/* ---- pages that somebody else refers to ---- */

FIXTURE(pinned) {
	int fd, pipe[2];
	char *mem;
};

FIXTURE_VARIANT(pinned) {
	bool gift, shared;
};

FIXTURE_VARIANT_ADD(pinned, granted) { .gift = false };
FIXTURE_VARIANT_ADD(pinned, gift) { .gift = true };
FIXTURE_VARIANT_ADD(pinned, shared) { .shared = true };

enum { PINNED = 200, PINS = 8 };

FIXTURE_SETUP(pinned)
{
	const char *why = no_areas(4);
	struct iovec iov;

	if (why)
		SKIP(return, "%s", why);
	self->fd = huge_region(1, 1);
	if (variant->shared)
		close(snapshot(self->fd));
	self->mem = map_well(self->fd, AREA, PROT_READ | PROT_WRITE);
	if (!variant->shared)
		ASSERT_EQ(0, touch(self->mem, true));
	ASSERT_TRUE(is(self->mem, AREA, 1, 0));
	ASSERT_TRUE(has_huge(self->fd, AREA, AREA));
	ASSERT_EQ(AREA, by_pmd(self->mem, AREA));
	ASSERT_EQ(0, pipe(self->pipe));
	iov.iov_base = self->mem + PINNED * pgsz();
	iov.iov_len = PINS * pgsz();
	ASSERT_EQ((ssize_t)iov.iov_len, vmsplice(self->pipe[1], &iov, 1,
						 variant->gift ? SPLICE_F_GIFT : 0));
}

FIXTURE_TEARDOWN(pinned)
{
}

static bool pipe_has(int fd, uint32_t tag)
{
	char buf[PINS * pgsz()];

	return drain(fd, buf, sizeof(buf)) && is(buf, PINS, tag, PINNED);
}

/* A pipe shows what its pages hold: as long as nobody clones, that is what is written. */
TEST_F(pinned, clone_is_consistent)
{
	int clone = cloned(self->fd);
	uint32_t seen = variant->shared ? 1 : 2;

	fill(self->mem, AREA, 2, 0);
	EXPECT_TRUE(fd_is(clone, 0, AREA, 1));
	EXPECT_TRUE(fd_is(self->fd, 0, AREA, 2));
	/* The pages stay with the region if it could write them. */
	EXPECT_TRUE(pipe_has(self->pipe[0], seen));
	fill(map_rw(clone, AREA), AREA, 3, 0);
	EXPECT_TRUE(fd_is(self->fd, 0, AREA, 2));
	EXPECT_TRUE(fd_is(clone, 0, AREA, 3));
}

TEST_F(pinned, pipe_keeps_what_was_dropped)
{
	ASSERT_EQ(0, do_discard(self->fd, 0, AREA * pgsz()));
	EXPECT_TRUE(is(self->mem, AREA, 0, 0));
	fill(self->mem, AREA, 2, 0);
	EXPECT_TRUE(pipe_has(self->pipe[0], 1));
	EXPECT_TRUE(fd_is(self->fd, 0, AREA, 2));
}

TEST_F(pinned, pipe_keeps_what_was_restored)
{
	int snap = huge_region(1, 5);

	ASSERT_EQ(0, do_restore_pages(self->fd, snap, 0, 0, 0));
	EXPECT_TRUE(is(self->mem, AREA, 5, 0));
	fill(self->mem, AREA, 2, 0);
	EXPECT_TRUE(pipe_has(self->pipe[0], 1));
	EXPECT_TRUE(fd_is(snap, 0, AREA, 5));
	EXPECT_TRUE(fd_is(self->fd, 0, AREA, 2));
}

TEST_F(pinned, last_holder_does_not_write_in_place)
{
	int clone = cloned(self->fd);
	bool mine = !variant->shared;
	char *there;

	/* The region's pages are busy, and may be written there. */
	unmap(self->mem, AREA);
	close(self->fd);
	there = map_rw(clone, AREA);
	EXPECT_TRUE(is(there, AREA, 1, 0));
	fill(there, AREA, 2, 0);
	EXPECT_TRUE(pipe_has(self->pipe[0], 1))
		TH_LOG("the page was %s", mine ? "granted" : "shared");
	EXPECT_TRUE(fd_is(clone, 0, AREA, 2));
}

/* What reads into a region while it is cloned gets there, and the clone does not change. */
FIXTURE(flight) {
	int file;
	aio_context_t ctx;
};

FIXTURE_SETUP(flight)
{
	const char *why = no_huge_pages();
	char *buf = anon(AREA);

	if (why)
		SKIP(return, "%s", why);
	self->ctx = 0;
	self->file = direct_file();
	if (self->file < 0)
		SKIP(return, "%s", NO_DIRECT_FILE);
	if (syscall(SYS_io_setup, 4, &self->ctx))
		SKIP(return, "no AIO here: %s", strerror(errno));
	fill(buf, AREA, 2, 0);
	ASSERT_EQ((ssize_t)(AREA * pgsz()), pwrite(self->file, buf, AREA * pgsz(), 0));
	fsync(self->file);
}

FIXTURE_TEARDOWN(flight)
{
}

TEST_F(flight, data_lands_in_the_region_alone)
{
	enum { FIRST = 100, N = 200 };
	size_t len = N * pgsz();
	char *copy = anon(N), *later = anon(N);
	int i, rounds = effort(20), old = 0;

	for (i = 0; i < rounds || (!old && i < 30); i++) {
		int fd = huge_region(1, 1), clone;
		char *mem = map_huge(fd, AREA);
		struct iocb cb = {
			.aio_fildes = self->file, .aio_lio_opcode = IOCB_CMD_PREAD,
			.aio_buf = (uintptr_t)mem + FIRST * pgsz(), .aio_nbytes = len,
			.aio_offset = FIRST * pgsz(),
		}, *cbs = &cb;
		struct io_event ev;

		must(!touch(mem, true));
		ASSERT_EQ(AREA, by_pmd(mem, AREA));
		ASSERT_EQ(1, syscall(SYS_io_submit, self->ctx, 1, &cbs));
		clone = cloned(fd);
		ASSERT_EQ((ssize_t)len, pread(clone, copy, len, FIRST * pgsz()));
		ASSERT_EQ(1, syscall(SYS_io_getevents, self->ctx, 1, 1, &ev, NULL));
		ASSERT_EQ((long)len, ev.res);
		ASSERT_EQ((ssize_t)len, pread(clone, later, len, FIRST * pgsz()));
		ASSERT_EQ(0, memcmp(copy, later, len));
		old += *(uint64_t *)copy != pattern(2, FIRST, 0);
		ASSERT_TRUE(is(mem, FIRST, 1, 0));
		ASSERT_TRUE(is(mem + FIRST * pgsz(), N, 2, FIRST));
		ASSERT_TRUE(is(mem + (FIRST + N) * pgsz(), AREA - FIRST - N, 1, FIRST + N));
		ASSERT_TRUE(fd_is(clone, 0, FIRST, 1));
		unmap(mem, AREA);
		close(fd);
		close(clone);
	}
	TH_LOG("of %d rounds, %d were cut before the data", i, old);
}

/* ---- restore, diff, copy ---- */

TEST_F(huge, restore)
{
	int snap = snapshot(self->fd), other;

	fill(self->mem + 100 * pgsz(), 1000, 2, 100);
	ASSERT_EQ(0, do_restore_pages(self->fd, snap, 0, 0, 0));
	EXPECT_TRUE(is(self->mem, PAGES, 1, 0));
	EXPECT_TRUE(has_huge(self->fd, PAGES, PAGES));
	EXPECT_TRUE(holds(self->fd, 0, PAGES));
	EXPECT_TRUE(fd_is(snap, 0, PAGES, 1));
	/* From one that has nothing in common with it. */
	other = huge_region(AREAS, 3);
	ASSERT_EQ(0, do_restore_pages(self->fd, other, 0, 0, 0));
	EXPECT_TRUE(is(self->mem, PAGES, 3, 0));
	fill(self->mem, AREA, 4, 0);
	EXPECT_TRUE(fd_is(other, 0, PAGES, 3));
	/* And from holes */
	other = region_of(PAGES, 0);
	ASSERT_EQ(0, do_restore_pages(self->fd, other, 0, 0, 0));
	EXPECT_TRUE(is(self->mem, PAGES, 0, 0));
	EXPECT_TRUE(holds(self->fd, 0, 0));
	close(snap);
}

TEST_F(huge, restore_keep)
{
	int snap = snapshot(self->fd), round, i;

	for (round = 2; round < 8; round++) {
		for (i = 0; i < 20; i++)
			pg_fill(self->mem + i * 71 * pgsz(), round, i * 71);
		/* Of areas that are huge nothing is kept, or it is right. */
		ASSERT_EQ(0, do_restore_pages(self->fd, snap, COWMEM_RESTORE_KEEP, 0, 0));
		ASSERT_TRUE(is(self->mem, PAGES, 1, 0));
		ASSERT_TRUE(fd_is(self->fd, 0, PAGES, 1));
	}
	EXPECT_TRUE(fd_is(snap, 0, PAGES, 1));
	/* All written, all there again; and the region is the only one that holds it. */
	fill(self->mem, PAGES, 9, 0);
	ASSERT_EQ(0, do_restore_pages(self->fd, snap, COWMEM_RESTORE_KEEP, 0, 0));
	EXPECT_TRUE(is(self->mem, PAGES, 1, 0));
	close(snap);
	fill(self->mem, PAGES, 2, 0);
	EXPECT_TRUE(fd_is(self->fd, 0, PAGES, 2));
}

/* Written, never mapped elsewhere: what KEEP would keep if it was small. */
TEST_F(huge, restore_keep_of_what_is_granted)
{
	int snap = snapshot(self->fd), round;

	close(snap);
	fill(self->mem, PAGES, 1, 0);
	ASSERT_EQ(PAGES, by_pmd(self->mem, PAGES));
	snap = snapshot(self->fd);
	fill(self->mem, PAGES, 2, 0);
	for (round = 3; round < 6; round++) {
		ASSERT_EQ(0, do_restore_pages(self->fd, snap, COWMEM_RESTORE_KEEP, 0, 0));
		ASSERT_TRUE(is(self->mem, PAGES, 1, 0));
		fill(self->mem + 10 * pgsz(), AREA, round, 10);
	}
	EXPECT_TRUE(fd_is(snap, 0, PAGES, 1));
}

TEST_F(huge, restore_range)
{
	int snap = snapshot(self->fd);

	fill(self->mem, PAGES, 2, 0);
	ASSERT_EQ(0, do_restore_pages(self->fd, snap, 0, 100, AREA));
	EXPECT_TRUE(is(self->mem, 100, 2, 0));
	EXPECT_TRUE(is(self->mem + 100 * pgsz(), AREA, 1, 100));
	EXPECT_TRUE(is(self->mem + (100 + AREA) * pgsz(), PAGES - AREA - 100, 2, 100 + AREA));
	ASSERT_EQ(0, do_restore_pages(self->fd, snap, 0, 2 * AREA, AREA));
	EXPECT_TRUE(is(self->mem + 2 * AREA * pgsz(), AREA, 1, 2 * AREA));
	EXPECT_EQ(PAGES, info(self->fd).pages_populated);
	fill(self->mem, PAGES, 3, 0);
	EXPECT_TRUE(fd_is(snap, 0, PAGES, 1));
	EXPECT_TRUE(fd_is(self->fd, 0, PAGES, 3));
}

TEST_F(huge, diff_is_exact)
{
	const unsigned int written[] = { 0, 1, 63, 64, AREA - 1, AREA, 900, PAGES - 1 };
	struct cowmem_extent e[64];
	char *differs = anon(1), *want = anon(1);
	int snap = snapshot(self->fd), n, i;
	uint64_t page;

	ASSERT_EQ(0, do_diff(self->fd, snap, 0, e, 64));
	for (i = 0; i < (int)ARRAY_SIZE(written); i++) {
		pg_fill(self->mem + written[i] * pgsz(), 2, written[i]);
		want[written[i]] = true;
	}
	ASSERT_EQ(0, do_discard(self->fd, 1000 * pgsz(), 3 * pgsz()));
	want[1000] = want[1001] = want[1002] = true;
	n = do_diff(self->fd, snap, 0, e, 64);
	ASSERT_LT(0, n);
	for (i = 0; i < n; i++) {
		EXPECT_EQ(e[i].offset == 1000 * pgsz() ? COWMEM_EXTENT_HOLE :
							 COWMEM_EXTENT_DATA, e[i].kind);
		for (page = 0; page < e[i].length / pgsz(); page++)
			differs[e[i].offset / pgsz() + page] = true;
	}
	EXPECT_EQ(0, memcmp(differs, want, PAGES));
	/* By content, what was written back is equal. */
	for (i = 0; i < (int)ARRAY_SIZE(written); i++)
		pg_fill(self->mem + written[i] * pgsz(), 1, written[i]);
	EXPECT_EQ(1, do_diff(self->fd, snap, COWMEM_DIFF_CONTENT, e, 64));
	EXPECT_EQ(1000 * pgsz(), e[0].offset);
	EXPECT_EQ(3 * pgsz(), e[0].length);
}

FIXTURE(range) {
	int fd;
	char *mem;
	uint64_t src, dst, n;	/* in pages */
};

/* Some pages after some areas */
struct where {
	int areas, pages;
};

FIXTURE_VARIANT(range) {
	struct where src, dst, n;
};

#define RANGE(_name, _src, _dst, _n)					\
	FIXTURE_VARIANT_ADD(range, _name) { .src = _src, .dst = _dst, .n = _n }

#define AT(_areas, _pages) { .areas = _areas, .pages = _pages }

RANGE(area, AT(1, 0), AT(1, 0), AT(1, 0));
RANGE(area_elsewhere, AT(1, 0), AT(0, 0), AT(1, 0));
RANGE(all, AT(0, 0), AT(0, 0), AT(AREAS, 0));
RANGE(leaves, AT(0, 64), AT(0, 128), AT(0, 3 * 64));
RANGE(one_page, AT(0, 77), AT(0, 77), AT(0, 1));
RANGE(one_page_elsewhere, AT(0, 77), AT(1, 188), AT(0, 1));
RANGE(odd, AT(0, 3), AT(0, 130), AT(1, 188));
RANGE(odd_to_aligned, AT(0, 65), AT(1, 0), AT(1, 88));
RANGE(aligned_to_odd, AT(1, 0), AT(0, 65), AT(2, -24));
RANGE(parts_of_two, AT(1, -212), AT(1, -212), AT(1, 88));

static uint64_t pages_at(struct where w)
{
	return w.areas * AREA + w.pages;
}

FIXTURE_SETUP(range)
{
	const char *why = no_huge_pages();

	if (why)
		SKIP(return, "%s", why);
	self->src = pages_at(variant->src);
	self->dst = pages_at(variant->dst);
	self->n = pages_at(variant->n);
	self->fd = huge_region(AREAS, 1);
	self->mem = map_well(self->fd, PAGES, PROT_READ | PROT_WRITE);
	ASSERT_TRUE(is(self->mem, PAGES, 1, 0));
	ASSERT_EQ(PAGES, by_pmd(self->mem, PAGES));
	ASSERT_TRUE(has_huge(self->fd, PAGES, PAGES));
}

FIXTURE_TEARDOWN(range)
{
}

/* Does @mem show pages of @tag, but for a range, which comes from another one's @tag2? */
static bool has_range(const char *mem, uint64_t dst, uint64_t n, uint64_t src,
		      uint32_t tag, uint32_t tag2)
{
	return is(mem, dst, tag, 0) && is(mem + dst * pgsz(), n, tag2, src) &&
	       is(mem + (dst + n) * pgsz(), PAGES - dst - n, tag, dst + n);
}

TEST_F(range, copy)
{
	int to = huge_region(AREAS, 2);
	char *there = map_well(to, PAGES, PROT_READ | PROT_WRITE);

	ASSERT_TRUE(is(there, PAGES, 2, 0));
	ASSERT_EQ(0, do_copy(to, self->fd, self->dst, self->src, self->n));
	EXPECT_TRUE(has_range(there, self->dst, self->n, self->src, 2, 1));
	EXPECT_TRUE(is(self->mem, PAGES, 1, 0));
	/* Writes on either side stay there. */
	pg_fill(self->mem + self->src * pgsz(), 3, 9);
	EXPECT_TRUE(has_range(there, self->dst, self->n, self->src, 2, 1));
	pg_fill(there + (self->dst + self->n - 1) * pgsz(), 4, 9);
	fill(there, self->dst, 5, 0);
	if (self->n > 1) {
		EXPECT_TRUE(is(there + self->dst * pgsz(), self->n - 1, 1, self->src));
		EXPECT_TRUE(is(self->mem + (self->src + 1) * pgsz(), self->n - 1, 1,
			       self->src + 1));
	}
	unmap(self->mem, PAGES);
	close(self->fd);
	fill(there, PAGES, 6, 0);
	EXPECT_TRUE(fd_is(to, 0, PAGES, 6));
	EXPECT_TRUE(holds(to, PAGES, 0));
}

TEST_F(range, copy_within)
{
	ASSERT_EQ(0, do_copy(self->fd, self->fd, self->dst, self->src, self->n));
	EXPECT_TRUE(has_range(self->mem, self->dst, self->n, self->src, 1, 1));
	fill(self->mem + self->dst * pgsz(), self->n, 2, self->dst);
	EXPECT_TRUE(has_range(self->mem, self->dst, self->n, self->dst, 1, 2));
	EXPECT_EQ(PAGES, info(self->fd).pages_populated);
}

TEST_F(range, clone)
{
	int clone = do_clone(self->fd, 0, self->src * pgsz(), self->n * pgsz());
	char *there;

	ASSERT_LE(0, clone);
	EXPECT_EQ(self->n, info(clone).pages_populated);
	there = map_off(clone, self->n, PROT_READ | PROT_WRITE, MAP_SHARED, 0, 0);
	EXPECT_TRUE(is(there, self->n, 1, self->src));
	fill(self->mem, PAGES, 2, 0);
	EXPECT_TRUE(is(there, self->n, 1, self->src));
	fill(there, self->n, 3, 0);
	EXPECT_TRUE(is(self->mem, PAGES, 2, 0));
	EXPECT_TRUE(is(there, self->n, 3, 0));
	EXPECT_TRUE(holds(clone, self->n, 0));
}

TEST_F(range, ficlonerange)
{
	int from = file_of(self->fd, 0), to = file_of(huge_region(AREAS, 2), 0);
	struct file_clone_range arg = {
		.src_fd = from, .src_offset = self->src * pgsz(),
		.src_length = self->n * pgsz(), .dest_offset = self->dst * pgsz(),
	};
	char *there = map_well(to, PAGES, PROT_READ);

	ASSERT_TRUE(is(there, PAGES, 2, 0));
	ASSERT_EQ(0, ioctl(to, FICLONERANGE, &arg));
	EXPECT_TRUE(has_range(there, self->dst, self->n, self->src, 2, 1));
	fill(self->mem, PAGES, 3, 0);
	EXPECT_TRUE(has_range(there, self->dst, self->n, self->src, 2, 1));
}

TEST_F(huge, ficlone)
{
	int from = file_of(self->fd, 0), to = file_of(region_of(7, 2), 0);

	ASSERT_EQ(0, ioctl(to, FICLONE, from));
	EXPECT_TRUE(has_huge(to, PAGES, PAGES));
	fill(self->mem, PAGES, 3, 0);
	EXPECT_TRUE(fd_is(to, 0, PAGES, 1));
}

/* ---- holes ---- */

TEST_F(huge, discard_of_a_part)
{
	size_t part = AREA * 2 / 5;
	long before = held(), kib = AREA * pgsz() / 1024;

	/* Less than half: the rest stays where it is. */
	ASSERT_EQ(0, do_discard(self->fd, (AREA + 10) * pgsz(), part * pgsz()));
	EXPECT_TRUE(is(self->mem, AREA + 10, 1, 0));
	EXPECT_TRUE(is(self->mem + (AREA + 10) * pgsz(), part, 0, 0));
	EXPECT_TRUE(is(self->mem + (AREA + 10 + part) * pgsz(), PAGES - AREA - 10 - part, 1,
		       AREA + 10 + part));
	EXPECT_TRUE(has_huge(self->fd, PAGES - part, PAGES - part));
	/* More than half: it moves, and the memory comes back. */
	ASSERT_EQ(0, do_discard(self->fd, (AREA + 10 + part) * pgsz(), part * pgsz()));
	EXPECT_TRUE(is(self->mem, AREA + 10, 1, 0));
	EXPECT_TRUE(is(self->mem + (AREA + 10) * pgsz(), 2 * part, 0, 0));
	EXPECT_TRUE(is(self->mem + (AREA + 10 + 2 * part) * pgsz(), PAGES - AREA - 10 - 2 * part, 1,
		       AREA + 10 + 2 * part));
	EXPECT_TRUE(has_huge(self->fd, PAGES - 2 * part, PAGES - AREA));
	EXPECT_TRUE(held_comes_down_to(before - kib + (AREA - 2 * part) * pgsz() / 1024 + 64));
	/* Parts of pages */
	ASSERT_EQ(0, do_discard(self->fd, 5 * pgsz() + 100, 2 * pgsz()));
	EXPECT_TRUE(is(self->mem, 5, 1, 0));
	EXPECT_EQ(pattern(1, 5, 0), *(uint64_t *)(self->mem + 5 * pgsz()));
	EXPECT_EQ(0, self->mem[5 * pgsz() + 100]);
	EXPECT_TRUE(is(self->mem + 6 * pgsz(), 1, 0, 0));
	EXPECT_TRUE(is(self->mem + 8 * pgsz(), 300, 1, 8));
	/* What was a hole can be written, and all the rest. */
	fill(self->mem, PAGES, 2, 0);
	EXPECT_TRUE(fd_is(self->fd, 0, PAGES, 2));
}

/* A clone that has the area keeps the memory anyway, and its content. */
TEST_F(huge, discard_of_what_is_shared)
{
	int clone = cloned(self->fd);

	ASSERT_EQ(0, do_discard(self->fd, 100 * pgsz(), AREA * pgsz()));
	EXPECT_TRUE(is(self->mem, 100, 1, 0));
	EXPECT_TRUE(is(self->mem + 100 * pgsz(), AREA, 0, 0));
	EXPECT_TRUE(is(self->mem + (100 + AREA) * pgsz(), PAGES - AREA - 100, 1, 100 + AREA));
	EXPECT_TRUE(has_huge(clone, PAGES, PAGES));
	EXPECT_TRUE(fd_is(clone, 0, PAGES, 1));
	close(clone);
	EXPECT_TRUE(is(self->mem, 100, 1, 0));
	fill(self->mem, PAGES, 2, 0);
	EXPECT_TRUE(fd_is(self->fd, 0, PAGES, 2));
}

TEST_F(huge, discard_of_all)
{
	ASSERT_EQ(0, do_discard(self->fd, 0, PAGES * pgsz()));
	EXPECT_TRUE(is(self->mem, PAGES, 0, 0));
	EXPECT_TRUE(holds(self->fd, 0, 0));
	EXPECT_TRUE(held_comes_down_to(self->held + 256));
	/* And again */
	fill(self->mem, PAGES, 2, 0);
	EXPECT_TRUE(has_huge(self->fd, PAGES, PAGES));
	EXPECT_TRUE(fd_is(self->fd, 0, PAGES, 2));
}

TEST_F(huge, fallocate_punches_and_zeroes)
{
	int fd = file_of(self->fd, 0);

	ASSERT_EQ(0, fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 10 * pgsz(),
			       50 * pgsz()));
	ASSERT_EQ(0, fallocate(fd, FALLOC_FL_ZERO_RANGE, AREA * pgsz(), 100 * pgsz()));
	ASSERT_EQ(0, fallocate(fd, 0, 0, (PAGES + 10) * pgsz()));
	EXPECT_TRUE(is(self->mem, 10, 1, 0));
	EXPECT_TRUE(is(self->mem + 10 * pgsz(), 50, 0, 0));
	EXPECT_TRUE(is(self->mem + 60 * pgsz(), AREA - 60, 1, 60));
	EXPECT_TRUE(is(self->mem + AREA * pgsz(), 100, 0, 0));
	EXPECT_TRUE(is(self->mem + (AREA + 100) * pgsz(), PAGES - AREA - 100, 1, AREA + 100));
	EXPECT_EQ(PAGES + 10, info(fd).pages_populated);
}

TEST_F(huge, seek)
{
	off_t size = PAGES * pgsz();

	EXPECT_EQ(0, lseek(self->fd, 0, SEEK_DATA));
	EXPECT_EQ(size, lseek(self->fd, 0, SEEK_HOLE));
	ASSERT_EQ(0, do_discard(self->fd, AREA * pgsz(), AREA * pgsz()));
	ASSERT_EQ(0, do_discard(self->fd, 7 * pgsz(), pgsz()));
	EXPECT_EQ(7 * pgsz(), lseek(self->fd, 0, SEEK_HOLE));
	EXPECT_EQ(8 * pgsz(), lseek(self->fd, 7 * pgsz(), SEEK_DATA));
	EXPECT_EQ(AREA * pgsz(), lseek(self->fd, 8 * pgsz(), SEEK_HOLE));
	EXPECT_EQ(2 * AREA * pgsz(), lseek(self->fd, AREA * pgsz(), SEEK_DATA));
	/* One byte makes all of the area data, and it reads as zero. */
	self->mem[(AREA + 100) * pgsz()] = 1;
	ASSERT_TRUE(has_huge(self->fd, PAGES - 1, PAGES - 1));
	EXPECT_EQ(AREA * pgsz(), lseek(self->fd, AREA * pgsz(), SEEK_DATA));
	EXPECT_TRUE(fd_is(self->fd, AREA, 100, 0));
	EXPECT_TRUE(fd_is(self->fd, AREA + 101, AREA - 101, 0));
}

/* ---- merge, seal, size ---- */

TEST_F(huge, merge_of_equal_areas)
{
	int fds[2] = { self->fd, huge_region(AREAS, 1) };
	long kib = PAGES * pgsz() / 1024, before = settled();
	struct cowmem_merge m = { .flags = 0 };

	ASSERT_EQ(0, do_merge(&m, fds, 2));
	EXPECT_EQ(PAGES, m.merged);
	EXPECT_EQ(PAGES * pgsz(), m.saved);
	EXPECT_TRUE(held_comes_down_to(before - kib + 64));
	EXPECT_TRUE(holds(fds[0], 0, PAGES));
	EXPECT_TRUE(holds(fds[1], 0, PAGES));
	EXPECT_TRUE(is(self->mem, PAGES, 1, 0));
	fill(self->mem, PAGES, 2, 0);
	EXPECT_TRUE(fd_is(fds[1], 0, PAGES, 1));
	EXPECT_TRUE(fd_is(fds[0], 0, PAGES, 2));
}

TEST_F(huge, merge_within_and_of_zeroes)
{
	struct cowmem_merge m = { .flags = 0 };
	size_t i;

	/* The second area is as the first one, the third is zeroes. */
	memcpy(self->mem + AREA * pgsz(), self->mem, AREA * pgsz());
	memset(self->mem + 2 * AREA * pgsz(), 0, AREA * pgsz());
	ASSERT_TRUE(has_huge(self->fd, PAGES, PAGES));
	ASSERT_EQ(0, do_merge(&m, &self->fd, 1));
	EXPECT_EQ(AREA, m.merged);
	EXPECT_EQ(AREA, m.zeroed);
	EXPECT_TRUE(holds(self->fd, 0, 2 * AREA));
	for (i = 0; i < 2; i++)
		EXPECT_TRUE(is(self->mem + i * AREA * pgsz(), AREA, 1, 0));
	EXPECT_TRUE(is(self->mem + 2 * AREA * pgsz(), AREA, 0, 0));
	fill(self->mem, AREA, 2, 0);
	EXPECT_TRUE(fd_range_is(self->fd, AREA, 64, 1, 0));
	EXPECT_TRUE(fd_is(self->fd, 0, AREA, 2));
}

TEST_F(huge, seal)
{
	char c = 9;

	EXPECT_EQ(-1, do_seal(self->fd, COWMEM_SEAL_WRITE));
	EXPECT_EQ(EBUSY, errno);
	unmap(self->mem, PAGES);
	ASSERT_EQ(0, do_seal(self->fd, COWMEM_SEAL_WRITE));
	EXPECT_EQ(-1, pwrite(self->fd, &c, 1, 0));
	EXPECT_EQ(-1, do_discard(self->fd, 0, pgsz()));
	self->mem = map_well(self->fd, PAGES, PROT_READ);
	EXPECT_TRUE(is(self->mem, PAGES, 1, 0));
	EXPECT_EQ(PAGES, by_pmd(self->mem, PAGES));
	EXPECT_EQ(SIGSEGV, poke(self->mem, 1));
	EXPECT_EQ(-1, mprotect(self->mem, PAGES * pgsz(), PROT_READ | PROT_WRITE));
	/* A clone of it can be written. */
	put_page(cloned(self->fd), 5, 2);
	EXPECT_TRUE(is(self->mem, PAGES, 1, 0));
}

TEST_F(huge, seal_future_write)
{
	ASSERT_EQ(0, do_seal(self->fd, COWMEM_SEAL_FUTURE_WRITE));
	fill(self->mem, PAGES, 2, 0);
	EXPECT_TRUE(is(self->mem, PAGES, 2, 0));
	EXPECT_EQ(MAP_FAILED, mmap(NULL, PAGES * pgsz(), PROT_READ | PROT_WRITE, MAP_SHARED,
				   self->fd, 0));
}

TEST_F(huge, shrinks_and_grows_within_an_area)
{
	size_t at = AREA + 300, i;

	ASSERT_EQ(0, do_resize(self->fd, at * pgsz() + 100));
	EXPECT_TRUE(is(self->mem, at, 1, 0));
	EXPECT_EQ(SIGBUS, touch(self->mem + (at + 1) * pgsz(), false));
	EXPECT_EQ(SIGBUS, touch(self->mem + 2 * AREA * pgsz(), false));
	EXPECT_EQ(at + 1, info(self->fd).pages_populated);
	ASSERT_EQ(0, do_resize(self->fd, PAGES * pgsz()));
	EXPECT_TRUE(is(self->mem, at, 1, 0));
	for (i = 100; i < pgsz(); i++) {
		ASSERT_EQ(0, self->mem[at * pgsz() + i]);
	}
	EXPECT_TRUE(is(self->mem + (at + 1) * pgsz(), PAGES - at - 1, 0, 0));
	fill(self->mem, PAGES, 2, 0);
	EXPECT_TRUE(fd_is(self->fd, 0, PAGES, 2));
	/* Nearly all of an area goes, and its memory. */
	ASSERT_EQ(0, do_resize(self->fd, (AREA + 10) * pgsz()));
	EXPECT_TRUE(has_huge(self->fd, AREA + 10, AREA));
	EXPECT_TRUE(held_comes_down_to(self->held + (AREA + 10) * pgsz() / 1024 + 256));
	EXPECT_TRUE(is(self->mem, AREA + 10, 2, 0));
	ASSERT_EQ(0, do_resize(self->fd, 0));
	EXPECT_TRUE(holds(self->fd, 0, 0));
	EXPECT_TRUE(held_comes_down_to(self->held + 256));
}

/* The page at the edge has to be one of those that move. */
TEST_F(huge, parts_of_pages_where_the_rest_moves)
{
	size_t at = AREA + 100, part = AREA * 4 / 5, i;

	ASSERT_EQ(0, do_discard(self->fd, at * pgsz() + 100, part * pgsz()));
	EXPECT_TRUE(has_huge(self->fd, PAGES - part + 1, PAGES - AREA));
	EXPECT_EQ(pattern(1, at, 0), *(uint64_t *)(self->mem + at * pgsz()));
	for (i = 104; i < pgsz(); i += 8) {
		ASSERT_EQ(0, *(uint64_t *)(self->mem + at * pgsz() + i));
	}
	EXPECT_EQ(0, *(uint64_t *)(self->mem + (at + part) * pgsz()));
	EXPECT_EQ(pattern(1, at + part, 13), *(uint64_t *)(self->mem + (at + part) * pgsz() + 104));
	ASSERT_EQ(0, do_resize(self->fd, 100 * pgsz() + 200));
	EXPECT_TRUE(has_huge(self->fd, 101, 0));
	ASSERT_EQ(0, do_resize(self->fd, PAGES * pgsz()));
	EXPECT_TRUE(is(self->mem, 100, 1, 0));
	EXPECT_EQ(pattern(1, 100, 24), *(uint64_t *)(self->mem + 100 * pgsz() + 192));
	for (i = 200; i < pgsz(); i += 8) {
		ASSERT_EQ(0, *(uint64_t *)(self->mem + 100 * pgsz() + i));
	}
}

/* What is mapped by a PMD must not show what is past the end, now or later. */
TEST_F(huge, shrunk_is_shared_with_a_clone)
{
	int clone = cloned(self->fd);

	EXPECT_TRUE(is(self->mem, PAGES, 1, 0));
	ASSERT_EQ(0, do_resize(self->fd, 700 * pgsz()));
	EXPECT_EQ(0, touch(self->mem + 699 * pgsz(), false));
	EXPECT_EQ(SIGBUS, touch(self->mem + 700 * pgsz(), false));
	EXPECT_EQ(SIGBUS, touch(self->mem + (AREA + 500) * pgsz(), false));
	ASSERT_EQ(0, do_resize(self->fd, PAGES * pgsz()));
	EXPECT_TRUE(is(self->mem + 700 * pgsz(), PAGES - 700, 0, 0));
	EXPECT_TRUE(fd_is(clone, 0, PAGES, 1));
}

/* ---- read() and write() ---- */

TEST_F(huge, calls_over_edges)
{
	size_t from = AREA * pgsz() - 5000, len = AREA * pgsz() + 10000;
	char *buf = malloc(len), *all = malloc(PAGES * pgsz());
	int clone = cloned(self->fd), i;

	must(buf && all);
	for (i = 0; i < 2; i++) {
		memset(buf, 0x41 + i, len);
		memset(all, 0, PAGES * pgsz());
		fill(all, PAGES, 1, 0);
		memcpy(all + from, buf, len);
		ASSERT_EQ((ssize_t)len, pwrite(self->fd, buf, len, from));
		EXPECT_EQ(0, memcmp(self->mem, all, PAGES * pgsz()));
		memset(buf, 0, len);
		ASSERT_EQ((ssize_t)len, pread(self->fd, buf, len, from));
		EXPECT_EQ(0, memcmp(buf, all + from, len));
	}
	EXPECT_TRUE(fd_is(clone, 0, PAGES, 1));
	/* From the region to itself, and into it from itself. */
	ASSERT_EQ((ssize_t)len, pwrite(self->fd, self->mem + 3, len, from + 17));
	free(buf);
	free(all);
}

/* ---- processes and mappings ---- */

TEST_F(huge, fork_shares)
{
	EXPECT_EQ(0, in_child(
		if (!is(self->mem, PAGES, 1, 0))
			_exit(1);
		fill(self->mem + 100 * pgsz(), AREA, 2, 100);
		if (by_pmd(self->mem, PAGES) != PAGES)
			_exit(2);
	));
	EXPECT_TRUE(is(self->mem + 100 * pgsz(), AREA, 2, 100));
	EXPECT_TRUE(has_huge(self->fd, PAGES, PAGES));
	/* Clone while a child has it mapped */
	EXPECT_EQ(0, in_child(
		int clone;

		fill(self->mem, PAGES, 3, 0);
		clone = cloned(self->fd);
		fill(self->mem, PAGES, 4, 0);
		if (!fd_is(clone, 0, PAGES, 3))
			_exit(1);
	));
	EXPECT_TRUE(is(self->mem, PAGES, 4, 0));
}

TEST_F(huge, partial_munmap)
{
	unmap(self->mem + 100 * pgsz(), 50);
	EXPECT_TRUE(is(self->mem, 100, 1, 0));
	EXPECT_EQ(SIGSEGV, touch(self->mem + 120 * pgsz(), false));
	EXPECT_TRUE(is(self->mem + 150 * pgsz(), PAGES - 150, 1, 150));
	EXPECT_EQ(PAGES - AREA, by_pmd(self->mem, PAGES));
	fill(self->mem, 100, 2, 0);
	fill(self->mem + 150 * pgsz(), PAGES - 150, 2, 150);
	EXPECT_TRUE(fd_is(self->fd, 0, 100, 2));
	EXPECT_TRUE(fd_is(self->fd, 100, 50, 1));
	EXPECT_TRUE(fd_is(self->fd, 150, PAGES - 150, 2));
	EXPECT_TRUE(has_huge(self->fd, PAGES, PAGES));
	unmap(self->mem, PAGES);
	close(self->fd);
	EXPECT_TRUE(held_comes_down_to(self->held));
}

TEST_F(huge, dontneed_and_remove)
{
	int clone, fd = file_of(self->fd, 0);
	char *mem = map_huge(fd, PAGES);

	ASSERT_EQ(0, madvise(self->mem + 10 * pgsz(), AREA * pgsz(), MADV_DONTNEED));
	EXPECT_TRUE(is(self->mem, PAGES, 1, 0));
	clone = cloned(self->fd);
	ASSERT_EQ(0, touch(mem, true));
	ASSERT_EQ(0, madvise(mem + 10 * pgsz(), AREA * pgsz(), MADV_REMOVE));
	EXPECT_TRUE(is(self->mem + 10 * pgsz(), AREA, 0, 0));
	EXPECT_TRUE(is(self->mem + (10 + AREA) * pgsz(), PAGES - AREA - 10, 1, 10 + AREA));
	EXPECT_TRUE(fd_is(clone, 0, PAGES, 1));
}

TEST_F(huge, mremap)
{
	char *to = map_off(self->fd, PAGES, PROT_NONE, MAP_SHARED, 0, 0);
	char *odd = map_off(self->fd, PAGES, PROT_NONE, MAP_SHARED, 0, 7);
	size_t len = PAGES * pgsz();

	/* Where a PMD fits */
	ASSERT_EQ(to, mremap(self->mem, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, to));
	EXPECT_TRUE(is(to, PAGES, 1, 0));
	EXPECT_EQ(PAGES, by_pmd(to, PAGES));
	fill(to, PAGES, 2, 0);
	EXPECT_TRUE(fd_is(self->fd, 0, PAGES, 2));
	/* Where none does */
	ASSERT_EQ(odd, mremap(to, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, odd));
	EXPECT_TRUE(is(odd, PAGES, 2, 0));
	EXPECT_EQ(0, by_pmd(odd, PAGES));
	fill(odd, PAGES, 3, 0);
	EXPECT_TRUE(fd_is(self->fd, 0, PAGES, 3));
	/* Half an area, after a clone */
	close(cloned(self->fd));
	EXPECT_TRUE(is(odd, PAGES, 3, 0));
	ASSERT_EQ(to, mremap(odd, 256 * pgsz(), 256 * pgsz(), MREMAP_MAYMOVE | MREMAP_FIXED,
			     to));
	fill(to, 256, 4, 0);
	EXPECT_TRUE(fd_is(self->fd, 0, 256, 4));
	EXPECT_TRUE(fd_is(self->fd, 256, PAGES - 256, 3));
	EXPECT_TRUE(has_huge(self->fd, PAGES, PAGES));
}

/* A read-only mapping of what was written must not become writable after a clone. */
TEST_F(huge, mprotect)
{
	size_t len = PAGES * pgsz();
	int clone;

	ASSERT_EQ(0, mprotect(self->mem, len, PROT_READ));
	EXPECT_EQ(SIGSEGV, poke(self->mem + 5 * pgsz(), 1));
	clone = cloned(self->fd);
	EXPECT_TRUE(is(self->mem, PAGES, 1, 0));
	ASSERT_EQ(0, mprotect(self->mem, len, PROT_READ | PROT_WRITE));
	fill(self->mem, PAGES, 2, 0);
	EXPECT_TRUE(fd_is(clone, 0, PAGES, 1));
	close(clone);
	/* Of a part: the PMD is split. */
	fill(self->mem, PAGES, 3, 0);
	clone = cloned(self->fd);
	EXPECT_TRUE(is(self->mem, PAGES, 3, 0));
	ASSERT_EQ(0, mprotect(self->mem + 10 * pgsz(), 20 * pgsz(), PROT_READ));
	EXPECT_EQ(SIGSEGV, poke(self->mem + 12 * pgsz(), 1));
	EXPECT_EQ(0, poke(self->mem + 9 * pgsz(), 1));
	ASSERT_EQ(0, mprotect(self->mem + 10 * pgsz(), 20 * pgsz(), PROT_READ | PROT_WRITE));
	fill(self->mem, PAGES, 4, 0);
	EXPECT_TRUE(fd_is(clone, 0, PAGES, 3));
	EXPECT_TRUE(fd_is(self->fd, 0, PAGES, 4));
}

TEST_F(huge, mprotect_while_granted)
{
	int i, clone;

	for (i = 0; i < 3; i++) {
		fill(self->mem, AREA, 2 + 2 * i, 0);
		ASSERT_EQ(0, mprotect(self->mem, AREA * pgsz(), PROT_NONE));
		clone = cloned(self->fd);
		ASSERT_EQ(0, mprotect(self->mem, AREA * pgsz(), PROT_READ | PROT_WRITE));
		EXPECT_TRUE(is(self->mem, AREA, 2 + 2 * i, 0));
		fill(self->mem, AREA, 3 + 2 * i, 0);
		EXPECT_TRUE(fd_is(clone, 0, AREA, 2 + 2 * i));
		close(clone);
	}
}

TEST_F(huge, private_mappings)
{
	char *priv = map_off(self->fd, PAGES, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0, 0);
	int clone;

	EXPECT_TRUE(is(priv, PAGES, 1, 0));
	pg_fill(priv + 100 * pgsz(), 2, 100);
	pg_fill(priv + 700 * pgsz(), 2, 700);
	EXPECT_TRUE(is(self->mem, PAGES, 1, 0));
	EXPECT_TRUE(is(priv, 100, 1, 0));
	EXPECT_TRUE(is(priv + 101 * pgsz(), 599, 1, 101));
	/* What others write shows where there is no copy. */
	fill(self->mem, PAGES, 3, 0);
	EXPECT_TRUE(is(priv, 100, 3, 0));
	EXPECT_TRUE(is(priv + 100 * pgsz(), 1, 2, 100));
	EXPECT_TRUE(is(priv + 101 * pgsz(), 599, 3, 101));
	/* A clone, and a private mapping of that. */
	clone = cloned(self->fd);
	priv = map_off(clone, PAGES, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0, 0);
	fill(priv, PAGES, 4, 0);
	EXPECT_TRUE(fd_is(clone, 0, PAGES, 3));
	EXPECT_TRUE(fd_is(self->fd, 0, PAGES, 3));
	ASSERT_EQ(0, madvise(priv, PAGES * pgsz(), MADV_DONTNEED));
	EXPECT_TRUE(is(priv, PAGES, 3, 0));
	/* Children of a private mapping have their own. */
	EXPECT_EQ(0, in_child(fill(priv, AREA, 5, 0)));
	EXPECT_TRUE(is(priv, AREA, 3, 0));
}

/* ---- futexes ---- */

static uint32_t *futex_of(char *mem)
{
	return (uint32_t *)(mem + (AREA + 77) * pgsz() + 128);
}

/* Sleep until somebody wakes us, through a mapping of our own. */
static void sleep_on(int fd, int *ready, uint32_t val)
{
	uint32_t *word = futex_of(map_well(fd, PAGES, PROT_READ | PROT_WRITE));
	struct timespec most = { .tv_sec = 60 };

	__atomic_add_fetch(ready, 1, __ATOMIC_ACQ_REL);
	if (syscall(SYS_futex, word, FUTEX_WAIT, val, &most, NULL, 0))
		_exit(errno == EAGAIN ? 2 : 3);
	_exit(0);
}

TEST_F(huge, futex_wakes_other_processes)
{
	int *ready = shared_mem(sizeof(*ready)), round, clone, woken, i;
	uint32_t *word = futex_of(self->mem);
	pid_t pid;

	for (round = 0; round < 4; round++) {
		__atomic_store_n(word, round, __ATOMIC_RELEASE);
		put(ready, 0);
		pid = spawn();
		if (!pid)
			sleep_on(self->fd, ready, round);
		await(ready, 1);
		/* With 1, the area is shared when it is woken; with 2, it was written since. */
		clone = round ? cloned(self->fd) : -1;
		if (round == 2)
			word[1] = 1;
		if (round == 3)
			close(clone);
		for (i = 0, woken = 0; i < 2000 && !woken; i++) {
			woken = syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
			ASSERT_LE(0, woken);
			usleep(woken ? 0 : 5000);
		}
		EXPECT_EQ(1, woken)
			TH_LOG("round %d", round);
		kill(pid, woken ? 0 : SIGKILL);
		EXPECT_EQ(0, reap(pid));
		if (round && round < 3)
			close(clone);
	}
}

/* ---- areas that hang at very many places ---- */

/* So many pages that to look at each area takes far longer than anybody should wait. */
#define VAST ((uint64_t)AREA << 23)
/* What anyone may have to wait for, in seconds. */
#define PROMPT 1.0

/* All of it is one folio, which was mapped by a PMD. */
static int vast_region(void)
{
	int fd = region();
	char *mem = map_huge(fd, AREA);
	uint64_t n;

	fill(mem, AREA, 1, 0);
	must(by_pmd(mem, AREA) == AREA);
	unmap(mem, AREA);
	must(!do_resize(fd, VAST * pgsz()));
	for (n = AREA; n < VAST; n *= 2)
		must(!do_copy(fd, fd, n, 0, n));
	return fd;
}

FIXTURE(vast) {
	int fd, empty;
	int *turn;
};

typedef const FIXTURE_DATA(vast) vast_scene;

FIXTURE_VARIANT(vast) {
	bool (*call)(vast_scene *s);
};

static bool vast_discard(vast_scene *s)
{
	return !do_discard(s->fd, 0, VAST * pgsz());
}

static bool vast_discard_inside(vast_scene *s)
{
	return !do_discard(s->fd, 100, VAST * pgsz() - 200);
}

static bool vast_shrink(vast_scene *s)
{
	return !do_resize(s->fd, pgsz());
}

static bool vast_copy_over(vast_scene *s)
{
	return !do_copy(s->fd, s->empty, 0, 0, VAST);
}

/* Both can be written afterwards. */
static bool vast_clone(vast_scene *s)
{
	int clone = do_clone(s->fd, 0, 0, 0);

	if (clone < 0)
		return false;
	put_page(s->fd, VAST / 3, 2);
	put_page(clone, VAST / 5, 2);
	return !close(clone);
}

static bool vast_clone_of_half(vast_scene *s)
{
	int clone = do_clone(s->fd, 0, VAST / 2 * pgsz(), VAST / 2 * pgsz());

	return clone >= 0 && !close(clone);
}

/* An area is as it was filled.  Of many pages, to look at 512 has to do. */
static bool looks_filled(const char *mem)
{
	size_t i;

	for (i = 0; i < AREA; i += AREA / 512)
		if (!pg_is(mem + i * pgsz(), 1, i))
			return false;
	return true;
}

static bool vast_store(vast_scene *s)
{
	char *mem = map_off(s->fd, 4 * AREA, PROT_READ | PROT_WRITE, MAP_SHARED, VAST / 4, 0);

	return looks_filled(mem) && !poke(mem + 5 * pgsz(), 1) && looks_filled(mem + AREA * pgsz());
}

FIXTURE_VARIANT_ADD(vast, discard) { .call = vast_discard };
FIXTURE_VARIANT_ADD(vast, discard_inside) { .call = vast_discard_inside };
FIXTURE_VARIANT_ADD(vast, shrink) { .call = vast_shrink };
FIXTURE_VARIANT_ADD(vast, copy_over) { .call = vast_copy_over };
FIXTURE_VARIANT_ADD(vast, clone) { .call = vast_clone };
FIXTURE_VARIANT_ADD(vast, clone_of_half) { .call = vast_clone_of_half };
FIXTURE_VARIANT_ADD(vast, store) { .call = vast_store };

FIXTURE_SETUP(vast)
{
	const char *why = no_areas(3);

	if (why)
		SKIP(return, "%s", why);
	self->fd = vast_region();
	self->empty = region();
	ASSERT_EQ(0, do_resize(self->empty, VAST * pgsz()));
	self->turn = shared_mem(sizeof(*self->turn));
}

FIXTURE_TEARDOWN(vast)
{
}

/* It is over at once.  If it was not, a signal would end it. */
TEST_F(vast, is_soon_done)
{
	double start = now(), took;
	pid_t pid = spawn();

	if (!pid) {
		put(self->turn, variant->call(self) ? 1 : -1);
		_exit(0);
	}
	while (!get(self->turn) && now() < start + PROMPT)
		usleep(1000);
	took = now() - start;
	EXPECT_EQ(1, get(self->turn))
		TH_LOG("not done after %.0f ms", took * 1e3);
	start = now();
	kill(pid, SIGKILL);
	reap(pid);
	EXPECT_GT(PROMPT, now() - start)
		TH_LOG("the kill took %.0f ms", (now() - start) * 1e3);
}

/* ---- where there is no memory ---- */

FIXTURE(limited) {
	char old[32];
	long held;
};

FIXTURE_SETUP(limited)
{
	const char *why = no_huge_pages();

	ASSERT_LT(0, read_file(LIMIT, self->old, sizeof(self->old)));
	if (why)
		SKIP(return, "%s", why);
	self->held = settled();
}

FIXTURE_TEARDOWN_PARENT(limited)
{
	EXPECT_EQ(0, write_file(LIMIT, self->old));
}

/* Store to one page after the other, as long as it works; how many there are. */
static size_t store_all(char *mem, size_t pages)
{
	size_t i;

	for (i = 0; i < pages; i++) {
		if (poke(mem + i * pgsz(), 1))
			break;
		pg_fill(mem + i * pgsz(), 1, i);
	}
	return i;
}

TEST_F(limited, small_pages_do_where_huge_ones_do_not_fit)
{
	long mib = self->held / 1024 + 3 * AREA_MIB;
	int fd = region();
	char *mem = map_huge(fd, PAGES + AREA);
	size_t n;

	must(!set_limit(mib));
	n = store_all(mem, PAGES + AREA);
	/* Two or three areas as a whole, and then pages until there are no more. */
	EXPECT_LE(2 * AREA, info(fd).pages_huge);
	EXPECT_LT(info(fd).pages_huge, n);
	EXPECT_EQ(n, info(fd).pages_populated);
	EXPECT_LE(2 * AREA + AREA / 2, n);
	EXPECT_GE(3 * AREA, n);
	EXPECT_TRUE(is(mem, n, 1, 0));
	EXPECT_EQ(SIGBUS, poke(mem + n * pgsz(), 1));
	/* What is freed as a whole can be had as a whole. */
	ASSERT_EQ(0, do_discard(fd, 0, n * pgsz()));
	EXPECT_LE(2 * AREA + AREA / 2, store_all(mem, PAGES + AREA));
	EXPECT_LE(2 * AREA, info(fd).pages_huge);
}

TEST_F(limited, nothing_huge_fits)
{
	int fd = region();
	char *mem = map_huge(fd, AREA);

	must(!set_limit(self->held / 1024 + AREA_MIB / 2));
	pg_fill(mem, 1, 0);
	fill(mem + 300 * pgsz(), 50, 1, 300);
	EXPECT_TRUE(has_huge(fd, 51, 0));
	EXPECT_TRUE(is(mem + 300 * pgsz(), 50, 1, 300));
	EXPECT_TRUE(is(mem + pgsz(), 299, 0, 1));
}

/* A copy of an area does not fit; one of a page does. */
TEST_F(limited, a_stream_copies_pages)
{
	int fd = huge_region(2, 1), clone;
	char *mem = map_huge(fd, 2 * AREA);
	size_t i;

	ASSERT_TRUE(has_huge(fd, 2 * AREA, 2 * AREA));
	clone = cloned(fd);
	must(!set_limit(settled() / 1024 + AREA_MIB * 3 / 2));
	for (i = 0; i < AREA + 20; i++)
		pg_fill(mem + i * pgsz(), 2, i);
	EXPECT_TRUE(has_huge(fd, 2 * AREA, AREA - 20));
	EXPECT_TRUE(is(mem, AREA + 20, 2, 0));
	EXPECT_TRUE(is(mem + (AREA + 20) * pgsz(), AREA - 20, 1, AREA + 20));
	EXPECT_TRUE(fd_is(clone, 0, 2 * AREA, 1));
}

/*
 * A snapshot whose pages hang everywhere, mapped by PMDs, goes as a whole.  The writer
 * that lacks memory waits for that, and so would anyone who makes or closes such snapshots.
 */
TEST_F(limited, vast_snapshots_yield_soon)
{
	int fd = vast_region(), snap, other = region(), i;
	double most = 0, took;
	char *mem, *there, c;

	snap = do_clone(fd, COWMEM_CLONE_SNAPSHOT | COWMEM_CLONE_EXPENDABLE, 0, 0);
	ASSERT_LE(0, snap);
	there = map_well(snap, AREA, PROT_READ);
	EXPECT_TRUE(is(there, AREA, 1, 0));
	ASSERT_EQ(AREA, by_pmd(there, AREA));
	close(fd);
	mem = map_well(other, 2 * AREA, PROT_READ | PROT_WRITE);
	ASSERT_EQ(0, madvise(mem, 2 * AREA * pgsz(), MADV_NOHUGEPAGE));
	must(!set_limit(settled() / 1024 + AREA_MIB / 2));
	/* INFO would count all of it. */
	for (i = 0; i < AREA && pread(snap, &c, 1, 0) == 1; i++) {
		took = now();
		ASSERT_EQ(0, poke(mem + i * pgsz(), 1));
		took = now() - took;
		most = took > most ? took : most;
	}
	EXPECT_EQ(-1, pread(snap, &c, 1, 0));
	EXPECT_EQ(EIO, errno);
	EXPECT_GT(PROMPT, most)
		TH_LOG("a store took %.0f ms", most * 1e3);
}

FIXTURE(cgroup) {
	char dir[128];
	const char *why;
};

FIXTURE_SETUP(cgroup)
{
	self->why = no_huge_pages();
	self->dir[0] = 0;
	if (!self->why)
		self->why = cg_make(self->dir, sizeof(self->dir));
	if (self->why)
		SKIP(return, "%s", self->why);
}

FIXTURE_TEARDOWN_PARENT(cgroup)
{
	if (self->dir[0])
		EXPECT_EQ(0, rmdir(self->dir));
}

TEST_F(cgroup, folios_are_charged)
{
	long before;
	int status, fd = region();

	before = cg_read(self->dir, "memory.current");
	status = in_child(
		must(!cg_write(self->dir, "cgroup.procs", "0"));
		fill(map_huge(fd, PAGES), PAGES, 1, 0);
	);
	EXPECT_EQ(0, status);
	ASSERT_TRUE(has_huge(fd, PAGES, PAGES));
	EXPECT_LE(before + (long)(PAGES * pgsz()), cg_read(self->dir, "memory.current"));
	close(fd);
	EXPECT_TRUE(cg_falls_below(self->dir, before + 256 * pgsz()));
}

/* As without: pages are given as long as there are any, then it is killed or refused. */
TEST_F(cgroup, limit_is_reached_by_small_pages)
{
	size_t max = 12 * AREA * pgsz(), pages = 2 * max / pgsz(), n;
	size_t *stored = shared_mem(sizeof(*stored));
	int status, fd = region();
	char *mem = map_huge(fd, pages);

	ASSERT_EQ(0, cg_limit(self->dir, max));
	cg_write(self->dir, "memory.swap.max", "0");
	status = in_child(
		size_t i;

		must(!cg_write(self->dir, "cgroup.procs", "0"));
		for (i = 0; i < pages && !poke(mem + i * pgsz(), 1); i++) {
			pg_fill(mem + i * pgsz(), 1, i);
			*stored = i + 1;
		}
	);
	n = info(fd).pages_populated;
	TH_LOG("the child ended with %d after %zu pages; %zu, %llu of them huge", status,
	       *stored, n, (unsigned long long)info(fd).pages_huge);
	EXPECT_TRUE(status == 0 || status == 128 + SIGKILL);
	EXPECT_LE(4 * AREA, info(fd).pages_huge);
	EXPECT_LT(info(fd).pages_huge, n);
	EXPECT_LE(max / pgsz() * 3 / 4, *stored);
	EXPECT_GE(max / pgsz(), n);
	EXPECT_TRUE(is(mem, *stored, 1, 0));
	/* A process outside the cgroup can go on. */
	fill(mem + *stored * pgsz(), 100, 1, *stored);
	EXPECT_TRUE(is(mem, *stored + 100, 1, 0));
	close(fd);
	unmap(mem, pages);
	EXPECT_TRUE(cg_falls_below(self->dir, 1024 * pgsz()));
}

/* ---- clones beside writers ---- */

enum { WRITERS = 2, CUT_AREAS = 4, PLACES = 2 * CUT_AREAS };

struct writer {
	pthread_t thread;
	int fd, nr, *stop;
	char *mem;
	uint64_t rounds;
	bool by_call;
};

/* Writers have words of their own, in two pages of each area, from the first on. */
static size_t place_of(int writer, int i)
{
	return (i / 2 * AREA + i % 2 * 300 + 5) * pgsz() + (1 + writer) * 64;
}

static void *counts_up(void *arg)
{
	struct writer *w = arg;
	uint64_t s;
	int i;

	yield_to_main();
	for (s = 1; !get(w->stop); s++) {
		for (i = 0; i < PLACES; i++) {
			size_t at = place_of(w->nr, i);

			if (w->by_call && (s + i) % 2)
				must(pwrite(w->fd, &s, sizeof(s), at) == sizeof(s));
			else
				__atomic_store_n((uint64_t *)(w->mem + at), s,
						 __ATOMIC_RELEASE);
		}
		__atomic_store_n(&w->rounds, s, __ATOMIC_RELEASE);
	}
	return NULL;
}

/* A writer is at one place: behind it is one less. */
static bool is_cut(const char *mem, int writer, uint64_t least)
{
	uint64_t first = 0, last = 0, s;
	int i;

	for (i = 0; i < PLACES; i++) {
		s = __atomic_load_n((uint64_t *)(mem + place_of(writer, i)), __ATOMIC_ACQUIRE);
		if (!i)
			first = last = s;
		if (s > last || s + 1 < first || s < least) {
			fprintf(stderr,
				"# writer %d: %llu at place %d, after %llu and %llu, %llu published\n",
				writer, (unsigned long long)s, i, (unsigned long long)first,
				(unsigned long long)last, (unsigned long long)least);
			return false;
		}
		last = s;
	}
	return true;
}

FIXTURE(cut) {
	int stop;
};

FIXTURE_VARIANT(cut) {
	bool by_call, own_maps;
};

FIXTURE_VARIANT_ADD(cut, stores) { .by_call = false };
FIXTURE_VARIANT_ADD(cut, stores_in_own_mappings) { .own_maps = true };
FIXTURE_VARIANT_ADD(cut, stores_and_calls) { .by_call = true };

FIXTURE_SETUP(cut)
{
	const char *why = no_huge_pages();

	if (why)
		SKIP(return, "%s", why);
}

FIXTURE_TEARDOWN(cut)
{
}

enum { BURST = 3 };

/* Clones of areas that are written; returns false if one is not right. */
static bool cut_burst(int fd, struct writer *w)
{
	uint64_t least[BURST][WRITERS], sum[BURST] = {}, again;
	int clone[BURST], i, k;
	bool ok = true;

	for (i = 0; i < BURST; i++) {
		for (k = 0; k < WRITERS; k++)
			least[i][k] = __atomic_load_n(&w[k].rounds, __ATOMIC_ACQUIRE);
		clone[i] = cloned(fd);
	}
	for (i = 0; i < 2 * BURST; i++) {
		char *mem = map_well(clone[i % BURST], CUT_AREAS * AREA, PROT_READ);

		again = 0;
		for (k = 0; k < WRITERS; k++) {
			ok = is_cut(mem, k, least[i % BURST][k]) && ok;
			again = again * 1000003 + *(uint64_t *)(mem + place_of(k, 3));
		}
		if (i >= BURST && again != sum[i - BURST]) {
			fprintf(stderr, "# a clone changes\n");
			ok = false;
		}
		sum[i % BURST] = again;
		unmap(mem, CUT_AREAS * AREA);
	}
	for (i = 0; i < BURST; i++)
		close(clone[i]);
	return ok;
}

/* Only the first clones meet areas that are huge, so there are new ones each time. */
TEST_F(cut, is_consistent)
{
	int round, rounds = effort(60), i, huge = 0;
	double end = now() + effort(15);

	rng_init();
	for (round = 0; round < rounds && (round < 5 || now() < end); round++) {
		int fd = huge_region(CUT_AREAS, 0);
		char *mem = map_huge(fd, CUT_AREAS * AREA);
		struct writer w[WRITERS] = {};
		uint64_t at_least = 1 + below(20);

		memset(mem, 0, pgsz());
		for (i = 1; i < CUT_AREAS; i++)
			mem[i * AREA * pgsz()] = 0;
		ASSERT_TRUE(has_huge(fd, CUT_AREAS * AREA, CUT_AREAS * AREA));
		huge += by_pmd(mem, CUT_AREAS * AREA) == CUT_AREAS * AREA;
		self->stop = 0;
		for (i = 0; i < WRITERS; i++) {
			w[i] = (struct writer){ .fd = fd, .nr = i, .stop = &self->stop,
				.by_call = variant->by_call };
			w[i].mem = variant->own_maps ? map_huge(fd, CUT_AREAS * AREA) : mem;
			must(!pthread_create(&w[i].thread, NULL, counts_up, &w[i]));
		}
		for (i = 0; i < WRITERS; i++)
			while (__atomic_load_n(&w[i].rounds, __ATOMIC_ACQUIRE) < at_least)
				usleep(1 + below(300));
		ASSERT_TRUE(cut_burst(fd, w));
		ASSERT_TRUE(cut_burst(fd, w));
		put(&self->stop, 1);
		for (i = 0; i < WRITERS; i++)
			pthread_join(w[i].thread, NULL);
		for (i = 0; i < WRITERS; i++) {
			EXPECT_TRUE(is_cut(mem, i, w[i].rounds));
			if (variant->own_maps)
				unmap(w[i].mem, CUT_AREAS * AREA);
		}
		unmap(mem, CUT_AREAS * AREA);
		close(fd);
	}
	TH_LOG("%d rounds", round);
	EXPECT_EQ(round, huge);
}

struct reader {
	pthread_t thread;
	char *mem;
	int stop, known, seen, stale, turns;
};

static void *reads(void *arg)
{
	struct reader *r = arg;

	while (!get(&r->stop)) {
		int known = get(&r->known);
		int seen = *(volatile unsigned char *)(r->mem + 77 * pgsz());

		r->stale += seen < known;
		put(&r->seen, seen);
		put(&r->turns, (r->turns + 1) & INT32_MAX);
	}
	return NULL;
}

static void let_reader_see(struct reader *r)
{
	int first = get(&r->turns), last = first;

	while (last == first || last == ((first + 1) & INT32_MAX)) {
		sched_yield();
		last = get(&r->turns);
	}
}

FIXTURE(stale) {
	struct reader r;
};

FIXTURE_VARIANT(stale) {
	bool mapped, restored;
};

FIXTURE_VARIANT_ADD(stale, split_by_write) { .mapped = false };
FIXTURE_VARIANT_ADD(stale, split_by_store) { .mapped = true };
FIXTURE_VARIANT_ADD(stale, restored) { .restored = true };

FIXTURE_SETUP(stale)
{
	const char *why = no_areas(3);

	if (why)
		SKIP(return, "%s", why);
}

FIXTURE_TEARDOWN(stale)
{
}

/* A reader through a PMD sees a page that is split from it as soon as that is written. */
TEST_F(stale, no_stale_read)
{
	int i, rounds = effort(60), stale = 0, byte = 77 * pgsz();
	struct reader *r = &self->r;
	unsigned char val;

	for (i = 0; i < rounds; i++) {
		int fd = huge_region(1, 0), clone, other = -1;
		char *alias = map_huge(fd, AREA);

		alias[byte] = 1;
		ASSERT_TRUE(has_huge(fd, AREA, AREA));
		if (variant->restored) {
			other = huge_region(1, 0);
			val = 3;
			ASSERT_EQ(1, pwrite(other, &val, 1, byte));
		}
		memset(r, 0, sizeof(*r));
		r->mem = map_well(fd, AREA, PROT_READ);
		must(!touch(r->mem, false));
		must(!pthread_create(&r->thread, NULL, reads, r));
		clone = cloned(fd);
		put(&r->known, 1);
		let_reader_see(r);
		ASSERT_EQ(AREA, by_pmd(r->mem, AREA));
		usleep(i * 7 % 100);
		val = 2;
		if (variant->restored) {
			ASSERT_EQ(0, do_restore_pages(fd, other, 0, 0, 0));
		} else if (variant->mapped) {
			*(volatile unsigned char *)(alias + byte) = val;
		} else {
			ASSERT_EQ(1, pwrite(fd, &val, 1, byte));
		}
		put(&r->known, variant->restored ? 3 : val);
		let_reader_see(r);
		EXPECT_LE(2, get(&r->seen));
		put(&r->stop, 1);
		pthread_join(r->thread, NULL);
		stale += r->stale;
		ASSERT_EQ(1, pread(clone, &val, 1, byte));
		ASSERT_EQ(1, val);
		unmap(r->mem, AREA);
		unmap(alias, AREA);
		close(clone);
		close(fd);
		if (other >= 0)
			close(other);
	}
	EXPECT_EQ(0, stale);
}

/* ---- threads that meet in an area ---- */

enum { MEET_AREAS = 8, MOST_THREADS = 4 };
enum meet { STORE, LOAD, EITHER };

/**
 * struct meeting - of threads that get to each area at once
 * @mem: where; nothing of it is mapped yet.
 * @how: what they do there.
 * @by_call: the kernel does it for them, and says so if it cannot.
 * @file: has what is stored at 0, and room for what is loaded.
 * @threads: how many there are.
 * @arrived: how often one has got to an area.
 * @failed: how many calls have failed.
 */
struct meeting {
	char *mem;
	enum meet how;
	bool by_call;
	int file;
	int threads, arrived, failed;
};

struct visitor {
	pthread_t thread;
	struct meeting *m;
	int nr;
};

static size_t place_to_meet(int visitor, int area)
{
	return (area * AREA + 5 + visitor * 121) * pgsz();
}

static bool visitor_stores(const struct meeting *m, int visitor, int area)
{
	return m->how == STORE || (m->how == EITHER && (visitor + area) % 2);
}

static void *visits(void *arg)
{
	struct visitor *v = arg;
	struct meeting *m = v->m;
	int i;

	for (i = 0; i < MEET_AREAS; i++) {
		volatile char *p = m->mem + place_to_meet(v->nr, i);
		bool store = visitor_stores(m, v->nr, i);
		ssize_t n = 1;

		__atomic_add_fetch(&m->arrived, 1, __ATOMIC_ACQ_REL);
		await(&m->arrived, (i + 1) * m->threads);
		if (m->by_call && store)
			n = pread(m->file, (char *)p, 1, 0);
		else if (m->by_call)
			n = pwrite(m->file, (char *)p, 1, 1 + v->nr);
		else if (store)
			*p = 'm';
		else
			(void)*p;
		if (n != 1)
			__atomic_add_fetch(&m->failed, 1, __ATOMIC_ACQ_REL);
	}
	return NULL;
}

static void meet(struct meeting *m)
{
	struct visitor v[MOST_THREADS];
	int i;

	m->arrived = 0;
	for (i = 0; i < m->threads; i++) {
		v[i] = (struct visitor){ .m = m, .nr = i };
		must(!pthread_create(&v[i].thread, NULL, visits, &v[i]));
	}
	for (i = 0; i < m->threads; i++)
		pthread_join(v[i].thread, NULL);
}

/* What the kernel says from now on */
static int kernel_log(void)
{
	int fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	must(fd >= 0 && lseek(fd, 0, SEEK_END) >= 0);
	return fd;
}

static bool log_says(int fd, const char *what)
{
	char line[2048];
	ssize_t n;

	while ((n = read(fd, line, sizeof(line) - 1)) >= 0 || errno == EPIPE) {
		line[n < 0 ? 0 : n] = 0;
		if (strstr(line, what)) {
			fprintf(stderr, "# the kernel says: %s", line);
			return true;
		}
	}
	return false;
}

FIXTURE(meeting) {
	struct meeting m;
	int log, full;
};

FIXTURE_VARIANT(meeting) {
	enum meet how;
	int threads;
};

FIXTURE_VARIANT_ADD(meeting, two_store) { STORE, 2 };
FIXTURE_VARIANT_ADD(meeting, four_store) { STORE, 4 };
FIXTURE_VARIANT_ADD(meeting, two_load) { LOAD, 2 };
FIXTURE_VARIANT_ADD(meeting, four_load) { LOAD, 4 };
FIXTURE_VARIANT_ADD(meeting, two_do_either) { EITHER, 2 };
FIXTURE_VARIANT_ADD(meeting, four_do_either) { EITHER, 4 };

FIXTURE_SETUP(meeting)
{
	const char *why = no_huge_pages();

	if (why)
		SKIP(return, "%s", why);
	self->m = (struct meeting){ .how = variant->how, .threads = variant->threads };
	self->m.file = syscall(SYS_memfd_create, "m", 0);
	ASSERT_EQ(1, pwrite(self->m.file, "m", 1, 0));
	self->log = kernel_log();
	self->full = huge_region(MEET_AREAS, 1);
}

FIXTURE_TEARDOWN(meeting)
{
}

/* What there was before shows where nobody has stored. */
static bool met_well(const struct meeting *m, uint32_t tag)
{
	int i, k;

	for (i = 0; i < MEET_AREAS; i++)
		for (k = 0; k < m->threads; k++) {
			size_t page = place_to_meet(k, i) / pgsz();
			const char *p = m->mem + page * pgsz();

			if (!is(p + pgsz(), 1, tag, page + 1))
				return false;
			if (*p == 'm' ? !visitor_stores(m, k, i) :
					visitor_stores(m, k, i) || !is(p, 1, tag, page))
				return false;
		}
	return true;
}

/*
 * Each finds what the other one is about to map, or has just mapped, as a whole.  An empty
 * region, then one that others share, and one that has all for itself; by turns they do it
 * themselves and let the kernel do it.
 */
TEST_F(meeting, nobody_fails)
{
	size_t n = MEET_AREAS * AREA;
	double end = now() + effort(6);
	struct meeting *m = &self->m;
	int round, by_pmds = 0;

	for (round = 0; round < 6 || now() < end; round++) {
		bool empty = m->how != LOAD && round / 2 % 2;
		int fd = empty ? region() : round / 4 % 2 ? cloned(self->full) : self->full;

		m->by_call = round % 2;
		m->mem = map_huge(fd, n);
		meet(m);
		ASSERT_EQ(0, m->failed)
			TH_LOG("round %d", round);
		ASSERT_TRUE(met_well(m, empty ? 0 : 1))
			TH_LOG("round %d", round);
		if (empty)
			ASSERT_TRUE(has_huge(fd, n, n));
		by_pmds += by_pmd(m->mem, n) / AREA;
		unmap(m->mem, n);
		if (fd != self->full) {
			close(fd);
		} else if (m->how != LOAD) {
			close(fd);
			self->full = huge_region(MEET_AREAS, 1);
		}
	}
	TH_LOG("%d rounds; of %d areas %d were mapped by PMDs", round, round * MEET_AREAS,
	       by_pmds);
	/* A store is tried again for ever then. */
	EXPECT_FALSE(log_says(self->log, "VM_FAULT_OOM"));
}

/* ---- references that pass by ---- */

enum passing { READV, SPLICE, WAKE };

struct passer {
	pthread_t thread;
	enum passing how;
	char *mem;
	int pipe[2];
	int stop;
	uint64_t turns;
};

/* Whatever happens to the mapping, there is no signal. */
static void pass_by(struct passer *p, char *mem)
{
	static char buf[1 << 12];
	struct iovec to = { buf, sizeof(buf) }, from = { mem, sizeof(buf) };

	switch (p->how) {
	case READV:
		process_vm_readv(getpid(), &to, 1, &from, 1, 0);
		break;
	case SPLICE:
		if (vmsplice(p->pipe[1], &from, 1, 0) > 0)
			must(drain(p->pipe[0], buf, sizeof(buf)));
		break;
	case WAKE:
		syscall(SYS_futex, mem, FUTEX_WAKE, 1, NULL, NULL, 0);
		break;
	}
	__atomic_add_fetch(&p->turns, 1, __ATOMIC_ACQ_REL);
}

static void *passes_by(void *arg)
{
	struct passer *p = arg;

	while (!get(&p->stop))
		pass_by(p, p->mem);
	return NULL;
}

FIXTURE(passing) {
	int fd;
	char *mem;
	struct passer p;
};

FIXTURE_VARIANT(passing) {
	enum passing how;
};

FIXTURE_VARIANT_ADD(passing, process_vm_readv) { READV };
FIXTURE_VARIANT_ADD(passing, vmsplice) { SPLICE };
FIXTURE_VARIANT_ADD(passing, futex) { WAKE };

FIXTURE_SETUP(passing)
{
	const char *why = no_areas(3);

	if (why)
		SKIP(return, "%s", why);
	self->fd = huge_region(1, 1);
	self->mem = map_huge(self->fd, AREA);
	memset(&self->p, 0, sizeof(self->p));
	self->p.how = variant->how;
	self->p.mem = self->mem + 77 * pgsz();
	ASSERT_EQ(0, pipe(self->p.pipe));
}

FIXTURE_TEARDOWN(passing)
{
}

/* Somebody looks at one page all the time: no reason to copy an area, but now and then. */
TEST_F(passing, most_clones_copy_nothing)
{
	int round, copied = 0, rounds = 0;
	double end = now() + effort(12), most = 0;

	must(!pthread_create(&self->p.thread, NULL, passes_by, &self->p));
	for (round = 0; round < 20 || (now() < end && round < 400); round++) {
		uint64_t turns = __atomic_load_n(&self->p.turns, __ATOMIC_ACQUIRE), mine;
		double took;
		int clone;

		/* All of it is granted, and the other one is under way. */
		must(!poke(self->mem + 5 * pgsz(), 1));
		if (info(self->fd).pages_exclusive != AREA)
			continue;
		await_count(&self->p.turns, turns + 2);
		took = now();
		clone = cloned(self->fd);
		took = now() - took;
		most = took > most ? took : most;
		mine = info(clone).pages_exclusive;
		/* But the page that is looked at: a futex call has it written after a clone. */
		EXPECT_TRUE(mine <= 1 || mine >= AREA - 1)
			TH_LOG("%llu of its pages are its own", (unsigned long long)mine);
		copied += mine > 1;
		rounds++;
		close(clone);
	}
	put(&self->p.stop, 1);
	pthread_join(self->p.thread, NULL);
	TH_LOG("of %d clones, of %d, %d copied all; the longest took %.0f us", rounds, round,
	       copied, most * 1e6);
	EXPECT_LT(rounds / 2, rounds);
	/* On a busy host, whoever looks may be stopped while it does: 56 of 400 were seen. */
	EXPECT_GE(rounds / 4, copied);
	EXPECT_TRUE(is(self->mem + 6 * pgsz(), AREA - 6, 1, 6));
}

/* ---- areas of which some pages are granted, and some are in use ---- */

/*
 * A clone takes grants back eight leaves at a time.  Three leaves come before the areas,
 * so that it stops in the middle of each.
 */
enum { BEFORE = 3 * 64, PARTS = 4, PART_FDS = 5 };

#define PART_PAGES ((1 + PARTS) * AREA)

/* All areas but the first are folios, each with a page that is not of the folio. */
static int region_of_parts(uint32_t tag)
{
	int fd = region(), i, other;
	char *mem = map_huge(fd, PART_PAGES);

	fill(mem + AREA * pgsz(), PARTS * AREA, tag, AREA);
	must(!madvise(mem, AREA * pgsz(), MADV_NOHUGEPAGE));
	fill(mem, BEFORE, tag, 0);
	must(has_huge(fd, BEFORE + PARTS * AREA, PARTS * AREA));
	for (i = 1; i <= PARTS; i++)
		must(!do_discard(fd, (i * AREA + 100 * i) * pgsz(), pgsz()));
	/* Split instead of punched */
	other = cloned(fd);
	for (i = 1; i <= PARTS; i++) {
		pg_fill(mem + (i * AREA + 100 * i) * pgsz(), tag, i * AREA + 100 * i);
		if (i % 2)
			pg_fill(mem + (i * AREA + 7) * pgsz(), tag, i * AREA + 7);
	}
	unmap(mem, PART_PAGES);
	close(other);
	must(has_huge(fd, BEFORE + PARTS * AREA, PARTS * AREA - PARTS - (PARTS + 1) / 2));
	return fd;
}

static bool parts_are(int fd, uint32_t tag)
{
	char *mem = map_well(fd, PART_PAGES, PROT_READ);
	bool ok = is(mem, BEFORE, tag, 0) &&
		  is(mem + AREA * pgsz(), PARTS * AREA, tag, AREA);

	unmap(mem, PART_PAGES);
	return ok;
}

/**
 * struct holder - a thread that has one page in use at a time
 * @thread: it.
 * @mem: maps the region.
 * @pipe: keeps the page.
 * @in_pipe: whether there is one.
 * @begin: the number of the turn that may begin.
 * @held: the number of the last one in which it got hold of a page.
 * @delay: how long it takes to begin, in microseconds.
 * @page: which one.
 */
struct holder {
	pthread_t thread;
	char *mem;
	int pipe[2];
	bool in_pipe;
	int begin, held;
	double delay;
	size_t page;
};

enum { HOLD_NO_MORE = 1 << 30 };

static void let_go_of_page(struct holder *h)
{
	char buf[pgsz()];

	if (h->in_pipe)
		must(drain(h->pipe[0], buf, pgsz()));
	h->in_pipe = false;
}

static void *holds_pages(void *arg)
{
	struct holder *h = arg;
	int turn;

	for (turn = 1; ; turn++) {
		struct iovec iov = { .iov_len = pgsz() };
		double start;

		await(&h->begin, turn);
		if (get(&h->begin) == HOLD_NO_MORE)
			return NULL;
		start = now();
		while (now() < start + h->delay / 1e6)
			;
		iov.iov_base = h->mem + h->page * pgsz();
		h->in_pipe = vmsplice(h->pipe[1], &iov, 1, 0) == (ssize_t)pgsz();
		put(&h->held, turn);
	}
}

/* Whoever wakes by a page looks for the region that it was granted to. */
static void wake_everywhere(int fd)
{
	char *mem = map_well(fd, PART_PAGES, PROT_READ);
	size_t i;

	for (i = 0; i < PART_PAGES; i += 32) {
		volatile char c = mem[i * pgsz()];

		(void)c;
		syscall(SYS_futex, mem + i * pgsz(), FUTEX_WAKE, 1, NULL, NULL, 0);
	}
	unmap(mem, PART_PAGES);
}

FIXTURE(parts) {
	struct holder h;
	long held;
};

FIXTURE_VARIANT(parts) {
	bool kept;	/* what is in use stays so until the region is gone */
};

FIXTURE_VARIANT_ADD(parts, released) { .kept = false };
FIXTURE_VARIANT_ADD(parts, kept) { .kept = true };

FIXTURE_SETUP(parts)
{
	const char *why = no_huge_pages();

	if (why)
		SKIP(return, "%s", why);
	rng_init();
	self->held = settled();
	memset(&self->h, 0, sizeof(self->h));
	ASSERT_EQ(0, pipe(self->h.pipe));
	must(!pthread_create(&self->h.thread, NULL, holds_pages, &self->h));
}

FIXTURE_TEARDOWN(parts)
{
}

/* Make a region out of @fd, or out of @twin with something of @fd. */
static int derive(int fd, int twin, unsigned int how)
{
	static const size_t leaf[] = { 0, 1, 3, 5, 6, 7 };
	struct cowmem_merge m = { .flags = 0 };
	int fds[2] = { fd, twin }, to;
	size_t at, n;

	switch (how) {
	case 0:
		return cloned(fd);
	case 1:
		must(!do_merge(&m, fds, 2));
		return cloned(twin);
	case 2:
		to = do_clone(fd, 0, 0, PART_PAGES * pgsz());
		break;
	default:
		/* Leaves before those that are in use, or these */
		to = cloned(twin);
		at = (1 + below(PARTS)) * AREA + leaf[below(ARRAY_SIZE(leaf))] * 64;
		n = how == 3 ? 64 : 10 + below(100);
		must(!do_copy(to, fd, at, at, at + n > PART_PAGES ? PART_PAGES - at : n));
	}
	must(to >= 0);
	return to;
}

/* So many mappings make each step of a clone take its time. */
enum { ALIASES = 100, ATTEMPTS = 40 };

/*
 * Get at pages of @fd while somebody waits for one, which comes after those of its folio
 * that have just lost their grants.  Returns what comes out of it.
 */
static int derive_in_use(int fd, int twin, struct holder *h, int how, double *took)
{
	int turn = h->held + 1, got, k;
	double start;

	let_go_of_page(h);
	/* All of it is granted, as far as nobody shares it, and not mapped. */
	for (k = 0; k < BEFORE; k += 64)
		put_page(fd, k, 1);
	for (k = 1; k <= PARTS; k++)
		put_page(fd, k * AREA + 200, 1);
	must(!madvise(h->mem, PART_PAGES * pgsz(), MADV_DONTNEED));
	h->page = (1 + below(PARTS)) * AREA + 5 * 64 + below(3 * 64);
	h->delay = below(1 + *took);
	put(&h->begin, turn);
	start = now();
	got = derive(fd, twin, how);
	if (!how)
		*took = (now() - start) * 1e6;
	await(&h->held, turn);
	return got;
}

/* Of a folio that is in use, a clone copies all that there is, or nothing. */
static bool all_or_none(int clone, size_t page)
{
	uint64_t mine = info(clone).pages_exclusive, all = AREA - 1 - page / AREA % 2;

	if (!mine || mine == 1 || mine == all)
		return true;
	fprintf(stderr, "# %llu of %llu pages were copied\n", (unsigned long long)mine,
		(unsigned long long)all);
	return false;
}

/* Clones, and whatever else gets at pages of @fd.  Returns whether those are right. */
static bool derive_all(int fd, int twin, int *got, struct holder *h, double *took)
{
	bool ok;
	int i;

	for (i = 1; ; i++) {
		got[0] = derive_in_use(fd, twin, h, 0, took);
		ok = all_or_none(got[0], h->page);
		if (!ok || i == ATTEMPTS)
			break;
		close(got[0]);
	}
	/* If that is wrong, nothing is to mend it. */
	for (i = 1; i < PART_FDS; i++)
		got[i] = ok ? derive_in_use(fd, twin, h, below(5), took) : cloned(got[0]);
	return ok && parts_are(fd, 1);
}

/*
 * Regions go in any order, and with them what their pages were granted to: what is left
 * knows nothing of it.
 */
TEST_F(parts, nothing_is_left_of_their_holders)
{
	double end = now() + effort(20), took = 1000;
	struct holder *h = &self->h;
	int round, i;

	for (round = 0; round < 1 || now() < end; round++) {
		int got[PART_FDS], fd = region_of_parts(1), twin = region_of_parts(1), first;
		char *alias[ALIASES];

		h->mem = map_well(fd, PART_PAGES, PROT_READ | PROT_WRITE);
		for (i = 0; i < ALIASES; i++)
			alias[i] = map_ro(fd, PART_PAGES);
		EXPECT_TRUE(derive_all(fd, twin, got, h, &took));
		for (i = 0; i < ALIASES; i++)
			unmap(alias[i], PART_PAGES);
		if (!variant->kept)
			let_go_of_page(h);
		unmap(h->mem, PART_PAGES);
		close(fd);
		close(twin);
		/* Inodes go after a grace period. */
		usleep(50000);
		first = below(PART_FDS);
		for (i = 0; i < PART_FDS; i++)
			wake_everywhere(got[(first + i) % PART_FDS]);
		for (i = 0; i < PART_FDS; i++) {
			int one = got[(first + i) % PART_FDS];

			ASSERT_TRUE(parts_are(one, 1))
				TH_LOG("round %d", round);
			put_page(one, AREA + 10, 2);
			EXPECT_TRUE(fd_is(one, AREA + 10, 1, 2));
			close(one);
		}
		let_go_of_page(h);
	}
	put(&h->begin, HOLD_NO_MORE);
	pthread_join(h->thread, NULL);
	TH_LOG("%d rounds; a clone took %.0f us", round, took);
	EXPECT_TRUE(held_comes_down_to(self->held + 64));
}

/* ---- folios that are used up ---- */

/* Whatever goes, a folio and the copies of its pages are twice what it was, at most. */
TEST_F(huge, held_while_pages_are_split_off)
{
	long kib = AREA * pgsz() / 1024, before = settled() - PAGES * pgsz() / 1024;
	enum { SPLITS = 510, STRIDE = 101 };
	uint32_t tag[AREA];
	int i, k;

	ASSERT_EQ(0, do_discard(self->fd, AREA * pgsz(), (PAGES - AREA) * pgsz()));
	ASSERT_TRUE(held_comes_down_to(before + kib + 256));
	for (i = 0; i < AREA; i++)
		tag[i] = 1;
	for (i = 0; i < SPLITS; i++) {
		uint64_t page = i * STRIDE % AREA;
		int clone = cloned(self->fd);

		tag[page] = 2 + i;
		if (i % 2)
			put_page(self->fd, page, tag[page]);
		else
			pg_fill(self->mem + page * pgsz(), tag[page], page);
		if (i % 64 == 63)
			EXPECT_TRUE(fd_is(clone, page, 1, 1));
		close(clone);
		if (i % 64 == 63) {
			for (k = 0; k < AREA; k++)
				ASSERT_TRUE(pg_is(self->mem + k * pgsz(), tag[k], k));
			EXPECT_EQ(AREA, info(self->fd).pages_populated);
			EXPECT_GE(before + 2 * kib + 256, settled());
		}
	}
	EXPECT_TRUE(has_huge(self->fd, AREA, AREA - SPLITS));
	/* And what is written of what is left goes where it is. */
	for (k = 0; k < AREA; k++) {
		ASSERT_TRUE(fd_is(self->fd, k, 1, tag[k]));
		pg_fill(self->mem + k * pgsz(), 3, k);
	}
	EXPECT_GE(before + 2 * kib + 256, settled());
	EXPECT_TRUE(fd_is(self->fd, 0, AREA, 3));
	unmap(self->mem, PAGES);
	close(self->fd);
	EXPECT_TRUE(held_comes_down_to(before));
}

/* ---- writers whose mapping changes under them ---- */

struct fiddler {
	pthread_t thread;
	int fd, stop;
	char *mem;
};

static void bump(struct fiddler *f)
{
	*(volatile char *)(f->mem + 9 * pgsz()) += 1;
}

static void *toggles_protection(void *arg)
{
	struct fiddler *f = arg;

	while (!get(&f->stop)) {
		bump(f);
		mprotect(f->mem, AREA * pgsz(), PROT_READ);
		mprotect(f->mem, AREA * pgsz(), PROT_READ | PROT_WRITE);
		bump(f);
		mprotect(f->mem, AREA * pgsz(), PROT_NONE);
		mprotect(f->mem, AREA * pgsz(), PROT_READ | PROT_WRITE);
	}
	return NULL;
}

static void *splits_mapping(void *arg)
{
	struct fiddler *f = arg;

	while (!get(&f->stop)) {
		bump(f);
		mprotect(f->mem + 100 * pgsz(), pgsz(), PROT_READ);
		bump(f);
		mprotect(f->mem + 100 * pgsz(), pgsz(), PROT_READ | PROT_WRITE);
		bump(f);
		munmap(f->mem + 300 * pgsz(), pgsz());
		bump(f);
		mmap(f->mem + 300 * pgsz(), pgsz(), PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_FIXED, f->fd, 300 * pgsz());
	}
	return NULL;
}

static void *forks(void *arg)
{
	struct fiddler *f = arg;

	while (!get(&f->stop)) {
		pid_t pid = fork();

		must(pid >= 0);
		if (!pid) {
			bump(f);
			_exit(0);
		}
		bump(f);
		reap(pid);
	}
	return NULL;
}

static void *zaps(void *arg)
{
	struct fiddler *f = arg;

	while (!get(&f->stop)) {
		bump(f);
		madvise(f->mem, AREA * pgsz(), MADV_DONTNEED);
	}
	return NULL;
}

static void *maps_anew(void *arg)
{
	struct fiddler *f = arg;

	while (!get(&f->stop)) {
		bump(f);
		must(mmap(f->mem, AREA * pgsz(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
			  f->fd, 0) == f->mem);
	}
	return NULL;
}

FIXTURE(stray) {
	struct fiddler f;
};

FIXTURE_VARIANT(stray) {
	void *(*thread)(void *arg);
};

FIXTURE_VARIANT_ADD(stray, mprotect) { .thread = toggles_protection };
FIXTURE_VARIANT_ADD(stray, split_vma) { .thread = splits_mapping };
FIXTURE_VARIANT_ADD(stray, fork) { .thread = forks };
FIXTURE_VARIANT_ADD(stray, dontneed) { .thread = zaps };
FIXTURE_VARIANT_ADD(stray, mmap) { .thread = maps_anew };

FIXTURE_SETUP(stray)
{
	const char *why = no_huge_pages();

	if (why)
		SKIP(return, "%s", why);
}

FIXTURE_TEARDOWN(stray)
{
}

TEST_F(stray, clone_stays)
{
	int i, k, rounds = effort(60), changed = 0, distinct = 0;
	struct fiddler *f = &self->f;
	char first, later, last = 0;

	for (i = 0; i < rounds; i++) {
		f->fd = huge_region(1, 0);
		f->mem = map_huge(f->fd, AREA);
		f->stop = 0;
		must(!touch(f->mem, true));
		ASSERT_TRUE(has_huge(f->fd, AREA, AREA));
		ASSERT_EQ(AREA, by_pmd(f->mem, AREA));
		must(!pthread_create(&f->thread, NULL, variant->thread, f));
		for (k = 0; k < 4; k++) {
			int clone;

			usleep(100 + i * 13 % 200);
			clone = cloned(f->fd);
			ASSERT_EQ(1, pread(clone, &first, 1, 9 * pgsz()));
			usleep(200);
			ASSERT_EQ(1, pread(clone, &later, 1, 9 * pgsz()));
			changed += first != later;
			distinct += first != last;
			last = first;
			close(clone);
		}
		put(&f->stop, 1);
		pthread_join(f->thread, NULL);
		unmap(f->mem, AREA);
		close(f->fd);
	}
	EXPECT_EQ(0, changed);
	/* The writer did write between the clones. */
	EXPECT_LT(1, distinct);
}

/* ---- whatever is done, in whatever order ---- */

enum { SUBJECTS = 4, MOST_AREAS = 8 };

/* A region beside an array of bytes that holds what it should. */
struct subject {
	bool used, snapshot;
	int fd;
	char *want;
	char *mem;		/* maps @pages from @first on */
	uint64_t first, pages;
};

static struct subject subjects[SUBJECTS];
static uint64_t all_pages;	/* of each of them */
static char *scratch;
static int pins[2];
static uint64_t pinned;		/* bytes in there */
static uint64_t seen_huge, seen_by_pmd;
static char done[128];

#define SAY(...) snprintf(done, sizeof(done), __VA_ARGS__)

static bool wrong(const struct subject *s, const char *how, const char *got, uint64_t at,
		  uint64_t n)
{
	uint64_t i;

	for (i = 0; i < n && got[i] == s->want[at + i]; i++)
		;
	fprintf(stderr, "# after %s: %s of region %d: page %llu byte %#llx is %02x, not %02x\n",
		done, how, (int)(s - subjects), (unsigned long long)((at + i) / pgsz()),
		(unsigned long long)((at + i) % pgsz()), i < n ? got[i] & 255 : 0,
		i < n ? s->want[at + i] & 255 : 0);
	return false;
}

/* Is @n bytes at @at what they should be, by a call and in the mapping? */
static bool right(const struct subject *s, uint64_t at, uint64_t n)
{
	uint64_t from = s->first * pgsz(), to = from + s->pages * pgsz();

	if (pread(s->fd, scratch, n, at) != (ssize_t)n ||
	    memcmp(scratch, s->want + at, n))
		return wrong(s, "read()", scratch, at, n);
	if (from < at)
		from = at;
	if (to > at + n)
		to = at + n;
	if (!s->mem || from >= to)
		return true;
	at = from - s->first * pgsz();
	if (memcmp(s->mem + at, s->want + from, to - from))
		return wrong(s, "a mapping", s->mem + at, from, to - from);
	return true;
}

static bool all_right(void)
{
	int i;

	for (i = 0; i < SUBJECTS; i++)
		if (subjects[i].used && !right(&subjects[i], 0, all_pages * pgsz()))
			return false;
	return true;
}

/* A range of pages: often areas, or what starts or ends with one, or any few. */
static void any_pages(uint64_t *first, uint64_t *n)
{
	*first = below(all_pages);
	*n = 1 + below(below(3) ? 5 : AREA + 100);
	if (below(3) == 0)
		*first -= *first % AREA;
	if (below(4) == 0)
		*n = AREA * (1 + below(2));
	if (*n > all_pages - *first)
		*n = all_pages - *first;
}

static struct subject *any_subject(bool writable)
{
	unsigned int i = below(SUBJECTS), n;

	for (n = 0; n < SUBJECTS; n++, i = (i + 1) % SUBJECTS)
		if (subjects[i].used && !(writable && subjects[i].snapshot))
			return &subjects[i];
	return NULL;
}

static void forget_mapping(struct subject *s)
{
	if (s->mem)
		unmap(s->mem, s->pages);
	s->mem = NULL;
	s->pages = 0;
}

/* Where PMDs fit, or a few pages off; all of it or a part, with advice or without. */
static void remap(struct subject *s)
{
	static const int advice[] = { MADV_HUGEPAGE, MADV_HUGEPAGE, MADV_NOHUGEPAGE, MADV_NORMAL };
	int prot = PROT_READ | (s->snapshot ? 0 : PROT_WRITE);

	forget_mapping(s);
	s->first = 0;
	s->pages = all_pages;
	if (below(3) == 0)
		any_pages(&s->first, &s->pages);
	s->mem = map_off(s->fd, s->pages, prot, MAP_SHARED, s->first,
			 below(3) ? 0 : below(AREA));
	must(!madvise(s->mem, s->pages * pgsz(), advice[below(ARRAY_SIZE(advice))]));
	SAY("mapping %llu pages of %d from %llu on", (unsigned long long)s->pages,
	    (int)(s - subjects), (unsigned long long)s->first);
}

static void put_subject(struct subject *s, int fd, const char *want, bool is_snapshot)
{
	if (s->used) {
		forget_mapping(s);
		close(s->fd);
	}
	s->used = true;
	s->snapshot = is_snapshot;
	s->fd = fd;
	if (want)
		memcpy(s->want, want, all_pages * pgsz());
	else
		memset(s->want, 0, all_pages * pgsz());
	remap(s);
}

static void new_subject(struct subject *s)
{
	int fd = region();

	must(!do_resize(fd, all_pages * pgsz()));
	if (below(3) == 0 && !no_huge_pages())
		close(file_of(fd, COWMEM_FILE_HUGE));
	put_subject(s, fd, NULL, false);
}

/* Something to write, to the array; often what others write. */
static void any_bytes(char *mem, uint64_t n)
{
	uint64_t i, x;

	memset(mem, 1 + below(4), n);
	for (i = below(64); i + 8 <= n; i += 1000) {
		x = rng();
		memcpy(mem + i, &x, 8);
	}
}

static bool op_write(void)
{
	struct subject *s = any_subject(true);
	uint64_t at, n;

	any_pages(&at, &n);
	at *= pgsz();
	n *= pgsz();
	if (below(2) && n > 300) {
		at += 100;
		n -= below(200) + 100;
	}
	SAY("writing %#llx bytes to %d at %#llx", (unsigned long long)n, (int)(s - subjects),
	    (unsigned long long)at);
	any_bytes(s->want + at, n);
	if (pwrite(s->fd, s->want + at, n, at) != (ssize_t)n)
		return wrong(s, "short write()", s->want + at, at, n);
	return right(s, at, n);
}

static bool op_store(void)
{
	struct subject *s = any_subject(true);
	uint64_t at, n;

	if (!s->mem)
		return true;
	any_pages(&at, &n);
	at %= s->pages;
	if (n > s->pages - at)
		n = s->pages - at;
	SAY("storing %llu pages to %d at %llu", (unsigned long long)n, (int)(s - subjects),
	    (unsigned long long)(s->first + at));
	n *= pgsz();
	at *= pgsz();
	any_bytes(s->want + s->first * pgsz() + at, n);
	memcpy(s->mem + at, s->want + s->first * pgsz() + at, n);
	return right(s, s->first * pgsz() + at, n);
}

static bool op_clone(void)
{
	struct subject *s = any_subject(false), *to = &subjects[below(SUBJECTS)];
	bool snap = below(3) == 0;

	if (to == s)
		return true;
	/* One that can be written has to stay. */
	if (snap && to == any_subject(true) && s->snapshot)
		snap = false;
	put_subject(to, snap ? snapshot(s->fd) : cloned(s->fd), s->want, snap);
	SAY("%s of %d to %d", snap ? "snapshot" : "clone", (int)(s - subjects),
	    (int)(to - subjects));
	return true;
}

static bool op_new(void)
{
	new_subject(&subjects[below(SUBJECTS)]);
	return true;
}

static bool op_drop(void)
{
	struct subject *s = any_subject(false), *other = any_subject(true);

	/* One that can be written has to stay. */
	if (s == other)
		return true;
	SAY("dropping %d", (int)(s - subjects));
	forget_mapping(s);
	close(s->fd);
	s->used = false;
	return true;
}

static bool op_restore(void)
{
	struct subject *s = any_subject(true), *from = any_subject(false);
	bool keep = below(2), part = below(2);
	uint64_t at = 0, n = 0;

	if (part)
		any_pages(&at, &n);
	SAY("restoring %d from %d%s: %llu pages from %llu on", (int)(s - subjects),
	    (int)(from - subjects), keep ? ", keep" : "", (unsigned long long)n,
	    (unsigned long long)at);
	if (do_restore_pages(s->fd, from->fd, keep ? COWMEM_RESTORE_KEEP : 0, at, n))
		return wrong(s, strerror(errno), s->want, 0, 0);
	n = n ? n : all_pages;
	memmove(s->want + at * pgsz(), from->want + at * pgsz(), n * pgsz());
	return right(s, at * pgsz(), n * pgsz());
}

static bool op_discard(void)
{
	struct subject *s = any_subject(true);
	uint64_t at, n;

	any_pages(&at, &n);
	at *= pgsz();
	n *= pgsz();
	if (!below(3)) {
		at += 100;
		n -= 200;
	}
	SAY("discarding %#llx bytes of %d at %#llx", (unsigned long long)n, (int)(s - subjects),
	    (unsigned long long)at);
	if (do_discard(s->fd, at, n))
		return wrong(s, strerror(errno), s->want, 0, 0);
	memset(s->want + at, 0, n);
	return right(s, at, n);
}

/* The size goes down and up again. */
static bool op_resize(void)
{
	struct subject *s = any_subject(true);
	uint64_t at = below(all_pages * pgsz());

	if (below(2))
		at -= at % pgsz();
	SAY("shrinking %d to %#llx and back", (int)(s - subjects), (unsigned long long)at);
	if (do_resize(s->fd, at) || do_resize(s->fd, all_pages * pgsz()))
		return wrong(s, strerror(errno), s->want, 0, 0);
	memset(s->want + at, 0, all_pages * pgsz() - at);
	return right(s, 0, all_pages * pgsz());
}

static bool op_copy(void)
{
	struct subject *s = any_subject(true), *from = any_subject(false);
	uint64_t src, dst, n;

	any_pages(&src, &n);
	dst = below(2) ? src : below(all_pages);
	if (below(3) == 0)
		dst -= dst % AREA;
	if (n > all_pages - dst)
		n = all_pages - dst;
	SAY("copying %llu pages of %d at %llu to %d at %llu", (unsigned long long)n,
	    (int)(from - subjects), (unsigned long long)src, (int)(s - subjects),
	    (unsigned long long)dst);
	if (do_copy(s->fd, from->fd, dst, src, n))
		return wrong(s, strerror(errno), s->want, 0, 0);
	memmove(s->want + dst * pgsz(), from->want + src * pgsz(), n * pgsz());
	return right(s, dst * pgsz(), n * pgsz());
}

static bool op_merge(void)
{
	struct subject *s = any_subject(true), *other = any_subject(true);
	struct cowmem_merge m = { .flags = 0 };
	int fds[2] = { s->fd, other->fd };

	SAY("merging %d and %d", (int)(s - subjects), (int)(other - subjects));
	if (do_merge(&m, fds, s == other ? 1 : 2))
		return wrong(s, strerror(errno), s->want, 0, 0);
	return right(s, 0, all_pages * pgsz()) && right(other, 0, all_pages * pgsz());
}

static bool op_map(void)
{
	struct subject *s = any_subject(false);

	remap(s);
	return right(s, s->first * pgsz(), s->pages * pgsz());
}

/* Only one end of the mapping stays. */
static bool op_unmap(void)
{
	struct subject *s = any_subject(false);
	uint64_t n;

	if (s->pages < 2)
		return true;
	n = 1 + below(s->pages - 1);
	SAY("unmapping %llu pages of %d", (unsigned long long)n, (int)(s - subjects));
	if (below(2)) {
		unmap(s->mem, n);
		s->mem += n * pgsz();
		s->first += n;
	} else {
		unmap(s->mem + (s->pages - n) * pgsz(), n);
	}
	s->pages -= n;
	return right(s, s->first * pgsz(), s->pages * pgsz());
}

static bool op_advise(void)
{
	static const int advice[] = {
		MADV_HUGEPAGE, MADV_NOHUGEPAGE, MADV_DONTNEED, MADV_POPULATE_READ,
		MADV_POPULATE_WRITE,
	};
	struct subject *s = any_subject(false);
	int a = advice[below(ARRAY_SIZE(advice))];
	uint64_t at, n;

	if (!s->mem || (a == MADV_POPULATE_WRITE && s->snapshot))
		return true;
	any_pages(&at, &n);
	at %= s->pages;
	if (n > s->pages - at)
		n = s->pages - at;
	SAY("madvise %d of %llu pages of %d", a, (unsigned long long)n, (int)(s - subjects));
	if (madvise(s->mem + at * pgsz(), n * pgsz(), a))
		return wrong(s, strerror(errno), s->want, 0, 0);
	return right(s, (s->first + at) * pgsz(), n * pgsz());
}

static bool op_protect(void)
{
	struct subject *s = any_subject(true);
	uint64_t at, n;

	if (!s->mem)
		return true;
	any_pages(&at, &n);
	at %= s->pages;
	if (n > s->pages - at)
		n = s->pages - at;
	SAY("mprotect of %llu pages of %d", (unsigned long long)n, (int)(s - subjects));
	must(!mprotect(s->mem + at * pgsz(), n * pgsz(), below(2) ? PROT_READ : PROT_NONE));
	must(!mprotect(s->mem + at * pgsz(), n * pgsz(), PROT_READ | PROT_WRITE));
	return right(s, (s->first + at) * pgsz(), n * pgsz());
}

/* Somebody refers to pages for a while. */
static bool op_pin(void)
{
	struct subject *s = any_subject(false);
	struct iovec iov = { .iov_len = pgsz() };

	if (pinned) {
		SAY("letting go of pages in a pipe");
		must(drain(pins[0], scratch, pinned));
		pinned = 0;
		return true;
	}
	if (!s->mem)
		return true;
	SAY("pages of %d in a pipe", (int)(s - subjects));
	iov.iov_base = s->mem + below(s->pages) * pgsz();
	must(vmsplice(pins[1], &iov, 1, 0) == (ssize_t)pgsz());
	pinned = pgsz();
	return true;
}

static bool op_fork(void)
{
	struct subject *s = any_subject(true);
	uint64_t page;
	int status;

	if (!s->mem)
		return true;
	page = below(s->pages);
	SAY("storing to page %llu of %d in a child", (unsigned long long)(s->first + page),
	    (int)(s - subjects));
	any_bytes(s->want + (s->first + page) * pgsz(), pgsz());
	status = in_child(
		memcpy(s->mem + page * pgsz(), s->want + (s->first + page) * pgsz(), pgsz());
		if (!right(s, s->first * pgsz(), s->pages * pgsz()))
			_exit(1);
	);
	return !status && right(s, (s->first + page) * pgsz(), pgsz());
}

/* Where SEEK_DATA says that there is none, there are zeroes. */
static bool op_seek(void)
{
	struct subject *s = any_subject(false);
	uint64_t size = all_pages * pgsz(), at = below(size);
	off_t to = lseek(s->fd, at, SEEK_DATA);

	SAY("seeking in %d from %#llx on", (int)(s - subjects), (unsigned long long)at);
	must(to >= 0 || errno == ENXIO);
	if (to < 0)
		to = size;
	for (; at < (uint64_t)to; at++)
		if (s->want[at])
			return wrong(s, "SEEK_DATA", s->want, 0, 0);
	return true;
}

static bool (*const random_ops_of_model[])(void) = {
	op_write, op_write, op_write, op_store, op_store, op_store, op_store, op_clone,
	op_clone, op_clone, op_new, op_drop, op_restore, op_restore, op_discard, op_discard,
	op_resize, op_copy, op_copy, op_merge, op_map, op_map, op_unmap, op_advise, op_advise,
	op_protect, op_pin, op_pin, op_fork, op_seek,
};

static void note_huge(void)
{
	struct subject *s = any_subject(false);

	seen_huge += info(s->fd).pages_huge;
	if (s->mem)
		seen_by_pmd += by_pmd(s->mem, s->pages);
}

TEST(random_operations)
{
	const char *why = no_huge_pages();
	/* Each takes the longer the larger an area is. */
	int i, n = random_ops(600 * 2 / AREA_MIB);

	/* Asked for where there is nothing huge, it tests the test. */
	if (why && !getenv("COWMEM_HUGE_ANYWAY"))
		SKIP(return, "%s", why);
	rng_init();
	/* The last area may lack something. */
	all_pages = (4 + below(MOST_AREAS - 3)) * AREA - (below(2) ? below(AREA) : 0);
	scratch = malloc(all_pages * pgsz());
	must(scratch && !pipe(pins));
	for (i = 0; i < SUBJECTS; i++) {
		subjects[i].want = malloc(all_pages * pgsz());
		must(subjects[i].want);
	}
	new_subject(&subjects[0]);
	/* Something is huge to begin with, whatever else comes. */
	forget_mapping(&subjects[0]);
	subjects[0].mem = map_huge(subjects[0].fd, all_pages);
	subjects[0].pages = all_pages;
	subjects[0].first = 0;
	fill(subjects[0].mem, AREA, 1, 0);
	fill(subjects[0].want, AREA, 1, 0);
	note_huge();
	for (i = 0; i < n; i++) {
		ASSERT_TRUE(random_ops_of_model[below(ARRAY_SIZE(random_ops_of_model))]())
			TH_LOG("operation %d of %d", i, n);
		/* Of what it was not about. */
		if (i % 16 == 15) {
			ASSERT_TRUE(all_right())
				TH_LOG("operation %d of %d", i, n);
			note_huge();
		}
	}
	EXPECT_TRUE(all_right());
	TH_LOG("%d operations on %llu pages; of regions that were looked at, %llu pages were huge, %llu were mapped by PMDs",
	       n, (unsigned long long)all_pages, (unsigned long long)seen_huge,
	       (unsigned long long)seen_by_pmd);
	if (!why) {
		EXPECT_LT(0, seen_huge);
		EXPECT_LT(0, seen_by_pmd);
	}
}

TEST_HARNESS_MAIN
