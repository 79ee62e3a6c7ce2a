"""Reading numbers, quorums and expiries out of a command's arguments, with Redis' own error texts."""

from __future__ import annotations

from server.core.base.config import Config
from server.core.base.errors import NOT_AN_INTEGER, SYNTAX, CommandError

EXPIRY_MS_MAX = (1 << 63) - 1
EXPIRY_MS_MIN = -(1 << 63)


def integer(text: bytes, message: str = NOT_AN_INTEGER) -> int:
    """A 64-bit signed integer written as Redis demands: digits only, no blanks, no plus, no -0. Raises CommandError."""
    digits = text[1:] if text[:1] == b"-" else text
    if not digits.isdigit() or len(text) > 20 or (len(text) > 1 and digits[:1] == b"0"):
        raise CommandError(message)
    number = int(text)
    if not -(1 << 63) <= number < 1 << 63:
        raise CommandError(message)
    return number


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
