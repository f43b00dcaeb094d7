/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * cowctl - clones and snapshots of one region
 */
#ifndef COWCTL_CLONE_H
#define COWCTL_CLONE_H

#include "cowctl.h"

/**
 * clone_to - a clone of a region, as a file of a place's mount that has no name yet
 * @flags: as for cowmem_clone()
 * @offset: @length: as for cowmem_clone_range()
 * Return: a descriptor, or -1 after it was said why.
 */
int clone_to(const struct region *region, const struct place *place, unsigned int flags,
	     uint64_t offset, uint64_t length);

/* clone_region - do what "cowctl clone" and "cowctl snapshot" do: clone what @arg names, and call it @new. */
int clone_region(const char *arg, const char *new, unsigned int flags, uint64_t offset, uint64_t length);

#endif /* COWCTL_CLONE_H */
