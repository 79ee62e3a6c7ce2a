"""Byte for byte as redis-server answers, but for the differences that stand here with reasons (see differential.py)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import hiredis
import pytest

from tests.wire.cluster import WireCluster
from tests.wire.differential import Asker, Case, Difference, Pair, redis_server, redis_version
from tests.wire.differential_cases import (
    arity_cases,
    binary_cases,
    number_cases,
    option_cases,
    random_cases,
    session_cases,
)

pytestmark = pytest.mark.skipif(
    redis_version() != "7.0", reason="redis-server 7.0, which all is compared with, is not installed"
)
WRONG_ARITY = b"-ERR wrong number of arguments"
HELP = "it lists what there is"
ITSELF = "it tells of the server itself, or of its connections"
# Commands whose well formed calls are answered otherwise, each with the reason; wrong calls are the same.
OTHERWISE = {
    "acl|help": HELP,
    "client|help": HELP,
    "command|help": HELP,
    "config|help": HELP,
    "command": "it tells which commands there are",
    "command|count": "it tells which commands there are",
    "command|docs": "it tells which commands there are",
    "command|info": "it tells which commands there are",
    "command|list": "it tells which commands there are",
    "command|getkeys": "Redis 7.2 takes a call of one word, 7.0 does not",
    "command|getkeysandflags": "Redis 7.2 takes a call of one word, 7.0 does not",
    "config|set": "settings come from the config file",
    "config|rewrite": "settings come from the config file",
    "client|id": ITSELF,
    "client|info": ITSELF,
    "client|list": ITSELF,
    "info": ITSELF,
    "time": "another clock",
    "dbsize": "other tests have keys, too",
    "keys": "other tests have keys, too",
    "randomkey": "chance",
    "scan": "the order of keys is another",
    "flushall": "it wants the word CONFIRM",
    "flushdb": "it wants the word CONFIRM",
}
UNTOLD = ("quit", "reset", "hello")  # of these a call changes the connection: see SESSIONS
POLICY = ("request_policy:", "response_policy:")  # any node answers for the whole cluster, so no client need ask all
# Facts in COMMAND INFO that differ, by command and field.
OTHER_FACTS = {
    ("command|getkeys", "arity"): "-3 from Redis 7.2 on",
    ("command|getkeysandflags", "arity"): "-3 from Redis 7.2 on",
    ("dbsize", "flags"): "it is not O(1) here",
    ("dbsize", "categories"): "it is not O(1) here",
}
# Shapes of arguments in COMMAND DOCS that differ.
OTHER_ARGUMENTS = {
    "client|kill": "MAXAGE, of a later Redis",
    "client|list": "Redis 7.2 tells ID as it is told here",
    "client|tracking": "tracking is not supported",
    "command|getkeys": "Redis 7.0 tells no arguments, 7.2 tells them as they are told here",
    "command|getkeysandflags": "Redis 7.0 tells no arguments, 7.2 tells them as they are told here",
    "config|get": "Redis 7.0 tells a block of one argument",
    "flushall": "the word CONFIRM",
    "flushdb": "the word CONFIRM",
}


@pytest.fixture(scope="module")
def redis_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A redis-server with one database, as there is one here."""
    with redis_server(tmp_path_factory.mktemp("redis"), "--databases", "1") as port:
        yield port


@pytest.fixture
def pair(cluster: WireCluster, redis_port: int) -> Iterator[Pair]:
    """Connections to both."""
    both = Pair(redis_port, cluster.ports[0])
    yield both
    both.close()


def _assert_none(found: list[Difference]) -> None:
    assert not found, f"{len(found)} differences:\n" + "\n".join([str(each) for each in found[:20]])


@pytest.mark.parametrize("cases", [option_cases, number_cases, session_cases, binary_cases, random_cases])
def test_answers_are_those_of_redis(pair: Pair, cases: Callable[[], Iterable[Case]]) -> None:
    _assert_none(pair.differences(cases()))


def _common(redis_port: int, our_port: int) -> list[str]:
    """The names of commands and subcommands that both have."""
    listed = [set(_decoded(port, b"COMMAND", b"LIST")) for port in (redis_port, our_port)]
    return sorted(listed[0] & listed[1])


def _decoded(port: int, *command: bytes) -> Any:
    asker = Asker(port, 2)
    reader = hiredis.Reader(encoding="utf-8")
    reader.feed(asker.ask(command))
    asker.close()
    return reader.gets()


def test_calls_with_too_few_and_too_many_arguments(pair: Pair, redis_port: int, cluster: WireCluster) -> None:
    names = _common(redis_port, cluster.ports[0])
    assert len(names) > 80
    told = [name for name in names if name not in UNTOLD and not name.startswith(("cluster", "readonly", "readwrite"))]
    free = [name for name in told if name not in OTHERWISE and name != "asking"]
    _assert_none(pair.differences(arity_cases(free)))
    found = pair.differences(arity_cases([name for name in told if name not in free]))
    _assert_none([each for each in found if _is_about_arity(each) and not _is_of_a_later_redis(each)])


def _is_about_arity(each: Difference) -> bool:
    return each.redis.startswith(WRONG_ARITY) or each.ours.startswith(WRONG_ARITY)


def _is_of_a_later_redis(each: Difference) -> bool:
    return each.case[0][1].upper() in (b"GETKEYS", b"GETKEYSANDFLAGS") and len(each.case[0]) == 3


