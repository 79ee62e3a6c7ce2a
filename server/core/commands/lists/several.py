"""Commands on several lists: LMOVE, RPOPLPUSH and LMPOP.

Theory. A move runs at the coordinator of its source, which holds the source meanwhile (base/holds.py): so no two moves or
pops take the same item. It pushes the item to the destination, by that list's own quorum, before it removes it from the
source. If it ends in between, the item is in both lists, never in none.

The push does not wait for another move that holds the destination: two moves in opposite directions would wait for each
other. It takes nothing away that the other move needs, as an item keeps its position.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from protocol import resp
from protocol.databases import client_key
from protocol.resp import bulk
from protocol.slots import key_slot
from server.core.base.errors import SYNTAX, CommandError
from server.core.base.sinks import Sink
from server.core.commands.arguments import counted_pops
from server.core.commands.draft_writes import write_draft
from server.core.commands.lists.edits import pop, push_left, push_right
from server.core.commands.lists.items import Item, items_backwards, items_from, spread
from server.core.commands.steps import read_here
from server.core.commands.typed import check_type, is_other_type
from server.core.commands.typed_steps import run_command
from server.core.records.draft import Draft
from server.core.records.kinds import LIST
from server.core.records.records import storage_key_in
from server.core.records.slicing import run_through
from server.core.services.services import Services
from server.core.work.procedures import Steps

_NOTHING = (b"*-", b"*0", b"_\r")  # how the reply of a pop with a count begins that has found no item


def lmove(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    """LMOVE source destination LEFT|RIGHT LEFT|RIGHT: the item that was moved, or null if there is none."""
    _begin(services, sink, number, args, is_from_left=is_left(args[3]), is_to_left=is_left(args[4]))


def rpoplpush(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    """RPOPLPUSH source destination: as LMOVE with RIGHT LEFT."""
    _begin(services, sink, number, args, is_from_left=False, is_to_left=True)


class Move(NamedTuple):
    """A move, and what it replies: `moved` for the item, `nothing` if there is none, `other_type` if the source is no list
    (None: WRONGTYPE)."""

    source: bytes
    destination: bytes
    is_from_left: bool
    is_to_left: bool
    nothing: Callable[[], bytes]
    moved: Callable[[bytes], bytes] = bulk
    other_type: Callable[[], bytes] | None = None


def is_left(word: bytes) -> bool:
    """Whether a word names the left end. Raises CommandError if it names no end."""
    if word.upper() not in (b"LEFT", b"RIGHT"):
        raise CommandError(SYNTAX)
    return word.upper() == b"LEFT"


def _begin(
    services: Services, sink: Sink, number: int, args: list[bytes], is_from_left: bool, is_to_left: bool
) -> None:
    coordinator = services.route(args[1]).coordinator_for(sink.relayed)
    if coordinator is not None:
        services.relays.forward(sink, number, args, coordinator)
        return
    move = Move(args[1], args[2], is_from_left, is_to_left, lambda: resp.null(sink.resp3))
    services.run_steps(move_steps(services, sink, number, move), sink, number)


def move_steps(services: Services, sink: Sink, number: int, move: Move) -> Steps:
    """The steps of a move, at the coordinator of its source."""
    draft = Draft((yield read_here(services, move.source)), services.state.time_ms, LIST)
    if move.other_type is not None and is_other_type(draft, LIST):
        return move.other_type()
    check_type(draft, LIST)
    item = _end_of(draft, move.is_from_left)
    if item is None:
        return move.nothing()
    if move.source == move.destination:
        return _rotate(services, sink, number, move, draft, item)
    holds, storage_key = services.state.holds, storage_key_in(key_slot(move.source), move.source)
    holds.hold(storage_key)
    try:
        yield run_command(services, [b"DYN.LPUSH" if move.is_to_left else b"DYN.RPUSH", move.destination, item[1]])
        return _remove_moved(services, sink, number, move, item)
    finally:
        holds.release(storage_key)


def _rotate(services: Services, sink: Sink, number: int, move: Move, draft: Draft, item: Item) -> bytes | None:
    """The item goes to an end of its own list, by one write."""
    reply = move.moved(item[1])
    if move.is_from_left == move.is_to_left:
        return reply
    values = run_through(pop(draft, 1, move.is_from_left))
    run_through((push_left if move.is_to_left else push_right)(draft, values))
    write_draft(services, sink, number, move.source, draft, reply)
    return None


def _end_of(draft: Draft, is_left: bool) -> Item | None:
    return next(items_from(draft, 0) if is_left else items_backwards(draft), None)


def _remove_moved(services: Services, sink: Sink, number: int, move: Move, item: Item) -> bytes | None:
    """Removes an item from its list, if it is still there. Returns the reply, or None if the sink gets it later."""
    state, source, reply = services.state, move.source, move.moved(item[1])
    draft = Draft(state.records.get(storage_key_in(key_slot(source), source)), state.time_ms, LIST)
    if draft.key_type == LIST:
        spread(draft)
        if draft.get(item[0]) == item[1]:
            draft.remove(item[0])
    if not draft.changed:
        return reply
    write_draft(services, sink, number, source, draft, reply, deletes=True)
    return None


def lmpop(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    """LMPOP numkeys key … LEFT|RIGHT [COUNT count]: pops from the first list that has items."""
    keys, word, count = counted_pops(args, (b"LEFT", b"RIGHT"))
    command = b"LPOP" if word == b"LEFT" else b"RPOP"

    def steps() -> Steps:
        for key in keys:
            reply = yield run_command(services, [command, key, count])
            if reply[:2] not in _NOTHING:
                return resp.array([bulk(client_key(key)), reply])
        return resp.null_array(sink.resp3)

    services.run_steps(steps(), sink, number)
