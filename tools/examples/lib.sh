# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-only
# What the examples' "run" share, beside what scripts do; to be sourced.
# shellcheck disable=SC2034 # used by those who source this
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib.sh"

nr=0 failed=0
# tell STATUS NAME: a line of TAP for a check that ended with STATUS.
tell()
{
	nr=$((nr + 1))
	if [ "$1" = 0 ]; then
		echo "ok $nr $2"
	else
		echo "not ok $nr $2"
		failed=1
	fi
}
