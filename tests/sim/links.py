"""How nodes connect to each other, as server/shell/links.py and the peer's half of connections.py do it.

A link leads to an address, where there may be another node by now, or none. It is made again soon after it broke, and at
once when the peer has connected to us. Its first bytes introduce the node; when the peer has answered them the link is
open. A damaged frame ends the connection. Of a machine that has lost its power the connections stay, and are silent.

Nodes that have a secret first prove it, with the real proofs, and what follows is sealed (handshakes.py). What a node sends
is read under the id that it has introduced itself with; the network knows machines.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from protocol import resp
from protocol.frames import DamagedFrame, FrameReader, Item
from protocol.handshake import AUTH
from protocol.peer_versions import CAPABILITIES
from protocol.pieces import PieceQueue
from protocol.requests import RequestLimits, RequestReader
from protocol.seals import ForgedBlock
from server.core.membership.addresses import STOPPED, UNPROVEN, UNREACHABLE, looked_for
from server.core.membership.duplicates import LinkState
from server.core.ring.layout import Layout
from tests.sim.events import Action
from tests.sim.handshakes import OUTDATED_MS, Proving, Responding
from tests.sim.network import CONNECT_TIMEOUT_MS, Pipe

if TYPE_CHECKING:
    from tests.sim.host import Host

RETRY_MS = 250
PIECE_GAP_MS_MAX = 2  # between two pieces of a large message
LINGER_MS = 1000  # how long a link to a former member is kept


class Links:
    """The connections of a node process, from its start to its end: to each other member of its layout, and from them."""

    def __init__(self, host: Host) -> None:
        self.inlets: list[Inlet] = []
        self.introduced: list[str] = []  # who has said of itself who it is
        self._host = host
        self._links: dict[str, Link] = {}
        self._layout: Layout | None = None

    def follow(self, layout: Layout | None) -> None:
        """Links to the members of `layout`. Who is no member any more may still have something to hear of this turn."""
        if layout is self._layout:
            return
        self._layout = layout
        host = self._host
        known = layout.members if layout is not None else ()
        members = {member.id: member.address for member in known if member.id != host.id}
        for peer, link in list(self._links.items()):
            if peer not in members:
                host.events.after(LINGER_MS, partial(self._unlink, peer, link))
            elif members[peer] != link.address:
                link.close()
                del self._links[peer]
        for pipe in host.network.pipes(receiver=host.id):
            if pipe.sender not in members:
                pipe.abort()
        for peer, address in members.items():
            if peer not in self._links:
                self._links[peer] = Link(host, peer, address)

    def _unlink(self, peer: str, link: Link) -> None:
        host = self._host
        if host.links is self and self._links.get(peer) is link and peer not in host.running.state.members:
            link.close()
            del self._links[peer]

    def write(self, peer: str, data: bytes, large: Sequence[bytes]) -> None:
        """A turn's messages to `peer`."""
        if (link := self._links.get(peer)) is not None:
            link.write(data, large)

    def close_when_sent(self) -> None:
        """The process ends in order: all that waits is sent."""
        for link in self._links.values():
            link.close_when_sent()

    @property
    def links(self) -> list[Link]:
        """All of them, open or not."""
        return list(self._links.values())

    @property
    def peers(self) -> list[str]:
        """Those that there are links to, open or not."""
        return list(self._links)

    def has(self, peer: str) -> bool:
        """Whether there is an open link to `peer`."""
        return peer in self._links and self._links[peer].is_open

    def link_state(self, peer: str) -> LinkState:
        """How it is with our link to `peer`."""
        return self._links[peer].state if peer in self._links else LinkState.UNTRIED

    def arrived(self, inlet: Inlet) -> None:
        """A process of a peer has connected to us, so it can be reached; an earlier one is not listened to any more."""
        for earlier in self.inlets:
            if earlier.sender == inlet.sender and earlier.process != inlet.process:
                earlier.pipe.abort()
                earlier.pipe.half_open = False
        self.inlets = [*(earlier for earlier in self.inlets if earlier.stands), inlet]
        if inlet.sender in self._links:
            self._links[inlet.sender].renew()
            self._links[inlet.sender].connect()

    def secrets_changed(self) -> None:
        """The node has other secrets: links that were made with none of them are made anew. Connections of nodes that do
        not follow are closed later."""
        for link in self._links.values():
            link.renew()
        self._host.events.after(OUTDATED_MS, self._close_outdated)

    def _close_outdated(self) -> None:
        node = self._host.node
        if self._host.links is not self or node is None or not node.services.authentication.is_required:
            return
        for inlet in self.inlets:
            if inlet.handshake.secret not in node.services.authentication.secrets:
                inlet.pipe.abort()


