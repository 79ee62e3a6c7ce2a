"""The shell's end of a link, by itself: what it tells its node of connections that come and go."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any, cast

from protocol import resp
from protocol.frames import FrameReader, encode_message, seal
from protocol.peer_versions import CAPABILITIES, OURS, introduced, welcomed
from protocol.pieces import PIECE_START
from server.core.base.config import Config
from server.core.membership.duplicates import LinkState
from server.core.node import Node
from server.shell.context import Context
from server.shell.introductions import Introductions
from server.shell.links import Link
from server.shell.peers import Peers
from tests.core.commands.talking import make_node, member


class _Loop:
    """Runs nothing but what a test asks for."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.timers: list[Callable[[], object]] = []
        self.soon: list[Callable[[], None]] = []

    def time(self) -> float:
        """As the test has it."""
        return self.now_s

    def create_task(self, coroutine: Coroutine[Any, Any, None], name: str) -> SimpleNamespace:
        """Passes over an attempt to connect."""
        coroutine.close()
        return SimpleNamespace(add_done_callback=lambda call: None, cancel=lambda: None)

    def call_later(self, delay_s: float, call: object, *args: object) -> SimpleNamespace:
        """A timer that fires when the test says so."""
        self.timers.append(lambda: call(*args))  # type: ignore[operator]
        return SimpleNamespace(cancel=lambda: None)

    def call_soon(self, call: Callable[[], None]) -> None:
        """For the next pass."""
        self.soon.append(call)

    def fire(self, now_s: float) -> None:
        """It is that late, and the last timer fires."""
        self.now_s = now_s
        self.timers.pop()()


class _Shell:
    """What a link asks of its server, and what its node was told."""

    def __init__(self) -> None:
        self.loop, self.config, self.told = _Loop(), Config(), list[str]()
        self._links: dict[str, Link] = {}
        self.services = SimpleNamespace(
            membership=SimpleNamespace(introduction=lambda: ("c", "n1", 1, 2, 3)),
            addresses=SimpleNamespace(greeting=lambda peer: ("FOR", peer)),
            process=SimpleNamespace(peer_links={}),
            authentication=SimpleNamespace(secrets=(), is_required=False),
        )
        self.node = SimpleNamespace(
            connected=lambda peer, now_ms, can, view: self.told.append(
                " ".join(["connected", peer, *map(bytes.decode, view)])
            ),
            disconnected=lambda peer, now_ms: self.told.append(f"disconnected {peer}"),
            state=SimpleNamespace(backlogged={}),
        )

    def now_ms(self) -> int:
        """Any time."""
        return 0

    def schedule_turn(self) -> None:
        """There is none."""

    def link(self, answer: bytes = resp.OK, transport: _Transport | None = None) -> Link:
        """A link to n2 that has been opened, in place of the one before."""
        link = self._links["n2"] = Link(cast(Context, self), "n2", "127.0.0.1:1", self._links)
        link.connection_made(transport or _Transport())  # type: ignore[arg-type]
        link.data_received(answer)
        return link


class _Transport:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.size = 0  # of what the socket has not taken
        self.aborted = False

    def set_write_buffer_limits(self, high: int) -> None:
        """The test says when the buffer is full."""

    def get_write_buffer_size(self) -> int:
        """As the test has it."""
        return self.size

    def abort(self) -> None:
        """The connection is cut."""
        self.aborted = True

    def get_extra_info(self, name: str) -> SimpleNamespace:
        """A socket."""
        return SimpleNamespace(setsockopt=lambda *args: None)

    def write(self, data: bytes) -> None:
        """Keeps it."""
        self.written.append(data)

    def writelines(self, parts: list[bytes]) -> None:
        """Keeps them."""
        self.written += parts

    def close(self) -> None:
        """Says nothing yet."""


def test_a_link_introduces_its_node_with_the_version_of_its_layout_and_says_whom_it_is_for() -> None:
    shell, transport = _Shell(), _Transport()
    Link(cast(Context, shell), "n2", "127.0.0.1:1", {}).connection_made(transport)  # type: ignore[arg-type]
    words = ("c", "n1", 1, 2, 3, "FOR", "n2", "PIECES", "MAX", 1, "CAN", b",".join(CAPABILITIES))
    assert transport.written == [resp.command(b"DYN.PEER", 1, *words)]


def _context(node: Node, now_ms: int = 0) -> Context:
    """What introductions ask of the shell around a real node."""
    config = node.state.config
    return cast(Context, SimpleNamespace(node=node, services=node.services, config=config, now_ms=lambda: now_ms))


def test_who_comes_from_another_address_before_there_are_links_waits_for_them() -> None:
    """A node that has just started does not know yet whether the one at the address in its layout is alive."""
    peer = member(2)
    states = {"state": LinkState.UNTRIED}
    node = make_node(3)
    peers = SimpleNamespace(
        link_state_of=lambda peer: (False, states["state"]), inbound=SimpleNamespace(refusal=lambda peer: "")
    )
    introductions = Introductions(_context(node, 1), cast(Peers, peers))
    layout = node.state.layout
    assert layout is not None
    introduction = ["DYN.PEER", "1", layout.cluster, peer.id, "7", str(layout.epoch), "0", "FOR", member(1).id, "AT"]
    moved, same = ([word.encode() for word in (*introduction, address)] for address in ("10.9.9.9:1", peer.address))
    assert introductions.check(moved).startswith("WAIT ")
    assert introductions.check(same) == ""
    states["state"] = LinkState.FAILED
    moved[4] = b"8"
    assert introductions.check(moved) == ""


