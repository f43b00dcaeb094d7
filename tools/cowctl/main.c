// SPDX-License-Identifier: GPL-2.0-only
/*
 * cowctl - look at regions of cowmem, and clone, snapshot, restore, compare and send them
 */
#include <fcntl.h>
#include <locale.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "cowctl.h"
#include "version.h"

static const struct verb *const verbs[] = {
	&verb_list, &verb_info, &verb_create, &verb_clone, &verb_snapshot, &verb_restore, &verb_diff, &verb_merge,
	&verb_seal, &verb_top, &verb_doctor,
	&verb_send, &verb_receive, &verb_export, &verb_import, &verb_vm,
};

#define VERBS	(sizeof(verbs) / sizeof(*verbs))

/* The one that runs. */
static const struct verb *current;

void usage(const char *format, ...)
{
	const char *verb = current ? current->name : "";
	char *why = NULL;
	va_list args;

	va_start(args, format);
	if (vasprintf(&why, format, args) < 0)
		abort();
	va_end(args);
	put_message("cowctl%s%s: %s; see cowctl %s%s--help", *verb ? " " : "", verb, why, verb, *verb ? " " : "");
	free(why);
	exit(2);
}

/* What getopt_long() did not like. */
static void wrong_option(int why, char **argv)
{
	const char *word = argv[optind - 1];

	if (why == ':')
		usage("%s wants a value", word);
	if (optopt && optopt < OPT_HELP && strncmp(word, "--", 2))
		usage("no option -%c", optopt);
	if (optopt)
		usage("%s takes no value", word);
	usage("no option %s, or more than one that begins so", word);
}

int next_option(int argc, char **argv, const char *shorts, const struct option *longs)
{
	char *all = must_printf(":%s", shorts);
	int c;

	opterr = 0;
	do {
		c = getopt_long(argc, argv, all, longs, NULL);
		if (c == 'h')
			output.human = true;
		else if (c == OPT_JSON)
			output.json = true;
	} while (c == 'h' || c == OPT_JSON);
	free(all);
	if (c == OPT_HELP) {
		fputs(current->help, stdout);
		exit(finish_output() ? 1 : 0);
	}
	if (c == '?' || c == ':')
		wrong_option(c, argv);
	return c;
}

char **want_args(int argc, char **argv, int min, int max)
{
	int n = argc - optind;

	if (n < min)
		usage(n ? "an argument is missing behind '%s'" : "an argument is missing%s", n ? argv[argc - 1] : "");
	if (n > max)
		usage("one argument too many: '%s'", argv[optind + max]);
	return argv + optind;
}

static void help(FILE *to)
{
	size_t i;

	fputs("Usage: cowctl VERB [OPTION]... [ARGUMENT]...\n\n", to);
	for (i = 0; i < VERBS; i++)
		fprintf(to, "  %-10s  %s\n", verbs[i]->name, verbs[i]->summary);
	fputs("\nEach has --help and a page: man cowctl-VERB. All have --json; list, info, diff and\n"
	      "merge have -h for sizes as 1.5G.\n"
	      "A REGION is a path, a NAME in the store (" STORE_DEFAULT ", or $COWMEM_STORE), PID, or PID:FD.\n"
	      "Exit status: 0 done, 1 failed, 2 wrong usage.\n", to);
}

static const struct verb *find_verb(const char *name)
{
	size_t i;

	for (i = 0; i < VERBS; i++)
		if (!strcmp(verbs[i]->name, name))
			return verbs[i];
	return NULL;
}

/*
 * What is closed of stdin, stdout and stderr would be given to the next file that is opened, and a message be written
 * into that. Something that can not be used that way takes its place.
 */
static void hold_standard_fds(void)
{
	static const int modes[] = { O_WRONLY, O_RDONLY, O_RDONLY };
	int fd;

	for (fd = 0; fd < 3; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", modes[fd]) != fd)
			exit(1);
}

int main(int argc, char **argv)
{
	hold_standard_fds();
	/* That a file would be too large is said. */
	signal(SIGXFSZ, SIG_IGN);
	setlocale(LC_CTYPE, "");
	if (argc < 2) {
		help(stderr);
		return 2;
	}
	if (!strcmp(argv[1], "--version")) {
		printf("cowctl %s (libcowmem %s)\n", COWMEM_VERSION, cowmem_version());
		return finish_output() ? 1 : 0;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
		help(stdout);
		return finish_output() ? 1 : 0;
	}
	current = find_verb(argv[1]);
	if (!current)
		usage("no verb '%s'", argv[1]);
	return current->run(argc - 1, argv + 1) || finish_output() ? 1 : 0;
}
