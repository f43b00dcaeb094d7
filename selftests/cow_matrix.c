// SPDX-License-Identifier: GPL-2.0-only
/*
 * Promise: however a page is shared and however it is reached, a write on one
 * side of a clone is never seen on the other, in either direction, not through
 * a pin, and not when one side is gone.
 *
 * The matrix is {how the page is shared} x {how it is reached} x {which leak},
 * in the manner of mm/cow.c.  An argument runs the cells whose name has it.
 */
#ifdef HAVE_LIBURING
#include <liburing.h>
#endif

#include "../kselftest.h"
#include "common.h"
#include "files.h"

/* The middle page is the one in question; its neighbours must not change. */
enum { MID = 1, PAGES = 3, DEPTH = 10 };

struct world {
	int fd;			/* the side that acts */
	char *mem;		/* its mapping, of which every page was touched */
	int other;		/* the side that must not notice, or -1 */
	char *other_mem;	/* its mapping */
	bool frozen;		/* the other side is a snapshot */
	uint32_t tag;		/* what all of them hold at first */
	int keep[DEPTH];	/* more regions that share the pages */
	int nr_keep;
	/* What a method needs from its start to its end. */
	uint32_t new_tag;
	int pipe[2];
	int file;
#ifdef HAVE_LIBURING
	struct io_uring ring;
#endif
};

static char *mid(char *mem)
{
	return mem + MID * pgsz();
}

#define CHECK(cond) do {						\
	if (!(cond)) {							\
		fprintf(stderr, "# %s:%d: not so: %s\n", __FILE__,	\
			__LINE__, #cond);				\
		return false;						\
	}								\
} while (0)

/* ---- how the page is shared ---- */

static void populated(struct world *w)
{
	w->fd = region_of(PAGES, w->tag = 1);
}

static void hole(struct world *w)
{
	w->fd = region_of(PAGES, w->tag = 0);
}

static void shared_hole(struct world *w)
{
	hole(w);
	w->other = cloned(w->fd);
}

static void shared(struct world *w)
{
	populated(w);
	w->other = cloned(w->fd);
}

/* The page was written, through the mapping that is used, before the clone. */
static void shared_dirty(struct world *w)
{
	populated(w);
	w->mem = map_rw(w->fd, PAGES);
	fill(w->mem, PAGES, w->tag, 0);
	w->other = cloned(w->fd);
}

static void clone_side(struct world *w)
{
	populated(w);
	w->other = w->fd;
	w->fd = cloned(w->other);
}

static void last_holder(struct world *w)
{
	int clone;
	char *mem;

	populated(w);
	clone = cloned(w->fd);
	mem = map_rw(clone, PAGES);
	must(is(mem, PAGES, w->tag, 0));
	unmap(mem, PAGES);
	close(clone);
}

static void deep(struct world *w)
{
	int i;

	populated(w);
	w->other = w->fd;
	for (i = 0; i < DEPTH; i++) {
		w->fd = cloned(i ? w->keep[i - 1] : w->other);
		w->keep[i] = w->fd;
	}
	w->nr_keep = DEPTH - 1;
}

static void snapshot_origin(struct world *w)
{
	populated(w);
	w->other = snapshot(w->fd);
	w->frozen = true;
}

static void snapshot_clone(struct world *w)
{
	int origin;

	populated(w);
	origin = w->fd;
	w->other = snapshot(origin);
	w->frozen = true;
	w->fd = cloned(w->other);
	close(origin);
}

static const struct kind {
	const char *name;
	void (*make)(struct world *w);
} kinds[] = {
	{ "populated", populated },
	{ "hole", hole },
	{ "hole with a clone", shared_hole },
	{ "shared", shared },
	{ "shared when dirty", shared_dirty },
	{ "clone", clone_side },
	{ "last holder", last_holder },
	{ "clone of 10 clones", deep },
	{ "origin of a snapshot", snapshot_origin },
	{ "clone of a snapshot", snapshot_clone },
};

