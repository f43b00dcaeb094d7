// SPDX-License-Identifier: GPL-2.0-only
/*
 * bank MODE SNAPSHOTS REVERTS: do snapshots and reverts of a database that three connections write hold what they must?
 * bank --cost MIB: what a snapshot and a revert cost, beside sqlite3_backup and VACUUM INTO
 * bank --mount MIB: what a clone of a database's file on a mount costs, beside the same
 *
 * MODE is a journal mode, DELETE or WAL. The writers move money between accounts, so the sum never changes, and count
 * their transactions. A snapshot must be a good database with that sum, and have between the transactions that were
 * done before it and those that are done after it. After a revert to it the same holds of the live database.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <sqlite3.h>

#define WRITERS		3
#define ACCOUNTS	200
#define SUM		(ACCOUNTS * 100L)
#define EXACT		4	/* every so many reverts the writers rest, and all has to be equal */

static atomic_long done;	/* transactions */
static pthread_rwlock_t resting = PTHREAD_RWLOCK_INITIALIZER;
static atomic_bool stop;
static const char *mode;

static void die(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fputs("# ", stdout);
	vprintf(format, args);
	puts("");
	fflush(stdout);
	_exit(1);
}

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1e6 + time.tv_nsec / 1e3;
}

/* ---- SQL ---- */

static int first_value(void *out, int columns, char **values, char **names)
{
	(void)columns;
	(void)names;
	snprintf(out, 128, "%s", values[0] ? values[0] : "");
	return 0;
}

/* Run it; the last row's first value goes to @out, of 128 bytes. Return: the error's text, or NULL. */
static char *try(sqlite3 *db, char *out, const char *format, va_list args)
{
	char *sql = sqlite3_vmprintf(format, args), *error = NULL;

	*out = 0;
	sqlite3_exec(db, sql, first_value, out, &error);
	sqlite3_free(sql);
	return error;
}

static const char *ask(sqlite3 *db, const char *format, ...)
{
	static _Thread_local char out[128];
	char *error;
	va_list args;

	va_start(args, format);
	error = try(db, out, format, args);
	va_end(args);
	if (error)
		die("%s: %s", format, error);
	return out;
}

static void must_fail(sqlite3 *db, const char *format, ...)
{
	char out[128], *error;
	va_list args;

	va_start(args, format);
	error = try(db, out, format, args);
	va_end(args);
	if (!error)
		die("%s: should have failed", format);
	sqlite3_free(error);
}

static sqlite3 *open_db(void)
{
	sqlite3 *db;

	if (sqlite3_open_v2("bank", &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, "cowmem"))
		die("no database: %s", sqlite3_errmsg(db));
	sqlite3_busy_timeout(db, 60000);
	return db;
}

/* The cache is small, so that transactions are in the database before they end. */
static sqlite3 *connect_db(void)
{
	sqlite3 *db = open_db();

	ask(db, "PRAGMA cache_size = 5; PRAGMA wal_autocheckpoint = 50");
	return db;
}

static void load_extension(const char *path)
{
	char *error = NULL;
	sqlite3 *db;

	sqlite3_open(":memory:", &db);
	sqlite3_enable_load_extension(db, 1);
	if (sqlite3_load_extension(db, path, NULL, &error))
		die("%s: %s", path, error);
	sqlite3_close(db);
}

static void create(sqlite3 *db)
{
	ask(db, "PRAGMA journal_mode = %s", mode);
	ask(db, "CREATE TABLE account(id INTEGER PRIMARY KEY, money INT, pad TEXT);"
	    "CREATE TABLE state(n INT); INSERT INTO state VALUES(0);"
	    "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < %d)"
	    "INSERT INTO account SELECT i, 100, hex(randomblob(100)) FROM c;", ACCOUNTS);
}

/* ---- the writers ---- */

static void transfer(sqlite3 *db, unsigned int *seed)
{
	int from = 1 + rand_r(seed) % (ACCOUNTS - 50);

	ask(db, "BEGIN IMMEDIATE; UPDATE state SET n = n + 1;"
	    "UPDATE account SET money = money + CASE id %% 2 WHEN 0 THEN 1 ELSE -1 END, pad = hex(randomblob(100))"
	    "WHERE id BETWEEN %d AND %d; COMMIT", from, from + 49);
	atomic_fetch_add(&done, 1);
}

