// SPDX-License-Identifier: GPL-2.0-only
/*
 * A host of Wasm instances (wasm2c), each of whose requests begins with the memory as it was after init(): by cowmem,
 * and in the ways in which hosts do that today.
 *
 *	host ROWS ROUNDS answers	what fresh instances answer; standard input of the others
 *	host ROWS ROUNDS WAY		serve so many requests of each kind
 *	host ROWS ROUNDS memory WAY	the KiB that an instance takes, where so many have served a request each
 *
 * ROWS is how large the module makes its database. WAY prints for each kind of request the microseconds of a round, and
 * of these what is not the request itself, and the page faults of a round.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "libcowmem.h"
#include "module.h"
#include "wasm-rt-impl.h"

#define PAGE		4096UL
#define WASM_PAGE	65536UL
/* What generated code can reach without a check: 32 bits of address, and of offset. */
#define RESERVED	(8UL << 30)
/* The most that an instance gets, which is mapped from the start. */
#define MOST		(64UL << 20)
#define GROWTH		(2 << 20)

struct instance {
	Z_module_instance_t module;
	Z_module_instance_t clean;	/* the same after init(): its globals, and how large the memory is */
	int fd;				/* the region, or -1 if the memory is anonymous */
};

enum kind { STEADY, SCATTERED, QUERY, GROW, KINDS };
static uint32_t rows;
static const char *const kind_names[KINDS] = { "steady", "scattered", "query", "grow" };

static char *memory_of(const struct instance *in)
{
	return (char *)in->module.w2c_memory.data;
}

static size_t clean_size(const struct instance *in)
{
	return in->clean.w2c_memory.size;
}

static double now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1e6 + ts.tv_nsec / 1e3;
}

static int must(int result, const char *what)
{
	if (result < 0)
		errx(1, "%s: %s", what, cowmem_strerror(errno));
	return result;
}

static void *map_at(void *addr, size_t length, int prot, int flags, int fd)
{
	void *mem = mmap(addr, length, prot, flags, fd, 0);

	if (mem == MAP_FAILED)
		err(1, "mmap");
	return mem;
}

/* ---- linear memory, which wasm2c leaves to the host ---- */

static void *reserve(void)
{
	return map_at(NULL, RESERVED, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1);
}

/* A region is mapped as far as it may ever grow: its own end is that of the memory, and past it is SIGBUS, a trap. */
static void map_region(char *at, int fd)
{
	map_at(at, MOST, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd);
}

static struct instance *instance_of(wasm_rt_memory_t *memory)
{
	return (struct instance *)((char *)memory - offsetof(struct instance, module.w2c_memory));
}

void wasm_rt_allocate_memory(wasm_rt_memory_t *memory, uint32_t pages, uint32_t max_pages)
{
	struct instance *in = instance_of(memory);

	if (pages > MOST / WASM_PAGE)
		errx(1, "the module wants more memory than this host gives");
	memory->data = reserve();
	memory->size = pages * WASM_PAGE;
	memory->pages = pages;
	memory->max_pages = max_pages < MOST / WASM_PAGE ? max_pages : MOST / WASM_PAGE;
	if (in->fd >= 0) {
		must(cowmem_resize(in->fd, memory->size), "size of the region");
		map_region((char *)memory->data, in->fd);
	} else if (mprotect(memory->data, memory->size, PROT_READ | PROT_WRITE)) {
		err(1, "mprotect");
	}
}

uint32_t wasm_rt_grow_memory(wasm_rt_memory_t *memory, uint32_t delta)
{
	struct instance *in = instance_of(memory);
	uint32_t old = memory->pages;
	size_t size = (old + (size_t)delta) * WASM_PAGE;

	if (size > memory->max_pages * WASM_PAGE)
		return UINT32_MAX;
	if (in->fd >= 0 ? cowmem_resize(in->fd, size) : mprotect(memory->data, size, PROT_READ | PROT_WRITE))
		return UINT32_MAX;
	memory->size = size;
	memory->pages = old + delta;
	return old;
}

