# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
# The program in the EXAMPLES of a manual page, or with want=output what the page says that it prints: the first block
# there, or the second. Wants ../../man/test/unroff.awk.

/^\.SH / { examples = $0 == ".SH EXAMPLES" }
/^\.EE/ { inside = 0 }
inside { print unroff($0) }
/^\.EX/ { inside = examples && ++block == (want == "output" ? 2 : 1) }
