# shellcheck shell=dash disable=SC2154,SC2016,SC2012 # set by lib.sh; for sh -c
# cowctl vm with a program in the place of QEMU, "qemu", that goes wrong as it is told; and the EXAMPLES of its page,
# for which /mnt/live is a mount with a VM. examples() prints them, see examples.sh.
need_module
need_root
m=$dir/mount
vm=$m/vm
new=$m/new
mkdir -p "$m" "$dir/other" "$dir/bin"
chmod 755 "$dir"
mount -t cowmem cowmem "$m"
export PATH="$PWD:$PATH"
qemu=$PWD/qemu

# start OPTION...: a VM whose memory begins with "before", and whose process is in $pid
start()
{
	mkdir "$vm"
	echo "a disk" >"$vm/disk"
	"$qemu" -qmp "unix:$vm/qmp,server=on,wait=off" -fault none -drive "file=$vm/disk,if=virtio,format=qcow2" \
		-object "memory-backend-file,id=ram,share=on,mem-path=$vm/ram,size=1048576" "$@" >"$dir/said" 2>&1 &
	pid=$!
	holders="$holders $pid"
	until [ -S "$vm/qmp" ] || ! kill -0 "$pid" 2>/dev/null; do usleep 20000; done
	write before
}

write() { echo "$1" | dd of="$vm/ram" conv=notrunc 2>/dev/null; }
has() { [ "$(head -n 1 "$1" | tr -d '\0')" = "$2" ]; }

# All that runs, and what it was about.
end()
{
	for process in $(processes); do kill "$process"; done
	wait 2>/dev/null
	rm -rf "$vm" "$m"/new* "$m"/point*
}

processes() { ps -o pid,args | awk '/ -qmp / && !/awk/ { print $1 }'; }
alone() { [ "$(processes)" = "$pid" ]; }
# asked WORDS: has the VM been asked that?
asked() { grep -qF "$1" "$vm/journal" 2>/dev/null; }
runs() { [ "$(cat "$vm/status" 2>/dev/null || echo running)" = running ]; }
capabilities_back()
{
	case $(grep '"execute":"migrate-set-cap' "$vm/journal" 2>/dev/null | tail -n 1) in
	'' | *'"state":false'*'"state":false'*) ;;
	*) return 1 ;;
	esac
}
no_nodes() { [ "$(cat "$vm/nodes" 2>/dev/null)" != some ]; }
as_it_was() { alone && runs && capabilities_back; }
untouched() { as_it_was && [ ! -e "$new" ] && ! asked '"execute":"stop"' && ! asked blockdev-snapshot-sync; }
# faulty COMMAND KIND: that is to come
faulty() { echo "$1 $2" >"$vm/fault"; }
told_it() { [ ! -e "$vm/fault" ]; }
fork() { run 0 vm fork "$@" "$vm/qmp" "$new"; }
# refused WORDS OPTION...: before anything is changed
refused()
{
	words=$1
	shift
	says 1 "$words" vm fork "$@" "$vm/qmp" "$new" && untouched
}

# ---- what it is for ----

start
is "fork: two clones" fork -n 2
is "fork: they run, as it does" sh -c '[ "$(echo "$1" | wc -l)" = 3 ]' - "$(processes)"
write after
for i in 0 1; do
	is "fork: $i has the memory of that instant" has "$new/$i/ram0" before
	is "fork: $i has a disk, and how it was started" grep -q "file=$new/$i/disk0," "$new/$i/command"
	is "fork: $i took the state, and goes on" sh -c 'grep -q migrate-incoming "$1" && tail -n 2 "$1" | grep -q \"cont\"' \
		- "$new/$i/journal"
