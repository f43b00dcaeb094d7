// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Regions of other processes: found, taken, sent
 *
 * Needs the module, and root.
 */
#include <pthread.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "tap.h"

#define PAGE	page_size()

static char *map_all(int fd, size_t size)
{
	char *mem = cowmem_map(fd, 0, size, PROT_READ | PROT_WRITE);

	CHECK(mem != MAP_FAILED);
	return mem;
}

/* ---- finding ---- */

struct list {
	unsigned int nr;
	struct cowmem_found found[16];
	char names[16][64];
};

static int note(const struct cowmem_found *found, void *arg)
{
	struct list *list = arg;

	CHECK(list->nr < 16);
	snprintf(list->names[list->nr], sizeof(list->names[0]), "%s", found->name);
	list->found[list->nr++] = *found;
	return 0;
}

static struct list regions_of(pid_t pid)
{
	struct list list = { 0 };

	EQUAL(cowmem_find(pid, note, &list), 0);
	return list;
}

static const struct cowmem_found *with_fd(const struct list *list, int fd)
{
	unsigned int i;

	for (i = 0; i < list->nr; i++)
		if (list->found[i].fd == fd)
			return &list->found[i];
	FAIL("no descriptor %d among %u", fd, list->nr);
}

static void find_own(void)
{
	int a = make(3 * PAGE), b = make(PAGE), null = open("/dev/null", O_RDONLY);
	char *mem = map_all(a, 2 * PAGE), *more = map_all(a, PAGE), *only;
	const struct cowmem_found *found;
	struct list list;
	struct stat st;

	only = map_all(b, PAGE);
	fstat(b, &st);
	close(b);
	list = regions_of(0);
	EQUAL(list.nr, 2);
	found = with_fd(&list, a);
	EQUAL(found->pid, getpid());
	EQUAL(found->mapped, 3 * PAGE);
	CHECK(found->addr == (uintptr_t)mem || found->addr == (uintptr_t)more);
	found = with_fd(&list, -1);
	EQUAL(found->dev, st.st_dev);
	EQUAL(found->ino, st.st_ino);
	EQUAL(found->mapped, PAGE);
	EQUAL(found->addr, (uintptr_t)only);
	CHECK(!strcmp(list.names[1], "/cowmem:test (deleted)"));
	fstat(a, &st);
	found = with_fd(&list, a);
	EQUAL(found->dev, st.st_dev);
	EQUAL(found->ino, st.st_ino);
	munmap(mem, 2 * PAGE);
	munmap(more, PAGE);
	munmap(only, PAGE);
	close(a);
	close(null);
	EQUAL(regions_of(0).nr, 0);
}

/* Descriptors of the device: told apart by fdinfo, but their mappings are not. */
static void find_device(void)
{
	int a = open("/dev/cowmem", O_RDWR), b, file;
	struct list list;
	struct stat st;

	CHECK(map_all(a, PAGE));
	list = regions_of(0);
	EQUAL(list.nr, 1);
	EQUAL(with_fd(&list, a)->mapped, PAGE);
	/* Its number is that of the file that it can be made. */
	file = cowmem_reopen(a, NULL, 0);
	fstat(file, &st);
	EQUAL(with_fd(&list, a)->ino, st.st_ino);
	EQUAL(with_fd(&list, a)->dev, st.st_dev);
	close(file);
	b = open("/dev/cowmem", O_RDWR);
	list = regions_of(0);
	EQUAL(list.nr, 2);
	CHECK(with_fd(&list, a)->ino != with_fd(&list, b)->ino);
	EQUAL(with_fd(&list, a)->mapped, 0);
	close(a);
	close(b);
	list = regions_of(0);
	EQUAL(list.nr, 1);
	EQUAL(with_fd(&list, -1)->ino, 0);
	EQUAL(with_fd(&list, -1)->mapped, PAGE);
	ERRNO(cowmem_take_mapped(0, with_fd(&list, -1)->addr, 0), ENXIO);
}

