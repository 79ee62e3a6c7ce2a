"""ACL, AUTH and HELLO: the answers of redis-server 7.0, to fixed calls and to random rules.

What the rules about commands come to is compared by ACL DRYRUN of many calls, since Redis 7.0 makes up rules of its own
when it shows them. Everything else of a user is compared by ACL GETUSER.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
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


class Both:
    """A connection to each of the two; `ask` returns both replies, decoded."""

    def __init__(self, redis_port: int, our_port: int) -> None:
        self._askers = [Asker(redis_port, 2), Asker(our_port, 2)]

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
    """ACL GETUSER's answer without the rules about commands."""
    fields = dict(zip(user[::2], user[1::2], strict=True))
    selectors = [dict(zip(each[::2], each[1::2], strict=True)) | {b"commands": None} for each in fields[b"selectors"]]
    return fields | {b"commands": None, b"selectors": selectors}


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
