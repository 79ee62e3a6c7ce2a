"""INCR and its family: numbers that converge (https://redis.io/docs/latest/commands/incr).

Theory. An increment is stored as a part of what its coordinator's actor has added to the key so far (records/kinds.py),
so increments of two sides of a partition add up. The reply is the value after it, as the quorum and this node know it. A
SET supersedes the increments that it has seen.

INCRBYFLOAT computes as Redis does (formats/numbers.py) and adds the difference between the number that it answers and the
one before: so whoever reads the key sees what was answered.
"""

from __future__ import annotations

from decimal import Decimal

from protocol import resp
from server.core.base.errors import CommandError
from server.core.base.sinks import Sink
from server.core.commands.arguments import NOT_A_FLOAT, integer
from server.core.commands.shared_drafts import if_few
from server.core.commands.spec import EXCLUSIVE, CommandSpec, Handler
from server.core.commands.typed import updating
from server.core.formats.numbers import decimal_text, increased, is_in_range, long_double_of
from server.core.records.draft import Draft
from server.core.records.kinds import STRING
from server.core.records.numbers import decimal_of, is_decimal, plus

_INTEGER_MAX = (1 << 63) - 1
_INTEGER_MIN = -(1 << 63)


def sum_within_limits(number: int, amount: int) -> int:
    """Returns a sum. Raises CommandError if it needs more than 64 bits."""
    if not _INTEGER_MIN <= number + amount <= _INTEGER_MAX:
        raise CommandError("ERR increment or decrement would overflow")
    return number + amount


def _increase(draft: Draft, amount: int) -> bytes:
    text = draft.string()
    number = sum_within_limits(integer(b"0" if text is None else text), amount)
    draft.add(b"", Decimal(amount))
    return resp.integer(number)


def _by(sign: int) -> Handler:
    """INCRBY or DECRBY."""

    def check(args: list[bytes]) -> None:
        if sign * integer(args[2]) > _INTEGER_MAX:
            raise CommandError("ERR decrement would overflow")

    def change(draft: Draft, args: list[bytes], sink: Sink) -> bytes:
        return _increase(draft, sign * integer(args[2]))

    return updating(STRING, change, check, shares=if_few)


def _by_one(sign: int) -> Handler:
    """INCR or DECR."""

    def change(draft: Draft, args: list[bytes], sink: Sink) -> bytes:
        return _increase(draft, sign)

    return updating(STRING, change, shares=if_few)


def check_float(text: bytes, message: str = NOT_A_FLOAT) -> Decimal:
    """Returns the number that a text spells, which may be infinite. Raises CommandError."""
    number = long_double_of(text)
    if number is None:
        raise CommandError(message)
    return number


def increase_by_float(draft: Draft, field: bytes, text: bytes | None, amount: bytes, message: str) -> bytes:
    """Adds to the number `text` in a field, the empty one for a string, and returns the text of the sum.

    Raises CommandError with `message` if `text` is no number.
    """
    before = Decimal(0) if text is None else check_float(text, message)
    after, difference = increased(before, check_float(amount))
    if not is_in_range(after):
        raise CommandError("ERR increment would produce NaN or Infinity")
    shown = decimal_text(after)
    if text is None:
        draft.add(field, difference)
    elif is_decimal(text):
        draft.add(field, plus(after, decimal_of(text).copy_negate()))  # `text` may have more digits than `before`
    elif field or draft.key_type != STRING:
        draft.put(field, shown, draft.field_expiry(field))
    else:
        draft.set_string(shown, keeps_expiry=True)
    return shown


def _incrbyfloat(draft: Draft, args: list[bytes], sink: Sink) -> bytes:
    """INCRBYFLOAT key increment: the number after it."""
    return resp.bulk(increase_by_float(draft, b"", draft.string(), args[2], NOT_A_FLOAT))


def _command(
    name: str, arity: int, handler: Handler, summary: str, arguments: str, since: str = "1.0.0"
) -> CommandSpec:
    return CommandSpec(
        name,
        arity,
        EXCLUSIVE,
        handler,
        summary,
        "string",
        "write denyoom fast",
        (1, 1, 1),
        once=lambda args: True,
        access="RW access update",
        arguments=arguments,
        since=since,
    )


COMMANDS: tuple[CommandSpec, ...] = (
    _command("incr", 2, _by_one(1), "Adds one to the number under a key.", "key"),
    _command("decr", 2, _by_one(-1), "Subtracts one from the number under a key.", "key"),
    _command("incrby", 3, _by(1), "Adds to the number under a key.", "key increment"),
    _command("decrby", 3, _by(-1), "Subtracts from the number under a key.", "key decrement"),
    _command(
        "incrbyfloat",
        3,
        updating(STRING, _incrbyfloat, checks_type_first=True, shares=if_few),
        "Adds to the floating point number under a key.",
        "key increment:double",
        "2.6.0",
    ),
)
