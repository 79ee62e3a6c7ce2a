"""Late messages: records that were sent before a collection's line and arrive behind its fence (see collection.py).

Theory. A message from a frozen node's socket, or over a very slow link, may carry a record older than one that all owners
have since agreed to forget; stored, it would bring deleted values back. Each message carries a reading of its sender's
clock, and a fence is such a reading for each sender: what was sent up to it is refused. Its sender has waited longer
than any request by then, so it has left a hint, and whatever is still worth knowing comes again, in a new message.

Only messages whose records a receiver stores matter here. Answers bring records too, but who asked keeps its own watch
(`State.fence`).
"""

from __future__ import annotations

from collections.abc import Sequence

CARRIERS = (b"STORE", b"KEEP", b"HINT")
QUESTIONS = (b"ABSORB", b"MERGE")  # kinds of ASK that carry records


def carries_records(message: Sequence[bytes]) -> bool:
    """Whether the receiver of a message would store records out of it."""
    return message[0] in CARRIERS or (message[0] == b"ASK" and message[3] in QUESTIONS)
