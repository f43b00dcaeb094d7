/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The table of ioctls.  See ioctl.c.
 */
#ifndef _COWMEM_IOCTL_H
#define _COWMEM_IOCTL_H

struct file;

long cowmem_ioctl(struct file *file, unsigned int cmd, unsigned long arg);

#endif /* _COWMEM_IOCTL_H */
