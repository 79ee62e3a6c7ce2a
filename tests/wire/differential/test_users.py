"""ACL, AUTH and HELLO: the answers of redis-server 7.0, to fixed calls and to random rules.

What the rules about commands come to is compared by ACL DRYRUN of many calls, since Redis 7.0 makes up rules of its own
when it shows them. Everything else of a user is compared by ACL GETUSER.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from typing import Any

import hiredis
import pytest

from protocol import resp
from tests.wire.cluster import WireCluster
from tests.wire.differential.servers import Asker, redis_server, redis_version
from tests.wire.raw import exchange, raw

pytestmark = pytest.mark.skipif(redis_version() != "7.0", reason="redis-server 7.0 is not installed")

RULES: list[str | bytes] = [
    "+get", "+foo", "+@foo", "-get|x", "+config|foo", "-select|0", "<zz", "!zz", "#zz", "~a b", "~", "%~x", "%RX~y",
    "%R~", "&", "foo", "(", ")", "(foo)", "(+foo)", "+", "-", "+@", "(on)", "(+get", "allkeys ~x", "on", "+select|",
    "+select|0|1", "+config|get|x", "+config", "+CONFIG|GET", "&x", "()", "(  )", "( +get", "~x )",
    "( ~a* %R~b* +get )", "%rw~z", "%W~z", "%R~z", b"~a\x00x", "%R", "%R~*", "+@read", "-@dangerous", "+@ALL",
    "allcommands", "nocommands", "RESETKEYS", "reset", "resetpass", "clearselectors", "nopass", ">pw", ">", "<pw",
    "#" + "a" * 64, "#" + "A" * 64, "!" + "a" * 64, "sanitize-payload", "SKIP-sanitize-payload", "", "+select|AbC",
    "a|b", "-@all", "+@all", "-@nope", "(~x &y -@all +@read)", "(allkeys ~x)", "resetchannels", "allchannels",
    '(+get "~a")', "off", "+@slow", "-@fast", "+@string", "-@keyspace", "+@connection", "-config|set", "+object",
]  # fmt: skip
CALLS = [
    line.split()
    for line in (
        "get z", "get a1", "config get x", "config set a b", "set b1 2", "mget x z", "select 0", "select abc",
        "acl whoami", "object encoding x", "sort x", "keys *", "ping", "auth x", "hello", "info", "set a1 1",
        "getdel b2", "zunionstore b 2 z x", "georadius z 1 1 1 m store x", "bitfield x get u8 0",
        "bitfield z set u8 0 1", "set z 1 get", "exists z", "foo", "get", "config foo", "client list", "pfcount x",
    )
]  # fmt: skip
FIXED = [
    "ACL DELUSER default", "ACL DELUSER u0 u0 nn u1", "ACL GENPASS x", "ACL GENPASS 0", "ACL GENPASS 4097",
    "ACL GENPASS -5", "ACL CAT foo", "ACL CAT a b", "ACL LOG x", "ACL LOG 1 2", "ACL LOG reset", "ACL LOAD",
    "ACL SETUSER", "ACL foo", "ACL GETUSER zz", "ACL WHOAMI", "ACL", "ACL DRYRUN u2", "ACL DRYRUN zz get x",
    "HELLO 3 AUTH a b", "AUTH x", "AUTH a b", "AUTH a b c", "AUTH", "HELLO 4", "HELLO x", "CLIENT KILL USER zz",
    "ACL SETUSER s on nopass +sort ~a* %W~w*", "AUTH s x", "SORT a1 BY nosort", "SORT a1 BY x*", "SORT a1 GET #",
    "SORT a1 GET k*", "SORT a1 BY x* foo", "SORT a1 foo BY x*", "EXISTS a1", "SORT b", "MGET a b",
    "SORT a1 LIMIT 0 GET", "SORT a1 LIMIT 0 1 GET x DESC", "AUTH default x", "ACL DELUSER s",
]  # fmt: skip
LOGGED_OUT = [
    "GET x", "FOO", "GET", "HELLO", "HELLO 3", "HELLO 2 AUTH a b", "AUTH a", "AUTH", "AUTH a b c", "PING",
    "ACL WHOAMI", "CONFIG FOO", "HELLO 4", "HELLO 3 SETNAME", "HELLO 3 foo", "AUTH default foo", "ACL WHOAMI", "RESET",
    "GET x", "AUTH foo", "ACL WHOAMI",
]  # fmt: skip


def _words(text: str) -> list[str]:
    return text.split()


# Parts of which random rules are made.
CATEGORIES = _words(
    "keyspace read write set sortedset list hash string bitmap hyperloglog geo stream pubsub admin fast slow blocking "
    "dangerous connection transaction scripting all nope"
)
NAMES = _words(
    "get set mget config config|get config|set client client|list client|kill acl acl|whoami acl|dryrun object "
    "object|encoding memory|usage memory select select|0 select|AbC get|x set|y eval evalsha script script|load sort "
    "sort_ro publish subscribe psubscribe command command|docs cluster cluster|info keys scan flushall multi exec copy "
    "rename georadius georadius_ro foo config|foo config|get|x config| | |x bitfield bitfield_ro blpop lmpop auth hello "
    "quit reset ping echo pubsub|channels"
)
PATTERNS = ["*", "a*", "b?", "[ab]*", "x", "", "a\\*", "{t}*", "app:*", "a b", "~", "*a*"]
BEFORE_PATTERNS = ["~", "%R~", "%W~", "%RW~", "%WR~", "%", "%X~", "%R", "%RR~", "%r~", "&"]
WHOLE = _words(
    "allkeys resetkeys allchannels resetchannels allcommands nocommands on off nopass resetpass reset clearselectors "
    "sanitize-payload skip-sanitize-payload (on) (>x) (reset) foo ()"
)
PASSWORDS = ["", "pw", "a" * 64, "A" * 64, "g" * 64, "0" * 63, "0" * 65, "f" * 64]
ARGUMENTS = _words(
    "a a1 b1 x app:1 0 1 2 {t}1 * GET STORE WITHSCORES MATCH BY KEYS LIMIT abc 10 EX m withdist COUNT LEFT AND u8 MIN - + "
    "(1"
)
# What they answer otherwise is known (server/core/commands/deviations.py): options of Redis 7.2, and calls without sound
# keys, which Redis 7.0 permits: there PFMERGE with one key even makes that key.
ELSEWISE = re.compile(
    r"(zrank|zrevrank|command getkeys|command getkeysandflags) .*|pfmerge \S+|z(union|inter|diff)store \S+ .*|"
    r"(lmpop|zmpop|sintercard|zunion|zinter|zdiff|zintercard|eval\S*|fcall\S*) .*"
)


class Both:
    """A connection to each of the two; `ask` returns both replies, decoded."""

    def __init__(self, redis_port: int, our_port: int, protocol: int = 2) -> None:
        self._askers = [Asker(redis_port, protocol), Asker(our_port, protocol)]

    def ask(self, *words: str | bytes) -> tuple[Any, Any]:
        """The replies, errors as texts."""
        command = tuple([word.encode() if isinstance(word, str) else word for word in words])
        redis, ours = (_decoded(asker.ask(command)) for asker in self._askers)
        return redis, ours

    def same(self, *words: str | bytes) -> Any:
        """The reply, which is the same of both."""
        redis, ours = self.ask(*words)
        assert redis == ours, f"{words}: redis {redis!r}, ours {ours!r}"
        return redis

    def close(self) -> None:
        """Deletes the users, and ends both connections."""
        for asker in self._askers:
            names = [name for name in _decoded(asker.ask((b"ACL", b"USERS"))) if name != b"default"]
            if names:
                asker.ask((b"ACL", b"DELUSER", *names))
            asker.close()


def _decoded(reply: bytes) -> Any:
    """A reply as hiredis decodes it; an error as its text."""
    reader = hiredis.Reader()
    reader.feed(reply)
    found = reader.gets()
    return str(found) if isinstance(found, hiredis.ReplyError) else found


@pytest.fixture
def redis_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with redis_server(tmp_path_factory.mktemp("redis")) as port:
        yield port


@pytest.fixture
def both(redis_port: int, cluster: WireCluster) -> Iterator[Both]:
    found = Both(redis_port, cluster.ports[0])
    for names in found.ask("ACL", "USERS"):  # other tests of the shared cluster leave some
        for name in names:
            if name != b"default":
                found.ask("ACL", "DELUSER", name)
    yield found
    found.close()


def _without_commands(user: Any) -> Any:
    """ACL GETUSER's answer without the rules about commands, in RESP2 or RESP3."""
    fields = _fields(user)
    selectors = [_fields(each) | {b"commands": None} for each in fields[b"selectors"]]
    return fields | {b"commands": None, b"selectors": selectors}


