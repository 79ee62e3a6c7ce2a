"""The server: one node on a running event loop. It builds the parts of the shell, and stops them.

context.py     the node, its settings, the event loop, and when a turn ends
peers.py       the connections to the other nodes: links.py, inbound.py, introductions.py
clients.py     the connections of clients: connections.py, admission.py, flow.py, memory.py
ticks.py       the timer, and what is checked once a second: disk.py, reports.py, facts.py
turn.py        the end of a turn: durability.py, delivery.py
life.py        the status with which the server ends
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from server.core.base.config import Config
from server.core.base.room import FOR_NOTHING
from server.core.node import Node
from server.shell import crash
from server.shell.clients import Clients
from server.shell.connections import Connection
from server.shell.context import Context
from server.shell.crash import IncidentLog, is_fatal
from server.shell.delivery import Delivery
from server.shell.disk import DiskWatch
from server.shell.durability import Durability
from server.shell.files import keep_alive
from server.shell.finding import Finding
from server.shell.life import RESTART, Life
from server.shell.peers import LINGER_S, Peers
from server.shell.reports import Reports
from server.shell.ticks import Ticks
from server.shell.turn import Turn
from server.storage.engine import Engine, StorageError, StorageFull

log = logging.getLogger("dyn")
STOP_REQUESTS = 3  # a stopping node asks its peers twice, then awaits its requests; each takes one timeout at most


class Server:
    """One node on a running event loop."""

    def __init__(
        self,
        node: Node,
        engine: Engine,
        config: Config,
        directory: Path,
        loop: asyncio.AbstractEventLoop,
        refuses: bool = False,
        seeds: Sequence[str] = (),
    ) -> None:
        """`refuses`: the disk was full, so the engine takes no writes until it is opened anew. `seeds` are addresses at
        which missing members may be found."""
        self._node = node
        self._context = context = Context(node, config, loop)
        self.life = Life(loop, node.state.store_is_damaged)
        self.reports = Reports(node)
        self._peers = Peers(context, self.reports)
        self._clients = Clients(context, self._peers)
        self.finding = Finding(node, seeds, context.schedule_turn)
        delivery = Delivery(self._clients, self._peers)
        self._durability = Durability(
            engine, config.fsync, loop, delivery.deliver, self.life.storage_failed, node.synced,
            lambda: node.state.sync_wanted,
        )  # fmt: skip
        self._disk = DiskWatch(
            engine, config, directory, loop, self._disk_changed, self._reopen, self._durability.written,
            lambda: node.state.records.keys, refuses,
        )  # fmt: skip
        self._incidents = IncidentLog(node.state.unexpected, loop.time)
        self._ticks = Ticks(context, self._clients, self.reports, self._disk, self._incidents, directory)
        self._turn = Turn(context, self.life, self._clients, self._peers, self._durability, self._ticks, self.finding)
        self._listener: asyncio.Server | None = None
        if refuses:
            self._disk_changed(FOR_NOTHING)

    async def listen(self, host: str, port: int) -> None:
        """Starts serving. Raises OSError if this node cannot listen at the address."""
        loop, config = self._context.loop, self._context.config
        self._listener = await loop.create_server(lambda: Connection(self._clients), host, port, backlog=1024)
        if config.keepalive_ms:
            keep_alive(self._listener, config.keepalive_ms)
        self._ticks.begin(host, port)

    def _disk_changed(self, room: int) -> None:
        self._node.disk_changed(room, self._context.now_ms())

    def _reopen(self) -> None:
        """There is room on the disk again: another life of the node begins, on the engine opened anew."""
        self.life.end(RESTART)

    # The end

    def ask_to_stop(self) -> None:
        """Handles a signal: the first one begins the shutdown (shutdown.py), the second one ends the node at once."""
        if self._clients.is_stopping:
            self.life.end(0)
            return
        if self._listener is not None:
            self._listener.close()
        self._clients.stop_reading()
        self._context.services.shutdown.begin()
        self._context.schedule_turn()
        # If something keeps the shutdown from ending, the node ends without it.
        patience_s = STOP_REQUESTS * self._context.config.request_timeout_ms / 1000 + LINGER_S
        self._context.loop.call_later(patience_s, self._give_up_shutdown)

    def _give_up_shutdown(self) -> None:
        if not self.life.status.done():
            log.warning("what this node had begun did not end in time: it stops all the same")
            self.life.end(0)

    def handle_unexpected(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """The exception handler of the event loop: an unexpected exception ends the process (crash.py)."""
        error = context.get("exception")
        if not is_fatal(error):
            loop.default_exception_handler(context)
            return
        assert isinstance(error, Exception)
        self._incidents.write()
        log.critical("the node stops, for this was not expected: %s", context.get("message"), exc_info=error)
        self.life.fail(crash.STATUS)

    def stop(self) -> None:
        """Ends the last turn, stops all parts, and syncs what was committed; after a failure it syncs nothing more."""
        if self._listener is not None:
            self._listener.close()
        self._turn.end()
        self._peers.finish()
        self._ticks.stop()
        self.life.has_ended = True
        if not self._disk.close() or self.life.has_failed:
            self._durability.abandon()
        else:
            self._keep_trees()
            self._sync_last()
        self._clients.close()

    def _sync_last(self) -> None:
        try:
            self._durability.close()
        except StorageFull as error:
            log.warning("what was written last is in the log, and perhaps not on the disk yet: %s", error)

    def _keep_trees(self) -> None:
        """Stores the hash trees, so that the next start need not read all records. If that fails, no harm is done."""
        if self._node.state.disk_full:
            return
        try:
            self._durability.keep(self._node.state.records.closing_batch())
        except StorageError as error:
            log.warning("the next start will read all records: %s", error)
