"""Decimal texts: the payloads of delta entries, and the numbers that values and deltas make together.

Theory. What an actor has added to a number is kept as an exact decimal, so sums do not depend on the order in which
records were merged. A value that is a decimal text, too, takes part in the sum. If the value is anything else (a SET of
a text on the other side of a partition), it stands as it is, and the deltas show again once the value is gone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Final

from server.core.formats.numbers import decimal_text

DELTA_BYTES_MAX: Final = 12_000  # of a long double's range with all places, and of sums of such
_DECIMAL: Final = re.compile(rb"-?[0-9]+(\.[0-9]+)?(E[+-]?[0-9]{1,4})?")
_INTEGER: Final = re.compile(rb"-?[0-9]{1,1000}")  # int() takes up to 4,300 digits
_EXACT: Final = Context(prec=20_000, rounding=ROUND_HALF_EVEN, Emax=999_999, Emin=-999_999)


def is_decimal(text: bytes) -> bool:
    """Whether a text may be a delta, or a value that deltas are added to."""
    return len(text) <= DELTA_BYTES_MAX and _DECIMAL.fullmatch(text) is not None


def decimal_of(text: bytes) -> Decimal:
    """Returns the number that a decimal text spells."""
    return Decimal(text.decode())


def plus(one: Decimal, other: Decimal) -> Decimal:
    """Returns the exact sum."""
    return _EXACT.add(one, other)


def folded_text_of(number: Decimal) -> bytes:
    """Returns the text of a folded sum (folds.py): as `decimal_text`, with a zero before the digits."""
    text = decimal_text(number)
    return b"-0" + text[1:] if text[:1] == b"-" else b"0" + text


def is_folded(text: bytes) -> bool:
    """Whether a delta is a folded sum."""
    digits = text[1:3] if text[:1] == b"-" else text[:2]
    return len(digits) == 2 and digits[:1] == b"0" and digits.isdigit()


def total(base: bytes, deltas: Sequence[bytes]) -> bytes | None:
    """Returns the text of a number and what was added to it; None if the base is not a decimal text."""
    if not is_decimal(base):
        return None
    if _INTEGER.fullmatch(base) and all(_INTEGER.fullmatch(delta) is not None for delta in deltas):
        return b"%d" % sum([int(delta) for delta in deltas], int(base))
    number = decimal_of(base)
    for delta in deltas:
        number = plus(number, decimal_of(delta))
    return decimal_text(number)
