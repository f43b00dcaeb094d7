// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * What a copy of a cowmem_buf costs, beside one of a std::string
 *
 * A round copies a value, writes to a part of the copy's pages, all of each, and destroys the copy; or reads all of it.
 * Prints the median of the rounds in microseconds. In a guest of "scripts/vm --icount" a microsecond is 1,000
 * instructions, user's and kernel's, the same in each run. Content is in regions here whatever its size.
 *
 *	scripts/vm --icount build/tools/bench/buf
 */
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string>
#include <vector>

#include <libcowmem.hpp>

/* The library's own, see internal.h. */
extern "C" size_t cowmem_int_buf_region;

static const size_t page = sysconf(_SC_PAGESIZE);

enum what { NOTHING, READ, ONE, TENTH, ALL };
static const char *const names[] = { "copy", "read all", "1 page", "10 %", "all" };

static double now()
{
	timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

/* Writes every step-th page. */
static void write_pages(char *data, size_t size, size_t step, char byte)
{
	for (size_t at = 0; at < size; at += step * page)
		memset(data + at, byte, std::min(page, size - at));
}

static unsigned long sum(const char *data, size_t size)
{
	unsigned long sum = 0, word;

	for (size_t at = 0; at + sizeof(word) <= size; at += sizeof(word)) {
		memcpy(&word, data + at, sizeof(word));
		sum += word;
	}
	return sum;
}

struct with_string {
	std::string value;
	with_string(size_t size) : value(size, 'a') { }
	static char *writable(std::string &s) { return &s[0]; }
	static const char *readable(const std::string &s) { return s.data(); }
	typedef std::string type;
};

struct with_buf {
	cowmem::buf value;
	with_buf(size_t size) : value(std::string(size, 'a').data(), size) { }
	static char *writable(cowmem::buf &b) { return b.write(); }
	static const char *readable(const cowmem::buf &b) { return b.read(); }
	typedef cowmem::buf type;
};

template <typename T>
static void use(typename T::type &copy, size_t size, what w, char byte)
{
	static volatile unsigned long sink;

	switch (w) {
	case NOTHING:
		break;
	case READ:
		sink = sink + sum(T::readable(copy), size);
		break;
	case ONE:
		memset(T::writable(copy), byte, page);
		break;
	case TENTH:
		write_pages(T::writable(copy), size, 10, byte);
		break;
	case ALL:
		write_pages(T::writable(copy), size, 1, byte);
		break;
	}
}

/* A copy must be one: what was written is there, and not in the original. */
template <typename T>
static void check(const T &t, const typename T::type &copy, size_t size, what w, char byte)
{
	const char *then = T::readable(t.value), *now = T::readable(copy);

	if (then[0] != 'a' || then[size - 1] != 'a' || now[0] != (w >= ONE ? byte : 'a') ||
	    now[size - 1] != (w == ALL ? byte : 'a')) {
		fprintf(stderr, "a copy is wrong\n");
		exit(1);
	}
}

template <typename T>
static double measure(size_t size, what w, unsigned int rounds)
{
	std::vector<double> times;
	T t(size);

	for (unsigned int i = 0; i < rounds + 2; i++) {
		char byte = 'b' + i % 20;
		double start = now();
		typename T::type *copy = new typename T::type(t.value);

		use<T>(*copy, size, w, byte);
		double used = now() - start;

		check(t, *copy, size, w, byte);
		start = now();
		delete copy;
		if (i >= 2)
			times.push_back(used + now() - start);
	}
	std::nth_element(times.begin(), times.begin() + times.size() / 2, times.end());
	return times[times.size() / 2];
}

int main(int argc, char **argv)
{
	static const size_t all[] = { 16, 32, 64, 128, 256, 512, 1024, 4096, 65536 };
	std::vector<size_t> sizes;

	for (int i = 1; i < argc; i++)
		sizes.push_back(strtoul(argv[i], NULL, 0));
	if (sizes.empty())
		sizes.assign(all, all + sizeof(all) / sizeof(all[0]));
	cowmem_int_buf_region = 1;
	printf("%8s %-9s %12s %12s %8s\n", "KiB", "", "std::string", "cowmem_buf", "ratio");
	for (size_t i = 0; i < sizes.size(); i++)
		for (int w = NOTHING; w <= ALL; w++) {
			unsigned int rounds = sizes[i] > 8192 ? 5 : 31;
			double string = measure<with_string>(sizes[i] << 10, what(w), rounds);
			double buf = measure<with_buf>(sizes[i] << 10, what(w), rounds);

			printf("%8zu %-9s %12.1f %12.1f %8.2f\n", sizes[i], names[w], string, buf, buf / string);
			fflush(stdout);
		}
	return 0;
}
