/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * cowctl - what is below a directory, and clones of all its files at one instant
 */
#ifndef COWCTL_TREE_H
#define COWCTL_TREE_H

#include "cowctl.h"

/**
 * open_below - open something below a directory
 * @dir: the directory
 * @path: from there
 * @flags: as for openat()
 * @gone: set if it is not there any more, or is something else
 *
 * Whoever may write to the directory could put a link in the place of a part of it, and have us open something else. So
 * what a walk, which is by path, says of a thing tells only how to open it.
 * Return: a descriptor, or -1 after it was said why unless it is gone.
 */
int open_below(int dir, const char *path, unsigned int flags, bool *gone);

/**
 * clone_tree - clone all regular files below a directory at one instant, into a new one
 * @dir: the directory, on a mount of type cowmem
 * @arg: what the user called it
 * @place: the new one, on the same mount
 * @flags: as for cowmem_clone_many()
 * @files: where the number of files goes
 * Return: 0, or -1 after it was said why; then nothing is left.
 */
int clone_tree(int dir, const char *arg, const struct place *place, unsigned int flags, size_t *files);

#endif /* COWCTL_TREE_H */
