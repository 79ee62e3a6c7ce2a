"""The turn: whatever arrived in two passes of the loop is one commit, one write to each peer, one write to each client.

Theory. Sockets hand bytes to the node as they come; the first of them asks for the end of the turn, which the loop runs
once it has been twice through all sockets that are ready. So a turn grows with the load by itself, and its fixed
costs (a batch, a message to each peer, a system call to each client) are shared by all requests in it. Past
`turn_commands_max` commands there is nothing more to share, and the turn ends at once: the other nodes have something to
do while this one reads on. (At -P 16 that is a third more throughput on two cores, for the same CPU.)
"""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path
from typing import Any

from server.core.base.config import Config
from server.core.base.room import FOR_NOTHING
from server.core.commands.cluster_view import PeerLink
from server.core.membership.copies import Way
from server.core.node import Node
from server.core.outbox import Outbox
from server.core.ring.layout import Layout
from server.shell import crash
from server.shell.admission import Admission
from server.shell.connections import Connection
from server.shell.crash import Housekeeping, IncidentLog, is_fatal
from server.shell.disk import DiskWatch
from server.shell.durability import Durability
from server.shell.facts import LoopLag, process_facts
from server.shell.files import keep_alive
from server.shell.flow import Flow
from server.shell.introductions import Introductions
from server.shell.links import Link
from server.shell.memory import ClientMemory
from server.shell.reports import Reports
from server.storage.engine import Engine, StorageError, StorageFull

log = logging.getLogger("dyn")
SLEPT_MS_MIN = 1000  # less is the time between two readings of clocks
STOP_REQUESTS = 3  # a node that stops asks its peers twice and waits for its requests: each takes one timeout at most
AGAIN = -1  # in place of an exit status: this life of the node is over, and the process begins another one
ANEW = -2  # the same, on an empty store
LINGER_S = 1.0  # how long a link to a node that is no member any more is kept, for what it still has to hear


