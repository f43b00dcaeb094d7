// SPDX-License-Identifier: GPL-2.0-only
/*
 * cowctl send, receive, export and import, as a user runs them
 *
 * Needs root, the module, and cowctl: $COWCTL, or beside this program, or in the PATH. Everything happens on two mounts
 * and a tmpfs of its own, which go with it. COWMEM_EFFORT (100: all) says how much, COWMEM_SEED repeats a run.
 */
#include <inttypes.h>
#include <sys/prctl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/xattr.h>
#include <time.h>
#include <xxhash.h>

#include "bytes.h"
#include "tap.h"
#include "stream.h"

#define DIR	"/tmp/cowctl-stream"
#define A	DIR "/a/"		/* where regions are */
#define B	DIR "/b/"		/* where they are received */
#define T	DIR "/t/"		/* plain files */
#define DISK	"/var/tmp/"		/* of a file system that has attributes */
#define ERR	T "stderr"
#define PAGE	4096u

static char cowctl_path[4096];
static unsigned int percent = 25;
/* Who cowctl is run as. */
static uid_t user;

static uint64_t below(uint64_t n)
{
	return rng() % n;
}

static void noise(void *at, size_t length)
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

/* Start it with these for stdin and stdout, which it takes over; stderr is a file. */
static pid_t start(int in, int out, const char *format, ...)
{
	char line[4096];
	va_list args;
	pid_t pid;
	int err;

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
	if (user && (setgid(user) || setuid(user)))
		_exit(125);
	err = open(ERR, O_WRONLY | O_CREAT | O_APPEND, 0600);
	dup2(in, 0);
	dup2(out, 1);
	dup2(err, 2);
	closefrom(3);
	execv(cowctl_path, (char *const *)words(line));
	_exit(126);
}

static int end_of(pid_t pid)
{
	int status;

	CHECK(waitpid(pid, &status, 0) == pid);
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static int in_file(const char *path)
{
	int fd = open(path ? path : "/dev/null", O_RDONLY | O_CLOEXEC);

	CHECK(fd >= 0);
	return fd;
}

static int out_file(const char *path)
{
	int fd = open(path ? path : "/dev/null", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	CHECK(fd >= 0);
	return fd;
}

/* Run it to its end, from one file to another, either may be NULL. */
#define RUN(in, out, ...) (unlink(ERR), end_of(start(in_file(in), out_file(out), __VA_ARGS__)))

static const char *said(void)
{
	static char text[4096];
	int fd = open(ERR, O_RDONLY);
	ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);

	text[n > 0 ? n : 0] = 0;
	if (fd >= 0)
		close(fd);
	return text;
}

#define WELL(in, out, ...) do {							\
	int ret_ = RUN(in, out, __VA_ARGS__);					\
	if (ret_ || *said())							\
		FAIL("exit status %d: %s", ret_, said());			\
} while (0)

/* It fails, with this status, and says this on one line. */
#define REFUSED(status, what, in, out, ...) do {				\
	int ret_ = RUN(in, out, __VA_ARGS__);					\
	const char *end_ = strchr(said(), '\n');				\
	if (ret_ != (status) || !strstr(said(), what) || !end_ || end_[1])	\
		FAIL("exit status %d, not %d with \"%s\": %s", ret_, status, what, said());	\
} while (0)

/* ---- files ---- */

static bool exists(const char *path)
{
	return !access(path, F_OK);
}

static uint64_t size_of(const char *path)
{
	struct stat st;

	CHECK(!stat(path, &st));
	return st.st_size;
}

static unsigned char *read_file(const char *path, size_t *length)
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

static void write_file(const char *path, const void *data, size_t length)
{
	int fd = out_file(path);

	EQUAL(write(fd, data, length), length);
	close(fd);
}

static bool same(const char *one, const char *other)
{
	size_t n, m;
	unsigned char *a = read_file(one, &n), *b = read_file(other, &m);
	bool equal = n == m && !memcmp(a, b, n);

	free(a);
	free(b);
	return equal;
}

#define SAME(one, other) do {							\
	if (!same(one, other))							\
		FAIL("%s and %s differ", one, other);				\
} while (0)

/* The data of both is in the same places. */
static bool same_holes(const char *one, const char *other)
{
	int a = in_file(one), b = in_file(other);
	off_t at = 0, next;
	bool equal = true;
	int whence = SEEK_DATA;

	do {
		next = lseek(a, at, whence);
		equal = equal && next == lseek(b, at, whence);
		at = next;
		whence = whence == SEEK_DATA ? SEEK_HOLE : SEEK_DATA;
	} while (at >= 0 && equal);
	close(a);
	close(b);
	return equal;
}

/* A file with noise in some ranges of pages, and a tail that is no whole page. */
static void make_file(const char *path, uint64_t pages, unsigned int tail)
{
	int fd = out_file(path);
	unsigned char data[PAGE];
	uint64_t i;

	CHECK(!ftruncate(fd, pages * PAGE + tail));
	for (i = 0; i < pages; i++) {
		noise(data, PAGE);
		if (i % 7 != 3 && i % 50 < 40)
			EQUAL(pwrite(fd, data, PAGE, i * PAGE), PAGE);
	}
	if (tail)
		EQUAL(pwrite(fd, data, tail, pages * PAGE), tail);
	close(fd);
}

/* A snapshot of a file, with a name. */
static void snapshot(const char *path, const char *name)
{
	int fd = in_file(path), snap = cowmem_snapshot(fd);
	char link[64];

	CHECK(snap >= 0);
	snprintf(link, sizeof(link), "/proc/self/fd/%d", snap);
	CHECK(!linkat(AT_FDCWD, link, AT_FDCWD, name, AT_SYMLINK_FOLLOW));
	close(fd);
	close(snap);
}

