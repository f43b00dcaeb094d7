# shellcheck shell=dash disable=SC2154 # set by lib.sh
# Each verb once or twice, for what looks at how they use memory and is slow: cowctl.mk has it run by valgrind and with a
# sanitized cowctl. What they do is for verbs.sh to tell.
need_module
need_root

m=$dir/mount
mkdir "$m"
mount -t cowmem cowmem "$m"
mkdir "$m/data"
live=$m/data/live

is "create" run 0 create --size 64K "$live"
printf data | dd of="$live" conv=notrunc 2>/dev/null
is "info" run 0 info "$live"
is "clone" run 0 clone "$live" "$m/copy"
is "snapshot" run 0 snapshot "$live" "$m/then"
printf more | dd of="$live" seek=4096 bs=1 conv=notrunc 2>/dev/null
is "diff" run 0 diff --json "$m/then" "$live"
is "restore" run 0 restore "$live" "$m/then"
is "send" run 0 send -o "$dir/stream" "$m/then"
is "receive" run 0 receive -i "$dir/stream" "$m/received"
# For valgrind each call takes seconds, and it knows neither pidfd_open() nor openat2().
if [ "${under-}" ]; then
	done_testing
	exit
fi

is "snapshot of a directory" run 0 snapshot "$m/data" "$m/all"
hold
fd=$(ask region heap 65536)
told fill "$fd" 0 20000 65
is "info of a process" run 0 info --json "$pid:$fd"
is "list" run 0 list
is "list: JSON" run 0 list --json
is "snapshot of a process" run 0 snapshot "$pid" "$m/heap"
is "merge" run 0 merge "$live" "$m/copy"
is "export" run 0 export "$m/then" "$dir/raw"
is "import" run 0 import "$dir/raw" "$m/imported"
is "seal" run 0 seal "$m/copy" grow
is "top" run 0 top -b -n 1 -d 0.5
is "doctor" run 0 doctor

is "create: bad input" run 2 create --size 12x x
is "info: bad input" run 1 info /etc/passwd
is "list: bad input" run 1 list "$dir/nowhere"
is "clone: bad input" run 1 clone "$live" "$m/copy"
is "snapshot: bad input" run 1 snapshot "$m/data" "$m/all"
is "diff: bad input" run 1 diff "$live" /etc/passwd
is "restore: bad input" run 1 restore "$m/then" "$live"
is "merge: bad input" run 1 merge /etc/passwd
head -c 100 "$dir/stream" >"$dir/cut"
is "receive: bad input" run 1 receive -i "$dir/cut" "$m/half"
is "send: bad input" run 1 send -o "$dir/none" /etc/passwd
is "export: bad input" run 1 export "$live" "$dir/raw"
is "import: bad input" run 1 import "$dir/nowhere" "$m/none"
is "seal: bad input" run 2 seal "$m/copy" wax
is "top: bad input" run 2 top -d 0
is "doctor: bad input" run 2 doctor now
done_testing