/* Map what is not mapped yet, and bring in every page by reading. */
static void make(struct world *w, const struct kind *kind)
{
	memset(w, 0, sizeof(*w));
	w->other = -1;
	w->file = -1;
	kind->make(w);
	must(!pipe(w->pipe));
	if (!w->mem)
		w->mem = map_rw(w->fd, PAGES);
	must(is(w->mem, PAGES, w->tag, 0));
	if (w->other < 0)
		return;
	w->other_mem = w->frozen ? map_ro(w->other, PAGES) :
				   map_rw(w->other, PAGES);
	must(is(w->other_mem, PAGES, w->tag, 0));
}

/* The region is of @tag but for its middle page, by every way to look. */
static bool region_is(int fd, const char *mem, uint32_t tag, uint32_t mid_tag)
{
	int i;

	for (i = 0; i < PAGES; i++) {
		uint32_t want = i == MID ? mid_tag : tag;

		CHECK(!mem || pg_is(mem + i * pgsz(), want, i));
		CHECK(fd_is(fd, i, 1, want));
	}
	return true;
}

/* Nobody but the acting side has changed. */
static bool others_are(struct world *w, uint32_t mid_tag)
{
	int i;

	if (w->other >= 0)
		CHECK(region_is(w->other, w->other_mem, w->tag, mid_tag));
	for (i = 0; i < w->nr_keep; i++)
		CHECK(region_is(w->keep[i], NULL, w->tag, w->tag));
	return true;
}

/* ---- how the page is reached ---- */

/*
 * A method writes in two steps, so that a clone may come in between, and reads
 * in two steps, so that a write of the other side may.  The first step returns
 * why it cannot be done here, or NULL.
 */
struct method {
	const char *name;
	const char *(*start)(struct world *w);
	bool (*finish)(struct world *w);	/* middle page := w->new_tag */
	const char *(*pin)(struct world *w);
	bool (*fetch)(struct world *w, char *buf);
};

static const char *no_start(struct world *w)
{
	(void)w;
	return NULL;
}

static char *new_page(struct world *w)
{
	char *buf = anon(1);

	pg_fill(buf, w->new_tag, MID);
	return buf;
}

static bool cpu_write(struct world *w)
{
	pg_fill(mid(w->mem), w->new_tag, MID);
	return true;
}

static bool cpu_read(struct world *w, char *buf)
{
	memcpy(buf, mid(w->mem), pgsz());
	return true;
}

static bool sys_write(struct world *w)
{
	char *buf = new_page(w);
	size_t half = pgsz() / 2;

	/* Whole pages and parts of pages may take different paths. */
	CHECK(pwrite(w->fd, buf, half, MID * pgsz()) == (ssize_t)half);
	CHECK(pwrite(w->fd, buf, pgsz(), MID * pgsz()) == (ssize_t)pgsz());
	return true;
}

static bool sys_read(struct world *w, char *buf)
{
	return pread(w->fd, buf, pgsz(), MID * pgsz()) == (ssize_t)pgsz();
}

static bool vmsplice_write(struct world *w)
{
	struct iovec iov = { mid(w->mem), pgsz() };
	char *buf = new_page(w);

	CHECK(write(w->pipe[1], buf, pgsz()) == (ssize_t)pgsz());
	CHECK(vmsplice(w->pipe[0], &iov, 1, 0) == (ssize_t)pgsz());
	return true;
}

static const char *vmsplice_pin(struct world *w)
{
	struct iovec iov = { mid(w->mem), pgsz() };

	must(vmsplice(w->pipe[1], &iov, 1, 0) == (ssize_t)pgsz());
	return NULL;
}

static bool pipe_read(struct world *w, char *buf)
{
	return drain(w->pipe[0], buf, pgsz());
}

static bool process_vm_write(struct world *w)
{
	struct iovec from = { new_page(w), pgsz() }, to = { mid(w->mem), pgsz() };
	pid_t pid = getpid();

	/* From another process, which has the mapping only by inheritance. */
	return !in_child(_exit(process_vm_writev(pid, &from, 1, &to, 1, 0) !=
			       (ssize_t)pgsz()));
}

