# SPDX-License-Identifier: GPL-2.0-only
# Manual pages: every file in man/man[0-9] is one. A page of several names is a file and symbolic links to it.

MAN_PAGES := $(wildcard $(S)/man/man[0-9]/*)

.PHONY: install-man
install: install-man
install-man:
	for page in $(MAN_PAGES:$(S)/man/%=%); do \
		$(INSTALL) -d $(DESTDIR)$(PREFIX)/share/man/$${page%/*} && \
		cp -P $(S)/man/$$page $(DESTDIR)$(PREFIX)/share/man/$$page || exit; \
	done

# The programs of the sections EXAMPLES, and what runs them.
MAN_TESTS := $(B)/test/man-examples

$(MAN_TESTS): $(S)/man/test/extract $(S)/man/test/man-examples $(MAN_PAGES) $(LIBCOWMEM_A)
	rm -rf $@.d
	$(S)/man/test/extract $@.d $(MAN_PAGES)
	for program in $@.d/*/*.c; do \
		$(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) $(LDFLAGS) -o $${program%.c} $$program $(LIBCOWMEM_A) || exit; \
	done
	cp $(S)/man/test/man-examples $@

tests: $(MAN_TESTS)
