"""Moving data in and out: RDB files and other Redis servers.

checksums.py       CRC-64 as in RDB files and in the payloads of DUMP and RESTORE
rdb_values.py      how long a value of an RDB file is, without decoding it
rdb_reader.py      the keys of an RDB file
rdb_writer.py      an RDB file of keys
sender.py          writes keys into the cluster, many at a time
page_size.py       how many keys are read at once
progress_file.py   how far an import has come, for when it is run again
file_import.py     dyn import FILE.rdb
redis_import.py    dyn import redis://…
source.py          another Redis server: its keys and its notifications
comparison.py      the keys of two servers, compared
file_export.py     dyn export FILE.rdb

A value in an RDB file has the bytes of a DUMP payload, without version and checksum at its end. So a value is cut out of
the file, sealed and restored, and never decoded here. Strings are written by SET, which costs the cluster less.
"""
