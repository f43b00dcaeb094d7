/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What came of an operation, as lines of text, so that it can be compared with what
 * comes of the same on something else.  Include it after common.h.
 */
#ifndef _SELFTESTS_COWMEM_OUTCOME_H
#define _SELFTESTS_COWMEM_OUTCOME_H

#include <stdarg.h>

/* What came of an operation: lines of text.  Children of the child may add some. */
struct outcome {
	size_t used;
	bool skipped;			/* the kernel cannot do it, the text says what */
	bool late;			/* it took too long */
	char text[1 << 16];
};

static struct outcome *out;

static inline __attribute__((format(printf, 1, 2))) void note(const char *fmt, ...)
{
	size_t room = sizeof(out->text) - out->used - 2;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(out->text + out->used, room, fmt, ap);
	va_end(ap);
	must(n >= 0 && (size_t)n < room);
	out->used += n;
	out->text[out->used++] = '\n';
	out->text[out->used] = 0;
}

/* No use going on. */
static inline void end_op(void)
{
	_exit(0);
}

static inline __attribute__((format(printf, 1, 2))) void skip_op(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(out->text, sizeof(out->text), fmt, ap);
	va_end(ap);
	out->skipped = true;
	end_op();
}

static const char *error(void)
{
	const char *name = strerrorname_np(errno);

	return name ?: "an unknown errno";
}

static inline long note_ret(const char *what, long ret, bool value)
{
	if (ret == -1)
		note("%s: %s", what, error());
	else if (value)
		note("%s: %ld", what, ret);
	else
		note("%s: ok", what);
	return ret;
}

/* Note what an expression yields: its value, or only that it was no error. */
#define CALL(expr) note_ret(#expr, (long)(expr), true)
#define DO(expr) note_ret(#expr, (long)(expr), false)

/* The same with another name, for calls in a loop. */
#define CALL_AS(expr, ...) do {						\
	char __what[128];						\
									\
	snprintf(__what, sizeof(__what), __VA_ARGS__);			\
	note_ret(__what, (long)(expr), true);				\
} while (0)

/* Let the times of files move on: by a tick, which comes late where the machine is busy. */
static inline void nap(void)
{
	struct timespec before, after;

	must(!clock_gettime(CLOCK_REALTIME_COARSE, &before));
	do {
		usleep(10000);
		must(!clock_gettime(CLOCK_REALTIME_COARSE, &after));
	} while (after.tv_sec == before.tv_sec && after.tv_nsec == before.tv_nsec);
}

/* Was it asked for, by a word of its name or by none at all? */
static inline bool wanted(const char *name, char **words)
{
	bool any = !*words;

	for (; *words; words++)
		any |= !!strstr(name, *words);
	return any;
}

/* A line of text and the rest of it */
static inline char *next_line(char **rest)
{
	char *line = strsep(rest, "\n");

	return line ?: "";
}

/* Print the lines in which two outcomes differ, with the one before. */
static inline void print_differing(const char *name, char *text, const char *like_name,
				   char *like)
{
	const char *before = NULL;
	int n = 0;

	while ((text || like) && n < 12) {
		const char *a = next_line(&text), *b = next_line(&like);

		if (strcmp(a, b)) {
			if (before)
				ksft_print_msg("    both: %s\n", before);
			ksft_print_msg("    %s: %s\n", name, a);
			ksft_print_msg("    %s: %s\n", like_name, b);
			before = NULL;
			n++;
		} else {
			before = a;
		}
	}
}

#endif /* _SELFTESTS_COWMEM_OUTCOME_H */
