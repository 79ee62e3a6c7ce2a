"""The connections of other nodes to this one, and their limits: their number, and the bytes of incomplete messages (P10).

Theory. A node opens one connection to each other node, and another one when the first has broken. So the latest two of a
peer are kept, and `peers_max` in all (files.py reserves descriptors for them). If `peers_max` is reached, a member takes
the place of a node that is not a member. A large message is buffered until its last byte has come, and one peer's may be as
large as `frame_bytes_max`. The buffers of all connections together are limited to `peer_input_bytes_max`: past that the
connection with the largest buffer is cut, as with clients (memory.py). The requests of that message are retried, and its
records come with hints.

A message that has come in pieces may have records of 100,000 entries, and values of 10 MB. So it is prepared first, a
slice in each pass of the loop (core/records/preparing.py), and its large values are staged (staging.py). Those that came in
pieces behind it wait for it, and all others pass it, as they do on their way. None is begun in a pass that has taken long
already, or just after another large turn (context.py). When its connection breaks, a relay that has not begun is dropped:
the peer gives its commands to another owner at once, and they must not run here later.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from protocol.frames import DamagedFrame, FrameReader
from server.core.formats.pausing import Slices
from server.core.messages.reader import Malformed
from server.core.services.process import PeerLink
from server.shell.context import LARGE_BYTES, Context, must_wait
from server.shell.staging import PAUSE_S, PAUSES_MAX

log = logging.getLogger("dyn")
OUTDATED_MS_MAX = 10_000
_DONE: Final = object()
_RELAY: Final = b"RELAY"
CONNECTIONS_MAX = 2  # of one peer: the present one, and a broken one whose last bytes are not read yet


class Inbound:
    """The connections of other nodes to one server, by a number that each has."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.connections: dict[int, InboundPeer] = {}
        self.held_bytes = 0

    def add(self, connection: InboundPeer) -> None:
        """A peer was welcomed."""
        self.connections[connection.number] = connection
        row = PeerLink("from", connection.peer, self._context.now_ms(), lambda: 0)
        self._context.services.process.peer_links[id(connection)] = row

    def remove(self, connection: InboundPeer) -> None:
        """The connection has ended."""
        self.connections.pop(connection.number, None)
        self._context.services.process.peer_links.pop(id(connection), None)

    def is_connected(self, peer: str) -> bool:
        """Whether `peer` has a connection to this node."""
        return any(connection.peer == peer for connection in self.connections.values())

    def close_strangers(self, members: dict[str, str]) -> None:
        """Closes the connections of nodes that are no members."""
        for connection in list(self.connections.values()):
            if connection.peer not in members:
                connection.transport.close()

    def close_outdated(self, secrets: Sequence[bytes]) -> None:
        """Closes the connections that were made with none of these secrets, `OUTDATED_MS_MAX` after the first call: their
        nodes have had the time to make others."""
        now_ms = self._context.now_ms()
        for connection in list(self.connections.values()):
            if connection.secret in secrets:
                continue
            connection.outdated_ms = connection.outdated_ms or now_ms
            if now_ms - connection.outdated_ms > OUTDATED_MS_MAX:
                connection.transport.close()

    def cut_earlier(self, peer: str, process: bytes) -> None:
        """This `process` of `peer` has connected: closes the connections of its earlier processes."""
        for connection in list(self.connections.values()):
            if connection.peer == peer and connection.process != process:
                connection.drop_message()  # an answer would go to the process of now
                connection.transport.abort()

    def refusal(self, peer: str) -> str:
        """Returns the error if there is no room for another connection of `peer`, else "". May close another connection."""
        present = [each for each in self.connections.values() if not each.transport.is_closing()]
        same = [each for each in present if each.peer == peer]
        for surplus in same[: max(0, len(same) + 1 - CONNECTIONS_MAX)]:
            surplus.transport.abort()
            present.remove(surplus)
        peers_max = self._context.config.peers_max
        if len(present) < peers_max:
            return ""
        members = self._context.node.state.members
        stranger = next((each for each in present if each.peer not in members), None)
        if peer not in members or stranger is None:
            return f"ERR this node takes {peers_max} connections of other nodes at most (peers_max), and has them"
        stranger.transport.abort()
        return ""

    def held_changed(self, difference_bytes: int) -> None:
        """HOT. The bytes held of incomplete messages have changed by so many."""
        self.held_bytes += difference_bytes
        if difference_bytes > 0 and self.held_bytes > self._context.config.peer_input_bytes_max:
            self._cut_largest()

    def _cut_largest(self) -> None:
        largest = max(self.connections.values(), key=lambda each: each.message_bytes)
        log.warning(
            "node %s (%s) is cut: %d MiB of an incomplete message are held, and more than peer_input_bytes_max (%d MiB) "
            "for all nodes together", largest.peer, largest.address,
            largest.message_bytes >> 20, self._context.config.peer_input_bytes_max >> 20,
        )  # fmt: skip
        largest.drop_message()
        largest.transport.abort()


