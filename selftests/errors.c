// SPDX-License-Identifier: GPL-2.0-only
/*
 * Promise: the UAPI is what its header says, to 64-bit and to 32-bit programs;
 * one cause, one errno; a call that fails changes nothing that a caller can
 * see.
 */
#include <stddef.h>
#include <sys/resource.h>

#include "../kselftest_harness.h"
#include "common.h"

#define PAGES 6
#define LEN (PAGES * pgsz())

/* ---- the binary interface ---- */

#define NUMBER(name, value)
#define IOCTL(name, number, type)
#define STRUCT(type, size, first) FIRST_##type = (first),
#define FIELD(type, field, kind, offset)
enum first_version {
#include "uapi_record.h"
};
#undef STRUCT
#undef FIELD

TEST(struct_layout)
{
#define STRUCT(type, size, first) EXPECT_EQ(size, sizeof(struct type));
#define FIELD(type, field, kind, offset) \
	EXPECT_EQ(offset, offsetof(struct type, field));
#include "uapi_record.h"
#undef STRUCT
#undef FIELD
#undef NUMBER
#undef IOCTL
}

TEST(numbers)
{
#define STRUCT(type, size, first)
#define FIELD(type, field, kind, offset)
#define NUMBER(name, value) EXPECT_EQ(value, name);
#define IOCTL(name, number, type) \
	EXPECT_EQ((number) | sizeof(struct type) << _IOC_SIZESHIFT, name);
#include "uapi_record.h"
#undef STRUCT
#undef FIELD
#undef NUMBER
#undef IOCTL
}

/* ---- what a failed call must leave alone ---- */

struct state {
	struct cowmem_info info;
	int fds;
};

static struct state state_of(int fd)
{
	struct state s = { .info = info(fd), .fds = count_fds() };

	return s;
}

static bool same_state(int fd, const struct state *was)
{
	struct state now = state_of(fd);

	if (now.fds != was->fds)
		fprintf(stderr, "# %d descriptors, not %d\n", now.fds, was->fds);
	if (memcmp(&now.info, &was->info, sizeof(now.info)))
		fprintf(stderr,
			"# INFO: size %llu seals %x pages %llu clones %llu, was %llu %x %llu %llu\n",
			(unsigned long long)now.info.size, now.info.seals,
			(unsigned long long)now.info.pages_populated,
			(unsigned long long)now.info.clones,
			(unsigned long long)was->info.size, was->info.seals,
			(unsigned long long)was->info.pages_populated,
			(unsigned long long)was->info.clones);
	return now.fds == was->fds &&
	       !memcmp(&now.info, &was->info, sizeof(now.info));
}

FIXTURE(ioctl) {
	int fd;
	int clone;		/* keeps half of the pages shared */
	char valid[256];	/* variant->valid with what is not constant */
	/* Where a valid call finds what it names, and leaves its answer. */
	int32_t fds[2], clones[2];
	struct cowmem_extent extents[PAGES];
	struct cowmem_merge_range ranges[2];
	struct cowmem_merge_entry table[1024];
	struct state was;
};

FIXTURE_VARIANT(ioctl) {
	unsigned int nr;
	size_t size;
	size_t least;		/* of its first published version */
	const char *valid;	/* a call that would change the region */
	int flags_at;
	int reserved_at;	/* or -1 */
	uint32_t known;		/* flags */
	bool writes;		/* needs FMODE_WRITE */
	bool reads;		/* needs FMODE_READ */
	bool silent;		/* does not write its struct back */
};