class Server:
    """One node on a running event loop."""

    stopping = False  # clients are not listened to any more
    _turn_asked = False
    _commands = 0  # taken up to the last end of a turn
    _has_failed = False
    _is_over = False  # the engine is about to close: there are no more turns
    _ticked_ms = 0
    _timer_ms = 0
    _checked_ms = -1000
    _asleep_ms = 0  # the machine was suspended for so long since it was booted

    def __init__(
        self,
        node: Node,
        engine: Engine,
        config: Config,
        directory: Path,
        loop: asyncio.AbstractEventLoop,
        refuses: bool = False,
    ) -> None:
        """`refuses`: the engine takes no writes, for the disk was full; it must be opened anew."""
        self.node = node
        self.config = config
        self.loop = loop
        self.connections: dict[int, Connection] = {}
        self.inbound_peers: dict[int, Connection] = {}  # what other nodes send over, by the session that it began as
        self.admission = Admission(loop, node.state, config)
        self.memory = ClientMemory(config.client_buffers_bytes_max, self.connections.values)
        self.flow = Flow(self)
        self.stopped: asyncio.Future[int] = loop.create_future()
        self._links: dict[str, Link] = {}
        self.introductions = Introductions(self)
        self._linked_layout: Layout | None = None
        self._place = {"dir": str(directory.absolute())}  # where this node is, for CONFIG GET
        node.peer_links = self._peer_links
        self._listener: asyncio.Server | None = None
        self.arrivals: dict[int, Connection] = {}  # over the limit of clients, and perhaps a peer's
        self._durability = Durability(
            engine, config.fsync, loop, self._speak, self.fail, node.synced, lambda: node.state.sync_wanted
        )
        self._disk = self._watch_disk(engine, directory, refuses)
        if refuses:
            self._disk_changed(FOR_NOTHING)
        self.reports = Reports(node)
        self._housekeeping = Housekeeping(node.state.statistics)
        self._incidents = IncidentLog(node.state.unexpected, loop.time)
        self.lag = LoopLag()
        self._timer: asyncio.TimerHandle | None = None

    def _watch_disk(self, engine: Engine, directory: Path, refuses: bool) -> DiskWatch:
        return DiskWatch(
            engine,
            self.config,
            directory,
            self.loop,
            self._disk_changed,
            self._begin_again,
            self._durability.written,
            lambda: self.node.state.records.keys,
            refuses,
        )

    def now_ms(self) -> int:
        """Monotonic milliseconds, the same throughout a pass of the loop."""
        return int(self.loop.time() * 1000)

    async def listen(self, host: str, port: int) -> None:
        """Starts serving. Raises OSError when the address cannot be had."""
        self._listener = await self.loop.create_server(lambda: Connection(self), host, port, backlog=1024)
        if self.config.keepalive_ms:
            keep_alive(self._listener, self.config.keepalive_ms)
        self._place |= {"bind": host, "port": str(port)}
        self._tick()

    # The turn

    def schedule_turn(self) -> None:
        """HOT. Something has happened: end the turn after this pass of the loop and the next."""
        if not self._turn_asked:
            self._turn_asked = True
            # One more pass: what other nodes have sent meanwhile joins this turn. Measured at -P 1: 0.86 of the CPU.
            self.loop.call_soon(self.loop.call_soon, self._end_turn)
        elif self.node.state.statistics.commands - self._commands >= self.config.turn_commands_max:
            self._end_turn()
            self._turn_asked = True  # the callback that was asked for is still to come

    def _end_turn(self) -> None:
        """HOT. Commit, then speak."""
        self._turn_asked = False
        if self._is_over:
            return
        state = self.node.state
        self._commands = state.statistics.commands
        state.clients_queued = len(self.admission)
        outbox = self.node.end_turn()
        if self.node.state.layout is not self._linked_layout:
            self._link_members()  # first: who told us the layout may have asked something behind it
        try:
            self._durability.commit(outbox)
        except StorageError as error:
            self.fail(error)
            return
        if self.stopping and self.node.shutdown.over:
            self._finish(0)
        if self.node.lives.must_begin_anew:
            self._finish(ANEW)
        if self.node.has_more:
            self.schedule_turn()
        self.admission.schedule()
        pause_ms = self.node.timers.next_ms()
        if pause_ms is not None and pause_ms < self._timer_ms:
            self._set_timer(self.now_ms())

    def _speak(self, outbox: Outbox) -> None:
        """HOT. What the turn has to say, its writes being committed."""
        links = self._links
        for peer, data in outbox.messages.items():
            link = links.get(peer)
            if link is not None:
                link.write(data)
        for peer, messages in outbox.large.items():
            if peer in links:
                links[peer].write_large(messages)
        connections = self.connections
        for session, replies in outbox.replies:
            connection = connections.get(session.id)
            if connection is not None:
                connection.write(replies)
        for session in outbox.closing:
            connection = connections.get(session.id)
            if connection is not None:
                connection.end()
        if self.flow.is_in_use:
            self.flow.review()

    def backlog_bytes(self) -> int:
        """Large messages that wait for peers that take them (outbound.py)."""
        return sum([link.outbound.backlog_bytes for link in self._links.values()])

    def fail(self, error: BaseException) -> None:
        """The disk has failed: nothing of this turn may be said, and nothing more can be promised.

        What is in memory is ahead of the disk, so this life of the node is over. On a full disk another one begins at
        once, in the same process and on the same open engine, and reads: opened anew the engine would want to write.
        """
        self._has_failed = self._is_over = True
        if isinstance(error, StorageFull):
            log.critical("no space left, the node begins anew and only reads: %s", error)
            self._finish(AGAIN)
            return
        log.critical("storage failed, the node stops: %s", error)
        self._finish(1)

    def _begin_again(self) -> None:
        """There is room again: another life of the node begins, on the engine opened anew."""
        self._finish(AGAIN)

    # Peers

    def _link_members(self) -> None:
        """Keeps one link to each other member of the layout, and takes none from anybody else."""
        layout = self._linked_layout = self.node.state.layout
        members = layout.members if layout is not None else ()
        wanted = {member.id: member.address for member in members if member.id != self.node.state.id}
        for peer, link in list(self._links.items()):
            if peer not in wanted:
                self.loop.call_later(LINGER_S, self._unlink, peer, link)
            elif wanted[peer] != link.address:
                link.close()
                del self._links[peer]
        for connection in list(self.inbound_peers.values()):
            if connection.peer not in wanted:
                connection.transport.close()
        for peer, address in wanted.items():
            if peer not in self._links:
                self._links[peer] = Link(self, peer, address)
        if layout is None:
            self.reports.left()
        else:
            log.info("layout of epoch %d (%s, revision %d) with %s", layout.epoch, layout.phase, layout.revision,
                     "1 node" if len(members) == 1 else f"{len(members)} nodes")  # fmt: skip

    def _unlink(self, peer: str, link: Link) -> None:
        if self._links.get(peer) is link and peer not in self.node.state.members:
            link.finish()
            del self._links[peer]

    def _peer_links(self) -> list[PeerLink]:
        """The connections to peers and from them, for CLUSTER LINKS."""
        to = [
            PeerLink("to", peer, link.made_ms, link.unsent_bytes) for peer, link in self._links.items() if link.is_open
        ]
        return to + [PeerLink("from", one.peer, one.session.created_ms, 0) for one in self.inbound_peers.values()]

    def has_link(self, peer: str) -> bool:
        """Whether there is an open link to `peer`. One that ends late, for its peer left, says nothing of a newer one."""
        link = self._links.get(peer)
        return link is not None and link.is_open

    def way_to(self, peer: str) -> tuple[bool, Way]:
        """Whether `peer` is connected to us, and how it is with our link to it."""
        link = self._links.get(peer)
        connected = any(each.peer == peer for each in self.inbound_peers.values())
        return connected, link.way if link is not None else Way.UNTRIED  # the first turn has not ended yet

    def peer_arrived(self, peer: str, process: bytes) -> None:
        """A process of `peer` has connected to us, so it can be reached; an earlier one is not listened to any more."""
        for connection in list(self.inbound_peers.values()):
            if connection.peer == peer and connection.process != process:
                connection.transport.abort()
        link = self._links.get(peer)
        if link is not None:
            link.connect()

    # Time

    def _tick(self) -> None:
        now_ms = self.now_ms()
        if self._timer is not None:
            self.lag.note(int(time.monotonic() * 1000) - self._timer_ms)
        self._ticked_ms = now_ms
        behind_ms = int(time.monotonic() * 1000) - now_ms  # a long pass must not put our clock ahead of the others'
        self.node.tick(now_ms, time.time_ns() // 1_000_000 - behind_ms, self._slept_ms())
        self.memory.check()
        self._incidents.write()
        if now_ms - self._checked_ms >= 1000:
            self._checked_ms = now_ms
            self._housekeeping.do("look at the disk", self._disk.check)
            self.reports.make(now_ms)
            self._close_idle(now_ms)
            self._housekeeping.do("read facts of this process", self._note_facts)
        self.schedule_turn()
        self._set_timer(now_ms)

    def _note_facts(self) -> None:
        self.node.facts = process_facts() | self._place | self.lag.facts()

    def _slept_ms(self) -> int:
        """For how long the machine was suspended since the last tick, which the monotonic clock does not count."""
        asleep_ms = (time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.monotonic_ns()) // 1_000_000
        slept_ms = asleep_ms - self._asleep_ms
        if slept_ms < SLEPT_MS_MIN:
            return 0
        self._asleep_ms = asleep_ms
        return slept_ms

    def _wake(self) -> None:
        """Background work goes on between two ticks."""
        now_ms = self.now_ms()
        if now_ms - self._ticked_ms >= self.config.tick_ms:
            self._tick()
            return
        self.node.wake(now_ms)
        self.schedule_turn()
        self._set_timer(now_ms)

    def _set_timer(self, now_ms: int) -> None:
        deadline_ms = self.node.next_deadline_ms()
        assert deadline_ms is not None, "the node has ticked"
        if self._timer is not None:
            self._timer.cancel()
        self._timer_ms = deadline_ms
        self._timer = self.loop.call_later(max(1, deadline_ms - now_ms) / 1000, self._wake)

    def _disk_changed(self, room: int) -> None:
        self.node.disk_changed(room, self.now_ms())

    def _close_idle(self, now_ms: int) -> None:
        limit_ms = self.config.idle_timeout_ms
        if limit_ms:
            for connection in list(self.connections.values()):
                if now_ms - connection.session.active_ms > limit_ms:
                    connection.transport.close()

    # The end

    def ask_to_stop(self) -> None:
        """A signal: what has been begun is ended first (shutdown.py); at once if it comes again."""
        if self.stopping:
            self._finish(0)
            return
        self.stopping = True
        if self._listener is not None:
            self._listener.close()
        for connection in self.connections.values():
            connection.stall()
        self.node.shutdown.begin()
        self.schedule_turn()
        # Whatever keeps the shutdown from ending, a signal ends the node.
        self.loop.call_later(STOP_REQUESTS * self.config.request_timeout_ms / 1000 + LINGER_S, self._give_up_shutdown)

    def _give_up_shutdown(self) -> None:
        if not self.stopped.done():
            log.warning("what this node had begun did not end in time: it stops all the same")
            self._finish(0)

    def handle_unexpected(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """For the event loop: an exception that no code has expected ends the process (crash.py)."""
        error = context.get("exception")
        if not is_fatal(error):
            loop.default_exception_handler(context)
            return
        assert isinstance(error, Exception)
        self._incidents.write()
        log.critical("the node stops, for this was not expected: %s", context.get("message"), exc_info=error)
        self._has_failed = self._is_over = True
        self._finish(crash.STATUS)

    def _finish(self, status: int) -> None:
        if not self.stopped.done():
            self.stopped.set_result(status)

    def stop(self) -> None:
        """A clean stop: no more clients, and everything committed is on disk. After a failure nothing more is said."""
        if self._listener is not None:
            self._listener.close()
        self._end_turn()
        for link in self._links.values():
            link.finish()
        if self._timer is not None:
            self._timer.cancel()
        self._is_over = True
        if not self._disk.close() or self._has_failed:
            self._durability.abandon()
        else:
            self._keep_trees()
            self._sync_last()
        for connection in list(self.connections.values()):
            connection.transport.close()

    def _sync_last(self) -> None:
        try:
            self._durability.close()
        except StorageFull as error:
            log.warning("what was written last is in the log, and perhaps not on the disk yet: %s", error)

    def _keep_trees(self) -> None:
        """Spares the next start reading all records; no harm is done if it cannot be written."""
        if self.node.state.disk_full:
            return
        try:
            self._durability.keep(self.node.state.records.closing_batch())
        except StorageError as error:
            log.warning("the next start will read all records: %s", error)
