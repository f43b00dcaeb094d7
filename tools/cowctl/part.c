// SPDX-License-Identifier: GPL-2.0-only
/*
 * A file that gets its name last
 *
 * Until it is whole it is called .NAME.part, so that it is found again when the receiver is started again. Who makes it
 * holds a lock on it, which goes with the process, however that ends.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <xxhash.h>

#include "transfer.h"

#define PART_ATTR	"user.cowmem.part"

/* ---- if a signal ends us ---- */

static const int signals[] = { SIGINT, SIGTERM, SIGHUP };

static struct {
	struct part *part;
	char *words;
} unfinished;

bool part_is_kept(const struct part *part)
{
	return part->resumable && part->state.position;
}

/* What nobody can go on with does not stay. All calls here are such as a handler may make. */
static void on_signal(int number)
{
	struct part *part = unfinished.part;
	ssize_t n = 0;

	if (part && part_is_kept(part))
		n = write(STDERR_FILENO, unfinished.words, strlen(unfinished.words));
	else if (part)
		part_remove(part);
	(void)n;
	/* SA_RESETHAND: this one ends us, as soon as we return. */
	raise(number);
}

static void watch_signals(struct part *part)
{
	struct sigaction action = { .sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND }, old;
	char *text = must_printf("cowctl: %s: %s", part->place->path, PART_KEPT), *safe = safe_string(text);
	size_t i;

	unfinished.words = must_printf("%s\n", safe);
	unfinished.part = part;
	free(safe);
	free(text);
	for (i = 0; i < sizeof(signals) / sizeof(*signals); i++)
		if (!sigaction(signals[i], NULL, &old) && old.sa_handler != SIG_IGN)
			sigaction(signals[i], &action, NULL);
}

static void unwatch_signals(const struct part *part)
{
	if (unfinished.part != part)
		return;
	unfinished.part = NULL;
	free(unfinished.words);
	unfinished.words = NULL;
}

/* ---- the file ---- */

/* One that is as long as a name can be leaves no room: its beginning, then, and a sum, so that it is its own. */
static char *part_name(const char *name)
{
	size_t length = strlen(name), beginning = NAME_MAX - strlen(".-.part") - 16;

	if (length + strlen("..part") <= NAME_MAX)
		return must_printf(".%s.part", name);
	/* Some file systems want whole characters, of UTF-8. */
	while (beginning && (name[beginning] & 0xc0) == 0x80)
		beginning--;
	return must_printf(".%.*s-%016" PRIx64 ".part", (int)beginning, name, (uint64_t)XXH64(name, length, 0));
}

static void part_init(struct part *part, const struct place *place)
{
	*part = (struct part) { .place = place, .fd = -1 };
	part->name = part_name(place->name);
}

void part_close(struct part *part)
{
	unwatch_signals(part);
	if (part->fd >= 0)
		close(part->fd);
	free(part->name);
	part->fd = -1;
	part->name = NULL;
}

bool part_is_current(const struct part *part)
{
	struct stat opened, named;

	return !fstat(part->fd, &opened) && !fstatat(part->place->dir, part->name, &named, AT_SYMLINK_NOFOLLOW) &&
	       opened.st_dev == named.st_dev && opened.st_ino == named.st_ino;
}

/* Nobody removes or renames a part without its lock, or it could be somebody else's new one. */
int part_remove(struct part *part)
{
	return part_is_current(part) ? unlinkat(part->place->dir, part->name, 0) : 0;
}

static int part_lock(struct part *part)
{
	if (flock(part->fd, LOCK_EX | LOCK_NB))
		return errno == EWOULDBLOCK ?
			complain(part->place->path, "another cowctl is making it right now; wait for that to end") :
			complain(part->place->path, "its part %s can not be locked: %s", part->name, strerror(errno));
	if (!part_is_current(part))
		return complain(part->place->path, "another cowctl was making it just now; try again");
	return 0;
}

/* Where it stands, if it says that. */
static int part_read_state(struct part *part)
{
	char text[TOKEN_TEXT];
	ssize_t length = fgetxattr(part->fd, PART_ATTR, text, sizeof(text) - 1);

	if (length < 0)
		return -1;
	text[length] = '\0';
	return token_parse(text, &part->state);
}

/* Its id is the last that it gets before its name. */
static bool part_is_whole(const struct part *part)
{
	struct stream_id id;

	return !id_get(part->fd, &id) && stream_id_equal(&id, &part->state.id);
}

/* What others put there would be taken for what was checked here. */
static int part_is_ours(const struct part *part)
{
	struct stat st;

	if (!fstat(part->fd, &st) && S_ISREG(st.st_mode) && st.st_uid == geteuid())
		return 0;
	return complain(part->place->path, "its part %s is somebody else's; remove it, or choose another name",
			part->name);
}

/* What others may write to, or have by another name, may hold anything: it is not gone on with. */
static int part_is_untouched(const struct part *part)
{
	struct stat st;

	if (!fstat(part->fd, &st) && !(st.st_mode & 022) && st.st_nlink == 1)
		return 0;
	return complain(part->place->path, "its part %s has another name, or others may write to it; give it up: cowctl "
			"receive --abort", part->name);
}

