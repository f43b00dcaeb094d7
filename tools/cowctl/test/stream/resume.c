// SPDX-License-Identifier: GPL-2.0-only
/*
 * What is left of send and receive when they are cut, killed or refused by the system, and how they go on; see run.h
 */
#include <arpa/inet.h>
#include <net/if.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/xattr.h>
#include <time.h>

#include "run.h"
#include "stream.h"

/* ---- kill -9 ---- */

/* The file .NAME.part of a path. */
static const char *part_of(const char *path)
{
	static char part[256];
	const char *name = strrchr(path, '/') + 1;

	snprintf(part, sizeof(part), "%.*s.%s.part", (int)(name - path), path, name);
	return part;
}

/* It has come, like @from, nobody is to write to it, and nothing else is left. */
static void has_come(const char *path, const char *from)
{
	struct stat st;

	SAME(from, path);
	if (!strncmp(path, B, strlen(B)))
		is_frozen_now(path);
	CHECK(!stat(path, &st));
	EQUAL(st.st_mode & 0777, 0400);
	CHECK(!exists(part_of(path)));
	CHECK(getxattr(path, "user.cowmem.part", NULL, 0) < 0);
	EQUAL(unlink(path), 0);
}

static void read_token(const char *path, char *token, size_t length)
{
	size_t n;
	unsigned char *text;

	*token = 0;
	if (RUN(NULL, T "token", "receive --token %s", path))
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

/*
 * One try: one end is killed, or told to end, after @budget bytes of the stream. Returns true if it came to its end.
 */
static bool try_transfer(const char *options, const char *token, const char *path, uint64_t budget)
{
	static const int signals[] = { SIGKILL, SIGKILL, SIGTERM, SIGINT };
	int from[2], to[2], status[2];
	pid_t pids[2];
	bool ended;

	CHECK(!pipe2(from, O_CLOEXEC) && !pipe2(to, O_CLOEXEC));
	unlink(ERR);
	pids[0] = start(in_file(NULL), from[1], "send %s %s %s", options, *token ? "--resume" : A "s2",
			*token ? token : "");
	pids[1] = start(to[0], out_file(NULL), "receive %s", path);
	ended = !pass(from[0], to[1], budget);
	/* The other one finds out by itself. */
	if (!ended)
		CHECK(!kill(pids[below(2)], signals[below(4)]));
	close(from[0]);
	close(to[1]);
	status[0] = end_of(pids[0]);
	status[1] = end_of(pids[1]);
	if (ended && (status[0] || status[1]))
		FAIL("send %d, receive %d: %s", status[0], status[1], said());
	return ended;
}

static void kills_of(const char *options, const char *path, uint64_t length)
{
	char token[256] = "", line[512];
	uint64_t last = 0;
	int tries = 0, resumed = 0;

	for (;;) {
		/* Half of the time all of it comes again. */
		snprintf(line, sizeof(line), "%s %s", *token ? A "s2" : "", options);
		resumed += position_of(token) != 0;
		if (try_transfer(line, token, path, tries++ > 40 ? UINT64_MAX : below(length * 2 / 3)))
			break;
		if (exists(path))
			FAIL("it has its name before its end");
		read_token(path, token, sizeof(token));
		CHECK(position_of(token) >= last);
		last = position_of(token);
		if (below(3) == 0)
			*token = 0;
	}
	printf("# %d tries, %d went on\n", tries, resumed);
	CHECK(resumed);
	has_come(path, A "s2");
}

/* Into a directory, in full and as what differs. */
static void kills_to(const char *dir)
{
	char path[256], base[256];
	int i;

	signal(SIGPIPE, SIG_IGN);
	snprintf(path, sizeof(path), "%sr", dir);
	snprintf(base, sizeof(base), "%ss1", dir);
	make_file(A "live", 20 * percent, 77);
	snapshot(A "live", A "s1");
	transfer("", A "s1", base);
	make_file(A "live", 25 * percent, 0);
	snapshot(A "live", A "s2");
	WELL(NULL, T "stream", "send %s", A "s2");
	for (i = 0; i < (int)(1 + percent / 50); i++) {
		kills_of("", path, size_of(T "stream"));
		kills_of("-i " A "s1", path, size_of(T "stream"));
	}
}

static void killed(void)
{
	kills_to(B);
}

static void killed_on_disk(void)
{
	if (!has_attributes(DISK))
		SKIP("no extended attributes on " DISK);
	kills_to(DISK);
}

static void killed_on_tmpfs(void)
{
	if (!has_attributes(T))
		SKIP("no extended attributes on " T);
	kills_to(T);
}

/* The receiver alone, at any instant: also while it gives the file its name. */
static void killed_by_the_clock(void)
{
	struct timespec wait = { 0 };
	int i, done = 0, ret;
	pid_t pid;

	small_stream();
	for (i = 0; i < (int)percent / 3; i++) {
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
	has_come(B "r", A "s1");
}

/* At its end, between the last block and the name. What is whole needs no more of a stream than its header. */
#define HEADER	80

static void killed_at(const char *call, bool whole, const char *path)
{
	char token[256];

	trap(call);
	KILLED(SIGKILL, T "stream", NULL, "receive %s", path);
	trap(NULL);
	CHECK(!exists(path) && exists(part_of(path)));
	read_token(path, token, sizeof(token));
	EQUAL(position_of(token), size_of(A "s1"));
	WELL(NULL, T "rest", "send --resume %s %s", token, A "s1");
	CHECK(size_of(T "rest") < HEADER + 250);
	if (whole)
		WELL(T "header", NULL, "receive %s", path);
	else
		WELL(T "rest", NULL, "receive %s", path);
	has_come(path, A "s1");
}

/* The first @length bytes of T "stream", in a file of their own. */
static void cut_stream(const char *to, size_t length)
{
	size_t all;
	unsigned char *data = read_file(T "stream", &all);

	write_file(to, data, length);
	free(data);
}

static void killed_at_its_end_in(const char *path)
{
	small_stream();
	cut_stream(T "header", HEADER);
	killed_at("fsetxattr:3:after", false, path);
	killed_at("fsetxattr:4:before", false, path);
	killed_at("fsetxattr:4:after", true, path);
	killed_at("fchmod:1:after", true, path);
	killed_at("renameat2:1:before", true, path);
	/* The rest of a stream that is not needed any more may be anything. */
	trap("renameat2:1:before");
	KILLED(SIGKILL, T "stream", NULL, "receive %s", path);
	trap("renameat2:1:after");
	KILLED(SIGKILL, T "stream", NULL, "receive %s", path);
	trap(NULL);
	REFUSED(1, "exists", T "stream", NULL, "receive %s", path);
	SAME(path, A "s1");
	CHECK(!exists(part_of(path)));
	unlink(path);
	/* Who has no right to write to what is frozen. */
	user = 65534;
	trap("renameat2:1:before");
	KILLED(SIGKILL, T "stream", NULL, "receive %s", path);
	trap(NULL);
	WELL(T "header", NULL, "receive %s", path);
	user = 0;
	has_come(path, A "s1");
}

static void killed_at_its_end(void)
{
	killed_at_its_end_in(B "r");
}

static void killed_at_its_end_on_disk(void)
{
	if (!has_attributes(DISK))
		SKIP("no extended attributes on " DISK);
	killed_at_its_end_in(DISK "r");
}

/* ---- parts ---- */

/* The first half of T "stream" has come, as B "r". */
static void half(void)
{
	make_file(A "live", 300, 0);
	snapshot(A "live", A "s1");
	WELL(NULL, T "stream", "send %s", A "s1");
	cut_stream(T "half", size_of(T "stream") / 2 + 1);
	REFUSED(1, "receive --token", T "half", NULL, "receive %s", B "r");
}

static void refused_parts(void)
{
	char token[256];

	REFUSED(1, "nothing has come", NULL, NULL, "receive --token %s", B "r");
	REFUSED(1, "no part to give up", NULL, NULL, "receive --abort %s", B "r");
	half();
	CHECK(!exists(B "r") && exists(B ".r.part"));
	read_token(B "r", token, sizeof(token));
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
	char token[256];

	half();
	read_token(B "r", token, sizeof(token));
	WELL(NULL, T "rest", "send --resume %s %s", token, A "s1");
	WELL(NULL, NULL, "receive --abort %s", B "r");
	cut_stream(T "half", size_of(T "stream") / 3);
	CHECK(RUN(T "half", NULL, "receive %s", B "r") == 1);
	REFUSED(1, "the stream goes on at byte", T "rest", NULL, "receive %s", B "r");
	/* Nothing was lost by that. */
	WELL(T "stream", NULL, "receive %s", B "r");
	SAME(A "s1", B "r");
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

/* What others put in a directory for all is not taken for ours. */
static void strangers(void)
{
	half();
	CHECK(!chown(B ".r.part", 65534, 65534));
	REFUSED(1, "somebody else's", T "stream", NULL, "receive %s", B "r");
	REFUSED(1, "somebody else's", NULL, NULL, "receive --token %s", B "r");
	REFUSED(1, "somebody else's", NULL, NULL, "receive --abort %s", B "r");
	CHECK(!chown(B ".r.part", 0, 0));
	CHECK(!chmod(B ".r.part", 0666));
	REFUSED(1, "others may write to it", T "stream", NULL, "receive %s", B "r");
	CHECK(!chmod(B ".r.part", 0600) && !link(B ".r.part", B "second"));
	REFUSED(1, "has another name", T "stream", NULL, "receive %s", B "r");
	unlink(B "second");
	unlink(B ".r.part");
	CHECK(!symlink(T "stream", B ".r.part"));
	REFUSED(1, "can not be opened", T "stream", NULL, "receive %s", B "r");
	REFUSED(1, "can not be opened", NULL, NULL, "receive --abort %s", B "r");
	unlink(B ".r.part");
	CHECK(!mkdir(B ".r.part", 0700));
	REFUSED(1, "can not be opened", NULL, NULL, "receive --abort %s", B "r");
	CHECK(!rmdir(B ".r.part"));
	WELL(T "stream", NULL, "receive %s", B "s1");
	make_file(A "live", 61, 0);
	snapshot(A "live", A "s2");
	WELL(NULL, T "more", "send -i %s %s", A "s1", A "s2");
	CHECK(!chown(B "s1", 65534, 65534));
	REFUSED(1, "no file beside it", T "more", NULL, "receive %s", B "s2");
	WELL(T "more", NULL, "receive -b %s %s", B "s1", B "s2");
}

/* Killed before it could say whose it is, or where it stands. */
static void stateless(bool marked)
{
	trap(marked ? "fsetxattr:2:before" : "fsetxattr:1:before");
	KILLED(SIGKILL, T "stream", NULL, "receive %s", B "r");
	trap(NULL);
	CHECK(exists(B ".r.part") && (getxattr(B ".r.part", "user.cowmem.part", NULL, 0) > 0) == marked);
	EQUAL(size_of(B ".r.part") > 0, marked);
}

static void aborted(void)
{
	int i;

	small_stream();
	stateless(true);
	REFUSED(1, "nothing has come", NULL, NULL, "receive --token %s", B "r");
	WELL(NULL, NULL, "receive --abort %s", B "r");
	CHECK(!exists(B ".r.part"));
	REFUSED(1, "no part to give up", NULL, NULL, "receive --abort %s", B "r");
	for (i = 0; i < 2; i++) {
		stateless(i);
		WELL(T "stream", NULL, "receive %s", B "r");
		has_come(B "r", A "s1");
	}
}

/* A file that is called like a part, and has something in it, is the user's. */
static void not_made_by_cowctl(void)
{
	small_stream();
	write_file(T "raw", "hello", 5);
	write_file(B ".r.part", "precious", 8);
	write_file(T ".r.part", "precious", 8);
	REFUSED(1, "look at it, and remove it", T "stream", NULL, "receive %s", B "r");
	REFUSED(1, "look at it, and remove it", NULL, NULL, "import %s %s", T "raw", B "r");
	REFUSED(1, "not on a mount", NULL, NULL, "import %s %s", T "raw", T "r");
	REFUSED(1, "look at it, and remove it", NULL, NULL, "export %s %s", A "s1", T "r");
	REFUSED(1, "look at it, and remove it", NULL, NULL, "send -o %s %s", T "r", A "s1");
	EQUAL(size_of(B ".r.part"), 8);
	EQUAL(size_of(T ".r.part"), 8);
	WELL(NULL, NULL, "receive --abort %s", B "r");
	CHECK(!exists(B ".r.part"));
	/* What is whole is marked no more. */
	WELL(NULL, NULL, "import --snapshot %s %s", T "raw", B "r");
	CHECK(getxattr(B "r", "user.cowmem.part", NULL, 0) < 0);
}

/* Whatever has got its name meanwhile. */
static void aborted_when_taken(void)
{
	half();
	write_file(B "r", "mine", 4);
	REFUSED(1, "exists", T "stream", NULL, "receive %s", B "r");
	WELL(NULL, NULL, "receive --abort %s", B "r");
	CHECK(!exists(B ".r.part"));
	EQUAL(size_of(B "r"), 4);
	/* Killed between link() and unlink(), where a file system can not rename. */
	CHECK(!link(B "r", B ".r.part"));
	WELL(NULL, NULL, "receive --abort %s", B "r");
	CHECK(!exists(B ".r.part") && exists(B "r"));
	REFUSED(1, "no part to give up", NULL, NULL, "receive --abort %s", B "r");
}

/* Import and export say not where they stand; what was left of them is nobody's part. */
static void left_by_others(void)
{
	make_file(A "live", 20, 5);
	WELL(NULL, NULL, "export %s %s", A "live", T "raw");
	CHECK(!chmod(T "raw", 0644));
	user = 65534;
	trap("renameat2:1:before");
	KILLED(SIGKILL, NULL, NULL, "import --snapshot %s %s", T "raw", B "r");
	WELL(NULL, NULL, "receive --abort %s", B "r");
	KILLED(SIGKILL, NULL, NULL, "import --snapshot %s %s", T "raw", B "r");
	trap(NULL);
	WELL(NULL, NULL, "import --snapshot %s %s", T "raw", B "r");
	SAME(B "r", T "raw");
	CHECK(!exists(B ".r.part"));
	user = 0;
}

/* ---- what others do to a part ---- */

static void resized(void)
{
	half();
	CHECK(!truncate(B ".r.part", 301 * PAGE));
	REFUSED(1, "somebody has changed", T "stream", NULL, "receive %s", B "r");
	CHECK(!truncate(B ".r.part", 5));
	REFUSED(1, "somebody has changed", T "stream", NULL, "receive %s", B "r");
	EQUAL(size_of(B ".r.part"), 5);
	WELL(NULL, NULL, "receive --abort %s", B "r");
	WELL(T "stream", NULL, "receive %s", B "r");
	has_come(B "r", A "s1");
}

/* A plain file can be written even when all of it has come. */
static void written(void)
{
	if (!has_attributes(DISK))
		SKIP("no extended attributes on " DISK);
	small_stream();
	trap("renameat2:1:before");
	KILLED(SIGKILL, T "stream", NULL, "receive %s", DISK "r");
	trap(NULL);
	write_byte(DISK ".r.part");
	REFUSED(1, "somebody has changed", T "stream", NULL, "receive %s", DISK "r");
	WELL(NULL, NULL, "receive --abort %s", DISK "r");
	WELL(T "stream", NULL, "receive %s", DISK "r");
	has_come(DISK "r", A "s1");
}

/* The first @length bytes of T "stream" have come to a receiver of B "r" that waits for more at *end. */
static pid_t waiting(size_t length, int *end)
{
	unsigned char *data;
	int ends[2];
	size_t all;
	pid_t pid;

	data = read_file(T "stream", &all);
	CHECK(!pipe2(ends, O_CLOEXEC));
	unlink(ERR);
	pid = start(ends[0], out_file(NULL), "receive %s", B "r");
	write_all(ends[1], data, length);
	free(data);
	while (!exists(B ".r.part"))
		usleep(1000);
	usleep(100000);
	*end = ends[1];
	return pid;
}

static void give_rest(int end, size_t from)
{
	size_t length;
	unsigned char *data = read_file(T "stream", &length);

	write_all(end, data + from, length - from);
	free(data);
	close(end);
}

static void changed_meanwhile(void)
{
	pid_t pid;
	int end;

	small_stream();
	pid = waiting(200, &end);
	CHECK(!truncate(B ".r.part", 100 * PAGE));
	give_rest(end, 200);
	EQUAL(end_of(pid), 1);
	CHECK(strstr(said(), "somebody has changed") && !exists(B "r"));
	REFUSED(1, "somebody has changed", T "stream", NULL, "receive %s", B "r");
	WELL(NULL, NULL, "receive --abort %s", B "r");
}

/* Start it with a trap that ends in "stop", and wait for that. */
static pid_t stopped(const char *at, const char *in, const char *line)
{
	int status;
	pid_t pid;

	unlink(ERR);
	trap(at);
	pid = start(in_file(in), out_file(NULL), "%s", line);
	trap(NULL);
	EQUAL(waitpid(pid, &status, WUNTRACED), pid);
	if (!WIFSTOPPED(status))
		FAIL("%s at %s: status %#x: %s", line, at, status, said());
	return pid;
}

/* It goes on, and fails with these words. */
static void goes_on(pid_t pid, const char *words)
{
	CHECK(!kill(pid, SIGCONT));
	EQUAL(end_of(pid), 1);
	if (!strstr(said(), words))
		FAIL("%s", said());
}

/* A signal comes at this call: what nobody can go on with does not stay. */
static void ended_at(const char *at, int signal, const char *line, const char *left)
{
	pid_t pid = stopped(at, NULL, line);

	CHECK(exists(left));
	CHECK(!kill(pid, signal) && !kill(pid, SIGCONT));
	EQUAL(end_of(pid), 128 + signal);
	CHECK(!exists(left) && !*said());
}

static void ended_by_signals(void)
{
	pid_t pid;
	int end;

	small_stream();
	ended_at("fsync:1:stop", SIGINT, "export " A "s1 " T "raw", T ".raw.part");
	ended_at("fsync:1:stop", SIGTERM, "send -o " T "new " A "s1", T ".new.part");
	WELL(NULL, NULL, "export %s %s", A "s1", T "raw");
	ended_at("pwrite64:1:stop", SIGINT, "import " T "raw " B "i", B ".i.part");
	ended_at("fchmod:1:stop", SIGHUP, "import --snapshot " T "raw " B "i", B ".i.part");
	CHECK(!exists(B "i"));
	/* What has its name is not said to be kept as a part, and is finished. */
	pid = stopped("fremovexattr:1:stop", T "stream", "receive " B "r");
	CHECK(exists(B "r"));
	CHECK(!kill(pid, SIGTERM) && !kill(pid, SIGCONT));
	EQUAL(end_of(pid), 128 + SIGTERM);
	CHECK(!*said());
	has_come(B "r", A "s1");
	/* Of a stream it stays, if there is something, and that is said. */
	pid = waiting(90, &end);
	CHECK(!kill(pid, SIGINT));
	EQUAL(end_of(pid), 128 + SIGINT);
	close(end);
	CHECK(!exists(B ".r.part") && !*said());
	pid = waiting(size_of(T "stream") / 2 + 1, &end);
	CHECK(!kill(pid, SIGINT));
	EQUAL(end_of(pid), 128 + SIGINT);
	close(end);
	if (!strstr(said(), B "r: what has come is kept") || !strstr(said(), "receive --abort\n"))
		FAIL("%s", said());
	WELL(T "stream", NULL, "receive %s", B "r");
	has_come(B "r", A "s1");
}

static void replaced(void)
{
	pid_t pid;
	int end;

	small_stream();
	pid = waiting(200, &end);
	CHECK(!rename(B ".r.part", B "moved"));
	write_file(B ".r.part", "mine", 4);
	give_rest(end, 200);
	EQUAL(end_of(pid), 1);
	CHECK(strstr(said(), "removed or replaced") && !exists(B "r"));
	EQUAL(size_of(B ".r.part"), 4);
	unlink(B ".r.part");
	/* Nor is it removed when nothing has come of the other one. */
	pid = waiting(90, &end);
	CHECK(!rename(B ".r.part", B "moved"));
	write_file(B ".r.part", "mine", 4);
	close(end);
	EQUAL(end_of(pid), 1);
	CHECK(strstr(said(), "the stream is cut"));
	EQUAL(size_of(B ".r.part"), 4);
	pid = stopped("fsync:1:stop", NULL, "send -o " T "new " A "s1");
	write_file(T "other", "mine", 4);
	CHECK(!rename(T "other", T ".new.part"));
	goes_on(pid, "removed or replaced");
	EQUAL(size_of(T ".new.part"), 4);
}

/* What was no file when it was looked at is one when it is opened. */
static void pipe_replaced(void)
{
	pid_t pid;

	small_stream();
	CHECK(!mkfifo(T "pipe", 0600));
	write_file(T "other", "mine", 4);
	pid = stopped("stat:1:stopped", NULL, "export " A "s1 " T "pipe");
	CHECK(!rename(T "other", T "pipe"));
	goes_on(pid, "replaced by a file");
	EQUAL(size_of(T "pipe"), 4);
}

/* What a stream builds on is a plain file, and written while it is copied. */
static void base_changed(void)
{
	pid_t pid;

	if (!has_attributes(DISK))
		SKIP("no extended attributes on " DISK);
	small_stream();
	make_file(A "live", 61, 0);
	snapshot(A "live", A "s2");
	WELL(NULL, T "more", "send -i %s %s", A "s1", A "s2");
	WELL(T "stream", NULL, "receive %s", DISK "s1");
	pid = stopped("pwrite64:1:stop", T "more", "receive " DISK "r");
	write_byte(DISK "s1");
	goes_on(pid, "was changed while it was copied");
	CHECK(!exists(DISK "r") && !exists(DISK ".r.part"));
}

/* ---- holes ---- */

static int put_to(void *arg, const void *data, size_t length)
{
	write_all(*(int *)arg, data, length);
	return 0;
}

/* A stream of a region that is a hole between its first and its last page. */
static void make_hole_stream(const char *path, uint64_t size, uint8_t id, uint8_t base)
{
	struct stream_header header = { .size = size, .page_size = PAGE, .id = {{ id }}, .base = {{ base }} };
	int fd = out_file(path);
	struct stream_writer *w = stream_writer_new(put_to, &fd, STREAM_LEVEL_DEFAULT);
	unsigned char data[PAGE];

	memset(data, 'x', sizeof(data));
	CHECK(w && !stream_put_header(w, &header) && !stream_put_data(w, 0, data, PAGE) &&
	      !stream_put_hole(w, PAGE, size - 2 * PAGE) && !stream_put_data(w, size - PAGE, data, PAGE) &&
	      !stream_put_end(w));
	stream_writer_free(w);
	close(fd);
}

/* It has its two pages, and memory for not many more. */
static void is_hollow(const char *path, uint64_t size)
{
	int fd = in_file(path);
	unsigned char data[2 * PAGE];
	struct stat st;

	CHECK(!fstat(fd, &st));
	EQUAL(st.st_size, size);
	if (st.st_blocks * 512 > (off_t)(8 * PAGE))
		FAIL("%s has %jd blocks", path, (intmax_t)st.st_blocks);
	EQUAL(pread(fd, data, sizeof(data), 0), sizeof(data));
	CHECK(data[0] == 'x' && data[PAGE - 1] == 'x' && !data[PAGE] && !data[2 * PAGE - 1]);
	EQUAL(pread(fd, data, sizeof(data), size - 2 * PAGE), sizeof(data));
	CHECK(data[PAGE] == 'x' && data[2 * PAGE - 1] == 'x' && !data[0] && !data[PAGE - 1]);
	close(fd);
}

#define RAM	DIR "/ram/"	/* can neither make holes nor tell where they are, nor keep an id */

/* As WELL(), but for that id. */
static void receive_to_ram(const char *options)
{
	REFUSED(0, "can not keep its id", T "stream", NULL, "receive %s %s", options, RAM "r");
}

/* Names of which ".NAME.part" would be too long, and that begin alike. A stream of one that was cut goes on. */
static void longest_names(void)
{
	char first[sizeof(B) + NAME_MAX], second[sizeof(first)], token[256];
	struct dirent **left;
	int length;

	half();
	unlink(B ".r.part");
	for (length = NAME_MAX - 6; length <= NAME_MAX; length++) {
		memset(first, 'n', sizeof(first));
		memcpy(first, B, strlen(B));
		first[strlen(B) + length] = 0;
		strcpy(second, first);
		second[strlen(B) + length - 1] = 'm';
		REFUSED(1, "receive --token", T "half", NULL, "receive %s", first);
		WELL(T "stream", NULL, "receive %s", second);
		read_token(first, token, sizeof(token));
		WELL(NULL, T "rest", "send --resume %s %s", token, A "s1");
		CHECK(size_of(T "rest") < size_of(T "stream") * 2 / 3);
		WELL(T "rest", NULL, "receive %s", first);
		EQUAL(scandir(B, &left, NULL, NULL), 4);
		SAME(A "s1", first);
		SAME(A "s1", second);
		EQUAL(unlink(first), 0);
		EQUAL(unlink(second), 0);
	}
}

static void large_holes(void)
{
	static const uint64_t sizes[] = { 64ULL << 20, 1ULL << 40 };
	static const char *const paths[] = { B "r", T "r", DISK "r" };
	unsigned int i, k;

	CHECK(!mkdir(DIR "/ram", 0700) || errno == EEXIST);
	CHECK(!mount("ramfs", DIR "/ram", "ramfs", 0, NULL));
	for (i = 0; i < 2; i++) {
		make_hole_stream(T "stream", sizes[i], 1, 0);
		receive_to_ram("");
		is_hollow(RAM "r", sizes[i]);
		unlink(RAM "r");
		for (k = 0; k < 3; k++) {
			EQUAL(RUN(T "stream", NULL, "receive %s", paths[k]), 0);
			is_hollow(paths[k], sizes[i]);
			unlink(paths[k]);
		}
	}
	/* One that builds on another makes a hole where that may have something. */
	EQUAL(RUN(T "stream", NULL, "receive %s", B "r"), 0);
	make_hole_stream(T "stream", 1ULL << 40, 2, 1);
	WELL(T "stream", NULL, "receive %s", B "q");
	is_hollow(B "q", 1ULL << 40);
	CHECK(!umount(DIR "/ram"));
}

/* What the base has there is zero, even where no hole can be made. */
static void holes_that_are_written(void)
{
	int fd;

	CHECK(!mkdir(DIR "/ram", 0700) || errno == EEXIST);
	CHECK(!mount("ramfs", DIR "/ram", "ramfs", 0, NULL));
	make_file(A "live", 300, 0);
	snapshot(A "live", A "s1");
	transfer("", A "s1", B "s1");
	fd = open(A "live", O_RDWR | O_CLOEXEC);
	CHECK(!cowmem_discard(fd, 3 * PAGE, 200 * PAGE));
	close(fd);
	snapshot(A "live", A "s2");
	WELL(NULL, T "stream", "send -i %s %s", A "s1", A "s2");
	receive_to_ram("-b " B "s1");
	SAME(RAM "r", A "s2");
	CHECK(!umount(DIR "/ram"));
}

/* ---- from machines with other pages ---- */

#define FIRST	"01000000000000000000000000000000"	/* the id { 1 } */

/* A plain file with bytes and zeroes in turns, of no page's size. */
static void make_mixture(const char *path, size_t length)
{
	unsigned char *data = calloc(1, length);
	size_t at, n;

	CHECK(data);
	for (at = 0; at < length; at += n + below(12 * 4096)) {
		n = below(12 * 4096);
		if (n > length - at)
			n = length - at;
		noise(data + at, n);
	}
	write_file(path, data, length);
	free(data);
}

/* What a region of that content reads as, with zeroes up to @length. */
static unsigned char *read_padded(const char *path, size_t length)
{
	size_t n = 0;
	unsigned char *data = path ? read_file(path, &n) : NULL, *padded = calloc(1, length + 1);

	CHECK(padded);
	if (data)
		memcpy(padded, data, n < length ? n : length);
	free(data);
	return padded;
}

static bool is_zero(const unsigned char *data, size_t length)
{
	return !*data && !memcmp(data, data + 1, length - 1);
}

/*
 * The stream that a machine with pages of @page bytes makes of what is in the file @to: all of it, with the id { 1 };
 * or, with { 2 }, what differs from @from, which has that one.
 */
static void make_foreign_stream(const char *path, const char *from, const char *to, uint32_t page)
{
	struct stream_header header = { .size = size_of(to), .page_size = page, .id = {{ from ? 2 : 1 }} };
	unsigned char *old = read_padded(from, header.size), *new = read_padded(to, header.size);
	int fd = out_file(path);
	struct stream_writer *w = stream_writer_new(put_to, &fd, STREAM_LEVEL_DEFAULT);
	uint64_t at, n;

	header.base.bytes[0] = from ? 1 : 0;
	CHECK(w && !stream_put_header(w, &header));
	for (at = 0; at < header.size; at += n) {
		n = header.size - at < page ? header.size - at : page;
		if (!memcmp(old + at, new + at, n))
			continue;
		if (is_zero(new + at, n))
			CHECK(!stream_put_hole(w, at, n));
		else
			CHECK(!stream_put_data(w, at, new + at, n));
	}
	CHECK(!stream_put_end(w));
	stream_writer_free(w);
	close(fd);
	free(old);
	free(new);
}

/*
 * It is cut, and the rest comes from a machine like this one, which has the same snapshot. False if nothing of it has
 * come before.
 */
static bool foreign_rest(void)
{
	char token[256];

	WELL(NULL, NULL, "import --snapshot %s %s", T "one", A "s1");
	cut_stream(T "half", size_of(T "stream") / 2 + 1);
	CHECK(RUN(T "half", NULL, "receive %s", B "r") == 1);
	read_token(B "r", token, sizeof(token));
	if (!*token) {
		unlink(A "s1");
		return false;
	}
	WELL(NULL, T "rest", "send --id %s --resume %s %s", FIRST, token, A "s1");
	WELL(T "rest", NULL, "receive %s", B "r");
	SAME(T "one", B "r");
	unlink(B "r");
	unlink(A "s1");
	return true;
}

static void other_pages(void)
{
	static const uint32_t pages[] = { 4096, 16384, 65536, STREAM_BLOCK_MAX };
	static const size_t sizes[] = { 70 * 4096, 350 * 1000, 100, 3 << 20 };
	unsigned int i, k, resumed = 0;

	for (i = 0; i < 4; i++)
		for (k = 0; k < 4; k++) {
			make_mixture(T "one", sizes[k]);
			make_mixture(T "two", sizes[below(4)]);
			make_foreign_stream(T "stream", NULL, T "one", pages[i]);
			make_foreign_stream(T "more", T "one", T "two", pages[i]);
			WELL(T "stream", NULL, "receive %s", B "s1");
			SAME(T "one", B "s1");
			WELL(T "more", NULL, "receive %s", B "s2");
			SAME(T "two", B "s2");
			unlink(B "s1");
			unlink(B "s2");
			resumed += foreign_rest();
		}
	CHECK(resumed >= 7);
}

/*
 * What was stored behind the end of a region does not come to light where one with a longer content is received on it.
 * A sender with pages as large as ours replaces that page in any case; one with smaller pages need not.
 */
static void behind_the_end(void)
{
	const uint64_t end = PAGE + 11;
	unsigned char *data, *mem;
	int fd;

	make_file(A "live", 1, 11);
	fd = open(A "live", O_RDWR | O_CLOEXEC);
	mem = cowmem_map(fd, 0, 2 * PAGE, PROT_READ | PROT_WRITE);
	CHECK(mem != MAP_FAILED);
	memset(mem + end, 'x', 2 * PAGE - end);
	munmap(mem, 2 * PAGE);
	close(fd);
	snapshot(A "live", A "s1");
	WELL(NULL, NULL, "send --id %s %s", FIRST, A "s1");
	data = read_padded(A "s1", 3 * PAGE + 5);
	write_file(T "two", data, 3 * PAGE + 5);
	free(data);
	make_foreign_stream(T "more", A "s1", T "two", 4096);
	WELL(T "more", NULL, "receive %s", A "s2");
	SAME(T "two", A "s2");
}

/* ---- sockets ---- */

static void set_up_loopback(void)
{
	struct ifreq lo = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &lo))
		SKIP("no TCP: %s", strerror(errno));
	close(fd);
}

/* Two ends of a connection, with so little room that both sides see a part at a time. */
static void make_sockets(int family, int ends[2])
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t length = sizeof(address);
	int listener, room = 4096;

	if (family == AF_UNIX) {
		CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends));
		CHECK(!setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room)));
		return;
	}
	set_up_loopback();
	listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ends[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK(!setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room)));
	CHECK(!bind(listener, (void *)&address, length) && !listen(listener, 1));
	CHECK(!getsockname(listener, (void *)&address, &length));
	CHECK(!connect(ends[0], (void *)&address, length));
	ends[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	CHECK(ends[1] >= 0);
	close(listener);
}

