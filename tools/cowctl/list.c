// SPDX-License-Identifier: GPL-2.0-only
/*
 * cowctl list - which regions there are, and who has them
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "info.h"
#include "process.h"
#include "tree.h"

/**
 * struct listing - what was found so far
 * @regions: an object for each region
 * @keys: the same objects by "DEV:INO"
 * @hidden: how many processes could not be looked into
 */
struct listing {
	json_t *regions;
	json_t *keys;
	unsigned int hidden;
};

/* The object of a region, which is made if there is none; *@fresh tells. Two that are not known, 0, are two. */
static json_t *region_object(struct listing *listing, uint64_t dev, uint64_t ino, bool *fresh)
{
	char *key = must_printf("%llx:%llu", (unsigned long long)dev, (unsigned long long)ino);
	json_t *object = dev || ino ? json_object_get(listing->keys, key) : NULL;

	*fresh = !object;
	if (!object) {
		object = json_pack("{s:o, s:n, s:i, s:[], s:[]}", "id",
				   ino ? json_integer((json_int_t)ino) : json_null(), "name", "mapped", 0, "arguments",
				   "users");
		json_object_set_new(listing->keys, key, object);
		json_array_append(listing->regions, object);
	}
	free(key);
	return object;
}

/* "/cowmem:guest-7 (deleted)" is a region that somebody called guest-7. */
static json_t *plain_name(const char *name)
{
	static const char prefix[] = "/cowmem:", suffix[] = " (deleted)";
	size_t length = strlen(name), cut = strlen(suffix);
	char *copy;
	json_t *value;

	if (strncmp(name, prefix, strlen(prefix)))
		return json_name(name);
	copy = must(strdup(name + strlen(prefix)));
	length -= strlen(prefix);
	if (length >= cut && !strcmp(copy + length - cut, suffix))
		copy[length - cut] = 0;
	value = json_name(copy);
	free(copy);
	return value;
}

static void add_argument(json_t *object, const char *argument)
{
	json_array_append_new(json_object_get(object, "arguments"), json_name(argument));
}

/* The object of a process that has the region. */
static json_t *user_object(json_t *region, pid_t pid)
{
	json_t *users = json_object_get(region, "users"), *user;
	char *command;
	size_t i;

	json_array_foreach(users, i, user)
		if (json_integer_value(json_object_get(user, "pid")) == pid)
			return user;
	command = process_name(pid);
	user = json_pack("{s:i, s:o, s:[], s:I}", "pid", (int)pid, "command", json_name(command), "fds", "mapped",
			 (json_int_t)0);
	free(command);
	json_array_append_new(users, user);
	return user;
}

/* How much of it all processes have mapped. */
static void sum_mapped(json_t *region)
{
	json_int_t sum = 0;
	json_t *user;
	size_t i;

	json_array_foreach(json_object_get(region, "users"), i, user)
		sum += json_integer_value(json_object_get(user, "mapped"));
	json_object_set_new(region, "mapped", json_integer(sum));
}

/* What it holds, if we may know that. */
static void look_into(json_t *object, const struct cowmem_found *found)
{
	int fd = found->fd >= 0 ? cowmem_take(found->pid, found->fd) :
		 cowmem_take_mapped(found->pid, found->addr, COWMEM_FILE_RDONLY);

	if (fd < 0)
		return;
	add_region(object, fd);
	close(fd);
}

static int add_found(const struct cowmem_found *found, void *arg)
{
	struct listing *listing = arg;
	json_t *object, *user;
	char *argument;
	bool fresh;

	object = region_object(listing, found->dev, found->ino, &fresh);
	if (fresh)
		json_object_set_new(object, "name", plain_name(found->name));
	if (!json_object_get(object, "kind"))
		look_into(object, found);
	user = user_object(object, found->pid);
	if (found->fd >= 0)
		json_array_append_new(json_object_get(user, "fds"), json_integer(found->fd));
	/* Each of a process's descriptors comes with all that it has mapped. */
	json_object_set_new(user, "mapped", json_integer((json_int_t)found->mapped));
	sum_mapped(object);
	if (found->fd >= 0)
		argument = must_printf("%d:%d", (int)found->pid, found->fd);
	else
		argument = must_printf("%d:0x%llx", (int)found->pid, (unsigned long long)found->addr);
	add_argument(object, argument);
	free(argument);
	return 0;
}

