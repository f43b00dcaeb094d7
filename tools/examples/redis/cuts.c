// SPDX-License-Identifier: GPL-2.0-only
/*
 * cuts SAVES KEYS: is each RDB that BGSAVE writes right to the byte, while the server is written without pause?
 *
 * Runs in a directory where a server listens at ./live and saves ./dump.rdb. The content after N steps depends on N
 * alone. A thread does one step after the other and, when it is told to, puts a BGSAVE between two of them: the RDB has
 * to hold what there was then. A second server loads it, and all of it is compared.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client.h"

#define FIELDS	1024	/* of the hash */
#define LIST	500	/* elements of the list */
#define BATCH	64	/* steps that are sent at once */
#define SIZES	3000	/* of values, about */

static unsigned int keys;

/* ---- what the content is after so many steps ---- */

struct model {
	unsigned int steps;
	unsigned int *key;		/* the step that set it, 0: is not there */
	unsigned int field[FIELDS];
};

static void model_new(struct model *model)
{
	memset(model, 0, sizeof(*model));
	model->key = calloc(keys, sizeof(*model->key));
}

static void model_copy(struct model *to, const struct model *from)
{
	unsigned int *key = to->key;

	*to = *from;
	to->key = memcpy(key, from->key, keys * sizeof(*key));
}

/* The value that a step sets: of any size, and nowhere like that of another step. */
static size_t value_of(unsigned int step, char *value)
{
	size_t length = 1 + mix(step) % SIZES, at;
	char word[16];
	int n = snprintf(word, sizeof(word), "%u.", step);

	for (at = 0; at < length; at += n)
		memcpy(value + at, word, n);
	return length;
}

static void set(struct client *client, unsigned int key, unsigned int step)
{
	char name[16], value[SIZES + 16];
	const char *argv[] = { "SET", name, value };
	size_t lengths[] = { 3, snprintf(name, sizeof(name), "k%u", key), value_of(step, value) };

	client_add(client, 3, argv, lengths);
}

/* One step, here and there. Return: how many replies it has. */
static int step(struct client *client, struct model *model)
{
	unsigned int n = ++model->steps, key = mix(n) % keys, gone = mix(~n) % keys, field = n % FIELDS;
	int replies = 2;

	set(client, key, n);
	model->key[key] = n;
	client_addf(client, "HSET hash %u %u", field, n);
	model->field[field] = n;
	if (n % 4 == 0) {
		client_addf(client, "DEL k%u", gone);
		model->key[gone] = 0;
		replies++;
	}
	if (n % 8 == 0) {
		client_addf(client, "RPUSH list %u", n);
		client_addf(client, "LTRIM list -%d -1", LIST);
		replies += 2;
	}
	return replies;
}

/* ---- is it that? ---- */

static void check_key(struct client *client, const struct model *model, unsigned int key)
{
	struct reply reply = client_read(client);
	char value[SIZES + 16];
	size_t length;

	if (!model->key[key]) {
		if (reply.text)
			die("key %u should not be there after %u steps", key, model->steps);
		return;
	}
	length = value_of(model->key[key], value);
	if (!reply.text || (size_t)reply.number != length || memcmp(reply.text, value, length))
		die("key %u should be of step %u after %u, and is %.20s", key, model->key[key], model->steps,
		    reply.text ? reply.text : "not there");
}

static void check_keys(struct client *client, const struct model *model)
{
	unsigned int first, key, last, count = 2;	/* and the hash and the list */

	for (first = 0; first < keys; first = last) {
		last = first + BATCH < keys ? first + BATCH : keys;
		for (key = first; key < last; key++)
			client_addf(client, "GET k%u", key);
		for (key = first; key < last; key++) {
			check_key(client, model, key);
			count += model->key[key] != 0;
		}
	}
	client_addf(client, "DBSIZE");
	if (client_read(client).number != count)
		die("there should be %u keys", count);
}