static void is_frozen_now(const char *path)
{
	struct cowmem_info info;
	int fd = in_file(path);

	CHECK(!cowmem_get_info(fd, &info));
	CHECK((info.seals & 15) == 15);
	close(fd);
}

/* ---- property: whatever was done, a chain of streams carries it ---- */

struct live {
	int fd;
	uint64_t size;
};

static void do_write(struct live *live)
{
	static unsigned char data[16 * PAGE];
	uint64_t at = below(live->size + 3 * PAGE), n = 1 + below(below(2) ? PAGE : sizeof(data));

	noise(data, n);
	if (below(8) == 0)
		memset(data, 0, n);
	EQUAL(pwrite(live->fd, data, n, at), n);
	if (at + n > live->size)
		live->size = at + n;
}

/* Stores reach behind the end as well, and come to light when it grows. */
static void do_store(struct live *live)
{
	uint64_t page = below(live->size / PAGE + 1);
	unsigned char *at;

	if (page * PAGE >= live->size)
		return;
	at = cowmem_map(live->fd, page * PAGE, PAGE, PROT_READ | PROT_WRITE);
	CHECK(at != MAP_FAILED);
	noise(at + below(PAGE - 64), 64);
	noise(at + PAGE - 16, 16);
	munmap(at, PAGE);
}

static void do_discard(struct live *live)
{
	uint64_t at, n;

	if (!live->size)
		return;
	at = below(live->size);
	n = 1 + below(live->size - at);
	if (below(2) && n > PAGE) {
		at -= at % PAGE;
		n = PAGE * (1 + below(n / PAGE));
	}
	if (at + n > live->size)
		n = live->size - at;
	CHECK(!cowmem_discard(live->fd, at, n));
}

static void do_resize(struct live *live)
{
	live->size = below(3) ? below(96 * PAGE) : PAGE * below(96);
	CHECK(!cowmem_resize(live->fd, live->size));
}

static void some_history(struct live *live)
{
	static void (*const ops[])(struct live *) = {
		do_write, do_write, do_write, do_store, do_store, do_discard, do_resize,
	};
	int n = below(12);

	while (n--)
		ops[below(sizeof(ops) / sizeof(*ops))](live);
}

/* Send @from to @to through a pipe. */
static void transfer(const char *options, const char *from, const char *to)
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

static void one_chain(const char *where, int steps)
{
	struct live live = { .fd = open(A "live", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600) };
	char snap[64], last[64] = "", to[64], last_to[64] = "", options[128];
	int i;

	CHECK(live.fd >= 0);
	for (i = 0; i < steps; i++) {
		some_history(&live);
		snprintf(snap, sizeof(snap), A "s%d", i);
		snprintf(to, sizeof(to), "%sr%d", where, i);
		snapshot(A "live", snap);
		snprintf(options, sizeof(options), "-l %d %s %s", (int)below(4), i ? "-i" : "", last);
		transfer(options, snap, to);
		SAME(snap, to);
		if (!strcmp(where, B))
			is_frozen_now(to);
		if (i) {
			unlink(last);
			unlink(last_to);
		}
		strcpy(last, snap);
		strcpy(last_to, to);
	}
	unlink(last);
	unlink(last_to);
	close(live.fd);
}

static void chains(void)
{
	int i;

	for (i = 0; i < (int)(4 * percent / 100); i++)
		one_chain(B, 16);
}

static bool has_attributes(const char *dir)
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

static void chain_to_files(void)
{
	if (!has_attributes(DISK))
		SKIP("no extended attributes on " DISK);
	one_chain(DISK, 8);
}

/* A chain to a mount, from there to files, and back from there: one id all the way. */
static void chain_from_the_receiver(void)
{
	make_file(A "live", 40, 5);
	snapshot(A "live", A "s1");
	transfer("", A "s1", B "s1");
	make_file(A "live", 30, 0);
	snapshot(A "live", A "s2");
	transfer("-i " A "s1", A "s2", B "s2");
	unlink(A "s2");
	/* The receiver sends it back, where only the base is left. */
	transfer("-i " B "s1", B "s2", A "s2");
	SAME(A "s2", B "s2");
}

/* ---- a region of a process that goes on writing ---- */

#define STAMPED	512

/* Page after page gets the number of the round, in a process that goes on until it is killed. */
static pid_t stamp(volatile uint64_t *mem)
{
	pid_t pid = fork();
	uint64_t round;
	int i;

	CHECK(pid >= 0);
	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (round = 1; ; round++)
		for (i = 0; i < STAMPED; i++)
			mem[i * PAGE / 8] = round;
}

/* A cut is consistent if pages have one round, and those from some page on the one before. */
static void check_stamps(const char *path)
{
	size_t length;
	unsigned char *data = read_file(path, &length);
	uint64_t first, last, now;
	int i;

	EQUAL(length, STAMPED * PAGE);
	memcpy(&first, data, 8);
	last = first;
	for (i = 1; i < STAMPED; i++) {
		memcpy(&now, data + i * PAGE, 8);
		if (now > last || now + 1 < first)
			FAIL("page %d has %" PRIu64 ", the one before %" PRIu64 ", the first %" PRIu64, i, now,
			     last, first);
		last = now;
	}
	free(data);
}

