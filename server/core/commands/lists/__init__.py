"""Lists: their commands, by index and from either end.

Read `items.py` first: how an item is found. Then `queries.py` (LLEN, LINDEX, LRANGE, LPOS), `edits.py` (pushes, pops, LSET,
LINSERT, LREM, LTRIM), `several.py` (LMOVE, RPOPLPUSH, LMPOP), and `commands.py`, the table.
"""
