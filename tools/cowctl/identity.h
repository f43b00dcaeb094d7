/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Which snapshot is it? How an incremental stream and what it builds on find each other, see cowmem-stream(5)
 */
#ifndef COWCTL_IDENTITY_H
#define COWCTL_IDENTITY_H

#include "stream.h"

/* Bytes of an id as text, and of a token, with the NUL. */
#define ID_TEXT		33
#define TOKEN_TEXT	128

/* Where a receiver stands. */
struct token {
	struct stream_id id;
	struct stream_id base;
	uint64_t position;
};

void id_format(const struct stream_id *id, char text[ID_TEXT]);

/* Returns 0, or -1 if @text is no id. */
int id_parse(const char *text, struct stream_id *id);

/* Returns 0, or -1 with errno. */
int id_random(struct stream_id *id);

/* Can neither the content nor the size of this region change any more? */
bool is_frozen(int fd);

/*
 * id_get - the id of a snapshot or of a file that was received
 * Return: 0, or -1 with errno: ENODATA if it has none, ESTALE if it may have changed since it got one.
 */
int id_get(int fd, struct stream_id *id);

/* keeps_ids - can a file of this one's file system have an id? Leaves errno alone. */
bool keeps_ids(int fd);

/* id_keep - let a file that does not change any more have this id. Return: 0, or -1 with errno. */
int id_keep(int fd, const struct stream_id *id);

/* id_ensure - id_get(), and if it has none, a new one, which is kept. */
int id_ensure(int fd, struct stream_id *id);

/* attr_set - give a file of ours an attribute, or take it away if @value is NULL. Return: 0, or -1 with errno. */
int attr_set(int fd, const char *name, const char *value);

void token_format(const struct token *token, char text[TOKEN_TEXT]);

/* Returns 0, or -1 if @text is no token. */
int token_parse(const char *text, struct token *token);

#endif
