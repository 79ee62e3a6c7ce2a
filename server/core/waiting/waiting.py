"""The parts that serve clients who wait, together: what the node calls at its turns, ticks and losses."""

from __future__ import annotations

from server.core.base.state import State
from server.core.requests.relays import Relays
from server.core.waiting.blocked import Blocked
from server.core.waiting.deliveries import Deliveries
from server.core.waiting.order import Order
from server.core.waiting.rows import WaitingRows
from server.core.work.timers import Timers


class Waiting:
    """The clients of this node that wait, the rows for keys of this node, and what is on its way to clients."""

    def __init__(self, state: State, relays: Relays, timers: Timers) -> None:
        self._state = state
        self.deliveries = Deliveries(state, relays, timers)
        self.blocked = Blocked(state, relays, timers, self.deliveries)
        self.rows = WaitingRows(state, lambda number, key: self.blocked.woken(number, key, state.id))
        self.order = Order(state, self.rows, timers)

    def end_turn(self) -> None:
        """Tells who waits that there is something, and tells coordinators who waits no more."""
        self.deliveries.end_turn()
        for number in self.blocked.drain_forgets():
            self.rows.forget(self._state.id, number)
        if self.rows.count:
            records = self._state.records
            written: dict[bytes, object] = dict.fromkeys(records.deferred.uncommitted)
            written.update(records.writes)
            self.rows.wake_changed(written)

    def tick(self, now_ms: int) -> None:
        """Time has passed."""
        self.blocked.tick()
        self.rows.tick(now_ms)
        self.deliveries.tick(now_ms)

    def node_lost(self, node: str) -> None:
        """The link to a node broke, or it is another process now: what both knew of clients that wait is gone."""
        self.blocked.node_lost(node)
        self.rows.node_lost(node)
        self.deliveries.home_lost(node)