static void through_sockets(int family, int flags)
{
	pid_t send, receive;
	int ends[2];

	make_sockets(family, ends);
	CHECK(!fcntl(ends[0], F_SETFL, flags) && !fcntl(ends[1], F_SETFL, flags));
	unlink(ERR);
	send = start(in_file(NULL), ends[0], "send -l 0 %s", A "s1");
	receive = start(ends[1], out_file(NULL), "receive %s", B "r");
	if (end_of(send) | end_of(receive))
		FAIL("family %d, flags %d: %s", family, flags, said());
	has_come(B "r", A "s1");
}

/* Who receives goes after some of it: that is said, and does not kill. */
static void receiver_goes(int family)
{
	char data[5000];
	int ends[2];
	pid_t pid;

	make_sockets(family, ends);
	unlink(ERR);
	pid = start(in_file(NULL), ends[0], "send -l 0 %s", A "s1");
	EQUAL(recv(ends[1], data, sizeof(data), MSG_WAITALL), sizeof(data));
	close(ends[1]);
	EQUAL(end_of(pid), 1);
	if (!strstr(said(), "has gone"))
		FAIL("family %d: %s", family, said());
}

/* Who sends goes, in order or not, and what has come stays. */
static void sender_goes(int family, bool reset)
{
	const struct linger linger = { .l_onoff = reset };
	size_t length;
	unsigned char *data = read_file(T "stream", &length);
	char token[256];
	int ends[2];
	pid_t pid;

	make_sockets(family, ends);
	unlink(ERR);
	pid = start(ends[1], out_file(NULL), "receive %s", B "r");
	write_all(ends[0], data, length / 2);
	while (!exists(B ".r.part"))
		usleep(1000);
	usleep(200000);
	CHECK(!setsockopt(ends[0], SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)));
	close(ends[0]);
	EQUAL(end_of(pid), 1);
	if (!strstr(said(), reset && family == AF_INET ? "reset by peer" : "the stream is cut"))
		FAIL("family %d, reset %d: %s", family, reset, said());
	read_token(B "r", token, sizeof(token));
	CHECK(position_of(token) > 0);
	WELL(T "stream", NULL, "receive %s", B "r");
	has_come(B "r", A "s1");
	free(data);
}

