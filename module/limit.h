/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The limit for all regions together: limit_mib.
 */
#ifndef _COWMEM_LIMIT_H
#define _COWMEM_LIMIT_H

long cowmem_limit_short(void);

#endif /* _COWMEM_LIMIT_H */
