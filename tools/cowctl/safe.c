// SPDX-License-Identifier: GPL-2.0-only
/*
 * Names that others chose: of regions, files and processes. A terminal obeys what is in them unless it is taken out.
 */
#include <stdlib.h>
#include <string.h>
#include <wchar.h>
#include <wctype.h>

#include "cowctl.h"

/* Those that turn the direction of text, or cannot be seen, could make one name look like another. */
static const struct {
	wchar_t first, last;
} misleading[] = {
	{ 0x061c, 0x061c },
	{ 0x200b, 0x200f },
	{ 0x202a, 0x202e },
	{ 0x2060, 0x206f },
	{ 0xfeff, 0xfeff },
	{ 0xe0000, 0xe007f },
};

/* May a character be shown as it is? */
static bool plain(wchar_t c)
{
	size_t i;

	for (i = 0; i < sizeof(misleading) / sizeof(*misleading); i++)
		if (c >= misleading[i].first && c <= misleading[i].last)
			return false;
	return iswprint(c) && c != L'\\';
}

/* One byte in a form that can be read. */
static void put_escaped(unsigned char c, FILE *to)
{
	switch (c) {
	case '\n':
		fputs("\\n", to);
		break;
	case '\t':
		fputs("\\t", to);
		break;
	case '\\':
		fputs("\\\\", to);
		break;
	default:
		fprintf(to, "\\x%02x", c);
	}
}

void put_safe(const char *s, FILE *to)
{
	mbstate_t state = { };
	size_t left = strlen(s);

	while (left) {
		wchar_t c = 0;
		size_t i, n = mbrtowc(&c, s, left, &state);

		if (n == (size_t)-1 || n == (size_t)-2) {
			memset(&state, 0, sizeof(state));
			n = 1;
			c = 0;
		}
		if (plain(c))
			fwrite(s, 1, n, to);
		else
			for (i = 0; i < n; i++)
				put_escaped((unsigned char)s[i], to);
		s += n;
		left -= n;
	}
}

char *safe_string(const char *s)
{
	char *text = NULL;
	size_t length;
	FILE *to = must(open_memstream(&text, &length));

	put_safe(s, to);
	if (fclose(to))
		text = NULL;
	return must(text);
}

json_t *json_name(const char *s)
{
	json_t *value = json_string(s);
	char *text;

	if (value)
		return value;
	/* Not UTF-8. What is left of it could be something else than UTF-8 in another locale, so ask again. */
	text = safe_string(s);
	value = json_string(text);
	free(text);
	return value ? value : json_string("?");
}
