"""What other nodes' connections to this one may cost: how many there are, and what is held of messages that have not come
whole (P10).

Theory. A node opens one connection to each other node, and another one when that has broken. So two of a peer are kept, the
latest ones, and `peers_max` in all (files.py sets descriptors aside for as many); where there is no room for one more, a
member takes the place of a node that is none. A large message is held until its last byte is here, and one peer's may be as
large as `frame_bytes_max`. All of them together may hold `peer_input_bytes_max`: past that the connection for which most is
held is cut, as a client's is (memory.py). What was in it is asked for again, or comes with a hint.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from server.shell.connections import Connection
    from server.shell.server import Server

log = logging.getLogger("dyn")
CONNECTIONS_MAX = 2  # of one peer: the present one, and one that it has given up, unread yet


class Inbound:
    """The connections of other nodes to one server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._held_bytes = 0

    def refusal(self, peer: str) -> str:
        """Why there is no room for one more connection of `peer`; empty if there is, perhaps in the place of another."""
        present = [each for each in self._server.inbound_peers.values() if not each.transport.is_closing()]
        same = [each for each in present if each.peer == peer]
        for surplus in same[: max(0, len(same) + 1 - CONNECTIONS_MAX)]:
            surplus.transport.abort()
            present.remove(surplus)
        peers_max = self._server.config.peers_max
        if len(present) < peers_max:
            return ""
        members = self._server.node.state.members
        stranger = next((each for each in present if each.peer not in members), None)
        if peer not in members or stranger is None:
            return f"ERR this node takes {peers_max} connections of other nodes at most (peers_max), and has them"
        stranger.transport.abort()
        return ""

    def held_changed(self, difference_bytes: int) -> None:
        """HOT. So much more, or less, is held of a peer's message that has not come whole."""
        self._held_bytes += difference_bytes
        if difference_bytes > 0 and self._held_bytes > self._server.config.peer_input_bytes_max:
            self._cut_greediest()

    def _cut_greediest(self) -> None:
        greediest: Connection = max(self._server.inbound_peers.values(), key=lambda each: each.message_bytes)
        log.warning(
            "node %s (%s) is cut: %d MiB of a message are held that has not come whole, and more than "
            "peer_input_bytes_max (%d MiB) for all nodes together", greediest.peer, greediest.session.address,
            greediest.message_bytes >> 20, self._server.config.peer_input_bytes_max >> 20,
        )  # fmt: skip
        greediest.drop_message()
        greediest.transport.abort()
