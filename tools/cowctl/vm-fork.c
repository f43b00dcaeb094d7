// SPDX-License-Identifier: GPL-2.0-only
/*
 * cowctl vm fork - more virtual machines that go on from where one is
 *
 * An overlay for each disk is made before, and clones of it while it is empty. While the VM is stopped, it begins to
 * write to the overlays; QEMU writes the state of its devices to a file; and its memory is snapshotted. All else is
 * done when it runs again.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vm-command.h"
#include "vm.h"

#define CLONES_MAX	1000
#define START_SECONDS	300

/**
 * struct disk - one that the VM may write to
 * @key: @id: how to name it to QEMU
 * @base: @format: @size: of the image that it is now
 * @name: @path: of its overlay
 * @cut: a descriptor of the overlay as it was when it was empty, or -1
 */
struct disk {
	const char *key;
	char *id, *base, *format, *name, *path;
	json_int_t size;
	int cut;
};

/**
 * struct twin - a clone of the VM
 * @dir: its directory
 * @ms: how long it took from the start of its QEMU until it ran
 */
struct twin {
	char *dir;
	pid_t pid;
	double began, ms;
	bool runs;
};

/**
 * struct job - one fork
 * @cuts: the memory as it was, for each of the VM's files
 * @state: the state of the devices
 * @disks_used: whether the VM has begun to use its overlays
 */
struct job {
	struct vm vm;
	struct place place;
	struct command command;
	struct changes changes;
	struct disk *disks;
	size_t disk_count;
	int *cuts;
	char *state;
	bool disks_used;
	struct twin *twins;
	unsigned int count;
	struct laps down;
};

/* ---- before the VM is stopped ---- */

/* What the command line calls a disk: an earlier fork may have put overlays onto it. */
static const json_t *image_on_command_line(const struct job *job, const json_t *image)
{
	const char *file;

	for (; image; image = json_object_get(image, "backing-image")) {
		file = json_string_value(json_object_get(image, "filename"));
		if (file && command_has(&job->command, file))
			break;
	}
	return image;
}

/* What is in an overlay's header, so it must not depend on where somebody is. Not all of QEMU's names are files. */
static char *absolute(const struct job *job, const char *file)
{
	if (*file == '/' || strchr(file, ':'))
		return must(strdup(file));
	return must_printf("%s/%s", job->command.cwd, file);
}

static int add_disk(struct job *job, const json_t *block, const json_t *inserted)
{
	const char *device = json_string_value(json_object_get(block, "device"));
	const char *node = json_string_value(json_object_get(inserted, "node-name"));
	const json_t *top = json_object_get(inserted, "image"), *image = image_on_command_line(job, top);
	const char *format = json_string_value(json_object_get(image, "format"));
	struct change *change;
	struct disk *disk;

	if (!image || !format)
		return complain(job->vm.qmp.path, "its command line does not name the disk %s",
				json_string_value(json_object_get(inserted, "file")));
	job->disks = must(reallocarray(job->disks, job->disk_count + 1, sizeof(*job->disks)));
	disk = &job->disks[job->disk_count];
	*disk = (struct disk) { .key = device && *device ? "device" : "node-name", .cut = -1 };
	disk->id = must(strdup(device && *device ? device : node));
	disk->name = must_printf("disk%zu", job->disk_count++);
	disk->base = absolute(job, json_string_value(json_object_get(top, "filename")));
	disk->format = must(strdup(json_string_value(json_object_get(top, "format"))));
	disk->size = json_integer_value(json_object_get(top, "virtual-size"));
	change = change_add(&job->changes, must(strdup(json_string_value(json_object_get(image, "filename")))),
			    must_printf("{dir}/%s", disk->name));
	/* What does not say its format, as a protocol node, would be given the bytes of an overlay. */
	change->raw = strcmp(format, "qcow2");
	return 0;
}

static int find_disks(struct job *job)
{
	json_t *all = qmp_do(&job->vm.qmp, "query-block", NULL), *block, *inserted;
	size_t i;
	int err = 0;

	if (!all)
		return -1;
	json_array_foreach(all, i, block) {
		inserted = json_object_get(block, "inserted");
		if (!err && inserted && !json_is_true(json_object_get(inserted, "ro")))
			err = add_disk(job, block, inserted);
	}
	json_decref(all);
	return err;
}

