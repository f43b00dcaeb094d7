/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _SHIM_SCHED_SIGNAL_H
#define _SHIM_SCHED_SIGNAL_H

#include <linux/sched.h>

/* Provided by the test. */
bool fatal_signal_pending(struct task_struct *task);

#endif
