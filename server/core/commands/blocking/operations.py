"""What an attempt pops, and how its elements travel: of a list the values, of a sorted set member, packed score, …"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from server.core.base.state import State
from server.core.commands.lists.edits import pop
from server.core.commands.sorted_sets.edits import pop_members
from server.core.records.draft import Draft
from server.core.records.kinds import LIST, ZSET
from server.core.records.slicing import Slices
from server.core.records.views import pack_score

SCORES: Final = b"SCORES"


class Operation(NamedTuple):
    """`end` says where the elements are put back."""

    key_type: int
    end: bytes
    pop: Callable[[Draft, bytes, int, State], Slices[list[bytes]]]


def _items(is_left: bool) -> Callable[[Draft, bytes, int, State], Slices[list[bytes]]]:
    return lambda draft, key, count, state: pop(draft, count, is_left)


def _members(highest: bool) -> Callable[[Draft, bytes, int, State], Slices[list[bytes]]]:
    def run(draft: Draft, key: bytes, count: int, state: State) -> Slices[list[bytes]]:
        pairs = yield from pop_members(draft, key, state, count, highest)
        return [word for score, member in pairs for word in (member, pack_score(score))]

    return run


OPERATIONS: Final = {
    b"LPOP": Operation(LIST, b"LEFT", _items(is_left=True)),
    b"RPOP": Operation(LIST, b"RIGHT", _items(is_left=False)),
    b"ZPOPMIN": Operation(ZSET, SCORES, _members(highest=False)),
    b"ZPOPMAX": Operation(ZSET, SCORES, _members(highest=True)),
}
