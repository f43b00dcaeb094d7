#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# In the guest: guest.sh cuts SAVES KEYS | refused | forks | stall plain|cowmem MIB
set -u

# server [LD_PRELOAD]: at /tmp/redis/live, in the background; that it is preloaded is not taken for granted.
server()
{
	mkdir -p /tmp/redis/saved
	cd /tmp/redis || exit
	LD_PRELOAD=${1:-} redis-server --port 0 --unixsocket live --save "" --logfile log --rdbcompression "$compress" \
		--enable-debug-command local &
	until [ "$(redis-cli -s live PING 2>/dev/null)" = PONG ]; do
		[ -d "/proc/$!" ] || { echo "# the server does not start"; exit 1; }
		usleep 50000
	done
	[ -z "${1:-}" ] || grep -q 'cowmem:heap' "/proc/$!/maps" || { echo "# the server has no region"; exit 1; }
}

preload=/client/libcowmem-redis.so compress=yes
case $1 in
cuts)
	server $preload
	/client/cuts "$2" "$3" ;;
refused)
	server $preload
	/client/refused ;;
forks)
	LD_PRELOAD="libjemalloc.so.2 $preload" /client/forks <&- 2>&- ;;
stall)
	[ "$2" = cowmem ] || preload=
	compress=no
	server $preload
	/client/stall live "$3" ;;
esac || { tail -n 5 log 2>/dev/null | sed 's/^/# /'; exit 1; }