void wasm_rt_free_memory(wasm_rt_memory_t *memory)
{
	munmap(memory->data, RESERVED);
}

/* ---- an instance ---- */

static void instantiate(struct instance *in)
{
	Z_module_instantiate(&in->module);
	Z_moduleZ__initialize(&in->module);
	Z_moduleZ_init(&in->module, rows);
	in->clean = in->module;
}

static void init_anonymous(struct instance *in)
{
	in->fd = -1;
	instantiate(in);
}

static uint32_t ask(struct instance *in, enum kind kind, uint32_t round)
{
	if (kind == GROW)
		return Z_moduleZ_grow(&in->module, GROWTH);
	return Z_moduleZ_request(&in->module, kind == STEADY ? 1 : round + 2, kind != QUERY);
}

/* What is not in the memory, and what was added to it unless that is a region. */
static void reset_rest(struct instance *in)
{
	size_t size = in->module.w2c_memory.size, clean = clean_size(in);

	if (size > clean && in->fd < 0)
		map_at(memory_of(in) + clean, size - clean, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1);
	in->module = in->clean;
}

/* ---- the ways ---- */

struct way {
	const char *name;
	void (*init)(struct instance *in);	/* up to where requests can come */
	void (*start)(struct instance *in);	/* before each */
	uint32_t (*ask)(struct instance *in, enum kind kind, uint32_t round);
	void (*reset)(struct instance *in);	/* after each */
};

/* What the memory is to be at the start of each request. */
static char *image;
static int image_fd;

static void init_image(struct instance *in)
{
	size_t size;

	init_anonymous(in);
	size = clean_size(in);
	image_fd = must(memfd_create("image", MFD_CLOEXEC), "memfd");
	must(ftruncate(image_fd, size), "size of the image");
	image = map_at(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, image_fd);
	memcpy(image, memory_of(in), size);
}

static void start_new(struct instance *in)
{
	init_anonymous(in);
}

static void reset_new(struct instance *in)
{
	Z_module_free(&in->module);
}

static void reset_copied(struct instance *in)
{
	memcpy(memory_of(in), image, clean_size(in));
	reset_rest(in);
}

/* As Wasmtime does: the image is mapped, what is written is copied by the fault, and dropped afterwards. */
static void init_private(struct instance *in)
{
	init_image(in);
	map_at(memory_of(in), clean_size(in), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, image_fd);
}

static void reset_private(struct instance *in)
{
	must(madvise(memory_of(in), clean_size(in), MADV_DONTNEED), "madvise");
	reset_rest(in);
}

/* <linux/fs.h> of Linux 6.7 and later. */
struct scanned {
	uint64_t start, end, categories;
};

struct scan {
	uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
	uint64_t inverted, mask, anyof_mask, return_mask;
};

#define SCAN		_IOWR('f', 16, struct scan)
#define IS_FILE		(1U << 2)
#define IS_PRESENT	(1U << 3)
/* From so many pages on it takes less to drop them. */
#define SCAN_MOST	512

static int pagemap;

static void init_scanned(struct instance *in)
{
	init_private(in);
	pagemap = must(open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC), "pagemap");
}

/* The same, but pages that were copied stay if they are not too many, and get their content back. */
static void reset_scanned(struct instance *in)
{
	struct scanned found[SCAN_MOST];
	uintptr_t start = (uintptr_t)memory_of(in);
	struct scan scan = {
		.size = sizeof(scan), .start = start, .end = start + clean_size(in),
		.vec = (uintptr_t)found, .vec_len = SCAN_MOST, .max_pages = SCAN_MOST,
		.inverted = IS_FILE, .mask = IS_FILE | IS_PRESENT, .return_mask = IS_PRESENT,
	};
	int i, count = ioctl(pagemap, SCAN, &scan);

	if (count < 0 && errno == ENOTTY)
		exit(77);
	must(count, "PAGEMAP_SCAN");
	if (scan.walk_end < scan.end) {
		reset_private(in);
		return;
	}
	for (i = 0; i < count; i++)
		memcpy((char *)found[i].start, image + (found[i].start - start), found[i].end - found[i].start);
	reset_rest(in);
}