static void check_hash(struct client *client, const struct model *model)
{
	unsigned int field;

	for (field = 0; field < FIELDS; field++)
		client_addf(client, "HGET hash %u", field);
	for (field = 0; field < FIELDS; field++) {
		struct reply reply = client_read(client);

		if ((reply.text ? (unsigned int)atol(reply.text) : 0) != model->field[field])
			die("field %u of the hash should be %u", field, model->field[field]);
	}
}

static void check_list(struct client *client, const struct model *model)
{
	unsigned int length = model->steps / 8 < LIST ? model->steps / 8 : LIST, i;

	client_addf(client, "LRANGE list 0 -1");
	if (client_read(client).number != length)
		die("the list should have %u elements", length);
	for (i = 1; i <= length; i++)
		if ((unsigned int)atol(client_read(client).text) != (model->steps / 8 - length + i) * 8)
			die("element %u of the list is wrong", i);
}

static void check(struct client *client, const struct model *model)
{
	check_keys(client, model);
	check_hash(client, model);
	check_list(client, model);
}

/* ---- the load ---- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t turn = PTHREAD_COND_INITIALIZER;
static enum { GO, SAVE, STOP } wanted;
static struct model live, saved;

static void *load(void *arg)
{
	struct client *client = arg;
	bool stop = false;
	int i, replies;

	while (!stop) {
		for (i = replies = 0; i < BATCH; i++)
			replies += step(client, &live);
		pthread_mutex_lock(&lock);
		if (wanted == SAVE) {
			client_addf(client, "BGSAVE");
			replies++;
			model_copy(&saved, &live);
			wanted = GO;
			pthread_cond_signal(&turn);
		}
		stop = wanted == STOP;
		pthread_mutex_unlock(&lock);
		client_skip(client, replies);
	}
	return NULL;
}

static void save(struct client *client)
{
	long begun = client_info(client, "rdb_saves");

	pthread_mutex_lock(&lock);
	wanted = SAVE;
	while (wanted == SAVE)
		pthread_cond_wait(&turn, &lock);
	pthread_mutex_unlock(&lock);
	while (client_info(client, "rdb_saves") == begun)
		usleep(2000);
	client_wait_saved(client);
}

/* Load ./saved/dump.rdb into a server of its own and look at it. */
static void check_saved(void)
{
	struct client *client;
	pid_t pid = fork();

	if (!pid) {
		unsetenv("LD_PRELOAD");
		execlp("redis-server", "redis-server", "--port", "0", "--unixsocket", "../copy", "--dir", "saved",
		       "--save", "", "--logfile", "log", NULL);
		_exit(127);
	}
	client = client_open("copy");
	check(client, &saved);
	client_addf(client, "SHUTDOWN NOSAVE");
	client_flush(client);
	client_close(client);
	waitpid(pid, NULL, 0);
}

int main(int argc, char **argv)
{
	int saves = argc == 3 ? atoi(argv[1]) : 0, i;
	struct client *client;
	pthread_t thread;

	setvbuf(stdout, NULL, _IOLBF, 0);
	keys = argc == 3 ? atoi(argv[2]) : 0;
	if (saves < 1 || !keys)
		die("usage: cuts SAVES KEYS");
	model_new(&live);
	model_new(&saved);
	client = client_open("live");
	pthread_create(&thread, NULL, load, client_open("live"));
	for (i = 1; i <= saves; i++) {
		save(client);
		if (rename("dump.rdb", "saved/dump.rdb"))
			die("there is no dump.rdb");
		check_saved();
		if (i % 10 == 0)
			printf("# %d of %d saves, %u steps\n", i, saves, saved.steps);
	}
	pthread_mutex_lock(&lock);
	wanted = STOP;
	pthread_mutex_unlock(&lock);
	pthread_join(thread, NULL);
	check(client, &live);
	printf("# %d saves, each as it was at a known step, of %u; the live server as well\n", saves, live.steps);
	return 0;
}