#define VALID(type, ...) \
	(const char *)&(const struct cowmem_##type){ __VA_ARGS__ }
FIXTURE_VARIANT_ADD(ioctl, info) {
	.nr = 0, .size = sizeof(struct cowmem_info), .least = FIRST_cowmem_info,
	.reserved_at = -1,
	.flags_at = offsetof(struct cowmem_info, flags),
	.valid = VALID(info, .flags = 0),
};
FIXTURE_VARIANT_ADD(ioctl, resize) {
	.nr = 1, .size = sizeof(struct cowmem_resize), .least = FIRST_cowmem_resize,
	.writes = true, .silent = true,
	.flags_at = offsetof(struct cowmem_resize, flags),
	.reserved_at = offsetof(struct cowmem_resize, reserved),
	.valid = VALID(resize, .size = 5000),
};
FIXTURE_VARIANT_ADD(ioctl, seal) {
	.nr = 2, .size = sizeof(struct cowmem_seal), .least = FIRST_cowmem_seal,
	.writes = true,
	.flags_at = offsetof(struct cowmem_seal, flags), .reserved_at = -1,
	.valid = VALID(seal, .seals = COWMEM_SEAL_GROW),
};
FIXTURE_VARIANT_ADD(ioctl, clone) {
	.nr = 3, .size = sizeof(struct cowmem_clone), .least = FIRST_cowmem_clone,
	.reserved_at = -1,
	.known = COWMEM_CLONE_SNAPSHOT | COWMEM_CLONE_EXPENDABLE, .reads = true,
	.flags_at = offsetof(struct cowmem_clone, flags),
	.valid = VALID(clone, .fd = -1),
};
FIXTURE_VARIANT_ADD(ioctl, discard) {
	.nr = 4, .size = sizeof(struct cowmem_discard), .least = FIRST_cowmem_discard,
	.writes = true, .silent = true,
	.flags_at = offsetof(struct cowmem_discard, flags),
	.reserved_at = offsetof(struct cowmem_discard, reserved),
	.valid = VALID(discard, .offset = 100),
};
FIXTURE_VARIANT_ADD(ioctl, restore) {
	.nr = 5, .size = sizeof(struct cowmem_restore), .least = FIRST_cowmem_restore,
	.writes = true,
	.flags_at = offsetof(struct cowmem_restore, flags), .reserved_at = -1,
	.known = COWMEM_RESTORE_KEEP | COWMEM_RESTORE_SIZE,
	.valid = VALID(restore, .fd = -1),
};
FIXTURE_VARIANT_ADD(ioctl, diff) {
	.nr = 6, .size = sizeof(struct cowmem_diff), .least = FIRST_cowmem_diff,
	.reads = true,
	.flags_at = offsetof(struct cowmem_diff, flags),
	.reserved_at = offsetof(struct cowmem_diff, reserved),
	.known = COWMEM_DIFF_CONTENT,
	.valid = VALID(diff, .fd = -1, .count = PAGES),
};
FIXTURE_VARIANT_ADD(ioctl, copy) {
	.nr = 7, .size = sizeof(struct cowmem_copy), .least = FIRST_cowmem_copy,
	.writes = true,
	.flags_at = offsetof(struct cowmem_copy, flags), .reserved_at = -1,
	.silent = true,
	.valid = VALID(copy, .fd = -1),
};
FIXTURE_VARIANT_ADD(ioctl, clone_many) {
	.nr = 8, .size = sizeof(struct cowmem_clone_many), .least = FIRST_cowmem_clone_many,
	.silent = true,
	.flags_at = offsetof(struct cowmem_clone_many, flags),
	.reserved_at = -1, .known = COWMEM_CLONE_SNAPSHOT | COWMEM_CLONE_EXPENDABLE,
	.valid = VALID(clone_many, .count = 2),
};
FIXTURE_VARIANT_ADD(ioctl, merge) {
	.nr = 9, .size = sizeof(struct cowmem_merge), .least = FIRST_cowmem_merge,
	.flags_at = offsetof(struct cowmem_merge, flags), .reserved_at = -1,
	.valid = VALID(merge, .count = 2, .entries = 1024),
};
FIXTURE_VARIANT_ADD(ioctl, file) {
	.nr = 10, .size = sizeof(struct cowmem_file), .least = FIRST_cowmem_file,
	.reserved_at = -1,
	.known = COWMEM_FILE_RDONLY | COWMEM_FILE_VIEW | COWMEM_FILE_HUGE, .reads = true,
	.flags_at = offsetof(struct cowmem_file, flags),
	.valid = VALID(file, .fd = -1),
};

/* A region, half of it shared with a clone, and a call that would succeed. */
static void start(FIXTURE_DATA(ioctl) *self, const char *valid, size_t size,
		  unsigned int nr)
{
	char *mem;

	self->fd = region_of(PAGES, 1);
	self->clone = cloned(self->fd);
	mem = map_rw(self->fd, PAGES);
	fill(mem, PAGES / 2, 2, 0);
	if (nr == 9)	/* Then it has something to merge. */
		fill(mem, 1, 1, 0);
	unmap(mem, PAGES);
	memcpy(self->valid, valid, size);
	self->fds[0] = self->fd;
	self->fds[1] = self->clone;
	switch (nr) {
	case 4:
		((struct cowmem_discard *)self->valid)->length = 2 * pgsz() + 808;
		break;
	case 5:
		((struct cowmem_restore *)self->valid)->fd = self->clone;
		break;
	case 6:
		((struct cowmem_diff *)self->valid)->fd = self->clone;
		((struct cowmem_diff *)self->valid)->extents =
			(uintptr_t)self->extents;
		break;
	case 7:
		((struct cowmem_copy *)self->valid)->fd = self->clone;
		((struct cowmem_copy *)self->valid)->length = LEN;
		break;
	case 8:
		((struct cowmem_clone_many *)self->valid)->fds =
			(uintptr_t)self->fds;
		((struct cowmem_clone_many *)self->valid)->clones =
			(uintptr_t)self->clones;
		break;
	case 9:
		memset(self->table, 0, sizeof(self->table));
		self->ranges[0].fd = self->fd;
		self->ranges[1].fd = self->clone;
		((struct cowmem_merge *)self->valid)->ranges =
			(uintptr_t)self->ranges;
		((struct cowmem_merge *)self->valid)->table =
			(uintptr_t)self->table;
		break;
	}
	self->was = state_of(self->fd);
}

FIXTURE_SETUP(ioctl)
{
	start(self, variant->valid, variant->size, variant->nr);
	ASSERT_EQ(PAGES / 2, self->was.info.pages_shared);
}

/* Every test below but the last two fails every call it makes. */
FIXTURE_TEARDOWN(ioctl)
{
	int first = variant->nr == 9;

	EXPECT_TRUE(same_state(self->fd, &self->was));
	EXPECT_TRUE(fd_is(self->fd, 0, first, 1));
	EXPECT_TRUE(fd_is(self->fd, first, PAGES / 2 - first, 2));
	EXPECT_TRUE(fd_is(self->fd, PAGES / 2, PAGES / 2, 1));
	EXPECT_TRUE(fd_is(self->clone, 0, PAGES, 1));
}

#define NR(size) _IOC(_IOC_READ | _IOC_WRITE, COWMEM_IOC_TYPE, variant->nr, size)

/* Expect one ioctl to fail with @err and to change nothing. */
#define EXPECT_ERR(err, file, cmd, arg) do {				\
	errno = 0;							\
	EXPECT_EQ(-1, ioctl(file, cmd, arg));				\
	EXPECT_EQ(err, errno);						\
	EXPECT_TRUE(same_state(self->fd, &self->was));			\
} while (0)

