"""What a node's log tells of its cluster: each change once, with its reason and how long it lasted."""

from __future__ import annotations

import json
import logging

import pytest

from server.core.messages.questions import TaskQuery
from server.core.node import Node
from server.core.ring.change import READ_QUORUM, REPLICA_COUNT, WEIGHT
from server.shell.cluster_events import LATE_MS, START_MS, ClusterEvents
from tests.core.commands.talking import Client, make_node, reach


class Told:
    """A node of three, and the lines of its events."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, "dyn")
        self._caplog = caplog
        self.node: Node = make_node(3)
        reach(self.node, 2)
        reach(self.node, 3)
        self.node.state.is_filling = False  # it holds nothing because nothing was written
        self.events = ClusterEvents(self.node.services)
        assert self.lines(0) == [], "all is well: no news"

    def lines(self, now_ms: int, lag_ms: int = 0) -> list[str]:
        """The lines of this moment."""
        self._caplog.clear()
        self.events.tell(now_ms, lag_ms)
        return [f"{record.levelname} {record.getMessage()}" for record in self._caplog.records]

    def id_of(self, name: str) -> str:
        layout = self.node.state.layout
        assert layout is not None
        return next(member.id for member in layout.members if member.name == name)


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Told:
    return Told(caplog)


def test_a_peer_that_goes_and_comes_back(told: Told) -> None:
    state, peer = told.node.state, told.id_of("n2")
    state.liveness.request_failed(peer, state.now_ms)
    first = told.lines(1000)
    assert len(first) == 1 and first[0].startswith("WARNING node n2 is suspect") and first[0].endswith(", after 1 s up")
    assert told.lines(2000) == [], "told once"
    state.liveness.message_received(peer, state.now_ms)
    assert told.lines(31_000) == ["INFO node n2 is up, after 30 s suspect"]


def test_a_reason_that_changes_is_told(told: Told) -> None:
    state, peer = told.node.state, told.id_of("n2")
    state.liveness.request_failed(peer, state.now_ms)
    told.lines(1000)
    state.links.discard(peer)
    assert told.lines(2000) == ["WARNING node n2 is suspect: there is no connection with it"]
    told.node.services.addresses.troubles[peer] = ("stopped", "its process does not run")
    assert told.lines(3000) == ["WARNING node n2 is suspect: its process does not run"]


def test_a_peer_that_was_never_up_is_down_since_it_was_met(told: Told) -> None:
    node = make_node(3)
    events = ClusterEvents(node.services)
    told.node, told.events = node, events
    assert told.lines(1000) == []
    assert [line.partition(":")[0] for line in told.lines(1000 + START_MS)] == [
        "WARNING node n2 is down", "WARNING node n3 is down",
    ]  # fmt: skip
    node.state.liveness.message_received(told.id_of("n2"), node.state.now_ms)
    assert told.lines(31_000) == ["INFO node n2 is up, after 30 s down"]


def test_a_task_that_ends_in_the_second_in_which_it_begins_is_told_of_twice(told: Told) -> None:
    name = json.loads(Client(told.node).ask("DYN.REPAIR START"))["task"]
    told.node.services.tasks.answer_tasks(TaskQuery(name, True))
    assert told.lines(1000) == [
        f"INFO task {name} has begun: 16 partitions", f"WARNING task {name} is aborted: 0 keys compared, 0 repaired",
    ]  # fmt: skip


def test_hints_begin_and_end(told: Told) -> None:
    state, peer = told.node.state, told.id_of("n3")
    state.hints.keep(peer, [b"a", b"b"], state.wall_ms, 0, False)
    assert told.lines(1000) == ["WARNING this node keeps hints for node n3, which has not confirmed its writes"]
    state.hints.confirm(peer, b"a", 0)
    assert told.lines(2000) == []
    state.hints.confirm(peer, b"b", 0)
    assert told.lines(9000) == ["INFO no hints for node n3 are left after 8 s; there were up to 2"]


def test_repairs_begin_and_end(told: Told) -> None:
    Client(told.node).raw("DYN.REPAIR START")
    begun = told.lines(1000)
    assert (
        len(begun) == 1 and begun[0].startswith("INFO task repair-") and begun[0].endswith(" has begun: 16 partitions")
    )
    name = begun[0].split()[2]
    told.node.services.tasks.answer_tasks(TaskQuery(name, True))
    assert told.lines(2000) == [f"WARNING task {name} is aborted: 0 keys compared, 0 repaired"]
    assert told.lines(3000) == []


def test_anti_entropy_is_told_if_it_has_found_something(told: Told) -> None:
    counted = told.node.state.statistics
    counted.trees_compared = 3
    assert told.lines(1000) == []
    counted.trees_compared, counted.keys_repaired = 5, 12
    assert told.lines(2000) == ["INFO anti-entropy has repaired 12 keys in 2 comparisons with other owners"]


def test_a_late_loop_is_told(told: Told) -> None:
    assert told.lines(1000, LATE_MS - 1) == []
    assert told.lines(2000, LATE_MS)[0].startswith(f"WARNING the event loop was late by {LATE_MS} ms")
    assert not told.node.services.latencies.monitor.events, "there is no threshold"
    Client(told.node).raw("CONFIG SET latency-monitor-threshold 300")
    told.lines(3000, 299)
    told.lines(4000, 300)
    assert told.node.services.latencies.monitor.events["event-loop"].worst_ms == 300


def test_a_node_that_starts_tells_of_absent_peers_after_a_while(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "dyn")
    node = make_node(3)
    reach(node, 2)
    events = ClusterEvents(node.services)
    for now_ms in (1000, 1000 + START_MS - 1):
        events.tell(now_ms, 0)
        assert not caplog.records
    events.tell(1000 + START_MS, 0)
    assert [record.getMessage().split(":")[0] for record in caplog.records] == ["node n3 is down"]


def test_what_a_task_repairs_is_not_told_twice(told: Told) -> None:
    Client(told.node).raw("DYN.REPAIR START")
    told.lines(1000)
    counted = told.node.state.statistics
    counted.trees_compared, counted.keys_repaired = 5, 12
    assert told.lines(2000) == []


def test_a_peer_without_room_and_hints_without_room(told: Told) -> None:
    state, peer = told.node.state, told.id_of("n2")
    state.full[peer] = 1
    state.hints.dropped_hints[peer] = 1
    lines = told.lines(1000)
    assert lines[0] == "WARNING node n2 takes no writes: its disk is full"
    assert lines[1].startswith("WARNING there is no room for more hints for node n2")
    assert told.lines(2000) == [], "told once"
    state.full.pop(peer)
    assert told.lines(3000) == ["INFO node n2 takes writes again"]


def test_what_operators_stage_and_take_back(told: Told) -> None:
    staging, layout = told.node.services.staging, told.node.state.layout
    assert layout is not None
    staging.stage(layout, WEIGHT, told.id_of("n2"), weight=3)
    assert told.lines(1000) == ["INFO staged for the next layout: weight of node n2"]
    staging.abort(layout)
    assert told.lines(2000) == ["INFO no longer staged, since it was aborted: weight of node n2"]


def test_a_staged_quorum_is_told_by_its_letter_and_what_it_supersedes(told: Told) -> None:
    staging, layout = told.node.services.staging, told.node.state.layout
    assert layout is not None
    staging.stage(layout, READ_QUORUM, "", weight=3)
    staging.stage(layout, WEIGHT, told.id_of("n2"), weight=3)
    assert told.lines(1000) == [
        "INFO staged for the next layout: R = 3",
        "INFO staged for the next layout: weight of node n2",
    ]
    staging.stage_all(layout, [(REPLICA_COUNT, "", {"weight": 3}), (READ_QUORUM, "", {"weight": 2})])
    assert told.lines(2000) == [
        "INFO staged for the next layout: N = 3",
        "INFO staged for the next layout: R = 2",
        "INFO no longer staged, since it was superseded by a later change: R = 3",
    ]
    staging.abort(layout)
    assert told.lines(3000) == ["INFO no longer staged, since it was aborted: weight of node n2, N = 3, R = 2"]