static bool process_vm_read(struct world *w, char *buf)
{
	struct iovec to = { buf, pgsz() }, from = { mid(w->mem), pgsz() };

	return process_vm_readv(getpid(), &to, 1, &from, 1, 0) ==
	       (ssize_t)pgsz();
}

static bool proc_mem_write(struct world *w)
{
	int fd = open("/proc/self/mem", O_RDWR);

	CHECK(fd >= 0);
	CHECK(pwrite(fd, new_page(w), pgsz(), (uintptr_t)mid(w->mem)) ==
	      (ssize_t)pgsz());
	close(fd);
	return true;
}

static bool proc_mem_read(struct world *w, char *buf)
{
	int fd = open("/proc/self/mem", O_RDONLY);

	CHECK(fd >= 0);
	CHECK(pread(fd, buf, pgsz(), (uintptr_t)mid(w->mem)) ==
	      (ssize_t)pgsz());
	close(fd);
	return true;
}

static const char *direct_start(struct world *w)
{
	if (w->file < 0)
		w->file = direct_file();
	return w->file < 0 ? NO_DIRECT_FILE : NULL;
}

static bool direct_finish(struct world *w)
{
	char *buf = new_page(w);

	CHECK(pwrite(w->file, buf, pgsz(), 0) == (ssize_t)pgsz());
	CHECK(pread(w->file, mid(w->mem), pgsz(), 0) == (ssize_t)pgsz());
	return true;
}

static bool direct_fetch(struct world *w, char *buf)
{
	char *aligned = anon(1);

	CHECK(pwrite(w->file, mid(w->mem), pgsz(), 0) == (ssize_t)pgsz());
	CHECK(pread(w->file, aligned, pgsz(), 0) == (ssize_t)pgsz());
	memcpy(buf, aligned, pgsz());
	return true;
}

#ifdef HAVE_LIBURING
static const char *uring_init(struct world *w)
{
	int ret;

	if (w->ring.ring_fd)
		return NULL;
	ret = io_uring_queue_init(4, &w->ring, 0);
	return ret ? strerror(-ret) : NULL;
}

static void uring_submit(struct world *w, bool write, bool fixed)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&w->ring);
	char *mem = mid(w->mem);

	must(sqe);
	if (fixed && write)
		io_uring_prep_write_fixed(sqe, w->pipe[1], mem, pgsz(), 0, 0);
	else if (fixed)
		io_uring_prep_read_fixed(sqe, w->pipe[0], mem, pgsz(), 0, 0);
	else if (write)
		io_uring_prep_write(sqe, w->pipe[1], mem, pgsz(), 0);
	else
		io_uring_prep_read(sqe, w->pipe[0], mem, pgsz(), 0);
	must(io_uring_submit(&w->ring) == 1);
}

static bool uring_wait(struct world *w)
{
	struct io_uring_cqe *cqe;
	bool ok;

	must(!io_uring_wait_cqe(&w->ring, &cqe));
	ok = cqe->res == (int)pgsz();
	if (!ok)
		fprintf(stderr, "# io_uring: %d\n", cqe->res);
	io_uring_cqe_seen(&w->ring, cqe);
	return ok;
}

/* The read waits for data while the test goes on. */
static const char *uring_start(struct world *w)
{
	const char *why = uring_init(w);

	if (!why)
		uring_submit(w, false, false);
	return why;
}

static bool uring_finish(struct world *w)
{
	CHECK(write(w->pipe[1], new_page(w), pgsz()) == (ssize_t)pgsz());
	return uring_wait(w);
}

static bool uring_fetch(struct world *w, char *buf)
{
	uring_submit(w, true, false);
	return uring_wait(w) && drain(w->pipe[0], buf, pgsz());
}