TEST_F(ioctl, short_struct)
{
	char buf[256] = {};
	size_t size;

	memcpy(buf, self->valid, variant->size);
	for (size = 0; size < variant->least; size++)
		EXPECT_ERR(EINVAL, self->fd, NR(size), buf);
}

/* A program that was built with the header of version 0.2.0. */
struct old_info {
	__u32 flags;
	__u32 seals;
	__u64 size;
	__u64 pages_populated;
	__u64 pages_exclusive;
	__u64 pages_shared;
	__u64 index_bytes;
	__u64 clones;
};

TEST(first_version_of_info)
{
	int fd = region_of(PAGES, 1), clone = cloned(fd);
	struct cowmem_info now;
	size_t size;

	ASSERT_EQ(5, pwrite(fd, "hello", 5, 0));
	now = info(fd);
	EXPECT_EQ(PAGES, now.pages_populated);
	EXPECT_EQ(1, now.clones);
	EXPECT_EQ(0xc038c300U, _IOWR(COWMEM_IOC_TYPE, 0, struct old_info));
	for (size = sizeof(struct old_info); size < sizeof(now); size++) {
		union {
			struct old_info info;
			char bytes[100];
		} u;
		size_t i;

		memset(&u, 0x5e, sizeof(u));
		u.info.flags = 0;
		ASSERT_EQ(0, ioctl(fd, _IOC(_IOC_READ | _IOC_WRITE,
					    COWMEM_IOC_TYPE, 0, size), &u))
			TH_LOG("size %zu: %s", size, strerror(errno));
		EXPECT_EQ(0, memcmp(&u, &now, size));
		for (i = size; i < sizeof(u); i++)
			EXPECT_EQ(0x5e, u.bytes[i]);
		/* What it knows of is checked, as ever. */
		memset(&u, 0, sizeof(u));
		u.info.flags = 1;
		EXPECT_EQ(-1, ioctl(fd, _IOC(_IOC_READ | _IOC_WRITE,
					     COWMEM_IOC_TYPE, 0, size), &u));
		EXPECT_EQ(EOPNOTSUPP, errno);
	}
	close(clone);
}

