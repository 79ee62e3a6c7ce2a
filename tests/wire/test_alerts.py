"""Alerts of ops/alerts.yml fire for real nodes whose real causes a test makes: killed and frozen nodes, flipped bytes, full
disks, wrong clocks, certificates that end, days that pass, planted bugs. tests/sim/test_alerts.py has a simulated cause for
every alert.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
import redis

from dynamo_cli.certificates import LOCAL_HOSTS, make
from protocol import resp
from server.core.records.records import storage_key_of
from tests.ports import free_ports
from tests.sim.promtool import EXPRESSIONS
from tests.small_disk import mounted
from tests.wire.cluster import Client, WireCluster, WireNode, wait_for
from tests.wire.disks import open_disk
from tests.wire.raw import raw
from tests.wire.scraping import Prometheus
from tests.wire.test_crash import PLANTED
from tests.wire.wrong_clocks import LIBFAKETIME, WallClocks, need_libfaketime

MIB = 1 << 20


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """What ends with the test."""
    with ExitStack() as found:
        yield found


def _cluster(stack: ExitStack, path: Path, **options: object) -> tuple[WireCluster, Prometheus]:
    """A healthy cluster with ports for monitoring; no alert fires yet."""
    cluster = WireCluster(path / "cluster", **options)  # type: ignore[arg-type]
    stack.callback(cluster.dispose)
    watching = Prometheus(cluster.nodes, path)
    cluster.form()
    watching.remember()
    for node in cluster.nodes:  # on a busy machine the loop may be late for a second
        wait_for(lambda node=node: watching.firing(node) == [], f"nothing is wrong yet with {node.name}")  # type: ignore[misc]
    return cluster, watching


def _is_down(seen_by: WireNode, node: WireNode) -> None:
    wait_for(lambda: seen_by.states()[node.name] == "down", f"{seen_by.name} calls {node.name} down")


def test_frozen_and_killed_nodes(stack: ExitStack, tmp_path: Path) -> None:
    cluster, watching = _cluster(stack, tmp_path, config="clients_max = 30\nhints_bytes_max = 20000\n")
    n1, n2, n3 = cluster.nodes

    with ExitStack() as clients:
        for _ in range(28):
            clients.enter_context(raw(n1.port))
        watching.wait_for_alert(n1, "DynClientsFull")
    watching.wait_for_silence(n1, "DynClientsFull")

    with n1.frozen():  # its loop stands still, as in a command that takes long
        _is_down(n2, n1)
    watching.wait_for_alert(n1, "DynSlowLoop")
    watching.wait_for_silence(n1, "DynSlowLoop")
    cluster.wait_healthy()

    watching.remember()
    with n2.frozen(), n3.frozen(), raw(n1.port) as client:
        client.sendall(b"".join([resp.command("GET", f"key:{number}") for number in range(200)]))
        watching.wait_for_alert(n1, "DynTimeouts")
    cluster.wait_healthy()

    n3.kill()
    watching.wait_for_alert(n3, "DynNodeDown")
    _is_down(n1, n3)
    with n1.client() as client:
        for number in range(1000):
            client.set(f"key:{number}", b"x" * 100)
    watching.wait_for_alert(n1, "DynHintsFull")
    watching.wait_for_alert(n1, "DynHintsDropped")

    n2.kill()
    _is_down(n1, n2)
    watching.remember()
    with n1.client() as client:
        for number in range(3):
            with pytest.raises(redis.ResponseError, match="NOQUORUM"):
                client.set(f"key:{number}", b"x")
    watching.wait_for_alert(n1, "DynNoQuorum")


def test_a_node_that_is_no_member_is_not_ready(stack: ExitStack, tmp_path: Path) -> None:
    node = WireNode(tmp_path / "n1", free_ports(1), (), {})
    stack.callback(node.dispose)
    watching = Prometheus([node], tmp_path)
    node.start()
    wait_for(node.serves, "it serves")
    watching.wait_for_alert(node, "DynNotReady")
    assert set(watching.firing(node)) <= {"DynNotReady", "DynSlowLoop"}


def _flip_last(node: WireNode, key: str) -> None:
    """Turns over the last byte of a record of a stopped node."""
    name = storage_key_of(key.encode())
    with closing(open_disk(node)) as engine:
        record = engine.get(name)
        assert record is not None
        engine.commit({name: record[:-1] + bytes([record[-1] ^ 0xFF])})


def test_damaged_records(stack: ExitStack, tmp_path: Path) -> None:
    slowly = "repair_interval_ms = 600000\nscrub_interval_ms = 86400000\n"
    cluster, watching = _cluster(stack, tmp_path, config=slowly)
    n1, n2, n3 = cluster.nodes
    with n1.client() as client:
        client.set("one", "v")
        client.set("all", "v")
    wait_for(lambda: all(node.document("DYN.STATS")["keys"] == 2 for node in cluster.nodes), "all have both")
    cluster.stop()
    _flip_last(n1, "one")
    for node in cluster.nodes:
        _flip_last(node, "all")

    n1.start()
    wait_for(n1.serves, "it serves")
    with n1.client() as client, pytest.raises(redis.ResponseError):
        client.get("one")  # no other node can be asked
    watching.wait_for_alert(n1, "DynDamagedRecords")
    n2.start()
    n3.start()
    with n1.client() as client:
        wait_for(lambda: _value(client, "one") == b"v", "it is mended")
        _value(client, "all")
    watching.wait_for_alert(n1, "DynRecordsLost")
    watching.wait_for_silence(n1, "DynDamagedRecords")


def _value(client: Client, key: str) -> object:
    try:
        return client.get(key)
    except redis.ResponseError as error:
        return error


def test_a_disk_that_fills(stack: ExitStack, tmp_path: Path) -> None:
    (tmp_path / "cluster").mkdir()
    disk = stack.enter_context(mounted(tmp_path / "cluster" / "n1", 400 * MIB))
    cluster, watching = _cluster(stack, tmp_path, nodes=1, config=f"disk_free_bytes_min = {64 * MIB}\n")
    filler, [node] = disk / "filler", cluster.nodes

    def leave(free_mib: int) -> None:
        taken = filler.stat().st_size if filler.exists() else 0
        size = os.statvfs(disk)
        with filler.open("ab") as file:
            os.posix_fallocate(file.fileno(), 0, taken + size.f_bavail * size.f_frsize - free_mib * MIB)

    leave(150)
    watching.wait_for_alert(node, "DynDiskLow")
    assert set(watching.firing(node)) <= {"DynDiskLow", "DynSlowLoop"}
    leave(40)
    watching.wait_for_alert(node, "DynDiskFull")
    filler.unlink()
    for alert in ("DynDiskLow", "DynDiskFull"):
        watching.wait_for_silence(node, alert)


def test_a_certificate_that_ends(stack: ExitStack, tmp_path: Path) -> None:
    make(tmp_path, "node", LOCAL_HOSTS, days=6)
    files = f'tls_cert_file = "{tmp_path}/node.crt"\ntls_key_file = "{tmp_path}/node.key"\n'
    (tmp_path / "tls.toml").write_text(f"{files}tls_ca_file = '{tmp_path}/ca.crt'\ntls_port = {free_ports(1)}\n")
    node = WireNode(tmp_path / "n1", free_ports(1), ("--config", str(tmp_path / "tls.toml")), {})
    stack.callback(node.dispose)
    watching = Prometheus([node], tmp_path)
    node.start()
    wait_for(node.serves, "it serves")
    watching.wait_for_alert(node, "DynCertificateEnds")
    make(tmp_path, "node", LOCAL_HOSTS, days=365)
    watching.wait_for_silence(node, "DynCertificateEnds")


def test_a_clock_that_is_off(stack: ExitStack, tmp_path: Path) -> None:
    clocks = WallClocks(tmp_path, 3)
    cluster, watching = _cluster(stack, tmp_path, environments=clocks.environments)
    clocks.set(2, 9)
    watching.wait_for_alert(cluster.nodes[2], "DynClockOff")
    assert "DynClockOff" not in watching.firing(cluster.nodes[0]), "the others' are right"
    clocks.set(2, 0)
    watching.wait_for_silence(cluster.nodes[2], "DynClockOff")


def test_a_bug_and_two_days_without_a_comparison(stack: ExitStack, tmp_path: Path) -> None:
    need_libfaketime()
    clock = tmp_path / "clock"
    clock.write_text("+0d\n")
    told = {"LD_PRELOAD": str(LIBFAKETIME), "FAKETIME_TIMESTAMP_FILE": str(clock), "FAKETIME_NO_CACHE": "1"}
    told |= {"PYTHONPATH": PLANTED, "DYN_PLANTED": "message STORE"}
    cluster, watching = _cluster(stack, tmp_path, nodes=2, environments={0: told, 1: told})

    def leaders() -> list[WireNode]:
        return [node for node in cluster.nodes if node.document("DYN.STATS")["facts"]["compared_s"]]

    [leading] = wait_for(leaders, "one of them leads their comparisons")
    [other] = [node for node in cluster.nodes if node is not leading]
    with other.client() as client:
        for number in range(100):  # the first one that it coordinates meets the bug in the other node
            client.execute_command("DYN.SET", f"key:{number}", "v", "W", "1")
    watching.wait_for_alert(leading, "DynInternalErrors")

    other.kill()
    new = clock.with_suffix(".new")
    new.write_text("+2d\n")
    new.rename(clock)
    watching.wait_for_alert(leading, "DynRepairOld")
    other.start()
    watching.wait_for_silence(leading, "DynRepairOld")


def test_each_alert_has_a_real_cause_here() -> None:
    seen = re.findall(r'wait_for_alert\([^"]+"(\w+)"\)', Path(__file__).read_text())
    assert [alert for alert in EXPRESSIONS if alert not in seen] == []