static void *writer(void *arg)
{
	unsigned int seed = (long)arg;
	sqlite3 *db = connect_db();

	while (!atomic_load(&stop)) {
		pthread_rwlock_rdlock(&resting);
		transfer(db, &seed);
		pthread_rwlock_unlock(&resting);
		usleep(500 + rand_r(&seed) % 1000);
	}
	sqlite3_close(db);
	return NULL;
}

/* ---- what must hold ---- */

/* Of "main" or another schema. Return: how many transactions it has. */
static long check(sqlite3 *db, const char *schema)
{
	const char *answer = ask(db, "PRAGMA %s.integrity_check", schema);

	if (strcmp(answer, "ok"))
		die("%s: integrity_check: %s", schema, answer);
	if (atol(ask(db, "SELECT sum(money) FROM %s.account", schema)) != SUM)
		die("%s: the sum is wrong", schema);
	return atol(ask(db, "SELECT n FROM %s.state", schema));
}

static long attach(sqlite3 *db, const char *name)
{
	ask(db, "ATTACH 'file:%s?vfs=cowmem' AS old", name);
	return check(db, "old");
}

/* The difference between what the database counts and @done, which reverts change. Set while nobody writes. */
static long offset;

static void snapshot(sqlite3 *db, int i)
{
	long before = atomic_load(&done), n;
	char name[32];

	snprintf(name, sizeof(name), "s%d", i);
	ask(db, "SELECT cowmem_snapshot('%s')", name);
	n = attach(db, name) - offset;
	if (n < before || n > atomic_load(&done) + WRITERS)
		die("snapshot %d: has %ld transactions, not between %ld and %ld", i, n, before, atomic_load(&done));
	ask(db, "DETACH old; SELECT cowmem_forget('%s')", name);
}

/* All that there is, as text that depends on each row. */
static void digest(sqlite3 *db, const char *schema, char *out)
{
	snprintf(out, 128, "%s", ask(db, "SELECT sum(id * money) || ' ' || sum(id * unicode(substr(pad, id %% 100 + 1)))"
				     "|| ' ' || (SELECT n FROM %s.state) FROM %s.account", schema, schema));
}

static void same(sqlite3 *db, const char *expected, const char *what)
{
	char seen[128];

	digest(db, "main", seen);
	if (strcmp(seen, expected))
		die("%s sees %s, not %s", what, seen, expected);
}

/*
 * Nobody writes. A connection that remembers pages of what is undone must not use them, be there as many transactions
 * after the revert as were undone. "idle" remembers all; one is undone, and the revert itself is one.
 */
static void revert_pages(sqlite3 *db, sqlite3 *idle, unsigned int *seed)
{
	char then[128], later[128];

	digest(db, "main", then);
	ask(db, "SELECT cowmem_snapshot('exact')");
	transfer(db, seed);
	digest(db, "main", later);
	same(idle, later, "a connection before the revert");
	ask(db, "SELECT cowmem_revert('exact')");
	same(idle, then, "an idle connection after the revert");
	same(db, then, "the connection that reverts");
	transfer(db, seed);
	digest(db, "main", later);
	same(idle, later, "an idle connection after the revert and a transaction");
	ask(db, "SELECT cowmem_forget('exact')");
}

/* The same for the schema: as many changes of it are undone as are done then. */
static void revert_schema(sqlite3 *db, sqlite3 *idle)
{
	sqlite3 *new;

	ask(db, "SELECT cowmem_snapshot('exact'); CREATE TABLE wrong(x); INSERT INTO wrong VALUES(1)");
	ask(idle, "SELECT x FROM wrong");
	ask(db, "SELECT cowmem_revert('exact')");
	new = connect_db();
	ask(new, "CREATE TABLE right(x); INSERT INTO right VALUES(2)");
	must_fail(idle, "SELECT x FROM wrong");
	if (strcmp(ask(idle, "SELECT x FROM right"), "2"))
		die("an idle connection does not see a new table after a revert");
	check(idle, "main");
	sqlite3_close(new);
	ask(db, "DROP TABLE right; SELECT cowmem_forget('exact')");
}

