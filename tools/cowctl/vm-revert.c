// SPDX-License-Identifier: GPL-2.0-only
/*
 * cowctl vm save, cowctl vm revert - keep a point of a virtual machine, and take the same QEMU back to it
 *
 * QEMU takes no state in while it runs, but for snapshots, which it keeps in images in the format qcow2. So the VM gets
 * one more image, without a disk for it, in which the state of its devices is kept; its disks are snapshotted along.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "signals.h"
#include "vm-dir.h"
#include "vm.h"

/* The disks that change, which have to be snapshotted along, by the names of their nodes. */
static json_t *changing_disks(struct vm *vm)
{
	json_t *all = qmp_list(&vm->qmp, "query-block", NULL), *nodes, *block, *inserted;
	size_t i;
	int err = 0;

	if (!all)
		return NULL;
	nodes = must(json_array());
	json_array_foreach(all, i, block) {
		inserted = json_object_get(block, "inserted");
		if (!inserted || json_is_true(json_object_get(inserted, "ro")))
			continue;
		if (!json_has(inserted, "drv", "qcow2"))
			err = complain(vm->qmp.path, "the disk %s cannot be taken back: only a qcow2 can",
				       json_text(inserted, "file"));
		json_array_append(nodes, json_object_get(inserted, "node-name"));
	}
	json_decref(all);
	if (!err)
		return nodes;
	json_decref(nodes);
	return NULL;
}

/* ---- save ---- */

/* An image of the size 0 at @path: what QEMU keeps in it besides is as long as it likes. */
static int make_image(struct vm *vm, const char *name, const char *path)
{
	char *file = must_printf("%s-file", name);
	int err;

	err = vm_make_image(vm, path, file, must(json_pack("{s:i}", "size", 0)));
	if (!err) {
		err = vm_add_node(vm, must(json_pack("{s:s, s:s, s:s}", "driver", "qcow2", "node-name", name, "file",
						     file)));
		if (err)
			vm_drop_node(vm, file);
	}
	free(file);
	return err;
}

static void drop_image(struct vm *vm, const char *name)
{
	char *file = must_printf("%s-file", name);

	vm_drop_node(vm, name);
	vm_drop_node(vm, file);
	free(file);
}

/* snapshot-save, snapshot-load and snapshot-delete; @point without "vmstate" for the last one */
static int run_snapshot(struct vm *vm, const char *command, json_t *point)
{
	json_t *arguments = must(json_deep_copy(point));

	json_object_set_new(arguments, "job-id", json_string("cowctl"));
	qmp_forget(&vm->qmp);
	return qmp_run(&vm->qmp, command, arguments) || qmp_job(&vm->qmp, "cowctl") ? -1 : 0;
}

/* What was saved of a point that did not become one. */
static void drop_snapshot(struct vm *vm, json_t *point)
{
	json_t *arguments = must(json_copy(point));

	json_object_del(arguments, "vmstate");
	if (!qmp_again(&vm->qmp) && !qmp_drop_job(&vm->qmp, "cowctl"))
		run_snapshot(vm, "snapshot-delete", arguments);
	json_decref(arguments);
}

static int link_memory(struct vm *vm, const int *cuts, const char *dir)
{
	char *name;
	size_t i;
	int err = 0;

	for (i = 0; i < vm->count && !err; i++) {
		name = must_printf("ram%zu", i);
		err = link_clone(cuts[i], COWMEM_CLONE_SNAPSHOT, dir, name);
		free(name);
	}
	return err;
}

/* All of it, or nothing of it stays. Once QEMU is at it nothing ends it, so no signal is heeded from there on. */
static int cut(struct vm *vm, json_t *point, const char *dir, struct laps *laps)
{
	int *cuts = must(calloc(vm->count, sizeof(*cuts))), err;
	bool saved = false, cut = false, heed;
	size_t i;

	laps_begin(laps);
	err = vm_stop(vm);
	laps_end(laps, "stop");
	heed = signals_heed(false);
	if (!err) {
		saved = true;
		err = run_snapshot(vm, "snapshot-save", point);
	}
	laps_end(laps, "state");
	if (!err && cowmem_clone_many(vm->fds, cuts, vm->count, COWMEM_CLONE_SNAPSHOT))
		err = complain_errno(vm->qmp.path);
	else
		cut = !err;
	laps_end(laps, "clone");
	if (vm->stopped && vm_cont(vm))
		err = -1;
	laps_end(laps, "cont");
	if (!err)
		err = link_memory(vm, cuts, dir);
	if (err && saved)
		drop_snapshot(vm, point);
	signals_heed(heed);
	for (i = 0; cut && i < vm->count; i++)
		close(cuts[i]);
	free(cuts);
	return err;
}

