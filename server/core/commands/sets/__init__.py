"""Sets: distinct elements (https://redis.io/docs/latest/commands/?group=set).

Theory. A set is a record of entries (records/entries.py): an entry for each element. An add on one side of a partition
survives a removal on the other side, which has not seen it.
"""
