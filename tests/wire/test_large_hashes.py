"""A hash of many fields on three nodes: what a write of one field sends, and what is there after a replica was killed."""

from __future__ import annotations

import random
from collections.abc import Callable

import redis

from tests.wire.cluster import Client, WireCluster, wait_for
from tests.wire.repairs import counters, stop_and_compare, wait_delivered

FIELDS = 2000
VALUE = "v" * 50
KEYS = ("large", "larger", "largest")  # whichever node coordinates them


def _fill(client: Client) -> None:
    for key in KEYS:
        client.hset(key, mapping={f"field{number}": VALUE for number in range(FIELDS)})


def _sum(cluster: WireCluster, name: str) -> int:
    return sum(counters(node)[name] for node in cluster.nodes)


def test_a_write_of_one_field_sends_only_what_changes(make_cluster: Callable[..., WireCluster]) -> None:
    """Single writes and pipelines, through a node that may not coordinate the key."""
    cluster = make_cluster()
    client = cluster.nodes[0].client()
    _fill(client)
    sent, size = _sum(cluster, "patches_sent"), _sum(cluster, "patch_bytes_sent")
    for number in range(60):
        client.hset(KEYS[number % 3], f"field{number}", f"new{number}")
    wait_for(lambda: _sum(cluster, "patches_sent") - sent >= 2 * 60, "each write goes to two replicas")
    single = _sum(cluster, "patches_sent") - sent
    assert single == 2 * 60, "and to nobody twice"
    assert _sum(cluster, "patch_bytes_sent") - size < single * 500 < len(VALUE) * FIELDS
    for _ in range(10):
        pipe = client.pipeline(transaction=False)
        for number in range(16):
            pipe.hset(KEYS[0], f"field{number}", "later")
        pipe.execute()
    assert _sum(cluster, "patches_unfit") == 0
    for node in cluster.nodes:
        other = node.client()
        assert other.hget(KEYS[0], "field15") == b"later" and other.hget(KEYS[1], "field58") == b"new58"
        assert other.hlen(KEYS[0]) == FIELDS
    stop_and_compare(cluster)


def test_a_replica_is_killed_while_fields_are_written(make_cluster: Callable[..., WireCluster]) -> None:
    """It comes back without what was written meanwhile. In the end all nodes hold the same bytes, and every field that was
    acknowledged."""
    cluster = make_cluster()
    rng = random.Random(7)
    writer, victim = cluster.nodes[0], cluster.nodes[2]
    client = writer.client()
    _fill(client)
    written: dict[tuple[str, str], bytes | None] = {}  # None: the outcome of the last write is unknown

    def write(count: int) -> None:
        for number in range(count):
            key, value = rng.choice(KEYS), b"%d" % rng.randrange(10**9)
            fields = [f"field{rng.randrange(FIELDS)}"] if number % 10 else [f"extra{place}" for place in range(16)]
            pipe = client.pipeline(transaction=False)
            for field in fields:
                pipe.hset(key, field, value)
            for field, reply in zip(fields, pipe.execute(raise_on_error=False), strict=True):
                written[key, field] = None if isinstance(reply, redis.ResponseError) else value

    write(50)
    victim.kill()
    write(100)
    victim.start()
    wait_for(victim.serves, "it is back")
    write(100)
    cluster.wait_healthy()
    wait_delivered(cluster)
    known = {place: value for place, value in written.items() if value is not None}
    assert len(known) > 150
    for (key, field), value in known.items():
        assert client.hget(key, field) == value
    assert _sum(cluster, "patches_sent") > 0
    stop_and_compare(cluster)
