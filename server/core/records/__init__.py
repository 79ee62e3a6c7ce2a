"""Records: what is stored under a key, what is stored here, and the hash tree over it.

versions.py       the record: dotted version vector set, its bytes, its merge
records.py        what is stored here, as this turn sees it
trees.py          the hash tree of that, kept with every write
"""
