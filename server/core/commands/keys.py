"""DEL, EXISTS, TYPE and the family of EXPIRE (https://redis.io/docs/latest/commands/?group=generic).

Theory. A deletion is a write like any other, of a tombstone, and an expiry is part of the version that carries it: both
merge, replicate and repair like values. DEL, EXPIRE and PERSIST answer whether the key was there, so they read with a
quorum first. While nodes disagree about who is alive, a key may have two coordinators, and both may answer 1, as with SET
NX.
"""

from __future__ import annotations

from collections.abc import Callable

from protocol import resp
from server.core.base.clock import SEQUENCE_BITS
from server.core.base.errors import CommandError
from server.core.base.quorum import Tally
from server.core.base.sinks import Sink
from server.core.commands.arguments import EXPIRY_MS_MAX, EXPIRY_MS_MIN, integer
from server.core.commands.key_changes import changer, write_expiry
from server.core.commands.shapes import show
from server.core.commands.slices import Parts, run_parts
from server.core.commands.spec import EXCLUSIVE, ONE_KEY, READ, CommandSpec
from server.core.commands.steps import write_plain
from server.core.commands.strings import reader
from server.core.commands.typed import type_of_view, type_reply
from server.core.records import versions
from server.core.records.draft import Draft
from server.core.records.kinds import NONE
from server.core.records.versions import Sibling
from server.core.records.views import View
from server.core.services.services import Services


def _one(tally: Tally, sink: Sink) -> bytes:
    return resp.integer(1)


def _zero(sink: Sink) -> bytes:
    return resp.integer(0)


def _delete(services: Services, sink: Sink, number: int, args: list[bytes], sibling: Sibling, record: bytes) -> None:
    write_plain(services, sink, number, args[1], b"", 0, versions.TOMBSTONE, _one, record)


def _persist(
    services: Services, sink: Sink, number: int, args: list[bytes], sibling: Sibling, record: bytes
) -> bytes | Draft | None:
    if not sibling.expires_at_ms:
        return resp.integer(0)
    return write_expiry(services, sink, number, args[1], record, 0)


def _persist_kept(services: Services, args: list[bytes], draft: Draft) -> bytes:
    if not draft.expires_at_ms:
        return resp.integer(0)
    draft.persist()
    return resp.integer(1)


