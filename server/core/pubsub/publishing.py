"""How a published message reaches the subscribers of all nodes.

Theory. Each node knows the subscriptions of its own clients only. A message goes to all members that can be reached, and
each delivers it to its subscribers. All messages of a turn travel in one message for each peer (PUBLISHED).

Rejected: to send a message only to the nodes that have subscribers for it. Each change of subscriptions would have to be
told to all nodes, and applications that subscribe to a channel for each task they start (result back ends, for example)
change them as often as they publish. And a subscriber whose SUBSCRIBE was answered could miss a message until the last
node has heard of it. In a cluster of three to nine nodes, the broadcast costs each publication one item in a message that
is often sent anyway. Redis Cluster broadcasts, too.

Order. The messages of one publisher stay in order: they leave over one link for each peer, and none passes a large one
(`State.send_behind`). A peer with a long queue of large messages gets none until it has read them (P10): a message is
delivered at most once. `publications_dropped` counts them.

What PUBLISH answers is the number of subscribers at its own node, as in Redis Cluster: the others would cost a round trip.
"""

from __future__ import annotations

from typing import Final

from server.core.base.state import State
from server.core.base.subscriber import CHANNEL, SHARD
from server.core.messages.publications import Publication, encode_published
from server.core.pubsub.subscriptions import Subscriptions

_ITEM_OVERHEAD_BYTES: Final = 64


class Publishing:
    """Publishes messages to the subscribers of this node and of all others."""

    def __init__(self, state: State, subscriptions: Subscriptions) -> None:
        self._state = state
        self.subscriptions = subscriptions
        self._outgoing: list[Publication] = []
        self._outgoing_bytes = 0

    def publish(self, kind: int, channel: bytes, payload: bytes) -> int:
        """Publishes a message. Returns how many subscriptions of this node get it."""
        self._outgoing.append(Publication(kind == SHARD, channel, payload))
        self._outgoing_bytes += len(channel) + len(payload) + _ITEM_OVERHEAD_BYTES
        if self._outgoing_bytes > self._state.config.batch_bytes_max:
            self.launch()
        return self.subscriptions.deliver(kind, channel, payload)

    def launch(self) -> None:
        """Sends what was published in this turn to the other nodes."""
        if not self._outgoing:
            return
        state, outgoing = self._state, self._outgoing
        self._outgoing, self._outgoing_bytes = [], 0
        message = b""
        for member in state.layout.members if state.layout is not None else ():
            if member.id not in state.links or member.id not in state.publishing:
                continue
            if member.id in state.backlogged:
                state.statistics.publications_dropped += len(outgoing)
                continue
            message = message or encode_published(state.clock_reading(), outgoing)
            state.send_behind(member.id, message)

    def received(self, publications: list[Publication]) -> None:
        """Handles PUBLISHED: messages that clients of another node have published."""
        for each in publications:
            self.subscriptions.deliver(SHARD if each.is_sharded else CHANNEL, each.channel, each.payload)
