// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a mount does: clone a database, of an SQLite that was never told of it, under a
 * writer that never stops; look whether the clone is sound; go back to it
 *
 * Runs in a guest, see scripts/demo.
 */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/cowmem.h>

#include "demo.h"

#define ACCOUNTS	1000
/* What all accounts have together, whatever is moved between them. */
#define TOTAL		(100UL * ACCOUNTS)
/* So that the database is worth to be called one. */
#define BLOBS		4000

static atomic_bool stop;

/* sqlite3 on @database, with what is written to @in, or said here; and what it prints. */
static pid_t start_sqlite(const char *database, const char *sql, int in, int out)
{
	pid_t pid = vfork();

	if (!pid) {
		if (in >= 0)
			dup2(in, 0);
		dup2(out, 1);
		/* Who opens or closes a database takes locks that others wait for. */
		execlp("sqlite3", "sqlite3", "-batch", "-bail", "-cmd", ".timeout 60000",
		       database, sql, NULL);
		_exit(127);
	}
	if (pid < 0)
		err(1, "sqlite3");
	return pid;
}

static void end_sqlite(pid_t pid)
{
	int status;

	if (waitpid(pid, &status, 0) != pid || status)
		errx(1, "sqlite3 ended with status %#x", status);
}

/* What sqlite3 prints, without the last newline. */
static const char *ask(const char *database, const char *sql)
{
	static char answer[4096];
	size_t length = 0;
	ssize_t got;
	int out[2];
	pid_t pid;

	if (pipe2(out, O_CLOEXEC))
		err(1, "pipe");
	pid = start_sqlite(database, sql, -1, out[1]);
	close(out[1]);
	while ((got = read(out[0], answer + length, sizeof(answer) - 1 - length)) > 0)
		length += got;
	close(out[0]);
	end_sqlite(pid);
	answer[length] = '\0';
	answer[strcspn(answer, "\n")] = '\0';
	return answer;
}

static unsigned long number(const char *database, const char *sql)
{
	return strtoul(ask(database, sql), NULL, 10);
}

/* Move money from account to account, for as long as there is somebody who does it. */
static void *tell(void *arg)
{
	static const char move[] =
		"BEGIN IMMEDIATE;"
		"UPDATE account SET balance = balance - 1 WHERE id = %d;"
		"UPDATE blob SET data = randomblob(4000) WHERE id = %d;"
		"UPDATE account SET balance = balance + 1 WHERE id = %d;"
		"INSERT INTO moved DEFAULT VALUES; COMMIT;\n";
	int to = *(int *)arg;
	unsigned int seed = 1;

	while (!stop)
		dprintf(to, move,
			rand_r(&seed) % ACCOUNTS, rand_r(&seed) % BLOBS,
			rand_r(&seed) % ACCOUNTS);
	close(to);
	return NULL;
}

static void make_database(void)
{
	char sql[1024];

	snprintf(sql, sizeof(sql),
		 "PRAGMA page_size = 4096; PRAGMA journal_mode = wal;"
		 "CREATE TABLE account(id INTEGER PRIMARY KEY, balance INTEGER);"
		 "CREATE TABLE moved(id INTEGER PRIMARY KEY);"
		 "CREATE TABLE blob(id INTEGER PRIMARY KEY, data);"
		 "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n LIMIT %d) INSERT INTO account SELECT i, %lu FROM n;"
		 "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n LIMIT %d) INSERT INTO blob SELECT i, randomblob(4000) FROM n;",
		 ACCOUNTS, TOTAL / ACCOUNTS, BLOBS);
	ask("live", sql);
}

static int open_file(const char *name, int flags)
{
	int fd = open(name, flags | O_CLOEXEC, 0600);

	if (fd < 0)
		err(1, "%s", name);
	return fd;
}

static unsigned long size_of(int fd)
{
	struct stat st;

	if (fstat(fd, &st))
		err(1, "fstat");
	return st.st_size;
}

/* What df calls used. */
static unsigned long used(void)
{
	struct statfs st;

	if (statfs(".", &st))
		err(1, "statfs");
	return (st.f_blocks - st.f_bfree) * st.f_bsize;
}

/* Give a clone, which has none yet, a name. */
static void name_file(int fd, const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (linkat(AT_FDCWD, path, AT_FDCWD, name, AT_SYMLINK_FOLLOW))
		err(1, "%s", name);
}

