// SPDX-License-Identifier: GPL-2.0-only
/*
 * What cowctl vm sees of QEMU: its command line, its files, and its monitor, which goes wrong as it is told.
 *
 *	qemu -qmp unix:PATH,server=on,wait=off [-object memory-backend-file,id=ID,share=on,mem-path=FILE,size=BYTES]...
 *		[-drive file=FILE,...]... [-chardev socket,path=FILE,server=on]... [-D FILE] [-S] [-incoming defer]
 *		[-greeting TEXT] [-fault WORD]
 *
 * Where the directory of PATH has a file "fault", it says at which command what goes wrong: "COMMAND KIND", once. The
 * kinds are in faults[]. With -fault end it ends before it does anything, with -fault take1 it does not take a state,
 * with -fault leave it is another user's once it listens.
 * Each command is written into a file "journal" there, and how the VM is into "status", and
 * whether it has nodes that blockdev-add made into "nodes".
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <jansson.h>

#include "libcowmem.h"

#define STATE	"the state of the devices\n"
#define LONG	(17 << 20)

static char dir[256];			/* where its socket is */
static const char *status = "running", *greeting, *fault = "none";
static json_t *rams, *disks, *nodes, *jobs, *points;
static bool ignore_shared, events;
static bool postponed;			/* a migration that is still to come */
static int client = -1, given = -1;
static char *late;			/* an answer that is still to come */

static void die(const char *what)
{
	fprintf(stderr, "qemu: %s: %s\n", what, strerror(errno));
	exit(1);
}

static const char *text(const json_t *object, const char *key)
{
	const char *value = json_string_value(json_object_get(object, key));

	return value ? value : "";
}

/* ---- what it says ---- */

static void say(const char *bytes, size_t length)
{
	ssize_t n;

	for (; length && client >= 0; bytes += n, length -= (size_t)n) {
		n = send(client, bytes, length, MSG_NOSIGNAL);
		if (n <= 0)
			return;
	}
}

static void say_json(json_t *value)
{
	char *line = json_dumps(value, 0);

	say(line, strlen(line));
	say("\r\n", 2);
	free(line);
	json_decref(value);
}

static void event(const char *name, const char *id, const char *state)
{
	say_json(json_pack("{s:s, s:{s:s, s:s}}", "event", name, "data", "id", id, "status", state));
}

/* A job that ends at once; @error is NULL if it is well. */
static void job(const json_t *arguments, const char *error)
{
	const char *id = text(arguments, "job-id");
	json_t *one = json_pack("{s:s, s:s}", "id", id, "status", "concluded");

	if (error)
		json_object_set_new(one, "error", json_string(error));
	json_array_append_new(jobs, one);
	event("JOB_STATUS_CHANGE", id, "running");
	event("JOB_STATUS_CHANGE", id, "concluded");
}

/* ---- what it does ---- */

static json_t *error(const char *desc)
{
	return json_pack("{s:{s:s, s:s}}", "error", "class", "GenericError", "desc", desc);
}

/* The end of migration, one way or another. */
static void migrated(const char *how)
{
	if (events)
		event("MIGRATION", "", how);
}

static json_t *set_capabilities(const json_t *arguments)
{
	json_t *one;
	size_t i;

	json_array_foreach(json_object_get(arguments, "capabilities"), i, one) {
		bool on = json_is_true(json_object_get(one, "state"));

		if (!strcmp(text(one, "capability"), "events"))
			events = on;
		else
			ignore_shared = on;
	}
	return json_object();
}

static json_t *image_of(const char *file, json_t *backing)
{
	json_t *image = json_pack("{s:s, s:s, s:i}", "filename", file, "format", "qcow2", "virtual-size", 1 << 20);

	if (backing)
		json_object_set_new(image, "backing-image", backing);
	return image;
}

