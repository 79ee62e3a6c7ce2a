"""What connections are told, options, numbers and arities: byte for byte as redis-server answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import hiredis
import pytest

from server.core.commands.deviations import DEVIATIONS, deviation_of
from server.core.commands.table import find_command
from tests.wire.cluster import WireCluster
from tests.wire.differential.cases import (
    arity_cases,
    binary_cases,
    number_cases,
    option_cases,
    session_cases,
)
from tests.wire.differential.count_cases import count_cases
from tests.wire.differential.exact import Case, Difference, Pair
from tests.wire.differential.running import CHOICES
from tests.wire.differential.servers import Asker, redis_server, redis_version

pytestmark = pytest.mark.skipif(
    redis_version() != "7.0", reason="redis-server 7.0, which all is compared with, is not installed"
)
WRONG_ARITY = b"-ERR wrong number of arguments"
# Their answers depend on keys that other tests of the session have, or on chance.
OF_ALL_KEYS = ("dbsize", "keys", "randomkey", "scan")
# Of these a call changes the connection: see SESSIONS.
UNTOLD = ("quit", "reset", "hello", "multi", "subscribe", "psubscribe", "ssubscribe")


@pytest.fixture(scope="module")
def redis_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A redis-server with its defaults."""
    with redis_server(tmp_path_factory.mktemp("redis")) as port:
        yield port


@pytest.fixture
def pair(cluster: WireCluster, redis_port: int) -> Iterator[Pair]:
    """Connections to both."""
    both = Pair(redis_port, cluster.ports[0])
    yield both
    both.close()


def _assert_none(found: list[Difference]) -> None:
    assert not found, f"{len(found)} differences:\n" + "\n".join([str(each) for each in found[:20]])


@pytest.mark.parametrize("cases", [session_cases, binary_cases])
def test_what_a_connection_is_told_is_what_redis_tells(pair: Pair, cases: Callable[[], Iterable[Case]]) -> None:
    _assert_none([each for each in pair.differences(cases()) if not _is_known(each)])


@pytest.mark.parametrize("cases", [option_cases, number_cases])
def test_options_and_numbers_are_read_as_redis_reads_them(pair: Pair, cases: Callable[[], Iterable[Case]]) -> None:
    _assert_none(pair.differences(cases(), is_thorough=False))


def test_counts_and_amounts_are_read_as_redis_reads_them(pair: Pair) -> None:
    found = pair.differences(count_cases(), is_thorough=False)
    _assert_none([each for each in found if not _is_known(each) and not _is_another_order(each)])


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
    told = [
        name
        for name in names
        if not name.endswith(UNTOLD) and not name.startswith(("cluster", "readonly", "readwrite"))
    ]
    free = [name for name in told if not _is_otherwise(name) and name not in (*OF_ALL_KEYS, *CHOICES, "asking")]
    _assert_none([each for each in pair.differences(arity_cases(free)) if not _is_another_order(each)])
    found = pair.differences(arity_cases([name for name in told if name not in free]))
    _assert_none([each for each in found if _is_about_arity(each) and not _is_of_a_later_redis(each)])


def _is_known(difference: Difference) -> bool:
    """Whether it is one of the differences that are documented (deviations.py)."""
    call = difference.case[difference.place]
    spec = find_command(list(call))
    return spec is not None and deviation_of(spec.name, call, difference.redis, difference.ours) is not None


def _is_another_order(difference: Difference) -> bool:
    """Whether the replies have the same lines: those of SDIFF and its kin have no order."""
    return sorted(difference.redis.split(b"\r\n")) == sorted(difference.ours.split(b"\r\n"))


def _is_otherwise(name: str) -> bool:
    """Whether well formed calls of the command are answered otherwise."""
    return any(each.is_of(name) for each in DEVIATIONS)


def _is_about_arity(each: Difference) -> bool:
    return each.redis.startswith(WRONG_ARITY) or each.ours.startswith(WRONG_ARITY)


def _is_of_a_later_redis(each: Difference) -> bool:
    words = each.case[0]
    takes_a_score = words[0].upper() in (b"ZRANK", b"ZREVRANK") and len(words) > 3
    return takes_a_score or (words[1].upper() in (b"GETKEYS", b"GETKEYSANDFLAGS") and len(words) == 3)


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
