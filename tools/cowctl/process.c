// SPDX-License-Identifier: GPL-2.0-only
/*
 * What /proc says of processes
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cowctl.h"
#include "process.h"

/* A small file of /proc/PID; what comes back ends with a NUL. Returns false if there is none. */
static bool read_file(pid_t pid, const char *name, char *text, size_t size)
{
	char *path = must_printf("/proc/%d/%s", (int)pid, name);
	FILE *file = fopen(path, "re");
	size_t n = 0;

	free(path);
	if (file) {
		n = fread(text, 1, size - 1, file);
		fclose(file);
	}
	text[n] = 0;
	return n > 0;
}

char *process_name(pid_t pid)
{
	char text[64];
	size_t n;

	if (!read_file(pid, "comm", text, sizeof(text)))
		return must(strdup("?"));
	n = strlen(text);
	/* The last newline is the file's, others are the name's. */
	if (n && text[n - 1] == '\n')
		text[n - 1] = 0;
	return must(strdup(text));
}

pid_t process_of_thread(pid_t thread)
{
	char text[4096], *line;

	/* The name comes first, with its newlines escaped. */
	if (!read_file(thread, "status", text, sizeof(text)))
		return thread;
	line = strstr(text, "\nTgid:");
	return line ? (pid_t)strtol(line + strlen("\nTgid:"), NULL, 10) : thread;
}
