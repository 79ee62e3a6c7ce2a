"""The turn: all input of two passes of the loop shares one commit, one write to each peer and one to each client.

context.py decides when a turn ends. Then the node first commits (durability.py) and afterwards sends (turn_sender.py): P1.
"""

from __future__ import annotations

from server.shell.clients import Clients
from server.shell.context import Context
from server.shell.durability import Durability
from server.shell.finding import Finding
from server.shell.node_run import REBUILD, NodeRun
from server.shell.peers import Peers
from server.shell.ticks import Ticks
from server.storage.engine import StorageError


class Turn:
    """Ends the turns of a node."""

    def __init__(
        self,
        context: Context,
        node_run: NodeRun,
        clients: Clients,
        peers: Peers,
        durability: Durability,
        ticks: Ticks,
        finding: Finding,
    ) -> None:
        self._context = context
        self._node_run = node_run
        self._clients = clients
        self._peers = peers
        self._durability = durability
        self._ticks = ticks
        self._finding = finding
        context.turn_enders.append(self.end)

    def end(self) -> None:
        """HOT. Commits the writes of the turn, then sends its messages and replies."""
        if self._node_run.has_ended:
            return
        context, node, admission = self._context, self._context.node, self._clients.admission
        node.state.clients_queued = len(admission)
        outbox = node.end_turn()
        self._peers.follow_layout()  # before the delivery: messages to a new member need its link
        try:
            self._durability.commit(outbox)
        except StorageError as error:
            self._node_run.storage_failed(error)
            return
        context.staging.end_turn()
        services = context.services
        if self._clients.is_stopping and services.shutdown.over:
            self._node_run.end(0)
        if node.state.rebuild_reason:
            self._node_run.end(REBUILD)
        if services.addresses.searches:
            self._finding.search(services.addresses.drain_searches())
        if node.has_more:
            context.schedule_turn()
        admission.schedule()
        self._ticks.follow_timers()
