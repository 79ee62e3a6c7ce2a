"""A frozen node keeps its links and answers nothing. Commands that ask all nodes do without it, and say what they lack."""

from __future__ import annotations

import json
from typing import Any

import pytest

from server.core.commands.pages import HASH_BITS
from server.core.work.questions import READ_PATIENCE_MS, REPORT_PATIENCE_MS
from tests.scripting.nodes import run_lua
from tests.sim.filled import fill
from tests.sim.host import Host
from tests.sim.world import World, encode

KEYS = [b"k%d" % number for number in range(30)]
TICK_MS = 100  # patience is looked at once a tick
QUICK_MS = 40  # a few round trips of the simulator
SUSPECT_MS = 3000  # by then everybody believes a frozen node suspect
SHA = "0123456789abcdef0123456789abcdef01234567"
READS: tuple[tuple[str, Any], ...] = (
    ("SCAN 0 COUNT 100", None),
    ("KEYS *", None),
    ("DBSIZE", len(KEYS)),
    ("RANDOMKEY", None),
    ("DYN.SIBLINGS LIST", None),
    (f"SCRIPT EXISTS {SHA}", [0]),
    (f"EVALSHA {SHA} 0", "NOSCRIPT No matching script. Please use EVAL."),
    ("PUBSUB CHANNELS", []),
    ("PUBSUB NUMSUB ch", ["ch", 0]),
    ("PUBSUB NUMPAT", 0),
    ("PUBSUB SHARDCHANNELS", []),
)
REPORTS: tuple[tuple[str, Any], ...] = (
    ("DYN.CLUSTER STATUS", None),
    ("DYN.CLUSTER WEIGHT n1 50", None),
    ("DYN.CLUSTER PLAN", None),
    ("DYN.HINTS LIST", None),
    ("DYN.TASK LIST", {"tasks": [], "unanswered": ["n3"]}),
    ("DYN.TASK SHOW t9", "ERR no such task on any node that answers: t9 (n3 did not answer)"),
    ("DYN.TASK PAUSE", "ERR no reachable node runs a transfer"),
    ("SCRIPT FLUSH", "OK"),
    ("FUNCTION FLUSH", "OK"),
    ("ACL SETUSER app on >pw +get", "OK"),
    ("ACL DELUSER app", None),
)


def _frozen(after_ms: int = 0) -> tuple[World, Host]:
    """Three nodes, n3 frozen, and n1, which is asked."""
    world = fill(World(3, 3), KEYS)
    world.hosts[2].freeze()
    world.run(after_ms)
    return world, world.hosts[0]


def _ask(world: World, host: Host, line: str) -> tuple[Any, int]:
    """The reply, read from JSON if it is that, and how long it took."""
    operation = world.ask(host, *line.split())
    reply = operation.reply
    if isinstance(reply, bytes):
        reply = json.loads(reply) if reply[:1] == b"{" else reply.decode()
    if isinstance(reply, list):
        reply = [each.decode() if isinstance(each, bytes) else each for each in reply]
    return reply if not isinstance(reply, Exception) else str(reply), operation.answered_ms - operation.invoked_ms


@pytest.mark.parametrize(
    ("line", "expected", "within_ms"),
    [(*each, READ_PATIENCE_MS + TICK_MS + QUICK_MS) for each in READS]
    + [(*each, REPORT_PATIENCE_MS + TICK_MS + QUICK_MS) for each in REPORTS],
)
def test_a_command_right_behind_the_freeze_waits_for_its_patience(line: str, expected: Any, within_ms: int) -> None:
    world, n1 = _frozen()
    reply, took_ms = _ask(world, n1, line)
    assert expected is None or reply == expected
    assert took_ms <= within_ms
    assert not (isinstance(reply, str) and "NOQUORUM" in reply)


def test_nobody_waits_for_a_node_that_is_believed_suspect() -> None:
    world, n1 = _frozen(SUSPECT_MS)
    for line, expected in (*READS, *REPORTS):
        reply, took_ms = _ask(world, n1, line)
        assert expected is None or reply == expected, line
        assert took_ms <= QUICK_MS, line


def test_only_the_first_command_waits_until_the_node_answers_again() -> None:
    world, n1 = _frozen()
    assert _ask(world, n1, "DBSIZE")[1] >= READ_PATIENCE_MS
    for line, _ in (*READS, *REPORTS):
        assert _ask(world, n1, line)[1] <= QUICK_MS, line
    world.hosts[2].thaw()
    world.run(2000)
    reply, took_ms = _ask(world, n1, "DYN.TASK LIST")
    assert reply == {"tasks": []} and took_ms <= QUICK_MS