static json_t *add_disk(const char *file)
{
	json_t *disk = json_pack("{s:o, s:o}", "device", json_sprintf("virtio%zu", json_array_size(disks)), "inserted",
				 json_pack("{s:b, s:s, s:o, s:s, s:o}", "ro", 0, "drv", "qcow2", "node-name",
					   json_sprintf("#block%zu", json_array_size(disks)), "file", file, "image",
					   image_of(file, NULL)));

	json_array_append_new(disks, disk);
	return disk;
}

static json_t *snapshot_disk(const json_t *arguments)
{
	json_t *disk, *inserted, *image;
	size_t i;

	json_array_foreach(disks, i, disk) {
		if (strcmp(text(disk, "device"), text(arguments, "device")))
			continue;
		inserted = json_object_get(disk, "inserted");
		image = image_of(text(arguments, "snapshot-file"), json_incref(json_object_get(inserted, "image")));
		json_object_set_new(inserted, "image", image);
		json_object_set_new(inserted, "node-name", json_sprintf("%s-over", text(inserted, "node-name")));
		return json_object();
	}
	return error("no such disk");
}

static json_t *create_image(const json_t *arguments)
{
	const json_t *options = json_object_get(arguments, "options");
	const char *file = text(options, "filename");
	int fd;

	if (*file) {
		fd = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		if (fd < 0 || write(fd, "an image", 8) != 8) {
			job(arguments, strerror(errno));
			return json_object();
		}
		close(fd);
	}
	job(arguments, NULL);
	return json_object();
}

/* Those that blockdev-add made, and those of the disks, with the points that are in each. */
static json_t *all_nodes(void)
{
	json_t *all = json_array(), *disk, *node;
	size_t i;

	json_array_foreach(nodes, i, node)
		json_array_append_new(all, json_pack("{s:O, s:{s:O}}", "node-name", node,
						     "image", "snapshots", points));
	json_array_foreach(disks, i, disk)
		json_array_append_new(all, json_pack("{s:O, s:{s:O}}", "node-name",
						     json_object_get(json_object_get(disk, "inserted"), "node-name"),
						     "image", "snapshots", points));
	return all;
}

static json_t *remove_node(const char *name)
{
	json_t *node;
	size_t i;

	json_array_foreach(nodes, i, node)
		if (!strcmp(json_string_value(node), name)) {
			json_array_remove(nodes, i);
			return json_object();
		}
	return error("no such node");
}

static json_t *snapshot(const char *what, const json_t *arguments)
{
	json_t *point;
	size_t i;

	if (!strcmp(what, "snapshot-save"))
		json_array_append_new(points, json_pack("{s:s}", "name", text(arguments, "tag")));
	if (!strcmp(what, "snapshot-delete"))
		json_array_foreach(points, i, point)
			if (!strcmp(text(point, "name"), text(arguments, "tag")))
				json_array_remove(points, i--);
	job(arguments, NULL);
	return json_object();
}

static json_t *migrate(void)
{
	if (!ignore_shared)
		return error("that would be a lot");
	if (given < 0 || write(given, STATE, strlen(STATE)) != (ssize_t)strlen(STATE))
		return error("no descriptor to write to");
	migrated("setup");
	status = "postmigrate";
	migrated("completed");
	return json_object();
}

/* At its end a migration stops the VM. */
static void cont(void)
{
	status = "running";
	if (postponed)
		json_decref(migrate());
	postponed = false;
}

static json_t *migrate_incoming(void)
{
	char state[256] = "";

	if (given < 0 || read(given, state, sizeof(state) - 1) < 0 || !ignore_shared)
		return error("no state");
	status = "paused";
	migrated(strcmp(fault, "take1") && !strcmp(state, STATE) ? "completed" : "failed");
	return json_object();
}

static json_t *mem_path(const char *object)
{
	json_t *ram;
	size_t i;

	json_array_foreach(rams, i, ram)
		if (!strncmp(object, "/objects/", 9) && !strcmp(object + 9, text(ram, "id")))
			return json_incref(json_object_get(ram, "mem-path"));
	return NULL;
}

