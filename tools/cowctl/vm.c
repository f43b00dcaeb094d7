// SPDX-License-Identifier: GPL-2.0-only
/*
 * cowctl vm - fork virtual machines of QEMU while they run, and take them back to an earlier point
 *
 * Their memory is a file on a mount of type cowmem, so it is never copied: QEMU leaves it out of what it saves
 * (x-ignore-shared), and what is left, the state of its devices, is some 100 KiB.
 *
 * What is changed at the VM is undone whatever happens: no signal ends us before (signals.c), and an attribute of its
 * memory tells the next cowctl what one began that was killed.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include "signals.h"
#include "vm.h"

/* At the first file of the VM's memory, while we are at work: JSON with the verb, QEMU's process and capabilities. */
#define MARK		"user.cowctl.vm"
#define MARK_BYTES	4096

/* A QEMU that runs answers at once, unless somebody else is connected. */
#define GREETING_SECONDS	10

/* ---- what its memory is ---- */

/* Is it the file that the process has mapped? Another one may have its name by now. */
static int is_mapped(const struct cowmem_found *found, void *arg)
{
	const struct stat *st = arg;

	return found->mapped && found->dev == st->st_dev && found->ino == st->st_ino;
}

static int check_ram(const struct vm *vm, int fd, const char *path)
{
	struct stat st, other;
	size_t i;

	if (!cowmem_is_region(fd) || !is_mount(fd) || fstat(fd, &st))
		return complain(path, "it is the VM's memory, and no file on a mount of type cowmem");
	if (cowmem_find(vm->qmp.pid, is_mapped, &st) != 1)
		return complain(path, "it has the name of the VM's memory, and is another file: was that one removed?");
	for (i = 0; i < vm->count; i++)
		if (!fstat(vm->fds[i], &other) && other.st_dev == st.st_dev && other.st_ino == st.st_ino)
			return complain(path, "two of the VM's memories are this file: each has to have its own");
	return 0;
}

/* As QEMU opens it: a path may begin at its working directory. */
static int open_ram(const struct vm *vm, const char *path)
{
	char *from = must_printf("/proc/%d/%s/%s", (int)vm->qmp.pid, *path == '/' ? "root" : "cwd", path);
	int fd = open(from, O_RDWR | O_CLOEXEC | O_NONBLOCK);

	free(from);
	if (fd < 0)
		return complain(path, "it is the VM's memory, and cannot be opened: %s", strerror(errno));
	if (!check_ram(vm, fd, path))
		return fd;
	close(fd);
	return -1;
}

static int add_ram(struct vm *vm, const json_t *backend)
{
	const char *id = json_text(backend, "id");
	char *object;
	json_t *path;
	int fd;

	if (!*id)
		return complain(vm->qmp.path, "a part of its memory has no id: give it one by -object ...,id=ID");
	if (!json_is_true(json_object_get(backend, "share")))
		return complain(vm->qmp.path, "its memory '%s' is not shared: use memory-backend-file,share=on",
				id);
	object = must_printf("/objects/%s", id);
	path = qmp_do(&vm->qmp, "qom-get", must(json_pack("{s:s, s:s}", "path", object, "property", "mem-path")));
	free(object);
	if (!path && !vm->qmp.refused)
		return -1;
	if (!json_is_string(path)) {
		json_decref(path);
		return complain(vm->qmp.path, "its memory '%s' has to be a memory-backend-file", id);
	}
	fd = open_ram(vm, json_string_value(path));
	if (fd >= 0) {
		vm->rams = must(reallocarray(vm->rams, vm->count + 1, sizeof(*vm->rams)));
		vm->fds = must(reallocarray(vm->fds, vm->count + 1, sizeof(*vm->fds)));
		vm->rams[vm->count] = must(strdup(json_string_value(path)));
		vm->fds[vm->count++] = fd;
	}
	json_decref(path);
	return fd < 0 ? -1 : 0;
}

static int find_rams(struct vm *vm)
{
	json_t *all = qmp_list(&vm->qmp, "query-memdev", NULL), *backend;
	size_t i;
	int err = 0;

	if (!all)
		return -1;
	if (!json_array_size(all))
		err = complain(vm->qmp.path, "QEMU names no memory of the VM's");
	if (json_array_size(all) > COWMEM_CLONE_MANY_MAX)
		err = complain(vm->qmp.path, "its memory is in more than %d files", COWMEM_CLONE_MANY_MAX);
	json_array_foreach(all, i, backend) {
		if (err)
			break;
		err = add_ram(vm, backend);
	}
	json_decref(all);
	return err;
}

/* ---- what we change at it ---- */

