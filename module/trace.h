/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Tracepoints.  A region is identified by its inode number, which fdinfo shows as well, and
 * the device number of its file system, as inode numbers are unique only within one.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM cowmem

#if !defined(_COWMEM_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define _COWMEM_TRACE_H

#include <linux/tracepoint.h>

#include "region.h"

TRACE_EVENT(cowmem_clone,
	TP_PROTO(const struct cowmem_region *region,
		 const struct cowmem_region *clone, unsigned long cut,
		 unsigned long copied),
	TP_ARGS(region, clone, cut, copied),
	TP_STRUCT__entry(
		__field(dev_t, dev)
		__field(u64, region)
		__field(u64, clone)
		__field(unsigned long, cut)
		__field(unsigned long, copied)
	),
	TP_fast_assign(
		__entry->dev = region->inode.i_sb->s_dev;
		__entry->region = region->inode.i_ino;
		__entry->clone = clone->inode.i_ino;
		__entry->cut = cut;
		__entry->copied = copied;
	),
	TP_printk("region=%llu clone=%llu granted_pages=%lu busy_pages_copied=%lu dev=%u:%u",
		  __entry->region, __entry->clone, __entry->cut,
		  __entry->copied,
		  MAJOR(__entry->dev), MINOR(__entry->dev))
);

DECLARE_EVENT_CLASS(cowmem_page,
	TP_PROTO(const struct cowmem_region *region, unsigned long index),
	TP_ARGS(region, index),
	TP_STRUCT__entry(
		__field(dev_t, dev)
		__field(u64, region)
		__field(unsigned long, index)
	),
	TP_fast_assign(
		__entry->dev = region->inode.i_sb->s_dev;
		__entry->region = region->inode.i_ino;
		__entry->index = index;
	),
	TP_printk("region=%llu index=%lu dev=%u:%u", __entry->region, __entry->index,
		  MAJOR(__entry->dev), MINOR(__entry->dev))
);

/* A shared page was copied for its writer. */
DEFINE_EVENT(cowmem_page, cowmem_split,
	TP_PROTO(const struct cowmem_region *region, unsigned long index),
	TP_ARGS(region, index));

/* The last holder of a page writes it in place. */
DEFINE_EVENT(cowmem_page, cowmem_reuse,
	TP_PROTO(const struct cowmem_region *region, unsigned long index),
	TP_ARGS(region, index));

TRACE_EVENT(cowmem_restore,
	TP_PROTO(const struct cowmem_region *region,
		 const struct cowmem_region *from, unsigned long pages,
		 unsigned long nodes),
	TP_ARGS(region, from, pages, nodes),
	TP_STRUCT__entry(
		__field(dev_t, dev)
		__field(u64, region)
		__field(u64, from)
		__field(unsigned long, pages)
		__field(unsigned long, nodes)
	),
	TP_fast_assign(
		__entry->dev = region->inode.i_sb->s_dev;
		__entry->region = region->inode.i_ino;
		__entry->from = from->inode.i_ino;
		__entry->pages = pages;
		__entry->nodes = nodes;
	),
	TP_printk("region=%llu from=%llu pages=%lu nodes=%lu dev=%u:%u", __entry->region,
		  __entry->from, __entry->pages, __entry->nodes,
		  MAJOR(__entry->dev), MINOR(__entry->dev))
);

TRACE_EVENT(cowmem_copy,
	TP_PROTO(const struct cowmem_region *region,
		 const struct cowmem_region *from, unsigned long index,
		 unsigned long nr),
	TP_ARGS(region, from, index, nr),
	TP_STRUCT__entry(
		__field(dev_t, dev)
		__field(u64, region)
		__field(u64, from)
		__field(unsigned long, index)
		__field(unsigned long, nr)
	),
	TP_fast_assign(
		__entry->dev = region->inode.i_sb->s_dev;
		__entry->region = region->inode.i_ino;
		__entry->from = from->inode.i_ino;
		__entry->index = index;
		__entry->nr = nr;
	),
	TP_printk("region=%llu from=%llu index=%lu nr=%lu dev=%u:%u", __entry->region,
		  __entry->from, __entry->index, __entry->nr,
		  MAJOR(__entry->dev), MINOR(__entry->dev))
);

