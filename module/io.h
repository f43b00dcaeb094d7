/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * read(), write() and lseek().  See io.c.
 */
#ifndef _COWMEM_IO_H
#define _COWMEM_IO_H

#include <linux/types.h>

struct file;
struct iov_iter;
struct kiocb;

loff_t cowmem_llseek(struct file *file, loff_t offset, int whence);
ssize_t cowmem_read_iter(struct kiocb *iocb, struct iov_iter *to);
ssize_t cowmem_write_iter(struct kiocb *iocb, struct iov_iter *from);

#endif /* _COWMEM_IO_H */
