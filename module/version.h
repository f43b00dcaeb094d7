/* SPDX-License-Identifier: GPL-2.0-only OR LGPL-2.1-or-later OR MIT */
/*
 * The version of all that is here: module, library, tools and packages.  It is made from this
 * line, but for debian/changelog and LIBCOWMEM_VERSION_* in libcowmem.h; scripts/lint looks
 * whether all agree.
 *
 * The first number is the library's soname, too: it stays as long as programs that were built
 * with 1.0 run.  What <linux/cowmem.h> promises does not depend on it.
 */
#ifndef COWMEM_VERSION_H
#define COWMEM_VERSION_H

#define COWMEM_VERSION "1.0"

#endif /* COWMEM_VERSION_H */
