"""Numbers as Redis 7.0 reads and prints them.

Theory. Redis reads numbers with functions of C and some checks around them, each with its own idea of what a number is:

| here | in Redis | takes |
|---|---|---|
| `integer_of` | string2ll | 64 bits; no blank, no plus, no leading zero, no -0 |
| `double_of` | string2d | what strtod takes: 1e3, .5, 5., 0x1p3, inf; no blank, no nan, no overflow, no underflow to 0 |
| `bound_of` | zslParseRange | `(` if exclusive, then as strtod, also after blanks; nothing at all is 0, 1e999 is inf |
| `long_double_of` | string2ld | as string2d, with the range of 80 bits, in at most 5,119 bytes |

And it prints them in three ways. Replies have the 17 significant digits of `%.17g` (`double_text`, protocol/resp.py).
Scores within a small sorted set are integers where that is exact (`score_text`). INCRBYFLOAT and GEOPOS print up to 17
digits after the point (`long_double_text`, `decimal_text`). Redis computes these with the 80-bit numbers of x87, whose
significands have 64 bits. Here they are decimals of 17 places, whose sums are exact in any order. `increased` rounds one
addition as x87 does, so that a counter with one writer shows what it would show in Redis, noise included.

The source of the rules is util.c, object.c and t_zset.c of Redis 7.0.15; the tests ask redis-server itself.
"""

from __future__ import annotations

import re
from decimal import ROUND_HALF_EVEN, Context, Decimal
from math import copysign, inf, isinf
from typing import Final

