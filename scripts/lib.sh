# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-only
# What the scripts share; to be sourced. Everything said here goes to stderr.
# shellcheck disable=SC2034 # used by those who source this

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# For need(): the libraries that tools/ is built with. debian/control has them, too.
TOOLS_NEED=(/usr/include/jansson.h:libjansson-dev /usr/include/libsmartcols/libsmartcols.h:libsmartcols-dev
	/usr/include/zstd.h:libzstd-dev /usr/include/xxhash.h:libxxhash-dev
	/usr/include/traceevent/event-parse.h:libtraceevent-dev /usr/include/tracefs/tracefs.h:libtracefs-dev)
CACHE=${COWMEM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/cowmem}

# What guests are, by the kernel's name for it, and by Debian's.
declare -A DEBIAN_ARCHES=([x86_64]=amd64 [arm64]=arm64)

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() { say "$*"; exit 1; }

# answer_help "$@": is that --help? Then print the script's first comment, which tells its usage, and leave.
answer_help()
{
	case ${1-} in
	-h | --help) sed -n '3,/^[^#]/s/^# \{0,1\}//p' "$0"; exit ;;
	esac
}

nr=0 failed=0
# tell STATUS NAME: a line of TAP for what ended with STATUS. "nr" counts them, and "failed" those that failed.
tell()
{
	nr=$((nr + 1))
	if [ "$1" = 0 ]; then
		echo "ok $nr $2"
	else
		echo "not ok $nr $2"
		failed=$((failed + 1))
	fi
}

set_arch()
{
	DEBIAN_ARCH=${DEBIAN_ARCHES[$1]-}
	[ "$DEBIAN_ARCH" ] || die "no architecture '$1': there are ${!DEBIAN_ARCHES[*]}"
	export ARCH=$1
	BUILD=${COWMEM_BUILD:-$TOP/build} CROSS='' CROSS32=''
	# What is built for another architecture lies apart.
	[ "$1" = x86_64 ] || BUILD+=/$1 CROSS=aarch64-linux-gnu- CROSS32=arm-linux-gnueabihf-gcc-12
}
set_arch "${ARCH:-x86_64}"

# APT_OPTIONS may say more.
apt()
{
	DEBIAN_FRONTEND=noninteractive apt-get -qq -o APT::Sandbox::User=root -o DPkg::Lock::Timeout=300 \
		-o Dpkg::Use-Pty=0 ${APT_OPTIONS[@]+"${APT_OPTIONS[@]}"} "$@" >&2
}

apt_cache() { apt-cache ${APT_OPTIONS[@]+"${APT_OPTIONS[@]}"} "$@"; }

# apt_fresh ARGS...: apt, and if that fails once more with new lists.
apt_fresh() { apt "$@" || { apt_update && apt "$@"; }; }

# unpacked DIR PACKAGE...: print DIR, where those packages of Debian's are unpacked, without being installed.
unpacked()
{
	local tmp=$1.tmp.$$ deb

	if [ ! -e "$1" ]; then
		need dpkg-deb:dpkg
		mkdir -p "$tmp/debs" "$tmp/root"
		say "downloading ${*:2}"
		(cd "$tmp/debs" && apt_fresh download "${@:2}") || die "could not download them"
		for deb in "$tmp"/debs/*.deb; do dpkg-deb -x "$deb" "$tmp/root" || die "could not unpack $deb"; done
		# Somebody else may have been as quick.
		mv -T "$tmp/root" "$1" 2>/dev/null || [ -e "$1" ] || die "could not move $tmp/root to $1"
		rm -rf "$tmp"
	fi
	echo "$1"
}

# plain_make ARGS...: make, which hears nothing of a make that called us.
plain_make() { env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL -u ARCH make "$@"; }

# cross_compiler gcc|g++: the one for CROSS, which is not this machine's.
cross_compiler()
{
	need "$CROSS$1-12:$1-12-${CROSS%-}"
	echo "$CROSS$1-12"
}

# compiler gcc|g++: what builds programs for the guests, as words.
compiler()
{
	if [ ! "$CROSS" ]; then
		need "$1:$1" /usr/include/stdio.h:libc6-dev
		echo "$1"
	else
		echo "$(cross_compiler "$1") --sysroot=$("$TOP/scripts/kernels" root)"
	fi
}

# private_apt NAME ARCH SUITE...: from here on apt() and apt_cache() know those suites for that architecture, or if
# ARCH is "source" the sources, from the site of this system's packages, and nothing of what is installed. Without a
# SUITE they know those of this system. Lists and state are of its own, so that apt's are left alone; the archive's
# key is checked as ever.
private_apt()
{
	local keys=/usr/share/keyrings dir=$CACHE/apt/$1 arch=$2 suites=("${@:3}") site line

	line="deb [arch=$arch signed-by=$keys/debian-archive-keyring.gpg]"
	if [ "$arch" = source ]; then
		arch=$(dpkg --print-architecture)
		line="deb-src [signed-by=$keys/debian-archive-keyring.gpg]"
	fi

	# Early packages of the keys do not have those of trixie.
	need "$keys/debian-archive-trixie-automatic.gpg:debian-archive-keyring"
	debian_sites >/dev/null || { apt_update && debian_sites >/dev/null; } ||
		die "apt knows no site of Debian's: this needs Debian 12's packages"
	mkdir -p "$dir"/{lists/partial,cache/archives/partial}
	: >"$dir/status"
	if [ ${#suites[@]} -gt 0 ]; then
		site=$(debian_sites | awk '$1 !~ /-/ { print $2; exit }')
		printf '%s\n' "${suites[@]/#/$site }"
	else
		debian_sites | awk '{ print $2, $1 }'
	fi | sed "s|^|$line |; s|\$| main|" >"$dir/sources.list"
	APT_OPTIONS=(-o "Dir::Etc::SourceList=$dir/sources.list" -o "Dir::Etc::SourceParts=/dev/null"
		-o "Dir::State::Lists=$dir/lists" -o "Dir::Cache=$dir/cache" -o "Dir::State::status=$dir/status"
		-o "APT::Architecture=$arch" -o "APT::Architectures::=$arch")
	apt update || die "could not get the list of what Debian has for $1"
}

# Suites that this system's packages come from, each with its site.
debian_sites()
{
	# shellcheck disable=SC2016 # these are apt's
	apt-get indextargets --format '$(ORIGIN) $(CODENAME) $(SITE)' | sed -n 's/^Debian //p' | awk '!seen[$0]++' | grep .
}

# Refresh apt's lists, at most once per run.
apt_update()
{
	[ -z "${APT_UPDATED:-}" ] || return 1
	[ "$(id -u)" = 0 ] || die "apt's package lists are missing or old: run 'apt-get update' as root"
	say "updating the package lists"
	apt update || return 1
	export APT_UPDATED=1
}

# need FILE:PACKAGE...: install each package whose file (a command, or an absolute path) is missing.
need()
{
	local item missing=()

	for item; do
		case $item in
		/*) [ -e "${item%:*}" ] ;;
		*) PATH=$PATH:/usr/sbin:/sbin command -v "${item%:*}" >/dev/null ;;
		esac || missing+=("${item#*:}")
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	[ "$(id -u)" = 0 ] || die "please install: ${missing[*]}"
	say "installing ${missing[*]}"
	apt_fresh install -y --no-install-recommends "${missing[@]}" || die "could not install ${missing[*]}"
}
