"""Folds of sums (records/folds.py) in a cluster: counters stay small over restarts, and no fold changes a number.

Storms are slow here: a collection needs seconds in which its key rests, and a node that has started again gives no vote for
a while. What is checked: the numbers have the bounds of typed.py, also after a SET in the middle; the log of the disks
shows that a record and what was folded of it say the same; nobody writes, and the numbers stay while the rest is folded.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator
from typing import Any

import pytest
from xxhash import xxh3_64_digest

from server.core.collection import collection, votes
from server.core.collection.collection import Collection
from server.core.collection.votes import Votes
from server.core.messages.record_questions import FOLDED
from server.core.records import entries, folds
from server.core.records.folds import folded
from server.core.records.records import META
from server.core.records.views import View
from tests.sim import typed
from tests.sim.host import Host
from tests.sim.runs import CONVERGE_MS_MAX, config
from tests.sim.seeds import seeds
from tests.sim.world import World

ADDING = (b"INCR c0", b"INCR c1", b"HINCRBY n0 k 3", b"ZINCRBY z0 2 sum", b"INCRBY c0 5", b"INCRBY c1 7")
COUNTED = (b"c0", b"c1", b"n0", b"z0")
STEPS, REST_MS = 30, 120_000
PLANT_SEEDS = 12


class Storm:
    """A cluster that is written to and shaken on a seed."""

    def __init__(self, seed: int) -> None:
        hasty = {"request_timeout_ms": 300, "hint_after_ms": 150, "collect_wait_ms": 300}
        self.rng = random.Random(f"folds {seed}")
        self.world = World(seed, self.rng.choice((3, 3, 4)), config(**hasty, clock_entries_max=2, fsync="always"))
        self.world.start()
        self.folds = 0

    def run(self) -> list[str]:
        """What is wrong in the end."""
        self._shake()
        since = self._set_to_zero()
        if isinstance(since, str):
            return [since]
        self._shake()
        faults = self._rest()
        self.folds += sum(_folds_of(host) for host in self.world.hosts)
        return faults + self._judge(since) + _changed_by_folds(self.world)

    def _shake(self) -> None:
        world, rng = self.world, self.rng
        for _ in range(STEPS):
            host = rng.choice(world.hosts)
            match rng.choice(("add",) * 6 + ("restart",) * 2 + ("cut", "heal", "wait", "wait")):
                case "add" if host.node is not None:
                    for line in rng.sample(ADDING, 2):
                        world.ask(host, *line.split(), within_ms=2000)
                case "restart" if host.node is not None:
                    self.folds += _folds_of(host)
                    host.kill()
                    world.run(rng.choice((100, 2000)))
                    if host.node is None:
                        host.start()
                case "cut":
                    world.network.cut(host.id, rng.choice(world.hosts).id)
                case "wait":
                    world.run(rng.choice((2000, 12_000)))
                case _:
                    world.heal()
            world.run(rng.choice((200, 2500)))

    def _settle(self) -> str:
        world = self.world
        world.heal(within_ms=1000)
        whole = world.run_until(CONVERGE_MS_MAX, lambda: world.at_peace() and not world.differences())
        return "" if whole else f"does not converge: {world.differences()[:2]}"

    def _set_to_zero(self) -> int | str:
        """Sets c1 to 0 in a whole cluster; returns how many commands came before."""
        fault = self._settle()
        read = self.world.ask(self.world.hosts[0], "SET", "c1", "0")
        return fault or read.error or len(self.world.history.operations)

    def _rest(self) -> list[str]:
        """Nobody writes while the rest is folded: no number changes."""
        fault = self._settle()
        if fault:
            return [fault]
        before = {key: typed._shown(self.world, 0, key) for key in COUNTED}
        self.world.run(REST_MS)
        after = {key: typed._shown(self.world, 0, key) for key in COUNTED}
        faults = [] if before == after else [f"changed while nobody wrote: {before}, {after}"]
        members = len(self.world.hosts)
        for key in COUNTED:
            for record in [self.world.stored(host, key) for host in self.world.hosts]:
                sums = 0 if record is None else len([each for each in entries.decode(record)[1] if each[1] in _DELTAS])
                if sums > 2 * members + 1:
                    faults.append(f"not folded: {key!r} has {sums} sums")
        return faults + [f"differs: {each}" for each in self.world.differences()]

    def _judge(self, since: int) -> list[str]:
        operations = list(self.world.history.operations)
        faults = []
        for key in COUNTED:
            mine = [each for each in operations[since if key == b"c1" else 0 :] if each.args[1:2] == [key]]
            shown = [typed._shown(self.world, place, key) for place in range(len(self.world.hosts))]
            faults += [fault for each in shown for fault in typed._check_counter(key, mine, each)]
        return faults


_DELTAS = (2, 4, 7)


def _folds_of(host: Host) -> int:
    return host.node.state.statistics.sums_folded if host.node is not None else 0


def _read(record: bytes) -> Any:
    view = View(record, 0)
    return view.key_type, view.string(), list(view.items())


def _changed_by_folds(world: World) -> list[str]:
    """What the disks say: a record and the one that a fold alone has made of it are read alike."""
    faults, last = [], {}
    for change in world.log:
        before = last.get((change.node, change.key))
        last[change.node, change.key] = change.record
        if before is None or change.record is None or change.key.startswith(META):
            continue
        clock = entries.clock_of(change.record)
        made_by_fold = clock.pop(xxh3_64_digest(b"fold" + before[:8]), None) is not None
        if made_by_fold and clock == entries.clock_of(before) and _read(before) != _read(change.record):
            faults.append(f"a fold on {change.node} changed {change.key!r}: {_read(before)}, {_read(change.record)}")
    return faults


@pytest.mark.parametrize("seed", seeds(2, 30))
def test_no_number_changes_by_a_fold(seed: int) -> None:
    storm = Storm(seed)
    assert storm.run() == []
    assert storm.folds > 0


def test_a_counter_is_small_after_many_restarts() -> None:
    world = World(1, 3, config())
    world.start()
    key = world.key_of(world.hosts[0])
    _grown(world, key, 30)
    before = world.stored(world.hosts[0], key)
    assert before is not None and len(entries.decode(before)[1]) > 8

    def is_small() -> bool:
        records = [world.stored(host, key) for host in world.hosts]
        return all(record is not None and len(entries.decode(record)[1]) <= 4 for record in records)

    assert world.run_until(120_000, is_small)
    world.run(30_000)
    after = world.stored(world.hosts[0], key)
    assert after is not None and len(entries.clock_of(after)) <= 4
    for host in world.hosts:
        assert world.ask(host, "GET", key).reply == b"300"
    assert world.ask(world.hosts[1], "INCR", key).reply == 301


def _grown(world: World, key: bytes, restarts: int) -> None:
    """A counter to which 10 were added as often as one of the nodes started again."""
    for number in range(restarts):
        host = world.hosts[number % 3]
        host.kill()
        world.run(300)
        assert world.ask(world.hosts[(number + 1) % 3], "INCRBY", key, "10").reply == 10 * (number + 1)
        host.start()
        assert world.run_until(20_000, world.at_peace)


def _numbers_after_a_missed_drop(last: str) -> tuple[int, list[int]]:
    """What a counter is after a fold of which n3 has not heard, and after changes of n3 alone and of n1: as it should be,
    and as the nodes say. n3 has added to it before."""
    world = World(2, 3, config(clock_entries_max=2, repair_interval_ms=100_000))
    world.start()
    n1, n2, n3 = world.hosts
    key = world.key_of(n1)
    _grown(world, key, 6)
    _add_alone(world, n3, key, (n1, n2))
    assert world.run_until(20_000, lambda: world.at_peace() and not world.differences())
    kept = n3.running.services.votes
    dropped = kept.drop
    kept.drop = lambda ballot: None if ballot.mode == FOLDED else dropped(ballot)  # type: ignore[method-assign]
    assert world.run_until(120_000, lambda: any(_folds_of(host) for host in world.hosts))
    folded_here, missed = world.stored(n1, key), world.stored(n3, key)
    assert folded_here is not None and missed is not None and folded_here != missed
    assert _read(folded_here) == _read(missed)
    for host in (n1, n2):
        host.kill()
    world.run(300)  # else it may send the command to a node that it still believes up
    world.client(n3).send([b"DYN.QUORUM", b"W", b"1", b"R", b"1"], [b"INCR", key])
    world.run(2000)
    assert _read(world.stored(n3, key)) != _read(missed)
    n3.kill()
    for host in (n1, n2):
        host.start()
    world.run(1000)
    assert not world.ask(n1, *(("SET", key, "5") if last == "SET" else ("INCR", key))).error
    n3.start()
    assert world.run_until(CONVERGE_MS_MAX, lambda: world.at_peace() and not world.differences())
    # A SET beside an INCR brings back what the actor had added before: 1 (README).
    return 7 if last == "SET" else 63, [int(world.ask(host, "GET", key).reply) for host in world.hosts]


def _add_alone(world: World, host: Host, key: bytes, others: tuple[Host, ...]) -> None:
    for other in others:
        other.kill()
    world.run(300)
    client = world.client(host)
    client.send([b"DYN.QUORUM", b"W", b"1", b"R", b"1"], [b"INCR", key])
    world.run(1000)
    for other in others:
        other.start()


@pytest.mark.parametrize("last", ["INCR", "SET"])
def test_an_owner_that_misses_the_drop_counts_nothing_twice(last: str) -> None:
    wanted, shown = _numbers_after_a_missed_drop(last)
    assert shown == [wanted] * 3


def _fold_alone(patch: Any) -> None:
    def alone(self: Collection, keys: list[bytes]) -> Generator[Any, Any, None]:
        state = self._state
        for key in keys:
            record = state.records.get(key)
            if record is not None and self._may_be_folded(key):
                state.records.put(key, folded(record, [state.actor, state.guest_actor]), record)
                state.statistics.sums_folded += 1
            self.candidates.remove(key)
            yield self._background.sleep(1)

    patch(Collection, "_collect_keys", alone)


def _make_another_dot_on_each_node(patch: Any) -> None:
    made = folds._folded_field
    chance = random.Random(1)

    def twice(group: list[entries.Entry], writers: Any) -> list[entries.Entry]:
        after = made(group, writers)
        if len(after) == len(group):
            return after
        field, kind, dot, expiry, payload = after[-1]
        return [*after[:-1], (field, kind, chance.randbytes(8) + dot[8:], expiry, payload)]

    def whole(record: bytes, writers: Any) -> bytes:
        result = folded(record, writers)
        if result == record:
            return record
        clock, present = entries.decode(result)
        for entry in present:
            clock[entry[2][:8]] = max(clock.get(entry[2][:8], 0), int.from_bytes(entry[2][8:], "big"))
        return entries.encode(clock, present)

    patch(folds, "_folded_field", twice)
    patch(votes, "folded", whole)
    patch(collection, "folded", whole)


def _fold_who_is_alive(patch: Any) -> None:
    def only_ours(self: Collection, members: list[str]) -> Generator[Any, Any, tuple[bytes, ...]]:
        yield self._background.sleep(1)
        return self._state.actor, self._state.guest_actor

    patch(Collection, "_all_writers", only_ours)
    patch(Votes, "_unfoldable", lambda self, ballot: {})


@pytest.mark.parametrize(("plant", "first_seed"), [(_fold_alone, 3), (_make_another_dot_on_each_node, 0)])
def test_a_planted_fold_is_found(
    plant: Callable[[Any], None], first_seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(lambda owner, name, replacement: monkeypatch.setattr(owner, name, replacement))
    found = (fault for seed in range(first_seed, first_seed + PLANT_SEEDS) for fault in Storm(seed).run())
    assert next((fault for fault in found if "twice" in fault or "lost" in fault), None) is not None


def test_the_sum_of_an_actor_that_lives_must_not_be_folded(monkeypatch: pytest.MonkeyPatch) -> None:
    _fold_who_is_alive(lambda owner, name, replacement: monkeypatch.setattr(owner, name, replacement))
    wanted, shown = _numbers_after_a_missed_drop("INCR")
    assert all(number != wanted for number in shown)


def test_a_fold_waits_for_nobody_of_an_earlier_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """A member that does not say who writes there: nothing is folded, and clocks are pruned as before."""
    storm = Storm(1)
    for host in storm.world.hosts[:1]:
        host.on_start = lambda started: started.running.services.questions._answerers.pop(b"WRITERS")
        host.running.services.questions._answerers.pop(b"WRITERS")
    storm._shake()
    storm._settle()
    storm.world.run(60_000)
    assert storm.folds == 0 and not any(_folds_of(host) for host in storm.world.hosts)
