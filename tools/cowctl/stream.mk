# SPDX-License-Identifier: GPL-2.0-only
# Tests of send, receive, export and import.

STREAM_TESTS := $(B)/test/stream-codec $(B)/test/stream-fuzz
STREAM_GUEST_TESTS := $(B)/test/stream-verbs
STREAM_CFLAGS := -I$(S)/cowctl -I$(S)/lib/test -I$(B)/cowctl
STREAM_LIBS := -lzstd -lxxhash

# The worked example in the page is what the test compares with.
$(B)/cowctl/example.inc: $(S)/man/man5/cowmem-stream.5
	@mkdir -p $(@D)
	sed -n 's/^[0-9a-f]\{4\}: *\([0-9a-f ]*\)$$/\1/p' $< | sed 's/\([0-9a-f][0-9a-f]\)/0x\1,/g' >$@

$(B)/test/stream-codec: $(S)/cowctl/test/codec.c $(S)/cowctl/stream.c $(S)/cowctl/stream.h $(B)/cowctl/example.inc
	@mkdir -p $(@D)
	$(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) -fsanitize=undefined -fno-sanitize-recover=undefined $(STREAM_CFLAGS) \
		$(LDFLAGS) -o $@ $(filter %.c,$^) $(STREAM_LIBS)

# A mistake that a mutated stream could use is one that ASan and UBSan see.
$(B)/test/stream-fuzz: $(S)/cowctl/test/fuzz.c $(S)/cowctl/stream.c $(S)/cowctl/stream.h
	@mkdir -p $(@D)
	$(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) -fsanitize=address,undefined -fno-sanitize-recover=undefined \
		$(STREAM_CFLAGS) $(LDFLAGS) -o $@ $(filter %.c,$^) $(STREAM_LIBS)

$(B)/test/stream-verbs: $(S)/cowctl/test/verbs.c $(LIBCOWMEM_A)
	@mkdir -p $(@D)
	$(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) $(STREAM_CFLAGS) $(LDFLAGS) -o $@ $< $(LIBCOWMEM_A) $(STREAM_LIBS)

tests: $(STREAM_TESTS) $(STREAM_GUEST_TESTS)

.PHONY: check-stream
check-host: check-stream
check-stream: $(STREAM_TESTS)
	for t in $(STREAM_TESTS); do $$t || exit 1; done
