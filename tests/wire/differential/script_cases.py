"""Scripts and functions with commands, transactions around them, and databases inside, for both protocols."""

from __future__ import annotations

from collections.abc import Iterator

from tests.wire.differential.exact import Case

KEY, OTHER = b"{diff}:s", b"{diff}:t"
# What scripts do with two keys of one slot; each begins without them.
TEXTS = (
    "redis.call('SET', KEYS[1], ARGV[1]) return redis.call('GET', KEYS[1])",
    "return redis.call('RPUSH', KEYS[1], 'a', 'b', 'c') + redis.call('LLEN', KEYS[1])",
    "redis.call('RPUSH', KEYS[1], 'a', 'b') return redis.call('LMOVE', KEYS[1], KEYS[2], 'LEFT', 'RIGHT')",
    "redis.call('RPUSH', KEYS[1], 'a', 'b') return {redis.call('LMPOP', 1, KEYS[1], 'LEFT', 'COUNT', 5)}",
    "redis.call('RPUSH', KEYS[1], 1, 2, 3) return redis.call('LRANGE', KEYS[1], 0, -1)",
    "redis.call('HSET', KEYS[1], 'f', 1) return redis.call('HGETALL', KEYS[1])",
    "redis.setresp(3) redis.call('HSET', KEYS[1], 'f', 1) return redis.call('HGETALL', KEYS[1])",
    "redis.call('ZADD', KEYS[1], 1.5, 'm') return redis.call('ZSCORE', KEYS[1], 'm')",
    "redis.setresp(3) redis.call('ZADD', KEYS[1], 1.5, 'm') return redis.call('ZSCORE', KEYS[1], 'm')",
    "redis.setresp(3) redis.call('SADD', KEYS[1], 'm') return redis.call('SMEMBERS', KEYS[1])",
    "redis.call('XADD', KEYS[1], '1-1', 'f', 'v') return redis.call('XREAD', 'STREAMS', KEYS[1], 0)",
    "redis.call('SET', KEYS[1], 'x') redis.call('INCR', KEYS[1]) return 1",
    "redis.call('SET', KEYS[1], 'x') return redis.pcall('LPUSH', KEYS[1], 1)",
    "redis.call('SET', KEYS[1], 'x') local e = redis.pcall('INCR', KEYS[1]) return e['err']",
    "redis.call('SET', KEYS[1], 1, 'EX', 100) return {redis.call('TTL', KEYS[1]), redis.call('INCR', KEYS[1])}",
    "return redis.call('GET')",
    "return redis.call('NOSUCH', KEYS[1])",
    "return redis.call('MULTI')",
    "return redis.call('SUBSCRIBE', 'c')",
    "return redis.call('SET', KEYS[1], 1, 'NX') and redis.call('SET', KEYS[1], 2, 'NX')",
    "return {1, 2.9, 'x', false, true, {3, {4}}, nil, 5}",
    "redis.call('SELECT', 1) redis.call('SET', KEYS[1], 'one') redis.call('SELECT', 0) return redis.call('GET', KEYS[1])",
    "redis.call('SELECT', 1) local v = redis.call('GET', KEYS[1]) redis.call('DEL', KEYS[1]) return v",
    "return redis.call('SELECT', 99)",
    "local n = 0 for i = 1, 300 do n = redis.call('INCR', KEYS[1]) end return n",
    "for i = 1, 50 do redis.call('RPUSH', KEYS[1], i) end return redis.call('LTRIM', KEYS[1], 10, 12)",
    "redis.call('SET', KEYS[1], cjson.encode({1, {a = 2}})) return cjson.decode(redis.call('GET', KEYS[1]))[2].a",
    "return cmsgpack.unpack(cmsgpack.pack({1, 'x', {2}}))",
    "return redis.error_reply('MINE of this') ",
    "return redis.status_reply('FINE')",
    "error({err = 'OWN error'})",
    "return redis.call('DEL', KEYS[1], KEYS[2])",
)
CLEAR = (b"DEL", KEY, OTHER)


def script_cases() -> Iterator[Case]:
    """Each text alone, read-only, by its digest, and in a transaction; and what it has left."""
    for text in TEXTS:
        words = text.encode(), b"2", KEY, OTHER, b"arg"
        left = (b"DUMP", KEY), (b"TYPE", KEY), (b"TYPE", OTHER), (b"LRANGE", OTHER, b"0", b"-1"), (b"TTL", KEY)
        yield CLEAR, (b"EVAL", *words), *left[1:]
        yield CLEAR, (b"EVAL_RO", *words), *left[1:]
        yield CLEAR, (b"EVAL", b"#!lua flags=no-writes\n" + words[0], *words[1:]), *left[1:]
        yield CLEAR, (b"SCRIPT", b"LOAD", words[0]), (b"MULTI",), (b"EVAL", *words), (b"EXEC",), *left[1:]
        yield CLEAR, (b"MULTI",), (b"SET", OTHER, b"v"), (b"EVAL", *words), (b"GET", OTHER), (b"EXEC",), *left[1:]
        yield (b"SELECT", b"1"), CLEAR, (b"EVAL", *words), *left[1:], CLEAR, (b"SELECT", b"0"), CLEAR
