#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Print a #define for each function of probes.c that compiles, and whose LINKS() a kernel exports.
# Usage: probe.sh PROBES.C MODULE.SYMVERS COMPILER [FLAG]...
set -eu
probes=$1
symbols=$2
shift 2
# Without the symbols nobody can tell, and what is declared is taken for exported.
[ -e "$symbols" ] || symbols=/dev/null

status=0
said=$(LC_ALL=C "$@" -fsyntax-only -Wno-error -Werror=implicit-function-declaration \
	-Werror=incompatible-pointer-types -Werror=int-conversion "$probes" 2>&1) || status=$?
case $status:$said in 0:* | *' error: '*) ;; *) printf '%s\n' "$said" >&2; exit "$status" ;; esac
printf '%s\n' "$said" | awk -v probes="$probes" -v symbols="$symbols" '
# First, what the compiler said: lines of probes.c with errors, and errors elsewhere.
FILENAME == "-" && / error: / {
	split(substr($0, length(probes) + 1), at, ":")
	if (index($0, probes ":") == 1) wrong[at[2]] = $0; else other[++others] = $0
}
FILENAME == symbols { there[$2] = 1 }
FILENAME != probes { next }

match($0, /HAVE_[A-Z_]+\(/) { name = substr($0, RSTART, RLENGTH - 1); bad = 0 }
FNR in wrong && name { bad = 1 }
FNR in wrong && !name { other[++others] = wrong[FNR] }
name && match($0, /LINKS\([a-z_]+\)/) {
	if (symbols != "/dev/null" && !(substr($0, RSTART + 6, RLENGTH - 7) in there)) bad = 1
}
/^}/ && name { if (!bad) print "#define " name; name = "" }

END {
	for (i = 1; i <= others; i++) print other[i] >"/dev/stderr"
	exit others > 0
}' - "$symbols" "$probes"
