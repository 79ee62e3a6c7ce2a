"""DYN.SIBLINGS in a cluster: what both sides of a cut have written is listed, shown, decided; the rest is named."""

from __future__ import annotations

import json
from typing import Any

import pytest

from server.core.base.config import Config
from tests.sim.world import World


@pytest.fixture
def world() -> World:
    """Three nodes after a cut: both sides have written string `s`, and one a hash and the other a set under `m`."""
    world = World(4, 3, Config(scan_page_keys=7), w=1, r=1)
    world.start()
    world.run(3000)
    n1, n2, n3 = world.hosts
    for number in range(30):
        assert world.ask(n1, "SET", b"plain-%d" % number, "v").reply == b"OK"
    assert world.ask(n1, "HSET", "whole", "f", "1").reply == 1
    for other in (n2, n3):
        world.network.cut(n1.id, other.id)
        world.network.cut(other.id, n1.id)
    world.run(6000)
    for host, value, command in ((n1, b"one", b"HSET m f 1 g 2"), (n2, b"two", b"SADD m x")):
        assert world.ask(host, "SET", "s", value).reply == b"OK"
        assert not world.ask(host, *command.split()).error
        world.run(20)
    world.heal(within_ms=1000)
    assert world.run_until(60_000, lambda: world.at_peace() and not world.differences())
    return world


def ask(world: World, place: int, *words: str) -> dict[str, Any]:
    answer = world.ask(world.hosts[place], "DYN.SIBLINGS", *words)
    assert not answer.error, answer.error
    document: dict[str, Any] = json.loads(answer.reply)
    return document


def listed(world: World, place: int, *options: str) -> tuple[dict[str, Any], int, list[int]]:
    """All pages: the keys by name, how many were looked at, and the partitions that were not listed."""
    cursor, keys, examined, unlisted = 0, [], 0, []
    for _ in range(200):
        page = ask(world, place, "LIST", str(cursor), *options)
        keys += page["keys"]
        examined += page["examined"]
        unlisted += page["unlisted"]
        cursor = page["cursor"]
        if not cursor:
            return {each["key"]: each for each in keys}, examined, unlisted
    raise AssertionError("the list does not end")


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("options", [(), ("COUNT", "3"), ("COUNT", "1000", "MATCH", "*")])
def test_every_node_lists_what_is_to_be_decided(world: World, place: int, options: tuple[str, ...]) -> None:
    keys, examined, unlisted = listed(world, place, *options)
    assert sorted(keys) == ["m", "s"] and examined == 33 and unlisted == []
    assert keys["s"] | {"partition": 0} == {
        "key": "s", "type": "string", "siblings": 2, "deletions": 0, "hidden": {}, "partition": 0,
    }  # fmt: skip
    assert keys["m"]["type"] == "set" and keys["m"]["hidden"] == {"hash": 2} and keys["m"]["siblings"] == 0


def test_a_pattern_and_bad_options(world: World) -> None:
    assert sorted(listed(world, 0, "MATCH", "m*")[0]) == ["m"]
    for words in (("LIST", "0", "COUNT", "0"), ("LIST", "x"), ("LIST", "0", "FOO", "1"), ("LIST", "0", "COUNT")):
        assert world.ask(world.hosts[0], "DYN.SIBLINGS", *words).error.startswith("ERR ")


def test_partitions_without_a_quorum_are_named_and_the_rest_is_listed(world: World) -> None:
    world.hosts[1].kill()
    world.hosts[2].kill()
    world.run(8000)
    assert sorted(listed(world, 0)[0]) == ["m", "s"], "with R=1 one owner is enough"
    node = world.hosts[0].node
    assert node is not None
    node.state.read_quorum = 2
    keys, examined, unlisted = listed(world, 0)
    assert (keys, examined, unlisted) == ({}, 0, list(range(16)))


def test_the_list_goes_on_behind_what_cannot_be_read() -> None:
    world = World(5, 5)
    world.start()
    keys = [b"k%d" % number for number in range(60)]
    for key in keys:
        for value in ("one", "two"):
            assert not world.ask(world.hosts[0], "DYN.SET", key, value).error
    down = world.hosts[3:]
    for host in down:
        host.kill()
    world.run(8000)
    ids = [host.id for host in down]
    readable = {key for key in keys if len([each for each in world.owner_ids(key) if each not in ids]) >= 2}
    listable, examined, unlisted = listed(world, 0)
    assert (
        {key.encode() for key in listable} == readable and 0 < len(readable) < len(keys) and examined == len(readable)
    )
    layout = world.layout
    few = [p for p in range(16) if len([each for each in layout.readers(p) if each not in ids]) < 2]
    assert unlisted == few


def test_a_conflict_is_shown_and_decided(world: World) -> None:
    shown = ask(world, 0, "SHOW", "m")
    assert shown["conflict"] and shown["choices"] == ["set", "hash"] and shown["context"]
    assert "look at it again" not in world.ask(world.hosts[1], "SADD", "m", "y").error
    told = world.ask(world.hosts[2], "DYN.SIBLINGS", "RESOLVE", "m", "CONTEXT", shown["context"])
    assert "nothing to decide" in told.error, "the SADD had seen the hash, and superseded it"
    for place, key, words, kept in ((1, "s", (), "string"), (2, "plain-1", (), None)):
        if kept is None:
            assert "nothing to decide" in world.ask(world.hosts[place], "DYN.SIBLINGS", "RESOLVE", key, *words).error
        else:
            assert ask(world, place, "RESOLVE", key, *words)["kept"] == kept
    assert world.ask(world.hosts[0], "GET", "s").reply == b"two"
    world.run(1000)
    assert listed(world, 0)[0] == {} and not world.differences()
    assert ask(world, 1, "SHOW", "s")["conflict"] is False


def test_the_hidden_type_can_be_kept_and_a_stale_context_is_refused(world: World) -> None:
    shown = ask(world, 0, "SHOW", "m")
    wrong = world.ask(world.hosts[0], "DYN.SIBLINGS", "RESOLVE", "m", "KEEP", "zset")
    assert "nothing of type zset" in wrong.error and "KEEP one of set, hash" in wrong.error
    assert "KEEP takes" in world.ask(world.hosts[0], "DYN.SIBLINGS", "RESOLVE", "m", "KEEP", "tree").error
    other = ask(world, 0, "SHOW", "s")
    assert world.ask(world.hosts[0], "DYN.SIBLINGS", "RESOLVE", "m", "CONTEXT", other["context"]).error.startswith(
        "BADCONTEXT"
    )
    assert ask(world, 2, "RESOLVE", "m", "KEEP", "hash", "CONTEXT", shown["context"])["kept"] == "hash"
    world.run(1000)
    for host in world.hosts:
        assert world.ask(host, "HGETALL", "m").reply == [b"f", b"1", b"g", b"2"]
    assert world.ask(world.hosts[0], "DYN.SET", "s", "three").reply[1] >= 1
    stale = world.ask(world.hosts[1], "DYN.SIBLINGS", "RESOLVE", "s", "CONTEXT", other["context"])
    assert "was written after this context was read" in stale.error