/* Those of migration's capabilities that we change, or NULL if they are not there. Nothing else of @all is taken. */
static json_t *ours_of(const json_t *all)
{
	json_t *some = must(json_array()), *one;
	const char *name;
	size_t i;

	json_array_foreach(all, i, one) {
		name = json_text(one, "capability");
		if (!strcmp(name, "x-ignore-shared") || !strcmp(name, "events"))
			json_array_append_new(some, json_pack("{s:s, s:b}", "capability", name, "state",
							      json_is_true(json_object_get(one, "state"))));
	}
	if (json_array_size(some) == 2)
		return some;
	json_decref(some);
	return NULL;
}

static json_t *capabilities_of(struct vm *vm)
{
	json_t *all = qmp_list(&vm->qmp, "query-migrate-capabilities", NULL), *ours;

	if (!all)
		return NULL;
	ours = ours_of(all);
	json_decref(all);
	if (!ours)
		complain(vm->qmp.path, "this QEMU does not know x-ignore-shared, which takes version 4.0");
	return ours;
}

/* @stopped: we are about to stop it, or it was left half of what it was. Until then, it is stopped by somebody else. */
static int set_mark(struct vm *vm, bool stopped)
{
	json_t *mark = must(json_pack("{s:s, s:b, s:b, s:i, s:O}", "verb", vm->verb, "running", vm->running, "stopped",
				      stopped, "pid", (int)vm->qmp.pid, "capabilities", vm->capabilities));
	char *text = must(json_dumps(mark, JSON_COMPACT));
	int err = fsetxattr(vm->fds[0], MARK, text, strlen(text), 0);

	json_decref(mark);
	free(text);
	if (err)
		return complain(vm->rams[0], "no mark can be set there: %s", strerror(errno));
	vm->marked = true;
	return 0;
}

int vm_begin(struct vm *vm)
{
	if (!vm->capabilities)
		vm->capabilities = capabilities_of(vm);
	if (!vm->capabilities || (vm->count && set_mark(vm, vm->keep_stopped)))
		return -1;
	return qmp_run(&vm->qmp, "migrate-set-capabilities",
		       must(json_pack("{s:[{s:s, s:b}, {s:s, s:b}]}", "capabilities", "capability", "x-ignore-shared",
				      "state", 1, "capability", "events", "state", 1)));
}

int vm_end(struct vm *vm)
{
	bool heed = signals_heed(false);
	int err = 0;

	if (vm->capabilities)
		err = qmp_again(&vm->qmp) ||
		      qmp_run(&vm->qmp, "migrate-set-capabilities",
			      must(json_pack("{s:O}", "capabilities", vm->capabilities))) ? -1 : 0;
	json_decref(vm->capabilities);
	vm->capabilities = NULL;
	/* Where that failed, or the VM is not what it was, the next one is to know. */
	if (vm->marked && !err && !vm->stopped && !vm->keep_stopped)
		fremovexattr(vm->fds[0], MARK);
	vm->marked = false;
	signals_heed(heed);
	return err;
}

int vm_stop(struct vm *vm)
{
	if (set_mark(vm, true))
		return -1;
	if (!vm->running)
		return 0;
	vm->stopped = true;
	return qmp_run(&vm->qmp, "stop", NULL);
}

int vm_cont(struct vm *vm)
{
	bool heed = signals_heed(false);
	int err = 0;

	if (vm->running && !vm->keep_stopped) {
		err = qmp_again(&vm->qmp) || qmp_run(&vm->qmp, "cont", NULL) ? -1 : 0;
		if (err)
			complain(vm->qmp.path, "the VM may be left stopped: let it go on by 'cont'");
		vm->stopped = err;
	}
	signals_heed(heed);
	return err;
}

int vm_wait_for_migration(struct vm *vm)
{
	double end = now_seconds() + vm->qmp.seconds;
	json_t *status;
	bool ended;

	do {
		status = qmp_do(&vm->qmp, "query-status", NULL);
		if (!status)
			return -1;
		ended = !json_has(status, "status", "finish-migrate");
		json_decref(status);
		if (!ended && now_seconds() > end)
			return complain(vm->qmp.path, "its migration does not end within %u s", vm->qmp.seconds);
		if (!ended)
			usleep(500);
	} while (!ended);
	return 0;
}

/* ---- what a cowctl left that was killed ---- */