static void revert(sqlite3 *db, sqlite3 *idle, int i, unsigned int *seed)
{
	long then, before, n;

	ask(db, "SELECT cowmem_snapshot('back')");
	then = attach(db, "back");
	ask(db, "DETACH old");
	check(idle, "main");
	usleep(3000);
	before = atomic_load(&done);
	ask(db, "SELECT cowmem_revert('back')");
	n = check(idle, "main");
	if (n < then || n > then + atomic_load(&done) - before + WRITERS)
		die("revert %d to %ld transactions: there are %ld, and %ld were done since", i, then, n,
		    atomic_load(&done) - before);
	ask(db, "SELECT cowmem_forget('back')");
	pthread_rwlock_wrlock(&resting);
	if (i % EXACT == 0) {
		revert_pages(db, idle, seed);
		revert_schema(db, idle);
	}
	offset = check(db, "main") - atomic_load(&done);
	pthread_rwlock_unlock(&resting);
}

static void errors(sqlite3 *db)
{
	must_fail(db, "SELECT cowmem_revert('none')");
	must_fail(db, "SELECT cowmem_forget('none')");
	must_fail(db, "SELECT cowmem_snapshot('')");
	must_fail(db, "SELECT cowmem_snapshot('bank')");
	must_fail(db, "SELECT cowmem_snapshot('x-wal')");
	ask(db, "SELECT cowmem_snapshot('taken')");
	must_fail(db, "SELECT cowmem_snapshot('taken')");
	must_fail(db, "BEGIN; SELECT cowmem_revert('taken')");
	ask(db, "COMMIT");
	must_fail(db, "SELECT cowmem_revert('taken') FROM account");
	ask(db, "SELECT cowmem_forget('taken')");
	check(db, "main");
}

/* Put a byte into the file of the database, past SQLite. */
static void spoil(sqlite3 *db, char byte)
{
	sqlite3_file *file = NULL;

	sqlite3_file_control(db, "main", SQLITE_FCNTL_FILE_POINTER, &file);
	if (!file || file->pMethods->xWrite(file, &byte, 1, 0))
		die("the database's file cannot be written");
}

/* A snapshot that SQLite takes for no database. */
static void snapshot_spoiled(sqlite3 *db)
{
	ask(db, "PRAGMA wal_checkpoint(TRUNCATE)");
	spoil(db, 'X');
	ask(db, "SELECT cowmem_snapshot('spoiled')");
	spoil(db, 'S');
}

/* A revert to it fails, and nothing is lost. The index of a WAL is new, and equal to that of the snapshot. */
static void revert_alone(sqlite3 *db)
{
	unsigned int seed = 6;
	char then[128];

	snapshot_spoiled(db);
	transfer(db, &seed);
	ask(db, "PRAGMA journal_mode = DELETE");
	ask(db, "PRAGMA journal_mode = %s", mode);
	digest(db, "main", then);
	must_fail(db, "SELECT cowmem_revert('spoiled')");
	same(db, then, "the only connection, whose revert failed");
	ask(db, "SELECT cowmem_forget('spoiled')");
}

/* The same with others. Twice, as "idle" remembers then what it saw after the first one. */
static void revert_to_spoiled(sqlite3 *db)
{
	sqlite3 *idle = open_db(), *other = open_db();
	unsigned int seed = 5;
	char then[128];
	int i;

	for (i = 0; i < 2; i++) {
		snapshot_spoiled(db);
		transfer(other, &seed);
		ask(db, "PRAGMA wal_checkpoint(TRUNCATE)");
		digest(db, "main", then);
		must_fail(db, "SELECT cowmem_revert('spoiled')");
		same(db, then, "the connection whose revert failed");
		same(idle, then, "another connection after a revert that failed");
		ask(db, "SELECT cowmem_forget('spoiled')");
	}
	transfer(other, &seed);
	digest(other, "main", then);
	same(idle, then, "another connection, after a transaction");
	same(db, then, "the connection whose revert failed, after a transaction");
	sqlite3_close(idle);
	sqlite3_close(other);
}

