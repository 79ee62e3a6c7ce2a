"""What crosses a socket: the bytes that clients, nodes and operators exchange, and nothing of what they mean.

Imports the standard library, hiredis and xxhash. Everything is pure: bytes in, values out, and back. In reading order:

    slots.py     which of the 16384 slots a key lies in: Redis Cluster's, so that its clients know where to go
    resp.py      replies: Python values to RESP2 and RESP3
    leftovers.py what came of a message so far, and the bytes that come next
    requests.py  commands: what a client sends, RESP or inline lines, within limits
    frames.py    messages between nodes: RESP again, each with a checksum
    tokens.py    causal contexts: a clock as a printable, checksummed token that the client hands back

hiredis reads and writes RESP wherever it is fit to; what it lacks, and how it is kept out of harm's way, stands in
requests.py. Source of the wire format: https://redis.io/docs/latest/develop/reference/protocol-spec/
"""
