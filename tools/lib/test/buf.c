// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * cowmem_buf: values are values, whoever shares their content
 *
 * Built a second time with SMALL, as lib-buf-small: then all content is in ordinary memory, which needs no module.
 */
#include <pthread.h>
#include <sys/resource.h>

#include "../internal.h"
#include "tap.h"

#ifndef SMALL
#define SMALL	0
#endif

#define PAGE	page_size()

static size_t size_of_all;		/* of the values of a case */
#if !SMALL
static size_t default_region;
#endif

static cowmem_buf *filled(char byte)
{
	cowmem_buf *buf = cowmem_buf_new(size_of_all);
	char *data;

	CHECK(buf);
	data = cowmem_buf_write(buf);
	CHECK(data);
	memset(data, byte, size_of_all);
	return buf;
}

static int at(const cowmem_buf *buf, size_t offset)
{
	return ((const char *)cowmem_buf_read(buf))[offset];
}

static bool all_are(const cowmem_buf *buf, size_t from, size_t to, char byte)
{
	const char *data = cowmem_buf_read(buf);

	return from >= to || (data[from] == byte && !memcmp(data + from, data + from + 1, to - from - 1));
}

static void set(cowmem_buf *buf, size_t offset, char byte)
{
	char *data = cowmem_buf_write(buf);

	CHECK(data);
	data[offset] = byte;
}

static cowmem_buf *dup_of(const cowmem_buf *buf)
{
	cowmem_buf *copy = cowmem_buf_dup(buf);

	CHECK(copy);
	return copy;
}

static void values(void)
{
	cowmem_buf *a = filled('a'), *b, *c;

	EQUAL(cowmem_buf_size(a), size_of_all);
	EQUAL(cowmem_buf_shared(a), 0);
	b = dup_of(a);
	c = dup_of(b);
	EQUAL(cowmem_buf_shared(a), 1);
	CHECK(cowmem_buf_read(a) == cowmem_buf_read(c));
	set(b, 5, 'b');
	EQUAL(at(a, 5), 'a');
	EQUAL(at(b, 5), 'b');
	EQUAL(at(b, 6), 'a');
	EQUAL(at(c, 5), 'a');
	EQUAL(cowmem_buf_shared(b), 0);
	EQUAL(cowmem_buf_shared(a), 1);
	cowmem_buf_free(a);
	EQUAL(cowmem_buf_shared(c), 0);
	/* The last one writes in place. */
	CHECK(cowmem_buf_read(c) == cowmem_buf_write(c));
	set(c, 5, 'c');
	EQUAL(at(b, 5), 'b');
	cowmem_buf_free(b);
	EQUAL(at(c, 5), 'c');
	errno = 123;
	cowmem_buf_free(c);
	cowmem_buf_free(NULL);
	EQUAL(errno, 123);
}

static void from(void)
{
	char *data = malloc(size_of_all + 1);
	cowmem_buf *buf;

	memset(data, 'x', size_of_all + 1);
	data[size_of_all] = 'y';
	buf = cowmem_buf_from(data, size_of_all + 1);
	CHECK(buf);
	EQUAL(cowmem_buf_size(buf), size_of_all + 1);
	CHECK(!memcmp(cowmem_buf_read(buf), data, size_of_all + 1));
	cowmem_buf_free(buf);
	buf = cowmem_buf_from(NULL, 0);
	CHECK(buf && cowmem_buf_read(buf) && cowmem_buf_write(buf));
	EQUAL(cowmem_buf_size(buf), 0);
	cowmem_buf_free(buf);
	free(data);
}

static void zeroes(void)
{
	cowmem_buf *buf = cowmem_buf_new(size_of_all);

	CHECK(all_are(buf, 0, size_of_all, 0));
	cowmem_buf_free(buf);
}

