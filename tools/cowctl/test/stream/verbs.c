// SPDX-License-Identifier: GPL-2.0-only
/*
 * cowctl send, receive, export and import, as a user runs them; see run.h
 */
#include <signal.h>
#include <sys/mount.h>
#include <sys/xattr.h>
#include <xxhash.h>

#include "run.h"

/* ---- property: whatever was done, a chain of streams carries it ---- */

/* Pages that a region has at most: with large ones, some areas. */
#define SMALL	96u
#define LARGE	(unsigned int)(3 * AREA / PAGE + SMALL)

/* How often the size was so, or changed so, from one snapshot to the next. */
struct seen {
	int empty, whole, odd, grown, shrunk, huge;
};

/**
 * struct live - a region that changes
 * @pages: its size is about so much at most
 * @last: its size when it was sent last
 */
struct live {
	int fd;
	uint64_t size;
	unsigned int pages;
	uint64_t last;
	struct seen seen;
};

static void do_write(struct live *live)
{
	unsigned char data[16 * PAGE];
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
	const uint64_t units[] = { 1, 1, PAGE }, unit = units[below(3)];

	live->size = below(8) ? unit * below(live->pages * PAGE / unit) : 0;
	CHECK(!cowmem_resize(live->fd, live->size));
}

/* The first write to each area makes it one folio, where a mount has such. */
static void do_fill(struct live *live)
{
	uint64_t at, byte = 1 + below(255);

	if (live->pages == SMALL)
		return;
	for (at = below(PAGE); at < live->size; at += AREA - 5)
		EQUAL(pwrite(live->fd, &byte, 1, at), 1);
}

static void some_history(struct live *live)
{
	static void (*const ops[])(struct live *) = {
		do_write, do_write, do_write, do_store, do_store, do_discard, do_resize, do_fill,
	};
	int n = below(12);

	while (n--)
		ops[below(sizeof(ops) / sizeof(*ops))](live);
}

/* What the next one is about, which chance alone may leave out. */
static void next_history(struct live *live, int step)
{
	const uint64_t sizes[] = { 0, 100, 32 * PAGE, 32 * PAGE + 1, 7 * PAGE - 1, 0, 90 * PAGE };

	/* Once it does nothing but grow: what was stored behind the end comes to light. */
	const bool grows = step == 2;

	live->last = live->size;
	if (!grows)
		some_history(live);
	if (step >= (int)(sizeof(sizes) / sizeof(*sizes)))
		return;
	live->size = sizes[step] * (live->pages / SMALL);
	CHECK(!cowmem_resize(live->fd, live->size));
	if (!grows)
		do_store(live);
}

static void count(struct live *live)
{
	struct cowmem_info info;

	CHECK(!cowmem_get_info(live->fd, &info));
	live->seen.empty += !live->size;
	live->seen.odd += live->size % PAGE != 0;
	live->seen.whole += live->size && live->size % PAGE == 0;
	live->seen.grown += live->size > live->last;
	live->seen.shrunk += live->size < live->last;
	live->seen.huge += info.pages_huge != 0;
}

