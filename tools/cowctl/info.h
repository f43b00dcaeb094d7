/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * cowctl - regions in JSON, for the verbs that show them
 */
#ifndef COWCTL_INFO_H
#define COWCTL_INFO_H

#include <string.h>

#include "cowctl.h"

/* seal_by_name - the COWMEM_SEAL_* of that name, which is @length bytes; 0 if there is none */
unsigned int seal_by_name(const char *name, size_t length);

/* seals_json - an array of names for COWMEM_SEAL_* bits */
json_t *seals_json(unsigned int bits);

/* add_region - its "id" and what INFO says of it. Returns 0, or -1 with errno. */
int add_region(json_t *object, int fd);

#endif /* COWCTL_INFO_H */
