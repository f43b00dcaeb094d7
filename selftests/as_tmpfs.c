// SPDX-License-Identifier: GPL-2.0-only
/*
 * Promise: `mount -t cowmem` is a tmpfs.
 *
 * A fresh tmpfs and a fresh cowmem are mounted with the same options.  The same is done
 * to both, and what came of it is compared: return values, errno, data, what stat,
 * statfs and getdents say, which times moved.  First come situations, one by one;
 * where the two differ on purpose, the list says why, and then they have to differ.
 * Then come random sequences of calls, of several flavours, in which nothing may differ.
 *
 *	as_tmpfs [WORD]...		what has one of the words in its name
 *	as_tmpfs --self [WORD]...	two tmpfs: is the test itself steady?
 *	as_tmpfs --differences		print the differences on purpose
 *	as_tmpfs --show WORD...		print what comes of it
 *
 * COWMEM_SEED and COWMEM_OPS do a random sequence again.
 */
#include <dirent.h>
#include <grp.h>
#include <limits.h>
#include <stddef.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/mount.h>
#include <sys/sendfile.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <linux/falloc.h>
#include <linux/fs.h>

#include "../kselftest.h"
#include "common.h"
#include "files.h"
#include "outcome.h"

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE	1
#define RENAME_EXCHANGE		2
#define RENAME_WHITEOUT		4
#endif

enum {
	SOMEBODY = 1000,
	SLOTS = 10,			/* descriptors that a sequence keeps open */
	MAPS = 4,			/* and mappings */
	NAMES = 200,			/* what is in a tree, at most */
	PATH_LEN = 2000,
	DEPTH = 4,
	FILE_PAGES = 48,		/* a file is hardly ever larger */
};

/* A part of a file that is mapped */
struct mapping {
	char *mem;
	size_t pages, first;
	bool shared, writable;
	int fd;
};

struct side {
	const char *type;		/* of file system */
	char root[64];			/* where it is mounted */
	int slot[SLOTS];		/* descriptors, or -1 */
	struct mapping map[MAPS];
};

static struct side sides[2] = { { .type = "tmpfs" }, { .type = "cowmem" } };
static struct outcome *outcomes[2];
static bool self, show;		/* --self, --show */

/* ---- to note things ---- */

static void note_hash(const char *what, const void *mem, size_t len)
{
	const unsigned char *p = mem;
	uint64_t hash = 0xcbf29ce484222325ULL;
	size_t i;

	for (i = 0; i < len; i++)
		hash = (hash ^ p[i]) * 0x100000001b3ULL;
	note("%s: %zu bytes #%08x", what, len, (unsigned int)(hash >> 32));
}

static void note_stat_of(const char *what, const struct stat *st)
{
	note("%s: mode %o nlink %lu owner %u:%u size %lld blocks %lld blksize %ld dev %x", what,
	     st->st_mode, (unsigned long)st->st_nlink, st->st_uid, st->st_gid,
	     (long long)st->st_size, (long long)st->st_blocks, (long)st->st_blksize,
	     (unsigned int)st->st_rdev);
}

/* A path, or the end of it */
static const char *brief(const char *path)
{
	size_t len = strlen(path);

	return len > 60 ? path + len - 60 : path;
}

static void note_stat(const char *path)
{
	struct stat st;

	if (lstat(path, &st))
		note("%s: %s", brief(path), error());
	else
		note_stat_of(brief(path), &st);
}

static void note_fstat(int fd)
{
	struct stat st;

	if (fstat(fd, &st))
		note("fstat: %s", error());
	else
		note_stat_of("fstat", &st);
}

/* The type is a difference of its own. */
static void note_statfs(void)
{
	struct statfs st;

	if (statfs(".", &st)) {
		note("statfs: %s", error());
		return;
	}
	note("statfs: bsize %ld frsize %ld namelen %ld flags %lx blocks %lu free %lu avail %lu files %lu free %lu",
	     (long)st.f_bsize, (long)st.f_frsize, (long)st.f_namelen, (long)st.f_flags,
	     (unsigned long)st.f_blocks, (unsigned long)st.f_bfree,
	     (unsigned long)st.f_bavail, (unsigned long)st.f_files,
	     (unsigned long)st.f_ffree);
}

/* All of a file, if it is not too long for that */
static void note_content(int fd)
{
	static char *buf;
	ssize_t n;

	if (!buf)
		buf = anon(4 * FILE_PAGES);
	n = pread(fd, buf, 4 * FILE_PAGES * pgsz(), 0);
	if (n < 0)
		note("content: %s", error());
	else
		note_hash("content", buf, n);
}

static void note_file(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);

	if (fd < 0) {
		note("open %s: %s", brief(path), error());
		return;
	}
	note_content(fd);
	close(fd);
}

static void note_link(const char *path, size_t room)
{
	char text[PATH_MAX + 1];
	ssize_t n = readlink(path, text, room < sizeof(text) ? room : sizeof(text));

	if (n < 0)
		note("readlink %s: %s", brief(path), error());
	else
		note_hash("readlink", text, n);
}

/* ---- directories ---- */

struct entry {
	char name[NAME_MAX + 1];
	unsigned char type;
	ino_t ino;
};

struct listing {
	size_t n;
	struct entry entry[NAMES];
};

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct entry *)a)->name, ((const struct entry *)b)->name);
}

static void add_entry(struct listing *l, const struct dirent *d)
{
	struct entry *e = &l->entry[l->n++];

	must(l->n < NAMES);
	snprintf(e->name, sizeof(e->name), "%s", d->d_name);
	e->type = d->d_type;
	e->ino = d->d_ino;
}

/* Read what is left of a directory, in the order of names. */
static void read_rest(DIR *dir, struct listing *l)
{
	struct dirent *d;

	while ((d = readdir(dir)))
		add_entry(l, d);
	qsort(l->entry, l->n, sizeof(l->entry[0]), by_name);
}

static bool is_dots(const char *name)
{
	return !strcmp(name, ".") || !strcmp(name, "..");
}

/* What it says of an entry is what stat() says of it. */
static void check_entry(int dir, const struct entry *e)
{
	struct stat st;

	if (fstatat(dir, e->name, &st, AT_SYMLINK_NOFOLLOW))
		return;
	if (e->type != IFTODT(st.st_mode))
		note("%s: d_type %d, mode %o", e->name, e->type, st.st_mode);
	/* The root's parent is in another file system. */
	if (strcmp(e->name, "..") && e->ino != st.st_ino)
		note("%s: d_ino is not its number", e->name);
}

static void note_dir_of(DIR *dir)
{
	static struct listing l;
	size_t i;

	l.n = 0;
	read_rest(dir, &l);
	note("%zu entries", l.n);
	for (i = 0; i < l.n; i++) {
		note("  %.40s (%zu) type %d", l.entry[i].name, strlen(l.entry[i].name),
		     l.entry[i].type);
		check_entry(dirfd(dir), &l.entry[i]);
	}
}

static void note_dir(const char *path)
{
	DIR *dir = opendir(path);

	if (!dir) {
		note("opendir %s: %s", brief(path), error());
		return;
	}
	note_dir_of(dir);
	closedir(dir);
}

/* ---- trees ---- */

struct tree {
	int n;
	char path[NAMES][PATH_LEN];
	mode_t mode[NAMES];
};

/* What is below @dir, parents first, in the order of names */
static void walk(const char *dir, struct tree *t, int depth)
{
	struct listing *l = calloc(1, sizeof(*l));
	DIR *d = opendir(*dir ? dir : ".");
	struct stat st;
	size_t i;

	must(l && d);
	read_rest(d, l);
	closedir(d);
	for (i = 0; i < l->n; i++) {
		char *path = t->path[t->n];

		if (is_dots(l->entry[i].name))
			continue;
		must(t->n < NAMES - 1);
		must(snprintf(path, PATH_LEN, "%s%s%s", dir, *dir ? "/" : "",
			      l->entry[i].name) < PATH_LEN);
		must(!lstat(path, &st));
		t->mode[t->n++] = st.st_mode;
		if (S_ISDIR(st.st_mode)) {
			must(depth < 64);
			walk(path, t, depth + 1);
		}
	}
	free(l);
}

/* All there is, but the times */
static void note_tree(void)
{
	static struct tree t;
	int i;

	t.n = 0;
	walk("", &t, 0);
	note("%d in the tree", t.n);
	note_stat(".");
	for (i = 0; i < t.n; i++) {
		note_stat(t.path[i]);
		if (S_ISREG(t.mode[i]))
			note_file(t.path[i]);
		else if (S_ISLNK(t.mode[i]))
			note_link(t.path[i], PATH_MAX);
	}
	note_statfs();
}

/* ---- the two file systems ---- */

static int mount_side(const struct side *s, unsigned long flags, const char *options)
{
	return mount("as_tmpfs", s->root, s->type, flags, options);
}

static void mount_both(unsigned long flags, const char *options)
{
	size_t i, k;

	for (i = 0; i < 2; i++) {
		if (mount_side(&sides[i], flags, sized(options))) {
			fprintf(stderr, "# mount -t %s -o %s: %s\n", sides[i].type, options,
				strerror(errno));
			exit(KSFT_FAIL);
		}
		for (k = 0; k < SLOTS; k++)
			sides[i].slot[k] = -1;
		memset(sides[i].map, 0, sizeof(sides[i].map));
	}
}

/* Files are released a little after they are closed.  Returns whether it went. */
static bool umount_both(void)
{
	bool ok = true;
	size_t i, k;

	must(!chdir("/"));
	for (i = 0; i < 2; i++) {
		for (k = 0; k < 100 && umount(sides[i].root) && errno == EBUSY; k++)
			usleep(20000);
		if (k == 100) {
			ksft_print_msg("%s: cannot be unmounted\n", sides[i].type);
			umount2(sides[i].root, MNT_DETACH);
			ok = false;
		}
	}
	return ok;
}

static char base[40] = "/tmp/as_tmpfs.XXXXXX";

