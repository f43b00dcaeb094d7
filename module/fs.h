/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The file system to mount.  See fs.c.
 */
#ifndef _COWMEM_FS_H
#define _COWMEM_FS_H

int cowmem_fs_init(void);
void cowmem_fs_exit(void);

#endif /* _COWMEM_FS_H */