TEST_F(ioctl, long_struct_with_tail)
{
	static char buf[16384];
	size_t size, at;

	for (size = variant->size + 1; size < sizeof(buf);
	     size = size * 3 + 1) {
		for (at = variant->size; at < size; at = at * 2 + 5) {
			memset(buf, 0, sizeof(buf));
			memcpy(buf, self->valid, variant->size);
			buf[at] = 1;
			EXPECT_ERR(E2BIG, self->fd, NR(size), buf);
		}
		memset(buf, 0, sizeof(buf));
		memcpy(buf, self->valid, variant->size);
		buf[size - 1] = 1;
		EXPECT_ERR(E2BIG, self->fd, NR(size), buf);
	}
}

TEST_F(ioctl, unknown_command)
{
	unsigned int nr, size = variant->size;
	char buf[256] = {};

	memcpy(buf, self->valid, size);
	EXPECT_ERR(ENOTTY, self->fd, _IOC(_IOC_READ | _IOC_WRITE,
					  COWMEM_IOC_TYPE ^ 1, variant->nr,
					  size), buf);
	EXPECT_ERR(ENOTTY, self->fd, _IOC(_IOC_READ | _IOC_WRITE, 'T',
					  variant->nr, size), buf);
	EXPECT_ERR(ENOTTY, self->fd, _IOC(_IOC_READ, COWMEM_IOC_TYPE,
					  variant->nr, size), buf);
	EXPECT_ERR(ENOTTY, self->fd, _IOC(_IOC_WRITE, COWMEM_IOC_TYPE,
					  variant->nr, size), buf);
	EXPECT_ERR(ENOTTY, self->fd, _IOC(_IOC_NONE, COWMEM_IOC_TYPE,
					  variant->nr, size), buf);
	for (nr = 11; nr < 256; nr++)
		EXPECT_ERR(ENOTTY, self->fd, _IOC(_IOC_READ | _IOC_WRITE,
						  COWMEM_IOC_TYPE, nr, size),
			   buf);
	EXPECT_ERR(ENOTTY, self->fd, 0, buf);
	EXPECT_ERR(ENOTTY, self->fd, 0x5401 /* TCGETS */, buf);
}

TEST_F(ioctl, unknown_flags_and_reserved_bits)
{
	uint32_t bit, known = variant->known;
	char buf[256] = {};

	for (bit = 1; bit; bit <<= 1) {
		uint32_t flags = known | bit;

		if (bit & known)
			continue;
		memcpy(buf, self->valid, variant->size);
		memcpy(buf + variant->flags_at, &flags, sizeof(flags));
		EXPECT_ERR(EOPNOTSUPP, self->fd, NR(variant->size), buf);
	}
	for (bit = variant->reserved_at >= 0; bit; bit <<= 1) {
		memcpy(buf, self->valid, variant->size);
		memcpy(buf + variant->reserved_at, &bit, sizeof(bit));
		EXPECT_ERR(EINVAL, self->fd, NR(variant->size), buf);
	}
}

TEST_F(ioctl, wrong_descriptor)
{
	int ro = open(COWMEM_DEV, O_RDONLY), wo = open(COWMEM_DEV, O_WRONLY);
	int path = open(COWMEM_DEV, O_PATH), file = open("/proc/self/exe", 0);
	int closed = dup(ro), ret;
	char buf[256] = {};

	ASSERT_TRUE(ro >= 0 && wo >= 0 && path >= 0 && file >= 0);
	close(closed);
	self->was.fds = count_fds();
	memcpy(buf, self->valid, variant->size);
	EXPECT_ERR(EBADF, -1, NR(variant->size), buf);
	EXPECT_ERR(EBADF, closed, NR(variant->size), buf);
	EXPECT_ERR(EBADF, path, NR(variant->size), buf);
	EXPECT_ERR(ENOTTY, file, NR(variant->size), buf);
	if (variant->writes)
		EXPECT_ERR(EBADF, ro, NR(variant->size), buf);
	if (variant->reads)
		EXPECT_ERR(EBADF, wo, NR(variant->size), buf);
	if (!variant->nr) {
		ret = ioctl(ro, NR(variant->size), buf);
		EXPECT_EQ(0, ret);
		ret = ioctl(wo, NR(variant->size), buf);
		EXPECT_EQ(0, ret);
	}
	EXPECT_EQ(0, info(ro).size);
	EXPECT_EQ(0, info(wo).size);
	EXPECT_EQ(0, info(wo).clones);
}

