// SPDX-License-Identifier: GPL-2.0-only
/*
 * Promise: files of a mount have extended attributes and access control lists as those of
 * a tmpfs have; a value is never seen half; what attributes take counts in the mount, and
 * comes back; clones have none.
 *
 * What is expected is tried on a tmpfs as well, as far as the kernel's has it: user.
 * attributes from 6.6 on, and no more than its configuration allows.
 */
#include <grp.h>
#include <pthread.h>
#include <sys/mount.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <linux/falloc.h>
#include <linux/fs.h>

#include "../kselftest_harness.h"
#include "common.h"
#include "files.h"

enum { VALUE_MAX = 1 << 16, LIST_MAX = 1 << 16, DIR_SIZE = 32 };
enum { OTHER = 1000, THIRD = 1001 };	/* users */

/* What a call returned, or minus its errno */
#define RET(call) ({							\
	long __ret = (call);						\
									\
	__ret == -1 ? -errno : __ret;					\
})

static const char * const spaces[] = { "user.", "trusted.", "security." };

enum { USER, TRUSTED, SECURITY, NR_SPACES };

static char big[VALUE_MAX + 1], got[VALUE_MAX + 1];

/* ---- a mount of either kind ---- */

FIXTURE(xattr) {
	char dir[DIR_SIZE];
	bool has[NR_SPACES];	/* which attributes it is capable of */
	bool has_acls;
};

FIXTURE_VARIANT(xattr) {
	const char *type;
};

FIXTURE_VARIANT_ADD(xattr, cowmem) {
	.type = "cowmem",
};

FIXTURE_VARIANT_ADD(xattr, tmpfs) {
	.type = "tmpfs",
};

static void mount_at(const char *dir, const char *type, const char *options)
{
	must(!mount("xattr", dir, type, 0, options));
	must(!chdir(dir));
	umask(0);
}

/* In a mount namespace of this process's own, so nothing stays. */
static void make_place(char *dir)
{
	snprintf(dir, DIR_SIZE, "/tmp/xattr.XXXXXX");
	must(mkdtemp(dir));
	must(!chmod(dir, 0755));
	must(!unshare(CLONE_NEWNS));
	must(!mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
}

static void remount(const char *dir, const char *type, const char *options)
{
	must(!chdir("/"));
	must(!umount(dir));
	mount_at(dir, type, options);
}

static void new_file(const char *path, mode_t mode)
{
	int fd = open(path, O_CREAT | O_EXCL | O_WRONLY, mode);

	must(fd >= 0);
	must(write(fd, "#!", 2) == 2);
	close(fd);
}

static bool has_space(int space)
{
	char name[32];
	int ret;

	new_file("probe", 0600);
	sprintf(name, "%sprobe", spaces[space]);
	ret = setxattr("probe", name, "", 0, 0);
	must(!ret || errno == EOPNOTSUPP);
	must(!unlink("probe"));
	return !ret;
}

static bool has_acls(void)
{
	return getxattr(".", "system.posix_acl_access", NULL, 0) == -1 && errno == ENODATA;
}

FIXTURE_SETUP(xattr)
{
	bool ours = !strcmp(variant->type, "cowmem"), any = false;
	int i;

	make_place(self->dir);
	mount_at(self->dir, variant->type, "mode=755");
	for (i = 0; i < NR_SPACES; i++) {
		self->has[i] = has_space(i);
		any |= self->has[i];
		if (ours)
			ASSERT_TRUE(self->has[i]);
	}
	self->has_acls = has_acls();
	new_file("f", 0644);
	must(!mkdir("d", 0755));
	must(!symlink("f", "l"));
	must(!mkfifo("p", 0644));
	memset(big, 'b', sizeof(big));
	if (!any)
		SKIP(return, "this tmpfs has no attributes: CONFIG_TMPFS_XATTR");
}

FIXTURE_TEARDOWN(xattr)
{
	must(!chdir("/"));
	umount2(self->dir, MNT_DETACH);
	rmdir(self->dir);
}

/* In a child that may do no more than anybody else */
#define as_user(uid, ...) in_child(					\
	must(!setgroups(0, NULL));					\
	must(!setresgid(uid, uid, uid));				\
	must(!setresuid(uid, uid, uid));				\
	__VA_ARGS__							\
)

static bool value_is(const char *path, const char *name, const void *value, long size)
{
	memset(got, 'g', sizeof(got));
	return lgetxattr(path, name, got, sizeof(got)) == size && !memcmp(got, value, size);
}

/* Is this name among those that a file has? */
static bool lists(const char *path, const char *name)
{
	static char list[LIST_MAX];
	long i, n = llistxattr(path, list, sizeof(list));

	must(n >= 0);
	for (i = 0; i < n; i += strlen(list + i) + 1)
		if (!strcmp(list + i, name))
			return true;
	return false;
}

static long names_size(const char *path)
{
	return RET(llistxattr(path, NULL, 0));
}

/* ---- attributes ---- */

