/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * COWMEM_IOC_MERGE.
 */
#ifndef _COWMEM_MERGE_H
#define _COWMEM_MERGE_H

struct cowmem_call;

int cowmem_merge(struct cowmem_call *call);

#endif /* _COWMEM_MERGE_H */