/* Has the process any of the regions that were found? */
static bool has_user(const struct listing *listing, pid_t pid)
{
	json_t *region, *user;
	size_t i, j;

	json_array_foreach(listing->regions, i, region)
		json_array_foreach(json_object_get(region, "users"), j, user)
			if (json_integer_value(json_object_get(user, "pid")) == pid)
				return true;
	return false;
}

static int list_process(struct listing *listing, const char *arg)
{
	pid_t pid = (pid_t)parse_number("PID", arg, 1, INT32_MAX);

	size_t before = json_array_size(listing->regions);

	if (cowmem_find(pid, add_found, listing))
		return complain_process(arg, pid);
	/* Of one that comes after another it may be that both have the same. */
	return json_array_size(listing->regions) > before || has_user(listing, pid) ? 0 : complain_none(arg, pid);
}

static int list_processes(struct listing *listing)
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;
	int err = 0;

	if (!proc)
		return complain("/proc", "%s", strerror(errno));
	while ((entry = readdir(proc))) {
		pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);

		if (pid <= 0 || pid == getpid())
			continue;
		if (!cowmem_find(pid, add_found, listing) || errno == ESRCH)
			continue;
		if (errno == EPERM || errno == EACCES)
			listing->hidden++;
		else
			err = complain_errno(entry->d_name);
	}
	closedir(proc);
	return err;
}

/* What was opened, with O_PATH: its path may lead to something else by now, which could do harm when it is opened. */
static void list_file(struct listing *listing, int at, const char *path, const char *argument)
{
	struct stat st;
	json_t *object;
	bool fresh;
	int fd;

	if (!is_mount(at) || fstat(at, &st) || !S_ISREG(st.st_mode))
		return;
	fd = open_again(at, O_RDONLY | O_NONBLOCK);
	/* What is not for us to open is there nevertheless. */
	if (fd < 0 ? errno != EACCES : !cowmem_is_region(fd))
		goto out;
	object = region_object(listing, st.st_dev, st.st_ino, &fresh);
	/* What a process called it may be an older name. */
	json_object_set_new(object, "name", json_name(path));
	if (fd >= 0 && !json_object_get(object, "kind"))
		add_region(object, fd);
	add_argument(object, argument);
out:
	if (fd >= 0)
		close(fd);
}

static int list_below(struct listing *listing, int dir, const char *below, const char *path, const char *argument)
{
	bool gone;
	int fd = open_below(dir, below, O_PATH, &gone);

	if (fd < 0)
		return gone ? 0 : -1;
	list_file(listing, fd, path, argument);
	close(fd);
	return 0;
}

/* All files below a directory, open as @dir. In the store itself their names do, elsewhere they are named by paths. */
static int list_directory(struct listing *listing, int dir, const char *name, bool store)
{
	char *root = must_printf("/proc/self/fd/%d/.", dir), *const roots[] = { root, NULL };
	FTS *tree = must(fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR | FTS_XDEV, NULL));
	const char *slash = name[strlen(name) - 1] == '/' ? "" : "/";
	FTSENT *entry;
	int err = 0;

	while ((errno = 0, entry = fts_read(tree))) {
		const char *below = entry->fts_level ? entry->fts_path + strlen(root) + 1 : "";
		char *path = entry->fts_level ? must_printf("%s%s%s", name, slash, below) : must(strdup(name));

		if (entry->fts_info == FTS_F)
			err |= list_below(listing, dir, below, path,
					  store && entry->fts_level == 1 && !is_process_arg(below) ? below : path);
		else if (entry->fts_info == FTS_DNR || (entry->fts_info == FTS_NS && !entry->fts_level))
			err = complain(path, "%s", strerror(entry->fts_errno));
		free(path);
	}
	if (errno)
		err = complain(name, "it cannot be read to its end: %s", strerror(errno));
	fts_close(tree);
	free(root);
	return err;
}

