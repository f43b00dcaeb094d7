// SPDX-License-Identifier: GPL-2.0-only
/*
 * cowctl vm fork - disks: what is written from the fork on goes to overlays, and the clones have clones of these
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vm-fork.h"

/* What the command line calls a disk: an earlier fork may have put overlays onto it. */
static const json_t *image_on_command_line(const struct fork_job *job, const json_t *image)
{
	const char *file;

	for (; image; image = json_object_get(image, "backing-image")) {
		file = json_text(image, "filename");
		if (*file && command_has(&job->command, file))
			break;
	}
	return image;
}

/* What is in an overlay's header, so it must not depend on where somebody is. Not all of QEMU's names are files. */
static char *absolute(const struct fork_job *job, const char *file)
{
	if (*file == '/' || strchr(file, ':'))
		return must(strdup(file));
	return must_printf("%s/%s", job->command.cwd, file);
}

/* What the overlay is put onto has to be found by the clones' QEMUs; QEMU's working directory is a part of its name. */
static int check_base(const struct fork_job *job, const struct fork_disk *disk)
{
	if (vm_check_text(disk->base))
		return -1;
	if (*disk->base == '/' && access(disk->base, R_OK))
		return complain(job->vm.qmp.path, "its disk %s cannot be read, as with -snapshot: %s", disk->base,
				strerror(errno));
	return 0;
}

static int add_disk(struct fork_job *job, const json_t *block, const json_t *inserted)
{
	const char *device = json_text(block, "device");
	const json_t *top = json_object_get(inserted, "image"), *image = image_on_command_line(job, top);
	const char *format = json_text(image, "format");
	struct change *change;
	struct fork_disk *disk;

	if (!*format)
		return complain(job->vm.qmp.path, "its command line does not name the disk %s",
				json_text(inserted, "file"));
	job->disks = must(reallocarray(job->disks, job->disk_count + 1, sizeof(*job->disks)));
	disk = &job->disks[job->disk_count];
	*disk = (struct fork_disk) { .key = *device ? "device" : "node-name", .cut = -1 };
	disk->id = must(strdup(*device ? device : json_text(inserted, "node-name")));
	disk->name = must_printf("disk%zu", job->disk_count++);
	disk->base = absolute(job, json_text(top, "filename"));
	disk->format = must(strdup(json_text(top, "format")));
	disk->size = json_integer_value(json_object_get(top, "virtual-size"));
	change = change_add(&job->changes, must(strdup(json_text(image, "filename"))),
			    must_printf("{dir}/%s", disk->name));
	/* What does not say its format, as a protocol node, would be given the bytes of an overlay. */
	change->raw = strcmp(format, "qcow2");
	return check_base(job, disk);
}

int disks_find(struct fork_job *job)
{
	json_t *all = qmp_list(&job->vm.qmp, "query-block", NULL), *block, *inserted;
	size_t i;
	int err = 0;

	if (!all)
		return -1;
	json_array_foreach(all, i, block) {
		inserted = json_object_get(block, "inserted");
		if (!err && inserted && !json_is_true(json_object_get(inserted, "ro")))
			err = add_disk(job, block, inserted);
	}
	json_decref(all);
	return err;
}

static int make_overlay(struct fork_job *job, struct fork_disk *disk)
{
	char *node = vm_name();
	int fd, err;

	disk->path = must_printf("%s/%s", job->place.path, disk->name);
	err = vm_make_image(&job->vm, disk->path, node,
			    must(json_pack("{s:I, s:s, s:s}", "size", disk->size, "backing-file", disk->base,
					   "backing-fmt", disk->format)));
	if (!err)
		vm_drop_node(&job->vm, node);
	free(node);
	if (err)
		return -1;
	fd = open(disk->path, O_RDONLY | O_CLOEXEC);
	disk->cut = fd < 0 ? -1 : cowmem_snapshot(fd);
	if (disk->cut < 0)
		complain_errno(disk->path);
	if (fd >= 0)
		close(fd);
	return disk->cut < 0 ? -1 : 0;
}

int disks_make_overlays(struct fork_job *job)
{
	size_t i;

	for (i = 0; i < job->disk_count; i++)
		if (make_overlay(job, &job->disks[i]))
			return -1;
	return 0;
}

static int split_disk(struct fork_job *job, const struct fork_disk *disk)
{
	int err = qmp_run(&job->vm.qmp, "blockdev-snapshot-sync",
			  must(json_pack("{s:s, s:s, s:s, s:s}", disk->key, disk->id, "snapshot-file", disk->path,
					 "format", "qcow2", "mode", "existing")));

	if (!job->vm.qmp.refused)
		job->disks_used = true;
	return err;
}

int disks_split(struct fork_job *job)
{
	size_t i;

	for (i = 0; i < job->disk_count; i++)
		if (split_disk(job, &job->disks[i]))
			return -1;
	return 0;
}

static void disk_close(struct fork_disk *disk)
{
	if (disk->cut >= 0)
		close(disk->cut);
	free(disk->id);
	free(disk->base);
	free(disk->format);
	free(disk->name);
	free(disk->path);
}

void disks_close(struct fork_job *job)
{
	size_t i;

	for (i = 0; i < job->disk_count; i++)
		disk_close(&job->disks[i]);
	free(job->disks);
}
