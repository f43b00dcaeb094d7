# SPDX-License-Identifier: GPL-2.0-only
# The commands in the EXAMPLES of manual pages, as a shell function that prints them: "PAGE COMMAND" a line.
BEGIN { print "examples()\n{\n\tcat <<\"EOF\"" }
END { print "EOF\n}\n" }
FNR == 1 { page = FILENAME; sub(/.*\//, "", page) }
/^\.SH/ { on = /EXAMPLES/ }
on && sub(/^# /, "") { gsub(/\\-/, "-"); print page, $0 }
