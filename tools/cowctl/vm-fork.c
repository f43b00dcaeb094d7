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
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "signals.h"
#include "vm-fork.h"

/* Each takes descriptors, of which a process usually may have 1024. */
#define CLONES_MAX	400

/* ---- before the VM is stopped ---- */

/* What QEMU itself says it could not migrate, and one that is under way. */
static int check_migration(struct fork_job *job)
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
static int check(struct fork_job *job)
{
	size_t i;

	if (command_read(&job->command, job->vm.qmp.path, job->vm.qmp.pid) || check_migration(job) || disks_find(job))
		return -1;
	for (i = 0; i < job->vm.count; i++)
		change_add(&job->changes, must(strdup(job->vm.rams[i])), must_printf("{dir}/ram%zu", i));
	change_add(&job->changes, must(strdup(job->vm.qmp.address ? job->vm.qmp.address : job->vm.qmp.path)),
		   must(strdup("{dir}/qmp")));
	return command_check(&job->command, &job->changes, job->vm.qmp.path, job->vm.qmp.pid);
}

static int make_dirs(struct fork_job *job)
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

/* ---- while it is stopped ---- */

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

static int write_state(struct fork_job *job)
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

static int cut_memory(struct fork_job *job)
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
static int cut(struct fork_job *job)
{
	int err = vm_begin(&job->vm);

	job->began = now_seconds();
	laps_begin(&job->down);
	if (!err)
		err = vm_stop(&job->vm);
	laps_end(&job->down, "stop");
	if (!err && job->disk_count) {
		err = disks_split(job);
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

/* ---- the verb ---- */

static const struct column columns[] = {
	{ "dir", "DIR", COLUMN_TEXT },
	{ "pid", "PID", COLUMN_NUMBER },
	{ "ms", "MS", COLUMN_NUMBER },
	{ NULL, NULL, 0 },
};

static int show(const struct fork_job *job)
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
static void undo(struct fork_job *job)
{
	bool heed = signals_heed(false);

	twins_end(job);
	if (job->disks_used)
		complain(job->place.path, "has to stay: the VM writes to its overlays there");
	else
		vm_remove_dir(job->place.path);
	signals_heed(heed);
}

static bool any_runs(const struct fork_job *job)
{
	unsigned int i;

	for (i = 0; i < job->count; i++)
		if (job->twins[i].runs)
			return true;
	return false;
}

static int fork_vm(struct fork_job *job, const char *socket, const char *dir)
{
	int err;

	if (vm_open(&job->vm, socket, "fork", job->seconds) || check(job) ||
	    vm_check_dir(&job->place, dir, job->vm.fds[0]) || twins_name(job))
		return -1;
	if (make_dirs(job) || disks_make_overlays(job) || twins_start(job) || cut(job)) {
		if (job->made)
			undo(job);
		return -1;
	}
	err = twins_wake(job);
	if (!any_runs(job)) {
		undo(job);
		return -1;
	}
	return show(job) ? -1 : err;
}

static void job_close(struct fork_job *job)
{
	size_t i;

	for (i = 0; job->cuts && i < job->vm.count; i++)
		close(job->cuts[i]);
	if (job->state >= 0)
		close(job->state);
	free(job->cuts);
	disks_close(job);
	twins_close(job);
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
	struct fork_job job = { .count = 1, .seconds = TIMEOUT_SECONDS, .place.dir = -1, .vm.qmp.fd = -1, .state = -1 };
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
