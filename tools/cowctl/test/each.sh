# shellcheck shell=dash disable=SC2154 # set by lib.sh
# Each verb once or twice, for what looks at how they use memory and is slow: cowctl.mk has it run by valgrind and with a
# sanitized cowctl. What they do is for verbs.sh to tell.
need_module
need_root

m=$dir/mount
mkdir "$m"
mount -t cowmem cowmem "$m"
hold
fd=$(ask region heap 65536)
told fill "$fd" 0 20000 65

is "create" run 0 create --size 64K "$m/live"
printf data | dd of="$m/live" conv=notrunc 2>/dev/null
is "create: bad input" run 2 create --size 12x x
is "info" run 0 info "$m/live" "$pid:$fd"
is "info: bad input" run 1 info /etc/passwd
is "list" run 0 list --json
is "clone" run 0 clone "$m/live" copy
is "snapshot of a directory" run 0 snapshot "$m" "$m/all"
is "snapshot of a process" run 0 snapshot "$pid" "$m/heap"
printf more | dd of="$m/live" seek=4096 bs=1 conv=notrunc 2>/dev/null
is "snapshot: bad input" run 1 snapshot "$m" "$m/all"
is "diff" run 0 diff "$m/all/live" "$m/live"
is "diff: bad input" run 1 diff "$m/live" /etc/passwd
is "restore" run 0 restore "$m/live" "$m/all/live"
is "restore: bad input" run 1 restore "$m/all/live" "$m/live"
is "merge" run 0 merge "$m/live" "$m/copy"
is "send" run 0 send -o "$dir/stream" "$m/all/live"
is "receive" run 0 receive -i "$dir/stream" "$m/received"
head -c 100 "$dir/stream" >"$dir/cut"
is "receive: bad input" run 1 receive -i "$dir/cut" "$m/half"
is "export" run 0 export "$m/all/live" "$dir/raw"
is "import" run 0 import "$dir/raw" "$m/imported"
is "seal" run 0 seal "$m/copy" grow
is "seal: bad input" run 2 seal "$m/copy" wax
is "top" run 0 top -b -n 1 -d 0.5
is "doctor" run 0 doctor
done_testing
