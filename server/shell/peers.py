"""The connections to the other nodes: one link to each member (links.py), and what they send us (inbound.py)."""

from __future__ import annotations

import logging

from server.core.membership.copies import Way
from server.core.ring.layout import Layout
from server.shell.context import Context
from server.shell.inbound import Inbound
from server.shell.links import Link
from server.shell.reports import Reports

log = logging.getLogger("dyn")
LINGER_S = 1.0  # how long the link to a former member is kept, so that queued messages are still sent


class Peers:
    """The other nodes that this one is connected with."""

    def __init__(self, context: Context, reports: Reports) -> None:
        self._context = context
        self._reports = reports
        self.links: dict[str, Link] = {}
        self.inbound = Inbound(context)
        self._layout: Layout | None = None  # the one that the links are for

    def follow_layout(self) -> None:
        """HOT. If the layout has changed, opens and closes links so that they match its members."""
        layout = self._context.node.state.layout
        if layout is not self._layout:
            self._layout = layout
            self._link_members(layout)

    def _link_members(self, layout: Layout | None) -> None:
        """Keeps one link to each other member of the layout, and closes the connections from all other nodes."""
        members = layout.members if layout is not None else ()
        wanted = {member.id: member.address for member in members if member.id != self._context.node.state.id}
        for peer, link in list(self.links.items()):
            if peer not in wanted:
                self._context.loop.call_later(LINGER_S, self._unlink, peer, link)
            elif wanted[peer] != link.address:
                link.close()
                del self.links[peer]
        self.inbound.close_strangers(wanted)
        for peer, address in wanted.items():
            if peer not in self.links:
                self.links[peer] = Link(self._context, peer, address, self.links)
        if layout is None:
            self._reports.left()
        else:
            log.info("layout of epoch %d (%s, revision %d) with %s", layout.epoch, layout.phase, layout.revision,
                     "1 node" if len(members) == 1 else f"{len(members)} nodes")  # fmt: skip

    def _unlink(self, peer: str, link: Link) -> None:
        if self.links.get(peer) is link and peer not in self._context.node.state.members:
            link.finish()
            del self.links[peer]

    def backlog_bytes(self) -> int:
        """Returns the bytes of large messages that wait for peers, except for peers that read nothing (outbound.py)."""
        return sum([link.outbound.backlog_bytes for link in self.links.values()])

    def way_to(self, peer: str) -> tuple[bool, Way]:
        """Whether `peer` is connected to us, and the state of our link to it."""
        link = self.links.get(peer)
        connected = self.inbound.is_connected(peer)
        return connected, link.way if link is not None else Way.UNTRIED  # no link: the first turn has not ended

    def arrived(self, peer: str, process: bytes) -> None:
        """A process of `peer` has connected to us: closes connections of its earlier processes, and opens our link now."""
        self.inbound.cut_earlier(peer, process)
        link = self.links.get(peer)
        if link is not None:
            link.connect()

    def finish(self) -> None:
        """Closes each link once its queued messages are sent."""
        for link in self.links.values():
            link.finish()