static void find_on_mount(void)
{
	struct list list;
	char *mem;
	int fd;

	mkdir("/tmp/m", 0755);
	EQUAL(mount("cowmem", "/tmp/m", "cowmem", 0, NULL), 0);
	fd = open("/tmp/m/file", O_RDWR | O_CREAT, 0600);
	EQUAL(cowmem_resize(fd, PAGE), 0);
	list = regions_of(0);
	EQUAL(list.nr, 1);
	CHECK(!strcmp(list.names[0], "/tmp/m/file"));
	mem = map_all(fd, PAGE);
	close(fd);
	list = regions_of(0);
	EQUAL(list.nr, 1);
	EQUAL(list.found[0].fd, -1);
	CHECK(!strcmp(list.names[0], "/tmp/m/file"));
	fd = cowmem_take_mapped(0, list.found[0].addr, 0);
	CHECK(fd >= 0);
	put(fd, 0, 'x');
	EQUAL(mem[0], 'x');
	close(fd);
	munmap(mem, PAGE);
	EQUAL(umount("/tmp/m"), 0);
}

static int end_it(const struct cowmem_found *found, void *arg)
{
	(void)found;
	++*(int *)arg;
	return -9;
}

static void find_ends(void)
{
	int a = make(PAGE), b = make(PAGE), calls = 0;

	EQUAL(cowmem_find(0, end_it, &calls), -9);
	EQUAL(calls, 1);
	close(a);
	close(b);
}

/* A child that has regions and waits. */
static pid_t child_with(int *fd, uint64_t *addr)
{
	int ready[2];
	pid_t pid;
	char *mem;

	EQUAL(pipe(ready), 0);
	pid = child();
	if (!pid) {
		*fd = make(PAGE);
		mem = map_all(*fd, PAGE);
		mem[0] = 'c';
		*addr = (uintptr_t)mem;
		EQUAL(write(ready[1], fd, sizeof(*fd)), sizeof(*fd));
		EQUAL(write(ready[1], addr, sizeof(*addr)), sizeof(*addr));
		pause();
		_exit(0);
	}
	EQUAL(read(ready[0], fd, sizeof(*fd)), sizeof(*fd));
	EQUAL(read(ready[0], addr, sizeof(*addr)), sizeof(*addr));
	close(ready[0]);
	close(ready[1]);
	return pid;
}

