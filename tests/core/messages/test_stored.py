"""A node's own documents that do not decode: the node starts, counts them as damage, and uses none of them."""

from __future__ import annotations

import random

import pytest

from server.core.node import Node
from server.core.records.records import META
from tests.core.commands.talking import CONFIG, WALL_MS, Store, member
from tests.core.messages.samples import DEEP


@pytest.mark.parametrize("document", [b"", b"{", b"\xff", b"[5]", b'{"epoch":1}', DEEP, b"null", b"-1"])
@pytest.mark.parametrize("name", [b"layout", b"left", b"tasks", b"transfer", b"staged", b"clock"])
def test_a_damaged_document_is_counted_and_not_adopted(name: bytes, document: bytes) -> None:
    store = Store()
    store.pairs[META + name] = document
    node = Node(member(1), b"actor--1", 1, CONFIG, store, random.Random(1), WALL_MS)
    node.tick(1000, WALL_MS)
    node.end_turn()
    assert node.state.records.damaged == 1
    assert node.state.layout is None and not node.services.staging.changes() and not node.services.transfers.tasks()