static int show(struct laps *laps, const char *what)
{
	if (output.json)
		return show_json(json_pack("{s:O}", "down", laps->parts), false);
	laps_show(laps, what);
	return 0;
}

/* In @place, which is there and empty. */
static int save(struct vm *vm, const struct place *place, struct laps *laps)
{
	json_t *disks = changing_disks(vm), *point;
	char *name, *image, *file;
	bool saved = false;
	int err;

	if (!disks)
		return -1;
	name = vm_name();
	image = must_printf("%s/state", place->path);
	file = must_printf("%s/point", place->path);
	json_array_insert_new(disks, 0, json_string(name));
	point = must(json_pack("{s:s, s:s, s:o}", "tag", name, "vmstate", name, "devices", disks));
	err = make_image(vm, name, image);
	if (!err) {
		err = vm_begin(vm) || cut(vm, point, place->path, laps) ? -1 : 0;
		saved = !err;
		if (vm_end(vm))
			err = -1;
		if (!err && json_dump_file(point, file, 0))
			err = complain(file, "%s", strerror(errno));
		if (err && saved)
			drop_snapshot(vm, point);
		if (err)
			drop_image(vm, name);
	}
	json_decref(point);
	free(name);
	free(image);
	free(file);
	return err;
}

/* The options of both verbs; the first argument is returned. */
static char **options_of(int argc, char **argv, unsigned int *seconds)
{
	static const struct option options[] = {
		{ "timeout", required_argument, NULL, 't' },
		COMMON_OPTIONS
	};

	while (next_option(argc, argv, "t:", options) >= 0)
		*seconds = (unsigned int)parse_number("--timeout", optarg, 1, TIMEOUT_MAX);
	return want_args(argc, argv, 2, 2);
}

int vm_save(int argc, char **argv)
{
	unsigned int seconds = TIMEOUT_SECONDS;
	struct laps laps = { };
	struct place place;
	struct vm vm;
	int err = -1;

	argv = options_of(argc, argv, &seconds);
	if (!vm_open(&vm, argv[0], "save", seconds) && !vm_check_dir(&place, argv[1], vm.fds[0])) {
		err = vm_make_dir(&place);
		if (!err) {
			err = save(&vm, &place, &laps);
			if (err)
				vm_remove_dir(place.path);
			else
				err = show(&laps, "stopped for");
		}
		place_close(&place);
	}
	json_decref(laps.parts);
	vm_close(&vm);
	return err;
}

/* ---- revert ---- */

/* A point is what the VM becomes, so it has to be by who is asking, and nobody else may have changed it. */
static int open_point(const char *dir)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct stat st;

	if (fd < 0)
		return complain(dir, "%s", strerror(errno));
	if (!fstat(fd, &st) && st.st_uid == geteuid() && !(st.st_mode & (0022)))
		return fd;
	close(fd);
	return complain(dir, "another user made it, or may change what is in it");
}

