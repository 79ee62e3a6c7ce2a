"""Work that is too much for one turn: a command does a slice of it and lets others be served before the next.

Theory. A turn serves all that has arrived, so whoever holds it for long makes all others wait, and the peers suspect the
node. A command of several steps bounds what it does in one go and then yields `next_turn`: a pause of the shortest kind,
after which the node has read its sockets once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from server.core.work.procedures import Step

if TYPE_CHECKING:
    from server.core.node import Node

_PAUSE_MS = 1


def next_turn(node: Node) -> Step:
    """A step that ends in one of the next turns, once others have been served."""
    return node.timers.pause_until(node.state.now_ms + _PAUSE_MS)
