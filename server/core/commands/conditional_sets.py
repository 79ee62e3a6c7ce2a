"""SET with options, SETNX and GETSET.

Theory. SET with NX, XX, GET or KEEPTTL first reads with a quorum, then decides in the same turn by the join of what the
quorum and this node hold. So of two such commands at the same coordinator the later one sees the write of the earlier one.
While nodes disagree about who is alive a key may have two coordinators for a moment, and then both SET NX may succeed:
these conditions are not linearizable yet.
"""

from __future__ import annotations

from typing import Final

from protocol import resp
from protocol.resp import Reply
from server.core.base.errors import SYNTAX, WRONGTYPE, CommandError
from server.core.base.sinks import Sink
from server.core.commands.arguments import EXPIRIES, check_sizes, expiry_ms, options
from server.core.commands.steps import KeyCommand, write_plain
from server.core.records import versions
from server.core.records.versions import Sibling
from server.core.services.services import Services

_NX: Final = {b"NX": b""}  # the options of the commonest call


def set_options(args: list[bytes]) -> dict[bytes, bytes]:
    """The options of SET. Raises CommandError for options that exclude each other."""
    if len(args) == 4 and args[3] in (b"NX", b"nx"):
        return _NX
    found = options(args[3:], (b"NX", b"XX", b"GET", b"KEEPTTL"), EXPIRIES)
    if (b"NX" in found and b"XX" in found) or sum(name in found for name in (*EXPIRIES, b"KEEPTTL")) > 1:
        raise CommandError(SYNTAX)
    return found


def is_conditional(args: list[bytes]) -> bool:
    """Whether the reply or the effect of a SET depends on the value before, so that it must not run twice."""
    return any(arg.upper() in (b"NX", b"XX", b"GET") for arg in args[3:])


def is_read_first(args: list[bytes]) -> bool:
    """Whether a SET reads before it writes."""
    return len(args) > 3 and any(arg.upper() in (b"NX", b"XX", b"GET", b"KEEPTTL") for arg in args[3:])


def set_with_options(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    """SET key value and options, at the coordinator of the key."""
    found = set_options(args)
    config = services.state.config
    if len(args[2]) > config.value_bytes_max or len(args[1]) > config.key_bytes_max:
        check_sizes(args[1], args[2], config)
    expires_at_ms = 0
    for unit in EXPIRIES if found is not _NX else ():
        if unit in found:
            expires_at_ms = expiry_ms(unit, found[unit], services.state.time_ms, "set")
    if found is not _NX and set(found) <= set(EXPIRIES):
        write_plain(services, sink, number, args[1], args[2], expires_at_ms)
    else:
        _ConditionalSet(services, sink, number, args, found, expires_at_ms).begin()


class _ConditionalSet(KeyCommand):
    """SET with NX, XX, GET or KEEPTTL."""

    def __init__(
        self,
        services: Services,
        sink: Sink,
        number: int,
        args: list[bytes],
        found: dict[bytes, bytes],
        expires_at_ms: int,
    ) -> None:
        super().__init__(services, sink, number, args[1])
        self._value = args[2]
        self._found = found
        self._expires_at_ms = expires_at_ms

    def decide(self, record: bytes | None) -> Reply | None:
        """The write, unless a condition does not hold."""
        found, services = self._found, self.services
        if found is _NX:
            if _exists(record, services.state.time_ms):
                return resp.null(self._sink.resp3)
            self.write(self._value, 0, record)
            return None
        old = None if record is None else versions.visible(record, services.state.time_ms)
        before = old_value(old, self._sink) if b"GET" in found else resp.null(self._sink.resp3)
        if b"NX" in found if old is not None else b"XX" in found:
            return before
        if b"KEEPTTL" in found and old is not None:
            self._expires_at_ms = old.expires_at_ms
        self.write(self._value, self._expires_at_ms, record, (lambda tally, sink: before) if b"GET" in found else None)
        return None


def _exists(record: bytes | None, now_ms: int) -> bool:
    """Whether the key exists: a plain GET finds a value, or the key has another type than string."""
    if record is None:
        return False
    return versions.value_view(record, now_ms) is not None or versions.is_of_other_type(record, now_ms)


def old_value(old: Sibling | None, sink: Sink) -> bytes:
    """The value before, as GET would answer it. Raises WRONGTYPE if the key has another type than string."""
    if old is not None and old.kind == versions.KEY:
        raise CommandError(WRONGTYPE)
    return resp.null(sink.resp3) if old is None else resp.bulk(old.value)


def setnx(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    """SETNX key value: 1 if the key was set, 0 if it existed."""
    coordinator = services.route(args[1]).coordinator_for(sink.relayed)
    if coordinator is not None:
        services.relays.forward(sink, number, args, coordinator)
    else:
        _SetNx(services, sink, number, args).begin()


class _SetNx(KeyCommand):
    """SETNX."""

    def __init__(self, services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
        check_sizes(args[1], args[2], services.state.config)
        super().__init__(services, sink, number, args[1])
        self._value = args[2]

    def decide(self, record: bytes | None) -> Reply | None:
        """The write, unless there is a value."""
        if _exists(record, self.services.state.time_ms):
            return resp.integer(0)
        self.write(self._value, 0, record, lambda tally, sink: resp.integer(1))
        return None