/* Nobody else sees the mounts. */
static void make_places(void)
{
	size_t i;

	must(mkdtemp(base));
	must(!chmod(base, 0755));
	for (i = 0; i < 2; i++) {
		snprintf(sides[i].root, sizeof(sides[i].root), "%s/%c", base, 'a' + (int)i);
		must(!mkdir(sides[i].root, 0755));
	}
	must(!unshare(CLONE_NEWNS));
	must(!mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
}

static void remove_places(void)
{
	rmdir(sides[0].root);
	rmdir(sides[1].root);
	rmdir(base);
}

static void begin_outcome(struct outcome *o)
{
	o->used = 0;
	o->text[0] = 0;
	o->skipped = false;
	o->late = false;
	out = o;
}

/* Does a store or a load work? 0 or the signal */
static const char *access_name(volatile char *p, bool write, char c)
{
	int sig = write ? poke(p, c) : touch(p, false);

	return sig == SIGBUS ? "SIGBUS" : sig == SIGSEGV ? "SIGSEGV" : "done";
}

/* ---- random steps ---- */

/*
 * A step draws random numbers as it goes.  It is done on one side, then the generator
 * is set back and it is done on the other: as long as the sides agree, they draw the same.
 */
struct flavour {
	const char *name;
	const char *options;
	unsigned long flags;		/* of the mount */
	int steps;
	bool seeks;			/* or allocates: see step_seek() */
	bool others;			/* steps are done by others than root */
	bool timed;			/* which times move?  Nothing is mapped */
	bool fills;			/* until there is no room */
};

/* Where a sequence is, in shared memory: the child that does it may die. */
struct place {
	int n;
	const char *step;
};

static struct place *place;
static const struct flavour *flavour;
static struct tree there;		/* on the first side, before the step */

static bool one_in(int n)
{
	return !below(n);
}

/* Draw a string that lives for some more draws. */
static char *text_for_path(void)
{
	static char text[8][PATH_LEN + 300];
	static unsigned int next;

	return text[next++ % 8];
}

static const char *new_name(void)
{
	static char longest[NAME_MAX + 2];

	if (one_in(60)) {
		memset(longest, 'n', sizeof(longest));
		longest[NAME_MAX + below(2)] = 0;
		return longest;
	}
	return (const char *[]){ "a", "b", "c", "d", "e", "f", "g", "h.i" }[below(8)];
}

static const char *existing(mode_t type)
{
	int i, at;

	if (!there.n)
		return ".";
	at = below(there.n);
	for (i = 0; i < there.n; i++) {
		int k = (at + i) % there.n;

		if (!type || (there.mode[k] & S_IFMT) == type)
			return there.path[k];
	}
	return ".";
}

static int slashes(const char *path)
{
	int n = 0;

	for (; *path; path++)
		n += *path == '/';
	return n;
}

static const char *fresh_path(void)
{
	const char *dir = one_in(3) ? "." : existing(S_IFDIR);
	char *path = text_for_path();

	if (!strcmp(dir, ".") || slashes(dir) >= DEPTH || strlen(dir) > 1000)
		return new_name();
	sprintf(path, "%s/%s", dir, new_name());
	return path;
}

static const char *odd_path(void)
{
	static const char * const odd[] = {
		".", "..", "./", "a/", "", "a/.", "b/..", "c/../d", "./././e", "a//b", "/",
	};
	char *path = text_for_path();

	if (one_in(2)) {
		sprintf(path, "%s/%s", existing(0), new_name());
		return path;
	}
	if (one_in(2)) {
		sprintf(path, "%s%s", existing(0), one_in(2) ? "/" : "/.");
		return path;
	}
	/* What is above the root is not compared. */
	return odd[below(ARRAY_SIZE(odd))];
}

/* Never ".." of the root: it is not in the mount. */
static const char *any_path(void)
{
	const char *path = one_in(12) ? odd_path() : one_in(3) ? fresh_path() : existing(0);

	return strstr(path, "..") || path[0] == '/' ? "b/.." : path;
}

static const char *any_file(void)
{
	return one_in(8) ? any_path() : existing(S_IFREG);
}

static const char *any_dir(void)
{
	return one_in(8) ? any_path() : existing(S_IFDIR);
}

/* An open descriptor, or -1 */
static int any_slot(struct side *s)
{
	int i, at = below(SLOTS);

	for (i = 0; i < SLOTS; i++)
		if (s->slot[(at + i) % SLOTS] >= 0)
			return s->slot[(at + i) % SLOTS];
	return -1;
}

static mode_t any_mode(void)
{
	static const mode_t modes[] = {
		0644, 0600, 0755, 0777, 0666, 01777, 02775, 04755, 06755, 02644, 0, 07777,
	};

	return modes[below(ARRAY_SIZE(modes))];
}

static off_t any_offset(void)
{
	off_t at = below(FILE_PAGES * pgsz());

	return one_in(2) ? at - at % pgsz() : at;
}

static size_t any_length(void)
{
	return flavour->fills && one_in(4) ? 1 + below(30 * pgsz()) :
	       one_in(3) ? (1 + below(3)) * pgsz() : 1 + below(2 * pgsz());
}

static char *data(size_t n)
{
	static char *all;
	size_t i, size = 64 * pgsz();

	if (!all) {
		all = anon(64);
		for (i = 0; i < size; i++)
			all[i] = i * 0x9e3779b1u >> 13;
	}
	return all + below(size - n);
}

/* Opening a fifo is not to wait. */
static int any_flags(void)
{
	static const struct { int flag, one_in; } extra[] = {
		{ O_CREAT, 2 }, { O_EXCL, 5 }, { O_TRUNC, 6 }, { O_APPEND, 4 },
		{ O_DIRECTORY, 10 }, { O_NOFOLLOW, 6 }, { O_PATH, 12 }, { O_NOATIME, 10 },
		{ O_SYNC, 10 }, { O_TMPFILE, 16 },
	};
	int flags = O_CLOEXEC | O_NONBLOCK | (one_in(20) ? 3 : one_in(4) ? below(3) : O_RDWR);
	size_t i;

	for (i = 0; i < ARRAY_SIZE(extra); i++)
		if (one_in(extra[i].one_in))
			flags |= extra[i].flag;
	return flags;
}

static void put_in_slot(struct side *s, int i, int fd)
{
	if (s->slot[i] >= 0)
		close(s->slot[i]);
	s->slot[i] = fd;
}

static void step_open(struct side *s)
{
	int i = below(SLOTS), flags = any_flags(), fd;
	const char *path = (flags & O_TMPFILE) == O_TMPFILE ? any_dir() : any_path();
	mode_t mode = any_mode();

	fd = open(path, flags, mode);
	note("open(%s, %#o, %o) in slot %d: %s", path, flags, mode, i,
	     fd < 0 ? error() : "ok");
	if (fd < 0)
		return;
	note("F_GETFL %#x", fcntl(fd, F_GETFL));
	note_fstat(fd);
	put_in_slot(s, i, fd);
}

static void step_tmpfile(struct side *s)
{
	int i = below(SLOTS);
	const char *path = any_dir();
	int fd = open(path, O_TMPFILE | O_RDWR | O_CLOEXEC | (one_in(4) ? O_EXCL : 0), 0640);

	note("open(%s, O_TMPFILE) in slot %d: %s", path, i, fd < 0 ? error() : "ok");
	if (fd < 0)
		return;
	note_fstat(fd);
	put_in_slot(s, i, fd);
}

static void step_close(struct side *s)
{
	int i = below(SLOTS);

	note("close slot %d: %s", i, s->slot[i] < 0 ? "is not open" : "ok");
	put_in_slot(s, i, -1);
}

static void step_mkdir(struct side *s)
{
	const char *path = one_in(4) ? any_path() : fresh_path();
	mode_t mode = any_mode();

	note_ret("mkdir", mkdir(path, mode), true);
	note("%s %o", path, mode);
	note_stat(path);
}

static void step_rmdir(struct side *s)
{
	const char *path = any_dir();

	note("rmdir %s", path);
	CALL(rmdir(path));
}

static void step_mknod(struct side *s)
{
	static const mode_t types[] = { S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK, S_IFREG, 0, S_IFDIR };
	const char *path = one_in(4) ? any_path() : fresh_path();
	mode_t mode = types[below(ARRAY_SIZE(types))] | any_mode();
	/* The null device, or none */
	dev_t dev = one_in(2) && S_ISCHR(mode) ? makedev(1, 3) : makedev(240, 77);

	note("mknod %s %o", path, mode);
	CALL(mknod(path, mode, dev));
	note_stat(path);
}

static void step_link(struct side *s)
{
	const char *from = any_path(), *to = one_in(4) ? any_path() : fresh_path();
	int flags = one_in(4) ? AT_SYMLINK_FOLLOW : 0;

	note("linkat %s %s %#x", from, to, flags);
	CALL(linkat(AT_FDCWD, from, AT_FDCWD, to, flags));
	note_stat(from);
	note_stat(to);
}

/* That is how a file of O_TMPFILE gets its name. */
static void step_link_fd(struct side *s)
{
	int fd = any_slot(s);
	const char *to = one_in(4) ? any_path() : fresh_path();
	char from[40];
	long ret;

	note("linkat of a descriptor, to %s", to);
	snprintf(from, sizeof(from), "/proc/self/fd/%d", fd);
	ret = one_in(3) ? linkat(fd, "", AT_FDCWD, to, AT_EMPTY_PATH) :
	      linkat(AT_FDCWD, from, AT_FDCWD, to, AT_SYMLINK_FOLLOW);
	note_ret("linkat", ret, true);
	note_stat(to);
}

static const char *target(void)
{
	static char text[PATH_MAX + 2];
	static const int lengths[] = { 127, 128, 1000, PATH_MAX - 1, PATH_MAX, PATH_MAX + 1 };

	if (!one_in(6))
		return one_in(3) ? new_name() : one_in(10) ? "" : existing(0);
	memset(text, 't', sizeof(text));
	text[lengths[below(ARRAY_SIZE(lengths))]] = 0;
	return text;
}

static void step_symlink(struct side *s)
{
	const char *to = target(), *path = one_in(4) ? any_path() : fresh_path();

	note("symlink of %zu bytes at %s", strlen(to), path);
	CALL(symlink(to, path));
	note_stat(path);
	note_link(path, PATH_MAX);
}

static void step_readlink(struct side *s)
{
	note_link(one_in(4) ? any_path() : existing(S_IFLNK), 1 + below(200));
}

static void step_unlink(struct side *s)
{
	const char *path = any_path();
	int flags = one_in(8) ? AT_REMOVEDIR : 0;

	note("unlink %s %#x", path, flags);
	CALL(unlinkat(AT_FDCWD, path, flags));
}

static void step_rename(struct side *s)
{
	const char *from = any_path(), *to = one_in(2) ? any_path() : fresh_path();

	note("rename %s %s", from, to);
	CALL(rename(from, to));
	note_stat(from);
	note_stat(to);
}

static int rename_with(const char *from, const char *to, unsigned int flags)
{
	return syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, flags);
}

static void step_rename_with_flags(struct side *s)
{
	static const unsigned int some[] = {
		RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_EXCHANGE, 0,
		RENAME_NOREPLACE | RENAME_EXCHANGE, 8, RENAME_EXCHANGE | RENAME_WHITEOUT,
	};
	const char *from = any_path(), *to = any_path();
	unsigned int flags = some[below(ARRAY_SIZE(some))];

	note("renameat2 %s %s %u", from, to, flags);
	CALL(rename_with(from, to, flags));
	note_stat(from);
	note_stat(to);
}

static void step_chmod(struct side *s)
{
	const char *path = any_path();
	mode_t mode = any_mode();
	int fd = any_slot(s);

	note("chmod %s %o", path, mode);
	if (one_in(3)) {
		CALL(fchmod(fd, mode));
		note_fstat(fd);
	} else {
		CALL(chmod(path, mode));
		note_stat(path);
	}
}

static id_t any_id(void)
{
	return ((const id_t[]){ 0, SOMEBODY, NOBODY, -1 })[below(4)];
}

static void step_chown(struct side *s)
{
	const char *path = any_path();
	uid_t uid = any_id(), gid = any_id();
	int fd = any_slot(s);

	note("chown %s %d %d", path, (int)uid, (int)gid);
	switch (below(3)) {
	case 0:
		CALL(chown(path, uid, gid));
		break;
	case 1:
		CALL(lchown(path, uid, gid));
		break;
	default:
		CALL(fchown(fd, uid, gid));
		note_fstat(fd);
	}
	note_stat(path);
}

/* Those that were asked for come back to the nanosecond. */
static void step_utimes(struct side *s)
{
	const long odd[] = { UTIME_NOW, UTIME_OMIT, 0, 999999999, 1000000000, 123456789 };
	const long long secs[] = { 0, 1, -5, 1LL << 33, 2000000000 };
	const char *path = any_path();
	struct timespec ts[2];
	struct stat st;
	int i;

	for (i = 0; i < 2; i++)
		ts[i] = (struct timespec) {
			secs[below(ARRAY_SIZE(secs))], odd[below(ARRAY_SIZE(odd))],
		};
	note("utimensat %s", path);
	CALL(utimensat(AT_FDCWD, path, ts, one_in(2) ? AT_SYMLINK_NOFOLLOW : 0));
	if (stat(path, &st))
		return;
	if (ts[0].tv_nsec != UTIME_NOW && ts[0].tv_nsec != UTIME_OMIT)
		note("atime is%s it", memcmp(&st.st_atim, &ts[0], sizeof(ts[0])) ? " not" : "");
	if (ts[1].tv_nsec != UTIME_NOW && ts[1].tv_nsec != UTIME_OMIT)
		note("mtime is%s it", memcmp(&st.st_mtim, &ts[1], sizeof(ts[1])) ? " not" : "");
}

static void step_truncate(struct side *s)
{
	const char *path = any_file();
	off_t size = one_in(30) ? -1 : any_offset();
	int fd = any_slot(s);

	note("truncate %s %lld", path, (long long)size);
	if (one_in(2)) {
		CALL(truncate(path, size));
		note_stat(path);
	} else {
		CALL(ftruncate(fd, size));
		note_fstat(fd);
	}
}

static void step_write(struct side *s)
{
	int fd = any_slot(s);
	size_t n = any_length();
	const char *from = data(n);
	off_t at = any_offset();

	note("write %zu bytes at %lld", n, (long long)at);
	if (one_in(3))
		CALL(write(fd, from, n));
	else
		CALL(pwrite(fd, from, n, at));
	note_fstat(fd);
}

static void step_write_by_path(struct side *s)
{
	const char *path = any_file();
	size_t n = any_length();
	int fd = open(path, O_WRONLY | O_CLOEXEC | O_NONBLOCK | (one_in(2) ? O_APPEND : 0));
	struct iovec iov[2];

	note("write %zu bytes to %s: %s", n, path, fd < 0 ? error() : "open");
	if (fd < 0)
		return;
	iov[0] = (struct iovec){ data(n), n / 3 };
	iov[1] = (struct iovec){ data(n), n - n / 3 };
	CALL(pwritev(fd, iov, 2, any_offset()));
	note_fstat(fd);
	close(fd);
}

static void step_read(struct side *s)
{
	static char *buf;
	int fd = any_slot(s);
	size_t n = below(6 * pgsz());
	ssize_t ret;

	if (!buf)
		buf = anon(6);
	ret = one_in(4) ? read(fd, buf, n) : pread(fd, buf, n, any_offset());
	if (ret < 0)
		note("read: %s", error());
	else
		note_hash("read", buf, ret);
}

static void step_read_by_path(struct side *s)
{
	note_file(any_path());
}

/*
 * What is allocated but not written is data to one and a hole to the other: a sequence
 * either allocates or seeks for data.  If there is no room, some of it stays allocated
 * here, and a tmpfs also lets go of what was allocated there before and not written.
 */
static void step_fallocate(struct side *s)
{
	static const int modes[] = {
		FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, FALLOC_FL_KEEP_SIZE,
		FALLOC_FL_PUNCH_HOLE, FALLOC_FL_COLLAPSE_RANGE, FALLOC_FL_INSERT_RANGE,
	};
	int fd = any_slot(s);
	int mode = modes[flavour->seeks || one_in(2) ? 0 : below(ARRAY_SIZE(modes))];
	off_t at = any_offset(), n = any_length();

	note("fallocate %#x %lld %lld", mode, (long long)at, (long long)n);
	if (CALL(fallocate(fd, mode, at, n)) == -1 && errno == ENOSPC) {
		n += at % pgsz();
		at -= at % pgsz();
		n += -n & (pgsz() - 1);
		CALL(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, n));
	}
	note_fstat(fd);
}