static void live_writer(void)
{
	int fd = cowmem_create("stamped", STAMPED * PAGE, 0), i;
	void *mem = cowmem_map(fd, 0, STAMPED * PAGE, PROT_READ | PROT_WRITE);
	char name[64], to[64];
	pid_t writer;

	CHECK(mem != MAP_FAILED);
	writer = stamp(mem);
	for (i = 0; i < 3; i++) {
		snprintf(name, sizeof(name), "%d:%d", getpid(), fd);
		snprintf(to, sizeof(to), B "live%d", i);
		transfer("", name, to);
		check_stamps(to);
		snprintf(to, sizeof(to), T "live%d", i);
		WELL(NULL, NULL, "export %s %s", name, to);
		check_stamps(to);
	}
	CHECK(!kill(writer, SIGKILL));
	EQUAL(end_of(writer), 128 + SIGKILL);
	munmap(mem, STAMPED * PAGE);
	close(fd);
}

/* ---- how long it is ---- */

static void one_percent(void)
{
	uint64_t size = percent >= 100 ? 1ULL << 30 : 64ULL << 20, pages = size / PAGE, i, n = pages / 100, done = 0;
	unsigned char data[PAGE], *changed = calloc(1, pages);
	int fd = open(A "live", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	CHECK(fd >= 0 && changed);
	for (i = 0; i < pages; i++) {
		noise(data, 64);
		EQUAL(pwrite(fd, data, PAGE, i * PAGE), PAGE);
	}
	snapshot(A "live", A "s1");
	while (done < n) {
		i = below(pages);
		if (changed[i])
			continue;
		changed[i] = 1;
		noise(data, PAGE);
		EQUAL(pwrite(fd, data, PAGE, i * PAGE), PAGE);
		done++;
	}
	close(fd);
	free(changed);
	snapshot(A "live", A "s2");
	/* What was sent has an id. */
	WELL(NULL, NULL, "send %s", A "s1");
	WELL(NULL, T "stream", "send -i %s %s", A "s1", A "s2");
	printf("# %" PRIu64 " MiB, %" PRIu64 " pages of noise changed: %" PRIu64 " bytes, %.4f %%\n", size >> 20, n,
	       size_of(T "stream"), 100.0 * size_of(T "stream") / size);
	CHECK(size_of(T "stream") <= size * 102 / 10000);
	CHECK(size_of(T "stream") >= n * PAGE);
}

/* ---- damage ---- */

/* A stream of a small region in T "stream", and a region that it was made of in A "s1". */
static void small_stream(void)
{
	make_file(A "live", 60, 100);
	snapshot(A "live", A "s1");
	WELL(NULL, T "stream", "send %s", A "s1");
}

static void after_damage(const char *what, uint64_t at)
{
	if (exists(B "r"))
		FAIL("%s at %" PRIu64 ": it got its name", what, at);
	/* What came of the damaged one must not spoil the good one. */
	WELL(T "stream", NULL, "receive %s", B "r");
	SAME(A "s1", B "r");
	unlink(B "r");
}

static void damaged(void)
{
	size_t length, at;
	unsigned char *data, bit;
	int i;

	small_stream();
	data = read_file(T "stream", &length);
	for (i = 0; i < (int)percent / 3; i++) {
		at = i < 4 ? (size_t)i * 25 : below(length);
		bit = 1 << below(8);
		data[at] ^= bit;
		write_file(T "damaged", data, length);
		data[at] ^= bit;
		if (RUN(T "damaged", NULL, "receive %s", B "r") != 1)
			FAIL("byte %zu of %zu was flipped: accepted", at, length);
		after_damage("flipped", at);
	}
	free(data);
}

static void cut(void)
{
	size_t length, at;
	unsigned char *data;
	int i;

	small_stream();
	data = read_file(T "stream", &length);
	for (i = 0; i < (int)percent / 3; i++) {
		at = i < 2 ? (size_t)i * 60 : i < 4 ? length - (i - 1) : below(length);
		write_file(T "cut", data, at);
		REFUSED(1, "the stream is cut", T "cut", NULL, "receive %s", B "r");
		after_damage("cut", at);
	}
	free(data);
}

/* ---- kill -9 ---- */

/* Pass @budget bytes on. Returns false if the stream ended before. */
static bool pass(int from, int to, uint64_t budget)
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

static void read_token(char *token, size_t length)
{
	size_t n;
	unsigned char *text;

	*token = 0;
	if (RUN(NULL, T "token", "receive --token %s", B "r"))
		return;
	text = read_file(T "token", &n);
	snprintf(token, length, "%.*s", (int)n, text);
	token[strcspn(token, "\n")] = 0;
	free(text);
}

static uint64_t position_of(const char *token)
{
	return *token ? strtoull(token + strlen("cowmem1:") + 66, NULL, 10) : 0;
}

/* One try: killed after @budget bytes of the stream. Returns true if it came to its end. */
static bool try_transfer(const char *options, const char *token, uint64_t budget)
{
	int from[2], to[2], victim;
	pid_t pids[2];
	bool ended;

	CHECK(!pipe2(from, O_CLOEXEC) && !pipe2(to, O_CLOEXEC));
	unlink(ERR);
	pids[0] = start(in_file(NULL), from[1], "send %s %s %s", options, *token ? "--resume" : A "s2",
			*token ? token : "");
	pids[1] = start(to[0], out_file(NULL), "receive %s", B "r");
	ended = !pass(from[0], to[1], budget);
	if (!ended) {
		victim = below(2);
		CHECK(!kill(pids[victim], SIGKILL));
		/* The other one finds out by itself. */
	}
	close(from[0]);
	close(to[1]);
	from[0] = end_of(pids[0]);
	to[0] = end_of(pids[1]);
	if (ended && (from[0] || to[0]))
		FAIL("send %d, receive %d: %s", from[0], to[0], said());
	return ended;
}

static void kills_of(const char *options, uint64_t length)
{
	char token[256] = "", line[512];
	uint64_t last = 0;
	int tries = 0, resumed = 0;

	for (;;) {
		/* Half of the time all of it comes again. */
		snprintf(line, sizeof(line), "%s %s", *token ? A "s2" : "", options);
		resumed += *token != 0;
		if (try_transfer(line, token, tries++ > 40 ? UINT64_MAX : below(length / 2)))
			break;
		if (exists(B "r"))
			FAIL("it has its name before its end");
		read_token(token, sizeof(token));
		CHECK(position_of(token) >= last);
		last = position_of(token);
		if (below(3) == 0)
			*token = 0;
	}
	printf("# %d tries, %d went on\n", tries, resumed);
	CHECK(resumed);
	SAME(A "s2", B "r");
	is_frozen_now(B "r");
	CHECK(!exists(B ".r.part"));
	unlink(B "r");
}

static void killed(void)
{
	uint64_t length;
	int i;

	signal(SIGPIPE, SIG_IGN);
	make_file(A "live", 20 * percent, 77);
	snapshot(A "live", A "s1");
	transfer("", A "s1", B "s1");
	make_file(A "live", 25 * percent, 0);
	snapshot(A "live", A "s2");
	for (i = 0; i < (int)(1 + percent / 50); i++) {
		WELL(NULL, T "stream", "send %s", A "s2");
		length = size_of(T "stream");
		kills_of("", length);
		kills_of("-i " A "s1", length);
	}
}

/* The receiver alone, at any instant: also while it gives the file its name. */
static void killed_by_the_clock(void)
{
	struct timespec wait = { 0 };
	int i, done = 0, ret;
	pid_t pid;

	small_stream();
	for (i = 0; i < (int)percent / 2; i++) {
		pid = start(in_file(T "stream"), out_file(NULL), "receive %s", B "r");
		wait.tv_nsec = below(150) * 1000000;
		nanosleep(&wait, NULL);
		kill(pid, SIGKILL);
		ret = end_of(pid);
		CHECK(ret == 128 + SIGKILL || !ret);
		if (!exists(B "r"))
			continue;
		done++;
		SAME(A "s1", B "r");
		is_frozen_now(B "r");
		unlink(B "r");
	}
	printf("# %d of %d came to their end\n", done, i);
	WELL(T "stream", NULL, "receive %s", B "r");
	SAME(A "s1", B "r");
}

/* ---- what does not fit ---- */

/* Change a byte of the header, and mend its checksum. */
static void change_header(const char *from, const char *to, int at, int value)
{
	size_t length;
	unsigned char *data = read_file(from, &length);
	uint64_t check;

	data[at] = value;
	check = XXH64(data, 72, 0);
	memcpy(data + 72, &check, 8);
	write_file(to, data, length);
	free(data);
}

static void refused_streams(void)
{
	small_stream();
	change_header(T "stream", T "newer", 8, 2);
	REFUSED(1, "from a newer version", T "newer", NULL, "receive %s", B "r");
	change_header(T "stream", T "newer", 19, 1);
	REFUSED(1, "from a newer version", T "newer", NULL, "receive %s", B "r");
	write_file(T "foreign", "hello, world\n", 13);
	REFUSED(1, "no stream of cowctl send", T "foreign", NULL, "receive %s", B "r");
	REFUSED(1, "it is empty", NULL, NULL, "receive %s", B "r");
	change_header(T "stream", T "invalid", 31, 0x80);
	REFUSED(1, "is not valid", T "invalid", NULL, "receive %s", B "r");
	change_header(T "stream", T "other", 40, 0);
	/* The id of the header is a part of all checksums. */
	REFUSED(1, "is damaged", T "other", NULL, "receive %s", B "r");
	CHECK(!exists(B "r") && !exists(B ".r.part"));
	WELL(T "stream", NULL, "receive %s", B "r");
	REFUSED(1, "exists", T "stream", NULL, "receive %s", B "r");
	REFUSED(1, "No such file", T "stream", NULL, "receive %s", DIR "/none/r");
	REFUSED(1, "No such file", NULL, NULL, "receive -i %s %s", T "none", B "q");
	REFUSED(2, "see cowctl receive --help", NULL, NULL, "receive");
	REFUSED(2, "see cowctl receive --help", NULL, NULL, "receive --token --abort x");
	REFUSED(2, "see cowctl receive --help", NULL, NULL, "receive --nonsense x");
}

/* Give a file the id of another one, as copying it with its attributes does. */
static int fake(const char *path, bool with_time)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	char value[128];
	ssize_t n = getxattr(A "s1", "user.cowmem.id", value, sizeof(value));
	struct stat st;

	CHECK(fd >= 0 && n > 32);
	if (with_time) {
		CHECK(!fstat(fd, &st));
		n = snprintf(value + 32, sizeof(value) - 32, " %lld.%09ld", (long long)st.st_mtim.tv_sec,
			     st.st_mtim.tv_nsec) + 32;
	}
	CHECK(!fsetxattr(fd, "user.cowmem.id", value, n, 0));
	return fd;
}

