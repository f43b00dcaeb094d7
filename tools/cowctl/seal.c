// SPDX-License-Identifier: GPL-2.0-only
/*
 * cowctl seal - take away, for good, what can be done to a region
 */
#include <errno.h>
#include <fcntl.h>

#include "info.h"

static const char help[] =
"Usage: cowctl seal REGION SEAL...\n"
"\n"
"Adds seals to a region, for good; a clone of it has none. SEAL is one or more\n"
"of these, with commas between:\n"
"\n"
"  shrink, grow  its size cannot decrease, increase\n"
"  write         what is in it cannot change; nobody may have it mapped for\n"
"                writing\n"
"  future-write  likewise, but mappings that exist go on to write\n"
"  seal          no further seal can be added\n"
"\n"
"      --json    as JSON: { \"region\": ..., \"seals\": [...] }, all that it has now\n"
"      --help    this text\n";

static const struct column fields[] = {
	{ "seals", "seals", COLUMN_LIST },
	{ NULL, NULL, 0 },
};

/* "write,grow" */
static unsigned int parse_seals(const char *text)
{
	unsigned int all = 0, seal;
	size_t length;

	for (;; text += length + 1) {
		length = strcspn(text, ",");
		seal = seal_by_name(text, length);
		if (!seal)
			usage("no seal '%.*s'", (int)length, text);
		all |= seal;
		if (!text[length])
			return all;
	}
}

static int complain_seal(const struct region *region)
{
	if (errno == EPERM)
		return complain(region->arg, "it has the seal 'seal': no further one can be added");
	if (errno == EBUSY)
		return complain(region->arg,
				"it is mapped for writing, see cowctl list; unmap it first, or add future-write instead");
	return complain_region(region);
}

static int add_seals(const char *arg, unsigned int seals)
{
	struct cowmem_info info;
	struct region region;
	int err = 0;

	if (region_open(&region, arg, O_RDWR))
		return -1;
	if (cowmem_seal(region.fd, seals))
		err = complain_seal(&region);
	else if (output.json && cowmem_get_info(region.fd, &info))
		err = complain_region(&region);
	else if (output.json)
		err = show_object(json_pack("{s:o, s:o}", "region", json_name(arg), "seals", seals_json(info.seals)),
				  fields);
	region_close(&region);
	return err;
}

static int seal_run(int argc, char **argv)
{
	static const struct option options[] = { COMMON_OPTIONS };
	unsigned int seals = 0;
	char **arg;

	while (next_option(argc, argv, "", options) >= 0)
		;
	argv = want_args(argc, argv, 2, argc);
	for (arg = argv + 1; *arg; arg++)
		seals |= parse_seals(*arg);
	return add_seals(argv[0], seals);
}

const struct verb verb_seal = { "seal", "take away for good what can be done to a region", help, seal_run };
