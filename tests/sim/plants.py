"""Bugs on purpose: each breaks one promise, and its checker has to find it. A checker that finds nothing proves nothing.

A plant is a function that patches the core, or the shell's part of the simulator, by `patch(owner, name, replacement)`.
Its profile makes the weather in which the bug shows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from protocol.resp import OK
from server.core import dispatch
from server.core.base.clock import HybridClock
from server.core.base.config import Config
from server.core.base.quorum import Tally, Verdict
from server.core.base.sinks import Session
from server.core.chains import Chains
from server.core.outbox import Outbox
from server.core.records import versions
from server.core.records.versions import ACTOR_BYTES
from server.core.requests import read_groups
from server.core.requests.groups import GroupTable
from server.core.requests.reads import Reads
from server.core.requests.relay_rows import RelayItem
from server.core.requests.relay_sinks import SecondAttempt
from server.core.requests.relays import Relays
from tests.sim.host import Host
from tests.sim.runs import Profile, config

Patch = Callable[[Any, str, Any], None]
ALWAYS = config(fsync="always")


@dataclass(frozen=True)
class Plant:
    """A bug, the weather in which it shows, and words of the checker that has to find it."""

    name: str
    patch: Callable[[Patch], None]
    found_by: str
    faults: tuple[str, ...] = ()
    config: Config = field(default_factory=lambda: config())
    duration_ms: int = 5000
    nodes: int = 3
    pace_ms: int = 300
    ring: tuple[str, ...] = ()
    ring_pace_ms: int = 700

    def profile(self) -> Profile:
        """A few nodes, a lot of what the plant needs."""
        return Profile(
            self.nodes, 5, 5, self.faults, self.pace_ms, self.duration_ms, self.config, collects=False, ring=self.ring,
            ring_pace_ms=self.ring_pace_ms,
        )  # fmt: skip


def _speak_before_commit(patch: Patch) -> None:
    def finish_turn(self: Host, outbox: Outbox) -> None:
        self.speak(outbox)
        if self.node is not None and not self._dies("commit", bool(outbox.writes)):
            self.disk.commit(outbox.writes)

    patch(Host, "finish_turn", finish_turn)


def _count_calls(patch: Patch) -> None:
    def ack(self: Tally, replica: str) -> Verdict:
        self.acked.add(f"{replica} {len(self.acked)}")
        if self.verdict is Verdict.PENDING and len(self.acked) >= self.wanted:
            self.verdict = Verdict.MET
        return self.verdict

    patch(Tally, "ack", ack)


def _count_an_owner_twice_in_a_hedge(patch: Patch) -> None:
    def hedge(self: Reads, group: Any) -> bool:
        if len(group.tally.acked) + 1 >= group.tally.wanted:
            group.tally.verdict = Verdict.MET  # without a name in the tally, which would notice
            self._apply_verdict(group)
        return True

    patch(Reads, "_hedge", hedge)


def _keep_the_actor(patch: Patch) -> None:
    patch(Host, "make_actor", lambda self: self.id.encode()[-ACTOR_BYTES:])


def _merge_to_the_newest(patch: Patch) -> None:
    merge = versions.merge

    def merge_badly(one: bytes | None, other: bytes | None) -> bytes | None:
        merged = merge(one, other)
        if merged is None or versions.sibling_count(merged) < 2:
            return merged
        newest = versions.newest(merged)
        assert newest is not None
        return versions.encode(dict(versions.clock_of(merged)), [newest])

    patch(versions, "merge", merge_badly)
    patch(read_groups, "merge", merge_badly)


def _wait_for_nothing(patch: Patch) -> None:
    patch(dispatch, "may_enter", lambda *_: True)


def _run_chains_in_no_order(patch: Patch) -> None:
    def run(self: Chains, key: bytes, chain: list[RelayItem]) -> None:
        for item in chain:
            self.run_one(item.sink, item.number, item.args)

    patch(Chains, "run", run)


def _lie_about_second_attempts(patch: Patch) -> None:
    patch(SecondAttempt, "answer", lambda self, number, reply: self._sink.answer(number, reply))


def _speak_before_a_sync(patch: Patch) -> None:
    def finish_turn(self: Host, outbox: Outbox) -> None:
        self.disk.commit(outbox.writes)
        self.speak(outbox)

    patch(Host, "finish_turn", finish_turn)


def _answer_at_the_announcement(patch: Patch) -> None:
    def cover(self: Relays, peer: str, number: int, group: int, indexes: bytes) -> None:
        self.replied(number, indexes, [OK] * (len(indexes) // 4))

    patch(Relays, "cover", cover)


def _share_an_actor(patch: Patch) -> None:
    patch(Host, "make_actor", lambda self: b"the same")
    # Else two nodes seldom read the same: now only messages move a clock.
    patch(HybridClock, "advance", lambda self, time_ms: setattr(self, "time_ms", time_ms))


def _forget_the_deadline(patch: Patch) -> None:
    patch(GroupTable, "expire", lambda self, now_ms: None)


def _answer_as_it_comes(patch: Patch) -> None:
    def flush(self: Session) -> bytes:
        ready = [index for index, slot in enumerate(self.slots) if isinstance(slot, bytes)]
        waiting = [slot for slot in self.slots if not isinstance(slot, bytes)]
        data = b"".join(bytes(self.slots[index]) for index in ready)  # type: ignore[arg-type]
        if not waiting:
            self.first_number += len(self.slots)
            self.slots.clear()
        else:
            for index in ready:
                self.slots[index] = b""
        return data

    patch(Session, "flush", flush)


PLANTS = (
    Plant("speak before commit", _speak_before_commit, "on the disks of", ("crash",)),
    Plant("count a replica twice", _count_calls, "on the disks of", ("datagrams", "cut")),
    Plant("count an owner twice in a hedge", _count_an_owner_twice_in_a_hedge, "has not seen", ("cut", "slow path")),
    Plant("answer at the announcement", _answer_at_the_announcement, "on the disks of", ("datagrams",)),
    Plant("keep the actor over a lost disk", _keep_the_actor, "without being superseded", ("wipe",)),
    Plant("share an actor", _share_an_actor, "names Version", ("isolate", "cut")),
    Plant("forget the deadline", _forget_the_deadline, "answer: Operation", ("datagrams",), duration_ms=8000),
    Plant("answer as it comes", _answer_as_it_comes, "not this command's answer", ("slow path",)),
    Plant("merge to the newest sibling", _merge_to_the_newest, "without being superseded", ("isolate", "cut")),
    Plant("overtake within a connection", _wait_for_nothing, "expected"),
    Plant("run chains in no order", _run_chains_in_no_order, "expected"),
    Plant("forget the first attempt", _lie_about_second_attempts, "refused, yet written", ("kill", "isolate")),
    Plant("speak before a sync", _speak_before_a_sync, "acknowledged and lost", ("power loss",), ALWAYS),
)
