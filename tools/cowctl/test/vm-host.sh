# shellcheck shell=dash disable=SC2154,SC2016 # set by lib.sh; for sh -c
# What of cowctl vm needs no region: how it talks to a monitor, here that of "qemu", which goes wrong as it is told.
if [ -e /sys/module/cowmem ]; then
	echo "ok 1 vm-host # SKIP the module is loaded"
	echo "1..1"
	exit 0
fi
vm=$dir/vm

# start OPTION...: a VM, whose process is in $pid
start()
{
	mkdir "$vm"
	./qemu -qmp "unix:$vm/qmp,server=on,wait=off" "$@" \
		-object "memory-backend-file,id=ram,share=on,mem-path=$vm/ram,size=1048576" >"$dir/said" 2>&1 &
	pid=$!
	holders="$holders $pid"
	until [ -S "$vm/qmp" ] || ! kill -0 "$pid" 2>/dev/null; do sleep 0.05; done
}

end()
{
	kill "$pid" 2>/dev/null
	wait "$pid" 2>/dev/null
	rm -rf "$vm"
}

# goes_wrong COMMAND KIND STATUS WORDS: WORDS are said when COMMAND goes wrong so
goes_wrong()
{
	echo "$1 $2" >"$vm/fault"
	says "$3" "$4" vm fork -t 1 "$vm/qmp" "$dir/new" && [ ! -e "$vm/fault" ] && [ ! -e "$dir/new" ]
}

# ends_it COMMAND: SIGTERM while it is waited for
ends_it()
{
	echo "$1 term" >"$vm/fault"
	run 143 vm fork -t 5 "$vm/qmp" "$dir/new" && grep -qF "$1: interrupted by a signal" "$err" && [ ! -e "$dir/new" ]
}

# greeted_by TEXT WORDS
greeted_by()
{
	start -greeting "$1"
	says 1 "$2" vm fork -t 1 "$vm/qmp" "$dir/new"
	status=$?
	end
	return $status
}

is "no verb" says 2 "fork, save or revert?" vm
is "no such verb" says 2 "neither fork, save nor revert: 'spoon'" vm spoon
is "--timeout: none" says 2 "--timeout" vm fork -t 0 a b
is "--timeout: no number" says 2 "--timeout" vm save -t soon a b
is "-n: none" says 2 "-n" vm fork -n 0 a b
is "--replace: no OLD=NEW" says 2 "OLD=NEW" vm fork -r old a b
is "an argument is missing" says 2 "missing" vm revert "$dir"
is "no socket" says 1 "No such file" vm fork "$dir/none" "$dir/new"
touch "$dir/file"
is "a file" says 1 "Connection refused; it has to be that of a QEMU" vm fork "$dir/file" "$dir/new"
is "a name that is too long" says 1 "longer than the 107 bytes" vm fork "$(printf '%0200d' 1)" "$dir/new"
is "revert: no directory" says 1 "No such file" vm revert "$dir/none" "$dir/none"

is "no greeting" greeted_by "" "no greeting of QEMU's"
is "half a greeting" greeted_by '{"QMP": ' "no greeting of QEMU's"
is "another protocol" greeted_by "220 mail
" "does not speak QMP"
is "JSON that is none" greeted_by "{}
" "does not speak QMP"
is "a list" greeted_by "[]
" "does not speak QMP"

start
lacks="no file on a mount of type cowmem"
is "all goes well, but for the memory" says 1 "$lacks" vm fork "$vm/qmp" "$dir/new"
is "save: likewise" says 1 "$lacks" vm save "$vm/qmp" "$dir/new"
mkdir "$dir/point"
is "revert: likewise" says 1 "$lacks" vm revert "$vm/qmp" "$dir/point"
for command in qmp_capabilities query-memdev qom-get; do
	if [ $command != qom-get ]; then
		is "$command: an error" goes_wrong $command error 1 "as told"
		is "$command: an error without a number" goes_wrong $command noid 1 "$command: QEMU says: as told"
	fi
	is "$command: answers to others before" goes_wrong $command stale 1 "$lacks"
	is "$command: none" goes_wrong $command never 1 "$command: QEMU does not answer within 1 s"
	is "$command: one that is late" goes_wrong $command late 1 "$command: QEMU does not answer within 1 s"
	is "$command: the end of the connection" goes_wrong $command close 1 "closed the connection"
	is "$command: half of one" goes_wrong $command half 1 "closed the connection"
	is "$command: garbage" goes_wrong $command garbage 1 "what it answers is no QMP"
	is "$command: no object" goes_wrong $command list 1 "what it answers is no QMP"
	is "$command: a line without an end" goes_wrong $command long 1 "a line of more than 16 MiB"
	is "$command: SIGTERM" ends_it $command
	is "$command: QEMU ends" goes_wrong $command end 1 "QEMU has ended"
	end
	start
done
is "no memory" goes_wrong query-memdev none 1 "names no memory"
is "no list of memory" goes_wrong query-memdev empty 1 "query-memdev: what it answers is not what QEMU does"
is "a strange list" goes_wrong query-memdev strange 1 "query-memdev: what it answers is not what QEMU does"
is "memory without an id" goes_wrong query-memdev nameless 1 "has no id"
is "memory that is not shared" goes_wrong query-memdev private 1 "use memory-backend-file,share=on"
echo "qom-get error" >"$vm/fault"
is "memory that has no such property" run 1 vm fork "$vm/qmp" "$dir/new"
is "it is said what it has to be" grep -q "'ram' has to be a memory-backend-file" "$err"
is "memory that is no file" goes_wrong qom-get empty 1 "has to be a memory-backend-file"
echo "query-memdev never" >"$vm/fault"
./cowctl vm fork -t 20 "$vm/qmp" "$dir/new" >/dev/null 2>&1 &
holders="$holders $!"
while [ -e "$vm/fault" ]; do sleep 0.05; done
# Those that gave up still wait there, until there is no room for another one.
for many in "" " and one waits" " and two wait" " and there is no more room"; do
	is "somebody else is connected$many" says 1 "another program is connected" vm fork -t 1 "$vm/qmp" "$dir/new"
done
# It would be killed after 5 s, and then the status is 137.
is "SIGTERM while there is no room" sh -c 'timeout -k 5 1 ./cowctl vm fork -t 8 "$1" "$2" 2>/dev/null; [ $? = 124 ]' - \
	"$vm/qmp" "$dir/new"
end
done_testing
