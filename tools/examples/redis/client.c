// SPDX-License-Identifier: GPL-2.0-only
/*
 * A client of Redis
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "client.h"

struct client {
	int fd;
	char *out;
	size_t queued, out_size;
	char *in;
	size_t start, end, in_size;	/* of what was read and not yet looked at */
};

void die(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fputs("# ", stdout);
	vprintf(format, args);
	puts("");
	va_end(args);
	fflush(stdout);
	exit(1);
}

double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1e6 + time.tv_nsec / 1e3;
}

uint32_t mix(uint32_t value)
{
	value = (value ^ value >> 16) * 0x7feb352d;
	value = (value ^ value >> 15) * 0x846ca68b;
	return value ^ value >> 16;
}

/* Room for so many bytes more behind the first @used. */
static void grow(char **buffer, size_t *size, size_t used, size_t more)
{
	if (used + more <= *size)
		return;
	*size = 2 * (used + more);
	*buffer = realloc(*buffer, *size);
	if (!*buffer)
		die("out of memory");
}

/* ---- commands ---- */

void client_flush(struct client *client)
{
	size_t done = 0;
	ssize_t n;

	while (done < client->queued) {
		n = send(client->fd, client->out + done, client->queued - done, MSG_NOSIGNAL);
		if (n < 0)
			die("the server does not take a command: %s", strerror(errno));
		done += n;
	}
	client->queued = 0;
}

static void queue(struct client *client, const char *data, size_t length)
{
	grow(&client->out, &client->out_size, client->queued, length);
	memcpy(client->out + client->queued, data, length);
	client->queued += length;
}

void client_add(struct client *client, int argc, const char *const *argv, const size_t *lengths)
{
	char head[32];
	int i;

	queue(client, head, snprintf(head, sizeof(head), "*%d\r\n", argc));
	for (i = 0; i < argc; i++) {
		queue(client, head, snprintf(head, sizeof(head), "$%zu\r\n", lengths[i]));
		queue(client, argv[i], lengths[i]);
		queue(client, "\r\n", 2);
	}
}

void client_addf(struct client *client, const char *format, ...)
{
	char line[256];
	va_list args;
	int length;

	va_start(args, format);
	length = vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	queue(client, line, length);
	queue(client, "\r\n", 2);
}

/* ---- replies ---- */

static void receive(struct client *client)
{
	ssize_t n;

	if (client->start) {
		memmove(client->in, client->in + client->start, client->end - client->start);
		client->end -= client->start;
		client->start = 0;
	}
	grow(&client->in, &client->in_size, client->end, 1 << 16);
	n = read(client->fd, client->in + client->end, client->in_size - client->end);
	if (n <= 0)
		die("the server has gone: %s", n ? strerror(errno) : "closed");
	client->end += n;
}

/* The next line, without its end and with a NUL. */
static char *line(struct client *client)
{
	size_t seen = 0;
	char *at, *end;

	for (;;) {
		at = client->in + client->start;
		end = seen < client->end - client->start ?
			memchr(at + seen, '\n', client->end - client->start - seen) : NULL;
		if (end)
			break;
		seen = client->end - client->start;
		receive(client);
	}
	end[-1] = 0;
	client->start += end + 1 - at;
	return at;
}

static char *bytes(struct client *client, size_t length)
{
	char *at;

	while (client->end - client->start < length + 2)
		receive(client);
	at = client->in + client->start;
	at[length] = 0;
	client->start += length + 2;
	return at;
}

struct reply client_try(struct client *client)
{
	struct reply reply = { 0 };
	char *text;

	client_flush(client);
	text = line(client);
	reply.type = *text++;
	switch (reply.type) {
	case '+':
	case '-':
		reply.text = text;
		break;
	case ':':
	case '*':
		reply.number = atol(text);
		break;
	case '$':
		reply.number = atol(text);
		if (reply.number >= 0)
			reply.text = bytes(client, reply.number);
		break;
	default:
		die("this is no reply: %c%s", reply.type, text);
	}
	return reply;
}

struct reply client_read(struct client *client)
{
	struct reply reply = client_try(client);

	if (reply.type == '-')
		die("the server says: %s", reply.text);
	return reply;
}

void client_skip(struct client *client, long count)
{
	while (count--)
		client_read(client);
}

static const char *info(struct client *client, const char *key)
{
	const char *at;
	size_t length = strlen(key);

	client_addf(client, "INFO everything");
	for (at = client_read(client).text; at; at = strchr(at, '\n')) {
		at += *at == '\n';
		if (!strncmp(at, key, length) && at[length] == ':')
			return at + length + 1;
	}
	die("INFO does not tell %s", key);
}

long client_info(struct client *client, const char *key)
{
	return atol(info(client, key));
}

bool client_info_is(struct client *client, const char *key, const char *value)
{
	const char *at = info(client, key);

	return !strncmp(at, value, strlen(value)) && at[strlen(value)] == '\r';
}

void client_wait_saved(struct client *client)
{
	while (client_info(client, "rdb_bgsave_in_progress"))
		usleep(2000);
	if (!client_info_is(client, "rdb_last_bgsave_status", "ok"))
		die("BGSAVE failed");
}

/* ---- connections ---- */

static int try_to_connect(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strncpy(address.sun_path, path, sizeof(address.sun_path) - 1);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address))) {
		close(fd);
		return -1;
	}
	return fd;
}

struct client *client_open(const char *path)
{
	struct client *client = calloc(1, sizeof(*client));
	double end = now() + 60e6;

	while ((client->fd = try_to_connect(path)) < 0) {
		if (now() > end)
			die("no server at %s: %s", path, strerror(errno));
		usleep(10000);
	}
	while (client_info(client, "loading"))
		usleep(10000);
	return client;
}

void client_close(struct client *client)
{
	close(client->fd);
	free(client->in);
	free(client->out);
	free(client);
}
