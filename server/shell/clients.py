"""The connections of clients to one server, and the limits that they share.

Theory. A node serves at most `clients_max` clients (files.py computes it from the limit of file descriptors). A further
connection is *surplus*. A surplus client gets an error. But a surplus connection may be a peer's, and descriptors are
reserved for peers. So up to `ARRIVALS_MAX` surplus connections are kept for `ARRIVAL_S`, until their first command shows
whether they are clients or peers. The descriptors are enough for these: the loop accepts one connection in a pass (libuv
since 1.45), so surplus connections are closed as fast as they come.
"""

from __future__ import annotations

import logging

from server.core.ring.addresses import is_loopback
from server.core.services.process import NO_BUFFERS, Buffers
from server.shell.admission import Admission
from server.shell.certificates import common_name
from server.shell.client import Client
from server.shell.context import Context
from server.shell.files import ARRIVALS_MAX
from server.shell.flow import Flow
from server.shell.handshakes import NO_TLS_HERE, Handshakes
from server.shell.introductions import Introductions
from server.shell.memory import ClientMemory
from server.shell.peers import Peers
from server.shell.proving import NodeHandshakes
from server.shell.timing import Clock

log = logging.getLogger("dyn")
ARRIVAL_S = 0.5  # a surplus connection that sends nothing for this time is closed


class Clients:
    """The connections of clients, by their sessions, and the limits that they share."""

    def __init__(self, context: Context, peers: Peers, handshakes: Handshakes) -> None:
        config, state = context.config, context.node.state
        self.context = context
        self.peers = peers
        self.connections: dict[int, Client] = {}
        self.introductions = Introductions(context, peers)  # for connections that turn out to be a peer's
        self.handshakes = handshakes
        self.node_handshakes = NodeHandshakes(context)  # connections that have begun to prove the secret
        self.admission = Admission(context.loop, state, config, context.has_just_been_large)
        self.memory = ClientMemory(config.client_buffers_bytes_max, self.connections.values)
        self.flow = Flow(context.loop, state, config, peers.backlog_bytes)
        self.clock = Clock()  # when the replies of the turn leave
        context.services.process.buffers_of = self._buffers_of
        self.is_stopping = False  # no more commands of clients are read
        self._arrivals: dict[int, Client] = {}  # surplus connections before their first command; perhaps a peer's

    def read_certificate(self, client: Client) -> None:
        """Notes who a client with TLS is, if it has shown a certificate: the handshake has checked it."""
        certificate = client.transport.get_extra_info("peercert")
        client.session.is_tls = True
        client.is_verified = bool(certificate)
        client.session.certificate_name = common_name(certificate)
        self.context.services.users.show_certificate(client.session)

    def _buffers_of(self, session_id: int) -> Buffers:
        """What CLIENT LIST tells of a connection."""
        client = self.connections.get(session_id)
        if client is None:
            return NO_BUFFERS
        transport, socket = client.transport, client.transport.get_extra_info("socket")
        descriptor = -1 if socket is None else socket.fileno()
        input_bytes, output_bytes = client.unfinished_bytes(), transport.get_write_buffer_size()
        return Buffers(descriptor, input_bytes, output_bytes, client.held_bytes())

    def add(self, client: Client) -> None:
        """A connection was made. One over the limit has a moment to show that it is a peer's."""
        self.connections[client.session.id] = client
        if self.is_surplus():
            self._await_first_command(client)

    def remove(self, client: Client) -> None:
        """The connection has ended, or is a peer's."""
        self.connections.pop(client.session.id, None)
        self._arrivals.pop(client.session.id, None)

    def begin_tls(self, client: Client, data: bytes, over_tls: Client) -> None:
        """A client begins a TLS handshake on a port that takes plain connections: refused, unless nodes do so here."""
        if self.context.config.tls_peers == "no":
            self.handshakes.refuse(client.transport, NO_TLS_HERE)
            return
        self.remove(client)
        self.context.node.close_session(client.session)
        self.handshakes.hello(client.transport, data, over_tls)

    def deny(self, client: Client, denial: str) -> None:
        """Ends the connection of a client that protected mode keeps out."""
        self.context.node.state.statistics.denied_connections += 1
        log.warning("client %s is refused, because this node is in protected mode and has no password",
                    client.session.address)  # fmt: skip
        client.refuse(denial)

    def is_surplus(self) -> bool:
        """Whether there are more connections than clients may have."""
        return len(self.connections) > self.context.config.clients_max

    def has_room_for(self, client: Client) -> bool:
        """Whether a connection may stay, once its first command has shown that it is a client's."""
        waited = self._arrivals.pop(client.session.id, None) is not None
        return not (waited and self.is_surplus())

    def denial(self, client: Client) -> str:
        """Why a connection may not be a client's at all (services/access.py); empty if it may."""
        host = client.session.address.rpartition(":")[0]
        is_local = bool(client.secret) or is_loopback(host)
        return self.context.services.access.denial(is_local, client.is_verified)

    def _await_first_command(self, client: Client) -> None:
        """Gives a surplus connection a moment. If too many wait, the oldest is closed."""
        if len(self._arrivals) >= ARRIVALS_MAX:
            self._arrivals.pop(next(iter(self._arrivals))).reject()
        self._arrivals[client.session.id] = client
        self.context.loop.call_later(ARRIVAL_S, self._wait_no_longer, client)

    def _wait_no_longer(self, client: Client) -> None:
        if self._arrivals.pop(client.session.id, None) is not None and self.is_surplus():
            client.reject()

    def close_idle(self, now_ms: int) -> None:
        """Closes the connections that have sent no command for `idle_timeout_ms`, and have waited for no reply."""
        limit_ms = self.context.config.idle_timeout_ms
        if limit_ms:
            for client in list(self.connections.values()):
                session = client.session
                if session.is_monitor or session.subscriber is not None or not client.is_idle():
                    client.busy_ms = now_ms  # CLIENT PAUSE or a blocking command may keep it waiting for longer
                elif now_ms - max(session.active_ms, client.busy_ms) > limit_ms:
                    client.transport.close()

    def stop_reading(self) -> None:
        """The node is about to stop: no more commands are read."""
        self.is_stopping = True
        for client in self.connections.values():
            client.stop_reading()

    def close(self) -> None:
        """Closes all connections."""
        for client in list(self.connections.values()):
            client.transport.close()
