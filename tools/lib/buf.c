// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * cowmem_buf: values that share their content until they are written
 *
 * A value is a pointer to a content, which counts the values that point to it. A copy is one more of them. Who wants to
 * write gets the content if nobody else has it, and else makes a content of its own first: a clone of the region, whose
 * pages the module splits as they are written; or, of a small one, a copy.
 *
 * The order of accesses to the count: who lets go of a content releases, so that all it did with it is done; who finds
 * that it is alone acquires, and so writes, or frees, after that. One more value needs neither: it is made of one that
 * is there, and whoever hands it to another thread sees to the rest.
 *
 * fork() copies values and counts, but the regions are shared: the child has the same ones mapped. So after a fork no
 * content that was there before is written in place any more, on either side, though the count be 1: whoever wants to
 * write gets a clone, and lets go of the old one, which costs fork() nothing. What tells old from new is the
 * generation, which every fork raises in both processes. And while a fork is under way, from before the memory is
 * copied until after it, nothing is written in place: what is made meanwhile the child has or has not.
 */
#include <errno.h>
#include <pthread.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "internal.h"

struct content {
	atomic_size_t values;		/* how many point here */
	size_t size;
	char *data;
	int fd;				/* its region, -1: it is below, in small[] */
	size_t mapped;			/* bytes that are mapped at data */
	unsigned long generation;	/* in which the region was made */
	alignas(max_align_t) char small[];
};

struct cowmem_buf {
	struct content *content;
};

size_t cowmem_int_buf_region = COWMEM_BUF_REGION;

/* ---- fork ---- */

static atomic_ulong generation;
static atomic_uint forking;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static int no_handlers;			/* the errno of pthread_atfork() */

static void before_fork(void)
{
	atomic_fetch_add(&forking, 1);
}

static void after_in_parent(void)
{
	atomic_fetch_add(&generation, 1);
	atomic_fetch_sub(&forking, 1);
}

static void after_in_child(void)
{
	atomic_fetch_add(&generation, 1);
	/* Other threads that were about to fork are not here. */
	atomic_store(&forking, 0);
}

static void set_handlers(void)
{
	no_handlers = pthread_atfork(before_fork, after_in_parent, after_in_child);
}

/* No region is made before forks are noticed. */
static int notice_forks(void)
{
	pthread_once(&once, set_handlers);
	if (no_handlers)
		errno = no_handlers;
	return no_handlers ? -1 : 0;
}

/* ---- contents ---- */

static size_t whole_pages(size_t size)
{
	size_t page = sysconf(_SC_PAGESIZE);

	return (size + page - 1) & ~(page - 1);
}

/* May a value write here? No other one has it, in this process or another. */
static bool is_own(struct content *c)
{
	if (atomic_load_explicit(&c->values, memory_order_acquire) != 1)
		return false;
	return c->fd == -1 || (!atomic_load(&forking) && c->generation == atomic_load(&generation));
}

static void let_go(struct content *c)
{
	int saved = errno;

	/* The last one frees after all others have let go: it acquires what they released. */
	if (atomic_fetch_sub_explicit(&c->values, 1, memory_order_acq_rel) != 1)
		return;
	if (c->fd != -1) {
		munmap(c->data, c->mapped);
		close(c->fd);
	}
	free(c);
	errno = saved;
}

/* In ordinary memory, with anything in it. */
static struct content *small_content(size_t size)
{
	struct content *c;

	if (size > PTRDIFF_MAX - sizeof(*c)) {
		errno = ENOMEM;
		return NULL;
	}
	c = malloc(sizeof(*c) + size);
	if (!c)
		return NULL;
	atomic_init(&c->values, 1);
	c->size = size;
	c->data = c->small;
	c->fd = -1;
	return c;
}

/* The content of a region, of which @fd is now the content's. Fails also if @fd is -1: then errno is that of it. */
static struct content *region_content(int fd, size_t size, unsigned long born)
{
	struct content *c;

	if (fd == -1)
		return NULL;
	c = malloc(sizeof(*c));
	if (!c)
		goto close;
	atomic_init(&c->values, 1);
	c->size = size;
	c->mapped = whole_pages(size);
	c->data = cowmem_map(fd, 0, c->mapped, PROT_READ | PROT_WRITE);
	if (c->data == MAP_FAILED)
		goto free;
	c->fd = fd;
	c->generation = born;
	return c;
free:
	free(c);
close:
	cowmem_int_close(fd);
	return NULL;
}

static struct content *new_region(size_t size)
{
	unsigned long born = atomic_load(&generation);

	return notice_forks() ? NULL : region_content(cowmem_create("buf", size, 0), size, born);
}

/* All of it, by write(), which makes a region's pages without a fault for each. */
static int write_all(int fd, const char *data, size_t size)
{
	size_t done = 0;
	ssize_t bytes;

	while (done < size) {
		bytes = pwrite(fd, data + done, size - done, done);
		if (bytes < 0 && errno != EINTR)
			return -1;
		done += bytes > 0 ? bytes : 0;
	}
	return 0;
}

/* A new content of @size bytes, of which the first @used are at @data and the rest are zero. */
static struct content *content_of(const void *data, size_t used, size_t size)
{
	struct content *c;

