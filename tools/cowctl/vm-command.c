// SPDX-License-Identifier: GPL-2.0-only
/*
 * How a QEMU was started, and how to start one like it with other files
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "process.h"
#include "vm-command.h"

void list_free(char **list)
{
	size_t i;

	for (i = 0; list && list[i]; i++)
		free(list[i]);
	free(list);
}

struct change *change_add(struct changes *changes, char *old, char *new)
{
	changes->list = must(reallocarray(changes->list, changes->count + 1, sizeof(*changes->list)));
	changes->list[changes->count] = (struct change) { .old = old, .new = new };
	return &changes->list[changes->count++];
}

void changes_free(struct changes *changes)
{
	while (changes->count) {
		changes->count--;
		free(changes->list[changes->count].old);
		free(changes->list[changes->count].new);
	}
	free(changes->list);
	changes->list = NULL;
}

/* ---- /proc ---- */

static void list_add(char ***list, size_t *count, char *item)
{
	*list = must(reallocarray(*list, *count + 2, sizeof(**list)));
	(*list)[(*count)++] = item;
	(*list)[*count] = NULL;
}

/* A file of /proc whose strings end with a zero each. */
static char **read_strings(pid_t pid, const char *name)
{
	char *path = must_printf("/proc/%d/%s", (int)pid, name), *line = NULL, **list = NULL;
	FILE *file = fopen(path, "re");
	size_t size = 0, count = 0;

	free(path);
	if (!file)
		return NULL;
	while (getdelim(&line, &size, 0, file) > 0)
		list_add(&list, &count, must(strdup(line)));
	free(line);
	fclose(file);
	return list;
}

static char *read_link(pid_t pid, const char *name)
{
	char *path = must_printf("/proc/%d/%s", (int)pid, name), *target = NULL;
	char text[PATH_MAX];
	ssize_t length = readlink(path, text, sizeof(text) - 1);

	free(path);
	if (length >= 0)
		target = must(strndup(text, (size_t)length));
	return target;
}

/* What a clone is not to do, and how many arguments that is. */
static size_t unwanted(const char *option)
{
	static const struct {
		const char *name;
		size_t count;
	} list[] = { { "incoming", 2 }, { "loadvm", 2 }, { "pidfile", 2 }, { "daemonize", 1 }, { "S", 1 } };
	size_t i;

	if (*option != '-')
		return 0;
	option += option[1] == '-' ? 2 : 1;
	for (i = 0; i < sizeof(list) / sizeof(*list); i++)
		if (!strcmp(option, list[i].name))
			return list[i].count;
	return 0;
}

static void drop_unwanted(char **argv)
{
	char **to = argv;
	size_t skip;

	while (*argv) {
		for (skip = unwanted(*argv); skip && *argv; skip--)
			free(*argv++);
		if (*argv && !unwanted(*argv))
			*to++ = *argv++;
	}
	*to = NULL;
}

int command_read(struct command *command, const char *what, pid_t pid)
{
	*command = (struct command) { };
	command->argv = read_strings(pid, "cmdline");
	if (command->argv)
		command->env = read_strings(pid, "environ");
	if (command->argv)
		command->exe = read_link(pid, "exe");
	if (command->exe)
		command->cwd = read_link(pid, "cwd");
	if (command->cwd) {
		drop_unwanted(command->argv);
		return 0;
	}
	return complain(what, "how its process %d was started cannot be seen: %s", (int)pid, strerror(errno));
}

void command_free(struct command *command)
{
	free(command->exe);
	free(command->cwd);
	list_free(command->argv);
	list_free(command->env);
	*command = (struct command) { };
}

/* ---- other paths ---- */

/* Where @path stands as a whole in an option such as file=PATH,format=raw or unix:PATH, or NULL. */
static const char *find_path(const char *option, const char *path)
{
	size_t length = strlen(path);
	const char *at;

	for (at = strstr(option, path); at; at = strstr(at + 1, path))
		if ((at == option || strchr("=:,\"", at[-1])) && (!at[length] || strchr(",\"", at[length])))
			return at;
	return NULL;
}

bool command_has(const struct command *command, const char *path)
{
	char **arg;

	for (arg = command->argv; *arg; arg++)
		if (find_path(*arg, path))
			return true;
	return false;
}

