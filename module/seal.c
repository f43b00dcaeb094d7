// SPDX-License-Identifier: GPL-2.0-only
/*
 * Sealing regions
 */
#include <linux/cpu.h>
#include <linux/pagemap.h>
#include <linux/workqueue.h>

#include "call.h"
#include "lock.h"
#include "map.h"
#include "node.h"
#include "page.h"
#include "region.h"
#include "seal.h"

/*
 * Can anybody write to the region?  That takes a mapping that is writable or can be made so,
 * or I/O in progress to a page that was mapped so.
 */
static bool region_written(struct cowmem_region *region)
{
	struct cowmem_node *leaf;
	unsigned int i;

	/*
	 * Counts the shared mappings that have VM_MAYWRITE; until 6.7 all those of
	 * descriptors that are open for writing.
	 */
	if (mapping_writably_mapped(region->inode.i_mapping))
		return true;
	/* Only private mappings are left, which do no harm. */
	cowmem_unmap(region, 0, ULONG_MAX, false);
	list_for_each_entry(leaf, &region->tree.granted, granted_link)
		for (i = 0; i < COWMEM_NODE_SLOTS; i++)
			if ((leaf->granted & BIT_ULL(i)) &&
			    cowmem_page_busy(leaf->slots[i], 0))
				return true;
	return false;
}

/* Add @seals.  Under i_rwsem and region->lock for writing. */
static int seal_locked(struct cowmem_region *region, unsigned int seals)
{
	if (seals && (region->seals & COWMEM_SEAL_SEAL))
		return -EPERM;
	/*
	 * mmap() counts the mapping as writable before it looks at the seals,
	 * so either it sees the seal or we see the mapping.  On kernels where that
	 * is not so, faults see the seal: may_be_written() in grant.c.
	 */
	if ((seals & COWMEM_SEAL_WRITE) &&
	    !(region->seals & COWMEM_SEAL_WRITE) && region_written(region))
		return -EBUSY;
	region->seals |= seals;
	return 0;
}

/* Add @args->seals and return all seals there.  Returns 0 or a negative errno. */
static int seal_region(struct cowmem_region *region, struct cowmem_seal *args)
{
	int err = cowmem_lock_with_writers(region);

	if (err)
		return err;
	err = seal_locked(region, args->seals);
	if (!err)
		args->seals = region->seals;
	cowmem_unlock_with_writers(region);
	return err;
}

static long drain_cpu(void *unused)
{
	cowmem_munlock_drain();
	return 0;
}

/*
 * Pages that were unmapped from locked memory may look busy, as each CPU has a list of such
 * pages that holds references.
 */
static void drain_cpus(void)
{
	int cpu;

	cpus_read_lock();
	for_each_online_cpu(cpu)
		work_on_cpu(cpu, drain_cpu, NULL);
	cpus_read_unlock();
}

/**
 * cowmem_seal - COWMEM_IOC_SEAL
 * @call: the ioctl
 *
 * Context: may sleep.
 * Return: 0 or a negative errno, see struct cowmem_seal.
 */
int cowmem_seal(struct cowmem_call *call)
{
	struct cowmem_seal *args = &call->args.seal;
	struct cowmem_region *region = call->region;
	int err;

	if (args->flags)
		return -EOPNOTSUPP;
	if (args->seals & ~COWMEM_ALL_SEALS)
		return -EINVAL;
	if (!(call->file->f_mode & FMODE_WRITE))
		return -EBADF;

	err = seal_region(region, args);
	if (err == -EBUSY && !mapping_writably_mapped(region->inode.i_mapping)) {
		drain_cpus();
		err = seal_region(region, args);
	}
	return err;
}
