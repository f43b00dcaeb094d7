/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * COWMEM_IOC_DIFF.
 */
#ifndef _COWMEM_DIFF_H
#define _COWMEM_DIFF_H

struct cowmem_call;

int cowmem_diff(struct cowmem_call *call);

#endif /* _COWMEM_DIFF_H */
