#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# In the guest: guest.sh cost ROUNDS WAY... -- PATTERN... | fuzz INPUTS CHECK WAY... -- PATTERN...
set -u

# For each way and pattern what cost prints, or "failed".
cost()
{
	rounds=$1 nr=$1
	for pattern in $patterns; do
		for way in $ways; do
			case $way in
			spawn) nr=2 ;;
			fork | memcpy | soft-dirty) nr=$((rounds / 8)) ;;
			*) nr=$rounds ;;
			esac
			figures=$(/client/cost "$way" "$pattern" "$nr") || figures=failed
			echo "cost $way $pattern $figures"
		done
	done
}

# fuzz_one WAY PATTERN: what fuzzer_stats says. Less than 40 inputs do not find the bug.
fuzz_one()
{
	rm -rf /tmp/out
	nr=$inputs
	case $1 in
	spawn | nothing) nr=50 ;;
	fork | memcpy | soft-dirty) nr=$((50 + inputs / 8)) ;;
	esac
	case $1 in
	spawn) set -- "$1" /client/spawn fork "$2" ;;
	fork) set -- "$1" /client/deferred fork "$2" ;;
	nothing) set -- "$1" /client/persistent fork "$2" "$check" ;;
	*) set -- "$1" /client/persistent "$1" "$2" "$check" ;;
	esac
	afl-fuzz -D -s 1 -E "$nr" -t 10000 -i /tmp/in -o /tmp/out -- "$2" "$3" "$4" ${5:+"$5"} >/tmp/log 2>&1
	if [ ! -e /tmp/out/default/fuzzer_stats ]; then
		echo "fuzz $1 $4 failed: $(grep -a -o 'We need at least one .*crash' /tmp/log || tail -n 1 /tmp/log)"
		return
	fi
	awk -v way="$1" -v pattern="$4" '
		{ value[$1] = $3 }
		END { print "fuzz", way, pattern, value["execs_per_sec"] + 0, value["execs_done"] + 0, value["saved_crashes"] + 0,
			value["saved_hangs"] + 0, value["stability"] }' /tmp/out/default/fuzzer_stats
}

fuzz()
{
	export AFL_NO_UI=1 AFL_NO_AFFINITY=1 AFL_SKIP_CPUFREQ=1 AFL_I_DONT_CARE_ABOUT_MISSING_CRASHES=1
	mkdir -p /tmp/in
	# One bit away from the planted bug.
	printf cov >/tmp/in/seed
	for pattern in $patterns; do
		for way in $ways; do fuzz_one "$way" "$pattern"; done
	done
}

what=$1
inputs=$2
check=0
shift 2
[ "$what" = cost ] || { check=$1; shift; }
ways=''
while [ "$1" != -- ]; do
	ways="$ways $1"
	shift
done
shift
patterns=$*
"$what" "$inputs"
