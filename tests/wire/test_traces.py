"""`dyn trace` on real nodes: who had a part in a request, by what messages, and who had none."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.wire.cluster import PATIENT, WireCluster, WireNode, dyn, wait_for

Document = dict[str, Any]


class Traced:
    """Four nodes, so that one of them is no owner of a key: what each is to the key `key`."""

    def __init__(self, cluster: WireCluster) -> None:
        self.cluster = cluster
        by_name = {node.name: node for node in cluster.nodes}
        placed = cluster.nodes[0].document("DYN.RING", "LOCATE", "key")
        self.first, self.second, self.third = (by_name[name] for name in placed["owners"])
        [self.stranger] = (by_name[name] for name in placed["fallbacks"])

    def trace(self, node: WireNode, *words: str, status: int = 0) -> Document:
        """What `dyn trace` says of a command at a node."""
        done = dyn("trace", "--json", *words, port=node.port)
        assert done.returncode == status, done.stderr
        document: Document = json.loads(done.stdout)
        return document


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traced]:
    """The nodes of this module, all well."""
    cluster = WireCluster(tmp_path_factory.mktemp("traced"), nodes=4, config=PATIENT)
    try:
        cluster.form()
        yield Traced(cluster)
    finally:
        cluster.dispose()


def parts(document: Document) -> dict[str, tuple[str, str | None]]:
    """The role of each node, and who asked it."""
    return {row["node"]: (row["role"], row["parent"]) for row in document["nodes"]}


def messages(document: Document, way: str) -> list[tuple[str, str, str]]:
    """What was sent (or received): the kind, from whom, to whom; in no order."""
    found = []
    for row in document["nodes"]:
        for turn in row["turns"]:
            for each in turn[way]:
                ends = (each["from"], row["node"]) if way == "received" else (row["node"], each["to"])
                found.append((each["message"], *ends))
    return sorted(found)


def assert_sound(document: Document) -> None:
    """What was received was sent, and times rise. The last answers may be under way yet."""
    assert not Counter(messages(document, "received")) - Counter(messages(document, "sent"))
    for row in document["nodes"]:
        for turn in row["turns"]:
            steps = [turn[name] for name in ("begun_us", "ended_us", "committed_us", "sent_us")]
            assert steps == sorted(steps) and row["offset_us"] >= 0


LINES = (
    "SET key v|GET key|APPEND key v|DEL key|HSET key f v|HGETALL key|DEL key|INCR key|DEL key|LPUSH key a b|LPOP key|"
    "ZADD {key}z 1 m|ZRANGE {key}z 0 1|XADD {key}x * f v|SADD {key}s m|PFADD {key}p a|SETBIT {key}b 7 1|SET {key}n v NX|"
    "GETDEL {key}n|EXPIRE {key}z 100|DUMP {key}z"
)


@pytest.mark.parametrize("line", LINES.split("|"))
def test_a_relayed_request_names_its_relay_its_coordinator_and_replicas(traced: Traced, line: str) -> None:
    document = traced.trace(traced.stranger, *line.split())
    relay, first = traced.stranger.name, traced.first.name
    found = parts(document)
    assert found.pop(relay) == ("relay", None) and found.pop(first) == ("coordinator", relay)
    replicas = {traced.second.name: ("replica", first), traced.third.name: ("replica", first)}
    assert found and found.items() <= replicas.items(), "a quorum needs one of them"
    assert document["without_trace"] == [] and document["command"] == line.split()[0]
    assert_sound(document)
    sent = messages(document, "sent")
    assert ("RELAY", relay, first) in sent and ("RELAYED", first, relay) in sent
    row = next(row for row in document["nodes"] if row["node"] == first)
    assert 0 <= row["offset_us"] <= document["took_us"]


def test_a_write_at_its_coordinator_is_stored_by_both_replicas(traced: Traced) -> None:
    document = traced.trace(traced.first, "SET", "key", "v")
    first, replicas = traced.first.name, sorted([traced.second.name, traced.third.name])
    assert messages(document, "sent") == sorted(
        [*[("STORE", first, name) for name in replicas], *[("STORED", name, first) for name in replicas]]
    )
    assert_sound(document)


def test_commands_that_are_refused_or_not_traced(traced: Traced) -> None:
    traced.trace(traced.first, "SET", "key", "v")
    document = traced.trace(traced.stranger, "SADD", "key", "m", status=1)
    assert document["reply"]["error"].startswith("WRONGTYPE") and len(document["nodes"]) >= 2
    for words in (("BLPOP", "q", "1"), ("EVAL", "return 1", "0"), ("PING", "x")):
        done = dyn("trace", *words, port=traced.first.port)
        assert done.returncode == 1 and b"only commands with keys are traced" in done.stderr


def test_frozen_and_dead_owners_are_told(traced: Traced) -> None:
    """Who was sent a message and noted nothing is told; and who keeps a hint for it."""
    third, stranger = traced.third, traced.stranger
    with third.frozen():
        document = traced.trace(traced.first, "SET", "key", "v", "PX", "100000")
        asked = {message[2] for message in messages(document, "sent")}
        missing = [each["node"] for each in document["without_trace"]]
        assert third.name not in parts(document)
        assert missing == ([third.name] if third.name in asked else [])
        assert all(each["why"] == "no answer" for each in document["without_trace"])
        assert document["reply"] == "OK" and traced.second.name in parts(document)
    third.kill()
    try:
        wait_for(lambda: traced.first.states()[third.name] == "down", "it is called down")
        document = traced.trace(traced.first, "SET", "key", "v")
    finally:
        third.start()
        traced.cluster.wait_healthy()
    assert parts(document)[stranger.name] == ("stand-in", traced.first.name)
    assert ("HINT", traced.first.name, stranger.name) in messages(document, "sent")
    assert document["without_trace"] == [] and third.name not in parts(document)
    assert_sound(document)
