// SPDX-License-Identifier: GPL-2.0-only
/*
 * cowctl info - what regions are and hold
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "info.h"

static const struct {
	unsigned int seal;
	const char *name;
} seals[] = {
	{ COWMEM_SEAL_SEAL, "seal" },
	{ COWMEM_SEAL_SHRINK, "shrink" },
	{ COWMEM_SEAL_GROW, "grow" },
	{ COWMEM_SEAL_WRITE, "write" },
	{ COWMEM_SEAL_FUTURE_WRITE, "future-write" },
};

#define SEALS		(sizeof(seals) / sizeof(*seals))
#define SEALS_SNAPSHOT	(COWMEM_SEAL_SEAL | COWMEM_SEAL_SHRINK | COWMEM_SEAL_GROW | COWMEM_SEAL_WRITE)

unsigned int seal_by_name(const char *name, size_t length)
{
	size_t i;

	for (i = 0; i < SEALS; i++)
		if (strlen(seals[i].name) == length && !strncmp(seals[i].name, name, length))
			return seals[i].seal;
	return 0;
}

json_t *seals_json(unsigned int bits)
{
	json_t *list = json_array();
	size_t i;

	for (i = 0; i < SEALS; i++)
		if (bits & seals[i].seal)
			json_array_append_new(list, json_string(seals[i].name));
	return list;
}

/* In a word: what one may expect of it. */
static const char *kind_of(const struct cowmem_info *info)
{
	if (info->state & COWMEM_STATE_YIELDED)
		return "yielded";
	if (info->state & COWMEM_STATE_EXPENDABLE)
		return "expendable";
	if ((info->seals & SEALS_SNAPSHOT) == SEALS_SNAPSHOT)
		return "snapshot";
	return info->seals ? "sealed" : "live";
}

/* What INFO said, in bytes. */
static void add_info(json_t *object, const struct cowmem_info *info)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);

	json_object_set_new(object, "kind", json_string(kind_of(info)));
	json_object_set_new(object, "size", json_integer((json_int_t)info->size));
	json_object_set_new(object, "populated", json_integer((json_int_t)(info->pages_populated * page)));
	json_object_set_new(object, "exclusive", json_integer((json_int_t)(info->pages_exclusive * page)));
	json_object_set_new(object, "shared", json_integer((json_int_t)(info->pages_shared * page)));
	json_object_set_new(object, "huge", json_integer((json_int_t)(info->pages_huge * page)));
	json_object_set_new(object, "index", json_integer((json_int_t)info->index_bytes));
	json_object_set_new(object, "clones", json_integer((json_int_t)info->clones));
	json_object_set_new(object, "seals", seals_json(info->seals));
}

int add_region(json_t *object, int fd)
{
	struct cowmem_info info;
	struct stat st;

	if (cowmem_get_info(fd, &info) || fstat(fd, &st))
		return -1;
	json_object_set_new(object, "id", json_integer((json_int_t)st.st_ino));
	add_info(object, &info);
	return 0;
}

static const char help[] =
"Usage: cowctl info [OPTION]... REGION...\n"
"\n"
"Shows what regions are and hold, in bytes:\n"
"  kind       live, sealed, snapshot, expendable (a snapshot that yields), or\n"
"             yielded\n"
"  populated  what is not a hole; exclusive and shared are the parts that it\n"
"             holds alone and with others\n"
"  huge       the part in memory of 2 MiB\n"
"  index      memory of the index\n"
"  clones     how many times it has been cloned\n"
"\n"
"      --json            as JSON: { \"regions\": [...] }\n"
"  -h, --human-readable  sizes as 1.5G\n"
"      --help            this text\n";

static const struct column fields[] = {
	{ "region", "region", COLUMN_TEXT },
	{ "id", "id", COLUMN_NUMBER },
	{ "kind", "kind", COLUMN_TEXT },
	{ "size", "size", COLUMN_BYTES },
	{ "populated", "populated", COLUMN_BYTES },
	{ "exclusive", "exclusive", COLUMN_BYTES },
	{ "shared", "shared", COLUMN_BYTES },
	{ "huge", "huge", COLUMN_BYTES },
	{ "index", "index", COLUMN_BYTES },
	{ "clones", "clones", COLUMN_NUMBER },
	{ "seals", "seals", COLUMN_LIST },
	{ NULL, NULL, 0 },
};

/* Returns NULL after it was said why. */
static json_t *region_info(const char *arg)
{
	json_t *object = json_object();
	struct region region;

	if (region_open(&region, arg, O_RDONLY))
		goto fail;
	json_object_set_new(object, "region", json_name(arg));
	if (add_region(object, region.fd)) {
		complain_region(&region);
		region_close(&region);
		goto fail;
	}
	region_close(&region);
	return object;
fail:
	json_decref(object);
	return NULL;
}

static int info_run(int argc, char **argv)
{
	static const struct option options[] = { HUMAN_OPTION, COMMON_OPTIONS };
	json_t *all = json_array(), *one;
	int err = 0;
	size_t i;

	while (next_option(argc, argv, "h", options) >= 0)
		;
	argv = want_args(argc, argv, 1, argc);
	for (; *argv; argv++) {
		one = region_info(*argv);
		if (one)
			json_array_append_new(all, one);
		else
			err = -1;
	}
	if (output.json)
		return show_rows("regions", all, fields) ? -1 : err;
	json_array_foreach(all, i, one) {
		if (i)
			putchar('\n');
		if (show_object(json_incref(one), fields))
			err = -1;
	}
	json_decref(all);
	return err;
}

const struct verb verb_info = { "info", "what a region is and holds", help, info_run };