static void sizes(void)
{
	const size_t list[] = { 0, 100, PAGE + 1, 4 * PAGE - 1, 4 * PAGE, 4 * PAGE + 1, 70 * PAGE };
	size_t i, j, nr = sizeof(list) / sizeof(list[0]);

	if (!SMALL)
		cowmem_int_buf_region = 4 * PAGE;
	for (i = 0; i < nr; i++)
		for (j = 0; j < 2 * nr; j++) {
			size_t old = list[i], new = list[j / 2], least = old < new ? old : new;
			cowmem_buf *buf = cowmem_buf_new(old), *copy = NULL;

			CHECK(buf);
			memset(cowmem_buf_write(buf), 'x', old);
			if (j & 1)
				copy = dup_of(buf);
			EQUAL(cowmem_buf_resize(buf, new), 0);
			EQUAL(cowmem_buf_size(buf), new);
			CHECK(all_are(buf, 0, least, 'x') && all_are(buf, least, new, 0));
			/* What was cut off is not what comes when it grows again. */
			EQUAL(cowmem_buf_resize(buf, old), 0);
			CHECK(all_are(buf, least, old, 0));
			if (new)
				memset(cowmem_buf_write(buf), 'y', least);
			CHECK(!copy || all_are(copy, 0, old, 'x'));
			cowmem_buf_free(copy);
			cowmem_buf_free(buf);
		}
}

static int last_region(const struct cowmem_found *found, void *arg)
{
	*(int *)arg = found->fd;
	return 0;
}

/* Of the only region that there is. */
static struct cowmem_info info_of_region(void)
{
	struct cowmem_info info;
	int fd = -1;

	EQUAL(cowmem_find(0, last_region, &fd), 0);
	EQUAL(cowmem_get_info(fd, &info), 0);
	return info;
}

static void too_large(void)
{
	cowmem_buf *buf = filled('a');

	CHECK(!cowmem_buf_new(SIZE_MAX) && errno == EFBIG);
	ERRNO(cowmem_buf_resize(buf, SIZE_MAX), EFBIG);
	/* In 32 bits there may be room for that. */
	if (!SMALL && sizeof(size_t) > sizeof(uint32_t)) {
		ERRNO(cowmem_buf_resize(buf, PTRDIFF_MAX - 2 * PAGE), ENOMEM);
		EQUAL(info_of_region().size, size_of_all);
	}
	EQUAL(cowmem_buf_size(buf), size_of_all);
	EQUAL(at(buf, size_of_all - 1), 'a');
	set(buf, 0, 'b');
	cowmem_buf_free(buf);
}

static int sign(int order)
{
	return (order > 0) - (order < 0);
}

static void compare(void)
{
	cowmem_buf *a = filled('a'), *b = dup_of(a), *other = filled('a');
	size_t i;

	EQUAL(cowmem_buf_compare(a, b), 0);
	EQUAL(cowmem_buf_compare(a, other), 0);
	/* About four places in each page. */
	for (i = 0; i < size_of_all; i += PAGE / 4 - 24) {
		cowmem_buf *c = dup_of(a);

		set(c, i, 'b');
		EQUAL(sign(cowmem_buf_compare(a, c)), -1);
		EQUAL(sign(cowmem_buf_compare(c, a)), 1);
		EQUAL(sign(cowmem_buf_compare(c, other)), 1);
		set(c, i, 'a');
		EQUAL(cowmem_buf_compare(c, a), 0);
		cowmem_buf_free(c);
	}
	/* The first byte that differs decides, and bytes have no sign. */
	set(b, 5000, '\xff');
	set(b, 9000, 'A');
	EQUAL(sign(cowmem_buf_compare(b, a)), 1);
	set(b, 5000, 'a');
	EQUAL(sign(cowmem_buf_compare(b, a)), -1);
	set(b, 9000, 'a');
	/* A shorter one that the other begins with is less. */
	EQUAL(cowmem_buf_resize(b, size_of_all + 1), 0);
	EQUAL(sign(cowmem_buf_compare(a, b)), -1);
	EQUAL(sign(cowmem_buf_compare(b, a)), 1);
	EQUAL(cowmem_buf_resize(b, 1), 0);
	EQUAL(sign(cowmem_buf_compare(b, a)), -1);
	cowmem_buf_free(a);
	cowmem_buf_free(b);
	cowmem_buf_free(other);
}

/* ---- random operations against arrays ---- */

#define VALUES	8
#define MOST	(12 * PAGE)

struct model {
	cowmem_buf *buf;
	size_t size;
	char *data;		/* MOST bytes */
};

static void check_all(struct model *m)
{
	int i;

	for (i = 0; i < VALUES; i++) {
		EQUAL(cowmem_buf_size(m[i].buf), m[i].size);
		if (memcmp(cowmem_buf_read(m[i].buf), m[i].data, m[i].size))
			FAIL("value %d differs", i);
	}
}

static void model_resize(struct model *m, size_t size)
{
	EQUAL(cowmem_buf_resize(m->buf, size), 0);
	if (size > m->size)
		memset(m->data + m->size, 0, size - m->size);
	m->size = size;
}

