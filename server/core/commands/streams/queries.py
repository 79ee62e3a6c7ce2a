"""Commands that read a stream: XLEN, XRANGE, XREVRANGE.

The payload of an entry is its fields and values as they are answered, an array.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from protocol import resp
from protocol.resp import Reply
from server.core.base.errors import SYNTAX, CommandError
from server.core.base.sinks import Sink
from server.core.commands.arguments import integer
from server.core.commands.sliced_replies import joined_reply
from server.core.commands.streams.ids import Id, id_of, parse_bound
from server.core.records.kinds import NONE
from server.core.records.slicing import Slices, collected
from server.core.records.views import View

Entry = tuple[bytes, bytes]  # the field and the payload


def xlen(view: View, args: list[bytes], sink: Sink) -> Reply:
    """XLEN key: how many entries there are."""
    return resp.integer(len(view))


def entries_from(view: View, start: Id, end: Id) -> Iterator[Entry]:
    """The entries with ids from `start` to `end`, both included. Chunks before `start` are not decoded."""
    first, last = start.field(), end.field()
    for chunk in range(view.chunk_of(first) if view.chunks() else 0, view.chunks()):
        for entry in view.items_in(chunk):
            if entry[0] > last:
                return
            if entry[0] >= first:
                yield entry


def entries_back_from(view: View, start: Id, end: Id) -> Iterator[Entry]:
    """The same, from the last one to the first one."""
    first, last = start.field(), end.field()
    for chunk in range(view.chunk_of(last) if view.chunks() else -1, -1, -1):
        for entry in reversed(view.items_in(chunk)):
            if entry[0] < first:
                return
            if entry[0] <= last:
                yield entry


def entry_reply(entry: Entry) -> bytes:
    """An entry as clients get it: the id, and the fields and values."""
    return b"*2\r\n%b%b" % (resp.bulk(id_of(entry[0]).text()), entry[1])


def xrange(view: View, args: list[bytes], sink: Sink) -> Slices[Reply]:
    """XRANGE key start end [COUNT count]: the entries from `start` to `end`."""
    start, end = parse_bound(args[2], True), parse_bound(args[3], False)
    return (yield from _reply(view, entries_from(view, start, end), args, sink))


def xrevrange(view: View, args: list[bytes], sink: Sink) -> Slices[Reply]:
    """XREVRANGE key end start [COUNT count]: the entries from `end` back to `start`."""
    end, start = parse_bound(args[2], False), parse_bound(args[3], True)
    return (yield from _reply(view, entries_back_from(view, start, end), args, sink))


def _reply(view: View, entries: Iterator[Entry], args: list[bytes], sink: Sink) -> Slices[Reply]:
    count = _count_in(args[4:])
    if count == 0 and view.key_type != NONE:
        return resp.null_array(sink.resp3)
    found = yield from collected(islice(entries, count) if view.key_type != NONE else ())
    return (yield from joined_reply(b"*%d\r\n" % len(found), entry_reply, found))


def _count_in(words: list[bytes]) -> int | None:
    """The option COUNT of a range; None if it is not there. A negative one is 0."""
    count: int | None = None
    for place in range(0, len(words), 2):
        if words[place].upper() != b"COUNT" or place + 1 == len(words):
            raise CommandError(SYNTAX)
        count = max(integer(words[place + 1]), 0)
    return count
