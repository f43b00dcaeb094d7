// SPDX-License-Identifier: GPL-2.0-only
/*
 * A process for debuggers and checkpoints: it maps a file, shared and private,
 * looks at both a hundred times a second, and ends well on SIGTERM if all is as it
 * should be.  A page of either holds its number + 1 in each word, but for what it
 * writes: the first word of the shared mapping counts, page 1 of the private one is
 * all 100.  What a debugger may change is on the last page, which is not looked at.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE	4096
#define WORDS	(PAGE / 8)

/* By these names a debugger finds them. */
volatile uint64_t *shared, *private;
unsigned long pages, pulses;

static volatile sig_atomic_t ended;

static void on_term(int signal)
{
	ended = 1;
}

static void must_be(const char *what, uint64_t is, uint64_t should)
{
	if (is == should)
		return;
	fprintf(stderr, "victim: %s is %llu, not %llu, after %lu pulses\n", what,
		(unsigned long long)is, (unsigned long long)should, pulses);
	exit(1);
}

static void look(void)
{
	must_be("the count", shared[0], pulses);
	for (unsigned long i = 1; i < pages - 1; i++) {
		must_be("a shared page", shared[i * WORDS + i % WORDS], i + 1);
		must_be("a private page", private[i * WORDS + i % WORDS], i == 1 ? 100 : i + 1);
	}
}

/* A debugger stops here. */
void __attribute__((noinline)) pulse(void)
{
	shared[0] = ++pulses;
}

static void *map(int fd, int flags)
{
	void *p = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, flags, fd, 0);

	if (p == MAP_FAILED) {
		perror("victim: mmap");
		exit(1);
	}
	return p;
}

int main(int argc, char **argv)
{
	int fd = open(argv[1], O_RDWR);
	struct stat st;

	signal(SIGTERM, on_term);
	if (fd < 0 || fstat(fd, &st)) {
		perror(argv[1]);
		return 1;
	}
	pages = st.st_size / PAGE;
	shared = map(fd, MAP_SHARED);
	private = map(fd, MAP_PRIVATE);
	for (unsigned long i = 0; i < pages * WORDS; i++)
		shared[i] = i / WORDS + 1;
	for (unsigned long i = WORDS; i < 2 * WORDS; i++)
		private[i] = 100;
	pulse();
	puts("ready");
	fflush(stdout);
	while (!ended) {
		look();
		pulse();
		usleep(10000);
	}
	look();
	printf("good after %s pulses\n", pulses > 1 ? "some" : "no");
	return 0;
}
