// SPDX-License-Identifier: GPL-2.0-only
/*
 * QMP: lines of JSON over a unix socket. Each command is answered by an object with "return" or "error" and with the
 * number that we gave it: what comes late is not taken for the answer to another one. Events come in between.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "process.h"
#include "qmp.h"
#include "signals.h"

/* No answer that is of use is longer. */
#define LINE_MAX_BYTES	(16 << 20)

const char *json_text(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? text : "";
}

bool json_has(const json_t *object, const char *key, const char *value)
{
	return !strcmp(json_text(object, key), value);
}

static double end_of_wait(const struct qmp *qmp)
{
	return now_seconds() + qmp->seconds;
}

/* Until it is ready for @events, or, without any, until the end: a signal that is heeded ends it as well. */
static int wait_for(int fd, short events, double end)
{
	struct pollfd in[] = {
		{ .fd = fd, .events = events },
		{ .fd = signals_fd(), .events = POLLIN },
	};
	double left;
	int n;

	do {
		left = end - now_seconds();
		n = left > 0 ? poll(in, 2, (int)(left * 1e3) + 1) : 0;
	} while (n < 0 && errno == EINTR);
	if (!n)
		errno = ETIMEDOUT;
	if (n > 0 && in[1].revents) {
		errno = EINTR;
		n = -1;
	}
	return n > 0 ? 0 : -1;
}

/* Some more bytes behind what is there already. */
static int read_more(struct qmp *qmp, double end)
{
	ssize_t n;

	if (qmp->length >= LINE_MAX_BYTES) {
		errno = EMSGSIZE;
		return -1;
	}
	if (qmp->length + 4096 > qmp->size) {
		qmp->size += qmp->size + 65536;
		qmp->line = must(realloc(qmp->line, qmp->size));
	}
	if (wait_for(qmp->fd, POLLIN, end))
		return -1;
	n = recv(qmp->fd, qmp->line + qmp->length, qmp->size - qmp->length, 0);
	if (!n)
		errno = ECONNRESET;
	if (n <= 0)
		return -1;
	qmp->length += (size_t)n;
	return 0;
}

/* The end of the first line, which is waited for. */
static char *read_line(struct qmp *qmp, double end)
{
	size_t seen = 0;
	char *newline;

	while (!qmp->length || !(newline = memchr(qmp->line + seen, '\n', qmp->length - seen))) {
		seen = qmp->length;
		if (!read_more(qmp, end))
			continue;
		/* What was late may still come; after all else nobody knows what does. */
		qmp->broken = errno != ETIMEDOUT && errno != EINTR;
		return NULL;
	}
	return newline;
}

/* The next object, or NULL with errno. */
static json_t *read_object(struct qmp *qmp, double end)
{
	char *newline = read_line(qmp, end);
	json_t *object;
	size_t used;

	if (!newline)
		return NULL;
	used = (size_t)(newline - qmp->line) + 1;
	object = json_loadb(qmp->line, used, 0, NULL);
	qmp->length -= used;
	memmove(qmp->line, newline + 1, qmp->length);
	if (!json_is_object(object)) {
		json_decref(object);
		qmp->broken = true;
		errno = EPROTO;
		return NULL;
	}
	return object;
}

static int complain_silence(const struct qmp *qmp, const char *command)
{
	switch (errno) {
	case ETIMEDOUT:
		return complain(qmp->path, "%s: QEMU does not answer within %u s", command, qmp->seconds);
	case ECONNRESET:
	case EPIPE:
		return complain(qmp->path, "%s: QEMU has ended, or closed the connection", command);
	case EINTR:
		return complain(qmp->path, "%s: interrupted by a signal", command);
	case EPROTO:
		return complain(qmp->path, "%s: what it answers is no QMP", command);
	case EMSGSIZE:
		return complain(qmp->path, "%s: it answers with a line of more than %d MiB", command,
				LINE_MAX_BYTES >> 20);
	}
	return complain(qmp->path, "%s: %s", command, strerror(errno));
}

/* Is it for the last command? An error without a number is: QEMU could not even read what it was asked. */
static bool is_answer(const struct qmp *qmp, const json_t *object)
{
	const json_t *id = json_object_get(object, "id");

	if (!json_object_get(object, "return") && !json_object_get(object, "error"))
		return false;
	return id ? json_integer_value(id) == qmp->id : !!json_object_get(object, "error");
}

static json_t *read_answer(struct qmp *qmp, const char *command)
{
	json_t *object, *value, *error;
	double end = end_of_wait(qmp);

	for (;;) {
		object = read_object(qmp, end);
		if (!object) {
			complain_silence(qmp, command);
			return NULL;
		}
		if (is_answer(qmp, object))
			break;
		if (json_object_get(object, "event"))
			json_array_append(qmp->events, object);
		json_decref(object);
	}
	value = json_incref(json_object_get(object, "return"));
	error = json_object_get(object, "error");
	qmp->refused = !value;
	if (!value)
		complain(qmp->path, "%s: QEMU says: %s", command, json_text(error, "desc"));
	json_decref(object);
	return value;
}

