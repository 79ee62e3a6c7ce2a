"""BITFIELD and BITFIELD_RO: integers of any width at any bit of a value (https://redis.io/docs/latest/commands/bitfield/).

Theory. All operations of a call work on one copy of the value, in order, so that each sees what those before it have
written; the value after is written once. The value is made long enough for all writes of the call, even if each of them
overflows and fails, as in Redis. An integer is taken out of the bytes that it touches as one Python integer, so that no
case of sign, width or overflow is special: a result is right if it is equal modulo 2 to the power of the width.
"""

from __future__ import annotations

from typing import NamedTuple

from protocol.resp import Value
from server.core.base.errors import SYNTAX, CommandError
from server.core.commands.arguments import integer
from server.core.commands.bits import NO_OFFSET, checked_offset
from server.core.commands.key_specs import BITFIELD_KEY
from server.core.commands.spec import EXCLUSIVE, ONE_KEY, READ, CommandSpec
from server.core.commands.string_commands import check_growth, editing, reading_string

OPERATIONS_MAX = 4096  # of a call: about 10 ms
_NO_TYPE = "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is."
_ANY_BYTES = 1 << 60  # the offsets were checked before
_WORDS = {b"GET": 2, b"SET": 3, b"INCRBY": 3, b"OVERFLOW": 1}  # how many words follow


class FieldOperation(NamedTuple):
    """One operation. `amount` is what SET writes or INCRBY adds. `overflow`: WRAP, SAT or FAIL."""

    name: bytes
    is_signed: bool
    bits: int
    offset: int
    amount: int
    overflow: bytes


def parse_operations(words: list[bytes], bytes_max: int) -> list[FieldOperation]:
    """The operations of a call. Raises CommandError as Redis does."""
    operations: list[FieldOperation] = []
    overflow = b"WRAP"
    place = 0
    while place < len(words):
        name = words[place].upper()
        count = _WORDS.get(name, len(words))
        if place + count >= len(words):
            raise CommandError(SYNTAX)
        if name == b"OVERFLOW":
            overflow = words[place + 1].upper()
            if overflow not in (b"WRAP", b"SAT", b"FAIL"):
                raise CommandError("ERR Invalid OVERFLOW type specified")
        else:
            is_signed, bits = _type_of(words[place + 1])
            offset = _offset_of(words[place + 2], bits, bytes_max)
            amount = integer(words[place + 3]) if count == 3 else 0
            operations.append(FieldOperation(name, is_signed, bits, offset, amount, overflow))
        place += 1 + count
    if len(operations) > OPERATIONS_MAX:
        raise CommandError(f"ERR a call of BITFIELD has at most {OPERATIONS_MAX} operations")
    return operations


def _type_of(text: bytes) -> tuple[bool, int]:
    """`i8`, `u16`: whether the integer is signed, and its width in bits."""
    bits = integer(text[1:].partition(b"\0")[0], _NO_TYPE)
    is_signed = text[:1] == b"i"
    if text[:1] not in (b"i", b"u") or not 1 <= bits <= (64 if is_signed else 63):
        raise CommandError(_NO_TYPE)
    return is_signed, bits


def _offset_of(text: bytes, bits: int, bytes_max: int) -> int:
    """The place of an integer's first bit; `#2` is the third integer of this width."""
    offset = integer(text[1:], NO_OFFSET) * bits if text[:1] == b"#" else integer(text, NO_OFFSET)
    return checked_offset(offset, bytes_max)


def bitfield(value: bytes | None, args: list[bytes], bytes_max: int) -> tuple[Value, bytes | None]:
    """BITFIELD key …: what each GET found, each SET replaced and each INCRBY made; null for an overflow that failed."""
    operations = parse_operations(args[2:], bytes_max)
    ends = [each.offset + each.bits for each in operations if each.name != b"GET"]
    if not ends:
        return [_get(value or b"", each) for each in operations], None
    size_bytes = (max(ends) + 7) >> 3
    check_growth(size_bytes, bytes_max)
    data = bytearray((value or b"").ljust(size_bytes, b"\0"))
    answers: list[Value] = [_run(data, each) for each in operations]
    return answers, bytes(data)


