"""Which large values of a message or a command to stage: those that this node is likely to store unchanged.

Theory. A large value is written to the store in chunks before the message or command that brings it is handled
(storage/chunked.py). That pays only if the handler then stores the value, in the same turn. This module guesses whether it
will. A wrong guess costs only time: chunks that the batch of the turn does not adopt are deleted.

    message                     what is staged
    STORE, KEEP, HINT, ASK      their records, of which nearly all are newer than what is stored (ASK carries those of
                                repairs and of hint replay)
    RELAY, a client's command   the value of a SET and the like, if this node coordinates the key

Some commands make a large record from stored ones (COPY, SUNIONSTORE, APPEND). Their record does not exist before they
have read their keys, so this module cannot stage it. Such a command takes several turns, and stages its record in the
last turns by `Writes.stage` (commands/draft_writes.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from protocol.slots import key_slot
from server.core.base.room import FOR_WRITES
from server.core.base.state import State
from server.core.formats.pausing import Slices

Stage = Callable[
    [Sequence[bytes]], Slices[None]
]  # stages values, in slices. In the turn of the last slice the caller must store the record that has these values

_STORING: Final = (b"STORE", b"KEEP", b"HINT", b"ASK")
_SETTING: Final = {b"SET": 2, b"GETSET": 2, b"DYN.SET": 2, b"SETEX": 3, b"PSETEX": 3}  # command -> index of its value
_RELAYED_AT: Final = 5  # index of the first command in a RELAY


def nothing_staged(values: Sequence[bytes]) -> Slices[None]:
    """Stages nothing: for a node whose store does not accept chunks."""
    yield from ()


def of_message(state: State, message: list[Any]) -> list[bytes]:
    """Returns the values to stage before the handler of a message runs."""
    if state.room != FOR_WRITES or not message:
        return []
    if message[0] == b"RELAY":
        return _of_commands(state, [item for item in message[_RELAYED_AT:] if isinstance(item, list)], True)
    if message[0] not in _STORING:
        return []
    return [item for item in message if isinstance(item, bytes) and len(item) >= state.staged_bytes_min]


def of_commands(state: State, commands: Sequence[list[bytes]]) -> list[bytes]:
    """Returns the values to stage before a client's commands begin."""
    return _of_commands(state, commands, False) if state.room == FOR_WRITES else []


def _of_commands(state: State, commands: Sequence[list[bytes]], relayed: bool) -> list[bytes]:
    values = []
    for args in commands:
        place = _SETTING.get(args[0].upper(), 0)
        if place and len(args) > place and len(args[place]) >= state.staged_bytes_min:
            route = state.routes[key_slot(args[1]) >> state.route_shift]
            if route.coordinator_for(relayed) is None:
                values.append(args[place])
    return values
