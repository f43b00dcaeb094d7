/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/*
 * libcowmem for C++: values that clean up after themselves
 *
 * Header only, from C++98 on; link libcowmem. What a call does is told in libcowmem.h, under the same name. Calls that
 * fail throw cowmem::error: a std::system_error from C++11 on, before that a std::runtime_error with a code() that is
 * the errno. What is not here, as cowmem_map() and cowmem_diff(), takes fd(). See libcowmem.hpp(3).
 *
 *	cowmem::region live(cowmem::region::create("heap", 64 << 20));
 *	cowmem::region then(live.snapshot());
 *
 *	cowmem::buf a(1 << 20), b = a;		// nothing is copied
 *	b.write()[0] = 'x';			// one page is
 */
#ifndef LIBCOWMEM_HPP
#define LIBCOWMEM_HPP

#include <cerrno>
#include <algorithm>
#include <stdexcept>
#include <string>
#include <unistd.h>

#if __cplusplus >= 201103L
#include <system_error>
#endif

#include <libcowmem.h>

namespace cowmem {

#if __cplusplus >= 201103L
class error : public std::system_error {
public:
	error(int code, const std::string &what) :
		std::system_error(code, std::generic_category()), what_(what) { }
	/* Not the category's words behind it once more: cowmem_strerror() has better ones. */
	const char *what() const noexcept override { return what_.c_str(); }
private:
	std::string what_;
};
#else
class error : public std::runtime_error {
public:
	error(int code, const std::string &what) : std::runtime_error(what), code_(code) { }
	int code() const { return code_; }
private:
	int code_;
};
#endif

/* Throws what errno says. */
inline void fail(const char *what)
{
	int code = errno;

	throw error(code, std::string(what) + ": " + cowmem_strerror(code));
}

inline int check(int result, const char *what)
{
	if (result == -1)
		fail(what);
	return result;
}

/*
 * A region, by a descriptor that is closed with the object. It is not copied, as nobody could tell whether that is the
 * same region or a clone: say reopen() or clone(). From C++11 on it is moved. Before that, calls return an owned, which
 * has to be given to a region: as an argument of its constructor, or assigned.
 */
class region {
public:
	region() : fd_(-1) { }
	/* Takes over a descriptor. */
	explicit region(int fd) : fd_(fd) { }
	~region() { reset(); }

#if __cplusplus >= 201103L
	typedef region owned;

	region(region &&other) noexcept : fd_(other.release()) { }
	region &operator=(region &&other) noexcept
	{
		if (this != &other)
			reset(other.release());
		return *this;
	}
	region(const region &) = delete;
	region &operator=(const region &) = delete;
#else
	struct owned {
		int fd;
		explicit owned(int fd) : fd(fd) { }
	};

	region(owned o) : fd_(o.fd) { }
	region &operator=(owned o)
	{
		reset(o.fd);
		return *this;
	}
#endif

	static owned create(const char *name, uint64_t size, unsigned int flags = 0)
	{
		return owned(check(cowmem_create(name, size, flags), "cowmem_create"));
	}

	int fd() const { return fd_; }
	bool valid() const { return fd_ != -1; }

	/* The descriptor is the caller's now. */
	int release()
	{
		int fd = fd_;

		fd_ = -1;
		return fd;
	}

	void reset(int fd = -1)
	{
		int saved = errno;

		if (fd_ != -1)
			close(fd_);
		fd_ = fd;
		errno = saved;
	}

	void swap(region &other) { std::swap(fd_, other.fd_); }

	owned reopen(const char *name = NULL, unsigned int flags = 0) const
	{
		return owned(check(cowmem_reopen(fd_, name, flags), "cowmem_reopen"));
	}
	owned clone(unsigned int flags = 0) const
	{
		return owned(check(cowmem_clone(fd_, flags), "cowmem_clone"));
	}
	owned snapshot() const { return owned(check(cowmem_snapshot(fd_), "cowmem_snapshot")); }
	owned clone_range(uint64_t offset, uint64_t length, unsigned int flags = 0) const
	{
		return owned(check(cowmem_clone_range(fd_, offset, length, flags), "cowmem_clone_range"));
	}

