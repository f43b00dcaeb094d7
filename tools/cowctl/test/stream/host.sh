# shellcheck shell=dash disable=SC2154 # set by lib.sh
# What of send, receive, export and import can be seen without the module: plain files are received, and all else says
# what is missing.
if [ -e /sys/module/cowmem ]; then
	echo "ok 1 host # SKIP the module is loaded"
	echo "1..1"
	exit 0
fi

lacks="not loaded: modprobe cowmem"
stream=$dir/stream
./stream-codec --write "$stream"

holds_hello()
{
	[ "$(stat -c %s "$1")" = 4108 ] && [ "$(tail -c 12 "$1")" = "hello world" ] && [ ! -e "$dir/.${1##*/}.part" ]
}

# feed STATUS WORDS LENGTH ARGS...: as says(), with the first LENGTH bytes of the stream on stdin
feed()
{
	want=$1 words=$2 length=$3
	shift 3
	head -c "$length" "$stream" | ./cowctl "$@" >"$out" 2>"$err"
	[ $? = "$want" ] && grep -qF -e "$words" "$err" && [ "$(wc -l <"$err")" = 1 ]
}

is "a stream becomes a plain file" quiet receive -i "$stream" "$dir/file"
is "with its bytes" holds_hello "$dir/file"
is "its name is taken" says 1 "it exists; remove it, or choose another name" receive -i "$stream" "$dir/file"
is "a directory of the name" says 1 "is a directory; name something new in it" receive -i "$stream" "$dir"
is "a directory to read" says 1 "it is a directory; name a file in it" receive -i "$dir" "$dir/new"
is "cut in the header" feed 1 "is cut" 50 receive "$dir/cut"
is "cut in a block" feed 1 "is cut" 125 receive "$dir/cut"
is "nothing has the name" [ ! -e "$dir/cut" ]
is "empty" feed 1 "is empty" 0 receive "$dir/cut"
is "all of it" quiet receive -i "$stream" "$dir/cut"
is "with its bytes, too" holds_hello "$dir/cut"
is "into the store" says 1 "$lacks" receive -i "$stream" name
is "no directory stays" [ ! -e "$COWMEM_STORE" ]
is "no directory there" says 1 "No such file" receive -i "$stream" "$dir/none/file"
is "--token of nothing" says 1 "nothing has come" receive --token "$dir/new"
is "--abort of nothing" says 1 "there is no part to give up" receive --abort "$dir/new"
is "no stream" says 1 "no stream of cowctl send" receive -i ./stream-codec "$dir/new"
is "no input" says 1 "No such file" receive -i "$dir/none" "$dir/new"
is "import into the store" says 1 "$lacks" import "$dir/file" name
is "import elsewhere" says 1 "$lacks" import "$dir/file" "$dir/new"
is "import of nothing" says 1 "No such file" import "$dir/none" "$dir/new"
is "nothing was made" [ ! -e "$dir/new" ]
echo precious >"$dir/.new.part"
is "import where no region can be" says 1 "$lacks" import "$dir/file" "$dir/new"
is "receive, and .NAME.part is not cowctl's" says 1 "look at it, and remove it" receive -i "$stream" "$dir/new"
is "which stays" [ "$(cat "$dir/.new.part")" = precious ]
rm "$dir/.new.part"
for verb in send export; do
	to=$([ $verb = send ] || echo "$dir/new")
	# shellcheck disable=SC2086 # nothing, or one word
	is "$verb: a file" says 1 "$lacks" $verb "$dir/file" $to
	# shellcheck disable=SC2086
	is "$verb: a name" says 1 "$lacks" $verb name $to
	# shellcheck disable=SC2086
	is "$verb: a process without regions" says 1 "$lacks" $verb $$ $to
	is "$verb: no argument" says 2 "missing" $verb
done
for verb in send receive export import; do
	is "$verb --help" run 0 $verb --help
	is "$verb: no such option" says 2 "no option" $verb --nonsense
done
done_testing
