# SPDX-License-Identifier: GPL-2.0-only
# A line between .EX and .EE of a manual page as it is read.
function unroff(line)
{
	sub(/^\\&/, "", line)
	gsub(/\\-/, "-", line)
	gsub(/\\\(aq/, "'", line)
	gsub(/\\\(ha/, "^", line)
	gsub(/\\\(ti/, "~", line)
	gsub(/\\\(ga/, "`", line)
	gsub(/\\e/, "\\", line)
	return line
}