TEST_F(xattr, flags)
{
	char a[32];
	int i;

	for (i = 0; i < NR_SPACES; i++) {
		if (!self->has[i])
			continue;
		sprintf(a, "%sa", spaces[i]);
		EXPECT_EQ(-ENODATA, RET(getxattr("f", a, got, sizeof(got))));
		EXPECT_EQ(-ENODATA, RET(removexattr("f", a)));
		EXPECT_EQ(-ENODATA, RET(setxattr("f", a, "1", 1, XATTR_REPLACE)));
		EXPECT_EQ(0, RET(setxattr("f", a, "1", 1, XATTR_CREATE)));
		EXPECT_EQ(-EEXIST, RET(setxattr("f", a, "2", 1, XATTR_CREATE)));
		EXPECT_TRUE(value_is("f", a, "1", 1));
		EXPECT_EQ(0, RET(setxattr("f", a, "23", 2, XATTR_REPLACE)));
		EXPECT_TRUE(value_is("f", a, "23", 2));
		EXPECT_EQ(0, RET(setxattr("f", a, "4", 1, 0)));
		EXPECT_TRUE(value_is("f", a, "4", 1));
		EXPECT_EQ(-EEXIST, RET(setxattr("f", a, "2", 1,
						XATTR_CREATE | XATTR_REPLACE)));
		EXPECT_EQ(-EINVAL, RET(setxattr("f", a, "2", 1, 4)));
		EXPECT_EQ(0, RET(removexattr("f", a)));
		EXPECT_EQ(-ENODATA, RET(getxattr("f", a, got, sizeof(got))));
		EXPECT_EQ(-EINVAL, RET(setxattr("f", spaces[i], "", 0, 0)));
	}
	EXPECT_EQ(-EOPNOTSUPP, RET(setxattr("f", "nonsense.a", "1", 1, 0)));
	EXPECT_EQ(-EOPNOTSUPP, RET(getxattr("f", "nonsense.a", got, 1)));
	EXPECT_EQ(-EOPNOTSUPP, RET(setxattr("f", "system.a", "1", 1, 0)));
	EXPECT_EQ(0, names_size("f"));
}

TEST_F(xattr, sizes)
{
	char a[32], name[300];
	int i;

	for (i = 0; i < NR_SPACES; i++) {
		if (!self->has[i])
			continue;
		sprintf(a, "%sa", spaces[i]);
		/* A value may be empty. */
		EXPECT_EQ(0, RET(setxattr("f", a, NULL, 0, 0)));
		EXPECT_EQ(0, RET(getxattr("f", a, got, sizeof(got))));
		EXPECT_EQ(0, RET(getxattr("f", a, NULL, 0)));
		EXPECT_EQ(0, RET(setxattr("f", a, "12345", 5, 0)));
		EXPECT_EQ(5, RET(getxattr("f", a, NULL, 0)));
		EXPECT_EQ(-ERANGE, RET(getxattr("f", a, got, 4)));
		EXPECT_EQ(5, RET(getxattr("f", a, got, 5)));
		EXPECT_EQ(0, RET(setxattr("f", a, big, VALUE_MAX, 0)));
		EXPECT_TRUE(value_is("f", a, big, VALUE_MAX));
		EXPECT_EQ(-ERANGE, RET(getxattr("f", a, got, VALUE_MAX - 1)));
		EXPECT_EQ(-E2BIG, RET(setxattr("f", a, big, VALUE_MAX + 1, 0)));
		EXPECT_EQ(0, RET(removexattr("f", a)));

		memset(name, 'n', sizeof(name));
		memcpy(name, spaces[i], strlen(spaces[i]));
		name[256] = 0;
		EXPECT_EQ(-ERANGE, RET(setxattr("f", name, "1", 1, 0)));
		name[255] = 0;
		EXPECT_EQ(0, RET(setxattr("f", name, "1", 1, 0)));
		EXPECT_TRUE(lists("f", name));
		/* Names that begin alike */
		name[254] = 0;
		EXPECT_EQ(-ENODATA, RET(getxattr("f", name, got, 1)));
		name[254] = 'n';
		EXPECT_EQ(0, RET(removexattr("f", name)));
	}
}

/* user. attributes are for files and directories, the others for anything. */
TEST_F(xattr, types)
{
	static const char * const paths[] = { "f", "d", "l", "p", "." };
	char a[32];
	size_t p;
	int i;

	for (i = 0; i < NR_SPACES; i++) {
		sprintf(a, "%sa", spaces[i]);
		for (p = 0; self->has[i] && p < ARRAY_SIZE(paths); p++) {
			bool may = i != USER || !strchr("lp", *paths[p]);

			EXPECT_EQ(may ? 0 : -EPERM,
				  RET(lsetxattr(paths[p], a, paths[p], 1, 0)));
			EXPECT_EQ(may ? 1 : -ENODATA,
				  RET(lgetxattr(paths[p], a, got, sizeof(got))));
			EXPECT_EQ(may ? (long)strlen(a) + 1 : 0, names_size(paths[p]));
			if (may) {
				EXPECT_TRUE(value_is(paths[p], a, paths[p], 1));
				EXPECT_EQ(0, RET(lremovexattr(paths[p], a)));
			}
		}
	}
}

static int may_get(const char *path, const char *name)
{
	return as_user(OTHER, _exit(getxattr(path, name, got, 1) < 0 ? errno : 0));
}

static int may_set(const char *path, const char *name)
{
	return as_user(OTHER, _exit(-RET(setxattr(path, name, "2", 1, 0))));
}

static int may_remove(const char *path, const char *name)
{
	return as_user(OTHER, _exit(-RET(removexattr(path, name))));
}

TEST_F(xattr, permissions)
{
	char a[32];
	int i;

	must(!chmod("f", 0604));
	for (i = 0; i < NR_SPACES; i++) {
		sprintf(a, "%sa", spaces[i]);
		if (self->has[i])
			must(!setxattr("f", a, "1", 1, 0));
	}
	if (self->has[USER]) {
		EXPECT_EQ(0, may_get("f", "user.a"));
		EXPECT_EQ(EACCES, may_set("f", "user.a"));
		EXPECT_EQ(EACCES, may_remove("f", "user.a"));
		must(!chmod("f", 0602));
		EXPECT_EQ(EACCES, may_get("f", "user.a"));
		EXPECT_EQ(0, may_set("f", "user.a"));
		/* In a sticky directory, whoever owns it may. */
		must(!chmod("d", 01777));
		EXPECT_EQ(EPERM, may_set("d", "user.a"));
		must(!chmod("d", 0777));
		EXPECT_EQ(0, may_set("d", "user.a"));
	}
	if (self->has[TRUSTED]) {
		EXPECT_EQ(ENODATA, may_get("f", "trusted.a"));
		EXPECT_EQ(EPERM, may_set("f", "trusted.a"));
		EXPECT_EQ(EPERM, may_remove("f", "trusted.a"));
		EXPECT_FALSE(as_user(OTHER, _exit(lists("f", "trusted.a"))));
		EXPECT_TRUE(lists("f", "trusted.a"));
	}
	/* Security modules decide who may set them. */
	if (self->has[SECURITY]) {
		EXPECT_EQ(0, may_get("f", "security.a"));
		EXPECT_TRUE(as_user(OTHER, _exit(lists("f", "security.a"))));
	}
}

