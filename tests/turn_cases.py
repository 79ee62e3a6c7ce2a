"""The commands whose longest turn `make bench-turns` measures, each on collections of 100,000 elements.

A case is the words of one command. `k` stands for a fresh copy of a collection, `out` for a key that does not exist; the
other names are collections that no case changes. All keys have one tag, so that commands over several keys are possible in
redis-cluster, too, and one node coordinates them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

Words = tuple[str, ...]


class Kind(NamedTuple):
    """One kind of collection: the command that adds elements, the words of element number n."""

    adding: str
    element: Callable[[int], list[str]]


class Case(NamedTuple):
    """A command. `kind` is the collection that `k` is a copy of; empty if no `k` is among the words."""

    kind: str
    words: Words

    @property
    def name(self) -> str:
        """The command as the table shows it."""
        return " ".join(self.words)


def element(number: int) -> str:
    """Element number `number` of all collections; 20 bytes."""
    return f"element:{number:012d}"


def _scrambled(number: int) -> int:
    return number * 7919 % 100_003


KINDS: dict[str, Kind] = {
    "list": Kind("RPUSH", lambda n: [element(n)]),
    "numbers": Kind("RPUSH", lambda n: [str(_scrambled(n))]),
    "set": Kind("SADD", lambda n: [element(n)]),
    "set2": Kind("SADD", lambda n: [element(2 * n)]),
    "ints": Kind("SADD", lambda n: [str(n)]),
    "zset": Kind("ZADD", lambda n: [str(_scrambled(n)), element(n)]),
    "zset2": Kind("ZADD", lambda n: [str(n), element(2 * n)]),
    "lex": Kind("ZADD", lambda n: ["0", element(n)]),
    "geo": Kind("GEOADD", lambda n: [str(n % 360 - 179.5), str(_scrambled(n) % 170 - 84.5), element(n)]),
    "hash": Kind("HSET", lambda n: [element(n), "1"]),
    "hash_x": Kind("HSET", lambda n: [element(n), "1"]),  # its fields expire: see `fill`
    "stream": Kind("XADD", lambda n: [f"{n + 1}-0", "field", element(n)]),
    "hll": Kind("PFADD", lambda n: [element(n)]),
    "hll2": Kind("PFADD", lambda n: [element(2 * n)]),
    "string": Kind("APPEND", lambda n: [element(n) * 4]),
    "string2": Kind("APPEND", lambda n: [element(2 * n) * 4]),
}


def key(name: str) -> str:
    """The key of a collection."""
    return f"{name}:{{t}}"


_PLACES = {"@head": 10, "@middle": 50_000, "@tail": 99_990}
_TEXT = {
    "list": """
LLEN k / LINDEX k 50000 / LRANGE k 0 -1 / LRANGE k 50000 50099 / LPOS k @middle / LPOS k nothing / LPOS k @tail RANK -1
LPOS k nothing COUNT 0 MAXLEN 90000 / LSET k 10 v / LSET k 50000 v / LSET k 99990 v
LINSERT k BEFORE @head v / LINSERT k AFTER @middle v / LINSERT k BEFORE @tail v / LINSERT k BEFORE nothing v
LREM k 1 @head / LREM k 1 @middle / LREM k 1 @tail / LREM k -1 @tail / LREM k 0 @middle / LREM k 0 nothing
LTRIM k 0 99 / LTRIM k 50000 -1 / LTRIM k 1 -2 / LTRIM k 25000 75000 / LPUSH k v / RPUSH k v / LPUSHX k v / RPUSHX k v
LPOP k / RPOP k / LPOP k 50000 / RPOP k 50000 / LPOP k 100000 / LMOVE k k LEFT RIGHT / LMOVE k out RIGHT LEFT
RPOPLPUSH k k / LMPOP 1 k LEFT COUNT 50000 / BLPOP k 1 / BRPOP k 1 / BLMOVE k k LEFT RIGHT 1 / BRPOPLPUSH k k 1
BLMPOP 1 1 k RIGHT COUNT 50000
TYPE k / EXISTS k / TOUCH k / TTL k / PTTL k / EXPIRETIME k / PEXPIRETIME k / EXPIRE k 1000 / PEXPIRE k 1000000
EXPIREAT k 4000000000 / PEXPIREAT k 4000000000000 / PERSIST k / OBJECT ENCODING k / OBJECT FREQ k / MEMORY USAGE k
MOVE k 1 / RENAME k out / RENAMENX k out / COPY k out / DUMP k / DEL k / UNLINK k / SET k v / GETSET out v
SORT k ALPHA / SORT k ALPHA LIMIT 0 10 / SORT k BY nosort GET # / SORT k ALPHA DESC STORE out
""",
    "numbers": """