/* Files that go by the right id, but may have been written since. */
static void fakes(void)
{
	int fd;

	make_file(B "fake", 60, 100);
	fd = fake(B "fake", true);
	REFUSED(1, "no file beside it is that", T "more", NULL, "receive %s", B "r");
	REFUSED(1, "may have changed", T "more", NULL, "receive -b %s %s", B "fake", B "r");
	close(fd);
	make_file(B "fake", 60, 100);
	fd = fake(B "fake", false);
	CHECK(!cowmem_seal(fd, 15));
	REFUSED(1, "may have changed", T "more", NULL, "receive -b %s %s", B "fake", B "r");
	close(fd);
	unlink(B "fake");
}

static void refused_bases(void)
{
	small_stream();
	make_file(A "live", 61, 0);
	snapshot(A "live", A "s2");
	WELL(NULL, T "more", "send -i %s %s", A "s1", A "s2");
	REFUSED(1, "no file beside it is that", T "more", NULL, "receive %s", B "r");
	WELL(NULL, NULL, "send %s", A "s2");
	REFUSED(1, "and this is", T "more", NULL, "receive -b %s %s", A "s2", B "r");
	REFUSED(1, "and this has no id", T "more", NULL, "receive -b %s %s", T "stream", B "r");
	REFUSED(1, "builds on nothing", T "stream", NULL, "receive -b %s %s", A "s1", B "r");
	CHECK(!exists(B "r") && !exists(B ".r.part"));
	fakes();
	/* From another mount, by its name. */
	WELL(T "more", NULL, "receive -b %s %s", A "s1", B "r");
	SAME(A "s2", B "r");
}

