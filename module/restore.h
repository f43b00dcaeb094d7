/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * COWMEM_IOC_RESTORE.
 */
#ifndef _COWMEM_RESTORE_H
#define _COWMEM_RESTORE_H

struct cowmem_call;

int cowmem_restore(struct cowmem_call *call);

#endif /* _COWMEM_RESTORE_H */
