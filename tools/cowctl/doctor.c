// SPDX-License-Identifier: GPL-2.0-only
/*
 * cowctl doctor - is all there that cowmem needs, and if not, what mends it?
 *
 * Each check looks at files and says one line. They are looked for below $COWCTL_ROOT, if that is set: so tests can
 * show it a machine that this one is not.
 */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <grp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "cowctl.h"
#include "version.h"

static const char help[] =
"Usage: cowctl doctor [OPTION]...\n"
"\n"
"Looks at the module, the kernel, the device and who may open it, Secure Boot,\n"
"and versions. A line each:\n"
"\n"
"  ok        it is as it should be\n"
"  note      it is not, but does not matter for most\n"
"  problem   it is not; the line below says what mends it\n"
"\n"
"The exit status is 1 if there is a problem.\n"
"\n"
"      --json            as JSON: { \"checks\": [ { \"check\": ..., \"status\": ...,\n"
"                        \"text\": ..., \"mend\": ... } ] }\n"
"      --help            this text\n";

/* The kernels that the module was tried with. */
#define OLDEST	"6.1"
#define NEWEST	"7.3"

#define LINE	512

/**
 * struct doctor - the machine, and what was found
 * @release: of the kernel that runs
 * @module: the file of the module for it, or NULL
 */
struct doctor {
	json_t *checks;
	bool problem;
	bool loaded;
	char release[LINE];
	char *module;
};

/* ---- what was found ---- */

static void add(struct doctor *d, const char *check, const char *status, char *text, const char *mend)
{
	json_array_append_new(d->checks, json_pack("{s:s, s:s, s:o, s:o}", "check", check, "status", status, "text",
						   json_name(text), "mend", mend ? json_name(mend) : json_null()));
	free(text);
}

static void ok(struct doctor *d, const char *check, char *text)
{
	add(d, check, "ok", text, NULL);
}

static void note(struct doctor *d, const char *check, char *text, const char *mend)
{
	add(d, check, "note", text, mend);
}

static void problem(struct doctor *d, const char *check, char *text, const char *mend)
{
	add(d, check, "problem", text, mend);
	d->problem = true;
}

/* ---- files ---- */

/* A path as it is on the machine that is looked at; the caller frees it. */
static char *at(const char *format, ...) __attribute__((format(printf, 1, 2)));
static char *at(const char *format, ...)
{
	const char *root = getenv("COWCTL_ROOT");
	char *path = NULL, *all;
	va_list args;

	va_start(args, format);
	if (vasprintf(&path, format, args) < 0)
		path = NULL;
	va_end(args);
	must(path);
	all = must_printf("%s%s", root ? root : "", path);
	free(path);
	return all;
}

/* The first line of a file, without its newline; false if there is none. Takes @path over. */
static bool read_line(char *path, char line[LINE])
{
	FILE *file = fopen(path, "re");
	bool got = file && fgets(line, LINE, file);

	free(path);
	if (file)
		fclose(file);
	if (got)
		line[strcspn(line, "\n")] = 0;
	else
		line[0] = 0;
	return got;
}

static bool exists(char *path)
{
	bool is = !access(path, F_OK);

	free(path);
	return is;
}

/* The line of a file that has @word in it; the caller frees it. NULL if there is none. Takes @path over. */
static char *find_line(char *path, const char *word)
{
	FILE *file = fopen(path, "re");
	char *line = NULL;
	size_t size = 0;
	bool found = false;

	free(path);
	while (file && !found && getline(&line, &size, file) > 0)
		found = strstr(line, word);
	if (file)
		fclose(file);
	if (found)
		return line;
	free(line);
	return NULL;
}

/* ---- the kernel ---- */

/* "6.12.3" as a number that can be compared; 0 if it is none. */
static unsigned int number_of(const char *release)
{
	unsigned int major, minor;

	return sscanf(release, "%u.%u", &major, &minor) == 2 ? major << 16 | minor : 0;
}

