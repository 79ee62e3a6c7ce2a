"""What a client is told when the coordinator of its command has not answered, and the command is not retried.

Theory. A client decides by such an error what to do next, and an operator where to look. So the error names the node, and
says whether its link broke, it is silent, it is slow, or it got the command too late.
"""

from __future__ import annotations

from server.core.base.errors import ErrorReply, Failure


def unanswered(trouble: str, outcome: str) -> ErrorReply:
    """Returns the error. `trouble` says why there is no reply, in the words of one of the functions below."""
    advice = "read the key before you try again" if outcome == "maybe-written" else "try again"
    return Failure(f"TIMEOUT {trouble}", (0, 1, 0), outcome, "", advice).reply()


def link_broke(node: str) -> str:
    """The node has ended, or the network or one side has cut the link."""
    return f"the connection to node {node}, which coordinates this key, broke before the answer came"


def fell_silent(node: str, silence_ms: int) -> str:
    """The link to the node is open, but nothing at all comes from it."""
    return f"node {node}, which coordinates this key, has sent nothing for {silence_ms} ms"


def is_slow(node: str, waited_ms: int) -> str:
    """The node sends other messages, but no reply."""
    return f"node {node}, which coordinates this key, is there but has not answered within {waited_ms} ms"


def came_late(node: str) -> str:
    """The node has refused the command as too old (relays.py, stale relays)."""
    return f"node {node}, which coordinates this key, read the command too late to run it"
