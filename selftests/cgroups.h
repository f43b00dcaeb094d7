/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Memory cgroups.
 */
#ifndef _SELFTESTS_COWMEM_CGROUPS_H
#define _SELFTESTS_COWMEM_CGROUPS_H

#include <sys/mount.h>
#include "basics.h"

static inline long cg_read(const char *dir, const char *file)
{
	char path[192], buf[64];

	snprintf(path, sizeof(path), "%s/%s", dir, file);
	must(read_file(path, buf, sizeof(buf)) > 0);
	return atol(buf);
}

static inline int cg_write(const char *dir, const char *file, const char *text)
{
	char path[192];

	snprintf(path, sizeof(path), "%s/%s", dir, file);
	return write_file(path, text);
}

/* Make a cgroup; return why there is none, or NULL. */
static inline const char *cg_make(char *dir, size_t size)
{
	const char *root = "/sys/fs/cgroup";
	char buf[256], path[64];

	snprintf(path, sizeof(path), "%s/cgroup.controllers", root);
	if (access(path, R_OK) && mount("cgroup", root, "cgroup2", 0, NULL))
		return "no cgroup2 here";
	if (read_file(path, buf, sizeof(buf)) < 0 || !strstr(buf, "memory"))
		return "no memory controller in cgroup2";
	cg_write(root, "cgroup.subtree_control", "+memory");
	snprintf(dir, size, "%s/cowmem_%d", root, getpid());
	must(!mkdir(dir, 0700));
	must(cg_read(dir, "memory.current") >= 0);
	return NULL;
}

/* Its members may have so many bytes. */
static inline int cg_limit(const char *dir, size_t bytes)
{
	char text[32];

	snprintf(text, sizeof(text), "%zu", bytes);
	return cg_write(dir, "memory.max", text);
}

/* Memory comes back with a delay: RCU, and what CPUs keep in stock. */
static inline bool cg_falls_below(const char *dir, long bytes)
{
	int i;

	for (i = 0; i < 200; i++) {
		if (cg_read(dir, "memory.current") < bytes)
			return true;
		usleep(50000);
	}
	fprintf(stderr, "# memory.current is still %ld\n",
		cg_read(dir, "memory.current"));
	return false;
}

#endif /* _SELFTESTS_COWMEM_CGROUPS_H */