static void check_kernel(struct doctor *d)
{
	unsigned int number = number_of(d->release);

	if (number < number_of(OLDEST))
		problem(d, "kernel", must_printf("Linux %s is older than %s", d->release, OLDEST),
			"boot a kernel from " OLDEST " to " NEWEST);
	else if (number > number_of(NEWEST))
		note(d, "kernel",
		     must_printf("Linux %s is newer than %s, the last one that was tried", d->release, NEWEST),
		     "if the module does not build for it, boot an older kernel or take a newer cowmem");
	else
		ok(d, "kernel", must_printf("Linux %s", d->release));
}

static const struct {
	const char *option, *lacks;
} config_options[] = {
	{ "CONFIG_MODULES", "no module can be loaded" },
	{ "CONFIG_TRANSPARENT_HUGEPAGE", "no memory of 2 MiB" },
	{ "CONFIG_MEMCG", "memory is charged to nobody: only limit_mib and size= limit it" },
	{ "CONFIG_EVENT_TRACING", "cowctl top has no events" },
};

static void check_config(struct doctor *d)
{
	char *file = at("/boot/config-%s", d->release), *line, *wanted;
	size_t i, missing = 0;

	if (access(file, R_OK)) {
		free(file);
		file = at("/lib/modules/%s/build/.config", d->release);
	}
	if (access(file, R_OK)) {
		note(d, "config",
		     must_printf("the kernel's configuration is neither in /boot nor in /lib/modules/%s/build",
				 d->release), NULL);
		free(file);
		return;
	}
	for (i = 0; i < sizeof(config_options) / sizeof(*config_options); i++) {
		wanted = must_printf("%s=y\n", config_options[i].option);
		line = find_line(must(strdup(file)), wanted);
		if (!line)
			note(d, "config",
			     must_printf("%s is off: %s", config_options[i].option, config_options[i].lacks), NULL);
		missing += !line;
		free(wanted);
		free(line);
	}
	if (!missing)
		ok(d, "config", must_printf("%s has all that is made use of", file));
	free(file);
}

/* ---- the module ---- */

/* The file of the module for a kernel, as depmod has it; the caller frees it. */
static char *find_module(const char *release)
{
	char *line = find_line(at("/lib/modules/%s/modules.dep", release), "/cowmem.ko"), *path;

	if (!line)
		return NULL;
	line[strcspn(line, ":")] = 0;
	path = at("/lib/modules/%s/%s", release, line);
	free(line);
	return path;
}

/* Is it there for some other kernel? Returns that one's release, or NULL. */
static char *find_other(void)
{
	char *pattern = at("/lib/modules/*/modules.dep"), *found = NULL;
	glob_t all;
	size_t i;

	if (!glob(pattern, 0, NULL, &all)) {
		for (i = 0; !found && i < all.gl_pathc; i++) {
			char *line = find_line(must(strdup(all.gl_pathv[i])), "/cowmem.ko");

			if (line) {
				*strrchr(all.gl_pathv[i], '/') = 0;
				found = must(strdup(strrchr(all.gl_pathv[i], '/') + 1));
			}
			free(line);
		}
		globfree(&all);
	}
	free(pattern);
	return found;
}

/* Is it a kernel of the distribution, for which apt has headers? */
static bool apt_has_headers(const char *release)
{
	static const char *const ends[] = { "-amd64", "-arm64", "-generic" };
	size_t i, length;

	for (i = 0; exists(at("/etc/debian_version")) && i < sizeof(ends) / sizeof(*ends); i++) {
		length = strlen(ends[i]);
		if (strlen(release) > length && !strcmp(release + strlen(release) - length, ends[i]))
			return true;
	}
	return false;
}

/* What gets the module for the kernel that runs; @other is one that it is built for, or NULL. */
static char *how_to_build(const struct doctor *d, const char *other)
{
	if (!apt_has_headers(d->release))
		return must_printf("with this kernel's headers, in the source of cowmem: make && make modules_install && "
				   "depmod; or boot %s", other ? other : "a kernel of the distribution");
	if (other)
		return must_printf("apt install linux-headers-%s; dkms autoinstall -k %s", d->release, d->release);
	return must_printf("apt install cowmem-dkms linux-headers-%s", d->release);
}