static void end_child(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static void take(void)
{
	int fd, taken, ro;
	struct list list;
	uint64_t addr;
	pid_t pid = child_with(&fd, &addr);

	list = regions_of(pid);
	EQUAL(list.nr, 1);
	EQUAL(list.found[0].fd, fd);
	EQUAL(list.found[0].pid, pid);
	EQUAL(list.found[0].addr, addr);
	taken = cowmem_take(pid, fd);
	CHECK(taken >= 0);
	CHECK(fcntl(taken, F_GETFD) & FD_CLOEXEC);
	EQUAL(get(taken, 0), 'c');
	put(taken, 0, 'd');
	close(taken);
	taken = cowmem_take_mapped(pid, addr + 100, 0);
	CHECK(taken >= 0);
	CHECK(fcntl(taken, F_GETFD) & FD_CLOEXEC);
	EQUAL(get(taken, 0), 'd');
	ro = cowmem_take_mapped(pid, addr, COWMEM_FILE_RDONLY);
	CHECK(ro >= 0);
	EQUAL(get(ro, 0), 'd');
	ERRNO(pwrite(ro, "", 1, 0), EBADF);
	close(ro);
	EQUAL(cowmem_seal(taken, 0), 0);
	close(taken);
	ERRNO(cowmem_take(pid, 0), ENOTTY);
	ERRNO(cowmem_take(pid, 999), EBADF);
	ERRNO(cowmem_take_mapped(pid, 0, 0), ENOENT);
	ERRNO(cowmem_take_mapped(pid, addr, COWMEM_FILE_VIEW), EINVAL);
	/* A page of the program. */
	ERRNO(cowmem_take_mapped(pid, (uintptr_t)take, COWMEM_FILE_RDONLY), ENOTTY);
	end_child(pid);
	ERRNO(cowmem_find(pid, note, &list), ESRCH);
	ERRNO(cowmem_take(pid, fd), ESRCH);
	ERRNO(cowmem_take_mapped(pid, addr, 0), ESRCH);
	ERRNO(cowmem_find(INT32_MAX, note, &list), ESRCH);
}

static void take_own(void)
{
	int fd = make(PAGE), taken = cowmem_take(0, fd);

	CHECK(taken >= 0 && taken != fd);
	put(taken, 0, 'x');
	EQUAL(get(fd, 0), 'x');
	close(taken);
	close(fd);
}

/* A snapshot that is mapped is not opened for writing. */
static void take_snapshot(void)
{
	int fd = make(PAGE), snapshot = cowmem_snapshot(fd), taken;
	char *mem = cowmem_map(snapshot, 0, PAGE, PROT_READ);

	CHECK(mem != MAP_FAILED);
	ERRNO(cowmem_take_mapped(0, (uintptr_t)mem, 0), EPERM);
	taken = cowmem_take_mapped(0, (uintptr_t)mem, COWMEM_FILE_RDONLY);
	CHECK(taken >= 0);
	close(taken);
	munmap(mem, PAGE);
	close(snapshot);
	close(fd);
}

/* Nobody else's, without the rights of ptrace. */
static void as_nobody(void)
{
	int fd, status;
	uint64_t addr;
	pid_t pid = child_with(&fd, &addr), user;
	struct list list = { 0 };

	user = child();
	if (!user) {
		EQUAL(setgid(65534), 0);
		EQUAL(setuid(65534), 0);
		ERRNO(cowmem_find(pid, note, &list), EACCES);
		EQUAL(list.nr, 0);
		ERRNO(cowmem_take(pid, fd), EPERM);
		ERRNO(cowmem_take_mapped(pid, addr, 0), EACCES);
		_exit(0);
	}
	waitpid(user, &status, 0);
	EQUAL(status, 0);
	end_child(pid);
}

/* What find.c opens: a process can end, or become another's, between the look at its descriptors and its mappings. */
static pid_t ends_before_maps;
static int maps_error;
static int maps_instead;	/* a descriptor */
static bool device_is_mapped;

int __real_openat64(int dir, const char *path, int flags, ...);
int __wrap_openat64(int dir, const char *path, int flags, ...);

int __wrap_openat64(int dir, const char *path, int flags, ...)
{
	if (device_is_mapped && !strncmp(path, "map_files/", 10))
		return __real_openat64(dir, "/dev/cowmem", flags);
	if (strcmp(path, "maps"))
		return __real_openat64(dir, path, flags);
	if (ends_before_maps)
		end_child(ends_before_maps);
	ends_before_maps = 0;
	if (maps_instead)
		return fcntl(maps_instead, F_DUPFD_CLOEXEC, 0);
	if (!maps_error)
		return __real_openat64(dir, path, flags);
	errno = maps_error;
	return -1;
}

/* What was found is told nevertheless. */
static void find_while_it_ends(void)
{
	struct list list;
	uint64_t addr;
	pid_t pid;
	int fd;

	pid = child_with(&fd, &addr);
	/* As of one that has run a setuid program. */
	maps_error = EACCES;
	list = regions_of(pid);
	EQUAL(list.nr, 1);
	EQUAL(list.found[0].fd, fd);
	EQUAL(list.found[0].mapped, 0);
	maps_error = 0;
	ends_before_maps = pid;
	list = regions_of(pid);
	EQUAL(ends_before_maps, 0);
	EQUAL(list.nr, 1);
	EQUAL(list.found[0].fd, fd);
	CHECK(!strcmp(list.names[0], "/cowmem:test (deleted)"));
	/* Without any it is an error as before. */
	maps_error = EACCES;
	ERRNO(cowmem_find(0, note, &list), EACCES);
	maps_error = 0;
}

/* A list of mappings that breaks off is an error, unless the process has ended. */
static void find_reads_to_the_end(void)
{
	struct list list = { 0 };
	uint64_t addr;
	char path[64];
	pid_t pid;
	int fd;

	maps_instead = open("/proc/self", O_RDONLY | O_CLOEXEC);
	CHECK(maps_instead > 0);
	ERRNO(cowmem_find(0, note, &list), EISDIR);
	ERRNO(cowmem_take_mapped(0, 0x1000, 0), EISDIR);
	close(maps_instead);
	pid = child_with(&fd, &addr);
	snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
	maps_instead = open(path, O_RDONLY | O_CLOEXEC);
	CHECK(maps_instead > 0);
	end_child(pid);
	EQUAL(regions_of(0).nr, 0);
	close(maps_instead);
	maps_instead = 0;
}

/* Between the look at a mapping and its opening that of the device takes its place, and nobody gets a new region. */
static void take_while_it_changes(void)
{
	int fd = make(PAGE), before;
	char *mem = map_all(fd, PAGE);

	before = count_fds();
	device_is_mapped = true;
	ERRNO(cowmem_take_mapped(0, (uintptr_t)mem, 0), ENXIO);
	device_is_mapped = false;
	EQUAL(count_fds(), before);
	munmap(mem, PAGE);
	close(fd);
}

/* A new process has the number 1, and /proc still that of all others. */
static void own_in_namespace(void)
{
	int fd = make(PAGE), taken;
	char *mem = map_all(fd, PAGE);
	struct list list = regions_of(0);

	EQUAL(getpid(), 1);
	EQUAL(list.nr, 1);
	EQUAL(list.found[0].pid, 1);
	EQUAL(list.found[0].fd, fd);
	EQUAL(list.found[0].mapped, PAGE);
	taken = cowmem_take_mapped(0, (uintptr_t)mem, 0);
	CHECK(taken >= 0);
	put(taken, 0, 'x');
	EQUAL(mem[0], 'x');
}

static void find_in_namespace(void)
{
	pid_t pid = child();
	int status;

	if (!pid) {
		if (unshare(CLONE_NEWPID))
			SKIP("no PID namespaces: %s", strerror(errno));
		pid = child();
		if (!pid) {
			own_in_namespace();
			_exit(0);
		}
		waitpid(pid, &status, 0);
		_exit(status != 0);
	}
	waitpid(pid, &status, 0);
	if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SKIP)
		_exit(EXIT_SKIP);
	EQUAL(status, 0);
}

