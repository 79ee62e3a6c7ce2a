"""OBJECT: how Redis would store a value (https://redis.io/docs/latest/commands/object-encoding/).

Theory. A record is stored in one way only, so ENCODING follows from the content: it is what Redis would choose for a value
that is written in one go, with its default settings. IDLETIME is the time since the last write, for reads are not
recorded. FREQ is refused as Redis refuses it with its default policy. REFCOUNT is 1, or for small integers, which Redis
shares, Redis' mark for a shared one.
"""

from __future__ import annotations

from collections.abc import Callable

from protocol import resp
from server.core.base.clock import SEQUENCE_BITS
from server.core.base.errors import CommandError
from server.core.base.sinks import Sink
from server.core.commands.arguments import integer
from server.core.commands.containers import container
from server.core.commands.spec import READ, CommandSpec
from server.core.commands.typed import ANY, Read, reading
from server.core.records import versions
from server.core.records.kinds import HASH, LIST, NONE, SET, STREAM, STRING, ZSET
from server.core.records.views import View

_EMBEDDED_BYTES_MAX = 44  # of a string that Redis stores beside its object
_INTEGERS_MAX = 512  # set-max-intset-entries
_PACKED_MAX, _PACKED_BYTES_MAX = 128, 64  # hash- and zset-max-listpack-entries and -value
_SHARED_MAX, _SHARED = 10_000, (1 << 31) - 1  # Redis shares the integers below; a shared object has this count


def is_integer(value: bytes) -> bool:
    """Whether Redis would store a value as an integer of 64 bits."""
    try:
        integer(value)
    except CommandError:
        return False
    return True


def encoding_of(view: View) -> str:
    """Redis' name of the encoding of a key that exists."""
    if view.key_type == STRING:
        value = view.string() or b""
        if len(value) <= 20 and is_integer(value):
            return "int"
        return "embstr" if len(value) <= _EMBEDDED_BYTES_MAX and not view.sketches() else "raw"
    if view.key_type == SET:
        is_small = len(view) <= _INTEGERS_MAX and all(is_integer(element) for element, _ in view.items())
        return "intset" if is_small else "hashtable"
    if view.key_type == LIST:
        return "quicklist"
    if view.key_type == STREAM:
        return "stream"
    is_packed = len(view) <= _PACKED_MAX and all(
        len(field) <= _PACKED_BYTES_MAX and (view.key_type == ZSET or len(payload) <= _PACKED_BYTES_MAX)
        for field, payload in view.items()
    )
    if is_packed:
        return "listpack"
    return {HASH: "hashtable", ZSET: "skiplist"}.get(view.key_type, "raw")


def _encoding(view: View) -> bytes:
    return resp.bulk(encoding_of(view).encode())


def _idle_time(view: View) -> bytes:
    """Seconds since the last write, by the newest reading in the record's clock."""
    assert view.base is not None
    written_ms = max([counter for _, counter in versions.clock_of(view.base)], default=0) >> SEQUENCE_BITS
    return resp.integer(max(view.now_ms - written_ms, 0) // 1000)


def _reference_count(view: View) -> bytes:
    value = view.string() if view.key_type == STRING else None
    is_shared = value is not None and len(value) <= 4 and value.isdigit() and is_integer(value)
    return resp.integer(_SHARED if is_shared else 1)


def _frequency(view: View) -> bytes:
    raise CommandError(
        "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching "
        "between policies at runtime LRU and LFU data will take some time to adjust."
    )


def _of_key(answer: Callable[[View], bytes]) -> Read:
    """Answers null for a key that does not exist."""
    return lambda view, args, sink: _null(sink) if view.key_type == NONE else answer(view)


def _null(sink: Sink) -> bytes:
    return resp.null(sink.resp3)


def _subcommand(name: str, answer: Callable[[View], bytes], summary: str, since: str) -> CommandSpec:
    return CommandSpec(
        f"object|{name}",
        3,
        READ,
        reading(ANY, _of_key(answer), place=2),
        summary,
        "generic",
        "readonly",
        (2, 2, 1),
        since=since,
        tips="nondeterministic_output",
        access="RO",
        arguments="key",
    )


_SUBCOMMANDS = (
    _subcommand("encoding", _encoding, "Returns how Redis would store a value.", "2.2.3"),
    _subcommand("freq", _frequency, "Is refused, as with Redis' default policy: nobody counts accesses.", "4.0.0"),
    _subcommand("idletime", _idle_time, "Returns the seconds since a key was written; reads do not count.", "2.2.3"),
    _subcommand("refcount", _reference_count, "Returns 1, or 2147483647 for a small integer.", "2.2.3"),
)

COMMANDS: tuple[CommandSpec, ...] = (
    container(
        "object",
        "Tells how Redis would store a value.",
        "generic",
        _SUBCOMMANDS,
        since="2.2.3",
        help_since="6.2.0",
    ),
)
