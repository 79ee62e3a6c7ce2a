"""Sorted sets: members with a score each, in the order of their scores (https://redis.io/docs/latest/commands/?group=sorted-set).

Theory. A sorted set is a record of entries (records/entries.py): an entry for each member, whose payload is the score. The
entries lie in the order of the members' bytes; `order.py` makes the order by score of it, once a record, and keeps it.
What is added to a score is an entry of its own, a delta. So increments on two sides of a partition add up.
"""
