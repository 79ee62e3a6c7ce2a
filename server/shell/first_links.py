"""The links that a node has never tried to open: how many of them it tries at a time, and in which order.

Theory. A node of a thousand that starts has 999 links to open. If it opened them all in one turn, each would take a socket
and the lookup of a host name, and at the other end one of the few places for connections that are not proven yet
(proving.py). When all nodes of a cluster start together, each member would get 999 connections at once, and refuse most of
them. So `AT_ONCE` links are tried at a time, and the next one once an attempt has ended. Each node begins with the members
that follow it in the order of ids. These are the ones that it watches (core/liveness/gossip_table.py), and each node
begins with others.

A peer that connects to us gets our link at once (peers.py), whether it is its turn or not. A link that has failed, or has
broken, is opened again as links.py says; it does not wait here again. In a cluster of up to `AT_ONCE` members none waits.
"""

from __future__ import annotations

from collections.abc import Sequence

from server.core.membership.duplicates import LinkState
from server.shell.links import Link

AT_ONCE = 32


def in_order(self_id: str, peers: Sequence[str]) -> list[str]:
    """Returns the peers, sorted by id, from this node's own place on."""
    return [*(peer for peer in peers if peer > self_id), *(peer for peer in peers if peer < self_id)]


class FirstLinks:
    """The links of one node that were never tried, and those that are being tried for the first time."""

    def __init__(self) -> None:
        self._waiting: dict[str, Link] = {}  # by peer
        self._under_way: dict[str, Link] = {}

    def add(self, link: Link) -> None:
        """A link to be opened."""
        self._waiting[link.peer] = link
        self._go_on()

    def tried(self, link: Link) -> None:
        """An attempt to open a link has ended."""
        if self._under_way.get(link.peer) is link:
            del self._under_way[link.peer]
            self._go_on()

    def remove(self, link: Link) -> None:
        """The link is closed for good."""
        if self._waiting.get(link.peer) is link:
            del self._waiting[link.peer]
        self.tried(link)

    def _go_on(self) -> None:
        while self._waiting and len(self._under_way) < AT_ONCE:
            peer = next(iter(self._waiting))
            link = self._waiting.pop(peer)
            if link.state is LinkState.UNTRIED:  # else its peer has connected to us meanwhile
                self._under_way[peer] = link
                link.connect()