static void step_seek(struct side *s)
{
	int whence = below(flavour->seeks ? 6 : 3), fd = any_slot(s);
	off_t at = one_in(20) ? -5 : any_offset();

	note("lseek %lld %d", (long long)at, whence);
	/* The position in a directory is anybody's guess. */
	note_ret("lseek", lseek(fd, 0, SEEK_CUR) < 0 ? -1 : 0, true);
	CALL(lseek(fd, at, whence));
}

static bool same_file(int a, int b)
{
	struct stat x, y;

	return !fstat(a, &x) && !fstat(b, &y) && x.st_ino == y.st_ino;
}

static bool is_fifo(int fd)
{
	struct stat st;

	return !fstat(fd, &st) && S_ISFIFO(st.st_mode);
}

/*
 * Not at offsets that allow for sharing, which counts only once here.  Nor within one
 * file or into a fifo, if that is not refused: a pipe holds pages of a tmpfs, and copies of
 * ours, so what comes of an overlap, or of a write before the fifo is read, is not the same.
 */
static void step_copy(struct side *s)
{
	int in = any_slot(s), to = any_slot(s), pipes[2];
	loff_t from = any_offset() | 1, at = any_offset() & ~1LL;
	size_t n = any_length();

	note("copy %zu bytes from %lld to %lld", n, (long long)from, (long long)at);
	switch (same_file(in, to) || is_fifo(to) ? 0 : below(3)) {
	case 0:
		CALL(copy_file_range(in, &from, to, &at, n, 0));
		break;
	case 1:
		CALL(sendfile(to, in, &from, n));
		break;
	default:
		must(!pipe2(pipes, O_CLOEXEC | O_NONBLOCK));
		CALL(splice(in, &from, pipes[1], NULL, n < pgsz() ? n : pgsz(), 0));
		CALL(splice(pipes[0], NULL, to, &at, n, SPLICE_F_NONBLOCK));
		close(pipes[0]);
		close(pipes[1]);
	}
	note("%lld %lld", (long long)from, (long long)at);
	note_fstat(to);
}

static void step_stat(struct side *s)
{
	const char *path = any_path();
	struct stat st;

	note_stat(path);
	if (stat(path, &st))
		note("stat: %s", error());
	else
		note_stat_of("stat", &st);
	note_fstat(any_slot(s));
}

static void step_access(struct side *s)
{
	const char *path = any_path();
	int mode = below(8);

	note("faccessat %s %d", path, mode);
	CALL(faccessat(AT_FDCWD, path, mode, one_in(2) ? AT_EACCESS : 0));
}

static void step_statfs(struct side *s)
{
	note_statfs();
}

static void step_list(struct side *s)
{
	note_dir(any_dir());
}

/* An entry that was there all the time is read once; one that was not, once at most. */
static void check_listing(const struct listing *then, const struct listing *seen, int dir)
{
	size_t i, k;

	for (i = 0; i < then->n; i++) {
		const char *name = then->entry[i].name;
		int times = 0;

		for (k = 0; k < seen->n; k++)
			times += !strcmp(seen->entry[k].name, name);
		if (times > 1 || (!times && !faccessat(dir, name, F_OK, AT_SYMLINK_NOFOLLOW)))
			note("%s was read %d times", name, times);
	}
}

static void remove_entry(const char *path)
{
	note("remove %s: %s", path, !unlink(path) || !rmdir(path) ? "ok" : error());
}

/* Which entries come first is not the same, so what is removed is chosen by name. */
static void step_remove_while_reading(struct side *s)
{
	static struct listing then, seen;
	const char *path = any_dir(), *victim[2] = { existing(0), existing(0) };
	const char *new = fresh_path();
	size_t i, first = below(6), victims = below(3);
	struct dirent *d;
	DIR *dir;

	then.n = seen.n = 0;
	dir = opendir(path);
	note("read %s, remove: %s", path, dir ? "ok" : error());
	if (!dir)
		return;
	read_rest(dir, &then);
	rewinddir(dir);
	for (i = 0; i < first && (d = readdir(dir)); i++)
		add_entry(&seen, d);
	for (i = 0; i < victims; i++)
		remove_entry(victim[i]);
	CALL(mknod(new, S_IFREG | 0600, 0));
	read_rest(dir, &seen);
	check_listing(&then, &seen, dirfd(dir));
	closedir(dir);
}

static void step_seekdir(struct side *s)
{
	static struct listing all, rest;
	const char *path = any_dir();
	long at[NAMES];
	size_t i, from = below(8);
	struct dirent *d;
	DIR *dir;

	all.n = rest.n = 0;
	dir = opendir(path);
	note("seekdir in %s: %s", path, dir ? "ok" : error());
	if (!dir)
		return;
	for (at[0] = telldir(dir); (d = readdir(dir)); at[all.n] = telldir(dir))
		add_entry(&all, d);
	note("%zu entries", all.n);
	if (from < all.n) {
		seekdir(dir, at[from]);
		for (i = from; (d = readdir(dir)); i++) {
			add_entry(&rest, d);
			if (i >= all.n || strcmp(d->d_name, all.entry[i].name))
				note("seekdir: another entry at %zu", i);
		}
		note("%zu left", rest.n);
	}
	closedir(dir);
}

static void step_lock(struct side *s)
{
	static const int how[] = { LOCK_SH, LOCK_EX, LOCK_UN };
	static const int types[] = { F_RDLCK, F_WRLCK, F_UNLCK };
	struct flock lock = {
		.l_type = types[below(3)], .l_start = below(100), .l_len = below(50),
	};
	int fd = any_slot(s);

	switch (below(4)) {
	case 0:
		CALL(flock(fd, LOCK_NB | how[below(3)]));
		break;
	case 1:
		CALL(fcntl(fd, F_SETLK, &lock));
		break;
	case 2:
		CALL(fcntl(fd, F_OFD_SETLK, &lock));
		break;
	default:
		CALL(fcntl(fd, F_OFD_GETLK, &lock));
		note("type %d %ld %ld", lock.l_type, (long)lock.l_start, (long)lock.l_len);
	}
}

static void step_sync(struct side *s)
{
	int fd = any_slot(s);

	CALL(fsync(fd));
	CALL(fdatasync(fd));
	CALL(syncfs(fd));
	CALL(sync_file_range(fd, 0, pgsz(), SYNC_FILE_RANGE_WRITE));
	CALL(posix_fadvise(fd, 0, 0, (int)below(6)));
}

/* ---- mappings ---- */

static void step_map(struct side *s)
{
	struct mapping *m = &s->map[below(MAPS)];
	int fd = any_slot(s);
	size_t pages = 1 + below(12), first = below(FILE_PAGES);
	bool shared = !one_in(3), writable = !one_in(3);
	char *mem;

	if (m->mem) {
		unmap(m->mem, m->pages);
		close(m->fd);
	}
	*m = (struct mapping) { .fd = -1 };
	mem = mmap(NULL, pages * pgsz(), PROT_READ | (writable ? PROT_WRITE : 0),
		   shared ? MAP_SHARED : MAP_PRIVATE, fd, first * pgsz());
	note("map %zu pages from %zu%s%s: %s", pages, first, shared ? ", shared" : "",
	     writable ? ", writable" : "", mem == MAP_FAILED ? error() : "ok");
	if (mem == MAP_FAILED)
		return;
	*m = (struct mapping) { mem, pages, first, shared, writable, dup(fd) };
	must(m->fd >= 0);
}

static struct mapping *any_map(struct side *s)
{
	int i, at = below(MAPS);

	for (i = 0; i < MAPS; i++)
		if (s->map[(at + i) % MAPS].mem)
			return &s->map[(at + i) % MAPS];
	return NULL;
}

/*
 * A load from a hole takes a page of a tmpfs, and none here; nor does it through a
 * private mapping.  So those are left out, unless they are past the end.
 */
static bool is_data(const struct mapping *m, size_t page)
{
	off_t was = lseek(m->fd, 0, SEEK_CUR), at = (m->first + page) * pgsz();
	off_t data = lseek(m->fd, at, SEEK_DATA);
	struct stat st;

	must(!fstat(m->fd, &st));
	lseek(m->fd, was, SEEK_SET);
	return data == at || at >= st.st_size;
}

static void step_touch(struct side *s)
{
	const struct mapping *m = any_map(s);
	size_t page = below(12), at = below(pgsz());
	bool write = one_in(2);
	char c = below(256);

	if (!m || page >= m->pages)
		return;
	if (!(write && m->shared) && (!flavour->seeks || !is_data(m, page)))
		return;
	note("%s at %zu of page %zu: %s", write ? "store" : "load", at, m->first + page,
	     access_name(m->mem + page * pgsz() + at, write, c));
	if (flavour->seeks && is_data(m, page) && !touch(m->mem + page * pgsz(), false))
		note_hash("shows", m->mem + page * pgsz(), pgsz());
}

static void step_advise(struct side *s)
{
	static const int advice[] = {
		MADV_REMOVE, MADV_DONTNEED, MADV_WILLNEED, MADV_COLD, MADV_POPULATE_WRITE,
		MADV_FREE, MADV_RANDOM,
	};
	int i = below(ARRAY_SIZE(advice)), page = below(12), n = 1 + below(3);
	const struct mapping *m = any_map(s);

	if (!m || page + n > m->pages)
		return;
	/* One fills holes, see is_data(); the other lets go of copies at any time, or never. */
	if ((advice[i] == MADV_POPULATE_WRITE || advice[i] == MADV_FREE) && !m->shared)
		return;
	note("advice %d for %d pages from %zu", advice[i], n, m->first + page);
	CALL(madvise(m->mem + page * pgsz(), n * pgsz(), advice[i]));
	note_fstat(m->fd);
}

static void step_msync(struct side *s)
{
	const struct mapping *m = any_map(s);

	if (m)
		CALL(msync(m->mem, m->pages * pgsz(), one_in(2) ? MS_SYNC : MS_ASYNC));
}

/* ---- steps of several calls ---- */

static void step_in_removed_dir(struct side *s)
{
	const char *path = fresh_path();
	char buf[PATH_MAX];

	CALL(mkdir(path, 0755));
	if (chdir(path)) {
		note("chdir: %s", error());
		return;
	}
	CALL(mknod("inside", S_IFREG | 0600, 0));
	CALL(unlink("inside"));
	note_stat(".");
	must(!seteuid(0));
	if (rmdir(s->root) != -1)
		note("the mount's root was removed");
	snprintf(buf, sizeof(buf), "%s/%s", s->root, path);
	CALL(rmdir(buf));
	note_stat(".");
	CALL(mknod("inside", S_IFREG | 0600, 0));
	CALL(mkdir("inside", 0700));
	CALL(symlink("x", "inside"));
	CALL(open(".", O_TMPFILE | O_RDWR, 0600) < 0 ? -1 : 0);
	CALL(open("inside", O_CREAT | O_RDWR, 0600) < 0 ? -1 : 0);
	CALL(rename("../a", "inside"));
	CALL(link("../a", "inside"));
	CALL(getcwd(buf, sizeof(buf)) ? 0 : -1);
	CALL(access("..", F_OK));
	note_dir(".");
	must(!chdir(s->root));
}

/* A write takes the set-id bits of a file away, unless root writes. */
static void step_set_id(struct side *s)
{
	const char *path = existing(S_IFREG);
	mode_t mode = 04000 | any_mode();
	int fd, how = below(5);

	must(!seteuid(0));
	note("set-id of %s, %o", path, mode);
	CALL(chmod(path, mode | 0066));
	fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return;
	must(!setegid(SOMEBODY) && !seteuid(SOMEBODY));
	if (how == 0)
		CALL(pwrite(fd, "x", 1, 0));
	else if (how == 1)
		CALL(ftruncate(fd, 10));
	else if (how == 2)
		CALL(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 10));
	else if (how == 3)
		CALL(truncate(path, 20));
	else
		CALL(pwrite(fd, "x", 0, 0));
	must(!seteuid(0) && !setegid(0));
	note_fstat(fd);
	CALL(fchown(fd, one_in(2) ? -1 : 0, -1));
	note_fstat(fd);
	close(fd);
}

/* Until there is no room; then make some. */
static void step_fill(struct side *s)
{
	const char *path = fresh_path();
	size_t n = 16 * pgsz(), total = 0;
	int fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC | O_NONBLOCK, 0600);
	ssize_t ret = 0;

	note("fill %s: %s", path, fd < 0 ? error() : "open");
	if (fd < 0 || !flavour->fills) {
		close(fd);
		return;
	}
	if (one_in(2))
		lseek(fd, 100, SEEK_SET);
	while (total < 4096 * pgsz() && (ret = write(fd, data(n), n)) > 0)
		total += ret;
	note("%zu bytes, then %s", total, ret < 0 ? error() : "no end");
	note_fstat(fd);
	note_statfs();
	CALL(ftruncate(fd, one_in(3) ? total : one_in(2) ? 0 : total / 2 + 5));
	close(fd);
}

