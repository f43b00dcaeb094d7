/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Mappings and faults.  See fault.c.
 */
#ifndef _COWMEM_FAULT_H
#define _COWMEM_FAULT_H

struct file;
struct vm_area_struct;

int cowmem_mmap(struct file *file, struct vm_area_struct *vma);

#endif /* _COWMEM_FAULT_H */
