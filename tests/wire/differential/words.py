"""The words that stand for the placeholders of usage lines.

Theory. Most words must be usual ones, from small sets, so that commands meet the keys, fields and members that others have
made. A few must be at the edges: empty, binary, huge, no number, just beyond a number's range. What is left out is what
would let one of the two servers work for seconds (a count of two thousand million members), or let a key expire in the
middle of a sequence: amounts of time are hours, or have passed.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

NUMBERS = (
    b"0", b"-0", b"+0", b"00", b"1", b"+1", b"01", b"-1", b"-01", b"--1", b"1e3", b"1.5", b"0x10", b"", b" 1", b"1 ",
    b"-", b"+", b"abc", b"1\x00", b"1_0", "١".encode(), b"100", b"2147483647", b"2147483648", b"4294967296",
    b"9223372036854775", b"9223372036854776", b"-9223372036854775", b"-9223372036854776", b"9223370000000000",
    b"9223372036854775807", b"9223372036854775808", b"-9223372036854775808", b"-9223372036854775809",
    b"18446744073709551615", b"18446744073709551616", b"1" + b"0" * 40,
)  # fmt: skip
SMALL = (b"0", b"1", b"2", b"3", b"4", b"5", b"10", b"-1", b"-2", b"-3", b"-10", b"100")
DOUBLES = (
    b"0", b"1", b"2", b"3", b"-1", b"1.5", b"-2.25", b"0.1", b"100", b"3.0", b"1e3", b"1e20", b"inf", b"-inf", b"+inf",
)  # fmt: skip
ODD_DOUBLES = (
    b"-0", b"nan", b"INF", b"infinity", b"1e308", b"-1.7976931348623157e308", b"1e309", b"1e-400", b"5e-324", b"0x1p4",
    b"17179869184.123", b"0.30000000000000004", b"1e21", b"123456789012345678", b"9007199254740993", b".5", b"5.", b"+1",
    b"", b" 1", b"1 ", b"abc", b"1\x00", b"1e", b"(1", b"1_0",
)  # fmt: skip
VALUES = (
    b"", b"v", b"0", b"1", b"-1", b"10", b"007", b"3.5", b"1e3", b"a", b"hello world", b"foobar", b"\x00\xff\r\n",
    "é".encode(), b"x" * 44, b"y" * 45, b"z" * 64, b"9223372036854775807", b"-9223372036854775808", b" 1", b"inf", b"nan",
    b"w" * 300,
)  # fmt: skip
ELEMENTS = (
    b"a", b"b", b"c", b"d", b"1", b"2", b"10", b"-3", b"3.5", b"", b"\x00\xff\r\n", "é".encode(), b"a b", b"x" * 64,
    b"y" * 65, b"9223372036854775808",
)  # fmt: skip
SECONDS = tuple(b"%d" % (hours * 3600) for hours in (2, 5, 24, 1000, 20000))
MILLISECONDS = tuple(word + b"000" for word in SECONDS)
UNIX_TIMES = (b"9999999999", b"5000000000", b"7777777777", b"1", b"0", b"-1", b"1000000000")
PATTERNS = (b"*", b"?", b"[ab]", b"*1*", b"[^a]*", b"a*", b"\\*", b"[a-", b"", b"[b-a]*", b"x*", b"*\xff*", b"string*")
SCORES = (
    b"-inf", b"+inf", b"0", b"1", b"(1", b"2", b"(2", b"-1", b"1.5", b"(inf", b"100", b"(-1", b"3", b"nan", b"(", b"abc",
    b"", b"((1",
)  # fmt: skip
LEXES = (b"-", b"+", b"[a", b"(a", b"[b", b"(c", b"[", b"(", b"[1", b"[\xff", b"a", b"", b"[x", b"(x")
RANKS = (b"0", b"1", b"2", b"-1", b"-2", b"-100", b"100", b"3")

# By the name of the placeholder, alone or behind that of the command.
NAMED: Mapping[str, Sequence[bytes]] = {
    "field": ELEMENTS, "member": ELEMENTS, "element": ELEMENTS, "member1": ELEMENTS, "member2": ELEMENTS,
    "value": VALUES, "message": VALUES,
    "seconds": SECONDS, "milliseconds": MILLISECONDS, "ttl": (b"0", *MILLISECONDS), "unix-time": UNIX_TIMES,
    "unix-time-ms": tuple(word + b"000" for word in UNIX_TIMES),
    "count": (b"0", b"1", b"2", b"3", b"10", b"100", b"-1", b"-2", b"-5", b"-9223372036854775808"),
    "increment": (*SMALL, b"9223372036854775807", b"-9223372036854775808", b"1.5"),
    "decrement": (*SMALL, b"9223372036854775807", b"-9223372036854775808"),
    "offset": (b"0", b"1", b"2", b"3", b"7", b"8", b"30", b"100", b"-1", b"#1"), "len": SMALL, "limit": SMALL,
    "bit": (b"0", b"1", b"0", b"1", b"2"), "setbit.value": (b"0", b"1", b"0", b"1", b"2"),
    "encoding": (b"u8", b"i8", b"u1", b"i64", b"u63", b"u64", b"i65", b"u0", b"i5", b"x8", b"u"),
    "bitfield.value": (*SMALL, b"255", b"-129"), "operation": (b"AND", b"OR", b"XOR", b"NOT", b"not", b"NAND"),
    "start": RANKS, "stop": RANKS, "end": RANKS,
    "min": SCORES, "max": SCORES,
    "zrangebylex.min": LEXES, "zrangebylex.max": LEXES, "zrevrangebylex.min": LEXES, "zrevrangebylex.max": LEXES,
    "zlexcount.min": LEXES, "zlexcount.max": LEXES, "zremrangebylex.min": LEXES, "zremrangebylex.max": LEXES,
    "zrange.start": (*RANKS, *SCORES, *LEXES), "zrange.stop": (*RANKS, *SCORES, *LEXES),
    "zrangestore.min": (*RANKS, *SCORES, *LEXES), "zrangestore.max": (*RANKS, *SCORES, *LEXES),
    "longitude": (b"13.361389", b"15.087269", b"2.35", b"0", b"-180", b"180", b"181", b"-73.9"),
    "latitude": (b"38.115556", b"37.502669", b"48.85", b"0", b"-85", b"85", b"86", b"40.7"),
    "radius": (b"0", b"1", b"200", b"100.5", b"1000000", b"-1"), "width": (b"400", b"10", b"0", b"-1", b"1000000"),
    "height": (b"400", b"10", b"0", b"-1", b"1000000"),
    "cursor": (b"0",), "scan.cursor": (b"0",),
    "type": (b"string", b"hash", b"set", b"zset", b"list", b"stream", b"nosuch"),
    "protover": (b"2", b"3"), "destination-db": (b"0", b"0", b"1", b"-1"), "db": (b"0", b"1"), "index": (b"0", b"1"),
    "frequency": (b"0", b"255", b"256", b"-1"), "score": DOUBLES,
    "serialized-value": (
        b"\x00\x01v\n\x00\xd3\x84\x16 \xb3\xb5\xa0\xa7", b"\x00\xc0\n\n\x00n\x9fWE\x0e\xaec\xbb", b"", b"\x00",
        b"\x00\xc0\n\n\x00n\x9fWE\x0e\xaec\xbc",
    ),
    "parameter": (b"maxmemory", b"save", b"nosuch", b"max*emory"), "section": (b"nosuch",),
    "category": (b"string", b"nosuch"), "module-name": (b"x",),
}  # fmt: skip
# By the type of the placeholder, where its name has no words.
TYPED: Mapping[str, Sequence[bytes]] = {
    "integer": SMALL, "double": DOUBLES, "string": VALUES, "pattern": PATTERNS, "unix-time": UNIX_TIMES,
}  # fmt: skip
# What is said instead, now and then: by type.
ODD: Mapping[str, Sequence[bytes]] = {"integer": NUMBERS, "double": ODD_DOUBLES, "unix-time": NUMBERS}
# Placeholders that must have usual words: others let Redis allocate or answer without end, or keys expire on the way.
NEVER_ODD = {"count", "offset"}
BINARY = (b"\xff\xfe", b"a\0b", b"a\r\nb", b"", b"x" * 128, b"NX", b"key", b"*")
# Of the odd numbers, those that are amounts of time in which a key may expire in the middle of a sequence.
_BRIEF = {b"1", b"01", b"+1", b" 1", b"1 ", b"100", b"1.5", b"1e3", b"2147483647", b"2147483648", b"4294967296"}
_TIMES = {"seconds", "milliseconds", "ttl", "unix-time", "unix-time-ms"}


def word_for(rng: random.Random, command: str, name: str, kind: str, oddness: float) -> bytes:
    """A word for the placeholder `name` of type `kind`; with probability `oddness` one at the edges."""
    if rng.random() < oddness and name not in NEVER_ODD:
        words = ODD.get(kind, BINARY)
        if name in _TIMES:
            words = [word for word in words if word not in _BRIEF]
        return rng.choice(words)
    words = NAMED.get(f"{command}.{name}") or NAMED.get(name) or TYPED[kind]
    word = rng.choice(words)
    return b"%d" % (int(word) + rng.randrange(1000) * 3600) if name in ("seconds", "milliseconds") else word