static void step_fill_names(struct side *s)
{
	char path[PATH_LEN];
	int i, n, kind = below(4);

	if (!flavour->fills)
		return;
	CALL(mkdir("full", 0777));
	errno = 0;
	for (n = 0; n < 100; n++) {
		snprintf(path, sizeof(path), "full/%d", n);
		if (kind == 0 && mknod(path, S_IFREG | 0600, 0))
			break;
		if (kind == 1 && mkdir(path, 0700))
			break;
		if (kind == 2 && symlink("x", path))
			break;
		if (kind == 3 && (n ? link("full/0", path) : mknod(path, 0600, 0)))
			break;
	}
	note("%d of kind %d, then %s", n, kind, error());
	note_statfs();
	must(!seteuid(0));
	for (i = 0; i < n; i++) {
		snprintf(path, sizeof(path), "full/%d", i);
		if (remove(path))
			note("remove %s: %s", path, error());
	}
	CALL(rmdir("full"));
	note_statfs();
}

static void step_umask(struct side *s)
{
	mode_t mask = (const mode_t[]){ 022, 0, 077, 0777 }[one_in(4) ? below(4) : 0];

	umask(mask);
	note("umask %o", mask);
}

struct step {
	const char *name;
	void (*run)(struct side *s);
	int weight;
	bool maps;
};

#define STEP(name, weight) { #name, step_##name, weight, false }
#define MAP_STEP(name, weight) { #name, step_##name, weight, true }

static const struct step steps[] = {
	STEP(open, 14),
	STEP(tmpfile, 2),
	STEP(close, 4),
	STEP(mkdir, 6),
	STEP(rmdir, 4),
	STEP(mknod, 5),
	STEP(link, 5),
	STEP(link_fd, 4),
	STEP(symlink, 5),
	STEP(readlink, 2),
	STEP(unlink, 7),
	STEP(rename, 8),
	STEP(rename_with_flags, 6),
	STEP(chmod, 4),
	STEP(chown, 4),
	STEP(utimes, 2),
	STEP(truncate, 6),
	STEP(write, 12),
	STEP(write_by_path, 5),
	STEP(read, 5),
	STEP(read_by_path, 3),
	STEP(fallocate, 6),
	STEP(seek, 6),
	STEP(copy, 5),
	STEP(stat, 2),
	STEP(access, 3),
	STEP(statfs, 2),
	STEP(list, 2),
	STEP(remove_while_reading, 2),
	STEP(seekdir, 2),
	STEP(lock, 3),
	STEP(sync, 1),
	MAP_STEP(map, 6),
	MAP_STEP(touch, 16),
	MAP_STEP(advise, 5),
	MAP_STEP(msync, 1),
	STEP(in_removed_dir, 1),
	STEP(set_id, 2),
	STEP(fill, 2),
	STEP(fill_names, 2),
	STEP(umask, 2),
};

static const struct step *any_step(void)
{
	const struct step *step;
	int total = 0, at;

	for (step = steps; step < steps + ARRAY_SIZE(steps); step++)
		total += step->weight;
	do {
		at = below(total);
		for (step = steps; at >= step->weight; step++)
			at -= step->weight;
	} while (step->maps && flavour->timed);
	return step;
}

/* ---- which times move ---- */

struct marks {
	struct timespec set[2], ctime[NAMES];
	ino_t ino[NAMES];
};

/* Give all that there is times that nothing gets by itself. */
static void mark_times(struct marks *m, const struct timespec *set)
{
	struct stat st;
	int i;

	memcpy(m->set, set, sizeof(m->set));
	for (i = 0; i < there.n; i++)
		must(!utimensat(AT_FDCWD, there.path[i], set, AT_SYMLINK_NOFOLLOW));
	/* Only now, as one file may have many names. */
	for (i = 0; i < there.n; i++) {
		must(!lstat(there.path[i], &st));
		m->ctime[i] = st.st_ctim;
		m->ino[i] = st.st_ino;
	}
}

static int compare_times(struct timespec a, struct timespec b)
{
	if (a.tv_sec != b.tv_sec)
		return a.tv_sec < b.tv_sec ? -1 : 1;
	return a.tv_nsec < b.tv_nsec ? -1 : a.tv_nsec > b.tv_nsec;
}

/* Something with this path may be another file now. */
static void note_times_of(const struct marks *m, int i)
{
	const char *path = there.path[i];
	bool access, modify, change;
	struct stat st;

	if (lstat(path, &st))
		return;
	access = compare_times(st.st_atim, m->set[0]);
	modify = compare_times(st.st_mtim, m->set[1]);
	change = compare_times(st.st_ctim, m->ctime[i]);
	if (st.st_ino != m->ino[i])
		note("%s is another file", brief(path));
	else if (access || modify || change)
		note("%s:%s%s%s%s", brief(path), access ? " atime" : "", modify ? " mtime" : "",
		     change ? " ctime" : "", modify && change &&
		     compare_times(st.st_mtim, st.st_ctim) > 0 ? ", which is older" : "");
}

static const struct timespec *any_times(void)
{
	static struct timespec set[2];
	time_t now = time(NULL);

	/* Which comes first decides whether a read moves the atime. */
	set[0].tv_sec = (const time_t[]){ 1000, 3000, now + 1000 }[below(3)];
	set[1].tv_sec = 2000;
	return set;
}

/* ---- a sequence ---- */

static void become(uid_t uid)
{
	must(!setegid(uid) && !seteuid(uid));
}

static void run_step(const struct step *step, struct side *s, uid_t uid)
{
	must(!chdir(s->root));
	become(uid);
	if (uid)
		note("as %u:", uid);
	step->run(s);
	must(!seteuid(0) && !setegid(0));
	must(!chdir(s->root));
}

/* Prints how they differ.  Returns whether they agree. */
static bool agree(const char *what, int n)
{
	if (!strcmp(outcomes[0]->text, outcomes[1]->text))
		return true;
	ksft_print_msg("step %d, %s: they differ\n", n, what);
	if (show)
		printf("%s", outcomes[0]->text);
	print_differing(sides[1].type, outcomes[1]->text, sides[0].type, outcomes[0]->text);
	return false;
}

static void list_names(void)
{
	must(!chdir(sides[0].root));
	there.n = 0;
	walk("", &there, 0);
}

static bool one_step(const struct step *step, int n, uid_t uid)
{
	static struct marks marks[2];
	const struct timespec *set = flavour->timed ? any_times() : NULL;
	uint64_t state = rng_state;
	int i, k;

	for (i = 0; i < 2 && set; i++) {
		must(!chdir(sides[i].root));
		mark_times(&marks[i], set);
	}
	if (set)
		nap();
	for (i = 0; i < 2; i++) {
		rng_state = state;
		begin_outcome(outcomes[i]);
		run_step(step, &sides[i], uid);
		for (k = 0; k < there.n && set; k++)
			note_times_of(&marks[i], k);
		note("%s", "");
	}
	if (show)
		printf("# step %d, %s\n%s", n, step->name, outcomes[0]->text);
	return agree(step->name, n);
}

static bool same_trees(int n)
{
	int i;

	for (i = 0; i < 2; i++) {
		begin_outcome(outcomes[i]);
		must(!chdir(sides[i].root));
		note_tree();
	}
	return agree("the trees", n);
}

/* In a child: the descriptors, mappings, locks and the umask go with it. */
static int sequence(void)
{
	int n, steps = random_ops(flavour->steps);
	bool ok = true;

	umask(022);
	must(!setgroups(0, NULL));
	/* There are fifos that nobody reads from. */
	signal(SIGPIPE, SIG_IGN);
	for (n = 0; n < steps && ok; n++) {
		const struct step *step = any_step();
		uid_t uid = !flavour->others || one_in(2) ? 0 : one_in(2) ? SOMEBODY : NOBODY;

		*place = (struct place) { n, step->name };
		list_names();
		ok = one_step(step, n, uid);
		if (ok && (n % 16 == 15 || n == steps - 1))
			ok = same_trees(n);
	}
	return !ok;
}

static const struct flavour flavours[] = {
	{ "plenty", "size=64m,nr_inodes=120,mode=755", .steps = 1500, .seeks = true },
	{ "allocations", "size=64m,nr_inodes=120,mode=755", .steps = 1500 },
	{ "other users", "size=64m,nr_inodes=120,mode=777", .steps = 1500, .seeks = true,
	  .others = true },
	{ "other users, sticky", "size=64m,nr_inodes=120,mode=1777", .steps = 1000,
	  .others = true },
	{ "other users, setgid", "size=64m,nr_inodes=120,mode=2777,gid=1000,uid=1000",
	  .steps = 1000, .seeks = true, .others = true },
	{ "little room", "size=800k,nr_inodes=120", .steps = 1500, .seeks = true, .fills = true },
	{ "little room, allocations", "size=500k,nr_inodes=120", .steps = 1500,
	  .fills = true },
	{ "few inodes", "size=64m,nr_inodes=25", .steps = 1500, .seeks = true, .fills = true },
	{ "times", "size=64m,nr_inodes=60", .steps = 300, .seeks = true, .timed = true },
	{ "times, strictly", "size=64m,nr_inodes=60,mode=777", MS_STRICTATIME, .steps = 200,
	  .seeks = true, .timed = true, .others = true },
	{ "times of directories not", "size=64m,nr_inodes=60", MS_NODIRATIME, .steps = 200,
	  .timed = true },
	{ "no times", "size=64m,nr_inodes=60", MS_NOATIME, .steps = 200, .timed = true },
	{ "few rights", "size=64m,nr_inodes=120,mode=777",
	  MS_NODEV | MS_NOSUID | MS_NOEXEC | MS_SYNCHRONOUS | MS_DIRSYNC, .steps = 1000,
	  .others = true, .seeks = true },
};

static void run_flavour(const struct flavour *f, uint64_t seed)
{
	int status;
	bool ok;

	flavour = f;
	rng_state = seed + (f - flavours) * 0x9e3779b97f4a7c15ULL;
	rng_state += !rng_state;
	*place = (struct place) { -1, "none" };
	mount_both(f->flags, f->options);
	status = in_child(_exit(sequence()));
	ok = umount_both();
	if (status > 1)
		ksft_print_msg("the child ended with status %d in step %d, %s\n", status,
			       place->n, place->step);
	ksft_test_result(!status && ok, "random: %s\n", f->name);
}

/* ---- situations ---- */

struct situation {
	const char *name;
	void (*run)(const struct situation *it, const struct side *s);
	const char *text;		/* an argument */
	int flags;			/* one of open() */
	const char *options;		/* of the mount, or NULL: DEFAULT */
	const char *differs;		/* why it differs on purpose, or NULL */
	bool varies;			/* on some kernels it does not */
};

#define DEFAULT "size=4m,nr_inodes=200"

static int make_file(const char *path, size_t pages)
{
	int fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0644);
	char *buf;

	must(fd >= 0);
	if (pages) {
		buf = anon(pages);
		fill(buf, pages, 1, 0);
		must(pwrite(fd, buf, pages * pgsz(), 0) == (ssize_t)(pages * pgsz()));
		unmap(buf, pages);
	}
	return fd;
}

/* Mount one more with options, and say what comes of it. */
static void mounted_with(const struct situation *it, const struct side *s)
{
	if (CALL(mount("as_tmpfs", s->root, s->type, 0, it->text)))
		return;
	must(!chdir(s->root));
	note_stat(".");
	note_statfs();
	must(!chdir("/"));
	umount(s->root);
}

static void remounted_with(const struct situation *it, const struct side *s)
{
	int fd = make_file("a", 10);

	CALL(mkdir("d", 0755));
	CALL(mount("as_tmpfs", s->root, s->type, MS_REMOUNT, sized(it->text)));
	note_stat(".");
	note_statfs();
	CALL(pwrite(fd, data(30 * pgsz()), 30 * pgsz(), 0));
	note_fstat(fd);
	CALL(ftruncate(fd, 0));
	CALL(mkdir("e", 0755));
	note_tree();
}

static void remounted_read_only(const struct situation *it, const struct side *s)
{
	int fd = make_file("a", 2);

	CALL(mount(NULL, s->root, NULL, MS_REMOUNT | MS_RDONLY, NULL));
	close(fd);
	CALL(mount(NULL, s->root, NULL, MS_REMOUNT | MS_RDONLY, NULL));
	note_statfs();
	CALL(open("a", O_RDWR));
	CALL(open("b", O_RDWR | O_CREAT, 0600));
	CALL(mkdir("d", 0700));
	CALL(unlink("a"));
	CALL(rename("a", "b"));
	CALL(chmod("a", 0600));
	CALL(truncate("a", 0));
	CALL(link("a", "b"));
	CALL(symlink("a", "b"));
	CALL(utimensat(AT_FDCWD, "a", NULL, 0));
	CALL(open(".", O_TMPFILE | O_RDWR, 0600));
	note_file("a");
	CALL(mount(NULL, s->root, NULL, MS_REMOUNT, NULL));
	CALL(unlink("a"));
	note_tree();
}