/* Some bytes of a message, and with the first a descriptor if @fd is not -1. Who does not read is waited for. */
static ssize_t send_some(const struct qmp *qmp, const char *text, size_t length, int fd, double end)
{
	ssize_t n;

	do {
		if (fd < 0)
			n = send(qmp->fd, text, length, MSG_NOSIGNAL);
		else
			n = cowmem_send(qmp->fd, &fd, 1, text, length) ? -1 : (ssize_t)length;
	} while (n < 0 && errno == EAGAIN && !wait_for(qmp->fd, POLLOUT, end));
	return n;
}

/* One message, with a descriptor if @fd is not -1. */
static int send_command(struct qmp *qmp, const char *command, json_t *arguments, int fd)
{
	json_t *object = must(json_pack("{s:s, s:I}", "execute", command, "id", ++qmp->id));
	double end = end_of_wait(qmp);
	size_t length, done = 0;
	ssize_t n = 0;
	char *text;

	qmp->refused = false;
	if (arguments)
		json_object_set_new(object, "arguments", arguments);
	text = must(json_dumps(object, JSON_COMPACT));
	json_decref(object);
	length = strlen(text);
	while (n >= 0 && done < length) {
		n = send_some(qmp, text + done, length - done, fd, end);
		done += (size_t)(n > 0 ? n : 0);
	}
	free(text);
	if (n >= 0)
		return 0;
	qmp->broken = true;
	return complain_silence(qmp, command);
}

json_t *qmp_do(struct qmp *qmp, const char *command, json_t *arguments)
{
	return send_command(qmp, command, arguments, -1) ? NULL : read_answer(qmp, command);
}

json_t *qmp_list(struct qmp *qmp, const char *command, json_t *arguments)
{
	json_t *value = qmp_do(qmp, command, arguments), *one;
	bool good = json_is_array(value);
	size_t i;

	json_array_foreach(value, i, one)
		good = good && json_is_object(one);
	if (!value || good)
		return value;
	json_decref(value);
	complain(qmp->path, "%s: what it answers is not what QEMU does", command);
	return NULL;
}

int qmp_run(struct qmp *qmp, const char *command, json_t *arguments)
{
	json_t *value = qmp_do(qmp, command, arguments);
	int err = value ? 0 : -1;

	json_decref(value);
	return err;
}

int qmp_give(struct qmp *qmp, const char *name, int fd)
{
	json_t *value = NULL;
	int err;

	if (!send_command(qmp, "getfd", must(json_pack("{s:s}", "fdname", name)), fd))
		value = read_answer(qmp, "getfd");
	err = value ? 0 : -1;
	json_decref(value);
	return err;
}

void qmp_forget(struct qmp *qmp)
{
	json_array_clear(qmp->events);
}

/* The next event, or NULL after it was said why. */
static json_t *next_event(struct qmp *qmp, const char *what, double end)
{
	json_t *event;

	if (json_array_size(qmp->events)) {
		event = json_incref(json_array_get(qmp->events, 0));
		json_array_remove(qmp->events, 0);
		return event;
	}
	event = read_object(qmp, end);
	if (!event)
		complain_silence(qmp, what);
	return event;
}

int qmp_wait(struct qmp *qmp, const char *event, const char *id, const char *good, const char *bad)
{
	double end = end_of_wait(qmp);
	json_t *object, *data;
	bool is_good, is_bad;

	while ((object = next_event(qmp, event, end))) {
		data = json_object_get(object, "data");
		is_good = false;
		is_bad = false;
		if (json_has(object, "event", event) && (!id || json_has(data, "id", id))) {
			is_good = json_has(data, "status", good);
			is_bad = json_has(data, "status", bad);
		}
		json_decref(object);
		if (is_good || is_bad)
			return is_good ? 0 : -1;
	}
	return -1;
}

/* @job is the one of that name, which the caller releases, or NULL if there is none. */
static int find_job(struct qmp *qmp, const char *id, json_t **job)
{
	json_t *jobs = qmp_list(qmp, "query-jobs", NULL), *one;
	size_t i;

	*job = NULL;
	if (!jobs)
		return -1;
	json_array_foreach(jobs, i, one)
		if (!*job && json_has(one, "id", id))
			*job = json_incref(one);
	json_decref(jobs);
	return 0;
}

static int dismiss(struct qmp *qmp, const char *id)
{
	return qmp_run(qmp, "job-dismiss", must(json_pack("{s:s}", "id", id)));
}