def test_cluster_commands_with_too_few_and_too_many_arguments(
    cluster: WireCluster, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with redis_server(tmp_path_factory.mktemp("redis"), "--cluster-enabled", "yes") as port:
        both = Pair(port, cluster.ports[0])
        names = [name for name in _common(port, cluster.ports[0]) if name.startswith("cluster")]
        found = both.differences(arity_cases([*names, "cluster|nosuch", "asking", "readonly", "readwrite"]))
        odd = (b"ADDSLOTSRANGE", b"DELSLOTSRANGE")  # refused here before an end without its range is missed
        _assert_none([each for each in found if _is_about_arity(each) and each.case[0][1] not in odd])
        _assert_none(both.differences([((b"READONLY",), (b"READWRITE",), (b"ASKING",), (b"CLUSTER", b"NOSUCH"))]))
        both.close()


def _facts(entry: list[Any]) -> dict[str, Any]:
    """An entry of COMMAND INFO by names, without an order where it has none."""
    fields = ("arity", "flags", "first", "last", "step", "categories", "tips", "keys")
    facts = dict(zip(fields, entry[1:9], strict=True))
    for name in ("flags", "categories"):
        facts[name] = sorted(facts[name])
    facts["tips"] = sorted([tip for tip in facts["tips"] if not tip.startswith(POLICY)])
    specs = [dict(zip(spec[::2], spec[1::2], strict=True)) for spec in facts["keys"]]
    facts["keys"] = [spec | {"flags": sorted(spec["flags"])} for spec in specs]
    return facts


def test_command_info(redis_port: int, cluster: WireCluster) -> None:
    names = _common(redis_port, cluster.ports[0])
    words = [name.encode() for name in names]
    theirs, ours = (_decoded(port, b"COMMAND", b"INFO", *words) for port in (redis_port, cluster.ports[0]))
    for name, their, our in zip(names, theirs, ours, strict=True):
        for field, value in _facts(their).items():
            if (name, field) not in OTHER_FACTS:
                assert _facts(our)[field] == value, f"{field} of {name}"


def _shape(arguments: list[list[Any]]) -> list[Any]:
    """The tree of arguments without the names that group and date them."""
    shapes = []
    for argument in arguments:
        facts = dict(zip(argument[::2], argument[1::2], strict=True))
        parts = facts.get("arguments")
        name = "" if parts else facts["name"].replace("unix-time-seconds", "unix-time").replace("milliseconds", "ms")
        shapes.append(
            [name, facts["type"], facts.get("token"), sorted(facts.get("flags", [])), _shape(parts) if parts else None]
        )
    return shapes


def test_command_docs(redis_port: int, cluster: WireCluster) -> None:
    names = _common(redis_port, cluster.ports[0])
    words = [name.encode() for name in names]
    told = [_decoded(port, b"COMMAND", b"DOCS", *words) for port in (redis_port, cluster.ports[0])]
    theirs, ours = (dict(zip(docs[::2], docs[1::2], strict=True)) for docs in told)
    for name in names:
        their, our = (dict(zip(docs[name][::2], docs[name][1::2], strict=True)) for docs in (theirs, ours))
        for field in ("since", "group", "doc_flags", "deprecated_since", "replaced_by"):
            assert our.get(field) == their.get(field), f"{field} of {name}"
        assert our["summary"]
        assert our["complexity"]
        if name not in OTHER_ARGUMENTS:
            shapes = [_shape(docs.get("arguments", [])) for docs in (their, our)]
            assert shapes[1] == shapes[0], f"arguments of {name}"


def test_links_between_nodes(cluster: WireCluster) -> None:
    """CLUSTER LINKS has the fields that Redis documents, and a connection each way for each of the two peers."""
    with cluster.nodes[0].client() as client:
        links = [dict(zip(link[::2], link[1::2], strict=True)) for link in client.execute_command("CLUSTER LINKS")]
        mine = client.execute_command("CLUSTER MYID")
        assert client.execute_command("CLUSTER", "MYSHARDID") == mine
        ids = {member["id"].encode() for member in json.loads(client.execute_command("DYN.CLUSTER STATUS"))["nodes"]}
        now_ms = client.time()[0] * 1000
    assert sorted([(link[b"direction"], link[b"node"]) for link in links]) == sorted(
        [(direction, peer) for direction in (b"from", b"to") for peer in ids - {mine}]
    )
    for link in links:
        assert set(link) == {
            b"direction", b"node", b"create-time", b"events", b"send-buffer-allocated", b"send-buffer-used",
        }  # fmt: skip
        assert now_ms - 3_600_000 < link[b"create-time"] <= now_ms + 60_000


def test_a_setting_makes_it_a_cluster_for_those_who_look(make_cluster: Callable[..., WireCluster]) -> None:
    for mode, enabled in (("standalone", 0), ("cluster", 1)):
        cluster = make_cluster(nodes=1, config=f"cluster_mode = {str(bool(enabled)).lower()}")
        with cluster.nodes[0].client() as client:
            told = client.info()
            assert (told["redis_mode"], told["cluster_enabled"]) == (mode, enabled)
            assert client.config_get("cluster-enabled") == {"cluster-enabled": "yes" if enabled else "no"}
            assert client.execute_command("HELLO")[b"mode"] == mode.encode()
            assert client.config_get("port", "bind", "dir") == {
                "port": str(cluster.ports[0]), "bind": "127.0.0.1", "dir": str(cluster.nodes[0].directory),
            }  # fmt: skip