	/* The number of pages that differed. */
	uint64_t restore(const region &from, unsigned int flags = 0)
	{
		uint64_t pages = 0;

		check(cowmem_restore(fd_, from.fd_, flags, &pages), "cowmem_restore");
		return pages;
	}
	uint64_t restore_range(const region &from, uint64_t offset, uint64_t length)
	{
		uint64_t pages = 0;

		check(cowmem_restore_range(fd_, from.fd_, offset, length, &pages), "cowmem_restore_range");
		return pages;
	}
	void resize(uint64_t size) { check(cowmem_resize(fd_, size), "cowmem_resize"); }
	void discard(uint64_t offset, uint64_t length)
	{
		check(cowmem_discard(fd_, offset, length), "cowmem_discard");
	}
	void copy(uint64_t offset, const region &from, uint64_t from_offset, uint64_t length)
	{
		check(cowmem_copy(fd_, offset, from.fd_, from_offset, length), "cowmem_copy");
	}
	void seal(unsigned int seals) { check(cowmem_seal(fd_, seals), "cowmem_seal"); }

	cowmem_info info() const
	{
		cowmem_info info;

		check(cowmem_get_info(fd_, &info), "cowmem_get_info");
		return info;
	}
	uint64_t size() const { return info().size; }

private:
#if __cplusplus < 201103L
	region(const region &);
	region &operator=(const region &);
#endif
	int fd_;
};

/* A buffer that is passed by value: copies share their content until one of them is written. */
class buf {
public:
	explicit buf(size_t size = 0) : buf_(made(cowmem_buf_new(size), "cowmem_buf_new")) { }
	buf(const void *data, size_t size) : buf_(made(cowmem_buf_from(data, size), "cowmem_buf_from")) { }
	buf(const buf &other) : buf_(made(cowmem_buf_dup(other.buf_), "cowmem_buf_dup")) { }
	~buf() { cowmem_buf_free(buf_); }

	buf &operator=(const buf &other)
	{
		buf copy(other);

		swap(copy);
		return *this;
	}

#if __cplusplus >= 201103L
	/* What is left of the other one can only be assigned to and destroyed. */
	buf(buf &&other) noexcept : buf_(other.buf_) { other.buf_ = NULL; }
	buf &operator=(buf &&other) noexcept
	{
		swap(other);
		return *this;
	}
#endif

	void swap(buf &other) { std::swap(buf_, other.buf_); }

	size_t size() const { return cowmem_buf_size(buf_); }
	bool empty() const { return !size(); }
	bool shared() const { return cowmem_buf_shared(buf_); }

	const char *read() const { return static_cast<const char *>(cowmem_buf_read(buf_)); }
	char operator[](size_t offset) const { return read()[offset]; }

	/* Valid until this is copied, and until fork(). */
	char *write() { return static_cast<char *>(made(cowmem_buf_write(buf_), "cowmem_buf_write")); }
	void resize(size_t size) { check(cowmem_buf_resize(buf_, size), "cowmem_buf_resize"); }

	int compare(const buf &other) const { return cowmem_buf_compare(buf_, other.buf_); }

private:
	template <typename T>
	static T *made(T *result, const char *what)
	{
		if (!result)
			fail(what);
		return result;
	}

	cowmem_buf *buf_;
};

inline bool operator==(const buf &a, const buf &b) { return a.size() == b.size() && !a.compare(b); }
inline bool operator!=(const buf &a, const buf &b) { return !(a == b); }
inline bool operator<(const buf &a, const buf &b) { return a.compare(b) < 0; }

} /* namespace cowmem */

#endif /* LIBCOWMEM_HPP */
