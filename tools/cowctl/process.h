/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * cowctl - what /proc says of processes
 */
#ifndef COWCTL_PROCESS_H
#define COWCTL_PROCESS_H

#include <sys/types.h>

/* process_name - what it calls itself, or "?" if it is gone; the caller frees it */
char *process_name(pid_t pid);

/* process_of_thread - the process that a thread belongs to, or the same number if it is gone */
pid_t process_of_thread(pid_t thread);

#endif /* COWCTL_PROCESS_H */
