"""Introductions: which nodes this one accepts as peers, and how it answers and logs the others."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Sequence

from protocol import peer_versions
from protocol.bounds import NODE_ID_BYTES_MAX, TIME_MS_MAX, is_node_id
from protocol.peer_versions import Speech, introduced
from server.core.membership.addresses import looked_for
from server.shell.certificates import is_nodes
from server.shell.context import Context
from server.shell.peers import Peers

log = logging.getLogger("dyn")
WORD_BYTES_MAX = 2048  # of an introduction: the 32 incarnations of earlier versions take up to 1,280
_REFUSALS_MAX = 256  # nodes whose last refusal was logged, so that each is logged once
_DIGITS_MAX = 18


class Introductions:
    """The introductions of one server's peers."""

    def __init__(self, context: Context, peers: Peers) -> None:
        self._context = context
        self.peers = peers
        self._refusals: dict[bytes, str] = {}  # the last one of each node that we have refused

    def check(self, args: list[bytes]) -> str:
        """The error for a node that introduces itself with these arguments and is refused; empty if it is welcome."""
        if len(args) < 5:
            return "ERR DYN.PEER wants version, cluster, id and incarnation"
        if not args[3].isascii() or not is_node_id(args[3].decode()):
            return f"ERR a node's id is printable ASCII, {NODE_ID_BYTES_MAX} characters at most"
        node, services = self._context.node, self._context.services
        theirs = introduced(args[1], args[5:])
        if theirs is None:
            return "ERR DYN.PEER wants a range of versions of the protocol between nodes"
        if refusal := peer_versions.refusal(theirs, node.state.member.name):
            return refusal
        if max(map(len, args)) > WORD_BYTES_MAX:
            return f"ERR a word of DYN.PEER has {WORD_BYTES_MAX} bytes at most"
        wanted, address = looked_for(args[5:])
        if mistaken := services.addresses.mistaken(wanted):
            return mistaken
        if args[3] == node.state.id.encode():
            return "ERR a node with this node's own id: was its directory copied?"
        peer = args[3].decode()
        if refusal := services.membership.refusal(peer, args[2].decode("utf-8", "replace"), args[5:]):
            return refusal
        connected, link_state = self.peers.link_state_of(peer)
        node.state.at(self._context.now_ms())
        incarnation = int(args[4]) if args[4].isdigit() and len(args[4]) <= _DIGITS_MAX else 0
        if incarnation > TIME_MS_MAX:
            return f"ERR an incarnation is {TIME_MS_MAX} at most: it is the wall clock at the start, in ms since 1970"
        refusal = services.duplicates.refusal(peer, incarnation, address, connected, link_state)
        refusal = refusal or services.rollback.refusal(peer, args[5:]) or self.peers.inbound.refusal(peer)
        if not refusal:
            services.addresses.arrived(peer, incarnation, address)
        return refusal

    def encryption_refusal(self, shown: ssl.SSLObject | None) -> str:
        """The error for a node whose connection is not as `tls_peers` wants it; empty if it is. `shown`: the TLS over which
        it has shown a certificate of our CA."""
        if self._context.config.tls_peers != "yes" or (shown is not None and is_nodes(shown.getpeercert(True))):
            return ""
        name = self._context.node.state.member.name
        return (
            f"ERR node {name} takes other nodes by TLS only (tls_peers = yes), with a certificate for servers that its CA "
            "has signed: set tls_peers and the certificate of the node that connects"
        )

    def welcome(self, theirs: Speech) -> bytes:
        """The answer to the introduction of a node that is welcome; `theirs` are its versions and capabilities."""
        ours = peer_versions.with_tls_port(self._context.node.state.config.tls_port)
        return peer_versions.welcome(theirs, self._context.services.membership.views.words(), ours)

    def report_refusal(self, peer: Sequence[bytes], address: str, error: str, is_proven: bool) -> None:
        """Counts that a node was refused, which may happen four times a second, and logs it if the reason is new.

        `is_proven`: it has proven the secret. Else `error` may be that, and the node is perhaps none: refusals.py.
        """
        if not is_proven and self._context.services.authentication.is_required:
            self._context.refusals.note("peers_without_proof", address)
            return
        self._context.refusals.note("peers_refused", address)
        name = peer[0][:WORD_BYTES_MAX] if peer else b""
        if self._refusals.get(name) == error:
            return
        if len(self._refusals) >= _REFUSALS_MAX:
            self._refusals.clear()
        self._refusals[name] = error
        log.info("refused a node's connection from %s: %s", address, error)