done
is "fork: the VM goes on with what is its own" has "$vm/ram" after
is "fork: it writes to an overlay" asked "\"snapshot-file\":\"$new/disk0\""
is "fork: it was stopped, and runs" sh -c 'grep -q \"stop\" "$1"' - "$vm/journal"
is "fork: it runs" runs
is "fork: its capabilities are what they were" capabilities_back
is "fork: nothing is left of the state" [ "$(ls "$new" | tr '\n' ' ')" = "0 1 disk0 " ]
new=$m/new2
is "fork: once more, and as JSON" sh -c './cowctl vm fork --json -n 3 "$1" "$2" | ./json vms.# | grep -qx 3' - \
	"$vm/qmp" "$new"
end
new=$m/new

start -S
is "fork of a VM that is paused" fork
is "fork: it stays so, and so does the clone" sh -c '! grep -q "\"cont\"\|\"stop\"" "$1" "$2"' - \
	"$vm/journal" "$new/0/journal"
end

start -object "memory-backend-file,id=more,share=on,mem-path=$vm/more,size=8192"
echo second >"$vm/more"
truncate -s 8192 "$vm/more"
is "fork: memory of two parts" fork
is "fork: the clone has the first" has "$new/0/ram0" before
is "fork: and the second" has "$new/0/ram1" second
end

mkdir "$vm"
cd "$vm" && "$qemu" -qmp "unix:$vm/qmp" -object memory-backend-file,id=r,share=on,mem-path=ram,size=8192 2>/dev/null &
pid=$!
until [ -S "$vm/qmp" ]; do usleep 20000; done
write before
is "fork: memory whose name begins at the working directory" fork
is "fork: the clone has it" has "$new/0/ram0" before
end

# ---- a point, and back to it ----

start
is "save" run 0 vm save "$vm/qmp" "$m/point"
is "save: the VM is as it was" as_it_was
write after
is "revert" run 0 vm revert "$vm/qmp" "$m/point"
is "revert: memory is what it was" has "$vm/ram" before
is "revert: the devices are" asked '"execute":"snapshot-load"'
is "revert: the VM goes on" as_it_was
write after
is "revert: again" run 0 vm revert "$vm/qmp" "$m/point"
is "revert: memory is what it was, again" has "$vm/ram" before
mkdir "$new"
is "revert: no point" says 1 "not what cowctl vm save made" vm revert "$vm/qmp" "$new"
for mode in 770 707; do
	chmod $mode "$m/point"
	is "revert: others may change the point, $mode" says 1 "may change what is in it" vm revert "$vm/qmp" "$m/point"
done
chmod 700 "$m/point"
chown nobody "$m/point"
is "revert: it is another user's" says 1 "another user made it" vm revert "$vm/qmp" "$m/point"
chown root "$m/point"
mv "$m/point/ram0" "$m/point/kept"
ln -s "$vm/ram" "$m/point/ram0"
is "revert: a link for memory" says 1 "ram0 in it cannot be opened" vm revert "$vm/qmp" "$m/point"
rm "$m/point/ram0"
echo what >"$dir/file"
cp "$dir/file" "$m/point/ram0"
is "revert: all that did nothing" has "$vm/ram" before
rm "$m/point/ram0"
mv "$m/point/kept" "$m/point/ram0"
rm -rf "$new"
is "fork" fork
is "revert: not behind a fork" says 1 "this VM does not have that point" vm revert "$vm/qmp" "$m/point"
end

# ---- what keeps a clone from starting is known before ----

mkdir "$m/bin"
cp qemu "$m/bin/qemu"
qemu=$m/bin/qemu
start
chmod 644 "$qemu"
is "the program may not be run" says 1 "Permission denied" vm fork "$vm/qmp" "$new"
chmod 755 "$qemu"
cp "$qemu" "$qemu.new"
mv "$qemu.new" "$qemu"
is "the program is another one, as after an upgrade" refused "another one than it runs"
rm "$qemu"
is "the program was removed" refused "not there any more"
end
qemu=$PWD/qemu

