// SPDX-License-Identifier: GPL-2.0-only
/*
 * A virtual machine that is taken back to where it started, again and again, and what
 * that takes: with cowmem, and in the ways in which VM monitors do it today.
 *
 *	reset WAY PAGES ROUNDS
 *
 * The machine has 64 MiB and one vCPU. A round writes PAGES pages, one of each 16, and ends
 * with HLT; then the memory gets its first content back, and the next round looks whether
 * that is so. Prints the microseconds that a round took, and of these the reset; then how
 * long the machine stood still for one more copy of its memory, after another round.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <linux/kvm.h>

#include "libcowmem.h"

#define PAGE	4096UL
#define SIZE	(64UL << 20)
#define STEP	(16 * PAGE)
/* The guest's code is in its first page, what it writes comes after that. */
#define FIRST	PAGE

/*
 * The guest: 32-bit protected mode, no paging. It adds up what it finds in the pages, in
 * ebx, and writes eax there: ecx of them from esi on, edx apart.
 */
static const uint8_t code[] = {
	0x03, 0x1e,		/* 0: add (%esi), %ebx */
	0x89, 0x06,		/* mov %eax, (%esi) */
	0x01, 0xd6,		/* add %edx, %esi */
	0x49,			/* dec %ecx */
	0x75, 0xf7,		/* jnz 0b */
	0xf4,			/* hlt */
};

struct machine;

struct way {
	const char *name;
	void (*init)(struct machine *m);	/* memory with its first content */
	void (*reset)(struct machine *m);	/* the memory gets that content back */
	void (*copy)(struct machine *m);	/* of the memory as it is, while the machine stands still */
};

struct machine {
	const struct way *way;
	int kvm, vm, vcpu;
	int fd, snapshot;	/* with cowmem, or the file of the image */
	char *mem, *image;
	uint32_t flags;		/* of the memory slot */
	struct kvm_run *run;
};

static double now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1e6 + ts.tv_nsec / 1e3;
}

static char *map(int fd, int flags)
{
	char *mem = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, flags, fd, 0);

	if (mem == MAP_FAILED)
		err(1, "mmap");
	return mem;
}

static char *anonymous(void)
{
	return map(-1, MAP_PRIVATE | MAP_ANONYMOUS);
}

/* Each page says which it is. */
static void fill(char *mem)
{
	uint32_t page;

	memcpy(mem, code, sizeof(code));
	for (page = FIRST / PAGE; page < SIZE / PAGE; page++)
		memcpy(mem + page * PAGE, &page, sizeof(page));
}

/* ---- all of it ---- */

static void init_copied(struct machine *m)
{
	m->mem = anonymous();
	m->image = anonymous();
	fill(m->image);
	memcpy(m->mem, m->image, SIZE);
}

static void reset_copied(struct machine *m)
{
	memcpy(m->mem, m->image, SIZE);
}

static void copy_all(struct machine *m)
{
	memcpy(anonymous(), m->mem, SIZE);
}

/* ---- what KVM says was written ---- */

static void init_logged(struct machine *m)
{
	init_copied(m);
	m->flags = KVM_MEM_LOG_DIRTY_PAGES;
}

static void copy_logged(const struct machine *m, char *to, const char *from)
{
	static uint64_t bits[SIZE / PAGE / 64];
	struct kvm_dirty_log log = { .slot = 0, .dirty_bitmap = bits };
	size_t i;

	if (ioctl(m->vm, KVM_GET_DIRTY_LOG, &log))
		err(1, "KVM_GET_DIRTY_LOG");
	for (i = 0; i < SIZE / PAGE / 64; i++)
		for (; bits[i]; bits[i] &= bits[i] - 1) {
			size_t at = (i * 64 + __builtin_ctzll(bits[i])) * PAGE;

			memcpy(to + at, from + at, PAGE);
		}
}

static void reset_logged(struct machine *m)
{
	copy_logged(m, m->mem, m->image);
}

/* Into a copy that was made before: only what was written since. */
static void copy_to_backup(struct machine *m)
{
	copy_logged(m, m->image, m->mem);
}

/* ---- a private mapping of a file ---- */

static void init_private(struct machine *m)
{
	m->fd = memfd_create("image", MFD_CLOEXEC);
	if (m->fd < 0 || ftruncate(m->fd, SIZE))
		err(1, "memfd");
	fill(map(m->fd, MAP_SHARED));
	m->mem = map(m->fd, MAP_PRIVATE);
}

static void reset_private(struct machine *m)
{
	if (madvise(m->mem, SIZE, MADV_DONTNEED))
		err(1, "madvise");
}

/* ---- cowmem ---- */

static void init_region(struct machine *m)
{
	m->fd = cowmem_create("vm", SIZE, 0);
	if (m->fd < 0)
		errx(1, "cowmem: %s", cowmem_strerror(errno));
	m->mem = cowmem_map(m->fd, 0, SIZE, PROT_READ | PROT_WRITE);
	if (m->mem == MAP_FAILED)
		err(1, "cowmem_map");
	fill(m->mem);
	m->snapshot = cowmem_snapshot(m->fd);
	if (m->snapshot < 0)
		errx(1, "snapshot: %s", cowmem_strerror(errno));
}

