# shellcheck shell=dash disable=SC2154,SC2016 # set by lib.sh; for sh -c
# Each verb: what it does, and what it says where it cannot.
need_module
need_root

P=$(page_size)
mkdir -p "$dir/mount" "$dir/other" "$dir/plain"
mount -t cowmem cowmem "$dir/mount"
mount -t cowmem cowmem "$dir/other"
m=$dir/mount

# pages FILE PAGE...: write a byte of its own to each of these pages
pages()
{
	file=$1
	shift
	for page; do
		printf 'page %s' "$page" | dd of="$file" bs="$P" seek="$page" conv=notrunc 2>/dev/null
	done
}

# ---- create ----
is "create: in the store, which is made" quiet create -s 64K first
is "create: the store is a mount, for nobody to run or own devices in" \
	sh -c 'grep " $COWMEM_STORE cowmem " /proc/mounts | grep nosuid | grep nodev | grep -q noexec'
is "create: has the size" [ "$(stat -c %s "$COWMEM_STORE/first")" = 65536 ]
is "create: belongs to its maker" [ "$(stat -c %a "$COWMEM_STORE/first")" = 600 ]
is "create: by path" json path "$m/live" create --size $((256 * P)) "$m/live"
is "create: huge" quiet create --size $((P * P / 8)) --huge "$m/huge"
printf x | dd of="$m/huge" conv=notrunc 2>/dev/null
if ./cowctl doctor | grep -q '^ok *features .*huge'; then
	is "create: ... gets memory an area at a time" json regions.0.huge $((P * P / 8)) info "$m/huge"
else
	tests=$((tests + 1))
	echo "ok $tests create: ... gets memory an area at a time # SKIP not with this kernel"
fi
is "create: what exists stays" says 1 "exists" create "$m/live"
is "create: not on a mount" says 1 "not on a mount" create "$dir/plain/x"
is "create: no such directory" says 1 "No such file" create "$dir/nowhere/x"
is "create: a name for a process" says 1 "name of a process" create 4711
is "create: a bad size" says 2 "wants a size" create --size 12x x
is "create: a size of a half" quiet create --size 1.5K "$m/half"
is "create: ... is that" [ "$(stat -c %s "$m/half")" = 1536 ]
rm "$m/half"
is "create: too large a size" says 2 "is too large" create --size 9E x
is "create: no name" says 2 "an argument is missing" create
is "create: a mount itself" says 1 "$m: it exists, and is a directory; name something new in it" create "$m"
is "create: ... with a slash behind" says 1 "is a directory; name something new" create "$m/"
ln -s mount "$dir/link"
is "create: ... by a link" says 1 "is a directory; name something new" create "$dir/link"
is "create: a directory that is on no mount" says 1 "not on a mount" create "$dir/plain"
is "create: a file that is on no mount is not to be removed" says 1 "not on a mount" create /etc/passwd
is "create: a directory in the store" sh -c 'mkdir "$COWMEM_STORE/below" && ! ./cowctl create below 2>"$1" && grep -q "is a directory" "$1" &&
	rmdir "$COWMEM_STORE/below"' - "$err"
is "create: an empty name" says 1 "'': not a name" create ""
is "create: an unknown option" says 2 "no option" create --nonsense x
is "create: two names" says 2 "one argument too many" create x y

# ---- info ----
pages "$m/live" 1 2 200
is "info: as text" run 0 info "$m/live"
is "info: its lines" grep -q "^populated  $((3 * P))\$" "$out"
is "info: -h" sh -c './cowctl info -h "$1" | grep -q "^size       $2M$"' - "$m/live" $((P / 4096))
is "info: JSON" json regions.0.populated $((3 * P)) info "$m/live"
is "info: a name in the store" json regions.0.size 65536 info first
is "info: kind" json regions.0.kind live info first
is "info: several" json "regions.#" 2 info first "$m/live"
is "info: no region" says 1 "not a region" info /etc/passwd
is "info: a directory" says 1 "not a region" info "$m/."
is "info: a directory on a mount" says 1 "name one of the files in it" info "$m"
is "info: a directory elsewhere" says 1 "those are files on a mount" info "$dir/plain"
is "info: no such name" says 1 "nor in the store" info nonsense
is "info: no such path" says 1 "No such file" info ./nonsense
is "info: no such process" says 1 "no process 999999" info 999999
is "info: a process without regions" says 1 "has no region" info 1
is "info: no such descriptor" says 1 "no such descriptor" info 1:999
is "info: no region's descriptor" says 1 "not a region" info 1:0
is "info: no such mapping" says 1 "nothing mapped there" info 1:0x1000
is "info: what it can is done" run 1 info nonsense first
is "info: ... and shown" grep -q '^region.*first$' "$out"
is "info: nothing" says 2 "an argument is missing" info