/* Its mark, or NULL: one of an earlier QEMU, which had the same memory, is none. */
static json_t *get_mark(const struct vm *vm)
{
	char text[MARK_BYTES];
	ssize_t length = fgetxattr(vm->fds[0], MARK, text, sizeof(text));
	json_t *mark = length > 0 ? json_loadb(text, (size_t)length, 0, NULL) : NULL;
	json_t *ours = ours_of(json_object_get(mark, "capabilities"));

	/* The file's owner may have written it: no other capability of QEMU's is set for that. */
	if (ours && json_integer_value(json_object_get(mark, "pid")) == vm->qmp.pid) {
		json_object_set_new(mark, "capabilities", ours);
		return mark;
	}
	json_decref(ours);
	json_decref(mark);
	return NULL;
}

/* It may not run on as it is; but another revert makes it what it was to be. */
static int mend_revert(struct vm *vm)
{
	vm->keep_stopped = true;
	if (!strcmp(vm->verb, "revert"))
		return 0;
	complain(vm->qmp.path, "it was left half reverted: run cowctl vm revert again, or end it");
	/* So that vm_end() does nothing. */
	json_decref(vm->capabilities);
	vm->capabilities = NULL;
	return -1;
}

/* @runs is what it does, @vm->running what it did. */
static int mend(struct vm *vm, const json_t *mark, bool runs)
{
	const char *verb = json_text(mark, "verb");
	bool began = json_is_true(json_object_get(mark, "stopped")), stopped;

	vm->capabilities = json_incref(json_object_get(mark, "capabilities"));
	vm->marked = true;
	/* What was not stopped by that one is stopped as somebody wants it so. */
	vm->running = runs || (began && json_is_true(json_object_get(mark, "running")));
	if (!runs && began && !strcmp(verb, "revert"))
		return mend_revert(vm);
	stopped = vm->running && !runs;
	if (stopped && (qmp_run(&vm->qmp, "migrate_cancel", NULL) || vm_wait_for_migration(vm) || vm_cont(vm)))
		return -1;
	warn_user(vm->qmp.path, "a cowctl vm %s did not come to its end: %s", verb,
		  stopped ? "the VM was left stopped, and goes on now" : "what it left is mended");
	return vm_end(vm);
}

/* ---- the VM ---- */

static int see_status(struct vm *vm)
{
	json_t *status = qmp_do(&vm->qmp, "query-status", NULL), *mark = NULL;
	const char *name = json_text(status, "status");
	int err = 0;

	if (!status)
		return -1;
	vm->running = !strcmp(name, "running");
	mark = get_mark(vm);
	if (mark)
		err = mend(vm, mark, vm->running);
	if (!err && !vm->running && strcmp(name, "paused") && strcmp(name, "prelaunch"))
		err = complain(vm->qmp.path, "the VM is neither running nor paused, but '%s'", name);
	json_decref(status);
	json_decref(mark);
	return err;
}

/* Two at one time would each take what the other one does for what was left by one that was killed. */
static int lock(const struct vm *vm)
{
	if (!flock(vm->fds[0], LOCK_EX | LOCK_NB))
		return 0;
	if (errno == EWOULDBLOCK)
		return complain(vm->qmp.path, "another cowctl is at work on this VM");
	return complain(vm->rams[0], "it cannot be locked: %s", strerror(errno));
}

int vm_open(struct vm *vm, const char *socket, const char *verb, unsigned int seconds)
{
	*vm = (struct vm) { .verb = verb };
	if (qmp_open(&vm->qmp, socket, seconds, seconds < GREETING_SECONDS ? seconds : GREETING_SECONDS))
		return -1;
	return find_rams(vm) || lock(vm) || see_status(vm) ? -1 : qmp_drop_job(&vm->qmp, "cowctl");
}

void vm_close(struct vm *vm)
{
	while (vm->count) {
		vm->count--;
		close(vm->fds[vm->count]);
		free(vm->rams[vm->count]);
	}
	free(vm->rams);
	free(vm->fds);
	json_decref(vm->capabilities);
	qmp_close(&vm->qmp);
}

char *vm_name(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return must_printf("cowctl-%llx", (unsigned long long)now.tv_sec << 20 ^ (unsigned long long)now.tv_nsec >> 10);
}

/* ---- images ---- */

static int create_image(struct vm *vm, json_t *options)
{
	qmp_forget(&vm->qmp);
	if (qmp_run(&vm->qmp, "blockdev-create", must(json_pack("{s:s, s:o}", "job-id", "cowctl", "options", options))))
		return -1;
	return qmp_job(&vm->qmp, "cowctl");
}

void vm_drop_node(struct vm *vm, const char *node)
{
	bool heed = signals_heed(false);

	if (!qmp_again(&vm->qmp))
		qmp_run(&vm->qmp, "blockdev-del", must(json_pack("{s:s}", "node-name", node)));
	signals_heed(heed);
}

