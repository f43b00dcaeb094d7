// SPDX-License-Identifier: GPL-2.0-only
/*
 * cowmem_vfs.so, a loadable extension of SQLite: databases in memory that can be snapshotted and reverted in use
 *
 * Database, journal and WAL of one name are in one region of cowmem, so that a clone of the region is a cut through all
 * of them. SQLite finds in it what it would find after a power failure, and knows how to go on from there. Sizes are in
 * the region as well. Locks, and the index of a WAL, are in ordinary memory: connections are those of one process.
 *
 *	cowmem_snapshot(NAME)	keep what is committed now as database NAME, to be opened or attached like any other
 *	cowmem_revert(NAME)	make this database that again, for all its connections
 *	cowmem_forget(NAME)	drop a snapshot
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <sqlite3ext.h>
#include <libcowmem.h>

SQLITE_EXTENSION_INIT1

enum kind { DB, JOURNAL, WAL, KINDS };

/* Where each file begins in the region, and how long it may be; before the first one are the sizes. */
#define WINDOW		(64LL << 30)
#define START(kind)	(((kind) + 1) * WINDOW)

#define SHM_PAGES	4096	/* of the index of a WAL */
#define SHM_PAGE	32768	/* bytes */
#define REVERT_SECONDS	10	/* to wait for those who are in a transaction */

/* The first bytes of the region. */
struct head {
	int64_t size[KINDS];
	int64_t exists[KINDS];
};

struct file;

struct store {
	struct store *next;
	char *name;
	int region;		/* -1: a snapshot that nobody has opened */
	int snapshot;		/* what it begins with when it is opened, or -1: it is no snapshot */
	struct head head;	/* as in the region */
	struct file *files;	/* those that are databases */
	int users;		/* files that are open */
	pthread_mutex_t lock;	/* of all that is here, but for next, name and snapshot */
	pthread_cond_t idle;	/* a lock was dropped, or reverter has done */
	struct file *reverter;	/* nobody else may begin a transaction */
	void *shm[SHM_PAGES];
};

struct file {
	sqlite3_file base;
	struct store *store;
	struct file *next;
	enum kind kind;
	int level;		/* SQLITE_LOCK_* */
	bool has_index;
	unsigned int shared, exclusive;	/* locks on the index, a bit each */
};

static struct store *stores;
static pthread_mutex_t stores_lock = PTHREAD_MUTEX_INITIALIZER;
static sqlite3_vfs vfs, *base_vfs;

/* ---- names ---- */

static bool ends_with(const char *name, const char *end)
{
	size_t length = strlen(name), n = strlen(end);

	return length > n && !strcmp(name + length - n, end);
}

static enum kind kind_of(const char *name, size_t *length)
{
	static const char *const ends[KINDS] = { [JOURNAL] = "-journal", [WAL] = "-wal" };
	enum kind kind;

	*length = strlen(name);
	for (kind = JOURNAL; kind < KINDS; kind++)
		if (ends_with(name, ends[kind])) {
			*length -= strlen(ends[kind]);
			return kind;
		}
	return DB;
}

/* Needs stores_lock. A name begins with the slash that SQLite wants of a full path, or lacks it. */
static struct store *find(const char *name, size_t length)
{
	struct store *store;

	if (length && *name == '/') {
		name++;
		length--;
	}
	for (store = stores; store; store = store->next)
		if (strlen(store->name) == length && !memcmp(store->name, name, length))
			break;
	return store;
}

/* ---- stores ---- */

/* What was written in part found no memory for the rest. */
static int put(struct store *store, const void *data, int count, int64_t offset)
{
	ssize_t done = pwrite(store->region, data, count, offset);

	if (done == count)
		return SQLITE_OK;
	return done >= 0 || errno == ENOSPC || errno == ENOMEM ? SQLITE_FULL : SQLITE_IOERR_WRITE;
}

/* In memory it changes when the region's has: that is what a snapshot has, and both say the same. */
static int put_head(struct store *store, const struct head *head)
{
	int result = put(store, head, sizeof(*head), 0);

	if (!result)
		store->head = *head;
	return result;
}

static int get_head(struct store *store)
{
	return pread(store->region, &store->head, sizeof(store->head), 0) == sizeof(store->head) ? SQLITE_OK :
		SQLITE_IOERR_READ;
}