static json_t *read_point(int from, const char *dir)
{
	int fd = openat(from, "point", O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	json_t *point = fd < 0 ? NULL : json_loadfd(fd, 0, NULL);

	if (fd >= 0)
		close(fd);
	if (*json_text(point, "tag") && json_is_array(json_object_get(point, "devices")))
		return point;
	complain(dir, "not what cowctl vm save made: there is no point that could be gone back to");
	json_decref(point);
	return NULL;
}

static bool has_snapshot(const json_t *node, const char *tag)
{
	json_t *list = json_object_get(json_object_get(node, "image"), "snapshots"), *one;
	size_t i;

	json_array_foreach(list, i, one)
		if (json_has(one, "name", tag))
			return true;
	return false;
}

/* Is it this QEMU that has the point, and are its disks those that were saved? Before anything is lost. */
static int check_point(struct vm *vm, const json_t *point, const char *dir)
{
	json_t *nodes = qmp_list(&vm->qmp, "query-named-block-nodes", must(json_pack("{s:b}", "flat", 1)));
	json_t *wanted = json_object_get(point, "devices"), *disks, *name, *node;
	const char *tag = json_text(point, "tag");
	size_t i, j, found = 0;

	if (!nodes)
		return -1;
	json_array_foreach(wanted, i, name)
		json_array_foreach(nodes, j, node)
			found += json_equal(json_object_get(node, "node-name"), name) && has_snapshot(node, tag);
	json_decref(nodes);
	if (found != json_array_size(wanted))
		return complain(dir, "this VM does not have that point: it is another QEMU's, or lost a disk since");
	disks = changing_disks(vm);
	if (!disks)
		return -1;
	json_array_insert(disks, 0, json_array_get(wanted, 0));
	i = json_equal(disks, wanted);
	json_decref(disks);
	if (!i)
		return complain(dir, "the VM has other disks than it had at that point, as after cowctl vm fork");
	return 0;
}

static int open_memory(const struct vm *vm, int from, const char *dir, int *cuts)
{
	struct stat cut, ram;
	char name[32];
	size_t i;

	for (i = 0; i < vm->count; i++) {
		snprintf(name, sizeof(name), "ram%zu", i);
		cuts[i] = openat(from, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
		if (cuts[i] < 0)
			return complain(dir, "%s in it cannot be opened: %s", name, strerror(errno));
		if (!cowmem_is_region(cuts[i]))
			return complain(dir, "%s in it is not the memory of a point", name);
		if (fstat(cuts[i], &cut) || fstat(vm->fds[i], &ram) || cut.st_dev != ram.st_dev)
			return complain(dir, "%s in it is not on the mount that the VM's memory is on", name);
		if (cut.st_size != ram.st_size)
			return complain(dir, "%s in it is not as large as the VM's memory", name);
	}
	return 0;
}

/* One that is refused changes nothing, but those before it did. */
static int restore(struct vm *vm, const int *cuts)
{
	size_t i;

	for (i = 0; i < vm->count; i++) {
		if (cowmem_restore(vm->fds[i], cuts[i], COWMEM_RESTORE_KEEP, NULL))
			return complain_errno(vm->qmp.path);
		vm->keep_stopped = true;
	}
	return 0;
}

/*
 * Devices look into memory when they take their state, so that has to be there before. But first of all QEMU resets
 * them, and that may write to memory: so it is restored once more. From the first to the last of it no signal is
 * heeded.
 */
static int take_back(struct vm *vm, json_t *point, const int *cuts, struct laps *laps)
{
	bool heed;
	int err;

	laps_begin(laps);
	err = vm_stop(vm);
	laps_end(laps, "stop");
	heed = signals_heed(false);
	if (!err)
		err = restore(vm, cuts);
	laps_end(laps, "restore");
	if (!err)
		err = run_snapshot(vm, "snapshot-load", point);
	laps_end(laps, "state");
	if (!err)
		err = restore(vm, cuts);
	laps_end(laps, "restore again");
	if (!err)
		vm->keep_stopped = false;
	else if (vm->keep_stopped)
		complain(vm->qmp.path, "the VM is neither what it was nor what it was to be, and stays stopped");
	if (vm_cont(vm))
		err = -1;
	laps_end(laps, "cont");
	signals_heed(heed);
	return err;
}

/* To a point in the directory @from, which the user calls @dir. */
static int revert(struct vm *vm, int from, const char *dir, struct laps *laps)
{
	int *cuts = must(calloc(vm->count, sizeof(*cuts))), err = -1;
	json_t *point = read_point(from, dir);
	size_t i;

	memset(cuts, -1, vm->count * sizeof(*cuts));
	if (point && !check_point(vm, point, dir) && !open_memory(vm, from, dir, cuts)) {
		err = vm_begin(vm) || take_back(vm, point, cuts, laps) ? -1 : 0;
		if (vm_end(vm))
			err = -1;
	}
	for (i = 0; i < vm->count; i++)
		if (cuts[i] >= 0)
			close(cuts[i]);
	free(cuts);
	json_decref(point);
	return err;
}

int vm_revert(int argc, char **argv)
{
	unsigned int seconds = TIMEOUT_SECONDS;
	struct laps laps = { };
	int err = -1, from;
	struct vm vm;

	argv = options_of(argc, argv, &seconds);
	from = open_point(argv[1]);
	if (from < 0)
		return -1;
	if (!vm_open(&vm, argv[0], "revert", seconds))
		err = revert(&vm, from, argv[1], &laps) || show(&laps, "stopped for") ? -1 : 0;
	json_decref(laps.parts);
	vm_close(&vm);
	close(from);
	return err;
}
