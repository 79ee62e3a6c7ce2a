"""No turn is long while layouts are computed, however large the cluster is (Q=1024, 30 nodes).

Work is counted in function calls, which do not depend on how busy the machine is. The longest turn makes 47,000 calls: it
decodes a layout and computes all routes. Uncompiled it takes 10 to 13 ms of CPU, and 21 to 24 ms if the garbage collector
runs a full collection in it (2 of 11 runs, on a machine with a load of 24). The same computations in one turn make millions
of calls (`test_what_is_counted_is_worth_cutting`).
"""

from __future__ import annotations

import cProfile
import json
import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from server.core.node import Node
from server.core.outbox import Outbox
from server.core.ring.assignment import assign
from server.core.ring.change import JOIN, LEAVE, WEIGHT, Change
from server.core.ring.layout import Layout, Member
from server.core.ring.merging import merge
from server.core.ring.succession import commit, hand_over
from server.storage.memory import MemoryEngine
from tests.core.commands.talking import CONFIG, WALL_MS, go_by_own_clock

PARTITIONS, NODES = 1024, 30
CALLS_MAX = 50_000


def member(number: int) -> Member:
    return Member(f"{number * 7919 % 1000:040d}", f"n{number}", f"10.0.0.{number}:7001", f"z{number % 3}", 1)


MEMBERS = tuple(sorted([member(number) for number in range(NODES)], key=lambda each: each.id))


def join(number: int) -> Change:
    new = member(number)
    return Change(f"join-{number}", JOIN, new.id, name=new.name, address=new.address, zone=new.zone, weight=1)


@pytest.fixture(scope="module")
def present() -> Layout:
    return Layout("c", 1, PARTITIONS, 3, 2, 2, MEMBERS, assign(MEMBERS, PARTITIONS, 3))


class Machine:
    """A node, and the most function calls that one of its turns has made."""

    def __init__(self, layout: Layout | None = None) -> None:
        self.engine = MemoryEngine()
        config = replace(CONFIG, request_timeout_ms=60_000)
        self.node = Node(MEMBERS[0], b"actor--1", 1, config, self.engine, random.Random(1), WALL_MS)
        self.now_ms = self._ticked_ms = 1000
        self.calls_max = self.calls = 0
        self.node.tick(self.now_ms, WALL_MS)
        self.turn(lambda: None)
        if layout is not None:
            self.node.services.membership.offer(layout)
            self.run(1000)
            go_by_own_clock(self.node)
        self.calls_max = self.calls = 0

    def turn(self, action: Callable[[], object]) -> Outbox:
        """One turn, in which `action` happens."""
        profile = cProfile.Profile()
        profile.enable()
        try:
            action()
            outbox = self.node.end_turn()
        finally:
            profile.disable()
        calls = sum(entry.callcount for entry in profile.getstats())
        self.calls_max, self.calls = max(self.calls_max, calls), self.calls + calls
        self.engine.commit(outbox.writes)
        return outbox

    def run(self, duration_ms: int, until: Callable[[], bool] = lambda: False) -> None:
        """Time passes: a turn whenever something is due."""
        end_ms = self.now_ms + duration_ms
        while self.now_ms < end_ms and not until():
            self.step()

    def step(self) -> Outbox:
        """The next turn in which something is due."""
        due_ms = self.node.next_deadline_ms()
        assert due_ms is not None
        self.now_ms = max(self.now_ms + 1, due_ms)
        if self.now_ms >= self._ticked_ms + self.node.state.config.tick_ms:
            self._ticked_ms = self.now_ms
            return self.turn(lambda: self.node.tick(self.now_ms, WALL_MS + self.now_ms))
        return self.turn(lambda: self.node.wake(self.now_ms))

    def ask(self, *args: bytes) -> dict[str, object]:
        """The document that a command answers."""
        session = self.node.open_session("10.0.9.9:1", "10.0.0.1:7001", self.now_ms)
        outbox = self.turn(lambda: self.node.command(session, list(args), self.now_ms))
        while not (replies := [data for whose, data in outbox.replies if whose is session and isinstance(data, bytes)]):
            outbox = self.step()
        assert replies[0][:1] == b"$", replies
        document: dict[str, object] = json.loads(replies[0].split(b"\r\n", 1)[1])
        return document

    def hear(self, layout: Layout, until: Callable[[], bool]) -> None:
        """Another member sends its layout."""
        message = [b"LAYOUT", b"0", b"0", layout.encode()]
        self.turn(lambda: self.node.receive(MEMBERS[1].id, message, self.now_ms))
        self.run(60_000, until)


def calls_of(action: Callable[[], object]) -> int:
    profile = cProfile.Profile()
    profile.enable()
    action()
    profile.disable()
    return sum(entry.callcount for entry in profile.getstats())


