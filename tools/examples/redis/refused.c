// SPDX-License-Identifier: GPL-2.0-only
/*
 * refused: when no clone can be made, fork() fails, BGSAVE says so, and the server goes on
 *
 * Runs where a server listens at ./live. It may have no more descriptors for a while, and a clone is one.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "client.h"

static struct client *client;
static pid_t server;

static void may_open(struct rlimit *limit, struct rlimit *was)
{
	if (prlimit(server, RLIMIT_NOFILE, limit, was))
		die("prlimit failed");
}

static void save(void)
{
	client_addf(client, "BGSAVE");
	client_skip(client, 1);
	client_wait_saved(client);
}

static void save_is_refused(void)
{
	client_addf(client, "BGSAVE");
	if (client_try(client).type != '-')
		die("BGSAVE began, though there can be no clone");
	if (client_info(client, "rdb_bgsave_in_progress"))
		die("a child that has no memory is taken for one that saves");
}

int main(void)
{
	struct rlimit none = { 1, 1 }, was;
	const char *value;

	client = client_open("live");
	server = client_info(client, "process_id");
	save();
	client_addf(client, "SET key 1");
	client_skip(client, 1);
	may_open(&none, &was);
	save_is_refused();
	client_addf(client, "INCR key");
	client_skip(client, 1);
	may_open(&was, NULL);
	save();
	client_addf(client, "GET key");
	value = client_read(client).text;
	if (!value || strcmp(value, "2"))
		die("a key is lost");
	return 0;
}
