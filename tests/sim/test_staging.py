"""Large values that lie in chunks, in clusters that crash, lose power, run full and find damage: no promise is broken."""

from __future__ import annotations

import pytest

from server.core.records.records import RECORDS_END
from server.storage.chunked import CHUNKS, FRONT, OWNERS, ChunkedEngine, StagedValue
from tests.sim.disk import Disk
from tests.sim.runs import Profile, config, run
from tests.sim.world import World

BYTES_MIN = 12
FAULTS = (
    "crash",
    "damage",
    "damaged record",
    "full disk",
    "kill",
    "kill all",
    "power loss",
    "restart",
    "rollback",
    "wipe",
)


def _profile(fault: str, fsync: str = "everysec") -> Profile:
    settings = config(fsync=fsync, record_cache_bytes=0)
    faults = (fault,) if fault else ()
    return Profile(3, 4, 4, faults, 300, 4000, settings, staged_bytes_min=BYTES_MIN, collects=False)


def _adopted(world: World) -> int:
    return sum(host.staging.adopted for host in world.hosts)


def _left_over(disk: Disk) -> list[bytes]:
    """The rows of chunks that no record has."""
    fronts = [value for key, value in disk.raw.items() if key < RECORDS_END and value.startswith(FRONT)]
    used = [value[len(FRONT) :][:8] for value in fronts]
    return [key for key in disk.raw if key.startswith((CHUNKS, OWNERS)) and key[2:10] not in used]


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_alone(fault: str) -> None:
    verdict = run(11, _profile(fault, "always" if fault == "power loss" else "everysec"))
    assert not verdict.faults, "\n".join(verdict.faults[:5])
    assert _adopted(verdict.world) > 5


@pytest.mark.parametrize("seed", range(4))
def test_processes_die_amid_the_chunks_and_leave_none(seed: int) -> None:
    verdict = run(seed, _profile("crash"))
    assert not verdict.faults, "\n".join(verdict.faults[:5])
    for host in verdict.world.hosts:
        host.kill()
        host.start()
        assert not _left_over(host.disk)
    assert sum(host.staging.deaths for host in verdict.world.hosts) > 0 and _adopted(verdict.world) > 10


@pytest.mark.parametrize("scrubs", [False, True])
@pytest.mark.parametrize("harm", ["flip", "remove", "block"])
def test_a_damaged_chunk_is_mended(harm: str, scrubs: bool) -> None:
    """It is damage of its record: it is never served, and mended from the others, by a read or by the scrub."""
    settings = config(record_cache_bytes=0, scrub_interval_ms=1000 if scrubs else 10**8)
    world = World(5, 3, settings, staged_bytes_min=BYTES_MIN)
    world.start()
    host = world.hosts[0]
    key, value = world.key_of(host), bytes(range(200))
    for _ in range(20):  # one in ten is discarded, on each node
        assert not world.ask(host, b"SET", key, value).error
    world.run(500)
    rows = sorted(row for row in host.disk.raw if row.startswith(CHUNKS))
    assert len(rows) > 10
    host.kill()
    if harm == "flip":
        host.disk.damage(rows[2], host.disk.raw[rows[2]][:-1] + b"?")
    elif harm == "remove":
        host.disk.damage(rows[2], b"")
    else:
        host.disk.damage_block(rows[2])
    host.start()
    assert world.run_until(5000, world.at_peace)
    if not scrubs:
        read = world.ask(host, b"GET", key)
        assert read.reply == value, read.error
    mended = lambda: host.running.state.statistics.records_mended == 1  # noqa: E731
    assert world.run_until(20_000, mended)
    assert world.run_until(20_000, lambda: not world.differences())
    assert world.ask(host, b"GET", key).reply == value


def _discard_all(self: ChunkedEngine, staged: StagedValue) -> None:
    staged.is_adopted = False
    original_discard(self, staged)


def _forget_the_last(self: ChunkedEngine, staged: StagedValue) -> bool:
    """Says one chunk early that all are written."""
    is_last = original_write(self, staged)
    if not is_last and staged.written == staged.count - 1:
        self._staged[staged.id] = staged
        return True
    return is_last


original_discard, original_write = ChunkedEngine.discard, ChunkedEngine.write_chunk


@pytest.mark.parametrize(
    ("name", "bug"),
    [("discard", _discard_all), ("write_chunk", _forget_the_last)],
    ids=["discard adopted", "too early"],
)
def test_a_planted_bug_is_found(name: str, bug: object, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not run(3, _profile("kill all")).faults
    monkeypatch.setattr(ChunkedEngine, name, bug)
    found = run(3, _profile("kill all")).faults
    assert any("on the disks of" in fault or "was forgotten" in fault for fault in found)


def test_a_cluster_that_syncs_each_write_collects_when_no_client_writes_any_more() -> None:
    """Under `always` a turn without writes is not synced, and chunks are no turn's writes: the timer syncs them (20215)."""
    world = World(1, 1, config(fsync="always"), staged_bytes_min=BYTES_MIN)
    world.start()
    host = world.hosts[0]
    assert world.ask(host, "SET", "key", b"v" * BYTES_MIN, "PX", 100).reply == b"OK"
    assert world.run_until(30_000, lambda: world.stored(host, b"key") is None)
