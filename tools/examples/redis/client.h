/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A client of Redis, as small as the tests need. What goes wrong ends the program with a message.
 */
#ifndef CLIENT_H
#define CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct client;

/* Wait, up to a minute, until the server answers at that path of a socket and has loaded its data. */
struct client *client_open(const char *path);
void client_close(struct client *client);

/* Queue a command; client_flush() sends what is queued, and so does client_read(). */
void client_add(struct client *client, int argc, const char *const *argv, const size_t *lengths);
void client_addf(struct client *client, const char *format, ...) __attribute__((format(printf, 2, 3)));
void client_flush(struct client *client);

/* The next reply. An array is only its head, type '*': that many replies follow. An error ends the program. */
struct reply {
	char type;		/* '+', ':', '$' or '*', or '-' of client_try() */
	long number;		/* of ':', the length of '$' and '*'; -1 is none */
	const char *text;	/* of '+', '-' and '$', with a NUL; good until the next reply */
};

struct reply client_read(struct client *client);

/* The same, but an error is a reply of type '-'. */
struct reply client_try(struct client *client);

/* Drop the replies to so many commands whose replies are no arrays. */
void client_skip(struct client *client, long count);

/* The number after "KEY:" in INFO; and whether KEY:VALUE is there. */
long client_info(struct client *client, const char *key);
bool client_info_is(struct client *client, const char *key, const char *value);

/* Wait until the child that saves has ended, and see that it did well. */
void client_wait_saved(struct client *client);

void die(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
double now(void);	/* in us */
uint32_t mix(uint32_t value);	/* of equal values the same, else at random */

#endif
