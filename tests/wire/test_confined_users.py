"""A user that may do everything with some keys learns nothing of the others, and changes none of them.

Theory. Two databases differ only in the keys `sec:…`, which the user may not touch: their types, values, and whether they
are there. Random calls of all commands go to both, with keys of any kind, alone, in a transaction, or in a script. If a
reply told anything of a forbidden key, it would differ. Besides, no reply has a byte of the values that the user may only
write, and the keys that it may only read stay as they are. That finds a way in without anybody having thought of it.

What tells of the names of keys is left out, because Redis' rules do not cover it: SCAN, KEYS, RANDOMKEY, DBSIZE, and CLIENT
TRACKING (SECURITY.md).
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from functools import partial

import pytest

from server.core.commands.spec import CommandSpec
from server.core.commands.table import COMMANDS
from tests.wire.cluster import WireCluster
from tests.wire.differential.calls import Calls, Command
from tests.wire.differential.servers import Asker

RIGHTS = "reset on nopass +@all -@admin -@dangerous ~app:* %R~read:* %W~write:* resetchannels &app:*"
MARK = b"MARKMARK"  # in all values that the user may not read
MAKERS: dict[bytes, Callable[[bytes], Command]] = {
    b"string": lambda mark: (b"SET", mark),
    b"number": lambda mark: (b"SET", b"12"),
    b"hash": lambda mark: (b"HSET", b"a", mark, b"b", b"1"),
    b"set": lambda mark: (b"SADD", b"a", b"1", mark),
    b"zset": lambda mark: (b"ZADD", b"1", b"a", b"2", mark),
    b"list": lambda mark: (b"RPUSH", b"a", mark, b"3"),
    b"hll": lambda mark: (b"PFADD", b"a", mark),
    b"geo": lambda mark: (b"GEOADD", b"13.361389", b"38.115556", b"a", b"15.08", b"37.5", mark),
}
FAMILIES = (b"app", b"read", b"write", b"sec")
NEW = b"new"  # keys that are not there
SCRIPT = b"return redis.call(unpack(ARGV))"
# Of the connection, of both databases, or answered by time and chance.
LEFT_OUT = frozenset((
    "select", "auth", "hello", "reset", "quit", "multi", "exec", "discard", "watch", "unwatch", "wait", "waitaof",
    "subscribe", "psubscribe", "ssubscribe", "unsubscribe", "punsubscribe", "sunsubscribe", "eval", "evalsha", "eval_ro",
    "evalsha_ro", "script|load", "script|flush", "scan", "keys", "randomkey", "dbsize", "time", "swapdb", "move", "copy",
    "dyn.quorum", "memory|usage", "memory|stats", "cluster|links", "acl|genpass", "pttl", "ttl", "expiretime",
    "pexpiretime", "spop", "srandmember", "hrandfield", "zrandmember", "hpttl", "httl", "hexpiretime", "hpexpiretime",
    "object|idletime",
))  # fmt: skip


def _is_used(spec: CommandSpec) -> bool:
    of_the_server = spec.name.startswith(("client", "command", "pubsub")) or spec.name.endswith("|help")
    return spec.name not in LEFT_OUT and not of_the_server and "blocking" not in spec.flags.split()


SPECS = [spec for top in COMMANDS for spec in (top.subcommands or (top,)) if _is_used(spec)]


def _fill(admin: Asker, database: int) -> None:
    """Makes all keys anew. In database 1 some forbidden ones are missing, and others are of another type and length."""
    admin.ask((b"SELECT", b"%d" % database))
    admin.ask((b"DEL", *[family + b":" + name for family in FAMILIES for name in (*MAKERS, NEW)]))
    for family in FAMILIES:
        for name, make in MAKERS.items():
            is_other = family == b"sec" and database == 1
            if is_other and name in (b"string", b"zset"):
                continue
            mark = b"plain" if family in (b"app", b"read") else MARK * 3 if is_other else MARK
            words = MAKERS[b"list"](mark) if is_other and name == b"hash" else make(mark)
            admin.ask((words[0], family + b":" + name, *words[1:]))


def _kept(admin: Asker, database: int) -> list[bytes]:
    """Values and expiries of the keys that the user may not write."""
    admin.ask((b"SELECT", b"%d" % database))
    keys = [family + b":" + name for family in (b"read", b"sec") for name in (*MAKERS, NEW)]
    return admin.ask_each([(word, key) for key in keys for word in (b"DUMP", b"PTTL")])


def _key(rng: random.Random, spec: CommandSpec) -> bytes:
    return rng.choices(FAMILIES, (5, 2, 2, 3))[0] + b":" + rng.choice((*MAKERS, NEW))


def _asked(rng: random.Random, call: Command) -> Sequence[Command]:
    """The call, alone, in a transaction or in a script."""
    return rng.choice((
        [call], [(b"MULTI",), call, (b"EXEC",)], [(b"EVAL", SCRIPT, b"0", *call)],
        [(b"EVAL", SCRIPT, b"1", b"app:string", *call)],
    ))  # fmt: skip


def _masked(replies: list[bytes]) -> list[bytes]:
    """Replies without the contexts of DYN.GET, which are never the same twice."""
    return [re.sub(rb"\$\d+\r\nAQA[^\r]*\r\n", b"context", reply) for reply in replies]


def _attack(cluster: WireCluster, seed: int, count: int) -> None:
    rng = random.Random(seed)
    calls = Calls(rng, partial(_key, rng))
    admin, users = Asker(cluster.ports[0], 2), [Asker(cluster.ports[0], 2) for _ in range(2)]
    assert admin.ask((b"ACL", b"SETUSER", b"confined", *RIGHTS.encode().split())) == b"+OK\r\n"
    for database, user in enumerate(users):
        assert user.ask((b"AUTH", b"confined", b"x")) == user.ask((b"SELECT", b"%d" % database)) == b"+OK\r\n"
    granted: set[str] = set()
    kept: list[list[bytes]] = []
    for number in range(count):
        if number % 100 == 0:
            for database in (0, 1):
                _fill(admin, database)
            kept = [_kept(admin, database) for database in (0, 1)]
        spec = rng.choice(SPECS)
        asked = _asked(rng, calls.call(spec))
        first, second = (user.ask_each(asked) for user in users)
        assert MARK not in b"".join(first + second), asked
        if any(b"-ERR the script was stopped" in reply for reply in first + second):
            continue  # it may take longer than a script's budget, and may not
        assert _masked(first) == _masked(second), asked
        if not first[-1].startswith((b"-", b"*1\r\n-")):
            granted.add(spec.name)
        if number % 10 == 9:
            assert [_kept(admin, database) for database in (0, 1)] == kept, (number, asked)
    assert len(granted) > min(count // 30, 100), "most calls must be fine, or nothing is tested"
    assert admin.ask((b"ACL", b"DELUSER", b"confined")) == b":1\r\n"
    for each in (admin, *users):
        each.close()


def test_a_confined_user_learns_and_changes_nothing_of_other_keys(make_cluster: Callable[..., WireCluster]) -> None:
    _attack(make_cluster(nodes=1), 1, 2_000)


@pytest.mark.soak
def test_a_confined_user_learns_nothing_by_a_great_many_calls(make_cluster: Callable[..., WireCluster]) -> None:
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")
    _attack(make_cluster(nodes=1), seed, 100_000)
