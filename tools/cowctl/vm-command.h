/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * cowctl - start a QEMU like one that runs
 */
#ifndef COWCTL_VM_COMMAND_H
#define COWCTL_VM_COMMAND_H

#include "cowctl.h"

/**
 * struct change - a path that a clone has another one for
 * @old: as the command line has it
 * @new: with {dir} and {n} in it
 * @raw: it is a disk in the format raw, and the new one in qcow2
 */
struct change {
	char *old, *new;
	bool raw;
};

struct changes {
	size_t count;
	struct change *list;
};

/* change_add - take over @old and @new. Return: the change, valid until the next one is added. */
struct change *change_add(struct changes *changes, char *old, char *new);
void changes_free(struct changes *changes);

/**
 * struct command - how a process was started
 * @exe: its program
 * @cwd: where
 * @argv: @env: lists that end with NULL; arguments without those that are not for a clone
 */
struct command {
	char *exe, *cwd;
	char **argv, **env;
};

/* command_read - ask /proc; command_free() in either case */
int command_read(struct command *command, const char *what, pid_t pid);
void command_free(struct command *command);

/* command_has - is a path one that the command line names? */
bool command_has(const struct command *command, const char *path);

/**
 * command_change - the arguments of a clone, which waits for a state to come in
 * @dir: @number: what {dir} and {n} are
 * Return: a list that list_free() frees
 */
char **command_change(const struct command *command, const struct changes *changes, const char *dir,
		      unsigned int number);

/*
 * command_check - can it be started once more, will all changes be made and none in a way that is wrong, and is there
 * nothing else that it would take from the process, which is @pid, and still ours?
 */
int command_check(const struct command *command, const struct changes *changes, const char *what, pid_t pid);

/* command_start - run it in a session of its own; what it says goes to @log. Return: its process, or -1. */
pid_t command_start(const struct command *command, char **argv, const char *log);

void list_free(char **list);

#endif /* COWCTL_VM_COMMAND_H */
