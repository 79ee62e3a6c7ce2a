"""The ring: who owns what. Documents and arithmetic, without a node around them.

layout.py         the document: members, owners of each partition, and the phase of a change
layout_fields.py  its fields, and who reads and writes a partition by them
layout_faults.py  what makes one valid
preference.py     the preference lists of a layout
change.py         what an operator wants of the next one
succession.py     which layout follows which: commits, the phases of a change, two made side by side
assignment.py     owners for a new cluster, as even as can be; arrangement.py puts those of a partition in order
reassignment.py   owners after a change, with as few moves as can be: exchanges.py and pairs.py change the seats.py
preview.py        what a change moves
computation.py    how the long ones of these are cut into steps
"""