static void written_files(void)
{
	int fd;

	if (!has_attributes(DISK))
		SKIP("no extended attributes on " DISK);
	small_stream();
	make_file(A "live", 61, 0);
	snapshot(A "live", A "s2");
	WELL(NULL, T "more", "send -i %s %s", A "s1", A "s2");
	WELL(T "stream", NULL, "receive %s", DISK "w1");
	fd = open(DISK "w1", O_WRONLY | O_CLOEXEC);
	EQUAL(pwrite(fd, "x", 1, 5), 1);
	close(fd);
	REFUSED(1, "no file beside it", T "more", NULL, "receive %s", DISK "w2");
	REFUSED(1, "may have changed", T "more", NULL, "receive -b %s %s", DISK "w1", DISK "w2");
	unlink(DISK "w1");
	WELL(T "stream", NULL, "receive %s", DISK "w1");
	WELL(T "more", NULL, "receive %s", DISK "w2");
	SAME(DISK "w2", A "s2");
	unlink(DISK "w1");
	unlink(DISK "w2");
}

/* The first half of T "stream" has come, as B "r". */
static void half(void)
{
	size_t length;
	unsigned char *data;

	make_file(A "live", 300, 0);
	snapshot(A "live", A "s1");
	WELL(NULL, T "stream", "send %s", A "s1");
	data = read_file(T "stream", &length);
	write_file(T "half", data, length / 2 + 1);
	free(data);
	REFUSED(1, "receive --token", T "half", NULL, "receive %s", B "r");
}

static void refused_parts(void)
{
	char token[256];

	REFUSED(1, "nothing has come", NULL, NULL, "receive --token %s", B "r");
	REFUSED(1, "nothing has come", NULL, NULL, "receive --abort %s", B "r");
	half();
	CHECK(!exists(B "r") && exists(B ".r.part"));
	read_token(token, sizeof(token));
	CHECK(position_of(token) > 0);
	make_file(A "live", 30, 0);
	snapshot(A "live", A "s2");
	REFUSED(1, "another one", NULL, NULL, "send --resume %s %s", token, A "s2");
	REFUSED(1, "leave out -i", NULL, NULL, "send --resume %s -i %s %s", token, A "s2", A "s1");
	REFUSED(2, "--help", NULL, NULL, "send --resume x%s %s", token, A "s1");
	token[strlen(token) - 20]++;
	REFUSED(2, "--help", NULL, NULL, "send --resume %s %s", token, A "s1");
	token[strlen(token) - 20]--;
	WELL(NULL, T "other", "send %s", A "s2");
	REFUSED(1, "a part of another snapshot", T "other", NULL, "receive %s", B "r");
	WELL(NULL, T "rest", "send --resume %s %s", token, A "s1");
	CHECK(size_of(T "rest") < size_of(T "stream") * 2 / 3);
	REFUSED(1, "of which nothing has come", T "rest", NULL, "receive %s", B "q");
	WELL(NULL, NULL, "receive --abort %s", B "r");
	CHECK(!exists(B ".r.part"));
	REFUSED(1, "of which nothing has come", T "rest", NULL, "receive %s", B "r");
	REFUSED(1, "receive --token", T "half", NULL, "receive %s", B "r");
	WELL(T "rest", NULL, "receive %s", B "r");
	SAME(A "s1", B "r");
}

static void gap(void)
{
	size_t length;
	unsigned char *data;
	char token[256];

	half();
	read_token(token, sizeof(token));
	WELL(NULL, T "rest", "send --resume %s %s", token, A "s1");
	WELL(NULL, NULL, "receive --abort %s", B "r");
	data = read_file(T "stream", &length);
	write_file(T "half", data, length / 3);
	free(data);
	CHECK(RUN(T "half", NULL, "receive %s", B "r") == 1);
	REFUSED(1, "the stream goes on at byte", T "rest", NULL, "receive %s", B "r");
	/* Nothing was lost by that. */
	WELL(T "stream", NULL, "receive %s", B "r");
	SAME(A "s1", B "r");
}

static void write_all(int fd, const unsigned char *data, size_t length)
{
	ssize_t n;

	for (; length; data += n, length -= n) {
		n = write(fd, data, length);
		CHECK(n > 0);
	}
}

