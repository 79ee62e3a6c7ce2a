"""Collection: removes tombstones, expired values and long clocks after all members agree that no older copy is left.

collection.py     leads a collection: its four rounds, and why they are safe
candidates.py     the queue of keys whose records may be collected
votes.py          a member's part in a collection
late.py           which messages a member refuses afterwards
"""
