// SPDX-License-Identifier: GPL-2.0-only
/*
 * How far it is, on a terminal
 */
#include <time.h>
#include <unistd.h>

#include "cowctl.h"

/* Seconds between two changes of what is shown. */
#define EVERY	0.1

double now_seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

void progress_begin(struct progress *p, const char *label, uint64_t total, bool bytes)
{
	*p = (struct progress) {
		.label = label,
		.total = total,
		.began = now_seconds(),
		.on = isatty(STDERR_FILENO),
		.bytes = bytes,
	};
	p->shown = p->began;
}

static char *amount(const struct progress *p, char text[32], uint64_t n)
{
	bool human = output.human;

	output.human = p->bytes;
	format_size(text, n);
	output.human = human;
	return text;
}

static void bar(uint64_t done, uint64_t total)
{
	char line[] = "....................";
	const size_t length = sizeof(line) - 1;
	uint64_t i, full = done >= total ? length : (uint64_t)((double)done / (double)total * (double)length);

	for (i = 0; i < full; i++)
		line[i] = '#';
	fprintf(stderr, " [%s]", line);
}

void progress_show(struct progress *p, uint64_t done)
{
	double now = now_seconds();
	char text[32];

	if (!p->on || now - p->shown < EVERY)
		return;
	p->shown = now;
	fprintf(stderr, "\r%s", p->label);
	if (p->total)
		bar(done, p->total);
	fprintf(stderr, " %s", amount(p, text, done));
	if (p->total)
		fprintf(stderr, " of %s", amount(p, text, p->total));
	fprintf(stderr, ", %s/s\033[K", amount(p, text, (uint64_t)((double)done / (now - p->began))));
	fflush(stderr);
}

void progress_end(struct progress *p)
{
	if (p->on && p->shown > p->began)
		fputs("\r\033[K", stderr);
	p->on = false;
}
