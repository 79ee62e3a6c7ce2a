"""Records: what is stored under a key, what is stored here, and the hash tree over it.

versions.py       the record: dotted version vector set, its bytes, its merge
structure.py      what makes bytes a record: checksum and structure
records.py        what is stored here, as this turn sees it
listeners.py      who is told of damaged records
trees.py          the hash tree of that, kept with every write
"""