/* A file system whose server answers nothing, not even that it is there; it is mounted nevertheless. */
static int dead_server(void)
{
	char options[64];
	int fuse;

	if (access("/dev/fuse", F_OK))
		(void)!system("modprobe -q fuse 2>/dev/null");
	fuse = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (fuse < 0 && (errno == ENOENT || errno == ENODEV))
		SKIP("no FUSE: %s", strerror(errno));
	CHECK(fuse >= 0);
	snprintf(options, sizeof(options), "fd=%d,rootmode=100000,user_id=0,group_id=0", fuse);
	EQUAL(mount("dead", "/tmp/dead", "fuse", MS_NOSUID | MS_NODEV, options), 0);
	return fuse;
}

/* Who has a file of it open can be looked into: else one dead server hangs whoever looks at all processes. */
static void find_beside_dead_server(void)
{
	int fd = make(PAGE), fuse, dead;
	struct list list;

	/* However this ends, nobody else meets it. */
	CHECK(!unshare(CLONE_NEWNS) && !mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
	CHECK(!close(open("/tmp/dead", O_CREAT | O_RDONLY, 0600)));
	fuse = dead_server();
	dead = open("/tmp/dead", O_PATH);
	CHECK(dead >= 0);
	/* The signal ends who waits for an answer. */
	alarm(20);
	list = regions_of(0);
	alarm(0);
	EQUAL(list.nr, 1);
	CHECK(with_fd(&list, fd));
	close(dead);
	close(fuse);
	close(fd);
}

static void become_nobody(void)
{
	EQUAL(setgid(65534), 0);
	EQUAL(setuid(65534), 0);
	/* As after exec: else /proc/self is root's. */
	EQUAL(prctl(PR_SET_DUMPABLE, 1), 0);
}

static ino_t inode_of(int fd)
{
	struct stat st;

	EQUAL(fstat(fd, &st), 0);
	return st.st_ino;
}

/* The number of the region of a descriptor of the device. */
static ino_t region_of(int device)
{
	int file = cowmem_reopen(device, NULL, COWMEM_FILE_RDONLY);
	ino_t number = inode_of(file);

	close(file);
	return number;
}

/* Who may not open the device does not take a file for a region because its number is the same. */
static void find_equal_number(void)
{
	int device, file, view;
	ino_t number;
	struct list list;

	mkdir("/tmp/t", 0755);
	EQUAL(mount("none", "/tmp/t", "tmpfs", 0, NULL), 0);
	device = open("/dev/cowmem", O_RDWR);
	file = open("/tmp/t", O_TMPFILE | O_RDWR, 0600);
	CHECK(device >= 0 && file >= 0);
	while ((number = region_of(device)) != inode_of(file)) {
		int *lower = number < inode_of(file) ? &device : &file;

		close(*lower);
		*lower = lower == &device ? open("/dev/cowmem", O_RDWR) : open("/tmp/t", O_TMPFILE | O_RDWR, 0600);
		CHECK(*lower >= 0);
	}
	EQUAL(cowmem_resize(device, PAGE), 0);
	view = cowmem_reopen(device, "view", COWMEM_FILE_RDONLY);
	EQUAL(ftruncate(file, 7 * PAGE), 0);
	CHECK(map_all(file, 7 * PAGE));
	CHECK(cowmem_map(view, 0, PAGE, PROT_READ) != MAP_FAILED);
	close(view);
	become_nobody();
	list = regions_of(0);
	EQUAL(list.nr, 1);
	EQUAL(list.found[0].fd, device);
	EQUAL(list.found[0].mapped, PAGE);
	close(device);
	close(file);
}

/* Who may not open the device finds its own regions nevertheless, be they mapped only. */
static void find_as_nobody(void)
{
	int fd = make(PAGE);
	struct list list;

	EQUAL(fchmod(fd, 0666), 0);
	CHECK(map_all(fd, PAGE));
	become_nobody();
	list = regions_of(0);
	EQUAL(list.nr, 1);
	EQUAL(list.found[0].fd, fd);
	close(fd);
	list = regions_of(0);
	EQUAL(list.nr, 1);
	EQUAL(list.found[0].fd, -1);
}

/* Processes that come and go, and descriptors that are opened and closed, while they are looked at. */
static void find_races(void)
{
	unsigned int i, gone = 0;
	struct list list;

	for (i = 0; i < effort(300); i++) {
		pid_t pid = child();

		if (!pid) {
			int fd = make(PAGE), n;

			for (n = 0; n < (int)(i % 20); n++) {
				char *mem = map_all(fd, PAGE);
				int other = make(PAGE);

				munmap(mem, PAGE);
				close(other);
			}
			_exit(0);
		}
		do {
			list.nr = 0;
			if (cowmem_find(pid, note, &list)) {
				EQUAL(errno, ESRCH);
				gone++;
				break;
			}
		} while (waitpid(pid, NULL, WNOHANG) != pid);
	}
	/* They are our children, so they are there until we have waited for them. */
	EQUAL(gone, 0);
}

/* ---- sending ---- */

static void pair(int type, int *socks)
{
	EQUAL(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, socks), 0);
}

