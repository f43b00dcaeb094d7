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

/*
 * process_check_user - does it run as who we are, whatever it was when it made a socket, and can it become nobody else?
 * Returns 0, or -1 after that was said of @what, which it belongs to.
 */
int process_check_user(pid_t pid, const char *what);

#endif /* COWCTL_PROCESS_H */
