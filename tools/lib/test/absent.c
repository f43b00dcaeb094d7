// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Without the module, or without the right to use it: what is said
 *
 * open() here stands between the library and /dev/cowmem. So this needs neither the module nor that it is absent.
 */
#include <stdarg.h>
#include <sys/socket.h>

#include "tap.h"

static const char *instead;	/* what /dev/cowmem is */
static int refusal;		/* or why it cannot be opened */

int __real_open64(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...);

int __wrap_open64(const char *path, int flags, ...)
{
	va_list list;
	int mode;

	va_start(list, flags);
	mode = va_arg(list, int);
	va_end(list);
	if (strcmp(path, "/dev/cowmem"))
		return __real_open64(path, flags, mode);
	errno = refusal;
	return refusal ? -1 : __real_open64(instead, flags, mode);
}

static void all_say(int error)
{
	uint64_t features = 77;

	ERRNO(cowmem_create("x", 4096, 0), error);
	ERRNO(cowmem_features(&features), error);
	EQUAL(features, 77);
	CHECK(!cowmem_buf_new(COWMEM_BUF_REGION) && errno == error);
}

static void not_loaded(void)
{
	instead = "/dev/there-is-no-such-file";
	all_say(ENODEV);
	refusal = ENXIO;	/* a node that is left over */
	all_say(ENODEV);
}

/* Something else is there: who made a file of that name, as by a redirection of the shell. */
static void not_the_device(void)
{
	instead = "/dev/null";
	all_say(ENODEV);
	instead = "/tmp";
	refusal = 0;
	ERRNO(cowmem_create("x", 4096, 0), EISDIR);
	instead = "/proc/self/comm";
	all_say(ENODEV);
}

static void not_allowed(void)
{
	refusal = EACCES;
	all_say(EACCES);
	refusal = EPERM;	/* the devices of a container */
	all_say(EACCES);
}

static void other_reasons(void)
{
	refusal = EMFILE;
	all_say(EMFILE);
	refusal = ENOMEM;
	all_say(ENOMEM);
}

/* Bad arguments are told of first. */
static void arguments(void)
{
	refusal = ENOENT;
	ERRNO(cowmem_create(NULL, 0, 1U << 31), EINVAL);
	ERRNO(cowmem_clone_many(NULL, NULL, 0, 0), EINVAL);
	ERRNO(cowmem_restore_range(0, 0, 0, 0, NULL), EINVAL);
	ERRNO(cowmem_take_mapped(0, 0, 1U << 31), EINVAL);
}

/* Small values need nothing. */
static void small_values(void)
{
	cowmem_buf *buf;

	refusal = ENOENT;
	buf = cowmem_buf_new(COWMEM_BUF_REGION - 1);
	CHECK(buf);
	ERRNO(cowmem_buf_resize(buf, COWMEM_BUF_REGION), ENODEV);
	EQUAL(cowmem_buf_size(buf), COWMEM_BUF_REGION - 1);
	CHECK(cowmem_buf_write(buf));
	cowmem_buf_free(buf);
}

/* Sockets of some families say to all ioctls what a region says to one that it does not know. */
static void sockets(void)
{
	struct cowmem_info info;
	int family, type, sock;

	for (family = 1; family < AF_MAX; family++)
		for (type = SOCK_STREAM; type <= SOCK_SEQPACKET; type++) {
			sock = socket(family, type, 0);
			if (sock == -1)
				continue;
			EQUAL(cowmem_is_region(sock), 0);
			ERRNO(cowmem_get_info(sock, &info), ENOTTY);
			close(sock);
		}
}

static int none(const struct cowmem_found *found, void *arg)
{
	(void)arg;
	FAIL("found %s", found->name);
}

static void find(void)
{
	refusal = ENOENT;
	EQUAL(cowmem_find(0, none, NULL), 0);
	ERRNO(cowmem_find(INT32_MAX, none, NULL), ESRCH);
}

static void messages(void)
{
	static const int own[] = { ENODEV, EACCES, ENOTTY, EOPNOTSUPP, ENOSPC };
	size_t i;

	for (i = 0; i < sizeof(own) / sizeof(own[0]); i++)
		CHECK(strcmp(cowmem_strerror(own[i]), strerror(own[i])));
	CHECK(strstr(cowmem_strerror(ENODEV), "modprobe cowmem"));
	CHECK(strstr(cowmem_strerror(EACCES), "/dev/cowmem"));
	CHECK(strstr(cowmem_strerror(EACCES), "group cowmem"));
	CHECK(strstr(cowmem_strerror(EINVAL), "sizes"));
	CHECK(!strcmp(cowmem_strerror(EMFILE), strerror(EMFILE)));
	CHECK(cowmem_strerror(0) && cowmem_strerror(-1) && cowmem_strerror(100000));
}

static void version(void)
{
	int major, minor;

	if (sscanf(cowmem_version(), "%d.%d", &major, &minor) != 2 || major != LIBCOWMEM_VERSION_MAJOR ||
	    minor != LIBCOWMEM_VERSION_MINOR)
		FAIL("the header is of %d.%d, the library of %s", LIBCOWMEM_VERSION_MAJOR, LIBCOWMEM_VERSION_MINOR,
		     cowmem_version());
}

static const struct test tests[] = {
	{ "not_loaded", not_loaded },
	{ "not_the_device", not_the_device },
	{ "not_allowed", not_allowed },
	{ "other_reasons", other_reasons },
	{ "arguments", arguments },
	{ "small_values", small_values },
	{ "sockets", sockets },
	{ "find", find },
	{ "messages", messages },
	{ "version", version },
	{ NULL, NULL }
};

int main(int argc, char **argv)
{
	return run_tests(tests, argc, argv);
}
