#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Promise: a 32-bit program on a 64-bit kernel sees the same UAPI.

prog=$(dirname "$0")/errors_32
if [ ! -x "$prog" ]; then
	echo "TAP version 13"
	echo "1..0 # SKIP errors_32 and its like were not built: no 32-bit static libc"
	exit 4
fi
exec "$prog" "$@"
