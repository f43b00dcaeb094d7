/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * cowctl - what its verbs share
 *
 * A verb is a file of its own, with one struct verb that main.c lists. It returns 0, or -1 after it has said on stderr
 * what is wrong: complain() and friends do both. usage() is the way out for wrong usage.
 */
#ifndef COWCTL_H
#define COWCTL_H

#include <getopt.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>
#include <jansson.h>

#include "libcowmem.h"

/* ---- main.c: verbs and their options ---- */

/**
 * struct verb - something that cowctl does
 * @name: what the user types
 * @summary: a few words for "cowctl --help"
 * @help: all of "cowctl VERB --help": begins with "Usage: ", ends with a newline
 * @run: does it; argv[0] is the verb. Returns 0 or -1.
 */
struct verb {
	const char *name;
	const char *summary;
	const char *help;
	int (*run)(int argc, char **argv);
};

extern const struct verb verb_list, verb_info, verb_create, verb_clone, verb_snapshot, verb_restore, verb_diff,
	verb_merge, verb_seal, verb_top, verb_doctor;
extern const struct verb verb_send, verb_receive, verb_export, verb_import, verb_vm;

/* What getopt_long() returns for long options. A verb's own begin at OPT_VERB. */
enum { OPT_HELP = 256, OPT_JSON, OPT_VERB };

/* What all verbs have. Put it at the end of a verb's struct option array. */
#define COMMON_OPTIONS							\
	{ "json", no_argument, NULL, OPT_JSON },			\
	{ "help", no_argument, NULL, OPT_HELP },			\
	{ NULL, 0, NULL, 0 }

/* What those have that print sizes. It goes in front of COMMON_OPTIONS. */
#define HUMAN_OPTION	{ "human-readable", no_argument, NULL, 'h' }

/**
 * next_option - getopt_long() that knows COMMON_OPTIONS, and ends the program at a wrong option
 * @shorts: the verb's own short options, as for getopt(); 'h' is among them if HUMAN_OPTION is in @longs
 * Return: the next option of the verb itself, or -1 behind the last one.
 */
int next_option(int argc, char **argv, const char *shorts, const struct option *longs);

/* want_args - the rest of @argv has @min to @max arguments, or the program ends with the usage. Returns the first. */
char **want_args(int argc, char **argv, int min, int max);