static int list_store(struct listing *listing)
{
	int dir = store_open(false), err;

	if (dir < 0)
		return errno == ENOENT ? 0 : complain(store_path(), "%s", strerror(errno));
	err = list_directory(listing, dir, store_path(), true);
	close(dir);
	return err;
}

static const char help[] =
"Usage: cowctl list [OPTION]... [PID | FILE | DIRECTORY]...\n"
"\n"
"Lists the regions of processes, or files and those below directories, on a\n"
"mount: paths, or names in the store;\n"
"without arguments those of all processes that may be looked into, and what is\n"
"in the store. Each region once:\n"
"\n"
"  REGION  what to call it for other verbs: PID:FD, PID:ADDRESS if it is only\n"
"          mapped, or a name; for each user one\n"
"  KIND    live, sealed, snapshot, expendable or yielded\n"
"  SIZE, POPULATED, SHARED, HUGE   in bytes: its size, what is not a hole, what\n"
"                                  others hold too, what is in 2 MiB\n"
"  MAPPED  how much of it all processes together have mapped\n"
"  NAME    what its maker called it\n"
"\n"
"      --json            as JSON: { \"regions\": [...] }, with all users, their\n"
"                        descriptors and mappings\n"
"  -h, --human-readable  sizes as 1.5G\n"
"      --help            this text\n";

static const struct column columns[] = {
	{ "id", "ID", COLUMN_NUMBER },
	{ "kind", "KIND", COLUMN_TEXT },
	{ "size", "SIZE", COLUMN_BYTES },
	{ "populated", "POPULATED", COLUMN_BYTES },
	{ "shared", "SHARED", COLUMN_BYTES },
	{ "huge", "HUGE", COLUMN_BYTES },
	{ "mapped", "MAPPED", COLUMN_BYTES },
	{ "arguments", "REGION", COLUMN_LIST },
	{ "name", "NAME", COLUMN_TEXT },
	{ NULL, NULL, 0 },
};

static int list_path(struct listing *listing, const char *arg)
{
	int at = find_name(arg), fd, err = 0;
	struct stat st;
	char *path;

	if (at == -1)
		return -1;
	path = at == AT_FDCWD ? must(strdup(arg)) : must_printf("%s/%s", store_path(), arg);
	fd = openat(at, arg, O_PATH | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st))
		err = complain(arg, "%s", strerror(errno));
	else if (!is_mount(fd) || !(S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)))
		err = complain_no_region(arg);
	else if (S_ISDIR(st.st_mode))
		err = list_directory(listing, fd, path, false);
	else
		list_file(listing, fd, path, arg);
	if (fd >= 0)
		close(fd);
	if (at >= 0)
		close(at);
	free(path);
	return err;
}

static int list_argument(struct listing *listing, const char *arg)
{
	if (is_process_arg(arg) && !strchr(arg, ':'))
		return list_process(listing, arg);
	if (is_process_arg(arg))
		return complain(arg, "that is one region: cowctl info %s", arg);
	return list_path(listing, arg);
}

static int list_run(int argc, char **argv)
{
	static const struct option options[] = { HUMAN_OPTION, COMMON_OPTIONS };
	struct listing listing = { };
	int err = 0;

	while (next_option(argc, argv, "h", options) >= 0)
		;
	argv = want_args(argc, argv, 0, argc);
	if (want_module("list"))
		return -1;
	listing.regions = json_array();
	listing.keys = json_object();
	if (!*argv)
		err = list_processes(&listing) | list_store(&listing);
	for (; *argv; argv++)
		err |= list_argument(&listing, *argv);
	if (listing.hidden)
		warn_user("list", "%u processes may not be looked into; as root all are", listing.hidden);
	json_decref(listing.keys);
	return show_rows("regions", listing.regions, columns) | err;
}

const struct verb verb_list = { "list", "which regions there are, and who has them", help, list_run };
