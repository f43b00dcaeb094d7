/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * cowctl - clones of all files of a directory, at one instant
 */
#ifndef COWCTL_TREE_H
#define COWCTL_TREE_H

#include "cowctl.h"

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