TEST_F(ioctl, bad_pointer)
{
	char *two = guarded(1), *edge;

	EXPECT_ERR(EFAULT, self->fd, NR(variant->size), NULL);
	EXPECT_ERR(EFAULT, self->fd, NR(variant->size), (void *)-16L);
	EXPECT_ERR(EFAULT, self->fd, NR(variant->size), two + pgsz());
	/* Half of it, and all of it but for the tail. */
	edge = two + pgsz() - variant->size / 2;
	memcpy(edge, self->valid, variant->size / 2);
	EXPECT_ERR(EFAULT, self->fd, NR(variant->size), edge);
	edge = two + pgsz() - variant->size;
	memcpy(edge, self->valid, variant->size);
	EXPECT_ERR(EFAULT, self->fd, NR(variant->size + 8), edge);
	/* To be read, but not to be written, and the other way around. */
	ASSERT_EQ(0, mprotect(two, pgsz(), PROT_NONE));
	EXPECT_ERR(EFAULT, self->fd, NR(variant->size), edge);
	ASSERT_EQ(0, mprotect(two, pgsz(), PROT_READ));
	if (!variant->silent)
		EXPECT_ERR(EFAULT, self->fd, NR(variant->size), edge);
}

/* ---- what must succeed; the teardown then compares with a fresh state ---- */

static void check_done(struct __test_metadata *_metadata, unsigned int nr,
		       int fd, const char *buf)
{
	struct cowmem_info in, now = info(fd);

	switch (nr) {
	case 0:
		memcpy(&in, buf, sizeof(in));
		EXPECT_EQ(0, memcmp(&in, &now, sizeof(in)));
		EXPECT_EQ(LEN, in.size);
		EXPECT_EQ(PAGES, in.pages_populated);
		break;
	case 1:
		EXPECT_EQ(5000, now.size);
		break;
	case 2:
		EXPECT_EQ(COWMEM_SEAL_GROW, now.seals);
		EXPECT_EQ(COWMEM_SEAL_GROW, ((struct cowmem_seal *)buf)->seals);
		break;
	case 4:
		EXPECT_EQ(LEN, now.size);
		EXPECT_GT(PAGES, now.pages_populated);
		break;
	case 5:
		EXPECT_EQ(PAGES / 2, ((struct cowmem_restore *)buf)->pages);
		EXPECT_EQ(0, ((struct cowmem_restore *)buf)->kept);
		EXPECT_TRUE(holds(fd, 0, PAGES));
		EXPECT_TRUE(fd_is(fd, 0, PAGES, 1));
		break;
	case 6:
		EXPECT_EQ(1, ((struct cowmem_diff *)buf)->count);
		EXPECT_TRUE(holds(fd, PAGES / 2, PAGES / 2));
		break;
	case 7:
		EXPECT_TRUE(holds(fd, 0, PAGES));
		EXPECT_TRUE(fd_is(fd, 0, PAGES, 1));
		break;
	case 8:
		EXPECT_EQ(2, now.clones);
		EXPECT_TRUE(holds(fd, 0, PAGES));
		break;
	case 9:
		EXPECT_EQ(2, ((struct cowmem_merge *)buf)->next);
		EXPECT_EQ(2 * PAGES, ((struct cowmem_merge *)buf)->scanned);
		EXPECT_EQ(1, ((struct cowmem_merge *)buf)->merged);
		EXPECT_TRUE(holds(fd, PAGES / 2 - 1, PAGES / 2 + 1));
		break;
	}
}

/* Put the region of a fixture back to what its teardown expects. */
static void restart(FIXTURE_DATA(ioctl) *self, const char *valid, size_t size,
		    unsigned int nr)
{
	close(self->fd);
	close(self->clone);
	if (nr == 8) {
		close(self->clones[0]);
		close(self->clones[1]);
	}
	start(self, valid, size, nr);
}

