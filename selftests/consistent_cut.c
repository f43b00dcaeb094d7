// SPDX-License-Identifier: GPL-2.0-only
/*
 * Promise: a clone is a consistent cut.  While other threads and processes
 * write: if a write is in the clone, so is every write that happened before it.
 *
 * Writer w counts s = 1, 2, 3...  In each round it stamps, in this order,
 *
 *	ring[w][s % RING] = s
 *	seen[w] = what it read of count[w - 1]
 *	count[w] = s
 *	published[w] = s, which is not in the region
 *
 * each on a page of its own.  So in every clone
 *
 *  - the ring holds just the last RING stamps up to some s: no gap, no stray;
 *  - s is count[w] or one more;
 *  - count[w - 1] is at least seen[w], whether the writer read it in the region
 *    or as published;
 *  - count[w] is at least what was published before the call, and at most what
 *    the region holds after it.
 */
#include <pthread.h>

#include "../kselftest_harness.h"
#include "common.h"

enum { RING = 7, PER_WRITER = RING + 2, MAX_WRITERS = 6 };
enum { CLONES = 250, BURST = 8 };
enum { MMAP = 1, PWRITE = 2, BOTH = MMAP | PWRITE, OWN_MAP = 4, TWO_MAPS = 8 };

struct ctl {
	int stop, ready, trouble;
	uint64_t published[MAX_WRITERS];
};

struct writer {
	struct ctl *ctl;
	int fd, nr, writers, how;
	unsigned long turn;	/* of the ways to write */
	char *mem[2];
};

static size_t ring_page(int w, uint64_t s)
{
	return w * PER_WRITER + s % RING;
}

static size_t seen_page(int w)
{
	return w * PER_WRITER + RING;
}

static size_t count_page(int w)
{
	return w * PER_WRITER + RING + 1;
}

/* How far apart the pages lie in the region. */
static size_t apart = 1;

/* Where a page's word is: not always at its start. */
static size_t place(size_t page)
{
	return page * apart * pgsz() + page * 64 % pgsz();
}

static uint64_t load(const char *mem, size_t page)
{
	return __atomic_load_n((uint64_t *)(mem + place(page)),
			       __ATOMIC_ACQUIRE);
}

/* One write, the way it is this writer's turn to. */
static void stamp(struct writer *w, size_t page, uint64_t val)
{
	size_t at = place(page);

	w->turn++;
	if ((w->how & BOTH) == PWRITE ||
	    ((w->how & BOTH) == BOTH && w->turn % 2))
		must(pwrite(w->fd, &val, sizeof(val), at) == sizeof(val));
	else
		__atomic_store_n((uint64_t *)(w->mem[w->turn / 2 % 2] + at),
				 val, __ATOMIC_RELEASE);
}

static void *write_on(void *arg)
{
	struct writer *w = arg;
	int prev = (w->nr + w->writers - 1) % w->writers;
	uint64_t s, val;

	yield_to_main();
	__atomic_add_fetch(&w->ctl->ready, 1, __ATOMIC_ACQ_REL);
	for (s = 1; !get(&w->ctl->stop); s++) {
		stamp(w, ring_page(w->nr, s), s);
		if (s % 2)
			val = load(w->mem[0], count_page(prev));
		else
			val = __atomic_load_n(&w->ctl->published[prev],
					      __ATOMIC_ACQUIRE);
		stamp(w, seen_page(w->nr), val);
		stamp(w, count_page(w->nr), s);
		__atomic_store_n(&w->ctl->published[w->nr], s,
				 __ATOMIC_RELEASE);
	}
	return NULL;
}

/* A sharer that reads: what it sees of a counter never goes back. */
static void *read_on(void *arg)
{
	struct writer *w = arg;
	uint64_t last[MAX_WRITERS] = {}, now, pub;
	int i;

	yield_to_main();
	while (!get(&w->ctl->stop))
		for (i = 0; i < w->writers; i++) {
			pub = __atomic_load_n(&w->ctl->published[i],
					      __ATOMIC_ACQUIRE);
			now = load(w->mem[0], count_page(i));
			if (now < last[i] || now < pub) {
				fprintf(stderr,
					"# reader: %llu after %llu, %llu published\n",
					(unsigned long long)now,
					(unsigned long long)last[i],
					(unsigned long long)pub);
				put(&w->ctl->trouble, 1);
			}
			last[i] = now;
		}
	return NULL;
}

/* Copy out the stamps of a clone. */
static void get_stamps(int fd, int writers, bool by_read, uint64_t *stamps)
{
	size_t pages = writers * PER_WRITER, i;
	char *mem = by_read ? NULL : map_ro(fd, pages * apart);

	for (i = 0; i < pages; i++)
		if (by_read)
			must(pread(fd, &stamps[i], sizeof(*stamps), place(i)) ==
			     sizeof(*stamps));
		else
			stamps[i] = load(mem, i);
	if (mem)
		unmap(mem, pages * apart);
}