static uint32_t *child_answer;

static void init_fork(struct instance *in)
{
	init_anonymous(in);
	child_answer = map_at(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1);
}

static uint32_t ask_fork(struct instance *in, enum kind kind, uint32_t round)
{
	int status;
	pid_t pid = must(fork(), "fork");

	if (!pid) {
		*child_answer = ask(in, kind, round);
		_exit(0);
	}
	if (waitpid(pid, &status, 0) != pid || status)
		errx(1, "a child ended with status %d", status);
	return *child_answer;
}

static int snapshot;

static void init_region(struct instance *in)
{
	in->fd = must(cowmem_create("instance", 0, 0), "cowmem");
	instantiate(in);
	snapshot = must(cowmem_snapshot(in->fd), "snapshot");
	/* To compare with. */
	image = malloc(clean_size(in));
	memcpy(image, memory_of(in), clean_size(in));
}

static void reset_region(struct instance *in)
{
	must(cowmem_restore(in->fd, snapshot, COWMEM_RESTORE_SIZE, NULL), "restore");
	reset_rest(in);
}

static void reset_kept(struct instance *in)
{
	must(cowmem_restore(in->fd, snapshot, COWMEM_RESTORE_SIZE | COWMEM_RESTORE_KEEP, NULL), "restore");
	reset_rest(in);
}

/* What was mapped there before goes. */
static void start_clone(struct instance *in)
{
	in->fd = must(cowmem_clone(snapshot, 0), "clone");
	map_region(memory_of(in), in->fd);
}

static void init_clone(struct instance *in)
{
	init_region(in);
	close(in->fd);
}

static void reset_clone(struct instance *in)
{
	close(in->fd);
	reset_rest(in);
}

static const struct way ways[] = {
	{ "new", NULL, start_new, ask, reset_new },
	{ "copy", init_image, NULL, ask, reset_copied },
	{ "private", init_private, NULL, ask, reset_private },
	{ "scan", init_scanned, NULL, ask, reset_scanned },
	{ "fork", init_fork, NULL, ask_fork, reset_rest },
	{ "restore", init_region, NULL, ask, reset_region },
	{ "keep", init_region, NULL, ask, reset_kept },
	{ "clone", init_clone, start_clone, ask, reset_clone },
};

static const struct way *find_way(const char *name)
{
	size_t i;

	for (i = 0; i < sizeof(ways) / sizeof(*ways); i++)
		if (!strcmp(ways[i].name, name))
			return &ways[i];
	errx(2, "no way '%s'", name);
}

/* ---- what fresh instances answer ---- */

/* A child has an instance that nobody has asked yet, and so has a process that made it anew; both must agree. */
static void print_answers(uint32_t rounds)
{
	struct instance in, fresh;
	uint32_t answer, round;
	enum kind kind;

	init_fork(&in);
	for (kind = 0; kind < KINDS; kind++)
		for (round = 0; round < rounds; round++) {
			answer = ask_fork(&in, kind, round);
			printf("%" PRIu32 "\n", answer);
			if (round)
				continue;
			init_anonymous(&fresh);
			if (memcmp(memory_of(&fresh), memory_of(&in), clean_size(&in)) ||
			    ask(&fresh, kind, round) != answer)
				errx(1, "two fresh instances differ");
			Z_module_free(&fresh.module);
		}
}

