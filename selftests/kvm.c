// SPDX-License-Identifier: GPL-2.0-only
/*
 * Promise: what a region is to a process it is to a virtual machine whose memory it is.
 * Nothing is stale, nothing is lost, a clone is a consistent cut through all vCPUs.
 *
 * KVM has page tables of its own, which no PTE of ours is in. It fills them from ours, in
 * 2 MiB where a PMD is, and takes entries out where MMU notifiers say so. One that stays
 * too long is a store that gets into a clone, or that the region never sees.
 *
 * The guests have two vCPUs. Each counts rounds s = 1, 2, 3... and in a round it
 *
 *	puts s into one page of a ring
 *	puts into SEEN what it read of the other's COUNT, there or as published
 *	puts one of three values into a page of SAME, of which some are equal, for MERGE
 *	has a page of its BALLOON discarded, now and then, and puts s there
 *	looks for what its host has put into MAIL
 *	puts s into COUNT
 *	publishes s, in memory that is not the region's
 *
 * Before it writes a page, it looks whether it finds there what it wrote last. So each
 * clone can tell of all pages what they have to be: see is_cut().
 */
#include <pthread.h>
#include <stddef.h>
#include <linux/falloc.h>
#include <linux/kvm.h>

#include "../kselftest_harness.h"
#include "common.h"
#include "poison.h"
#include "module.h"

enum { VCPUS = 2, PAGE = 4096, AREA = 512, AREA_BYTES = AREA * PAGE };

/* The pages of one vCPU */
enum {
	RINGS = 32, SAMES = 8, BALLOONS = 4,
	RING = 0,
	SEEN = RINGS,
	COUNT,
	SAME,
	BALLOON = SAME + SAMES,
	MAIL = BALLOON + BALLOONS,
	PER_VCPU,
};

enum { BALLOON_EVERY = 16, SAME_FOR = 64 };

/* What a guest asks its host for */
enum { DISCARD = 1, TROUBLE };

/* ---- what guest and host know of each other: not in the region ---- */

struct guest {
	uint64_t published, mailed, floor[BALLOONS];
	uint64_t nr, apart, balloon, pages;
	uint64_t request, page, seen, want, turns;
};

/* Memory of the guest from address 0 on, which is 64-bit mode's: each address is itself. */
struct low {
	uint64_t pml4[AREA], pdpt[AREA], pd[AREA];
	char code[2 * PAGE];
	char stack[VCPUS][PAGE];
	struct guest guest[VCPUS];
} __attribute__((aligned(PAGE)));

/* Where the guest has the region */
#define REGION (8UL * AREA_BYTES)
#define PORT 0x10

/* For functions that run in the guest, where no others are, nor any variables. */
#define in_guest __attribute__((section("guest_code"), noinline, used))
#define in_both static inline __attribute__((always_inline))

/* Where the linker put them all */
#define linker_symbol(name) ({						\
	const char *__at;						\
									\
	asm("lea " name "(%%rip), %0" : "=r" (__at));			\
	__at;								\
})

static const char *guest_code(size_t *size)
{
	const char *start = linker_symbol("__start_guest_code");

	*size = linker_symbol("__stop_guest_code") - start;
	return start;
}

in_both uint64_t get64(const uint64_t *word)
{
	return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

in_both void put64(uint64_t *word, uint64_t val)
{
	__atomic_store_n(word, val, __ATOMIC_RELEASE);
}

/* Pages of both vCPUs lie among each other. Those of SAME must not differ in where the word is. */
in_both size_t place(uint64_t apart, int nr, size_t page)
{
	size_t i = page * VCPUS + nr;

	return i * apart * PAGE + (page < SAME ? i * 64 % PAGE : 0);
}

in_both uint64_t same_value(uint64_t s)
{
	return s / SAME_FOR % 3;
}

/* ---- in the guest ---- */

in_both uint64_t *guest_word(const struct guest *g, int nr, size_t page)
{
	return (uint64_t *)(REGION + place(g->apart, nr, page));
}

in_both void ask(struct guest *g, uint64_t request, uint64_t page)
{
	put64(&g->request, request);
	put64(&g->page, page);
	asm volatile("outb %%al, %0" : : "i" (PORT) : "memory");
}

in_both void trouble(struct guest *g, uint64_t page, uint64_t seen, uint64_t want)
{
	put64(&g->seen, seen);
	put64(&g->want, want);
	ask(g, TROUBLE, page);
}

/* Nobody else writes this page. */
in_both void replace(struct guest *g, size_t page, uint64_t old, uint64_t new)
{
	uint64_t *word = guest_word(g, g->nr, page);
	uint64_t seen = get64(word);

	if (seen != old)
		trouble(g, page, seen, old);
	put64(word, new);
}

in_both void balloon(struct guest *g, uint64_t s)
{
	uint64_t i = s / BALLOON_EVERY % BALLOONS;

	if (!g->balloon || s % BALLOON_EVERY)
		return;
	ask(g, DISCARD, BALLOON + i);
	replace(g, BALLOON + i, 0, s);
	put64(&g->floor[i], s);
}

/* What the other one had discarded does not come back. */
in_both void look_at_balloon(struct guest *g, struct guest *other, uint64_t i)
{
	uint64_t floor = get64(&other->floor[i]);
	uint64_t seen = get64(guest_word(g, other->nr, BALLOON + i));

	if (seen && seen < floor)
		trouble(g, BALLOON + i, seen, floor);
}

/* What the host wrote is there once it says so. */
in_both void look_at_mail(struct guest *g)
{
	uint64_t mailed = get64(&g->mailed);
	uint64_t seen = get64(guest_word(g, g->nr, MAIL));

	if (seen < mailed)
		trouble(g, MAIL, seen, mailed);
}

in_guest static void stamp_on(struct guest *g, struct guest *other)
{
	uint64_t s, published, count, val, last = 0;

	for (s = 1;; s++) {
		replace(g, RING + s % RINGS, s > RINGS ? s - RINGS : 0, s);
		published = get64(&other->published);
		count = get64(guest_word(g, other->nr, COUNT));
		if (count < published)
			trouble(g, COUNT, count, published);
		val = s % 2 ? count : published;
		replace(g, SEEN, last, val);
		last = val;
		replace(g, SAME + s % SAMES, s > SAMES ? same_value(s - SAMES) : 0,
			same_value(s));
		balloon(g, s);
		look_at_balloon(g, other, s % BALLOONS);
		look_at_mail(g);
		replace(g, COUNT, s - 1, s);
		put64(&g->published, s);
	}
}

/* All pages hold a number that only grows: nobody sees it go back, whoever saw it first. */
in_guest static void read_on(struct guest *g, struct guest *other)
{
	uint64_t i, seen, least, all;

	for (i = g->nr;; i = (i * 5 + 1) % g->pages) {
		all = get64(&g->floor[0]);
		least = get64(&other->published);
		if (least < all)
			least = all;
		if (least < g->published)
			least = g->published;
		seen = get64((uint64_t *)(REGION + i * PAGE));
		if (seen < least)
			trouble(g, i, seen, least);
		put64(&g->published, seen);
		put64(&g->turns, g->turns + 1);
	}
}

/* Reads a page, writes it, and reads it again, over and over. */
in_guest static void poke_on(struct guest *g, struct guest *other)
{
	uint64_t i;

	for (i = 0;; i++) {
		uint64_t *word = (uint64_t *)(REGION + i % g->pages * PAGE);

		put64(&g->seen, get64(word));
		put64(word, i + 1);
		put64(&other->seen, get64(word));
		put64(&g->published, i + 1);
	}
}

/* ---- the machine ---- */

struct vm;

struct vcpu {
	struct vm *vm;
	int fd, nr;
	struct kvm_run *run;
	pthread_t thread;
};

struct vm {
	int kvm, fd, region, vcpus, mmio;
	int pause, parked, stop, trouble, error;
	bool patient;		/* what gets an error is tried again once it is cleared */
	size_t pages;
	uint64_t apart;
	uint32_t slot_flags;
	char *mem;
	struct low *low;
	struct vcpu vcpu[VCPUS];
};

typedef void (*guest_program)(struct guest *g, struct guest *other);

/* A kernel may have KVM for a CPU that cannot. */
static const char *no_kvm(void)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC), vm;

	if (fd < 0) {
		(void)!system("modprobe -q kvm_amd 2>/dev/null || modprobe -q kvm_intel 2>/dev/null");
		fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	}
	if (fd < 0)
		return "no /dev/kvm here, nor kvm_amd or kvm_intel to load";
	vm = ioctl(fd, KVM_CREATE_VM, 0);
	close(fd);
	if (vm < 0)
		return "KVM cannot make a virtual machine here";
	close(vm);
	return NULL;
}