TEST_F(xattr, lists)
{
	const char *space = spaces[self->has[USER] ? USER : TRUSTED];
	char a[32], name[256], list[LIST_MAX + 1];
	long size = 0;
	int i;

	for (i = 0; i < 20; i++) {
		sprintf(a, "%s%d", space, i * 7919);
		must(!setxattr("f", a, "", 0, 0));
		size += strlen(a) + 1;
	}
	EXPECT_EQ(size, names_size("f"));
	EXPECT_EQ(-ERANGE, RET(listxattr("f", list, size - 1)));
	EXPECT_EQ(-ERANGE, RET(listxattr("f", list, 1)));
	list[size] = 'x';
	EXPECT_EQ(size, RET(listxattr("f", list, size)));
	EXPECT_EQ('x', list[size]);
	for (i = 0; i < 20; i++) {
		sprintf(a, "%s%d", space, i * 7919);
		EXPECT_TRUE(lists("f", a));
		must(!removexattr("f", a));
		EXPECT_FALSE(lists("f", a));
		size -= strlen(a) + 1;
		EXPECT_EQ(size, names_size("f"));
	}
	/* More than anybody can be told.  A tmpfs still says how much that is. */
	for (i = 0; i < 300; i++) {
		snprintf(name, sizeof(name), "%s%0240d", space, i);
		must(!setxattr("f", name, "", 0, 0));
	}
	EXPECT_EQ(-E2BIG, RET(listxattr("f", list, sizeof(list))));
	if (!strcmp(variant->type, "cowmem"))
		EXPECT_EQ(-E2BIG, names_size("f"));
	for (i = 0; i < 300; i++) {
		snprintf(name, sizeof(name), "%s%0240d", space, i);
		EXPECT_EQ(0, RET(removexattr("f", name)));
	}
	EXPECT_EQ(0, names_size("f"));
}

static bool changes(const char *path, struct stat *then)
{
	struct stat st;
	bool changed;

	must(!stat(path, &st));
	changed = st.st_ctim.tv_sec != then->st_ctim.tv_sec ||
		  st.st_ctim.tv_nsec != then->st_ctim.tv_nsec;
	must(st.st_mtim.tv_sec == then->st_mtim.tv_sec &&
	     st.st_mtim.tv_nsec == then->st_mtim.tv_nsec);
	*then = st;
	usleep(20000);
	return changed;
}

TEST_F(xattr, times)
{
	struct stat st;

	must(!stat("f", &st));
	usleep(20000);
	must(!setxattr("f", "trusted.a", "1", 1, 0));
	EXPECT_TRUE(changes("f", &st));
	must(!setxattr("f", "trusted.a", "1", 1, 0));
	EXPECT_TRUE(changes("f", &st));
	must(getxattr("f", "trusted.a", got, 1) == 1);
	EXPECT_EQ(-EEXIST, RET(setxattr("f", "trusted.a", "1", 1, XATTR_CREATE)));
	EXPECT_FALSE(changes("f", &st));
	must(!removexattr("f", "trusted.a"));
	EXPECT_TRUE(changes("f", &st));
}

/* Attributes belong to files, not to names. */
TEST_F(xattr, names)
{
	char path[64];
	int fd;

	must(!setxattr("f", "trusted.a", "1", 1, 0));
	must(!link("f", "g"));
	EXPECT_TRUE(value_is("g", "trusted.a", "1", 1));
	must(!setxattr("g", "trusted.a", "2", 1, 0));
	EXPECT_TRUE(value_is("f", "trusted.a", "2", 1));
	must(!rename("f", "d/f"));
	EXPECT_TRUE(value_is("d/f", "trusted.a", "2", 1));
	new_file("h", 0600);
	must(!syscall(SYS_renameat2, AT_FDCWD, "h", AT_FDCWD, "d/f", RENAME_EXCHANGE));
	EXPECT_TRUE(value_is("h", "trusted.a", "2", 1));
	EXPECT_EQ(-ENODATA, RET(getxattr("d/f", "trusted.a", got, 1)));
	must(!unlink("g"));
	EXPECT_TRUE(value_is("h", "trusted.a", "2", 1));

	fd = open("h", O_RDWR);
	must(fd >= 0);
	must(!unlink("h"));
	EXPECT_EQ(1, RET(fgetxattr(fd, "trusted.a", got, 1)));
	EXPECT_EQ(0, RET(fsetxattr(fd, "trusted.b", big, 5000, 0)));
	close(fd);

	fd = open(".", O_TMPFILE | O_RDWR, 0600);
	must(fd >= 0);
	EXPECT_EQ(0, RET(fsetxattr(fd, "trusted.a", "3", 1, 0)));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	must(!linkat(AT_FDCWD, path, AT_FDCWD, "t", AT_SYMLINK_FOLLOW));
	EXPECT_TRUE(value_is("t", "trusted.a", "3", 1));
	close(fd);
	new_file("new", 0600);
	EXPECT_EQ(0, names_size("new"));
}

static long free_inodes(void)
{
	struct statfs fs;

	must(!statfs(".", &fs));
	return fs.f_ffree;
}