static void sockets(int family)
{
	make_file(A "live", 250, 77);
	snapshot(A "live", A "s1");
	WELL(NULL, T "stream", "send %s", A "s1");
	through_sockets(family, 0);
	/* One that does not wait. */
	through_sockets(family, O_NONBLOCK);
	receiver_goes(family);
	sender_goes(family, false);
	sender_goes(family, true);
}

static void unix_sockets(void)
{
	sockets(AF_UNIX);
}

static void tcp_sockets(void)
{
	sockets(AF_INET);
}

static void pipes_that_do_not_wait(void)
{
	int ends[2];
	pid_t send, receive;

	small_stream();
	CHECK(!pipe2(ends, O_CLOEXEC | O_NONBLOCK));
	unlink(ERR);
	receive = start(dup(ends[0]), out_file(NULL), "receive %s", B "r");
	usleep(200000);
	send = start(in_file(NULL), ends[1], "send -l 0 %s", A "s1");
	close(ends[0]);
	if (end_of(send) | end_of(receive))
		FAIL("%s", said());
	has_come(B "r", A "s1");
}

/* ---- room ---- */

static void no_room_on(const char *type)
{
	mount_small(type, 512, 0);
	REFUSED(1, has_attributes(DIR "/small/") ? "or give it up: cowctl receive --abort" : "No space left",
		T "stream", NULL, "receive %s", DIR "/small/r");
	CHECK(!exists(DIR "/small/r"));
	/* More room, and it goes on. */
	mount_small(type, 5120, MS_REMOUNT);
	EQUAL(RUN(T "stream", NULL, "receive %s", DIR "/small/r"), 0);
	SAME(A "s1", DIR "/small/r");
	CHECK(!umount(DIR "/small"));
}