#define CUT(cond) do {							\
	if (!(cond)) {							\
		fprintf(stderr, "# writer %d: not so: %s\n", w, #cond);	\
		ok = false;						\
	}								\
} while (0)

static bool is_cut(const uint64_t *stamps, int writers, const uint64_t *before,
		   const uint64_t *after)
{
	bool ok = true;
	int w, i;

	for (w = 0; w < writers; w++) {
		int prev = (w + writers - 1) % writers;
		uint64_t count = stamps[count_page(w)], last = 0, s;

		for (i = 0; i < RING; i++)
			if (stamps[ring_page(w, i)] > last)
				last = stamps[ring_page(w, i)];
		for (s = last; s && s + RING > last; s--)
			CUT(stamps[ring_page(w, s)] == s);
		CUT(last == count || last == count + 1);
		CUT(stamps[seen_page(w)] <= stamps[count_page(prev)]);
		CUT(count >= before[w]);
		CUT(count <= after[w]);
		if (!ok) {
			fprintf(stderr, "# count %llu seen %llu of %llu ring",
				(unsigned long long)count,
				(unsigned long long)stamps[seen_page(w)],
				(unsigned long long)stamps[count_page(prev)]);
			for (i = 0; i < RING; i++)
				fprintf(stderr, " %llu", (unsigned long long)
					stamps[ring_page(w, i)]);
			fprintf(stderr, "\n");
			break;
		}
	}
	return ok;
}

FIXTURE(cut) {
	struct ctl *ctl;
	int fd;
	char *mem;
};

FIXTURE_VARIANT(cut) {
	int threads, processes, how;
	bool readers, snapshot, far;
};

FIXTURE_VARIANT_ADD(cut, threads) { .threads = 2, .how = MMAP };
FIXTURE_VARIANT_ADD(cut, more_threads_and_readers) {
	.threads = 4, .how = MMAP, .readers = true,
};
FIXTURE_VARIANT_ADD(cut, processes) { .processes = 2, .how = MMAP | OWN_MAP };
FIXTURE_VARIANT_ADD(cut, threads_and_processes) {
	.threads = 2, .processes = 2, .how = MMAP, .readers = true,
	.snapshot = true,
};
FIXTURE_VARIANT_ADD(cut, pwrite) {
	.threads = 1, .processes = 1, .how = PWRITE,
};
FIXTURE_VARIANT_ADD(cut, mmap_and_pwrite) {
	.threads = 3, .how = BOTH, .readers = true,
};
FIXTURE_VARIANT_ADD(cut, own_mappings) {
	.threads = 3, .how = MMAP | OWN_MAP, .snapshot = true,
};
FIXTURE_VARIANT_ADD(cut, two_mappings) {
	.threads = 2, .processes = 1, .how = MMAP | TWO_MAPS, .readers = true,
};

/* In so many leaves, write access is not taken back from all in one go. */
FIXTURE_VARIANT_ADD(cut, far_apart) {
	.threads = 3, .processes = 3, .how = MMAP, .far = true,
};
FIXTURE_VARIANT_ADD(cut, far_apart_mmap_and_pwrite) {
	.threads = 4, .how = BOTH, .readers = true, .far = true,
};

FIXTURE_SETUP(cut)
{
	size_t pages = MAX_WRITERS * PER_WRITER;

	apart = variant->far ? 65 : 1;
	self->ctl = shared_mem(sizeof(*self->ctl));
	self->fd = region();
	ASSERT_EQ(0, do_resize(self->fd, pages * apart * pgsz()));
	self->mem = map_rw(self->fd, pages * apart);
}

FIXTURE_TEARDOWN(cut)
{
}

static void init_writer(struct writer *w, struct ctl *ctl, int fd, char *mem,
			int nr, int writers, int how)
{
	size_t pages = MAX_WRITERS * PER_WRITER * apart;

	w->ctl = ctl;
	w->fd = fd;
	w->nr = nr;
	w->writers = writers;
	w->how = how;
	w->mem[0] = how & (OWN_MAP | TWO_MAPS) ? map_rw(fd, pages) : mem;
	w->mem[1] = how & TWO_MAPS ? map_rw(fd, pages) : w->mem[0];
}

static uint64_t total(struct ctl *ctl)
{
	uint64_t sum = 0;
	int i;

	for (i = 0; i < MAX_WRITERS; i++)
		sum += __atomic_load_n(&ctl->published[i], __ATOMIC_ACQUIRE);
	return sum;
}

struct taken {
	int fd;
	uint64_t before[MAX_WRITERS], after[MAX_WRITERS];
	uint64_t stamps[MAX_WRITERS * PER_WRITER];
};

