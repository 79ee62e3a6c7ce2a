"""Delivery: what a turn has to say goes to peers and clients, once its writes are committed (P1)."""

from __future__ import annotations

from server.core.outbox import Outbox
from server.shell.clients import Clients
from server.shell.peers import Peers


class Delivery:
    """Sends the messages and replies of turns."""

    def __init__(self, clients: Clients, peers: Peers) -> None:
        self._connections = clients.connections
        self._links = peers.links
        self._flow = clients.flow

    def deliver(self, outbox: Outbox) -> None:
        """HOT. One write to each peer, then one to each client, then the connections that end."""
        links = self._links
        for peer, data in outbox.messages.items():
            link = links.get(peer)
            if link is not None:
                link.write(data)
        for peer, messages in outbox.large.items():
            if peer in links:
                links[peer].write_large(messages)
        connections = self._connections
        for session, replies in outbox.replies:
            connection = connections.get(session.id)
            if connection is not None:
                connection.write(replies)
        for session in outbox.closing:
            connection = connections.get(session.id)
            if connection is not None:
                connection.end()
        if self._flow.is_in_use:
            self._flow.review()
