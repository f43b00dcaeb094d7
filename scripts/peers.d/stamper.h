/* SPDX-License-Identifier: GPL-2.0-only */
/* Where peers.d/stamper.S writes: PAGES pages from BASE on, each time STEP further. */
#define BASE	0x100000
#define PAGES	1024
#define STEP	431