/* Needs stores_lock. */
static struct store *store_new(const char *name)
{
	struct store *store = calloc(1, sizeof(*store));

	if (!store)
		return NULL;
	store->name = strdup(name + (*name == '/'));
	if (!store->name) {
		free(store);
		return NULL;
	}
	store->region = store->snapshot = -1;
	pthread_mutex_init(&store->lock, NULL);
	pthread_cond_init(&store->idle, NULL);
	store->next = stores;
	stores = store;
	return store;
}

/* Needs stores_lock; nobody uses it. */
static void store_free(struct store *store)
{
	struct store **link = &stores;

	while (*link != store)
		link = &(*link)->next;
	*link = store->next;
	if (store->snapshot >= 0)
		close(store->snapshot);
	pthread_mutex_destroy(&store->lock);
	pthread_cond_destroy(&store->idle);
	free(store->name);
	free(store);
}

/* Needs stores_lock. The first one to open it: a clone of a snapshot, which can be written, or something empty. */
static int store_begin(struct store *store)
{
	if (store->snapshot >= 0)
		store->region = cowmem_clone(store->snapshot, 0);
	else
		store->region = cowmem_create("sqlite", START(KINDS), 0);
	if (store->region < 0) {
		sqlite3_log(SQLITE_CANTOPEN, "cowmem: %s: %s", store->name, cowmem_strerror(errno));
		return SQLITE_CANTOPEN;
	}
	return get_head(store);
}

static void drop_index(struct store *store)
{
	int i;

	for (i = 0; i < SHM_PAGES; i++) {
		free(store->shm[i]);
		store->shm[i] = NULL;
	}
}

/* Needs stores_lock. The last one has closed it. */
static void store_end(struct store *store)
{
	close(store->region);
	store->region = -1;
	drop_index(store);
	if (store->snapshot < 0)
		store_free(store);
}

/* ---- content ---- */

static int xRead(sqlite3_file *base, void *data, int count, sqlite3_int64 offset)
{
	struct file *file = (struct file *)base;
	struct store *store = file->store;
	int64_t have;

	pthread_mutex_lock(&store->lock);
	have = store->head.size[file->kind] - offset;
	pthread_mutex_unlock(&store->lock);
	have = have < 0 ? 0 : have > count ? count : have;
	if (have && pread(store->region, data, have, START(file->kind) + offset) != have)
		return SQLITE_IOERR_READ;
	if (have == count)
		return SQLITE_OK;
	memset((char *)data + have, 0, count - have);
	return SQLITE_IOERR_SHORT_READ;
}

/* First the content, then the size: in a cut there is never a size without its content. */
static int xWrite(sqlite3_file *base, const void *data, int count, sqlite3_int64 offset)
{
	struct file *file = (struct file *)base;
	struct store *store = file->store;
	struct head head;
	int result;

	if (offset + count > WINDOW)
		return SQLITE_FULL;
	result = put(store, data, count, START(file->kind) + offset);
	if (result)
		return result;
	pthread_mutex_lock(&store->lock);
	head = store->head;
	if (offset + count > head.size[file->kind]) {
		head.size[file->kind] = offset + count;
		result = put_head(store, &head);
	}
	pthread_mutex_unlock(&store->lock);
	return result;
}

static int set_size(struct store *store, enum kind kind, int64_t size, bool exists)
{
	struct head head;
	int64_t was;
	int result;

	pthread_mutex_lock(&store->lock);
	head = store->head;
	was = head.size[kind];
	head.size[kind] = size;
	head.exists[kind] = exists;
	result = put_head(store, &head);
	pthread_mutex_unlock(&store->lock);
	if (!result && size < was && cowmem_discard(store->region, START(kind) + size, was - size))
		result = SQLITE_IOERR_TRUNCATE;
	return result;
}

static int xTruncate(sqlite3_file *base, sqlite3_int64 size)
{
	struct file *file = (struct file *)base;

	return size > WINDOW ? SQLITE_FULL : set_size(file->store, file->kind, size, true);
}

static int xSync(sqlite3_file *base, int flags)
{
	(void)base;
	(void)flags;
	return SQLITE_OK;
}

static int xFileSize(sqlite3_file *base, sqlite3_int64 *size)
{
	struct file *file = (struct file *)base;

	pthread_mutex_lock(&file->store->lock);
	*size = file->store->head.size[file->kind];
	pthread_mutex_unlock(&file->store->lock);
	return SQLITE_OK;
}