static void no_room(void)
{
	make_file(A "live", 1000, 0);
	snapshot(A "live", A "s1");
	WELL(NULL, T "stream", "send %s", A "s1");
	no_room_on("cowmem");
	no_room_on("tmpfs");
}

/* Leave room for a few pages on the disk. */
static void fill_disk(void)
{
	int fd = out_file(DISK "full");
	off_t end = 0, more = 64 << 20;

	while (more >= (off_t)PAGE) {
		if (posix_fallocate(fd, end, more))
			more /= 2;
		else
			end += more;
	}
	CHECK(!ftruncate(fd, end - 100 * PAGE));
	close(fd);
}

static void no_room_on_disk(void)
{
	char token[256];

	if (!has_attributes(DISK))
		SKIP("no extended attributes on " DISK);
	make_file(A "live", 300, 0);
	snapshot(A "live", A "s1");
	WELL(NULL, T "stream", "send %s", A "s1");
	fill_disk();
	REFUSED(1, "No space left", T "stream", NULL, "receive %s", DISK "r");
	unlink(DISK "full");
	read_token(DISK "r", token, sizeof(token));
	WELL(NULL, T "rest", "send --resume %s %s", token, A "s1");
	WELL(T "rest", NULL, "receive %s", DISK "r");
	has_come(DISK "r", A "s1");
	trap("pwrite64:5:122");
	REFUSED(1, "quota", T "stream", NULL, "receive %s", DISK "r");
	trap(NULL);
	WELL(T "stream", NULL, "receive %s", DISK "r");
	has_come(DISK "r", A "s1");
}