def test_a_node_that_becomes_suspect_ends_the_wait() -> None:
    """It was silent for most of the time already."""
    world, n1 = _frozen(1200)
    assert n1.running.state.liveness.is_live(world.hosts[2].id)
    assert _ask(world, n1, "DYN.CLUSTER STATUS")[1] < REPORT_PATIENCE_MS // 2


def test_a_scan_finds_all_keys_without_the_frozen_node() -> None:
    world, n1 = _frozen()
    found: list[str] = []
    cursor = "0"
    while True:
        [cursor, keys] = _ask(world, n1, f"SCAN {cursor} COUNT 5")[0]
        found += [key.decode() for key in keys]
        if cursor == "0":
            break
    assert sorted(found) == sorted(key.decode() for key in KEYS)
    assert len(_ask(world, n1, "KEYS *")[0]) == len(KEYS)


def test_a_status_says_who_has_not_answered_so_far() -> None:
    world, n1 = _frozen()
    document = _ask(world, n1, "DYN.CLUSTER STATUS")[0]
    n3 = document["nodes"][2]
    assert (n3["state"], n3["keys"], n3["hints_held"]) == ("up", None, None)
    assert "n3: no answer yet, so nothing is told of what it holds" in document["summary"]
    world.run(SUSPECT_MS)
    document = _ask(world, n1, "DYN.CLUSTER STATUS")[0]
    assert document["verdict"] == "degraded" and "no answer yet" not in document["summary"]
    assert _ask(world, n1, "DYN.HINTS LIST")[0]["unanswered"] == ["n3"]


def test_a_change_of_w_names_the_node_that_hangs() -> None:
    world, n1 = _frozen(SUSPECT_MS)
    _ask(world, n1, "DYN.CLUSTER QUORUM W 3")
    digest = _ask(world, n1, "DYN.CLUSTER PLAN")[0]["digest"]
    reply, took_ms = _ask(world, n1, f"DYN.CLUSTER COMMIT 2 PLAN {digest}")
    assert "n3 did not say so" in reply and took_ms <= QUICK_MS


@pytest.mark.parametrize("line", ["DBSIZE", "KEYS *", "SCAN 0 COUNT 1000"])
def test_while_there_is_no_quorum_the_late_ones_are_waited_for(line: str) -> None:
    """Even longer than the patience: an error would be no better."""
    world, n1 = _frozen()
    n2 = world.hosts[1]
    n2.freeze()
    operation = world.client(n1).send(line.encode().split())[0]
    world.run(600)
    assert not operation.answered
    n2.thaw()
    world.run(QUICK_MS)
    assert operation.answered
    reply: Any = operation.reply
    found = reply if line == "DBSIZE" else len(reply[1] if line.startswith("SCAN") else reply)
    assert found == len(KEYS)


def test_the_same_for_keys_that_the_asked_node_does_not_own() -> None:
    world = fill(World(3, 4), KEYS)
    n1, _, n3, n4 = world.hosts
    layout = n1.running.state.layout
    assert layout is not None
    place = next(layout.slot_range(each)[0] for each in range(layout.partitions) if n1.id not in layout.readers(each))
    n3.freeze()
    n4.freeze()
    operation = world.client(n1).send([b"SCAN", b"%d" % (place << HASH_BITS), b"COUNT", b"1"])[0]
    world.run(600)
    assert not operation.answered
    n3.thaw()
    world.run(QUICK_MS)
    assert isinstance(operation.reply, list)


@pytest.mark.parametrize("quiet_ms", [300, 900])
def test_a_coordinator_waits_for_the_script_from_the_node_that_knows_it(quiet_ms: int) -> None:
    """A client that has loaded its script, and hears NOSCRIPT all the same, cannot mend that."""
    world = fill(World(3, 3), KEYS)
    n1, n2 = world.hosts[:2]
    for host in world.hosts:
        run_lua(host.running)
    key = world.key_of(n2)
    loaded = world.ask(n1, "SCRIPT", "LOAD", "return redis.call('incr', KEYS[1])").reply
    assert isinstance(loaded, bytes)
    called = world.client(n1).send(encode(["EVALSHA", loaded, "1", key]))[0]
    while not n2.running.services.questions._rows:
        world.run(1)
    n1.freeze()
    world.run(quiet_ms)
    n1.thaw()
    world.run(1000)
    assert called.reply == 1