class InboundPeer(asyncio.Protocol):
    """A connection that another node has opened: its messages come over it, and nothing goes back after the welcome.

    It began as a client's (connections.py), as session `number`. `process` is the incarnation of the peer.
    """

    def __init__(
        self,
        context: Context,
        inbound: Inbound,
        transport: asyncio.Transport,
        number: int,
        address: str,
        peer: str,
        process: bytes,
    ) -> None:
        self._context = context
        self._inbound = inbound
        self.transport = transport
        self.number = number
        self.address = address
        self.peer = peer
        self.process = process
        self.secret = b""  # the one that both sides have proven; empty if none
        self.outdated_ms = 0  # since when that is not valid here any more
        self.message_bytes = 0  # held of an incomplete message
        self._frames = FrameReader(context.config.frame_bytes_max)
        self._large: deque[list[Any]] = deque()  # messages that have come in pieces, and are not handled
        self._large_bytes = 0  # of them
        self._work: Slices[None] | None = None  # prepares the first of them
        self._put_off = 0  # for so many passes the first of them has waited
        self._is_preparing = False  # `_prepare` runs in the next pass of the loop

    def connection_lost(self, exc: Exception | None) -> None:
        """The peer has closed the connection, or it broke."""
        self._inbound.remove(self)
        self._frames = FrameReader(self._context.config.frame_bytes_max)
        if self._large and self._large[0][:1] == [_RELAY]:
            self._end_work()
        self._large = deque(message for message in self._large if message[:1] != [_RELAY])
        self._large_bytes = sum(map(_size_of, self._large))
        self._count_message(self._large_bytes)

    def data_received(self, data: bytes) -> None:
        """HOT. Handles messages of the peer. A damaged or malformed one changes nothing and closes the connection; the peer
        retries its requests."""
        context = self._context
        now_ms = context.fresh_ms()
        node, frames, large = context.node, self._frames, self._large
        statistics = node.state.statistics
        needed = statistics.messages - statistics.unneeded_answers
        try:
            frames.feed(data)
            while (message := frames.next()) is not None:
                if frames.in_pieces:
                    large.append(message)
                    self._large_bytes += _size_of(message)
                else:
                    node.receive(self.peer, message, now_ms)
        except (DamagedFrame, Malformed) as error:
            self._damaged(error)
        if large and not self._is_preparing:
            self._prepare()
        if self.message_bytes or frames.pending_bytes or large:
            self._count_message(frames.pending_bytes + self._large_bytes)
        if statistics.messages - statistics.unneeded_answers != needed:
            context.schedule_turn()

    def _prepare(self) -> None:
        """Does a slice of the work for the first large message; handles it if that was the last slice."""
        node = self._context.node
        self._is_preparing = False
        if not self._large:
            return  # the connection was cut
        context = self._context
        if must_wait(context, self._put_off):
            self._put_off += 1
            self._prepare_soon()
            return
        self._put_off = 0
        if self._work is None:
            self._work = self._begin_work(self._large[0])
        if next(self._work, _DONE) is not _DONE:
            self._prepare_soon()
            return
        self._work = None
        message = self._large.popleft()
        size = _size_of(message)
        self._large_bytes -= size
        self._count_message(self._frames.pending_bytes + self._large_bytes)
        try:
            node.receive(self.peer, message, self._context.fresh_ms())
        except Malformed as error:
            self._damaged(error)
        node.state.records.prepared.clear()
        if self._large:
            self._prepare_soon()
        if size >= LARGE_BYTES:
            self._context.end_large_turn()
        else:
            self._context.schedule_turn()

    def _prepare_soon(self) -> None:
        self._is_preparing = True
        if pause_s := self._context.staging.pause_s:
            self._context.loop.call_later(pause_s, self._prepare)
        else:
            self._context.loop.call_soon(self._prepare)

    def _damaged(self, error: Exception) -> None:
        """A message is none of a node's: closes the connection."""
        self._context.node.state.statistics.damaged_frames += 1
        log.error("damaged message from node %s (%s): %s", self.peer, self.address, error)
        self.drop_message()
        self.transport.abort()

    def _count_message(self, held_bytes: int) -> None:
        """Notes that so many bytes are held of messages that are incomplete, or not handled."""
        grown_bytes, self.message_bytes = held_bytes - self.message_bytes, held_bytes
        self._inbound.held_changed(grown_bytes)

    def drop_message(self) -> None:
        """Drops what has come of an incomplete message, and those that are not handled."""
        self._large.clear()
        self._end_work()
        self._large_bytes = 0
        self._frames = FrameReader(self._context.config.frame_bytes_max)
        self._count_message(0)

    def _begin_work(self, message: list[Any]) -> Slices[None]:
        context, node = self._context, self._context.node
        is_relay = message[:1] == [_RELAY]
        pauses_max = int(node.state.config.relay_stale_ms / 2000 / PAUSE_S) if is_relay else PAUSES_MAX
        return context.staging.slices(node.values_of_message(message), node.prepare(message), pauses_max)

    def _end_work(self) -> None:
        if self._work is not None:
            self._work.close()
        self._work = None


def _size_of(message: list[Any]) -> int:
    return sum([len(item) for item in message])