# ---- clone ----
is "clone: beside" quiet clone "$m/live" copy
is "clone: has the bytes" same "$m/live" "$m/copy"
pages "$m/copy" 1 3
is "clone: goes its own way" not same "$m/live" "$m/copy"
is "clone: a range" quiet clone --offset "$P" --length $((2 * P)) "$m/live" "$m/range"
is "clone: ... of the size" [ "$(stat -c %s "$m/range")" = $((2 * P)) ]
is "clone: JSON" json path "$m/json" clone "$m/live" json
is "clone: range past the end" says 1 "the range is not in it" clone --offset $((512 * P)) "$m/live" "$m/none"
is "clone: range that is not of pages" says 1 "not of whole pages" clone --offset 1 "$m/live" "$m/none"
is "clone: range of nothing" says 2 "--length 0 would be nothing" clone --length 0 "$m/live" "$m/none"
is "clone: nothing is left of it" [ ! -e "$m/none" ]
is "clone: to another mount" says 1 "pages of the mount $m, which never leave it" clone "$m/live" "$dir/other/x"
is "clone: to no mount" says 1 "not on a mount" clone "$m/live" "$dir/plain/x"
is "clone: exists" says 1 "exists" clone "$m/live" copy
is "clone: one argument" says 2 "missing" clone "$m/live"
is "clone: no region" says 1 "not a region" clone /etc/passwd x

# ---- snapshot of a file on a mount ----
is "snapshot: beside" quiet snapshot "$m/live" before
cp "$m/live" "$dir/bytes"
pages "$m/live" 1 7
is "snapshot: stays" same "$m/before" "$dir/bytes"
is "snapshot: kind" json regions.0.kind snapshot info "$m/before"
is "snapshot: is not written" sh -c '! echo x 2>/dev/null >>"$1"' - "$m/before"
is "snapshot: expendable" quiet snapshot --expendable "$m/live" yields
is "snapshot: ... kind" json regions.0.kind expendable info "$m/yields"
is "snapshot: exists" says 1 "it exists; remove it, or choose another name" snapshot "$m/live" before
is "snapshot: JSON" json path "$m/again" snapshot "$m/live" again
is "snapshot: no such region" says 1 "nor in the store" snapshot nonsense x
is "snapshot: one argument" says 2 "missing" snapshot "$m/live"
is "snapshot: of a snapshot" quiet snapshot "$m/before" second
is "snapshot: ... has the bytes" same "$m/second" "$dir/bytes"

# ---- diff ----
is "diff: text" run 0 diff "$m/before" "$m/live"
is "diff: the ranges" [ "$(sed 's/  */ /g' "$out" | tr '\n' ';')" = " OFFSET LENGTH KIND; $P $P data; $((7 * P)) $P data;" ]
is "diff: JSON" json extents.1.offset $((7 * P)) diff "$m/before" "$m/live"
is "diff: JSON, the other way" json extents.1.kind hole diff "$m/live" "$m/before"
is "diff: nothing" json "extents.#" 0 diff "$m/before" "$m/before"
is "diff: --stat" json data $((2 * P)) diff --stat "$m/before" "$m/live"
is "diff: --stat of the holes" json hole "$P" diff --stat "$m/live" "$m/before"
pages "$m/copy" 200
is "diff: without --content" json "extents.#" 3 diff "$m/before" "$m/copy"
is "diff: --content" json "extents.#" 1 diff --content "$m/before" "$m/copy"
for verb in restore diff; do
	is "$verb: with a directory" says 1 "name one of the files in it" $verb "$m/live" "$m"
	is "$verb: with a directory, the other way" says 1 "name one of the files in it" $verb "$m" "$m/live"
done
is "send: a directory" says 1 "name one of the files in it" send -o "$dir/stream" "$m"
is "diff: no region" says 1 "not a region" diff "$m/before" /etc/passwd
is "diff: one argument" says 2 "missing" diff "$m/before"

# ---- restore ----
is "restore" json pages 2 restore "$m/live" "$m/before"
is "restore: has the bytes" same "$m/live" "$dir/bytes"
pages "$m/live" 5 6
is "restore: --offset --length" quiet restore --offset $((5 * P)) --length "$P" "$m/live" "$m/before"
is "restore: ... that page alone" json extents.0.offset $((6 * P)) diff "$m/before" "$m/live"
is "restore: --offset alone" quiet restore --offset "$P" "$m/live" "$m/before"
is "restore: ... all behind it" same "$m/live" "$m/before"
truncate -s $((512 * P)) "$m/live"
is "restore: of another size" says 1 "--size restores that" restore "$m/live" "$m/before"
is "restore: --size" quiet restore --size "$m/live" "$m/before"
is "restore: ... has it" [ "$(stat -c %s "$m/live")" = $((256 * P)) ]
is "restore: --keep" quiet restore --keep "$m/live" "$m/before"
is "restore: a snapshot" says 1 "sealed" restore "$m/before" "$m/live"
is "restore: from another mount" sh -c './cowctl create -s "$4" "$2" && ! ./cowctl restore "$1" "$2" 2>"$3" && grep -q "another mount" "$3"' \
	- "$m/live" "$dir/other/file" "$err" $((256 * P))
is "restore: range and --size" says 2 "a range goes with neither" restore --size --offset "$P" "$m/live" "$m/before"
is "restore: range past the end" says 1 "nothing behind" restore --offset $((2048 * P)) "$m/live" "$m/before"
is "restore: range that is not of pages" says 1 "not of whole pages" restore --offset 1 --length "$P" "$m/live" "$m/before"
is "restore: range of nothing" says 2 "--length 0 would be nothing" restore --length 0 "$m/live" "$m/copy"
is "restore: ... restores nothing" same "$m/live" "$m/before"
is "restore: from nothing" says 1 "nor in the store" restore "$m/live" nonsense
is "restore: one argument" says 2 "missing" restore "$m/live"