/* A disk that fails to write says that once. What was lost is not noted to have come. */
static void disk_fails(void)
{
	char token[256];

	if (!has_attributes(DISK))
		SKIP("no extended attributes on " DISK);
	make_file(A "live", 300, 0);
	snapshot(A "live", A "s1");
	WELL(NULL, T "stream", "send %s", A "s1");
	trap("fdatasync:1:5");
	REFUSED(1, "Input/output error", T "stream", NULL, "receive %s", DISK "r");
	trap(NULL);
	read_token(DISK "r", token, sizeof(token));
	CHECK(*token && !position_of(token));
	WELL(T "stream", NULL, "receive %s", DISK "r");
	has_come(DISK "r", A "s1");
	/* The last one is that of the directory. */
	trap("fsync:4:5");
	REFUSED(1, "may have no name after a crash", T "stream", NULL, "receive %s", DISK "r");
	trap(NULL);
	has_come(DISK "r", A "s1");
}

/* A limit of the size of files is an error like any other. */
static void too_large(void)
{
	struct rlimit old, limit;

	make_file(A "live", 100, 0);
	make_file(A "small", 1, 0);
	snapshot(A "live", A "s1");
	WELL(NULL, T "stream", "send %s", A "s1");
	CHECK(!getrlimit(RLIMIT_FSIZE, &old));
	limit = old;
	limit.rlim_cur = 40960;
	CHECK(!setrlimit(RLIMIT_FSIZE, &limit));
	REFUSED(1, "File too large", T "stream", NULL, "receive %s", T "r");
	REFUSED(1, "File too large", NULL, NULL, "send -o %s %s", T "new", A "s1");
	REFUSED(1, "File too large", NULL, NULL, "export %s %s", A "s1", T "new");
	REFUSED(1, "File too large", NULL, NULL, "create -s 1M %s", A "new");
	REFUSED(1, "File too large", NULL, NULL, "restore --size %s %s", A "small", A "s1");
	CHECK(!setrlimit(RLIMIT_FSIZE, &old));
	CHECK(!exists(T "new") && !exists(T ".new.part") && !exists(A "new"));
}