/* Two that make the same one. */
static void two_receivers(void)
{
	size_t length;
	unsigned char *data;
	int ends[2];
	pid_t first;

	small_stream();
	data = read_file(T "stream", &length);
	CHECK(!pipe2(ends, O_CLOEXEC));
	first = start(ends[0], out_file(NULL), "receive %s", B "r");
	write_all(ends[1], data, 200);
	while (!exists(B ".r.part"))
		usleep(1000);
	usleep(100000);
	REFUSED(1, "another cowctl", T "stream", NULL, "receive %s", B "r");
	REFUSED(1, "another cowctl", NULL, NULL, "receive --abort %s", B "r");
	/* Somebody else takes the name. */
	write_file(B "r", "mine", 4);
	write_all(ends[1], data + 200, length - 200);
	close(ends[1]);
	EQUAL(end_of(first), 1);
	EQUAL(size_of(B "r"), 4);
	free(data);
}

static void refused_regions(void)
{
	int ends[2];

	make_file(A "live", 20, 0);
	snapshot(A "live", A "s1");
	snapshot(A "live", A "s2");
	write_file(T "plain", "hello", 5);
	REFUSED(1, "not a region", NULL, NULL, "send %s", T "plain");
	REFUSED(1, "No such file", NULL, NULL, "send %s", A "none");
	REFUSED(1, "it is no snapshot", NULL, NULL, "send -i %s %s", A "live", A "s1");
	REFUSED(1, "it has no id", NULL, NULL, "send -i %s %s", A "s1", A "s2");
	WELL(NULL, NULL, "send %s", A "s1");
	REFUSED(1, "nothing differs", NULL, NULL, "send -i %s %s", A "s1", A "s1");
	REFUSED(2, "--help", NULL, NULL, "send");
	REFUSED(2, "--help", NULL, NULL, "send -l 20 %s", A "s1");
	REFUSED(2, "--help", NULL, NULL, "send --id 123 %s", A "s1");
	REFUSED(2, "--help", NULL, NULL, "send --base-id 0123456789abcdef0123456789abcdef %s", A "s1");
	REFUSED(1, "leave out --id", NULL, NULL, "send --id 0123456789abcdef0123456789abcdef %s", A "s1");
	REFUSED(1, "is no snapshot", NULL, NULL, "send --id 0123456789abcdef0123456789abcdef %s", A "live");
	REFUSED(1, "exists", NULL, NULL, "send -o %s %s", T "plain", A "s1");
	/* Nobody reads. */
	CHECK(!pipe2(ends, O_CLOEXEC));
	close(ends[0]);
	unlink(ERR);
	EQUAL(end_of(start(in_file(NULL), ends[1], "send %s", A "s1")), 1);
	CHECK(strstr(said(), "has gone"));
	/* /dev/full is a device like any other. */
	REFUSED(1, "No space left", NULL, NULL, "send -o /dev/full %s", A "s1");
}

/* Regions of the device: snapshots of them are nobody's files, and have ids like others, or are told one. */
static void nameless(void)
{
	int fd = cowmem_create("nameless", 5 * PAGE, 0), one, two;
	char name[64], base[64], options[256], was[5 * PAGE];

	EQUAL(pwrite(fd, "one", 3, PAGE), 3);
	one = cowmem_snapshot(fd);
	EQUAL(pwrite(fd, "two", 3, 2 * PAGE), 3);
	two = cowmem_snapshot(fd);
	CHECK(one >= 0 && two >= 0);
	snprintf(base, sizeof(base), "%d:%d", getpid(), one);
	snprintf(name, sizeof(name), "%d:%d", getpid(), two);
	transfer("--id 0123456789abcdef0123456789abcdef", base, B "one");
	snprintf(options, sizeof(options), "--base-id 0123456789abcdef0123456789abcdef --id "
		 "00000000000000000000000000000002 -i %s", base);
	transfer(options, name, B "two");
	EQUAL(pread(two, was, sizeof(was), 0), sizeof(was));
	write_file(T "two", was, sizeof(was));
	SAME(T "two", B "two");
	close(fd);
	close(one);
	close(two);
}

static void terminals(void)
{
	int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC), slave;

	if (master < 0)
		SKIP("no terminals");
	CHECK(!grantpt(master) && !unlockpt(master));
	make_file(A "live", 2, 0);
	unlink(ERR);
	slave = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
	CHECK(slave >= 0);
	EQUAL(end_of(start(in_file(NULL), dup(slave), "send %s", A "live")), 1);
	CHECK(strstr(said(), "nothing for a terminal"));
	unlink(ERR);
	EQUAL(end_of(start(in_file(NULL), dup(slave), "export %s -", A "live")), 1);
	CHECK(strstr(said(), "nothing for a terminal"));
	unlink(ERR);
	EQUAL(end_of(start(dup(slave), out_file(NULL), "receive %s", B "r")), 1);
	CHECK(strstr(said(), "it is a terminal"));
	close(slave);
	close(master);
}

