"""The server: one node on a running event loop. It builds the parts of the shell, and stops them.

context.py     the node, its settings, the event loop, and when a turn ends
peers.py       the connections to the other nodes: links.py, inbound.py, introductions.py
clients.py     the connections of clients: connections.py, admission.py, flow.py, memory.py
listening.py   the ports: certificates.py, handshakes.py, tls_transport.py
metrics.py     the port for monitoring: metric_families.py
ticks.py       the timer, and what is checked once a second: disk.py, reports.py, facts.py, service_manager.py
turn.py        the end of a turn: durability.py, turn_sender.py
script_threads.py  the threads of long scripts
node_run.py    the status with which the server ends
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from server.core.base.config import Config
from server.core.base.room import FOR_NOTHING
from server.core.node import Node
from server.shell import crash
from server.shell.certificates import Certificates
from server.shell.clients import Clients
from server.shell.context import Context
from server.shell.crash import IncidentLog, is_fatal
from server.shell.disk import DiskWatch
from server.shell.durability import Durability
from server.shell.exposure import Exposure
from server.shell.finding import Finding
from server.shell.handshakes import Handshakes
from server.shell.listening import Listening
from server.shell.metric_families import NodeCollector
from server.shell.metrics import metrics_of
from server.shell.node_run import RESTART, NodeRun
from server.shell.peers import LINGER_S, Peers
from server.shell.reports import Reports
from server.shell.rewriting import KeyWatch
from server.shell.script_threads import ScriptThreads
from server.shell.secret_file import SecretSource, SecretWatch
from server.shell.service_manager import READY, STOPPING
from server.shell.ticks import Ticks
from server.shell.turn import Turn
from server.shell.turn_sender import TurnSender
from server.storage.chunked import ChunkedEngine
from server.storage.engine import Engine, StorageError, StorageFull

log = logging.getLogger("dyn")
STOP_REQUESTS = 3  # a stopping node asks its peers twice and awaits its requests; each takes one timeout at most


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
        certificates: Certificates | None = None,
        source: SecretSource | None = None,
    ) -> None:
        """`refuses`: the disk was full, so the engine takes no writes until it is opened anew. `seeds` are addresses at
        which missing members may be found. The secrets of the cluster are in `source`, or without it in the directory."""
        self._node = node
        self._context = context = Context(node, config, loop, certificates, engine)
        self.node_run = NodeRun(loop, node.state.store_is_damaged)
        self.reports = Reports(node)
        self._peers = peers = Peers(context, self.reports)
        self._clients = clients = Clients(context, peers, Handshakes(context, context.certificates))
        self._listening = Listening(self._clients)
        self._metrics = metrics_of(NodeCollector(context.services, self._clients, engine.stats))
        self._scripts = ScriptThreads(context)
        self.finding = Finding(node, seeds, context.schedule_turn, context.certificates)
        self._durability = Durability(
            engine, node.services.latencies, config.fsync, loop, TurnSender(self._clients, self._peers).deliver,
            self.node_run.storage_failed, node.synced, lambda: node.state.sync_wanted, context.hold)  # fmt: skip
        self._disk = DiskWatch(
            engine, config, directory, loop, self._disk_changed, self._reopen, self._durability.written,
            lambda: node.state.records.keys, refuses,
        )  # fmt: skip
        self._incidents = IncidentLog(node.state.unexpected, loop.time)
        self.keys = KeyWatch(engine.inner if isinstance(engine, ChunkedEngine) else engine, config.encryption_key_file)
        self._secrets = SecretWatch(source or SecretSource(directory, "", {}), self._set_secrets)
        looks = Exposure(context.services, self._listening.is_encrypted, context.certificates), self._check_secrets
        self._ticks = Ticks(context, self._clients, self.reports, self._disk, self._incidents, directory, *looks)
        self._turn = Turn(context, self.node_run, clients, peers, self._durability, self._ticks, self.finding)
        if refuses:
            self._disk_changed(FOR_NOTHING)

    async def listen(self, host: str, port: int) -> None:
        """Starts serving. Raises OSError if this node cannot listen at the address."""
        await self._listening.begin(host, port)
        if self._context.config.metrics:
            await self._metrics.listen(self._context.loop, self._context.config.metrics)
        self._ticks.begin(host, port)
        self._context.service_manager.tell(READY)

    def _set_secrets(self, secrets: Sequence[bytes]) -> None:
        self._context.services.authentication.set_secrets(secrets)
        self._peers.set_secrets(secrets)

    def _check_secrets(self) -> None:
        self._secrets.check()
        self.keys.check()
        self._peers.review()

    def _read_files_again(self) -> None:
        log.info("SIGHUP: settings, certificates, secrets and keys are read again")
        self._context.certificates.look(is_asked=True)
        self._secrets.read_again()
        self.keys.read_again()
        self._context.services.process.settings.read_again()

    def signal_handlers(self) -> dict[signal.Signals, Callable[[], None]]:
        """What each signal does: SIGTERM and SIGINT stop the node, SIGHUP reads all files again: settings,
        certificates, secrets, keys."""
        return {
            signal.SIGTERM: self.ask_to_stop,
            signal.SIGINT: self.ask_to_stop,
            signal.SIGHUP: self._read_files_again,
        }

    def _disk_changed(self, room: int) -> None:
        self._node.disk_changed(room, self._context.now_ms())

    def _reopen(self) -> None:
        """There is room on the disk again: another run of the node begins, on the engine opened anew."""
        self.node_run.end(RESTART)

    # The end

    def ask_to_stop(self) -> None:
        """Handles a signal: the first one begins the shutdown (shutdown.py), the second one ends the node at once."""
        if self._clients.is_stopping:
            self.node_run.end(0)
            return
        self._context.service_manager.tell(STOPPING)
        self._listening.close()
        self._clients.stop_reading()
        self._context.services.shutdown.begin()
        self._context.schedule_turn()
        # If something keeps the shutdown from ending, the node ends without it.
        patience_s = STOP_REQUESTS * self._context.config.request_timeout_ms / 1000 + LINGER_S
        self._context.loop.call_later(patience_s, self._give_up_shutdown)

    def _give_up_shutdown(self) -> None:
        if not self.node_run.status.done():
            log.warning("the shutdown did not finish in time: the node stops without waiting for its last requests")
            self.node_run.end(0)

    def handle_unexpected(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """The exception handler of the event loop: an unexpected exception ends the process (crash.py)."""
        error = context.get("exception")
        if not is_fatal(error):
            loop.default_exception_handler(context)
            return
        assert isinstance(error, Exception)
        self._incidents.write()
        log.critical("the node stops after an unexpected exception: %s", context.get("message"), exc_info=error)
        if not self.node_run.has_failed:
            self._report_crash(error)
        self.node_run.fail(crash.EXIT_STATUS)

    def _report_crash(self, error: Exception) -> None:
        """Stores what has ended the node, and tells it to the peers if they might run it next (core/base/quarantine.py)."""
        batch, data = self._node.crash_report(error)
        try:
            if batch:
                self._durability.keep(batch)
        except StorageError as failure:
            log.warning("the cause of the crash could not be stored: %s", failure)
        if data:
            self._peers.send_to_all(data)

    def stop(self) -> None:
        """Ends the last turn, stops all parts, and syncs what was committed; after a failure it syncs nothing more."""
        self._listening.close()
        self._metrics.close()
        self._turn.end()
        self._peers.close_when_sent()
        self._ticks.stop()
        self.node_run.has_ended = True
        self._scripts.close()
        if not self._disk.close() or self.node_run.has_failed:
            self._durability.abandon()
        else:
            self._keep_trees()
            self._sync_last()
        self._clients.close()

    def _sync_last(self) -> None:
        try:
            self._durability.close()
        except StorageFull as error:
            log.warning("the last writes are in the log, and perhaps not on the disk yet: %s", error)

    def _keep_trees(self) -> None:
        """Stores the hash trees, so that the next start need not read all records. If that fails, it does."""
        if self._node.state.disk_full:
            return
        try:
            self._durability.keep(self._node.state.records.closing_batch())
        except StorageError as error:
            log.warning("the next start will read all records: %s", error)