mkdir "$m/work"
cd "$m/work" || exit
start
cd "$OLDPWD" || exit
rmdir "$m/work"
is "its working directory was removed" refused "its working directory"
end

start -D "$vm/log"
is "a log that is not the clone's own" refused "use --replace '$vm/log={dir}/log'"
is "with --replace it is" fork --replace "$vm/log={dir}/log"
is "there it is" [ -e "$new/0/log" ]
end

start -chardev "socket,id=s,path=$vm/serial,server=on"
is "a socket that is not the clone's own" refused "use --replace '$vm/serial={dir}/serial'"
is "the page: there are examples" [ "$(examples | wc -l)" = 3 ]
examples | while read -r page command; do
	is "$page: $command" sh -c "$(echo "$command" | sed "s,/mnt/live,$m,g")"
done >"$dir/examples" 2>&1
cat "$dir/examples"
is "the page: they do what it says" sh -c '! grep -q "^not ok" "$1"' - "$dir/examples"
is "the page: ten clones with a serial port each" [ -S "$m/ten/9/serial" ]
end
rm -rf "$m/ten"

start
mv "$vm/ram" "$vm/old"
cp "$vm/old" "$vm/ram"
is "another file has the name of its memory" refused "another file"
rm "$vm/ram"
is "its memory has no name any more" refused "No such file"
end

start
faulty query-memdev lock
is "another cowctl is at work" refused "another cowctl is at work on this VM"
end

start -object "memory-backend-file,id=more,share=on,mem-path=$vm/ram,size=1048576"
is "two memories that are one file" refused "two of the VM's memories"
end

start
rm "$vm/disk"
is "a disk that was removed" refused "cannot be read"
echo "a disk" >"$vm/disk"
for what in "query-migrate blocked cannot give its state away: a device of the host's" \
	"query-migrate active a migration is under way" "query-block strange what it answers is not what QEMU does" \
	"query-migrate-capabilities old does not know x-ignore-shared"; do
	faulty "${what%% *}" "$(echo "$what" | cut -d ' ' -f 2)"
	is "$what" refused "$(echo "$what" | cut -d ' ' -f 3-)"
done
is "a name that is replaced and not there" refused "does not name /none" --replace "/none={dir}/none"
end

# Its disk is named from the working directory, and an overlay's header has to name all of it.
bad=$m/$(printf 'work\377')
mkdir "$bad"
echo "a disk" >"$bad/disk"
cd "$bad" || exit
start -drive file=disk,format=qcow2
cd "$OLDPWD" || exit
is "the working directory, and with it a disk, is no UTF-8" refused "not in UTF-8"
end
rm -rf "$bad"

start
mkdir "$new"
is "DIR is there" says 1 "exists" vm fork "$vm/qmp" "$new"
rmdir "$new"
new="$m/a,b"
is "a comma in DIR" refused "a comma, a quote or a backslash"
new="$m/$(printf '\377')"
is "DIR is no UTF-8" refused "not in UTF-8"
new="$m/$(printf '%0100d' 1)"
is "DIR is too long for a socket" refused "too long a path for the socket"
new="$dir/new"
is "DIR is elsewhere" refused "not on a mount of type cowmem"
mount -t cowmem cowmem "$dir/other"
new="$dir/other/new"
is "DIR is on another mount" refused "not on the mount that the VM's memory is on"
umount "$dir/other"
new="$m/place/new"
mkdir "$m/place"
chmod 777 "$m/place"
is "others may write where DIR is to be" refused "others may change"
chmod 1777 "$m/place"
chown nobody "$m/place"
is "another user has the directory" refused "others may change"
mkdir "$m/place/deep"
new="$m/place/deep/new"
is "another user has the one above" refused "others may change"
rm -rf "$m/place"
chmod 1777 "$m"
su -s /bin/sh nobody -c "mkdir $m/evil; ln -s $m/evil $m/place"
new="$m/place/new"
# The kernel does not follow it, but where that is switched off.
is "another user planted a link" refused "Permission denied"
echo 0 >/proc/sys/fs/protected_symlinks
is "likewise, and the kernel follows it" refused "others may change"
echo 1 >/proc/sys/fs/protected_symlinks
rm -rf "$m/place" "$m/evil"
mkdir "$m/fine"
chown nobody "$vm"
new="$m/new"
is "that the VM's own directory is another user's does not matter" fork
end
rmdir "$m/fine"