static void read_answers(uint32_t *answers, uint32_t rounds)
{
	uint32_t i;

	for (i = 0; i < KINDS * rounds; i++)
		if (scanf("%" SCNu32, answers + i) != 1)
			errx(1, "standard input does not have %" PRIu32 " answers", KINDS * rounds);
}

/* ---- rounds ---- */

/* One of them. Adds to @rest what was not the request. */
static void serve(const struct way *way, struct instance *in, enum kind kind, uint32_t round, uint32_t answer,
		  double *rest)
{
	double before = now_us(), between;
	wasm_rt_trap_t trap;
	uint32_t got;

	if (way->start)
		way->start(in);
	*rest += now_us() - before;
	/* Traps come back here. Who serves others resets the instance then, and goes on. */
	trap = wasm_rt_impl_try();
	if (trap)
		errx(1, "%s, %s: trap %d", way->name, kind_names[kind], trap);
	got = way->ask(in, kind, round);
	between = now_us();
	way->reset(in);
	*rest += now_us() - between;
	if (got != answer)
		errx(1, "%s, %s, request %" PRIu32 ": the answer is %" PRIu32 ", a fresh instance's is %" PRIu32,
		     way->name, kind_names[kind], round, got, answer);
}

/* Nothing may be left of requests before. What is mapped by this changes times: so it is done at the end. */
static void check_memory(const struct way *way, struct instance *in, enum kind kind)
{
	if (way->start)
		way->start(in);
	if (image && memcmp(memory_of(in), image, clean_size(in)))
		errx(1, "%s, %s: the memory is not as it was", way->name, kind_names[kind]);
	if (way->start)
		way->reset(in);
}

/* Those of children, too. */
static long faults(void)
{
	struct rusage self, children;

	getrusage(RUSAGE_SELF, &self);
	getrusage(RUSAGE_CHILDREN, &children);
	return self.ru_minflt + children.ru_minflt;
}

static void serve_kind(const struct way *way, struct instance *in, enum kind kind, const uint32_t *answers,
		       uint32_t rounds)
{
	uint32_t warm = rounds / 3, round;
	double start = 0, rest = 0;
	long before = 0;

	for (round = 0; round < rounds; round++) {
		if (round == warm) {
			start = now_us();
			before = faults();
			rest = 0;
		}
		serve(way, in, kind, round, answers[round], &rest);
	}
	printf("%s %s %.1f %.1f %.1f\n", way->name, kind_names[kind], (now_us() - start) / (rounds - warm),
	       rest / (rounds - warm), (double)(faults() - before) / (rounds - warm));
	fflush(stdout);
	for (round = 0; round < rounds && round < 10 && image; round++) {
		serve(way, in, kind, round, answers[round], &rest);
		check_memory(way, in, kind);
	}
}

/* The memory ends again where it did: an access behind that is a trap. */
static void check_end(const struct way *way, struct instance *in)
{
	if (!wasm_rt_impl_try()) {
		Z_moduleZ_stray(&in->module, clean_size(in));
		errx(1, "%s: there is memory past the end", way->name);
	}
}

static void serve_all(const struct way *way, uint32_t rounds)
{
	uint32_t *answers = calloc(KINDS * (size_t)rounds, sizeof(*answers));
	struct instance in;
	enum kind kind;

	read_answers(answers, rounds);
	if (way->init)
		way->init(&in);
	for (kind = 0; kind < KINDS; kind++)
		serve_kind(way, &in, kind, answers + kind * (size_t)rounds, way->init ? rounds : 2);
	if (way->init && !way->start)
		check_end(way, &in);
}

/* ---- many instances ---- */

static void another_copy(struct instance *in)
{
	if (mprotect(memory_of(in), clean_size(in), PROT_READ | PROT_WRITE))
		err(1, "mprotect");
	memcpy(memory_of(in), image, clean_size(in));
}

static void another_private(struct instance *in)
{
	map_at(memory_of(in), clean_size(in), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, image_fd);
}

