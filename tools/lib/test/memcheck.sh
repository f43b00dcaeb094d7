#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
# The test lib-NAME once more under valgrind, as memcheck-NAME: what is read before it is set, and leaks.
if ! command -v valgrind >/dev/null; then
	echo "ok 1 memcheck # SKIP no valgrind"
	echo 1..1
	exit 0
fi
# shellcheck disable=SC2046 # several words
TAP_VALGRIND=1 exec valgrind $(cat valgrind.options) "./lib-${0##*/memcheck-}"
