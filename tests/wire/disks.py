"""What stopped nodes have on their disks, read by the engine that wrote it: the judge of whether owners are equal.

Theory. Reading through a cluster repairs it, so whether the owners of a partition hold the same bytes is only seen where
nobody is asked: in the directories, while all nodes are stopped. A record that holds nothing but tombstones may be gone
from one owner and not yet from another, since the last step of its collection is no agreement any more; in every other
way owners must not differ by a byte. Whoever is no owner holds nothing, once no hint is open.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing

from protocol.slots import SLOTS
from server.core.records import versions
from server.core.records.patch_rows import FoldedStore
from server.core.records.records import PREFIX_BYTES
from server.core.records.store import Store
from server.storage.engine import NO_BYTES_MAX as PAGE_BYTES
from server.storage.engine import Engine, StorageDamaged
from server.storage.engines import open_engine
from tests.wire.cluster import WireCluster, WireNode

RECORDS_END = SLOTS.to_bytes(2, "big")
HINTS, HINTS_END = b"\xff\xfe", b"\xff\xff"
PAGE = 10_000
Records = dict[bytes, bytes]


def open_disk(node: WireNode) -> Engine:
    """The engine of a node that does not run. Close it."""
    return open_engine("rocksdb", node.directory / "data")


def records_of(node: WireNode) -> Records:
    """The records on the disk of a node that does not run, by storage key."""
    with closing(open_disk(node)) as engine:
        store = FoldedStore(engine, StorageDamaged, 0)
        store.open()
        return _all(store, b"", RECORDS_END)


def hints_of(node: WireNode) -> Records:
    """Its open hints."""
    with closing(open_disk(node)) as engine:
        return _all(engine, HINTS, HINTS_END)


def is_dead(record: bytes) -> bool:
    """Whether it holds nothing but tombstones."""
    _, siblings = versions.decode(record)
    return all(sibling.kind == versions.TOMBSTONE for sibling in siblings)


def assert_owners_equal(cluster: WireCluster, owners: Sequence[Sequence[str]]) -> dict[str, Records]:
    """All owners of each partition hold the same records, sound ones, and nobody else holds any; no hint is open. For a
    cluster that does not run; `owners` as DYN.RING SHOW told. Returns the records of each node."""
    disks = {node.name: records_of(node) for node in cluster.nodes}
    for node in cluster.nodes:
        assert not hints_of(node), f"{node.name} holds hints"
        unsound = [key for key, record in disks[node.name].items() if not versions.verify(record)]
        assert not unsound, f"{node.name} holds damaged records: {unsound[:5]}"
    keys = sorted({key for records in disks.values() for key in records})
    for key in keys:
        slot = int.from_bytes(key[:2], "big")
        _assert_equal(key, disks, owners[slot * len(owners) // SLOTS])
    return disks


def _assert_equal(key: bytes, disks: Mapping[str, Records], owners: Sequence[str]) -> None:
    held = {name: records[key] for name, records in disks.items() if key in records}
    stray = [name for name in held if name not in owners]
    assert not stray, f"{stray} hold {key[PREFIX_BYTES:]!r}, which is not theirs"
    if len(held) == len(owners) and len(set(held.values())) == 1:
        return
    dead = all(is_dead(record) for record in held.values())
    told = {name: versions.decode(record) for name, record in held.items()}
    assert dead and len(set(held.values())) == 1, f"owners differ about {key[PREFIX_BYTES:]!r}: {told}"


def _all(engine: Store, start: bytes, end: bytes) -> Records:
    found: Records = {}
    while page := engine.scan(start, end, PAGE, PAGE_BYTES):
        found |= page
        start = page[-1][0] + b"\0"
    return found
