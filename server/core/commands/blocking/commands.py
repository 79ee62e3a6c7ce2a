"""The table of the blocking commands.

Theory. A command blocks if a client's connection has sent it. As a part of something else (a transaction, a script) it does
what it can at once, and answers that there is nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

from protocol import resp
from protocol.databases import client_key
from protocol.resp import bulk
from server.core.base.errors import CommandError
from server.core.base.sinks import Session, Sink
from server.core.commands.arguments import counted_pops, double
from server.core.commands.key_specs import KeySpec
from server.core.commands.lists.several import is_left
from server.core.commands.sliced_replies import joined_reply
from server.core.commands.slices import in_slices
from server.core.commands.spec import ALONE, CommandSpec
from server.core.commands.typed_steps import run_command
from server.core.records.slicing import Slices, collected, each_of
from server.core.records.views import pack_score, unpack_score
from server.core.services.services import Services
from server.core.waiting.calls import MOVE, BlockingCall
from server.core.work.procedures import Steps

_MS_MAX = 1 << 63
Values = list[bytes]


def _deadline_ms(services: Services, text: bytes) -> int:
    """When the time of a command is over: `text` are seconds. 0: never. Raises CommandError as Redis does."""
    timeout_ms = double(text, "ERR timeout is not a float or out of range") * 1000
    now_ms = services.state.now_ms
    if timeout_ms >= _MS_MAX:
        raise CommandError("ERR timeout is out of range")
    if timeout_ms <= -1:
        raise CommandError("ERR timeout is negative")
    if math.ceil(timeout_ms) >= _MS_MAX - services.state.time_ms:
        raise CommandError("ERR timeout is out of range")
    return now_ms + math.ceil(timeout_ms) if timeout_ms > 0 else 0


def _run(services: Services, sink: Sink, number: int, wanted: BlockingCall, nothing: bytes) -> None:
    """Begins a command. `nothing` is its reply where it does not block."""
    if isinstance(sink, Session) and not sink.denies_blocking:
        services.waiting.blocked.begin(sink, number, wanted)
    else:
        services.run_steps(_at_once(services, wanted, nothing), sink, number)


def _at_once(services: Services, wanted: BlockingCall, nothing: bytes) -> Steps:
    """Does what can be done without waiting."""
    name, *words = wanted.operation
    for key in wanted.keys:
        reply = yield run_command(services, [name, key, *words])
        values = yield from in_slices(services, collected(resp.scalars_of(reply)))
        if values and name.startswith(b"Z"):
            values[1::2] = yield from in_slices(services, each_of(_packed, values[1::2]))
        if values:
            told = wanted.reply(key, values)
            return told if isinstance(told, bytes) else (yield from in_slices(services, told))
    return nothing


def _packed(score: bytes) -> bytes:
    return pack_score(float(score))


def _pop(operation: bytes) -> Callable[[Services, Sink, int, list[bytes]], None]:
    """BLPOP or BRPOP key … timeout: key and element."""

    def handle(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
        deadline_ms = _deadline_ms(services, args[-1])
        nothing = resp.null_array(sink.resp3)
        wanted = BlockingCall(args[1:-1], [operation, b"1"], True, _key_and_value, nothing, deadline_ms)
        _run(services, sink, number, wanted, nothing)

    return handle


def _key_and_value(key: bytes, values: Values) -> bytes:
    return resp.array([bulk(client_key(key)), bulk(values[0])])


def _pop_member(operation: bytes) -> Callable[[Services, Sink, int, list[bytes]], None]:
    """BZPOPMIN or BZPOPMAX key … timeout: key, member and score."""

    def handle(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
        deadline_ms = _deadline_ms(services, args[-1])
        resp3, nothing = sink.resp3, resp.null_array(sink.resp3)

        def reply(key: bytes, values: Values) -> bytes:
            return resp.array([bulk(client_key(key)), bulk(values[0]), resp.double(unpack_score(values[1]), resp3)])

        wanted = BlockingCall(args[1:-1], [operation, b"1"], True, reply, nothing, deadline_ms)
        _run(services, sink, number, wanted, nothing)

    return handle


def _counted(
    ends: tuple[bytes, bytes], operations: tuple[bytes, bytes], made: Callable[[bytes, Values, bool], Slices[bytes]]
) -> Callable[[Services, Sink, int, list[bytes]], None]:
    """BLMPOP or BZMPOP timeout numkeys key … end [COUNT count]: a key, and elements: `made` encodes them behind it."""

    def handle(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
        keys, end, count = counted_pops([args[0], *args[2:]], ends)
        deadline_ms = _deadline_ms(services, args[1])
        resp3, nothing = sink.resp3, resp.null_array(sink.resp3)
        operation = [operations[ends.index(end)], count]

        def reply(key: bytes, values: Values) -> Slices[bytes]:
            return made(b"*2\r\n" + bulk(client_key(key)), values, resp3)

        _run(services, sink, number, BlockingCall(keys, operation, True, reply, nothing, deadline_ms), nothing)

    return handle


def _values(opening: bytes, values: Values, resp3: bool) -> Slices[bytes]:
    return joined_reply(b"%b*%d\r\n" % (opening, len(values)), bulk, values)


def _pairs(opening: bytes, values: Values, resp3: bool) -> Slices[bytes]:
    def pair(place: int) -> bytes:
        return b"*2\r\n" + bulk(values[place]) + resp.double(unpack_score(values[place + 1]), resp3)

    return joined_reply(b"%b*%d\r\n" % (opening, len(values) // 2), pair, range(0, len(values), 2))


def _blmove(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    """BLMOVE source destination LEFT|RIGHT LEFT|RIGHT timeout: the element that was moved."""
    for word in args[3:5]:
        is_left(word)
    _begin_move(services, sink, number, args[1:3], [word.upper() for word in args[3:5]], args[5])


def _brpoplpush(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    """BRPOPLPUSH source destination timeout: as BLMOVE with RIGHT LEFT."""
    _begin_move(services, sink, number, args[1:3], [b"RIGHT", b"LEFT"], args[3])


def _begin_move(
    services: Services, sink: Sink, number: int, keys: Sequence[bytes], ends: list[bytes], timeout: bytes
) -> None:
    deadline_ms = _deadline_ms(services, timeout)
    operation = [MOVE, keys[1], *ends]
    nothing = resp.null_array(sink.resp3)
    wanted = BlockingCall(keys[:1], operation, False, lambda key, values: bulk(values[0]), nothing, deadline_ms)
    _run(services, sink, number, wanted, resp.null(sink.resp3))


_pop_spec = partial(
    CommandSpec,
    arity=-3,
    overlap=ALONE,
    keys=(1, -2, 1),
    access="RW access delete",
    complexity="O(N) where N is the number of provided keys.",
    arguments="key [key ...] timeout:double",
    once=lambda args: True,
)
_move_spec = partial(
    CommandSpec,
    overlap=ALONE,
    group="list",
    flags="write denyoom blocking",
    key_specs=(KeySpec("RW access delete", 1), KeySpec("RW insert", 2)),
    once=lambda args: True,
)
_counted_spec = partial(
    CommandSpec,
    arity=-5,
    overlap=ALONE,
    flags="write blocking",
    key_specs=(KeySpec("RW access delete", 2, counted=True),),
    since="7.0.0",
    once=lambda args: True,
)

COMMANDS: tuple[CommandSpec, ...] = (
    _pop_spec(
        "blpop",
        handler=_pop(b"LPOP"),
        summary="Removes and returns the first element of the first list that has any. Waits for one otherwise.",
        group="list",
        flags="write blocking",
        since="2.0.0",
    ),
    _pop_spec(
        "brpop",
        handler=_pop(b"RPOP"),
        summary="Removes and returns the last element of the first list that has any. Waits for one otherwise.",
        group="list",
        flags="write blocking",
        since="2.0.0",
    ),
    _pop_spec(
        "bzpopmin",
        handler=_pop_member(b"ZPOPMIN"),
        summary="Removes and returns the member with the lowest score of the first sorted set that has any. Waits for one "
        "otherwise.",
        group="sorted-set",
        flags="write fast blocking",
        since="5.0.0",
        complexity="O(log(N)) with N being the number of elements in the sorted set.",
    ),
    _pop_spec(
        "bzpopmax",
        handler=_pop_member(b"ZPOPMAX"),
        summary="Removes and returns the member with the highest score of the first sorted set that has any. Waits for one "
        "otherwise.",
        group="sorted-set",
        flags="write fast blocking",
        since="5.0.0",
        complexity="O(log(N)) with N being the number of elements in the sorted set.",
    ),
    _move_spec(
        "blmove",
        6,
        handler=_blmove,
        summary="Moves an element from an end of one list to an end of another. Waits for one otherwise.",
        since="6.2.0",
        arguments="source destination (LEFT|RIGHT) (LEFT|RIGHT) timeout:double",
    ),
    _move_spec(
        "brpoplpush",
        4,
        handler=_brpoplpush,
        summary="Moves the last element of a list to the beginning of another one. Waits for one otherwise.",
        since="2.2.0",
        arguments="source destination timeout:double",
        deprecated=("6.2.0", "`BLMOVE` with the `RIGHT` and `LEFT` arguments"),
    ),
    _counted_spec(
        "blmpop",
        handler=_counted((b"LEFT", b"RIGHT"), (b"LPOP", b"RPOP"), _values),
        summary="Removes and returns elements of the first list that has any. Waits for one otherwise.",
        group="list",
        complexity="O(N+M) where N is the number of provided keys and M is the number of elements returned.",
        arguments="timeout:double numkeys key [key ...] (LEFT|RIGHT) [COUNT count]",
    ),
    _counted_spec(
        "bzmpop",
        handler=_counted((b"MIN", b"MAX"), (b"ZPOPMIN", b"ZPOPMAX"), _pairs),
        summary="Removes and returns members of the first sorted set that has any. Waits for one otherwise.",
        group="sorted-set",
        complexity="O(K) + O(M*log(N)) where K is the number of provided keys, N being the number of elements in the "
        "sorted set, and M being the number of elements popped.",
        arguments="timeout:double numkeys key [key ...] (MIN|MAX) [COUNT count]",
    ),
)
