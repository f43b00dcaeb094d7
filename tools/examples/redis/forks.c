// SPDX-License-Identifier: GPL-2.0-only
/*
 * forks: does a child come to its heap unhurt?
 *
 * Runs with jemalloc and libcowmem-redis.so preloaded, and without two standard descriptors. Between fork() and the
 * handler that gives the child its heap, libc does this and that, and signals may arrive.
 */
#include <errno.h>
#include <pthread.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define FORKS	300
#define SIZE	(1 << 20)

static char *data;
static volatile sig_atomic_t seen;

static void fail(const char *what, int value)
{
	printf("# %s (%d)\n", what, value);
	fflush(stdout);
	_exit(1);
}

static void handler(int signal)
{
	(void)signal;
	seen += data[SIZE / 2] == 'x';
}

/* The child has the heap of its parent, and may change it. */
static void fork_once(const char *what)
{
	pid_t pid = fork();
	int status;

	if (!pid) {
		free(malloc(100000));
		_exit(data[SIZE - 1] == 'x' && data[0]++ == 'x' ? 0 : 1);
	}
	if (pid < 0)
		fail("fork", errno);
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			fail("waitpid", errno);
	if (status || data[0] != 'x')
		fail(what, status);
}

static void *idle(void *unused)
{
	(void)unused;
	pause();
	return NULL;
}

/* A daemon puts /dev/null at those; two were closed. */
static void check_descriptors(void)
{
	int fd;

	for (fd = 0; fd <= 2; fd++)
		if (lseek(fd, 0, SEEK_END) > 1 << 20)
			fail("the region is what a daemon closes", fd);
}

/* Another process sends signals to all of the group, which no child is spared. */
static void under_signals(void)
{
	struct sigaction action = { .sa_handler = handler, .sa_flags = SA_RESTART };
	pid_t sender;
	int i;

	sigaction(SIGUSR1, &action, NULL);
	sender = fork();
	if (!sender) {
		signal(SIGUSR1, SIG_IGN);
		while (getppid() != 1)
			kill(0, SIGUSR1);
		_exit(0);
	}
	for (i = 0; i < FORKS; i++)
		fork_once("a child under signals");
	kill(sender, SIGKILL);
	waitpid(sender, NULL, 0);
	if (!seen)
		fail("no signal came", 0);
}

int main(void)
{
	pthread_t thread;

	setpgid(0, 0);
	data = malloc(SIZE);
	memset(data, 'x', SIZE);
	check_descriptors();
	/* libc does less for who has no threads. */
	pthread_create(&thread, NULL, idle, NULL);
	fork_once("a child");
	getpwnam("nobody");
	fork_once("a child after a user was looked for by name");
	under_signals();
	printf("# %d children, %d signals\n", FORKS + 2, (int)seen);
	return 0;
}