static int xControl(sqlite3_file *base, int op, void *arg)
{
	(void)base, (void)op, (void)arg;
	return SQLITE_NOTFOUND;
}

static int xSectorSize(sqlite3_file *base)
{
	(void)base;
	return 4096;
}

/* What a cut shows: writes in their order, and of one write a part. */
static int xDevice(sqlite3_file *base)
{
	(void)base;
	return SQLITE_IOCAP_SAFE_APPEND | SQLITE_IOCAP_SEQUENTIAL | SQLITE_IOCAP_POWERSAFE_OVERWRITE;
}

/* ---- locks ---- */

/* With a WAL a connection keeps a shared lock on the database for good; its transactions lock the index. */
static bool in_transaction(const struct file *file)
{
	return file->shared || file->exclusive || file->level > SQLITE_LOCK_SHARED ||
		(file->level == SQLITE_LOCK_SHARED && !file->has_index);
}

/* Needs the store's lock. Who is in a transaction goes on, so that it ends; who begins one waits. */
static void wait_for_revert(struct file *file)
{
	struct store *store = file->store;

	while (store->reverter && store->reverter != file && !in_transaction(file))
		pthread_cond_wait(&store->idle, &store->lock);
}

/* Needs the store's lock. The highest lock that others have. */
static int others_level(const struct file *file, int *readers)
{
	const struct file *other;
	int level = SQLITE_LOCK_NONE;

	*readers = 0;
	for (other = file->store->files; other; other = other->next)
		if (other != file) {
			*readers += other->level >= SQLITE_LOCK_SHARED;
			if (other->level > level)
				level = other->level;
		}
	return level;
}

static int xLock(sqlite3_file *base, int level)
{
	struct file *file = (struct file *)base;
	int readers, others, result = SQLITE_OK;

	if (file->level >= level)
		return SQLITE_OK;
	pthread_mutex_lock(&file->store->lock);
	wait_for_revert(file);
	others = others_level(file, &readers);
	if (level == SQLITE_LOCK_SHARED) {
		if (others >= SQLITE_LOCK_PENDING)
			result = SQLITE_BUSY;
	} else if (others >= SQLITE_LOCK_RESERVED) {
		result = SQLITE_BUSY;
	} else if (level == SQLITE_LOCK_EXCLUSIVE && readers) {
		file->level = SQLITE_LOCK_PENDING;
		result = SQLITE_BUSY;
	}
	if (!result)
		file->level = level;
	pthread_mutex_unlock(&file->store->lock);
	return result;
}

static int xUnlock(sqlite3_file *base, int level)
{
	struct file *file = (struct file *)base;

	pthread_mutex_lock(&file->store->lock);
	if (file->level > level)
		file->level = level;
	pthread_cond_broadcast(&file->store->idle);
	pthread_mutex_unlock(&file->store->lock);
	return SQLITE_OK;
}

static int xCheckReserved(sqlite3_file *base, int *result)
{
	struct file *file = (struct file *)base;
	int readers;

	pthread_mutex_lock(&file->store->lock);
	*result = file->level >= SQLITE_LOCK_RESERVED || others_level(file, &readers) >= SQLITE_LOCK_RESERVED;
	pthread_mutex_unlock(&file->store->lock);
	return SQLITE_OK;
}

/* ---- the index of a WAL ---- */

static int xShmMap(sqlite3_file *base, int page, int size, int extend, void volatile **out)
{
	struct file *file = (struct file *)base;
	struct store *store = file->store;

	*out = NULL;
	if (page >= SHM_PAGES || size != SHM_PAGE)
		return SQLITE_FULL;
	pthread_mutex_lock(&store->lock);
	if (!store->shm[page] && extend)
		store->shm[page] = calloc(1, SHM_PAGE);
	*out = store->shm[page];
	file->has_index = true;
	pthread_mutex_unlock(&store->lock);
	return *out || !extend ? SQLITE_OK : SQLITE_NOMEM;
}

/* Needs the store's lock. */
static bool shm_locked(const struct file *file, unsigned int mask, bool exclusive)
{
	const struct file *other;

	for (other = file->store->files; other; other = other->next)
		if (other != file && ((other->exclusive & mask) || (exclusive && (other->shared & mask))))
			return true;
	return false;
}

