// SPDX-License-Identifier: GPL-2.0-only
/*
 * cowctl as a user runs it, and files, see run.h
 */
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/xattr.h>
#include <time.h>

#include "bytes.h"
#include "run.h"

unsigned int percent = 25;
uid_t user;
int closed;
static char cowctl_path[4096], trap_path[4096];
static const char *trap_now;

uint64_t below(uint64_t n)
{
	return rng() % n;
}

void noise(void *at, size_t length)
{
	uint64_t v;
	size_t i, n;

	for (i = 0; i < length; i += n) {
		v = rng();
		n = length - i < 8 ? length - i : 8;
		memcpy((char *)at + i, &v, n);
	}
}

/* ---- running cowctl ---- */

static const char *const *words(const char *line)
{
	static char copy[8192];
	static const char *argv[64];
	int n = 0;

	snprintf(copy, sizeof(copy), "cowctl %s", line);
	argv[n] = strtok(copy, " ");
	while (argv[n] && n < 62)
		argv[++n] = strtok(NULL, " ");
	return argv;
}

pid_t start(int in, int out, const char *format, ...)
{
	char line[4096];
	va_list args;
	pid_t pid;
	int err, i;

	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	pid = fork();
	CHECK(pid >= 0);
	if (pid) {
		close(in);
		close(out);
		return pid;
	}
	signal(SIGPIPE, SIG_DFL);
	if (user && (setgid(user) || setuid(user)))
		_exit(125);
	err = open(ERR, O_WRONLY | O_CREAT | O_APPEND, 0600);
	dup2(in, 0);
	dup2(out, 1);
	dup2(err, 2);
	closefrom(3);
	for (i = 0; i < 3; i++)
		if (closed & 1 << i)
			close(i);
	if (trap_now) {
		setenv("LD_PRELOAD", trap_path, 1);
		setenv("STREAM_TRAP", trap_now, 1);
	}
	execv(cowctl_path, (char *const *)words(line));
	_exit(126);
}

void trap(const char *what)
{
	trap_now = what;
}

int end_of(pid_t pid)
{
	int status;

	CHECK(waitpid(pid, &status, 0) == pid);
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

int in_file(const char *path)
{
	int fd = open(path ? path : "/dev/null", O_RDONLY | O_CLOEXEC);

	CHECK(fd >= 0);
	return fd;
}

int out_file(const char *path)
{
	int fd = open(path ? path : "/dev/null", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	CHECK(fd >= 0);
	return fd;
}

const char *said(void)
{
	static char text[4096];
	int fd = open(ERR, O_RDONLY);
	ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);

	text[n > 0 ? n : 0] = 0;
	if (fd >= 0)
		close(fd);
	return text;
}

/* ---- files ---- */

bool exists(const char *path)
{
	return !access(path, F_OK);
}

uint64_t size_of(const char *path)
{
	struct stat st;

	CHECK(!stat(path, &st));
	return st.st_size;
}

unsigned char *read_file(const char *path, size_t *length)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	unsigned char *data;
	size_t done = 0;
	ssize_t n;

	CHECK(fd >= 0);
	*length = size_of(path);
	data = malloc(*length + 1);
	CHECK(data);
	while ((n = read(fd, data + done, *length - done)) > 0)
		done += n;
	EQUAL(done, *length);
	close(fd);
	return data;
}

void write_file(const char *path, const void *data, size_t length)
{
	int fd = out_file(path);

	EQUAL(write(fd, data, length), length);
	close(fd);
}

void write_byte(const char *path)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	EQUAL(pwrite(fd, "x", 1, 5), 1);
	close(fd);
}

bool same(const char *one, const char *other)
{
	size_t n, m;
	unsigned char *a = read_file(one, &n), *b = read_file(other, &m);
	bool equal = n == m && !memcmp(a, b, n);

	free(a);
	free(b);
	return equal;
}

void make_file(const char *path, uint64_t pages, unsigned int tail)
{
	int fd = out_file(path);
	unsigned char data[PAGE];
	uint64_t i;

	CHECK(!ftruncate(fd, pages * PAGE + tail));
	memset(data, 0, PAGE);
	for (i = 0; i < pages; i++) {
		noise(data, 4096);
		if (i % 7 != 3 && i % 50 < 40)
			EQUAL(pwrite(fd, data, PAGE, i * PAGE), PAGE);
	}
	if (tail)
		EQUAL(pwrite(fd, data, tail, pages * PAGE), tail);
	close(fd);
}