int vm_add_node(struct vm *vm, json_t *options)
{
	char *node = must(strdup(json_text(options, "node-name")));
	int err = qmp_run(&vm->qmp, "blockdev-add", options);

	if (err && !vm->qmp.refused)
		vm_drop_node(vm, node);
	free(node);
	return err;
}

int vm_make_image(struct vm *vm, const char *path, const char *node, json_t *options)
{
	json_object_set_new(options, "driver", json_string("qcow2"));
	json_object_set_new(options, "file", json_string(node));
	if (create_image(vm, must(json_pack("{s:s, s:s, s:i}", "driver", "file", "filename", path, "size", 0))) ||
	    vm_add_node(vm, must(json_pack("{s:s, s:s, s:s}", "driver", "file", "node-name", node, "filename",
					   path)))) {
		json_decref(options);
		return -1;
	}
	if (!create_image(vm, options))
		return 0;
	vm_drop_node(vm, node);
	return -1;
}

/* ---- times ---- */

void laps_begin(struct laps *laps)
{
	*laps = (struct laps) { .last = now_seconds(), .parts = must(json_object()) };
}

void laps_end(struct laps *laps, const char *part)
{
	double now = now_seconds();

	json_object_set_new(laps->parts, part, json_real((now - laps->last) * 1e3));
	laps->last = now;
}

void laps_show(const struct laps *laps, const char *what)
{
	const char *name;
	json_t *part;
	double all = 0;

	json_object_foreach(laps->parts, name, part)
		all += json_real_value(part);
	printf("%s %.1f ms:", what, all);
	json_object_foreach(laps->parts, name, part)
		printf(" %s %.1f", name, json_real_value(part));
	putchar('\n');
}

/* ---- the verb ---- */

static const char help[] =
"Usage: cowctl vm fork [-n N] [--replace OLD=NEW]... [--timeout SECONDS] SOCKET DIR\n"
"       cowctl vm save [--timeout SECONDS] SOCKET DIR\n"
"       cowctl vm revert [--timeout SECONDS] SOCKET DIR\n"
"\n"
"Virtual machines of QEMU whose memory is a file on a mount of type cowmem: -machine ...,memory-backend=ram\n"
"-object memory-backend-file,id=ram,share=on,mem-path=FILE,size=SIZE. SOCKET is what -qmp unix:SOCKET,server=on,\n"
"wait=off made. DIR is a directory on that mount, for fork and save a new one.\n"
"\n"
"fork starts N more QEMUs that all go on from one instant of the VM, which goes on, too. Memory is shared until one\n"
"of them writes to it. All of them are up before anything of the VM is changed. Each has a directory DIR/0, DIR/1...\n"
"with its memory (ram0), disks (disk0, overlays of the VM's), monitor (qmp), what it says (log), and how it was started\n"
"(command). The VM writes to overlays in DIR from then on.\n"
"A clone is started like the VM, with the names of these files changed. What else it must have for itself, such as\n"
"a socket of a serial port, has to be named.\n"
"\n"
"save keeps a point in DIR, and revert takes the same QEMU back to it, memory, devices and disks, as often as one\n"
"likes. Disks have to be qcow2, or read-only. What was in the VM is lost when it is reverted.\n"
"\n"
"  -n N                  how many clones, 1 if it is not given\n"
"  -r, --replace OLD=NEW a path on the VM's command line, and what it is for a clone; {dir} in NEW is its directory,\n"
"                        {n} its number\n"
"  -t, --timeout SECONDS how long QEMU may take to answer, 120 if it is not given\n"
"      --json            as JSON, with all times in milliseconds\n"
"      --help            this text\n";

static int run(int argc, char **argv)
{
	static const struct option options[] = { COMMON_OPTIONS };
	const char *what = argc > 1 ? argv[1] : "";

	if (!strcmp(what, "fork"))
		return vm_fork(argc - 1, argv + 1);
	if (!strcmp(what, "save"))
		return vm_save(argc - 1, argv + 1);
	if (!strcmp(what, "revert"))
		return vm_revert(argc - 1, argv + 1);
	if (*what != '-' && *what)
		usage("neither fork, save nor revert: '%s'", what);
	/* --help, and what is no option. */
	while (next_option(argc, argv, "", options) >= 0)
		;
	usage("fork, save or revert?");
}

static int vm_run(int argc, char **argv)
{
	int err;

	signals_hold();
	err = run(argc, argv);
	signals_release();
	return err;
}

const struct verb verb_vm = { "vm", "fork virtual machines of QEMU, or revert them", help, vm_run };