def test_what_is_counted_is_worth_cutting(present: Layout) -> None:
    assert calls_of(lambda: commit(present, [join(30)])) > 4 * CALLS_MAX


def test_a_plan_and_its_commit_take_many_short_turns_and_compute_once(present: Layout) -> None:
    machine = Machine(present)
    machine.node.services.staging.stage(
        present, JOIN, member(30).id, name="n30", address="10.0.0.30:7001", zone="z0", weight=1
    )
    plan = machine.ask(b"DYN.CLUSTER", b"PLAN")
    planned, machine.calls = machine.calls, 0
    [staged] = machine.node.services.staging.changes()
    document = machine.ask(b"DYN.CLUSTER", b"COMMIT", b"2")
    assert document == {"epoch": 2, "changes": 1}
    layout = machine.node.state.layout
    assert layout is not None
    assert layout == commit(present, [staged])
    moves = plan["moves"]
    assert isinstance(moves, list)
    moved = sum(member(30).id in owners for owners in layout.owners)
    assert sum(move["partitions"] for move in moves) == moved > 0, "what the plan has shown"
    assert machine.calls_max < CALLS_MAX, machine.calls_max
    assert machine.calls < planned / 2, "computed anew"


def test_a_commit_without_a_plan_takes_many_short_turns(present: Layout) -> None:
    machine = Machine(present)
    machine.node.services.staging.stage(present, LEAVE, MEMBERS[5].id)
    [staged] = machine.node.services.staging.changes()
    machine.ask(b"DYN.CLUSTER", b"COMMIT", b"2")
    assert machine.node.state.layout == commit(present, [staged])
    assert machine.calls_max < CALLS_MAX, machine.calls_max


def test_layouts_are_merged_and_adopted_in_short_turns(present: Layout) -> None:
    ours = commit(present, [join(30)])
    theirs = commit(present, [Change("w", WEIGHT, MEMBERS[3].id, weight=3), Change("l", LEAVE, MEMBERS[7].id)])
    both = merge(ours, theirs)
    machine = Machine(ours)
    machine.hear(theirs, lambda: machine.node.state.layout == both)
    assert machine.node.state.layout == both
    settled = hand_over(both)
    machine.hear(settled, lambda: machine.node.state.layout == settled)
    assert machine.node.state.layout == settled
    assert machine.calls_max < CALLS_MAX, machine.calls_max


def test_a_layout_that_comes_while_another_one_is_merged_is_not_lost(present: Layout) -> None:
    ours = commit(present, [join(30)])
    theirs = commit(present, [Change("w", WEIGHT, MEMBERS[3].id, weight=3)])
    later = replace(ours, revision=ours.revision + 1, progress=1, phase="handover")
    machine = Machine(ours)
    for layout in (theirs, later):
        machine.node.receive(MEMBERS[1].id, [b"LAYOUT", b"0", b"0", layout.encode()], machine.now_ms)
    machine.node.services.membership.publish(later)  # adopted amid the merging
    wanted = merge(later, theirs)
    machine.run(60_000, lambda: machine.node.state.layout == wanted)
    assert machine.node.state.layout == wanted


def test_the_first_layout_is_made_in_short_turns() -> None:
    machine = Machine()
    fields = ("id", "name", "address", "zone", "weight")
    wish = {"partitions": PARTITIONS, "n": 3, "r": 2, "w": 2,
            "members": [{field: getattr(each, field) for field in fields} for each in MEMBERS]}  # fmt: skip
    machine.ask(b"DYN.CLUSTER", b"INIT", json.dumps(wish).encode())
    layout = machine.node.state.layout
    assert layout is not None
    assert layout.owners == assign(MEMBERS, PARTITIONS, 3)
    assert machine.calls_max < CALLS_MAX, machine.calls_max


def test_a_commit_is_refused_if_what_is_staged_has_changed_meanwhile(present: Layout) -> None:
    machine = Machine(present)
    machine.node.services.staging.stage(present, LEAVE, MEMBERS[5].id)
    session = machine.node.open_session("10.0.9.9:1", "10.0.0.1:7001", machine.now_ms)
    machine.turn(lambda: machine.node.command(session, [b"DYN.CLUSTER", b"COMMIT", b"2"], machine.now_ms))
    assert session.in_flight
    machine.node.services.staging.stage(present, LEAVE, MEMBERS[6].id)
    replies: list[bytes] = []
    while not replies:
        outbox = machine.step()
        replies = [data for whose, data in outbox.replies if whose is session and isinstance(data, bytes)]
    assert replies[0].startswith(b"-STALEPLAN what is staged has changed meanwhile")
    assert machine.node.state.layout == present
