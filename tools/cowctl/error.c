// SPDX-License-Identifier: GPL-2.0-only
/*
 * What went wrong, for the user
 */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cowctl.h"

void put_message(const char *format, ...)
{
	char *text = NULL, *safe, *line;
	va_list args;

	va_start(args, format);
	if (vasprintf(&text, format, args) < 0)
		text = NULL;
	va_end(args);
	safe = safe_string(must(text));
	line = must_printf("%s\n", safe);
	fflush(stdout);
	fputs(line, stderr);
	free(line);
	free(safe);
	free(text);
}

static void say(const char *what, const char *format, va_list args)
{
	char *why = NULL;

	if (vasprintf(&why, format, args) < 0)
		why = NULL;
	must(why);
	put_message("cowctl: %s: %s", *what ? what : "''", why);
	free(why);
}

int complain(const char *what, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	say(what, format, args);
	va_end(args);
	return -1;
}

int complain_errno(const char *what)
{
	return complain(what, "%s", cowmem_strerror(errno));
}

int want_module(const char *what)
{
	if (!access("/sys/module/cowmem", F_OK))
		return 0;
	errno = ENODEV;
	return complain_errno(what);
}

int complain_foreign(const char *what, const char *format, ...)
{
	va_list args;

	if (want_module(what))
		return -1;
	va_start(args, format);
	say(what, format, args);
	va_end(args);
	return -1;
}

int finish_output(void)
{
	/* What is written last may not fit on a disk. */
	if (fflush(stdout) || ferror(stdout))
		return complain("standard output", "%s", strerror(errno));
	return 0;
}

void warn_user(const char *what, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	say(what, format, args);
	va_end(args);
}

void *must(void *memory)
{
	if (memory)
		return memory;
	fputs("cowctl: out of memory\n", stderr);
	exit(1);
}

char *must_printf(const char *format, ...)
{
	char *text = NULL;
	va_list args;

	va_start(args, format);
	if (vasprintf(&text, format, args) < 0)
		text = NULL;
	va_end(args);
	return must(text);
}
