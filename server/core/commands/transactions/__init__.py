"""Transactions: several commands as one. In this order:

snapshot.py       commands on a snapshot of some keys; unrelayed.py
atomic_run.py     reads the keys of a slot, runs commands on a snapshot of them, stores what they wrote as one batch
watches.py        what WATCH remembers of a key
queueing.py       what happens to a command between MULTI and EXEC
queued_run.py     runs queued commands one after the other, those of keys of several slots
relayed.py        a transaction on the keys of one slot, on its way to their coordinator and there
commands.py       MULTI, EXEC, DISCARD, WATCH, UNWATCH
"""
