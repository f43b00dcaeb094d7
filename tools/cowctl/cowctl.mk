# SPDX-License-Identifier: GPL-2.0-only
# cowctl: every file in cowctl/ is a part of it; its tests are in cowctl/test.

CTL_PACKAGES := jansson smartcols libtracefs libtraceevent libzstd libxxhash
CTL_CFLAGS := $(shell $(PKG_CONFIG) --cflags $(CTL_PACKAGES))
CTL_LIBS := $(shell $(PKG_CONFIG) --libs $(CTL_PACKAGES))

CTL_OBJS := $(patsubst $(S)/cowctl/%.c,$(B)/cowctl/%.o,$(wildcard $(S)/cowctl/*.c))
CTL_HEADERS := $(wildcard $(S)/cowctl/*.h) $(S)/lib/libcowmem.h $(S)/../uapi/linux/cowmem.h $(S)/../module/version.h
CTL := $(B)/bin/cowctl

$(B)/cowctl/%.o: $(S)/cowctl/%.c $(CTL_HEADERS)
	@mkdir -p $(@D)
	$(CC) $(ALL_CPPFLAGS) -I$(S)/../module $(CTL_CFLAGS) $(ALL_CFLAGS) -c -o $@ $<

# As it is installed: with the library beside, in LIBDIR.
$(CTL): $(CTL_OBJS) $(LIBCOWMEM_SO)
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $(CTL_OBJS) -L$(B) -lcowmem $(CTL_LIBS)

all: $(CTL)

.PHONY: install-cowctl
install: install-cowctl
install-cowctl: $(CTL)
	$(INSTALL) -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/bash-completion/completions
	$(INSTALL) $(CTL) $(DESTDIR)$(PREFIX)/bin/cowctl
	$(INSTALL) -m 644 $(S)/cowctl/cowctl.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/cowctl

# ---- tests: cowctl with the library in it, some programs, and scripts, all in one directory ----

CTL_TEST_PROGRAMS := $(patsubst $(S)/cowctl/test/%.c,$(B)/tests/%,$(wildcard $(S)/cowctl/test/*.c))
CTL_TEST_SCRIPTS := $(patsubst $(S)/cowctl/test/%.sh,$(B)/tests/cowctl-%,\
	$(filter-out %/lib.sh,$(wildcard $(S)/cowctl/test/*.sh)))

$(B)/tests/cowctl: $(CTL_OBJS) $(LIBCOWMEM_A)
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $(CTL_OBJS) $(LIBCOWMEM_A) $(CTL_LIBS)

$(CTL_TEST_PROGRAMS): $(B)/tests/%: $(S)/cowctl/test/%.c $(LIBCOWMEM_A)
	@mkdir -p $(@D)
	$(CC) $(ALL_CPPFLAGS) $(CTL_CFLAGS) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $< $(LIBCOWMEM_A) -ljansson

# The commands of the EXAMPLES of the pages are a part of the test that runs them.
CTL_PAGES := $(S)/man/man1/cowctl.1 $(patsubst %,$(S)/man/man1/cowctl-%.1,\
	list info create clone snapshot restore diff merge seal top doctor)

$(B)/tests/cowctl-examples: $(S)/cowctl/test/lib.sh $(S)/cowctl/test/examples.awk $(S)/cowctl/test/examples.sh $(CTL_PAGES)
	@mkdir -p $(@D)
	{ cat $< && awk -f $(S)/cowctl/test/examples.awk $(CTL_PAGES) && cat $(S)/cowctl/test/examples.sh; } >$@
	chmod +x $@

$(B)/tests/cowctl-vm: $(S)/cowctl/test/lib.sh $(S)/cowctl/test/examples.awk $(S)/cowctl/test/vm.sh $(S)/man/man1/cowctl-vm.1
	@mkdir -p $(@D)
	{ cat $< && awk -f $(S)/cowctl/test/examples.awk $(S)/man/man1/cowctl-vm.1 && cat $(S)/cowctl/test/vm.sh; } >$@
	chmod +x $@

$(filter-out %/cowctl-examples %/cowctl-vm,$(CTL_TEST_SCRIPTS)): $(B)/tests/cowctl-%: $(S)/cowctl/test/lib.sh $(S)/cowctl/test/%.sh
	@mkdir -p $(@D)
	cat $^ >$@
	chmod +x $@

$(B)/tests/cowctl.bash: $(S)/cowctl/cowctl.bash
	@mkdir -p $(@D)
	cp $< $@

HOST_TESTS += cowctl-missing cowctl-doctor cowctl-completion cowctl-vm-host
GUEST_TESTS += cowctl-verbs cowctl-doctor cowctl-top cowctl-examples cowctl-vm

tests: $(B)/tests/cowctl $(B)/tests/cowctl.bash $(CTL_TEST_PROGRAMS) $(CTL_TEST_SCRIPTS)

include $(S)/cowctl/stream.mk

# ---- each verb under valgrind ----

CTL_MEMCHECKS := $(if $(VALGRIND),memcheck-cowctl-each)
TESTS += $(CTL_MEMCHECKS)
GUEST_TESTS += $(CTL_MEMCHECKS)

# ---- some of them once more, with a cowctl that finds stray accesses, leaks, and what C does not define ----

CTL_SANITIZED_HOST := cowctl-missing stream-host
CTL_SANITIZED_GUEST := cowctl-each stream-examples
CTL_SANITIZED := $(CTL_SANITIZED_HOST) $(CTL_SANITIZED_GUEST)
CTL_SANITIZED_OBJS := $(patsubst $(B)/cowctl/%,$(B)/sanitized/cowctl/%,$(CTL_OBJS)) $(LIB_NAMES:%=$(B)/sanitized/lib/%.o)

$(B)/sanitized/%.o: $(S)/%.c $(CTL_HEADERS) $(LIB_HEADERS)
	@mkdir -p $(@D)
	$(CC) $(ALL_CPPFLAGS) -I$(S)/../module $(CTL_CFLAGS) $(ALL_CFLAGS) $(SANITIZE) -c -o $@ $<

# In a directory of its own, as it is ./cowctl that tests run, with links to all else that they want.
$(B)/tests/sanitized.d/cowctl: $(CTL_SANITIZED_OBJS)
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(SANITIZE) $(LDFLAGS) -o $@ $^ $(CTL_LIBS)
	ln -sf $(patsubst %,../%,$(notdir $(CTL_TEST_PROGRAMS)) stream-codec $(CTL_SANITIZED)) $(@D)

$(CTL_SANITIZED:%=$(B)/tests/sanitized-%): $(B)/tests/sanitized-%: $(S)/cowctl/test/sanitized $(B)/tests/% \
		$(B)/tests/sanitized.d/cowctl
	$(INSTALL) -m 755 $< $@

TESTS += $(CTL_SANITIZED:%=sanitized-%)
HOST_TESTS += $(CTL_SANITIZED_HOST:%=sanitized-%)
GUEST_TESTS += $(CTL_SANITIZED_GUEST:%=sanitized-%)
