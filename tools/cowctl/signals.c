// SPDX-License-Identifier: GPL-2.0-only
/*
 * Signals that wait until what was begun is undone
 *
 * They are blocked, and stay pending: a descriptor tells that one is there, without taking it away. So it ends us as
 * it would have, as soon as it may.
 */
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "signals.h"

static sigset_t before;
static int ending = -1;
static bool heeded = true;

static void add(sigset_t *set, int signal)
{
	struct sigaction action;

	/* One that is ignored, as by nohup, would be seen as well if it were blocked. */
	if (!sigaction(signal, NULL, &action) && action.sa_handler != SIG_IGN)
		sigaddset(set, signal);
}

void signals_hold(void)
{
	static const int end[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT };
	sigset_t set;
	size_t i;

	sigemptyset(&set);
	for (i = 0; i < sizeof(end) / sizeof(*end); i++)
		add(&set, end[i]);
	ending = signalfd(-1, &set, SFD_CLOEXEC);
	add(&set, SIGTSTP);
	add(&set, SIGPIPE);
	sigprocmask(SIG_BLOCK, &set, &before);
}

void signals_release(void)
{
	if (ending >= 0)
		close(ending);
	ending = -1;
	sigprocmask(SIG_SETMASK, &before, NULL);
}

int signals_fd(void)
{
	return heeded ? ending : -1;
}

bool signals_came(void)
{
	struct pollfd in = { .fd = signals_fd(), .events = POLLIN };

	return poll(&in, 1, 0) > 0;
}

bool signals_heed(bool heed)
{
	bool was = heeded;

	heeded = heed;
	return was;
}
