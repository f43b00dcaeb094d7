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

# The programs in EXAMPLES of the module's pages, and what runs them.
MAN_EXAMPLES := $(wildcard $(S)/man/man2/* $(S)/man/man4/* $(S)/man/man5/cowmem.5)

$(B)/tests/man-examples: $(wildcard $(S)/man/test/*) $(MAN_EXAMPLES) $(S)/../uapi/linux/cowmem.h
	@mkdir -p $(@D)
	rm -rf $@.d
	$(S)/man/test/extract $@.d $(MAN_EXAMPLES)
	for program in $@.d/*/*.c; do \
		$(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) $(LDFLAGS) -o $${program%.c} $$program || exit; \
	done
	cp $(S)/man/test/man-examples $@

TESTS += man-examples
GUEST_TESTS += man-examples
