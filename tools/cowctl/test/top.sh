# shellcheck shell=dash disable=SC2154,SC2016 # set by lib.sh; for sh -c
# top: what happened is counted, of whom and where, and nothing is left of it.
need_module
need_root
mkdir "$dir/mount"
mount -t cowmem cowmem "$dir/mount"
m=$dir/mount
tracing=/sys/kernel/tracing
P=$(page_size)

# events KEY PID REGION: how many of them the lines of $out have, per second times seconds
events()
{
	sum=0
	while read -r line; do
		seconds=$(echo "$line" | ./json seconds)
		n=$(echo "$line" | ./json "rows.#")
		i=0
		while [ $i -lt "$n" ]; do
			if [ "$(echo "$line" | ./json rows.$i.pid) $(echo "$line" | ./json rows.$i.region)" = "$2 $3" ]; then
				rate=$(echo "$line" | ./json "rows.$i.$1")
				sum=$(echo "$sum $rate $seconds" | awk '{ printf "%.2f", $1 + $2 * $3 }')
			fi
			i=$((i + 1))
		done
	done <"$out"
	echo "$sum" | awk '{ printf "%d\n", $1 + 0.5 }'
}

# started: until top has its instance, and all of its events
started()
{
	n=0
	until [ "$(cat $tracing/instances/cowctl-"$top"/events/cowmem/cowmem_yield/enable 2>/dev/null)" = 1 ]; do
		[ $((n += 1)) -lt 100 ] || return 1
		usleep 100000
	done
}

# finish: what happened is in a table by now; end it, with its status
finish()
{
	sleep 3
	kill -INT "$top"
	wait "$top"
}

hold
told name 'top%1b[2Jred'
fd=$(ask region counted $((256 * P)))
told map "$fd"
told fill "$fd" 0 $((100 * P)) 1
id=$(./cowctl info --json "$pid:$fd" | ./json regions.0.id)
./cowctl top --json -d 1 >"$out" 2>"$err" &
top=$!
is "begins" started
snap=$(ask snapshot "$fd")
i=0
while [ $i -lt 60 ]; do
	told store "$fd" $((i * P)) 2
	i=$((i + 1))
done
told close "$snap"
i=60
while [ $i -lt 90 ]; do
	told store "$fd" $((i * P)) 2
	i=$((i + 1))
done
finish
is "ends with status 0" [ $? = 0 ]
is "has said nothing on stderr" [ ! -s "$err" ]
is "each is JSON" sh -c 'while read -r line; do echo "$line" | ./json rows || exit 1; done <"$1" >/dev/null' - "$out"
is "clones: 1" [ "$(events clones "$pid" "$id")" = 1 ]
is "splits: 60" [ "$(events splits "$pid" "$id")" = 60 ]
# A fault may make others writable along with its own.
is "reuses: some" [ "$(events reuses "$pid" "$id")" -ge 1 ]
# One for each page that was split; of those behind, the more were written in order the more one maps.
is "faults: 60, and some" sh -c '[ "$1" -gt 60 ] && [ "$1" -le 90 ]' - "$(events faults "$pid" "$id")"
is "restores: none" [ "$(events restores "$pid" "$id")" = 0 ]
is "hostile: the name is escaped" not grep -q "$(printf '\033')" "$out"
is "no instance is left" [ -z "$(ls $tracing/instances)" ]

# Calls by another process, a screenful of text.
./cowctl create -s 64K "$m/a"
printf x | dd of="$m/a" conv=notrunc 2>/dev/null
./cowctl snapshot "$m/a" "$m/s"
./cowctl top -b -d 1 >"$out" 2>"$err" &
top=$!
is "text begins" started
told name 'top%1b[2Jred'
snap=$(ask snapshot "$fd")
printf y | dd of="$m/a" conv=notrunc 2>/dev/null
./cowctl restore "$m/a" "$m/s"
finish
is "text: status 0" [ $? = 0 ]
is "text: has the columns" grep -q '^ *PID COMMAND .*SPLITS.*RESTORES' "$out"
is "text: a restore and a clone" sh -c '[ "$(grep -cE " (0[.][1-9]|1[.].) " "$1")" -ge 2 ]' - "$out"
is "hostile: nothing that a terminal obeys" not grep -q "$(printf '\033')" "$out"

