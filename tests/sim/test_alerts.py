"""Each alert of ops/alerts.yml is seen to fire: a test makes its cause in simulated nodes, and judges their metrics.
tests/wire/test_alerts.py makes the same causes for real nodes.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import NamedTuple, cast

import pytest

from dynamo_cli.certificates import LOCAL_HOSTS, make
from server.core.base.config import Config
from server.core.records.records import storage_key_of
from server.shell.certificates import Certificates
from server.shell.clients import Clients
from server.shell.disk import DiskWatch
from server.shell.exposure import Exposure
from server.shell.facts import LoopLag
from server.shell.metric_families import NodeCollector
from server.storage.engine import Engine
from tests.faults import broken_handler, commands
from tests.sim.host import Host
from tests.sim.promtool import ALERTS, EXPRESSIONS, Samples, fires, judged_by_promtool
from tests.sim.world import World

DAY_MS = 86_400_000

PEERS = SimpleNamespace(inbound=SimpleNamespace(connections={}, held_bytes=0), links={})


def scrape(host: Host) -> Samples:
    """What Prometheus knows of a node: its metrics, and whether it has answered."""
    if host.node is None:
        return {("up", (("job", "dyn"),)): 0.0}
    clients = SimpleNamespace(
        context=SimpleNamespace(node=host.node), is_stopping=False, memory=SimpleNamespace(total_bytes=lambda: 0),
        flow=SimpleNamespace(held_bytes=0), peers=PEERS, node_handshakes=(),
    )  # fmt: skip
    collector = NodeCollector(host.node.services, cast(Clients, clients), dict)
    found = {
        (sample.name, tuple(sorted(sample.labels.items()))): float(sample.value)
        for family in collector.collect()
        for sample in family.samples
    }
    return {("up", (("job", "dyn"),)): 1.0} | found


class Scene(NamedTuple):
    """What was scraped before a cause, and after it has lasted for a minute."""

    before: Samples
    after: Samples


def _world(**settings: int) -> World:
    world = World(1, 3, Config.of({"tree_leaf_bits": 14, **settings}))
    world.start()
    world.run(3000)
    return world


def _write(world: World, count: int, first: int = 0) -> None:
    for number in range(first, first + count):
        world.ask(world.hosts[0], "SET", f"key:{number}", "v")


def _around(host: Host, cause: Callable[[], object]) -> Scene:
    before = scrape(host)
    cause()
    return Scene(before, scrape(host))


def _down() -> Scene:
    world = _world()
    return _around(world.hosts[0], world.hosts[0].kill)


def _not_ready() -> Scene:
    """A node that is no member yet."""
    world = _world()
    before = scrape(world.hosts[0])
    fresh = world.add_host()
    world.run(1000)
    return Scene(before, scrape(fresh))


def _no_quorum() -> Scene:
    world = _world()

    def cause() -> None:
        for host in world.hosts[1:]:
            host.kill()
        world.run(10_000)
        _write(world, 3)

    return _around(world.hosts[0], cause)


def _timeouts() -> Scene:
    world = _world()
    n1 = world.hosts[0]

    def cause() -> None:
        for host in world.hosts[1:]:
            host.freeze()
        world.client(n1).send(*[[b"GET", b"key:%d" % number] for number in range(100)])
        world.run(5000)

    return _around(n1, cause)


def _internal_error() -> Scene:
    world = _world()

    def cause() -> None:
        spec = next(each for each in commands() if each.name == "strlen")
        with broken_handler(spec, world.hosts[0].running):
            world.ask(world.hosts[0], "STRLEN", "key")

    return _around(world.hosts[0], cause)


def _hints(count: int) -> Scene:
    """An owner is down, and there is room for some hints only."""
    world = _world(hints_bytes_max=4000)

    def cause() -> None:
        world.hosts[2].kill()
        world.run(10_000)
        _write(world, count)

    return _around(world.hosts[0], cause)


def _hints_full() -> Scene:
    world = _world(hints_bytes_max=6000)
    n1 = world.hosts[0]

    def cause() -> None:
        world.hosts[2].kill()
        world.run(10_000)
        for number in range(500):
            world.ask(n1, "SET", f"key:{number}", "v")
            if fires("DynHintsFull", {}, scrape(n1)):
                break

    return _around(n1, cause)


def _damage(world: World, hosts: list[Host], key: bytes) -> None:
    for host in hosts:
        record = world.stored(host, key)
        assert record is not None
        host.kill()
        host.disk.damage(storage_key_of(key), record[:-1] + b"?")


def _damaged() -> Scene:
    """A record is damaged, and no other owner can be asked."""
    world = _world()
    n1 = world.hosts[0]
    key = world.key_of(n1)
    world.ask(n1, "SET", key, "value")
    world.run(100)

    def cause() -> None:
        for host in world.hosts[1:]:
            host.kill()
        _damage(world, [n1], key)
        n1.start()
        world.run(3000)
        world.ask(n1, "GET", key)

    return _around(n1, cause)


def _lost() -> Scene:
    world = _world()
    n1 = world.hosts[0]
    key = world.key_of(n1)
    world.ask(n1, "SET", key, "value")
    world.run(100)
    before = scrape(n1)
    _damage(world, world.hosts, key)
    for host in world.hosts:
        host.start()
    assert world.run_until(5000, world.at_peace)
    world.ask(n1, "GET", key)
    world.run(10_000)
    return Scene(before, scrape(n1))


def _repair_old() -> Scene:
    """An owner is away, and the others have slept for a day."""
    world = _world(repair_interval_ms=2000)
    n1 = world.hosts[0]
    assert world.run_until(60_000, lambda: len(n1.running.services.anti_entropy.compared_ms) > 0)

    def cause() -> None:
        for host in world.hosts[1:]:
            host.kill()
        n1.boot_ms += DAY_MS + 60_000
        world.run(1000)

    return _around(n1, cause)


def _disk_low() -> Scene:
    """A real disk, and a bound that is a little below its free space."""
    world, folder = _world(), Path(__file__).parent
    state, free_bytes = world.hosts[0].running.state, shutil.disk_usage(folder).free
    loop = asyncio.new_event_loop()
    watch = DiskWatch(cast(Engine, None), Config(engine="rocksdb"), folder, loop, print, print, int, int, False)
    with closing(watch), closing(loop):
        world.hosts[0].running.services.process.facts |= watch.facts()

    def cause() -> None:
        state.config = replace(state.config, disk_free_bytes_min=free_bytes // 2)

    return _around(world.hosts[0], cause)


def _certificate_ends() -> Scene:
    """A certificate for 365 days, and one for 6."""
    world = _world()
    facts = world.hosts[0].running.services.process.facts

    def use(days: int) -> None:
        with TemporaryDirectory() as folder:
            certs = Path(folder)
            make(certs, "n1", LOCAL_HOSTS, days=days)
            files = {"tls_cert_file": str(certs / "n1.crt"), "tls_key_file": str(certs / "n1.key")}
            exposure = Exposure(world.hosts[0].running.services, lambda: True, Certificates(Config.of(files)))
            facts.update(exposure.times())

    use(365)
    return _around(world.hosts[0], lambda: use(6))


def _disk_full() -> Scene:
    world = _world()
    return _around(world.hosts[0], lambda: world.fill(world.hosts[0], True))


def _clock_off() -> Scene:
    world = _world()

    def cause() -> None:
        world.hosts[0].skew_ms = 9000
        world.run(5000)

    return _around(world.hosts[0], cause)


def _slow_loop() -> Scene:
    world, lag = _world(), LoopLag()
    facts = world.hosts[0].running.services.process.facts
    lag.note(20)
    facts |= lag.facts()

    def cause() -> None:
        lag.note(350)
        facts.update(lag.facts())

    return _around(world.hosts[0], cause)


def _clients_full() -> Scene:
    world = _world(clients_max=20)
    return _around(
        world.hosts[0], lambda: ([world.client(world.hosts[0], f"c{number}") for number in range(19)], world.run(100))
    )


CAUSES: dict[str, Callable[[], Scene]] = {
    "DynNodeDown": _down,
    "DynNotReady": _not_ready,
    "DynNoQuorum": _no_quorum,
    "DynTimeouts": _timeouts,
    "DynInternalErrors": _internal_error,
    "DynHintsFull": _hints_full,
    "DynHintsDropped": lambda: _hints(200),
    "DynDamagedRecords": _damaged,
    "DynRecordsLost": _lost,
    "DynRepairOld": _repair_old,
    "DynDiskLow": _disk_low,
    "DynDiskFull": _disk_full,
    "DynCertificateEnds": _certificate_ends,
    "DynClockOff": _clock_off,
    "DynSlowLoop": _slow_loop,
    "DynClientsFull": _clients_full,
}


def test_each_alert_has_its_cause_here() -> None:
    assert list(CAUSES) == list(EXPRESSIONS)


@pytest.mark.parametrize("alert", list(CAUSES))
def test_an_alert_fires_for_its_cause_and_not_before(alert: str, tmp_path: Path) -> None:
    before, after = CAUSES[alert]()
    assert not fires(alert, before, before), "nothing is wrong yet"
    assert fires(alert, before, after)
    if shutil.which("promtool") is not None:
        assert judged_by_promtool(tmp_path, alert, before, before) == ""
        assert judged_by_promtool(tmp_path, alert, before, after) == "1"


def compared_ages_s(host: Host) -> list[float]:
    return [value for (name, _), value in scrape(host).items() if name == "dyn_compared_age_seconds"]


def _a_day_later(world: World, host: Host) -> None:
    for other in world.hosts:
        if other is not host:
            other.kill()
    host.boot_ms += DAY_MS + 60_000
    world.run(1000)


def test_a_peer_that_was_never_compared_becomes_old_too() -> None:
    world = World(1, 3, Config.of({"tree_leaf_bits": 14}))
    world.start()
    leader = world.hosts[0]
    assert world.run_until(5000, lambda: compared_ages_s(leader) != [])
    assert not leader.running.services.anti_entropy.compared_ms, "the first comparison is still to come"
    _a_day_later(world, leader)
    assert max(compared_ages_s(leader)) > DAY_MS / 1000 and fires("DynRepairOld", {}, scrape(leader))


def test_a_comparison_that_the_peer_leads_again_does_not_become_old() -> None:
    """Dropped hints make a node lead a comparison once. A day later that is no reason to look."""
    world = _world(hints_bytes_max=2000, repair_interval_ms=2000)
    led = world.hosts[0]
    for turn, holder in enumerate(world.hosts[1:]):
        led.kill()
        world.run(10_000)
        for number in range(100):
            world.ask(holder, "SET", f"key:{turn}:{number}", "v")
        led.start()
        assert world.run_until(60_000, lambda: not any(host.running.state.hints.dropped_hints for host in world.hosts))
    node = next(host for host in world.hosts if _compared_for_hints(host))
    _a_day_later(world, node)
    ages_s = compared_ages_s(node)
    assert len(ages_s) < len(node.running.services.anti_entropy.compared_ms)


def _compared_for_hints(host: Host) -> bool:
    """Whether it has led comparisons that other nodes lead."""
    return len(compared_ages_s(host)) < len(host.running.services.anti_entropy.compared_ms)


def test_promtool_finds_nothing_wrong_with_the_rules() -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed (package prometheus)")
    done = subprocess.run(["promtool", "check", "rules", str(ALERTS)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
