"""Large messages of another node, and large values: in slices, one in a turn, dropped with the process that sent them."""

from __future__ import annotations

from collections import deque
from typing import Any

from protocol import resp
from protocol.frames import FrameReader, seal
from protocol.pieces import PieceQueue
from server.core.messages.kinds import encode_store
from server.core.records import versions
from server.core.records.draft import Draft
from server.core.records.kinds import HASH
from server.core.records.records import storage_key_of
from server.shell.context import LARGE_BYTES
from tests.core.commands.talking import reach
from tests.shell.test_connections import Shell, Transport, peer_of


def test_a_large_record_of_a_peer_is_checked_in_slices_and_others_pass_it() -> None:
    shell = Shell(Transport(), members=3)
    node, due = shell.node, deque[Any]()
    shell.loop.call_soon = lambda call, *_: due.append(call)
    reach(node, 2)
    peer = peer_of(shell, 2)
    draft = Draft(None, 0, HASH)
    for field in range(12_000):
        draft.put(b"%d" % field, b"value")
    large, small = storage_key_of(b"large"), storage_key_of(b"small")
    record = draft.record(b"actor--2", 5)
    little = versions.supersede(None, b"actor--2", 6, b"value")
    pieces = PieceQueue()
    for pairs in ([large, record], [large, record], [small, little]):
        pieces.add(encode_store(0, 1, pairs))
    while piece := pieces.next():
        peer.data_received(piece)
    other = storage_key_of(b"other")
    peer.data_received(seal([encode_store(0, 1, [other, little])]))
    assert node.state.records.get(other) == little, "what is small passes what is large"
    assert node.state.records.get(large) is None and peer.message_bytes > 2 * len(record)
    asked, passes = shell.turns_asked, 0
    while due:
        passes += 1
        due.popleft()()
        assert node.state.records.get(small) is None or not due, "what came in pieces keeps its order"
    assert passes > 4 and shell.turns_asked > asked
    assert node.state.records.get(large) == record and node.state.records.get(small) == little
    assert peer.message_bytes == 0


def test_large_messages_outlive_their_connection_and_not_the_process_that_sent_them() -> None:
    shell = Shell(Transport(), members=3)
    due = deque[Any]()
    shell.loop.call_soon = lambda call, *_: due.append(call)
    reach(shell.node, 2)
    records, peer = shell.node.state.records, peer_of(shell, 2)
    inbound = peer._inbound
    for number, name in enumerate((b"kept", b"dropped")):
        pieces, key = PieceQueue(), storage_key_of(name)
        for each in (storage_key_of(b"first"), key):
            record = versions.supersede(None, b"actor--2", 6 + number, b"v" * 1000)
            pieces.add(encode_store(0, 1, [each, record]))
        peer._frames = FrameReader(1 << 20)
        peer.data_received(b"".join(iter(pieces.next, b"")))
        assert records.get(key) is None and len(due) == 1
        if name == b"dropped":
            inbound.add(peer)
            inbound.cut_earlier(peer.peer, b"another process")
        peer.connection_lost(None)
        due.popleft()()
        assert (records.get(key) is None) == (name == b"dropped")
        assert peer.message_bytes == 0


def test_large_values_never_share_a_turn() -> None:
    """The commit of each takes long, and others are served between two of them."""
    shell = Shell(Transport(), members=3)
    due = deque[Any]()
    shell.loop.call_soon = lambda call, *_: due.append(call)
    reach(shell.node, 2)
    peer, pieces, value = peer_of(shell, 2), PieceQueue(), b"v" * LARGE_BYTES
    for name in (b"one", b"two"):
        record = versions.supersede(None, b"actor--2", 6, value)
        pieces.add(encode_store(0, 1, [storage_key_of(name), record]))
    peer.data_received(b"".join(iter(pieces.next, b"")))
    shell.is_pass_late = True
    assert shell.large_turns == 1 and len(due) == 1
    due.popleft()()
    assert shell.large_turns == 1, "this pass of the loop has taken long already"
    due.popleft()()
    assert shell.large_turns == 2 and not due, "it is put off once, or it would wait as long as others are busy"
    command = resp.command("SET", "three", value)
    for first in range(0, len(command), 256 << 10):
        shell.client.data_received(command[first : first + (256 << 10)])
    assert shell.large_turns == 3


def test_a_malformed_message_in_pieces_closes_the_connection_though_it_is_met_later() -> None:
    shell = Shell(Transport(), members=3)
    due = deque[Any]()
    shell.loop.call_soon = lambda call, *_: due.append(call)
    peer = peer_of(shell, 2)
    pieces = PieceQueue()
    draft = Draft(None, 0, HASH)
    for field in range(12_000):
        draft.put(b"%d" % field, b"value")
    for record in (draft.record(b"actor--2", 5), b"x" * (1 << 17), b"x" * (1 << 17)):
        pieces.add(encode_store(0, 1, [storage_key_of(b"k"), record]))
    while piece := pieces.next():
        peer.data_received(piece)
    while due:
        due.popleft()()
    assert peer.transport.aborted  # type: ignore[attr-defined]
    assert shell.node.state.statistics.damaged_frames == 1 and peer.message_bytes == 0
