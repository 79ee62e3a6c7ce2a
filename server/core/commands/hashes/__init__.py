"""Hashes: fields and their values (https://redis.io/docs/latest/commands/?group=hash).

Theory. A hash is a record of entries (records/entries.py): an entry for each field. So fields that were written on two
sides of a partition are both there afterwards; of one field the newer value stands, what was added to it on both sides
adds up, and a removal removes what it has seen. A field may have an expiry of its own.

fields.py            read, set and remove fields
expiries.py          the expiry of fields, and commands that read or set a field and its expiry
commands.py          the table of the commands of Redis 7.0
expiry_commands.py   the table of the commands about expiries
"""