def _fields(row: Any) -> dict[bytes, Any]:
    return row if isinstance(row, dict) else dict(zip(row[::2], row[1::2], strict=True))


def test_random_rules_are_read_as_redis_reads_them(both: Both) -> None:
    rng = random.Random(5)
    for step in range(600):
        name = f"u{rng.randrange(3)}"
        both.same("ACL", "SETUSER", name, *rng.choices(RULES, k=rng.randint(1, 4)))
        redis, ours = both.ask("ACL", "GETUSER", name)
        if redis is None or ours is None:
            assert redis == ours
            continue
        assert _without_commands(redis) == _without_commands(ours), name
        if step % 10 == 0:
            for call in CALLS:
                both.same("ACL", "DRYRUN", name, *call)
    both.same("ACL", "USERS")


class Rules:
    """Makes random rules."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def words(self) -> list[str]:
        """The arguments of an ACL SETUSER, behind the name."""
        return [word for _ in range(self._rng.randint(1, 5)) for word in self._rule()]

    def _rule(self) -> list[str]:
        rng = self._rng
        kind = rng.random()
        if kind < 0.68:
            return [self._simple()]
        if kind < 0.8:  # a selector, whole or as several words
            inner = " ".join([self._simple() for _ in range(rng.randint(0, 4))])
            blanks = [rng.choice(("", " ")) for _ in range(2)]
            text = f"({blanks[0]}{inner}{blanks[1]}{rng.choice((')', ')', ')', ')', ')x', ''))}"
            return text.split(" ") if rng.random() < 0.4 else [text]
        if kind < 0.92:
            return [self._cased(rng.choice(WHOLE))]
        return [rng.choice("><#!") + rng.choice(PASSWORDS)]

    def _simple(self) -> str:
        rng = self._rng
        kind = rng.randrange(12)
        if kind < 3:
            return rng.choice("+-") + self._cased(rng.choice(NAMES))
        if kind < 6:
            return rng.choice("+-") + "@" + self._cased(rng.choice(CATEGORIES))
        if kind < 11:
            return self._cased(rng.choice(BEFORE_PATTERNS)) + rng.choice(PATTERNS)
        return self._cased(rng.choice(WHOLE[:6]))

    def _cased(self, word: str) -> str:
        rng = self._rng
        return word if rng.random() < 0.8 else "".join([rng.choice((each.upper(), each)) for each in word])

    def call(self, names: Sequence[str]) -> list[str]:
        """A call of a command, of any words."""
        rng = self._rng
        return rng.choice(names).split("|") + [rng.choice(ARGUMENTS) for _ in range(rng.randint(0, 6))]


@pytest.mark.parametrize("protocol", [2, 3])
def test_made_rules_allow_what_they_allow_in_redis(redis_port: int, cluster: WireCluster, protocol: int) -> None:
    """All parts of rules in any order: what ACL GETUSER shows, and what ACL DRYRUN says of calls of all commands."""
    made, both = Rules(random.Random(protocol)), Both(redis_port, cluster.ports[0], protocol)
    redis, ours = both.ask("COMMAND", "LIST")
    names = sorted({name.decode() for name in redis} & {name.decode() for name in ours})
    compared = 0
    for step in range(700):
        name = f"made{step % 3}"
        rules = made.words()
        both.same("ACL", "SETUSER", name, *rules)
        redis, ours = both.ask("ACL", "GETUSER", name)
        assert (redis is None) == (ours is None)
        if redis is None:
            continue
        assert _without_commands(redis) == _without_commands(ours), rules
        for call in [made.call(names) for _ in range(6)]:
            if not ELSEWISE.fullmatch(" ".join(call)):
                both.same("ACL", "DRYRUN", name, *call)
                compared += 1
    assert compared > 2000
    both.close()


def test_fixed_calls_are_answered_as_redis_answers_them(redis_port: int, cluster: WireCluster) -> None:
    replies = [_talk(port, FIXED) for port in (redis_port, cluster.ports[1])]
    for line, redis, ours in zip(FIXED, *replies, strict=True):
        assert redis == ours, line


def test_a_client_that_has_to_log_in_is_told_what_redis_tells(redis_port: int, make_cluster: Any) -> None:
    own = make_cluster(nodes=1)
    replies = []
    for port in (redis_port, own.ports[0]):
        assert _talk(port, ["CONFIG SET requirepass foo"]) == [b"OK"]
        replies.append(_talk(port, LOGGED_OUT))
    for line, redis, ours in zip(LOGGED_OUT, *replies, strict=True):
        assert redis == ours, line


def _talk(port: int, lines: list[str]) -> list[Any]:
    """The replies to the lines on one connection, as hiredis decodes them; errors as texts."""
    with raw(port) as connection:
        said = exchange(connection, b"".join([resp.command(*line.encode().split()) for line in lines]) + b"QUIT\r\n")
    reader = hiredis.Reader()
    reader.feed(said)
    replies = [reader.gets() for _ in lines]
    return [str(reply) if isinstance(reply, hiredis.ReplyError) else reply for reply in replies]


def test_simple_users_are_listed_as_redis_lists_them(both: Both) -> None:
    """Where Redis 7.0 makes up no rules: each names what it allows."""
    for name, rules in {
        "a": "on >x ~app:* +get +set",
        "b": "on nopass allkeys allchannels +@all -@dangerous",
        "c": "off resetchannels &news:* -@all +@read (~k* +set) (%R~r* allcommands)",
        "d": "on #" + "b" * 64 + " %R~a %W~b ~c +config|get +select|0",
    }.items():
        assert both.same("ACL", "SETUSER", name, *rules.split()) == b"OK"
    redis, ours = both.ask("ACL", "LIST")
    assert [_sorted(line) for line in redis] == [_sorted(line) for line in ours]


def _sorted(line: bytes) -> list[bytes]:
    """A line's rules; Redis 7.0 shows single commands in any order."""
    return sorted(line.split())


