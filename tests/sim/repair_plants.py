"""Bugs on purpose in what repairs: hints, collection, mending, anti-entropy (P2, P6, P7, P11, liveness). See plants.py."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

from server.core.base.config import Config
from server.core.collection.collection import Collection
from server.core.membership.filling import Filling
from server.core.messages import reader, record_questions
from server.core.records import versions
from server.core.repair.anti_entropy import AntiEntropy
from server.core.repair.hint_replay import HintReplay
from server.core.requests import replica
from server.core.requests.reads import Reads
from tests.sim.plants import Patch, Plant
from tests.sim.runs import config

HASTY: dict[str, Any] = {"request_timeout_ms": 300, "hint_after_ms": 150, "collect_wait_ms": 300}
APART = ("isolate", "partition")


def _hasty(**settings: Any) -> Config:
    return config(**HASTY | settings)


def _confirm_at_send(patch: Patch) -> None:
    deliver = HintReplay._deliver

    def send_and_forget(self: HintReplay, owner: str, batch: list[bytes]) -> Generator[Any, Any, bool]:
        steps = deliver(self, owner, batch)
        try:
            question = next(steps)
        except StopIteration:
            return False
        for storage_key in batch:
            if self._state.hints.is_open(owner, storage_key):
                self._remove_hint(owner, storage_key)
        yield question
        return True

    patch(HintReplay, "_deliver", send_and_forget)


def _acknowledge_a_hint_unwritten(patch: Patch) -> None:
    patch(replica, "store_as_stand_in", lambda state, owner, pairs: None)


def _deliver_nothing(patch: Patch) -> None:
    patch(HintReplay, "tick", lambda self, now_ms: None)


def _compare_nothing(patch: Patch) -> None:
    patch(AntiEntropy, "_update_schedule", lambda self: None)
    patch(Filling, "_fetch_all", lambda self, layout: iter(()))


def _do_not_ask_the_away(patch: Patch) -> None:
    def collect_keys(self: Collection, keys: list[bytes]) -> Generator[Any, Any, None]:
        state = self._state
        members = [member for member in state.routes[0].owners if member == state.id or state.is_usable(member)]
        for ballot in self._ballots(keys, members):
            yield from self._drop(ballot)

    patch(Collection, "_collect_keys", collect_keys)


def _collect_at_once(patch: Patch) -> None:
    def collect_keys(self: Collection, keys: list[bytes]) -> Generator[Any, Any, None]:
        assert self._state.layout is not None
        for ballot in self._ballots(keys, [member.id for member in self._state.layout.members]):
            yield from self._hold_vote(ballot)
            yield from self._drop(ballot)

    patch(Collection, "_collect_keys", collect_keys)


def _serve_anything(patch: Patch) -> None:
    def verify(record: bytes) -> bool:
        try:
            versions.decode(record)
        except versions.DamagedRecord:
            return False
        return True

    for room in (versions, reader, record_questions):
        patch(room, "verify", verify)


def _repair_with_the_quorums_first(patch: Patch) -> None:
    """Read repair that sends what it read as what all know, and puts it in place."""

    def settle(self: Reads, group: Any) -> None:
        for key, record in zip(group.keys, group.ours, strict=True):
            old = self._state.records.get(key)
            if record is not None and old is not None and old != record:
                self._state.records.put(key, record, old)

    patch(Reads, "_settle", settle)


REPAIR_PLANTS: Sequence[Plant] = (
    Plant("drop a hint at send", _confirm_at_send, "has never had what it was about", (*APART, "broken connection")),
    Plant("acknowledge a hint unwritten", _acknowledge_a_hint_unwritten, "on the disks of", ("kill",), nodes=5),
    Plant("deliver no hints", _deliver_nothing, "keeps a hint", ("kill", "isolate")),
    Plant("compare nothing", _compare_nothing, "does not converge", ("wipe",)),
    Plant("collect without the away", _do_not_ask_the_away, "was forgotten, but not", APART, _hasty()),
    Plant("collect at once", _collect_at_once, "came back", ("late datagrams",), _hasty()),
    Plant("serve a damaged record", _serve_anything, "damaged record of", ("damaged record", "kill"),
          config(record_cache_bytes=2000), pace_ms=80),
    Plant("read repair puts old for new", _repair_with_the_quorums_first, "was forgotten, but not", ("slow path",)),
)  # fmt: skip
