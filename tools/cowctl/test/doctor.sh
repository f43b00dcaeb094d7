# shellcheck shell=dash disable=SC2154,SC2016 # set by lib.sh; for sh -c
# doctor, shown machines that this one is not.
r=$dir/root
export COWCTL_ROOT=$r

# machine: one where all is well, as $r
machine()
{
	rm -rf "$r"
	mkdir -p "$r/proc/sys/kernel" "$r/boot" "$r/sys/module/cowmem/parameters" "$r/sys/class/misc/cowmem" \
		"$r/usr/lib/udev/rules.d" "$r/etc" "$r/dev" "$r/sys/kernel/security" "$r/lib/modules/6.1.0-9-amd64/updates" \
		"$r/lib/modules/6.1.0-8-amd64" "$r/sys/firmware/efi/efivars" "$r/sys/module/module/parameters"
	echo 12.1 >"$r/etc/debian_version"
	echo 6.1.0-9-amd64 >"$r/proc/sys/kernel/osrelease"
	printf 'CONFIG_%s=y\n' MODULES TRANSPARENT_HUGEPAGE MEMCG EVENT_TRACING >"$r/boot/config-6.1.0-9-amd64"
	./cowctl --version | cut -d ' ' -f 2 >"$r/sys/module/cowmem/version"
	echo 0 >"$r/sys/module/cowmem/parameters/limit_mib"
	echo 2048 >"$r/sys/module/cowmem/parameters/held_kib"
	echo 'updates/cowmem.ko:' >"$r/lib/modules/6.1.0-9-amd64/modules.dep"
	echo "a module that is longer than the mark of a signature" >"$r/lib/modules/6.1.0-9-amd64/updates/cowmem.ko"
	echo '[none] integrity confidentiality' >"$r/sys/kernel/security/lockdown"
	echo N >"$r/sys/module/module/parameters/sig_enforce"
	printf '\6\0\0\0\0' >"$secure_boot"
	touch "$r/usr/lib/udev/rules.d/99-cowmem.rules"
	# Whose /dev/null it is cannot be chosen, so the group is what it has.
	ln -s /dev/null "$r/dev/cowmem"
	echo 1:3 >"$r/sys/class/misc/cowmem/dev"
	echo "cowmem:x:$(stat -Lc %g /dev/null):" >"$r/etc/group"
}

# finds STATUS CHECK WORDS: doctor says STATUS of CHECK, with WORDS in the line or in that below, and ends accordingly;
# /dev/null is open to everybody, so in this test that is the one problem of a machine that is well
finds()
{
	./cowctl doctor >"$out" 2>"$err"
	got=$?
	[ ! -s "$err" ] && [ "$got" = 1 ] && grep -A 1 "^$1 *$2 " "$out" | grep -qF -e "$3"
}

# node MODE GID: a device as it should be, if we may make one
node()
{
	rm "$r/dev/cowmem"
	mknod "$r/dev/cowmem" c 1 3 2>/dev/null && chmod "$1" "$r/dev/cowmem" && chgrp "$2" "$r/dev/cowmem"
}

secure_boot=$r/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c
machine
for check in kernel config module signature versions device memory; do
	is "well: $check" finds ok $check ""
done
is "device: open to everybody" finds problem group "chmod o="
if node 660 1234; then
	echo 'cowmem:x:1234:' >"$r/etc/group"
	is "well: status 0" run 0 doctor
	is "well: no problem" not grep -q problem "$out"
	is "JSON" json checks.0.status ok doctor
	node 660 0
	is "group: the device does not belong to it" finds problem group "udevadm trigger"
	node 600 1234
	is "group: which may not open it" finds problem group "udevadm trigger"
	node 660 1234
	echo 'root:x:0:' >"$r/etc/group"
	is "group: there is none" finds problem group "groupadd --system cowmem"
	rm "$r/usr/lib/udev/rules.d/99-cowmem.rules"
	is "group: no rule is no problem" run 0 doctor
	is "group: but a note" grep -q "^note *group" "$out"
else
	echo "ok $((tests += 1)) group # SKIP no device can be made here"
fi

