// SPDX-License-Identifier: GPL-2.0-only
/*
 * What /proc says of processes
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

int process_check_user(pid_t pid, const char *what)
{
	/* The real one, the effective one, the saved one, and that of the file system. */
	unsigned int users[4];
	char text[4096], *line;
	size_t i;

	/* Not the owner of /proc/PID: that is root if the process changed its user. */
	line = read_file(pid, "status", text, sizeof(text)) ? strstr(text, "\nUid:") : NULL;
	if (!line || sscanf(line, "\nUid: %u %u %u %u", &users[0], &users[1], &users[2], &users[3]) != 4)
		return complain(what, "which user its process %d runs as cannot be seen", (int)pid);
	for (i = 0; i < 4; i++)
		if (users[i] != geteuid())
			return complain(what, "it runs as user %u; be that user", users[i]);
	return 0;
}
