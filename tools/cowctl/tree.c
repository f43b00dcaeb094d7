// SPDX-License-Identifier: GPL-2.0-only
/*
 * Clones of all files of a directory, at one instant
 *
 * First the directory is walked and each file opened, then all are cloned at once, and then a directory with their
 * names is built, under a name that begins with a dot. It gets its own name last.
 */
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <stdlib.h>
#include <string.h>
#include <linux/openat2.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tree.h"

/**
 * struct entry - something below the directory
 * @path: from there
 * @stat: what it is
 * @target: of a symbolic link
 * @file: number of the file in struct tree, if it is one; two names may be of one
 */
struct entry {
	char *path;
	struct stat stat;
	char *target;
	size_t file;
};

/* What makes a file one and the same, whatever it is called. */
struct id {
	dev_t dev;
	ino_t ino;
};

/**
 * struct tree - all of it
 * @entries: the directory itself, then what is below
 * @made: how many of them the new directory has
 */
struct tree {
	int dir;
	struct entry *entries;
	size_t nr_entries;
	size_t made;
	int *fds;
	int *clones;
	struct id *ids;
	size_t nr_files;
};

/* ---- what is there ---- */

/* Every file is open, and its clone: as many as we may have. */
static void raise_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

static struct entry *add_entry(struct tree *tree, const char *path, const struct stat *stat)
{
	struct entry *entry;

	/* Doubled at each power of two. */
	if (!(tree->nr_entries & (tree->nr_entries - 1)))
		tree->entries = must(reallocarray(tree->entries, tree->nr_entries ? 2 * tree->nr_entries : 1,
						  sizeof(*tree->entries)));
	entry = &tree->entries[tree->nr_entries++];
	*entry = (struct entry) { .path = must(strdup(path)), .stat = *stat };
	return entry;
}

/* One of several names of a file whose other one was seen? Returns its number, or nr_files. */
static size_t find_file(const struct tree *tree, const struct stat *stat)
{
	size_t i = tree->nr_files;

	if (stat->st_nlink < 2)
		return i;
	for (i = 0; i < tree->nr_files; i++)
		if (tree->ids[i].ino == stat->st_ino && tree->ids[i].dev == stat->st_dev)
			return i;
	return i;
}

static int complain_files(const char *what)
{
	if (errno == EMFILE)
		return complain(what, "too many files to have all open at once; raise the limit: ulimit -Hn");
	return complain(what, "%s", strerror(errno));
}

int open_below(int dir, const char *path, unsigned int flags, bool *gone)
{
	struct open_how how = {
		.flags = flags | O_CLOEXEC | O_NOFOLLOW,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS,
	};
	int fd;

	/* Where another file system is mounted there is an empty directory, but none of its files are. */
	if (!(flags & O_PATH))
		how.resolve |= RESOLVE_NO_XDEV;
	fd = (int)syscall(SYS_openat2, dir, path, &how, sizeof(how));
	*gone = fd < 0 && (errno == ENOENT || errno == ELOOP || errno == ENXIO || errno == EXDEV || errno == ENOTDIR);
	if (fd < 0 && !*gone)
		complain_files(path);
	return fd;
}

/* Takes @fd over if it is new. Returns its number, or -1 after it was said why. */
static ssize_t add_fd(struct tree *tree, int fd, const char *path, const struct stat *stat)
{
	if (tree->nr_files == COWMEM_CLONE_MANY_MAX)
		return complain(path, "more than %d files; snapshot a part of them", COWMEM_CLONE_MANY_MAX);
	tree->fds = must(reallocarray(tree->fds, tree->nr_files + 1, sizeof(*tree->fds)));
	tree->ids = must(reallocarray(tree->ids, tree->nr_files + 1, sizeof(*tree->ids)));
	tree->ids[tree->nr_files] = (struct id) { stat->st_dev, stat->st_ino };
	tree->fds[tree->nr_files] = fd;
	return (ssize_t)tree->nr_files++;
}

static int add_file(struct tree *tree, const char *path)
{
	bool gone;
	int fd = open_below(tree->dir, path, O_RDONLY | O_NONBLOCK | O_NOCTTY, &gone), err = 0;
	struct stat stat;
	ssize_t file;

	if (fd < 0)
		return gone ? 0 : -1;
	if (fstat(fd, &stat) || !S_ISREG(stat.st_mode) || !cowmem_is_region(fd))
		goto out;
	file = (ssize_t)find_file(tree, &stat);
	if (file == (ssize_t)tree->nr_files) {
		file = add_fd(tree, fd, path, &stat);
		if (file < 0)
			err = -1;
		else
			fd = -1;
	}
	if (!err)
		add_entry(tree, path, &stat)->file = (size_t)file;
out:
	if (fd >= 0)
		close(fd);
	return err;
}

/* Sets *gone as open_below() does. */
static int add_directory(struct tree *tree, const char *path, bool *gone)
{
	int fd = open_below(tree->dir, path, O_PATH | O_DIRECTORY, gone);
	struct stat stat;

	if (fd < 0)
		return *gone ? 0 : -1;
	*gone = fstat(fd, &stat) != 0;
	if (!*gone)
		add_entry(tree, path, &stat);
	close(fd);
	return 0;
}

