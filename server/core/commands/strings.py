"""GET and SET with their family (https://redis.io/docs/latest/commands/?group=string).

Theory. A plain SET is one step: it supersedes what its coordinator has stored. One with options: conditional_sets.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from protocol import resp
from protocol.resp import LargeReply, Reply
from protocol.slots import key_slot
from server.core.base.errors import WRONG_TYPE, CommandError
from server.core.base.sinks import Sink
from server.core.base.state import State
from server.core.commands.arguments import EXPIRIES, check_sizes, expiry_ms
from server.core.commands.conditional_sets import is_conditional, is_read_first, set_with_options, setnx
from server.core.commands.key_specs import SET_KEY
from server.core.commands.slices import PARTS_PER_TURN, Parts, run_parts
from server.core.commands.spec import EXCLUSIVE, READ, WRITE, CommandSpec
from server.core.commands.steps import NOT_READ, supersede_anew
from server.core.records import versions
from server.core.records.kinds import NONE, STRING
from server.core.records.records import storage_key_in
from server.core.records.versions import ForeignDot
from server.core.records.views import View
from server.core.requests.read_groups import ReadGroup
from server.core.services.services import Services

LARGE_BYTES: Final = 16 << 10  # a smaller value is cheaper to copy than to send by itself


def get_reply(record: bytes | None, sink: Sink, now_ms: int) -> Reply:
    """HOT. The newest value, or null."""
    if record is not None:
        if len(record) >= LARGE_BYTES:
            return _large_reply(record, sink, now_ms)
        value = versions.value_of(record, now_ms)
        if value is not None:
            return b"$%d\r\n%b\r\n" % (len(value), value)
        if versions.is_of_other_type(record, now_ms):
            return WRONG_TYPE
    return resp.null(sink.resp3)


def _large_reply(record: bytes, sink: Sink, now_ms: int) -> Reply:
    """As `get_reply`, without a copy of the value."""
    view = versions.value_view(record, now_ms)
    if view is None:
        return WRONG_TYPE if versions.is_of_other_type(record, now_ms) else resp.null(sink.resp3)
    return LargeReply([b"$%d\r\n" % len(view), view, b"\r\n"], len(view))


def _get_of_view(view: View, sink: Sink, now_ms: int) -> Reply:
    """As `get_reply`, of a view."""
    if view.key_type not in (NONE, STRING):
        return WRONG_TYPE
    value = view.string()
    return resp.null(sink.resp3) if value is None else value_reply(value)


def value_reply(value: bytes) -> Reply:
    """HOT. The reply to a GET that reads this value."""
    if len(value) >= LARGE_BYTES:
        return LargeReply([b"$%d\r\n" % len(value), memoryview(value), b"\r\n"], len(value))
    return b"$%d\r\n%b\r\n" % (len(value), value)


def strlen_reply(record: bytes | None, sink: Sink, now_ms: int) -> bytes:
    """The size of the newest value, 0 if there is none."""
    sibling = versions.visible(record, now_ms)
    if sibling is not None and sibling.kind == versions.KEY:
        return WRONG_TYPE
    return resp.integer(0 if sibling is None else len(sibling.value))


def reader(
    finish: Callable[[bytes | None, Sink, int], Reply | None],
    place: int = 1,
    of_view: Callable[[View, Sink, int], Reply | None] | None = None,
) -> Callable[[Services, Sink, int, list[bytes]], None]:
    """The handler of a command that reads the key at `place` among its arguments; `finish` makes the reply from the
    record, or gives it to the sink later and returns None. `of_view` does the same with what earlier commands of the same
    atomic run have changed (transactions/kept_drafts.py); without it the record is made first."""

    def handle(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
        key = args[place]
        slot = key_slot(key)
        state = services.state
        quorum_records = services.reads.quorum_records
        if quorum_records and (storage_key := storage_key_in(slot, key)) in quorum_records:
            if of_view is not None and (pending := state.records.pending.by_key.get(storage_key)) is not None:
                view = pending.view()
                if view is not None:
                    _answer_view(state, sink, number, view, of_view)
                    return
            record = versions.merge(state.records.get(storage_key), quorum_records[storage_key])
            reply = finish(record, sink, state.time_ms)
            if reply is not None:
                state.statistics.count_lookup(record is None or versions.is_dead(record, state.time_ms))
                sink.answer(number, reply)
            return
        if quorum_records and services.reads.missing is not None:
            services.reads.missing.append(key)
            raise CommandError(NOT_READ)
        route = state.routes[slot >> state.route_shift]
        if route.reader is not None and (other := route.reader_for(sink.relayed)) is not None:
            services.relays.forward(sink, number, args, other)
            return
        plan, quorum = route.read_plan, sink.read_quorum
        group: ReadGroup = plan.reading.get(quorum) or services.reads.open(plan, quorum)
        group.keys.append(storage_key_in(slot, key))
        group.waiters.append((finish, sink, number))

    return handle


def _answer_view(
    state: State, sink: Sink, number: int, view: View, of_view: Callable[[View, Sink, int], Reply | None]
) -> None:
    reply = of_view(view, sink, state.time_ms)
    if reply is not None:
        state.statistics.count_lookup(view.key_type == NONE)
        sink.answer(number, reply)


def set_(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    """HOT. SET key value [NX|XX] [GET] [EX s|PX ms|EXAT s|PXAT ms|KEEPTTL]."""
    key = args[1]
    slot = key_slot(key)
    state = services.state
    route = state.routes[slot >> state.route_shift]
    if route.coordinator is not None and (coordinator := route.coordinator_for(sink.relayed)) is not None:
        services.relays.forward(sink, number, args, coordinator)
        return
    if len(args) > 3:
        set_with_options(services, sink, number, args)
        return
    value = args[2]
    config = state.config
    if len(value) > config.value_bytes_max or len(key) > config.key_bytes_max:
        check_sizes(key, value, config)
    group = route.plan.writing.get(sink.write_quorum) or services.writes.group_for(route.plan, sink)
    dot = state.actor_for(route.owned), state.clock.next()
    written = services.writes.overwrite(group, slot, key, dot, value, sink, number)
    if written is not None:
        storage_key, record = written[0], written[1]
    else:
        storage_key = storage_key_in(slot, key)
        old = state.records.get(storage_key)
        try:
            record = versions.supersede(old, dot[0], state.clock.next(), value)  # `get` may have made a draft a record
        except ForeignDot:
            record = supersede_anew(state, route.owned, old, value)
        services.writes.add(group, storage_key, record, old, None, sink, number)
    if record[9] > config.clock_entries_max or record[8]:
        services.collection.add_candidate(storage_key, 0)


def _as_set(*order: int | bytes) -> Callable[[Services, Sink, int, list[bytes]], None]:
    """The handler of an older spelling of SET: its arguments, by place, and fixed words."""

    def handle(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
        words = [args[place] if isinstance(place, int) else place for place in order]
        if words[2] in EXPIRIES:  # an error names the command that the client sent
            expiry_ms(words[2], words[3], services.state.time_ms, args[0].decode("utf-8", "replace").lower())
        set_(services, sink, number, [b"SET", *words])

    return handle


class _Values(Parts):
    """The parts of MGET: a key of another type than string has no value, and is no error."""

    def answer(self, number: int, reply: Reply) -> None:
        """The reply of part `number`."""
        super().answer(number, resp.null(self.resp3) if reply == WRONG_TYPE else reply)


def mget(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    """MGET key …: one GET for each key, of any slots."""
    count, bytes_max = len(args) - 1, services.state.config.gathered_bytes_max
    parts = _Values(sink, number, count, lambda parts: resp.array_of_replies(parts.replies), True, bytes_max)
    run_parts(services, parts, "get", _get, lambda index: [b"GET", args[index + 1]])


def mset(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    """MSET key value …: one SET for each pair, of any slots; not atomic, OK only if every one met its quorum."""
    if len(args) % 2 == 0:
        raise CommandError("ERR wrong number of arguments for 'mset' command")
    parts = Parts(sink, number, len(args) // 2, lambda parts: resp.OK)
    run_parts(services, parts, "set", set_, lambda index: [b"SET", args[2 * index + 1], args[2 * index + 2]])


_get = reader(get_reply, of_view=_get_of_view)

COMMANDS: tuple[CommandSpec, ...] = (
    CommandSpec(
        "get",
        2,
        READ,
        _get,
        "Returns the newest value of a key.",
        "string",
        "readonly fast",
        (1, 1, 1),
        usual_count=2,
        arguments="key",
    ),
    CommandSpec(
        "set",
        -3,
        WRITE,
        set_,
        "Sets the value of a key; NX, XX and GET look at a quorum read.",
        "string",
        "write denyoom",
        (1, 1, 1),
        usual_count=3,
        overwrites=True,
        is_exclusive=is_read_first,
        once=is_conditional,
        key_specs=(SET_KEY,),
        arguments="key value [NX|XX] [GET] [EX seconds|PX milliseconds|EXAT unix-time|PXAT unix-time-ms|KEEPTTL]",
    ),
    CommandSpec(
        "strlen",
        2,
        READ,
        reader(strlen_reply),
        "Returns the length of a value.",
        "string",
        "readonly fast",
        (1, 1, 1),
        since="2.2.0",
        access="RO",
        arguments="key",
    ),
    CommandSpec(
        "mget",
        -2,
        READ,
        mget,
        "Returns the values of several keys, of any slots.",
        "string",
        "readonly fast",
        (1, -1, 1),
        complexity="O(N)",
        arguments="key [key ...]",
    ),
    CommandSpec(
        "mset",
        -3,
        WRITE,
        mset,
        "Sets several keys, of any slots, each by its own quorum.",
        "string",
        "write denyoom",
        (1, -1, 2),
        is_exclusive=lambda args: len(args) > 1 + 2 * PARTS_PER_TURN,
        since="1.0.1",
        complexity="O(N)",
        access="OW update",
        arguments="key value [key value ...]",
    ),
    CommandSpec(
        "setex",
        4,
        WRITE,
        _as_set(1, 3, b"EX", 2),
        "Sets a value and its expiry in seconds.",
        "string",
        "write denyoom",
        (1, 1, 1),
        since="2.0.0",
        access="OW update",
        arguments="key seconds value",
    ),
    CommandSpec(
        "psetex",
        4,
        WRITE,
        _as_set(1, 3, b"PX", 2),
        "Sets a value and its expiry in milliseconds.",
        "string",
        "write denyoom",
        (1, 1, 1),
        since="2.6.0",
        access="OW update",
        arguments="key milliseconds value",
    ),
    CommandSpec(
        "setnx",
        3,
        EXCLUSIVE,
        setnx,
        "Sets the value of a key if it does not exist.",
        "string",
        "write denyoom fast",
        (1, 1, 1),
        once=lambda args: True,
        access="OW insert",
        arguments="key value",
    ),
    CommandSpec(
        "getset",
        3,
        EXCLUSIVE,
        _as_set(1, 2, b"GET"),
        "Sets a value and returns the one before.",
        "string",
        "write denyoom fast",
        (1, 1, 1),
        once=lambda args: True,
        deprecated=("6.2.0", "`SET` with the `!GET` argument"),
        arguments="key value",
    ),
)
