// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which snapshot is it?
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <xxhash.h>

#include "cowctl.h"
#include "identity.h"

#define ID_ATTR		"user.cowmem.id"
#define TOKEN_HEAD	"cowmem1:"
#define FROZEN		(COWMEM_SEAL_WRITE | COWMEM_SEAL_GROW | COWMEM_SEAL_SHRINK)

void id_format(const struct stream_id *id, char text[ID_TEXT])
{
	int i;

	for (i = 0; i < STREAM_ID_SIZE; i++)
		sprintf(text + 2 * i, "%02x", id->bytes[i]);
}

static int digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Reads what id_format() wrote, whatever follows. */
static int id_scan(const char *text, struct stream_id *id)
{
	int i, high, low;

	for (i = 0; i < STREAM_ID_SIZE; i++) {
		high = digit(text[2 * i]);
		if (high < 0)
			return -1;
		low = digit(text[2 * i + 1]);
		if (low < 0)
			return -1;
		id->bytes[i] = high << 4 | low;
	}
	return 0;
}

int id_parse(const char *text, struct stream_id *id)
{
	return id_scan(text, id) || text[ID_TEXT - 1] || stream_id_is_none(id) ? -1 : 0;
}

int id_random(struct stream_id *id)
{
	do {
		if (getrandom(id, sizeof(*id), 0) != sizeof(*id))
			return -1;
	} while (stream_id_is_none(id));
	return 0;
}

bool is_frozen(int fd)
{
	struct cowmem_info info;

	return cowmem_is_region(fd) && !cowmem_get_info(fd, &info) && (info.seals & FROZEN) == FROZEN;
}

/* What is kept: the id, and when the content was written last, which tells a changed file by. */
static int id_value(int fd, const struct stream_id *id, char value[TOKEN_TEXT])
{
	char text[ID_TEXT];
	struct stat st;

	if (fstat(fd, &st))
		return -1;
	id_format(id, text);
	return snprintf(value, TOKEN_TEXT, "%s %lld.%09ld", text, (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
}

int id_get(int fd, struct stream_id *id)
{
	char value[TOKEN_TEXT], expected[TOKEN_TEXT];
	ssize_t length = fgetxattr(fd, ID_ATTR, value, sizeof(value) - 1);

	if (length < 0)
		return -1;
	value[length] = '\0';
	if (cowmem_is_region(fd) && !is_frozen(fd)) {
		errno = ESTALE;
		return -1;
	}
	if (id_scan(value, id) || id_value(fd, id, expected) < 0 || strcmp(value, expected)) {
		errno = ESTALE;
		return -1;
	}
	return 0;
}

bool keeps_ids(int fd)
{
	int saved = errno;
	bool can = fgetxattr(fd, ID_ATTR, NULL, 0) >= 0 || errno != EOPNOTSUPP;

	errno = saved;
	return can;
}

static int put_attr(int fd, const char *name, const char *value)
{
	return value ? fsetxattr(fd, name, value, strlen(value), 0) : fremovexattr(fd, name);
}

int attr_set(int fd, const char *name, const char *value)
{
	struct stat st;
	int ret;

	if (!put_attr(fd, name, value))
		return 0;
	/* Who owns a file that is read-only has to make it writable for that. */
	if (errno != EACCES || fstat(fd, &st) || fchmod(fd, st.st_mode | 0200))
		return -1;
	ret = put_attr(fd, name, value);
	return fchmod(fd, st.st_mode & 07777) ? -1 : ret;
}

int id_keep(int fd, const struct stream_id *id)
{
	char value[TOKEN_TEXT];

	if (id_value(fd, id, value) < 0)
		return -1;
	return attr_set(fd, ID_ATTR, value);
}

int id_ensure(int fd, struct stream_id *id)
{
	if (!id_get(fd, id))
		return 0;
	/* What was touched, or copied with its attributes, is another one from now on. */
	if (errno != ENODATA && errno != ESTALE)
		return -1;
	if (id_random(id) || id_keep(fd, id))
		return -1;
	/* If somebody else gave it one in the same instant, the last one counts for both. */
	return id_get(fd, id);
}

static void token_sum(const char *text, size_t length, char sum[17])
{
	sprintf(sum, "%016" PRIx64, (uint64_t)XXH64(text, length, 0));
}

void token_format(const struct token *token, char text[TOKEN_TEXT])
{
	char id[ID_TEXT], base[ID_TEXT], sum[17];
	int length;

	id_format(&token->id, id);
	id_format(&token->base, base);
	length = sprintf(text, TOKEN_HEAD "%s:%s:%" PRIu64, id, base, token->position);
	token_sum(text, length, sum);
	sprintf(text + length, ":%s", sum);
}

int token_parse(const char *text, struct token *token)
{
	const size_t head = strlen(TOKEN_HEAD), id = ID_TEXT - 1;
	char again[TOKEN_TEXT];

	if (strlen(text) < head + 2 * id + 2 || strlen(text) >= TOKEN_TEXT)
		return -1;
	if (id_scan(text + head, &token->id) || id_scan(text + head + id + 1, &token->base))
		return -1;
	if (sscanf(text + head + 2 * id + 2, "%" SCNu64, &token->position) != 1)
		return -1;
	/* Whatever else is wrong with it shows here. */
	token_format(token, again);
	return strcmp(text, again) ? -1 : 0;
}
