"""Which writes may run at two coordinators at once: each command that may run twice is on one of two lists here."""

from __future__ import annotations

import pytest

from server.core.base.errors import CommandError
from server.core.commands.registry import every_command
from server.core.commands.spec import READ, CommandSpec
from server.core.commands.table import find_command
from server.core.retries import is_eligible

# What these write does not depend on what is stored: a second coordinator loses nothing of what the first one writes.
BLIND = "del hdel hmset hset mset psetex sadd set setex srem unlink zadd zrem"

# These read in order to write, take part in what others read, or have no need of an early retry.
NOT_BLIND = """
append bitfield bitop blmove blmpop blpop brpop brpoplpush bzmpop bzpopmax bzpopmin copy decr decrby dyn.del dyn.eval
dyn.exec dyn.lpush dyn.pfmerge dyn.putback dyn.remove dyn.replace dyn.rpush dyn.set dyn.siblings|resolve dyn.try expire
expireat geoadd georadius georadiusbymember geosearchstore getdel getex getset hexpire hexpireat hgetdel hgetex hincrby
hincrbyfloat hpersist hpexpire hpexpireat hsetex hsetnx incr incrby incrbyfloat linsert lmove lmpop lpop lpush lpushx
lrem lset ltrim move msetnx persist pexpire pexpireat pfadd pfmerge rename renamenx restore rpop rpoplpush rpush rpushx
sdiffstore setbit setnx setrange sinterstore smove sort spop sunionstore xadd xdel xtrim zdiffstore zincrby zinterstore
zmpop zpopmax zpopmin zrangestore zremrangebylex zremrangebyrank zremrangebyscore zunionstore
"""

# They run where the client is, or read and are alone all the same.
NOT_RELAYED = "eval eval_ro evalsha evalsha_ro fcall fcall_ro sort_ro watch xread"


def _with_keys() -> list[CommandSpec]:
    specs = [each for spec in every_command() for each in (spec, *spec.subcommands)]
    return [spec for spec in specs if spec.has_keys() and spec.overlap != READ]


def _call(spec: CommandSpec) -> list[bytes]:
    return [*spec.name.upper().encode().split(b"|"), *[b"1"] * (abs(spec.arity) - 1)]


def test_each_write_is_on_one_list() -> None:
    listed = [*BLIND.split(), *NOT_BLIND.split(), *NOT_RELAYED.split()]
    assert sorted(listed) == sorted(spec.name for spec in _with_keys())


@pytest.mark.parametrize("spec", _with_keys(), ids=lambda spec: spec.name)
def test_the_table_says_what_the_list_says(spec: CommandSpec) -> None:
    assert spec.blind(_call(spec)) is (spec.name in BLIND.split())
    assert is_eligible([*spec.name.upper().encode().split(b"|"), *[b"1"] * 3]) is (spec.name in BLIND.split())


@pytest.mark.parametrize("spec", _with_keys(), ids=lambda spec: spec.name)
def test_what_must_run_once_is_not_blind(spec: CommandSpec) -> None:
    try:
        assert not (spec.once(_call(spec)) and spec.blind(_call(spec)))
    except CommandError:
        assert not spec.blind(_call(spec))


@pytest.mark.parametrize("words", ["SET k v NX", "SET k v xx", "SET k v GET", "SET k v EX 9 KEEPTTL", "ZADD k nx 1 m"])
def test_conditions_are_not_blind(words: str) -> None:
    args = words.encode().split()
    spec = find_command(args)
    assert spec is not None and not spec.blind(args)


@pytest.mark.parametrize("words", ["GET k", "hget k f", "SET k v EX 9", "ZADD k 1 nx", "MGET a b"])
def test_reads_and_plain_writes_are_eligible(words: str) -> None:
    assert is_eligible(words.encode().split())
