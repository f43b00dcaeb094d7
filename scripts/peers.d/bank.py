# SPDX-License-Identifier: GPL-2.0-only
"""Move money between the 500 rows of an LMDB database, and count how often, until killed.

Usage: bank.py DIRECTORY [mapped]
"""
import random
import sys

import lmdb

env = lmdb.open(sys.argv[1], map_size=8 << 20, writemap="mapped" in sys.argv[2:])


def put(txn, row, money):
    """Rows differ in length, so that pages are split and joined."""
    txn.put(b"%04d" % row, b"%d %s" % (money, b"x" * random.randrange(400)))


with env.begin(write=True) as start:
    for i in range(500):
        put(start, i, 100)
    start.put(b"n", b"0")

n = 0
while True:
    with env.begin(write=True) as txn:
        n += 1
        txn.put(b"n", b"%d" % n)
        for source, target in [random.sample(range(500), 2) for _ in range(20)]:
            for i, change in (source, -n), (target, n):
                put(txn, i, int(txn.get(b"%04d" % i).split()[0]) + change)
