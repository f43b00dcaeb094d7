# SPDX-License-Identifier: GPL-2.0-only
# libcowmem: $(LIBCOWMEM_A) and $(LIBCOWMEM_SO) are what programs link; its tests are in lib/test.

LIB_SONAME := libcowmem.so.$(firstword $(subst ., ,$(VERSION)))
LIB_REAL := libcowmem.so.$(VERSION)
LIBCOWMEM_A := $(B)/libcowmem.a
LIBCOWMEM_SO := $(B)/libcowmem.so

LIB_NAMES := $(notdir $(basename $(wildcard $(S)/lib/*.c)))
LIB_HEADERS := $(wildcard $(S)/lib/*.h) $(S)/../uapi/linux/cowmem.h $(S)/../module/version.h
LIB_OBJS := $(LIB_NAMES:%=$(B)/lib/%.o)

# One set of objects for both libraries: a static one has to fit into programs that are position-independent, too.
$(B)/lib/%.o: $(S)/lib/%.c $(LIB_HEADERS)
	@mkdir -p $(@D)
	$(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) -fPIC -c -o $@ $<

$(LIBCOWMEM_A): $(LIB_OBJS)
	rm -f $@
	$(AR) rcs $@ $^

$(B)/$(LIB_REAL): $(LIB_OBJS) $(S)/lib/libcowmem.map
	$(CC) $(ALL_CFLAGS) $(LDFLAGS) -shared -Wl,-soname,$(LIB_SONAME) -Wl,-z,defs \
		-Wl,--version-script,$(S)/lib/libcowmem.map -o $@ $(LIB_OBJS)

$(LIBCOWMEM_SO): $(B)/$(LIB_REAL)
	ln -sf $(LIB_REAL) $(B)/$(LIB_SONAME)
	ln -sf $(LIB_SONAME) $@

$(B)/libcowmem.pc: $(S)/lib/libcowmem.pc.in $(S)/../module/version.h FORCE
	@mkdir -p $(@D)
	sed 's|@PREFIX@|$(PREFIX)|; s|@LIBDIR@|$(LIBDIR)|; s|@VERSION@|$(VERSION)|' $< >$@

FORCE:
.PHONY: FORCE install-lib

all: $(LIBCOWMEM_A) $(LIBCOWMEM_SO) $(B)/libcowmem.pc

install: install-lib
install-lib: $(LIBCOWMEM_A) $(LIBCOWMEM_SO) $(B)/libcowmem.pc
	$(INSTALL) -d $(DESTDIR)$(LIBDIR)/pkgconfig $(DESTDIR)$(PREFIX)/include
	$(INSTALL) -m 644 $(LIBCOWMEM_A) $(B)/$(LIB_REAL) $(DESTDIR)$(LIBDIR)
	ln -sf $(LIB_REAL) $(DESTDIR)$(LIBDIR)/$(LIB_SONAME)
	ln -sf $(LIB_SONAME) $(DESTDIR)$(LIBDIR)/libcowmem.so
	$(INSTALL) -m 644 $(B)/libcowmem.pc $(DESTDIR)$(LIBDIR)/pkgconfig
	$(INSTALL) -m 644 $(wildcard $(S)/lib/libcowmem.h*) $(DESTDIR)$(PREFIX)/include

# ---- tests: each one program, linked with the static library, so that it runs wherever it is put ----

LIB_TESTS := $(patsubst $(S)/lib/test/%.c,lib-%,$(wildcard $(S)/lib/test/*.c))
LIB_TEST_SOURCES := $(wildcard $(S)/lib/test/*)

$(B)/tests/lib-%: $(S)/lib/test/%.c $(LIB_TEST_SOURCES) $(LIBCOWMEM_A)
	@mkdir -p $(@D)
	$(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) $(LDFLAGS) $(LIB_TEST_FLAGS_$*) -o $@ $< $(LIBCOWMEM_A)

# The wrapper, as old and new compilers see it; and the header by itself.
LIB_CXX_TESTS := lib-cxx98 lib-cxx11 lib-cxx20
$(B)/tests/lib-cxx%: $(S)/lib/test/cxx.cc $(S)/lib/libcowmem.hpp $(LIBCOWMEM_A)
	@mkdir -p $(@D)
	$(CXX) $(ALL_CPPFLAGS) -std=c++$* -pedantic $(ALL_CXXFLAGS) $(LDFLAGS) -o $@ $< $(LIBCOWMEM_A)

LIB_TESTS += $(LIB_CXX_TESTS)

# These stand between the library and the kernel.
LIB_TEST_FLAGS_old := -Wl,--wrap=ioctl
LIB_TEST_FLAGS_absent := -Wl,--wrap=open64
LIB_TEST_FLAGS_others := -Wl,--wrap=openat64

# The programs of the manual pages, and what these say that they print.
LIB_PAGES := $(notdir $(shell find $(S)/man/man3 -name '*.3' -type f))
LIB_EXAMPLES := $(LIB_PAGES:%.3=$(B)/tests/lib-examples.d/%.3.bin)
LIB_AWK := $(S)/man/test/unroff.awk $(S)/lib/test/examples.awk
LIB_EXTRACT := awk $(LIB_AWK:%=-f %)

$(B)/tests/lib-examples.d/%.3.bin: $(S)/man/man3/%.3 $(LIB_AWK) $(LIBCOWMEM_A)
	@mkdir -p $(@D) $(B)/examples
	$(LIB_EXTRACT) $< >$(B)/examples/$*.c
	$(LIB_EXTRACT) -v want=output $< >$@.out
	$(LIB_EXAMPLE_CC) $(LDFLAGS) -o $@ $(B)/examples/$*.c -x none $(LIBCOWMEM_A)

LIB_EXAMPLE_CC = $(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) -Wno-unused-result
$(B)/tests/lib-examples.d/libcowmem.hpp.3.bin: \
	LIB_EXAMPLE_CC = $(CXX) $(ALL_CPPFLAGS) -std=c++98 -pedantic $(ALL_CXXFLAGS) -x c++
$(B)/tests/lib-examples.d/libcowmem.hpp.3.bin: $(S)/lib/libcowmem.hpp

$(B)/tests/lib-examples: $(S)/lib/test/examples.sh $(LIB_EXAMPLES)
	$(INSTALL) -m 755 $< $@

# The shared library: one test once more with that, which lies beside it, and what it exports.
$(B)/tests/lib-shared: $(S)/lib/test/regions.c $(S)/lib/test/tap.h $(LIBCOWMEM_SO)
	@mkdir -p $(@D)
	$(INSTALL) -m 644 $(B)/$(LIB_REAL) $(@D)/$(LIB_SONAME)
	$(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) $(LDFLAGS) -Wl,-rpath,'$$ORIGIN' -o $@ $< $(LIBCOWMEM_SO)

$(B)/tests/lib-exports: $(S)/lib/test/exports.sh $(S)/lib/libcowmem.h $(LIBCOWMEM_SO)
	@mkdir -p $(@D)
	sed -n 's/^[a-z].*[ *]\(cowmem_[a-z_]*\)(.*/\1@@LIBCOWMEM_1.0/p' $(S)/lib/libcowmem.h | sort >$@.header
	$(NM) -D --defined-only $(LIBCOWMEM_SO) | awk '$$2 != "A" { print $$3 }' | sort >$@.library
	$(INSTALL) -m 755 $< $@

LIB_TESTS += lib-examples lib-shared lib-exports

# The library and its tests once more, with what finds stray accesses, leaks, and what C does not define.
SANITIZED := regions buf others old
SANITIZE := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined

$(B)/tests/sanitized-%: $(S)/lib/test/%.c $(LIB_TEST_SOURCES) $(LIB_NAMES:%=$(S)/lib/%.c) $(LIB_HEADERS)
	@mkdir -p $(@D)
	$(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) $(SANITIZE) $(LDFLAGS) $(LIB_TEST_FLAGS_$*) -o $@ \
		$< $(LIB_NAMES:%=$(S)/lib/%.c)

LIB_TESTS += $(SANITIZED:%=sanitized-%)

# One under valgrind, which knows of memory that was never set, too, but is slow, and does not know pidfd_open().
LIB_MEMCHECKS := $(if $(VALGRIND),memcheck-lib-regions)

$(B)/tests/memcheck-%: $(S)/lib/test/memcheck.sh $(B)/tests/% $(B)/tests/valgrind.options
	$(INSTALL) -m 755 $< $@

$(B)/tests/valgrind.options: $(S)/lib/test/valgrind.options
	@mkdir -p $(@D)
	cp $< $@

LIB_TESTS += $(LIB_MEMCHECKS)

# Two tests once more as 32-bit programs, if the compiler can: static, as guests have no libraries for those.
LIB_CAN_32 := $(shell echo 'int main(void) { return 0; }' | \
	$(CC32) -static -include asm/types.h -x c - -o /dev/null 2>/dev/null && echo y)

$(B)/tests/lib32-%: $(S)/lib/test/%.c $(LIB_TEST_SOURCES) $(LIB_NAMES:%=$(S)/lib/%.c) $(LIB_HEADERS)
	@mkdir -p $(@D)
	$(CC32) $(ALL_CPPFLAGS) $(ALL_CFLAGS) -static $(LDFLAGS) $(LIB_TEST_FLAGS_$*) -o $@ \
		$< $(LIB_NAMES:%=$(S)/lib/%.c)

LIB_TESTS += $(if $(LIB_CAN_32),lib32-regions lib32-old)

TESTS += $(LIB_TESTS)
HOST_TESTS += lib-buf-small lib-absent lib-exports
GUEST_TESTS += $(filter-out lib-exports,$(LIB_TESTS))

# ---- figures: see bench/buf.cc ----

bench: $(B)/bench/buf
$(B)/bench/%: $(S)/lib/bench/%.cc $(S)/lib/libcowmem.hpp $(LIBCOWMEM_A)
	@mkdir -p $(@D)
	$(CXX) $(ALL_CPPFLAGS) -std=c++11 $(ALL_CXXFLAGS) $(LDFLAGS) -o $@ $< $(LIBCOWMEM_A)
.PHONY: bench
