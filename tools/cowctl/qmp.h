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
 * @seconds: how long it may take until QEMU answers, or an event comes
 * @id: of the last command
 * @refused: it was answered with an error
 * @broken: what comes from there is of no use any more
 * @line: what was read and not yet used, @length bytes
 * @events: what came while an answer was waited for
 */
struct qmp {
	int fd;
	const char *path;
	char *address;
	pid_t pid;
	unsigned int seconds;
	json_int_t id;
	bool refused, broken;
	char *line;
	size_t length, size;
	json_t *events;
};

/**
 * qmp_open - connect, and be ready for commands
 * @seconds: how long it may take until QEMU answers
 * @greeting: how long until it lets us in and greets us, which it does not while somebody else is connected
 * Return: 0, or -1 after it was said why; qmp_close() in either case.
 */
int qmp_open(struct qmp *qmp, const char *path, unsigned int seconds, unsigned int greeting);
void qmp_close(struct qmp *qmp);

/* qmp_again - connect once more to the same QEMU if the connection is of no use any more. Returns 0 or -1. */
int qmp_again(struct qmp *qmp);

/* json_text - the string at @key, or "" if there is none: what answers need not be QEMU. */
const char *json_text(const json_t *object, const char *key);

/* json_has - is that string at @key? */
bool json_has(const json_t *object, const char *key, const char *value);

/**
 * qmp_do - let QEMU do something
 * @arguments: an object, which is taken over, or NULL
 * Return: what it returned, which the caller releases, or NULL after it was said why.
 */
json_t *qmp_do(struct qmp *qmp, const char *command, json_t *arguments);

/* qmp_list - the same, if it returns a list of objects, and else that is said. */
json_t *qmp_list(struct qmp *qmp, const char *command, json_t *arguments);

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

/* qmp_drop_job - dismiss one that ended when nobody waited for it any more, if there is one. Returns 0 or -1. */
int qmp_drop_job(struct qmp *qmp, const char *id);

#endif /* COWCTL_QMP_H */
