// SPDX-License-Identifier: GPL-2.0-only
/*
 * The module and its device
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/miscdevice.h>
#include <linux/module.h>

#include "fs.h"
#include "life.h"
#include "limbo.h"
#include "limit.h"
#include "node.h"
#include "ops.h"
#include "page.h"
#include "region.h"
#include "version.h"
#include "zero.h"

#define CREATE_TRACE_POINTS
#include "trace.h"

/* scripts/99-cowmem.rules opens the device to a group. */
static struct miscdevice cowmem_device = {
	.minor	= MISC_DYNAMIC_MINOR,
	.name	= "cowmem",
	.fops	= &cowmem_fops,
	.mode	= 0600,
};

static int __init cowmem_init(void)
{
	int err;

	cowmem_limbo_init();
	err = cowmem_nodes_init();
	if (err)
		return err;
	err = cowmem_zero_init();
	if (err)
		goto exit_nodes;
	err = cowmem_regions_init();
	if (err)
		goto exit_zero;
	err = cowmem_fs_init();
	if (err)
		goto exit_regions;
	/* Last: from here on anybody may open it. */
	err = misc_register(&cowmem_device);
	if (err)
		goto exit_fs;
	return 0;

exit_fs:
	cowmem_fs_exit();
exit_regions:
	cowmem_regions_exit();
	/* A mount that is gone already may have left pages there. */
	cowmem_limbo_exit();
exit_zero:
	cowmem_zero_exit();
exit_nodes:
	cowmem_nodes_exit();
	return err;
}

static void __exit cowmem_exit(void)
{
	misc_deregister(&cowmem_device);
	cowmem_fs_exit();
	cowmem_regions_exit();
	cowmem_limbo_exit();
	cowmem_zero_exit();
	cowmem_pages_exit();
	cowmem_nodes_exit();
	cowmem_limit_exit();
}

module_init(cowmem_init);
module_exit(cowmem_exit);

MODULE_DESCRIPTION("Memory regions that can be cloned live");
MODULE_VERSION(COWMEM_VERSION);
MODULE_LICENSE("GPL");
