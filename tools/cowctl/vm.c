// SPDX-License-Identifier: GPL-2.0-only
/*
 * cowctl vm - fork virtual machines of QEMU while they run, and take them back to an earlier point
 *
 * Their memory is a file on a mount of type cowmem, so it is never copied: QEMU leaves it out of what it saves
 * (x-ignore-shared), and what is left, the state of its devices, is some 100 KiB.
 */
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vm.h"

/* A QEMU that runs answers at once, unless somebody else is connected. */
#define GREETING_SECONDS	10

/* ---- what its memory is ---- */

/* As QEMU opens it: a path may begin at its working directory. */
static int open_ram(const struct vm *vm, const char *path)
{
	char *from = must_printf("/proc/%d/%s/%s", (int)vm->qmp.pid, *path == '/' ? "root" : "cwd", path);
	int fd = open(from, O_RDWR | O_CLOEXEC | O_NONBLOCK);

	free(from);
	if (fd >= 0 && cowmem_is_region(fd) && is_mount(fd))
		return fd;
	if (fd < 0)
		complain(path, "it is the VM's memory, and cannot be opened: %s", strerror(errno));
	else
		complain(path, "it is the VM's memory, and no file on a mount of type cowmem");
	if (fd >= 0)
		close(fd);
	return -1;
}

static int add_ram(struct vm *vm, const json_t *backend)
{
	const char *id = json_string_value(json_object_get(backend, "id"));
	char *object;
	json_t *path;

	if (!id)
		return complain(vm->qmp.path, "a part of its memory has no id: give it one by -object ...,id=ID");
	if (!json_is_true(json_object_get(backend, "share")))
		return complain(vm->qmp.path, "its memory '%s' is not shared: use memory-backend-file,share=on",
				id);
	object = must_printf("/objects/%s", id);
	path = qmp_do(&vm->qmp, "qom-get", must(json_pack("{s:s, s:s}", "path", object, "property", "mem-path")));
	free(object);
	if (!path)
		return complain(vm->qmp.path, "its memory '%s' has to be a memory-backend-file", id);
	vm->rams = must(reallocarray(vm->rams, vm->count + 1, sizeof(*vm->rams)));
	vm->fds = must(reallocarray(vm->fds, vm->count + 1, sizeof(*vm->fds)));
	vm->rams[vm->count] = must(strdup(json_string_value(path)));
	json_decref(path);
	vm->fds[vm->count] = open_ram(vm, vm->rams[vm->count]);
	return vm->fds[vm->count++] < 0 ? -1 : 0;
}

static int find_rams(struct vm *vm)
{
	json_t *all = qmp_do(&vm->qmp, "query-memdev", NULL), *backend;
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

/* ---- the VM ---- */

int vm_open(struct vm *vm, const char *socket)
{
	const char *name;
	json_t *status;
	bool paused;

	*vm = (struct vm) { };
	if (qmp_open(&vm->qmp, socket, GREETING_SECONDS))
		return -1;
	status = qmp_do(&vm->qmp, "query-status", NULL);
	if (!status)
		return -1;
	name = json_string_value(json_object_get(status, "status"));
	vm->running = !strcmp(name, "running");
	paused = !strcmp(name, "paused") || !strcmp(name, "prelaunch");
	if (!vm->running && !paused)
		complain(socket, "the VM is neither running nor paused, but '%s'", name);
	json_decref(status);
	return vm->running || paused ? find_rams(vm) : -1;
}

void vm_close(struct vm *vm)
{
	while (vm->count) {
		vm->count--;
		if (vm->fds[vm->count] >= 0)
			close(vm->fds[vm->count]);
		free(vm->rams[vm->count]);
	}
	free(vm->rams);
	free(vm->fds);
	json_decref(vm->capabilities);
	qmp_close(&vm->qmp);
}

/* Those of them that we change. */
static json_t *capabilities_of(struct vm *vm)
{
	json_t *all = qmp_do(&vm->qmp, "query-migrate-capabilities", NULL), *some, *one;
	const char *name;
	size_t i;

	if (!all)
		return NULL;
	some = must(json_array());
	json_array_foreach(all, i, one) {
		name = json_string_value(json_object_get(one, "capability"));
		if (!strcmp(name, "x-ignore-shared") || !strcmp(name, "events"))
			json_array_append(some, one);
	}
	json_decref(all);
	if (json_array_size(some) == 2)
		return some;
	json_decref(some);
	complain(vm->qmp.path, "this QEMU does not know x-ignore-shared, which takes version 4.0");
	return NULL;
}

int vm_ignore_ram(struct vm *vm)
{
	vm->capabilities = capabilities_of(vm);
	if (!vm->capabilities)
		return -1;
	return qmp_run(&vm->qmp, "migrate-set-capabilities",
		       must(json_pack("{s:[{s:s, s:b}, {s:s, s:b}]}", "capabilities", "capability", "x-ignore-shared",
				      "state", 1, "capability", "events", "state", 1)));
}

void vm_capabilities_back(struct vm *vm)
{
	if (!vm->capabilities)
		return;
	qmp_run(&vm->qmp, "migrate-set-capabilities", must(json_pack("{s:o}", "capabilities", vm->capabilities)));
	vm->capabilities = NULL;
}

static void hold_signals(int how)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGQUIT);
	sigaddset(&set, SIGTSTP);
	sigaddset(&set, SIGPIPE);
	sigprocmask(how, &set, NULL);
}

