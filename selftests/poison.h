/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Memory that breaks, as far as the kernel can pretend that it does.
 */
#ifndef _SELFTESTS_COWMEM_POISON_H
#define _SELFTESTS_COWMEM_POISON_H

#include "pages.h"

#ifndef MADV_HWPOISON
#define MADV_HWPOISON	100
#endif

#define NO_POISON "no MADV_HWPOISON: this kernel has no CONFIG_MEMORY_FAILURE"

/* Nothing is broken, but is it known what that would be? */
static inline bool can_poison(void)
{
	return !madvise(anon(1), 0, MADV_HWPOISON);
}

/*
 * Break what is mapped at @mem.  The kernel may say EBUSY or EHWPOISON: it could not take
 * the page away from its holders.
 */
static inline void poison(char *mem)
{
	must(!madvise(mem, pgsz(), MADV_HWPOISON) || errno == EBUSY || errno == EHWPOISON);
}

#endif /* _SELFTESTS_COWMEM_POISON_H */