static int xShmLock(sqlite3_file *base, int offset, int count, int flags)
{
	struct file *file = (struct file *)base;
	unsigned int mask = ((1U << count) - 1) << offset;
	bool exclusive = flags & SQLITE_SHM_EXCLUSIVE;
	int result = SQLITE_OK;

	pthread_mutex_lock(&file->store->lock);
	if (flags & SQLITE_SHM_UNLOCK) {
		file->shared &= ~mask;
		file->exclusive &= ~mask;
		pthread_cond_broadcast(&file->store->idle);
	} else {
		wait_for_revert(file);
		if (shm_locked(file, mask, exclusive))
			result = SQLITE_BUSY;
		else if (exclusive)
			file->exclusive |= mask;
		else
			file->shared |= mask;
	}
	pthread_mutex_unlock(&file->store->lock);
	return result;
}

static void xShmBarrier(sqlite3_file *base)
{
	(void)base;
	__sync_synchronize();
}

/* The last one leaves nothing behind: who is next begins with the WAL. */
static int xShmUnmap(sqlite3_file *base, int delete)
{
	struct file *file = (struct file *)base;
	struct store *store = file->store;
	const struct file *other;

	(void)delete;
	pthread_mutex_lock(&store->lock);
	file->has_index = false;
	file->shared = file->exclusive = 0;
	for (other = store->files; other && !other->has_index; )
		other = other->next;
	if (!other)
		drop_index(store);
	pthread_cond_broadcast(&store->idle);
	pthread_mutex_unlock(&store->lock);
	return SQLITE_OK;
}

/* ---- open and close ---- */

static int xClose(sqlite3_file *base)
{
	struct file *file = (struct file *)base, **link;
	struct store *store = file->store;

	pthread_mutex_lock(&stores_lock);
	pthread_mutex_lock(&store->lock);
	for (link = &store->files; *link; link = &(*link)->next)
		if (*link == file) {
			*link = file->next;
			break;
		}
	pthread_cond_broadcast(&store->idle);
	pthread_mutex_unlock(&store->lock);
	if (!--store->users)
		store_end(store);
	pthread_mutex_unlock(&stores_lock);
	return SQLITE_OK;
}

static const sqlite3_io_methods methods = {
	2, xClose, xRead, xWrite, xTruncate, xSync, xFileSize, xLock, xUnlock, xCheckReserved, xControl, xSectorSize,
	xDevice, xShmMap, xShmLock, xShmBarrier, xShmUnmap, NULL, NULL
};

/* Needs stores_lock. */
static int open_in(struct store *store, struct file *file, enum kind kind)
{
	int result = store->users ? SQLITE_OK : store_begin(store);
	struct head head;

	if (result) {
		if (store->region >= 0)
			store_end(store);
		else if (store->snapshot < 0)
			store_free(store);
		return result;
	}
	store->users++;
	file->store = store;
	file->kind = kind;
	pthread_mutex_lock(&store->lock);
	if (kind == DB) {
		file->next = store->files;
		store->files = file;
	}
	head = store->head;
	if (!head.exists[kind]) {
		head.exists[kind] = true;
		result = put_head(store, &head);
	}
	pthread_mutex_unlock(&store->lock);
	file->base.pMethods = &methods;
	return result;
}

static int xOpen(sqlite3_vfs *self, const char *name, sqlite3_file *base, int flags, int *out)
{
	struct file *file = (struct file *)base;
	struct store *store;
	enum kind kind;
	size_t length;
	int result = SQLITE_CANTOPEN;

	(void)self;
	if (!name)
		return base_vfs->xOpen(base_vfs, name, base, flags, out);	/* a temporary file */
	memset(file, 0, sizeof(*file));
	kind = kind_of(name, &length);
	/* No other kind of file, as the journal that spans several databases, and no name that looks like another's. */
	if (!(flags & (const int[]){ SQLITE_OPEN_MAIN_DB, SQLITE_OPEN_MAIN_JOURNAL, SQLITE_OPEN_WAL }[kind]))
		return SQLITE_CANTOPEN;
	pthread_mutex_lock(&stores_lock);
	store = find(name, length);
	if (!store && kind == DB && (flags & SQLITE_OPEN_CREATE))
		store = store_new(name);
	if (store)
		result = open_in(store, file, kind);
	pthread_mutex_unlock(&stores_lock);
	if (!result && out)
		*out = flags;
	return result;
}

