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
is "create: no directory stays" [ ! -e "$COWMEM_STORE" ]
touch "$dir/file"
for verb in info merge; do
	is "$verb: a file" says 1 "not a region" $verb "$dir/file"
	is "$verb: a name" says 1 "no store" $verb name
	is "$verb: a process without regions" says 1 "has no region" $verb $$
	is "$verb: a descriptor" says 1 "not a region" $verb $$:1
	is "$verb: no argument" says 2 "an argument is missing" $verb
done
for verb in clone snapshot restore diff; do
	is "$verb: a file" says 1 "not a region" $verb "$dir/file" "$dir/file"
	is "$verb: a name" says 1 "no store" $verb name name
	is "$verb: one argument" says 2 "missing" $verb name
done
is "snapshot of a directory" says 1 "not on a mount" snapshot "$dir" x
is "seal" says 1 "not a region" seal "$dir/file" write
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
done_testing
