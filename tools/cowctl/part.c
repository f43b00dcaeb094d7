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
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "transfer.h"

#define PART_ATTR	"user.cowmem.part"

static void part_init(struct part *part, const struct place *place)
{
	*part = (struct part) { .place = place, .lock = -1, .fd = -1 };
	part->name = must_printf(".%s.part", place->name);
}

void part_close(struct part *part)
{
	if (part->fd >= 0)
		close(part->fd);
	if (part->lock >= 0)
		close(part->lock);
	free(part->name);
	part->fd = part->lock = -1;
	part->name = NULL;
}

void part_remove(struct part *part)
{
	unlinkat(part->place->dir, part->name, 0);
}

/* Is the file that was opened and locked still the one of that name? */
static bool part_is_current(const struct part *part)
{
	struct stat opened, named;

	return !fstat(part->lock, &opened) && !fstatat(part->place->dir, part->name, &named, AT_SYMLINK_NOFOLLOW) &&
	       opened.st_dev == named.st_dev && opened.st_ino == named.st_ino;
}

static int part_lock(struct part *part)
{
	if (flock(part->lock, LOCK_EX | LOCK_NB))
		return complain(part->place->path, "another cowctl is making it right now; wait for that to end");
	if (!part_is_current(part))
		return complain(part->place->path, "another cowctl was making it just now; try again");
	return 0;
}

/* Where it stands, if it says that. */
static int part_read_state(struct part *part)
{
	char text[TOKEN_TEXT];
	ssize_t length = fgetxattr(part->lock, PART_ATTR, text, sizeof(text) - 1);

	if (length < 0)
		return -1;
	text[length] = '\0';
	return token_parse(text, &part->state);
}

/* What others put there would be taken for what was checked here. */
static int part_is_ours(const struct part *part)
{
	struct stat st;

	if (!fstat(part->lock, &st) && S_ISREG(st.st_mode) && st.st_uid == geteuid())
		return 0;
	return complain(part->place->path, "its part %s is somebody else's; remove it, or choose another name",
			part->name);
}

/* Open and lock what has the name now. Returns 1, 0 if nothing has, or -1 after it was said why. */
static int part_open(struct part *part)
{
	/* What is frozen can be opened for reading alone. */
	part->lock = openat(part->place->dir, part->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (part->lock < 0 && errno == ENOENT)
		return 0;
	if (part->lock < 0)
		return complain(part->place->path, "its part %s can not be opened: %s", part->name, strerror(errno));
	return part_is_ours(part) || part_lock(part) ? -1 : 1;
}

int part_find(struct part *part, const struct place *place)
{
	int found;

	part_init(part, place);
	found = part_open(part);
	if (found <= 0) {
		part_close(part);
		return found;
	}
	if (!part_read_state(part))
		part->fd = openat(place->dir, part->name, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	part->resumable = part->fd >= 0;
	if (part->resumable)
		return 1;
	/* It has not come far enough to say where it stands, or was frozen and ended just before it got its name. */
	part_close(part);
	return 0;
}

/* Nobody removes or renames a part without its lock, or it could be somebody else's new one. */
static int part_clear(struct part *part)
{
	int found = part_open(part);

	if (found > 0)
		part_remove(part);
	if (part->lock >= 0)
		close(part->lock);
	part->lock = -1;
	return found < 0 ? -1 : 0;
}

static int part_create(struct part *part)
{
	const struct place *place = part->place;

	part->fd = openat(place->dir, part->name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (part->fd < 0)
		return complain_errno(place->path);
	part->lock = fcntl(part->fd, F_DUPFD_CLOEXEC, 0);
	if (part->lock < 0)
		return complain_errno(place->path);
	return part_lock(part);
}

int part_make(struct part *part, const struct place *place)
{
	part_init(part, place);
	if (!part_clear(part) && !part_create(part))
		return 0;
	part_close(part);
	return -1;
}

int part_keep(struct part *part)
{
	char text[TOKEN_TEXT];

	token_format(&part->state, text);
	return fsetxattr(part->fd, PART_ATTR, text, strlen(text), 0);
}

void part_forget(struct part *part)
{
	fremovexattr(part->fd, PART_ATTR);
}

int part_freeze(struct part *part)
{
	if (fchmod(part->fd, 0400))
		return -1;
	if (cowmem_is_region(part->fd))
		return cowmem_seal(part->fd, COWMEM_SEAL_SHRINK | COWMEM_SEAL_GROW | COWMEM_SEAL_WRITE |
				   COWMEM_SEAL_SEAL);
	return fsync(part->fd);
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

int part_publish(struct part *part)
{
	if (!part_rename(part))
		return 0;
	if (errno == EEXIST)
		return complain(part->place->path, "something has got this name meanwhile; choose another");
	return complain_errno(part->place->path);
}
