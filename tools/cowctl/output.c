// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tables, JSON, and sizes. A verb makes JSON of what it has to say, and a table is made of that, so both say the same.
 */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <libsmartcols/libsmartcols.h>

#include "cowctl.h"

struct output output;

char *format_size(char text[32], uint64_t bytes)
{
	static const char units[] = "BKMGTPE";
	unsigned int unit = 0;
	uint64_t whole = bytes, rest = 0;

	if (!output.human) {
		snprintf(text, 32, "%llu", (unsigned long long)bytes);
		return text;
	}
	while (whole >= 1024) {
		rest = whole % 1024;
		whole /= 1024;
		unit++;
	}
	if (unit && whole < 10 && rest)
		snprintf(text, 32, "%llu.%u%c", (unsigned long long)whole, (unsigned int)(rest * 10 / 1024),
			 units[unit]);
	else
		snprintf(text, 32, "%llu%c", (unsigned long long)whole, units[unit]);
	return text;
}

uint64_t parse_number(const char *option, const char *text, uint64_t min, uint64_t max)
{
	unsigned long long value;
	char *end;

	errno = 0;
	value = strtoull(text, &end, 10);
	if (!isdigit((unsigned char)*text) || *end || errno || value < min || value > max)
		usage("%s wants a number from %llu to %llu, not '%s'", option, (unsigned long long)min,
		      (unsigned long long)max, text);
	return value;
}

/* K, M... or KiB, MiB...: how many bits that is, or -1. KB is no unit of ours: for some it is 1000 bytes. */
static int parse_unit(const char *text)
{
	static const char units[] = "KMGTPE";
	const char *unit;

	if (!*text || !strcasecmp(text, "B"))
		return 0;
	unit = strchr(units, toupper((unsigned char)*text));
	if (!unit || (text[1] && strcasecmp(text + 1, "iB")))
		return -1;
	return 10 * (int)(unit - units + 1);
}

uint64_t parse_size(const char *option, const char *text)
{
	unsigned long long value;
	double fraction = 0;
	uint64_t bytes;
	bool large;
	char *end, *stop;
	int shift;

	errno = 0;
	value = strtoull(text, &end, 10);
	large = errno;
	/* As -h prints it: no exponent, which strtod() knows as well. */
	stop = end + strspn(end, ".0123456789");
	if (*end == '.' && isdigit((unsigned char)end[1]))
		fraction = strtod(end, &end);
	shift = end == stop ? parse_unit(end) : -1;
	if (!isdigit((unsigned char)*text) || shift < 0 || (fraction && !shift))
		usage("%s wants a size as 4096, 64K, 1.5M or 2GiB, not '%s'", option, text);
	bytes = (value << shift) + (uint64_t)(fraction * (double)(1ULL << shift));
	if (large || value > (unsigned long long)INT64_MAX >> shift || bytes > INT64_MAX)
		usage("%s %s is too large: no file has more than %lld bytes", option, text, (long long)INT64_MAX);
	return bytes;
}

uint64_t parse_length(const char *text)
{
	uint64_t length = parse_size("--length", text);

	if (!length)
		usage("--length 0 would be nothing; leave it out for all");
	return length;
}

/* A list of strings, with commas between. */
static char *format_list(const json_t *list)
{
	char *text = must(strdup("")), *longer;
	size_t i;
	json_t *item;

	json_array_foreach(list, i, item) {
		longer = must_printf("%s%s%s", text, i ? "," : "", json_string_value(item));
		free(text);
		text = longer;
	}
	if (!*text) {
		free(text);
		text = must(strdup("-"));
	}
	return text;
}

/* A value as a table shows it; the caller frees it. */
static char *format_value(const json_t *value, enum column_kind kind)
{
	char text[32], *list, *safe;

	switch (value ? json_typeof(value) : JSON_NULL) {
	case JSON_TRUE:
		return must(strdup("yes"));
	case JSON_FALSE:
		return must(strdup("no"));
	case JSON_STRING:
		return safe_string(json_string_value(value));
	case JSON_INTEGER:
		if (kind == COLUMN_BYTES)
			return must(strdup(format_size(text, (uint64_t)json_integer_value(value))));
		return must_printf("%lld", (long long)json_integer_value(value));
	case JSON_REAL:
		return must_printf("%.1f", json_real_value(value));
	case JSON_ARRAY:
		list = format_list(value);
		safe = safe_string(list);
		free(list);
		return safe;
	default:
		return must(strdup("-"));
	}
}

/* It is no region, so what cowmem_strerror() knows to do does not help. */
static int complain_output(void)
{
	return complain("standard output", "%s", strerror(errno));
}

/* For jansson U+007F is ASCII like any other. It is in no place but in strings. */
static int put_json(const char *text, size_t n, void *to)
{
	for (; n; n--, text++)
		if (*text == '\x7f' ? fputs("\\u007F", to) < 0 : putc(*text, to) == EOF)
			return -1;
	return 0;
}

int show_json(json_t *value, bool compact)
{
	/* A terminal obeys more than what JSON has to escape. */
	size_t how = JSON_ENSURE_ASCII | JSON_REAL_PRECISION(6) | (compact ? JSON_COMPACT : JSON_INDENT(2));
	int err = json_dump_callback(value, put_json, stdout, how);

	json_decref(value);
	putchar('\n');
	if (err || fflush(stdout))
		return complain_output();
	return 0;
}

static void add_columns(struct libscols_table *table, const struct column *columns)
{
	for (; columns->head; columns++) {
		bool right = columns->kind == COLUMN_NUMBER || columns->kind == COLUMN_BYTES;

		must(scols_table_new_column(table, columns->head, 0, right ? SCOLS_FL_RIGHT : 0));
	}
}

static void add_row(struct libscols_table *table, const json_t *row, const struct column *columns)
{
	struct libscols_line *line = must(scols_table_new_line(table, NULL));
	size_t i;

	for (i = 0; columns[i].head; i++)
		scols_line_refer_data(line, i, format_value(json_object_get(row, columns[i].key), columns[i].kind));
}

static int show_table(const json_t *rows, const struct column *columns)
{
	struct libscols_table *table = must(scols_new_table());
	size_t i;
	json_t *row;
	int err;

	/* What is made safe here must not be made safe again, and no name is cut. */
	scols_table_enable_noencoding(table, 1);
	scols_table_set_termforce(table, SCOLS_TERMFORCE_NEVER);
	add_columns(table, columns);
	json_array_foreach(rows, i, row)
		add_row(table, row, columns);
	err = json_array_size(rows) ? scols_print_table(table) : 0;
	scols_unref_table(table);
	if (err || fflush(stdout))
		return complain_output();
	return 0;
}

int show_rows(const char *key, json_t *rows, const struct column *columns)
{
	int err;

	if (output.json)
		return show_json(json_pack("{s:o}", key, rows), false);
	err = show_table(rows, columns);
	json_decref(rows);
	return err;
}

int show_object(json_t *object, const struct column *columns)
{
	int width = 0;
	const struct column *c;

	if (output.json)
		return show_json(object, false);
	for (c = columns; c->head; c++)
		if ((int)strlen(c->head) > width)
			width = (int)strlen(c->head);
	for (c = columns; c->head; c++) {
		char *text = format_value(json_object_get(object, c->key), c->kind);

		printf("%-*s  %s\n", width, c->head, text);
		free(text);
	}
	json_decref(object);
	if (fflush(stdout))
		return complain_output();
	return 0;
}