/* A snapshot that has yielded is no stream of zeroes. */
static void yielded(void)
{
	unsigned char data[PAGE];
	int fd, snap, out, i, ends[2];
	char name[64];
	pid_t pid;

	CHECK(!mkdir(DIR "/small", 0700));
	CHECK(!mount("cowmem", DIR "/small", "cowmem", 0, "size=1m"));
	make_file(DIR "/small/live", 200, 0);
	fd = open(DIR "/small/live", O_RDWR | O_CLOEXEC);
	snap = cowmem_clone(fd, COWMEM_CLONE_SNAPSHOT | COWMEM_CLONE_EXPENDABLE);
	CHECK(snap >= 0);
	snprintf(name, sizeof(name), "%d:%d", getpid(), snap);
	WELL(NULL, NULL, "send %s", name);
	/* This one has begun, and waits for us to read. */
	CHECK(!pipe2(ends, O_CLOEXEC));
	unlink(ERR);
	pid = start(in_file(NULL), ends[1], "send -l 0 %s", name);
	out = out_file(T "cut");
	CHECK(pass(ends[0], out, 100));
	for (i = 0; i < 200; i++) {
		noise(data, PAGE);
		EQUAL(pwrite(fd, data, PAGE, i * PAGE), PAGE);
	}
	CHECK(!pass(ends[0], out, UINT64_MAX));
	close(out);
	EQUAL(end_of(pid), 1);
	CHECK(strstr(said(), "yielded"));
	REFUSED(1, "the stream is cut", T "cut", NULL, "receive %s", B "r");
	REFUSED(1, "yielded", NULL, T "stream", "send %s", name);
	REFUSED(1, "the stream is cut", T "stream", NULL, "receive %s", B "r");
	REFUSED(1, "yielded", NULL, NULL, "export %s %s", name, T "raw");
	CHECK(!exists(T "raw") && !exists(T ".raw.part"));
	close(fd);
	close(snap);
	close(ends[0]);
	CHECK(!umount(DIR "/small"));
}

static void ordinary_user(void)
{
	small_stream();
	make_file(A "live", 61, 0);
	snapshot(A "live", A "s2");
	WELL(NULL, T "more", "send -i %s %s", A "s1", A "s2");
	user = 65534;
	REFUSED(1, "Permission denied", NULL, NULL, "send %s", A "s1");
	WELL(T "stream", NULL, "receive %s", B "s1");
	WELL(T "more", NULL, "receive %s", B "s2");
	SAME(A "s2", B "s2");
	WELL(NULL, T "again", "send -i %s %s", B "s1", B "s2");
	CHECK(same(T "again", T "more"));
	WELL(NULL, NULL, "export %s %s", B "s2", T "raw");
	WELL(NULL, NULL, "import --snapshot %s %s", T "raw", B "i");
	WELL(NULL, T "again", "send %s", B "i");
	user = 0;
	WELL(NULL, NULL, "send -i %s %s", B "i", B "s2");
}

/* What others put in a directory for all is not taken for ours. */
static void strangers(void)
{
	half();
	CHECK(!chown(B ".r.part", 65534, 65534));
	REFUSED(1, "somebody else's", T "stream", NULL, "receive %s", B "r");
	REFUSED(1, "somebody else's", NULL, NULL, "receive --token %s", B "r");
	REFUSED(1, "somebody else's", NULL, NULL, "receive --abort %s", B "r");
	unlink(B ".r.part");
	CHECK(!symlink(T "stream", B ".r.part"));
	REFUSED(1, "can not be opened", T "stream", NULL, "receive %s", B "r");
	unlink(B ".r.part");
	WELL(T "stream", NULL, "receive %s", B "s1");
	make_file(A "live", 61, 0);
	snapshot(A "live", A "s2");
	WELL(NULL, T "more", "send -i %s %s", A "s1", A "s2");
	CHECK(!chown(B "s1", 65534, 65534));
	REFUSED(1, "no file beside it", T "more", NULL, "receive %s", B "s2");
	WELL(T "more", NULL, "receive -b %s %s", B "s1", B "s2");
}

static void json(void)
{
	size_t n;
	unsigned char *text;

	make_file(A "live", 10, 5);
	snapshot(A "live", A "s1");
	WELL(NULL, T "json", "send --json -o %s --id 0123456789abcdef0123456789abcdef %s", T "stream", A "s1");
	text = read_file(T "json", &n);
	text[n] = 0;
	CHECK(strstr((char *)text, "\"id\":\"0123456789abcdef0123456789abcdef\""));
	CHECK(strstr((char *)text, "\"size\":40965") && strstr((char *)text, "\"base\":null"));
	free(text);
	WELL(T "stream", T "json", "receive --json %s", B "r");
	text = read_file(T "json", &n);
	text[n] = 0;
	CHECK(strstr((char *)text, "\"path\":\"" B "r\"") && strstr((char *)text, "\"base\":null"));
	free(text);
	/* A stream on standard output is alone there. */
	WELL(NULL, T "again", "send --json %s", A "s1");
	CHECK(same(T "stream", T "again"));
}

/* ---- room ---- */

static void no_room(void)
{
	make_file(A "live", 2000, 0);
	snapshot(A "live", A "s1");
	WELL(NULL, T "stream", "send %s", A "s1");
	CHECK(!mkdir(DIR "/small", 0700) || errno == EEXIST);
	CHECK(!mount("cowmem", DIR "/small", "cowmem", 0, "size=2m"));
	EQUAL(RUN(T "stream", NULL, "receive %s", DIR "/small/r"), 1);
	CHECK(!exists(DIR "/small/r"));
	/* More room, and it goes on. */
	CHECK(!mount("cowmem", DIR "/small", "cowmem", MS_REMOUNT, "size=20m"));
	WELL(T "stream", NULL, "receive %s", DIR "/small/r");
	SAME(A "s1", DIR "/small/r");
	CHECK(!umount(DIR "/small"));
}

/* ---- export and import ---- */

static void export_import(void)
{
	make_file(A "live", 300, 33);
	WELL(NULL, NULL, "export %s %s", A "live", T "raw");
	SAME(A "live", T "raw");
	CHECK(same_holes(A "live", T "raw"));
	WELL(NULL, T "piped", "export %s -", A "live");
	SAME(A "live", T "piped");
	WELL(NULL, NULL, "import %s %s", T "raw", B "i1");
	SAME(A "live", B "i1");
	CHECK(same_holes(A "live", B "i1"));
	WELL(T "raw", NULL, "import - %s", B "i2");
	CHECK(same_holes(A "live", B "i2"));
	SAME(A "live", B "i2");
	WELL(NULL, NULL, "import --snapshot %s %s", T "raw", B "i3");
	is_frozen_now(B "i3");
	transfer("", B "i3", B "i4");
	SAME(A "live", B "i4");
}