def test_the_answer_to_an_introduction_tells_the_view_of_a_layout_to_who_reads_it() -> None:
    introductions = Introductions(_context(make_node(3)), cast(Peers, None))
    view = [word.decode() for word in make_node(3).services.membership.views.words()]
    older = introduced(b"1", [b"7", b"0", b"FOR", b"n1", b"PIECES"])
    assert older is not None and introductions.welcome(older) == b"+OK PIECES\r\n", "all that an older node takes"
    answer = introductions.welcome(OURS)
    assert answer.endswith(" ".join([" VIEW", *view]).encode() + b"\r\n")
    shell = _Shell()
    shell.link(answer, _Transport())
    assert shell.told == [" ".join(["connected n2", *view])]
    assert welcomed(answer[:-2]) is None, "it has not come whole"
    fresh = Introductions(_context(make_node(0)), cast(Peers, None))
    told = welcomed(fresh.welcome(OURS))
    assert told is not None and not told.view


def test_a_link_that_breaks_is_told_to_the_node() -> None:
    shell = _Shell()
    link = shell.link()
    ((row,),) = (shell.services.process.peer_links.values(),)
    assert (row.direction, row.peer, row.unsent_bytes()) == ("to", "n2", 0), "as CLUSTER LINKS shows it"
    link.connection_lost(None)
    assert not shell.services.process.peer_links
    assert shell.told == ["connected n2", "disconnected n2"]


def test_a_link_that_ends_late_says_nothing_of_a_newer_one() -> None:
    """The peer has left, and was joined again before the old connection had ended."""
    shell = _Shell()
    old = shell.link()
    old.close_when_sent()
    newer = shell.link()
    old.connection_lost(None)
    assert shell.told == ["connected n2", "connected n2"]
    newer.connection_lost(None)
    assert shell.told[2:] == ["disconnected n2"]


LARGE = encode_message((b"STORE", 1, 2, b"k", b"v" * (1 << 20)))
MIB = 1 << 20


def _large(transport: _Transport, link: Link, count: int = 1) -> list[bytes]:
    """What is written when so many large messages are sent."""
    transport.written.clear()
    link.write_large([LARGE] * count)
    return transport.written


def test_large_messages_go_in_pieces_to_a_peer_that_welcomes_them_and_whole_to_others() -> None:
    shell, transport = _Shell(), _Transport()
    pieces = _large(transport, shell.link(b"+OK PIECES\r\n", transport))
    assert len(pieces) == 16, "a burst of 1 MiB in a pass of the loop"
    shell.loop.soon.pop()()
    assert len(pieces) == 17 and all(piece.startswith(PIECE_START) for piece in pieces)
    reader = FrameReader()
    reader.feed(b"".join(pieces))
    message = reader.next()
    assert message is not None and message[0] == b"STORE" and len(message[4]) == MIB
    assert _large(transport, _Shell().link(resp.OK, transport)) == [seal([LARGE])]


def test_small_messages_pass_what_waits_for_the_socket() -> None:
    shell, transport = _Shell(), _Transport()
    link = shell.link(b"+OK PIECES\r\n", transport)
    link.pause_writing()
    assert _large(transport, link) == []
    link.write(b"small")
    assert transport.written == [b"small"]
    link.resume_writing()
    assert len(transport.written) == 1 + 16, "a burst of 1 MiB in a pass of the loop"
    shell.loop.soon.pop()()
    assert len(transport.written) == 1 + 17


def test_a_peer_that_takes_nothing_is_cut_and_one_that_is_slow_is_not() -> None:
    for taken, cut in ((1, False), (0, True)):
        shell, transport = _Shell(), _Transport()
        link = shell.link(b"+OK PIECES\r\n", transport)
        transport.size = MIB
        link.pause_writing()
        _large(transport, link)
        assert link.outbound.backlog_bytes == len(LARGE)
        for half in range(1, 8):
            transport.size += 100 - taken
            link.write(b"s" * 100)
            shell.loop.fire(half / 2)
            if half == 4 and not taken:
                assert link.outbound.backlog_bytes == 0, "clients do not wait for a peer that hangs"
            if transport.aborted:
                break
        assert transport.aborted is cut
        assert link.outbound.waiting_bytes == (0 if cut else len(LARGE))


def test_the_core_is_told_of_a_backlog_until_half_of_it_is_gone() -> None:
    shell, transport = _Shell(), _Transport()
    link = shell.link(b"+OK PIECES\r\n", transport)
    link.pause_writing()
    _large(transport, link, 128)
    assert shell.node.state.backlogged == {"n2": None}
    assert not transport.aborted
    link.resume_writing()
    while shell.node.state.backlogged:
        shell.loop.soon.pop()()
    assert 59 * MIB < link.outbound.waiting_bytes <= 64 * MIB, "in bursts, one in a pass of the loop"
    link.pause_writing()
    _large(transport, link, 600)
    assert transport.aborted, "past peer_buffer_bytes_max"
    assert not shell.node.state.backlogged