TEST_F(cut, is_consistent)
{
	int writers = variant->threads + variant->processes, i, j, n = 0;
	struct writer w[MAX_WRITERS], reader;
	pthread_t thread[MAX_WRITERS + 2];
	pid_t pid[MAX_WRITERS + 1];
	struct taken taken[BURST];
	double end, in_calls = 0;
	uint64_t last = 0, step;

	rng_init();
	for (i = 0; i < variant->processes + variant->readers; i++) {
		pid[i] = spawn();
		if (!pid[i]) {
			/* The last of them is the reader. */
			init_writer(&w[0], self->ctl, self->fd, self->mem,
				    variant->threads + i, writers,
				    variant->how);
			if (i < variant->processes)
				write_on(&w[0]);
			else
				read_on(&w[0]);
			_exit(0);
		}
	}
	for (i = 0; i < variant->threads; i++) {
		init_writer(&w[i], self->ctl, self->fd, self->mem, i, writers,
			    variant->how);
		ASSERT_EQ(0, pthread_create(&thread[i], NULL, write_on, &w[i]));
	}
	if (variant->readers) {
		init_writer(&reader, self->ctl, self->fd, self->mem, 0, writers,
			    variant->how);
		ASSERT_EQ(0, pthread_create(&thread[i], NULL, read_on, &reader));
	}
	await(&self->ctl->ready, writers);

	end = now() + effort(2400) / 1000.0;
	while (n < CLONES && (n < 20 || now() < end)) {
		int burst = 1 + below(BURST);

		/*
		 * No burst without something new in it.  Who sleeps gets a CPU
		 * in the middle of whatever a writer does.
		 */
		step = 1 + below(3 * writers);
		do {
			usleep(1 + below(2000));
		} while (total(self->ctl) < last + step);
		last = total(self->ctl);

		/* After the first, the writers are in the middle of a fault. */
		in_calls -= now();
		for (j = 0; j < burst; j++) {
			struct taken *t = &taken[j];

			for (i = 0; i < writers; i++)
				t->before[i] =
					__atomic_load_n(&self->ctl->published[i],
							__ATOMIC_ACQUIRE);
			t->fd = do_clone(self->fd, variant->snapshot ?
					 COWMEM_CLONE_SNAPSHOT : 0, 0, 0);
			ASSERT_LE(0, t->fd);
			for (i = 0; i < writers; i++)
				t->after[i] = load(self->mem, count_page(i));
		}
		in_calls += now();

		for (j = 0; j < burst; j++) {
			struct taken *t = &taken[j];

			get_stamps(t->fd, writers, (n + j) % 2, t->stamps);
			ASSERT_TRUE(is_cut(t->stamps, writers, t->before,
					   t->after))
				TH_LOG("clone %d, %d of %d", n, j, burst);
			for (i = 0; j && i < writers; i++)
				ASSERT_LE(t[-1].stamps[count_page(i)],
					  t->stamps[count_page(i)]);
		}
		/* They stay as they are while the writers go on. */
		for (j = 0; j < burst; j++) {
			uint64_t again[ARRAY_SIZE(taken[j].stamps)];

			get_stamps(taken[j].fd, writers, (n + j + 1) % 2, again);
			ASSERT_EQ(0, memcmp(taken[j].stamps, again,
					    sizeof(*again) * writers *
					    PER_WRITER))
				TH_LOG("clone %d, %d of %d", n, j, burst);
			close(taken[j].fd);
		}
		n += burst;
	}
	put(&self->ctl->stop, 1);
	for (i = 0; i < variant->threads + variant->readers; i++)
		ASSERT_EQ(0, pthread_join(thread[i], NULL));
	for (i = 0; i < variant->processes + variant->readers; i++)
		EXPECT_EQ(0, reap(pid[i]));
	EXPECT_EQ(0, get(&self->ctl->trouble));
	TH_LOG("%d clones, %.1f ms each, beside %llu rounds of %d writers", n,
	       1000 * in_calls / n, (unsigned long long)total(self->ctl),
	       writers);

	/* Everything that was written is there, in every view. */
	for (n = 0; n < 2; n++) {
		get_stamps(self->fd, writers, n, taken[0].stamps);
		EXPECT_TRUE(is_cut(taken[0].stamps, writers,
				   self->ctl->published, self->ctl->published));
	}
	for (i = 0; i < writers; i++) {
		EXPECT_LT(0, self->ctl->published[i]);
		EXPECT_EQ(self->ctl->published[i],
			  load(self->mem, count_page(i)));
		if (i < variant->threads)
			EXPECT_EQ(self->ctl->published[i],
				  load(w[i].mem[1], count_page(i)));
	}
}

TEST_HARNESS_MAIN
