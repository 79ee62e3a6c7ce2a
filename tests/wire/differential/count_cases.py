"""Cases of counts, offsets, indexes and amounts: each place of a number gets each of words.py, on a key of its type.

Random calls keep to usual counts, because one that repeats a member two thousand million times would never end. Here no
command repeats, so all numbers are asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product

from tests.wire.differential.exact import Case
from tests.wire.differential.words import NUMBERS, ODD_DOUBLES

# Keys of each type, made anew for each case.
_MAKING: Mapping[str, tuple[str, ...]] = {
    "list": ("RPUSH diff:c a b c a",),
    "set": ("SADD diff:c a",),
    "zset": ("ZADD diff:c 1 a 2 b 3 c",),
    "hash": ("HSET diff:c a 1 f 1.5 n 10 s text",),
    "string": ("SET diff:c 10",),
    "text": ("SET diff:c text",),
    "geo": ("GEOADD diff:c 13.361389 38.115556 a 15.087269 37.502669 b",),
    "none": (),
}
# Calls with ? in the place of an integer.
_COUNTED: Mapping[str, tuple[str, ...]] = {
    "list": (
        "LPOP diff:c ?", "RPOP diff:c ?", "LMPOP 1 diff:c LEFT COUNT ?", "LMPOP ? diff:c LEFT", "LPOS diff:c a RANK ?",
        "LPOS diff:c a COUNT ?", "LPOS diff:c a MAXLEN ?", "LRANGE diff:c ? 1", "LRANGE diff:c 1 ?", "LTRIM diff:c ? 1",
        "LTRIM diff:c 1 ?", "LINDEX diff:c ?", "LSET diff:c ? x", "LREM diff:c ? a", "SORT diff:c ALPHA LIMIT ? 1",
        "SORT diff:c ALPHA LIMIT 1 ?",
    ),
    "set": (
        "SPOP diff:c ?", "SINTERCARD ? diff:c", "SINTERCARD 1 diff:c LIMIT ?", 
    ),
    "zset": (
        "ZPOPMIN diff:c ?", "ZPOPMAX diff:c ?", "ZMPOP 1 diff:c MIN COUNT ?", "ZMPOP ? diff:c MIN", "ZRANGE diff:c ? 1",
        "ZRANGE diff:c 1 ?", "ZREVRANGE diff:c ? 2", "ZRANGE diff:c 0 9 BYSCORE LIMIT ? 1",
        "ZRANGE diff:c - + BYLEX LIMIT 1 ?",
        "ZRANGEBYSCORE diff:c 0 9 LIMIT ? 2", "ZREVRANGEBYSCORE diff:c 9 0 LIMIT 1 ?", "ZRANGESTORE diff:d diff:c ? 1",
        "ZREMRANGEBYRANK diff:c ? 1", "ZREMRANGEBYRANK diff:c 1 ?", "ZINTERCARD ? diff:c", "ZINTERCARD 1 diff:c LIMIT ?",
        "ZUNION ? diff:c", "ZDIFFSTORE diff:d ? diff:c", "ZSCAN diff:c 0 COUNT ?",
    ),
    "hash": (
        "HINCRBY diff:c a ?", "HINCRBY diff:c n ?", "HINCRBY diff:c f ?", "HINCRBY diff:c z ?", 
        "HSCAN diff:c 0 COUNT ?",
    ),
    "string": (
        "INCRBY diff:c ?", "DECRBY diff:c ?", "GETEX diff:c EX ?", "GETEX diff:c PXAT ?", "SETEX diff:c ? v",
        "COPY diff:c diff:d DB ?",
        "MOVE diff:c ?", "MEMORY USAGE diff:c SAMPLES ?", "LCS diff:c diff:c IDX MINMATCHLEN ?", "SETRANGE diff:c ? ",
        "BITFIELD diff:c INCRBY u8 0 ?", "BITFIELD diff:c SET i64 0 ?", "BITFIELD diff:c OVERFLOW SAT INCRBY i5 #1 ?",
        "OBJECT ENCODING diff:c ?",
    ),
    "geo": (
        "GEOSEARCH diff:c FROMMEMBER a BYRADIUS 999 km ASC COUNT ?", "GEORADIUS diff:c 15 37 999 km ASC COUNT ? ANY",
        "GEOSEARCHSTORE diff:d diff:c FROMMEMBER a BYRADIUS 999 km COUNT ?",
    ),
    "none": (
        "EVAL return ? diff:c", "DECRBY diff:c ?", "GETRANGE diff:c ? 1", "LPOP diff:c ?", "SPOP diff:c ?",
        "ZPOPMIN diff:c ?",
    ),
}  # fmt: skip
# Calls with ? in the place of a double.
_DOUBLES: Mapping[str, tuple[str, ...]] = {
    "zset": (
        "ZINCRBY diff:c ? a", "ZINCRBY diff:c ? new", "ZADD diff:c ? a ? new", "ZADD diff:c GT CH ? b",
        "ZADD diff:c INCR ? b",
        "ZCOUNT diff:c ? 2", "ZCOUNT diff:c 2 ?", "ZRANGEBYSCORE diff:c (1 ?", "ZREVRANGEBYSCORE diff:c ? -inf",
        "ZREMRANGEBYSCORE diff:c ? 2", "ZUNION 2 diff:c diff:c WEIGHTS ? 1 WITHSCORES",
        "ZINTERSTORE diff:d 2 diff:c diff:c WEIGHTS 1 ? AGGREGATE MIN",
    ),
    "hash": ("HINCRBYFLOAT diff:c a ?", "HINCRBYFLOAT diff:c f ?", "HINCRBYFLOAT diff:c s ?", "HINCRBYFLOAT diff:c z ?"),
    "string": ("INCRBYFLOAT diff:c ?", "INCRBYFLOAT diff:new ?"),
    "text": ("INCRBYFLOAT diff:c ?",),
    "geo": (
        "GEOADD diff:c ? 37 x", "GEOADD diff:c 13 ? x", "GEOSEARCH diff:c FROMLONLAT ? 37 BYRADIUS 999 km ASC",
        "GEOSEARCH diff:c FROMMEMBER a BYRADIUS ? km ASC", "GEOSEARCH diff:c FROMMEMBER a BYBOX ? 400 km ASC",
        "GEORADIUSBYMEMBER diff:c a ? km ASC",
    ),
}  # fmt: skip
_SEEING: Mapping[str, str] = {
    "list": "LRANGE diff:c 0 -1", "set": "SMEMBERS diff:c", "zset": "ZRANGE diff:c 0 -1 WITHSCORES",
    "hash": "HGETALL diff:c",
    "string": "GET diff:c", "text": "GET diff:c", "geo": "ZRANGE diff:c 0 -1 WITHSCORES", "none": "EXISTS diff:c",
}  # fmt: skip


def count_cases() -> Iterator[Case]:
    """Each call with each number; what it leaves is looked at."""
    for calls, numbers in ((_COUNTED, NUMBERS), (_DOUBLES, ODD_DOUBLES)):
        for kind, lines in calls.items():
            for line, number in product(lines, numbers):
                call = tuple([number if word == b"?" else word for word in line.encode().split(b" ")])
                before = ("MSET diff:c 0 diff:d 0 diff:new 0", "DEL diff:c diff:d diff:new", *_MAKING[kind])
                after = (_SEEING[kind], "ZRANGE diff:d 0 -1 WITHSCORES")
                yield (*_commands(before), call, *_commands(after))


def _commands(lines: tuple[str, ...]) -> Case:
    return tuple([tuple(line.encode().split()) for line in lines])
