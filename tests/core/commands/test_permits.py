"""Permits: they say yes to the usual calls, and never to a call that the whole check refuses."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import suppress

import pytest

from server.core.base.sinks import Session
from server.core.base.statistics import Statistics
from server.core.commands import permissions
from server.core.commands.glob import Glob
from server.core.commands.key_patterns import Patterns
from server.core.commands.permissions import Restricted, denied, hidden_read, kind_of_name
from server.core.commands.permits import Permit
from server.core.commands.registry import every_command
from server.core.commands.spec import CommandSpec
from server.core.commands.table import find_command
from server.core.users.rules import RuleError, User, changed

USUAL = (
    "SET a:1 v", "GET a:1", "SET a:1 v NX", "set a:1 v EX 5", "SET a:1 v GET", "SETNX a:1 v", "INCR a:1", "DEL a:1",
    "DEL a:1 a:2", "EXISTS a:1", "EXPIRE a:1 5", "TTL a:1", "MGET a:1 a:2 a:3", "MSET a:1 v a:2 v", "HSET a:1 f v",
    "HGET a:1 f", "HINCRBY a:1 f 1", "LPUSH a:1 v", "RPOP a:1", "BLPOP a:1 a:2 0", "SADD a:1 m", "SISMEMBER a:1 m",
    "ZADD a:1 1 m", "ZSCORE a:1 m", "XADD a:1 * f v", "BITFIELD a:1 GET u8 0", "RENAME a:1 a:2", "SMOVE a:1 a:2 m",
    "ZUNION 2 a:1 a:2", "ZUNIONSTORE a:1 2 a:2 a:3", "EVAL x 1 a:1", "XREAD STREAMS a:1 a:2 0 0",
    "PUBLISH ch:1 x", "SPUBLISH ch:1 x", "PING", "MULTI", "EXEC",
)  # fmt: skip
OTHERS = (
    "SORT a:1 BY b:*", "SORT a:1 GET b:*", "SORT_RO a:1", "SUBSCRIBE ch:1", "PSUBSCRIBE ch:*", "SELECT 0", "SELECT 1",
    "OBJECT ENCODING a:1", "CONFIG GET x", "Set a:1 v", "MSET a:1 v b:1", "ZUNION 9 a:1", "ZUNION x a:1",
    "GEORADIUS a:1 1 1 1 m STORE b:1", "GEOSEARCHSTORE a:1 b:1 FROMMEMBER m BYRADIUS 1 m", "EVAL x 0", "SCAN 0",
    "BITFIELD a:1 SET u8 0 1",
    "XREAD COUNT 1 STREAMS a:1 b:1 0 0", "COPY a:1 b:1", "LMPOP 1 a:1 LEFT", "SINTERCARD 2 a:1 b:1", "GETEX a:1",
)  # fmt: skip
RULES = (
    "~a:*", "~b:*", "~*", "%R~a:*", "%W~a:*", "%R~b:*", "%W~b:*", "~a:?", "~[ab]:1", "resetkeys", "+@all", "-@all",
    "+@read", "+@write", "-set", "+set", "-get", "+mset", "-@dangerous", "+select|0", "+eval", "-eval", "&ch:*", "&*",
    "resetchannels", "+publish", "+subscribe", "(~b:* +@all)", "(%R~a:* +@read)", "(%W~b:* +set)", "(~* +get)",
    "(+publish &ch:1)",
)  # fmt: skip
# Words of random calls: keys that rules allow and others, and options with which keys stand elsewhere.
WORDS = (
    *b"a:1 b:1 c:1 a: b:22".split() * 3, *b"0 1 2 3 -1 x * b:* ch:1 ch:* STREAMS COUNT LEFT NX EX SET KEEPTTL u8".split(),
    *b"STORE store STOREDIST BY GET get ALPHA LIMIT".split(),
)  # fmt: skip


def _user(*rules: str) -> User:
    return changed(User(), [b"on", *[rule.encode() for rule in rules]], kind_of_name)


def _session() -> Session:
    return Session(1, "10.0.0.7:1", "", 0, [], Statistics())


def _restricted(user: User, refused: list[str] | None = None) -> Restricted:
    return Restricted(user, lambda session, what, name: None if refused is None else refused.append(name))


def _is_allowed(restricted: Restricted, args: list[bytes]) -> bool:
    """What the whole check says."""
    spec = find_command(args)
    assert spec is not None, args
    rights = restricted._rights
    return denied(rights, spec, args) is None and not (
        spec.name in ("sort", "sort_ro") and hidden_read(rights, spec, args)
    )


def _random_user(rng: random.Random) -> User:
    user = _user(*rng.choice(((), ("+@all", "~a:*"))))
    for rule in rng.choices(RULES, k=rng.randrange(1, 8)):
        with suppress(RuleError):
            user = changed(user, [rule.encode()], kind_of_name)
    return user


def _some_keys(rng: random.Random, line: str) -> list[bytes]:
    """The words of a call, where keys that begin with `a:` may be others."""
    return [
        (rng.choice("abc") + word[1:]).encode() if word.startswith(("a:", "b:")) else word.encode()
        for word in line.split()
    ]


def test_no_permit_covers_a_call_that_the_whole_check_refuses() -> None:
    rng = random.Random(7)
    allowed = 0
    for _ in range(400):
        restricted, session = _restricted(_random_user(rng)), _session()
        for line in rng.sample(USUAL + OTHERS, k=25):
            args = _some_keys(rng, line)
            expected = _is_allowed(restricted, args)
            assert (restricted.refusal(session, args) is None) is expected, (args, restricted._rights)
            allowed += expected
    assert 2000 < allowed < 8000, "both happen"


def _random_call(rng: random.Random, spec: CommandSpec) -> list[bytes]:
    """A call of a command, or of a container with some first argument, with about as many words as it takes."""
    name, count = spec.name.encode(), abs(spec.arity) + (rng.choice((0, 0, 1, 1, 2, 3, 4, 6)) if spec.arity < 0 else 0)
    return [rng.choice((name, name.upper(), name.title())), *rng.choices(WORDS, k=count - 1)]


def test_no_random_call_of_any_command_gets_more_than_the_whole_check_permits() -> None:
    rng = random.Random(11)
    allowed = calls = usual = 0
    for _ in range(60):
        restricted, session = _restricted(_random_user(rng)), _session()
        for spec in rng.sample(list(every_command()), k=60):
            for _ in range(3):
                args = _random_call(rng, spec)
                found = find_command(args)
                if found is None or not found.accepts(len(args)):
                    continue
                expected = _is_allowed(restricted, args)
                assert (restricted.refusal(session, args) is None) is expected, (args, restricted._rights)
                calls, allowed = calls + 1, allowed + expected
        for name, own in restricted.usual_commands().items():
            args = [name, *rng.choices(WORDS, k=own.usual_count - 1)]
            is_permitted = own.allowed_keys is None or own.allowed_keys.match(args[1])
            assert _is_allowed(restricted, args) or not is_permitted, (args, restricted._rights)
            usual += is_permitted
    assert calls > 8000 and allowed > 2000 and usual > 20, "all happen"


def test_the_permit_of_the_call_before_counts_for_no_other_command() -> None:
    restricted, session = _restricted(_user("+@all", "-flushall", "-ttl", "~a:*", "(%R~b:* +get +mget)")), _session()
    both, one = (b"a:1", b"b:1"), (b"a:1",)
    permitted = {b"GET": both, b"Get": both, b"MGET": both, b"INCR": one, b"incr": one, b"TTL": (), b"ttl": ()}
    for before in permitted:
        for after, keys in permitted.items():
            for key in (b"a:1", b"b:1", b"c:1"):
                restricted.refusal(session, [before, b"a:1"])
                assert (restricted.refusal(session, [after, key]) is None) is (key in keys), (before, after, key)


@pytest.mark.parametrize(
    "patterns",
    [[], ["a:*"], ["a:*", "b:*"], ["x", "a:*"], ["?:1"], ["a:*", "?:2", "b:*"], ["b:*", "", "*"], ["\\a:*"], ["a*:*"]],
)
def test_patterns_match_as_globs_do(patterns: list[str]) -> None:
    found = Patterns([each.encode() for each in patterns])
    for key in (b"", b"a:", b"a:1", b"a", b"b:1", b"b", b"c:2", b"c:3", b"x", b"xa:1", b"\\a:1", b"ax:1"):
        assert found.match(key) is any(Glob(each.encode()).matches(key) for each in patterns), (patterns, key)


@pytest.mark.parametrize(
    "rules",
    [
        ["~a:*", "&ch:*"],
        ["~x:*", "~a:?", "&ch:?"],
        ["%R~a:*", "%W~a:*", "&ch:1"],
        ["allkeys", "allchannels"],
        ["(~a:* &ch:* +@all)"],
        ["~b:*", "(~a:* &ch:* +@all)"],
    ],
)
def test_the_usual_calls_of_a_user_take_no_whole_check(rules: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    restricted, session = _restricted(_user("+@all", "-flushall", "resetchannels", *rules)), _session()

    def fail(*_: object) -> None:
        pytest.fail("the whole check was made")

    monkeypatch.setattr(permissions, "denied", fail)
    for line in USUAL:
        assert restricted.refusal(session, line.encode().split()) is None, line


def test_a_user_with_other_patterns_for_reading_and_writing() -> None:
    refused: list[str] = []
    restricted, session = _restricted(_user("+@all", "-flushall", "%R~a:r*", "%W~a:w*"), refused), _session()
    for line in ("SET a:w v NX", "SET a:w v EX 5", "SETNX a:w v", "BITFIELD a:r GET u8 0", "MGET a:r a:r2",
                 "MSET a:w v a:w2 v", "SMOVE a:w a:w m"):  # fmt: skip
        assert (restricted.refusal(session, line.encode().split()) is None) is not line.startswith("SMOVE"), line
    assert refused == ["a:w"], "SMOVE reads what it deletes"
    for line in ("SET a:w v GET", "SET a:r v NX", "BITFIELD a:w GET u8 0", "BITFIELD a:r SET u8 0 1", "MGET a:r a:w"):
        refused.clear()
        assert restricted.refusal(session, line.encode().split()) is not None, line
        assert refused == ["a:r" if " a:r " in line and "MGET" not in line else "a:w"], line


def test_all_keys_of_a_call_must_be_allowed_by_one_selector() -> None:
    restricted, session = _restricted(_user("+@all", "-flushall", "~a:*", "(~b:* +@all)")), _session()
    for line in ("MGET a:1 a:2", "MGET b:1 b:2", "MSET b:1 v b:2 v", "RENAME b:1 b:2"):
        assert restricted.refusal(session, line.encode().split()) is None, line
    for line in ("MGET a:1 b:1", "MSET a:1 v b:1 v", "RENAME a:1 b:1", "DEL b:1 a:1"):
        assert restricted.refusal(session, line.encode().split()) is not None, line


def test_odd_spellings_leave_nothing_behind() -> None:
    restricted, session = _restricted(_user("+@all", "-flushall", "~a:*")), _session()
    for name in ("GET", "get", "Get", "gEt", "geT"):
        assert restricted.refusal(session, [name.encode(), b"a:1"]) is None
        assert restricted.refusal(session, [name.encode(), b"b:1"]) is not None
    assert sorted(restricted._permits) == [b"GET", b"get"]


def test_the_permit_of_no_call_covers_none() -> None:
    assert not Permit().covers([b"GET", b"a:1"])
