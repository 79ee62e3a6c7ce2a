"""Commands that change a stream: XADD, XDEL, XTRIM.

Theory. An entry is a field of its own, its id, so entries that are added on both sides of a partition are all kept. Two
sides may choose the same id: then two entries have it, and both are read. A removal takes what it has seen.

Not kept: the id of an entry that was removed when it was the last one. Redis remembers it, and refuses smaller ones. Here
the ids that `*` makes grow all the same, because the time does; and a stream without entries does not exist.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice, takewhile
from typing import NamedTuple

from protocol import resp
from protocol.resp import Reply, bulk
from server.core.base.errors import SYNTAX, CommandError
from server.core.base.sinks import Sink
from server.core.commands.arguments import integer
from server.core.commands.streams.ids import FIRST, LAST, NUMBER_MAX, Id, id_of, parse_id, parse_number
from server.core.records.draft import Draft
from server.core.records.kinds import NONE
from server.core.records.slicing import SLICE_CHANGES, Pace, Slices, collected

_NODE_ENTRIES = 100  # with `~` Redis removes whole nodes of its tree, of so many entries
_TOO_SMALL = "ERR The ID specified in XADD is equal or smaller than the target stream top item"
_ZERO = "ERR The ID specified in XADD must be greater than 0-0"
_FULL = "ERR The stream has exhausted the last possible ID, unable to add more items"
_WRONG_NUMBER = "ERR wrong number of arguments for 'xadd' command"


class Trimming(NamedTuple):
    """What MAXLEN or MINID remove: all but the last `length` entries, or those before `least`; at most `limit` of them, 0
    for any number. `is_exact` is False with `~`."""

    length: int | None
    least: Id
    is_exact: bool
    limit: int


class Added(NamedTuple):
    """The options of XADD, and where the id stands."""

    only_if_exists: bool
    trimming: Trimming | None
    id_place: int


def xadd(draft: Draft, args: list[bytes], sink: Sink) -> Slices[Reply]:
    """XADD key [NOMKSTREAM] [MAXLEN|MINID [=|~] threshold [LIMIT count]] *|id field value …: the id of the entry."""
    added = _parse_added(args)
    fields = args[added.id_place + 1 :]
    if not fields or len(fields) % 2:
        _check_id(args[added.id_place])  # its error comes first, as in Redis
        raise CommandError(_WRONG_NUMBER)
    chosen = _chosen_id(args[added.id_place], draft)
    if added.only_if_exists and draft.key_type == NONE:
        return resp.null(sink.resp3)
    draft.put(chosen.field(), resp.array([bulk(word) for word in fields]))
    if added.trimming is not None:
        yield from _trim(draft, added.trimming)
    return bulk(chosen.text())


def xdel(draft: Draft, args: list[bytes], sink: Sink) -> Slices[Reply]:
    """XDEL key id …: how many entries were removed."""
    fields = [parse_id(word, 0).field() for word in args[2:]]
    removed, pace = 0, Pace(SLICE_CHANGES)
    for field in fields:
        if pace.is_full():
            yield
        count = draft.count_at(field)
        removed += count if count and draft.remove(field) else 0
    return resp.integer(removed)


def xtrim(draft: Draft, args: list[bytes], sink: Sink) -> Slices[Reply]:
    """XTRIM key MAXLEN|MINID [=|~] threshold [LIMIT count]: how many entries were removed."""
    trimming, place = _parse_trimming(args, 2)
    if place != len(args):
        raise CommandError(SYNTAX)
    return resp.integer((yield from _trim(draft, trimming)))


def _trim(draft: Draft, trimming: Trimming) -> Slices[int]:
    size, least = len(draft), trimming.least.field()
    entries: Iterator[tuple[bytes, bytes]] = draft.items()
    if trimming.length is not None:
        excess = max(size - trimming.length, 0)
    else:
        some = takewhile(lambda entry: entry[0] < least, draft.items())
        excess = len((yield from collected(some)))
    if not trimming.is_exact:
        excess -= excess % _NODE_ENTRIES
    if trimming.limit:
        excess = min(excess, trimming.limit)
    gone = yield from collected(islice(entries, excess))
    pace = Pace(SLICE_CHANGES)
    for field in dict.fromkeys(field for field, _ in gone):
        if pace.is_full():
            yield
        draft.remove(field)
    return size - len(draft)


def _chosen_id(word: bytes, draft: Draft) -> Id:
    """The id of a new entry: the one that is asked for, or one behind all others. Raises CommandError."""
    newest = next(draft.items_backwards(), None) if draft.key_type != NONE else None
    last = FIRST if newest is None else id_of(newest[0])
    if last == LAST:
        raise CommandError(_FULL)
    if word == b"*":
        return _behind(last, max(draft.now_ms, last.ms))
    ms, dash, sequence = word.partition(b"-")
    if dash and sequence == b"*":
        wanted_ms = parse_number(ms)
        if wanted_ms < last.ms:
            raise CommandError(_TOO_SMALL)
        return _behind(last, wanted_ms)
    chosen = parse_id(word, 0)
    if chosen == FIRST:
        raise CommandError(_ZERO)
    if chosen <= last:
        raise CommandError(_TOO_SMALL)
    return chosen


def _check_id(word: bytes) -> None:
    """Raises CommandError if this is no id that XADD takes."""
    ms, dash, sequence = word.partition(b"-")
    if word != b"*":
        parse_id(ms if dash and sequence == b"*" else word, 0)


def _behind(last: Id, ms: int) -> Id:
    """The first id of this millisecond that is behind `last`."""
    if ms > last.ms:
        return Id(ms, 0)
    if last.sequence == NUMBER_MAX:
        raise CommandError(_FULL)
    return Id(ms, last.sequence + 1)


def _parse_added(args: list[bytes]) -> Added:
    only_if_exists, trimming, place = False, None, 2
    while place < len(args):
        word = args[place].upper()
        if word == b"NOMKSTREAM":
            only_if_exists = True
            place += 1
        elif word in (b"MAXLEN", b"MINID") and place + 1 < len(args):
            if trimming is not None:
                raise CommandError("ERR syntax error, MAXLEN and MINID options at the same time are not compatible")
            trimming, place = _parse_trimming(args, place)
        else:
            return Added(only_if_exists, trimming, place)
    raise CommandError(_WRONG_NUMBER)


def _parse_trimming(args: list[bytes], place: int) -> tuple[Trimming, int]:
    """MAXLEN or MINID at `place`, and the place behind it. Raises CommandError as Redis does."""
    word = args[place].upper()
    if word not in (b"MAXLEN", b"MINID"):
        raise CommandError(SYNTAX)
    place += 1
    is_exact = True
    if place < len(args) and args[place] in (b"~", b"=") and place + 1 < len(args):
        is_exact = args[place] == b"="
        place += 1
    if place == len(args):
        raise CommandError(SYNTAX)
    length: int | None = None
    least = FIRST
    if word == b"MAXLEN":
        length = integer(args[place])
        if length < 0:
            raise CommandError("ERR The MAXLEN argument must be >= 0.")
    else:
        least = parse_id(args[place], 0)
    limit, place = _parse_limit(args, place + 1, is_exact)
    return Trimming(length, least, is_exact, limit), place


def _parse_limit(args: list[bytes], place: int, is_exact: bool) -> tuple[int, int]:
    if place + 1 >= len(args) or args[place].upper() != b"LIMIT":
        return 0, place
    limit = integer(args[place + 1])
    if limit < 0:
        raise CommandError("ERR The LIMIT argument must be >= 0.")
    if is_exact:
        raise CommandError("ERR syntax error, LIMIT cannot be used without the special ~ option")
    return limit, place + 2
