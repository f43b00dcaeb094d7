/* SPDX-License-Identifier: GPL-2.0-only OR LGPL-2.1-or-later OR MIT */
/*
 * The version of all that is here: module, library, tools and packages.  debian/changelog has
 * to agree, which scripts/lint looks at; everything else is made from this line.
 */
#ifndef COWMEM_VERSION_H
#define COWMEM_VERSION_H

#define COWMEM_VERSION "1.0"

#endif /* COWMEM_VERSION_H */
