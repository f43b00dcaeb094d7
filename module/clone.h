/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * COWMEM_IOC_CLONE and COWMEM_IOC_CLONE_MANY.
 */
#ifndef _COWMEM_CLONE_H
#define _COWMEM_CLONE_H

struct cowmem_call;

int cowmem_clone(struct cowmem_call *call);
int cowmem_clone_many(struct cowmem_call *call);

#endif /* _COWMEM_CLONE_H */
