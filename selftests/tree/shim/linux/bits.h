/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _SHIM_BITS_H
#define _SHIM_BITS_H

#define BITS_PER_LONG	__LONG_WIDTH__
#define BIT_ULL(nr)	(1ULL << (nr))

#endif
