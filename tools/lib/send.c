// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Descriptors over a socket: ordinary messages of SCM_RIGHTS, so that the other end need not be this library
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "internal.h"

/* What a socket may add unasked: credentials, a security label, a descriptor of the process that sent. */
#define OTHER_CONTROL	512

/* Which <sys/socket.h> may be too old to know. */
#ifndef SCM_PIDFD
#define SCM_PIDFD	4
#endif

union control {
	struct cmsghdr align;
	char room[CMSG_SPACE(COWMEM_SEND_MAX * sizeof(int)) + OTHER_CONTROL];
};

/* The rest of a message of which a part went: it cannot be called back any more. */
static int send_rest(int sock, const char *data, size_t length)
{
	struct pollfd room = { .fd = sock, .events = POLLOUT };
	ssize_t sent;

	while (length) {
		sent = send(sock, data, length, MSG_NOSIGNAL);
		if (sent >= 0) {
			data += sent;
			length -= sent;
		} else if (errno == EAGAIN || errno == EWOULDBLOCK) {
			poll(&room, 1, -1);
		} else if (errno != EINTR) {
			return -1;
		}
	}
	return 0;
}

int cowmem_send(int sock, const int *fds, size_t count, const void *data, size_t length)
{
	struct iovec part = { .iov_base = (void *)data, .iov_len = length };
	union control control;
	struct msghdr msg = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control };
	struct cmsghdr *head;
	ssize_t sent;

	if (!count || count > COWMEM_SEND_MAX) {
		errno = EINVAL;
		return -1;
	}
	/* A stream carries descriptors only along with a byte. */
	if (!length) {
		part.iov_base = "";
		part.iov_len = 1;
	}
	memset(&control, 0, sizeof(control));
	msg.msg_controllen = CMSG_SPACE(count * sizeof(int));
	head = CMSG_FIRSTHDR(&msg);
	head->cmsg_level = SOL_SOCKET;
	head->cmsg_type = SCM_RIGHTS;
	head->cmsg_len = CMSG_LEN(count * sizeof(int));
	memcpy(CMSG_DATA(head), fds, count * sizeof(int));
	sent = sendmsg(sock, &msg, MSG_NOSIGNAL);
	if (sent < 0)
		return -1;
	return send_rest(sock, (char *)part.iov_base + sent, part.iov_len - sent);
}

/* The descriptors of regions in a message; all of them are ours now. */
struct received {
	int fds[COWMEM_SEND_MAX];
	size_t count;
};

/* Of the socket of a caller who set SO_PASSPIDFD, and to whom we do not hand it; or a negative error in its place. */
static void drop_pidfd(struct cmsghdr *head)
{
	int fd;

	memcpy(&fd, CMSG_DATA(head), sizeof(fd));
	if (fd >= 0)
		close(fd);
}

static void collect(struct msghdr *msg, struct received *got)
{
	struct cmsghdr *head;
	size_t bytes;

	got->count = 0;
	for (head = CMSG_FIRSTHDR(msg); head; head = CMSG_NXTHDR(msg, head)) {
		if (head->cmsg_level != SOL_SOCKET)
			continue;
		bytes = head->cmsg_len - CMSG_LEN(0);
		if (head->cmsg_type == SCM_RIGHTS) {
			memcpy(got->fds + got->count, CMSG_DATA(head), bytes);
			got->count += bytes / sizeof(int);
		} else if (head->cmsg_type == SCM_PIDFD && bytes >= sizeof(int)) {
			drop_pidfd(head);
		}
	}
}

/* 0, or what is wrong with a message. */
static int check(const struct msghdr *msg, const struct received *got, size_t room, ssize_t bytes)
{
	if (!bytes && !got->count)
		return ECONNRESET;
	if (got->count > room || (msg->msg_flags & MSG_TRUNC))
		return EMSGSIZE;
	/* There was room for as many as can be sent: the kernel found no free descriptors. */
	if (msg->msg_flags & MSG_CTRUNC)
		return EMFILE;
	return 0;
}

int cowmem_receive(int sock, int *fds, size_t *count, void *data, size_t *length)
{
	bool wanted = data && *length;
	char none;
	struct iovec part = { .iov_base = wanted ? data : &none, .iov_len = wanted ? *length : 1 };
	union control control;
	struct msghdr msg = {
		.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	struct received got;
	ssize_t bytes;
	size_t i;
	int error;

	bytes = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
	if (bytes < 0)
		return -1;
	collect(&msg, &got);
	error = check(&msg, &got, *count, bytes);
	for (i = 0; i < got.count && !error; i++) {
		got.fds[i] = cowmem_int_file(got.fds[i]);
		error = got.fds[i] == -1 ? errno : 0;
	}
	if (error) {
		for (i = 0; i < got.count; i++)
			if (got.fds[i] != -1)
				close(got.fds[i]);
		errno = error;
		return -1;
	}
	memcpy(fds, got.fds, got.count * sizeof(int));
	*count = got.count;
	if (length)
		*length = wanted ? bytes : 0;
	return 0;
}
