"""Membership: how nodes join, fetch what they are to own, delete what others own, and leave.

membership.py       the layout that rules here: how this node gets it, stores it, publishes it and gives it up
views.py            which layout each peer has, and when this node sends it ours
authentication.py   whether other nodes have to prove the secret of the cluster
addresses.py        the addresses of this node and of the others, for when those in the layout lead nowhere
duplicates.py       two processes with one node id, because a data directory was copied
rollback.py         detects a directory that was set back to an older copy
rebuild.py          replaces a store that has an unreadable block by an empty one, which the other owners fill
staging.py          the changes that operators have staged for the next layout
change_coordinator.py  coordinates a change of the layout: moves it from phase to phase
transfers.py        a new owner fetches its partitions
full_repair.py      copies older writes to all owners after W was raised
filling.py          a node that lost its disk fetches its partitions again
partition_fetch.py  what transfers.py, full_repair.py and filling.py have in common
throughput.py       how fast such a fetch is, and when it will end
cleanup.py          deletes records that other nodes own, after those confirmed them
shutdown.py         a node that stops or leaves first finishes the requests that are in flight
"""