static int xDelete(sqlite3_vfs *self, const char *name, int sync)
{
	struct store *store;
	enum kind kind;
	size_t length;

	(void)self;
	(void)sync;
	kind = kind_of(name, &length);
	pthread_mutex_lock(&stores_lock);
	store = find(name, length);
	pthread_mutex_unlock(&stores_lock);
	/* SQLite deletes journals of what it has open, so the store stays. */
	return store && store->region >= 0 ? set_size(store, kind, 0, false) : SQLITE_IOERR_DELETE_NOENT;
}

static int xAccess(sqlite3_vfs *self, const char *name, int flags, int *result)
{
	struct store *store;
	enum kind kind;
	size_t length;

	(void)self;
	(void)flags;
	kind = kind_of(name, &length);
	*result = false;
	pthread_mutex_lock(&stores_lock);
	store = find(name, length);
	if (store && store->region >= 0) {
		pthread_mutex_lock(&store->lock);
		*result = store->head.exists[kind] && (kind == DB || store->head.size[kind]);
		pthread_mutex_unlock(&store->lock);
	}
	pthread_mutex_unlock(&stores_lock);
	return SQLITE_OK;
}

static int xFullPathname(sqlite3_vfs *self, const char *name, int size, char *out)
{
	(void)self;
	sqlite3_snprintf(size, out, "/%s", *name == '/' ? name + 1 : name);
	return SQLITE_OK;
}

/* ---- snapshots ---- */

/* The database of this connection, if it is one of ours. */
static struct file *file_of(sqlite3_context *context)
{
	sqlite3_file *file = NULL;

	sqlite3_file_control(sqlite3_context_db_handle(context), "main", SQLITE_FCNTL_FILE_POINTER, &file);
	if (file && file->pMethods == &methods)
		return (struct file *)file;
	sqlite3_result_error(context, "this database is not in a region: open it with vfs=cowmem", -1);
	return NULL;
}

static const char *name_of(sqlite3_context *context, sqlite3_value *value)
{
	const char *name = (const char *)sqlite3_value_text(value);
	size_t length;

	if (name && *name && *name != '/' && kind_of(name, &length) == DB)
		return name;
	sqlite3_result_error(context,
			     "a snapshot wants a name, without a slash in front or -wal or -journal behind", -1);
	return NULL;
}

static void failed(sqlite3_context *context, const char *what)
{
	char *message = sqlite3_mprintf("%s: %s", what, cowmem_strerror(errno));

	sqlite3_result_error(context, message, -1);
	sqlite3_free(message);
}

static void fn_snapshot(sqlite3_context *context, int argc, sqlite3_value **argv)
{
	struct file *file = file_of(context);
	const char *name = file ? name_of(context, argv[0]) : NULL;
	struct store *store;
	int fd;

	(void)argc;
	if (!name)
		return;
	fd = cowmem_snapshot(file->store->region);
	if (fd < 0)
		return failed(context, "no snapshot");
	pthread_mutex_lock(&stores_lock);
	store = find(name, strlen(name)) ? NULL : store_new(name);
	if (store)
		store->snapshot = fd;
	pthread_mutex_unlock(&stores_lock);
	if (store)
		return sqlite3_result_text(context, name, -1, SQLITE_TRANSIENT);
	close(fd);
	sqlite3_result_error(context, "there is a database or a snapshot of that name", -1);
}

/* A descriptor of a snapshot, which stays while it is used. */
static int snapshot_of(sqlite3_context *context, const char *name)
{
	struct store *store;
	bool there;
	int fd = -1;

	pthread_mutex_lock(&stores_lock);
	store = find(name, strlen(name));
	there = store && store->snapshot >= 0;
	if (there)
		fd = fcntl(store->snapshot, F_DUPFD_CLOEXEC, 0);
	pthread_mutex_unlock(&stores_lock);
	if (fd < 0)
		sqlite3_result_error(context, there ? strerror(errno) : "there is no snapshot of that name", -1);
	return fd;
}

static void fn_forget(sqlite3_context *context, int argc, sqlite3_value **argv)
{
	const char *name = name_of(context, argv[0]), *error = NULL;
	struct store *store;

	(void)argc;
	if (!name)
		return;
	pthread_mutex_lock(&stores_lock);
	store = find(name, strlen(name));
	if (!store || store->snapshot < 0)
		error = "there is no snapshot of that name";
	else if (store->users)
		error = "the snapshot is open or attached";
	else
		store_free(store);
	pthread_mutex_unlock(&stores_lock);
	if (error)
		sqlite3_result_error(context, error, -1);
}

