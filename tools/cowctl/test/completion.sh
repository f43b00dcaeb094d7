# shellcheck shell=dash disable=SC2154,SC2016 # set by lib.sh; for sh -c
# What bash offers behind "cowctl ...": cowctl.bash lies beside this test.
if ! command -v bash >/dev/null; then
	echo "ok 1 completion # SKIP no bash"
	echo "1..1"
	exit 0
fi
export PATH="$PWD:$PATH"

# offers WORDS ARGS...: WORDS, sorted, are what it offers for the last of ARGS
offers()
{
	wanted=$1
	shift
	got=$(bash -c '. "$1"; shift; compopt() { :; }; COMP_WORDS=(cowctl "$@"); COMP_CWORD=$#; _cowctl
		[ ${#COMPREPLY[@]} = 0 ] || printf "%s\n" "${COMPREPLY[@]}" | sort | tr "\n" " "' - "$PWD/cowctl.bash" "$@" 2>"$err")
	[ "$got" = "${wanted:+$wanted }" ] && [ ! -s "$err" ] && return
	echo "# '$got', not '$wanted'"
	return 1
}

mkdir "$COWMEM_STORE" "$dir/here"
touch "$COWMEM_STORE/before-upgrade" "$COWMEM_STORE/two words" "$dir/here/before-lunch"
is "verbs" offers "clone create" c
is "a verb" offers "snapshot" sn
is "all verbs" sh -c '[ "$(bash -c ". ./cowctl.bash; COMP_WORDS=(cowctl \"\"); COMP_CWORD=1; _cowctl; echo \${#COMPREPLY[@]}")" -ge 13 ]'
is "no such verb" offers "" fly
is "options of a verb" offers "--content --help --human-readable --json --stat" diff --
is "options, short and long" offers "--content --help --human-readable --json --stat -c -h -s" diff -
is "options of an option without a long name" offers "--help --json --replace --timeout -n -r -t" vm fork -
for verb in $(./cowctl --help | awk '/^  [a-z]/ { print $1 }'); do
	is "$verb has --help" offers "--help" "$verb" --he
	is "$verb: what is offered is what it takes" sh -c '
		for option in $(bash -c ". ./cowctl.bash; _cowctl_options $1"); do
			case $(timeout 5 ./cowctl $1 $option 2>&1 </dev/null) in *"no option"*) [ "$1" = vm ] || { echo "# $option"; exit 1; } ;; esac
		done' - "$verb"
done
is "an option" offers "--expendable" snapshot --e
is "a name in the store" offers "before-upgrade" snapshot before-u
is "a name with a space" offers "two words" info two
is "a path" offers "$dir/here/before-lunch" info "$dir/here/be"
is "seals" offers "seal shrink" seal region s
is "what can be done to a VM" offers "save" vm s
is "a path for a VM" offers "$dir/here/before-lunch" vm save "$dir/here/be"
if [ -e /sys/module/cowmem ]; then
	hold
	told region "heap" 4096
	is "a process that has a region" sh -c 'bash -c ". ./cowctl.bash; _cowctl_processes" | grep -qx "$1"' - "$pid"
	is "... by its number" offers "$pid" info "$pid"
	release
fi
cat >"$dir/list" <<"END"
#!/bin/sh
printf '{ "regions": [ {\n      "pid": 4711,\n      "fds": [ 4712 ],\n      "pid": 4799,\n      "pid": 4711,\n'
END
mkdir "$dir/bin"
mv "$dir/list" "$dir/bin/cowctl"
chmod +x "$dir/bin/cowctl"
old=$PATH
PATH=$dir/bin:$PATH
is "processes, each once" offers "4711 4799" info 47
is "... none where no number begins" offers "" info xyz
PATH=$old
is "nothing for a size" offers "" create --size ""
is "nothing for doctor" offers "" doctor ""
done_testing
