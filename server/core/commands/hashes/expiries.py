"""The expiry of fields: HEXPIRE and its kin, HTTL and its kin, HPERSIST, HGETDEL, HGETEX, HSETEX (Redis 7.4 and 8.0).

Theory. A field's expiry is that of the entry with its value. HEXPIRE writes that entry again with another expiry; what was
added to the field at the same time elsewhere stays. An expiry in the past removes the field.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from protocol import resp
from protocol.resp import Reply
from server.core.base.errors import SYNTAX, CommandError
from server.core.base.sinks import Sink
from server.core.commands.arguments import expiry_ms, integer
from server.core.commands.hashes.fields import value_reply
from server.core.commands.keys import allowed
from server.core.commands.shapes import show
from server.core.commands.sliced_replies import Sliced, array_reply
from server.core.records.draft import Draft
from server.core.records.slicing import SLICE_CHANGES, Pace, Slices, parts_of
from server.core.records.views import View

EXPIRY_MS_MAX = (1 << 48) - 1  # Redis keeps the expiry of a field in 48 bits, and takes arguments of 46
_ARGUMENT_MS_MAX = EXPIRY_MS_MAX >> 2
_NO_FIELD, _NOT_MET, _DONE, _REMOVED = -2, 0, 1, 2
_NO_EXPIRY = -1
_CONDITIONS = (b"NX", b"XX", b"GT", b"LT")
_UNITS = (b"EX", b"PX", b"EXAT", b"PXAT")
_FIELDS_MISSING = "ERR Mandatory argument FIELDS is missing or not at the right position"
_COUNT_DIFFERS = "ERR The `numfields` parameter must match the number of arguments"
_NOT_POSITIVE = "ERR Parameter `numFields` should be greater than 0"
_NO_NUMBER = "ERR Number of fields must be a positive integer"


def counted_fields(args: list[bytes], place: int, message: str = _NOT_POSITIVE) -> list[bytes]:
    """Returns the fields of `FIELDS numfields field …`, which begins at a place. Raises CommandError as Redis does."""
    if len(args) <= place or args[place].upper() != b"FIELDS":
        raise CommandError(_FIELDS_MISSING)
    count = integer(args[place + 1], message) if len(args) > place + 1 else 0
    if count < 1:
        raise CommandError(message)
    if count != len(args) - place - 2:
        raise CommandError(_COUNT_DIFFERS)
    return args[place + 2 :]


def _condition(args: list[bytes]) -> tuple[bytes, int]:
    """Returns the condition of HEXPIRE, or b"", and the place of FIELDS."""
    return (args[3].upper(), 4) if args[3].upper() in _CONDITIONS else (b"", 3)


def hexpire(unit_ms: int, is_absolute: bool) -> Callable[[Draft, list[bytes], Sink], Sliced]:
    """Returns the function of HEXPIRE and its kin: key time [NX|XX|GT|LT] FIELDS numfields field …"""

    def change(draft: Draft, args: list[bytes], sink: Sink) -> Sliced:
        at_ms = _expiry_of(args, unit_ms, 0 if is_absolute else draft.now_ms)
        condition, place = _condition(args)
        names = counted_fields(args, place)
        return array_reply(lambda name: resp.integer(_expire(draft, name, at_ms, condition)), names)

    return change


def _expiry_of(args: list[bytes], unit_ms: int, base_ms: int) -> int:
    amount = integer(args[2])
    if amount < 0:
        raise CommandError("ERR invalid expire time, must be >= 0")
    if amount > _ARGUMENT_MS_MAX // unit_ms or amount * unit_ms > EXPIRY_MS_MAX - base_ms:
        raise CommandError(f"ERR invalid expire time in '{show(args[0]).lower()}' command")
    return amount * unit_ms + base_ms


def _expire(draft: Draft, name: bytes, at_ms: int, condition: bytes) -> int:
    """Gives a field an expiry, and returns what HEXPIRE says about it."""
    found = draft.look_up(name)
    if found is None:
        return _NO_FIELD
    if not allowed({condition}, found[1], at_ms):
        return _NOT_MET
    if at_ms <= draft.now_ms:
        draft.remove(name)
        return _REMOVED
    draft.expire_field(name, at_ms)
    return _DONE


def hpersist(draft: Draft, args: list[bytes], sink: Sink) -> Sliced:
    """HPERSIST key FIELDS numfields field …: 1 for each expiry that was removed."""

    def persist(name: bytes) -> bytes:
        found = draft.look_up(name)
        if found is not None and found[1]:
            draft.expire_field(name, 0)
        return resp.integer(_NO_FIELD if found is None else _DONE if found[1] else _NO_EXPIRY)

    return array_reply(persist, counted_fields(args, 2, _NO_NUMBER))


def httl(unit_ms: int, is_absolute: bool) -> Callable[[View, list[bytes], Sink], Sliced]:
    """Returns the function of HTTL and its kin: key FIELDS numfields field …; times are rounded up, as Redis does it."""

    def read(view: View, args: list[bytes], sink: Sink) -> Sliced:
        def time_of(name: bytes) -> bytes:
            found = view.look_up(name)
            if found is None:
                return resp.integer(_NO_FIELD)
            if not found[1]:
                return resp.integer(_NO_EXPIRY)
            return resp.integer(-((view.now_ms * (not is_absolute) - found[1]) // unit_ms))

        return array_reply(time_of, counted_fields(args, 2, _NO_NUMBER))

    return read


def hgetdel(draft: Draft, args: list[bytes], sink: Sink) -> Sliced:
    """HGETDEL key FIELDS numfields field …: the values of the fields, which are removed."""

    def get_and_delete(name: bytes) -> bytes:
        told = value_reply(draft.get(name), sink)
        draft.remove(name)
        return told

    return array_reply(get_and_delete, counted_fields(args, 2, _NO_NUMBER))


@dataclass
class _Options:
    """The words of HGETEX and HSETEX: `at_ms` is 0 for none; `words` are flags; `rest` follows `FIELDS numfields`."""

    at_ms: int = -1
    words: list[bytes] = field(default_factory=list)
    rest: list[bytes] = field(default_factory=list)
    count: int = 0


def _options(args: list[bytes], now_ms: int, flags: tuple[bytes, ...], width: int) -> _Options:
    """Reads the words of HGETEX (`width` 1) or HSETEX (2) in any order. Raises CommandError."""
    found = _Options()
    place = 2
    while place < len(args):
        word = args[place].upper()
        if word == b"FIELDS" and place + 1 < len(args) and not found.rest:
            found.count = integer(args[place + 1], _NO_NUMBER)
            if found.count < 1:
                raise CommandError(_NO_NUMBER)
            found.rest = args[place + 2 : place + 2 + found.count * width]
            if len(found.rest) < found.count * width:
                raise CommandError(_COUNT_DIFFERS)
            place += 2 + found.count * width
        elif word in _UNITS and place + 1 < len(args) and found.at_ms < 0:
            found.at_ms = expiry_ms(word, args[place + 1], now_ms, show(args[0]).lower())
            place += 2
        elif word in flags and word not in found.words:
            found.words.append(word)
            place += 1
        else:
            raise CommandError(
                f"ERR unknown argument: {show(args[place])}" if word not in (*_UNITS, *flags) else SYNTAX
            )
    if not found.rest:
        raise CommandError("ERR missing FIELDS argument")
    return found


def hgetex(draft: Draft, args: list[bytes], sink: Sink) -> Sliced:
    """HGETEX key [EX s|PX ms|EXAT s|PXAT ms|PERSIST] FIELDS numfields field …: the values; sets their expiry."""
    found = _options(args, draft.now_ms, (b"PERSIST",), 1)
    if found.words and found.at_ms >= 0:
        raise CommandError("ERR Only one of EX, PX, EXAT, PXAT or PERSIST arguments can be specified")

    def get_and_expire(name: bytes) -> bytes:
        present = draft.look_up(name)
        if present is None:
            pass
        elif 0 <= found.at_ms <= draft.now_ms:
            draft.remove(name)
        elif found.at_ms > 0:
            draft.expire_field(name, found.at_ms)
        elif found.words and present[1]:
            draft.expire_field(name, 0)
        return value_reply(None if present is None else present[0], sink)

    return array_reply(get_and_expire, found.rest)


def hsetex(draft: Draft, args: list[bytes], sink: Sink) -> Slices[Reply]:
    """HSETEX key [FNX|FXX] [EX s|…|KEEPTTL] FIELDS numfields field value …: 1 if all were set, else 0."""
    found = _options(args, draft.now_ms, (b"FNX", b"FXX", b"KEEPTTL"), 2)
    if b"FNX" in found.words and b"FXX" in found.words:
        raise CommandError("ERR Only one of FXX or FNX arguments can be specified")
    if b"KEEPTTL" in found.words and found.at_ms >= 0:
        raise CommandError("ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified")
    names = found.rest[0::2]
    for word, must_exist in ((b"FNX", False), (b"FXX", True)):
        for part in parts_of(names, SLICE_CHANGES) if word in found.words else ():
            if any(draft.has(name) is not must_exist for name in part):
                return resp.integer(0)
            if len(part) == SLICE_CHANGES:
                yield
    pace = Pace(SLICE_CHANGES)
    for name, value in zip(names, found.rest[1::2], strict=True):
        if pace.is_full():
            yield
        kept_ms = draft.field_expiry(name) if b"KEEPTTL" in found.words else 0
        if 0 <= found.at_ms <= draft.now_ms:
            draft.remove(name)
        else:
            draft.put(name, value, max(found.at_ms, kept_ms, 0))
    return resp.integer(1)
