# SPDX-License-Identifier: GPL-2.0-only
# libcowmem: $(LIBCOWMEM_A) and $(LIBCOWMEM_SO) are what programs link; its tests are in lib/test.

LIB_SONAME := libcowmem.so.1
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

TESTS += $(LIB_TESTS)
HOST_TESTS += $(filter lib-buf-small lib-absent,$(LIB_TESTS))
GUEST_TESTS += $(LIB_TESTS)