/* They count where inodes do: 1024 bytes of an inode, 40 and name and value of an attribute. */
TEST_F(xattr, space)
{
	char name[32];
	int i, fd;

	if (!self->has[USER])
		SKIP(return, "on this tmpfs attributes do not count");
	remount(self->dir, variant->type, "nr_inodes=8,mode=755");
	new_file("f", 0600);
	EXPECT_EQ(6, free_inodes());
	for (i = 0; i < 41; i++) {
		sprintf(name, "user.%03d", i);
		EXPECT_EQ(0, RET(setxattr("f", name, big, 100, 0)));
	}
	EXPECT_EQ(0, free_inodes());
	EXPECT_EQ(-ENOSPC, RET(setxattr("f", "user.041", big, 100, 0)));
	EXPECT_EQ(-ENOSPC, RET(setxattr("f", "security.41", big, 26, 0)));
	EXPECT_EQ(0, RET(setxattr("f", "user.041", big, 28, 0)));
	/* Nothing fits any more, be it in place of something else. */
	EXPECT_EQ(-ENOSPC, RET(setxattr("f", "user.000", "", 0, 0)));
	EXPECT_TRUE(value_is("f", "user.000", big, 100));
	EXPECT_EQ(-ENOSPC, RET(setxattr("f", "user.042", "", 0, 0)));
	EXPECT_EQ(-ENOSPC, RET(mkdir("d", 0700)));
	EXPECT_EQ(-ENOSPC, RET(link("f", "g")));
	EXPECT_EQ(-EINVAL, RET(mount(NULL, self->dir, NULL, MS_REMOUNT, "nr_inodes=7")));
	EXPECT_EQ(0, RET(mount(NULL, self->dir, NULL, MS_REMOUNT, "nr_inodes=9")));
	EXPECT_EQ(0, RET(mkdir("d", 0700)));
	EXPECT_EQ(-ENOSPC, RET(setxattr("d", "user.a", "", 0, 0)));
	for (i = 0; i < 7; i++) {
		sprintf(name, "user.%03d", i);
		must(!removexattr("f", name));
	}
	EXPECT_EQ(1, free_inodes());
	fd = open("f", O_RDWR);
	must(fd >= 0);
	must(!unlink("f"));
	EXPECT_EQ(1, free_inodes());
	close(fd);
	EXPECT_EQ(7, free_inodes());
	/* What failed has left nothing. */
	must(!rmdir("d"));
	EXPECT_EQ(8, free_inodes());
	new_file("f", 0600);
	EXPECT_EQ(-ENOSPC, RET(setxattr("f", "user.a", big, VALUE_MAX, 0)));
	EXPECT_EQ(0, RET(setxattr("f", "user.a", "1", 1, 0)));
	EXPECT_EQ(-EEXIST, RET(setxattr("f", "user.a", big, 3000, XATTR_CREATE)));
	EXPECT_EQ(-ENODATA, RET(setxattr("f", "user.b", big, 3000, XATTR_REPLACE)));
	must(!removexattr("f", "user.a"));
	EXPECT_EQ(7, free_inodes());
	remount(self->dir, variant->type, "nr_inodes=0");
	new_file("f", 0600);
	EXPECT_EQ(0, RET(setxattr("f", "user.a", big, VALUE_MAX, 0)));
	EXPECT_EQ(0, RET(removexattr("f", "user.a")));
}

/* ---- capabilities of programs ---- */

/* Version 2: CAP_NET_RAW, permitted and effective */
static const uint32_t net_raw[5] = { 0x02000001, 1 << 13 };

#define CAPS "security.capability"

static void give_caps(const char *path)
{
	must(!setxattr(path, CAPS, net_raw, sizeof(net_raw), 0));
}

static bool keeps_caps(const char *path)
{
	return value_is(path, CAPS, net_raw, sizeof(net_raw));
}

static void write_a_byte(const char *path)
{
	int fd = open(path, O_WRONLY);

	must(fd >= 0);
	must(write(fd, "1", 1) == 1);
	close(fd);
}

TEST_F(xattr, capabilities_are_lost)
{
	char *mem;
	int fd;

	if (!self->has[SECURITY])
		SKIP(return, "no security. attributes here");
	give_caps("f");
	must(!chmod("f", 0755));
	must(!utimensat(AT_FDCWD, "f", NULL, 0));
	must(!rename("f", "g"));
	must(!rename("g", "f"));
	fd = open("f", O_RDWR);
	must(fd >= 0);
	must(pread(fd, got, 1, 0) == 1);
	EXPECT_TRUE(keeps_caps("f"));

	write_a_byte("f");
	EXPECT_FALSE(keeps_caps("f"));
	/* That no write has to look for them again is forgotten. */
	write_a_byte("f");
	give_caps("f");
	write_a_byte("f");
	EXPECT_FALSE(keeps_caps("f"));
	EXPECT_FALSE(lists("f", CAPS));

	give_caps("f");
	must(!truncate("f", 1));
	EXPECT_FALSE(keeps_caps("f"));
	give_caps("f");
	must(!chown("f", 0, 0));
	EXPECT_FALSE(keeps_caps("f"));
	must(!fallocate(fd, 0, 0, 2 * pgsz()));
	give_caps("f");
	must(!fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, pgsz()));
	/* A tmpfs forgot to look here, until 6.13 or so. */
	if (!strcmp(variant->type, "cowmem"))
		EXPECT_FALSE(keeps_caps("f"));

	/* The module's own ways to write. */
	if (!strcmp(variant->type, "cowmem")) {
		int other = region_of(2, 1);

		give_caps("f");
		must(!do_copy(fd, other, 0, 0, 1));
		EXPECT_FALSE(keeps_caps("f"));
		give_caps("f");
		must(!do_discard(fd, 0, pgsz()));
		EXPECT_FALSE(keeps_caps("f"));
		give_caps("f");
		must(!do_resize(fd, 3 * pgsz()));
		EXPECT_FALSE(keeps_caps("f"));
		give_caps("f");
		must_restore(fd, other, COWMEM_RESTORE_SIZE);
		EXPECT_FALSE(keeps_caps("f"));
		close(other);
	}

	/* No file system can tell that a mapping is written. */
	give_caps("f");
	mem = mmap(NULL, pgsz(), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	must(mem != MAP_FAILED);
	mem[0] = 1;
	EXPECT_TRUE(keeps_caps("f"));
	close(fd);
}