static void set_slot(const struct vm *vm, int slot, uint32_t flags, uint64_t at,
		     void *mem, size_t size)
{
	struct kvm_userspace_memory_region memory = {
		.slot = slot,
		.flags = flags,
		.guest_phys_addr = at,
		.memory_size = size,
		.userspace_addr = (uintptr_t)mem,
	};

	must(!ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &memory));
}

static struct kvm_segment segment(uint8_t type, bool code)
{
	return (struct kvm_segment){
		.limit = ~0U, .selector = code ? 8 : 16, .type = type, .present = 1,
		.db = !code, .s = 1, .l = code, .g = 1,
	};
}

/* All that a vCPU can do, so nothing of it is masked. */
static void set_cpuid(const struct vm *vm, int fd)
{
	enum { MAX = 256 };
	struct kvm_cpuid2 *cpuid = calloc(1, sizeof(*cpuid) + MAX * sizeof(*cpuid->entries));

	must(cpuid);
	cpuid->nent = MAX;
	must(!ioctl(vm->kvm, KVM_GET_SUPPORTED_CPUID, cpuid));
	must(!ioctl(fd, KVM_SET_CPUID2, cpuid));
	free(cpuid);
}

static void set_registers(const struct vcpu *v, guest_program program)
{
	size_t size;
	struct kvm_sregs sregs;
	struct kvm_regs regs = {
		.rip = offsetof(struct low, code) +
		       ((const char *)program - guest_code(&size)),
		/* As after a call */
		.rsp = offsetof(struct low, stack[v->nr]) + PAGE - 8,
		.rdi = offsetof(struct low, guest[v->nr]),
		.rsi = offsetof(struct low, guest[!v->nr]),
		.rflags = 2,
	};

	must(!ioctl(v->fd, KVM_GET_SREGS, &sregs));
	sregs.cr3 = offsetof(struct low, pml4);
	sregs.cr4 = 1 << 5;			/* PAE */
	sregs.cr0 = 1U << 31 | 1;		/* PG, PE */
	sregs.efer = 1 << 8 | 1 << 10;		/* LME, LMA */
	sregs.cs = segment(11, true);
	sregs.ds = segment(3, false);
	sregs.es = sregs.ds;
	sregs.ss = sregs.ds;
	must(!ioctl(v->fd, KVM_SET_SREGS, &sregs));
	must(!ioctl(v->fd, KVM_SET_REGS, &regs));
}

static void init_low(struct vm *vm, bool with_balloon)
{
	struct low *low = vm->low;
	size_t i, size;
	const char *code = guest_code(&size);

	low->pml4[0] = offsetof(struct low, pdpt) | 3;	/* present, writable */
	low->pdpt[0] = offsetof(struct low, pd) | 3;
	for (i = 0; i < AREA; i++)
		low->pd[i] = i * AREA_BYTES | 0x83;	/* and of 2 MiB */
	must(size <= sizeof(low->code));
	memcpy(low->code, code, size);
	for (i = 0; i < VCPUS; i++)
		low->guest[i] = (struct guest){
			.nr = i, .apart = vm->apart, .balloon = with_balloon,
			.pages = vm->pages,
		};
}

static void kick(int sig)
{
}

