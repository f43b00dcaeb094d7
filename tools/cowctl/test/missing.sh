# shellcheck shell=dash disable=SC2154,SC2016 # set by lib.sh; for sh -c
# Without the module each verb says so and ends with 1, or with 2 where it was called wrongly.
if [ -e /sys/module/cowmem ]; then
	echo "ok 1 missing # SKIP the module is loaded"
	echo "1..1"
	exit 0
fi

lacks="not loaded: modprobe cowmem"
# Each that there is. What else is bad input of theirs is in the tests of what they do.
verbs=$(./cowctl --help | awk '/^  [a-z]/ { print $1 }')
is "there are 16 verbs" [ "$(echo "$verbs" | wc -l)" -ge 16 ]
for verb in $verbs; do
	is "$verb: no such option" says 2 "cowctl $verb --help" "$verb" --nonsense
	is "$verb --help" run 0 "$verb" --help
	is "$verb --help: says how" grep -q "^Usage: cowctl $verb" "$out"
done
is "list" says 1 "$lacks" list
is "create" says 1 "$lacks" create x
is "create: a size with an exponent" says 2 "wants a size" create --size 1.5e3M x
is "create: no directory stays" [ ! -e "$COWMEM_STORE" ]
touch "$dir/file"
# Whatever they are told to look at, that is the reason.
mkdir "$dir/directory"
for verb in info merge list; do
	is "$verb: a file" says 1 "$lacks" $verb "$dir/file"
	is "$verb: a name" says 1 "$lacks" $verb name
	is "$verb: a process without regions" says 1 "$lacks" $verb $$
done
for verb in info merge; do
	is "$verb: a descriptor" says 1 "$lacks" $verb $$:1
	is "$verb: no argument" says 2 "an argument is missing" $verb
done
for verb in clone snapshot restore diff; do
	is "$verb: a file" says 1 "$lacks" $verb "$dir/file" "$dir/file"
	is "$verb: a name" says 1 "$lacks" $verb name name
	is "$verb: a process without regions" says 1 "$lacks" $verb $$ name
	is "$verb: one argument" says 2 "missing" $verb name
done
is "create: by path" says 1 "$lacks" create "$dir/directory/x"
is "snapshot of a directory" says 1 "$lacks" snapshot "$dir" x
is "list: a directory" says 1 "$lacks" list "$dir"
is "seal" says 1 "$lacks" seal "$dir/file" write
is "send: a file" says 1 "$lacks" send -o "$dir/stream" "$dir/file"
is "export: a file" says 1 "$lacks" export "$dir/file" "$dir/bytes"
is "import: to a path" says 1 "$lacks" import "$dir/file" "$dir/directory/x"
is "import: to a name" says 1 "$lacks" import "$dir/file" name
is "receive: to a name" says 1 "$lacks" receive -i "$dir/file" name
is "a directory stays as it is" [ -z "$(ls -A "$dir/directory")" ]
is "seal: no such seal" says 2 "no seal" seal "$dir/file" wax
is "top" run 1 top -b -n 1
is "top: says so" grep -q "$lacks" "$err"
is "doctor" run 1 doctor
is "doctor: says so" grep -q "not loaded" "$out"
is "vm: no socket" says 1 "No such file" vm save "$dir/none" "$dir/vm"
is "vm: no such verb" says 2 "neither fork, save nor revert" vm fly
is "doctor: JSON" run 1 doctor --json
is "doctor: JSON parses" sh -c './json checks.0 <"$1" >/dev/null' - "$out"
# Here, as a guest has no locale in which they could be shown. "e" with an accent is.
is "a name that can be shown" says 1 "$(printf "\303\251: ")" info "$(printf "\303\251")"
# shellcheck disable=SC2059 # the escapes are the point
for char in '\330\234 \\xd8\\x9c' '\342\200\213 \\xe2\\x80\\x8b' '\342\201\240 \\xe2\\x81\\xa0' \
	'\357\273\277 \\xef\\xbb\\xbf' '\363\240\201\201 \\xf3\\xa0\\x81\\x81'; do
	is "what cannot be seen is: ${char#* }" says 1 "a$(printf "${char#* }")b" info "$(printf "a${char% *}b")"
done
is "--version" run 0 --version
is "--help" run 0 --help
is "a name that is none" says 1 "''" info ""
is "COWMEM_STORE: not an absolute path" sh -c 'COWMEM_STORE=here ./cowctl create x 2>"$1"; [ $? = 2 ] && grep -q "absolute path" "$1"' - "$err"
is "COWMEM_STORE: ... is not made" [ ! -e here ]
# A full disk; some verbs have -h, which is help to none.
for words in --help --version "create --help" "top --help"; do
	is "$words: a full disk" sh -c './cowctl $2 >/dev/full 2>"$1"; [ $? = 1 ] && grep -q "standard output: No space" "$1"' - "$err" "$words"
done
for verb in $verbs; do
	if ./cowctl "$verb" --help | grep -q "^  -h"; then
		is "$verb -h: sizes, as --help says" sh -c './cowctl "$1" -h --help >/dev/null' - "$verb"
	else
		is "$verb -h: none, and where there is help" says 2 "no option -h; see cowctl $verb --help" "$verb" -h
	fi
done
is "which verbs have -h: cowctl --help says it" sh -c './cowctl --help | tr "\n" " " | grep -q "list, info, diff and merge have -h"'
# Sizes: as -h prints them, and no larger than a file can be.
sizes() { says 2 "$1" create --size "$2" x y; }
for size in 4096 0 64K 64k 1.5M 0.5G 1MiB 2gib 7.9E 512B; do
	is "size: $size" sizes "too many" $size
done
for size in 1.5 1MB 1K5 .5M 1.M 1,5M M -1 1.5e3 0x10 '' 1.5MM; do
	is "size: not $size" sizes "wants a size" "$size"
done
for size in 100E 8E 9223372036854775808 99999999999999999999 7.9999999999999999999E; do
	is "size: $size is too large" sizes "is too large" $size
done
done_testing