def bitfield_ro(value: bytes | None, args: list[bytes]) -> Value:
    """BITFIELD_RO key [GET type offset …]."""
    return [_get(value or b"", each) for each in _reads_of(args, _ANY_BYTES)]


def _reads_of(args: list[bytes], bytes_max: int) -> list[FieldOperation]:
    """The operations of BITFIELD_RO. Raises CommandError."""
    operations = parse_operations(args[2:], bytes_max)
    if any(each.name != b"GET" for each in operations):
        raise CommandError("ERR BITFIELD_RO only supports the GET subcommand")
    return operations


def _get(data: bytes | bytearray, each: FieldOperation) -> int:
    """The integer at the place of an operation; behind the end there are zeros."""
    start, end = each.offset >> 3, (each.offset + each.bits + 7) >> 3
    around = int.from_bytes(data[start:end].ljust(end - start, b"\0"), "big")
    return _fitted(around >> 8 * end - each.offset - each.bits, each)


def _fitted(number: int, each: FieldOperation) -> int:
    """The integer of an operation's type that equals `number` modulo 2 to the power of its width."""
    number &= (1 << each.bits) - 1
    return number - (1 << each.bits) if each.is_signed and number >> (each.bits - 1) else number


def _run(data: bytearray, each: FieldOperation) -> int | None:
    before = _get(data, each)
    if each.name == b"GET":
        return before
    wanted = before + each.amount if each.name == b"INCRBY" else each.amount
    after = _bounded(wanted, each)
    if after is None:
        return None
    start, end = each.offset >> 3, (each.offset + each.bits + 7) >> 3
    behind = 8 * end - each.offset - each.bits
    around = int.from_bytes(data[start:end], "big")
    around ^= (_bits(before, each) ^ _bits(after, each)) << behind
    data[start:end] = around.to_bytes(end - start, "big")
    return after if each.name == b"INCRBY" else before


def _bits(number: int, each: FieldOperation) -> int:
    return number & ((1 << each.bits) - 1)


def _bounded(wanted: int, each: FieldOperation) -> int | None:
    """What is written: `wanted` if it fits, else what the operation's way with overflows makes of it; None: nothing.

    A negative number that is set as an unsigned one counts as a large one, as in C."""
    least = -(1 << (each.bits - 1)) if each.is_signed else 0
    most = least + (1 << each.bits) - 1
    if least <= wanted <= most:
        return wanted
    if each.overflow == b"WRAP":
        return _fitted(wanted, each)
    if each.overflow == b"FAIL":
        return None
    return least if wanted < least and (each.is_signed or each.name == b"INCRBY") else most


def _writes(args: list[bytes]) -> bool:
    return any(word.upper() in (b"SET", b"INCRBY") for word in args[2:])


_GET = "GET encoding offset"
_WRITE = "(SET encoding offset value:integer|INCRBY encoding offset increment)"
_OPERATION = f"({_GET}|[OVERFLOW (WRAP|SAT|FAIL)] {_WRITE})"

COMMANDS: tuple[CommandSpec, ...] = (
    CommandSpec(
        "bitfield",
        -2,
        EXCLUSIVE,
        editing(bitfield, lambda args, bytes_max: parse_operations(args[2:], bytes_max)),
        f"Reads, sets and increments integers within a value, up to {OPERATIONS_MAX} in a call.",
        "bitmap",
        "write denyoom",
        ONE_KEY,
        since="3.2.0",
        complexity="O(N)",
        once=_writes,
        arguments=f"key [{_OPERATION} [{_OPERATION} ...]]",
        key_specs=(BITFIELD_KEY,),
    ),
    CommandSpec(
        "bitfield_ro",
        -2,
        READ,
        reading_string(bitfield_ro, _reads_of),
        f"Reads integers within a value, up to {OPERATIONS_MAX} in a call.",
        "bitmap",
        "readonly fast",
        ONE_KEY,
        since="6.0.0",
        arguments="key [GET encoding offset [GET encoding offset ...]]",
    ),
)
