"""Types while nodes of the version before and of this one are one cluster: all are served, and nothing is lost.

The version before has types, and does not know patches (records/patches.py): it gets whole records. No commit of main was
such a version, so it is this one without the capability.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from protocol.peer_versions import CAPABILITIES, PATCHES
from tests.wire.cluster import PATIENT, WireCluster, connect, wait_for
from tests.wire.repairs import counters, stop_and_compare, wait_whole

ROOT = Path(__file__).parents[2]
ANNOUNCED = "Speech(VERSION_MIN, VERSION_MAX, CAPABILITIES)"
# On a machine that is busy with other tests a node may be silent for seconds, which is not what this test is about.
CONFIG = f"{PATIENT}repair_interval_ms = 1000\n"
FIELDS, VALUE = 400, "v" * 60  # 40 KB: of a record of this size only changes are sent
HASHES = ("one", "two", "three", "four", "five", "six")  # whichever nodes coordinate them


class Writer(threading.Thread):
    """Changes keys of each type through all nodes in turn, and remembers what was acknowledged."""

    def __init__(self, ports: list[int], place: int) -> None:
        super().__init__()
        self.place = place
        self.rounds = 0
        self.fields: dict[tuple[str, str], str] = {}
        self.elements: list[str] = []
        self.scores: dict[str, float] = {}
        self.added = 0  # to the counter, for sure
        self.perhaps = 0  # increments whose outcome is unknown
        self.errors: list[str] = []
        self._ports = ports
        self._over = threading.Event()

    def run(self) -> None:
        clients = [connect(port) for port in self._ports]
        while not self._over.is_set():
            client = clients[self.rounds % len(clients)]
            try:
                self._change(client, self.rounds)
            except redis.ConnectionError:  # the node restarts: the next one takes the writes
                pass
            except redis.ResponseError as error:
                self.errors.append(str(error))
            self.rounds += 1
        for client in clients:
            client.close()

    def end(self) -> None:
        """Ends after the round that runs."""
        self._over.set()
        self.join()

    def _change(self, client: redis.Redis, number: int) -> None:
        key, field, value = HASHES[number % len(HASHES)], f"f{self.place}-{number % 20}", str(number)
        self.fields.pop((key, field), None)
        client.hset(key, field, value)
        self.fields[key, field] = value
        element = f"{self.place}-{number}"
        client.sadd("set", element)
        self.elements.append(element)
        member = f"{self.place}-{number % 30}"
        self.scores.pop(member, None)
        client.zadd("zset", {member: number})
        self.scores[member] = number
        self.perhaps += 1
        client.incr("counter")
        self.perhaps -= 1
        self.added += 1


def _without_patches(place: Path) -> Path:
    """A copy of the sources whose nodes announce only the capabilities that are older than patches."""
    for package in ("server", "protocol"):
        shutil.copytree(ROOT / package, place / package, ignore=shutil.ignore_patterns("compiled", "__pycache__"))
    versions = place / "protocol" / "peer_versions.py"
    text = versions.read_text()
    assert text.count(ANNOUNCED) == 1
    versions.write_text(text.replace(ANNOUNCED, f"{ANNOUNCED[:-1]}[:{CAPABILITIES.index(PATCHES)}])"))
    return place


@contextmanager
def _writing(ports: list[int]) -> Iterator[list[Writer]]:
    writers = [Writer(ports, place) for place in range(3)]
    for writer in writers:
        writer.start()
    try:
        yield writers
    finally:
        for writer in writers:
            writer.end()


def _go_on(writers: list[Writer], rounds: int = 30) -> None:
    wanted = [writer.rounds + rounds for writer in writers]
    wait_for(lambda: all(w.rounds >= n for w, n in zip(writers, wanted, strict=True)), "the writers go on", 60)


def _patches(cluster: WireCluster) -> list[int]:
    """How many patches each node has sent since its start."""
    return [counters(node)["patches_sent"] for node in cluster.nodes]


def test_two_versions_serve_types_side_by_side(make_cluster: Callable[..., WireCluster], tmp_path: Path) -> None:
    """Upgraded node by node under load. Patches go to those nodes only that have announced that they can apply them."""
    old = {"PYTHONPATH": str(_without_patches(tmp_path / "patchless"))}
    cluster = make_cluster(config=CONFIG, environments=dict.fromkeys(range(3), old), secrets=())
    with cluster.nodes[0].client() as client:
        for key in HASHES:
            client.hset(key, mapping={f"field{number}": VALUE for number in range(FIELDS)})
    with _writing(cluster.ports) as writers:
        _go_on(writers)
        for count, node in enumerate(cluster.nodes, start=1):
            assert node.stop() == 0
            _go_on(writers, 5)
            node.upgrade()
            node.start()
            cluster.wait_healthy()
            _go_on(writers)
            sent = _patches(cluster)
            if count == 1:
                assert not sent[0], "nobody else says that it can apply a patch"
            else:
                assert any(sent[:count])
        _go_on(writers)
    assert not [error for writer in writers for error in writer.errors]
    for node in cluster.nodes:
        assert "damaged message" not in node.log and "refuses us" not in node.log, node.log[-2000:]
        with node.client() as client:
            for writer in writers:
                for (key, field), value in writer.fields.items():
                    assert client.hget(key, field) == value.encode(), (key, field)
                assert all(client.smismember("set", writer.elements))
                assert client.zmscore("zset", list(writer.scores)) == list(writer.scores.values())
            assert [client.hlen(key) >= FIELDS for key in HASHES] == [True] * len(HASHES)
            added = sum(writer.added for writer in writers)
            assert added <= int(client.get("counter") or 0) <= added + sum(writer.perhaps for writer in writers)
    wait_whole(cluster)
    stop_and_compare(cluster)
