// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * With a module that is older than the library, or newer
 *
 * ioctl() here stands between the library and the module that is loaded, and does what an older one would: it knows no
 * more than the first published fields of each struct, as <linux/cowmem.h> has it (a longer one is taken if the rest is
 * zero, else E2BIG), and not the calls and flags that came later.
 *
 * Or it does what a newer one would: its structs are longer, and it says of itself and of regions what this library has
 * no names for. Needs the module, and root.
 */
#include <stdarg.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "tap.h"

#define PAGE	page_size()
#define UP_TO(type, field) (offsetof(struct type, field) + sizeof(((struct type *)0)->field))

/* Size of each struct as it was at first; 0: no such call. */
static size_t first_size[16] = {
	[0] = UP_TO(cowmem_info, clones),
	[1] = sizeof(struct cowmem_resize),
	[2] = sizeof(struct cowmem_seal),
	[3] = sizeof(struct cowmem_clone),
	[4] = sizeof(struct cowmem_discard),
	[5] = UP_TO(cowmem_restore, kept),
	[6] = sizeof(struct cowmem_diff),
	[7] = sizeof(struct cowmem_copy),
	[10] = sizeof(struct cowmem_file),
};

/* Flags that came later, where the first field is the flags. */
static uint32_t later_flags[16] = {
	[3] = COWMEM_CLONE_EXPENDABLE,
};

static bool newer;

/* What all descriptors answer: a server of FUSE chooses that for its directories and devices. */
static bool lies;
static int lie;

/* Bits of a later version. */
#define LATER_FEATURE	(1ULL << 63)
#define LATER_STATE	(1ULL << 62)
/* By how much its structs are longer. */
#define LATER_SIZE	64

int __real_ioctl(int fd, unsigned long cmd, ...);
int __wrap_ioctl(int fd, unsigned long cmd, ...);

/* What @user does not have counts as zero, and is not written back. */
static int newer_ioctl(int fd, unsigned long cmd, void *user)
{
	struct cowmem_info *info = user;
	char args[256] = { 0 };
	unsigned long longer = _IOC(_IOC_DIR(cmd), COWMEM_IOC_TYPE, _IOC_NR(cmd), _IOC_SIZE(cmd) + LATER_SIZE);
	int ret;

	memcpy(args, user, _IOC_SIZE(cmd));
	ret = __real_ioctl(fd, longer, args);
	memcpy(user, args, _IOC_SIZE(cmd));
	if (!ret && _IOC_NR(cmd) == _IOC_NR(COWMEM_IOC_INFO)) {
		info->features |= LATER_FEATURE;
		info->state |= LATER_STATE;
	}
	return ret;
}

static int lying_ioctl(unsigned long cmd, void *user)
{
	if (cmd == COWMEM_IOC_FILE) {
		((struct cowmem_file *)user)->fd = lie;
		return 0;
	}
	errno = EOPNOTSUPP;
	return -1;
}

int __wrap_ioctl(int fd, unsigned long cmd, ...)
{
	unsigned int nr = _IOC_NR(cmd) & 15, size = _IOC_SIZE(cmd), known = first_size[nr], i;
	char args[256] = { 0 };
	va_list list;
	char *user;
	int ret;

	va_start(list, cmd);
	user = va_arg(list, char *);
	va_end(list);
	if (_IOC_TYPE(cmd) != COWMEM_IOC_TYPE)
		return __real_ioctl(fd, cmd, user);
	if (lies)
		return lying_ioctl(cmd, user);
	if (newer)
		return newer_ioctl(fd, cmd, user);
	errno = ENOTTY;
	if (!known)
		return -1;
	errno = E2BIG;
	for (i = known; i < size; i++)
		if (user[i])
			return -1;
	memcpy(args, user, size < known ? size : known);
	errno = EOPNOTSUPP;
	if (*(uint32_t *)args & later_flags[nr])
		return -1;
	ret = __real_ioctl(fd, _IOC(_IOC_DIR(cmd), COWMEM_IOC_TYPE, nr, known), args);
	memcpy(user, args, size < known ? size : known);
	return ret;
}

/* What it does not know of itself is 0. */
static void info(void)
{
	int fd = make(3 * PAGE);
	struct cowmem_info info;
	uint64_t features;

	put(fd, 0, 'a');
	memset(&info, 0xff, sizeof(info));
	EQUAL(cowmem_get_info(fd, &info), 0);
	EQUAL(info.size, 3 * PAGE);
	EQUAL(info.pages_populated, 1);
	EQUAL(info.features, 0);
	EQUAL(info.state, 0);
	EQUAL(info.pages_huge, 0);
	EQUAL(cowmem_features(&features), 0);
	EQUAL(features, 0);
	close(fd);
}

static void restore(void)
{
	int fd = make(3 * PAGE), snapshot = cowmem_snapshot(fd);

	put(fd, 0, 'a');
	put(fd, PAGE, 'b');
	/* Ranges came later: nothing is restored then, rather than everything. */
	ERRNO(cowmem_restore_range(fd, snapshot, PAGE, PAGE, NULL), EOPNOTSUPP);
	EQUAL(get(fd, 0), 'a');
	EQUAL(get(fd, PAGE), 'b');
	EQUAL(cowmem_restore(fd, snapshot, 0, NULL), 0);
	EQUAL(get(fd, 0), 0);
	close(snapshot);
	close(fd);
}