static void check_module(struct doctor *d)
{
	char *other, *mend;

	if (d->loaded) {
		ok(d, "module", must(strdup("cowmem is loaded")));
		return;
	}
	if (d->module) {
		problem(d, "module", must(strdup("cowmem is built for this kernel, but not loaded")),
			"modprobe cowmem; at each boot: echo cowmem >/etc/modules-load.d/cowmem.conf");
		return;
	}
	other = find_other();
	mend = how_to_build(d, other);
	if (other)
		problem(d, "module",
			must_printf("cowmem is not loaded: it is built for %s, not for %s", other, d->release), mend);
	else
		problem(d, "module", must_printf("cowmem is not loaded, nor built for any kernel here"), mend);
	free(mend);
	free(other);
}

static void check_versions(struct doctor *d)
{
	char line[LINE];
	bool module = read_line(at("/sys/module/cowmem/version"), line);

	if (strcmp(cowmem_version(), COWMEM_VERSION))
		problem(d, "versions",
			must_printf("cowctl is %s, but the library is %s", COWMEM_VERSION, cowmem_version()),
			"apt install --only-upgrade libcowmem1 cowmem-tools");
	else if (d->loaded && module && strcmp(line, COWMEM_VERSION))
		problem(d, "versions", must_printf("cowctl and the library are %s, but the module that is loaded is %s",
						   COWMEM_VERSION, line),
			"upgrade all packages; then end who has regions, and: modprobe -r cowmem && modprobe cowmem");
	else if (d->loaded && module)
		ok(d, "versions", must_printf("module, library and tool are %s", COWMEM_VERSION));
	else
		ok(d, "versions", must_printf("library and tool are %s", COWMEM_VERSION));
}

/* ---- who lets it in ---- */

/* With a signature the file ends so; compressed, nobody can tell from here. */
static bool is_signed(const char *path)
{
	static const char mark[] = "~Module signature appended~\n";
	char end[sizeof(mark) - 1];
	FILE *file = fopen(path, "re");
	bool is = file && !fseek(file, -(long)sizeof(end), SEEK_END) && fread(end, sizeof(end), 1, file) == 1 &&
		  !memcmp(end, mark, sizeof(end));

	if (file)
		fclose(file);
	return is;
}

static bool secure_boot(void)
{
	char *path = at("/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c");
	FILE *file = fopen(path, "re");
	unsigned char value[5] = { };
	bool on;

	/* Four bytes of attributes, and the value. */
	on = file && fread(value, 1, sizeof(value), file) == sizeof(value) && value[4];
	if (file)
		fclose(file);
	free(path);
	return on;
}

/* What makes the kernel refuse a module without a signature that it trusts, or NULL. */
static const char *who_wants_signature(void)
{
	char line[LINE];

	if (read_line(at("/sys/module/module/parameters/sig_enforce"), line) && line[0] == 'Y')
		return "the kernel wants modules signed";
	if (read_line(at("/sys/kernel/security/lockdown"), line) && !strstr(line, "[none]"))
		return "the kernel is locked down, and wants modules signed";
	return secure_boot() ? "Secure Boot is on" : NULL;
}

static void check_signature(struct doctor *d)
{
	const char *who = who_wants_signature();

	if (!who)
		ok(d, "signature", must_printf("Secure Boot and lockdown are off: modules need none"));
	else if (d->loaded)
		ok(d, "signature", must_printf("%s, and the module was let in", who));
	else if (!d->module)
		note(d, "signature", must_printf("%s: the module will need a signature", who),
		     "dkms signs what it builds; enroll its key: mokutil --import /var/lib/dkms/mok.pub, and reboot");
	else if (!strcmp(d->module + strlen(d->module) - 3, ".ko") && !is_signed(d->module))
		problem(d, "signature", must_printf("%s, and %s is not signed", who, d->module),
			"let dkms build it again, which signs it; enroll its key: mokutil --import /var/lib/dkms/mok.pub, and reboot");
	else
		note(d, "signature", must_printf("%s; the module's signature counts if its key is enrolled", who),
		     "if modprobe says \"Key was rejected\": mokutil --import /var/lib/dkms/mok.pub, and reboot");
}

