// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * The C++ wrapper: built for C++98, C++11 and C++20. Needs the module, and root.
 */
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dirent.h>
#include <fcntl.h>
#include <vector>

#include <libcowmem.hpp>

#define CHECK(cond) do {								\
	if (!(cond)) {									\
		std::printf("# %s:%d: %s\n", __FILE__, __LINE__, #cond);		\
		failed = true;								\
	}										\
} while (0)

static bool failed;
static const uint64_t page = sysconf(_SC_PAGESIZE);

static int count_fds()
{
	DIR *dir = opendir("/proc/self/fd");
	int nr = 0;

	while (readdir(dir))
		nr++;
	closedir(dir);
	return nr;
}

static int code_of(const cowmem::error &e)
{
#if __cplusplus >= 201103L
	return e.code().value();
#else
	return e.code();
#endif
}

static void put(const cowmem::region &region, char byte)
{
	CHECK(pwrite(region.fd(), &byte, 1, 0) == 1);
}

static char get(const cowmem::region &region)
{
	char byte = 0;

	CHECK(pread(region.fd(), &byte, 1, 0) == 1);
	return byte;
}

static void regions()
{
	cowmem::region live(cowmem::region::create("c++", 3 * page));

	put(live, 'a');
	cowmem::region before(live.snapshot()), copy(live.clone()), part(live.clone_range(page, 0)), empty;

	put(live, 'b');
	put(copy, 'c');
	CHECK(get(before) == 'a' && get(live) == 'b' && get(copy) == 'c');
	CHECK(part.size() == 2 * page);
	CHECK(live.restore(before) == 1);
	CHECK(get(live) == 'a');
	CHECK(live.restore_range(copy, 0, page) == 1);
	CHECK(get(live) == 'c');
	live.copy(page, before, 0, page);
	live.discard(0, 1);
	CHECK(get(live) == 0);
	live.resize(page);
	CHECK(live.info().size == page);
	empty = live.reopen("again", COWMEM_FILE_RDONLY);
	CHECK(empty.valid());
	live.seal(COWMEM_SEAL_WRITE);
	empty.swap(live);
	close(live.release());
	CHECK(!live.valid());
#if __cplusplus >= 201103L
	cowmem::region moved = std::move(empty);

	CHECK(moved.valid() && !empty.valid());
	empty = std::move(moved);
	CHECK(empty.valid());
	std::vector<cowmem::region> many;

	for (int i = 0; i < 10; i++)
		many.push_back(cowmem::region::create("many", 1));
#endif
}

static void errors()
{
	int code = 0;

	try {
		cowmem::region::create("x", 0, 1U << 31);
	} catch (const cowmem::error &e) {
		code = code_of(e);
		CHECK(std::string(e.what()) == std::string("cowmem_create: ") + cowmem_strerror(EINVAL));
	}
	CHECK(code == EINVAL);
	code = 0;
	try {
		cowmem::region none;

		none.snapshot();
	} catch (const std::runtime_error &e) {
		code = 1;
	}
	CHECK(code == 1);
}

/* Takes its argument by value. */
static char last_of(cowmem::buf b)
{
	b.write()[0] = 'z';
	return b[b.size() - 1];
}

static void bufs(size_t size)
{
	std::string text(size, 'x');
	cowmem::buf a(text.data(), size), b = a, c(size), d;

	CHECK(a == b && a.shared() && !c.shared() && d.empty());
	CHECK(a != c && c < a && d < c);
	b.write()[1] = 'y';
	CHECK(a[1] == 'x' && b[1] == 'y' && b[2] == 'x' && a < b);
	CHECK(last_of(a) == 'x' && a[0] == 'x');
	c = b;
	CHECK(c == b);
	c = *&c;
	c.resize(2 * size);
	CHECK(c.size() == 2 * size && c[size] == 0 && b < c);
	std::vector<cowmem::buf> many(20, a);

	many[3].write()[0] = '3';
	CHECK(many[2] == a && many[3] != a);
#if __cplusplus >= 201103L
	cowmem::buf moved = std::move(b);

	CHECK(moved[1] == 'y');
	b = std::move(moved);
	CHECK(b[1] == 'y');
#endif
}

int main()
{
	int before = count_fds();

	regions();
	errors();
	bufs(100);
	bufs(COWMEM_BUF_REGION + 5);
	CHECK(count_fds() == before);
	std::printf("%s 1 cxx %ld\n1..1\n", failed ? "not ok" : "ok", (long)__cplusplus);
	return failed;
}