static json_t *dismiss(const char *id)
{
	json_t *one;
	size_t i;

	json_array_foreach(jobs, i, one)
		if (!strcmp(text(one, "id"), id)) {
			json_array_remove(jobs, i);
			return json_object();
		}
	return error("no such job");
}

/* What comes behind "return", or an object with "error". */
static json_t *ask(const char *what, const json_t *arguments)
{
	if (!strcmp(what, "query-status"))
		return json_pack("{s:s}", "status", status);
	if (!strcmp(what, "query-memdev"))
		return json_deep_copy(rams);
	if (!strcmp(what, "query-block"))
		return json_deep_copy(disks);
	if (!strcmp(what, "query-jobs"))
		return json_deep_copy(jobs);
	if (!strcmp(what, "query-named-block-nodes"))
		return all_nodes();
	if (!strcmp(what, "query-migrate-capabilities"))
		return json_pack("[{s:s, s:b}, {s:s, s:b}, {s:s, s:b}]", "capability", "xbzrle", "state", 0,
				 "capability", "x-ignore-shared", "state", ignore_shared, "capability", "events", "state",
				 events);
	if (!strcmp(what, "qom-get"))
		return mem_path(text(arguments, "path")) ?: error("no such property");
	return NULL;
}

static json_t *do_it(const char *what, const json_t *arguments)
{
	if (!strcmp(what, "stop"))
		status = "paused";
	else if (!strcmp(what, "cont"))
		cont();
	else if (!strcmp(what, "migrate_cancel"))
		postponed = false;
	else if (!strcmp(what, "migrate"))
		return migrate();
	else if (!strcmp(what, "migrate-incoming"))
		return migrate_incoming();
	else if (!strcmp(what, "migrate-set-capabilities"))
		return set_capabilities(arguments);
	else if (!strcmp(what, "blockdev-snapshot-sync"))
		return snapshot_disk(arguments);
	else if (!strcmp(what, "blockdev-create"))
		return create_image(arguments);
	else if (!strcmp(what, "blockdev-add"))
		json_array_append(nodes, json_object_get(arguments, "node-name"));
	else if (!strcmp(what, "blockdev-del"))
		return remove_node(text(arguments, "node-name"));
	else if (!strncmp(what, "snapshot-", 9))
		return snapshot(what, arguments);
	else if (!strcmp(what, "job-dismiss"))
		return dismiss(text(arguments, "id"));
	return json_object();
}

/* ---- what goes wrong ---- */

static void hang_up(void)
{
	close(client);
	client = -1;
}

static void kill_client(int signal)
{
	struct ucred peer;
	socklen_t length = sizeof(peer);

	if (!getsockopt(client, SOL_SOCKET, SO_PEERCRED, &peer, &length))
		kill(peer.pid, signal);
}

/* It is done, and answered with the next one. */
static void fault_late(char *answer)
{
	late = strdup(answer);
}

/* What an earlier command was answered with comes first, and so do events. */
static void fault_stale(char *answer)
{
	say_json(json_pack("{s:[], s:i}", "return", "id", 9999));
	say_json(json_pack("{s:[]}", "return"));
	event("RTC_CHANGE", "", "");
	say(answer, strlen(answer));
}

static void fault_error(char *answer)
{
	(void)answer;
}

static void fault_noid(char *answer)
{
	(void)answer;
	say_json(error("as told"));
}

static void fault_never(char *answer)
{
	(void)answer;
}

static void fault_close(char *answer)
{
	(void)answer;
	hang_up();
}

static void fault_half(char *answer)
{
	say(answer, strlen(answer) / 2);
	hang_up();
}

static void fault_garbage(char *answer)
{
	static const char what[] = "\033]0;what\007 is this\n";

	(void)answer;
	say(what, strlen(what));
}

static void fault_list(char *answer)
{
	(void)answer;
	say("[]\n", 3);
}

static void fault_long(char *answer)
{
	char *bytes = calloc(1, LONG);

	(void)answer;
	say(memset(bytes, ' ', LONG), LONG);
	free(bytes);
}