static int model_order(const struct model *a, const struct model *b)
{
	int order = memcmp(a->data, b->data, a->size < b->size ? a->size : b->size);

	return order ? sign(order) : (a->size > b->size) - (a->size < b->size);
}

static void model_step(struct model *m)
{
	struct model *a = &m[random() % VALUES], *b = &m[random() % VALUES];
	size_t offset = a->size ? random() % a->size : 0;
	char byte = random() % 3;

	switch (random() % 4) {
	case 0:
		if (a != b) {
			cowmem_buf_free(a->buf);
			a->buf = dup_of(b->buf);
			a->size = b->size;
			memcpy(a->data, b->data, MOST);
		}
		break;
	case 1:
		model_resize(a, random() % MOST);
		break;
	case 2:
		EQUAL(sign(cowmem_buf_compare(a->buf, b->buf)), model_order(a, b));
		break;
	default:
		if (a->size) {
			set(a->buf, offset, byte);
			a->data[offset] = byte;
		}
	}
}

static void as_arrays(void)
{
	static struct model m[VALUES];
	unsigned int i;

	if (!SMALL)
		cowmem_int_buf_region = 4 * PAGE;
	srandom(17);
	for (i = 0; i < VALUES; i++) {
		m[i].buf = cowmem_buf_new(0);
		m[i].data = calloc(1, MOST);
		CHECK(m[i].buf && m[i].data);
	}
	for (i = 0; i < effort(10000); i++) {
		model_step(m);
		if (!(i % 50))
			check_all(m);
	}
	check_all(m);
	for (i = 0; i < VALUES; i++) {
		cowmem_buf_free(m[i].buf);
		free(m[i].data);
	}
}

/* ---- threads ---- */

#define THREADS	4

static cowmem_buf *common;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* Values that share their content with those of other threads: each sees what it wrote and nothing else. */
static void *user(void *arg)
{
	char mark = 'A' + (char)(uintptr_t)arg;
	cowmem_buf *mine, *old;
	unsigned int i;

	for (i = 0; i < effort(1500); i++) {
		size_t offset = (i * 1031) % size_of_all;

		pthread_mutex_lock(&lock);
		mine = dup_of(common);
		pthread_mutex_unlock(&lock);
		old = dup_of(mine);
		set(mine, offset, mark);
		EQUAL(at(mine, offset), mark);
		if (at(old, offset) != mark && !cowmem_buf_compare(mine, old))
			FAIL("a difference is not seen");
		cowmem_buf_free(old);
		/* Now and then what one wrote is what all get. */
		if (!(i % 7)) {
			pthread_mutex_lock(&lock);
			old = common;
			common = mine;
			pthread_mutex_unlock(&lock);
			mine = old;
		}
		cowmem_buf_free(mine);
	}
	return NULL;
}

static void threads(void)
{
	pthread_t threads[THREADS];
	uintptr_t i;

	common = filled('a');
	for (i = 0; i < THREADS; i++)
		EQUAL(pthread_create(&threads[i], NULL, user, (void *)i), 0);
	for (i = 0; i < THREADS; i++)
		EQUAL(pthread_join(threads[i], NULL), 0);
	cowmem_buf_free(common);
}

/* The last of two values to go frees, whichever it is, and the one that is left writes in place. */
static void *writer(void *arg)
{
	cowmem_buf *buf = arg;

	set(buf, 0, 'w');
	EQUAL(at(buf, 0), 'w');
	cowmem_buf_free(buf);
	return NULL;
}

static void last_of_two(void)
{
	pthread_t thread;
	unsigned int i;

	for (i = 0; i < effort(300); i++) {
		cowmem_buf *a = filled('a'), *b = dup_of(a);

		EQUAL(pthread_create(&thread, NULL, writer, b), 0);
		EQUAL(at(a, 0), 'a');
		set(a, 0, 'x');
		EQUAL(at(a, 0), 'x');
		cowmem_buf_free(a);
		EQUAL(pthread_join(thread, NULL), 0);
	}
}

/* ---- fork ---- */

static void tell_and_wait(int to, int from)
{
	char byte;

	EQUAL(write(to, "", 1), 1);
	EQUAL(read(from, &byte, 1), 1);
}

static void end_of(pid_t pid)
{
	int status;

	EQUAL(waitpid(pid, &status, 0), pid);
	EQUAL(status, 0);
}

