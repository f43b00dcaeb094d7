// SPDX-License-Identifier: GPL-2.0-only
/*
 * cowctl vm fork - more virtual machines that go on from where one is
 *
 * An overlay for each disk is made before, and clones of it while it is empty. With these, and with memory in which
 * nothing is yet, the clones' QEMUs start and wait. So what keeps one from starting is known before anything of the VM
 * is changed, and starting takes no time that counts. While the VM is stopped, it begins to write to the overlays; QEMU
 * writes the state of its devices to a file; and its memory is snapshotted. When it runs again, the clones' memory is
 * restored from the snapshot, and their QEMUs take the state.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "signals.h"
#include "vm-command.h"
#include "vm.h"

/* Each takes descriptors, of which a process usually may have 1024. */
#define CLONES_MAX	400
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
 * @socket: of its monitor
 * @log: what it says
 * @pid: its QEMU, or 0
 * @vm: the way to it, when it is there
 * @ms: how long after the VM was stopped it ran
 */
struct twin {
	char *dir, *socket, *log;
	pid_t pid;
	struct vm vm;
	double ms;
	bool runs;
};

/**
 * struct job - one fork
 * @seconds: how long a QEMU may take to answer
 * @cuts: the memory as it was, for each of the VM's files
 * @state: the state of the devices, a file without a name
 * @made: whether the directory is there
 * @disks_used: whether the VM has begun to use its overlays
 * @began: when the VM was stopped
 * @start_ms: how long the clones' QEMUs took to start
 */
struct job {
	struct vm vm;
	unsigned int seconds;
	struct place place;
	struct command command;
	struct changes changes;
	struct disk *disks;
	size_t disk_count;
	int *cuts;
	int state;
	bool made, disks_used;
	struct twin *twins;
	unsigned int count;
	double began, start_ms;
	struct laps down;
};

/* ---- before the VM is stopped ---- */

