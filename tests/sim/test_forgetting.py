"""What the checker of forgetting says of small histories of three disks, written by hand (P7)."""

from __future__ import annotations

import random

import pytest

from server.core.records import versions
from server.core.records.records import storage_key_of
from tests.sim.disk import Change, DamagedBlock, Disk
from tests.sim.events import Events
from tests.sim.evidence import Evidence
from tests.sim.forgetting import Forgotten
from tests.sim.rings import FixedRing

KEY = storage_key_of(b"key")


class _Disks:
    """The disks of the three owners of a key; each thing that happens to one of them is a step of its own."""

    def __init__(self) -> None:
        self._events = Events()
        self._log: list[Change] = []
        self._disks = {node: Disk(node, self._log, self._events) for node in ("n1", "n2", "n3")}

    def on(self, node: str) -> Disk:
        """The disk of a node, one step later."""
        self._events.step += 1
        return self._disks[node]

    def commit(self, record: bytes | None, *nodes: str) -> None:
        """Each node writes the record in place of whatever is there."""
        for node in nodes:
            self.on(node).commit({KEY: record})

    def faults(self) -> list[str]:
        """What the checker says."""
        evidence = Evidence(self._log, self._disks.values())
        return Forgotten(evidence, FixedRing(lambda key: [*self._disks]), lambda now_ms: now_ms).faults


@pytest.fixture
def disks() -> _Disks:
    return _Disks()


def _record(actor: bytes, counter: int, kind: int = versions.VALUE) -> bytes:
    sibling = versions.Sibling(actor * versions.ACTOR_BYTES, counter, 0, kind, b"")
    return versions.encode({sibling.actor: counter}, [sibling])


def _complaints(disks: _Disks) -> int:
    """How often somebody forgot what not all had; nothing else may be wrong."""
    faults = disks.faults()
    assert all("was forgotten, but not every owner's disk held just that" in fault for fault in faults)
    return len(faults)


MINE, OTHERS = _record(b"a", 1), _record(b"b", 2)
TOMBSTONE, OLD = _record(b"a", 9, versions.TOMBSTONE), _record(b"a", 8)


@pytest.mark.parametrize("block_too", [True, False])
def test_a_power_loss_undoes_a_flipped_bit_but_mends_no_block(disks: _Disks, block_too: bool) -> None:
    """The bit was flipped before a sync, which had the sound bytes; the power loss leaves these. If the node can read them
    it must not put the others' record there instead of the join. If it cannot, there is nothing to join.
    """
    disks.commit(OTHERS, "n2", "n3")
    disks.commit(MINE, "n1")
    if block_too:
        disks.on("n1").damage_block(KEY)
    disks.on("n1").damage(KEY, MINE[:-1] + b"?")
    n1 = disks.on("n1")
    n1.sync(n1.unsynced())
    disks.on("n1").lose_power(random.Random(1))
    assert n1.data[KEY] == MINE
    if block_too:
        with pytest.raises(DamagedBlock):
            n1.get(KEY)
    disks.commit(OTHERS, "n1")
    assert _complaints(disks) == (not block_too)


@pytest.mark.parametrize("loses", [True, False])
def test_under_a_damaged_block_lies_what_the_power_loss_has_left(disks: _Disks, loses: bool) -> None:
    """As far as agreement goes: where that is an older record the others must not forget what they hold."""
    disks.commit(OLD, "n1", "n2", "n3")
    n1 = disks.on("n1")
    n1.sync(n1.unsynced())
    disks.commit(TOMBSTONE, "n1")
    if not loses:
        n1.sync(n1.unsynced())
    disks.on("n1").damage_block(KEY)
    disks.on("n1").lose_power(_Unlucky())
    assert n1.data[KEY] == (OLD if loses else TOMBSTONE)
    disks.commit(TOMBSTONE, "n2", "n3")
    disks.commit(None, "n2")
    assert _complaints(disks) == loses


def test_a_damaged_block_that_is_written_again_is_judged_again(disks: _Disks) -> None:
    """Damage excuses what the mending puts there, and nothing after that."""
    disks.commit(OTHERS, "n2", "n3")
    disks.commit(MINE, "n1")
    disks.on("n1").damage_block(KEY)
    disks.commit(versions.merge(MINE, OTHERS), "n1")
    assert _complaints(disks) == 0
    disks.commit(OTHERS, "n1")
    assert _complaints(disks) == 1


class _Unlucky(random.Random):
    """A power loss takes all that it may."""

    def randint(self, a: int, b: int) -> int:
        return a
