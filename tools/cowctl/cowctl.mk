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
include $(S)/cowctl/stream.mk