static void file_system_type(const struct situation *it, const struct side *s)
{
	struct statfs st;

	must(!statfs(".", &st));
	note("type %lx", (long)st.f_type);
}

static void fsid(const struct situation *it, const struct side *s)
{
	struct statfs st;

	must(!statfs(".", &st));
	note("%s", st.f_fsid.__val[0] || st.f_fsid.__val[1] ? "has one" : "has none");
}

static void extended_attributes(const struct situation *it, const struct side *s)
{
	char name[64], value[64], list[256];

	close(make_file("a", 1));
	snprintf(name, sizeof(name), "%s", it->text);
	CALL(setxattr("a", name, "value", 5, 0));
	CALL(getxattr("a", name, value, sizeof(value)));
	CALL(removexattr("a", name));
	CALL(listxattr("a", list, sizeof(list)));
	note_stat("a");
}

static void whiteout(const struct situation *it, const struct side *s)
{
	close(make_file("a", 1));
	CALL(rename_with("a", "b", RENAME_WHITEOUT));
	note_tree();
}

static void zero_range(const struct situation *it, const struct side *s)
{
	int fd = make_file("a", 4);

	CALL(fallocate(fd, FALLOC_FL_ZERO_RANGE, pgsz() / 2, 2 * pgsz()));
	note_content(fd);
}

static void unshare_range(const struct situation *it, const struct side *s)
{
	CALL(fallocate(make_file("a", 4), FALLOC_FL_UNSHARE_RANGE, 0, pgsz()));
}

static void reflink(const struct situation *it, const struct side *s)
{
	int fd = make_file("a", 4), to = make_file("b", 0);

	CALL(ioctl(to, FICLONE, fd));
	note_content(to);
	note_statfs();
}

static void copy_aligned(const struct situation *it, const struct side *s)
{
	int fd = make_file("a", 4), to = make_file("b", 0);
	loff_t from = 0, at = 0;

	CALL(copy_file_range(fd, &from, to, &at, 4 * pgsz(), 0));
	note_content(to);
	note_fstat(to);
	note_statfs();
}

static void file_handle(const struct situation *it, const struct side *s)
{
	struct {
		struct file_handle handle;
		char more[128];
	} h = { .handle.handle_bytes = sizeof(h.more) };
	int mount_id, fd;

	close(make_file("a", 1));
	CALL(name_to_handle_at(AT_FDCWD, "a", &h.handle, &mount_id, 0));
	fd = open_by_handle_at(AT_FDCWD, &h.handle, O_RDONLY);
	note_ret("open_by_handle_at", fd < 0 ? -1 : 0, true);
}

static void inode_flags(const struct situation *it, const struct side *s)
{
	int fd = make_file("a", 1), flags = 0, version = 0;

	CALL(ioctl(fd, FS_IOC_GETFLAGS, &flags));
	CALL(ioctl(fd, FS_IOC_SETFLAGS, &flags));
	CALL(ioctl(fd, FS_IOC_GETVERSION, &version));
}

static void direct_io(const struct situation *it, const struct side *s)
{
	char *buf = anon(1);
	int fd;

	close(make_file("a", 1));
	fd = open("a", O_RDWR | O_DIRECT | O_CLOEXEC);
	note_ret("open", fd < 0 ? -1 : 0, true);
	CALL(pwrite(fd, buf, pgsz(), 0));
	CALL(pread(fd, buf, pgsz(), 0));
}

static void allocate_too_much(const struct situation *it, const struct side *s)
{
	int fd = make_file("a", 4);

	CALL(fallocate(fd, 0, 0, 1000 * pgsz()));
	note_fstat(fd);
	CALL(pwrite(make_file("b", 0), data(10 * pgsz()), 10 * pgsz(), 0));
	CALL(fallocate(fd, 0, 0, 1020 * pgsz()));
	note_fstat(fd);
	note_statfs();
}

static void allocate_more_than_there_is(const struct situation *it, const struct side *s)
{
	int fd = make_file("a", 4);

	CALL(fallocate(fd, 0, 0, 2000 * pgsz()));
	note_fstat(fd);
	note_statfs();
	CALL(pwrite(make_file("b", 0), data(30 * pgsz()), 30 * pgsz(), 0));
}

static void allocate_past_the_end_without_room(const struct situation *it,
					       const struct side *s)
{
	int fd = make_file("a", 4), full = make_file("b", 0);

	CALL(fallocate(full, 0, 0, 1000 * pgsz()));
	CALL(fallocate(fd, FALLOC_FL_KEEP_SIZE, 5 * pgsz() + 100, 40 * pgsz()));
	note_fstat(fd);
	CALL(fallocate(fd, 0, 4 * pgsz() - 100, 40 * pgsz()));
	note_fstat(fd);
	note_statfs();
}

static void allocate_inside_without_room(const struct situation *it, const struct side *s)
{
	int fd = make_file("a", 4), full = make_file("b", 0);

	CALL(ftruncate(fd, 100 * pgsz()));
	CALL(fallocate(full, 0, 0, 1000 * pgsz()));
	CALL(fallocate(fd, 0, 0, 40 * pgsz()));
	note_fstat(fd);
}

static void truncate_to_the_same_size(const struct situation *it, const struct side *s)
{
	const off_t sizes[] = { 0, pgsz(), pgsz() + 100 };
	const struct timespec set[2] = { { .tv_sec = 1000 }, { .tv_sec = 2000 } };
	struct stat st;
	size_t i, k;
	int fd;

	for (i = 0; i < 3 * ARRAY_SIZE(sizes); i++) {
		off_t size = sizes[i / 3];

		fd = make_file("a", 0);
		CALL(ftruncate(fd, size));
		for (k = 0; k < i % 3; k++)
			CALL(fallocate(fd, FALLOC_FL_KEEP_SIZE, 3 * k * pgsz(), 2 * pgsz()));
		must(!futimens(fd, set));
		CALL(truncate("a", size));
		note_fstat(fd);
		must(!fstat(fd, &st));
		note("%s", st.st_mtim.tv_sec == 2000 ? "no change" : "a change");
		CALL(unlink("a"));
	}
	fd = make_file("a", 0);
	CALL(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 2 * pgsz()));
	CALL(open("a", O_RDWR | O_TRUNC) < 0 ? -1 : 0);
	note_fstat(fd);
	note_statfs();
}

static void seek_in_what_is_allocated(const struct situation *it, const struct side *s)
{
	int fd = make_file("a", 1);

	CALL(fallocate(fd, 0, 0, 8 * pgsz()));
	CALL(lseek(fd, 0, SEEK_HOLE));
	CALL(lseek(fd, pgsz(), SEEK_DATA));
}

/* A load from a hole takes a page of a tmpfs. */
static void loads_of_holes(const struct situation *it, const struct side *s)
{
	int fd = make_file("a", 0);
	char *mem;

	CALL(ftruncate(fd, 8 * pgsz()));
	mem = map_ro(fd, 8);
	CALL(touch(mem, false));
	CALL(touch(mem + 3 * pgsz(), false));
	note_fstat(fd);
	note_statfs();
}

/* What was loaded before takes no fault to be stored to there, but does here. */
static void store_after_a_load(const struct situation *it, const struct side *s)
{
	int fd = make_file("a", 2);
	struct timespec old[2] = { { 1000, 0 }, { 2000, 0 } };
	char *mem = map_rw(fd, 2);
	struct stat st;

	must(!touch(mem, false));
	must(!futimens(fd, old));
	nap();
	must(!poke(mem, 1));
	must(!fstat(fd, &st));
	note("mtime %s", st.st_mtim.tv_sec == 2000 ? "stays" : "moves");
}

static void first_store(const struct situation *it, const struct side *s)
{
	int fd = make_file("a", 2);
	struct timespec old[2] = { { 1000, 0 }, { 2000, 0 } };
	char *mem = map_rw(fd, 2);
	struct stat st;

	must(!futimens(fd, old));
	nap();
	must(!poke(mem, 1));
	must(!fstat(fd, &st));
	note("mtime %s", st.st_mtim.tv_sec == 2000 ? "stays" : "moves");
	note("atime %s", st.st_atim.tv_sec == 1000 ? "stays" : "moves");
}

static void order_of_names(const struct situation *it, const struct side *s)
{
	const char * const names[] = { "b", "c", "a", "e", "d" };
	struct dirent *d;
	size_t i;
	DIR *dir;

	for (i = 0; i < ARRAY_SIZE(names); i++)
		must(!mkdir(names[i], 0700));
	must(!rename("c", "f"));
	dir = opendir(".");
	must(dir);
	while ((d = readdir(dir)))
		note("%s", d->d_name);
	closedir(dir);
}

/* Long ones take a page. */
static void symlinks(const struct situation *it, const struct side *s)
{
	static const int lengths[] = { 1, 126, 127, 128, 129, 2000, 4094, 4095, 4096, 5000 };
	char text[5001], path[20];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(lengths); i++) {
		memset(text, 'x', sizeof(text));
		text[lengths[i]] = 0;
		snprintf(path, sizeof(path), "%d", lengths[i]);
		CALL(symlink(text, path));
		note_stat(path);
		note_link(path, PATH_MAX);
		note_statfs();
	}
	CALL(symlink("", "e"));
	CALL(symlink("e", ""));
	for (i = 0; i < ARRAY_SIZE(lengths); i++) {
		snprintf(path, sizeof(path), "%d", lengths[i]);
		unlink(path);
	}
	note_tree();
}

static void symlinks_without_room(const struct situation *it, const struct side *s)
{
	char text[1001];
	int fd = make_file("a", 0);

	memset(text, 'x', sizeof(text));
	text[1000] = 0;
	while (write(fd, data(pgsz()), pgsz()) > 0)
		;
	CALL(symlink("short", "b"));
	CALL(symlink(text, "c"));
	note_tree();
}

static void extreme_sizes(const struct situation *it, const struct side *s)
{
	const off_t most = LLONG_MAX, sizes[] = {
		most, most - 1, most - (off_t)pgsz(), most - (off_t)pgsz() + 1, 1LL << 62,
		1LL << 44, (1LL << 32) + 5, -1,
	};
	int fd = make_file("a", 1);
	struct stat st;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		note("%llx", (long long)sizes[i]);
		CALL(ftruncate(fd, sizes[i]));
		must(!fstat(fd, &st));
		note("%llx", (long long)st.st_size);
		CALL(ftruncate(fd, 10));
		CALL(pwrite(fd, "abc", 3, sizes[i]));
		CALL(pread(fd, &st, 3, sizes[i]));
		CALL(lseek(fd, sizes[i], SEEK_SET));
		/* In the last page of all, some kernels' tmpfs errs. */
		if (sizes[i] < most - 2 * (off_t)pgsz()) {
			CALL(lseek(fd, sizes[i], SEEK_DATA));
			CALL(lseek(fd, sizes[i], SEEK_HOLE));
			CALL(fallocate(fd, 0, sizes[i], 1));
		}
		CALL(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, sizes[i], 5));
		note_fstat(fd);
		CALL(ftruncate(fd, 10));
	}
	note_statfs();
}

static void size_limit(const struct situation *it, const struct side *s)
{
	struct rlimit limit = { 10 * pgsz() + 100, RLIM_INFINITY };
	int fd = make_file("a", 4);

	signal(SIGXFSZ, SIG_IGN);
	must(!setrlimit(RLIMIT_FSIZE, &limit));
	CALL(pwrite(fd, data(20 * pgsz()), 20 * pgsz(), 0));
	CALL(pwrite(fd, "x", 1, 10 * pgsz() + 100));
	CALL(ftruncate(fd, 10 * pgsz() + 101));
	CALL(fallocate(fd, 0, 0, 20 * pgsz()));
	note_fstat(fd);
	signal(SIGXFSZ, SIG_DFL);
	note("killed by %d", in_child(_exit(ftruncate(fd, MIB_PAGES * pgsz()))) - 128);
}

/* SIGBUS where a page is missing; what was mapped before goes on. */
static void no_room_for_a_mapping(const struct situation *it, const struct side *s)
{
	int fd = make_file("a", 0), more = make_file("b", 0);
	char *mem;
	size_t i;

	CALL(ftruncate(fd, 40 * pgsz()));
	mem = map_rw(fd, 40);
	CALL(poke(mem, 1));
	while (write(more, data(pgsz()), pgsz()) > 0)
		;
	note_statfs();
	for (i = 0; i < 3; i++)
		note("store %zu: %s", i, access_name(mem + i * pgsz(), true, 'x'));
	CALL(ftruncate(more, 0));
	for (i = 0; i < 40; i++)
		note("store %zu: %s", i, access_name(mem + i * pgsz(), true, 'x'));
	note_content(fd);
	note_tree();
}