/* Room for @size bytes where a PMD can map them, and nothing is. */
static char *aligned_room(size_t size)
{
	char *mem = mmap(NULL, size + AREA_BYTES, PROT_NONE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	must(mem != MAP_FAILED);
	return mem + (-(uintptr_t)mem & (AREA_BYTES - 1));
}

static void map_region(struct vm *vm, int prot)
{
	char *room = aligned_room(vm->pages * PAGE);

	vm->mem = mmap(room, vm->pages * PAGE, prot, MAP_SHARED | MAP_FIXED, vm->region, 0);
	must(vm->mem == room);
}

/* A machine whose memory is @region, with all vCPUs at the start of @program. */
static void vm_init(struct vm *vm, int region, size_t pages, uint64_t apart, uint32_t slot_flags,
		    int prot, guest_program program, bool with_balloon)
{
	struct sigaction act = { .sa_handler = kick };
	int i, size;

	must(!sigaction(SIGUSR1, &act, NULL));
	*vm = (struct vm){
		.region = region, .pages = pages, .apart = apart, .slot_flags = slot_flags,
		.vcpus = VCPUS, .kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC),
		.low = shared_mem(sizeof(*vm->low)),
	};
	must(vm->kvm >= 0);
	vm->fd = ioctl(vm->kvm, KVM_CREATE_VM, 0);
	must(vm->fd >= 0);
	size = ioctl(vm->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	must(size > 0);
	init_low(vm, with_balloon);
	map_region(vm, prot);
	set_slot(vm, 0, 0, 0, vm->low, sizeof(*vm->low));
	set_slot(vm, 1, slot_flags, REGION, vm->mem, pages * PAGE);
	for (i = 0; i < VCPUS; i++) {
		struct vcpu *v = &vm->vcpu[i];

		*v = (struct vcpu){ .vm = vm, .nr = i, .fd = ioctl(vm->fd, KVM_CREATE_VCPU, i) };
		must(v->fd >= 0);
		v->run = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
		must(v->run != MAP_FAILED);
		set_cpuid(vm, v->fd);
		set_registers(v, program);
	}
}

/* The guest called. Returns whether it may go on. */
static bool serve(struct vcpu *v)
{
	struct guest *g = &v->vm->low->guest[v->nr];
	size_t page = place(v->vm->apart, v->nr, g->page) / PAGE;

	if (g->request == DISCARD) {
		must(!do_discard(v->vm->region, page * PAGE, PAGE));
		return true;
	}
	fprintf(stderr, "# vCPU %d in round %llu: page %llu held %llu, not %llu\n", v->nr,
		(unsigned long long)g->published + 1, (unsigned long long)g->page,
		(unsigned long long)g->seen, (unsigned long long)g->want);
	return false;
}

static void park(struct vm *vm)
{
	__atomic_add_fetch(&vm->parked, 1, __ATOMIC_ACQ_REL);
	while (get(&vm->pause))
		usleep(100);
	__atomic_sub_fetch(&vm->parked, 1, __ATOMIC_ACQ_REL);
}

/* An exit that is none of a pause. Returns whether the guest may go on. */
static bool handle_exit(struct vcpu *v, int err)
{
	if (err) {
		put(&v->vm->error, err);
		while (v->vm->patient && get(&v->vm->error) && !get(&v->vm->stop))
			usleep(1000);
		return v->vm->patient;
	}
	if (v->run->exit_reason == KVM_EXIT_IO)
		return serve(v);
	if (v->run->exit_reason == KVM_EXIT_MMIO) {
		__atomic_add_fetch(&v->vm->mmio, 1, __ATOMIC_ACQ_REL);
		return true;
	}
	fprintf(stderr, "# vCPU %d: exit %u\n", v->nr, v->run->exit_reason);
	return false;
}

static void *run_vcpu(void *arg)
{
	struct vcpu *v = arg;
	struct vm *vm = v->vm;
	bool good = true;

	yield_to_main();
	while (!get(&vm->stop)) {
		int err = good && ioctl(v->fd, KVM_RUN, 0) ? errno : 0;

		if (get(&vm->pause) && (err == EINTR || !good))
			park(vm);
		else if (good && err != EINTR && !handle_exit(v, err))
			good = false;
		else if (!good)
			usleep(1000);
		if (!good)
			put(&vm->trouble, 1);
	}
	return NULL;
}

static void vm_start(struct vm *vm)
{
	int i;

	for (i = 0; i < vm->vcpus; i++)
		must(!pthread_create(&vm->vcpu[i].thread, NULL, run_vcpu, &vm->vcpu[i]));
}

/* At an instant of no choice; what a vCPU asked for is done. */
static void vm_pause(struct vm *vm)
{
	int i;

	put(&vm->pause, 1);
	for (i = 0; i < vm->vcpus; i++) {
		__atomic_store_n(&vm->vcpu[i].run->immediate_exit, 1, __ATOMIC_SEQ_CST);
		pthread_kill(vm->vcpu[i].thread, SIGUSR1);
	}
	await(&vm->parked, vm->vcpus);
}

static void vm_resume(struct vm *vm)
{
	int i;

	for (i = 0; i < vm->vcpus; i++)
		vm->vcpu[i].run->immediate_exit = 0;
	put(&vm->pause, 0);
	/* Else the next pause could take those of this one for its own. */
	while (get(&vm->parked))
		usleep(100);
}

static void vm_end(struct vm *vm)
{
	int i;

	put(&vm->stop, 1);
	for (i = 0; i < vm->vcpus; i++) {
		vm->vcpu[i].run->immediate_exit = 1;
		pthread_kill(vm->vcpu[i].thread, SIGUSR1);
		must(!pthread_join(vm->vcpu[i].thread, NULL));
	}
	for (i = 0; i < VCPUS; i++) {
		munmap(vm->vcpu[i].run, ioctl(vm->kvm, KVM_GET_VCPU_MMAP_SIZE, 0));
		close(vm->vcpu[i].fd);
	}
	close(vm->fd);
	close(vm->kvm);
	unmap(vm->mem, vm->pages);
	munmap(vm->low, sizeof(*vm->low));
}

static uint64_t published(const struct vm *vm, int nr)
{
	return get64(&vm->low->guest[nr].published);
}

static uint64_t rounds(const struct vm *vm)
{
	return published(vm, 0) + published(vm, 1);
}

/* Returns false if there was trouble, or an error. */
static bool vm_goes_on(struct vm *vm, uint64_t by)
{
	uint64_t start = rounds(vm);

	while (!get(&vm->trouble) && !get(&vm->error) && rounds(vm) < start + by)
		usleep(1 + below(2000));
	return !get(&vm->trouble) && !get(&vm->error);
}

/* ---- what is not in the region, at an instant at which the vCPUs stand still ---- */

struct state {
	int memory;
	struct guest guest[VCPUS];
	struct kvm_regs regs[VCPUS];
};

static void save_state(const struct vm *vm, struct state *state)
{
	int i;

	memcpy(state->guest, vm->low->guest, sizeof(state->guest));
	for (i = 0; i < VCPUS; i++)
		must(!ioctl(vm->vcpu[i].fd, KVM_GET_REGS, &state->regs[i]));
}

static void load_state(struct vm *vm, const struct state *state)
{
	int i;

	memcpy(vm->low->guest, state->guest, sizeof(state->guest));
	for (i = 0; i < VCPUS; i++)
		must(!ioctl(vm->vcpu[i].fd, KVM_SET_REGS, &state->regs[i]));
}

/* ---- what has to be in a clone ---- */

struct words {
	uint64_t word[VCPUS][PER_VCPU];
};

static void get_words(int fd, const struct vm *vm, bool by_read, struct words *words)
{
	char *mem = by_read ? NULL : map_ro(fd, vm->pages);
	int w, i;

	for (w = 0; w < VCPUS; w++)
		for (i = 0; i < PER_VCPU; i++) {
			size_t at = place(vm->apart, w, i);
			uint64_t *to = &words->word[w][i];

			if (by_read)
				must(pread(fd, to, sizeof(*to), at) == sizeof(*to));
			else
				*to = get64((uint64_t *)(mem + at));
		}
	if (mem)
		unmap(mem, vm->pages);
}

#define CUT(cond) do {							\
	if (!(cond)) {							\
		fprintf(stderr, "# vCPU %d, page %d, count %llu, last %llu: not so: %s\n", \
			w, i, (unsigned long long)count,		\
			(unsigned long long)last, #cond);		\
		return false;						\
	}								\
} while (0)

/* The last of rounds 1 to @s in which a page was written that is written in each @every-th. */
static uint64_t last_time(uint64_t s, unsigned int every, unsigned int nr, unsigned int i)
{
	uint64_t turn = s / every;

	while (turn && turn % nr != i)
		turn--;
	return turn * every;
}

/* One vCPU's part. Where it was in round count + 1 a page may be of that one, too. */
static bool is_cut_of(const struct words *words, int w, bool with_balloon)
{
	const uint64_t *word = words->word[w];
	uint64_t count = word[COUNT], last = 0, s, next;
	int i;

	for (i = 0; i < RINGS; i++)
		if (word[RING + i] > last)
			last = word[RING + i];
	CUT(last == count || last == count + 1);
	for (s = last; s && s + RINGS > last; s--) {
		i = s % RINGS;
		CUT(word[RING + i] == s);
	}
	i = SEEN;
	CUT(word[SEEN] <= words->word[!w][COUNT]);
	for (i = 0; i < SAMES; i++) {
		s = same_value(last_time(count, 1, SAMES, i));
		next = same_value(last_time(last, 1, SAMES, i));
		CUT(word[SAME + i] == s || word[SAME + i] == next);
	}
	for (i = 0; with_balloon && i < BALLOONS; i++) {
		s = last_time(count, BALLOON_EVERY, BALLOONS, i);
		next = last_time(last, BALLOON_EVERY, BALLOONS, i);
		CUT(word[BALLOON + i] == s || word[BALLOON + i] == next ||
		    (s != next && !word[BALLOON + i]));
	}
	return true;
}

static bool is_cut(const struct words *words, const uint64_t *before, const uint64_t *after,
		   bool with_balloon)
{
	int w, i = COUNT;

	for (w = 0; w < VCPUS; w++) {
		uint64_t count = words->word[w][COUNT], last = after[w];

		CUT(count >= before[w]);
		CUT(count <= after[w]);
		if (!is_cut_of(words, w, with_balloon))
			return false;
	}
	return true;
}

/* ---- while the vCPUs write ---- */

FIXTURE(writing) {
	struct vm vm;
	struct state saved;
	uint64_t *dirty;	/* pages that KVM said were written since the snapshot @logged */
	int logged;
	uint64_t clones, reverts, restored, kept, merged, logs, huge;
	double paused;
};

FIXTURE_VARIANT(writing) {
	bool huge, balloon, merge, revert, log;
	uint32_t restore;
};

FIXTURE_VARIANT_ADD(writing, small) { .huge = false };
FIXTURE_VARIANT_ADD(writing, huge) { .huge = true };
FIXTURE_VARIANT_ADD(writing, balloon) { .balloon = true };
FIXTURE_VARIANT_ADD(writing, balloon_huge) { .balloon = true, .huge = true };
FIXTURE_VARIANT_ADD(writing, merge) { .merge = true };
FIXTURE_VARIANT_ADD(writing, merge_huge) { .merge = true, .huge = true };
FIXTURE_VARIANT_ADD(writing, revert) { .revert = true };
FIXTURE_VARIANT_ADD(writing, revert_keep) {
	.revert = true, .restore = COWMEM_RESTORE_KEEP,
};
FIXTURE_VARIANT_ADD(writing, revert_huge) { .revert = true, .huge = true };
FIXTURE_VARIANT_ADD(writing, dirty_log) { .log = true };
FIXTURE_VARIANT_ADD(writing, dirty_log_huge) { .log = true, .huge = true };
FIXTURE_VARIANT_ADD(writing, all) {
	.balloon = true, .merge = true, .revert = true, .log = true,
};
FIXTURE_VARIANT_ADD(writing, all_huge) {
	.balloon = true, .merge = true, .revert = true, .log = true, .huge = true,
};

FIXTURE_SETUP(writing)
{
	rng_init();
}

FIXTURE_TEARDOWN(writing)
{
}

static struct kvm_dirty_log dirty_log(uint64_t *bits)
{
	return (struct kvm_dirty_log){ .slot = 1, .dirty_bitmap = bits };
}

static bool test_bit(const uint64_t *bits, size_t i)
{
	return bits[i / 64] >> i % 64 & 1;
}

static void begin(FIXTURE_DATA(writing) *self, const FIXTURE_VARIANT(writing) *variant)
{
	size_t pages = variant->huge ? 3 * AREA : AREA;
	int fd = region();

	must(!do_resize(fd, pages * PAGE));
	if (variant->huge)
		close(file_of(fd, COWMEM_FILE_HUGE));
	vm_init(&self->vm, fd, pages, pages / (VCPUS * PER_VCPU),
		variant->log ? KVM_MEM_LOG_DIRTY_PAGES : 0, PROT_READ | PROT_WRITE, stamp_on,
		variant->balloon);
	self->saved.memory = -1;
	self->logged = variant->log ? snapshot(fd) : -1;
	self->dirty = calloc(pages / 64, sizeof(*self->dirty));
	must(self->dirty);
	vm_start(&self->vm);
}

static void end(FIXTURE_DATA(writing) *self)
{
	vm_end(&self->vm);
	close(self->vm.region);
	close(self->saved.memory);
	close(self->logged);
	free(self->dirty);
}

enum { BURST = 4 };

struct taken {
	int fd;
	uint64_t before[VCPUS], after[VCPUS];
	struct words words;
};

static void take(struct vm *vm, bool frozen, struct taken *t)
{
	int w;

	for (w = 0; w < VCPUS; w++)
		t->before[w] = published(vm, w);
	t->fd = frozen ? snapshot(vm->region) : cloned(vm->region);
	for (w = 0; w < VCPUS; w++)
		t->after[w] = get64((uint64_t *)(vm->mem + place(vm->apart, w, COUNT)));
}

/* Merge pages of the region with each other, and with those of a clone. */
static void merge(FIXTURE_DATA(writing) *self, int clone)
{
	int fds[] = { self->vm.region, clone };
	struct cowmem_merge m = { };

	must(!do_merge(&m, fds, ARRAY_SIZE(fds)));
	self->merged += m.merged + m.zeroed;
}

/* The host writes, too, as devices do: through its mapping, or by a call. */
static void send_mail(struct vm *vm)
{
	int w;

	for (w = 0; w < VCPUS; w++) {
		struct guest *g = &vm->low->guest[w];
		size_t at = place(vm->apart, w, MAIL);
		uint64_t next = g->mailed + 1;

		if (below(2))
			put64((uint64_t *)(vm->mem + at), next);
		else
			must(pwrite(vm->region, &next, sizeof(next), at) == sizeof(next));
		put64(&g->mailed, next);
	}
}

/* Clones, some at once: after the first the vCPUs are in the middle of a fault. */
static bool clones_are_cuts(FIXTURE_DATA(writing) *self, const FIXTURE_VARIANT(writing) *variant)
{
	int burst = 1 + below(BURST), i;
	struct taken taken[BURST];
	struct words again;
	bool ok = true;

	for (i = 0; i < burst; i++)
		take(&self->vm, !variant->merge && below(2), &taken[i]);
	for (i = 0; i < burst; i++) {
		get_words(taken[i].fd, &self->vm, below(2), &taken[i].words);
		ok = ok && is_cut(&taken[i].words, taken[i].before, taken[i].after,
				  variant->balloon);
	}
	if (variant->merge)
		merge(self, taken[0].fd);
	send_mail(&self->vm);
	/* They stay what they are. */
	vm_goes_on(&self->vm, 1 + below(20));
	for (i = 0; i < burst; i++) {
		get_words(taken[i].fd, &self->vm, below(2), &again);
		if (memcmp(&again, &taken[i].words, sizeof(again))) {
			fprintf(stderr, "# a clone changed\n");
			ok = false;
		}
		close(taken[i].fd);
	}
	self->clones += burst;
	return ok;
}

static void get_log(FIXTURE_DATA(writing) *self)
{
	uint64_t bits[3 * AREA / 64] = { };
	struct kvm_dirty_log log = dirty_log(bits);
	size_t i;

	must(!ioctl(self->vm.fd, KVM_GET_DIRTY_LOG, &log));
	for (i = 0; i < self->vm.pages / 64; i++)
		self->dirty[i] |= bits[i];
	self->logs++;
}

/* Does no vCPU write @page, or its host, too? */
static bool no_guest_page(const struct vm *vm, size_t page, bool *host)
{
	size_t i = page / vm->apart;

	*host = i / VCPUS >= BALLOON;
	return page % vm->apart || i / VCPUS >= PER_VCPU;
}

/* All that differs from the snapshot was logged, but for what the host did. */
static bool diff_was_logged(const FIXTURE_DATA(writing) *self, int now)
{
	struct cowmem_extent extents[256];
	struct cowmem_diff diff = {
		.fd = self->logged, .flags = COWMEM_DIFF_CONTENT,
		.extents = (uintptr_t)extents, .count = ARRAY_SIZE(extents),
	};
	bool ok = true, host;
	size_t page;
	uint32_t i;

	must(!ioctl(now, COWMEM_IOC_DIFF, &diff) && diff.count < ARRAY_SIZE(extents));
	for (i = 0; i < diff.count; i++)
		for (page = extents[i].offset / PAGE;
		     page < (extents[i].offset + extents[i].length) / PAGE; page++) {
			no_guest_page(&self->vm, page, &host);
			if (test_bit(self->dirty, page) || host)
				continue;
			fprintf(stderr, "# page %zu differs and is not in the log\n", page);
			ok = false;
		}
	return ok;
}

/* Nor was anything logged that the guest does not write. */
static bool log_is_exact(const FIXTURE_DATA(writing) *self)
{
	bool host;
	size_t page;

	for (page = 0; page < self->vm.pages; page++)
		if (test_bit(self->dirty, page) && no_guest_page(&self->vm, page, &host)) {
			fprintf(stderr, "# page %zu is in the log and nobody writes it\n", page);
			return false;
		}
	return true;
}

/* The vCPUs stand still. */
static bool log_is_right(FIXTURE_DATA(writing) *self)
{
	int now = snapshot(self->vm.region);
	bool ok;

	get_log(self);
	ok = diff_was_logged(self, now) && log_is_exact(self);
	memset(self->dirty, 0, self->vm.pages / 8);
	close(self->logged);
	self->logged = now;
	return ok;
}

/* What the guest wrote is in the region, whichever way one looks. The vCPUs stand still. */
static bool memory_is_right(FIXTURE_DATA(writing) *self, const FIXTURE_VARIANT(writing) *variant)
{
	struct vm *vm = &self->vm;
	struct words words;
	uint64_t before[VCPUS], after[VCPUS];
	int w, n;

	for (w = 0; w < VCPUS; w++) {
		before[w] = published(vm, w);
		after[w] = before[w] + 1;
	}
	for (n = 0; n < 2; n++) {
		get_words(vm->region, vm, n, &words);
		if (!is_cut(&words, before, after, variant->balloon))
			return false;
	}
	return true;
}

/* Remember all of the machine, or let it go back to what was remembered. */
static void revert(FIXTURE_DATA(writing) *self, const FIXTURE_VARIANT(writing) *variant)
{
	struct cowmem_restore arg = { .fd = self->saved.memory, .flags = variant->restore };
	struct vm *vm = &self->vm;

	if (self->saved.memory >= 0 && below(6)) {
		must(!ioctl(vm->region, COWMEM_IOC_RESTORE, &arg));
		load_state(vm, &self->saved);
		self->reverts++;
		self->restored += arg.pages;
		self->kept += arg.kept;
		return;
	}
	close(self->saved.memory);
	self->saved.memory = snapshot(vm->region);
	save_state(vm, &self->saved);
}

static bool pause_is_right(FIXTURE_DATA(writing) *self, const FIXTURE_VARIANT(writing) *variant)
{
	double start = now();
	bool ok;

	vm_pause(&self->vm);
	self->paused += now() - start;
	ok = memory_is_right(self, variant);
	/* What RESTORE does is in no log, so look first. */
	if (variant->log)
		ok = log_is_right(self) && ok;
	if (variant->revert)
		revert(self, variant);
	if (variant->log && variant->revert) {
		close(self->logged);
		self->logged = snapshot(self->vm.region);
	}
	vm_resume(&self->vm);
	return ok;
}

/* How many entries for 2 MiB do all machines have? */
static uint64_t huge_entries(void)
{
	char buf[32];

	if (read_file("/sys/kernel/debug/kvm/pages_2m", buf, sizeof(buf)) <= 0)
		return 0;
	return strtoull(buf, NULL, 10);
}

static bool once(FIXTURE_DATA(writing) *self, const FIXTURE_VARIANT(writing) *variant)
{
	uint64_t huge;

	send_mail(&self->vm);

	if (!vm_goes_on(&self->vm, 1 + below(100)))
		return false;
	huge = huge_entries();
	if (huge > self->huge)
		self->huge = huge;
	if (variant->log && below(2))
		get_log(self);
	/* RESTORE keeps pages only where no clone came between. */
	if ((!variant->revert || !below(4)) && !clones_are_cuts(self, variant))
		return false;
	if ((variant->revert || variant->log || !below(8)) && !pause_is_right(self, variant))
		return false;
	return !get(&self->vm.trouble);
}

/* Was there anything of what the variant is about? */
static bool enough(const FIXTURE_DATA(writing) *self, const FIXTURE_VARIANT(writing) *variant)
{
	return self->clones && (!variant->merge || self->merged) &&
	       (!variant->revert || self->reverts) && (!variant->log || self->logs) &&
	       (!(variant->restore & COWMEM_RESTORE_KEEP) || self->kept);
}

/* A new machine now and then: its memory is in 2 MiB pages until they were shared. */
TEST_F(writing, is_right_at_any_time)
{
	double until = now() + effort(6000) / 1000.0;
	uint64_t machines = 0, turns = 0, done = 0;
	bool ok = true;
	int i;

	while (ok && turns < 200 && (!enough(self, variant) || now() < until)) {
		begin(self, variant);
		for (i = 0; ok && i < 12 && (i < 4 || now() < until); i++)
			ok = once(self, variant);
		vm_pause(&self->vm);
		ok = ok && memory_is_right(self, variant);
		vm_resume(&self->vm);
		done += rounds(&self->vm);
		end(self);
		machines++;
		turns += i;
	}
	ASSERT_TRUE(ok);
	TH_LOG("%llu machines, %llu turns, %llu rounds, %llu clones, %llu pages merged, %llu logs",
	       (unsigned long long)machines, (unsigned long long)turns, (unsigned long long)done,
	       (unsigned long long)self->clones, (unsigned long long)self->merged,
	       (unsigned long long)self->logs);
	TH_LOG("%llu reverts of %llu pages, %llu kept; at most %llu entries for 2 MiB",
	       (unsigned long long)self->reverts, (unsigned long long)self->restored,
	       (unsigned long long)self->kept, (unsigned long long)self->huge);
	EXPECT_TRUE(enough(self, variant));
	/* Where writes are logged, KVM has no others than of 4 KiB. */
	if (variant->huge && !variant->log && !access("/sys/kernel/debug/kvm/pages_2m", R_OK))
		EXPECT_LT(0, self->huge);
}

/* ---- while the vCPUs read ---- */

FIXTURE(reading) {
	struct vm vm;
};

FIXTURE_VARIANT(reading) {
	bool huge;
};

FIXTURE_VARIANT_ADD(reading, small) { .huge = false };
FIXTURE_VARIANT_ADD(reading, huge) { .huge = true };

FIXTURE_SETUP(reading)
{
	rng_init();
}

FIXTURE_TEARDOWN(reading)
{
}

/* A region each page of which holds @number. */
static int region_of_number(size_t pages, uint64_t number, bool huge)
{
	int fd = region();
	char *mem = map_rw(fd, pages);
	size_t i;

	if (huge)
		close(file_of(fd, COWMEM_FILE_HUGE));
	for (i = pages; i--;)
		put64((uint64_t *)(mem + i * PAGE), number);
	unmap(mem, pages);
	return fd;
}

/* Under readers RESTORE is one instant: to both vCPUs, and to the host. */
TEST_F(reading, sees_restore_at_one_instant)
{
	size_t pages = variant->huge ? AREA : 128, i;
	double until = now() + effort(12000) / 1000.0;
	struct vm *vm = &self->vm;
	uint64_t number = 1, huge = 0, seen = 0;

	vm_init(vm, region_of_number(pages, number, variant->huge), pages, 1, 0,
		PROT_READ | PROT_WRITE, read_on, false);
	vm_start(vm);
	while (!get(&vm->trouble) && (number < 20 || now() < until)) {
		int fd = region_of_number(pages, ++number, variant->huge);
		struct cowmem_restore arg = { .fd = fd };

		if (huge < huge_entries())
			huge = huge_entries();
		ASSERT_EQ(0, ioctl(vm->region, COWMEM_IOC_RESTORE, &arg));
		EXPECT_EQ(pages, arg.pages);
		put64(&vm->low->guest[0].floor[0], number);
		put64(&vm->low->guest[1].floor[0], number);
		i = below(pages);
		ASSERT_EQ(number, get64((uint64_t *)(vm->mem + i * PAGE)));
		close(fd);
		/* Mostly until it was seen, so that all pages are mapped anew. */
		while (below(16) && !get(&vm->trouble) && published(vm, 0) < number)
			usleep(below(3000));
		seen += published(vm, 0) == number;
	}
	ASSERT_EQ(0, get(&vm->trouble));
	TH_LOG("%llu times restored, %llu of them seen at once, %llu entries for 2 MiB",
	       (unsigned long long)number, (unsigned long long)seen, (unsigned long long)huge);
	if (variant->huge && !access("/sys/kernel/debug/kvm/pages_2m", R_OK))
		EXPECT_LT(0, huge);
	vm_end(vm);
	close(vm->region);
}

/* Let a machine read all pages of a region. */
static bool vm_reads_all(int fd, size_t pages)
{
	struct vm vm;
	bool ok;

	vm_init(&vm, fd, pages, 1, 0, PROT_READ | PROT_WRITE, read_on, false);
	vm_start(&vm);
	while (!get(&vm.trouble) && get64(&vm.low->guest[0].turns) < pages)
		usleep(1000);
	ok = !get(&vm.trouble);
	vm_end(&vm);
	return ok;
}

/* What a clone shares stays shared. A hole gets pages, as that of a memfd does: it is only told. */
TEST_F(reading, splits_nothing)
{
	size_t pages = variant->huge ? AREA : 128;
	int fd = region_of_number(pages, 7, variant->huge), clone = cloned(fd);
	int hole = region();

	EXPECT_TRUE(vm_reads_all(clone, pages));
	EXPECT_TRUE(holds(clone, 0, pages));
	EXPECT_TRUE(holds(fd, 0, pages));
	ASSERT_EQ(0, do_resize(hole, pages * PAGE));
	EXPECT_TRUE(vm_reads_all(hole, pages));
	TH_LOG("of %zu pages of a hole that were read %llu are there", pages,
	       (unsigned long long)info(hole).pages_populated);
	close(hole);
	close(clone);
	close(fd);
}

/* Until each vCPU has read all pages once more.  Returns false if there was trouble. */
static bool all_read(struct vm *vm)
{
	uint64_t start[VCPUS];
	int w;

	for (w = 0; w < VCPUS; w++)
		start[w] = get64(&vm->low->guest[w].turns);
	for (w = 0; w < VCPUS; w++)
		while (get64(&vm->low->guest[w].turns) <= start[w] + vm->pages) {
			if (get(&vm->trouble))
				return false;
			if (vm->patient)
				put(&vm->error, 0);
			usleep(200);
		}
	return true;
}

/* The vCPUs may not find less than @number any more. */
static void all_hold(struct vm *vm, uint64_t number)
{
	int w;

	for (w = 0; w < VCPUS; w++)
		put64(&vm->low->guest[w].floor[0], number);
}

/* ---- and the host changes what they read, in each way that there is ---- */

/* In order, so that pages come in blocks, and areas are copied as a whole. */
static void store_all(struct vm *vm, uint64_t number)
{
	char *mem = below(2) ? vm->mem : map_rw(vm->region, vm->pages);
	size_t i;

	for (i = 0; i < vm->pages; i++)
		put64((uint64_t *)(mem + i * PAGE), number);
	if (mem != vm->mem)
		unmap(mem, vm->pages);
}

static void write_all(struct vm *vm, uint64_t number)
{
	size_t size = vm->pages * PAGE, i;
	char *buf = calloc(vm->pages, PAGE);

	must(buf);
	for (i = 0; i < vm->pages; i++)
		put64((uint64_t *)(buf + i * PAGE), number);
	must(pwrite(vm->region, buf, size, 0) == size);
	free(buf);
}

static void discard_all(struct vm *vm, uint64_t number)
{
	must(!do_discard(vm->region, 0, vm->pages * PAGE));
	write_all(vm, number);
}

/* A part of a page becomes zeroes: the page stays, or is copied. */
static void discard_parts(struct vm *vm, uint64_t number)
{
	size_t i;

	for (i = 0; i < vm->pages; i++)
		must(!do_discard(vm->region, i * PAGE, sizeof(number)));
	write_all(vm, number);
}

static void shrink_and_grow(struct vm *vm, uint64_t number)
{
	must(!do_resize(vm->region, 0));
	must(!do_resize(vm->region, vm->pages * PAGE));
	write_all(vm, number);
}

static void unshare_all(struct vm *vm, uint64_t number)
{
	int file = file_of(vm->region, 0);

	must(!fallocate(file, FALLOC_FL_UNSHARE_RANGE, 0, vm->pages * PAGE));
	close(file);
	write_all(vm, number);
}

static void copy_all(struct vm *vm, uint64_t number)
{
	int from = region_of_number(vm->pages, number, below(2));

	must(!do_copy(vm->region, from, 0, 0, vm->pages));
	close(from);
}

static void restore_range(struct vm *vm, uint64_t number)
{
	struct cowmem_restore arg = {
		.fd = region_of_number(vm->pages, number, below(2)),
		.length = vm->pages * PAGE,
	};

	must(!ioctl(vm->region, COWMEM_IOC_RESTORE, &arg));
	close(arg.fd);
}

/* The vCPUs stand still before and after. */
static void let_them_read(struct vm *vm)
{
	vm_resume(vm);
	(void)all_read(vm);
	vm_pause(vm);
}

/* Few pages of a folio are left, mapped each for itself: they move. */
static void discard_most(struct vm *vm, uint64_t number)
{
	uint64_t same = number - 2;

	must(pwrite(vm->region, &same, sizeof(same), 0) == sizeof(same));
	let_them_read(vm);
	must(!do_discard(vm->region, 0, (vm->pages - 8) * PAGE));
	write_all(vm, number);
}

/* Pages that nobody may write in place are merged with another region's, which goes. */
static void merge_all(struct vm *vm, uint64_t number)
{
	int fds[] = { region_of_number(vm->pages, number - 1, false), vm->region };
	struct cowmem_merge m = { };

	write_all(vm, number - 1);
	close(snapshot(vm->region));
	let_them_read(vm);
	must(!do_merge(&m, fds, ARRAY_SIZE(fds)) && m.merged >= vm->pages);
	close(fds[0]);
	write_all(vm, number);
}

/* All pages hold number - 2, and get @number. */
static const struct way {
	const char *name;
	void (*change)(struct vm *vm, uint64_t number);
	bool at_once;		/* no vCPU has to wait for all pages to change */
} ways[] = {
	{ .name = "stores", .change = store_all },
	{ .name = "write()", .change = write_all },
	{ .name = "DISCARD", .change = discard_all },
	{ .name = "DISCARD of parts", .change = discard_parts },
	{ .name = "DISCARD of most", .change = discard_most },
	{ .name = "RESIZE", .change = shrink_and_grow },
	{ .name = "fallocate()", .change = unshare_all },
	{ .name = "COPY", .change = copy_all, .at_once = true },
	{ .name = "RESTORE of a range", .change = restore_range, .at_once = true },
	{ .name = "MERGE", .change = merge_all },
};

/* All pages are shared and mapped; then they change, with the other holder there or gone. */
static bool sees_change(struct vm *vm, const struct way *way, uint64_t number)
{
	int other = snapshot(vm->region);

	if (!all_read(vm))
		return false;
	if (below(2)) {
		close(other);
		other = -1;
	}
	if (!way->at_once)
		vm_pause(vm);
	way->change(vm, number);
	all_hold(vm, number);
	if (!way->at_once)
		vm_resume(vm);
	close(other);
	return all_read(vm);
}

TEST_F(reading, sees_each_way_to_change_it)
{
	/* Of two areas the second one is copied as a whole. */
	size_t pages = variant->huge ? 2 * AREA : 128, i;
	struct vm *vm = &self->vm;
	uint64_t number = 1;
	int round;

	vm_init(vm, region_of_number(pages, number, variant->huge), pages, 1, 0,
		PROT_READ | PROT_WRITE, read_on, false);
	vm_start(vm);
	for (round = 0; round < effort(16); round++)
		for (i = 0; i < ARRAY_SIZE(ways); i++) {
			number += 2;
			ASSERT_TRUE(sees_change(vm, &ways[i], number))
				TH_LOG("by %s, in round %d", ways[i].name, round);
		}
	vm_end(vm);
	close(vm->region);
}

/* Pages of zeroes are taken away without a copy, and what is written then fills holes. */
TEST_F(reading, sees_what_comes_in_place_of_zeroes)
{
	size_t pages = variant->huge ? AREA : 128;
	struct vm *vm = &self->vm;
	struct cowmem_merge m = { };
	int other;

	vm_init(vm, region_of_number(pages, 0, variant->huge), pages, 1, 0,
		PROT_READ | PROT_WRITE, read_on, false);
	/* What is written in order is known not to be mapped, until it is read. */
	other = snapshot(vm->region);
	write_all(vm, 0);
	close(other);
	close(snapshot(vm->region));
	vm_start(vm);
	ASSERT_TRUE(all_read(vm));
	vm_pause(vm);
	ASSERT_EQ(0, do_merge(&m, &vm->region, 1));
	EXPECT_LE(pages, m.zeroed);
	write_all(vm, 1);
	all_hold(vm, 1);
	vm_resume(vm);
	EXPECT_TRUE(all_read(vm));
	vm_end(vm);
	close(vm->region);
}

/* Waits for it, but not for ever. */
static bool comes(int *what, int val)
{
	double until = now() + 20;

	while (get(what) != val && now() < until)
		usleep(1000);
	return get(what) == val;
}

/* What is cut off is gone for a vCPU, too, and what comes in its place is there. */
TEST_F(reading, finds_nothing_past_the_end)
{
	size_t pages = variant->huge ? AREA : 128;
	struct vm *vm = &self->vm;
	uint64_t turns;

	vm_init(vm, region_of_number(pages, 1, variant->huge), pages, 1, 0,
		PROT_READ | PROT_WRITE, read_on, false);
	vm->patient = true;
	vm_start(vm);
	ASSERT_TRUE(all_read(vm));
	EXPECT_EQ(0, get(&vm->error));
	ASSERT_EQ(0, do_resize(vm->region, 0));
	turns = get64(&vm->low->guest[0].turns) + get64(&vm->low->guest[1].turns);
	EXPECT_TRUE(comes(&vm->error, EFAULT));
	usleep(10000);
	/* What was read before it went may be counted after. */
	EXPECT_GE(turns + VCPUS, get64(&vm->low->guest[0].turns) + get64(&vm->low->guest[1].turns));
	ASSERT_EQ(0, do_resize(vm->region, pages * PAGE));
	write_all(vm, 2);
	all_hold(vm, 2);
	EXPECT_TRUE(all_read(vm));
	vm_end(vm);
	close(vm->region);
}

/* What a SIGBUS said that a vCPU got. */
static int bus_code;
static char *bus_at;

static void on_bus(int sig, siginfo_t *info, void *context)
{
	bus_at = info->si_addr;
	put(&bus_code, info->si_code);
}

/* A vCPU does not read broken memory: its host is told, and can replace it. */
TEST_F(reading, is_told_of_broken_memory)
{
	size_t pages = variant->huge ? AREA : 128, at = below(pages) * PAGE;
	struct sigaction act = { .sa_sigaction = on_bus, .sa_flags = SA_SIGINFO };
	struct vm *vm = &self->vm;
	uint64_t number = 1;
	int clone;

	if (!can_poison())
		SKIP(return, NO_POISON);
	must(!sigaction(SIGBUS, &act, NULL));
	vm_init(vm, region_of_number(pages, number, variant->huge), pages, 1, 0,
		PROT_READ | PROT_WRITE, read_on, false);
	vm_start(vm);
	ASSERT_TRUE(all_read(vm));
	poison(vm->mem + at);
	/* That may have been told to us. A vCPU is told once the page is not mapped any more. */
	put(&bus_code, 0);
	clone = cloned(vm->region);
	EXPECT_TRUE(comes(&bus_code, BUS_MCEERR_AR));
	EXPECT_EQ(vm->mem + at, bus_at);
	/* Nobody is to read a zero before the write comes. */
	vm_pause(vm);
	ASSERT_EQ(0, do_discard(vm->region, at, PAGE));
	ASSERT_EQ(sizeof(number), pwrite(vm->region, &number, sizeof(number), at));
	vm_resume(vm);
	EXPECT_TRUE(all_read(vm));
	vm_end(vm);
	close(clone);
	close(vm->region);
}

/* ---- machines that are forked ---- */

FIXTURE(forked) {
	struct vm vm[3];
};

FIXTURE_VARIANT(forked) {
	bool huge;
};

FIXTURE_VARIANT_ADD(forked, small) { .huge = false };
FIXTURE_VARIANT_ADD(forked, huge) { .huge = true };

FIXTURE_SETUP(forked)
{
	rng_init();
}

FIXTURE_TEARDOWN(forked)
{
}

/* From one instant on there are two machines, and neither sees what the other writes. */
static void fork_vm(struct vm *new, struct vm *vm)
{
	struct state state;
	int clone;

	vm_pause(vm);
	save_state(vm, &state);
	clone = cloned(vm->region);
	vm_resume(vm);
	vm_init(new, clone, vm->pages, vm->apart, 0, PROT_READ | PROT_WRITE, stamp_on, true);
	load_state(new, &state);
	vm_start(new);
}

TEST_F(forked, go_on_by_themselves)
{
	size_t pages = variant->huge ? 3 * AREA : AREA, i;
	double until = now() + effort(4000) / 1000.0;
	int fd = region(), machines = 1;
	struct vm *vm = self->vm;
	struct taken taken;

	ASSERT_EQ(0, do_resize(fd, pages * PAGE));
	if (variant->huge)
		close(file_of(fd, COWMEM_FILE_HUGE));
	vm_init(vm, fd, pages, pages / (VCPUS * PER_VCPU), 0, PROT_READ | PROT_WRITE, stamp_on,
		true);
	vm_start(vm);
	while (machines < (int)ARRAY_SIZE(self->vm) || now() < until) {
		for (i = 0; i < machines; i++) {
			ASSERT_TRUE(vm_goes_on(&vm[i], 50));
			take(&vm[i], below(2), &taken);
			get_words(taken.fd, &vm[i], below(2), &taken.words);
			ASSERT_TRUE(is_cut(&taken.words, taken.before, taken.after, true));
			close(taken.fd);
		}
		if (machines < (int)ARRAY_SIZE(self->vm)) {
			fork_vm(&vm[machines], &vm[below(machines)]);
			machines++;
		}
	}
	for (i = 0; i < machines; i++) {
		ASSERT_EQ(0, get(&vm[i].trouble));
		vm_end(&vm[i]);
		close(vm[i].region);
	}
}

/* ---- snapshots ---- */

/* One vCPU that reads and writes @fd, which holds 7 everywhere, until it did or failed. */
static void poke_snapshot(struct vm *vm, int fd, uint32_t flags)
{
	vm_init(vm, fd, 16, 1, flags, PROT_READ, poke_on, false);
	vm->vcpus = 1;
	vm_start(vm);
	while (!get(&vm->trouble) && published(vm, 0) < 64)
		usleep(1000);
}

/* A snapshot is a ROM: the guest reads it, and what it writes goes to its host. */
TEST(a_snapshot_is_read_only_memory)
{
	int fd, snap;
	struct vm vm;

	fd = region_of_number(16, 7, false);
	snap = snapshot(fd);
	poke_snapshot(&vm, snap, KVM_MEM_READONLY);
	EXPECT_EQ(0, get(&vm.error));
	EXPECT_LE(64, get(&vm.mmio));
	EXPECT_EQ(7, get64(&vm.low->guest[0].seen));
	EXPECT_EQ(7, get64(&vm.low->guest[1].seen));
	vm_end(&vm);
	close(fd);
	close(snap);
}

/* To call a snapshot memory that may be written is an error, and the snapshot stays. */
TEST(a_snapshot_is_not_written)
{
	char *mem;
	int fd, snap;
	struct vm vm;

	fd = region_of_number(16, 7, false);
	snap = snapshot(fd);
	poke_snapshot(&vm, snap, 0);
	EXPECT_EQ(EFAULT, get(&vm.error));
	EXPECT_EQ(0, published(&vm, 0));
	vm_end(&vm);
	mem = map_ro(snap, 16);
	EXPECT_EQ(7, get64((uint64_t *)mem));
	unmap(mem, 16);
	close(fd);
	close(snap);
}

/* ---- resets that keep pages ---- */

/* Let the vCPU write as many pages, then reset them. Returns how many stay with the region. */
static uint64_t poke_and_reset(struct vm *vm, int snap, uint64_t pages)
{
	struct cowmem_restore arg = { .fd = snap, .flags = COWMEM_RESTORE_KEEP };

	vm->low->guest[0].pages = pages;
	vm_resume(vm);
	must(vm_goes_on(vm, 2 * vm->pages));
	vm_pause(vm);
	must(!ioctl(vm->region, COWMEM_IOC_RESTORE, &arg));
	return arg.kept;
}

/* Does each page of @vm, which stands still, hold what the vCPU wrote there last? */
static bool holds_last_pokes(const struct vm *vm)
{
	uint64_t done = published(vm, 0), word, i;

	for (i = 0; i < vm->pages; i++) {
		must(pread(vm->region, &word, sizeof(word), i * PAGE) == sizeof(word));
		if ((word - 1) % vm->pages == i && word + vm->pages > done && word <= done + 1)
			continue;
		fprintf(stderr, "# page %llu holds %llu after %llu writes\n", (unsigned long long)i,
			(unsigned long long)word, (unsigned long long)done);
		return false;
	}
	return true;
}

/* A page that is given back, as it was not written for long, is not written where it was. */
TEST(a_reset_takes_back_what_is_not_written)
{
	enum { PAGES = 16, FEW = 2, RESETS = 64 };
	uint64_t kept = PAGES, resets = 0;
	int fd, snap;
	struct vm vm;

	fd = region_of_number(PAGES, 7, false);
	snap = snapshot(fd);
	vm_init(&vm, fd, PAGES, 1, 0, PROT_READ | PROT_WRITE, poke_on, false);
	vm.vcpus = 1;
	vm_start(&vm);
	vm_pause(&vm);
	poke_and_reset(&vm, snap, PAGES);
	while (kept > FEW && resets++ < RESETS)
		kept = poke_and_reset(&vm, snap, FEW);
	EXPECT_EQ(FEW, kept);
	TH_LOG("of %d pages %llu are kept after %llu resets", PAGES, (unsigned long long)kept,
	       (unsigned long long)resets);
	vm.low->guest[0].pages = PAGES;
	vm_resume(&vm);
	EXPECT_TRUE(vm_goes_on(&vm, 2 * PAGES));
	vm_pause(&vm);
	EXPECT_TRUE(holds_last_pokes(&vm));
	vm_resume(&vm);
	vm_end(&vm);
	close(fd);
	close(snap);
}

/* ---- where memory is short ---- */

enum { SNAPSHOTS = 12 };

static void leave_room(long mib)
{
	must(!set_limit(held() / 1024 + mib));
}

FIXTURE(short_memory) {
	struct vm vm;
	int snapshots[SNAPSHOTS], taken;
};

FIXTURE_SETUP(short_memory)
{
	int fd = region();

	rng_init();
	ASSERT_EQ(0, do_resize(fd, AREA * PAGE));
	vm_init(&self->vm, fd, AREA, AREA / (VCPUS * PER_VCPU), 0, PROT_READ | PROT_WRITE,
		stamp_on, false);
	self->vm.patient = true;
	vm_start(&self->vm);
	ASSERT_TRUE(vm_goes_on(&self->vm, 4 * RINGS));
	leave_room(2);
}

FIXTURE_TEARDOWN(short_memory)
{
	write_file(LIMIT, "0");
}

/* Each snapshot makes the vCPUs have copies of their pages. Returns false once they cannot. */
static bool take_snapshots(FIXTURE_DATA(short_memory) *self, uint32_t flags)
{
	struct vm *vm = &self->vm;
	bool ok = true;

	while (ok && self->taken < SNAPSHOTS) {
		int fd = do_clone(vm->region, COWMEM_CLONE_SNAPSHOT | flags, 0, 0);

		/* A clone makes no other snapshot yield; the next write does. */
		must(fd >= 0 || errno == ENOSPC);
		if (fd >= 0)
			self->snapshots[self->taken++] = fd;
		ok = vm_goes_on(vm, 4 * RINGS);
	}
	return ok;
}

/* Nothing was lost. */
static bool vm_is_right(struct vm *vm)
{
	struct taken t;
	bool ok;

	take(vm, true, &t);
	get_words(t.fd, vm, true, &t.words);
	ok = is_cut(&t.words, t.before, t.after, false);
	close(t.fd);
	return ok;
}

/* The vCPU gets EFAULT, and goes on where it was once there is memory. */
TEST_F(short_memory, a_vcpu_waits_for_it)
{
	struct vm *vm = &self->vm;
	uint64_t start;

	EXPECT_FALSE(take_snapshots(self, 0));
	EXPECT_EQ(EFAULT, get(&vm->error));
	EXPECT_EQ(0, get(&vm->trouble));
	while (self->taken)
		close(self->snapshots[--self->taken]);
	start = rounds(vm);
	while (rounds(vm) < start + 4 * RINGS && !get(&vm->trouble)) {
		/* Both may have been given one. */
		put(&vm->error, 0);
		usleep(2000);
	}
	EXPECT_EQ(0, get(&vm->trouble));
	EXPECT_TRUE(vm_is_right(vm));
	vm_end(vm);
	close(vm->region);
}

/* Snapshots that yield do so for a vCPU, too. */
TEST_F(short_memory, snapshots_yield_to_a_vcpu)
{
	struct vm *vm = &self->vm;

	EXPECT_TRUE(take_snapshots(self, COWMEM_CLONE_EXPENDABLE));
	EXPECT_EQ(0, get(&vm->error));
	EXPECT_EQ(SNAPSHOTS, self->taken);
	EXPECT_TRUE(info(self->snapshots[0]).state & COWMEM_STATE_YIELDED);
	EXPECT_TRUE(vm_is_right(vm));
	while (self->taken)
		close(self->snapshots[--self->taken]);
	vm_end(vm);
	close(vm->region);
}

/* One that yields is gone for the vCPUs that read it, too, as soon as its memory is. */
TEST(a_snapshot_that_yields_is_gone)
{
	int fd, snap, more[8], i = 0;
	struct vm vm;

	fd = region_of_number(AREA, 7, false);
	snap = do_clone(fd, COWMEM_CLONE_SNAPSHOT | COWMEM_CLONE_EXPENDABLE, 0, 0);
	ASSERT_LE(0, snap);
	close(fd);
	vm_init(&vm, snap, AREA, 1, KVM_MEM_READONLY, PROT_READ, read_on, false);
	all_hold(&vm, 7);
	vm_start(&vm);
	ASSERT_TRUE(all_read(&vm));
	leave_room(1);
	/* What is freed late leaves more room. */
	while (i < (int)ARRAY_SIZE(more) && !(info(snap).state & COWMEM_STATE_YIELDED))
		more[i++] = region_of_number(AREA, 8, false);
	EXPECT_TRUE(info(snap).state & COWMEM_STATE_YIELDED);
	EXPECT_TRUE(comes(&vm.error, EFAULT));
	EXPECT_EQ(7, published(&vm, 0));
	write_file(LIMIT, "0");
	while (i)
		close(more[--i]);
	vm_end(&vm);
	close(snap);
}

int main(int argc, char **argv)
{
	const char *why = no_kvm();

	if (why) {
		ksft_print_header();
		ksft_exit_skip("%s\n", why);
	}
	return test_harness_run(argc, argv);
}