static int find_changes(struct job *job)
{
	size_t i;

	if (command_read(&job->command, job->vm.qmp.path, job->vm.qmp.pid) || find_disks(job))
		return -1;
	for (i = 0; i < job->vm.count; i++)
		change_add(&job->changes, must(strdup(job->vm.rams[i])), must_printf("{dir}/ram%zu", i));
	change_add(&job->changes, must(strdup(job->vm.qmp.address ? job->vm.qmp.address : job->vm.qmp.path)),
		   must(strdup("{dir}/qmp")));
	return command_check(&job->command, &job->changes, job->vm.qmp.path);
}

static int make_dirs(struct job *job, const char *arg)
{
	struct sockaddr_un *address = NULL;
	unsigned int i;
	struct twin *twin;

	if (strchr(arg, ','))
		return complain(arg, "a comma ends a path in QEMU's options; take a name without");
	if (vm_make_dir(&job->vm, &job->place, arg))
		return -1;
	job->twins = must(calloc(job->count, sizeof(*job->twins)));
	for (i = 0; i < job->count; i++) {
		twin = &job->twins[i];
		twin->dir = must_printf("%s/%u", job->place.path, i);
		if (strlen(twin->dir) + strlen("/qmp") >= sizeof(address->sun_path)) {
			complain(twin->dir, "too long a path for the socket in it");
			goto fail;
		}
		if (mkdir(twin->dir, 0700)) {
			complain(twin->dir, "%s", strerror(errno));
			goto fail;
		}
	}
	job->state = must_printf("%s/state", job->place.path);
	return 0;
fail:
	vm_remove_dir(&job->place);
	return -1;
}

static int make_overlay(struct job *job, struct disk *disk)
{
	int fd;

	disk->path = must_printf("%s/%s", job->place.path, disk->name);
	if (vm_make_image(&job->vm, disk->path, "cowctl-overlay",
			  must(json_pack("{s:I, s:s, s:s}", "size", disk->size, "backing-file", disk->base,
					 "backing-fmt", disk->format))))
		return -1;
	vm_drop_node(&job->vm, "cowctl-overlay");
	fd = open(disk->path, O_RDONLY | O_CLOEXEC);
	disk->cut = fd < 0 ? -1 : cowmem_snapshot(fd);
	if (disk->cut < 0)
		complain_errno(disk->path);
	if (fd >= 0)
		close(fd);
	return disk->cut < 0 ? -1 : 0;
}

static int make_overlays(struct job *job)
{
	size_t i;

	for (i = 0; i < job->disk_count; i++)
		if (make_overlay(job, &job->disks[i]))
			return -1;
	return 0;
}

/* ---- while it is stopped ---- */

/* Write to the overlay from now on. */
static int split_disk(struct job *job, const struct disk *disk)
{
	if (qmp_run(&job->vm.qmp, "blockdev-snapshot-sync",
		    must(json_pack("{s:s, s:s, s:s, s:s}", disk->key, disk->id, "snapshot-file", disk->path,
				   "format", "qcow2", "mode", "existing"))))
		return -1;
	job->disks_used = true;
	return 0;
}

static int split_disks(struct job *job)
{
	size_t i;

	for (i = 0; i < job->disk_count; i++)
		if (split_disk(job, &job->disks[i]))
			return -1;
	return 0;
}

static int complain_migration(struct qmp *qmp, const char *what)
{
	json_t *info = qmp_do(qmp, "query-migrate", NULL);
	const char *why = json_string_value(json_object_get(info, "error-desc"));

	complain(what, "QEMU did not %s: %s", what == qmp->path ? "write its state" : "take the state",
		 why ? why : "it says not why");
	json_decref(info);
	return -1;
}

/* It has completed before it has ended, and until then QEMU does not let the VM go on. */
static int wait_for_end(struct qmp *qmp)
{
	json_t *status;
	bool ended;

	do {
		status = qmp_do(qmp, "query-status", NULL);
		if (!status)
			return -1;
		ended = strcmp(json_string_value(json_object_get(status, "status")), "finish-migrate");
		json_decref(status);
		if (!ended)
			usleep(500);
	} while (!ended);
	return 0;
}

static int write_state(struct job *job)
{
	struct qmp *qmp = &job->vm.qmp;
	int fd = open(job->state, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600), err;

	if (fd < 0)
		return complain(job->state, "%s", strerror(errno));
	qmp_forget(qmp);
	err = qmp_give(qmp, "cowctl", fd);
	close(fd);
	if (err || qmp_run(qmp, "migrate", must(json_pack("{s:s}", "uri", "fd:cowctl"))))
		return -1;
	if (qmp_wait(qmp, "MIGRATION", NULL, "completed", "failed"))
		return complain_migration(qmp, qmp->path);
	return wait_for_end(qmp);
}

