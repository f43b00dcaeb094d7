// SPDX-License-Identifier: GPL-2.0-only
/*
 * All that the virtual machine of this example does: it fills memory that it leaves alone from then on, so that a
 * larger machine has more in use. Then it works on MEMORY bytes, step by step, and says on the serial port after each
 * what came out. A step writes DIRTY pages that depend on its number and on the token; then SAMPLES words of every page
 * are summed up. So the sum after a step tells whether all memory is right, and "guest expect" knows it, too, on
 * whatever machine.
 *
 * A line "token WORD" on the serial port gives it a token. It also goes onto the disk, from where it is read before it
 * is shown: what the disk has is another one of the VM's memories.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define MEMORY	(32U << 20)
#define PAGE	4096U
#define PAGES	(MEMORY / PAGE)
#define SAMPLES	8U
#define STRIDE	(PAGE / SAMPLES)
#define DIRTY	64U
#define PAUSE	500	/* ms */
#define SECTOR	512
#define WORD	32	/* a token's bytes, with the zero */

static unsigned char *memory;

/* A number that looks as if it came by chance: the end of splitmix64. */
static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
	x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
	return x ^ (x >> 31);
}

static uint64_t *sample(uint32_t page, uint32_t i)
{
	return (uint64_t *)(memory + (size_t)page * PAGE + i * STRIDE);
}

static void begin(void)
{
	memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED) {
		perror("guest: memory");
		exit(1);
	}
	for (uint32_t page = 0; page < PAGES; page++)
		for (uint32_t i = 0; i < SAMPLES; i++)
			*sample(page, i) = mix(page * SAMPLES + i);
}

static void step(uint64_t number, const char *token)
{
	uint64_t seed = mix(number);

	for (; *token; token++)
		seed = mix(seed ^ (unsigned char)*token);
	for (uint32_t i = 0; i < DIRTY; i++) {
		uint32_t page = mix(number * DIRTY + i) % PAGES;

		for (uint32_t j = 0; j < SAMPLES; j++)
			*sample(page, j) += mix(seed + i * SAMPLES + j);
	}
}

static uint64_t sum(void)
{
	uint64_t all = 0;

	for (uint32_t page = 0; page < PAGES; page++)
		for (uint32_t i = 0; i < SAMPLES; i++)
			all = (all ^ *sample(page, i)) * 0x100000001b3;
	return all;
}

/* ---- in the VM ---- */

static double uptime(void)
{
	struct timespec t;

	clock_gettime(CLOCK_BOOTTIME, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Around the kernel's cache, which would say what the disk had when it was read first. */
static int open_disk(const char *path)
{
	int fd = open(path, O_RDWR | O_DIRECT | O_SYNC);

	if (fd < 0)
		perror(path);
	return fd;
}

static void disk_put(int disk, const char *token)
{
	static _Alignas(SECTOR) char sector[SECTOR];

	snprintf(sector, sizeof(sector), "%s", token);
	if (pwrite(disk, sector, SECTOR, 0) != SECTOR)
		perror("guest: the disk does not take the token");
}

static const char *disk_get(int disk)
{
	static _Alignas(SECTOR) char sector[SECTOR];

	if (pread(disk, sector, SECTOR, 0) != SECTOR)
		return "?";
	sector[WORD - 1] = 0;
	return *sector ? sector : "-";
}

/* A line from the serial port, if there is one within the pause; bytes of one that is not complete are kept. */
static char *read_line(void)
{
	static char line[256];
	static size_t length;
	struct pollfd in = { .fd = STDIN_FILENO, .events = POLLIN };
	ssize_t n;

	while (poll(&in, 1, PAUSE) > 0) {
		n = read(STDIN_FILENO, line + length, 1);
		if (n <= 0)
			return NULL;
		if (line[length] == '\n') {
			line[length] = 0;
			length = 0;
			return line;
		}
		if (length < sizeof(line) - 1)
			length++;
	}
	return NULL;
}

static void raw_terminal(void)
{
	struct termios t;

	if (tcgetattr(STDIN_FILENO, &t))
		return;
	t.c_lflag &= ~(tcflag_t)(ICANON | ECHO | ISIG);
	tcsetattr(STDIN_FILENO, TCSANOW, &t);
}

/* Pages of which no two are alike. */
static void fill_ballast(size_t mib)
{
	size_t size = mib << 20, at;
	char *ballast = size ? mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) : NULL;

	if (ballast == MAP_FAILED) {
		perror("guest: ballast");
		exit(1);
	}
	for (at = 0; at < size; at += STRIDE)
		*(uint64_t *)(ballast + at) = mix(~at);
}

static int work(const char *disk_path, size_t ballast)
{
	char token[WORD] = "";
	uint64_t number = 0, since = 0;
	int disk = open_disk(disk_path);
	char *line;

	if (disk < 0)
		return 1;
	raw_terminal();
	fill_ballast(ballast);
	begin();
	for (;;) {
		step(++number, token);
		printf("step %llu uptime %.2f sum %016llx token %s since %llu disk %s\n", (unsigned long long)number,
		       uptime(), (unsigned long long)sum(), *token ? token : "-", (unsigned long long)since,
		       disk_get(disk));
		fflush(stdout);
		line = read_line();
		if (line && !strncmp(line, "token ", 6)) {
			snprintf(token, sizeof(token), "%.*s", WORD - 1, line + 6);
			since = number + 1;
			disk_put(disk, token);
		}
	}
}

/* ---- outside ---- */

/* The sum after STEPS steps, if from each SINCE on the steps have that TOKEN. */
static int expect(char **argv)
{
	uint64_t steps = strtoull(argv[0], NULL, 10), since;
	const char *token = "";

	begin();
	for (uint64_t n = 1; n <= steps; n++) {
		for (char **arg = argv + 1; arg[0] && arg[1]; arg += 2) {
			since = strtoull(arg[1], NULL, 10);
			token = since && n == since ? arg[0] : token;
		}
		step(n, token);
	}
	printf("%016llx\n", (unsigned long long)sum());
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 4 && !strcmp(argv[1], "work"))
		return work(argv[2], strtoul(argv[3], NULL, 10));
	if (argc > 2 && !strcmp(argv[1], "expect"))
		return expect(argv + 2);
	fputs("Usage: guest work DISK MIB | guest expect STEPS [TOKEN SINCE]...\n", stderr);
	return 2;
}