static void fault_end(char *answer)
{
	(void)answer;
	exit(1);
}

static void fault_term(char *answer)
{
	kill_client(SIGTERM);
	fault_late(answer);
}

static void fault_int(char *answer)
{
	kill_client(SIGINT);
	fault_late(answer);
}

static void fault_hup(char *answer)
{
	kill_client(SIGHUP);
	fault_late(answer);
}

static void become_nobody(void)
{
	if (setuid(65534))
		die("setuid");
}

/* It is only done when the VM runs again. */
static void fault_postpone(char *answer)
{
	(void)answer;
	postponed = true;
}

/* As another cowctl has it, which came by another monitor. */
static void fault_lock(char *answer)
{
	int fd = open(text(json_array_get(rams, 0), "mem-path"), O_RDONLY | O_CLOEXEC);

	if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB))
		die("lock");
	say(answer, strlen(answer));
}

/* It never ends, whoever cancels it, until the VM runs. */
static void fault_stuck(char *answer)
{
	status = "finish-migrate";
	say(answer, strlen(answer));
}

static void fault_leave(char *answer)
{
	become_nobody();
	say(answer, strlen(answer));
}

static void fault_kill(char *answer)
{
	(void)answer;
	kill_client(SIGKILL);
	hang_up();
}

/* And then somebody stops the VM. */
static void fault_killpause(char *answer)
{
	fault_kill(answer);
	status = "paused";
}

/* The memory's owner may write what he likes into cowctl's mark. */
static void fault_mark(char *answer)
{
	json_t *object = json_pack("{s:s, s:b, s:b, s:i, s:[{s:s, s:b}, {s:s, s:b}]}", "verb", "save", "running", 1,
				   "stopped", 0, "pid", (int)getpid(), "capabilities", "capability", "xbzrle", "state",
				   1, "capability", "events", "state", 1);
	char *mark = json_dumps(object, 0);

	if (setxattr(text(json_array_get(rams, 0), "mem-path"), "user.cowctl.vm", mark, strlen(mark), 0))
		die("mark");
	free(mark);
	json_decref(object);
	say(answer, strlen(answer));
}

static const struct {
	const char *name;
	void (*act)(char *answer);
	bool done;		/* what was asked is done nevertheless */
	const char *returns;	/* instead of what it would */
} faults[] = {
	{ "late", fault_late, true, NULL },
	{ "stale", fault_stale, true, NULL },
	{ "error", fault_error, false, NULL },
	{ "noid", fault_noid, false, NULL },
	{ "never", fault_never, true, NULL },
	{ "close", fault_close, true, NULL },
	{ "half", fault_half, true, NULL },
	{ "garbage", fault_garbage, true, NULL },
	{ "list", fault_list, true, NULL },
	{ "long", fault_long, true, NULL },
	{ "end", fault_end, false, NULL },
	{ "term", fault_term, true, NULL },
	{ "int", fault_int, true, NULL },
	{ "hup", fault_hup, true, NULL },
	{ "kill", fault_kill, true, NULL },
	{ "stuck", fault_stuck, false, NULL },
	{ "postpone", fault_postpone, false, NULL },
	{ "killpause", fault_killpause, true, NULL },
	{ "mark", fault_mark, true, NULL },
	{ "lock", fault_lock, true, NULL },
	{ "leave", fault_leave, true, NULL },
	{ "empty", NULL, true, "{}" },
	{ "strange", NULL, true, "[null, 7, {\"id\": 5, \"status\": []}]" },
	{ "private", NULL, false, "[{\"id\": \"ram\", \"share\": false}]" },
	{ "nameless", NULL, false, "[{\"share\": true}]" },
	{ "none", NULL, false, "[]" },
	{ "blocked", NULL, false, "{\"blocked-reasons\": [\"a device of the host's\"]}" },
	{ "active", NULL, false, "{\"status\": \"active\"}" },
	{ "old", NULL, false, "[{\"capability\": \"events\", \"state\": false}]" },
	{ "failing", NULL, false, NULL },
};