static int part_open_file(struct part *part, int mode)
{
	part->fd = openat(part->place->dir, part->name, mode | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	return part->fd;
}

/*
 * Open and lock what has the name now; what is frozen may be opened for reading alone. Returns 1, 0 if nothing has, or
 * -1 after it was said why.
 */
static int part_open(struct part *part, bool *writable)
{
	*writable = part_open_file(part, O_RDWR) >= 0;
	if (!*writable && (errno == EACCES || errno == EPERM))
		part_open_file(part, O_RDONLY);
	if (part->fd < 0 && errno == ENOENT)
		return 0;
	if (part->fd < 0)
		return complain(part->place->path, "its part %s can not be opened: %s", part->name, strerror(errno));
	return part_is_ours(part) || part_lock(part) ? -1 : 1;
}

int part_find(struct part *part, const struct place *place)
{
	bool writable;
	int found;

	part_init(part, place);
	found = part_open(part, &writable);
	if (found > 0 && !part_read_state(part)) {
		if (part_is_untouched(part)) {
			part_close(part);
			return -1;
		}
		part->whole = part_is_whole(part);
		/* What is frozen has all that is to be written, or somebody else has done that. */
		part->resumable = part->whole || writable || is_frozen(part->fd);
	}
	if (part->resumable) {
		watch_signals(part);
		return 1;
	}
	/* There is none, or it has not come far enough to say where it stands. */
	part_close(part);
	return found < 0 ? -1 : 0;
}

/* Is it marked as made by cowctl, or is nothing lost with it? */
static bool may_be_cleared(const struct part *part)
{
	struct stat st;

	return fgetxattr(part->fd, PART_ATTR, NULL, 0) >= 0 || (!fstat(part->fd, &st) && !st.st_size);
}

/* @asked: the user has said that it may go, whoever made it. */
static int clear(const struct place *place, bool asked)
{
	struct part part;
	bool writable;
	int found;

	part_init(&part, place);
	found = part_open(&part, &writable);
	if (found > 0 && !asked && !may_be_cleared(&part))
		found = complain(place->path, "%s is there, and it can not be seen that cowctl made it; look at it, and "
				 "remove it", part.name);
	else if (found > 0 && part_remove(&part))
		found = complain(place->path, "its part %s can not be removed: %s", part.name, strerror(errno));
	part_close(&part);
	return found;
}

int part_clear(const struct place *place)
{
	return clear(place, true);
}

/* The mark says whose it is, until part_keep() says where it stands. */
static int part_create(struct part *part)
{
	const struct place *place = part->place;

	part->fd = openat(place->dir, part->name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (part->fd < 0)
		return complain_errno(place->path);
	if (part_lock(part))
		return -1;
	attr_set(part->fd, PART_ATTR, "new");
	return 0;
}

/* What has come of a stream is not to be lost by something else of that name. */
static int complain_kept(const struct part *part)
{
	return complain(part->place->path, "its part %s is of a stream that was cut; go on with that, or give it up: "
			"cowctl receive --abort", part->name);
}

int part_make(struct part *part, const struct place *place)
{
	int found = part_find(part, place);

	if (found > 0)
		complain_kept(part);
	if (found)
		goto fail;
	if (clear(place, false) < 0)
		return -1;
	part_init(part, place);
	watch_signals(part);
	if (!part_create(part))
		return 0;
fail:
	part_close(part);
	return -1;
}

int part_keep(struct part *part)
{
	char text[TOKEN_TEXT];

	token_format(&part->state, text);
	return attr_set(part->fd, PART_ATTR, text);
}

int part_seal(struct part *part)
{
	if (!cowmem_is_region(part->fd))
		return fsync(part->fd);
	if (is_frozen(part->fd))
		return 0;
	return cowmem_seal(part->fd, COWMEM_SEAL_SHRINK | COWMEM_SEAL_GROW | COWMEM_SEAL_WRITE | COWMEM_SEAL_SEAL);
}

int part_freeze(struct part *part)
{
	if (part_seal(part) || fchmod(part->fd, 0400))
		return -1;
	return cowmem_is_region(part->fd) ? 0 : fsync(part->fd);
}

/* A name that somebody else took meanwhile is left to them. */
static int part_rename(struct part *part)
{
	const struct place *place = part->place;

	if (!renameat2(place->dir, part->name, place->dir, place->name, RENAME_NOREPLACE))
		return 0;
	if (errno != EINVAL)
		return -1;
	/* Not every file system can do that at once. */
	if (linkat(place->dir, part->name, place->dir, place->name, 0))
		return -1;
	return unlinkat(place->dir, part->name, 0);
}

/* What is to be done with a file that has its name. No signal is heeded, so that it is done. */
static int part_is_named(struct part *part)
{
	const struct place *place = part->place;

	unwatch_signals(part);
	attr_set(part->fd, PART_ATTR, NULL);
	/* Some file systems can not do that with a directory. */
	if (fsync(place->dir) && errno != EINVAL)
		return complain(place->path, "it is there, but may have no name after a crash: %s", strerror(errno));
	return 0;
}

int part_publish(struct part *part)
{
	const struct place *place = part->place;
	sigset_t ending, before;
	size_t i;
	int ret;

	if (!part_is_current(part))
		return complain(place->path, "its part %s was removed or replaced meanwhile; begin again", part->name);
	sigemptyset(&ending);
	for (i = 0; i < sizeof(signals) / sizeof(*signals); i++)
		sigaddset(&ending, signals[i]);
	sigprocmask(SIG_BLOCK, &ending, &before);
	if (!part_rename(part))
		ret = part_is_named(part);
	else
		ret = errno == EEXIST ?
			complain(place->path, "something has got this name meanwhile; remove that, and try again") :
			complain_errno(place->path);
	sigprocmask(SIG_SETMASK, &before, NULL);
	return ret;
}