/* Connections to one database twice: both see a revert. */
static void revert_attached_twice(sqlite3 *db)
{
	ask(db, "SELECT cowmem_snapshot('twice'); ATTACH 'file:bank?vfs=cowmem' AS again");
	ask(db, "CREATE TABLE again.wrong(x); INSERT INTO main.wrong VALUES(1)");
	ask(db, "SELECT cowmem_revert('twice')");
	must_fail(db, "SELECT * FROM again.wrong");
	must_fail(db, "SELECT * FROM main.wrong");
	check(db, "again");
	ask(db, "DETACH again; SELECT cowmem_forget('twice')");
}

static long parameter(const char *name, long value)
{
	char path[64];
	long was = -1;
	FILE *file;

	snprintf(path, sizeof(path), "/sys/module/cowmem/parameters/%s", name);
	file = fopen(path, value < 0 ? "r" : "r+");
	if (!file || fscanf(file, "%ld", &was) != 1)
		die("no %s", path);
	rewind(file);
	if (value >= 0 && fprintf(file, "%ld", value) < 0)
		die("%s cannot be written", path);
	fclose(file);
	return was;
}

/* Without memory a statement fails as on a full disk, and leaves what there was. */
static void full(sqlite3 *db)
{
	long was = parameter("limit_mib", parameter("held_kib", -1) / 1024 + 1);
	char out[128];
	int code;

	code = sqlite3_exec(db, "CREATE TABLE big(x); INSERT INTO big VALUES(zeroblob(5000000))", first_value, out,
			    NULL);
	if (code != SQLITE_FULL)
		die("with no memory left: %s", sqlite3_errstr(code));
	parameter("limit_mib", was);
	check(db, "main");
	ask(db, "DROP TABLE big");
}

static void run(int snapshots, int reverts)
{
	pthread_t threads[WRITERS];
	sqlite3 *db = connect_db(), *idle;
	unsigned int seed = 7;
	long i;

	create(db);
	errors(db);
	revert_alone(db);
	revert_to_spoiled(db);
	revert_attached_twice(db);
	full(db);
	offset = check(db, "main") - atomic_load(&done);
	/* With a cache that holds all. */
	idle = open_db();
	for (i = 0; i < WRITERS; i++)
		pthread_create(&threads[i], NULL, writer, (void *)(i + 1));
	for (i = 1; i <= snapshots; i++) {
		snapshot(db, i);
		if (i % (snapshots / reverts) == 0)
			revert(db, idle, i / (snapshots / reverts), &seed);
		if (i % 100 == 0)
			printf("# %s: %ld of %d snapshots, %ld transactions\n", mode, i, snapshots, atomic_load(&done));
	}
	atomic_store(&stop, true);
	for (i = 0; i < WRITERS; i++)
		pthread_join(threads[i], NULL);
	check(db, "main");
	printf("# %s: %d snapshots, %d reverts, %ld transactions\n", mode, snapshots, reverts, atomic_load(&done));
}

/* ---- what it costs ---- */

static double timed(sqlite3 *db, const char *sql)
{
	double start = now();

	ask(db, sql);
	return now() - start;
}

static double backup(sqlite3 *db)
{
	double start = now();
	sqlite3_backup *backup;
	sqlite3 *copy;

	sqlite3_open("/tmp/backup", &copy);
	ask(copy, "PRAGMA synchronous = OFF; PRAGMA journal_mode = OFF");
	backup = sqlite3_backup_init(copy, "main", db, "main");
	if (!backup || sqlite3_backup_step(backup, -1) != SQLITE_DONE || sqlite3_backup_finish(backup))
		die("sqlite3_backup: %s", sqlite3_errmsg(copy));
	sqlite3_close(copy);
	return now() - start;
}

static void fill(sqlite3 *db, int mib)
{
	ask(db, "CREATE TABLE t(i INTEGER PRIMARY KEY, x BLOB); WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1"
	    " FROM c WHERE i < %d) INSERT INTO t SELECT i, zeroblob(3900) FROM c", mib * 256);
}

