"""Streams: entries that are added at the end, under ids that grow. There are no consumer groups.

ids.py        the ids of entries, as words and as fields of a record
edits.py      commands that change a stream: XADD, XDEL, XTRIM
queries.py    commands that read one: XLEN, XRANGE, XREVRANGE
waiting.py    XREAD, which may wait for entries
commands.py   their table
"""
