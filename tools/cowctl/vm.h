/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * cowctl - virtual machines of QEMU whose memory is in regions
 */
#ifndef COWCTL_VM_H
#define COWCTL_VM_H

#include "qmp.h"

/* How long QEMU may take to answer, in seconds; --timeout sets another time. */
#define TIMEOUT_SECONDS	120
#define TIMEOUT_MAX	86400

/**
 * struct vm - a virtual machine
 * @qmp: the way to it
 * @verb: what is being done with it: "fork", "save", "revert"
 * @running: whether it was running when we came
 * @stopped: we told it to stop
 * @keep_stopped: it may not run on: it is half of what it was, whether it ran or not
 * @count: how many files its memory is
 * @rams: their names, as QEMU's command line has them
 * @fds: and descriptors of them
 * @capabilities: of migration, as they were when we came; NULL if they were not changed
 * @marked: its memory says that we are at work
 */
struct vm {
	struct qmp qmp;
	const char *verb;
	bool running, stopped, keep_stopped, marked;
	size_t count;
	char **rams;
	int *fds;
	json_t *capabilities;
};

/*
 * vm_open - connect to a VM, see that its memory is in regions, and mend what a cowctl left that was killed. vm_close()
 * in either case.
 */
int vm_open(struct vm *vm, const char *socket, const char *verb, unsigned int seconds);
void vm_close(struct vm *vm);

/*
 * vm_begin - let QEMU leave its memory out of what it saves and loads, and tell when that is done. vm_end() in either
 * case.
 */
int vm_begin(struct vm *vm);

/* vm_stop, vm_cont - vm_cont() lets it run on if it ran, whatever else went wrong. */
int vm_stop(struct vm *vm);
int vm_cont(struct vm *vm);

/* vm_end - what vm_begin() changed, as it was. */
int vm_end(struct vm *vm);

/* vm_wait_for_migration - until none is under way. Before that QEMU does not let the VM go on. */
int vm_wait_for_migration(struct vm *vm);

/* vm_name - for something new in a QEMU, whose nodes have names of at most 31 bytes */
char *vm_name(void);

/**
 * vm_make_image - let QEMU make an image in the format qcow2
 * @node: what to call QEMU's node for the file, which stays
 * @options: of blockdev-create, but for the file; taken over
 */
int vm_make_image(struct vm *vm, const char *path, const char *node, json_t *options);

/* vm_add_node - by blockdev-add; @options are taken over. One of which nobody knows whether it is there is dropped. */
int vm_add_node(struct vm *vm, json_t *options);

/* vm_drop_node - whatever else went wrong */
void vm_drop_node(struct vm *vm, const char *node);

/**
 * struct laps - how long each part of something took, in ms
 * @last: when the part that is being done began
 */
struct laps {
	double last;
	json_t *parts;
};

void laps_begin(struct laps *laps);
void laps_end(struct laps *laps, const char *part);

/* laps_show - all parts, as one line */
void laps_show(const struct laps *laps, const char *what);

/* The subverbs, each a file. */
int vm_fork(int argc, char **argv);
int vm_save(int argc, char **argv);
int vm_revert(int argc, char **argv);

#endif /* COWCTL_VM_H */