TEST_F(ioctl, long_struct_with_zero_tail)
{
	static char buf[16383];
	size_t size[] = { variant->size, variant->size + 1, variant->size + 8,
			  4096, sizeof(buf) };
	size_t i, at;

	for (i = 0; i < ARRAY_SIZE(size); i++) {
		memset(buf, 0, sizeof(buf));
		memcpy(buf, self->valid, variant->size);
		ASSERT_EQ(0, ioctl(self->fd, NR(size[i]), buf))
			TH_LOG("size %zu: %s", size[i], strerror(errno));
		check_done(_metadata, variant->nr, self->fd, buf);
		for (at = variant->size; at < sizeof(buf); at++)
			ASSERT_EQ(0, buf[at]);
		if (variant->nr == 3) {
			int fd = ((struct cowmem_clone *)buf)->fd;

			EXPECT_EQ(2, info(self->fd).clones);
			EXPECT_EQ(LEN, info(fd).size);
			EXPECT_TRUE(fd_is(fd, 0, PAGES / 2, 2));
			close(fd);
		}
		restart(self, variant->valid, variant->size, variant->nr);
	}
}

/* A program that was built with an earlier version of the header. */
TEST_F(ioctl, earlier_struct)
{
	char buf[256];
	size_t size, at;

	for (size = variant->least; size <= variant->size; size++) {
		memset(buf, 0x5e, sizeof(buf));
		memcpy(buf, self->valid, size);
		ASSERT_EQ(0, ioctl(self->fd, NR(size), buf))
			TH_LOG("size %zu: %s", size, strerror(errno));
		/* INFO's answer, of any length, has a test of its own. */
		if (variant->nr)
			check_done(_metadata, variant->nr, self->fd, buf);
		for (at = size; at < sizeof(buf); at++)
			ASSERT_EQ(0x5e, buf[at]);
		restart(self, variant->valid, variant->size, variant->nr);
	}
}

/* Without results in the struct: either it need not be written, or it fails. */
TEST_F(ioctl, read_only_struct)
{
	char *mem = anon(1);

	memcpy(mem, self->valid, variant->size);
	ASSERT_EQ(0, mprotect(mem, pgsz(), PROT_READ));
	if (ioctl(self->fd, NR(variant->size), mem)) {
		EXPECT_EQ(EFAULT, errno);
	} else {
		EXPECT_TRUE(variant->silent);
		check_done(_metadata, variant->nr, self->fd, mem);
		restart(self, variant->valid, variant->size, variant->nr);
	}
}

/* ---- ranges and sizes ---- */

FIXTURE(values) {
	int fd;
	struct state was;
};

FIXTURE_SETUP(values)
{
	self->fd = region_of(PAGES, 1);
	ASSERT_EQ(0, do_resize(self->fd, LEN - 100));
	self->was = state_of(self->fd);
}

FIXTURE_TEARDOWN(values)
{
	char *want = malloc(LEN), *got = malloc(LEN);

	EXPECT_TRUE(same_state(self->fd, &self->was));
	fill(want, PAGES, 1, 0);
	EXPECT_EQ((ssize_t)LEN - 100, pread(self->fd, got, LEN, 0));
	EXPECT_EQ(0, memcmp(want, got, LEN - 100));
}

#define EXPECT_FAIL(err, call) do {					\
	errno = 0;							\
	EXPECT_EQ(-1, call);						\
	EXPECT_EQ(err, errno);						\
	EXPECT_TRUE(same_state(self->fd, &self->was));			\
} while (0)

#define TOP (1ULL << 63)

TEST_F(values, clone_ranges)
{
	uint64_t ps = pgsz(), size = LEN - 100, i;
	const struct { uint64_t offset, length; } bad[] = {
		{ 1, 0 }, { ps - 1, 0 }, { ps + 512, ps },	/* misaligned */
		{ 0, 1 }, { 0, ps - 1 }, { ps, ps + 1 }, { 0, size },
		{ size, 0 },
		{ LEN, 0 }, { LEN, ps }, { 0, LEN }, { 0, LEN + ps },	/* past */
		{ ps, LEN - ps }, { LEN - ps, ps }, { LEN - ps, 2 * ps },
		{ 10 * LEN, 0 }, { 1ULL << 40, ps }, { 0, 1ULL << 40 },
		{ -ps, ps }, { -ps, 2 * ps }, { ps, -ps },	/* overflowing */
		{ 2 * ps, -ps }, { TOP, TOP }, { TOP, 0 }, { 0, TOP },
		{ TOP - ps, 2 * ps }, { -1, 0 }, { 0, -1 }, { -1, -1 },
		{ -ps, 0 }, { 0, -ps }, { -ps, -ps },
	};

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		EXPECT_FAIL(EINVAL, do_clone(self->fd, 0, bad[i].offset,
					     bad[i].length));
		EXPECT_FAIL(EINVAL, do_clone(self->fd, COWMEM_CLONE_SNAPSHOT,
					     bad[i].offset, bad[i].length));
	}
}