static void unlinked_but_open(const struct situation *it, const struct side *s)
{
	int fd = make_file("a", 8), more;
	char *mem = map_rw(fd, 8), path[40];

	CALL(unlink("a"));
	note_tree();
	CALL(pwrite(fd, "x", 1, 9 * pgsz()));
	note_fstat(fd);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	more = open(path, O_RDWR);
	note_fstat(more);
	CALL(linkat(AT_FDCWD, path, AT_FDCWD, "b", AT_SYMLINK_FOLLOW));
	close(fd);
	close(more);
	note_statfs();
	CALL(poke(mem + 3 * pgsz(), 1));
	unmap(mem, 8);
	note_statfs();
}

static void temporary_file(const struct situation *it, const struct side *s)
{
	int fd = open(".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0640), excl;
	char path[40];

	note_fstat(fd);
	note_statfs();
	CALL(pwrite(fd, data(pgsz()), pgsz(), 0));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	CALL(linkat(AT_FDCWD, path, AT_FDCWD, "a", AT_SYMLINK_FOLLOW));
	CALL(linkat(AT_FDCWD, path, AT_FDCWD, "a", AT_SYMLINK_FOLLOW));
	CALL(linkat(AT_FDCWD, path, AT_FDCWD, "b", AT_SYMLINK_FOLLOW));
	note_tree();
	CALL(unlink("a"));
	CALL(unlink("b"));
	CALL(linkat(AT_FDCWD, path, AT_FDCWD, "c", AT_SYMLINK_FOLLOW));
	note_tree();
	close(fd);
	note_statfs();
	excl = open(".", O_TMPFILE | O_RDWR | O_EXCL | O_CLOEXEC, 0640);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", excl);
	CALL(linkat(AT_FDCWD, path, AT_FDCWD, "d", AT_SYMLINK_FOLLOW));
	note_statfs();
}

static void inodes_of_each_kind(const struct situation *it, const struct side *s)
{
	int fd;

	note_statfs();
	close(make_file("a", 1));
	note_statfs();
	CALL(link("a", "b"));
	note_statfs();
	CALL(symlink("x", "c"));
	note_statfs();
	CALL(mkdir("d", 0700));
	note_statfs();
	CALL(mknod("e", S_IFIFO | 0600, 0));
	note_statfs();
	CALL(unlink("a"));
	note_statfs();
	fd = open("b", O_RDWR);
	CALL(rename("e", "b"));
	note_statfs();
	close(fd);
	note_statfs();
	CALL(rename_with("d", "b", RENAME_EXCHANGE));
	note_statfs();
	CALL(rmdir("b"));
	CALL(unlink("d"));
	CALL(unlink("c"));
	note_tree();
}

/* What fills the mount to the last inode, and what goes on nevertheless. */
static void no_inode_left(const struct situation *it, const struct side *s)
{
	char path[20];
	int n, fd;

	for (n = 0; n < 1000; n++) {
		snprintf(path, sizeof(path), "%d", n);
		if (mknod(path, S_IFREG | 0600, 0))
			break;
	}
	note("%d, then %s", n, error());
	note_statfs();
	CALL(mkdir("d", 0700));
	CALL(symlink("x", "l"));
	CALL(link("0", "x"));
	CALL(mknod("f", S_IFIFO | 0600, 0));
	CALL(open(".", O_TMPFILE | O_RDWR, 0600));
	CALL(open("new", O_CREAT | O_RDWR, 0600));
	CALL(rename("0", "1"));
	CALL(mkdir("d", 0700));
	CALL(rename("d", "e"));
	CALL(rename_with("e", "1", RENAME_EXCHANGE));
	fd = open("2", O_RDWR);
	CALL(unlink("2"));
	CALL(mkdir("f", 0700));
	close(fd);
	CALL(mkdir("f", 0700));
	note_statfs();
}

static void permissions(const struct situation *it, const struct side *s)
{
	close(make_file("mine", 1));
	CALL(chmod("mine", 0600));
	CALL(mkdir("sticky", 0777));
	CALL(chmod("sticky", 01777));
	close(make_file("sticky/mine", 1));
	CALL(mkdir("closed", 0700));
	close(make_file("closed/mine", 1));
	CALL(mkdir("no-x", 0777));
	CALL(chmod("no-x", 0666));
	CALL(chmod(".", 0777));
	in_child(
		become_nobody();
		CALL(open("mine", O_RDONLY));
		CALL(open("mine", O_WRONLY | O_TRUNC));
		CALL(truncate("mine", 0));
		CALL(chmod("mine", 0777));
		CALL(chown("mine", NOBODY, -1));
		CALL(utimensat(AT_FDCWD, "mine", NULL, 0));
		CALL(access("mine", R_OK));
		CALL(link("mine", "link"));
		CALL(unlink("sticky/mine"));
		CALL(rename("sticky/mine", "sticky/yours"));
		CALL(rename("sticky/mine", "yours"));
		close(make_file("sticky/nobody's", 1));
		CALL(rename("sticky/nobody's", "sticky/mine"));
		CALL(rename_with("sticky/nobody's", "sticky/mine", RENAME_EXCHANGE));
		CALL(unlink("sticky/nobody's"));
		CALL(open("closed/mine", O_RDONLY));
		CALL(mkdir("closed/d", 0700));
		note_dir("closed");
		note_dir("no-x");
		CALL(mknod("no-x/a", S_IFREG | 0600, 0));
		CALL(mknod("c", S_IFCHR | 0600, makedev(1, 3)));
		CALL(mknod("f", S_IFIFO | 0600, 0));
		CALL(chown("f", NOBODY, 0));
		CALL(chmod("f", 06777));
		note_stat("f");
		CALL(unlink("mine"));
		CALL(open(".", O_TMPFILE | O_RDWR, 0600) < 0 ? -1 : 0);
		CALL(open("closed", O_TMPFILE | O_RDWR, 0600));
	);
	note_tree();
}

static void setgid_directories(const struct situation *it, const struct side *s)
{
	CALL(mkdir("d", 0777));
	CALL(chown("d", SOMEBODY, SOMEBODY));
	CALL(chmod("d", 02777));
	in_child(
		become_nobody();
		umask(0);
		CALL(mkdir("d/d", 0755));
		close(make_file("d/a", 1));
		CALL(mknod("d/b", S_IFREG | 02775, 0));
		CALL(open("d/c", O_CREAT | O_RDWR, 02755) < 0 ? -1 : 0);
		CALL(symlink("x", "d/l"));
		CALL(linkat(AT_FDCWD, "d/a", AT_FDCWD, "d/d/a", 0));
		CALL(chmod("d/a", 02755));
	);
	note_tree();
}

static void set_id_bits(const struct situation *it, const struct side *s)
{
	int fd = make_file("a", 4), i;
	char *mem = map_rw(fd, 4);

	for (i = 0; i < 6; i++) {
		CALL(fchmod(fd, 06777));
		in_child(
			become_nobody();
			if (i == 0)
				CALL(pwrite(fd, "x", 1, 0));
			if (i == 1)
				CALL(ftruncate(fd, 10 * pgsz()));
			if (i == 2)
				CALL(fallocate(fd, 0, 0, 12 * pgsz()));
			if (i == 3)
				CALL(poke(mem, 1));
			if (i == 4)
				CALL(sendfile(fd, fd, NULL, 0));
			if (i == 5)
				CALL(truncate("a", pgsz()));
		);
		note_fstat(fd);
	}
}

static void fifos(const struct situation *it, const struct side *s)
{
	char buf[8] = "";
	int fd;

	CALL(mkfifo("f", 0600));
	CALL(open("f", O_WRONLY | O_NONBLOCK));
	fd = open("f", O_RDWR | O_NONBLOCK);
	CALL(write(fd, "hello", 5));
	CALL(read(open("f", O_RDONLY | O_NONBLOCK), buf, 8));
	note("%s", buf);
	CALL(lseek(fd, 0, SEEK_SET));
	CALL(ftruncate(fd, 0));
	note_fstat(fd);
}

static void sockets(const struct situation *it, const struct side *s)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX, .sun_path = "s" };
	int sk = socket(AF_UNIX, SOCK_STREAM, 0), to = socket(AF_UNIX, SOCK_STREAM, 0);
	char buf[8] = "";

	CALL(bind(sk, (void *)&addr, sizeof(addr)));
	CALL(bind(to, (void *)&addr, sizeof(addr)));
	CALL(listen(sk, 1));
	CALL(connect(to, (void *)&addr, sizeof(addr)));
	CALL(write(to, "hello", 5));
	CALL(read(accept(sk, NULL, NULL), buf, 8));
	note("%s", buf);
	note_stat("s");
	CALL(open("s", O_RDWR));
	CALL(unlink("s"));
	CALL(connect(socket(AF_UNIX, SOCK_STREAM, 0), (void *)&addr, sizeof(addr)));
}

static void device_nodes(const struct situation *it, const struct side *s)
{
	char c = 1;
	int fd;

	CALL(mknod("zero", S_IFCHR | 0666, makedev(1, 5)));
	CALL(mknod("none", S_IFCHR | 0666, makedev(240, 77)));
	CALL(mknod("block", S_IFBLK | 0666, makedev(240, 77)));
	fd = open("zero", O_RDWR);
	CALL(read(fd, &c, 1));
	CALL(write(fd, &c, 1));
	note("%d", c);
	CALL(open("none", O_RDWR));
	CALL(open("block", O_RDWR));
	CALL(ftruncate(fd, 0));
	note_tree();
	CALL(mount(NULL, s->root, NULL, MS_REMOUNT | MS_BIND | MS_NODEV, NULL));
	CALL(open("zero", O_RDWR));
}

/* as_tmpfs --hello: see main(). */
static int run_program(const char *path)
{
	return in_child(
		execl(path, path, "--hello", NULL);
		_exit(errno);
	);
}

static void programs(const struct situation *it, const struct side *s)
{
	int fd;

	copy_program("p");
	note("ended with %d", run_program("./p"));
	fd = open("p", O_RDWR);
	note("while it is open for writing: %d", run_program("./p"));
	close(fd);
	CALL(chmod("p", 0644));
	note("without the right: %d", run_program("./p"));
	CALL(chmod("p", 0755));
	CALL(mount(NULL, s->root, NULL, MS_REMOUNT | MS_BIND | MS_NOEXEC, NULL));
	note("noexec: %d", run_program("./p"));
	CALL(mount(NULL, s->root, NULL, MS_REMOUNT | MS_BIND, NULL));
	CALL(rename("p", "q"));
	note("again: %d", run_program("./q"));
	fd = make_file("script", 0);
	must(dprintf(fd, "#!/bin/sh\nexit 7\n") > 0 && !fchmod(fd, 0755));
	close(fd);
	note("script: %d", run_program("./script"));
}

static void set_id_program(const struct situation *it, const struct side *s)
{
	copy_program("p");
	CALL(chown("p", SOMEBODY, SOMEBODY));
	CALL(chmod("p", 06755));
	note("uid of it: %d", in_child(
		execl("./p", "p", "--who", NULL);
		_exit(errno);
	));
	CALL(mount(NULL, s->root, NULL, MS_REMOUNT | MS_BIND | MS_NOSUID, NULL));
	note("nosuid: %d", in_child(
		execl("./p", "p", "--who", NULL);
		_exit(errno);
	));
}

static void program_is_replaced(const struct situation *it, const struct side *s)
{
	pid_t pid;
	int ready[2];
	char c;

	copy_program("p");
	must(!pipe(ready));
	pid = spawn();
	if (!pid) {
		must(dup2(ready[1], 1) == 1);
		execl("./p", "p", "--wait", NULL);
		_exit(1);
	}
	must(read(ready[0], &c, 1) == 1);
	CALL(open("p", O_WRONLY));
	CALL(truncate("p", 0));
	CALL(unlink("p"));
	copy_program("p");
	note("ended with %d", run_program("./p"));
	kill(pid, SIGKILL);
	note("and the other with %d", reap(pid));
}

/* The name in /proc, without the part before the root */
static void note_proc_name(const struct side *s, const char *path)
{
	char text[PATH_MAX], *rest;
	ssize_t n = readlink(path, text, sizeof(text) - 1);

	if (n < 0) {
		note("readlink: %s", error());
		return;
	}
	text[n] = 0;
	rest = strstr(text, s->root);
	note("%s", rest == text ? text + strlen(s->root) : text);
}

static void note_maps_of(const struct side *s, const void *mem)
{
	FILE *file = fopen("/proc/self/maps", "re");
	char line[PATH_MAX + 200], want[40], *at;

	must(file);
	snprintf(want, sizeof(want), "%lx-", (unsigned long)mem);
	while (fgets(line, sizeof(line), file)) {
		at = strstr(line, s->root);
		if (!strncmp(line, want, strlen(want)))
			note("maps: %s", at ? at + strlen(s->root) : "no such name");
	}
	fclose(file);
}