/* ---- a stream in a file has its name when all of it is there ---- */

static void sent_to_a_file(void)
{
	make_file(A "live", 100, 0);
	snapshot(A "live", A "s1");
	mount_small("tmpfs", (100 << 10) / PAGE, 0);
	REFUSED(1, "No space left", NULL, NULL, "send -o %s %s", DIR "/small/new", A "s1");
	CHECK(!exists(DIR "/small/new") && !exists(DIR "/small/.new.part"));
	CHECK(!umount(DIR "/small"));
	trap("fsync:1:before");
	KILLED(SIGKILL, NULL, NULL, "send -o %s %s", T "new", A "s1");
	trap(NULL);
	CHECK(!exists(T "new") && exists(T ".new.part"));
	/* Where there are no attributes it could be anybody's. */
	if (!has_attributes(T)) {
		REFUSED(1, "look at it, and remove it", NULL, NULL, "send -o %s %s", T "new", A "s1");
		unlink(T ".new.part");
	}
	WELL(NULL, NULL, "send -o %s %s", T "new", A "s1");
	CHECK(!exists(T ".new.part"));
	WELL(T "new", NULL, "receive %s", B "r");
	has_come(B "r", A "s1");
}

/* ---- what is there already ---- */

static void names_that_are_taken(void)
{
	char token[256];

	half();
	read_token(B "r", token, sizeof(token));
	/* Nothing else takes what has come. */
	REFUSED(1, ".r.part is of a stream that was cut", NULL, NULL, "import %s %s", T "half", B "r");
	WELL(NULL, NULL, "receive --token %s", B "r");
	WELL(T "stream", NULL, "receive %s", B "r");
	SAME(B "r", A "s1");
	REFUSED(1, "nothing is left to send", NULL, NULL, "receive --token %s", B "r");
	REFUSED(1, "no part to give up", NULL, NULL, "receive --abort %s", B "r");
	REFUSED(1, "it exists; remove it, or choose another name", T "stream", NULL, "receive %s", B "r");
	/* A directory is not to be removed. */
	REFUSED(1, "is a directory; name something new in it", T "stream", NULL, "receive %s", DIR "/b");
	REFUSED(1, "is a directory; name something new in it", T "stream", NULL, "receive %s", B);
	REFUSED(1, "is a directory; name something new in it", NULL, NULL, "export %s %s", A "s1", DIR "/t");
	REFUSED(1, "is a directory; name something new in it", NULL, NULL, "send -o %s %s", DIR "/t", A "s1");
	REFUSED(1, "is a directory; name something new in it", NULL, NULL, "import %s %s", T "half", DIR "/b");
	REFUSED(1, DIR "/t: it is a directory; name a file in it", NULL, NULL, "receive -i %s %s", DIR "/t", B "n");
	REFUSED(1, DIR "/t: it is a directory; name a file in it", NULL, NULL, "import %s %s", DIR "/t", B "n");
	CHECK(!exists(B "n") && !exists(B ".n.part"));
}

