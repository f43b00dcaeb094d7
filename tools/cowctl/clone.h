/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * cowctl - clones and snapshots of one region
 */
#ifndef COWCTL_CLONE_H
#define COWCTL_CLONE_H

#include "cowctl.h"

/* clone_region - do what "cowctl clone" and "cowctl snapshot" do: clone what @arg names, and call it @new. */
int clone_region(const char *arg, const char *new, unsigned int flags, uint64_t offset, uint64_t length);

#endif /* COWCTL_CLONE_H */