/* Snapshots of a file of the mount @from, one after another, each sent as what differs from the last. */
static void one_chain(const char *from, const char *where, unsigned int pages, int steps, struct seen *seen)
{
	char live_name[64], snap[64], last[64] = "", to[64], last_to[64] = "", options[128], receive[160];
	struct live live = { .pages = pages, .seen = *seen };
	int i;

	snprintf(live_name, sizeof(live_name), "%slive", from);
	live.fd = open(live_name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	CHECK(live.fd >= 0);
	for (i = 0; i < steps; i++) {
		next_history(&live, i);
		count(&live);
		snprintf(snap, sizeof(snap), "%ss%d", from, i);
		snprintf(to, sizeof(to), "%sr%d", where, i);
		snapshot(live_name, snap);
		snprintf(options, sizeof(options), "-l %d %s %s", (int)below(4), i ? "-i" : "", last);
		/* In one directory, what was sent and what was received of it have one id. */
		snprintf(receive, sizeof(receive), "%s %s %s", i && !strcmp(from, where) ? "--base" : "",
			 i && !strcmp(from, where) ? last_to : "", to);
		transfer(options, snap, receive);
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
	*seen = live.seen;
}

/* No kind of size was left out. */
static void has_seen(const struct seen *seen)
{
	printf("# empty %d, of whole pages %d, not %d, grown %d, shrunk %d, with areas of one folio %d\n", seen->empty,
	       seen->whole, seen->odd, seen->grown, seen->shrunk, seen->huge);
	CHECK(seen->empty && seen->whole && seen->odd && seen->grown && seen->shrunk);
}

static void chains(void)
{
	struct seen seen = { 0 };
	int i;

	for (i = 0; i < (int)(4 * percent / 100); i++)
		one_chain(A, B, SMALL, 16, &seen);
	has_seen(&seen);
}

/* Areas of one folio, at the sender, at the receiver, and at both. */
static void huge_chains(void)
{
	struct seen seen = { 0 };
	unsigned int i;

	if (AREA > 64 << 20)
		SKIP("areas of %" PRIu64 " MiB are more than a guest has memory for", AREA >> 20);
	CHECK(!mkdir(DIR "/huge", 0700) || errno == EEXIST);
	if (mount("cowmem", DIR "/huge", "cowmem", 0, "size=0,huge=always"))
		SKIP("no areas of one folio: %s", strerror(errno));
	for (i = 0; i < (percent + 49) / 50; i++) {
		one_chain(DIR "/huge/", B, LARGE, 9, &seen);
		one_chain(DIR "/huge/", DIR "/huge/", LARGE, 9, &seen);
	}
	has_seen(&seen);
	CHECK(seen.huge);
	one_chain(A, DIR "/huge/", LARGE, 9, &seen);
	CHECK(!umount(DIR "/huge"));
}

static void chain_to_files(void)
{
	struct seen seen = { 0 };

	if (!has_attributes(DISK))
		SKIP("no extended attributes on " DISK);
	one_chain(A, DISK, SMALL, 9, &seen);
	has_seen(&seen);
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

/* Somebody waits until a pipe beside the files is opened, which is not for who looks for a base to do. */
static pid_t pipe_beside(void)
{
	pid_t pid;

	CHECK(!mkfifo(B "fifo", 0600));
	pid = child();
	if (!pid)
		_exit(open(B "fifo", O_WRONLY) < 0);
	usleep(200000);
	return pid;
}

static void still_waits(pid_t pid)
{
	usleep(200000);
	EQUAL(waitpid(pid, NULL, WNOHANG), 0);
	kill(pid, SIGKILL);
	EQUAL(waitpid(pid, NULL, 0), pid);
	unlink(B "fifo");
}

/* Which of two it is, is not for the order of a directory to say. Two names of one file are one. */
static void two_bases(void)
{
	pid_t pid;

	small_stream();
	make_file(A "live", 61, 0);
	snapshot(A "live", A "s2");
	WELL(NULL, T "more", "send -i %s %s", A "s1", A "s2");
	WELL(T "stream", NULL, "receive %s", B "one");
	CHECK(!link(B "one", B "name"));
	pid = pipe_beside();
	WELL(T "more", NULL, "receive %s", B "r");
	still_waits(pid);
	unlink(B "r");
	WELL(T "stream", NULL, "receive %s", B "two");
	REFUSED(1, "name the right one by --base", T "more", NULL, "receive %s", B "r");
	CHECK((strstr(said(), "two,") || strstr(said(), "two;")) && !exists(B ".r.part"));
	WELL(T "more", NULL, "receive --base %s %s", B "two", B "r");
	SAME(A "s2", B "r");
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
	REFUSED(1, "and this has no id", T "more", NULL, "receive -b %s %s", A "live", B "r");
	REFUSED(1, "builds on nothing", T "stream", NULL, "receive -b %s %s", A "s1", B "r");
	CHECK(!exists(B "r") && !exists(B ".r.part"));
	fakes();
	/* From another mount, by its name. */
	WELL(T "more", NULL, "receive -b %s %s", A "s1", B "r");
	SAME(A "s2", B "r");
}

static void written_files(void)
{
	if (!has_attributes(DISK))
		SKIP("no extended attributes on " DISK);
	small_stream();
	make_file(A "live", 61, 0);
	snapshot(A "live", A "s2");
	WELL(NULL, T "more", "send -i %s %s", A "s1", A "s2");
	WELL(T "stream", NULL, "receive %s", DISK "w1");
	write_byte(DISK "w1");
	REFUSED(1, "no file beside it", T "more", NULL, "receive %s", DISK "w2");
	REFUSED(1, "may have changed", T "more", NULL, "receive -b %s %s", DISK "w1", DISK "w2");
	unlink(DISK "w1");
	WELL(T "stream", NULL, "receive %s", DISK "w1");
	WELL(T "more", NULL, "receive %s", DISK "w2");
	SAME(DISK "w2", A "s2");
	unlink(DISK "w1");
	unlink(DISK "w2");
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
	/* Nor if it is named. */
	REFUSED(1, "nothing for a terminal", NULL, NULL, "send -o %s %s", ptsname(master), A "live");
	REFUSED(1, "nothing for a terminal", NULL, NULL, "export %s %s", A "live", ptsname(master));
	REFUSED(1, "it is a terminal", NULL, NULL, "receive -i %s %s", ptsname(master), B "r");
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

	mount_small("cowmem", 256, 0);
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

static void json(void)
{
	char size[32];
	size_t n;
	unsigned char *text;

	snprintf(size, sizeof(size), "\"size\":%" PRIu64, 10 * PAGE + 5);
	make_file(A "live", 10, 5);
	snapshot(A "live", A "s1");
	WELL(NULL, T "json", "send --json -o %s --id 0123456789abcdef0123456789abcdef %s", T "stream", A "s1");
	text = read_file(T "json", &n);
	text[n] = 0;
	CHECK(strstr((char *)text, "\"id\":\"0123456789abcdef0123456789abcdef\""));
	CHECK(strstr((char *)text, size) && strstr((char *)text, "\"base\":null"));
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

/* ---- export and import ---- */

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

/* It has bytes, although it says 0. */
static void import_of_proc(void)
{
	int fd = in_file("/proc/version");
	char version[4096];
	ssize_t n = read(fd, version, sizeof(version));

	CHECK(n > 0);
	close(fd);
	write_file(T "version", version, n);
	WELL(NULL, NULL, "import /proc/version %s", B "i5");
	SAME(T "version", B "i5");
	write_file(T "empty", "", 0);
	WELL(NULL, NULL, "import %s %s", T "empty", B "i6");
	EQUAL(size_of(B "i6"), 0);
}

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
	import_of_proc();
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
	REFUSED(1, "is a directory", NULL, NULL, "export %s %s", A "live", T);
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

#define CASE(f) static void in_##f(void) { fresh(); f(); }

CASE(chains)
CASE(huge_chains)
CASE(chain_to_files)
CASE(chain_from_the_receiver)
CASE(live_writer)
CASE(one_percent)
CASE(damaged)
CASE(cut)
CASE(refused_streams)
CASE(refused_bases)
CASE(two_bases)
CASE(written_files)
CASE(nameless)
CASE(refused_regions)
CASE(terminals)
CASE(yielded)
CASE(ordinary_user)
CASE(json)
CASE(export_import)
CASE(a_pipe_has_no_holes)
CASE(refused_exports)

static const struct test tests[] = {
	{ "a chain of streams carries any history", in_chains },
	{ "also with areas of one folio", in_huge_chains },
	{ "also to plain files", in_chain_to_files },
	{ "what was received is the base of what comes back", in_chain_from_the_receiver },
	{ "a region is sent and exported while it is written, as one cut", in_live_writer },
	{ "1 % changed makes a stream of at most 1.02 %", in_one_percent },
	{ "a flipped byte is refused, and spoils nothing", in_damaged },
	{ "a stream that is cut is refused as such, and spoils nothing", in_cut },
	{ "what is no stream, newer, damaged or senseless has its own message", in_refused_streams },
	{ "an incremental stream wants its base, unchanged", in_refused_bases },
	{ "of two that have its id, neither is taken", in_two_bases },
	{ "a plain file that was written is no base any more", in_written_files },
	{ "snapshots without a name have an id, or are told one", in_nameless },
	{ "what can not be sent is refused", in_refused_regions },
	{ "terminals are not for streams", in_terminals },
	{ "a snapshot that has yielded is an error", in_yielded },
	{ "an ordinary user can do it", in_ordinary_user },
	{ "JSON says what was done", in_json },
	{ "export and import keep bytes and holes", in_export_import },
	{ "pipes carry zeroes, of which import makes holes", in_a_pipe_has_no_holes },
	{ "what can not be exported or imported is refused", in_refused_exports },
	{ NULL, NULL }
};

int main(int argc, char **argv)
{
	return run_cases(tests, argc, argv);
}
