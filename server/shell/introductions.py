"""Which nodes this one takes for peers when they introduce themselves, and what it says of those that it refuses."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from protocol import resp
from server.core.membership.addresses import looked_for
from server.shell.inbound import Inbound

if TYPE_CHECKING:
    from server.shell.server import Server

log = logging.getLogger("dyn")
PEER_VERSION = 1
PIECES = b"PIECES"  # says in an introduction, and in its answer, that large messages may come in pieces
VIEW = b"VIEW"  # says in an introduction that a view (views.py) may stand in the answer, and precedes it there
_REFUSALS_MAX = 256  # nodes whose last refusal is remembered, so as to log it once
_DIGITS_MAX = 18


def welcome_of(line: bytes) -> tuple[bool, list[bytes]] | None:
    """Of the answer to our introduction: whether the peer reads pieces, and the view of its layout, empty where it tells
    none; None if we are refused, or the line has not come whole."""
    words = line.split()
    if words[:1] != [b"+OK"] or not line.endswith(b"\r\n"):
        return None
    place = words.index(VIEW) + 1 if VIEW in words else len(words)
    return PIECES in words, words[place : place + 3]


class Introductions:
    """The introductions of one server's peers."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.inbound = Inbound(server)
        self._refusals: dict[bytes, str] = {}  # the last one of each node that we have refused

    def check(self, args: list[bytes]) -> str:
        """The error for a node that introduces itself with these arguments and is not welcome; empty if it is."""
        if len(args) < 5:
            return "ERR DYN.PEER wants version, cluster, id and incarnation"
        if not args[3].isascii():
            return "ERR a node's id is printable ASCII"
        if args[1] != b"%d" % PEER_VERSION:
            return f"ERR this node speaks version {PEER_VERSION} of the protocol between nodes"
        node = self._server.node
        wanted, address = looked_for(args[5:])
        if mistaken := node.addresses.mistaken(wanted):
            return mistaken
        if args[3] == node.state.id.encode():
            return "ERR a node with this node's own id: was its directory copied?"
        peer = args[3].decode()
        if refusal := node.membership.refusal(peer, args[2].decode("utf-8", "replace"), args[5:]):
            return refusal
        connected, way = self._server.way_to(peer)
        node.state.at(self._server.now_ms())
        incarnation = int(args[4]) if args[4].isdigit() and len(args[4]) <= _DIGITS_MAX else 0
        refusal = node.copies.refusal(peer, incarnation, address, connected, way)
        refusal = refusal or node.lives.refusal(peer, args[5:]) or self.inbound.refusal(peer)
        if not refusal:
            node.addresses.arrived(peer, incarnation, address)
        return refusal

    def welcome(self, args: Sequence[bytes]) -> bytes:
        """The answer to the introduction of a node that is welcome. An older node takes no words but those it has told."""
        words = [word for word in (PIECES,) if word in args[7:]]
        if VIEW in args[7:]:
            view = self._server.node.membership.view()
            words += [VIEW, *(word if isinstance(word, bytes) else str(word).encode() for word in view)]
        return b" ".join([resp.OK.strip(), *words]) + b"\r\n"

    def report_refusal(self, peer: Sequence[bytes], address: str, error: str) -> None:
        """A node was refused, as it may be four times a second: logged when there is something new to say."""
        name = peer[0] if peer else b""
        if self._refusals.get(name) == error:
            return
        if len(self._refusals) >= _REFUSALS_MAX:
            self._refusals.clear()
        self._refusals[name] = error
        log.info("refused a node's connection from %s: %s", address, error)
