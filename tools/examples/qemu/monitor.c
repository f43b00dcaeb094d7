// SPDX-License-Identifier: GPL-2.0-only
/*
 * Talk to a unix socket of QEMU's, for the test.
 *
 *	monitor say SOCKET LINE		to a serial port
 *	monitor qmp SOCKET WORD...	commands of QMP, one after the other; prints for each how many ms it took
 *
 * A WORD is JSON; or ":COMMAND", of the monitor for humans; "=EVENT STATUS", which waits for that event; or
 * "?STATUS", which waits until the VM has that status.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static int connect_to(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address))) {
		perror(path);
		exit(1);
	}
	return fd;
}

/* Lines up to one that has both. Errors end the program: of the monitor for humans, each word is one. */
static void wait_for(FILE *in, const char *what, const char *with, bool quiet)
{
	static char line[1 << 20];

	while (fgets(line, sizeof(line), in)) {
		if (strstr(line, "\"error\": {") || strstr(line, "\"failed\"") ||
		    (quiet && strstr(line, "\"return\": \"") && !strstr(line, "\"return\": \"\""))) {
			fprintf(stderr, "monitor: %s", line);
			exit(1);
		}
		if (strstr(line, what) && strstr(line, with))
			return;
	}
	fprintf(stderr, "monitor: QEMU has ended\n");
	exit(1);
}

/* QEMU's state, asked for again and again. */
static void wait_for_status(FILE *in, int out, const char *status)
{
	char line[4096], wanted[128];

	snprintf(wanted, sizeof(wanted), "\"status\": \"%s\"", status);
	for (;;) {
		dprintf(out, "{\"execute\": \"query-status\"}\n");
		do {
			if (!fgets(line, sizeof(line), in))
				exit(1);
		} while (!strstr(line, "\"return\""));
		if (strstr(line, wanted))
			return;
		usleep(5000);
	}
}

static void run(FILE *in, int out, const char *word)
{
	char event[64], status[64];

	if (*word == ':') {
		dprintf(out, "{\"execute\": \"human-monitor-command\", \"arguments\": "
			"{\"command-line\": \"%s\"}}\n", word + 1);
		wait_for(in, "\"return\"", "", true);
	} else if (*word == '?') {
		wait_for_status(in, out, word + 1);
	} else if (sscanf(word, "=%63s %63s", event, status) == 2) {
		wait_for(in, event, status, false);
	} else {
		dprintf(out, "%s\n", word);
		wait_for(in, "\"return\"", "", false);
	}
}

static void qmp(const char *path, char **words)
{
	int fd = connect_to(path);
	FILE *in = fdopen(fd, "r");
	double start;

	wait_for(in, "\"QMP\"", "", false);
	run(in, fd, "{\"execute\": \"qmp_capabilities\"}");
	for (; *words; words++) {
		start = now();
		run(in, fd, *words);
		printf("%.1f\n", now() - start);
	}
	fclose(in);
}

/* A word to the VM. What it says is read until the word comes back: QEMU drops what it has not read when we hang up. */
static int say(const char *path, const char *line)
{
	int fd = connect_to(path);
	FILE *in = fdopen(fd, "r");
	const char *word = strrchr(line, ' ');
	char answer[4096];

	dprintf(fd, "%s\n", line);
	while (fgets(answer, sizeof(answer), in))
		if (strstr(answer, word ? word : line))
			return 0;
	return 1;
}

int main(int argc, char **argv)
{
	if (argc == 4 && !strcmp(argv[1], "say"))
		return say(argv[2], argv[3]);
	if (argc > 3 && !strcmp(argv[1], "qmp")) {
		qmp(argv[2], argv + 3);
		return 0;
	}
	fputs("Usage: monitor say SOCKET LINE | monitor qmp SOCKET WORD...\n", stderr);
	return 2;
}