int vm_stop(struct vm *vm)
{
	hold_signals(SIG_BLOCK);
	return vm->running ? qmp_run(&vm->qmp, "stop", NULL) : 0;
}

int vm_cont(struct vm *vm)
{
	int err = vm->running ? qmp_run(&vm->qmp, "cont", NULL) : 0;

	hold_signals(SIG_UNBLOCK);
	return err;
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
	qmp_run(&vm->qmp, "blockdev-del", must(json_pack("{s:s}", "node-name", node)));
}

int vm_make_image(struct vm *vm, const char *path, const char *node, json_t *options)
{
	json_object_set_new(options, "driver", json_string("qcow2"));
	json_object_set_new(options, "file", json_string(node));
	if (create_image(vm, must(json_pack("{s:s, s:s, s:i}", "driver", "file", "filename", path, "size", 0))) ||
	    qmp_run(&vm->qmp, "blockdev-add",
		    must(json_pack("{s:s, s:s, s:s}", "driver", "file", "node-name", node, "filename", path)))) {
		json_decref(options);
		return -1;
	}
	if (!create_image(vm, options))
		return 0;
	vm_drop_node(vm, node);
	return -1;
}

/* ---- files ---- */

int vm_make_dir(const struct vm *vm, struct place *place, const char *arg)
{
	struct stat ram, dir;

	if (place_open(place, arg, vm->fds[0]))
		return -1;
	if (fstat(vm->fds[0], &ram) || fstat(place->dir, &dir) || ram.st_dev != dir.st_dev) {
		complain(arg, "not on the mount that the VM's memory is on, and pages never leave that");
		goto fail;
	}
	if (!mkdirat(place->dir, place->name, 0700))
		return 0;
	complain(place->path, "%s", strerror(errno));
fail:
	place_close(place);
	return -1;
}

void vm_remove_dir(const struct place *place)
{
	char *const paths[] = { place->path, NULL };
	FTS *tree = fts_open(paths, FTS_PHYSICAL | FTS_XDEV | FTS_NOCHDIR, NULL);
	FTSENT *entry;

	if (!tree)
		return;
	while ((entry = fts_read(tree))) {
		if (entry->fts_info == FTS_DP)
			rmdir(entry->fts_accpath);
		else if (entry->fts_info != FTS_D)
			unlink(entry->fts_accpath);
	}
	fts_close(tree);
}

int in_dir(struct place *place, const char *dir, const char *name)
{
	*place = (struct place) {
		.dir = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC),
		.name = must(strdup(name)), .path = must_printf("%s/%s", dir, name),
	};
	if (place->dir >= 0)
		return 0;
	complain(dir, "%s", strerror(errno));
	place_close(place);
	return -1;
}

int link_clone(int fd, unsigned int flags, const char *dir, const char *name)
{
	struct place place;
	int clone, err;

	if (in_dir(&place, dir, name))
		return -1;
	clone = cowmem_clone(fd, flags);
	err = clone < 0 ? complain_errno(place.path) : place_link(&place, clone);
	if (clone >= 0)
		close(clone);
	place_close(&place);
	return err;
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
"Usage: cowctl vm fork [-n N] [--replace OLD=NEW]... SOCKET DIR\n"
"       cowctl vm save SOCKET DIR\n"
"       cowctl vm revert SOCKET DIR\n"
"\n"
"Virtual machines of QEMU whose memory is a file on a mount of type cowmem: -machine ...,memory-backend=ram\n"
"-object memory-backend-file,id=ram,share=on,mem-path=FILE,size=SIZE. SOCKET is what -qmp unix:SOCKET,server=on,\n"
"wait=off made. DIR is a directory on that mount, for fork and save a new one.\n"
"\n"
"fork starts N more QEMUs that all go on from one instant of the VM, which goes on, too. Memory is shared until one\n"
"of them writes to it. Each has a directory DIR/0, DIR/1... with its memory (ram0), disks (disk0, overlays of the\n"
"VM's), monitor (qmp), what it says (log), and how it was started (command). The VM writes to overlays in DIR from\n"
"then on.\n"
"A clone is started like the VM, with the names of these files changed. What else it must have for itself, such as\n"
"a socket of a serial port, has to be named.\n"
"\n"
"save keeps a point in DIR, and revert takes the same QEMU back to it, memory, devices and disks, as often as one\n"
"likes. Disks have to be qcow2, or read-only. What was in the VM is lost when it is reverted.\n"
"\n"
"  -n N                  how many clones, 1 if it is not given\n"
"  -r, --replace OLD=NEW a path on the VM's command line, and what it is for a clone; {dir} in NEW is its directory,\n"
"                        {n} its number\n"
"      --json            as JSON, with all times in milliseconds\n"
"      --help            this text\n";

static int vm_run(int argc, char **argv)
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

const struct verb verb_vm = { "vm", "fork virtual machines of QEMU, or revert them", help, vm_run };