TRACE_EVENT(cowmem_merge,
	TP_PROTO(u64 scanned, u64 merged, u64 zeroed),
	TP_ARGS(scanned, merged, zeroed),
	TP_STRUCT__entry(
		__field(u64, scanned)
		__field(u64, merged)
		__field(u64, zeroed)
	),
	TP_fast_assign(
		__entry->scanned = scanned;
		__entry->merged = merged;
		__entry->zeroed = zeroed;
	),
	TP_printk("scanned=%llu merged=%llu zeroed=%llu", __entry->scanned,
		  __entry->merged, __entry->zeroed)
);

/*
 * A fault was handled.  @ret told the core that pages are mapped, to map an area by a PMD, to
 * copy a page into a private mapping, or that there was an error.
 */
TRACE_EVENT(cowmem_fault,
	TP_PROTO(const struct vm_fault *vmf, vm_fault_t ret),
	TP_ARGS(vmf, ret),
	TP_STRUCT__entry(
		__field(dev_t, dev)
		__field(u64, region)
		__field(unsigned long, index)
		__field(bool, write)
		__field(u8, did)
	),
	TP_fast_assign(
		__entry->dev = cowmem_file_region(vmf->vma->vm_file)->inode.i_sb->s_dev;
		__entry->region = cowmem_file_region(vmf->vma->vm_file)->inode.i_ino;
		__entry->index = vmf->pgoff;
		__entry->write = vmf->flags & FAULT_FLAG_WRITE;
		__entry->did = ret == VM_FAULT_NOPAGE ? 0 :
			       ret == VM_FAULT_LOCKED ? 1 : !ret ? 2 : 3;
	),
	TP_printk("region=%llu index=%lu write=%d did=%s dev=%u:%u", __entry->region,
		  __entry->index, __entry->write,
		  __print_symbolic(__entry->did, { 0, "pages" }, { 1, "area" },
				   { 2, "copy" }, { 3, "error" }),
		  MAJOR(__entry->dev), MINOR(__entry->dev))
);

/* A snapshot has yielded its memory for a write to a region. */
TRACE_EVENT(cowmem_yield,
	TP_PROTO(const struct cowmem_region *snapshot,
		 const struct cowmem_region *region, unsigned long index),
	TP_ARGS(snapshot, region, index),
	TP_STRUCT__entry(
		__field(u64, snapshot)
		__field(dev_t, dev)
		__field(u64, region)
		__field(unsigned long, index)
	),
	TP_fast_assign(
		__entry->dev = region->inode.i_sb->s_dev;
		__entry->snapshot = snapshot->inode.i_ino;
		__entry->region = region->inode.i_ino;
		__entry->index = index;
	),
	TP_printk("snapshot=%llu region=%llu index=%lu dev=%u:%u", __entry->snapshot,
		  __entry->region, __entry->index,
		  MAJOR(__entry->dev), MINOR(__entry->dev))
);

/* A range became a hole. */
TRACE_EVENT(cowmem_zap,
	TP_PROTO(const struct cowmem_region *region, unsigned long index,
		 unsigned long nr),
	TP_ARGS(region, index, nr),
	TP_STRUCT__entry(
		__field(dev_t, dev)
		__field(u64, region)
		__field(unsigned long, index)
		__field(unsigned long, nr)
	),
	TP_fast_assign(
		__entry->dev = region->inode.i_sb->s_dev;
		__entry->region = region->inode.i_ino;
		__entry->index = index;
		__entry->nr = nr;
	),
	TP_printk("region=%llu index=%lu nr=%lu dev=%u:%u", __entry->region,
		  __entry->index, __entry->nr,
		  MAJOR(__entry->dev), MINOR(__entry->dev))
);

#endif /* _COWMEM_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
