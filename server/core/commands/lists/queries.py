"""Commands that read a list: LLEN, LINDEX, LRANGE, LPOS."""

from __future__ import annotations

from itertools import islice
from typing import NamedTuple

from protocol import resp
from protocol.resp import Reply, bulk
from server.core.base.errors import SYNTAX, CommandError
from server.core.base.sinks import Sink
from server.core.commands.arguments import integer
from server.core.commands.lists.items import equal_items, item_at, items_from, span_of
from server.core.commands.sliced_replies import joined_reply
from server.core.records.kinds import NONE
from server.core.records.slicing import Slices, collected
from server.core.records.views import View

_RANK_MIN = -(1 << 63) + 1
_NO_RANK = (
    "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use negative to start from "
    "the end of the list"
)


def llen(view: View, args: list[bytes], sink: Sink) -> Reply:
    """LLEN key: how many items there are."""
    return resp.integer(len(view))


def lindex(view: View, args: list[bytes], sink: Sink) -> Reply:
    """LINDEX key index: the item there; a negative index counts from the end."""
    if view.key_type == NONE:
        return resp.null(sink.resp3)
    found = item_at(view, integer(args[2]))
    return resp.null(sink.resp3) if found is None else bulk(found[1])


def lrange(view: View, args: list[bytes], sink: Sink) -> Slices[Reply]:
    """LRANGE key start stop: the items between two indexes, both included."""
    span = span_of(integer(args[2]), integer(args[3]), len(view))
    items = yield from collected(islice(items_from(view, span.start), len(span)))
    return (yield from joined_reply(b"*%d\r\n" % len(items), lambda item: bulk(item[1]), items))


class LposOptions(NamedTuple):
    """The options of LPOS. `indexes_max` is negative if a single index is asked for; 0 stands for all, there and in
    `compared_max`."""

    rank: int = 1
    indexes_max: int = -1
    compared_max: int = 0


def lpos(view: View, args: list[bytes], sink: Sink) -> Slices[Reply]:
    """LPOS key element [RANK rank] [COUNT count] [MAXLEN length]: at which indexes the element stands."""
    wanted = position_options(args[3:])
    found = yield from _matches(view, args[2], wanted)
    if wanted.indexes_max >= 0:
        return (yield from joined_reply(b"*%d\r\n" % len(found), resp.integer, found))
    return resp.integer(found[0]) if found else resp.null(sink.resp3)


def position_options(words: list[bytes]) -> LposOptions:
    """Returns the options of LPOS. Raises CommandError as Redis does."""
    wanted = LposOptions()
    for place in range(0, len(words), 2):
        name = words[place].upper()
        if place + 1 == len(words):
            raise CommandError(SYNTAX)
        if name == b"RANK":
            rank = integer(words[place + 1])
            if rank < _RANK_MIN:
                raise CommandError("ERR value is out of range, must be greater than -9223372036854775807")
            if not rank:
                raise CommandError(_NO_RANK)
            wanted = wanted._replace(rank=rank)
        elif name == b"COUNT":
            wanted = wanted._replace(indexes_max=_not_negative(words[place + 1], "COUNT"))
        elif name == b"MAXLEN":
            wanted = wanted._replace(compared_max=_not_negative(words[place + 1], "MAXLEN"))
        else:
            raise CommandError(SYNTAX)
    return wanted


def _not_negative(text: bytes, name: str) -> int:
    error = f"ERR {name} can't be negative"
    number = integer(text, error)
    if number < 0:
        raise CommandError(error)
    return number


def _matches(view: View, element: bytes, wanted: LposOptions) -> Slices[list[int]]:
    """Returns the indexes that LPOS answers."""
    found: list[int] = []
    to_skip, left = abs(wanted.rank) - 1, abs(wanted.indexes_max) or len(view)
    for match in equal_items(view, element, wanted.rank < 0, wanted.compared_max):
        if match is None:
            yield
        elif to_skip:
            to_skip -= 1
        else:
            found.append(match[0])
            left -= 1
            if not left:
                break
    return found
