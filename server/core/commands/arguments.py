"""Reading numbers, quorums and expiries out of a command's arguments, with Redis' own error texts."""

from __future__ import annotations

import re

from server.core.base.config import Config
from server.core.base.errors import NOT_AN_INTEGER, SYNTAX, CommandError
from server.core.formats.numbers import double_of, integer_of

EXPIRY_MS_MAX = (1 << 63) - 1
EXPIRY_MS_MIN = -(1 << 63)
EXPIRIES = (b"EX", b"PX", b"EXAT", b"PXAT")  # the options that give a key an expiry
NOT_A_FLOAT = "ERR value is not a valid float"
_COUNT = "ERR count should be greater than 0"
_NUMKEYS = "ERR numkeys should be greater than 0"
_CURSOR = re.compile(rb"([+-]?[0-9]+)?")
_CURSOR_MAX = (1 << 64) - 1


def integer(text: bytes, message: str = NOT_AN_INTEGER) -> int:
    """A 64-bit signed integer written as Redis demands: digits only, no blanks, no plus, no -0. Raises CommandError."""
    number = integer_of(text)
    if number is None:
        raise CommandError(message)
    return number


def double(text: bytes, message: str = NOT_A_FLOAT) -> float:
    """A double as Redis demands it: no blanks, not "nan". Raises CommandError."""
    number = double_of(text)
    if number is None:
        raise CommandError(message)
    return number


def cursor(text: bytes) -> int:
    """Parses a cursor as Redis does, by strtoul: a sign, leading zeros, an empty string are fine, and a zero byte ends it.
    Any number is accepted, also one that no scan has returned."""
    text = text.partition(b"\0")[0]
    if not _CURSOR.fullmatch(text):
        raise CommandError("ERR invalid cursor")
    number = int(text or b"0")
    if abs(number) > _CURSOR_MAX:
        raise CommandError("ERR invalid cursor")
    return number & _CURSOR_MAX


def expiry_ms(unit: bytes, amount: bytes, now_ms: int, command: str) -> int:
    """The absolute expiry in ms since 1970 of EX, PX, EXAT, PXAT and their amount. Raises CommandError as Redis does."""
    number = integer(amount)
    expires_at_ms = number if unit in (b"PX", b"PXAT") else number * 1000
    if unit in (b"EX", b"PX"):
        expires_at_ms += now_ms
    if number <= 0 or expires_at_ms > EXPIRY_MS_MAX:
        raise CommandError(f"ERR invalid expire time in '{command}' command")
    return expires_at_ms


def quorum(text: bytes, name: str, replicas: int) -> int:
    """R or W of a request: 1 to the number of replicas."""
    number = integer(text, f"ERR {name} is not an integer")
    if not 1 <= number <= replicas:
        raise CommandError(f"ERR {name} must be between 1 and {replicas}, the number of replicas")
    return number


def check_sizes(key: bytes, value: bytes, config: Config) -> None:
    """Refuses keys and values over the limits before anything is written."""
    if len(key) > config.key_bytes_max:
        raise CommandError(f"ERR key of {len(key)} bytes exceeds key_bytes_max={config.key_bytes_max}")
    if len(value) > config.value_bytes_max:
        raise CommandError(f"ERR value of {len(value)} bytes exceeds value_bytes_max={config.value_bytes_max}")


def options(args: list[bytes], flags: tuple[bytes, ...], valued: tuple[bytes, ...]) -> dict[bytes, bytes]:
    """Options in any order and case, as {NAME: value}; flags have the value b"". Raises a syntax error for the rest.

    An option may be said again, and its last value holds, as in Redis.
    """
    found: dict[bytes, bytes] = {}
    index = 0
    while index < len(args):
        name = args[index].upper()
        if name in flags:
            found[name] = b""
            index += 1
        elif name in valued and index + 1 < len(args):
            found[name] = args[index + 1]
            index += 2
        else:
            raise CommandError(SYNTAX)
    return found


def counted_keys(
    args: list[bytes], place: int, too_many: str, too_few: str = _NUMKEYS, not_a_number: str = _NUMKEYS, least: int = 1
) -> list[bytes]:
    """Returns the keys that follow their number (numkeys), which is at `place`. Raises CommandError with these texts."""
    count = integer(args[place], not_a_number)
    if count < least:
        raise CommandError(too_few)
    if count > len(args) - place - 1:
        raise CommandError(too_many)
    return args[place + 1 : place + 1 + count]


def counted_pops(args: list[bytes], ends: tuple[bytes, bytes]) -> tuple[list[bytes], bytes, bytes]:
    """Returns the keys, the end and the count of LMPOP or ZMPOP: numkeys key … end [COUNT count]; `ends` are the words for
    an end. Raises CommandError as Redis does."""
    keys = counted_keys(args, 1, SYNTAX)
    where = 2 + len(keys)
    if where == len(args) or args[where].upper() not in ends:
        raise CommandError(SYNTAX)
    options = args[where + 1 :]
    count = 1
    if options:
        if len(options) < 2 or options[0].upper() != b"COUNT":
            raise CommandError(SYNTAX)
        count = integer(options[1], _COUNT)
        if count < 1:
            raise CommandError(_COUNT)
        if len(options) > 2:
            raise CommandError(SYNTAX)
    return keys, args[where].upper(), b"%d" % count
