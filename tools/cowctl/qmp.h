/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * cowctl - talk to QEMU by its monitor protocol, QMP
 */
#ifndef COWCTL_QMP_H
#define COWCTL_QMP_H

#include "cowctl.h"

/**
 * struct qmp - a connection to one QEMU
 * @fd: the socket, or -1
 * @path: what the user called it
 * @address: what QEMU calls it, as its command line has it
 * @pid: the process that listens there
 * @line: what was read and not yet used, @length bytes
 * @events: what came while an answer was waited for
 */
struct qmp {
	int fd;
	const char *path;
	char *address;
	pid_t pid;
	char *line;
	size_t length, size;
	json_t *events;
};

/**
 * qmp_open - connect, and be ready for commands
 * @seconds: how long it may take until QEMU answers, which it does not while somebody else is connected
 * Return: 0, or -1 after it was said why; qmp_close() in either case.
 */
int qmp_open(struct qmp *qmp, const char *path, int seconds);
void qmp_close(struct qmp *qmp);

/**
 * qmp_do - let QEMU do something
 * @arguments: an object, which is taken over, or NULL
 * Return: what it returned, which the caller releases, or NULL after it was said why.
 */
json_t *qmp_do(struct qmp *qmp, const char *command, json_t *arguments);

/* qmp_run - the same, if what it returns is of no interest. Returns 0 or -1. */
int qmp_run(struct qmp *qmp, const char *command, json_t *arguments);

/* qmp_give - give QEMU a descriptor, which it calls @name. */
int qmp_give(struct qmp *qmp, const char *name, int fd);

/* qmp_forget - drop the events that came so far. */
void qmp_forget(struct qmp *qmp);

/**
 * qmp_wait - wait for an event whose data has something at "status"
 * @event: its name
 * @id: what it has at "id", or NULL
 * @good: @bad: end the wait
 * Return: 0 for @good; -1 for @bad, of which nothing is said, or if none came, which is said.
 */
int qmp_wait(struct qmp *qmp, const char *event, const char *id, const char *good, const char *bad);

/* qmp_job - wait for a job to end, and dismiss it. Returns 0, or -1 after it was said why. */
int qmp_job(struct qmp *qmp, const char *id);

#endif /* COWCTL_QMP_H */
