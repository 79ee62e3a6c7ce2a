"""The log alone tells afterwards what happened: in order, with times, for which node, and by whom."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

import pytest
import redis

from tests.wire.cluster import PATIENT, Client, WireCluster, WireNode, wait_for
from tests.wire.repairs import wipe

MakeCluster = Callable[..., WireCluster]
_LINE = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}) (INFO|WARNING|ERROR|CRITICAL) (.*)")


class Line(NamedTuple):
    """A line of a node's log."""

    time: datetime
    node: str
    text: str


def _story(cluster: WireCluster) -> list[Line]:
    """The lines of all nodes in the order of their times."""
    lines = [
        Line(datetime.strptime(found[1], "%Y-%m-%d %H:%M:%S,%f"), node.name, found[3])
        for node in cluster.nodes
        for found in map(_LINE.fullmatch, node.log.splitlines())
        if found is not None
    ]
    return sorted(lines, key=lambda line: line.time)


class Reader:
    """Somebody who has the logs and nothing else. Each call of `reads` goes on where the one before has ended."""

    def __init__(self, lines: list[Line]) -> None:
        self._lines = lines
        self._place = 0

    def reads(self, node: str, pattern: str) -> re.Match[str]:
        """The next line of `node` that the pattern describes."""
        for place in range(self._place, len(self._lines)):
            line = self._lines[place]
            found = re.search(pattern, line.text) if line.node == node else None
            if found is not None:
                self._place = place
                return found
        rest = "\n".join(f"{line.time} {line.node} {line.text}" for line in self._lines[self._place :])
        raise AssertionError(f"the log of {node} does not tell of {pattern!r} here:\n{rest}")


def _tells(node: WireNode, pattern: str, times: int = 1) -> None:
    wait_for(lambda: len(re.findall(pattern, node.log)) >= times, f"{node.name} logs {pattern!r}", 240)


def _operator(node: WireNode) -> tuple[Client, str]:
    """An operator with a connection, and the address of it."""
    client = node.client(timeout_s=60, single_connection_client=True)
    return client, str(client.client_info()["addr"])


def _kill_and_return(n1: WireNode, n3: WireNode) -> None:
    n3.kill()
    _tells(n1, "node n3 is down")
    with n1.client(timeout_s=60) as client:
        for number in range(100):
            client.set(f"k{number}", b"v")
    _tells(n1, "this node keeps hints for node n3")
    n3.start()
    _tells(n1, "node n3 is up, after")
    _tells(n1, "no hints for node n3 are left")


def _repair(n1: WireNode) -> None:
    n1.document("DYN.REPAIR", "START")
    _tells(n1, "task repair-.* is done")


def _join(cluster: WireCluster) -> tuple[str, str]:
    """Node n4 joins. Two operators commit the same plan; the addresses of both."""
    n1, n2, _ = cluster.nodes
    n4 = cluster.add()
    (first, first_address), (second, second_address) = _operator(n1), _operator(n2)
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
    first.close()
    second.close()
    return first_address, second_address


def _wipe_and_refill(n1: WireNode, n2: WireNode) -> None:
    assert n2.stop() == 0
    _tells(n1, "node n2 is (suspect|down)")
    wipe(n2)
    n2.start()
    _tells(n2, "this node is whole")
    _tells(n1, "node n2 is up, after")


def _flush(n1: WireNode) -> str:
    client, address = _operator(n1)
    client.execute_command("FLUSHALL", "CONFIRM")
    _tells(n1, "FLUSHALL CONFIRM")
    client.close()
    return address


@pytest.mark.timeout(600)
def test_a_reader_of_the_logs_knows_what_happened(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(config=PATIENT)
    n1, n2, n3 = cluster.nodes
    _kill_and_return(n1, n3)
    _repair(n1)
    first, second = _join(cluster)
    _wipe_and_refill(n1, n2)
    third = _flush(n1)
    told = Reader(_story(cluster))
    told.reads("n1", "node n1 .* serves on")
    told.reads("n1", r"layout of epoch 1 \(settled, revision \d+\) with 3 nodes")
    assert told.reads("n1", "node n3 is (suspect|down): (.+)")[2], "and why"
    told.reads("n1", "node n3 is down")
    told.reads("n1", "this node keeps hints for node n3, which has not confirmed its writes")
    told.reads("n3", "node n3 .* serves on")
    told.reads("n1", r"node n3 is up, after \d+ s down")
    assert int(told.reads("n1", r"no hints for node n3 are left after \d+ s; there were up to (\d+)")[1]) > 0
    told.reads(
        "n1", r"task repair-\S+ is done: \d+ keys compared, \d+ repaired"
    )  # it may have begun in the same second
    told.reads("n4", "node n4 .* serves on")
    told.reads("n1", f"command of user 'default' at {first}: DYN.CLUSTER JOIN")
    told.reads("n2", "staged for the next layout: join of node n4 at ")
    told.reads("n1", f"command of user 'default' at {first}: DYN.CLUSTER COMMIT 2")
    told.reads("n2", r"layout of epoch 2 \(\w+, revision \d+\) with 4 nodes")
    told.reads("n2", f"command of user 'default' at {second} was refused: DYN.CLUSTER COMMIT 2: STALEPLAN")
    told.reads("n2", "node n4 is a member now, by the layout of epoch 2")
    told.reads("n2", "node n2 has stopped")
    told.reads("n1", "node n2 is (suspect|down)")
    told.reads("n2", "node n2 .* serves on")
    told.reads("n2", r"this node is whole: \d+ keys, \d+ fetched from the other owners")
    told.reads("n1", f"command of user 'default' at {third}: FLUSHALL CONFIRM")


def test_a_reader_notices_a_line_that_is_missing_or_out_of_order() -> None:
    at = datetime(2026, 1, 1)
    told = Reader([Line(at, "n1", "node n3 is down"), Line(at, "n2", "node n3 is up"), Line(at, "n1", "node n3 is up")])
    told.reads("n1", "node n3 is up")
    with pytest.raises(AssertionError, match="does not tell of 'node n3 is down'"):
        told.reads("n1", "node n3 is down")
