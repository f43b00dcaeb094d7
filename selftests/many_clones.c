// SPDX-License-Identifier: GPL-2.0-only
/*
 * Promise: however many clones are alive, each is a consistent cut through what
 * several processes write meanwhile, stays as it is whatever happens to the
 * others, and gives its memory back.
 *
 * Usage: many_clones [CLONES [SEED [huge]]]; scripts/torture asks for 100,000.
 *
 * With "huge", for a module with huge=always, the region begins with two areas of
 * one folio each.  Nobody writes to the first; the end of the second is written.
 *
 * Each writer has a word of its own in each page, which it counts up from the
 * first page to the last.  It waits between two writes until some clones were
 * made: each write costs a page for good, and memory is what limits this.
 */
#include <sys/resource.h>

#include "../kselftest.h"
#include "common.h"
#include "areas.h"
#include "cgroups.h"
#include "module.h"

enum { PAGES = 70, WRITERS = 3, PACE = 12, MANY = 2000 };

struct shared {
	int clones, stop;
	uint64_t written;
};

static struct shared *shared;
static unsigned int clones;
static unsigned int lead;	/* pages before those that are written */
static int live, *fds;
static uint64_t *sums;

static uint64_t *word(char *mem, unsigned int page, unsigned int who)
{
	return (uint64_t *)(mem + (lead + page) * pgsz()) + 1 + who * 64;
}

static void write_on(unsigned int who)
{
	char *mem = map_rw(live, lead + PAGES);
	uint64_t round;
	unsigned int page;

	rng_state += who + 1;
	for (round = 1;; round++) {
		for (page = 0; page < PAGES; page++) {
			int seen = get(&shared->clones), pace = below(PACE);

			if (*word(mem, page, who) != round - 1) {
				dprintf(2, "# writer %u lost a write to page %u\n",
					who, page);
				_exit(1);
			}
			__atomic_store_n(word(mem, page, who), round,
					 __ATOMIC_RELEASE);
			__atomic_add_fetch(&shared->written, 1, __ATOMIC_RELAXED);
			while (get(&shared->clones) < seen + pace &&
			       !get(&shared->stop))
				usleep(50);
			if (get(&shared->stop))
				_exit(0);
		}
	}
}

/* Is it a cut, and not before @last?  Returns a sum of it, or 0. */
static uint64_t look(int fd, uint64_t last[WRITERS])
{
	char *mem = map_ro(fd, lead + PAGES);
	uint64_t sum = 1, total, first, was, x;
	unsigned int page, who;

	if (lead && (mem[0] != 'h' || mem[pgsz()])) {
		dprintf(2, "# the area that nobody writes has changed\n");
		sum = 0;
		goto out;
	}
	for (who = 0; who < WRITERS; who++) {
		first = was = *word(mem, 0, who);
		total = 0;
		for (page = 0; page < PAGES; page++) {
			x = *word(mem, page, who);
			if (x > was || x + 1 < first) {
				dprintf(2, "# writer %u: page %u has %llu after %llu, the first %llu\n",
					who, page, (unsigned long long)x,
					(unsigned long long)was,
					(unsigned long long)first);
				sum = 0;
				goto out;
			}
			was = x;
			total += x;
			sum = (sum ^ x) * 0x100000001b3ULL;
		}
		if (last && total < last[who]) {
			dprintf(2, "# writer %u went back\n", who);
			sum = 0;
			goto out;
		}
		if (last)
			last[who] = total;
	}
	sum += !sum;
out:
	unmap(mem, lead + PAGES);
	return sum;
}

/* A region whose first two areas are huge, all zeroes but for a byte in each. */
static int huge_region(void)
{
	int fd = region_of(lead + PAGES, 0);
	char *mem = map_rw(fd, lead + PAGES);

	mem[0] = mem[AREA * pgsz()] = 'h';
	unmap(mem, lead + PAGES);
	must(info(fd).pages_huge == 2 * (uint64_t)AREA);
	return fd;
}

static bool as_before(unsigned int i)
{
	if (look(fds[i], NULL) == sums[i])
		return true;
	dprintf(2, "# clone %u is not what it was\n", i);
	return false;
}

