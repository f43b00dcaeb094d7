// SPDX-License-Identifier: GPL-2.0-only
/*
 * Run a program with regions for files, and clone them while it runs.
 *
 * The program finds their paths in its environment: $F is one of the size that
 * was asked for, $G another, empty one.  They are /proc/PID/fd/N of this process,
 * which stays until the program ends.  What becomes of the clones is told by the
 * exit status: that of the program, or 99 if a clone was not what it must be.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/cowmem.h>

#define BAD_CLONE	99
#define PAGE		4096
/* As many clones are alive at once; one of as many is read. */
#define ALIVE		4

static const char usage[] =
"Usage: region [OPTION]... -- COMMAND [ARG]...\n"
"  --on region|tmpfs  what $F and $G are; by default $ON, or else regions\n"
"  --size SIZE        of $F, in bytes, or with K or M\n"
"  --fill             write all of $F first, each page with other words\n"
"  --of PATH          $F is a clone of that region\n"
"  --clone-every MS   clone $F all the while: clones must never change\n"
"  --prefix           COMMAND writes $F from its start to its end: so must the clones be\n"
"  --write            write $F meanwhile, word by word: what a clone has must be the first of it\n";

struct clone {
	int fd;
	bool read;
	uint64_t digest;
};

static struct {
	const char *on;
	const char *of;
	off_t size;
	bool fill;
	bool prefix;
	bool write;
	unsigned int every;
} option;

static int region;
static unsigned long clones;
static atomic_bool over;
/* The command's, with all that it starts. */
static volatile pid_t group;

static void __attribute__((noreturn, format(printf, 2, 3))) end(int status, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fputs("region: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	if (group > 0)
		kill(-group, SIGKILL);
	/* With a thread about. */
	_exit(status);
}

/* The time that the command had is over. */
static void on_term(int signal)
{
	kill(-group, SIGKILL);
	_exit(128 + signal);
}

#define fail(what)	end(1, "%s: %s", what, strerror(errno))

static int new_tmpfs(const char *name)
{
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0 || fchmod(fd, 0600))
		fail("memfd_create");
	return fd;
}

