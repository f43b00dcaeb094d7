# shellcheck shell=dash disable=SC2154
# "ssh backup" of the examples is another store on this machine.
mkdir -p "$dir/bin"
cat >"$dir/bin/ssh" <<END
#!/bin/sh
shift
COWMEM_STORE=$dir/other exec "\$@"
END
chmod +x "$dir/bin/ssh"

