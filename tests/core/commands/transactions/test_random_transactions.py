"""Random commands of all types have the same replies and the same effect in a transaction, in a script, and one by one."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from server.core.records.records import storage_key_of
from server.core.records.versions import merge
from tests.core.commands.talking import Client, make_node
from tests.core.commands.transactions.asking import ask, exec_all, one_by_one
from tests.scripting.nodes import node_with_scripts

KEYS = ("{t}a", "{t}b", "{t}c")
# Of each type: commands that change a key, and commands that read one.
OF_TYPE: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    ((
        "RPUSH {} {}", "LPUSH {} x{}", "RPUSHX {} {}", "LPUSHX {} {}", "LPOP {}", "RPOP {} 2", "LSET {} 0 {}",
        "LSET {} -1 y", "LSET {} 100 z", "LREM {} 1 {}", "LREM {} 0 {}", "LTRIM {} 0 3", "LINSERT {} BEFORE {} z",
        "LINSERT {} AFTER x{} q", "LMOVE {} {k} LEFT RIGHT", "LMOVE {} {k} RIGHT LEFT", "RPOPLPUSH {} {k}",
        "LMPOP 1 {} LEFT COUNT 2",
    ), (
        "LRANGE {} 0 -1", "LRANGE {} 0 2", "LRANGE {} -3 -2", "LINDEX {} -2", "LLEN {}", "LPOS {} x1",
    )),
    ((
        "HSET {} f{} {}", "HSET {} f{} abc", "HSET {} f1 1 f2", "HSETNX {} f{} v", "HDEL {} f{}", "HINCRBY {} f{} 2",
        "HINCRBY {} f{} 9223372036854775807", "HINCRBY {} f{} -9223372036854775808", "HINCRBYFLOAT {} f{} 0.5",
        "HINCRBYFLOAT {} f{} 1e308", "HINCRBYFLOAT {} f{} inf", "HEXPIRE {} 10 FIELDS 2 f1 f{}",
        "HEXPIRE {} 10 NX FIELDS 1 f{}", "HPEXPIRE {} 0 FIELDS 1 f{}", "HEXPIREAT {} 1 FIELDS 1 f{}",
        "HPERSIST {} FIELDS 1 f{}", "HGETEX {} PX 100 FIELDS 2 f1 f{}", "HGETEX {} PERSIST FIELDS 1 f{}",
        "HSETEX {} FNX EX 10 FIELDS 2 f1 a f{} b", "HSETEX {} FXX KEEPTTL FIELDS 1 f{} c",
        "HSETEX {} PXAT 1 FIELDS 1 f{} c", "HGETDEL {} FIELDS 1 f{}", "HGETDEL {} FIELDS 3 f0 f1 f2",
    ), (
        "HGETALL {}", "HGET {} f1", "HLEN {}", "HMGET {} f0 f1 f2", "HSTRLEN {} f1", "HTTL {} FIELDS 2 f1 f2",
    )),
    ((
        "SADD {} {} m", "SADD {} a b c", "SREM {} {}", "SREM {} m 0 1 2", "SPOP {} 100", "SMOVE {} {k} m",
        "SUNIONSTORE {} {k} {k}", "SDIFFSTORE {} {k}", "SINTERSTORE {} {k} {k}",
    ), (
        "SMEMBERS {}", "SISMEMBER {} m", "SMISMEMBER {} m 1", "SCARD {}", "SINTER {} {k}",
    )),
    ((
        "ZADD {} {} m{}", "ZADD {} GT {} m{}", "ZADD {} INCR {} m{}", "ZADD {} NX {} m1", "ZADD {} XX CH 7 m{}",
        "ZADD {} inf m{}", "ZADD {} INCR -inf m{}", "ZADD {} 1 a nan b", "ZINCRBY {} {} m{}", "ZINCRBY {} inf m{}",
        "ZINCRBY {} 0.1 m{}", "ZREM {} m{}", "ZPOPMIN {}", "ZPOPMAX {} 2", "ZMPOP 1 {} MIN",
        "ZREMRANGEBYSCORE {} 0 1", "ZREMRANGEBYRANK {} 0 0", "ZREMRANGEBYLEX {} - +", "ZUNIONSTORE {} 1 {k}",
        "ZDIFFSTORE {} 2 {k} {k}", "ZINTERSTORE {} 2 {k} {k}", "ZRANGESTORE {} {k} 0 -1", "GEOADD {} 1 2 p{}",
        "GEOADD {} XX CH 3 4 p{}", "GEOADD {} 1 2 a 500 1 b", "GEOSEARCHSTORE {} {k} FROMLONLAT 1 2 BYRADIUS 500 km",
    ), (
        "ZRANGE {} 0 -1 WITHSCORES", "ZSCORE {} m1", "ZMSCORE {} m0 m1", "ZCARD {}", "ZRANK {} m1", "ZCOUNT {} 0 5",
        "GEOPOS {} p1 a", "GEOHASH {} p1",
    )),
    ((
        "INCR {}", "DECR {}", "INCRBY {} 5", "INCRBY {} 9223372036854775807", "INCRBYFLOAT {} 0.5",
        "INCRBYFLOAT {} 1e400", "APPEND {} {}", "APPEND {} 12", "SETRANGE {} 3 {}", "SETRANGE {} 99999999 x",
        "SETBIT {} 9 1", "BITFIELD {} SET u8 0 {} INCRBY u4 2 1", "BITOP NOT {} {k}", "SET {} {}",
        "SET {} {} KEEPTTL", "SET {} {} NX", "SET {} {} XX", "SET {} {} GET", "SET {} 5 EX 100", "SETNX {} {}",
        "SETEX {} 10 {}", "GETSET {} {}", "GETEX {} EX 40", "GETEX {} PERSIST", "GETDEL {}", "MSET {} {} {k} 2",
        "MSETNX {} {} {k} 2", "PFADD {} a{}", "PFMERGE {} {k}",
    ), (
        "GET {}", "STRLEN {}", "GETRANGE {} 0 3", "GETBIT {} 9", "PFCOUNT {}", "MGET {} {k}",
    )),
    ((
        "XADD {} * f {}", "XADD {} 5-{} f v", "XADD {} MAXLEN 2 * a b", "XADD {} NOMKSTREAM 9-{} a b",
        "XDEL {} 5-{}", "XTRIM {} MAXLEN 1",
    ), (
        "XLEN {}", "XRANGE {} - +",
    )),
)  # fmt: skip
OF_ALL: tuple[tuple[str, ...], tuple[str, ...]] = ((
    "DEL {}", "UNLINK {}", "EXPIRE {} 100", "EXPIRE {} 0", "EXPIRE {} -1", "EXPIRE {} 50 GT", "EXPIRE {} 200 LT",
    "EXPIRE {} x", "PEXPIRE {} 100000 XX", "PEXPIREAT {} 1", "PERSIST {}", "RENAME {} {k}", "RENAME {} {k}",
    "RENAMENX {} {k}", "COPY {} {k}", "COPY {} {k} REPLACE", "SORT {} ALPHA STORE {k}",
    "RESTORE {} 0 dump{} REPLACE", "RESTORE {} 1000 dump{}", "RESTORE {} 0 bad",
), (
    "TYPE {}", "TTL {}", "EXPIRETIME {}", "EXISTS {} {k}", "DUMP {}", "OBJECT ENCODING {}",
))  # fmt: skip
_EACH = b"""
local replies, place = {}, 1
while place <= #ARGV do
    local words = {}
    for number = 1, ARGV[place] do words[number] = ARGV[place + number] end
    place = place + ARGV[place] + 1
    replies[#replies + 1] = redis.pcall(unpack(words))
end
return replies
"""
Words = list[list[bytes]]


def _dumps() -> dict[bytes, bytes]:
    """Serialized values, by the words that stand for them."""
    client = Client(make_node())
    one_by_one(client, ["SET 0 7", "ZADD 1 1 m1 2 m2", "HSET 2 f1 5 f2 b"])
    found = (client.raw_words([b"DUMP", b"%d" % number]) for number in range(3))
    return {b"dump%d" % number: told[told.index(b"\n") + 1 : -2] for number, told in enumerate(found)}


_DUMPS = _dumps()


def _round(rng: random.Random) -> Words:
    """Commands of all types, or of one, mostly."""
    changes, reads = zip(*OF_TYPE, strict=True) if rng.random() < 0.3 else zip(rng.choice(OF_TYPE), strict=True)
    pools = [sum(changes, OF_ALL[0]), sum(reads, OF_ALL[1])]
    return [_line(rng, pools[rng.random() < 0.3]) for _ in range(rng.randrange(1, 14))]


def _line(rng: random.Random, pool: tuple[str, ...]) -> list[bytes]:
    line = rng.choice(pool).replace("{k}", rng.choice(KEYS))
    line = line.replace("{}", rng.choice(KEYS), 1).replace("{}", str(rng.randrange(3)))
    return [_DUMPS.get(word, word) for word in line.encode().split()]


def in_transaction(client: Client, lines: Words) -> Any:
    """The replies to a transaction."""
    client.raw_words([b"MULTI"], *lines)
    return ask(client, b"EXEC")


def in_script(client: Client, lines: Words) -> Any:
    """The replies to a script of these commands, as Lua changes them."""
    keys = [key.encode() for key in KEYS]
    return ask(client, b"EVAL", _EACH, b"3", *keys, *[word for line in lines for word in (b"%d" % len(line), *line)])


def each_in_transaction(client: Client, lines: Words) -> Any:
    """The replies to the same commands one by one."""
    return [ask(client, *line) for line in lines]


def each_in_script(client: Client, lines: Words) -> Any:
    """The replies to one script for each command."""
    return [reply for line in lines for reply in in_script(client, [line])]


def compare(
    seed: int, rounds: int, together: Callable[[Client, Words], Any], apart: Callable[[Client, Words], Any]
) -> None:
    """Sends random commands to two nodes, to one of them all of a round together. They must not differ."""
    rng = random.Random(seed)
    client, other = Client(node_with_scripts()), Client(node_with_scripts())
    for number in range(rounds):
        client.now_ms = other.now_ms = 100 * number
        lines = _round(rng)
        told, expected = together(client, lines), apart(other, lines)
        assert told == expected, (
            list(zip(lines, told, expected, strict=True)) if isinstance(told, list) else (told, lines)
        )
        for shown in (f"{name} {key}" for key in KEYS for name in ("TYPE", "TTL", "DUMP")):
            assert client.raw(shown) == other.raw(shown), (shown, lines)


@pytest.mark.parametrize("seed", range(8))
def test_a_transaction_is_as_good_as_its_commands(seed: int) -> None:
    compare(seed, 60, in_transaction, each_in_transaction)


@pytest.mark.parametrize("seed", range(2))
def test_a_script_is_as_good_as_its_commands(seed: int) -> None:
    compare(seed, 40, in_script, each_in_script)


@pytest.mark.parametrize("carry", ["RENAME {t}a {t}c", "COPY {t}a {t}c", "RESTORE {t}c 0 {dump}"])
@pytest.mark.parametrize(
    ("before", "increment", "read", "expected"),
    [
        ("SET {t}a 1", "INCRBY {t}c 5", "GET {t}c", "11"),
        ("SET {t}a 1", "INCRBYFLOAT {t}c 0.5", "GET {t}c", "2"),
        ("HSET {t}a f 1", "HINCRBY {t}c f 5", "HGET {t}c f", "11"),
        ("HSET {t}a f 1", "HINCRBYFLOAT {t}c f 0.5", "HGET {t}c f", "2"),
        ("ZADD {t}a 1 f", "ZINCRBY {t}c 5 f", "ZSCORE {t}c f", "11"),
        ("HSET {t}a g 1", "HINCRBY {t}c f 5", "HGET {t}c f", "10"),
        ("ZADD {t}a 1 g", "ZINCRBY {t}c 5 f", "ZSCORE {t}c f", "10"),
    ],
)
def test_increments_after_a_key_got_another_name_count(
    carry: str, before: str, increment: str, read: str, expected: str
) -> None:
    client = Client(make_node())
    client.ask(before)
    told = client.raw("DUMP {t}a")
    payload = told[told.index(b"\n") + 1 : -2]
    words = [payload if word == "{dump}" else word.encode() for word in carry.split()]
    replies = in_transaction(client, [words, *[increment.encode().split()] * 2, read.encode().split()])
    assert replies[-1] == expected
    assert exec_all(client, [read]) == [expected]
    assert client.ask(read) == expected


@pytest.mark.parametrize(
    ("before", "lines", "read"),
    [
        ("SET k 5", ["EXPIRE k 100", "INCR k"], "GET k"),
        ("SET k 5", ["PEXPIRE k 90000", "INCRBYFLOAT k 1", "PERSIST k"], "GET k"),
        ("HSET k f 5", ["HEXPIRE k 100 FIELDS 1 f", "HINCRBY k f 1"], "HGET k f"),
        ("HSET k g 1", ["HINCRBY k f 6", "HEXPIRE k 100 FIELDS 1 f", "HINCRBYFLOAT k f -2.5"], "HGET k f"),
        ("HSET k g 1", ["HSETNX k f 5", "HINCRBY k f 1"], "HGET k f"),
        ("SET k 5", ["SETRANGE k 0 5", "INCR k"], "GET k"),
    ],
)
def test_sums_of_transactions_on_two_sides_of_a_partition_add_up(before: str, lines: list[str], read: str) -> None:
    one, other = Client(make_node()), Client(make_node())
    storage_key = storage_key_of(b"k")
    one.ask(before)
    other.node.state.renew_actor()
    start = one.node.state.records.get(storage_key)
    assert start is not None
    other.node.state.records.put(storage_key, start, None)
    for client in (one, other):
        exec_all(client, lines)
    records = one.node.state.records
    joined = merge(records.get(storage_key), other.node.state.records.get(storage_key))
    assert joined is not None
    records.put(storage_key, joined, records.get(storage_key))
    assert one.ask(read) == "7"