static int add_symlink(struct tree *tree, const char *path)
{
	bool gone;
	int fd = open_below(tree->dir, path, O_PATH, &gone);
	char target[4096];
	struct stat stat;
	ssize_t length;
	int err = 0;

	if (fd < 0)
		return gone ? 0 : -1;
	/* Of what was opened, so nothing can be put in its place any more. These errors say that it is no link. */
	length = readlinkat(fd, "", target, sizeof(target) - 1);
	if (length >= 0 && !fstat(fd, &stat)) {
		target[length] = 0;
		add_entry(tree, path, &stat)->target = must(strdup(target));
	} else if (errno != EINVAL && errno != ENOENT) {
		err = complain(path, "%s", strerror(errno));
	}
	close(fd);
	return err;
}

static int add_walked(struct tree *tree, FTS *fts, FTSENT *walked, const char *below)
{
	bool gone = false;
	int err;

	switch (walked->fts_info) {
	case FTS_D:
		err = add_directory(tree, below, &gone);
		if (gone)
			fts_set(fts, walked, FTS_SKIP);
		return err;
	case FTS_F:
		return add_file(tree, below);
	case FTS_SL:
	case FTS_SLNONE:
		return add_symlink(tree, below);
	case FTS_DEFAULT:
		warn_user(below, "left out: no regular file, directory or symbolic link");
		return 0;
	case FTS_DC:
		return complain(below, "a directory that has itself below it");
	case FTS_NS:
	case FTS_DNR:
	case FTS_ERR:
		/* What goes away meanwhile is left out; nothing else is without a word. */
		return walked->fts_errno == ENOENT ? 0 : complain(below, "%s", strerror(walked->fts_errno));
	}
	return 0;
}

/* Snapshots that were made below the directory are in a directory of their own, and no part of the next one. */
static bool is_place(const FTSENT *walked, const struct stat *place)
{
	return walked->fts_info == FTS_D && walked->fts_statp->st_dev == place->st_dev &&
	       walked->fts_statp->st_ino == place->st_ino;
}

static int walk(struct tree *tree, int dir, const struct stat *place)
{
	char *root = must_printf("/proc/self/fd/%d/.", dir);
	char *const roots[] = { root, NULL };
	FTS *fts = must(fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR | FTS_XDEV, NULL));
	FTSENT *walked;
	int err = 0;

	while (!err && (errno = 0, walked = fts_read(fts))) {
		if (walked->fts_level && is_place(walked, place))
			fts_set(fts, walked, FTS_SKIP);
		else if (walked->fts_level)
			err = add_walked(tree, fts, walked, walked->fts_path + strlen(root) + 1);
		else if (walked->fts_info == FTS_D)
			add_entry(tree, ".", walked->fts_statp);
		else if (walked->fts_info != FTS_DP)
			err = complain("the directory", "%s", strerror(walked->fts_errno));
	}
	if (!err && errno)
		err = complain("the directory", "it cannot be read to its end: %s", strerror(errno));
	fts_close(fts);
	free(root);
	return err;
}

/* ---- the new directory ---- */

/* Owner, mode and times are those of the original, as far as we may set them. A snapshot is not writable anyway. */
static void dress(int dir, const char *path, const struct entry *entry, bool snapshot)
{
	const struct timespec times[] = { entry->stat.st_atim, entry->stat.st_mtim };
	mode_t mode = entry->stat.st_mode & (S_ISREG(entry->stat.st_mode) && snapshot ? 07555 : 07777);

	/* Without the owner, bits that give his rights are taken away. */
	if (fchownat(dir, path, entry->stat.st_uid, entry->stat.st_gid, AT_SYMLINK_NOFOLLOW))
		mode &= 01777;
	if (!S_ISLNK(entry->stat.st_mode))
		fchmodat(dir, path, mode, 0);
	utimensat(dir, path, times, AT_SYMLINK_NOFOLLOW);
}

static int build_file(const struct tree *tree, int dir, const struct entry *entry)
{
	return link_file(tree->clones[entry->file], dir, entry->path);
}

static int build_entry(const struct tree *tree, int dir, const struct entry *entry)
{
	if (S_ISDIR(entry->stat.st_mode))
		return mkdirat(dir, entry->path, 0700);
	if (S_ISLNK(entry->stat.st_mode))
		return symlinkat(entry->target, dir, entry->path);
	return build_file(tree, dir, entry);
}

/*
 * Directories come before what is in them, so they are dressed from the end: their times stay. The top, the first one,
 * is not dressed yet: until it has its name nobody else may get in, as all here is done by path.
 */
static int build(struct tree *tree, int dir, bool snapshot, const struct place *place)
{
	size_t i;

	for (tree->made = 1; tree->made < tree->nr_entries; tree->made++)
		if (build_entry(tree, dir, &tree->entries[tree->made]))
			return complain_place(place);
	for (i = tree->nr_entries; --i;)
		dress(dir, tree->entries[i].path, &tree->entries[i], snapshot);
	return 0;
}