_DECIMAL: Final = re.compile(rb"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_HEX: Final = re.compile(rb"([+-]?)0[xX]([0-9a-fA-F]+\.?[0-9a-fA-F]*|\.[0-9a-fA-F]+)(?:[pP]([+-]?[0-9]+))?")
_INFINITY: Final = re.compile(rb"[+-]?inf(?:inity)?", re.IGNORECASE)
_BLANKS: Final = b" \t\n\v\f\r"

_INTEGER_BYTES_MAX: Final = 20
_WHOLE_MAX: Final = float((1 << 63) // 2)
_EXPONENT_DIGITS_MAX: Final = 9  # longer exponents are out of every range
_INFINITIES: Final = (inf, -inf)
# x87's numbers: a significand of 64 bits; they lie between 2 ** -16445 and 2 ** 16384.
_SIGNIFICAND_BITS: Final = 64
_LOG2_MIN: Final = -16_445
_LOG2_END: Final = 16_384
_LOG10_SAFE: Final = 4_930  # numbers of less magnitude are in that range
_LOG10_MAX: Final = 5_000  # and numbers of this magnitude are not
_LONG_DOUBLE_BYTES_MAX: Final = 5 * 1024 - 1
_PLACES: Final = 17
_UNIT: Final = Decimal(1).scaleb(-_PLACES)
_ZERO: Final = Decimal(0)
# With so many digits every sum of such numbers with 17 places is exact.
_EXACT: Final = Context(prec=5_120, rounding=ROUND_HALF_EVEN, Emax=999_999, Emin=-999_999, traps=[])


def integer_of(text: bytes) -> int | None:
    """The 64-bit signed integer that has exactly this spelling; None if there is none."""
    digits = text[1:] if text[:1] == b"-" else text
    if not digits.isdigit() or len(text) > _INTEGER_BYTES_MAX or (len(text) > 1 and digits[:1] == b"0"):
        return None
    number = int(text)
    return number if -(1 << 63) <= number < 1 << 63 else None


def double_of(text: bytes) -> float | None:
    """The double that this text spells from its first byte to its last; None if it spells none within the range."""
    if (found := _DECIMAL.fullmatch(text)) is not None:
        number = float(text)
        return None if isinf(number) or (number == 0 and found[1].strip(b"0.")) else number
    if (found := _HEX.fullmatch(text)) is not None:
        number = _from_hex(text)
        return None if isinf(number) or (number == 0 and found[2].strip(b"0.")) else number
    return float(text) if _INFINITY.fullmatch(text) else None


def _from_hex(text: bytes) -> float:
    try:
        return float.fromhex(text.decode())
    except OverflowError:
        return -inf if text[:1] == b"-" else inf


def bound_of(text: bytes) -> tuple[float, bool] | None:
    """The bound of a range of scores, and whether it is exclusive; None if it is not a number."""
    is_exclusive = text[:1] == b"("
    spelled = (text[1:] if is_exclusive else text).split(b"\0", 1)[0]  # as C sees it
    if not spelled:
        return 0.0, is_exclusive
    spelled = spelled.lstrip(_BLANKS)
    if _DECIMAL.fullmatch(spelled) or _INFINITY.fullmatch(spelled):
        return float(spelled), is_exclusive
    return (_from_hex(spelled), is_exclusive) if _HEX.fullmatch(spelled) else None


def long_double_of(text: bytes) -> Decimal | None:
    """The number that this text spells, to 17 places; None if it spells none that an x87 number could hold.

    It may be infinite, which no result may be (`is_in_range`).
    """
    if len(text) > _LONG_DOUBLE_BYTES_MAX:
        return None
    if _INFINITY.fullmatch(text):
        return Decimal("-Infinity" if text[:1] == b"-" else "Infinity")
    if (found := _DECIMAL.fullmatch(text)) is not None:
        return _decimal_of(text, found[1].strip(b"0.") == b"")
    return _hex_of(text)


def _decimal_of(text: bytes, is_zero: bool) -> Decimal | None:
    """The number of a decimal text, to 17 places; None if it is out of range."""
    if is_zero:
        return _ZERO
    number = _EXACT.create_decimal(text.decode())  # infinite or 0 if the exponent is absurd
    log10 = number.adjusted()
    if not number or not number.is_finite() or abs(log10) >= _LOG10_MAX:
        return None
    if abs(log10) >= _LOG10_SAFE and not _is_x87(*number.as_integer_ratio()):
        return None
    return number.quantize(_UNIT, context=_EXACT)


def _hex_of(text: bytes) -> Decimal | None:
    """The number of a hexadecimal text, to 17 places; None if it is none, or out of range."""
    found = _HEX.fullmatch(text)
    if found is None:
        return None
    whole, _, places = found[2].partition(b".")
    significand = int(whole + places, 16)
    if not significand:
        return _ZERO
    exponent = found[3] or b"0"
    if len(exponent.lstrip(b"+-0")) > _EXPONENT_DIGITS_MAX:
        return None
    log2 = int(exponent) - 4 * len(places)
    if abs(significand.bit_length() + log2) > _LOG2_END + _SIGNIFICAND_BITS:
        return None
    numerator, denominator = _ratio(significand, log2)
    if not _is_x87(numerator, denominator):
        return None
    number = _in_units(numerator, denominator)
    return -number if found[1] == b"-" else number


def _is_x87(numerator: int, denominator: int) -> bool:
    """Whether a number other than 0 rounds to neither infinity nor 0 in 80 bits."""
    significand, log2 = _rounded(abs(numerator), denominator)
    log2 += significand.bit_length()
    is_below_half_of_the_smallest = abs(numerator) << (1 - _LOG2_MIN) <= denominator
    return log2 <= _LOG2_END and not is_below_half_of_the_smallest


def _rounded(numerator: int, denominator: int) -> tuple[int, int]:
    """The nearest number with a significand of 64 bits: its significand, and the exponent of its unit."""
    log2 = numerator.bit_length() - denominator.bit_length() - _SIGNIFICAND_BITS
    significand = _scaled(numerator, denominator, log2)
    if abs(significand) > 1 << _SIGNIFICAND_BITS:
        log2 += 1
        significand = _scaled(numerator, denominator, log2)
    return significand, log2


def _scaled(numerator: int, denominator: int, log2: int) -> int:
    """How often 2 ** log2 goes into a number, rounded."""
    return _divided(numerator, denominator << log2) if log2 >= 0 else _divided(numerator << -log2, denominator)


def _divided(numerator: int, denominator: int) -> int:
    """The quotient of two integers, halves rounded to even."""
    quotient, rest = divmod(numerator, denominator)
    return quotient + (2 * rest > denominator or (2 * rest == denominator and quotient & 1))


def _in_units(numerator: int, denominator: int) -> Decimal:
    """The nearest number with 17 places."""
    return Decimal(_divided(numerator * 10**_PLACES, denominator)).scaleb(-_PLACES, _EXACT)


def increased(total: Decimal, amount: Decimal) -> tuple[Decimal, Decimal]:
    """The total after INCRBYFLOAT, and by how much it differs from the total before.

    Both numbers are rounded to 64 bits, then their sum, then that to 17 places, as in Redis. So an actor that adds the
    difference to its delta shows what Redis would. The new total may be out of range. Use no operators on such decimals:
    those of Python round to 28 digits.
    """
    if not total.is_finite() or not amount.is_finite():
        return _EXACT.add(total, amount), amount
    numerator, log2 = _aligned_sum(_rounded(*total.as_integer_ratio()), _rounded(*amount.as_integer_ratio()))
    after = _in_units(*_ratio(*_rounded(*_ratio(numerator, log2))))
    return after, _EXACT.subtract(after, total)


def _aligned_sum(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    """The exact sum of two numbers, each a significand and the exponent of its unit."""
    log2 = min(one[1], other[1])
    return (one[0] << (one[1] - log2)) + (other[0] << (other[1] - log2)), log2


def _ratio(significand: int, log2: int) -> tuple[int, int]:
    """A significand and the exponent of its unit as a numerator and a denominator."""
    return (significand << log2, 1) if log2 >= 0 else (significand, 1 << -log2)


def is_in_range(total: Decimal) -> bool:
    """Whether a sum is a number that x87 could hold: neither infinite nor not a number."""
    return total.is_finite() and (not total or total.adjusted() < _LOG10_SAFE or _is_x87(*total.as_integer_ratio()))


def decimal_text(amount: Decimal) -> bytes:
    """The shortest text of a finite decimal without an exponent; two equal numbers have one text."""
    text = format(amount, "f")
    text = text.rstrip("0").removesuffix(".") if "." in text else text
    return b"0" if text == "-0" else text.encode()


def long_double_text(number: Decimal | float) -> bytes:
    """As INCRBYFLOAT and GEOPOS print: rounded to 64 bits, then to 17 places, without zeros at the end."""
    if number in _INFINITIES:
        return b"inf" if number > 0 else b"-inf"
    numerator, denominator = number.as_integer_ratio()
    return decimal_text(_in_units(*_ratio(*_rounded(numerator, denominator))))


def double_text(number: float) -> bytes:
    """As replies print a double: 17 significant digits, whole numbers without a point."""
    return b"%.17g" % number


def score_text(number: float) -> bytes:
    """As Redis stores a score in a listpack: an integer where that is exact, else as `double_text`."""
    if number == 0:
        return b"-0" if copysign(1, number) < 0 else b"0"
    if -_WHOLE_MAX <= number <= _WHOLE_MAX and number == int(number):
        return b"%d" % int(number)
    return double_text(number)
