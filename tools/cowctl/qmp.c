// SPDX-License-Identifier: GPL-2.0-only
/*
 * QMP: lines of JSON over a unix socket. Each command is answered by an object with "return" or "error"; events come in
 * between.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "qmp.h"

/* Nothing that is asked here takes so long without a word. */
#define SILENCE_MS	120000

static int wait_for_bytes(struct qmp *qmp, int ms)
{
	struct pollfd in = { .fd = qmp->fd, .events = POLLIN };
	int n;

	do
		n = poll(&in, 1, ms);
	while (n < 0 && errno == EINTR);
	if (!n)
		errno = ETIMEDOUT;
	return n > 0 ? 0 : -1;
}

/* Some more bytes behind what is there already. */
static int read_more(struct qmp *qmp, int ms)
{
	ssize_t n;

	if (qmp->length + 4096 > qmp->size) {
		qmp->size += 65536;
		qmp->line = must(realloc(qmp->line, qmp->size));
	}
	if (wait_for_bytes(qmp, ms))
		return -1;
	n = recv(qmp->fd, qmp->line + qmp->length, qmp->size - qmp->length, 0);
	if (!n)
		errno = ECONNRESET;
	if (n <= 0)
		return -1;
	qmp->length += (size_t)n;
	return 0;
}

/* The next object, or NULL with errno. */
static json_t *read_object(struct qmp *qmp, int ms)
{
	char *end;
	json_t *object;
	size_t used;

	while (!qmp->length || !(end = memchr(qmp->line, '\n', qmp->length)))
		if (read_more(qmp, ms))
			return NULL;
	used = (size_t)(end - qmp->line) + 1;
	object = json_loadb(qmp->line, used, 0, NULL);
	qmp->length -= used;
	memmove(qmp->line, end + 1, qmp->length);
	if (!json_is_object(object)) {
		json_decref(object);
		errno = EPROTO;
		return NULL;
	}
	return object;
}

static int complain_silence(const struct qmp *qmp, const char *command)
{
	if (errno == ETIMEDOUT)
		return complain(qmp->path, "%s: QEMU does not answer", command);
	if (errno == ECONNRESET || errno == EPIPE)
		return complain(qmp->path, "%s: QEMU has ended, or closed the connection", command);
	return complain(qmp->path, "%s: %s", command, strerror(errno));
}

static json_t *read_answer(struct qmp *qmp, const char *command)
{
	json_t *object, *value, *error;

	for (;;) {
		object = read_object(qmp, SILENCE_MS);
		if (!object) {
			complain_silence(qmp, command);
			return NULL;
		}
		if (json_object_get(object, "event")) {
			json_array_append_new(qmp->events, object);
			continue;
		}
		value = json_incref(json_object_get(object, "return"));
		error = json_object_get(object, "error");
		if (error)
			complain(qmp->path, "%s: QEMU says: %s", command,
				 json_string_value(json_object_get(error, "desc")));
		json_decref(object);
		if (value || error)
			return value;
	}
}

/* One message, with a descriptor if @fd is not -1. */
static int send_command(struct qmp *qmp, const char *command, json_t *arguments, int fd)
{
	json_t *object = must(json_pack("{s:s}", "execute", command));
	char *text;
	ssize_t n;
	size_t length, done;

	if (arguments)
		json_object_set_new(object, "arguments", arguments);
	text = must(json_dumps(object, JSON_COMPACT));
	json_decref(object);
	length = strlen(text);
	if (fd >= 0) {
		n = cowmem_send(qmp->fd, &fd, 1, text, length) ? -1 : 0;
	} else {
		for (done = 0, n = 0; done < length && n >= 0; done += (size_t)(n > 0 ? n : 0))
			n = send(qmp->fd, text + done, length - done, MSG_NOSIGNAL);
	}
	free(text);
	return n < 0 ? complain_silence(qmp, command) : 0;
}

