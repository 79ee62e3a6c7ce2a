"""Types in storms (typed.py), and each checker seen to find its bug."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from xxhash import xxh3_64_digest

from server.core.base.sinks import Sink
from server.core.formats import hyperloglog
from server.core.records import draft_bytes, joins, structure, views
from server.core.records.draft import Draft
from server.core.records.kinds import HASH, MEMBER, SET, ZSET
from server.core.records.patches import splices_of
from server.core.records.views import pack_score, unpack_score
from server.core.requests import replica
from server.core.requests.relays import Relays
from tests.sim.runs import Profile, config
from tests.sim.seeds import seeds, untried
from tests.sim.typed import LASTING, outcome, run

STORM = Profile(3, 4, 5, ("isolate", "kill", "partition"), 300, 5000, config(patch_record_bytes_min=200))
LOSSY = Profile(3, 4, 5, ("datagrams", "kill"), 150, 6000, STORM.config)
PLANT_SEEDS = 200


@pytest.mark.parametrize("seed", seeds(4, 10))
def test_no_acknowledged_change_is_missing(seed: int) -> None:
    faults, _ = run(seed)
    assert not faults, f"seed {seed}\n" + "\n".join(faults[:5])


def test_nor_by_a_seed_that_nobody_has_tried() -> None:
    seed = untried("types", 0)
    faults, _ = run(seed)
    assert not faults, f"seed {seed}\n" + "\n".join(faults[:5])


def test_a_storm_hurts() -> None:
    worlds = [run(seed, STORM)[1] for seed in range(4)]
    outcomes = [outcome(operation) for world in worlds for operation in world.history.operations]
    assert outcomes.count("yes") > 160
    assert outcomes.count("perhaps") > 3


def _forget_the_sum(patch: Any) -> None:
    patch(draft_bytes, "plus", lambda one, other: one)


def _keep_the_own_sum(patch: Any) -> None:
    changed = draft_bytes._Rewriting._changed

    def badly(self: Any, field: bytes, group: Any) -> Any:
        own = [entry for entry in group if entry[1] in (2, 4) and entry[2][:8] == self._dot[:8]]
        made = changed(self, field, group)
        return made + [entry for entry in own if entry not in made and any(each[1] == entry[1] for each in made)]

    patch(draft_bytes._Rewriting, "_changed", badly)


def _take_the_larger_clock(patch: Any) -> None:
    patch(joins, "covers", lambda clock, other: sum(clock.values()) > sum(other.values()))


def _write_what_was_read(patch: Any) -> None:
    right = Draft.add

    def add(self: Draft, field: bytes, amount: Decimal) -> None:
        if ZSET in (self.key_type, self._writes):
            right(self, field, amount)  # a score has another form
        elif field:
            self.put(field, b"%d" % (int(self.get(field) or 0) + int(amount)))
        else:
            self.set_string(b"%d" % (int(self.string() or 0) + int(amount)))

    patch(Draft, "add", add)


def _run_again(patch: Any) -> None:
    forward = Relays.forward

    def twice(self: Relays, sink: Any, number: int, args: list[bytes], peer: str, *rest: Any) -> None:
        forward(self, sink, number, args, peer, *rest)
        if args[0] == b"INCR" and self._state.links and len(args) == 2:
            forward(self, _Nobody(), 0, args, peer)

    patch(Relays, "forward", twice)


def _patch_anything(patch: Any) -> None:
    """A replica takes a patch for one of its record, whatever that is, and makes the checksum right."""

    def patched(present: bytes, value: bytes) -> bytes | None:
        made = bytearray(present)
        for offset, size, data in reversed(splices_of(value)):
            made[offset : offset + size] = data
        record = xxh3_64_digest(bytes(made[8:])) + bytes(made[8:])
        return record if structure.verify(record) else present

    patch(replica, "patched", patched)


def _keep_what_the_other_has_removed(patch: Any) -> None:
    survivors = joins._survivors
    patch(joins, "_survivors", lambda one, other, *clocks: survivors(one, other, {}, {}))


def _keep_only_what_both_have(patch: Any) -> None:
    survivors = joins._survivors

    def badly(one: Any, other: Any, *clocks: Any) -> Any:
        theirs = [each[:3] for each in other]
        kept = yield from survivors(one, other, *clocks)
        return [each for each in kept if each[1] != MEMBER or each[:3] in theirs]

    patch(joins, "_survivors", badly)


def _remove_another_one_too(patch: Any) -> None:
    right = Draft.remove

    def badly(self: Draft, field: bytes) -> bool:
        right(self, LASTING[0])
        return right(self, field)

    patch(Draft, "remove", badly)


def _write_something_else(patch: Any) -> None:
    """Of two scores the mean, of two values of a field both, and one element more in a set."""
    put = Draft.put

    def badly(self: Draft, field: bytes, payload: bytes, expires_at_ms: int = 0) -> bool:
        before = self.get(field)
        if before is not None and self._writes == ZSET:
            payload = pack_score((unpack_score(payload) + unpack_score(before)) / 2)
        elif before is not None and self._writes == HASH:
            payload = before + payload
        elif self._writes == SET:
            put(self, b"s" + field, payload, expires_at_ms)
        return put(self, field, payload, expires_at_ms)

    patch(Draft, "put", badly)


def _take_the_newest_sketch(patch: Any) -> None:
    patch(views, "merged", lambda sketches: sketches[-1])


def _count_one_element_more(patch: Any) -> None:
    right = Draft.set_sketch
    patch(Draft, "set_sketch", lambda self, registers: right(self, hyperloglog.add(registers, [b"?"]) or registers))


def _expire_later(patch: Any) -> None:
    right = Draft.expire_field
    patch(Draft, "expire_field", lambda self, field, at_ms: right(self, field, at_ms + 10))


class _Nobody(Sink):
    def answer(self, number: int, reply: Any) -> None:
        """Nobody asked."""


@pytest.mark.parametrize(
    ("plant", "told"),
    [
        (_forget_the_sum, "increments lost"),
        (_keep_the_own_sum, "increments counted twice"),
        (_take_the_larger_clock, "lost"),
        (_write_what_was_read, "increments lost"),
        (_run_again, "increments counted twice"),
        (_patch_anything, "does not converge"),
        (_keep_only_what_both_have, "member lost"),
        (_remove_another_one_too, "field lost"),
        (_remove_another_one_too, "element lost: b'k"),
        (_write_something_else, "of b'h0' was written by nobody"),
        (_write_something_else, "was added by nobody"),
        (_write_something_else, "in b'z0' was written by nobody"),
        (_take_the_newest_sketch, "element lost: b'p0'"),
        (_count_one_element_more, "b'p0' has an element that was added by nobody"),
        (_write_what_was_read, "expiry lost"),
        (_expire_later, "was asked for by nobody"),
        (_keep_what_the_other_has_removed, "came back"),
    ],
)
def test_a_planted_bug_is_found(plant: Any, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(lambda owner, name, replacement: monkeypatch.setattr(owner, name, replacement))
    storm = LOSSY if plant is _patch_anything else STORM
    found = next((seed for seed in range(PLANT_SEEDS) if any(told in fault for fault in run(seed, storm)[0])), None)
    assert found is not None
    monkeypatch.undo()
    assert run(found, storm)[0] == []
