# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-only
# For the peers, in the guest: results as TAP, without numbers, each with the peer's name.
set -u

peer=${0##*/}
log=/tmp/log

# tell STATUS NAME
tell()
{
	if [ "$1" = 0 ]; then
		[ "$SHOW" = 0 ] || { sed 's/^/# /' "$log.region"; echo "# after $SECONDS s:"; }
		echo "ok $peer: $2"
	else
		tail -n 40 "$log" | sed 's/^/# /'
		echo "not ok $peer: $2 # status $1"
	fi
}

# skip NAME WHY
skip() { echo "ok $peer: $1 # SKIP $2"; }

# quick: is there only time for the quick ones?
quick() { [ "$QUICK" = 1 ]; }

# with OPTIONS SCRIPT: run that with $F and $G, files as peers.d/region makes them.
# shellcheck disable=SC2086 # OPTIONS are several
with() { timeout -k 5 "${LIMIT:-120}" /peers/region $1 -- bash -c "$2"; }

# works NAME OPTIONS SCRIPT: on a region. If it does not: what about a tmpfs?
works()
{
	local status=0

	with "$2" "$3" >"$log" 2>&1 || status=$?
	if [ "$status" != 0 ]; then
		if with "--on tmpfs $2" "$3" >"$log.tmpfs" 2>&1; then
			echo "it works on tmpfs" >>"$log"
		else
			{ echo "it does not work on tmpfs either:"; tail -n 5 "$log.tmpfs"; } >>"$log"
		fi
	fi
	cp "$log" "$log.region"
	tell "$status" "$1"
}

# same NAME OPTIONS SCRIPT: what it prints, and how it ends, is the same on a region as on a tmpfs. Numbers
# of processes and of descriptors in paths do not count.
same()
{
	local on status

	for on in tmpfs region; do
		status=0
		with "--on $on $2" "$3" >"$log" 2>&1 || status=$?
		{ grep -v '^region: [0-9]* clones$' "$log"; echo "status $status"; } | sed 's,/proc/[0-9]*/fd/[0-9]*,FILE,g' >"$log.$on"
	done
	status=0
	diff -U 3 --label tmpfs --label region "$log.tmpfs" "$log.region" >"$log" || status=$?
	tell "$status" "$1"
}

# Where a mount is made, and taken away again.
D=/tmp/mnt
export D

# A mount has as much left as it had at first: what it counts, and what is in it.
all_given_back()
{
	local now

	now=$(df --output=used,iused "$D" | tail -n 1)
	[ "$now" = "$1" ] || { echo "in use at first (KiB, inodes): $1; with all removed: $now"; return 1; }
}

# on_mount TYPE SIZE SCRIPT: run that with $D, a fresh mount of that size; all that it leaves, files and processes, is
# removed.
on_mount()
{
	local status=0 used

	mkdir -p "$D"
	mount -t "$1" -o "size=$2" "$1" "$D" || return
	used=$(df --output=used,iused "$D" | tail -n 1)
	timeout -k 5 "${LIMIT:-120}" bash -c "$3" &
	wait $! || status=$?
	# The script's process group, and what ends in a moment.
	kill -KILL -- -$! 2>/dev/null && sleep 0.5
	rm -rf "${D:?}"/*
	all_given_back "$used" || status=98
	umount "$D" || { umount -l "$D"; status=97; }
	return "$status"
}

# works_on NAME SIZE SCRIPT: what only a mount of cowmem's can do.
works_on()
{
	local status=0

	on_mount cowmem "$2" "$3" >"$log" 2>&1 || status=$?
	cp "$log" "$log.region"
	tell "$status" "$1"
}

# same_on NAME SIZE SCRIPT: what it prints, and how it ends, is the same on a mount of cowmem's as on a tmpfs.
same_on()
{
	local type status

	for type in tmpfs cowmem; do
		status=0
		on_mount "$type" "$2" "$3" >"$log.$type" 2>&1 || status=$?
		echo "status $status" >>"$log.$type"
	done
	cp "$log.cowmem" "$log.region"
	status=0
	diff -U 3 --label tmpfs --label cowmem "$log.tmpfs" "$log.cowmem" >"$log" || status=$?
	tell "$status" "$1"
}

# good_on NAME SIZE SCRIPT: the same, and it ends well; that alone if there is little time.
good_on()
{
	quick && { works_on "$@"; return; }
	same_on "$1" "$2" "$3"
	grep -qx 'status 0' "$log.tmpfs" || { cp "$log.tmpfs" "$log"; tell 1 "$1: on tmpfs"; }
}
