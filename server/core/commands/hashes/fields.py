"""Read, set, add to and remove fields of a hash."""

from __future__ import annotations

from decimal import Decimal

from protocol import resp
from protocol.resp import Reply, bulk
from server.core.base.errors import SYNTAX, CommandError
from server.core.base.sinks import Sink
from server.core.base.state import State
from server.core.commands.arguments import cursor, integer
from server.core.commands.choices import Item, check_paired, choose, random_count
from server.core.commands.counters import check_float, increase_by_float, sum_within_limits
from server.core.commands.sliced_replies import Sliced, array_reply, fields_reply, joined_reply, sum_reply, then
from server.core.records.draft import Draft
from server.core.records.slicing import Slices
from server.core.records.views import View


def check_pairs(args: list[bytes]) -> None:
    """Refuses a field without a value."""
    if len(args) % 2:
        raise CommandError(f"ERR wrong number of arguments for '{args[0].decode('utf-8', 'replace').lower()}' command")


def hset(draft: Draft, args: list[bytes], sink: Sink) -> Sliced:
    """HSET key field value [field value …]: how many fields are new."""
    return sum_reply(lambda index: draft.put(args[index], args[index + 1]), range(2, len(args), 2))


def hmset(draft: Draft, args: list[bytes], sink: Sink) -> Sliced:
    """HMSET key field value [field value …]: OK."""
    return then(hset(draft, args, sink), resp.OK)


def hsetnx(draft: Draft, args: list[bytes], sink: Sink) -> Reply:
    """HSETNX key field value: 1 if the field was set, 0 if it existed."""
    return resp.integer(not draft.has(args[2]) and draft.put(args[2], args[3]))


def hdel(draft: Draft, args: list[bytes], sink: Sink) -> Sliced:
    """HDEL key field [field …]: how many fields are gone."""
    return sum_reply(draft.remove, args[2:])


def check_hincrby(args: list[bytes]) -> None:
    """Refuses an increment that is no integer."""
    integer(args[3])


def hincrby(draft: Draft, args: list[bytes], sink: Sink) -> Reply:
    """HINCRBY key field increment: the number after it."""
    text = draft.get(args[2])
    amount = integer(args[3])
    number = sum_within_limits(integer(b"0" if text is None else text, "ERR hash value is not an integer"), amount)
    draft.add(args[2], Decimal(amount))
    return resp.integer(number)


def check_hincrbyfloat(args: list[bytes]) -> None:
    """Refuses an increment that is no finite number."""
    if not check_float(args[3]).is_finite():
        raise CommandError("ERR value is NaN or Infinity")


def hincrbyfloat(draft: Draft, args: list[bytes], sink: Sink) -> Reply:
    """HINCRBYFLOAT key field increment: the number after it."""
    return bulk(increase_by_float(draft, args[2], draft.get(args[2]), args[3], "ERR hash value is not a float"))


def hget(view: View, args: list[bytes], sink: Sink) -> Reply:
    """HGET key field: its value, or null."""
    return value_reply(view.get(args[2]), sink)


def value_reply(value: bytes | None, sink: Sink) -> bytes:
    """A value, or null."""
    return resp.null(sink.resp3) if value is None else bulk(value)


def hmget(view: View, args: list[bytes], sink: Sink) -> Sliced:
    """HMGET key field [field …]: each value, or null."""
    return array_reply(lambda field: value_reply(view.get(field), sink), args[2:])


def hgetall(view: View, args: list[bytes], sink: Sink) -> Sliced:
    """HGETALL key: all fields and values."""
    return fields_reply(view, _pair, b"%") if sink.resp3 else fields_reply(view, _pair, width=2)


def hkeys(view: View, args: list[bytes], sink: Sink) -> Sliced:
    """HKEYS key: all fields."""
    return fields_reply(view, lambda item: bulk(item[0]))


def hvals(view: View, args: list[bytes], sink: Sink) -> Sliced:
    """HVALS key: all values."""
    return fields_reply(view, lambda item: bulk(item[1]))


def _pair(item: Item) -> bytes:
    """A field and its value, one behind the other."""
    return b"$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(item[0]), item[0], len(item[1]), item[1])


def hlen(view: View, args: list[bytes], sink: Sink) -> Slices[Reply]:
    """HLEN key: how many fields there are."""
    return resp.integer((yield from view.count_in_slices()))


def hexists(view: View, args: list[bytes], sink: Sink) -> Reply:
    """HEXISTS key field: 1 or 0."""
    return resp.integer(view.has(args[2]))


def hstrlen(view: View, args: list[bytes], sink: Sink) -> Reply:
    """HSTRLEN key field: the size of its value, 0 if there is none."""
    return resp.integer(len(view.get(args[2]) or b""))


def check_hrandfield(args: list[bytes]) -> None:
    """Refuses a count or words that are wrong."""
    if len(args) > 2:
        count = random_count(args[2])
        if len(args) > 4 or (len(args) == 4 and args[3].upper() != b"WITHVALUES"):
            raise CommandError(SYNTAX)
        if len(args) == 4:
            check_paired(count)


def hrandfield(view: View, args: list[bytes], sink: Sink, state: State) -> Slices[Reply]:
    """HRANDFIELD key [count [WITHVALUES]]: random fields, distinct ones if the count is positive."""
    chosen = yield from choose(view, random_count(args[2]) if len(args) > 2 else 1, state.rng)
    if len(args) == 2:
        return bulk(chosen[0][0]) if chosen else resp.null(sink.resp3)
    count = len(chosen)
    if len(args) == 3:
        return (yield from joined_reply(b"*%d\r\n" % count, lambda item: bulk(item[0]), chosen))
    if sink.resp3:
        return (yield from joined_reply(b"*%d\r\n" % count, lambda item: b"*2\r\n" + _pair(item), chosen))
    return (yield from joined_reply(b"*%d\r\n" % (2 * count), _pair, chosen))


def check_cursor(args: list[bytes]) -> None:
    """Refuses a cursor that is none."""
    cursor(args[2])


def field_items(item: Item, sink: Sink) -> list[bytes]:
    """A field and its value, for HSCAN."""
    return [bulk(item[0]), bulk(item[1])]