/* Registered memory stays pinned until the ring is gone. */
static const char *fixed_init(struct world *w)
{
	struct iovec iov = { mid(w->mem), pgsz() };
	bool again = w->ring.ring_fd;
	const char *why = uring_init(w);
	int ret;

	if (why || again)
		return why;
	ret = io_uring_register_buffers(&w->ring, &iov, 1);
	if (ret == -EOPNOTSUPP || ret == -EFAULT)
		return "this kernel pins no file mapping with page_mkwrite() for long";
	must(!ret);
	return NULL;
}

static const char *fixed_start(struct world *w)
{
	const char *why = fixed_init(w);

	if (!why)
		uring_submit(w, false, true);
	return why;
}

static bool fixed_fetch(struct world *w, char *buf)
{
	uring_submit(w, true, true);
	return uring_wait(w) && drain(w->pipe[0], buf, pgsz());
}
#else
static const char *no_uring(struct world *w)
{
	(void)w;
	return "built without liburing";
}
#endif

static const struct method methods[] = {
	{ "CPU", no_start, cpu_write, no_start, cpu_read },
	{ "write()", no_start, sys_write, no_start, sys_read },
	{ "vmsplice", no_start, vmsplice_write, vmsplice_pin, pipe_read },
	{ "O_DIRECT", direct_start, direct_finish, direct_start, direct_fetch },
	{ "process_vm", no_start, process_vm_write, no_start, process_vm_read },
	{ "/proc/self/mem", no_start, proc_mem_write, no_start, proc_mem_read },
#ifdef HAVE_LIBURING
	{ "io_uring", uring_start, uring_finish, uring_init, uring_fetch },
	{ "io_uring fixed", fixed_start, uring_finish, fixed_init, fixed_fetch },
#else
	{ "io_uring", no_uring, cpu_write, no_uring, cpu_read },
	{ "io_uring fixed", no_uring, cpu_write, no_uring, cpu_read },
#endif
};

/* ---- which leak ---- */

/*
 * The acting side writes: the other side must not see it; then the same with a
 * clone that is taken when the write has begun.
 */
static bool write_is_private(struct world *w, const struct method *m)
{
	uint64_t pages = w->tag ? PAGES : 1;
	bool alone = w->other < 0;
	int late;

	w->new_tag = 2;
	CHECK(!m->start(w));
	CHECK(m->finish(w));
	CHECK(region_is(w->fd, w->mem, w->tag, 2));
	CHECK(others_are(w, w->tag));
	/* One page was split, no more. */
	CHECK(holds(w->fd, alone ? pages : 1, alone ? 0 : pages - 1));

	w->new_tag = 3;
	CHECK(!m->start(w));
	late = cloned(w->fd);
	CHECK(region_is(w->fd, w->mem, w->tag, 2));
	CHECK(m->finish(w));
	CHECK(region_is(w->fd, w->mem, w->tag, 3));
	CHECK(region_is(late, NULL, w->tag, 2));
	CHECK(others_are(w, w->tag));
	return true;
}

/* The other side writes, CPU and write(), through whatever it has mapped. */
static void other_writes(struct world *w, uint32_t tag)
{
	char *buf = anon(1);

	pg_fill(buf, tag, MID);
	must(pwrite(w->other, buf, pgsz() / 2, MID * pgsz()) ==
	     (ssize_t)pgsz() / 2);
	pg_fill(mid(w->other_mem), tag, MID);
}

/*
 * The acting side looks, with a pin taken first where there is such a thing:
 * it must not see what the other side writes meanwhile.
 */
static bool read_is_private(struct world *w, const struct method *m)
{
	char *buf = anon(1);

	CHECK(!m->pin(w));
	/* Alone, or beside a snapshot: the other side is a clone taken now. */
	if (w->other < 0 || w->frozen) {
		if (w->frozen)
			w->keep[w->nr_keep++] = w->other;
		w->other = cloned(w->fd);
		w->other_mem = map_rw(w->other, PAGES);
		w->frozen = false;
	}
	other_writes(w, 4);
	CHECK(m->fetch(w, buf));
	CHECK(pg_is(buf, w->tag, MID));
	CHECK(region_is(w->fd, w->mem, w->tag, w->tag));
	CHECK(others_are(w, 4));

	/* Now that the other has its own page, this one is written here. */
	pg_fill(mid(w->mem), 5, MID);
	CHECK(region_is(w->fd, w->mem, w->tag, 5));
	CHECK(others_are(w, 4));
	other_writes(w, 6);
	CHECK(region_is(w->fd, w->mem, w->tag, 5));
	return true;
}

