// SPDX-License-Identifier: GPL-2.0-only
/*
 * Preloaded, this lets a program fail or be killed at one call: $STREAM_TRAP is "CALL:N:ACTION", where ACTION is the
 * errno with which the N-th call of CALL fails, "before" or "after" if it is killed there, or "stop" or "stopped" if it
 * stops before or after that call until it is told to go on. So a test does what else only chance does.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

/* What shall be done at this call, or NULL. */
static const char *action_at(const char *call)
{
	static char name[32], action[16];
	static int left = -1;
	const char *trap = getenv("STREAM_TRAP");

	if (left < 0 && (!trap || sscanf(trap, "%31[^:]:%d:%15s", name, &left, action) != 3))
		left = 0;
	return left && !strcmp(name, call) && !--left ? action : NULL;
}

static long trapped(const char *call, long number, long a, long b, long c, long d, long e)
{
	const char *action = action_at(call);
	long ret;

	if (action && atoi(action)) {
		errno = atoi(action);
		return -1;
	}
	if (action && !strcmp(action, "before"))
		raise(SIGKILL);
	if (action && !strcmp(action, "stop"))
		raise(SIGSTOP);
	ret = syscall(number, a, b, c, d, e);
	if (action && !strcmp(action, "after"))
		raise(SIGKILL);
	if (action && !strcmp(action, "stopped"))
		raise(SIGSTOP);
	return ret;
}

#define TRAP(call, a, b, c, d, e) trapped(#call, SYS_##call, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e))

int fsync(int fd)
{
	return TRAP(fsync, fd, 0, 0, 0, 0);
}

int fdatasync(int fd)
{
	return TRAP(fdatasync, fd, 0, 0, 0, 0);
}

int fchmod(int fd, mode_t mode)
{
	return TRAP(fchmod, fd, mode, 0, 0, 0);
}

int fsetxattr(int fd, const char *name, const void *value, size_t size, int flags)
{
	return TRAP(fsetxattr, fd, name, value, size, flags);
}

int fremovexattr(int fd, const char *name)
{
	return TRAP(fremovexattr, fd, name, 0, 0, 0);
}

int renameat2(int old, const char *from, int new, const char *to, unsigned int flags)
{
	return TRAP(renameat2, old, from, new, to, flags);
}

int unlinkat(int dir, const char *name, int flags)
{
	return TRAP(unlinkat, dir, name, flags, 0, 0);
}

ssize_t pwrite64(int fd, const void *data, size_t length, off_t offset)
{
	return TRAP(pwrite64, fd, data, length, offset, 0);
}

int stat64(const char *path, struct stat64 *st)
{
	return trapped("stat", SYS_newfstatat, AT_FDCWD, (long)path, (long)st, 0, 0);
}

int ioctl(int fd, unsigned long request, ...)
{
	va_list args;
	void *arg;

	va_start(args, request);
	arg = va_arg(args, void *);
	va_end(args);
	return TRAP(ioctl, fd, request, arg, 0, 0);
}

/* It can only fail, as where there is no memory. */
FTSENT *fts_read(FTS *fts)
{
	FTSENT *(*next)(FTS *fts) = (FTSENT *(*)(FTS *))dlsym(RTLD_NEXT, "fts64_read");
	const char *action = action_at("fts_read");

	if (!action)
		return next(fts);
	errno = atoi(action);
	return NULL;
}