int qmp_job(struct qmp *qmp, const char *id)
{
	json_t *job;
	int err = 0;

	if (qmp_wait(qmp, "JOB_STATUS_CHANGE", id, "concluded", "null") || find_job(qmp, id, &job))
		return -1;
	if (json_object_get(job, "error"))
		err = complain(qmp->path, "QEMU says: %s", json_text(job, "error"));
	json_decref(job);
	return dismiss(qmp, id) ? -1 : err;
}

int qmp_drop_job(struct qmp *qmp, const char *id)
{
	json_t *job;
	int err = find_job(qmp, id, &job);

	if (json_has(job, "status", "concluded"))
		err = dismiss(qmp, id);
	else if (job)
		err = complain(qmp->path, "what an earlier cowctl began is still under way there; try again");
	json_decref(job);
	return err;
}

/* ---- */

/*
 * QEMU lets one in at a time, and has room for another one or two to wait, even if they have gone. Poll() does not tell
 * of room there.
 */
static int connect_until(int fd, const struct sockaddr_un *address, double end)
{
	double now;

	while (connect(fd, (const struct sockaddr *)address, sizeof(*address))) {
		if (errno != EAGAIN)
			return -1;
		now = now_seconds();
		wait_for(-1, 0, now + 0.02);
		if (now > end || errno != ETIMEDOUT)
			return -1;
	}
	return 0;
}

static int complain_connect(const struct qmp *qmp)
{
	if (errno == ETIMEDOUT)
		return complain(qmp->path, "another program is connected, and others wait");
	if (errno == EINTR)
		return complain_silence(qmp, "connecting");
	return complain(qmp->path, "%s; it has to be that of a QEMU with -qmp unix:SOCKET,server=on,wait=off",
			strerror(errno));
}

static int connect_to(struct qmp *qmp, double end)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	socklen_t length = sizeof(address);
	struct ucred peer;

	if (strlen(qmp->path) >= sizeof(address.sun_path))
		return complain(qmp->path, "longer than the %zu bytes that the name of a socket may have",
				sizeof(address.sun_path) - 1);
	memcpy(address.sun_path, qmp->path, strlen(qmp->path));
	qmp->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (qmp->fd < 0)
		return complain(qmp->path, "%s", strerror(errno));
	if (connect_until(qmp->fd, &address, end))
		return complain_connect(qmp);
	if (!qmp->address && !getpeername(qmp->fd, (struct sockaddr *)&address, &length))
		qmp->address = must(strndup(address.sun_path, sizeof(address.sun_path)));
	length = sizeof(peer);
	if (getsockopt(qmp->fd, SOL_SOCKET, SO_PEERCRED, &peer, &length))
		return complain(qmp->path, "%s", strerror(errno));
	/* A clone is started as its command line says, with our rights. */
	if (peer.uid != geteuid())
		return complain(qmp->path, "it is of user %u; be that user", (unsigned int)peer.uid);
	/* That was when it began to listen. */
	if (process_check_user(peer.pid, qmp->path))
		return -1;
	qmp->pid = peer.pid;
	return 0;
}

static int greet(struct qmp *qmp, double end)
{
	json_t *greeting = read_object(qmp, end);
	bool is_qmp;

	if (!greeting && errno == ETIMEDOUT)
		return complain(qmp->path, "no greeting of QEMU's: another program is connected, or it is no QMP socket");
	if (!greeting && errno != EPROTO)
		return complain_silence(qmp, "greeting");
	is_qmp = greeting && json_object_get(greeting, "QMP");
	json_decref(greeting);
	if (!is_qmp)
		return complain(qmp->path, "what listens there does not speak QMP");
	return qmp_run(qmp, "qmp_capabilities", NULL);
}

int qmp_open(struct qmp *qmp, const char *path, unsigned int seconds, unsigned int greeting)
{
	double end;

	*qmp = (struct qmp) { .fd = -1, .path = path, .seconds = seconds, .events = must(json_array()) };
	end = now_seconds() + greeting;
	return connect_to(qmp, end) ? -1 : greet(qmp, end);
}

int qmp_again(struct qmp *qmp)
{
	pid_t pid = qmp->pid;
	double end;

	if (!qmp->broken)
		return 0;
	close(qmp->fd);
	qmp->fd = -1;
	qmp->length = 0;
	qmp->broken = false;
	qmp_forget(qmp);
	end = end_of_wait(qmp);
	if (connect_to(qmp, end) || greet(qmp, end)) {
		qmp->broken = true;
		return -1;
	}
	if (qmp->pid == pid)
		return 0;
	qmp->broken = true;
	return complain(qmp->path, "another QEMU is there by now");
}

void qmp_close(struct qmp *qmp)
{
	if (qmp->fd >= 0)
		close(qmp->fd);
	free(qmp->line);
	free(qmp->address);
	json_decref(qmp->events);
	*qmp = (struct qmp) { .fd = -1 };
}
