"""The shell's end of a link, by itself: what it tells its node of connections that come and go."""

from __future__ import annotations

from collections.abc import Coroutine
from types import SimpleNamespace
from typing import Any

from protocol import resp
from server.core.base.config import Config
from server.core.membership.copies import Way
from server.shell.links import Link
from server.shell.server import Server
from tests.core.commands.talking import make_node, member


class _Loop:
    """Runs nothing."""

    def create_task(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Passes over an attempt to connect."""
        coroutine.close()

    def call_later(self, delay_s: float, call: object, *args: object) -> SimpleNamespace:
        """A timer that never fires."""
        return SimpleNamespace(cancel=lambda: None)


class _Shell:
    """What a link asks of its server, and what its node was told."""

    def __init__(self) -> None:
        self.loop, self.config, self.told = _Loop(), Config(), list[str]()
        self._links: dict[str, Link] = {}
        self.node = SimpleNamespace(
            membership=SimpleNamespace(introduction=lambda: ("c", "n1", 1, 2, 3)),
            addresses=SimpleNamespace(greeting=lambda peer: ("FOR", peer)),
            connected=lambda peer, now_ms: self.told.append(f"connected {peer}"),
            disconnected=lambda peer, now_ms: self.told.append(f"disconnected {peer}"),
        )

    def now_ms(self) -> int:
        """Any time."""
        return 0

    def schedule_turn(self) -> None:
        """There is none."""

    def has_link(self, peer: str) -> bool:
        """As the server does it."""
        return Server.has_link(self, peer)  # type: ignore[arg-type]

    def link(self) -> Link:
        """A link to n2 that has been opened, in place of the one before."""
        link = self._links["n2"] = Link(self, "n2", "127.0.0.1:1")  # type: ignore[arg-type]
        link.connection_made(_Transport())  # type: ignore[arg-type]
        link.data_received(resp.OK)
        return link


class _Transport:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

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
    Link(shell, "n2", "127.0.0.1:1").connection_made(transport)  # type: ignore[arg-type]
    assert transport.written == [resp.command(b"DYN.PEER", 1, "c", "n1", 1, 2, 3, "FOR", "n2")]


def test_who_comes_from_another_address_before_there_are_links_waits_for_them() -> None:
    """A node that has just started does not know yet whether the one at the address in its layout is alive."""
    peer = member(2)
    shell = SimpleNamespace(node=make_node(3), now_ms=lambda: 1, fellows={}, _links={})
    layout = shell.node.state.layout
    assert layout is not None
    introduction = ["DYN.PEER", "1", layout.cluster, peer.id, "7", str(layout.epoch), "0", "FOR", member(1).id, "AT"]
    moved, same = ([word.encode() for word in (*introduction, address)] for address in ("10.9.9.9:1", peer.address))
    assert Server.check_peer(shell, moved).startswith("WAIT ")  # type: ignore[arg-type]
    assert Server.check_peer(shell, same) == ""  # type: ignore[arg-type]
    shell._links[peer.id] = SimpleNamespace(way=Way.FAILED)
    moved[4] = b"8"
    assert Server.check_peer(shell, moved) == ""  # type: ignore[arg-type]


def test_a_link_that_breaks_is_told_to_the_node() -> None:
    shell = _Shell()
    shell.link().connection_lost(None)
    assert shell.told == ["connected n2", "disconnected n2"]


def test_a_link_that_ends_late_says_nothing_of_a_newer_one() -> None:
    """The peer has left, and was joined again before the old connection had ended."""
    shell = _Shell()
    old = shell.link()
    old.finish()
    newer = shell.link()
    old.connection_lost(None)
    assert shell.told == ["connected n2", "connected n2"]
    newer.connection_lost(None)
    assert shell.told[2:] == ["disconnected n2"]
