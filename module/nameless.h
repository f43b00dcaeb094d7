/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The file system without names.  See nameless.c.
 */
#ifndef _COWMEM_NAMELESS_H
#define _COWMEM_NAMELESS_H

struct vfsmount;

struct vfsmount *cowmem_fs_pin(void);
void cowmem_fs_unpin(void);

#endif /* _COWMEM_NAMELESS_H */