#define FAULTS	(sizeof(faults) / sizeof(*faults))

/* What is to go wrong at this command, or FAULTS; it is told once. */
static size_t find_fault(const char *command)
{
	char path[300], line[128] = "", which[64], kind[64] = "";
	size_t i = FAULTS;
	FILE *file;

	snprintf(path, sizeof(path), "%s/fault", dir);
	file = fopen(path, "re");
	if (!file)
		return FAULTS;
	if (fgets(line, sizeof(line), file) && sscanf(line, "%63s %63s", which, kind) == 2 && !strcmp(which, command)) {
		unlink(path);
		for (i = 0; i < FAULTS && strcmp(faults[i].name, kind); i++)
			;
	}
	fclose(file);
	return i;
}

/* A migration or a job that fails, which is told by events. */
static json_t *fail(const char *command, const json_t *arguments)
{
	if (!strcmp(command, "migrate"))
		migrated("failed");
	else
		job(arguments, "as told");
	return json_object();
}

static char *answer_of(const char *command, const json_t *arguments, json_t *id, size_t wrong)
{
	const char *kind = wrong < FAULTS ? faults[wrong].name : "";
	const char *returns = wrong < FAULTS ? faults[wrong].returns : NULL;
	json_t *value, *answer;
	char *line, *whole;

	if (!strcmp(kind, "error"))
		value = error("as told");
	else if (!strcmp(kind, "postpone") || !strcmp(kind, "stuck"))
		value = json_object();
	else if (!strcmp(kind, "failing"))
		value = fail(command, arguments);
	else
		value = ask(command, arguments) ?: do_it(command, arguments);
	if (returns) {
		json_decref(value);
		value = json_loads(returns, 0, NULL);
	}
	answer = json_object_get(value, "error") ? json_incref(value) : json_pack("{s:O}", "return", value);
	json_decref(value);
	json_object_set(answer, "id", id);
	line = json_dumps(answer, 0);
	json_decref(answer);
	if (asprintf(&whole, "%s\r\n", line) < 0)
		die("memory");
	free(line);
	return whole;
}

static void note(const char *name, const char *mode, const char *line)
{
	char path[300];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	file = fopen(path, mode);
	if (!file)
		die(path);
	fputs(line, file);
	putc('\n', file);
	fclose(file);
}

/* One command. */
static void answer(const char *line)
{
	json_t *object = json_loads(line, 0, NULL);
	const char *command = text(object, "execute");
	size_t wrong = find_fault(command);
	bool undone = wrong < FAULTS && !faults[wrong].done && faults[wrong].act;
	char *whole;

	note("journal", "ae", line);
	if (late)
		say(late, strlen(late));
	free(late);
	late = NULL;
	if (undone && !strcmp(faults[wrong].name, "noid")) {
		fault_noid(NULL);
	} else {
		whole = answer_of(command, json_object_get(object, "arguments"), json_object_get(object, "id"), wrong);
		note("status", "we", status);
		note("nodes", "we", json_array_size(nodes) ? "some" : "none");
		if (wrong < FAULTS && faults[wrong].act && faults[wrong].act != fault_error)
			faults[wrong].act(whole);
		else
			say(whole, strlen(whole));
		free(whole);
	}
	json_decref(object);
}

/* ---- its monitor ---- */

/* Some bytes, perhaps with a descriptor. */
static ssize_t receive(char *bytes, size_t room)
{
	struct iovec part = { .iov_base = bytes, .iov_len = room };
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(sizeof(int))];
	} control;
	struct msghdr msg = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control,
			      .msg_controllen = sizeof(control) };
	ssize_t n = recvmsg(client, &msg, MSG_CMSG_CLOEXEC);
	struct cmsghdr *head = n > 0 ? CMSG_FIRSTHDR(&msg) : NULL;

	if (head && head->cmsg_type == SCM_RIGHTS) {
		if (given >= 0)
			close(given);
		memcpy(&given, CMSG_DATA(head), sizeof(given));
	}
	return n;
}