/* ---- the device ---- */

static bool has_rule(void)
{
	return exists(at("/etc/udev/rules.d/99-cowmem.rules")) || exists(at("/usr/lib/udev/rules.d/99-cowmem.rules")) ||
	       exists(at("/lib/udev/rules.d/99-cowmem.rules"));
}

/* The number of the group "cowmem", or -1. */
static long find_group(void)
{
	char *line = find_line(at("/etc/group"), "cowmem:");
	long gid = -1;

	if (line && !strncmp(line, "cowmem:", 7))
		sscanf(line, "cowmem:%*[^:]:%ld", &gid);
	free(line);
	/* Or one that a directory service knows. */
	if (gid < 0 && !getenv("COWCTL_ROOT")) {
		struct group *group = getgrnam("cowmem");

		gid = group ? (long)group->gr_gid : -1;
	}
	return gid;
}

static void check_rule(struct doctor *d, const struct stat *device)
{
	long group = find_group();

	if (device && device->st_mode & 0006)
		problem(d, "group", must(strdup("everybody may open /dev/cowmem, and use as much memory as they like")),
			"chmod o= /dev/cowmem; see to the udev rule that does it");
	else if (!has_rule())
		note(d, "group", must(strdup("there is no udev rule: the device is root's alone")),
		     "see 99-cowmem.rules, which cowmem-dkms brings");
	else if (group < 0)
		problem(d, "group", must(strdup("there is a udev rule, but no group cowmem")),
			"groupadd --system cowmem && udevadm trigger --name-match=cowmem");
	else if (device && (device->st_gid != (gid_t)group || (device->st_mode & 0060) != 0060))
		problem(d, "group",
			must(strdup("the device does not belong to the group cowmem, though there is a udev rule")),
			"udevadm control --reload && udevadm trigger --name-match=cowmem");
	else
		ok(d, "group", must(strdup("members of the group cowmem may open the device")));
}

static void check_access(struct doctor *d, const char *path, const struct stat *st)
{
	char line[LINE], number[64];

	snprintf(number, sizeof(number), "%u:%u", major(st->st_rdev), minor(st->st_rdev));
	if (!S_ISCHR(st->st_mode) ||
	    (read_line(at("/sys/class/misc/cowmem/dev"), line) && strcmp(line, number)))
		problem(d, "device", must_printf("/dev/cowmem is not the module's device"),
			"rm /dev/cowmem && udevadm trigger --name-match=cowmem");
	else if (access(path, R_OK | W_OK) && find_group() >= 0)
		problem(d, "device", must_printf("/dev/cowmem may not be opened by this user"),
			"be root, or: usermod --append --groups cowmem USER, and log in again");
	else if (access(path, R_OK | W_OK))
		problem(d, "device", must_printf("/dev/cowmem may not be opened by this user"),
			"be root, or have a group for it: see 99-cowmem.rules");
	else
		ok(d, "device", must_printf("/dev/cowmem is there, and may be opened by this user"));
}

static void check_device(struct doctor *d)
{
	char *path = at("/dev/cowmem");
	struct stat st;

	if (!stat(path, &st)) {
		check_access(d, path, &st);
		check_rule(d, &st);
	} else {
		if (d->loaded)
			problem(d, "device", must_printf("there is no /dev/cowmem, though the module is loaded"),
				"udevadm trigger --name-match=cowmem; in a container, hand the device in");
		check_rule(d, NULL);
	}
	free(path);
}

/* ---- what it can ---- */

