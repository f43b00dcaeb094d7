# SPDX-License-Identifier: GPL-2.0-only
# For extract: the programs and the session of a page, into files below dir.
/^\.SH / { examples = $2 == "EXAMPLES"; file = dir "/session" }
/^\.SS Program source: / { file = dir "/" $4; gsub(/\\/, "", file) }
/^\.EE/ { inside = 0 }
inside { print unroff($0) >file }
/^\.EX/ { inside = examples }
