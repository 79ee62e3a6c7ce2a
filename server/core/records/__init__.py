"""Records: what is stored under a key, what this node stores, and the hash tree over it.

versions.py       a record: a dotted version vector set as bytes, and its merge
siblings.py       the parts of a plain record: its siblings, its bytes
contexts.py       writes with a causal context
kinds.py          the kinds of entries, and the types of keys that they make
entries.py        records of entries: the bytes of hashes, counters, sets, …
joins.py          the merge of records of entries
preparing.py      work on large records in slices, before their message is handled; prepared.py its joins
views.py          a key as a reader sees it
draft.py          the changes of one command to one key
draft_bytes.py    the bytes of the record that a draft makes
patches.py        what changes from one record of entries to the next
patch_rows.py     large records in the store: a base, and the patches since
deaths.py         whether a record of entries is dead, and its short forms
conflicts.py      what concurrent writes have left to be decided, and the decision
folds.py          sums of actors that are gone, made into one
numbers.py        decimal texts: what was added to numbers
entry_structure.py  verifies a record of entries
structure.py      verifies the checksum and the structure of a record
records.py        the records of this node, as the present turn sees them
common_case.py    the common case of a merge and of a write, in C
live_slots.py     which slots may have keys with values
storage_keys.py   what a record lies under in the store
store.py          what the core needs of a storage engine within a turn
listeners.py      the functions that are called for damaged records and for records that cannot be merged
cache.py          the cache of records
deferred.py       patches that a replica has stored and not applied yet
trees.py          the hash tree and the key counts, updated with every write
gaps.py           reads a range around damaged blocks
"""