/* By descriptor: whoever gets it may do with it what he likes from then on. */
static void dress_top(int dir, const struct entry *top)
{
	const struct timespec times[] = { top->stat.st_atim, top->stat.st_mtim };
	mode_t mode = top->stat.st_mode & 07777;

	if (fchown(dir, top->stat.st_uid, top->stat.st_gid))
		mode &= 01777;
	fchmod(dir, mode);
	futimens(dir, times);
}

/* Take away what build() has made. Modes do not hinder who made it, but for directories that are not for writing. */
static void unbuild(const struct tree *tree, int dir)
{
	size_t i;

	for (i = 1; i < tree->made; i++)
		if (S_ISDIR(tree->entries[i].stat.st_mode))
			fchmodat(dir, tree->entries[i].path, 0700, 0);
	for (i = tree->made; --i;)
		unlinkat(dir, tree->entries[i].path, S_ISDIR(tree->entries[i].stat.st_mode) ? AT_REMOVEDIR : 0);
}

/*
 * Whoever owns the place may have put something else there under our name, and root would build that, and give it away.
 * What is root's own, closed to others and empty is as good as what we made: nobody else gets into it.
 */
static int open_made(const struct place *place, const char *name)
{
	int dir = openat(place->dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct stat made, there;

	if (dir < 0 && errno != ELOOP && errno != ENOTDIR && errno != ENOENT)
		return complain(place->path, "%s", strerror(errno));
	if (dir >= 0 && !fstat(dir, &made) && !fstat(place->dir, &there) && made.st_uid == geteuid() &&
	    !(made.st_mode & 077) && made.st_dev == there.st_dev && is_empty(dir))
		return dir;
	if (dir >= 0)
		close(dir);
	return complain(place->path, "what was made for it was replaced meanwhile; name a place where only you make files");
}

static int publish(const struct place *place, const char *name)
{
	if (!renameat2(place->dir, name, place->dir, place->name, RENAME_NOREPLACE))
		return 0;
	return complain_place(place);
}

/* Its name, or NULL after it was said why. One that was killed may have left what has our number. */
static char *make_dir(const struct place *place)
{
	char *name = NULL;
	unsigned int i;

	for (i = 0; i < 100; i++) {
		free(name);
		name = must_printf(".cowctl-%d-%u", (int)getpid(), i);
		if (!mkdirat(place->dir, name, 0700))
			return name;
		if (errno != EEXIST)
			break;
	}
	if (errno == EEXIST)
		complain(place->path, "%s and others beside it are left of what was killed; remove them", name);
	else
		complain_place(place);
	free(name);
	return NULL;
}

static int build_at(struct tree *tree, const struct place *place, bool snapshot)
{
	char *name = make_dir(place);
	int dir, err = -1;

	if (!name)
		return -1;
	dir = open_made(place, name);
	if (dir >= 0) {
		err = build(tree, dir, snapshot, place);
		if (!err)
			err = publish(place, name);
		if (err)
			unbuild(tree, dir);
		else
			dress_top(dir, &tree->entries[0]);
		close(dir);
	}
	if (err)
		unlinkat(place->dir, name, AT_REMOVEDIR);
	free(name);
	return err;
}

/* ---- */

static int clone_files(struct tree *tree, const char *arg, unsigned int flags)
{
	if (!tree->nr_files)
		return 0;
	tree->clones = must(reallocarray(NULL, tree->nr_files, sizeof(*tree->clones)));
	if (!cowmem_clone_many(tree->fds, tree->clones, tree->nr_files, flags))
		return 0;
	free(tree->clones);
	tree->clones = NULL;
	return errno == EMFILE ? complain_files(arg) : complain_errno(arg);
}

static void free_tree(struct tree *tree)
{
	size_t i;

	for (i = 0; i < tree->nr_files; i++) {
		close(tree->fds[i]);
		if (tree->clones)
			close(tree->clones[i]);
	}
	for (i = 0; i < tree->nr_entries; i++) {
		free(tree->entries[i].path);
		free(tree->entries[i].target);
	}
	free(tree->entries);
	free(tree->fds);
	free(tree->clones);
	free(tree->ids);
}

int clone_tree(int dir, const char *arg, const struct place *place, unsigned int flags, size_t *files)
{
	struct tree tree = { .dir = dir };
	struct stat here, there;
	int err;

	if (fstat(dir, &here) || fstat(place->dir, &there))
		return complain_errno(arg);
	if (here.st_dev != there.st_dev)
		return complain_other_mount(place, arg, dir);
	if (here.st_ino == there.st_ino)
		return complain(place->path,
				"it would be a part of what is cloned; put it into a directory of its own, as %s/.snapshots/%s",
				arg, place->name);
	raise_limit();
	err = walk(&tree, dir, &there);
	if (!err)
		err = clone_files(&tree, arg, flags);
	if (!err)
		err = build_at(&tree, place, flags & COWMEM_CLONE_SNAPSHOT);
	*files = tree.nr_files;
	free_tree(&tree);
	return err;
}