static void flags(void)
{
	int fd = make(PAGE), clone;

	ERRNO(cowmem_clone(fd, COWMEM_CLONE_SNAPSHOT | COWMEM_CLONE_EXPENDABLE), EOPNOTSUPP);
	clone = cowmem_clone(fd, COWMEM_CLONE_SNAPSHOT);
	CHECK(clone >= 0);
	close(clone);
	close(fd);
}

/* A call that it does not know at all: of a region that is "too old", of anything else "no region". */
static void calls(void)
{
	int fd = make(PAGE), null = open("/dev/null", O_RDWR), clone;
	struct cowmem_merger *m = cowmem_merger_new(0);

	ERRNO(cowmem_clone_many(&fd, &clone, 1, 0), EOPNOTSUPP);
	ERRNO(cowmem_clone_many(&null, &clone, 1, 0), ENOTTY);
	EQUAL(cowmem_merger_add(m, fd, 0, 0), 0);
	ERRNO(cowmem_merger_step(m, 0, NULL), EOPNOTSUPP);
	cowmem_merger_free(m);
	close(null);
	close(fd);
}

static void no_files(void)
{
	int device = open("/dev/cowmem", O_RDWR), before = count_fds();

	first_size[10] = 0;
	ERRNO(cowmem_create("x", PAGE, 0), EOPNOTSUPP);
	EQUAL(count_fds(), before);
	CHECK(!cowmem_buf_new(COWMEM_BUF_REGION) && errno == EOPNOTSUPP);
	EQUAL(count_fds(), before);
	ERRNO(cowmem_reopen(device, NULL, 0), EOPNOTSUPP);
	close(device);
}

/* A caller older than the module: what it does not know counts as zero. */
static void new_module(void)
{
	int fd = make(PAGE);
	struct cowmem_info info;

	memset(&info, 0xff, sizeof(info));
	info.flags = 0;
	EQUAL(__real_ioctl(fd, _IOWR(COWMEM_IOC_TYPE, 0, char [UP_TO(cowmem_info, clones)]), &info), 0);
	EQUAL(info.size, PAGE);
	CHECK(info.features == UINT64_MAX);
	close(fd);
}

static int count_extents(const struct cowmem_extent *extent, void *arg)
{
	(void)extent;
	++*(int *)arg;
	return 0;
}

/* All that the library can it does with it, and passes on what it does not know. */
static void newer_module(void)
{
	int fd, snapshot, clones[2], extents = 0;
	struct cowmem_merger *m = cowmem_merger_new(0);
	struct cowmem_info info;
	uint64_t features;

	newer = true;
	fd = make(3 * PAGE);
	EQUAL(cowmem_features(&features), 0);
	CHECK(features & LATER_FEATURE);
	EQUAL(cowmem_get_info(fd, &info), 0);
	EQUAL(info.size, 3 * PAGE);
	CHECK(info.state & LATER_STATE);
	put(fd, 0, 'a');
	snapshot = cowmem_snapshot(fd);
	put(fd, 0, 'b');
	EQUAL(cowmem_diff(fd, snapshot, 0, count_extents, &extents), 0);
	EQUAL(extents, 1);
	EQUAL(cowmem_copy(fd, PAGE, fd, 0, PAGE), 0);
	EQUAL(cowmem_discard(fd, PAGE, PAGE), 0);
	EQUAL(cowmem_restore_range(fd, snapshot, 0, PAGE, NULL), 0);
	EQUAL(get(fd, 0), 'a');
	EQUAL(cowmem_clone_many((int []) { fd, snapshot }, clones, 2, 0), 0);
	EQUAL(cowmem_merger_add(m, fd, 0, 0), 0);
	EQUAL(cowmem_merger_step(m, 0, NULL), 1);
	ERRNO(cowmem_clone(fd, 1U << 31), EOPNOTSUPP);
	EQUAL(cowmem_seal(fd, COWMEM_SEAL_GROW), 0);
	cowmem_merger_free(m);
	close(clones[0]);
	close(clones[1]);
	close(snapshot);
	close(fd);
	newer = false;
}

/* What is no region is not taken for one, whatever it says, nor is a descriptor that it names. */
static void liars(void)
{
	static const char *const paths[] = { "/tmp", "/dev/null" };
	static const int named[] = { 0, -1, -5, 999 };
	int fd, got, socks[2], i;
	size_t count;

	EQUAL(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, socks), 0);
	lies = true;
	for (i = 0; i < 8; i++) {
		fd = open(paths[i / 4], O_RDONLY | O_CLOEXEC);
		lie = named[i % 4];
		EQUAL(cowmem_send(socks[0], &fd, 1, NULL, 0), 0);
		count = 1;
		ERRNO(cowmem_receive(socks[1], &got, &count, NULL, NULL), ENOTTY);
		CHECK(fcntl(0, F_GETFD) != -1);
		close(fd);
	}
	lies = false;
	close(socks[0]);
	close(socks[1]);
}

static const struct test tests[] = {
	{ "info", info },
	{ "restore", restore },
	{ "flags", flags },
	{ "calls", calls },
	{ "no_files", no_files },
	{ "new_module", new_module },
	{ "newer_module", newer_module },
	{ "liars", liars },
	{ NULL, NULL }
};

int main(int argc, char **argv)
{
	return run_tests(tests, argc, argv);
}