TEST_F(values, discard_ranges)
{
	uint64_t ps = pgsz(), size = LEN - 100, i;
	const struct { uint64_t offset, length; } bad[] = {
		{ 0, 0 }, { ps, 0 }, { size, 0 }, { -1, 0 },	/* empty */
		{ size, 1 }, { 0, size + 1 }, { size - 1, 2 },	/* past */
		{ LEN, ps }, { 0, LEN }, { 1ULL << 40, ps }, { 0, TOP - 1 },
		{ -1, 1 }, { -1, 2 }, { 1, -1 }, { 2, -1 },	/* overflowing */
		{ -ps, ps }, { ps, -ps }, { TOP, TOP }, { TOP - 1, 1 },
		{ TOP - 1, 2 }, { -1, -1 }, { 0, -1 }, { -1, size },
	};

	for (i = 0; i < ARRAY_SIZE(bad); i++)
		EXPECT_FAIL(EINVAL, do_discard(self->fd, bad[i].offset,
					       bad[i].length));
}

TEST_F(values, resize_too_large)
{
	EXPECT_FAIL(EFBIG, do_resize(self->fd, TOP));
	EXPECT_FAIL(EFBIG, do_resize(self->fd, TOP + pgsz()));
	EXPECT_FAIL(EFBIG, do_resize(self->fd, -1ULL));
	EXPECT_FAIL(EFBIG, do_resize(self->fd, -(uint64_t)pgsz()));
}

TEST_F(values, mmap_and_write_too_far)
{
	loff_t far = INT64_MAX - 10;

	EXPECT_FAIL(EINVAL, pwrite(self->fd, "x", 1, INT64_MAX));
	EXPECT_FAIL(EINVAL, pwrite(self->fd, "x", 1, -1));
	EXPECT_FAIL(EINVAL, lseek(self->fd, -1, SEEK_SET));
	EXPECT_FAIL(EINVAL, lseek(self->fd, 0, 77));
	EXPECT_FAIL(EINVAL, pread(self->fd, &far, 1, -1));
	EXPECT_TRUE(mmap(NULL, pgsz(), PROT_READ, MAP_SHARED, self->fd,
			 far & -(loff_t)pgsz()) == MAP_FAILED);
	EXPECT_TRUE(mmap(NULL, 0, PROT_READ, MAP_SHARED, self->fd, 0) ==
		    MAP_FAILED);
}

TEST_F(values, unknown_seal)
{
	EXPECT_FAIL(EINVAL, do_seal(self->fd, 32));
	EXPECT_FAIL(EINVAL, do_seal(self->fd, 1U << 31 | COWMEM_SEAL_WRITE));
}

TEST_F(values, mapping_makes_the_write_seal_busy)
{
	char *mem = map_rw(self->fd, PAGES - 1);

	EXPECT_FAIL(EBUSY, do_seal(self->fd, COWMEM_SEAL_WRITE));
	unmap(mem, PAGES - 1);
}

/* ---- descriptors that run out ---- */

TEST_F(values, descriptor_table_full)
{
	struct rlimit old, lim;
	int used = count_fds();

	ASSERT_EQ(0, getrlimit(RLIMIT_NOFILE, &old));
	lim = old;
	lim.rlim_cur = self->fd + 1;
	/* Fill what is below. */
	while (dup(self->fd) >= 0 && count_fds() <= self->fd)
		;
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &lim));
	self->was.fds = count_fds();
	EXPECT_FAIL(EMFILE, do_clone(self->fd, 0, 0, 0));
	EXPECT_FAIL(EMFILE, do_clone(self->fd, COWMEM_CLONE_SNAPSHOT, 0, 0));
	EXPECT_FAIL(EMFILE, open(COWMEM_DEV, O_RDWR));
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &old));
	EXPECT_LE(used, count_fds());
	EXPECT_EQ(0, info(self->fd).clones);
	close(cloned(self->fd));
	EXPECT_EQ(1, info(self->fd).clones);
	self->was.info.clones = 1;
}