static void close_two(const int *fds)
{
	close(fds[0]);
	close(fds[1]);
}

/* What open("/dev/cowmem") returned is a character device's: nobody is handed that. */
static void device_becomes_a_file(void)
{
	static const int modes[] = { O_RDWR, O_RDONLY };
	int socks[2], fds[2], fd, i, j;
	size_t count;

	for (i = 0; i < 2; i++) {
		fd = open("/dev/cowmem", modes[i]);
		CHECK(fd >= 0);
		if (modes[i] == O_RDWR)
			EQUAL(cowmem_resize(fd, PAGE), 0);
		pair(SOCK_STREAM, socks);
		EQUAL(cowmem_send(socks[0], &fd, 1, NULL, 0), 0);
		count = 1;
		fds[0] = cowmem_take(0, fd);
		EQUAL(cowmem_receive(socks[1], &fds[1], &count, NULL, NULL), 0);
		for (j = 0; j < 2; j++) {
			struct stat st;

			EQUAL(fstat(fds[j], &st), 0);
			CHECK(S_ISREG(st.st_mode));
			EQUAL(st.st_size, modes[i] == O_RDWR ? (off_t)PAGE : 0);
			EQUAL(fcntl(fds[j], F_GETFL) & O_ACCMODE, modes[i]);
			CHECK(fcntl(fds[j], F_GETFD) & FD_CLOEXEC);
		}
		close_two(fds);
		close_two(socks);
		close(fd);
	}
}

