"""Membership: how nodes come, fetch what they are to own, let go what others own, and leave.

membership.py     the layout that rules here: how it is met, stored, spread, and left behind
views.py          which layout each peer has, and when to send it ours
addresses.py      where this node is and where the others are, when those that the layout has lead nowhere
copies.py         two processes with one node's id: a directory was copied
lives.py          how far each node had got: a directory was set back to an older copy
steward.py        takes a change through its phases
transfers.py      a new owner fetches its data
filling.py        a node that lost its disk fetches its data again
partition_fetch.py  what both have in common: partitions, their owners, and what is equal already
cleanup.py       what is kept elsewhere is let go here
shutdown.py       a node that stops or leaves ends first what it has begun
"""
