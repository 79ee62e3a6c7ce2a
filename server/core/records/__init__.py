"""Records: what is stored under a key, what this node stores, and the hash tree over it.

versions.py       a record: a dotted version vector set as bytes, and its merge
structure.py      verifies the checksum and the structure of a record
records.py        the records of this node, as the present turn sees them
store.py          what the core needs of a storage engine within a turn
listeners.py      the functions that are called for damaged records and for records that cannot be merged
cache.py          the cache of records
trees.py          the hash tree and the key counts, updated with every write
gaps.py           reads a range around damaged blocks
"""
