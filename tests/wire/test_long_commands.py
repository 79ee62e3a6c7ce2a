"""Patterns, scans and commands of very many keys beside clients that ask little: these are served, no node is suspected.

The probes measure what others wait for. The bounds are wide, for a machine may be busy; what they catch lasts for seconds.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.wire.cluster import Client, WireCluster, WireNode

WORST_S = 2.0
MIB = 1 << 20


class Probe:
    """One client that reads and writes a key of its own, over and over."""

    def __init__(self, node: WireNode) -> None:
        self.node = node
        self.worst_s = 0.0
        self.count = 0
        self.failure: Exception | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def end(self) -> None:
        """Ends, and tells what was wrong."""
        self._ended.set()
        self._thread.join()
        assert self.failure is None, self.failure
        assert self.count > 0
        assert self.worst_s < WORST_S, f"a client of {self.node.name} waited {self.worst_s:.2f} s"

    def _run(self) -> None:
        name = f"probe:{self.node.name}"
        try:
            with self.node.client() as client:
                while not self._ended.wait(0.005):
                    began_s = time.monotonic()
                    client.set(name, self.count)
                    assert client.get(name) == b"%d" % self.count
                    self.worst_s = max(self.worst_s, time.monotonic() - began_s)
                    self.count += 1
        except Exception as error:  # noqa: BLE001 (told by `end`)
            self.failure = error


@contextmanager
def probed(cluster: WireCluster) -> Iterator[None]:
    """Others work at the first two nodes meanwhile, undisturbed, and all nodes stay up in each other's eyes."""
    probes = [Probe(node) for node in cluster.nodes[:2]]
    for probe in probes:
        probe.start()
    try:
        yield
    finally:
        for probe in probes:
            probe.end()
    assert set(cluster.nodes[0].states().values()) == {"up"}
    assert not any("suspect" in node.log for node in cluster.nodes)


def _patterns(client: Client) -> None:
    keys = [b"session:" + b"ab:" * 700 + b"%d" % number for number in range(20)]
    keys += [b"a" * 20_000 + b"b", b"ab" * 15_000]
    for key in keys:
        client.set(key, "1")
    for pattern in (b"*ab*ab*ab*zz", b"a*" * 14 + b"c", b"*a?" * 80 + b"c", b"*" + b"[ab]" * 7_000 + b"c"):
        assert client.keys(pattern) == []
        assert list(client.scan_iter(pattern, count=1000)) == []
    assert sorted(client.keys(b"*ab*ab*")) == sorted(keys[:20] + keys[21:])
    client.delete(*keys)


def _dead_keys(client: Client) -> None:
    names = [f"dead:{number}" for number in range(6000)]
    client.mset(dict.fromkeys(names, "v"))
    assert client.delete(*names) == len(names)
    began_s = time.monotonic()
    for _ in range(20):
        key = client.randomkey()
        assert key is None or key.startswith(b"probe:")
    cursor, pages = 0, 0
    while pages == 0 or cursor:
        cursor, keys = client.scan(cursor, count=1)
        assert all(key.startswith(b"probe:") for key in keys)
        pages += 1
    assert pages < 100
    assert client.dbsize() <= 2
    assert time.monotonic() - began_s < 10, "it took a minute when each tombstone was a round trip"


def _many_keys(client: Client) -> None:
    names = [f"many:{number}" for number in range(40_000)]
    assert client.mset(dict.fromkeys(names, "v"))
    assert client.exists(*names) == len(names)
    assert client.mget(names) == [b"v"] * len(names)
    assert client.delete(*names) == len(names)


@pytest.mark.serial
@pytest.mark.parametrize("work", [_patterns, _dead_keys, _many_keys])
def test_others_are_served_meanwhile(make_cluster: Callable[..., WireCluster], work: Callable[[Client], None]) -> None:
    cluster = make_cluster()
    with cluster.nodes[0].client(timeout_s=60) as client, probed(cluster):
        work(client)


def test_sigterm_ends_a_node_amid_a_pattern(make_cluster: Callable[..., WireCluster]) -> None:
    cluster = make_cluster(nodes=1)
    node = cluster.nodes[0]
    with node.client() as client:
        for number in range(20):
            client.set(b"a" * 30_000 + b"%d" % number, "1")
        connection = client.connection_pool.get_connection()
        connection.send_command("KEYS", b"*" + b"a?" * 14_000 + b"c*" + b"a" * 1000)
        node.signal(signal.SIGTERM)
        assert node.wait() == 0


def test_listing_keys_holds_no_values_in_memory(make_cluster: Callable[..., WireCluster]) -> None:
    cluster = make_cluster(config=f"record_cache_bytes = {4 * MIB}\n")
    with cluster.nodes[0].client(timeout_s=60) as client:
        for number in range(60):
            client.set(f"large:{number}", b"%d" % number * MIB)
        client.config_get("maxmemory")
        before = [node.peak_mib() for node in cluster.nodes]
        for _ in range(3):
            assert len(client.keys("large:*")) == 60
            assert len(list(client.scan_iter(count=1000))) == 60
            assert client.dbsize() == 60
        grown = [node.peak_mib() - peak for node, peak in zip(cluster.nodes, before, strict=True)]
    assert max(grown) < 50, f"grown by {grown} MiB of 110 that are stored"
