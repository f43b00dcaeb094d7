# SPDX-License-Identifier: GPL-2.0-only
# Tests of send, receive, export and import.

STREAM_S := $(S)/cowctl/test/stream
STREAM_CFLAGS := -I$(S)/cowctl -I$(S)/lib/test -I$(B)/cowctl
STREAM_LIBS := $(shell $(PKG_CONFIG) --libs libzstd libxxhash)
STREAM_CODEC := $(S)/cowctl/stream.c
# A mistake that a hostile stream could use is one that these see.
STREAM_SANITIZE := -fsanitize=address,undefined -fno-sanitize-recover=undefined

# The worked example in the page is what the test compares with.
$(B)/cowctl/example.inc: $(S)/man/man5/cowmem-stream.5
	@mkdir -p $(@D)
	sed -n 's/^[0-9a-f]\{4\}: *\([0-9a-f ]*\)$$/\1/p' $< | sed 's/\([0-9a-f][0-9a-f]\)/0x\1,/g' >$@

$(B)/tests/stream-codec: $(STREAM_S)/codec.c $(B)/cowctl/example.inc
$(B)/tests/stream-fuzz: $(STREAM_S)/fuzz.c
$(B)/tests/stream-codec $(B)/tests/stream-fuzz: $(STREAM_CODEC) $(S)/cowctl/stream.h $(STREAM_S)/bytes.h \
		$(S)/lib/test/tap.h
	@mkdir -p $(@D)
	$(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) $(STREAM_SANITIZE) $(STREAM_CFLAGS) $(LDFLAGS) -o $@ \
		$(filter %.c,$^) $(STREAM_LIBS)

# Programs that run cowctl, and what they preload into it.
$(B)/tests/stream-verbs $(B)/tests/stream-resume: $(B)/tests/stream-%: $(STREAM_S)/%.c $(STREAM_S)/run.c $(STREAM_CODEC) \
		$(STREAM_S)/run.h $(STREAM_S)/bytes.h $(S)/cowctl/stream.h $(S)/lib/test/tap.h $(LIBCOWMEM_A)
	@mkdir -p $(@D)
	$(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) $(STREAM_CFLAGS) $(LDFLAGS) -o $@ $(filter %.c,$^) $(LIBCOWMEM_A) $(STREAM_LIBS)

$(B)/tests/stream-trap.so: $(STREAM_S)/trap.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) -fPIC -shared $(LDFLAGS) -o $@ $<

$(B)/tests/stream-verbs $(B)/tests/stream-resume: $(B)/tests/stream-trap.so

STREAM_PAGES := $(patsubst %,$(S)/man/man1/cowctl-%.1,send receive export import)

$(B)/tests/stream-examples: $(S)/cowctl/test/lib.sh $(S)/cowctl/test/examples.awk $(STREAM_S)/ssh.sh \
		$(S)/cowctl/test/examples.sh $(STREAM_PAGES)
	@mkdir -p $(@D)
	{ cat $< $(STREAM_S)/ssh.sh && awk -f $(S)/cowctl/test/examples.awk $(STREAM_PAGES) && \
		cat $(S)/cowctl/test/examples.sh; } >$@
	chmod +x $@

$(B)/tests/stream-host: $(S)/cowctl/test/lib.sh $(STREAM_S)/host.sh
	@mkdir -p $(@D)
	cat $^ >$@
	chmod +x $@

HOST_TESTS += stream-host stream-codec stream-fuzz
GUEST_TESTS += stream-verbs stream-resume stream-examples

TESTS += stream-host stream-codec stream-fuzz stream-verbs stream-resume stream-examples
