"""Late messages: records that were sent before a collection's line and arrive after its fence (see collection.py).

Theory. A message from the socket of a suspended node, or over a very slow link, may carry a record that is older than
one that all owners have agreed to remove since. If it were stored, a deleted value would come back. Each message
carries a reading of its sender's clock, and a fence is such a reading for each sender. A message sent up to the fence
is refused. By that time its sender has waited longer than any request lives, so it has kept a hint. If the record is
still needed, hint replay sends it again, in a new message.

This concerns only messages whose records the receiver stores. Answers bring records, too, but the node that asked
checks these itself (`State.fence`).
"""

from __future__ import annotations

from collections.abc import Sequence

CARRIERS = (b"STORE", b"KEEP", b"HINT", b"PATCH")
QUESTIONS = (b"ABSORB", b"MERGE")  # kinds of ASK that carry records


def carries_records(message: Sequence[bytes]) -> bool:
    """Whether a message carries records that its receiver stores."""
    return message[0] in CARRIERS or (message[0] == b"ASK" and message[3] in QUESTIONS)