def _expire(unit_ms: int, absolute: bool) -> Callable[[Services, Sink, int, list[bytes]], None]:
    """EXPIRE key seconds [NX|XX|GT|LT] and its kin: `unit_ms` of the argument, `absolute` or from now."""

    def absolute_ms(services: Services, args: list[bytes]) -> int:
        return integer(args[2]) * unit_ms + (0 if absolute else services.state.time_ms)

    def change(
        services: Services, sink: Sink, number: int, args: list[bytes], sibling: Sibling, record: bytes
    ) -> bytes | Draft | None:
        now_ms = services.state.time_ms
        expires_at_ms = absolute_ms(services, args)
        if not allowed({word.upper() for word in args[3:]}, sibling.expires_at_ms, expires_at_ms):
            return resp.integer(0)
        if expires_at_ms <= now_ms:  # Redis: an expiry in the past deletes
            _delete(services, sink, number, args, sibling, record)
            return None
        return write_expiry(services, sink, number, args[1], record, expires_at_ms)

    def deletes(services: Services, args: list[bytes]) -> bool:
        return absolute_ms(services, args) <= services.state.time_ms

    def amend(services: Services, args: list[bytes], draft: Draft) -> bytes | None:
        if deletes(services, args):
            return None
        at_ms = absolute_ms(services, args)
        if not allowed({word.upper() for word in args[3:]}, draft.expires_at_ms, at_ms):
            return resp.integer(0)
        draft.expire(at_ms)
        return resp.integer(1)

    handle = changer(_zero, change, deletes, amend)

    def checked(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
        _check_expire(args, unit_ms, 0 if absolute else services.state.time_ms)
        handle(services, sink, number, args)

    return checked


def _check_expire(args: list[bytes], unit_ms: int, base_ms: int) -> None:
    words = [word.upper() for word in args[3:]]
    for word, given in zip(words, args[3:], strict=True):
        if word not in (b"NX", b"XX", b"GT", b"LT"):
            raise CommandError(f"ERR Unsupported option {show(given)}")
    if b"NX" in words and len({*words}) > 1:
        raise CommandError("ERR NX and XX, GT or LT options at the same time are not compatible")
    if b"GT" in words and b"LT" in words:
        raise CommandError("ERR GT and LT options at the same time are not compatible")
    amount_ms = integer(args[2]) * unit_ms
    if amount_ms < EXPIRY_MS_MIN or amount_ms + base_ms > EXPIRY_MS_MAX:
        raise CommandError(f"ERR invalid expire time in '{args[0].decode('utf-8', 'replace').lower()}' command")


def allowed(words: set[bytes], present_ms: int, wanted_ms: int) -> bool:
    """Redis' conditions of EXPIRE; a key without an expiry lives for ever, so nothing is greater."""
    if b"NX" in words and present_ms:
        return False
    if b"XX" in words and not present_ms:
        return False
    if b"GT" in words and (not present_ms or wanted_ms <= present_ms):
        return False
    return not (b"LT" in words and present_ms and wanted_ms >= present_ms)


def exists_reply(record: bytes | None, sink: Sink, now_ms: int) -> bytes:
    return resp.integer(0 if versions.visible(record, now_ms) is None else 1)


def _time_left(unit_ms: int, absolute: bool) -> Callable[[Services, Sink, int, list[bytes]], None]:
    """The handler of TTL and its kin: -2 no such key, -1 no expiry, else the time rounded as Redis rounds it."""

    def reply(record: bytes | None, sink: Sink, now_ms: int) -> bytes:
        sibling = versions.visible(record, now_ms)
        if sibling is None:
            return resp.integer(-2)
        written_ms = sibling.counter >> SEQUENCE_BITS
        if now_ms < written_ms <= now_ms + CLOCKS_DIFFER_MS_MAX:
            now_ms = written_ms  # the coordinator's clock is a little ahead of ours
        return left(sibling.expires_at_ms, now_ms)

    def left(expires_at_ms: int, now_ms: int) -> bytes:
        if not expires_at_ms:
            return resp.integer(-1)
        return resp.integer((expires_at_ms - (0 if absolute else now_ms) + unit_ms // 2) // unit_ms)

    def of_view(view: View, sink: Sink, now_ms: int) -> bytes:
        return resp.integer(-2) if view.key_type == NONE else left(view.expires_at_ms, now_ms)

    return reader(reply, of_view=of_view)


def _exists_in_view(view: View, sink: Sink, now_ms: int) -> bytes:
    return resp.integer(int(view.key_type != NONE))


def _each(
    single: Callable[[Services, Sink, int, list[bytes]], None],
) -> Callable[[Services, Sink, int, list[bytes]], None]:
    """The handler of a command over several keys that answers the sum of its single-key answers."""

    def handle(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
        if len(args) == 2:
            single(services, sink, number, args)
            return
        parts = Parts(sink, number, len(args) - 1, lambda parts: resp.integer(parts.total))
        run_parts(services, parts, show(args[0]).lower(), single, lambda index: [args[0], args[index + 1]])

    return handle


delete_one = changer(_zero, _delete, lambda services, args: True)
_del = _each(delete_one)
_exists = _each(reader(exists_reply, of_view=_exists_in_view))
CLOCKS_DIFFER_MS_MAX = 1000  # of two nodes' cluster times, at most, when all is well
_KEYS = (1, -1, 1)
_EXPIRE_DOC = "Sets the expiry of a key "

COMMANDS: tuple[CommandSpec, ...] = (
    CommandSpec(
        "del",
        -2,
        EXCLUSIVE,
        _del,
        "Deletes keys of any slots.",
        "generic",
        "write",
        _KEYS,
        complexity="O(N)",
        access="RM delete",
        arguments="key [key ...]",
    ),
    CommandSpec(
        "unlink",
        -2,
        EXCLUSIVE,
        _del,
        "Deletes keys of any slots.",
        "generic",
        "write fast",
        _KEYS,
        since="4.0.0",
        complexity="O(N)",
        access="RM delete",
        arguments="key [key ...]",
    ),
    CommandSpec(
        "exists",
        -2,
        READ,
        _exists,
        "Counts those of the keys that exist.",
        "generic",
        "readonly fast",
        _KEYS,
        complexity="O(N)",
        access="RO",
        arguments="key [key ...]",
    ),
    CommandSpec(
        "touch",
        -2,
        READ,
        _exists,
        "Counts those of the keys that exist.",
        "generic",
        "readonly fast",
        _KEYS,
        since="3.2.1",
        complexity="O(N)",
        access="RO",
        arguments="key [key ...]",
    ),
    CommandSpec(
        "type",
        2,
        READ,
        reader(type_reply, of_view=type_of_view),
        "Returns the type of a key's value.",
        "generic",
        "readonly fast",
        ONE_KEY,
        access="RO",
        arguments="key",
    ),
    CommandSpec(
        "ttl",
        2,
        READ,
        _time_left(1000, False),
        "Returns the seconds a key has left.",
        "generic",
        "readonly fast",
        ONE_KEY,
        tips="nondeterministic_output",
        arguments="key",
    ),
    CommandSpec(
        "pttl",
        2,
        READ,
        _time_left(1, False),
        "Returns the milliseconds a key has left.",
        "generic",
        "readonly fast",
        ONE_KEY,
        since="2.6.0",
        tips="nondeterministic_output",
        arguments="key",
    ),
    CommandSpec(
        "expiretime",
        2,
        READ,
        _time_left(1000, True),
        "Returns a key's expiry as a Unix time.",
        "generic",
        "readonly fast",
        ONE_KEY,
        since="7.0.0",
        arguments="key",
    ),
    CommandSpec(
        "pexpiretime",
        2,
        READ,
        _time_left(1, True),
        "Returns a key's expiry as a Unix time in ms.",
        "generic",
        "readonly fast",
        ONE_KEY,
        since="7.0.0",
        arguments="key",
    ),
    CommandSpec(
        "expire",
        -3,
        EXCLUSIVE,
        _expire(1000, False),
        _EXPIRE_DOC + "in seconds.",
        "generic",
        "write fast",
        ONE_KEY,
        access="RW update",
        arguments="key seconds [NX|XX|GT|LT]",
    ),
    CommandSpec(
        "pexpire",
        -3,
        EXCLUSIVE,
        _expire(1, False),
        _EXPIRE_DOC + "in milliseconds.",
        "generic",
        "write fast",
        ONE_KEY,
        since="2.6.0",
        access="RW update",
        arguments="key milliseconds [NX|XX|GT|LT]",
    ),
    CommandSpec(
        "expireat",
        -3,
        EXCLUSIVE,
        _expire(1000, True),
        _EXPIRE_DOC + "to a Unix time.",
        "generic",
        "write fast",
        ONE_KEY,
        since="1.2.0",
        access="RW update",
        arguments="key unix-time [NX|XX|GT|LT]",
    ),
    CommandSpec(
        "pexpireat",
        -3,
        EXCLUSIVE,
        _expire(1, True),
        _EXPIRE_DOC + "to a Unix time in ms.",
        "generic",
        "write fast",
        ONE_KEY,
        since="2.6.0",
        access="RW update",
        arguments="key unix-time-ms [NX|XX|GT|LT]",
    ),
    CommandSpec(
        "persist",
        2,
        EXCLUSIVE,
        changer(_zero, _persist, amend=_persist_kept),
        "Removes the expiry of a key.",
        "generic",
        "write fast",
        ONE_KEY,
        since="2.2.0",
        access="RW update",
        arguments="key",
    ),
)