machine
rm -r "$r/sys/module/cowmem"
is "module: not loaded" finds problem module "modprobe cowmem"
rm "$r/lib/modules/6.1.0-9-amd64/modules.dep"
is "module: nowhere" finds problem module "apt install cowmem-dkms linux-headers-6.1.0-9-amd64"
echo 'updates/dkms/cowmem.ko.xz:' >"$r/lib/modules/6.1.0-8-amd64/modules.dep"
is "module: for another kernel" finds problem module "built for 6.1.0-8-amd64, not for 6.1.0-9-amd64"
is "module: ... what mends it" grep -q "dkms autoinstall -k 6.1.0-9-amd64" "$out"

# apt has headers for kernels of the distribution alone.
nowhere()
{
	machine
	rm -r "$r/sys/module/cowmem" "$r"/lib/modules/*/modules.dep
}
nowhere
echo 6.18.44-fc-v669 >"$r/proc/sys/kernel/osrelease"
is "module: nowhere, and no kernel of Debian" finds problem module "make modules_install"
is "module: ... apt is not told of" not grep -q "apt install" "$out"
nowhere
rm "$r/etc/debian_version"
is "module: nowhere, and no Debian" finds problem module "make modules_install"

machine
printf '\6\0\0\0\1' >"$secure_boot"
is "signature: Secure Boot, and it is loaded" finds ok signature "Secure Boot is on"
rm -r "$r/sys/module/cowmem"
is "signature: Secure Boot, not signed" finds problem signature "mokutil --import"
printf 'code~Module signature appended~\n' >"$r/lib/modules/6.1.0-9-amd64/updates/cowmem.ko"
is "signature: Secure Boot, signed" finds note signature "if its key is enrolled"
rm "$r/lib/modules/6.1.0-9-amd64/modules.dep"
is "signature: Secure Boot, not built" finds note signature "will need a signature"
printf '\6\0\0\0\0' >"$secure_boot"
echo 'none [integrity] confidentiality' >"$r/sys/kernel/security/lockdown"
is "signature: lockdown" finds note signature "locked down"
echo '[none] integrity confidentiality' >"$r/sys/kernel/security/lockdown"
echo Y >"$r/sys/module/module/parameters/sig_enforce"
is "signature: sig_enforce" finds note signature "wants modules signed"

machine
echo 5.10.0-1 >"$r/proc/sys/kernel/osrelease"
is "kernel: too old" finds problem kernel "older than 6.1"
echo 9.9.9 >"$r/proc/sys/kernel/osrelease"
is "kernel: newer than what was tried" finds note kernel "newer than"
is "config: there is none" finds note config "neither in"

machine
sed -i /HUGEPAGE/d "$r/boot/config-6.1.0-9-amd64"
is "config: without huge pages" finds note config "no memory of 2 MiB"
echo 0.9 >"$r/sys/module/cowmem/version"
is "versions: another module" finds problem versions "the module that is loaded is 0.9"
echo 100 >"$r/sys/module/cowmem/parameters/limit_mib"
is "memory: room" finds ok memory "2 MiB are held of 100"
echo 99999 >"$r/sys/module/cowmem/parameters/held_kib"
is "memory: nearly full" finds problem memory "limit_mib allows for 100"
echo 7:7 >"$r/sys/class/misc/cowmem/dev"
is "device: another one" finds problem device "not the module's device"
rm "$r/dev/cowmem"
is "device: none" finds problem device "there is no /dev/cowmem"
echo x >"$r/dev/cowmem"
is "device: a file" finds problem device "not the module's device"
printf '1.0\033[2J\n' >"$r/sys/module/cowmem/version"
is "hostile: what a file says is made safe" finds problem versions '\x1b[2J'
unset COWCTL_ROOT

is "an argument" says 2 "one argument too many" doctor now
is "an option" says 2 "no option" doctor --cure
if [ -e /sys/module/cowmem ] && [ "$(id -u)" = 0 ]; then
	for check in kernel module versions device features memory; do
		is "in earnest: $check" sh -c './cowctl doctor >"$1"; grep -q "^ok *$2 " "$1"' - "$out" $check
	done
fi
done_testing
