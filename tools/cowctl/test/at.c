// SPDX-License-Identifier: GPL-2.0-only
/*
 * at before|after CALL N SHELL PROGRAM [ARG]...: run a program, and at its N-th system call CALL, before or after it, a
 * command by the shell. So a test does what an attacker has to be quick for. Ends with the status of the program, or
 * with 99 if there was no such call.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <linux/ptrace.h>

static const struct {
	const char *name;
	unsigned long long number;
} calls[] = {
	{ "mkdirat", SYS_mkdirat },
	{ "renameat2", SYS_renameat2 },
	{ "getdents64", SYS_getdents64 },
	{ "write", SYS_write },
	{ "fstatfs", SYS_fstatfs },
};

static unsigned long long number_of(const char *name)
{
	size_t i;

	for (i = 0; i < sizeof(calls) / sizeof(*calls); i++)
		if (!strcmp(calls[i].name, name))
			return calls[i].number;
	fprintf(stderr, "at: no call %s\n", name);
	exit(98);
}

static void become(char **argv)
{
	ptrace(PTRACE_TRACEME, 0, NULL, NULL);
	raise(SIGSTOP);
	execv(*argv, argv);
	_exit(98);
}

/* Does it stop where the N-th call begins, or ends? */
static int is_there(pid_t pid, int after, unsigned long long call, int *n)
{
	static int inside;
	struct ptrace_syscall_info info;

	if (ptrace(PTRACE_GET_SYSCALL_INFO, pid, (void *)sizeof(info), &info) <= 0)
		return 0;
	if (info.op == PTRACE_SYSCALL_INFO_ENTRY) {
		inside = info.entry.nr == call && !--*n;
		return inside && !after;
	}
	return info.op == PTRACE_SYSCALL_INFO_EXIT && inside && after;
}

int main(int argc, char **argv)
{
	int status, n, after, done = 0, signal = 0;
	unsigned long long call;
	pid_t pid;

	if (argc < 6)
		return 98;
	after = !strcmp(argv[1], "after");
	call = number_of(argv[2]);
	n = atoi(argv[3]);
	pid = fork();
	if (!pid)
		become(argv + 5);
	waitpid(pid, &status, 0);
	ptrace(PTRACE_SETOPTIONS, pid, NULL, (void *)(PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL));
	while (!ptrace(PTRACE_SYSCALL, pid, NULL, (void *)(long)signal) && waitpid(pid, &status, 0) == pid) {
		if (!WIFSTOPPED(status))
			break;
		signal = WSTOPSIG(status) == (SIGTRAP | 0x80) || WSTOPSIG(status) == SIGTRAP ? 0 : WSTOPSIG(status);
		if (WSTOPSIG(status) == (SIGTRAP | 0x80) && !done && is_there(pid, after, call, &n)) {
			done = 1;
			if (system(argv[4]))
				fprintf(stderr, "at: failed: %s\n", argv[4]);
		}
	}
	return !done ? 99 : WIFEXITED(status) ? WEXITSTATUS(status) : 97;
}
