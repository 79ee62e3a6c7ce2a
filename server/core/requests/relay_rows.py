"""The commands that this node relays: an item for each command, a row for each RELAY message; and commands that came back.

Theory: relays.py. Items, rows and returned commands are plain classes and not tuples: compiled code checks the
types of all members of a tuple whenever it reads one of them, and a relayed command is read four times.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Final

from server.core.base.origins import Origin
from server.core.base.sinks import Sink

_LOOKED_AT: Final = 256  # rows in each tick; those of a silent peer are soon the oldest
_HEADER_BYTES: Final = 16  # for each word of a command, a message has at most so many bytes beside the word itself


class RelayItem:
    """A command to be relayed, and the sink that gets its reply."""

    __slots__ = ("args", "begun_ms", "number", "sink")

    def __init__(self, sink: Sink, number: int, args: list[bytes], begun_ms: int = -1) -> None:
        self.sink = sink
        self.number = number  # within the sink
        self.args = args
        self.begun_ms = begun_ms  # when the command began (monotonic); -1 stands for now


def size_of(items: Sequence[RelayItem | None]) -> int:
    """Returns an upper bound of the bytes that these commands take in a message."""
    return sum([len(word) + _HEADER_BYTES for item in items if item is not None for word in item.args])


NOT_RUN: Final = 0  # the reasons of `Returned`
MAYBE_RUN: Final = 1
UNREACHABLE: Final = 2
OWN: Final = 3


class Returned:
    """Commands that came back from a relay, and the reason.

        NOT_RUN        the coordinator has run none of them
        MAYBE_RUN      the coordinator was lost, is silent or is too slow, and may have run them
        UNREACHABLE    there is no link to their coordinator
        OWN            they were not relayed before: this node itself has made them (waiting/)

    `trouble`: what happened, in words for the client (unanswered.py). `in_order`: the commands are a chain. `refusal`: the
    coordinator's error reply, or None. The client gets it if the command cannot be retried.
    """

    __slots__ = ("in_order", "items", "reason", "refusal", "trouble")

    def __init__(
        self,
        items: list[RelayItem],
        reason: int,
        trouble: str = "",
        in_order: bool = False,
        refusal: bytes | None = None,
    ) -> None:
        self.items = items
        self.reason = reason
        self.trouble = trouble
        self.in_order = in_order
        self.refusal = refusal


class RelayRow:
    """The commands of one RELAY message, until each of them has its reply."""

    __slots__ = (
        "begun_ms", "goes_on_waiting", "in_order", "items", "missing", "number", "origin", "peer", "read_quorum", "resp3",
        "sent_ms", "write_quorum",
    )  # fmt: skip

    def __init__(self, number: int, peer: str, sent_ms: int, in_order: bool, like: RelayRow | Sink) -> None:
        """Makes an empty row with the settings of `like`: all commands of a row run with the same settings."""
        self.resp3: bool = like.resp3
        self.read_quorum: int = like.read_quorum
        self.write_quorum: int = like.write_quorum
        self.origin: Origin | None = like.origin
        self.number = number
        self.peer = peer
        self.in_order = in_order
        self.sent_ms = sent_ms
        self.begun_ms = sent_ms  # start of the oldest command; a retried command is older than this row
        self.items: list[RelayItem | None] = []  # None: this command has its reply
        self.missing = 0  # replies that are still to come
        self.goes_on_waiting = False  # not given up early: it may be long on its way, or has been already (silences.py)

    def suits(self, sink: Sink, in_order: bool) -> bool:
        """HOT. Whether a command of `sink` may travel in this row."""
        return (
            self.resp3 == sink.resp3
            and self.read_quorum == sink.read_quorum
            and self.write_quorum == sink.write_quorum
            and self.in_order == in_order
            and self.origin is sink.origin
        )

    def remove(self, places: Sequence[int]) -> list[RelayItem]:
        """Removes the commands at these places, and returns them; of a chain all or none."""
        if self.in_order and len(places) < self.missing:
            return []
        removed = [item for place in places if (item := self.items[place]) is not None]
        for place in places:
            self.items[place] = None
        self.missing -= len(removed)
        return removed

    def by_size(self, large_bytes: int) -> list[list[RelayItem]]:
        """Divides the commands among several messages. Each key with large commands has a message of its own. The other
        keys share small messages. All commands of a key are in one message, in their order."""
        by_key: dict[bytes, list[RelayItem]] = {}
        for item in self.items:
            if item is not None:
                by_key.setdefault(item.args[1] if len(item.args) > 1 else b"", []).append(item)
        small: list[RelayItem] = []
        small_bytes = 0
        parts = [small]
        for items in by_key.values():
            size_bytes = size_of(items)
            if size_bytes < large_bytes // 2:
                if small_bytes + size_bytes > large_bytes // 2:
                    small, small_bytes = [], 0
                    parts.append(small)
                small += items
                small_bytes += size_bytes
            else:
                parts.append(items)
        return [items for items in parts if items]


def silent_peers(rows: Iterable[RelayRow], last_message_ms: Mapping[str, int], limit_ms: int) -> list[str]:
    """Returns the peers that still owe a reply to a row sent until `limit_ms`, and have sent nothing at all since then. The
    rows are in the order in which they were sent."""
    silent = []
    for row in rows:
        if row.sent_ms > limit_ms:
            break
        if last_message_ms.get(row.peer, row.sent_ms) <= limit_ms and row.peer not in silent:
            silent.append(row.peer)
    return silent


def owing_peers(rows: Iterable[RelayRow]) -> list[str]:
    """Returns the peers of the `_LOOKED_AT` oldest rows. The rows are in the order in which they were sent."""
    return list(dict.fromkeys([row.peer for row in islice(rows, _LOOKED_AT)]))
