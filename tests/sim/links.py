"""How nodes connect to each other, as server/shell/links.py and the peer's half of connections.py do it.

A link is made again soon after it broke, and at once when the peer has connected to us. Its first bytes introduce
the node; when the peer has answered them the link is open. A damaged frame ends the connection.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from protocol import resp
from protocol.frames import DamagedFrame, FrameReader
from protocol.pieces import PieceQueue
from protocol.requests import RequestLimits, RequestReader
from tests.sim.events import Action
from tests.sim.network import CONNECT_TIMEOUT_MS, Pipe

if TYPE_CHECKING:
    from tests.sim.host import Host

RETRY_MS = 250
PIECE_GAP_MS_MAX = 2  # between two pieces of a large message


class Link:
    """The way from a node process to one peer."""

    def __init__(self, host: Host, peer: str) -> None:
        self._host = host
        self.peer = peer
        self._life = host.life
        self._pipe: Pipe | None = None
        self._connecting = False
        self._open = False
        self._over = False
        self._queue = PieceQueue(max(1, host.config.large_message_bytes // 4))
        self._pumping = False
        self.connect()

    def connect(self) -> None:
        """Tries now, unless it is connected or trying already."""
        if self._over or self._pipe is not None or self._connecting:
            return
        self._connecting = True
        network, here, there = self._host.network, self._host, self._host.fellow(self.peer)
        if not there.powered or not network.round_trip_works(here.id, there.id):
            network.events.after(CONNECT_TIMEOUT_MS, self._failed)
            return
        delay_ms = network.delay_ms(here.id, there.id) + network.delay_ms(there.id, here.id)
        if delay_ms < CONNECT_TIMEOUT_MS:
            network.events.after(delay_ms, self._accepted)
        else:
            network.events.after(CONNECT_TIMEOUT_MS, self._failed)

    def _failed(self) -> None:
        self._deliver(self._refused)

    def _refused(self) -> None:
        self._connecting = False
        self._host.running.refused(self.peer, self._host.now_ms())
        self._host.events.after(RETRY_MS, lambda: self._deliver(self.connect))

    def _accepted(self) -> None:
        there = self._host.fellow(self.peer)
        if there.node is None or self._host.life != self._life or self._over:
            self._failed()
            return
        self._connecting = False
        inlet = Inlet(there, self._host.id, self)
        self._pipe = inlet.pipe = Pipe(self._host.network, self._host.id, self.peer, inlet.arrived, self._lost)
        self._pipe.write_whole(resp.command(b"DYN.PEER", 1, *self._host.running.membership.introduction()))

    def welcomed(self, pipe: Pipe) -> None:
        """The peer has answered our introduction over `pipe`."""
        if pipe.open and pipe is self._pipe:
            self._deliver(self._opened)

    def turned_away(self, pipe: Pipe, reason: str) -> None:
        """The peer does not take us for a fellow."""
        if pipe is self._pipe:
            self._deliver(lambda: self._host.running.membership.heard_refusal(reason))
            pipe.abort()

    def close(self) -> None:
        """Breaks the connection for good."""
        self._over = True
        if self._pipe is not None:
            self._pipe.abort()

    def _opened(self) -> None:
        if self._pipe is not None and self._pipe.open:
            self._open = True
            self._host.running.connected(self.peer, self._host.now_ms())

    def _lost(self) -> None:
        self._deliver(self._closed)

    def _closed(self) -> None:
        self._pipe = None
        self._queue.clear()
        if self._open:
            self._open = False
            if not self._host.has_link(self.peer):
                self._host.running.disconnected(self.peer, self._host.now_ms())
        self._host.events.after(RETRY_MS, lambda: self._deliver(self.connect))

    @property
    def is_open(self) -> bool:
        """Whether the peer has taken us for a fellow, and the connection stands."""
        return self._open

    def write(self, data: bytes, large: Sequence[bytes] = ()) -> None:
        """A turn's messages to this peer; the large ones travel in pieces, and what is said meanwhile between these."""
        if self._pipe is not None and self._open:
            if data:
                self._pipe.write(data)
            for message in large:
                self._queue.add(message)
            self._pump()

    def _pump(self) -> None:
        if self._pumping or not self._queue or self._pipe is None:
            return
        self._pumping = True
        self._pipe.write(self._queue.next())
        self._host.events.after(self._host.rng.randint(0, PIECE_GAP_MS_MAX), lambda: self._deliver(self._go_on))

    def _go_on(self) -> None:
        self._pumping = False
        self._pump()

    def finish(self) -> None:
        """Sends all that waits."""
        while self._pipe is not None and self._queue:
            self._pipe.write(self._queue.next())

    def _deliver(self, action: Action) -> None:
        if self._host.life == self._life:
            self._host.deliver(self, action)


def finish(links: Iterable[Link]) -> None:
    """The process of these links ends in order: all that waits is sent."""
    for link in links:
        link.finish()


class Inlet:
    """The receiving end of a peer's link: its introduction, then frames."""

    pipe: Pipe

    def __init__(self, host: Host, sender: str, link: Link) -> None:
        self._host = host
        self._life = host.life
        self._sender = sender
        self._link = link
        self._introduction: RequestReader | None = RequestReader(RequestLimits(1 << 20, 100, 1 << 10))
        self._frames = FrameReader(host.config.frame_bytes_max)

    def arrived(self, data: bytes) -> None:
        """Bytes from the network."""
        if self._host.life == self._life:
            self._host.deliver(self, lambda: self._take(data))

    def _take(self, data: bytes) -> None:
        if self._introduction is None:
            self._take_frames(data)
            return
        self._introduction.feed(data)
        introduction = self._introduction.next()
        if introduction is not None:
            self._introduction = None
            reason = self._host.running.membership.refusal(self._sender, introduction[2].decode(), introduction[5:])
            if not reason:
                self._host.running.greeted(self._sender, self._host.now_ms())
                self._host.peer_arrived(self._sender)
            self._answer(reason)

    def _answer(self, reason: str) -> None:
        network = self._host.network
        if network.path(self._host.id, self._sender).cut:
            network.events.after(RETRY_MS, lambda: self._answer(reason))
            return
        delay_ms = network.delay_ms(self._host.id, self._sender)
        if reason:
            network.events.after(delay_ms, lambda: self._link.turned_away(self.pipe, reason))
        else:
            network.events.after(delay_ms, lambda: self._link.welcomed(self.pipe))

    def _take_frames(self, data: bytes) -> None:
        host = self._host
        try:
            self._frames.feed(data)
            while (message := self._frames.next()) is not None:
                kind, _, number = message[:3]
                host.trace(f"{host.member.name} gets {kind.decode()} {number.decode()} from {self._sender}")
                host.running.receive(self._sender, message, host.now_ms())
        except DamagedFrame:
            host.running.state.statistics.damaged_frames += 1
            self.pipe.abort()
