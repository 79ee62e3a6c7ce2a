"""Large records with many patch rows are written whole in slices, while clients go on writing (requests/checkpoints.py)."""

from __future__ import annotations

from collections.abc import Sequence

from server.core.base.config import Config
from server.core.formats.pausing import Slices
from server.core.node import Node
from server.core.records.patch_rows import LARGE_ROWS_MAX, PREFIX, ROWS_MAX
from server.core.records.records import storage_key_of
from tests.core.commands.talking import CONFIG, Client, Store, finish_turn, make_node

LARGE_BYTES = 100_000
PAUSES = 20


def large_hash(node: Node) -> Store:
    """The store of a node that has a large hash `h`."""
    fields = " ".join(f"field:{number} {'v' * 30}" for number in range(3000))
    Client(node).raw(f"HSET h {fields}")
    for now_ms in range(1, 200):
        node.wake(now_ms)
        finish_turn(node)
    store = node.state.records._store
    assert isinstance(store, Store) and len(store.pairs[storage_key_of(b"h")]) > LARGE_BYTES
    return store


def test_the_record_is_staged_and_no_turn_writes_it_unstaged() -> None:
    config = Config(engine="memory", tree_leaf_bits=CONFIG.tree_leaf_bits, patch_record_bytes_min=1000)
    node = make_node(config=config)
    node.state.staged_bytes_min = node.state.records.folded.large_bytes = LARGE_BYTES
    ready: list[bytes] = []

    def stage(values: Sequence[bytes]) -> Slices[None]:
        for value in values:
            for _ in range(PAUSES):
                yield
            ready.append(value)

    node.services.writes.stage = stage
    client, key, store = Client(node), storage_key_of(b"h"), large_hash(node)
    ready.clear()
    rows_max = wholes = 0
    for number in range(1000):
        now_ms = 200 + number
        if number % 10 == 0:
            node.tick(now_ms, now_ms)
        node.wake(now_ms)
        node.command(client.session, [b"HSET", b"h", b"field:7", b"%d" % number], now_ms)
        outbox = finish_turn(node)
        written = outbox.writes.get(key)
        if written is not None:
            wholes += 1
            assert written in ready
            ready.clear()
        rows_max = max(rows_max, sum(row.startswith(PREFIX) for row in store.pairs))
    assert ROWS_MAX < rows_max < LARGE_ROWS_MAX
    assert wholes == node.services.checkpoints.made > 5
    assert client.ask("HGET h field:7") == "999"
    node.state.records.cache.clear()
    assert client.ask("HGET h field:7") == "999"
    assert client.ask("HLEN h") == 3000