# ---- seal ----
is "seal: no such one" says 2 "no seal 'wax'" seal "$m/copy" grow,wax
is "seal: none" says 2 "missing" seal "$m/copy"
is "seal: two" json "seals" '["shrink","grow"]' seal "$m/copy" grow,shrink
is "seal: ... hold" sh -c '! truncate -s $2 "$1" 2>/dev/null' - "$m/copy" $((2048 * P))
is "seal: more" quiet seal "$m/copy" seal
is "seal: no more" says 1 "no further one" seal "$m/copy" future-write
is "seal: a snapshot" says 1 "sealed against that" seal "$m/before" grow
is "seal: no region" says 1 "not a region" seal /etc/passwd grow

# ---- merge ----
./cowctl create -s $((256 * P)) "$m/m1" && ./cowctl create -s $((256 * P)) "$m/m2"
for i in 0 1 2 3 4 5 6 7; do
	printf 'the same' | dd of="$m/m1" bs="$P" seek=$i conv=notrunc 2>/dev/null
	printf 'the same' | dd of="$m/m2" bs="$P" seek=$((i * 2)) conv=notrunc 2>/dev/null
done
dd if=/dev/zero of="$m/m2" bs="$P" seek=100 count=3 conv=notrunc 2>/dev/null
cp "$m/m1" "$dir/m1"
cp "$m/m2" "$dir/m2"
is "merge: equal pages" json merged 15 merge "$m/m1" "$m/m2"
is "merge: ... and zeroes" [ "$(./json zeroed <"$out")" = 3 ]
is "merge: ... what that saved" [ "$(./json saved <"$out")" = $((18 * P)) ]
is "merge: no content changes" sh -c 'cmp "$1" "$2" && cmp "$3" "$4"' - "$m/m1" "$dir/m1" "$m/m2" "$dir/m2"
is "merge: again, nothing" json merged 0 merge "$m/m1" "$m/m2"
is "merge: text" run 0 merge "$m/m1"
is "merge: daemon, rounds" json rounds 3 merge --daemon --rounds 3 --rate 100000 "$m/m1"
# 16 pages each 8 a second: a second or more for the first 8.
./cowctl merge --json --daemon --rate 10 "$m/m1" "$m/m2" >"$out" 2>"$err" &
daemon=$!
sleep 2
kill -TERM $daemon
wait $daemon
is "merge: daemon ends by SIGTERM, status 0" [ $? = 0 ]
scanned=$(./json scanned <"$out")
is "merge: daemon keeps the rate ($scanned pages in 2 s)" sh -c '[ "$1" -ge 5 ] && [ "$1" -le 40 ]' - "$scanned"
# Stopped for 4 s it does not do in one go what it has not done.
./cowctl merge --json --daemon --rate 10 "$m/m1" "$m/m2" >"$out" 2>"$err" &
daemon=$!
sleep 1
kill -STOP $daemon
sleep 4
kill -CONT $daemon
sleep 1
kill -TERM $daemon
wait $daemon
scanned=$(./json scanned <"$out")
is "merge: daemon keeps the rate when it was stopped ($scanned pages)" sh -c '[ "$1" -ge 10 ] && [ "$1" -le 40 ]' - "$scanned"
./pty ./cowctl merge --daemon --rounds 10 --rate 100 "$m/m1" >"$out"
is "merge: on a terminal, how far it is" grep -q 'merge \[#.* of .*/s' "$out"
is "merge: ... is wiped away" grep -q "$(printf '\r\033\[Kscanned')" "$out"
is "merge: a snapshot" says 1 "sealed" merge "$m/before"
is "merge: bad rate" says 2 "wants a number" merge --rate 0 "$m/m1"
is "merge: nothing" says 2 "an argument is missing" merge

# ---- a directory as one cut ----
t=$m/tree
mkdir -p "$t/sub/deep" "$t/empty"
./cowctl create -s 64K "$t/a"
echo text >"$t/sub/b"
ln "$t/a" "$t/sub/a2"
ln -s a "$t/link"
mkfifo "$t/fifo"
chmod 640 "$t/sub/b"
chown 65534 "$t/sub/b"
odd=$(printf 'new\nline \033[31m')
echo odd >"$t/sub/deep/$odd"
is "snapshot DIR: a FIFO is left out, with a word" sh -c './cowctl snapshot --json "$1" cut 2>"$3" >"$2" && grep -q "fifo: left out" "$3"' \
	- "$t" "$out" "$err"
is "snapshot DIR: files are counted" [ "$(./json files <"$out")" = 3 ]
is "snapshot DIR: what is in it" [ "$(cd "$m/cut" && find . | sort | tr '\n' ' ')" = \
	"$(cd "$t" && find . | grep -v fifo | sort | tr '\n' ' ')" ]
