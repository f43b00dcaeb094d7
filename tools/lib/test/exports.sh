#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
# The shared library has each function of the header, with its version, and nothing else. Both lists are made when this
# is built. Needs no module.

if diff lib-exports.header lib-exports.library >/tmp/lib-exports.$$; then
	echo "ok 1 exports"
	status=0
else
	sed 's/^/# /' /tmp/lib-exports.$$
	echo "not ok 1 exports"
	status=1
fi
rm -f /tmp/lib-exports.$$
echo 1..1
exit $status
