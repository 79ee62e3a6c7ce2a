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
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from server.core.base.config import Config
from server.core.base.room import FOR_NOTHING
from server.core.node import Node, Outbox
from server.core.ring.layout import Layout
from server.shell.connections import PEER_VERSION, Connection
from server.shell.disk import DiskWatch
from server.shell.durability import Durability
from server.shell.facts import process_facts
from server.shell.links import Link
from server.storage.engine import Engine, StorageError, StorageFull

log = logging.getLogger("dyn")
_REFUSALS_MAX = 256  # nodes whose last refusal is remembered, so as to log it once
STOP_REQUESTS = 3  # a node that stops asks its peers twice and waits for its requests: each takes one timeout at most
AGAIN = -1  # in place of an exit status: this life of the node is over, and the process begins another one
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
        self.fellows: dict[int, Connection] = {}  # what other nodes send over, by the session that it began as
        self.buffered_bytes = 0
        self.stopped: asyncio.Future[int] = loop.create_future()
        self._links: dict[str, Link] = {}
        self._refusals: dict[bytes, str] = {}  # the last one of each node that we have refused
        self._linked_layout: Layout | None = None
        self._listener: asyncio.Server | None = None
        self._durability = Durability(
            engine, config.fsync, loop, self._speak, self.fail, node.synced, lambda: node.state.sync_wanted
        )
        self._disk = DiskWatch(
            engine,
            config,
            directory,
            loop,
            self._disk_changed,
            self._begin_again,
            self._durability.written,
            lambda: node.state.records.keys,
            refuses,
        )
        if refuses:
            self._disk_changed(FOR_NOTHING)
        self._damage = (0, 0, 0)  # as last reported
        self._complaints: list[str] = []  # of our clock, as last reported: by whom
        self._timer: asyncio.TimerHandle | None = None

    def now_ms(self) -> int:
        """Monotonic milliseconds, the same throughout a pass of the loop."""
        return int(self.loop.time() * 1000)

    async def listen(self, host: str, port: int) -> None:
        """Starts serving. Raises OSError when the address cannot be had."""
        self._listener = await self.loop.create_server(lambda: Connection(self), host, port, backlog=1024)
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
        self._commands = self.node.state.statistics.commands
        outbox = self.node.take()
        if self.node.state.layout is not self._linked_layout:
            self._link_members()  # first: who told us the layout may have asked something behind it
        try:
            self._durability.commit(outbox)
        except StorageError as error:
            self.fail(error)
            return
        if self.stopping and self.node.farewell.over:
            self._finish(0)
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
        connections = self.connections
        for session, data in outbox.replies:
            connection = connections.get(session.id)
            if connection is not None:
                connection.write(data)
        for session in outbox.closing:
            connection = connections.get(session.id)
            if connection is not None:
                connection.end()

    def check_unread(self) -> None:
        """The replies that clients do not fetch are bounded over all clients: past that, the greediest is cut."""
        unread = {number: connection.unread_bytes() for number, connection in self.connections.items()}
        if sum(unread.values()) > self.config.client_unread_bytes_max:
            greediest = self.connections[max(unread, key=unread.__getitem__)]
            log.warning("client %s does not fetch its replies: cutting it", greediest.session.address)
            greediest.transport.abort()

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
        for connection in list(self.fellows.values()):
            if connection.peer not in wanted:
                connection.transport.close()
        for peer, address in wanted.items():
            if peer not in self._links:
                self._links[peer] = Link(self, peer, address)
        if layout is None:
            self.report_left()
        else:
            log.info("layout of epoch %d (%s, revision %d) with %s", layout.epoch, layout.phase, layout.revision,
                     "1 node" if len(members) == 1 else f"{len(members)} nodes")  # fmt: skip

    def report_left(self) -> None:
        """Says so if this node was a member once and is none any more, and what is to become of it."""
        left, keys = self.node.membership.left, self.node.state.records.keys
        if left is not None and self.node.state.layout is None:
            log.warning(
                "this node is no member of cluster %s any more, by its layout of epoch %d, and serves nobody: stop it%s",
                *left,
                f"; it still holds {keys} keys, and can only join again with an empty directory" if keys else "",
            )

    def _unlink(self, peer: str, link: Link) -> None:
        if self._links.get(peer) is link and peer not in self.node.state.members:
            link.finish()
            del self._links[peer]

    def has_link(self, peer: str) -> bool:
        """Whether there is an open link to `peer`. One that ends late, for its peer left, says nothing of a newer one."""
        link = self._links.get(peer)
        return link is not None and link.is_open

    def check_peer(self, args: list[bytes]) -> str:
        """The error for a node that introduces itself with these arguments and is not welcome; empty if it is."""
        if len(args) < 5:
            return "ERR DYN.PEER wants version, cluster, id and incarnation"
        if not args[3].isascii():
            return "ERR a node's id is printable ASCII"
        if args[1] != b"%d" % PEER_VERSION:
            return f"ERR this node speaks version {PEER_VERSION} of the protocol between nodes"
        if args[3] == self.node.state.id.encode():
            return "ERR a node with this node's own id: was its directory copied?"
        return self.node.membership.refusal(args[3].decode(), args[2].decode("utf-8", "replace"), args[5:])

    def report_refusal(self, peer: Sequence[bytes], address: str, error: str) -> None:
        """A node was refused, as it may be four times a second: logged when there is something new to say."""
        name = peer[0] if peer else b""
        if self._refusals.get(name) == error:
            return
        if len(self._refusals) >= _REFUSALS_MAX:
            self._refusals.clear()
        self._refusals[name] = error
        log.info("refused a node's connection from %s: %s", address, error)

    def peer_arrived(self, peer: str) -> None:
        """`peer` has connected to us, so it can be reached."""
        link = self._links.get(peer)
        if link is not None:
            link.connect()

    # Time

    def _tick(self) -> None:
        now_ms = self.now_ms()
        self._ticked_ms = now_ms
        behind_ms = int(time.monotonic() * 1000) - now_ms  # a long pass must not put our clock ahead of the others'
        self.node.tick(now_ms, time.time_ns() // 1_000_000 - behind_ms)
        if now_ms - self._checked_ms >= 1000:
            self._checked_ms = now_ms
            self._disk.check()
            self._report_damage()
            self._report_clock()
            self._close_idle(now_ms)
            self.node.facts = process_facts()
        self.schedule_turn()
        self._set_timer(now_ms)

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

    def _report_damage(self) -> None:
        """Damaged records are mended by themselves, but a disk that damages them wants to be looked at."""
        statistics = self.node.state.statistics
        found = (self.node.state.records.damaged, statistics.records_mended, statistics.records_lost)
        if found != self._damage:
            log.warning(
                "damaged records: met %d times, %d mended, %d lost; %d wait to be mended",
                *found,
                len(self.node.mending),
            )
            self._damage = found

    def _report_clock(self) -> None:
        """Other nodes say that our clock is off: nobody else can set it right than who reads this log."""
        complaints = self.node.clock_report.complaints()
        if list(complaints) != self._complaints:
            self._complaints = list(complaints)
            for name, ahead_ms in complaints.items():
                log.warning(
                    "this node's clock is %d s ahead of that of node %s, which does not follow it: set the one that is "
                    "wrong (NTP), and start its node again",
                    ahead_ms // 1000,
                    name,
                )
            if not complaints:
                log.info("no other node complains of this node's clock any more")

    def _close_idle(self, now_ms: int) -> None:
        limit_ms = self.config.idle_timeout_ms
        if limit_ms:
            for connection in list(self.connections.values()):
                if now_ms - connection.session.active_ms > limit_ms:
                    connection.transport.close()

    # The end

    def ask_to_stop(self) -> None:
        """A signal: what has been begun is ended first (farewell.py); at once if it comes again."""
        if self.stopping:
            self._finish(0)
            return
        self.stopping = True
        if self._listener is not None:
            self._listener.close()
        for connection in self.connections.values():
            connection.stall()
        self.node.farewell.begin()
        self.schedule_turn()
        # Whatever keeps the farewell from ending, a signal ends the node.
        self.loop.call_later(STOP_REQUESTS * self.config.request_timeout_ms / 1000 + LINGER_S, self._give_up_farewell)

    def _give_up_farewell(self) -> None:
        if not self.stopped.done():
            log.warning("what this node had begun did not end in time: it stops all the same")
            self._finish(0)

    def handle_unexpected(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """For the event loop: an exception that no code has expected ends the process (crash-only, DESIGN §13).

        A callback that raises is not called again: the node would answer PING, and never tick, repair or stop. An error
        of one socket is no such case.
        """
        error = context.get("exception")
        if not isinstance(error, Exception) or isinstance(error, OSError):
            loop.default_exception_handler(context)
            return
        log.critical("the node stops, for this was not expected: %s", context.get("message"), exc_info=error)
        self._has_failed = self._is_over = True
        self._finish(1)

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
            self._durability.keep(self.node.retire())
        except StorageError as error:
            log.warning("the next start will read all records: %s", error)
