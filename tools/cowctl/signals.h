/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * cowctl - let no signal end what has to be undone first
 */
#ifndef COWCTL_SIGNALS_H
#define COWCTL_SIGNALS_H

#include <stdbool.h>

/*
 * signals_hold - from now on SIGINT, SIGTERM, SIGHUP and SIGQUIT do not end the program, but wait; SIGTSTP and SIGPIPE
 * wait, too. Those that are ignored stay so.
 */
void signals_hold(void);

/* signals_release - and now those that came do. */
void signals_release(void);

/* signals_fd - a descriptor to poll: it can be read when one is there that is to end us. -1 if none would be heeded. */
int signals_fd(void);

/* signals_came - has one come that is to end us, and would it be heeded? */
bool signals_came(void);

/* signals_heed - whether to heed them, as when nothing is being undone. Returns what it was before. */
bool signals_heed(bool heed);

#endif /* COWCTL_SIGNALS_H */