/* Both write, in turns, what the other must not see. */
static void across_fork(void)
{
	int down[2], up[2], i;
	cowmem_buf *a = filled('a'), *b = dup_of(a), *own = filled('o');
	pid_t pid;

	EQUAL(pipe(down), 0);
	EQUAL(pipe(up), 0);
	pid = child();
	/* Who fails closes the other one's pipe. */
	close(pid ? down[0] : down[1]);
	close(pid ? up[1] : up[0]);
	for (i = 0; i < 3; i++) {
		if (!pid) {
			set(own, i, 'c');
			set(a, i, 'c');
			tell_and_wait(up[1], down[0]);
			EQUAL(at(own, i), 'c');
			EQUAL(at(own, i + 10), 'o');
			EQUAL(at(a, i + 10), 'a');
			EQUAL(at(b, i), 'a');
		} else {
			set(own, i + 10, 'p');
			set(b, i + 10, 'p');
			tell_and_wait(down[1], up[0]);
			EQUAL(at(own, i), 'o');
			EQUAL(at(own, i + 10), 'p');
			EQUAL(at(b, i), 'a');
			EQUAL(at(a, i + 10), 'a');
		}
	}
	cowmem_buf_free(a);
	cowmem_buf_free(b);
	EQUAL(at(own, 20), 'o');
	cowmem_buf_free(own);
	if (!pid)
		_exit(0);
	end_of(pid);
	close(down[1]);
	close(up[0]);
}

/* A value that was not copied is shared by fork, until it was written; grandchildren, too. */
static void generations(void)
{
	cowmem_buf *buf = filled('a');
	pid_t pid;

	EQUAL(cowmem_buf_shared(buf), 0);
	pid = child();
	if (!pid) {
		EQUAL(cowmem_buf_shared(buf), !SMALL);
		pid = child();
		if (!pid) {
			set(buf, 0, 'g');
			EQUAL(cowmem_buf_shared(buf), 0);
			EQUAL(cowmem_buf_resize(buf, 5 * size_of_all), 0);
			cowmem_buf_free(buf);
			_exit(0);
		}
		end_of(pid);
		EQUAL(at(buf, 0), 'a');
		EQUAL(cowmem_buf_resize(buf, 1), 0);
		cowmem_buf_free(buf);
		_exit(0);
	}
	end_of(pid);
	EQUAL(at(buf, 0), 'a');
	EQUAL(at(buf, size_of_all - 1), 'a');
	EQUAL(cowmem_buf_size(buf), size_of_all);
	EQUAL(cowmem_buf_shared(buf), !SMALL);
	set(buf, 0, 'b');
	EQUAL(cowmem_buf_shared(buf), 0);
	CHECK(cowmem_buf_read(buf) == cowmem_buf_write(buf));
	cowmem_buf_free(buf);
}

static volatile bool stop;

/* Counts in two places, always under the lock, which a fork takes as well: so a child sees them equal, for good. */
static void *counter(void *arg)
{
	cowmem_buf *buf = arg;
	unsigned int i;

	for (i = 1; !stop; i++) {
		unsigned int *words;

		pthread_mutex_lock(&lock);
		words = cowmem_buf_write(buf);
		CHECK(words);
		words[0] = i;
		words[5 * PAGE / sizeof(*words)] = i;
		pthread_mutex_unlock(&lock);
	}
	return NULL;
}

static void take_lock(void)
{
	pthread_mutex_lock(&lock);
}

static void give_lock(void)
{
	pthread_mutex_unlock(&lock);
}

static void check_in_child(cowmem_buf *buf)
{
	const volatile unsigned int *words = cowmem_buf_read(buf);
	unsigned int first = words[0], i;

	for (i = 0; i < 200; i++) {
		if (words[0] != first || words[5 * PAGE / sizeof(*words)] != first)
			FAIL("%u, then %u and %u", first, words[0], words[5 * PAGE / sizeof(*words)]);
		usleep(10);
	}
	cowmem_buf_free(buf);
	_exit(0);
}

static void fork_while_written(void)
{
	cowmem_buf *buf = filled(0);
	pthread_t thread;
	unsigned int i;
	pid_t pid;

	EQUAL(pthread_atfork(take_lock, give_lock, give_lock), 0);
	EQUAL(pthread_create(&thread, NULL, counter, buf), 0);
	for (i = 0; i < effort(60); i++) {
		pid = child();
		if (!pid)
			check_in_child(buf);
		end_of(pid);
	}
	stop = true;
	EQUAL(pthread_join(thread, NULL), 0);
	cowmem_buf_free(buf);
}

