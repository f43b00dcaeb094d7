// SPDX-License-Identifier: GPL-2.0-only
/*
 * cowctl vm fork - the clones: their QEMUs start and wait, and go on from the VM's state
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
#include "vm-fork.h"

#define START_SECONDS	300

int twins_name(struct fork_job *job)
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

/* ---- they start ---- */

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
static int write_command(const struct fork_job *job, const struct twin *twin, char **argv)
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
static int make_memory(const struct fork_job *job, const struct twin *twin, size_t i)
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

static int give_files(const struct fork_job *job, const struct twin *twin)
{
	size_t i;
	int err = 0;

	for (i = 0; i < job->vm.count && !err; i++)
		err = make_memory(job, twin, i);
	for (i = 0; i < job->disk_count && !err; i++)
		err = link_clone(job->disks[i].cut, 0, twin->dir, job->disks[i].name);
	return err;
}

static int start(const struct fork_job *job, struct twin *twin)
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
static int meet(const struct fork_job *job, struct twin *twin)
{
	if (wait_for_socket(twin))
		return -1;
	twin->vm.running = job->vm.running;
	if (!qmp_open(&twin->vm.qmp, twin->socket, job->seconds, START_SECONDS) && !vm_begin(&twin->vm))
		return 0;
	return complain_log(twin, "cannot be used");
}

int twins_start(struct fork_job *job)
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

void twins_end(struct fork_job *job)
{
	unsigned int i;

	for (i = 0; i < job->count; i++)
		end_twin(&job->twins[i]);
}

/* ---- they go on ---- */

static int restore_memory(const struct fork_job *job, const struct twin *twin)
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
static int take_state(const struct fork_job *job, struct twin *twin)
{
	int fd = open_again(job->state, O_RDONLY), err;

	if (fd < 0)
		return complain(twin->dir, "the state: %s", strerror(errno));
	err = qmp_give(&twin->vm.qmp, "cowctl", fd);
	close(fd);
	return err || qmp_run(&twin->vm.qmp, "migrate-incoming", must(json_pack("{s:s}", "uri", "fd:cowctl"))) ? -1 : 0;
}

static int go_on(const struct fork_job *job, struct twin *twin)
{
	if (qmp_wait(&twin->vm.qmp, "MIGRATION", NULL, "completed", "failed"))
		return complain_log(twin, "did not take the state");
	if (vm_cont(&twin->vm))
		return -1;
	twin->ms = (now_seconds() - job->began) * 1e3;
	twin->runs = true;
	return vm_end(&twin->vm);
}

int twins_wake(struct fork_job *job)
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

static void twin_close(struct twin *twin)
{
	vm_close(&twin->vm);
	free(twin->dir);
	free(twin->socket);
	free(twin->log);
}

void twins_close(struct fork_job *job)
{
	unsigned int i;

	for (i = 0; job->twins && i < job->count; i++)
		twin_close(&job->twins[i]);
	free(job->twins);
}