static void names_in_proc(const struct situation *it, const struct side *s)
{
	char fd_path[64], map_path[100], exe[64];
	int fd;
	char *mem;

	CALL(mkdir("d", 0755));
	fd = make_file("d/a", 2);
	mem = map_rw(fd, 2);
	snprintf(fd_path, sizeof(fd_path), "/proc/self/fd/%d", fd);
	snprintf(map_path, sizeof(map_path), "/proc/self/map_files/%lx-%lx",
		 (unsigned long)mem, (unsigned long)mem + 2 * pgsz());
	note_proc_name(s, fd_path);
	note_maps_of(s, mem);
	note_proc_name(s, map_path);
	CALL(rename("d", "e"));
	note_proc_name(s, fd_path);
	note_maps_of(s, mem);
	CALL(link("e/a", "b"));
	CALL(unlink("e/a"));
	note_proc_name(s, fd_path);
	note_maps_of(s, mem);
	CALL(truncate(map_path, pgsz()));
	note_fstat(fd);
	fd = open(".", O_TMPFILE | O_RDWR, 0600);
	snprintf(exe, sizeof(exe), "/proc/self/fd/%d", fd);
	must(readlink(exe, map_path, 30) > 0);
	note("a file without a name: %s",
	     strstr(map_path, s->root) == map_path ? "below the root" : "elsewhere");
}

/* ---- watching files ---- */

static void note_events(int in)
{
	char buf[8192] __attribute__((aligned(8)));
	ssize_t n, at;

	n = read(in, buf, sizeof(buf));
	if (n < 0)
		note("events: %s", error());
	for (at = 0; at < n;) {
		struct inotify_event *e = (void *)(buf + at);

		note("event of %d: %#x %s%s", e->wd, e->mask, e->len ? e->name : "",
		     e->cookie ? ", has a cookie" : "");
		at += sizeof(*e) + e->len;
	}
}

static void inotify(const struct situation *it, const struct side *s)
{
	int in = inotify_init1(IN_NONBLOCK | IN_CLOEXEC), fd;

	if (in < 0)
		skip_op("inotify_init1: %s", error());
	CALL(mkdir("d", 0755));
	close(make_file("old", 1));
	CALL(inotify_add_watch(in, ".", IN_ALL_EVENTS));
	CALL(inotify_add_watch(in, "d", IN_ALL_EVENTS));
	CALL(inotify_add_watch(in, "old", IN_ALL_EVENTS));
	fd = make_file("a", 1);
	note_events(in);
	CALL(ftruncate(fd, 0));
	CALL(fallocate(fd, 0, 0, pgsz()));
	CALL(fchmod(fd, 0600));
	close(fd);
	note_events(in);
	CALL(rename("a", "b"));
	note_events(in);
	CALL(rename("b", "d/b"));
	note_events(in);
	CALL(rename_with("d/b", "old", RENAME_EXCHANGE));
	note_events(in);
	CALL(link("old", "new"));
	CALL(symlink("x", "l"));
	CALL(mkdir("d/d", 0700));
	CALL(mkfifo("f", 0600));
	note_events(in);
	CALL(unlink("d/b"));
	note_events(in);
	CALL(rmdir("d/d"));
	CALL(rmdir("d"));
	CALL(unlink("old"));
	CALL(unlink("new"));
	note_events(in);
	must(!chdir("/"));
	close(open(s->root, O_RDONLY));
	note_events(in);
	CALL(umount(s->root));
	note_events(in);
}

/* ---- directories ---- */

static void make_many(const char *dir, int n, int first)
{
	char path[64];
	int i;

	for (i = first; i < first + n; i++) {
		snprintf(path, sizeof(path), "%s/file number %d", dir, i);
		must(!mknod(path, S_IFREG | 0600, 0));
	}
}

/* As `rm -r` does. */
static void remove_all_while_reading(const struct situation *it, const struct side *s)
{
	int n = 0, dots = 0;
	struct dirent *d;
	DIR *dir;

	CALL(mkdir("d", 0755));
	make_many("d", 1500, 0);
	note_stat("d");
	dir = opendir("d");
	must(dir);
	while ((d = readdir(dir))) {
		dots += is_dots(d->d_name);
		if (!is_dots(d->d_name) && !unlinkat(dirfd(dir), d->d_name, 0))
			n++;
	}
	note("%d removed, %d dots", n, dots);
	rewinddir(dir);
	note_dir_of(dir);
	closedir(dir);
	CALL(rmdir("d"));
	note_tree();
}

static void read_while_it_grows(const struct situation *it, const struct side *s)
{
	static char seen[3000];
	int i, n, once = 0, at = 300;
	struct dirent *d;
	DIR *dir;

	CALL(mkdir("d", 0755));
	make_many("d", 300, 0);
	dir = opendir("d");
	must(dir);
	while ((d = readdir(dir))) {
		if (sscanf(d->d_name, "file number %d", &n) != 1)
			continue;
		seen[n]++;
		if (at < 1500)
			make_many("d", 2, at);
		at += 2;
	}
	closedir(dir);
	for (i = 0; i < 300; i++)
		once += seen[i] == 1;
	note("%d of 300 were read once", once);
	for (i = 300; i < 3000; i++)
		if (seen[i] > 1)
			note("%d was read %d times", i, seen[i]);
}

static void small_buffer(const struct situation *it, const struct side *s)
{
	char buf[64];
	int fd = open(".", O_RDONLY | O_DIRECTORY);

	CALL(mkdir("a name that is rather long, and does not fit into so few bytes", 0755));
	CALL(syscall(SYS_getdents64, fd, buf, 8) < 0 ? -1 : 0);
	CALL(syscall(SYS_getdents64, fd, buf, 24) < 0 ? -1 : 0);
	CALL(syscall(SYS_getdents64, make_file("a", 0), buf, 64));
	CALL(syscall(SYS_getdents64, fd, NULL, 4096));
	CALL(read(fd, buf, 8));
	CALL(lseek(fd, -1, SEEK_SET));
	CALL(lseek(fd, 0, SEEK_END));
}

static void deep_tree(const struct situation *it, const struct side *s)
{
	char path[PATH_MAX] = "";
	int i, n;

	for (n = 0; n < 60; n++) {
		strcat(path, n ? "/d" : "d");
		if (mkdir(path, 0755))
			break;
	}
	note("%d deep", n);
	note_tree();
	CALL(rename("d", "d/d/d"));
	CALL(rename("d/d", "e"));
	CALL(rename_with("e", "d", RENAME_EXCHANGE));
	CALL(rename_with("d", "d/d", RENAME_EXCHANGE));
	note_tree();
	for (i = 0; i < n; i++) {
		*strrchr(path, '/') = 0;
		rmdir(path);
		if (!strchr(path, '/'))
			break;
	}
}

/* Leave nothing but the root. */
static void clear_tree(void)
{
	static struct tree t;

	t.n = 0;
	walk("", &t, 0);
	while (t.n--)
		must(!remove(t.path[t.n]));
}

/* What is there, in a line */
static void note_shape(void)
{
	static struct tree t;
	char text[600] = "";
	size_t used = 0;
	struct stat st;
	int i;

	t.n = 0;
	walk("", &t, 0);
	for (i = 0; i < t.n; i++) {
		must(!lstat(t.path[i], &st));
		used += snprintf(text + used, sizeof(text) - used, "%s:%o:%lu ", t.path[i],
				 st.st_mode >> 12, (unsigned long)st.st_nlink);
		must(used < sizeof(text));
	}
	note_hash("shape", text, used);
}

/* Of each kind to each kind; it->text is the flags. */
static void rename_all_kinds(const struct situation *it, const struct side *s)
{
	static const char * const kinds[] = {
		"file", "dir", "full", "link", "fifo", "none", "file/", "dir/", "dir/.", ".",
		"full/in", "hard", "same", "dangling",
	};
	size_t from, to;

	for (from = 0; from < ARRAY_SIZE(kinds); from++)
		for (to = 0; to < ARRAY_SIZE(kinds); to++) {
			close(make_file("file", 0));
			close(make_file("same", 0));
			must(!mkdir("dir", 0755) && !mkdir("full", 0755));
			must(!mkdir("full/in", 0755));
			must(!symlink("file", "link") && !symlink("nowhere", "dangling"));
			must(!mkfifo("fifo", 0600) && !link("file", "hard"));
			CALL_AS(rename_with(kinds[from], kinds[to], atoi(it->text)),
				"%s %s", kinds[from], kinds[to]);
			note_shape();
			clear_tree();
		}
	note_tree();
}

/* Each way to open each kind of file */
static void open_all_kinds(const struct situation *it, const struct side *s)
{
	static const char * const kinds[] = {
		"file", "dir", "link", "to dir", "dangling", "fifo", "none", "file/x",
		"file/", "none/", "dir/", "dir/new", "loop", "none/x", "sock",
	};
	static const int more[] = { 0, O_RDWR, O_WRONLY, O_RDWR | O_TRUNC, O_TRUNC, 3 };
	int flags = it->flags | O_NONBLOCK | O_CLOEXEC, fd;
	size_t i, k;

	for (i = 0; i < ARRAY_SIZE(kinds); i++)
		for (k = 0; k < ARRAY_SIZE(more); k++) {
			close(make_file("file", 1));
			must(!mkdir("dir", 0755) && !symlink("file", "link"));
			must(!symlink("dir", "to dir") && !symlink("nowhere", "dangling"));
			must(!mkfifo("fifo", 0600) && !symlink("loop", "loop"));
			must(!mknod("sock", S_IFSOCK | 0600, 0));
			fd = open(kinds[i], flags | more[k], 0640);
			CALL_AS(fd < 0 ? -1 : 0, "%s %#o", kinds[i], flags | more[k]);
			if (fd >= 0) {
				note("%#x", fcntl(fd, F_GETFL));
				close(fd);
			}
			note_shape();
			clear_tree();
		}
}

static void locks_of_two_opens(const struct situation *it, const struct side *s)
{
	struct flock lock = { .l_type = F_WRLCK, .l_start = 5, .l_len = 10 };
	int a = make_file("a", 1), b = open("a", O_RDWR), dir = open(".", O_RDONLY);

	CALL(flock(a, LOCK_EX | LOCK_NB));
	CALL(flock(b, LOCK_SH | LOCK_NB));
	CALL(flock(a, LOCK_SH | LOCK_NB));
	CALL(flock(b, LOCK_SH | LOCK_NB));
	CALL(fcntl(a, F_OFD_SETLK, &lock));
	CALL(fcntl(b, F_OFD_SETLK, &lock));
	lock.l_start = 15;
	CALL(fcntl(b, F_OFD_SETLK, &lock));
	CALL(in_child(_exit(fcntl(a, F_SETLK, &lock) ? errno : 0)));
	CALL(fcntl(a, F_SETLEASE, F_WRLCK));
	close(b);
	CALL(fcntl(a, F_SETLEASE, F_WRLCK));
	CALL(flock(dir, LOCK_EX | LOCK_NB));
	CALL(fcntl(dir, F_SETLK, &lock));
	CALL(unlink("a"));
	CALL(flock(a, LOCK_EX | LOCK_NB));
}

static void statx_of_all(const struct situation *it, const struct side *s)
{
	static const char * const paths[] = { ".", "file", "link" };
	struct statx st;
	size_t i;

	close(make_file("file", 1));
	CALL(symlink("x", "link"));
	for (i = 0; i < ARRAY_SIZE(paths); i++) {
		CALL(statx(AT_FDCWD, paths[i], AT_SYMLINK_NOFOLLOW, STATX_ALL, &st));
		note("%s: mask %x blksize %u nlink %u mode %o", paths[i], st.stx_mask & 0xfff,
		     st.stx_blksize, st.stx_nlink, st.stx_mode);
		note("made %s", st.stx_btime.tv_sec > st.stx_mtime.tv_sec ? "later" : "before");
	}
}

static void attributes_of_statx(const struct situation *it, const struct side *s)
{
	struct statx st;

	close(make_file("file", 1));
	CALL(statx(AT_FDCWD, "file", 0, STATX_ALL, &st));
	note("attributes %llx of %llx", st.stx_attributes & ~STATX_ATTR_MOUNT_ROOT,
	     st.stx_attributes_mask);
}

static void busy_when_unmounted(const struct situation *it, const struct side *s)
{
	int fd = make_file("a", 1);
	char *mem = map_rw(fd, 1);

	must(!chdir("/"));
	CALL(umount(s->root));
	close(fd);
	CALL(umount(s->root));
	unmap(mem, 1);
	CALL(umount(s->root));
	CALL(umount(s->root));
}

static void mounts_inside(const struct situation *it, const struct side *s)
{
	int fd;

	CALL(mkdir("d", 0755));
	close(make_file("a", 1));
	fd = make_file("b", 2);
	CALL(mount("none", "d", "tmpfs", 0, NULL));
	CALL(rmdir("d"));
	CALL(rename("d", "e"));
	CALL(link("a", "d/a"));
	CALL(rename("a", "d/a"));
	CALL(umount("d"));
	CALL(mount("b", "a", NULL, MS_BIND, NULL));
	note_file("a");
	CALL(unlink("a"));
	CALL(pwrite(fd, "x", 1, 0));
	note_file("a");
	CALL(umount("a"));
	CALL(rmdir("d"));
}