void snapshot(const char *path, const char *name)
{
	int fd = in_file(path), snap = cowmem_snapshot(fd);
	char link[64];

	CHECK(snap >= 0);
	snprintf(link, sizeof(link), "/proc/self/fd/%d", snap);
	CHECK(!linkat(AT_FDCWD, link, AT_FDCWD, name, AT_SYMLINK_FOLLOW));
	close(fd);
	close(snap);
}

void is_frozen_now(const char *path)
{
	struct cowmem_info info;
	int fd = in_file(path);

	CHECK(!cowmem_get_info(fd, &info));
	CHECK((info.seals & 15) == 15);
	close(fd);
}

void small_stream(void)
{
	make_file(A "live", 60, 100);
	snapshot(A "live", A "s1");
	WELL(NULL, T "stream", "send %s", A "s1");
}

void mount_small(const char *type, unsigned int pages, unsigned long flags)
{
	char options[32];

	snprintf(options, sizeof(options), "size=%" PRIu64, pages * PAGE);
	CHECK(!mkdir(DIR "/small", 0700) || errno == EEXIST);
	CHECK(!mount(type, DIR "/small", type, flags, options));
}

bool has_attributes(const char *dir)
{
	char path[256];
	int fd, ret;

	snprintf(path, sizeof(path), "%sattributes", dir);
	fd = out_file(path);
	ret = fsetxattr(fd, "user.cowmem.test", "", 0, 0);
	close(fd);
	unlink(path);
	return !ret;
}

/* ---- bytes ---- */

void write_all(int fd, const void *data, size_t length)
{
	const char *at = data;
	ssize_t n;

	for (; length; at += n, length -= n) {
		n = write(fd, at, length);
		CHECK(n > 0);
	}
}

bool pass(int from, int to, uint64_t budget)
{
	static char data[65536];
	ssize_t n, m, done;

	while (budget) {
		n = read(from, data, budget < sizeof(data) ? budget : sizeof(data));
		if (n <= 0)
			return false;
		for (done = 0; done < n; done += m) {
			m = write(to, data + done, n - done);
			if (m < 0)
				return false;
		}
		budget -= n;
	}
	return true;
}

void transfer(const char *options, const char *from, const char *to)
{
	int ends[2];
	pid_t send, receive;

	CHECK(!pipe2(ends, O_CLOEXEC));
	unlink(ERR);
	send = start(in_file(NULL), ends[1], "send %s %s", options, from);
	receive = start(ends[0], out_file(NULL), "receive %s", to);
	if (end_of(send) | end_of(receive))
		FAIL("send %s %s to %s: %s", options, from, to, said());
	if (*said())
		FAIL("send %s %s to %s: %s", options, from, to, said());
}

/* ---- cases ---- */

void fresh(void)
{
	static const char *const dirs[] = { DIR, DIR "/a", DIR "/b", DIR "/t" };
	int i;

	if (system("rm -rf " DISK " && mkdir -m 777 " DISK))
		FAIL("no directory " DISK);
	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		FAIL("root is needed: %s", strerror(errno));
	for (i = 0; i < 4; i++) {
		mkdir(dirs[i], 0700);
		if (i == 1 || i == 2)
			CHECK(!mount("cowmem", dirs[i], "cowmem", 0, "size=0"));
		else
			CHECK(!mount("tmpfs", dirs[i], "tmpfs", 0, NULL));
	}
}

static void find_cowctl(const char *self)
{
	const char *given = getenv("COWCTL"), *slash = strrchr(self, '/');
	int dir = slash ? (int)(slash - self) + 1 : 0;

	if (given)
		snprintf(cowctl_path, sizeof(cowctl_path), "%s", given);
	else
		snprintf(cowctl_path, sizeof(cowctl_path), "%.*scowctl", dir, self);
	snprintf(trap_path, sizeof(trap_path), "%.*sstream-trap.so", dir, self);
	if (access(cowctl_path, X_OK))
		strcpy(cowctl_path, "/usr/bin/cowctl");
	if (access(cowctl_path, X_OK))
		strcpy(cowctl_path, "/bin/cowctl");
}

int run_cases(const struct test *tests, int argc, char **argv)
{
	const char *text;

	find_cowctl(argv[0]);
	text = getenv("COWMEM_EFFORT");
	if (text)
		percent = atoi(text) > 25 ? atoi(text) : 25;
	text = getenv("COWMEM_SEED");
	state = text ? strtoull(text, NULL, 0) : (uint64_t)time(NULL) << 20 | getpid();
	printf("# COWMEM_SEED=%#" PRIx64 " COWMEM_EFFORT=%u\n", state, percent);
	return run_tests(tests, argc, argv);
}
