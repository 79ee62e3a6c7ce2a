"""How a connection becomes another node's, by its first command.

DYN.AUTH   a handshake begins (proving.py). After the proofs a new `Connection` begins on the same socket, which both
           sides know to be one between nodes; its first command is the next one, or a question (asking.py).
DYN.PEER   an introduction (introductions.py). If it is accepted, an `InboundPeer` reads from then on. Without a proof
           before, it is accepted only while no proof is required (core/membership/authentication.py).
"""

from __future__ import annotations

from collections.abc import Callable

from protocol.handshake import AUTH, HandshakeResult, hello_fault
from protocol.peer_versions import BESIDE, introduced
from server.core.membership.authentication import LACKING
from server.shell.client import Client
from server.shell.clients import Clients
from server.shell.inbound import InboundPeer
from server.shell.sealed import sealed


class NodeEntry:
    """The way of one connection. `proven` makes the `Connection` that begins after the proof of a secret."""

    def __init__(self, clients: Clients, proven: Callable[[bytes], Client]) -> None:
        self._clients = clients
        self._context = clients.context
        self._proven = proven

    def enter(self, client: Client, first: list[bytes]) -> None:
        """Handles the first command of a connection, which is one of the two above."""
        if first[0] == AUTH:
            self._begin_handshake(client, first)
        else:
            self._become_peer(client, first)

    def _begin_handshake(self, client: Client, hello: list[bytes]) -> None:
        authentication = self._context.services.authentication
        fault = hello_fault(hello) or ("" if authentication.secrets else authentication.text(LACKING))
        if fault:
            client.refuse(fault)
            return
        client.hand_over()
        transport, address, refusals = client.transport, client.session.address, self._context.refusals

        def proven(session: HandshakeResult, rest: bytes) -> None:
            following = self._proven(session.secret)
            protected, receiver = sealed(transport, session, following, lambda: refusals.note("blocks_forged", address))
            following.connection_made(protected)
            if rest:
                receiver.data_received(rest)

        self._clients.node_handshakes.begin(transport, address, hello, proven)

    def _become_peer(self, client: Client, args: list[bytes]) -> None:
        context, introductions = self._context, self._clients.introductions
        session, is_proven = client.session, bool(client.secret)
        error = self._check(client, args)
        if error:
            introductions.report_refusal(args[3:4], session.address, error, is_proven)
            client.refuse(error)
            return
        client.hand_over()
        inbound, transport = introductions.peers.inbound, client.transport
        peer, process = args[3].decode(), args[4]
        connection = InboundPeer(context, inbound, transport, session.id, session.address, peer, process)
        connection.secret = client.secret
        inbound.add(connection)
        transport.set_protocol(connection)
        theirs = introduced(args[1], args[5:])
        assert theirs is not None, "the introduction was checked"
        transport.write(introductions.welcome(theirs))
        if is_proven:
            context.services.authentication.proven(peer)
        if BESIDE not in args[5:]:
            context.node.greeted(peer, context.now_ms(), theirs.capabilities if theirs.announces else ())
        introductions.peers.arrived(peer, process, is_proven)
        context.schedule_turn()

    def _check(self, client: Client, args: list[bytes]) -> str:
        """Why a node is refused; empty if it is welcome. An introduction that raises here is refused, too."""
        state, services = self._context.node.state, self._context.services
        changes = state.records.changes
        try:
            plain = "" if client.secret else services.authentication.plain_refusal()
            shown = client.transport.get_extra_info("ssl_object") if client.is_verified else None
            introductions = self._clients.introductions
            return introductions.encryption_refusal(shown) or plain or introductions.check(args)
        except Exception as error:  # noqa: BLE001
            state.statistics.messages_undigested += 1
            return f"ERR internal error {state.unexpected.note(error, changes, 'an introduction')}"