SORT k / SORT k LIMIT 0 10 / SORT_RO k DESC / SORT k STORE out / LREM k 0 1 / DUMP k / COPY k out
SORT k BY w_*:{t} LIMIT 0 10 / SORT k BY nosort GET v_*:{t} LIMIT 0 1000
""",
    "set": """
SADD k v / SADD k @middle / SREM k @middle / SREM k nothing / SCARD k / SISMEMBER k @middle / SMISMEMBER k @head nothing
SMEMBERS k / SRANDMEMBER k / SRANDMEMBER k 50000 / SRANDMEMBER k -100000 / SPOP k / SPOP k 50000 / SPOP k 99999
SPOP k 100000 / SSCAN k 0 COUNT 1000 / SSCAN k 0 COUNT 100000 / SMOVE k set2 @tail / SINTER k set2 / SUNION k set2
SDIFF k set2 / SINTERCARD 2 k set2 / SINTERSTORE out k set2 / SUNIONSTORE out k set2 / SDIFFSTORE out k set2
SORT k ALPHA LIMIT 0 10 / DUMP k / COPY k out / RENAME k out / DEL k / EXPIRE k 1000 / OBJECT ENCODING k
""",
    "ints": "SMEMBERS k / SORT k / SPOP k 50000 / DUMP k / SINTERSTORE out k ints",
    "zset": """
ZADD k 5 @middle / ZADD k 5 v / ZADD k INCR 1 @middle / ZINCRBY k 1 @middle / ZREM k @middle / ZCARD k / ZSCORE k @middle
ZMSCORE k @head @tail / ZRANK k @middle / ZREVRANK k @middle / ZCOUNT k 100 50000 / ZLEXCOUNT k - +
ZRANGE k 0 -1 / ZRANGE k 0 -1 WITHSCORES / ZRANGE k 50000 50099 / ZRANGE k 100 50000 BYSCORE / ZREVRANGE k 0 -1
ZRANGEBYSCORE k -inf +inf WITHSCORES / ZREVRANGEBYSCORE k +inf -inf / ZRANGEBYSCORE k -inf +inf LIMIT 50000 10
ZRANDMEMBER k 50000 / ZRANDMEMBER k -100000 WITHSCORES / ZSCAN k 0 COUNT 1000 / ZSCAN k 0 COUNT 100000
ZPOPMIN k / ZPOPMAX k / ZPOPMIN k 50000 / ZPOPMAX k 50000 / ZMPOP 1 k MIN COUNT 50000 / BZPOPMIN k 1 / BZPOPMAX k 1
BZMPOP 1 1 k MAX COUNT 50000 / ZREMRANGEBYRANK k 0 49999 / ZREMRANGEBYRANK k 50000 50000
ZREMRANGEBYSCORE k -inf 50000 / ZREMRANGEBYSCORE k -inf +inf / ZUNION 2 k zset2 / ZUNION 2 k zset2 WITHSCORES
ZINTER 2 k zset2 / ZDIFF 2 k zset2 / ZINTERCARD 2 k zset2 / ZUNIONSTORE out 2 k zset2 / ZINTERSTORE out 2 k zset2
ZDIFFSTORE out 2 k zset2 / ZRANGESTORE out k 0 -1 / ZRANGESTORE out k 0 50000 BYSCORE / ZUNIONSTORE out 2 k set
SORT k ALPHA LIMIT 0 10 / SORT k BY nosort / DUMP k / COPY k out / RENAME k out / DEL k / EXPIRE k 1000
""",
    "lex": """
