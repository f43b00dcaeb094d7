/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * fallocate().
 */
#ifndef _COWMEM_FALLOCATE_H
#define _COWMEM_FALLOCATE_H

#include <linux/types.h>

struct file;

long cowmem_fallocate(struct file *file, int mode, loff_t offset, loff_t len);

#endif /* _COWMEM_FALLOCATE_H */