/* What exec() makes of us says as its status whether it may do what NET_RAW allows. */
static void tell_caps(void)
{
	char status[4096], *line;

	must(read_file("/proc/self/status", status, sizeof(status)) > 0);
	line = strstr(status, "CapEff:");
	must(line);
	_exit(strtoull(line + 7, NULL, 16) == 1 << 13 ? 55 : 54);
}

static int run_as(uid_t uid, const char *path)
{
	return as_user(uid,
		must(!setenv("XATTR_TELL_CAPS", "1", 1));
		execl(path, path, NULL);
		_exit(56));
}

TEST_F(xattr, capabilities_work)
{
	if (!self->has[SECURITY])
		SKIP(return, "no security. attributes here");
	copy_program("program");
	EXPECT_EQ(54, run_as(OTHER, "program"));
	give_caps("program");
	EXPECT_EQ(55, run_as(OTHER, "program"));
	must(!removexattr("program", CAPS));
	EXPECT_EQ(54, run_as(OTHER, "program"));
}

/* ---- access control lists ---- */

enum { USER_OBJ = 1, NAMED = 2, GROUP_OBJ = 4, MASK = 0x10, REST = 0x20 };

struct acl {
	uint32_t version;
	struct {
		uint16_t tag, perm;
		uint32_t id;
	} e[5];
};

#define ACCESS "system.posix_acl_access"
#define DEFAULT "system.posix_acl_default"

/* Rights of the owner, of the user OTHER, of the group; the mask, and the rest's */
static struct acl acl_of(int owner, int other, int group, int mask, int rest)
{
	return (struct acl) {
		.version = 2,
		.e = {
			{ USER_OBJ, owner, -1 }, { NAMED, other, OTHER },
			{ GROUP_OBJ, group, -1 }, { MASK, mask, -1 }, { REST, rest, -1 },
		},
	};
}

static long set_acl(const char *path, const char *name, struct acl acl)
{
	return RET(setxattr(path, name, &acl, sizeof(acl), 0));
}

static bool acl_is(const char *path, const char *name, struct acl acl)
{
	return value_is(path, name, &acl, sizeof(acl));
}

static long no_acl(const char *path, const char *name)
{
	return lgetxattr(path, name, got, sizeof(got)) == -1 && errno == ENODATA;
}

static mode_t mode_of(const char *path)
{
	struct stat st;

	must(!lstat(path, &st));
	return st.st_mode & 07777;
}

static int may_open(uid_t uid, const char *path, int flags)
{
	return as_user(uid, _exit(open(path, flags) < 0 ? errno : 0));
}

#define NEED_ACLS() do {						\
	if (!self->has_acls)						\
		SKIP(return, "no access control lists here");		\
} while (0)

TEST_F(xattr, lists_give_access)
{
	NEED_ACLS();
	must(!chmod("f", 0640));
	EXPECT_EQ(EACCES, may_open(OTHER, "f", O_RDONLY));
	EXPECT_EQ(0, set_acl("f", ACCESS, acl_of(6, 6, 4, 6, 0)));
	EXPECT_EQ(0660, mode_of("f"));
	EXPECT_TRUE(acl_is("f", ACCESS, acl_of(6, 6, 4, 6, 0)));
	EXPECT_EQ(sizeof(struct acl), RET(getxattr("f", ACCESS, NULL, 0)));
	EXPECT_EQ(-ERANGE, RET(getxattr("f", ACCESS, got, 10)));
	EXPECT_TRUE(lists("f", ACCESS));
	EXPECT_EQ(sizeof(ACCESS), names_size("f"));
	EXPECT_EQ(0, may_open(OTHER, "f", O_RDWR));
	EXPECT_EQ(EACCES, may_open(THIRD, "f", O_RDONLY));

	/* chmod() sets the mask, and what the list says stays. */
	must(!chmod("f", 0640));
	EXPECT_TRUE(acl_is("f", ACCESS, acl_of(6, 6, 4, 4, 0)));
	EXPECT_EQ(0, may_open(OTHER, "f", O_RDONLY));
	EXPECT_EQ(EACCES, may_open(OTHER, "f", O_RDWR));
	must(!chmod("f", 0604));
	EXPECT_TRUE(acl_is("f", ACCESS, acl_of(6, 6, 4, 0, 4)));
	EXPECT_EQ(0, may_open(THIRD, "f", O_RDONLY));

	EXPECT_EQ(0, RET(removexattr("f", ACCESS)));
	EXPECT_TRUE(no_acl("f", ACCESS));
	EXPECT_FALSE(lists("f", ACCESS));
	EXPECT_EQ(0, RET(removexattr("f", ACCESS)));
	EXPECT_EQ(0604, mode_of("f"));
	EXPECT_EQ(0, may_open(OTHER, "f", O_RDONLY));
}