static cowmem_buf *in_window;

static void write_in_window(void)
{
	set(in_window, 0, at(in_window, 0) + 1);
}

/*
 * Handlers that were set before the library's own run inside of them: between those and the fork they get a content
 * that the child will have, and behind the fork they must not write it in place.
 */
static void written_by_fork_handlers(void)
{
	int go[2];
	char byte;
	pid_t pid;

	EQUAL(pipe(go), 0);
	EQUAL(pthread_atfork(write_in_window, write_in_window, NULL), 0);
	in_window = filled(0);
	pid = child();
	if (!pid) {
		close(go[1]);
		EQUAL(read(go[0], &byte, 1), 1);
		EQUAL(at(in_window, 0), 1);
		_exit(0);
	}
	EQUAL(at(in_window, 0), 2);
	EQUAL(write(go[1], "", 1), 1);
	end_of(pid);
	set(in_window, 1, 1);
	EQUAL(cowmem_buf_shared(in_window), 0);
	cowmem_buf_free(in_window);
	close(go[0]);
	close(go[1]);
}

#if !SMALL
/* ---- what only regions have ---- */

static void no_descriptor(void)
{
	cowmem_buf *a = filled('a'), *b = dup_of(a);
	struct rlimit old, few;

	want_limits();
	EQUAL(getrlimit(RLIMIT_NOFILE, &old), 0);
	few = old;
	few.rlim_cur = 3;
	EQUAL(setrlimit(RLIMIT_NOFILE, &few), 0);
	CHECK(!cowmem_buf_write(b) && errno == EMFILE);
	ERRNO(cowmem_buf_resize(b, 2 * size_of_all), EMFILE);
	CHECK(!cowmem_buf_new(size_of_all) && errno == EMFILE);
	EQUAL(at(b, 0), 'a');
	EQUAL(cowmem_buf_size(b), size_of_all);
	EQUAL(cowmem_buf_shared(b), 1);
	EQUAL(setrlimit(RLIMIT_NOFILE, &old), 0);
	set(b, 0, 'b');
	EQUAL(at(a, 0), 'a');
	cowmem_buf_free(a);
	cowmem_buf_free(b);
}

/* A copy takes no memory, and a write of a page that page. */
static void only_pages_written(void)
{
	cowmem_buf *a = filled('a'), *b = dup_of(a);
	struct cowmem_info info;

	set(b, 3 * PAGE, 'b');
	info = info_of_region();
	EQUAL(info.pages_populated, size_of_all / PAGE);
	EQUAL(info.pages_exclusive, 1);
	cowmem_buf_free(a);
	cowmem_buf_free(b);
}

/* The boundary is where the header says. */
static void boundary(void)
{
	cowmem_buf *small, *large;
	int before = count_fds();

	EQUAL(default_region, COWMEM_BUF_REGION);
	cowmem_int_buf_region = default_region;
	small = cowmem_buf_new(COWMEM_BUF_REGION - 1);
	EQUAL(count_fds(), before);
	large = cowmem_buf_new(COWMEM_BUF_REGION);
	EQUAL(count_fds(), before + 1);
	EQUAL(cowmem_buf_resize(large, COWMEM_BUF_REGION - 1), 0);
	EQUAL(count_fds(), before);
	cowmem_buf_free(small);
	cowmem_buf_free(large);
}

#endif

static const struct test tests[] = {
	{ "values", values },
	{ "from", from },
	{ "zeroes", zeroes },
	{ "sizes", sizes },
	{ "too_large", too_large },
	{ "compare", compare },
	{ "as_arrays", as_arrays },
	{ "threads", threads },
	{ "last_of_two", last_of_two },
	{ "across_fork", across_fork },
	{ "generations", generations },
	{ "fork_while_written", fork_while_written },
	{ "written_by_fork_handlers", written_by_fork_handlers },
#if !SMALL
	{ "no_descriptor", no_descriptor },
	{ "only_pages_written", only_pages_written },
	{ "boundary", boundary },
#endif
	{ NULL, NULL }
};

int main(int argc, char **argv)
{
	size_of_all = 64 * PAGE;
#if SMALL
	cowmem_int_buf_region = SIZE_MAX;
#else
	default_region = cowmem_int_buf_region;
	cowmem_int_buf_region = 32 * PAGE;
#endif
	return run_tests(tests, argc, argv);
}
