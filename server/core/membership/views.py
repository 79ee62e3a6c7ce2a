"""Views: which layout each peer has, and when to send it ours.

Theory. A layout is large (138 KB with 1024 partitions and 30 members), and nearly always a peer has it already. So nodes
compare *views* first: epoch, revision and checksum of a layout. A node answers the introduction of another one with its
view, and tells it with each gossip; what a peer has sent is what it has. The whole document goes to a peer

    when a link opens            unless the peer's answer has the present view; an older node, and a fresh one, answer none
    when one is made here        unless the peer has it
    when a peer's view is older  at most once in `RESEND_MS`: it may not have read yet what it was sent

and who hears of a newer one asks for it by its own view, also at most once in `RESEND_MS`, whoever has told it of that.
"""

from __future__ import annotations

from collections.abc import Sequence

from xxhash import xxh3_64_hexdigest

from server.core.base.state import Item, State
from server.core.messages.kinds import View
from server.core.ring.layout import Layout

RESEND_MS = 1000


class Views:
    """The views of this node and of its peers."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._present: tuple[Layout, tuple[int, int, bytes]] | None = None
        self._held: dict[str, bytes] = {}  # the checksum of the layout that a peer is known to have
        self._sent: dict[str, tuple[bytes, int]] = {}  # the checksum of what a peer was sent last, and when
        self._asked = (b"", -RESEND_MS)  # the checksum of what was asked for last, and when

    def present(self) -> tuple[Item, ...]:
        """Epoch, revision and checksum of the present layout; nothing without one."""
        layout = self._state.layout
        return () if layout is None else self._of(layout)

    def words(self) -> list[bytes]:
        """The present view as a welcome tells it; nothing without a layout."""
        layout = self._state.layout
        return [] if layout is None else _words(self._of(layout))

    def _of(self, layout: Layout) -> tuple[int, int, bytes]:
        if self._present is None or self._present[0] is not layout:
            self._present = (layout, (layout.epoch, layout.revision, _checksum(layout.encode())))
        return self._present[1]

    def is_present(self, view: View | None) -> bool:
        """Whether this is the view of the present layout."""
        layout = self._state.layout
        return layout is not None and self._of(layout) == view

    def connected(self, peer: str, words: Sequence[bytes]) -> None:
        """There is a link to `peer`, which has answered our introduction with these words of its view, if it told one."""
        self._held.pop(peer, None)
        self._sent.pop(peer, None)
        layout = self._state.layout
        if layout is None:
            return
        view = self._of(layout)
        if list(words) == _words(view):
            self._held[peer] = view[2]
        else:
            self._send(peer, layout)

    def publish(self, layout: Layout, nodes: Sequence[str]) -> None:
        """Sends `layout`, which was made here, to those of these nodes that do not have it."""
        checksum = _checksum(layout.encode())
        for peer in dict.fromkeys(nodes):
            if self._held.get(peer) != checksum:
                self._send(peer, layout)

    def heard_layout(self, peer: str, layout: Layout) -> bool:
        """`peer` has sent its layout; whether that is another one than ours."""
        if peer in self._state.members:
            self._held[peer] = _checksum(layout.encode())
        return layout is not self._state.layout

    def heard(self, peer: str, version: tuple[int, int], checksum: bytes) -> None:
        """The view of `peer`. Who has the older layout gets the other's; of equally old ones both get both."""
        state, layout = self._state, self._state.layout
        if peer in state.members:
            self._held[peer] = checksum
        if layout is None or peer not in state.links or checksum == self._of(layout)[2]:
            return
        if layout.version >= version:
            sent, sent_ms = self._sent.get(peer, (b"", 0))
            if sent != self._of(layout)[2] or state.now_ms - sent_ms >= RESEND_MS:
                self._send(peer, layout)
        elif self._asked[0] != checksum or state.now_ms - self._asked[1] >= RESEND_MS:
            self._asked = (checksum, state.now_ms)
            state.send(peer, state.message(b"VIEW", 0, *self.present()))

    def forget_strangers(self) -> None:
        """The layout has changed: nothing is kept of nodes that are no members."""
        members = self._state.members
        self._held = {node: checksum for node, checksum in self._held.items() if node in members}
        self._sent = {node: sent for node, sent in self._sent.items() if node in members}

    def _send(self, peer: str, layout: Layout) -> None:
        state = self._state
        if peer in state.links:
            self._sent[peer] = (_checksum(layout.encode()), state.now_ms)
            state.send(peer, state.message(b"LAYOUT", 0, layout.encode()))


def _words(view: tuple[int, int, bytes]) -> list[bytes]:
    epoch, revision, checksum = view
    return [b"%d" % epoch, b"%d" % revision, checksum]


def _checksum(document: bytes) -> bytes:
    return xxh3_64_hexdigest(document).encode()
