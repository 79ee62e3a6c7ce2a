"""What a gossip message carries: entries on the wire, who watches whom, and which news goes on from node to node.

Theory. In a cluster of thousands a table of all members in each message, to all members each second, would make gossip
grow with the square of the cluster. So both are bounded here, and the cost of a node stays the same however many others
there are.
- *Who asks whom* (`Ring`): in a small cluster everybody watches everybody. In a large one the ids of the members, sorted,
  are a ring, and a node watches the `width` members that follow its own place: anybody can work that out from the layout.
  Watchers of one node are neighbours and watch each other, too, so around each node there is a small cluster.
- *What spreads* (`Rumours`): a node that has learned of a death, or of a new incarnation, passes it on with a number of
  its next tables that grows with log2 of the cluster, the least told first; after that everybody has heard of it, with
  overwhelming probability. (Demers et al., "Epidemic Algorithms for Replicated Database Maintenance", 1987; Das et al.,
  "SWIM", 2002, 4.1: news rides on messages that go out anyway.)

An entry is id, incarnation, heartbeat and state; what later versions add behind them is passed over.
"""

from __future__ import annotations

import enum
import heapq
import re
from collections.abc import Sequence

from protocol.bounds import NODE_ID_BYTES_MAX, TIME_MS_MAX

TABLE_ENTRIES_MAX = 1024  # of a message that comes in; ours are far shorter
COUNTER_MAX = TIME_MS_MAX  # of incarnations, which are readings of wall clocks, and of heartbeats
TELLS_PER_DOUBLING = 3  # how often a rumour is told by each node that has heard it, for each doubling of the cluster


class State(enum.Enum):
    """UP: reached directly. SUSPECT: not to be relied on. DOWN: no sign of life, from anybody."""

    UP = "up"
    SUSPECT = "suspect"
    DOWN = "down"


_ENTRY = re.compile(
    rb"([!-~]{1,%d}) ([0-9]{1,18}) ([0-9]{1,18}) (up|suspect|down)(?: .*)?" % NODE_ID_BYTES_MAX, re.DOTALL
)

TableEntry = tuple[str, int, int, State]  # (node id, incarnation, heartbeat, the sender's verdict)


def encode_table(table: Sequence[TableEntry]) -> list[bytes]:
    """One item an entry: id, incarnation, heartbeat and state between single spaces; no id may hold a space."""
    return [f"{node} {incarnation} {beat} {state.value}".encode() for node, incarnation, beat, state in table]


def decode_table(items: Sequence[bytes]) -> list[TableEntry]:
    """The table that `encode_table` made; further fields of an entry are left to later versions. Raises ValueError."""
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
        table.append((node.decode(), int(incarnation), int(heartbeat), State(state.decode())))
    return table


class Ring:
    """Who watches whom: everybody everybody up to `small_max` members, else each the `width` that follow it."""

    def __init__(self, ids: Sequence[str], small_max: int, width: int) -> None:
        self.size = len(ids)
        self.is_wide = self.size > small_max
        self._width = width
        self._nodes = sorted(ids)
        self._places = {node: place for place, node in enumerate(self._nodes)}

    def after(self, node: str) -> list[str]:
        """All members but that one, in the order in which they follow it."""
        place = self._places[node]
        return self._nodes[place + 1 :] + self._nodes[:place]

    def watches(self, watcher: str, node: str) -> bool:
        """Whether `watcher` is to find out by itself how `node` is doing."""
        if not self.is_wide:
            return True
        places = self._places
        if watcher not in places or node not in places:
            return False
        return 0 < (places[node] - places[watcher]) % self.size <= self._width


class Rumours:
    """Nodes of which there is news that not everybody may have heard yet."""

    def __init__(self) -> None:
        self._tells: dict[str, int] = {}  # node -> how often its news is still to be told

    def begin(self, node: str, size: int) -> None:
        """There is news of `node`, in a cluster of that size."""
        self._tells[node] = TELLS_PER_DOUBLING * size.bit_length()

    def take(self, limit: int) -> list[str]:
        """The `limit` least told, at most; they count as told once more."""
        tells = self._tells
        chosen = list(tells) if len(tells) <= limit else heapq.nlargest(limit, tells, key=tells.__getitem__)
        for node in chosen:
            tells[node] -= 1
            if not tells[node]:
                del tells[node]
        return chosen
