/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Sealing regions.  See seal.c.
 */
#ifndef _COWMEM_SEAL_H
#define _COWMEM_SEAL_H

struct cowmem_call;

int cowmem_seal(struct cowmem_call *call);

#endif /* _COWMEM_SEAL_H */