/* ---- revert ---- */

static uint32_t get_be32(const unsigned char *at)
{
	return (uint32_t)at[0] << 24 | at[1] << 16 | at[2] << 8 | at[3];
}

/* Wait until nobody else is in a transaction, and let nobody begin one. */
static bool stop_others(struct file *file)
{
	struct store *store = file->store;
	const struct file *other;
	struct timespec end;
	int error = 0;

	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += REVERT_SECONDS;
	pthread_mutex_lock(&store->lock);
	while (store->reverter && !error)
		error = pthread_cond_timedwait(&store->idle, &store->lock, &end);
	if (!error)
		store->reverter = file;
	for (other = store->files; other && !error; )
		if (other != file && in_transaction(other)) {
			error = pthread_cond_timedwait(&store->idle, &store->lock, &end);
			other = store->files;
		} else {
			other = other->next;
		}
	if (error && store->reverter == file) {
		store->reverter = NULL;
		pthread_cond_broadcast(&store->idle);
	}
	pthread_mutex_unlock(&store->lock);
	return !error;
}

static void let_others_go(struct file *file)
{
	pthread_mutex_lock(&file->store->lock);
	file->store->reverter = NULL;
	pthread_cond_broadcast(&file->store->idle);
	pthread_mutex_unlock(&file->store->lock);
}

/*
 * What tells a connection whether the pages that it remembers are good must have a value that it never had. In a
 * journal mode that is the counter of changes. With a WAL it is the sum of all that is in it, where a number of the
 * schema that was never there before, see settle(), is enough.
 */
static int new_counter(struct store *store, uint32_t counter)
{
	unsigned char bytes[4] = { counter >> 24, counter >> 16, counter >> 8, counter };
	int result;

	result = put(store, bytes, 4, START(DB) + 24);
	return result ? result : put(store, bytes, 4, START(DB) + 92);
}

static int number(void *out, int columns, char **values, char **names)
{
	(void)columns;
	(void)names;
	*(long long *)out = atoll(values[0]);
	return 0;
}

/*
 * The content is that of the snapshot, which may be in the middle of a transaction. A transaction of our own sees to
 * that before others look at it; and it gives the schema a number that it never had, for those who remember one.
 */
static int settle(sqlite3 *db, long long schema)
{
	char *sql = sqlite3_mprintf("PRAGMA main.schema_version = %lld", schema);
	int result = sql ? sqlite3_exec(db, sql, NULL, NULL, NULL) : SQLITE_NOMEM;

	sqlite3_free(sql);
	return result;
}

/* The first 100 bytes of the database in a region. */
static bool get_header(int region, unsigned char *header)
{
	return pread(region, header, 100, START(DB)) == 100;
}

/* What there was before a revert. */
struct before {
	int region;
	int pages;	/* of the index of the WAL */
	char *index;
};

static void forget_before(struct before *before)
{
	free(before->index);
	if (before->region >= 0)
		close(before->region);
}

static bool keep_before(struct store *store, struct before *before)
{
	int i;

	before->region = cowmem_snapshot(store->region);
	for (before->pages = 0; before->pages < SHM_PAGES && store->shm[before->pages]; )
		before->pages++;
	before->index = malloc(((size_t)before->pages + 1) * SHM_PAGE);
	for (i = 0; before->index && i < before->pages; i++)
		memcpy(before->index + (size_t)i * SHM_PAGE, store->shm[i], SHM_PAGE);
	if (before->region >= 0 && before->index)
		return true;
	forget_before(before);
	return false;
}

/* Make the content that of a region. SQLite makes the index anew from the WAL, but for pages that are given. */
static const char *become(struct store *store, int region, const char *index, int pages)
{
	int result, i;

	if (cowmem_restore(store->region, region, 0, NULL))
		return cowmem_strerror(errno);
	pthread_mutex_lock(&store->lock);
	result = get_head(store);
	for (i = 0; i < SHM_PAGES && store->shm[i]; i++)
		if (i < pages)
			memcpy(store->shm[i], index + (size_t)i * SHM_PAGE, SHM_PAGE);
		else
			memset(store->shm[i], 0, SHM_PAGE);
	pthread_mutex_unlock(&store->lock);
	return result ? sqlite3_errstr(result) : NULL;
}

