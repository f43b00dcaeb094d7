# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-only
# What the scripts share; to be sourced. Everything said here goes to stderr.
# shellcheck disable=SC2034 # used by those who source this

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
BUILD=${COWMEM_BUILD:-$TOP/build}
# For need(): the libraries that tools/ is built with. debian/control has them, too.
TOOLS_NEED=(/usr/include/jansson.h:libjansson-dev /usr/include/libsmartcols/libsmartcols.h:libsmartcols-dev
	/usr/include/zstd.h:libzstd-dev /usr/include/xxhash.h:libxxhash-dev
	/usr/include/traceevent/event-parse.h:libtraceevent-dev /usr/include/tracefs/tracefs.h:libtracefs-dev)
CACHE=${COWMEM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/cowmem}

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() { say "$*"; exit 1; }

# APT_OPTIONS may say more.
apt()
{
	DEBIAN_FRONTEND=noninteractive apt-get -qq -o APT::Sandbox::User=root -o DPkg::Lock::Timeout=300 \
		-o Dpkg::Use-Pty=0 ${APT_OPTIONS[@]+"${APT_OPTIONS[@]}"} "$@" >&2
}

# Refresh apt's lists, at most once per run.
apt_update()
{
	[ -z "${APT_UPDATED:-}" ] || return 1
	[ "$(id -u)" = 0 ] || die "apt's package lists are missing or old: run 'apt-get update' as root"
	say "updating the package lists"
	apt update
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
	apt install -y --no-install-recommends "${missing[@]}" ||
		{ apt_update && apt install -y --no-install-recommends "${missing[@]}"; } ||
		die "could not install ${missing[*]}"
}