/* As cp does it without a reflink; what it costs in memory is told too. */
static unsigned long time_copy(const int *from, unsigned int count, unsigned long *bytes)
{
	static char buffer[1 << 16];
	unsigned long ns = now_ns(), before = used();
	ssize_t got;
	int to;

	*bytes = 0;
	for (unsigned int i = 0; i < count; i++) {
		to = open_file(".", O_TMPFILE | O_RDWR);
		while ((got = read(from[i], buffer, sizeof(buffer))) > 0)
			if (write(to, buffer, got) != got)
				err(1, "write");
		*bytes += used() - before;
		close(to);
		before = used();
	}
	return now_ns() - ns;
}

/* Both files of the database at one instant: what happens meanwhile is in neither. */
static void clone_database(void)
{
	int live[2] = { open_file("live", O_RDONLY), open_file("live-wal", O_RDONLY) };
	int then[2];
	struct cowmem_clone_many many = {
		.fds = (unsigned long)live, .clones = (unsigned long)then, .count = 2,
	};
	unsigned long before = used(), ns = now_ns(), copy_ns, after, copy;

	if (ioctl(live[0], COWMEM_IOC_CLONE_MANY, &many))
		err(1, "COWMEM_IOC_CLONE_MANY");
	ns = now_ns() - ns;
	name_file(then[0], "then");
	name_file(then[1], "then-wal");
	after = used();
	copy_ns = time_copy(then, 2, &copy);
	printf("    both files, %.1f MiB, cloned at one instant in %.2f ms; to copy them takes %.2f ms\n"
	       "    df says %.2f MiB are used before, and %.2f MiB after; a copy takes %.2f MiB\n",
	       mib(size_of(then[0]) + size_of(then[1])), ms(ns), ms(copy_ns), mib(before),
	       mib(after), mib(copy));
	for (unsigned int i = 0; i < 2; i++) {
		close(live[i]);
		close(then[i]);
	}
}

static bool sound(const char *database)
{
	return !strcmp(ask(database, "PRAGMA integrity_check"), "ok");
}

static unsigned long moved(const char *database)
{
	return number(database, "SELECT count(*) FROM moved");
}

/* As cp --reflink=always does it. */
static void go_back(void)
{
	int from = open_file("then", O_RDONLY), to = open_file("live", O_RDWR);
	unsigned long ns = now_ns();

	if (ioctl(to, FICLONE, from))
		err(1, "FICLONE");
	ns = now_ns() - ns;
	printf("    the file is what it was then, after %.2f ms\n", ms(ns));
	close(from);
	close(to);
}

int main(void)
{
	unsigned long in_clone, in_live;
	int sql[2], nothing;
	pthread_t teller;
	pid_t writer;

	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGPIPE, SIG_IGN);
	if (mount("demo", "/mnt", "cowmem", 0, "size=256m") || chdir("/mnt"))
		err(1, "mount -t cowmem");
	printf("9. A file system: mount -t cowmem. Debian's sqlite3, which knows nothing of it, keeps a\n"
	       "   database there and moves money without a pause; clone that under its hands.\n");
	make_database();
	nothing = open_file("/dev/null", O_WRONLY);
	if (pipe2(sql, O_CLOEXEC))
		err(1, "pipe");
	writer = start_sqlite("live", NULL, sql[0], nothing);
	close(sql[0]);
	if (pthread_create(&teller, NULL, tell, &sql[1]))
		err(1, "pthread_create");
	while (moved("live") < 100) {
		if (waitpid(writer, NULL, WNOHANG))
			errx(1, "the sqlite3 that writes has ended");
		usleep(10 * 1000);
	}
	clone_database();

	check(sound("then"), "PRAGMA integrity_check of the clone says ok");
	check(number("then", "SELECT sum(balance) FROM account") == TOTAL,
	      "no money is lost in the clone");
	in_clone = moved("then");
	in_live = moved("live");
	printf("    %lu transactions are in the clone, and %lu in the database by now\n", in_clone,
	       in_live);
	check(in_live > in_clone && in_clone >= 100, "the writer kept writing");

	printf("10. Something went wrong: close the database and go back to the clone.\n");
	stop = true;
	pthread_join(teller, NULL);
	end_sqlite(writer);
	go_back();
	check(sound("live"), "PRAGMA integrity_check says ok");
	check(moved("live") == in_clone, "it has the transactions of the clone, no more");
	if (chdir("/") || umount("/mnt"))
		err(1, "umount");
	return 0;
}
