"""APPEND, GETRANGE, SETRANGE, GETDEL, GETEX and MSETNX (https://redis.io/docs/latest/commands/?group=string).

Theory. The first three are functions of a value (string_commands.py). GETDEL and GETEX work on a draft. MSETNX looks at all
its keys first and then sets each with SETNX, so that it never replaces a value that somebody else has set meanwhile; it
answers 1 only if it has set every key. It is not atomic: if another client sets one of the keys in between, the others
stay set, and the answer is 0.
"""

from __future__ import annotations

from protocol import resp
from protocol.resp import Value
from server.core.base.errors import SYNTAX, CommandError, wrong_arity
from server.core.base.sinks import Sink
from server.core.commands.arguments import EXPIRIES, check_sizes, expiry_ms, integer, options
from server.core.commands.conditional_sets import setnx
from server.core.commands.key_specs import GETEX_KEY
from server.core.commands.keys import exists_reply
from server.core.commands.slices import Parts, run_parts
from server.core.commands.spec import EXCLUSIVE, ONE_KEY, READ, CommandSpec, Handler
from server.core.commands.string_commands import check_growth, editing, reading_string
from server.core.commands.strings import reader
from server.core.commands.typed import updating
from server.core.records.draft import Draft
from server.core.records.kinds import STRING
from server.core.services.services import Services
from server.core.work.procedures import Procedure, Step, Steps


def append(value: bytes | None, args: list[bytes], bytes_max: int) -> tuple[Value, bytes | None]:
    """APPEND key value: the new length."""
    before = value or b""
    check_growth(len(before) + len(args[2]), bytes_max)
    after = before + args[2]
    return len(after), after


def bounds_of(args: list[bytes], bytes_max: int = 0) -> tuple[int, int]:
    """The arguments of GETRANGE. Raises CommandError."""
    return integer(args[2]), integer(args[3])


def get_range(value: bytes | None, args: list[bytes]) -> Value:
    """GETRANGE key start end: the bytes from `start` to `end`, both included; negative ones count from the end."""
    start, end = bounds_of(args)
    if value is None or (start < 0 and end < 0 and start > end):
        return b""
    size = len(value)
    start = max(start + size if start < 0 else start, 0)
    end = max(end + size if end < 0 else end, 0)
    return value[start : end + 1]


def offset_of(args: list[bytes], bytes_max: int = 0) -> int:
    """The offset of SETRANGE. Raises CommandError."""
    offset = integer(args[2])
    if offset < 0:
        raise CommandError("ERR offset is out of range")
    return offset


def set_range(value: bytes | None, args: list[bytes], bytes_max: int) -> tuple[Value, bytes | None]:
    """SETRANGE key offset value: the new length. A gap is filled with zero bytes; an empty value changes nothing."""
    offset, part = offset_of(args), args[3]
    before = value or b""
    if not part:
        return len(before), None
    check_growth(offset + len(part), bytes_max)
    view = memoryview(before)  # a copy of 16 MiB costs 10 ms
    after = b"".join([view[:offset], bytes(max(offset - len(before), 0)), part, view[offset + len(part) :]])
    return len(after), after


def _getex_options(args: list[bytes]) -> dict[bytes, bytes]:
    found = options(args[2:], (b"PERSIST",), EXPIRIES)
    if len(found) > 1:
        raise CommandError(SYNTAX)
    return found


