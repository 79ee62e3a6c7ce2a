"""The formats of Redis' types: pure functions between values and the bytes or texts that Redis has for them.

pausing.py         work in slices: generators that pause
numbers.py         integers, doubles and long doubles, read as strictly as Redis reads them and printed as Redis prints them
payloads.py        what DUMP and RESTORE exchange: the parts, the version, the checksum
payload_writer.py  values to payloads; payload_reader.py payloads to values
listpack.py        small collections in one block; ziplist.py what there was before
stream_nodes.py    the parts of a stream, each a listpack
lzf.py             the compression of strings within payloads
hyperloglog.py     HyperLogLog: its bytes, its count, its merge; murmur.py its hash
hyperloglog_sparse.py  the sparse encoding of HyperLogLog
geohash.py         places on the earth as scores of sorted sets, distances, and where the members of an area are
"""
