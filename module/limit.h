/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The limit for all regions together: limit_mib.
 */
#ifndef _COWMEM_LIMIT_H
#define _COWMEM_LIMIT_H

#include <linux/gfp.h>
#include <linux/types.h>

/*
 * Makes an allocation fail where it would otherwise start the OOM killer: first snapshots
 * may yield.
 */
static inline gfp_t cowmem_gentle(bool gently)
{
	return gently ? __GFP_RETRY_MAYFAIL | __GFP_NOWARN : 0;
}

bool cowmem_limit_charge(long bytes);
void cowmem_limit_uncharge(long bytes);
bool cowmem_limit_allows(long bytes);
long cowmem_limit_short(void);
void cowmem_limit_exit(void);

#endif /* _COWMEM_LIMIT_H */
