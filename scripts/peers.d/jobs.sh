# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-only
# For the peers, in the guest: what programs do in a directory $D. Each job prints what is to be the same
# everywhere, and its status says whether all went well: "set -e" does not hold where that is asked for.

# files DIR COUNT: that many files of 300 bytes or so, in three directories.
files()
{
	local dir

	for dir in 0 1 2; do
		mkdir -p "$1/$dir" || return
		seq "$dir$((10 ** 5))" "$dir$((10 ** 5 + $2 * 50 / 3))" | split -a 3 -d -l 50 - "$1/$dir/" || return
	done
}

# look DIR: all that is in it, with contents.
look()
{
	(
		cd "$1" || exit
		find . ! -name . -printf '%p %y %m %n %U %G %l ' \( -type d -printf '\n' -o -printf '%s %b\n' \) | LC_ALL=C sort
		find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum
	)
}

# git_job FILES
git_job()
{
	export GIT_AUTHOR_DATE='@1000000000 +0000' GIT_COMMITTER_DATE='@1000000000 +0000' GIT_CONFIG_NOSYSTEM=1
	local conf=(-c user.name=peer -c user.email=peer -c pack.threads=1 -c gc.auto=0 -C "$D/git")

	git -c init.defaultBranch=main init -q "$D/git" && files "$D/git" "$1" || return
	git "${conf[@]}" add -A && git "${conf[@]}" commit -qm one || return
	echo more >>"$D/git/0/001" && git "${conf[@]}" mv 1 moved && git "${conf[@]}" commit -qam two || return
	git "${conf[@]}" gc -q && git clone -q "$D/git" "$D/git.clone" || return
	git -C "$D/git.clone" fsck --full --strict 2>&1 && git -C "$D/git.clone" status --porcelain || return
	git -C "$D/git.clone" log --format='%H %T %s' && git -C "$D/git" count-objects -v && rm -r "$D/git/.git" || return
	diff -r --exclude=.git "$D/git" "$D/git.clone"
}

# zoo DIR: of each kind one, with owners, modes and times.
zoo()
(
	mkdir -p "$1/dir/empty" && cd "$1" || exit
	seq 20000 >dir/numbers && ln dir/numbers hard && ln -s dir/numbers soft && ln -s nowhere dangling || exit
	mkfifo -m 620 fifo && mknod -m 604 char c 1 7 && mknod block b 7 0 || exit
	truncate -s 1M sparse && echo data | dd of=sparse bs=4096 seek=100 conv=notrunc status=none || exit
	cp /usr/bin/true setuid && chown 5:7 setuid && chmod 4755 setuid && chmod 1777 dir && chown -h 8:9 soft || exit
	printf 'odd name' >$'a b\n\xc3\xa9' && : >empty || exit
	touch -d '2001-02-03 04:05:06.789012345' dir/numbers && touch -h -d @7 soft && touch -d @1000000000.5 fifo dir
)

# metadata DIR: with the times of all but directories that were made by the way.
metadata()
{
	(cd "$1" && find . -printf '%p %y %m %n %U %G %s %T@ %l\n' | LC_ALL=C sort && stat -c '%t %T %B %b' char block sparse)
}

tar_job()
{
	mkdir "$D/out" && zoo "$D/zoo" && tar -C "$D/zoo" --sort=name --format=posix -Scf "$D/tar" . || return
	tar -C "$D/out" -xpf "$D/tar" && tar -C "$D/zoo" -df "$D/tar" && tar -C "$D/out" -df "$D/tar" || return
	diff <(metadata "$D/zoo") <(metadata "$D/out") && diff -r --no-dereference "$D/zoo/dir" "$D/out/dir" || return
	look "$D/out"
}

# Out to another file system, changed there, and back.
rsync_job()
{
	local away=/run/rsync args=(-aHS --checksum --modify-window=-1)

	rm -rf "$away" && zoo "$D/zoo" && rsync "${args[@]}" "$D/zoo/" "$away/" || return
	diff <(metadata "$D/zoo") <(metadata "$away") || return
	seq 7 >>"$away/hard" && rm "$away/empty" && chmod 600 "$away/setuid" || return
	rsync "${args[@]}" --no-whole-file --inplace --delete "$away/" "$D/zoo/" || return
	# What it would still have to do.
	rsync "${args[@]}" -ni --delete "$away/" "$D/zoo/" && diff <(metadata "$away") <(metadata "$D/zoo") || return
	look "$D/zoo" && rm -r "$away"
}

