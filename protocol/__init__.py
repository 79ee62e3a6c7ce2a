"""The bytes that clients, nodes and operators exchange, without what they mean.

Imports the standard library, hiredis, xxhash and cryptography. Everything is pure: bytes in, values out, and back. In
reading order:

    slots.py           the slot of a key, 0 to 16383: Redis Cluster's, so that its clients know where to send a key
    resp.py            replies: Python values to RESP2 and RESP3
    leftovers.py       joins the bytes of an incomplete message with those that arrive next
    requests.py        commands of clients, as RESP or inline lines, within limits
    encoding.py        messages between nodes, encoded
    frames.py          messages between nodes: RESP again, each frame with a checksum
    pieces.py          large messages between nodes, cut so that small ones can pass them
    peer_versions.py   how two nodes agree on a version and on capabilities
    handshake.py       how two nodes prove to each other that they know the secret of their cluster
    seals.py           what they write after that, encrypted and bound to the session
    tokens.py          causal contexts: a clock as a printable token with a checksum, which the client sends back
    bounds.py          the largest numbers and names that nodes accept from each other
    json_documents.py  JSON from elsewhere, bounded in size and depth
    native.py          the hot loops in C (c/), if this process has them

hiredis reads and writes RESP wherever it is safe. requests.py says what it lacks, and how its weaknesses are avoided.
Source of the wire format: https://redis.io/docs/latest/develop/reference/protocol-spec/
"""
