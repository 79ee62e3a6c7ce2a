"""The content of gossip messages: entries on the wire, which node watches which, and which news spreads from node to node.

Theory. If each message had a table of all members, and went to all members each second, gossip would grow with the
square of the cluster. So both are bounded here: the cost for one node stays the same, however many nodes there are.

- *Which node watches which* (`Ring`). In a small cluster every node watches every other. In a large one the sorted ids
  of the members are a ring, and a node watches the `width` members that follow it. Every node can compute that from the
  layout. The watchers of one node are neighbours and watch each other, too. So around each node there is a small
  cluster.
- *What spreads* (`Rumours`). A node that has learned of a death or of a new incarnation puts it into a number of its
  next tables; that number grows with log2 of the cluster. Rumours that were sent least often come first. After that all
  nodes have received it, with overwhelming probability. (Demers et al., "Epidemic Algorithms for Replicated Database
  Maintenance", 1987; Das et al., "SWIM", 2002, 4.1: news travels on messages that are sent anyway.)

An entry is id, incarnation, heartbeat and state. Fields that later versions add after these are ignored.
"""

from __future__ import annotations

import enum
import heapq
import re
from collections.abc import Sequence

from protocol.bounds import NODE_ID_BYTES_MAX, TIME_MS_MAX

TABLE_ENTRIES_MAX = 1024  # in a received message; those that we send are far shorter
COUNTER_MAX = TIME_MS_MAX  # of incarnations, which are readings of wall clocks, and of heartbeats
SENDS_PER_DOUBLING = 3  # each node sends a rumour so many times for each doubling of the cluster


class PeerState(enum.Enum):
    """UP: it talks to us. SUSPECT: requests do not go there. DOWN: there is no sign of life from any node."""

    UP = "up"
    SUSPECT = "suspect"
    DOWN = "down"


_ENTRY = re.compile(
    rb"([!-~]{1,%d}) ([0-9]{1,18}) ([0-9]{1,18}) (up|suspect|down)(?: .*)?" % NODE_ID_BYTES_MAX, re.DOTALL
)

TableEntry = tuple[str, int, int, PeerState]  # (node id, incarnation, heartbeat, the sender's verdict)


def encode_table(table: Sequence[TableEntry]) -> list[bytes]:
    """Encodes each entry as one item: id, incarnation, heartbeat and state, separated by spaces. Ids have no spaces."""
    return [f"{node} {incarnation} {beat} {state.value}".encode() for node, incarnation, beat, state in table]


def decode_table(items: Sequence[bytes]) -> list[TableEntry]:
    """Decodes a table that `encode_table` has made. Ignores further fields of later versions. Raises ValueError."""
    if len(items) > TABLE_ENTRIES_MAX:
        raise ValueError(f"gossip table of {len(items)} entries, at most {TABLE_ENTRIES_MAX} are allowed")
    table = []
    for item in items:
        match = _ENTRY.fullmatch(item)
        if match is None:
            raise ValueError(f"malformed gossip entry {item[:64]!r}")
        node, incarnation, heartbeat, state = match.groups()
        if max(int(incarnation), int(heartbeat)) > COUNTER_MAX:
            raise ValueError(f"a gossip entry beyond {COUNTER_MAX}: {item[:64]!r}")
        table.append((node.decode(), int(incarnation), int(heartbeat), PeerState(state.decode())))
    return table


class Ring:
    """Which node watches which: up to `small_max` members each one all others, else each one the next `width`."""

    def __init__(self, ids: Sequence[str], small_max: int, width: int) -> None:
        self.size = len(ids)
        self.is_wide = self.size > small_max
        self._width = width
        self._nodes = sorted(ids)
        self._index_of = {node: index for index, node in enumerate(self._nodes)}

    def after(self, node: str) -> list[str]:
        """Returns all other members, in the order in which they follow `node` on the ring."""
        index = self._index_of[node]
        return self._nodes[index + 1 :] + self._nodes[:index]

    def watches(self, watcher: str, node: str) -> bool:
        """Whether `watcher` watches `node`."""
        if not self.is_wide:
            return True
        index_of = self._index_of
        if watcher not in index_of or node not in index_of:
            return False
        return 0 < (index_of[node] - index_of[watcher]) % self.size <= self._width


class Rumours:
    """The nodes with news that some members may not have received yet."""

    def __init__(self) -> None:
        self._sends_left: dict[str, int] = {}  # node -> how many more times its news is to be sent

    def add(self, node: str, size: int) -> None:
        """Adds news of `node`, in a cluster of `size` members."""
        self._sends_left[node] = SENDS_PER_DOUBLING * size.bit_length()

    def next_to_send(self, limit: int) -> list[str]:
        """Returns up to `limit` nodes whose news was sent least often, and counts them as sent once more."""
        left = self._sends_left
        chosen = list(left) if len(left) <= limit else heapq.nlargest(limit, left, key=left.__getitem__)
        for node in chosen:
            left[node] -= 1
            if not left[node]:
                del left[node]
        return chosen
