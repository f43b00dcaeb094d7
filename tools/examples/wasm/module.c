// SPDX-License-Identifier: GPL-2.0-only
/*
 * The module: SQLite with a database in its linear memory, as a service that answers requests from a warm state.
 *
 * Everything is the same in each instance, also what is random, so that an instance that was reset can be held against
 * a fresh one. SQLite wants a VFS, if only to have such things from; files there are none.
 */
#include <stdint.h>
#include <string.h>

#include "sqlite3.h"

#define EXPORT(name) __attribute__((export_name(#name)))

/* How many rows a request looks up. */
#define LOOKUPS	64

static sqlite3 *db;
static sqlite3_stmt *begin, *commit, *get, *visit, *import;
static int rows;

/* ---- what SQLite asks its system for ---- */

static int no_file(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *out)
{
	(void)vfs, (void)name, (void)flags, (void)out;
	file->pMethods = NULL;
	return SQLITE_CANTOPEN;
}

static int no_path(sqlite3_vfs *vfs, const char *name, int length, char *out)
{
	(void)vfs, (void)name, (void)length, (void)out;
	return SQLITE_CANTOPEN;
}

static int randomness(sqlite3_vfs *vfs, int length, char *out)
{
	(void)vfs;
	memset(out, 42, length);
	return length;
}

static int current_time(sqlite3_vfs *vfs, sqlite3_int64 *out)
{
	(void)vfs;
	*out = 0;
	return SQLITE_OK;
}

int sqlite3_os_init(void)
{
	static sqlite3_vfs vfs = {
		.iVersion = 2, .szOsFile = sizeof(sqlite3_file), .mxPathname = 64, .zName = "none",
		.xOpen = no_file, .xFullPathname = no_path, .xRandomness = randomness,
		.xCurrentTimeInt64 = current_time,
	};

	return sqlite3_vfs_register(&vfs, 1);
}

int sqlite3_os_end(void)
{
	return SQLITE_OK;
}

/* ---- the service ---- */

static void must(int ok)
{
	if (!ok)
		__builtin_trap();
}

static void run(sqlite3_stmt *stmt)
{
	must(sqlite3_step(stmt) == SQLITE_DONE);
	must(sqlite3_reset(stmt) == SQLITE_OK);
}

static sqlite3_stmt *prepare(const char *sql)
{
	sqlite3_stmt *stmt;

	must(sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) == SQLITE_OK);
	return stmt;
}

/* What takes its time: a table of so many rows, with an index. */
EXPORT(init) void init(int nr_rows)
{
	sqlite3_stmt *fill;

	rows = nr_rows;
	must(sqlite3_open(":memory:", &db) == SQLITE_OK);
	must(sqlite3_exec(db, "CREATE TABLE item(id INTEGER PRIMARY KEY, visits INTEGER, name TEXT);"
			  "CREATE TABLE import(data BLOB); CREATE INDEX by_name ON item(name)",
			  NULL, NULL, NULL) == SQLITE_OK);
	fill = prepare("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT ?) "
		       "INSERT INTO item SELECT i, 0, hex(randomblob(60)) FROM n");
	must(sqlite3_bind_int(fill, 1, rows) == SQLITE_OK);
	run(fill);
	sqlite3_finalize(fill);
	begin = prepare("BEGIN");
	commit = prepare("COMMIT");
	get = prepare("SELECT visits, name FROM item WHERE id = ?");
	visit = prepare("UPDATE item SET visits = visits + 1 WHERE id = ?");
	import = prepare("INSERT INTO import VALUES (zeroblob(?))");
}

static uint32_t hash(uint32_t sum, const unsigned char *text)
{
	while (*text)
		sum = (sum ^ *text++) * 16777619;
	return sum;
}

/* One row: count the visit, if that is asked for, and add what is there to the answer. */
static uint32_t look_up(int id, int write, uint32_t sum)
{
	if (write) {
		must(sqlite3_bind_int(visit, 1, id) == SQLITE_OK);
		run(visit);
	}
	must(sqlite3_bind_int(get, 1, id) == SQLITE_OK);
	must(sqlite3_step(get) == SQLITE_ROW);
	sum = hash(sum + sqlite3_column_int(get, 0), sqlite3_column_text(get, 1));
	must(sqlite3_reset(get) == SQLITE_OK);
	return sum;
}

/*
 * A request: look at rows that @seed chooses, and count the visits if @write is set. The answer depends on all that it
 * saw, and on how many changes there ever were: an instance that was not reset answers differently.
 */
EXPORT(request) uint32_t request(uint32_t seed, int write)
{
	uint32_t sum = 2166136261;
	int i;

	run(begin);
	for (i = 0; i < LOOKUPS; i++) {
		seed = seed * 1103515245 + 12345;
		sum = look_up((seed >> 8) % rows + 1, write, sum);
	}
	run(commit);
	return sum + sqlite3_total_changes(db);
}

/* A request that needs so much memory that there has to be more. */
EXPORT(grow) uint32_t grow(int bytes)
{
	must(sqlite3_bind_int(import, 1, bytes) == SQLITE_OK);
	run(import);
	return sqlite3_total_changes(db);
}

/* A request that goes wrong: looks at what is beyond the end of the memory. */
EXPORT(stray) uint32_t stray(uint32_t address)
{
	return *(volatile uint32_t *)address;
}