static void names(const struct situation *it, const struct side *s)
{
	char name[258];
	int len;

	for (len = 254; len <= 256; len++) {
		memset(name, 'n', sizeof(name));
		name[len] = 0;
		CALL(mknod(name, S_IFREG | 0600, 0));
		CALL(access(name, F_OK));
		CALL(mkdir(name, 0700));
		CALL(rename("x", name));
		CALL(symlink(name, "l"));
		CALL(open("l", O_RDONLY) < 0 ? -1 : 0);
		CALL(unlink("l"));
	}
	CALL(mkdir("caf\303\251\n \377", 0700));
	CALL(mkdir("CAF", 0700));
	CALL(mkdir("caf", 0700));
	CALL(mkdir("", 0700));
	CALL(mkdir(".", 0700));
	CALL(rmdir("."));
	CALL(rmdir(".."));
	CALL(rmdir("caf/."));
	CALL(rmdir("caf/.."));
	note_tree();
}

static void hard_links(const struct situation *it, const struct side *s)
{
	char path[20];
	int i;

	close(make_file("a", 1));
	for (i = 0; i < 150; i++) {
		snprintf(path, sizeof(path), "%d", i);
		must(!link("a", path));
	}
	note_stat("a");
	note_statfs();
	CALL(link(".", "b"));
	CALL(mkdir("d", 0700));
	CALL(link("d", "b"));
	CALL(symlink("a", "l"));
	CALL(link("l", "m"));
	note_stat("m");
	CALL(link("a", "0"));
	for (i = 0; i < 150; i++) {
		snprintf(path, sizeof(path), "%d", i);
		must(!unlink(path));
	}
	note_tree();
}

static void options_in_proc(const struct situation *it, const struct side *s)
{
	char line[1000], size[40], *at;
	FILE *file = fopen("/proc/self/mounts", "re");

	must(file);
	snprintf(size, sizeof(size), "size=%zuk", MIB_PAGES * pgsz() / 1024);
	while (fgets(line, sizeof(line), file)) {
		at = strstr(line, s->root);
		if (!at || at[strlen(s->root)] != ' ')
			continue;
		at = strchr(at, '/') + strlen(s->root) + 1;
		at += strcspn(at, " ") + 1;
		note("%.*s", (int)strcspn(at, ",\n"), at);
		note("size %d inodes %d mode %d uid %d", !!strstr(at, size),
		     !!strstr(at, "nr_inodes=77"), !!strstr(at, "mode=750"),
		     !!strstr(at, "uid=12"));
	}
	fclose(file);
}

#define SITUATION(fn, ...) { .name = #fn, .run = fn, __VA_ARGS__ }
#define WITH(fn, arg, ...) { .name = #fn ": " arg, .run = fn, .text = arg, __VA_ARGS__ }
#define OPENED(how) { .name = "open_all_kinds: " #how, .run = open_all_kinds, .flags = how }

#define ATTRIBUTES "a file has attributes, whether tmpfs was built with them or not"

static const struct situation situations[] = {
	WITH(mounted_with, ""),
	WITH(mounted_with, "size=1m"),
	WITH(mounted_with, "size=4096"),
	WITH(mounted_with, "size=4097"),
	WITH(mounted_with, "size=1"),
	WITH(mounted_with, "size=0"),
	WITH(mounted_with, "size=10%"),
	WITH(mounted_with, "size=1G"),
	WITH(mounted_with, "size=3t"),
	WITH(mounted_with, "size=1x"),
	WITH(mounted_with, "size=x"),
	WITH(mounted_with, "size="),
	WITH(mounted_with, "size"),
	WITH(mounted_with, "size=1%%"),
	WITH(mounted_with, "size=1m,size=2m"),
	WITH(mounted_with, "nr_inodes=100"),
	WITH(mounted_with, "nr_inodes=2k"),
	WITH(mounted_with, "nr_inodes=0"),
	WITH(mounted_with, "nr_inodes=1"),
	WITH(mounted_with, "nr_inodes=x"),
	WITH(mounted_with, "nr_inodes="),
	WITH(mounted_with, "mode=750"),
	WITH(mounted_with, "mode=01777"),
	WITH(mounted_with, "mode=7777"),
	WITH(mounted_with, "mode=8"),
	WITH(mounted_with, "mode=x"),
	WITH(mounted_with, "uid=1000,gid=1001"),
	WITH(mounted_with, "uid=x"),
	WITH(mounted_with, "gid=-1"),
	WITH(mounted_with, "uid=4294967295"),
	WITH(mounted_with, "uid=4294967296"),
	WITH(mounted_with, "size=2m,nr_inodes=10,mode=700,uid=1,gid=2"),
	WITH(mounted_with, "nonsense"),
	WITH(mounted_with, "nonsense=1"),
	WITH(mounted_with, "size=1m,,mode=700"),
	WITH(remounted_with, "size=1m"),
	WITH(remounted_with, "size=8m,nr_inodes=5"),
	WITH(remounted_with, "size=4k"),
	WITH(remounted_with, "size=40k"),
	WITH(remounted_with, "size=36k"),
	WITH(remounted_with, "nr_inodes=3"),
	WITH(remounted_with, "nr_inodes=2"),
	WITH(remounted_with, "size=x"),
	WITH(remounted_with, "nonsense"),
	WITH(remounted_with, ""),
	SITUATION(remounted_read_only),
	SITUATION(options_in_proc, .options = "size=1m,nr_inodes=77,mode=750,uid=12"),
	SITUATION(busy_when_unmounted),
	SITUATION(mounts_inside),
	SITUATION(file_system_type, .differs = "statfs() tells it by its own magic number"),
	SITUATION(fsid),

	WITH(extended_attributes, "user.x", .varies = true,
	     .differs = "users have attributes of their own; on a tmpfs from 6.6 on"),
	WITH(extended_attributes, "trusted.x", .varies = true, .differs = ATTRIBUTES),
	WITH(extended_attributes, "security.x", .varies = true, .differs = ATTRIBUTES),
	WITH(extended_attributes, "system.posix_acl_access"),
	WITH(extended_attributes, "nonsense"),
	SITUATION(inode_flags, .differs = "a file has no attributes of chattr(1)",
		  .varies = true),
	SITUATION(attributes_of_statx, .differs = "a file has no attributes of chattr(1)",
		  .varies = true),
	SITUATION(whiteout, .differs = "nothing is whited out: no file system is laid over it"),
	SITUATION(zero_range, .differs = "a range can be zeroed"),
	SITUATION(unshare_range, .differs = "a range can be unshared"),
	SITUATION(reflink, .differs = "files can share pages, that is the point"),
	SITUATION(copy_aligned, .differs = "files can share pages, which count once"),
	SITUATION(file_handle, .differs = "a file is reached by its name and by nothing else"),
	SITUATION(direct_io, .differs = "a tmpfs has no O_DIRECT before 6.6", .varies = true),
	SITUATION(seek_in_what_is_allocated,
		  .differs = "a page that is allocated but not written is data"),
	SITUATION(allocate_inside_without_room,
		  .differs = "what it got inside the file stays allocated"),
	SITUATION(loads_of_holes, .differs = "a load from a hole takes no page"),
	SITUATION(store_after_a_load,
		  .differs = "a page is mapped read-only first, so a store is told"),
	SITUATION(order_of_names, .differs = "the last one made comes first; from 6.6 on",
		  .varies = true),

	SITUATION(allocate_too_much),
	SITUATION(allocate_more_than_there_is),
	SITUATION(allocate_past_the_end_without_room),
	SITUATION(truncate_to_the_same_size),
	SITUATION(first_store),
	SITUATION(symlinks),
	SITUATION(symlinks_without_room, .options = "size=40k,nr_inodes=20"),
	SITUATION(extreme_sizes),
	SITUATION(size_limit),
	SITUATION(no_room_for_a_mapping, .options = "size=80k,nr_inodes=20"),
	SITUATION(unlinked_but_open),
	SITUATION(temporary_file),
	SITUATION(inodes_of_each_kind),
	SITUATION(no_inode_left, .options = "nr_inodes=12"),
	SITUATION(permissions),
	SITUATION(setgid_directories),
	SITUATION(set_id_bits),
	SITUATION(fifos),
	SITUATION(sockets),
	SITUATION(device_nodes),
	SITUATION(programs, .options = "size=32m"),
	SITUATION(set_id_program, .options = "size=32m"),
	SITUATION(program_is_replaced, .options = "size=32m"),
	SITUATION(names_in_proc),
	SITUATION(inotify),
	SITUATION(remove_all_while_reading, .options = "nr_inodes=2000"),
	SITUATION(read_while_it_grows, .options = "nr_inodes=4000"),
	SITUATION(small_buffer),
	SITUATION(deep_tree),
	WITH(rename_all_kinds, "0"),
	WITH(rename_all_kinds, "1"),
	WITH(rename_all_kinds, "2"),
	WITH(rename_all_kinds, "3"),
	OPENED(O_RDONLY),
	OPENED(O_CREAT),
	OPENED(O_CREAT | O_EXCL),
	OPENED(O_DIRECTORY),
	OPENED(O_NOFOLLOW),
	OPENED(O_NOFOLLOW | O_CREAT),
	OPENED(O_PATH),
	OPENED(O_TMPFILE),
	SITUATION(locks_of_two_opens),
	SITUATION(statx_of_all),
	SITUATION(names),
	SITUATION(hard_links),
};

/* Unless it is mounted by the situation itself */
static void run_situation_on(const struct situation *it, const struct side *s,
			     struct outcome *o)
{
	const char *options = it->options ?: DEFAULT;
	bool mounts = it->run != mounted_with;
	int status;

	begin_outcome(o);
	if (mounts && mount_side(s, 0, sized(options))) {
		note("mount: %s", error());
		return;
	}
	status = in_child({
		alarm(60);
		umask(022);
		must(!chdir(s->root));
		it->run(it, s);
	});
	if (status)
		note("ended with %d", status);
	if (mounts && umount(s->root) && errno != EINVAL)
		umount2(s->root, MNT_DETACH);
	if (show)
		printf("# %s, %s\n%s", it->name, s->type, o->text);
}

static void run_situation(const struct situation *it)
{
	const char *why = self ? NULL : it->differs;
	bool differ, ok = true;
	size_t i;

	for (i = 0; i < 2; i++)
		run_situation_on(it, &sides[i], outcomes[i]);
	if (outcomes[0]->skipped) {
		ksft_test_result_skip("%s: %s\n", it->name, outcomes[0]->text);
		return;
	}
	differ = strcmp(outcomes[0]->text, outcomes[1]->text);
	if (!differ && why && !it->varies) {
		ksft_print_msg("no longer differs (%s)\n", why);
		ok = false;
	}
	if (differ && !why) {
		print_differing(sides[1].type, outcomes[1]->text, sides[0].type,
				outcomes[0]->text);
		ok = false;
	}
	ksft_test_result(ok, "%s\n", it->name);
}

static void print_differences(void)
{
	const struct situation *it;

	for (it = situations; it < situations + ARRAY_SIZE(situations); it++)
		if (it->differs)
			printf("%s%s: %s\n", it->name, it->varies ? " (on some kernels)" : "",
			       it->differs);
}

/* ---- to run it ---- */

/* What the programs of some situations do */
static void play_program(const char *word)
{
	if (!strcmp(word, "--hello"))
		exit(42);
	if (!strcmp(word, "--who"))
		exit(geteuid() == SOMEBODY ? 1 : 2);
	if (!strcmp(word, "--wait")) {
		must(write(1, "x", 1) == 1);
		pause();
	}
}

static char **take_options(char **argv)
{
	for (argv++; *argv && !strncmp(*argv, "--", 2); argv++) {
		play_program(*argv);
		if (!strcmp(*argv, "--differences")) {
			print_differences();
			exit(0);
		}
		show |= !strcmp(*argv, "--show");
		self |= !strcmp(*argv, "--self");
	}
	return argv;
}

static bool can_mount(const struct side *s)
{
	if (mount_side(s, 0, NULL))
		return false;
	must(!umount(s->root));
	return true;
}

int main(int argc, char **argv)
{
	size_t i, n = 0;
	char name[64];
	uint64_t seed;

	argv = take_options(argv);
	if (self)
		sides[1].type = sides[0].type;
	ksft_print_header();
	if (geteuid())
		ksft_exit_skip("only root can mount\n");
	for (i = 0; i < 2; i++)
		outcomes[i] = shared_mem(sizeof(*out));
	place = shared_mem(sizeof(*place));
	make_places();
	if (!can_mount(&sides[0]) || !can_mount(&sides[1])) {
		remove_places();
		ksft_exit_skip("cannot mount tmpfs and %s: %s\n", sides[1].type, strerror(errno));
	}
	rng_init();
	seed = rng_state;
	for (i = 0; i < ARRAY_SIZE(situations); i++)
		n += wanted(situations[i].name, argv);
	for (i = 0; i < ARRAY_SIZE(flavours); i++) {
		snprintf(name, sizeof(name), "random: %s", flavours[i].name);
		n += wanted(name, argv);
	}
	ksft_set_plan(n);
	for (i = 0; i < ARRAY_SIZE(situations); i++)
		if (wanted(situations[i].name, argv))
			run_situation(&situations[i]);
	for (i = 0; i < ARRAY_SIZE(flavours); i++) {
		snprintf(name, sizeof(name), "random: %s", flavours[i].name);
		if (wanted(name, argv))
			run_flavour(&flavours[i], seed);
	}
	remove_places();
	ksft_finished();
}