start
mount -o bind "$m" "$dir/other"
mount -o remount,ro,bind "$dir/other"
new=$dir/other/new
is "nothing can be written there" refused "Read-only"
umount "$dir/other"
new=$m/new
chmod 777 "$vm/qmp"
chmod 755 "$vm"
su -s /bin/sh nobody -c "./cowctl vm fork $vm/qmp $m/nobody" >"$out" 2>"$err"
is "somebody else's VM" grep -q "it is of user 0; be that user" "$err"
is "it is as it was" untouched
end

start
echo running >"$vm/status"
touch "$vm/journal" "$vm/nodes"
chmod 666 "$vm/journal" "$vm/status" "$vm/nodes"
faulty query-block leave
is "it becomes another user's while it is asked" refused "it runs as user 65534; be that user"
end
start -fault leave
: >"$vm/journal"
chmod 666 "$vm/journal"
is "it became another user's when it listened" refused "it runs as user 65534; be that user"
end

# ---- clones that do not start ----

start
is "a clone that ends at once" run 1 vm fork --replace none=end "$vm/qmp" "$new"
is "its last words are told" grep -q "new/0: its QEMU .* said last: qemu: .x1b.31mno kernel" "$err"
is "the VM knows nothing of it" untouched
is "several" run 1 vm fork -n 3 --replace none=end "$vm/qmp" "$new"
is "the VM knows nothing of them" untouched
is "one that does not take the state" run 1 vm fork -n 3 --replace "none=take{n}" "$vm/qmp" "$new"
is "it is said which one" grep -q "/new/1: its QEMU did not take the state" "$err"
is "the others are listed" sh -c 'grep -q new/0 "$1" && grep -q new/2 "$1" && ! grep -q new/1 "$1"' - "$out"
is "nothing is left of it" [ "$(ls "$new" | tr '\n' ' ')" = "0 2 disk0 " ]
is "the others run, as the VM does" sh -c '[ "$(echo "$1" | wc -l)" = 3 ]' - "$(processes)"
is "the VM runs" runs
is "its capabilities are what they were" capabilities_back
end

start
is "none that takes the state" run 1 vm fork --replace none=take1 "$vm/qmp" "$new"
is "what stays is told" grep -q "has to stay: the VM writes to its overlays there" "$err"
is "the VM goes on" as_it_was
end
mkdir "$vm"
"$qemu" -qmp "unix:$vm/qmp" -fault none -object "memory-backend-file,id=r,share=on,mem-path=$vm/ram,size=8192" &
pid=$!
until [ -S "$vm/qmp" ]; do usleep 20000; done
is "none that takes the state, and no disk" run 1 vm fork -n 2 --replace none=take1 "$vm/qmp" "$new"
is "nothing is left of what was made" [ ! -e "$new" ]
is "nor is anything listed" [ ! -s "$out" ]
is "the VM runs on" as_it_was
end

# ---- whatever goes wrong with the VM, it goes on as it was ----

# survives COMMAND KIND: a fork that fails. Seconds: even on a busy host QEMU greets in less.
survives()
{
	new=$m/new-$1-$2 want=1
	faulty "$1" "$2"
	case $2 in term) want=143 ;; int) want=130 ;; hup) want=129 ;; esac
	run $want vm fork -t 3 "$vm/qmp" "$new" && told_it && [ -s "$err" ] && as_it_was && no_nodes || return
	# The overlay stays if the VM may use it, and nothing else does.
	if asked blockdev-snapshot-sync && [ "$1 $2" != "blockdev-snapshot-sync error" ]; then
		[ "$(ls "$new")" = disk0 ]
	else
		[ ! -e "$new" ]
	fi
}