/* What the command line calls a disk: an earlier fork may have put overlays onto it. */
static const json_t *image_on_command_line(const struct job *job, const json_t *image)
{
	const char *file;

	for (; image; image = json_object_get(image, "backing-image")) {
		file = json_text(image, "filename");
		if (*file && command_has(&job->command, file))
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

/* What the overlay is put onto has to be found by the clones' QEMUs; QEMU's working directory is a part of its name. */
static int check_base(const struct job *job, const struct disk *disk)
{
	if (vm_check_text(disk->base))
		return -1;
	if (*disk->base == '/' && access(disk->base, R_OK))
		return complain(job->vm.qmp.path, "its disk %s cannot be read, as with -snapshot: %s", disk->base,
				strerror(errno));
	return 0;
}

static int add_disk(struct job *job, const json_t *block, const json_t *inserted)
{
	const char *device = json_text(block, "device");
	const json_t *top = json_object_get(inserted, "image"), *image = image_on_command_line(job, top);
	const char *format = json_text(image, "format");
	struct change *change;
	struct disk *disk;

	if (!*format)
		return complain(job->vm.qmp.path, "its command line does not name the disk %s",
				json_text(inserted, "file"));
	job->disks = must(reallocarray(job->disks, job->disk_count + 1, sizeof(*job->disks)));
	disk = &job->disks[job->disk_count];
	*disk = (struct disk) { .key = *device ? "device" : "node-name", .cut = -1 };
	disk->id = must(strdup(*device ? device : json_text(inserted, "node-name")));
	disk->name = must_printf("disk%zu", job->disk_count++);
	disk->base = absolute(job, json_text(top, "filename"));
	disk->format = must(strdup(json_text(top, "format")));
	disk->size = json_integer_value(json_object_get(top, "virtual-size"));
	change = change_add(&job->changes, must(strdup(json_text(image, "filename"))),
			    must_printf("{dir}/%s", disk->name));
	/* What does not say its format, as a protocol node, would be given the bytes of an overlay. */
	change->raw = strcmp(format, "qcow2");
	return check_base(job, disk);
}

static int find_disks(struct job *job)
{
	json_t *all = qmp_list(&job->vm.qmp, "query-block", NULL), *block, *inserted;
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

/* What QEMU itself says it could not migrate, and one that is under way. */
static int check_migration(struct job *job)
{
	const char *socket = job->vm.qmp.path, *status;
	json_t *info = qmp_do(&job->vm.qmp, "query-migrate", NULL), *why;
	int err = 0;

	if (!info)
		return -1;
	why = json_array_get(json_object_get(info, "blocked-reasons"), 0);
	status = json_text(info, "status");
	if (why)
		err = complain(socket, "QEMU cannot give its state away: %s", json_string_value(why));
	else if (!strcmp(status, "setup") || !strcmp(status, "active") || !strcmp(status, "postcopy-active"))
		err = complain(socket, "a migration is under way");
	json_decref(info);
	return err;
}

/* All that can be known before anything is made or changed. */
static int check(struct job *job)
{
	size_t i;

	if (command_read(&job->command, job->vm.qmp.path, job->vm.qmp.pid) || check_migration(job) || find_disks(job))
		return -1;
	for (i = 0; i < job->vm.count; i++)
		change_add(&job->changes, must(strdup(job->vm.rams[i])), must_printf("{dir}/ram%zu", i));
	change_add(&job->changes, must(strdup(job->vm.qmp.address ? job->vm.qmp.address : job->vm.qmp.path)),
		   must(strdup("{dir}/qmp")));
	return command_check(&job->command, &job->changes, job->vm.qmp.path, job->vm.qmp.pid);
}

static int name_twins(struct job *job)
{
	struct sockaddr_un *address = NULL;
	struct twin *twin;

	job->twins = must(calloc(job->count, sizeof(*job->twins)));
	for (twin = job->twins; twin < job->twins + job->count; twin++) {
		twin->vm.qmp.fd = -1;
		twin->dir = must_printf("%s/%u", job->place.path, (unsigned int)(twin - job->twins));
		twin->socket = must_printf("%s/qmp", twin->dir);
		twin->log = must_printf("%s/log", twin->dir);
	}
	/* The last one is the longest. */
	twin--;
	if (strlen(twin->socket) >= sizeof(address->sun_path))
		return complain(twin->dir, "too long a path for the socket in it");
	return 0;
}

static int make_dirs(struct job *job)
{
	unsigned int i;

	if (vm_make_dir(&job->place))
		return -1;
	job->made = true;
	for (i = 0; i < job->count; i++)
		if (mkdir(job->twins[i].dir, 0700))
			return complain(job->twins[i].dir, "%s", strerror(errno));
	job->state = place_file(&job->place);
	return job->state < 0 ? -1 : 0;
}

static int make_overlay(struct job *job, struct disk *disk)
{
	char *node = vm_name();
	int fd, err;

	disk->path = must_printf("%s/%s", job->place.path, disk->name);
	err = vm_make_image(&job->vm, disk->path, node,
			    must(json_pack("{s:I, s:s, s:s}", "size", disk->size, "backing-file", disk->base,
					   "backing-fmt", disk->format)));
	if (!err)
		vm_drop_node(&job->vm, node);
	free(node);
	if (err)
		return -1;
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

/* ---- the clones start ---- */

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

/* An empty file as large as the VM's: what is in it comes when all is ready. */
static int make_memory(const struct job *job, const struct twin *twin, size_t i)
{
	char *name = must_printf("ram%zu", i);
	struct place place;
	struct stat ram;
	int err = in_dir(&place, twin->dir, name), fd = -1;

	free(name);
	if (err)
		return -1;
	fd = place_file(&place);
	if (fd >= 0 && (fstat(job->vm.fds[i], &ram) || ftruncate(fd, ram.st_size)))
		err = complain_place(&place);
	if (fd < 0 || err || place_link(&place, fd))
		err = -1;
	if (fd >= 0)
		close(fd);
	place_close(&place);
	return err;
}

static int give_files(const struct job *job, const struct twin *twin)
{
	size_t i;
	int err = 0;

	for (i = 0; i < job->vm.count && !err; i++)
		err = make_memory(job, twin, i);
	for (i = 0; i < job->disk_count && !err; i++)
		err = link_clone(job->disks[i].cut, 0, twin->dir, job->disks[i].name);
	return err;
}

static int start(const struct job *job, struct twin *twin)
{
	char **argv;
	int err;

	if (give_files(job, twin))
		return -1;
	argv = command_change(&job->command, &job->changes, twin->dir, (unsigned int)(twin - job->twins));
	err = write_command(job, twin, argv);
	if (!err) {
		twin->pid = command_start(&job->command, argv, twin->log);
		if (twin->pid < 0)
			err = complain(twin->dir, "%s", strerror(errno));
	}
	list_free(argv);
	return err;
}

/* Why it did not work is in its log, which is about to go. */
static int complain_log(const struct twin *twin, const char *what)
{
	FILE *log = fopen(twin->log, "re");
	char *line = NULL, *last = must(strdup("nothing"));
	size_t size = 0;
	ssize_t length;

	while (log && (length = getline(&line, &size, log)) > 0) {
		if (line[length - 1] == '\n')
			line[length - 1] = 0;
		free(last);
		last = must(strdup(line));
	}
	if (log)
		fclose(log);
	complain(twin->dir, "its QEMU %s; what it said last: %s", what, last);
	free(line);
	free(last);
	return -1;
}

/* Its socket has a name before it is listened to. */
static bool is_listening(const char *socket_path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool listening;

	strncpy(address.sun_path, socket_path, sizeof(address.sun_path) - 1);
	listening = fd >= 0 && !connect(fd, (struct sockaddr *)&address, sizeof(address));
	if (fd >= 0)
		close(fd);
	return listening;
}

static int wait_for_socket(struct twin *twin)
{
	double end = now_seconds() + START_SECONDS;

	while (!is_listening(twin->socket)) {
		if (waitpid(twin->pid, NULL, WNOHANG) == twin->pid) {
			twin->pid = 0;
			return complain_log(twin, "has ended");
		}
		if (now_seconds() > end)
			return complain_log(twin, "does not come up");
		if (signals_came())
			return complain(twin->dir, "interrupted by a signal");
		usleep(5000);
	}
	return 0;
}

/* Ready to take a state, without its memory. */
static int meet(const struct job *job, struct twin *twin)
{
	if (wait_for_socket(twin))
		return -1;
	twin->vm.running = job->vm.running;
	if (!qmp_open(&twin->vm.qmp, twin->socket, job->seconds, START_SECONDS) && !vm_begin(&twin->vm))
		return 0;
	return complain_log(twin, "cannot be used");
}

static int start_all(struct job *job)
{
	double began = now_seconds();
	unsigned int i;

	for (i = 0; i < job->count; i++)
		if (start(job, &job->twins[i]))
			return -1;
	for (i = 0; i < job->count; i++)
		if (meet(job, &job->twins[i]))
			return -1;
	job->start_ms = (now_seconds() - began) * 1e3;
	return 0;
}

/* Nothing is left of one that does not run. */
static void end_twin(struct twin *twin)
{
	if (twin->runs)
		return;
	if (twin->pid > 0) {
		kill(twin->pid, SIGKILL);
		waitpid(twin->pid, NULL, 0);
	}
	twin->pid = 0;
	vm_remove_dir(twin->dir);
}

/* ---- while it is stopped ---- */

/* Write to the overlay from now on. If there is no answer, QEMU may do so nevertheless. */
static int split_disk(struct job *job, const struct disk *disk)
{
	int err = qmp_run(&job->vm.qmp, "blockdev-snapshot-sync",
			  must(json_pack("{s:s, s:s, s:s, s:s}", disk->key, disk->id, "snapshot-file", disk->path,
					 "format", "qcow2", "mode", "existing")));

	if (!job->vm.qmp.refused)
		job->disks_used = true;
	return err;
}

static int split_disks(struct job *job)
{
	size_t i;

	for (i = 0; i < job->disk_count; i++)
		if (split_disk(job, &job->disks[i]))
			return -1;
	return 0;
}

static void complain_migration(struct qmp *qmp)
{
	json_t *info = qmp_do(qmp, "query-migrate", NULL);
	const char *why = json_text(info, "error-desc");

	complain(qmp->path, "QEMU did not write its state: %s", *why ? why : "it says not why");
	json_decref(info);
}

/* It may still be at it, and then the VM would not go on. */
static void cancel_state(struct vm *vm)
{
	bool heed = signals_heed(false);

	if (!qmp_again(&vm->qmp) && !qmp_run(&vm->qmp, "migrate_cancel", NULL))
		vm_wait_for_migration(vm);
	signals_heed(heed);
}

static int write_state(struct job *job)
{
	struct qmp *qmp = &job->vm.qmp;

	qmp_forget(qmp);
	if (qmp_give(qmp, "cowctl", job->state))
		return -1;
	if (qmp_run(qmp, "migrate", must(json_pack("{s:s}", "uri", "fd:cowctl")))) {
		/* Without an answer QEMU may do it yet, and stop the VM at its end. */
		if (!qmp->refused)
			cancel_state(&job->vm);
		return -1;
	}
	if (!qmp_wait(qmp, "MIGRATION", NULL, "completed", "failed") && !vm_wait_for_migration(&job->vm))
		return 0;
	if (!qmp->broken && !signals_came())
		complain_migration(qmp);
	cancel_state(&job->vm);
	return -1;
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
	int err = vm_begin(&job->vm);

	job->began = now_seconds();
	laps_begin(&job->down);
	if (!err)
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
	if (job->vm.stopped && vm_cont(&job->vm))
		err = -1;
	laps_end(&job->down, "cont");
	return vm_end(&job->vm) ? -1 : err;
}

/* ---- the clones go on ---- */

static int restore_memory(const struct job *job, const struct twin *twin)
{
	char *path;
	size_t i;
	int fd, err = 0;

	for (i = 0; i < job->vm.count && !err; i++) {
		path = must_printf("%s/ram%zu", twin->dir, i);
		fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
		if (fd < 0 || cowmem_restore(fd, job->cuts[i], 0, NULL))
			err = complain_errno(path);
		if (fd >= 0)
			close(fd);
		free(path);
	}
	return err;
}

/* To each its own descriptor: they read from the beginning. */
static int take_state(const struct job *job, struct twin *twin)
{
	char *path = must_printf("/proc/self/fd/%d", job->state);
	int fd = open(path, O_RDONLY | O_CLOEXEC), err;

	free(path);
	if (fd < 0)
		return complain(twin->dir, "the state: %s", strerror(errno));
	err = qmp_give(&twin->vm.qmp, "cowctl", fd);
	close(fd);
	return err || qmp_run(&twin->vm.qmp, "migrate-incoming", must(json_pack("{s:s}", "uri", "fd:cowctl"))) ? -1 : 0;
}

static int go_on(const struct job *job, struct twin *twin)
{
	if (qmp_wait(&twin->vm.qmp, "MIGRATION", NULL, "completed", "failed"))
		return complain_log(twin, "did not take the state");
	if (vm_cont(&twin->vm))
		return -1;
	twin->ms = (now_seconds() - job->began) * 1e3;
	twin->runs = true;
	return vm_end(&twin->vm);
}

/* All take the state at the same time. Those that cannot are ended, and the others go on. */
static int wake_all(struct job *job)
{
	struct twin *twin, *end = job->twins + job->count;
	int err = 0;

	for (twin = job->twins; twin < end; twin++)
		if (restore_memory(job, twin) || take_state(job, twin)) {
			end_twin(twin);
			err = -1;
		}
	for (twin = job->twins; twin < end; twin++)
		if (twin->pid && go_on(job, twin)) {
			end_twin(twin);
			err = -1;
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
	if (fstat(job->state, &st))
		st.st_size = 0;
	if (output.json)
		return show_json(json_pack("{s:O, s:f, s:I, s:o}", "down", job->down.parts, "start", job->start_ms,
					   "state_bytes", (json_int_t)st.st_size, "vms", vms), false);
	printf("started in %.1f ms\n", job->start_ms);
	laps_show(&job->down, "stopped for");
	return show_rows("vms", vms, columns);
}

/* Of what was made nothing is left, but what the VM writes to. */
static void undo(struct job *job)
{
	bool heed = signals_heed(false);
	unsigned int i;

	for (i = 0; i < job->count; i++)
		end_twin(&job->twins[i]);
	if (job->disks_used)
		complain(job->place.path, "has to stay: the VM writes to its overlays there");
	else
		vm_remove_dir(job->place.path);
	signals_heed(heed);
}

static bool any_runs(const struct job *job)
{
	unsigned int i;

	for (i = 0; i < job->count; i++)
		if (job->twins[i].runs)
			return true;
	return false;
}

static int fork_vm(struct job *job, const char *socket, const char *dir)
{
	int err;

	if (vm_open(&job->vm, socket, "fork", job->seconds) || check(job) ||
	    vm_check_dir(&job->vm, &job->place, dir) || name_twins(job))
		return -1;
	if (make_dirs(job) || make_overlays(job) || start_all(job) || cut(job)) {
		if (job->made)
			undo(job);
		return -1;
	}
	err = wake_all(job);
	if (!any_runs(job)) {
		undo(job);
		return -1;
	}
	return show(job) ? -1 : err;
}

static void disk_close(struct disk *disk)
{
	if (disk->cut >= 0)
		close(disk->cut);
	free(disk->id);
	free(disk->base);
	free(disk->format);
	free(disk->name);
	free(disk->path);
}

static void twin_close(struct twin *twin)
{
	vm_close(&twin->vm);
	free(twin->dir);
	free(twin->socket);
	free(twin->log);
}

static void job_close(struct job *job)
{
	size_t i;

	for (i = 0; job->cuts && i < job->vm.count; i++)
		close(job->cuts[i]);
	for (i = 0; i < job->disk_count; i++)
		disk_close(&job->disks[i]);
	for (i = 0; job->twins && i < job->count; i++)
		twin_close(&job->twins[i]);
	if (job->state >= 0)
		close(job->state);
	free(job->cuts);
	free(job->disks);
	free(job->twins);
	json_decref(job->down.parts);
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
		{ "timeout", required_argument, NULL, 't' },
		COMMON_OPTIONS
	};
	struct job job = { .count = 1, .seconds = TIMEOUT_SECONDS, .place.dir = -1, .vm.qmp.fd = -1, .state = -1 };
	int c, err;

	while ((c = next_option(argc, argv, "n:r:t:", options)) >= 0) {
		if (c == 'n')
			job.count = (unsigned int)parse_number("-n", optarg, 1, CLONES_MAX);
		else if (c == 't')
			job.seconds = (unsigned int)parse_number("--timeout", optarg, 1, TIMEOUT_MAX);
		else
			add_replace(&job.changes, optarg);
	}
	argv = want_args(argc, argv, 2, 2);
	err = fork_vm(&job, argv[0], argv[1]);
	job_close(&job);
	return err;
}
