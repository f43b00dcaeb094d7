# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
# Completion for cowctl: verbs, their options as --help has them, and regions: files, names in the store, and, where a
# number begins, processes.

# Is what follows this option of this verb a number, or the like, that nobody can guess?
_cowctl_value()
{
	case $1:$2 in
	create:-s | create:--size | *:--offset | *:--length | merge:-r | *:--rate | *:--rounds | top:-n | \
		*:--iterations | top:-d | *:--delay | vm:-n | vm:-r | *:--replace | vm:-t | *:--timeout | *:-l | *:--level | *:--id | *:--base-id) return 0 ;;
	esac
	return 1
}

# The options of a verb: all that begins a line of its --help, which each has.
_cowctl_options()
{
	echo --help
	cowctl "$1" --help 2>/dev/null | grep -oE '^ +(-[a-z],? )?(--[a-z-]+)?' | grep -oE -- '-[a-z-]+'
}

# The processes that have regions.
_cowctl_processes()
{
	cowctl list --json 2>/dev/null | sed -n 's/^ *"pid": \([0-9]*\),$/\1/p'
}

# Names that others chose may have spaces and more in them: each is quoted as the shell wants it.
_cowctl_regions()
{
	local store=${COWMEM_STORE:-/run/cowmem} file

	compopt -o filenames 2>/dev/null
	mapfile -t COMPREPLY < <(compgen -f -- "$1")
	case $1 in
	*/*) return ;;
	[0-9]*) mapfile -t -O ${#COMPREPLY[@]} COMPREPLY < <(compgen -W "$(_cowctl_processes | sort -u)" -- "$1") ;;
	esac
	for file in "$store"/"$1"*; do
		[ -e "$file" ] && COMPREPLY+=("${file##*/}")
	done
}

_cowctl()
{
	local word=${COMP_WORDS[COMP_CWORD]} verb=${COMP_WORDS[1]} help

	COMPREPLY=()
	if [ "$COMP_CWORD" = 1 ]; then
		help=$(cowctl --help 2>/dev/null | sed -n 's/^  \([a-z]*\)  .*/\1/p')
		mapfile -t COMPREPLY < <(compgen -W "$help --help --version" -- "$word")
		return
	fi
	_cowctl_value "$verb" "${COMP_WORDS[COMP_CWORD - 1]}" && return
	case $word in
	-*)
		mapfile -t COMPREPLY < <(compgen -W "$(_cowctl_options "$verb" | sort -u)" -- "$word")
		return
		;;
	esac
	case $verb in
	top | doctor) ;;
	vm)
		if [ "$COMP_CWORD" = 2 ]; then
			mapfile -t COMPREPLY < <(compgen -W "fork save revert" -- "$word")
		else
			_cowctl_regions "$word"
		fi
		;;
	seal)
		if [ "$COMP_CWORD" = 2 ]; then
			_cowctl_regions "$word"
		else
			mapfile -t COMPREPLY < <(compgen -W "shrink grow write future-write seal" -- "$word")
		fi
		;;
	*) _cowctl_regions "$word" ;;
	esac
}

complete -F _cowctl cowctl