static void check_features(struct doctor *d)
{
	uint64_t features;

	if (!d->loaded || getenv("COWCTL_ROOT"))
		return;
	if (cowmem_features(&features)) {
		note(d, "features", must_printf("not known: %s", cowmem_strerror(errno)), NULL);
		return;
	}
	if (!(features & COWMEM_FEATURE_KEEP))
		note(d, "features",
		     must(strdup("this kernel cannot tell written pages: restore --keep keeps none")), NULL);
	if (!(features & COWMEM_FEATURE_EXPENDABLE))
		note(d, "features", must(strdup("the module is too old for snapshot --expendable")), NULL);
	if (!(features & COWMEM_FEATURE_HUGE))
		note(d, "features", must(strdup("no memory of 2 MiB with this kernel or processor")), NULL);
	ok(d, "features", must_printf("%s%s%s", features & COWMEM_FEATURE_KEEP ? "keep " : "",
				      features & COWMEM_FEATURE_EXPENDABLE ? "expendable " : "",
				      features & COWMEM_FEATURE_HUGE ? "huge" : ""));
}

static void check_memory(struct doctor *d)
{
	unsigned long long limit, held;
	char a[LINE], b[LINE];

	if (!read_line(at("/sys/module/cowmem/parameters/limit_mib"), a) ||
	    !read_line(at("/sys/module/cowmem/parameters/held_kib"), b))
		return;
	limit = strtoull(a, NULL, 10);
	held = strtoull(b, NULL, 10) / 1024;
	if (limit && held >= limit - limit / 20)
		problem(d, "memory", must_printf("%llu MiB are held, and limit_mib allows for %llu", held, limit),
			"remove snapshots, see cowctl list; or: echo MIB >/sys/module/cowmem/parameters/limit_mib");
	else if (limit)
		ok(d, "memory", must_printf("%llu MiB are held of %llu that limit_mib allows for", held, limit));
	else
		ok(d, "memory", must_printf("%llu MiB are held; limit_mib sets no limit", held));
}

static void check_store(struct doctor *d)
{
	int dir;

	if (!d->loaded || getenv("COWCTL_ROOT"))
		return;
	dir = store_open(false);
	if (dir >= 0)
		ok(d, "store", must_printf("mounted at %s", store_path()));
	else
		note(d, "store", must_printf("there is none at %s", store_path()),
		     "root's first cowctl create or snapshot makes it; for others: mount -t cowmem, and set COWMEM_STORE");
	if (dir >= 0)
		close(dir);
}

/* ---- */

static void show_text(const json_t *checks)
{
	const char *check, *status, *text, *mend;
	json_t *one;
	size_t i;

	json_array_foreach(checks, i, one) {
		mend = json_string_value(json_object_get(one, "mend"));
		json_unpack(one, "{s:s, s:s, s:s}", "check", &check, "status", &status, "text", &text);
		printf("%-8s %-10s ", status, check);
		put_safe(text, stdout);
		putchar('\n');
		if (!mend)
			continue;
		fputs("                    to mend it: ", stdout);
		put_safe(mend, stdout);
		putchar('\n');
	}
}

/* The kernel that runs, or the one that the tests say. */
static void find_release(struct doctor *d)
{
	struct utsname name;

	if (getenv("COWCTL_ROOT") && read_line(at("/proc/sys/kernel/osrelease"), d->release))
		return;
	uname(&name);
	snprintf(d->release, sizeof(d->release), "%s", name.release);
}

static int doctor_run(int argc, char **argv)
{
	static const struct option options[] = { COMMON_OPTIONS };
	struct doctor d = { .checks = json_array() };
	bool bad;

	while (next_option(argc, argv, "", options) >= 0)
		;
	want_args(argc, argv, 0, 0);
	find_release(&d);
	d.loaded = exists(at("/sys/module/cowmem"));
	d.module = find_module(d.release);
	check_kernel(&d);
	check_config(&d);
	check_module(&d);
	check_signature(&d);
	check_versions(&d);
	check_device(&d);
	check_features(&d);
	check_memory(&d);
	check_store(&d);
	bad = d.problem;
	free(d.module);
	if (output.json)
		return show_json(json_pack("{s:o}", "checks", d.checks), false) || bad ? -1 : 0;
	show_text(d.checks);
	json_decref(d.checks);
	return bad ? -1 : 0;
}

const struct verb verb_doctor = { "doctor", "is all there that cowmem needs, and what mends it", help, doctor_run };
