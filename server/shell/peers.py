"""The connections to the other nodes: one link to each member (links.py), and what they send us (inbound.py).

Theory. Each node has a link to each other member for as long as that is a member, also in clusters of 1,000. Links that are
opened when they are needed, and closed when they are idle, would save nothing there, because none is idle:

- after a change of its records a node tells all members how far it has got (membership/rollback.py);
- before a deleted or expired key is collected, all members are asked, four times (collection/collection.py);
- each second a node exchanges tables with three random members, and three others with it (core/liveness/);
- a client may send any key to any node, which relays the command to one of its owners.

With 80 nodes that each write or delete one key in ten seconds, a node uses 76 of its 79 links within 20 s for the first
alone. What can be saved is the burst at a start: first_links.py.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from server.core.membership.duplicates import LinkState
from server.core.ring.layout import Layout
from server.shell.context import Context
from server.shell.first_links import FirstLinks, in_order
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
        self._first_links = FirstLinks()
        self._successors: dict[str, Link] = {}  # links that are being made and will replace open ones
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
        for peer, successor in list(self._successors.items()):
            if wanted.get(peer) != successor.address:
                successor.close()
                del self._successors[peer]
        for peer, link in list(self.links.items()):
            if peer not in wanted:
                self._context.loop.call_later(LINGER_S, self._unlink, peer, link)
            elif wanted[peer] != link.address:
                link.close()
                self._first_links.remove(link)
                del self.links[peer]
        self.inbound.close_strangers(wanted)
        for peer in in_order(self._context.node.state.id, list(wanted)):
            if peer not in self.links:
                link = Link(self._context, peer, wanted[peer], self.links, self._first_links.tried)
                self.links[peer] = link
                self._first_links.add(link)
        self._reports.write_audit()  # the commit that has made the layout comes before it in the log
        if layout is None:
            self._reports.log_left()
        else:
            log.info("layout of epoch %d (%s, revision %d) with %s", layout.epoch, layout.phase, layout.revision,
                     "1 node" if len(members) == 1 else f"{len(members)} nodes")  # fmt: skip

    def _unlink(self, peer: str, link: Link) -> None:
        if self.links.get(peer) is link and peer not in self._context.node.state.members:
            link.close_when_sent()
            self._first_links.remove(link)
            del self.links[peer]

    def backlog_bytes(self) -> int:
        """Returns the bytes of large messages that wait for peers, except for peers that read nothing (outbound.py)."""
        return sum([link.outbound.backlog_bytes for link in self.links.values()])

    def link_state_of(self, peer: str) -> tuple[bool, LinkState]:
        """Whether `peer` is connected to us, and the state of our link to it."""
        link = self.links.get(peer)
        connected = self.inbound.is_connected(peer)
        return connected, link.state if link is not None else LinkState.UNTRIED  # no link: the first turn has not ended

    def arrived(self, peer: str, process: bytes, is_proven: bool) -> None:
        """A process of `peer` has connected to us: closes connections of its earlier processes, and opens our link now.

        If it has proven a secret (`is_proven`), our link is replaced in case it was made without."""
        self.inbound.cut_earlier(peer, process)
        link = self.links.get(peer)
        if link is not None and is_proven:
            self._replace_outdated(link, self._context.services.authentication.secrets)
        if link is not None:
            link.connect()

    def set_secrets(self, secrets: Sequence[bytes]) -> None:
        """The secrets of this node are these now: replaces the links that were made with none of them."""
        for link in list(self.links.values()):
            self._replace_outdated(link, secrets)

    def _replace_outdated(self, link: Link, secrets: Sequence[bytes]) -> None:
        """Opens another link beside one that was made with none of these secrets. Requests go over the old one until the
        new one is open, so that none fails."""
        if link.is_open and link.secret not in secrets and link.peer not in self._successors:
            successor = Link(self._context, link.peer, link.address, self.links, self._succeed)
            self._successors[link.peer] = successor
            successor.connect()

    def _succeed(self, successor: Link) -> None:
        """An attempt to open a link that replaces another one has ended."""
        peer = successor.peer
        if not successor.is_open:
            return
        if self._successors.pop(peer, None) is successor and peer in self.links:
            self.links[peer].close_when_sent()
            self.links[peer] = successor
        else:
            successor.close_when_sent()

    def review(self) -> None:
        """Where proofs are required, closes the connections of nodes without a valid one; meant for once a second."""
        authentication = self._context.services.authentication
        if authentication.is_required:
            self.inbound.close_outdated(authentication.secrets)

    def send_to_all(self, data: bytes) -> None:
        """Sends a frame to each peer that has an open link."""
        for link in self.links.values():
            if link.is_open:
                link.write(data)

    def close_when_sent(self) -> None:
        """Closes each link once its queued messages are sent."""
        for link in [*self.links.values(), *self._successors.values()]:
            link.close_when_sent()
