# shellcheck shell=dash disable=SC2154,SC2016 # set by lib.sh; for sh -c
# What the EXAMPLES of the manual pages say: examples() prints a line for each, "PAGE COMMAND"; cowctl.mk makes it of the
# pages. In them 4711 is a process that has one region, and /mnt/live a mount with a file db.
need_module
need_root
mkdir -p "$dir/mount" "$dir/bin"
ln -s "$PWD/cowctl" "$dir/bin/cowctl"
export PATH="$dir/bin:$PATH"

begin_page()
{
	mount -t cowmem cowmem "$dir/mount"
	./cowctl create --size 1M "$dir/mount/db"
	echo data | dd of="$dir/mount/db" conv=notrunc 2>/dev/null
	hold
	fd=$(ask region heap 1048576)
	told fill "$fd" 0 20000 65
}

end_page()
{
	release
	umount "$dir/mount" "$COWMEM_STORE" 2>/dev/null
}

last=
while IFS=' ' read -r page command <&3; do
	if [ "$page" != "$last" ]; then
		[ -z "$last" ] || end_page
		begin_page
		last=$page
	fi
	real=$(echo "$command" | sed "s,/mnt/live,$dir/mount,g; s,4711:5,$pid:$fd,g; s,4711,$pid,g")
	is "$page: $command" sh -c "$real" >"$out" 2>"$err" 3<&- 8<&- 9>&-
	tail -n 1 "$out"
	grep '^#' "$out"
	grep -q '^not ok' "$out" && cat "$err"
done 3<<END
$(examples)
END
[ -z "$last" ] || end_page
is "there are some" [ "$tests" -gt 15 ]
done_testing
