"""The cases for strings in parts and in bits, for keys by other names, and for what is told of a key."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import product

from tests.wire.differential.exact import Case, Command

KEYS = (b"diff:{s}k", b"diff:{s}l", b"diff:m", b"diff:h")
K, L, M, H = KEYS
VALUES = (None, b"", b"a", b"Hello World", b"\x00\x00\x0f", b"\xff\xff", b"\xff\xf0\x01", b"12345")
NUMBERS = (
    b"0", b"1", b"-1", b"2", b"-2", b"5", b"7", b"8", b"9", b"16", b"-8", b"100", b"-100", b"x", b"", b"01", b"+1",
    b"9223372036854775807", b"-9223372036854775808", b"9223372036854775808",
)  # fmt: skip
UNITS: tuple[Command, ...] = ((), (b"BIT",), (b"byte",), (b"x",), (b"BIT", b"x"))
TYPES = (b"u8", b"i8", b"u1", b"i1", b"i64", b"u63", b"i5", b"u7", b"u64", b"i65", b"x8", b"u0", b"u", b"u33")
OFFSETS = (b"0", b"1", b"3", b"7", b"8", b"#0", b"#1", b"#2", b"#", b"100", b"-1", b"x", b"#-1")
AMOUNTS = (b"0", b"1", b"-1", b"100", b"-100", b"127", b"128", b"255", b"256", b"9223372036854775807", b"x")
LCS_OPTIONS = ((b"IDX",), (b"LEN",), (b"WITHMATCHLEN",), (b"MINMATCHLEN", b"2"), (b"MINMATCHLEN", b"-1"), (b"x",))
RANGE_CASES, FIELD_CASES, LCS_CASES, BITOP_CASES = 60, 60, 30, 20
# Sequences: commands parted by |, words by one blank.
SEQUENCES = (
    "RENAME k l|RENAMENX k l|SET k v EX 100|RENAME k l|GET l|TTL l|GET k|SET k 2|RENAMENX k l|RENAMENX k m|GET m|"
    "RENAME m m|RENAMENX m m|RENAME k k",
    "COPY k l|SET k v EX 100|COPY k l|TTL l|GET l|COPY k l|SET k w|COPY k l REPLACE|GET l|TTL l|COPY k k|COPY m m|"
    "COPY k l DB 0|COPY k m DB 0 REPLACE|COPY k l DB 1|COPY k l DB -1|COPY k l DB x|COPY k l DB 99999999999|"
    "COPY k l DB|COPY k l X|COPY k l replace db 0 db 0 replace|COPY h l REPLACE|GET l",
    "HSET h a 1 b 2|EXPIRE h 1000|COPY h k|TTL k|HGET k a|HLEN k|RENAME k l|HLEN l|TTL l|HGET l b|APPEND h x|"
    "GETRANGE h 0 1|GETRANGE h x 1|SETRANGE h 0 x|SETRANGE h -1 x|SETBIT h 1 1|SETBIT h 1 2|GETBIT h 1|GETBIT h x|"
    "BITCOUNT h|BITCOUNT h 1|BITCOUNT h x y|BITCOUNT h 1 2 FOO|BITCOUNT none x y|BITPOS h 1 x|LCS h h LEN IDX|"
    "INCRBYFLOAT none 1e-1000000|INCRBYFLOAT none 1e1000000|INCRBYFLOAT none 1e-4940|INCRBYFLOAT none -1e-4952|"
    "BITPOS h 1|BITPOS h 2|BITFIELD h GET u8 0|BITFIELD h SET u8 0 1|BITFIELD h GET x 0|"
    "BITFIELD_RO h GET u8 0|BITOP NOT k h|LCS h k|LCS h k WRONG|GETEX h|GETEX h EX 1|GETDEL h|GETSET h 1|STRLEN h|"
    "MSETNX h 1|SETNX h 1|SUBSTR h 0 0|SORT h|OBJECT ENCODING h|TYPE h|HLEN h",
    "OBJECT ENCODING k|SET k 1|OBJECT ENCODING k|OBJECT REFCOUNT k|SET k 10000|OBJECT REFCOUNT k|SET k 01|"
    "OBJECT ENCODING k|SET k aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa|OBJECT ENCODING k|"
    "SET k aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa|OBJECT ENCODING k|OBJECT FREQ k|OBJECT FREQ m|"
    "OBJECT IDLETIME m|OBJECT REFCOUNT m|OBJECT|OBJECT X k|SET k 9223372036854775808|OBJECT ENCODING k",
    "MEMORY USAGE m|MEMORY USAGE m SAMPLES 1|MEMORY USAGE m SAMPLES -1|MEMORY USAGE m SAMPLES x|MEMORY USAGE m X|"
    "MEMORY USAGE m SAMPLES|MEMORY|MEMORY X|MEMORY PURGE",
    "MSETNX k 1 l 2|MGET k l|MSETNX m 1 l 3|MGET k l m|MSETNX m 1 m 2|GET m|MSETNX m|MSETNX m 1 k",
    "SETRANGE k 536870912 x|SETRANGE k 536870911 |EXISTS k|SETBIT k 4294967296 1|GETBIT k 4294967296",
    "INCR k|APPEND k 5|INCR k|GETRANGE k 0 -1|GETEX k EX 100|INCR k|TTL k|RENAME k l|INCR l|COPY l m|INCR m|GETDEL l|"
    "SETRANGE k 0 7|INCR k|SETBIT k 0 1|STRLEN k",
    "SORT k|SORT k LIMIT x 1|SORT k LIMIT 1|SORT k BY|SORT k GET|SORT k WRONG|SORT_RO k STORE l|SET k v|SORT k|SORT_RO k",
    "SADD m 3 1 2 10|MSET diff:w_1 5 diff:w_2 -1 diff:w_3 x diff:w_10 1 diff:h_1 1|DEL diff:w_10 diff:h_1|SORT m|"
    "SORT m DESC|SORT m ALPHA|SORT m BY diff:w_*|SORT m BY diff:w_* ALPHA|SET diff:w_3 7|SORT m BY diff:w_* GET # "
    "GET diff:w_* GET diff:none|SORT_RO m BY nosort LIMIT 0 0|HSET diff:h_1 f 4|SORT m BY diff:h_*->f GET diff:h_*->f|"
    "SORT m BY diff:h_*-> GET diff:w_*->f|SORT m LIMIT 1 2 DESC|SORT m LIMIT -1 2|SORT m LIMIT 2 -1|SORT m LIMIT 9 9|"
    "ZADD l 2 a 1 b 3 c|OBJECT ENCODING l|SORT l ALPHA|SORT l BY nosort|SORT l BY nosort DESC LIMIT 1 1|SORT l|"
    "OBJECT ENCODING m|SADD m a|OBJECT ENCODING m|RENAME m k|SORT k ALPHA DESC|COPY l k REPLACE|SORT k ALPHA",
    "RPUSH k b c a d|SORT k BY nosort|SORT k BY nosort DESC|SORT k BY x DESC LIMIT 1 2|"
    "SORT k BY nosort ASC LIMIT 1 2 STORE m|LRANGE m 0 -1|DEL m|SADD m b a c|SORT m BY nosort DESC STORE k|"
    "LRANGE k 0 -1|SORT m BY nosort STORE k|LRANGE k 0 -1",
    "ZADD l 1 a 2 b 3 c|ZRANGE l 0 -1 LIMIT 1 -1|ZRANGE l 0 -1 LIMIT 1 1|ZRANGE l 0 -1 REV LIMIT 63 -1 WITHSCORES|"
    "ZRANGESTORE k l 0 -1 LIMIT 1 -1|ZRANGE k 0 -1 LIMIT x -1",
    "ZADD l 0.1 a|ZINCRBY l 0.2 a|ZADD l INCR 0.1 a|ZINCRBY l 1e23 a|ZINCRBY l 6 a|ZINCRBY l -1e23 a|ZSCORE l a|"
    "INCRBYFLOAT k 0.1|INCRBYFLOAT k 0.2|HINCRBYFLOAT m f 0.1|HINCRBYFLOAT m f 0.2",
    "SADD m a|SETRANGE m 99999999 x|APPEND m x|SETBIT m 199999999 1|BITFIELD m SET u8 199999999 1|SETRANGE k 99999999 x",
    "WAIT x 0|WAIT 0 x|WAIT 0 -1|WAIT 0",
    "GETEX k|SET k v|GETEX k EX 100|TTL k|GETEX k|TTL k|GETEX k PERSIST|TTL k|GETEX k EX 0|GETEX m EX 0|GETEX k EX x|"
    "GETEX k EX|GETEX k EX 1 PERSIST|GETEX k PX 100000 EX 1|GETEX k EX 1 EX 1000|TTL k|GETEX k EX 9223372036854775807|"
    "GETEX k KEEPTTL|GETEX k EXAT 1|EXISTS k",
)  # fmt: skip
_NAMES = {b"k": K, b"l": L, b"m": M, b"h": H}


def string_cases() -> Iterator[Case]:
    """All cases; the random ones are the same in each run."""
    rng = random.Random(7)
    yield from _sequences()
    yield from rng.sample(list(_range_cases()), RANGE_CASES)
    for _ in range(FIELD_CASES):
        words = [word for _ in range(rng.randrange(6)) for word in _operation(rng)]
        calls = ((b"BITFIELD", K, *words), (b"BITFIELD_RO", K, *words), (b"BITFIELD", K, *words))
        yield _on(rng.choice(VALUES), *calls)
    for _ in range(LCS_CASES):
        one, other = (bytes(rng.choices(b"abcd", k=rng.randrange(20))) for _ in range(2))
        options = [word for _ in range(rng.randrange(4)) for word in rng.choice(LCS_OPTIONS)]
        yield _on(one, (b"SET", L, other), (b"LCS", K, L, *options), (b"LCS", K, M, *options))
    for _ in range(BITOP_CASES):
        values = [bytes(rng.choices(range(256), k=rng.randrange(6))) for _ in range(2)]
        name, target = rng.choice((b"and", b"OR", b"XOR", b"NOT", b"x")), rng.choice((M, K))
        call = (b"BITOP", name, target, *rng.choices((K, L, M), k=rng.randrange(1, 4)))
        yield _on(values[0], (b"SET", L, values[1]), (b"SET", M, b"x", b"EX", b"99999"), call, (b"GET", M), (b"TTL", M))


def _sequences() -> Iterator[Case]:
    for line in SEQUENCES:
        commands = [[word.encode() for word in command.split(" ")] for command in line.split("|")]
        named = [(command[0], *[_NAMES.get(word, word) for word in command[1:]]) for command in commands]
        yield (*_emptied(), *named)


def _emptied() -> Case:
    """The keys are deleted; the answer is the same whatever was there before."""
    return ((b"MSET", *[word for key in KEYS for word in (key, b"")]), (b"DEL", *KEYS))


def _on(value: bytes | None, *commands: Command) -> Case:
    """The commands on `K` with that value, and what they make of it."""
    setting = () if value is None else ((b"SET", K, value, b"EX", b"99999"),)
    return (*_emptied(), *setting, *commands, (b"GET", K), (b"TTL", K))


def _range_cases() -> Iterator[Case]:
    for value, start, end in product(VALUES, NUMBERS, NUMBERS):
        yield _on(value, (b"GETRANGE", K, start, end), (b"SUBSTR", K, start, end), (b"GETBIT", K, start))
        if len(start) < 4:
            yield _on(value, (b"SETRANGE", K, start, end), (b"SETBIT", K, start, end), (b"APPEND", K, end))
        for unit in UNITS:
            yield _on(
                value,
                (b"BITCOUNT", K, start, end, *unit),
                (b"BITPOS", K, b"0", start, end, *unit),
                (b"BITPOS", K, b"1", start, end, *unit),
                (b"BITPOS", K, b"0", start),
                (b"BITPOS", K, end),
            )


def _operation(rng: random.Random) -> list[bytes]:
    """One operation of BITFIELD; most are well formed."""
    odd = rng.random() < 0.2
    kind, offset = rng.choice(TYPES if odd else TYPES[:8]), rng.choice(OFFSETS if odd else OFFSETS[:8])
    chance = rng.random()
    if chance < 0.25:
        return [b"OVERFLOW", rng.choice((b"wrap", b"SAT", b"FAIL", b"x") if odd else (b"wrap", b"SAT", b"FAIL"))]
    if chance < 0.5:
        return [rng.choice((b"GET", b"get")), kind, offset]
    words = [rng.choice((b"SET", b"INCRBY")), kind, offset, rng.choice(AMOUNTS if odd else AMOUNTS[:-1])]
    return words[: rng.randrange(1, 5)] if rng.random() < 0.05 else words
