/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The two file systems.  See fs.c.
 */
#ifndef _COWMEM_FS_H
#define _COWMEM_FS_H

struct vfsmount;

int cowmem_fs_init(void);
void cowmem_fs_exit(void);
struct vfsmount *cowmem_fs_pin(void);
void cowmem_fs_unpin(void);

#endif /* _COWMEM_FS_H */