/* @text with what is @length bytes long at @at replaced; @text is freed. */
static char *replace(char *text, const char *at, size_t length, const char *by)
{
	char *changed = must_printf("%.*s%s%s", (int)(at - text), text, by, at + length);

	free(text);
	return changed;
}

/* What {dir} and {n} become is not looked into again. */
static char *fill_in(const char *new, const char *dir, unsigned int number)
{
	char *text = NULL;
	size_t size;
	FILE *to = must(open_memstream(&text, &size));

	while (*new) {
		if (!strncmp(new, "{dir}", 5)) {
			fputs(dir, to);
			new += 5;
		} else if (!strncmp(new, "{n}", 3)) {
			fprintf(to, "%u", number);
			new += 3;
		} else {
			putc(*new++, to);
		}
	}
	fclose(to);
	return must(text);
}

static char *change_option(char *option, const struct change *change, const char *dir, unsigned int number)
{
	const char *at = find_path(option, change->old), *format;
	char *new;

	if (!at)
		return option;
	new = fill_in(change->new, dir, number);
	option = replace(option, at, strlen(change->old), new);
	free(new);
	format = change->raw ? strstr(option, "format=raw") : NULL;
	return format ? replace(option, format, strlen("format=raw"), "format=qcow2") : option;
}

/*
 * A raw disk gets an overlay in the format qcow2. If the option that names it does not also say which format it has,
 * another one may, and the clone would take the overlay for the disk itself.
 */
static int check_raw(const char *option, const struct change *change, const char *what)
{
	if (!change->raw || !find_path(option, change->old))
		return 0;
	if (strstr(option, "format=raw") || !strstr(option, "driver"))
		return 0;
	return complain(what, "the raw disk %s has to be named by -drive file=...,format=raw; or make it a qcow2",
			change->old);
}

static int check_changes(const struct command *command, const struct changes *changes, const char *what)
{
	const struct change *change;
	char **arg;

	for (change = changes->list; change < changes->list + changes->count; change++) {
		if (!command_has(command, change->old))
			return complain(what, "its command line does not name %s, so a clone would not have its own",
					change->old);
		for (arg = command->argv; *arg; arg++)
			if (check_raw(*arg, change, what))
				return -1;
	}
	return 0;
}

/* ---- what would keep a clone from starting ---- */

/* Is @path what /proc says that the process has? It may have been removed, or be in a container's root directory. */
static bool is_same(const char *path, pid_t pid, const char *name)
{
	char *link = must_printf("/proc/%d/%s", (int)pid, name);
	struct stat here, there;
	bool same;

	same = !stat(path, &here) && !stat(link, &there) && here.st_dev == there.st_dev && here.st_ino == there.st_ino;
	free(link);
	return same;
}

static int check_program(const struct command *command, const char *what, pid_t pid)
{
	if (!is_same(command->exe, pid, "exe"))
		return complain(what, "its program %s is not there any more, or another one than it runs: a clone cannot be started",
				command->exe);
	if (access(command->exe, X_OK))
		return complain(command->exe, "the VM's program, which a clone runs, too: %s", strerror(errno));
	if (!is_same(command->cwd, pid, "cwd"))
		return complain(what, "its working directory %s, where a clone is started, is not there any more",
				command->cwd);
	return 0;
}

/* ---- what a clone would take from it ---- */

static bool is_changed(const struct changes *changes, const char *path)
{
	size_t i;

	for (i = 0; i < changes->count; i++)
		if (!strcmp(changes->list[i].old, path))
			return true;
	return false;
}

/* One that it has open, and of which a clone would have the name. */
static int check_path(const struct command *command, const struct changes *changes, const char *path, const char *what)
{
	size_t length = strlen(command->cwd);
	const char *name = path;

	if (!command_has(command, name) && !strncmp(path, command->cwd, length) && path[length] == '/')
		name = path + length + 1;
	if (!command_has(command, name) || is_changed(changes, name))
		return 0;
	return complain(what, "a clone would write to %s as well, or take its place: use --replace '%s={dir}/%s'",
			name, name, strrchr(path, '/') ? strrchr(path, '/') + 1 : path);
}

