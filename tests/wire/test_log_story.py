"""The logs alone tell afterwards what happened: in order, with times, for which node, and by whom.

Each step of a scenario is played to its end, and notes when it began and ended, and what a reader has to know of it. A
reader who has nothing but the logs (log_reader.py) must then tell the same, of the same times; and must not, once the lines
of any one kind are missing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import pytest
import redis

from tests.wire.cluster import PATIENT, Client, WireCluster, WireNode, wait_for
from tests.wire.log_reader import PATTERNS, Fact, Line, facts_of, lines_of
from tests.wire.repairs import wipe

Chains = list[list[str]]  # facts as patterns; those of one chain in this order, chains beside each other


class Step(NamedTuple):
    """A part of the scenario."""

    name: str
    begun: datetime
    ended: datetime
    chains: Chains


def _tells(node: WireNode, pattern: str, times: int = 1) -> None:
    wait_for(lambda: len(re.findall(pattern, node.log)) >= times, f"{node.name} logs {pattern!r}", 240)


def _operator(node: WireNode) -> tuple[Client, str]:
    """An operator with a connection, and who that is in the log."""
    client = node.client(timeout_s=60, single_connection_client=True)
    return client, re.escape(f"user 'default' at {client.client_info()['addr']}")


def _form(cluster: WireCluster) -> Chains:
    cluster.form()
    settled = ["layout 1 of 3 nodes: settled"]
    return [
        ["n1 starts", "user 'default' at .* orders at n1: DYN.CLUSTER INIT", *settled],
        ["n2 starts"],
        ["n3 starts"],
    ]


def _kill(cluster: WireCluster) -> Chains:
    n1, n2, n3 = cluster.nodes
    n3.kill()
    for node in (n1, n2):
        _tells(node, "node n3 is down")
    with n1.client(timeout_s=60) as client:
        for number in range(100):
            client.set(f"k{number}", b"v")
    _tells(n1, "this node keeps hints for node n3")
    return [["n3 is gone: .+", "hints are kept for n3"]]


def _return(cluster: WireCluster) -> Chains:
    n1, n2, n3 = cluster.nodes
    n3.start()
    for node in (n1, n2):
        _tells(node, "node n3 is up, after")
    for node in (n1, n2):
        _tells(node, "no hints for node n3 are left", len(re.findall("this node keeps hints for node n3", node.log)))
    return [["n3 starts", "n3 is back"], ["n3 has got all its hints"]]


def _repair(cluster: WireCluster) -> Chains:
    n1 = cluster.nodes[0]
    client, who = _operator(n1)
    client.execute_command("DYN.REPAIR", "START")
    client.close()
    _tells(n1, "task repair-.* is done")
    said = [f"{who} orders at n1: DYN.REPAIR START", "repair begins: 128 partitions"]
    return [[*said, r"repair is done: \d+ keys compared, \d+ repaired"]]


def _join(cluster: WireCluster) -> Chains:
    """Node n4 joins. Two operators commit the same plan."""
    n1, n2, _ = cluster.nodes
    n4 = cluster.add()
    (first, one), (second, two) = _operator(n1), _operator(n2)
    first.execute_command("DYN.CLUSTER", "JOIN", json.dumps(n4.document("DYN.CLUSTER", "MYSELF")))
    _tells(n2, "staged for the next layout: join of node n4")
    first.execute_command("DYN.CLUSTER", "COMMIT", 2)
    _tells(n2, "layout of epoch 2")
    with pytest.raises(redis.ResponseError, match="STALEPLAN"):
        second.execute_command("DYN.CLUSTER", "COMMIT", 2)
    _tells(n2, "was refused")
    _tells(n2, "node n4 is a member now")
    cluster.wait_healthy()
    for node in cluster.nodes:
        _tells(node, r"layout of epoch 2 \(settled")
    _tells(n4, "task transfer-.* is done")
    first.close()
    second.close()
    phases = [f"layout 2 of 4 nodes: {phase}" for phase in ("transfer", "handover", "settled")]
    return [
        ["n4 starts", f"{one} orders at n1: DYN.CLUSTER JOIN", f"{one} orders at n1: DYN.CLUSTER COMMIT 2", *phases],
        [f"{one} orders at n1: DYN.CLUSTER COMMIT 2", f"{two} is refused at n2: DYN.CLUSTER COMMIT 2: STALEPLAN"],
        ["staged: join of node n4", "n4 is a member by layout 2"],
        [r"transfer begins: \d+ partitions", r"transfer is done: \d+ keys compared, \d+ repaired"],
    ]


def _wipe(cluster: WireCluster) -> Chains:
    n2 = cluster.nodes[1]
    assert n2.stop() == 0
    for node in cluster.nodes:
        if node is not n2:
            _tells(node, "node n2 is (suspect|down)")
    wipe(n2)
    return [["n2 stops", "n2 is gone: .+"]]


def _refill(cluster: WireCluster) -> Chains:
    n2 = cluster.nodes[1]
    n2.start()
    _tells(n2, "this node is whole")
    for node in cluster.nodes:
        if node is not n2:
            _tells(node, "node n2 is up, after")
    return [["n2 starts", "n2 is back"], ["n2 has lost its data", r"n2 has its data again: \d+ keys"]]


def _flush(cluster: WireCluster) -> Chains:
    client, who = _operator(cluster.nodes[0])
    client.execute_command("FLUSHALL", "CONFIRM")
    client.close()
    _tells(cluster.nodes[0], "FLUSHALL CONFIRM")
    return [[f"{who} orders at n1: FLUSHALL CONFIRM"]]


SCENARIO = (_form, _kill, _return, _repair, _join, _wipe, _refill, _flush)


def _untold(steps: Sequence[Step], facts: Sequence[Fact]) -> list[str]:
    """What the reader did not learn, or not in this order, or of another time; and what nobody did."""
    wrong = []
    for step in steps:
        told = [fact.text for fact in facts if step.begun <= fact.time <= step.ended]
        for chain in step.chains:
            place = 0
            for pattern in chain:
                found = next((at for at in range(place, len(told)) if re.fullmatch(pattern, told[at])), None)
                place = place if found is None else found + 1
                wrong += [f"{step.name}: {pattern}"] if found is None else []
        known = [pattern for chain in step.chains for pattern in chain]
        others = [text for text in told if not any(re.fullmatch(pattern, text) for pattern in known)]
        wrong += [
            f"{step.name}: nobody did this: {text}" for text in others if re.search(" (orders|refused) at ", text)
        ]
    return wrong


@pytest.mark.timeout(600)
def test_a_reader_of_the_logs_knows_what_happened(tmp_path: Path) -> None:
    cluster = WireCluster(tmp_path / "cluster", config=PATIENT)
    steps = []
    try:
        for play in SCENARIO:
            begun = datetime.now()
            chains = play(cluster)
            steps.append(Step(play.__name__.strip("_"), begun, datetime.now(), chains))
    finally:
        cluster.dispose()
    cluster.assert_logs_clean()
    lines = lines_of({node.name: node.log for node in cluster.nodes})
    shown = "\n".join([f"{line.time} {line.node} {line.text}" for line in lines])
    assert _untold(steps, facts_of(lines)) == [], shown
    for pattern in PATTERNS:
        rest = [line for line in lines if not re.match(pattern, line.text)]
        assert len(rest) < len(lines) and _untold(steps, facts_of(rest)), f"nobody misses lines like {pattern!r}"
    reversed_steps = [step._replace(chains=[chain[::-1] for chain in step.chains]) for step in steps]
    assert len(_untold(reversed_steps, facts_of(lines))) >= 8, "the order matters"


def test_a_reader_gives_each_fact_the_time_at_which_it_was_told_first() -> None:
    def at(second: int, node: str, text: str) -> Line:
        return Line(datetime(2026, 1, 1, 0, 0, second), node, text)

    facts = facts_of([
        at(1, "n2", "node n3 is suspect: nothing listens there: connection refused, after 9 s up"),
        at(2, "n1", "node n3 is down: nothing listens there: connection refused"),
        at(3, "n2", "node n3 is up, after 2 s suspect"),
        at(4, "n1", "node n3 is up, after 2 s down"),
        at(5, "n1", "node n3 is down: stopped"),
    ])  # fmt: skip
    assert [(fact.time.second, fact.text) for fact in facts] == [
        (1, "n3 is gone: nothing listens there: connection refused"), (4, "n3 is back"), (5, "n3 is gone: stopped"),
    ]  # fmt: skip