static void send_and_receive(void)
{
	static const int types[] = { SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET };
	int fds[2] = { make(PAGE), make(2 * PAGE) }, got[3], socks[2];
	size_t i, count, length;
	char data[16];

	put(fds[0], 0, 'a');
	for (i = 0; i < 3; i++) {
		pair(types[i], socks);
		EQUAL(cowmem_send(socks[0], fds, 2, "hello", 5), 0);
		count = 3;
		length = sizeof(data);
		EQUAL(cowmem_receive(socks[1], got, &count, data, &length), 0);
		EQUAL(count, 2);
		EQUAL(length, 5);
		CHECK(!memcmp(data, "hello", 5));
		EQUAL(get(got[0], 0), 'a');
		EQUAL(lseek(got[1], 0, SEEK_END), 2 * PAGE);
		CHECK(fcntl(got[0], F_GETFD) & FD_CLOEXEC);
		close_two(got);
		/* Without data. */
		EQUAL(cowmem_send(socks[0], fds, 1, NULL, 0), 0);
		count = 1;
		EQUAL(cowmem_receive(socks[1], got, &count, NULL, NULL), 0);
		EQUAL(count, 1);
		close(got[0]);
		EQUAL(cowmem_send(socks[0], fds, 1, NULL, 0), 0);
		length = 0;
		EQUAL(cowmem_receive(socks[1], got, &count, data, &length), 0);
		EQUAL(count, 1);
		EQUAL(length, 0);
		close(got[0]);
		close_two(socks);
	}
	close_two(fds);
}

