/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * cowctl - virtual machines of QEMU whose memory is in regions
 */
#ifndef COWCTL_VM_H
#define COWCTL_VM_H

#include "qmp.h"

/**
 * struct vm - a virtual machine
 * @qmp: the way to it
 * @running: whether it was running when we came
 * @count: how many files its memory is
 * @rams: their names, as QEMU's command line has them
 * @fds: and descriptors of them
 * @capabilities: of migration, as they were when we came; NULL if they were not changed
 */
struct vm {
	struct qmp qmp;
	bool running;
	size_t count;
	char **rams;
	int *fds;
	json_t *capabilities;
};

/* vm_open - connect to a VM, and see that its memory is in regions. vm_close() in either case. */
int vm_open(struct vm *vm, const char *socket);
void vm_close(struct vm *vm);

/* vm_ignore_ram - let QEMU leave its memory out of what it saves and loads; and tell when that is done. */
int vm_ignore_ram(struct vm *vm);

/* vm_capabilities_back - what vm_ignore_ram() changed, as it was. */
void vm_capabilities_back(struct vm *vm);

/* vm_stop - and vm_cont - for the time in between no signal ends us: the VM would be left stopped. */
int vm_stop(struct vm *vm);
int vm_cont(struct vm *vm);

/**
 * vm_make_image - let QEMU make an image in the format qcow2
 * @node: what to call QEMU's node for the file, which stays
 * @options: of blockdev-create, but for the file; taken over
 */
int vm_make_image(struct vm *vm, const char *path, const char *node, json_t *options);
void vm_drop_node(struct vm *vm, const char *node);

/* vm_make_dir - make @arg, a new directory on the mount where the VM's memory is. place_close() if it returns 0. */
int vm_make_dir(const struct vm *vm, struct place *place, const char *arg);

/* vm_remove_dir - undo that, with the files in it and those in directories there. */
void vm_remove_dir(const struct place *place);

/* in_dir - a place for @name in a directory; place_close() it. */
int in_dir(struct place *place, const char *dir, const char *name);

/* link_clone - give a clone of @fd, as for cowmem_clone(), the name @name in @dir */
int link_clone(int fd, unsigned int flags, const char *dir, const char *name);

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
