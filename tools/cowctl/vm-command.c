// SPDX-License-Identifier: GPL-2.0-only
/*
 * How a QEMU was started, and how to start one like it with other files
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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
	if (command->cwd)
		return 0;
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

int command_check(const struct command *command, const struct changes *changes, const char *what)
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

/* What a clone must not do, and how many arguments that is. */
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

char **command_change(const struct command *command, const struct changes *changes, const char *dir,
		      unsigned int number)
{
	char **list = NULL, *option, **arg;
	size_t count = 0, i, skip;

	for (arg = command->argv; *arg; arg++) {
		for (skip = unwanted(*arg); skip > 1 && arg[1]; skip--)
			arg++;
		if (skip)
			continue;
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

pid_t command_start(const struct command *command, char **argv, const char *log)
{
	pid_t pid = fork();
	int in, out;

	if (pid)
		return pid;
	setsid();
	in = open("/dev/null", O_RDONLY);
	out = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
	if (in < 0 || out < 0 || dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0 || chdir(command->cwd))
		_exit(127);
	execve(command->exe, argv, command->env);
	dprintf(2, "%s: %s\n", command->exe, strerror(errno));
	_exit(127);
}
