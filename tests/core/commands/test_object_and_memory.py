"""What OBJECT, MEMORY and WAIT tell of a key, a node and a connection."""

from __future__ import annotations

import pytest

from server.core.commands.object_command import encoding_of
from server.core.records.draft import Draft
from server.core.records.kinds import HASH, SET, ZSET
from server.core.records.views import View, pack_score
from tests.core.commands.talking import Client, make_node

NOW_MS = 1_700_000_000_000


@pytest.mark.parametrize(("value", "encoding", "count"), [
    ("1", "int", 2147483647), ("9999", "int", 2147483647), ("10000", "int", 1), ("-1", "int", 1), ("01", "embstr", 1),
    ("9223372036854775807", "int", 1), ("9223372036854775808", "embstr", 1), ("a" * 44, "embstr", 1),
    ("a" * 45, "raw", 1),
])  # fmt: skip
def test_strings_are_encoded_as_redis_would(value: str, encoding: str, count: int) -> None:
    client = Client(make_node())
    client.ask(f"SET k {value}")
    assert client.ask("OBJECT ENCODING k") == encoding
    assert client.ask("OBJECT REFCOUNT k") == count


MEMORY_FACTS = {
    "used_memory": str(100 << 20),
    "used_memory_peak": str(125 << 20),
    "total_system_memory": str(1000 << 20),
    "mem_fragmentation_ratio": "1.00",
}


def view_of(key_type: int, fields: dict[bytes, bytes]) -> View:
    """A view of a collection with these fields."""
    draft = Draft(None, NOW_MS, key_type)
    for field, payload in fields.items():
        draft.put(field, payload)
    return View(draft.record(b"actor--1", 1), NOW_MS)


@pytest.mark.parametrize(("key_type", "fields", "encoding"), [
    (HASH, {b"a": b"1"}, "listpack"), (HASH, {b"a": b"1" * 65}, "hashtable"), (HASH, {b"a" * 65: b"1"}, "hashtable"),
    (HASH, {b"%d" % n: b"" for n in range(128)}, "listpack"), (HASH, {b"%d" % n: b"" for n in range(129)}, "hashtable"),
    (SET, {b"1": b"", b"-2": b""}, "intset"), (SET, {b"1": b"", b"a": b""}, "hashtable"),
    (SET, {b"%d" % n: b"" for n in range(512)}, "intset"), (SET, {b"%d" % n: b"" for n in range(513)}, "hashtable"),
    (ZSET, {b"a": pack_score(1)}, "listpack"), (ZSET, {b"a" * 65: pack_score(1)}, "skiplist"),
    (ZSET, {b"%d" % n: pack_score(n) for n in range(129)}, "skiplist"),
])  # fmt: skip
def test_collections_are_encoded_as_redis_would(key_type: int, fields: dict[bytes, bytes], encoding: str) -> None:
    assert encoding_of(view_of(key_type, fields)) == encoding


def test_idle_time_is_the_time_since_the_last_write() -> None:
    node = make_node()
    client = Client(node)
    node.tick(0, NOW_MS)
    client.ask("SET k v")
    client.now_ms = 7500
    node.tick(7500, NOW_MS + 7500)
    assert client.ask("GET k") == "v"
    assert client.ask("OBJECT IDLETIME k") == 7
    for line in ("OBJECT IDLETIME none", "OBJECT FREQ none", "OBJECT ENCODING none", "MEMORY USAGE none"):
        assert client.ask(line) is None
    assert client.error("OBJECT FREQ k").startswith("ERR An LFU maxmemory policy is not selected")


def test_memory_usage_grows_with_the_value() -> None:
    client = Client(make_node())
    client.ask("SET k v")
    small = client.ask("MEMORY USAGE k")
    client.ask("SET k " + "v" * 1001)
    assert client.ask("MEMORY USAGE k SAMPLES 0") == small + 1000
    assert client.error("MEMORY USAGE k SAMPLES -1") == "ERR syntax error"
    assert client.error("MEMORY USAGE k NOSUCH 1") == "ERR syntax error"
    assert client.ask("MEMORY PURGE") == "OK"


def test_memory_stats_tell_of_the_process_and_of_keys() -> None:
    client = Client(make_node())
    client.raw("SET a v", "SET b v")
    stats = client.ask("MEMORY STATS")
    assert dict(zip(stats[::2], stats[1::2], strict=True))["keys.count"] == 2
    client.node.services.process.facts = MEMORY_FACTS
    stats = client.ask("MEMORY STATS")
    told = dict(zip(stats[::2], stats[1::2], strict=True))
    assert told["total.allocated"] == 100 << 20 and told["keys.bytes-per-key"] == 50 << 20
    assert told["peak.percentage"] == "80.00" and told["clients.normal"] == told["hints.bytes"] == 0


def test_the_doctor_of_memory_names_what_is_nearly_full() -> None:
    client = Client(make_node())
    services = client.node.services
    services.process.facts = MEMORY_FACTS
    assert "no trouble" in client.ask("MEMORY DOCTOR")
    services.process.facts = MEMORY_FACTS | {"used_memory_peak": str(200 << 20), "total_system_memory": str(110 << 20)}
    services.writes.unconfirmed_bytes = 250 << 20
    lines = client.ask("MEMORY DOCTOR").splitlines()
    assert len(lines) == 3 and "cache_memory_percent" in lines[0] and "200 MiB at its peak" in lines[1]
    assert lines[2].endswith("take 250 MiB, and unconfirmed_bytes_max is 256 MiB.")


def test_wait_tells_the_least_quorum_of_the_writes_since_the_last_one() -> None:
    node = make_node(3)
    client = Client(node)
    assert client.ask("WAIT 1 0") == 1, "W is 2 by the layout"
    client.ask("DYN.QUORUM W 3")
    assert client.ask("WAIT 5 100") == 1, "there may be writes from before"
    assert client.ask("WAIT 5 100") == 2
    client.ask("DYN.QUORUM W 1")
    client.ask("DYN.QUORUM W 3")
    assert client.ask("WAIT 0 0") == 0
    assert client.ask("WAIT 0 0") == 2
    node.command(client.session, b"DYN.SET k v W 1".split(), 0)
    assert client.session.least_write_quorum == 1
    other = Client(node)
    assert other.error("WAIT x 0") == "ERR value is not an integer or out of range"
    assert other.error("WAIT 0 x") == "ERR timeout is not an integer or out of range"
    assert other.error("WAIT 0 -1") == "ERR timeout is negative"