def test_all_categories_hold_the_same_commands(both: Both) -> None:
    redis, ours = both.ask("ACL", "CAT")
    assert [name for name in ours if name != b"dyn"] == redis
    listed = [set(found) for found in both.ask("COMMAND", "LIST")]
    common = listed[0] & listed[1] - {b"dbsize"}  # which asks all nodes here: deviations.py
    assert len(common) > 150
    for name in redis:
        theirs, our = both.ask("ACL", "CAT", name)
        assert set(theirs) & common == set(our) & common, name


def test_what_follows_auth_in_a_transaction_runs_as_the_user_who_has_logged_in(both: Both) -> None:
    for line in (
        "ACL SETUSER app on >pw +@all ~app:*", "ACL SETUSER other on >pw ~app:o* +get +set +auth +ping", "AUTH app pw",
        "MULTI", "SET app:1 v", "AUTH other pw", "GET app:1", "SET app:o w", "ACL WHOAMI", "PING",
    ):  # fmt: skip
        both.same(*line.split())
    redis, ours = both.ask("EXEC")
    assert list(map(str, ours)) == list(map(str, redis))
    assert [str(reply)[:6] for reply in ours] == ["b'OK'", "b'OK'", "NOPERM", "b'OK'", "NOPERM", "b'PONG"]
    both.same("GET", "app:1")
    both.same("AUTH", "default", "x")
