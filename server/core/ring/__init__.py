"""The ring: which node owns which partition. Documents and computations on them, without a node.

layout.py         the layout document: members, owners of each partition, and the phase of a change
layout_fields.py  the fields of a layout, and who reads and writes a partition by them
layout_faults.py  validates a layout
addresses.py      addresses of members, and the stand-in for an unknown one
preference.py     the preference lists of a layout
change.py         one change of the membership, as an operator wants it
quorum_change.py  which changes of R and W are safe
replica_change.py another N, with another R and W
succession.py     which layout follows which: commits, and the phases of a change
merging.py        the layout that rules after two that were made at the same time
assignment.py     owners for a new cluster, as even as possible
arrangement.py    the order of the owners within each partition
reassignment.py   owners after a change, with as few moves as possible
seats.py          the state of a reassignment; exchanges.py and pairs.py change it
preview.py        what a change moves
computation.py    how long computations are cut into steps
"""