/* Prints: us of a backup, of VACUUM INTO, of the first snapshot, of one after a transaction, of a revert of one. */
static void cost(int mib)
{
	sqlite3 *db = open_db();
	double copied, vacuumed, first, second;

	ask(db, "PRAGMA journal_mode = WAL");
	fill(db, mib);
	copied = backup(db);
	vacuumed = timed(db, "VACUUM INTO 'file:/tmp/vacuumed?vfs=unix'");
	first = timed(db, "SELECT cowmem_snapshot('a')");
	ask(db, "UPDATE t SET x = zeroblob(3901) WHERE i %% 97 = 1");
	second = timed(db, "SELECT cowmem_snapshot('b')");
	ask(db, "UPDATE t SET x = zeroblob(3902) WHERE i %% 97 = 2");
	printf("%.0f %.0f %.0f %.0f %.0f\n", copied, vacuumed, first, second, timed(db, "SELECT cowmem_revert('b')"));
}

/* A clone of the file while nobody writes it: us for that, all in all. */
static double clone_file(sqlite3 *db, const char *from, const char *to)
{
	double start = now();
	int source, target;

	ask(db, "BEGIN IMMEDIATE");
	source = open(from, O_RDONLY);
	target = open(to, O_RDWR | O_CREAT | O_EXCL, 0600);
	if (source < 0 || target < 0 || ioctl(target, FICLONE, source))
		die("%s cannot be cloned: %s", from, strerror(errno));
	close(target);
	close(source);
	ask(db, "COMMIT");
	return now() - start;
}

/* It is a good database of as many rows, of which so many have values of that length. */
static void check_clone(const char *path, int rows, int length, int count)
{
	sqlite3 *db;

	if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, "unix"))
		die("%s: %s", path, sqlite3_errmsg(db));
	if (strcmp(ask(db, "PRAGMA integrity_check"), "ok") || atoi(ask(db, "SELECT count(*) FROM t")) != rows ||
	    atoi(ask(db, "SELECT count(*) FROM t WHERE length(x) = %d", length)) != count)
		die("%s is not what was cloned", path);
	sqlite3_close(db);
}

/* On a mount, without the extension. Prints: us of a backup, of VACUUM INTO, of a clone, of one after a transaction. */
static void cost_on_mount(int mib)
{
	double copied, vacuumed, first, second;
	int changed;
	sqlite3 *db;

	if ((mkdir("/m", 0700) && errno != EEXIST) || mount("cowmem", "/m", "cowmem", 0, "size=0"))
		die("no mount: %s", strerror(errno));
	if (sqlite3_open_v2("/m/live", &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, "unix"))
		die("no database: %s", sqlite3_errmsg(db));
	fill(db, mib);
	copied = backup(db);
	vacuumed = timed(db, "VACUUM INTO '/tmp/vacuumed'");
	first = clone_file(db, "/m/live", "/m/a");
	ask(db, "UPDATE t SET x = zeroblob(3901) WHERE i %% 97 = 1");
	changed = sqlite3_changes(db);
	second = clone_file(db, "/m/live", "/m/b");
	ask(db, "DELETE FROM t WHERE i < 100");
	check_clone("/m/a", mib * 256, 3901, 0);
	check_clone("/m/b", mib * 256, 3901, changed);
	sqlite3_close(db);
	umount("/m");
	printf("%.0f %.0f %.0f %.0f\n", copied, vacuumed, first, second);
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	sqlite3_config(SQLITE_CONFIG_URI, 1);
	load_extension("/client/cowmem_vfs.so");
	if (argc == 3 && !strcmp(argv[1], "--cost"))
		return cost(atoi(argv[2])), 0;
	if (argc == 3 && !strcmp(argv[1], "--mount"))
		return cost_on_mount(atoi(argv[2])), 0;
	if (argc != 4 || atoi(argv[2]) < atoi(argv[3]) || atoi(argv[3]) < 1)
		die("usage: bank MODE SNAPSHOTS REVERTS, or bank --cost|--mount MIB");
	mode = argv[1];
	run(atoi(argv[2]), atoi(argv[3]));
	return 0;
}