/* Is it open for writing? */
static bool is_written(pid_t pid, const char *fd)
{
	char *path = must_printf("/proc/%d/fdinfo/%s", (int)pid, fd), line[256];
	FILE *file = fopen(path, "re");
	unsigned int flags = 0;

	free(path);
	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "flags: %o", &flags) == 1)
			break;
	if (file)
		fclose(file);
	return (flags & O_ACCMODE) != O_RDONLY;
}

/* The name of a socket of @inode that somebody listens at, or NULL. */
static char *listening_socket(pid_t pid, unsigned long inode)
{
	char *path = must_printf("/proc/%d/net/unix", (int)pid), *line = NULL, *name = NULL;
	FILE *file = fopen(path, "re");
	unsigned long flags, number;
	size_t size = 0;
	int at;

	free(path);
	while (file && !name && getline(&line, &size, file) > 0) {
		at = 0;
		/* Num RefCount Protocol Flags Type St Inode Path, where a flag says that it is listened at. */
		if (sscanf(line, "%*s %*s %*s %lx %*s %*s %lu %n", &flags, &number, &at) < 2 || !at)
			continue;
		line[strcspn(line, "\n")] = 0;
		if (number == inode && (flags & 0x10000))
			name = must(strdup(line + at));
	}
	free(line);
	if (file)
		fclose(file);
	return name;
}

/* What a descriptor of it is, if a clone would write to it or listen there: a path, or NULL. */
static char *written_path(pid_t pid, const char *fd)
{
	char *name = must_printf("fd/%s", fd), *target = read_link(pid, name), *path = NULL;
	unsigned long inode;
	struct stat st;

	free(name);
	if (!target)
		return NULL;
	if (sscanf(target, "socket:[%lu]", &inode) == 1)
		path = listening_socket(pid, inode);
	else if (!stat(target, &st) && S_ISREG(st.st_mode) && is_written(pid, fd))
		path = must(strdup(target));
	free(target);
	return path;
}

static int check_own(const struct command *command, const struct changes *changes, const char *what, pid_t pid)
{
	char *name = must_printf("/proc/%d/fd", (int)pid), *path;
	DIR *dir = opendir(name);
	struct dirent *entry;
	int err = 0;

	if (!dir)
		err = complain(what, "what its process %d has open cannot be seen: %s", (int)pid, strerror(errno));
	free(name);
	while (dir && !err && (entry = readdir(dir))) {
		path = written_path(pid, entry->d_name);
		if (path)
			err = check_path(command, changes, path, what);
		free(path);
	}
	if (dir)
		closedir(dir);
	return err;
}

int command_check(const struct command *command, const struct changes *changes, const char *what, pid_t pid)
{
	/* The user last: what was read before is then what it was while it was that user's. */
	return check_program(command, what, pid) || check_changes(command, changes, what) ||
	       check_own(command, changes, what, pid) || process_check_user(pid, what) ? -1 : 0;
}

/* ---- the clone's arguments ---- */

char **command_change(const struct command *command, const struct changes *changes, const char *dir,
		      unsigned int number)
{
	char **list = NULL, *option, **arg;
	size_t count = 0, i;

	for (arg = command->argv; *arg; arg++) {
		option = must(strdup(*arg));
		for (i = 0; i < changes->count; i++)
			option = change_option(option, &changes->list[i], dir, number);
		list_add(&list, &count, option);
	}
	list_add(&list, &count, must(strdup("-S")));
	list_add(&list, &count, must(strdup("-incoming")));
	list_add(&list, &count, must(strdup("defer")));
	return list;
}

/* ---- go ---- */

/* Nothing of ours goes along: no descriptors, no signals that wait or are ignored. */
static void become(const struct command *command, char **argv, const char *log)
{
	sigset_t none;
	int in, out;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGXFSZ, SIG_DFL);
	setsid();
	in = open("/dev/null", O_RDONLY);
	out = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
	if (in < 0 || out < 0 || dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0)
		_exit(127);
	close_range(3, ~0U, 0);
	if (!chdir(command->cwd))
		execve(command->exe, argv, command->env);
	dprintf(2, "%s: %s\n", command->exe, strerror(errno));
	_exit(127);
}

pid_t command_start(const struct command *command, char **argv, const char *log)
{
	pid_t pid = fork();

	if (!pid)
		become(command, argv, log);
	return pid;
}