static int new_region(const char *name)
{
	struct cowmem_file file = { .name = (uintptr_t)name };
	int fd = open("/dev/cowmem", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		fail("/dev/cowmem");
	if (ioctl(fd, COWMEM_IOC_FILE, &file))
		fail("COWMEM_IOC_FILE");
	close(fd);
	return file.fd;
}

static int new_file(const char *name)
{
	return strcmp(option.on, "tmpfs") ? new_region(name) : new_tmpfs(name);
}

static int clone_of(int fd, unsigned int flags)
{
	struct cowmem_clone clone = { .flags = flags };

	if (ioctl(fd, COWMEM_IOC_CLONE, &clone))
		fail("COWMEM_IOC_CLONE");
	return clone.fd;
}

/* A clone of a file that is no region is a copy. */
static int copy_of(const char *path)
{
	int to, fd = open(path, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		fail(path);
	if (strcmp(option.on, "tmpfs"))
		return clone_of(fd, 0);
	to = new_tmpfs("copy");
	while (sendfile(to, fd, NULL, 1 << 20) > 0)
		;
	return to;
}

static void fill(int fd)
{
	uint64_t page[PAGE / 8];

	for (off_t at = 0; at < option.size; at += PAGE) {
		size_t length = option.size - at < PAGE ? option.size - at : PAGE;

		for (unsigned int i = 0; i < PAGE / 8; i++)
			page[i] = (at + 8 * i + 1) * 0x9e3779b97f4a7c15;
		if (pwrite(fd, page, length, at) != (ssize_t)length)
			fail("pwrite");
	}
}

static void export(const char *variable, int fd)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", getpid(), fd);
	setenv(variable, path, 1);
}

static uint64_t digest(int fd)
{
	static uint64_t block[1 << 17];
	uint64_t sum = 0;
	ssize_t n;

	for (off_t at = 0; (n = pread(fd, block, sizeof(block), at)) > 0; at += n) {
		memset((char *)block + n, 0, -n & 7);
		for (ssize_t i = 0; i < (n + 7) / 8; i++)
			sum = (sum ^ block[i]) * 0x100000001b3;
	}
	if (n < 0)
		fail("reading a clone");
	return sum;
}

/* Nothing comes after the first hole. */
static void must_be_prefix(int fd)
{
	off_t hole = lseek(fd, 0, SEEK_HOLE), data;

	if (hole < 0)
		fail("SEEK_HOLE");
	data = lseek(fd, hole, SEEK_DATA);
	if (data >= 0)
		end(BAD_CLONE, "clone %lu lacks what is at %lld and has what was written later, at %lld",
		    clones, (long long)hole, (long long)data);
}

/* The page of the N-th write. */
static uint64_t page_of(uint64_t n)
{
	return n * 7919 % (option.size / PAGE);
}

static void *writer(void *map)
{
	for (uint64_t n = 1; !over; n++)
		*(volatile uint64_t *)((char *)map + page_of(n) * PAGE) = n;
	return NULL;
}

/*
 * If N is the last write that a clone has, its pages hold N and what came before
 * it, each where it was written, and none has more than one: so none is missing.
 */
static void must_be_cut(int fd)
{
	uint64_t pages = option.size / PAGE, last = 0, have = 0, n;
	char *map = mmap(NULL, option.size, PROT_READ, MAP_SHARED, fd, 0);

	if (map == MAP_FAILED)
		fail("mapping a clone");
	for (uint64_t i = 0; i < pages; i++) {
		n = *(uint64_t *)(map + i * PAGE);
		last = n > last ? n : last;
		have += n > 0;
	}
	for (uint64_t i = 0; i < pages; i++) {
		n = *(uint64_t *)(map + i * PAGE);
		if (n && (page_of(n) != i || n + pages <= last))
			end(BAD_CLONE, "clone %lu has write %llu, but %llu on page %llu", clones,
			    (unsigned long long)last, (unsigned long long)n, (unsigned long long)i);
	}
	if (have != (last < pages ? last : pages))
		end(BAD_CLONE, "clone %lu has write %llu, but %llu pages with any", clones,
		    (unsigned long long)last, (unsigned long long)have);
	munmap(map, option.size);
}

static void drop(struct clone *clone)
{
	if (clone->fd < 0)
		return;
	if (clone->read && digest(clone->fd) != clone->digest)
		end(BAD_CLONE, "a clone changed, %lu clones later", clones);
	close(clone->fd);
	clone->fd = -1;
}

static void look_at(struct clone *clone)
{
	clone->read = clones % ALIVE == 0;
	if (clone->read)
		clone->digest = digest(clone->fd);
	if (option.prefix)
		must_be_prefix(clone->fd);
	if (option.write)
		must_be_cut(clone->fd);
}

static void must_be_equal(int fd)
{
	static char one[1 << 20], other[1 << 20];
	ssize_t n, m;

	for (off_t at = 0; ; at += n) {
		n = pread(region, one, sizeof(one), at);
		m = pread(fd, other, sizeof(other), at);
		if (n < 0 || m < 0)
			fail("reading the last clone");
		if (n != m || memcmp(one, other, n))
			end(BAD_CLONE, "the last clone differs in the MiB at %lld", (long long)at);
		if (!n)
			return;
	}
}

/* Clone until the child ends; its status. */
static int clone_while(pid_t child)
{
	struct clone ring[ALIVE];
	int status;

	for (int i = 0; i < ALIVE; i++)
		ring[i].fd = -1;
	while (waitpid(child, &status, WNOHANG) == 0) {
		struct clone *clone = &ring[clones % ALIVE];

		drop(clone);
		clone->fd = clone_of(region, COWMEM_CLONE_SNAPSHOT);
		look_at(clone);
		clones++;
		usleep(option.every * 1000);
	}
	over = true;
	for (int i = 0; i < ALIVE; i++)
		drop(&ring[i]);
	return status;
}

static off_t size_of(const char *text)
{
	char *unit;
	off_t size = strtoll(text, &unit, 0);

	return *unit == 'K' ? size << 10 : *unit == 'M' ? size << 20 : size;
}

static void options(int argc, char **argv)
{
	static const struct option names[] = {
		{ "on", required_argument, NULL, 'o' },
		{ "of", required_argument, NULL, 'c' },
		{ "size", required_argument, NULL, 's' },
		{ "fill", no_argument, NULL, 'f' },
		{ "clone-every", required_argument, NULL, 'e' },
		{ "prefix", no_argument, NULL, 'p' },
		{ "write", no_argument, NULL, 'w' },
		{ }
	};
	int c;

	option.on = getenv("ON") ?: "region";
	while ((c = getopt_long(argc, argv, "+", names, NULL)) != -1) {
		switch (c) {
		case 'o':
			option.on = optarg;
			break;
		case 'c':
			option.of = optarg;
			break;
		case 's':
			option.size = size_of(optarg);
			break;
		case 'f':
			option.fill = true;
			break;
		case 'e':
			option.every = atoi(optarg);
			break;
		case 'p':
			option.prefix = true;
			break;
		case 'w':
			option.write = true;
			break;
		default:
			end(1, "%s", usage);
		}
	}
	if (optind == argc)
		end(1, "%s", usage);
}

/* A tmpfs is not cloned, but written. */
static void start_writer(pthread_t *thread)
{
	void *map = mmap(NULL, option.size, PROT_READ | PROT_WRITE, MAP_SHARED, region, 0);

	if (map == MAP_FAILED || pthread_create(thread, NULL, writer, map))
		fail("the writer");
}

int main(int argc, char **argv)
{
	pthread_t thread;
	pid_t child;
	int status;

	options(argc, argv);
	region = option.of ? copy_of(option.of) : new_file("F");
	if (option.size && ftruncate(region, option.size))
		fail("ftruncate");
	if (option.fill)
		fill(region);
	export("F", region);
	export("G", new_file("G"));

	child = fork();
	if (child < 0)
		fail("fork");
	if (!child) {
		setpgid(0, 0);
		execvp(argv[optind], argv + optind);
		end(127, "%s: %s", argv[optind], strerror(errno));
	}
	setpgid(child, child);
	group = child;
	signal(SIGTERM, on_term);
	if (option.write)
		start_writer(&thread);
	if (!option.every || !strcmp(option.on, "tmpfs")) {
		if (waitpid(child, &status, 0) < 0)
			fail("waitpid");
		over = true;
	} else {
		status = clone_while(child);
	}
	if (option.write)
		pthread_join(thread, NULL);
	if (option.every && strcmp(option.on, "tmpfs")) {
		must_be_equal(clone_of(region, COWMEM_CLONE_SNAPSHOT));
		fprintf(stderr, "region: %lu clones\n", clones);
	}
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}