/* A clone that cannot be told to its caller is not made: not one in 300. */
TEST_F(values, no_descriptor_leaks)
{
	char *ro = anon(1);
	int i;

	ASSERT_EQ(0, mprotect(ro, pgsz(), PROT_READ));
	for (i = 0; i < 300; i++) {
		errno = 0;
		ASSERT_EQ(-1, ioctl(self->fd, COWMEM_IOC_CLONE, ro));
		ASSERT_EQ(EFAULT, errno);
	}
	EXPECT_TRUE(same_state(self->fd, &self->was));
	/* Nor is its share of the pages. */
	EXPECT_TRUE(holds(self->fd, PAGES, 0));
	EXPECT_EQ(0, info(self->fd).clones);
}

/* ---- seals; more of them in seal.c ---- */

TEST(sealed)
{
	FIXTURE_DATA(values) data, *self = &data;

	self->fd = region_of(PAGES, 1);
	ASSERT_EQ(0, do_seal(self->fd, COWMEM_SEAL_SEAL | COWMEM_SEAL_WRITE |
			     COWMEM_SEAL_GROW | COWMEM_SEAL_SHRINK));
	self->was = state_of(self->fd);
	EXPECT_FAIL(EPERM, do_resize(self->fd, LEN + 1));
	EXPECT_FAIL(EPERM, do_resize(self->fd, LEN - 1));
	EXPECT_FAIL(EPERM, do_discard(self->fd, 0, pgsz()));
	EXPECT_FAIL(EPERM, do_seal(self->fd, COWMEM_SEAL_WRITE));
	EXPECT_FAIL(EPERM, pwrite(self->fd, "x", 1, 0));
	EXPECT_FAIL(EPERM, pwrite(self->fd, "x", 1, LEN));
	/* A bad range is a bad range, sealed or not; the header names no order. */
	EXPECT_EQ(-1, do_discard(self->fd, 0, 0));
	EXPECT_TRUE(errno == EPERM || errno == EINVAL);
	EXPECT_TRUE(same_state(self->fd, &self->was));
	EXPECT_TRUE(fd_is(self->fd, 0, PAGES, 1));
}

/* ---- a fatal signal in a call leaves a region that works ---- */

TEST(killed_in_a_call)
{
	enum { BIG = 2048, ROUNDS = 24 };
	int *turn = shared_mem(sizeof(*turn));
	int fd = region_of(BIG, 1), keep = snapshot(fd), round;
	char *buf = anon(BIG / 64);

	rng_init();
	for (round = 0; round < ROUNDS; round++) {
		struct cowmem_info in;
		int spin, status;
		pid_t pid;

		put(turn, 0);
		pid = spawn();
		if (!pid) {
			char *mem = map_rw(fd, BIG);

			for (;;) {
				put(turn, 1);
				switch (round % 6) {
				case 0:
					info(fd);
					break;
				case 1:
					do_discard(fd, 100, BIG * pgsz() - 200);
					break;
				case 2:
					pwrite(fd, buf, BIG / 64 * pgsz(), 4000);
					break;
				case 3:
					close(cloned(fd));
					fill(mem, BIG, 2, 0);
					break;
				case 4:
					do_resize(fd, 5000);
					do_resize(fd, BIG * pgsz());
					break;
				case 5:
					madvise(mem, BIG * pgsz(),
						MADV_POPULATE_WRITE);
					do_discard(fd, 0, BIG * pgsz());
					break;
				}
			}
		}
		await(turn, 1);
		for (spin = below(200); spin; spin--)
			sched_yield();
		kill(pid, SIGKILL);
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		ASSERT_EQ(SIGKILL, WTERMSIG(status));
		in = info(fd);
		EXPECT_EQ(in.pages_populated,
			  in.pages_exclusive + in.pages_shared);
		EXPECT_TRUE(in.size == BIG * pgsz() || in.size == 5000);
		ASSERT_EQ(0, do_resize(fd, BIG * pgsz()));
		/* The region works, and the snapshot has seen nothing. */
		fill(map_rw(fd, 3), 3, 9, 0);
		EXPECT_TRUE(fd_is(fd, 0, 3, 9));
		EXPECT_TRUE(fd_is(keep, below(BIG), 1, 1));
		EXPECT_EQ(BIG, info(keep).pages_populated);
	}
	EXPECT_TRUE(is(map_ro(keep, BIG), BIG, 1, 0));
	close(fd);
	EXPECT_TRUE(holds(keep, BIG, 0));
}

TEST_HARNESS_MAIN