class Link:
    """The way from a node process to one peer."""

    def __init__(self, host: Host, peer: str, address: str) -> None:
        self._host = host
        self.peer = peer
        self.address = address
        self._failed = False
        self._life = host.life
        self._pipe: Pipe | None = None
        self._connecting = False
        self._open = False
        self._over = False
        self._queue = PieceQueue(max(1, host.config.large_message_bytes // 4))
        self._pumping = False
        self._proving = Proving(host)
        self.connect()

    def connect(self) -> None:
        """Tries now, unless it is connected or trying already."""
        if self._over or self._pipe is not None or self._connecting:
            return
        self._connecting = True
        network, here, there = self._host.network, self._host, self._host.at(self.address)
        if there is None:
            network.events.after(1, lambda: self._deliver(lambda: self._refused(STOPPED)))
            return
        if not there.powered or not network.round_trip_works(here.id, there.id):
            network.events.after(CONNECT_TIMEOUT_MS, lambda: self._deliver(lambda: self._refused(UNREACHABLE)))
            return
        delay_ms = network.delay_ms(here.id, there.id) + network.delay_ms(there.id, here.id)
        if delay_ms < CONNECT_TIMEOUT_MS:
            network.events.after(delay_ms, self._accepted)
        else:
            network.events.after(CONNECT_TIMEOUT_MS, lambda: self._deliver(lambda: self._refused(UNREACHABLE)))

    def _refused(self, trouble: str) -> None:
        self._connecting = False
        self._failed = True
        self._host.running.refused(self.peer, self._host.now_ms(), trouble)
        self._host.events.after(RETRY_MS, lambda: self._deliver(self.connect))

    def _accepted(self) -> None:
        there = self._host.at(self.address)
        if there is None or there.node is None or self._host.life != self._life or self._over:
            self._deliver(lambda: self._refused(STOPPED))
            return
        self._connecting = False
        inlet = Inlet(there, self._host.id, self)
        self._pipe = inlet.pipe = Pipe(self._host.network, self._host.id, there.id, inlet.arrived, self._lost)
        if not self._proving.begin(self._pipe):
            self._introduce(self._pipe)

    def _introduce(self, pipe: Pipe) -> None:
        node = self._host.running
        introduction = (*node.services.membership.introduction(), *node.services.addresses.greeting(self.peer))
        pipe.write_whole(self._proving.sealed(resp.command(b"DYN.PEER", 1, *introduction)))

    def challenged(self, pipe: Pipe, line: bytes) -> None:
        """The peer has answered the beginning of the handshake."""
        if pipe.open and pipe is self._pipe:
            self._deliver(lambda: self._prove(pipe, line))

    def _prove(self, pipe: Pipe, line: bytes) -> None:
        if pipe is not self._pipe or not pipe.open:
            return
        if self._proving.prove(pipe, line):
            self._introduce(pipe)
            return
        if not self._proving.is_next_plain:
            self._host.running.refused(self.peer, self._host.now_ms(), UNPROVEN)
        pipe.abort()

    def renew(self) -> None:
        """Makes the link anew if it was made with a secret that is not valid any more, or without one."""
        known = self._host.running.services.authentication.secrets
        if self._open and self._pipe is not None and known and self._proving.secret not in known:
            self._pipe.abort()

    def welcomed(self, pipe: Pipe, view: Sequence[bytes]) -> None:
        """The peer has answered our introduction over `pipe`, with the view of its layout."""
        if pipe.open and pipe is self._pipe:
            self._deliver(lambda: self._opened(view))

    def turned_away(self, pipe: Pipe, reason: str) -> None:
        """The peer does not take us for a fellow."""
        if pipe is self._pipe:
            self._deliver(
                lambda: self._host.running.services.addresses.refusal_received(self.peer, reason, self._host.now_ms())
            )
            pipe.abort()

    def close(self) -> None:
        """Breaks the connection for good."""
        self._over = True
        if self._pipe is not None:
            self._pipe.abort()

    def _opened(self, view: Sequence[bytes]) -> None:
        if self._pipe is not None and self._pipe.open:
            self._open = True
            self._failed = False
            if self._proving.secret:
                self._host.running.services.authentication.proven(self.peer)
            self._host.running.connected(self.peer, self._host.now_ms(), CAPABILITIES, view)

    def _lost(self) -> None:
        self._deliver(self._closed)

    def _closed(self) -> None:
        self._pipe = None
        self._queue.clear()
        self._failed = True
        if self._open:
            self._open = False
            if not self._host.links.has(self.peer):
                self._host.running.disconnected(self.peer, self._host.now_ms())
        self._host.events.after(RETRY_MS, lambda: self._deliver(self.connect))

    @property
    def is_open(self) -> bool:
        """Whether the peer has taken us for a fellow, and the connection stands."""
        return self._open

    @property
    def state(self) -> LinkState:
        """Whether the peer is where the layout has it, as far as this link knows."""
        return LinkState.OPEN if self._open else LinkState.FAILED if self._failed else LinkState.UNTRIED

    def write(self, data: bytes, large: Sequence[bytes] = ()) -> None:
        """A turn's messages to this peer; the large ones travel in pieces, and what is said meanwhile between these."""
        if self._pipe is not None and self._open:
            if data:
                self._pipe.write(self._proving.sealed(data))
            for message in large:
                self._queue.add(message)
            self._pump()

    def _pump(self) -> None:
        if self._pumping or not self._queue or self._pipe is None:
            return
        self._pumping = True
        self._pipe.write(self._proving.sealed(self._queue.next()))
        self._host.events.after(self._host.rng.randint(0, PIECE_GAP_MS_MAX), lambda: self._deliver(self._go_on))

    def _go_on(self) -> None:
        self._pumping = False
        self._pump()

    def close_when_sent(self) -> None:
        """Sends all that waits."""
        while self._pipe is not None and self._queue:
            self._pipe.write(self._proving.sealed(self._queue.next()))

    def _deliver(self, action: Action) -> None:
        if self._host.life == self._life:
            self._host.deliver(self, action)


class Inlet:
    """The receiving end of a peer's link: its introduction, then frames."""

    pipe: Pipe

    def __init__(self, host: Host, sender: str, link: Link) -> None:
        self._host = host
        self._life = host.life
        self.sender = sender
        self._link = link
        self.process = b""  # the incarnation of the sender, once it has been taken for a fellow
        self._view: tuple[Item, ...] = ()  # of the receiver, when it answered
        self._introduction: RequestReader | None = RequestReader(RequestLimits(1 << 20, 100, 1 << 10))
        self.handshake = Responding(host)
        self._frames = FrameReader(host.config.frame_bytes_max)

    def arrived(self, data: bytes) -> None:
        """Bytes from the network."""
        if self._host.life == self._life:
            self._host.deliver(self, lambda: self._take(data))

    def _take(self, data: bytes) -> None:
        try:
            data = self.handshake.opened(data)
        except ForgedBlock:
            self.pipe.abort()
            return
        if self._introduction is None:
            self._take_frames(data)
            return
        self._introduction.feed(data)
        introduction = self._introduction.next()
        if introduction is None:
            return
        if introduction[0] == AUTH:
            self._later(partial(self._link.challenged, self.pipe, self.handshake.answer(introduction)))
        else:
            self._introduction = None
            self.sender = introduction[3].decode()
            self._host.links.introduced.append(self.sender)
            reason = self._reason(introduction)
            if not reason:
                self.process = introduction[4]
                if self.handshake.secret:
                    self._host.running.services.authentication.proven(self.sender)
                self._host.running.greeted(self.sender, self._host.now_ms(), CAPABILITIES)
                self._host.links.arrived(self)
            self._view = self._host.running.services.membership.views.words()
            self._answer(reason)

    def _reason(self, introduction: list[bytes]) -> str:
        """Why the sender is refused, as Introductions.check has it."""
        host, node, sender = self._host, self._host.running, self.sender
        wanted, address = looked_for(introduction[5:])
        reason = "" if self.handshake.secret else node.services.authentication.plain_refusal()
        reason = reason or node.services.addresses.mistaken(wanted)
        reason = reason or node.services.membership.refusal(sender, introduction[2].decode(), introduction[5:])
        if reason:
            return reason
        connected = any(inlet.stands for inlet in host.links.inlets if inlet.sender == sender)
        node.state.at(host.now_ms())
        reason = node.services.duplicates.refusal(
            sender, int(introduction[4]), address, connected, host.links.link_state(sender)
        )
        reason = reason or node.services.rollback.refusal(sender, introduction[5:])
        if not reason:
            node.services.addresses.arrived(sender, int(introduction[4]), address)
        return reason

    @property
    def stands(self) -> bool:
        """Whether this connection has not ended, as far as can be seen from here."""
        return self.pipe.open or self.pipe.half_open

    def _answer(self, reason: str) -> None:
        if reason:
            self._later(lambda: self._link.turned_away(self.pipe, reason))
        else:
            view = [word if isinstance(word, bytes) else str(word).encode() for word in self._view]
            self._later(lambda: self._link.welcomed(self.pipe, view))

    def _later(self, answer: Action) -> None:
        """An answer is on its way back, and waits while the path is cut."""
        network, here, there = self._host.network, self._host.id, self.pipe.sender
        if network.path(here, there).cut:
            network.events.after(RETRY_MS, lambda: self._later(answer))
        else:
            network.events.after(network.delay_ms(here, there), answer)

    def _take_frames(self, data: bytes) -> None:
        host = self._host
        try:
            self._frames.feed(data)
            while (message := self._frames.next()) is not None:
                kind, _, number = message[:3]
                host.trace(f"{host.member.name} gets {kind.decode()} {number.decode()} from {self.sender}")
                if not host.staging.stage(host.running.values_of_message(message), host):
                    return
                host.running.receive(self.sender, message, host.now_ms())
        except DamagedFrame:
            host.running.state.statistics.damaged_frames += 1
            self.pipe.abort()