/* The child has the instance for as long as its parent lives. */
static uint32_t ask_and_stay(struct instance *in, enum kind kind, uint32_t round)
{
	uint32_t answer;
	int done[2];

	must(pipe(done), "pipe");
	if (!must(fork(), "fork")) {
		must(prctl(PR_SET_PDEATHSIG, SIGKILL), "prctl");
		answer = ask(in, kind, round);
		if (write(done[1], &answer, sizeof(answer)) != sizeof(answer))
			_exit(1);
		for (;;)
			pause();
	}
	close(done[1]);
	if (read(done[0], &answer, sizeof(answer)) != sizeof(answer))
		errx(1, "a child gave no answer");
	close(done[0]);
	return answer;
}

static const struct many {
	const char *name;
	void (*init)(struct instance *in);
	void (*another)(struct instance *in);	/* its memory, as the image is */
	uint32_t (*ask)(struct instance *in, enum kind kind, uint32_t round);
} many_ways[] = {
	{ "copy", init_image, another_copy, ask },
	{ "private", init_image, another_private, ask },
	{ "fork", init_fork, NULL, ask_and_stay },
	{ "clone", init_region, start_clone, ask },
};

/* What is free tells little: each CPU keeps some, too. */
static long used_kib(void)
{
	static const char *const used[] = { "AnonPages", "Shmem", "PageTables", "Slab", "KernelStack" };
	FILE *file = fopen("/proc/meminfo", "re");
	long kib, sum = 0;
	char name[32];
	size_t i;

	if (!file)
		err(1, "/proc/meminfo");
	while (fscanf(file, " %31[^:]: %ld%*[^\n]", name, &kib) == 2)
		for (i = 0; i < sizeof(used) / sizeof(*used); i++)
			if (!strcmp(name, used[i]))
				sum += kib;
	fclose(file);
	return sum;
}

/* Its table is its own: what is in there says which instance a function belongs to. */
static void instantiate_as(struct instance *in, const struct instance *warm)
{
	in->fd = -1;
	Z_module_instantiate(&in->module);
	in->clean = warm->clean;
	in->clean.w2c_T0 = in->module.w2c_T0;
	in->clean.w2c_memory.data = in->module.w2c_memory.data;
	in->module = in->clean;
}

/* Each has served one request, and all are there at once. */
static void serve_many(const char *name, uint32_t count)
{
	uint32_t *answers = calloc(KINDS * (size_t)count, sizeof(*answers)), i;
	struct instance *all = calloc(count, sizeof(*all)), warm, *in = &warm;
	const struct many *way = many_ways;
	long before;

	while (strcmp(way->name, name))
		if (++way == many_ways + sizeof(many_ways) / sizeof(*many_ways))
			errx(2, "no way '%s'", name);
	read_answers(answers, count);
	way->init(&warm);
	before = used_kib();
	for (i = 0; i < count; i++) {
		if (way->another) {
			in = all + i;
			instantiate_as(in, &warm);
			way->another(in);
		}
		if (way->ask(in, SCATTERED, i) != answers[SCATTERED * (size_t)count + i])
			errx(1, "%s: instance %" PRIu32 " answers otherwise than a fresh one", name, i);
	}
	printf("%s memory %ld\n", name, (used_kib() - before) / count);
}

int main(int argc, char **argv)
{
	uint32_t rounds = argc > 2 ? atoi(argv[2]) : 0;

	rows = argc > 1 ? atoi(argv[1]) : 0;
	if (argc < 4 || argc > 5 || rows < 100 || rounds < 2)
		errx(2, "usage: host ROWS ROUNDS answers|WAY|memory WAY");
	wasm_rt_init();
	Z_module_init_module();
	if (argc == 5)
		serve_many(argv[4], rounds);
	else if (!strcmp(argv[3], "answers"))
		print_answers(rounds);
	else
		serve_all(find_way(argv[3]), rounds);
	return 0;
}
