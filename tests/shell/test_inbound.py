"""The connections of other nodes, without sockets: which are kept, and which is cut when too much is held for all."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from protocol.frames import FrameReader, encode_frame
from protocol.pieces import piece_of
from server.core.base.config import Config
from server.shell.context import Context
from server.shell.inbound import Inbound, InboundPeer


class Peer:
    """A connection of a node, which holds so much of a message."""

    def __init__(self, peer: str, message_bytes: int = 0) -> None:
        self.peer = peer
        self.message_bytes = message_bytes
        self.address = "10.0.0.1:1"
        self.is_cut = False
        self.transport = SimpleNamespace(abort=self._abort, is_closing=lambda: self.is_cut)

    def _abort(self) -> None:
        self.is_cut = True

    def drop_message(self) -> None:
        self.message_bytes = 0


def inbound(*peers: Peer, **settings: Any) -> Inbound:
    """Of a server with these connections; n1 to n3 are members."""
    node = SimpleNamespace(state=SimpleNamespace(members=frozenset({"n1", "n2", "n3"})))
    bounded = Inbound(cast(Context, SimpleNamespace(config=Config(**settings), node=node)))
    bounded.connections |= {number: cast(InboundPeer, peer) for number, peer in enumerate(peers)}
    return bounded


def test_a_peer_keeps_its_latest_connection_beside_the_new_one() -> None:
    peers = [Peer("n2"), Peer("n3"), Peer("n2")]
    assert inbound(*peers).refusal("n2") == ""
    assert [peer.is_cut for peer in peers] == [True, False, False]


@pytest.mark.parametrize(
    ("present", "comer", "is_taken", "cut"),
    [
        (["n2", "x", "y"], "n3", True, [False, True, False]),
        (["n2", "x", "y"], "z", False, [False, False, False]),
        (["n1", "n2", "n2"], "n3", False, [False, False, False]),
        (["n2", "x"], "z", True, [False, False]),
    ],
)
def test_members_come_before_strangers(present: list[str], comer: str, is_taken: bool, cut: list[bool]) -> None:
    peers = [Peer(peer) for peer in present]
    refusal = inbound(*peers, peers_max=3).refusal(comer)
    assert refusal.startswith("" if is_taken else "ERR this node takes 3 connections of other nodes at most")
    assert bool(refusal) is not is_taken
    assert [peer.is_cut for peer in peers] == cut


def test_the_connection_for_which_most_is_held_is_cut() -> None:
    peers = [Peer("n2", 300 << 20), Peer("n3", 200 << 20)]
    bounded = inbound(*peers)
    bounded.held_changed(500 << 20)
    assert not any(peer.is_cut for peer in peers)
    bounded.held_changed(13 << 20)
    assert [peer.is_cut for peer in peers] == [True, False]


def test_what_is_held_of_frames_and_pieces_is_known() -> None:
    reader = FrameReader()
    frame = encode_frame([b"KIND", b"0", b"0", b"x" * 1000])
    reader.feed(frame[:600])
    assert reader.next() is None and reader.pending_bytes == 600
    reader.feed(frame[600:] + frame[:10])
    assert reader.next() is not None and reader.next() is None
    assert reader.pending_bytes == 10
    reader.feed(frame[10:])
    assert reader.next() is not None and reader.pending_bytes == 0
    message = b"*1\r\n$5000\r\n" + b"y" * 5000 + b"\r\n"
    for start in (0, 2000):
        reader.feed(piece_of(message, 1, start, 2000))
        assert reader.next() is None
    assert reader.pending_bytes == 4000
    reader.feed(piece_of(message, 1, 4000, 2000))
    assert reader.next() == [b"y" * 5000] and reader.pending_bytes == 0
