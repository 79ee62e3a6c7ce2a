"""Collection: tombstones, expired values and long clocks go when all members agree that no older copy is left.

collection.py     the proposal, and its four rounds
candidates.py     keys whose records may have something to collect
votes.py          a member's part in it
late.py           what it refuses from then on
"""
