"""Sends the messages and replies of a turn, once its writes are committed (P1)."""

from __future__ import annotations

from server.core.outbox import Outbox
from server.shell.clients import Clients
from server.shell.peers import Peers


class TurnSender:
    """Sends the messages and replies of turns."""

    def __init__(self, clients: Clients, peers: Peers) -> None:
        self._connections = clients.connections
        self._links = peers.links
        self._flow = clients.flow
        self._clock = clients.clock
        self._traces = clients.context.services.traces
        self._deliveries = clients.context.services.waiting.deliveries

    def deliver(self, outbox: Outbox) -> None:
        """HOT. Writes once to each peer, then once to each client, and then ends the connections that close."""
        links, traces = self._links, self._traces
        if traces.spans:
            traces.committed(outbox.turn)
        for peer, data in outbox.messages.items():
            link = links.get(peer)
            if link is not None:
                link.write(data)
        for peer, messages in outbox.large.items():
            if peer in links:
                links[peer].write_large(messages)
        if outbox.replies:
            self._clock.read()
        connections = self._connections
        for session, replies in outbox.replies:
            connection = connections.get(session.id)
            if connection is not None:
                connection.write(replies)
        for session, pushes in outbox.pushes:
            connection = connections.get(session.id)
            if connection is not None:
                connection.push(pushes)
        if self._deliveries.unsent:
            self._deliveries.sent(outbox.turn)
        for session in outbox.closing:
            connection = connections.get(session.id)
            if connection is not None:
                connection.end()
        if self._flow.is_in_use:
            self._flow.review()
        if traces.spans:
            traces.sent(outbox.turn)