/*
 * CVE-2020-29374: the other side pins the shared page and goes away.  The
 * acting side seems to be alone then, but must not write in place.
 */
static bool gone_side_keeps_pin(struct world *w, const struct method *m)
{
	struct iovec iov;
	char *buf = anon(1);
	int pipes[2];

	if (w->other < 0) {
		w->other = cloned(w->fd);
		w->other_mem = map_rw(w->other, PAGES);
	}
	must(!pipe(pipes));
	iov.iov_base = mid(w->other_mem);
	iov.iov_len = pgsz();
	CHECK(vmsplice(pipes[1], &iov, 1, 0) == (ssize_t)pgsz());
	unmap(w->other_mem, PAGES);
	close(w->other);
	w->other = -1;

	w->new_tag = 2;
	CHECK(!m->start(w));
	CHECK(m->finish(w));
	CHECK(region_is(w->fd, w->mem, w->tag, 2));
	CHECK(others_are(w, 0));
	CHECK(drain(pipes[0], buf, pgsz()));
	CHECK(pg_is(buf, w->tag, MID));
	return true;
}

static const struct leak {
	const char *name;
	bool (*run)(struct world *w, const struct method *m);
} leaks[] = {
	{ "a write is not seen by the others", write_is_private },
	{ "a write of the others is not seen", read_is_private },
	{ "a write is not seen by a pin of one that is gone",
	  gone_side_keeps_pin },
};

/* Does a method work with a region at all?  If not, @why says why not. */
static bool works(const struct method *m, char *why, size_t size)
{
	*why = 0;
	must(!in_child({
		const char *reason;
		struct world w;

		make(&w, &kinds[0]);
		reason = m->start(&w);
		if (reason)
			snprintf(why, size, "%s", reason);
	}));
	return !*why;
}

/* Each cell has a process of its own. */
static void run(const char *name, const struct kind *kind,
		const struct method *m, const struct leak *leak)
{
	ksft_test_result(!in_child({
		struct world w;

		alarm(60);
		make(&w, kind);
		_exit(leak->run(&w, m) ? KSFT_PASS : KSFT_FAIL);
	}), "%s\n", name);
}

int main(int argc, char **argv)
{
	const char *filter = argc > 1 ? argv[1] : "";
	char (*missing)[256] = shared_mem(ARRAY_SIZE(methods) * 256);
	size_t k, m, l, pass, n = 0;
	char name[256];

	ksft_print_header();
	for (m = 0; m < ARRAY_SIZE(methods); m++)
		n += !works(&methods[m], missing[m], sizeof(missing[m]));
	for (pass = 0; pass < 2; pass++) {
		for (k = 0; k < ARRAY_SIZE(kinds); k++)
			for (m = 0; m < ARRAY_SIZE(methods); m++)
				for (l = 0; l < ARRAY_SIZE(leaks); l++) {
					snprintf(name, sizeof(name),
						 "%s: %s: %s", kinds[k].name,
						 methods[m].name,
						 leaks[l].name);
					if (*missing[m] || !strstr(name, filter))
						continue;
					if (pass)
						run(name, &kinds[k],
						    &methods[m], &leaks[l]);
					else
						n++;
				}
		if (!pass)
			ksft_set_plan(n);
	}
	/* One result for what would be a row of each kind. */
	for (m = 0; m < ARRAY_SIZE(methods); m++)
		if (*missing[m])
			ksft_test_result_skip("%s: %s\n", methods[m].name,
					      missing[m]);
	ksft_finished();
}