static void a_pipe_has_no_holes(void)
{
	int ends[2];
	pid_t out, in;

	make_file(A "live", 300, 33);
	CHECK(!pipe2(ends, O_CLOEXEC));
	unlink(ERR);
	out = start(in_file(NULL), ends[1], "export %s -", A "live");
	in = start(ends[0], out_file(NULL), "import - %s", B "i");
	CHECK(!(end_of(out) | end_of(in)));
	SAME(A "live", B "i");
	/* But zeroes become some again. */
	CHECK(same_holes(A "live", B "i"));
}

static void refused_exports(void)
{
	make_file(A "live", 20, 0);
	write_file(T "plain", "hello", 5);
	REFUSED(1, "exists", NULL, NULL, "export %s %s", A "live", T "plain");
	EQUAL(size_of(T "plain"), 5);
	REFUSED(1, "not a region", NULL, NULL, "export %s %s", T "plain", T "new");
	REFUSED(1, "No such file", NULL, NULL, "export %s %s", A "live", T "none/new");
	REFUSED(1, "not a name", NULL, NULL, "export %s %s", A "live", T);
	REFUSED(1, "No space left", NULL, NULL, "export %s /dev/full", A "live");
	REFUSED(2, "--help", NULL, NULL, "export %s", A "live");
	REFUSED(2, "--help", NULL, NULL, "export --json %s -", A "live");
	REFUSED(1, "exists", NULL, NULL, "import %s %s", T "plain", A "live");
	REFUSED(1, "not on a mount", NULL, NULL, "import %s %s", T "plain", T "new");
	REFUSED(1, "No such file", NULL, NULL, "import %s %s", T "none", A "new");
	REFUSED(2, "--help", NULL, NULL, "import");
	CHECK(!exists(T "new") && !exists(T ".new.part") && !exists(A "new"));
}

/* ---- */

/* Each case has mounts of its own, which go with it, however it ends. */
static void fresh(void)
{
	static const char *const dirs[] = { DIR, DIR "/a", DIR "/b", DIR "/t" };
	int i;

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

#define CASE(f) static void in_##f(void) { fresh(); f(); }

CASE(chains)
CASE(chain_to_files)
CASE(chain_from_the_receiver)
CASE(live_writer)
CASE(one_percent)
CASE(damaged)
CASE(cut)
CASE(killed)
CASE(killed_by_the_clock)
CASE(refused_streams)
CASE(refused_bases)
CASE(written_files)
CASE(refused_parts)
CASE(gap)
CASE(two_receivers)
CASE(nameless)
CASE(refused_regions)
CASE(terminals)
CASE(no_room)
CASE(yielded)
CASE(ordinary_user)
CASE(strangers)
CASE(json)
CASE(export_import)
CASE(a_pipe_has_no_holes)
CASE(refused_exports)

static const struct test tests[] = {
	{ "a chain of streams carries any history", in_chains },
	{ "also to plain files", in_chain_to_files },
	{ "what was received is the base of what comes back", in_chain_from_the_receiver },
	{ "a region is sent and exported while it is written, as one cut", in_live_writer },
	{ "1 % changed makes a stream of at most 1.02 %", in_one_percent },
	{ "a flipped byte is refused, and spoils nothing", in_damaged },
	{ "a stream that is cut is refused as such, and spoils nothing", in_cut },
	{ "kill -9 at any byte of either end, and it goes on", in_killed },
	{ "kill -9 of the receiver at any instant, and it goes on", in_killed_by_the_clock },
	{ "what is no stream, newer, damaged or senseless has its own message", in_refused_streams },
	{ "an incremental stream wants its base, unchanged", in_refused_bases },
	{ "a plain file that was written is no base any more", in_written_files },
	{ "a part and the rest find each other, or it is said why not", in_refused_parts },
	{ "a rest that begins too late is refused", in_gap },
	{ "two receivers of one name, and a name that is taken", in_two_receivers },
	{ "snapshots without a name have an id, or are told one", in_nameless },
	{ "what can not be sent is refused", in_refused_regions },
	{ "terminals are not for streams", in_terminals },
	{ "a mount that is full is no end", in_no_room },
	{ "a snapshot that has yielded is an error", in_yielded },
	{ "an ordinary user can do it", in_ordinary_user },
	{ "what strangers put there is not used", in_strangers },
	{ "JSON says what was done", in_json },
	{ "export and import keep bytes and holes", in_export_import },
	{ "pipes carry zeroes, of which import makes holes", in_a_pipe_has_no_holes },
	{ "what can not be exported or imported is refused", in_refused_exports },
	{ NULL, NULL }
};

static void find_cowctl(const char *self)
{
	const char *given = getenv("COWCTL"), *slash = strrchr(self, '/');

	if (given)
		snprintf(cowctl_path, sizeof(cowctl_path), "%s", given);
	else
		snprintf(cowctl_path, sizeof(cowctl_path), "%.*scowctl", slash ? (int)(slash - self) + 1 : 0, self);
	if (access(cowctl_path, X_OK))
		strcpy(cowctl_path, "/usr/bin/cowctl");
	if (access(cowctl_path, X_OK))
		strcpy(cowctl_path, "/bin/cowctl");
}

int main(int argc, char **argv)
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