static int cut_memory(struct job *job)
{
	job->cuts = must(calloc(job->vm.count, sizeof(*job->cuts)));
	if (!cowmem_clone_many(job->vm.fds, job->cuts, job->vm.count, COWMEM_CLONE_SNAPSHOT))
		return 0;
	complain_errno(job->vm.qmp.path);
	free(job->cuts);
	job->cuts = NULL;
	return -1;
}

/* Whatever fails, it runs again. */
static int cut(struct job *job)
{
	int err;

	if (vm_ignore_ram(&job->vm))
		return -1;
	laps_begin(&job->down);
	err = vm_stop(&job->vm);
	laps_end(&job->down, "stop");
	if (!err && job->disk_count) {
		err = split_disks(job);
		laps_end(&job->down, "disks");
	}
	if (!err)
		err = write_state(job);
	laps_end(&job->down, "state");
	if (!err)
		err = cut_memory(job);
	laps_end(&job->down, "clone");
	if (vm_cont(&job->vm))
		err = -1;
	laps_end(&job->down, "cont");
	vm_capabilities_back(&job->vm);
	return err;
}

/* ---- the clones ---- */

static void quote(FILE *to, const char *word)
{
	putc('\'', to);
	for (; *word; word++) {
		if (*word == '\'')
			fputs("'\\'", to);
		putc(*word, to);
	}
	putc('\'', to);
}

/* For the user: how it was started. */
static int write_command(const struct job *job, const struct twin *twin, char **argv)
{
	char *path = must_printf("%s/command", twin->dir);
	FILE *to = fopen(path, "we");
	int err;

	if (to) {
		fputs("cd ", to);
		quote(to, job->command.cwd);
		fputs(" && exec ", to);
		quote(to, job->command.exe);
		for (argv++; *argv; argv++) {
			putc(' ', to);
			quote(to, *argv);
		}
		putc('\n', to);
	}
	err = !to || fclose(to) ? complain(path, "%s", strerror(errno)) : 0;
	free(path);
	return err;
}

static int give_files(const struct job *job, const struct twin *twin)
{
	char *name;
	size_t i;
	int err = 0;

	for (i = 0; i < job->vm.count && !err; i++) {
		name = must_printf("ram%zu", i);
		err = link_clone(job->cuts[i], 0, twin->dir, name);
		free(name);
	}
	for (i = 0; i < job->disk_count && !err; i++)
		err = link_clone(job->disks[i].cut, 0, twin->dir, job->disks[i].name);
	return err;
}

static int start(const struct job *job, struct twin *twin, unsigned int number)
{
	char **argv, *log;
	int err;

	if (give_files(job, twin))
		return -1;
	argv = command_change(&job->command, &job->changes, twin->dir, number);
	err = write_command(job, twin, argv);
	log = must_printf("%s/log", twin->dir);
	if (!err) {
		twin->began = now_seconds();
		twin->pid = command_start(&job->command, argv, log);
		if (twin->pid < 0)
			err = complain(twin->dir, "%s", strerror(errno));
	}
	free(log);
	list_free(argv);
	return err;
}

/* It has a socket when it can be talked to. */
static int wait_for(const struct twin *twin, const char *socket)
{
	double end = now_seconds() + START_SECONDS;
	struct stat st;

	while (stat(socket, &st)) {
		if (waitpid(twin->pid, NULL, WNOHANG) == twin->pid)
			return complain(twin->dir, "its QEMU has ended; what it said is in %s/log", twin->dir);
		if (now_seconds() > end)
			return complain(twin->dir, "its QEMU does not come up; what it says is in %s/log", twin->dir);
		usleep(5000);
	}
	return 0;
}

static int take_state(const struct job *job, const struct twin *twin, struct vm *vm)
{
	int fd = open(job->state, O_RDONLY | O_CLOEXEC), err;

	if (fd < 0)
		return complain(job->state, "%s", strerror(errno));
	err = qmp_give(&vm->qmp, "cowctl", fd);
	close(fd);
	if (err || vm_ignore_ram(vm) ||
	    qmp_run(&vm->qmp, "migrate-incoming", must(json_pack("{s:s}", "uri", "fd:cowctl"))))
		return -1;
	if (qmp_wait(&vm->qmp, "MIGRATION", NULL, "completed", "failed"))
		return complain_migration(&vm->qmp, twin->dir);
	vm_capabilities_back(vm);
	return 0;
}

