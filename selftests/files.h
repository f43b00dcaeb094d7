/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Files and descriptors: one for O_DIRECT, a copy of this program, passing a descriptor on;
 * the size of a mount.
 */
#ifndef _SELFTESTS_COWMEM_FILES_H
#define _SELFTESTS_COWMEM_FILES_H

#include <sys/inotify.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include "basics.h"
#include "pages.h"

static inline struct stat stat_of(int fd)
{
	struct stat st;

	must(!fstat(fd, &st));
	return st;
}

/* What inotify has seen since the last call, of whatever file. */
static inline uint32_t events(int in)
{
	char buf[4096] __attribute__((aligned(8)));
	uint32_t mask = 0;
	ssize_t n, at;

	while ((n = read(in, buf, sizeof(buf))) > 0)
		for (at = 0; at < n;) {
			struct inotify_event *e = (void *)(buf + at);

			mask |= e->mask & ~IN_ISDIR;
			at += sizeof(*e) + e->len;
		}
	return mask;
}

#define NO_DIRECT_FILE "no file system for O_DIRECT here, and no /dev/ram0"

/* A file for O_DIRECT, or -1.  tmpfs does it from 6.6 on. */
static inline int direct_file(void)
{
	const char * const dirs[] = { getenv("COWMEM_DIRECT_DIR"), "/var/tmp", ".",
			       "/tmp", NULL };
	char path[256], *buf = anon(1);
	size_t i;
	int fd;

	for (i = 0; i < sizeof(dirs) / sizeof(*dirs); i++) {
		fd = -1;
		if (dirs[i]) {
			snprintf(path, sizeof(path), "%s/cowmem_direct.%d",
				 dirs[i], getpid());
			fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_DIRECT |
				  O_CLOEXEC, 0600);
			unlink(path);
		} else if (i) {
			fd = open("/dev/ram0", O_RDWR | O_DIRECT | O_CLOEXEC);
		}
		if (fd >= 0 && pwrite(fd, buf, pgsz(), 0) == (ssize_t)pgsz())
			return fd;
		if (fd >= 0)
			close(fd);
	}
	return -1;
}

/* This very program, at @path */
static inline void copy_program(const char *path)
{
	int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	int to = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0755);
	ssize_t n;

	must(from >= 0 && to >= 0);
	while ((n = sendfile(to, from, NULL, 1 << 20)) > 0)
		;
	must(!n);
	close(from);
	close(to);
}

/* Options of a mount: for as many pages as they are for where a page is of 4 KiB */
static inline const char *sized(const char *options)
{
	static char text[128];
	char *end, *at = options ? strstr(options, "size=") : NULL;
	unsigned long bytes = at ? strtoul(at + 5, &end, 10) : 0;

	if (!bytes)
		return options;
	snprintf(text, sizeof(text), "%.*s%lu%s", (int)(at + 5 - options), options,
		 bytes * pgsz() / 4096, end);
	return text;
}

/* Pass a descriptor over a socket. */
static inline void send_fd(int sk, int fd)
{
	union {
		struct cmsghdr hdr;
		char buf[CMSG_SPACE(sizeof(int))];
	} ctl = {};
	struct iovec iov = { "f", 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = ctl.buf, .msg_controllen = sizeof(ctl.buf),
	};

	ctl.hdr.cmsg_level = SOL_SOCKET;
	ctl.hdr.cmsg_type = SCM_RIGHTS;
	ctl.hdr.cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(&ctl.hdr), &fd, sizeof(fd));
	must(sendmsg(sk, &msg, 0) == 1);
}

static inline int recv_fd(int sk)
{
	union {
		struct cmsghdr hdr;
		char buf[CMSG_SPACE(sizeof(int))];
	} ctl = {};
	char c;
	struct iovec iov = { &c, 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = ctl.buf, .msg_controllen = sizeof(ctl.buf),
	};
	int fd;

	must(recvmsg(sk, &msg, 0) == 1);
	must(ctl.hdr.cmsg_type == SCM_RIGHTS);
	memcpy(&fd, CMSG_DATA(&ctl.hdr), sizeof(fd));
	return fd;
}

#endif /* _SELFTESTS_COWMEM_FILES_H */