/*
 * The snapshot is no good, or memory is short: all is to be as it was, so that what other connections remember is
 * right. What this one remembers may be of the snapshot.
 */
static const char *undo(sqlite3 *db, struct store *store, const struct before *before, const char *why)
{
	if (become(store, before->region, before->index, before->pages))
		why = "the revert failed half way, and could not be undone";
	sqlite3_db_release_memory(db);
	return why;
}

/* With everybody else stopped. Return: what went wrong, or NULL. */
static const char *revert(sqlite3 *db, struct file *file, int snapshot)
{
	struct store *store = file->store;
	unsigned char now[100], then[100];
	struct before before;
	long long schema = 0;
	const char *error;
	int result;

	if (sqlite3_exec(db, "PRAGMA main.schema_version", number, &schema, NULL))
		return sqlite3_errmsg(db);
	if (!get_header(store->region, now) || !get_header(snapshot, then) || now[18] != then[18])
		return "the snapshot is of another journal mode, or empty";
	if (!keep_before(store, &before))
		return cowmem_strerror(errno);
	error = become(store, snapshot, NULL, 0);
	if (!error) {
		result = settle(db, schema + 1);
		if (!result && now[18] == 1)
			result = new_counter(store, get_be32(now + 24) + 2);
		if (result)
			error = undo(db, store, &before, sqlite3_errstr(result));
	}
	forget_before(&before);
	return error;
}

static void fn_revert(sqlite3_context *context, int argc, sqlite3_value **argv)
{
	sqlite3 *db = sqlite3_context_db_handle(context);
	struct file *file = file_of(context);
	const char *name = file ? name_of(context, argv[0]) : NULL, *error = NULL;
	int snapshot;

	(void)argc;
	if (!name)
		return;
	if (!sqlite3_get_autocommit(db) || in_transaction(file))
		return sqlite3_result_error(context, "this connection is in a transaction", -1);
	snapshot = snapshot_of(context, name);
	if (snapshot < 0)
		return;
	if (stop_others(file)) {
		error = revert(db, file, snapshot);
		if (error)
			sqlite3_result_error(context, error, -1);
		let_others_go(file);
	} else {
		sqlite3_result_error(context, "others are in transactions that do not end", -1);
		sqlite3_result_error_code(context, SQLITE_BUSY);
	}
	close(snapshot);
}

/* ---- start ---- */

static int add_functions(sqlite3 *db)
{
	int flags = SQLITE_UTF8 | SQLITE_DIRECTONLY;
	int result;

	result = sqlite3_create_function(db, "cowmem_snapshot", 1, flags, NULL, fn_snapshot, NULL, NULL);
	if (!result)
		result = sqlite3_create_function(db, "cowmem_revert", 1, flags, NULL, fn_revert, NULL, NULL);
	if (!result)
		result = sqlite3_create_function(db, "cowmem_forget", 1, flags, NULL, fn_forget, NULL, NULL);
	return result;
}

static int on_each_connection(sqlite3 *db, char **error, const sqlite3_api_routines *api)
{
	(void)error;
	(void)api;
	return add_functions(db);
}

static int add_vfs(void)
{
	base_vfs = sqlite3_vfs_find(NULL);
	vfs = *base_vfs;
	vfs.pNext = NULL;
	vfs.zName = "cowmem";
	if (vfs.szOsFile < (int)sizeof(struct file))
		vfs.szOsFile = sizeof(struct file);
	vfs.xOpen = xOpen;
	vfs.xDelete = xDelete;
	vfs.xAccess = xAccess;
	vfs.xFullPathname = xFullPathname;
	return sqlite3_vfs_register(&vfs, 0);
}

/* Named after the file, as SQLite wants it. */
__attribute__((visibility("default")))
int sqlite3_cowmemvfs_init(sqlite3 *db, char **error, const sqlite3_api_routines *api)
{
	int result;

	SQLITE_EXTENSION_INIT2(api);
	if (!sqlite3_vfs_find("cowmem")) {
		result = add_vfs();
		if (!result)
			result = sqlite3_auto_extension((void (*)(void))on_each_connection);
		if (result)
			return result;
	}
	(void)error;
	result = add_functions(db);
	return result ? result : SQLITE_OK_LOAD_PERMANENTLY;
}
