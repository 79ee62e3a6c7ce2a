"""Views: which layout each peer has, and when this node sends it ours.

The problem. A layout is large (138 KB with 1024 partitions and 30 members), and nearly always the peer has it already.

The idea. Nodes compare *views* first. A view is the epoch, revision and checksum of a layout. A node sends its view when it
answers an introduction, and with each gossip message. The layout that a peer sent is the one that it has. A node sends the
whole document to a peer in three cases:

    when a link opens               unless the peer answered with the same view (older and fresh nodes answer with none)
    when this node makes a layout   unless the peer has it; in a large cluster to a few members, and gossip does the rest
    when the peer's view is older   at most once in `RESEND_MS`, because the peer may not have read the last one yet

A layout does not overtake the users that the peer was sent before: a fresh node learns who may do what, and serves data
only then.

A node that hears of a newer layout asks for it by sending its own view, at most once in `RESEND_MS` over all peers.
"""

from __future__ import annotations

from collections.abc import Sequence

from xxhash import xxh3_64_hexdigest

from server.core.base.state import State
from server.core.messages.announcements import LayoutView, encode_layout, encode_view, view_items
from server.core.ring.layout import Layout

RESEND_MS = 1000
PUBLISHED_MAX = 8  # members of a large cluster that are sent a layout at once; it would be gigabytes for all


class Views:
    """Knows the views of this node and of its peers."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._present: tuple[Layout, LayoutView] | None = None
        self._held: dict[str, bytes] = {}  # by peer: the checksum of the layout that it is known to have
        self._sent: dict[str, tuple[bytes, int]] = {}  # by peer: the checksum of the layout last sent, and when
        self._asked = (b"", -RESEND_MS)  # the checksum of the layout last asked for, and when

    def present(self) -> LayoutView | None:
        """Returns the view of the present layout; None without a layout."""
        layout = self._state.layout
        return None if layout is None else self._of(layout)

    def words(self) -> list[bytes]:
        """The present view in the encoding of an answer to an introduction; empty without a layout."""
        layout = self._state.layout
        return [] if layout is None else view_items(self._of(layout))

    def _of(self, layout: Layout) -> LayoutView:
        if self._present is None or self._present[0] is not layout:
            self._present = (layout, LayoutView(layout.epoch, layout.revision, _checksum(layout.encode())))
        return self._present[1]

    def is_present(self, view: LayoutView | None) -> bool:
        """Whether this is the view of the present layout."""
        layout = self._state.layout
        return layout is not None and self._of(layout) == view

    def connected(self, peer: str, words: Sequence[bytes]) -> None:
        """A link to `peer` is open. `words` is its view as it answered our introduction, or empty. Sends ours if needed."""
        self._held.pop(peer, None)
        self._sent.pop(peer, None)
        layout = self._state.layout
        if layout is None:
            return
        view = self._of(layout)
        if list(words) == view_items(view):
            self._held[peer] = view.checksum
        else:
            self._send(peer, layout)

    def publish(self, layout: Layout, nodes: Sequence[str]) -> None:
        """Sends `layout`, which was made here, to those of these nodes that do not have it."""
        checksum, state = _checksum(layout.encode()), self._state
        if state.liveness.is_wide:
            members = {member.id: None for member in layout.members}
            linked = [node for node in members if node in state.links]
            chosen = state.rng.sample(linked, min(PUBLISHED_MAX, len(linked)))
            nodes = [*chosen, *(node for node in nodes if node not in members)]
        for peer in dict.fromkeys(nodes):
            if self._held.get(peer) != checksum:
                self._send(peer, layout)

    def layout_received(self, peer: str, layout: Layout) -> bool:
        """Notes the layout that `peer` sent. True if it is another object than ours."""
        if peer in self._state.members:
            self._held[peer] = _checksum(layout.encode())
        return layout is not self._state.layout

    def view_received(self, peer: str, view: LayoutView) -> None:
        """Handles the view of `peer`: sends it our layout if its layout is older or equally old, asks for it if newer."""
        state, layout = self._state, self._state.layout
        if peer in state.members:
            self._held[peer] = view.checksum
        if layout is None or peer not in state.links or view.checksum == self._of(layout).checksum:
            return
        if layout.version >= (view.epoch, view.revision):
            sent, sent_ms = self._sent.get(peer, (b"", 0))
            if sent != self._of(layout).checksum or state.now_ms - sent_ms >= RESEND_MS:
                self._send(peer, layout)
        elif self._asked[0] != view.checksum or state.now_ms - self._asked[1] >= RESEND_MS:
            self._asked = (view.checksum, state.now_ms)
            state.send(peer, encode_view(state.clock_reading(), self._of(layout)))

    def forget_strangers(self) -> None:
        """After a change of the layout: forgets nodes that are no members."""
        members = self._state.members
        self._held = {node: checksum for node, checksum in self._held.items() if node in members}
        self._sent = {node: sent for node, sent in self._sent.items() if node in members}

    def _send(self, peer: str, layout: Layout) -> None:
        state = self._state
        if peer in state.links:
            self._sent[peer] = (_checksum(layout.encode()), state.now_ms)
            message = encode_layout(state.clock_reading(), layout.encode())
            is_behind_users = state.users_bytes >= state.config.large_message_bytes  # they may still be on their way
            (state.send_behind if is_behind_users else state.send)(peer, message)


def _checksum(document: bytes) -> bytes:
    return xxh3_64_hexdigest(document).encode()
