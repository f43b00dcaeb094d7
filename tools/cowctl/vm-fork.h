/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * cowctl vm fork - what its parts share: the job (vm-fork.c), disks (vm-fork-disks.c), the clones (vm-fork-twins.c)
 */
#ifndef COWCTL_VM_FORK_H
#define COWCTL_VM_FORK_H

#include "vm-command.h"
#include "vm-dir.h"
#include "vm.h"

/**
 * struct fork_disk - a disk that the VM may write to
 * @key: @id: how to name it to QEMU
 * @base: @format: @size: of the image that it is now
 * @name: @path: of its overlay
 * @cut: a descriptor of the overlay as it was when it was empty, or -1
 */
struct fork_disk {
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
 * struct fork_job - one fork
 * @seconds: how long a QEMU may take to answer
 * @cuts: the memory as it was, for each of the VM's files
 * @state: the state of the devices, a file without a name
 * @made: whether the directory is there
 * @disks_used: whether the VM has begun to use its overlays
 * @began: when the VM was stopped
 * @start_ms: how long the clones' QEMUs took to start
 */
struct fork_job {
	struct vm vm;
	unsigned int seconds;
	struct place place;
	struct command command;
	struct changes changes;
	struct fork_disk *disks;
	size_t disk_count;
	int *cuts;
	int state;
	bool made, disks_used;
	struct twin *twins;
	unsigned int count;
	double began, start_ms;
	struct laps down;
};

/* disks_find - those that the VM may write to; changes nothing */
int disks_find(struct fork_job *job);

/* disks_make_overlays - new images that are put onto them, and snapshots of these, while they are empty */
int disks_make_overlays(struct fork_job *job);

/* disks_split - let the VM write to the overlays from now on. If there is no answer, QEMU may do so nevertheless. */
int disks_split(struct fork_job *job);
void disks_close(struct fork_job *job);

/* twins_name - what the clones will be; changes nothing */
int twins_name(struct fork_job *job);

/* twins_start - start their QEMUs, with empty memory, and wait until each is ready to take a state */
int twins_start(struct fork_job *job);

/* twins_wake - let all take the state at the same time. Those that cannot are ended, and the others go on. */
int twins_wake(struct fork_job *job);

/* twins_end - those that do not run: nothing is left of them */
void twins_end(struct fork_job *job);
void twins_close(struct fork_job *job);

#endif /* COWCTL_VM_FORK_H */