for command in query-status query-block query-migrate blockdev-create blockdev-add query-jobs \
	query-migrate-capabilities migrate-set-capabilities stop blockdev-snapshot-sync getfd migrate; do
	kinds="error close term"
	# What was late is not taken for an answer to the next one, nor a broken connection for the end.
	case $command in stop | blockdev-snapshot-sync | migrate) kinds="error never late close half garbage long term" ;; esac
	[ $command != migrate ] || kinds="$kinds postpone stuck"
	start
	for kind in $kinds; do
		is "$command: $kind" survives "$command" "$kind"
		rm -f "$vm/journal"
	done
	end
done
start
is "migrate: it fails" survives migrate failing
rm -f "$vm/journal"
is "blockdev-create: it fails" survives blockdev-create failing
is "stop: SIGHUP" survives stop hup
is "stop: SIGINT" survives stop int
new=$m/new
is "then all goes well" fork
end
start
faulty cont error
new=$m/new-cont
is "cont: an error" run 1 vm fork "$vm/qmp" "$new"
is "it is said what to do" grep -q "let it go on by 'cont'" "$err"
new=$m/new
is "the next one does it" fork
is "and says so" grep -q "a cowctl vm fork did not come to its end: the VM was left stopped, and goes on now" "$err"
is "then it runs" runs
new=$m/new2
is "and that is all" fork
is "not a word of it any more" [ ! -s "$err" ]
new=$m/new
end

# killed COMMAND VERB DIR: by what nobody can hold, at that command; then the next one mends it
killed()
{
	faulty "$1" kill
	run 137 vm "$2" "$vm/qmp" "$3" && told_it
}

for command in migrate-set-capabilities stop migrate cont; do
	start
	is "SIGKILL at $command" killed $command fork "$new"
	for process in $(processes); do [ "$process" = "$pid" ] || kill "$process"; done
	is "SIGKILL at $command: the next one mends it" run 0 vm save "$vm/qmp" "$m/point"
	is "SIGKILL at $command: and says so" grep -q "a cowctl vm fork did not come to its end" "$err"
	is "SIGKILL at $command: it is as it was" as_it_was
	end
done

for verb in fork revert; do
	start
	is "$verb: a point" run 0 vm save "$vm/qmp" "$m/point"
	faulty migrate-set-capabilities killpause
	case $verb in fork) arg=$new ;; *) arg=$m/point ;; esac
	rm -f "$vm/journal"
	is "$verb: SIGKILL, and then somebody stops the VM" run 137 vm $verb "$vm/qmp" "$arg"
	for process in $(processes); do [ "$process" = "$pid" ] || kill "$process"; done
	is "$verb: the next one does what it is to" run 0 vm save "$vm/qmp" "$m/point2"
	is "$verb: and says so" grep -q "a cowctl vm $verb did not come to its end: what it left is mended" "$err"
	is "$verb: the VM stays stopped" not runs
	is "$verb: its capabilities are what they were" capabilities_back
	end
done
start
faulty query-memdev mark
is "a mark that somebody else made" run 0 vm save "$vm/qmp" "$m/point"
is "it does not set what QEMU does besides" not asked xbzrle
end

# ---- save and revert that go wrong ----

# saves COMMAND KIND: fails, and leaves nothing
saves()
{
	faulty "$1" "$2"
	./cowctl vm save -t 3 "$vm/qmp" "$m/point" >"$out" 2>"$err"
	status=$?
	told_it && [ "$status" != 0 ] && [ ! -e "$m/point" ] && as_it_was && no_nodes || return
	case $1:$2 in
	snapshot-save:*) asked '"execute":"snapshot-delete"' ;;
	esac
}

