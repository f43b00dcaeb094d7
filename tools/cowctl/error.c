// SPDX-License-Identifier: GPL-2.0-only
/*
 * What went wrong, for the user
 */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "cowctl.h"

/* The message may have names in it, so all of it is made safe. */
static void say(const char *what, const char *format, va_list args)
{
	char *why = NULL;

	if (vasprintf(&why, format, args) < 0)
		abort();
	fflush(stdout);
	fputs("cowctl: ", stderr);
	put_safe(what, stderr);
	fputs(": ", stderr);
	put_safe(why, stderr);
	fputc('\n', stderr);
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
