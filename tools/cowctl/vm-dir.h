/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * cowctl - directories with what belongs to a virtual machine
 */
#ifndef COWCTL_VM_DIR_H
#define COWCTL_VM_DIR_H

#include "cowctl.h"

/* vm_check_text - can QEMU be told of a path? Returns 0, or -1 after it was said why not. */
int vm_check_text(const char *path);

/*
 * vm_check_dir - see that a new directory can be made, on the mount where @ram is, a file of the VM's memory, and where
 * nobody else may change what is in it. place_close() if it returns 0.
 */
int vm_check_dir(struct place *place, const char *arg, int ram);

/* vm_make_dir - make it; vm_remove_dir() undoes that, with the files in it and those in directories there. */
int vm_make_dir(const struct place *place);
void vm_remove_dir(const char *path);

/* in_dir - a place for @name in a directory; place_close() it. */
int in_dir(struct place *place, const char *dir, const char *name);

/* link_clone - give a clone of @fd, as for cowmem_clone(), the name @name in @dir */
int link_clone(int fd, unsigned int flags, const char *dir, const char *name);

#endif /* COWCTL_VM_DIR_H */