start
for command in query-block blockdev-create blockdev-add migrate-set-capabilities stop snapshot-save; do
	for kind in error never close term; do
		# Nothing ends what QEMU is at.
		[ "$command $kind" != "snapshot-save term" ] || continue
		is "save, $command: $kind" saves $command $kind
		rm -rf "$m/point" "$vm/journal"
	done
done
is "save, snapshot-save: it fails" saves snapshot-save failing
rm -f "$vm/journal"
# What cowctl says goes through a pipe, as a file would be too large.
(ulimit -f 0; ./cowctl vm save "$vm/qmp" "$m/point" 2>&1) | cat >"$err"
is "save, the point cannot be written" grep -q "/point: File too large" "$err"
is "save: ... and is undone in the disks, too" asked '"execute":"snapshot-delete"'
is "save: ... nothing is left" sh -c '[ ! -e "$1" ] && [ "$(cat "$2")" != some ]' - "$m/point" "$vm/nodes"
faulty snapshot-save term
./cowctl vm save -t 3 "$vm/qmp" "$m/point" >"$out" 2>"$err"
is "save, SIGTERM while it is under way: late is too late, and it is undone" [ ! -e "$m/point" ]
is "save: the VM is as it was" as_it_was
is "save" run 0 vm save "$vm/qmp" "$m/point"
for command in query-named-block-nodes migrate-set-capabilities stop; do
	for kind in error late close term; do
		write after
		faulty $command $kind
		is "revert, $command: $kind" not run 0 vm revert -t 3 "$vm/qmp" "$m/point"
		is "revert, $command: $kind: it was told" told_it
		is "revert, $command: $kind: nothing was done" has "$vm/ram" after
		is "revert, $command: $kind: the VM goes on" as_it_was
	done
done
for kind in error failing never close; do
	write after
	faulty snapshot-load $kind
	is "revert, snapshot-load: $kind" run 1 vm revert -t 3 "$vm/qmp" "$m/point"
	is "revert, snapshot-load: $kind: it was told" told_it
	is "revert, snapshot-load: $kind: the VM stays stopped" not runs
	is "revert, snapshot-load: $kind: it is not forked" says 1 "half reverted" vm fork "$vm/qmp" "$new"
	is "revert, snapshot-load: $kind: another one makes it well" run 0 vm revert "$vm/qmp" "$m/point"
	is "revert, snapshot-load: $kind: then it runs" as_it_was
done
# Another file of the point's, or one of another size, is no reason to stop the VM.
mv "$m/point/ram0" "$m/point/kept"
write other
for size in 4096 2097152; do
	cp "$m/point/kept" "$m/point/ram0"
	truncate -s $size "$m/point/ram0"
	rm -f "$vm/journal"
	is "revert, memory of $size" says 1 "ram0 in it is not as large as" vm revert "$vm/qmp" "$m/point"
	is "revert, memory of $size: the VM was not stopped" not asked stop
	rm "$m/point/ram0"
done
mv "$m/point/kept" "$m/point/ram0"
is "SIGKILL in a revert" killed snapshot-load revert "$m/point"
is "SIGKILL in a revert: another one makes it well" run 0 vm revert "$vm/qmp" "$m/point"
is "SIGKILL in a revert: then it runs" as_it_was
end

start -S
is "save, paused" run 0 vm save "$vm/qmp" "$m/point"
faulty snapshot-load error
is "revert, paused: an error" run 1 vm revert "$vm/qmp" "$m/point"
is "revert, paused: it is not forked" says 1 "half reverted" vm fork "$vm/qmp" "$new"
is "revert, paused: another one makes it well" run 0 vm revert "$vm/qmp" "$m/point"
is "revert, paused: then it is saved" run 0 vm save "$vm/qmp" "$m/point2"
is "revert, paused: it still is" not runs
end
done_testing