TEST_F(xattr, lists_that_are_a_mode)
{
	struct acl acl = { .version = 2, .e = {
		{ USER_OBJ, 6, -1 }, { GROUP_OBJ, 5, -1 }, { REST, 1, -1 },
	} };

	NEED_ACLS();
	EXPECT_EQ(0, RET(setxattr("f", ACCESS, &acl, 4 + 3 * 8, 0)));
	EXPECT_EQ(0651, mode_of("f"));
	EXPECT_TRUE(no_acl("f", ACCESS));
	/* Such a list takes the place of one that says more. */
	EXPECT_EQ(0, set_acl("f", ACCESS, acl_of(7, 7, 7, 7, 7)));
	EXPECT_EQ(0, RET(setxattr("f", ACCESS, &acl, 4 + 3 * 8, 0)));
	EXPECT_TRUE(no_acl("f", ACCESS));
	EXPECT_EQ(0, names_size("f"));
	/* So does an empty one. */
	EXPECT_EQ(0, set_acl("f", ACCESS, acl_of(7, 7, 7, 7, 7)));
	EXPECT_EQ(0, RET(setxattr("f", ACCESS, &acl, 4, 0)));
	EXPECT_TRUE(no_acl("f", ACCESS));
	EXPECT_EQ(0777, mode_of("f"));
}

TEST_F(xattr, lists_that_are_wrong)
{
	struct acl acl = acl_of(6, 6, 6, 6, 6);

	NEED_ACLS();
	EXPECT_EQ(-EINVAL, RET(setxattr("f", ACCESS, &acl, 7, 0)));
	EXPECT_EQ(-EINVAL, RET(setxattr("f", ACCESS, &acl, 4 + 8, 0)));
	EXPECT_EQ(-EINVAL, RET(setxattr("f", ACCESS, &acl, 4 + 4 * 8, 0)));
	acl.version = 3;
	EXPECT_EQ(-EOPNOTSUPP, RET(setxattr("f", ACCESS, &acl, sizeof(acl), 0)));
	EXPECT_EQ(-EACCES, set_acl("f", DEFAULT, acl_of(6, 6, 6, 6, 6)));
	EXPECT_TRUE(no_acl("f", ACCESS));
	EXPECT_TRUE(no_acl("f", DEFAULT));
	acl = acl_of(6, 6, 6, 6, 6);
	EXPECT_EQ(-EOPNOTSUPP, RET(lsetxattr("l", ACCESS, &acl, sizeof(acl), 0)));
	EXPECT_EQ(-EOPNOTSUPP, RET(lgetxattr("l", ACCESS, got, sizeof(got))));
	EXPECT_EQ(EPERM, as_user(OTHER, _exit(-set_acl("f", ACCESS, acl))));
	EXPECT_EQ(0644, mode_of("f"));
}

TEST_F(xattr, lists_take_setgid_away)
{
	const struct acl acl = acl_of(7, 7, 5, 7, 5);

	NEED_ACLS();
	must(!chown("f", OTHER, THIRD));
	must(!chmod("f", 02755));
	EXPECT_EQ(0, set_acl("f", ACCESS, acl));
	EXPECT_EQ(02775, mode_of("f"));
	EXPECT_EQ(0, as_user(OTHER, _exit(-set_acl("f", ACCESS, acl))));
	EXPECT_EQ(0775, mode_of("f"));
}

TEST_F(xattr, lists_are_inherited)
{
	const struct acl acl = acl_of(7, 6, 5, 7, 0);
	int fd;

	NEED_ACLS();
	umask(077);
	EXPECT_EQ(0, set_acl("d", DEFAULT, acl));
	EXPECT_EQ(0755, mode_of("d"));
	EXPECT_TRUE(no_acl("d", ACCESS));
	EXPECT_EQ(sizeof(DEFAULT), names_size("d"));

	/* The umask does not apply; what the creator does not want to give does. */
	new_file("d/f", 0666);
	EXPECT_EQ(0660, mode_of("d/f"));
	EXPECT_TRUE(acl_is("d/f", ACCESS, acl_of(6, 6, 5, 6, 0)));
	EXPECT_TRUE(no_acl("d/f", DEFAULT));
	new_file("d/g", 0604);
	EXPECT_EQ(0600, mode_of("d/g"));
	EXPECT_TRUE(acl_is("d/g", ACCESS, acl_of(6, 6, 5, 0, 0)));
	must(!mkdir("d/d", 0777));
	EXPECT_EQ(0770, mode_of("d/d"));
	EXPECT_TRUE(acl_is("d/d", ACCESS, acl));
	EXPECT_TRUE(acl_is("d/d", DEFAULT, acl));
	EXPECT_EQ(sizeof(ACCESS) + sizeof(DEFAULT), names_size("d/d"));
	must(!mkfifo("d/p", 0666));
	EXPECT_TRUE(acl_is("d/p", ACCESS, acl_of(6, 6, 5, 6, 0)));
	must(!symlink("f", "d/l"));
	EXPECT_EQ(0777, mode_of("d/l"));
	EXPECT_EQ(0, names_size("d/l"));
	fd = open("d", O_TMPFILE | O_RDWR, 0666);
	must(fd >= 0);
	EXPECT_EQ(sizeof(acl), RET(fgetxattr(fd, ACCESS, got, sizeof(got))));
	close(fd);

	/* Without a list the umask applies, to each kind. */
	must(!removexattr("d", DEFAULT));
	new_file("d/u", 0666);
	EXPECT_EQ(0600, mode_of("d/u"));
	must(!mkdir("d/v", 0777));
	EXPECT_EQ(0700, mode_of("d/v"));
	must(!mkfifo("d/w", 0666));
	EXPECT_EQ(0600, mode_of("d/w"));
	must(!symlink("f", "d/x"));
	EXPECT_EQ(0777, mode_of("d/x"));
	EXPECT_EQ(0, names_size("d/u"));
	fd = open("d", O_TMPFILE | O_RDWR, 0666);
	must(fd >= 0);
	must(!fchmod(fd, 0666));
	close(fd);
}