# A program, with a library, is made and run; then only what changed is made again.
make_job()
(
	mkdir "$D/make" && cd "$D/make" || exit
	# shellcheck disable=SC2016 # make's
	printf 'int twice(int n) { return 2 * n; }\n' >twice.c &&
		printf 'int twice(int);\nint four(void) { return twice(2); }\n' >four.c &&
		printf '#include <stdio.h>\nint four(void);\n' >main.c &&
		printf 'int main(void) { return printf("four: %%d\\n", four()) < 0; }\n' >>main.c &&
		printf '%s\n' 'four: main.o four.o libtwice.so' '	tcc -o $@ main.o four.o -L. -ltwice -Wl,-rpath=$(CURDIR)' \
			'libtwice.so: twice.o' '	tcc -shared -o $@ $^' '%.o: %.c' '	tcc -c -o $@ $<' >Makefile || exit
	make -s && ./four && make -q && tcc -L. -ltwice four.c -run main.c || exit
	sleep 0.1
	sed -i 's/twice(2)/twice(2) + 1/' four.c && make && ./four && sha256sum ./*.o
)

# sqlite_job MODE ROWS
sqlite_job()
{
	sqlite3 -bail "$D/db" "PRAGMA journal_mode=$1; CREATE TABLE t(id INTEGER PRIMARY KEY, text TEXT);" \
		"WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < $2)
			INSERT INTO t SELECT i, hex(zeroblob(400)) || i FROM c;" \
		"CREATE INDEX x ON t(text); DELETE FROM t WHERE id % 3 = 0; VACUUM; PRAGMA integrity_check;" \
		"SELECT sum(id), count(*) FROM t;" .sha3sum
}

# lmdb_job ROWS
lmdb_job()
{
	mkdir "$D/lmdb" && seq "$1" | awk 'BEGIN { print "VERSION=3\nformat=print\ntype=btree\nmapsize=16777216\nHEADER=END" }
		{ printf " %06d\n %0400d\n", $1, $1 } END { print "DATA=END" }' | mdb_load "$D/lmdb" || return
	mdb_dump -p "$D/lmdb" | sha256sum && mdb_stat "$D/lmdb" && mdb_copy -c "$D/lmdb" >"$D/copy" || return
	mdb_dump -np "$D/copy" | sha256sum
}

# fio_job SIZE ENGINE...: each with a file of its own, at the same time.
fio_job()
{
	local size=$1 engine args=()

	for engine in "${@:2}"; do args+=(--name="$engine" --ioengine="$engine"); done
	fio --output-format=terse --output="$FIO_OUT" --directory="$D" --size="$size" --fallocate=none --bs=4k --iodepth=8 \
		--rw=randrw --verify=crc32c --verify_fatal=1 --do_verify=1 "${args[@]}"
}
FIO_OUT=/tmp/fio.out

# qemu_start: its RAM is $D/guest, in which it writes as peers.d/stamper.S says. There is nothing but a CPU.
qemu_start()
{
	qemu-system-x86_64 -M microvm,memory-backend=ram,x-option-roms=off,pit=off,pic=off,rtc=off,isa-serial=off -m 8M \
		-accel tcg,tb-size=8 -bios /peers/stamper.rom -nodefaults -no-user-config -display none \
		-object "memory-backend-file,id=ram,mem-path=$D/guest,share=on,size=8M" &
	qemu=$!
}

# qemu_stamped: it runs, and writes.
qemu_stamped()
{
	until [ "$(od -A n -t u4 -j $((0x100000)) -N 4 "$D/guest" 2>/dev/null | tr -d ' ')" -gt 0 ] 2>/dev/null; do
		# What the shell has to say of its end belongs to the job.
		kill -0 "$qemu" || { wait "$qemu"; return; }
		sleep 0.2
	done
}