/* Where there are no extended attributes no id is kept, and no other reason is named. */
static void no_ids(void)
{
	CHECK(!mkdir(DIR "/ram", 0700) || errno == EEXIST);
	CHECK(!mount("ramfs", DIR "/ram", "ramfs", 0, NULL));
	small_stream();
	make_file(A "live", 70, 0);
	snapshot(A "live", A "s2");
	WELL(NULL, T "more", "send -i %s %s", A "s1", A "s2");
	EQUAL(RUN(T "stream", NULL, "receive %s", RAM "s1"), 0);
	REFUSED(1, "keeps no ids: receive all onto another one", T "more", NULL, "receive %s", RAM "s2");
	REFUSED(1, "keeps no ids: receive all onto another one", T "more", NULL, "receive --base %s %s", RAM "s1", RAM "s2");
	REFUSED(1, "no file beside it is that", T "more", NULL, "receive %s", B "s2");
	CHECK(!umount(DIR "/ram"));
}

/* What is closed is not taken for a file, nor a file for that. */
static void closed_descriptors(void)
{
	CHECK(!mkdir(DIR "/ram", 0700) || errno == EEXIST);
	CHECK(!mount("ramfs", DIR "/ram", "ramfs", 0, NULL));
	small_stream();
	/* There is something to be said, but not in the file. */
	closed = 7;
	EQUAL(RUN(NULL, NULL, "receive -i %s %s", T "stream", RAM "r"), 0);
	SAME(RAM "r", A "s1");
	closed = 2;
	REFUSED(1, "standard output: Bad file descriptor", NULL, NULL, "send %s", A "s1");
	closed = 1;
	REFUSED(1, "standard input: the stream can not be read: Bad file descriptor", NULL, NULL, "receive %s", B "r");
	closed = 0;
	CHECK(!umount(DIR "/ram"));
}