is "snapshot DIR: bytes" same "$t/sub/deep/$odd" "$m/cut/sub/deep/$odd"
is "snapshot DIR: a file of two names is one" [ "$m/cut/a" -ef "$m/cut/sub/a2" ]
is "snapshot DIR: a link stays one" [ "$(readlink "$m/cut/link")" = a ]
is "snapshot DIR: mode and owner" [ "$(stat -c %a:%u "$m/cut/sub/b")" = 440:65534 ]
is "snapshot DIR: times" [ "$(stat -c %Y "$m/cut/sub")" = "$(stat -c %Y "$t/sub")" ]
is "snapshot DIR: is not written" sh -c '! echo x 2>/dev/null >>"$1"' - "$m/cut/sub/b"
is "snapshot DIR: exists" says 1 "exists" snapshot "$t/sub" "$m/cut"
is "snapshot DIR: a mount, and there is nothing beside it" says 1 "nothing beside $m" snapshot "$m" all
is "snapshot DIR: ... nor in the store" [ ! -e "$COWMEM_STORE/all" ]
is "snapshot DIR: the store itself" says 1 "nothing beside $COWMEM_STORE" snapshot "$COWMEM_STORE" all
is "snapshot DIR: into itself" says 1 "of its own" snapshot "$t" "$t/x"
mkdir "$t/.snapshots"
rm "$t/fifo"
is "snapshot DIR: into a directory below" quiet snapshot "$t" "$t/.snapshots/1"
is "snapshot DIR: ... which is no part of the next" sh -c './cowctl snapshot "$1" "$1/.snapshots/2" && [ ! -e "$1/.snapshots/2/.snapshots" ]' - "$t"
is "snapshot DIR: to another mount" says 1 "pages of the mount $m, which never leave it" snapshot "$t" "$dir/other/x"
is "snapshot DIR: of no mount" says 1 "not on a mount" snapshot "$dir/plain" x
is "snapshot DIR: expendable" quiet snapshot -e "$t/sub" "$m/cut2"
is "snapshot DIR: ... kind" json regions.0.kind expendable info "$m/cut2/b"
is "snapshot DIR: nothing half made is left" [ -z "$(find "$m" "$dir/other" -name '.cowctl*')" ]

# What one that was killed had begun may have the number of this one.
is "snapshot DIR: beside what is left of another" sh -c \
	'mkdir "$2/.cowctl-$$" "$2/.cowctl-$$-0" && exec ./cowctl snapshot "$1" "$2/left"' - "$t/sub" "$m"
is "snapshot DIR: ... all is there" same "$t/sub/b" "$m/left/b"
rm -rf "$m"/.cowctl-* "$m/left"
sh -c 'for i in $(seq 0 99); do mkdir "$2/.cowctl-$$-$i"; done; exec ./cowctl snapshot "$1" "$2/left"' \
	- "$t/sub" "$m" 2>"$err"
is "snapshot DIR: of very much that is left one is named" grep -q 'left: .cowctl-[0-9]*-99 and others beside it' "$err"
rm -rf "$m"/.cowctl-*

# A walk that fails in the middle is not its end.
# shellcheck disable=SC2034 # run() of lib.sh has it
under='env LD_PRELOAD=./stream-trap.so STREAM_TRAP=fts_read:3:12'
is "snapshot DIR: it cannot be read to its end" says 1 "to its end: Cannot allocate memory" snapshot "$t" "$m/half"
is "snapshot DIR: ... nothing is made" [ ! -e "$m/half" ]
is "list: it cannot be read to its end" run 1 list "$t"
is "list: ... it says so" grep -q "tree: it cannot be read to its end" "$err"
unset under

# Where it ends in the middle, nothing is left, neither of its own accord nor by force.
mkdir "$dir/small"
# Room for all clones, two directories and a few of the second names.
mount -t cowmem -o nr_inodes=28 cowmem "$dir/small"
mkdir "$dir/small/d" "$dir/small/d/e"
for i in 1 2 3 4 5 6 7; do echo $i >"$dir/small/d/e/$i"; ln "$dir/small/d/e/$i" "$dir/small/d/$i"; done
is "snapshot DIR: no room for all" says 1 "limit" snapshot "$dir/small/d" "$dir/small/new"
is "snapshot DIR: ... nothing is left" [ "$(ls -A "$dir/small")" = d ]
umount "$dir/small"
mkdir "$t/many"
i=0
while [ $i -lt 400 ]; do
	echo $i >"$t/many/$i"
	i=$((i + 1))
done
# Killed after parts of the time that one takes, which the machine decides.
now() { awk '{ print $1 * 100 }' /proc/uptime; }
began=$(now)
./cowctl snapshot "$t/many" "$m/killed"
ticks=$(($(now) - began + 1))
rm -r "$m/killed"
whole=0 none=0 part=0 percent=0
while [ $percent -lt 100 ]; do
	percent=$((percent + 400 / ${COWMEM_EFFORT:-100}))
	./cowctl snapshot "$t/many" "$m/killed" 2>/dev/null &
	usleep $((ticks * percent * 100))
	kill -KILL $! 2>/dev/null
	wait $! 2>/dev/null
	case $(find "$m/killed" -type f 2>/dev/null | wc -l) in
	0) [ -e "$m/killed" ] && part=$((part + 1)); none=$((none + 1)) ;;
	400) whole=$((whole + 1)) ;;
	*) part=$((part + 1)) ;;
	esac
	rm -rf "$m/killed" "$m"/.cowctl-*
done
is "snapshot DIR: killed, it is all there or not at all ($whole, $none)" sh -c '[ "$1" = 0 ] && [ "$2" -gt 0 ]' - $part $none
rm -r "$t/many"

mkdir "$t/swap" "$t/away"
echo inside >"$t/swap/file"
ln -s ../away "$t/swap/link"
echo outside >"$t/away/secret"
is "snapshot DIR: no link is followed" sh -c './cowctl snapshot "$1" "$2" && [ -L "$2/link" ] && [ ! -e "$2/secret" ]' - "$t/swap" "$m/swapped"