static void reset_region(struct machine *m)
{
	if (cowmem_restore(m->fd, m->snapshot, 0, NULL))
		errx(1, "restore: %s", cowmem_strerror(errno));
}

static void reset_region_keep(struct machine *m)
{
	if (cowmem_restore(m->fd, m->snapshot, COWMEM_RESTORE_KEEP, NULL))
		errx(1, "restore: %s", cowmem_strerror(errno));
}

static void copy_region(struct machine *m)
{
	if (cowmem_clone(m->fd, 0) < 0)
		errx(1, "clone: %s", cowmem_strerror(errno));
}

static const struct way ways[] = {
	{ "copy", init_copied, reset_copied, copy_all },
	{ "dirty-log", init_logged, reset_logged, copy_to_backup },
	{ "private", init_private, reset_private, copy_all },
	{ "cowmem", init_region, reset_region, copy_region },
	{ "cowmem-keep", init_region, reset_region_keep, copy_region },
};

/* ---- the machine ---- */

static void set_mode(const struct machine *m)
{
	struct kvm_segment flat = {
		.limit = ~0U, .selector = 8, .type = 11, .present = 1, .db = 1, .s = 1, .g = 1,
	};
	struct kvm_sregs sregs;

	if (ioctl(m->vcpu, KVM_GET_SREGS, &sregs))
		err(1, "KVM_GET_SREGS");
	sregs.cs = flat;
	flat.selector = 16;
	flat.type = 3;
	sregs.ds = flat;
	sregs.es = flat;
	sregs.ss = flat;
	sregs.cr0 |= 1;		/* protected mode */
	if (ioctl(m->vcpu, KVM_SET_SREGS, &sregs))
		err(1, "KVM_SET_SREGS");
}

static void init(struct machine *m)
{
	struct kvm_userspace_memory_region memory = { .memory_size = SIZE };
	int size;

	m->way->init(m);
	m->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (m->kvm < 0)
		err(1, "/dev/kvm");
	m->vm = ioctl(m->kvm, KVM_CREATE_VM, 0);
	memory.flags = m->flags;
	memory.userspace_addr = (uintptr_t)m->mem;
	if (m->vm < 0 || ioctl(m->vm, KVM_SET_USER_MEMORY_REGION, &memory))
		err(1, "KVM_SET_USER_MEMORY_REGION");
	m->vcpu = ioctl(m->vm, KVM_CREATE_VCPU, 0);
	size = ioctl(m->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (m->vcpu < 0 || size < 0)
		err(1, "KVM_CREATE_VCPU");
	m->run = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, m->vcpu, 0);
	if (m->run == MAP_FAILED)
		err(1, "mmap of a vCPU");
	set_mode(m);
}

/* One round. All pages have to be as they were at first. */
static void run(const struct machine *m, uint32_t pages)
{
	struct kvm_regs regs = { .rflags = 2, .rsi = FIRST, .rcx = pages, .rdx = STEP, .rax = ~0U };
	uint32_t i, sum = 0;

	if (ioctl(m->vcpu, KVM_SET_REGS, &regs))
		err(1, "KVM_SET_REGS");
	if (ioctl(m->vcpu, KVM_RUN, 0))
		err(1, "KVM_RUN");
	if (m->run->exit_reason != KVM_EXIT_HLT)
		errx(1, "exit %u", m->run->exit_reason);
	if (ioctl(m->vcpu, KVM_GET_REGS, &regs))
		err(1, "KVM_GET_REGS");
	for (i = 0; i < pages; i++)
		sum += (FIRST + i * STEP) / PAGE;
	if ((uint32_t)regs.rbx != sum)
		errx(1, "%s: the guest found %u, not %u: a page was not reset", m->way->name,
		     (uint32_t)regs.rbx, sum);
}

static const struct way *find_way(const char *name)
{
	size_t i;

	for (i = 0; i < sizeof(ways) / sizeof(*ways); i++)
		if (!strcmp(ways[i].name, name))
			return &ways[i];
	errx(2, "no way '%s'", name);
}

/* So many rounds. Returns what they took, and in @reset what of that the resets did. */
static double rounds(struct machine *m, uint32_t pages, long nr, double *reset)
{
	double start = now_us(), before;

	*reset = 0;
	while (nr--) {
		run(m, pages);
		before = now_us();
		m->way->reset(m);
		*reset += now_us() - before;
	}
	return now_us() - start;
}

int main(int argc, char **argv)
{
	struct machine m = { .fd = -1 };
	double before, all, reset;
	long pages, nr;

	if (argc != 4)
		errx(2, "usage: reset WAY PAGES ROUNDS");
	m.way = find_way(argv[1]);
	pages = atol(argv[2]);
	nr = atol(argv[3]);
	if (pages < 1 || FIRST + (pages - 1) * STEP >= SIZE || nr < 1)
		errx(2, "1 to %lu pages, and 1 round or more", SIZE / STEP);
	init(&m);
	/* The first ones fill page tables. */
	rounds(&m, pages, 3, &reset);
	all = rounds(&m, pages, nr, &reset);
	run(&m, pages);
	before = now_us();
	m.way->copy(&m);
	printf("%.1f %.1f %.1f\n", all / nr, reset / nr, now_us() - before);
	return 0;
}