/* The same without lists, be it that the kernel has none. */
TEST_F(xattr, umask)
{
	struct stat st;
	int fd;

	umask(027);
	new_file("u", 0666);
	EXPECT_EQ(0640, mode_of("u"));
	must(!mkdir("v", 0777));
	EXPECT_EQ(0750, mode_of("v"));
	fd = open(".", O_TMPFILE | O_RDWR, 0666);
	must(fd >= 0);
	must(!fstat(fd, &st));
	EXPECT_EQ(0640, st.st_mode & 0777);
	close(fd);
}

/* ---- never half of a value ---- */

static int stop;

/* Values are 1 to 20000 bytes that are all the same, and tell the size. */
static void *set_values(void *arg)
{
	unsigned int i = (uintptr_t)arg;
	char value[20000], name[32];

	while (!get(&stop)) {
		size_t size = 1 + (i * 7919 % sizeof(value));

		sprintf(name, "trusted.%u", i % 3);
		memset(value, size % 251, size);
		if (i++ % 5)
			setxattr("f", name, value, size, 0);
		else
			removexattr("f", name);
	}
	return NULL;
}

static void *get_values(void *arg)
{
	char value[20000], name[32];
	unsigned long seen = 0;
	unsigned int i = 0;

	while (!get(&stop)) {
		long n;

		sprintf(name, "trusted.%u", i++ % 3);
		n = getxattr("f", name, value, sizeof(value));
		if (n < 0) {
			must(errno == ENODATA);
			continue;
		}
		must(n > 0 && (unsigned char)value[0] == n % 251);
		must(!memcmp(value, value + 1, n - 1));
		seen++;
		n = listxattr("f", value, sizeof(value));
		must(n >= 0 && !(n % sizeof("trusted.0")));
	}
	return (void *)seen;
}

TEST_F(xattr, values_are_whole)
{
	pthread_t setters[2], getters[2];
	unsigned long seen = 0;
	uintptr_t i;
	void *ret;

	put(&stop, 0);
	for (i = 0; i < 2; i++) {
		must(!pthread_create(&setters[i], NULL, set_values, (void *)i));
		must(!pthread_create(&getters[i], NULL, get_values, NULL));
	}
	sleep(effort(8));
	put(&stop, 1);
	for (i = 0; i < 2; i++) {
		must(!pthread_join(setters[i], NULL));
		must(!pthread_join(getters[i], &ret));
		seen += (uintptr_t)ret;
	}
	EXPECT_GT(seen, 10);
	for (i = 0; i < 3; i++) {
		char name[32];

		sprintf(name, "trusted.%u", (unsigned int)i);
		removexattr("f", name);
	}
	EXPECT_EQ(0, names_size("f"));
}

/* ---- what only a cowmem mount does ---- */

TEST_F(xattr, lists_count)
{
	const struct acl acl = acl_of(7, 6, 5, 7, 0);
	int i;

	if (strcmp(variant->type, "cowmem"))
		SKIP(return, "on a tmpfs lists do not count");
	NEED_ACLS();
	remount(self->dir, "cowmem", "nr_inodes=3,mode=755");
	new_file("f", 0600);
	/* 80 bytes each, whether set or inherited */
	EXPECT_EQ(0, set_acl(".", DEFAULT, acl));
	EXPECT_EQ(0, set_acl(".", ACCESS, acl));
	for (i = 0; i < 3; i++)
		EXPECT_EQ(0, set_acl("f", ACCESS, acl));
	EXPECT_EQ(0, RET(setxattr("f", "user.a", big, 1024 - 3 * 80 - 46, 0)));
	must(!removexattr("f", ACCESS));
	EXPECT_EQ(0, RET(setxattr("f", "user.b", big, 34, 0)));
	must(!chmod("f", 0600));
	EXPECT_EQ(-ENOSPC, set_acl("f", ACCESS, acl));
	EXPECT_EQ(0600, mode_of("f"));
	EXPECT_EQ(-ENOSPC, RET(mknod("g", S_IFREG | 0600, 0)));
	/* There is always room to change one. */
	EXPECT_EQ(0, RET(chmod(".", 0700)));
	EXPECT_TRUE(acl_is(".", ACCESS, acl_of(7, 6, 5, 0, 0)));
	/* The root directory's mode is that of the mount as well. */
	must(!mount(NULL, self->dir, NULL, MS_REMOUNT, "mode=750"));
	EXPECT_TRUE(acl_is(".", ACCESS, acl_of(7, 6, 5, 5, 0)));
	must(!unlink("f"));
	EXPECT_EQ(1, free_inodes());
	new_file("f", 0600);
	EXPECT_TRUE(acl_is("f", ACCESS, acl_of(6, 6, 5, 0, 0)));
	must(!unlink("f"));
	must(!removexattr(".", ACCESS));
	must(!removexattr(".", DEFAULT));
	EXPECT_EQ(2, free_inodes());
}

