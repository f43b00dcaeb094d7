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
		[ "$SHOW" = 0 ] || sed 's/^/# /' "$log.region"
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