def _getex(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    """GETEX key [EX s|PX ms|EXAT s|PXAT ms|PERSIST]. An expiry in the past deletes the key. One that is not valid is
    refused once the key was found."""
    found = _getex_options(args)
    now_ms = services.state.time_ms

    def change(draft: Draft, args: list[bytes], sink: Sink) -> bytes:
        value = draft.string()
        if value is None:
            return resp.null(sink.resp3)
        for unit, amount in found.items():
            at_ms = 0 if unit == b"PERSIST" else expiry_ms(unit, amount, now_ms, "getex")
            if 0 < at_ms <= now_ms:
                draft.clear()
            elif at_ms or draft.expires_at_ms:
                draft.expire(at_ms)
        return resp.bulk(value)

    updating(STRING, change)(services, sink, number, args)


def _get_and_delete(draft: Draft, args: list[bytes], sink: Sink) -> bytes:
    """GETDEL key: the value before."""
    value = draft.string()
    if value is None:
        return resp.null(sink.resp3)
    draft.clear()
    return resp.bulk(value)


def _msetnx(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    """MSETNX key value …: 1 if every key was set, 0 if one existed. Of a key given twice the last value counts."""
    if len(args) % 2 == 0:
        sink.answer(number, wrong_arity("msetnx"))
        return
    pairs = list(dict(zip(args[1::2], args[2::2], strict=True)).items())
    for key, value in pairs:
        check_sizes(key, value, services.state.config)

    def steps() -> Steps:
        existing = yield _sum_of(services, "exists", _exists, [[b"EXISTS", key] for key, _ in pairs])
        if int(existing[1:-2]):
            return resp.integer(0)
        created = yield _sum_of(services, "setnx", setnx, [[b"SETNX", *pair] for pair in pairs])
        return resp.integer(int(created[1:-2]) == len(pairs))

    services.run_steps(steps(), sink, number)


def _sum_of(services: Services, name: str, handler: Handler, calls: list[list[bytes]]) -> Step:
    """A step whose result is the sum of what calls of a command over one key answer, as a reply."""

    def start(procedure: Procedure) -> None:
        parts = Parts(procedure, 0, len(calls), lambda parts: resp.integer(parts.total))
        run_parts(services, parts, name, handler, lambda index: calls[index])

    return start


_exists = reader(exists_reply)

COMMANDS: tuple[CommandSpec, ...] = (
    CommandSpec(
        "append",
        3,
        EXCLUSIVE,
        editing(append),
        "Appends to a value, and returns its length.",
        "string",
        "write denyoom fast",
        ONE_KEY,
        since="2.0.0",
        once=lambda args: True,
        access="RW insert",
        arguments="key value",
    ),
    CommandSpec(
        "getrange",
        4,
        READ,
        reading_string(get_range, bounds_of),
        "Returns a part of a value.",
        "string",
        "readonly",
        ONE_KEY,
        since="2.4.0",
        complexity="O(N)",
        arguments="key start end",
    ),
    CommandSpec(
        "substr",
        4,
        READ,
        reading_string(get_range, bounds_of),
        "Returns a part of a value.",
        "string",
        "readonly",
        ONE_KEY,
        complexity="O(N)",
        deprecated=("2.0.0", "`GETRANGE`"),
        arguments="key start end",
    ),
    CommandSpec(
        "setrange",
        4,
        EXCLUSIVE,
        editing(set_range, offset_of),
        "Replaces a part of a value, and returns its length.",
        "string",
        "write denyoom",
        ONE_KEY,
        since="2.2.0",
        complexity="O(N)",
        access="RW update",
        arguments="key offset value",
    ),
    CommandSpec(
        "getdel",
        2,
        EXCLUSIVE,
        updating(STRING, _get_and_delete, deletes=True),
        "Returns a value and deletes its key.",
        "string",
        "write fast",
        ONE_KEY,
        since="6.2.0",
        once=lambda args: True,
        access="RW access delete",
        arguments="key",
    ),
    CommandSpec(
        "getex",
        -2,
        EXCLUSIVE,
        _getex,
        "Returns a value and sets its expiry.",
        "string",
        "write fast",
        ONE_KEY,
        since="6.2.0",
        key_specs=(GETEX_KEY,),
        once=lambda args: len(args) > 2,
        arguments="key [EX seconds|PX milliseconds|EXAT unix-time|PXAT unix-time-ms|PERSIST]",
    ),
    CommandSpec(
        "msetnx",
        -3,
        EXCLUSIVE,
        _msetnx,
        "Sets several keys, of any slots, if none of them exists; not atomic.",
        "string",
        "write denyoom",
        (1, -1, 2),
        since="1.0.1",
        complexity="O(N)",
        once=lambda args: True,
        access="OW insert",
        arguments="key value [key value ...]",
    ),
)