/* As many as the kernel takes, and none more. */
static void send_most(void)
{
	int fds[COWMEM_SEND_MAX + 1], got[COWMEM_SEND_MAX], fd = make(PAGE), socks[2];
	size_t i, count = COWMEM_SEND_MAX;
	int one = 1;

	pair(SOCK_STREAM, socks);
	/* What a socket adds of its own does no harm. */
	EQUAL(setsockopt(socks[1], SOL_SOCKET, SO_PASSCRED, &one, sizeof(one)), 0);
	for (i = 0; i <= COWMEM_SEND_MAX; i++)
		fds[i] = fd;
	ERRNO(cowmem_send(socks[0], fds, COWMEM_SEND_MAX + 1, NULL, 0), EINVAL);
	ERRNO(cowmem_send(socks[0], fds, 0, NULL, 0), EINVAL);
	EQUAL(cowmem_send(socks[0], fds, COWMEM_SEND_MAX, NULL, 0), 0);
	EQUAL(cowmem_receive(socks[1], got, &count, NULL, NULL), 0);
	EQUAL(count, COWMEM_SEND_MAX);
	for (i = 0; i < count; i++)
		close(got[i]);
	close_two(socks);
	close(fd);
}

/* That of <asm/socket.h>, since Linux 6.5. */
#ifndef SO_PASSPIDFD
#define SO_PASSPIDFD	76
#endif

/* A descriptor that the socket adds, of the process that sent, is not left open: run_here() counts. */
static void receive_pidfd(void)
{
	int fd = make(PAGE), null = open("/dev/null", O_RDWR), got, socks[2], one = 1;
	size_t count = 1;

	pair(SOCK_STREAM, socks);
	if (setsockopt(socks[1], SOL_SOCKET, SO_PASSPIDFD, &one, sizeof(one)))
		SKIP("no SO_PASSPIDFD: %s", strerror(errno));
	EQUAL(cowmem_send(socks[0], &fd, 1, NULL, 0), 0);
	EQUAL(cowmem_receive(socks[1], &got, &count, NULL, NULL), 0);
	EQUAL(count, 1);
	close(got);
	EQUAL(cowmem_send(socks[0], &null, 1, NULL, 0), 0);
	ERRNO(cowmem_receive(socks[1], &got, &count, NULL, NULL), ENOTTY);
	close_two(socks);
	close(null);
	close(fd);
}

static void receive_errors(void)
{
	int fds[3] = { make(PAGE), make(PAGE), open("/dev/null", O_RDWR) }, got[3] = { -7, -7, -7 }, socks[2];
	int before;
	struct rlimit old, few;
	size_t count, length;
	char data[4];

	pair(SOCK_SEQPACKET, socks);
	before = count_fds();
	/* More descriptors than fit. */
	EQUAL(cowmem_send(socks[0], fds, 2, NULL, 0), 0);
	count = 1;
	ERRNO(cowmem_receive(socks[1], got, &count, NULL, NULL), EMSGSIZE);
	EQUAL(count_fds(), before);
	EQUAL(got[0], -7);
	EQUAL(count, 1);
	/* More bytes. */
	EQUAL(cowmem_send(socks[0], fds, 1, "hello", 5), 0);
	length = 4;
	ERRNO(cowmem_receive(socks[1], got, &count, data, &length), EMSGSIZE);
	EQUAL(count_fds(), before);
	/* One that is no region's. */
	EQUAL(cowmem_send(socks[0], fds, 3, NULL, 0), 0);
	count = 3;
	ERRNO(cowmem_receive(socks[1], got, &count, NULL, NULL), ENOTTY);
	EQUAL(count_fds(), before);
	/* No room for all of them in the table of descriptors. */
	EQUAL(getrlimit(RLIMIT_NOFILE, &old), 0);
	few = old;
	few.rlim_cur = socks[1] + 2;
	EQUAL(cowmem_send(socks[0], fds, 2, NULL, 0), 0);
	EQUAL(setrlimit(RLIMIT_NOFILE, &few), 0);
	ERRNO(cowmem_receive(socks[1], got, &count, NULL, NULL), EMFILE);
	EQUAL(setrlimit(RLIMIT_NOFILE, &old), 0);
	EQUAL(count_fds(), before);
	ERRNO(cowmem_send(socks[0], (int []) { 999 }, 1, NULL, 0), EBADF);
	ERRNO(cowmem_send(fds[2], fds, 1, NULL, 0), ENOTSOCK);
	ERRNO(cowmem_receive(fds[2], got, &count, NULL, NULL), ENOTSOCK);
	EQUAL(fcntl(socks[1], F_SETFL, O_NONBLOCK), 0);
	ERRNO(cowmem_receive(socks[1], got, &count, NULL, NULL), EAGAIN);
	close(socks[0]);
	ERRNO(cowmem_receive(socks[1], got, &count, NULL, NULL), ECONNRESET);
	ERRNO(cowmem_send(socks[1], fds, 1, NULL, 0), EPIPE);
	close(socks[1]);
	/* Of a stream a signal would come, too. */
	pair(SOCK_STREAM, socks);
	close(socks[1]);
	ERRNO(cowmem_send(socks[0], fds, 1, NULL, 0), EPIPE);
	close(socks[0]);
	close_two(fds);
	close(fds[2]);
}