ZRANGEBYLEX k - + / ZREVRANGEBYLEX k + - / ZLEXCOUNT k - + / ZREMRANGEBYLEX k - [@middle / ZRANGE k - + BYLEX
ZRANGEBYLEX k [@middle + LIMIT 0 10
""",
    "geo": """
GEOADD k 10 20 v / GEODIST k @head @tail / GEOHASH k @middle / GEOPOS k @middle
GEOSEARCH k FROMLONLAT 0 0 BYRADIUS 1000 km ASC / GEOSEARCH k FROMLONLAT 0 0 BYRADIUS 20000 km
GEOSEARCH k FROMLONLAT 0 0 BYBOX 30000 15000 km DESC COUNT 10 / GEOSEARCH k FROMMEMBER @middle BYRADIUS 5000 km ASC
GEOSEARCHSTORE out k FROMLONLAT 0 0 BYRADIUS 20000 km / GEORADIUS k 0 0 20000 km / GEORADIUS_RO k 0 0 20000 km WITHDIST
GEORADIUSBYMEMBER k @middle 20000 km / GEORADIUSBYMEMBER_RO k @middle 5000 km ASC
""",
    "hash": """
HSET k f v / HSET k @middle v / HMSET k f v / HSETNX k f v / HDEL k @middle / HINCRBY k @middle 5
HINCRBYFLOAT k @middle 1.5 / HGET k @middle / HMGET k @head @tail / HGETALL k / HKEYS k / HVALS k / HLEN k
HEXISTS k @middle / HSTRLEN k @middle / HRANDFIELD k / HRANDFIELD k 50000 / HRANDFIELD k -100000 WITHVALUES
HSCAN k 0 COUNT 1000 / HSCAN k 0 COUNT 100000 / DUMP k / COPY k out / RENAME k out / DEL k / EXPIRE k 1000
HEXPIRE k 1000 FIELDS 1 @middle / HPEXPIRE k 1000000 FIELDS 1 @middle / HEXPIREAT k 4000000000 FIELDS 1 @middle
HPEXPIREAT k 4000000000000 FIELDS 1 @middle / HGETDEL k FIELDS 1 @middle / HGETEX k EX 1000 FIELDS 1 @middle
HSETEX k EX 1000 FIELDS 1 f v
""",
    "hash_x": """
HLEN k / HGET k @middle / HGETALL k / HKEYS k / HSET k @middle v / HDEL k @middle / HINCRBY k @middle 5
HRANDFIELD k 50000 / HSCAN k 0 COUNT 1000 / HTTL k FIELDS 1 @middle / HPTTL k FIELDS 1 @middle
HEXPIRETIME k FIELDS 1 @middle / HPEXPIRETIME k FIELDS 1 @middle / HPERSIST k FIELDS 1 @middle / DUMP k / COPY k out
DEL k / EXPIRE k 1000 / TYPE k / EXISTS k
""",
    "stream": """
XADD k * f v / XADD k MAXLEN 50000 * f v / XADD k MAXLEN ~ 50000 * f v / XLEN k / XRANGE k - + / XRANGE k 50000 + COUNT 10
XREVRANGE k + - / XDEL k 50000-0 / XTRIM k MAXLEN 50000 / XTRIM k MAXLEN ~ 100 / XTRIM k MINID 50000
XREAD COUNT 10 STREAMS k 50000 / XREAD STREAMS k 0 / XREAD BLOCK 1 STREAMS k $ / DUMP k / COPY k out / DEL k
""",
    "hll": "PFADD k v / PFCOUNT k / PFCOUNT k hll2 / PFMERGE k hll2 / PFMERGE out k hll2 / DUMP k / COPY k out",
    "string": """
STRLEN k / GET k / GETRANGE k 1000 2000 / SUBSTR k 1000 2000 / SETRANGE k 4000000 v / APPEND k v / SETBIT k 4000000 1
GETBIT k 4000000 / BITCOUNT k / BITPOS k 1 / BITPOS k 0 7999999 / BITFIELD k SET u8 4000000 5
BITFIELD_RO k GET u8 4000000 / BITOP AND out k string2 / BITOP XOR out k string2 / BITOP NOT out k / GETDEL k
GETEX k EX 1000 / COPY k out / RENAME k out / DUMP k / DEL k / EXPIRE k 1000 / LCS hll hll2 LEN
MGET k string2 / SETRANGE out 8000000 v
DYN.GET k / DYN.DEL k
""",
}  # fmt: skip


def cases() -> Iterator[Case]:
    """Yields all cases."""
    for kind, text in _TEXT.items():
        for line in text.replace("\n", " / ").split(" / "):
            if line.strip():
                yield Case(kind, tuple(line.split()))
    yield Case("", ("RESTORE", "out", "0", "dump"))


def words_of(case: Case) -> list[str]:
    """The words of a command, with its keys and elements."""
    return [_word(word) for word in case.words]


def _word(word: str) -> str:
    if word in ("k", "out") or word in KINDS:
        return key(word)
    sign = word[:1] if word[:1] in "[(" else ""
    number = _PLACES.get(word[len(sign) :])
    return word if number is None else sign + element(number)