/* Commands are objects, without a newline between them. */
static void serve(void)
{
	char bytes[65536];
	size_t length = 0;
	json_error_t parsed;
	json_t *object;
	ssize_t n;

	say(greeting, strlen(greeting));
	while (client >= 0 && (n = receive(bytes + length, sizeof(bytes) - 1 - length)) > 0) {
		length += (size_t)n;
		while (length && (object = json_loadb(bytes, length, JSON_DISABLE_EOF_CHECK, &parsed))) {
			char *line = json_dumps(object, JSON_COMPACT);

			json_decref(object);
			length -= (size_t)parsed.position;
			memmove(bytes, bytes + parsed.position, length);
			answer(line);
			free(line);
		}
	}
	if (client >= 0)
		hang_up();
}

/* ---- its command line ---- */

/* What @name is in an option such as socket,path=PATH,server=on, or NULL. */
static char *value_of(const char *option, const char *name)
{
	size_t length = strlen(name);
	const char *at;

	for (at = strstr(option, name); at; at = strstr(at + 1, name))
		if (at > option && at[-1] == ',' && at[length] == '=')
			return strndup(at + length + 1, strcspn(at + length + 1, ","));
	return NULL;
}

static int listen_at(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	unlink(path);
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) || listen(fd, 1))
		die(path);
	return fd;
}

static void add_ram(const char *option)
{
	char *path = value_of(option, "mem-path"), *id = value_of(option, "id"), *size = value_of(option, "size");
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) || (!st.st_size && ftruncate(fd, atol(size))))
		die(path);
	if (mmap(NULL, (size_t)atol(size), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED)
		die(path);
	close(fd);
	json_array_append_new(rams, json_pack("{s:s, s:b, s:s}", "id", id, "share", 1, "mem-path", path));
	free(path);
	free(id);
	free(size);
}

static void add_option(const char *option, const char *value)
{
	char *path;

	if (!strcmp(option, "-qmp")) {
		snprintf(dir, sizeof(dir), "%.*s", (int)strcspn(value + 5, ","), value + 5);
	} else if (!strcmp(option, "-object")) {
		add_ram(value);
	} else if (!strcmp(option, "-drive")) {
		path = strndup(value + 5, strcspn(value + 5, ","));
		if (access(path, R_OK | W_OK))
			die(path);
		add_disk(path);
		free(path);
	} else if (!strcmp(option, "-chardev")) {
		path = value_of(value, "path");
		listen_at(path);
		free(path);
	} else if (!strcmp(option, "-D")) {
		if (open(value, O_WRONLY | O_CREAT | O_CLOEXEC, 0600) < 0)
			die(value);
	} else if (!strcmp(option, "-incoming")) {
		status = "inmigrate";
	} else if (!strcmp(option, "-greeting")) {
		greeting = value;
	} else if (!strcmp(option, "-fault")) {
		fault = value;
	}
}

int main(int argc, char **argv)
{
	int monitor, i;

	rams = json_array();
	disks = json_array();
	nodes = json_array();
	jobs = json_array();
	points = json_array();
	greeting = "{\"QMP\": {\"version\": {}, \"capabilities\": []}}\r\n";
	signal(SIGPIPE, SIG_IGN);
	for (i = 1; i < argc; i++)
		if (!strcmp(argv[i], "-S"))
			status = "paused";
		else if (i + 1 < argc)
			i++, add_option(argv[i - 1], argv[i]);
	if (!strcmp(fault, "end")) {
		fputs("qemu: \033[31mno kernel\n", stderr);
		return 1;
	}
	/* At last: who waits for it finds all else done. */
	monitor = listen_at(dir);
	*(strrchr(dir, '/') ?: dir) = 0;
	if (!strcmp(fault, "leave"))
		become_nobody();
	while ((client = accept4(monitor, NULL, NULL, SOCK_CLOEXEC)) >= 0)
		serve();
	return 1;
}