# The walk is by path. While it is below, what it is in becomes a link: nothing from outside gets in.
mkdir -p "$t/moves/in/deep" "$t/outside/deep"
ln -s inside "$t/moves/in/link"
ln -s secret "$t/outside/link"
./at after getdents64 3 "mv '$t/moves/in' '$t/moved' && ln -s ../outside '$t/moves/in'" \
	./cowctl snapshot "$t/moves" "$m/moves" >"$out" 2>"$err"
is "snapshot DIR: a directory becomes a link meanwhile" [ $? = 0 ]
is "snapshot DIR: ... nothing behind it is taken" [ "$(cd "$m/moves" && find . | sort | tr '\n' ' ')" = ". ./in " ]

# Nor is anything listed that is put in the place of what was looked at.
mkdir "$t/walk" "$t/walk/in"
./cowctl create -s 4K "$t/walk/in/file"
./cowctl create -s 8K "$t/outside/file"
./at after getdents64 3 "mv '$t/walk/in' '$t/walked' && ln -s ../outside '$t/walk/in'" \
	./cowctl list --json "$t/walk" >"$out" 2>"$err"
is "list: a directory becomes a link meanwhile" [ $? = 0 ]
is "list: ... nothing behind it is listed" [ "$(./json "regions.#" <"$out")" = 0 ]
ln "$t/walked/file" "$t/walk/file"
./at after fstatfs 1 "ln -sf ../outside/file '$t/walk/file'" ./cowctl list --json "$t/walk/file" >"$out" 2>"$err"
is "list: a file becomes a link meanwhile" [ $? = 0 ]
is "list: ... the file is listed" [ "$(./json regions.0.size <"$out")" = 4096 ]

# Into a directory of somebody else, who does at the worst moment what he may: what we make there is ours until it is
# whole, and nothing but that is touched.
mkdir "$m/alice" "$m/victim" "$t/given"
chown 65534 "$m/alice" "$t/given"
echo secret >"$m/victim/secret"
# theirs [CALL COMMAND]: root's snapshot of a directory of his, into his; the shell command has $new, the half made one
theirs()
{
	rm -rf "$m"/alice/* "$m"/alice/.cowctl-*
	./at "$1" "$2" 1 "cd '$m/alice' && new=\$(echo .cowctl-*) && $3" ./cowctl snapshot "$t/given" "$m/alice/mon" >"$out" 2>"$err"
}
# untouched: what is not his is as it was
untouched() { [ "$(stat -c %a:%u "$m/victim")" = 755:0 ] && [ "$(ls -A "$m/victim")" = secret ]; }
mkdir "$t/given/below"
chmod 2755 "$t/given"
theirs after mkdirat 'mv $new gone && ln -s ../victim $new'
is "snapshot DIR: a link in its place is not followed" [ $? = 1 ]
is "snapshot DIR: ... it says why" grep -q "was replaced" "$err"
is "snapshot DIR: ... what it leads to stays" untouched
theirs after mkdirat 'mv $new gone && mkdir $new && chown 65534 $new'
is "snapshot DIR: nor is his directory built in" [ $? = 1 ]
is "snapshot DIR: ... nor left" [ "$(ls -A "$m/alice")" = gone ]
theirs after mkdirat 'mv $new gone && mkdir -m 700 $new && echo secret >$new/secret'
is "snapshot DIR: nor one that has something in it" [ $? = 1 ]
is "snapshot DIR: ... which is not given away" [ "$(stat -c %a:%u "$m"/alice/.cowctl-*)" = 700:0 ]
theirs before renameat2 'stat -c %a:%u $new >seen && mkdir mon'
is "snapshot DIR: the name is taken at last" grep -q "exists" "$err"
is "snapshot DIR: ... it was still for root alone" [ "$(cat "$m/alice/seen")" = 700:0 ]
is "snapshot DIR: ... nothing of it is left" [ -z "$(find "$m/alice" -name '.cowctl*')$(ls -A "$m/alice/mon")" ]
theirs before renameat2 true
is "snapshot DIR: whole, it is his" [ "$(stat -c %a:%u:%Y "$m/alice/mon")" = "$(stat -c %a:%u:%Y "$t/given")" ]
is "snapshot DIR: ... and what is in it" [ "$(stat -c %a:%u "$m/alice/mon/below")" = 755:0 ]

# One writer, two files: what is in the second cannot be older than what is in the first.
mkdir "$t/pair"
./cowctl create -s 4K "$t/pair/1"
./cowctl create -s 4K "$t/pair/2"
hold
one=$(ask open "$t/pair/1")
two=$(ask open "$t/pair/2")
ask map "$one" >"$dir/x" && ask map "$two" >"$dir/x"
(i=0; while [ $i -lt 4000 ]; do
	i=$((i + 1))
	echo "store $one 0 $((i % 200))"
	echo "store $two 0 $((i % 200))"
done) >&9 &
writer=$!
(n=0; while [ $n -lt 8000 ] && read -r _; do n=$((n + 1)); done) <&8 &
reader=$!
bad=0
for i in 1 2 3 4 5 6 7 8 9 10; do
	./cowctl snapshot "$t/pair" "$m/pair$i" || bad=99
	first=$(hexdump -n 1 -e '1/1 "%u"' "$m/pair$i/1")
	second=$(hexdump -n 1 -e '1/1 "%u"' "$m/pair$i/2")
	[ "$first" = "$second" ] || [ "$first" = $(((second + 1) % 200)) ] || bad=$((bad + 1))
done
is "snapshot DIR: is one cut, ten times under a writer" [ "$bad" = 0 ]
wait $writer $reader
release

# ---- regions of processes ----
hold
fd=$(ask region live-1 1000000)
told map "$fd"
told fill "$fd" 0 $((2 * P)) 65
is "PID: of one region" json regions.0.size 1000000 info "$pid"
is "PID:FD" json regions.0.populated $((2 * P)) info "$pid:$fd"
is "snapshot of PID: into the store" quiet snapshot "$pid" before-upgrade
told store "$fd" "$P" 66
is "snapshot of PID: has the size" [ "$(stat -c %s "$COWMEM_STORE/before-upgrade")" = 1000000 ]
is "snapshot of PID: kind" json regions.0.kind snapshot info before-upgrade
is "snapshot of PID: takes no page" json regions.0.exclusive "$P" info "$pid"
is "snapshot of PID: is not written" sh -c '! echo x 2>/dev/null >>"$1"' - "$COWMEM_STORE/before-upgrade"
is "snapshot of PID: diff" json extents.0.offset "$P" diff before-upgrade "$pid"
is "snapshot of PID: restore" json pages 1 restore "$pid" before-upgrade
is "snapshot of PID: the process sees it" [ "$(ask byte "$fd" "$P")" = 65 ]
told store "$fd" 999999 67
# Whole pages between the first and the last.
inner=$((1000000 / P * P - P))
is "snapshot of PID: restore of a range, to an odd end" says 1 "--length $inner is what can be" restore --offset "$P" "$pid" before-upgrade
is "snapshot of PID: ... that length" quiet restore --offset "$P" --length $inner "$pid" before-upgrade
is "snapshot of PID: restore of all, with an odd end" quiet restore "$pid" before-upgrade
is "snapshot of PID: ... restores its last byte" [ "$(ask byte "$fd" 999999)" = 0 ]
is "snapshot of PID: expendable" quiet snapshot -e "$pid" may-go
is "snapshot of PID: ... kind" json regions.0.kind expendable info may-go
is "snapshot of PID: exists" says 1 "exists" snapshot "$pid" before-upgrade
is "clone of PID" quiet clone "$pid" branch
is "clone of PID: can be written" sh -c 'printf x | dd of="$1" conv=notrunc 2>/dev/null' - "$COWMEM_STORE/branch"
is "clone of PID: ... the process does not see it" [ "$(ask byte "$fd" 0)" = 65 ]
is "clone of PID: a range" quiet clone --offset "$P" --length "$P" "$pid" part
is "clone of PID: with pages of a mount, to another one" says 1 "of another mount" clone "$pid" "$dir/other/from-device"
is "seal PID: write, which is mapped" says 1 "mapped for writing" seal "$pid" write
is "merge PID" json scanned 2 merge "$pid"
is "list PID" json regions.0.users.0.mapped $(((1000000 + P - 1) / P * P)) list "$pid"
is "list PID: name" [ "$(./json regions.0.name <"$out")" = live-1 ]
is "list PID: argument" [ "$(./json regions.0.arguments.0 <"$out")" = "$pid:$fd" ]
is "list PID: command" [ "$(./json regions.0.users.0.command <"$out")" = holder ]
told close "$fd"
is "PID: only mapped" json regions.0.size 1000000 info "$pid"
is "list PID: only mapped" json "regions.0.users.0.fds.#" 0 list "$pid"
arg=$(./json regions.0.arguments.0 <"$out")
is "PID:ADDRESS" json regions.0.size 1000000 info "$arg"
fd=$(ask region "a" 4096)
is "clone of PID:FD: to any mount" quiet clone "$pid:$fd" "$dir/other/any"
is "PID: of two regions" says 1 "name one: " info "$pid"
is "PID: ... which are listed" grep -q "$pid:$fd .*a.*$arg" "$err"
dev=$(ask device 65536)
is "PID:FD of the device" json regions.0.size 65536 info "$pid:$dev"
# The process has a file on a mount open. That it is in a directory of its choice must not matter.
mkdir "$COWMEM_STORE/hers"
./cowctl create -s 64K "$COWMEM_STORE/hers/file"
pages "$COWMEM_STORE/hers/file" 1
pages "$m/live" 1
mine=$(ask open "$COWMEM_STORE/hers/file")
is "snapshot of PID:FD of a file in the store" quiet snapshot "$pid:$mine" of-file
is "snapshot of PID:FD of a file in the store: ... the next command finds it" json extents.# 0 diff of-file "$pid:$mine"
mine=$(ask open "$m/live")
is "snapshot of PID:FD of a file on another mount" says 1 "pages of the mount $m, which never leave it; name a path there" snapshot "$pid:$mine" elsewhere
is "snapshot of PID:FD of a file on another mount: ... is nowhere" [ -z "$(find "$dir" -name elsewhere)" ]
is "snapshot of PID:FD of a file on another mount: by path" quiet snapshot "$pid:$mine" "$m/of-live"
is "snapshot of PID:FD of the device" quiet snapshot "$pid:$dev" of-device
is "info: of the device, its number" [ "$(./cowctl info --json "$pid:$dev" | ./json regions.0.id)" = \
	"$(sed -n 's/^cowmem-region:.//p' /proc/"$pid"/fdinfo/"$dev")" ]
is "list: text" run 0 list
is "list: ... the store" grep -q " before-upgrade " "$out"
is "list: a directory" json "regions.#" 1 list "$dir/other/file"
is "list: no such process" says 1 "no process 999999" list 999999
is "list: a process without regions" says 1 "has no region" list 1
is "list: a directory on no mount" says 1 "those are files on a mount" list /tmp
is "list: a file on no mount" says 1 "not a region" list /etc/passwd
is "list: a name in the store" json regions.0.arguments '["first"]' list first
is "list: a directory in the store" json "regions.#" 1 list hers
is "list: no such name" says 1 "nor in the store" list nonsense
ln -s "$dir/other/file" "$dir/way"
is "list: a link to a file" json "regions.#" 1 list "$dir/way"
is "list: what it can is done" run 1 list nonsense first
is "list: ... and shown" grep -q " first " "$out"
is "list: one region" says 1 "that is one region" list "$pid:$fd"
is "list: no such directory" run 1 list "$dir/nowhere"
snap=$(ask snapshot "$fd")
is "restore: PID:FD of a snapshot" says 1 "sealed" restore "$pid:$snap" "$pid:$fd"
release

# Of several descriptors the lowest is a view, which nobody can write through.
hold
fd=$(ask region "seen" 4096)
told fill "$fd" 0 4096 65
view=$(ask view "$fd")
writer=$(ask dup "$fd")
told close "$fd"
is "PID: a view, and one to write: the view comes first" [ "$view" -lt "$writer" ]
is "PID: ... to read" json regions.0.size 4096 info "$pid"
is "PID: ... to write" json scanned 1 merge "$pid"
is "PID:FD: of the view, to write" says 1 "for reading only" merge "$pid:$view"
told close "$writer"
is "PID: only a view, to write" says 1 "for reading only" merge "$pid"
release

# ---- names that others chose ----
hold
told name '%1b[31mred'
fd=$(ask region 'evil%1b[2J%0aname%07' 4096)
plain() { ! LC_ALL=C grep -q "$(printf '[\001-\010\013-\037]')" "$1"; }
is "hostile: list" run 0 list "$pid"
is "hostile: ... no control character" plain "$out"
is "hostile: ... one line" [ "$(wc -l <"$out")" = 2 ]
is "hostile: ... what it was is seen" grep -qF 'evil\x1b[2J\nname\x07' "$out"
is "hostile: JSON has it exactly" json regions.0.name "$(printf 'evil\033[2J\nname\007')" list "$pid"
told region 'c1%c2%9b2J%7f%e2%80%aeq' 4096
is "hostile: JSON, raw, has nothing but ASCII that can be printed" sh -c './cowctl list --json "$1" >"$2" &&
	grep -qF "c1\\u009B2J\\u007F" "$2" && ! LC_ALL=C grep -q "[^ -~]" "$2"' - "$pid" "$out"
told region 'b%ff%fe' 4096
is "hostile: not UTF-8, JSON" run 0 list --json "$pid"
is "hostile: ... parses" sh -c './json <"$1"' - "$out"
is "hostile: choice of two" run 1 info "$pid"
is "hostile: ... no control character" plain "$err"
bad=$(printf 'x\033]0;title\007\ny')
is "hostile: file name, error" says 1 'x\x1b]0;title\x07\ny' info "$bad"
is "hostile: option" says 2 '\x1b' info "$(printf -- '--\033')"
is "hostile: create" quiet create "$bad"
is "hostile: info" run 0 info "$bad"
is "hostile: ... no control character" plain "$out"
bidi=$(printf 'a\342\200\256b')
is "hostile: text that turns round" sh -c './cowctl create "$1" && ./cowctl info "$1" | grep -qF "a\\xe2\\x80\\xaeb"' - "$bidi"
# shellcheck disable=SC2059 # the escapes are the point
for char in '\330\234 \\xd8\\x9c' '\342\200\213 \\xe2\\x80\\x8b' '\342\201\240 \\xe2\\x81\\xa0' \
	'\357\273\277 \\xef\\xbb\\xbf' '\363\240\201\201 \\xf3\\xa0\\x81\\x81'; do
	is "hostile: what cannot be seen is: ${char#* }" says 1 "a$(printf "${char#* }")b" info "$(printf "a${char% *}b")"
done
release

# ---- a reader that goes away ----
./cowctl create -s 64M "$m/large"
for i in 0 2 4 6 8 10 12 14 16 18; do pages "$m/large" $i; done
./cowctl create -s 64M "$m/large0"
for verb in "diff $m/large0 $m/large" "list" "info first" "list --json" "diff --json $m/large0 $m/large"; do
	# shellcheck disable=SC2086 # several words
	{ sleep 0.3; ./cowctl $verb 2>"$err"; echo $? >"$dir/status"; } | true
	is "broken pipe: ${verb%% *}" sh -c 'case $1 in 141 | 1) [ "$(wc -l <"$2")" -le 1 ] ;; *) exit 1 ;; esac' - "$(cat "$dir/status")" "$err"
done
# What two programs say on one stderr does not get mixed: a line is one write.
rm -f "$dir/wrote"
./at before write 2 "touch '$dir/wrote'" ./cowctl info nonsense 2>"$err"
is "a line on stderr is one write" [ ! -e "$dir/wrote" ]
./at before write 2 "touch '$dir/wrote'" ./cowctl info --nonsense 2>"$err"
is "... also of wrong usage" [ ! -e "$dir/wrote" ]
./at before write 1 "touch '$dir/wrote'" ./cowctl info nonsense 2>"$err"
is "... and that is seen" [ -e "$dir/wrote" ]
is "full disk" sh -c './cowctl info first >/dev/full 2>"$1"; [ $? = 1 ] && grep -q "standard output: No space left" "$1"' - "$err"

# ---- a user who is nobody ----
# nobody STATUS WORDS ARGS...: as says, by the user of that name
nobody()
{
	words=$2 want=$1
	shift 2
	su -s /bin/sh nobody -c "LC_ALL=$LC_ALL COWMEM_STORE=$COWMEM_STORE exec ./cowctl $*" >"$out" 2>"$err" </dev/null
	[ $? = "$want" ] && grep -qF -e "$words" "$err" && [ "$(wc -l <"$err")" = 1 ]
}
nobody_sees() { su -s /bin/sh nobody -c "./cowctl list --json $1" | ./json regions.0.name >"$out"; }
chmod 755 "$dir"
hold
fd=$(ask region hidden 4096)
is "nobody: a file that is not his" nobody 1 "Permission denied" info "$m/live"
is "nobody: the store" nobody 1 "no right to make files there" create x
is "nobody: a process that is not his" nobody 1 "may not be looked into" info "$pid"
is "nobody: ... with a descriptor" nobody 1 "may not be looked into" info "$pid:$fd"
is "nobody: list" nobody 0 "processes may not be looked into" list
is "nobody: list of files that are not his" nobody_sees "$m"
is "nobody: list of a process" nobody 1 "may not be looked into" list "$pid"
is "nobody: top" nobody 1 "Permission denied); be root" top -b -n 1
release
mkdir "$dir/his"
mount -t cowmem -o mode=1777 cowmem "$dir/his"
root_store=$COWMEM_STORE
COWMEM_STORE=$dir/his
is "nobody: a store for him" sh -c 'su -s /bin/sh nobody -c "COWMEM_STORE=$1 ./cowctl create --size 4K mine" && [ "$(stat -c %U "$1/mine")" = nobody ]' - "$dir/his"
su -s /bin/sh nobody -c "mkdir -p $dir/his/d/closed && echo x >$dir/his/d/closed/x && chmod 444 $dir/his/d/closed"
is "nobody: a directory that he may not look into is not left out" nobody 1 "closed/x: Permission denied" snapshot "$dir/his/d" "$dir/his/cut"
is "nobody: ... nothing is made" [ ! -e "$dir/his/cut" ]
is "nobody: a snapshot there" sh -c 'su -s /bin/sh nobody -c "COWMEM_STORE=$1 ./cowctl snapshot mine then" && [ -e "$1/then" ]' - "$dir/his"
COWMEM_STORE=$root_store
umount "$dir/his"

# ---- the program itself ----
is "no verb" sh -c './cowctl >"$1" 2>"$2"; [ $? = 2 ] && [ ! -s "$1" ] && grep -q ^Usage "$2"' - "$out" "$err"
is "unknown verb" says 2 "no verb 'fly'" fly
is "--version" run 0 --version
is "--help" run 0 --help
for verb in list info create clone snapshot restore diff merge seal top doctor; do
	is "$verb --help" run 0 $verb --help
done

# ---- the store, where it cannot be ----
mkdir -p "$dir/full"
echo x >"$dir/full/x"
is "store: a directory with something in it" sh -c 'COWMEM_STORE=$1 ./cowctl create x 2>"$2"; [ $? = 1 ] && grep -q "something in it" "$2"' - "$dir/full" "$err"
is "store: ... is not to be mounted over" not grep -q "mount -t" "$err"
is "store: a file" sh -c 'COWMEM_STORE=/etc/passwd ./cowctl create x 2>"$1"; [ $? = 1 ] && grep -q "to an empty directory, or unset it" "$1"' - "$err"
mkdir "$dir/new" "$dir/victim"
COWMEM_STORE=$dir/new ./at after getdents64 2 "mv '$dir/new' '$dir/moved' && ln -s victim '$dir/new'" \
	./cowctl create x >"$out" 2>"$err"
is "store: a link takes its place: nothing is mounted there" not grep -q " $dir/victim " /proc/mounts
is "store: ... but where it was seen to be empty" grep -q " $dir/moved cowmem " /proc/mounts
umount "$dir/moved" "$dir/victim" 2>/dev/null
mkdir "$dir/locked"
hold
told lock "$dir/locked"
is "store: somebody holds its lock" sh -c 'COWMEM_STORE=$1 ./cowctl create x 2>"$2"; [ $? = 1 ] && grep -q "somebody has locked it" "$2"' - "$dir/locked" "$err"
release
is "store: no parent" sh -c 'COWMEM_STORE=$1 ./cowctl create x 2>"$2"; [ $? = 1 ] && grep -q "mount -t cowmem" "$2"' - "$dir/no/where" "$err"
race=0
for round in 1 2 3 4 5 6; do
	(for i in 1 2 3 4 5 6 7 8; do COWMEM_STORE=$dir/race ./cowctl create "r$i" & done; wait)
	[ "$(find "$dir/race" -type f | wc -l)/$(grep -c " $dir/race " /proc/mounts)" = 8/1 ] || race=$round
	while umount "$dir/race" 2>/dev/null; do :; done
done
is "store: eight make it at once, six times" [ $race = 0 ]
done_testing
