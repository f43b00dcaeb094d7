#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Look for arrows that go up in module/: Kbuild lists its files from the bottom up.

Usage: scripts/layers.py [OBJECTS...]

A file may include headers of files that stand before it in that list, and its own. A header without a .c file of its
own stands where the highest file stands whose header it includes. With OBJECTS, directories where the module was
built, no object may use a symbol that a later one defines, so that no declaration outside of a header goes unnoticed.
Tables of operations (..._ops, ..._fops) are what the VFS and lower files call up by: anybody may name them.
A file has at most 600 lines, a function 60. Prints what it finds, and nothing if all is well.
"""
import os
import re
import subprocess
import sys

MODULE = "module"
MAX_FILE = 600
MAX_FUNCTION = 60
# Asks what a kernel has, is no part of the module, and leads to a header that is made.
PROBES = "probes"


def read(name):
    with open(os.path.join(MODULE, name), encoding="utf-8") as file:
        return file.read()


def layers():
    """The files of the module, each with its place in the list."""
    with open("Kbuild", encoding="utf-8") as file:
        names = re.findall(r"^cowmem-y \+= module/(\S+)\.o$", file.read(), re.M)
    return {name: place for place, name in enumerate(names)}


def included(name):
    return re.findall(r'^#include "(.+)\.h"$', read(name), re.M)


def places_of(header, places):
    """The files that including a header amounts to including headers of."""
    if header in places:
        return {header}
    if header == PROBES:
        return set()
    return set().union(*(places_of(other, places) for other in included(header + ".h")))


def check_includes(places):
    for name in sorted(os.listdir(MODULE)):
        stem = name[:-2]
        if name.endswith(".c") and stem not in places and stem != PROBES:
            print(f"{MODULE}/{name}: not in Kbuild")
        if stem not in places:
            continue
        for header in included(name):
            for other in sorted(places_of(header, places)):
                if places[other] > places[stem]:
                    print(f"{MODULE}/{name}: {header}.h goes up, to {other}")


def symbols(path):
    """What an object defines and what it uses."""
    output = subprocess.run(["nm", "--format=posix", path], check=True, capture_output=True, text=True).stdout
    kinds = [line.split()[:2] for line in output.splitlines()]
    kinds = [(symbol, kind) for symbol, kind in kinds if symbol.startswith("cowmem_")]
    return ({symbol for symbol, kind in kinds if kind.isupper() and kind != "U"},
            {symbol for symbol, kind in kinds if kind == "U"})


def check_symbols(places, objects):
    defined, used = {}, {}
    for name in places:
        defines, used[name] = symbols(os.path.join(objects, name + ".o"))
        defined.update(dict.fromkeys(defines, name))
    for name, uses in used.items():
        for symbol in sorted(uses):
            if places[defined[symbol]] > places[name] and not re.search(r"_f?ops$", symbol):
                print(f"{MODULE}/{name}.c: {symbol} goes up, to {defined[symbol]}")


def check_lengths():
    for name in sorted(os.listdir(MODULE)):
        lines = read(name).splitlines()
        if len(lines) > MAX_FILE:
            print(f"{MODULE}/{name}: {len(lines)} lines, more than {MAX_FILE}")
        start = 0
        for number, line in enumerate(lines, 1):
            # The body of a function stands between braces in the first column, below its head.
            if line == "{":
                start = number
                while lines[start - 2] and not lines[start - 2].endswith("*/"):
                    start -= 1
            elif line == "}" and number - start >= MAX_FUNCTION:
                print(f"{MODULE}/{name}:{start}: a function of {number - start + 1} lines, more than {MAX_FUNCTION}")


def main():
    if sys.argv[1:] in (["-h"], ["--help"]):
        print(__doc__)
        return
    places = layers()
    check_includes(places)
    for objects in sys.argv[1:]:
        check_symbols(places, objects)
    check_lengths()


main()