json_t *qmp_do(struct qmp *qmp, const char *command, json_t *arguments)
{
	return send_command(qmp, command, arguments, -1) ? NULL : read_answer(qmp, command);
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
static json_t *next_event(struct qmp *qmp, const char *what)
{
	json_t *event;

	if (json_array_size(qmp->events)) {
		event = json_incref(json_array_get(qmp->events, 0));
		json_array_remove(qmp->events, 0);
		return event;
	}
	event = read_object(qmp, SILENCE_MS);
	if (!event)
		complain_silence(qmp, what);
	return event;
}

static bool has(const json_t *object, const char *key, const char *value)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text && !strcmp(text, value);
}

int qmp_wait(struct qmp *qmp, const char *event, const char *id, const char *good, const char *bad)
{
	json_t *object, *data;
	bool is_good, is_bad;

	while ((object = next_event(qmp, event))) {
		data = json_object_get(object, "data");
		is_good = false;
		is_bad = false;
		if (has(object, "event", event) && (!id || has(data, "id", id))) {
			is_good = has(data, "status", good);
			is_bad = has(data, "status", bad);
		}
		json_decref(object);
		if (is_good || is_bad)
			return is_good ? 0 : -1;
	}
	return -1;
}

int qmp_job(struct qmp *qmp, const char *id)
{
	json_t *jobs, *job;
	size_t i;
	int err = 0;

	if (qmp_wait(qmp, "JOB_STATUS_CHANGE", id, "concluded", "null"))
		return -1;
	jobs = qmp_do(qmp, "query-jobs", NULL);
	if (!jobs)
		return -1;
	json_array_foreach(jobs, i, job)
		if (has(job, "id", id) && json_object_get(job, "error"))
			err = complain(qmp->path, "QEMU says: %s", json_string_value(json_object_get(job, "error")));
	json_decref(jobs);
	return qmp_run(qmp, "job-dismiss", must(json_pack("{s:s}", "id", id))) ? -1 : err;
}

/* ---- */

static int connect_to(struct qmp *qmp)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	socklen_t length = sizeof(address);
	struct ucred peer;

	if (strlen(qmp->path) >= sizeof(address.sun_path))
		return complain(qmp->path, "longer than the %zu bytes that the name of a socket may have",
				sizeof(address.sun_path) - 1);
	memcpy(address.sun_path, qmp->path, strlen(qmp->path));
	qmp->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (qmp->fd < 0)
		return complain(qmp->path, "%s", strerror(errno));
	if (connect(qmp->fd, (struct sockaddr *)&address, sizeof(address)))
		return complain(qmp->path, "%s; it has to be that of a QEMU with -qmp unix:SOCKET,server=on,wait=off",
				strerror(errno));
	if (!getpeername(qmp->fd, (struct sockaddr *)&address, &length))
		qmp->address = must(strndup(address.sun_path, sizeof(address.sun_path)));
	length = sizeof(peer);
	if (getsockopt(qmp->fd, SOL_SOCKET, SO_PEERCRED, &peer, &length))
		return complain(qmp->path, "%s", strerror(errno));
	/* A clone is started as its command line says, with our rights. */
	if (peer.uid != geteuid())
		return complain(qmp->path, "it is of user %u; be that user", (unsigned int)peer.uid);
	qmp->pid = peer.pid;
	return 0;
}

int qmp_open(struct qmp *qmp, const char *path, int seconds)
{
	json_t *greeting;
	bool is_qmp;

	*qmp = (struct qmp) { .fd = -1, .path = path, .events = must(json_array()) };
	if (connect_to(qmp))
		return -1;
	greeting = read_object(qmp, seconds * 1000);
	if (!greeting && errno == ETIMEDOUT)
		return complain(path, "no greeting of QEMU's: another program is connected, or it is no QMP socket");
	if (!greeting && errno != EPROTO)
		return complain_silence(qmp, "greeting");
	is_qmp = greeting && json_object_get(greeting, "QMP");
	json_decref(greeting);
	if (!is_qmp)
		return complain(path, "what listens there does not speak QMP");
	return qmp_run(qmp, "qmp_capabilities", NULL);
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
