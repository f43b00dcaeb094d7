#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
# The programs in the manual pages print what the pages say. They lie in lib-examples.d, each with what it prints beside
# it. Needs the module, and root.

nr=0
failed=0
for program in ./lib-examples.d/*.bin; do
	nr=$((nr + 1))
	# A child may print when its parent has ended: a pipe lasts until both have.
	{
		"$program"
		echo $? >/tmp/lib-status.$$
	} | cat >/tmp/lib-example.$$
	if [ "$(cat /tmp/lib-status.$$)" = 0 ] && cmp -s "$program.out" /tmp/lib-example.$$; then
		echo "ok $nr ${program##*/}"
	else
		sed 's/^/# /' /tmp/lib-example.$$
		echo "not ok $nr ${program##*/}"
		failed=1
	fi
done
rm -f /tmp/lib-example.$$ /tmp/lib-status.$$
echo "1..$nr"
exit $failed