# Whoever has no row in a table is forgotten: its number may be another process's by the next one.
./cowctl top --json -d 0.5 >"$out" 2>"$err" &
top=$!
is "names: begins" started
told name early
snap=$(ask snapshot "$fd")
sleep 2
told name late
snap=$(ask snapshot "$fd")
finish
is "names: one that did nothing meanwhile has its new one" sh -c 'grep -q "\"early\"" "$1" && grep -q "\"late\"" "$1"' - "$out"

# Two mounts, which count alike, and processes that end at once.
mkdir "$dir/other"
mount -t cowmem cowmem "$dir/other"
for at in "$m/twin" "$dir/other/twin"; do ./cowctl create -s 64K "$at"; done
until [ "$(stat -c %i "$m/twin")" = "$(stat -c %i "$dir/other/twin")" ]; do
	[ "$(stat -c %i "$m/twin")" -lt "$(stat -c %i "$dir/other/twin")" ] && at=$m/twin || at=$dir/other/twin
	rm "$at"
	./cowctl create -s 64K "$at"
done
twin=$(stat -c %i "$m/twin")
./cowctl top --json -d 1 >"$out" 2>"$err" &
top=$!
is "mounts: begins" started
./cowctl snapshot "$m/twin" "$m/twin.s"
./cowctl snapshot "$dir/other/twin" "$dir/other/twin.s"
snap=$(ask snapshot "$fd")
finish
for at in "$m" "$dir/other"; do
	is "mounts: a region of each is known by both: ${at##*/}" grep -q "\"region\":$twin,\"mount\":\"$at\"" "$out"
done
is "mounts: of the device's it is a number" grep -q "\"command\":\"late\",\"region\":$id,\"mount\":\"0:[0-9]*\"" "$out"
is "names: of one that has ended" grep -q "\"command\":\"cowctl\",\"region\":$twin" "$out"
is "names: ... all are known" not grep -q '"command":"?"' "$out"

./pty ./cowctl top -n 2 -d 0.1 >"$out"
is "on a terminal the screen is cleared" [ "$(grep -c "$(printf '\033\[H\033\[2J')" "$out")" = 2 ]
is "-n: so many lines" sh -c './cowctl top --json -n 3 -d 0.1 >"$1" && [ "$(wc -l <"$1")" = 3 ]' - "$out"
# However it ends.
for signal in INT TERM HUP; do
	./cowctl top -b >"$out" 2>"$err" &
	top=$!
	is "SIG$signal: begins" started
	kill -$signal $top
	wait $top
	is "SIG$signal: no instance is left" [ -z "$(ls $tracing/instances)" ]
done
./cowctl top -b >"$out" 2>"$err" &
top=$!
started
kill -KILL $top
wait $top 2>/dev/null
is "SIGKILL: leaves one" [ -n "$(ls $tracing/instances)" ]
is "... which the next removes" sh -c './cowctl top -b -n 1 -d 0.1 >/dev/null && [ -z "$(ls $1/instances)" ]' - $tracing
./cowctl top -b -d 0.1 2>"$err" | head -n 1 >"$out"
usleep 300000
mkdir $tracing/instances/cowctl-999999-mine
./cowctl top -b -n 1 -d 0.1 >/dev/null
is "an instance that only begins with such a name stays" rmdir $tracing/instances/cowctl-999999-mine
is "broken pipe: no instance is left" [ -z "$(ls $tracing/instances)" ]
is "another tracer is not disturbed" sh -c 'echo 1 >$1/events/cowmem/cowmem_clone/enable && ./cowctl top -b -n 1 -d 0.1 >/dev/null &&
	[ "$(cat $1/events/cowmem/cowmem_clone/enable)" = 1 ] && echo 0 >$1/events/cowmem/cowmem_clone/enable' - $tracing

is "bad delay" says 2 "wants seconds" top -d 0
is "bad count" says 2 "wants a number" top -n 0
is "an argument" says 2 "one argument too many" top x
umount $tracing
mkdir -p "$dir/t"
is "tracefs is mounted where it is not" run 0 top -b -n 1 -d 0.1
done_testing