static int awake(const struct job *job, struct twin *twin)
{
	struct vm vm = { .running = job->vm.running };
	char *socket = must_printf("%s/qmp", twin->dir);
	int err = wait_for(twin, socket);

	if (!err) {
		err = qmp_open(&vm.qmp, socket, START_SECONDS);
		err = err || take_state(job, twin, &vm) || vm_cont(&vm) ? -1 : 0;
		twin->ms = (now_seconds() - twin->began) * 1e3;
		vm_close(&vm);
	}
	free(socket);
	return err;
}

/* All start at once, which takes most of the time. Of those that fail nothing is left but what tells why. */
static int start_all(struct job *job)
{
	unsigned int i;
	struct twin *twin;
	int err = 0;

	for (i = 0; i < job->count; i++)
		if (start(job, &job->twins[i], i))
			err = -1;
	for (i = 0; i < job->count; i++) {
		twin = &job->twins[i];
		if (twin->pid <= 0)
			continue;
		twin->runs = !awake(job, twin);
		if (twin->runs)
			continue;
		err = -1;
		if (!waitpid(twin->pid, NULL, WNOHANG))
			kill(twin->pid, SIGKILL);
	}
	return err;
}

/* ---- the verb ---- */

static const struct column columns[] = {
	{ "dir", "DIR", COLUMN_TEXT },
	{ "pid", "PID", COLUMN_NUMBER },
	{ "ms", "MS", COLUMN_NUMBER },
	{ NULL, NULL, 0 },
};

static int show(const struct job *job)
{
	json_t *vms = must(json_array());
	struct stat st;
	unsigned int i;

	for (i = 0; i < job->count; i++)
		if (job->twins[i].runs)
			json_array_append_new(vms, json_pack("{s:o, s:i, s:f}", "dir", json_name(job->twins[i].dir),
							     "pid", (int)job->twins[i].pid, "ms", job->twins[i].ms));
	if (stat(job->state, &st))
		st.st_size = 0;
	if (output.json)
		return show_json(json_pack("{s:O, s:I, s:o}", "down", job->down.parts, "state_bytes",
					   (json_int_t)st.st_size, "vms", vms), false);
	laps_show(&job->down, "stopped for");
	return show_rows("vms", vms, columns);
}

static int fork_vm(struct job *job, const char *socket, const char *dir)
{
	int err;

	if (vm_open(&job->vm, socket) || find_changes(job) || make_dirs(job, dir))
		return -1;
	if (make_overlays(job) || cut(job)) {
		if (job->disks_used)
			complain(job->place.path, "has to stay: the VM writes to its overlays there");
		else
			vm_remove_dir(&job->place);
		return -1;
	}
	err = start_all(job);
	return show(job) ? -1 : err;
}

static void job_close(struct job *job)
{
	size_t i;

	for (i = 0; job->cuts && i < job->vm.count; i++)
		close(job->cuts[i]);
	for (i = 0; i < job->disk_count; i++) {
		if (job->disks[i].cut >= 0)
			close(job->disks[i].cut);
		free(job->disks[i].id);
		free(job->disks[i].base);
		free(job->disks[i].format);
		free(job->disks[i].name);
		free(job->disks[i].path);
	}
	for (i = 0; job->twins && i < job->count; i++)
		free(job->twins[i].dir);
	free(job->cuts);
	free(job->disks);
	free(job->twins);
	free(job->state);
	json_decref(job->down.parts);
	if (job->place.path)
		place_close(&job->place);
	command_free(&job->command);
	changes_free(&job->changes);
	vm_close(&job->vm);
}

static void add_replace(struct changes *changes, const char *option)
{
	const char *equals = strchr(option, '=');

	if (!equals || equals == option || !equals[1])
		usage("--replace wants OLD=NEW, not '%s'", option);
	change_add(changes, must(strndup(option, (size_t)(equals - option))), must(strdup(equals + 1)));
}

int vm_fork(int argc, char **argv)
{
	static const struct option options[] = {
		{ "replace", required_argument, NULL, 'r' },
		COMMON_OPTIONS
	};
	struct job job = { .count = 1, .place = { .dir = -1 }, .vm.qmp.fd = -1 };
	int c, err;

	while ((c = next_option(argc, argv, "n:r:", options)) >= 0) {
		if (c == 'n')
			job.count = (unsigned int)parse_number("-n", optarg, 1, CLONES_MAX);
		else
			add_replace(&job.changes, optarg);
	}
	argv = want_args(argc, argv, 2, 2);
	err = fork_vm(&job, argv[0], argv[1]);
	job_close(&job);
	return err;
}