TEST_F(xattr, clones_have_none)
{
	const struct acl acl = acl_of(7, 6, 5, 7, 0);
	char path[64];
	int fd, to, clone;

	if (strcmp(variant->type, "cowmem"))
		SKIP(return, "a tmpfs has no clones");
	must(!setxattr("f", "trusted.a", "1", 1, 0));
	must(!setxattr("f", "user.a", "1", 1, 0));
	if (self->has_acls) {
		EXPECT_EQ(0, set_acl("f", ACCESS, acl));
		EXPECT_EQ(0, set_acl(".", DEFAULT, acl));
	}
	fd = open("f", O_RDWR);
	must(fd >= 0);
	clone = cloned(fd);
	EXPECT_EQ(0, RET(flistxattr(clone, NULL, 0)));
	EXPECT_EQ(0, RET(fsetxattr(clone, "trusted.b", "2", 1, 0)));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", clone);
	must(!linkat(AT_FDCWD, path, AT_FDCWD, "clone", AT_SYMLINK_FOLLOW));
	EXPECT_EQ(sizeof("trusted.b"), names_size("clone"));
	EXPECT_EQ(0600, mode_of("clone"));
	EXPECT_EQ(-ENODATA, RET(fgetxattr(fd, "trusted.b", got, 1)));
	if (self->has_acls) {
		EXPECT_EQ(0, set_acl("clone", ACCESS, acl));
		EXPECT_TRUE(acl_is("clone", ACCESS, acl));
	}
	EXPECT_EQ(0, RET(flistxattr(snapshot(fd), NULL, 0)));

	/* FICLONE is about content, and a write as any other. */
	new_file("to", 0600);
	must(!removexattr("to", ACCESS) || !self->has_acls);
	must(!setxattr("to", "trusted.t", "3", 1, 0));
	give_caps("to");
	to = open("to", O_RDWR);
	must(to >= 0);
	EXPECT_EQ(0, RET(ioctl(to, FICLONE, fd)));
	EXPECT_TRUE(value_is("to", "trusted.t", "3", 1));
	EXPECT_EQ(sizeof("trusted.t"), names_size("to"));
	EXPECT_FALSE(keeps_caps("to"));
}

TEST(regions_of_the_device_have_none)
{
	int fd = file_of(region(), 0);

	EXPECT_EQ(-EOPNOTSUPP, RET(fsetxattr(fd, "user.a", "1", 1, 0)));
	EXPECT_EQ(-EOPNOTSUPP, RET(fgetxattr(fd, "trusted.a", got, 1)));
	EXPECT_EQ(-EOPNOTSUPP, RET(fgetxattr(fd, ACCESS, got, 1)));
	EXPECT_EQ(0, RET(flistxattr(fd, got, sizeof(got))));
}

/* ---- the same at random on both ---- */

static const char * const random_paths[] = { "f", "d", "l", "p", "d/f" };
static const char *random_names[9] = {
	"trusted.a", "trusted.ab", "trusted.b", "security.a", "security.b",
};

static unsigned int nr_names = 5;

/* One of the calls that the random numbers want; what came of it is in @text. */
static void any_call(uint64_t seed, char *text, size_t size)
{
	static char list[LIST_MAX];
	const char *path, *name;
	struct acl acl;
	bool is_acl;
	size_t n;
	long ret;

	rng_state = seed;
	path = random_paths[below(ARRAY_SIZE(random_paths))];
	name = random_names[below(nr_names)];
	is_acl = name[1] == 'y';
	n = below(4) ? below(40) : below(VALUE_MAX);
	switch (below(9)) {
	case 0:
		ret = RET(lremovexattr(path, name));
		snprintf(text, size, "remove %s %s: %ld", path, name, ret);
		break;
	case 1:
		ret = RET(llistxattr(path, list, below(2) ? 0 : below(100)));
		snprintf(text, size, "list %s: %ld", path, ret);
		break;
	case 2:
		ret = RET(chmod(path, n & 07777));
		snprintf(text, size, "chmod %s %zo: %ld %o", path, n & 07777, ret,
			 mode_of(path));
		break;
	case 3:
		ret = RET(unlink("d/f"));
		new_file("d/f", n & 0777);
		snprintf(text, size, "new file %zo: %o", n & 0777, mode_of("d/f"));
		break;
	case 4:
	case 5:
		memset(got, 0, sizeof(got));
		ret = RET(lgetxattr(path, name, got, is_acl ? sizeof(got) : n));
		snprintf(text, size, "get %s %s %zu: %ld %.60s %d %d", path, name, n, ret,
			 is_acl ? "" : got, ret > 30 ? got[30] : 0, mode_of(path));
		break;
	default:
		acl = acl_of(below(8), below(8), below(8), below(8), below(8));
		memset(big, 'a' + below(26), VALUE_MAX);
		ret = RET(lsetxattr(path, name, is_acl ? (void *)&acl : big,
				    is_acl ? sizeof(acl) : n, below(3)));
		snprintf(text, size, "set %s %s %zu: %ld %o", path, name, n, ret,
			 mode_of(path));
	}
}

TEST(at_random_as_tmpfs)
{
	char ours[DIR_SIZE], theirs[] = "/tmp/xattr.XXXXXX", a[256], b[256];
	int i, n = random_ops(20000);
	uint64_t seed;

	make_place(ours);
	must(mkdtemp(theirs));
	mount_at(ours, "cowmem", "mode=755");
	mount_at(theirs, "tmpfs", "mode=755");
	if (!has_space(TRUSTED))
		SKIP(return, "this tmpfs has no attributes: CONFIG_TMPFS_XATTR");
	if (has_space(USER)) {
		random_names[nr_names++] = "user.a";
		random_names[nr_names++] = "user.b";
	}
	if (has_acls()) {
		random_names[nr_names++] = ACCESS;
		random_names[nr_names++] = DEFAULT;
	}
	for (i = 0; i < 2; i++) {
		must(!chdir(i ? ours : theirs));
		new_file("f", 0644);
		must(!mkdir("d", 0755));
		new_file("d/f", 0644);
		must(!symlink("f", "l"));
		must(!mkfifo("p", 0644));
	}
	rng_init();
	for (i = 0, seed = rng(); i < n; i++, seed = rng()) {
		must(!chdir(theirs));
		any_call(seed, a, sizeof(a));
		must(!chdir(ours));
		any_call(seed, b, sizeof(b));
		ASSERT_STREQ(a, b);
	}
}

/* Copies of this program are run for what they may do. */
static void __attribute__((constructor)) told_to_tell(void)
{
	if (getenv("XATTR_TELL_CAPS"))
		tell_caps();
}

TEST_HARNESS_MAIN