	if (size > PTRDIFF_MAX) {
		errno = EFBIG;
		return NULL;
	}
	if (size >= cowmem_int_buf_region) {
		c = new_region(size);
		if (c && write_all(c->fd, data, used)) {
			let_go(c);
			return NULL;
		}
		return c;
	}
	c = small_content(size);
	if (c && used)
		memcpy(c->data, data, used);
	if (c)
		memset(c->data + used, 0, size - used);
	return c;
}

static struct content *copy_of(struct content *c)
{
	unsigned long born = atomic_load(&generation);

	if (c->fd != -1)
		return region_content(cowmem_clone(c->fd, 0), c->size, born);
	return content_of(c->data, c->size, c->size);
}

/* Let the content of a value be another one. */
static void replace(cowmem_buf *buf, struct content *c)
{
	let_go(buf->content);
	buf->content = c;
}

/* ---- values ---- */

/* A value of a content, which goes if that fails. */
static cowmem_buf *value_of(struct content *c)
{
	cowmem_buf *buf;

	if (!c)
		return NULL;
	buf = malloc(sizeof(*buf));
	if (!buf) {
		let_go(c);
		return NULL;
	}
	buf->content = c;
	return buf;
}

cowmem_buf *cowmem_buf_new(size_t size)
{
	return value_of(content_of(NULL, 0, size));
}

cowmem_buf *cowmem_buf_from(const void *data, size_t size)
{
	return value_of(content_of(data, size, size));
}

cowmem_buf *cowmem_buf_dup(const cowmem_buf *buf)
{
	atomic_fetch_add_explicit(&buf->content->values, 1, memory_order_relaxed);
	return value_of(buf->content);
}

size_t cowmem_buf_size(const cowmem_buf *buf)
{
	return buf->content->size;
}

const void *cowmem_buf_read(const cowmem_buf *buf)
{
	return buf->content->data;
}

int cowmem_buf_shared(const cowmem_buf *buf)
{
	return !is_own(buf->content);
}

void *cowmem_buf_write(cowmem_buf *buf)
{
	struct content *c;

	if (!is_own(buf->content)) {
		c = copy_of(buf->content);
		if (!c)
			return NULL;
		replace(buf, c);
	}
	return buf->content->data;
}

void cowmem_buf_free(cowmem_buf *buf)
{
	int saved = errno;

	if (!buf)
		return;
	let_go(buf->content);
	free(buf);
	errno = saved;
}

/* ---- size ---- */

/*
 * The region of a value's own content gets another size. If another thread forks meanwhile, the child has this value as
 * it was midway, as of any variable that was being written. To keep forks out takes a lock over our handlers, and then
 * those of the caller that run inside of them, and take locks of theirs, would wait for who resizes under these.
 */
static int resize_region(struct content *c, size_t size)
{
	size_t mapped = whole_pages(size), old = c->size;
	void *data;

	if (cowmem_resize(c->fd, size))
		return -1;
	data = mremap(c->data, c->mapped, mapped, MREMAP_MAYMOVE);
	if (data != MAP_FAILED) {
		c->data = data;
		c->mapped = mapped;
	} else if (mapped > c->mapped) {
		/* It cannot be mapped: as it was. What was added holds nothing yet, so that does not fail. */
		cowmem_resize(c->fd, old);
		errno = ENOMEM;
		return -1;
	}
	c->size = size;
	return 0;
}

int cowmem_buf_resize(cowmem_buf *buf, size_t size)
{
	struct content *old = buf->content, *c;

	if (size > PTRDIFF_MAX) {
		errno = EFBIG;
		return -1;
	}
	if (size == old->size)
		return 0;
	if (old->fd != -1 && size >= cowmem_int_buf_region)
		return cowmem_buf_write(buf) ? resize_region(buf->content, size) : -1;
	c = content_of(old->data, size < old->size ? size : old->size, size);
	if (!c)
		return -1;
	replace(buf, c);
	return 0;
}

/* ---- order ---- */

struct comparison {
	const char *a, *b;
	size_t size;		/* of the shorter one */
	int order;
};

static int compare_range(const struct cowmem_extent *extent, void *arg)
{
	struct comparison *cmp = arg;
	size_t length;

	if (extent->offset >= cmp->size)
		return 1;
	length = cmp->size - extent->offset;
	if (extent->length < length)
		length = extent->length;
	cmp->order = memcmp(cmp->a + extent->offset, cmp->b + extent->offset, length);
	return cmp->order != 0;
}

/* As memcmp(), of two regions. What they share, and what both have nothing in, is not read. */
static int compare_regions(struct content *a, struct content *b, size_t size)
{
	struct comparison cmp = { .a = a->data, .b = b->data, .size = size };
	int saved = errno;
	size_t first = whole_pages(1);

	/* The most are told apart here, and need no call. */
	if (first > size)
		first = size;
	cmp.order = memcmp(cmp.a, cmp.b, first);
	if (!cmp.order && cowmem_diff(a->fd, b->fd, 0, compare_range, &cmp) < 0)
		cmp.order = memcmp(cmp.a, cmp.b, size);
	errno = saved;
	return cmp.order;
}

int cowmem_buf_compare(const cowmem_buf *a, const cowmem_buf *b)
{
	struct content *x = a->content, *y = b->content;
	size_t size = x->size < y->size ? x->size : y->size;
	int order;

	if (x == y)
		return 0;
	if (x->fd != -1 && y->fd != -1)
		order = compare_regions(x, y, size);
	else
		order = memcmp(x->data, y->data, size);
	return order ? order : (x->size > y->size) - (x->size < y->size);
}