int main(int argc, char **argv)
{
	unsigned int i, k, made, held = 0, writes = effort(1000);
	struct rlimit limit;
	uint64_t last[WRITERS] = {};
	pid_t pid[WRITERS];
	long before = 0, with = 0, slack;
	const char *why;
	char dir[128];
	bool ok;

	clones = argc > 1 ? atoi(argv[1]) : effort(MANY);
	if (argc > 2)
		setenv("COWMEM_SEED", argv[2], 1);
	if (argc > 3)
		lead = 2 * AREA - PAGES / 2;
	rng_init();
	ksft_print_header();
	ksft_set_plan(5);

	limit.rlim_cur = limit.rlim_max = clones + 100;
	must(!setrlimit(RLIMIT_NOFILE, &limit));
	write_file("/proc/sys/fs/file-max", "4000000");
	fds = calloc(clones, sizeof(*fds));
	sums = calloc(clones, sizeof(*sums));
	must(fds && sums);
	memset(fds, 0xff, clones * sizeof(*fds));
	memset(sums, 0, clones * sizeof(*sums));
	shared = shared_mem(sizeof(*shared));
	live = lead ? huge_region() : region_of(PAGES, 0);
	/* What is allocated from here on is charged to it. */
	why = cg_make(dir, sizeof(dir));
	if (!why) {
		must(!cg_write(dir, "cgroup.procs", "0"));
		before = cg_read(dir, "memory.current");
	}
	for (i = 0; i < WRITERS; i++) {
		pid[i] = spawn();
		if (!pid[i])
			write_on(i);
	}

	ok = true;
	for (made = 0; made < clones; made++) {
		fds[made] = do_clone(live, made & 1, 0, 0);
		if (fds[made] < 0) {
			printf("# clone %u: %s\n", made, strerror(errno));
			break;
		}
		put(&shared->clones, made + 1);
		sums[made] = look(fds[made], last);
		if (!sums[made]) {
			printf("# clone %u is not a cut\n", made);
			ok = false;
			break;
		}
	}
	printf("# %u clones alive, %llu pages written\n", made,
	       (unsigned long long)shared->written);
	if (!why) {
		with = cg_read(dir, "memory.current");
		printf("# %ld bytes for each, %ld without the pages\n",
		       (with - before) / (long)(made + !made),
		       (with - before - (long)(shared->written * pgsz())) /
		       (long)(made + !made));
	}
	ksft_test_result(ok && made == clones, "%u live clones, each a cut\n",
			 clones);
	clones = made;

	put(&shared->stop, 1);
	ok = true;
	for (i = 0; i < WRITERS; i++)
		ok = !reap(pid[i]) && ok;
	for (i = 0; ok && i < clones; i++)
		ok = as_before(i);
	ksft_test_result(ok && clones, "all of them are as they were\n");

	/* Write to some: the neighbours share most pages with them. */
	ok = true;
	for (k = 0; ok && k < writes && clones > 2; k++) {
		i = 1 + below(clones - 2);
		i -= i & 1;
		if (pwrite(fds[i], "x", 1, (lead + below(PAGES)) * pgsz()) != 1)
			ok = false;
		held++;
		ok = ok && as_before(i + 1) && (!i || as_before(i - 1));
		ok = ok && as_before(i);
	}
	ksft_test_result(ok && held, "a write to one is seen in no other\n");

	/* Drop most of them, in no order. */
	for (k = 0; k < clones; k++) {
		i = below(clones);
		if (fds[i] >= 0)
			close(fds[i]);
		fds[i] = -1;
	}
	ok = true;
	for (i = 0, held = 0; i < clones; i++) {
		if (fds[i] < 0)
			continue;
		held++;
		ok = ok && as_before(i);
	}
	ksft_test_result(ok && held, "what is left is as it was\n");

	for (i = 0; i < clones; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	close(live);
	/* Each CPU keeps up to 64 pages charged that are free. */
	slack = (with - before) / 20 +
		sysconf(_SC_NPROCESSORS_ONLN) * 64 * (long)pgsz();
	if (why) {
		ksft_test_result_skip("the memory comes back # %s\n", why);
	} else if (with - before < 3 * slack) {
		ksft_test_result_skip("the memory comes back # too little to tell\n");
	} else {
		ok = cg_falls_below(dir, before + slack);
		printf("# %ld KiB before, %ld with them, %ld after\n",
		       before >> 10, with >> 10,
		       cg_read(dir, "memory.current") >> 10);
		ksft_test_result(ok, "the memory comes back\n");
	}
	if (!why) {
		cg_write("/sys/fs/cgroup", "cgroup.procs", "0");
		rmdir(dir);
	}
	ksft_finished();
}
