// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Values whose content is in ordinary memory: what needs no module. */
#define SMALL	1
#include "buf.c"
