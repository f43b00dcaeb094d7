#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=dash disable=SC2016 # for sh -c
# What the tests of cowctl begin with: cowctl.mk puts it in front of each. They run in the directory they are in, where
# cowctl, holder and json are as well, and need no more than busybox.
export LC_ALL=C.UTF-8
tests=0 failures=0 holders=''
dir=$(mktemp -d)
export COWMEM_STORE=$dir/store
out=$dir/out err=$dir/err

# shellcheck disable=SC2317,SC2329 # the trap's
cleanup()
{
	# shellcheck disable=SC2086 # several
	[ -z "$holders" ] || kill $holders 2>/dev/null
	wait 2>/dev/null
	exec 8>&- 9>&-
	for mount in "$COWMEM_STORE" "$dir/mount" "$dir/other"; do umount "$mount" 2>/dev/null; done
	rm -rf "$dir"
}
trap cleanup EXIT

# is NAME COMMAND...: ok if it succeeds
is()
{
	name=$1
	shift
	tests=$((tests + 1))
	if "$@"; then
		echo "ok $tests $name"
	else
		echo "not ok $tests $name"
		sed 's/^/# /' "$out" "$err" 2>/dev/null | head -n 20
		failures=$((failures + 1))
	fi
}

# run STATUS ARGS...: cowctl with ARGS ends so; what it says is in $out and $err. $under is what it is run by, if
# anything.
run()
{
	want=$1
	shift
	# shellcheck disable=SC2086 # several words
	${under-} ./cowctl "$@" >"$out" 2>"$err" </dev/null
	got=$?
	[ "$got" = "$want" ] && return
	echo "# cowctl $*: status $got, not $want"
	return 1
}

# says STATUS WORDS ARGS...: likewise, and WORDS are on stderr, in one line that begins as all do, and nothing on stdout
says()
{
	words=$2
	want=$1
	shift 2
	run "$want" "$@" || return
	grep -q "^cowctl" "$err" && grep -qF -e "$words" "$err" && [ ! -s "$out" ] && [ "$(wc -l <"$err")" = 1 ] && return
	echo "# cowctl $*: '$words' is not what stderr says"
	return 1
}

# quiet ARGS...: cowctl with ARGS is done, without a word
quiet()
{
	run 0 "$@" || return
	[ ! -s "$out" ] && [ ! -s "$err" ]
}

# json PATH VALUE ARGS...: cowctl --json with ARGS prints JSON with VALUE at PATH
json()
{
	path=$1 want_value=$2 verb=$3
	shift 3
	run 0 "$verb" --json "$@" || return
	value=$(./json "$path" <"$out") || { echo "# no $path in it"; return 1; }
	[ "$value" = "$want_value" ] && return
	echo "# $path is $value, not $want_value"
	return 1
}

# hold: start a process that has regions; its number is in $pid. One at a time.
hold()
{
	rm -f "$dir/to" "$dir/from"
	mkfifo "$dir/to" "$dir/from"
	./holder <"$dir/to" >"$dir/from" &
	pid=$!
	holders="$holders $pid"
	exec 9>"$dir/to" 8<"$dir/from"
}

# release: end it. Waited for, as the news of its end would interrupt the next one's beginning.
release()
{
	kill "$pid"
	wait "$pid" 2>/dev/null
	exec 9>&- 8<&-
}

# ask WORD...: tell it, and print its answer
ask()
{
	echo "$*" >&9
	read -r answer <&8
	echo "$answer"
}

# told WORD...: likewise, and it has to succeed
told()
{
	answer=$(ask "$@")
	case $answer in failed*) echo "# $*: $answer"; return 1 ;; esac
}

# page_size: in bytes
page_size() { awk '/^KernelPageSize:/ { print $2 * 1024; exit }' /proc/self/smaps; }

# same FILE FILE
same() { cmp "$1" "$2" >/dev/null 2>&1; }

not() { ! "$@"; }

# The end of each test.
done_testing()
{
	echo "1..$tests"
	[ "$failures" = 0 ]
}

need_module()
{
	[ -e /sys/module/cowmem ] && return
	echo "ok 1 cowctl # SKIP the module is not loaded"
	echo "1..1"
	exit 0
}

need_root()
{
	[ "$(id -u)" = 0 ] && return
	echo "ok 1 cowctl # SKIP not root"
	echo "1..1"
	exit 0
}

