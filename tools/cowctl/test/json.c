// SPDX-License-Identifier: GPL-2.0-only
/*
 * json [PATH]: read JSON from stdin, all of it or fail; print what is at PATH ("regions.0.size"; "#" is a count)
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <jansson.h>

static json_t *step(json_t *value, const char *word)
{
	if (!strcmp(word, "#"))
		return json_integer((json_int_t)(json_is_array(value) ? json_array_size(value) :
						 json_object_size(value)));
	if (json_is_array(value))
		return json_array_get(value, strtoul(word, NULL, 10));
	return json_object_get(value, word);
}

int main(int argc, char **argv)
{
	json_error_t error;
	json_t *value = json_loadf(stdin, 0, &error);
	char *word;

	if (!value) {
		fprintf(stderr, "json: %s at line %d\n", error.text, error.line);
		return 2;
	}
	for (word = argc > 1 ? strtok(argv[1], ".") : NULL; word && value; word = strtok(NULL, "."))
		value = step(value, word);
	if (!value)
		return 1;
	if (argc < 2)
		return 0;
	if (json_is_string(value))
		return puts(json_string_value(value)) < 0;
	if (json_dumpf(value, stdout, JSON_ENCODE_ANY | JSON_COMPACT))
		return 2;
	putchar('\n');
	return 0;
}