#define LONG	(1 << 20)

static void *slow_reader(void *arg)
{
	int sock = *(int *)arg, got;
	size_t count = 1, length = 1000, all;
	char *data = malloc(LONG);
	sigset_t signals;
	ssize_t bytes;

	/* They are for who sends. */
	sigfillset(&signals);
	EQUAL(pthread_sigmask(SIG_BLOCK, &signals, NULL), 0);
	EQUAL(cowmem_receive(sock, &got, &count, data, &length), 0);
	EQUAL(count, 1);
	close(got);
	for (all = length; all < LONG; all += bytes) {
		bytes = read(sock, data, 10000);
		CHECK(bytes > 0);
		usleep(1000);
	}
	EQUAL(all, LONG);
	free(data);
	return NULL;
}

static void nothing(int signal)
{
	(void)signal;
}

/* More than a socket holds, and signals all the while: all of it arrives. */
static void send_long_by(int flags)
{
	struct sigaction act = { .sa_handler = nothing };
	int fd = make(PAGE), socks[2];
	char *data = calloc(1, LONG);
	pthread_t thread;
	pid_t noise;

	EQUAL(sigaction(SIGUSR1, &act, NULL), 0);
	pair(SOCK_STREAM, socks);
	EQUAL(fcntl(socks[0], F_SETFL, flags), 0);
	EQUAL(pthread_create(&thread, NULL, slow_reader, &socks[1]), 0);
	noise = child();
	if (!noise)
		for (;; usleep(100))
			kill(getppid(), SIGUSR1);
	EQUAL(cowmem_send(socks[0], &fd, 1, data, LONG), 0);
	end_child(noise);
	EQUAL(pthread_join(thread, NULL), 0);
	close_two(socks);
	close(fd);
	free(data);
}

static void send_long(void)
{
	send_long_by(0);
	send_long_by(O_NONBLOCK);
}

static const struct test tests[] = {
	{ "find_own", find_own },
	{ "find_device", find_device },
	{ "find_on_mount", find_on_mount },
	{ "find_ends", find_ends },
	{ "find_as_nobody", find_as_nobody },
	{ "find_races", find_races },
	{ "find_while_it_ends", find_while_it_ends },
	{ "find_reads_to_the_end", find_reads_to_the_end },
	{ "find_equal_number", find_equal_number },
	{ "find_in_namespace", find_in_namespace },
	{ "find_beside_dead_server", find_beside_dead_server },
	{ "take_while_it_changes", take_while_it_changes },
	{ "take", take },
	{ "device_becomes_a_file", device_becomes_a_file },
	{ "take_own", take_own },
	{ "take_snapshot", take_snapshot },
	{ "as_nobody", as_nobody },
	{ "send_and_receive", send_and_receive },
	{ "send_most", send_most },
	{ "receive_pidfd", receive_pidfd },
	{ "receive_errors", receive_errors },
	{ "send_long", send_long },
	{ NULL, NULL }
};

int main(int argc, char **argv)
{
	return run_tests(tests, argc, argv);
}
