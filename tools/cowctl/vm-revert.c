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
#include <time.h>
#include <unistd.h>

#include "vm.h"

/* A node of QEMU's has a name of at most 31 bytes. */
static char *new_name(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return must_printf("cowctl-%llx", (unsigned long long)now.tv_sec << 20 ^ (unsigned long long)now.tv_nsec >> 10);
}

/* The disks that change, which have to be snapshotted along, by the names of their nodes. */
static json_t *changing_disks(struct vm *vm)
{
	json_t *all = qmp_do(&vm->qmp, "query-block", NULL), *nodes, *block, *inserted;
	const char *format;
	size_t i;
	int err = 0;

	if (!all)
		return NULL;
	nodes = must(json_array());
	json_array_foreach(all, i, block) {
		inserted = json_object_get(block, "inserted");
		if (!inserted || json_is_true(json_object_get(inserted, "ro")))
			continue;
		format = json_string_value(json_object_get(inserted, "drv"));
		if (!format || strcmp(format, "qcow2"))
			err = complain(vm->qmp.path, "the disk %s cannot be taken back: only a qcow2 can",
				       json_string_value(json_object_get(inserted, "file")));
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
		err = qmp_run(&vm->qmp, "blockdev-add",
			      must(json_pack("{s:s, s:s, s:s}", "driver", "qcow2", "node-name", name, "file", file)));
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

/* snapshot-save and snapshot-load */
static int run_snapshot(struct vm *vm, const char *command, json_t *point)
{
	json_t *arguments = must(json_deep_copy(point));

	json_object_set_new(arguments, "job-id", json_string("cowctl"));
	qmp_forget(&vm->qmp);
	return qmp_run(&vm->qmp, command, arguments) || qmp_job(&vm->qmp, "cowctl") ? -1 : 0;
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

static int cut(struct vm *vm, json_t *point, const char *dir, struct laps *laps)
{
	int *cuts = must(calloc(vm->count, sizeof(*cuts))), err;
	bool cut = false;
	size_t i;

	laps_begin(laps);
	err = vm_stop(vm);
	laps_end(laps, "stop");
	if (!err)
		err = run_snapshot(vm, "snapshot-save", point);
	laps_end(laps, "state");
	if (!err && cowmem_clone_many(vm->fds, cuts, vm->count, COWMEM_CLONE_SNAPSHOT))
		err = complain_errno(vm->qmp.path);
	else
		cut = !err;
	laps_end(laps, "clone");
	if (vm_cont(vm))
		err = -1;
	laps_end(laps, "cont");
	if (!err)
		err = link_memory(vm, cuts, dir);
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
	int err;

	if (!disks)
		return -1;
	name = new_name();
	image = must_printf("%s/state", place->path);
	file = must_printf("%s/point", place->path);
	json_array_insert_new(disks, 0, json_string(name));
	point = must(json_pack("{s:s, s:s, s:o}", "tag", name, "vmstate", name, "devices", disks));
	err = make_image(vm, name, image);
	if (!err) {
		err = vm_ignore_ram(vm) || cut(vm, point, place->path, laps) ? -1 : 0;
		vm_capabilities_back(vm);
		if (!err && json_dump_file(point, file, 0))
			err = complain(file, "%s", strerror(errno));
		if (err)
			drop_image(vm, name);
	}
	json_decref(point);
	free(name);
	free(image);
	free(file);
	return err;
}

int vm_save(int argc, char **argv)
{
	static const struct option options[] = { COMMON_OPTIONS };
	struct laps laps = { };
	struct place place;
	struct vm vm;
	int err = -1;

	while (next_option(argc, argv, "", options) >= 0)
		;
	argv = want_args(argc, argv, 2, 2);
	if (!vm_open(&vm, argv[0]) && !vm_make_dir(&vm, &place, argv[1])) {
		err = save(&vm, &place, &laps);
		if (err)
			vm_remove_dir(&place);
		else
			err = show(&laps, "stopped for");
		place_close(&place);
	}
	json_decref(laps.parts);
	vm_close(&vm);
	return err;
}

/* ---- revert ---- */

static json_t *read_point(const char *dir)
{
	char *path = must_printf("%s/point", dir);
	json_t *point = json_load_file(path, 0, NULL);
	const char *tag = json_string_value(json_object_get(point, "tag"));

	if (!tag || !json_is_array(json_object_get(point, "devices"))) {
		complain(dir, "not what cowctl vm save made: there is no point that could be gone back to");
		json_decref(point);
		point = NULL;
	}
	free(path);
	return point;
}

static bool has_snapshot(const json_t *node, const char *tag)
{
	json_t *list = json_object_get(json_object_get(node, "image"), "snapshots"), *one;
	const char *name;
	size_t i;

	json_array_foreach(list, i, one) {
		name = json_string_value(json_object_get(one, "name"));
		if (name && !strcmp(name, tag))
			return true;
	}
	return false;
}

/* Is it this QEMU that has the point, and are its disks those that were saved? Before anything is lost. */
static int check_point(struct vm *vm, const json_t *point, const char *dir)
{
	json_t *nodes = qmp_do(&vm->qmp, "query-named-block-nodes", must(json_pack("{s:b}", "flat", 1)));
	json_t *wanted = json_object_get(point, "devices"), *disks, *name, *node;
	const char *tag = json_string_value(json_object_get(point, "tag"));
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

static int open_memory(const struct vm *vm, const char *dir, int *cuts)
{
	struct region region;
	char *path;
	size_t i;

	for (i = 0; i < vm->count; i++) {
		path = must_printf("%s/ram%zu", dir, i);
		if (!region_open(&region, path, O_RDONLY))
			cuts[i] = region.fd;
		free(path);
		if (cuts[i] < 0)
			return -1;
	}
	return 0;
}

static int restore(const struct vm *vm, const int *cuts)
{
	size_t i;

	for (i = 0; i < vm->count; i++)
		if (cowmem_restore(vm->fds[i], cuts[i], COWMEM_RESTORE_KEEP, NULL))
			return complain_errno(vm->qmp.path);
	return 0;
}

/*
 * Devices look into memory when they take their state, so that has to be there before. But first of all QEMU resets
 * them, and that may write to memory: so it is restored once more.
 */
static int take_back(struct vm *vm, json_t *point, const int *cuts, struct laps *laps)
{
	int err;

	laps_begin(laps);
	err = vm_stop(vm);
	laps_end(laps, "stop");
	if (!err)
		err = restore(vm, cuts);
	laps_end(laps, "restore");
	if (!err)
		err = run_snapshot(vm, "snapshot-load", point);
	laps_end(laps, "state");
	if (!err)
		err = restore(vm, cuts);
	laps_end(laps, "restore again");
	if (err) {
		complain(vm->qmp.path, "the VM is neither what it was nor what it was to be, and stays stopped");
		vm->running = false;
	}
	if (vm_cont(vm))
		err = -1;
	laps_end(laps, "cont");
	return err;
}

static int revert(struct vm *vm, const char *dir, struct laps *laps)
{
	int *cuts = must(calloc(vm->count, sizeof(*cuts))), err = -1;
	json_t *point = read_point(dir);
	size_t i;

	memset(cuts, -1, vm->count * sizeof(*cuts));
	if (point && !check_point(vm, point, dir) && !open_memory(vm, dir, cuts) && !vm_ignore_ram(vm)) {
		err = take_back(vm, point, cuts, laps);
		vm_capabilities_back(vm);
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
	static const struct option options[] = { COMMON_OPTIONS };
	struct laps laps = { };
	struct vm vm;
	int err;

	while (next_option(argc, argv, "", options) >= 0)
		;
	argv = want_args(argc, argv, 2, 2);
	err = vm_open(&vm, argv[0]);
	if (!err)
		err = revert(&vm, argv[1], &laps) || show(&laps, "stopped for") ? -1 : 0;
	json_decref(laps.parts);
	vm_close(&vm);
	return err;
}
