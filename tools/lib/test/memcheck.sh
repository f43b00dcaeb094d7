#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
# The test NAME once more under valgrind, as memcheck-NAME: what is read before it is set, and leaks. If it is a script,
# it has $under for what it runs.
if ! command -v valgrind >/dev/null; then
	echo "ok 1 memcheck # SKIP no valgrind"
	echo 1..1
	exit 0
fi
name=${0##*/memcheck-}
under="valgrind $(cat valgrind.options)"
export under TAP_VALGRIND=1
# shellcheck disable=SC2086 # several words
case $(head -n 1 "$name") in
'#!'*) exec "./$name" ;;
*) exec $under "./$name" ;;
esac