/* usage - "cowctl VERB: WHY", how to get help, and exit status 2. */
void usage(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

/* ---- error.c ---- */

/*
 * put_message - a line on stderr, made safe as by put_safe(). It is one write, so that those of two programs with one
 * stderr, as of "cowctl send | cowctl receive", do not get mixed.
 */
void put_message(const char *format, ...) __attribute__((format(printf, 1, 2)));

/**
 * complain - "cowctl: WHAT: why; what to do" on stderr
 * @what: the argument, file or the like that it is about
 *
 * Nothing that a terminal would obey comes through: see put_safe().
 * Return: -1
 */
int complain(const char *what, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* complain_errno - likewise, with a sentence for errno. */
int complain_errno(const char *what);

/* want_module - is it loaded? Returns 0, or -1 after it was said. */
int want_module(const char *what);

/* complain_foreign - as complain(), of what is no region or on no mount. Without the module that is said. */
int complain_foreign(const char *what, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* finish_output - flush stdout. Returns 0, or -1 after it was said why not all could be written. */
int finish_output(void);

/* warn_user - as complain(), for what does not make the verb fail. */
void warn_user(const char *what, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Memory that is there, or the program ends. */
void *must(void *memory);
char *must_printf(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* ---- safe.c: names that others chose ---- */

/*
 * safe_string - @s as it may be shown on a terminal: what is not printable in this locale, a backslash, and what turns
 * the direction of text or cannot be seen becomes \n, \t, \\ or \xNN. The caller frees it.
 */
char *safe_string(const char *s);

/* put_safe - the same to a stream. */
void put_safe(const char *s, FILE *to);

/* json_name - a JSON string for bytes that need not be UTF-8: those that are not come as safe_string() has them. */
json_t *json_name(const char *s);

/* ---- output.c ---- */

/* What COMMON_OPTIONS said. */
struct output {
	bool json;
	bool human;
};

extern struct output output;

enum column_kind {
	COLUMN_TEXT,
	COLUMN_NUMBER,
	COLUMN_BYTES,	/* with -h as 1.5M */
	COLUMN_LIST,	/* an array of strings */
};

/**
 * struct column - a member of JSON objects that a table shows
 * @key: of the member; what is not there or null shows as "-", true as "yes"
 * @head: of the column, or NULL for the end of an array of columns
 */
struct column {
	const char *key;
	const char *head;
	enum column_kind kind;
};

/* show_rows - print an array of objects as a table, or with --json as { "KEY": [...] }. Takes @rows over. */
int show_rows(const char *key, json_t *rows, const struct column *columns);

/* show_object - print one object as lines "Head: value", or with --json as it is. Takes it over. */
int show_object(json_t *object, const struct column *columns);

/* show_json - print it in ASCII, on one line if @compact, and flush. Takes @value over. */
int show_json(json_t *value, bool compact);

/* format_size - "1.5M", or bytes without -h */
char *format_size(char text[32], uint64_t bytes);

/* parse_size - "64M" and the like. Ends the program with the usage if it is none. */
uint64_t parse_size(const char *option, const char *text);

/* parse_length - a size for --length. None is 0: verbs have that where nothing was given. */
uint64_t parse_length(const char *text);
uint64_t parse_number(const char *option, const char *text, uint64_t min, uint64_t max);

/* ---- progress.c: a bar on stderr, if that is a terminal ---- */

struct progress {
	const char *label;
	uint64_t total;		/* 0: not known */
	double began, shown;
	bool on, bytes;
};

void progress_begin(struct progress *p, const char *label, uint64_t total, bool bytes);
void progress_show(struct progress *p, uint64_t done);
void progress_end(struct progress *p);	/* wipes the bar away */
double now_seconds(void);		/* of a clock that nobody sets */

/* ---- region.c: REGION arguments ---- */

/**
 * struct region - an open region
 * @fd: its descriptor
 * @arg: what the user called it
 */
struct region {
	int fd;
	const char *arg;
};

/**
 * region_open - open what a REGION argument names
 * @arg: a path, a NAME in the store, PID, PID:FD or PID:0xADDRESS
 * @mode: O_RDONLY or O_RDWR
 * Return: 0, or -1 after it was said why.
 */
int region_open(struct region *region, const char *arg, int mode);
void region_close(struct region *region);

/*
 * open_again - what a descriptor is of, be it one of O_PATH, opened once more. Unlike its path, by now, that leads to
 * nothing else. @flags as of open(2). Returns -1 with errno.
 */
int open_again(int fd, int flags);

/* is_process_arg - does it look like PID or PID:FD, so that no NAME may? */
bool is_process_arg(const char *arg);

/*
 * Why there is no region:
 * complain_no_region - what a path or a name means is none
 * complain_none - a process has none
 * complain_process - a process could not be looked into, by errno
 */
int complain_no_region(const char *arg);
int complain_none(const char *arg, pid_t pid);
int complain_process(const char *arg, pid_t pid);

/* complain_region - complain_errno(), in words that fit a region that could not be used. */
int complain_region(const struct region *region);

/* ---- store.c: where regions get names ---- */

#define STORE_DEFAULT	"/run/cowmem"

/* store_path - $COWMEM_STORE or STORE_DEFAULT */
const char *store_path(void);

/*
 * store_open - a descriptor of its directory, or -1 with errno: ENOENT if there is none. With @make it is made and
 * mounted if it has to be, and what goes wrong is said.
 */
int store_open(bool make);

/*
 * find_name - where a path, or a NAME, is to be looked for: AT_FDCWD, or a descriptor of the store, which is for the
 * caller to close. -1 after it was said that the NAME is in neither.
 */
int find_name(const char *arg);

/* link_file - give a file, made without a name, one below @dir. Returns 0, or -1 with errno. */
int link_file(int fd, int dir, const char *name);

/* is_mount - is it (a file or directory) on a mount of type cowmem? */
bool is_mount(int fd);

/* mount_of - where a file system is mounted; the caller frees it. NULL if it is nowhere, as that of the device. */
char *mount_of(dev_t dev);

/* is_empty - is there nothing in a directory? False as well if it cannot be read. */
bool is_empty(int dir);

/* complain_no_mount - that there can be no @new there, as it is on no mount */
int complain_no_mount(const char *new);

/**
 * struct place - where a new file or directory is to appear
 * @on_mount: must it be on a mount of type cowmem?
 * @dir: descriptor of the directory
 * @name: its name there
 * @path: what to call it, for messages and for the user
 */
struct place {
	bool on_mount;
	int dir;
	char *name;
	char *path;
};

/* complain_other_mount - that @arg, open as @fd, has pages that cannot be taken to the place */
int complain_other_mount(const struct place *place, const char *arg, int fd);

/**
 * place_open - find the place for NEW, which must not exist yet
 * @new: a path, or a NAME: beside @source if that is a file on a mount, else in the store
 * @source: a region or a directory that the user named by its path, or -1
 */
int place_open(struct place *place, const char *new, int source);

/* place_find - the same, whether or not a file of the name exists. */
int place_find(struct place *place, const char *new, int source);

/* place_check_name - can the place have a new name, which the user called @new? Returns 0, or -1 after it was said. */
int place_check_name(const struct place *place, const char *new);

/* place_is_free - does nothing exist there yet? Returns 0, or -1 after it was said. */
int place_is_free(const struct place *place);

/* place_keep_free - likewise, and one where something exists is closed. */
int place_keep_free(struct place *place);
void place_close(struct place *place);

/*
 * place_file - a file without a name at a place, open for reading and writing, mode 0600. place_link() gives it the
 * name, at one instant, and fails if something has it.
 */
int place_file(const struct place *place);
int place_link(const struct place *place, int fd);

/* complain_place - complain_errno(), in words that fit something that could not be made there. */
int complain_place(const struct place *place);

#endif /* COWCTL_H */
