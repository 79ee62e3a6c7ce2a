"""XREAD: entries behind given ids of several streams, now or when there are any.

Theory. Each stream is read by its own quorum. A client that waits (BLOCK) has a row at the coordinator of each stream, as
those have that wait for lists (core/waiting/): it costs nothing until an entry is added. Its attempts (DYN.TRY) name the id
behind which it wants entries, so none is missed between the first reading and the row. While the coordinator is of an
earlier version, which keeps no such rows, the attempts read here, again and again.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple

from protocol import resp
from protocol.databases import client_key
from server.core.base.errors import SYNTAX, CommandError
from server.core.base.sinks import Session, Sink
from server.core.commands.arguments import integer
from server.core.commands.sliced_replies import joined_reply
from server.core.commands.slices import in_slices
from server.core.commands.streams.ids import FIRST, LAST, Id, id_of, parse_id
from server.core.commands.streams.queries import Entry, entries_from, entry_reply
from server.core.commands.typed import check_type
from server.core.commands.typed_steps import gather
from server.core.records.kinds import NONE, STREAM
from server.core.records.slicing import collected
from server.core.records.views import View
from server.core.services.services import Services
from server.core.waiting import blocked
from server.core.waiting.calls import BlockingCall
from server.core.work.procedures import Step, Steps

_UNBALANCED: Final = "ERR Unbalanced XREAD list of streams: for each stream key an ID or '$' must be specified."
_TIMEOUT: Final = "ERR timeout is not an integer or out of range"


class XreadOptions(NamedTuple):
    """What a call of XREAD asks for. `block_ms` is None without BLOCK, and 0 to wait without an end."""

    keys: list[bytes]
    behind: list[bytes]
    entries_max: int
    block_ms: int | None


def streams_of(args: Sequence[bytes]) -> Sequence[int]:
    """The places of the keys in a call of XREAD."""
    place = next((place for place, word in enumerate(args) if place and word.upper() == b"STREAMS"), len(args))
    words = len(args) - place - 1
    return range(place + 1, place + 1 + words // 2) if words > 0 and not words % 2 else ()


def xread(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    """XREAD [COUNT count] [BLOCK milliseconds] STREAMS key … id …: the entries behind the ids; null if there are none."""
    wanted = _parse(args)
    for word in wanted.behind:
        if word != b"$":
            parse_id(word, 0)
    services.run_steps(_steps(services, sink, number, wanted), sink, number)


def _steps(services: Services, sink: Sink, number: int, wanted: XreadOptions) -> Steps:
    deadline_ms = services.state.now_ms + wanted.block_ms if wanted.block_ms else 0
    numbering = services.state.numbering
    views: list[View] = yield gather(services, wanted.keys)
    for view in views:
        check_type(view, STREAM)
    behind = [_behind(word, view) for word, view in zip(wanted.behind, views, strict=True)]
    found = yield from _found(services, views, behind, wanted.entries_max)
    if any(found):
        return (yield from _reply(services, sink, wanted.keys, found))
    if wanted.block_ms is None or sink.denies_blocking or not isinstance(sink, Session):
        return resp.null_array(sink.resp3)
    if services.clients.sessions.get(sink.id) is sink:  # else it has gone meanwhile
        services.waiting.blocked.begin(sink, number, _waits_for(sink, wanted, behind, deadline_ms), numbering)
    return None


def _waits_for(sink: Sink, wanted: XreadOptions, behind: list[Id], deadline_ms: int) -> BlockingCall:
    """What a client waits for, behind these ids. As in Redis it gets the entries of the first stream that has some, and of
    a key that it names twice it waits behind the first id."""
    resp3 = sink.resp3

    def reply(key: bytes, values: list[bytes]) -> bytes:
        pair = resp.bulk(client_key(key)), values[0]
        return resp.map_([pair], True) if resp3 else resp.array([resp.array(pair)])

    words: dict[bytes, list[bytes]] = {}
    for key, last in zip(wanted.keys, behind, strict=True):
        words.setdefault(key, [last.text()])
    operation, nothing = [blocked.READ, b"%d" % wanted.entries_max], resp.null_array(resp3)
    return BlockingCall(wanted.keys, operation, False, reply, nothing, deadline_ms, words)


def _behind(word: bytes, view: View) -> Id:
    """The id behind which entries are asked for; `$` is that of the present last one."""
    if word != b"$":
        return parse_id(word, 0)
    newest = next(view.items_backwards(), None) if view.key_type != NONE else None
    return FIRST if newest is None else id_of(newest[0])


def _found(
    services: Services, views: list[View], behind: list[Id], count: int
) -> Generator[Step, Any, list[list[Entry]]]:
    found: list[list[Entry]] = []
    for view, last in zip(views, behind, strict=True):
        start = last.following()
        entries = entries_from(view, start, LAST) if start is not None else iter(())
        found.append((yield from in_slices(services, collected(islice(entries, count or None)))))
    return found


def _reply(services: Services, sink: Sink, keys: list[bytes], found: list[list[Entry]]) -> Generator[Step, Any, bytes]:
    pairs: list[tuple[bytes, bytes]] = []
    for key, entries in zip(keys, found, strict=True):
        if entries:
            body = yield from in_slices(services, joined_reply(b"*%d\r\n" % len(entries), entry_reply, entries))
            pairs.append((resp.bulk(client_key(key)), body))
    if sink.resp3:
        return resp.map_(pairs, True)
    return resp.array([resp.array(pair) for pair in pairs])


def _parse(args: list[bytes]) -> XreadOptions:
    """Reads the arguments. Raises CommandError as Redis does."""
    count, block_ms, place = 0, None, 1
    while place < len(args):
        word, has_value = args[place].upper(), place + 1 < len(args)
        if word == b"STREAMS" and has_value:
            words = args[place + 1 :]
            if len(words) % 2:
                raise CommandError(_UNBALANCED)
            return XreadOptions(words[: len(words) // 2], words[len(words) // 2 :], count, block_ms)
        if word == b"COUNT" and has_value:
            count = max(integer(args[place + 1]), 0)
        elif word == b"BLOCK" and has_value:
            block_ms = integer(args[place + 1], _TIMEOUT)
            if block_ms < 0:
                raise CommandError("ERR timeout is negative")
        else:
            raise CommandError(SYNTAX)
        place += 2
    raise CommandError(SYNTAX)