/* ---- */

CASE(killed)
CASE(killed_on_disk)
CASE(killed_on_tmpfs)
CASE(killed_by_the_clock)
CASE(killed_at_its_end)
CASE(killed_at_its_end_on_disk)
CASE(refused_parts)
CASE(gap)
CASE(two_receivers)
CASE(strangers)
CASE(no_room)
CASE(aborted)
CASE(not_made_by_cowctl)
CASE(aborted_when_taken)
CASE(left_by_others)
CASE(resized)
CASE(written)
CASE(changed_meanwhile)
CASE(replaced)
CASE(pipe_replaced)
CASE(base_changed)
CASE(longest_names)
CASE(large_holes)
CASE(holes_that_are_written)
CASE(other_pages)
CASE(behind_the_end)
CASE(unix_sockets)
CASE(tcp_sockets)
CASE(pipes_that_do_not_wait)
CASE(no_room_on_disk)
CASE(disk_fails)
CASE(too_large)
CASE(sent_to_a_file)
CASE(closed_descriptors)
CASE(ended_by_signals)
CASE(names_that_are_taken)
CASE(no_ids)

static const struct test tests[] = {
	{ "killed or ended at any byte of either end, and it goes on", in_killed },
	{ "also to a file on a disk", in_killed_on_disk },
	{ "also to a file on a tmpfs", in_killed_on_tmpfs },
	{ "kill -9 of the receiver at any instant, and it goes on", in_killed_by_the_clock },
	{ "kill -9 just before it gets its name, and it gets that", in_killed_at_its_end },
	{ "also on a disk", in_killed_at_its_end_on_disk },
	{ "a part and the rest find each other, or it is said why not", in_refused_parts },
	{ "a rest that begins too late is refused", in_gap },
	{ "two receivers of one name, and a name that is taken", in_two_receivers },
	{ "what strangers put there is not used", in_strangers },
	{ "a mount that is full is no end", in_no_room },
	{ "a part that says nothing yet is given up as well", in_aborted },
	{ "a file that only has the name of a part stays", in_not_made_by_cowctl },
	{ "a part is given up also if its name is taken", in_aborted_when_taken },
	{ "what import leaves when it is killed is no part of a stream", in_left_by_others },
	{ "a part that somebody made longer or shorter is refused", in_resized },
	{ "a whole part that somebody wrote to is refused", in_written },
	{ "also if that was while it came", in_changed_meanwhile },
	{ "what somebody put in the place of a part is theirs", in_replaced },
	{ "a file that somebody put in the place of a pipe is not written", in_pipe_replaced },
	{ "a base that is written while it is copied is refused", in_base_changed },
	{ "a name may be as long as a name can be", in_longest_names },
	{ "a terabyte of hole costs nothing", in_large_holes },
	{ "zeroes are written where no hole can be made", in_holes_that_are_written },
	{ "streams of machines with smaller and larger pages", in_other_pages },
	{ "what was stored behind the end of a base stays there", in_behind_the_end },
	{ "UNIX sockets, and either end goes", in_unix_sockets },
	{ "TCP, and either end goes", in_tcp_sockets },
	{ "a pipe that does not wait", in_pipes_that_do_not_wait },
	{ "so is a disk that is full, or a quota", in_no_room_on_disk },
	{ "what a disk has lost is not noted to have come", in_disk_fails },
	{ "a limit of the size of files is said", in_too_large },
	{ "a stream in a file has its name when all is there", in_sent_to_a_file },
	{ "closed descriptors spoil no file", in_closed_descriptors },
	{ "ended by a signal, nothing stays that is of no use", in_ended_by_signals },
	{ "what is there already is told apart, and stays", in_names_that_are_taken },
	{ "no ids are kept, and that is said", in_no_ids },
	{ NULL, NULL }
};

int main(int argc, char **argv)
{
	return run_cases(tests, argc, argv);
}
